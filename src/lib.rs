//! Rings that processes share.
//!
//! `annulus` moves messages between processes on one Linux machine through a ring in shared memory:
//! lock-free, one cache-line transfer for a small message, no system call while both sides are awake, a
//! futex when one sleeps. Whoever is killed, at whatever instruction, takes nothing committed with it
//! and blocks nobody.
//!
//! | type | messages | stands in for |
//! | --- | --- | --- |
//! | [`Ring<T>`](Ring) | of one plain type | in-process queues, work queues, market data |
//! | [`ByteRing`] | of any length, each whole | datagram and seqpacket sockets |
//! | [`Stream`] | none: bytes, for `Read` and `Write` | pipes, FIFOs |
//! | [`Latest<T>`](Latest) | one value, of which each reader gets the latest | a variable under a lock in shared memory |
//! | [`Broadcast<T>`](Broadcast) | of one plain type, each for every receiver | a pipe for each reader |
//! | [`ByteBroadcast`] | of any length up to a longest, each for every receiver | a pipe for each reader |
//! | [`Duplex<T>`](Duplex), [`ByteDuplex`], [`ByteStream`] | both ways, over a [`Listener`] and [`connect`]; many clients by a [`Hub`] | stream and seqpacket sockets |
//! | [`Semaphore`] | none, but permits, which come back from the dead | System V and POSIX semaphores, robust mutexes |
//! | [`Event`] | none, but 64 flags | `eventfd`, signals |
//! | [`Mailbox`] | of up to 64 types or priorities, among which receivers choose | System V and POSIX message queues |
//! | [`Pollable`] | a descriptor for a handle of any of these but `Semaphore` and `ByteStream` | pipes and queues in `epoll` loops |
//! | [`UntypedRing`] | of one size that this process learns at run time | tools that look into a `Ring<T>` |
//! | [`UntypedLatest`] | one value of a size that this process learns at run time | tools that look into a `Latest<T>` |
//!
//! ```no_run
//! use annulus::{Place, Ring};
//!
//! #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
//! #[repr(C)]
//! struct Tick { price: f64, size: u64 }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // One process:
//! let ring = Ring::<Tick>::builder(4096).create(Place::name("ticks")?)?;
//! let mut tx = ring.sender()?;
//! tx.send(Tick { price: 101.25, size: 300 })?;
//!
//! // Another process:
//! let ring = Ring::<Tick>::open(Place::name("ticks")?)?;
//! let mut rx = ring.receiver()?;
//! let tick = rx.recv()?;
//! # Ok(()) }
//! ```
//!
//! # Where things are
//!
//! | concept | file |
//! | --- | --- |
//! | the happens-before edges and their proof | `protocol/mod.rs` |
//! | every shared byte | `protocol/layout.rs` |
//! | cells of fixed-size messages; records of any size | `protocol/slots/`, `protocol/records.rs` |
//! | room and its release | `protocol/room.rs` |
//! | sleeping and waking; keeping a stream's sides apart | `protocol/park.rs`, `wait.rs`, `budget.rs`; `protocol/pace.rs` |
//! | claims of shared sides, and their journal | `protocol/claims/` |
//! | permits of a semaphore, flags of an event | `protocol/permits.rs`, `semaphore.rs`; `protocol/flags.rs`, `event.rs` |
//! | the latest value, its buffers and who reads them | `protocol/latest.rs`, `latest.rs`, `untyped_latest.rs` |
//! | every message for every receiver, and whom the sender waits for | `protocol/broadcast.rs`, `broadcast/` |
//! | lanes of many senders, and the doorbell | `protocol/lanes.rs`, `lanes.rs` |
//! | messages of many types, and who chooses among them | `protocol/mailbox/`, `mailbox/` |
//! | who is there, who is dead | `participants/`, `table.rs` |
//! | creating, publishing, checking segments | `segment/` |
//! | a ring in two halves that only their owners write | `segment/split.rs`, `split.rs` |
//! | how processes meet by a socket | `handshake/` |
//! | a connection; when it looks for an answer; descriptors along with its messages | `duplex.rs`; `rhythm.rs`; `passing.rs` |
//! | many connections | `hub/` |
//! | a descriptor for poll loops | `pollable/` |
//! | bytes without boundaries, one way and both ways | `stream/` |
//! | a system call | `sys/` |
//! | atomics, loom | `sync.rs` |
//!
//! # Limits
//!
//! 64-bit Linux on x86-64 and aarch64. Processes that have a ring open for use can write all of it, unless it is
//! split; see SECURITY.md for what that does and does not put at risk.

#![deny(unsafe_code)]

#[cfg(not(all(
    target_os = "linux",
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!(
    "annulus runs on 64-bit Linux, on x86-64 and aarch64: its layout and its waiting are made for them"
);

// Under loom only the protocols are built, and they are open to the models in `loom-tests`.
#[cfg(loom)]
#[allow(unsafe_code)]
pub mod payload;
#[cfg(loom)]
#[allow(unsafe_code)]
pub mod protocol;
#[cfg(loom)]
pub mod sync;

