//! Who has which side of a ring, and what becomes of it when they leave or die.
//!
//! A role is an exclusive lock on one byte of the segment, held through a description of its own, so the
//! kernel gives it up when the process dies, at whatever instruction. Everything else a role has in
//! shared memory (pid, incarnation) is for people or a hint that saves a question to the kernel.

mod join;
mod notify;
mod peer;
mod processor;

pub use peer::Ending;
pub(crate) use peer::{ending, has_peer_left, is_peer_gone, spread_rumour};

use crate::budget::Budget;
use crate::error::{Failure, Role};
use crate::pollable::Post;
use crate::protocol::claims::Claims;
use crate::protocol::lanes;
use crate::protocol::layout::{ACTIVE, DIED, Half, Presence};
use crate::protocol::park::{self, Answered, Barrier};
use crate::segment::{Attached, RingKind, role_of};
use crate::sync::{AtomicU64, Ordering};
use crate::sys::fork::{self, PrivateFd};
use crate::sys::{clock, futex, membarrier};
use crate::table;
use crate::wait::Wait;
use processor::Yields;
use std::fmt;
use std::os::fd::AsFd;

/// Attempts that find nothing between two questions to the kernel whether the peer lives.
const POLLS_PER_PROBE: u32 = 1024;
/// A generation that no process has: the handle needs a closer look before it is used.
const SUSPECT: u32 = 0;

/// One side of a ring, as a handle holds it.
pub(crate) struct Participant {
    pub(crate) attached: Attached,
    role: Role,
    /// The generation of the process that may use this handle, or [`SUSPECT`].
    generation: u32,
    /// The same if neither side of the ring is shared; otherwise always [`SUSPECT`].
    express: u32,
    answered: Answered,
    /// Its entry in the table, if it has one.
    entry: Option<u16>,
    /// Where it meets the receiver, if it sends in a lane.
    hub: Option<Box<Hub>>,
    corrupt: bool,
    present: bool,
    /// Whether the last attempt met somebody's claim: that one may be dead.
    pub(crate) stuck: bool,
    empty_polls: u32,
    /// The processor that this thread is bound to, plus one; 0 if it may run on several.
    pinned: u64,
    /// Whether it rang itself where it sleeps, and has not slept since: then it does not know who else does.
    rang_last: bool,
    /// Whether the last one who rang for it, wherever it slept, was bound to its processor, or seems to be.
    was_neighbour: bool,
    /// Spins running that brought something at once after it had let others run.
    handed_over: u8,
    yields: Yields,
    /// Whether what it has waited for came though nobody else ran on its processor, whatever the peer says.
    is_alone: bool,
    pub(crate) wait: Wait,
    pub(crate) budget: Budget,
    /// What makes the role this side's; gone when it has left.
    lock: Option<Hold>,
}

impl fmt::Debug for Participant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Participant")
            .field("role", &self.role)
            .field("entry", &self.entry)
            .field("wait", &self.wait)
            .field("corrupt", &self.corrupt)
            .finish_non_exhaustive()
    }
}

/// What makes a role this process's.
#[derive(Debug)]
enum Hold {
    /// A description that has the lock of the role, or of an entry.
    Lock(PrivateFd),
    /// No lock, in the process of this generation: the segment keeps that of a half, and who dies may leave nothing.
    Unlocked(u32),
}

impl Hold {
    fn is_ours(&self) -> bool {
        match self {
            Self::Lock(fd) => fd.is_ours(),
            Self::Unlocked(generation) => *generation == fork::generation(),
        }
    }
}

/// Where the senders of a ring with lanes meet its receiver.
#[derive(Debug)]
struct Hub {
    attached: Attached,
    answered: Answered,
    lane: usize,
}

impl Hub {
    fn half(&self, role: Role) -> &Half {
        self.attached.half(role)
    }

    /// Has the receiver look at the lane; whether it must be woken for that.
    fn ask(&mut self) -> bool {
        lanes::ask(&self.half(Role::Sender).doorbell.words, self.lane);
        // P1 park: the bit is what was published.
        self.answered.must_wake(self.attached.half(Role::Receiver))
    }
}

