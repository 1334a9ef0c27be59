//! The flags of an event: 64 bits that are raised and taken.
//!
//! Nothing is held and nothing is counted, so there is nothing that a killed process could leave undone but a
//! wake. Raising what is raised changes nothing: that is what coalesces.
//!
//! ```text
//! lowered --raise--> raised --take, clear--> lowered        each bit for itself, several at once
//! ```

use crate::sync::{AtomicU64, Edge, Ordering};

/// Which flags somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// One of these at least.
    Any(u64),
    /// All of these.
    All(u64),
}

impl Wanted {
    /// Those of `raised` that were wanted, if they are enough.
    #[inline(always)]
    fn of(self, raised: u64) -> Option<u64> {
        match self {
            Self::Any(mask) => Some(raised & mask).filter(|&found| found != 0),
            Self::All(mask) => Some(raised & mask).filter(|&found| found == mask),
        }
    }
}

/// The shared memory of an event.
#[derive(Clone, Copy, Debug)]
pub struct Flags<'a> {
    /// The flags.
    pub word: &'a AtomicU64,
}

impl Flags<'_> {
    /// Raises the flags of `mask`; what was raised before. The caller wakes who waits.
    #[inline(always)]
    pub fn raise(self, mask: u64) -> u64 {
        // F1 raise. Also when all of them are raised already: whoever finds them finds what this raiser did, too.
        self.word.fetch_or(mask, Edge::RaiseStore.store())
    }

    /// The flags that are raised.
    #[inline(always)]
    pub fn value(self) -> u64 {
        // F1 raise.
        self.word.load(Edge::RaiseLoad.load())
    }

    /// Those of `wanted` that are raised, if they are enough. They stay so.
    #[inline(always)]
    pub fn look(self, wanted: Wanted) -> Option<u64> {
        wanted.of(self.value())
    }

    /// Lowers the flags of `mask`; those that were raised.
    #[inline(always)]
    pub fn take(self, mask: u64) -> u64 {
        // Relaxed: if there is something, the change below looks again.
        if self.word.load(Ordering::Relaxed) & mask == 0 {
            return 0;
        }
        // F1 raise. Whoever takes continues the release sequence of who raised the others.
        self.word.fetch_and(!mask, Edge::RaiseLoad.load()) & mask
    }
}
