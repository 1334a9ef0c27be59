//! What is there, of a ring of any kind: each message once, and none is taken.

use crate::exit::{Code, Failure, Outcome};
use crate::framing::{Framing, FramingArgs};
use crate::get;
use crate::recv::choice::{Choice, DeliveryArgs};
use crate::recv::join::Joiner;
use crate::recv::missed::Missed;
use crate::recv::source::{Dry, no_letter, no_message};
use crate::recv::{died, joiner};
use crate::ring::{AnyRing, place};
use crate::signals;
use annulus::inspect::Snapshot;
use annulus::{
    BroadcastRecvError, ByteBroadcastReceiver, ByteReceiver, Delivery, LatestError, MailReceiver,
    MailRecvError, RingKind, Role, Select, SetupError, Start, Subscription, Topology, TryRecvError,
    UntypedLatestReader, UntypedReceiver,
};
use std::collections::HashSet;
use std::time::Duration;

/// Between two looks at what does not ring.
const LOOK: Duration = Duration::from_millis(20);

/// What becomes of a message that was seen.
pub type Each<'a> = dyn FnMut(&[u8]) -> Outcome + 'a;

/// Somebody who looks.
#[derive(Debug)]
pub struct Watch<'a> {
    name: &'a str,
    /// What is looked at, to learn whether its senders have left; none for a variable, whose reader tells.
    ring: Option<AnyRing>,
    eye: Eye<'a>,
}

#[derive(Debug)]
enum Eye<'a> {
    Bytes {
        side: Box<ByteReceiver>,
        /// Messages that were seen. Nobody takes any meanwhile.
        seen: usize,
        message: Vec<u8>,
    },
    Slots {
        side: Box<UntypedReceiver>,
        seen: usize,
        size: usize,
        messages: Vec<u8>,
    },
    Mailbox {
        side: Box<MailReceiver>,
        arrivals: Box<Subscription>,
        select: Select,
        /// Numbers of the messages that were seen, also of some that are gone: while others take, a look misses messages
        /// that are there.
        seen: HashSet<u64>,
        /// How many messages can be there.
        most: usize,
        message: Vec<u8>,
    },
    Broadcast(Box<ByteBroadcastReceiver>, Missed<'a>),
    Latest {
        side: Box<UntypedLatestReader>,
        seen: u64,
        value: Vec<u8>,
    },
}

impl<'a> Watch<'a> {
    /// Opens what has this name, to be looked at, with what puts its messages together.
    pub fn open(
        name: &'a str,
        owner: Option<u32>,
        select: Option<Select>,
        framing: FramingArgs,
    ) -> Outcome<(Self, Joiner)> {
        let seen = Snapshot::open(&place(name)?);
        if seen.is_ok_and(|seen| seen.kind == RingKind::Latest) {
            return Self::of_variable(name, owner, select, framing);
        }
        let ring = AnyRing::open_existing(name, owner)?;
        // Nobody else need have it open.
        ring.keep();
        let choice = Choice::of(name, &ring, select, &DeliveryArgs::default(), None)?;
        let eye = Eye::open(name, &ring, choice.select)?;
        let joiner = joiner(&ring, framing);
        Ok((Self { name, ring: Some(ring), eye }, joiner))
    }

    fn of_variable(
        name: &'a str,
        owner: Option<u32>,
        select: Option<Select>,
        framing: FramingArgs,
    ) -> Outcome<(Self, Joiner)> {
        if select.is_some() {
            let text = format!("{name}: choosing by type is for mailboxes, and this is a variable");
            return Err(Failure::new(Code::Usage, text));
        }
        let variable = get::open(name, owner)?;
        let side = variable.reader().map_err(|error| Failure::setup(name, &error))?;
        let value = vec![0; variable.value_size()];
        let eye = Eye::Latest { side: Box::new(side), seen: 0, value };
        let joiner = Joiner::new(framing.chosen().unwrap_or(Framing::Raw), true);
        Ok((Self { name, ring: None, eye }, joiner))
    }

    /// Shows to `each` what is there and was not shown before; [`Dry::Over`] if that was all there will be.
    pub fn look(&mut self, each: &mut Each<'_>) -> Result<(), Dry> {
        // Before the look: what was sent before the end is seen in it.
        let is_over = self.ring.as_ref().is_some_and(has_ended);
        self.eye.look(self.name, each)?;
        if is_over { Err(Dry::Over) } else { Ok(()) }
    }

