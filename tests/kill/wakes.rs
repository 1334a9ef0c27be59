//! Killed after every instruction of an operation that wakes the other side, which sleeps in a futex in
//! another process.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::operation::{
    HAND, Operation, bare_receives, bare_sends, byte_receives, byte_sends, named, slot_receives,
    slot_sends,
};
use super::shape::{Bare, Bytes, Got, Lanes, OrderedLanes, Sent, Shape, Slots};
use super::state::{fill_up, fresh, receiver, sender, to_section};
use super::steps::{check_hand, with_hand};
use super::survive::{AFTERWARDS, PATIENCE, RESUMED, Sequence, Told, receiving_peer, sending_peer};
use crate::support::deadline::poll;
use crate::support::process::{Peer, await_sleep};
use crate::support::ptrace::Tracee;
use crate::support::shared::SharedWords;
use crate::support::sweep::{CHILD_LIFE, Case, Points, Row, Verdict, report, sweep};

/// Getting ready takes far less.
const LIMIT: Duration = Duration::from_secs(40);

/// Who sleeps while the other side is killed, and whether the successor comes before the sleeper has noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Successor {
    /// At once: the successor's first message is what wakes the sleeper.
    Prompt,
    /// After the sleeper has woken by itself, at the end of a slice of its wait.
    Late,
}

impl Successor {
    fn name(self) -> &'static str {
        match self {
            Self::Prompt => "prompt successor",
            Self::Late => "late successor",
        }
    }
}

/// A sender killed in an operation that wakes a receiver, which sleeps in another process.
struct WakingReceiver<'a, S: Shape> {
    operation: &'a Operation<S::Sender>,
    successor: Successor,
}

struct Sleeper<S: Shape> {
    ring: S::Ring,
    told: Told,
    peer: Peer,
    held: Range<u64>,
    hand: SharedWords,
}

/// Waits until the peer has its role and sleeps.
fn asleep(told: &Told, peer: &Peer) -> Result<(), String> {
    if !poll(LIMIT, || told.ready().load(Ordering::Acquire) == 1) {
        return Err("the peer did not get its role".into());
    }
    if await_sleep(peer.pid(), LIMIT) { Ok(()) } else { Err("the peer does not sleep".into()) }
}

/// Waits until the sleeper has noticed what there is to notice now: how often it has gone to sleep again before
/// it did. Nobody else sleeps meanwhile.
fn slices_to_notice<S: Shape>(ring: &S::Ring, told: &Told) -> Result<u64, String> {
    let before = S::sleeps(ring);
    if poll(PATIENCE, || told.noticed().is_some()) {
        Ok(told.noticed().map_or(0, |sleeps| sleeps.saturating_sub(before)))
    } else {
        Err(format!("the sleeping peer noticed nothing for {PATIENCE:?}"))
    }
}

impl<S: Shape> Case for WakingReceiver<'_, S> {
    type Survivor = Sleeper<S>;

    fn label(&self) -> String {
        format!("{} {}, receiver asleep, {}", S::LABEL, self.operation.name, self.successor.name())
    }

    fn start(&self) -> Result<(Tracee, Sleeper<S>), String> {
        let ring = fresh::<S>()?;
        let told = Told::new();
        let peer = receiving_peer::<S>(S::share(&ring), &told, 0);
        asleep(&told, &peer)?;
        let fd = S::share(&ring);
        let tracee = Tracee::spawn(CHILD_LIFE, |child| {
            let ring = S::from_fd(fd).expect("opens");
            let mut tx = S::sender(&ring).expect("the role is free");
            (self.operation.run)(child, &mut tx, 0, &mut []);
        })?;
        asleep(&told, &peer)?;
        Ok((tracee, Sleeper { ring, told, peer, held: 0..0, hand: SharedWords::new(HAND) }))
    }

    fn check(&self, survivor: Sleeper<S>) -> Result<Verdict, String> {
        let Sleeper { ring, told, peer, .. } = survivor;
        let mut slices = None;
        if self.successor == Successor::Late {
            slices = Some(slices_to_notice::<S>(&ring, &told)?);
        }
        let told_the_end = told.gone().load(Ordering::Acquire) > 0;
        let mut tx = sender::<S>(&ring)?;
        for tag in (RESUMED..).take(AFTERWARDS as usize) {
            match S::send_within(&mut tx, tag, PATIENCE)? {
                Sent::Yes => {}
                other => return Err(format!("tag {tag:#x} to the living receiver: {other:?}")),
            }
            if slices.is_none() {
                slices = Some(slices_to_notice::<S>(&ring, &told)?);
            }
        }
        peer.join()?;
        let effect = told.moved().load(Ordering::Acquire);
        if self.successor == Successor::Late && told_the_end && effect > 0 {
            return Err(format!("{effect} messages came after the end was told"));
        }
        Ok(Verdict::of(effect).after(slices.unwrap_or(0)))
    }

    fn effect(&self) -> u64 {
        self.operation.messages
    }
}

