//! Why descriptors did not pass.

use super::{ByteSendError, Bytes, CORRUPT, FORKED, Failure, TryRecvError};
use std::fmt;
use std::io;

/// Why a message was not sent or received together with descriptors
/// ([`Duplex::send_with_fds`](crate::Duplex::send_with_fds) and others).
#[derive(Debug)]
#[non_exhaustive]
pub enum FdsError {
    /// More than a message may come with.
    TooMany {
        /// How many it may.
        most: usize,
    },
    /// The peer has not taken those that were sent before: the socket has no room for more.
    NotTaken,
    /// There is no message. Only the `try_` verbs say so.
    Empty,
    /// The message would not fit into the ring if that were empty.
    TooLong {
        /// Bytes of the message.
        len: usize,
        /// Bytes of the longest message that this ring takes.
        max: usize,
    },
    /// The peer has left or died.
    Disconnected,
    /// What the peer wrote or sent makes no sense.
    Corrupt,
    /// The connection belongs to the parent process.
    Forked,
    /// The kernel refused to pass the descriptors.
    Os(io::Error),
}

impl From<Failure> for FdsError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotReady | Failure::Timeout => Self::Empty,
            Failure::Disconnected => Self::Disconnected,
            Failure::Corrupt => Self::Corrupt,
            Failure::Forked => Self::Forked,
        }
    }
}

impl FdsError {
    /// Why there was no room, though it was waited for. No conversion for everybody: a full ring is no end to one who does
    /// not wait.
    pub(crate) fn of(error: ByteSendError) -> Self {
        match error {
            ByteSendError::TooLong { len, max } => Self::TooLong { len, max },
            ByteSendError::Corrupt => Self::Corrupt,
            ByteSendError::Forked => Self::Forked,
            _ => Self::Disconnected,
        }
    }
}

impl From<TryRecvError> for FdsError {
    fn from(error: TryRecvError) -> Self {
        match error {
            TryRecvError::Empty => Self::Empty,
            TryRecvError::Disconnected => Self::Disconnected,
            TryRecvError::Corrupt => Self::Corrupt,
            TryRecvError::Forked => Self::Forked,
        }
    }
}

impl fmt::Display for FdsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooMany { most } => {
                return write!(f, "a message comes with {most} descriptors at most; send several");
            }
            Self::NotTaken => {
                "the peer has not taken the descriptors that were sent before; send again when it has"
            }
            Self::Empty => "the ring is empty; try again when the peer has sent something",
            Self::TooLong { len, max } => {
                return write!(
                    f,
                    "a message of {} does not fit into this ring, whose longest is {max}; ask for a larger one",
                    Bytes(*len as u64)
                );
            }
            Self::Disconnected => "the peer has left; connect again",
            Self::Corrupt => CORRUPT,
            Self::Forked => FORKED,
            Self::Os(error) => return write!(f, "descriptors could not be passed: {error}"),
        })
    }
}

impl std::error::Error for FdsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Os(error) => Some(error),
            _ => None,
        }
    }
}
