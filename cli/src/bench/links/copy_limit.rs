//! What large messages can reach: one core writes buffers, the other copies them out with `memcpy`.
//!
//! Buffers are handed over by a flag each, several in flight. The writer fills the shared buffer in place, the reader copies
//! it out of the other core's cache and checks its copy as every transport's reader does, so this is the limit of the machine
//! for a receiver that wants a message of its own, and not of any protocol.

use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::sync::atomic::Ordering;

use crate::bench::link::{Failure, Link, Refusal, Setup, Side, Transport};
use crate::bench::payload::{Bytes, Payload, fill};
use crate::bench::shared::{Line, Shareable, Shared};

/// Buffers in flight.
const BUFFERS: usize = 8;
/// The largest message that can be measured.
pub const MAX_SIZE: usize = 65_536;

#[repr(C)]
struct Pool {
    /// The sequence number of the message in the buffer, 0 if it is free.
    full: [Line; BUFFERS],
    bytes: [UnsafeCell<[u8; MAX_SIZE]>; BUFFERS],
}

// SAFETY: arrays of atomics with padding, and of cells of bytes.
unsafe impl Shareable for Pool {}

/// The shared buffers.
pub struct CopyLimit(Shared<Pool>);

impl Transport for CopyLimit {
    type Link = Copies;

    fn prepare(setup: &Setup) -> Result<Self, Refusal> {
        if setup.size > MAX_SIZE {
            return Err(Refusal::Unavailable(format!("the limit is measured up to {MAX_SIZE} B")));
        }
        Shared::new()
            .map(Self)
            .map_err(|error| Refusal::Broken(format!("mapping shared buffers: {error}")))
    }

    fn attach(self, side: Side, setup: &Setup) -> Result<Copies, Failure> {
        Ok(Copies { pool: self.0, side, next: 0, size: setup.size })
    }
}

/// One side's view of the buffers.
pub struct Copies {
    pool: Shared<Pool>,
    side: Side,
    next: usize,
    size: usize,
}

impl Link for Copies {
    type Message = Bytes;

    fn send(&mut self, _: &Bytes) -> Result<(), Failure> {
        Err(Failure::Call("the copy limit has no messages of its own".into()))
    }

    fn recv(&mut self, _: &mut Bytes) -> Result<(), Failure> {
        Err(Failure::Call("the copy limit has no messages of its own".into()))
    }

    #[inline]
    fn send_filled(&mut self, sequence: u64, _: &mut Bytes) -> Result<(), Failure> {
        debug_assert_eq!(self.side, Side::Near);
        let at = self.next;
        self.next = (at + 1) % BUFFERS;
        let full = &self.pool.full[at].0;
        while full.load(Ordering::Acquire) != 0 {
            spin_loop();
        }
        // SAFETY: a buffer whose flag is 0 belongs to the sole writer until it sets the flag; the reader's copy happened before
        // it cleared the flag, which the Acquire load above has seen.
        let buffer = unsafe { &mut *self.pool.bytes[at].get() };
        fill(&mut buffer[..self.size], sequence);
        full.store(sequence, Ordering::Release);
        Ok(())
    }

    #[inline]
    fn recv_checked(&mut self, sequence: u64, message: &mut Bytes) -> Result<bool, Failure> {
        let at = self.next;
        self.next = (at + 1) % BUFFERS;
        let full = &self.pool.full[at].0;
        while full.load(Ordering::Acquire) == 0 {
            spin_loop();
        }
        // SAFETY: a buffer whose flag is set belongs to the sole reader until it clears the flag; the writer's stores happened
        // before it set the flag, which the Acquire load above has seen.
        let buffer = unsafe { &*self.pool.bytes[at].get() };
        message.0.copy_from_slice(&buffer[..self.size]);
        full.store(0, Ordering::Release);
        Ok(message.matches(sequence))
    }
}
