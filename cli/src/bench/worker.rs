//! One forked process that measures: its birth, its life, its end.

use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::fcntl::OFlag;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getppid, pipe2};

use super::crew::Abort;
use super::link::{Failure, Side};
use super::processors::Seat;

/// How a worker failed.
#[derive(Debug)]
pub struct Ending {
    /// The cause is worse than its consequences.
    pub severity: u8,
    pub text: String,
}

/// Frames of a report: one byte for the kind, the rest is the content.
const DONE: u8 = b'd';
const WRONG: u8 = b'w';
const FAILED: u8 = b'f';

/// A worker as the coordinator holds it. Dropping it kills and reaps the process.
pub struct Worker {
    side: Side,
    pid: Pid,
    /// Where the report comes from.
    pub report: std::fs::File,
    received: Vec<u8>,
    /// The report has ended: the worker closed its end or died.
    pub done: bool,
    reaped: Option<WaitStatus>,
}

impl Worker {
    /// Forks; the child pins itself to the processor, runs the body, reports and exits.
    pub fn start(
        side: Side,
        seat: Seat,
        body: impl FnOnce() -> Result<Vec<u8>, Failure>,
    ) -> Result<Self, Abort> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        let coordinator = nix::unistd::getpid();
        // SAFETY: this process has a single thread (`Crew::new`), so the child finds no lock taken and may go on as
        // ordinary code. It never returns into the coordinator's frames: `work` ends in `_exit`.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => {
                drop(write);
                Ok(Self {
                    side,
                    pid: child,
                    report: read.into(),
                    received: Vec::new(),
                    done: false,
                    reaped: None,
                })
            }
            ForkResult::Child => {
                drop(read);
                work(coordinator, seat, write.into(), body)
            }
        }
    }

    /// Takes what there is of the report; at its end the process is reaped.
    pub fn read_report(&mut self) -> io::Result<()> {
        let mut chunk = [0; 65_536];
        match self.report.read(&mut chunk)? {
            0 => {
                self.done = true;
                self.reaped = waitpid(self.pid, None).ok();
            }
            count => self.received.extend_from_slice(&chunk[..count]),
        }
        Ok(())
    }

    /// The report, or how the worker failed.
    pub fn outcome(&self) -> Result<&[u8], Ending> {
        let side = self.side.name();
        let ending = |severity, text| Err(Ending { severity, text });
        match self.received.split_first() {
            Some((&DONE, report)) if self.reaped == Some(WaitStatus::Exited(self.pid, 0)) => {
                Ok(report)
            }
            Some((&WRONG, text)) => {
                ending(3, format!("wrong payload: {}", String::from_utf8_lossy(text)))
            }
            Some((&FAILED, text)) => {
                ending(1, format!("the {side} process failed: {}", String::from_utf8_lossy(text)))
            }
            _ => match self.reaped {
                Some(WaitStatus::Signaled(_, signal, _)) => {
                    ending(2, format!("the {side} process was killed by {signal}"))
                }
                Some(WaitStatus::Exited(_, code)) => {
                    ending(2, format!("the {side} process ended early with code {code}"))
                }
                _ => ending(0, format!("the {side} process did not finish in time")),
            },
        }
    }

    /// As `outcome`, after which the process is gone.
    pub fn finish(mut self) -> Result<Vec<u8>, Ending> {
        self.outcome().map(|_| ())?;
        let mut report = std::mem::take(&mut self.received);
        report.remove(0);
        Ok(report)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.reaped.is_none() {
            // Not reaped, so the pid is still this child's.
            if let Ok(WaitStatus::StillAlive) = waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
                let _ = kill(self.pid, Signal::SIGKILL);
                let _ = waitpid(self.pid, None);
            }
        }
    }
}

/// The worker's whole life.
fn work(
    coordinator: Pid,
    seat: Seat,
    mut report: std::fs::File,
    body: impl FnOnce() -> Result<Vec<u8>, Failure>,
) -> ! {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        // The signals that end a run stay blocked: Ctrl-C reaches the whole foreground group, and the coordinator decides.
        set_pdeathsig(Signal::SIGKILL)?;
        if getppid() != coordinator {
            return Err(Failure::Call("the coordinator is gone".into()));
        }
        seat.take()?;
        body()
    }));
    let (kind, content) = match outcome {
        Ok(Ok(content)) => (DONE, content),
        Ok(Err(Failure::WrongPayload(text))) => (WRONG, text.into_bytes()),
        Ok(Err(Failure::Call(text))) => (FAILED, text.into_bytes()),
        Err(_) => (FAILED, b"panicked".to_vec()),
    };
    let written = report.write_all(&[kind]).and_then(|()| report.write_all(&content));
    let code = if written.is_ok() && kind == DONE { 0 } else { 1 };
    // SAFETY: `_exit` takes no pointer. The buffers of standard output belong to the coordinator and must not be flushed twice,
    // nor may destructors of what it owns run here.
    unsafe { libc::_exit(code) }
}
