//! A ring of either kind on the heap, and its two sides.
//!
//! A message's content follows from its number, so that a loss, a duplicate, a tear or a wrong order
//! all show as a content that was not expected.

use crate::futex::Futex;
use annulus::payload;
use annulus::protocol::Blocked;
use annulus::protocol::layout::{ACTIVE, Half};
use annulus::protocol::park::{self, Answered, Barrier, Sleep};
use annulus::protocol::records::{self, Records};
use annulus::protocol::room::Look;
use annulus::protocol::slots::{self, Slots, Typed, Untyped};
use annulus::sync::{Edge, Ordering, Word, model, spin_hint};
use std::sync::Arc;

/// What the ring holds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Messages of `size` bytes.
    Slots {
        /// Bytes of a message.
        size: usize,
        /// Messages that fit.
        capacity: usize,
    },
    /// Messages of any size.
    Records {
        /// Sizes of the messages, which repeat from the first on.
        sizes: &'static [usize],
        /// Bytes that fit.
        capacity: usize,
    },
}

/// How both sides of a ring wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// They do not: what is not ready is left for later. Nobody notifies anybody.
    Never,
    /// They try again and again; nobody notifies anybody.
    Spin,
    /// They sleep. Notifier and waiter both fence.
    Park,
    /// They sleep. The notifier has no barrier of its own: it fences because the waiter asks it to.
    ParkOnRequest,
    /// They sleep. The notifier has no barrier of its own and nobody asks it to fence: it does so every
    /// time, because the waiter's `membarrier` would not reach it.
    ParkUnregistered,
    /// They sleep until the other side has come, which says so and rings, without a barrier between.
    ParkForPeer,
}

/// Which of the library's calls a side makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbs {
    /// Messages from and to memory: `try_send`, `try_recv`, and the batches.
    Copy,
    /// 8-byte messages from an iterator, and to one that takes them all at its end: `try_send_from`,
    /// `drain`.
    Iterate,
    /// Received in two steps, a look and then a skip: `try_peek_batch`, `skip`. Sent as by `Copy`.
    Peek,
    /// As `Copy`, by a sender that makes the lines of the next message its own after each: `own_next`.
    Own,
}

/// The segment.
pub struct Ring {
    kind: Kind,
    verbs: Verbs,
    waiting: Waiting,
    sender: Half,
    receiver: Half,
    words: Vec<Word>,
    /// On the sender's epoch, where the receiver sleeps.
    on_sender: Futex,
    /// On the receiver's epoch, where the sender sleeps.
    on_receiver: Futex,
}

impl Kind {
    /// Messages that fit.
    ///
    /// # Panics
    ///
    /// For records: that depends on which.
    pub fn capacity(self) -> u64 {
        match self {
            Self::Slots { capacity, .. } => capacity as u64,
            Self::Records { .. } => panic!("how many records fit depends on their sizes"),
        }
    }

    fn size_of(self, number: u64) -> usize {
        match self {
            Self::Slots { size, .. } => size,
            Self::Records { sizes, .. } => sizes[number as usize % sizes.len()],
        }
    }

    /// The content of message `number`.
    fn message(self, number: u64) -> Vec<u8> {
        let size = self.size_of(number);
        let words = (0..size.div_ceil(payload::WORD) as u64).map(|word| (number + 1) << 8 | word);
        let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        bytes.truncate(size);
        bytes
    }

    /// How many messages end at or before `position`.
    fn messages_before(self, position: u64) -> u64 {
        let Self::Records { capacity, .. } = self else { return position };
        let lap = (records::words_for(capacity) * payload::WORD) as u64;
        let (mut end, mut number) = (0, 0);
        loop {
            let record =
                ((1 + self.size_of(number).div_ceil(payload::WORD)) * payload::WORD) as u64;
            let rest = lap - end % lap;
            end += if record > rest { rest } else { 0 } + record;
            if end > position {
                return number;
            }
            number += 1;
        }
    }
}

