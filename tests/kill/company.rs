//! Killed in company: the others of a shared ring, two senders and two receivers where it has as many, are
//! processes that run at full speed before the kill, during it and after it.
//!
//! ```text
//!  one processor   tracer, and the victim of this point: prepared, run to the point, killed
//!  the others      senders and receivers, never stopped, through hundreds of points of the same ring
//! ```
//!
//! A victim in company does not do the same twice: others take the position that it wanted, or the ring is full when
//! it comes. So each path is walked through on a ring without company, to learn its instructions, and its points are
//! reached in three ways.
//!
//! * *To each instruction*: the victim runs at full speed and meets the others as it does in life, until it comes
//!   to the instruction; it stands there while the others go on, and is killed. Every instruction of a path is such a
//!   point, each time that the walk came to it; of the long paths, which wait or repair, only the first time.
//! * *Slowly*, at evenly spread points: the same, but the last of the way, up to 24 instructions, is single-stepped.
//!   Somebody who is slow with a claim is one whom the others ask the kernel about, and who must keep it.
//! * *By steps*, evenly spread: `n` instructions from the start, whatever the victim comes to, with `n` somewhat beyond
//!   the length of the path. That makes it the slowest by far. Where a side is shared each of its
//!   compare-and-swaps comes too late, and it dies with an intent that is the claim of somebody who lives.
//!
//! Repair has two victims. The first dies at each instruction at which it has a claim, by turns; the second is
//! there already, and comes to the instruction of its own death while it resolves the claim: on joining, from the first
//! question to the kernel about a lock to the last, or on polling a ring in which nothing comes. The others resolve what
//! both have left.
//!
//! A point that the victim did not come to, since it met others than the walk did, is tried once more, and then
//! counted as astray: it was killed at the end of its section. For the most part that is what follows a time-out, which
//! hardly ever comes in company.
//!
//! After every kill the others must move two laps of messages, for nobody gets a lap beyond a claim that nobody
//! resolves; then each of them must move something. The sleeps that they take while nothing at all is received are
//! counted, for each of them, as the slices of the other kill tests are. When a ring has seen its points, all messages
//! are counted. One is lost only if the call in which a receiver was killed had it in hand. None comes twice: the
//! victims do not count what they have before their call returns. Then new ones join the ring and find it as good as
//! new.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::hint::black_box;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use annulus::{
    Place, Receiver, RecvError, RecvTimeoutError, Ring, SendTimeoutError, Sender, SetupError,
    Topology, TryRecvError, Wait,
};

use super::survive::{AFTERWARDS, PATIENCE};
use crate::support::deadline::poll;
use crate::support::ledger::{Ledger, Message, NUMBERS, message, read, stay};
use crate::support::process::{Peer, await_sleep, bind, processors, say};
use crate::support::ptrace::{Tracee, Walk};
use crate::support::shared::SharedWords;
use crate::support::sweep::{CHILD_LIFE, LONGEST, Row, Verdict, chosen, place, report, watch};

/// Few: everybody runs into everybody else all the time.
const CAPACITY: usize = 16;
/// Messages of a batch.
const BATCH: usize = 3;
/// What a victim does before the path starts, at most.
const BEFORE: usize = 2;
/// How often a victim goes through its path, if it is not killed.
const ACTS: usize = 8;
/// With so many failures a path is given up: each may have taken [`PATIENCE`].
const MOST_FAILURES: usize = 3;
/// How many points a ring has, with the same company.
const POINTS: usize = 400;
/// How often a victim is sent to an instruction that others did not get to.
const ATTEMPTS: usize = 2;
/// Points of a path that are reached by steps, at most.
const SPREAD: usize = 150;
/// Steps to a point whose path was begun at full speed, at most.
const STEPS: usize = 24;
/// Paths that are longer are tried at each instruction once, however often they come to it.
const SHORT: usize = 500;
/// How long a victim waits for the others, by turns: until they come, and not quite so long.
const LIMITS: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_micros(30), Duration::from_micros(100)];
/// More than a `try_` call needs to ask the kernel.
const POLLS: usize = 1100;
/// Longer than all points of a ring.
const COMPANY_LIFE: Duration = Duration::from_secs(600);
/// A sender that has sent so many since the last point takes its time, so that its numbers last.
const HASTE: u64 = NUMBERS / 8;

fn open(fd: &OwnedFd) -> Ring<Message> {
    Ring::from_fd(fd.try_clone().expect("a descriptor more")).expect("opens")
}

/// What a victim leaves behind: its acts, and what it had in hand.
struct Diary(SharedWords);

impl Diary {
    const ACTS: usize = BEFORE + ACTS;

    fn new() -> Self {
        Self(SharedWords::new(1 + Self::ACTS + Self::ACTS * BATCH * 3))
    }

    /// Empties it for a victim that sends the numbers from `first` on.
    fn reset(&self, first: u64) {
        self.0[0].store(first, Relaxed);
        self.0[1..=Self::ACTS].iter().for_each(|word| word.store(0, Relaxed));
        // No message.
        self.0[1 + Self::ACTS..].iter().for_each(|word| word.store(u64::MAX, Relaxed));
    }

