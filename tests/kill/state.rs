//! The states of a ring in which an operation is killed.

use std::ops::Range;

use annulus::{Place, SetupError};

use super::shape::{Sent, Shape};
use super::survive::{Sequence, drain};
use crate::support::process::holders;
use crate::support::ptrace::{Stop, Tracee};

/// Messages that the ring of a case holds at least.
pub const CAPACITY: usize = 8;

/// What the ring holds when the operation begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    Messages(u64),
    /// As many as go in.
    Full,
    /// For a sender: it filled the ring itself, and everything was received since.
    Drained,
    /// For a sender: it sent so many itself, and they are still there.
    Sent(u64),
    /// For a receiver: it received this many itself, the ring still holds as many as a batch has.
    Rest(u64),
}

/// A state of the ring.
#[derive(Clone, Debug)]
pub struct State {
    pub name: String,
    /// Messages that passed before, which move the place where the operation happens.
    pub passed: u64,
    pub holds: Holds,
}

impl State {
    pub fn new(name: &str, holds: Holds) -> Self {
        Self { name: name.into(), passed: 0, holds }
    }

    pub fn empty() -> Self {
        Self::new("empty", Holds::Messages(0))
    }

    pub fn one() -> Self {
        Self::new("one", Holds::Messages(1))
    }

    pub fn full() -> Self {
        Self::new("full", Holds::Full)
    }
}

/// Every state: those of either side, `more`, and the operation at each turn of the layout, where `before` is
/// how many messages are in the ring in front of the operation's own.
pub fn states<S: Shape>(more: State, before: u64) -> Vec<State> {
    let turns = S::turns().into_iter().map(|turn| State {
        name: format!("turn {turn}"),
        passed: turn - before,
        holds: Holds::Messages(1),
    });
    [State::empty(), State::one(), State::full(), more].into_iter().chain(turns).collect()
}

pub fn fresh<S: Shape>() -> Result<S::Ring, String> {
    let place = Place::memfd("kill").map_err(|error| error.to_string())?;
    S::create(CAPACITY, place).map_err(|error| format!("create: {error}"))
}

pub fn sender<S: Shape>(ring: &S::Ring) -> Result<S::Sender, String> {
    S::sender(ring).map_err(|error| refused::<S>("sender", ring, &error))
}

pub fn receiver<S: Shape>(ring: &S::Ring) -> Result<S::Receiver, String> {
    S::receiver(ring).map_err(|error| refused::<S>("receiver", ring, &error))
}

fn refused<S: Shape>(role: &str, ring: &S::Ring, error: &SetupError) -> String {
    format!("taking the {role}'s role: {error}; locks: {}", holders(S::share(ring)))
}

/// Brings a fresh ring into `state`: the tags that are in it.
pub fn fill<S: Shape>(
    state: &State,
    tx: &mut S::Sender,
    rx: &mut S::Receiver,
) -> Result<Range<u64>, String> {
    let mut sequence = Sequence::from(0);
    for tag in 0..state.passed {
        if S::try_send(tx, tag)? != Sent::Yes {
            return Err(format!("no room for message {tag} of an empty ring"));
        }
        drain::<S>(rx, &mut sequence)?;
    }
    let next = fill_in::<S>(state.holds, tx, state.passed)?;
    Ok(state.passed..next)
}

/// Sends the tags from `next` on that an empty ring is to hold: the tag after the last.
pub fn fill_in<S: Shape>(holds: Holds, tx: &mut S::Sender, mut next: u64) -> Result<u64, String> {
    match holds {
        Holds::Messages(count) => {
            for _ in 0..count {
                if S::try_send(tx, next)? != Sent::Yes {
                    return Err(format!("no room for {count} messages"));
                }
                next += 1;
            }
            Ok(next)
        }
        Holds::Full | Holds::Rest(_) => fill_up::<S>(tx, next),
        Holds::Drained | Holds::Sent(_) => Ok(next),
    }
}

/// Sends the tags from `next` on until the ring is full: the tag that did not fit.
pub fn fill_up<S: Shape>(tx: &mut S::Sender, mut next: u64) -> Result<u64, String> {
    while S::try_send(tx, next)? == Sent::Yes {
        next += 1;
    }
    Ok(next)
}

/// Lets a child go on from the mark in its preparation to that of its section.
pub fn to_section(tracee: &mut Tracee) -> Result<(), String> {
    match tracee.go_on() {
        Stop::Mark => Ok(()),
        other => Err(format!("the child did not reach its section: {other:?}")),
    }
}
