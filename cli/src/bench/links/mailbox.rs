//! `Mailbox`: messages of several types, received whatever their type, by type, or by priority.

use std::marker::PhantomData;
use std::os::fd::OwnedFd;

use annulus::{MailReceiver, MailSender, Mailbox, Place, Select, SetupError};

use crate::bench::link::{Failure, Link, Refusal, Setup, Side, Transport};
use crate::bench::payload::Bytes;

/// Messages of each type in one direction.
const MESSAGES: usize = 256;
/// Types that the messages have in turn.
pub const TYPES: u8 = 4;

/// The type of the message that is sent or received as number `count` of its direction.
#[inline]
pub fn kind(count: u64) -> u8 {
    (count % u64::from(TYPES)) as u8 + 1
}

/// What a receiver asks for.
pub trait Asking {
    /// For its message number `count`.
    fn select(count: u64) -> Select;
    /// The type of that message.
    fn kind(count: u64) -> u8;
}

/// The oldest of any type.
pub struct Any;
/// Of one type after the other.
pub struct ByType;
/// Of the highest priority, which they all have.
pub struct Highest;

impl Asking for Any {
    #[inline]
    fn select(_: u64) -> Select {
        Select::Any
    }

    #[inline]
    fn kind(count: u64) -> u8 {
        kind(count)
    }
}

impl Asking for ByType {
    #[inline]
    fn select(count: u64) -> Select {
        Select::Type(kind(count))
    }

    #[inline]
    fn kind(count: u64) -> u8 {
        kind(count)
    }
}

impl Asking for Highest {
    #[inline]
    fn select(_: u64) -> Select {
        Select::Highest
    }

    #[inline]
    fn kind(_: u64) -> u8 {
        1
    }
}

/// A mailbox for each direction, by its descriptor, as for the [typed rings](super::ring::Rings).
pub struct Mailboxes<A> {
    forth: OwnedFd,
    back: OwnedFd,
    asking: PhantomData<A>,
}

impl<A: Asking> Transport for Mailboxes<A> {
    type Link = Ends<A>;

    fn prepare(setup: &Setup) -> Result<Self, Refusal> {
        let make = || -> Result<OwnedFd, SetupError> {
            let builder = Mailbox::builder(MESSAGES, setup.size).types(TYPES.into());
            builder.prefault(true).create(Place::memfd("annulus-bench")?)?.inheritable_fd()
        };
        let mailbox = || make().map_err(|error| Refusal::Broken(error.to_string()));
        Ok(Self { forth: mailbox()?, back: mailbox()?, asking: PhantomData })
    }

    fn attach(self, side: Side, setup: &Setup) -> Result<Ends<A>, Failure> {
        let (outgoing, incoming) = match side {
            Side::Near => (self.forth, self.back),
            Side::Far => (self.back, self.forth),
        };
        let wait = setup.wait.into();
        let ends = || -> Result<Ends<A>, SetupError> {
            let to_peer = Mailbox::from_fd(outgoing)?.sender()?.with_wait(wait);
            let from_peer = Mailbox::from_fd(incoming)?.receiver()?.with_wait(wait);
            Ok(Ends { to_peer, from_peer, sent: 0, received: 0, asking: PhantomData })
        };
        ends().map_err(|error| Failure::call("attach", error))
    }
}

/// One side's handles.
pub struct Ends<A> {
    to_peer: MailSender,
    from_peer: MailReceiver,
    sent: u64,
    received: u64,
    asking: PhantomData<A>,
}

impl<A: Asking> Link for Ends<A> {
    type Message = Bytes;

    #[inline]
    fn send(&mut self, message: &Bytes) -> Result<(), Failure> {
        let kind = A::kind(self.sent);
        self.sent += 1;
        self.to_peer.send(kind, &message.0).map_err(|error| Failure::call("send", error))
    }

    #[inline]
    fn recv(&mut self, message: &mut Bytes) -> Result<(), Failure> {
        let (select, kind) = (A::select(self.received), A::kind(self.received));
        self.received += 1;
        let letter = self.from_peer.recv(select, &mut message.0);
        let letter = letter.map_err(|error| Failure::call("recv", error))?;
        if letter.length != message.0.len() {
            return Err(Failure::wrong_length(letter.length, message.0.len()));
        }
        if letter.kind != kind {
            return Err(Failure::wrong_type(letter.kind.into(), kind.into()));
        }
        Ok(())
    }
}
