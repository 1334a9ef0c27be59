//! Why a receiver of a broadcast got no message.

use super::recv::{DISCONNECTED, EMPTY, STAYED_EMPTY};
use super::{CORRUPT, FORKED, Failure};
use std::fmt;

/// Why a [`BroadcastReceiver`](crate::BroadcastReceiver) gave no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BroadcastRecvError {
    /// Every message has been read. Only the `try_` verbs say so.
    Empty,
    /// No message came until the deadline. Only the verbs with one say so.
    Timeout,
    /// So many messages were written over before this receiver came to them; the next call goes on behind them.
    /// Only said to a receiver that the sender does not wait for.
    Lagged(u64),
    /// The sender has waited for this receiver for longer than it wants to, and waits for it no more.
    /// Said until the receiver [rejoins](crate::BroadcastReceiver::rejoin), which tells what it has missed.
    Evicted,
    /// The sender has left or died, and every message has been read.
    Disconnected,
    /// The contents of the ring are damaged; this handle does nothing more.
    Corrupt,
    /// The handle was made before a fork and belongs to the parent.
    Forked,
}

impl From<Failure> for BroadcastRecvError {
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

impl fmt::Display for BroadcastRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => EMPTY,
            Self::Timeout => STAYED_EMPTY,
            Self::Lagged(missed) => {
                return write!(
                    f,
                    "{missed} messages were written over before they were received; receive again to go on behind them, or create a larger ring"
                );
            }
            Self::Evicted => {
                "the sender waited too long for this receiver and waits no more; rejoin to go on, and receive faster"
            }
            Self::Disconnected => DISCONNECTED,
            Self::Corrupt => CORRUPT,
            Self::Forked => FORKED,
        })
    }
}

impl std::error::Error for BroadcastRecvError {}
