//! The sender and the receivers of a `Broadcast`, killed after each instruction of what they do.

use std::hint::black_box;
use std::time::Duration;

use annulus::{
    Broadcast, BroadcastReceiver, BroadcastRecvError, BroadcastSender, Delivery, Place, Start, Wait,
};

use super::message::Tagged;
use crate::support::ptrace::{Child, Tracee};
use crate::support::sweep::{CHILD_LIFE, Case, Points, Verdict, report, sweep};

type Message = [u64; 8];

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

const PARTS: [Part; 15] = [
    Part::Send,
    Part::SendWithoutLook,
    Part::SendBatch,
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
            Self::JoinAsSender,
            Self::LeaveAsSender,
        ];
        senders.contains(&self)
    }

    /// Messages that the whole operation sends.
    fn sends(self) -> u64 {
        match self {
            Self::Send | Self::SendWithoutLook => 1,
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

    fn run(self, child: &Child, broadcast: &Broadcast<Message>) {
        let sender = || broadcast.sender().expect("the role is free");
        let receiver = |delivery| broadcast.receiver(delivery, Start::Now).expect("an entry");
        let join = |delivery, start| {
            let _ = black_box(child.section(|| broadcast.receiver(delivery, start)));
        };
        match self {
            Self::Send | Self::SendWithoutLook => {
                let mut tx = sender();
                let mut tag = BEFORE;
                if self == Self::SendWithoutLook {
                    // It looks, and finds room for one more than it needs.
                    tx.try_send(Message::make(tag)).expect("room");
                    tag += 1;
                }
                let message = Message::make(tag);
                let _ = black_box(child.section(|| tx.try_send(message)));
            }
            Self::SendBatch => {
                let mut tx = sender();
                let batch: [Message; BATCH as usize] =
                    std::array::from_fn(|i| Message::make(BEFORE + i as u64));
                black_box(child.section(|| tx.try_send_batch(&batch)));
            }
            Self::JoinAsSender => {
                let _ = black_box(child.section(|| broadcast.sender()));
            }
            Self::LeaveAsSender => {
                let tx = sender();
                child.section(|| drop(tx));
            }
            Self::Receive | Self::ReceiveLossy | Self::Lag => {
                let delivery = if self == Self::Receive { Delivery::Gate } else { Delivery::Lossy };
                let mut rx = receiver(delivery);
                let _ = black_box(child.section(|| rx.try_recv()));
            }
            Self::ReceiveBatch => {
                let mut rx = receiver(Delivery::Gate);
                let mut batch = [Message::make(0); BATCH as usize];
                let _ = black_box(child.section(|| rx.try_recv_batch(&mut batch)));
            }
            Self::Rejoin => {
                let mut rx = receiver(Delivery::Gate);
                let _ = black_box(child.section(|| rx.rejoin(Start::Oldest)));
            }
            Self::Wait => {
                let mut rx = receiver(Delivery::Gate).with_wait(Wait::Block);
                let _ = black_box(child.section(|| rx.recv_timeout(CHILD_LIFE)));
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

struct Killed(Part);

struct Survivor {
    broadcast: Broadcast<Message>,
    /// The sender, where it is not that one that is killed.
    tx: Option<BroadcastSender<Message>>,
    gate: BroadcastReceiver<Message>,
    screen: BroadcastReceiver<Message>,
    /// The next message that both survivors receive.
    next: u64,
}

fn receive_all(rx: &mut BroadcastReceiver<Message>, mut next: u64) -> Result<u64, String> {
    loop {
        match rx.try_recv() {
            Ok(message) if message.tag()? == next => next += 1,
            Ok(message) => return Err(format!("{}, not {next}", message.tag()?)),
            Err(BroadcastRecvError::Empty | BroadcastRecvError::Disconnected) => return Ok(next),
            Err(error) => return Err(format!("{error} at {next}")),
        }
    }
}

impl Survivor {
    /// Both receive what there is, and it is the same.
    fn receive(&mut self) -> Result<(), String> {
        let there = receive_all(&mut self.gate, self.next)?;
        let too = receive_all(&mut self.screen, self.next)?;
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
            let message = Message::make(self.next);
            tx.send_timeout(message, CHILD_LIFE).map_err(|error| error.to_string())?;
            let before = self.next;
            self.receive()?;
            if self.next != before + 1 {
                return Err(format!("message {before} was not received"));
            }
        }
        Ok(())
    }
}

impl Case for Killed {
    type Survivor = Survivor;

    fn label(&self) -> String {
        format!("broadcast {:?}", self.0)
    }

    fn start(&self) -> Result<(Tracee, Survivor), String> {
        let part = self.0;
        let builder = Broadcast::<Message>::builder(CAPACITY).participants(3);
        let place = Place::memfd("kill").map_err(|error| error.to_string())?;
        let broadcast = builder.create(place).map_err(|error| format!("create: {error}"))?;
        let receiver = |delivery| {
            broadcast.receiver(delivery, Start::Now).map_err(|error| format!("receiver: {error}"))
        };
        let (gate, screen) = (receiver(Delivery::Gate)?, receiver(Delivery::Lossy)?);
        let tx = broadcast.sender().map_err(|error| format!("sender: {error}"))?;
        let fd = broadcast.inheritable_fd().map_err(|error| error.to_string())?;
        let mut survivor = Survivor { broadcast, tx: Some(tx), gate, screen, next: 0 };
        survivor.pass(BEFORE)?;
        if part.is_senders() {
            survivor.tx = None;
        }
        let tracee = Tracee::spawn(CHILD_LIFE, |child| {
            part.run(child, &Broadcast::from_fd(fd).expect("opens"));
        })?;
        if part == Part::Rejoin {
            if let Some(tx) = &mut survivor.tx {
                tx.set_patience(Some(Duration::ZERO));
            }
        }
        survivor.pass(part.awaits())?;
        if let Some(tx) = &mut survivor.tx {
            tx.set_patience(None);
        }
        Ok((tracee, survivor))
    }

    fn sleeps(&self) -> bool {
        self.0 == Part::Wait
    }

    fn wake(&self, survivor: &mut Survivor) {
        survivor.pass(1).expect("a message passes");
    }

    fn check(&self, mut survivor: Survivor) -> Result<Verdict, String> {
        let part = self.0;
        let before = survivor.next;
        survivor.receive()?;
        let mut effect = survivor.next - before;
        if survivor.tx.is_none() {
            let tx = survivor.broadcast.sender();
            survivor.tx = Some(tx.map_err(|error| format!("a successor: {error}"))?);
        } else if effect > 0 {
            return Err("messages from nowhere".into());
        }
        if part == Part::SendWithoutLook {
            // One was sent before the section.
            effect = effect.checked_sub(1).ok_or("what was sent before is lost")?;
        }
        // A dead gate does not hold the sender, and its entry is free for another one.
        for i in 0..AFTER {
            let start = if i % 2 == 0 { Start::Now } else { Start::Oldest };
            let other = survivor.broadcast.receiver(Delivery::Gate, start);
            let mut other = other.map_err(|error| format!("its entry: {error}"))?;
            // What is there already would hold the sender.
            if let Some(last) = other.try_iter().last() {
                if last.tag()? + 1 != survivor.next {
                    return Err(format!(
                        "the oldest end at {}, not {}",
                        last.tag()?,
                        survivor.next
                    ));
                }
            }
            survivor.pass(1)?;
            let last = other.try_iter().last().ok_or("a new receiver receives nothing")?.tag()?;
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

#[test]
fn broadcast() {
    let rows: Vec<_> = PARTS.iter().map(|&part| sweep(&Killed(part), Points::Every, 2)).collect();
    report("broadcast", &rows);
}
