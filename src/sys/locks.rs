//! Open file description locks: who is alive, as the kernel knows it.
//!
//! The kernel drops such a lock when the last descriptor of its description is closed, which for a dying
//! process is after its memory has been torn down. A lock never conflicts with the description that
//! holds it, so holders and probes use descriptions of their own.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::Metadata;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;

/// Offset of the lock bytes: far beyond any data, where no segment reaches.
const BASE: i64 = 1 << 62;

/// A byte that can be locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Byte {
    /// Shared by every process that has the segment open for use.
    Users,
    /// Exclusive: the sender.
    Sender,
    /// Exclusive: the receiver.
    Receiver,
    /// Exclusive: whoever removes the file's name, while it does.
    Name,
    /// Exclusive: whoever resolves what the dead have left, while it does.
    Repair,
    /// Exclusive: the participant of this entry of the table, or who resolves what it has left.
    Participant(u16),
}

impl Byte {
    fn offset(self) -> i64 {
        BASE + match self {
            Self::Users => 0,
            Self::Sender => 1,
            Self::Receiver => 2,
            Self::Name => 3,
            Self::Repair => 4,
            Self::Participant(entry) => 16 + i64::from(entry),
        }
    }

    fn lock(self, kind: i32) -> libc::flock {
        // SAFETY: an all-zero `flock` is a valid value; every field that matters is set below.
        let mut lock: libc::flock = unsafe { core::mem::zeroed() };
        lock.l_type = kind as i16;
        lock.l_whence = libc::SEEK_SET as i16;
        lock.l_start = self.offset();
        lock.l_len = 1;
        lock
    }
}

/// Whether a lock was obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Locked,
    HeldElsewhere,
}

fn set(fd: BorrowedFd<'_>, byte: Byte, kind: i32) -> io::Result<Outcome> {
    match fcntl(fd, FcntlArg::F_OFD_SETLK(&byte.lock(kind))) {
        Ok(_) => Ok(Outcome::Locked),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(Outcome::HeldElsewhere),
        Err(errno) => Err(errno.into()),
    }
}

/// Takes `byte` for this description alone.
pub(crate) fn exclusive(fd: BorrowedFd<'_>, byte: Byte) -> io::Result<Outcome> {
    set(fd, byte, libc::F_WRLCK)
}

/// Takes `byte` together with others.
pub(crate) fn shared(fd: BorrowedFd<'_>, byte: Byte) -> io::Result<Outcome> {
    set(fd, byte, libc::F_RDLCK)
}

/// Gives up everything that this description holds. Closing does the same, but only when the last
/// descriptor of the description goes, and a child that was forked this moment still has one.
pub(crate) fn unlock(fd: BorrowedFd<'_>) {
    let mut all = Byte::Users.lock(libc::F_UNLCK);
    all.l_len = 0;
    // Giving up cannot fail.
    let _ = fcntl(fd, FcntlArg::F_OFD_SETLK(&all));
}

/// Gives up `byte`, and keeps the others.
pub(crate) fn release(fd: BorrowedFd<'_>, byte: Byte) {
    // Giving up cannot fail.
    let _ = fcntl(fd, FcntlArg::F_OFD_SETLK(&byte.lock(libc::F_UNLCK)));
}

/// Whether a description other than this one holds `byte`. An error counts as held: nobody is declared
/// dead because a question failed.
pub(crate) fn is_held(fd: BorrowedFd<'_>, byte: Byte) -> bool {
    conflicts(fd, byte.lock(libc::F_WRLCK))
}

/// Whether a description other than this one holds `byte` alone. Shared locks do not count: whoever can read a
/// file can take those.
pub(crate) fn is_held_alone(fd: BorrowedFd<'_>, byte: Byte) -> bool {
    conflicts(fd, byte.lock(libc::F_RDLCK))
}

fn conflicts(fd: BorrowedFd<'_>, mut lock: libc::flock) -> bool {
    match fcntl(fd, FcntlArg::F_OFD_GETLK(&mut lock)) {
        Ok(_) => i32::from(lock.l_type) != libc::F_UNLCK,
        Err(_) => true,
    }
}

/// How many descriptions of the file hold `byte`, as `/proc/locks` lists them; `None` if that cannot be read.
pub(crate) fn count(file: &Metadata, byte: Byte) -> Option<usize> {
    let (device, start) = (file.dev(), byte.offset().to_string());
    let inode = format!("{:02x}:{:02x}:{}", libc::major(device), libc::minor(device), file.ino());
    // A line: `7: OFDLCK ADVISORY  READ -1 00:1a:1234 start end`.
    let is_it = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        words.next() == Some("OFDLCK")
            && words.nth(3) == Some(inode.as_str())
            && words.next() == Some(start.as_str())
    };
    Some(std::fs::read_to_string("/proc/locks").ok()?.lines().filter(|line| is_it(line)).count())
}
