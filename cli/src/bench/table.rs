//! The report as text for people.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};

use super::bars::{Bar, Goal};
use super::machine::Machine;
use super::report::{Measured, Report};
use super::units;

const TITLES: [&str; 9] =
    ["transport", "wait", "p50", "p99", "p99.9", "max", "× floor", "messages", "bytes"];
/// Columns of words; the others hold figures and are aligned to the right.
const WORDS: usize = 2;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const OURS: Style = AnsiColor::Cyan.on_default().bold();
const MET: Style = AnsiColor::Green.on_default();
const MISSED: Style = AnsiColor::Red.on_default().bold();

/// The whole report. With escape sequences, which the stream that it is printed to removes where nobody wants them.
pub fn render(report: &Report) -> String {
    let mut out = head(report.annulus, &report.machine);
    let floor = &report.floor;
    let _ = writeln!(
        out,
        "floor, one cache line each way{}: p50 {}, p99 {}, p99.9 {}, max {}",
        // The limit of two processors, whatever the scheduler does with the others.
        if report.machine.cpus.is_none() { " on two processors" } else { "" },
        units::time(floor.p50 as f64),
        units::time(floor.p99 as f64),
        units::time(floor.p999 as f64),
        units::time(floor.max as f64)
    );
    let cells: Vec<_> = report.rows.iter().map(cells).collect();
    let widths = widths(&cells);
    let mut size = None;
    for (row, cells) in report.rows.iter().zip(&cells) {
        if size != Some(row.size) {
            size = Some(row.size);
            let left = widths[..WORDS].iter().sum::<usize>() + 2 * (WORDS - 1);
            let round_trip = widths[WORDS..WORDS + 5].iter().sum::<usize>() + 2 * 5;
            let rate = widths[WORDS + 5..].iter().sum::<usize>() + 2 * 2;
            let _ = writeln!(
                out,
                "\n{BOLD}{:<left$}{:>round_trip$}{:>rate$}{BOLD:#}",
                units::bytes(row.size),
                "round trip",
                "one way"
            );
            let _ = writeln!(out, "{DIM}{}{DIM:#}", line(&TITLES.map(String::from), &widths));
        }
        let _ = match (cells, &row.skipped) {
            (Ok(cells), _) if matches!(row.transport, "ring" | "bytes" | "stream") => {
                writeln!(out, "{OURS}{}{OURS:#}", line(cells, &widths))
            }
            (Ok(cells), _) => writeln!(out, "{}", line(cells, &widths)),
            (Err(words), reason) => {
                let words = format!("{:<2$}  {:<3$}", words[0], words[1], widths[0], widths[1]);
                writeln!(
                    out,
                    "{DIM}{words}  n/a: {}{DIM:#}",
                    reason.as_deref().unwrap_or("not measured")
                )
            }
        };
    }
    if let Some(bars) = &report.bars {
        goals(&mut out, &bars.goals);
    }
    let _ = writeln!(
        out,
        "\n{DIM}{}; every payload byte was checked. Took {:.0} s.{DIM:#}",
        match report.rounds {
            1 => "Round trips and rates of one round".into(),
            count => format!("Round trips of {}, rates are medians of them", units::rounds(count)),
        },
        report.seconds
    );
    out
}

/// What was measured, and where.
pub fn head(version: &str, machine: &Machine) -> String {
    let mut out = format!("{BOLD}annulus {version} bench{BOLD:#}\n");
    for line in machine.lines() {
        let _ = writeln!(out, "{line}");
    }
    if let Some(warning) = machine.warning() {
        let _ = writeln!(out, "{MISSED}{warning}{MISSED:#}");
    }
    out
}

fn goals(out: &mut String, goals: &[Bar]) {
    let _ = writeln!(out, "\n{BOLD}goals{BOLD:#}");
    let width = goals.iter().map(|bar| bar.what.chars().count()).max().unwrap_or(0);
    for bar in goals {
        let (word, style) = if bar.met { ("met   ", MET) } else { ("MISSED", MISSED) };
        let goal = match bar.goal {
            Goal::AtMost(limit) => format!("≤ {limit}"),
            Goal::AtLeast(limit) => format!("≥ {limit}"),
        };
        let _ = writeln!(
            out,
            "{style}{word}{style:#}  {:<width$}  {:>6} {} (goal {goal})  {DIM}{}{DIM:#}",
            bar.what,
            ratio(bar.measured),
            bar.unit,
            bar.from
        );
    }
}

/// The cells of a row, or only its words if it has no figures.
fn cells(row: &Measured) -> Result<[String; 9], [String; 2]> {
    let words = [row.transport.to_owned(), row.wait.to_owned()];
    let (Some(rtt), Some(over), Some(msgs), Some(bytes)) =
        (row.rtt_ns, row.rtt_over_floor, row.msgs_per_s, row.bytes_per_s)
    else {
        return Err(words);
    };
    let [transport, wait] = words;
    let time = |ns: u64| units::time(ns as f64);
    Ok([
        transport,
        wait,
        time(rtt.p50),
        time(rtt.p99),
        time(rtt.p999),
        time(rtt.max),
        ratio(over),
        units::rate(msgs),
        units::throughput(bytes),
    ])
}

/// A ratio with as many digits as it deserves.
pub fn ratio(value: f64) -> String {
    match value {
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

fn widths(rows: &[Result<[String; 9], [String; 2]>]) -> [usize; 9] {
    let mut widths = TITLES.map(|title| title.chars().count());
    for row in rows {
        let cells: &[String] = row.as_ref().map_or_else(|words| &words[..], |cells| &cells[..]);
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    widths
}

fn line(cells: &[String; 9], widths: &[usize; 9]) -> String {
    let mut line = String::new();
    for (at, (cell, &width)) in cells.iter().zip(widths).enumerate() {
        let gap = if at == 0 { "" } else { "  " };
        let _ = if at < WORDS {
            write!(line, "{gap}{cell:<width$}")
        } else {
            write!(line, "{gap}{cell:>width$}")
        };
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::example;

    #[test]
    fn columns_line_up_and_nothing_is_left_out() {
        let text = anstream::adapter::strip_str(&render(&example())).to_string();
        let lines: Vec<&str> = text.lines().collect();
        let at = lines.iter().position(|line| line.starts_with("ring")).unwrap();
        let end =
            |line: &str, text: &str| line[..line.find(text).unwrap() + text.len()].chars().count();
        assert_eq!(end(lines[at - 1], "messages"), end(lines[at], "240 M/s"));
        assert_eq!(end(lines[at - 1], "messages"), end(lines[at + 2], "3.70 M/s"));
        assert_eq!(end(lines[at - 1], "× floor"), end(lines[at], "1.10"));
        assert!(lines[at - 2].starts_with("8 B"));
        assert!(text.contains("sysv-queue"));
        assert!(text.contains("n/a: 65536 B exceed kernel.msgmax (8192)"));
        assert!(text.contains("floor, one cache line each way: p50 200 ns"));
        assert!(text.contains("\nRound trips of 3 rounds, rates are medians of them; every"));
        let quick = Report { rounds: 1, ..example() };
        assert!(render(&quick).contains("Round trips and rates of one round; every"));
    }

    #[test]
    fn ratios() {
        assert_eq!(ratio(1.0449), "1.04");
        assert_eq!(ratio(38.46), "38.5");
        assert_eq!(ratio(354.2), "354");
    }
}
