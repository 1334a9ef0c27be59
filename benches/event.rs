//! Events against `eventfd` and against queued signals with a `signalfd`: the same work in turns, in two processes.
//! `cargo bench --bench event [-- ROUNDS]`.
//!
//! The first row of each group is what the others are compared with.

#[path = "two_processes.rs"]
mod two_processes;

use annulus::{Event, EventHandle, Place, Wait};
use std::os::fd::OwnedFd;
use std::time::Instant;
use two_processes::{Cores, both, rounds, table};

/// A notice that one process gives another.
trait Notice {
    /// What the other process gets it by.
    type Given;
    fn make() -> Self;
    fn give(&self) -> Self::Given;
    fn accept(given: Self::Given, wait: Wait) -> Self;
    fn raise(&mut self);
    /// Waits for the notice and takes it.
    fn take(&mut self);
}

struct Ours(EventHandle);

impl Notice for Ours {
    type Given = OwnedFd;

    fn make() -> Self {
        Self(Event::builder().create(Place::memfd("bench").unwrap()).unwrap().handle().unwrap())
    }

    fn give(&self) -> OwnedFd {
        self.0.event().inheritable_fd().unwrap()
    }

    fn accept(given: OwnedFd, wait: Wait) -> Self {
        Self(Event::from_fd(given).unwrap().handle().unwrap().with_wait(wait))
    }

    #[inline]
    fn raise(&mut self) {
        self.0.raise(1).unwrap();
    }

    #[inline]
    fn take(&mut self) {
        assert_eq!(self.0.take(1), Ok(1));
    }
}

struct EventFd(i32);

impl Notice for EventFd {
    type Given = i32;

    fn make() -> Self {
        // SAFETY: a system call without pointers.
        let fd = unsafe { libc::eventfd(0, 0) };
        assert!(fd >= 0, "eventfd");
        Self(fd)
    }

    fn give(&self) -> i32 {
        // SAFETY: the same.
        unsafe { libc::dup(self.0) }
    }

    fn accept(given: i32, _: Wait) -> Self {
        Self(given)
    }

    #[inline]
    fn raise(&mut self) {
        let one = 1_u64;
        // SAFETY: eight bytes that are there.
        assert_eq!(unsafe { libc::write(self.0, (&raw const one).cast(), 8) }, 8);
    }

    #[inline]
    fn take(&mut self) {
        let mut count = 0_u64;
        // SAFETY: room for eight bytes.
        assert_eq!(unsafe { libc::read(self.0, (&raw mut count).cast(), 8) }, 8);
    }
}

impl Drop for EventFd {
    fn drop(&mut self) {
        // SAFETY: its own.
        unsafe { libc::close(self.0) };
    }
}

/// A queued signal to one process, which reads it from a descriptor.
struct Signal {
    to: libc::pid_t,
    fd: i32,
}

impl Signal {
    /// What this process gets such signals by; they are blocked.
    fn hear() -> i32 {
        // SAFETY: the set is initialised before it is used.
        unsafe {
            let mut set = core::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGRTMIN());
            assert_eq!(
                libc::sigprocmask(libc::SIG_BLOCK, &raw const set, core::ptr::null_mut()),
                0
            );
            let fd = libc::signalfd(-1, &raw const set, 0);
            assert!(fd >= 0, "signalfd");
            fd
        }
    }

    #[inline]
    fn send(&self) {
        let value = libc::sigval { sival_ptr: core::ptr::null_mut() };
        // SAFETY: a system call; the process is a peer of this benchmark.
        assert_eq!(unsafe { libc::sigqueue(self.to, libc::SIGRTMIN(), value) }, 0);
    }

    #[inline]
    fn receive(&self) {
        // SAFETY: room for one of them.
        unsafe {
            let mut info: libc::signalfd_siginfo = core::mem::zeroed();
            let size = size_of_val(&info);
            assert_eq!(libc::read(self.fd, (&raw mut info).cast(), size), size as isize);
        }
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        // SAFETY: its own.
        unsafe { libc::close(self.fd) };
    }
}

