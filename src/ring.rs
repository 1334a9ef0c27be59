//! [`Ring`]: messages of one type.

use crate::builder::{Attach, Builder, Kind, Sealed};
use crate::error::{
    Failure, RecvError, RecvTimeoutError, SendAllError, SendError, SendTimeoutError, SetupError,
    TryRecvError, TrySendError,
};
use crate::participants::Ending;
use crate::protocol::room::Look;
use crate::protocol::slots::{Run, Typed};
use crate::segment::{Place, RingKind, Segment, Topology};
use crate::slots::{SlotReceiver, SlotSender, Source};
use crate::stats::Stats;
use crate::wait::{self, Wait, deadline_in};
use bytemuck::{AnyBitPattern, NoUninit};
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A ring of messages of type `T` in shared memory, with one sender and one receiver, or with many of one or
/// both: see [`Topology`](crate::Topology) and [`Builder::topology`](crate::Builder::topology).
///
/// `T` is plain old data: no padding, and every bit pattern is a value, because the other side is
/// another process (see [`bytemuck`]; `#[derive(Pod, Zeroable)]` gives it to most structs). The ring
/// holds exactly its capacity, in messages.
///
/// The value is a handle on the mapped segment and cheap to clone; messages go through the
/// [`Sender`] and the [`Receiver`] that are made from it, each in whatever process.
///
/// # Messages and death
///
/// A message is there whole or not at all, whenever its sender is killed. The next sender goes on right
/// after the last message that was completed. The next receiver goes on right after the last message
/// that a receiver finished taking; one that was killed while it took a message leaves it to the next.
///
/// # Many senders, many receivers
///
/// Each message goes to one receiver. What one sender sends is received in its order, and messages of several
/// senders in the order in which they claimed their places; receivers that share take them in that order, and
/// may finish in another. A message whose receiver was killed, or [gave it back](crate::Claimed), is handed out
/// again, later than its order says, unless there is only one receiver at a time. A participant that is stopped
/// in the middle of a call keeps its place for as long as it lives; those behind it wait. What a dead one was
/// at is resolved by those who wait for it, within some milliseconds, at the latest 100 ms after they began to
/// wait.
///
/// ```
/// use annulus::{Place, Ring};
///
/// let ring = Ring::<u64>::builder(1024).create(Place::memfd("numbers")?)?;
/// let (mut tx, mut rx) = (ring.sender()?, ring.receiver()?);
/// tx.send(42)?;
/// assert_eq!(rx.recv()?, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Ring<T> {
    segment: Arc<Segment>,
    messages: PhantomData<fn(T) -> T>,
}

impl<T> Clone for Ring<T> {
    fn clone(&self) -> Self {
        Self { segment: Arc::clone(&self.segment), messages: PhantomData }
    }
}

impl<T: NoUninit + AnyBitPattern> Kind for Ring<T> {
    fn in_segment(Sealed(segment): Sealed) -> Self {
        Self { segment, messages: PhantomData }
    }
}

impl<T: NoUninit + AnyBitPattern> Ring<T> {
    const MESSAGE: (usize, usize) = (size_of::<T>(), align_of::<T>());

    /// Starts to make a ring for `capacity` messages.
    ///
    /// ```
    /// use annulus::{Place, Ring};
    ///
    /// let ring = Ring::<[f32; 2]>::builder(256).create(Place::memfd("points")?)?;
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    pub fn builder(capacity: usize) -> Builder<Self> {
        Builder::new(RingKind::Slots, capacity, Self::MESSAGE)
    }

    /// Opens a ring that exists.
    ///
    /// # Errors
    ///
    /// As for [`Attach::open`].
    ///
    /// ```
    /// use annulus::{Place, Ring, SetupError};
    ///
    /// let missing = Ring::<u64>::open(Place::name("no-such-ring")?);
    /// assert!(matches!(missing, Err(SetupError::NotFound)));
    /// # Ok::<(), SetupError>(())
    /// ```
    pub fn open(place: Place) -> Result<Self, SetupError> {
        Self::attach().open(place)
    }

