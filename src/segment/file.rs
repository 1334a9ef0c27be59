//! Segments that have a name: files under `/dev/shm`, or anywhere.

use super::{Expected, Place, Segment, Spec, allocate, blocks};
use crate::error::{Role, SetupError};
use crate::sys::fork::PrivateFd;
use crate::sys::locks::{self, Byte, Outcome};
use crate::sys::users;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Files of one name that may be removed one after the other, each between our opening it and our counting
/// as its user. After any of these "not found" would be a true answer: for a moment there was no such name.
const ATTEMPTS: usize = 64;
/// How long to wait for a process that is just removing a name. That takes it two system calls, so it is
/// stopped, or waits for a disk, if it takes longer than this.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two looks whether it is done.
const LOOK: Duration = Duration::from_micros(200);

pub(super) fn create(path: PathBuf, spec: Spec) -> Result<Segment, SetupError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let failed = |source: io::Error| match source.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => SetupError::NotFound,
        _ => SetupError::os("creating a file without a name")(source),
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(libc::O_TMPFILE | libc::O_CLOEXEC);
    let fd = PrivateFd::open(|| options.open(directory).map_err(failed))?;
    if spec.huge_pages && blocks(fd.file())? <= super::header::UNIT {
        let reason = "the file system has none; use a memory file, or a path on hugetlbfs";
        return Err(SetupError::HugePages { reason });
    }
    let size = allocate(fd.file(), &spec)?;
    let mut segment = Segment::assemble(fd, spec, size)?;
    segment.join()?;
    // The last step: from here on everybody sees it, complete.
    publish(segment.fd(), &path)?;
    if let Some(fd) = by_name(&path, segment.fd()) {
        segment.fd = Arc::new(fd);
    }
    segment.path = Some(path);
    Ok(segment)
}

/// The file at `path`, counted among the users, if it is the one behind `fd`. A descriptor from before
/// the file had a name never learns it, and nor do those that are made from it, whose holder may be the
/// last user one day. Without one, the ring works all the same.
fn by_name(path: &Path, fd: BorrowedFd<'_>) -> Option<PrivateFd> {
    let named = PrivateFd::open(|| open_file(path, true)).ok()?;
    let there = named.file().metadata().ok()?;
    let ours = nix::sys::stat::fstat(fd).ok()?;
    // Looked at before it is locked: a lock on another ring could keep its last user from seeing that it is
    // the last.
    if (there.dev(), there.ino()) != (ours.st_dev, ours.st_ino) {
        return None;
    }
    (locks::shared(named.as_fd(), Byte::Users).ok()? == Outcome::Locked).then_some(named)
}

/// Takes a lock of the file behind `fd` that is held only by who is removing the file's name, or, for
/// [`Byte::Users`], by users. `false` if the name is gone.
///
/// A holder that is killed loses the lock, so only one that is stopped is waited for in vain.
fn lock_while_named(
    fd: BorrowedFd<'_>,
    lock: fn(BorrowedFd<'_>, Byte) -> io::Result<Outcome>,
    byte: Byte,
) -> Result<bool, SetupError> {
    let mut start = None;
    loop {
        let outcome = lock(fd, byte).map_err(SetupError::os("locking the segment"))?;
        // Second, so that a name which is there when we have the lock was not taken before.
        let state = nix::sys::stat::fstat(fd).map_err(io::Error::from);
        if state.map_err(SetupError::os("fstat"))?.st_nlink == 0 {
            return Ok(false);
        }
        if outcome == Outcome::Locked {
            return Ok(true);
        }
        if start.get_or_insert_with(Instant::now).elapsed() >= PATIENCE {
            return Err(SetupError::InUse);
        }
        std::thread::sleep(LOOK);
    }
}

/// Gives the file its name, which must be free.
fn publish(fd: BorrowedFd<'_>, path: &Path) -> Result<(), SetupError> {
    let unnamed = format!("/proc/self/fd/{}", fd.as_raw_fd());
    match nix::unistd::linkat(
        AT_FDCWD,
        unnamed.as_str(),
        AT_FDCWD,
        path,
        AtFlags::AT_SYMLINK_FOLLOW,
    ) {
        Ok(()) => Ok(()),
        Err(Errno::EEXIST) => Err(SetupError::AlreadyExists),
        Err(Errno::ENOENT) if !Path::new("/proc/self/fd").exists() => Err(SetupError::NoProc),
        Err(errno) => Err(SetupError::os("linkat")(errno.into())),
    }
}

/// Opens the file at `path` without following a link, without waiting and without creating it.
pub(super) fn open_file(path: &Path, write: bool) -> Result<File, SetupError> {
    let flags = libc::O_CLOEXEC | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    OpenOptions::new().read(true).write(write).custom_flags(flags).open(path).map_err(|source| {
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => SetupError::NotFound,
            Some(libc::ELOOP | libc::EISDIR | libc::ENXIO | libc::ENODEV) => SetupError::NotAFile,
            _ => SetupError::os("open")(source),
        }
    })
}

