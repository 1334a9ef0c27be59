//! What two connected processes know of each other beside their rings: the control socket, and who is there.

use super::watch;
use crate::participants;
use crate::segment::{Company, Segment};
use crate::sys::fork::PrivateFd;
use crate::sys::socket;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock, Weak};

/// Who is at the other end of a connection, as the kernel says: the process that connected, or the one that
/// began to listen.
#[derive(Clone, Debug)]
pub struct Peer {
    pid: u32,
    uid: u32,
    gid: u32,
    pidfd: Option<Arc<OwnedFd>>,
}

impl Peer {
    pub(super) fn of(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let id = socket::peer(socket)?;
        let pidfd = socket::peer_pidfd(socket).map(Arc::new);
        Ok(Self { pid: id.pid as u32, uid: id.uid, gid: id.gid, pidfd })
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
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(|fd| fd.as_fd())
    }

    /// Whether it is this process's user, or the superuser, who could do to us whatever it wants anyhow.
    pub fn is_same_user(&self) -> bool {
        self.uid == 0 || self.uid == nix::unistd::geteuid().as_raw()
    }
}

/// The control socket of a connection. It lives as long as one of the two rings: when it closes, the peer knows
/// that this side has neither.
#[derive(Debug)]
pub(crate) struct Link {
    _socket: PrivateFd,
    peer: Peer,
    rings: [Weak<Segment>; 2],
    watched: OnceLock<u64>,
}

impl Link {
    /// The link of `rings`, which keep it.
    pub(super) fn new(socket: PrivateFd, peer: Peer, rings: [&Arc<Segment>; 2]) -> Arc<Self> {
        let weak = rings.map(Arc::downgrade);
        let link = Self { _socket: socket, peer, rings: weak, watched: OnceLock::new() };
        let link = Arc::new(link);
        if let Some(name) = watch::watch(link._socket.as_fd(), Arc::downgrade(&link)) {
            let _ = link.watched.set(name);
        }
        for ring in rings {
            ring.keep_with(Arc::<Self>::clone(&link));
        }
        link
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Has those who wait for the peer ask whether it lives.
    pub(super) fn spread_rumour(&self) {
        for ring in self.rings.iter().filter_map(Weak::upgrade) {
            participants::spread_rumour(&ring);
        }
    }
}

impl Company for Link {}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(&name) = self.watched.get().filter(|_| self._socket.is_ours()) {
            watch::forget(name);
        }
    }
}
