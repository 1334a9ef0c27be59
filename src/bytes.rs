//! [`ByteRing`]: messages of any length.

use crate::builder::{Attach, Builder, Kind, Sealed};
use crate::error::{
    ByteSendError, Failure, RecvError, RecvIntoError, RecvTimeoutError, Role, SetupError,
    TryRecvError,
};
use crate::lanes::LanesReceiver;
use crate::participants::{Ending, Participant};
use crate::payload::{self, WORD};
use crate::protocol::records::{self, Ahead, Records, RecvCursor, SendCursor, Span};
use crate::protocol::room::Look;
use crate::protocol::{Blocked, lanes};
use crate::segment::{Attached, Place, RingKind, Segment, Topology};
use crate::stats::Stats;
use crate::sync::Word;
use crate::wait::{self, Wait, deadline_in};
use bytemuck::AnyBitPattern;
use std::convert::Infallible;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The memory of the ring, or of the lane, in a segment.
#[inline(always)]
pub(crate) fn memory(attached: &Attached) -> Records<'_> {
    Records {
        sender: attached.half(Role::Sender),
        receiver: attached.half(Role::Receiver),
        words: attached.words(),
    }
}

/// A ring of whole messages of any length in shared memory, with one receiver and one sender, or many.
///
/// A message takes 8 bytes more than its length, rounded up to 8, of the ring's capacity in bytes. The
/// longest message is as long as the capacity; one of more than half of it may have to wait until the
/// ring has run dry. The value is a handle on the mapped segment and cheap to clone.
///
/// Messages survive deaths as those of a [`Ring`](crate::Ring) do.
///
/// # Many senders
///
/// With [`Topology::Mpsc`](crate::Topology::Mpsc) each sender has a **lane**, a ring of its own for the whole
/// capacity, and the receiver goes round: each lane that has messages hands out up to 2 KiB of them, or one, in
/// its turn. Senders never wait for one another, and a killed one affects its own lane only: what it sent
/// stays, and the next sender that comes goes on there. The messages of one sender come in their order; those
/// of different senders in any, unless the ring is [ordered](Builder::ordered). There are as many lanes as
/// [`participants`](Builder::participants).
///
/// ```
/// use annulus::{ByteRing, Place, Topology};
///
/// let builder = ByteRing::builder(64 * 1024).topology(Topology::Mpsc).participants(4);
/// let ring = builder.create(Place::memfd("log")?)?;
/// let (mut one, mut other, mut rx) = (ring.sender()?, ring.sender()?, ring.receiver()?);
/// one.send(b"from one")?;
/// other.send(b"from another")?;
/// let mut all = Vec::new();
/// while rx.try_recv_batch(16, |message| all.push(message.to_vec())) > 0 {}
/// all.sort();
/// assert_eq!(all, [b"from another".to_vec(), b"from one".to_vec()]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// ```
/// use annulus::{ByteRing, Place};
///
/// let ring = ByteRing::builder(64 * 1024).create(Place::memfd("lines")?)?;
/// let (mut tx, mut rx) = (ring.sender()?, ring.receiver()?);
/// tx.send(b"a message")?;
/// let mut message = Vec::new();
/// rx.recv(&mut message)?;
/// assert_eq!(message, b"a message");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ByteRing {
    segment: Arc<Segment>,
}

impl Kind for ByteRing {
    fn in_segment(Sealed(segment): Sealed) -> Self {
        Self { segment }
    }
}

impl ByteRing {
    /// Starts to make a ring for `capacity` bytes of messages.
    pub fn builder(capacity: usize) -> Builder<Self> {
        Builder::new(RingKind::Bytes, capacity, Self::messages(capacity))
    }

    /// Size and alignment of the messages of a ring of `capacity` bytes.
    pub(crate) fn messages(capacity: usize) -> (usize, usize) {
        (records::max_message(capacity), 1)
    }

    /// Opens a ring that exists.
    ///
    /// # Errors
    ///
    /// As for [`Attach::open`].
    pub fn open(place: Place) -> Result<Self, SetupError> {
        Self::attach().open(place)
    }

    /// Starts to open a ring that exists, with more to insist on than [`open`](Self::open).
    pub fn attach() -> Attach<Self> {
        Attach::new(RingKind::Bytes, None)
    }

    /// Opens the ring behind a descriptor that was inherited or received; the descriptor is closed.
    ///
    /// # Errors
    ///
    /// As for [`Attach::from_fd`].
    pub fn from_fd(fd: OwnedFd) -> Result<Self, SetupError> {
        Self::attach().from_fd(fd)
    }

    /// Becomes the sender, or one of many.
    ///
    /// # Errors
    ///
    /// As for [`Ring::sender`](crate::Ring::sender).
    pub fn sender(&self) -> Result<ByteSender, SetupError> {
        let mut side = Participant::join(&self.segment, Role::Sender)?;
        let ordered = self.segment.spec.ordered;
        let capacity = lanes::lane_capacity(self.capacity(), ordered);
        let cursor = SendCursor::recover(memory(&side.attached), capacity)
            .map_err(|_| SetupError::Corrupt)?;
        side.enter();
        let extra = if ordered { WORD } else { 0 };
        Ok(ByteSender { side, cursor, max: self.max_message(), extra, ring: self.clone() })
    }