/// Writes down who has a role now; what was there before.
pub(crate) fn sign(presence: &Presence) -> u64 {
    let before = presence.state.load(Ordering::Relaxed);
    presence.pid.store(u64::from(std::process::id()), Ordering::Relaxed);
    presence.since.store(clock::wall_nanoseconds(), Ordering::Relaxed);
    let incarnation = ((before & !DIED) >> 1).wrapping_add(1);
    presence.state.store((incarnation << 1 | ACTIVE) & !DIED, Ordering::Release);
    before
}

impl Role {
    /// The other side.
    pub(crate) fn peer(self) -> Self {
        match self {
            Self::Sender => Self::Receiver,
            Self::Receiver => Self::Sender,
        }
    }
}

impl Participant {
    fn holding(attached: Attached, role: Role, lock: Hold) -> Self {
        let fences = !membarrier::is_registered();
        let is_shared = attached.segment().spec.topology.is_shared();
        Self {
            answered: Answered::up_to_now(attached.half(role.peer()), fences),
            attached,
            role,
            generation: fork::generation(),
            express: if is_shared { SUSPECT } else { fork::generation() },
            entry: None,
            hub: None,
            corrupt: false,
            present: false,
            stuck: false,
            empty_polls: 0,
            pinned: 0,
            rang_last: false,
            was_neighbour: false,
            handed_over: 0,
            yields: Yields::default(),
            is_alone: false,
            wait: Wait::default(),
            budget: Budget::default(),
            lock: Some(lock),
        }
    }

