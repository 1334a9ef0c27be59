//! The report as a picture: round trips above, rates below.
//!
//! Ours are drawn strong, the kernel's muted; every row is labelled where it is, so that nobody has to look up a colour. The
//! colours are from Paul Tol's schemes for colour-blind readers. `--all` has a [picture of its own](replacements).

mod axis;
mod rate;
mod replacements;
mod round_trip;

use std::error::Error;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::replacements::Replacement;
use super::report::{Measured, Report};
use super::units;

const WIDTH: u32 = 1060;
const HEADER: i32 = 108;
const FOOTER: i32 = 34;

const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const FAINT: RGBColor = RGBColor(0x77, 0x77, 0x77);
const GRID: RGBColor = RGBColor(0xE4, 0xE4, 0xE4);

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), Box<dyn Error>>;

/// A rectangle in pixels: left, top, right, bottom.
#[derive(Clone, Copy)]
struct Frame {
    left: i32,
    top: i32,
    right: i32,
    bottom: i32,
}

/// The chart as an SVG document.
pub fn draw(report: &Report) -> Result<String, Box<dyn Error>> {
    if let Some(replacements) = &report.replacements {
        return draw_replacements(report, replacements);
    }
    let round_trips = round_trip::Panel::new(report);
    let rates = rate::Panel::new(report);
    let first = HEADER + round_trips.height();
    let title = "Messages between two processes: annulus and the kernel's IPC";
    let note = "every payload byte written by the sender and checked by the receiver";
    document(report, title, note, first + rates.height(), |area| {
        round_trips.draw(area, HEADER)?;
        rates.draw(area, first)
    })
}

fn draw_replacements(
    report: &Report,
    replacements: &[Replacement],
) -> Result<String, Box<dyn Error>> {
    let panels = replacements::Panel::all(replacements);
    let bottom = HEADER + panels.iter().map(replacements::Panel::height).sum::<i32>();
    let title = "The kernel's IPC, and what annulus has instead";
    let note = "the same work for both in the same run; everything that arrived was checked";
    document(report, title, note, bottom, |area| {
        let mut top = HEADER;
        for panel in &panels {
            panel.draw(area, top)?;
            top += panel.height();
        }
        Ok(())
    })
}

/// A page with head and foot; what `draw` draws ends at `bottom`.
fn document(
    report: &Report,
    title: &str,
    note: &str,
    bottom: i32,
    draw: impl FnOnce(&Area<'_>) -> Drawn,
) -> Result<String, Box<dyn Error>> {
    let height = bottom + FOOTER;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height as u32)).into_drawing_area();
        area.fill(&WHITE)?;
        text(&area, title, (40, 34), 25, INK, Weight::Bold, HPos::Left)?;
        for (at, words) in (0..).zip(report.machine.lines()) {
            let words = shortened(&words, 150);
            text(&area, &words, (40, 62 + 18 * at), 13, FAINT, Weight::Plain, HPos::Left)?;
        }
        draw(&area)?;
        let rounds = units::rounds(report.rounds);
        let note = format!("annulus {} bench, {rounds}; {note}", report.annulus);
        text(&area, &note, (40, height - 18), 12, FAINT, Weight::Plain, HPos::Left)?;
        area.present()?;
    }
    Ok(svg)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Weight {
    Plain,
    Bold,
}

/// Text whose anchor is in its vertical middle.
fn text(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    size: i32,
    colour: RGBColor,
    weight: Weight,
    anchor: HPos,
) -> Drawn {
    let style = if weight == Weight::Bold { FontStyle::Bold } else { FontStyle::Normal };
    let font = ("sans-serif", size, style)
        .into_text_style(area)
        .color(&colour)
        .pos(Pos::new(anchor, VPos::Center));
    area.draw_text(text, &font, at)?;
    Ok(())
}

fn line(area: &Area<'_>, points: Vec<(i32, i32)>, colour: RGBColor, width: u32) -> Drawn {
    area.draw(&PathElement::new(points, colour.stroke_width(width)))?;
    Ok(())
}

/// A straight line of dashes.
fn dashes(
    area: &Area<'_>,
    from: (i32, i32),
    to: (i32, i32),
    colour: RGBColor,
    width: u32,
) -> Drawn {
    const DASH: f64 = 7.0;
    const GAP: f64 = 4.0;
    let (dx, dy) = (f64::from(to.0 - from.0), f64::from(to.1 - from.1));
    let length = dx.hypot(dy).max(1.0);
    let point = |along: f64| {
        let part = (along / length).min(1.0);
        (from.0 + (dx * part).round() as i32, from.1 + (dy * part).round() as i32)
    };
    let mut along = 0.0;
    while along < length {
        line(area, vec![point(along), point(along + DASH)], colour, width)?;
        along += DASH + GAP;
    }
    Ok(())
}

/// Ours is what the chart is about.
fn is_ours(row: &Measured) -> bool {
    matches!(row.transport, "ring" | "bytes" | "stream")
}

fn colour(transport: &str) -> RGBColor {
    match transport {
        // "High contrast".
        "ring" => RGBColor(0x00, 0x44, 0x88),
        "bytes" => RGBColor(0xBB, 0x55, 0x66),
        "stream" => RGBColor(0xB8, 0x86, 0x0B),
        // "Muted".
        "pipe" => RGBColor(0x11, 0x77, 0x33),
        "fifo" => RGBColor(0x44, 0xAA, 0x99),
        "unix-stream" => RGBColor(0x88, 0x22, 0x55),
        "unix-seqpacket" => RGBColor(0xAA, 0x44, 0x99),
        "sysv-queue" => RGBColor(0x99, 0x99, 0x33),
        "posix-queue" => RGBColor(0xC9, 0xA8, 0x3A),
        "eventfd" => RGBColor(0x55, 0x55, 0x55),
        _ => RGBColor(0x5F, 0xA8, 0xD3),
    }
}

/// As many characters as fit, with a sign that there were more.
fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::replacements::report::tests::compared;
    use crate::bench::report::tests::example;

    #[test]
    fn the_chart_names_what_was_measured_and_stays_inside_its_frame() {
        let svg = draw(&example()).unwrap();
        for words in ["ring", "bytes", "pipe", "floor", "Round trip", "One way", "Some Processor"] {
            assert!(svg.contains(words), "{words}");
        }
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn originals_and_replacements_are_drawn_side_by_side() {
        let svg = draw(&compared()).unwrap();
        for words in
            ["pipe → Stream", "bytes, 64 B", "Round trip", "One way", "25.0", "two processors"]
        {
            assert!(svg.contains(words), "{words}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        let nothing = Report { replacements: Some(vec![]), ..example() };
        draw(&nothing).unwrap();
    }

    #[test]
    fn a_run_without_figures_still_draws() {
        let mut report = example();
        report.rows.retain(|row| row.skipped.is_some());
        draw(&report).unwrap();
    }
}
