//! The result of a run, in the shape in which `--json` prints it.

use serde::Serialize;

use super::machine::Machine;
use super::rows::Row;
use super::tally::Tally;

/// Everything that a run found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The version of this program.
    pub annulus: &'static str,
    pub machine: Machine,
    /// As many as there was time for.
    pub rounds: usize,
    /// How long the run took.
    pub seconds: f64,
    /// The median round trip of one cache line each way, the unit of `rtt_over_floor`.
    pub floor_rtt_ns: u64,
    pub floor: RoundTrip,
    pub rows: Vec<Measured>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bars: Option<super::bars::Bars>,
    /// What `--all` measures instead of `rows`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replacements: Option<Vec<super::replacements::Replacement>>,
}

/// One row with its figures.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    pub transport: &'static str,
    pub wait: &'static str,
    /// Bytes of a message.
    pub size: usize,
    /// Both processes shared one processor.
    pub one_cpu: bool,
    pub rtt_ns: Option<RoundTrip>,
    pub rtt_over_floor: Option<f64>,
    pub msgs_per_s: Option<f64>,
    pub bytes_per_s: Option<f64>,
    /// Single rounds, in order: the spread tells how much a figure can be trusted.
    pub rounds: Vec<RoundFigures>,
    /// Why there are no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

/// Percentiles of all round trips of a row, in nanoseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RoundTrip {
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
    /// How many were timed.
    pub count: u64,
}

/// What one round found.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RoundFigures {
    pub rtt_p50_ns: Option<u64>,
    pub msgs_per_s: Option<f64>,
}

impl RoundTrip {
    pub fn of(tally: &Tally) -> Option<Self> {
        let all = tally.round_trips()?;
        Some(Self {
            p50: all.value_at_quantile(0.5),
            p99: all.value_at_quantile(0.99),
            p999: all.value_at_quantile(0.999),
            max: all.max(),
            count: all.len(),
        })
    }
}

impl Measured {
    pub fn of(row: &Row, tally: &Tally, floor_rtt_ns: u64) -> Self {
        let rtt_ns = RoundTrip::of(tally);
        let msgs_per_s = tally.msgs_per_s();
        let rounds = tally
            .rounds
            .iter()
            .map(|round| RoundFigures { rtt_p50_ns: round.p50_ns(), msgs_per_s: round.msgs_per_s });
        Self {
            transport: row.carrier.name(),
            wait: row.carrier.wait().name(),
            size: row.size,
            one_cpu: row.one_cpu,
            rtt_ns,
            rtt_over_floor: rtt_ns.map(|rtt| rtt.p50 as f64 / floor_rtt_ns.max(1) as f64),
            msgs_per_s,
            bytes_per_s: msgs_per_s.map(|rate| rate * row.size as f64),
            rounds: rounds.collect(),
            skipped: tally.skipped.clone(),
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::bench::link::Waiting;
    use crate::bench::measure::Figures;
    use crate::bench::rows::{Carrier, Kernel, Own};
    use crate::bench::tally::Round;

    /// A small run, as if it had been measured.
    pub fn example() -> Report {
        let tally = |ns: u64, rate: f64| Tally {
            rounds: [9, 10, 11]
                .map(|tenths| {
                    let figures = Figures {
                        round_trips_ns: vec![ns, ns, ns * tenths],
                        msgs_per_s: Some(rate * tenths as f64 / 10.0),
                    };
                    Round::decode(&Round::encode(&figures)).unwrap()
                })
                .into(),
            skipped: None,
        };
        let skipped =
            Tally { rounds: vec![], skipped: Some("65536 B exceed kernel.msgmax (8192)".into()) };
        let row = |carrier, size| Row { carrier, size, one_cpu: false };
        let floor = tally(200, 0.0);
        let rows = [
            (row(Carrier::Own(Own::Ring, Waiting::Spin), 8), tally(220, 240e6)),
            (row(Carrier::Own(Own::Bytes, Waiting::Adaptive), 8), tally(230, 98e6)),
            (row(Carrier::Kernel(Kernel::Pipe), 8), tally(8500, 3.7e6)),
            (row(Carrier::Kernel(Kernel::SysvQueue), 65_536), skipped),
        ];
        Report {
            annulus: "0.0.0",
            machine: Machine {
                processor: "Some Processor".into(),
                processors_online: 2,
                virtual_machine: true,
                kernel: "Linux 6.0".into(),
                clock: "time-stamp counter",
                load_before: 0.5,
                cpus: Some(vec![0, 1]),
                relation: "two cores of one socket",
            },
            rounds: 3,
            seconds: 41.5,
            floor_rtt_ns: 200,
            floor: RoundTrip::of(&floor).unwrap(),
            rows: rows.iter().map(|(row, tally)| Measured::of(row, tally, 200)).collect(),
            bars: None,
            replacements: None,
        }
    }

    #[test]
    fn json_has_the_promised_fields() {
        let json: serde_json::Value = serde_json::to_value(example()).unwrap();
        assert_eq!(json["floor_rtt_ns"], 200);
        assert_eq!(json["machine"]["cpus"], serde_json::json!([0, 1]));
        let row = &json["rows"][0];
        assert_eq!(
            (&row["transport"], &row["wait"], &row["size"]),
            (&"ring".into(), &"spin".into(), &8.into())
        );
        assert_eq!(row["rtt_ns"]["p50"], 220);
        for key in ["p99", "p999", "max"] {
            assert!(row["rtt_ns"][key].as_u64().unwrap() >= 220, "{key}");
        }
        assert_eq!(row["msgs_per_s"], 240e6);
        assert!((row["rtt_over_floor"].as_f64().unwrap() - 1.1).abs() < 1e-9);
        assert_eq!(row.get("skipped"), None);
        let skipped = &json["rows"][3];
        assert!(skipped["rtt_ns"].is_null() && skipped["msgs_per_s"].is_null());
        assert_eq!(skipped["skipped"], "65536 B exceed kernel.msgmax (8192)");
    }
}
