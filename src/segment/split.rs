//! The split form: each role's half in a memory file of its own, which the other side maps read-only. A connection has two
//! such rings; there the halves of each side are behind each other in one file, the sender's first.
//!
//! A half belongs to the process that made it. It is mapped for writing first and then sealed against any
//! further writing (`FUTURE_WRITE`), so nobody else can ever write it, not even a successor: the ring ends with
//! its owners. The peer gets a description that can only read.
//!
//! Liveness: the owner locks its role's byte of its own file *before* anybody else has a descriptor, through a
//! description that nobody else gets, and keeps the lock until it lets go of the half. Handles come and go
//! without the lock, so that a peer never finds it free and cannot take a lock in its place. Who asks for the
//! peer's byte asks for an exclusive lock: shared ones can be taken by whoever can read the file.

use super::header::Spec;
use super::kinds::Part;
use super::{Expected, Segment, allocate_bytes, lock_of, map, part_of, reopen_as};
use crate::error::{Role, SetupError};
use crate::protocol::layout::{OWN_DATA, OWN_HALF};
use crate::protocol::slots::{self, Untyped};
use crate::segment::RingKind;
use crate::sync::Word;
use crate::sys::fork::PrivateFd;
use crate::sys::locks::{self, Outcome};
use crate::sys::mapping::Mapping;
use crate::sys::memfd;
use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What lives as long as a ring. It has the traits that handles of rings have, too.
pub(crate) trait Company: Debug + Send + Sync + UnwindSafe + RefUnwindSafe {
    /// Somebody is about to sleep, and is to be woken when the peer is gone.
    fn attend(self: Arc<Self>);

    /// Has the peer look, who has said that it is about to sleep and may not be asleep on a futex.
    fn ring(&self);
}

/// What a segment in two files has beside its own half.
#[derive(Debug)]
pub(crate) struct Halves {
    /// Whose half is ours.
    pub(super) role: Role,
    /// The peer's half, read-only.
    pub(super) theirs: Mapping,
    /// The peer's file, to ask whether it lives.
    fd: Arc<PrivateFd>,
    /// Says that ours has an owner.
    _lock: RoleLock,
    /// Whether a handle has the role.
    taken: Mutex<bool>,
    /// Whether somebody heard that the peer may be gone.
    rumour: AtomicBool,
    /// What is to live as long as the ring.
    kept: OnceLock<Arc<dyn Company>>,
}

impl Halves {
    /// Whether the peer has its half.
    pub(super) fn is_peer_there(&self) -> bool {
        locks::is_held_alone(self.fd.as_fd(), lock_of(self.role.peer()))
    }
}

/// The lock on a half of one's own.
#[derive(Debug)]
struct RoleLock {
    /// Nobody else has this description. The lock on another half in the same file is held through it, too.
    fd: Arc<PrivateFd>,
    role: Role,
}

impl Drop for RoleLock {
    fn drop(&mut self) {
        // Given up here, because closing does so only when the last descriptor of the description goes, and a child
        // that was forked this moment still has one.
        if self.fd.is_ours() {
            locks::release(self.fd.as_fd(), lock_of(self.role));
        }
    }
}

/// A file of one's own, with one half in it, or one of each role behind each other.
#[derive(Debug)]
struct OwnFile {
    /// Has the locks; nobody else gets this description.
    lock: Arc<PrivateFd>,
    /// A description that can only read.
    fd: Arc<PrivateFd>,
}

impl OwnFile {
    /// Makes the halves of empty rings; where they are mapped.
    fn create<const N: usize>(parts: [&Spec; N]) -> Result<(Self, [Mapping; N]), SetupError> {
        parts.iter().try_for_each(|spec| spec.check())?;
        let (sizes, size) = sizes(parts)?;
        let create = || memfd::create(c"annulus-half", false).map(File::from);
        let lock = PrivateFd::open_lockless(create).map_err(SetupError::os("memfd_create"))?;
        allocate_bytes(lock.file(), parts[0], size, super::header::UNIT)?;
        let mappings = cut(&map(lock.file(), size, parts[0])?, sizes);
        for ((spec, mapping), size) in parts.into_iter().zip(&mappings).zip(sizes) {
            if (spec.kind, spec.part) == (RingKind::Slots, Part::Half(Role::Sender)) {
                let words = words(mapping, spec.data_words()?);
                slots::initialise(words, Untyped(spec.message_size), spec.capacity);
            }
            spec.write(super::header_of_part(mapping), size);
        }
        memfd::seal(lock.as_fd(), memfd::half()).map_err(SetupError::os("sealing the half"))?;
        let fd = PrivateFd::open_lockless(|| reopen_to_read(lock.as_fd()))?;
        Ok((Self { lock: Arc::new(lock), fd: Arc::new(fd) }, mappings))
    }

