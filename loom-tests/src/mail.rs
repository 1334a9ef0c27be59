//! A mailbox of two types, or one: who receives what, who is overlooked, and who sleeps for ever.

use crate::explore::{End, explore, explore_kills, process};
use crate::futex::Futex;
use annulus::protocol::Blocked;
use annulus::protocol::claims::{Claims, Outcome, resolve, words_for};
use annulus::protocol::layout::{ACTIVE, Entry, Half, RECEIVES};
use annulus::protocol::mailbox::{
    Berth, Found, Mail, Notifier, RecvCursor, Select, SendCursor, Whom, is_removed, mark_removed,
    raise, shape,
};
use annulus::protocol::park::{self, Sleep};
use annulus::sync::{AtomicU32, Edge, Ordering, Word, model, spin_hint};
use loom::sync::Arc;
use loom::thread;
use std::cell::Cell;

const TYPES: usize = 2;
const LONGEST: usize = 8;
/// Senders; the others are receivers.
const SENDERS: usize = 2;
const PARTICIPANTS: usize = 5;

/// A model.
#[derive(Clone, Copy, Debug)]
pub struct Mailroom {
    /// What it shows.
    pub name: &'static str,
    /// The most preemptions in an interleaving.
    pub preemptions: usize,
    /// Types of messages.
    pub types: usize,
    /// Messages of each type that there is room for.
    pub capacity: usize,
    /// What happens.
    pub scene: fn(&Arc<Office>),
}

struct Lane {
    sender: Half,
    receiver: Half,
    table: Vec<Entry>,
    /// Of those who wait for this type only.
    futex: Futex,
}

/// The segment, and the futexes of those who wait for messages.
pub struct Office {
    capacity: usize,
    sender: Half,
    receiver: Half,
    lanes: Vec<Lane>,
    /// Of all lanes, one after the other.
    words: Vec<Word>,
    /// Of those who wait for any type.
    for_any: Futex,
    /// Of those who wait for some types, and of listeners.
    for_some: Futex,
}

/// The bytes of the message that is sent as the `nth` of lane `lane`.
fn message(lane: usize, nth: u64) -> [u8; LONGEST] {
    (((lane as u64 + 1) << 32) | nth).to_le_bytes()
}

impl Office {
    fn new(capacity: usize, types: usize) -> Arc<Self> {
        let words_per_lane = words_for(shape(LONGEST), capacity).unwrap();
        let words: Vec<Word> = (0..types * words_per_lane).map(|_| Word::new(0)).collect();
        for lane in words.chunks(words_per_lane) {
            Claims::initialise(lane, shape(LONGEST), capacity);
        }
        let lane = || {
            let table: Vec<Entry> = (0..PARTICIPANTS).map(|_| Entry::new()).collect();
            for (i, entry) in table.iter().enumerate() {
                let role = if i < SENDERS { 0 } else { RECEIVES };
                entry.card.state.store(role | ACTIVE, Ordering::Release);
            }
            let (sender, receiver) = (Half::new(), Half::new());
            Lane { sender, receiver, table, futex: Futex::default() }
        };
        // loom's cells are not `Sync`: it is loom that checks who touches them.
        #[allow(clippy::arc_with_non_send_sync)]
        Arc::new(Self {
            capacity,
            sender: Half::new(),
            receiver: Half::new(),
            lanes: (0..types).map(|_| lane()).collect(),
            words,
            for_any: Futex::default(),
            for_some: Futex::default(),
        })
    }

