//! A mailbox beside System V and POSIX queues: one process sends, one receives, both sleep when they have to wait. All
//! take turns, so that each meets the same machine. Messages are of one type, or of several in turn; by type, the receiver
//! asks for them in turn. First the two processes are bound to two processors, then both to one.
//!
//! `cargo bench --bench mailbox [-- ROUNDS [ROW]]`: the medians are printed.

use annulus::{Mailbox, Place, Select, Wait};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::time::Instant;

const LENGTH: usize = 64;
const MESSAGES: usize = 40_000;

/// What is sent and how it is received.
#[derive(Clone, Copy)]
struct Work {
    /// Types in use, in turn.
    types: usize,
    /// Whether the receiver asks for them, or for whatever is next.
    by_type: bool,
}

impl Work {
    const fn any(types: usize) -> Self {
        Self { types, by_type: false }
    }

    const fn by_type(types: usize) -> Self {
        Self { types, by_type: true }
    }

    fn kind(self, i: usize) -> usize {
        1 + i % self.types
    }
}

/// A queue of the kernel's, or a mailbox, that is there in both processes.
trait Queue: Sized {
    fn new(work: Work) -> Self;
    /// Sends `MESSAGES` messages.
    fn send_all(&self, work: Work);
    /// Receives them.
    fn receive_all(&self, work: Work);
}

/// Binds this thread to a processor.
fn pin(cpu: usize) {
    let mut set = nix::sched::CpuSet::new();
    set.set(cpu).unwrap();
    // On a machine without it, things are where the kernel puts them.
    let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set);
}

/// A mailbox, and a descriptor for the child, which has no part in its parent's handle.
struct Shared(Mailbox, OwnedFd);

impl Queue for Shared {
    fn new(work: Work) -> Self {
        let builder = Mailbox::builder(64, LENGTH).types(work.types);
        let mailbox = builder.create(Place::memfd("bench").unwrap()).unwrap();
        let fd = mailbox.inheritable_fd().unwrap();
        Self(mailbox, fd)
    }

    fn send_all(&self, work: Work) {
        let mut tx = self.0.sender().unwrap().with_wait(Wait::Block);
        for i in 0..MESSAGES {
            tx.send(work.kind(i) as u8, &[i as u8; LENGTH]).unwrap();
        }
    }

    fn receive_all(&self, work: Work) {
        let mailbox = Mailbox::from_fd(self.1.try_clone().unwrap()).unwrap();
        let mut rx = mailbox.receiver().unwrap().with_wait(Wait::Block);
        for i in 0..MESSAGES {
            let select = if work.by_type { Select::Type(work.kind(i) as u8) } else { Select::Any };
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
    fn new(_work: Work) -> Self {
        // SAFETY: takes no pointer.
        let id = unsafe { libc::msgget(libc::IPC_PRIVATE, 0o600 | libc::IPC_CREAT) };
        assert!(id >= 0, "msgget");
        Self(id)
    }

    fn send_all(&self, work: Work) {
        for i in 0..MESSAGES {
            let buffer = Buffer { kind: work.kind(i) as libc::c_long, bytes: [i as u8; LENGTH] };
            // SAFETY: the buffer has a type and `LENGTH` bytes.
            assert_eq!(unsafe { libc::msgsnd(self.0, (&raw const buffer).cast(), LENGTH, 0) }, 0);
        }
    }

    fn receive_all(&self, work: Work) {
        for i in 0..MESSAGES {
            let wanted = if work.by_type { work.kind(i) as libc::c_long } else { 0 };
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
    fn new(_work: Work) -> Self {
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

    fn send_all(&self, _work: Work) {
        for i in 0..MESSAGES {
            let message = [i as u8; LENGTH];
            // SAFETY: the message has `LENGTH` bytes.
            let sent = unsafe { libc::mq_send(self.0, message.as_ptr().cast(), LENGTH, 1) };
            assert_eq!(sent, 0);
        }
    }

    fn receive_all(&self, _work: Work) {
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

/// Messages a second, with the receiver on the processor `receiver` and the sender on processor 0.
fn rate<Q: Queue>(work: Work, receiver: usize) -> f64 {
    let queue = Q::new(work);
    pin(0);
    let start = Instant::now();
    // SAFETY: there is one thread.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let received = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                pin(receiver);
                queue.receive_all(work);
            }));
            // SAFETY: ends the process at once; the queue is the parent's to remove.
            unsafe { libc::_exit(received.is_err().into()) }
        }
        ForkResult::Parent { child } => {
            queue.send_all(work);
            assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
            MESSAGES as f64 / start.elapsed().as_secs_f64()
        }
    }
}

/// What is measured, and how.
type Row = (&'static str, fn(Work, usize) -> f64, Work);

const ROWS: [Row; 9] = [
    ("mailbox, any of 1 type", rate::<Shared>, Work::any(1)),
    ("mailbox, any of 4 types", rate::<Shared>, Work::any(4)),
    ("mailbox, any of 64 types", rate::<Shared>, Work::any(64)),
    ("System V, any of 4 types", rate::<SystemV>, Work::any(4)),
    ("POSIX, highest", rate::<Posix>, Work::any(1)),
    ("mailbox, by type, 4 types", rate::<Shared>, Work::by_type(4)),
    ("mailbox, by type, 64 types", rate::<Shared>, Work::by_type(64)),
    ("System V, by type, 4 types", rate::<SystemV>, Work::by_type(4)),
    ("System V, by type, 64 types", rate::<SystemV>, Work::by_type(64)),
];

fn main() {
    let rounds = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(15);
    let wanted = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-') && argument.parse::<usize>().is_err());
    let rows =
        ROWS.iter().filter(|(name, ..)| wanted.as_ref().is_none_or(|wanted| name.contains(wanted)));
    for (title, receiver) in [("two processors", 1), ("one processor", 0)] {
        let mut rates: Vec<_> = rows.clone().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for ((_, run, work), rates) in rows.clone().zip(&mut rates) {
                rates.push(run(*work, receiver));
            }
        }
        println!("{title}");
        for ((name, ..), rates) in rows.clone().zip(&mut rates) {
            rates.sort_unstable_by(f64::total_cmp);
            println!("  {name:<27} {:>8.0} k messages/s", rates[rates.len() / 2] / 1e3);
        }
    }
}
