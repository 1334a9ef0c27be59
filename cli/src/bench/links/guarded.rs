//! Messages in shared memory, which semaphores guard: what programs do that have no queue.
//!
//! A round trip has one message in flight: it is written, the semaphore says that it is there. One way there is room for
//! many, and a second semaphore counts the free places.

use std::sync::atomic::{AtomicU64, Ordering};

use super::semaphore::{Permits, Semaphore};
use crate::bench::link::{Failure, Link, Refusal, Setup, Side, Transport};
use crate::bench::shared::{Shareable, Shared};

/// Places for messages one way.
const PLACES: usize = 1024;

/// A message of `N` words on lines of its own.
#[repr(C, align(64))]
struct Message<const N: usize>([AtomicU64; N]);

impl<const N: usize> Message<N> {
    /// The semaphores order it: who writes does so before a permit is made, who reads does so after it was taken.
    #[inline]
    fn store(&self, words: &[u64; N]) {
        self.0.iter().zip(words).for_each(|(to, word)| to.store(*word, Ordering::Relaxed));
    }

    #[inline]
    fn load(&self, words: &mut [u64; N]) {
        words.iter_mut().zip(&self.0).for_each(|(to, word)| *to = word.load(Ordering::Relaxed));
    }
}

#[repr(C)]
struct Memory<const N: usize> {
    forth: [Message<N>; PLACES],
    back: Message<N>,
}

// SAFETY: atomics with padding.
unsafe impl<const N: usize> Shareable for Memory<N> {}

/// Shared memory; a semaphore for what is there in each direction, and one for what is free.
pub struct Guarded<S, const N: usize> {
    memory: Shared<Memory<N>>,
    forth: S,
    back: S,
    free: S,
}

impl<S: Semaphore, const N: usize> Transport for Guarded<S, N> {
    type Link = Ends<S::End, N>;

    fn prepare(_: &Setup) -> Result<Self, Refusal> {
        let memory = Shared::new().map_err(|error| Refusal::by_kernel("mmap", error))?;
        let (forth, back) = (S::prepare(0)?, S::prepare(0)?);
        Ok(Self { memory, forth, back, free: S::prepare(PLACES as u32)? })
    }

    fn attach(self, side: Side, setup: &Setup) -> Result<Self::Link, Failure> {
        let (forth, back) = (self.forth.attach(setup.wait)?, self.back.attach(setup.wait)?);
        let free = self.free.attach(setup.wait)?;
        let (to_peer, from_peer) = if side == Side::Near { (forth, back) } else { (back, forth) };
        Ok(Ends { memory: self.memory, to_peer, from_peer, free, side, next: 0, one_way: false })
    }
}

/// One side's view.
pub struct Ends<P, const N: usize> {
    memory: Shared<Memory<N>>,
    to_peer: P,
    from_peer: P,
    free: P,
    side: Side,
    /// The place of the next message one way.
    next: usize,
    one_way: bool,
}

impl<P, const N: usize> Ends<P, N> {
    /// The place of the next message that goes forth, or back.
    #[inline]
    fn place(&self, forth: bool) -> &Message<N> {
        if forth { &self.memory.forth[self.next] } else { &self.memory.back }
    }

    #[inline]
    fn advance(&mut self) {
        self.next = (self.next + 1) % PLACES;
    }
}

impl<P: Permits, const N: usize> Link for Ends<P, N> {
    type Message = [u64; N];

    #[inline]
    fn send(&mut self, message: &[u64; N]) -> Result<(), Failure> {
        if self.one_way {
            self.free.take()?;
        }
        self.place(self.side == Side::Near).store(message);
        if self.one_way {
            self.advance();
        }
        self.to_peer.give()
    }

    #[inline]
    fn recv(&mut self, message: &mut [u64; N]) -> Result<(), Failure> {
        self.from_peer.take()?;
        self.place(self.side == Side::Far).load(message);
        if self.one_way {
            self.advance();
            self.free.give()?;
        }
        Ok(())
    }

    fn one_way(&mut self) {
        self.one_way = true;
    }
}
