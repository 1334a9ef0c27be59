//! The goals of the split form, judged round by round beside the shared form and the floor of the same round (`--split`).

use super::bars::{self, Bar, Floors, Goal};
use super::link::Waiting;
use super::rows::{Carrier, Own, Row};
use super::tally::Tally;

/// A round trip of the split form, in those of the floor.
const ROUND_TRIP: Goal = Goal::AtMost(1.15);
/// The largest message that is one line with its stamp, as the floor is.
const ONE_LINE: usize = 56;
/// Its rate, in that of the shared form.
const RATE: Goal = Goal::AtLeast(0.95);

/// Judges each row of the split form for which there is what it is compared with.
pub fn goals(measured: &[(&Row, &Tally)], floors: &Floors) -> Vec<Bar> {
    let mut bars = Vec::new();
    for &(row, split) in measured {
        let Carrier::Own(own, wait) = row.carrier else { continue };
        let Some(shared) = own.shared_form() else { continue };
        let shared = Row { carrier: Carrier::Own(shared, wait), ..*row };
        // On one processor nobody spins, and the floor is that of two; it is one line each way, as messages of any length
        // are not.
        let is_one_line = own == Own::Split && row.size <= ONE_LINE;
        if wait == Waiting::Spin && !row.one_cpu && is_one_line {
            let what = format!("{}, round trip over the floor", row.describe());
            bars.extend(Bar::of_rounds(what, ROUND_TRIP, floors.times(split)));
        }
        if let Some((_, shared)) = measured.iter().find(|(other, _)| **other == shared) {
            let what = format!("{}, one way over the shared form", row.describe());
            bars.extend(Bar::of_rounds(what, RATE, bars::rates(split, shared)));
        }
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::measure::Figures;
    use crate::bench::tally::Round;

    fn tally(rounds: &[(u64, f64)]) -> Tally {
        let round = |&(ns, rate)| {
            let figures = Figures { round_trips_ns: vec![ns], msgs_per_s: Some(rate) };
            Round::decode(&Round::encode(&figures)).unwrap()
        };
        Tally { rounds: rounds.iter().map(round).collect(), skipped: None }
    }

    #[test]
    fn each_round_is_compared_with_its_own() {
        let row = |own, wait| Row { carrier: Carrier::Own(own, wait), size: 8, one_cpu: false };
        let rows = [Own::Ring, Own::Split].map(|own| row(own, Waiting::Spin));
        let adaptive = row(Own::Split, Waiting::Adaptive);
        // The second round met a machine of half the speed.
        let shared = tally(&[(100, 8e6), (200, 4e6), (100, 8e6)]);
        let split = tally(&[(110, 8e6), (220, 3.6e6), (130, 7.2e6)]);
        let floor =
            tally(&[(100, 0.0), (100, 0.0), (200, 0.0), (200, 0.0), (100, 0.0), (100, 0.0)]);
        let measured = [(&rows[0], &shared), (&rows[1], &split), (&adaptive, &split)];
        let bars = goals(&measured, &Floors::of(&floor, 2));
        assert_eq!(bars.len(), 2);
        assert!((bars[0].measured - 1.1).abs() < 1e-6 && bars[0].met);
        assert_eq!(bars[0].from, "median of 3 rounds, 1.10 to 1.30");
        assert!((bars[1].measured - 0.9).abs() < 1e-6 && !bars[1].met);
        assert_eq!(bars[1].from, "median of 3 rounds, 0.90 to 1.00");
        assert!(goals(&measured[..1], &Floors::of(&floor, 2)).is_empty());
    }
}
