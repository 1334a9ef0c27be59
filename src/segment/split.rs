//! The split form: each role's half in a memory file of its own, which the other side maps read-only.
//!
//! A half belongs to the process that made it. It is mapped for writing first and then sealed against any
//! further writing (`FUTURE_WRITE`), so nobody else can ever write it, not even a successor: the ring ends with
//! its owners. The peer gets a description that can only read.
//!
//! Liveness: the owner locks its role's byte of its own file *before* anybody else has a descriptor, through a
//! description that nobody else gets, and keeps the lock until it lets go of the half. Handles come and go
//! without the lock, so that a peer never finds it free and cannot take a lock in its place. Who asks for the
//! peer's byte asks for an exclusive lock: shared ones can be taken by whoever can read the file.

use super::header::{Part, Spec};
use super::{Expected, Segment, allocate, blocks, lock_of, map, part_of, reopen_as};
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
    fd: PrivateFd,
    /// Has the lock on our half; nobody else has this description.
    _lock: PrivateFd,
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

/// One's own half, before the peer's is there.
#[derive(Debug)]
pub(crate) struct OwnHalf {
    mapping: Mapping,
    lock: PrivateFd,
    /// A description that can only read.
    fd: PrivateFd,
    spec: Spec,
    role: Role,
}

impl OwnHalf {
    /// Makes the half that `role` writes of an empty ring.
    pub(crate) fn create(spec: Spec, role: Role) -> Result<Self, SetupError> {
        let spec = Spec { part: Part::Half(role), ..spec };
        spec.check()?;
        let create = || memfd::create(c"annulus-half", false).map(File::from);
        let lock = PrivateFd::open(create).map_err(SetupError::os("memfd_create"))?;
        let size = allocate(lock.file(), &spec)?;
        let mapping = map(lock.file(), size, &spec)?;
        if (spec.kind, role) == (RingKind::Slots, Role::Sender) {
            let words = words(&mapping, spec.data_words()?);
            slots::initialise(words, Untyped(spec.message_size), spec.capacity);
        }
        spec.write(super::header_of_part(&mapping), size);
        memfd::seal(lock.as_fd(), memfd::half()).map_err(SetupError::os("sealing the half"))?;
        // Before anybody else has a descriptor: nobody can be in the way.
        let locked = locks::exclusive(lock.as_fd(), lock_of(role));
        if locked.map_err(SetupError::os("taking the role"))? == Outcome::HeldElsewhere {
            return Err(SetupError::RoleTaken { role, pid: 0 });
        }
        let fd = PrivateFd::open(|| reopen_to_read(lock.as_fd()))?;
        Ok(Self { mapping, lock, fd, spec, role })
    }

    /// The half that `role` writes of the ring whose other half is behind `theirs` and is as `expected`.
    pub(crate) fn like(
        theirs: &OwnedFd,
        role: Role,
        expected: &Expected,
    ) -> Result<Self, SetupError> {
        let file = File::from(theirs.try_clone().map_err(SetupError::os("dup"))?);
        let size = check(&file)?;
        if size < OWN_DATA as u64 {
            return Err(SetupError::NotARing);
        }
        let unit = blocks(&file)?;
        // The header is all that is looked at.
        let mapping = Mapping::read_only(&file, OWN_DATA).map_err(SetupError::os("mmap"))?;
        let part = Part::Half(role.peer());
        let (spec, _) = Spec::read(super::header_of_part(&mapping), part, size, unit)?;
        expected.check(&spec)?;
        Self::create(Spec { mode: 0o600, prefault: true, ..spec }, role)
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
        let fd = PrivateFd::open(|| Ok::<_, SetupError>(File::from(fd)))?;
        let (role, peer) = (self.role, self.role.peer());
        let expected = Spec { part: Part::Half(peer), ..self.spec.clone() };
        let theirs = open(&fd, &expected)?;
        let halves = Halves {
            role,
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

/// The size of a peer's file, which cannot change: it is sealed memory without holes.
fn check(file: &File) -> Result<u64, SetupError> {
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
    Ok(metadata.len())
}

/// Maps the peer's half, which must be as `expected` says.
fn open(fd: &PrivateFd, expected: &Spec) -> Result<Mapping, SetupError> {
    let (size, actual) = (expected.size(super::header::UNIT)?, check(fd.file())?);
    if actual != size {
        return Err(SetupError::Truncated { expected: size, actual });
    }
    let unit = blocks(fd.file())?;
    let mapping = Mapping::read_only(fd.file(), super::length(size)?);
    let mapping = mapping.map_err(SetupError::os("mmap"))?;
    let (spec, _) = Spec::read(super::header_of_part(&mapping), expected.part, actual, unit)?;
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
    if expected.prefault {
        mapping.populate_for_reading().map_err(SetupError::os("madvise"))?;
    }
    Ok(mapping)
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

    /// Gives it back.
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
