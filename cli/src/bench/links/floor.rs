//! The floor: one cache line each way between two processes that do nothing but look.
//!
//! No transport that carries a message from one core's cache to the other's can answer sooner. On one processor there is no
//! line to transfer; each side then gives the processor up between two looks, and the floor is two switches of process.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::bench::link::{Failure, Link, Refusal, Setup, Side, Transport};
use crate::bench::shared::{Line, Shareable, Shared};

#[repr(C)]
struct Lines {
    forth: Line,
    back: Line,
}

// SAFETY: two atomics with padding.
unsafe impl Shareable for Lines {}

/// Two lines on a shared page.
pub struct Floor(Shared<Lines>);

impl Transport for Floor {
    type Link = Looks;

    fn prepare(_: &Setup) -> Result<Self, Refusal> {
        Shared::new()
            .map(Self)
            .map_err(|error| Refusal::Broken(format!("mapping a shared page: {error}")))
    }

    fn attach(self, side: Side, setup: &Setup) -> Result<Looks, Failure> {
        Ok(Looks { lines: self.0, side, last: 0, yields: setup.one_cpu })
    }
}

/// One side's view of both lines.
pub struct Looks {
    lines: Shared<Lines>,
    side: Side,
    last: u64,
    yields: bool,
}

impl Looks {
    #[inline]
    fn line(&self, outgoing: bool) -> &AtomicU64 {
        let forth = (self.side == Side::Near) == outgoing;
        if forth { &self.lines.forth.0 } else { &self.lines.back.0 }
    }
}

impl Link for Looks {
    type Message = [u64; 1];

    #[inline]
    fn send(&mut self, message: &[u64; 1]) -> Result<(), Failure> {
        self.line(true).store(message[0], Ordering::Release);
        Ok(())
    }

    #[inline]
    fn recv(&mut self, message: &mut [u64; 1]) -> Result<(), Failure> {
        let line = self.line(false);
        loop {
            message[0] = line.load(Ordering::Acquire);
            if message[0] != self.last {
                break;
            }
            if self.yields {
                nix::sched::sched_yield().ok();
            } else {
                std::hint::spin_loop();
            }
        }
        self.last = message[0];
        Ok(())
    }
}
