//! `annulus ls`: the rings on this machine.

use crate::exit::{Failure, Outcome};
use crate::output::{print, print_json, printable};
use crate::report::Report;
use crate::ring::place;
use crate::table::{self, Cell};
use crate::{calendar, units};
use annulus::SetupError;
use annulus::inspect::{self, Snapshot};
use anstyle::{AnsiColor, Style};
use clap::Args;
use serde::Serialize;

/// List the rings in /dev/shm
///
/// A ring is live if somebody sends or receives, idle if somebody has it open, and stale if nobody has:
/// its users were killed, or it waits for its first ones, or it is persistent. What looks like a ring and
/// is none is listed as broken, and what we may not read as unreadable, with the reason.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct LsArgs {
    /// Also show sizes, owner, mode, age, traffic and label
    #[arg(short, long)]
    long: bool,

    /// Print a JSON array, with everything that `inspect` knows
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Examples:
  annulus ls
  annulus ls --json | jq -r '.[] | select(.state == \"stale\") | .name'";

/// What is found under a name.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Found {
    Ring(Box<Report>),
    /// What cannot be looked at: it is `broken`, or `unreadable` for us.
    Closed {
        name: String,
        state: &'static str,
        error: String,
    },
}

pub fn run(args: &LsArgs) -> Outcome {
    let names = inspect::list().map_err(|error| Failure::listing(&error))?;
    let all: Vec<Found> = names.iter().filter_map(|name| look(name)).collect();
    if args.json {
        return print_json(&all);
    }
    let mut headings =
        vec!["NAME", "KIND", "TOPOLOGY", " CAPACITY", " USED", " SENDERS", " RECEIVERS"];
    if args.long {
        headings.extend([" MESSAGE", " SIZE", "MODE", "OWNER", "CREATED", " SENT", " RECEIVED"]);
    }
    headings.push("STATE");
    if args.long {
        headings.push("LABEL");
    }
    if all.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = all.iter().map(|found| row(found, args.long)).collect();
    print(&table::render(&headings, &rows))
}

/// What this name is, unless it has gone.
pub fn look(name: &str) -> Option<Found> {
    let closed = |state, error| Found::Closed { name: name.to_owned(), state, error };
    let Ok(place) = place(name) else {
        return Some(closed("broken", "the name cannot be a ring's".to_owned()));
    };
    match Snapshot::open(&place) {
        Ok(snapshot) => Some(Found::Ring(Box::new(Report::new(name, snapshot)))),
        // It went while we looked.
        Err(SetupError::NotFound) => None,
        Err(error @ SetupError::PermissionDenied) => Some(closed("unreadable", error.to_string())),
        Err(error) => Some(closed("broken", error.to_string())),
    }
}

fn row(found: &Found, long: bool) -> Vec<Cell> {
    let ring = match found {
        Found::Ring(ring) => ring,
        Found::Closed { name, state, error } => {
            let text = format!("{state}: {error}");
            return vec![printable(name).into(), Cell { text, style: colour(state) }];
        }
    };
    let mut row: Vec<Cell> = vec![
        printable(&ring.name).into(),
        ring.kind.into(),
        ring.topology.into(),
        ring.amount(ring.capacity as u64).into(),
        ring.amount(ring.used).into(),
        ring.senders.to_string().into(),
        ring.receivers.to_string().into(),
    ];
    if long {
        row.extend([
            units::bytes(ring.message_size as u64).into(),
            units::bytes(ring.size).into(),
            ring.mode.clone().into(),
            ring.owner().into(),
            calendar::utc(ring.created_ns).into(),
            ring.sent.to_string().into(),
            Cell::from(ring.received.to_string()),
        ]);
    }
    let mut state = ring.state.to_owned();
    if ring.persistent {
        state.push_str(", persistent");
    }
    row.push(Cell { text: state, style: colour(ring.state) });
    if long {
        row.push(printable(&ring.label).into());
    }
    row
}

/// The colour of a state.
pub fn colour(state: &str) -> Style {
    match state {
        "live" | "alive" => AnsiColor::Green.on_default(),
        "stale" | "died" => AnsiColor::Yellow.on_default(),
        "broken" => AnsiColor::Red.on_default(),
        _ => Style::new(),
    }
}
