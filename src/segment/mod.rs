//! Segments: files of shared memory that hold one ring each.
//!
//! A segment is created complete and only then published, so that nobody ever sees half of one, also
//! when its creator is killed: a name appears by `linkat` as the last step, a memory file is sealed as
//! the last step. Attaching believes the kernel first (owner, mode, links, size, allocation, seals) and
//! the header second, each field loaded once, and never looks at the header again.

mod allocate;
mod attached;
mod file;
mod header;
mod kinds;
mod memfd;
mod permissions;
mod place;
mod split;

pub(crate) use attached::Attached;
pub(crate) use file::{open_unlocked, remove};
pub(crate) use header::{Expected, FLAGS, Origin, Spec};
pub(crate) use kinds::Part;
pub use kinds::{RingKind, Topology};
pub(crate) use permissions::{set_mode, set_owner};
pub use place::Place;
pub(crate) use place::{DIRECTORY, Kind as PlaceKind, PREFIX};
pub(crate) use split::{Company, OwnHalf, OwnHalves, PeersHalves};

use crate::error::{Role, SetupError};
use crate::protocol::claims::Claims;
use crate::protocol::layout::{
    ACTIVE, DATA, Entry, Half, Header, OWN_DATA, OWN_HALF, PAGE, RECEIVER, RECEIVES, SENDER,
};
use crate::protocol::mailbox;
use crate::protocol::permits::{self, Permits};
use crate::protocol::slots::Slots;
use crate::stats::{Stats, furthest_behind};
use crate::sync::{Word, acquire};
use crate::sys::fork::{PrivateFd, Watched};
use crate::sys::locks::{self, Byte, Outcome};
use crate::sys::mapping::Mapping;
use allocate::{allocate, allocate_bytes, blocks, is_memory};
use split::Halves;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A segment that this process has mapped.
pub(crate) struct Segment {
    /// The word of a variable's value, which readers look at first. Before the mapping: fields are dropped in order.
    _watched: Option<Watched>,
    /// All of it, or what this process writes of it.
    mapping: Mapping,
    /// Holds the users' lock, and serves to probe the roles' locks. In the split form a description that can only
    /// read, and may be that of another segment, too.
    fd: Arc<PrivateFd>,
    /// What the split form has more.
    split: Option<Box<Halves>>,
    /// Where the file is, if it has a name.
    path: Option<PathBuf>,
    /// Leave the name behind, also as the last user.
    kept: AtomicBool,
    /// Held while the name is removed: threads that share `fd` are one to the file's lock.
    unlinking: Mutex<()>,
    pub(crate) spec: Spec,
    /// Words of data, counted from the validated spec.
    words: usize,
}