    /// The half that is mapped there, from now on with an owner: nobody else has a descriptor yet, so nobody can be in
    /// the way.
    fn half(&self, mapping: Mapping, spec: Spec, role: Role) -> Result<OwnHalf, SetupError> {
        let locked = locks::exclusive(self.lock.as_fd(), lock_of(role));
        if locked.map_err(SetupError::os("taking the role"))? == Outcome::HeldElsewhere {
            return Err(SetupError::RoleTaken { role, pid: 0 });
        }
        let lock = RoleLock { fd: Arc::clone(&self.lock), role };
        Ok(OwnHalf { mapping, lock, fd: Arc::clone(&self.fd), spec, role })
    }
}

/// One's own half, before the peer's is there.
#[derive(Debug)]
pub(crate) struct OwnHalf {
    mapping: Mapping,
    lock: RoleLock,
    /// A description that can only read.
    fd: Arc<PrivateFd>,
    spec: Spec,
    role: Role,
}

impl OwnHalf {
    /// Makes the half that `role` writes of an empty ring.
    pub(crate) fn create(spec: Spec, role: Role) -> Result<Self, SetupError> {
        let spec = Spec { part: Part::Half(role), ..spec };
        let (file, [mapping]) = OwnFile::create([&spec])?;
        file.half(mapping, spec, role)
    }

    /// The half that `role` writes of the ring whose other half is behind `theirs` and is as `expected`.
    pub(crate) fn like(
        theirs: &OwnedFd,
        role: Role,
        expected: &Expected,
    ) -> Result<Self, SetupError> {
        let file = File::from(theirs.try_clone().map_err(SetupError::os("dup"))?);
        let (size, unit) = check(&file)?;
        if size < OWN_DATA as u64 {
            return Err(SetupError::NotARing);
        }
        // The header is all that is looked at.
        let mapping = Mapping::read_only(&file, OWN_DATA).map_err(SetupError::os("mmap"))?;
        let part = Part::Half(role.peer());
        let (spec, _) = Spec::read(super::header_of_part(&mapping), part, size, unit)?;
        expected.check(&spec)?;
        let spec = Spec { mode: 0o600, prefault: true, part: Part::Half(role), ..spec };
        // The receiver's half is small, whatever it says that the sender's is to be.
        if spec.size(super::header::UNIT)? > expected.most_bytes.unwrap_or(u64::MAX) {
            let reason = "the half would take more memory than `most_bytes` allows; allow more, or agree on less";
            return Err(SetupError::InvalidSize { reason });
        }
        Self::create(spec, role)
    }

    /// A new description of the half that can only read, for the peer.
    pub(crate) fn descriptor(&self) -> Result<OwnedFd, SetupError> {
        if !self.fd.is_ours() {
            return Err(SetupError::Forked);
        }
        reopen_to_read(self.fd.as_fd()).map(OwnedFd::from)
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// The ring of this half and the one behind `fd`, of which nothing is believed that was not checked.
    pub(crate) fn join(self, fd: OwnedFd) -> Result<Segment, SetupError> {
        if !self.fd.is_ours() {
            return Err(SetupError::Forked);
        }
        let fd = PrivateFd::open_lockless(|| Ok::<_, SetupError>(File::from(fd)))?;
        let [theirs] = open(&fd, [&self.peers()])?;
        self.with(theirs, Arc::new(fd))
    }

    /// What the peer's half must be.
    fn peers(&self) -> Spec {
        Spec { part: Part::Half(self.role.peer()), ..self.spec.clone() }
    }

    /// The ring of this half and of `theirs`, which was checked.
    fn with(self, theirs: Mapping, fd: Arc<PrivateFd>) -> Result<Segment, SetupError> {
        let halves = Halves {
            role: self.role,
            theirs,
            fd,
            _lock: self.lock,
            taken: Mutex::new(false),
            rumour: AtomicBool::new(false),
            kept: OnceLock::new(),
        };
        Segment::of_halves(self.mapping, self.fd, halves, self.spec)
    }
}

/// One's own halves of two rings, of which this side sends into one and receives from the other: in one file, the
/// sender's first.
#[derive(Debug)]
pub(crate) struct OwnHalves {
    sends: OwnHalf,
    receives: OwnHalf,
}

impl OwnHalves {
    /// Makes the halves of two empty rings.
    pub(crate) fn create(sends: Spec, receives: Spec) -> Result<Self, SetupError> {
        let sends = Spec { part: Part::Half(Role::Sender), ..sends };
        let receives = Spec { part: Part::Half(Role::Receiver), ..receives };
        let (file, [first, second]) = OwnFile::create([&sends, &receives])?;
        let sends = file.half(first, sends, Role::Sender)?;
        Ok(Self { sends, receives: file.half(second, receives, Role::Receiver)? })
    }

