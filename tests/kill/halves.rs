//! The owner of half a split ring killed at every instruction of what it does with it: nobody follows it, so the
//! other side gets what was committed, whole, and is then told that this was the end.

use std::fs::File;
use std::marker::PhantomData;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;

use annulus::{ByteRing, Ring, Role, SetupError, Split};

use super::message::{LONGEST, Tagged};
use super::operation::{
    HAND, Operation, byte_receives, byte_sends, named, slot_receives, slot_sends,
};
use super::shape::{Bytes, Got, Sent, Shape, Slots};
use super::state::{CAPACITY, Holds, State, fill_in, states, to_section};
use super::steps::{check_hand, with_hand};
use super::survive::{PATIENCE, Sequence, drain};
use crate::support::ptrace::{Child, Tracee};
use crate::support::shared::SharedWords;
use crate::support::sweep::{CHILD_LIFE, Case, Points, Row, Verdict, report, sweep};

/// A shape that comes in halves.
pub trait Halves: Shape {
    fn half(role: Role) -> Result<Split<Self::Ring>, SetupError>;
    fn descriptor(half: &Split<Self::Ring>) -> Result<OwnedFd, SetupError>;
    fn join(half: Split<Self::Ring>, theirs: OwnedFd) -> Result<Self::Ring, SetupError>;
    /// How many messages were received.
    fn received(ring: &Self::Ring) -> u64;
}

impl<T: Tagged + 'static> Halves for Slots<T> {
    fn half(role: Role) -> Result<Split<Ring<T>>, SetupError> {
        Ring::builder(CAPACITY).split(role)
    }

    fn descriptor(half: &Split<Ring<T>>) -> Result<OwnedFd, SetupError> {
        half.descriptor()
    }

    fn join(half: Split<Ring<T>>, theirs: OwnedFd) -> Result<Ring<T>, SetupError> {
        half.join(theirs)
    }

    fn received(ring: &Ring<T>) -> u64 {
        ring.stats().received
    }
}

impl Halves for Bytes {
    fn half(role: Role) -> Result<Split<ByteRing>, SetupError> {
        ByteRing::builder(CAPACITY * LONGEST).split(role)
    }

    fn descriptor(half: &Split<ByteRing>) -> Result<OwnedFd, SetupError> {
        half.descriptor()
    }

    fn join(half: Split<ByteRing>, theirs: OwnedFd) -> Result<ByteRing, SetupError> {
        half.join(theirs)
    }

    fn received(ring: &ByteRing) -> u64 {
        ring.stats().received
    }
}

/// Starts a child that has the half of `role`; `act` gets its ring. The parent's ring is there when the child
/// stands at its first mark.
fn start<S: Halves>(
    role: Role,
    peer: Role,
    act: impl FnOnce(&Child, S::Ring),
) -> Result<(Tracee, S::Ring), String> {
    let failed = |error: SetupError| error.to_string();
    let ours = S::half(peer).map_err(failed)?;
    let to_child = S::descriptor(&ours).map_err(failed)?;
    let told = SharedWords::new(1);
    let tracee = Tracee::spawn(CHILD_LIFE, |child| {
        let half = S::half(role).expect("makes a half");
        let shown = S::descriptor(&half).expect("a descriptor more");
        told[0].store(shown.as_raw_fd() as u64, Ordering::Release);
        let ring = S::join(half, to_child).expect("joins");
        child.mark();
        drop(shown);
        act(child, ring);
    })?;
    // As if it had been sent: whoever may read the child's descriptors may open this one anew.
    let number = told[0].load(Ordering::Acquire);
    let shown = File::open(format!("/proc/{}/fd/{number}", tracee.pid()));
    let shown = shown.map_err(|error| format!("the child's descriptor: {error}"))?;
    let ring = S::join(ours, shown.into()).map_err(failed)?;
    Ok((tracee, ring))
}

/// Attempts within which a side asks the kernel whether the other lives, and the messages before that.
const ATTEMPTS: u32 = 3000;

/// Messages that pass at a time before the section.
const STRIDE: u64 = 4;

/// The owner of the sender's half, killed while it sends, or leaves.
struct Sending<'a, S: Shape> {
    operation: &'a Operation<S::Sender>,
    state: State,
}

/// What it leaves.
struct Receiver<S: Shape> {
    rx: S::Receiver,
    held: Range<u64>,
}

