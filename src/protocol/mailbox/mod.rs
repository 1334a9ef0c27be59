//! A mailbox: messages of up to 64 types, and receivers that choose among the types.
//!
//! Each type has a **lane**, a ring of [claims](super::claims) of its own with all that belongs to one: halves, slots,
//! and a table of journals. So who is killed in the middle of a send or a receive leaves, in one lane, what it would
//! leave in a ring, and it is resolved by the same code. What is added is how a receiver chooses a lane:
//!
//! ```text
//!   lane of type 1   [halves] [journals] [slots]      a slot's message  | number | length | bytes ... |
//!   lane of type 2   [halves] [journals] [slots]
//!     ...
//!   where all meet   numbers   drawn by senders, one a message
//!                    used      a bit for each lane into which anybody ever sent
//!                    removed   not 0: the mailbox is no more
//! ```
//!
//! A receiver looks at what is next in each lane that it wants, without a claim; chooses; and claims exactly the place
//! that it looked at, which fails if another one was faster. Then it looks again.
//!
//! # Order
//!
//! Within a type it is the order of the claims, as in any ring. Across types a sender draws a number **before it
//! claims** its place. So of two messages of one type the one behind may have the lower number, but:
//!
//! > If the send of A had ended before that of B began, then every message that stands before A in A's lane has a
//! > lower number than B.
//!
//! For its sender had drawn before it claimed, and claimed before A's sender did (C8). What is next in A's lane is
//! therefore chosen before B by whoever sees it. Nor is it overlooked. Whoever sees B (C3) also sees what was done before
//! B's number was drawn: all of A, if it looks after that; and so does whoever knows that B's number was drawn (C7). So a
//! receiver that has seen a message loads how many numbers were drawn, and looks at the lanes that it had found empty;
//! then what has a lower number can be taken without another such look. What is left is a sender that was stopped between
//! its claim and its commit: those behind it in its lane wait for it, and messages of other types do not. That is the only
//! way in which a later message comes first.
//!
//! By type a receiver looks again, once it has seen a message, at the lanes that go before and that it had found empty.
//!
//! # The bits
//!
//! A lane's bit in `used` is set before the first claim in it and never taken back. So it tells neither that there is a
//! message nor that there is none, and nobody who is killed can leave it wrong; it only keeps receivers from looking at
//! lanes for types that nobody uses.

mod contest;
mod receive;
mod select;
mod send;
mod wakes;
mod walk;

pub use receive::{Arrivals, Found, RecvCursor};
pub use select::{MOST_TYPES, Select};
pub use send::SendCursor;
pub use wakes::{Berth, Notifier, Whom};
pub use walk::Walk;

use super::claims::Claims;
use super::layout::Half;
use super::slots::Untyped;
use crate::payload::WORD;
use crate::sync::{Edge, Ordering};
use select::bit;

/// Words of a message that are not the user's: its number, then its length.
const HEADER: usize = 2;

/// The shape of a slot's message for up to `longest` bytes of the user's.
pub const fn shape(longest: usize) -> Untyped {
    Untyped(HEADER * WORD + longest)
}

/// The memory of a mailbox, as one participant sees it.
#[derive(Clone, Copy)]
pub struct Mail<'a> {
    /// Where all senders meet.
    pub sender: &'a Half,
    /// Where all receivers meet.
    pub receiver: &'a Half,
    /// A lane for each type.
    pub lanes: &'a [Claims<'a>],
}

impl core::fmt::Debug for Mail<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Mail").finish_non_exhaustive()
    }
}

impl Mail<'_> {
    /// A bit for each lane into which anybody ever sent.
    fn used(&self) -> u64 {
        // Relaxed: whoever has seen a message sees the bits that were set before it was sent (C3); and before a sleep
        // the barrier of P1 is between the announcement and this.
        self.sender.released.position.load(Ordering::Relaxed)
    }

    /// Marks `lane` as one to look at.
    fn use_lane(&self, lane: usize) {
        if self.used() & 1 << lane == 0 {
            // Relaxed: C3 carries it with the message.
            self.sender.released.position.fetch_or(1 << lane, Ordering::Relaxed);
        }
    }

    /// The number of the next message.
    fn draw(&self) -> u64 {
        // C7 draw.
        self.sender.cursor.position.fetch_add(1, Edge::DrawStore.store())
    }

    /// How many numbers were drawn. Whoever knows sees all that was sent before any of them was.
    fn drawn(&self) -> u64 {
        // C7 draw.
        self.sender.cursor.position.load(Edge::DrawLoad.load())
    }

    /// A number that changes when in some lane there are orphans to look for.
    fn orphans(&self) -> u64 {
        // C5 orphans.
        self.receiver.cursor.position.load(Edge::OrphanLoad.load())
    }
}

/// Whether the mailbox whose receivers meet at `receiver` was removed.
#[inline(always)]
pub fn is_removed(receiver: &Half) -> bool {
    // Relaxed: nothing is read because of it. Before a sleep the load of P2 is in front.
    receiver.released.position.load(Ordering::Relaxed) != 0
}

/// Says to those who meet at `receiver` that in some lane there are orphans. Before the entry of who left them is free:
/// a repairer that is killed before this leaves that to the next one.
pub fn raise(receiver: &Half) {
    // C5 orphans.
    receiver.cursor.position.fetch_add(1, Edge::OrphanStore.store());
}

/// Removes the mailbox; whether this is the first time. All who sleep must be woken after this.
pub fn mark_removed(receiver: &Half) -> bool {
    // Relaxed: P2 carries it to who is woken.
    receiver.released.position.swap(1, Ordering::Relaxed) == 0
}
