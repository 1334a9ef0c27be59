//! One sender, and every message for every receiver.
//!
//! The ring is that of [`slots`](super::slots): cells, stamps and the cursors of both sides are the same code, and each receiver
//! has a position of its own. That the sender keeps what it knows of the slowest receiver, and looks at all of them
//! again only when it seems to have come to the end of its room, is the Disruptor's (Thompson, Farley, Barker and
//! others, 2011); that it says how far it may write before it does, so that receivers nobody waits for can see what was
//! written over, is from Agrona's broadcast buffer. What is ours: it says so once for many messages, so a message costs
//! no store more; both kinds of receiver are one; and whoever is killed leaves nothing to repair.
//!
//! ```text
//!            floor                              tail                floor + capacity
//!   ---------|----------------------------------|-------------------|--------->  positions
//!   may be   | messages                         | free, or of the lap before
//!   written  |
//!   over
//!
//!   floor (receivers' half)  no gate is further back; the sender writes below floor + capacity
//!   aim   (sender's half)    floor, but while the sender looks at the gates: how far floor may get by that
//!
//!   gate (a receiver's journal) = { position:62 | state:2 }
//!     OPEN (0) ----> JOINING ----> GATE(p) ----> OPEN        the sender waits for GATE, and does not move for JOINING
//!                       \            |
//!                        `-------> EVICTED ----> OPEN        it does not wait any more
//! ```
//!
//! **The sender** has one receiver, as far as its cursor can tell: `floor`, which it moves itself. Out of room, it
//! stores the `aim` of this look, runs a barrier (B1), and looks at all gates; the lowest of their
//! positions and of `aim` is the next `floor`, and `aim` too. An `aim` is no more than half of the ring further than
//! needed, so that old messages stay for those who join at the oldest.
//!
//! **A gate** joins in the reverse order: JOINING, barrier (B1), load `aim` and the noted `tail`, and then GATE at one of
//! them. A look that did not see JOINING came before the barrier of whoever joins, who therefore sees the `aim` of
//! that look, beyond which it does not go; and `tail` is never behind `aim`.
//!
//! **Every receiver** copies, and then looks whether that was worth something (B2): one that the sender does not wait for,
//! whether its position is behind `aim`, which the sender stores before it writes over anything that is behind it; one
//! that it waits for, whether its gate is still one, for the sender evicts before it looks again, and so before it writes.
//! The first learns by that exactly how many messages it has missed, the second that it may have missed some.
//!
//! Positions are stored before GATE (B3), `aim` is stored after the `tail` that it comes from (B4), and S1 to S4 are those of
//! [`slots`](super::slots), of which S2 and S3 are there for each gate.
//!
//! A sender that is killed leaves `floor`, which every position below `floor + capacity` was sound by. A receiver that is
//! killed leaves its gate, at which the kernel's locks tell that nobody is there.

use super::Blocked;
use super::layout::{Entry, Half};
use super::pace::Pace;
use super::room::{Look, MAX_POSITION};
use super::slots::{RecvCursor, SendCursor, Shape, Slots};
use crate::sync::{AtomicU64, Edge, Ordering, Word};

const STATE: u64 = 3;
/// Nobody, or somebody whom the sender does not wait for.
const OPEN: u64 = 0;
/// Somebody who is about to be waited for.
const JOINING: u64 = 1;
/// Somebody whom the sender waits for.
const GATE: u64 = 2;
/// Somebody whom the sender waited for, too long.
const EVICTED: u64 = 3;

/// How often somebody who is evicted while it joins tries again.
const ATTEMPTS: usize = 64;

/// The most that `aim` is ahead of what is needed.
fn step(capacity: u64) -> u64 {
    // Less would keep more for those who join at the oldest, and have the sender wait for its barrier more often: it drains
    // what is on its way to the receivers.
    (capacity / 2).max(1)
}

/// The memory that all see, as long as they borrow it.
#[derive(Clone, Copy)]
pub struct Broadcast<'a> {
    /// The sender's half, with `aim`.
    pub sender: &'a Half,
    /// The half where the receivers meet, with `floor`.
    pub meeting: &'a Half,
    /// The receivers' entries, with their gates.
    pub table: &'a [Entry],
    /// Each receiver's own half, with its positions.
    pub places: &'a [Half],
    /// The cells.
    pub words: &'a [Word],
}