impl<S: Halves> Case for Sending<'_, S> {
    type Survivor = Receiver<S>;

    fn label(&self) -> String {
        format!("split {} {}, {}", S::LABEL, self.operation.name, self.state.name)
    }

    fn start(&self) -> Result<(Tracee, Receiver<S>), String> {
        let passed = self.state.passed;
        let sent = SharedWords::new(1);
        let (mut tracee, ring) = start::<S>(Role::Sender, Role::Receiver, |child, ring| {
            let mut tx = S::sender(&ring).expect("the role is free");
            for tag in 0..passed {
                assert_eq!(S::try_send(&mut tx, tag), Ok(Sent::Yes));
                if (tag + 1) % STRIDE == 0 || tag + 1 == passed {
                    child.mark();
                }
            }
            let end = fill_in::<S>(self.state.holds, &mut tx, passed).expect("there is room");
            sent[0].store(end, Ordering::Release);
            (self.operation.run)(child, &mut tx, end, &mut []);
        })?;
        let mut rx = S::receiver(&ring).map_err(|error| error.to_string())?;
        let mut sequence = Sequence::from(0);
        for _ in 0..passed.div_ceil(STRIDE) {
            to_section(&mut tracee)?;
            drain::<S>(&mut rx, &mut sequence)?;
        }
        to_section(&mut tracee)?;
        let held = sequence.next()..sent[0].load(Ordering::Acquire);
        Ok((tracee, Receiver { rx, held }))
    }

    fn check(&self, survivor: Receiver<S>) -> Result<Verdict, String> {
        let Receiver { mut rx, held } = survivor;
        let mut sequence = Sequence::from(held.start);
        receive_to_the_end::<S>(&mut rx, &mut sequence, false)?;
        let effect = sequence.next().checked_sub(held.end);
        let effect = effect.ok_or_else(|| format!("tag {:#x} is lost", sequence.next()))?;
        Ok(Verdict::of(effect))
    }

    fn effect(&self) -> u64 {
        if self.state.holds == Holds::Full { 0 } else { self.operation.messages }
    }
}

/// The owner of the receiver's half, killed while it receives, or leaves.
struct Receiving<'a, S: Shape> {
    operation: &'a Operation<S::Receiver>,
    state: State,
}

/// What it leaves.
struct Sender<S: Shape> {
    ring: S::Ring,
    tx: S::Sender,
    held: Range<u64>,
    hand: SharedWords,
}

impl<S: Halves> Case for Receiving<'_, S> {
    type Survivor = Sender<S>;

    fn label(&self) -> String {
        format!("split {} {}, {}", S::LABEL, self.operation.name, self.state.name)
    }

    fn start(&self) -> Result<(Tracee, Sender<S>), String> {
        let passed = self.state.passed;
        let hand = SharedWords::new(HAND);
        let (mut tracee, ring) = start::<S>(Role::Receiver, Role::Sender, |child, ring| {
            let mut rx = S::receiver(&ring).expect("the role is free");
            let mut sequence = Sequence::from(0);
            while sequence.next() < passed {
                drain::<S>(&mut rx, &mut sequence).expect("receives");
                child.mark();
            }
            with_hand(&hand, |hand| (self.operation.run)(child, &mut rx, passed, hand));
        })?;
        let mut tx = S::sender(&ring).map_err(|error| error.to_string())?;
        let mut next = 0;
        while next < passed {
            while next < passed && S::try_send(&mut tx, next)? == Sent::Yes {
                next += 1;
            }
            to_section(&mut tracee)?;
        }
        let end = fill_in::<S>(self.state.holds, &mut tx, next)?;
        to_section(&mut tracee)?;
        Ok((tracee, Sender { ring, tx, held: next..end, hand }))
    }

    fn check(&self, survivor: Sender<S>) -> Result<Verdict, String> {
        let Sender { ring, mut tx, held, hand } = survivor;
        send_to_the_end::<S>(&mut tx, held.end, false)?;
        let effect = S::received(&ring).checked_sub(held.start);
        let effect = effect.ok_or("what was received is in the ring again")?;
        if self.operation.to_hand {
            check_hand::<S>(&hand, held.start..held.start + effect)?;
        }
        Ok(Verdict::of(effect))
    }

    fn effect(&self) -> u64 {
        self.operation.messages.min(match self.state.holds {
            Holds::Messages(count) => count,
            _ => u64::MAX,
        })
    }
}

/// The owner of a half, killed while it drops all that it has.
struct Leaving<S> {
    role: Role,
    shape: PhantomData<fn() -> S>,
}

/// The side that stays.
enum Left<S: Shape> {
    Sender(S::Sender, S::Ring),
    Receiver(S::Receiver, S::Ring),
}

impl<S: Halves> Case for Leaving<S> {
    type Survivor = Left<S>;

    fn label(&self) -> String {
        format!("split {} drop, {}", S::LABEL, self.role)
    }

    fn start(&self) -> Result<(Tracee, Left<S>), String> {
        let failed = |error: SetupError| error.to_string();
        match self.role {
            Role::Sender => {
                let (mut tracee, ring) = start::<S>(self.role, Role::Receiver, |child, ring| {
                    let mut tx = S::sender(&ring).expect("the role is free");
                    fill_in::<S>(Holds::Messages(2), &mut tx, 0).expect("there is room");
                    child.section(|| drop((tx, ring)));
                })?;
                let rx = S::receiver(&ring).map_err(failed)?;
                to_section(&mut tracee)?;
                Ok((tracee, Left::Receiver(rx, ring)))
            }
            _ => {
                let (mut tracee, ring) = start::<S>(self.role, Role::Sender, |child, ring| {
                    let rx = S::receiver(&ring).expect("the role is free");
                    child.section(|| drop((rx, ring)));
                })?;
                let mut tx = S::sender(&ring).map_err(failed)?;
                fill_in::<S>(Holds::Messages(2), &mut tx, 0)?;
                to_section(&mut tracee)?;
                Ok((tracee, Left::Sender(tx, ring)))
            }
        }
    }

