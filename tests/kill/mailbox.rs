//! Killed after every instruction of a send into, or a receive from, a lane of a mailbox that is not the first; and
//! while what such a one has left is resolved in all lanes.

use std::hint::black_box;
use std::sync::atomic::Ordering;
use std::time::Duration;

use annulus::{
    MailReceiver, MailRecvError, MailSendError, MailSender, Mailbox, Place, Select, Wait,
};

use crate::support::deadline::poll;
use crate::support::process::{Peer, sleeps_in_futex};
use crate::support::ptrace::{Tracee, Walk};
use crate::support::shared::SharedWords;
use crate::support::sweep::{CHILD_LIFE, Case, Points, Row, Verdict, die_at, report, sweep, walk};

pub const TYPES: usize = 3;
pub const CAPACITY: usize = 4;
const LONGEST: usize = 20;
/// The lane that is sent to.
pub const KIND: u8 = 3;
/// At how many points of its operation the first of two dies.
const DEATHS: usize = 24;
/// At how many points the second one dies, for each death of the first.
const REPAIRS: usize = 24;

/// Messages, as their types and tags.
pub type Letters = Vec<(u8, u8)>;

/// All bytes of a message follow from its tag, so that a torn one shows; lengths differ.
pub fn message(tag: u8) -> Vec<u8> {
    (0..=tag % LONGEST as u8).map(|i| tag.wrapping_mul(7).wrapping_add(i)).collect()
}

pub fn fresh() -> Result<Mailbox, String> {
    let place = Place::memfd("kill").map_err(|error| error.to_string())?;
    let builder = Mailbox::builder(CAPACITY, LONGEST).types(TYPES).participants(4);
    builder.create(place).map_err(|error| format!("creates: {error}"))
}

/// What is in the mailbox before.
#[derive(Clone, Debug)]
struct State {
    name: &'static str,
    /// Messages that have passed in the lane before.
    passed: usize,
    letters: Letters,
}

impl State {
    fn all() -> Vec<Self> {
        let state =
            |name, passed, letters: &[(u8, u8)]| Self { name, passed, letters: letters.into() };
        vec![
            state("empty", 0, &[]),
            state("next lap", CAPACITY, &[]),
            state("some", 1, &[(2, 1), (3, 2), (1, 3), (3, 4), (2, 5)]),
            state("full", 2, &[(3, 1), (3, 2), (3, 3), (1, 4), (3, 5)]),
        ]
    }

    fn named(name: &str) -> Self {
        Self::all().into_iter().find(|state| state.name == name).expect("there is such a state")
    }

    fn count(&self, kind: u8) -> usize {
        self.letters.iter().filter(|letter| letter.0 == kind).count()
    }

    fn set_up(&self) -> Result<Mailbox, String> {
        let mailbox = fresh()?;
        let failed = |error: &dyn std::error::Error| format!("sets up: {error}");
        let mut tx = mailbox.sender().map_err(|error| failed(&error))?;
        let mut rx = mailbox.receiver().map_err(|error| failed(&error))?;
        for _ in 0..self.passed {
            tx.try_send(KIND, &message(200)).map_err(|error| failed(&error))?;
            rx.try_recv(Select::Any, &mut [0; LONGEST]).map_err(|error| failed(&error))?;
        }
        for &(kind, tag) in &self.letters {
            tx.try_send(kind, &message(tag)).map_err(|error| failed(&error))?;
        }
        Ok(mailbox)
    }
}

/// What is done to the mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Send(u8),
    Receive(Select),
}

impl Deed {
    /// What is left of `letters` when it is done, if it can be done.
    fn done_to(self, letters: &Letters) -> Option<Letters> {
        let mut letters = letters.clone();
        let kinds = || letters.iter().map(|letter| letter.0);
        let first = |kind| kinds().position(|other| other == kind);
        let at = match self {
            Self::Send(tag) => {
                if kinds().filter(|&kind| kind == KIND).count() == CAPACITY {
                    return None;
                }
                letters.push((KIND, tag));
                return Some(letters);
            }
            Self::Receive(Select::Any) => (!letters.is_empty()).then_some(0),
            Self::Receive(Select::Type(kind)) => first(kind),
            Self::Receive(Select::Except(kind)) => kinds().position(|other| other != kind),
            Self::Receive(Select::AtMost(most)) => (1..=most).find_map(first),
            Self::Receive(Select::Highest) => (1..=TYPES as u8).rev().find_map(first),
        };
        letters.remove(at?);
        Some(letters)
    }
}

