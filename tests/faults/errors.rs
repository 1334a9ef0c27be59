//! What each system call may answer, by its manual page, and what must come of it.

use libc::{
    EACCES, EADDRINUSE, EAFNOSUPPORT, EAGAIN, EBUSY, ECONNABORTED, ECONNREFUSED, ECONNRESET,
    EEXIST, EFAULT, EFBIG, EHWPOISON, EINTR, EINVAL, EIO, EISDIR, ELOOP, EMFILE, EMLINK, ENFILE,
    ENOBUFS, ENODATA, ENODEV, ENOENT, ENOLCK, ENOMEM, ENOPROTOOPT, ENOSPC, ENOSYS, ENOTDIR, ENXIO,
    EOPNOTSUPP, EOVERFLOW, EPERM, EPIPE, EPROTO, EPROTOTYPE, EROFS, ETIMEDOUT, ETOOMANYREFS, EXDEV,
};

use crate::support::ptrace::{Request, Tracee};

/// What must come of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The operation succeeds all the same: there is another way, or it is not needed.
    GoOn,
    /// It succeeds, or says why not.
    Answer,
}

use Then::{Answer, GoOn};

/// The errors of one kind of system call.
#[derive(Clone, Copy, Debug)]
pub struct Errors {
    /// Each with what must come of it.
    pub all: &'static [(i32, Then)],
    /// Whether the call has its effect though it says that it failed.
    pub is_made: bool,
}

/// `SO_PEERPIDFD`.
const SO_PEERPIDFD: u64 = 77;

