//! The upper panel: one line for each transport, from the median to the slowest of a thousand.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::axis::{Log, round_bounds};
use super::{Area, Drawn, FAINT, Frame, GRID, INK, Weight, colour, dashes, is_ours, line, text};
use crate::bench::report::{Measured, Report, RoundTrip};
use crate::bench::table::ratio;
use crate::bench::units;

/// The size that the panel shows, if it was measured.
const PREFERRED: usize = 64;
const LINE: i32 = 27;
const HEAD: i32 = 74;
const FOOT: i32 = 54;

pub struct Panel<'a> {
    size: usize,
    rows: Vec<(&'a Measured, RoundTrip)>,
    floor: f64,
}

impl<'a> Panel<'a> {
    pub fn new(report: &'a Report) -> Self {
        let sizes: Vec<usize> = report.rows.iter().map(|row| row.size).collect();
        let smallest = sizes.iter().copied().min().unwrap_or(PREFERRED);
        let size = if sizes.contains(&PREFERRED) { PREFERRED } else { smallest };
        let named = |row: &Measured| (row.transport, row.wait);
        let mut rows: Vec<(&Measured, RoundTrip)> = Vec::new();
        for row in &report.rows {
            let Some(rtt) = row.rtt_ns else { continue };
            // A transport that was not measured at this size shows the size that it has.
            let has_size =
                report.rows.iter().any(|other| named(other) == named(row) && other.size == size);
            if (row.size == size || !has_size)
                && !rows.iter().any(|(other, _)| named(other) == named(row))
            {
                rows.push((row, rtt));
            }
        }
        let first =
            |row: &Measured| report.rows.iter().position(|other| named(other) == named(row));
        rows.sort_by_key(|(row, _)| first(row));
        Self { size, rows, floor: report.floor_rtt_ns as f64 }
    }

    pub fn height(&self) -> i32 {
        HEAD + LINE * self.rows.len() as i32 + FOOT
    }

    pub fn draw(&self, area: &Area<'_>, top: i32) -> Drawn {
        let title = format!("Round trip of a {} message", units::bytes(self.size));
        text(area, &title, (40, top + 16), 18, INK, Weight::Bold, HPos::Left)?;
        let note = "dot: median, thick: to p99, thin: to p99.9";
        text(area, note, (40, top + 38), 13, FAINT, Weight::Plain, HPos::Left)?;
        let top = top + HEAD;
        let frame =
            Frame { left: 190, top, right: 800, bottom: top + LINE * self.rows.len() as i32 };
        text(area, "median", (900, top - 14), 13, FAINT, Weight::Plain, HPos::Right)?;
        text(area, "× floor", (985, top - 14), 13, FAINT, Weight::Plain, HPos::Right)?;

        let values = self.rows.iter().flat_map(|(_, rtt)| [rtt.p50 as f64, rtt.p999 as f64]);
        let (low, high) = round_bounds(values.chain([self.floor])).unwrap_or((100.0, 1e6));
        let axis = Log::new((low * 0.93, high), (frame.left, frame.right));
        for decade in axis.decades() {
            for step in [1.0, 2.0, 5.0] {
                let value = step * decade;
                let x = axis.at(value);
                if value <= high {
                    line(area, vec![(x, frame.top), (x, frame.bottom)], GRID, 1)?;
                    text(
                        area,
                        &label(value),
                        (x, frame.bottom + 14),
                        12,
                        FAINT,
                        Weight::Plain,
                        HPos::Center,
                    )?;
                }
            }
        }
        for step in [2.0, 5.0] {
            // Below the first power of ten.
            let value = step * 10f64.powf(low.log10().floor());
            if value >= low && value < axis.decades().first().copied().unwrap_or(0.0) {
                let x = axis.at(value);
                line(area, vec![(x, frame.top), (x, frame.bottom)], GRID, 1)?;
                text(
                    area,
                    &label(value),
                    (x, frame.bottom + 14),
                    12,
                    FAINT,
                    Weight::Plain,
                    HPos::Center,
                )?;
            }
        }
        for (at, (row, rtt)) in self.rows.iter().enumerate() {
            self.draw_row(area, frame.top + LINE * at as i32 + LINE / 2, &axis, row, rtt)?;
        }
        let x = axis.at(self.floor);
        dashes(area, (x, frame.top - 6), (x, frame.bottom), INK, 1)?;
        let floor = format!("floor: one cache line each way, {}", units::time(self.floor));
        text(area, &floor, (x + 2, frame.top - 14), 13, INK, Weight::Plain, HPos::Left)
    }

    fn draw_row(
        &self,
        area: &Area<'_>,
        y: i32,
        axis: &Log,
        row: &Measured,
        rtt: &RoundTrip,
    ) -> Drawn {
        let ours = is_ours(row);
        let colour = colour(row.transport);
        let weight = if ours { Weight::Bold } else { Weight::Plain };
        let mut name = if ours {
            format!("{}, {}", row.transport, row.wait)
        } else {
            row.transport.to_owned()
        };
        if row.size != self.size {
            name = format!("{name} ({})", units::bytes(row.size));
        }
        text(area, &name, (178, y), 14, INK, weight, HPos::Right)?;
        let [median, p99, p999] = [rtt.p50, rtt.p99, rtt.p999].map(|ns| axis.at(ns as f64));
        line(area, vec![(median, y), (p999, y)], colour, 2)?;
        line(area, vec![(p999, y - 5), (p999, y + 5)], colour, 2)?;
        line(area, vec![(median, y), (p99, y)], colour, if ours { 8 } else { 6 })?;
        area.draw(&Circle::new((median, y), if ours { 7 } else { 5 }, colour.filled()))?;
        text(area, &units::time(rtt.p50 as f64), (900, y), 14, INK, weight, HPos::Right)?;
        let over = row.rtt_over_floor.map(ratio).unwrap_or_default();
        text(area, &over, (985, y), 14, INK, weight, HPos::Right)
    }
}

/// An axis label without digits that say nothing.
fn label(ns: f64) -> String {
    match ns {
        ns if ns >= 1e6 => format!("{:.0} ms", ns / 1e6),
        ns if ns >= 1e3 => format!("{:.0} µs", ns / 1e3),
        ns => format!("{ns:.0} ns"),
    }
}
