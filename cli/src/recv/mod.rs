//! `annulus recv`: messages to standard output.
//!
//! | file | what |
//! | --- | --- |
//! | `source` | a ring of either kind, as what gives messages |
//! | `join` | messages put together into a stream |
//!
//! Messages are looked at, written, and only then taken from the ring: whoever closes our output, or kills
//! us, loses none that was not written.

mod join;
mod source;

use crate::exit::{Code, Failure, Outcome};
use crate::framing::{Framing, FramingArgs};
use crate::output;
use crate::ring::{AnyRing, Arrival, RingArgs};
use crate::{signals, units};
use annulus::{RecvTimeoutError, Role, TryRecvError};
use clap::Args;
use join::Joiner;
use source::Source;
use std::time::{Duration, Instant};

/// How long an end of line may be owed, see [`Joiner`].
const CREDIT: Duration = Duration::from_millis(200);

/// Print messages until the sender has left and all are read
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct RecvArgs {
    #[command(flatten)]
    ring: RingArgs,

    #[command(flatten)]
    framing: FramingArgs,

    /// Stop after N messages
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// Give up after waiting so long for a message, with exit code 124
    #[arg(long, value_name = "D", value_parser = units::parse_duration)]
    timeout: Option<Duration>,

    /// Print only what is there now; exit with code 6 if that is nothing
    #[arg(long, conflicts_with = "timeout")]
    no_wait: bool,
}

const AFTER_HELP: &str = "\
Waits until there is a sender, as opening a FIFO does. A message is taken from the ring after it was
written: with `annulus recv q | head` the rest stays there. A persistent ring never says that its sender
has left; there give -n, --timeout or --no-wait.

Framing:
  With --lines and --null a message is written as it is, and the end of line (or zero byte) added if it
  has none, unless it is all that the sender left without one.

Examples:
  annulus recv q --create | sort | uniq -c
  annulus recv q --raw > image.iso
  annulus recv mailbox -n 1 --timeout 500ms";

pub fn run(args: &RecvArgs) -> Outcome {
    let ring = AnyRing::open(&args.ring)?;
    signals::hold();
    let name = args.ring.name.as_str();
    let arrival = Arrival::note(&ring, Role::Sender);
    let source = Source::join(name, &ring, args.ring.wait)?;
    let framing = args.framing.chosen().unwrap_or(match ring {
        AnyRing::Bytes(_) => Framing::Ended(b'\n'),
        AnyRing::Slots(_) => Framing::Raw,
    });
    let joiner = Joiner::new(framing, matches!(ring, AnyRing::Slots(_)));
    let left = args.count.unwrap_or(u64::MAX);
    let mut receiving = Receiving { args, name, source, joiner, left };
    if !ring.is_persistent() && ring.stats().length == 0 && !args.no_wait {
        receiving.await_sender(&ring, &arrival)?;
    }
    receiving.run()
}

struct Receiving<'a> {
    args: &'a RecvArgs,
    name: &'a str,
    source: Source,
    joiner: Joiner,
    /// Messages still to be printed.
    left: u64,
}

impl Receiving<'_> {
    /// Waits until there has been a sender. Without this, one that died long ago would end us at once.
    fn await_sender(&mut self, ring: &AnyRing, arrival: &Arrival) -> Outcome {
        let deadline = self.deadline();
        while !arrival.has_happened(ring) && !self.source.wait_for_peer(slice(deadline)) {
            self.look_around(deadline)?;
        }
        Ok(())
    }

    fn run(&mut self) -> Outcome {
        let mut any = false;
        while self.left > 0 {
            signals::check()?;
            match self.source.fill(&mut self.joiner, self.left, usize::MAX) {
                Ok(count) => {
                    self.print(count)?;
                    any = true;
                }
                Err(TryRecvError::Empty) if self.args.no_wait && any => break,
                Err(TryRecvError::Empty) if self.args.no_wait => {
                    return Err(Failure::receive(self.name, TryRecvError::Empty));
                }
                Err(TryRecvError::Empty) => match self.await_message() {
                    Err(failure) if failure.code() == Code::PeerGone => return Ok(()),
                    Err(failure) if failure.code() == Code::TimedOut => {
                        self.settle()?;
                        return Err(failure);
                    }
                    done => done?,
                },
                Err(TryRecvError::Disconnected) => return Ok(()),
                Err(error) => return Err(Failure::receive(self.name, error)),
            }
        }
        self.settle()
    }

    /// Writes what was looked at, and takes it.
    fn print(&mut self, count: usize) -> Outcome {
        let before = self.joiner.take_start();
        let written = output::write_all(self.joiner.bytes());
        self.joiner.clear();
        let taken = match &written {
            Ok(()) => count,
            // Put together once more, up to there.
            Err(stopped) => {
                self.joiner.restart(before);
                let whole = self.source.fill(&mut self.joiner, self.left, stopped.written);
                whole.unwrap_or(0).min(count)
            }
        };
        self.source.skip(taken);
        self.left -= taken as u64;
        written.map_err(|stopped| stopped.failure)
    }

    /// Pays an end of line that is owed.
    fn settle(&mut self) -> Outcome {
        if !self.joiner.settle() {
            return Ok(());
        }
        let written = output::write_all(self.joiner.bytes());
        self.joiner.clear();
        written.map_err(|stopped| stopped.failure)
    }

    fn await_message(&mut self) -> Outcome {
        let begin = Instant::now();
        let deadline = self.deadline();
        loop {
            match self.source.wait_ready(slice(deadline)) {
                Ok(()) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(error) => return Err(Failure::wait(self.name, error)),
            }
            self.look_around(deadline)?;
            if begin.elapsed() >= CREDIT {
                self.settle()?;
            }
        }
    }

    /// What ends a wait besides a message.
    fn look_around(&self, deadline: Option<Instant>) -> Outcome {
        signals::check()?;
        if output::is_unread() {
            return Err(Failure::unread());
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(Failure::wait(self.name, RecvTimeoutError::Timeout));
        }
        Ok(())
    }

    fn deadline(&self) -> Option<Instant> {
        self.args.timeout.and_then(|timeout| Instant::now().checked_add(timeout))
    }
}

fn slice(deadline: Option<Instant>) -> Duration {
    let rest = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    rest.map_or(signals::SLICE, |rest| rest.min(signals::SLICE))
}
