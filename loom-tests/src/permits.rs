//! Semaphores: several who acquire and release, one of whom may die, and those who give back what it held.

use crate::explore::{End, explore, explore_kills, process};
use crate::futex::Futex;
use annulus::protocol::layout::{ACTIVE, Entry, Half, RECEIVES};
use annulus::protocol::park::{self, Answered, Sleep};
use annulus::protocol::permits::{self, Account, Permits, Refused};
use annulus::sync::{Edge, Ordering, Word, model, spin_hint};
use loom::sync::{Mutex, MutexGuard};
use loom::thread;
use std::sync::Arc;

/// What a participant does next.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Acquires so many, and waits for them.
    Acquire(u32),
    /// Acquires so many if they are there, and leaves out what follows if they are not.
    Try(u32),
    /// Uses what the semaphore protects.
    Use,
    /// Releases so many.
    Release(u32),
    /// Waits until none is free.
    Zero,
}
use Step::{Acquire, Release, Try, Use, Zero};

/// Who dies.
#[derive(Clone, Copy, Debug)]
pub enum Death {
    /// Nobody.
    None,
    /// The first participant, at each of its accesses, while somebody looks once for who is dead.
    First,
    /// The first one, after so many accesses, alone; and then one who repairs it, at each of its accesses.
    Repairer(usize),
}

/// A model.
#[derive(Clone, Copy, Debug)]
pub struct Trade {
    /// What it shows.
    pub name: &'static str,
    /// Permits that are there.
    pub permits: u32,
    /// What each participant does.
    pub people: &'static [&'static [Step]],
    /// Who dies.
    pub death: Death,
    /// The most preemptions in an interleaving.
    pub preemptions: usize,
}

/// The kernel's locks, which do not mind how their holders end.
struct Kernel {
    alive: Vec<bool>,
    repairer: Option<usize>,
}

struct Place {
    trade: Trade,
    /// The word is in it, and what those sleep on who wait for permits.
    sender: Half,
    /// What those sleep on who wait until none is free.
    receiver: Half,
    table: Vec<Entry>,
    /// What the semaphore protects.
    guarded: Word,
    futex: Futex,
    /// Of those who wait until none is free.
    zero: Futex,
    kernel: Mutex<Kernel>,
}

impl Place {
    fn new(trade: Trade) -> Arc<Self> {
        // Two more entries: for who tends, and for who settles.
        let entries = trade.people.len() + 2;
        let place = Self {
            trade,
            sender: Half::new(),
            receiver: Half::new(),
            table: (0..entries).map(|_| Entry::new()).collect(),
            guarded: Word::new(0),
            futex: Futex::default(),
            zero: Futex::default(),
            kernel: Mutex::new(Kernel { alive: vec![true; entries], repairer: None }),
        };
        Permits::initialise(permits::word(&place.sender), trade.permits);
        for entry in &place.table {
            entry.card.state.store(RECEIVES | ACTIVE, Ordering::Release);
        }
        Arc::new(place)
    }

