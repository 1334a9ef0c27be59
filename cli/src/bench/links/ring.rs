//! `Ring<[u64; N]>`: messages of one type, received by value.

use std::os::fd::OwnedFd;

use annulus::{Place, Receiver, Ring, Sender, SetupError, Topology};

use crate::bench::link::{Failure, Link, Refusal, Setup, Side, Transport};

/// Memory for the messages in flight in one direction, within bounds of slots.
const BYTES: usize = 1 << 19;
const FEWEST: usize = 16;
const MOST: usize = 4096;

/// Something to be done with messages of a size that is known only now. The size of a message is part of a typed ring's
/// type, so the sizes that can be measured are compiled in.
pub trait Typed {
    type Output;

    /// Does it with messages of `N` words.
    fn with<const N: usize>(self) -> Self::Output;
}

/// Does it with messages of `size` bytes, or says why that cannot be.
pub fn typed<V: Typed>(size: usize, what: V) -> Result<V::Output, String> {
    Ok(match size {
        8 => what.with::<1>(),
        16 => what.with::<2>(),
        32 => what.with::<4>(),
        56 => what.with::<7>(),
        64 => what.with::<8>(),
        128 => what.with::<16>(),
        256 => what.with::<32>(),
        512 => what.with::<64>(),
        1024 => what.with::<128>(),
        4096 => what.with::<512>(),
        16_384 => what.with::<2048>(),
        65_536 => what.with::<8192>(),
        _ => return Err(
            "typed messages are compiled in: 8, 16, 32, 56, 64, 128, 256, 512 B, 1, 4, 16, 64 KiB"
                .into(),
        ),
    })
}

/// Messages of `size` bytes that a ring holds here.
pub fn capacity(size: usize) -> usize {
    (BYTES / size).clamp(FEWEST, MOST)
}

/// Makes a ring for messages of `size` bytes, which are `N` words, and gives its descriptor.
pub fn make<const N: usize>(
    size: usize,
    topology: Topology,
    participants: usize,
) -> Result<OwnedFd, Refusal> {
    let make = || -> Result<OwnedFd, SetupError> {
        let place = Place::memfd("annulus-bench")?;
        let builder = Ring::<[u64; N]>::builder(capacity(size)).prefault(true);
        builder.topology(topology).participants(participants).create(place)?.inheritable_fd()
    };
    make().map_err(|error| Refusal::Broken(error.to_string()))
}

/// A ring for each direction, by its descriptor.
///
/// A mapping does not cross a fork: the coordinator makes the rings, a worker inherits the descriptors and attaches as any
/// process would that was handed them.
pub struct Rings<const N: usize> {
    forth: OwnedFd,
    back: OwnedFd,
}

impl<const N: usize> Transport for Rings<N> {
    type Link = Ends<N>;

    fn prepare(setup: &Setup) -> Result<Self, Refusal> {
        let ring = || make::<N>(setup.size, Topology::Spsc, 0);
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
pub struct Ends<const N: usize> {
    to_peer: Sender<[u64; N]>,
    from_peer: Receiver<[u64; N]>,
}

impl<const N: usize> Link for Ends<N> {
    type Message = [u64; N];

    #[inline(always)]
    fn send(&mut self, message: &[u64; N]) -> Result<(), Failure> {
        self.to_peer.send(*message).map_err(|error| Failure::call("send", error))
    }

    #[inline(always)]
    fn recv(&mut self, message: &mut [u64; N]) -> Result<(), Failure> {
        // A result of another size would be put together in pieces, and the message be copied from those.
        match self.from_peer.recv() {
            Ok(received) => *message = received,
            Err(error) => return Err(Failure::call("recv", error)),
        }
        Ok(())
    }
}
