//! Who has which side of a ring, and what becomes of it when they leave or die.
//!
//! A role is an exclusive lock on one byte of the segment, held through a description of its own, so the
//! kernel gives it up when the process dies, at whatever instruction. Everything else a role has in
//! shared memory (pid, incarnation) is for people or a hint that saves a question to the kernel.

use crate::budget::Budget;
use crate::error::{Failure, Role, SetupError};
use crate::pollable::Post;
use crate::protocol::claims::Claims;
use crate::protocol::lanes;
use crate::protocol::layout::{ACTIVE, Half, Presence};
use crate::protocol::park::{self, Answered, Barrier};
use crate::segment::{Attached, RingKind, Segment, lock_of, role_of};
use crate::sync::{AtomicU32, AtomicU64, Ordering, acquire};
use crate::sys::fork::{self, PrivateFd};
use crate::sys::locks::{self, Outcome};
use crate::sys::{clock, cpu, futex, membarrier};
use crate::table;
use crate::wait::Wait;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// The first pause before a role that looks taken is asked for again; each pause is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_micros(50);
/// How many pauses: 6 ms together, many times what a process needs from its start to `exec`, and little beside
/// the time that it takes to find out by hand whose the role is.
const PAUSES: u32 = 7;
/// Attempts that find nothing between two questions to the kernel whether the peer lives.
const POLLS_PER_PROBE: u32 = 1024;
/// A generation that no process has: the handle needs a closer look before it is used.
const SUSPECT: u32 = 0;
/// Waits that yielded the processor, between two looks at whether it is still the same.
const YIELDS_PER_LOOK: u32 = 64;
/// Spins running that end at once after a yield before those who end them are taken for neighbours.
const HANDED_OVER: u8 = 4;

/// How the peer of a connection, or those at the other end of a ring, have ended their part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ending {
    /// By saying so: its handle was closed.
    Closed,
    /// Without a word: its process was killed, or ended without closing anything; or it was a client that did not accept
    /// what the listener had answered.
    Died,
    /// By breaking the rules: its half is damaged. Only a [`Hub`](crate::Hub) says so, which lets go of it for that.
    Corrupt,
}

/// Whether who had this half's role says that it has left it.
#[inline(always)]
fn has_left(half: &Half) -> bool {
    let state = acquire(&half.presence.state);
    state != 0 && state & ACTIVE == 0
}

/// [`Participant::has_peer_left`], for whoever waits in this role.
#[inline(always)]
pub(crate) fn has_peer_left(attached: &Attached, role: Role) -> bool {
    has_left(attached.half(role.peer())) || attached.segment().is_rumoured_dead()
}

/// [`Participant::is_peer_gone`], for whoever waits in this role.
pub(crate) fn is_peer_gone(attached: &Attached, role: Role) -> bool {
    let (segment, peer) = (attached.segment(), role.peer());
    if segment.own_role().is_some() {
        // Forgotten before the question, so that what is said meanwhile is heard; said again if it is true.
        let was_rumoured = segment.forget_rumour();
        // Who has the half may say that it has left the role; and when it is gone, nobody follows.
        let gone = has_left(attached.half(peer)) || !segment.is_held(peer);
        if gone && was_rumoured {
            segment.hear_of_death();
        }
        return gone;
    }
    if role == Role::Sender && segment.spec.kind.is_one_to_all() {
        // It goes on whether anybody listens or not.
        return false;
    }
    let was_there = acquire(&attached.half(peer).presence.state) != 0;
    // A mailbox is there for those who come later, as long as it is there at all.
    let ends = !segment.spec.persistent && !segment.spec.is_mailbox();
    was_there && ends && !segment.is_held(peer)
}

/// Whether the peer of a split ring has ended, and how, as it says and the kernel knows.
pub(crate) fn ending(segment: &Segment) -> Option<Ending> {
    let peer = segment.own_role().filter(|_| segment.is_ours())?.peer();
    if has_left(segment.half(peer)) {
        return Some(Ending::Closed);
    }
    (!segment.is_held(peer)).then_some(Ending::Died)
}

/// Wakes those who wait for the peer of a split ring, and has them ask the kernel for it.
pub(crate) fn spread_rumour(segment: &Segment) {
    let Some(role) = segment.own_role().filter(|_| segment.is_ours()) else { return };
    segment.hear_of_death();
    // They sleep on the word that the peer rings. To wake there nobody needs to write it.
    futex::wake_all(&segment.half(role.peer()).presence.epoch);
}

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
    /// What makes the role this side's; gone only while dropping.
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