    fn memory(&self) -> Permits<'_> {
        let word = permits::word(&self.sender);
        Permits { word, table: &self.table, maximum: self.trade.permits }
    }

    fn kernel(&self) -> MutexGuard<'_, Kernel> {
        self.kernel.lock().unwrap()
    }

    fn wake(&self, most: usize) -> usize {
        park::ring(&self.sender);
        self.futex.wake(most)
    }

    /// Gives back what the dead have held; what `table.rs` does.
    fn tend(&self, own: usize) {
        model::system_call();
        let active = |i: usize| self.table[i].card.state.load(Ordering::Acquire) & ACTIVE != 0;
        let dead = (0..self.table.len()).filter(|&i| active(i) && !self.kernel().alive[i]);
        let dead: Vec<usize> = dead.collect();
        if dead.is_empty() {
            return;
        }
        match &mut self.kernel().repairer {
            Some(_) => return,
            free => *free = Some(own),
        }
        for victim in dead.into_iter().filter(|&victim| active(victim)) {
            permits::resolve(&self.memory(), victim).expect("the word is sound");
            let state = &self.table[victim].card.state;
            state.store(state.load(Ordering::Relaxed) & !ACTIVE, Ordering::Release);
        }
        self.kernel().repairer = None;
        self.wake(usize::MAX);
    }

    fn take(
        &self,
        account: &mut Account,
        none: &mut Option<Answered>,
        count: u32,
    ) -> Result<(), Refused> {
        let mem = &self.memory();
        if account.try_acquire_at_once(mem, count) {
            return Ok(());
        }
        let grant = account.try_acquire(mem, count)?;
        if let Some(none) = none.as_mut().filter(|_| grant.left == 0) {
            if none.must_wake(&self.sender) {
                park::ring(&self.receiver);
                self.zero.wake(usize::MAX);
            }
        }
        Ok(())
    }

    /// Whether somebody waits until none is free.
    fn is_watched(&self) -> bool {
        self.trade.people.iter().flat_map(|steps| *steps).any(|step| matches!(step, Zero))
    }

    fn wait_zero(&self) {
        loop {
            let sleep =
                Sleep::announce(&self.sender, &self.receiver, || Edge::ParkAnnounce.fence());
            if self.memory().watch().expect("the word is sound").free() == 0 {
                return;
            }
            if !self.zero.wait(&self.receiver.presence.epoch, sleep.expected()) {
                spin_hint();
            }
        }
    }

    fn acquire(&self, own: usize, account: &mut Account, none: &mut Option<Answered>, count: u32) {
        let mem = &self.memory();
        let mut slept = false;
        loop {
            match self.take(account, none, count) {
                Ok(()) => {
                    if slept && mem.find(1).is_ok() {
                        self.wake(1);
                    }
                    return;
                }
                Err(refused) => assert_eq!(refused, Refused::NotReady),
            }
            if count > 1 {
                mem.wait_for_many();
            }
            let sleep =
                Sleep::announce(&self.receiver, &self.sender, || Edge::ParkAnnounce.fence());
            if mem.find(count).is_ok() {
                continue;
            }
            slept = true;
            if !self.futex.wait(&self.sender.presence.epoch, sleep.expected()) {
                self.tend(own);
                spin_hint();
            }
        }
    }

    fn live(&self, own: usize) {
        let mem = &self.memory();
        let mut account = Account::open(mem, own);
        let mut answered = Answered::up_to_now(&self.receiver, false);
        answered.woke(true);
        // A fence: where nobody waits for that it would stand in for edges.
        let mut none = self.is_watched().then(|| Answered::up_to_now(&self.sender, false));
        // Who comes wakes everybody.
        none.iter_mut().for_each(|none| none.woke(true));
        for &step in self.trade.people[own] {
            match step {
                Acquire(count) => self.acquire(own, &mut account, &mut none, count),
                Try(count) => {
                    if self.take(&mut account, &mut none, count).is_err() {
                        return;
                    }
                }
                Use => {
                    let value = self.guarded.read();
                    self.guarded.write(value + 1);
                }
                Release(count) => {
                    let at_once = account.release_at_once(mem, count);
                    let before =
                        at_once.unwrap_or_else(|| account.release(mem, count).expect("it is held"));
                    if !answered.is_quiet(&self.receiver) && answered.must_wake(&self.receiver) {
                        let most = if before.is_many() { usize::MAX } else { count as usize };
                        answered.woke(self.wake(most) >= most);
                    }
                }
                Zero => self.wait_zero(),
            }
        }
        if account.held() > 0 {
            // It ends with them.
            self.bury(own);
        }
    }

    /// What the kernel does at the end of a process.
    fn bury(&self, own: usize) {
        let mut kernel = self.kernel();
        kernel.alive[own] = false;
        if kernel.repairer == Some(own) {
            kernel.repairer = None;
        }
    }

    /// Runs participant `own` to its end, which is its death if it makes `kill` accesses.
    fn run(&self, own: usize, kill: Option<usize>) -> End {
        let end = process(kill, || self.live(own));
        if end.killed {
            self.bury(own);
            self.futex.let_time_pass();
            self.zero.let_time_pass();
        }
        end
    }

    /// When all are done or dead: every permit is there, once.
    fn settle(&self, uses: u64) {
        let own = self.table.len() - 1;
        self.tend(own);
        let mem = &self.memory();
        let free = |expected| assert_eq!(mem.look().map(|state| state.free()), Ok(expected));
        free(self.trade.permits);
        assert!(self.guarded.read() >= uses, "somebody used what another had");
        // Whoever takes an entry next goes on in it.
        for entry in 0..self.table.len() {
            let mut account = Account::open(mem, entry);
            account.try_acquire(mem, self.trade.permits).expect("all are free");
            free(0);
            account.release(mem, self.trade.permits).expect("all are held");
        }
        free(self.trade.permits);
    }
}

impl Trade {
    /// Explores it.
    pub fn run(&self) {
        let trade = *self;
        let preemptions = Some(trade.preemptions);
        match trade.death {
            Death::None => explore(trade.name, preemptions, move || {
                trade.meet(None);
            }),
            Death::First => explore_kills(trade.name, preemptions, move |kill| trade.meet(kill)),
            Death::Repairer(first) => {
                explore_kills(trade.name, preemptions, move |kill| trade.repair(first, kill));
            }
        }
    }

