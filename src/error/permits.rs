//! Why no permit was got, or given back.

use super::{CORRUPT, FORKED};
use std::fmt;

const CLOSED: &str = "the semaphore is closed: nobody gets a permit any more";

fn too_many(f: &mut fmt::Formatter<'_>, most: u32) -> fmt::Result {
    match most {
        0 => f.write_str("no more permits can be had; release some first"),
        1 => f.write_str("so many permits can never be had; ask for 1"),
        most => write!(f, "so many permits can never be had; ask for 1 to {most}"),
    }
}

/// Why [`Holder::try_acquire`](crate::Holder::try_acquire) gave no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryAcquireError {
    /// Too few are free.
    NoPermits,
    /// So many can never be had, because the semaphore has fewer or this holder has too many; or it was asked for
    /// none.
    Never {
        /// The most that can be asked for now; 0 if none.
        most: u32,
    },
    /// The semaphore was closed.
    Closed,
    /// The semaphore's memory is damaged; this handle does nothing more.
    Corrupt,
    /// The handle was made before a fork and belongs to the parent.
    Forked,
}

impl fmt::Display for TryAcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPermits => {
                "too few permits are free; try again when somebody has released some"
            }
            Self::Never { most } => return too_many(f, *most),
            Self::Closed => CLOSED,
            Self::Corrupt => CORRUPT,
            Self::Forked => FORKED,
        })
    }
}

impl std::error::Error for TryAcquireError {}

/// Why [`Holder::acquire`](crate::Holder::acquire) gave no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcquireError {
    /// As [`TryAcquireError::Never`].
    Never {
        /// The most that can be asked for now; 0 if none.
        most: u32,
    },
    /// The semaphore was closed.
    Closed,
    /// The semaphore's memory is damaged; this handle does nothing more.
    Corrupt,
    /// The handle was made before a fork and belongs to the parent.
    Forked,
}

impl AcquireError {
    /// Why a wait ended. No conversion for everybody: to one who does not wait, `NoPermits` is no end.
    pub(crate) fn of(error: TryAcquireError) -> Self {
        match error {
            TryAcquireError::Never { most } => Self::Never { most },
            TryAcquireError::Closed => Self::Closed,
            // Who waits without a deadline waits for the permits, so of the two only the last can be.
            TryAcquireError::NoPermits | TryAcquireError::Corrupt => Self::Corrupt,
            TryAcquireError::Forked => Self::Forked,
        }
    }
}

impl From<AcquireError> for TryAcquireError {
    fn from(error: AcquireError) -> Self {
        match error {
            AcquireError::Never { most } => Self::Never { most },
            AcquireError::Closed => Self::Closed,
            AcquireError::Corrupt => Self::Corrupt,
            AcquireError::Forked => Self::Forked,
        }
    }
}

impl From<AcquireError> for AcquireTimeoutError {
    fn from(error: AcquireError) -> Self {
        TryAcquireError::from(error).into()
    }
}

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Never { most } => return too_many(f, *most),
            Self::Closed => CLOSED,
            Self::Corrupt => CORRUPT,
            Self::Forked => FORKED,
        })
    }
}

impl std::error::Error for AcquireError {}

/// Why [`Holder::acquire_timeout`](crate::Holder::acquire_timeout) gave no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcquireTimeoutError {
    /// Too few were free until the deadline.
    Timeout,
    /// As [`TryAcquireError::Never`].
    Never {
        /// The most that can be asked for now; 0 if none.
        most: u32,
    },
    /// The semaphore was closed.
    Closed,
    /// The semaphore's memory is damaged; this handle does nothing more.
    Corrupt,
    /// The handle was made before a fork and belongs to the parent.
    Forked,
}

impl From<TryAcquireError> for AcquireTimeoutError {
    fn from(error: TryAcquireError) -> Self {
        match error {
            TryAcquireError::NoPermits => Self::Timeout,
            TryAcquireError::Never { most } => Self::Never { most },
            TryAcquireError::Closed => Self::Closed,
            TryAcquireError::Corrupt => Self::Corrupt,
            TryAcquireError::Forked => Self::Forked,
        }
    }
}

impl fmt::Display for AcquireTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => {
                "too few permits were free until the deadline; acquire again, or see who holds them"
            }
            Self::Never { most } => return too_many(f, *most),
            Self::Closed => CLOSED,
            Self::Corrupt => CORRUPT,
            Self::Forked => FORKED,
        })
    }
}

impl std::error::Error for AcquireTimeoutError {}

/// Why [`Holder::release`](crate::Holder::release) or [`Holder::post`](crate::Holder::post) freed no permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The holder has fewer.
    NotHeld {
        /// How many it has.
        held: u32,
    },
    /// There would be more free permits than the semaphore may have.
    TooMany {
        /// How many it may have.
        most: u32,
    },
    /// The semaphore's memory is damaged; this handle does nothing more.
    Corrupt,
    /// The handle was made before a fork and belongs to the parent.
    Forked,
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotHeld { held } => {
                return write!(f, "the holder has {held} permits; release no more, or post others");
            }
            Self::TooMany { most } => {
                return write!(f, "no more than {most} permits may be free; acquire some first");
            }
            Self::Corrupt => CORRUPT,
            Self::Forked => FORKED,
        })
    }
}

impl std::error::Error for ReleaseError {}
