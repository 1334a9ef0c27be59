//! Rings with shared sides: several senders, several receivers, one of whom may die, and those who repair.

use crate::explore::{End, process};
use annulus::protocol::claims::{self, Claims, Held, Outcome, RecvCursor, SendCursor};
use annulus::protocol::layout::{ACTIVE, Entry, Half, RECEIVES};
use annulus::protocol::slots::Typed;
use annulus::sync::{Ordering, Word, model};
use loom::sync::{Mutex, MutexGuard};
use loom::thread;
use std::cell::RefCell;
use std::sync::Arc;

const SHAPE: Typed<u64> = Typed::new();

/// Who takes part, and what they do.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// Messages that fit.
    pub capacity: usize,
    /// Messages that have passed before.
    pub start: u64,
    /// Messages that are in the ring when all begin, from a sender that has left.
    pub before: u64,
    /// Messages that each sender sends.
    pub senders: &'static [u64],
    /// Calls that each receiver makes.
    pub receivers: &'static [u64],
    /// Most messages sent or received by a call.
    pub batch: usize,
    /// Whether a side with one participant is declared to have only one.
    pub sole: bool,
    /// What receivers do with the first message that they get.
    pub first: First,
}

/// What a receiver does with the first message that it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// Takes it, as every other one.
    Take,
    /// Claims it and gives it back.
    GiveBack,
}

/// The kernel's locks, which do not mind how their holders end.
#[derive(Default)]
struct Kernel {
    /// Who holds the lock of its entry.
    alive: Vec<bool>,
    /// Who holds the lock for repairs.
    repairer: Option<usize>,
}

/// The segment, and what the kernel knows of its users.
struct Ring {
    crowd: Crowd,
    sender: Half,
    receiver: Half,
    table: Vec<Entry>,
    words: Vec<Word>,
    kernel: Mutex<Kernel>,
}

/// The content of message `number` of participant `sender`.
const fn message(sender: usize, number: u64) -> u64 {
    (sender as u64 + 1) << 32 | number
}

/// The participant that sent the messages which were there before.
const BEFORE: usize = 100;

impl Ring {
    fn new(crowd: Crowd) -> Arc<Self> {
        // Two more entries: for those who look at what is left in the end.
        let entries = crowd.senders.len() + crowd.receivers.len() + 2;
        let words = claims::words_for(SHAPE, crowd.capacity).unwrap();
        let ring = Self {
            crowd,
            sender: Half::new(),
            receiver: Half::new(),
            table: (0..entries).map(|_| Entry::new()).collect(),
            words: (0..words).map(|_| Word::new(0)).collect(),
            kernel: Mutex::new(Kernel { alive: vec![false; entries], repairer: None }),
        };
        Claims::initialise(&ring.words, SHAPE, crowd.capacity);
        for number in 0..crowd.start {
            let mem = &ring.memory(entries - 1);
            let mut sender = SendCursor::new(mem, SHAPE, crowd.capacity, false);
            sender.try_send(mem, SHAPE, &0_u64.to_le_bytes()).unwrap();
            let mut receiver = RecvCursor::new(mem, SHAPE, crowd.capacity, entries - 1, false);
            assert_eq!(receive(&mut receiver, mem, 1), [0], "{number}");
        }
        for number in 0..crowd.before {
            let mem = &ring.memory(entries - 1);
            let mut sender = SendCursor::new(mem, SHAPE, crowd.capacity, false);
            let message = message(BEFORE, number).to_le_bytes();
            sender.try_send(mem, SHAPE, &message).unwrap();
        }
        for own in 0..entries {
            // As `claims::resolve` leaves an entry.
            ring.table[own].journal.intent.store(0, Ordering::Release);
            let role = if own < crowd.senders.len() { 0 } else { RECEIVES };
            if own < entries - 2 {
                ring.table[own].card.state.store(role | ACTIVE, Ordering::Release);
                ring.kernel().alive[own] = true;
            }
        }
        Arc::new(ring)
    }

