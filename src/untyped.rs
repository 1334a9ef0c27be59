//! [`UntypedRing`]: a ring of slots for programs that do not know the type of its messages.

use crate::builder::{Attach, Builder, Kind, Sealed};
use crate::error::{
    ByteSendError, Failure, RecvIntoError, RecvTimeoutError, SetupError, TryRecvError,
};
use crate::participants::Ending;
use crate::protocol::room::Look;
use crate::protocol::slots::Untyped;
use crate::segment::{Place, RingKind, Segment, Topology};
use crate::slots::{SlotReceiver, SlotSender};
use crate::stats::Stats;
use crate::wait::{self, Wait, deadline_in};
use bytemuck::AnyBitPattern;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A [`Ring`](crate::Ring) whose message type this process does not know: for tools that move messages
/// as bytes. Each message is exactly [`message_size`](Self::message_size) bytes.
///
/// ```
/// use annulus::{Place, UntypedRing};
///
/// let ring = UntypedRing::builder(64, 12).create(Place::memfd("raw")?)?;
/// let (mut tx, mut rx) = (ring.sender()?, ring.receiver()?);
/// tx.send(b"twelve bytes")?;
/// let mut message = [0; 12];
/// rx.recv(&mut message)?;
/// assert_eq!(&message, b"twelve bytes");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct UntypedRing {
    segment: Arc<Segment>,
}

impl Kind for UntypedRing {
    fn in_segment(Sealed(segment): Sealed) -> Self {
        Self { segment }
    }
}

impl UntypedRing {
    /// Starts to make a ring for `capacity` messages of `message_size` bytes, aligned to one byte.
    pub fn builder(capacity: usize, message_size: usize) -> Builder<Self> {
        Builder::new(RingKind::Slots, capacity, (message_size, 1))
    }

    /// Opens a ring of slots, whatever its messages are.
    ///
    /// # Errors
    ///
    /// As for [`Attach::open`].
    pub fn open(place: Place) -> Result<Self, SetupError> {
        Self::attach().open(place)
    }

    /// Starts to open a ring that exists, with more to insist on than [`open`](Self::open).
    pub fn attach() -> Attach<Self> {
        Attach::new(RingKind::Slots, None)
    }

    /// Opens the ring behind a descriptor that was inherited or received; the descriptor is closed.
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
    /// As for [`Ring::sender`](crate::Ring::sender).
    pub fn sender(&self) -> Result<UntypedSender, SetupError> {
        let slots = SlotSender::join(&self.segment, Untyped(self.message_size()))?;
        Ok(UntypedSender { slots, ring: self.clone() })
    }

    /// Becomes the receiver.
    ///
    /// # Errors
    ///
    /// As for [`Ring::sender`](crate::Ring::sender).
    pub fn receiver(&self) -> Result<UntypedReceiver, SetupError> {
        let slots = SlotReceiver::join(&self.segment, Untyped(self.message_size()))?;
        Ok(UntypedReceiver { slots, ring: self.clone() })
    }

    /// How many may send and receive.
    pub fn topology(&self) -> Topology {
        self.segment.spec.topology
    }

    /// Messages that the ring holds.
    pub fn capacity(&self) -> usize {
        self.segment.spec.capacity
    }

    /// Bytes of a message.
    pub fn message_size(&self) -> usize {
        self.segment.spec.message_size
    }

    /// The [metadata](Builder::metadata) that the ring was created with.
    ///
    /// # Errors
    ///
    /// [`SetupError::Metadata`] if it does not have the size of an `M`.
    pub fn metadata<M: AnyBitPattern>(&self) -> Result<M, SetupError> {
        self.segment.spec.metadata()
    }

    /// The label that the ring was created with.
    pub fn label(&self) -> &str {
        &self.segment.spec.label
    }

    /// Whether the ring outlives its users, so that an absent peer ends no conversation.
    pub fn is_persistent(&self) -> bool {
        self.segment.spec.persistent
    }

    /// A snapshot of the ring's figures.
    pub fn stats(&self) -> Stats {
        self.segment.stats()
    }

    /// The descriptor of the segment, to hand over a Unix socket. It is close-on-exec, and a forked child
    /// does not have it: a descriptor that was borrowed before the fork is a number there that names
    /// nothing, or some other file.
    ///
    /// # Panics
    ///
    /// In a forked child of the process that opened the ring.
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

    /// Removes the ring's name now. Processes that have it open go on using it.
    ///
    /// # Errors
    ///
    /// [`SetupError::NotFound`] if the name is gone already or is another ring's by now.
    pub fn remove(&self) -> Result<(), SetupError> {
        self.segment.unlink()
    }
}