    fn claims(&self, own: usize) -> Vec<Claims<'_>> {
        let words = self.words.chunks(self.words.len() / self.lanes.len());
        let lanes = self.lanes.iter().zip(words);
        lanes
            .map(|(lane, words)| Claims {
                sender: &lane.sender,
                receiver: &lane.receiver,
                table: &lane.table,
                own: &lane.table[own],
                words,
            })
            .collect()
    }

    fn mail<'a>(&'a self, lanes: &'a [Claims<'a>]) -> Mail<'a> {
        Mail { sender: &self.sender, receiver: &self.receiver, lanes }
    }

    /// The futex of an epoch.
    fn futex(&self, epoch: &AtomicU32) -> &Futex {
        let is_of = |half: &Half| std::ptr::eq(epoch, &raw const half.presence.epoch);
        let lane = self.lanes.iter().find(|lane| is_of(&lane.sender));
        match lane {
            Some(lane) => &lane.futex,
            None if is_of(&self.sender) => &self.for_any,
            None => {
                assert!(is_of(&self.receiver), "nobody waits for messages there");
                &self.for_some
            }
        }
    }

    /// Where those sleep who wait for messages, and what is rung for them.
    fn berths(&self) -> impl Iterator<Item = (&Half, &Half)> {
        let lanes = self.lanes.iter().map(|lane| (&lane.receiver, &lane.sender));
        lanes.chain([(&self.receiver, &self.sender), (&self.sender, &self.receiver)])
    }

    /// Sends the messages, given as lanes and numbers there, and wakes whoever waits for them.
    fn send(&self, own: usize, messages: &[(usize, u64)]) {
        let lanes = self.claims(own);
        let mail = self.mail(&lanes);
        let mut cursor = SendCursor::new(mail, LONGEST, self.capacity);
        let mut notifier = Notifier::up_to_now(mail, false);
        for (own, peer) in self.berths() {
            if own.presence.asleep.load(Ordering::Relaxed) != 0 {
                self.futex(park::ring(peer)).wake_all();
            }
        }
        for &(lane, nth) in messages {
            cursor.try_send(mail, lane, &message(lane, nth)).expect("there is room");
            notifier.notify(mail, lane, |half, whom| match whom {
                Whom::One => self.futex(park::ring(half)).wake(1) as u32,
                Whom::All(bits) => {
                    self.futex(park::ring(half)).wake_for(bits);
                    0
                }
            });
        }
    }

    /// Sends messages, given in the same way, to receivers that do not sleep.
    fn put(&self, own: usize, messages: &[(usize, u64)]) {
        // Receivers load the stamps before it does.
        model::own(&self.sender, &self.words);
        let lanes = self.claims(own);
        let mail = self.mail(&lanes);
        let mut cursor = SendCursor::new(mail, LONGEST, self.capacity);
        for &(lane, nth) in messages {
            cursor.try_send(mail, lane, &message(lane, nth)).expect("there is room");
        }
    }

    /// What the library's `try_recv` does.
    fn try_receive(
        &self,
        (mail, cursor): (Mail<'_>, &mut RecvCursor),
        select: Select,
    ) -> Option<Letter> {
        let wanted = select.lanes(self.lanes.len()).unwrap();
        let mut buffer = [0; LONGEST];
        loop {
            match cursor.find(mail, select, wanted, false) {
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
        let mail = self.mail(&lanes);
        let mut cursor = RecvCursor::new(mail, LONGEST, self.capacity, own);
        let wanted = select.lanes(self.lanes.len()).unwrap();
        let berth = Berth::of_receiver(mail, wanted);
        let mut slept = false;
        loop {
            if is_removed(&self.receiver) {
                return None;
            }
            if let Some(letter) = self.try_receive((mail, &mut cursor), select) {
                if slept && berth.in_turn && cursor.has_more(mail, wanted) {
                    self.futex(park::ring(berth.peer)).wake(1);
                }
                return Some(letter);
            }
            loop {
                let sleep = Sleep::announce(berth.own, berth.peer, || Edge::ParkAnnounce.fence());
                let found = cursor.find(mail, select, wanted, true);
                if is_removed(&self.receiver) || found.is_ok() {
                    break;
                }
                let epoch = &berth.peer.presence.epoch;
                if !self.futex(epoch).wait_for(epoch, sleep.expected(), berth.bits) {
                    // The end of a slice.
                    spin_hint();
                }
                slept = true;
            }
        }
    }

    /// What the library's `remove` does.
    fn remove(&self) {
        assert!(mark_removed(&self.receiver));
        for (_, peer) in self.berths() {
            self.futex(park::ring(peer)).wake_all();
        }
    }

    /// Ends the slices of all who sleep.
    fn let_time_pass(&self) {
        let lanes = self.lanes.iter().map(|lane| &lane.futex);
        lanes.chain([&self.for_any, &self.for_some]).for_each(Futex::let_time_pass);
    }

    fn try_receive_once(&self, own: usize, select: Select) -> Option<Letter> {
        let lanes = self.claims(own);
        let mail = self.mail(&lanes);
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

/// Each of two who wait for a type of their own is woken.
fn each_is_woken(office: &Arc<Office>) {
    let other = beside(office, |office| {
        assert_eq!(office.receive(3, Select::Type(2)), Some(Letter { lane: 1, nth: 1 }));
    });
    let sender = beside(office, |office| office.send(0, &[(0, 0), (1, 1)]));
    assert_eq!(office.receive(2, Select::Type(1)), Some(Letter { lane: 0, nth: 0 }));
    other.join().unwrap();
    sender.join().unwrap();
}

/// One who waits for any type and one who waits for one type, and a message for each: one is woken in each place, and
/// whoever finds nothing sleeps on until there is something.
fn each_place_is_woken(office: &Arc<Office>) {
    let other = beside(office, |office| {
        assert!(office.receive(3, Select::Any).is_some());
    });
    let sender = beside(office, |office| office.send(0, &[(0, 0), (0, 1)]));
    assert!(office.receive(2, Select::Type(1)).is_some());
    other.join().unwrap();
    sender.join().unwrap();
}

/// Two who wait for any type, and two messages: as many are woken as there are messages.
fn as_many_as_there_are(office: &Arc<Office>) {
    let other = beside(office, |office| assert!(office.receive(3, Select::Any).is_some()));
    let sender = beside(office, |office| office.send(0, &[(0, 0), (0, 1)]));
    assert!(office.receive(2, Select::Any).is_some());
    other.join().unwrap();
    sender.join().unwrap();
}

/// Four messages of which senders could tell one sleeper only, because the first one was filled last, and two who wait for
/// any type. A third receiver, which does not sleep, takes two of the messages, so that it tells nobody of the others.
fn who_was_woken_passes_it_on(office: &Arc<Office>) {
    let lanes = office.claims(0);
    let mail = office.mail(&lanes);
    let mut sender = SendCursor::new(mail, LONGEST, office.capacity);
    let mut notifier = Notifier::up_to_now(mail, false);
    let waiters = [2, 3].map(|own| {
        beside(office, move |office| assert!(office.receive(own, Select::Any).is_some()))
    });
    office.for_any.wait_for_sleepers(waiters.len());
    for nth in 0..4 {
        sender.try_send(mail, 0, &message(0, nth)).expect("there is room");
    }
    notifier.notify(mail, 0, |half, _| office.futex(park::ring(half)).wake(1) as u32);
    thread::yield_now();
    let lanes = office.claims(4);
    let mail = office.mail(&lanes);
    let mut cursor = RecvCursor::new(mail, LONGEST, office.capacity, 4);
    for _ in 0..2 {
        assert!(office.try_receive((mail, &mut cursor), Select::Any).is_some());
    }
    waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
}

/// A sender that is killed after `kill` accesses sends what is to be received in this order, beside a receiver that wants
/// `select`. What has come is received in the order of the sends: a later one is not seen without all before it.
fn in_order(
    office: &Arc<Office>,
    (messages, select): (&'static [(usize, u64)], Select),
    kill: Option<usize>,
) -> End {
    let there = Arc::clone(office);
    let sender = thread::spawn(move || process(kill, || there.put(0, messages)));
    let lanes = office.claims(2);
    let mail = office.mail(&lanes);
    let mut cursor = RecvCursor::new(mail, LONGEST, office.capacity, 2);
    // It may have sent before.
    model::own(&office.receiver, &[]);
    let mut received: Vec<Letter> = Vec::new();
    for _ in messages {
        received.extend(office.try_receive((mail, &mut cursor), select));
    }
    let end = sender.join().unwrap();
    while let Some(letter) = office.try_receive((mail, &mut cursor), select) {
        received.push(letter);
    }
    assert!(received.is_sorted_by_key(|letter| letter.nth), "overlooked: {received:?}");
    let last = messages.last().map(|message| message.1);
    assert!(end.killed || received.last().map(|letter| letter.nth) == last, "{received:?}");
    end
}

/// The lane that is looked at first is empty when it is looked at, and is sent to before the other one.
fn second_look(office: &Arc<Office>, kill: Option<usize>) -> End {
    in_order(office, (&[(0, 0), (1, 1)], Select::Any), kill)
}

/// The same by type, where the first one is the one that is wanted first.
fn second_look_by_type(office: &Arc<Office>, kill: Option<usize>) -> End {
    in_order(office, (&[(0, 0), (1, 1)], Select::AtMost(2)), kill)
}

/// The same from above.
fn second_look_from_above(office: &Arc<Office>, kill: Option<usize>) -> End {
    in_order(office, (&[(1, 0), (0, 1)], Select::Highest), kill)
}

/// A receiver that knows of a message looks at the other lane, takes what it knows of, and then finds the next one there:
/// by its number it knows that nothing goes before it which it has not seen.
fn no_second_look(office: &Arc<Office>, kill: Option<usize>) -> End {
    office.put(1, &[(1, 0)]);
    in_order(office, (&[(0, 1), (1, 2)], Select::Any), kill)
}

/// One looks at a message, without a claim, while another one takes it and a shorter one is put in its place.
fn looked_at(office: &Arc<Office>) {
    let send = |office: &Office, bytes: &[u8]| {
        let lanes = office.claims(0);
        let mail = office.mail(&lanes);
        let mut cursor = SendCursor::new(mail, LONGEST, office.capacity);
        cursor.try_send(mail, 0, bytes).expect("there is room");
    };
    let (first, second) = ([1; LONGEST], [2; LONGEST / 2]);
    send(office, &first);
    let other = beside(office, move |office| {
        model::own(&office.receiver, &office.words);
        let lanes = office.claims(3);
        let mail = office.mail(&lanes);
        let mut cursor = RecvCursor::new(mail, LONGEST, office.capacity, 3);
        let found = cursor.find(mail, Select::Type(1), 1, false).expect("nobody else takes it");
        assert!(cursor.take(mail, &found, &mut [0; LONGEST]));
        send(office, &second);
    });
    let lanes = office.claims(2);
    let mail = office.mail(&lanes);
    let mut cursor = RecvCursor::new(mail, LONGEST, office.capacity, 2);
    model::reads_at_risk(true);
    if let Ok(found) = cursor.find(mail, Select::Type(1), 1, false) {
        let sent: &[u8] = if found.number == 0 { &first } else { &second };
        assert_eq!(found.length, sent.len(), "a number of one message, a length of another");
        let mut buffer = [0; LONGEST];
        if cursor.copy(mail, &found, &mut buffer) {
            assert_eq!(&buffer[..found.length], sent, "torn");
        }
    }
    other.join().unwrap();
    // The next model begins on this thread.
    model::reads_at_risk(false);
}

/// A receiver is killed while it receives. What it has not taken, the next one gets, who has resolved what the dead one
/// has left in both lanes; nobody gets a message that another one had.
fn a_receiver_dies(office: &Arc<Office>, kill: Option<usize>) -> End {
    const VICTIM: usize = 2;
    office.send(0, &[(0, 0), (1, 1)]);
    let first = Cell::new(None);
    let end = process(kill, || first.set(office.try_receive_once(VICTIM, Select::Any)));
    let lanes = office.claims(3);
    let mail = office.mail(&lanes);
    let mut cursor = RecvCursor::new(mail, LONGEST, office.capacity, 3);
    if end.killed {
        for lane in &lanes {
            let is_alive = |other| other != VICTIM;
            let outcome = resolve(lane, shape(LONGEST), office.capacity, VICTIM, is_alive);
            assert!(matches!(outcome, Outcome::Resolved(_)), "nobody else has anything");
        }
        raise(&office.receiver);
    }
    let mut received: Vec<Letter> = first.get().into_iter().collect();
    while let Some(letter) = office.try_receive((mail, &mut cursor), Select::Any) {
        received.push(letter);
    }
    let both = [Letter { lane: 0, nth: 0 }, Letter { lane: 1, nth: 1 }];
    // It has taken the first one, or nobody has.
    assert!(received == both || end.killed && received == both[1..], "{received:?}");
    end
}

/// Who removes it is killed on the way. Whoever waits hears of it all the same, when its slice ends at the latest.
fn who_removes_dies(office: &Arc<Office>, kill: Option<usize>) -> End {
    let waiter = beside(office, |office| assert_eq!(office.receive(3, Select::Type(2)), None));
    let end = process(kill, || office.remove());
    if end.killed {
        // It has removed it, or the next one does.
        mark_removed(&office.receiver);
        office.let_time_pass();
    }
    waiter.join().unwrap();
    end
}

/// Whoever waits hears of the removal, and nobody waits after it.
fn removal_is_heard(office: &Arc<Office>) {
    let waiters = [(2, Select::Any), (3, Select::Type(2))].map(|(own, select)| {
        beside(office, move |office| assert_eq!(office.receive(own, select), None))
    });
    office.remove();
    waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
}

impl Mailroom {
    /// Explores it.
    pub fn run(&self) {
        let Self { name, preemptions, types, capacity, scene } = *self;
        explore(name, Some(preemptions), move || scene(&Office::new(capacity, types)));
    }
}

/// A model of which somebody is killed: the sender, if nothing else is said.
#[derive(Clone, Copy, Debug)]
pub struct Accident {
    /// What it shows.
    pub name: &'static str,
    /// The most preemptions in an interleaving.
    pub preemptions: usize,
    /// Messages of each type that there is room for.
    pub capacity: usize,
    /// What happens, with somebody's death after so many accesses; that one's end.
    pub scene: fn(&Arc<Office>, Option<usize>) -> End,
}

impl Accident {
    /// Explores it with nobody killed.
    pub fn run(&self) {
        let Self { name, preemptions, capacity, scene } = *self;
        explore(name, Some(preemptions), move || {
            scene(&Office::new(capacity, TYPES), None);
        });
    }

    /// Explores it with that one killed at each of its accesses.
    pub fn run_with_kills(&self) {
        let Self { name, preemptions, capacity, scene } = *self;
        explore_kills(name, Some(preemptions), move |kill| {
            scene(&Office::new(capacity, TYPES), kill)
        });
    }
}

/// The models of the order across types.
pub const ACCIDENTS: &[Accident] = &[
    Accident {
        name: "mailbox: a second look, any type",
        preemptions: 1,
        capacity: 1,
        scene: second_look,
    },
    Accident {
        name: "mailbox: a second look, from below",
        preemptions: 1,
        capacity: 1,
        scene: second_look_by_type,
    },
    Accident {
        name: "mailbox: a second look, from above",
        preemptions: 1,
        capacity: 1,
        scene: second_look_from_above,
    },
    Accident {
        name: "mailbox: no second look",
        preemptions: 1,
        capacity: 2,
        scene: no_second_look,
    },
];

/// The models of others' deaths.
pub const DEATHS: &[Accident] = &[
    Accident {
        name: "mailbox: a receiver dies, and another one comes",
        preemptions: 1,
        capacity: 1,
        scene: a_receiver_dies,
    },
    Accident {
        name: "mailbox: who removes it dies",
        preemptions: 2,
        capacity: 1,
        scene: who_removes_dies,
    },
];

/// The models.
pub const MAILROOMS: &[Mailroom] = &[
    Mailroom {
        name: "mailbox: a message that is taken while it is looked at",
        preemptions: 1,
        types: TYPES,
        capacity: 1,
        scene: looked_at,
    },
    Mailroom {
        name: "mailbox: two receivers, a message of each type",
        preemptions: 2,
        types: TYPES,
        capacity: 1,
        scene: two_receivers,
    },
    Mailroom {
        name: "mailbox: two receivers, two selections",
        preemptions: 2,
        types: TYPES,
        capacity: 1,
        scene: two_selections,
    },
    Mailroom {
        name: "mailbox: two sleep for different types",
        preemptions: 1,
        types: TYPES,
        capacity: 1,
        scene: each_is_woken,
    },
    Mailroom {
        name: "mailbox: two sleep, one for any type",
        preemptions: 1,
        types: TYPES,
        capacity: 2,
        scene: each_place_is_woken,
    },
    Mailroom {
        name: "mailbox: two sleep for any type",
        preemptions: 1,
        types: 1,
        capacity: 2,
        scene: as_many_as_there_are,
    },
    Mailroom {
        name: "mailbox: two sleep, one is woken, a third one takes what it was woken for",
        preemptions: 1,
        types: 1,
        capacity: 4,
        scene: who_was_woken_passes_it_on,
    },
    Mailroom {
        name: "mailbox: two sleep, and it is removed",
        preemptions: 2,
        types: TYPES,
        capacity: 1,
        scene: removal_is_heard,
    },
];
