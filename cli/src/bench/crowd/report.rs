//! The result of a run with many processes: as `--json` prints it, and as a table.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::args::{Plan, Row};
use super::send::{Findings, STRIDE, Stretch};
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
    /// The median of all stretches.
    pub msgs_per_s: Option<f64>,
    pub bytes_per_s: Option<f64>,
    /// What the slowest sender had sent of its messages when the fastest had sent all: 1 if all are alike. The median
    /// of all stretches.
    pub least_share: Option<f64>,
    /// The longest that any sender took for 32 messages one after the other; the median of all stretches.
    pub slowest_32_ns: Option<f64>,
    /// The longest of all stretches.
    pub slowest_32_ns_worst: Option<f64>,
    /// Each sender's.
    pub per_sender: Vec<OfSender>,
    /// Single stretches: the spread tells how much a figure can be trusted.
    pub stretches_msgs_per_s: Vec<f64>,
    /// Why there are no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

/// How one sender fared; medians of all stretches.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct OfSender {
    pub share: f64,
    pub slowest_32_ns: f64,
}

/// The rounds of one row.
#[derive(Debug, Default)]
pub struct Tally {
    rates: Vec<f64>,
    /// Each sender's stretches.
    senders: Vec<Vec<Stretch>>,
    /// Why there are none.
    pub skipped: Option<String>,
}

impl Tally {
    /// Adds what all senders found in one round.
    pub fn add(&mut self, round: Vec<Findings>) {
        self.senders.resize_with(round.len(), Vec::new);
        for (all, findings) in self.senders.iter_mut().zip(round) {
            all.extend(findings.stretches);
            self.rates.extend(findings.rates);
        }
    }

    /// One figure of each stretch, from that of all senders in it.
    fn of_stretches(
        &self,
        figure: impl Fn(&Stretch) -> f64,
        of_all: impl Fn(f64, f64) -> f64,
    ) -> Vec<f64> {
        let stretch = |at: usize| {
            self.senders.iter().filter_map(|all| all.get(at)).map(&figure).reduce(&of_all)
        };
        (0..self.rates.len()).filter_map(stretch).collect()
    }
}

impl Measured {
    pub fn of(plan: &Plan, row: &Row, tally: Tally) -> Self {
        let slowest = tally.of_stretches(|stretch| stretch.slowest_stride_ns, f64::max);
        let msgs_per_s = median(tally.rates.clone());
        let median_of = |stretches: &[Stretch], figure: fn(&Stretch) -> f64| {
            median(stretches.iter().map(figure).collect()).unwrap_or_default()
        };
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
            least_share: median(tally.of_stretches(|stretch| stretch.share, f64::min)),
            slowest_32_ns_worst: slowest.iter().copied().reduce(f64::max),
            slowest_32_ns: median(slowest),
            per_sender: tally
                .senders
                .iter()
                .map(|stretches| OfSender {
                    share: median_of(stretches, |stretch| stretch.share),
                    slowest_32_ns: median_of(stretches, |stretch| stretch.slowest_stride_ns),
                })
                .collect(),
            stretches_msgs_per_s: tally.rates,
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
         of the stretches, and\nin the worst. Rates are medians of the stretches; every payload byte and every number was \
         checked. Took {:.0} s.{dim:#}",
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

    fn findings(figures: [(f64, f64); 3], rates: &[f64]) -> Findings {
        let stretch = |(share, slowest_stride_ns)| Stretch { share, slowest_stride_ns };
        Findings { stretches: figures.map(stretch).into(), rates: rates.to_vec() }
    }

    #[test]
    fn the_figures_are_those_of_the_worst_sender_in_each_stretch() {
        let row = Row { carrier: Carrier::Own(Own::Ring, Waiting::Spin), size: 8, batch: 32 };
        let plan = Plan {
            senders: 2,
            receivers: 3,
            topology: Topology::Mpmc,
            rows: vec![row],
            one_cpu: false,
        };
        let mut tally = Tally::default();
        tally.add(vec![
            findings([(1.0, 10.0), (0.5, 20.0), (1.0, 30.0)], &[3e6, 1e6, 2e6]),
            findings([(0.8, 40.0), (1.0, 50.0), (0.9, 5.0)], &[]),
        ]);
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
