//! Child processes that cannot outlive the test, cannot run for ever and leave no zombie.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};

use super::deadline::poll;
use super::last_words;
pub use super::last_words::say;
use super::shared::SharedWords;

/// Exit code of a child whose body panicked.
pub const PANICKED: i32 = 101;

/// Forks a child that runs `body` and exits. It dies by SIGALRM after `life` (rounded up to seconds), and
/// with the thread that forked it.
pub fn fork_child(life: Duration, body: impl FnOnce()) -> Pid {
    let parent = getpid();
    last_words::prepare();
    super::end::put_off();
    // SAFETY: the child is a copy of this process with one thread, the caller's. It uses the allocator, which
    // glibc keeps usable across fork, and the library, which promises that fresh handles work in a fork child;
    // it prints through `say` only and leaves by `_exit`, so no lock of another thread is waited for.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            last_words::begin();
            // SAFETY: two plain system calls without pointers.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::alarm(life.as_secs().max(1) as libc::c_uint);
            }
            if getppid() != parent {
                exit(0);
            }
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

    /// What it does now, as far as `/proc` tells: for the last words of a test.
    pub fn describe(&self) -> String {
        let read = |file| std::fs::read_to_string(format!("/proc/{}/{file}", self.pid));
        let stat = read("stat").unwrap_or_default();
        let state = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').next());
        let call = read("syscall").unwrap_or_default();
        format!("{} ({}, system call {})", self.pid, state.unwrap_or("?"), call.trim())
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

/// Who holds locks on `file` now, as far as `/proc` tells: for the last words of a test.
pub fn holders(file: OwnedFd) -> String {
    let Ok(inode) = File::from(file).metadata().map(|metadata| metadata.ino()) else {
        return "the file cannot be looked at".into();
    };
    let file_of_lock = format!(":{inode} ");
    let mut holders = Vec::new();
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let infos = std::fs::read_dir(process.path().join("fdinfo")).into_iter().flatten();
        for info in infos.flatten() {
            let text = std::fs::read_to_string(info.path()).unwrap_or_default();
            for lock in text.lines().filter(|line| line.contains(&file_of_lock)) {
                let stat = std::fs::read_to_string(process.path().join("stat"));
                let stat = stat.unwrap_or_default();
                let who: Vec<&str> = stat.split(' ').take(4).collect();
                holders.push(format!(
                    "{} (descriptor {:?}, {lock})",
                    who.join(" "),
                    info.file_name()
                ));
            }
        }
    }
    holders.join("; ")
}

/// A process that a child of the test makes and that outlives it. The child notes it in shared memory, so that
/// the test can end it; dropping it does.
pub struct Heir {
    /// `[pid, whether it shall end]`
    words: SharedWords,
}

impl Heir {
    /// None yet.
    pub fn new() -> Self {
        Self { words: SharedWords::new(2) }
    }

    /// Makes it a plain copy of the caller, by a system call that no handler of `fork` sees: it has all
    /// descriptors, does nothing, and ends with [`Heir::end`] or after `life`.
    pub fn start(&self, life: Duration) {
        let rounds = life.as_millis();
        // SAFETY: without a stack and flags `clone` is `fork` without its handlers. The copy makes nothing but
        // system calls and looks at a mapping that it shares, so that no lock of the caller matters to it.
        let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        if pid == 0 {
            for _ in 0..rounds {
                if self.words[1].load(Ordering::Acquire) == 1 {
                    break;
                }
                // SAFETY: waits for a millisecond, without pointers.
                unsafe { libc::poll(std::ptr::null_mut(), 0, 1) };
            }
            exit(0);
        }
        self.note(u32::try_from(pid).expect("clone"));
    }

    /// Notes the process, made in another way.
    pub fn note(&self, pid: u32) {
        self.words[0].store(pid.into(), Ordering::Release);
    }

    /// Whether it runs still.
    pub fn is_alive(&self) -> bool {
        self.pid().is_some_and(|pid| kill(pid, None).is_ok())
    }

    /// Tells it to end by itself.
    pub fn end(&self) {
        self.words[1].store(1, Ordering::Release);
    }

    /// Kills it.
    pub fn kill(&self) {
        if let Some(pid) = self.pid() {
            let _ = kill(pid, Signal::SIGKILL);
        }
        self.words[0].store(0, Ordering::Release);
    }

    fn pid(&self) -> Option<Pid> {
        let pid = self.words[0].load(Ordering::Acquire);
        (pid != 0).then(|| Pid::from_raw(pid as i32))
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        self.end();
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
    let processors = processors();
    bind(&[processors[worker % processors.len()]]);
}

/// The processors that the calling thread may use.
pub fn processors() -> Vec<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).expect("sched_getaffinity");
    (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false)).collect()
}

/// Ties the calling thread, and the children it forks later, to some processors.
pub fn bind(processors: &[usize]) {
    let mut set = CpuSet::new();
    for &processor in processors {
        set.set(processor).expect("a processor number from the kernel");
    }
    sched_setaffinity(Pid::from_raw(0), &set).expect("sched_setaffinity within the allowed set");
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
