//! The receiving side of a ring of bytes.

use super::message::{copy_into, copy_out};
use super::{ByteRing, ByteSender, Message, Peek, memory};
use crate::error::{
    Failure, RecvError, RecvIntoError, RecvTimeoutError, Role, SetupError, TryRecvError,
};
use crate::lanes::LanesReceiver;
use crate::participants::{Ending, Participant};
use crate::payload;
use crate::protocol::Blocked;
use crate::protocol::records::{Ahead, RecvCursor, Span};
use crate::protocol::room::Look;
use crate::rhythm::Rhythm;
use crate::stats::Stats;
use crate::sync::{Word, wait_a_step};
use crate::wait::{self, Wait, deadline_in};
use std::time::{Duration, Instant};

/// The receiving side of a [`ByteRing`].
///
/// What a sender sent comes first; `Disconnected` is said when the ring is empty. It does not stick: when
/// another sender has joined, the same handle receives its messages. See
/// [`Receiver`](crate::Receiver#when-the-sender-goes).
// Lines of its own: a handle changes with every message, and the other side's may lie next to it.
#[derive(Debug)]
#[repr(align(128))]
pub struct ByteReceiver {
    // Dropped first: see `LanesReceiver`.
    pub(crate) side: Participant,
    cursor: Cursor,
    rhythm: Rhythm,
    ring: ByteRing,
}

/// How the receiver moves through the ring.
#[derive(Debug)]
enum Cursor {
    /// One sender.
    Sole(RecvCursor),
    /// Many.
    Lanes(LanesReceiver),
}

impl Cursor {
    /// Whether there is a message, for a receiver that is about to sleep, or may be.
    fn look(&mut self, side: &Participant, look: Look) -> Result<(), Blocked> {
        match self {
            Self::Sole(cursor) => cursor.look(memory(&side.attached)).map(|_| ()),
            Self::Lanes(lanes) => match lanes.look() {
                Err(Blocked::NotReady) if look == Look::Exact => lanes.sweep(side.budget.barrier),
                found => found,
            },
        }
    }

    /// Tells the senders how far the receiver is; whether the only one must be woken for it.
    fn publish(&mut self, side: &Participant) -> bool {
        match self {
            Self::Sole(cursor) => cursor.publish(memory(&side.attached)),
            // Each was told when its lane was found empty.
            Self::Lanes(_) => false,
        }
    }
}

impl ByteReceiver {
    pub(super) fn join(ring: &ByteRing) -> Result<Self, SetupError> {
        let mut side = Participant::join(&ring.segment, Role::Receiver)?;
        let cursor = if side.goes_round() {
            Cursor::Lanes(LanesReceiver::join(&ring.segment, &side)?)
        } else {
            let cursor = RecvCursor::recover(memory(&side.attached), ring.capacity());
            Cursor::Sole(cursor.map_err(|_| SetupError::Corrupt)?)
        };
        side.enter();
        Ok(Self { side, cursor, rhythm: Rhythm::default(), ring: ring.clone() })
    }

    #[inline(always)]
    fn try_span(&mut self) -> Result<Span, Failure> {
        self.side.admit()?;
        let found = match &mut self.cursor {
            Cursor::Sole(cursor) => cursor.try_claim(memory(&self.side.attached)),
            Cursor::Lanes(lanes) => lanes.try_claim(self.side.budget.barrier),
        };
        match found {
            Ok(span) => Ok(span),
            Err(blocked) => Err(self.refused(blocked)),
        }
    }

    /// Whether a message is there now.
    #[inline]
    pub(crate) fn poll(&mut self) -> Result<(), Failure> {
        self.try_span().map(drop)
    }

    /// The same for one who has announced a sleep: the lanes that are looked at are those with messages, and the others
    /// are rung for.
    pub(crate) fn look_exactly(&mut self) -> Result<(), Failure> {
        self.side.admit()?;
        let found = self.cursor.look(&self.side, Look::Exact);
        found.map_err(|blocked| self.refused(blocked))
    }

    #[inline(always)]
    pub(super) fn words(&self, span: Span) -> &[Word] {
        match &self.cursor {
            Cursor::Sole(_) => span.words(memory(&self.side.attached)),
            Cursor::Lanes(lanes) => lanes.words(span),
        }
    }

