//! Why a value was not read or written.

use super::{Bytes, CORRUPT, FORKED, Failure};
use std::fmt;

/// Why a [`LatestReader`](crate::LatestReader) or [`LatestWriter`](crate::LatestWriter) did not do what it was
/// asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LatestError {
    /// The value stayed as it was until the deadline. Only the verbs that wait until one say so.
    Timeout,
    /// The writer has left or died, and its last value was read. Only the verbs that wait say so.
    Disconnected,
    /// The value was written over while it was copied, again and again. Only [`Latest::peek`](crate::Latest::peek)
    /// says so.
    Overtaken,
    /// What was given has another size than the variable's value. Only
    /// [`UntypedLatest`](crate::UntypedLatest)'s handles say so.
    Size {
        /// Bytes of the value.
        expected: usize,
    },
    /// The contents of the memory are damaged; this handle does nothing more.
    Corrupt,
    /// The handle was made before a fork and belongs to the parent.
    Forked,
}

impl From<Failure> for LatestError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotReady | Failure::Timeout => Self::Timeout,
            Failure::Disconnected => Self::Disconnected,
            Failure::Corrupt => Self::Corrupt,
            Failure::Forked => Self::Forked,
        }
    }
}

impl fmt::Display for LatestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => {
                "the value stayed as it was until the deadline; wait again, or see what keeps the writer"
            }
            Self::Disconnected => {
                "the writer has left and its last value was read; wait again when there is another writer"
            }
            Self::Overtaken => {
                "the value was written faster than it could be copied; read it through a reader, which is not overtaken"
            }
            Self::Size { expected } => {
                let exactly = Bytes(*expected as u64);
                return write!(f, "the variable's value has exactly {exactly}; give as many");
            }
            Self::Corrupt => CORRUPT,
            Self::Forked => FORKED,
        })
    }
}

impl std::error::Error for LatestError {}
