//! Creating and opening rings: the same options for every kind.

use crate::error::{ConnectError, Role, SetupError};
use crate::handshake::{self, Invitation};
use crate::protocol::{claims, mailbox};
use crate::segment::{Expected, OwnHalf, Place, RingKind, Segment, Spec, Topology};
use crate::split::Split;
use bytemuck::NoUninit;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Times that a ring may vanish between our finding it there and opening it.
const ATTEMPTS: usize = 64;
/// Entries of the table of participants, if nobody says how many.
const DEFAULT_PARTICIPANTS: usize = 64;
/// The same where each is a sender with a lane of its own, which takes the ring's capacity.
const DEFAULT_LANES: usize = 16;
/// The same where each is a reader with a buffer of its own, which takes the value's size, or a receiver with a page of
/// its own.
const DEFAULT_READERS: usize = 16;
/// The same of a mailbox, where each has a journal in every lane.
const DEFAULT_CORRESPONDENTS: usize = 32;

/// The kinds of ring; sealed by being out of reach.
pub trait Kind: Sized {
    /// The ring in `segment`, which is of this kind.
    #[doc(hidden)]
    fn in_segment(segment: Sealed) -> Self;

    /// The same of a segment that somebody else has made.
    #[doc(hidden)]
    fn opened(segment: Sealed) -> Result<Self, SetupError> {
        Ok(Self::in_segment(segment))
    }
}

/// A segment, in a coat that only this crate can open.
#[derive(Debug)]
pub struct Sealed(pub(crate) Arc<Segment>);

/// How to make a ring. Made by [`Ring::builder`](crate::Ring::builder),
/// [`ByteRing::builder`](crate::ByteRing::builder) and
/// [`UntypedRing::builder`](crate::UntypedRing::builder).
///
/// ```
/// use annulus::{Place, Ring};
///
/// let ring = Ring::<u64>::builder(1024)
///     .mode(0o600)
///     .label("sequence/1")
///     .create(Place::memfd("numbers")?)?;
/// assert_eq!(ring.capacity(), 1024);
/// # Ok::<(), annulus::SetupError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `create` or `open_or_create`"]
pub struct Builder<R> {
    spec: Spec,
    /// If somebody said how many; none is an answer, too, if a wrong one.
    participants: Option<usize>,
    ring: PhantomData<fn() -> R>,
}

impl Builder<crate::UntypedRing> {
    /// Alignment of a message in bytes, a power of two: a [`Ring<T>`](crate::Ring) opens only a ring whose
    /// messages have the size and the alignment of its `T`. Default: 1.
    ///
    /// ```
    /// use annulus::{Place, Ring, UntypedRing};
    ///
    /// let raw = UntypedRing::builder(64, 8).message_align(8).create(Place::memfd("numbers")?)?;
    /// assert!(Ring::<u64>::from_fd(raw.inheritable_fd()?).is_ok());
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    pub fn message_align(mut self, align: usize) -> Self {
        self.spec.message_align = align;
        self
    }
}

impl Builder<crate::ByteRing> {
    /// With many senders: has messages received in the order in which they were sent, also those of
    /// different senders: if one send had ended before another began, its message comes first. Costs the
    /// senders a line that they all write, the receiver a look at every lane for each message, and 8 bytes a
    /// message. Default: no, only those of one sender. Of no consequence with one sender.
    ///
    /// ```
    /// use annulus::{ByteRing, Place, Topology};
    ///
    /// let builder = ByteRing::builder(1024).topology(Topology::Mpsc).ordered(true);
    /// let ring = builder.create(Place::memfd("log")?)?;
    /// let (mut one, mut other, mut rx) = (ring.sender()?, ring.sender()?, ring.receiver()?);
    /// for _ in 0..2 {
    ///     one.send(b"asks")?;
    ///     other.send(b"answers")?;
    /// }
    /// let mut next = || rx.claim().map(|message| message.to_vec());
    /// assert_eq!([next()?, next()?], [b"asks".to_vec(), b"answers".to_vec()]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ordered(self, ordered: bool) -> Self {
        self.with_order(ordered)
    }
}