/// The sending side of an [`UntypedRing`]. When its receiver goes, it notices that as a
/// [`Sender`](crate::Sender#when-the-receiver-goes) does.
#[derive(Debug)]
pub struct UntypedSender {
    pub(crate) slots: SlotSender<Untyped>,
    ring: UntypedRing,
}

impl UntypedSender {
    fn check(&self, message: &[u8]) -> Result<(), ByteSendError> {
        let size = self.ring.message_size();
        if message.len() == size {
            Ok(())
        } else {
            Err(ByteSendError::Size { len: message.len(), expected: size })
        }
    }

    /// Sends, if there is room now. Never blocks.
    ///
    /// # Errors
    ///
    /// [`ByteSendError::Size`] unless the message has exactly the ring's message size;
    /// [`ByteSendError::Full`], [`ByteSendError::Disconnected`], [`ByteSendError::Corrupt`] and
    /// [`ByteSendError::Forked`] as for [`Sender::try_send`](crate::Sender::try_send).
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), ByteSendError> {
        self.check(message)?;
        Ok(self.slots.try_send(message)?)
    }

    /// Sends, waiting for room if there is none.
    ///
    /// # Errors
    ///
    /// As for [`try_send`](Self::try_send), without `Full`.
    pub fn send(&mut self, message: &[u8]) -> Result<(), ByteSendError> {
        self.check(message)?;
        self.send_until(message, None)
    }

    /// Sends, waiting for room for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), and [`ByteSendError::Timeout`].
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), ByteSendError> {
        self.check(message)?;
        self.send_until(message, deadline_in(timeout))
    }

    /// As [`send`](Self::send), waiting for room until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`send_timeout`](Self::send_timeout).
    pub fn send_deadline(
        &mut self,
        message: &[u8],
        deadline: Instant,
    ) -> Result<(), ByteSendError> {
        self.check(message)?;
        self.send_until(message, Some(deadline))
    }

    fn send_until(
        &mut self,
        message: &[u8],
        deadline: Option<Instant>,
    ) -> Result<(), ByteSendError> {
        match self.slots.try_send(message) {
            Ok(()) => Ok(()),
            Err(failure) => Ok(self.slots.send_again(failure, message, deadline)?),
        }
    }

    /// Sends as many of the messages in `bytes`, which holds whole messages, as there is room for now.
    ///
    /// # Panics
    ///
    /// If `bytes` is not a whole number of messages.
    pub fn try_send_batch(&mut self, bytes: &[u8]) -> usize {
        let size = self.ring.message_size();
        assert!(
            bytes.len().is_multiple_of(size),
            "a batch is a whole number of messages of {size} bytes"
        );
        self.slots.try_send_batch(bytes, bytes.len() / size, Look::Exact).unwrap_or(0)
    }

    /// Chooses how this side waits. Default: [`Wait::Adaptive`].
    pub fn set_wait(&mut self, wait: Wait) {
        self.slots.side.set_wait(wait);
    }

    /// Chooses how this side waits, in passing.
    #[must_use]
    pub fn with_wait(mut self, wait: Wait) -> Self {
        self.set_wait(wait);
        self
    }

    /// Waits until there is a receiver, for as long as `timeout`; `false` if none came.
    pub fn wait_for_peer(&mut self, timeout: Duration) -> bool {
        wait::wait_for_peer(&mut self.slots.side, timeout)
    }

    /// Whether there is no receiver any more, and how it ended: see [`Receiver::ending`](crate::Receiver::ending).
    pub fn ending(&self) -> Option<Ending> {
        self.slots.side.ending()
    }

    /// The ring.
    pub fn ring(&self) -> &UntypedRing {
        &self.ring
    }
}

/// The receiving side of an [`UntypedRing`]. Its `Disconnected` sticks as little as that of a
/// [`Receiver`](crate::Receiver#when-the-sender-goes).
#[derive(Debug)]
pub struct UntypedReceiver {
    pub(crate) slots: SlotReceiver<Untyped>,
    ring: UntypedRing,
}

impl UntypedReceiver {
    fn check(&self, message: &[u8]) -> Result<(), RecvIntoError> {
        let size = self.ring.message_size();
        if message.len() >= size { Ok(()) } else { Err(RecvIntoError::TooSmall { len: size }) }
    }

    /// Receives into the start of `message`, if one is there now. Never blocks.
    ///
    /// # Errors
    ///
    /// [`RecvIntoError::TooSmall`] if `message` is shorter than the ring's messages;
    /// [`RecvIntoError::Empty`], [`RecvIntoError::Disconnected`], [`RecvIntoError::Corrupt`] and
    /// [`RecvIntoError::Forked`] as for [`Receiver::try_recv`](crate::Receiver::try_recv).
    pub fn try_recv(&mut self, message: &mut [u8]) -> Result<(), RecvIntoError> {
        self.check(message)?;
        // SAFETY: `message` has room for a message.
        Ok(unsafe { self.slots.try_recv(message.as_mut_ptr()) }?)
    }

