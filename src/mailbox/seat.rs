//! What senders, receivers and listeners of a mailbox have in common: the memory, and how they take part.

use super::Mailbox;
use crate::error::{Role, SetupError};
use crate::participants::Participant;
use crate::protocol::claims::Claims;
use crate::protocol::layout::Half;
use crate::protocol::mailbox::Mail;
use crate::protocol::park;
use crate::segment::{Attached, Segment};
use crate::sync::Ordering;
use crate::sys::{futex, membarrier};
use crate::table;
use std::sync::Arc;

/// All lanes, as the participant of entry `own` sees them.
///
/// # Safety
///
/// Not to be used when `segment` has been dropped.
pub(super) unsafe fn lanes(segment: &Arc<Segment>, own: usize) -> Box<[Claims<'static>]> {
    let attached = Attached::new(segment);
    let lane = |lane: Attached| {
        let claims = table::memory(&lane, own as u16);
        // SAFETY: what the references point to is the segment's mapping, which stays where it is as long as the
        // segment is there; the caller promises the rest.
        unsafe { core::mem::transmute::<Claims<'_>, Claims<'static>>(claims) }
    };
    attached.lanes().map(lane).collect()
}

/// Wakes all who wait for messages, wherever anybody ever slept.
pub(super) fn wake_receivers(mail: Mail<'_>) {
    let lanes = mail.lanes.iter().map(|lane| (lane.receiver, lane.sender));
    let places = lanes.chain([(mail.receiver, mail.sender), (mail.sender, mail.receiver)]);
    let slept = |half: &Half| half.presence.asleep.load(Ordering::Relaxed) != 0;
    for (_, peer) in places.filter(|(own, _)| slept(own)) {
        futex::wake_all(park::ring(peer));
    }
}

/// Tells those who wake the sleepers of `places` to fence, if this process has no `membarrier`.
pub(super) fn ask_for_fences<'a>(places: impl Iterator<Item = &'a Half>) {
    if !membarrier::is_registered() {
        places.for_each(|place| park::insist_on_fences(&place.presence));
    }
}

/// A participant's part in a mailbox.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) side: Participant,
    pub(super) lanes: Box<[Claims<'static>]>,
    pub(super) mailbox: Mailbox,
}

impl Seat {
    pub(super) fn take(mailbox: &Mailbox, role: Role) -> Result<Self, SetupError> {
        if mailbox.is_removed() {
            return Err(SetupError::NotFound);
        }
        let side = Participant::join(&mailbox.segment, role)?;
        // SAFETY: they are kept beside the mailbox, which has a part in the segment, in a struct that uses neither when
        // it is dropped.
        let lanes = unsafe { lanes(&mailbox.segment, side.entry()) };
        Ok(Self { side, lanes, mailbox: mailbox.clone() })
    }
}

/// The mailbox's memory, put together of parts that a caller can borrow beside others.
#[inline(always)]
pub(super) fn mail<'a>(
    side: &'a Participant,
    lanes: &'a [Claims<'static>],
    role: Role,
) -> Mail<'a> {
    let (sender, receiver) = match role {
        Role::Sender => (side.own(), side.peer()),
        Role::Receiver => (side.peer(), side.own()),
    };
    Mail { sender, receiver, lanes }
}

/// The same for one who has no entry, or has lent it out.
pub(super) fn memory<'a>(mailbox: &'a Mailbox, lanes: &'a [Claims<'static>]) -> Mail<'a> {
    let half = |role| mailbox.segment.half(role);
    Mail { sender: half(Role::Sender), receiver: half(Role::Receiver), lanes }
}
