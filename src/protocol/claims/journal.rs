//! What a participant is about to claim, where a repairer finds it.

use crate::protocol::layout::{Entry, Journal};
use crate::sync::{Edge, Ordering};

const COUNT_BITS: u32 = 8;
/// The most positions that are claimed at once.
pub const MOST: usize = (1 << COUNT_BITS) - 1;
/// No claim.
const IDLE: u64 = 0;

/// Positions one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Intent {
    /// The lower 56 bits of the first position.
    first: u64,
    pub(super) count: u64,
}

impl Intent {
    /// What `entry` shows.
    pub(super) fn of(entry: &Entry) -> Self {
        // C1 intent.
        let word = entry.journal.intent.load(Edge::IntentLoad.load());
        Self { first: word >> COUNT_BITS, count: word & MOST as u64 }
    }

    /// Whether `position` is among them.
    pub(super) fn covers(self, position: u64) -> bool {
        let after = position.wrapping_sub(self.first) << COUNT_BITS >> COUNT_BITS;
        after < self.count
    }

    /// The first position in full: the one that is nearest to `near`.
    pub(super) fn first_near(self, near: u64) -> u64 {
        let ahead = (self.first.wrapping_sub(near) << COUNT_BITS) as i64 >> COUNT_BITS;
        near.wrapping_add(ahead as u64)
    }
}

/// The positions in the journal of `entry`, for people.
#[cfg(not(loom))]
pub fn last_claim(entry: &Entry) -> Option<core::ops::Range<u64>> {
    let Intent { first, count } = Intent::of(entry);
    (count > 0).then(|| first..first.saturating_add(count))
}

impl Journal {
    /// Notes that `count` positions from `first` on are about to be claimed.
    #[inline(always)]
    pub(super) fn intend(&self, first: u64, count: usize) {
        debug_assert!(count > 0 && count <= MOST);
        // Only to measure what the store costs: without it, whoever dies with a claim blocks the ring for ever.
        if cfg!(annulus_no_journal) {
            return;
        }
        // C1 intent: what was claimed before has been dealt with.
        self.intent.store(first << COUNT_BITS | count as u64, Edge::IntentStore.store());
    }

    /// Notes that nothing is claimed.
    pub(super) fn clear(&self) {
        // C1 intent.
        self.intent.store(IDLE, Edge::IntentStore.store());
    }

    /// Counts a message that is received for another time.
    pub(super) fn count_redelivery(&self) {
        let count = self.redelivered.load(Ordering::Relaxed);
        self.redelivered.store(count.wrapping_add(1), Ordering::Relaxed);
    }
}
