//! Where a thread sleeps that is not the one which uses the handle, and what it looks at.

use crate::error::Role;
use crate::participants;
use crate::protocol::layout::Half;
use crate::protocol::park::{Barrier, Sleep};
use crate::segment::Attached;
use crate::sync::{Edge, Ordering};
use crate::wait;

/// Where a handle's thread sleeps: on the word on which the handle would.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(crate) attached: Attached,
    /// What the handle is, or would be who sleeps there.
    pub(crate) role: Role,
    /// The handle's entry in the table of participants, if it has one.
    pub(crate) entry: u16,
    /// What it is to be woken for, of 32 things.
    pub(crate) bits: u32,
    pub(crate) barrier: Barrier,
    /// Whether one of those who sleep there is woken for each message.
    pub(crate) in_turn: bool,
    /// Whether the handle is told that the peer is gone.
    pub(crate) ends: bool,
}

impl Post {
    /// The half in which its sleeps are announced.
    pub(crate) fn own(&self) -> &Half {
        self.attached.half(self.role)
    }

    /// The half whose epoch it sleeps on.
    pub(crate) fn peer(&self) -> &Half {
        self.attached.half(self.role.peer())
    }

    /// Announces a sleep; what the epoch was before. `barrier` is the caller's.
    pub(crate) fn announce(&self, barrier: Barrier) -> u32 {
        Sleep::announce(self.own(), self.peer(), || wait::heavy(barrier)).expected()
    }

    /// The epoch, for one who sleeps for what another thread has announced.
    pub(crate) fn epoch(&self) -> u32 {
        // P2 ring: if another thread announces, it is after this.
        Edge::RingLoad.acquire(&self.peer().presence.epoch)
    }

    /// Counts a sleep, for people.
    pub(crate) fn count(&self) {
        self.own().counters.waits.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the peer says that it has left, and has.
    pub(crate) fn has_been_left(&self) -> bool {
        participants::has_peer_left(&self.attached, self.role) && self.is_alone()
    }

    /// Whether there is no peer any more, and that ends the conversation.
    pub(crate) fn is_alone(&self) -> bool {
        self.ends && participants::is_peer_gone(&self.attached, self.role)
    }
}

/// What a handle's thread looks at. It only reads, and only the segment is shared with the handle: the rest is what the
/// handle has said when it was armed.
pub trait Probe: Send + 'static {
    /// Where the thread sleeps.
    fn post(&self) -> &Post;

    /// Whether there may be something for the handle.
    fn has_news(&mut self) -> bool;

    /// The same for one who has slept for long: also what nobody wakes for.
    fn has_old_news(&mut self) -> bool {
        self.has_news()
    }

    /// Whether somebody who is dead may keep something from the handle.
    fn may_be_held_up(&self) -> bool {
        false
    }
}