/// The errors of a system call that `child` is about to make; `None` if nobody has thought about it here.
pub fn errors(request: &Request, child: &Tracee) -> Option<Errors> {
    let all: &[(i32, Then)] = match request.number {
        // Without the flag that an old kernel does not know, it is tried again.
        libc::SYS_memfd_create => &[
            (EINVAL, GoOn),
            (EMFILE, Answer),
            (ENFILE, Answer),
            (ENOMEM, Answer),
            (EACCES, Answer),
            (ENOSYS, Answer),
        ],
        libc::SYS_fchmod | libc::SYS_chmod | libc::SYS_fchmodat => {
            &[(EPERM, Answer), (EIO, Answer), (EROFS, Answer), (ENOENT, Answer)]
        }
        libc::SYS_ftruncate => &[(EFBIG, Answer), (EIO, Answer), (EPERM, Answer), (ENOSPC, Answer)],
        libc::SYS_fallocate => &[
            (EINTR, GoOn),
            (ENOSPC, Answer),
            (ENOMEM, Answer),
            (EFBIG, Answer),
            (EIO, Answer),
            (EOPNOTSUPP, Answer),
            (EPERM, Answer),
            (ENOSYS, Answer),
        ],
        libc::SYS_mmap => &[
            (ENOMEM, Answer),
            (EACCES, Answer),
            (EAGAIN, Answer),
            (ENODEV, Answer),
            (ENFILE, Answer),
            (EPERM, Answer),
        ],
        libc::SYS_mprotect => &[(ENOMEM, Answer), (EACCES, Answer)],
        libc::SYS_madvise => match request.arguments[2] as i32 {
            // Kernels before 5.14 do not know these.
            libc::MADV_POPULATE_READ | libc::MADV_POPULATE_WRITE => {
                &[(EINVAL, GoOn), (ENOMEM, Answer), (EFAULT, Answer), (EHWPOISON, Answer)]
            }
            _ => &[(EINVAL, Answer), (ENOMEM, Answer), (EAGAIN, Answer)],
        },
        libc::SYS_fcntl => match request.arguments[1] as i32 {
            libc::F_ADD_SEALS => &[(EBUSY, Answer), (EPERM, Answer), (EINVAL, Answer)],
            libc::F_GET_SEALS => &[(EINVAL, Answer)],
            // The kernel gives up what a description has whatever happens; and the library relies on that.
            libc::F_OFD_SETLK if gives_up(request, child) => &[],
            libc::F_OFD_SETLK => &[(EAGAIN, Answer), (EACCES, Answer), (ENOLCK, Answer)],
            // Nobody is declared dead because a question failed.
            libc::F_OFD_GETLK => &[(EINVAL, GoOn), (ENOLCK, GoOn)],
            _ => &[(EMFILE, Answer), (EINVAL, Answer)],
        },
        libc::SYS_open | libc::SYS_openat => &[
            (EMFILE, Answer),
            (ENFILE, Answer),
            (ENOENT, Answer),
            (EACCES, Answer),
            (ENOMEM, Answer),
            (ENOSPC, Answer),
            (EROFS, Answer),
            (ELOOP, Answer),
            (ENXIO, Answer),
            (EISDIR, Answer),
            (EOPNOTSUPP, Answer),
            // The standard library asks again.
            (EINTR, GoOn),
        ],
        libc::SYS_fstat
        | libc::SYS_stat
        | libc::SYS_lstat
        | libc::SYS_newfstatat
        | libc::SYS_statx => {
            &[(EACCES, Answer), (ENOMEM, Answer), (ENOENT, Answer), (EOVERFLOW, Answer)]
        }
        libc::SYS_fstatfs => &[(EIO, Answer), (ENOMEM, Answer), (ENOSYS, Answer)],
        libc::SYS_linkat | libc::SYS_link => &[
            (EEXIST, Answer),
            (ENOENT, Answer),
            (EACCES, Answer),
            (EMLINK, Answer),
            (ENOSPC, Answer),
            (EROFS, Answer),
            (EXDEV, Answer),
            (EPERM, Answer),
            (ENOMEM, Answer),
            (EIO, Answer),
        ],
        libc::SYS_unlink | libc::SYS_unlinkat => {
            &[(EACCES, Answer), (EBUSY, Answer), (EIO, Answer), (EPERM, Answer), (EROFS, Answer)]
        }
        libc::SYS_readlink | libc::SYS_readlinkat | libc::SYS_access | libc::SYS_faccessat => {
            &[(EACCES, Answer), (EIO, Answer), (ENOENT, Answer), (ENOMEM, Answer)]
        }
        // What is read are hints.
        libc::SYS_read => &[(EIO, GoOn), (EINTR, GoOn)],
        libc::SYS_socket => &[
            (EMFILE, Answer),
            (ENFILE, Answer),
            (ENOBUFS, Answer),
            (ENOMEM, Answer),
            (EACCES, Answer),
            (EAFNOSUPPORT, Answer),
        ],
        libc::SYS_bind => &[
            (EADDRINUSE, Answer),
            (EACCES, Answer),
            (EROFS, Answer),
            (ENOMEM, Answer),
            (ENOENT, Answer),
            (ENOTDIR, Answer),
            (ELOOP, Answer),
            (ENOSPC, Answer),
        ],
        libc::SYS_listen => &[(EADDRINUSE, Answer), (EOPNOTSUPP, Answer)],
        libc::SYS_connect => &[
            (EAGAIN, GoOn),
            (EINTR, GoOn),
            (ECONNREFUSED, Answer),
            (ENOENT, Answer),
            (EACCES, Answer),
            (EPERM, Answer),
            (EPROTOTYPE, Answer),
            (ENOMEM, Answer),
        ],
        libc::SYS_accept4 => &[
            (EAGAIN, GoOn),
            (EINTR, GoOn),
            (ECONNABORTED, GoOn),
            (EPROTO, GoOn),
            (EMFILE, Answer),
            (ENFILE, Answer),
            (ENOBUFS, Answer),
            (ENOMEM, Answer),
            (EPERM, Answer),
        ],
        libc::SYS_sendmsg => &[
            (EAGAIN, Answer),
            (ECONNRESET, Answer),
            (EPIPE, Answer),
            (ENOBUFS, Answer),
            (ENOMEM, Answer),
            (ETOOMANYREFS, Answer),
        ],
        libc::SYS_recvmsg => &[
            (EAGAIN, GoOn),
            (EINTR, GoOn),
            (ECONNRESET, Answer),
            (ENOMEM, Answer),
            (ENOBUFS, Answer),
        ],
        libc::SYS_getsockopt if request.arguments[2] == SO_PEERPIDFD => {
            &[(ENOPROTOOPT, GoOn), (EMFILE, GoOn), (ENODATA, GoOn), (EINVAL, GoOn), (ENOMEM, GoOn)]
        }
        libc::SYS_getsockopt => &[(ENOPROTOOPT, Answer), (ENOMEM, Answer)],
        libc::SYS_poll | libc::SYS_ppoll => &[(EINTR, GoOn), (ENOMEM, Answer), (EINVAL, Answer)],
        // A connection goes on without: there it serves to hear of a death sooner. A listener waits by it.
        libc::SYS_epoll_create1 => &[(EMFILE, Answer), (ENFILE, Answer), (ENOMEM, Answer)],
        libc::SYS_epoll_ctl => &[(ENOMEM, Answer), (ENOSPC, Answer), (EPERM, Answer)],
        libc::SYS_epoll_wait | libc::SYS_epoll_pwait => &[(EINTR, GoOn)],
        libc::SYS_clone | libc::SYS_clone3 => {
            &[(EAGAIN, GoOn), (ENOMEM, GoOn), (EPERM, GoOn), (ENOSYS, GoOn)]
        }
        libc::SYS_membarrier => &[(ENOSYS, GoOn), (EINVAL, GoOn), (EPERM, GoOn)],
        libc::SYS_futex => {
            &[(EINTR, GoOn), (EAGAIN, GoOn), (ETIMEDOUT, GoOn), (ENOSYS, GoOn), (ENOMEM, GoOn)]
        }
        libc::SYS_sched_getaffinity => &[(EPERM, GoOn), (ENOSYS, GoOn), (EINVAL, GoOn)],
        libc::SYS_flock => &[(EAGAIN, GoOn), (ENOLCK, Answer)],
        libc::SYS_clock_nanosleep | libc::SYS_nanosleep => &[(EINTR, GoOn)],
        // Without the call the standard library opens a file instead, and keeps it.
        libc::SYS_getrandom => &[(EINTR, GoOn)],
        libc::SYS_close => &[(EIO, GoOn), (EINTR, GoOn), (ENOSPC, GoOn)],
        // They cannot fail; or what they say is of no consequence to anybody (`brk`, where the allocator has other
        // ways); or they fail only for those who give them nonsense.
        libc::SYS_brk
        | libc::SYS_munmap
        | libc::SYS_mremap
        | libc::SYS_getpid
        | libc::SYS_gettid
        | libc::SYS_geteuid
        | libc::SYS_getuid
        | libc::SYS_clock_gettime
        | libc::SYS_sched_yield
        | libc::SYS_rt_sigprocmask => &[],
        _ => return None,
    };
    Some(Errors { all, is_made: request.number == libc::SYS_close })
}

/// Whether a request for a lock gives one up.
fn gives_up(request: &Request, child: &Tracee) -> bool {
    // The type is what a `flock` begins with.
    child.peek(request.arguments[2]).is_ok_and(|word| word as i16 == libc::F_UNLCK as i16)
}

const _: () = assert!(std::mem::offset_of!(libc::flock, l_type) == 0);