impl<'a> Broadcast<'a> {
    /// The ring as the sender sees it.
    #[inline(always)]
    fn sent(&self) -> Slots<'a> {
        Slots { sender: self.sender, receiver: self.meeting, words: self.words }
    }

    /// What the receiver of entry `me` sees.
    pub fn heard_by(&self, me: usize) -> Heard<'a> {
        let slots = Slots { sender: self.sender, receiver: &self.places[me], words: self.words };
        Heard { slots, gate: &self.table[me].journal.intent }
    }

    #[inline(always)]
    fn aim(&self) -> &'a AtomicU64 {
        &self.sender.released.position
    }
}

impl core::fmt::Debug for Broadcast<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Broadcast").finish_non_exhaustive()
    }
}

/// What one receiver sees of the memory. It is put together once and then kept: to find it for each message would take
/// longer than to receive one.
#[derive(Clone, Copy)]
pub struct Heard<'a> {
    /// The ring, with the receiver's own half.
    slots: Slots<'a>,
    /// Its gate.
    gate: &'a AtomicU64,
}

impl Heard<'_> {
    #[inline(always)]
    fn aim(&self) -> &AtomicU64 {
        &self.slots.sender.released.position
    }

    /// How far the sender may write over, and how far it has come: the first is never more.
    fn bounds(&self, capacity: u64) -> Result<(u64, u64), Blocked> {
        // B4 aim, S4 note.
        let aim = self.aim().load(Edge::AimLoad.load());
        let tail = self.slots.sender.cursor.position.load(Edge::NoteLoad.load());
        if tail > MAX_POSITION || aim > tail {
            return Err(Blocked::Corrupt);
        }
        // It may have gone on between the two loads.
        Ok((aim.max(tail.saturating_sub(capacity)), tail))
    }
}

impl core::fmt::Debug for Heard<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Heard").finish_non_exhaustive()
    }
}

/// Where a receiver begins, or goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Start {
    /// With the next message that is sent.
    #[default]
    Now,
    /// With the oldest message that is there: of the last half of the capacity all are, of the rest some, and all that
    /// somebody is waited for to receive.
    Oldest,
}

/// What becomes of messages that a receiver is too slow for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Delivery {
    /// Nothing is lost: the sender waits.
    #[default]
    Gate,
    /// The sender never waits; the receiver is told how many it has missed.
    Lossy,
}

/// What the sender of a broadcast does about a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Gate {
    /// It does not wait for it: [`Delivery::Lossy`](crate::Delivery::Lossy).
    Open,
    /// It waits for it: [`Delivery::Gate`](crate::Delivery::Gate).
    Held,
    /// It has waited for too long and waits no more, until the receiver rejoins.
    Evicted,
}

impl Gate {
    /// One word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "lossy",
            Self::Held => "gate",
            Self::Evicted => "evicted",
        }
    }
}

/// What the sender does about the owner of an entry, as of a moment ago.
pub fn gate_of(entry: &Entry) -> Gate {
    // Relaxed: nothing is done about it.
    match entry.journal.intent.load(Ordering::Relaxed) & STATE {
        OPEN => Gate::Open,
        EVICTED => Gate::Evicted,
        _ => Gate::Held,
    }
}

/// The sender's private state.
#[derive(Debug)]
pub struct Sender {
    cursor: SendCursor,
    floor: u64,
    capacity: u64,
    pace: Pace,
}

impl Sender {
    /// Goes on where the last sender stopped.
    pub fn recover(
        mem: Broadcast<'_>,
        shape: impl Shape,
        capacity: usize,
    ) -> Result<Self, Blocked> {
        let cursor = SendCursor::recover(mem.sent(), shape, capacity)?;
        // Relaxed: the lock of the role orders what the last sender did before this.
        let floor = mem.meeting.cursor.position.load(Ordering::Relaxed);
        let aim = mem.aim().load(Ordering::Relaxed);
        if floor > aim || aim > cursor.tail() {
            return Err(Blocked::Corrupt);
        }
        let pace = Pace::new(cursor.tail());
        Ok(Self { cursor, floor, capacity: capacity as u64, pace })
    }

    /// Sends one message.
    #[inline(always)]
    pub fn try_send(
        &mut self,
        mem: Broadcast<'_>,
        shape: impl Shape,
        message: &[u8],
    ) -> Result<(), Blocked> {
        // Room is asked for where a run of messages ends, as the cursor does.
        if self.cursor.is_run_over() && self.cursor.room() == 0 {
            self.find_room(mem, 1, Look::Exact)?;
        }
        self.cursor.try_send(mem.sent(), shape, message)
    }

