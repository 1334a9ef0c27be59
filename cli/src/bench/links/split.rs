//! `Duplex<[u64; N]>`: the split form, each side's half in a file of its own, met over a Unix socket.

use annulus::Duplex;

use super::doorstep::Doorstep;
use super::ring::capacity;
use crate::bench::link::{Failure, Link, Refusal, Setup, Side, Transport};

/// Where the workers meet.
pub struct Split<const N: usize>(Doorstep);

impl<const N: usize> Transport for Split<N> {
    type Link = Ends<N>;

    fn prepare(_: &Setup) -> Result<Self, Refusal> {
        Ok(Self(Doorstep::new()))
    }

    fn attach(self, side: Side, setup: &Setup) -> Result<Ends<N>, Failure> {
        let mut ends: Duplex<[u64; N]> = self.0.meet(side, capacity(setup.size))?;
        ends.set_wait(setup.wait.into());
        Ok(Ends(ends))
    }
}

/// One side's end.
pub struct Ends<const N: usize>(Duplex<[u64; N]>);

impl<const N: usize> Link for Ends<N> {
    type Message = [u64; N];

    #[inline(always)]
    fn send(&mut self, message: &[u64; N]) -> Result<(), Failure> {
        self.0.send(*message).map_err(|error| Failure::call("send", error))
    }

    #[inline(always)]
    fn recv(&mut self, message: &mut [u64; N]) -> Result<(), Failure> {
        // A result of another size would be put together in pieces, and the message be copied from those.
        match self.0.recv() {
            Ok(received) => *message = received,
            Err(error) => return Err(Failure::call("recv", error)),
        }
        Ok(())
    }
}
