//! Threads that start together, and figures.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Binds the calling thread.
pub fn pin(cpu: usize) {
    let mut set = nix::sched::CpuSet::new();
    if set.set(cpu).is_ok() {
        // On a machine with one processor this fails, and all threads share it.
        let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set);
    }
}

/// Where all sides meet before their work and after it.
pub struct Meet {
    barrier: Barrier,
    epoch: Instant,
    /// Nanoseconds since the epoch: when the first side began, and when the last was done.
    begin: AtomicU64,
    end: AtomicU64,
}

impl Meet {
    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Called with all handles made.
    pub fn start(&self) {
        self.barrier.wait();
        self.begin.fetch_min(self.now(), Ordering::Relaxed);
    }

    /// Called when the work is done.
    pub fn done(&self) {
        self.end.fetch_max(self.now(), Ordering::Relaxed);
        self.barrier.wait();
    }
}

/// What a side does: it makes its handles, meets the others, works, and meets them again.
pub type Side<'a> = Box<dyn FnOnce(&Meet) -> Result<()> + Send + 'a>;

/// Runs all sides, the first on one processor and the others on the next ones in turn; nanoseconds from when the first
/// began until all were done.
pub fn race(sides: Vec<Side<'_>>) -> f64 {
    let (begin, end) = (AtomicU64::new(u64::MAX), AtomicU64::new(0));
    let meet = Meet { barrier: Barrier::new(sides.len()), epoch: Instant::now(), begin, end };
    let processors = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for (at, side) in sides.into_iter().enumerate() {
            let meet = &meet;
            scope.spawn(move || {
                pin(at % processors);
                // The others would wait for ever for one that fails; a panic has printed why.
                match catch_unwind(AssertUnwindSafe(|| side(meet))) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        eprintln!("{error}");
                        std::process::exit(1);
                    }
                    Err(_) => std::process::exit(1),
                }
            });
        }
    });
    (meet.end.into_inner() - meet.begin.into_inner()) as f64
}

pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// A way to measure, and its name.
pub type Row<'a> = (&'a str, &'a dyn Fn(usize) -> Result<f64>);

/// Runs each of them once a round, in turns; prints nanoseconds, and how many times the first one's the others take.
pub fn table(what: &str, rounds: usize, rows: &[Row<'_>]) -> Result<()> {
    let mut times = vec![Vec::new(); rows.len()];
    for round in 0..rounds {
        // Who comes first takes turns, too.
        for at in (0..rows.len()).map(|at| (at + round) % rows.len()) {
            times[at].push(rows[at].1(round)?);
        }
    }
    println!("{what}");
    for ((name, _), own) in rows.iter().zip(&times) {
        let ratios = own.iter().zip(&times[0]).map(|(own, first)| own / first).collect();
        println!("    {name:28} {:>10.1} ns {:>8.2}", median(own.clone()), median(ratios));
    }
    Ok(())
}
