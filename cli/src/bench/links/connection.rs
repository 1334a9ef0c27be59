//! Connections of two processes that met at a socket: bytes as a stream, and messages of any length.

use annulus::{ByteDuplex, ByteStream, ByteStreamReader, ByteStreamWriter};

use super::doorstep::Doorstep;
use super::stream::Stream;
use crate::bench::link::{Failure, Link, Refusal, Setup, Side, Transport};
use crate::bench::payload::Bytes;

/// Memory for what is in flight in one direction, and room for how many messages at least.
const BYTES: usize = 1 << 19;
const MESSAGES: usize = 8;

fn capacity(size: usize) -> usize {
    (size * MESSAGES).next_power_of_two().max(BYTES)
}

/// `ByteStream`: what a stream socket is.
pub struct ByteStreams(Doorstep);

impl Transport for ByteStreams {
    type Link = Stream<ByteStreamReader, ByteStreamWriter>;

    fn prepare(_: &Setup) -> Result<Self, Refusal> {
        Ok(Self(Doorstep::new()))
    }

    fn attach(self, side: Side, setup: &Setup) -> Result<Self::Link, Failure> {
        let mut ends: ByteStream = self.0.meet(side, capacity(setup.size))?;
        ends.set_wait(setup.wait.into());
        let (from_peer, to_peer) = ends.split();
        Ok(Stream { from_peer, to_peer })
    }
}

/// `ByteDuplex`: what a seqpacket socket is.
pub struct ByteDuplexes(Doorstep);

impl Transport for ByteDuplexes {
    type Link = Ends;

    fn prepare(_: &Setup) -> Result<Self, Refusal> {
        Ok(Self(Doorstep::new()))
    }

    fn attach(self, side: Side, setup: &Setup) -> Result<Ends, Failure> {
        let mut ends: ByteDuplex = self.0.meet(side, capacity(setup.size))?;
        ends.set_wait(setup.wait.into());
        Ok(Ends(ends))
    }
}

/// One side's end.
pub struct Ends(ByteDuplex);

impl Link for Ends {
    type Message = Bytes;

    #[inline]
    fn send(&mut self, message: &Bytes) -> Result<(), Failure> {
        self.0.send(&message.0).map_err(|error| Failure::call("send", error))
    }

    #[inline]
    fn recv(&mut self, message: &mut Bytes) -> Result<(), Failure> {
        let expected = message.0.len();
        let received = self.0.recv(&mut message.0).map_err(|error| Failure::call("recv", error))?;
        if received == expected { Ok(()) } else { Err(Failure::wrong_length(received, expected)) }
    }
}
