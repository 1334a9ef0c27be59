//! The sender and the receivers of a `Broadcast` and of a `ByteBroadcast`, killed after each instruction of what they
//! do.

use std::hint::black_box;
use std::marker::PhantomData;
use std::time::Duration;

use annulus::{BroadcastRecvError, Delivery, Start, Wait};

use super::channel::{Bytes, Channel, Typed};
use crate::support::ptrace::{Child, Tracee};
use crate::support::sweep::{CHILD_LIFE, Case, Points, Row, Verdict, report, sweep};

const CAPACITY: usize = 16;

/// Messages that were sent and received when the operation begins.
const BEFORE: u64 = 24;

/// Messages that a batch has.
const BATCH: u64 = 3;

/// Messages that are sent and received after a kill.
const AFTER: u64 = 12;

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// A send that looks at the gates first, as the first one of a sender does here.
    Send,
    /// A send that knows that there is room.
    SendWithoutLook,
    /// A send of several messages.
    SendBatch,
    /// A send that does not wait for whoever it would have to wait for.
    Evict,
    /// Becoming the sender.
    JoinAsSender,
    /// Ceasing to be it.
    LeaveAsSender,
    /// Receiving one message that the sender waits for.
    Receive,
    /// Receiving several.
    ReceiveBatch,
    /// Receiving one that the sender would not have waited for.
    ReceiveLossy,
    /// Learning how many were missed.
    Lag,
    /// Going on after the sender has stopped waiting.
    Rejoin,
    /// Waiting for a message, which sleeps.
    Wait,
    /// Becoming a receiver that is waited for, from now on.
    JoinAsGate,
    /// The same, from the oldest message on.
    JoinAtTheOldest,
    /// Becoming a receiver that is not waited for.
    JoinLossy,
    /// Ceasing to be one that is.
    Leave,
}

const PARTS: [Part; 16] = [
    Part::Send,
    Part::SendWithoutLook,
    Part::SendBatch,
    Part::Evict,
    Part::JoinAsSender,
    Part::LeaveAsSender,
    Part::Receive,
    Part::ReceiveBatch,
    Part::ReceiveLossy,
    Part::Lag,
    Part::Rejoin,
    Part::Wait,
    Part::JoinAsGate,
    Part::JoinAtTheOldest,
    Part::JoinLossy,
    Part::Leave,
];

impl Part {
    fn is_senders(self) -> bool {
        let senders = [
            Self::Send,
            Self::SendWithoutLook,
            Self::SendBatch,
            Self::Evict,
            Self::JoinAsSender,
            Self::LeaveAsSender,
        ];
        senders.contains(&self)
    }

    /// Messages that the whole operation sends.
    fn sends(self) -> u64 {
        match self {
            Self::Send | Self::SendWithoutLook | Self::Evict => 1,
            Self::SendBatch => BATCH,
            _ => 0,
        }
    }

    /// Messages that are sent when the victim is about to begin.
    fn awaits(self) -> u64 {
        match self {
            Self::Receive | Self::ReceiveBatch | Self::ReceiveLossy => BATCH,
            Self::Lag | Self::Rejoin => 2 * CAPACITY as u64 + 1,
            _ => 0,
        }
    }

    /// Messages that a killed sender had sent before.
    fn sent_before(self) -> u64 {
        match self {
            Self::SendWithoutLook => 1,
            Self::Evict => CAPACITY as u64,
            _ => 0,
        }
    }

