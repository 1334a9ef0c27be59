//! A role of a split ring for another process, as one descriptor.
//!
//! ```text
//! who invites                                        who has the ticket
//! its half; INVITE, with a descriptor of it  ->     (waits in the socket until the ticket is used)
//!                                                    seals, size, header; a half like it for the other role
//!                                            <-     TAKEN, with a descriptor of that
//! seals, size, header
//! ```
//!
//! The ticket is one end of a pair of sockets. A half that was made for somebody else could not be enforced: until its
//! owner has mapped and sealed it, whoever has a descriptor of it could map it for writing, and keep that. So what is
//! handed over is not a half but the right to make one, and the first to use it is the only one.

use super::messages::Message;
use super::{one, receive, receive_by, send};
use crate::builder::{Kind, Sealed};
use crate::error::{ConnectError, Role};
use crate::segment::{Expected, OwnHalf};
use crate::sys::clock::Monotonic;
use crate::sys::fork::PrivateFd;
use crate::sys::socket;
use std::fs::File;
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// A ring of which the other role was handed over as a ticket, and is not taken yet. Made by
/// [`Builder::hand_over`](crate::Builder::hand_over).
#[derive(Debug)]
#[must_use = "half a ring carries no messages until it is joined"]
pub struct Invitation<R> {
    role: Role,
    /// Until there was an answer.
    open: Option<Open>,
    ring: PhantomData<fn() -> R>,
}

/// What there is while nobody has answered.
#[derive(Debug)]
struct Open {
    half: OwnHalf,
    socket: PrivateFd,
}

/// Makes this side's half, and a ticket for the other one.
pub(crate) fn invite<R>(half: OwnHalf) -> Result<(Invitation<R>, OwnedFd), ConnectError> {
    let mut ticket = None;
    let socket = PrivateFd::open_lockless(|| {
        let (ours, theirs) = socket::pair()?;
        ticket = Some(theirs);
        Ok(File::from(ours))
    });
    let socket = socket.map_err(ConnectError::os("socketpair"))?;
    let role = half.role().peer();
    send(socket.as_fd(), Message::Invite { role }, &[half.descriptor()?.as_fd()])?;
    let ticket = ticket.expect("made with the other end");
    socket::keep_across_exec(ticket.as_fd()).map_err(ConnectError::os("fcntl"))?;
    let (role, open) = (half.role(), Some(Open { half, socket }));
    Ok((Invitation { role, open, ring: PhantomData }, ticket))
}

impl<R: Kind> Invitation<R> {
    /// The role that this process has.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The ring, when the ticket is used within `timeout`. If it was not, the ticket is still good, and this can be called
    /// again; to take it back, drop the invitation.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Timeout`] if it was not; [`ConnectError::Closed`] if nobody has it any more, which can be seen
    /// only if this process has dropped its own, or if there was an answer before; [`ConnectError::Protocol`] and
    /// [`ConnectError::Ring`] if whoever has it does something else; [`ConnectError::Forked`] in a forked child.
    pub fn join(&mut self, timeout: Duration) -> Result<R, ConnectError> {
        let Some(open) = &self.open else { return Err(ConnectError::Closed) };
        if !open.socket.is_ours() {
            return Err(ConnectError::Forked);
        }
        let deadline = Monotonic::now() + timeout;
        let answer = match receive_by(open.socket.as_fd(), deadline) {
            Err(ConnectError::Timeout) => return Err(ConnectError::Timeout),
            answer => answer,
        };
        // Whatever it was, there is no second one.
        let Some(Open { half, socket: _socket }) = self.open.take() else {
            return Err(ConnectError::Closed);
        };
        match answer? {
            (Message::Taken, fds) => {
                let segment = half.join(one(fds)?)?;
                Ok(R::in_segment(Sealed(Arc::new(segment))))
            }
            _ => Err(ConnectError::Protocol { reason: "says something out of turn" }),
        }
    }
}

/// Takes the role for which `ticket` is.
pub(crate) fn take<R: Kind>(ticket: OwnedFd, expected: &Expected) -> Result<R, ConnectError> {
    let socket = PrivateFd::open_lockless(|| Ok::<_, ConnectError>(File::from(ticket)))?;
    let Some((message, fds)) = receive(socket.as_fd())? else {
        return Err(ConnectError::Protocol { reason: "has had its ticket used already" });
    };
    let Message::Invite { role } = message else {
        return Err(ConnectError::Protocol { reason: "says something out of turn" });
    };
    let theirs = one(fds)?;
    let half = OwnHalf::like(&theirs, role, expected)?;
    let ours = half.descriptor()?;
    let segment = half.join(theirs)?;
    send(socket.as_fd(), Message::Taken, &[ours.as_fd()])?;
    Ok(R::in_segment(Sealed(Arc::new(segment))))
}
