//! Byte streams: messages of a known size need no framing, only patience with partial reads and writes.

use std::io::{Read, Write};

use crate::bench::link::{Failure, Link};
use crate::bench::payload::Bytes;

/// A descriptor to read from and one to write to.
pub struct Stream<R, W> {
    pub from_peer: R,
    pub to_peer: W,
}

impl<R: Read, W: Write> Link for Stream<R, W> {
    type Message = Bytes;

    #[inline]
    fn send(&mut self, message: &Bytes) -> Result<(), Failure> {
        self.to_peer.write_all(&message.0).map_err(|error| Failure::call("write", error))
    }

    #[inline]
    fn recv(&mut self, message: &mut Bytes) -> Result<(), Failure> {
        self.from_peer.read_exact(&mut message.0).map_err(|error| Failure::call("read", error))
    }
}
