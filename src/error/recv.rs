//! Why no message was received.

use super::{Bytes, CORRUPT, FORKED, Failure};
use std::fmt;

pub(super) const EMPTY: &str = "the ring is empty; try again when the sender has sent something";
pub(super) const STAYED_EMPTY: &str =
    "the ring stayed empty until the deadline; receive again, or see what keeps the sender";
pub(super) const DISCONNECTED: &str = "the sender has left and every message has been read; receive again when there is another sender";

/// Why [`Receiver::try_recv`](crate::Receiver::try_recv) gave no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryRecvError {
    /// The ring is empty.
    Empty,
    /// The sender has left or died, and every message has been read.
    /// [`Receiver::ending`](crate::Receiver::ending) says which.
    Disconnected,
    /// The sender's side of the ring is damaged; this handle does nothing more.
    Corrupt,
    /// The handle was made before a fork and belongs to the parent.
    Forked,
}

impl From<Failure> for TryRecvError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotReady | Failure::Timeout => Self::Empty,
            Failure::Disconnected => Self::Disconnected,
            Failure::Corrupt => Self::Corrupt,
            Failure::Forked => Self::Forked,
        }
    }
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => EMPTY,
            Self::Disconnected => DISCONNECTED,
            Self::Corrupt => CORRUPT,
            Self::Forked => FORKED,
        })
    }
}

impl std::error::Error for TryRecvError {}

/// Why [`Receiver::recv`](crate::Receiver::recv) gave no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvError {
    /// The sender has left or died, and every message has been read.
    /// [`Receiver::ending`](crate::Receiver::ending) says which.
    Disconnected,
    /// The sender's side of the ring is damaged; this handle does nothing more.
    Corrupt,
    /// The handle was made before a fork and belongs to the parent.
    Forked,
}

impl From<Failure> for RecvError {
    fn from(failure: Failure) -> Self {
        match failure {
            // A receive without a deadline waits for a message, so of the three only the last can be.
            Failure::NotReady | Failure::Timeout | Failure::Disconnected => Self::Disconnected,
            Failure::Corrupt => Self::Corrupt,
            Failure::Forked => Self::Forked,
        }
    }
}

impl From<RecvError> for TryRecvError {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Disconnected => Self::Disconnected,
            RecvError::Corrupt => Self::Corrupt,
            RecvError::Forked => Self::Forked,
        }
    }
}

impl From<RecvError> for RecvTimeoutError {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Disconnected => Self::Disconnected,
            RecvError::Corrupt => Self::Corrupt,
            RecvError::Forked => Self::Forked,
        }
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disconnected => DISCONNECTED,
            Self::Corrupt => CORRUPT,
            Self::Forked => FORKED,
        })
    }
}

impl std::error::Error for RecvError {}

/// Why [`Receiver::recv_timeout`](crate::Receiver::recv_timeout) gave no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvTimeoutError {
    /// The ring stayed empty until the deadline.
    Timeout,
    /// The sender has left or died, and every message has been read.
    /// [`Receiver::ending`](crate::Receiver::ending) says which.
    Disconnected,
    /// The sender's side of the ring is damaged; this handle does nothing more.
    Corrupt,
    /// The handle was made before a fork and belongs to the parent.
    Forked,
}

impl From<Failure> for RecvTimeoutError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotReady | Failure::Timeout => Self::Timeout,
            Failure::Disconnected => Self::Disconnected,
            Failure::Corrupt => Self::Corrupt,
            Failure::Forked => Self::Forked,
        }
    }
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => STAYED_EMPTY,
            Self::Disconnected => DISCONNECTED,
            Self::Corrupt => CORRUPT,
            Self::Forked => FORKED,
        })
    }
}

impl std::error::Error for RecvTimeoutError {}

/// Why a byte message was not received into a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvIntoError {
    /// The ring is empty. Only the `try_` verbs say so.
    Empty,
    /// The ring stayed empty until the deadline. Only the verbs with one say so.
    Timeout,
    /// The message is longer than the slice. It is still there: come again with more room.
    TooSmall {
        /// Bytes of the message.
        len: usize,
    },
    /// The sender has left or died, and every message has been read.
    /// [`Receiver::ending`](crate::Receiver::ending) says which.
    Disconnected,
    /// The sender's side of the ring is damaged; this handle does nothing more.
    Corrupt,
    /// The handle was made before a fork and belongs to the parent.
    Forked,
}

impl From<Failure> for RecvIntoError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotReady => Self::Empty,
            Failure::Timeout => Self::Timeout,
            Failure::Disconnected => Self::Disconnected,
            Failure::Corrupt => Self::Corrupt,
            Failure::Forked => Self::Forked,
        }
    }
}

impl fmt::Display for RecvIntoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => EMPTY,
            Self::Timeout => STAYED_EMPTY,
            Self::TooSmall { len } => {
                return write!(
                    f,
                    "the message has {} and waits in the ring; receive again with room for that",
                    Bytes(*len as u64)
                );
            }
            Self::Disconnected => DISCONNECTED,
            Self::Corrupt => CORRUPT,
            Self::Forked => FORKED,
        })
    }
}

impl std::error::Error for RecvIntoError {}
