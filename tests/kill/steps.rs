//! Killed after every instruction of what moves a message: send, receive, reserve and commit, claim and
//! release, batches.

use std::convert::identity;
use std::hint::black_box;
use std::ops::Range;
use std::sync::atomic::Ordering;

use super::operation::{
    HAND, Operation, bare_receives, bare_sends, byte_receives, byte_sends, named, polled,
    polled_receives, shared_receives, slot_receives, slot_sends,
};
use super::shape::{Bare, Bytes, Lanes, OrderedLanes, Sent, Shape, Shared, Slots};
use super::state::{
    CAPACITY, Holds, State, fill, fill_up, fresh, receiver, sender, states, to_section,
};
use super::survive::{RESUMED, Sequence, drain, stream};
use crate::support::ptrace::Tracee;
use crate::support::shared::SharedWords;
use crate::support::sweep::{CHILD_LIFE, Case, Points, Row, Verdict, report, sweep};

/// Who acts first after the kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// The survivor, alone with the dead one's traces.
    Survivor,
    /// The successor, on top of them.
    Successor,
}

impl First {
    pub fn name(self) -> &'static str {
        match self {
            Self::Survivor => "survivor first",
            Self::Successor => "successor first",
        }
    }
}

/// A sender killed in an operation.
pub struct Sending<'a, S: Shape> {
    pub operation: &'a Operation<S::Sender>,
    pub state: State,
    pub first: First,
}

pub struct SendingSurvivor<S: Shape> {
    pub ring: S::Ring,
    rx: S::Receiver,
    /// The tags that are in the ring for certain.
    held: Range<u64>,
}

impl<S: Shape> Case for Sending<'_, S> {
    type Survivor = SendingSurvivor<S>;

    fn label(&self) -> String {
        format!("{} {}, {}, {}", S::LABEL, self.operation.name, self.state.name, self.first.name())
    }

    fn start(&self) -> Result<(Tracee, Self::Survivor), String> {
        let ring = fresh::<S>()?;
        let mut rx = receiver::<S>(&ring)?;
        let mut tx = sender::<S>(&ring)?;
        let mut held = fill::<S>(&self.state, &mut tx, &mut rx)?;
        drop(tx);
        let fd = S::share(&ring);
        let fills = self.state.holds == Holds::Drained;
        let own = if let Holds::Sent(count) = self.state.holds { count } else { 0 };
        let own = held.end..held.end + own;
        held.end = own.end;
        let mut tracee = Tracee::spawn(CHILD_LIFE, |child| {
            let ring = S::from_fd(fd).expect("opens");
            let mut tx = S::sender(&ring).expect("the role is free");
            for tag in own {
                assert_eq!(S::try_send(&mut tx, tag), Ok(Sent::Yes));
            }
            let mut next = held.end;
            if fills {
                next = fill_up::<S>(&mut tx, next).expect("fills the ring");
                child.mark();
            }
            (self.operation.run)(child, &mut tx, next, &mut []);
        })?;
        if fills {
            let mut sequence = Sequence::from(held.start);
            drain::<S>(&mut rx, &mut sequence)?;
            held = sequence.next()..sequence.next();
            to_section(&mut tracee)?;
        }
        Ok((tracee, SendingSurvivor { ring, rx, held }))
    }

    fn check(&self, survivor: Self::Survivor) -> Result<Verdict, String> {
        let SendingSurvivor { ring, mut rx, held } = survivor;
        let mut sequence = Sequence::from(held.start);
        if self.first == First::Survivor {
            drain::<S>(&mut rx, &mut sequence)?;
            if sequence.next() < held.end {
                return Err(format!("tag {:#x} was committed and is lost", sequence.next()));
            }
        }
        let mut tx = sender::<S>(&ring)?;
        stream::<S>(&mut tx, &mut rx, RESUMED, &mut sequence)?;
        let end = sequence.end_before_jump().ok_or("the successor's stream did not begin")?;
        end.checked_sub(held.end)
            .map(Verdict::of)
            .ok_or_else(|| format!("tag {end:#x} was committed and is lost"))
    }

    fn effect(&self) -> u64 {
        if self.state.holds == Holds::Full { 0 } else { self.operation.messages }
    }
}

/// Lends the memory to which a child receives to its operation.
pub fn with_hand(hand: &SharedWords, receive: impl FnOnce(&mut [u64])) {
    // SAFETY: called once, in a child that is the only one to touch the mapping while it lives; the parent
    // looks at it, through atomics, when the child is dead. `hand` stays mapped until the child's end.
    receive(unsafe { std::slice::from_raw_parts_mut(hand.as_mut_ptr(), HAND) });
}

