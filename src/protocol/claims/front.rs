//! Looking at messages before claiming one, and claiming the one that was looked at.
//!
//! Whoever looks has no claim, so the slot may be emptied and filled again meanwhile. What was read counts only
//! if the stamp is the same before and after, as in a sequence lock (edge C6); and a claim of the position that was
//! looked at succeeds only if nobody else has claimed it.

use super::claim::{Claimed, Messages, Room};
use super::{Claims, FREE, FULL, Geometry, Held, ORPHAN, RecvCursor, TOMB, ahead_of, stamped};
use crate::protocol::Blocked;
use crate::protocol::slots::Shape;
use crate::sync::{Edge, Ordering, Word};

/// A message that nobody has claimed, as far as is known.
#[derive(Clone, Copy, Debug)]
pub struct Front {
    position: u64,
    is_orphan: bool,
}

impl Front {
    fn stamp(self) -> u64 {
        stamped(self.position, if self.is_orphan { ORPHAN } else { FULL })
    }

    /// Whether this one is behind `other` in their ring.
    pub fn is_behind(self, other: Self) -> bool {
        self.position.wrapping_sub(other.position) as i64 > 0
    }
}

impl RecvCursor {
    /// The message that is next: the oldest orphan, or the one at `head`. Tombs there are stepped over. If there is none,
    /// a look that is `close` tells whether that is because a sender [is stuck](Self::is_stuck).
    pub fn front(
        &mut self,
        mem: &Claims<'_>,
        shape: impl Shape,
        close: bool,
    ) -> Result<Front, Blocked> {
        // C5 orphans.
        let orphans = mem.orphans().load(Edge::OrphanLoad.load());
        if orphans != self.seen {
            if let Some(orphan) = self.orphan_from(mem, shape, 0) {
                return Ok(orphan);
            }
            self.seen = orphans;
        }
        loop {
            let position = self.claimer.look(mem, shape, close)?;
            if !self.is_tomb(mem, shape, position) {
                return Ok(Front { position, is_orphan: false });
            }
            if self.claimer.claim_at(mem, position) {
                self.release(mem, shape, Held { position });
            }
        }
    }

    /// The position that is claimed next.
    pub fn next(&self, mem: &Claims<'_>) -> u64 {
        Messages::position(mem).load(Ordering::Relaxed)
    }

    /// Whether nothing was sent at `position`, which was once claimed next: while that is so, no message is there but
    /// orphans.
    #[inline(always)]
    pub fn is_free(&self, mem: &Claims<'_>, shape: impl Shape, position: u64) -> bool {
        // Relaxed: nothing is read because of it, and a slot's stamps have one order.
        let stamp = self.claimer.geometry.stamp(mem, shape, position).load(Ordering::Relaxed);
        stamp == stamped(position, FREE)
    }

    /// The message that is next once `front` is taken, if there is one.
    pub fn after(&self, mem: &Claims<'_>, shape: impl Shape, front: Front) -> Option<Front> {
        let next = front.position.wrapping_add(1);
        if front.is_orphan {
            if let Some(orphan) = self.orphan_from(mem, shape, next) {
                return Some(orphan);
            }
        }
        let head = self.claimed(mem).end;
        let geometry = self.claimer.geometry;
        let first = if front.is_orphan { head } else { next };
        for position in (0..geometry.capacity).map(|i| first.wrapping_add(i)) {
            // C3 fill.
            let stamp = geometry.stamp(mem, shape, position).load(Edge::FillLoad.load());
            if stamp == stamped(position, FULL) {
                return Some(Front { position, is_orphan: false });
            }
            if stamp != stamped(position, TOMB) {
                return None;
            }
        }
        None
    }

    /// The oldest orphan at `least` or behind it.
    #[cold]
    fn orphan_from(&self, mem: &Claims<'_>, shape: impl Shape, least: u64) -> Option<Front> {
        let claimed = self.claimed(mem);
        (claimed.start.max(least)..claimed.end).find_map(|position| {
            // C3 fill.
            let stamp = self.claimer.geometry.stamp(mem, shape, position);
            let is_orphan = stamp.load(Edge::FillLoad.load()) == stamped(position, ORPHAN);
            is_orphan.then_some(Front { position, is_orphan })
        })
    }

    /// The words of a message that was looked at. What is read there counts if [`is_there`](Self::is_there) says so
    /// afterwards.
    pub fn words_of<'a>(&self, mem: &Claims<'a>, shape: impl Shape, front: Front) -> &'a [Word] {
        self.claimer.geometry.message(mem, shape, front.position)
    }

    /// Whether the message that was looked at is there still.
    #[inline(always)]
    pub fn is_next(&self, mem: &Claims<'_>, shape: impl Shape, front: Front) -> bool {
        // Relaxed: nothing is read because of it.
        let stamp = self.claimer.geometry.stamp(mem, shape, front.position);
        stamp.load(Ordering::Relaxed) == front.stamp()
    }

    /// Whether what was read of the message is what its sender wrote.
    pub fn is_there(&self, mem: &Claims<'_>, shape: impl Shape, front: Front) -> bool {
        // C6 look: whoever wrote anything that was read, for a later message, had seen the slot empty.
        Edge::LookLoad.order(Ordering::Acquire);
        let stamp = self.claimer.geometry.stamp(mem, shape, front.position);
        stamp.load(Ordering::Relaxed) == front.stamp()
    }

    /// Claims the message that was looked at, unless somebody else has.
    pub fn claim_front(
        &mut self,
        mem: &Claims<'_>,
        shape: impl Shape,
        front: Front,
    ) -> Option<Held> {
        let position = front.position;
        let is_mine = if front.is_orphan {
            let is_mine = self.take_orphan_at(mem, shape, position);
            if !is_mine {
                mem.own.journal.clear();
            }
            is_mine
        } else {
            self.claimer.claim_at(mem, position)
        };
        is_mine.then_some(Held { position })
    }

    /// The words of a claimed message.
    pub fn words<'a>(&self, mem: &Claims<'a>, shape: impl Shape, held: Held) -> &'a [Word] {
        self.claimer.geometry.message(mem, shape, held.position)
    }
}

/// How far messages have arrived, in the order of their places, and how many of them did from position `from` on. A
/// place whose sender died is none, unless it was used again since.
pub fn arrived(mem: &Claims<'_>, shape: impl Shape, capacity: usize, from: u64) -> (u64, u64) {
    let geometry = Geometry::new(mem.words, shape, capacity);
    // C2 claim: what lies a lap before this is done.
    let tail = Room::position(mem).load(Edge::ClaimLoad.load());
    let mut at = from.max(tail.saturating_sub(geometry.capacity));
    let mut count = at.wrapping_sub(from);
    while at < tail {
        // C3 fill.
        let stamp = geometry.stamp(mem, shape, at).load(Edge::FillLoad.load());
        if stamp == stamped(at, FREE) || ahead_of(stamp, at) < 0 {
            break;
        }
        count = count.saturating_add(u64::from(stamp != stamped(at, TOMB)));
        at += 1;
    }
    (at, count)
}
