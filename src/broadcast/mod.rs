//! [`Broadcast`]: every message for every receiver.

mod bytes;
mod sides;

pub use bytes::{ByteBroadcast, ByteBroadcastReceiver, ByteBroadcastSender};
pub(crate) use sides::{Receiving, memory};

use crate::builder::{Attach, Builder, Kind, Sealed};
use crate::error::{
    BroadcastRecvError, Failure, SendAllError, SendError, SendTimeoutError, SetupError,
    TrySendError,
};
use crate::participants::Ending;
use crate::protocol::broadcast::{Delivery, Start};
use crate::protocol::slots::Typed;
use crate::segment::{Place, RingKind, Segment};
use crate::stats::Stats;
use crate::wait::{self, Wait, deadline_in};
use bytemuck::{AnyBitPattern, NoUninit};
use sides::{Sending, Stop};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A ring of messages of type `T` in shared memory with one sender and many receivers, each of which gets every
/// message from where it joined on.
///
/// A receiver chooses what becomes of messages that it is too slow for ([`Delivery`]): either the sender waits for it,
/// and nothing is lost; or the sender does not, and the receiver is told exactly how many it has missed. The sender's cost
/// for a message does not depend on how many receivers there are; once for half of the ring it looks at all of them.
///
/// `T` is plain old data, as for a [`Ring`](crate::Ring). Receivers may come and go at any time, as many at once as the
/// broadcast has [`participants`](Builder::participants), which are receivers here.
///
/// # Death
///
/// A message is there for everybody or for nobody, whenever its sender is killed, and the next sender goes on right after
/// the last one. A receiver that is killed holds nobody up: the kernel knows that it is gone, and a sender that waits
/// asks when it begins to wait, and again every 100 ms. One that is stopped or slow is waited for, unless the sender
/// [evicts](BroadcastSender::set_patience) it.
///
/// ```
/// use annulus::{Broadcast, Delivery, Place, Start};
///
/// let prices = Broadcast::<u64>::builder(1024).create(Place::memfd("prices")?)?;
/// let mut tx = prices.sender()?;
/// let mut book = prices.receiver(Delivery::Gate, Start::Now)?;
/// let mut screen = prices.receiver(Delivery::Lossy, Start::Now)?;
/// tx.send(101)?;
/// assert_eq!((book.recv()?, screen.recv()?), (101, 101));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Broadcast<T> {
    segment: Arc<Segment>,
    messages: PhantomData<fn(T) -> T>,
}

impl<T> Clone for Broadcast<T> {
    fn clone(&self) -> Self {
        Self { segment: Arc::clone(&self.segment), messages: PhantomData }
    }
}

impl<T: NoUninit + AnyBitPattern> Kind for Broadcast<T> {
    fn in_segment(Sealed(segment): Sealed) -> Self {
        Self { segment, messages: PhantomData }
    }
}

impl<T: NoUninit + AnyBitPattern> Broadcast<T> {
    const MESSAGE: (usize, usize) = (size_of::<T>(), align_of::<T>());

    /// Starts to make a broadcast that holds `capacity` messages.
    ///
    /// ```
    /// use annulus::{Broadcast, Place};
    ///
    /// let news = Broadcast::<[u8; 64]>::builder(256).participants(100).create(Place::memfd("news")?)?;
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    pub fn builder(capacity: usize) -> Builder<Self> {
        Builder::new(RingKind::Broadcast, capacity, Self::MESSAGE)
    }

    /// Opens a broadcast that exists.
    ///
    /// # Errors
    ///
    /// As for [`Attach::open`].
    pub fn open(place: Place) -> Result<Self, SetupError> {
        Self::attach().open(place)
    }

    /// Starts to open a broadcast that exists, with more to insist on than [`open`](Self::open).
    pub fn attach() -> Attach<Self> {
        Attach::new(RingKind::Broadcast, Some(Self::MESSAGE))
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
    /// [`SetupError::RoleTaken`] while another handle has the role, after asking for 6 ms; a dead process has none.
    /// [`SetupError::Corrupt`] if the positions in the ring cannot be, [`SetupError::NoProc`] without `/proc`.
    pub fn sender(&self) -> Result<BroadcastSender<T>, SetupError> {
        let sending = Sending::join(&self.segment, Typed::new())?;
        Ok(BroadcastSender { sending, broadcast: self.clone() })
    }

    /// Becomes a receiver, which gets every message from `start` on, as far as `delivery` says.
    ///
    /// # Errors
    ///
    /// [`SetupError::Crowded`] if there are as many receivers as the broadcast was made for; others as for
    /// [`sender`](Self::sender).
    ///
    /// ```
    /// use annulus::{Broadcast, Delivery, Place, Start};
    ///
    /// let news = Broadcast::<u64>::builder(16).create(Place::memfd("news")?)?;
    /// news.sender()?.send(1)?;
    /// let mut late = news.receiver(Delivery::Lossy, Start::Oldest)?;
    /// assert_eq!(late.try_recv(), Ok(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn receiver(
        &self,
        delivery: Delivery,
        start: Start,
    ) -> Result<BroadcastReceiver<T>, SetupError> {
        let receiving = Receiving::join(&self.segment, Typed::new(), delivery, start)?;
        Ok(BroadcastReceiver { receiving, broadcast: self.clone() })
    }

