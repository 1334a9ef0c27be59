//! One sender and every message for every receiver, one of whom may die.

use crate::explore::{End, explore, explore_kills, process};
use annulus::protocol::Blocked;
use annulus::protocol::broadcast::{Broadcast, Delivery, Found, Receiver, Sender, Start};
use annulus::protocol::layout::{Entry, Half};
use annulus::protocol::slots::{self, Typed};
use annulus::sync::{Ordering, Word, model, spin_hint};
use loom::thread;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// One message a cell, so that each lap writes over what the last one left.
const SHAPE: Typed<[u64; 4]> = Typed::new();

/// Who dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// Nobody.
    Nobody,
    /// The sender, at each of its accesses; a successor goes on.
    Sender,
    /// The first receiver, at each of its accesses.
    Receiver,
}

/// A model.
#[derive(Clone, Copy, Debug)]
pub struct Channel {
    /// What it shows.
    pub name: &'static str,
    /// Messages that fit.
    pub capacity: usize,
    /// Messages that were sent before anybody joined.
    pub before: u64,
    /// Attempts to send.
    pub sends: usize,
    /// Messages sent in a call.
    pub batch: usize,
    /// Receivers, and their attempts to receive.
    pub receivers: &'static [(Delivery, Start, usize)],
    /// Where a receiver goes on that has missed something.
    pub resume: Start,
    /// Whether the sender evicts whom it would have to wait for.
    pub evicts: bool,
    /// Who dies.
    pub victim: Victim,
    /// The most preemptions in an interleaving.
    pub preemptions: usize,
}

/// The segment.
struct Memory {
    sender: Half,
    meeting: Half,
    table: Vec<Entry>,
    places: Vec<Half>,
    words: Vec<Word>,
}

/// A receiver and what it has to get next, once that is known.
#[derive(Default)]
struct Listener {
    receiver: Option<Receiver>,
    next: Option<u64>,
}

impl Memory {
    fn new(channel: Channel) -> Arc<Self> {
        let receivers = channel.receivers.len();
        let words = slots::words_for(SHAPE, channel.capacity).unwrap();
        let memory = Self {
            sender: Half::new(),
            meeting: Half::new(),
            table: (0..receivers).map(|_| Entry::new()).collect(),
            places: (0..receivers).map(|_| Half::new()).collect(),
            words: (0..words).map(|_| Word::new(0)).collect(),
        };
        slots::initialise(&memory.words, SHAPE, channel.capacity);
        // loom's cells are not `Sync`: it is loom that checks who touches them.
        #[allow(clippy::arc_with_non_send_sync)]
        let memory = Arc::new(memory);
        assert_eq!(memory.send(channel, channel.before as usize, 1), channel.before);
        memory
    }

