//! Two pinned threads, each with its side of a transport; shared by `one_way` and `round_trip`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn pin(cpu: usize) {
    let mut set = nix::sched::CpuSet::new();
    if set.set(cpu).is_ok() {
        // On a machine with one processor this fails, and both threads share it.
        let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set);
    }
}

/// Runs both sides, from a common start, and gives the time that `timed` took.
pub fn run(other: impl FnOnce() + Send, timed: impl FnOnce() + Send) -> Duration {
    let ready = &AtomicUsize::new(0);
    let meet = || {
        ready.fetch_add(1, Ordering::SeqCst);
        while ready.load(Ordering::SeqCst) < 2 {
            std::thread::yield_now();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(move || {
            pin(0);
            meet();
            other();
        });
        let timed = scope.spawn(move || {
            pin(1);
            meet();
            let begin = Instant::now();
            timed();
            begin.elapsed()
        });
        timed.join().expect("the timed side does not fail")
    })
}
