//! [`Mailbox`]: messages of several types, among which receivers choose.

mod receive;
mod seat;
mod send;
mod subscribe;

pub use receive::{Letter, MailReceiver, PeekedLetter};
pub use send::MailSender;
pub use subscribe::Subscription;

use crate::builder::{Attach, Builder, Kind, Sealed};
use crate::error::{MailRecvError, Role, SetupError};
use crate::protocol::mailbox::{self, Select};
use crate::protocol::park;
use crate::segment::{Attached, Place, RingKind, Segment, waiting};
use crate::stats::Stats;
use crate::sys::futex;
use bytemuck::AnyBitPattern;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

/// A mailbox: messages of up to 64 types from many senders to many receivers, each of which says what it wants. It
/// stands in for System V and POSIX message queues; types can be priorities.
///
/// Each message goes to one receiver, whole, up to the longest that the mailbox was made for. The value is a handle on
/// the mapped segment and cheap to clone.
///
/// # Order
///
/// Messages of one type come in the order in which their senders claimed their places. Across types
/// ([`Select::Any`], [`Select::Except`]) the oldest comes first: if one send had ended before another began, its message
/// is received before the other. There is one exception: a sender that is stopped in the middle of a send keeps
/// those behind it **of the same type** waiting, and meanwhile messages of other types pass them. A sender that
/// is dead keeps nobody, once those who wait have asked the kernel.
///
/// # Limits
///
/// A mailbox holds so many messages **of each type**, and of so many bytes each. So a type that nobody receives fills up
/// and holds up its own senders, and no others; a kernel's queue has one limit for all types. There is none for all types
/// together here: a count that every sender changes would be wrong once one of them is killed, and the sum of what
/// the lanes hold is not one number at one moment, so several senders could exceed it together.
///
/// # Lifetime
///
/// A mailbox under a name lasts until it is removed, unless [`Builder::persistent`] says otherwise. Nobody is told that
/// all senders or all receivers are gone: others may come. [`remove`](Self::remove) ends all calls that wait, and
/// all later ones, with `Removed`.
///
/// # Death
///
/// A message of a killed sender is there whole or not at all. One that a receiver was taking when it was killed is
/// handed out again, before what is behind it.
///
/// ```
/// use annulus::{Mailbox, Place, Select};
///
/// let mailbox = Mailbox::builder(16, 128).create(Place::memfd("orders")?)?;
/// let (mut tx, mut rx) = (mailbox.sender()?, mailbox.receiver()?);
/// tx.send(2, b"ordinary")?;
/// tx.send(9, b"urgent")?;
/// tx.send(2, b"ordinary too")?;
/// let mut buffer = [0; 128];
/// let letter = rx.recv(Select::Highest, &mut buffer)?;
/// assert_eq!((letter.kind, &buffer[..letter.length]), (9, b"urgent".as_slice()));
/// let letter = rx.recv(Select::Any, &mut buffer)?;
/// assert_eq!((letter.kind, &buffer[..letter.length]), (2, b"ordinary".as_slice()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Mailbox {
    segment: Arc<Segment>,
}

impl Kind for Mailbox {
    fn in_segment(Sealed(segment): Sealed) -> Self {
        Self { segment }
    }

    fn opened(sealed: Sealed) -> Result<Self, SetupError> {
        let mailbox = Self::in_segment(sealed);
        if !mailbox.is_removed() {
            return Ok(mailbox);
        }
        // Whoever removed it was killed before its name was gone, or is about to take it away.
        match mailbox.segment.unlink() {
            Ok(()) | Err(SetupError::NotFound) => Err(SetupError::NotFound),
            Err(error) => Err(error),
        }
    }
}

impl Mailbox {
    /// Starts to make a mailbox for `capacity` messages of each type, rounded up to a power of two, of up to `longest`
    /// bytes each. A message takes its mailbox's longest, and 24 bytes more, whatever its length.
    ///
    /// It has 64 types and 32 participants unless the builder is told otherwise, and takes some 16 KiB a type beside the
    /// messages.
    pub fn builder(capacity: usize, longest: usize) -> Builder<Self> {
        Builder::mailbox(capacity, longest)
    }

    /// Opens a mailbox that exists.
    ///
    /// # Errors
    ///
    /// As for [`Attach::open`]; [`SetupError::NotFound`] also for one that was just removed.
    pub fn open(place: Place) -> Result<Self, SetupError> {
        Self::attach().open(place)
    }

    /// Starts to open a mailbox that exists, with more to insist on than [`open`](Self::open).
    pub fn attach() -> Attach<Self> {
        Attach::new(RingKind::Mailbox, None)
    }

    /// Opens the mailbox behind a descriptor that was inherited or received; the descriptor is closed.
    ///
    /// # Errors
    ///
    /// As for [`Attach::from_fd`].
    pub fn from_fd(fd: OwnedFd) -> Result<Self, SetupError> {
        Self::attach().from_fd(fd)
    }

    /// Becomes one of the senders.
    ///
    /// # Errors
    ///
    /// [`SetupError::Crowded`] if the mailbox has all the participants that it was created for;
    /// [`SetupError::NotFound`] if it was removed; [`SetupError::NoProc`] without `/proc`.
    pub fn sender(&self) -> Result<MailSender, SetupError> {
        MailSender::join(self)
    }

    /// Becomes one of the receivers.
    ///
    /// # Errors
    ///
    /// As for [`sender`](Self::sender).
    pub fn receiver(&self) -> Result<MailReceiver, SetupError> {
        MailReceiver::join(self)
    }

