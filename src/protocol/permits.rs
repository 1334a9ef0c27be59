//! The permits of a semaphore, of which a killed process loses none and keeps none.
//!
//! All free permits are one word that everybody changes by compare-and-swap. What each participant holds is in
//! its ledger, which only it writes. A change concerns both, and a process can be killed between the two, so
//! whoever comes after must be able to tell whether the swap was made. That is the problem of a recoverable
//! compare-and-swap (Attiya, Ben-Baruch, Hendler, PODC 2018), and the answer is theirs: the word names who changed
//! it last and in which of its changes, and whoever replaces that says so to its author first. What is ours: one
//! word of the ledger says what was held before and after, so that a change is one store and one swap; a witness
//! only moves forward, so that each participant needs one and not one for each pair; and a repairer goes on in the
//! name of the dead, with its ledger, so that a repairer that is killed is one more dead participant in the same
//! state.
//!
//! ```text
//! word     { change:32 | author:10 | closed:1 | abandoned:1 | many:1 | watched:1 | 0:2 | free permits:16 }
//! ledger   { change:32 | held before:16 | held after:16 }      of each participant, its own
//! witness  { change:32 }                                       of each participant, written by the others
//!
//! participant i:  ledger = (c, h, h')   -->   word: free + h - h', (c, i)   -->   next change: ledger = (c + 1, h', h")
//! others:         find (c, i) in the word   -->   witness of i = c, at least   -->   word: ..., (d, j)
//!
//!                             killed here          and here
//! word says (c, i)                 h                  h'
//! witness of i is c                -                  h'
//! neither                          h                  -
//! ```
//!
//! That the three cases are told apart: `c` was never used before, so the word says `(c, i)` only after the swap. If
//! it does not say so any more, somebody has replaced it, and has set the witness before. Nobody sets it to `c`
//! sooner. It only moves forward, so nobody who was slow sets it back.
//!
//! Changes are counted by 32 bits. Two things would go wrong if a process stood still between two instructions
//! while one and the same other made 2^31 changes or more, the last of them left the word exactly as it had been,
//! and it was killed in the few instructions after that: then it could be taken for one whose swap was not made.

use super::claims::Backoff;
use super::layout::{Entry, Half, MAX_PARTICIPANTS};
use super::pace::Deference;
use crate::sync::{AtomicU64, Edge, Ordering};

/// The most permits of a semaphore.
pub const MOST: u32 = u16::MAX as u32;

const CHANGE_SHIFT: u32 = 32;
const AUTHOR_SHIFT: u32 = 22;
const AUTHOR: u64 = (MAX_PARTICIPANTS as u64 - 1) << AUTHOR_SHIFT;
/// Nobody gets a permit any more.
const CLOSED: u64 = 1 << 21;
/// Somebody died with a permit, and nobody has got one since.
const ABANDONED: u64 = 1 << 20;
/// Somebody has slept, or is about to, until there are several permits: to wake one at a time is not enough.
const MANY: u64 = 1 << 19;
/// Somebody waits until no permit is free, or has waited, and there was always one since: who takes the last one, and
/// clears this by that, looks for whom to wake.
const WATCHED: u64 = 1 << 18;
const NOTHING: u64 = 3 << 16;
const FREE: u64 = MOST as u64;

/// After so many numbers of changes a participant sees to it that its witness is not left behind by half of them.
const REFRESH: u32 = 1 << 30;
/// It does so in the first of so many that is an acquisition, and leaves out the rest of them: between two acquisitions
/// there are at most as many releases as there are permits.
const REFRESHING: u32 = 1 << 17;
/// The next change, in a word or a ledger. Beyond the last number it wraps, and touches nothing else.
const NEXT: u64 = 1 << CHANGE_SHIFT;
/// Where the first [`REFRESHING`] of [`REFRESH`] numbers have no bit.
const FRESH: u32 = REFRESH - REFRESHING;
const _: () = assert!(REFRESHING > MOST + 1);
/// Races lost one after the other after which the word is being scribbled on.
const MOST_LOSSES: u32 = 1 << 20;

/// Why a change was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Too few permits are free now.
    NotReady,
    /// Nobody gets a permit any more.
    Closed,
    /// There would be more free permits than there may be.
    TooMany,
    /// The word says what no correct participant writes.
    Corrupt,
}

/// The word, or a value of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State(u64);

impl State {
    /// Permits that are free.
    #[inline(always)]
    pub fn free(self) -> u32 {
        (self.0 & FREE) as u32
    }