    /// Starts to open a ring that exists, with more to insist on than [`open`](Self::open).
    ///
    /// ```
    /// use annulus::{Place, Ring};
    ///
    /// let shared = Ring::<u64>::attach().owner(1000).mode(0o660).open(Place::name("no-such-ring")?);
    /// assert!(shared.is_err());
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    pub fn attach() -> Attach<Self> {
        Attach::new(RingKind::Slots, Some(Self::MESSAGE))
    }

    /// Opens the ring behind a descriptor that was inherited or received; the descriptor is closed.
    ///
    /// # Errors
    ///
    /// As for [`Attach::from_fd`].
    ///
    /// ```
    /// use annulus::{Place, Ring};
    ///
    /// let here = Ring::<u64>::builder(16).create(Place::memfd("numbers")?)?;
    /// let there = Ring::<u64>::from_fd(here.inheritable_fd()?)?;
    /// assert_eq!(there.capacity(), 16);
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    pub fn from_fd(fd: OwnedFd) -> Result<Self, SetupError> {
        Self::attach().from_fd(fd)
    }

    /// Becomes the sender, or one of them.
    ///
    /// # Errors
    ///
    /// [`SetupError::Crowded`] if the side is shared and the ring has all the participants that it was
    /// created for. [`SetupError::RoleTaken`] if there is to be one sender, while another handle has the role, after asking for 6 ms. A dead process
    /// has none, but one that it was just starting may hold on to it until that calls `exec`.
    /// [`SetupError::Corrupt`] if the positions in the ring cannot be. [`SetupError::NoProc`] without
    /// `/proc`.
    ///
    /// ```
    /// use annulus::{Place, Ring, SetupError};
    ///
    /// let ring = Ring::<u64>::builder(16).create(Place::memfd("numbers")?)?;
    /// let first = ring.sender()?;
    /// assert!(matches!(ring.sender(), Err(SetupError::RoleTaken { .. })));
    /// drop(first);
    /// assert!(ring.sender().is_ok());
    /// # Ok::<(), SetupError>(())
    /// ```
    pub fn sender(&self) -> Result<Sender<T>, SetupError> {
        let slots = SlotSender::join(&self.segment, Typed::new())?;
        Ok(Sender { slots, ring: self.clone() })
    }

    /// Becomes the receiver, or one of them.
    ///
    /// # Errors
    ///
    /// As for [`sender`](Self::sender).
    ///
    /// ```
    /// # let ring = annulus::Ring::<u64>::builder(16).create(annulus::Place::memfd("numbers")?)?;
    /// let mut rx = ring.receiver()?;
    /// assert!(rx.try_recv().is_err());
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    pub fn receiver(&self) -> Result<Receiver<T>, SetupError> {
        let slots = SlotReceiver::join(&self.segment, Typed::new())?;
        Ok(Receiver { slots, ring: self.clone() })
    }

    /// How many may send and receive.
    pub fn topology(&self) -> Topology {
        self.segment.spec.topology
    }

