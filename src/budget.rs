//! How long a side spins before it sleeps: what its spins and its sleeps have brought so far decides.

use crate::protocol::park::Barrier;
use crate::wait::Wait;
use std::time::{Duration, Instant};

/// The longest an adaptive waiter spins: about what a sleep and a wake cost (Karlin, Li, Manasse and
/// Owicki, 1991: then it is never worse than twice the best choice).
const LONGEST_SPIN: Duration = Duration::from_micros(50);
/// The shortest, when spinning has not paid.
const SHORTEST_SPIN: Duration = Duration::from_micros(3);
/// A sleep that was over so soon was no sleep, but a longer way to wait; a blocking waiter that had some of them spins
/// for as long.
const NAP: Duration = Duration::from_micros(25);
/// So many spins of a blocking waiter in a row may bring something late before it sleeps again: when both sides nap,
/// the first to spin waits for the other to wake.
const LATE_SPINS: u8 = 8;
/// The most naps that a blocking waiter, whose spins brought nothing, takes before it tries again.
const MOST_NAPS: u32 = 1024;

/// What a side has learnt about waiting.
#[derive(Debug)]
pub(crate) struct Budget {
    spin: Duration,
    /// Of a side that blocks.
    naps: Option<Naps>,
    sleeps: u32,
    pub(crate) barrier: Barrier,
}

/// A blocking waiter's reasons to spin.
#[derive(Debug)]
struct Naps {
    /// Naps in a row.
    taken: u32,
    /// As many as it takes to try a spin.
    needed: u32,
    /// Late spins that are left.
    late: u8,
}

impl Default for Budget {
    fn default() -> Self {
        Self { spin: LONGEST_SPIN, naps: None, sleeps: 0, barrier: Barrier::Fence }
    }
}

impl Budget {
    /// Of a side that waits in this way and has learnt nothing yet.
    pub(crate) fn of(wait: Wait) -> Self {
        match wait {
            Wait::Spin | Wait::Adaptive => Self::default(),
            Wait::Block => Self {
                spin: Duration::ZERO,
                naps: Some(Naps { taken: 0, needed: 1, late: 0 }),
                ..Self::default()
            },
        }
    }

    /// How often the side has slept.
    pub(crate) fn sleeps(&self) -> u32 {
        self.sleeps
    }

    /// The longest to spin before a sleep.
    pub(crate) fn spin(&self) -> Duration {
        self.spin
    }

    /// Whether anything changes when spinning brings something.
    #[inline]
    pub(crate) fn learns_from_pay(&self) -> bool {
        self.naps.is_some() || self.spin < LONGEST_SPIN
    }

    /// Called when spinning brought something: before the first look at the clock, or `late`.
    #[inline]
    pub(crate) fn paid(&mut self, late: bool) {
        let Some(naps) = &mut self.naps else {
            self.spin = (self.spin * 2).min(LONGEST_SPIN);
            return;
        };
        if !late {
            naps.late = LATE_SPINS;
            naps.needed = (naps.needed / 2).max(1);
        } else if naps.late > 0 {
            naps.late -= 1;
        } else {
            self.wasted();
        }
    }

    /// Called when it did not.
    pub(crate) fn wasted(&mut self) {
        let Some(naps) = &mut self.naps else {
            self.spin = (self.spin / 2).max(SHORTEST_SPIN);
            return;
        };
        self.spin = Duration::ZERO;
        naps.taken = 0;
        naps.needed = (naps.needed * 2).min(MOST_NAPS);
    }

    /// Called before a sleep: the time, if somebody will ask how long it was.
    pub(crate) fn starts_sleep(&mut self) -> Option<Instant> {
        self.sleeps = self.sleeps.wrapping_add(1);
        self.naps.is_some().then(Instant::now)
    }

    /// Called when a sleep that started then has brought something.
    pub(crate) fn ends_sleep(&mut self, start: Option<Instant>) {
        let (Some(naps), Some(start)) = (&mut self.naps, start) else {
            return;
        };
        if start.elapsed() > NAP {
            naps.taken = 0;
            return;
        }
        naps.taken = naps.taken.saturating_add(1);
        if naps.taken >= naps.needed {
            naps.late = LATE_SPINS;
            self.spin = NAP;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sleep that was over at once, however long this side stands still here.
    fn nap(budget: &mut Budget) {
        let start = budget.starts_sleep();
        budget.ends_sleep(start.map(|start| start + Duration::from_secs(600)));
    }

    fn long_sleep(budget: &mut Budget) {
        let start = budget.starts_sleep();
        budget.ends_sleep(start.map(|start| start.checked_sub(2 * NAP).unwrap_or(start)));
    }

    #[test]
    fn who_blocks_sleeps_at_once_until_it_naps() {
        let mut budget = Budget::of(Wait::Block);
        assert!(budget.spin().is_zero());
        long_sleep(&mut budget);
        assert!(budget.spin().is_zero());
        nap(&mut budget);
        assert_eq!(budget.spin(), NAP);
    }

    #[test]
    fn each_spin_in_vain_doubles_the_naps_before_the_next() {
        let mut budget = Budget::of(Wait::Block);
        for needed in [1, 2, 4, 8] {
            (1..needed).for_each(|_| nap(&mut budget));
            assert!(budget.spin().is_zero(), "{needed}");
            nap(&mut budget);
            assert!(!budget.spin().is_zero(), "{needed}");
            budget.wasted();
            assert!(budget.spin().is_zero(), "{needed}");
        }
    }

    #[test]
    fn a_long_sleep_between_naps_starts_them_again() {
        let mut budget = Budget::of(Wait::Block);
        nap(&mut budget);
        budget.wasted();
        nap(&mut budget);
        long_sleep(&mut budget);
        nap(&mut budget);
        assert!(budget.spin().is_zero());
        nap(&mut budget);
        assert!(!budget.spin().is_zero());
    }

    #[test]
    fn what_keeps_coming_late_is_slept_for() {
        let mut budget = Budget::of(Wait::Block);
        nap(&mut budget);
        (0..LATE_SPINS).for_each(|_| budget.paid(true));
        assert!(!budget.spin().is_zero());
        budget.paid(false);
        (0..LATE_SPINS).for_each(|_| budget.paid(true));
        assert!(!budget.spin().is_zero());
        budget.paid(true);
        assert!(budget.spin().is_zero());
    }

    #[test]
    fn who_adapts_spins_between_its_limits() {
        let mut budget = Budget::of(Wait::Adaptive);
        assert_eq!(budget.spin(), LONGEST_SPIN);
        (0..10).for_each(|_| budget.wasted());
        assert_eq!(budget.spin(), SHORTEST_SPIN);
        (0..10).for_each(|_| budget.paid(true));
        assert_eq!(budget.spin(), LONGEST_SPIN);
        assert!(budget.starts_sleep().is_none());
    }
}