/// Raised and taken by one process, with nobody asleep.
fn alone<N: Notice>(count: u64) -> f64 {
    let mut notice = N::make();
    let start = Instant::now();
    for _ in 0..count {
        notice.raise();
        notice.take();
    }
    start.elapsed().as_nanos() as f64 / count as f64
}

fn signal_alone(count: u64) -> f64 {
    let to = std::process::id() as libc::pid_t;
    let signal = Signal { to, fd: Signal::hear() };
    let start = Instant::now();
    for _ in 0..count {
        signal.send();
        signal.receive();
    }
    start.elapsed().as_nanos() as f64 / count as f64
}

/// Raised again and again, which coalesces, while nobody listens.
fn raise_again<N: Notice>(count: u64) -> f64 {
    let mut notice = N::make();
    let start = Instant::now();
    (0..count).for_each(|_| notice.raise());
    start.elapsed().as_nanos() as f64 / count as f64
}

fn round_trip<N: Notice>(cores: Cores, wait: Wait, count: u64) -> f64 {
    let (there, back) = (N::make(), N::make());
    let (theirs, ours) = ((there.give(), back.give()), (there.give(), back.give()));
    let time = both(
        cores,
        move |meet| {
            let (mut hear, mut reply) = (N::accept(theirs.0, wait), N::accept(theirs.1, wait));
            meet();
            for _ in 0..count {
                hear.take();
                reply.raise();
            }
        },
        move |meet| {
            let (mut ask, mut learn) = (N::accept(ours.0, wait), N::accept(ours.1, wait));
            meet();
            for _ in 0..count {
                ask.raise();
                learn.take();
            }
        },
    );
    time.as_nanos() as f64 / count as f64
}

fn signal_round_trip(cores: Cores, count: u64) -> f64 {
    let parent = std::process::id() as libc::pid_t;
    let to_child = two_processes::shared::<std::sync::atomic::AtomicI32>();
    let order = std::sync::atomic::Ordering::SeqCst;
    let time = both(
        cores,
        |meet| {
            let signal = Signal { to: parent, fd: Signal::hear() };
            to_child.store(std::process::id() as i32, order);
            meet();
            for _ in 0..count {
                signal.receive();
                signal.send();
            }
        },
        |meet| {
            let fd = Signal::hear();
            meet();
            let signal = Signal { to: to_child.load(order), fd };
            for _ in 0..count {
                signal.send();
                signal.receive();
            }
        },
    );
    // SAFETY: `shared` mapped it, and nobody has it any more.
    unsafe { libc::munmap(core::ptr::from_ref(to_child).cast_mut().cast(), 4096) };
    time.as_nanos() as f64 / count as f64
}

fn main() {
    let rounds = rounds();
    two_processes::pin(0);
    let count = 300_000;
    table(
        "raise and take in one process",
        rounds,
        &mut [
            ("annulus", &mut || alone::<Ours>(count)),
            ("eventfd", &mut || alone::<EventFd>(count / 3)),
            ("sigqueue, signalfd", &mut || signal_alone(count / 10)),
        ],
    );
    table(
        "raise again and again, nobody listens",
        rounds,
        &mut [
            ("annulus", &mut || raise_again::<Ours>(count)),
            ("eventfd", &mut || raise_again::<EventFd>(count / 3)),
        ],
    );
    let count = 10_000;
    for cores in [Cores::Two, Cores::One] {
        table(
            &format!("round trip, {}", cores.name()),
            rounds,
            &mut [
                ("annulus, Block", &mut || round_trip::<Ours>(cores, Wait::Block, count)),
                ("annulus, Adaptive", &mut || round_trip::<Ours>(cores, Wait::Adaptive, count)),
                ("eventfd", &mut || round_trip::<EventFd>(cores, Wait::Block, count)),
                ("sigqueue, signalfd", &mut || signal_round_trip(cores, count)),
            ],
        );
    }
}