impl Builder<crate::Semaphore> {
    /// How many permits are free at first. Default: all of them.
    ///
    /// ```
    /// use annulus::{Place, Semaphore};
    ///
    /// let jobs = Semaphore::counting(1000).initial(0).create(Place::memfd("jobs")?)?;
    /// assert_eq!(jobs.value()?, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn initial(mut self, permits: u32) -> Self {
        self.spec.message_size = permits as usize;
        self
    }
}

impl Builder<crate::Mailbox> {
    /// How many types of messages there are, 1 to 64, numbered from 1. Default: 64. Each takes the memory of its lane:
    /// the capacity, and some pages.
    ///
    /// ```
    /// use annulus::{Mailbox, Place};
    ///
    /// let mailbox = Mailbox::builder(16, 128).types(3).create(Place::memfd("orders")?)?;
    /// assert_eq!(mailbox.types(), 3);
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    pub fn types(mut self, types: usize) -> Self {
        self.spec.types = types;
        self
    }

    pub(crate) fn mailbox(capacity: usize, longest: usize) -> Self {
        let mut builder = Self::new(RingKind::Mailbox, capacity, (longest, 1));
        builder.spec.topology = Topology::Mpmc;
        builder.spec.types = mailbox::MOST_TYPES;
        builder.spec.persistent = true;
        builder
    }
}

impl<R: Kind> Builder<R> {
    pub(crate) fn new(kind: RingKind, capacity: usize, message: (usize, usize)) -> Self {
        let mut spec = Spec::sole(kind, capacity, message);
        if kind.is_one_to_all() {
            spec.topology = Topology::Spmc;
        }
        Self { spec, participants: None, ring: PhantomData }
    }

    pub(crate) fn with_order(mut self, ordered: bool) -> Self {
        self.spec.ordered = ordered;
        self
    }

    pub(crate) fn with_align(mut self, align: usize) -> Self {
        self.spec.message_align = align;
        self
    }

    pub(crate) fn with_kind(mut self, kind: RingKind) -> Self {
        self.spec.kind = kind;
        self
    }

    /// The same for what has no messages.
    pub(crate) fn without_messages(kind: RingKind, capacity: usize, at_first: usize) -> Self {
        let spec = Spec::without_messages(kind, capacity, at_first);
        Self { spec, participants: None, ring: PhantomData }
    }

    /// How many may send and receive. Default: one of each. Of no consequence but for rings: a
    /// [`Semaphore`](crate::Semaphore) and an [`Event`](crate::Event) are for many.
    ///
    /// With a shared side a [`Ring`](crate::Ring) holds as many messages as asked for, rounded up to a power of
    /// two. A [`ByteRing`](crate::ByteRing) can have [many senders](crate::ByteRing#many-senders), never many
    /// receivers.
    ///
    /// ```
    /// use annulus::{Place, Ring, Topology};
    ///
    /// let ring = Ring::<u64>::builder(100).topology(Topology::Mpmc).create(Place::memfd("jobs")?)?;
    /// assert_eq!(ring.capacity(), 128);
    /// let (_first, _second) = (ring.sender()?, ring.sender()?);
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    pub fn topology(mut self, topology: Topology) -> Self {
        self.spec.topology = topology;
        self
    }

    /// How many senders and receivers there can be together in a ring with a shared side, at most 1024.
    /// Default: 64. Each takes 256 bytes. In a [`ByteRing`](crate::ByteRing), how many senders; default: 16, and each
    /// takes the ring's capacity and some pages. How many holders, in a [`Semaphore`](crate::Semaphore). In a
    /// [`Latest`](crate::Latest), how many readers; default: 16, and each takes the size of the value. In a
    /// [`Broadcast`](crate::Broadcast), how many receivers; default: 16, and each takes a page. In a
    /// [`Mailbox`](crate::Mailbox) default 32, and each takes 256 bytes for each type. Of no consequence with one sender
    /// and one receiver.
    pub fn participants(mut self, participants: usize) -> Self {
        self.participants = Some(participants);
        self
    }

