//! A sender of a ring with shared sides.

use super::journal::MOST;
use super::{Backoff, Claims, FREE, FULL, Geometry, MISSES_PER_LOOK, TOMB, ahead_of, stamped};
use crate::payload;
use crate::protocol::Blocked;
use crate::protocol::pace::Pace;
use crate::protocol::slots::{Shape, Typed};
use crate::sync::{Edge, Ordering, Word};
use bytemuck::NoUninit;

/// A sender's private state.
#[derive(Debug)]
pub struct SendCursor {
    geometry: Geometry,
    /// Whether nobody else sends.
    sole: bool,
    /// Whether the last attempt met a receiver that has claimed a message and not finished with it.
    stuck: bool,
    /// Positions claimed.
    done: u64,
    /// Attempts that found nothing.
    misses: u32,
    pace: Pace,
}

impl SendCursor {
    /// A sender, the only one if `sole`.
    pub fn new(mem: &Claims<'_>, shape: impl Shape, capacity: usize, sole: bool) -> Self {
        Self {
            geometry: Geometry::new(mem.words, shape, capacity),
            sole,
            stuck: false,
            done: 0,
            misses: 0,
            pace: Pace::new(0),
        }
    }

    /// Whether the last attempt found no room because a receiver is not done: it may be dead.
    pub fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// Sends one message.
    #[inline(always)]
    pub fn try_send(
        &mut self,
        mem: &Claims<'_>,
        shape: impl Shape,
        message: &[u8],
    ) -> Result<(), Blocked> {
        let (tail, _) = self.claim(mem, shape, 1)?;
        self.fill(mem, shape, tail, message);
        Ok(())
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
            let (first, count) = match self.claim(mem, shape, (messages - done).min(MOST)) {
                Ok(claimed) => claimed,
                // What is broken is found again by the next call.
                Err(_) if done > 0 => break,
                Err(blocked) => return Err(blocked),
            };
            let size = shape.size();
            let bytes = &bytes[done * size..(done + count) * size];
            for (i, message) in bytes.chunks_exact(size).enumerate() {
                self.fill(mem, shape, first.wrapping_add(i as u64), message);
            }
            done += count;
        }
        Ok(done)
    }

    /// Sends messages from `messages` for as long as there is room and there are any, and says how many. None
    /// is taken that there is no room for: the position is claimed first, and everybody waits for the iterator
    /// then. A position for which there is no message, also because the iterator panics, becomes a tomb.
    #[inline(always)]
    pub fn try_send_from<T: NoUninit>(
        &mut self,
        mem: &Claims<'_>,
        shape: Typed<T>,
        mut messages: impl Iterator<Item = T>,
    ) -> Result<usize, Blocked> {
        let mut done = 0;
        loop {
            let position = match self.claim(mem, shape, 1) {
                Ok((position, _)) => position,
                Err(_) if done > 0 => return Ok(done),
                Err(blocked) => return Err(blocked),
            };
            let stamp = self.geometry.stamp(mem, shape, position);
            let unused = Unused { stamp, position };
            let Some(message) = messages.next() else { return Ok(done) };
            core::mem::forget(unused);
            self.fill(mem, shape, position, bytemuck::bytes_of(&message));
            done += 1;
        }
    }

    /// Whether there is room for a message, without taking it.
    pub fn look(&mut self, mem: &Claims<'_>, shape: impl Shape) -> Result<(), Blocked> {
        let mut last = None;
        loop {
            let tail = mem.tail().load(Ordering::Relaxed);
            if self.free(mem, shape, tail, 1) > 0 {
                return Ok(());
            }
            self.judge(mem, shape, tail, &mut last, true)?;
        }
    }

    /// Claims up to `most` positions, at least one: the first, and how many.
    #[inline(always)]
    fn claim(
        &mut self,
        mem: &Claims<'_>,
        shape: impl Shape,
        most: usize,
    ) -> Result<(u64, usize), Blocked> {
        let (mut backoff, mut last, mut paused) = (Backoff::default(), None, false);
        loop {
            let tail = mem.tail().load(Ordering::Relaxed);
            let count = self.free(mem, shape, tail, most);
            if count == 0 {
                self.misses = self.misses.wrapping_add(1);
                let closely = self.misses.is_multiple_of(MISSES_PER_LOOK);
                match self.judge(mem, shape, tail, &mut last, closely) {
                    Ok(()) => {}
                    Err(Blocked::NotReady) if !paused && self.pace.give_way(self.done) => {
                        paused = true;
                    }
                    Err(blocked) => {
                        if paused {
                            self.pace.learn(false);
                        }
                        return Err(blocked);
                    }
                }
                continue;
            }
            if paused {
                self.pace.learn(true);
                paused = false;
            }
            mem.own.journal.intend(tail, count);
            let next = tail.wrapping_add(count as u64);
            // C2 claim: whoever sees it sees the intent.
            if self.sole {
                mem.tail().store(next, Edge::ClaimStore.store());
                self.done = self.done.wrapping_add(count as u64);
                return Ok((tail, count));
            }
            let claim = Edge::ClaimStore.store();
            if mem.tail().compare_exchange(tail, next, claim, Ordering::Relaxed).is_ok() {
                self.done = self.done.wrapping_add(count as u64);
                return Ok((tail, count));
            }
            backoff.pause();
        }
    }

    /// How many of `most` slots are free from `tail` on.
    #[inline(always)]
    fn free(&self, mem: &Claims<'_>, shape: impl Shape, tail: u64, most: usize) -> usize {
        let mut count = 0;
        while count < most {
            let position = tail.wrapping_add(count as u64);
            // C4 empty: the message of the lap before has been read for the last time.
            let stamp = self.geometry.stamp(mem, shape, position).load(Edge::EmptyLoad.load());
            if stamp != stamped(position, FREE) {
                break;
            }
            count += 1;
        }
        count
    }

    /// `closely` says whether it is worth the line at which the head is claimed to tell who is in the way.
    /// Why the slot at `tail` is not free: `Ok` if that is worth another look.
    #[cold]
    #[inline(never)]
    fn judge(
        &mut self,
        mem: &Claims<'_>,
        shape: impl Shape,
        tail: u64,
        last: &mut Option<u64>,
        closely: bool,
    ) -> Result<(), Blocked> {
        let stamp = self.geometry.stamp(mem, shape, tail).load(Edge::EmptyLoad.load());
        let ahead = ahead_of(stamp, tail);
        if stamp == stamped(tail, FREE) {
            return Ok(());
        }
        // Whoever sees a slot filled, or freed for the next lap, sees that `tail` was claimed.
        if ahead >= 0 && last.replace(tail) != Some(tail) {
            return Ok(());
        }
        mem.own.journal.clear();
        if ahead >= 0 {
            return Err(Blocked::Corrupt);
        }
        if closely {
            let oldest = tail.wrapping_sub(self.geometry.capacity);
            let head = mem.head().load(Ordering::Relaxed);
            self.stuck = (head.wrapping_sub(oldest) as i64) > 0;
        }
        Err(Blocked::NotReady)
    }

    /// Writes the message into the slot of `position`, which this sender has claimed.
    #[inline(always)]
    fn fill(&self, mem: &Claims<'_>, shape: impl Shape, position: u64, message: &[u8]) {
        payload::write(self.geometry.message(mem, shape, position), message);
        // C3 fill.
        let stamp = self.geometry.stamp(mem, shape, position);
        stamp.store(stamped(position, FULL), Edge::FillStore.store());
    }
}

/// A claimed position for which there is no message yet.
struct Unused<'a> {
    stamp: &'a Word,
    position: u64,
}

impl Drop for Unused<'_> {
    fn drop(&mut self) {
        // C3 fill: nothing is carried but the claim's end.
        self.stamp.store(stamped(self.position, TOMB), Edge::FillStore.store());
    }
}
