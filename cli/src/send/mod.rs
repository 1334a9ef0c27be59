//! `annulus send`: standard input into messages.
//!
//! | file | what |
//! | --- | --- |
//! | `input` | standard input through a bounded buffer |
//! | `cut` | where its messages are |
//! | `sink` | a ring of any kind, as what takes messages |
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
use crate::ring::{AnyRing, Arrival, RingArgs, who};
use crate::standard;
use crate::{signals, units};
use annulus::{Participant, Role};
use clap::Args;
use cut::Cutter;
use input::Input;
use progress::Progress;
use sink::{Patience, Sink};
use std::time::{Duration, Instant};

/// The most bytes in a message of raw framing, unless the ring is small.
const LONGEST_CHUNK: usize = 256 * 1024;

/// Between two looks at how many receivers there are.
const LOOK: Duration = Duration::from_millis(5);

/// Send standard input as messages
///
/// Waits until there is a receiver, as opening a FIFO does, and at the end until the receiver has taken
/// every message. A persistent ring keeps them, and so does a mailbox: there `send` waits only for room. A
/// broadcast needs nobody to take its messages: there it waits for its receivers at the start only.
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

    /// Never wait for the receiver: exit with code 6 if there is none (but of a mailbox or a broadcast) or the ring is full
    #[arg(long, conflicts_with = "timeout")]
    no_wait: bool,

    /// Of a mailbox: the type of the messages, 1 to 64 (default 1)
    #[arg(id = "type", long, value_name = "T", value_parser = clap::value_parser!(u8).range(1..=64))]
    kind: Option<u8>,

    /// Of a broadcast: how many receivers to wait for at the start (default 1; 0 if it is persistent)
    #[arg(long, value_name = "N", conflicts_with = "no_wait")]
    receivers: Option<usize>,

    /// Of a broadcast: evict a receiver that keeps us waiting for so long
    #[arg(long, value_name = "D", value_parser = units::parse_duration)]
    patience: Option<Duration>,

    /// Say how much was sent
    #[arg(short, long)]
    verbose: bool,
}

const AFTER_HELP: &str = "\
Framing:
  With --lines and --null a message contains the byte that ends it, and the last one need not have it; so `recv` \
gives back the very stream, whatever is in it. --strip leaves the byte out. In a ring of slots it is always left \
out, and every line must have exactly the size of a message; raw input is cut into messages, and must be a whole \
number of them.

Examples:
  seq 1 5000000 | annulus send q --create
  annulus send q --raw < image.iso
  find . -print0 | annulus send q --null --strip
  annulus send log --no-wait <<< 'are you there?'
  annulus send orders --type 3 < order.txt
  annulus send news --receivers 2 --patience 5s < feed";

pub fn run(args: &SendArgs) -> Outcome {
    standard::check_input()?;
    let found = args.ring.open()?;
    let ring = &found.ring;
    signals::hold();
    let name = args.ring.name.as_str();
    // Whoever did nothing with it removes nothing.
    let cutter = cutter(args, ring).inspect_err(|_| found.leave())?;
    let arrival = Arrival::note(ring, Role::Receiver);
    let patience = match args.no_wait {
        true => Patience::None,
        false => Patience::of(args.timeout),
    };
    let sink = Sink::join(name, ring, args.kind.unwrap_or(1), args.ring.wait, patience);
    let mut sink = sink.inspect_err(|_| found.leave())?;
    sink.evict_after(args.patience);
    let met = match (ring, args.receivers) {
        // It goes on whether anybody is there or not; so nobody is waited for who is not to be.
        (AnyRing::Broadcast(_), _) if args.no_wait => Ok(()),
        (_, Some(count)) => await_receivers(name, ring, count, patience),
        _ if ring.is_persistent() => Ok(()),
        _ => await_receiver(name, ring, &mut sink, &arrival, patience),
    };
    met.inspect_err(|failure| {
        if matches!(failure.code(), Code::WouldBlock | Code::TimedOut) {
            found.leave();
        }
    })?;
    let begin = Instant::now();
    let sent = pump(cutter, &mut sink);
    // Our own messages are the last that can be unread when this many have been taken.
    let target = ring.stats().sent;
    let totals = match sent.is_err() && is_followed(ring) {
        true => sink.vanish(),
        false => sink.leave(),
    };
    match sent {
        // Nobody to wait for, or no patience left.
        Err(failure) if matches!(ring, AnyRing::Broadcast(_) | AnyRing::Mailbox(_)) => Err(failure),
        Err(failure) if failure.code() != Code::Failure => {
            Err(linger::with_unread(failure, ring, target))
        }
        // Also if the input was wrong somewhere: what came before that was sent.
        sent => {
            let is_left = ring.is_persistent() || matches!(ring, AnyRing::Broadcast(_));
            let taken = match is_left || args.no_wait {
                true => Ok(()),
                false => linger::until_taken(name, ring, target, patience),
            };
            sent.and(taken)?;
            if args.verbose {
                complain(&totals.sentence("sent", begin.elapsed()));
            }
            Ok(())
        }
    }
}

