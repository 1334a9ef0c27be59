//! [`ByteBroadcast`]: messages as bytes, each for every receiver.
//!
//! The protocol is that of [`Broadcast`](crate::Broadcast). A message of any length lies in a cell that has room for the
//! longest, behind a word with its length; only as many bytes as it has are written and read.
//!
//! ```text
//! cell: | stamp ... | length | bytes, up to the longest | length | bytes | ...
//! ```
//!
//! The sender writes the length like the rest of the message, before the stamp, so no order more is needed. A receiver
//! loads it once and copies no more than the longest. What it has copied counts only after the look that tells whether the
//! sender has come round meanwhile, and a length that is too large only then says that the ring is damaged.

use super::sides::{Receiving, Sending};
use crate::builder::{Attach, Builder, Kind, Sealed};
use crate::error::{BroadcastRecvError, ByteSendError, SetupError};
use crate::participants::Ending;
use crate::payload::{self, WORD};
use crate::protocol::Blocked;
use crate::protocol::broadcast::{Delivery, Start};
use crate::protocol::slots::Untyped;
use crate::segment::{Place, RingKind, Segment};
use crate::stats::Stats;
use crate::wait::{self, Wait, deadline_in};
use bytemuck::AnyBitPattern;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A [`Broadcast`](crate::Broadcast) of messages that are bytes: of any length up to a longest, or, where it opens a
/// `Broadcast<T>` of a type that this process does not know, of exactly the size of a `T`.
///
/// Delivery, joining, eviction and what a death leaves are those of [`Broadcast`](crate::Broadcast). In memory a message
/// takes the longest's size and a word; to send and to receive it costs as much as it is long.
///
/// ```
/// use annulus::{ByteBroadcast, Delivery, Place, Start};
///
/// let news = ByteBroadcast::builder(64, 280).create(Place::memfd("news")?)?;
/// let mut tx = news.sender()?;
/// let mut paper = news.receiver(Delivery::Gate, Start::Now)?;
/// let mut screen = news.receiver(Delivery::Lossy, Start::Now)?;
/// tx.send(b"short")?;
/// tx.send(b"and longer")?;
/// assert_eq!(paper.recv()?, b"short");
/// assert_eq!(screen.recv()?, b"short");
/// assert_eq!(screen.recv()?, b"and longer");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ByteBroadcast {
    segment: Arc<Segment>,
}

impl Kind for ByteBroadcast {
    fn in_segment(Sealed(segment): Sealed) -> Self {
        Self { segment }
    }
}

impl Builder<ByteBroadcast> {
    /// Has all messages be exactly as long as the longest, and aligned to `align` bytes, a power of two: what a
    /// [`Broadcast<T>`](crate::Broadcast) of that size and alignment opens. Default: of any length.
    ///
    /// ```
    /// use annulus::{Broadcast, ByteBroadcast, ByteSendError, Place};
    ///
    /// let raw = ByteBroadcast::builder(64, 8).exactly(8).create(Place::memfd("numbers")?)?;
    /// assert!(Broadcast::<u64>::from_fd(raw.inheritable_fd()?).is_ok());
    /// let error = raw.sender()?.try_send(b"seven..");
    /// assert_eq!(error, Err(ByteSendError::Size { len: 7, expected: 8 }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn exactly(self, align: usize) -> Self {
        self.with_kind(RingKind::Broadcast).with_align(align)
    }
}

impl ByteBroadcast {
    /// Starts to make a broadcast that holds `capacity` messages of up to `longest` bytes each.
    pub fn builder(capacity: usize, longest: usize) -> Builder<Self> {
        Builder::new(RingKind::ByteBroadcast, capacity, (longest, 1))
    }

    /// Opens a broadcast that exists, of messages of any length or of whatever type.
    ///
    /// # Errors
    ///
    /// As for [`Attach::open`].
    pub fn open(place: Place) -> Result<Self, SetupError> {
        Self::attach().open(place)
    }

    /// Starts to open a broadcast that exists, with more to insist on than [`open`](Self::open).
    pub fn attach() -> Attach<Self> {
        Attach::new(RingKind::ByteBroadcast, None).or(RingKind::Broadcast)
    }

