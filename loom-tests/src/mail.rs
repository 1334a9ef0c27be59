//! A mailbox of two types: who receives what, who is overlooked, and who sleeps for ever.

use crate::explore::explore;
use crate::futex::Futex;
use annulus::protocol::Blocked;
use annulus::protocol::claims::{Claims, words_for};
use annulus::protocol::layout::{ACTIVE, Entry, Half, RECEIVES};
use annulus::protocol::mailbox::{
    Found, Mail, RecvCursor, Select, SendCursor, is_removed, mark_removed, shape,
};
use annulus::protocol::park::{self, Answered, Sleep};
use annulus::sync::{Edge, Ordering, Word};
use loom::sync::Arc;
use loom::thread;

const TYPES: usize = 2;
const LONGEST: usize = 8;
/// Two senders, two receivers.
const PARTICIPANTS: usize = 4;

/// A model.
#[derive(Clone, Copy, Debug)]
pub struct Mailroom {
    /// What it shows.
    pub name: &'static str,
    /// The most preemptions in an interleaving.
    pub preemptions: usize,
    /// Messages of each type that there is room for.
    pub capacity: usize,
    /// What happens.
    pub scene: fn(&Arc<Office>),
}

struct Lane {
    sender: Half,
    receiver: Half,
    table: Vec<Entry>,
    words: Vec<Word>,
}

/// The segment, and the futex of those who wait for messages.
pub struct Office {
    capacity: usize,
    sender: Half,
    receiver: Half,
    lanes: Vec<Lane>,
    futex: Futex,
}

/// The bytes of the message that is sent as the `nth` of lane `lane`.
fn message(lane: usize, nth: u64) -> [u8; LONGEST] {
    (((lane as u64 + 1) << 32) | nth).to_le_bytes()
}

impl Office {
    fn new(capacity: usize) -> Arc<Self> {
        let lane = || {
            let words = words_for(shape(LONGEST), capacity).unwrap();
            let words: Vec<Word> = (0..words).map(|_| Word::new(0)).collect();
            Claims::initialise(&words, shape(LONGEST), capacity);
            let table: Vec<Entry> = (0..PARTICIPANTS).map(|_| Entry::new()).collect();
            for (i, entry) in table.iter().enumerate() {
                let role = if i < PARTICIPANTS / 2 { 0 } else { RECEIVES };
                entry.card.state.store(role | ACTIVE, Ordering::Release);
            }
            Lane { sender: Half::new(), receiver: Half::new(), table, words }
        };
        // loom's cells are not `Sync`: it is loom that checks who touches them.
        #[allow(clippy::arc_with_non_send_sync)]
        Arc::new(Self {
            capacity,
            sender: Half::new(),
            receiver: Half::new(),
            lanes: (0..TYPES).map(|_| lane()).collect(),
            futex: Futex::default(),
        })
    }

    fn claims(&self, own: usize) -> Vec<Claims<'_>> {
        let lanes = self.lanes.iter();
        lanes
            .map(|lane| Claims {
                sender: &lane.sender,
                receiver: &lane.receiver,
                table: &lane.table,
                own: &lane.table[own],
                words: &lane.words,
            })
            .collect()
    }

    /// Sends the messages, given as lanes and numbers there, and wakes whoever waits for them.
    fn send(&self, own: usize, messages: &[(usize, u64)]) {
        let lanes = self.claims(own);
        let mail = Mail { sender: &self.sender, lanes: &lanes };
        let mut cursor = SendCursor::new(mail, LONGEST, self.capacity);
        let mut answered: Vec<_> =
            (0..TYPES).map(|_| Answered::up_to_now(&self.receiver, false)).collect();
        park::ring(&self.sender);
        self.futex.wake_all();
        for &(lane, nth) in messages {
            cursor.try_send(mail, lane, &message(lane, nth)).expect("there is room");
            if answered[lane].must_wake(&self.receiver) {
                park::ring(&self.sender);
                self.futex.wake_for(1 << lane);
            }
        }
    }

    /// What the library's `try_recv` does.
    fn try_receive(
        &self,
        (mail, cursor): (Mail<'_>, &mut RecvCursor),
        select: Select,
    ) -> Option<Letter> {
        let wanted = select.lanes(TYPES).unwrap();
        let mut buffer = [0; LONGEST];
        loop {
            match cursor.find(mail, select, wanted) {
                Ok(found) => {
                    if cursor.take(mail, &found, &mut buffer) {
                        return Some(Letter::of(&found, buffer));
                    }
                    thread::yield_now();
                }
                Err(blocked) => {
                    assert_eq!(blocked, Blocked::NotReady);
                    return None;
                }
            }
        }
    }

    /// What the library's `recv` does; `None` says that the mailbox was removed.
    fn receive(&self, own: usize, select: Select) -> Option<Letter> {
        let lanes = self.claims(own);
        let mail = Mail { sender: &self.sender, lanes: &lanes };
        let mut cursor = RecvCursor::new(mail, LONGEST, self.capacity, own);
        let wanted = select.lanes(TYPES).unwrap();
        loop {
            if is_removed(&self.receiver) {
                return None;
            }
            if let Some(letter) = self.try_receive((mail, &mut cursor), select) {
                return Some(letter);
            }
            let sleep =
                Sleep::announce(&self.receiver, &self.sender, || Edge::ParkAnnounce.fence());
            if is_removed(&self.receiver) || cursor.find(mail, select, wanted).is_ok() {
                continue;
            }
            let epoch = &self.sender.presence.epoch;
            let woken = self.futex.wait_for(epoch, sleep.expected(), wanted as u32);
            assert!(woken, "the slice ends");
        }
    }

    fn try_receive_once(&self, own: usize, select: Select) -> Option<Letter> {
        let lanes = self.claims(own);
        let mail = Mail { sender: &self.sender, lanes: &lanes };
        let mut cursor = RecvCursor::new(mail, LONGEST, self.capacity, own);
        self.try_receive((mail, &mut cursor), select)
    }
}