#[cfg(not(loom))]
#[allow(unsafe_code)]
mod broadcast;
#[cfg(not(loom))]
mod budget;
#[cfg(not(loom))]
mod builder;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod bytes;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod claimed;
#[cfg(not(loom))]
mod duplex;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod event;
#[cfg(not(loom))]
mod handshake;
#[cfg(not(loom))]
mod hub;
#[cfg(not(loom))]
pub mod inspect;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod lanes;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod latest;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod mailbox;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod participants;
#[cfg(not(loom))]
mod passing;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod payload;
// Its traits are sealed: nobody else comes to see what they deal in.
#[cfg(not(loom))]
#[allow(private_interfaces)]
mod pollable;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod protocol;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod reading;
#[cfg(not(loom))]
mod rhythm;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod ring;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod segment;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod semaphore;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod slots;
#[cfg(not(loom))]
mod split;
#[cfg(not(loom))]
mod stats;
#[cfg(not(loom))]
mod stream;
#[cfg(not(loom))]
mod sync;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod sys;
#[cfg(not(loom))]
mod table;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod untyped;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod untyped_latest;
#[cfg(not(loom))]
mod wait;

#[cfg(not(loom))]
pub use api::*;

/// The README's examples are tested with the others.
#[cfg(all(doctest, not(loom)))]
#[doc = include_str!("../README.md")]
struct Readme;

/// And those of the guide for users of the kernel's IPC.
#[cfg(all(doctest, not(loom)))]
#[doc = include_str!("../MOVING.md")]
struct Moving;

#[cfg(not(loom))]
mod api {
    pub use crate::broadcast::{
        Broadcast, BroadcastReceiver, BroadcastSender, ByteBroadcast, ByteBroadcastReceiver,
        ByteBroadcastSender,
    };
    pub use crate::builder::{Attach, Builder};
    pub use crate::bytes::{ByteReceiver, ByteRing, ByteSender, Grant, Message, Peek};
    pub use crate::claimed::Claimed;
    pub use crate::duplex::{ByteDuplex, Duplex};
    pub use crate::error::{
        AcquireError, AcquireTimeoutError, BroadcastRecvError, ByteSendError, ConnectError,
        EventError, EventTimeoutError, FdsError, LatestError, MailRecvError, MailSendError,
        RecvError, RecvIntoError, RecvTimeoutError, Refusal, ReleaseError, Role, SendAllError,
        SendError, SendTimeoutError, SetupError, TryAcquireError, TryRecvError, TrySendError,
    };
    pub use crate::event::{Event, EventHandle};
    pub use crate::handshake::{
        Address, Connect, Face, Invitation, Listener, ListenerOptions, Peer, connect,
    };
    pub use crate::hub::{ClientId, Hub, HubEvent, Member, Turn};
    pub use crate::latest::{Latest, LatestReader, LatestWriter};
    pub use crate::mailbox::{
        Letter, MailReceiver, MailSender, Mailbox, PeekedLetter, Subscription,
    };
    pub use crate::participants::Ending;
    pub use crate::pollable::{Pollable, Source};
    pub use crate::protocol::broadcast::{Delivery, Gate, Start};
    pub use crate::protocol::mailbox::Select;
    pub use crate::ring::{Drain, Iter, Receiver, Ring, Sender, TryIter};
    pub use crate::segment::{Place, RingKind, Topology};
    pub use crate::semaphore::{Holder, Permit, Semaphore};
    pub use crate::split::Split;
    pub use crate::stats::{Participant, Stats};
    pub use crate::stream::{
        ByteStream, ByteStreamReader, ByteStreamWriter, Stream, StreamReader, StreamWriter,
    };
    pub use crate::untyped::{UntypedReceiver, UntypedRing, UntypedSender};
    pub use crate::untyped_latest::{UntypedLatest, UntypedLatestReader, UntypedLatestWriter};
    pub use crate::wait::Wait;

    /// Removes the ring at `place`, if nobody uses it or `force` is given. Processes that have it open
    /// go on using it; it is only its name that goes.
    ///
    /// # Errors
    ///
    /// [`SetupError::InUse`] without `force`, [`SetupError::NotFound`],
    /// [`SetupError::PermissionDenied`], [`SetupError::NotAFile`].
    ///
    /// ```
    /// use annulus::{Place, Ring};
    ///
    /// let place = Place::name(&format!("example-{}", std::process::id()))?;
    /// Ring::<u64>::builder(16).persistent(true).create(place.clone())?;
    /// annulus::remove(&place, false)?;
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    pub fn remove(place: &Place, force: bool) -> Result<(), SetupError> {
        crate::segment::remove(place, force)
    }

    /// Changes who may open the ring at `place` from now on, by its permission bits. Those who have it open go on.
    /// Only the owner may, and not the superuser for another user.
    ///
    /// # Errors
    ///
    /// [`SetupError::InvalidMode`] for bits that a ring cannot have, [`SetupError::NotFound`],
    /// [`SetupError::PermissionDenied`], [`SetupError::NotARing`] and others as for [`Attach::open`].
    ///
    /// ```
    /// use annulus::{Place, Ring};
    ///
    /// let place = Place::name(&format!("example-mode-{}", std::process::id()))?;
    /// let ring = Ring::<u64>::builder(16).create(place.clone())?;
    /// annulus::set_mode(&place, 0o660)?;
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    pub fn set_mode(place: &Place, mode: u32) -> Result<(), SetupError> {
        crate::segment::set_mode(place, mode)
    }

    /// Gives the ring at `place` to another user, or group, by their ids; `None` leaves it as it is. The kernel lets the
    /// superuser do it, and an owner who gives it to a group that it is in.
    ///
    /// Whoever opens a ring that belongs to somebody else says so: see [`Attach::owner`].
    ///
    /// # Errors
    ///
    /// [`SetupError::NotFound`], [`SetupError::PermissionDenied`], [`SetupError::NotAFile`].
    pub fn set_owner(
        place: &Place,
        user: Option<u32>,
        group: Option<u32>,
    ) -> Result<(), SetupError> {
        crate::segment::set_owner(place, user, group)
    }
}
