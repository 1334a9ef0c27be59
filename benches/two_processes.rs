//! Two processes that do the same work in turns of rounds, for the benchmarks of what has no messages.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longer than any row takes: a process that hangs ends.
const PATIENCE: u32 = 120;

/// Where the two processes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cores {
    One,
    Two,
}

impl Cores {
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "one core",
            Self::Two => "two cores",
        }
    }
}

/// Pins the calling process.
pub fn pin(cpu: usize) {
    let mut set = nix::sched::CpuSet::new();
    set.set(cpu).expect("a small processor number");
    let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set);
}

/// Zeroed memory that a forked process shares.
pub fn shared<T>() -> &'static T {
    // SAFETY: fresh memory of the kernel's choice, never unmapped; the callers ask for atomics and C semaphores, for
    // which zeroes are a value, and which are no larger than a page.
    unsafe {
        assert!(size_of::<T>() <= 4096);
        let (read_write, anonymous) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        let at = libc::mmap(core::ptr::null_mut(), 4096, read_write, anonymous, -1, 0);
        assert_ne!(at, libc::MAP_FAILED, "mmap");
        &*at.cast::<T>()
    }
}

/// Runs `there` in a process of its own and `here` in this one; how long `here` takes. `there` makes its handles
/// first and then calls what it is given.
pub fn both(cores: Cores, there: impl FnOnce(&dyn Fn()), here: impl FnOnce(&dyn Fn())) -> Duration {
    let met = shared::<AtomicU32>();
    let start = std::cell::Cell::new(Instant::now());
    let meet = || {
        met.fetch_add(1, Ordering::SeqCst);
        while met.load(Ordering::SeqCst) < 2 {
            std::thread::yield_now();
        }
        start.set(Instant::now());
    };
    // SAFETY: this process has one thread; the child ends by `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork");
    if child == 0 {
        // SAFETY: system calls without pointers.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::alarm(PATIENCE);
        }
        pin(usize::from(cores == Cores::Two));
        there(&meet);
        // What a process has done with `SEM_UNDO` is undone at its end, also what the other has not had yet.
        while met.load(Ordering::SeqCst) < 3 {
            std::thread::sleep(Duration::from_micros(500));
        }
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(0) };
    }
    pin(0);
    here(&meet);
    let time = start.get().elapsed();
    met.fetch_add(1, Ordering::SeqCst);
    let mut status = 0;
    // SAFETY: waits for the child above.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "the other process failed");
    // SAFETY: `shared` mapped it, and nobody has it any more.
    unsafe { libc::munmap(core::ptr::from_ref(met).cast_mut().cast(), 4096) };
    time
}

/// The figure in the middle.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Runs each of `works` once a round, in turns, and prints nanoseconds and how many times the first one's time the
/// others take, medians of the rounds.
pub fn table(row: &str, rounds: usize, works: &mut [(&str, &mut dyn FnMut() -> f64)]) {
    let mut times = vec![Vec::new(); works.len()];
    for round in 0..rounds {
        // Who comes first takes turns, too.
        let count = works.len();
        for i in (0..count).map(|i| (i + round) % count) {
            times[i].push((works[i].1)());
        }
    }
    println!("{row}");
    for ((name, _), own) in works.iter().zip(&times) {
        let ratio = median(own.iter().zip(&times[0]).map(|(own, first)| own / first).collect());
        println!("    {name:24} {:>11.1} ns {ratio:>9.2}", median(own.clone()));
    }
}

/// The number of rounds that the command line asks for.
pub fn rounds() -> usize {
    std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(15)
}
