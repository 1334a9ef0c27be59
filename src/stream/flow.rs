//! What all streams have in common: bytes into messages, and messages read as bytes.

use crate::bytes::{ByteReceiver, ByteSender};
use crate::error::{ByteSendError, RecvTimeoutError, TryRecvError};
use crate::wait::deadline_in;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::time::{Duration, Instant};

/// The longest piece that a sole writer's bytes are cut into, beside a quarter of the ring: more would keep the
/// reader waiting for what is there already.
const PIECE: usize = 64 * 1024;
/// The most messages that one look at the ring reads: whoever sends empty ones for ever gets no further with it.
const MOST_MESSAGES: usize = 4096;

/// Messages read as bytes.
#[derive(Debug)]
pub(super) struct Inflow {
    pub(super) receiver: ByteReceiver,
    /// Bytes of the oldest message that have been read.
    at: usize,
    pub(super) timeout: Option<Duration>,
    pub(super) nonblocking: bool,
}

impl Inflow {
    pub(super) fn new(receiver: ByteReceiver) -> Self {
        Self { receiver, at: 0, timeout: None, nonblocking: false }
    }

    /// Reads what is there, waiting if nothing is; `None` if nothing will come.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if buffer.is_empty() {
            return Ok(Some(0));
        }
        let mut deadline = None;
        loop {
            match self.read_now(buffer) {
                Ok(0) | Err(TryRecvError::Empty) => {}
                Ok(count) => return Ok(Some(count)),
                Err(TryRecvError::Disconnected) => return Ok(None),
                Err(error) => return Err(io::Error::new(ErrorKind::InvalidData, error)),
            }
            if self.nonblocking {
                return Err(io::Error::new(ErrorKind::WouldBlock, TryRecvError::Empty));
            }
            let deadline = *deadline.get_or_insert_with(|| self.timeout.and_then(deadline_in));
            match self.receiver.wait_until(deadline) {
                // There may have been nothing but empty messages all the time.
                Ok(()) if deadline.is_none_or(|deadline| Instant::now() < deadline) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Ok(()) | Err(RecvTimeoutError::Timeout) => {
                    return Err(io::Error::new(ErrorKind::TimedOut, RecvTimeoutError::Timeout));
                }
                Err(error) => return Err(io::Error::new(ErrorKind::InvalidData, error)),
            }
        }
    }

    /// The same into several buffers, one after the other.
    pub(super) fn read_vectored(
        &mut self,
        buffers: &mut [IoSliceMut<'_>],
    ) -> io::Result<Option<usize>> {
        let mut buffers = buffers.iter_mut().filter(|buffer| !buffer.is_empty());
        let Some(first) = buffers.next() else { return Ok(Some(0)) };
        let Some(mut total) = self.read(first)? else { return Ok(None) };
        let mut full = total == first.len();
        while let Some(buffer) = buffers.next().filter(|_| full) {
            // Whatever is wrong is found again by the next call.
            let count = self.read_now(buffer).unwrap_or(0);
            total += count;
            full = count == buffer.len();
        }
        Ok(Some(total))
    }

    /// Reads what is there, as much of it as `buffer` has room for.
    #[inline]
    fn read_now(&mut self, buffer: &mut [u8]) -> Result<usize, TryRecvError> {
        let mut filled = 0;
        for _ in 0..MOST_MESSAGES {
            match self.receiver.try_read(self.at, &mut buffer[filled..]) {
                Ok((count, at)) => {
                    filled += count;
                    self.at = at;
                }
                // Found again by the next call.
                Err(_) if filled > 0 => break,
                Err(error) => return Err(error),
            }
            if filled == buffer.len() {
                break;
            }
        }
        Ok(filled)
    }
}

/// Bytes sent as messages.
#[derive(Debug)]
pub(super) struct Outflow {
    pub(super) sender: ByteSender,
    pub(super) timeout: Option<Duration>,
    pub(super) nonblocking: bool,
    /// The longest message, in bytes.
    piece: usize,
}

impl Outflow {
    /// For a sender whose bytes no other's can come between.
    pub(super) fn of_one(sender: ByteSender) -> Self {
        let piece = (sender.max_message() / 4).clamp(1, PIECE);
        Self { sender, timeout: None, nonblocking: false, piece }
    }

    /// For a sender beside others: what can be one message is one.
    pub(super) fn of_many(sender: ByteSender) -> Self {
        let piece = sender.max_message();
        Self { sender, timeout: None, nonblocking: false, piece }
    }

    /// Writes all of `buffer`, waiting for room; less if something prevents the rest.
    pub(super) fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let deadline = self.begin()?;
        let mut written = 0;
        for piece in buffer.chunks(self.piece) {
            let sent = match deadline {
                _ if self.nonblocking => self.sender.try_send(piece),
                None => self.sender.send(piece),
                Some(deadline) => self.sender.send_deadline(piece, deadline),
            };
            match sent {
                Ok(()) => written += piece.len(),
                // Said again by the next call.
                Err(_) if written > 0 => break,
                Err(error) => return Err(refusal(error)),
            }
        }
        Ok(written)
    }

    /// Writes the start of several buffers as one message; all of them if it can be as long.
    pub(super) fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let all = buffers.iter().fold(0, |sum: usize, buffer| sum.saturating_add(buffer.len()));
        let len = all.min(self.piece);
        if len == 0 {
            return Ok(0);
        }
        let deadline = self.begin()?;
        let grant = match self.nonblocking {
            true => self.sender.try_reserve(len),
            false => self.sender.reserve_until(len, deadline),
        };
        let mut grant = grant.map_err(refusal)?;
        let mut at = 0;
        for buffer in buffers {
            let part = &buffer[..buffer.len().min(len - at)];
            grant.write(at, part);
            at += part.len();
        }
        grant.commit();
        Ok(len)
    }

    /// When a write that begins now gives up; an error if its reader has left. A message would be sent once more
    /// before that is noticed, but whoever writes to a pipe may count on the first one.
    fn begin(&self) -> io::Result<Option<Instant>> {
        if self.sender.is_left_alone() {
            return Err(refusal(ByteSendError::Disconnected));
        }
        Ok(self.timeout.and_then(deadline_in))
    }
}

/// What a write says to what a sender said.
fn refusal(error: ByteSendError) -> io::Error {
    let kind = match error {
        ByteSendError::Full => ErrorKind::WouldBlock,
        ByteSendError::Disconnected => ErrorKind::BrokenPipe,
        ByteSendError::Timeout => ErrorKind::TimedOut,
        _ => ErrorKind::InvalidData,
    };
    io::Error::new(kind, error)
}
