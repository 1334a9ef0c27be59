//! Which processor a side is bound to, and whether it has it for itself.

use super::Participant;
use crate::protocol::layout::Half;
use crate::sync::Ordering;
use crate::sys::cpu;
use crate::wait::Wait;

/// Waits that yielded the processor, between two looks at whether it is still the same.
const YIELDS_PER_LOOK: u32 = 64;
/// Spins running that end at once after a yield before those who end them are taken for neighbours.
const HANDED_OVER: u8 = 4;

/// Waits that yielded the processor, since the last look at whether anybody else ran there.
#[derive(Debug, Default)]
pub(super) struct Yields {
    waits: u32,
    /// How often the thread had been switched away at that look.
    switches: u64,
}

impl Yields {
    /// Counts one more; when it is time for a look, whether hardly any of them let somebody run. `switches` says how often
    /// this thread has been switched away.
    fn count(&mut self, switches: impl FnOnce() -> u64) -> Option<bool> {
        self.waits += 1;
        if self.waits < YIELDS_PER_LOOK {
            return None;
        }
        self.waits = 0;
        let now = switches();
        let before = std::mem::replace(&mut self.switches, now);
        Some(now.wrapping_sub(before) < u64::from(YIELDS_PER_LOOK / 2))
    }
}

impl Participant {
    /// Tells the peer which processor this thread is bound to, if it is bound to one.
    pub(crate) fn look_at_processors(&mut self) {
        self.pinned = cpu::pinned_to().map_or(0, |cpu| u64::from(cpu) + 1);
        self.is_alone = false;
        if !self.attached.segment().spec.topology.is_shared() {
            self.sign_processor(self.own());
        }
    }

    pub(super) fn sign_processor(&self, half: &Half) {
        half.presence.pinned.store(self.pinned, Ordering::Relaxed);
    }

    /// Whether this side and who rings on `peer` are bound to the same processor, so that one waits for the other best by
    /// letting it run. Where a side is shared, that is whoever rang last, and where nobody ever did, whoever rang last for
    /// this side elsewhere: who that was is written when somebody has to be woken, so it costs nothing while nobody
    /// sleeps. Who never sleeps is never rung for, and does not ask.
    pub(crate) fn shares_processor(&self, peer: &Half) -> bool {
        let is_shared = self.attached.segment().spec.topology.is_shared();
        let is_told = !is_shared || self.wait != Wait::Spin;
        if self.pinned == 0 || self.is_alone || !is_told || self.rang_last {
            return false;
        }
        match peer.presence.pinned.load(Ordering::Relaxed) {
            0 => is_shared && self.was_neighbour,
            rang => rang == self.pinned,
        }
    }

    /// Whether a moment's look is no loss where this side waits: it would spin, and keeps nobody from the processor.
    #[inline(always)]
    pub(crate) fn may_linger(&self) -> bool {
        let wants = self.wait != Wait::Block || !self.budget.spin().is_zero();
        wants && (self.pinned == 0 || !self.shares_processor(self.peer()))
    }

    /// Whether it makes a difference to how long this side spins that a moment's look brought something.
    #[inline(always)]
    pub(crate) fn learns_from_looks(&self) -> bool {
        self.wait != Wait::Spin && self.budget.learns_from_pay()
    }

    /// Called when the moment brought something.
    #[cold]
    #[inline(never)]
    pub(crate) fn lingered(&mut self) {
        if self.wait != Wait::Spin {
            self.budget.paid(false);
        }
    }

    /// Called when a wait that yielded the processor has brought something.
    #[cold]
    pub(crate) fn yielded(&mut self) {
        if let Some(is_alone) = self.yields.count(cpu::switches) {
            // The handles may have been moved to threads that are bound elsewhere. The peer says so only when it waits, too.
            self.look_at_processors();
            self.is_alone = is_alone;
        }
    }

    /// Called after a spin that brought something: `handed_over` if that was at once after it had let others run.
    /// Then whoever brought it may have waited for this processor, who else would hardly have chosen that moment each
    /// time; and as this side does not sleep, nobody says so. If it was not so, the next sleep tells.
    pub(crate) fn spun(&mut self, handed_over: bool) {
        self.handed_over = if handed_over { self.handed_over.saturating_add(1) } else { 0 };
        self.was_neighbour |= self.handed_over >= HANDED_OVER;
    }

    /// Called after a sleep, with the processor that is written down where it slept.
    pub(crate) fn slept(&mut self, rang: u64) {
        self.rang_last = false;
        self.was_neighbour = rang != 0 && rang == self.pinned;
        self.handed_over = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_never_switched_away_shares_its_processor_with_nobody() {
        let mut yields = Yields::default();
        let mut waits = |switches| (0..YIELDS_PER_LOOK).find_map(|_| yields.count(|| switches));
        // What was before the first wait does not count as none.
        assert_eq!(waits(1000), Some(false));
        assert_eq!(waits(1000 + u64::from(YIELDS_PER_LOOK)), Some(false));
        assert_eq!(waits(1000 + u64::from(YIELDS_PER_LOOK) + 3), Some(true));
        assert_eq!(waits(2000), Some(false));
    }

    #[test]
    fn looks_are_few() {
        let mut yields = Yields::default();
        let looks = (0..10 * YIELDS_PER_LOOK).filter(|_| yields.count(|| 0).is_some()).count();
        assert_eq!(looks, 10);
    }
}
