//! `annulus rm`: takes rings away.

use crate::exit::{Code, Failure, Outcome};
use crate::output::complain;
use crate::ring::place;
use annulus::inspect::{self, Snapshot, State};
use annulus::{Mailbox, RingKind, SetupError};
use clap::Args;

/// Remove rings
///
/// A ring in use is refused, unless --force is given: then its users go on with it, and nobody else can
/// open it. A mailbox is removed for its users, too: whoever waits is told.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct RmArgs {
    /// The rings: names in /dev/shm, or paths if they contain a slash
    #[arg(value_name = "NAME", required_unless_present = "stale")]
    names: Vec<String>,

    /// Only stale rings, which nobody has open; without a NAME, all of them that are not persistent
    #[arg(long)]
    stale: bool,

    /// Also rings in use
    #[arg(short, long, conflicts_with = "stale")]
    force: bool,

    /// Say what was removed
    #[arg(short, long)]
    verbose: bool,
}

const AFTER_HELP: &str = "\
Examples:
  annulus rm q
  annulus rm --stale -v        clean up after killed processes

The exit code is that of the worst failure; the other rings are removed all the same.";

pub fn run(args: &RmArgs) -> Outcome {
    let sweep = args.names.is_empty();
    let names = if sweep { stale()? } else { args.names.clone() };
    let mut worst = None;
    for name in &names {
        match remove(name, args.force) {
            Ok(()) if args.verbose => complain(&format!("removed {name}")),
            Ok(()) => {}
            // Somebody else was quicker, or has just opened it.
            Err(failure) if sweep && is_overtaken(&failure) => {}
            Err(failure) => {
                worst = worst.max(Some(failure.code()));
                failure.report();
            }
        }
    }
    worst.map_or(Ok(()), |code| Err(Failure::told(code)))
}

fn is_overtaken(failure: &Failure) -> bool {
    matches!(failure.code(), Code::NotFound | Code::WouldBlock)
}

/// Rings that nobody has open and nobody wanted to keep.
fn stale() -> Outcome<Vec<String>> {
    let names = inspect::list().map_err(|error| Failure::listing(&error))?;
    let is_stale = |name: &String| {
        let ring = place(name).ok().and_then(|place| Snapshot::open(&place).ok());
        ring.is_some_and(|ring| ring.state == State::Stale && !ring.persistent)
    };
    Ok(names.into_iter().filter(is_stale).collect())
}

fn remove(name: &str, force: bool) -> Outcome {
    let place = place(name)?;
    let seen = Snapshot::open(&place);
    // A name has our prefix; a path may be anything, and what was never a ring is not ours to remove.
    if name.contains('/') {
        if let Err(error @ (SetupError::NotARing | SetupError::NotAFile)) = &seen {
            return Err(Failure::setup(name, error));
        }
    }
    if force && seen.is_ok_and(|seen| seen.kind == RingKind::Mailbox) {
        // As `ipcrm` does it. What cannot be opened so can still lose its name.
        if let Ok(mailbox) = Mailbox::open(place.clone()) {
            return match mailbox.remove() {
                // Somebody was faster with one half of it.
                Err(SetupError::NotFound) => Ok(()),
                done => done.map_err(|error| Failure::setup(name, &error)),
            };
        }
    }
    annulus::remove(&place, force).map_err(|error| Failure::setup(name, &error))
}