impl Ring {
    /// A ring through which `start` messages have passed and in which `before` more are.
    pub fn new(kind: Kind, verbs: Verbs, waiting: Waiting, start: u64, before: u64) -> Arc<Self> {
        let words = match kind {
            Kind::Slots { size, capacity } => slots::words_for(Untyped(size), capacity).unwrap(),
            Kind::Records { capacity, .. } => records::words_for(capacity),
        };
        // loom's cells are not `Sync`: it is loom that checks who touches them.
        #[allow(clippy::arc_with_non_send_sync)]
        let ring = Arc::new(Self {
            kind,
            verbs,
            waiting,
            sender: Half::new(),
            receiver: Half::new(),
            words: (0..words).map(|_| Word::new(0)).collect(),
            on_sender: Futex::default(),
            on_receiver: Futex::default(),
        });
        if let Kind::Slots { size, capacity } = kind {
            ring.slots().initialise(Untyped(size), capacity);
        }
        if waiting == Waiting::ParkOnRequest {
            park::choose_barrier(&ring.sender.presence, Barrier::Fence);
            park::choose_barrier(&ring.receiver.presence, Barrier::Fence);
        }
        if start + before > 0 {
            let (mut sender, mut receiver) = (Sender::join(&ring), Receiver::join(&ring));
            for number in 0..start {
                while sender.try_send(number, 1).is_err() {
                    // What is in the way is a pad.
                    assert_eq!(receiver.try_receive(number, 1), None);
                }
                assert_eq!(receiver.try_receive(number, 1), Some(1));
            }
            for number in start..start + before {
                assert_eq!(sender.try_send(number, 1), Ok(1));
            }
        }
        ring
    }

    fn slots(&self) -> Slots<'_> {
        Slots { sender: &self.sender, receiver: &self.receiver, words: &self.words }
    }

    fn records(&self) -> Records<'_> {
        Records { sender: &self.sender, receiver: &self.receiver, words: &self.words }
    }

    /// Messages that the sender has noted as sent. For the sender, or after it.
    pub fn sent(&self) -> u64 {
        self.kind.messages_before(self.sender.cursor.position.load(Ordering::Relaxed))
    }

    /// Messages that the receiver has noted as received. For the receiver, or after it.
    pub fn received(&self) -> u64 {
        self.kind.messages_before(self.receiver.cursor.position.load(Ordering::Relaxed))
    }

    /// Ends every slice of a sleeping receiver from now on.
    pub fn let_time_pass_for_receiver(&self) {
        self.on_sender.let_time_pass();
    }

    /// Ends every slice of a sleeping sender from now on.
    pub fn let_time_pass_for_sender(&self) {
        self.on_receiver.let_time_pass();
    }
}

#[derive(Clone, Copy, Debug)]
enum Role {
    Sender,
    Receiver,
}

/// What the library's `Participant` is, without the kernel's lock: that is the order in which a model
/// runs one process after the other.
struct Side {
    ring: Arc<Ring>,
    role: Role,
    /// `None` where nobody sleeps.
    answered: Option<Answered>,
}

impl Side {
    fn join(ring: &Arc<Ring>, role: Role) -> Self {
        let mut side = Self { ring: Arc::clone(ring), role, answered: None };
        match role {
            Role::Sender => model::own(&ring.sender, &ring.words),
            Role::Receiver => model::own(&ring.receiver, &[]),
        }
        if !matches!(ring.waiting, Waiting::Never | Waiting::Spin) {
            let fences = ring.waiting == Waiting::ParkUnregistered;
            side.answered = Some(Answered::up_to_now(side.peer(), fences));
        }
        if matches!(ring.waiting, Waiting::ParkOnRequest | Waiting::ParkUnregistered) {
            model::without_light_barrier();
        }
        side
    }

    /// After the position was recovered: says that the side is there, and rings, for the predecessor may have
    /// died before it did.
    fn enter(&self) {
        if self.ring.waiting == Waiting::ParkForPeer {
            self.own().presence.state.store(ACTIVE, Ordering::Release);
        }
        if self.answered.is_some() {
            self.wake();
        }
    }

    fn own(&self) -> &Half {
        match self.role {
            Role::Sender => &self.ring.sender,
            Role::Receiver => &self.ring.receiver,
        }
    }

    fn peer(&self) -> &Half {
        match self.role {
            Role::Sender => &self.ring.receiver,
            Role::Receiver => &self.ring.sender,
        }
    }

