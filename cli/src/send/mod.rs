//! `annulus send`: standard input into messages.
//!
//! | file | what |
//! | --- | --- |
//! | `input` | standard input through a bounded buffer |
//! | `cut` | where its messages are |
//! | `sink` | a ring of either kind, as what takes messages |
//! | `linger` | the end: until the receiver has them |
//! | `progress` | the bar |

mod cut;
mod input;
mod linger;
mod progress;
mod sink;

use crate::exit::{Code, Failure, Outcome};
use crate::framing::{Framing, FramingArgs};
use crate::output::complain;
use crate::ring::{AnyRing, Arrival, RingArgs};
use crate::{signals, units};
use annulus::Role;
use clap::Args;
use cut::Cutter;
use input::Input;
use progress::Progress;
use sink::{Patience, Sink};
use std::time::{Duration, Instant};

/// The most bytes in a message of raw framing, unless the ring is small.
const LONGEST_CHUNK: usize = 256 * 1024;

/// Send standard input as messages
///
/// Waits until there is a receiver, as opening a FIFO does, and at the end until the receiver has taken
/// every message. A persistent ring keeps them: there `send` waits only for room.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct SendArgs {
    #[command(flatten)]
    ring: RingArgs,

    #[command(flatten)]
    framing: FramingArgs,

    /// Leave the line end (or zero byte) out of the messages
    #[arg(long)]
    strip: bool,

    /// The most bytes in a message of raw framing (default: a quarter of the ring, at most 256K)
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    chunk: Option<usize>,

    /// Give up after waiting so long for a receiver, for room, or for the receiver to take the rest
    #[arg(long, value_name = "D", value_parser = units::parse_duration)]
    timeout: Option<Duration>,

    /// Never wait for the receiver: exit with code 6 if there is none or the ring is full
    #[arg(long, conflicts_with = "timeout")]
    no_wait: bool,

    /// Say how much was sent
    #[arg(short, long)]
    verbose: bool,
}

const AFTER_HELP: &str = "\
Framing:
  With --lines and --null a message contains the byte that ends it, and the last one need not have it;
  so `recv` gives back the very stream, whatever is in it. --strip leaves the byte out. In a ring of
  slots it is always left out, and every line must have exactly the size of a message; raw input is
  cut into messages, and must be a whole number of them.

Examples:
  seq 1 5000000 | annulus send q --create
  annulus send q --raw < image.iso
  find . -print0 | annulus send q --null --strip
  annulus send mailbox --no-wait <<< 'are you there?'";

pub fn run(args: &SendArgs) -> Outcome {
    let ring = AnyRing::open(&args.ring)?;
    signals::hold();
    let name = args.ring.name.as_str();
    let cutter = cutter(args, &ring)?;
    let arrival = Arrival::note(&ring, Role::Receiver);
    let patience = match args.no_wait {
        true => Patience::None,
        false => Patience::of(args.timeout),
    };
    let mut sink = Sink::join(name, &ring, args.ring.wait, patience)?;
    if !ring.is_persistent() {
        await_receiver(name, &ring, &mut sink, &arrival, patience)?;
    }
    let begin = Instant::now();
    let sent = pump(cutter, &mut sink);
    // Our own messages are the last that can be unread when this many have been taken.
    let target = ring.stats().sent;
    let totals = sink.leave();
    match sent {
        // Nobody to wait for, or no patience left.
        Err(failure) if failure.code() != Code::Failure => {
            Err(linger::with_unread(failure, &ring, target))
        }
        // Also if the input was wrong somewhere: what came before that was sent.
        sent => {
            let taken = match ring.is_persistent() || args.no_wait {
                true => Ok(()),
                false => linger::until_taken(name, &ring, target, patience),
            };
            sent.and(taken)?;
            if args.verbose {
                complain(&totals.sentence("sent", begin.elapsed()));
            }
            Ok(())
        }
    }
}

fn cutter(args: &SendArgs, ring: &AnyRing) -> Outcome<Cutter> {
    let usage = |text: &str| Err(Failure::new(Code::Usage, text));
    let chosen = args.framing.chosen();
    match ring {
        AnyRing::Bytes(ring) => {
            let longest = ring.max_message();
            let framing = chosen.unwrap_or(Framing::Ended(b'\n'));
            if args.chunk.is_some() && framing != Framing::Raw {
                return usage("--chunk says how raw input is cut; give --raw with it");
            }
            if args.chunk == Some(0) {
                return usage("--chunk needs at least one byte");
            }
            let chunk = args.chunk.unwrap_or((longest / 4).clamp(1, LONGEST_CHUNK));
            if chunk > longest {
                let text =
                    format!("--chunk is more than the ring's longest message of {longest} bytes");
                return usage(&text);
            }
            Ok(match framing {
                Framing::Ended(end) => {
                    Cutter::Ended { end, strip: args.strip, longest, exact: None }
                }
                Framing::Len32 => Cutter::Len32 { longest, exact: None },
                Framing::Raw => Cutter::Chunks { most: chunk },
            })
        }
        AnyRing::Slots(ring) => {
            let size = ring.message_size();
            if args.chunk.is_some() {
                return usage("--chunk is for byte rings; the ring's messages all have one size");
            }
            Ok(match chosen.unwrap_or(Framing::Raw) {
                Framing::Ended(end) => {
                    Cutter::Ended { end, strip: true, longest: size, exact: Some(size) }
                }
                Framing::Len32 => Cutter::Len32 { longest: size, exact: Some(size) },
                Framing::Raw => Cutter::Blocks { size },
            })
        }
    }
}

/// Waits until there has been a receiver.
fn await_receiver(
    name: &str,
    ring: &AnyRing,
    sink: &mut Sink<'_>,
    arrival: &Arrival,
    patience: Patience,
) -> Outcome {
    let deadline = patience.deadline();
    loop {
        signals::check()?;
        if arrival.has_happened(ring) || sink.wait_for_peer(patience.slice(deadline)) {
            return Ok(());
        }
        if patience == Patience::None {
            let text = format!("{name}: nobody receives from the ring");
            return Err(Failure::new(Code::WouldBlock, text));
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            let text = format!("{name}: no receiver came before the time was up");
            return Err(Failure::new(Code::TimedOut, text));
        }
    }
}

fn pump(cutter: Cutter, sink: &mut Sink<'_>) -> Outcome {
    let mut input = Input::new(cutter.buffer());
    let progress = Progress::of_input();
    loop {
        signals::check()?;
        let at_end = cutter.refill(&mut input)?;
        cutter.send(&mut input, at_end, sink).map_err(|failure| match failure.code() {
            Code::WouldBlock | Code::TimedOut => {
                failure.and(format_args!("{} sent", units::messages(sink.messages())))
            }
            _ => failure,
        })?;
        progress.set(input.taken());
        if at_end {
            break;
        }
    }
    Ok(())
}
