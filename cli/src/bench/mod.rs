//! `annulus bench`: our rings and the kernel's transports, the same work for all of them, in one run.
//!
//! | file | what |
//! | --- | --- |
//! | `args` | the command line |
//! | `rows` | what is measured: transport, way of waiting, size |
//! | `run`, `schedule` | the rounds over all rows, and how they share the time |
//! | `crew`, `worker` | the two processes, and what happens when they fail |
//! | `measure`, `phases` | the loops: round trip and one way |
//! | `payload` | what messages carry, and the check of it |
//! | `link`, `links/` | the transports |
//! | `clock`, `shared`, `processors`, `machine` | the ground all this stands on |
//! | `tally`, `report` | figures of rounds, and the result |
//! | `table`, `chart`, `hgrm`, `units` | how it is shown |
//! | `bars`, `halves`, `idle` | the project's goals |
//! | `crowd/` | the same for many processes on one ring |
//! | `replacements/` | the kernel's mechanisms beside what replaces them |

mod args;
mod bars;
mod chart;
mod clock;
mod crew;
mod crowd;
mod halves;
mod hgrm;
mod idle;
mod link;
mod links;
mod machine;
mod measure;
mod payload;
mod phases;
mod processors;
mod replacements;
mod report;
mod rows;
mod run;
mod schedule;
mod shared;
mod table;
mod tally;
mod units;
mod worker;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

pub use args::BenchArgs;

use bars::{Bars, Floors};
use clock::Clock;
use crew::{Abort, Crew};
use machine::Machine;
use processors::Processors;
use report::{Measured, Report, RoundTrip};
use rows::{Carrier, Row};
use run::Bench;

use crate::exit::{Code, Failure, Outcome};

/// Runs the command.
pub fn run(args: &BenchArgs) -> Outcome {
    bench(args).map_err(|abort| match abort {
        // Whichever signal it was, as for the other verbs.
        Abort::Signal => Failure::interrupted(),
        Abort::Usage(text) => Failure::new(Code::Usage, text),
        Abort::Failed(text) => Failure::new(Code::Failure, text),
    })
}

fn bench(args: &BenchArgs) -> Result<(), Abort> {
    // Opened first: a path that cannot be written is reported before a minute has gone by.
    let hgrm = args
        .hgrm
        .as_deref()
        .map(|path| hgrm::Target::open(path).map_err(|error| unwritable(path, &error)))
        .transpose()?;
    let svg = args
        .svg
        .as_deref()
        .map(|path| File::create(path).map_err(|error| unwritable(path, &error)))
        .transpose()?;

    let begin = Instant::now();
    let load_before = machine::load();
    let processors = Processors::choose(!args.no_pin)?;
    let one_cpu = args.one_cpu || processors.single();
    let plan = crowd::Plan::of(args, one_cpu).map_err(Abort::Usage)?;
    let bench = Bench { crew: Crew::new()?, clock: Clock::calibrate(), processors };
    if let Some(plan) = plan {
        return crowd::bench(&bench, &plan, args.schedule(), args.json);
    }

    if args.all {
        let (floor, rounds, replacements) = replacements::bench(&bench, one_cpu, args.schedule())?;
        let report = Report {
            annulus: env!("CARGO_PKG_VERSION"),
            machine: Machine::describe(bench.clock, &bench.processors, 2, one_cpu, load_before),
            rounds,
            seconds: begin.elapsed().as_secs_f64(),
            floor_rtt_ns: floor.p50,
            floor,
            rows: Vec::new(),
            bars: None,
            replacements: Some(replacements),
        };
        draw(&report, svg, args)?;
        let table = match args.markdown {
            true => replacements::markdown::render,
            false => replacements::table::render,
        };
        return print(&report, args.json, table);
    }

    let mut rows = args.selection(one_cpu).rows();
    let shown = rows.len();
    if args.bars {
        let wanted = bars::rows(!one_cpu);
        let missing: Vec<_> = wanted.into_iter().filter(|row| !rows.contains(row)).collect();
        rows.extend(missing);
    }
    let floor_row = Row { carrier: Carrier::Floor, size: 8, one_cpu };
    let schedule = args.schedule();
    let progress = progress_bar(run::steps(&rows, schedule));
    let measured = run::run(&bench, &floor_row, &rows, schedule, |step, row| {
        progress.set_position(step as u64);
        progress.set_message(row.describe());
    });
    // Also before an error is printed: the line belongs to the terminal again.
    progress.finish_and_clear();
    let (floor_tally, tallies) = measured?;

    let floor = RoundTrip::of(&floor_tally)
        .ok_or_else(|| Abort::Failed("the floor was not measured".into()))?;
    let mut all: Vec<Measured> =
        rows.iter().zip(&tallies).map(|(row, tally)| Measured::of(row, tally, floor.p50)).collect();
    let extra = all.split_off(shown);
    let measured: Vec<_> = rows.iter().zip(&tallies).collect();
    let floors = Floors::of(&floor_tally, run::floors(&rows));
    let mut goals = halves::goals(&measured, &floors);
    if args.bars {
        let idle = idle::adaptive_waiter(&bench, one_cpu)?;
        goals.extend(bars::judge(&measured, &floors, Some(idle)));
    }
    let bars = (!goals.is_empty()).then_some(Bars { goals, rows: extra });
    let report = Report {
        annulus: env!("CARGO_PKG_VERSION"),
        machine: Machine::describe(bench.clock, &bench.processors, 2, one_cpu, load_before),
        rounds: tally::rounds(&tallies),
        seconds: begin.elapsed().as_secs_f64(),
        floor_rtt_ns: floor.p50,
        floor,
        rows: all,
        bars,
        replacements: None,
    };
    if let (Some(target), Some(path)) = (hgrm, &args.hgrm) {
        target
            .write(
                std::iter::once((&floor_row, &floor_tally))
                    .chain(rows.iter().zip(&tallies).take(shown)),
            )
            .map_err(|error| unwritable(path, &error))?;
    }
    draw(&report, svg, args)?;
    print(&report, args.json, table::render)
}

/// Draws the chart, if one was asked for.
fn draw(report: &Report, file: Option<File>, args: &BenchArgs) -> Result<(), Abort> {
    let (Some(mut file), Some(path)) = (file, &args.svg) else { return Ok(()) };
    let svg = chart::draw(report).map_err(|error| Abort::Failed(format!("the chart: {error}")))?;
    file.write_all(svg.as_bytes()).map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &io::Error) -> Abort {
    Abort::Failed(format!("{}: {error}", path.display()))
}

/// Prints the result. A reader that has gone is a quiet end, as for `annulus bench | head`.
fn print<R: Serialize>(report: &R, json: bool, table: fn(&R) -> String) -> Result<(), Abort> {
    let text = if json {
        let mut text = serde_json::to_string_pretty(report)
            .map_err(|error| Abort::Failed(error.to_string()))?;
        text.push('\n');
        text
    } else {
        table(report)
    };
    let mut out = anstream::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Abort::Failed(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// On standard error, and only if that is a terminal. It draws only when it is told of a step: no thread, which the
/// fork of the workers forbids, and nothing that runs beside a measurement.
fn progress_bar(steps: usize) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {percent:>3} %  {wide_msg}")
        .expect("the template is valid");
    let bar = ProgressBar::new(steps as u64);
    bar.set_style(style.progress_chars("━╸─"));
    bar
}
