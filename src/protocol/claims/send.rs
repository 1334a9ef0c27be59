//! A sender of a ring with shared sides.

use super::claim::{self, Claim, Claimer};
use super::journal::MOST;
use super::{Claims, FULL, Geometry, TOMB, stamped};
use crate::payload;
use crate::protocol::Blocked;
use crate::protocol::slots::{Shape, Typed};
use crate::sync::{Edge, Word};
use bytemuck::NoUninit;

/// A sender's private state.
#[derive(Debug)]
pub struct SendCursor {
    claimer: Claimer<claim::Room>,
}

impl SendCursor {
    /// A sender, the only one if `sole`.
    pub fn new(mem: &Claims<'_>, shape: impl Shape, capacity: usize, sole: bool) -> Self {
        Self { claimer: Claimer::new(Geometry::new(mem.words, shape, capacity), sole) }
    }

    /// Whether there was no room because a receiver is not done: it may be dead.
    pub fn is_stuck(&self) -> bool {
        self.claimer.is_stuck()
    }

    /// The geometry, for [`glance`](Self::glance).
    pub fn geometry(&self) -> Geometry {
        self.claimer.geometry
    }

    /// Whether there is room, or was a moment ago, for one who only reads.
    pub fn glance(geometry: &Geometry, mem: &Claims<'_>, shape: impl Shape) -> bool {
        claim::glance::<claim::Room>(geometry, mem, shape)
    }

    /// The same of a claim of the other side that may be in the way.
    pub fn may_be_stuck(geometry: &Geometry, mem: &Claims<'_>) -> bool {
        claim::may_be_stuck::<claim::Room>(geometry, mem)
    }

    /// Sends one message.
    #[inline(always)]
    pub fn try_send(
        &mut self,
        mem: &Claims<'_>,
        shape: impl Shape,
        message: &[u8],
    ) -> Result<(), Blocked> {
        let tail = self.claimer.claim(mem, shape, 1)?.first;
        self.fill(mem, shape, tail, message);
        Ok(())
    }

    /// Sends one message, if that takes no more than a look and a claim.
    #[inline(always)]
    pub fn try_send_at_once(
        &mut self,
        mem: &Claims<'_>,
        shape: impl Shape,
        message: &[u8],
    ) -> bool {
        let Some((Claim { first, .. }, slot)) = self.claimer.claim_at_once(mem, shape) else {
            return false;
        };
        payload::write(slot.message(shape, 0), message);
        // C3 fill.
        slot.stamp(shape, 0).store(stamped(first, FULL), Edge::FillStore.store());
        true
    }

    /// Sends as many of the messages in `bytes` as there is room for, and says how many: 0 only of none. Up to
    /// [`MOST`] that are sent together stay together.
    #[inline(always)]
    pub fn try_send_batch(
        &mut self,
        mem: &Claims<'_>,
        shape: impl Shape,
        bytes: &[u8],
        messages: usize,
    ) -> Result<usize, Blocked> {
        let mut done = 0;
        while done < messages {
            let most = (messages - done).min(MOST);
            let Claim { first, count, .. } = match self.claimer.claim(mem, shape, most) {
                Ok(claim) => claim,
                // What is broken is found again by the next call.
                Err(_) if done > 0 => break,
                Err(blocked) => return Err(blocked),
            };
            let size = shape.size();
            let bytes = &bytes[done * size..(done + count) * size];
            self.fill_all(mem, shape, first, bytes, count);
            done += count;
        }
        Ok(done)
    }

    /// Sends messages from `messages` for as long as there is room and there are any, and says how many. None
    /// is taken that there is no room for: the position is claimed first, and everybody waits for the iterator
    /// then. A position for which there is no message, also because the iterator panics, becomes a tomb: not in a child
    /// that the iterator has forked, for `is_mapped` says after each of its steps whether the memory is still there.
    #[inline(always)]
    pub fn try_send_from<T: NoUninit>(
        &mut self,
        mem: &Claims<'_>,
        shape: Typed<T>,
        mut messages: impl Iterator<Item = T>,
        is_mapped: impl Fn() -> bool,
    ) -> Result<usize, Blocked> {
        let mut done = 0;
        loop {
            let position = match self.claimer.claim(mem, shape, 1) {
                Ok(claim) => claim.first,
                Err(_) if done > 0 => return Ok(done),
                Err(blocked) => return Err(blocked),
            };
            let stamp = self.claimer.geometry.stamp(mem, shape, position);
            let unused = Unused { stamp, position, is_mapped: &is_mapped };
            let Some(message) = messages.next() else { return Ok(done) };
            core::mem::forget(unused);
            if !is_mapped() {
                return Ok(0);
            }
            self.fill(mem, shape, position, bytemuck::bytes_of(&message));
            done += 1;
        }
    }

