//! Events: those who raise flags and those who wait for them.

use crate::explore::{End, explore, explore_kills, process};
use crate::futex::Futex;
use annulus::protocol::flags::{Flags, Wanted};
use annulus::protocol::layout::Half;
use annulus::protocol::park::{self, Answered, Sleep};
use annulus::sync::{Edge, Word};
use loom::sync::Arc;
use loom::thread;

const FLAGS: usize = 2;

/// What a participant does.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Writes what goes with these flags, and raises them.
    Raise(u64),
    /// Waits for one of these, and takes those that are raised; so often, until it has had all.
    Take(u64),
    /// Waits for all of these.
    All(u64),
    /// Waits for one of these.
    Any(u64),
}
use Step::{All, Any, Raise, Take};

/// A model.
#[derive(Clone, Copy, Debug)]
pub struct Signals {
    /// What it shows.
    pub name: &'static str,
    /// What each participant does.
    pub people: &'static [&'static [Step]],
    /// Whether the first one dies, at each of its accesses. Then another one raises what it would have raised, and
    /// time passes.
    pub dies: bool,
    /// The most preemptions in an interleaving.
    pub preemptions: usize,
}

struct Place {
    signals: Signals,
    sender: Half,
    receiver: Half,
    /// What goes with each flag.
    words: [Word; FLAGS],
    futex: Futex,
}

impl Place {
    fn flags(&self) -> Flags<'_> {
        Flags { word: &self.sender.cursor.position }
    }

    /// What goes with the flags of `found` is there. Nothing goes with those of one who dies: who says it again would
    /// write what others may be reading.
    fn read(&self, found: u64) {
        for flag in (0..FLAGS).filter(|flag| found >> flag & 1 == 1 && !self.signals.dies) {
            assert_eq!(self.words[flag].read(), 1, "flag {flag} without what goes with it");
        }
    }

    fn sleep_until(&self, attempt: impl Fn(Flags<'_>) -> Option<u64>) -> u64 {
        loop {
            let sleep =
                Sleep::announce(&self.receiver, &self.sender, || Edge::ParkAnnounce.fence());
            if let Some(found) = attempt(self.flags()) {
                self.read(found);
                return found;
            }
            let woken = self.futex.wait(&self.sender.presence.epoch, sleep.expected());
            if !woken {
                annulus::sync::spin_hint();
            }
        }
    }

    fn raise(&self, answered: &mut Answered, mask: u64) {
        self.flags().raise(mask);
        if answered.must_wake(&self.receiver) {
            park::ring(&self.sender);
            self.futex.wake_all();
            answered.woke(false);
        }
    }

    /// Does what participant `own` does, or what it raises only.
    fn live(&self, own: usize, only_raises: bool) {
        let mut answered = Answered::up_to_now(&self.receiver, false);
        answered.woke(true);
        for &step in self.signals.people[own] {
            if only_raises && !matches!(step, Raise(_)) {
                continue;
            }
            match step {
                Raise(mask) => {
                    let flags = (0..FLAGS).filter(|flag| mask >> flag & 1 == 1);
                    if !self.signals.dies {
                        flags.for_each(|flag| self.words[flag].write(1));
                    }
                    self.raise(&mut answered, mask);
                }
                Take(mask) => {
                    let mut missing = mask;
                    while missing != 0 {
                        missing &= !self.sleep_until(|flags| {
                            Some(flags.take(missing)).filter(|&taken| taken != 0)
                        });
                    }
                }
                All(mask) => drop(self.sleep_until(|flags| flags.look(Wanted::All(mask)))),
                Any(mask) => drop(self.sleep_until(|flags| flags.look(Wanted::Any(mask)))),
            }
        }
    }
}

impl Signals {
    /// Explores it.
    pub fn run(&self) {
        let signals = *self;
        let preemptions = Some(signals.preemptions);
        if signals.dies {
            return explore_kills(signals.name, preemptions, move |kill| signals.meet(kill));
        }
        explore(signals.name, preemptions, move || {
            signals.meet(None);
        });
    }

    fn meet(self, kill: Option<usize>) -> End {
        // loom's cells are not `Sync`: it is loom that checks who touches them.
        #[allow(clippy::arc_with_non_send_sync)]
        let place = Arc::new(Place {
            signals: self,
            sender: Half::new(),
            receiver: Half::new(),
            words: [(); FLAGS].map(|()| Word::new(0)),
            futex: Futex::default(),
        });
        let others = (1..self.people.len()).map(|own| {
            let place = Arc::clone(&place);
            thread::spawn(move || place.live(own, false))
        });
        let others: Vec<_> = others.collect();
        let end = process(kill, || place.live(0, false));
        if end.killed {
            // Somebody else says it, and the slices of those end who sleep through it.
            process(None, || place.live(0, true));
            place.futex.let_time_pass();
        }
        others.into_iter().for_each(|thread| thread.join().unwrap());
        // What nobody takes is there in the end, whoever has died.
        let of = |kind: fn(&Step) -> u64| {
            self.people.iter().flat_map(|steps| *steps).fold(0, |mask, step| mask | kind(step))
        };
        let raised = of(|step| if let Raise(mask) = *step { mask } else { 0 });
        let taken = of(|step| if let Take(mask) = *step { mask } else { 0 });
        let kept = raised & !taken;
        assert_eq!(place.flags().value() & kept, kept, "a flag is lost");
        end
    }
}

/// The models.
pub const UNDISTURBED: &[Signals] = &[
    Signals {
        name: "flags: one raises, one waits, one takes",
        people: &[&[Raise(1), Raise(2)], &[Any(2)], &[Take(1)]],
        dies: false,
        preemptions: 2,
    },
    Signals {
        name: "flags: two raise, one waits for both",
        people: &[&[All(3)], &[Raise(1)], &[Raise(2)]],
        dies: false,
        preemptions: 2,
    },
    Signals {
        name: "flags: two raise, one takes both",
        people: &[&[Take(3)], &[Raise(1)], &[Raise(2)]],
        dies: false,
        preemptions: 2,
    },
];

/// A raiser dies, or one who waits, or a taker.
pub const DEATHS: &[Signals] = &[
    Signals {
        name: "flags: the raiser dies",
        people: &[&[Raise(1), Raise(2)], &[All(3)]],
        dies: true,
        preemptions: 2,
    },
    Signals {
        name: "flags: a taker dies beside one who waits",
        people: &[&[Take(1)], &[Raise(1), Raise(2)], &[Any(2)]],
        dies: true,
        preemptions: 1,
    },
    Signals {
        name: "flags: one who waits dies beside another",
        people: &[&[Any(1)], &[Raise(1)], &[Any(1)]],
        dies: true,
        preemptions: 1,
    },
];