    fn memory(&self) -> Broadcast<'_> {
        let Self { sender, meeting, table, places, words } = self;
        Broadcast { sender, meeting, table, places, words }
    }

    /// Sends messages that say their number, in `tries` calls; how many messages there are after that.
    fn send(&self, channel: Channel, tries: usize, batch: usize) -> u64 {
        let mem = self.memory();
        let mut sender = Sender::recover(mem, SHAPE, channel.capacity).unwrap();
        // Positions count messages.
        let mut sent = self.sender.cursor.position.load(Ordering::Relaxed);
        for _ in 0..tries {
            let bytes: Vec<u8> = (sent..sent + batch as u64)
                .flat_map(|number| [number; 4])
                .flat_map(u64::to_le_bytes)
                .collect();
            let done = match batch {
                1 => sender.try_send(mem, SHAPE, &bytes).map(|()| 1),
                _ => sender.try_send_batch(mem, SHAPE, &bytes, batch),
            };
            match done {
                Ok(count) => sent += count as u64,
                Err(blocked) => {
                    assert_eq!(blocked, Blocked::NotReady);
                    match channel.evicts {
                        true => drop(sender.evict(mem)),
                        false => spin_hint(),
                    }
                }
            }
        }
        sent
    }

    fn join(&self, channel: Channel, me: usize) -> Receiver {
        let (delivery, start, _) = channel.receivers[me];
        let mem = self.memory().heard_by(me);
        let mut receiver = Receiver::join(&mem, SHAPE, channel.capacity, delivery, start).unwrap();
        receiver.set_resume(channel.resume);
        receiver
    }

    /// Makes `tries` attempts to receive; whether the last one found nothing.
    fn receive(&self, channel: Channel, me: usize, tries: usize, listener: &mut Listener) -> bool {
        let mem = &self.memory().heard_by(me);
        let delivery = channel.receivers[me].0;
        let receiver = listener.receiver.as_mut().expect("it has joined");
        // What nobody keeps from being written over.
        model::reads_at_risk(delivery == Delivery::Lossy || channel.evicts);
        let mut empty = false;
        for _ in 0..tries {
            let mut message = [0_u64; 4];
            // SAFETY: there is room for a message.
            let found = unsafe { receiver.try_recv(mem, SHAPE, message.as_mut_ptr().cast()) };
            empty = found == Err(Blocked::NotReady);
            match found {
                Ok(Found::Messages(_)) => {
                    let number = message[0];
                    assert_eq!(message, [number; 4], "torn");
                    assert_eq!(number, listener.next.unwrap_or(number), "missed in silence");
                    listener.next = Some(number + 1);
                }
                Ok(Found::Lagged(missed)) => {
                    assert!(delivery == Delivery::Lossy && missed > 0);
                    listener.next = listener.next.map(|next| next + missed);
                }
                Ok(Found::Evicted) => {
                    assert!(delivery == Delivery::Gate && channel.evicts);
                    let missed = receiver.rejoin(mem, SHAPE, Start::Oldest).unwrap();
                    listener.next = listener.next.map(|next| next + missed);
                }
                Err(blocked) => {
                    assert_eq!(blocked, Blocked::NotReady, "a sound ring");
                    spin_hint();
                }
            }
            receiver.release(mem);
        }
        model::reads_at_risk(false);
        empty
    }
}

impl Channel {
    /// Explores it.
    pub fn run(&self) {
        let channel = *self;
        if self.victim == Victim::Nobody {
            explore(self.name, Some(self.preemptions), move || {
                channel.once(None);
            });
        } else {
            explore_kills(self.name, Some(self.preemptions), move |kill| channel.once(kill));
        }
    }

    fn once(self, kill: Option<usize>) -> End {
        let memory = Memory::new(self);
        let receivers = self.receivers.iter().enumerate().map(|(me, &(_, _, tries))| {
            let memory = Arc::clone(&memory);
            let kills = self.victim == Victim::Receiver && me == 0;
            thread::spawn(move || {
                let listener = RefCell::new(Listener::default());
                let end = process(kill.filter(|_| kills), || {
                    let receiver = memory.join(self, me);
                    let mut listener = listener.borrow_mut();
                    listener.receiver = Some(receiver);
                    memory.receive(self, me, tries, &mut listener);
                });
                if end.killed {
                    // The kernel knows that it is gone; whoever finds that out frees its entry.
                    memory.table[me].journal.intent.store(0, Ordering::Release);
                }
                (end, listener.into_inner())
            })
        });
        let receivers: Vec<_> = receivers.collect();
        let sent = Cell::new(0);
        let kills = self.victim == Victim::Sender;
        let mut end = process(kill.filter(|_| kills), || {
            sent.set(memory.send(self, self.sends, self.batch));
        });
        if end.killed {
            sent.set(memory.send(self, 2, 1));
        }
        let mut listeners = Vec::new();
        for (me, receiver) in receivers.into_iter().enumerate() {
            let (receivers_end, listener) = receiver.join().unwrap();
            if self.victim == Victim::Receiver && me == 0 {
                end = receivers_end;
            }
            listeners.push(Some(listener).filter(|_| !receivers_end.killed));
        }
        // Everybody gets the rest, and what comes then.
        for _ in 0..self.capacity + 1 {
            let mut last = sent.get();
            for (me, listener) in listeners.iter_mut().enumerate() {
                let Some(listener) = listener else { continue };
                let mut tries = 0;
                while !memory.receive(self, me, 1, listener) {
                    tries += 1;
                    assert!(tries < 20, "it never comes to the end");
                }
                if let Some(next) = listener.next {
                    assert_eq!(next, last, "what was sent is received");
                }
            }
            last += 1;
            assert_eq!(memory.send(self, 1, 1), last, "nobody holds the sender");
            sent.set(last);
        }
        end
    }
}

