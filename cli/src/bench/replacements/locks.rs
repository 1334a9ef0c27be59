//! A semaphore as a lock: taken and given back as fast as that goes, by two processes at once or by one alone.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use super::trial::Trial;
use crate::bench::crew::Job;
use crate::bench::link::{Failure, Side};
use crate::bench::links::semaphore::{Permits, Semaphore};
use crate::bench::measure::Figures;
use crate::bench::phases;
use crate::bench::run::{Bench, Outcome, prepared};
use crate::bench::shared::{Control, Line, Shareable, Shared};
use crate::bench::tally::Round;

/// What the lock guards: a count that loses some if two are in there at once.
///
/// Not at the start of its page, where most of the locks are in theirs: some pairs of pages have addresses that a processor
/// takes for the same one at first, and a lock that met such a page was half as slow again, whichever it was.
#[repr(C)]
struct Count {
    _aside: [Line; 5],
    count: Line,
}

// SAFETY: atomics with padding.
unsafe impl Shareable for Count {}

impl Count {
    #[inline]
    fn increment(&self) {
        let count: &AtomicU64 = &self.count.0;
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    fn check(&self, expected: u64) -> Result<(), Failure> {
        match self.count.0.load(Ordering::Relaxed) {
            count if count == expected => Ok(()),
            count => Err(Failure::WrongPayload(format!(
                "a count under the lock is {count} after {expected} increments"
            ))),
        }
    }
}

fn turns(lock: &mut impl Permits, count: &Count, times: u64) -> Result<(), Failure> {
    for _ in 0..times {
        lock.take()?;
        count.increment();
        lock.give()?;
    }
    Ok(())
}

fn round(msgs_per_s: Option<f64>) -> Figures {
    Figures { round_trips_ns: Vec::new(), msgs_per_s }
}

/// Two processes take turns as fast as they can: how many turns there are, of both.
pub fn contended<S: Semaphore>(bench: &Bench, trial: &Trial<'_>) -> Outcome {
    let lock = match prepared(trial.name, S::prepare(1))? {
        Ok(lock) => Cell::new(Some(lock)),
        Err(reason) => return Ok(Err(reason)),
    };
    let (wait, clock) = (trial.setup.wait, bench.clock);
    let attach = || lock.take().expect("a worker attaches once").attach(wait);
    let count = Shared::<Count>::new()?;
    let rate = trial.budget.rate.unwrap_or_default();
    bench.duo(
        trial.name,
        bench.processors.of_workers(trial.setup.one_cpu),
        trial.budget,
        |control| {
            let (mut lock, mut barrier, mut all) = (attach()?, control.barrier(), 0);
            let of_one = phases::lead(control, &mut barrier, clock, rate, |times| {
                all += 2 * times;
                turns(&mut lock, &count, times)?;
                control.end_phase(clock);
                Ok(())
            })?;
            count.check(all)?;
            Ok(round(of_one.map(|rate| 2.0 * rate)))
        },
        |control| {
            let (mut lock, mut barrier) = (attach()?, control.barrier());
            phases::follow(control, &mut barrier, |times| {
                turns(&mut lock, &count, times)?;
                control.end_phase(clock);
                Ok(())
            })
        },
    )
}

/// One process, and nobody else wants it.
pub fn alone<S: Semaphore>(bench: &Bench, trial: &Trial<'_>) -> Outcome {
    let lock = match prepared(trial.name, S::prepare(1))? {
        Ok(lock) => Cell::new(Some(lock)),
        Err(reason) => return Ok(Err(reason)),
    };
    let (control, count) = (Shared::<Control>::new()?, Shared::<Count>::new()?);
    let body = || {
        let lock = lock.take().expect("the only worker");
        let (mut lock, mut barrier, mut all) =
            (lock.attach(trial.setup.wait)?, control.barrier_of(1), 0);
        let rate = trial.budget.rate.unwrap_or_default();
        let rate = phases::lead(&control, &mut barrier, bench.clock, rate, |times| {
            all += times;
            turns(&mut lock, &count, times)?;
            control.end_phase(bench.clock);
            Ok(())
        })?;
        count.check(all)?;
        Ok(Round::encode(&round(rate)))
    };
    let [seat, _] = bench.processors.of_workers(trial.setup.one_cpu);
    bench.led(trial.name, vec![Job { side: Side::Near, seat, body: Box::new(body) }], trial.budget)
}