    fn wake(&self) {
        park::ring(self.own());
        match self.role {
            Role::Sender => self.ring.on_sender.wake_all(),
            Role::Receiver => self.ring.on_receiver.wake_all(),
        }
    }

    fn notify(&mut self) {
        let peer = match self.role {
            Role::Sender => &self.ring.receiver,
            Role::Receiver => &self.ring.sender,
        };
        if self.answered.as_mut().is_some_and(|answered| answered.must_wake(peer)) {
            self.wake();
        }
    }

    /// The library's wait for a peer to come. `false` if the slice ends first.
    fn wait_for_peer(&self) -> bool {
        loop {
            let sleep = Sleep::announce(self.own(), self.peer(), || Edge::ParkAnnounce.fence());
            if self.peer().presence.state.load(Ordering::Acquire) & ACTIVE != 0 {
                return true;
            }
            if !self.sleep(sleep) {
                return false;
            }
        }
    }

    /// Sleeps until the peer rings; `false` if the slice ends first.
    fn sleep(&self, sleep: Sleep) -> bool {
        let epoch = &self.peer().presence.epoch;
        match self.role {
            Role::Sender => self.ring.on_receiver.wait(epoch, sleep.expected()),
            Role::Receiver => self.ring.on_sender.wait(epoch, sleep.expected()),
        }
    }

    /// The library's waiting loop. `false` if the peer is gone and has left nothing.
    fn wait(&mut self, mut attempt: impl FnMut(&mut Self) -> Result<(), Blocked>) -> bool {
        loop {
            if self.ring.waiting == Waiting::Spin {
                if ready(attempt(self)) {
                    return true;
                }
                spin_hint();
                continue;
            }
            let sleep = Sleep::announce(self.own(), self.peer(), || Edge::ParkAnnounce.fence());
            if ready(attempt(self)) {
                return true;
            }
            // Slices end in models of a peer that is gone, and only once it is.
            if !self.sleep(sleep) {
                return ready(attempt(self));
            }
        }
    }
}

/// Whether an attempt has brought something.
fn ready<R>(attempt: Result<R, Blocked>) -> bool {
    assert_ne!(attempt.as_ref().err(), Some(&Blocked::Corrupt), "a correct peer looks corrupt");
    attempt.is_ok()
}

/// The side that sends.
pub struct Sender {
    side: Side,
    cursor: SendCursor,
}

#[derive(Debug)]
enum SendCursor {
    Slots(slots::SendCursor),
    Records(records::SendCursor),
}

impl Sender {
    /// Takes the role over, which nobody else has.
    pub fn join(ring: &Arc<Ring>) -> Self {
        let side = Side::join(ring, Role::Sender);
        let cursor = match ring.kind {
            Kind::Slots { size, capacity } => SendCursor::Slots(
                slots::SendCursor::recover(ring.slots(), Untyped(size), capacity).unwrap(),
            ),
            Kind::Records { capacity, .. } => {
                SendCursor::Records(records::SendCursor::recover(ring.records(), capacity).unwrap())
            }
        };
        side.enter();
        Self { side, cursor }
    }

    /// Sends the messages from `number` on, at most `most` of them and at least one, and says how many.
    /// `None` if the ring is full and the receiver is gone.
    pub fn send(&mut self, number: u64, most: u64) -> Option<u64> {
        loop {
            if let Ok(count) = self.try_send(number, most) {
                return Some(count);
            }
            let Self { side, cursor } = self;
            let room = side.wait(|side| {
                let ring = Arc::clone(&side.ring);
                match cursor {
                    SendCursor::Slots(cursor) => cursor.find_room(ring.slots(), Look::Exact),
                    SendCursor::Records(cursor) => {
                        let size = ring.kind.size_of(number);
                        let found = cursor.try_reserve(ring.records(), size, Look::Exact);
                        if found.is_err() {
                            // A pad may have been published.
                            side.notify();
                        }
                        found.map(|_| ())
                    }
                }
            });
            if !room {
                return None;
            }
        }
    }

