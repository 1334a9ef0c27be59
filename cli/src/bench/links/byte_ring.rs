//! `ByteRing`: messages of any length, received into a vector.

use std::os::fd::OwnedFd;

use annulus::{ByteReceiver, ByteRing, ByteSender, Place, SetupError};

use crate::bench::link::{Failure, Link, Refusal, Setup, Side, Transport};
use crate::bench::payload::Bytes;

/// Memory for the messages in flight in one direction, and room for how many at least.
const BYTES: usize = 1 << 19;
const MESSAGES: usize = 8;

/// A ring for each direction, by its descriptor, as for the [typed rings](super::ring::Rings).
pub struct ByteRings {
    forth: OwnedFd,
    back: OwnedFd,
}

impl Transport for ByteRings {
    type Link = Ends;

    fn prepare(setup: &Setup) -> Result<Self, Refusal> {
        let capacity = (setup.size * MESSAGES).next_power_of_two().max(BYTES);
        let make = || -> Result<OwnedFd, SetupError> {
            let place = Place::memfd("annulus-bench")?;
            let ring = ByteRing::builder(capacity).prefault(true).create(place)?;
            ring.inheritable_fd()
        };
        let ring = || make().map_err(|error| Refusal::Broken(error.to_string()));
        Ok(Self { forth: ring()?, back: ring()? })
    }

    fn attach(self, side: Side, setup: &Setup) -> Result<Ends, Failure> {
        let (outgoing, incoming) = match side {
            Side::Near => (self.forth, self.back),
            Side::Far => (self.back, self.forth),
        };
        let wait = setup.wait.into();
        let ends = || -> Result<Ends, SetupError> {
            let to_peer = ByteRing::from_fd(outgoing)?.sender()?.with_wait(wait);
            let from_peer = ByteRing::from_fd(incoming)?.receiver()?.with_wait(wait);
            Ok(Ends { to_peer, from_peer })
        };
        ends().map_err(|error| Failure::call("attach", error))
    }
}

/// One side's handles.
pub struct Ends {
    to_peer: ByteSender,
    from_peer: ByteReceiver,
}

impl Link for Ends {
    type Message = Bytes;

    #[inline(always)]
    fn send(&mut self, message: &Bytes) -> Result<(), Failure> {
        self.to_peer.send(&message.0).map_err(|error| Failure::call("send", error))
    }

    #[inline(always)]
    fn recv(&mut self, message: &mut Bytes) -> Result<(), Failure> {
        let expected = message.0.len();
        let received =
            self.from_peer.recv(&mut message.0).map_err(|error| Failure::call("recv", error))?;
        if received == expected { Ok(()) } else { Err(Failure::wrong_length(received, expected)) }
    }
}