    /// Opens the broadcast behind a descriptor that was inherited or received; the descriptor is closed.
    ///
    /// # Errors
    ///
    /// As for [`Attach::from_fd`].
    pub fn from_fd(fd: OwnedFd) -> Result<Self, SetupError> {
        Self::attach().from_fd(fd)
    }

    /// Becomes the sender.
    ///
    /// # Errors
    ///
    /// As for [`Broadcast::sender`](crate::Broadcast::sender).
    pub fn sender(&self) -> Result<ByteBroadcastSender, SetupError> {
        let sending = Sending::join(&self.segment, self.shape())?;
        Ok(ByteBroadcastSender { sending, cell: vec![0; self.shape().0], broadcast: self.clone() })
    }

    /// Becomes a receiver, which gets every message from `start` on, as far as `delivery` says.
    ///
    /// # Errors
    ///
    /// As for [`Broadcast::receiver`](crate::Broadcast::receiver).
    pub fn receiver(
        &self,
        delivery: Delivery,
        start: Start,
    ) -> Result<ByteBroadcastReceiver, SetupError> {
        let receiving = Receiving::join(&self.segment, self.shape(), delivery, start)?;
        let message = vec![0; self.longest()];
        Ok(ByteBroadcastReceiver { receiving, message, broadcast: self.clone() })
    }

    fn shape(&self) -> Untyped {
        self.segment.spec.cell_shape()
    }

    /// Messages that the broadcast holds: how far a receiver may be behind.
    pub fn capacity(&self) -> usize {
        self.segment.spec.capacity
    }

    /// Bytes of the longest message.
    pub fn longest(&self) -> usize {
        self.segment.spec.message_size
    }

    /// Whether all messages are exactly as long as the longest.
    pub fn is_exact(&self) -> bool {
        self.segment.spec.kind == RingKind::Broadcast
    }

    /// Receivers that the broadcast was made for.
    pub fn receivers(&self) -> usize {
        self.segment.spec.participants
    }

    /// The [metadata](Builder::metadata) that the broadcast was created with.
    ///
    /// # Errors
    ///
    /// [`SetupError::Metadata`] if it does not have the size of an `M`.
    pub fn metadata<M: AnyBitPattern>(&self) -> Result<M, SetupError> {
        self.segment.spec.metadata()
    }

    /// The label that the broadcast was created with.
    pub fn label(&self) -> &str {
        &self.segment.spec.label
    }

    /// Whether the broadcast outlives its users, so that an absent sender ends no conversation.
    pub fn is_persistent(&self) -> bool {
        self.segment.spec.persistent
    }

    /// A snapshot of its figures, as [`Broadcast::stats`](crate::Broadcast::stats).
    pub fn stats(&self) -> Stats {
        self.segment.stats()
    }

    /// The descriptor of the segment, to hand over a Unix socket; as [`Ring::as_fd`](crate::Ring::as_fd).
    ///
    /// # Panics
    ///
    /// In a forked child of the process that opened the broadcast.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.segment.fd()
    }

    /// A new descriptor of the segment that survives `exec`, for a child program, which opens it with
    /// [`from_fd`](Self::from_fd).
    ///
    /// # Errors
    ///
    /// [`SetupError::Os`] if there is no descriptor left.
    pub fn inheritable_fd(&self) -> Result<OwnedFd, SetupError> {
        self.segment.inheritable_fd()
    }

    /// Leaves the name behind when this process leaves, even if it is the last user.
    pub fn keep(&self) {
        self.segment.keep();
    }

    /// Removes the broadcast's name now. Processes that have it open go on using it.
    ///
    /// # Errors
    ///
    /// [`SetupError::NotFound`] if the name is gone already or is another's by now.
    pub fn remove(&self) -> Result<(), SetupError> {
        self.segment.unlink()
    }
}

/// The sender of a [`ByteBroadcast`]. It sends whether anybody receives or not.
// Lines of its own: it changes with every message, and a receiver may lie next to it.
#[derive(Debug)]
#[repr(align(128))]
pub struct ByteBroadcastSender {
    sending: Sending<Untyped>,
    /// What goes into a cell, put together.
    cell: Vec<u8>,
    broadcast: ByteBroadcast,
}

