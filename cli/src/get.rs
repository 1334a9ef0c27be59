//! `annulus get`: the value of a variable.

use crate::exit::{Code, Failure, Outcome};
use crate::output::{is_unread, print_bytes, print_json};
use crate::ring::{place, unopened};
use crate::{signals, standard, units};
use annulus::{Attach, LatestError, RingKind, UntypedLatest, UntypedLatestReader};
use clap::Args;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Print the value of a variable
///
/// Its bytes as they are, or with their version as JSON. A variable that was never written has version 0, and all its
/// bytes are zero.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct GetArgs {
    /// The variable: a name in /dev/shm, or a path if it contains a slash
    name: String,

    /// Wait until the value is written again
    #[arg(long)]
    wait: bool,

    /// Wait until there is a later version than this one
    #[arg(long, value_name = "VERSION")]
    after: Option<u64>,

    /// Give up after waiting so long, with exit code 124
    #[arg(long, value_name = "D", value_parser = units::parse_duration)]
    timeout: Option<Duration>,

    /// Print the value in hexadecimal, on a line
    #[arg(long, conflicts_with = "json")]
    hex: bool,

    /// Print a JSON object: version, hex, and text if the value is UTF-8
    #[arg(long)]
    json: bool,

    /// Accept a variable that belongs to this user id
    #[arg(long, value_name = "UID")]
    owner: Option<u32>,
}

const AFTER_HELP: &str = "\
Values between two looks are not seen: with --after nobody misses that there was a change, only what came before the last \
one. Waiting ends with exit code 7 when the writer has left, unless the variable is persistent.

Examples:
  annulus create price --kind latest --message-size 8 --persistent
  annulus get price --hex
  annulus get price --wait --timeout 10s
  annulus get price --json --after 41";

/// A value, for programs.
#[derive(Debug, Serialize)]
struct Value<'a> {
    name: &'a str,
    version: u64,
    size: usize,
    hex: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

pub fn run(args: &GetArgs) -> Outcome {
    standard::check_output()?;
    if args.timeout.is_some() && !args.wait && args.after.is_none() {
        let text = "--timeout says how long to wait; give --wait or --after with it";
        return Err(Failure::new(Code::Usage, text));
    }
    let variable = open(&args.name, args.owner)?;
    let reader = variable.reader().map_err(|error| Failure::setup(&args.name, &error))?;
    let mut value = vec![0; variable.value_size()];
    let version = read(args, &variable, reader, &mut value)?;
    if args.json {
        let text = std::str::from_utf8(&value).ok();
        let (name, size, hex) = (args.name.as_str(), value.len(), hex(&value));
        return print_json(&Value { name, version, size, hex, text });
    }
    match args.hex {
        true => print_bytes(format!("{}\n", hex(&value)).as_bytes()),
        false => print_bytes(&value),
    }
}

/// Opens a variable, whose name stays when we leave: there need not be anybody else who has it open.
pub fn open(name: &str, owner: Option<u32>) -> Outcome<UntypedLatest> {
    let variable = owner.into_iter().fold(UntypedLatest::attach(), Attach::owner);
    let variable =
        variable.open(place(name)?).map_err(|error| unopened(name, &error, RingKind::Latest))?;
    variable.keep();
    Ok(variable)
}

fn read(
    args: &GetArgs,
    variable: &UntypedLatest,
    mut reader: UntypedLatestReader,
    value: &mut [u8],
) -> Outcome<u64> {
    let deadline = args.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let failed = |error| failed(&args.name, error, variable.is_persistent());
    let mut version = reader.read(value).map_err(failed)?;
    if !args.wait && args.after.is_none() {
        return Ok(version);
    }
    let after = args.after.unwrap_or(version);
    while version <= after {
        if is_unread() {
            return Err(Failure::unread());
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let slice = left.map_or(signals::SLICE, |left| left.min(signals::SLICE));
        match reader.wait_for_change_timeout(value, slice) {
            Ok(next) => version = next,
            // The end of the slice, and not of the wait.
            Err(LatestError::Timeout) if left != Some(slice) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(version)
}

/// Why a variable gave no value, or took none.
pub fn failed(name: &str, error: LatestError, persistent: bool) -> Failure {
    let failure = Failure::of(name, &error);
    match error {
        LatestError::Disconnected if !persistent => {
            failure.and("with `create --persistent` the next one is waited for")
        }
        _ => failure,
    }
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