/// A participant killed in a send or a receive.
struct Mailing {
    deed: Deed,
    state: State,
}

/// Everything that waits, by a receiver that has just come.
fn drain(rx: &mut MailReceiver) -> Result<Letters, String> {
    let mut letters = Letters::new();
    loop {
        let mut buffer = [0; LONGEST];
        let letter = match rx.try_recv(Select::Any, &mut buffer) {
            Ok(letter) => letter,
            Err(MailRecvError::Empty) => return Ok(letters),
            Err(error) => return Err(format!("draining: {error}")),
        };
        let bytes = &buffer[..letter.length];
        let tag = (1..=255).find(|&tag| message(tag) == bytes);
        let tag = tag.ok_or_else(|| format!("{bytes:?} of type {} was never sent", letter.kind))?;
        letters.push((letter.kind, tag));
        if letters.len() > 2 * TYPES * CAPACITY {
            return Err("there is no end of messages".into());
        }
    }
}

/// The messages that are there when somebody has died, and whether the mailbox goes on.
pub fn settle(mailbox: &Mailbox) -> Result<Letters, String> {
    // Whoever comes resolves what the dead have left.
    let joins = |error| format!("joins: {error}");
    let (mut tx, mut rx) = (mailbox.sender().map_err(joins)?, mailbox.receiver().map_err(joins)?);
    let letters = drain(&mut rx)?;
    for lap in 0..2 {
        let mut expected = Letters::new();
        for kind in 1..=TYPES as u8 {
            for tag in (1..=CAPACITY as u8).map(|i| 10 * kind + lap + i) {
                tx.try_send(kind, &message(tag)).map_err(|error| format!("goes on: {error}"))?;
                expected.push((kind, tag));
            }
            match tx.try_send(kind, b"") {
                Err(MailSendError::Full) => {}
                other => return Err(format!("type {kind} is full: {other:?}")),
            }
        }
        let found = drain(&mut rx)?;
        if found != expected {
            return Err(format!("afterwards {found:?}, and not {expected:?}"));
        }
    }
    let dead = mailbox.stats().participants.iter().filter(|who| !who.alive && !who.left).count();
    if dead > 0 {
        return Err(format!("{dead} entries of the dead are not free"));
    }
    Ok(letters)
}

impl Mailing {
    fn new(deed: Deed, state: State) -> Self {
        Self { deed, state }
    }
}

impl Case for Mailing {
    type Survivor = Mailbox;

    fn label(&self) -> String {
        format!("mailbox {:?}, {}", self.deed, self.state.name)
    }

    fn start(&self) -> Result<(Tracee, Mailbox), String> {
        let mailbox = self.state.set_up()?;
        let fd = mailbox.inheritable_fd().map_err(|error| error.to_string())?;
        let tracee = Tracee::spawn(CHILD_LIFE, |child| {
            let mailbox = Mailbox::from_fd(fd).expect("opens");
            match self.deed {
                Deed::Send(tag) => {
                    let mut tx = mailbox.sender().expect("there is a place");
                    let message = message(tag);
                    let _ = black_box(child.section(|| tx.try_send(KIND, &message)));
                }
                Deed::Receive(select) => {
                    let mut rx = mailbox.receiver().expect("there is a place");
                    let mut buffer = [0; LONGEST];
                    let _ = black_box(child.section(|| rx.try_recv(select, &mut buffer)));
                }
            }
        })?;
        Ok((tracee, mailbox))
    }

    fn check(&self, mailbox: Mailbox) -> Result<Verdict, String> {
        let (found, before) = (settle(&mailbox)?, &self.state.letters);
        if found == *before {
            return Ok(Verdict::of(0));
        }
        if self.deed.done_to(before).is_some_and(|after| after == found) {
            return Ok(Verdict::of(1));
        }
        Err(format!("{found:?} is left of {before:?}"))
    }

    fn effect(&self) -> u64 {
        self.deed.done_to(&self.state.letters).is_some().into()
    }
}

/// A second one, killed while it resolves in all lanes what the first has left, and receives.
struct Heir<'a> {
    first: &'a Mailing,
    walk: &'a Walk,
    /// Where the first one dies.
    point: usize,
    /// The messages that are there then, as one finds who resolves it all.
    letters: Letters,
}

impl Heir<'_> {
    const DEED: Deed = Deed::Receive(Select::Highest);
}

