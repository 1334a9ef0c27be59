//! A receiver of a ring with shared sides.

use super::claim::{self, Claim, Claimed, Claimer, Messages};
use super::journal::{Intent, MOST};
use super::{Claims, FREE, FULL, Geometry, ORPHAN, TAKEN, TOMB, stamped};
use crate::payload;
use crate::protocol::Blocked;
use crate::protocol::layout::{ACTIVE, Entry, RECEIVES};
use crate::protocol::slots::Shape;
use crate::sync::{Edge, Ordering};

/// Bits of a delivery word that count.
const COUNT_BITS: u32 = 8;
const MOST_DELIVERIES: u64 = (1 << COUNT_BITS) - 1;

/// A receiver's private state.
#[derive(Debug)]
pub struct RecvCursor {
    pub(super) claimer: Claimer<Messages>,
    /// Its entry in the table.
    me: usize,
    /// The number of [`Claims::orphans`] at which there were none.
    pub(super) seen: u64,
}

/// A message that was claimed: nobody else gets it before it is given back.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub(super) position: u64,
}

impl RecvCursor {
    /// The receiver of entry `me`, the only one if `sole`.
    pub fn new(
        mem: &Claims<'_>,
        shape: impl Shape,
        capacity: usize,
        me: usize,
        sole: bool,
    ) -> Self {
        let geometry = Geometry::new(mem.words, shape, capacity);
        // Whatever the number is, it has not been looked at.
        let seen = mem.orphans().load(Ordering::Relaxed).wrapping_sub(1);
        Self { claimer: Claimer::new(geometry, sole), me, seen }
    }

    /// Whether there was no message because a sender is not done: it may be dead.
    pub fn is_stuck(&self) -> bool {
        self.claimer.is_stuck()
    }

    /// The geometry, for [`glance`](Self::glance).
    pub fn geometry(&self) -> Geometry {
        self.claimer.geometry
    }

    /// Whether a message is there, or was a moment ago, for one who only reads.
    pub fn glance(geometry: &Geometry, mem: &Claims<'_>, shape: impl Shape) -> bool {
        claim::glance::<Messages>(geometry, mem, shape)
    }

    /// The same of a claim of the other side that may be in the way.
    pub fn may_be_stuck(geometry: &Geometry, mem: &Claims<'_>) -> bool {
        claim::may_be_stuck::<Messages>(geometry, mem)
    }

    /// Receives one message into `to`.
    ///
    /// # Safety
    ///
    /// `to` must be valid for writes of [`Shape::size`] bytes.
    #[inline(always)]
    pub unsafe fn try_recv(
        &mut self,
        mem: &Claims<'_>,
        shape: impl Shape,
        to: *mut u8,
    ) -> Result<(), Blocked> {
        let held = self.try_claim(mem, shape)?;
        // SAFETY: the caller's promise.
        unsafe { self.read(mem, shape, held, to) };
        self.release(mem, shape, held);
        Ok(())
    }

    /// Receives one message into `to`, if that takes no more than a look and a claim.
    ///
    /// # Safety
    ///
    /// As for [`try_recv`](Self::try_recv).
    #[inline(always)]
    pub unsafe fn try_recv_at_once(
        &mut self,
        mem: &Claims<'_>,
        shape: impl Shape,
        to: *mut u8,
    ) -> bool {
        // C5 orphans.
        if mem.orphans().load(Edge::OrphanLoad.load()) != self.seen {
            return false;
        }
        let Some((Claim { first, usual, .. }, slot)) = self.claimer.claim_at_once(mem, shape)
        else {
            return false;
        };
        // Else it is a tomb.
        if usual {
            // SAFETY: the caller's promise; these are the words of a message.
            unsafe { payload::read(slot.message(shape, 0), to, shape.size()) };
        }
        // C4 empty.
        let next = first.wrapping_add(self.claimer.geometry.capacity);
        slot.stamp(shape, 0).store(stamped(next, FREE), Edge::EmptyStore.store());
        usual
    }

