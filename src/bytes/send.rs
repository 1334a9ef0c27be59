//! The sending side of a ring of bytes.

use super::{ByteRing, memory};
use crate::error::{ByteSendError, Failure, Role, SetupError};
use crate::participants::{Ending, Participant};
use crate::payload::{self, WORD};
use crate::protocol::records::{SendCursor, Span};
use crate::protocol::room::Look;
use crate::protocol::{Blocked, lanes};
use crate::stats::Stats;
use crate::wait::{self, Wait, deadline_in};
use std::time::{Duration, Instant};

/// The sending side of a [`ByteRing`].
///
/// A receiver that leaves is noticed by the second send after that at the latest. One that is killed is
/// noticed only when the ring is full. See [`Sender`](crate::Sender#when-the-receiver-goes).
// Lines of its own: a handle changes with every message, and the other side's may lie next to it.
#[derive(Debug)]
#[repr(align(128))]
pub struct ByteSender {
    pub(crate) side: Participant,
    cursor: SendCursor,
    /// The longest message, in bytes.
    max: usize,
    /// Bytes before each message that are not the user's.
    extra: usize,
    ring: ByteRing,
}

impl ByteSender {
    pub(super) fn join(ring: &ByteRing) -> Result<Self, SetupError> {
        let mut side = Participant::join(&ring.segment, Role::Sender)?;
        let ordered = ring.segment.spec.ordered;
        let capacity = lanes::lane_capacity(ring.capacity(), ordered);
        let cursor = SendCursor::recover(memory(&side.attached), capacity)
            .map_err(|_| SetupError::Corrupt)?;
        side.enter();
        let extra = if ordered { WORD } else { 0 };
        Ok(Self { side, cursor, max: ring.max_message(), extra, ring: ring.clone() })
    }

    /// Messages that were sent, if it is the only one.
    #[inline(always)]
    pub(super) fn sent(&self) -> u64 {
        self.cursor.messages()
    }

    /// Makes the lines of the next message this side's, when the receiver has likely read the last one.
    #[inline(always)]
    pub(super) fn own_next(&self) {
        if self.side.is_admitted() {
            self.cursor.own_next(memory(&self.side.attached).words);
        }
    }

    #[inline(always)]
    fn try_span(&mut self, len: usize) -> Result<Span, ByteSendError> {
        self.check(len)?;
        Ok(self.reserve_now(len)?)
    }

    #[inline(always)]
    fn reserve_now(&mut self, len: usize) -> Result<Span, Failure> {
        self.side.admit()?;
        let (mem, whole) = (memory(&self.side.attached), len + self.extra);
        match self.cursor.try_reserve(mem, whole, Look::Exact) {
            Ok(span) if self.extra == 0 => Ok(span),
            Ok(span) => span.behind_stamp().ok_or(Failure::Corrupt),
            Err(blocked) => Err(self.refused(blocked)),
        }
    }

    #[cold]
    #[inline(never)]
    fn refused(&mut self, blocked: Blocked) -> Failure {
        if blocked == Blocked::Corrupt {
            self.side.poison();
            return Failure::Corrupt;
        }
        // A pad may have been published.
        self.side.notify(Role::Receiver);
        if self.side.seems_gone() { Failure::Disconnected } else { Failure::NotReady }
    }

    #[inline(always)]
    fn span_until(
        &mut self,
        len: usize,
        deadline: impl FnOnce() -> Option<Instant>,
    ) -> Result<Span, ByteSendError> {
        match self.try_span(len) {
            Err(ByteSendError::Full) => {
                self.wait_for_room(len, deadline())?;
                // There is room, and nobody but this sender takes it.
                self.try_span(len)
            }
            done => done,
        }
    }

    #[cold]
    #[inline(never)]
    fn wait_for_room(&mut self, len: usize, deadline: Option<Instant>) -> Result<(), Failure> {
        let Self { side, cursor, extra, .. } = self;
        let whole = len + *extra;
        wait::wait(side, deadline, |side, look| {
            side.admit()?;
            match cursor.try_reserve(memory(&side.attached), whole, look) {
                Ok(_) => Ok(()),
                Err(Blocked::NotReady) => {
                    // A pad may have been published.
                    side.notify(Role::Receiver);
                    Err(Failure::NotReady)
                }
                Err(Blocked::Corrupt) => {
                    side.poison();
                    Err(Failure::Corrupt)
                }
            }
        })
    }

    fn check(&self, len: usize) -> Result<(), ByteSendError> {
        let max = self.max;
        if len > max { Err(ByteSendError::TooLong { len, max }) } else { Ok(()) }
    }