    /// Messages that the ring holds.
    pub fn capacity(&self) -> usize {
        self.segment.spec.capacity
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
    ///
    /// ```
    /// # let ring = annulus::Ring::<u64>::builder(16).create(annulus::Place::memfd("numbers")?)?;
    /// let mut tx = ring.sender()?;
    /// tx.send(7)?;
    /// assert_eq!((ring.stats().sent, ring.stats().length), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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

    /// Leaves the name behind when this process leaves, even if it is the last user. The next opener's
    /// departure removes it as usual.
    pub fn keep(&self) {
        self.segment.keep();
    }

    /// Removes the ring's name now. Processes that have it open go on using it.
    ///
    /// # Errors
    ///
    /// [`SetupError::NotFound`] if the name is gone already or is another ring's by now.
    ///
    /// ```
    /// use annulus::{Place, Ring};
    ///
    /// let place = Place::name(&format!("example-{}", std::process::id()))?;
    /// let ring = Ring::<u64>::builder(16).persistent(true).create(place.clone())?;
    /// ring.remove()?;
    /// assert!(Ring::<u64>::open(place).is_err());
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    pub fn remove(&self) -> Result<(), SetupError> {
        self.segment.unlink()
    }
}

/// The sending side of a [`Ring`].
///
/// It can move to another thread, and there is one of it in all processes together, unless the ring's senders
/// share.
///
/// # When the receiver goes
///
/// A receiver that *leaves* tells the sender, which says `Disconnected` from the second send after that on,
/// if not from the first. One that is *killed* tells nobody, and a sender that has room does not ask: what it
/// sends is taken by the ring until that is full, and only then does it ask the kernel. The messages stay for
/// the next receiver. [`stats`](Self::stats) says at any time who is alive.
///
/// `Disconnected` does not stick. It is a fresh answer each time, and when another receiver has joined the same
/// handle sends again. To wait for one, call [`wait_for_peer`](Self::wait_for_peer). Until a first receiver
/// has come, and always in a persistent ring, nothing says `Disconnected`.
#[derive(Debug)]
pub struct Sender<T> {
    pub(crate) slots: SlotSender<Typed<T>>,
    ring: Ring<T>,
}

impl<T: NoUninit + AnyBitPattern> Sender<T> {
    /// Sends, if there is room now. Never blocks.
    ///
    /// # Errors
    ///
    /// Each gives the message back: [`TrySendError::Full`] if the ring holds its capacity,
    /// [`TrySendError::Disconnected`] if the receiver has left or died, [`TrySendError::Corrupt`] if
    /// its side of the ring is damaged, [`TrySendError::Forked`] in a forked child.
    ///
    /// ```
    /// use annulus::{Place, Ring, TrySendError};
    ///
    /// let ring = Ring::<u64>::builder(1).create(Place::memfd("numbers")?)?;
    /// let mut tx = ring.sender()?;
    /// assert!(tx.try_send(1).is_ok());
    /// assert_eq!(tx.try_send(2), Err(TrySendError::Full(2)));
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    #[inline(always)]
    pub fn try_send(&mut self, message: T) -> Result<(), TrySendError<T>> {
        if !self.slots.side.is_express() {
            // A claim waits for all stores before it, those of a call and its spilled registers among them: so a shared side
            // has none here. Copies, so that only these paths need the message to have an address.
            if self.slots.try_send_at_once(bytemuck::bytes_of(&{ message })) {
                return Ok(());
            }
            return self.try_send_closely(message);
        }
        // SAFETY: just seen.
        match unsafe { self.slots.try_send_express(bytemuck::bytes_of(&message)) } {
            Ok(()) => Ok(()),
            Err(failure) => Err(TrySendError::new(failure, message)),
        }
    }

    #[cold]
    #[inline(never)]
    fn try_send_closely(&mut self, message: T) -> Result<(), TrySendError<T>> {
        match self.slots.try_send(bytemuck::bytes_of(&message)) {
            Ok(()) => Ok(()),
            Err(failure) => Err(TrySendError::new(failure, message)),
        }
    }

    /// Sends, waiting for room if there is none, in the way that [`set_wait`](Self::set_wait) chose.
    ///
    /// # Errors
    ///
    /// Each gives the message back: [`SendError::Disconnected`], [`SendError::Corrupt`] and
    /// [`SendError::Forked`] as for [`try_send`](Self::try_send).
    #[inline(always)]
    pub fn send(&mut self, message: T) -> Result<(), SendError<T>> {
        if !self.slots.side.is_express() {
            if self.slots.try_send_at_once(bytemuck::bytes_of(&{ message })) {
                return Ok(());
            }
            return self.send_closely(message);
        }
        // SAFETY: just seen.
        match unsafe { self.slots.try_send_express(bytemuck::bytes_of(&message)) } {
            Ok(()) => Ok(()),
            // A copy, so that only this path needs the message to have an address.
            Err(failure) => self.send_again(failure, message),
        }
    }

    #[cold]
    #[inline(never)]
    fn send_closely(&mut self, message: T) -> Result<(), SendError<T>> {
        match self.slots.try_send(bytemuck::bytes_of(&message)) {
            Ok(()) => Ok(()),
            Err(failure) => self.send_again(failure, message),
        }
    }

    #[cold]
    #[inline(never)]
    fn send_again(&mut self, failure: Failure, message: T) -> Result<(), SendError<T>> {
        self.slots
            .send_again(failure, bytemuck::bytes_of(&message), None)
            .map_err(|failure| SendError::new(failure, message))
    }