impl Case for Heir<'_> {
    type Survivor = Mailbox;

    fn label(&self) -> String {
        format!("{}, dead at {}, then another", self.first.label(), self.point)
    }

    fn start(&self) -> Result<(Tracee, Mailbox), String> {
        let mailbox = die_at(self.first, self.walk, self.point)?;
        let fd = mailbox.inheritable_fd().map_err(|error| error.to_string())?;
        let tracee = Tracee::spawn(CHILD_LIFE, |child| {
            let mailbox = Mailbox::from_fd(fd).expect("opens");
            let mut buffer = [0; LONGEST];
            let received = child.section(|| {
                let mut rx = mailbox.receiver().expect("there is a place");
                let received = rx.try_recv(Select::Highest, &mut buffer);
                // What leaving does is another matter.
                std::mem::forget(rx);
                received
            });
            let _ = black_box(received);
        })?;
        Ok((tracee, mailbox))
    }

    fn check(&self, mailbox: Mailbox) -> Result<Verdict, String> {
        let found = settle(&mailbox)?;
        if found == self.letters {
            return Ok(Verdict::of(0));
        }
        if Self::DEED.done_to(&self.letters).is_some_and(|after| after == found) {
            return Ok(Verdict::of(1));
        }
        Err(format!("{found:?} is left of {:?}", self.letters))
    }

    fn effect(&self) -> u64 {
        Self::DEED.done_to(&self.letters).is_some().into()
    }
}

fn inherit(first: &Mailing) -> Row {
    let mut all = Row::titled(format!("{}, then another", first.label()));
    let walk = match walk(first) {
        Ok(walk) => walk,
        Err(error) => return all.failed(error),
    };
    for death in 0..=DEATHS {
        let point = death * walk.instructions() / DEATHS;
        let letters = match die_at(first, &walk, point).and_then(|mailbox| settle(&mailbox)) {
            Ok(letters) => letters,
            Err(error) => return all.failed(error),
        };
        // The points of the second death shift with those of the first: together they are dense.
        let points = Points::Comb { count: REPAIRS, shift: death, of: DEATHS + 1 };
        all.add(sweep(&Heir { first, walk: &walk, point, letters }, points, 2));
    }
    all
}

#[test]
fn mailbox_sends() {
    let rows: Vec<Row> = State::all()
        .into_iter()
        .map(|state| sweep(&Mailing::new(Deed::Send(9), state), Points::Every, 2))
        .collect();
    report("mailbox, sender", &rows);
}

#[test]
fn mailbox_receives() {
    let selections =
        [Select::Any, Select::Type(KIND), Select::AtMost(2), Select::Except(2), Select::Highest];
    let mut rows: Vec<Row> = selections
        .into_iter()
        .map(|select| {
            sweep(&Mailing::new(Deed::Receive(select), State::named("some")), Points::Every, 2)
        })
        .collect();
    for name in ["next lap", "full"] {
        let case = Mailing::new(Deed::Receive(Select::Type(KIND)), State::named(name));
        assert_eq!(case.state.count(KIND), if name == "full" { CAPACITY } else { 0 });
        rows.push(sweep(&case, Points::Every, 2));
    }
    report("mailbox, receiver", &rows);
}

#[test]
fn mailbox_repairs() {
    let some = || State::named("some");
    let rows = [
        inherit(&Mailing::new(Deed::Send(9), some())),
        inherit(&Mailing::new(Deed::Receive(Select::Any), some())),
        inherit(&Mailing::new(Deed::Receive(Select::Type(KIND)), some())),
    ];
    report("mailbox, repair of all lanes", &rows);
}

/// What is done beside a receiver that sleeps in another process.
#[derive(Clone, Copy, Debug)]
enum Rousing {
    Send,
    Remove,
}

/// One who is killed while it sends to a receiver that sleeps, or removes the mailbox in which it sleeps.
#[derive(Clone, Copy)]
struct Waking {
    rousing: Rousing,
    /// What the sleeper waits for: those of different kinds sleep in different places.
    select: Select,
}

/// What the sleeper has been told: it sleeps, it was removed, or the tag of the message.
const READY: u64 = 1;
const REMOVED: u64 = 2;
const RECEIVED: u64 = 256;

/// The one who sleeps, and those who look at what became of it.
struct Asleep {
    mailbox: Mailbox,
    tx: MailSender,
    rx: MailReceiver,
    told: SharedWords,
    peer: Peer,
}

impl Asleep {
    fn told(&self) -> u64 {
        self.told[0].load(Ordering::Acquire)
    }

    /// Waits until the sleeper has been told something.
    fn is_told(&self) -> Result<u64, String> {
        if poll(PATIENCE, || self.told() > READY) {
            Ok(self.told())
        } else {
            Err(format!("the sleeper was told nothing for {PATIENCE:?}"))
        }
    }
}

