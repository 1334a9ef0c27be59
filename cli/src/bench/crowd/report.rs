//! The result of a run with many processes: as `--json` prints it, and as a table.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::args::{Plan, Row};
use super::send::{Findings, STRIDE};
use crate::bench::machine::Machine;
use crate::bench::tally::median;
use crate::bench::units;
use crate::table::{self, Cell};

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
    /// The ring's topology.
    pub topology: &'static str,
    pub rows: Vec<Measured>,
}

/// One row with its figures.
#[derive(Debug, Serialize)]
pub struct Measured {
    pub transport: &'static str,
    pub wait: &'static str,
    /// Bytes of a message.
    pub size: usize,
    /// Messages in a call.
    pub batch: usize,
    pub senders: usize,
    pub receivers: usize,
    /// All processes shared one processor.
    pub one_cpu: bool,
    /// The median of the rounds.
    pub msgs_per_s: Option<f64>,
    pub bytes_per_s: Option<f64>,
    /// What the slowest sender had sent of its messages when the fastest had sent all: 1 if all are alike. The median
    /// of the rounds.
    pub least_share: Option<f64>,
    /// The longest that any sender took for 32 messages one after the other; the median of the rounds.
    pub slowest_32_ns: Option<f64>,
    /// The longest of all rounds.
    pub slowest_32_ns_worst: Option<f64>,
    /// Each sender's.
    pub per_sender: Vec<OfSender>,
    /// Single rounds, in order: the spread tells how much a figure can be trusted.
    pub rounds_msgs_per_s: Vec<f64>,
    /// Why there are no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

/// How one sender fared; medians of the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct OfSender {
    pub share: f64,
    pub slowest_32_ns: f64,
}

/// The rounds of one row.
#[derive(Debug, Default)]
pub struct Tally {
    /// What each sender found in each.
    pub rounds: Vec<Vec<Findings>>,
    /// Why there are none.
    pub skipped: Option<String>,
}

impl Tally {
    /// One figure of each round, from that of all senders in it.
    fn of_rounds(
        &self,
        figure: impl Fn(&Findings) -> f64,
        of_all: impl Fn(f64, f64) -> f64,
    ) -> Vec<f64> {
        let rounds = self.rounds.iter();
        rounds.filter_map(|round| round.iter().map(&figure).reduce(&of_all)).collect()
    }

    fn of_sender(&self, at: usize) -> OfSender {
        let median_of = |figure: fn(&Findings) -> f64| {
            median(self.rounds.iter().map(|round| figure(&round[at])).collect()).unwrap_or_default()
        };
        OfSender {
            share: median_of(|findings| findings.share),
            slowest_32_ns: median_of(|findings| findings.slowest_stride_ns),
        }
    }
}

impl Measured {
    pub fn of(plan: &Plan, row: &Row, tally: Tally) -> Self {
        let slowest = tally.of_rounds(|findings| findings.slowest_stride_ns, f64::max);
        let rates: Vec<f64> =
            tally.rounds.iter().flatten().filter_map(|findings| findings.msgs_per_s).collect();
        let senders = tally.rounds.first().map_or(0, Vec::len);
        let msgs_per_s = median(rates.clone());
        Self {
            transport: row.carrier.name(),
            wait: row.carrier.wait().name(),
            size: row.size,
            batch: row.batch,
            senders: plan.senders,
            receivers: plan.receivers,
            one_cpu: plan.one_cpu,
            msgs_per_s,
            bytes_per_s: msgs_per_s.map(|rate| rate * row.size as f64),
            least_share: median(tally.of_rounds(|findings| findings.share, f64::min)),
            slowest_32_ns_worst: slowest.iter().copied().reduce(f64::max),
            slowest_32_ns: median(slowest),
            per_sender: (0..senders).map(|at| tally.of_sender(at)).collect(),
            rounds_msgs_per_s: rates,
            skipped: tally.skipped,
        }
    }