    /// The number of the first message that an act sends.
    fn number(&self, act: usize) -> u64 {
        self.0[0].load(Relaxed) + (act * BATCH) as u64
    }

    /// Says that the act moved `count` messages and is over.
    fn note(&self, act: usize, count: usize) {
        self.0[1 + act].store(1 + count as u64, Relaxed);
    }

    /// How many messages the act moved; `None` if it was not over.
    fn moved(&self, act: usize) -> Option<usize> {
        self.0[1 + act].load(Relaxed).checked_sub(1).map(|count| count as usize)
    }

    /// Memory for what an act receives.
    #[allow(clippy::mut_from_ref, reason = "a child has it to itself")]
    fn hand(&self, act: usize) -> &mut [Message; BATCH] {
        let words = &self.0[1 + Self::ACTS + act * BATCH * 3..][..BATCH * 3];
        // SAFETY: the words are mapped as long as `self`. Only the victim's child writes them while it lives, one
        // act at a time, and the test looks at them, through atomics, when it is dead.
        unsafe { &mut *words.as_ptr().cast_mut().cast() }
    }

    /// What the act had in hand.
    fn held(&self, act: usize) -> [Message; BATCH] {
        let words = &self.0[1 + Self::ACTS + act * BATCH * 3..][..BATCH * 3];
        std::array::from_fn(|i| std::array::from_fn(|j| words[i * 3 + j].load(Relaxed)))
    }
}

/// The ring in which a path is walked through, without company.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quiet {
    HalfFull,
    Full,
    Empty,
    /// Empty if the path sends, full if it receives, and one of the other side sleeps.
    PeerAsleep,
}

/// What a victim is killed in.
struct Path<H> {
    name: &'static str,
    join: fn(&Ring<Message>) -> Result<H, SetupError>,
    set_wait: fn(&mut H, Wait),
    quiet: Quiet,
    sends: bool,
    /// Whether its messages are in no memory that outlives it before the call is over.
    by_value: bool,
    act: fn(&mut H, &Diary, usize),
}

fn sending(
    name: &'static str,
    quiet: Quiet,
    act: fn(&mut Sender<Message>, &Diary, usize),
) -> Path<Sender<Message>> {
    let (join, set_wait) = (Ring::sender, Sender::set_wait);
    Path { name, join, set_wait, quiet, sends: true, by_value: false, act }
}

fn receiving(
    name: &'static str,
    quiet: Quiet,
    act: fn(&mut Receiver<Message>, &Diary, usize),
) -> Path<Receiver<Message>> {
    let (join, set_wait) = (Ring::receiver, Receiver::set_wait);
    Path { name, join, set_wait, quiet, sends: false, by_value: false, act }
}

fn send(tx: &mut Sender<Message>, diary: &Diary, act: usize) {
    tx.send(message(VICTIM, diary.number(act))).expect("there are receivers");
    diary.note(act, 1);
}

fn recv(rx: &mut Receiver<Message>, diary: &Diary, act: usize) {
    diary.hand(act)[0] = rx.recv().expect("there are senders");
    diary.note(act, 1);
}

/// The paths of a sender.
fn sends() -> Vec<Path<Sender<Message>>> {
    vec![
        sending("send", Quiet::HalfFull, send),
        sending("try_send_batch", Quiet::HalfFull, |tx, diary, act| {
            let first = diary.number(act);
            let batch: [_; BATCH] = std::array::from_fn(|i| message(VICTIM, first + i as u64));
            diary.note(act, tx.try_send_batch(&batch));
        }),
        sending("send and wake", Quiet::PeerAsleep, send),
        sending("wait for room", Quiet::Full, |tx, diary, act| {
            match tx.send_timeout(message(VICTIM, diary.number(act)), LIMITS[act % 3]) {
                Ok(()) => diary.note(act, 1),
                Err(SendTimeoutError::Timeout(_)) => diary.note(act, 0),
                Err(error) => panic!("{error}"),
            }
        }),
    ]
}

/// The paths of a receiver.
fn receives() -> Vec<Path<Receiver<Message>>> {
    vec![
        Path { by_value: true, ..receiving("recv", Quiet::HalfFull, recv) },
        receiving("recv_batch", Quiet::HalfFull, |rx, diary, act| {
            let count = rx.recv_batch(diary.hand(act)).expect("there are senders");
            diary.note(act, count);
        }),
        receiving("claim, release", Quiet::HalfFull, |rx, diary, act| {
            let claimed = rx.claim().expect("there are senders");
            diary.hand(act)[0] = *claimed;
            claimed.release();
            diary.note(act, 1);
        }),
        receiving("claim, give back", Quiet::HalfFull, |rx, diary, act| {
            rx.claim().expect("there are senders").give_back();
            diary.note(act, 0);
        }),
        Path { by_value: true, ..receiving("recv and wake", Quiet::PeerAsleep, recv) },
        Path {
            by_value: true,
            ..receiving("wait for a message", Quiet::Empty, |rx, diary, act| {
                match rx.recv_timeout(LIMITS[act % 3]) {
                    Ok(message) => {
                        diary.hand(act)[0] = message;
                        diary.note(act, 1);
                    }
                    Err(RecvTimeoutError::Timeout) => diary.note(act, 0),
                    Err(error) => panic!("{error}"),
                }
            })
        },
    ]
}

