//! `annulus acquire`: a command that runs with permits of a semaphore.

use crate::exit::{Code, Failure, Outcome};
use crate::output::complain;
use crate::ring::{place, unopened};
use crate::{signals, units};
use annulus::{AcquireTimeoutError, Attach, Holder, RingKind, Semaphore};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

/// How often it is looked whether the command has ended, and whether a signal is to be handed on.
const LOOK: Duration = Duration::from_millis(2);

/// Run a command with a permit of a semaphore
///
/// The permits are released when the command ends, however it ends, and also if this process is killed: then those
/// who wait return them, though the command goes on.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct AcquireArgs {
    /// The semaphore: a name in /dev/shm, or a path if it contains a slash
    name: String,

    /// How many permits, all at once
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,

    /// Give up after waiting so long, with exit code 124
    #[arg(long, value_name = "D", value_parser = units::parse_duration)]
    timeout: Option<Duration>,

    /// Do not wait; exit with code 6 if the permits are not free now
    #[arg(long, conflicts_with = "timeout")]
    no_wait: bool,

    /// Accept a semaphore that belongs to this user id
    #[arg(long, value_name = "UID")]
    owner: Option<u32>,

    /// The command and its arguments
    #[arg(required = true, last = true)]
    command: Vec<OsString>,
}

const AFTER_HELP: &str = "\
The exit code is that of the command, or 128 and the number of the signal that ended it; 127 if there is no such command, 126 if it cannot be run. If the last owner of a \
permit was killed, that is said before the command starts: what it worked on may be half done.

Examples:
  annulus create lock --kind semaphore
  annulus acquire lock -- make install
  annulus create jobs --kind semaphore --capacity 4 --persistent
  annulus acquire jobs --timeout 10m -- ./job";

pub fn run(args: &AcquireArgs) -> ExitCode {
    match acquire_and_run(args) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn acquire_and_run(args: &AcquireArgs) -> Outcome<ExitCode> {
    let setup = |error| Failure::setup(&args.name, &error);
    let semaphore = args.owner.into_iter().fold(Semaphore::attach(), Attach::owner);
    let semaphore = semaphore.open(place(&args.name)?);
    let semaphore = semaphore.map_err(|error| unopened(&args.name, &error, RingKind::Semaphore))?;
    // For the next command, also if nobody has it open between the two.
    semaphore.keep();
    let mut holder = semaphore.holder().map_err(setup)?;
    signals::hold();
    acquire(args, &mut holder)?;
    let (program, arguments) = args.command.split_first().expect("clap insists on it");
    let child = Command::new(program).args(arguments).spawn();
    let child = child.map_err(|error| not_run(&program.to_string_lossy(), &error))?;
    let code = wait_for(child)?;
    drop(holder);
    Ok(code)
}

/// Why a command was not run, with the codes of shells, `env` and `timeout`.
fn not_run(program: &str, error: &io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::NotFound => Code::NoCommand,
        // There was no process to run it.
        io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => Code::Failure,
        _ => Code::NotRun,
    };
    Failure::new(code, format!("{program}: {error}"))
}

/// Acquires the permits and leaves them with the holder.
fn acquire(args: &AcquireArgs, holder: &mut Holder) -> Outcome {
    let start = Instant::now();
    loop {
        signals::check()?;
        let left = match (args.no_wait, args.timeout) {
            (true, _) => Duration::ZERO,
            (_, Some(timeout)) => timeout.saturating_sub(start.elapsed()).min(signals::SLICE),
            _ => signals::SLICE,
        };
        match holder.acquire_many_timeout(args.count, left) {
            Ok(permits) => {
                if permits.is_abandoned() {
                    complain(&format!("{}: somebody was killed with a permit", args.name));
                }
                permits.keep();
                return Ok(());
            }
            Err(AcquireTimeoutError::Timeout) => {}
            Err(error) => return Err(Failure::of(&args.name, &error)),
        }
        let why = |code| Failure::new(code, format!("{}: too few permits are free", args.name));
        if args.no_wait {
            return Err(why(Code::WouldBlock));
        }
        if args.timeout.is_some_and(|timeout| start.elapsed() >= timeout) {
            return Err(why(Code::TimedOut));
        }
    }
}

/// Waits for the end of the command. A signal that comes meanwhile is handed on to it, once: the permits are not
/// given up while it works.
fn wait_for(mut child: Child) -> Outcome<ExitCode> {
    let mut told = false;
    loop {
        let status = child.try_wait().map_err(|error| Failure::io("waiting", &error))?;
        if let Some(status) = status {
            let signal = status.signal().map(|signal| 128 + signal);
            let code = status.code().or(signal).unwrap_or(1);
            return Ok(ExitCode::from(code as u8));
        }
        if !told && signals::check().is_err() {
            told = true;
            let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM);
        }
        std::thread::sleep(LOOK);
    }
}