    #[cold]
    #[inline(never)]
    fn refused(&mut self, blocked: Blocked) -> Failure {
        if blocked == Blocked::Corrupt {
            self.side.poison();
            return Failure::Corrupt;
        }
        self.publish();
        if !self.side.seems_gone() {
            return Failure::NotReady;
        }
        // What it sent before it went is visible now.
        match self.cursor.look(&self.side, Look::Exact) {
            Ok(()) => Failure::NotReady,
            Err(Blocked::NotReady) => Failure::Disconnected,
            Err(Blocked::Corrupt) => {
                self.side.poison();
                Failure::Corrupt
            }
        }
    }

    /// Looks closely for a message where a glance found none.
    #[cold]
    #[inline(never)]
    fn look(&mut self) -> Result<(), Failure> {
        let found = self.cursor.look(&self.side, Look::Released);
        found.map_err(|blocked| self.refused(blocked))
    }

    /// Stays for a moment where no message is, for one who waits; whether that brought something to look at.
    #[inline(always)]
    fn linger(&mut self) -> bool {
        let Cursor::Sole(cursor) = &mut self.cursor else { return false };
        let has_come = cursor.awaits_answer()
            && self.side.is_admitted()
            && self.side.may_linger()
            && cursor.linger(memory(&self.side.attached));
        if has_come {
            self.side.lingered();
        }
        has_come
    }

    /// Waits for the moment at which to look for the answer to what was sent by `beside`, which makes itself ready
    /// meanwhile: see `rhythm.rs`.
    #[inline(always)]
    fn await_answer(&mut self, beside: &ByteSender) {
        let Cursor::Sole(cursor) = &mut self.cursor else { return };
        if !cursor.awaits_answer() {
            return;
        }
        let steps = self.rhythm.steps(cursor.messages(), beside.sent());
        if steps > 0 && self.side.is_admitted() && self.side.may_linger() {
            (0..steps).for_each(|_| wait_a_step());
            beside.own_next();
            cursor.converse();
        }
    }

    /// [`recv`](Self::recv) by one who waits for the answer to what it has sent by `beside`.
    #[inline(always)]
    pub(crate) fn recv_beside(
        &mut self,
        beside: &ByteSender,
        message: &mut Vec<u8>,
    ) -> Result<usize, RecvError> {
        self.await_answer(beside);
        self.recv(message)
    }

    /// The same for as long as `timeout`.
    pub(crate) fn recv_timeout_beside(
        &mut self,
        beside: &ByteSender,
        message: &mut Vec<u8>,
        timeout: Duration,
    ) -> Result<usize, RecvTimeoutError> {
        self.await_answer(beside);
        self.recv_timeout(message, timeout)
    }