    /// The file, by the description that can only read: for the one peer. It is of no consequence that it is this
    /// side's, too, who takes no locks through it.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.sends.fd.as_fd()
    }

    /// The two rings, with the peer's halves of the same: what this side sends into, and what it receives from.
    pub(crate) fn join(self, theirs: PeersHalves) -> Result<(Segment, Segment), SetupError> {
        let PeersHalves { sender, receiver, fd } = theirs;
        let sends = self.sends.with(receiver, Arc::clone(&fd))?;
        Ok((sends, self.receives.with(sender, fd)?))
    }
}

/// A peer's halves of two rings, in its file: checked, whether or not one's own are there yet.
#[derive(Debug)]
pub(crate) struct PeersHalves {
    sender: Mapping,
    receiver: Mapping,
    fd: Arc<PrivateFd>,
}

impl PeersHalves {
    /// The halves behind `fd`, of which nothing is believed that was not checked, of the rings into which this side sends
    /// and from which it receives.
    pub(crate) fn open(fd: OwnedFd, sends: &Spec, receives: &Spec) -> Result<Self, SetupError> {
        let fd = PrivateFd::open_lockless(|| Ok::<_, SetupError>(File::from(fd)))?;
        // What it sends into is what we receive from.
        let theirs = |spec: &Spec, role| Spec { part: Part::Half(role), ..spec.clone() };
        let expected = [&theirs(receives, Role::Sender), &theirs(sends, Role::Receiver)];
        let [sender, receiver] = open(&fd, expected)?;
        Ok(Self { sender, receiver, fd: Arc::new(fd) })
    }
}

/// The bytes of each of the halves in a file, and of all together.
fn sizes<const N: usize>(parts: [&Spec; N]) -> Result<([u64; N], u64), SetupError> {
    let (mut sizes, mut all) = ([0; N], 0_u64);
    for (size, spec) in sizes.iter_mut().zip(parts) {
        *size = spec.size(super::header::UNIT)?;
        all = all.saturating_add(*size);
    }
    // So can each part, then.
    super::length(all)?;
    Ok((sizes, all))
}

/// The parts of a mapping, of so many bytes each, that lie behind each other.
fn cut<const N: usize>(whole: &Mapping, sizes: [u64; N]) -> [Mapping; N] {
    let mut at = 0;
    sizes.map(|size| {
        let part = whole.part(at, size as usize);
        at += part.len();
        part
    })
}

/// The size of a peer's file, which cannot change: it is sealed memory without holes. And that of its pages.
fn check(file: &File) -> Result<(u64, u64), SetupError> {
    // Seals first: with them the size is final.
    if !memfd::is_sealed(file.as_fd(), memfd::half()) {
        return Err(SetupError::NotSealed);
    }
    let metadata = file.metadata().map_err(SetupError::os("fstat"))?;
    let is_memory = super::is_memory(file).map_err(SetupError::os("fstatfs"))?;
    if !metadata.file_type().is_file() || !is_memory {
        return Err(SetupError::NotAFile);
    }
    if metadata.blocks().saturating_mul(512) < metadata.len() {
        return Err(SetupError::Sparse);
    }
    Ok((metadata.len(), metadata.blksize().max(super::header::UNIT)))
}

/// Maps the halves in the peer's file, which must be as `expected` says.
fn open<const N: usize>(fd: &PrivateFd, expected: [&Spec; N]) -> Result<[Mapping; N], SetupError> {
    let (sizes, size) = sizes(expected)?;
    let (actual, unit) = check(fd.file())?;
    if actual != size {
        return Err(SetupError::Truncated { expected: size, actual });
    }
    let whole = Mapping::read_only(fd.file(), super::length(size)?);
    let whole = whole.map_err(SetupError::os("mmap"))?;
    let mappings = cut(&whole, sizes);
    for ((expected, mapping), size) in expected.into_iter().zip(&mappings).zip(sizes) {
        check_header(mapping, expected, size, unit)?;
    }
    if expected.iter().any(|spec| spec.prefault) {
        whole.populate_for_reading().map_err(SetupError::os("madvise"))?;
    }
    Ok(mappings)
}

