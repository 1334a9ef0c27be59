//! A reader's side of a variable, whatever its type.
//!
//! What a read of an unchanged value takes lies in the handle itself, and everything else apart from it: nothing but the
//! handle's owner has the address of [`Held`], so a loop that reads keeps it in registers. It does not even ask which process
//! this is. In a forked child the word of the latest value is one that nobody holds (see `sys/fork.rs`), so that what is
//! held is not the latest there, and whoever chooses asks first.

use crate::error::{Failure, Role, SetupError};
use crate::latest::{memory, refused};
use crate::participants::{Ending, Participant};
use crate::protocol::latest::{Chooser, Chosen, Held, Latest};
use crate::protocol::slots::Shape;
use crate::segment::Segment;
use crate::wait;
use std::sync::Arc;
use std::time::Instant;

/// What a reader holds, and what it takes to hold another value.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) held: Held<'static>,
    apart: Box<Apart>,
}

/// What is not touched as long as the value is the same.
// Lines of its own: others may change what lies next to it.
#[derive(Debug)]
#[repr(align(128))]
struct Apart {
    chooser: Chooser<'static>,
    side: Participant,
}

impl Reading {
    /// Becomes a reader.
    pub(crate) fn join(segment: &Arc<Segment>, shape: impl Shape) -> Result<Self, SetupError> {
        let mut side = Participant::join(segment, Role::Receiver)?;
        // SAFETY: what the references point to is the segment's mapping, which stays where it is as long as `side` has a
        // part in the segment; they are kept beside `side`, in a struct that has no `drop` of its own, and not given away
        // for longer than it is borrowed.
        let mem =
            unsafe { std::mem::transmute::<Latest<'_>, Latest<'static>>(memory(&side.attached)) };
        let chooser = Chooser::new(mem, shape, side.entry());
        let chosen = chooser.choose(0).map_err(|_| SetupError::Corrupt)?;
        side.enter();
        Ok(Self { held: chooser.hold(shape, chosen), apart: Box::new(Apart { chooser, side }) })
    }

    /// This reader's side.
    pub(crate) fn side(&mut self) -> &mut Participant {
        &mut self.apart.side
    }

    /// How the writer ended, if there is none.
    pub(crate) fn ending(&self) -> Option<Ending> {
        self.apart.side.ending()
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
        let (chosen, failure) = self.apart.choose(self.held.version());
        if let Some(failure) = failure {
            self.held = self.held.past();
            return Err(failure);
        }
        self.held.change(&self.apart.chooser, shape, chosen);
        Ok(())
    }

    /// Waits until there is a value that this reader has not read, and holds it.
    pub(crate) fn wait_for_change(
        &mut self,
        shape: impl Shape,
        deadline: Option<Instant>,
    ) -> Result<(), Failure> {
        let side = &mut self.apart.side;
        side.admit()?;
        let read = self.held.version();
        wait::wait(side, deadline, |side, _| {
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
        self.apart.side.admit()?;
        let is_read = memory(&self.apart.side.attached).version() == self.held.version();
        if is_read { Err(Failure::NotReady) } else { Ok(()) }
    }
}

impl Apart {
    /// What to hold instead of a value of version `last`, or why the handle may not be used. All of it in registers: what
    /// goes through memory is stored in parts and loaded whole, and that waits for each store before it.
    #[cold]
    #[inline(never)]
    fn choose(&mut self, last: u64) -> (Chosen, Option<Failure>) {
        if let Err(failure) = self.side.admit() {
            return (Chosen::NOTHING, Some(failure));
        }
        match self.chooser.choose(last) {
            Ok(chosen) => (chosen, None),
            Err(blocked) => (Chosen::NOTHING, Some(refused(&mut self.side, blocked))),
        }
    }
}