    /// Sends, waiting for room for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), and [`SendTimeoutError::Timeout`].
    #[inline]
    pub fn send_timeout(
        &mut self,
        message: T,
        timeout: Duration,
    ) -> Result<(), SendTimeoutError<T>> {
        match self.slots.try_send(bytemuck::bytes_of(&message)) {
            Ok(()) => Ok(()),
            Err(failure) => self.send_until(failure, message, deadline_in(timeout)),
        }
    }

    /// Sends, waiting for room until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), and [`SendTimeoutError::Timeout`].
    #[inline]
    pub fn send_deadline(
        &mut self,
        message: T,
        deadline: Instant,
    ) -> Result<(), SendTimeoutError<T>> {
        match self.slots.try_send(bytemuck::bytes_of(&message)) {
            Ok(()) => Ok(()),
            Err(failure) => self.send_until(failure, message, Some(deadline)),
        }
    }

    #[cold]
    #[inline(never)]
    fn send_until(
        &mut self,
        failure: Failure,
        message: T,
        deadline: Option<Instant>,
    ) -> Result<(), SendTimeoutError<T>> {
        self.slots
            .send_again(failure, bytemuck::bytes_of(&message), deadline)
            .map_err(|failure| SendTimeoutError::new(failure, message))
    }

    /// Sends as many of `messages` as there is room for now, from the first on, and says how many. 0
    /// also when the receiver is gone or its side damaged; [`try_send`](Self::try_send) tells which.
    ///
    /// Cheaper than one at a time: one look at the room, one note of the position, and messages of up
    /// to 24 bytes share stamps.
    ///
    /// ```
    /// # let ring = annulus::Ring::<u64>::builder(4).create(annulus::Place::memfd("numbers")?)?;
    /// let mut tx = ring.sender()?;
    /// assert_eq!(tx.try_send_batch(&[1, 2, 3, 4, 5]), 4);
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    #[inline]
    pub fn try_send_batch(&mut self, messages: &[T]) -> usize {
        self.slots
            .try_send_batch(bytemuck::cast_slice(messages), messages.len(), Look::Exact)
            .unwrap_or(0)
    }

    /// Sends messages from `messages` for as long as there is room and there are any, and says how many.
    /// They become visible at once, at the end. No message is taken from the iterator that there is no
    /// room for, so `by_ref` keeps the rest. 0 also when the receiver is gone or its side damaged;
    /// [`try_send`](Self::try_send) tells which.
    ///
    /// The fastest way to send many: each message goes from where it is made straight into the ring.
    ///
    /// ```
    /// # let ring = annulus::Ring::<u64>::builder(4).create(annulus::Place::memfd("numbers")?)?;
    /// let mut tx = ring.sender()?;
    /// let mut numbers = 1..=5;
    /// assert_eq!(tx.try_send_from(numbers.by_ref()), 4);
    /// assert_eq!(numbers.next(), Some(5));
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    #[inline(always)]
    pub fn try_send_from(&mut self, messages: impl IntoIterator<Item = T>) -> usize {
        self.slots.try_send_from(messages.into_iter()).unwrap_or(0)
    }

    /// Sends all of `messages`, waiting for room as often as needed.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), with the number of messages that were sent before.
    pub fn send_all(&mut self, messages: &[T]) -> Result<(), SendAllError> {
        match self.slots.send_all(bytemuck::cast_slice(messages), messages.len()) {
            Ok(()) => Ok(()),
            Err((sent, failure)) => Err(SendAllError { sent, cause: SendError::new(failure, ()) }),
        }
    }

    /// Chooses how this side waits. Default: [`Wait::Adaptive`].
    pub fn set_wait(&mut self, wait: Wait) {
        self.slots.side.set_wait(wait);
    }

    /// Chooses how this side waits, in passing.
    ///
    /// ```
    /// # let ring = annulus::Ring::<u64>::builder(4).create(annulus::Place::memfd("numbers")?)?;
    /// let mut tx = ring.sender()?.with_wait(annulus::Wait::Spin);
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    #[must_use]
    pub fn with_wait(mut self, wait: Wait) -> Self {
        self.set_wait(wait);
        self
    }

