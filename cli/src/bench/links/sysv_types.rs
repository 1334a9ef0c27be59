//! System V message queues whose messages have types in turn: received whatever their type, or by type.

use std::marker::PhantomData;

use libc::c_long;

use super::mailbox::{Asking, kind};
use super::sysv_queue::{self, SysvQueues, Typed};
use crate::bench::link::{Failure, Link, Refusal, Setup, Side, Transport};
use crate::bench::payload::Payload;

/// What `msgrcv` is given for a receiver's message number `count`.
pub trait Wanted: Asking {
    fn wanted(count: u64) -> c_long;
}

impl Wanted for super::mailbox::Any {
    #[inline]
    fn wanted(_: u64) -> c_long {
        0
    }
}

impl Wanted for super::mailbox::ByType {
    #[inline]
    fn wanted(count: u64) -> c_long {
        kind(count).into()
    }
}

/// A queue for each direction.
pub struct TypedQueues<W>(SysvQueues, PhantomData<W>);

impl<W: Wanted> Transport for TypedQueues<W> {
    type Link = Ends<W>;

    fn prepare(setup: &Setup) -> Result<Self, Refusal> {
        Ok(Self(SysvQueues::prepare(setup)?, PhantomData))
    }

    fn attach(self, side: Side, setup: &Setup) -> Result<Ends<W>, Failure> {
        let ends = self.0.attach(side, setup)?;
        let outgoing = Typed::blank(setup.size);
        Ok(Ends { ends, outgoing, sent: 0, received: 0, wanted: PhantomData })
    }
}

/// One side's view of both queues.
pub struct Ends<W> {
    ends: sysv_queue::Ends,
    /// What `msgsnd` is given: the type has to stand before the message.
    outgoing: Typed,
    sent: u64,
    received: u64,
    wanted: PhantomData<W>,
}

impl<W: Wanted> Link for Ends<W> {
    type Message = Typed;

    #[inline]
    fn send(&mut self, message: &Typed) -> Result<(), Failure> {
        self.outgoing.copy(message, W::kind(self.sent).into());
        self.sent += 1;
        self.ends.send(&self.outgoing)
    }

    #[inline]
    fn recv(&mut self, message: &mut Typed) -> Result<(), Failure> {
        let (wanted, kind) = (W::wanted(self.received), W::kind(self.received).into());
        self.received += 1;
        self.ends.recv_wanted(wanted, message)?;
        if message.kind() == kind { Ok(()) } else { Err(Failure::wrong_type(message.kind(), kind)) }
    }
}