    fn run<C: Channel>(self, child: &Child, broadcast: &C::Opened) {
        let sender = || C::sender(broadcast).expect("the role is free");
        let receiver =
            |delivery| C::receiver(broadcast, delivery, Start::Now).expect("there is an entry");
        let join = |delivery, start| {
            let _ = black_box(child.section(|| C::receiver(broadcast, delivery, start)).is_ok());
        };
        match self {
            Self::Send | Self::SendWithoutLook | Self::Evict => {
                let mut tx = sender();
                // It looks, and finds room for one more than it needs; or it fills the ring.
                let before = BEFORE..BEFORE + self.sent_before();
                for tag in before.clone() {
                    C::try_send(&mut tx, &C::make(tag)).expect("room");
                }
                let message = C::make(before.end);
                if self == Self::Evict {
                    C::set_patience(&mut tx, Some(Duration::ZERO));
                    let send = || C::send_within(&mut tx, &message, CHILD_LIFE).is_ok();
                    black_box(child.section(send));
                } else {
                    black_box(child.section(|| C::try_send(&mut tx, &message).is_ok()));
                }
            }
            Self::SendBatch => {
                let mut tx = sender();
                let batch: [C::Message; BATCH as usize] =
                    std::array::from_fn(|i| C::make(BEFORE + i as u64));
                child.section(|| C::send_batch(&mut tx, &batch));
            }
            Self::JoinAsSender => {
                black_box(child.section(|| C::sender(broadcast)).is_ok());
            }
            Self::LeaveAsSender => {
                let tx = sender();
                child.section(|| drop(tx));
            }
            Self::Receive | Self::ReceiveLossy | Self::Lag => {
                let delivery = if self == Self::Receive { Delivery::Gate } else { Delivery::Lossy };
                let mut rx = receiver(delivery);
                child.section(|| C::take(&mut rx));
            }
            Self::ReceiveBatch => {
                let mut rx = receiver(Delivery::Gate);
                child.section(|| C::take_batch(&mut rx, BATCH as usize));
            }
            Self::Rejoin => {
                let mut rx = receiver(Delivery::Gate);
                black_box(child.section(|| C::rejoin(&mut rx, Start::Oldest)).is_ok());
            }
            Self::Wait => {
                let mut rx = receiver(Delivery::Gate);
                C::set_wait(&mut rx, Wait::Block);
                child.section(|| C::take_within(&mut rx, CHILD_LIFE));
            }
            Self::JoinAsGate => join(Delivery::Gate, Start::Now),
            Self::JoinAtTheOldest => join(Delivery::Gate, Start::Oldest),
            Self::JoinLossy => join(Delivery::Lossy, Start::Now),
            Self::Leave => {
                let rx = receiver(Delivery::Gate);
                child.section(|| drop(rx));
            }
        }
    }
}

struct Killed<C>(Part, PhantomData<C>);

struct Survivor<C: Channel> {
    broadcast: C::Opened,
    /// The sender, where it is not that one that is killed.
    tx: Option<C::Sender>,
    gate: C::Receiver,
    screen: C::Receiver,
    /// The next message that both survivors receive.
    next: u64,
    /// Whether a survivor may be told that it has missed something.
    misses: bool,
}

/// Receives what there is from the message `next` on; what comes after it, with what it was told that it has missed.
fn receive_all<C: Channel>(
    rx: &mut C::Receiver,
    mut next: u64,
    misses: bool,
) -> Result<u64, String> {
    loop {
        match C::try_recv(rx) {
            Ok(found) => match found? {
                tag if tag == next => next += 1,
                tag => return Err(format!("{tag}, not {next}")),
            },
            Err(BroadcastRecvError::Empty | BroadcastRecvError::Disconnected) => return Ok(next),
            Err(BroadcastRecvError::Lagged(missed)) if misses => next += missed,
            Err(BroadcastRecvError::Evicted) if misses => {
                next += C::rejoin(rx, Start::Oldest).map_err(|error| error.to_string())?;
            }
            Err(error) => return Err(format!("{error} at {next}")),
        }
    }
}

impl<C: Channel> Survivor<C> {
    /// Both receive what there is, and it is the same.
    fn receive(&mut self) -> Result<(), String> {
        let there = receive_all::<C>(&mut self.gate, self.next, self.misses)?;
        let too = receive_all::<C>(&mut self.screen, self.next, self.misses)?;
        if there != too {
            return Err(format!("one receives up to {there}, the other up to {too}"));
        }
        self.next = there;
        Ok(())
    }

    /// Sends the next messages, and both receive them.
    fn pass(&mut self, count: u64) -> Result<(), String> {
        for _ in 0..count {
            let tx = self.tx.as_mut().ok_or("there is a sender")?;
            C::send_within(tx, &C::make(self.next), CHILD_LIFE)?;
            let before = self.next;
            self.receive()?;
            if self.next != before + 1 {
                return Err(format!("message {before} was not received"));
            }
        }
        Ok(())
    }
}

