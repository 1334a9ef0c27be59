//! `annulus top`: what the rings on this machine do, again and again.

use crate::exit::{Failure, Outcome};
use crate::keys::Keys;
use crate::ls::{self, Found, colour};
use crate::output::{self, print, print_json, printable};
use crate::report::Report;
use crate::table::{self, Cell};
use crate::units;
use annulus::inspect;
use clap::Args;
use serde::Serialize;
use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// The shortest interval: more often nobody reads.
const SHORTEST: Duration = Duration::from_millis(10);
/// The key that ends it.
const QUIT: u8 = b'q';
/// Where the cursor starts, and what was there goes.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// Watch what the rings in /dev/shm do
///
/// Those with the most traffic first, again and again until q or Ctrl-C. A rate is that of the time between two looks.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct TopArgs {
    /// How long from one look to the next
    #[arg(short = 'd', long, value_name = "D", value_parser = interval, default_value = "1s")]
    interval: Duration,

    /// Look twice, print once
    #[arg(long)]
    once: bool,

    /// Print JSON arrays, with everything that `inspect` knows and the rates
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Examples:
  annulus top
  annulus top --once --json | jq '.[] | select(.sent_per_s > 1000) | .name'";

/// A ring, and what went through it lately.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    ring: Report,
    sent_per_s: f64,
    received_per_s: f64,
}

/// What was known of rings at a moment.
struct Before {
    at: Instant,
    /// By name: when it was created, and the messages sent and received by then.
    counts: HashMap<String, (u64, u64, u64)>,
}

pub fn run(args: &TopArgs) -> Outcome {
    let mut before = note(&look()?);
    let keys = if args.once || !io::stdout().is_terminal() { None } else { Keys::of_terminal() };
    loop {
        match &keys {
            Some(keys) if keys.is_pressed(QUIT, args.interval) => return Ok(()),
            Some(_) => {}
            None => std::thread::sleep(args.interval),
        }
        if output::is_unread() {
            return Err(Failure::unread());
        }
        let now = look()?;
        let noted = note(&now);
        let rows = rates(now, &before);
        before = noted;
        if args.json {
            print_json(&rows)?;
        } else {
            let clear = if !args.once && io::stdout().is_terminal() { CLEAR } else { "" };
            print(&format!("{clear}{}", text(&rows)))?;
        }
        if args.once {
            return Ok(());
        }
    }
}

/// An interval, in which something else can be done, too.
fn interval(text: &str) -> Result<Duration, String> {
    match units::parse_duration(text)? {
        interval if interval < SHORTEST => Err("too short; give at least 10ms".to_owned()),
        interval => Ok(interval),
    }
}

fn look() -> Outcome<Vec<Report>> {
    let names = inspect::list().map_err(|error| Failure::listing(&error))?;
    let found = names.iter().filter_map(|name| ls::look(name));
    Ok(found
        .filter_map(|found| match found {
            Found::Ring(ring) => Some(*ring),
            Found::Closed { .. } => None,
        })
        .collect())
}

fn note(rings: &[Report]) -> Before {
    let count = |ring: &Report| (ring.created_ns, ring.sent, ring.received);
    let counts = rings.iter().map(|ring| (ring.name.clone(), count(ring))).collect();
    Before { at: Instant::now(), counts }
}

fn rates(rings: Vec<Report>, before: &Before) -> Vec<Row> {
    let seconds = before.at.elapsed().as_secs_f64().max(1e-9);
    let mut rows: Vec<Row> = rings
        .into_iter()
        .map(|ring| {
            // One that was made anew under its name has begun from nothing.
            let known = before.counts.get(&ring.name);
            let known = known.filter(|(created, ..)| *created == ring.created_ns);
            let (sent, received) = known.map_or((0, 0), |(_, sent, received)| (*sent, *received));
            let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
            let (sent_per_s, received_per_s) =
                (rate(ring.sent, sent), rate(ring.received, received));
            Row { ring, sent_per_s, received_per_s }
        })
        .collect();
    rows.sort_by(|one, other| other.sent_per_s.total_cmp(&one.sent_per_s));
    rows
}

fn text(rows: &[Row]) -> String {
    let headings = [
        "NAME",
        "KIND",
        " SENT/S",
        " RECEIVED/S",
        " USED",
        " CAPACITY",
        " SENDERS",
        " RECEIVERS",
        "STATE",
    ];
    let cells: Vec<Vec<Cell>> = rows
        .iter()
        .map(|row| {
            let ring = &row.ring;
            vec![
                printable(&ring.name).into(),
                ring.kind.into(),
                format!("{:.0}", row.sent_per_s).into(),
                format!("{:.0}", row.received_per_s).into(),
                ring.amount(ring.used).into(),
                ring.amount(ring.capacity as u64).into(),
                ring.senders.to_string().into(),
                ring.receivers.to_string().into(),
                Cell { text: ring.state.to_owned(), style: colour(ring.state) },
            ]
        })
        .collect();
    table::render(&headings, &cells)
}
