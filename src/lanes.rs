//! The receiver of a ring with lanes: the protocol over a segment, and who is told of its comings and goings.

use crate::bytes;
use crate::error::{Role, SetupError};
use crate::participants::{Participant, sign};
use crate::protocol::Blocked;
use crate::protocol::lanes::{Lanes, RecvCursor};
use crate::protocol::layout::{ACTIVE, Half};
use crate::protocol::park::{self, Barrier};
use crate::protocol::records::{Ahead, Records, Span};
use crate::segment::{Attached, Segment};
use crate::sync::{AtomicU64, Ordering, Word};
use crate::sys::{futex, membarrier};
use crate::wait;
use std::fmt;
use std::sync::Arc;

/// What receives from many lanes.
///
/// It is dropped after the side that it belongs to: whoever is woken then asks the kernel, which has to know by
/// then that the role is free.
pub(crate) struct LanesReceiver {
    cursor: RecvCursor,
    lanes: Box<[Records<'static>]>,
    doorbell: &'static [AtomicU64],
    /// Keeps what the others point to.
    segment: Arc<Segment>,
}

impl fmt::Debug for LanesReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LanesReceiver").field("lanes", &self.lanes.len()).finish_non_exhaustive()
    }
}

impl LanesReceiver {
    /// The cursors of all lanes, for `side`, which has taken the receiver's role.
    pub(crate) fn join(segment: &Arc<Segment>, side: &Participant) -> Result<Self, SetupError> {
        let spec = &segment.spec;
        let lane = |lane| {
            let attached = Attached::lane(segment, lane);
            // SAFETY: what the references point to is the segment's mapping, which stays where it is as long as
            // `segment` below does.
            unsafe {
                core::mem::transmute::<Records<'_>, Records<'static>>(bytes::memory(&attached))
            }
        };
        let lanes: Box<[_]> = (0..spec.lanes()).map(lane).collect();
        let doorbell = &side.attached.half(Role::Sender).doorbell.words;
        // SAFETY: likewise.
        let doorbell =
            unsafe { core::mem::transmute::<&[AtomicU64], &'static [AtomicU64]>(doorbell) };
        let fences = !membarrier::is_registered();
        let mem = Lanes { lanes: &lanes, doorbell };
        let mut cursor = RecvCursor::recover(mem, spec.capacity, spec.ordered, fences)
            .map_err(|_| SetupError::Corrupt)?;
        for lane in &lanes {
            if fences {
                park::insist_on_fences(&lane.receiver.presence);
            }
            sign(&lane.receiver.presence);
        }
        // Most lanes have nobody who sends.
        let barrier = if fences { Barrier::Fence } else { Barrier::Membarrier };
        if cursor.sweep(mem, false, || wait::heavy(barrier), futex::wake_all)
            == Err(Blocked::Corrupt)
        {
            return Err(SetupError::Corrupt);
        }
        let receiver = Self { cursor, lanes, doorbell, segment: Arc::clone(segment) };
        receiver.ring_senders();
        Ok(receiver)
    }

    #[inline(always)]
    fn split(&mut self) -> (&mut RecvCursor, Lanes<'_>) {
        (&mut self.cursor, Lanes { lanes: &self.lanes, doorbell: self.doorbell })
    }

    /// Wakes the senders that are there, to look whether there is a receiver.
    fn ring_senders(&self) {
        let is_there = |half: &Half| half.presence.state.load(Ordering::Acquire) & ACTIVE != 0;
        for lane in self.lanes.iter().filter(|lane| is_there(lane.sender)) {
            futex::wake_all(park::ring(lane.receiver));
        }
    }

    /// The next message.
    #[inline(always)]
    pub(crate) fn try_claim(&mut self, barrier: Barrier) -> Result<Span, Blocked> {
        if self.cursor.sweep_is_due() {
            self.sweep_lanes(true, barrier)?;
        }
        let (cursor, mem) = self.split();
        cursor.try_claim(mem, futex::wake_all)
    }

    /// Whether there is a message, as far as one knows without asking: in the lanes that are looked at, and those that
    /// were rung for.
    pub(crate) fn look(&mut self) -> Result<(), Blocked> {
        let (cursor, mem) = self.split();
        cursor.look(mem, futex::wake_all)
    }

    /// Whether there is a message in any lane; lanes without are not looked at again before they are rung for.
    pub(crate) fn sweep(&mut self, barrier: Barrier) -> Result<(), Blocked> {
        self.sweep_lanes(false, barrier)
    }

    #[cold]
    #[inline(never)]
    fn sweep_lanes(&mut self, keep_served: bool, barrier: Barrier) -> Result<(), Blocked> {
        let (cursor, mem) = self.split();
        cursor.sweep(mem, keep_served, || wait::heavy(barrier), futex::wake_all)
    }

    /// As of the protocol.
    pub(crate) fn hold(&mut self) {
        self.cursor.hold();
    }

    /// As of the protocol.
    pub(crate) fn ahead(&self) -> Ahead {
        self.cursor.ahead()
    }

    /// As of the protocol.
    pub(crate) fn try_peek(&mut self, ahead: &mut Ahead) -> Result<Span, Blocked> {
        let (cursor, mem) = self.split();
        cursor.try_peek(mem, ahead)
    }

    /// The words of the message that was found last, or of one after it that was looked at.
    #[inline(always)]
    pub(crate) fn words(&self, span: Span) -> &[Word] {
        span.words(self.lanes[self.cursor.current()])
    }

    /// Gives a message's room back.
    #[inline(always)]
    pub(crate) fn release(&mut self, span: Span) {
        let (cursor, mem) = self.split();
        cursor.release(mem, span, futex::wake_all);
    }

    /// Tells all senders how far the receiver is.
    pub(crate) fn publish_all(&mut self) {
        let (cursor, mem) = self.split();
        cursor.publish_all(mem, futex::wake_all);
    }
}

impl Drop for LanesReceiver {
    fn drop(&mut self) {
        if !self.segment.is_ours() {
            return;
        }
        for lane in &self.lanes {
            let presence = &lane.receiver.presence;
            presence.state.fetch_and(!ACTIVE, Ordering::AcqRel);
            park::announce(presence);
        }
        self.ring_senders();
    }
}
