//! A descriptor to poll: one thread announces and looks, another one of its process sleeps and makes the descriptor readable.
//!
//! The order of the steps is that of the library's `pollable/lookout.rs`; what is waited for are an event's flags.

use crate::explore::{End, explore, explore_kills, process};
use crate::futex::Futex;
use annulus::protocol::flags::{Flags, Wanted};
use annulus::protocol::layout::Half;
use annulus::protocol::park::{self, Answered, Sleep};
use annulus::sync::Edge;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// What is left out, to show that it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Who polls does not announce the sleep of the other thread.
    ArmsInSilence,
    /// The other thread does not announce its sleeps.
    SleepsInSilence,
}

/// A model.
#[derive(Clone, Copy, Debug)]
pub struct Poller {
    /// What it shows.
    pub name: &'static str,
    /// Flags that the peer raises, one after the other.
    pub raised: &'static [u64],
    /// Those of them that are polled for.
    pub wanted: u64,
    /// Whether the peer dies, at each of its accesses. Then another one raises the same, and time passes.
    pub dies: bool,
    /// The most preemptions in an interleaving.
    pub preemptions: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Readable,
    Armed,
    Closing,
}

/// The kernel's `eventfd`.
#[derive(Default)]
struct Descriptor {
    readable: Mutex<bool>,
    changed: Condvar,
}

impl Descriptor {
    fn set(&self) {
        *self.readable.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn clear(&self) -> bool {
        std::mem::take(&mut *self.readable.lock().unwrap())
    }

    fn wait(&self) {
        let mut readable = self.readable.lock().unwrap();
        while !*readable {
            readable = self.changed.wait(readable).unwrap();
        }
    }
}

struct Place {
    poller: Poller,
    fault: Option<Fault>,
    sender: Half,
    receiver: Half,
    futex: Futex,
    phase: Mutex<Phase>,
    descriptor: Descriptor,
    written: AtomicBool,
}

impl Place {
    fn flags(&self) -> Flags<'_> {
        Flags { word: &self.sender.cursor.position }
    }

    fn look(&self) -> bool {
        self.flags().look(Wanted::Any(self.poller.wanted)).is_some()
    }

    fn announce(&self, fault: Fault) -> u32 {
        if self.fault == Some(fault) {
            return self.epoch();
        }
        let barrier = || Edge::ParkAnnounce.fence();
        Sleep::announce(&self.receiver, &self.sender, barrier).expected()
    }

    fn epoch(&self) -> u32 {
        Edge::RingLoad.acquire(&self.sender.presence.epoch)
    }

    /// What the peer does.
    fn raise(&self) {
        let mut answered = Answered::up_to_now(&self.receiver, false);
        answered.woke(true);
        for &mask in self.poller.raised {
            self.flags().raise(mask);
            if answered.must_wake(&self.receiver) {
                park::ring(&self.sender);
                self.futex.wake_all();
                answered.woke(false);
            }
        }
    }

    /// What the thread does that sleeps.
    fn sleep(&self) {
        loop {
            let mut phase = self.phase.lock().unwrap();
            let expected = match *phase {
                Phase::Closing => return,
                Phase::Readable => self.epoch(),
                Phase::Armed => {
                    let expected = (!self.look()).then(|| self.announce(Fault::SleepsInSilence));
                    match expected.filter(|_| !self.look()) {
                        Some(expected) => expected,
                        None => {
                            *phase = Phase::Readable;
                            self.written.store(false, Ordering::Relaxed);
                            drop(phase);
                            self.descriptor.set();
                            self.written.store(true, Ordering::Release);
                            continue;
                        }
                    }
                }
            };
            drop(phase);
            if !self.futex.wait(&self.sender.presence.epoch, expected) {
                annulus::sync::spin_hint();
            }
        }
    }

    /// Whether the descriptor is to be waited for.
    fn arm(&self) -> bool {
        let mut phase = self.phase.lock().unwrap();
        if *phase == Phase::Readable {
            let is_written = self.written.load(Ordering::Acquire);
            if !self.descriptor.clear() && !is_written {
                return true;
            }
        }
        *phase = Phase::Armed;
        self.announce(Fault::ArmsInSilence);
        if self.look() {
            *phase = Phase::Readable;
            self.descriptor.set();
            self.written.store(true, Ordering::Release);
            return false;
        }
        true
    }

    /// What the thread does that polls, until it has had all that it wants.
    fn poll(&self) {
        let mut missing = self.poller.wanted;
        loop {
            missing &= !self.flags().take(missing);
            if missing == 0 {
                return;
            }
            if self.arm() {
                self.descriptor.wait();
            }
        }
    }
}

impl Poller {
    /// Explores it, without what `fault` leaves out.
    pub fn run(&self, fault: Option<Fault>) {
        let (poller, preemptions) = (*self, Some(self.preemptions));
        if poller.dies {
            return explore_kills(poller.name, preemptions, move |kill| poller.meet(fault, kill));
        }
        explore(poller.name, preemptions, move || {
            poller.meet(fault, None);
        });
    }

    fn meet(self, fault: Option<Fault>, kill: Option<usize>) -> End {
        // loom's cells are not `Sync`: it is loom that checks who touches them.
        #[allow(clippy::arc_with_non_send_sync)]
        let place = Arc::new(Place {
            poller: self,
            fault,
            sender: Half::new(),
            receiver: Half::new(),
            futex: Futex::default(),
            phase: Mutex::new(Phase::Readable),
            descriptor: Descriptor { readable: Mutex::new(true), ..Descriptor::default() },
            written: AtomicBool::new(true),
        });
        let sleeper = {
            let place = Arc::clone(&place);
            thread::spawn(move || place.sleep())
        };
        let poller = {
            let place = Arc::clone(&place);
            thread::spawn(move || {
                place.poll();
                *place.phase.lock().unwrap() = Phase::Closing;
                // The library wakes the thread until it has ended.
                place.futex.let_time_pass();
            })
        };
        let end = process(kill, || place.raise());
        if end.killed {
            process(None, || place.raise());
            place.futex.let_time_pass();
        }
        poller.join().unwrap();
        sleeper.join().unwrap();
        end
    }
}

/// Nobody dies.
pub const UNDISTURBED: &[Poller] = &[
    Poller {
        name: "pollable: two flags that are wanted",
        raised: &[1, 2],
        wanted: 3,
        dies: false,
        preemptions: 2,
    },
    Poller {
        name: "pollable: one that is not, and one that is",
        raised: &[1, 2],
        wanted: 2,
        dies: false,
        preemptions: 2,
    },
];

/// The peer dies.
pub const DEATHS: &[Poller] = &[Poller {
    name: "pollable: the peer dies",
    raised: &[1, 2],
    wanted: 2,
    dies: true,
    preemptions: 1,
}];