    /// Times that somebody uses what is protected, of those who live.
    fn uses(&self, living: impl Iterator<Item = usize>) -> u64 {
        let uses = |own: usize| self.people[own].iter().filter(|step| matches!(step, Use)).count();
        living.map(uses).sum::<usize>() as u64
    }

    fn spawn(&self, place: &Arc<Place>, own: usize) -> thread::JoinHandle<()> {
        let place = Arc::clone(place);
        thread::spawn(move || {
            place.run(own, None);
        })
    }

    /// All take part at once; the first one is killed after `kill` accesses.
    fn meet(self, kill: Option<usize>) -> End {
        let place = Place::new(self);
        let others = self.people.len();
        let mut threads: Vec<_> = (1..others).map(|own| self.spawn(&place, own)).collect();
        if let Death::First = self.death {
            let there = Arc::clone(&place);
            threads.push(thread::spawn(move || there.tend(others)));
        }
        let end = place.run(0, kill);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let first = usize::from(end.killed);
        let tries = self.people.iter().flat_map(|steps| *steps).any(|step| matches!(step, Try(_)));
        place.settle(if tries { 0 } else { self.uses(first..others) });
        end
    }

    /// The first one dies alone after `first` accesses. Then a repairer dies after `kill`, or not, while all others
    /// take part.
    fn repair(self, first: usize, kill: Option<usize>) -> End {
        let place = Place::new(self);
        assert!(place.run(0, Some(first)).killed);
        let others = self.people.len();
        let threads: Vec<_> = (1..others).map(|own| self.spawn(&place, own)).collect();
        let end = process(kill, || place.tend(others));
        if end.killed {
            place.bury(others);
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        place.settle(self.uses(1..others));
        end
    }
}

const LOCK: &[Step] = &[Acquire(1), Use, Release(1)];
const TWICE: &[Step] = &[Acquire(1), Release(1), Acquire(1), Release(1)];
const IF_FREE: &[Step] = &[Try(1), Release(1)];

/// Nobody dies.
pub const UNDISTURBED: &[Trade] = &[
    Trade {
        name: "permits: a lock, two owners",
        permits: 1,
        people: &[LOCK, LOCK],
        death: Death::None,
        preemptions: 3,
    },
    Trade {
        name: "permits: a lock, three owners",
        permits: 1,
        people: &[LOCK, LOCK, LOCK],
        death: Death::None,
        preemptions: 1,
    },
    Trade {
        name: "permits: one waits for both of two",
        permits: 2,
        people: &[&[Acquire(2), Release(1), Release(1)], &[Acquire(2), Release(2)], TWICE],
        death: Death::None,
        preemptions: 1,
    },
    Trade {
        name: "permits: one waits until none is free",
        permits: 1,
        people: &[&[Zero], &[Acquire(1), Release(1), Acquire(1)]],
        death: Death::None,
        preemptions: 3,
    },
    Trade {
        name: "permits: one waits until none of three is free",
        permits: 3,
        people: &[&[Zero], &[Acquire(1), Acquire(1), Acquire(1)]],
        death: Death::None,
        preemptions: 2,
    },
    Trade {
        name: "permits: two wait until none is free",
        permits: 2,
        people: &[&[Zero], &[Zero], &[Acquire(1), Acquire(1), Release(1), Acquire(1)]],
        death: Death::None,
        preemptions: 1,
    },
];

/// The first participant dies.
pub const DEATHS: &[Trade] = &[
    Trade {
        name: "permits: one dies while another comes, and a third looks",
        permits: 2,
        people: &[&[Try(1), Release(1)], IF_FREE],
        death: Death::First,
        preemptions: 2,
    },
    Trade {
        name: "permits: one dies in its second turn",
        permits: 2,
        people: &[&[Try(1), Release(1), Try(2), Release(2)], IF_FREE],
        death: Death::First,
        preemptions: 1,
    },
    Trade {
        name: "permits: the owner of a lock dies, and another waits",
        permits: 1,
        people: &[LOCK, LOCK],
        death: Death::First,
        preemptions: 1,
    },
];

/// A repairer dies.
pub const REPAIRS: &[Trade] = &[
    Trade {
        name: "permits: a repairer of an owner dies",
        permits: 1,
        people: &[LOCK, LOCK],
        death: Death::Repairer(4),
        preemptions: 2,
    },
    Trade {
        name: "permits: a repairer of one with two dies",
        permits: 3,
        people: &[&[Try(2), Release(2)], &[Acquire(1), Release(1)]],
        death: Death::Repairer(5),
        preemptions: 2,
    },
];
