//! A ring of either kind, as what gives messages.

use super::join::Joiner;
use crate::exit::{Failure, Outcome};
use crate::ring::{AnyRing, Waiting};
use annulus::{ByteReceiver, RecvTimeoutError, TryRecvError, UntypedReceiver};
use std::time::Duration;

/// Bytes of messages of one size to look at together.
const BATCH: usize = 64 * 1024;

/// The receiving side of a ring.
#[derive(Debug)]
pub enum Source {
    Bytes {
        side: Box<ByteReceiver>,
        /// Bytes to look at together: part of the ring, so that the sender can fill the rest meanwhile.
        batch: usize,
    },
    Slots {
        side: Box<UntypedReceiver>,
        size: usize,
        buffer: Vec<u8>,
    },
}

impl Source {
    /// Becomes the receiver.
    pub fn join(name: &str, ring: &AnyRing, wait: Waiting) -> Outcome<Self> {
        let joined = match ring {
            AnyRing::Bytes(ring) => ring.receiver().map(|side| Self::Bytes {
                batch: ring.capacity() / 4,
                side: Box::new(side.with_wait(wait.into())),
            }),
            AnyRing::Slots(ring) => ring.receiver().map(|mut side| {
                side.set_wait(wait.into());
                let size = ring.message_size();
                let messages = (BATCH / size).min(ring.capacity() / 4).max(1);
                Self::Slots { side: Box::new(side), size, buffer: vec![0; messages * size] }
            }),
        };
        joined.map_err(|error| Failure::setup(name, &error))
    }

    /// Adds messages that are there now to `joiner`, at most `most` and only what fits into its first
    /// `limit` bytes, and says how many. They stay in the ring.
    pub fn fill(
        &mut self,
        joiner: &mut Joiner,
        most: u64,
        limit: usize,
    ) -> Result<usize, TryRecvError> {
        let mut left = most;
        match self {
            Self::Bytes { side, batch } => {
                let mut room = *batch;
                side.try_peek_batch(|message| {
                    if left == 0 || !joiner.fits(message.len(), limit) {
                        return false;
                    }
                    left -= 1;
                    joiner.add(message.len(), |to| message.copy_to(to));
                    room = room.saturating_sub(message.len() + 8);
                    if room == 0 || joiner.is_full() {
                        left = 0;
                    }
                    true
                })
            }
            Self::Slots { side, size, buffer } => {
                let most = usize::try_from(most).unwrap_or(usize::MAX).saturating_mul(*size);
                let end = most.min(buffer.len());
                let count = side.try_peek_batch(&mut buffer[..end])?;
                if joiner.joins_bare() && limit == usize::MAX {
                    joiner.add(count * *size, |to| to.copy_from_slice(&buffer[..count * *size]));
                    return Ok(count);
                }
                let mut added = 0;
                for message in buffer.chunks_exact(*size).take(count) {
                    if !joiner.fits(*size, limit) {
                        break;
                    }
                    joiner.add(*size, |to| to.copy_from_slice(message));
                    added += 1;
                }
                Ok(added)
            }
        }
    }

    /// Takes messages that were added.
    pub fn skip(&mut self, count: usize) {
        match self {
            Self::Bytes { side, .. } => side.skip(count),
            Self::Slots { side, .. } => side.skip(count),
        };
    }

    pub fn wait_ready(&mut self, timeout: Duration) -> Result<(), RecvTimeoutError> {
        match self {
            Self::Bytes { side, .. } => side.wait_ready(timeout),
            Self::Slots { side, .. } => side.wait_ready(timeout),
        }
    }

    pub fn wait_for_peer(&mut self, timeout: Duration) -> bool {
        match self {
            Self::Bytes { side, .. } => side.wait_for_peer(timeout),
            Self::Slots { side, .. } => side.wait_for_peer(timeout),
        }
    }
}