    #[inline(always)]
    fn span_until(&mut self, deadline: impl FnOnce() -> Option<Instant>) -> Result<Span, Failure> {
        self.linger();
        match self.try_span() {
            Err(Failure::NotReady) => {
                self.wait_for_message(deadline())?;
                // There is one, and nobody but this receiver takes it.
                self.try_span()
            }
            done => done,
        }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn wait_for_message(&mut self, deadline: Option<Instant>) -> Result<(), Failure> {
        let Self { side, cursor, .. } = self;
        wait::wait(side, deadline, |side, look| {
            side.admit()?;
            match cursor.look(side, look) {
                Ok(()) => Ok(()),
                Err(Blocked::NotReady) => {
                    if cursor.publish(side) {
                        side.notify(Role::Sender);
                    }
                    Err(Failure::NotReady)
                }
                Err(Blocked::Corrupt) => {
                    side.poison();
                    Err(Failure::Corrupt)
                }
            }
        })
    }

    #[cold]
    #[inline(never)]
    fn publish(&mut self) {
        if self.cursor.publish(&self.side) {
            self.side.notify(Role::Sender);
        }
    }

    /// Gives a message's room back.
    #[inline(always)]
    pub(super) fn release(&mut self, span: Span) {
        match &mut self.cursor {
            Cursor::Sole(cursor) => {
                cursor.release(memory(&self.side.attached), span);
                if cursor.release_is_due() {
                    self.publish();
                }
            }
            Cursor::Lanes(lanes) => lanes.release(span),
        }
    }

    /// Shows the oldest message to `read`, if one is there now, and takes it unless `read` refuses it.
    ///
    /// One look at whether there are lanes for all of it: what [`try_span`](Self::try_span),
    /// [`words`](Self::words) and [`release`](Self::release) do by three.
    #[inline(always)]
    fn try_take<E>(
        &mut self,
        read: impl FnOnce(&[Word], usize) -> Result<usize, E>,
    ) -> Result<Result<usize, E>, Failure> {
        let Cursor::Sole(cursor) = &mut self.cursor else { return self.try_take_of_lanes(read) };
        self.side.admit()?;
        let mem = memory(&self.side.attached);
        match cursor.try_claim(mem) {
            Ok(span) => {
                let done = read(span.words(mem), span.len());
                if done.is_ok() {
                    cursor.release(mem, span);
                    if cursor.release_is_due() {
                        self.publish();
                    }
                }
                Ok(done)
            }
            Err(blocked) => Err(self.refused(blocked)),
        }
    }

    #[inline(never)]
    fn try_take_of_lanes<E>(
        &mut self,
        read: impl FnOnce(&[Word], usize) -> Result<usize, E>,
    ) -> Result<Result<usize, E>, Failure> {
        let span = self.try_span()?;
        let done = read(self.words(span), span.len());
        if done.is_ok() {
            self.release(span);
        }
        Ok(done)
    }

    /// The same, waiting for a message. There is one place that reads, in one piece with the caller: it is each message.
    #[inline(always)]
    fn take_until<E>(
        &mut self,
        deadline: impl Fn() -> Option<Instant>,
        read: impl FnOnce(&[Word], usize) -> Result<usize, E>,
    ) -> Result<Result<usize, E>, Failure> {
        let mut until = None;
        let mut has_lingered = false;
        loop {
            let Cursor::Sole(cursor) = &mut self.cursor else {
                return self.take_of_lanes_until(deadline, read);
            };
            self.side.admit()?;
            let mem = memory(&self.side.attached);
            if let Ok(len) = cursor.glance(mem) {
                let span = cursor.oldest(mem, len);
                let done = read(span.words(mem), span.len());
                if done.is_ok() {
                    cursor.release(mem, span);
                    if cursor.release_is_due() {
                        self.publish();
                    }
                }
                return Ok(done);
            }
            // Only now: in a stream, most messages are there.
            if !has_lingered {
                has_lingered = true;
                if self.linger() {
                    continue;
                }
            }
            match self.look() {
                Ok(()) => {}
                Err(Failure::NotReady) => {
                    self.wait_for_message(*until.get_or_insert_with(&deadline))?;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    #[inline(never)]
    fn take_of_lanes_until<E>(
        &mut self,
        deadline: impl Fn() -> Option<Instant>,
        read: impl FnOnce(&[Word], usize) -> Result<usize, E>,
    ) -> Result<Result<usize, E>, Failure> {
        let span = self.span_until(deadline)?;
        let done = read(self.words(span), span.len());
        if done.is_ok() {
            self.release(span);
        }
        Ok(done)
    }

    /// Receives into `message`, whose contents are replaced, if one is there now; gives its length.
    ///
    /// # Errors
    ///
    /// As for [`Receiver::try_recv`](crate::Receiver::try_recv).
    #[inline]
    pub fn try_recv(&mut self, message: &mut Vec<u8>) -> Result<usize, TryRecvError> {
        let Ok(len) = self.try_take(|words, len| copy_out(words, len, message))?;
        Ok(len)
    }

    /// Receives into `message`, whose contents are replaced, waiting if none is there; gives its length.
    ///
    /// # Errors
    ///
    /// As for [`Receiver::recv`](crate::Receiver::recv).
    #[inline]
    pub fn recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        let Ok(len) = self.take_until(|| None, |words, len| copy_out(words, len, message))?;
        Ok(len)
    }

    /// As [`recv`](Self::recv), waiting for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`Receiver::recv_timeout`](crate::Receiver::recv_timeout).
    #[inline]
    pub fn recv_timeout(
        &mut self,
        message: &mut Vec<u8>,
        timeout: Duration,
    ) -> Result<usize, RecvTimeoutError> {
        let Ok(len) =
            self.take_until(|| deadline_in(timeout), |words, len| copy_out(words, len, message))?;
        Ok(len)
    }

    /// As [`recv`](Self::recv), waiting until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`Receiver::recv_timeout`](crate::Receiver::recv_timeout).
    pub fn recv_deadline(
        &mut self,
        message: &mut Vec<u8>,
        deadline: Instant,
    ) -> Result<usize, RecvTimeoutError> {
        let Ok(len) =
            self.take_until(|| Some(deadline), |words, len| copy_out(words, len, message))?;
        Ok(len)
    }

    /// Receives into the start of `message`, if one is there now; gives its length.
    ///
    /// # Errors
    ///
    /// [`RecvIntoError::TooSmall`] if the message is longer than that; it stays, to be received with
    /// more room. Others as for [`Receiver::try_recv`](crate::Receiver::try_recv).
    ///
    /// ```
    /// use annulus::{ByteRing, Place, RecvIntoError};
    ///
    /// let ring = ByteRing::builder(64).create(Place::memfd("lines")?)?;
    /// let (mut tx, mut rx) = (ring.sender()?, ring.receiver()?);
    /// tx.send(b"five!")?;
    /// assert_eq!(rx.try_recv_into(&mut [0; 4]), Err(RecvIntoError::TooSmall { len: 5 }));
    /// assert_eq!(rx.try_recv_into(&mut [0; 5]), Ok(5));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_recv_into(&mut self, message: &mut [u8]) -> Result<usize, RecvIntoError> {
        self.try_take(|words, len| copy_into(words, len, message))?
    }

    /// Receives into the start of `message`, waiting if none is there; gives its length.
    ///
    /// # Errors
    ///
    /// As for [`try_recv_into`](Self::try_recv_into), without `Empty`.
    #[inline]
    pub fn recv_into(&mut self, message: &mut [u8]) -> Result<usize, RecvIntoError> {
        self.take_until(|| None, |words, len| copy_into(words, len, message))?
    }

    /// The oldest message in place, if one is there now.
    ///
    /// # Errors
    ///
    /// As for [`Receiver::try_recv`](crate::Receiver::try_recv).
    #[inline]
    pub fn try_claim(&mut self) -> Result<Message<'_>, TryRecvError> {
        let span = self.try_span()?;
        Ok(Message { receiver: self, span })
    }

    /// The oldest message in place, waiting if none is there. It is taken from the ring when the
    /// [`Message`] is dropped; if the process is killed before, the next receiver gets it.
    ///
    /// # Errors
    ///
    /// As for [`Receiver::recv`](crate::Receiver::recv).
    #[inline]
    pub fn claim(&mut self) -> Result<Message<'_>, RecvError> {
        let span = self.span_until(|| None)?;
        Ok(Message { receiver: self, span })
    }

    /// Hands up to `most` messages that are there now to `each`, and says how many. 0 also when the
    /// sender is gone or its side damaged; [`try_recv`](Self::try_recv) tells which.
    ///
    /// ```
    /// # let ring = annulus::ByteRing::builder(64).create(annulus::Place::memfd("lines")?)?;
    /// let (mut tx, mut rx) = (ring.sender()?, ring.receiver()?);
    /// tx.send(b"one")?;
    /// tx.send(b"two")?;
    /// let mut all = Vec::new();
    /// assert_eq!(rx.try_recv_batch(16, |message| all.extend(message.to_vec())), 2);
    /// assert_eq!(all, b"onetwo");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_recv_batch(&mut self, most: usize, mut each: impl FnMut(Message<'_>)) -> usize {
        for count in 0..most {
            match self.try_claim() {
                Ok(message) => each(message),
                Err(_) => return count,
            }
        }
        most
    }

