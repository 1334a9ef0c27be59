//! Running a model through its interleavings, and through every death of one of its processes.

use annulus::sync::model;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

/// How a process of a model ended.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Atomic accesses and system calls that it made.
    pub accesses: usize,
    /// Whether it was killed before it was done.
    pub killed: bool,
}

/// Runs `body` as a process that dies after `kill` accesses, if that is given and it lives that long.
pub fn process(kill: Option<usize>, body: impl FnOnce()) -> End {
    let outcome = model::process(|| {
        if let Some(accesses) = kill {
            model::kill_after(accesses);
        }
        body();
    });
    End { accesses: model::accesses(), killed: outcome.is_none() }
}

/// Runs `body` in every interleaving with at most `preemptions` preemptions (any number, if `None`),
/// and gives how many there were.
fn all_interleavings(preemptions: Option<usize>, body: impl Fn() + Sync + Send + 'static) -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 100_000;
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        body();
    });
    count.load(Relaxed)
}

/// Explores a model without deaths and says what it took.
pub fn explore(name: &str, preemptions: Option<usize>, body: impl Fn() + Sync + Send + 'static) {
    let start = Instant::now();
    println!("model {name}");
    let interleavings = all_interleavings(preemptions, body);
    println!("  {interleavings} interleavings, {:.1} s", start.elapsed().as_secs_f64());
}

/// Explores a model once for every access at which its victim can be killed.
///
/// `body` runs the model with the victim's death after so many accesses, or with none, and gives the
/// victim's end. The number of accesses is found by a run without a death.
pub fn explore_kills(
    name: &str,
    preemptions: Option<usize>,
    body: impl Fn(Option<usize>) -> End + Copy + Sync + Send + 'static,
) {
    let start = Instant::now();
    println!("model {name}");
    let (least, most) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::new(AtomicUsize::new(0)));
    let (seen_least, seen_most) = (Arc::clone(&least), Arc::clone(&most));
    let mut interleavings = all_interleavings(preemptions, move || {
        let end = body(None);
        assert!(!end.killed);
        seen_least.fetch_min(end.accesses, Relaxed);
        seen_most.fetch_max(end.accesses, Relaxed);
    });
    let (least, most) = (least.load(Relaxed), most.load(Relaxed));
    for k in 0..most {
        let killed = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&killed);
        let explored = all_interleavings(preemptions, move || {
            count.fetch_add(usize::from(body(Some(k)).killed), Relaxed);
        });
        let killed = killed.load(Relaxed);
        assert!(killed > 0, "access {k} of {most} killed nobody");
        assert!(k >= least || killed == explored, "access {k} is made in every interleaving");
        interleavings += explored;
    }
    println!(
        "  {most} places to die, {interleavings} interleavings, {:.1} s",
        start.elapsed().as_secs_f64()
    );
}