impl Case for Waking {
    type Survivor = Asleep;

    fn label(&self) -> String {
        format!("mailbox {:?}, {:?} asleep", self.rousing, self.select)
    }

    fn start(&self) -> Result<(Tracee, Asleep), String> {
        let mailbox = fresh()?;
        let failed = |error: &dyn std::error::Error| format!("sets up: {error}");
        let tx = mailbox.sender().map_err(|error| failed(&error))?;
        let rx = mailbox.receiver().map_err(|error| failed(&error))?;
        let fd = || mailbox.inheritable_fd().map_err(|error| failed(&error));
        let (there, fd, told) = (fd()?, fd()?, SharedWords::new(1));
        let peer = Peer::spawn(LIFE, || {
            let mailbox = Mailbox::from_fd(there).expect("opens");
            let mut rx = mailbox.receiver().expect("there is a place").with_wait(Wait::Block);
            told[0].store(READY, Ordering::Release);
            let mut buffer = [0; LONGEST];
            let found = match rx.recv(self.select, &mut buffer) {
                Ok(letter) => RECEIVED + letter.length as u64,
                Err(MailRecvError::Removed) => REMOVED,
                Err(error) => panic!("{error}"),
            };
            told[0].store(found, Ordering::Release);
        });
        let asleep = Asleep { mailbox, tx, rx, told, peer };
        let sleeps = || asleep.told() == READY && sleeps_in_futex(asleep.peer.pid());
        if !poll(LIFE, sleeps) {
            return Err("the receiver does not sleep".into());
        }
        let tracee = Tracee::spawn(CHILD_LIFE, |child| {
            let mailbox = Mailbox::from_fd(fd).expect("opens");
            let mut tx = mailbox.sender().expect("there is a place");
            child.section(|| match self.rousing {
                Rousing::Send => drop(black_box(tx.try_send(KIND, &message(FIRST)))),
                Rousing::Remove => drop(black_box(mailbox.remove())),
            });
        })?;
        if poll(LIFE, sleeps) { Ok((tracee, asleep)) } else { Err("it woke too early".into()) }
    }

    fn check(&self, mut survivor: Asleep) -> Result<Verdict, String> {
        let effect = match self.rousing {
            Rousing::Remove => {
                let effect = survivor.mailbox.is_removed();
                if !effect {
                    survivor.mailbox.remove().map_err(|error| error.to_string())?;
                }
                let told = survivor.is_told()?;
                if told != REMOVED {
                    return Err(format!("the sleeper was told {told}"));
                }
                effect
            }
            Rousing::Send => {
                // Whether it is there, or was a moment ago: then nobody else rings for it.
                let mut buffer = [0; LONGEST];
                let peeked = survivor.rx.try_peek(Select::Any, 0, &mut buffer).is_ok();
                if !peeked && survivor.told() == READY {
                    let sent = survivor.tx.try_send(KIND, &message(SECOND));
                    sent.map_err(|error| error.to_string())?;
                }
                let told = survivor.is_told()?;
                let first = RECEIVED + message(FIRST).len() as u64;
                let second = RECEIVED + message(SECOND).len() as u64;
                if told != first && (peeked || told != second) {
                    return Err(format!("the sleeper was told {told}"));
                }
                told == first
            }
        };
        survivor.peer.join()?;
        Ok(Verdict::of(effect.into()))
    }

    fn effect(&self) -> u64 {
        1
    }
}

/// The tags of what is sent, of different lengths.
const FIRST: u8 = 9;
const SECOND: u8 = 10;
/// The longest that a sleeper lives, and that it may take to be told.
const LIFE: Duration = Duration::from_secs(120);
const PATIENCE: Duration = Duration::from_secs(60);
/// How many sleep at the same time, some through a slice.
const SLEEPERS: usize = 16;

#[test]
fn mailbox_wakes() {
    let selections = [Select::Any, Select::Type(KIND), Select::Except(1)];
    let sends = selections.map(|select| Waking { rousing: Rousing::Send, select });
    let removes = selections.map(|select| Waking { rousing: Rousing::Remove, select });
    let send = sends.iter().map(|case| sweep(case, Points::Every, SLEEPERS));
    // Most of it is system calls.
    let points = || Points::Comb { count: 60, shift: 0, of: 1 };
    let remove = removes.iter().map(|case| sweep(case, points(), SLEEPERS));
    report("mailbox, somebody sleeps", &send.chain(remove).collect::<Vec<_>>());
}
