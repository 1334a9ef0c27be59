//! `Event`: flags that coalesce.

use std::os::fd::OwnedFd;

use annulus::{Event, EventHandle, Place, SetupError};

use super::notice::{Notice, Notices};
use crate::bench::link::{Failure, Refusal, Side, Waiting};

/// The flag that the near side raises, and the far side.
const FORTH: u64 = 1;
const BACK: u64 = 1 << 63;

/// An event for each direction, by its descriptor, as for the [typed rings](super::ring::Rings).
pub struct Events {
    forth: OwnedFd,
    back: OwnedFd,
}

impl Notices for Events {
    type End = Handles;

    fn prepare() -> Result<Self, Refusal> {
        let make = || -> Result<OwnedFd, SetupError> {
            Event::builder().create(Place::memfd("annulus-bench")?)?.inheritable_fd()
        };
        let event = || make().map_err(|error| Refusal::Broken(error.to_string()));
        Ok(Self { forth: event()?, back: event()? })
    }

    fn attach(self, side: Side, wait: Waiting) -> Result<Handles, Failure> {
        let handle = |fd| -> Result<EventHandle, SetupError> {
            Ok(Event::from_fd(fd)?.handle()?.with_wait(wait.into()))
        };
        let handle = |fd| handle(fd).map_err(|error| Failure::call("attach", error));
        let (forth, back) = (handle(self.forth)?, handle(self.back)?);
        Ok(match side {
            Side::Near => Handles { to_peer: forth, raised: FORTH, from_peer: back, taken: BACK },
            Side::Far => Handles { to_peer: back, raised: BACK, from_peer: forth, taken: FORTH },
        })
    }
}

/// One side's handles and flags.
pub struct Handles {
    to_peer: EventHandle,
    raised: u64,
    from_peer: EventHandle,
    taken: u64,
}

impl Notice for Handles {
    #[inline]
    fn raise(&mut self) -> Result<(), Failure> {
        self.to_peer.raise(self.raised).map_err(|error| Failure::call("raise", error))
    }

    #[inline]
    fn take(&mut self) -> Result<(), Failure> {
        let taken =
            self.from_peer.take(self.taken).map_err(|error| Failure::call("take", error))?;
        if taken == self.taken { Ok(()) } else { Err(Failure::wrong_flags(taken, self.taken)) }
    }
}