    /// Receives up to `most` messages into `to`, one after the other, and says how many: 0 only of none.
    ///
    /// # Safety
    ///
    /// `to` must be valid for writes of `most` times [`Shape::size`] bytes.
    #[inline(always)]
    pub unsafe fn try_recv_batch(
        &mut self,
        mem: &Claims<'_>,
        shape: impl Shape,
        to: *mut u8,
        most: usize,
    ) -> Result<usize, Blocked> {
        let mut done = 0;
        while done < most {
            let claim = match self.claim(mem, shape, (most - done).min(MOST)) {
                Ok(claim) => claim,
                // What is broken is found again by the next call.
                Err(_) if done > 0 => break,
                Err(blocked) => return Err(blocked),
            };
            // SAFETY: at most what is left of `most` was claimed.
            done += unsafe { self.empty_all(mem, shape, claim, to.add(done * shape.size())) };
        }
        Ok(done)
    }

    /// Reads the messages of claimed slots to `to`, and removes them from the ring. How many there were.
    ///
    /// # Safety
    ///
    /// `to` must be valid for writes of [`Shape::size`] bytes for each slot.
    #[inline(always)]
    unsafe fn empty_all(
        &self,
        mem: &Claims<'_>,
        shape: impl Shape,
        claim: Claim,
        to: *mut u8,
    ) -> usize {
        let Claim { first, count, usual } = claim;
        let geometry = self.claimer.geometry;
        let (mut slots, mut messages) = (0, 0);
        while slots < count {
            let position = first.wrapping_add(slots as u64);
            let chunk = geometry.chunk(mem, shape, position, count - slots);
            let take = |i: usize, to: *mut u8| {
                // SAFETY: the caller's promise; these are the words of a message.
                unsafe { payload::read(chunk.message(shape, i), to, shape.size()) };
            };
            let release = |i: usize| {
                let next = position.wrapping_add(i as u64).wrapping_add(geometry.capacity);
                // C4 empty.
                chunk.stamp(shape, i).store(stamped(next, FREE), Edge::EmptyStore.store());
            };
            if usual {
                let to = to.wrapping_add(messages * shape.size());
                chunk.each(|i| {
                    take(i, to.wrapping_add(i * shape.size()));
                    release(i);
                });
                messages += chunk.slots;
            } else {
                for i in 0..chunk.slots {
                    if !self.is_tomb(mem, shape, position.wrapping_add(i as u64)) {
                        take(i, to.wrapping_add(messages * shape.size()));
                        messages += 1;
                    }
                    release(i);
                }
            }
            slots += chunk.slots;
        }
        messages
    }

    /// Claims the next message.
    #[inline(always)]
    pub fn try_claim(&mut self, mem: &Claims<'_>, shape: impl Shape) -> Result<Held, Blocked> {
        loop {
            let Claim { first: position, usual, .. } = self.claim(mem, shape, 1)?;
            let held = Held { position };
            // Else it is a tomb.
            if usual {
                return Ok(held);
            }
            self.release(mem, shape, held);
        }
    }

    /// Claims up to `most` messages, at least one, and adds them to `held`.
    #[cfg(not(loom))]
    pub fn try_claim_batch(
        &mut self,
        mem: &Claims<'_>,
        shape: impl Shape,
        most: usize,
        held: &mut Vec<Held>,
    ) -> Result<(), Blocked> {
        while held.is_empty() {
            let Claim { first, count, .. } = self.claim(mem, shape, most.clamp(1, MOST))?;
            for position in (0..count as u64).map(|i| first.wrapping_add(i)) {
                if self.is_tomb(mem, shape, position) {
                    self.release(mem, shape, Held { position });
                } else {
                    held.push(Held { position });
                }
            }
        }
        Ok(())
    }

