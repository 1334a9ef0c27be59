//! `Stream`: bytes without boundaries, read and written as a pipe is.

use std::os::fd::OwnedFd;

use annulus::{Place, SetupError, StreamReader, StreamWriter};

use super::stream::Stream;
use crate::bench::link::{Failure, Refusal, Setup, Side, Transport};

/// Memory for the bytes in flight in one direction: what the [pipes](super::pipe) are enlarged to.
const BYTES: usize = 1 << 20;

/// A stream for each direction, by its descriptor, as for the [typed rings](super::ring::Rings).
pub struct RingStreams {
    forth: OwnedFd,
    back: OwnedFd,
}

impl Transport for RingStreams {
    type Link = Stream<StreamReader, StreamWriter>;

    fn prepare(_: &Setup) -> Result<Self, Refusal> {
        let make = || -> Result<OwnedFd, SetupError> {
            let builder = annulus::Stream::builder(BYTES).prefault(true);
            builder.create(Place::memfd("annulus-bench")?)?.inheritable_fd()
        };
        let stream = || make().map_err(|error| Refusal::Broken(error.to_string()));
        Ok(Self { forth: stream()?, back: stream()? })
    }

    fn attach(self, side: Side, setup: &Setup) -> Result<Self::Link, Failure> {
        let (outgoing, incoming) = match side {
            Side::Near => (self.forth, self.back),
            Side::Far => (self.back, self.forth),
        };
        let ends = || -> Result<Self::Link, SetupError> {
            let mut to_peer = annulus::Stream::from_fd(outgoing)?.writer()?;
            let mut from_peer = annulus::Stream::from_fd(incoming)?.reader()?;
            to_peer.set_wait(setup.wait.into());
            from_peer.set_wait(setup.wait.into());
            Ok(Stream { from_peer, to_peer })
        };
        ends().map_err(|error| Failure::call("attach", error))
    }
}
