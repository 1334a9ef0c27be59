//! The project's goals, judged round by round: by figures of the same run, and of the same round of it (`--bars`).

use serde::Serialize;

use super::link::Waiting::{self, Adaptive, Block, Spin};
use super::report::Measured;
use super::rows::{Carrier, Kernel, Own, Row};
use super::tally::{Round, Tally, median};
use super::units;

/// A goal with its figure.
#[derive(Clone, Debug, Serialize)]
pub struct Bar {
    pub what: String,
    pub measured: f64,
    pub unit: &'static str,
    pub goal: Goal,
    pub met: bool,
    /// Where the figure comes from.
    pub from: String,
}

impl Bar {
    /// The median of the rounds' figures, in `×`, with the lowest and the highest; `None` of no rounds.
    pub fn of_rounds(what: String, goal: Goal, rounds: Vec<f64>) -> Option<Self> {
        let lowest = rounds.iter().copied().min_by(f64::total_cmp)?;
        let highest = rounds.iter().copied().max_by(f64::total_cmp)?;
        let from = match rounds.len() {
            1 => units::rounds(1),
            count => format!("median of {}, {lowest:.2} to {highest:.2}", units::rounds(count)),
        };
        let measured = median(rounds)?;
        Some(Self { what, measured, unit: "×", goal, met: goal.met_by(measured), from })
    }
}

fn round_trip(round: &Round) -> Option<f64> {
    round.p50_ns().map(|ns| ns as f64)
}

/// A row's round trips, in those of another one in the same round: where the machine changes between two rounds, both do.
fn times(ours: &Tally, theirs: &Tally) -> Vec<f64> {
    let rounds = ours.rounds.iter().zip(&theirs.rounds);
    rounds.filter_map(|(ours, theirs)| Some(round_trip(ours)? / round_trip(theirs)?)).collect()
}

/// The same of its rates.
pub fn rates(ours: &Tally, theirs: &Tally) -> Vec<f64> {
    let rounds = ours.rounds.iter().zip(&theirs.rounds);
    rounds.filter_map(|(ours, theirs)| Some(ours.msgs_per_s? / theirs.msgs_per_s?)).collect()
}

/// The floor of each round.
pub struct Floors(Vec<Option<f64>>);

impl Floors {
    /// Of a floor that was measured `times` times in each round.
    pub fn of(floor: &Tally, times: usize) -> Self {
        let rounds = floor.rounds.chunks(times.max(1));
        Self(rounds.map(|round| median(round.iter().filter_map(round_trip).collect())).collect())
    }

