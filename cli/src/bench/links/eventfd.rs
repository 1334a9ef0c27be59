//! eventfd: a counter, not a queue. It carries eight bytes at most.
//!
//! In a round trip the counter is the message: the sequence number is added to zero and read back, which also clears it.
//! One way, values of several writes would be added up before anybody reads them, so the rate is that of a semaphore
//! (`EFD_SEMAPHORE`): each message is a token of value one, and the tokens are counted.

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::bench::link::{Failure, Link, Refusal, Setup, Side, Transport};
use crate::bench::payload::Payload;

/// A counter for each direction, and a semaphore.
pub struct Eventfds {
    forth: EventFd,
    back: EventFd,
    tokens: EventFd,
}

impl Transport for Eventfds {
    type Link = Counters;

    fn prepare(setup: &Setup) -> Result<Self, Refusal> {
        if setup.size != 8 {
            return Err(Refusal::Unavailable("an eventfd carries 8 B".into()));
        }
        let counter = |flags: EfdFlags| {
            EventFd::from_flags(flags | EfdFlags::EFD_CLOEXEC)
                .map_err(|error| Refusal::by_kernel("eventfd", error))
        };
        Ok(Self {
            forth: counter(EfdFlags::empty())?,
            back: counter(EfdFlags::empty())?,
            tokens: counter(EfdFlags::EFD_SEMAPHORE)?,
        })
    }

    fn attach(self, side: Side, _: &Setup) -> Result<Counters, Failure> {
        let (to_peer, from_peer) =
            if side == Side::Near { (self.forth, self.back) } else { (self.back, self.forth) };
        Ok(Counters { to_peer, from_peer, tokens: self.tokens, one_way: false })
    }
}

/// One side's view of the three.
pub struct Counters {
    to_peer: EventFd,
    from_peer: EventFd,
    tokens: EventFd,
    one_way: bool,
}

impl Link for Counters {
    type Message = [u64; 1];

    #[inline]
    fn send(&mut self, message: &[u64; 1]) -> Result<(), Failure> {
        let (counter, value) =
            if self.one_way { (&self.tokens, 1) } else { (&self.to_peer, message[0]) };
        counter.write(value).map_err(|error| Failure::call("write", error))?;
        Ok(())
    }

    #[inline]
    fn recv(&mut self, message: &mut [u64; 1]) -> Result<(), Failure> {
        let counter = if self.one_way { &self.tokens } else { &self.from_peer };
        message[0] = counter.read().map_err(|error| Failure::call("read", error))?;
        Ok(())
    }

    #[inline]
    fn recv_checked(&mut self, sequence: u64, message: &mut [u64; 1]) -> Result<bool, Failure> {
        self.recv(message)?;
        Ok(if self.one_way { message[0] == 1 } else { message.matches(sequence) })
    }

    fn one_way(&mut self) {
        self.one_way = true;
    }
}
