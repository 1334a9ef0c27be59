//! The comparison as a table for a README.

use std::fmt::Write;

use super::report::{Line, Replacement, lines};
use super::table::{Figure, of_rounds, place, size};
use crate::bench::report::Report;
use crate::bench::table::ratio;
use crate::bench::units;

/// The whole report. A cell holds the replacement's figure, and how many times as fast that is as the original's.
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    for line in report.machine.lines() {
        let _ = writeln!(out, "{line}.");
    }
    let _ = writeln!(
        out,
        "{}, × is how many times as fast; floor, one cache line each way: {}.",
        of_rounds(report.rounds),
        units::time(report.floor.p50 as f64)
    );
    let all = report.replacements.as_deref().unwrap_or_default();
    for processors in [2, 1] {
        let lines = lines(all, processors);
        if lines.is_empty() {
            continue;
        }
        let mut place = place(processors).to_owned();
        place[..1].make_ascii_uppercase();
        let _ = writeln!(
            out,
            "\n{place}:\n\n| original | replacement | work | round trip | `Block` | `Adaptive` | one way, a second | `Block` | `Adaptive` |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
        );
        for line in &lines {
            row(&mut out, line);
        }
    }
    out
}

fn row(out: &mut String, line: &Line<'_>) {
    let Line { block, adaptive } = line;
    let size = size(block.size);
    let work =
        if size.is_empty() { block.work.to_owned() } else { format!("{}, {size}", block.work) };
    let _ = write!(out, "| {} | `{}` | {work} |", block.original, block.replacement);
    for figure in Figure::ALL {
        let [theirs, ..] = figure.of(block);
        let theirs = theirs.map_or("–".into(), |value| figure.show(value));
        let _ = write!(
            out,
            " {theirs} | {} | {} |",
            cell(figure, Some(block)),
            cell(figure, *adaptive)
        );
    }
    out.push('\n');
}

fn cell(figure: Figure, one: Option<&Replacement>) -> String {
    match one.map_or([None; 3], |one| figure.of(one)) {
        [_, Some(ours), Some(faster)] => format!("{}, {} ×", figure.show(ours), ratio(faster)),
        [_, Some(ours), None] => figure.show(ours),
        _ => "–".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::replacements::report::tests::compared;

    #[test]
    fn rows_have_as_many_cells_as_titles() {
        let text = render(&compared());
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(rows.len(), 2 * (2 + 2), "{text}");
        assert!(rows.iter().all(|row| row.matches('|').count() == 10), "{text}");
        assert_eq!(
            rows[2],
            "| pipe | `Stream` | bytes, 64 B | 2.00 µs | 1.00 µs, 2.00 × | 80 ns, 25.0 × | 2.00 M/s | 4.00 M/s, 2.00 × | 10.0 M/s, 5.00 × |"
        );
        assert!(
            rows[3].starts_with("| FIFO | `Stream` | bytes, 64 B | – | 1.00 µs |"),
            "{}",
            rows[3]
        );
    }
}