    /// Starts to listen for messages that `select` would match, without receiving any. There may be any number of
    /// listeners beside the receivers, and a receiver that waits takes nothing from them.
    ///
    /// # Errors
    ///
    /// [`MailRecvError::NeverMatches`], [`MailRecvError::Removed`], [`MailRecvError::Forked`].
    ///
    /// ```
    /// use annulus::{Mailbox, Place, Select};
    ///
    /// let mailbox = Mailbox::builder(16, 128).create(Place::memfd("orders")?)?;
    /// let mut alarms = mailbox.subscribe(Select::Type(9))?;
    /// let mut tx = mailbox.sender()?;
    /// tx.send(9, b"fire")?;
    /// assert_eq!(alarms.wait()?, 1);
    /// assert_eq!(alarms.try_wait()?, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn subscribe(&self, select: Select) -> Result<Subscription, MailRecvError> {
        Subscription::of(self, select)
    }

    /// Messages of each type that the mailbox holds.
    pub fn capacity(&self) -> usize {
        self.segment.spec.capacity
    }

    /// Bytes of the longest message.
    pub fn longest(&self) -> usize {
        self.segment.spec.message_size
    }

    /// Types of messages, from 1 on.
    pub fn types(&self) -> usize {
        self.segment.spec.types
    }

    /// Messages that wait, of all types, as of a moment ago.
    pub fn len(&self) -> usize {
        self.segment.length() as usize
    }

    /// Whether no message waits, as of a moment ago.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Messages of type `kind` that wait, as of a moment ago; 0 also if there is no such type.
    pub fn len_of(&self, kind: u8) -> usize {
        if !self.segment.is_ours() || !(1..=self.types()).contains(&usize::from(kind)) {
            return 0;
        }
        let lane = Attached::lane(&self.segment, usize::from(kind) - 1);
        let length = waiting((lane.half(Role::Sender), lane.half(Role::Receiver)));
        length.min(self.capacity() as u64) as usize
    }

    /// The [metadata](Builder::metadata) that the mailbox was created with.
    ///
    /// # Errors
    ///
    /// [`SetupError::Metadata`] if it does not have the size of an `M`.
    pub fn metadata<M: AnyBitPattern>(&self) -> Result<M, SetupError> {
        self.segment.spec.metadata()
    }

    /// The label that the mailbox was created with.
    pub fn label(&self) -> &str {
        &self.segment.spec.label
    }

    /// Whether the mailbox outlives its users.
    pub fn is_persistent(&self) -> bool {
        self.segment.spec.persistent
    }

    /// A snapshot of the mailbox's figures, of all types together.
    pub fn stats(&self) -> Stats {
        self.segment.stats()
    }

    /// The descriptor of the segment, as of a [`Ring`](crate::Ring::as_fd).
    ///
    /// # Panics
    ///
    /// In a forked child of the process that opened the mailbox.
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

    /// Leaves the name behind when this process leaves, even if it is the last user, where the mailbox is not
    /// [persistent](Builder::persistent) anyhow.
    pub fn keep(&self) {
        self.segment.keep();
    }

    /// Whether the mailbox was removed.
    pub fn is_removed(&self) -> bool {
        self.segment.is_ours() && mailbox::is_removed(self.segment.half(Role::Receiver))
    }

    /// Removes the mailbox, with all that is in it, for everybody: its name goes, and whoever waits or comes to
    /// wait is told. (`annulus::remove` takes the name only, as `mq_unlink` does: those who have the mailbox open go on.)
    ///
    /// A caller that is killed in the middle of this has removed it: whoever opens it next takes the name away.
    ///
    /// # Errors
    ///
    /// [`SetupError::NotFound`] if it was removed before, [`SetupError::Forked`]; others if the name cannot be
    /// removed, though the mailbox is.
    ///
    /// ```
    /// use annulus::{MailSendError, Mailbox, Place};
    ///
    /// let place = Place::name(&format!("example-{}", std::process::id()))?;
    /// let mailbox = Mailbox::builder(16, 128).types(1).create(place.clone())?;
    /// let mut tx = mailbox.sender()?;
    /// mailbox.remove()?;
    /// assert_eq!(tx.send(1, b"too late"), Err(MailSendError::Removed));
    /// assert!(Mailbox::open(place).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn remove(&self) -> Result<(), SetupError> {
        if !self.segment.is_ours() {
            return Err(SetupError::Forked);
        }
        let is_first = mailbox::mark_removed(self.segment.half(Role::Receiver));
        for role in [Role::Sender, Role::Receiver] {
            futex::wake_all(park::ring(self.segment.half(role)));
        }
        for lane in Attached::new(&self.segment).lanes() {
            for role in [Role::Sender, Role::Receiver] {
                futex::wake_all(park::ring(lane.half(role)));
            }
        }
        match self.segment.unlink() {
            // Somebody who wanted to open it was faster.
            Err(SetupError::NotFound) if is_first => Ok(()),
            Ok(()) if !is_first => Err(SetupError::NotFound),
            done => done,
        }
    }

    /// The lanes that `select` may take messages from, a bit for each.
    fn wanted(&self, select: Select) -> Result<u64, MailRecvError> {
        let types = self.types();
        let lanes = select.lanes(types).filter(|&lanes| lanes != 0);
        lanes.ok_or(MailRecvError::NeverMatches { types })
    }
}