    /// Becomes the receiver.
    ///
    /// # Errors
    ///
    /// As for [`Ring::sender`](crate::Ring::sender).
    pub fn receiver(&self) -> Result<ByteReceiver, SetupError> {
        let mut side = Participant::join(&self.segment, Role::Receiver)?;
        let cursor = if side.goes_round() {
            Cursor::Lanes(LanesReceiver::join(&self.segment, &side)?)
        } else {
            let cursor = RecvCursor::recover(memory(&side.attached), self.capacity());
            Cursor::Sole(cursor.map_err(|_| SetupError::Corrupt)?)
        };
        side.enter();
        Ok(ByteReceiver { side, cursor, ring: self.clone() })
    }

    /// How many may send.
    pub fn topology(&self) -> Topology {
        self.segment.spec.topology
    }

    /// How many senders there can be together.
    pub fn participants(&self) -> usize {
        self.segment.spec.lanes().max(1)
    }

    /// Whether messages of different senders are received in the order in which they were sent.
    pub fn is_ordered(&self) -> bool {
        self.segment.spec.ordered || self.topology() == Topology::Spsc
    }

    /// Bytes of messages that the ring holds, each message counted with its 8 bytes more. With many senders:
    /// of each of them.
    pub fn capacity(&self) -> usize {
        self.segment.spec.capacity
    }

    /// Bytes of the longest message.
    pub fn max_message(&self) -> usize {
        records::max_message(self.capacity())
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

    /// A snapshot of the ring's figures. The counts of messages can be one off for each process that was
    /// killed; `length` is exact.
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
    #[inline(always)]
    fn try_span(&mut self, len: usize) -> Result<Span, ByteSendError> {
        let max = self.max;
        if len > max {
            return Err(ByteSendError::TooLong { len, max });
        }
        self.side.admit()?;
        let (mem, whole) = (memory(&self.side.attached), len + self.extra);
        match self.cursor.try_reserve(mem, whole, Look::Exact) {
            Ok(span) if self.extra == 0 => Ok(span),
            Ok(span) => span.behind_stamp().ok_or(ByteSendError::Corrupt),
            Err(blocked) => Err(self.refused(blocked).into()),
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

    #[inline(always)]
    fn fill(&mut self, span: Span, message: &[u8]) {
        payload::write_message(span.words(memory(&self.side.attached)), message);
        self.commit(span);
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
        let span = self.try_span(message.len())?;
        self.fill(span, message);
        Ok(())
    }

    /// Sends, waiting for room if there is none.
    ///
    /// # Errors
    ///
    /// As for [`try_send`](Self::try_send), without `Full`.
    #[inline]
    pub fn send(&mut self, message: &[u8]) -> Result<(), ByteSendError> {
        let span = self.span_until(message.len(), || None)?;
        self.fill(span, message);
        Ok(())
    }

    /// Sends, waiting for room for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), and [`ByteSendError::Timeout`].
    #[inline]
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), ByteSendError> {
        let span = self.span_until(message.len(), || deadline_in(timeout))?;
        self.fill(span, message);
        Ok(())
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
        let span = self.span_until(message.len(), || Some(deadline))?;
        self.fill(span, message);
        Ok(())
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
    fn words(&self, span: Span) -> &[Word] {
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

    /// Stays for a moment where no message is, for one who waits.
    #[inline(always)]
    fn linger(&mut self) {
        let Cursor::Sole(cursor) = &mut self.cursor else { return };
        if self.side.is_admitted()
            && cursor.awaits_answer()
            && self.side.may_linger()
            && cursor.linger(memory(&self.side.attached))
        {
            self.side.lingered();
        }
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
    fn release(&mut self, span: Span) {
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

    /// The same, waiting for a message.
    #[inline(always)]
    fn take_until<E>(
        &mut self,
        deadline: impl FnOnce() -> Option<Instant>,
        mut read: impl FnMut(&[Word], usize) -> Result<usize, E>,
    ) -> Result<Result<usize, E>, Failure> {
        self.linger();
        match self.try_take(&mut read) {
            Err(Failure::NotReady) => {
                self.wait_for_message(deadline())?;
                // There is one, and nobody but this receiver takes it.
                self.try_take(read)
            }
            done => done,
        }
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

impl Drop for ByteReceiver {
    fn drop(&mut self) {
        if self.side.admit().is_ok() {
            match &mut self.cursor {
                Cursor::Sole(_) => self.publish(),
                Cursor::Lanes(lanes) => lanes.publish_all(),
            }
        }
    }
}

/// Copies a message of `len` bytes out of its words, in place of what `message` holds.
#[inline(always)]
fn copy_out(words: &[Word], len: usize, message: &mut Vec<u8>) -> Result<usize, Infallible> {
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
fn copy_into(words: &[Word], len: usize, message: &mut [u8]) -> Result<usize, RecvIntoError> {
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
    words: &'a [Word],
    span: Span,
    side: &'a Participant,
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
    receiver: &'a mut ByteReceiver,
    span: Span,
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

static_assertions::assert_impl_all!(ByteSender: Send);
static_assertions::assert_impl_all!(ByteReceiver: Send);
static_assertions::assert_impl_all!(ByteRing: Send, Sync);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Place;

    /// A sender that has seen a receiver in its lane asks whether it is there.
    #[test]
    fn who_has_a_role_is_there_before_it_says_so() {
        for topology in [Topology::Spsc, Topology::Mpsc] {
            let ring = ByteRing::builder(4096).topology(topology);
            let ring = ring.create(Place::memfd("joining").unwrap()).unwrap();
            assert!(ring.stats().participants.is_empty());
            let joining = Participant::join(&ring.segment, Role::Receiver).unwrap();
            let [who] = ring.stats().participants.try_into().unwrap();
            assert_eq!((who.role, who.alive, who.pid), (Role::Receiver, true, 0));
            assert_eq!(who.incarnation, 0);
            drop(joining);
        }
    }
}