impl ByteBroadcastSender {
    fn check(&self, message: &[u8]) -> Result<(), ByteSendError> {
        let (len, max) = (message.len(), self.broadcast.longest());
        match self.broadcast.is_exact() {
            true if len != max => Err(ByteSendError::Size { len, expected: max }),
            false if len > max => Err(ByteSendError::TooLong { len, max }),
            _ => Ok(()),
        }
    }

    /// The side, and what it sends for `message`.
    fn parts<'a>(&'a mut self, message: &'a [u8]) -> (&'a mut Sending<Untyped>, &'a [u8]) {
        if self.broadcast.is_exact() {
            return (&mut self.sending, message);
        }
        let whole = WORD + message.len();
        self.cell[..WORD].copy_from_slice(&(message.len() as u64).to_le_bytes());
        self.cell[WORD..whole].copy_from_slice(message);
        (&mut self.sending, &self.cell[..whole])
    }

    fn put_until(
        &mut self,
        message: &[u8],
        deadline: impl FnOnce() -> Option<Instant>,
    ) -> Result<(), ByteSendError> {
        self.check(message)?;
        let (sending, whole) = self.parts(message);
        match sending.try_send(whole) {
            Ok(()) => Ok(()),
            Err(failure) => Ok(sending.send_again(failure, whole, deadline)?),
        }
    }

    /// Sends, if no receiver that is waited for has to be waited for now. Never blocks, and evicts nobody.
    ///
    /// # Errors
    ///
    /// [`ByteSendError::TooLong`] if the message is longer than the longest; [`ByteSendError::Size`] if all have one size and
    /// it has another; [`ByteSendError::Full`], [`ByteSendError::Corrupt`] and [`ByteSendError::Forked`] as for
    /// [`BroadcastSender::try_send`](crate::BroadcastSender::try_send).
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), ByteSendError> {
        self.check(message)?;
        let (sending, whole) = self.parts(message);
        Ok(sending.try_send(whole)?)
    }

    /// Sends, waiting for those receivers that are to be waited for.
    ///
    /// # Errors
    ///
    /// As for [`try_send`](Self::try_send), without `Full`.
    pub fn send(&mut self, message: &[u8]) -> Result<(), ByteSendError> {
        self.put_until(message, || None)
    }

    /// [`send`](Self::send), waiting for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), and [`ByteSendError::Timeout`].
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), ByteSendError> {
        self.put_until(message, || deadline_in(timeout))
    }

    /// [`send`](Self::send), waiting until `deadline`.
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

    /// Chooses how long a call that sends waits for receivers before it evicts those it waits for, as
    /// [`BroadcastSender::set_patience`](crate::BroadcastSender::set_patience). Default: for ever.
    pub fn set_patience(&mut self, patience: Option<Duration>) {
        self.sending.patience = patience;
    }

    /// Chooses how this side waits. Default: [`Wait::Adaptive`].
    pub fn set_wait(&mut self, wait: Wait) {
        self.sending.side.set_wait(wait);
    }

    /// Chooses how this side waits, in passing.
    #[must_use]
    pub fn with_wait(mut self, wait: Wait) -> Self {
        self.set_wait(wait);
        self
    }

    /// Waits until there is a receiver, for as long as `timeout`; `false` if none came.
    pub fn wait_for_peer(&mut self, timeout: Duration) -> bool {
        wait::wait_for_peer(&mut self.sending.side, timeout)
    }

    /// The broadcast.
    pub fn broadcast(&self) -> &ByteBroadcast {
        &self.broadcast
    }
}

/// A receiver of a [`ByteBroadcast`]. When the sender goes, it notices that as a
/// [`BroadcastReceiver`](crate::BroadcastReceiver#when-the-sender-goes) does.
// Lines of its own, as for the sender.
#[derive(Debug)]
#[repr(align(128))]
pub struct ByteBroadcastReceiver {
    pub(crate) receiving: Receiving<Untyped>,
    /// The message that was received last.
    message: Vec<u8>,
    broadcast: ByteBroadcast,
}

