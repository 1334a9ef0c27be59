//! Several who sleep until there is something to take, of whom as many are woken as there is for them.
//!
//! What they take is as simple as can be, a word for each thing: it is the waking that is looked at.

use crate::explore::explore;
use crate::futex::Futex;
use annulus::protocol::layout::Half;
use annulus::protocol::park::{self, Answered, Sleep};
use annulus::sync::{AtomicU64, Edge, Ordering};
use loom::sync::Arc;
use loom::thread;

/// Things to take, at most.
const THINGS: usize = 2;

/// A model.
#[derive(Clone, Copy, Debug)]
pub struct Herd {
    /// What it shows.
    pub name: &'static str,
    /// Which things each notifier publishes, one after the other.
    pub notifiers: &'static [&'static [usize]],
    /// Who sleeps, and takes one thing each.
    pub sleepers: usize,
    /// Whether a thing can be taken only after all those with lower numbers, as messages of a ring are.
    pub in_order: bool,
    /// The most preemptions in an interleaving.
    pub preemptions: usize,
}

struct Place {
    herd: Herd,
    notifier: Half,
    sleeper: Half,
    /// 0 before it is published, then 1, then 2 when it was taken.
    things: [AtomicU64; THINGS],
    futex: Futex,
}

impl Place {
    /// The first thing that can be taken now.
    fn ready(&self) -> impl Iterator<Item = usize> {
        let states = (0..THINGS).map(|thing| (thing, self.things[thing].load(Ordering::Acquire)));
        let in_order = self.herd.in_order;
        states
            .take_while(move |&(_, state)| !in_order || state != 0)
            .filter(|&(_, state)| state == 1)
            .map(|(thing, _)| thing)
    }

    fn try_take(&self) -> bool {
        self.ready().any(|thing| {
            let taken =
                self.things[thing].compare_exchange(1, 2, Ordering::AcqRel, Ordering::Relaxed);
            taken.is_ok()
        })
    }

    fn take(&self) {
        let mut slept = false;
        while !self.try_take() {
            let sleep =
                Sleep::announce(&self.sleeper, &self.notifier, || Edge::ParkAnnounce.fence());
            if self.ready().next().is_some() {
                continue;
            }
            slept = true;
            assert!(
                self.futex.wait(&self.notifier.presence.epoch, sleep.expected()),
                "the slice ends"
            );
        }
        if slept && self.ready().next().is_some() {
            park::ring(&self.notifier);
            self.futex.wake(1);
        }
    }

    fn publish(&self, answered: &mut Answered, thing: usize) {
        self.things[thing].store(1, Ordering::Release);
        if answered.must_wake(&self.sleeper) {
            park::ring(&self.notifier);
            answered.woke(self.futex.wake(1) == 1);
        }
    }
}

impl Herd {
    fn place(self) -> Arc<Place> {
        // loom's cells are not `Sync`: it is loom that checks who touches them.
        #[allow(clippy::arc_with_non_send_sync)]
        Arc::new(Place {
            herd: self,
            notifier: Half::new(),
            sleeper: Half::new(),
            things: [(); THINGS].map(|()| AtomicU64::new(0)),
            futex: Futex::default(),
        })
    }

    /// Everything is taken, and nobody sleeps for ever.
    pub fn run(&self) {
        let herd = *self;
        explore(herd.name, Some(herd.preemptions), move || {
            let place = herd.place();
            let sleepers = (1..herd.sleepers).map(|_| {
                let place = Arc::clone(&place);
                thread::spawn(move || place.take())
            });
            let sleepers: Vec<_> = sleepers.collect();
            let notifiers = herd.notifiers.iter().map(|&things| {
                let place = Arc::clone(&place);
                thread::spawn(move || {
                    let mut answered = Answered::up_to_now(&place.sleeper, false);
                    park::ring(&place.notifier);
                    place.futex.wake_all();
                    things.iter().for_each(|&thing| place.publish(&mut answered, thing));
                })
            });
            let notifiers: Vec<_> = notifiers.collect();
            place.take();
            sleepers.into_iter().chain(notifiers).for_each(|thread| thread.join().unwrap());
        });
    }
}

/// The models.
pub const HERDS: &[Herd] = &[
    Herd {
        name: "herd: one notifier, two sleepers",
        notifiers: &[&[0, 1]],
        sleepers: 2,
        in_order: false,
        preemptions: 2,
    },
    Herd {
        name: "herd: two notifiers, two sleepers",
        notifiers: &[&[0], &[1]],
        sleepers: 2,
        in_order: false,
        preemptions: 1,
    },
    Herd {
        name: "herd: two notifiers, two sleepers, what is published first may not be ready first",
        notifiers: &[&[0], &[1]],
        sleepers: 2,
        in_order: true,
        preemptions: 1,
    },
];