    /// Sends as many of the messages in `bytes` as there is room for, and says how many: 0 only of none.
    #[inline(always)]
    pub fn try_send_batch(
        &mut self,
        mem: Broadcast<'_>,
        shape: impl Shape,
        bytes: &[u8],
        messages: usize,
    ) -> Result<usize, Blocked> {
        if self.cursor.room() < messages as u64 {
            self.find_room(mem, messages as u64, Look::Exact)?;
        }
        self.cursor.try_send_batch(mem.sent(), shape, bytes, messages, Look::Released)
    }

    /// Finds room for up to `wanted` messages: in a stream, rather where receivers say so now and then than where
    /// they have just been.
    #[cold]
    #[inline(never)]
    pub fn find_room(
        &mut self,
        mem: Broadcast<'_>,
        wanted: u64,
        look: Look,
    ) -> Result<(), Blocked> {
        let tail = self.cursor.tail();
        let found = self.look(mem, wanted, Look::Released);
        if self.is_enough(&found, wanted) || look == Look::Released {
            return found;
        }
        let paused = found.is_err() && self.pace.give_way(tail);
        if paused {
            let found = self.look(mem, wanted, Look::Released);
            if self.is_enough(&found, wanted) {
                return found;
            }
        }
        let exact = self.look(mem, wanted, Look::Exact);
        if paused {
            // It goes on, and a longer pause would have let it come to a release.
            self.pace.learn(exact.is_ok());
        }
        if exact == Err(Blocked::NotReady) && self.cursor.room() > 0 { Ok(()) } else { exact }
    }

    /// Whether a look need not be followed by a closer one.
    fn is_enough(&self, found: &Result<(), Blocked>, wanted: u64) -> bool {
        match found {
            Ok(()) => self.cursor.room() >= wanted,
            Err(blocked) => *blocked == Blocked::Corrupt,
        }
    }

    /// Learns how far the gates are; `NotReady` if that is nothing new.
    fn look(&mut self, mem: Broadcast<'_>, wanted: u64, look: Look) -> Result<(), Blocked> {
        let tail = self.cursor.tail();
        let ahead = wanted.max(step(self.capacity)).min(self.capacity);
        let aim = self.floor.max((tail + ahead).saturating_sub(self.capacity));
        // B4 aim.
        mem.aim().store(aim, Edge::AimStore.store());
        // B1 join: said before this, looked after it. B2 overrun: nothing behind it is written over before.
        Edge::JoinSender.fence();
        let mut floor = aim;
        for (entry, place) in mem.table.iter().zip(mem.places) {
            // B3 gate.
            match entry.journal.intent.load(Edge::GateLoad.load()) & STATE {
                JOINING => floor = self.floor,
                GATE => floor = floor.min(self.position(place, tail, look)?),
                _ => {}
            }
        }
        if floor < aim {
            // Nothing is written over from here on. Whoever has seen the higher one took no more care than needed.
            mem.aim().store(floor, Edge::AimStore.store());
        }
        if floor == self.floor {
            return Err(Blocked::NotReady);
        }
        self.floor = floor;
        // For this sender's cursor, and for its successor. S4 comes after them, so they survive what needs them.
        mem.meeting.released.position.store(floor, Ordering::Relaxed);
        mem.meeting.cursor.position.store(floor, Ordering::Relaxed);
        self.cursor.find_room(mem.sent(), Look::Released)
    }

    /// How far a gate is.
    fn position(&self, place: &Half, tail: u64, look: Look) -> Result<u64, Blocked> {
        let position = match look {
            // S2 release: it may trail what the exact position has told.
            Look::Released => {
                place.released.position.load(Edge::ReleaseLoad.load()).max(self.floor)
            }
            // S3 head.
            Look::Exact => place.cursor.position.load(Edge::HeadLoad.load()),
        };
        if (self.floor..=tail).contains(&position) { Ok(position) } else { Err(Blocked::Corrupt) }
    }

    /// Stops waiting for those who are furthest back, and for those who are joining; how many they are.
    #[cold]
    pub fn evict(&mut self, mem: Broadcast<'_>) -> usize {
        let relaxed = Ordering::Relaxed;
        let evicted = mem.table.iter().zip(mem.places).filter(|(entry, place)| {
            let gate = &entry.journal.intent;
            let there = gate.load(Edge::GateLoad.load());
            let holds = match there & STATE {
                JOINING => true,
                GATE => place.cursor.position.load(relaxed) <= self.floor,
                _ => false,
            };
            // Relaxed: B2 tells the receiver what it has lost by this, and its next look at the gate why.
            holds && gate.compare_exchange(there, EVICTED, relaxed, relaxed).is_ok()
        });
        evicted.count()
    }
}