    /// Waits until there is a receiver, for as long as `timeout`; `false` if none came.
    pub fn wait_for_peer(&mut self, timeout: Duration) -> bool {
        wait::wait_for_peer(&mut self.slots.side, timeout)
    }

    /// Whether there is no receiver any more, and how it ended: see [`Receiver::ending`].
    pub fn ending(&self) -> Option<Ending> {
        self.slots.side.ending()
    }

    /// The ring.
    pub fn ring(&self) -> &Ring<T> {
        &self.ring
    }

    /// Messages that are waiting to be received, as of a moment ago.
    pub fn len(&self) -> usize {
        self.ring.segment.length() as usize
    }

    /// Whether nothing is waiting to be received, as of a moment ago.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Messages that the ring holds.
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    /// A snapshot of the ring's figures.
    pub fn stats(&self) -> Stats {
        self.ring.stats()
    }
}

/// The receiving side of a [`Ring`].
///
/// It can move to another thread, and there is one of it in all processes together, unless the ring's receivers
/// share.
///
/// # When the sender goes
///
/// What it sent comes first; `Disconnected` is said when the ring is empty. It does not stick: when another
/// sender has joined, the same handle receives its messages, and says `Disconnected` again when that one has
/// gone, too. A program that serves one sender after the other calls
/// [`wait_for_peer`](Self::wait_for_peer) and goes on; one that serves a single sender ends at the first. A
/// sender that comes and goes quickly may pass between two calls, and then only its messages tell of it.
/// Until a first sender has come, and always in a persistent ring, nothing says `Disconnected`.
///
/// ```
/// use annulus::{Place, RecvError, Ring};
///
/// let ring = Ring::<u64>::builder(16).create(Place::memfd("numbers")?)?;
/// let mut rx = ring.receiver()?;
/// drop(ring.sender()?);
/// assert_eq!(rx.recv(), Err(RecvError::Disconnected));
/// let mut next = ring.sender()?;
/// next.send(1)?;
/// assert_eq!(rx.recv(), Ok(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Receiver<T> {
    pub(crate) slots: SlotReceiver<Typed<T>>,
    ring: Ring<T>,
}

impl<T: NoUninit + AnyBitPattern> Receiver<T> {
    /// Receives a message, if one is there now.
    #[inline(always)]
    fn take<E: From<Failure>>(&mut self) -> Result<T, E> {
        let mut message = MaybeUninit::<T>::uninit();
        // SAFETY: `message` has room for a `T`, which is the shape's size.
        if !unsafe { self.slots.recv_known(message.as_mut_ptr().cast()) } {
            self.take_into(&mut message)?;
        }
        // SAFETY: all bytes of `message` were written, and any bytes are a `T` (`AnyBitPattern`).
        Ok(unsafe { message.assume_init() })
    }

    /// Receives into `message`, all of which is written unless this fails. Not in its result: a message that is handed from
    /// one result to another is copied each time, in pieces that the compiler chooses, and whoever waits for it waits for
    /// those.
    #[inline(always)]
    fn take_into(&mut self, message: &mut MaybeUninit<T>) -> Result<(), Failure> {
        if !self.slots.side.is_express() {
            // SAFETY: `message` has room for a `T`, which is the shape's size.
            if unsafe { self.slots.try_recv_at_once(message.as_mut_ptr().cast()) } {
                return Ok(());
            }
            // Another one, so that only this path needs it to have an address.
            let mut other = MaybeUninit::uninit();
            self.take_closely(&mut other)?;
            *message = other;
            return Ok(());
        }
        // SAFETY: `message` has room for a `T`, which is the shape's size; express was just seen.
        unsafe { self.slots.try_recv_express(message.as_mut_ptr().cast()) }
    }

    #[cold]
    #[inline(never)]
    fn take_closely(&mut self, message: &mut MaybeUninit<T>) -> Result<(), Failure> {
        // SAFETY: `message` has room for a `T`, which is the shape's size.
        unsafe { self.slots.try_recv(message.as_mut_ptr().cast()) }
    }

