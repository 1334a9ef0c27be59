//! Looking at rings from outside, without joining them: a copy of its figures, no lock.

use crate::error::{Role, SetupError};
use crate::segment::{
    DIRECTORY, Origin, PREFIX, Part, Place, RingKind, Spec, Topology, half, halves, header,
    is_held, journals, lock_of, open_unlocked, places, table,
};
use crate::stats::Stats;
use crate::sys::locks::{self, Byte};
use crate::sys::mapping::Mapping;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

/// Whether anybody uses a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// A sender or a receiver is there.
    Live,
    /// Some process has it open, but nobody sends or receives.
    Idle,
    /// Nobody has it open: its last user was killed, or it is persistent, or it was left behind.
    Stale,
}

impl State {
    /// One word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Idle => "idle",
            Self::Stale => "stale",
        }
    }
}

/// What can be seen of a ring from outside.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// Slots or bytes.
    pub kind: RingKind,
    /// How many may send and receive.
    pub topology: Topology,
    /// The layout's version.
    pub version: u64,
    /// Messages that fit, or bytes of messages (in each lane).
    pub capacity: usize,
    /// How many senders and receivers there may be together, if a side is shared; how many senders, each with
    /// a lane of its own, if messages have any size.
    pub participants: usize,
    /// Bytes of a message, or of the longest one.
    pub message_size: usize,
    /// Alignment of a message in bytes.
    pub message_align: usize,
    /// The label of the message type.
    pub label: String,
    /// Whether the ring outlives its users.
    pub persistent: bool,
    /// Whether the segment is made of huge pages.
    pub huge_pages: bool,
    /// Whether messages of all lanes are received in the order of their sending.
    pub ordered: bool,
    /// Bytes of the segment.
    pub size: u64,
    /// Permission bits of the file.
    pub mode: u32,
    /// User id of the file's owner.
    pub owner: u32,
    /// Group id of the file's owner.
    pub group: u32,
    /// Bytes of the creator's metadata, as they are.
    pub metadata: Vec<u8>,
    /// Process id of the creator.
    pub creator: u32,
    /// Nanoseconds since 1970 when it was created.
    pub created: u64,
    /// How many have it open for use: each opening counts, as each `shmat` does in `shm_nattch`. The kernel counts, so
    /// those who were killed do not. `None` if `/proc/locks` cannot be read.
    pub attached: Option<usize>,
    /// Whether anybody uses it.
    pub state: State,
    /// Its figures.
    pub stats: Stats,
}

impl Snapshot {
    /// Looks at the ring at `place`, which must have a name or path.
    ///
    /// # Errors
    ///
    /// As for [`Attach::open`](crate::Attach::open), but any owner, mode, kind and message will do.
    ///
    /// ```
    /// use annulus::{Place, Ring, inspect::{Snapshot, State}};
    ///
    /// let place = Place::name(&format!("example-{}", std::process::id()))?;
    /// let ring = Ring::<u64>::builder(16).create(place.clone())?;
    /// let snapshot = Snapshot::open(&place)?;
    /// assert_eq!((snapshot.capacity, snapshot.message_size), (16, 8));
    /// assert_eq!(snapshot.state, State::Idle);
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    pub fn open(place: &Place) -> Result<Self, SetupError> {
        let path = place.file().ok_or(SetupError::NotFound)?;
        let (file, metadata) = open_unlocked(&path)?;
        let size = metadata.len();
        if size < crate::protocol::layout::DATA as u64 {
            return Err(SetupError::NotARing);
        }
        if metadata.blocks().saturating_mul(512) < size {
            return Err(SetupError::Sparse);
        }
        // Only the header, the halves and the table are looked at, never the data; and a copy of them, because the
        // file may be anybody's.
        let copy =
            |length| Mapping::copy_of(&file, length).map_err(SetupError::os("reading the file"));
        let mapping = copy(crate::protocol::layout::DATA)?;
        let unit = metadata.blksize().max(crate::protocol::layout::PAGE as u64);
        let (spec, origin) = Spec::read(header(&mapping), Part::Whole, size, unit)?;
        let fd = file.as_fd();
        let mapping = copy(spec.data_at())?;
        let (sender, receiver) = (half(&mapping, Role::Sender), half(&mapping, Role::Receiver));
        let table = table(&mapping, spec.participants);
        let sole = |role| locks::is_held(fd, lock_of(role));
        let meeting = (sender, receiver);
        let (halves, places) = (halves(&mapping, &spec), places(&mapping, &spec));
        let entries = (table, journals(&mapping, &spec));
        let stats = Stats::read(&spec, (&sole, fd), meeting, halves, entries, places);
        let is_held = |role| is_held(fd, &spec, table, role);
        let state = if is_held(Role::Sender) || is_held(Role::Receiver) {
            State::Live
        } else if locks::is_held(fd, Byte::Users) {
            State::Idle
        } else {
            State::Stale
        };
        let participants = spec.participants;
        let Spec {
            kind, topology, persistent, huge_pages, ordered, capacity, message_size, ..
        } = spec;
        let Origin { creator, created } = origin;
        Ok(Self {
            kind,
            topology,
            version: crate::protocol::layout::VERSION,
            capacity,
            participants,
            message_size,
            message_align: spec.message_align,
            label: spec.label,
            persistent,
            huge_pages,
            ordered,
            size,
            mode: metadata.mode() & 0o7777,
            owner: metadata.uid(),
            group: metadata.gid(),
            metadata: spec.metadata.into_vec(),
            creator,
            created,
            attached: locks::count(&metadata, Byte::Users),
            state,
            stats,
        })
    }
}

/// The names of all rings under `/dev/shm`, sorted. A name is listed also if it cannot be opened.
///
/// # Errors
///
/// [`SetupError::Os`] if the directory cannot be read.
pub fn list() -> Result<Vec<String>, SetupError> {
    let entries = std::fs::read_dir(DIRECTORY).map_err(SetupError::os("reading /dev/shm"))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_prefix(PREFIX).map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}
