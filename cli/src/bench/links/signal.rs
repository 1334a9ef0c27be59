//! Signals without handlers: sent by `sigqueue`, read from a `signalfd`. Ordinary ones coalesce, real-time ones queue with
//! their values.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::Ordering;

use libc::c_int;

use super::notice::{Notice, Notices};
use crate::bench::link::{Failure, Link, Refusal, Setup, Side, Transport, Waiting};
use crate::bench::shared::{Line, Shareable, Shared};

/// The workers' process numbers, as soon as they are there.
#[repr(C)]
struct Pids {
    near: Line,
    far: Line,
}

// SAFETY: two atomics with padding.
unsafe impl Shareable for Pids {}

/// One side: what it gets its signals by, and whom it sends them.
struct End {
    pids: Shared<Pids>,
    side: Side,
    /// 0 until it is known.
    peer: libc::pid_t,
    signal: c_int,
    heard: OwnedFd,
}

impl End {
    /// Blocks the signal, which then comes by a descriptor.
    fn new(pids: Shared<Pids>, side: Side, signal: c_int) -> Result<Self, Failure> {
        // SAFETY: the set is initialised before it is used, and lives until the calls are over.
        let heard = unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, signal);
            libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC)
        };
        if heard < 0 {
            return Err(Failure::call("signalfd", io::Error::last_os_error()));
        }
        // SAFETY: a descriptor that nobody else has.
        let heard = unsafe { OwnedFd::from_raw_fd(heard) };
        let own = if side == Side::Near { &pids.near } else { &pids.far };
        own.0.store(std::process::id().into(), Ordering::Release);
        Ok(Self { pids, side, peer: 0, signal, heard })
    }

    /// Both sides have met before anything is sent.
    #[cold]
    fn learn_peer(&mut self) {
        let other = if self.side == Side::Near { &self.pids.far } else { &self.pids.near };
        self.peer = other.0.load(Ordering::Acquire) as libc::pid_t;
    }

    /// Sends the signal with a value; waits while as many are queued as may be.
    #[inline]
    fn send(&mut self, value: u64) -> Result<(), Failure> {
        if self.peer == 0 {
            self.learn_peer();
        }
        let value = libc::sigval { sival_ptr: std::ptr::without_provenance_mut(value as usize) };
        loop {
            // SAFETY: a system call without pointers that the kernel follows.
            if unsafe { libc::sigqueue(self.peer, self.signal, value) } == 0 {
                return Ok(());
            }
            match io::Error::last_os_error() {
                full if full.kind() == io::ErrorKind::WouldBlock => {
                    let _ = nix::sched::sched_yield();
                }
                error => return Err(Failure::call("sigqueue", error)),
            }
        }
    }

    /// Waits for a signal and gives its value.
    #[inline]
    fn recv(&mut self) -> Result<u64, Failure> {
        // SAFETY: `signalfd_siginfo` is plain data, for which all zero is a value.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = size_of_val(&info);
        // SAFETY: there is room for one of them.
        let read = unsafe { libc::read(self.heard.as_raw_fd(), (&raw mut info).cast(), size) };
        match usize::try_from(read) {
            Ok(read) if read == size => Ok(info.ssi_ptr),
            Ok(read) => Err(Failure::wrong_length(read, size)),
            Err(_) => Err(Failure::call("read", io::Error::last_os_error())),
        }
    }
}

fn pids() -> Result<Shared<Pids>, Refusal> {
    Shared::new().map_err(|error| Refusal::by_kernel("mmap", error))
}

/// Ordinary signals: one that is pending already is not sent again.
pub struct Signals(Shared<Pids>);

impl Notices for Signals {
    type End = Notified;

    fn prepare() -> Result<Self, Refusal> {
        pids().map(Self)
    }

    fn attach(self, side: Side, _: Waiting) -> Result<Notified, Failure> {
        End::new(self.0, side, libc::SIGUSR2).map(Notified)
    }
}

/// One side.
pub struct Notified(End);

impl Notice for Notified {
    #[inline]
    fn raise(&mut self) -> Result<(), Failure> {
        self.0.send(0)
    }

    #[inline]
    fn take(&mut self) -> Result<(), Failure> {
        self.0.recv().map(drop)
    }
}

/// Real-time signals: each arrives, with the message as its value.
pub struct QueuedSignals(Shared<Pids>);

impl Transport for QueuedSignals {
    type Link = Queued;

    fn prepare(_: &Setup) -> Result<Self, Refusal> {
        pids().map(Self)
    }

    fn attach(self, side: Side, _: &Setup) -> Result<Queued, Failure> {
        End::new(self.0, side, libc::SIGRTMIN()).map(Queued)
    }
}

/// One side.
pub struct Queued(End);

impl Link for Queued {
    type Message = [u64; 1];

    #[inline]
    fn send(&mut self, message: &[u64; 1]) -> Result<(), Failure> {
        self.0.send(message[0])
    }

    #[inline]
    fn recv(&mut self, message: &mut [u64; 1]) -> Result<(), Failure> {
        message[0] = self.0.recv()?;
        Ok(())
    }
}