    fn check(&self, survivor: Left<S>) -> Result<Verdict, String> {
        match survivor {
            Left::Receiver(mut rx, ring) => {
                let (before, mut sequence) = (S::sleeps(&ring), Sequence::from(0));
                receive_to_the_end::<S>(&mut rx, &mut sequence, true)?;
                if sequence.next() != 2 {
                    return Err(format!("{} of 2 messages came", sequence.next()));
                }
                Ok(Verdict::of(0).after(S::sleeps(&ring) - before))
            }
            Left::Sender(mut tx, ring) => {
                let before = S::sleeps(&ring);
                send_to_the_end::<S>(&mut tx, 2, true)?;
                Ok(Verdict::of(0).after(S::sleeps(&ring) - before))
            }
        }
    }

    fn effect(&self) -> u64 {
        0
    }
}

/// Receives what is there, and then must be told that it was all: without a sleep, which would cost a slice at each
/// point, if it does not `sleep`.
pub fn receive_to_the_end<S: Shape>(
    rx: &mut S::Receiver,
    sequence: &mut Sequence,
    sleep: bool,
) -> Result<(), String> {
    for _ in 0..ATTEMPTS {
        let got = if sleep { S::recv_within(rx, PATIENCE)? } else { S::try_recv(rx)? };
        match got {
            Got::Tag(tag) => sequence.follow(tag)?,
            Got::Disconnected => return Ok(()),
            Got::Empty if sleep => break,
            Got::Empty => {}
        }
    }
    Err("the receiver was not told of the end".into())
}

/// Sends the tags from `next` on until it is told that nobody receives them, likewise.
pub fn send_to_the_end<S: Shape>(
    tx: &mut S::Sender,
    mut next: u64,
    sleep: bool,
) -> Result<(), String> {
    for _ in 0..ATTEMPTS {
        let sent = if sleep { S::send_within(tx, next, PATIENCE)? } else { S::try_send(tx, next)? };
        match sent {
            Sent::Yes => next += 1,
            Sent::Disconnected => return Ok(()),
            Sent::Full if sleep => break,
            Sent::Full => {}
        }
    }
    Err("the sender was not told of the end".into())
}

/// The states of a split ring in which an operation is killed: nobody else's successor fills or drains it.
fn states_of<S: Halves>(before: u64) -> Vec<State> {
    let mut states = states::<S>(State::full(), before);
    states.dedup_by(|one, other| one.name == other.name);
    states
}

fn sweep_sends<S: Halves>(operations: &[Operation<S::Sender>]) -> Vec<Row> {
    let mut rows = Vec::new();
    for operation in operations {
        for state in states_of::<S>(1) {
            if !(operation.blocks && state.holds == Holds::Full) {
                rows.push(sweep(&Sending::<S> { operation, state }, Points::Every, 2));
            }
        }
    }
    rows
}

fn sweep_receives<S: Halves>(operations: &[Operation<S::Receiver>]) -> Vec<Row> {
    let mut rows = Vec::new();
    for operation in operations {
        for state in states_of::<S>(0) {
            if !(operation.blocks && state.holds == Holds::Messages(0)) {
                rows.push(sweep(&Receiving::<S> { operation, state }, Points::Every, 2));
            }
        }
    }
    rows
}

fn sweep_drops<S: Halves>() -> Vec<Row> {
    let leaving = |role| Leaving::<S> { role, shape: PhantomData };
    // Most of it is the kernel's and the allocator's.
    [Role::Sender, Role::Receiver].map(|role| sweep(&leaving(role), Points::Spread(150), 2)).into()
}

#[test]
fn send_split() {
    let mut rows = sweep_sends::<Slots<u64>>(&named(slot_sends(), "try_send"));
    rows.extend(sweep_sends::<Slots<[u64; 8]>>(&named(slot_sends(), "try_send_batch")));
    for name in ["send", "try_reserve, write, commit"] {
        rows.extend(sweep_sends::<Bytes>(&named(byte_sends(), name)));
    }
    report("send, split", &rows);
}

#[test]
fn receive_split() {
    let mut rows = sweep_receives::<Slots<u64>>(&named(slot_receives(), "try_recv"));
    rows.extend(sweep_receives::<Slots<[u64; 8]>>(&named(slot_receives(), "try_recv_batch")));
    for name in ["recv", "claim, copy, release"] {
        rows.extend(sweep_receives::<Bytes>(&named(byte_receives(), name)));
    }
    report("receive, split", &rows);
}

#[test]
fn leave_split() {
    let mut rows = sweep_drops::<Slots<u64>>();
    rows.extend(sweep_drops::<Bytes>());
    report("leave, split", &rows);
}