impl fmt::Debug for Segment {
    /// What it is, and no addresses: programs write this to their logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spec { kind, topology, capacity, part, .. } = &self.spec;
        let (kind, topology) = (kind.name(), topology.name());
        f.debug_struct("Segment")
            .field("kind", &format_args!("{kind}"))
            .field("topology", &format_args!("{topology}"))
            .field("capacity", capacity)
            .field("part", part)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Segment {
    /// Creates a segment with an empty ring.
    pub(crate) fn create(place: &Place, spec: Spec) -> Result<Self, SetupError> {
        spec.check()?;
        match (&place.0, place.file()) {
            (PlaceKind::Memfd(label), _) => memfd::create(label, spec),
            (_, Some(path)) => file::create(path, spec),
            (_, None) => unreachable!("only memory files have no path"),
        }
    }

    /// Opens a segment by its name or path.
    pub(crate) fn open(place: &Place, expected: &Expected) -> Result<Self, SetupError> {
        match place.file() {
            Some(path) => file::open(path, expected),
            None => Err(SetupError::InvalidName {
                name: place.to_string(),
                reason: "is a memory file, which has no name to open; use its descriptor",
            }),
        }
    }

    /// Opens a segment by a descriptor, which may be shared with others and is not kept.
    pub(crate) fn from_fd(fd: OwnedFd, expected: &Expected) -> Result<Self, SetupError> {
        let file = File::from(fd);
        if !file.metadata().map_err(SetupError::os("fstat"))?.file_type().is_file() {
            return Err(SetupError::NotAFile);
        }
        let own = PrivateFd::open(|| reopen(file.as_fd()))?;
        drop(file);
        memfd::attach(own, expected)
    }

    /// Maps the `size` bytes of `fd`, a file just made, and writes an empty ring into it.
    fn assemble(fd: PrivateFd, spec: Spec, size: u64) -> Result<Self, SetupError> {
        let segment = Self::of(map(fd.file(), size, &spec)?, Arc::new(fd), spec)?;
        if segment.spec.is_mailbox() {
            let shape = mailbox::shape(segment.spec.message_size);
            for lane in segment.words().chunks_exact(segment.spec.lane_words()) {
                Claims::initialise(lane, shape, segment.spec.capacity);
            }
        }
        if segment.spec.kind == RingKind::Slots || segment.spec.kind.is_broadcast() {
            let (sender, receiver) = (segment.half(Role::Sender), segment.half(Role::Receiver));
            let words = segment.words();
            let (shape, capacity) = (segment.spec.cell_shape(), segment.spec.capacity);
            if segment.spec.has_claims() {
                Claims::initialise(words, shape, capacity);
            } else {
                Slots { sender, receiver, words }.initialise(shape, capacity);
            }
        }
        if segment.spec.kind == RingKind::Semaphore {
            let word = permits::word(segment.half(Role::Sender));
            // Checked with the spec: at most 65535.
            Permits::initialise(word, segment.spec.message_size as u32);
        }
        segment.spec.write(header(&segment.mapping), size);
        Ok(segment)
    }

    /// Maps `fd`, which the kernel says has `size` bytes in pages of `unit`, and checks its header.
    fn adopt(fd: PrivateFd, size: u64, unit: u64, expected: &Expected) -> Result<Self, SetupError> {
        if size < DATA as u64 {
            return Err(SetupError::NotARing);
        }
        let (spec, _) = {
            let mapping =
                Mapping::read_only(fd.file(), length(size)?).map_err(SetupError::os("mmap"))?;
            Spec::read(header(&mapping), Part::Whole, size, unit)?
        };
        expected.check(&spec)?;
        Self::of(map(fd.file(), size, &spec)?, Arc::new(fd), spec)
    }

    /// The segment of `fd`, mapped as `spec` says, without a name.
    fn of(mapping: Mapping, fd: Arc<PrivateFd>, spec: Spec) -> Result<Self, SetupError> {
        let words = spec.data_words()?;
        let (kept, unlinking) = (AtomicBool::new(false), Mutex::new(()));
        let value = || Watched::new(&half(&mapping, Role::Sender).cursor.position);
        let _watched = (spec.kind == RingKind::Latest).then(value);
        Ok(Self { _watched, mapping, fd, split: None, path: None, kept, unlinking, spec, words })
    }

    /// The segment of two halves, the own one mapped at `mapping`.
    fn of_halves(
        mapping: Mapping,
        fd: Arc<PrivateFd>,
        halves: Halves,
        spec: Spec,
    ) -> Result<Self, SetupError> {
        let mut segment = Self::of(mapping, fd, spec)?;
        segment.split = Some(Box::new(halves));
        Ok(segment)
    }

    /// The half that `role` writes.
    pub(crate) fn half(&self, role: Role) -> &Half {
        self.part(role).unwrap_or_else(|| half(&self.mapping, role))
    }

    /// The data.
    fn words(&self) -> &[Word] {
        if let Some(words) = self.split_words() {
            return words;
        }
        let at = self.spec.data_at();
        assert!(self.mapping.len() - at >= self.words * size_of::<Word>());
        // SAFETY: just asserted; words are atomics.
        unsafe {
            core::slice::from_raw_parts(self.mapping.base().add(at).cast().as_ptr(), self.words)
        }
    }

    /// The table of participants.
    pub(crate) fn table(&self) -> &[Entry] {
        if self.split.is_some() {
            return &[];
        }
        table(&self.mapping, self.spec.participants)
    }

    /// The receivers' halves, if each has one.
    fn places(&self) -> &[Half] {
        if self.split.is_some() {
            return &[];
        }
        places(&self.mapping, &self.spec)
    }

    /// The descriptor of the segment.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// A descriptor of its own for a lock: a lock never conflicts with the description that holds it.
    pub(crate) fn reopen(&self) -> Result<PrivateFd, SetupError> {
        if !self.fd.is_ours() {
            return Err(SetupError::Forked);
        }
        PrivateFd::open(|| reopen(self.fd()))
    }

    /// Whether a process holds `role`, as the kernel knows it.
    ///
    /// In the split form: whether its half has an owner. That is this process, or somebody else for as long as it
    /// has the half, with a handle or without.
    pub(crate) fn is_held(&self, role: Role) -> bool {
        if let Some(split) = &self.split {
            return split.role == role || split.is_peer_there();
        }
        is_held(self.fd(), &self.spec, self.table(), role)
    }

    /// What is waiting, in the unit of the positions, as of a moment ago.
    pub(crate) fn length(&self) -> u64 {
        if !self.is_ours() {
            return 0;
        }
        // Never more than there is room for, whatever a peer writes: callers allocate by it.
        let most = match self.spec.kind {
            RingKind::Slots | RingKind::Broadcast | RingKind::ByteBroadcast => self.spec.capacity,
            RingKind::Latest => 0,
            RingKind::Mailbox => self.spec.capacity * self.spec.types,
            RingKind::Bytes => self.words * size_of::<Word>(),
            RingKind::Semaphore | RingKind::Event => return 0,
        };
        if self.spec.kind.is_broadcast() {
            let behind = furthest_behind(self.half(Role::Sender), self.table(), self.places());
            return behind.min(most as u64);
        }
        self.halves().map(waiting).fold(0, u64::saturating_add).min(most as u64)
    }

    /// The halves between which messages pass, sender's first: of the ring, or of each lane.
    fn halves(&self) -> impl Iterator<Item = (&Half, &Half)> + Clone {
        let whole = self.split.is_none().then(|| halves(&self.mapping, &self.spec));
        let split = self.part(Role::Sender).zip(self.part(Role::Receiver));
        whole.into_iter().flatten().chain(split)
    }

    /// Whether this is the process that mapped it. A fork child has no mapping and no descriptor.
    pub(crate) fn is_ours(&self) -> bool {
        self.fd.is_ours()
    }

    /// A snapshot of the ring's figures; a fork child sees none.
    pub(crate) fn stats(&self) -> Stats {
        if !self.is_ours() {
            return Stats::default();
        }
        let meeting = (self.half(Role::Sender), self.half(Role::Receiver));
        let is_held = |role| self.is_held(role);
        let entries = (self.table(), journals(&self.mapping, &self.spec));
        let places = self.places();
        Stats::read(&self.spec, (&is_held, self.fd()), meeting, self.halves(), entries, places)
    }

    /// A descriptor of the segment that survives `exec`.
    pub(crate) fn inheritable_fd(&self) -> Result<OwnedFd, SetupError> {
        if !self.is_ours() {
            return Err(SetupError::Forked);
        }
        // SAFETY: `F_DUPFD` makes a new descriptor, without the close-on-exec flag, of a live one.
        let fd = unsafe { libc::fcntl(self.fd().as_raw_fd(), libc::F_DUPFD, 3) };
        if fd < 0 {
            return Err(SetupError::os("dup")(io::Error::last_os_error()));
        }
        // SAFETY: the kernel has just made it, for us alone.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Removes the name, if the segment has one and it is still this segment's.
    pub(crate) fn unlink(&self) -> Result<(), SetupError> {
        match &self.path {
            _ if !self.is_ours() => Err(SetupError::Forked),
            Some(path) => {
                let _alone = self.unlinking.lock().unwrap_or_else(PoisonError::into_inner);
                file::unlink_if_same(path, self.fd())
            }
            None => Ok(()),
        }
    }

    /// Lets the name outlive this process, even if it is the last user.
    pub(crate) fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    /// Counts this process among the users.
    fn join(&self) -> Result<Outcome, SetupError> {
        locks::shared(self.fd(), Byte::Users).map_err(SetupError::os("locking the segment"))
    }
}

/// The half in a mapping of a file that holds one.
fn part_of(mapping: &Mapping) -> &Half {
    assert!(mapping.len() >= OWN_DATA);
    // SAFETY: the mapping is long enough and starts on a page boundary; a half is atomics only.
    unsafe { mapping.base().add(OWN_HALF).cast::<Half>().as_ref() }
}

/// The header of a mapping of a file that holds one half, or more.
fn header_of_part(mapping: &Mapping) -> &Header {
    assert!(mapping.len() >= OWN_HALF);
    // SAFETY: the mapping is long enough and starts on a page boundary; a header is atomics only.
    unsafe { mapping.base().cast::<Header>().as_ref() }
}

/// What waits between a sender and a receiver, in the unit of their positions.
pub(crate) fn waiting((sender, receiver): (&Half, &Half)) -> u64 {
    // The receiver first: what it has read was sent before.
    let head = acquire(&receiver.cursor.position);
    acquire(&sender.cursor.position).saturating_sub(head)
}

/// Where the half of `role` lies.
#[inline(always)]
const fn offset_of(role: Role) -> usize {
    match role {
        Role::Sender => SENDER,
        Role::Receiver => RECEIVER,
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let stays = self.spec.persistent || self.kept.load(Ordering::Relaxed);
        if self.path.is_none() || stays || !self.fd.is_ours() {
            return;
        }
        // Only the last user gets the lock for itself; whoever opens the file meanwhile sees it locked
        // or, right after, without a name. The shared lock is given up first: two who leave at once and
        // each hold on to theirs would both find that they are not the last.
        locks::unlock(self.fd());
        if matches!(locks::exclusive(self.fd(), Byte::Users), Ok(Outcome::Locked)) {
            let _ = self.unlink();
        }
    }
}

/// Whether a process has `role`, as the kernel knows it.
pub(crate) fn is_held(fd: BorrowedFd<'_>, spec: &Spec, table: &[Entry], role: Role) -> bool {
    if !spec.topology.shares(role) {
        return locks::is_held(fd, lock_of(role));
    }
    let mut entries = table.iter().enumerate();
    entries.any(|(i, entry)| {
        role_of(entry) == Some(role) && locks::is_held(fd, Byte::Participant(i as u16))
    })
}

/// What the participant of `entry` does, if there is one, or one that died.
pub(crate) fn role_of(entry: &Entry) -> Option<Role> {
    let state = entry.card.state.load(Ordering::Acquire);
    let role = if state & RECEIVES == 0 { Role::Sender } else { Role::Receiver };
    (state & ACTIVE != 0).then_some(role)
}

/// The lock byte of a role.
pub(crate) fn lock_of(role: Role) -> Byte {
    match role {
        Role::Sender => Byte::Sender,
        Role::Receiver => Byte::Receiver,
    }
}

/// The header of a mapping of at least [`DATA`] bytes.
pub(crate) fn header(mapping: &Mapping) -> &Header {
    assert!(mapping.len() >= DATA);
    header_of_part(mapping)
}

/// One half of a mapping of at least [`DATA`] bytes, for those who only look.
pub(crate) fn half(mapping: &Mapping, role: Role) -> &Half {
    assert!(mapping.len() >= DATA);
    // SAFETY: as for `header`; the halves lie before `DATA`, each on a page of its own.
    unsafe { mapping.base().add(offset_of(role)).cast::<Half>().as_ref() }
}

/// The halves between which messages pass, sender's first, in a mapping that reaches to the data at least: of
/// the ring, or of each lane.
pub(crate) fn halves<'a>(
    mapping: &'a Mapping,
    spec: &Spec,
) -> impl Iterator<Item = (&'a Half, &'a Half)> + Clone {
    let has_lanes = spec.lanes() > 0;
    assert!(mapping.len() >= if has_lanes { spec.data_at() } else { DATA });
    let first = if has_lanes { spec.lanes_at() } else { RECEIVER };
    let (count, stride) = (spec.lanes().max(1), spec.lane_stride());
    (0..count).map(move |lane| {
        // SAFETY: as for `half`; the lanes' halves lie before `data_at` as the ring's do before `DATA`, the
        // receiver's first, each on a page of its own.
        let half = |at| unsafe { mapping.base().add(at).cast::<Half>().as_ref() };
        let receiver = first + lane * stride;
        (half(receiver + PAGE), half(receiver))
    })
}

/// The receivers' halves of a mapping that reaches to the data at least, if each receiver has one.
pub(crate) fn places<'a>(mapping: &'a Mapping, spec: &Spec) -> &'a [Half] {
    let count = spec.places();
    if count == 0 {
        return &[];
    }
    assert!(mapping.len() >= spec.data_at());
    // SAFETY: they lie between `lanes_at` and `data_at`, within the mapping, each on a page of its own; a half is
    // atomics only.
    unsafe {
        core::slice::from_raw_parts(mapping.base().add(spec.lanes_at()).cast().as_ptr(), count)
    }
}