    /// Sends a message that is not too long, if there is room now, in one piece with the caller: what
    /// [`try_span`](Self::try_span) and [`commit`](Self::commit) do by two, with one look at what the ring is.
    #[inline(always)]
    fn put(&mut self, message: &[u8]) -> Result<(), Failure> {
        if self.extra > 0 {
            return self.put_with_number(message);
        }
        self.side.admit()?;
        let mem = memory(&self.side.attached);
        match self.cursor.try_reserve(mem, message.len(), Look::Exact) {
            Ok(span) => {
                payload::write_message(span.words(mem), message);
                self.cursor.commit(mem, span);
                self.side.notify(Role::Receiver);
                Ok(())
            }
            Err(blocked) => Err(self.refused(blocked)),
        }
    }

    #[inline(never)]
    fn put_with_number(&mut self, message: &[u8]) -> Result<(), Failure> {
        let span = self.reserve_now(message.len())?;
        payload::write_message(span.words(memory(&self.side.attached)), message);
        self.commit(span);
        Ok(())
    }

    /// The same, waiting for room. There is one place that writes: it is each message.
    #[inline(always)]
    fn put_until(
        &mut self,
        message: &[u8],
        deadline: impl Fn() -> Option<Instant>,
    ) -> Result<(), ByteSendError> {
        self.check(message.len())?;
        let mut until = None;
        loop {
            match self.put(message) {
                Err(Failure::NotReady) => {
                    self.wait_for_room(message.len(), *until.get_or_insert_with(&deadline))?;
                }
                done => return Ok(done?),
            }
        }
    }

    #[inline(always)]
    fn commit(&mut self, span: Span) {
        let mem = memory(&self.side.attached);
        let span = if self.extra == 0 { span } else { self.number(span) };
        self.cursor.commit(mem, span);
        self.side.notify(Role::Receiver);
    }

    /// Numbers a message in an ordered ring; what is to be committed then.
    #[inline(never)]
    fn number(&self, span: Span) -> Span {
        let span = span.with_stamp();
        if let Some(numbers) = self.side.numbers() {
            lanes::number(memory(&self.side.attached), numbers, span);
        }
        span
    }

    /// Sends, if there is room now. Never blocks.
    ///
    /// # Errors
    ///
    /// [`ByteSendError::Full`] if there is no room now, [`ByteSendError::TooLong`] if there never will
    /// be, [`ByteSendError::Disconnected`] if the receiver has left or died, [`ByteSendError::Corrupt`]
    /// if its side of the ring is damaged, [`ByteSendError::Forked`] in a forked child.
    ///
    /// ```
    /// use annulus::{ByteRing, ByteSendError, Place};
    ///
    /// let ring = ByteRing::builder(100).create(Place::memfd("lines")?)?;
    /// let mut tx = ring.sender()?;
    /// assert!(tx.try_send(&[1; 80]).is_ok());
    /// assert_eq!(tx.try_send(&[2; 80]), Err(ByteSendError::Full));
    /// assert_eq!(tx.try_send(&[3; 101]), Err(ByteSendError::TooLong { len: 101, max: 100 }));
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    #[inline]
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), ByteSendError> {
        self.check(message.len())?;
        Ok(self.put(message)?)
    }

    /// Sends, waiting for room if there is none.
    ///
    /// # Errors
    ///
    /// As for [`try_send`](Self::try_send), without `Full`.
    #[inline]
    pub fn send(&mut self, message: &[u8]) -> Result<(), ByteSendError> {
        self.put_until(message, || None)
    }

    /// Sends, waiting for room for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), and [`ByteSendError::Timeout`].
    #[inline]
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), ByteSendError> {
        self.put_until(message, || deadline_in(timeout))
    }

    /// Sends, waiting for room until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), and [`ByteSendError::Timeout`].
    pub fn send_deadline(
        &mut self,
        message: &[u8],
        deadline: Instant,
    ) -> Result<(), ByteSendError> {
        self.put_until(message, || Some(deadline))
    }

    /// Makes room for a message of `len` bytes, to be written in place, if there is room now.
    ///
    /// # Errors
    ///
    /// As for [`try_send`](Self::try_send).
    ///
    /// ```
    /// # let ring = annulus::ByteRing::builder(64).create(annulus::Place::memfd("lines")?)?;
    /// let (mut tx, mut rx) = (ring.sender()?, ring.receiver()?);
    /// let mut grant = tx.try_reserve(10)?;
    /// grant.write(0, b"hello");
    /// grant.write(5, b"world");
    /// grant.commit();
    /// assert_eq!(rx.claim()?.to_vec(), b"helloworld");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_reserve(&mut self, len: usize) -> Result<Grant<'_>, ByteSendError> {
        let span = self.try_span(len)?;
        Ok(Grant { sender: self, span })
    }

    /// Makes room for a message of `len` bytes, to be written in place, waiting if there is none.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    #[inline]
    pub fn reserve(&mut self, len: usize) -> Result<Grant<'_>, ByteSendError> {
        let span = self.span_until(len, || None)?;
        Ok(Grant { sender: self, span })
    }

    /// As [`reserve`](Self::reserve), until `deadline`.
    pub(crate) fn reserve_until(
        &mut self,
        len: usize,
        deadline: Option<Instant>,
    ) -> Result<Grant<'_>, ByteSendError> {
        let span = self.span_until(len, || deadline)?;
        Ok(Grant { sender: self, span })
    }

    /// Whether the receiver said that it leaves, and none has come since.
    #[inline]
    pub(crate) fn is_left_alone(&self) -> bool {
        self.side.is_ours() && self.side.has_peer_left() && self.side.is_peer_gone()
    }

    /// Whether there is no receiver any more, and how it ended: see [`Receiver::ending`](crate::Receiver::ending).
    pub fn ending(&self) -> Option<Ending> {
        self.side.ending()
    }

    /// Chooses how this side waits. Default: [`Wait::Adaptive`].
    pub fn set_wait(&mut self, wait: Wait) {
        self.side.set_wait(wait);
    }

    /// Chooses how this side waits, in passing.
    #[must_use]
    pub fn with_wait(mut self, wait: Wait) -> Self {
        self.set_wait(wait);
        self
    }

    /// Waits until there is a receiver, for as long as `timeout`; `false` if none came.
    pub fn wait_for_peer(&mut self, timeout: Duration) -> bool {
        wait::wait_for_peer(&mut self.side, timeout)
    }

    /// The ring.
    pub fn ring(&self) -> &ByteRing {
        &self.ring
    }

    /// Bytes of the longest message.
    pub fn max_message(&self) -> usize {
        self.ring.max_message()
    }

    /// Bytes that wait to be received, as of a moment ago, with what each message takes more.
    pub fn len(&self) -> usize {
        self.ring.segment.length() as usize
    }

    /// Whether nothing is waiting to be received, as of a moment ago.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A snapshot of the ring's figures.
    pub fn stats(&self) -> Stats {
        self.ring.stats()
    }
}

