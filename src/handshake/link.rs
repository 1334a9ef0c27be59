//! What two connected processes know of each other beside their rings: the control socket, and who is there.

use super::inbox::Inbox;
use super::messages::Message;
use super::quota::Place;
use super::{receive, watch};
use crate::error::ConnectError;
use crate::participants;
use crate::segment::Segment;
use crate::sys::fork::PrivateFd;
use crate::sys::{socket, users};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock, Weak};

/// Who is at the other end of a connection, as the kernel says: the process that connected, or the one that
/// began to listen.
#[derive(Clone, Debug)]
pub struct Peer {
    pid: u32,
    uid: u32,
    gid: u32,
    /// Asked for when somebody wants it.
    pidfd: Arc<OnceLock<Option<OwnedFd>>>,
    socket: Weak<PrivateFd>,
}

impl Peer {
    pub(super) fn of(socket: &Arc<PrivateFd>) -> io::Result<Self> {
        let id = socket::peer(socket.as_fd())?;
        let (pidfd, socket) = (Arc::default(), Arc::downgrade(socket));
        Ok(Self { pid: id.pid as u32, uid: id.uid, gid: id.gid, pidfd, socket })
    }

    /// Its process id in this process's pid namespace; 0 if it has none there.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its effective user id.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Its effective group id.
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// A descriptor of the process, which names no other one when the id is used again. Since Linux 6.5.
    ///
    /// The kernel is asked the first time this is called, on this or a clone of it, and says nothing any more when the
    /// connection is closed on this side, or perhaps when the process has ended: whoever needs it then calls it before,
    /// also while deciding who is welcome.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        // A forked child does not ask: a thread of the parent's that was asking meanwhile would be waited for, for ever.
        if let Some(socket) = self.socket.upgrade().filter(|socket| socket.is_ours()) {
            self.pidfd.get_or_init(|| socket::peer_pidfd(socket.as_fd()));
        }
        self.pidfd.get()?.as_ref().map(|fd| fd.as_fd())
    }

    /// Whether it is this process's user, or the superuser, who could do to us whatever it wants anyhow.
    ///
    /// In a user namespace, users whom it does not know are shown with one id for all of them (65534, as a rule). They
    /// are not the same user as this process, even if that is shown so itself.
    pub fn is_same_user(&self) -> bool {
        users::is_same_or_root(self.uid)
    }
}

/// What was heard at the socket of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing.
    Silence,
    /// That this side should look at its rings.
    Bell,
    /// What no correct peer says.
    Nonsense,
    /// That the peer is gone from the socket, or will have nothing to do with this side.
    End,
}

/// The control socket of a connection. It lives as long as one of the two rings: when it closes, the peer knows
/// that this side has neither.
#[derive(Debug)]
pub(crate) struct Link {
    socket: Arc<PrivateFd>,
    peer: Peer,
    rings: [Weak<Segment>; 2],
    /// Its name with the thread that hears of hang-ups.
    watched: OnceLock<u64>,
    /// Whether the peer sleeps where a message on the socket wakes it.
    pub(super) has_bell: bool,
    pub(super) inbox: Mutex<Inbox>,
    /// A listener's client has one.
    _place: Option<Place>,
}

impl Link {
    /// The link of `rings`, which keep it; `has_bell` says that the peer wants to be rung for, and `place` is what it
    /// has among a listener's clients.
    pub(super) fn new(
        socket: Arc<PrivateFd>,
        peer: Peer,
        rings: [&Arc<Segment>; 2],
        has_bell: bool,
        place: Option<Place>,
    ) -> Arc<Self> {
        let weak = rings.map(Arc::downgrade);
        let (watched, inbox) = (OnceLock::new(), Mutex::default());
        let link = Self { socket, peer, rings: weak, watched, has_bell, inbox, _place: place };
        let link = Arc::new(link);
        for ring in rings {
            ring.keep_with(Arc::<Self>::clone(&link));
        }
        link
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The socket, for whoever waits for many of them.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Has a thread of this process's hear when the peer is gone.
    pub(super) fn watch(self: Arc<Self>) {
        if self.watched.get().is_none() && self.socket.is_ours() {
            // Of two threads that come at once the set takes the socket of one.
            if let Some(name) = watch::watch(self.socket.as_fd(), Arc::downgrade(&self)) {
                let _ = self.watched.set(name);
            }
        }
    }

    /// Whether it is this process's.
    pub(super) fn is_ours(&self) -> bool {
        self.socket.is_ours()
    }

    /// What the peer says on the socket, one message at a time. Descriptors that come with it are kept, if somebody
    /// wants them, and otherwise closed.
    pub(crate) fn hear(&self) -> Heard {
        match receive(self.socket.as_fd()) {
            Ok(None) => Heard::Silence,
            Ok(Some((Message::Bell, _))) => Heard::Bell,
            Ok(Some((Message::Descriptors { number, .. }, fds))) => {
                if self.put_fds(number, fds) {
                    Heard::Silence
                } else {
                    Heard::Nonsense
                }
            }
            // A client that does not accept the halves it was given says so: that is no offence.
            Err(ConnectError::Closed | ConnectError::Refused { .. }) => Heard::End,
            _ => Heard::Nonsense,
        }
    }

    /// Has those who wait for the peer ask whether it lives.
    pub(super) fn spread_rumour(&self) {
        for ring in self.rings.iter().filter_map(Weak::upgrade) {
            participants::spread_rumour(&ring);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(&name) = self.watched.get().filter(|_| self.socket.is_ours()) {
            watch::forget(name);
        }
    }
}
