//! Processes that measure, and the coordinator that watches them.
//!
//! The coordinator forks all workers and then only waits: for their reports, for their death, for a signal, for the
//! deadline. It never takes part in a measurement, so a worker may block in any call of any transport for ever and is still
//! noticed and killed. A row gets fresh processes in every round; that takes about a millisecond and spreads each row
//! over several placements of its pages.
//!
//! Fork and not a re-executed binary: what a worker needs (descriptors, queue identifiers, the shared page, the loop to run)
//! is inherited as it stands instead of being spelled out on a command line, and the loops stay ordinary generic functions.
//! Fork is sound here because the coordinator has one thread, which `Crew::new` checks. Our rings forbid handles to be used
//! across a fork; the workers get only the descriptor and attach to it themselves, as unrelated processes do.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::link::{Failure, Side};
use super::processors::Seat;
use super::worker::{Ending, Worker};

/// How long the others may take to report once a worker has failed.
const GRACE: Duration = Duration::from_millis(300);

/// Why a row ended without figures, and the run with it.
#[derive(Debug)]
pub enum Abort {
    /// A signal asked to stop.
    Signal,
    /// The arguments ask for what cannot be.
    Usage(String),
    /// A worker failed.
    Failed(String),
}

impl From<io::Error> for Abort {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<nix::Error> for Abort {
    fn from(error: nix::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What one worker does, and where.
pub struct Job<'a> {
    pub side: Side,
    pub seat: Seat,
    pub body: Box<dyn FnOnce() -> Result<Vec<u8>, Failure> + 'a>,
}

/// Starts workers and hears the signals that end a run.
pub struct Crew {
    signals: SignalFd,
    former_mask: SigSet,
}

impl Crew {
    /// Routes the signals that end a run to a descriptor, for as long as the value lives.
    pub fn new() -> io::Result<Self> {
        let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
        if threads != 1 {
            return Err(io::Error::other(
                "workers are forked, so the coordinator must not have threads",
            ));
        }
        let ending =
            SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT]);
        let mut former_mask = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&ending), Some(&mut former_mask))?;
        let signals =
            SignalFd::with_flags(&ending, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { signals, former_mask })
    }

    /// Runs `near` and `far` in two new processes, each on its processor, and returns what they
    /// reported. Both are gone when this returns, whatever it returns.
    pub fn run(
        &self,
        seats: [Seat; 2],
        deadline: Duration,
        near: impl FnOnce() -> Result<Vec<u8>, Failure>,
        far: impl FnOnce() -> Result<Vec<u8>, Failure>,
    ) -> Result<[Vec<u8>; 2], Abort> {
        let jobs = vec![
            Job { side: Side::Near, seat: seats[0], body: Box::new(near) },
            Job { side: Side::Far, seat: seats[1], body: Box::new(far) },
        ];
        let reports = self.run_all(jobs, deadline)?;
        Ok(reports.try_into().expect("a report for each job"))
    }

    /// The same with as many processes as there are jobs; the reports come in their order.
    pub fn run_all(&self, jobs: Vec<Job<'_>>, deadline: Duration) -> Result<Vec<Vec<u8>>, Abort> {
        let deadline = Instant::now() + deadline;
        let workers: Result<Vec<_>, Abort> =
            jobs.into_iter().map(|job| Worker::start(job.side, job.seat, job.body)).collect();
        self.watch(workers?, deadline)
    }

    /// A signal that has arrived meanwhile.
    pub fn interrupted(&self) -> Option<Abort> {
        self.signals.read_signal().ok().flatten().map(|_| Abort::Signal)
    }

    fn watch(
        &self,
        mut workers: Vec<Worker>,
        mut deadline: Instant,
    ) -> Result<Vec<Vec<u8>>, Abort> {
        while workers.iter().any(|worker| !worker.done) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waiting: Vec<usize> = (0..workers.len()).filter(|&at| !workers[at].done).collect();
            let mut watched: Vec<_> = waiting
                .iter()
                .map(|&at| PollFd::new(workers[at].report.as_fd(), PollFlags::POLLIN))
                .collect();
            watched.push(PollFd::new(self.signals.as_fd(), PollFlags::POLLIN));
            // Rounded up, so that the last wait does not turn into a busy loop.
            let timeout =
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
            match poll(&mut watched, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let ready: Vec<bool> = watched
                .iter()
                .map(|fd| fd.revents().is_some_and(|events| !events.is_empty()))
                .collect();
            if let Some(abort) = self.interrupted() {
                return Err(abort);
            }
            for (&at, _) in waiting.iter().zip(&ready).filter(|(_, ready)| **ready) {
                workers[at].read_report()?;
                if workers[at].done && workers[at].outcome().is_err() {
                    deadline = deadline.min(Instant::now() + GRACE);
                }
            }
        }
        let mut reports = Vec::new();
        let mut endings = Vec::new();
        for worker in workers {
            match worker.finish() {
                Ok(report) => reports.push(report),
                Err(ending) => endings.push(ending),
            }
        }
        if endings.is_empty() { Ok(reports) } else { Err(Abort::Failed(worst(endings))) }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.former_mask), None);
    }
}

/// A failed worker usually takes its peers along (a broken pipe, a deadline): report the cause, not the consequence.
fn worst(endings: Vec<Ending>) -> String {
    let worst = endings.into_iter().max_by_key(|ending| ending.severity);
    worst.map(|ending| ending.text).unwrap_or_default()
}
