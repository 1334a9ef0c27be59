//! `annulus raise`: flags of an event.

use crate::exit::{Code, Failure, Outcome};
use crate::ring::{place, unopened};
use annulus::Event;
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

pub fn run(args: &RaiseArgs) -> Outcome {
    let setup = |error| Failure::setup(&args.name, &error);
    let event = Event::open(place(&args.name)?);
    let event = event.map_err(|error| unopened(&args.name, &error))?;
    let raised = event.handle().map_err(setup)?.raise(mask(&args.flags));
    // Whoever comes next finds them, also if nobody has it open now.
    event.keep();
    raised.map_err(|error| Failure::new(Code::Failure, format!("{}: {error}", args.name)))
}