/// Checks that a peer's half of `size` bytes is as `expected` says.
fn check_header(
    mapping: &Mapping,
    expected: &Spec,
    size: u64,
    unit: u64,
) -> Result<(), SetupError> {
    let (spec, _) = Spec::read(super::header_of_part(mapping), expected.part, size, unit)?;
    let wanted = Expected {
        kind: Some(expected.kind),
        topology: Some(expected.topology),
        message: Some((expected.message_size, expected.message_align)),
        label: Some(expected.label.clone()),
        ..Expected::default()
    };
    wanted.check(&spec)?;
    if spec.capacity != expected.capacity {
        let reason = "the two halves are of different capacities; agree on one first";
        return Err(SetupError::InvalidSize { reason });
    }
    if spec.metadata != expected.metadata {
        let reason = "the two halves have different metadata; agree on it first";
        return Err(SetupError::InvalidSize { reason });
    }
    Ok(())
}

/// The data in the mapping of a sender's half.
pub(super) fn words(mapping: &Mapping, count: usize) -> &[Word] {
    assert!(mapping.len() - OWN_DATA >= count * size_of::<Word>());
    // SAFETY: just asserted; the mapping lives as long as the borrow, and words are atomics.
    unsafe { core::slice::from_raw_parts(mapping.base().add(OWN_DATA).cast().as_ptr(), count) }
}

/// Opens the file behind `fd` anew, for a description that can only read.
fn reopen_to_read(fd: BorrowedFd<'_>) -> Result<File, SetupError> {
    reopen_as(fd, OpenOptions::new().read(true))
}

impl Segment {
    /// The split form, if it is that.
    fn halves_of(&self) -> Option<&Halves> {
        self.split.as_deref()
    }

    /// Whose half of a split ring this process has.
    pub(crate) fn own_role(&self) -> Option<Role> {
        self.halves_of().map(|split| split.role)
    }

    /// Takes this process's role of a split ring for a handle.
    pub(crate) fn take_seat(&self, role: Role) -> Result<(), SetupError> {
        let Some(split) = self.halves_of() else { return Ok(()) };
        if role != split.role {
            return Err(SetupError::PeersRole { role });
        }
        let mut taken = split.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *taken, true) {
            return Err(SetupError::RoleTaken { role, pid: std::process::id() });
        }
        Ok(())
    }

    /// Gives it back, if there is one.
    pub(crate) fn leave_seat(&self) {
        if let Some(split) = self.halves_of() {
            *split.taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        }
    }

    /// Takes note that the peer may be gone. The kernel is asked soon.
    pub(crate) fn hear_of_death(&self) {
        if let Some(split) = self.halves_of() {
            split.rumour.store(true, Ordering::Relaxed);
        }
    }

    /// Whether somebody said that the peer may be gone.
    pub(crate) fn is_rumoured_dead(&self) -> bool {
        self.halves_of().is_some_and(|split| split.rumour.load(Ordering::Relaxed))
    }

    /// Takes back what was noted of the peer's death, before the kernel is asked; whether there was something.
    pub(crate) fn forget_rumour(&self) -> bool {
        self.halves_of().is_some_and(|split| split.rumour.swap(false, Ordering::Relaxed))
    }

    /// Has the peer's process look, beside waking those who sleep on a word of this half.
    pub(crate) fn ring_company(&self) {
        if let Some(kept) = self.halves_of().and_then(|split| split.kept.get()) {
            kept.ring();
        }
    }

    /// Has somebody who is about to sleep be woken when the peer is gone, if this side can hear of that.
    pub(crate) fn attend(&self) {
        if let Some(kept) = self.halves_of().and_then(|split| split.kept.get()) {
            Arc::clone(kept).attend();
        }
    }

    /// Whether the ring is one of a connection.
    pub(crate) fn has_company(&self) -> bool {
        self.halves_of().is_some_and(|split| split.kept.get().is_some())
    }

    /// Keeps `what` for as long as the ring; the first thing only.
    pub(crate) fn keep_with(&self, what: Arc<dyn Company>) {
        if let Some(split) = self.halves_of() {
            let _ = split.kept.set(what);
        }
    }

    /// The mapping in which the half of `role` lies, and the half.
    pub(super) fn part(&self, role: Role) -> Option<&crate::protocol::layout::Half> {
        let split = self.halves_of()?;
        Some(part_of(if split.role == role { &self.mapping } else { &split.theirs }))
    }

    /// The data of a split ring.
    pub(super) fn split_words(&self) -> Option<&[Word]> {
        let split = self.halves_of()?;
        let mapping = if split.role == Role::Sender { &self.mapping } else { &split.theirs };
        Some(words(mapping, self.words))
    }
}

const _: () = assert!(OWN_HALF < OWN_DATA);
