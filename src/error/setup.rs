//! Why a ring could not be set up.

use super::{Bytes, CORRUPT, FORKED, Role};
use std::fmt;
use std::io;

/// Why a ring could not be created, opened, or joined.
///
/// The text of each says what to do next.
#[derive(Debug)]
#[non_exhaustive]
pub enum SetupError {
    /// The name or label cannot be used.
    InvalidName {
        /// What was given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The capacity or message size is zero, or beyond what can be addressed.
    InvalidSize {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The permission bits leave the owner without access, or are no permission bits.
    InvalidMode {
        /// What was asked for.
        mode: u32,
    },
    /// There is nothing of that name.
    NotFound,
    /// Something of that name exists already.
    AlreadyExists,
    /// The file system refuses access.
    PermissionDenied,
    /// There is not enough room for the segment.
    NoSpace {
        /// Bytes that the segment needs.
        needed: u64,
    },
    /// The file is not a ring.
    NotARing,
    /// The ring was made by a version with another layout.
    Version {
        /// The layout version of this build.
        expected: u64,
        /// The layout version of the ring.
        actual: u64,
    },
    /// The ring is of another kind or topology.
    Kind {
        /// What was asked for.
        expected: &'static str,
        /// What the ring is.
        actual: String,
    },
    /// The ring's messages have another size or alignment.
    Payload {
        /// Size and alignment in bytes of the type asked for.
        expected: (usize, usize),
        /// Size and alignment in bytes of the ring's messages.
        actual: (u64, u64),
    },
    /// The ring's messages have another label.
    Label {
        /// The label asked for.
        expected: String,
        /// The ring's label.
        actual: String,
    },
    /// The ring's metadata is of another size.
    Metadata {
        /// Bytes of the type asked for.
        expected: usize,
        /// Bytes of the ring's metadata.
        actual: usize,
    },
    /// The file's size is not what its header says, or its size can still change.
    Truncated {
        /// Bytes that the header calls for.
        expected: u64,
        /// Bytes of the file.
        actual: u64,
    },
    /// The file has holes, so that using it could end in SIGBUS.
    Sparse,
    /// The memory file is not sealed, so that its owner could shrink it under us.
    NotSealed,
    /// The file belongs to somebody who was not expected.
    ForeignOwner {
        /// The owner's user id.
        uid: u32,
    },
    /// The file has more than one name.
    HardLinked {
        /// How many.
        links: u64,
    },
    /// The path names a symbolic link, a directory or a device.
    NotAFile,
    /// More users may access the file than agreed.
    ModeTooWide {
        /// The file's permission bits.
        mode: u32,
        /// The bits that were agreed.
        allowed: u32,
    },
    /// Another process has the role.
    RoleTaken {
        /// The role.
        role: Role,
        /// The process that has it, as far as it has said; 0 if it has not.
        pid: u32,
    },
    /// The ring is one of two halves, and the role is that of the half which is not this process's.
    PeersRole {
        /// The role.
        role: Role,
    },
    /// Every entry of the ring's table of participants is taken.
    Crowded {
        /// How many entries it has.
        participants: usize,
    },
    /// The ring is in use.
    InUse,
    /// Huge pages were asked for and cannot be had.
    HugePages {
        /// Why.
        reason: &'static str,
    },
    /// `/proc` is missing; it is needed to open descriptors anew.
    NoProc,
    /// The handle belongs to the parent process; a forked child opens the ring anew.
    Forked,
    /// The ring's contents are not what a correct process leaves behind.
    Corrupt,
    /// The kernel refused.
    Os {
        /// What was attempted.
        call: &'static str,
        /// Its answer.
        source: io::Error,
    },
}

impl SetupError {
    pub(crate) fn os(call: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.raw_os_error() {
            Some(libc::EACCES | libc::EPERM) => Self::PermissionDenied,
            _ => Self::Os { call, source },
        }
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidName { name, reason } => write!(f, "the name {name:?} {reason}"),
            Self::InvalidSize { reason } => f.write_str(reason),
            Self::InvalidMode { mode } => write!(
                f,
                "mode {mode:04o} cannot be used; give permission bits that let the owner read and write, such as 0600"
            ),
            Self::NotFound => f.write_str("there is nothing of that name; create it first"),
            Self::AlreadyExists => {
                f.write_str("something of that name exists already; open it, or remove it first")
            }
            Self::PermissionDenied => {
                f.write_str("permission denied; check the owner and the mode of the file")
            }
            Self::NoSpace { needed } => write!(
                f,
                "not enough room for a segment of {needed} bytes; make the ring smaller or the file system larger"
            ),
            Self::NotARing => {
                f.write_str("the file is not an annulus ring; name one that annulus created")
            }
            Self::Version { expected, actual } => write!(
                f,
                "the ring has layout version {actual} and this build uses version {expected}; create it anew with one build"
            ),
            Self::Kind { expected, actual } => {
                write!(f, "the ring holds {actual}, not {expected}; open it as what it is")
            }
            Self::Payload { expected, actual } => write!(
                f,
                "the ring's messages have {} aligned to {}, not {} aligned to {}; use the type it was created with",
                Bytes(actual.0), actual.1, Bytes(expected.0 as u64), expected.1
            ),
            Self::Label { expected, actual } => write!(
                f,
                "the ring's messages are labelled {actual:?}, not {expected:?}; use the type it was created with"
            ),
            Self::Metadata { expected, actual } => write!(
                f,
                "the ring's metadata has {}, not {expected}; read it as the type it was created with",
                Bytes(*actual as u64)
            ),
            Self::Truncated { expected, actual } => write!(
                f,
                "the file has {} and its header calls for {expected}; it was cut or tampered with, remove it",
                Bytes(*actual)
            ),
            Self::Sparse => f.write_str(
                "the file has holes and could fail with SIGBUS when used; create the ring anew",
            ),
            Self::NotSealed => f.write_str(
                "the memory file is not sealed against a change of size; get it from a ring that annulus created",
            ),
            Self::ForeignOwner { uid } => write!(
                f,
                "the file belongs to user {uid}; if that user is trusted, name it with `owner`"
            ),
            Self::HardLinked { links } => {
                write!(f, "the file has {links} names and a ring has exactly one; remove the others")
            }
            Self::NotAFile => {
                f.write_str(
                "the path names a symbolic link or something else that is no regular file; name the ring's own file",
            )
            }
            Self::ModeTooWide { mode, allowed } => write!(
                f,
                "the file's mode is {mode:04o} and only {allowed:04o} was agreed; narrow it, or allow it with `mode`"
            ),
            Self::RoleTaken { role, pid: 0 } => {
                write!(f, "another process is the {role}; wait until it leaves")
            }
            Self::RoleTaken { role, pid } => {
                write!(f, "process {pid} is the {role}; wait until it leaves")
            }
            Self::PeersRole { role } => write!(
                f,
                "the {role} of this split ring is the peer, which owns that half; use the other role"
            ),
            Self::Crowded { participants } => write!(
                f,
                "the ring has its {participants} participants; create it with a larger table (`participants`)"
            ),
            Self::InUse => f.write_str("somebody has it in use; stop its users first, or force it"),
            Self::HugePages { reason } => write!(f, "no huge pages: {reason}"),
            Self::NoProc => {
                f.write_str("/proc is not mounted and is needed to open descriptors anew; mount it")
            }
            Self::Forked => f.write_str(FORKED),
            Self::Corrupt => f.write_str(CORRUPT),
            Self::Os { call, source } => write!(f, "{call} failed: {source}"),
        }
    }
}

impl std::error::Error for SetupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Os { source, .. } => Some(source),
            _ => None,
        }
    }
}