    /// Whether there is room for more than one message.
    pub fn is_plenty(&self, mem: &Claims<'_>, shape: impl Shape) -> bool {
        self.claimer.is_plenty(mem, shape)
    }

    /// Whether there is room for a message, without taking it.
    pub fn look(&mut self, mem: &Claims<'_>, shape: impl Shape) -> Result<(), Blocked> {
        self.claimer.look(mem, shape, true).map(drop)
    }

    /// The same for one who is about to claim it: lets receivers get ahead first, if this is a stream.
    pub fn approach(&mut self, mem: &Claims<'_>, shape: impl Shape) -> Result<(), Blocked> {
        self.claimer.approach(mem, shape)
    }

    /// Claims room for a message that is written by parts.
    pub fn try_claim(&mut self, mem: &Claims<'_>, shape: impl Shape) -> Result<Room, Blocked> {
        let position = self.claimer.claim(mem, shape, 1)?.first;
        Ok(Room { position })
    }

    /// The same for a message that receivers look at before they claim it, and whose sender must know all that was done
    /// before the places in front of it were claimed.
    pub fn try_claim_in_view(
        &mut self,
        mem: &Claims<'_>,
        shape: impl Shape,
    ) -> Result<Room, Blocked> {
        let room = self.try_claim(mem, shape)?;
        // C6 look. C8 turn: of the claim's own load.
        Edge::LookStore.order_and(Edge::TurnLoad);
        Ok(room)
    }

    /// The words of the message in claimed room.
    pub fn words<'a>(&self, mem: &Claims<'a>, shape: impl Shape, room: &Room) -> &'a [Word] {
        self.claimer.geometry.message(mem, shape, room.position)
    }

    /// Sends the message that was written into claimed room.
    pub fn commit(&self, mem: &Claims<'_>, shape: impl Shape, room: Room) {
        // C3 fill.
        let stamp = self.claimer.geometry.stamp(mem, shape, room.position);
        stamp.store(stamped(room.position, FULL), Edge::FillStore.store());
    }

    /// Writes the `count` messages of `bytes` into the slots from `first` on, which this sender has claimed.
    #[inline(always)]
    fn fill_all(
        &self,
        mem: &Claims<'_>,
        shape: impl Shape,
        first: u64,
        bytes: &[u8],
        count: usize,
    ) {
        let (mut done, size) = (0, shape.size());
        while done < count {
            let position = first.wrapping_add(done as u64);
            let chunk = self.claimer.geometry.chunk(mem, shape, position, count - done);
            let bytes = &bytes[done * size..(done + chunk.slots) * size];
            chunk.each(|i| {
                debug_assert!((i + 1) * size <= bytes.len());
                // SAFETY: `bytes` has those of all slots of the chunk. (To check that would be half of the work.)
                let message = unsafe { bytes.get_unchecked(i * size..(i + 1) * size) };
                payload::write(chunk.message(shape, i), message);
                // C3 fill.
                let full = stamped(position.wrapping_add(i as u64), FULL);
                chunk.stamp(shape, i).store(full, Edge::FillStore.store());
            });
            done += chunk.slots;
        }
    }

    /// Writes the message into the slot of `position`, which this sender has claimed.
    #[inline(always)]
    fn fill(&self, mem: &Claims<'_>, shape: impl Shape, position: u64, message: &[u8]) {
        payload::write(self.claimer.geometry.message(mem, shape, position), message);
        // C3 fill.
        let stamp = self.claimer.geometry.stamp(mem, shape, position);
        stamp.store(stamped(position, FULL), Edge::FillStore.store());
    }
}

/// Room that was claimed. Whoever lets go of it without sending keeps everybody behind it waiting.
#[derive(Debug)]
#[must_use = "receivers wait for what is sent in claimed room"]
pub struct Room {
    position: u64,
}

/// A claimed position for which there is no message yet.
struct Unused<'a, F: Fn() -> bool> {
    stamp: &'a Word,
    position: u64,
    is_mapped: &'a F,
}

impl<F: Fn() -> bool> Drop for Unused<'_, F> {
    fn drop(&mut self) {
        if !(self.is_mapped)() {
            return;
        }
        // C3 fill: nothing is carried but the claim's end.
        self.stamp.store(stamped(self.position, TOMB), Edge::FillStore.store());
    }
}