/// Forks a child that goes through `path`: `before` times at full speed, then in its section.
fn victim<H>(
    ring: &Ring<Message>,
    path: &Path<H>,
    diary: &Diary,
    (before, acts): (usize, usize),
    wait: Wait,
) -> Result<Tracee, String> {
    let fd = ring.as_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
    Tracee::spawn(CHILD_LIFE, |child| {
        let ring = open(&fd);
        let mut handle = (path.join)(&ring).expect("a place");
        (path.set_wait)(&mut handle, wait);
        (0..before).for_each(|act| (path.act)(&mut handle, diary, act));
        let acts = black_box(before..before + acts);
        child.section(|| acts.for_each(|act| (path.act)(&mut handle, diary, act)));
    })
}

/// A ring without company, for a walk.
struct Still {
    ring: Ring<Message>,
    /// Somebody must be there on the other side.
    tx: Option<Sender<Message>>,
    _rx: Option<Receiver<Message>>,
    sleeper: Option<Peer>,
}

fn create(topology: Topology) -> Result<Ring<Message>, String> {
    let place = Place::memfd("kill").map_err(|error| error.to_string())?;
    let ring = Ring::builder(CAPACITY).topology(topology).participants(16).create(place);
    ring.map_err(|error| format!("create: {error}"))
}

impl Still {
    fn new(topology: Topology, quiet: Quiet, sends: bool) -> Result<Self, String> {
        let refused = |error| format!("joining a fresh ring: {error}");
        let ring = create(topology)?;
        let messages = match quiet {
            Quiet::HalfFull => CAPACITY / 2,
            Quiet::Full => CAPACITY,
            Quiet::PeerAsleep if !sends => CAPACITY,
            Quiet::Empty | Quiet::PeerAsleep => 0,
        };
        let asleep = quiet == Quiet::PeerAsleep;
        let mut still = Self { ring, tx: None, _rx: None, sleeper: None };
        // One that comes and goes ends the conversation for who waits for it.
        if messages > 0 || !asleep {
            let mut tx = still.ring.sender().map_err(refused)?;
            for number in 0..messages as u64 {
                tx.try_send(message(0, number)).map_err(|error| error.to_string())?;
            }
            still.tx = (!asleep).then_some(tx);
        }
        if sends && !asleep {
            still._rx = Some(still.ring.receiver().map_err(refused)?);
        }
        if asleep {
            still.sleeper = Some(still.peer(sends)?);
        }
        Ok(still)
    }

    /// Sends something.
    fn fill(&mut self) -> Result<(), String> {
        let tx = self.tx.as_mut().ok_or("nobody sends")?;
        tx.try_send(message(0, 0)).map_err(|error| error.to_string())
    }

    /// One of the other side, which goes to sleep.
    fn peer(&self, receives: bool) -> Result<Peer, String> {
        let fd = self.ring.as_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
        Ok(Peer::spawn(CHILD_LIFE, || {
            let ring = open(&fd);
            if receives {
                let mut rx = ring.receiver().expect("a place").with_wait(Wait::Block);
                let _ = black_box(rx.recv_timeout(CHILD_LIFE));
            } else {
                let mut tx = ring.sender().expect("a place").with_wait(Wait::Block);
                let _ = black_box(tx.send_timeout(message(1, 0), CHILD_LIFE));
            }
        }))
    }

    /// Who comes wakes the others.
    fn rests(&self) -> Result<(), String> {
        let asleep = |peer: &Peer| await_sleep(peer.pid(), PATIENCE);
        if self.sleeper.as_ref().is_none_or(asleep) { Ok(()) } else { Err("nobody sleeps".into()) }
    }
}

/// Walks through a section of children that `start` makes.
fn walk<V>(start: impl Fn() -> Result<(Tracee, V), String>) -> Result<Walk, String> {
    let (mut tracee, still) = start()?;
    let exits = tracee.trace_calls(&mut None)?;
    tracee.kill()?;
    drop(still);
    let (mut tracee, _still) = start()?;
    let walk = tracee.walk(LONGEST, &exits, &mut None)?;
    tracee.kill()?;
    Ok(walk)
}

impl<H> Path<H> {
    fn label(&self, topology: Topology, way: Way) -> String {
        format!("{topology:?} {}, in company, {}", self.name, way.name())
    }

    /// Walks through the path once.
    fn walk(&self, topology: Topology) -> Result<Walk, String> {
        let diary = Diary::new();
        walk(|| {
            diary.reset(0);
            let still = Still::new(topology, self.quiet, self.sends)?;
            still.rests()?;
            let tracee = victim(&still.ring, self, &diary, (0, 1), Wait::Block)?;
            still.rests()?;
            Ok((tracee, still))
        })
    }
}