impl ByteBroadcastReceiver {
    /// Copies the next message to the start of `message`, and gives its length.
    fn take(&mut self) -> Result<usize, BroadcastRecvError> {
        let (message, is_exact) = (&mut self.message, self.broadcast.is_exact());
        let mut length = message.len() as u64;
        self.receiving.try_recv_by(|words| {
            if is_exact {
                return payload::read_at(words, 0, message);
            }
            let (first, rest) = words.split_first().expect("a cell has room for a length");
            length = first.read();
            let most = length.min(message.len() as u64) as usize;
            payload::read_at(rest, 0, &mut message[..most]);
        })?;
        if length > self.message.len() as u64 {
            return Err(self.receiving.stopped(Err(Blocked::Corrupt)).into());
        }
        Ok(length as usize)
    }

    fn take_until(&mut self, deadline: Option<Instant>) -> Result<&[u8], BroadcastRecvError> {
        loop {
            match self.take() {
                Ok(length) => return Ok(&self.message[..length]),
                Err(BroadcastRecvError::Empty) => self.receiving.wait_for_message(deadline)?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Receives, if a message is there now. Never blocks. The message is a copy, which lasts until the next call.
    ///
    /// # Errors
    ///
    /// As for [`BroadcastReceiver::try_recv`](crate::BroadcastReceiver::try_recv).
    pub fn try_recv(&mut self) -> Result<&[u8], BroadcastRecvError> {
        let length = self.take()?;
        Ok(&self.message[..length])
    }

    /// Receives, waiting for a message if there is none, in the way that [`set_wait`](Self::set_wait) chose.
    ///
    /// # Errors
    ///
    /// As for [`try_recv`](Self::try_recv), without `Empty`; a death is noticed within 100 ms.
    pub fn recv(&mut self) -> Result<&[u8], BroadcastRecvError> {
        self.take_until(None)
    }

    /// Receives, waiting for a message for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv), and [`BroadcastRecvError::Timeout`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<&[u8], BroadcastRecvError> {
        self.take_until(deadline_in(timeout))
    }

    /// Receives, waiting for a message until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv), and [`BroadcastRecvError::Timeout`].
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<&[u8], BroadcastRecvError> {
        self.take_until(Some(deadline))
    }

    /// Waits until there is a message, or something else that the next [`try_recv`](Self::try_recv) tells, for as long as
    /// `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`recv_timeout`](Self::recv_timeout).
    pub fn wait_ready(&mut self, timeout: Duration) -> Result<(), BroadcastRecvError> {
        Ok(self.receiving.wait_for_message(deadline_in(timeout))?)
    }

    /// Chooses where this receiver goes on when it has missed messages, as
    /// [`BroadcastReceiver::set_resume`](crate::BroadcastReceiver::set_resume). Default: the oldest that is there.
    pub fn set_resume(&mut self, resume: Start) {
        self.receiving.cursor.set_resume(resume);
    }

    /// Whether the sender has stopped waiting for this receiver. There may be messages that it can still receive.
    pub fn is_evicted(&self) -> bool {
        self.receiving.is_evicted()
    }

    /// Has the sender wait for this receiver again; how many messages it has missed. As
    /// [`BroadcastReceiver::rejoin`](crate::BroadcastReceiver::rejoin).
    ///
    /// # Errors
    ///
    /// [`BroadcastRecvError::Corrupt`] and [`BroadcastRecvError::Forked`].
    pub fn rejoin(&mut self, start: Start) -> Result<u64, BroadcastRecvError> {
        Ok(self.receiving.rejoin(start)?)
    }

    /// Chooses how this side waits. Default: [`Wait::Adaptive`].
    pub fn set_wait(&mut self, wait: Wait) {
        self.receiving.side.set_wait(wait);
    }

    /// Chooses how this side waits, in passing.
    #[must_use]
    pub fn with_wait(mut self, wait: Wait) -> Self {
        self.set_wait(wait);
        self
    }

    /// Waits until there is a sender, for as long as `timeout`; `false` if none came.
    pub fn wait_for_peer(&mut self, timeout: Duration) -> bool {
        wait::wait_for_peer(&mut self.receiving.side, timeout)
    }

    /// Whether there is no sender any more, and how it ended: see [`Receiver::ending`](crate::Receiver::ending).
    pub fn ending(&self) -> Option<Ending> {
        self.receiving.side.ending()
    }

    /// The broadcast.
    pub fn broadcast(&self) -> &ByteBroadcast {
        &self.broadcast
    }
}