impl<C: Channel> Case for Killed<C> {
    type Survivor = Survivor<C>;

    fn label(&self) -> String {
        format!("{} {:?}", C::LABEL, self.0)
    }

    fn start(&self) -> Result<(Tracee, Survivor<C>), String> {
        let part = self.0;
        let broadcast = C::create(CAPACITY, 3).map_err(|error| format!("create: {error}"))?;
        let receiver = |delivery| {
            C::receiver(&broadcast, delivery, Start::Now)
                .map_err(|error| format!("receiver: {error}"))
        };
        let (gate, screen) = (receiver(Delivery::Gate)?, receiver(Delivery::Lossy)?);
        let tx = C::sender(&broadcast).map_err(|error| format!("sender: {error}"))?;
        let fd = C::share(&broadcast).map_err(|error| error.to_string())?;
        let mut survivor =
            Survivor::<C> { broadcast, tx: Some(tx), gate, screen, next: 0, misses: false };
        survivor.pass(BEFORE)?;
        if part.is_senders() {
            survivor.tx = None;
        }
        let tracee = Tracee::spawn(CHILD_LIFE, |child| {
            part.run::<C>(child, &C::from_fd(fd).expect("opens"));
        })?;
        if part == Part::Rejoin {
            if let Some(tx) = &mut survivor.tx {
                C::set_patience(tx, Some(Duration::ZERO));
            }
        }
        survivor.pass(part.awaits())?;
        if let Some(tx) = &mut survivor.tx {
            C::set_patience(tx, None);
        }
        Ok((tracee, survivor))
    }

    fn sleeps(&self) -> bool {
        self.0 == Part::Wait
    }

    fn wake(&self, survivor: &mut Survivor<C>) {
        survivor.pass(1).expect("a message passes");
    }

    fn check(&self, mut survivor: Survivor<C>) -> Result<Verdict, String> {
        let part = self.0;
        let before = survivor.next;
        survivor.misses = part == Part::Evict;
        survivor.receive()?;
        survivor.misses = false;
        let mut effect = survivor.next - before;
        if survivor.tx.is_none() {
            let tx = C::sender(&survivor.broadcast);
            survivor.tx = Some(tx.map_err(|error| format!("a successor: {error}"))?);
        } else if effect > 0 {
            return Err("messages from nowhere".into());
        }
        effect = effect.checked_sub(part.sent_before()).ok_or("what was sent before is lost")?;
        // A dead gate does not hold the sender, and its entry is free for another one.
        for i in 0..AFTER {
            let start = if i % 2 == 0 { Start::Now } else { Start::Oldest };
            let other = C::receiver(&survivor.broadcast, Delivery::Gate, start);
            let mut other = other.map_err(|error| format!("its entry: {error}"))?;
            // What is there already would hold the sender.
            if let Some(last) = last::<C>(&mut other)? {
                if last + 1 != survivor.next {
                    return Err(format!("the oldest end at {last}, not {}", survivor.next));
                }
            }
            survivor.pass(1)?;
            let last = last::<C>(&mut other)?.ok_or("a new receiver receives nothing")?;
            if last + 1 != survivor.next {
                return Err(format!("a new receiver is at {last}, others at {}", survivor.next));
            }
        }
        Ok(Verdict::of(effect))
    }

    fn effect(&self) -> u64 {
        self.0.sends()
    }
}

/// The last message that there is.
fn last<C: Channel>(rx: &mut C::Receiver) -> Result<Option<u64>, String> {
    let mut last = None;
    while let Ok(found) = C::try_recv(rx) {
        last = Some(found?);
    }
    Ok(last)
}

fn rows<C: Channel>() -> Vec<Row> {
    let killed = PARTS.map(|part| Killed::<C>(part, PhantomData));
    killed.iter().map(|case| sweep(case, Points::Every, 2)).collect()
}

#[test]
fn broadcast() {
    report("broadcast", &rows::<Typed>());
}

#[test]
fn broadcast_of_bytes() {
    report("broadcast of bytes", &rows::<Bytes>());
}
