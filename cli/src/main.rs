//! The `annulus` command: shared-memory rings from the shell.
//!
//! | file | what |
//! | --- | --- |
//! | `create`, `ls`, `inspect`, `top`, `rm`, `doctor/`, `completions`, `man` | a verb each |
//! | `send/`, `recv/` | streams into messages, and back |
//! | `tail/` | messages, and none is taken |
//! | `get`, `set` | the value of a variable |
//! | `acquire` | a command that runs with permits of a semaphore |
//! | `raise`, `wait` | flags of an event |
//! | `meet` | `listen` and `connect`: streams both ways |
//! | `bench/` | our rings against the kernel's IPC |
//! | `exit/` | what can go wrong, and the exit code of each |
//! | `signals` | Ctrl-C |
//! | `keys` | keys as they are pressed |
//! | `standard` | what has no standard input or output |
//! | `ring` | what carries messages, of any kind, by name |
//! | `framing` | where a message ends in a stream |
//! | `report` | what is said of a ring, as text and as JSON |
//! | `output`, `table`, `units`, `calendar` | how it is shown |

mod acquire;
mod bench;
mod calendar;
mod completions;
mod create;
mod doctor;
mod exit;
mod framing;
mod get;
mod inspect;
mod keys;
mod ls;
mod man;
mod meet;
mod output;
mod raise;
mod recv;
mod report;
mod ring;
mod rm;
mod send;
mod set;
mod signals;
mod standard;
mod table;
mod tail;
mod top;
mod units;
mod wait;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Rings in shared memory between the processes of a machine
///
/// A ring carries messages from senders to receivers. Beside rings there are mailboxes, broadcasts, variables, semaphores
/// and events; `annulus create` makes them. A NAME is that of a ring in /dev/shm, or a path if it contains a slash.
#[derive(Debug, Parser)]
#[command(name = "annulus", version, max_term_width = 100, after_help = AFTER_HELP)]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

const AFTER_HELP: &str = "\
Examples:
  annulus recv q --create > copy &         wait for messages
  annulus send q --create < file           send a file, line by line
  annulus tail news -f                     follow a broadcast
  annulus get price --wait                 the next value of a variable
  annulus ls                               rings on this machine

Exit codes:
  0 done            3 not found       6 would block, or in use   124 timed out
  1 failure         4 exists          7 peer gone                130 interrupted
  2 usage           5 permission      8 corrupt, or another layout

`annulus acquire` ends with the code of its command; 126 if that cannot be run, 127 if there is none.";

#[derive(Debug, Subcommand)]
enum Verb {
    Create(create::CreateArgs),
    Ls(ls::LsArgs),
    Inspect(inspect::InspectArgs),
    Top(top::TopArgs),
    Rm(rm::RmArgs),
    Send(send::SendArgs),
    Recv(recv::RecvArgs),
    Tail(tail::TailArgs),
    Get(get::GetArgs),
    Set(set::SetArgs),
    Acquire(acquire::AcquireArgs),
    Raise(raise::RaiseArgs),
    Wait(wait::WaitArgs),
    Listen(meet::ListenArgs),
    Connect(meet::ConnectArgs),
    Bench(bench::BenchArgs),
    Doctor(doctor::DoctorArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

/// A help text, which must arrive like any other output, or what is wrong with the command line.
fn answer(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        // Nobody is left to be told if that fails.
        let _ = error.print();
        return ExitCode::from(exit::Code::Usage as u8);
    }
    match output::print_answer(|| error.print()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn main() -> ExitCode {
    let verb = match CommandLine::try_parse() {
        Ok(line) => line.verb,
        Err(error) => return answer(&error),
    };
    signals::outlive_limits();
    // The benchmark has processes of its own to end, and handles signals itself.
    if !matches!(verb, Verb::Bench(_)) {
        signals::exit_at_once();
    }
    let outcome = match verb {
        Verb::Create(args) => create::run(&args),
        Verb::Ls(args) => ls::run(&args),
        Verb::Inspect(args) => inspect::run(&args),
        Verb::Top(args) => top::run(&args),
        Verb::Rm(args) => rm::run(&args),
        Verb::Send(args) => send::run(&args),
        Verb::Recv(args) => recv::run(&args),
        Verb::Tail(args) => tail::run(&args),
        Verb::Get(args) => get::run(&args),
        Verb::Set(args) => set::run(&args),
        Verb::Acquire(args) => return acquire::run(&args),
        Verb::Raise(args) => raise::run(&args),
        Verb::Wait(args) => wait::run(&args),
        Verb::Listen(args) => meet::listen(&args),
        Verb::Connect(args) => meet::connect(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Completions(args) => completions::run(&args),
        Verb::Man(args) => man::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    /// Whoever prints a help text wraps it: a line that was ended by hand would end twice on a narrow terminal.
    #[test]
    fn a_long_line_of_help_is_a_paragraph() {
        let command = CommandLine::command();
        for verb in command.get_subcommands().chain([&command]) {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in help.lines().filter(|line| line.chars().count() > 80) {
                assert!(line.ends_with(['.', ';']), "{}: {line}", verb.get_name());
            }
        }
    }
}