    /// Permission bits of the segment, not reduced by the umask. Default: `0o600`, only this user.
    pub fn mode(mut self, mode: u32) -> Self {
        self.spec.mode = mode;
        self
    }

    /// A name for the type of the messages, up to 64 bytes, that openers can insist on. Default: none.
    pub fn label(mut self, label: &str) -> Self {
        label.clone_into(&mut self.spec.label);
        self
    }

    /// Plain data of up to 1024 bytes for whoever opens the ring, such as a version or a rate. It is written once,
    /// before the ring can be seen, and never changes. Default: none.
    ///
    /// ```
    /// use annulus::{Place, Ring};
    ///
    /// let ring = Ring::<f32>::builder(4096).metadata(&48_000_u32).create(Place::memfd("samples")?)?;
    /// let rate: u32 = ring.metadata()?;
    /// assert_eq!(rate, 48_000);
    /// assert!(ring.metadata::<[u16; 3]>().is_err());
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    pub fn metadata<M: NoUninit>(mut self, metadata: &M) -> Self {
        self.spec.metadata = bytemuck::bytes_of(metadata).into();
        self
    }

    /// Huge pages, for rings so large that their page table entries matter. They must be reserved
    /// (`vm.nr_hugepages`), and the place must be a memory file or a path on hugetlbfs. Default: no.
    pub fn huge_pages(mut self, huge_pages: bool) -> Self {
        self.spec.huge_pages = huge_pages;
        self
    }

    /// Whether creator and openers map all pages at once, so that no message pays for a page fault.
    /// The memory itself is always allocated at creation. Default: yes.
    pub fn prefault(mut self, prefault: bool) -> Self {
        self.spec.prefault = prefault;
        self
    }

    /// Whether the ring outlives its users: its name stays when the last of them leaves, and an absent
    /// peer never ends a conversation, so nothing says `Disconnected`. Default: no; yes for a [`Mailbox`](crate::Mailbox).
    pub fn persistent(mut self, persistent: bool) -> Self {
        self.spec.persistent = persistent;
        self
    }

    /// Creates the ring, empty. It appears complete or, if this process is killed meanwhile, not at all.
    ///
    /// # Errors
    ///
    /// [`SetupError::AlreadyExists`] if the place is taken, [`SetupError::NoSpace`] or
    /// [`SetupError::HugePages`] if there is no room for it (every page is allocated here, so that none
    /// can be missing later), [`SetupError::InvalidSize`], [`SetupError::InvalidMode`] and
    /// [`SetupError::InvalidName`] for options that cannot be, and others as the kernel answers.
    pub fn create(self, place: Place) -> Result<R, SetupError> {
        let segment = Segment::create(&place, self.complete())?;
        Ok(R::in_segment(Sealed(Arc::new(segment))))
    }

    /// Makes the half of the ring that `role` writes, in a memory file of its own, for a peer that makes the
    /// other one: see [`Split`]. Both must ask for the same messages, capacity, label and
    /// metadata. Options for named rings are of no consequence.
    ///
    /// # Errors
    ///
    /// [`SetupError::InvalidSize`] for a ring that is persistent, of huge pages, or with a shared side; others as
    /// for [`create`](Self::create).
    pub fn split(self, role: Role) -> Result<Split<R>, SetupError> {
        Ok(Split::new(OwnHalf::create(self.complete(), role)?))
    }

