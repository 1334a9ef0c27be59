//! The chart of `--all`: for each original and what replaces it a line from the one's figure to the other's.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::axis::{Log, round_bounds};
use super::{Area, Drawn, FAINT, Frame, GRID, INK, Weight, line, text};
use crate::bench::replacements::Replacement;
use crate::bench::replacements::report::{Line, lines};
use crate::bench::replacements::table::{Figure, place, size};
use crate::bench::table::ratio;

const LINE: i32 = 23;
const HEAD: i32 = 92;
const FOOT: i32 = 50;
/// Right edges of the columns of ratios.
const BLOCK: i32 = 945;
const ADAPTIVE: i32 = 1020;

const ORIGINAL: RGBColor = RGBColor(0x88, 0x88, 0x88);
const BLOCKING: RGBColor = RGBColor(0x00, 0x44, 0x88);
const ADAPTING: RGBColor = RGBColor(0xBB, 0x55, 0x66);

/// One figure of all contests in one place.
pub struct Panel<'a> {
    figure: Figure,
    processors: usize,
    lines: Vec<Line<'a>>,
}

impl<'a> Panel<'a> {
    /// Those with anything to show: round trips and rates on two processors if they were measured, or else on one.
    pub fn all(replacements: &'a [Replacement]) -> Vec<Self> {
        let processors = replacements.iter().map(|one| one.processors).max().unwrap_or(1);
        let panel = |figure: Figure| {
            let mut lines = lines(replacements, processors);
            lines.retain(|line| {
                let [theirs, ours, _] = figure.of(line.block);
                theirs.is_some() && ours.is_some()
            });
            Self { figure, processors, lines }
        };
        Figure::ALL.map(panel).into_iter().filter(|panel| !panel.lines.is_empty()).collect()
    }

    pub fn height(&self) -> i32 {
        HEAD + LINE * self.lines.len() as i32 + FOOT
    }

    pub fn draw(&self, area: &Area<'_>, top: i32) -> Drawn {
        let (name, better) = match self.figure {
            Figure::RoundTrip => ("Round trip, median", "less is better"),
            Figure::Rate => {
                ("One way: messages, turns, reads or writes a second", "more is better")
            }
        };
        let title = format!("{name}, {}", place(self.processors));
        text(area, &title, (40, top + 16), 18, INK, Weight::Bold, HPos::Left)?;
        text(area, better, (40, top + 38), 13, FAINT, Weight::Plain, HPos::Left)?;
        let frame = Frame {
            left: 420,
            top: top + HEAD,
            right: 860,
            bottom: top + HEAD + LINE * self.lines.len() as i32,
        };
        legend(area, (frame.left, top + 38))?;
        let above = top + HEAD - 14;
        text(
            area,
            "× faster",
            ((BLOCK + ADAPTIVE) / 2, above - 18),
            13,
            FAINT,
            Weight::Plain,
            HPos::Center,
        )?;
        text(area, "blocking", (BLOCK, above), 13, BLOCKING, Weight::Plain, HPos::Right)?;
        text(area, "adaptive", (ADAPTIVE, above), 13, ADAPTING, Weight::Plain, HPos::Right)?;
        let values = self.lines.iter().flat_map(|line| {
            let [theirs, block, _] = self.figure.of(line.block);
            let adaptive = line.adaptive.and_then(|one| self.figure.of(one)[1]);
            [theirs, block, adaptive].into_iter().flatten()
        });
        let (low, high) = round_bounds(values).unwrap_or((1.0, 10.0));
        let axis = Log::new((low, high), (frame.left, frame.right));
        for decade in axis.decades() {
            let x = axis.at(decade);
            line(area, vec![(x, frame.top), (x, frame.bottom)], GRID, 1)?;
            let label = self.figure.show(decade).replace(".00", "").replace(".0 ", " ");
            text(area, &label, (x, frame.bottom + 14), 12, FAINT, Weight::Plain, HPos::Center)?;
        }
        for (at, line) in (0..).zip(&self.lines) {
            self.draw_line(area, frame.top + LINE * at + LINE / 2, &axis, line)?;
        }
        Ok(())
    }

    fn draw_line(&self, area: &Area<'_>, y: i32, axis: &Log, row: &Line<'_>) -> Drawn {
        let Line { block, adaptive } = row;
        let names = format!("{} → {}", block.original, block.replacement);
        text(area, &names, (40, y), 13, INK, Weight::Plain, HPos::Left)?;
        let size = size(block.size);
        let work =
            if size.is_empty() { block.work.into() } else { format!("{}, {size}", block.work) };
        text(area, &work, (404, y), 12, FAINT, Weight::Plain, HPos::Right)?;
        let [theirs, blocking, faster] = self.figure.of(block);
        let [_, adapting, much_faster] = adaptive.map_or([None; 3], |one| self.figure.of(one));
        let (Some(theirs), Some(blocking)) = (theirs, blocking) else { return Ok(()) };
        let [theirs, blocking] = [theirs, blocking].map(|value| axis.at(value));
        let adapting = adapting.map(|value| axis.at(value));
        let places = [Some(theirs), Some(blocking), adapting];
        let (from, to) = places
            .iter()
            .flatten()
            .fold((theirs, theirs), |(low, high), &at| (low.min(at), high.max(at)));
        line(area, vec![(from, y), (to, y)], GRID, 3)?;
        if let Some(at) = adapting {
            area.draw(&Circle::new((at, y), 6, ADAPTING.filled()))?;
        }
        area.draw(&Circle::new((blocking, y), 6, BLOCKING.filled()))?;
        open_circle(area, (theirs, y))?;
        for (faster, edge, colour) in [(faster, BLOCK, BLOCKING), (much_faster, ADAPTIVE, ADAPTING)]
        {
            let words = faster.map(ratio).unwrap_or_default();
            let weight = if faster.is_some_and(|faster| faster >= 1.0) {
                Weight::Bold
            } else {
                Weight::Plain
            };
            text(area, &words, (edge, y), 13, colour, weight, HPos::Right)?;
        }
        Ok(())
    }
}

fn open_circle(area: &Area<'_>, at: (i32, i32)) -> Drawn {
    area.draw(&Circle::new(at, 5, WHITE.filled()))?;
    area.draw(&Circle::new(at, 5, ORIGINAL.stroke_width(2)))?;
    Ok(())
}

/// What the dots are.
fn legend(area: &Area<'_>, (left, y): (i32, i32)) -> Drawn {
    open_circle(area, (left, y))?;
    text(area, "original, blocking", (left + 12, y), 13, INK, Weight::Plain, HPos::Left)?;
    area.draw(&Circle::new((left + 140, y), 6, BLOCKING.filled()))?;
    text(area, "annulus, blocking", (left + 152, y), 13, INK, Weight::Plain, HPos::Left)?;
    area.draw(&Circle::new((left + 280, y), 6, ADAPTING.filled()))?;
    text(area, "annulus, adaptive", (left + 292, y), 13, INK, Weight::Plain, HPos::Left)
}
