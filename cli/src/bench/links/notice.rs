//! Notices that carry nothing: there is something new, look at the number in shared memory.
//!
//! In a round trip each notice is waited for. One way they coalesce: whoever is told looks what number has been reached, which
//! must not go back, and is told nothing of those in between.

use std::sync::atomic::Ordering;

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::bench::link::{Failure, Link, Refusal, Setup, Side, Transport, Waiting};
use crate::bench::shared::{Line, Shareable, Shared};

/// A way to notify, in both directions.
pub trait Notices: Sized {
    type End: Notice;

    fn prepare() -> Result<Self, Refusal>;

    fn attach(self, side: Side, wait: Waiting) -> Result<Self::End, Failure>;
}

/// One side of it.
pub trait Notice {
    /// Notifies the peer.
    fn raise(&mut self) -> Result<(), Failure>;

    /// Waits for a notice of the peer and takes it, with all that came meanwhile.
    fn take(&mut self) -> Result<(), Failure>;
}

#[repr(C)]
struct Numbers {
    forth: Line,
    back: Line,
    /// Notices so far, one way.
    raised: Line,
}

// SAFETY: three atomics with padding.
unsafe impl Shareable for Numbers {}

/// A way to notify, and the numbers that it is about.
pub struct Noticed<N> {
    numbers: Shared<Numbers>,
    notices: N,
}

impl<N: Notices> Transport for Noticed<N> {
    type Link = Ends<N::End>;

    fn prepare(_: &Setup) -> Result<Self, Refusal> {
        let numbers = Shared::new().map_err(|error| Refusal::by_kernel("mmap", error))?;
        Ok(Self { numbers, notices: N::prepare()? })
    }

    fn attach(self, side: Side, setup: &Setup) -> Result<Self::Link, Failure> {
        let notice = self.notices.attach(side, setup.wait)?;
        Ok(Ends { numbers: self.numbers, notice, side, one_way: false, count: 0, seen: 0 })
    }
}

/// One side's view.
pub struct Ends<N> {
    numbers: Shared<Numbers>,
    notice: N,
    side: Side,
    one_way: bool,
    /// Notices that this side has raised, or waited for, one way.
    count: u64,
    /// The highest number that was seen, one way.
    seen: u64,
}

impl<N: Notice> Link for Ends<N> {
    type Message = [u64; 1];

    #[inline]
    fn send(&mut self, message: &[u64; 1]) -> Result<(), Failure> {
        if self.one_way {
            self.count += 1;
            self.numbers.raised.0.store(self.count, Ordering::Release);
        } else {
            let forth = self.side == Side::Near;
            let number = if forth { &self.numbers.forth } else { &self.numbers.back };
            number.0.store(message[0], Ordering::Release);
        }
        self.notice.raise()
    }

    #[inline]
    fn recv(&mut self, message: &mut [u64; 1]) -> Result<(), Failure> {
        self.notice.take()?;
        let back = self.side == Side::Near;
        let number = if back { &self.numbers.back } else { &self.numbers.forth };
        message[0] = number.0.load(Ordering::Acquire);
        Ok(())
    }

    #[inline]
    fn recv_checked(&mut self, sequence: u64, message: &mut [u64; 1]) -> Result<bool, Failure> {
        if !self.one_way {
            self.recv(message)?;
            return Ok(message[0] == sequence);
        }
        self.count += 1;
        while self.seen < self.count {
            self.notice.take()?;
            let now = self.numbers.raised.0.load(Ordering::Acquire);
            if now < self.seen {
                return Err(Failure::went_back(now, self.seen));
            }
            self.seen = now;
        }
        Ok(true)
    }

    fn one_way(&mut self) {
        self.one_way = true;
    }
}

/// Event counters, which a read clears.
pub struct Counters {
    forth: EventFd,
    back: EventFd,
}

impl Notices for Counters {
    type End = CounterEnds;

    fn prepare() -> Result<Self, Refusal> {
        let counter = || {
            EventFd::from_flags(EfdFlags::EFD_CLOEXEC)
                .map_err(|error| Refusal::by_kernel("eventfd", error))
        };
        Ok(Self { forth: counter()?, back: counter()? })
    }

    fn attach(self, side: Side, _: Waiting) -> Result<CounterEnds, Failure> {
        let (to_peer, from_peer) =
            if side == Side::Near { (self.forth, self.back) } else { (self.back, self.forth) };
        Ok(CounterEnds { to_peer, from_peer })
    }
}

/// One side's counters.
pub struct CounterEnds {
    to_peer: EventFd,
    from_peer: EventFd,
}

impl Notice for CounterEnds {
    #[inline]
    fn raise(&mut self) -> Result<(), Failure> {
        self.to_peer.write(1).map_err(|error| Failure::call("write", error))?;
        Ok(())
    }

    #[inline]
    fn take(&mut self) -> Result<(), Failure> {
        self.from_peer.read().map_err(|error| Failure::call("read", error))?;
        Ok(())
    }
}
