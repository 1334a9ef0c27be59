//! `annulus wait`: until flags of an event are raised.

use crate::exit::{Code, Failure, Outcome};
use crate::output::print;
use crate::raise::{mask, open};
use crate::standard;
use crate::units;
use annulus::EventTimeoutError;
use clap::Args;
use std::time::{Duration, Instant};

/// Longer than anybody waits.
const NO_TIMEOUT: Duration = Duration::from_secs(1 << 30);

/// Wait until a flag of an event is raised
///
/// Prints the numbers of those that are, a line for each.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct WaitArgs {
    /// The event: a name in /dev/shm, or a path if it contains a slash
    name: String,

    /// The flags' numbers
    #[arg(required = true, value_name = "FLAG", value_parser = clap::value_parser!(u8).range(0..64))]
    flags: Vec<u8>,

    /// Wait until all of them are raised
    #[arg(long, conflicts_with = "take")]
    all: bool,

    /// Lower those that are raised, so that nobody else finds them
    #[arg(long)]
    take: bool,

    /// Give up after waiting so long, with exit code 124
    #[arg(long, value_name = "D", value_parser = units::parse_duration)]
    timeout: Option<Duration>,

    /// Do not wait; exit with code 6 if they are not raised now
    #[arg(long, conflicts_with = "timeout")]
    no_wait: bool,

    /// Accept an event that belongs to this user id
    #[arg(long, value_name = "UID")]
    owner: Option<u32>,
}

const AFTER_HELP: &str = "\
Examples:
  annulus wait control 0 && reload
  annulus wait control 0 5 --take --timeout 30s
  annulus wait control 3 --no-wait && echo 'flag 3 is raised'";

pub fn run(args: &WaitArgs) -> Outcome {
    standard::check_output()?;
    let setup = |error| Failure::setup(&args.name, &error);
    let event = open(&args.name, args.owner)?;
    let mut handle = event.handle().map_err(setup)?;
    let mask = mask(&args.flags);
    let timeout = if args.no_wait { Some(Duration::ZERO) } else { args.timeout };
    let deadline = Instant::now() + timeout.unwrap_or(NO_TIMEOUT).min(NO_TIMEOUT);
    let found = match (args.all, args.take) {
        (true, _) => handle.wait_all_deadline(mask, deadline),
        (_, true) => handle.take_deadline(mask, deadline),
        _ => handle.wait_any_deadline(mask, deadline),
    };
    let found = found.map_err(|error| match error {
        EventTimeoutError::Timeout if args.no_wait => {
            let which = if args.all { "not all of these flags are" } else { "no such flag is" };
            Failure::new(Code::WouldBlock, format!("{}: {which} raised", args.name))
        }
        error => Failure::of(&args.name, &error),
    })?;
    let raised = (0..64).filter(|flag| found >> flag & 1 == 1);
    print(&raised.map(|flag| format!("{flag}\n")).collect::<String>())
}
