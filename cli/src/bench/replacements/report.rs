//! What a replacement came to beside its original.

use serde::Serialize;

use super::run::{Lane, Role};
use crate::bench::report::RoundTrip;
use crate::bench::tally::Tally;

/// An original and its replacement, which waits in one of its ways, at one work in one place.
#[derive(Clone, Debug, Serialize)]
pub struct Replacement {
    pub original: &'static str,
    pub replacement: &'static str,
    pub work: &'static str,
    /// Bytes of a message or value; 0 where there is none.
    pub size: usize,
    /// How many processors the processes were bound to, or share.
    pub processors: usize,
    /// How the replacement waits; the original blocks.
    pub wait: &'static str,
    pub rtt_ns: Option<RoundTrip>,
    /// Messages, turns, reads or writes a second.
    pub msgs_per_s: Option<f64>,
    pub original_rtt_ns: Option<RoundTrip>,
    pub original_msgs_per_s: Option<f64>,
    pub ratio: Ratio,
    /// Why the original has no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

/// How many times as fast the replacement is: the quotients of the figures beside.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    pub round_trip: Option<f64>,
    pub rate: Option<f64>,
}

impl Ratio {
    /// Not medians of the rounds' own ratios: a round in which the machine had other work gives few samples, and would count
    /// as much as the others.
    fn of(original: &Tally, replacement: &Tally) -> Self {
        let round_trip = || Some(original.p50_ns()? as f64 / replacement.p50_ns()? as f64);
        let rate = || Some(replacement.msgs_per_s()? / original.msgs_per_s()?);
        Self { round_trip: round_trip(), rate: rate() }
    }
}

/// Each original of each contest with each way of waiting of what replaces it.
pub fn replacements(lanes: &[Lane<'_>]) -> Vec<Replacement> {
    let mut found = Vec::new();
    for original in lanes.iter().filter(|lane| lane.role == Role::Original) {
        let replacements = lanes.iter().filter(|lane| {
            std::ptr::eq(lane.contest, original.contest)
                && lane.one_cpu == original.one_cpu
                && lane.role == Role::Replacement
        });
        found.extend(replacements.map(|ours| of(original, ours)));
    }
    found
}

fn of(original: &Lane<'_>, ours: &Lane<'_>) -> Replacement {
    Replacement {
        original: original.contender.name,
        replacement: ours.contender.name,
        work: ours.contest.work,
        size: ours.contest.size,
        processors: if ours.one_cpu { 1 } else { 2 },
        wait: ours.wait.name(),
        rtt_ns: RoundTrip::of(&ours.tally),
        msgs_per_s: ours.tally.msgs_per_s(),
        original_rtt_ns: RoundTrip::of(&original.tally),
        original_msgs_per_s: original.tally.msgs_per_s(),
        ratio: Ratio::of(&original.tally, &ours.tally),
        skipped: original.tally.skipped.clone(),
    }
}

/// A line of the table: an original and all ways of waiting of what replaces it.
pub struct Line<'a> {
    /// The first of them, which blocks.
    pub block: &'a Replacement,
    pub adaptive: Option<&'a Replacement>,
}

/// All with so many processors, in their order.
pub fn lines(replacements: &[Replacement], processors: usize) -> Vec<Line<'_>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for one in replacements.iter().filter(|one| one.processors == processors) {
        match lines.last_mut() {
            Some(line) if one.wait != line.block.wait => line.adaptive = Some(one),
            _ => lines.push(Line { block: one, adaptive: None }),
        }
    }
    lines
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::bench::link::Waiting;
    use crate::bench::measure::Figures;
    use crate::bench::replacements::contests::{Contest, streams};
    use crate::bench::replacements::run::lanes;
    use crate::bench::report::Report;
    use crate::bench::report::tests::example;
    use crate::bench::tally::Round;

    fn tally(rounds: &[(u64, f64)]) -> Tally {
        let rounds = rounds.iter().map(|&(ns, rate)| {
            let figures = Figures { round_trips_ns: vec![ns], msgs_per_s: Some(rate) };
            Round::decode(&Round::encode(&figures)).unwrap()
        });
        Tally { rounds: rounds.collect(), skipped: None }
    }

    /// A pipe in 2 µs, blocking in half of that, adaptive in a twenty-fifth; there is no FIFO.
    pub fn compared() -> Report {
        let contests: Vec<Contest> = streams();
        let mut lanes = lanes(&contests[..1], false);
        for lane in &mut lanes {
            lane.tally = match (lane.role, lane.wait, lane.contender.name) {
                (Role::Original, _, "FIFO") => {
                    Tally { rounds: vec![], skipped: Some("mkfifo: no".into()) }
                }
                (Role::Original, ..) => tally(&[(2_000, 1e6), (2_000, 2e6), (2_000, 3e6)]),
                (_, Waiting::Block, _) => tally(&[(1_000, 2e6), (1_000, 4e6), (1_000, 30e6)]),
                _ => tally(&[(80, 5e6), (80, 10e6), (80, 15e6)]),
            };
        }
        Report { rows: vec![], replacements: Some(replacements(&lanes)), ..example() }
    }

    #[test]
    fn ratios_are_those_of_the_medians() {
        let found = compared().replacements.unwrap();
        // Two originals, two ways to wait, two places.
        assert_eq!(found.len(), 8);
        let [block, adaptive] = &found[..2] else { panic!("{found:?}") };
        assert_eq!((block.original, block.replacement, block.wait), ("pipe", "Stream", "block"));
        assert_eq!(block.ratio, Ratio { round_trip: Some(2.0), rate: Some(2.0) });
        assert_eq!(adaptive.ratio, Ratio { round_trip: Some(25.0), rate: Some(5.0) });
        assert_eq!((block.processors, found[7].processors), (2, 1));
        let without = &found[2];
        assert_eq!(without.skipped.as_deref(), Some("mkfifo: no"));
        assert_eq!(without.ratio, Ratio { round_trip: None, rate: None });
        assert_eq!(without.rtt_ns.unwrap().p50, 1_000);
    }

    #[test]
    fn json_has_the_promised_fields() {
        let json = serde_json::to_value(compared()).unwrap();
        let one = &json["replacements"][1];
        for (key, value) in [("original", "pipe"), ("replacement", "Stream"), ("wait", "adaptive")]
        {
            assert_eq!(one[key], value);
        }
        assert_eq!((&one["size"], &one["processors"]), (&64.into(), &2.into()));
        assert_eq!(
            (&one["rtt_ns"]["p50"], &one["original_rtt_ns"]["p50"]),
            (&80.into(), &2_000.into())
        );
        assert_eq!(one["ratio"]["round_trip"], 25.0);
        assert!(one.get("skipped").is_none());
    }

    #[test]
    fn a_line_has_all_ways_of_waiting() {
        let found = compared().replacements.unwrap();
        let lines = lines(&found, 2);
        let names: Vec<_> = lines.iter().map(|line| line.block.original).collect();
        assert_eq!(names, ["pipe", "FIFO"]);
        assert!(lines.iter().all(|line| line.adaptive.is_some_and(|one| one.wait == "adaptive")));
    }
}