    /// Makes a ring of which this process has one role and whoever has the ticket the other one, `role`, and nothing
    /// else: both sides make their own halves, as by [`split`](Self::split). The ticket is a descriptor for another
    /// process, which takes the role by [`Attach::from_ticket`]: a child that inherits it across `exec` (it is not
    /// close-on-exec; drop it here when the child is started), or whoever it is sent to over a Unix socket.
    /// It can be used once.
    ///
    /// What is enforced, and against whom, is said in `SECURITY.md` on split rings. A ring that is not split has no such
    /// tickets: whoever has a descriptor of it can write all of it, whatever role was meant.
    ///
    /// # Errors
    ///
    /// As for [`split`](Self::split), in [`ConnectError::Ring`]; others as the kernel answers.
    ///
    /// ```
    /// use annulus::{Ring, Role};
    /// use std::time::Duration;
    ///
    /// let (mut invitation, ticket) = Ring::<u64>::builder(64).hand_over(Role::Sender)?;
    /// // The ticket's descriptor goes to another process, which does this:
    /// let there = Ring::<u64>::attach().from_ticket(ticket)?;
    /// let mut sender = there.sender()?;
    /// // Meanwhile:
    /// let here = invitation.join(Duration::from_secs(1))?;
    /// sender.send(42)?;
    /// assert_eq!(here.receiver()?.recv()?, 42);
    /// assert!(there.receiver().is_err() && here.sender().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn hand_over(self, role: Role) -> Result<(Invitation<R>, OwnedFd), ConnectError> {
        handshake::invite(OwnHalf::create(self.complete(), role.peer())?)
    }

    /// Opens the ring if it exists, and creates it if it does not; whichever of several processes comes
    /// first creates it. A ring that exists keeps its own capacity, mode and lifetime, but must have
    /// this kind, this topology, this message type, and this label unless that is empty.
    ///
    /// # Errors
    ///
    /// As for [`create`](Self::create) and [`Attach::open`].
    pub fn open_or_create(self, place: Place) -> Result<R, SetupError> {
        let mut expected = self.expected();
        let spec = self.complete();
        expected.label = Some(spec.label.clone()).filter(|label| !label.is_empty());
        for _ in 0..ATTEMPTS {
            // Opened first: there need not be room for a second one only to find that there is one.
            match place.file().map(|_| Segment::open(&place, &expected)) {
                // Or its last user has just left: try to be the one who makes it anew.
                None | Some(Err(SetupError::NotFound)) => {}
                Some(done) => match done.and_then(|segment| R::opened(Sealed(Arc::new(segment)))) {
                    Err(SetupError::NotFound) => {}
                    done => return done,
                },
            }
            match Segment::create(&place, spec.clone()) {
                // Somebody was faster.
                Err(SetupError::AlreadyExists) => {}
                done => return done.map(|segment| R::in_segment(Sealed(Arc::new(segment)))),
            }
        }
        Err(SetupError::AlreadyExists)
    }

    /// The spec with what follows from the topology.
    fn complete(self) -> Spec {
        let mut spec = self.spec;
        if !spec.kind.is_ring() {
            spec.topology = Topology::Mpmc;
        }
        spec.ordered &= spec.is_laned();
        if spec.kind == RingKind::Event || !spec.topology.is_shared() {
            return spec;
        }
        spec.participants = self.participants.unwrap_or(match spec.kind {
            RingKind::Bytes => DEFAULT_LANES,
            RingKind::Mailbox => DEFAULT_CORRESPONDENTS,
            kind if kind.is_one_to_all() => DEFAULT_READERS,
            _ => DEFAULT_PARTICIPANTS,
        });
        if let (RingKind::Slots | RingKind::Mailbox, 1..=claims::MAX_CAPACITY) =
            (spec.kind, spec.capacity)
        {
            spec.capacity = claims::capacity_for(spec.capacity);
        }
        spec
    }

    fn expected(&self) -> Expected {
        let kind = self.spec.kind;
        let sized = kind == RingKind::Slots || kind.is_one_to_all();
        let message = sized.then_some((self.spec.message_size, self.spec.message_align));
        let topology = Some(self.spec.topology).filter(|_| self.spec.kind.is_ring());
        Expected { kind: Some(self.spec.kind), topology, message, ..Expected::default() }
    }
}

/// How to open a ring that exists. Made by [`Ring::attach`](crate::Ring::attach),
/// [`ByteRing::attach`](crate::ByteRing::attach) and
/// [`UntypedRing::attach`](crate::UntypedRing::attach).
///
/// ```
/// use annulus::{Place, Ring, SetupError};
///
/// let ring = Ring::<u64>::builder(16).label("sequence/1").create(Place::memfd("numbers")?)?;
/// let fd = ring.as_fd().try_clone_to_owned().unwrap();
/// let wrong = Ring::<u64>::attach().label("prices/1").from_fd(fd);
/// assert!(matches!(wrong, Err(SetupError::Label { .. })));
/// # Ok::<(), annulus::SetupError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is opened until `open` or `from_fd`"]
pub struct Attach<R> {
    expected: Expected,
    ring: PhantomData<fn() -> R>,
}

