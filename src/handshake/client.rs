//! The side that connects.

use super::messages::{BELL_PLEASE, FEATURES, Hello, Message, VERSION};
use super::{
    Address, Authorize, Channel, Face, Link, PATIENCE, Peer, label_of, one, receive, receive_by,
    refuse, send,
};
use crate::error::{ConnectError, Refusal};
use crate::segment::{OwnHalves, PeersHalves};
use crate::sys::clock::Monotonic;
use crate::sys::fork::PrivateFd;
use crate::sys::socket;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Between two attempts to connect to a listener that has as many waiting as it takes.
const PAUSE: Duration = Duration::from_millis(1);

/// How to connect to a [`Listener`](crate::Listener).
///
/// ```
/// use annulus::{ByteDuplex, Connect, ConnectError};
/// use std::time::Duration;
///
/// let connect = Connect::new().capacity(4096).label("lines/1").timeout(Duration::from_secs(1));
/// let nobody = connect.open::<ByteDuplex>("/run/no-such-socket");
/// assert!(matches!(nobody, Err(ConnectError::NotListening)));
/// ```
#[must_use = "nobody is connected to before `open`"]
pub struct Connect {
    there: Option<usize>,
    back: Option<usize>,
    label: String,
    timeout: Duration,
    authorize: Authorize,
}

impl Default for Connect {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect").field("label", &self.label).finish_non_exhaustive()
    }
}

/// Connects to the listener at `address`, with the defaults of [`Connect`].
///
/// # Errors
///
/// As for [`Connect::open`].
///
/// ```
/// use annulus::{Duplex, Listener};
///
/// let directory = std::env::temp_dir().join(format!("annulus-example-{}", std::process::id()));
/// std::fs::create_dir(&directory)?;
/// let path = directory.join("numbers.sock");
/// let mut listener = Listener::bind(&path)?;
/// let server = std::thread::spawn(move || {
///     let mut client: Duplex<u64> = listener.accept().unwrap();
///     let number = client.recv().unwrap();
///     client.send(number + 1).unwrap();
/// });
/// let mut server_side: Duplex<u64> = annulus::connect(&path)?;
/// server_side.send(41)?;
/// assert_eq!(server_side.recv()?, 42);
/// server.join().unwrap();
/// std::fs::remove_dir(&directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn connect<F: Face>(address: impl Into<Address>) -> Result<F, ConnectError> {
    Connect::new().open(address)
}

impl Connect {
    /// The defaults: rings for 1024 messages or 64 KiB, no label, five seconds, a listener of this user or of the
    /// superuser.
    pub fn new() -> Self {
        let authorize: Authorize = Box::new(Peer::is_same_user);
        Self { there: None, back: None, label: String::new(), timeout: PATIENCE, authorize }
    }

    /// Messages, or bytes of them, that fit into the rings, there and back.
    pub fn capacity(self, capacity: usize) -> Self {
        self.capacities(capacity, capacity)
    }

    /// The same, for each direction by itself: to the listener, and from it.
    pub fn capacities(mut self, there: usize, back: usize) -> Self {
        (self.there, self.back) = (Some(there), Some(back));
        self
    }

    /// A name for the messages, up to 64 bytes, that the listener must have, too. Default: none.
    pub fn label(mut self, label: &str) -> Self {
        label.clone_into(&mut self.label);
        self
    }

