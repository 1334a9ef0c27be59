//! What senders, receivers and listeners of a mailbox have in common: the memory, and how they take part.

use super::Mailbox;
use crate::error::{Role, SetupError};
use crate::participants::Participant;
use crate::protocol::claims::Claims;
use crate::protocol::mailbox::Mail;
use crate::segment::{Attached, Segment};
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

/// The futex bit of a lane: two of them have one in common if there are more than 32.
pub(super) const fn futex_bit(lane: usize) -> u32 {
    1 << (lane % 32)
}

/// The futex bits of some lanes.
pub(super) fn futex_bits(lanes: u64) -> u32 {
    lanes as u32 | (lanes >> 32) as u32
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
    let sender = match role {
        Role::Sender => side.own(),
        Role::Receiver => side.peer(),
    };
    Mail { sender, lanes }
}
