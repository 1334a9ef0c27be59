//! Stamped slots: a ring of fixed-size messages with one sender and one receiver.
//!
//! The idea that a slot says by itself whether it is full, so that the consumer needs no second cache
//! line to learn it, is FastForward's (Giacomoni, Moseley, Vachharajani, PPoPP 2008); stamps that carry
//! the position, so that a lap is never mistaken for another, are Vyukov's (bounded MPMC queue, 2010).
//! Caching the other side's position is Lee, Bu and Chandranmenon's MCRingBuffer (IPDPS 2010). Ours is
//! the **cell**: one stamp for several messages. As many small ones as fit share the stamp's cache line:
//! one message a call still costs one line transfer, and a stream of 8-byte messages carries seven in each
//! line instead of four. Larger ones have lines of their own, so that a copy never straddles one more
//! than it must, and share their stamp's line by the dozen.
//!
//! ```text
//! cell, messages of up to 56 bytes     cell, larger messages: their first line starts a line
//! | stamp | m0 | m1 | ... | unused |   | stamp | unused, to the end of the line |
//!                                      | m0      ...                            |
//!                                      | m1      ...           up to 16 lines   |
//!
//! stamp = { position:62 | state:2 }
//!   FREE(p) = 4p      nothing in this cell is committed yet; p is its first position (first lap only)
//!   FULL(p) = 4p + 1  all positions up to and including p are committed, in whatever cell
//!   the states 2 and 3 are for rings with shared sides
//! ```
//!
//! A send, of one message or of a batch, stores all payload and then one stamp: that of the cell in which
//! it **starts**, with the last position of the batch. So a batch appears at once or, if its sender is
//! killed, not at all, and the receiver does not touch lines that are still being written. What a stamp
//! says is true of the whole ring, so a stale one only says too little. The receiver looks at the
//! cell of the first position that it does not know to be committed; since it learns of whole sends only,
//! that is where the next send will leave its stamp.
//!
//! The receiver does not write the stamp back: that would bounce the line. It keeps `head` exact on a
//! line of its own and publishes `released` every so many messages and whenever it finds the ring
//! empty. The sender lives on `released` and looks at `head` only when that shows no room, so a ring
//! holds exactly `capacity` messages, never fewer.
//!
//! A cell must not be entered for the next lap while the receiver still reads it: with `k` messages a
//! cell, `ceil((capacity - 1) / k) + 1` cells are enough, because `tail < head + capacity` always.

mod cells;
mod receive;
mod send;

pub use cells::{Shape, Typed, Untyped, cells_for, words_for};
pub use receive::{Cell, RecvCursor, Run, Stay};
pub use send::SendCursor;

use super::Blocked;
use super::layout::Half;
use super::room::{self, Edges};
use crate::sync::{Edge, Ordering, Word};
use cells::{Geometry, Place};

/// The most messages between two publications of `released`.
const PERIOD: u64 = 64;
/// The largest capacity: keeps every size computed from it far from overflow.
pub const MAX_CAPACITY: usize = 1 << 40;
/// The edges that tell the sender of room.
const ROOM: Edges = Edges {
    store: (Edge::ReleaseStore, Edge::HeadStore),
    load: (Edge::ReleaseLoad, Edge::HeadLoad),
};

const FREE: u64 = 0;
const FULL: u64 = 1;
const STATE: u64 = 3;

/// The stamp of a cell in which everything up to `position` is committed.
#[inline(always)]
const fn full(position: u64) -> u64 {
    position << 2 | FULL
}

/// The stamp of a cell that was never used and starts at `position`.
#[inline(always)]
const fn free(position: u64) -> u64 {
    position << 2 | FREE
}

/// The memory that both sides see, as long as they borrow it.
#[derive(Clone, Copy)]
pub struct Slots<'a> {
    /// The sender's half.
    pub sender: &'a Half,
    /// The receiver's half.
    pub receiver: &'a Half,
    /// The cells.
    pub words: &'a [Word],
}

impl Slots<'_> {
    /// Stamps every cell free. Before anybody else can see the ring.
    pub fn initialise(&self, shape: impl Shape, capacity: usize) {
        initialise(self.words, shape, capacity);
    }
}

/// Stamps every cell among `words` free.
pub fn initialise(words: &[Word], shape: impl Shape, capacity: usize) {
    for cell in 0..cells_for(shape, capacity) {
        let first = (cell * shape.per_cell()) as u64;
        words[cell * shape.stride()].store(free(first), Ordering::Relaxed);
    }
}

/// The stamp of the cell at `place`.
#[inline(always)]
fn stamp<'a>(mem: Slots<'a>, place: Place) -> &'a Word {
    // SAFETY: `place` was made by `Geometry`, so `cell` is the index of a cell's stamp, and
    // `Geometry::new` has checked that all cells are inside `words`. Both are private to this process.
    unsafe { mem.words.get_unchecked(place.cell) }
}

/// How far messages are committed, as a new sender or receiver finds it, and how far they are received.
///
/// The last sender noted where its sends ended, except perhaps the last one; from there each stamp leads
/// to the end of the send that starts in its cell.
fn committed(
    mem: Slots<'_>,
    shape: impl Shape,
    geometry: &Geometry,
) -> Result<(u64, u64), Blocked> {
    // S4 note: what is committed up to there may be read. S3 head: what is received may be overwritten.
    let noted = Edge::NoteLoad.acquire(&mem.sender.cursor.position);
    let head = ROOM.load.1.acquire(&mem.receiver.cursor.position);
    room::check(noted, head, geometry.capacity)?;
    let mut tail = noted;
    loop {
        // S1 commit.
        let found = Edge::CommitLoad.acquire(stamp(mem, geometry.place(shape, tail)));
        let position = found >> 2;
        if found & STATE != FULL || position < tail {
            break;
        }
        tail = position + 1;
        // Also what keeps a peer that goes on writing stamps from leading us on for ever.
        if tail > head + geometry.capacity {
            return Err(Blocked::Corrupt);
        }
    }
    match tail.checked_sub(head) {
        Some(waiting) if waiting <= geometry.capacity => Ok((tail, head)),
        _ => Err(Blocked::Corrupt),
    }
}