    /// How long all of it may take. Default: five seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Who may be at the other end: whoever `authorize` says `true` of. Default: this process's user and the
    /// superuser.
    ///
    /// The listener's process may have given its socket away since it began to listen, as service managers do:
    /// what is known here is who that was.
    pub fn authorize(mut self, authorize: impl FnMut(&Peer) -> bool + Send + 'static) -> Self {
        self.authorize = Box::new(authorize);
        self
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// [`ConnectError::NotListening`] and [`ConnectError::PermissionDenied`] if there is nobody to connect to;
    /// [`ConnectError::Untrusted`] if it is somebody else's; [`ConnectError::Refused`] and
    /// [`ConnectError::Version`] if the listener does not want this; [`ConnectError::Closed`] and
    /// [`ConnectError::Timeout`] if it does not answer; [`ConnectError::Protocol`] and [`ConnectError::Ring`] if what
    /// it answers is not acceptable, or there is no room for the rings; others as the kernel answers.
    pub fn open<F: Face>(mut self, address: impl Into<Address>) -> Result<F, ConnectError> {
        let deadline = Monotonic::now() + self.timeout;
        let raw = address.into().raw()?;
        let label = label_of(&self.label)?;
        let messages = F::messages();
        let there = messages.spec(self.there.unwrap_or(messages.capacity()), &self.label);
        let back = messages.spec(self.back.unwrap_or(messages.capacity()), &self.label);
        // Before anybody is bothered.
        there.check()?;
        back.check()?;
        let socket = PrivateFd::open_lockless(|| socket::new().map(File::from));
        let socket = Arc::new(socket.map_err(ConnectError::os("socket"))?);
        reach(&socket, &raw, deadline)?;
        let peer = Peer::of(&socket).map_err(ConnectError::os("asking for the peer"))?;
        if !(self.authorize)(&peer) {
            refuse(socket.as_fd(), Refusal::Untrusted);
            return Err(ConnectError::Untrusted { uid: peer.uid() });
        }
        let (size, align) = messages.said();
        let hello = Hello {
            version: VERSION,
            features: 0,
            kind: messages.kind.number(),
            size,
            align,
            there: there.capacity as u64,
            back: back.capacity as u64,
            label,
        };
        // While the listener wakes up.
        let own = OwnHalves::create(there.clone(), back.clone())?;
        let last_word = |error| last_word(socket.as_fd(), error);
        let hello_said = send(socket.as_fd(), Message::Hello(hello), &[own.descriptor()]);
        hello_said.map_err(last_word)?;
        let (answer, fds) = receive_by(socket.as_fd(), deadline).map_err(last_word)?;
        let asked = match answer {
            Message::Answer { features, .. } => features & FEATURES,
            _ => 0,
        };
        let wanted = Message::Answer {
            version: VERSION,
            features: asked,
            there: hello.there,
            back: hello.back,
        };
        let joined = if answer == wanted {
            one(fds).and_then(|fd| Ok(own.join(PeersHalves::open(fd, &there, &back)?)?))
        } else {
            Err(ConnectError::Protocol { reason: "answers something else than was asked" })
        };
        let (sends, receives) =
            joined.inspect_err(|_| refuse(socket.as_fd(), Refusal::Malformed))?;
        let (sends, receives) = (Arc::new(sends), Arc::new(receives));
        let has_bell = asked & BELL_PLEASE != 0;
        let link = Link::new(socket, peer, [&sends, &receives], has_bell, None);
        Ok(F::over(Channel { sends, receives, link })?)
    }
}

/// What a listener that went away in the middle of it had to say. If it left something unread, the kernel tells of its end
/// first, and then only of the refusal that it had sent before.
fn last_word(socket: BorrowedFd<'_>, error: ConnectError) -> ConnectError {
    if !matches!(error, ConnectError::Closed) {
        return error;
    }
    match receive(socket) {
        Err(said @ (ConnectError::Refused { .. } | ConnectError::Version { .. })) => said,
        _ => error,
    }
}

/// Connects the socket, waiting if the listener has as many waiting as it takes.
fn reach(
    socket: &PrivateFd,
    address: &socket::Address,
    deadline: Monotonic,
) -> Result<(), ConnectError> {
    loop {
        let Err(error) = socket::connect(socket.as_fd(), address) else { return Ok(()) };
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR | libc::ECONNREFUSED) => {
                return Err(ConnectError::NotListening);
            }
            Some(libc::EPROTOTYPE) => {
                return Err(ConnectError::Protocol { reason: "has a socket of another kind" });
            }
            _ if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            }
            _ => return Err(ConnectError::os("connect")(error)),
        }
        if Monotonic::now() >= deadline {
            return Err(ConnectError::Timeout);
        }
        thread::sleep(PAUSE);
    }
}
