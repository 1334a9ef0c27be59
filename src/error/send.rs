//! Why a message was not sent. The errors of typed sends give the message back.

use super::{Bytes, CORRUPT, FORKED, Failure};
use std::fmt;

const FULL: &str = "the ring is full; try again when the receiver has read something";
const STAYED_FULL: &str =
    "the ring stayed full until the deadline; send again, or see what keeps the receiver";
const DISCONNECTED: &str = "the receiver has left, and nobody would read the message; send again when there is another one";

/// Why [`Sender::try_send`](crate::Sender::try_send) did not send.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrySendError<T> {
    /// The ring is full.
    Full(T),
    /// The receiver has left or died.
    Disconnected(T),
    /// The receiver's side of the ring is damaged; this handle does nothing more.
    Corrupt(T),
    /// The handle was made before a fork and belongs to the parent.
    Forked(T),
}

impl<T> TrySendError<T> {
    pub(crate) fn new(failure: Failure, message: T) -> Self {
        match failure {
            Failure::NotReady | Failure::Timeout => Self::Full(message),
            Failure::Disconnected => Self::Disconnected(message),
            Failure::Corrupt => Self::Corrupt(message),
            Failure::Forked => Self::Forked(message),
        }
    }

    /// The message that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(message)
            | Self::Disconnected(message)
            | Self::Corrupt(message)
            | Self::Forked(message) => message,
        }
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Disconnected(_) => "Disconnected(..)",
            Self::Corrupt(_) => "Corrupt(..)",
            Self::Forked(_) => "Forked(..)",
        })
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => FULL,
            Self::Disconnected(_) => DISCONNECTED,
            Self::Corrupt(_) => CORRUPT,
            Self::Forked(_) => FORKED,
        })
    }
}

impl<T> std::error::Error for TrySendError<T> {}

/// Why [`Sender::send`](crate::Sender::send) did not send.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError<T> {
    /// The receiver has left or died.
    Disconnected(T),
    /// The receiver's side of the ring is damaged; this handle does nothing more.
    Corrupt(T),
    /// The handle was made before a fork and belongs to the parent.
    Forked(T),
}

impl<T> SendError<T> {
    pub(crate) fn new(failure: Failure, message: T) -> Self {
        match failure {
            // A send without a deadline waits for room, so of the three only the last can be.
            Failure::NotReady | Failure::Timeout | Failure::Disconnected => {
                Self::Disconnected(message)
            }
            Failure::Corrupt => Self::Corrupt(message),
            Failure::Forked => Self::Forked(message),
        }
    }

    /// The message that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            Self::Disconnected(message) | Self::Corrupt(message) | Self::Forked(message) => message,
        }
    }
}

impl<T> From<SendError<T>> for TrySendError<T> {
    fn from(error: SendError<T>) -> Self {
        match error {
            SendError::Disconnected(message) => Self::Disconnected(message),
            SendError::Corrupt(message) => Self::Corrupt(message),
            SendError::Forked(message) => Self::Forked(message),
        }
    }
}

impl<T> From<SendError<T>> for SendTimeoutError<T> {
    fn from(error: SendError<T>) -> Self {
        match error {
            SendError::Disconnected(message) => Self::Disconnected(message),
            SendError::Corrupt(message) => Self::Corrupt(message),
            SendError::Forked(message) => Self::Forked(message),
        }
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disconnected(_) => "Disconnected(..)",
            Self::Corrupt(_) => "Corrupt(..)",
            Self::Forked(_) => "Forked(..)",
        })
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disconnected(_) => DISCONNECTED,
            Self::Corrupt(_) => CORRUPT,
            Self::Forked(_) => FORKED,
        })
    }
}

impl<T> std::error::Error for SendError<T> {}

/// Why [`Sender::send_timeout`](crate::Sender::send_timeout) did not send.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendTimeoutError<T> {
    /// The ring stayed full until the deadline.
    Timeout(T),
    /// The receiver has left or died.
    Disconnected(T),
    /// The receiver's side of the ring is damaged; this handle does nothing more.
    Corrupt(T),
    /// The handle was made before a fork and belongs to the parent.
    Forked(T),
}

impl<T> SendTimeoutError<T> {
    pub(crate) fn new(failure: Failure, message: T) -> Self {
        match failure {
            Failure::NotReady | Failure::Timeout => Self::Timeout(message),
            Failure::Disconnected => Self::Disconnected(message),
            Failure::Corrupt => Self::Corrupt(message),
            Failure::Forked => Self::Forked(message),
        }
    }

    /// The message that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            Self::Timeout(message)
            | Self::Disconnected(message)
            | Self::Corrupt(message)
            | Self::Forked(message) => message,
        }
    }
}

impl<T> fmt::Debug for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout(_) => "Timeout(..)",
            Self::Disconnected(_) => "Disconnected(..)",
            Self::Corrupt(_) => "Corrupt(..)",
            Self::Forked(_) => "Forked(..)",
        })
    }
}

impl<T> fmt::Display for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout(_) => STAYED_FULL,
            Self::Disconnected(_) => DISCONNECTED,
            Self::Corrupt(_) => CORRUPT,
            Self::Forked(_) => FORKED,
        })
    }
}

impl<T> std::error::Error for SendTimeoutError<T> {}

/// Why [`Sender::send_all`](crate::Sender::send_all) stopped before the last message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendAllError {
    /// Messages that were sent before it stopped.
    pub sent: usize,
    /// Why it stopped.
    pub cause: SendError<()>,
}

impl fmt::Display for SendAllError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped after {} messages: {}", self.sent, self.cause)
    }
}

impl std::error::Error for SendAllError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// Why a byte message was not sent, or could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ByteSendError {
    /// The ring has no room for the message. Only the `try_` verbs say so.
    Full,
    /// The ring had no room for the message until the deadline. Only the verbs with one say so.
    Timeout,
    /// The message would not fit into the ring if that were empty.
    TooLong {
        /// Bytes of the message.
        len: usize,
        /// Bytes of the longest message that this ring takes.
        max: usize,
    },
    /// All messages of this ring have one size, and this one has another.
    Size {
        /// Bytes of the message.
        len: usize,
        /// Bytes of each message of this ring.
        expected: usize,
    },
    /// The receiver has left or died.
    Disconnected,
    /// The receiver's side of the ring is damaged; this handle does nothing more.
    Corrupt,
    /// The handle was made before a fork and belongs to the parent.
    Forked,
}

impl From<Failure> for ByteSendError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotReady => Self::Full,
            Failure::Timeout => Self::Timeout,
            Failure::Disconnected => Self::Disconnected,
            Failure::Corrupt => Self::Corrupt,
            Failure::Forked => Self::Forked,
        }
    }
}

impl fmt::Display for ByteSendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => {
                "the ring has no room for the message; try again when the receiver has read something"
            }
            Self::Timeout => {
                "the ring had no room for the message until the deadline; send again, or see what keeps the receiver"
            }
            Self::TooLong { len, max } => {
                return write!(
                    f,
                    "a message of {} does not fit into this ring, whose longest is {max}; create a larger ring",
                    Bytes(*len as u64)
                );
            }
            Self::Size { len, expected } => {
                return write!(
                    f,
                    "a message of {} is none of this ring, where each has exactly {expected}; send as many",
                    Bytes(*len as u64)
                );
            }
            Self::Disconnected => DISCONNECTED,
            Self::Corrupt => CORRUPT,
            Self::Forked => FORKED,
        })
    }
}

impl std::error::Error for ByteSendError {}
