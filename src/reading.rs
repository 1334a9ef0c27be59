//! A reader's side of a variable, whatever its type.
//!
//! What a read of an unchanged value takes lies in the handle itself, and everything else apart from it: nothing but the
//! handle's owner has the address of [`Held`], so a loop that reads keeps it in registers. It does not even ask which process
//! this is. In a forked child the word of the latest value is one that nobody holds (see `sys/fork.rs`), so that what is
//! held is not the latest there, and whoever chooses asks first.

use crate::error::{Failure, Role, SetupError};
use crate::latest::{memory, refused};
use crate::participants::Participant;
use crate::protocol::latest::{Chooser, Held, Latest};
use crate::protocol::slots::Shape;
use crate::segment::Segment;
use crate::wait;
use std::sync::Arc;
use std::time::Instant;

/// What a reader holds, and what it takes to hold another value.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) held: Held<'static>,
    chooser: Chooser<'static>,
    pub(crate) side: Box<Participant>,
}

impl Reading {
    /// Becomes a reader.
    pub(crate) fn join(segment: &Arc<Segment>, shape: impl Shape) -> Result<Self, SetupError> {
        let mut side = Box::new(Participant::join(segment, Role::Receiver)?);
        // SAFETY: what the references point to is the segment's mapping, which stays where it is as long as `side` has a
        // part in the segment; they are kept beside `side`, in a struct that has no `drop` of its own, and not given away
        // for longer than it is borrowed.
        let mem =
            unsafe { std::mem::transmute::<Latest<'_>, Latest<'static>>(memory(&side.attached)) };
        let chooser = Chooser::new(mem, shape, side.entry());
        let held = chooser.choose(shape, 0).map_err(|_| SetupError::Corrupt)?;
        side.enter();
        Ok(Self { held, chooser, side })
    }

    /// Holds the latest value; whether that is another one than before.
    #[inline(always)]
    pub(crate) fn refresh(&mut self, shape: impl Shape) -> Result<bool, Failure> {
        if self.held.is_latest() {
            return Ok(false);
        }
        self.choose(shape)?;
        Ok(true)
    }

    #[inline(always)]
    fn choose(&mut self, shape: impl Shape) -> Result<(), Failure> {
        let result;
        (self.held, result) = choose(&mut self.side, self.chooser, self.held, shape);
        result
    }

    /// Waits until there is a value that this reader has not read, and holds it.
    pub(crate) fn wait_for_change(
        &mut self,
        shape: impl Shape,
        deadline: Option<Instant>,
    ) -> Result<(), Failure> {
        self.side.admit()?;
        let read = self.held.version();
        wait::wait(&mut self.side, deadline, |side, _| {
            side.admit()?;
            // Another version. A lower one is damage, which `choose` finds.
            if memory(&side.attached).version() == read {
                return Err(Failure::NotReady);
            }
            Ok(())
        })?;
        self.choose(shape)
    }

    /// Whether there is a value that this reader has not read.
    pub(crate) fn poll(&mut self) -> Result<(), Failure> {
        self.side.admit()?;
        let is_read = memory(&self.side.attached).version() == self.held.version();
        if is_read { Err(Failure::NotReady) } else { Ok(()) }
    }
}

/// What is held from now on: another value or, of a handle that may not be used, one that is not the latest. Everything is
/// handed over as it is, for an address would be one that others may have kept.
#[cold]
#[inline(never)]
fn choose(
    side: &mut Participant,
    chooser: Chooser<'static>,
    held: Held<'static>,
    shape: impl Shape,
) -> (Held<'static>, Result<(), Failure>) {
    let chosen = side.admit().and_then(|()| {
        let chosen = chooser.choose(shape, held.version());
        chosen.map_err(|blocked| refused(side, blocked))
    });
    match chosen {
        Ok(chosen) => (chosen, Ok(())),
        Err(failure) => (held.past(), Err(failure)),
    }
}
