//! Claiming positions: senders claim room and receivers claim messages, in one and the same way.

use super::{BLOCK, Backoff, Chunk, Claims, FREE, FULL, Geometry, TOMB, ahead_of, stamped, stride};
use crate::payload::LINE;
use crate::protocol::Blocked;
use crate::protocol::pace::Pace;
use crate::protocol::slots::Shape;
use crate::sync::{AtomicU64, Edge, HAS_TIME, Ordering};
use core::marker::PhantomData;

/// Attempts that found nothing between two looks at who is in the way: those look at the other side's busiest
/// line.
const MISSES_PER_LOOK: u32 = if HAS_TIME { 16 } else { 1 };

/// How far ahead of a claim of one, and of a claim of several, lines are asked for, in words of slots: four and eight
/// lines.
const AHEAD: usize = 32;
const FAR_AHEAD: usize = 64;
/// The most lines that are asked for at once.
const MOST_LINES: usize = 32;
/// A ring of fewer times as many words has no line that is far from both sides.
const LEAST_ROOM: usize = 8;
/// A ring of more words than this does not lie in the nearest cache of either side, 16 KiB of it: its lines come from
/// further away, at a rate that no asking changes, and what is asked for is in the way of what the processor asks for
/// by itself.
const MOST_ROOM: usize = 2048;

/// What a side claims: [`Room`] or [`Messages`].
pub(super) trait Claimed {
    /// The position from which it is claimed.
    fn position<'a>(mem: &Claims<'a>) -> &'a AtomicU64;

    /// The load end of the edge that makes a slot ready.
    const READY: Edge;

    /// The state of nearly all slots that can be claimed.
    const USUAL: u64;

    /// Whether the stamp of the slot of `position` says that it can be claimed.
    fn is_ready(stamp: u64, position: u64) -> bool;

    /// Whether a stamp that is not ready says that it was claimed already.
    fn is_past(stamp: u64, position: u64) -> bool;

    /// Whether it is a claim of the other side that keeps `position` from being ready.
    fn is_in_progress(mem: &Claims<'_>, position: u64, capacity: u64) -> bool;
}

/// What senders claim.
#[derive(Debug)]
pub(super) struct Room;

impl Claimed for Room {
    #[inline(always)]
    fn position<'a>(mem: &Claims<'a>) -> &'a AtomicU64 {
        &mem.sender.cursor.position
    }

    // C4 empty: the message of the lap before has been read for the last time.
    const READY: Edge = Edge::EmptyLoad;

    const USUAL: u64 = FREE;

    #[inline(always)]
    fn is_ready(stamp: u64, position: u64) -> bool {
        stamp == stamped(position, FREE)
    }

    fn is_past(stamp: u64, position: u64) -> bool {
        ahead_of(stamp, position) >= 0
    }

    fn is_in_progress(mem: &Claims<'_>, position: u64, capacity: u64) -> bool {
        let head = Messages::position(mem).load(Ordering::Relaxed);
        head.wrapping_sub(position.wrapping_sub(capacity)) as i64 > 0
    }
}

/// What receivers claim.
#[derive(Debug)]
pub(super) struct Messages;

impl Claimed for Messages {
    #[inline(always)]
    fn position<'a>(mem: &Claims<'a>) -> &'a AtomicU64 {
        &mem.receiver.cursor.position
    }

    // C3 fill.
    const READY: Edge = Edge::FillLoad;

    const USUAL: u64 = FULL;

    #[inline(always)]
    fn is_ready(stamp: u64, position: u64) -> bool {
        // A tomb is claimed, too: somebody has to step over it.
        stamp == stamped(position, FULL) || stamp == stamped(position, TOMB)
    }

    fn is_past(stamp: u64, position: u64) -> bool {
        let ahead = ahead_of(stamp, position);
        ahead > 0 || ahead == 0 && stamp != stamped(position, FREE)
    }

    fn is_in_progress(mem: &Claims<'_>, position: u64, _capacity: u64) -> bool {
        let tail = Room::position(mem).load(Ordering::Relaxed);
        tail.wrapping_sub(position) as i64 > 0
    }
}

/// Positions that were claimed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) first: u64,
    pub(super) count: usize,
    /// Whether none of them needs a closer look: all are in the [usual](Claimed::USUAL) state, or an orphan that was
    /// taken.
    pub(super) usual: bool,
}

/// Whether something can be claimed, for one who only reads; or the position has moved on meanwhile.
pub(super) fn glance<C: Claimed>(geometry: &Geometry, mem: &Claims<'_>, shape: impl Shape) -> bool {
    let position = C::position(mem).load(Ordering::Relaxed);
    let stamp = geometry.stamp(mem, shape, position).load(C::READY.load());
    C::is_ready(stamp, position) || C::is_past(stamp, position)
}

/// Whether a claim of the other side may be in the way, for one who only reads.
pub(super) fn may_be_stuck<C: Claimed>(geometry: &Geometry, mem: &Claims<'_>) -> bool {
    let position = C::position(mem).load(Ordering::Relaxed);
    C::is_in_progress(mem, position, geometry.capacity)
}