    /// Whether nobody gets a permit any more.
    #[inline(always)]
    pub fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    /// Whether somebody died with a permit, and nobody has got one since.
    #[inline(always)]
    pub fn is_abandoned(self) -> bool {
        self.0 & ABANDONED != 0
    }

    /// Whether somebody may sleep until there are several.
    #[inline(always)]
    pub fn is_many(self) -> bool {
        self.0 & MANY != 0
    }

    /// Whether it says nothing.
    #[inline(always)]
    fn is_nothing(self) -> bool {
        self.0 & NOTHING != 0
    }

    #[inline(always)]
    fn author(self) -> usize {
        ((self.0 & AUTHOR) >> AUTHOR_SHIFT) as usize
    }

    #[inline(always)]
    fn change(self) -> u32 {
        (self.0 >> CHANGE_SHIFT) as u32
    }

    #[inline(always)]
    fn with_free(self, free: u32) -> Self {
        debug_assert!(free <= MOST);
        Self(self.0 & !FREE | u64::from(free))
    }

    #[inline(always)]
    fn by(self, sign: u64, change: u32) -> Self {
        let rest = self.0 & (CLOSED | ABANDONED | MANY | WATCHED | FREE);
        Self(u64::from(change) << CHANGE_SHIFT | sign | rest)
    }
}

/// A participant's ledger, or a value of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ledger {
    change: u32,
    before: u32,
    after: u32,
}

impl Ledger {
    #[inline(always)]
    fn of(entry: &Entry) -> Self {
        let word = entry.journal.intent.load(Ordering::Relaxed);
        let half = |shift: u32| (word >> shift) as u32 & MOST;
        Self { change: (word >> CHANGE_SHIFT) as u32, before: half(16), after: half(0) }
    }

    /// Release: a ledger that speaks of the next change tells that the last one is over, so it must not come before
    /// the swap. The readers come when its owner is dead, by a lock of the kernel: it is the compiler that is told.
    #[inline(always)]
    fn note(self, ledger: &AtomicU64) {
        let held = self.before << 16 | self.after;
        let word = u64::from(self.change) << CHANGE_SHIFT | u64::from(held);
        ledger.store(word, Ordering::Release);
    }
}

/// Says to the author of `change` that it was made, unless that is said already.
#[inline(always)]
fn bear_witness(author: &Entry, change: u32) {
    let witness = &author.card.witness;
    let mut said = witness.load(Ordering::Relaxed);
    // Forward only: whoever is late here must not undo what another has said since. Few can come between.
    for _ in 0..MOST_LOSSES {
        if change.wrapping_sub(said as u32) as i32 <= 0 {
            return;
        }
        // Relaxed, and M2 carries it: the swap that replaces the change comes after it.
        let to = u64::from(change);
        match witness.compare_exchange(said, to, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return,
            Err(other) => said = other,
        }
    }
}

/// The word of the semaphore whose sender's half is `half`.
///
/// Not at the start of the page, where the first ledger is in another page, and often what the semaphore protects in a
/// third: of two pages some have addresses that a processor takes for the same one until it has looked at all of them,
/// and a load then waits for the other page's store, a locked one.
#[inline(always)]
pub fn word(half: &Half) -> &AtomicU64 {
    &half.released.position
}

/// The shared memory of a semaphore.
#[derive(Clone, Copy)]
pub struct Permits<'a> {
    /// The word.
    pub word: &'a AtomicU64,
    /// The table of participants.
    pub table: &'a [Entry],
    /// The most permits that may be free.
    pub maximum: u32,
}

impl core::fmt::Debug for Permits<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Permits").finish_non_exhaustive()
    }
}