/// What a dead receiver took out of the ring, it had in hand, whole.
pub fn check_hand<S: Shape>(hand: &SharedWords, taken: Range<u64>) -> Result<(), String> {
    let memory: Vec<u64> = hand.iter().map(|word| word.load(Ordering::Relaxed)).collect();
    match taken.enumerate().find(|&(index, tag)| !S::is_in_hand(&memory, index, tag)) {
        Some((_, tag)) => Err(format!("tag {tag:#x} left the ring before it was read")),
        None => Ok(()),
    }
}

/// A receiver killed in an operation.
pub struct Receiving<'a, S: Shape, H = <S as Shape>::Receiver> {
    pub operation: &'a Operation<H>,
    /// Makes the handle that it uses.
    pub handle: fn(S::Receiver) -> H,
    pub state: State,
    pub first: First,
}

pub struct ReceivingSurvivor<S: Shape> {
    pub ring: S::Ring,
    tx: S::Sender,
    /// The tags that were in the ring when the operation began.
    held: Range<u64>,
    /// Memory to which the child receives.
    hand: SharedWords,
}

impl<S: Shape, H> Case for Receiving<'_, S, H> {
    type Survivor = ReceivingSurvivor<S>;

    fn label(&self) -> String {
        format!("{} {}, {}, {}", S::LABEL, self.operation.name, self.state.name, self.first.name())
    }

    fn start(&self) -> Result<(Tracee, Self::Survivor), String> {
        let ring = fresh::<S>()?;
        let mut rx = receiver::<S>(&ring)?;
        let mut tx = sender::<S>(&ring)?;
        let mut held = fill::<S>(&self.state, &mut tx, &mut rx)?;
        drop(rx);
        let fd = S::share(&ring);
        if let Holds::Rest(received) = self.state.holds {
            held.start += received;
        }
        let hand = SharedWords::new(HAND);
        let tracee = Tracee::spawn(CHILD_LIFE, |child| {
            let ring = S::from_fd(fd).expect("opens");
            let mut rx = S::receiver(&ring).expect("the role is free");
            for _ in self.state.passed..held.start {
                black_box(S::try_recv(&mut rx).expect("receives"));
            }
            let mut rx = (self.handle)(rx);
            with_hand(&hand, |hand| (self.operation.run)(child, &mut rx, held.start, hand));
        })?;
        Ok((tracee, ReceivingSurvivor { ring, tx, held, hand }))
    }

    fn has_threads(&self) -> bool {
        self.operation.has_thread
    }

    fn check(&self, survivor: Self::Survivor) -> Result<Verdict, String> {
        let ReceivingSurvivor { ring, mut tx, held, hand } = survivor;
        let mut next = held.end;
        if self.first == First::Survivor && S::try_send(&mut tx, next)? == Sent::Yes {
            next += 1;
        }
        let mut rx = receiver::<S>(&ring)?;
        // The successor starts where the dead one stopped; at most what was in flight comes again.
        let mut sequence = Sequence::from_within(held.start, self.operation.messages);
        stream::<S>(&mut tx, &mut rx, next, &mut sequence)?;
        let start = sequence.start().ok_or("nothing was received")?;
        if self.operation.to_hand {
            check_hand::<S>(&hand, held.start..start)?;
        }
        Ok(Verdict::of(start - held.start))
    }

    fn effect(&self) -> u64 {
        self.operation.messages.min(match self.state.holds {
            Holds::Messages(count) => count,
            _ => u64::MAX,
        })
    }
}

fn sweep_sends<S: Shape>(operations: &[Operation<S::Sender>]) -> Vec<Row> {
    let states = |_: &_| states::<S>(State::new("drained", Holds::Drained), 1);
    sweep_sends_in::<S>(operations, states)
}

/// By a sender that goes on, into an empty ring but for what it has sent itself, and up to its end.
fn sweep_later_sends<S: Shape>(operations: &[Operation<S::Sender>]) -> Vec<Row> {
    sweep_sends_in::<S>(operations, |operation| {
        let most = CAPACITY as u64 - operation.messages;
        [1, most].map(|sent| State::new(&format!("has sent {sent}"), Holds::Sent(sent))).into()
    })
}

fn sweep_sends_in<S: Shape>(
    operations: &[Operation<S::Sender>],
    states: impl Fn(&Operation<S::Sender>) -> Vec<State>,
) -> Vec<Row> {
    let mut rows = Vec::new();
    for operation in operations {
        for state in states(operation) {
            if operation.blocks && state.holds == Holds::Full {
                continue;
            }
            let [survivor, mut successor] = [First::Survivor, First::Successor].map(|first| {
                let case = Sending::<S> { operation, state: state.clone(), first };
                sweep(&case, Points::Every, 2)
            });
            successor.must_agree(&survivor);
            rows.extend([survivor, successor]);
        }
    }
    rows
}

fn sweep_receives<S: Shape>(operations: &[Operation<S::Receiver>]) -> Vec<Row> {
    sweep_receives_by::<S, _>(operations, identity, Points::Every)
}

