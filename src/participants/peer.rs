//! Whether there is a peer, and how it ended.

use super::{POLLS_PER_PROBE, Participant};
use crate::error::Role;
use crate::protocol::layout::{ACTIVE, DIED, Half};
use crate::segment::{Attached, Segment};
use crate::sync::{Ordering, acquire};
use crate::sys::futex;

/// How the peer of a connection, or those at the other end of a ring, have ended their part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ending {
    /// By saying so: its handle was closed.
    Closed,
    /// Without a word: its process was killed, or ended without closing anything; or it was a client that did not accept
    /// what the listener had answered.
    Died,
    /// By breaking the rules: its half is damaged. Only a [`Hub`](crate::Hub) says so, which lets go of it for that.
    Corrupt,
}

/// Whether who had this half's role says that it has left it.
#[inline(always)]
fn has_left(half: &Half) -> bool {
    let state = acquire(&half.presence.state);
    state != 0 && state & ACTIVE == 0
}

/// [`Participant::has_peer_left`], for whoever waits in this role.
#[inline(always)]
pub(crate) fn has_peer_left(attached: &Attached, role: Role) -> bool {
    has_left(attached.half(role.peer())) || attached.segment().is_rumoured_dead()
}

/// [`Participant::is_peer_gone`], for whoever waits in this role.
pub(crate) fn is_peer_gone(attached: &Attached, role: Role) -> bool {
    let (segment, peer) = (attached.segment(), role.peer());
    if segment.own_role().is_some() {
        // Forgotten before the question, so that what is said meanwhile is heard; said again if it is true.
        let was_rumoured = segment.forget_rumour();
        // Who has the half may say that it has left the role; and when it is gone, nobody follows.
        let gone = has_left(attached.half(peer)) || !segment.is_held(peer);
        if gone && was_rumoured {
            segment.hear_of_death();
        }
        return gone;
    }
    if role == Role::Sender && segment.spec.kind.is_one_to_all() {
        // It goes on whether anybody listens or not.
        return false;
    }
    let was_there = acquire(&attached.half(peer).presence.state) != 0;
    // A mailbox is there for those who come later, as long as it is there at all.
    let ends = !segment.spec.persistent && !segment.spec.is_mailbox();
    was_there && ends && !segment.is_held(peer)
}

/// Whether the peer of a split ring has ended, and how, as it says and the kernel knows.
pub(crate) fn ending(segment: &Segment) -> Option<Ending> {
    let peer = segment.own_role().filter(|_| segment.is_ours())?.peer();
    if has_left(segment.half(peer)) {
        return Some(Ending::Closed);
    }
    (!segment.is_held(peer)).then_some(Ending::Died)
}

/// Wakes those who wait for the peer of a split ring, and has them ask the kernel for it.
pub(crate) fn spread_rumour(segment: &Segment) {
    let Some(role) = segment.own_role().filter(|_| segment.is_ours()) else { return };
    segment.hear_of_death();
    // They sleep on the word that the peer rings. To wake there nobody needs to write it.
    futex::wake_all(&segment.half(role.peer()).presence.epoch);
}

impl Participant {
    /// Where the peer says that it is, for those who only compare it.
    pub(crate) fn position_of_peer(&self) -> u64 {
        if self.is_ours() { self.peer().cursor.position.load(Ordering::Relaxed) } else { 0 }
    }

    /// A hint: whether the peer says that it has left, or somebody says it of the peer. One that was killed says
    /// nothing itself.
    #[inline(always)]
    pub(crate) fn has_peer_left(&self) -> bool {
        has_peer_left(&self.attached, self.role)
    }

    /// The truth: whether there was a peer, there is none now, and that ends the conversation.
    pub(crate) fn is_peer_gone(&self) -> bool {
        is_peer_gone(&self.attached, self.role)
    }

    /// Has the next attempt that finds nothing ask the kernel who lives.
    pub(crate) fn ask_next_time(&mut self) {
        self.empty_polls = POLLS_PER_PROBE - 1;
    }

    /// Whether there is no peer any more, and how it ended: where there were several, whether each of them said that
    /// it left, but for those after whose death another one came.
    pub(crate) fn ending(&self) -> Option<Ending> {
        if !self.is_ours() || !self.is_peer_gone() {
            return None;
        }
        let died = acquire(&self.peer().presence.state) & DIED != 0;
        Some(if has_left(self.peer()) && !died { Ending::Closed } else { Ending::Died })
    }

    /// Whether the peer is there now.
    pub(crate) fn is_peer_present(&self) -> bool {
        let segment = self.attached.segment();
        // Where there may be several, the state is a hint, and the table says it.
        (segment.spec.topology.shares(self.role.peer())
            || acquire(&self.peer().presence.state) & ACTIVE != 0)
            && segment.is_held(self.role.peer())
    }

    /// Whether it is not for the peer that this side waits, but for a claimer to finish or to be resolved.
    pub(crate) fn awaits_claimer(&self) -> bool {
        self.stuck && self.role == Role::Receiver
    }

    /// Called when an attempt found nothing: whether to believe that the peer is gone. Asks the kernel
    /// only if the peer says so, or every so many times.
    #[inline]
    pub(crate) fn seems_gone(&mut self) -> bool {
        self.empty_polls = self.empty_polls.wrapping_add(1);
        let due = self.empty_polls.is_multiple_of(POLLS_PER_PROBE);
        (due || self.has_peer_left()) && self.is_peer_gone()
    }
}
