//! Variables that one process writes and another reads, and round trips over two of them.

use crate::bench::link::{Failure, Link, Refusal, Setup, Side, Transport, Waiting};

/// A variable of `N` words that the coordinator makes.
pub trait Variable<const N: usize>: Sized {
    type Writer: Write<N>;
    type Reader: Read<N>;

    fn prepare() -> Result<Self, Refusal>;

    fn writer(self, wait: Waiting) -> Result<Self::Writer, Failure>;

    fn reader(self, wait: Waiting) -> Result<Self::Reader, Failure>;
}

/// Who writes it.
pub trait Write<const N: usize> {
    fn write(&mut self, value: &[u64; N]) -> Result<(), Failure>;
}

/// Who reads it.
pub trait Read<const N: usize> {
    /// The value, whatever it is.
    fn read(&mut self, value: &mut [u64; N]) -> Result<(), Failure>;

    /// The next value that was not read yet, waiting for it.
    fn read_next(&mut self, value: &mut [u64; N]) -> Result<(), Failure>;
}

/// A variable for each direction: a round trip is a change that is answered by another.
pub struct Variables<V, const N: usize> {
    forth: V,
    back: V,
}

impl<V: Variable<N>, const N: usize> Transport for Variables<V, N> {
    type Link = Ends<V::Writer, V::Reader, N>;

    fn prepare(_: &Setup) -> Result<Self, Refusal> {
        Ok(Self { forth: V::prepare()?, back: V::prepare()? })
    }

    fn attach(self, side: Side, setup: &Setup) -> Result<Self::Link, Failure> {
        let (outgoing, incoming) =
            if side == Side::Near { (self.forth, self.back) } else { (self.back, self.forth) };
        let (to_peer, from_peer) = (outgoing.writer(setup.wait)?, incoming.reader(setup.wait)?);
        Ok(Ends { to_peer, from_peer })
    }
}

/// One side's view of both.
pub struct Ends<W, R, const N: usize> {
    to_peer: W,
    from_peer: R,
}

impl<W: Write<N>, R: Read<N>, const N: usize> Link for Ends<W, R, N> {
    type Message = [u64; N];

    #[inline]
    fn send(&mut self, message: &[u64; N]) -> Result<(), Failure> {
        self.to_peer.write(message)
    }

    #[inline]
    fn recv(&mut self, message: &mut [u64; N]) -> Result<(), Failure> {
        self.from_peer.read_next(message)
    }
}