/// What came of an attempt to claim.
enum Attempt {
    Won(Claim),
    /// Somebody else was faster.
    Lost,
    /// Nothing is ready at this position.
    NotReady(u64),
}

/// One participant's way of claiming.
#[derive(Debug)]
pub(super) struct Claimer<C> {
    pub(super) geometry: Geometry,
    /// Whether nobody else has this side.
    sole: bool,
    /// Whether the last close look found a claim of the other side in the way.
    stuck: bool,
    /// Positions claimed.
    done: u64,
    /// Attempts that found nothing.
    misses: u32,
    pace: Pace,
    claims: PhantomData<C>,
}

impl<C: Claimed> Claimer<C> {
    pub(super) fn new(geometry: Geometry, sole: bool) -> Self {
        let pace = Pace::new(0);
        Self { geometry, sole, stuck: false, done: 0, misses: 0, pace, claims: PhantomData }
    }

    /// Whether nothing could be claimed because somebody of the other side is not done, who may be dead.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// The position that could be claimed next. `closely` as for [`judge`](Self::judge).
    pub(super) fn look(
        &mut self,
        mem: &Claims<'_>,
        shape: impl Shape,
        closely: bool,
    ) -> Result<u64, Blocked> {
        let mut last = None;
        loop {
            let position = C::position(mem).load(Ordering::Relaxed);
            if self.is_ready(mem, shape, position) {
                return Ok(position);
            }
            self.judge(mem, shape, position, &mut last, closely)?;
        }
    }

    /// Whether something could be claimed; lets the other side get ahead first, as [`claim`](Self::claim) does.
    pub(super) fn approach(&mut self, mem: &Claims<'_>, shape: impl Shape) -> Result<(), Blocked> {
        let (mut last, mut paused) = (None, false);
        loop {
            let position = C::position(mem).load(Ordering::Relaxed);
            if self.is_ready(mem, shape, position) {
                if paused {
                    self.pace.learn(true);
                }
                return Ok(());
            }
            self.miss(mem, shape, position, &mut last, &mut paused)?;
        }
    }

    /// Whether more than one could be claimed.
    pub(super) fn is_plenty(&self, mem: &Claims<'_>, shape: impl Shape) -> bool {
        self.ready(mem, shape, C::position(mem).load(Ordering::Relaxed), 2).0 == 2
    }

    /// Whether the slot of `position` is ready.
    #[inline(always)]
    fn is_ready(&self, mem: &Claims<'_>, shape: impl Shape, position: u64) -> bool {
        C::is_ready(self.geometry.stamp(mem, shape, position).load(C::READY.load()), position)
    }

    /// Claims up to `most` positions, at least one.
    #[inline(always)]
    pub(super) fn claim(
        &mut self,
        mem: &Claims<'_>,
        shape: impl Shape,
        most: usize,
    ) -> Result<Claim, Blocked> {
        let (mut backoff, mut last, mut paused) = (Backoff::default(), None, false);
        loop {
            match self.attempt(mem, shape, most) {
                Attempt::Won(claim) => {
                    if paused {
                        self.pace.learn(true);
                    }
                    return Ok(claim);
                }
                Attempt::Lost => backoff.pause(),
                Attempt::NotReady(first) => self.miss(mem, shape, first, &mut last, &mut paused)?,
            }
        }
    }