    /// Says that the role is taken, and wakes the peer to see it.
    pub(crate) fn enter(&mut self) {
        let half = self.own();
        let before = sign(&half.presence);
        let is_sole = !self.is_shared() || self.hub.is_some();
        if before & ACTIVE != 0 && is_sole {
            let takeovers = &half.counters.takeovers;
            takeovers.store(takeovers.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
        if let Some(hub) = &self.hub {
            sign(&hub.half(self.role).presence);
        }
        self.present = true;
        self.set_wait(Wait::default());
        self.wake();
    }

    /// Chooses how this side waits, and tells notifiers what that asks of them.
    pub(crate) fn set_wait(&mut self, wait: Wait) {
        self.wait = wait;
        if !self.is_ours() {
            return;
        }
        self.look_at_processors();
        self.budget = Budget::of(wait);
        if cfg!(target_arch = "x86_64") && !self.attached.segment().spec.kind.is_ring() {
            // Semaphores and events publish by a locked instruction, which is a full barrier on this processor:
            // the notifier's end of P1 is always there, and nobody needs to ask for it.
            self.budget.barrier = Barrier::Fence;
            return;
        }
        // One `membarrier` a sleep is cheap beside the sleep of a spinner, who sleeps seldom. A side
        // that sleeps for every message does better to ask the peer for a fence each time.
        if (self.is_shared() && self.hub.is_none()) || self.goes_round() {
            // They sleep on one word: what one of them asks of notifiers, it asks for all. Who goes round the
            // lanes has asked in each of them.
            let registered = membarrier::is_registered();
            if !registered {
                park::insist_on_fences(&self.own().presence);
            }
            self.budget.barrier = if registered { Barrier::Membarrier } else { Barrier::Fence };
            return;
        }
        let asymmetric = membarrier::is_registered() && wait != Wait::Block;
        let barrier = if asymmetric { Barrier::Membarrier } else { Barrier::Fence };
        park::choose_barrier(&self.own().presence, barrier);
        // Only after the turn to fences is anything relied on. It disturbs every processor that runs one of us.
        if barrier == Barrier::Fence && membarrier::is_registered() {
            membarrier::everywhere();
        }
        self.budget.barrier = barrier;
    }

    /// Whether others may have the same role at the same time.
    pub(crate) fn is_shared(&self) -> bool {
        self.attached.segment().spec.topology.shares(self.role)
    }

    /// Whether it receives from many lanes.
    pub(crate) fn goes_round(&self) -> bool {
        self.role == Role::Receiver && self.attached.segment().spec.is_laned()
    }

    /// The number of the lane's next message, in an ordered ring; `None` in any other.
    pub(crate) fn numbers(&self) -> Option<&AtomicU64> {
        let hub = self.hub.as_ref().filter(|_| self.attached.segment().spec.ordered)?;
        Some(&hub.half(Role::Sender).cursor.position)
    }

    /// The ring as this participant sees it; it has an entry.
    ///
    /// # Safety
    ///
    /// Not to be used when `self` has been dropped.
    pub(crate) unsafe fn claims(&self) -> Claims<'static> {
        let claims = table::memory(&self.attached, self.entry.unwrap_or_default());
        // SAFETY: what the references point to is the segment's mapping, which stays where it is as long as
        // `self` has a part in the segment; the caller promises the rest.
        unsafe { core::mem::transmute::<Claims<'_>, Claims<'static>>(claims) }
    }

    /// From now on this side waits for what the other role waits for, and has others notified of that.
    pub(crate) fn face(&mut self, role: Role) {
        self.role = role;
        self.set_wait(self.wait);
    }

    /// Its entry in the table.
    pub(crate) fn entry(&self) -> usize {
        self.entry.map_or(0, usize::from)
    }

    /// Resolves what the dead have left, if a side of the ring is shared, and wakes all who may go on then;
    /// whether there was anything.
    #[cold]
    pub(crate) fn tend(&self) -> bool {
        // A dead sender leaves nothing in its lane that its successor does not find.
        let frees = self.attached.segment().spec.frees_the_dead(self.role);
        let lock = self.lock.as_ref().filter(|_| frees && self.is_ours());
        let Some(Hold::Lock(lock)) = lock else { return false };
        let resolved = table::resolve_the_dead(&self.attached, lock.as_fd(), self.entry);
        if resolved {
            self.wake();
            self.wake_own_side();
            self.wake_lanes();
        }
        resolved
    }

    /// Whether it is one side of a connection, and has not slept yet.
    pub(crate) fn is_newly_connected(&self) -> bool {
        self.sleeps() == 0 && self.attached.segment().has_company()
    }

    /// How often it has slept.
    pub(crate) fn sleeps(&self) -> u32 {
        self.budget.sleeps()
    }

    /// Called when an attempt of a `try_` call found nothing, where nobody's end ends anything.
    pub(crate) fn count_empty_poll(&mut self) {
        self.empty_polls = self.empty_polls.wrapping_add(1);
    }

    /// Called when an attempt of a `try_` call found nothing: looks now and then, if somebody's claim is in the
    /// way or may have to be given to somebody else, whether that one lives.
    pub(crate) fn tend_now_and_then(&mut self) {
        let due = self.empty_polls.is_multiple_of(POLLS_PER_PROBE);
        if due && (self.stuck || self.are_others_at_work()) {
            self.tend();
        }
    }

    /// Whether another receiver has a message that this one is to have if the other is dead. Not to be asked
    /// at every attempt: it reads what the others write for each message.
    #[cold]
    pub(crate) fn are_others_at_work(&self) -> bool {
        let shared = self.role == Role::Receiver && self.is_shared() && self.has_table();
        shared && self.entry.is_some_and(|own| table::are_others_at_work(&self.attached, own))
    }

    /// Whether somebody who dies may leave claims.
    pub(crate) fn has_table(&self) -> bool {
        self.attached.segment().spec.has_claims()
    }

    /// Says that this side is about to sleep, where several rings are waited for at once. The barrier is the caller's.
    pub(crate) fn announce_sleep(&self) {
        if self.is_ours() {
            park::announce(&self.own().presence);
        }
    }

    /// Twice how often this side has said that it is about to sleep; it wraps.
    pub(crate) fn announced(&self) -> u32 {
        if self.is_ours() { park::announced(&self.own().presence) } else { 0 }
    }

    /// Messages that this side of a split ring has sent, or received; 0 in a forked child, which has no ring.
    pub(crate) fn messages(&self) -> u64 {
        if !self.is_ours() {
            return 0;
        }
        let cursor = &self.own().cursor;
        match self.attached.segment().spec.kind {
            RingKind::Bytes => cursor.messages.load(Ordering::Relaxed),
            _ => cursor.position.load(Ordering::Relaxed),
        }
    }

    /// Where this side of a split ring is in it; 0 in a forked child.
    pub(crate) fn position(&self) -> u64 {
        if self.is_ours() { self.own().cursor.position.load(Ordering::Relaxed) } else { 0 }
    }

    /// The half that this side writes.
    #[inline(always)]
    pub(crate) fn own(&self) -> &Half {
        self.attached.half(self.role)
    }

    /// The half that the peer writes.
    #[inline(always)]
    pub(crate) fn peer(&self) -> &Half {
        self.attached.half(self.role.peer())
    }

    /// Whether the handle may be used: one comparison, while all is well.
    #[inline(always)]
    pub(crate) fn admit(&mut self) -> Result<(), Failure> {
        if self.generation == fork::generation() { Ok(()) } else { self.reconsider() }
    }

    /// [`admit`](Self::admit) and, with the same comparison, whether neither side of the ring is shared. `false`
    /// says that a closer look is needed.
    #[inline(always)]
    pub(crate) fn is_express(&self) -> bool {
        self.express == fork::generation()
    }

    /// Whether nothing has changed since [`admit`](Self::admit) let the handle be used. The same comparison
    /// without a closer look, for loops that start with it.
    #[inline(always)]
    pub(crate) fn is_admitted(&self) -> bool {
        self.generation == fork::generation()
    }

    #[cold]
    #[inline(never)]
    fn reconsider(&mut self) -> Result<(), Failure> {
        if self.has_left() {
            return Err(Failure::Disconnected);
        }
        if !self.is_ours() {
            return Err(Failure::Forked);
        }
        if self.corrupt {
            return Err(Failure::Corrupt);
        }
        if self.is_peer_gone() {
            return Err(Failure::Disconnected);
        }
        self.generation = fork::generation();
        if !self.attached.segment().spec.topology.is_shared() {
            self.express = self.generation;
        }
        Ok(())
    }

    /// The handle needs a closer look before it is used again.
    fn suspect(&mut self) {
        (self.generation, self.express) = (SUSPECT, SUSPECT);
    }

    /// Panics in a fork child, which has no ring that the rest of the call could touch.
    #[inline(always)]
    pub(crate) fn assert_ours(&self) {
        assert!(self.is_ours(), "the handle belongs to the parent process");
    }

    /// Whether this is the process that took the role. A fork child has no ring.
    #[inline(always)]
    pub(crate) fn is_ours(&self) -> bool {
        self.lock.as_ref().is_some_and(Hold::is_ours)
    }

    /// The peer wrote nonsense: this handle does nothing more.
    #[cold]
    pub(crate) fn poison(&mut self) {
        self.corrupt = true;
        self.suspect();
    }

    /// Where another thread of this process sleeps for this side.
    pub(crate) fn post(&self) -> Post {
        let spec = &self.attached.segment().spec;
        // What this side asks of notifiers may change while that thread sleeps. `membarrier` does with all of it.
        let fences = cfg!(target_arch = "x86_64") && !spec.kind.is_ring();
        let asymmetric = !fences && membarrier::is_registered();
        Post {
            attached: self.attached.clone(),
            role: self.role,
            entry: self.entry.unwrap_or_default(),
            bits: futex::ANY,
            barrier: if asymmetric { Barrier::Membarrier } else { Barrier::Fence },
            in_turn: spec.kind == RingKind::Slots && self.is_shared(),
            // Who reads a variable has its value whoever writes.
            ends: spec.kind != RingKind::Latest,
        }
    }

    /// Whether it has left the role.
    pub(crate) fn has_left(&self) -> bool {
        self.lock.is_none()
    }

    /// Leaves the role: for this handle there is nobody any more.
    pub(crate) fn leave(&mut self) {
        self.suspect();
        if !self.is_ours() {
            // A child that was forked has none.
            self.lock = None;
            return;
        }
        if let Some(entry) = self.entry {
            let attached = self.hub.as_ref().map_or(&self.attached, |hub| &hub.attached);
            table::leave(attached, usize::from(entry));
        }
        let others = || {
            let mut entries = self.attached.table().iter();
            self.is_shared() && entries.any(|entry| role_of(entry) == Some(self.role))
        };
        let hub = self.hub.as_ref().map(|hub| &hub.attached);
        if hub.is_some() && self.present {
            self.own().presence.state.fetch_and(!ACTIVE, Ordering::AcqRel);
        }
        if self.present && !others() {
            let state = &hub.unwrap_or(&self.attached).half(self.role).presence.state;
            // One who has just come has said so before, or is seen now: read-modify-writes of one word.
            state.fetch_and(!ACTIVE, Ordering::AcqRel);
            if others() {
                state.fetch_or(ACTIVE, Ordering::AcqRel);
            }
        }
        // Unlocked first: whoever is woken asks the kernel.
        self.lock = None;
        park::announce(&self.own().presence);
        self.wake();
        // Last: the next handle in this process may write the same half.
        self.attached.segment().leave_seat();
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        self.leave();
    }
}
