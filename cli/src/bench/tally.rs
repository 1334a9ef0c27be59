//! What the rounds of one row add up to.

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};

use super::measure::Figures;

/// Three significant digits, one nanosecond to one minute.
const LONGEST_NS: u64 = 60_000_000_000;

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("the bounds are fixed and valid")
}

/// One round of one row.
#[derive(Debug)]
pub struct Round {
    pub round_trips: Histogram<u64>,
    pub msgs_per_s: Option<f64>,
}

impl Round {
    /// One in which only a rate was measured.
    pub fn of_rate(msgs_per_s: Option<f64>) -> Self {
        Self { round_trips: histogram(), msgs_per_s }
    }

    /// The median round trip, in nanoseconds; `None` if there was none.
    pub fn p50_ns(&self) -> Option<u64> {
        (!self.round_trips.is_empty()).then(|| self.round_trips.value_at_quantile(0.5))
    }

    /// What a worker sends to the coordinator.
    pub fn encode(figures: &Figures) -> Vec<u8> {
        let mut histogram = histogram();
        for &ns in &figures.round_trips_ns {
            histogram.saturating_record(ns.max(1));
        }
        let mut report = figures.msgs_per_s.unwrap_or(f64::NAN).to_le_bytes().to_vec();
        V2Serializer::new()
            .serialize(&histogram, &mut report)
            .expect("a vector takes all that is written");
        report
    }

    /// What the coordinator makes of it; `None` if it is no report.
    pub fn decode(report: &[u8]) -> Option<Self> {
        let (rate, mut round_trips) = report.split_first_chunk::<8>()?;
        let rate = f64::from_le_bytes(*rate);
        let round_trips = Deserializer::new().deserialize(&mut round_trips).ok()?;
        Some(Self { round_trips, msgs_per_s: (!rate.is_nan()).then_some(rate) })
    }
}

/// All rounds of one row.
#[derive(Debug, Default)]
pub struct Tally {
    pub rounds: Vec<Round>,
    /// Why there are no figures.
    pub skipped: Option<String>,
}

/// How many rounds there was time for.
pub fn rounds<'a>(tallies: impl IntoIterator<Item = &'a Tally>) -> usize {
    tallies.into_iter().map(|tally| tally.rounds.len()).max().unwrap_or_default()
}

impl Tally {
    /// The round trips of all rounds; `None` if there are none.
    pub fn round_trips(&self) -> Option<Histogram<u64>> {
        let mut all = histogram();
        for round in &self.rounds {
            all.add(&round.round_trips).expect("all histograms have the same bounds");
        }
        (!all.is_empty()).then_some(all)
    }

    /// The median of the rounds' rates.
    pub fn msgs_per_s(&self) -> Option<f64> {
        median(self.rounds.iter().filter_map(|round| round.msgs_per_s).collect())
    }

    /// The median round trip, in nanoseconds.
    pub fn p50_ns(&self) -> Option<u64> {
        self.round_trips().map(|all| all.value_at_quantile(0.5))
    }
}

/// The middle value, or the mean of the middle two.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(round_trips_ns: Vec<u64>, msgs_per_s: Option<f64>) -> Round {
        Round::decode(&Round::encode(&Figures { round_trips_ns, msgs_per_s })).unwrap()
    }

    #[test]
    fn a_report_survives_the_way_to_the_coordinator() {
        let round = round((1..=1000).collect(), Some(5e6));
        assert_eq!(round.round_trips.len(), 1000);
        assert_eq!(round.round_trips.value_at_quantile(0.5), 500);
        assert_eq!(round.round_trips.max(), 1000);
        assert_eq!(round.msgs_per_s, Some(5e6));
        assert!(Round::decode(b"short").is_none());
        assert!(Round::decode(b"long enough, and not a report").is_none());
    }

    #[test]
    fn rounds_add_up() {
        let rounds = vec![
            round(vec![100; 10], Some(3.0)),
            round(vec![200; 10], Some(1.0)),
            round(vec![200, 70_000_000_000], Some(2.0)),
        ];
        let tally = Tally { rounds, skipped: None };
        assert_eq!(tally.round_trips().unwrap().len(), 22);
        assert_eq!(tally.p50_ns(), Some(200));
        assert_eq!(tally.msgs_per_s(), Some(2.0));
        assert_eq!(Tally::default().p50_ns(), None);
        assert_eq!(Tally::default().msgs_per_s(), None);
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