/// The journals that the lanes of a mailbox have of their own, in a mapping that reaches to the data at least.
pub(crate) fn journals<'a>(
    mapping: &'a Mapping,
    spec: &Spec,
) -> impl Iterator<Item = &'a Entry> + use<'a> {
    let lanes = if spec.is_mailbox() { spec.lanes() } else { 0 };
    assert!(lanes == 0 || mapping.len() >= spec.data_at());
    let (first, stride, count) = (spec.lanes_at(), spec.lane_stride(), spec.participants);
    (0..lanes).flat_map(move |lane| {
        let at = first + lane * stride + 2 * PAGE;
        // SAFETY: as for `halves`; a lane's journals lie behind its halves, before the next lane and so before `data_at`.
        unsafe { core::slice::from_raw_parts(mapping.base().add(at).cast().as_ptr(), count) }
    })
}

/// The table of participants of a mapping that has `count` of them.
pub(crate) fn table(mapping: &Mapping, count: usize) -> &[Entry] {
    assert!(mapping.len() - DATA >= count * size_of::<Entry>());
    // SAFETY: the mapping is long enough, and `DATA` a multiple of an entry's alignment; entries are atomics.
    unsafe { core::slice::from_raw_parts(mapping.base().add(DATA).cast().as_ptr(), count) }
}

