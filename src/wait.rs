//! The one waiting loop: spin, then park, then see whether the peer is still there.

use crate::error::Failure;
use crate::participants::Participant;
use crate::protocol::layout::Half;
use crate::protocol::park::{Barrier, Sleep};
use crate::protocol::room::Look;
use crate::sync::{Edge, Ordering, spin_hint};
use crate::sys::clock::Monotonic;
use crate::sys::futex::{self, Woken};
use crate::sys::membarrier;
use std::time::{Duration, Instant};

/// How a side of a ring waits for the other.
///
/// It is the handle's own affair: one side may spin while the other blocks.
///
/// A side that meets the other in the middle of a stream of messages first lets it get ahead, for at most
/// a microsecond and only while that pays, whichever way it waits and in the `try_` calls too: two sides at
/// the same cache line slow each other down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Wait {
    /// Never sleep: the lowest latency, for the price of a processor. Where both
    /// sides are bound to one processor, it yields between attempts.
    Spin,
    /// Sleep: no processor time while waiting, and the latency of a wake by the kernel. Only where sleeps turn out to be
    /// over within some 25 µs, so that they cost more than they save, it looks for the other for up to that long before
    /// it sleeps, while that brings something at once. Where both sides (of many, this one and who woke it
    /// last) are bound to one processor, it yields that a few times instead.
    Block,
    /// Spin for about as long as a sleep and a wake would cost, then sleep; spin less while that does
    /// not pay; where both sides are bound to one processor, yield that a few times instead.
    #[default]
    Adaptive,
}

/// The longest sleep before a side looks again by itself: whoever should have woken it may have died
/// between publishing and waking, and no kernel object tells of that.
pub(crate) const SLICE: Duration = Duration::from_millis(100);
/// The same while somebody's claim is in the way: a live one is done much sooner.
const STUCK_SLICE: Duration = Duration::from_millis(2);
/// The same while another receiver has a message, or another holder perhaps a permit, and may be dead: then it is
/// there for this one, and nobody rings. Longer, because most live, and those who wait for work may be many.
const WORK_SLICE: Duration = Duration::from_millis(5);
/// The same while waiting for a peer to come, which rings when it does.
const PEER_SLICE: Duration = Duration::from_millis(20);
/// Spin hints between two attempts: whoever looks more often takes the line away from a peer that is
/// about to write to it.
const HINTS: u32 = 2;
/// Attempts between two looks at the clock.
pub(crate) const ATTEMPTS_PER_LOOK: u32 = 64;
/// How long a spinner trusts that its peer lives.
const TRUST: Duration = Duration::from_millis(10);
/// Times that a side which shares its only processor with the peer hands it over before it sleeps: one
/// system call where a sleep and its wake would be two.
const YIELDS: u32 = 6;
/// Sleeps between two looks at how many processors there are for us.
const SLEEPS_PER_LOOK: u32 = 256;

/// The waiter's end of the barrier between its announcement and its last look.
pub(crate) fn heavy(barrier: Barrier) {
    match barrier {
        Barrier::Membarrier => membarrier::everywhere(),
        Barrier::Fence => Edge::ParkAnnounce.fence(),
    }
}

/// Where a side sleeps, and what for.
#[derive(Clone, Copy)]
pub(crate) struct Berth<'a> {
    /// Its own half and the one whose epoch is rung, if they are not those of the side.
    pub(crate) halves: Option<(&'a Half, &'a Half)>,
    /// What it is to be woken for, of 32 things.
    pub(crate) bits: u32,
}

impl Berth<'_> {
    /// Where the peers meet, for whatever they publish.
    const USUAL: Self = Self { halves: None, bits: futex::ANY };

    fn halves<'s>(&'s self, side: &'s Participant) -> (&'s Half, &'s Half) {
        self.halves.unwrap_or_else(|| (side.own(), side.peer()))
    }
}

/// Repeats `attempt` until it gives something other than [`Failure::NotReady`], the deadline passes, or
/// the peer is gone and one more attempt after that finds nothing.
pub(crate) fn wait<R>(
    side: &mut Participant,
    deadline: Option<Instant>,
    attempt: impl FnMut(&mut Participant, Look) -> Result<R, Failure>,
) -> Result<R, Failure> {
    wait_in(side, Berth::USUAL, deadline, attempt)
}