    /// Waits until a message is there, for as long as `timeout`, and takes nothing.
    ///
    /// # Errors
    ///
    /// As for [`recv_timeout`](Self::recv_timeout).
    pub fn wait_ready(&mut self, timeout: Duration) -> Result<(), RecvTimeoutError> {
        self.span_until(|| deadline_in(timeout))?;
        Ok(())
    }

    /// Waits until a message is there, until `deadline`, and takes nothing.
    pub(crate) fn wait_until(&mut self, deadline: Option<Instant>) -> Result<(), RecvTimeoutError> {
        self.span_until(|| deadline)?;
        Ok(())
    }

    /// Reads the oldest message from byte `at` on, as far as it goes or `buffer` has room, and takes it if that was
    /// its end. Gives the bytes read, and where to go on in the message: 0 if it was taken.
    #[inline]
    pub(crate) fn try_read(
        &mut self,
        at: usize,
        buffer: &mut [u8],
    ) -> Result<(usize, usize), TryRecvError> {
        let mut count = 0;
        let taken = self.try_take(|words, len| {
            // A hostile sender may have made it shorter than it was.
            let rest = len.saturating_sub(at);
            count = rest.min(buffer.len());
            payload::read_at(words, at.min(len), &mut buffer[..count]);
            if count == rest { Ok(count) } else { Err(at + count) }
        })?;
        let at = taken.err().unwrap_or(0);
        if at > 0 {
            self.hold();
        }
        Ok((count, at))
    }