    /// Messages that the broadcast holds: how far a receiver may be behind.
    pub fn capacity(&self) -> usize {
        self.segment.spec.capacity
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

    /// A snapshot of its figures: [`length`](Stats::length) is what the receiver that is furthest behind has not
    /// received yet, and [`received`](Stats::received) what it has.
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

/// The sender of a [`Broadcast`].
///
/// It sends whether anybody receives or not, and no error says that nobody does: receivers come and go.
// Lines of its own: it changes with every message, and a receiver may lie next to it.
#[derive(Debug)]
#[repr(align(128))]
pub struct BroadcastSender<T> {
    sending: Sending<Typed<T>>,
    broadcast: Broadcast<T>,
}

impl<T: NoUninit + AnyBitPattern> BroadcastSender<T> {
    #[inline(always)]
    fn put(&mut self, message: &T) -> Result<(), Failure> {
        self.sending.try_send(bytemuck::bytes_of(message))
    }

    /// Sends after [`put`](Self::put) said `failure`, waiting for room. It gets the message itself: with a reference, the
    /// message would be in memory whether it had to wait or not.
    #[cold]
    #[inline(never)]
    fn put_again(
        &mut self,
        failure: Failure,
        message: T,
        deadline: impl FnOnce() -> Option<Instant>,
    ) -> Result<(), Failure> {
        self.sending.send_again(failure, bytemuck::bytes_of(&message), deadline)
    }

    fn put_batch(&mut self, messages: &[T]) -> Result<usize, Failure> {
        self.sending.try_send_batch(bytemuck::cast_slice(messages), messages.len())
    }

    /// Sends, if no receiver that is waited for has to be waited for now. Never blocks, and evicts nobody.
    ///
    /// # Errors
    ///
    /// Each gives the message back: [`TrySendError::Full`] if a receiver with [`Delivery::Gate`] is a whole capacity
    /// behind (or is just joining), [`TrySendError::Corrupt`] if receivers have written what no correct one writes,
    /// [`TrySendError::Forked`] in a forked child. Never [`TrySendError::Disconnected`].
    ///
    /// ```
    /// use annulus::{Broadcast, Delivery, Place, Start, TrySendError};
    ///
    /// let news = Broadcast::<u64>::builder(1).create(Place::memfd("news")?)?;
    /// let mut tx = news.sender()?;
    /// assert!((0..10).all(|i| tx.try_send(i).is_ok()));
    /// let mut rx = news.receiver(Delivery::Gate, Start::Now)?;
    /// assert_eq!((tx.try_send(10), tx.try_send(11)), (Ok(()), Err(TrySendError::Full(11))));
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    #[inline]
    pub fn try_send(&mut self, message: T) -> Result<(), TrySendError<T>> {
        self.put(&message).map_err(|failure| TrySendError::new(failure, message))
    }

    /// Sends, waiting for those receivers that are to be waited for.
    ///
    /// # Errors
    ///
    /// As for [`try_send`](Self::try_send), without `Full`.
    #[inline]
    pub fn send(&mut self, message: T) -> Result<(), SendError<T>> {
        let sent = self.put(&message);
        sent.or_else(|failure| self.put_again(failure, message, || None))
            .map_err(|failure| SendError::new(failure, message))
    }

    /// [`send`](Self::send), waiting for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), and [`SendTimeoutError::Timeout`].
    pub fn send_timeout(
        &mut self,
        message: T,
        timeout: Duration,
    ) -> Result<(), SendTimeoutError<T>> {
        let sent = self.put(&message);
        sent.or_else(|failure| self.put_again(failure, message, || deadline_in(timeout)))
            .map_err(|failure| SendTimeoutError::new(failure, message))
    }

    /// [`send`](Self::send), waiting until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), and [`SendTimeoutError::Timeout`].
    pub fn send_deadline(
        &mut self,
        message: T,
        deadline: Instant,
    ) -> Result<(), SendTimeoutError<T>> {
        let sent = self.put(&message);
        sent.or_else(|failure| self.put_again(failure, message, || Some(deadline)))
            .map_err(|failure| SendTimeoutError::new(failure, message))
    }

    /// Sends as many of `messages` as there is room for now, from the first on, and says how many. They appear at once.
    /// 0 also if the ring is damaged; [`try_send`](Self::try_send) tells.
    #[inline]
    pub fn try_send_batch(&mut self, messages: &[T]) -> usize {
        self.put_batch(messages).unwrap_or(0)
    }

    /// Sends all of `messages`, waiting as often as needed.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), with the number of messages that were sent before.
    pub fn send_all(&mut self, messages: &[T]) -> Result<(), SendAllError> {
        let mut sent = 0;
        while sent < messages.len() {
            let more = match self.put_batch(&messages[sent..]) {
                Err(Failure::NotReady) => self.sending.wait_for_room(None).map(|()| 0),
                done => done,
            };
            match more {
                Ok(count) => sent += count,
                Err(failure) => {
                    return Err(SendAllError { sent, cause: SendError::new(failure, ()) });
                }
            }
        }
        Ok(())
    }

    /// Chooses how long a call that sends waits for receivers before it evicts those it waits for, which are told:
    /// [`BroadcastRecvError::Evicted`]. Default: for ever. A time-out or deadline of the call that comes first ends
    /// the call, and evicts nobody.
    ///
    /// ```
    /// use annulus::{Broadcast, BroadcastRecvError, Delivery, Place, Start};
    /// use std::time::Duration;
    ///
    /// let news = Broadcast::<u64>::builder(4).create(Place::memfd("news")?)?;
    /// let mut tx = news.sender()?;
    /// tx.set_patience(Some(Duration::from_millis(1)));
    /// let mut rx = news.receiver(Delivery::Gate, Start::Now)?;
    /// for i in 0..10 {
    ///     tx.send(i)?;
    /// }
    /// assert_eq!(rx.recv(), Err(BroadcastRecvError::Evicted));
    /// assert_eq!(rx.rejoin(Start::Now)?, 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
    pub fn broadcast(&self) -> &Broadcast<T> {
        &self.broadcast
    }
}

/// A receiver of a [`Broadcast`].
///
/// # When the sender goes
///
/// What it sent comes first, then `Disconnected`. It does not stick: when another sender has joined, the same
/// handle receives its messages. Until a first sender has come, and always in a persistent broadcast, nothing says
/// `Disconnected`.
// Lines of its own, as for the sender.
#[derive(Debug)]
#[repr(align(128))]
pub struct BroadcastReceiver<T> {
    pub(crate) receiving: Receiving<Typed<T>>,
    broadcast: Broadcast<T>,
}

impl<T: NoUninit + AnyBitPattern> BroadcastReceiver<T> {
    #[inline(always)]
    fn take(&mut self) -> Result<T, Stop> {
        let mut message = MaybeUninit::<T>::uninit();
        // SAFETY: `message` has room for a `T`, which is the shape's size.
        unsafe { self.receiving.try_recv(message.as_mut_ptr().cast()) }?;
        // SAFETY: all bytes of `message` were written, and any bytes are a `T` (`AnyBitPattern`).
        Ok(unsafe { message.assume_init() })
    }

    /// Waits for a message if there is none.
    #[inline(always)]
    fn take_until(
        &mut self,
        deadline: impl Fn() -> Option<Instant>,
    ) -> Result<T, BroadcastRecvError> {
        let mut until = None;
        loop {
            match self.take() {
                Err(Stop::Failure(Failure::NotReady)) => {}
                done => return Ok(done?),
            }
            self.receiving.wait_for_message(*until.get_or_insert_with(&deadline))?;
        }
    }

    /// Receives, if a message is there now. Never blocks.
    ///
    /// # Errors
    ///
    /// [`BroadcastRecvError::Empty`] if there is none yet; [`Disconnected`](BroadcastRecvError::Disconnected) if
    /// there is none and the sender has left or died (a death is noticed within 1,024 attempts);
    /// [`Lagged`](BroadcastRecvError::Lagged) and [`Evicted`](BroadcastRecvError::Evicted), as this receiver's
    /// [`Delivery`] is; [`Corrupt`](BroadcastRecvError::Corrupt) and [`Forked`](BroadcastRecvError::Forked).
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<T, BroadcastRecvError> {
        Ok(self.take()?)
    }

    /// Receives, waiting for a message if there is none, in the way that [`set_wait`](Self::set_wait) chose.
    ///
    /// # Errors
    ///
    /// As for [`try_recv`](Self::try_recv), without `Empty`; a death is noticed within 100 ms.
    #[inline(always)]
    pub fn recv(&mut self) -> Result<T, BroadcastRecvError> {
        self.take_until(|| None)
    }

    /// Receives, waiting for a message for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv), and [`BroadcastRecvError::Timeout`].
    #[inline]
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, BroadcastRecvError> {
        self.take_until(|| deadline_in(timeout))
    }

    /// Receives, waiting for a message until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv), and [`BroadcastRecvError::Timeout`].
    #[inline]
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<T, BroadcastRecvError> {
        self.take_until(|| Some(deadline))
    }

    /// Receives as many messages as are there now and fit into `messages`, and says how many: at least one, unless
    /// `messages` is empty.
    ///
    /// # Errors
    ///
    /// As for [`try_recv`](Self::try_recv).
    ///
    /// ```
    /// # use annulus::{Broadcast, Delivery, Place, Start};
    /// # let news = Broadcast::<u64>::builder(4).create(Place::memfd("news")?)?;
    /// let mut rx = news.receiver(Delivery::Gate, Start::Now)?;
    /// news.sender()?.try_send_batch(&[1, 2, 3]);
    /// let mut messages = [0; 8];
    /// assert_eq!(rx.try_recv_batch(&mut messages), Ok(3));
    /// assert_eq!(messages[..3], [1, 2, 3]);
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    #[inline]
    pub fn try_recv_batch(&mut self, messages: &mut [T]) -> Result<usize, BroadcastRecvError> {
        Ok(self.take_batch(messages)?)
    }

    fn take_batch(&mut self, messages: &mut [T]) -> Result<usize, Stop> {
        let to = messages.as_mut_ptr().cast();
        // SAFETY: `messages` has room for its own length; any bytes are a `T` (`AnyBitPattern`).
        unsafe { self.receiving.try_recv_batch(to, messages.len()) }
    }

    /// [`try_recv_batch`](Self::try_recv_batch), waiting for the first message if there is none.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
    pub fn recv_batch(&mut self, messages: &mut [T]) -> Result<usize, BroadcastRecvError> {
        loop {
            match self.take_batch(messages) {
                Err(Stop::Failure(Failure::NotReady)) => self.receiving.wait_for_message(None)?,
                done => return Ok(done?),
            }
        }
    }

    /// The messages as they come, until there is an error, which ends it: the next call of a verb says which.
    /// [`Lagged`](BroadcastRecvError::Lagged) is passed over.
    ///
    /// ```
    /// # use annulus::{Broadcast, Delivery, Place, Start};
    /// # let news = Broadcast::<u64>::builder(4).create(Place::memfd("news")?)?;
    /// let mut rx = news.receiver(Delivery::Gate, Start::Now)?;
    /// news.sender()?.send_all(&[1, 2, 3])?;
    /// assert_eq!(rx.iter().sum::<u64>(), 6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn iter(&mut self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| self.pass_over(Self::recv))
    }

    /// The messages that are there now, as [`iter`](Self::iter) gives them.
    pub fn try_iter(&mut self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| self.pass_over(Self::try_recv))
    }

    fn pass_over(
        &mut self,
        receive: impl Fn(&mut Self) -> Result<T, BroadcastRecvError>,
    ) -> Option<T> {
        loop {
            match receive(self) {
                Err(BroadcastRecvError::Lagged(_)) => {}
                done => return done.ok(),
            }
        }
    }

    /// Chooses where this receiver goes on when it has missed messages: the oldest that is there, or the next one
    /// that is sent. Default: the oldest. Of no consequence for one that is waited for.
    pub fn set_resume(&mut self, resume: Start) {
        self.receiving.cursor.set_resume(resume);
    }

    /// Whether the sender has stopped waiting for this receiver. There may be messages that it can still receive.
    pub fn is_evicted(&self) -> bool {
        self.receiving.is_evicted()
    }

    /// Has the sender wait for this receiver again, which goes on as `start` says; how many messages it has missed. For
    /// one that was [evicted](BroadcastRecvError::Evicted); any other that is waited for may do the same to pass over
    /// messages.
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
    pub fn broadcast(&self) -> &Broadcast<T> {
        &self.broadcast
    }
}
