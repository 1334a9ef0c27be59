//! `Ring<[u64; N]>`: messages of one type, received by value.

use std::os::fd::OwnedFd;

use annulus::{Place, Receiver, Ring, Sender, SetupError};
use bytemuck::Pod;

use crate::bench::link::{Failure, Link, Refusal, Setup, Side, Transport};

/// Memory for the messages in flight in one direction, within bounds of slots.
const BYTES: usize = 1 << 19;
const FEWEST: usize = 16;
const MOST: usize = 4096;

/// A ring for each direction, by its descriptor.
///
/// A mapping does not cross a fork: the coordinator makes the rings, a worker inherits the descriptors and attaches as any
/// process would that was handed them.
pub struct Rings<const N: usize> {
    forth: OwnedFd,
    back: OwnedFd,
}

impl<const N: usize> Transport for Rings<N>
where
    [u64; N]: Pod,
{
    type Link = Ends<N>;

    fn prepare(setup: &Setup) -> Result<Self, Refusal> {
        let capacity = (BYTES / setup.size).clamp(FEWEST, MOST);
        let make = || -> Result<OwnedFd, SetupError> {
            let place = Place::memfd("annulus-bench")?;
            let ring = Ring::<[u64; N]>::builder(capacity).prefault(true).create(place)?;
            ring.inheritable_fd()
        };
        let ring = || make().map_err(|error| Refusal::Broken(error.to_string()));
        Ok(Self { forth: ring()?, back: ring()? })
    }

    fn attach(self, side: Side, setup: &Setup) -> Result<Ends<N>, Failure> {
        let (outgoing, incoming) = match side {
            Side::Near => (self.forth, self.back),
            Side::Far => (self.back, self.forth),
        };
        let wait = setup.wait.into();
        let ends = || -> Result<Ends<N>, SetupError> {
            let to_peer = Ring::from_fd(outgoing)?.sender()?.with_wait(wait);
            let from_peer = Ring::from_fd(incoming)?.receiver()?.with_wait(wait);
            Ok(Ends { to_peer, from_peer })
        };
        ends().map_err(|error| Failure::call("attach", error))
    }
}

/// One side's handles.
pub struct Ends<const N: usize>
where
    [u64; N]: Pod,
{
    to_peer: Sender<[u64; N]>,
    from_peer: Receiver<[u64; N]>,
}

impl<const N: usize> Link for Ends<N>
where
    [u64; N]: Pod,
{
    type Message = [u64; N];

    #[inline(always)]
    fn send(&mut self, message: &[u64; N]) -> Result<(), Failure> {
        self.to_peer.send(*message).map_err(|error| Failure::call("send", error))
    }

    #[inline(always)]
    fn recv(&mut self, message: &mut [u64; N]) -> Result<(), Failure> {
        *message = self.from_peer.recv().map_err(|error| Failure::call("recv", error))?;
        Ok(())
    }
}
