//! Why two processes did not meet.

use super::{FORKED, SetupError};
use std::fmt;
use std::io;

/// Why [`connect`](crate::connect) or a [`Listener`](crate::Listener) did not get through to a peer.
///
/// The text of each says what to do next.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address cannot be used.
    InvalidAddress {
        /// What was given.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Nobody listens there.
    NotListening,
    /// Somebody listens there already, or something else is in the way.
    InUse,
    /// The file system refuses access to the socket.
    PermissionDenied,
    /// The peer is a user that this side does not trust.
    Untrusted {
        /// The peer's user id.
        uid: u32,
    },
    /// The peer does not want this connection.
    Refused {
        /// Why.
        refusal: Refusal,
    },
    /// The two sides have no version of the handshake in common.
    Version {
        /// What this build speaks.
        ours: u32,
        /// What the peer speaks.
        theirs: u32,
    },
    /// What asks for the connection wants other messages, or more of them, than this side grants.
    Unwanted {
        /// What this side said to that.
        refusal: Refusal,
    },
    /// The peer says what no correct peer says.
    Protocol {
        /// What is wrong.
        reason: &'static str,
    },
    /// The peer went away before the connection was made.
    Closed,
    /// The connection was not made in time.
    Timeout,
    /// One's own half of a ring could not be made, or the peer's not be accepted.
    Ring(SetupError),
    /// The listener belongs to the parent process.
    Forked,
    /// The kernel refused.
    Os {
        /// What was attempted.
        call: &'static str,
        /// Its answer.
        source: io::Error,
    },
}

/// What one side of a handshake says to the other instead of going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// It does not trust the other's user.
    Untrusted,
    /// It knows no version in common.
    Version,
    /// It has messages of another kind or type.
    Messages,
    /// It has messages of another label.
    Label,
    /// It does not grant rings that large.
    TooLarge,
    /// It could not make its halves of the rings.
    NoRoom,
    /// It did not understand, or not accept, what it got.
    Malformed,
    /// It has as many clients as it takes.
    Crowded,
}

impl Refusal {
    const ALL: [Self; 8] = [
        Self::Untrusted,
        Self::Version,
        Self::Messages,
        Self::Label,
        Self::TooLarge,
        Self::NoRoom,
        Self::Malformed,
        Self::Crowded,
    ];

    /// Its number on the wire.
    pub(crate) fn number(self) -> u64 {
        1 + Self::ALL.iter().position(|&refusal| refusal == self).unwrap_or_default() as u64
    }

    /// What the number on the wire says; any other one is not understood.
    pub(crate) fn of(number: u64) -> Self {
        Self::ALL.into_iter().find(|refusal| refusal.number() == number).unwrap_or(Self::Malformed)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Untrusted => "the user is not trusted; have it authorized",
            Self::Version => "no version in common; build both with one release",
            Self::Messages => {
                "the messages are of another type or kind; use the same on both sides"
            }
            Self::Label => "the label is another one; use the same on both sides",
            Self::TooLarge => "the rings are too large; ask for less, or raise the limit",
            Self::NoRoom => "there was no room for the rings; ask for less, or make room",
            Self::Crowded => "there are as many clients as are taken; connect again later",
            Self::Malformed => {
                "the handshake is damaged, or took too long; connect to an annulus listener, or ask for less"
            }
        })
    }
}

impl ConnectError {
    pub(crate) fn os(call: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.raw_os_error() {
            Some(libc::EACCES | libc::EPERM) => Self::PermissionDenied,
            Some(libc::EPIPE | libc::ECONNRESET) => Self::Closed,
            _ => Self::Os { call, source },
        }
    }
}

impl From<SetupError> for ConnectError {
    fn from(error: SetupError) -> Self {
        match error {
            SetupError::Forked => Self::Forked,
            error => Self::Ring(error),
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidAddress { address, reason } => write!(f, "the address {address:?} {reason}"),
            Self::NotListening => f.write_str("nobody listens there; start the service first"),
            Self::InUse => f.write_str(
                "somebody listens there already, or the path is no socket; stop that, or take another address",
            ),
            Self::PermissionDenied => {
                f.write_str("permission denied; check the owner and the mode of the socket and its directory")
            }
            Self::Untrusted { uid } => write!(
                f,
                "the peer is user {uid}, which is not trusted here; if it is to be, say so with `authorize`"
            ),
            Self::Refused { refusal } => write!(f, "the peer refused: {refusal}"),
            Self::Version { ours, theirs } => write!(
                f,
                "this side speaks version {ours} of the handshake and the peer {theirs}; build both with one release"
            ),
            Self::Unwanted { refusal } => write!(f, "a client was refused: {refusal}"),
            Self::Protocol { reason } => {
                write!(f, "the peer {reason}; connect only what speaks this handshake")
            }
            Self::Closed => f.write_str("the peer went away during the handshake; connect again"),
            Self::Timeout => {
                f.write_str("the handshake was not done in time; connect again, or see what keeps the peer")
            }
            Self::Ring(error) => write!(f, "a ring could not be set up: {error}"),
            Self::Forked => f.write_str(FORKED),
            Self::Os { call, source } => write!(f, "{call} failed: {source}"),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Ring(error) => Some(error),
            Self::Os { source, .. } => Some(source),
            _ => None,
        }
    }
}