/// The same for a side that sleeps in `berth`.
pub(crate) fn wait_in<R>(
    side: &mut Participant,
    berth: Berth<'_>,
    deadline: Option<Instant>,
    mut attempt: impl FnMut(&mut Participant, Look) -> Result<R, Failure>,
) -> Result<R, Failure> {
    // Before anything is looked at: a forked child has no memory to wait at.
    if !side.is_ours() {
        return Err(Failure::Forked);
    }
    if let Some(result) = spin(side, berth, deadline, &mut attempt) {
        return result;
    }
    let deadline = deadline.map(Monotonic::of);
    loop {
        let barrier = side.budget.barrier;
        let (own, peer) = berth.halves(side);
        let sleep = Sleep::announce(own, peer, || heavy(barrier));
        match attempt(side, Look::Exact) {
            Err(Failure::NotReady) => {}
            done => return done,
        }
        if side.has_peer_left() && side.is_peer_gone() {
            side.tend();
            if let Some(result) = last(side, &mut attempt) {
                return result;
            }
        }
        side.attached.segment().attend();
        count(side);
        let slice = match side.stuck {
            true => STUCK_SLICE,
            false if side.are_others_at_work() => WORK_SLICE,
            false => SLICE,
        };
        let start = side.budget.starts_sleep();
        let epoch = &berth.halves(side).1.presence.epoch;
        let woken = match deadline {
            None if berth.bits == futex::ANY => futex::wait_slice(epoch, sleep.expected(), slice),
            None => {
                let until = Monotonic::now() + slice;
                futex::wait_for(epoch, sleep.expected(), berth.bits, until)
            }
            Some(deadline) => {
                let now = Monotonic::now();
                if deadline <= now {
                    return Err(Failure::Timeout);
                }
                let until = deadline.min(now + slice);
                futex::wait_for(epoch, sleep.expected(), berth.bits, until)
            }
        };
        let rang = berth.halves(side).1.presence.pinned.load(Ordering::Relaxed);
        side.slept(rang);
        if side.budget.sleeps().is_multiple_of(SLEEPS_PER_LOOK) {
            // The thread may have been moved to other processors.
            side.look_at_processors();
        }
        match attempt(side, Look::Exact) {
            Err(Failure::NotReady) => {}
            done => {
                side.budget.ends_sleep(start);
                return done;
            }
        }
        if woken == Woken::TimedOut {
            // What the dead have left comes before the end of the conversation.
            if side.tend() {
                continue;
            }
            if side.is_peer_gone() {
                if let Some(result) = last(side, &mut attempt) {
                    return result;
                }
            }
        }
    }
}

/// One more attempt after the peer was found gone: what it published before it went is visible now. `None`
/// if it is not the peer that is waited for, but somebody who has yet to finish what is in the way.
fn last<R>(
    side: &mut Participant,
    attempt: &mut impl FnMut(&mut Participant, Look) -> Result<R, Failure>,
) -> Option<Result<R, Failure>> {
    match attempt(side, Look::Exact) {
        Err(Failure::NotReady) if side.awaits_claimer() => None,
        Err(Failure::NotReady) => Some(Err(Failure::Disconnected)),
        done => Some(done),
    }
}

