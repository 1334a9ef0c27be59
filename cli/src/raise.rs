//! `annulus raise`: flags of an event.

use crate::exit::{Failure, Outcome};
use crate::ring::{place, unopened};
use annulus::{Attach, Event, RingKind};
use clap::Args;

/// Raise flags of an event
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct RaiseArgs {
    /// The event: a name in /dev/shm, or a path if it contains a slash
    name: String,

    /// The flags' numbers
    #[arg(required = true, value_name = "FLAG", value_parser = clap::value_parser!(u8).range(0..64))]
    flags: Vec<u8>,

    /// Accept an event that belongs to this user id
    #[arg(long, value_name = "UID")]
    owner: Option<u32>,
}

const AFTER_HELP: &str = "\
Raising a flag that is raised already changes nothing.

Examples:
  annulus create control --kind event --persistent
  annulus raise control 0 5";

/// The mask of some flags.
pub fn mask(flags: &[u8]) -> u64 {
    flags.iter().fold(0, |mask, flag| mask | 1 << flag)
}

/// Opens an event, whose name stays when we leave: whoever comes next finds its flags, also if nobody has it open
/// meanwhile.
pub fn open(name: &str, owner: Option<u32>) -> Outcome<Event> {
    let event = owner.into_iter().fold(Event::attach(), Attach::owner);
    let event =
        event.open(place(name)?).map_err(|error| unopened(name, &error, RingKind::Event))?;
    event.keep();
    Ok(event)
}

pub fn run(args: &RaiseArgs) -> Outcome {
    let setup = |error| Failure::setup(&args.name, &error);
    let event = open(&args.name, args.owner)?;
    let raised = event.handle().map_err(setup)?.raise(mask(&args.flags));
    raised.map_err(|error| Failure::of(&args.name, &error))
}
