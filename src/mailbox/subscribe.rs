//! Listeners: told that messages came, without taking any.

use super::Mailbox;
use super::seat::{lanes, memory};
use crate::error::MailRecvError;
use crate::protocol::claims::Claims;
use crate::protocol::mailbox::{Arrivals, Berth, Select};
use crate::protocol::park::{self, Barrier};
use crate::sys::membarrier;
use crate::wait::{self, deadline_in};
use std::time::{Duration, Instant};

/// A listener of a [`Mailbox`], made by [`Mailbox::subscribe`]: it hears of every message that comes, also of
/// those that a receiver was waiting for and has taken by now. It takes none itself, needs no place among the
/// participants, and there may be any number.
///
/// That is `mq_notify` without what makes it hard to use: that tells one process, once, and not at all while another
/// one is blocked in `mq_receive`.
#[derive(Debug)]
pub struct Subscription {
    arrivals: Arrivals,
    wanted: u64,
    barrier: Barrier,
    lanes: Box<[Claims<'static>]>,
    /// Keeps what the lanes point to.
    mailbox: Mailbox,
}

impl Subscription {
    pub(super) fn of(mailbox: &Mailbox, select: Select) -> Result<Self, MailRecvError> {
        let segment = &mailbox.segment;
        if !segment.is_ours() {
            return Err(MailRecvError::Forked);
        }
        let wanted = mailbox.wanted(select)?;
        if mailbox.is_removed() {
            return Err(MailRecvError::Removed);
        }
        // SAFETY: they are kept beside the mailbox, which has a part in the segment.
        let lanes = unsafe { lanes(segment, 0) };
        let barrier = if membarrier::is_registered() {
            Barrier::Membarrier
        } else {
            park::insist_on_fences(
                &Berth::of_listener(memory(mailbox, &lanes), wanted).own.presence,
            );
            Barrier::Fence
        };
        let spec = &segment.spec;
        let arrivals =
            Arrivals::up_to_now(memory(mailbox, &lanes), spec.message_size, spec.capacity);
        Ok(Self { arrivals, wanted, barrier, lanes, mailbox: mailbox.clone() })
    }

    /// The same listener as of now, for what `select` wants.
    pub(crate) fn again(mut self, select: Select) -> Result<Self, MailRecvError> {
        self.wanted = self.mailbox.wanted(select)?;
        if self.mailbox.is_removed() {
            return Err(MailRecvError::Removed);
        }
        self.arrivals.count(memory(&self.mailbox, &self.lanes), u64::MAX);
        Ok(self)
    }

    /// For what of 32 things it is to be woken.
    pub(crate) fn bits(&self) -> u32 {
        Berth::of_listener(memory(&self.mailbox, &[]), self.wanted).bits
    }

    /// How many messages have come since this listener was last told, or was made. Never blocks.
    ///
    /// A message is counted once it can be received. Where a sender was killed in the middle of a send, its place may be
    /// counted, too, if it is asked for only after the place was used again.
    ///
    /// # Errors
    ///
    /// [`MailRecvError::Removed`], [`MailRecvError::Forked`].
    pub fn try_wait(&mut self) -> Result<u64, MailRecvError> {
        if !self.mailbox.segment.is_ours() {
            return Err(MailRecvError::Forked);
        }
        if self.mailbox.is_removed() {
            return Err(MailRecvError::Removed);
        }
        Ok(self.arrivals.count(memory(&self.mailbox, &self.lanes), self.wanted))
    }

    /// Sleeps until a message has come, and says how many have.
    ///
    /// # Errors
    ///
    /// As for [`try_wait`](Self::try_wait).
    pub fn wait(&mut self) -> Result<u64, MailRecvError> {
        self.wait_until(None)
    }

    /// The same for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait), and [`MailRecvError::Timeout`].
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<u64, MailRecvError> {
        self.wait_until(deadline_in(timeout))
    }

    /// The same until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait), and [`MailRecvError::Timeout`].
    pub fn wait_deadline(&mut self, deadline: Instant) -> Result<u64, MailRecvError> {
        self.wait_until(Some(deadline))
    }

    /// The mailbox.
    pub fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    fn wait_until(&mut self, deadline: Option<Instant>) -> Result<u64, MailRecvError> {
        let mailbox = self.mailbox.clone();
        if !mailbox.segment.is_ours() {
            return Err(MailRecvError::Forked);
        }
        let berth = Berth::of_listener(memory(&mailbox, &[]), self.wanted);
        let (halves, waiting) = ((berth.own, berth.peer), (berth.bits, self.barrier));
        let found = wait::watch(halves, waiting, deadline, || match self.try_wait() {
            Ok(0) => None,
            done => Some(done),
        });
        found.unwrap_or(Err(MailRecvError::Timeout))
    }
}
