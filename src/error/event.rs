//! Why an event's flags could not be raised, or were not waited for to the end.

use super::{FORKED, Failure};
use std::fmt;

const DAMAGED: &str = "the event's memory is damaged; remove it and create it anew";

/// Why [`EventHandle::raise`](crate::EventHandle::raise) or [`wait_any`](crate::EventHandle::wait_any) did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventError {
    /// The event's memory is damaged.
    Corrupt,
    /// The handle was made before a fork and belongs to the parent.
    Forked,
}

impl From<Failure> for EventError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Forked => Self::Forked,
            // Nobody's end ends a wait, and without a deadline nothing else does.
            Failure::NotReady | Failure::Timeout | Failure::Disconnected | Failure::Corrupt => {
                Self::Corrupt
            }
        }
    }
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Corrupt => DAMAGED,
            Self::Forked => FORKED,
        })
    }
}

impl std::error::Error for EventError {}

/// Why [`EventHandle::wait_any_timeout`](crate::EventHandle::wait_any_timeout) found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventTimeoutError {
    /// The flags were not raised by the deadline.
    Timeout,
    /// The event's memory is damaged.
    Corrupt,
    /// The handle was made before a fork and belongs to the parent.
    Forked,
}

impl From<Failure> for EventTimeoutError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotReady | Failure::Timeout => Self::Timeout,
            Failure::Disconnected | Failure::Corrupt => Self::Corrupt,
            Failure::Forked => Self::Forked,
        }
    }
}

impl fmt::Display for EventTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => {
                "the flags were not raised by the deadline; wait again, or see what keeps the raiser"
            }
            Self::Corrupt => DAMAGED,
            Self::Forked => FORKED,
        })
    }
}

impl std::error::Error for EventTimeoutError {}