/// What a receiver found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// So many messages.
    Messages(usize),
    /// That it has missed so many: it goes on behind them.
    Lagged(u64),
    /// That the sender does not wait for it any more.
    Evicted,
}

/// A receiver's private state.
#[derive(Clone, Debug)]
pub struct Receiver {
    cursor: RecvCursor,
    delivery: Delivery,
    /// Where it goes on when it has missed something.
    resume: Start,
    capacity: u64,
}

impl Receiver {
    /// Joins as the one who sees `mem`.
    pub fn join(
        mem: &Heard<'_>,
        shape: impl Shape,
        capacity: usize,
        delivery: Delivery,
        start: Start,
    ) -> Result<Self, Blocked> {
        let wide = capacity as u64;
        let position = match delivery {
            Delivery::Gate => enter(mem, wide, |aim, tail| match start {
                Start::Now => tail,
                Start::Oldest => aim,
            })?,
            Delivery::Lossy => {
                mem.gate.store(OPEN, Ordering::Relaxed);
                let (aim, tail) = mem.bounds(wide)?;
                (if start == Start::Now { tail } else { aim }, tail)
            }
        };
        let cursor = RecvCursor::at(mem.slots, shape, capacity, position);
        Ok(Self { cursor, delivery, resume: Start::Oldest, capacity: wide })
    }

    /// Chooses where it goes on when it has missed something.
    pub fn set_resume(&mut self, resume: Start) {
        self.resume = resume;
    }

    /// How many messages it has missed since it was evicted, and goes on as `start` says: the sender waits for it again.
    pub fn rejoin(
        &mut self,
        mem: &Heard<'_>,
        shape: impl Shape,
        start: Start,
    ) -> Result<u64, Blocked> {
        let head = self.cursor.head();
        let position = enter(mem, self.capacity, |aim, tail| match start {
            Start::Now => tail,
            Start::Oldest => aim.max(head),
        })?;
        self.cursor = RecvCursor::at(mem.slots, shape, self.capacity as usize, position);
        position.0.checked_sub(head).ok_or(Blocked::Corrupt)
    }

    /// Receives one message into `to`.
    ///
    /// # Safety
    ///
    /// `to` must be valid for writes of [`Shape::size`] bytes.
    #[inline(always)]
    pub unsafe fn try_recv(
        &mut self,
        mem: &Heard<'_>,
        shape: impl Shape,
        to: *mut u8,
    ) -> Result<Found, Blocked> {
        let head = self.cursor.head();
        // SAFETY: the caller's promise.
        let received = unsafe { self.cursor.try_recv(mem.slots, shape, to) };
        if received.is_ok() && self.is_intact(mem, head) {
            return Ok(Found::Messages(1));
        }
        self.explain(mem, shape, head, received.map(|()| 1))
    }

    /// Receives one message by `copy`, which gets its words. What that makes of them counts only if a message was found:
    /// before, they may be written over.
    #[inline]
    pub fn try_recv_by(
        &mut self,
        mem: &Heard<'_>,
        shape: impl Shape,
        copy: impl FnOnce(&[Word]),
    ) -> Result<Found, Blocked> {
        let head = self.cursor.head();
        let received = self.cursor.try_recv_by(mem.slots, shape, copy);
        if received.is_ok() && self.is_intact(mem, head) {
            return Ok(Found::Messages(1));
        }
        self.explain(mem, shape, head, received.map(|()| 1))
    }

    /// Receives up to `most` messages into `to`, one after the other.
    ///
    /// # Safety
    ///
    /// `to` must be valid for writes of `most` times [`Shape::size`] bytes.
    #[inline]
    pub unsafe fn try_recv_batch(
        &mut self,
        mem: &Heard<'_>,
        shape: impl Shape,
        to: *mut u8,
        most: usize,
    ) -> Result<Found, Blocked> {
        let head = self.cursor.head();
        // SAFETY: the caller's promise.
        let received = unsafe { self.cursor.try_recv_batch(mem.slots, shape, to, most) };
        match received {
            Ok(count) if self.is_intact(mem, head) => Ok(Found::Messages(count)),
            received => self.explain(mem, shape, head, received),
        }
    }

