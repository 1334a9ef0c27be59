//! Descriptors that come along with messages: sent on the control socket, each lot with the number of its message.
//!
//! They are sent before the message is published, so whoever has received the message finds them in the socket.
//! Numbers only grow; so the first lot with a later number ends the search, and is all that has to be kept for later,
//! unless somebody else reads the socket, too (a hub, for bells).

use super::Link;
use super::messages::Message;
use super::{receive, send};
use crate::error::{ConnectError, FdsError};
use crate::segment::Company;
use crate::sys::socket::{self, MOST_FDS};
use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, PoisonError};

/// Messages on the socket that are passed over in one search. A correct peer's are no more than a socket holds.
const MOST_PASSED_OVER: usize = 4096;

/// What came before its message was received.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    lots: VecDeque<(u64, Vec<OwnedFd>)>,
    /// How many lots are kept for a hub; no more are taken from the peer.
    most: usize,
}

impl Inbox {
    /// Takes what belongs to the message of `number`, if that or a later one is here; what is of an earlier one goes.
    fn take(&mut self, number: u64) -> Option<Vec<OwnedFd>> {
        while self.lots.front().is_some_and(|&(of, _)| of < number) {
            self.lots.pop_front();
        }
        match self.lots.front()?.0 == number {
            true => self.lots.pop_front().map(|(_, fds)| fds),
            false => Some(Vec::new()),
        }
    }
}

impl Link {
    /// Sends what belongs to the message of `number`, which is not published before this is done.
    pub(crate) fn send_fds(&self, number: u64, fds: &[BorrowedFd<'_>]) -> Result<(), FdsError> {
        if fds.is_empty() {
            return Ok(());
        }
        if fds.len() > MOST_FDS {
            return Err(FdsError::TooMany { most: MOST_FDS });
        }
        let message = Message::Descriptors { number, count: fds.len() as u64 };
        match socket::send(self.socket(), &message.to_bytes(), fds) {
            Ok(()) => Ok(()),
            Err(error) => Err(match error.raw_os_error() {
                Some(libc::EAGAIN) => FdsError::NotTaken,
                Some(libc::EPIPE | libc::ECONNRESET) => FdsError::Disconnected,
                _ => FdsError::Os(error),
            }),
        }
    }

    /// What came with the message of `number`, which was just received.
    pub(crate) fn take_fds(&self, number: u64) -> Result<Vec<OwnedFd>, FdsError> {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fds) = inbox.take(number) {
            return Ok(fds);
        }
        for _ in 0..MOST_PASSED_OVER {
            match receive(self.socket()) {
                Ok(None) => return Ok(Vec::new()),
                Ok(Some((Message::Descriptors { number: of, .. }, fds))) if of == number => {
                    return Ok(fds);
                }
                Ok(Some((Message::Descriptors { number: of, .. }, fds))) if of > number => {
                    inbox.lots.push_back((of, fds));
                    return Ok(Vec::new());
                }
                // Of a message that was received without; or a bell, which rings for who is awake.
                Ok(Some((Message::Descriptors { .. } | Message::Bell, _))) => {}
                // The message is there, its sender is not.
                Err(ConnectError::Closed | ConnectError::Refused { .. }) => return Ok(Vec::new()),
                Err(ConnectError::Os { source, .. }) => return Err(FdsError::Os(source)),
                _ => return Err(FdsError::Corrupt),
            }
        }
        Err(FdsError::Corrupt)
    }

    /// Keeps up to `most` lots that come while a hub listens for bells.
    pub(crate) fn keep_fds(&self, most: usize) {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).most = most;
    }

    /// Takes what came while a hub listened; whether there may be as much.
    pub(super) fn put_fds(&self, number: u64, fds: Vec<OwnedFd>) -> bool {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        if inbox.most == 0 {
            // Nobody asked for any.
            return true;
        }
        let fits = inbox.lots.len() < inbox.most;
        if fits {
            inbox.lots.push_back((number, fds));
        }
        fits
    }
}

impl Company for Link {
    fn attend(self: Arc<Self>) {
        self.watch();
    }

    fn ring(&self) {
        if self.has_bell && self.is_ours() {
            // Where there is no room for more, it has enough to hear already; and where it is gone, nobody listens.
            let _ = send(self.socket(), Message::Bell, &[]);
        }
    }
}