/// The victims' number among the senders of the ledger; the company's come before.
const VICTIM: usize = 2;

/// What the victims say, to be judged when all messages are counted.
#[derive(Default)]
struct Testimony {
    /// The number of the victims' next message.
    next: u64,
    /// What each act of a sender was to send from, and how many it says that it sent.
    offers: Vec<(u64, Option<u64>)>,
    /// Messages that a receiver had in hand when it was killed, and may or may not have taken.
    in_hand: HashSet<(usize, u64)>,
    /// Receivers that were killed and may have had a message, but in no memory that outlives them.
    untold: usize,
}

/// A ring and its company.
struct World {
    ring: Ring<Message>,
    ledger: Ledger,
    /// How often each receiver has received, and, last, how many points there were.
    pulse: SharedWords,
    senders: Vec<Peer>,
    receivers: Vec<Peer>,
    /// Of the victims of a point.
    diaries: [Diary; 2],
    testimony: Testimony,
    points: usize,
}

/// How many senders and receivers keep company.
fn company(topology: Topology) -> (usize, usize) {
    match topology {
        Topology::Mpsc => (2, 1),
        Topology::Spmc => (1, 2),
        _ => (2, 2),
    }
}

/// The `member`th of its role sleeps at once, or spins before.
fn wait_of(member: usize) -> Wait {
    if member == 0 { Wait::Block } else { Wait::Adaptive }
}