    /// What [`Dry::Over`] comes to: a failure if the sender was killed.
    pub fn end(&self) -> Outcome {
        let ending = match &self.eye {
            Eye::Bytes { side, .. } => side.ending(),
            Eye::Slots { side, .. } => side.ending(),
            Eye::Broadcast(side, _) => side.ending(),
            Eye::Latest { side, .. } => side.ending(),
            Eye::Mailbox { .. } => None,
        };
        died(self.name, ending)
    }

    /// Waits until there may be something to see, but not for long.
    pub fn pause(&mut self) {
        // Whatever comes of it, the next look says it better.
        match &mut self.eye {
            Eye::Bytes { .. } | Eye::Slots { .. } => std::thread::sleep(LOOK),
            Eye::Mailbox { arrivals, .. } => drop(arrivals.wait_timeout(signals::SLICE)),
            Eye::Broadcast(side, _) => drop(side.wait_ready(signals::SLICE)),
            Eye::Latest { .. } => {}
        }
    }
}

/// Whether there were senders, and there are none.
fn has_ended(ring: &AnyRing) -> bool {
    if ring.is_persistent() || matches!(ring, AnyRing::Mailbox(_)) {
        return false;
    }
    let participants = ring.stats().participants;
    let mut senders = participants.iter().filter(|who| who.role == Role::Sender).peekable();
    senders.peek().is_some() && senders.all(|who| !who.alive)
}

impl<'a> Eye<'a> {
    fn open(name: &'a str, ring: &AnyRing, select: Select) -> Outcome<Self> {
        let setup = |error: SetupError| Failure::setup(name, &error);
        Ok(match ring {
            AnyRing::Bytes(bytes) => {
                check_sides(name)?;
                check_sender(name, ring)?;
                let side = bytes.receiver().map_err(|error| occupied(name, &error))?;
                Self::Bytes { side: Box::new(side), seen: 0, message: Vec::new() }
            }
            AnyRing::Slots(slots) => {
                check_sides(name)?;
                check_sender(name, ring)?;
                let side = slots.receiver().map_err(|error| occupied(name, &error))?;
                let size = slots.message_size();
                let messages = vec![0; slots.capacity() * size];
                Self::Slots { side: Box::new(side), seen: 0, size, messages }
            }
            AnyRing::Mailbox(mailbox) => {
                let failed = |error| match no_letter(name, error) {
                    Dry::Failed(failure) => failure,
                    Dry::Empty | Dry::Over => Failure::told(Code::Failure),
                };
                // Before the first look, so that it hears of all that comes after it.
                let arrivals = mailbox.subscribe(select).map_err(failed)?;
                let side = mailbox.receiver().map_err(setup)?;
                Self::Mailbox {
                    side: Box::new(side),
                    arrivals: Box::new(arrivals),
                    select,
                    seen: HashSet::new(),
                    most: mailbox.capacity() * mailbox.types(),
                    message: vec![0; mailbox.longest()],
                }
            }
            AnyRing::Broadcast(broadcast) => {
                let side = broadcast.receiver(Delivery::Lossy, Start::Oldest).map_err(setup)?;
                Self::Broadcast(Box::new(side), Missed::of(name))
            }
        })
    }