/// By a handle that is made of the receiver.
fn sweep_receives_by<S: Shape, H>(
    operations: &[Operation<H>],
    handle: fn(S::Receiver) -> H,
    points: Points,
) -> Vec<Row> {
    let mut rows = Vec::new();
    for operation in operations {
        for state in states::<S>(State::new("after three", Holds::Rest(3)), 0) {
            if operation.blocks && state.holds == Holds::Messages(0) {
                continue;
            }
            let [survivor, mut successor] = [First::Survivor, First::Successor].map(|first| {
                let case = Receiving::<S, H> { operation, handle, state: state.clone(), first };
                sweep(&case, points, 2)
            });
            successor.must_agree(&survivor);
            rows.extend([survivor, successor]);
        }
    }
    rows
}

#[test]
fn send_u64() {
    report("send, u64", &sweep_sends::<Slots<u64>>(&slot_sends()));
}

#[test]
fn send_eight_words() {
    report("send, [u64; 8]", &sweep_sends::<Slots<[u64; 8]>>(&slot_sends()));
}

#[test]
fn send_a_line_each() {
    // A sender of such messages takes the line of the next one back after each.
    let mut rows = sweep_sends::<Slots<[u64; 7]>>(&named(slot_sends(), "try_send"));
    rows.extend(sweep_later_sends::<Slots<[u64; 7]>>(&slot_sends()));
    rows.extend(sweep_later_sends::<Slots<[u64; 3]>>(&named(slot_sends(), "try_send")));
    report("send, a line each", &rows);
}

#[test]
fn send_padded() {
    let batch = named(slot_sends(), "try_send_batch");
    report("send, [u32; 3]", &sweep_sends::<Slots<[u32; 3]>>(&batch));
}

#[test]
fn receive_padded() {
    let batch = named(slot_receives(), "try_recv_batch");
    report("receive, [u32; 3]", &sweep_receives::<Slots<[u32; 3]>>(&batch));
}

#[test]
fn send_bytes() {
    report("send, bytes", &sweep_sends::<Bytes>(&byte_sends()));
}

#[test]
fn receive_u64() {
    report("receive, u64", &sweep_receives::<Slots<u64>>(&slot_receives()));
}

#[test]
fn receive_eight_words() {
    report("receive, [u64; 8]", &sweep_receives::<Slots<[u64; 8]>>(&slot_receives()));
}

#[test]
fn receive_bytes() {
    report("receive, bytes", &sweep_receives::<Bytes>(&byte_receives()));
}

#[test]
fn receive_polled() {
    let [short, long] = polled_receives();
    let mut rows = sweep_receives_by::<Slots<u64>, _>(&short, polled, Points::Every);
    rows.extend(sweep_receives_by::<Slots<u64>, _>(&long, polled, Points::Spread(100)));
    report("receive, with a descriptor", &rows);
}

#[test]
fn send_bare() {
    let mut rows = sweep_sends::<Bare<u64>>(&bare_sends::<u64>());
    rows.extend(sweep_sends::<Bare<[u32; 3]>>(&named(bare_sends::<[u32; 3]>(), "try_send_batch")));
    report("send, untyped", &rows);
}

#[test]
fn receive_bare() {
    let mut rows = sweep_receives::<Bare<u64>>(&bare_receives::<u64>());
    rows.extend(sweep_receives::<Bare<[u32; 3]>>(&named(
        bare_receives::<[u32; 3]>(),
        "try_peek_batch, skip",
    )));
    report("receive, untyped", &rows);
}

#[test]
fn send_shared() {
    let mut rows = sweep_sends::<Slots<u64, Shared>>(&slot_sends());
    let batch = named(slot_sends(), "try_send_batch");
    rows.extend(sweep_sends::<Slots<[u64; 8], Shared>>(&batch));
    report("send, shared", &rows);
}

#[test]
fn receive_shared() {
    let mut rows = sweep_receives::<Slots<u64, Shared>>(&shared_receives());
    let batch = named(shared_receives(), "try_recv_batch");
    rows.extend(sweep_receives::<Slots<[u64; 8], Shared>>(&batch));
    report("receive, shared", &rows);
}

#[test]
fn send_lanes() {
    let mut rows = sweep_sends::<Bytes<Lanes>>(&named(byte_sends(), "try_send"));
    let one = named(byte_sends(), "try_reserve, write, commit");
    rows.extend(sweep_sends::<Bytes<OrderedLanes>>(&one));
    report("send, lanes", &rows);
}

#[test]
fn receive_lanes() {
    let mut rows = Vec::new();
    // What happens in a lane is what happens in a ring of one sender; the other calls are tried there.
    for name in ["try_recv", "claim, copy, release", "try_recv_batch"] {
        rows.extend(sweep_receives::<Bytes<Lanes>>(&named(byte_receives(), name)));
    }
    let one = named(byte_receives(), "try_recv_into");
    rows.extend(sweep_receives::<Bytes<OrderedLanes>>(&one));
    report("receive, lanes", &rows);
}