    /// Reads a message to `to`.
    ///
    /// # Safety
    ///
    /// `to` must be valid for writes of [`Shape::size`] bytes.
    #[inline(always)]
    pub unsafe fn read(&self, mem: &Claims<'_>, shape: impl Shape, held: Held, to: *mut u8) {
        let message = self.claimer.geometry.message(mem, shape, held.position);
        // SAFETY: the caller's promise; these are the words of a message.
        unsafe { payload::read(message, to, shape.size()) };
    }

    /// Removes a message from the ring.
    #[inline(always)]
    pub fn release(&self, mem: &Claims<'_>, shape: impl Shape, held: Held) {
        let next = held.position.wrapping_add(self.claimer.geometry.capacity);
        // C4 empty.
        let stamp = self.claimer.geometry.stamp(mem, shape, held.position);
        stamp.store(stamped(next, FREE), Edge::EmptyStore.store());
    }

    /// Lets other receivers, or this one, have messages: all that it has claimed. Receivers that sleep must be
    /// woken after this.
    pub fn give_back(&mut self, mem: &Claims<'_>, shape: impl Shape, held: &[Held]) {
        for held in held {
            let stamp = self.claimer.geometry.stamp(mem, shape, held.position);
            // C3 fill.
            stamp.store(stamped(held.position, ORPHAN), Edge::FillStore.store());
        }
        raise(mem);
        // Last: until then a repairer finds them here.
        mem.own.journal.clear();
    }

    /// How often the message was handed out, this time included; 255 also if it was more often.
    pub fn deliveries(&self, mem: &Claims<'_>, shape: impl Shape, held: Held) -> u32 {
        self.delivered_before(mem, shape, held.position) as u32 + 1
    }

    fn delivered_before(&self, mem: &Claims<'_>, shape: impl Shape, position: u64) -> u64 {
        let word = self.claimer.geometry.deliveries(mem, shape, position).read();
        if word >> COUNT_BITS == position << COUNT_BITS >> COUNT_BITS {
            (word & MOST_DELIVERIES).min(MOST_DELIVERIES - 1)
        } else {
            0
        }
    }

    /// Whether more than one message is there.
    pub fn is_plenty(&self, mem: &Claims<'_>, shape: impl Shape) -> bool {
        self.claimer.is_plenty(mem, shape)
    }

    /// Whether a message is there, without claiming it.
    pub fn look(&mut self, mem: &Claims<'_>, shape: impl Shape) -> Result<(), Blocked> {
        // C5 orphans.
        let orphans = mem.orphans().load(Edge::OrphanLoad.load());
        if orphans != self.seen && self.has_orphans(mem, shape) {
            return Ok(());
        }
        self.claimer.look(mem, shape, true).map(drop)
    }

    /// Claims up to `most` positions, at least one. Tombs are among them.
    #[inline(always)]
    fn claim(
        &mut self,
        mem: &Claims<'_>,
        shape: impl Shape,
        most: usize,
    ) -> Result<Claim, Blocked> {
        // C5 orphans.
        let orphans = mem.orphans().load(Edge::OrphanLoad.load());
        if orphans != self.seen {
            if let Some(position) = self.take_orphan(mem, shape, orphans) {
                return Ok(Claim { first: position, count: 1, usual: true });
            }
        }
        self.claimer.claim(mem, shape, most)
    }

    /// Whether the claimed `position` holds no message.
    #[inline(always)]
    pub(super) fn is_tomb(&self, mem: &Claims<'_>, shape: impl Shape, position: u64) -> bool {
        // Relaxed: seen before, when it was ready, and nobody else changes it.
        let stamp = self.claimer.geometry.stamp(mem, shape, position).load(Ordering::Relaxed);
        stamp == stamped(position, TOMB)
    }

