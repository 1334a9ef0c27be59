//! How a rate is measured: in phases of growing length, and then in slices, whose median is the rate.
//!
//! One worker leads: it says how many of whatever is counted the coming phase has. The clock runs from its first to the
//! moment when the last worker says that the phase is over ([`Control::end_phase`]). How many fill the time is found by phases of growing length,
//! which are the warm-up as well. What is measured comes in slices: a moment in which the machine has other things to do
//! spoils one of them and not the figure.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::clock::Clock;
use super::link::Failure;
use super::shared::{Barrier, Control};
use super::tally::median;

/// Parts of a rate test.
const SLICES: u32 = 9;

/// The one who leads: phases of 64, 256, 1024 … until one is long enough to tell how many fill a slice; then the slices,
/// fewer of them if the machine turns out to be slower than it seemed. `work` is the leader's part of a phase.
pub fn lead(
    control: &Control,
    barrier: &mut Barrier<'_>,
    clock: Clock,
    budget: Duration,
    mut work: impl FnMut(u64) -> Result<(), Failure>,
) -> Result<Option<f64>, Failure> {
    let slice = budget.as_secs_f64() / f64::from(SLICES);
    let mut phase = |count: u64| -> Result<f64, Failure> {
        control.count.0.store(count, Ordering::Relaxed);
        control.ended.0.store(0, Ordering::Relaxed);
        barrier.wait();
        control.started.0.store(clock.now(), Ordering::Relaxed);
        work(count)?;
        barrier.wait();
        let started = control.started.0.load(Ordering::Relaxed);
        let ended = control.ended.0.load(Ordering::Relaxed);
        Ok(clock.ns(ended.saturating_sub(started).max(1)) / 1e9)
    };
    let mut count = 64;
    let seconds = loop {
        let seconds = phase(count)?;
        if seconds >= slice / 2.0 {
            break seconds;
        }
        count *= 4;
    };
    let count = ((count as f64 * slice / seconds) as u64).max(64);
    let end = clock.now() + clock.ticks(budget);
    let mut rates = Vec::new();
    while rates.len() < SLICES as usize && (rates.is_empty() || clock.now() < end) {
        rates.push(count as f64 / phase(count)?);
    }
    control.count.0.store(0, Ordering::Relaxed);
    barrier.wait();
    Ok(median(rates))
}

/// One who follows, until the leader ends it. `work` is its part of a phase.
pub fn follow(
    control: &Control,
    barrier: &mut Barrier<'_>,
    mut work: impl FnMut(u64) -> Result<(), Failure>,
) -> Result<(), Failure> {
    loop {
        barrier.wait();
        let count = control.count.0.load(Ordering::Relaxed);
        if count == 0 {
            return Ok(());
        }
        work(count)?;
        barrier.wait();
    }
}
