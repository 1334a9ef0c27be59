//! Claims: a ring of fixed-size messages of which one side or both are shared.
//!
//! A position is claimed by moving `tail` or `head` over it, and a stamp in each slot says what has become of
//! the position since, which is Vyukov's bounded queue (2010). A claimer that is killed would block that
//! queue for ever. What is ours is the **journal**: each participant notes what it is about to claim on a line of
//! its own before it does, so that whoever is stuck at a position can find out whose it is, ask the kernel
//! whether that one lives, and if not take over. The journal is a plain store to a line that nobody reads
//! meanwhile.
//!
//! ```text
//! slot p mod N  | stamp | message | unused |      stamp = { position:53 | state:11 }
//!
//!  send:     FREE(p) -- intent, claim tail --> (copying in) -- FULL(p)
//!  receive:  FULL(p) -- intent, claim head --> (copying out) -- FREE(p + N)
//!
//!  sender killed while it had p:     FREE(p) --repair--> TOMB(p)      receivers step over it
//!  receiver killed while it had p:   FULL(p) --repair--> ORPHAN(p)    to be delivered again
//!  receiver i takes an orphan:       ORPHAN(p) --> TAKEN(p, i)        copying out, then FREE(p + N)
//!  receiver i killed meanwhile:      TAKEN(p, i) --repair--> ORPHAN(p)
//!  receiver gives a message back:    FULL(p), TAKEN(p, i) --> ORPHAN(p)
//! ```
//!
//! No stamp ever comes back to a value that it had, but for `ORPHAN` and `TAKEN` by the same participant: that
//! one's repairer, of whom there is one at a time, can trust what it has seen. (A stamp keeps 53 bits of the
//! position: to take one for another, a participant would have to be stopped until 2^53 messages have
//! passed, which is a year at 250 million a second, and then go on at exactly that position.)
//!
//! # Why a look at the journals is enough
//!
//! Take a repairer that finds `FREE(p)` and `tail > p`. Nobody will claim `p` any more, so somebody has.
//!
//! * It has loaded a `tail` beyond `p` (C2). All changes of `tail` are read-modify-writes, or stores of a sole
//!   sender, so it sees the intent that whoever claimed `p` noted before.
//! * It looks at all senders' intents (C1). The claimer's shows `p`, or something later. In the latter case the claimer
//!   had filled the slot before it noted that, and the repairer's own change of the stamp fails.
//! * If every sender whose intent shows `p` is dead, the claimer is: its memory was torn down before its
//!   lock went. One that shows `p` and lives may have lost the claim and be about to go on: the repairer comes
//!   back later, and is never wrong.
//!
//! `FULL(p)` and `head > p` are the mirror image. `TAKEN(p, i)` needs no look: it says whose it is.

mod claim;
mod front;
mod journal;
mod receive;
mod repair;
mod send;

pub use front::{Front, arrived};
#[cfg(not(loom))]
pub use journal::last_claim;
pub use receive::{Held, RecvCursor, are_others_at_work};
pub use repair::{Outcome, resolve};
pub use send::SendCursor;

use super::layout::{Entry, Half};
use super::slots::Shape;
use crate::payload::LINE;
use crate::sync::{AtomicU64, Ordering, Word, prefetch_for_write, spin_hint};

/// The largest capacity: keeps every size computed from it far from overflow.
pub const MAX_CAPACITY: usize = 1 << 40;

const STATE_BITS: u32 = 11;
const FREE: u64 = 0;
const FULL: u64 = 1;
const TOMB: u64 = 2;
const ORPHAN: u64 = 3;
/// Taken by participant 0, and so on.
const TAKEN: u64 = 4;

const _: () = assert!(TAKEN + (super::layout::MAX_PARTICIPANTS as u64) <= 1 << STATE_BITS);

/// A stamp.
#[inline(always)]
const fn stamped(position: u64, state: u64) -> u64 {
    position << STATE_BITS | state
}

/// How far the position of `stamp` is ahead of `position`; negative if it is behind.
#[inline(always)]
const fn ahead_of(stamp: u64, position: u64) -> i64 {
    stamp.wrapping_sub(position << STATE_BITS) as i64 >> STATE_BITS
}

/// The memory of the ring, as one participant sees it.
#[derive(Clone, Copy)]
pub struct Claims<'a> {
    /// Where the senders meet.
    pub sender: &'a Half,
    /// Where the receivers meet.
    pub receiver: &'a Half,
    /// All participants.
    pub table: &'a [Entry],
    /// This one's entry in the table.
    pub own: &'a Entry,
    /// The slots, then a word for each of them: how often its message was handed out.
    pub words: &'a [Word],
}

impl core::fmt::Debug for Claims<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Claims").finish_non_exhaustive()
    }
}

impl Claims<'_> {
    /// A number that changes when there are orphans to look for.
    #[inline(always)]
    fn orphans(&self) -> &AtomicU64 {
        &self.receiver.released.position
    }

    /// The value of that number, for those who only compare it.
    pub fn changes(&self) -> u64 {
        self.orphans().load(Ordering::Relaxed)
    }

    /// Stamps every slot free. Before anybody else can see the ring.
    pub fn initialise(words: &[Word], shape: impl Shape, capacity: usize) {
        for slot in 0..capacity {
            let stamp = stamped(slot as u64, FREE);
            words[slot * stride(shape)].store(stamp, Ordering::Relaxed);
        }
    }
}

/// Messages that a ring holds which is asked to hold `capacity`: a power of two.
pub const fn capacity_for(capacity: usize) -> usize {
    capacity.next_power_of_two()
}

/// Words of a slot: small messages lie in one cache line with their stamp.
#[inline(always)]
fn stride(shape: impl Shape) -> usize {
    let words = 1 + shape.words();
    if words <= LINE { words.next_power_of_two() } else { words.next_multiple_of(LINE) }
}

