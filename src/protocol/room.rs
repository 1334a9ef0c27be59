//! How the sender learns of room: exact `head`, lazily published `released`.
//!
//! ```text
//!        released <= head <= tail <= limit = (what the sender knows of head) + capacity
//! ```
//!
//! The receiver notes `head` at every message on a line that nobody else reads while there is room,
//! and publishes `released` on another line every so many messages and whenever it runs dry. The sender
//! reads `released` when it comes to its limit, and `head` only when that brought nothing: the lines
//! move seldom, and yet a ring never says "full" while it has room.
//!
//! Both rings use it; slots count messages and records count bytes.

use super::Blocked;
use super::layout::Half;
use super::pace::Pace;
use crate::sync::{Edge, Ordering};

/// The largest position believed when a side attaches: every sum and shift after it stays in 64 bits.
pub const MAX_POSITION: u64 = u64::MAX >> 3;

/// The edges that carry "this has been read for the last time".
#[derive(Clone, Copy, Debug)]
pub struct Edges {
    /// Store ends: `released`, `head`.
    pub store: (Edge, Edge),
    /// Load ends: `released`, `head`.
    pub load: (Edge, Edge),
}

/// How closely a sender looks for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// At what the receiver has released: enough while it goes on, and no burden on it.
    Released,
    /// Also at its exact position, if nothing new was released: at the price of its busiest line.
    Exact,
}

/// The sender's view of the room.
#[derive(Debug)]
pub struct Room {
    /// The sender may go up to here.
    pub limit: u64,
    /// The highest position known to be released.
    released: u64,
    capacity: u64,
    pace: Pace,
    edges: Edges,
}

impl Room {
    /// The room when the receiver is at `head`, for a sender that has sent `messages` messages.
    pub fn new(head: u64, capacity: u64, messages: u64, edges: Edges) -> Self {
        let pace = Pace::new(messages);
        Self { limit: head + capacity, released: head, capacity, pace, edges }
    }

    /// Learns how far the receiver is, for a sender at `tail`. `NotReady` if that is nothing new.
    #[cold]
    #[inline(never)]
    pub fn look(
        &mut self,
        sender: &Half,
        receiver: &Half,
        tail: u64,
        look: Look,
    ) -> Result<(), Blocked> {
        let before = self.limit;
        // S2, R2: what lies below has been read for the last time. It may trail what `head` has told us,
        // by a batch or by a pad and a record: more than a ring in all, if the receiver stopped between
        // noting its position and publishing it.
        let released = self.edges.load.0.acquire(&receiver.released.position);
        if released >= self.released {
            self.believe(released, tail)?;
        }
        if self.limit == before && look == Look::Exact {
            // S3, R3: the exact position, at the price of the receiver's own line. It never trails:
            // `released` is stored after it.
            self.believe(self.edges.load.1.acquire(&receiver.cursor.position), tail)?;
        }
        let waiting = tail - self.released;
        let high_water = &sender.counters.high_water;
        if waiting > high_water.load(Ordering::Relaxed) {
            high_water.store(waiting, Ordering::Relaxed);
        }
        if self.limit == before { Err(Blocked::NotReady) } else { Ok(()) }
    }

    /// Finds room up to `wanted` for a sender at `tail` that has sent `messages` messages: in a stream,
    /// rather what the receiver releases than what it has just left.
    #[cold]
    #[inline(never)]
    pub fn find(
        &mut self,
        sender: &Half,
        receiver: &Half,
        (tail, wanted): (u64, u64),
        messages: u64,
        look: Look,
    ) -> Result<(), Blocked> {
        if look == Look::Released {
            return self.look_for(sender, receiver, tail, wanted, look);
        }
        if self.pace.is_stream(messages) {
            let found = self.look_for(sender, receiver, tail, wanted, Look::Released);
            if found != Err(Blocked::NotReady) {
                return found;
            }
        }
        let paused = self.pace.give_way(messages);
        if paused {
            let found = self.look_for(sender, receiver, tail, wanted, Look::Released);
            if found != Err(Blocked::NotReady) {
                return found;
            }
        }
        let found = self.look_for(sender, receiver, tail, wanted, Look::Exact);
        if paused {
            // It goes on, and a longer pause would have let it come to a release.
            self.pace.learn(found.is_ok());
        }
        found
    }

    /// Looks for room up to `wanted`, if need be twice. A third look could only find what has
    /// happened since, and a hostile receiver could go on inching forward for ever.
    #[cold]
    #[inline(never)]
    pub fn look_for(
        &mut self,
        sender: &Half,
        receiver: &Half,
        tail: u64,
        wanted: u64,
        look: Look,
    ) -> Result<(), Blocked> {
        self.look(sender, receiver, tail, look)?;
        if self.limit < wanted && look == Look::Exact {
            self.look(sender, receiver, tail, look)?;
        }
        if self.limit < wanted { Err(Blocked::NotReady) } else { Ok(()) }
    }

    /// Takes over a position that the receiver claims, if a correct one could be there.
    fn believe(&mut self, claimed: u64, tail: u64) -> Result<(), Blocked> {
        if claimed.wrapping_sub(self.released) > tail - self.released {
            return Err(Blocked::Corrupt);
        }
        self.released = claimed;
        self.limit = claimed + self.capacity;
        Ok(())
    }
}

/// The receiver's side: when to tell the sender.
#[derive(Clone, Debug)]
pub struct Releases {
    published: u64,
    due: u64,
    period: u64,
    edges: Edges,
}

impl Releases {
    /// Publishes every `period` from `head` on, and `head` itself at once: the predecessor may have
    /// died before it did.
    pub fn new(receiver: &Half, head: u64, period: u64, edges: Edges) -> Self {
        receiver.released.position.store(head, edges.store.0.store());
        Self { published: head, due: head + period, period, edges }
    }

    /// Notes that the receiver is at `head`.
    #[inline(always)]
    pub fn note(&self, receiver: &Half, head: u64) {
        receiver.cursor.position.store(head, self.edges.store.1.store());
    }

    /// Whether the sender should be told.
    #[inline(always)]
    pub fn are_due(&self, head: u64) -> bool {
        head >= self.due
    }

    /// Messages until then, of a receiver at `head`; at least one.
    #[inline(always)]
    pub fn left(&self, head: u64) -> usize {
        self.due.saturating_sub(head).max(1) as usize
    }

    /// Tells the sender; `false` if it had been told already.
    #[inline]
    pub fn publish(&mut self, receiver: &Half, head: u64) -> bool {
        if self.published == head {
            return false;
        }
        // Nobody is told of more than is noted, which it is not yet where an iterator that took the last ones was forgotten.
        self.note(receiver, head);
        receiver.released.position.store(head, self.edges.store.0.store());
        self.published = head;
        self.due = head + self.period;
        true
    }
}

/// Whether these can be the positions that a sender and a receiver noted: the sender may have died
/// between committing and noting, so it may trail the receiver, but by no more than a ring.
pub fn check(tail: u64, head: u64, capacity: u64) -> Result<(), Blocked> {
    if tail.max(head) > MAX_POSITION || tail.abs_diff(head) > capacity {
        return Err(Blocked::Corrupt);
    }
    Ok(())
}