    /// As [`send`](Self::send), if there is room now.
    pub fn try_send(&mut self, number: u64, most: u64) -> Result<u64, Blocked> {
        let ring = Arc::clone(&self.side.ring);
        let bytes: Vec<u8> = (0..most).flat_map(|i| ring.kind.message(number + i)).collect();
        let sent = match (&mut self.cursor, ring.kind) {
            (SendCursor::Slots(cursor), Kind::Slots { size, .. })
                if ring.verbs == Verbs::Iterate =>
            {
                assert_eq!(size, payload::WORD, "an iterator gives numbers");
                let numbers = bytes.chunks_exact(payload::WORD);
                let numbers = numbers.map(|word| u64::from_le_bytes(word.try_into().unwrap()));
                let sent = cursor.try_send_from(ring.slots(), Typed::new(), numbers, || true);
                sent.map(|count| count as u64)
            }
            (SendCursor::Slots(cursor), Kind::Slots { size, .. }) if most == 1 => {
                let sent = cursor.try_send(ring.slots(), Untyped(size), &bytes).map(|()| 1);
                if ring.verbs == Verbs::Own {
                    cursor.own_next(ring.slots(), Untyped(size));
                }
                sent
            }
            (SendCursor::Slots(cursor), Kind::Slots { size, .. }) => {
                let (shape, most) = (Untyped(size), most as usize);
                match cursor.try_send_batch(ring.slots(), shape, &bytes, most, Look::Exact) {
                    Ok(0) => Err(Blocked::NotReady),
                    sent => sent.map(|count| count as u64),
                }
            }
            (SendCursor::Records(cursor), _) => {
                assert_eq!(most, 1, "there are no batches of records");
                match cursor.try_reserve(ring.records(), bytes.len(), Look::Exact) {
                    Ok(span) => {
                        payload::write(span.words(ring.records()), &bytes);
                        cursor.commit(ring.records(), span);
                        if ring.verbs == Verbs::Own {
                            cursor.own_next(ring.records().words);
                        }
                        Ok(1)
                    }
                    // A pad may have been published, and that is notified of below.
                    blocked => blocked.map(|_| 0),
                }
            }
            (SendCursor::Slots(_), Kind::Records { .. }) => unreachable!(),
        };
        if ready(sent) || matches!(self.cursor, SendCursor::Records(_)) {
            self.side.notify();
        }
        sent
    }
}

/// The side that receives.
pub struct Receiver {
    side: Side,
    cursor: RecvCursor,
}

#[derive(Debug)]
enum RecvCursor {
    Slots(slots::RecvCursor),
    Records(records::RecvCursor),
}

impl RecvCursor {
    fn release_is_due(&self) -> bool {
        match self {
            Self::Slots(cursor) => cursor.release_is_due(),
            Self::Records(cursor) => cursor.release_is_due(),
        }
    }

    fn release(&mut self, side: &mut Side) {
        let told = match self {
            Self::Slots(cursor) => cursor.release(side.ring.slots()),
            Self::Records(cursor) => cursor.publish(side.ring.records()),
        };
        if told {
            side.notify();
        }
    }
}

impl Receiver {
    /// Takes the role over, which nobody else has.
    pub fn join(ring: &Arc<Ring>) -> Self {
        let side = Side::join(ring, Role::Receiver);
        let cursor = match ring.kind {
            Kind::Slots { size, capacity } => RecvCursor::Slots(
                slots::RecvCursor::recover(ring.slots(), Untyped(size), capacity).unwrap(),
            ),
            Kind::Records { capacity, .. } => {
                RecvCursor::Records(records::RecvCursor::recover(ring.records(), capacity).unwrap())
            }
        };
        side.enter();
        Self { side, cursor }
    }

    /// Receives the messages from `number` on, at most `most` of them and at least one, and says how
    /// many. Their content must be right. `None` if the ring is empty and the sender is gone.
    pub fn receive(&mut self, number: u64, most: u64) -> Option<u64> {
        loop {
            if let Some(count) = self.try_receive(number, most) {
                return Some(count);
            }
            let Self { side, cursor } = self;
            let message = side.wait(|side| {
                let ring = Arc::clone(&side.ring);
                let found = match cursor {
                    RecvCursor::Slots(cursor) => {
                        cursor.look(ring.slots(), Untyped(ring.kind.size_of(number)))
                    }
                    RecvCursor::Records(cursor) => cursor.try_claim(ring.records()).map(|_| ()),
                };
                if found == Err(Blocked::NotReady) {
                    cursor.release(side);
                }
                found
            });
            if !message {
                return None;
            }
        }
    }