/// Room for one message in a [`ByteRing`]. [`commit`](Self::commit) sends it; dropping it gives the room
/// back, and nobody ever knows.
#[derive(Debug)]
#[must_use = "a grant that is not committed sends nothing"]
pub struct Grant<'a> {
    sender: &'a mut ByteSender,
    span: Span,
}

impl Grant<'_> {
    /// Bytes of the message.
    pub fn len(&self) -> usize {
        self.span.len()
    }

    /// Whether the message is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes `bytes` at `offset` within the message. What is never written keeps whatever bytes the
    /// ring had there.
    ///
    /// # Panics
    ///
    /// If they reach beyond the message, or in a forked child.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.sender.side.assert_ours();
        let end = offset.checked_add(bytes.len());
        assert!(
            end.is_some_and(|end| end <= self.len()),
            "{} bytes at {offset} do not fit into a message of {}",
            bytes.len(),
            self.len()
        );
        payload::write_at(self.span.words(memory(&self.sender.side.attached)), offset, bytes);
    }

    /// Sends the message.
    ///
    /// # Panics
    ///
    /// In a forked child, which has no right to the parent's grant.
    #[inline]
    pub fn commit(self) {
        self.sender.side.assert_ours();
        let Self { sender, span } = self;
        sender.commit(span);
    }

    /// Gives the room back, as dropping does.
    pub fn abort(self) {}

    /// The message's bytes, to be written without a copy.
    ///
    /// # Safety
    ///
    /// No process may access these bytes until the grant is committed or dropped. A correct peer does
    /// not; with a peer that may be hostile, use [`write`](Self::write). A child that is forked meanwhile has no such
    /// bytes.
    ///
    /// # Panics
    ///
    /// In a forked child.
    pub unsafe fn as_mut_slice(&mut self) -> &mut [u8] {
        self.sender.side.assert_ours();
        let words = self.span.words(memory(&self.sender.side.attached));
        // SAFETY: the span lies in the mapping, which outlives `self`; the caller keeps everybody else
        // away from it.
        unsafe {
            core::slice::from_raw_parts_mut(words.as_ptr().cast::<u8>().cast_mut(), self.len())
        }
    }
}