fn keep_sending(fd: &OwnedFd, ledger: &Ledger, point: &AtomicU64, me: usize) {
    let mut tx = open(fd).sender().expect("a place").with_wait(wait_of(me));
    let (mut next, mut calm, mut at) = (0, HASTE, 0);
    while ledger.stop().load(Relaxed) == 0 && next + 5 <= NUMBERS {
        if next.is_multiple_of(3) {
            let batch: [_; 5] = std::array::from_fn(|i| message(me, next + i as u64));
            tx.send_all(&batch).expect("there are receivers");
            next += 5;
        } else {
            tx.send(message(me, next)).expect("there are receivers");
            next += 1;
        }
        ledger.sent(me).store(next, Relaxed);
        let now = point.load(Relaxed);
        if now != at {
            (calm, at) = (next + HASTE, now);
        } else if next > calm {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    stay(ledger);
}

fn keep_receiving(fd: &OwnedFd, ledger: &Ledger, pulse: &AtomicU64, me: usize) {
    let mut rx = open(fd).receiver().expect("a place").with_wait(wait_of(me));
    for round in 0u64.. {
        // By turns, each for a while.
        let outcome = match (round / 16 + me as u64) % 3 {
            0 => rx.recv().map(|message| ledger.count(message)),
            1 => {
                let mut batch = [[0; 3]; 5];
                rx.recv_batch(&mut batch).map(|count| {
                    batch[..count].iter().for_each(|&message| ledger.count(message));
                })
            }
            _ => rx.claim().map(|claimed| match round % 16 {
                7 => claimed.give_back(),
                _ => {
                    ledger.count(*claimed);
                    claimed.release();
                }
            }),
        };
        match outcome {
            Ok(()) => pulse.store(pulse.load(Relaxed) + 1, Relaxed),
            Err(RecvError::Disconnected) if ledger.stop().load(Relaxed) == 2 => return,
            // The senders leave.
            Err(RecvError::Disconnected) if ledger.stop().load(Relaxed) == 1 => {
                std::thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

impl World {
    fn new(topology: Topology, elsewhere: &[usize]) -> Result<Self, String> {
        let ring = create(topology)?;
        let fd = ring.as_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
        let (senders, receivers) = company(topology);
        let (ledger, pulse) = (Ledger::new(VICTIM + 1), SharedWords::new(receivers + 1));
        let receivers = (0..receivers).map(|me| {
            Peer::spawn(COMPANY_LIFE, || {
                bind(elsewhere);
                keep_receiving(&fd, &ledger, &pulse[me], me);
            })
        });
        let receivers: Vec<Peer> = receivers.collect();
        let last = pulse.len() - 1;
        let senders = (0..senders).map(|me| {
            Peer::spawn(COMPANY_LIFE, || {
                bind(elsewhere);
                keep_sending(&fd, &ledger, &pulse[last], me);
            })
        });
        let senders = senders.collect();
        let (diaries, testimony) = ([Diary::new(), Diary::new()], Testimony::default());
        let world = Self { ring, ledger, pulse, senders, receivers, diaries, testimony, points: 0 };
        world.goes_on()?;
        Ok(world)
    }

    /// What each of the company has moved.
    fn moved(&self) -> Vec<u64> {
        let sent = (0..self.senders.len()).map(|me| self.ledger.sent(me).load(Relaxed));
        sent.chain((0..self.receivers.len()).map(|me| self.pulse[me].load(Relaxed))).collect()
    }

    fn is_used_up(&self) -> bool {
        let sent = (0..self.senders.len()).map(|me| self.ledger.sent(me).load(Relaxed));
        self.points >= POINTS || sent.max() > Some(NUMBERS / 2)
    }

    /// Begins a point: what its victim does before, and how it waits.
    fn begin(&mut self, point: usize) -> (usize, Wait) {
        self.points += 1;
        self.pulse[self.receivers.len()].fetch_add(1, Relaxed);
        for diary in &self.diaries {
            diary.reset(self.testimony.next);
            self.testimony.next = diary.number(Diary::ACTS);
        }
        (point % (BEFORE + 1), wait_of(point / 2 % 2))
    }

    /// Hears the dead victim of a path, the `which`th of the point.
    fn hear<H>(&mut self, which: usize, path: &Path<H>) -> Result<(), String> {
        let Self { diaries, testimony, ledger, .. } = self;
        let diary = &diaries[which];
        for act in 0..Diary::ACTS {
            let moved = diary.moved(act);
            if path.sends {
                testimony.offers.push((diary.number(act), moved.map(|count| count as u64)));
            } else {
                for &message in &diary.held(act)[..moved.unwrap_or(BATCH)] {
                    let known = read(message).filter(|&(sender, _)| sender <= VICTIM);
                    match (moved, known) {
                        (Some(_), None) => return Err(format!("torn message {message:x?}")),
                        (Some(_), _) => ledger.count(message),
                        (None, Some(known)) => _ = testimony.in_hand.insert(known),
                        (None, None) => {}
                    }
                }
            }
            if moved.is_none() {
                testimony.untold += usize::from(path.by_value);
                // It did not come to the next one.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Waits until the company has gone on, whatever a dead one has left: how often each of it slept meanwhile
    /// while nothing at all was received.
    fn goes_on(&self) -> Result<u64, String> {
        let received = || self.ledger.received().load(Relaxed);
        let waits = || self.ring.stats().waits;
        let (start, mut stall) = (received(), 0);
        // Read in this order, the sleeps between two looks that find the same were taken in between.
        let mut last = (start, waits());
        let mut look = || {
            let waits = waits();
            let now = received();
            if now == last.0 {
                stall = waits.saturating_sub(last.1).max(stall);
            } else {
                last = (now, self.ring.stats().waits);
            }
            now
        };
        if !poll(PATIENCE, || look() >= start + 2 * CAPACITY as u64) {
            return Err(format!("nothing gets through for {PATIENCE:?}: {}", self.describe()));
        }
        let before = self.moved();
        let has_moved = |(now, before): (u64, &u64)| now > *before || now + 5 > NUMBERS;
        if !poll(PATIENCE, || {
            look();
            self.moved().into_iter().zip(&before).all(has_moved)
        }) {
            return Err(format!("some of the company stand still: {}", self.describe()));
        }
        let members = (self.senders.len() + self.receivers.len()) as u64;
        Ok(stall.div_ceil(members))
    }

    fn describe(&self) -> String {
        let mut text = format!("moved {:?}; {:?}", self.moved(), self.ring.stats());
        for peer in self.senders.iter().chain(&self.receivers) {
            let _ = write!(text, "; {}", peer.describe());
        }
        text
    }

    /// Sends the company away, counts all messages and has others take over.
    fn end(mut self, toll: &mut Toll) -> Result<(), String> {
        self.ledger.stop().store(1, Relaxed);
        self.senders.drain(..).try_for_each(Peer::join)?;
        self.ledger.stop().store(2, Relaxed);
        self.receivers.drain(..).try_for_each(Peer::join)?;
        self.count_messages(toll)?;
        let stats = self.ring.stats();
        (toll.repairs, toll.redelivered) =
            (toll.repairs + stats.repairs, toll.redelivered + stats.redelivered);
        if let Some(left) = stats.participants.iter().find(|who| who.alive) {
            return Err(format!("the company has left, and yet there is {left:?}"));
        }
        self.take_over()
    }

    fn count_messages(&self, toll: &mut Toll) -> Result<(), String> {
        let Testimony { offers, in_hand, untold, .. } = &self.testimony;
        let times = |sender, number| self.ledger.seen(sender, number).load(Relaxed);
        let (mut lost, mut came) = (Vec::new(), 0);
        let mut expect = |sender, numbers: Range<u64>| {
            toll.messages += numbers.end - numbers.start;
            for number in numbers {
                match times(sender, number) {
                    0 => {
                        toll.taken += 1;
                        if !in_hand.contains(&(sender, number)) {
                            lost.push((sender, number));
                        }
                    }
                    1 => came += 1,
                    more => return Err(format!("message {sender}:{number} came {more} times")),
                }
            }
            Ok(())
        };
        let none = |sender, mut numbers: Range<u64>| match numbers.find(|&n| times(sender, n) > 0) {
            Some(number) => Err(format!("message {sender}:{number} was not sent, and yet came")),
            None => Ok(()),
        };
        for sender in 0..VICTIM {
            let sent = self.ledger.sent(sender).load(Relaxed);
            expect(sender, 0..sent)?;
            none(sender, sent..NUMBERS.min(sent + 10))?;
        }
        for &(first, sent) in offers {
            // Of a batch whose sender was killed, the first few.
            let end = first + BATCH as u64;
            let last = || (first..end).rev().find(|&number| times(VICTIM, number) > 0);
            let sent =
                sent.map_or_else(|| last().map_or(first, |last| last + 1), |count| first + count);
            expect(VICTIM, first..sent)?;
            none(VICTIM, sent..end)?;
        }
        let received = self.ledger.received().load(Relaxed);
        if came != received {
            return Err(format!("{received} messages were received, and {came} of them were sent"));
        }
        if lost.len() > *untold {
            return Err(format!(
                "{} messages are lost, and {untold} may be: {lost:x?}",
                lost.len()
            ));
        }
        Ok(())
    }

    /// Others find an empty ring, in which messages pass in order.
    fn take_over(&self) -> Result<(), String> {
        let refused = |error| format!("joining afterwards: {error}");
        let mut tx = self.ring.sender().map_err(refused)?;
        let mut rx = self.ring.receiver().map_err(refused)?;
        match rx.try_recv() {
            Err(TryRecvError::Empty) => {}
            other => return Err(format!("all was received, and yet {other:x?}")),
        }
        let numbers: Vec<u64> = (0..AFTERWARDS).collect();
        for numbers in numbers.chunks(CAPACITY) {
            let batch: Vec<Message> = numbers.iter().map(|&number| message(0, number)).collect();
            let mut received = vec![[0; 3]; batch.len()];
            let (sent, came) = (tx.try_send_batch(&batch), rx.try_recv_batch(&mut received));
            if (sent, came) != (batch.len(), batch.len()) || batch != received {
                return Err(format!("afterwards, {sent} and {came} of {batch:x?}: {received:x?}"));
            }
        }
        Ok(())
    }
}

/// What the rings of a row have seen.
#[derive(Debug, Default)]
struct Toll {
    kills: u64,
    messages: u64,
    /// Messages that victims had in hand, and that nobody got again.
    taken: u64,
    repairs: u64,
    redelivered: u64,
}

/// How a victim comes to its point.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// At full speed.
    ToEach,
    /// At full speed, and the last of it by steps.
    Slowly,
    /// By steps from the start of the path, whatever it comes to.
    BySteps,
    /// At full speed to what happens between the first and the last question to the kernel about a lock.
    ToRepair,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::ToEach => "to each instruction",
            Self::Slowly => "slowly",
            Self::BySteps => "by steps",
            Self::ToRepair => "repaired",
        }
    }

    fn points(self, walk: &Walk) -> Vec<usize> {
        let instructions = walk.instructions();
        let spread = |most: usize| (0..=most).step_by(most.div_ceil(SPREAD));
        let points: Vec<usize> = match self {
            Self::ToEach if instructions <= SHORT => (0..=instructions).collect(),
            Self::ToEach => walk.first_times().into_iter().chain([instructions]).collect(),
            Self::Slowly => spread(instructions).collect(),
            Self::BySteps => spread(instructions + instructions / 2).collect(),
            Self::ToRepair => {
                let locks = walk.calls.iter().filter(|call| call.number == libc::SYS_fcntl as u64);
                let last = locks.clone().next_back().map_or(0, |call| call.after);
                let first = locks.map(|call| call.after - 1).next().unwrap_or(last);
                let is_between = |point: &usize| (first..=last).contains(point);
                walk.first_times().into_iter().filter(is_between).collect()
            }
        };
        let thinned = if cfg!(debug_assertions) { 10 } else { 1 };
        points.into_iter().step_by(thinned).collect()
    }

    /// Brings a child there from its opening mark; whether it got there.
    fn take(self, tracee: &mut Tracee, walk: &Walk, point: usize) -> Result<bool, String> {
        let (run, steps) = match self {
            Self::ToEach | Self::ToRepair => (point, 0),
            Self::Slowly => {
                let steps = (1 + point * 7 % STEPS).min(point);
                (point - steps, steps)
            }
            Self::BySteps => (0, point),
        };
        if !tracee.enter_section(walk.lead)? {
            return Ok(false);
        }
        match walk.anchor(run) {
            Some(anchor) => {
                Ok(tracee.run_past_calls_to(anchor)? && tracee.step_many(steps, &mut None)?)
            }
            None => tracee.step_many(run + steps, &mut None),
        }
    }
}

/// Kills at all points of a walk, in company: `kill` does it in a world, and says whether it was at the point.
fn sweep(
    label: String,
    topology: Topology,
    way: Way,
    walk: Result<Walk, String>,
    kill: impl Fn(&mut World, &Walk, usize) -> Result<bool, String> + Sync,
) -> Row {
    let mut row = Row::titled(label.clone());
    let Some(only_point) = chosen(&label) else { return row };
    let walk = match walk {
        Ok(walk) => walk,
        Err(error) => return row.failed(error),
    };
    row.walked(&walk);
    let mut points = way.points(&walk);
    points.retain(|&point| only_point.is_none_or(|only| only == point));
    row.expect(points.len());
    // The company is forked by the thread that steps, so that it lives as long; it is bound elsewhere.
    let processors = processors();
    let (here, elsewhere) = processors.split_at(1);
    let elsewhere = if elsewhere.is_empty() { here } else { elsewhere };
    let (begin, mut toll) = (Instant::now(), Toll::default());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            bind(here);
            let watchdog = watch(&label);
            let (mut world, mut failures) = (None, 0);
            for &point in &points {
                if failures == MOST_FAILURES {
                    break;
                }
                watchdog.arm(point as u64);
                let begin = Instant::now();
                let outcome = in_company(&mut world, topology, elsewhere, |world| {
                    let (mut slices, mut reached) = (0, false);
                    for _ in 0..ATTEMPTS {
                        toll.kills += 1;
                        reached = kill(world, &walk, point)?;
                        slices = world.goes_on()?.max(slices);
                        if reached {
                            break;
                        }
                    }
                    Ok((Verdict::of(0).after(slices), reached))
                });
                failures += usize::from(outcome.is_err());
                row.note(point, outcome, begin.elapsed(), || match way {
                    Way::BySteps => "so many steps".into(),
                    _ => format!("next instruction at {}", place(&walk, point)),
                });
                let is_last = Some(&point) == points.last();
                let over = world.take_if(|world| is_last || world.is_used_up());
                if let Some(Err(error)) = over.map(|world| world.end(&mut toll)) {
                    row.fail(format!("at or before {point}: {error}"));
                }
            }
            watchdog.disarm();
        });
    });
    let Toll { kills, messages, repairs, redelivered, taken } = toll;
    say(&format!(
        "{label}: {kills} killed in {:.1} s and {messages} messages, of which {taken} went with them; \
         {repairs} claims resolved, {redelivered} messages handed out again\n",
        begin.elapsed().as_secs_f64()
    ));
    row
}

/// Does something in the world, which is made anew if the last one has ended or something went wrong in it.
fn in_company<R>(
    world: &mut Option<World>,
    topology: Topology,
    elsewhere: &[usize],
    run: impl FnOnce(&mut World) -> Result<R, String>,
) -> Result<R, String> {
    let mut there = match world.take() {
        Some(there) => there,
        None => World::new(topology, elsewhere)?,
    };
    let outcome = run(&mut there)?;
    *world = Some(there);
    Ok(outcome)
}

fn sweep_path<H>(topology: Topology, path: &Path<H>, ways: &[Way]) -> Vec<Row> {
    if ways.iter().all(|&way| chosen(&path.label(topology, way)).is_none()) {
        return Vec::new();
    }
    let walk = path.walk(topology);
    ways.iter()
        .map(|&way| {
            let label = path.label(topology, way);
            sweep(label, topology, way, walk.clone(), |world, walk, point| {
                let (before, wait) = world.begin(point);
                let acts = (before, ACTS);
                let mut tracee = victim(&world.ring, path, &world.diaries[0], acts, wait)?;
                let reached = way.take(&mut tracee, walk, point)?;
                tracee.kill()?;
                world.hear(0, path)?;
                Ok(reached)
            })
        })
        .collect()
}

/// Asks again and again, and so comes to ask who is dead.
fn poll_for_messages() -> Path<Receiver<Message>> {
    let polling = receiving("polls", Quiet::Empty, |rx, diary, act| {
        for _ in 0..POLLS {
            match rx.try_recv() {
                Ok(message) => {
                    diary.hand(act)[0] = message;
                    return diary.note(act, 1);
                }
                Err(TryRecvError::Empty) => {}
                Err(error) => panic!("{error}"),
            }
        }
        diary.note(act, 0);
    });
    Path { by_value: true, ..polling }
}

/// Who repairs what the first victim of a point has left, and is the second.
#[derive(Clone, Copy)]
enum Repairer {
    /// A sender that joins.
    Sender,
    /// A receiver that joins.
    Receiver,
    /// A receiver that has joined before, and finds that nothing comes.
    Poller,
}

impl Repairer {
    fn name(self) -> &'static str {
        match self {
            Self::Sender => "a sender that joins",
            Self::Receiver => "a receiver that joins",
            Self::Poller => "a receiver that polls",
        }
    }

    /// Forks it.
    fn start(self, ring: &Ring<Message>, diary: &Diary, acts: usize) -> Result<Tracee, String> {
        let fd = ring.as_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
        if let Self::Poller = self {
            return victim(ring, &poll_for_messages(), diary, (0, acts), Wait::Block);
        }
        Tracee::spawn(CHILD_LIFE, |child| {
            let ring = open(&fd);
            child.section(|| match self {
                Self::Sender => ring.sender().map(std::mem::forget).is_ok(),
                _ => ring.receiver().map(std::mem::forget).is_ok(),
            });
        })
    }
}

/// The points of a path at which a victim has a claim.
fn claims<H>(topology: Topology, path: &Path<H>, walk: &Walk) -> Result<Vec<usize>, String> {
    let diary = Diary::new();
    let mut claims = Vec::new();
    for point in 0..walk.instructions() {
        diary.reset(0);
        let still = Still::new(topology, path.quiet, path.sends)?;
        let mut tracee = victim(&still.ring, path, &diary, (0, 1), Wait::Block)?;
        Way::ToEach.take(&mut tracee, walk, point)?;
        tracee.kill()?;
        drop((path.join)(&still.ring).map_err(|error| format!("joining: {error}"))?);
        if still.ring.stats().repairs > 0 {
            claims.push(point);
        }
    }
    if claims.is_empty() { Err(format!("{} never has a claim", path.name)) } else { Ok(claims) }
}

/// Kills a victim with a claim, and then the one that repairs it.
fn sweep_repair<H>(topology: Topology, path: &Path<H>, repairer: Repairer) -> Row {
    let label = format!("{topology:?} {}, in company, repaired by {}", path.name, repairer.name());
    if chosen(&label).is_none() {
        return Row::titled(label);
    }
    let prepared = path.walk(topology).and_then(|first| {
        let deaths = claims(topology, path, &first)?;
        let diaries = [Diary::new(), Diary::new()];
        let repair = walk(|| {
            diaries.iter().for_each(|diary| diary.reset(0));
            let mut still = Still::new(topology, Quiet::Empty, path.sends)?;
            let second = repairer.start(&still.ring, &diaries[1], 1)?;
            if !path.sends {
                // Something to claim.
                still.fill()?;
            }
            let mut tracee = victim(&still.ring, path, &diaries[0], (0, 1), Wait::Block)?;
            Way::ToEach.take(&mut tracee, &first, deaths[0])?;
            tracee.kill()?;
            Ok((second, still))
        })?;
        Ok((first, deaths, repair))
    });
    let (first, deaths, repair) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return Row::titled(label).failed(error),
    };
    sweep(label, topology, Way::ToRepair, Ok(repair), |world, repair, point| {
        let (before, wait) = world.begin(point);
        let mut second = repairer.start(&world.ring, &world.diaries[1], ACTS)?;
        let acts = (before, ACTS);
        let mut tracee = victim(&world.ring, path, &world.diaries[0], acts, wait)?;
        let died = Way::ToEach.take(&mut tracee, &first, deaths[point % deaths.len()])?;
        tracee.kill()?;
        let reached = Way::ToEach.take(&mut second, repair, point)?;
        second.kill()?;
        world.hear(0, path)?;
        if let Repairer::Poller = repairer {
            world.hear(1, &poll_for_messages())?;
        }
        Ok(died && reached)
    })
}

