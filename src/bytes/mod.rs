//! [`ByteRing`]: messages of any length.

mod message;
mod receive;
mod send;

pub use message::{Message, Peek};
pub use receive::ByteReceiver;
pub use send::{ByteSender, Grant};

use crate::builder::{Attach, Builder, Kind, Sealed};
use crate::error::{Role, SetupError};
use crate::protocol::records::{self, Records};
use crate::segment::{Attached, Place, RingKind, Segment, Topology};
use crate::stats::Stats;
use bytemuck::AnyBitPattern;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

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
        ByteSender::join(self)
    }

    /// Becomes the receiver.
    ///
    /// # Errors
    ///
    /// As for [`Ring::sender`](crate::Ring::sender).
    pub fn receiver(&self) -> Result<ByteReceiver, SetupError> {
        ByteReceiver::join(self)
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

static_assertions::assert_impl_all!(ByteSender: Send);
static_assertions::assert_impl_all!(ByteReceiver: Send);
static_assertions::assert_impl_all!(ByteRing: Send, Sync);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::participants::Participant;

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