impl<R: Kind> Attach<R> {
    pub(crate) fn new(kind: RingKind, message: Option<(usize, usize)>) -> Self {
        let expected = Expected { kind: Some(kind), message, ..Expected::default() };
        Self { expected, ring: PhantomData }
    }

    /// Accepts another kind as well.
    pub(crate) fn or(mut self, kind: RingKind) -> Self {
        self.expected.or = Some(kind);
        self
    }

    /// Insists on this label. Default: any.
    pub fn label(mut self, label: &str) -> Self {
        self.expected.label = Some(label.to_owned());
        self
    }

    /// Insists on this owner of the file, by user id. Default: this process's effective user, or the
    /// superuser.
    pub fn owner(mut self, uid: u32) -> Self {
        self.expected.owner = Some(uid);
        self
    }

    /// Accepts a file whose permission bits are among these. Default: those that it was created with,
    /// so that a file which was opened up later is refused.
    pub fn mode(mut self, allowed: u32) -> Self {
        self.expected.mode = Some(allowed);
        self
    }

    /// The most memory, in bytes, that the half may take that [`from_ticket`](Self::from_ticket) makes: who invites says
    /// how large it is to be. Of no consequence for others, who make nothing. Default: 64 MiB.
    pub fn most_bytes(mut self, bytes: u64) -> Self {
        self.expected.most_bytes = Some(bytes);
        self
    }

    /// Opens the ring.
    ///
    /// # Errors
    ///
    /// [`SetupError::NotFound`] if there is none; [`SetupError::PermissionDenied`],
    /// [`SetupError::ForeignOwner`], [`SetupError::HardLinked`], [`SetupError::NotAFile`] or
    /// [`SetupError::ModeTooWide`] if the file cannot be trusted; [`SetupError::NotARing`],
    /// [`SetupError::Version`], [`SetupError::Kind`], [`SetupError::Payload`], [`SetupError::Label`],
    /// [`SetupError::Truncated`], [`SetupError::Sparse`] or [`SetupError::Corrupt`] if it is not the
    /// ring that was expected; [`SetupError::InUse`] if a process that was removing its name has been
    /// stopped in the middle of that.
    pub fn open(self, place: Place) -> Result<R, SetupError> {
        let segment = Segment::open(&place, &self.expected)?;
        R::opened(Sealed(Arc::new(segment)))
    }

    /// Opens the ring behind a descriptor: one that was inherited, or came over a Unix socket. The
    /// descriptor is closed; the ring is opened anew through `/proc`.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open), and [`SetupError::NotSealed`] if it is a memory file whose size can
    /// still change, [`SetupError::NoProc`] if `/proc` is not mounted.
    pub fn from_fd(self, fd: OwnedFd) -> Result<R, SetupError> {
        let segment = Segment::from_fd(fd, &self.expected)?;
        R::opened(Sealed(Arc::new(segment)))
    }

    /// Takes the role of a split ring that was handed over by
    /// [`Builder::hand_over`](crate::Builder::hand_over): makes the half for it, as large as who invites says, up to
    /// [`most_bytes`](Self::most_bytes).
    /// [`owner`](Self::owner) and [`mode`](Self::mode) are of no consequence.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Protocol`] if it is no ticket, or was used already; [`ConnectError::Closed`] if nobody waits for
    /// it any more; [`ConnectError::Ring`] with [`SetupError::Kind`], [`SetupError::Payload`] or [`SetupError::Label`]
    /// if it is for another kind of ring, with [`SetupError::InvalidSize`] if for a larger one; others as [`Split::join`](crate::Split::join) and
    /// [`Builder::split`](crate::Builder::split).
    pub fn from_ticket(self, ticket: OwnedFd) -> Result<R, ConnectError> {
        let most_bytes = self.expected.most_bytes.or(Some(handshake::MOST_BYTES));
        handshake::take(ticket, &Expected { most_bytes, ..self.expected })
    }
}