/// A message that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Letter {
    lane: usize,
    nth: u64,
}

impl Letter {
    fn of(found: &Found, bytes: [u8; LONGEST]) -> Self {
        let word = u64::from_le_bytes(bytes);
        let (lane, nth) = ((word >> 32) as usize, word & u64::from(u32::MAX));
        assert_eq!((lane, found.length), (found.lane + 1, LONGEST), "torn: {word:#x}");
        Self { lane: found.lane, nth }
    }
}

fn beside(office: &Arc<Office>, body: impl FnOnce(&Office) + 'static) -> thread::JoinHandle<()> {
    let office = Arc::clone(office);
    thread::spawn(move || body(&office))
}

/// Two receivers, and a message of each type: each gets one, and nobody says that there is none.
fn two_receivers(office: &Arc<Office>) {
    office.send(0, &[(1, 0), (0, 1)]);
    let there = Arc::clone(office);
    let other = thread::spawn(move || there.try_receive_once(3, Select::Any));
    let one = office.try_receive_once(2, Select::Any).expect("there is one for each");
    let other = other.join().unwrap().expect("there is one for each");
    let mut both = [one, other];
    both.sort_unstable();
    assert_eq!(both, [Letter { lane: 0, nth: 1 }, Letter { lane: 1, nth: 0 }]);
}

/// The same where one of them wants one type only, which the other one may have taken.
fn two_selections(office: &Arc<Office>) {
    office.send(0, &[(1, 0), (0, 1)]);
    let there = Arc::clone(office);
    let other = thread::spawn(move || there.try_receive_once(3, Select::Type(2)));
    let highest = office.try_receive_once(2, Select::Highest).expect("there is one at least");
    let second = other.join().unwrap();
    match second {
        Some(letter) => assert_eq!((letter.lane, highest.lane), (1, 0)),
        None => assert_eq!(highest.lane, 1),
    }
}

/// Each of two who wait for a type of their own is woken, though the notifier answers for one type at a time.
fn each_is_woken(office: &Arc<Office>) {
    let other = beside(office, |office| {
        assert_eq!(office.receive(3, Select::Type(2)), Some(Letter { lane: 1, nth: 1 }));
    });
    let sender = beside(office, |office| office.send(0, &[(0, 0), (1, 1)]));
    assert_eq!(office.receive(2, Select::Type(1)), Some(Letter { lane: 0, nth: 0 }));
    other.join().unwrap();
    sender.join().unwrap();
}

/// Whoever waits hears of the removal, and nobody waits after it.
fn removal_is_heard(office: &Arc<Office>) {
    let waiters = [(2, Select::Any), (3, Select::Type(2))].map(|(own, select)| {
        beside(office, move |office| assert_eq!(office.receive(own, select), None))
    });
    assert!(mark_removed(&office.receiver));
    park::ring(&office.sender);
    office.futex.wake_all();
    waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
}

impl Mailroom {
    /// Explores it.
    pub fn run(&self) {
        let Self { name, preemptions, capacity, scene } = *self;
        explore(name, Some(preemptions), move || scene(&Office::new(capacity)));
    }
}

/// The models.
pub const MAILROOMS: &[Mailroom] = &[
    Mailroom {
        name: "mailbox: two receivers, a message of each type",
        preemptions: 2,
        capacity: 1,
        scene: two_receivers,
    },
    Mailroom {
        name: "mailbox: two receivers, two selections",
        preemptions: 2,
        capacity: 1,
        scene: two_selections,
    },
    Mailroom {
        name: "mailbox: two sleep for different types",
        preemptions: 1,
        capacity: 1,
        scene: each_is_woken,
    },
    Mailroom {
        name: "mailbox: two sleep, and it is removed",
        preemptions: 2,
        capacity: 1,
        scene: removal_is_heard,
    },
];
