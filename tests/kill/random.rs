//! A sender and a receiver that stream at full speed; one of them is killed at a random time and replaced,
//! over and over. A ledger in shared memory holds the books.
//!
//! What the ledger can know decides what it may demand. A sender notes messages after its call returned: when
//! it dies, the messages of one call may be in the ring and not in the books, and its successor sends those
//! numbers again, under its own incarnation. A receiver that notes messages after it took them out loses at most
//! those of one call by dying in between; one that notes a message while it holds the claim loses none, and
//! its successor may get the last one again. Everything beyond is a fault: a loss, a repetition, a torn or a
//! swapped message.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use annulus::{Place, Wait};

use super::message::scatter;
use super::shape::{Bytes, Got, Sent, Shape, Slots};
use crate::support::deadline::poll;
use crate::support::process::{Peer, say};
use crate::support::shared::SharedWords;

/// How many kills a test makes.
const KILLS: u64 = 500;

const CAPACITY: usize = 64;

/// The largest batch.
const BATCH: usize = 7;

/// The longest time from a participant's start, or its first message, to the next kill.
const LONGEST_LIFE: Duration = Duration::from_millis(12);

/// The time in which messages must get through again, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// No participant lives longer, even if it is never killed.
const CHILD_LIFE: Duration = Duration::from_secs(240);

/// `{ incarnation of the sender:12 | number:28 }`
const NUMBER_BITS: u32 = 28;

fn tag(incarnation: u64, number: u64) -> u64 {
    assert!(number < 1 << NUMBER_BITS, "the tag has no room for number {number}");
    incarnation << NUMBER_BITS | number
}

const GO_ON: u64 = 0;
const STOP_SENDING: u64 = 1;
const ALL_SENT: u64 = 2;

/// The books. Each word has one writer at a time, and each entry is one store, so that no kill tears it.
struct Ledger(SharedWords);

impl Ledger {
    fn new() -> Self {
        Self(SharedWords::new(4 + KILLS as usize))
    }

    /// How many numbers were sent for certain.
    fn sent(&self) -> &AtomicU64 {
        &self.0[0]
    }

    /// The last tag that was received for certain, plus one.
    fn last(&self) -> &AtomicU64 {
        &self.0[1]
    }

    /// How far the end of the test is: [`GO_ON`], [`STOP_SENDING`], [`ALL_SENT`].
    fn stage(&self) -> &AtomicU64 {
        &self.0[2]
    }

    /// The number with which an incarnation of the sender starts.
    fn start(&self, incarnation: u64) -> &AtomicU64 {
        &self.0[3 + incarnation as usize]
    }
}

/// How a sender sends, or a receiver receives, all its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// One message a call, spinning in between.
    Try,
    /// One message a call, sleeping in between.
    Block,
    /// Several a call.
    Batch,
    /// Reserve and commit, or claim and release.
    InPlace,
}

impl Way {
    fn of(random: u64) -> Self {
        [Self::Try, Self::Block, Self::Batch, Self::InPlace][(random % 4) as usize]
    }
}

/// What a receiver may find amiss at its first message: what its killed predecessors took with them.
#[derive(Clone, Copy, Debug, Default)]
struct Allowance {
    lost: u64,
    repeated: u64,
}

fn pause(round: &mut u32) {
    *round += 1;
    if round.is_multiple_of(64) { std::thread::yield_now() } else { std::hint::spin_loop() }
}

fn run_sender<S: Shape>(fd: OwnedFd, ledger: &Ledger, incarnation: u64, way: Way) {
    let ring = S::from_fd(fd).expect("opens");
    let mut tx = S::sender(&ring).expect("the role of the dead is free");
    if way == Way::Block {
        S::sender_waits(&mut tx, Wait::Block);
    }
    let mut next = ledger.sent().load(Ordering::Acquire);
    let mut round = 0;
    while ledger.stage().load(Ordering::Relaxed) == GO_ON {
        let first = tag(incarnation, next);
        let one = |sent| u64::from(sent == Sent::Yes);
        let limit = Duration::from_millis(200);
        let count = match way {
            Way::Try => one(S::try_send(&mut tx, first).expect("the ring is sound")),
            Way::Block => one(S::send_within(&mut tx, first, limit).expect("the ring is sound")),
            Way::InPlace => one(S::build_within(&mut tx, first, limit).expect("the ring is sound")),
            Way::Batch => {
                let count = 1 + (scatter(next) % BATCH as u64) as usize;
                S::send_batch(&mut tx, first, count).expect("the ring is sound") as u64
            }
        };
        if count == 0 {
            pause(&mut round);
        }
        next += count;
        ledger.sent().store(next, Ordering::Release);
    }
    ledger.stage().store(ALL_SENT, Ordering::Release);
}