const CHANNEL: Channel = Channel {
    name: "",
    capacity: 1,
    before: 0,
    sends: 3,
    batch: 1,
    receivers: &[(Delivery::Gate, Start::Now, 2)],
    resume: Start::Oldest,
    evicts: false,
    victim: Victim::Nobody,
    preemptions: 2,
};

// Each word that is read at risk may be any of several: two messages are enough to have one written over.
const LOSSY: Channel =
    Channel { sends: 2, receivers: &[(Delivery::Lossy, Start::Oldest, 1)], ..CHANNEL };

/// Nobody dies.
pub const BROADCAST_UNDISTURBED: &[Channel] = &[
    Channel { name: "broadcast: a gate joins", preemptions: 3, ..CHANNEL },
    Channel { name: "broadcast: a gate joins after a lap", before: 3, preemptions: 3, ..CHANNEL },
    Channel {
        name: "broadcast: a gate joins at the oldest",
        capacity: 2,
        before: 3,
        receivers: &[(Delivery::Gate, Start::Oldest, 3)],
        ..CHANNEL
    },
    Channel {
        name: "broadcast: two gates, one of whom joins at the oldest",
        capacity: 2,
        receivers: &[(Delivery::Gate, Start::Now, 1), (Delivery::Gate, Start::Oldest, 1)],
        preemptions: 1,
        ..CHANNEL
    },
    Channel { name: "broadcast: nobody waits for a receiver", ..LOSSY },
    Channel {
        name: "broadcast: nobody waits, room for 2, and on to the newest",
        capacity: 2,
        before: 2,
        sends: 3,
        resume: Start::Now,
        preemptions: 1,
        ..LOSSY
    },
    Channel {
        name: "broadcast: one is waited for, the other is not",
        receivers: &[(Delivery::Lossy, Start::Now, 1), (Delivery::Gate, Start::Now, 1)],
        sends: 2,
        preemptions: 1,
        ..CHANNEL
    },
    Channel { name: "broadcast: pairs", capacity: 2, batch: 2, preemptions: 1, ..LOSSY },
    Channel {
        name: "broadcast: a gate that is evicted",
        receivers: &[(Delivery::Gate, Start::Now, 2)],
        evicts: true,
        preemptions: 1,
        ..CHANNEL
    },
];

/// One dies.
pub const BROADCAST_DEATHS: &[Channel] = &[
    Channel {
        name: "broadcast: the sender dies, and somebody joins",
        before: 2,
        victim: Victim::Sender,
        preemptions: 1,
        ..CHANNEL
    },
    Channel {
        name: "broadcast: the sender of pairs dies, and nobody was waited for",
        capacity: 2,
        sends: 1,
        batch: 2,
        victim: Victim::Sender,
        preemptions: 1,
        ..LOSSY
    },
    Channel {
        name: "broadcast: a gate dies while it joins or receives",
        capacity: 2,
        before: 1,
        receivers: &[(Delivery::Gate, Start::Oldest, 2)],
        victim: Victim::Receiver,
        preemptions: 1,
        ..CHANNEL
    },
    Channel {
        name: "broadcast: the sender dies while it evicts",
        sends: 2,
        receivers: &[(Delivery::Gate, Start::Now, 1)],
        evicts: true,
        victim: Victim::Sender,
        preemptions: 1,
        ..CHANNEL
    },
    Channel {
        name: "broadcast: a gate dies while it is evicted",
        receivers: &[(Delivery::Gate, Start::Now, 2)],
        evicts: true,
        victim: Victim::Receiver,
        preemptions: 1,
        ..CHANNEL
    },
];