    /// The positions that may be orphans, the oldest first.
    pub(super) fn claimed(&self, mem: &Claims<'_>) -> core::ops::Range<u64> {
        // C2 claim.
        let head = Messages::position(mem).load(Edge::ClaimLoad.load());
        head.saturating_sub(self.claimer.geometry.capacity)..head
    }

    fn has_orphans(&self, mem: &Claims<'_>, shape: impl Shape) -> bool {
        self.claimed(mem).any(|position| {
            let stamp = self.claimer.geometry.stamp(mem, shape, position).load(Ordering::Relaxed);
            stamp == stamped(position, ORPHAN)
        })
    }

    /// Takes the oldest message that is to be delivered again. If there is none, not looked for again before
    /// the number changes from `orphans`.
    #[cold]
    #[inline(never)]
    fn take_orphan(&mut self, mem: &Claims<'_>, shape: impl Shape, orphans: u64) -> Option<u64> {
        for position in self.claimed(mem) {
            let stamp = self.claimer.geometry.stamp(mem, shape, position);
            if stamp.load(Ordering::Relaxed) == stamped(position, ORPHAN)
                && self.take_orphan_at(mem, shape, position)
            {
                return Some(position);
            }
        }
        mem.own.journal.clear();
        self.seen = orphans;
        None
    }

    /// Takes the orphan at `position`, unless somebody else has.
    pub(super) fn take_orphan_at(
        &mut self,
        mem: &Claims<'_>,
        shape: impl Shape,
        position: u64,
    ) -> bool {
        let stamp = self.claimer.geometry.stamp(mem, shape, position);
        let (orphan, taken) =
            (stamped(position, ORPHAN), stamped(position, TAKEN + self.me as u64));
        mem.own.journal.intend(position, 1);
        // C3 fill. C2 claim, on the way out: if this one dies, its repairer looks where the intent points, and
        // so no stamp may say that it has what the intent does not.
        let won = Edge::FillLoad.load_and(Edge::ClaimStore);
        let is_mine = stamp.change(orphan, taken, (won, Ordering::Relaxed));
        if is_mine {
            let before = self.delivered_before(mem, shape, position);
            let word = position << COUNT_BITS | (before + 1);
            self.claimer.geometry.deliveries(mem, shape, position).write(word);
            mem.own.journal.count_redelivery();
        }
        is_mine
    }
}

/// Whether a receiver other than that of entry `me` has claimed a message and is not done with it: if it is dead,
/// the message is there to be handed out again once somebody has asked. Reads lines that busy receivers write: not
/// for those who are at work.
pub fn are_others_at_work(mem: &Claims<'_>, shape: impl Shape, capacity: usize, me: usize) -> bool {
    let geometry = Geometry::new(mem.words, shape, capacity);
    // C2 claim: what lies before this is claimed by somebody whose intent is visible now.
    let head = Messages::position(mem).load(Edge::ClaimLoad.load());
    let is_at_work = |i: usize, entry: &Entry| {
        let intent = Intent::of(entry);
        let first = intent.first_near(head);
        (0..intent.count).map(|by| first.wrapping_add(by)).any(|position| {
            let stamp = geometry.stamp(mem, shape, position).load(Ordering::Relaxed);
            // An orphan whose repairer was killed before it said so is one that nobody looks for.
            let undone = [FULL, ORPHAN, TAKEN + i as u64].map(|state| stamped(position, state));
            geometry.is_within_a_lap(position, head) && undone.contains(&stamp)
        })
    };
    let receives = |entry: &Entry| {
        entry.card.state.load(Ordering::Relaxed) & (RECEIVES | ACTIVE) == RECEIVES | ACTIVE
    };
    let mut others = mem.table.iter().enumerate().filter(|&(i, _)| i != me);
    others.any(|(i, entry)| receives(entry) && is_at_work(i, entry))
}

/// Says that there are orphans.
pub(super) fn raise(mem: &Claims<'_>) {
    // C5 orphans.
    mem.orphans().fetch_add(1, Edge::OrphanStore.store());
}