impl Permits<'_> {
    /// Writes down that `free` permits are there and that nobody has been.
    pub fn initialise(word: &AtomicU64, free: u32) {
        word.store(State(0).with_free(free).0, Ordering::Relaxed);
    }

    #[inline(always)]
    fn check(&self, word: u64) -> Result<State, Refused> {
        let state = State(word);
        let sound = !state.is_nothing()
            && state.free() <= self.maximum
            && state.author() < self.table.len();
        if sound { Ok(state) } else { Err(Refused::Corrupt) }
    }

    #[inline(always)]
    fn load(&self, order: Ordering) -> Result<State, Refused> {
        self.check(self.word.load(order))
    }

    /// What the word says, for who only looks. M1 permit: what those did who have changed it lies before.
    #[inline(always)]
    pub fn look(&self) -> Result<State, Refused> {
        self.load(Edge::PermitLoad.load())
    }

    /// Whether `count` permits could be had.
    #[inline(always)]
    pub fn find(&self, count: u32) -> Result<(), Refused> {
        // Relaxed: the swap that takes them looks again.
        is_there(self.load(Ordering::Relaxed)?, count)
    }

    /// The same for one who looks until they are there, and lets those who have them be meanwhile.
    pub fn find_beside_others(&self, count: u32, deference: &mut Deference) -> Result<(), Refused> {
        let state = self.load(Ordering::Relaxed)?;
        let found = is_there(state, count);
        if found == Err(Refused::NotReady) {
            deference.defer(state.0);
        }
        found
    }

    /// No permit is given out from now on. The caller wakes everybody.
    pub fn close(&self) {
        // The author stays: it is no change that a participant could die in.
        self.word.fetch_or(CLOSED, Edge::PermitStore.store());
    }

    /// Has everybody woken when permits come free: the caller is about to sleep until there are several, and one
    /// who is woken for what does not do for him would keep the wake from another. For good.
    pub fn wait_for_many(&self) {
        if self.word.load(Ordering::Relaxed) & MANY == 0 {
            self.word.fetch_or(MANY, Ordering::Relaxed);
        }
    }

    /// What the word says, for one who is about to sleep until no permit is free: if one is, whoever takes the last one
    /// looks for sleepers.
    pub fn watch(&self) -> Result<State, Refused> {
        let found = self.look()?;
        if found.free() == 0 || found.0 & WATCHED != 0 {
            return Ok(found);
        }
        // Who has taken the last one in between is seen, and whoever does so from now on sees this: it is one word.
        self.check(self.word.fetch_or(WATCHED, Edge::PermitLoad.load()))
    }

    /// What the participant of entry `i` holds, as far as can be told without stopping it.
    #[cfg(not(loom))]
    pub fn held(&self, i: usize) -> u32 {
        let ledger = Ledger::of(&self.table[i]);
        if self.is_made(i, ledger.change) { ledger.after } else { ledger.before }
    }

    /// Whether `change` of the participant of entry `i`, its last, was made.
    fn is_made(&self, i: usize, change: u32) -> bool {
        // M2 witness: if it was replaced, by whomever and how often, the witness is visible.
        let state = State(self.word.load(Edge::WitnessLoad.load()));
        let said = self.table[i].card.witness.load(Ordering::Relaxed);
        (state.author(), state.change()) == (i, change) || said == u64::from(change)
    }
}

#[inline(always)]
fn is_there(state: State, count: u32) -> Result<(), Refused> {
    if state.is_closed() {
        return Err(Refused::Closed);
    }
    if state.free() >= count { Ok(()) } else { Err(Refused::NotReady) }
}

/// What somebody got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Permits that are free still.
    pub left: u32,
    /// Somebody died with a permit, and this is the first grant since.
    pub abandoned: bool,
}

/// What a participant knows of itself.
pub struct Account<'a> {
    me: usize,
    ledger: &'a AtomicU64,
    /// Itself, as the word's author.
    sign: u64,
    /// Permits that it holds, and its last change, if `last` does not say.
    held: u32,
    change: u32,
    /// Permits that it holds and those that are free, if `last` says what the word is: a change of its own makes the one
    /// of the other. At most as many as there may be, so that all that it holds can come free. Otherwise 0.
    sum: u32,
    /// What the word is, if nobody has changed it since this participant did: then the swap, which looks anyhow, need
    /// not wait for another look. [`NOTHING`] if somebody may well have. Whatever else it is, this participant has
    /// put it there in its last change, from a word that it had checked.
    last: State,
}

impl core::fmt::Debug for Account<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Account").field("held", &self.held()).finish_non_exhaustive()
    }
}

impl<'a> Account<'a> {
    /// The account of who has just taken entry `me`, which holds nothing.
    pub fn open(mem: &Permits<'a>, me: usize) -> Self {
        // It goes on counting where its predecessor stopped, so that no change has a number twice.
        Self::with(mem, me, Ledger::of(&mem.table[me]).change, 0)
    }

    fn with(mem: &Permits<'a>, me: usize, change: u32, held: u32) -> Self {
        let (sign, last) = ((me as u64) << AUTHOR_SHIFT, State(NOTHING));
        Self { me, ledger: &mem.table[me].journal.intent, sign, held, change, sum: 0, last }
    }

