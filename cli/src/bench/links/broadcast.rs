//! `Broadcast<[u64; N]>` with a single receiver that is waited for, which is a queue.

use std::os::fd::OwnedFd;

use annulus::{Broadcast, BroadcastReceiver, BroadcastSender, Delivery, Place, SetupError, Start};

use super::ring::capacity;
use crate::bench::link::{Failure, Link, Refusal, Setup, Side, Transport, Waiting};

/// A broadcast for messages of `N` words, by its descriptor.
pub fn make<const N: usize>(size: usize) -> Result<OwnedFd, Refusal> {
    let make = || -> Result<OwnedFd, SetupError> {
        let builder = Broadcast::<[u64; N]>::builder(capacity(size)).prefault(true);
        builder.create(Place::memfd("annulus-bench")?)?.inheritable_fd()
    };
    make().map_err(|error| Refusal::Broken(error.to_string()))
}

/// The sender's end.
pub fn sender<const N: usize>(
    fd: OwnedFd,
    wait: Waiting,
) -> Result<BroadcastSender<[u64; N]>, Failure> {
    let sender = || Ok(Broadcast::from_fd(fd)?.sender()?.with_wait(wait.into()));
    sender().map_err(|error: SetupError| Failure::call("attach", error))
}

/// The end of a receiver that is waited for.
pub fn receiver<const N: usize>(
    fd: OwnedFd,
    wait: Waiting,
) -> Result<BroadcastReceiver<[u64; N]>, Failure> {
    let receiver = || {
        let broadcast = Broadcast::from_fd(fd)?;
        Ok(broadcast.receiver(Delivery::Gate, Start::Now)?.with_wait(wait.into()))
    };
    receiver().map_err(|error: SetupError| Failure::call("attach", error))
}

/// One for each direction, as for the [typed rings](super::ring::Rings).
pub struct Broadcasts<const N: usize> {
    forth: OwnedFd,
    back: OwnedFd,
}

impl<const N: usize> Transport for Broadcasts<N> {
    type Link = Ends<N>;

    fn prepare(setup: &Setup) -> Result<Self, Refusal> {
        Ok(Self { forth: make::<N>(setup.size)?, back: make::<N>(setup.size)? })
    }

    fn attach(self, side: Side, setup: &Setup) -> Result<Ends<N>, Failure> {
        let (outgoing, incoming) = match side {
            Side::Near => (self.forth, self.back),
            Side::Far => (self.back, self.forth),
        };
        let (to_peer, from_peer) = (sender(outgoing, setup.wait)?, receiver(incoming, setup.wait)?);
        Ok(Ends { to_peer, from_peer })
    }
}

/// One side's handles.
pub struct Ends<const N: usize> {
    to_peer: BroadcastSender<[u64; N]>,
    from_peer: BroadcastReceiver<[u64; N]>,
}

impl<const N: usize> Link for Ends<N> {
    type Message = [u64; N];

    #[inline]
    fn send(&mut self, message: &[u64; N]) -> Result<(), Failure> {
        self.to_peer.send(*message).map_err(|error| Failure::call("send", error))
    }

    #[inline]
    fn recv(&mut self, message: &mut [u64; N]) -> Result<(), Failure> {
        *message = self.from_peer.recv().map_err(|error| Failure::call("recv", error))?;
        Ok(())
    }
}