    /// Waits for a message if there is none. In one piece with the caller, who then gets it without a copy.
    #[inline(always)]
    fn take_until<E: From<Failure>>(
        &mut self,
        beside: Option<&SlotSender<Typed<T>>>,
        deadline: impl Fn() -> Option<Instant>,
    ) -> Result<T, E> {
        let mut message = MaybeUninit::<T>::uninit();
        // SAFETY: `message` has room for a `T`, which is the shape's size.
        if unsafe { self.slots.recv_known(message.as_mut_ptr().cast()) } {
            // SAFETY: all bytes of `message` were written, and any bytes are a `T` (`AnyBitPattern`).
            return Ok(unsafe { message.assume_init() });
        }
        let mut until = None;
        // SAFETY: `message` has room for a `T`, which is the shape's size.
        if unsafe { self.slots.linger(beside, message.as_mut_ptr().cast()) } {
            // SAFETY: all bytes of `message` were written, and any bytes are a `T` (`AnyBitPattern`).
            return Ok(unsafe { message.assume_init() });
        }
        loop {
            match self.take_into(&mut message) {
                // SAFETY: all bytes of `message` were written, and any bytes are a `T` (`AnyBitPattern`).
                Ok(()) => return Ok(unsafe { message.assume_init() }),
                Err(Failure::NotReady) => {}
                Err(failure) => return Err(failure.into()),
            }
            self.slots.wait_for_message(*until.get_or_insert_with(&deadline))?;
        }
    }