/// The receiver's judgement of what arrives.
struct Auditor<'a> {
    ledger: &'a Ledger,
    allowance: Allowance,
}

impl Auditor<'_> {
    fn note(&mut self, tag: u64) {
        self.judge(tag).expect("nothing is lost, repeated or out of order");
        self.allowance = Allowance::default();
        self.ledger.last().store(tag + 1, Ordering::Release);
    }

    fn judge(&self, tag: u64) -> Result<(), String> {
        let (incarnation, number) = (tag >> NUMBER_BITS, tag & ((1 << NUMBER_BITS) - 1));
        let due = self.ledger.last().load(Ordering::Relaxed);
        if due == 0 {
            // Nothing was noted yet. An early sender may have died before its first note.
            let missing = number;
            return if missing <= self.allowance.lost {
                Ok(())
            } else {
                Err(format!("{missing} lost at the start"))
            };
        }
        let (last_incarnation, last) =
            ((due - 1) >> NUMBER_BITS, (due - 1) & ((1 << NUMBER_BITS) - 1));
        let what =
            format!("{incarnation}:{number} after {last_incarnation}:{last}, {:?}", self.allowance);
        if incarnation < last_incarnation {
            return Err(format!("out of order: {what}"));
        }
        if incarnation == last_incarnation && number <= last {
            let again = last + 1 - number;
            return if again <= self.allowance.repeated {
                Ok(())
            } else {
                Err(format!("repeated: {what}"))
            };
        }
        let mut expected = last + 1;
        if incarnation > last_incarnation {
            // The dead sender sent at most one call's messages that the books do not have.
            let noted = self.ledger.start(last_incarnation + 1).load(Ordering::Acquire);
            if expected > noted + BATCH as u64 {
                return Err(format!("more than was sent: {what}"));
            }
            let start = self.ledger.start(incarnation).load(Ordering::Acquire);
            if number < start {
                return Err(format!("before the start {start}: {what}"));
            }
            expected = expected.min(start);
        }
        let missing = number - expected;
        if missing <= self.allowance.lost { Ok(()) } else { Err(format!("{missing} lost: {what}")) }
    }
}

fn run_receiver<S: Shape>(fd: OwnedFd, ledger: &Ledger, way: Way, allowance: Allowance) {
    let ring = S::from_fd(fd).expect("opens");
    let mut rx = S::receiver(&ring).expect("the role of the dead is free");
    if way == Way::Block {
        S::receiver_waits(&mut rx, Wait::Block);
    }
    let mut auditor = Auditor { ledger, allowance };
    let mut round = 0;
    loop {
        let limit = Duration::from_millis(200);
        let all_sent = ledger.stage().load(Ordering::Acquire) == ALL_SENT;
        let got = match way {
            Way::Try => S::try_recv(&mut rx).expect("the message is whole"),
            Way::Block => S::recv_within(&mut rx, limit).expect("the message is whole"),
            Way::InPlace => S::claim_within(&mut rx, limit, |tag| auditor.note(tag))
                .expect("the message is whole"),
            Way::Batch => {
                let mut tags = Vec::with_capacity(BATCH);
                S::recv_batch(&mut rx, BATCH, |tag| tags.push(tag))
                    .expect("the messages are whole");
                tags.iter().for_each(|&tag| auditor.note(tag));
                tags.last().map_or(Got::Empty, |&tag| Got::Tag(tag))
            }
        };
        match got {
            Got::Tag(tag) if matches!(way, Way::Try | Way::Block) => auditor.note(tag),
            Got::Tag(_) => {}
            Got::Empty | Got::Disconnected if all_sent => return,
            Got::Empty | Got::Disconnected => pause(&mut round),
        }
    }
}

/// Where the numbers of a test come from: one seed, printed.
struct Random {
    state: u64,
}

impl Random {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(1);
        scatter(self.state)
    }
}

fn seed() -> u64 {
    let given = std::env::var("ANNULUS_KILL_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.map_or(1, |now| now.as_micros() as u64)
    })
}