/// A receiver killed in an operation that wakes a sender, which sleeps in another process as the ring is full.
struct WakingSender<'a, S: Shape> {
    operation: &'a Operation<S::Receiver>,
    successor: Successor,
}

impl<S: Shape> Case for WakingSender<'_, S> {
    type Survivor = Sleeper<S>;

    fn label(&self) -> String {
        format!("{} {}, sender asleep, {}", S::LABEL, self.operation.name, self.successor.name())
    }

    fn start(&self) -> Result<(Tracee, Sleeper<S>), String> {
        let ring = fresh::<S>()?;
        let mut tx = sender::<S>(&ring)?;
        let held = 0..fill_up::<S>(&mut tx, 0)?;
        drop(tx);
        let fd = S::share(&ring);
        let hand = SharedWords::new(HAND);
        // The receiver attaches first, so that the sleeping sender always has one.
        let mut tracee = Tracee::spawn(CHILD_LIFE, |child| {
            let ring = S::from_fd(fd).expect("opens");
            let mut rx = S::receiver(&ring).expect("the role is free");
            child.mark();
            with_hand(&hand, |hand| (self.operation.run)(child, &mut rx, 0, hand));
        })?;
        let told = Told::new();
        let peer = sending_peer::<S>(S::share(&ring), &told, held.end);
        asleep(&told, &peer)?;
        to_section(&mut tracee)?;
        asleep(&told, &peer)?;
        Ok((tracee, Sleeper { ring, told, peer, held, hand }))
    }

    fn check(&self, survivor: Sleeper<S>) -> Result<Verdict, String> {
        let Sleeper { ring, told, peer, held, hand } = survivor;
        let mut slices = None;
        if self.successor == Successor::Late {
            slices = Some(slices_to_notice::<S>(&ring, &told)?);
        }
        let mut rx = receiver::<S>(&ring)?;
        let mut sequence = Sequence::from_within(held.start, self.operation.messages);
        while sequence.next() < held.end + AFTERWARDS {
            match S::recv_within(&mut rx, PATIENCE)? {
                Got::Tag(tag) => sequence.follow(tag)?,
                other => {
                    return Err(format!(
                        "tag {:#x} of the living sender: {other:?}",
                        sequence.next()
                    ));
                }
            }
            if slices.is_none() {
                slices = Some(slices_to_notice::<S>(&ring, &told)?);
            }
        }
        peer.join()?;
        let start = sequence.start().ok_or("nothing was received")?;
        if self.operation.to_hand {
            check_hand::<S>(&hand, held.start..start)?;
        }
        Ok(Verdict::of(start - held.start).after(slices.unwrap_or(0)))
    }

    fn effect(&self) -> u64 {
        self.operation.messages
    }
}

/// How many children sleep through their slices at the same time.
const SLEEPERS: usize = 32;

fn sweep_wakes<S: Shape>(
    sends: &[Operation<S::Sender>],
    receives: &[Operation<S::Receiver>],
) -> Vec<Row> {
    let mut rows = Vec::new();
    for (successor, workers) in [(Successor::Prompt, 2), (Successor::Late, SLEEPERS)] {
        for operation in sends {
            rows.push(sweep(&WakingReceiver::<S> { operation, successor }, Points::Every, workers));
        }
        for operation in receives {
            rows.push(sweep(&WakingSender::<S> { operation, successor }, Points::Every, workers));
        }
    }
    rows
}

#[test]
fn wake_u64() {
    report("wake, u64", &sweep_wakes::<Slots<u64>>(&slot_sends(), &slot_receives()));
}

#[test]
fn wake_eight_words() {
    report("wake, [u64; 8]", &sweep_wakes::<Slots<[u64; 8]>>(&slot_sends(), &slot_receives()));
}

#[test]
fn wake_bare() {
    let sends = named(bare_sends::<u64>(), "send");
    let receives = named(bare_receives::<u64>(), "try_peek_batch, skip");
    report("wake, untyped", &sweep_wakes::<Bare<u64>>(&sends, &receives));
}

#[test]
fn wake_bytes() {
    report("wake, bytes", &sweep_wakes::<Bytes>(&byte_sends(), &byte_receives()));
}

#[test]
fn wake_lanes() {
    let (sends, receives) = (named(byte_sends(), "send"), named(byte_receives(), "try_recv"));
    let mut rows = sweep_wakes::<Bytes<Lanes>>(&sends, &receives);
    rows.extend(sweep_wakes::<Bytes<OrderedLanes>>(&sends, &receives));
    report("wake, lanes", &rows);
}
