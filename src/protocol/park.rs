//! Sleeping without losing a wake, and without a system call when nobody sleeps.
//!
//! This is an event count (Reed and Kanodia, CACM 1979) in the form of Dekker's handshake. What is ours:
//! nothing in it is cleared or counted down by the other side, so a process killed between any two
//! instructions leaves nothing behind, and each word is written by one side only, so that the two sides
//! can live in memory that only they can write.
//!
//! ```text
//! asleep (the waiter's half)   { announcements:31 | wants fence:1 }   a new value: "about to sleep"
//! epoch  (the notifier's half) a futex word; a new value: "look again"
//!
//! notifier: publish; barrier P1; if asleep has a value it has not answered yet:
//!           remember it, epoch += 1, wake all who sleep on epoch
//! waiter:   read epoch; asleep += 2; barrier P1; look; if nothing: sleep while epoch is as read
//! ```
//!
//! Barrier P1 is a full fence on both sides, or, where the kernel has `membarrier`, nothing but a
//! compiler fence for the notifier and a `membarrier` for the waiter (Dice, Huang and Yang's asymmetric
//! Dekker). The waiter decides: the lowest bit of `asleep` tells notifiers to fence.
//!
//! Where several wait for the same thing, as many are woken as there is for them to take, and a notifier that has woken
//! as many as it asked for rings again for what it publishes next: there may be more sleepers. A sleeper that was
//! woken and finds more than it takes wakes another, for what was published first need not be ready first.
//!
//! A notifier that dies between publishing and waking, or whose wake a third party eats, costs the
//! waiter the rest of its slice: every sleep is bounded, and whoever wakes looks for itself.

use super::layout::{Half, Presence};
use crate::sync::{AtomicU32, Edge, Ordering, light_barrier};

/// The bit of `asleep` that tells notifiers to fence.
const WANTS_FENCE: u32 = 1;
/// One announcement.
const ANNOUNCEMENT: u32 = 2;

/// The notifier's memory of the announcement that it answered last.
#[derive(Debug)]
pub struct Answered {
    announced: u32,
    /// What `asleep` is when there is nothing to do. Wider than that word, so that a notifier which
    /// must always fence can have a value here that `asleep` never has.
    quiet: u64,
    fences: bool,
    /// Whether somebody who announced that may sleep still.
    more: bool,
}

impl Answered {
    /// All announcements up to now. The new notifier rings once after this, for its predecessor may
    /// have died before it did. `fences` says that the waiter's `membarrier` would not reach this
    /// process, so that it has to fence itself.
    pub fn up_to_now(waiter: &Half, fences: bool) -> Self {
        let mut answered = Self { announced: 0, quiet: u64::MAX, fences, more: false };
        answered.remember(waiter.presence.asleep.load(Ordering::Relaxed) & !WANTS_FENCE);
        answered
    }

    fn remember(&mut self, announced: u32) {
        self.announced = announced;
        self.woke(false);
    }

    /// Called when those were woken whom [`must_wake`](Self::must_wake) was about; `more` says that they were as many
    /// as were to be woken, so that others may sleep.
    pub fn woke(&mut self, more: bool) {
        self.more = more;
        self.quiet = if self.fences || more { u64::MAX } else { u64::from(self.announced) };
    }

    /// Whether it is plain that nobody has to be woken, after something was published: a look that needs no call. If not,
    /// [`must_wake`](Self::must_wake) looks closely.
    #[inline(always)]
    pub fn is_quiet(&self, waiter: &Half) -> bool {
        // P1 park.
        light_barrier(Edge::ParkNotify);
        self.seems_quiet(waiter)
    }

    /// Whether there is a sleeper to wake, after something was published.
    #[inline(always)]
    pub fn must_wake(&mut self, waiter: &Half) -> bool {
        // P1 park: the publishing store is before this, the load of `asleep` after it.
        light_barrier(Edge::ParkNotify);
        let asleep = waiter.presence.asleep.load(Ordering::Relaxed);
        u64::from(asleep) != self.quiet && self.is_news(waiter, asleep)
    }

    #[cold]
    #[inline(never)]
    fn is_news(&mut self, waiter: &Half, asleep: u32) -> bool {
        if self.fences || asleep & WANTS_FENCE != 0 {
            Edge::ParkNotify.fence();
        }
        self.has_news(waiter)
    }

    /// [`must_wake`](Self::must_wake) without its barrier, for one who looks at several waiters and has
    /// [made sure](Self::must_fence) of all of them.
    pub fn has_news(&mut self, waiter: &Half) -> bool {
        let announced = waiter.presence.asleep.load(Ordering::Relaxed) & !WANTS_FENCE;
        if announced == self.announced && !self.more {
            return false;
        }
        self.remember(announced);
        true
    }

