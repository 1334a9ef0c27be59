//! `annulus recv`: messages to standard output.
//!
//! | file | what |
//! | --- | --- |
//! | `source` | a ring of any kind, as what gives messages |
//! | `choice` | which messages, where there is a choice |
//! | `join` | messages put together into a stream |
//! | `missed` | how many a broadcast's receiver was too slow for |
//!
//! Messages are looked at, written, and only then taken from the ring: whoever closes our output, or kills
//! us, loses none that was not written. From a mailbox one is taken at a time, and written at once: only that one can be
//! lost. What a broadcast holds stays there for others anyhow.

pub mod choice;
pub mod join;
pub mod missed;
pub mod source;

use crate::exit::{Code, Failure, Outcome};
use crate::framing::{Framing, FramingArgs};
use crate::output;
use crate::ring::{AnyRing, Arrival, RingArgs};
use crate::{signals, standard, units};
use annulus::{Ending, Role};
use choice::{Choice, DeliveryArgs, SelectArgs};
use clap::Args;
use join::Joiner;
use source::{Dry, Source};
use std::time::{Duration, Instant};

/// How long an end of line may be owed, see [`Joiner`].
pub const CREDIT: Duration = Duration::from_millis(200);

/// Print messages until the sender has left and all are read
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct RecvArgs {
    #[command(flatten)]
    ring: RingArgs,

    #[command(flatten)]
    framing: FramingArgs,

    #[command(flatten)]
    select: SelectArgs,

    #[command(flatten)]
    delivery: DeliveryArgs,

    /// Of a broadcast: where to begin (default now)
    #[arg(long, value_enum, value_name = "WHERE")]
    from: Option<choice::From>,

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
Waits until there is a sender, as opening a FIFO does. When it has left and all is printed, that is exit code 0; when it \
was killed instead, or ended without leaving, as `send` does that is interrupted or fails, 7: what came may be part of what it had to send. (Of many senders: if \
one ended so and none has come since, who would be its successor.) A message is taken from the ring after it was written: with \
`annulus recv q | head` the rest stays there, and if this process is killed, the next one prints once more what it \
had written and not taken yet: 32 KiB at most, or a message that is longer. A persistent ring never says that its sender has left, and a mailbox neither; there \
give -n, --timeout or --no-wait. Of a mailbox one message at a time is taken and written. If it is removed while we \
wait, that is exit code 7.

Framing:
  With --lines and --null a message is written as it is, and the end of line (or zero byte) added if it has none, \
unless it is all that the sender left without one.

Examples:
  annulus recv q --create | sort | uniq -c
  annulus recv q > copy && mv copy whole
  annulus recv q --raw > image.iso
  annulus recv log -n 1 --timeout 500ms
  annulus recv orders --at-most 3 --no-wait
  annulus recv news --lossy --from oldest";

pub fn run(args: &RecvArgs) -> Outcome {
    standard::check_output()?;
    let found = args.ring.open()?;
    let ring = &found.ring;
    signals::hold();
    let name = args.ring.name.as_str();
    let choice = Choice::of(name, ring, args.select.chosen(), &args.delivery, args.from);
    // Whoever did nothing with it removes nothing.
    let choice = choice.inspect_err(|_| found.leave())?;
    let arrival = Arrival::note(ring, Role::Sender);
    let source = Source::join(name, ring, choice, args.ring.wait);
    let source = source.inspect_err(|_| found.leave())?;
    let joiner = joiner(ring, args.framing);
    let left = args.count.unwrap_or(u64::MAX);
    let mut receiving = Receiving { args, name, source, joiner, left };
    let received = match !ring.is_persistent() && ring.stats().length == 0 && !args.no_wait {
        true => receiving.await_sender(ring, &arrival).and_then(|()| receiving.run()),
        false => receiving.run(),
    };
    received.inspect_err(|failure| {
        let is_over = matches!(failure.code(), Code::WouldBlock | Code::TimedOut);
        if is_over && receiving.left == left {
            found.leave();
        }
    })
}

/// What puts the messages of this ring together.
pub fn joiner(ring: &AnyRing, framing: FramingArgs) -> Joiner {
    // Messages of one size have no marks of their own between them.
    let is_exact = match ring {
        AnyRing::Bytes(_) | AnyRing::Mailbox(_) => false,
        AnyRing::Slots(_) => true,
        AnyRing::Broadcast(broadcast) => broadcast.is_exact(),
    };
    let default = match is_exact || ring.is_stream() {
        true => Framing::Raw,
        false => Framing::Ended(b'\n'),
    };
    Joiner::new(framing.chosen().unwrap_or(default), is_exact)
}

struct Receiving<'a> {
    args: &'a RecvArgs,
    name: &'a str,
    source: Source<'a>,
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
            if !self.source.has_taken() {
                signals::check()?;
                if !self.source.keeps() && output::is_unread() {
                    return Err(Failure::unread());
                }
            }
            match self.source.fill(&mut self.joiner, self.left, usize::MAX) {
                Ok(count) => {
                    self.print(count)?;
                    any = true;
                }
                Err(Dry::Empty) if self.args.no_wait && any => break,
                Err(Dry::Empty) if self.args.no_wait => {
                    return Err(self.source.nothing(false));
                }
                Err(Dry::Empty) => match self.await_message() {
                    Ok(()) => {}
                    Err(Dry::Failed(failure)) if failure.code() == Code::TimedOut => {
                        self.settle()?;
                        return Err(failure);
                    }
                    Err(Dry::Failed(failure)) => return Err(failure),
                    Err(Dry::Empty | Dry::Over) => return self.end(),
                },
                Err(Dry::Over) => return self.end(),
                Err(Dry::Failed(failure)) => return Err(failure),
            }
        }
        self.settle()
    }

    /// All is printed that was sent. If the sender was killed, that need not be all that there was to be.
    fn end(&self) -> Outcome {
        died(self.name, self.source.ending())
    }

    /// Writes what was looked at, and takes it.
    fn print(&mut self, count: usize) -> Outcome {
        let before = self.joiner.take_start();
        let written = output::write_all(self.joiner.bytes());
        self.joiner.clear();
        let taken = match &written {
            Ok(()) => count,
            // It is too late to take less.
            Err(_) if !self.source.keeps() => count,
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

    fn await_message(&mut self) -> Result<(), Dry> {
        let begin = Instant::now();
        let deadline = self.deadline();
        loop {
            match self.source.wait_ready(slice(deadline)) {
                Err(Dry::Empty) => {}
                done => return done,
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
            return Err(self.source.nothing(true));
        }
        Ok(())
    }

    fn deadline(&self) -> Option<Instant> {
        self.args.timeout.and_then(|timeout| Instant::now().checked_add(timeout))
    }
}

/// Fails if the sender has not left by itself: whoever reads what we print must be able to tell that it is not whole.
pub fn died(name: &str, ending: Option<Ending>) -> Outcome {
    if ending == Some(Ending::Died) {
        let text =
            format!("{name}: the sender died, or gave up; what it had not sent by then is missing");
        return Err(Failure::new(Code::PeerGone, text));
    }
    Ok(())
}

fn slice(deadline: Option<Instant>) -> Duration {
    let rest = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    rest.map_or(signals::SLICE, |rest| rest.min(signals::SLICE))
}
