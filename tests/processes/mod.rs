//! Child processes for tests: forked, ended by their own pid, and never waited for without a deadline.

#![allow(dead_code, missing_docs)]

#[path = "../support/end.rs"]
mod end;
#[path = "../support/last_words.rs"]
pub mod last_words;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take that ought to happen at once: much, for a machine may have other things to do.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Seconds after which a child that nobody ended ends itself: more than a test takes that waits with patience
/// several times.
const LIFE: u32 = 600;

/// A name that no other test, and no other run of it, has.
pub fn unique(test: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    end::put_off();
    format!("test-{test}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Repeats `check` until it holds; panics when it does not in time.
pub fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    end::put_off();
    while !check() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The end of a line between parent and child, on which each tells the other how far it is.
pub struct Line(UnixStream);

impl Line {
    /// Says one byte.
    pub fn say(&mut self, word: u8) {
        self.0.write_all(&[word]).unwrap();
    }

    /// Waits for one byte.
    pub fn hear(&mut self) -> u8 {
        let mut word = [0];
        self.0.read_exact(&mut word).expect("the other side says something in time");
        word[0]
    }

    /// Waits until the other side is gone, or says something.
    pub fn wait_for_end(&mut self) {
        let _ = self.0.read(&mut [0]);
    }

    pub fn expect(&mut self, word: u8) {
        assert_eq!(self.hear(), word);
    }
}

/// A forked child, killed when it is dropped.
pub struct Child {
    pid: Pid,
    pub line: Line,
    over: bool,
}

/// Forks a child that runs `body` and then exits without running anybody else's destructors: with 0, or
/// with 101 if `body` panics.
pub fn fork(body: impl FnOnce(&mut Line)) -> Child {
    let (ours, theirs) = UnixStream::pair().unwrap();
    // A child waits for its parent as long as it lives: what the parent does meanwhile may be slow.
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    last_words::prepare();
    end::put_off();
    // SAFETY: the child runs Rust code on the copy of one thread of many. What it calls takes locks of
    // the allocator, which the C library makes fit for use after a fork, and of nothing else that
    // another thread could have held.
    match unsafe { nix::unistd::fork() }.unwrap() {
        ForkResult::Parent { child } => {
            // What was moved into it is the child's alone.
            std::mem::forget(body);
            Child { pid: child, line: Line(ours), over: false }
        }
        ForkResult::Child => {
            last_words::begin();
            drop(ours);
            nix::unistd::alarm::set(LIFE);
            let mut line = Line(theirs);
            let code = match catch_unwind(AssertUnwindSafe(|| body(&mut line))) {
                Ok(()) => 0,
                Err(_) => 101,
            };
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(code) }
        }
    }
}

impl Child {
    pub fn pid(&self) -> u32 {
        self.pid.as_raw() as u32
    }

    pub fn signal(&self, signal: Signal) {
        assert!(!self.over);
        kill(self.pid, signal).unwrap();
        if signal == Signal::SIGSTOP {
            eventually("it is stopped", || self.is_stopped());
        }
    }

    fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    }

    /// Ends the child as nothing can prevent, and waits until it is gone.
    pub fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        assert_eq!(self.end(), WaitStatus::Signaled(self.pid, Signal::SIGKILL, false));
    }

    /// Waits until the child ends by itself, as it should.
    pub fn finish(mut self) {
        let status = self.end();
        assert_eq!(status, WaitStatus::Exited(self.pid, 0), "the child failed");
    }

    fn end(&mut self) -> WaitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)).unwrap() {
                WaitStatus::StillAlive => {
                    assert!(Instant::now() < deadline, "the child does not end");
                    std::thread::sleep(Duration::from_millis(1));
                }
                status => {
                    self.over = true;
                    return status;
                }
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.over {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
        }
    }
}

/// Says why a test does nothing here.
pub fn skip(test: &str, reason: impl std::fmt::Display) {
    eprintln!("skipped: {test}: {reason}");
}