    /// Whether a message is there, or something else to be told.
    pub fn look(&mut self, mem: &Heard<'_>, shape: impl Shape) -> Result<(), Blocked> {
        let looked = self.cursor.look(mem.slots, shape);
        match looked {
            Ok(()) => Ok(()),
            Err(_) if !self.is_intact(mem, self.cursor.head()) => Ok(()),
            Err(blocked) => Err(blocked),
        }
    }

    /// Whether messages are known to be there, of which no stamp need tell any more.
    pub fn knows_more(&self) -> bool {
        self.cursor.knows_more()
    }

    /// Whether the sender has given up waiting for it.
    #[inline]
    pub fn is_evicted(&self, mem: &Heard<'_>) -> bool {
        self.delivery == Delivery::Gate && mem.gate.load(Ordering::Relaxed) & STATE == EVICTED
    }

    /// Whether what was copied from `position` on before this is what was sent, for all that is known without a closer
    /// look.
    #[inline(always)]
    fn is_intact(&self, mem: &Heard<'_>, position: u64) -> bool {
        if self.delivery == Delivery::Lossy {
            return is_ahead(mem, position);
        }
        // B2 overrun.
        Edge::OverrunLoad.order(Ordering::Acquire);
        mem.gate.load(Ordering::Relaxed) & STATE == GATE
    }

    /// Whether the sender should be told how far it is.
    #[inline(always)]
    pub fn release_is_due(&self) -> bool {
        self.cursor.release_is_due()
    }

    /// Says how far it is; whether the sender waits for that, and had not been told.
    pub fn release(&mut self, mem: &Heard<'_>) -> bool {
        self.cursor.release(mem.slots) && self.delivery == Delivery::Gate
    }

    /// Says why there is no message, or none that is whole, from `head` on.
    #[cold]
    #[inline(never)]
    fn explain(
        &mut self,
        mem: &Heard<'_>,
        shape: impl Shape,
        head: u64,
        received: Result<usize, Blocked>,
    ) -> Result<Found, Blocked> {
        if self.is_intact(mem, head) {
            return received.map(Found::Messages);
        }
        let (found, position) = match self.delivery {
            Delivery::Gate if received.is_ok() && is_ahead(mem, head) => {
                return received.map(Found::Messages);
            }
            Delivery::Gate => (Found::Evicted, (head, head)),
            Delivery::Lossy => {
                let (aim, tail) = mem.bounds(self.capacity)?;
                if aim <= head {
                    // The sender meant to write over it, and found that it has to wait for others.
                    return received.map(Found::Messages);
                }
                let next = if self.resume == Start::Now { tail } else { aim };
                (Found::Lagged(next - head), (next, tail))
            }
        };
        // What was copied is not to be trusted, and what is known of the ring neither.
        let capacity = self.capacity as usize;
        self.cursor = RecvCursor::at(mem.slots, shape, capacity, position);
        Ok(found)
    }
}

/// Whether nothing from `position` on has been written over.
#[inline(always)]
fn is_ahead(mem: &Heard<'_>, position: u64) -> bool {
    // B2 overrun.
    Edge::OverrunLoad.order(Ordering::Acquire);
    mem.aim().load(Ordering::Relaxed) <= position
}

/// Has the sender wait for the one who sees `mem`, from where `choose` says on: that, and how far messages are
/// committed.
fn enter(
    mem: &Heard<'_>,
    capacity: u64,
    choose: impl Fn(u64, u64) -> u64,
) -> Result<(u64, u64), Blocked> {
    let (gate, place) = (mem.gate, mem.slots.receiver);
    for _ in 0..ATTEMPTS {
        gate.store(JOINING, Ordering::Relaxed);
        // B1 join: said before this, chosen after it.
        Edge::JoinReceiver.fence();
        let (aim, tail) = mem.bounds(capacity)?;
        let position = choose(aim, tail);
        place.released.position.store(position, Ordering::Relaxed);
        place.cursor.position.store(position, Ordering::Relaxed);
        // B3 gate.
        let (won, lost) = (Edge::GateStore.store(), Ordering::Relaxed);
        if gate.compare_exchange(JOINING, position << 2 | GATE, won, lost).is_ok() {
            return Ok((position, tail));
        }
        // Evicted meanwhile.
    }
    Err(Blocked::Corrupt)
}
