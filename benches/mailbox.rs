//! A mailbox beside System V and POSIX queues: one process sends, one receives, both sleep when they have to wait. All
//! take turns, so that each meets the same machine. By type, the receiver asks for four types in turn.
//!
//! `cargo bench --bench mailbox -- 15`: how many rounds; the medians are printed.

use annulus::{Mailbox, Place, Select, Wait};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::time::Instant;

const LENGTH: usize = 64;
const MESSAGES: usize = 40_000;
const TYPES: usize = 4;

/// A queue of the kernel's, or a mailbox, that is there in both processes.
trait Queue: Sized {
    fn new() -> Self;
    /// Sends `MESSAGES` messages, of types in turn.
    fn send_all(&self);
    /// Receives them: by type, or whatever is next.
    fn receive_all(&self, by_type: bool);
}

fn kind(i: usize) -> usize {
    1 + i % TYPES
}

/// A mailbox, and a descriptor for the child, which has no part in its parent's handle.
struct Shared(Mailbox, OwnedFd);

impl Queue for Shared {
    fn new() -> Self {
        let builder = Mailbox::builder(64, LENGTH).types(TYPES);
        let mailbox = builder.create(Place::memfd("bench").unwrap()).unwrap();
        let fd = mailbox.inheritable_fd().unwrap();
        Self(mailbox, fd)
    }

    fn send_all(&self) {
        let mut tx = self.0.sender().unwrap().with_wait(Wait::Block);
        for i in 0..MESSAGES {
            tx.send(kind(i) as u8, &[i as u8; LENGTH]).unwrap();
        }
    }

    fn receive_all(&self, by_type: bool) {
        let mailbox = Mailbox::from_fd(self.1.try_clone().unwrap()).unwrap();
        let mut rx = mailbox.receiver().unwrap().with_wait(Wait::Block);
        for i in 0..MESSAGES {
            let select = if by_type { Select::Type(kind(i) as u8) } else { Select::Any };
            let mut buffer = [0; LENGTH];
            let letter = rx.recv(select, &mut buffer).unwrap();
            assert_eq!((letter.length, buffer[LENGTH - 1]), (LENGTH, i as u8));
        }
    }
}

#[repr(C)]
struct Buffer {
    kind: libc::c_long,
    bytes: [u8; LENGTH],
}

struct SystemV(i32);

impl Queue for SystemV {
    fn new() -> Self {
        // SAFETY: takes no pointer.
        let id = unsafe { libc::msgget(libc::IPC_PRIVATE, 0o600 | libc::IPC_CREAT) };
        assert!(id >= 0, "msgget");
        Self(id)
    }

    fn send_all(&self) {
        for i in 0..MESSAGES {
            let buffer = Buffer { kind: kind(i) as libc::c_long, bytes: [i as u8; LENGTH] };
            // SAFETY: the buffer has a type and `LENGTH` bytes.
            assert_eq!(unsafe { libc::msgsnd(self.0, (&raw const buffer).cast(), LENGTH, 0) }, 0);
        }
    }

    fn receive_all(&self, by_type: bool) {
        for i in 0..MESSAGES {
            let wanted = if by_type { kind(i) as libc::c_long } else { 0 };
            let mut buffer = Buffer { kind: 0, bytes: [0; LENGTH] };
            let to = (&raw mut buffer).cast();
            // SAFETY: there is room for the type and `LENGTH` bytes.
            let length = unsafe { libc::msgrcv(self.0, to, LENGTH, wanted, 0) };
            assert_eq!((length, buffer.bytes[LENGTH - 1]), (LENGTH as isize, i as u8));
        }
    }
}

impl Drop for SystemV {
    fn drop(&mut self) {
        // SAFETY: takes no pointer for this command.
        unsafe { libc::msgctl(self.0, libc::IPC_RMID, std::ptr::null_mut()) };
    }
}

struct Posix(libc::mqd_t);

impl Queue for Posix {
    fn new() -> Self {
        let name = CString::new(format!("/annulus-bench-{}", std::process::id())).unwrap();
        // SAFETY: an all-zero `mq_attr` is a valid value.
        let mut limits: libc::mq_attr = unsafe { std::mem::zeroed() };
        // As many as everybody may have.
        (limits.mq_maxmsg, limits.mq_msgsize) = (10, LENGTH as _);
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR;
        // SAFETY: the name ends with a zero, and the attributes live until the call is over.
        let queue = unsafe { libc::mq_open(name.as_ptr(), flags, 0o600, &raw mut limits) };
        assert!(queue >= 0, "mq_open");
        // SAFETY: as above.
        unsafe { libc::mq_unlink(name.as_ptr()) };
        Self(queue)
    }

    fn send_all(&self) {
        for i in 0..MESSAGES {
            let message = [i as u8; LENGTH];
            // SAFETY: the message has `LENGTH` bytes.
            let sent = unsafe { libc::mq_send(self.0, message.as_ptr().cast(), LENGTH, 1) };
            assert_eq!(sent, 0);
        }
    }

    fn receive_all(&self, _by_type: bool) {
        for i in 0..MESSAGES {
            let mut buffer = [0_u8; LENGTH];
            let to = buffer.as_mut_ptr().cast();
            // SAFETY: there is room for `LENGTH` bytes.
            let length = unsafe { libc::mq_receive(self.0, to, LENGTH, std::ptr::null_mut()) };
            assert_eq!((length, buffer[LENGTH - 1]), (LENGTH as isize, i as u8));
        }
    }
}

impl Drop for Posix {
    fn drop(&mut self) {
        // SAFETY: the descriptor is this one's.
        unsafe { libc::mq_close(self.0) };
    }
}

/// Messages a second.
fn rate<Q: Queue>(by_type: bool) -> f64 {
    let queue = Q::new();
    let start = Instant::now();
    // SAFETY: there is one thread.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let received = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                queue.receive_all(by_type);
            }));
            // SAFETY: ends the process at once; the queue is the parent's to remove.
            unsafe { libc::_exit(received.is_err().into()) }
        }
        ForkResult::Parent { child } => {
            queue.send_all();
            assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
            MESSAGES as f64 / start.elapsed().as_secs_f64()
        }
    }
}

/// What is measured, and how.
type Row = (&'static str, fn() -> f64);

fn main() {
    let rounds = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(15);
    let rows: [Row; 5] = [
        ("mailbox, any", || rate::<Shared>(false)),
        ("System V, any", || rate::<SystemV>(false)),
        ("POSIX, highest", || rate::<Posix>(false)),
        ("mailbox, by type", || rate::<Shared>(true)),
        ("System V, by type", || rate::<SystemV>(true)),
    ];
    let mut rates = rows.map(|_| Vec::new());
    for _ in 0..rounds {
        for ((_, run), rates) in rows.iter().zip(&mut rates) {
            rates.push(run());
        }
    }
    for ((name, _), rates) in rows.iter().zip(&mut rates) {
        rates.sort_unstable_by(f64::total_cmp);
        println!("{name:<20} {:>8.0} k messages/s", rates[rates.len() / 2] / 1e3);
    }
}