    /// Receives into the start of `message`, waiting if none is there.
    ///
    /// # Errors
    ///
    /// As for [`try_recv`](Self::try_recv), without `Empty`.
    pub fn recv(&mut self, message: &mut [u8]) -> Result<(), RecvIntoError> {
        self.recv_until(message, None)
    }

    /// Receives into the start of `message`, waiting for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv), and [`RecvIntoError::Timeout`].
    pub fn recv_timeout(
        &mut self,
        message: &mut [u8],
        timeout: Duration,
    ) -> Result<(), RecvIntoError> {
        self.recv_until(message, deadline_in(timeout))
    }

    /// As [`recv`](Self::recv), waiting until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`recv_timeout`](Self::recv_timeout).
    pub fn recv_deadline(
        &mut self,
        message: &mut [u8],
        deadline: Instant,
    ) -> Result<(), RecvIntoError> {
        self.recv_until(message, Some(deadline))
    }

    fn recv_until(
        &mut self,
        message: &mut [u8],
        deadline: Option<Instant>,
    ) -> Result<(), RecvIntoError> {
        self.check(message)?;
        // SAFETY: `message` has room for a message.
        if unsafe { self.slots.linger(None, message.as_mut_ptr()) } {
            return Ok(());
        }
        loop {
            // SAFETY: `message` has room for a message.
            match unsafe { self.slots.try_recv(message.as_mut_ptr()) } {
                Err(Failure::NotReady) => self.slots.wait_for_message(deadline)?,
                done => return Ok(done?),
            }
        }
    }

    /// Waits until a message is there, for as long as `timeout`, and takes nothing.
    ///
    /// # Errors
    ///
    /// As for [`recv_timeout`](Self::recv_timeout).
    pub fn wait_ready(&mut self, timeout: Duration) -> Result<(), RecvTimeoutError> {
        Ok(self.slots.wait_for_message(deadline_in(timeout))?)
    }

    /// Copies as many messages as are there now and fit into `bytes`, one after the other, and says how
    /// many. None is taken: [`skip`](Self::skip) does that, once they are dealt with, so that whoever is
    /// killed in between leaves them to the next receiver.
    ///
    /// # Errors
    ///
    /// As for [`Receiver::try_recv`](crate::Receiver::try_recv), if there is no message.
    ///
    /// ```
    /// # let ring = annulus::UntypedRing::builder(8, 3).create(annulus::Place::memfd("raw")?)?;
    /// let (mut tx, mut rx) = (ring.sender()?, ring.receiver()?);
    /// tx.send(b"one")?;
    /// tx.send(b"two")?;
    /// let mut all = [0; 9];
    /// assert_eq!((rx.try_peek_batch(&mut all)?, &all[..6]), (2, b"onetwo".as_slice()));
    /// assert_eq!((rx.skip(2), rx.try_peek_batch(&mut all).is_err()), (2, true));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_peek_batch(&mut self, bytes: &mut [u8]) -> Result<usize, TryRecvError> {
        let most = bytes.len() / self.ring.message_size();
        // SAFETY: `bytes` has room for `most` messages.
        Ok(unsafe { self.slots.try_peek_batch(bytes.as_mut_ptr(), most) }?)
    }

    /// Takes the `count` oldest messages, or as many as there are, unread; says how many.
    pub fn skip(&mut self, count: usize) -> usize {
        self.slots.skip(count).unwrap_or(0)
    }

    /// Receives as many messages as are there now and fit into `bytes`, one after the other, and says
    /// how many.
    pub fn try_recv_batch(&mut self, bytes: &mut [u8]) -> usize {
        let most = bytes.len() / self.ring.message_size();
        // SAFETY: `bytes` has room for `most` messages.
        unsafe { self.slots.try_recv_batch(bytes.as_mut_ptr(), most) }.unwrap_or(0)
    }

    /// Chooses how this side waits. Default: [`Wait::Adaptive`].
    pub fn set_wait(&mut self, wait: Wait) {
        self.slots.side.set_wait(wait);
    }

    /// Chooses how this side waits, in passing.
    #[must_use]
    pub fn with_wait(mut self, wait: Wait) -> Self {
        self.set_wait(wait);
        self
    }

    /// Waits until there is a sender, for as long as `timeout`; `false` if none came.
    pub fn wait_for_peer(&mut self, timeout: Duration) -> bool {
        wait::wait_for_peer(&mut self.slots.side, timeout)
    }

    /// Whether there is no sender any more, and how it ended: see [`Receiver::ending`](crate::Receiver::ending).
    pub fn ending(&self) -> Option<Ending> {
        self.slots.side.ending()
    }

    /// The ring.
    pub fn ring(&self) -> &UntypedRing {
        &self.ring
    }
}
