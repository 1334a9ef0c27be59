//! Child processes that cannot outlive the test, cannot run for ever and leave no zombie.

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};

use super::deadline::poll;

/// Exit code of a child whose body panicked.
pub const PANICKED: i32 = 101;

/// Writes to standard error past libtest's capture, from any process.
pub fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Forks a child that runs `body` and exits. It dies by SIGALRM after `life` (rounded up to seconds), and
/// with the thread that forked it.
pub fn fork_child(life: Duration, body: impl FnOnce()) -> Pid {
    let parent = getpid();
    // SAFETY: the child is a copy of this process with one thread, the caller's. It uses the allocator, which
    // glibc keeps usable across fork, and the library, which promises that fresh handles work in a fork child;
    // it prints through `say` only and leaves by `_exit`, so no lock of another thread is waited for.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            // SAFETY: two plain system calls without pointers.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::alarm(life.as_secs().max(1) as libc::c_uint);
            }
            if getppid() != parent {
                exit(0);
            }
            std::panic::set_hook(Box::new(|info| say(&format!("child {}: {info}\n", getpid()))));
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            exit(if outcome.is_ok() { 0 } else { PANICKED })
        }
    }
}

fn exit(code: i32) -> ! {
    // SAFETY: `_exit` ends the process without running the handlers that belong to the parent's copy.
    unsafe { libc::_exit(code) }
}

/// Waits for a change of `pid`, through interruptions.
pub fn wait(pid: Pid) -> WaitStatus {
    loop {
        match waitpid(pid, None) {
            Ok(status) => return status,
            Err(Errno::EINTR) => {}
            Err(error) => panic!("waitpid({pid}): {error}"),
        }
    }
}

/// A child that runs on its own, neither traced nor stepped: the peer of the process under test.
#[derive(Debug)]
pub struct Peer {
    pid: Pid,
    reaped: bool,
}

impl Peer {
    /// Forks the peer; see [`fork_child`].
    pub fn spawn(life: Duration, body: impl FnOnce()) -> Self {
        Self { pid: fork_child(life, body), reaped: false }
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends `signal`.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid, signal).expect("an unreaped child takes signals");
    }

    /// Waits for its end: `Ok` after a clean exit. Its alarm clock bounds the wait.
    pub fn join(mut self) -> Result<(), String> {
        let status = wait(self.pid);
        self.reaped = true;
        match status {
            WaitStatus::Exited(_, 0) => Ok(()),
            WaitStatus::Signaled(_, Signal::SIGALRM, _) => {
                Err("the peer did not finish in time".into())
            }
            other => Err(format!("the peer ended with {other:?}")),
        }
    }

    /// Kills and reaps it. An error if it had ended before.
    pub fn kill(mut self) -> Result<(), String> {
        match self.end() {
            WaitStatus::Signaled(_, Signal::SIGKILL, _) => Ok(()),
            other => Err(format!("before it was killed, it ended with {other:?}")),
        }
    }

    fn end(&mut self) -> WaitStatus {
        let _ = kill(self.pid, Signal::SIGKILL);
        self.reaped = true;
        wait(self.pid)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if !self.reaped {
            self.end();
        }
    }
}

/// Whether `pid` sleeps in a futex system call now.
pub fn sleeps_in_futex(pid: Pid) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    call.split(' ').next() == Some(&libc::SYS_futex.to_string())
}

/// Waits until `pid` sleeps in a futex; `false` if it does not within `limit`.
#[must_use]
pub fn await_sleep(pid: Pid, limit: Duration) -> bool {
    poll(limit, || sleeps_in_futex(pid))
}

/// Ties the calling thread, and the children it forks later, to one of the processors it may use. A tracer
/// and its tracee hand over to each other at every instruction: on one processor that is a context switch, on
/// two it is a wake-up of an idle processor, thirty times slower.
pub fn pin(worker: usize) {
    let allowed = sched_getaffinity(Pid::from_raw(0)).expect("sched_getaffinity");
    let processors: Vec<usize> =
        (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false)).collect();
    let mut one = CpuSet::new();
    one.set(processors[worker % processors.len()]).expect("a processor number from the kernel");
    sched_setaffinity(Pid::from_raw(0), &one).expect("sched_setaffinity within the allowed set");
}

/// A segment name that no other test, process or run uses.
pub fn unique_name(label: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("kill-{}-{label}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Files of this process's unique names that exist in the shared-memory directory now.
pub fn names_left() -> Vec<PathBuf> {
    let mark = format!("kill-{}-", std::process::id());
    let entries = std::fs::read_dir("/dev/shm").expect("the shared-memory directory");
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().contains(&mark))
        .map(|entry| entry.path())
        .collect()
}

/// Removes what [`names_left`] lists: for a test that ends without its own clean-up.
pub fn remove_names() {
    for path in names_left() {
        let _ = std::fs::remove_file(path);
    }
}