    fn cells(&self) -> Vec<Cell> {
        let style = match self.transport {
            "ring" => AnsiColor::Cyan.on_default().bold(),
            _ => Style::new(),
        };
        let mut texts = vec![
            self.transport.to_owned(),
            self.wait.to_owned(),
            units::bytes(self.size),
            self.batch.to_string(),
            self.senders.to_string(),
            self.receivers.to_string(),
        ];
        match (self.msgs_per_s, self.least_share, self.slowest_32_ns, self.slowest_32_ns_worst) {
            (Some(rate), Some(share), Some(slowest), Some(worst)) => texts.extend([
                units::rate(rate),
                format!("{share:.2}"),
                units::time(slowest),
                units::time(worst),
                String::new(),
            ]),
            _ => {
                texts.extend(["-"; 4].map(String::from));
                texts.push(format!("n/a: {}", self.skipped.as_deref().unwrap_or("not measured")));
            }
        }
        texts.into_iter().map(|text| Cell { text, style }).collect()
    }
}

const TITLES: [&str; 11] = [
    "transport",
    "wait",
    " size",
    " batch",
    " senders",
    " receivers",
    " messages",
    " least share",
    " slowest 32",
    " worst",
    "",
];

/// The whole report as text. With escape sequences, as [`crate::bench::table::render`].
pub fn render(report: &Report) -> String {
    let mut out = crate::bench::table::head(report.annulus, &report.machine);
    let dim = Style::new().dimmed();
    let rows: Vec<_> = report.rows.iter().map(Measured::cells).collect();
    let _ = writeln!(out, "one ring of topology {}\n", report.topology);
    out.push_str(&table::render(&TITLES, &rows));
    let _ = writeln!(
        out,
        "\n{dim}least share: what the slowest sender had sent of its messages when the fastest had sent all; 1 if all are \
         alike.\nslowest {STRIDE}: the longest that any sender took for {STRIDE} messages one after the other, in the median \
         of the rounds, and\nin the worst. {}; every payload byte and every number was checked. Took {:.0} s.{dim:#}",
        match report.rounds {
            1 => "Rates of one round".into(),
            count => format!("Rates are medians of {}", units::rounds(count)),
        },
        report.seconds
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::link::Waiting;
    use crate::bench::rows::{Carrier, Own};
    use annulus::Topology;

    fn findings(share: f64, slowest_stride_ns: f64, msgs_per_s: Option<f64>) -> Findings {
        Findings { share, slowest_stride_ns, msgs_per_s }
    }

    #[test]
    fn the_figures_are_those_of_the_worst_sender_in_each_round() {
        let row = Row { carrier: Carrier::Own(Own::Ring, Waiting::Spin), size: 8, batch: 32 };
        let plan = Plan {
            senders: 2,
            receivers: 3,
            topology: Topology::Mpmc,
            rows: vec![row],
            one_cpu: false,
        };
        let rounds = vec![
            vec![findings(1.0, 10.0, Some(3e6)), findings(0.8, 40.0, None)],
            vec![findings(0.5, 20.0, Some(1e6)), findings(1.0, 50.0, None)],
            vec![findings(1.0, 30.0, Some(2e6)), findings(0.9, 5.0, None)],
        ];
        let tally = Tally { rounds, skipped: None };
        let measured = Measured::of(&plan, &row, tally);
        assert_eq!(measured.msgs_per_s, Some(2e6));
        assert_eq!(measured.least_share, Some(0.8));
        assert_eq!(measured.slowest_32_ns, Some(40.0));
        assert_eq!(measured.slowest_32_ns_worst, Some(50.0));
        assert_eq!(measured.per_sender[1].share, 0.9);
        assert_eq!(measured.per_sender[0].slowest_32_ns, 20.0);
        let cells: Vec<String> = measured.cells().into_iter().map(|cell| cell.text).collect();
        let expected = "ring spin 8_B 32 2 3 2.00_M/s 0.80 40_ns 50_ns ";
        assert_eq!(cells.join(" "), expected.replace('_', " "));
    }

    #[test]
    fn a_row_without_figures_says_why() {
        let row = Row { carrier: Carrier::Own(Own::Ring, Waiting::Spin), size: 9, batch: 1 };
        let plan = Plan {
            senders: 1,
            receivers: 1,
            topology: Topology::Spsc,
            rows: vec![row],
            one_cpu: true,
        };
        let tally = Tally { skipped: Some("too odd".into()), ..Tally::default() };
        let measured = Measured::of(&plan, &row, tally);
        assert_eq!(measured.msgs_per_s, None);
        assert!(measured.cells().last().unwrap().text.contains("too odd"));
    }
}
