//! The comparison as text for people: round trips and rates, on two processors and on one.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};

use super::report::{Line, Replacement, lines};
use crate::bench::report::Report;
use crate::bench::table::{head, ratio};
use crate::bench::units;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const FASTER: Style = AnsiColor::Green.on_default();
const SLOWER: Style = AnsiColor::Red.on_default();

const TITLES: [&str; 9] = [
    "original",
    "replacement",
    "work",
    "size",
    "original",
    "block",
    "× faster",
    "adaptive",
    "× faster",
];
/// Columns of words; the others hold figures and are aligned to the right.
const WORDS: usize = 3;
/// The columns of ratios.
const RATIOS: [usize; 2] = [6, 8];

/// What a section is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    RoundTrip,
    Rate,
}

impl Figure {
    pub const ALL: [Self; 2] = [Self::RoundTrip, Self::Rate];

    pub fn title(self) -> &'static str {
        match self {
            Self::RoundTrip => "round trip, median",
            Self::Rate => "one way, a second",
        }
    }

    /// Of the original, of the replacement, and how many times as fast that is.
    pub fn of(self, one: &Replacement) -> [Option<f64>; 3] {
        match self {
            Self::RoundTrip => [
                one.original_rtt_ns.map(|rtt| rtt.p50 as f64),
                one.rtt_ns.map(|rtt| rtt.p50 as f64),
                one.ratio.round_trip,
            ],
            Self::Rate => [one.original_msgs_per_s, one.msgs_per_s, one.ratio.rate],
        }
    }

    pub fn show(self, value: f64) -> String {
        match self {
            Self::RoundTrip => units::time(value),
            Self::Rate => units::rate(value),
        }
    }
}

/// The title of a section.
pub fn place(processors: usize) -> &'static str {
    if processors == 1 { "one processor" } else { "two processors" }
}

/// A size, if there is one.
pub fn size(bytes: usize) -> String {
    if bytes == 0 { String::new() } else { units::bytes(bytes) }
}

/// The whole report, with escape sequences as the other [`render`](crate::bench::table::render).
pub fn render(report: &Report) -> String {
    let mut out = head(report.annulus, &report.machine);
    let _ = writeln!(
        out,
        "floor, one cache line each way: p50 {}",
        units::time(report.floor.p50 as f64)
    );
    let all = report.replacements.as_deref().unwrap_or_default();
    for processors in [2, 1] {
        for figure in Figure::ALL {
            section(&mut out, all, processors, figure);
        }
    }
    let _ = writeln!(
        out,
        "\n{DIM}Originals block. {}; everything that arrived was checked. Took {:.0} s.{DIM:#}",
        of_rounds(report.rounds),
        report.seconds
    );
    out
}

/// What the figures are.
pub fn of_rounds(rounds: usize) -> String {
    match rounds {
        1 => "Figures of one round".into(),
        count => format!("Medians of {count} interleaved rounds"),
    }
}

fn section(out: &mut String, all: &[Replacement], processors: usize, figure: Figure) {
    let rows: Vec<[String; 9]> =
        lines(all, processors).iter().filter_map(|line| cells(line, figure)).collect();
    if rows.is_empty() {
        return;
    }
    let mut widths = TITLES.map(|title| title.chars().count());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let _ = writeln!(out, "\n{BOLD}{}: {}{BOLD:#}", place(processors), figure.title());
    let _ = writeln!(out, "{DIM}{}{DIM:#}", row(&TITLES.map(String::from), &widths, false));
    for cells in &rows {
        let _ = writeln!(out, "{}", row(cells, &widths, true));
    }
}

/// The cells of a line; none if it has no such figures. A reason why there are none stands for the original's.
fn cells(line: &Line<'_>, figure: Figure) -> Option<[String; 9]> {
    let Line { block, adaptive } = line;
    let show = |value: Option<f64>| value.map(|value| figure.show(value)).unwrap_or_default();
    let times = |value: Option<f64>| value.map(ratio).unwrap_or_default();
    let [theirs, ours, faster] = figure.of(block);
    let [_, adaptive, much_faster] = adaptive.map_or([None; 3], |one| figure.of(one));
    ours?;
    let theirs = if block.skipped.is_some() { "n/a".into() } else { show(theirs) };
    Some([
        block.original.into(),
        block.replacement.into(),
        block.work.into(),
        size(block.size),
        theirs,
        show(ours),
        times(faster),
        show(adaptive),
        times(much_faster),
    ])
}

fn row(cells: &[String; 9], widths: &[usize; 9], judged: bool) -> String {
    let mut line = String::new();
    for (at, (cell, &width)) in cells.iter().zip(widths).enumerate() {
        let gap = if at == 0 { "" } else { "  " };
        let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
        let style = match cell.parse::<f64>() {
            Ok(ratio) if judged && RATIOS.contains(&at) => {
                if ratio < 1.0 {
                    SLOWER
                } else {
                    FASTER
                }
            }
            _ => Style::new(),
        };
        let _ = if at < WORDS {
            write!(line, "{gap}{cell}{padding}")
        } else {
            write!(line, "{gap}{padding}{style}{cell}{style:#}")
        };
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::replacements::report::tests::compared;

    #[test]
    fn there_is_a_section_for_each_figure_in_each_place() {
        let text = anstream::adapter::strip_str(&render(&compared())).to_string();
        let lines: Vec<&str> = text.lines().collect();
        for place in ["two processors", "one processor"] {
            for figure in ["round trip, median", "one way, a second"] {
                assert!(lines.contains(&format!("{place}: {figure}").as_str()), "{text}");
            }
        }
        let pipe = lines.iter().find(|line| line.starts_with("pipe")).unwrap();
        let cells: Vec<&str> =
            pipe.split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect();
        assert_eq!(
            cells,
            ["pipe", "Stream", "bytes", "64 B", "2.00 µs", "1.00 µs", "2.00", "80 ns", "25.0"]
        );
        let fifo = lines.iter().find(|line| line.starts_with("FIFO")).unwrap();
        assert!(fifo.contains("n/a") && fifo.ends_with("80 ns"), "{fifo}");
        let end = |line: &str, text: &str| {
            line.find(text).map(|at| line[..at].chars().count() + text.chars().count())
        };
        let titles = lines.iter().find(|line| line.starts_with("original")).unwrap();
        assert_eq!(end(titles, "block"), end(pipe, "1.00 µs"));
    }
}
