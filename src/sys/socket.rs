//! Unix sockets that keep messages apart (`SOCK_SEQPACKET`), and descriptors sent over them.
//!
//! By `libc`, because `nix` hides the descriptors of a message whose control data were cut off, and whoever cannot
//! see them cannot close them. All sockets are non-blocking and close-on-exec; waiting is done by [`wait`]. A socket that
//! somebody else has made may say otherwise, so no call relies on it.

use super::clock::Monotonic;
use std::ffi::OsStr;
use std::io;
use std::mem::{offset_of, size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The descriptors that any message of ours comes with, at most.
pub(crate) const MOST_FDS: usize = 8;

/// `SO_PEERPIDFD`, since Linux 6.5.
const SO_PEERPIDFD: libc::c_int = 77;

/// The address of a socket, as the kernel takes it.
#[derive(Clone, Copy)]
pub(crate) struct Address {
    raw: libc::sockaddr_un,
    length: libc::socklen_t,
}

impl Address {
    /// The longest path, or name without its leading zero.
    pub(crate) const LONGEST: usize =
        size_of::<libc::sockaddr_un>() - offset_of!(libc::sockaddr_un, sun_path) - 1;

    /// A socket in the file system; `None` if the path is too long, empty or has a zero byte.
    pub(crate) fn path(path: &Path) -> Option<Self> {
        let bytes = path.as_os_str().as_bytes();
        if bytes.is_empty() || bytes.contains(&0) {
            return None;
        }
        Self::of(bytes, 0)
    }

    /// A socket in the abstract namespace; `None` if the name is too long or empty.
    pub(crate) fn name(name: &OsStr) -> Option<Self> {
        if name.is_empty() { None } else { Self::of(name.as_bytes(), 1) }
    }

    fn of(bytes: &[u8], at: usize) -> Option<Self> {
        if bytes.len() > Self::LONGEST {
            return None;
        }
        // SAFETY: an all-zero address is a valid value.
        let mut raw: libc::sockaddr_un = unsafe { zeroed() };
        raw.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (to, &from) in raw.sun_path[at..].iter_mut().zip(bytes) {
            *to = from as libc::c_char;
        }
        // A path has a zero behind it, a name one before it.
        let length = offset_of!(libc::sockaddr_un, sun_path) + bytes.len() + 1;
        Some(Self { raw, length: length as libc::socklen_t })
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn own(fd: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: a call that does not fail has made the descriptor for us alone.
    check(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A new socket.
pub(crate) fn new() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes three numbers.
    own(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })
}

/// Two sockets that are connected to each other.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let mut fds = [-1; 2];
    // SAFETY: `fds` is valid for writes of two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) })?;
    Ok((own(fds[0])?, own(fds[1])?))
}

/// Lets the descriptor survive `exec`.
pub(crate) fn keep_across_exec(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes three numbers.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, 0) }).map(|_| ())
}

/// Gives the socket its address. A file has the mode `mode` at most from the start.
pub(crate) fn bind(fd: BorrowedFd<'_>, address: &Address, mode: u32) -> io::Result<()> {
    // SAFETY: takes two numbers. The file that `bind` makes has this mode, less the umask.
    check(unsafe { libc::fchmod(fd.as_raw_fd(), mode) })?;
    // SAFETY: the address is valid for reads of its length.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address.raw).cast(), address.length) })?;
    Ok(())
}

/// Takes connections from now on.
pub(crate) fn listen(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes two numbers.
    check(unsafe { libc::listen(fd.as_raw_fd(), libc::SOMAXCONN) }).map(|_| ())
}

/// Connects, if that is possible now.
pub(crate) fn connect(fd: BorrowedFd<'_>, address: &Address) -> io::Result<()> {
    let (raw, length) = ((&raw const address.raw).cast(), address.length);
    // SAFETY: the address is valid for reads of its length.
    check(unsafe { libc::connect(fd.as_raw_fd(), raw, length) }).map(|_| ())
}

/// A connection that somebody has made, if there is one now.
pub(crate) fn accept(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let (address, length) = (core::ptr::null_mut(), core::ptr::null_mut());
    // SAFETY: nobody asks for the address.
    own(unsafe { libc::accept4(fd.as_raw_fd(), address, length, flags) })
}

