//! `annulus tail`: messages to standard output, and none is taken.
//!
//! | file | what |
//! | --- | --- |
//! | `watch` | what is there, of a ring of any kind, each message once |

mod watch;

use crate::exit::{Failure, Outcome};
use crate::framing::FramingArgs;
use crate::output;
use crate::recv::CREDIT;
use crate::recv::choice::SelectArgs;
use crate::recv::join::Joiner;
use crate::recv::source::Dry;
use crate::{signals, standard};
use clap::Args;
use std::collections::VecDeque;
use std::time::Instant;
use watch::Watch;

/// Print messages without taking them
///
/// Those that are there now, and with --follow those that come, until the sender has left; or was killed, interrupted,
/// or failed: then the exit code is 7.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct TailArgs {
    /// The ring, mailbox, broadcast or variable: a name in /dev/shm, or a path if it contains a slash
    name: String,

    #[command(flatten)]
    framing: FramingArgs,

    #[command(flatten)]
    select: SelectArgs,

    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,

    /// Of those that are there now, only the last N
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<usize>,

    /// Accept a ring that belongs to this user id
    #[arg(long, value_name = "UID")]
    owner: Option<u32>,
}

const AFTER_HELP: &str = "\
What is seen depends on what it is:
  Of a broadcast all that is retained, then all that comes; how many messages were missed is said on standard error.
  Of a mailbox what waits; with --follow each message that nobody takes before it was seen.
  Of a variable the value, if it was ever written; with --follow each version that was not written over before.
  Of a ring or stream what waits, as its receiver who takes nothing: so not while somebody else receives \
(exit code 6), nor while somebody sends, who would be told that the receiver has left, unless it is persistent.
  Of a ring with many on a side nothing (exit code 6): there a message is seen only by taking it, or those before it.

Examples:
  annulus tail news -f
  annulus tail news -n 0 -f
  annulus tail orders --type 3
  annulus tail price -f --raw | od -t f8";

pub fn run(args: &TailArgs) -> Outcome {
    standard::check_output()?;
    let (mut watch, joiner) =
        Watch::open(&args.name, args.owner, args.select.chosen(), args.framing)?;
    signals::hold();
    let mut printer = Printer { joiner };
    match args.last {
        None => all(&mut watch, &mut printer)?,
        Some(last) => {
            let mut kept = VecDeque::new();
            let seen = watch.look(&mut |message| {
                kept.push_back(message.to_vec());
                if kept.len() > last {
                    kept.pop_front();
                }
                Ok(())
            });
            ended(seen)?;
            kept.iter().try_for_each(|message| printer.add(message))?;
        }
    }
    printer.flush()?;
    match args.follow {
        true => follow(&mut watch, &mut printer),
        false => printer.settle(),
    }
}

/// Prints all that is there now.
fn all(watch: &mut Watch<'_>, printer: &mut Printer) -> Outcome {
    ended(watch.look(&mut |message| printer.add(message)))
}

/// That there is nothing more is no failure.
fn ended(seen: Result<(), Dry>) -> Outcome {
    match seen {
        Err(Dry::Failed(failure)) => Err(failure),
        Ok(()) | Err(Dry::Empty | Dry::Over) => Ok(()),
    }
}

fn follow(watch: &mut Watch<'_>, printer: &mut Printer) -> Outcome {
    let mut last = Instant::now();
    loop {
        signals::check()?;
        if output::is_unread() {
            return Err(Failure::unread());
        }
        let mut any = false;
        let seen = watch.look(&mut |message| {
            any = true;
            printer.add(message)
        });
        printer.flush()?;
        match seen {
            Ok(()) | Err(Dry::Empty) => {}
            // What was left without an end of line was the last.
            Err(Dry::Over) => return watch.end(),
            Err(Dry::Failed(failure)) => return Err(failure),
        }
        if any {
            last = Instant::now();
        } else if last.elapsed() >= CREDIT {
            printer.settle()?;
        }
        watch.pause();
    }
}

/// Puts messages together, and prints them when they are many.
#[derive(Debug)]
struct Printer {
    joiner: Joiner,
}

impl Printer {
    fn add(&mut self, message: &[u8]) -> Outcome {
        self.joiner.add(message.len(), |to| to.copy_from_slice(message));
        if self.joiner.is_full() { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Outcome {
        let written = output::write_all(self.joiner.bytes());
        self.joiner.clear();
        written.map_err(|stopped| stopped.failure)
    }

    /// Pays an end of line that is owed.
    fn settle(&mut self) -> Outcome {
        self.joiner.settle();
        self.flush()
    }
}