    /// A row's round trips in those of the floor of the same round.
    pub fn times(&self, row: &Tally) -> Vec<f64> {
        let rounds = row.rounds.iter().zip(&self.0);
        rounds.filter_map(|(round, floor)| Some(round_trip(round)? / (*floor)?)).collect()
    }
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

/// The section of the report.
#[derive(Clone, Debug, Serialize)]
pub struct Bars {
    pub goals: Vec<Bar>,
    /// What was measured for the goals and is no row of the table.
    pub rows: Vec<Measured>,
}

impl Goal {
    pub fn met_by(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }
}

fn own(own: Own, wait: Waiting, size: usize) -> Row {
    Row { carrier: Carrier::Own(own, wait), size, one_cpu: false }
}

fn pipe(size: usize) -> Row {
    Row { carrier: Carrier::Kernel(Kernel::Pipe), size, one_cpu: false }
}

fn copy_limit() -> Row {
    Row { carrier: Carrier::CopyLimit, size: 65_536, one_cpu: false }
}

/// Our blocking rows that have to keep up with a pipe.
fn blocking() -> Vec<Row> {
    let bytes = [64, 4096, 65_536].map(|size| own(Own::Bytes, Block, size));
    let ring = [8, 64].map(|size| own(Own::Ring, Block, size));
    [&ring[..], &bytes[..]].concat()
}

/// Our rows whose adaptive waiting has to keep up with spinning.
fn answering() -> [(Own, usize); 3] {
    [(Own::Ring, 8), (Own::Ring, 56), (Own::Bytes, 64)]
}

/// Every row that some goal needs. `two_cpus` says whether there are two processors to compare on.
pub fn rows(two_cpus: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    if two_cpus {
        rows.extend([own(Own::Ring, Spin, 8), own(Own::Ring, Spin, 56)]);
        rows.extend([
            own(Own::Bytes, Spin, 64),
            pipe(64),
            own(Own::Bytes, Spin, 65_536),
            copy_limit(),
        ]);
        rows.extend(
            answering()
                .into_iter()
                .flat_map(|(kind, size)| [Spin, Adaptive].map(|wait| own(kind, wait, size))),
        );
        rows.extend(blocking().into_iter().flat_map(|row| [row, pipe(row.size)]));
    }
    rows.extend(blocking().into_iter().flat_map(|row| [row, pipe(row.size)]).map(on_one_cpu));
    let mut distinct = Vec::new();
    for row in rows {
        if !distinct.contains(&row) {
            distinct.push(row);
        }
    }
    // The floor is measured before each group of one size.
    distinct.sort_by_key(|row| (row.one_cpu, row.size));
    distinct
}

fn on_one_cpu(row: Row) -> Row {
    Row { one_cpu: true, ..row }
}

/// Judges every goal for which there are figures. `idle_percent` is what a waiter used of a processor.
pub fn judge(measured: &[(&Row, &Tally)], floors: &Floors, idle_percent: Option<f64>) -> Vec<Bar> {
    let tally = |row: Row| {
        measured.iter().find(|(candidate, _)| **candidate == row).map(|(_, tally)| *tally)
    };
    let both = |ours: Row, theirs: Row, ratios: fn(&Tally, &Tally) -> Vec<f64>| {
        tally(ours).zip(tally(theirs)).map_or(Vec::new(), |(ours, theirs)| ratios(ours, theirs))
    };
    let mut bars = Vec::new();
    let mut push = |what: String, goal: Goal, rounds: Vec<f64>| {
        bars.extend(Bar::of_rounds(what, goal, rounds));
    };

    for size in [8, 56] {
        let rounds = tally(own(Own::Ring, Spin, size)).map(|ours| floors.times(ours));
        let what = format!("ring spin {size} B, round trip over the floor");
        push(what, Goal::AtMost(1.10), rounds.unwrap_or_default());
    }
    let what = "bytes spin 64 KiB, one way over copying out of the other core's cache".to_owned();
    let rounds = both(own(Own::Bytes, Spin, 65_536), copy_limit(), rates);
    push(what, Goal::AtLeast(0.8), rounds);
    let rounds = both(own(Own::Bytes, Spin, 64), pipe(64), rates);
    push("bytes spin 64 B, one way over pipe".into(), Goal::AtLeast(20.0), rounds);
    for one_cpu in [false, true] {
        let place = if one_cpu { "one processor" } else { "two processors" };
        for row in blocking() {
            let (ours, theirs) = (Row { one_cpu, ..row }, Row { one_cpu, ..pipe(row.size) });
            let name = row.describe();
            let what = format!("{name}, round trip over pipe, {place}");
            push(what, Goal::AtMost(1.0), both(ours, theirs, times));
            let what = format!("{name}, one way over pipe, {place}");
            push(what, Goal::AtLeast(1.0), both(ours, theirs, rates));
        }
    }
    for (kind, size) in answering() {
        let (adaptive, spin) = (own(kind, Adaptive, size), own(kind, Spin, size));
        let what = format!("{}, round trip over spin", adaptive.describe());
        push(what, Goal::AtMost(1.10), both(adaptive, spin, times));
    }
    bars.extend(idle_percent.map(|measured| {
        let goal = Goal::AtMost(1.0);
        Bar {
            what: "adaptive waiter, idle for one second".into(),
            measured,
            unit: "% of a processor",
            goal,
            met: goal.met_by(measured),
            from: String::new(),
        }
    }));
    bars
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::measure::Figures;

    fn tally(ns: u64, rate: f64) -> Tally {
        let figures = Figures { round_trips_ns: vec![ns], msgs_per_s: Some(rate) };
        Tally { rounds: vec![Round::decode(&Round::encode(&figures)).unwrap()], skipped: None }
    }

    #[test]
    fn every_goal_finds_its_rows() {
        let rows = rows(true);
        let same = tally(200, 1e6);
        let measured: Vec<_> = rows.iter().map(|row| (row, &same)).collect();
        let bars = judge(&measured, &Floors::of(&same, 1), Some(0.1));
        assert_eq!(bars.len(), 2 + 1 + 1 + 2 * 2 * 5 + 3 + 1);
        for bar in &bars {
            assert_eq!(bar.met, !bar.what.starts_with("bytes spin 64 B"), "{}", bar.what);
        }
    }

    #[test]
    fn one_processor_is_judged_alone() {
        let rows = rows(false);
        assert!(rows.iter().all(|row| row.one_cpu));
        let same = tally(200, 1e6);
        let measured: Vec<_> = rows.iter().map(|row| (row, &same)).collect();
        assert_eq!(judge(&measured, &Floors::of(&same, 1), None).len(), 10);
    }
}
