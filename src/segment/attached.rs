//! A segment at hand: the addresses of its parts, for those who need them for every message.

use super::Segment;
use crate::error::Role;
use crate::protocol::layout::{Entry, Half, PAGE};
use crate::sync::Word;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

/// A segment, or a lane of it, with the addresses of its parts at hand, for those who need them for every
/// message.
#[derive(Clone)]
pub(crate) struct Attached {
    /// The sender's half.
    sender: NonNull<Half>,
    /// The receiver's half.
    receiver: NonNull<Half>,
    /// The table of participants.
    table: NonNull<[Entry]>,
    /// The receivers' halves, if each has one.
    places: NonNull<[Half]>,
    /// The data.
    words: NonNull<[Word]>,
    segment: Arc<Segment>,
}

// SAFETY: all pointers are into the mappings of `segment`, which is `Send` and `Sync` and does not unmap them
// before `self` is dropped; all that is made of it are references to atomics.
unsafe impl Send for Attached {}
// SAFETY: as for `Send`.
unsafe impl Sync for Attached {}

static_assertions::assert_impl_all!(Segment: Send, Sync);

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.segment.fmt(f)
    }
}

impl Attached {
    pub(crate) fn new(segment: &Arc<Segment>) -> Self {
        let halves = (segment.half(Role::Sender), segment.half(Role::Receiver));
        Self::of(segment, halves, segment.words())
    }

    /// A lane of `segment`, which has so many.
    pub(crate) fn lane(segment: &Arc<Segment>, lane: usize) -> Self {
        let spec = &segment.spec;
        assert!(lane < spec.lanes() && segment.mapping.len() >= spec.data_at());
        let receiver = spec.lanes_at() + lane * spec.lane_stride();
        let size = spec.lane_words();
        // SAFETY: the halves of all lanes lie between `lanes_at` and `data_at`, within the mapping, the receiver's
        // first, each on a page of its own; a half is atomics only.
        let half = |at| unsafe { segment.mapping.base().add(at).cast::<Half>().as_ref() };
        let halves = (half(receiver + PAGE), half(receiver));
        let mut attached = Self::of(segment, halves, &segment.words()[lane * size..][..size]);
        if spec.is_mailbox() {
            // SAFETY: a mailbox's lane has its table behind its halves, before the next lane and so before `data_at`.
            let table = unsafe { segment.mapping.base().add(receiver + 2 * PAGE).cast() };
            attached.table = NonNull::slice_from_raw_parts(table, spec.participants);
        }
        attached
    }

    /// The lanes of the segment, if it has any.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = Self> + '_ {
        (0..self.segment.spec.lanes()).map(|lane| Self::lane(&self.segment, lane))
    }

    fn of(segment: &Arc<Segment>, (sender, receiver): (&Half, &Half), words: &[Word]) -> Self {
        Self {
            sender: NonNull::from(sender),
            receiver: NonNull::from(receiver),
            table: NonNull::from(segment.table()),
            places: NonNull::from(segment.places()),
            words: NonNull::from(words),
            segment: Arc::clone(segment),
        }
    }

    /// The segment.
    pub(crate) fn segment(&self) -> &Segment {
        &self.segment
    }

    /// The half that `role` writes.
    #[inline(always)]
    pub(crate) fn half(&self, role: Role) -> &Half {
        // SAFETY: both are what `Segment::half` or `lane` gave, in mappings that live as long as `self`; a half is
        // atomics only, valid whatever a peer writes.
        unsafe {
            match role {
                Role::Sender => self.sender.as_ref(),
                Role::Receiver => self.receiver.as_ref(),
            }
        }
    }

    /// The data.
    #[inline(always)]
    pub(crate) fn words(&self) -> &[Word] {
        // SAFETY: these are words that `Segment::words` gave, in a mapping that lives as long as `self`; a word is an
        // atomic, valid whatever a peer writes.
        unsafe { self.words.as_ref() }
    }

    /// The table of participants.
    #[inline(always)]
    pub(crate) fn table(&self) -> &[Entry] {
        // SAFETY: it is what `Segment::table` gave, or that of the lane, in a mapping that lives as long as `self`;
        // entries are atomics.
        unsafe { self.table.as_ref() }
    }

    /// The receivers' halves, if each has one.
    #[inline(always)]
    pub(crate) fn places(&self) -> &[Half] {
        // SAFETY: they are what `Segment::places` gave, in a mapping that lives as long as `self`; a half is atomics only.
        unsafe { self.places.as_ref() }
    }
}
