//! How two processes meet: one listens at an address, the other connects, and each gives the other its halves of
//! two rings.
//!
//! ```text
//! client                                           listener
//! who is it? (SO_PEERCRED)                         who is it? (SO_PEERCRED)
//! its halves; HELLO: version, messages,
//! capacities, label, with a descriptor of them ->  does it match, is it within the limits?
//!                                                  seals, size, headers; halves like them
//!                                              <-  ANSWER, with a descriptor of those
//! seals, size, headers
//! ```
//!
//! Either side may say REFUSE instead and hang up. Each step has one message that may come, of one length, with one
//! descriptor; anything else ends the connection. All of it has one deadline. The socket stays open for as
//! long as either ring, and tells by closing that this side is gone. Nothing more is said on it but to a listener that
//! has asked for it in its ANSWER: BELL, when it has said in a ring that it is about to sleep, and should look.
//!
//! A client that has the ANSWER knows that the listener has accepted its halves. A listener that has sent it has a
//! connection, though it cannot know that the client will accept its own: if it does not, or is gone, the
//! connection ends like that of any client that dies.
//!
//! A side's halves are locked before their descriptor is sent, so whoever has been given one can ask the kernel
//! from the start whether the other lives.

mod address;
mod client;
mod inbox;
mod link;
mod listener;
mod messages;
mod quota;
mod spare;
mod ticket;
mod watch;

pub use address::Address;
pub use client::{Connect, connect};
pub(crate) use link::Link;
pub use link::Peer;
pub use listener::{Listener, ListenerOptions};
pub use ticket::Invitation;
pub(crate) use ticket::{invite, take};

use crate::error::{ConnectError, Refusal, SetupError};
use crate::protocol::layout::LABEL;
use crate::protocol::records;
use crate::segment::{RingKind, Segment, Spec};
use crate::sys::clock::Monotonic;
use crate::sys::socket;
pub(crate) use link::Heard;
use messages::{BUFFER, Message, VERSION};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How long a handshake may take, if nobody says.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes that a peer may have this side make, if nobody says.
pub(crate) const MOST_BYTES: u64 = 64 << 20;

/// Whether a peer is welcome.
type Authorize = Box<dyn FnMut(&Peer) -> bool + Send>;

/// What a connection looks like to the program; sealed by being out of reach.
pub trait Face: Sized {
    /// The messages.
    #[doc(hidden)]
    fn messages() -> Messages;

    /// The connection over two rings, of which this process sends into the first.
    #[doc(hidden)]
    fn over(channel: Channel) -> Result<Self, SetupError>;
}

/// What kind of messages a connection has, in a coat that only this crate can open.
#[derive(Clone, Copy, Debug)]
pub struct Messages {
    pub(crate) kind: RingKind,
    /// Size and alignment; of no meaning where messages have any size.
    pub(crate) message: (usize, usize),
}

impl Messages {
    /// A ring of them.
    fn spec(self, capacity: usize, label: &str) -> Spec {
        let message = match self.kind {
            RingKind::Bytes => (records::max_message(capacity), 1),
            _ => self.message,
        };
        let mut spec = Spec::sole(self.kind, capacity, message);
        label.clone_into(&mut spec.label);
        spec
    }

    /// Size and alignment as they are said to the peer.
    fn said(self) -> (u64, u64) {
        match self.kind {
            RingKind::Bytes => (0, 1),
            _ => (self.message.0 as u64, self.message.1 as u64),
        }
    }

    /// The capacity if nobody says.
    fn capacity(self) -> usize {
        match self.kind {
            RingKind::Bytes => 64 * 1024,
            _ => 1024,
        }
    }
}

/// Two rings and what else the two processes have in common, in a coat that only this crate can open.
#[derive(Debug)]
pub struct Channel {
    pub(crate) sends: Arc<Segment>,
    pub(crate) receives: Arc<Segment>,
    pub(crate) link: Arc<Link>,
}

/// The bytes of a label, or why it is none.
fn label_of(label: &str) -> Result<[u8; LABEL], SetupError> {
    let mut bytes = [0; LABEL];
    let Some(to) = bytes.get_mut(..label.len()).filter(|_| !label.contains('\0')) else {
        let reason =
            "is too long for a label or contains a zero byte; give up to 64 bytes without any";
        return Err(SetupError::InvalidName { name: label.to_owned(), reason });
    };
    to.copy_from_slice(label.as_bytes());
    Ok(bytes)
}

fn send(
    socket: BorrowedFd<'_>,
    message: Message,
    fds: &[BorrowedFd<'_>],
) -> Result<(), ConnectError> {
    debug_assert!(message.fds().is_none_or(|count| count == fds.len()));
    // A socket takes a few such messages without its other side's help.
    socket::send(socket, &message.to_bytes(), fds).map_err(ConnectError::os("sending a message"))
}

/// Says why there will be no connection, if the peer can still hear it.
fn refuse(socket: BorrowedFd<'_>, refusal: Refusal) {
    let _ = send(socket, Message::Refuse { refusal, version: VERSION }, &[]);
}

/// The next message and its descriptors, if it is there; `None` if it is not.
fn receive(socket: BorrowedFd<'_>) -> Result<Option<(Message, Vec<OwnedFd>)>, ConnectError> {
    let mut buffer = [0; BUFFER + 8];
    let received = match socket::receive(socket, &mut buffer) {
        Ok(received) => received,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(ConnectError::os("receiving a message")(error)),
    };
    if received.len == 0 {
        return Err(ConnectError::Closed);
    }
    if received.cut {
        return Err(ConnectError::Protocol { reason: "sends more than the handshake has" });
    }
    let message = Message::of_bytes(&buffer[..received.len])?;
    if message.fds().is_some_and(|count| count != received.fds.len()) {
        return Err(ConnectError::Protocol { reason: "sends a wrong number of descriptors" });
    }
    match message {
        // Who speaks another version may not even understand that this is the reason.
        Message::Refuse { refusal: Refusal::Version | Refusal::Malformed, version }
            if version != VERSION =>
        {
            Err(ConnectError::Version { ours: VERSION, theirs: version })
        }
        Message::Refuse { refusal, .. } => Err(ConnectError::Refused { refusal }),
        message => Ok(Some((message, received.fds))),
    }
}

/// How long an answer is looked for before a sleep: the other side needs about that long to make one, and a sleep and a
/// wake cost as much.
const SPIN: Duration = Duration::from_micros(60);

/// The next message and its descriptors, when it comes.
fn receive_by(
    socket: BorrowedFd<'_>,
    deadline: Monotonic,
) -> Result<(Message, Vec<OwnedFd>), ConnectError> {
    let asleep = Monotonic::now() + SPIN;
    while Monotonic::now() < asleep {
        if let Some(received) = receive(socket)? {
            return Ok(received);
        }
        // Who is woken by a message on a socket comes to the processor of who sent it, as a rule.
        thread::yield_now();
    }
    loop {
        if let Some(received) = receive(socket)? {
            return Ok(received);
        }
        if Monotonic::now() >= deadline {
            return Err(ConnectError::Timeout);
        }
        socket::wait(&[socket], Some(deadline)).map_err(ConnectError::os("poll"))?;
    }
}

/// The descriptor of a message that has one.
fn one(mut fds: Vec<OwnedFd>) -> Result<OwnedFd, ConnectError> {
    let reason = "sends a wrong number of descriptors";
    fds.pop().filter(|_| fds.is_empty()).ok_or(ConnectError::Protocol { reason })
}
