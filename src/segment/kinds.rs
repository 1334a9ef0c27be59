//! What a segment can be: its kind, how many take part in it, and which part of it a file holds.

use crate::error::Role;
use crate::protocol::layout::{kind, part, topology};

/// How many may send and how many may receive.
///
/// More topologies come in later versions, so a `match` on it needs a wildcard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Topology {
    /// One sender and one receiver: the fastest.
    #[default]
    Spsc,
    /// Many senders and one receiver.
    Mpsc,
    /// One sender and many receivers, each message for one of them.
    Spmc,
    /// Many senders and many receivers, each message for one of them.
    Mpmc,
}

impl Topology {
    pub(super) const ALL: [Self; 4] = [Self::Spsc, Self::Mpsc, Self::Spmc, Self::Mpmc];

    pub(super) fn number(self) -> u64 {
        match self {
            Self::Spsc => topology::SPSC,
            Self::Mpsc => topology::MPSC,
            Self::Spmc => topology::SPMC,
            Self::Mpmc => topology::MPMC,
        }
    }

    pub(super) fn of(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|topology| topology.number() == number)
    }

    /// The usual abbreviation.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spsc => "spsc",
            Self::Mpsc => "mpsc",
            Self::Spmc => "spmc",
            Self::Mpmc => "mpmc",
        }
    }

    /// Whether many may have `role` at a time.
    pub fn shares(self, role: Role) -> bool {
        match role {
            Role::Sender => matches!(self, Self::Mpsc | Self::Mpmc),
            Role::Receiver => matches!(self, Self::Spmc | Self::Mpmc),
        }
    }

    /// Whether one side or both are shared, so that there are claims and a table of participants.
    pub(crate) fn is_shared(self) -> bool {
        self != Self::Spsc
    }
}

/// What kind of messages a ring carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RingKind {
    /// Messages of one size: [`Ring`](crate::Ring).
    Slots,
    /// Messages of any size: [`ByteRing`](crate::ByteRing).
    Bytes,
    /// No messages but permits: [`Semaphore`](crate::Semaphore).
    Semaphore,
    /// No messages but flags: [`Event`](crate::Event).
    Event,
    /// One value, of which the latest is read: [`Latest`](crate::Latest).
    Latest,
    /// Messages of several types, up to a size: [`Mailbox`](crate::Mailbox).
    Mailbox,
    /// Messages of one size, each for all receivers: [`Broadcast`](crate::Broadcast).
    Broadcast,
    /// Messages of any length up to a longest, each for all receivers: [`ByteBroadcast`](crate::ByteBroadcast).
    ByteBroadcast,
}

impl RingKind {
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Slots => kind::SLOTS,
            Self::Bytes => kind::BYTES,
            Self::Semaphore => kind::SEMAPHORE,
            Self::Event => kind::EVENT,
            Self::Latest => kind::LATEST,
            Self::Mailbox => kind::MAILBOX,
            Self::Broadcast => kind::BROADCAST,
            Self::ByteBroadcast => kind::BYTE_BROADCAST,
        }
    }

    pub(super) fn of(number: u64) -> Option<Self> {
        match number {
            kind::SLOTS => Some(Self::Slots),
            kind::BYTES => Some(Self::Bytes),
            kind::SEMAPHORE => Some(Self::Semaphore),
            kind::EVENT => Some(Self::Event),
            kind::LATEST => Some(Self::Latest),
            kind::MAILBOX => Some(Self::Mailbox),
            kind::BROADCAST => Some(Self::Broadcast),
            kind::BYTE_BROADCAST => Some(Self::ByteBroadcast),
            _ => None,
        }
    }

    /// One word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Slots => "slots",
            Self::Bytes => "bytes",
            Self::Semaphore => "semaphore",
            Self::Event => "event",
            Self::Latest => "latest",
            Self::Mailbox => "mailbox",
            Self::Broadcast => "broadcast",
            Self::ByteBroadcast => "byte-broadcast",
        }
    }

    /// Whether it carries messages, from senders to receivers.
    pub fn is_ring(self) -> bool {
        !matches!(self, Self::Semaphore | Self::Event)
    }

    /// Whether one side sends to all of the other, which may come and go.
    pub(crate) fn is_one_to_all(self) -> bool {
        self == Self::Latest || self.is_broadcast()
    }

    /// Whether every receiver gets every message.
    pub(crate) fn is_broadcast(self) -> bool {
        matches!(self, Self::Broadcast | Self::ByteBroadcast)
    }

    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Slots => "messages of one size",
            Self::Bytes => "messages of any size",
            Self::Semaphore => "a semaphore",
            Self::Event => "an event",
            Self::Latest => "the latest value of a variable",
            Self::Mailbox => "a mailbox",
            Self::Broadcast => "a broadcast of messages of one size",
            Self::ByteBroadcast => "a broadcast of messages of any length",
        }
    }
}

/// Which part of a ring a file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    #[default]
    Whole,
    /// What this role writes.
    Half(Role),
}

impl Part {
    pub(super) fn number(self) -> u64 {
        match self {
            Self::Whole => part::WHOLE,
            Self::Half(Role::Sender) => part::SENDER,
            Self::Half(Role::Receiver) => part::RECEIVER,
        }
    }

    pub(super) fn of(number: u64) -> Option<Self> {
        let all = [Self::Whole, Self::Half(Role::Sender), Self::Half(Role::Receiver)];
        all.into_iter().find(|part| part.number() == number)
    }

    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Whole => "a whole ring",
            Self::Half(Role::Sender) => "the sender's half of a split ring",
            Self::Half(Role::Receiver) => "the receiver's half of a split ring",
        }
    }
}
