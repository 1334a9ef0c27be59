//! The project's goals, judged from figures of the same run (`--bars`).

use serde::Serialize;

use super::link::Waiting::{self, Adaptive, Block, Spin};
use super::report::Measured;
use super::rows::{Carrier, Kernel, Own, Row};
use super::tally::Tally;
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
pub fn judge<'a>(
    measured: &[(&'a Row, &'a Tally)],
    floor_ns: f64,
    idle_percent: Option<f64>,
) -> Vec<Bar> {
    let tally = |row: Row| {
        measured.iter().find(|(candidate, _)| **candidate == row).map(|(_, tally)| *tally)
    };
    let rtt = |row: Row| tally(row).and_then(Tally::p50_ns).map(|ns| ns as f64);
    let rate = |row: Row| tally(row).and_then(Tally::msgs_per_s);
    let mut bars = Vec::new();
    let mut push = |what: String, measured: Option<f64>, unit, goal: Goal, from: String| {
        if let Some(measured) = measured {
            bars.push(Bar { what, measured, unit, goal, met: goal.met_by(measured), from });
        }
    };
    let quotient = |ours: Option<f64>, theirs: Option<f64>| Some(ours? / theirs?);
    let times = |ours: Option<f64>, theirs: Option<f64>| match (ours, theirs) {
        (Some(ours), Some(theirs)) => {
            format!("{} against {}", units::time(ours), units::time(theirs))
        }
        _ => String::new(),
    };
    let rates = |ours: Option<f64>, theirs: Option<f64>| match (ours, theirs) {
        (Some(ours), Some(theirs)) => {
            format!("{} against {}", units::rate(ours), units::rate(theirs))
        }
        _ => String::new(),
    };

    for size in [8, 56] {
        let ours = rtt(own(Own::Ring, Spin, size));
        let what = format!("ring spin {size} B, round trip over the floor");
        push(
            what,
            quotient(ours, Some(floor_ns)),
            "×",
            Goal::AtMost(1.10),
            times(ours, Some(floor_ns)),
        );
    }
    let (ours, limit) = (rate(own(Own::Bytes, Spin, 65_536)), rate(copy_limit()));
    let what = "bytes spin 64 KiB, one way over copying out of the other core's cache".to_owned();
    push(what, quotient(ours, limit), "×", Goal::AtLeast(0.8), rates(ours, limit));
    let (ours, theirs) = (rate(own(Own::Bytes, Spin, 64)), rate(pipe(64)));
    push(
        "bytes spin 64 B, one way over pipe".into(),
        quotient(ours, theirs),
        "×",
        Goal::AtLeast(20.0),
        rates(ours, theirs),
    );
    for one_cpu in [false, true] {
        let place = if one_cpu { "one processor" } else { "two processors" };
        for row in blocking() {
            let (ours, theirs) = (Row { one_cpu, ..row }, Row { one_cpu, ..pipe(row.size) });
            let name = row.describe();
            let (a, b) = (rtt(ours), rtt(theirs));
            push(
                format!("{name}, round trip over pipe, {place}"),
                quotient(a, b),
                "×",
                Goal::AtMost(1.0),
                times(a, b),
            );
            let (a, b) = (rate(ours), rate(theirs));
            push(
                format!("{name}, one way over pipe, {place}"),
                quotient(a, b),
                "×",
                Goal::AtLeast(1.0),
                rates(a, b),
            );
        }
    }
    for (kind, size) in answering() {
        let (adaptive, spin) = (rtt(own(kind, Adaptive, size)), rtt(own(kind, Spin, size)));
        let what = format!("{}, round trip over spin", own(kind, Adaptive, size).describe());
        push(what, quotient(adaptive, spin), "×", Goal::AtMost(1.10), times(adaptive, spin));
    }
    push(
        "adaptive waiter, idle for one second".into(),
        idle_percent,
        "% of a processor",
        Goal::AtMost(1.0),
        String::new(),
    );
    bars
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::measure::Figures;
    use crate::bench::tally::Round;

    fn tally(ns: u64, rate: f64) -> Tally {
        let figures = Figures { round_trips_ns: vec![ns], msgs_per_s: Some(rate) };
        Tally { rounds: vec![Round::decode(&Round::encode(&figures)).unwrap()], skipped: None }
    }

    #[test]
    fn every_goal_finds_its_rows() {
        let rows = rows(true);
        let same = tally(200, 1e6);
        let measured: Vec<_> = rows.iter().map(|row| (row, &same)).collect();
        let bars = judge(&measured, 200.0, Some(0.1));
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
        assert_eq!(judge(&measured, 200.0, None).len(), 10);
    }
}