    /// Has the oldest message stay the next one, whatever comes in other lanes.
    #[cold]
    #[inline(never)]
    fn hold(&mut self) {
        if let Cursor::Lanes(lanes) = &mut self.cursor {
            lanes.hold();
        }
    }

    /// Whether there is no sender any more, and how it ended: see [`Receiver::ending`](crate::Receiver::ending).
    pub fn ending(&self) -> Option<Ending> {
        self.side.ending()
    }

    /// Shows the messages that are there now to `each`, oldest first, until it says `false`, and says how
    /// many it accepted. None is taken: [`skip`](Self::skip) does that, once they are dealt with, so that
    /// whoever is killed in between leaves them to the next receiver. In a child that `each` forks, the call
    /// ends after the message at hand.
    ///
    /// # Errors
    ///
    /// As for [`try_recv`](Self::try_recv), if there is no message.
    ///
    /// ```
    /// # let ring = annulus::ByteRing::builder(64).create(annulus::Place::memfd("lines")?)?;
    /// let (mut tx, mut rx) = (ring.sender()?, ring.receiver()?);
    /// tx.send(b"one")?;
    /// tx.send(b"two")?;
    /// let mut all = [0; 6];
    /// let mut end = 0;
    /// let count = rx.try_peek_batch(|message| {
    ///     message.copy_to(&mut all[end..]);
    ///     end += message.len();
    ///     true
    /// })?;
    /// assert_eq!((&all, count, rx.is_empty()), (b"onetwo", 2, false));
    /// assert_eq!((rx.skip(count), rx.is_empty()), (2, true));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_peek_batch(
        &mut self,
        mut each: impl FnMut(Peek<'_>) -> bool,
    ) -> Result<usize, TryRecvError> {
        // Not only `try_peek`: this one skips a pad for good, and knows when the sender has gone.
        self.try_span()?;
        let mut ahead = match &self.cursor {
            Cursor::Sole(cursor) => cursor.ahead(),
            Cursor::Lanes(lanes) => lanes.ahead(),
        };
        let mut count = 0;
        // What is broken behind whole messages is found again when they have been taken.
        while let Ok(span) = self.try_peek(&mut ahead) {
            let accepted = each(Peek { words: self.words(span), span, side: &self.side });
            // A child that `each` has forked has no ring to go on with.
            if !accepted || !self.side.is_ours() {
                break;
            }
            count += 1;
        }
        Ok(count)
    }

    #[inline(always)]
    fn try_peek(&mut self, ahead: &mut Ahead) -> Result<Span, Blocked> {
        match &mut self.cursor {
            Cursor::Sole(cursor) => cursor.try_peek(memory(&self.side.attached), ahead),
            Cursor::Lanes(lanes) => lanes.try_peek(ahead),
        }
    }

    /// Takes the `count` oldest messages, or as many as there are, unread; says how many.
    pub fn skip(&mut self, count: usize) -> usize {
        self.try_recv_batch(count, |message| message.release())
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

    /// Waits until there is a sender, for as long as `timeout`; `false` if none came.
    pub fn wait_for_peer(&mut self, timeout: Duration) -> bool {
        wait::wait_for_peer(&mut self.side, timeout)
    }

    /// The ring.
    pub fn ring(&self) -> &ByteRing {
        &self.ring
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

impl ByteReceiver {
    /// Says what was received.
    fn settle(&mut self) {
        if self.side.admit().is_ok() {
            match &mut self.cursor {
                Cursor::Sole(_) => self.publish(),
                Cursor::Lanes(lanes) => lanes.publish_all(),
            }
        }
    }

    /// [Leaves](Participant::leave) the role before it is dropped.
    pub(crate) fn leave(&mut self) {
        self.settle();
        self.side.leave();
    }
}

impl Drop for ByteReceiver {
    fn drop(&mut self) {
        self.settle();
    }
}