    /// [`is_quiet`](Self::is_quiet) without its barrier, for one who looks at several waiters behind one.
    #[inline(always)]
    pub fn seems_quiet(&self, waiter: &Half) -> bool {
        u64::from(waiter.presence.asleep.load(Ordering::Relaxed)) == self.quiet
    }

    /// Whether the notifier has to fence before it looks for news.
    pub fn must_fence(&self, waiter: &Half) -> bool {
        self.fences || waiter.presence.asleep.load(Ordering::Relaxed) & WANTS_FENCE != 0
    }
}

/// The notifier changes its epoch; it wakes the sleepers on it next.
pub fn ring(notifier: &Half) -> &AtomicU32 {
    let wakes = &notifier.counters.wakes;
    wakes.fetch_add(1, Ordering::Relaxed);
    // P2 ring: whoever sleeps on this value finds, in its look before that, what was published before it, and announces
    // that sleep after the announcement that this answers.
    notifier.presence.epoch.fetch_add(1, Edge::RingStore.store());
    &notifier.presence.epoch
}

/// How a waiter makes sure that its announcement is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// Both sides fence.
    Fence,
    /// Only the waiter pays: it calls `membarrier`.
    Membarrier,
}

/// Tells notifiers which barrier this side's sleeps use from now on. With [`Barrier::Fence`] the caller
/// runs `membarrier` after it, where there is one, and sleeps no sooner.
///
/// Why no wake is lost while notifiers change over to fences. Take one that publishes, loads `asleep`
/// without the bit, and so does not fence:
///
/// * It relies on `membarrier` (see [`Answered::up_to_now`]), and the waiter has called it after setting the
///   bit. That was a full barrier in the notifier, somewhere. If it came before the load, the load sees the
///   bit, against the assumption. So it came after the load and all the more after the publishing, which every
///   look after this call therefore sees. A notifier that registers only now counts as well: registering is
///   itself a barrier in all its threads, and one of the two calls sees the other.
/// * The waiter has no `membarrier`, though the notifier is registered: a filter of system calls on one side.
///   Then a notifier whose load came before the bit may still hold back what it has published when the waiter
///   looks. That takes a load before this call and a look after it within the few nanoseconds that a store is
///   held back, and costs one slice. Every later load sees the bit.
///
/// Changing over to [`Barrier::Membarrier`] needs no such thing: who still sees the bit fences in vain.
pub fn choose_barrier(waiter: &Presence, barrier: Barrier) {
    let now = waiter.asleep.load(Ordering::Relaxed) & WANTS_FENCE != 0;
    // Added, not stored: a predecessor on its way out may still announce that.
    match (now, barrier) {
        (false, Barrier::Fence) => waiter.asleep.fetch_add(WANTS_FENCE, Ordering::Relaxed),
        (true, Barrier::Membarrier) => {
            waiter.asleep.fetch_add(WANTS_FENCE.wrapping_neg(), Ordering::Relaxed)
        }
        _ => return,
    };
}

/// Tells notifiers to fence from now on, for a side that is shared: whoever sleeps there without `membarrier`
/// says so for all of them, and for good.
pub fn insist_on_fences(waiter: &Presence) {
    let mut now = waiter.asleep.load(Ordering::Relaxed);
    while now & WANTS_FENCE == 0 {
        let with = now | WANTS_FENCE;
        match waiter.asleep.compare_exchange(now, with, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => break,
            Err(other) => now = other,
        }
    }
}

/// Makes every notifier look at `side` once: it is about to sleep, or has just left.
pub fn announce(side: &Presence) {
    side.asleep.fetch_add(ANNOUNCEMENT, Ordering::Relaxed);
}

/// Announcements of `side` so far, each of which counts for two. It wraps.
pub fn announced(side: &Presence) -> u32 {
    // Relaxed: only its owner asks.
    side.asleep.load(Ordering::Relaxed) & !WANTS_FENCE
}

/// A sleep that has been announced: the value of the notifier's epoch from before.
///
/// The order of use: [`announce`](Self::announce), the barrier (which `announce` runs through
/// `heavy_barrier`), one more look, then sleep on [`epoch`](Self::epoch) while it is still
/// [`expected`](Self::expected).
#[derive(Clone, Copy, Debug)]
pub struct Sleep {
    expected: u32,
}

impl Sleep {
    /// Says that `waiter` is about to sleep until `notifier` rings.
    pub fn announce(waiter: &Half, notifier: &Half, heavy_barrier: impl FnOnce()) -> Self {
        // P2 ring: of a bump that is seen here, all that was published before it is in the look below. A bump that
        // answers the announcement below is not seen here: this sleep would outlast it, and no later one be rung.
        let expected = Edge::RingLoad.acquire(&notifier.presence.epoch);
        announce(&waiter.presence);
        // P1 park: the announcement is before this, the last look after it.
        heavy_barrier();
        Self { expected }
    }

    /// The value that the epoch must still have for the sleep to begin.
    pub fn expected(self) -> u32 {
        self.expected
    }
}
