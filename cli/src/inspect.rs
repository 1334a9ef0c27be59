//! `annulus inspect`: everything about one ring.

use crate::exit::{Failure, Outcome};
use crate::ls::colour;
use crate::output::{print, print_json, printable};
use crate::report::{Member, Report};
use crate::ring::place;
use crate::{calendar, units};
use annulus::inspect::Snapshot;
use clap::Args;
use std::fmt::Write;

/// Show everything about a ring, without joining it
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct InspectArgs {
    /// The ring: a name in /dev/shm, or a path if it contains a slash
    name: String,

    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Examples:
  annulus inspect q
  annulus inspect q --json | jq .participants";

pub fn run(args: &InspectArgs) -> Outcome {
    let snapshot =
        Snapshot::open(&place(&args.name)?).map_err(|error| Failure::setup(&args.name, &error))?;
    let report = Report::new(&args.name, snapshot);
    if args.json { print_json(&report) } else { print(&text(&report)) }
}

fn text(ring: &Report) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{:<14}{value}", format!("{name}:"));
    };
    let style = colour(ring.state);
    line("name", printable(&ring.name));
    line("state", format!("{style}{}{style:#}", ring.state));
    let order = if ring.ordered { ", in order" } else { "" };
    match is_ring(ring) {
        true => line("kind", format!("{}, {}{order}", ring.kind, ring.topology)),
        false => line("kind", ring.kind.to_owned()),
    }
    if !has_messages(ring) {
        line("value", value(ring));
    }
    let what = match ring.kind {
        "bytes" | "mailbox" | "byte-broadcast" => "longest message",
        _ => "message",
    };
    let unit = if ring.kind == "bytes" { "" } else { " messages" };
    let has_lanes = ring.kind == "bytes" && ring.table > 0;
    let each = match ring.kind {
        "mailbox" => format!(" of each of {} types", ring.by_type.len()),
        _ if has_lanes => " for each sender".to_owned(),
        _ => String::new(),
    };
    if has_messages(ring) {
        line("capacity", format!("{}{unit}{each}", ring.amount(ring.capacity as u64)));
        let size = units::bytes(ring.message_size as u64);
        line(
            "messages",
            match what {
                "longest message" => format!("{what} {size}"),
                _ => format!("{what} {size}, aligned to {}", ring.message_align),
            },
        );
    }
    line("label", if ring.label.is_empty() { "none".to_owned() } else { printable(&ring.label) });
    line("lifetime", lifetime(ring).to_owned());
    let pages = if ring.huge_pages { ", in huge pages" } else { "" };
    line(
        "segment",
        format!("{}, layout version {}{pages}", units::bytes(ring.size), ring.layout_version),
    );
    line("file", format!("mode {}, owner {}", ring.mode, ring.owner()));
    if let Some(attached) = ring.attached {
        line("opened by", attached.to_string());
    }
    if !ring.metadata.is_empty() {
        line("metadata", ring.metadata.clone());
    }
    line("created", format!("{} by process {}", calendar::utc(ring.created_ns), ring.creator));
    if has_messages(ring) {
        let used = ring.amount(ring.used);
        match is_broadcast(ring) {
            true => line("behind", format!("{} at most", units::messages(ring.used))),
            false => {
                let of = if ring.by_type.is_empty() { "" } else { " of one type" };
                line("used", format!("{used}{unit}, at most {}{of}", ring.amount(ring.high_water)));
            }
        }
        for (waiting, kind) in ring.by_type.iter().zip(1..).filter(|(waiting, _)| **waiting > 0) {
            line(&format!("type {kind}"), units::messages(*waiting));
        }
        line("sent", units::messages(ring.sent));
        line("received", units::messages(ring.received));
    }
    line("sleeps", format!("{}, wakes {}, repairs {}", ring.waits, ring.wakes, ring.repairs));
    if has_lanes {
        line("lanes", format!("{} of {}", ring.senders, ring.table));
    } else if ring.version.is_some() || is_broadcast(ring) {
        line("receivers", format!("{} of {}", ring.receivers, ring.table));
    } else if ring.table > 0 {
        let there = ring.senders + ring.receivers;
        line("participants", format!("{there} of {}", ring.table));
        if has_messages(ring) {
            line("redelivered", units::messages(ring.redelivered));
        }
    }
    if !is_ring(ring) {
        ring.participants.iter().for_each(|member| line("holder", participant(member)));
        return text;
    }
    for (role, passed) in [("sender", ring.sent), ("receiver", ring.received)] {
        let mut members = ring.participants.iter().filter(|member| member.role == role).peekable();
        if members.peek().is_none() {
            // Where there are many, one's place is given to the next one.
            line(role, if passed > 0 { "nobody now" } else { "nobody yet" }.to_owned());
        }
        members.for_each(|member| line(role, participant(member)));
    }
    text
}

/// Whether it has senders and receivers.
fn is_ring(ring: &Report) -> bool {
    !matches!(ring.kind, "semaphore" | "event")
}

/// Whether what is sent waits to be received.
fn has_messages(ring: &Report) -> bool {
    is_ring(ring) && ring.version.is_none()
}

fn is_broadcast(ring: &Report) -> bool {
    matches!(ring.kind, "broadcast" | "byte-broadcast")
}

/// What a semaphore, an event or a variable has instead of messages.
fn value(ring: &Report) -> String {
    if let Some(version) = ring.version {
        let size = units::bytes(ring.message_size as u64);
        return format!("version {version}, of {size} aligned to {}", ring.message_align);
    }
    if ring.kind == "semaphore" {
        return format!("{} of {} permits are free", ring.value, ring.capacity);
    }
    let raised: Vec<String> =
        (0..64).filter(|flag| ring.value >> flag & 1 == 1).map(|flag| flag.to_string()).collect();
    match raised.as_slice() {
        [] => "no flag is raised".to_owned(),
        flags => format!("raised: {}", flags.join(", ")),
    }
}

fn lifetime(ring: &Report) -> &'static str {
    if ring.persistent { "persistent" } else { "until the last user leaves" }
}

fn participant(member: &Member) -> String {
    let style = colour(member.state);
    let claim = match member.claim {
        Some([first, count]) if count > 1 => {
            format!(", last claim {first} to {}", first + count - 1)
        }
        Some([first, _]) => format!(", last claim {first}"),
        None if member.held > 0 => format!(", has {}", member.held),
        None => String::new(),
    };
    let gate = match (member.delivery, member.behind) {
        (Some(delivery), Some(behind)) => format!(", {delivery}, {behind} behind"),
        _ => String::new(),
    };
    if member.incarnation == 0 {
        return "a process that is about to enter".to_owned();
    }
    format!(
        "process {}, {style}{}{style:#}, since {}, the {}{claim}{gate}",
        member.pid,
        member.state,
        calendar::utc(member.since_ns),
        ordinal(member.incarnation)
    )
}

fn ordinal(number: u64) -> String {
    let suffix = match (number % 10, number % 100) {
        (1, rest) if rest != 11 => "st",
        (2, rest) if rest != 12 => "nd",
        (3, rest) if rest != 13 => "rd",
        _ => "th",
    };
    format!("{number}{suffix}")
}