    /// Receives, if a message is there now. Never blocks.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] if there is none yet, [`TryRecvError::Disconnected`] if there is none and
    /// the sender has left or died (a death is noticed within 1,024 attempts), [`TryRecvError::Corrupt`]
    /// if the sender's side of the ring is damaged, [`TryRecvError::Forked`] in a forked child.
    ///
    /// ```
    /// use annulus::{Place, Ring, TryRecvError};
    ///
    /// let ring = Ring::<u64>::builder(1).create(Place::memfd("numbers")?)?;
    /// let mut rx = ring.receiver()?;
    /// assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        self.take()
    }

    /// Receives, waiting for a message if there is none, in the way that [`set_wait`](Self::set_wait)
    /// chose.
    ///
    /// # Errors
    ///
    /// [`RecvError::Disconnected`] once the ring is empty and the sender has left or died (a death is
    /// noticed within 100 ms). A ring that no sender has ever joined is waited for.
    /// [`RecvError::Corrupt`] and [`RecvError::Forked`] as for [`try_recv`](Self::try_recv).
    #[inline(always)]
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.take_until(None, || None)
    }

    /// [`recv`](Self::recv) by one who waits for the answer to what it has sent by `sender`.
    #[inline(always)]
    pub(crate) fn recv_beside(&mut self, sender: &Sender<T>) -> Result<T, RecvError> {
        self.take_until(Some(&sender.slots), || None)
    }

    /// The same for as long as `timeout`.
    #[inline]
    pub(crate) fn recv_timeout_beside(
        &mut self,
        sender: &Sender<T>,
        timeout: Duration,
    ) -> Result<T, RecvTimeoutError> {
        self.take_until(Some(&sender.slots), || deadline_in(timeout))
    }

    /// Receives, waiting for a message for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv), and [`RecvTimeoutError::Timeout`].
    ///
    /// ```
    /// use annulus::{Place, RecvTimeoutError, Ring};
    /// use std::time::Duration;
    ///
    /// let ring = Ring::<u64>::builder(1).create(Place::memfd("numbers")?)?;
    /// let mut rx = ring.receiver()?;
    /// assert_eq!(rx.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    #[inline]
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.take_until(None, || deadline_in(timeout))
    }

    /// Receives, waiting for a message until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv), and [`RecvTimeoutError::Timeout`].
    #[inline]
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.take_until(None, || Some(deadline))
    }

    /// Receives as many messages as are there now and fit into `messages`, from its start on, and says
    /// how many. 0 also when the sender is gone or its side damaged; [`try_recv`](Self::try_recv) tells
    /// which.
    ///
    /// ```
    /// # let ring = annulus::Ring::<u64>::builder(4).create(annulus::Place::memfd("numbers")?)?;
    /// let (mut tx, mut rx) = (ring.sender()?, ring.receiver()?);
    /// tx.try_send_batch(&[1, 2, 3]);
    /// let mut messages = [0; 8];
    /// assert_eq!(rx.try_recv_batch(&mut messages), 3);
    /// assert_eq!(messages[..3], [1, 2, 3]);
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    #[inline]
    pub fn try_recv_batch(&mut self, messages: &mut [T]) -> usize {
        let to = messages.as_mut_ptr().cast();
        // SAFETY: `messages` has room for its own length; any bytes are a `T` (`AnyBitPattern`).
        unsafe { self.slots.try_recv_batch(to, messages.len()) }.unwrap_or(0)
    }

    /// Receives as many messages as are there and fit into `messages`, waiting for the first if there is
    /// none. 0 only if `messages` is empty.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
    pub fn recv_batch(&mut self, messages: &mut [T]) -> Result<usize, RecvError> {
        let to = messages.as_mut_ptr().cast();
        loop {
            // SAFETY: as for `try_recv_batch`.
            match unsafe { self.slots.try_recv_batch(to, messages.len()) } {
                Err(Failure::NotReady) => self.slots.wait_for_message(None)?,
                done => return Ok(done?),
            }
        }
    }

    /// Up to `most` of the messages that are there now, each straight from the ring.
    ///
    /// They are taken from the ring when the iterator is dropped: the fastest way to receive many, for
    /// the price that a receiver which is killed before leaves all of them to its successor. In a ring with a
    /// shared side each is taken when the iterator gives it out.
    ///
    /// ```
    /// # let ring = annulus::Ring::<u64>::builder(4).create(annulus::Place::memfd("numbers")?)?;
    /// let (mut tx, mut rx) = (ring.sender()?, ring.receiver()?);
    /// tx.try_send_from(1..=4);
    /// assert_eq!(rx.drain(3).sum::<u64>(), 6);
    /// assert_eq!(rx.try_recv(), Ok(4));
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    #[inline(always)]
    pub fn drain(&mut self, most: usize) -> Drain<'_, T> {
        let (run, shared) = (self.slots.no_messages(), self.slots.is_shared());
        Drain { receiver: self, run, left: most, shared, source: Source::empty() }
    }

    /// The messages as they come, until the sender has left or died and all are read (or the ring is
    /// damaged).
    ///
    /// ```
    /// # let ring = annulus::Ring::<u64>::builder(4).create(annulus::Place::memfd("numbers")?)?;
    /// let (mut tx, mut rx) = (ring.sender()?, ring.receiver()?);
    /// tx.send_all(&[1, 2, 3])?;
    /// drop(tx);
    /// assert_eq!(rx.iter().sum::<u64>(), 6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn iter(&mut self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// The messages that are there now.
    pub fn try_iter(&mut self) -> TryIter<'_, T> {
        TryIter { receiver: self }
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

    /// Whether there is no sender any more, and how it ended: [`Closed`](Ending::Closed) if it was dropped,
    /// [`Died`](Ending::Died) if its process was killed, or ended without dropping it. There may still be something to
    /// receive. `None` where nothing would say `Disconnected`: as long as there is a sender, before the first one, and
    /// in a persistent ring. Asks the kernel.
    ///
    /// Of many senders: [`Died`](Ending::Died) if one was killed and none has come since, who would be its successor.
    ///
    /// ```
    /// use annulus::{Ending, Place, RecvError, Ring};
    ///
    /// let ring = Ring::<u64>::builder(16).create(Place::memfd("numbers")?)?;
    /// let (mut tx, mut rx) = (ring.sender()?, ring.receiver()?);
    /// assert_eq!(rx.ending(), None);
    /// tx.send(1)?;
    /// drop(tx);
    /// assert_eq!((rx.recv(), rx.recv()), (Ok(1), Err(RecvError::Disconnected)));
    /// assert_eq!(rx.ending(), Some(Ending::Closed));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ending(&self) -> Option<Ending> {
        self.slots.side.ending()
    }

    /// The ring.
    pub fn ring(&self) -> &Ring<T> {
        &self.ring
    }

    /// Messages that are waiting to be received, as of a moment ago.
    pub fn len(&self) -> usize {
        self.ring.segment.length() as usize
    }

    /// Whether nothing is waiting to be received, as of a moment ago.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Messages that the ring holds.
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    /// A snapshot of the ring's figures.
    pub fn stats(&self) -> Stats {
        self.ring.stats()
    }
}