    fn look(&mut self, name: &str, each: &mut Each<'_>) -> Result<(), Dry> {
        match self {
            Self::Bytes { side, seen, message } => {
                let (mut index, mut done) = (0, Ok(()));
                let looked = side.try_peek_batch(|peek| {
                    index += 1;
                    if index > *seen {
                        message.resize(peek.len(), 0);
                        peek.copy_to(message);
                        done = each(message);
                        *seen = index;
                    }
                    done.is_ok()
                });
                done?;
                peeked(name, looked)
            }
            Self::Slots { side, seen, size, messages } => {
                let looked = side.try_peek_batch(messages);
                if let Ok(count) = looked {
                    for message in messages.chunks_exact(*size).take(count).skip(*seen) {
                        each(message)?;
                    }
                    *seen = count;
                }
                peeked(name, looked)
            }
            Self::Mailbox { side, select, seen, most, message, .. } => {
                let (mut there, mut done) = (HashSet::new(), Ok(()));
                let looked = side.try_peek_batch(*select, |peek| {
                    let letter = peek.letter();
                    there.insert(letter.number);
                    // One that was taken meanwhile may be handed out again, and is seen then.
                    if !seen.contains(&letter.number) && peek.copy_to(message) {
                        seen.insert(letter.number);
                        done = each(&message[..letter.length]);
                    }
                    done = std::mem::replace(&mut done, Ok(())).and_then(|()| signals::check());
                    done.is_ok()
                });
                done?;
                match looked {
                    Ok(_) | Err(MailRecvError::Empty) => {}
                    Err(error) => return Err(no_letter(name, error)),
                }
                if seen.len() > 4 * *most {
                    let newest = seen.iter().copied().max().unwrap_or(0);
                    let recent = newest.saturating_sub(2 * *most as u64);
                    seen.retain(|number| *number >= recent || there.contains(number));
                }
                Ok(())
            }
            Self::Broadcast(side, missed) => {
                missed.add(0);
                // No more than it holds: a sender that is faster than our output would keep us here.
                let mut left = side.broadcast().capacity();
                while left > 0 {
                    signals::check()?;
                    match side.try_recv() {
                        Ok(message) => {
                            left -= 1;
                            each(message)?;
                        }
                        Err(BroadcastRecvError::Lagged(count)) => missed.add(count),
                        Err(BroadcastRecvError::Empty) => break,
                        Err(error) => return Err(no_message(name, error)),
                    }
                }
                Ok(())
            }
            Self::Latest { side, seen, value } => {
                let mut version = side.read(value);
                if version.is_ok_and(|version| version == *seen) {
                    version = side.wait_for_change_timeout(value, signals::SLICE);
                }
                match version {
                    Ok(version) if version == *seen => Ok(()),
                    Ok(version) => {
                        *seen = version;
                        Ok(each(value)?)
                    }
                    Err(LatestError::Timeout) => Ok(()),
                    Err(LatestError::Disconnected) => Err(Dry::Over),
                    Err(error) => Err(get::failed(name, error, true).into()),
                }
            }
        }
    }
}

/// What a look as the receiver who takes nothing came to.
fn peeked(name: &str, looked: Result<usize, TryRecvError>) -> Result<(), Dry> {
    match looked {
        Ok(_) | Err(TryRecvError::Empty) => Ok(()),
        Err(TryRecvError::Disconnected) => Err(Dry::Over),
        Err(error) => Err(Failure::of(name, &error).into()),
    }
}

/// Whoever looks into a ring does so as its receiver, of whom a sender hears.
fn check_sender(name: &str, ring: &AnyRing) -> Outcome {
    let participants = ring.stats().participants;
    let is_there = participants.iter().any(|who| who.role == Role::Sender && who.alive);
    if is_there && !ring.is_persistent() {
        let text = format!(
            "{name}: to look into a ring is to be its receiver, and when that one leaves, the sender ends; receive from it, or make it persistent, or a broadcast"
        );
        return Err(Failure::new(Code::WouldBlock, text));
    }
    Ok(())
}

/// Whoever looks as the receiver sees all messages only where they lie in one place.
fn check_sides(name: &str) -> Outcome {
    let seen = Snapshot::open(&place(name)?).map_err(|error| Failure::setup(name, &error))?;
    let why = match (seen.topology, seen.kind) {
        (Topology::Spsc, _) => return Ok(()),
        (_, RingKind::Bytes) => {
            "where each sender has a lane, the next one's messages are seen when those before are taken"
        }
        _ => {
            "in a ring with shared sides a message is seen by whoever claims it, and others do not get it"
        }
    };
    let text = format!("{name}: {why}; receive from it, or make it a broadcast");
    Err(Failure::new(Code::WouldBlock, text))
}

fn occupied(name: &str, error: &SetupError) -> Failure {
    let failure = Failure::setup(name, error);
    match error {
        SetupError::RoleTaken { .. } => {
            failure.and("what it has not taken, nobody else can look at meanwhile")
        }
        _ => failure,
    }
}