    fn memory(&self, own: usize) -> Claims<'_> {
        Claims {
            sender: &self.sender,
            receiver: &self.receiver,
            table: &self.table,
            own: &self.table[own],
            words: &self.words,
        }
    }

    fn senders(&self) -> usize {
        self.crowd.senders.len()
    }

    fn is_sole(&self, side: &[u64]) -> bool {
        self.crowd.sole && side.len() == 1
    }

    /// Resolves what the dead have left; what `table.rs` does.
    fn tend(&self, own: usize) {
        model::system_call();
        let is_alive = |i: usize| i == own || self.kernel().alive[i];
        let active = |i: usize| self.table[i].card.state.load(Ordering::Acquire) & ACTIVE != 0;
        let dead: Vec<usize> =
            (0..self.table.len()).filter(|&i| active(i) && !is_alive(i)).collect();
        if dead.is_empty() {
            return;
        }
        match &mut self.kernel().repairer {
            Some(_) => return,
            free => *free = Some(own),
        }
        for victim in dead.into_iter().filter(|&victim| active(victim)) {
            let mem = &self.memory(own);
            let outcome = claims::resolve(mem, SHAPE, self.crowd.capacity, victim, is_alive);
            if let Outcome::Resolved(_) = outcome {
                let state = &self.table[victim].card.state;
                state.store(state.load(Ordering::Relaxed) & !ACTIVE, Ordering::Release);
            }
        }
        self.kernel().repairer = None;
    }

    fn kernel(&self) -> MutexGuard<'_, Kernel> {
        self.kernel.lock().unwrap()
    }

    /// Sends this sender's messages, as many as its tries are enough for; says how many.
    fn send(&self, own: usize, sent: &RefCell<u64>) {
        let (mem, crowd) = (&self.memory(own), self.crowd);
        let sole = self.is_sole(crowd.senders);
        let mut sender = SendCursor::new(mem, SHAPE, crowd.capacity, sole);
        let end = crowd.senders[own];
        let mut tries = end;
        while *sent.borrow() < end && tries > 0 {
            tries -= 1;
            let from = *sent.borrow();
            let to = end.min(from + crowd.batch as u64);
            let bytes: Vec<u8> =
                (from..to).flat_map(|number| message(own, number).to_le_bytes()).collect();
            // As a handle does it: with a look and a claim, if that is enough.
            let done = if crowd.batch == 1 && sender.try_send_at_once(mem, SHAPE, &bytes) {
                Ok(1)
            } else if crowd.batch == 1 {
                sender.try_send(mem, SHAPE, &bytes).map(|()| 1)
            } else {
                sender.try_send_batch(mem, SHAPE, &bytes, (to - from) as usize)
            };
            match done {
                Ok(count) => *sent.borrow_mut() += count as u64,
                Err(blocked) => {
                    assert_eq!(blocked, annulus::protocol::Blocked::NotReady);
                    if sender.is_stuck() {
                        self.tend(own);
                    }
                }
            }
        }
    }

    /// Receives, as many calls as this receiver makes, and gives what goes on with it later.
    fn receive(&self, own: usize, received: &RefCell<Vec<u64>>) -> RecvCursor {
        let (mem, crowd) = (&self.memory(own), self.crowd);
        let sole = self.is_sole(crowd.receivers);
        let mut receiver = RecvCursor::new(mem, SHAPE, crowd.capacity, own, sole);
        let mut first = crowd.first;
        for _ in 0..crowd.receivers[own - self.senders()] {
            if first == First::GiveBack {
                if let Ok(held) = receiver.try_claim(mem, SHAPE) {
                    assert_whole(read(&receiver, mem, held));
                    receiver.give_back(mem, SHAPE, &[held]);
                    first = First::Take;
                }
                continue;
            }
            let some = receive(&mut receiver, mem, crowd.batch);
            if some.is_empty() && receiver.is_stuck() {
                self.tend(own);
            }
            received.borrow_mut().extend(some);
        }
        receiver
    }

    /// What the kernel does at the end of a process.
    fn bury(&self, own: usize) {
        let mut kernel = self.kernel();
        kernel.alive[own] = false;
        if kernel.repairer == Some(own) {
            kernel.repairer = None;
        }
    }

    /// What a participant does that leaves.
    fn leave(&self, own: usize) {
        let state = &self.table[own].card.state;
        state.store(state.load(Ordering::Relaxed) & !ACTIVE, Ordering::Release);
        self.bury(own);
    }

    /// Runs participant `own` to its end, which is its death if it makes `kill` accesses: what it sent and
    /// what it received.
    fn run(&self, own: usize, kill: Option<usize>) -> (End, Participant) {
        let (sent, received) = (RefCell::new(0), RefCell::new(Vec::new()));
        let receiver = RefCell::new(None);
        let end = process(kill, || match own < self.senders() {
            true => self.send(own, &sent),
            false => *receiver.borrow_mut() = Some(self.receive(own, &received)),
        });
        if end.killed {
            self.bury(own);
        }
        let (sent, received) = (sent.into_inner(), received.into_inner());
        (end, Participant { own, sent, received, receiver: receiver.into_inner() })
    }
}