/// Waits that yielded the processor, since the last look at whether anybody else ran there.
#[derive(Debug, Default)]
struct Yields {
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
    let incarnation = (before >> 1).wrapping_add(1);
    presence.state.store(incarnation << 1 | ACTIVE, Ordering::Release);
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
    /// Takes `role`, if nobody has it. The caller recovers the role's position next, and then calls
    /// [`enter`](Self::enter).
    pub(crate) fn join(segment: &Arc<Segment>, role: Role) -> Result<Self, SetupError> {
        if segment.own_role().is_some() {
            return Self::join_half(segment, role);
        }
        let lock = segment.reopen()?;
        let fd = lock.as_fd();
        let topology = segment.spec.topology;
        if !topology.shares(role) {
            let locked = patiently(|| locks::exclusive(fd, lock_of(role)), thread::sleep)
                .map_err(SetupError::os("taking the role"))?;
            if locked == Outcome::HeldElsewhere {
                let pid = segment.half(role).presence.pid.load(Ordering::Relaxed) as u32;
                return Err(SetupError::RoleTaken { role, pid });
            }
        }
        let mut attached = Attached::new(segment);
        let is_laned = segment.spec.is_laned();
        let entry = match segment.spec.has_entry(role) {
            true => Some(take_entry(&attached, fd, role)?),
            false => None,
        };
        let mut hub = None;
        if let Some(lane) = entry.map(usize::from).filter(|_| is_laned) {
            let fences = !membarrier::is_registered();
            let answered = Answered::up_to_now(attached.half(role.peer()), fences);
            let lane_of = Attached::lane(segment, lane);
            hub = Some(Box::new(Hub {
                attached: std::mem::replace(&mut attached, lane_of),
                answered,
                lane,
            }));
        }
        let mut side = Self::holding(attached, role, Hold::Lock(lock));
        (side.entry, side.hub) = (entry, hub);
        Ok(side)
    }

    /// A participant of an event, of whom nobody needs to know: as many as there are may come and go.
    pub(crate) fn pass_by(segment: &Arc<Segment>) -> Result<Self, SetupError> {
        if !segment.is_ours() {
            return Err(SetupError::Forked);
        }
        let (attached, hold) = (Attached::new(segment), Hold::Unlocked(fork::generation()));
        let mut side = Self::holding(attached, Role::Receiver, hold);
        side.set_wait(Wait::default());
        Ok(side)
    }

    /// The same in the split form, where a role goes with a half.
    fn join_half(segment: &Arc<Segment>, role: Role) -> Result<Self, SetupError> {
        if !segment.is_ours() {
            return Err(SetupError::Forked);
        }
        segment.take_seat(role)?;
        Ok(Self::holding(Attached::new(segment), role, Hold::Unlocked(fork::generation())))
    }

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

    /// A memory of announcements on its own side: for one who has something for those that have the same role. They
    /// may sleep since before it came, so it rings the first time.
    pub(crate) fn answered_on_own_side(&self) -> Answered {
        let mut answered = Answered::up_to_now(self.own(), !membarrier::is_registered());
        answered.woke(true);
        answered
    }

    /// Wakes up to `count` of those who have the same role, if any sleep that `answered` has not heard of.
    #[inline(always)]
    pub(crate) fn notify_own_side(&mut self, answered: &mut Answered, count: u32) {
        if answered.must_wake(self.own()) {
            self.answer_own_side(answered, count);
        }
    }