/// Attempts without sleeping, for as long as the handle's way of waiting allows; `None` when that is
/// over and the side should sleep.
fn spin<R>(
    side: &mut Participant,
    berth: Berth<'_>,
    deadline: Option<Instant>,
    attempt: &mut impl FnMut(&mut Participant, Look) -> Result<R, Failure>,
) -> Option<Result<R, Failure>> {
    let forever = side.wait == Wait::Spin;
    let mut yields = side.shares_processor(berth.halves(side).1);
    let most = match side.wait {
        Wait::Block | Wait::Adaptive if yields => YIELDS,
        Wait::Block if side.budget.spin().is_zero() => return None,
        Wait::Spin | Wait::Block | Wait::Adaptive => u32::MAX,
    };
    let mut start = None;
    let mut probed = None;
    let mut attempts = 0_u32;
    let mut patience = ATTEMPTS_PER_LOOK;
    loop {
        let due = attempts.wrapping_add(1).is_multiple_of(ATTEMPTS_PER_LOOK);
        match attempt(side, if due || yields { Look::Exact } else { Look::Released }) {
            Err(Failure::NotReady) => {}
            done => {
                if yields {
                    side.yielded();
                } else if !forever {
                    // What yields bring says nothing of spins.
                    side.budget.paid(start.is_some());
                    side.spun(start.is_some() && attempts.is_multiple_of(ATTEMPTS_PER_LOOK));
                }
                return Some(done);
            }
        }
        attempts = attempts.wrapping_add(1);
        if attempts >= most && !forever {
            return None;
        } else if yields {
            std::thread::yield_now();
        } else {
            (0..HINTS).for_each(|_| spin_hint());
        }
        if !attempts.is_multiple_of(ATTEMPTS_PER_LOOK) {
            continue;
        }
        if attempts == ATTEMPTS_PER_LOOK && forever {
            side.attached.segment().attend();
        } else if attempts == ATTEMPTS_PER_LOOK && side.is_newly_connected() {
            // Who is woken by a message on a socket comes to the processor of who sent it, as a rule, and waits there
            // for this side to let it run.
            std::thread::yield_now();
        }
        if side.stuck && attempts >= patience {
            // Each time the claimer turns out to live, it gets twice the time.
            patience = attempts.saturating_mul(2);
            side.tend();
        }
        if (side.is_shared() || side.goes_round()) && !yields {
            // There may be more of them than processors.
            std::thread::yield_now();
        }
        let now = Instant::now();
        let start = *start.get_or_insert(now);
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Some(Err(Failure::Timeout));
        }
        if !forever && now - start >= side.budget.spin() {
            side.budget.wasted();
            return None;
        }
        let probe = probed.get_or_insert(now);
        let trust = match side.stuck {
            true => STUCK_SLICE,
            false if side.has_table() => WORK_SLICE,
            false => TRUST,
        };
        if now - *probe >= trust || side.has_peer_left() {
            *probe = now;
            side.look_at_processors();
            yields = side.shares_processor(berth.halves(side).1);
            side.tend();
            if side.is_peer_gone() {
                if let Some(result) = last(side, attempt) {
                    return Some(result);
                }
            }
        }
    }
}

/// Waits until the peer is there; `false` if it is not by the deadline.
pub(crate) fn wait_for_peer(side: &mut Participant, timeout: Duration) -> bool {
    let deadline = Monotonic::now() + timeout;
    loop {
        if side.admit() == Err(Failure::Forked) {
            return false;
        }
        let sleep = Sleep::announce(side.own(), side.peer(), || Edge::ParkAnnounce.fence());
        if side.is_peer_present() {
            return true;
        }
        let now = Monotonic::now();
        if deadline <= now {
            return false;
        }
        count(side);
        let until = deadline.min(now + PEER_SLICE);
        futex::wait(&side.peer().presence.epoch, sleep.expected(), until);
    }
}

/// Repeats `look` until it gives something or the deadline passes, for one who has no part in the ring: he
/// sleeps as those do who wait at `own` for `peer`, for one of `bits`.
pub(crate) fn watch<R>(
    (own, peer): (&Half, &Half),
    (bits, barrier): (u32, Barrier),
    deadline: Option<Instant>,
    mut look: impl FnMut() -> Option<R>,
) -> Option<R> {
    let deadline = deadline.map(Monotonic::of);
    loop {
        let sleep = Sleep::announce(own, peer, || heavy(barrier));
        if let Some(found) = look() {
            return Some(found);
        }
        let now = Monotonic::now();
        if deadline.is_some_and(|deadline| deadline <= now) {
            return None;
        }
        let slice = now + SLICE;
        let until = deadline.map_or(slice, |deadline| deadline.min(slice));
        futex::wait_for(&peer.presence.epoch, sleep.expected(), bits, until);
    }
}

/// Counts a sleep, for people.
fn count(side: &Participant) {
    side.own().counters.waits.fetch_add(1, Ordering::Relaxed);
}

/// The deadline `timeout` from now; `None` if that is beyond what the clock can say.
pub(crate) fn deadline_in(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}