fn torture<S: Shape>() {
    let seed = seed();
    let mut random = Random { state: scatter(seed) };
    say(&format!("{}: random kills, ANNULUS_KILL_SEED={seed}\n", S::LABEL));

    let ring = S::create(CAPACITY, Place::memfd("kill").expect("a good label")).expect("creates");
    let ledger = Ledger::new();
    let spawn_sender = |incarnation, way| {
        let fd = S::share(&ring);
        Peer::spawn(CHILD_LIFE, || run_sender::<S>(fd, &ledger, incarnation, way))
    };
    let spawn_receiver = |way, allowance| {
        let fd = S::share(&ring);
        Peer::spawn(CHILD_LIFE, || run_receiver::<S>(fd, &ledger, way, allowance))
    };

    let mut incarnation = 0;
    let mut sender = spawn_sender(incarnation, Way::of(random.next()));
    let mut receiver_way = Way::of(random.next());
    let mut allowance = Allowance::default();
    let mut receiver = spawn_receiver(receiver_way, allowance);
    let mut noted_at_spawn = 0;
    let (mut senders, mut receivers, mut may_be_lost, mut may_be_repeated) = (0, 0, 0, 0);
    let begin = Instant::now();
    let mut slowest = Duration::ZERO;

    for kill in 0..KILLS {
        let choice = random.next();
        if choice.is_multiple_of(2) {
            // Every other time, messages get through first: the kill before blocked nobody.
            let before = ledger.last().load(Ordering::Acquire);
            let waited = Instant::now();
            assert!(
                poll(PATIENCE, || ledger.last().load(Ordering::Acquire) != before),
                "{}: no message after kill {kill}, seed {seed}",
                S::LABEL
            );
            slowest = slowest.max(waited.elapsed());
        }
        let life = random.next() % LONGEST_LIFE.as_micros() as u64;
        std::thread::sleep(Duration::from_micros(life));
        let victim = choice >> 8 & 7;
        if victim <= 3 {
            sender.kill().unwrap_or_else(|error| {
                panic!("{}: sender: {error}, kill {kill}, seed {seed}", S::LABEL)
            });
            senders += 1;
            incarnation += 1;
            ledger
                .start(incarnation)
                .store(ledger.sent().load(Ordering::Acquire), Ordering::Release);
            sender = spawn_sender(incarnation, Way::of(random.next()));
        }
        if victim >= 3 {
            receiver.kill().unwrap_or_else(|error| {
                panic!("{}: receiver: {error}, kill {kill}, seed {seed}", S::LABEL)
            });
            receivers += 1;
            let noted = ledger.last().load(Ordering::Acquire);
            if noted != noted_at_spawn {
                allowance = Allowance::default();
            }
            noted_at_spawn = noted;
            match receiver_way {
                Way::InPlace if S::CLAIMS => {
                    allowance.repeated = 1;
                    may_be_repeated += 1;
                }
                Way::Batch => allowance.lost += BATCH as u64,
                _ => allowance.lost += 1,
            }
            may_be_lost += u64::from(allowance.lost > 0);
            receiver_way = Way::of(random.next());
            receiver = spawn_receiver(receiver_way, allowance);
        }
    }
    ledger.stage().store(STOP_SENDING, Ordering::Release);
    sender
        .join()
        .unwrap_or_else(|error| panic!("{}: the last sender: {error}, seed {seed}", S::LABEL));
    receiver
        .join()
        .unwrap_or_else(|error| panic!("{}: the last receiver: {error}, seed {seed}", S::LABEL));
    let sent = ledger.sent().load(Ordering::Acquire);
    let last = ledger.last().load(Ordering::Acquire);
    let received = ((last - 1) & ((1 << NUMBER_BITS) - 1)) + 1;
    let may_miss = if last == noted_at_spawn { allowance.lost } else { 0 };
    assert!(
        received + may_miss >= sent,
        "{}: {received} received of {sent}, seed {seed}",
        S::LABEL
    );
    say(&format!(
        "{}: {senders} senders and {receivers} receivers killed in {:.1} s, {sent} messages; slowest return {:.1} ms; \
         {may_be_lost} receivers could lose, {may_be_repeated} could repeat\n",
        S::LABEL,
        begin.elapsed().as_secs_f64(),
        slowest.as_secs_f64() * 1e3
    ));
}

#[test]
fn random_kills_u64() {
    torture::<Slots<u64>>();
}

#[test]
fn random_kills_eight_words() {
    torture::<Slots<[u64; 8]>>();
}

#[test]
fn random_kills_bytes() {
    torture::<Bytes>();
}