/// Words of data of a ring of `capacity` messages; `None` if that is beyond counting.
pub fn words_for(shape: impl Shape, capacity: usize) -> Option<usize> {
    capacity.checked_mul(stride(shape) + 1)
}

/// What nobody changes: read once and checked at attach.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// Slots, a power of two.
    capacity: u64,
}

impl Geometry {
    /// The geometry of a ring of `capacity` messages.
    pub fn new(words: &[Word], shape: impl Shape, capacity: usize) -> Self {
        let needed = words_for(shape, capacity);
        assert!(capacity.is_power_of_two() && needed.is_some_and(|needed| needed <= words.len()));
        Self { capacity: capacity as u64 }
    }

    /// The slot of `position`.
    #[inline(always)]
    fn slot(&self, position: u64) -> usize {
        (position & (self.capacity - 1)) as usize
    }

    /// Whether `position` can be claimed and not done by a side that is at `end`: it keeps the same slot of the
    /// next lap from being claimed.
    fn is_within_a_lap(&self, position: u64, end: u64) -> bool {
        (1..=self.capacity).contains(&end.wrapping_sub(position))
    }

    /// The stamp of the slot of `position`.
    #[inline(always)]
    fn stamp<'a>(&self, mem: &Claims<'a>, shape: impl Shape, position: u64) -> &'a Word {
        let at = self.slot(position) * stride(shape);
        debug_assert!(at < mem.words.len());
        // SAFETY: `slot` is below the capacity, and `new` has checked that all slots are inside `words`.
        unsafe { mem.words.get_unchecked(at) }
    }

    /// The words of the message of `position`.
    #[inline(always)]
    fn message<'a>(&self, mem: &Claims<'a>, shape: impl Shape, position: u64) -> &'a [Word] {
        let start = self.slot(position) * stride(shape) + 1;
        debug_assert!(start + shape.words() <= mem.words.len());
        // SAFETY: as for `stamp`; a slot has room for its stamp and the words of a message.
        unsafe { mem.words.get_unchecked(start..start + shape.words()) }
    }

    /// The slots from that of `position` on, up to `most` of them and no further than the end of the data.
    #[inline(always)]
    fn chunk<'a>(
        &self,
        mem: &Claims<'a>,
        shape: impl Shape,
        position: u64,
        most: usize,
    ) -> Chunk<'a> {
        let slot = self.slot(position);
        // There always is one.
        let slots = if most == 1 { 1 } else { (self.capacity as usize - slot).min(most) };
        let stride = stride(shape);
        debug_assert!((slot + slots) * stride <= mem.words.len());
        // SAFETY: as for `stamp`: these slots end where those of the ring do, or before.
        let words = unsafe { mem.words.get_unchecked(slot * stride..(slot + slots) * stride) };
        Chunk { words, slots }
    }

    /// Asks for the line of the slot of `position`, and of each `step` slots from there on, among `count` slots that are
    /// no more than a lap.
    #[inline(always)]
    fn ask_for(
        &self,
        mem: &Claims<'_>,
        shape: impl Shape,
        position: u64,
        count: usize,
        step: usize,
    ) {
        let chunk = self.chunk(mem, shape, position, count);
        for i in (0..chunk.slots).step_by(step) {
            prefetch_for_write(chunk.stamp(shape, i));
        }
        if chunk.slots < count {
            let behind = position.wrapping_add(chunk.slots as u64);
            let rest = self.chunk(mem, shape, behind, count - chunk.slots);
            for i in (0..rest.slots).step_by(step) {
                prefetch_for_write(rest.stamp(shape, i));
            }
        }
    }

    /// How often the message of `position` was handed out again, with the position that this is about.
    fn deliveries<'a>(&self, mem: &Claims<'a>, shape: impl Shape, position: u64) -> &'a Word {
        &mem.words[self.capacity as usize * stride(shape) + self.slot(position)]
    }
}

/// Slots that are dealt with at a time, where there are as many: the counting is once for all of them. Their stamps lie
/// in a line, or few.
const BLOCK: usize = 4;

/// Slots that lie one behind the other.
#[derive(Clone, Copy)]
struct Chunk<'a> {
    words: &'a [Word],
    slots: usize,
}

impl<'a> Chunk<'a> {
    /// The stamp of slot `i`.
    #[inline(always)]
    fn stamp(self, shape: impl Shape, i: usize) -> &'a Word {
        debug_assert!(i < self.slots);
        // SAFETY: `words` has all of `slots`; callers ask for one of them.
        unsafe { self.words.get_unchecked(i * stride(shape)) }
    }

    /// The words of the message of slot `i`.
    #[inline(always)]
    fn message(self, shape: impl Shape, i: usize) -> &'a [Word] {
        debug_assert!(i < self.slots);
        let start = i * stride(shape) + 1;
        // SAFETY: as for `stamp`.
        unsafe { self.words.get_unchecked(start..start + shape.words()) }
    }

    /// Calls `act` with the number of each slot, the first one first.
    #[inline(always)]
    fn each(self, mut act: impl FnMut(usize)) {
        let whole = self.slots / BLOCK * BLOCK;
        for block in (0..whole).step_by(BLOCK) {
            (block..block + BLOCK).for_each(&mut act);
        }
        (whole..self.slots).for_each(act);
    }
}

/// Pauses that get longer, for those who lost a claim.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    rounds: u32,
}

impl Backoff {
    /// The longest pause is two to this many spin hints.
    const LONGEST: u32 = 6;

    #[cold]
    pub(super) fn pause(&mut self) {
        (0..1_u32 << self.rounds).for_each(|_| spin_hint());
        self.rounds = (self.rounds + 1).min(Self::LONGEST);
    }
}