/// What became of a participant.
struct Participant {
    own: usize,
    sent: u64,
    received: Vec<u64>,
    /// Of a receiver that lives. Nobody has left yet.
    receiver: Option<RecvCursor>,
}

fn read(receiver: &RecvCursor, mem: &Claims<'_>, held: Held) -> u64 {
    let mut message = 0_u64;
    // SAFETY: a word has room for a message of eight bytes.
    unsafe { receiver.read(mem, SHAPE, held, (&raw mut message).cast()) };
    message
}

fn receive(receiver: &mut RecvCursor, mem: &Claims<'_>, batch: usize) -> Vec<u64> {
    let mut messages = vec![0_u64; batch];
    let to = messages.as_mut_ptr().cast();
    // As for a sender.
    // SAFETY: there is room for one message.
    let done = if batch == 1 && unsafe { receiver.try_recv_at_once(mem, SHAPE, to) } {
        Ok(1)
    } else if batch == 1 {
        // SAFETY: there is room for one message.
        unsafe { receiver.try_recv(mem, SHAPE, to) }.map(|()| 1)
    } else {
        // SAFETY: there is room for `batch` messages.
        unsafe { receiver.try_recv_batch(mem, SHAPE, to, batch) }
    };
    let done = match done {
        Ok(count) => count,
        Err(blocked) => {
            assert_eq!(blocked, annulus::protocol::Blocked::NotReady);
            0
        }
    };
    messages.truncate(done);
    messages
}

/// Whether a message is one that somebody sent.
fn assert_whole(message: u64) {
    let (sender, number) = ((message >> 32) as usize - 1, message & u64::from(u32::MAX));
    assert!(sender < 4 && number < 16 || sender == BEFORE, "{message:#x} was never sent");
}

impl Crowd {
    /// All take part at once; the participant `victim` is killed after `kill` accesses.
    pub fn meet(self, victim: usize, kill: Option<usize>) -> End {
        let ring = Ring::new(self);
        let others = self.senders.len() + self.receivers.len();
        let threads: Vec<_> = (1..others)
            .map(|i| {
                let (there, own) = (Arc::clone(&ring), (victim + i) % others);
                thread::spawn(move || there.run(own, None).1)
            })
            .collect();
        let (end, participant) = ring.run(victim, kill);
        let mut all = vec![participant];
        all.extend(threads.into_iter().map(|thread| thread.join().unwrap()));
        ring.settle(all, end.killed);
        end
    }

    /// `victim` dies alone after `first` accesses. Then a repairer dies after `kill`, or not, while all others
    /// take part.
    pub fn repair(self, victim: usize, first: usize, repairer: usize, kill: Option<usize>) -> End {
        let ring = Ring::new(self);
        let (end, participant) = ring.run(victim, Some(first));
        let mut all = vec![participant];
        let died = end.killed;
        let others = self.senders.len() + self.receivers.len();
        let threads: Vec<_> = (0..others)
            .filter(|&own| own != victim && own != repairer)
            .map(|own| {
                let there = Arc::clone(&ring);
                thread::spawn(move || there.run(own, None).1)
            })
            .collect();
        let repairing = process(kill, || ring.tend(repairer));
        if repairing.killed {
            ring.bury(repairer);
        }
        all.extend(threads.into_iter().map(|thread| thread.join().unwrap()));
        if !repairing.killed {
            all.push(ring.run(repairer, None).1);
        }
        ring.settle(all, died || repairing.killed);
        repairing
    }
}