    #[cold]
    #[inline(never)]
    fn answer_own_side(&mut self, answered: &mut Answered, count: u32) {
        self.rang_last = true;
        let woken = futex::wake(self.ring(self.peer()), count);
        answered.woke(woken >= count);
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

    /// Wakes those who have the same role: they sleep on what the peers ring.
    #[cold]
    pub(crate) fn wake_own_side(&self) {
        futex::wake_all(park::ring(self.peer()));
    }

    /// Wakes those who sleep for room or messages in some lane of a mailbox.
    fn wake_lanes(&self) {
        if self.attached.segment().spec.is_mailbox() {
            let lanes = self.attached.lanes();
            for lane in lanes {
                futex::wake_all(park::ring(lane.half(Role::Sender)));
                futex::wake_all(park::ring(lane.half(Role::Receiver)));
            }
        }
    }

    /// Whether it is one side of a connection, and has not slept yet.
    pub(crate) fn is_newly_connected(&self) -> bool {
        self.sleeps() == 0 && self.attached.segment().has_company()
    }

    /// How often it has slept.
    pub(crate) fn sleeps(&self) -> u32 {
        self.budget.sleeps()
    }

    /// Called when a wait is over that began when this side had slept `sleeps` times: if it was woken and there
    /// `is_plenty`, one more of those who have the same role is woken. One may have been woken for what was not the
    /// next by then, and be asleep again.
    pub(crate) fn share(&self, sleeps: u32, is_plenty: impl FnOnce() -> bool) {
        // The word is the peers' to write; where it is out of reach, nobody shares a role.
        debug_assert!(self.attached.segment().own_role().is_none());
        if self.sleeps() != sleeps && is_plenty() {
            futex::wake(park::ring(self.peer()), 1);
        }
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

    /// Tells the peer which processor this thread is bound to, if it is bound to one.
    pub(crate) fn look_at_processors(&mut self) {
        self.pinned = cpu::pinned_to().map_or(0, |cpu| u64::from(cpu) + 1);
        self.is_alone = false;
        if !self.attached.segment().spec.topology.is_shared() {
            self.sign_processor(self.own());
        }
    }

    fn sign_processor(&self, half: &Half) {
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

    /// Called when the moment brought something.
    #[inline(always)]
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

    /// Changes the epoch of `half`, on which somebody sleeps who is woken next, and says who did it, for
    /// [`shares_processor`](Self::shares_processor).
    pub(crate) fn ring<'h>(&self, half: &'h Half) -> &'h AtomicU32 {
        if self.attached.segment().spec.topology.is_shared() {
            self.sign_processor(half);
        }
        park::ring(half)
    }

    /// Says that this side is about to sleep, where several rings are waited for at once. The barrier is the caller's.
    pub(crate) fn announce_sleep(&self) {
        if self.is_ours() {
            park::announce(&self.own().presence);
        }
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

    /// Where the peer says that it is, for those who only compare it.
    pub(crate) fn position_of_peer(&self) -> u64 {
        if self.is_ours() { self.peer().cursor.position.load(Ordering::Relaxed) } else { 0 }
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

    /// Wakes the peer if it sleeps, after something was published for it. `peer` is its role, said by
    /// those who know it when they are compiled.
    #[inline(always)]
    pub(crate) fn notify(&mut self, peer: Role) {
        self.notify_of(peer, 1);
    }

    /// Whether it is plain that none of the peers sleeps. If not, [`notify_of`](Self::notify_of) looks closely.
    #[inline(always)]
    pub(crate) fn is_quiet(&self, peer: Role) -> bool {
        debug_assert_eq!(peer, self.role.peer());
        self.answered.is_quiet(self.attached.half(peer))
    }

    /// The same where several may sleep, of whom `count` find something to do.
    #[inline(always)]
    pub(crate) fn notify_of(&mut self, peer: Role, count: usize) {
        debug_assert_eq!(peer, self.role.peer());
        if self.answered.must_wake(self.attached.half(peer)) {
            self.answer(count);
        }
    }

    #[cold]
    #[inline(never)]
    fn answer(&mut self, count: usize) {
        if self.hub.is_none() && self.attached.segment().spec.topology.shares(self.role.peer()) {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            let woken = futex::wake(self.ring(self.own()), count);
            self.answered.woke(woken >= count);
        } else if self.hub.as_mut().is_none_or(|hub| hub.ask()) {
            self.wake();
        }
        // A receiver still reads what a sender has left behind; a sender has nobody left to send to.
        if self.role == Role::Sender && self.has_peer_left() {
            self.suspect();
        }
    }

    /// Wakes the peer if it sleeps.
    fn wake(&self) {
        let half = match &self.hub {
            Some(hub) => {
                lanes::ask(&hub.half(Role::Sender).doorbell.words, hub.lane);
                hub.half(self.role)
            }
            None => self.own(),
        };
        futex::wake_all(self.ring(half));
        self.attached.segment().ring_company();
    }

    /// A hint: whether the peer says that it has left, or somebody says it of the peer. One that was killed says
    /// nothing itself.
    #[inline(always)]
    pub(crate) fn has_peer_left(&self) -> bool {
        has_peer_left(&self.attached, self.role)
    }

    /// The truth: whether there was a peer, there is none now, and that ends the conversation.
    pub(crate) fn is_peer_gone(&self) -> bool {
        is_peer_gone(&self.attached, self.role)
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

    /// Has the next attempt that finds nothing ask the kernel who lives.
    pub(crate) fn ask_next_time(&mut self) {
        self.empty_polls = POLLS_PER_PROBE - 1;
    }

    /// Whether there is no peer any more, and how it ended: where there were several, whether each of them said that
    /// it left.
    pub(crate) fn ending(&self) -> Option<Ending> {
        if !self.is_ours() || !self.is_peer_gone() {
            return None;
        }
        Some(if has_left(self.peer()) { Ending::Closed } else { Ending::Died })
    }

    /// Whether the peer is there now.
    pub(crate) fn is_peer_present(&self) -> bool {
        let segment = self.attached.segment();
        // Where there may be several, the state is a hint, and the table says it.
        (segment.spec.topology.shares(self.role.peer())
            || acquire(&self.peer().presence.state) & ACTIVE != 0)
            && segment.is_held(self.role.peer())
    }

    /// Whether it is not for the peer that this side waits, but for a claimer to finish or to be resolved.
    pub(crate) fn awaits_claimer(&self) -> bool {
        self.stuck && self.role == Role::Receiver
    }

    /// Called when an attempt found nothing: whether to believe that the peer is gone. Asks the kernel
    /// only if the peer says so, or every so many times.
    #[inline]
    pub(crate) fn seems_gone(&mut self) -> bool {
        self.empty_polls = self.empty_polls.wrapping_add(1);
        let due = self.empty_polls.is_multiple_of(POLLS_PER_PROBE);
        (due || self.has_peer_left()) && self.is_peer_gone()
    }
}

/// Takes an entry of the table, and asks again for a while if all look taken: some may be those of the dead that
/// another process is about to free.
fn take_entry(attached: &Attached, fd: BorrowedFd<'_>, role: Role) -> Result<u16, SetupError> {
    let mut round = 0;
    loop {
        table::resolve_the_dead(attached, fd, None);
        match table::join(attached, fd, role) {
            Err(SetupError::Crowded { .. }) if round < PAUSES => {
                thread::sleep(FIRST_PAUSE * (1 << round));
                round += 1;
            }
            done => return done,
        }
    }
}

/// Asks again for a while for what somebody holds.
///
/// The holder may be dead, and a process that it was just starting still have its descriptors: one that is
/// made without the handlers of `fork` (`posix_spawn`, `vfork`, `clone`) keeps them until it calls `exec`,
/// and one that is forked until it has run its handler, wherever its parent was killed meanwhile. The
/// kernel does not tell such a one from a living holder; it only goes away soon.
fn patiently(
    mut ask: impl FnMut() -> io::Result<Outcome>,
    mut pause: impl FnMut(Duration),
) -> io::Result<Outcome> {
    for round in 0..PAUSES {
        match ask() {
            Ok(Outcome::HeldElsewhere) => pause(FIRST_PAUSE * (1 << round)),
            done => return done,
        }
    }
    ask()
}

impl Drop for Participant {
    fn drop(&mut self) {
        if !self.is_ours() {
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

    /// What `patiently` makes of answers, the last of them repeated: its own, questions, pauses.
    fn ask_all(answers: &[Outcome]) -> (Outcome, usize, Vec<Duration>) {
        let (mut questions, mut pauses) = (0, Vec::new());
        let last = answers[answers.len() - 1];
        let ask = || {
            questions += 1;
            Ok(answers.get(questions - 1).copied().unwrap_or(last))
        };
        let outcome = patiently(ask, |pause| pauses.push(pause)).expect("no question fails");
        (outcome, questions, pauses)
    }

    #[test]
    fn a_free_role_is_taken_without_a_pause() {
        assert_eq!(ask_all(&[Outcome::Locked]), (Outcome::Locked, 1, vec![]));
    }

    #[test]
    fn a_role_that_is_still_held_for_a_moment_is_taken_in_the_end() {
        use Outcome::{HeldElsewhere, Locked};
        let (outcome, questions, pauses) = ask_all(&[HeldElsewhere, HeldElsewhere, Locked]);
        assert_eq!((outcome, questions), (Locked, 3));
        assert_eq!(pauses, [FIRST_PAUSE, 2 * FIRST_PAUSE]);
    }

    #[test]
    fn a_role_that_stays_held_is_given_up() {
        let (outcome, questions, pauses) = ask_all(&[Outcome::HeldElsewhere]);
        assert_eq!((outcome, questions), (Outcome::HeldElsewhere, PAUSES as usize + 1));
        assert!(pauses.iter().sum::<Duration>() < Duration::from_millis(7));
    }

    #[test]
    fn a_question_that_fails_is_not_repeated() {
        let mut questions = 0;
        let outcome = patiently(
            || {
                questions += 1;
                Err(io::Error::other("no locks here"))
            },
            |_| {},
        );
        assert!(outcome.is_err());
        assert_eq!(questions, 1);
    }
}
