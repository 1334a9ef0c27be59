//! Killed while taking a role over from one that was killed: the repair of a repair.
//!
//! The first child dies at each of many points of an operation, the second while it takes the dead one's
//! role, and then the survivor and a third must find everything as if only the first had died.

use std::convert::identity;

use super::operation::{byte_receives, byte_sends, named, slot_receives, slot_sends};
use super::shape::{Bytes, Lanes, OrderedLanes, Shape, Shared, Slots};
use super::state::{Holds, State};
use super::steps::{First, Receiving, Sending};
use crate::support::ptrace::{Tracee, Walk};
use crate::support::sweep::{CHILD_LIFE, Case, Points, Row, Verdict, die_at, report, sweep, walk};

/// At how many points of its operation the first one dies.
const DEATHS: usize = 40;

/// At how many points of the takeover the second one dies, for each death of the first.
const REPAIRS: usize = 32;

/// A case whose survivors have a ring, in which a role can be taken.
pub trait HasRing: Case {
    type Shape: Shape;

    fn ring(survivor: &Self::Survivor) -> &<Self::Shape as Shape>::Ring;

    /// Takes the role of the dead and keeps it to the end of the process.
    fn take_role(ring: &<Self::Shape as Shape>::Ring) -> bool;
}

/// The second death, on top of the first.
struct TakeOver<'a, C> {
    case: &'a C,
    walk: &'a Walk,
    /// Where the first one dies.
    point: usize,
    /// The effect that the first one's operation had by then.
    effect: u64,
}

impl<C: HasRing> Case for TakeOver<'_, C> {
    type Survivor = C::Survivor;

    fn label(&self) -> String {
        format!("{}, dead at {}, taken over", self.case.label(), self.point)
    }

    fn start(&self) -> Result<(Tracee, C::Survivor), String> {
        let survivor = die_at(self.case, self.walk, self.point)?;
        let fd = C::Shape::share(C::ring(&survivor));
        let tracee = Tracee::spawn(CHILD_LIFE, |child| {
            let ring = C::Shape::from_fd(fd).expect("opens");
            child.section(|| C::take_role(&ring));
        })?;
        Ok((tracee, survivor))
    }

    fn check(&self, survivor: C::Survivor) -> Result<Verdict, String> {
        let verdict @ Verdict { effect, .. } = self.case.check(survivor)?;
        if effect == self.effect {
            Ok(verdict)
        } else {
            Err(format!("effect {effect} after the second death, {} after the first", self.effect))
        }
    }

    fn effect(&self) -> u64 {
        self.effect
    }
}

fn take_over<C: HasRing>(case: &C) -> Row {
    let mut all = Row::titled(format!("{}, taken over", case.label()));
    let walk = match walk(case) {
        Ok(walk) => walk,
        Err(error) => return all.failed(error),
    };
    for death in 0..=DEATHS {
        let point = death * walk.instructions() / DEATHS;
        let effect = match die_at(case, &walk, point).and_then(|survivor| case.check(survivor)) {
            Ok(verdict) => verdict.effect,
            Err(error) => return all.failed(error),
        };
        // The points of the second death shift with those of the first: together they are dense.
        let points = Points::Comb { count: REPAIRS, shift: death, of: DEATHS + 1 };
        all.add(sweep(&TakeOver { case, walk: &walk, point, effect }, points, 2));
    }
    all
}

impl<S: Shape> HasRing for Sending<'_, S> {
    type Shape = S;

    fn ring(survivor: &Self::Survivor) -> &S::Ring {
        &survivor.ring
    }

    fn take_role(ring: &S::Ring) -> bool {
        S::sender(ring).map(std::mem::forget).is_ok()
    }
}

impl<S: Shape> HasRing for Receiving<'_, S> {
    type Shape = S;

    fn ring(survivor: &Self::Survivor) -> &S::Ring {
        &survivor.ring
    }

    fn take_role(ring: &S::Ring) -> bool {
        S::receiver(ring).map(std::mem::forget).is_ok()
    }
}

/// The operation at the last turn of the layout, where the most can be half done.
fn last_turn<S: Shape>(before: u64) -> State {
    let turn = S::turns().pop().expect("every layout has a turn");
    State { name: format!("turn {turn}"), passed: turn - before, holds: Holds::Messages(1) }
}

#[test]
fn take_over_sender() {
    let slots = named(slot_sends::<u64>(), "try_send_batch");
    let bytes = named(byte_sends(), "try_send");
    let state = last_turn::<Slots<u64>>(1);
    let rows = [
        take_over(&Sending::<Slots<u64>> { operation: &slots[0], state, first: First::Successor }),
        take_over(&Sending::<Bytes> {
            operation: &bytes[0],
            state: last_turn::<Bytes>(1),
            first: First::Successor,
        }),
    ];
    report("take over, sender", &rows);
}

#[test]
fn take_over_receiver() {
    let slots = named(slot_receives::<u64>(), "try_recv_batch");
    let bytes = named(byte_receives(), "try_recv");
    let state = State::full();
    let rows = [
        take_over(&Receiving::<Slots<u64>> {
            operation: &slots[0],
            handle: identity,
            state,
            first: First::Successor,
        }),
        take_over(&Receiving::<Bytes> {
            operation: &bytes[0],
            handle: identity,
            state: last_turn::<Bytes>(0),
            first: First::Successor,
        }),
    ];
    report("take over, receiver", &rows);
}

#[test]
fn take_over_shared() {
    let sends = named(slot_sends::<u64>(), "try_send_batch");
    let receives = named(slot_receives::<u64>(), "try_recv_batch");
    let (state, first) = (last_turn::<Slots<u64, Shared>>(1), First::Successor);
    let full = State::full();
    let rows = [
        take_over(&Sending::<Slots<u64, Shared>> { operation: &sends[0], state, first }),
        take_over(&Receiving::<Slots<u64, Shared>> {
            operation: &receives[0],
            handle: identity,
            state: full,
            first,
        }),
    ];
    report("take over, shared", &rows);
}

#[test]
fn take_over_lanes() {
    let sends = named(byte_sends(), "try_send");
    let receives = named(byte_receives(), "try_recv");
    let (state, first) = (last_turn::<Bytes<Lanes>>(1), First::Successor);
    let ordered = last_turn::<Bytes<OrderedLanes>>(0);
    let rows = [
        take_over(&Sending::<Bytes<Lanes>> { operation: &sends[0], state, first }),
        take_over(&Receiving::<Bytes<OrderedLanes>> {
            operation: &receives[0],
            handle: identity,
            state: ordered,
            first,
        }),
    ];
    report("take over, lanes", &rows);
}
