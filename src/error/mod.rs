//! What can go wrong: one error for setting a ring up ([`setup`]), one for meeting a peer ([`connect`]), and a small one for each hot operation
//! ([`send`], [`recv`], [`permits`], [`event`]). All of the latter are made from one private [`Failure`], and what they have in
//! common they say in the words of this file.

mod broadcast;
mod connect;
mod descriptors;
mod event;
mod latest;
mod mailbox;
mod permits;
mod recv;
mod send;
mod setup;

pub use broadcast::BroadcastRecvError;
pub use connect::{ConnectError, Refusal};
pub use descriptors::FdsError;
pub use event::{EventError, EventTimeoutError};
pub use latest::LatestError;
pub use mailbox::{MailRecvError, MailSendError};
pub use permits::{AcquireError, AcquireTimeoutError, ReleaseError, TryAcquireError};
pub use recv::{RecvError, RecvIntoError, RecvTimeoutError, TryRecvError};
pub use send::{ByteSendError, SendAllError, SendError, SendTimeoutError, TrySendError};
pub use setup::SetupError;

use std::fmt;

/// The two sides of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The side that sends.
    Sender,
    /// The side that receives.
    Receiver,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Sender => "sender",
            Role::Receiver => "receiver",
        })
    }
}

/// Why an operation ended without doing its work, before it is turned into the operation's own error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Not now: full, or empty.
    NotReady,
    /// The deadline passed.
    Timeout,
    /// The other side is gone.
    Disconnected,
    /// The other side wrote nonsense.
    Corrupt,
    /// The handle is another process's.
    Forked,
}

/// So many bytes, in words.
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, if self.0 == 1 { "byte" } else { "bytes" })
    }
}

const CORRUPT: &str = "the ring's contents are damaged; remove it and create it anew";
const FORKED: &str = "the handle belongs to the parent process; open the ring anew in the child";