/// Whether somebody receives who is told how we have ended.
fn is_followed(ring: &AnyRing) -> bool {
    let tells = !ring.is_persistent() && !matches!(ring, AnyRing::Mailbox(_));
    tells && who(&ring.stats(), Role::Receiver).any(|who| who.alive)
}

fn cutter(args: &SendArgs, ring: &AnyRing) -> Outcome<Cutter> {
    let usage = |text: &str| Err(Failure::new(Code::Usage, text));
    let unfit = |option: &str, wanted: &str| {
        let what = ring.describe();
        usage(&format!("{option} is for {wanted}, and this is {what}; leave it out"))
    };
    let is_broadcast = matches!(ring, AnyRing::Broadcast(_));
    if args.kind.is_some() && !matches!(ring, AnyRing::Mailbox(_)) {
        return unfit("--type", "mailboxes");
    }
    if args.patience.is_some() && !is_broadcast {
        return unfit("--patience", "broadcasts");
    }
    if args.receivers.is_some() && !is_broadcast {
        return unfit("--receivers", "broadcasts");
    }
    let chosen = args.framing.chosen();
    let (longest, size) = match ring {
        AnyRing::Bytes(ring) => (ring.max_message(), None),
        AnyRing::Mailbox(mailbox) => (mailbox.longest(), None),
        AnyRing::Broadcast(broadcast) => {
            let size = broadcast.longest();
            (size, broadcast.is_exact().then_some(size))
        }
        AnyRing::Slots(ring) => (ring.message_size(), Some(ring.message_size())),
    };
    if let Some(size) = size {
        if args.chunk.is_some() {
            return usage("--chunk is for messages of any size; the ring's all have one size");
        }
        return Ok(match chosen.unwrap_or(Framing::Raw) {
            Framing::Ended(end) => Cutter::Ended { end, strip: true, longest, exact: Some(size) },
            Framing::Len32 => Cutter::Len32 { longest, exact: Some(size) },
            Framing::Raw => Cutter::Blocks { size },
        });
    }
    let default = if ring.is_stream() { Framing::Raw } else { Framing::Ended(b'\n') };
    let framing = chosen.unwrap_or(default);
    if args.chunk.is_some() && framing != Framing::Raw {
        return usage("--chunk says how raw input is cut; give --raw with it");
    }
    if args.chunk == Some(0) {
        return usage("--chunk needs at least one byte");
    }
    // A part of a byte ring, whose capacity is in bytes; elsewhere there is room for so many of any length.
    let part = if matches!(ring, AnyRing::Bytes(_)) { longest / 4 } else { longest };
    let chunk = args.chunk.unwrap_or(part.clamp(1, LONGEST_CHUNK));
    if framing == Framing::Raw && chunk > longest {
        let longest = units::exact_bytes(longest);
        let text = format!("--chunk is more than the ring's longest message of {longest}");
        return usage(&text);
    }
    Ok(match framing {
        Framing::Ended(end) => Cutter::Ended { end, strip: args.strip, longest, exact: None },
        Framing::Len32 => Cutter::Len32 { longest, exact: None },
        Framing::Raw => Cutter::Chunks { most: chunk },
    })
}

/// Waits until so many receivers are there.
fn await_receivers(name: &str, ring: &AnyRing, count: usize, patience: Patience) -> Outcome {
    let deadline = patience.deadline();
    let is_there = |who: &&Participant| who.role == Role::Receiver && who.alive;
    loop {
        let there = ring.stats().participants.iter().filter(is_there).count();
        if there >= count {
            return Ok(());
        }
        signals::check()?;
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            let text = format!("{name}: {there} of {count} receivers came before the time was up");
            return Err(Failure::new(Code::TimedOut, text));
        }
        std::thread::sleep(patience.slice(deadline).min(LOOK));
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