fn option<T>(fd: BorrowedFd<'_>, name: libc::c_int, mut value: T) -> io::Result<T> {
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is valid for writes of its length, and a plain C value for every caller here.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            (&raw mut value).cast(),
            &raw mut length,
        )
    })?;
    Ok(value)
}

/// Process, user and group at the other end, as they were when it connected, or began to listen.
pub(crate) fn peer(fd: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    option(fd, libc::SO_PEERCRED, libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX })
}

/// A descriptor of the process at the other end, where the kernel has such.
pub(crate) fn peer_pidfd(fd: BorrowedFd<'_>) -> Option<OwnedFd> {
    let pidfd: RawFd = option(fd, SO_PEERPIDFD, -1).ok()?;
    own(pidfd).ok()
}

/// Room for the control data of [`MOST_FDS`] descriptors, as the kernel aligns them.
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

const CONTROL: usize = {
    let bytes = (MOST_FDS * size_of::<RawFd>()) as u32;
    // SAFETY: computes a size.
    unsafe { libc::CMSG_SPACE(bytes) as usize }
};

/// Sends `bytes` as one message, with `fds`.
pub(crate) fn send(fd: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    assert!(fds.len() <= MOST_FDS);
    let mut control = Control([0; CONTROL]);
    let mut slice =
        libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: an all-zero header is a valid value.
    let mut message: libc::msghdr = unsafe { zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut slice, 1);
    if !fds.is_empty() {
        let payload = (size_of_val(fds)) as u32;
        message.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: computes sizes; the buffer has room for the header and `MOST_FDS` descriptors.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(payload) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(payload) as _;
            let to = libc::CMSG_DATA(header).cast::<RawFd>();
            for (i, fd) in fds.iter().enumerate() {
                to.add(i).write_unaligned(fd.as_raw_fd());
            }
        }
    }
    // No SIGPIPE: the other side may be gone.
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: the header points to what lives until the call is over.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, flags) };
    match usize::try_from(sent) {
        Ok(sent) if sent == bytes.len() => Ok(()),
        Ok(_) => Err(io::Error::other("a message was sent in part")),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// What one message brought.
#[derive(Debug)]
pub(crate) struct Received {
    /// Bytes, at the start of the buffer.
    pub(crate) len: usize,
    /// Whether there was more of it than fitted: bytes, or descriptors.
    pub(crate) cut: bool,
    pub(crate) fds: Vec<OwnedFd>,
}

/// Receives one message into `buffer`, if there is one now. 0 bytes: the other side is gone.
///
/// At most [`MOST_FDS`] descriptors are made, whatever was sent.
pub(crate) fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = Control([0; CONTROL]);
    let mut slice = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: an all-zero header is a valid value.
    let mut message: libc::msghdr = unsafe { zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut slice, 1);
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = CONTROL as _;
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    // SAFETY: the header points to what is valid for writes of the lengths it says, until the call is over.
    let len = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, flags) };
    let Ok(len) = usize::try_from(len) else { return Err(io::Error::last_os_error()) };
    let mut fds = Vec::with_capacity(MOST_FDS);
    // SAFETY: the kernel has filled in the header and the control data. Each descriptor among them is new, and
    // ours alone.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if ((*header).cmsg_level, (*header).cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let payload = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let from = libc::CMSG_DATA(header).cast::<RawFd>();
                for i in 0..payload / size_of::<RawFd>() {
                    fds.push(OwnedFd::from_raw_fd(from.add(i).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    let cut = message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0;
    Ok(Received { len, cut, fds })
}

/// Waits until one of `fds` has something to read, or has lost its other side, until `deadline`; says which. None
/// if the time is up.
pub(crate) fn wait(fds: &[BorrowedFd<'_>], deadline: Option<Monotonic>) -> io::Result<Vec<bool>> {
    let entry =
        |fd: &BorrowedFd<'_>| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut entries: Vec<_> = fds.iter().map(entry).collect();
    loop {
        let left = deadline.map(|deadline| deadline.since(Monotonic::now()));
        // Rounded up, so that the last round does not spin.
        let left = left.map_or(-1, |left| {
            i32::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
        });
        // SAFETY: the entries are valid for reads and writes.
        let result =
            unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, left) };
        match check(result) {
            Ok(0) if left == i32::MAX => {}
            Ok(_) => return Ok(entries.iter().map(|entry| entry.revents != 0).collect()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