    /// Permits that it holds.
    #[inline(always)]
    pub fn held(&self) -> u32 {
        if self.last.is_nothing() { self.held } else { self.sum - self.last.free() }
    }

    /// Takes `count` permits, if as many are free.
    pub fn try_acquire(&mut self, mem: &Permits<'_>, count: u32) -> Result<Grant, Refused> {
        let after = self.held() + count;
        debug_assert!(after <= MOST);
        // M1 permit, and M2 witness.
        let won = Edge::PermitLoad.load_and(Edge::WitnessStore);
        let found = self.change(mem, after, won, move |state| {
            is_there(state, count)?;
            let over = if state.free() == count { ABANDONED | WATCHED } else { ABANDONED };
            Ok(State(state.0 & !over).with_free(state.free() - count))
        })?;
        Ok(Grant { left: found.free() - count, abandoned: found.is_abandoned() })
    }

    /// Gives back `count` of those that it holds; what the word said before.
    pub fn release(&mut self, mem: &Permits<'_>, count: u32) -> Result<State, Refused> {
        let held = self.held();
        debug_assert!(count <= held);
        self.free(mem, held - count, count)
    }

    /// Makes `count` permits that nobody held; what the word said before.
    pub fn post(&mut self, mem: &Permits<'_>, count: u32) -> Result<State, Refused> {
        self.free(mem, self.held(), count)
    }

    /// Does away with `count` of those that it holds.
    pub fn consume(&mut self, count: u32) {
        let held = self.held();
        debug_assert!(count <= held);
        if self.last.is_nothing() {
            self.held -= count;
        } else {
            self.sum -= count;
        }
        // The same whether or not the last change was made, and it was: so this is one store.
        let (before, after) = (held - count, held - count);
        Ledger { change: self.number(), before, after }.note(self.ledger);
    }

    /// Gives back all that it holds.
    pub fn leave(&mut self, mem: &Permits<'_>) -> Result<(), Refused> {
        self.give_all_back(mem, 0)
    }

    /// The same, and sets the bits of `mark`.
    fn give_all_back(&mut self, mem: &Permits<'_>, mark: u64) -> Result<(), Refused> {
        let held = self.held();
        if held == 0 {
            return Ok(());
        }
        // M1 permit. With permits that were posted there may be more than may be free: what is beyond that is lost.
        self.change(mem, 0, Edge::PermitStore.store(), |state| {
            let free = state.free().saturating_add(held).min(mem.maximum);
            Ok(State(state.0 | mark).with_free(free))
        })
        .map(drop)
    }

    fn free(&mut self, mem: &Permits<'_>, after: u32, count: u32) -> Result<State, Refused> {
        let maximum = mem.maximum;
        // M1 permit. The same Release is the store end of M2.
        self.change(mem, after, Edge::PermitStore.store(), move |state| {
            let free = state.free() + count;
            if free <= maximum { Ok(state.with_free(free)) } else { Err(Refused::TooMany) }
        })
    }

    /// [`try_acquire`](Self::try_acquire) by who changed the word last, if that takes a swap and no look. `false` says that
    /// a closer look is needed; otherwise nobody had died with a permit, and nobody waits until none is free.
    ///
    /// Small: a swap waits for all stores before it, those of a call and its spilled registers among them; and what is
    /// swapped in is one addition away from what was swapped in before, for the next swap waits for that.
    #[inline(always)]
    pub fn try_acquire_at_once(&mut self, mem: &Permits<'_>, count: u32) -> bool {
        let found = self.last;
        let to = State(found.0.wrapping_add(NEXT - u64::from(count)));
        // In one comparison that there are as many and that it is not none: 0 wraps.
        let is_enough = count.wrapping_sub(1) < found.free();
        let is_plain = found.0 & (NOTHING | CLOSED | ABANDONED | WATCHED) == 0
            && to.0 & u64::from(FRESH) << CHANGE_SHIFT != 0;
        // M1 permit, and M2 witness.
        let won = Edge::PermitLoad.load_and(Edge::WitnessStore);
        is_plain && is_enough && {
            let before = self.sum - found.free();
            self.change_at_once(mem, to, (before, before + count), won)
        }
    }