fn length(size: u64) -> Result<usize, SetupError> {
    let too_large = "a ring of that size cannot be addressed; give a smaller capacity";
    usize::try_from(size).map_err(|_| SetupError::InvalidSize { reason: too_large })
}

fn map(file: &File, size: u64, spec: &Spec) -> Result<Mapping, SetupError> {
    let failed = |source: io::Error| match source.raw_os_error() {
        Some(libc::ENOMEM) if spec.huge_pages => {
            SetupError::HugePages { reason: "too few are free; raise vm.nr_hugepages" }
        }
        Some(libc::ENOMEM) => SetupError::NoSpace { needed: size },
        _ => SetupError::Os { call: "mmap", source },
    };
    let mapping = Mapping::new(file, length(size)?).map_err(failed)?;
    if spec.prefault {
        mapping.populate().map_err(failed)?;
    }
    Ok(mapping)
}

/// What the kernel thinks the path of `fd` is.
fn path_of(fd: BorrowedFd<'_>) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()
}

/// Opens the file behind `fd` anew, for a description that nobody else has.
fn reopen(fd: BorrowedFd<'_>) -> Result<File, SetupError> {
    reopen_as(fd, OpenOptions::new().read(true).write(true))
}

/// The same, to be used as `options` say.
fn reopen_as(fd: BorrowedFd<'_>, options: &mut OpenOptions) -> Result<File, SetupError> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    match options.custom_flags(libc::O_CLOEXEC).open(path) {
        Ok(file) => Ok(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(SetupError::NoProc),
        Err(error) => Err(SetupError::os("opening the descriptor anew")(error)),
    }
}
