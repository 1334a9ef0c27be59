//! Waking those who sleep: peers, and those who have the same role.

use super::Participant;
use crate::error::Role;
use crate::protocol::lanes;
use crate::protocol::layout::Half;
use crate::protocol::park::{self, Answered};
use crate::sync::AtomicU32;
use crate::sys::{futex, membarrier};

impl Participant {
    /// A memory of announcements on its own side: for one who has something for those that have the same role. They
    /// may sleep since before it came, so it rings the first time.
    pub(crate) fn answered_on_own_side(&self) -> Answered {
        let mut answered = Answered::up_to_now(self.own(), !membarrier::is_registered());
        answered.woke(true);
        answered
    }

    /// Wakes up to `count` of those who have the same role, if any sleep that `answered` has not heard of.
    #[inline(always)]
    pub(crate) fn notify_own_side(&mut self, answered: &mut Answered, count: u32) {
        if answered.must_wake(self.own()) {
            self.answer_own_side(answered, count);
        }
    }

    #[cold]
    #[inline(never)]
    fn answer_own_side(&mut self, answered: &mut Answered, count: u32) {
        self.rang_last = true;
        let woken = futex::wake(self.ring(self.peer()), count);
        answered.woke(woken >= count);
    }

    /// Wakes those who have the same role: they sleep on what the peers ring.
    #[cold]
    pub(crate) fn wake_own_side(&self) {
        futex::wake_all(park::ring(self.peer()));
    }

    /// Wakes those who sleep for room or messages in some lane of a mailbox.
    pub(super) fn wake_lanes(&self) {
        if self.attached.segment().spec.is_mailbox() {
            let lanes = self.attached.lanes();
            for lane in lanes {
                futex::wake_all(park::ring(lane.half(Role::Sender)));
                futex::wake_all(park::ring(lane.half(Role::Receiver)));
            }
        }
    }

    /// Called when a wait is over that began when this side had slept `sleeps` times: if it was woken and there
    /// `is_plenty`, one more of those who have the same role is woken. One may have been woken for what was not the
    /// next by then, and be asleep again.
    pub(crate) fn share(&self, sleeps: u32, is_plenty: impl FnOnce() -> bool) {
        // The word is the peers' to write; where it is out of reach, nobody shares a role.
        debug_assert!(self.attached.segment().own_role().is_none());
        if self.sleeps() != sleeps && is_plenty() {
            futex::wake(park::ring(self.peer()), 1);
        }
    }

    /// Changes the epoch of `half`, on which somebody sleeps who is woken next, and says who did it, for
    /// [`shares_processor`](Self::shares_processor).
    pub(crate) fn ring<'h>(&self, half: &'h Half) -> &'h AtomicU32 {
        if self.attached.segment().spec.topology.is_shared() {
            self.sign_processor(half);
        }
        park::ring(half)
    }

    /// Wakes the peer if it sleeps, after something was published for it. `peer` is its role, said by
    /// those who know it when they are compiled.
    #[inline(always)]
    pub(crate) fn notify(&mut self, peer: Role) {
        self.notify_of(peer, 1);
    }

    /// The same where several may sleep, of whom `count` find something to do.
    #[inline(always)]
    pub(crate) fn notify_of(&mut self, peer: Role, count: usize) {
        debug_assert_eq!(peer, self.role.peer());
        if self.answered.must_wake(self.attached.half(peer)) {
            self.answer(count);
        }
    }

    #[cold]
    #[inline(never)]
    fn answer(&mut self, count: usize) {
        if self.hub.is_none() && self.attached.segment().spec.topology.shares(self.role.peer()) {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            let woken = futex::wake(self.ring(self.own()), count);
            self.answered.woke(woken >= count);
        } else if self.hub.as_mut().is_none_or(|hub| hub.ask()) {
            self.wake();
        }
        // A receiver still reads what a sender has left behind; a sender has nobody left to send to.
        if self.role == Role::Sender && self.has_peer_left() {
            self.suspect();
        }
    }

    /// Wakes the peer if it sleeps.
    pub(super) fn wake(&self) {
        let half = match &self.hub {
            Some(hub) => {
                lanes::ask(&hub.half(Role::Sender).doorbell.words, hub.lane);
                hub.half(self.role)
            }
            None => self.own(),
        };
        futex::wake_all(self.ring(half));
        self.attached.segment().ring_company();
    }
}