    /// Claims the next position, if it is ready and nobody is faster: with its slot, whose place is computed once.
    #[inline(always)]
    pub(super) fn claim_at_once<'a>(
        &mut self,
        mem: &Claims<'a>,
        shape: impl Shape,
    ) -> Option<(Claim, Chunk<'a>)> {
        let first = C::position(mem).load(Ordering::Relaxed);
        let slot = self.geometry.chunk(mem, shape, first, 1);
        let stamp = slot.stamp(shape, 0).load(C::READY.load());
        if !C::is_ready(stamp, first) {
            return None;
        }
        let claim = Claim { first, count: 1, usual: stamp == stamped(first, C::USUAL) };
        self.make(mem, shape, claim).then_some((claim, slot))
    }

    /// Claims `position`, which was seen to be ready, unless somebody else has claimed it since.
    pub(super) fn claim_at(&mut self, mem: &Claims<'_>, position: u64) -> bool {
        mem.own.journal.intend(position, 1);
        // C2 claim.
        let (next, claim) = (position.wrapping_add(1), Edge::ClaimStore.store());
        let cursor = C::position(mem);
        if cursor.compare_exchange(position, next, claim, Ordering::Relaxed).is_err() {
            // It may be long before this one claims here again: an intent that stands would keep repairers waiting.
            mem.own.journal.clear();
            return false;
        }
        self.done = self.done.wrapping_add(1);
        true
    }

    #[inline(always)]
    fn attempt(&mut self, mem: &Claims<'_>, shape: impl Shape, most: usize) -> Attempt {
        let first = C::position(mem).load(Ordering::Relaxed);
        let (count, usual) = self.ready(mem, shape, first, most);
        if count == 0 {
            return Attempt::NotReady(first);
        }
        let claim = Claim { first, count, usual };
        if self.make(mem, shape, claim) { Attempt::Won(claim) } else { Attempt::Lost }
    }

    /// Makes a claim of slots that are ready, unless somebody else was faster.
    #[inline(always)]
    fn make(&mut self, mem: &Claims<'_>, shape: impl Shape, claim: Claim) -> bool {
        let Claim { first, count, .. } = claim;
        mem.own.journal.intend(first, count);
        let next = first.wrapping_add(count as u64);
        // C2 claim: whoever sees it sees the intent.
        let claim = Edge::ClaimStore.store();
        let position = C::position(mem);
        if self.sole {
            position.store(next, claim);
        } else if position.compare_exchange(first, next, claim, Ordering::Relaxed).is_err() {
            return false;
        }
        self.ask_ahead(mem, shape, first, count);
        self.done = self.done.wrapping_add(count as u64);
        true
    }

    /// Asks for lines ahead, now that the `count` slots from `first` on are this one's: for as many as those have, so that
    /// each line is asked for once, whoever comes to it. Last lap's user of a slot was the other side, which has its line
    /// for itself: asked for too late, it costs two waits, one to read the stamp and one to write.
    #[inline(always)]
    fn ask_ahead(&self, mem: &Claims<'_>, shape: impl Shape, first: u64, count: usize) {
        let stride = stride(shape);
        let far = if count == 1 { AHEAD } else { FAR_AHEAD };
        let room = self.geometry.capacity as usize * stride;
        if stride > LINE || !(LEAST_ROOM * far..=MOST_ROOM).contains(&room) {
            return;
        }
        let (slots_of_line, ahead) = (LINE / stride, first.wrapping_add((far / stride) as u64));
        let most = MOST_LINES * slots_of_line;
        self.geometry.ask_for(mem, shape, ahead, count.min(most), slots_of_line);
    }

    /// How many of `most` slots are ready from `first` on, and whether all are in the usual state.
    #[inline(always)]
    fn ready(&self, mem: &Claims<'_>, shape: impl Shape, first: u64, most: usize) -> (usize, bool) {
        let (mut count, mut usual) = (0, true);
        while count < most {
            let position = first.wrapping_add(count as u64);
            let chunk = self.geometry.chunk(mem, shape, position, most - count);
            let at = |i: usize| {
                let position = position.wrapping_add(i as u64);
                (chunk.stamp(shape, i).load(C::READY.load()), position)
            };
            let is_usual = |i: usize| {
                let (stamp, position) = at(i);
                stamp == stamped(position, C::USUAL)
            };
            let mut i = 0;
            // The first one first: if it is not ready, the other side may be at those behind it.
            while i + BLOCK <= chunk.slots && (i..i + BLOCK).all(is_usual) {
                i += BLOCK;
            }
            while i < chunk.slots {
                let (stamp, position) = at(i);
                if !C::is_ready(stamp, position) {
                    return (count + i, usual);
                }
                usual &= stamp == stamped(position, C::USUAL);
                i += 1;
            }
            count += chunk.slots;
        }
        (count, usual)
    }

    /// Nothing was ready at `first`: `Ok` if that is worth another look, in a stream after a pause.
    #[cold]
    #[inline(never)]
    fn miss(
        &mut self,
        mem: &Claims<'_>,
        shape: impl Shape,
        first: u64,
        last: &mut Option<u64>,
        paused: &mut bool,
    ) -> Result<(), Blocked> {
        self.misses = self.misses.wrapping_add(1);
        let closely = self.misses.is_multiple_of(MISSES_PER_LOOK);
        match self.judge(mem, shape, first, last, closely) {
            Err(Blocked::NotReady) if !*paused && self.pace.give_way(self.done) => {
                *paused = true;
                Ok(())
            }
            Err(blocked) => {
                if *paused {
                    self.pace.learn(false);
                }
                Err(blocked)
            }
            done => done,
        }
    }

    /// Why the slot at `position` is not ready: `Ok` if that is worth another look. `closely` says whether it is
    /// worth the other side's line to tell whether somebody is in the way.
    fn judge(
        &mut self,
        mem: &Claims<'_>,
        shape: impl Shape,
        position: u64,
        last: &mut Option<u64>,
        closely: bool,
    ) -> Result<(), Blocked> {
        let stamp = self.geometry.stamp(mem, shape, position).load(C::READY.load());
        if C::is_ready(stamp, position) {
            return Ok(());
        }
        // Whoever sees that it was claimed sees, when it looks again, a position beyond it.
        let past = C::is_past(stamp, position);
        if past && last.replace(position) != Some(position) {
            return Ok(());
        }
        mem.own.journal.clear();
        if past {
            return Err(Blocked::Corrupt);
        }
        if closely {
            self.stuck = C::is_in_progress(mem, position, self.geometry.capacity);
        }
        Err(Blocked::NotReady)
    }
}
