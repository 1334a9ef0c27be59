//! `annulus doctor`: whether this machine has what rings need.
//!
//! | file | what |
//! | --- | --- |
//! | `memory` | the shared-memory directory, its room, huge pages |
//! | `kernel` | what the kernel offers |
//! | `process` | what this process may do, and who may take its rings away |

mod kernel;
mod memory;
mod process;

use crate::exit::{Code, Failure, Outcome};
use crate::output::{print, print_json};
use crate::table::{self, Cell};
use anstyle::{AnsiColor, Style};
use clap::Args;
use serde::Serialize;

/// Check whether this machine has what rings need, and what stands in for what it lacks
///
/// The exit code is 1 if something is missing that nothing stands in for.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// How serious it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    /// Only to be known.
    Note,
    /// Something else does the work, or something may go wrong one day.
    Warning,
    /// Rings do not work.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    status: Status,
    found: String,
    /// What stands in, or what to do.
    advice: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Diagnosis {
    annulus: &'static str,
    healthy: bool,
    checks: Vec<Check>,
}

impl Check {
    fn new(name: &'static str, status: Status, found: impl Into<String>) -> Self {
        Self { name, status, found: found.into(), advice: None }
    }

    fn advise(mut self, advice: &'static str) -> Self {
        self.advice = Some(advice);
        self
    }

    /// It is there, or `status` with `advice`.
    fn of(
        name: &'static str,
        result: Result<String, String>,
        status: Status,
        advice: &'static str,
    ) -> Self {
        match result {
            Ok(found) => Self::new(name, Status::Ok, found),
            Err(found) => Self::new(name, status, found).advise(advice),
        }
    }
}

pub fn run(args: &DoctorArgs) -> Outcome {
    let mut checks = memory::checks();
    checks.extend(kernel::checks());
    checks.extend(process::checks());
    let healthy = checks.iter().all(|check| check.status != Status::Missing);
    let diagnosis = Diagnosis { annulus: env!("CARGO_PKG_VERSION"), healthy, checks };
    if args.json {
        print_json(&diagnosis)?;
    } else {
        print(&text(&diagnosis))?;
    }
    if healthy {
        return Ok(());
    }
    let missing: Vec<_> = diagnosis
        .checks
        .iter()
        .filter(|check| check.status == Status::Missing)
        .map(|check| check.name)
        .collect();
    let text = format!("rings do not work here; missing: {}", missing.join(", "));
    Err(Failure::new(Code::Failure, text))
}

fn text(diagnosis: &Diagnosis) -> String {
    let rows: Vec<Vec<Cell>> = diagnosis
        .checks
        .iter()
        .map(|check| {
            let (word, style) = match check.status {
                Status::Ok => ("ok", AnsiColor::Green.on_default()),
                Status::Note => ("note", Style::new()),
                Status::Warning => ("warning", AnsiColor::Yellow.on_default()),
                Status::Missing => ("missing", AnsiColor::Red.on_default().bold()),
            };
            let found = match check.advice {
                Some(advice) => format!("{}; {advice}", check.found),
                None => check.found.clone(),
            };
            vec![check.name.into(), Cell { text: word.to_owned(), style }, found.into()]
        })
        .collect();
    table::render(&["CHECK", "STATUS", "FOUND"], &rows)
}
