//! The sending side of a mailbox.

use super::Mailbox;
use super::seat::{self, Seat, mail, wake_receivers};
use crate::error::{Failure, MailSendError, Role, SetupError};
use crate::protocol::Blocked;
use crate::protocol::mailbox::{Notifier, SendCursor, Whom, is_removed};
use crate::protocol::park;
use crate::sys::{futex, membarrier};
use crate::wait::{self, Berth, Wait, deadline_in};
use std::time::{Duration, Instant};

/// One of the senders of a [`Mailbox`]. It can move to another thread.
#[derive(Debug)]
pub struct MailSender {
    seat: Seat,
    cursor: SendCursor,
    notifier: Notifier,
}

impl MailSender {
    pub(super) fn join(mailbox: &Mailbox) -> Result<Self, SetupError> {
        let mut seat = Seat::take(mailbox, Role::Sender)?;
        let spec = &mailbox.segment.spec;
        let mail = mail(&seat.side, &seat.lanes, Role::Sender);
        let cursor = SendCursor::new(mail, spec.message_size, spec.capacity);
        let fences = !membarrier::is_registered();
        let notifier = Notifier::up_to_now(mail, fences);
        seat.side.enter();
        // A sender before this one may have died between a message and its wakes.
        wake_receivers(seat::mail(&seat.side, &seat.lanes, Role::Sender));
        seat::ask_for_fences(seat.lanes.iter().map(|lane| lane.sender));
        Ok(Self { seat, cursor, notifier })
    }

    /// Sends `message` as one of type `kind`, if there is room now. Never blocks.
    ///
    /// # Errors
    ///
    /// [`MailSendError::Full`], [`MailSendError::Removed`], [`MailSendError::TooLong`],
    /// [`MailSendError::NoSuchType`], [`MailSendError::Corrupt`], [`MailSendError::Forked`].
    ///
    /// ```
    /// use annulus::{MailSendError, Mailbox, Place};
    ///
    /// let mailbox = Mailbox::builder(1, 8).types(2).create(Place::memfd("orders")?)?;
    /// let mut tx = mailbox.sender()?;
    /// tx.try_send(1, b"first")?;
    /// assert_eq!(tx.try_send(1, b"second"), Err(MailSendError::Full));
    /// tx.try_send(2, b"other")?;
    /// assert!(matches!(tx.try_send(3, b""), Err(MailSendError::NoSuchType { types: 2, .. })));
    /// assert!(matches!(tx.try_send(2, b"much too long"), Err(MailSendError::TooLong { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_send(&mut self, kind: u8, message: &[u8]) -> Result<(), MailSendError> {
        self.admit()?;
        let lane = self.check(kind, message)?;
        self.attempt(lane, message)
    }

    /// Sends, waiting for room if there is none, in the way that [`set_wait`](Self::set_wait) chose.
    ///
    /// # Errors
    ///
    /// As for [`try_send`](Self::try_send), without `Full`.
    pub fn send(&mut self, kind: u8, message: &[u8]) -> Result<(), MailSendError> {
        self.send_until(kind, message, None)
    }

    /// Sends, waiting for room for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), and [`MailSendError::Timeout`].
    pub fn send_timeout(
        &mut self,
        kind: u8,
        message: &[u8],
        timeout: Duration,
    ) -> Result<(), MailSendError> {
        self.send_until(kind, message, deadline_in(timeout))
    }

    /// Sends, waiting for room until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), and [`MailSendError::Timeout`].
    pub fn send_deadline(
        &mut self,
        kind: u8,
        message: &[u8],
        deadline: Instant,
    ) -> Result<(), MailSendError> {
        self.send_until(kind, message, Some(deadline))
    }

    /// Chooses how this side waits. Default: [`Wait::Adaptive`].
    pub fn set_wait(&mut self, wait: Wait) {
        self.seat.side.set_wait(wait);
    }

    /// The same, for a handle that was just made.
    #[must_use]
    pub fn with_wait(mut self, wait: Wait) -> Self {
        self.set_wait(wait);
        self
    }

    /// The mailbox.
    pub fn mailbox(&self) -> &Mailbox {
        &self.seat.mailbox
    }

    fn send_until(
        &mut self,
        kind: u8,
        message: &[u8],
        deadline: Option<Instant>,
    ) -> Result<(), MailSendError> {
        self.admit()?;
        let lane = self.check(kind, message)?;
        loop {
            match self.attempt(lane, message) {
                Err(MailSendError::Full) => self.wait_for_room(lane, deadline)?,
                done => return done,
            }
            self.admit()?;
        }
    }

    #[inline]
    fn admit(&mut self) -> Result<(), MailSendError> {
        self.seat.side.admit()?;
        if is_removed(self.seat.side.peer()) { Err(MailSendError::Removed) } else { Ok(()) }
    }

    /// The lane for a message that can be sent at all.
    #[inline]
    fn check(&self, kind: u8, message: &[u8]) -> Result<usize, MailSendError> {
        let (types, longest) = (self.seat.lanes.len(), self.seat.mailbox.longest());
        if !(1..=types).contains(&usize::from(kind)) {
            return Err(MailSendError::NoSuchType { kind, types });
        }
        if message.len() > longest {
            return Err(MailSendError::TooLong { length: message.len(), longest });
        }
        Ok(usize::from(kind) - 1)
    }

    #[inline]
    fn attempt(&mut self, lane: usize, message: &[u8]) -> Result<(), MailSendError> {
        let Seat { side, lanes, .. } = &mut self.seat;
        let mail = mail(side, lanes, Role::Sender);
        match self.cursor.try_send(mail, lane, message) {
            Ok(()) => {
                self.notifier.notify(mail, lane, |half, whom| match whom {
                    Whom::One => futex::wake(side.ring(half), 1),
                    Whom::All(bits) => futex::wake_for(side.ring(half), bits),
                });
                Ok(())
            }
            Err(blocked) => Err(self.refused(lane, blocked).into()),
        }
    }

    #[cold]
    #[inline(never)]
    fn refused(&mut self, lane: usize, blocked: Blocked) -> Failure {
        let side = &mut self.seat.side;
        side.stuck = self.cursor.is_stuck(lane);
        match blocked {
            Blocked::Corrupt => {
                side.poison();
                Failure::Corrupt
            }
            Blocked::NotReady => {
                side.seems_gone();
                side.tend_now_and_then();
                Failure::NotReady
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn wait_for_room(&mut self, lane: usize, deadline: Option<Instant>) -> Result<(), Failure> {
        let Self { seat: Seat { side, lanes, .. }, cursor, .. } = self;
        let place = lanes[lane];
        // Senders of one type wait for one and the same thing, so as many are woken as there is room for.
        let berth = Berth { halves: Some((place.sender, place.receiver)), bits: futex::ANY };
        let sleeps = side.sleeps();
        let found = wait::wait_in(side, berth, deadline, |side, _| {
            side.admit()?;
            if is_removed(side.peer()) {
                return Ok(());
            }
            let found = cursor.look(mail(side, lanes, Role::Sender), lane);
            side.stuck = cursor.is_stuck(lane);
            match found {
                Ok(()) => Ok(()),
                Err(Blocked::NotReady) => Err(Failure::NotReady),
                Err(Blocked::Corrupt) => {
                    side.poison();
                    Err(Failure::Corrupt)
                }
            }
        });
        // One may have been woken for room that was not the next by then, and be asleep again.
        if side.sleeps() != sleeps && cursor.is_plenty(mail(side, lanes, Role::Sender), lane) {
            futex::wake(park::ring(place.receiver), 1);
        }
        found
    }
}
