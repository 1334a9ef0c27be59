//! The harness tried on something simpler than a ring: a row of stores.

use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};

use crate::support::process::{Peer, await_sleep};
use crate::support::ptrace::{Stop, Tracee};
use crate::support::shared::SharedWords;
use crate::support::sweep::{CHILD_LIFE, Case, Points, Verdict, report, sweep};

/// Stores 1 to `len` into as many words: the effect is a prefix.
struct Stores {
    len: usize,
    /// Between two stores, a system call.
    calls: bool,
}

impl Case for Stores {
    type Survivor = SharedWords;

    fn label(&self) -> String {
        format!("{} stores{}", self.len, if self.calls { " and system calls" } else { "" })
    }

    fn start(&self) -> Result<(Tracee, SharedWords), String> {
        let words = SharedWords::new(self.len);
        let tracee = Tracee::spawn(CHILD_LIFE, |child| {
            child.section(|| {
                for (word, value) in words.iter().zip(1..) {
                    word.store(value, Ordering::Release);
                    if self.calls {
                        // SAFETY: a system call without pointers.
                        unsafe { libc::syscall(libc::SYS_getppid) };
                    }
                }
            });
        })?;
        Ok((tracee, words))
    }

    fn check(&self, words: SharedWords) -> Result<Verdict, String> {
        let values: Vec<u64> = words.iter().map(|word| word.load(Ordering::Acquire)).collect();
        let stored = values.iter().take_while(|&&value| value != 0).count();
        let prefix = values
            .iter()
            .zip(1..)
            .all(|(&value, i)| value == if i <= stored as u64 { i } else { 0 });
        if prefix {
            Ok(Verdict::of(stored as u64))
        } else {
            Err(format!("{values:?} is no prefix"))
        }
    }

    fn effect(&self) -> u64 {
        self.len as u64
    }
}

#[test]
fn every_instruction_is_a_point() {
    let rows = [
        sweep(&Stores { len: 5, calls: false }, Points::Every, 2),
        sweep(&Stores { len: 5, calls: true }, Points::Every, 2),
        sweep(&Stores { len: 50, calls: true }, Points::Spread(200), 2),
    ];
    report("the harness itself", &rows);
}

#[test]
fn a_section_has_the_same_instructions_every_time() {
    let case = Stores { len: 7, calls: true };
    let walks: Vec<_> = (0..3)
        .map(|_| {
            let (mut tracee, _words) = case.start().expect("starts");
            let exits = tracee.trace_calls(&mut None).expect("runs");
            assert_eq!(exits.len(), 7);
            let (mut tracee, _words) = case.start().expect("starts");
            tracee.walk(10_000, &exits, &mut None).expect("runs")
        })
        .collect();
    assert!(walks.iter().all(|walk| walk == &walks[0]));
    assert_eq!(walks[0].calls.len(), 7);
    assert!(walks[0].calls.iter().all(|call| call.number == libc::SYS_getppid as u64));
}

#[test]
fn a_child_that_loops_is_ended_by_its_alarm() {
    let mut tracee = Tracee::spawn(Duration::from_secs(1), |child| {
        child.mark();
        loop {
            std::hint::spin_loop();
        }
    })
    .expect("starts");
    assert_eq!(tracee.go_on(), Stop::Deadline);
    let pid = tracee.pid();
    tracee.kill().expect("dies");
    assert_eq!(kill(pid, None), Err(Errno::ESRCH), "nothing is left of it, no zombie either");

    let peer = Peer::spawn(Duration::from_secs(1), || std::thread::sleep(Duration::from_secs(100)));
    assert!(peer.join().expect_err("it never ends").contains("did not finish"));
}

#[test]
fn a_sleeper_is_seen_and_killed_in_its_sleep() {
    let word = SharedWords::new(1);
    let peer = Peer::spawn(2 * CHILD_LIFE, || {
        // SAFETY: the futex word is mapped as long as `word`; the other arguments are null or numbers.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAIT,
                0,
                std::ptr::null::<libc::timespec>(),
            )
        };
    });
    assert!(await_sleep(peer.pid(), CHILD_LIFE));
    peer.kill().expect("it was alive");
}

#[test]
fn a_crash_and_a_panic_are_told_apart_from_a_kill() {
    let mut tracee = Tracee::spawn(CHILD_LIFE, |child| {
        child.mark();
        std::process::exit(3);
    })
    .expect("starts");
    assert_eq!(tracee.go_on(), Stop::Exited(3));

    let mut tracee = Tracee::spawn(CHILD_LIFE, |child| {
        child.mark();
        nix::sys::signal::raise(Signal::SIGSEGV).expect("raises");
    })
    .expect("starts");
    assert_eq!(tracee.go_on(), Stop::Signal(Signal::SIGSEGV));
    tracee.kill().expect("dies");
}