    /// Waits until a sender has come; `false` if the slice ends first.
    pub fn wait_for_sender(&self) -> bool {
        self.side.wait_for_peer()
    }

    /// As [`receive`](Self::receive), if there is a message now.
    pub fn try_receive(&mut self, number: u64, most: u64) -> Option<u64> {
        let ring = Arc::clone(&self.side.ring);
        let mut bytes = vec![0; (0..most).map(|i| ring.kind.size_of(number + i)).sum()];
        let received = match (&mut self.cursor, ring.kind) {
            (RecvCursor::Slots(cursor), Kind::Slots { size, .. }) => {
                let (to, shape) = (bytes.as_mut_ptr(), Untyped(size));
                // SAFETY: `bytes` has room for `most` messages.
                unsafe {
                    if ring.verbs == Verbs::Iterate {
                        let (mut run, mut count) = (cursor.no_messages(), 0);
                        while count < most as usize {
                            if run.is_over() && !run.go_on(ring.slots().words, shape) {
                                cursor.take_to(shape, run);
                                let left = most as usize - count;
                                let next = cursor.next_messages(ring.slots(), shape, left);
                                run = next.unwrap_or_else(|_| cursor.no_messages());
                                if run.is_over() {
                                    break;
                                }
                            }
                            let mut cell = run.cell();
                            while cell.is_left() && count < most as usize {
                                cell.read(ring.slots().words, shape, to.add(count * size));
                                count += 1;
                            }
                        }
                        cursor.take_to(shape, run);
                        cursor.note(ring.slots());
                        if count > 0 { Ok(count as u64) } else { Err(Blocked::NotReady) }
                    } else if ring.verbs == Verbs::Peek {
                        cursor.try_peek_batch(ring.slots(), shape, to, most as usize).map(|count| {
                            assert_eq!(cursor.skip(ring.slots(), shape, count), count);
                            count as u64
                        })
                    } else if most == 1 {
                        cursor.try_recv(ring.slots(), shape, to).map(|()| 1)
                    } else {
                        cursor
                            .try_recv_batch(ring.slots(), shape, to, most as usize)
                            .map(|count| count as u64)
                    }
                }
            }
            (RecvCursor::Records(cursor), _) if ring.verbs == Verbs::Peek => {
                // A claim first: it skips a pad for good.
                cursor.try_claim(ring.records()).map(|_| {
                    let (mut ahead, mut end, mut count) = (cursor.ahead(), 0, 0);
                    while count < most {
                        let Ok(span) = cursor.try_peek(ring.records(), &mut ahead) else { break };
                        assert_eq!(span.len(), ring.kind.size_of(number + count));
                        let to = &mut bytes[end..end + span.len()];
                        // SAFETY: `to` is as long as the span.
                        unsafe {
                            payload::read(span.words(ring.records()), to.as_mut_ptr(), span.len());
                        }
                        end += span.len();
                        count += 1;
                    }
                    for _ in 0..count {
                        let span = cursor.try_claim(ring.records()).expect("it was there before");
                        cursor.release(ring.records(), span);
                    }
                    count
                })
            }
            (RecvCursor::Records(cursor), _) => cursor.try_claim(ring.records()).map(|span| {
                assert_eq!(span.len(), bytes.len(), "message {number} has a wrong length");
                // SAFETY: the span is as long as `bytes`.
                unsafe {
                    payload::read(span.words(ring.records()), bytes.as_mut_ptr(), span.len());
                }
                cursor.release(ring.records(), span);
                1
            }),
            (RecvCursor::Slots(_), Kind::Records { .. }) => unreachable!(),
        };
        if !ready(received) {
            self.cursor.release(&mut self.side);
            return None;
        }
        let count = received.unwrap_or_default();
        let expected: Vec<u8> = (0..count).flat_map(|i| ring.kind.message(number + i)).collect();
        assert_eq!(bytes[..expected.len()], expected, "message {number} is not what was sent");
        if self.cursor.release_is_due() {
            self.cursor.release(&mut self.side);
        }
        Some(count)
    }
}
