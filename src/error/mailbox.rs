//! Why a mailbox did not take a message, or gave none.

use super::{Bytes, FORKED, Failure};
use std::fmt;

const REMOVED: &str =
    "the mailbox was removed; create it anew, or open the one that has its name now";
const CORRUPT: &str = "the mailbox's contents are damaged; remove it and create it anew";

/// Why [`MailSender`](crate::MailSender) did not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MailSendError {
    /// There are as many messages of this type as the mailbox holds of each. Only the `try_` verb says this.
    Full,
    /// There was no room until the deadline.
    Timeout,
    /// The mailbox was removed.
    Removed,
    /// The message is longer than the mailbox takes.
    TooLong {
        /// Bytes of the message.
        length: usize,
        /// Bytes of the longest that there can be.
        longest: usize,
    },
    /// There is no such type.
    NoSuchType {
        /// The type.
        kind: u8,
        /// How many there are, from 1 on.
        types: usize,
    },
    /// The mailbox is damaged; this handle does nothing more.
    Corrupt,
    /// The handle was made before a fork and belongs to the parent.
    Forked,
}

impl From<Failure> for MailSendError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotReady => Self::Full,
            // A mailbox's other side is never gone.
            Failure::Timeout | Failure::Disconnected => Self::Timeout,
            Failure::Corrupt => Self::Corrupt,
            Failure::Forked => Self::Forked,
        }
    }
}

impl fmt::Display for MailSendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Full => f.write_str("no room for another message of this type; try again when one was received"),
            Self::Timeout => f.write_str(
                "there was no room for a message of this type until the deadline; send again, or see what keeps the receivers",
            ),
            Self::Removed => f.write_str(REMOVED),
            Self::TooLong { length, longest } => write!(
                f,
                "a message of {} is too long for this mailbox; send at most {longest}, or create it for longer ones",
                Bytes(length as u64),
            ),
            Self::NoSuchType { kind, types } => {
                write!(f, "there is no type {kind}; this mailbox has types 1 to {types}")
            }
            Self::Corrupt => f.write_str(CORRUPT),
            Self::Forked => f.write_str(FORKED),
        }
    }
}

impl std::error::Error for MailSendError {}

/// Why [`MailReceiver`](crate::MailReceiver) gave no message, or a [`Subscription`](crate::Subscription) no news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MailRecvError {
    /// No message is there that was asked for. Only the `try_` verbs say this.
    Empty,
    /// None came until the deadline.
    Timeout,
    /// The mailbox was removed, and what was in it with it.
    Removed,
    /// The message that is next does not fit into the buffer. It stays where it is.
    TooSmall {
        /// Bytes of the message.
        length: usize,
        /// Its type.
        kind: u8,
    },
    /// No message of this mailbox can ever be what was asked for.
    NeverMatches {
        /// How many types there are, from 1 on.
        types: usize,
    },
    /// The mailbox is damaged; this handle does nothing more.
    Corrupt,
    /// The handle was made before a fork and belongs to the parent.
    Forked,
}

impl From<Failure> for MailRecvError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotReady => Self::Empty,
            // A mailbox's other side is never gone.
            Failure::Timeout | Failure::Disconnected => Self::Timeout,
            Failure::Corrupt => Self::Corrupt,
            Failure::Forked => Self::Forked,
        }
    }
}

impl fmt::Display for MailRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => f.write_str("there is no such message; try again when one was sent"),
            Self::Timeout => f.write_str(
                "no such message came until the deadline; receive again, or see what keeps the senders",
            ),
            Self::Removed => f.write_str(REMOVED),
            Self::TooSmall { length, kind } => write!(
                f,
                "the next message, of type {kind}, has {}; receive it into a buffer of that size",
                Bytes(length as u64),
            ),
            Self::NeverMatches { types } => write!(
                f,
                "no message can ever match; this mailbox has types 1 to {types}",
            ),
            Self::Corrupt => f.write_str(CORRUPT),
            Self::Forked => f.write_str(FORKED),
        }
    }
}

impl std::error::Error for MailRecvError {}