/// Checks what the kernel says of a file before any of its bytes is believed.
pub(super) fn check(metadata: &Metadata, owner: Option<u32>) -> Result<(), SetupError> {
    if !metadata.file_type().is_file() {
        return Err(SetupError::NotAFile);
    }
    let uid = metadata.uid();
    let trusted = match owner {
        Some(owner) => uid == owner,
        None => users::is_same_or_root(uid),
    };
    if !trusted {
        return Err(SetupError::ForeignOwner { uid });
    }
    if metadata.nlink() > 1 {
        return Err(SetupError::HardLinked { links: metadata.nlink() });
    }
    if metadata.blocks().saturating_mul(512) < metadata.len() {
        return Err(SetupError::Sparse);
    }
    Ok(())
}

/// Checks that nobody more may access a file than was agreed: `created` by whoever made it.
pub(super) fn check_mode(
    metadata: &Metadata,
    created: u32,
    expected: &Expected,
) -> Result<(), SetupError> {
    let mode = metadata.mode() & 0o777;
    let allowed = expected.mode.unwrap_or(created);
    if mode & !allowed == 0 { Ok(()) } else { Err(SetupError::ModeTooWide { mode, allowed }) }
}

pub(super) fn open(path: PathBuf, expected: &Expected) -> Result<Segment, SetupError> {
    for _ in 0..ATTEMPTS {
        let fd = PrivateFd::open(|| open_file(&path, true))?;
        let metadata = fd.file().metadata().map_err(SetupError::os("fstat"))?;
        check(&metadata, expected.owner)?;
        let unit = blocks(fd.file())?;
        let mut segment = Segment::adopt(fd, metadata.len(), unit, expected)?;
        check_mode(&metadata, segment.spec.mode, expected)?;
        // Locked when nothing can be refused any more. The last user leaves the name to whoever has this
        // lock, and one who is refused must not remove it: it may be persistent, or no ring.
        if lock_while_named(segment.fd(), locks::shared, Byte::Users)? {
            segment.path = Some(path);
            return Ok(segment);
        }
    }
    Err(SetupError::NotFound)
}

/// Opens a named segment's file to look at it, without counting as a user.
pub(crate) fn open_unlocked(path: &Path) -> Result<(File, Metadata), SetupError> {
    let file = open_file(path, false)?;
    let metadata = file.metadata().map_err(SetupError::os("fstat"))?;
    if !metadata.file_type().is_file() {
        return Err(SetupError::NotAFile);
    }
    Ok((file, metadata))
}

/// Removes the name `path` if it still names the file behind `fd`.
///
/// Looking and removing are two system calls, and the kernel has none that does both. But a name becomes
/// another file's only after it was removed from this one, for rings are never renamed, and nothing is put in
/// a ring's place. Whoever removes it by this function has the lock on this file meanwhile, so it stays this
/// file's until we are done. There is one description for each caller at a time (see `Segment::unlink`), or
/// the lock would keep nobody out.
///
/// What is left is a person or program that removes the file by other means *and* a ring that is created
/// anew, both between our two calls: then the new ring's name goes. Its users keep it, and do not notice.
pub(super) fn unlink_if_same(path: &Path, fd: BorrowedFd<'_>) -> Result<(), SetupError> {
    if !lock_while_named(fd, locks::exclusive, Byte::Name)? {
        return Err(SetupError::NotFound);
    }
    let done = unlink_locked(path, fd);
    locks::release(fd, Byte::Name);
    done
}

fn unlink_locked(path: &Path, fd: BorrowedFd<'_>) -> Result<(), SetupError> {
    let os = SetupError::os;
    let ours = nix::sys::stat::fstat(fd).map_err(io::Error::from).map_err(os("fstat"))?;
    match std::fs::symlink_metadata(path) {
        Ok(there) if (there.dev(), there.ino()) == (ours.st_dev, ours.st_ino) => {
            std::fs::remove_file(path).map_err(os("unlink"))
        }
        Ok(_) => Err(SetupError::NotFound),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(SetupError::NotFound),
        Err(error) => Err(os("lstat")(error)),
    }
}

/// Removes a named ring: one that nobody uses, or with `force` any.
pub(crate) fn remove(place: &Place, force: bool) -> Result<(), SetupError> {
    let path = place.file().ok_or(SetupError::NotFound)?;
    // A child that is forked meanwhile does not keep the lock.
    let file = PrivateFd::open(|| open_file(&path, true))?;
    let metadata = file.file().metadata().map_err(SetupError::os("fstat"))?;
    if !metadata.file_type().is_file() {
        return Err(SetupError::NotAFile);
    }
    // A user that leaves while this is locked does not find itself alone, and leaves the name. It goes below;
    // or a role is held by a process without the users' lock: one that is being torn down, whose name stays
    // behind like that of any killed user, or one whose own user removes it in the end.
    let alone = locks::exclusive(file.as_fd(), Byte::Users).map_err(SetupError::os("locking"))?;
    let held = [Role::Sender, Role::Receiver]
        .into_iter()
        .any(|role| locks::is_held(file.as_fd(), super::lock_of(role)));
    if !force && (alone == Outcome::HeldElsewhere || held) {
        return Err(SetupError::InUse);
    }
    unlink_if_same(&path, file.as_fd())
}