    /// [`release`](Self::release) likewise: what the word said before.
    #[inline(always)]
    pub fn release_at_once(&mut self, mem: &Permits<'_>, count: u32) -> Option<State> {
        let found = self.last;
        let to = State(found.0.wrapping_add(NEXT + u64::from(count)));
        // There is room for what it holds. And it holds nothing, by this, if `last` says nothing.
        let before = self.sum - found.free();
        let is_held = count.wrapping_sub(1) < before;
        // M1 permit. The same Release is the store end of M2.
        let won = Edge::PermitStore.store();
        let is_done =
            is_held && self.change_at_once(mem, to, (before, before.wrapping_sub(count)), won);
        is_done.then_some(found)
    }

    /// Whether the word was what it was made last, and is `to` now, by the next change of this participant, which held
    /// as many permits before and after it.
    #[inline(always)]
    fn change_at_once(
        &mut self,
        mem: &Permits<'_>,
        to: State,
        (before, after): (u32, u32),
        won: Ordering,
    ) -> bool {
        Ledger { change: to.change(), before, after }.note(self.ledger);
        let found = self.last.0;
        if mem.word.compare_exchange(found, to.0, won, Ordering::Relaxed).is_err() {
            self.lose(to.change());
            return false;
        }
        self.last = to;
        true
    }

    /// Somebody else has changed the word. The number is used, whatever came of it.
    #[cold]
    #[inline(never)]
    fn lose(&mut self, change: u32) {
        self.forget(change);
    }

    /// The number of its last change.
    #[inline(always)]
    fn number(&self) -> u32 {
        if self.last.is_nothing() { self.change } else { self.last.change() }
    }

    /// `change` is the last one, and what the word is now is not known.
    #[inline(always)]
    fn forget(&mut self, change: u32) {
        (self.held, self.change) = (self.held(), change);
        (self.sum, self.last) = (0, State(NOTHING));
    }

    /// The word is `to`, by the last change of this participant, which holds `held`.
    #[inline(always)]
    fn remember(&mut self, mem: &Permits<'_>, to: State, held: u32) {
        let sum = held + to.free();
        // With permits that were posted there may be more than may be free.
        if sum <= mem.maximum {
            (self.sum, self.last) = (sum, to);
        }
    }

    /// Changes the word by `step`, whoever changed it last, and as often as somebody else is faster. After it this
    /// participant holds `after`; what the word said before.
    fn change(
        &mut self,
        mem: &Permits<'_>,
        after: u32,
        won: Ordering,
        step: impl Fn(State) -> Result<State, Refused>,
    ) -> Result<State, Refused> {
        // Relaxed: the swap looks again.
        let mut found = mem.load(Ordering::Relaxed)?;
        let mut next = step(found)?;
        let last = self.number();
        let change = last.wrapping_add(1);
        let is_due = change & FRESH == 0;
        self.forget(if is_due { change | (REFRESHING - 1) } else { change });
        Ledger { change: self.change, before: self.held, after }.note(self.ledger);
        if is_due {
            // Whether the one before was made is not asked any more.
            bear_witness(&mem.table[self.me], last);
        }
        let mut backoff = Backoff::default();
        for _ in 0..MOST_LOSSES {
            if found.author() != self.me {
                bear_witness(&mem.table[found.author()], found.change());
            }
            let to = next.by(self.sign, self.change);
            if mem.word.compare_exchange(found.0, to.0, won, Ordering::Relaxed).is_ok() {
                self.held = after;
                // Where others come between, a guess would be another swap in vain.
                if found.author() == self.me {
                    self.remember(mem, to, after);
                }
                return Ok(found);
            }
            backoff.pause();
            // Who gives up here leaves a ledger that speaks of a change which was not made, and never will be.
            found = mem.load(Ordering::Relaxed)?;
            next = step(found)?;
        }
        Err(Refused::Corrupt)
    }
}

/// Gives back what the participant of entry `victim` died with, and says how much that was; `None` if the word
/// is damaged.
///
/// The caller is the only repairer, and keeps the entry from being taken, both by locks that the kernel releases.
/// It does what the victim could have done next, with its ledger: if it is killed, the next one finds a victim that
/// died a little later.
pub fn resolve(mem: &Permits<'_>, victim: usize) -> Option<u32> {
    let ledger = Ledger::of(&mem.table[victim]);
    let is_made = mem.is_made(victim, ledger.change);
    let held = if is_made { ledger.after } else { ledger.before };
    let mut account = Account::with(mem, victim, ledger.change, held);
    account.give_all_back(mem, ABANDONED).ok()?;
    let total = &mem.table[victim].card.resolved;
    total.store(total.load(Ordering::Relaxed).wrapping_add(held.into()), Ordering::Relaxed);
    Some(held)
}
