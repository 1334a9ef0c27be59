//! One measurement, as all tests get it.

use crate::bench::link::{Setup, Transport};
use crate::bench::measure::Budget;
use crate::bench::run::{Bench, Outcome};

/// What is measured, and for how long.
#[derive(Clone, Copy)]
pub struct Trial<'a> {
    /// For errors.
    pub name: &'a str,
    pub setup: Setup,
    pub budget: Budget,
}

/// A test of one mechanism, in one round.
pub type Test = fn(&Bench, &Trial<'_>) -> Outcome;

/// Messages between two processes: the test that rings and the kernel's transports have anyway.
pub fn messages<T: Transport>(bench: &Bench, trial: &Trial<'_>) -> Outcome {
    let seats = bench.processors.of_workers(trial.setup.one_cpu);
    bench.pair::<T>(trial.name, &trial.setup, seats, trial.budget)
}