impl Ring {
    /// When all are done or dead: every message that was sent was received, or still is, exactly once, and the
    /// ring goes on.
    fn settle(&self, mut results: Vec<Participant>, somebody_died: bool) {
        let crowd = self.crowd;
        let (writer, reader) = (self.table.len() - 2, self.table.len() - 1);
        self.kernel().alive[writer] = true;
        self.kernel().alive[reader] = true;
        self.tend(writer);
        // All others are still there, with whatever their journals show.
        let active = |i: usize| self.table[i].card.state.load(Ordering::Acquire) & ACTIVE != 0;
        let dead = |i: usize| !self.kernel().alive[i];
        let unresolved = (0..self.table.len()).filter(|&i| active(i) && dead(i)).count();
        assert_eq!(unresolved, 0, "an entry of the dead cannot be resolved");
        // Those who live find what is there to be delivered again, and not only who comes new.
        let mut somebody_receives = false;
        for Participant { own, received, receiver, .. } in &mut results {
            let Some(mut receiver) = receiver.take() else { continue };
            let mem = &self.memory(*own);
            loop {
                let some = receive(&mut receiver, mem, 1);
                if some.is_empty() {
                    break;
                }
                received.extend(some);
            }
            somebody_receives = true;
        }
        (0..self.table.len()).filter(|&i| active(i)).for_each(|i| self.leave(i));
        self.kernel().alive[writer] = true;
        self.kernel().alive[reader] = true;
        let mem = &self.memory(reader);
        let mut receiver = RecvCursor::new(mem, SHAPE, crowd.capacity, reader, false);
        let mut rest = Vec::new();
        loop {
            let some = receive(&mut receiver, mem, 1);
            if some.is_empty() {
                break;
            }
            rest.extend(some);
        }
        assert!(rest.is_empty() || !somebody_receives, "not found by those who receive: {rest:x?}");
        let mut expected: Vec<u64> = results
            .iter()
            .flat_map(|&Participant { own, sent, .. }| (0..sent).map(move |n| message(own, n)))
            .collect();
        expected.extend((0..crowd.before).map(|n| message(BEFORE, n)));
        let mut all = rest.clone();
        for Participant { received, .. } in &results {
            all.extend(received);
            let redelivered = somebody_died || crowd.first == First::GiveBack;
            if !redelivered {
                assert_in_order(received);
            }
        }
        if somebody_died {
            // Sent by somebody who was killed before the call returned: whole, but not counted. Or received so.
            all.retain(|message| !self.is_uncounted(*message, &results));
            if crowd.batch > 1 {
                expected.retain(|message| all.contains(message));
            }
        }
        all.sort_unstable();
        expected.sort_unstable();
        assert_eq!(all, expected, "lost, doubled or torn");
        assert!(!receiver.is_stuck());
        // It goes on: a whole lap.
        let mem = &self.memory(writer);
        let mut sender = SendCursor::new(mem, SHAPE, crowd.capacity, false);
        for number in 0..crowd.capacity as u64 {
            sender.try_send(mem, SHAPE, &message(writer, number).to_le_bytes()).expect("room");
        }
        assert!(sender.try_send(mem, SHAPE, &[0; 8]).is_err(), "more than fits");
        let mem = &self.memory(reader);
        for number in 0..crowd.capacity as u64 {
            assert_eq!(receive(&mut receiver, mem, 1), [message(writer, number)]);
        }
        assert!(receive(&mut receiver, mem, 1).is_empty());
    }

    /// Whether `message` is of a batch that its sender did not live to count.
    fn is_uncounted(&self, message: u64, results: &[Participant]) -> bool {
        let sender = (message >> 32) as usize - 1;
        let number = message & u64::from(u32::MAX);
        self.crowd.batch > 1 && results.iter().any(|one| one.own == sender && number >= one.sent)
    }
}

/// Messages of one sender come in the order in which it sent them.
fn assert_in_order(received: &[u64]) {
    for (i, message) in received.iter().enumerate() {
        let later = received[i + 1..].iter().filter(|later| *later >> 32 == *message >> 32);
        assert!(later.into_iter().all(|later| later > message), "out of order: {received:x?}");
    }
}
