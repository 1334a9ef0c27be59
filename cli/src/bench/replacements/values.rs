//! Variables that one process writes as fast as it can while another reads: how many reads, or writes, are done.

use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::trial::Trial;
use crate::bench::clock::Clock;
use crate::bench::link::Failure;
use crate::bench::links::variable::{Read, Variable, Write};
use crate::bench::measure::Figures;
use crate::bench::payload::Payload;
use crate::bench::phases;
use crate::bench::run::{Bench, Outcome, prepared};
use crate::bench::shared::Control;

/// Reads while another process writes.
pub fn reads<V: Variable<N>, const N: usize>(bench: &Bench, trial: &Trial<'_>) -> Outcome {
    both::<V, N>(bench, trial, true)
}

/// Writes while another process reads.
pub fn writes<V: Variable<N>, const N: usize>(bench: &Bench, trial: &Trial<'_>) -> Outcome {
    both::<V, N>(bench, trial, false)
}

/// One side is timed; the other goes on until that one has done as much as it should.
fn both<V: Variable<N>, const N: usize>(bench: &Bench, trial: &Trial<'_>, reads: bool) -> Outcome {
    let variable = match prepared(trial.name, V::prepare())? {
        Ok(variable) => Cell::new(Some(variable)),
        Err(reason) => return Ok(Err(reason)),
    };
    let variable = || variable.take().expect("a worker attaches once");
    let (wait, clock) = (trial.setup.wait, bench.clock);
    let rate = trial.budget.rate.unwrap_or_default();
    let writer = || Values::new(variable().writer(wait)?);
    let reader = || -> Result<_, Failure> { Ok(Looks::new(variable().reader(wait)?)) };
    bench.duo(
        trial.name,
        bench.processors.of_workers(trial.setup.one_cpu),
        trial.budget,
        |control| {
            let msgs_per_s = match reads {
                true => timed(control, clock, rate, reader, Looks::look)?,
                false => timed(control, clock, rate, writer, Values::write)?,
            };
            Ok(Figures { round_trips_ns: Vec::new(), msgs_per_s })
        },
        |control| match reads {
            true => meanwhile(control, writer, Values::write),
            false => meanwhile(control, reader, Looks::look),
        },
    )
}

fn timed<E>(
    control: &Control,
    clock: Clock,
    rate: Duration,
    make: impl FnOnce() -> Result<E, Failure>,
    each: impl Fn(&mut E) -> Result<(), Failure>,
) -> Result<Option<f64>, Failure> {
    let (mut end, mut barrier) = (make()?, control.barrier());
    // Now there is a value.
    barrier.wait();
    phases::lead(control, &mut barrier, clock, rate, |count| {
        (0..count).try_for_each(|_| each(&mut end))?;
        control.end_phase(clock);
        Ok(())
    })
}

fn meanwhile<E>(
    control: &Control,
    make: impl FnOnce() -> Result<E, Failure>,
    each: impl Fn(&mut E) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (mut end, mut barrier) = (make()?, control.barrier());
    barrier.wait();
    phases::follow(control, &mut barrier, |_| {
        while control.ended.0.load(Ordering::Relaxed) == 0 {
            each(&mut end)?;
        }
        Ok(())
    })
}

/// A writer of one value after the other.
struct Values<W, const N: usize> {
    writer: W,
    value: [u64; N],
    sequence: u64,
}

impl<W: Write<N>, const N: usize> Values<W, N> {
    /// Has written the first.
    fn new(writer: W) -> Result<Self, Failure> {
        let mut values = Self { writer, value: [0; N], sequence: 0 };
        values.write()?;
        Ok(values)
    }

    #[inline]
    fn write(&mut self) -> Result<(), Failure> {
        self.sequence += 1;
        Payload::fill(&mut self.value, self.sequence);
        self.writer.write(&self.value)
    }
}

/// A reader that has whole values only, none older than the last one.
struct Looks<R, const N: usize> {
    reader: R,
    value: [u64; N],
    last: u64,
}

impl<R: Read<N>, const N: usize> Looks<R, N> {
    fn new(reader: R) -> Self {
        Self { reader, value: [0; N], last: 0 }
    }

    #[inline]
    fn look(&mut self) -> Result<(), Failure> {
        self.reader.read(&mut self.value)?;
        let now = self.value.sequence();
        if now < self.last {
            return Err(Failure::went_back(now, self.last));
        }
        if !self.value.matches(now) {
            return Err(Failure::wrong(now));
        }
        self.last = now;
        Ok(())
    }
}