const WAYS: [Way; 3] = [Way::ToEach, Way::Slowly, Way::BySteps];

fn named<H>(mut paths: Vec<Path<H>>, name: &str) -> Path<H> {
    let at = paths.iter().position(|path| path.name == name);
    paths.swap_remove(at.expect("there is such a path"))
}

#[test]
fn company_sends() {
    let sweep = |path| sweep_path(Topology::Mpmc, path, &WAYS);
    report("in company, send", &sends().iter().flat_map(sweep).collect::<Vec<_>>());
}

#[test]
fn company_receives() {
    let sweep = |path| sweep_path(Topology::Mpmc, path, &WAYS);
    report("in company, receive", &receives().iter().flat_map(sweep).collect::<Vec<_>>());
}

#[test]
fn company_repairs() {
    let send = named(sends(), "try_send_batch");
    let receive = named(receives(), "claim, release");
    let mut rows = Vec::new();
    for repairer in [Repairer::Sender, Repairer::Receiver, Repairer::Poller] {
        rows.push(sweep_repair(Topology::Mpmc, &send, repairer));
        rows.push(sweep_repair(Topology::Mpmc, &receive, repairer));
    }
    report("in company, repair", &rows);
}

#[test]
fn company_of_one_receiver() {
    let topology = Topology::Mpsc;
    let (send, batch) = (named(sends(), "send"), named(sends(), "try_send_batch"));
    let mut rows = sweep_path(topology, &send, &[Way::ToEach]);
    rows.extend(sweep_path(topology, &batch, &[Way::ToEach]));
    rows.push(sweep_repair(topology, &batch, Repairer::Sender));
    report("in company, one receiver", &rows);
}

#[test]
fn company_of_one_sender() {
    let topology = Topology::Spmc;
    let mut rows = Vec::new();
    for name in ["recv_batch", "claim, release", "claim, give back"] {
        rows.extend(sweep_path(topology, &named(receives(), name), &[Way::ToEach]));
    }
    let batch = named(receives(), "recv_batch");
    for repairer in [Repairer::Receiver, Repairer::Poller] {
        rows.push(sweep_repair(topology, &batch, repairer));
    }
    report("in company, one sender", &rows);
}
