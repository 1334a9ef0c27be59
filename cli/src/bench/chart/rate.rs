//! The lower panel: messages a second against their size, a line for each transport.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::axis::{Log, round_bounds, spread};
use super::{Area, Drawn, FAINT, Frame, GRID, INK, Weight, colour, dashes, is_ours, line, text};
use crate::bench::report::{Measured, Report};
use crate::bench::rows::OWN_LANDMARK;
use crate::bench::units;

const HEAD: i32 = 56;
const PLOT: i32 = 400;
const FOOT: i32 = 58;
/// Distance between names at the left.
const NAME: i32 = 18;

pub struct Panel<'a> {
    lines: Vec<Line<'a>>,
    sizes: Vec<usize>,
}

struct Line<'a> {
    name: String,
    transport: &'a str,
    ours: bool,
    dashed: bool,
    /// Size and rate, by size.
    points: Vec<(f64, f64)>,
}

impl<'a> Panel<'a> {
    pub fn new(report: &'a Report) -> Self {
        // Two sizes that fall together on this scale tell no more than one: a landmark of the table is left out.
        let has_64 = report.rows.iter().any(|row| row.size == 64);
        let shown = move |row: &&Measured| {
            row.msgs_per_s.is_some() && !(has_64 && row.size == OWN_LANDMARK)
        };
        let measured = || report.rows.iter().filter(shown);
        let mut lines: Vec<Line<'a>> = Vec::new();
        for row in measured().filter(|row| !is_ours(row) || worth_a_line(report, row)) {
            let dashed = is_ours(row) && row.wait == "block";
            let name = if is_ours(row) {
                format!("{}, {}", row.transport, row.wait)
            } else {
                row.transport.to_owned()
            };
            let point = (row.size as f64, row.msgs_per_s.unwrap_or(0.0));
            match lines.iter_mut().find(|line| line.name == name) {
                Some(line) => line.points.push(point),
                None => lines.push(Line {
                    name,
                    transport: row.transport,
                    ours: is_ours(row),
                    dashed,
                    points: vec![point],
                }),
            }
        }
        // Ours last, that is on top.
        lines.sort_by_key(|line| line.ours);
        let mut sizes: Vec<usize> = measured().map(|row| row.size).collect();
        sizes.sort_unstable();
        sizes.dedup();
        Self { lines, sizes }
    }

    pub fn height(&self) -> i32 {
        HEAD + PLOT + FOOT
    }

    pub fn draw(&self, area: &Area<'_>, top: i32) -> Drawn {
        let title = "One way: messages a second by size";
        text(area, title, (40, top + 16), 18, INK, Weight::Bold, HPos::Left)?;
        let frame = Frame { left: 210, top: top + HEAD, right: 900, bottom: top + HEAD + PLOT };
        let all = self.lines.iter().flat_map(|line| line.points.iter().map(|point| point.1));
        let (low, high) = round_bounds(all).unwrap_or((1e3, 1e9));
        let y = Log::new((low, high), (frame.bottom, frame.top));
        let first = self.sizes.first().copied().unwrap_or(8) as f64;
        let last = self.sizes.last().copied().unwrap_or(8) as f64;
        let x = Log::new((first / 1.15, last * 1.15), (frame.left, frame.right));
        for decade in y.decades() {
            let at = y.at(decade);
            line(area, vec![(frame.left, at), (frame.right, at)], GRID, 1)?;
            let place = (frame.right + 12, at);
            text(area, &label(decade), place, 12, FAINT, Weight::Plain, HPos::Left)?;
        }
        for &size in &self.sizes {
            let at = x.at(size as f64);
            line(area, vec![(at, frame.top), (at, frame.bottom)], GRID, 1)?;
            let place = (at, frame.bottom + 14);
            text(area, &units::bytes(size), place, 12, FAINT, Weight::Plain, HPos::Center)?;
        }
        let place = ((frame.left + frame.right) / 2, frame.bottom + 34);
        text(area, "size of a message", place, 13, FAINT, Weight::Plain, HPos::Center)?;
        for line in &self.lines {
            line.draw(area, &x, &y)?;
        }
        self.draw_names(area, frame, &x, &y)
    }

    /// Each line's name to the left of its beginning, where rates are farthest apart.
    fn draw_names(&self, area: &Area<'_>, frame: Frame, x: &Log, y: &Log) -> Drawn {
        let start =
            |line: &Line<'_>| line.points.first().map_or((0, 0), |at| (x.at(at.0), y.at(at.1)));
        let wanted: Vec<i32> = self.lines.iter().map(|line| start(line).1).collect();
        let places = spread(&wanted, NAME, frame.top, frame.bottom);
        for (row, place) in self.lines.iter().zip(places) {
            let colour = colour(row.transport);
            let weight = if row.ours { Weight::Bold } else { Weight::Plain };
            let (from, edge) = (start(row), frame.left - 18);
            let leader = vec![(from.0 - 7, from.1), (edge, place), (edge - 8, place)];
            line(area, leader, colour, 1)?;
            text(area, &row.name, (edge - 14, place), 14, colour, weight, HPos::Right)?;
        }
        Ok(())
    }
}

impl Line<'_> {
    fn draw(&self, area: &Area<'_>, x: &Log, y: &Log) -> Drawn {
        let colour = colour(self.transport);
        let points: Vec<(i32, i32)> =
            self.points.iter().map(|point| (x.at(point.0), y.at(point.1))).collect();
        let width = if self.ours { 3 } else { 2 };
        if self.dashed {
            for pair in points.windows(2) {
                dashes(area, pair[0], pair[1], colour, width)?;
            }
        } else {
            line(area, points.clone(), colour, width)?;
        }
        for point in points {
            area.draw(&Circle::new(point, if self.ours { 5 } else { 3 }, colour.filled()))?;
        }
        Ok(())
    }
}

/// Spinning and adaptive waiting coincide while messages flow: of ours, the default and blocking are drawn.
fn worth_a_line(report: &Report, row: &Measured) -> bool {
    let has = |wait: &str| {
        report.rows.iter().any(|other| other.transport == row.transport && other.wait == wait)
    };
    row.wait != "spin" || !has("adaptive")
}

fn label(per_s: f64) -> String {
    match per_s {
        rate if rate >= 1e9 => format!("{:.0} G/s", rate / 1e9),
        rate if rate >= 1e6 => format!("{:.0} M/s", rate / 1e6),
        rate if rate >= 1e3 => format!("{:.0} k/s", rate / 1e3),
        rate => format!("{rate:.0} /s"),
    }
}