/// The messages of a [`Receiver`] as they come; made by [`Receiver::iter`].
///
/// It ends when the sender has gone, and goes on when it is asked again and another one has come.
#[derive(Debug)]
#[must_use = "nothing is received before the iterator is asked"]
pub struct Iter<'a, T> {
    receiver: &'a mut Receiver<T>,
}

impl<T: NoUninit + AnyBitPattern> Iterator for Iter<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

/// The messages that a [`Receiver`] has now; made by [`Receiver::try_iter`].
#[derive(Debug)]
#[must_use = "nothing is received before the iterator is asked"]
pub struct TryIter<'a, T> {
    receiver: &'a mut Receiver<T>,
}

impl<T: NoUninit + AnyBitPattern> Iterator for TryIter<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

/// Messages straight from the ring; made by [`Receiver::drain`], which says when they count as received.
#[derive(Debug)]
#[must_use = "nothing is received before the iterator is asked"]
pub struct Drain<'a, T: NoUninit + AnyBitPattern> {
    receiver: &'a mut Receiver<T>,
    /// The messages that are known to be there.
    run: Run,
    /// How many more there may be after those.
    left: usize,
    /// Whether others send or receive, too: then each message is taken when it is given out.
    shared: bool,
    /// Where they are.
    source: Source,
}

impl<T: NoUninit + AnyBitPattern> Drain<'_, T> {
    const SHAPE: Typed<T> = Typed::new();

    /// Goes on to the next messages that are there.
    #[inline(always)]
    fn go_on(&mut self) -> Option<()> {
        if self.source.go_on(Self::SHAPE, &mut self.run) {
            return Some(());
        }
        if self.left == 0 {
            return None;
        }
        let slots = &mut self.receiver.slots;
        let Some(run) = slots.next_messages(self.run, self.left) else {
            (self.run, self.left) = (slots.no_messages(), 0);
            return None;
        };
        self.run = run;
        self.left -= run.len(Self::SHAPE);
        // SAFETY: a fork child finds no messages, and the iterator borrows the receiver.
        self.source = unsafe { slots.source() };
        Some(())
    }
}

impl<T: NoUninit + AnyBitPattern> Iterator for Drain<'_, T> {
    type Item = T;

    #[inline(always)]
    fn next(&mut self) -> Option<T> {
        if self.run.is_over() {
            if self.shared {
                self.left = self.left.checked_sub(1)?;
                let message = self.receiver.try_recv().ok();
                if message.is_none() {
                    self.left = 0;
                }
                return message;
            }
            self.go_on()?;
        }
        // SAFETY: `run` is the receiver's last, and not over.
        unsafe { self.source.take(Self::SHAPE, &mut self.run.cell()) }
    }

    /// Without most of the questions that [`next`](Self::next) must ask between two messages: `for_each`, `sum` and `collect`
    /// come here.
    #[inline(always)]
    fn fold<B, F: FnMut(B, T) -> B>(mut self, first: B, mut f: F) -> B {
        let mut so_far = first;
        if self.shared {
            for message in self.by_ref() {
                so_far = f(so_far, message);
            }
            return so_far;
        }
        while !self.run.is_over() || self.go_on().is_some() {
            let mut cell = self.run.cell();
            while cell.is_left() {
                // SAFETY: the cell is that of the receiver's last run.
                let Some(message) = (unsafe { self.source.take(Self::SHAPE, &mut cell) }) else {
                    return so_far;
                };
                so_far = f(so_far, message);
            }
        }
        so_far
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let known = self.run.len(Self::SHAPE);
        (known, known.checked_add(self.left))
    }
}

impl<T: NoUninit + AnyBitPattern> FusedIterator for Drain<'_, T> {}

impl<T: NoUninit + AnyBitPattern> Drop for Drain<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.shared {
            return;
        }
        self.receiver.slots.note(self.run);
    }
}

impl<'a, T: NoUninit + AnyBitPattern> IntoIterator for &'a mut Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

static_assertions::assert_impl_all!(Sender<u64>: Send);
static_assertions::assert_impl_all!(Receiver<u64>: Send);
static_assertions::assert_impl_all!(Ring<u64>: Send, Sync);
