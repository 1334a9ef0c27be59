//! Messages in a ring of bytes: copied out of it, looked at, or taken in place.

use super::ByteReceiver;
use crate::error::RecvIntoError;
use crate::participants::Participant;
use crate::payload;
use crate::protocol::records::Span;
use crate::sync::Word;
use std::convert::Infallible;

/// Copies a message of `len` bytes out of its words, in place of what `message` holds.
#[inline(always)]
pub(super) fn copy_out(
    words: &[Word],
    len: usize,
    message: &mut Vec<u8>,
) -> Result<usize, Infallible> {
    message.clear();
    message.reserve(len);
    // SAFETY: the vector has room for `len` bytes, and `words` are the words for them.
    unsafe {
        payload::read_message(words, message.as_mut_ptr(), len);
        message.set_len(len);
    }
    Ok(len)
}

/// Copies a message of `len` bytes out of its words to the start of `message`.
#[inline(always)]
pub(super) fn copy_into(
    words: &[Word],
    len: usize,
    message: &mut [u8],
) -> Result<usize, RecvIntoError> {
    if message.len() < len {
        return Err(RecvIntoError::TooSmall { len });
    }
    // SAFETY: `message` has room for `len` bytes, and `words` are the words for them.
    unsafe { payload::read_message(words, message.as_mut_ptr(), len) };
    Ok(len)
}

/// A message in place that is not taken by looking at it.
#[derive(Clone, Copy)]
pub struct Peek<'a> {
    pub(super) words: &'a [Word],
    pub(super) span: Span,
    pub(super) side: &'a Participant,
}

impl Peek<'_> {
    /// Bytes of the message.
    #[inline]
    pub fn len(&self) -> usize {
        self.span.len()
    }

    /// Whether the message is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the message to the start of `to`.
    ///
    /// # Panics
    ///
    /// If `to` is shorter than the message, or in a forked child.
    #[inline]
    pub fn copy_to(&self, to: &mut [u8]) {
        let len = self.len();
        assert!(to.len() >= len, "a message of {len} bytes does not fit into {}", to.len());
        self.side.assert_ours();
        // SAFETY: `to` has room for `len` bytes, and the span has the words for them.
        unsafe { payload::read_message(self.words, to.as_mut_ptr(), len) };
    }
}

impl std::fmt::Debug for Peek<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peek").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// A message in place, in the ring. Its room is given back when it is dropped.
#[derive(Debug)]
#[must_use = "a message that is dropped is taken from the ring"]
pub struct Message<'a> {
    pub(super) receiver: &'a mut ByteReceiver,
    pub(super) span: Span,
}

impl Message<'_> {
    /// Bytes of the message.
    pub fn len(&self) -> usize {
        self.span.len()
    }

    /// Whether the message is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the message to the start of `to`.
    ///
    /// # Panics
    ///
    /// If `to` is shorter than the message, or in a forked child.
    pub fn copy_to(&self, to: &mut [u8]) {
        let len = self.len();
        assert!(to.len() >= len, "a message of {len} bytes does not fit into {}", to.len());
        // SAFETY: `to` has room for `len` bytes, and the span has the words for them.
        unsafe { payload::read_message(self.words(), to.as_mut_ptr(), len) };
    }

    /// A copy of the message.
    ///
    /// # Panics
    ///
    /// In a forked child, which does not have the parent's ring.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut copy = vec![0; self.len()];
        self.copy_to(&mut copy);
        copy
    }

    /// Gives the message's room back, as dropping does.
    pub fn release(self) {}

    /// The message's bytes, without a copy.
    ///
    /// # Safety
    ///
    /// No process may write these bytes until the message is released. A correct peer does not; with a
    /// peer that may be hostile, use [`copy_to`](Self::copy_to). A child that is forked meanwhile has no such bytes.
    ///
    /// # Panics
    ///
    /// In a forked child.
    pub unsafe fn as_slice(&self) -> &[u8] {
        let words = self.words();
        // SAFETY: the span lies in the mapping, which outlives `self`; the caller keeps writers away.
        unsafe { core::slice::from_raw_parts(words.as_ptr().cast(), self.len()) }
    }

    fn words(&self) -> &[Word] {
        self.receiver.side.assert_ours();
        self.receiver.words(self.span)
    }
}

impl Drop for Message<'_> {
    #[inline]
    fn drop(&mut self) {
        // A fork child's copy has no ring to give anything back to.
        if self.receiver.side.admit().is_ok() {
            self.receiver.release(self.span);
        }
    }
}
