//! The receiving side of a mailbox.

use super::Mailbox;
use super::seat::{self, Seat, mail, memory};
use crate::error::{Failure, MailRecvError, Role, SetupError};
use crate::participants::Participant;
use crate::protocol::Blocked;
use crate::protocol::layout::Half;
use crate::protocol::mailbox::{self, Found, Mail, RecvCursor, Select, Walk, is_removed};
use crate::protocol::park::{self, Answered};
use crate::protocol::room::Look;
use crate::sync::{Ordering, spin_hint};
use crate::sys::{futex, membarrier};
use crate::wait::{self, Berth, Wait, deadline_in};
use std::time::{Duration, Instant};

/// Copies of a message that is taken away meanwhile before a peek gives up.
const COPIES: usize = 64;
/// The longest pause after a lost claim is two to this many spin hints.
const LONGEST_PAUSE: u32 = 6;

/// What is known of a message that was received, or looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Letter {
    /// Its type.
    pub kind: u8,
    /// Its length in bytes.
    pub length: usize,
    /// Its number, by which [`Select::Any`] tells which of two types' next messages is older. Each number is drawn
    /// once; those of a type need not be in order.
    pub number: u64,
}

impl From<Found> for Letter {
    fn from(found: Found) -> Self {
        // There are at most 64 lanes.
        Self { kind: found.lane as u8 + 1, length: found.length, number: found.number }
    }
}

/// A message of a mailbox where it lies, which is not taken by looking at it; from [`MailReceiver::try_peek_batch`].
#[derive(Clone, Copy)]
pub struct PeekedLetter<'a> {
    found: Found,
    cursor: &'a RecvCursor,
    mail: Mail<'a>,
    side: &'a Participant,
}

impl PeekedLetter<'_> {
    /// What is known of it.
    pub fn letter(&self) -> Letter {
        self.found.into()
    }

    /// Its length in bytes.
    pub fn length(&self) -> usize {
        self.found.length
    }

    /// Copies the message to the start of `to`; `false` if a receiver has taken it meanwhile, and then there may be
    /// anything.
    ///
    /// # Panics
    ///
    /// If `to` is shorter than the message, or in a forked child.
    pub fn copy_to(&self, to: &mut [u8]) -> bool {
        let length = self.length();
        assert!(to.len() >= length, "a message of {length} bytes does not fit into {}", to.len());
        self.side.assert_ours();
        self.cursor.copy(self.mail, &self.found, to)
    }
}

impl std::fmt::Debug for PeekedLetter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeekedLetter").field("letter", &self.letter()).finish_non_exhaustive()
    }
}

/// One of the receivers of a [`Mailbox`]. It can move to another thread.
#[derive(Debug)]
pub struct MailReceiver {
    seat: Seat,
    cursor: RecvCursor,
    /// Which senders it has woken in each lane.
    answered: Box<[Answered]>,
}

impl MailReceiver {
    pub(super) fn join(mailbox: &Mailbox) -> Result<Self, SetupError> {
        let mut seat = Seat::take(mailbox, Role::Receiver)?;
        let spec = &mailbox.segment.spec;
        let (mail, me) = (mail(&seat.side, &seat.lanes, Role::Receiver), seat.side.entry());
        let cursor = RecvCursor::new(mail, spec.message_size, spec.capacity, me);
        let fences = !membarrier::is_registered();
        let answered = seat.lanes.iter().map(|lane| Answered::up_to_now(lane.sender, fences));
        let answered = answered.collect();
        seat.side.enter();
        // A receiver before this one may have died between making room and waking for it.
        let slept = |half: &Half| half.presence.asleep.load(Ordering::Relaxed) != 0;
        for lane in seat.lanes.iter().filter(|lane| slept(lane.sender)) {
            futex::wake_all(park::ring(lane.receiver));
        }
        // Wherever it may sleep.
        let lanes = seat.lanes.iter().map(|lane| lane.receiver);
        seat::ask_for_fences(lanes.chain([seat.side.own(), seat.side.peer()]));
        Ok(Self { seat, cursor, answered })
    }

    /// Receives the message that `select` wants first into the start of `buffer`, if there is one now.
    ///
    /// # Errors
    ///
    /// [`MailRecvError::Empty`]; [`MailRecvError::TooSmall`] if the message does not fit, in which case it stays and the
    /// error says how long it is; [`MailRecvError::NeverMatches`] if `select` names no type, or leaves none;
    /// [`MailRecvError::Removed`], [`MailRecvError::Corrupt`], [`MailRecvError::Forked`].
    ///
    /// ```
    /// use annulus::{MailRecvError, Mailbox, Place, Select};
    ///
    /// let mailbox = Mailbox::builder(16, 128).types(8).create(Place::memfd("orders")?)?;
    /// let (mut tx, mut rx) = (mailbox.sender()?, mailbox.receiver()?);
    /// tx.send(5, b"five")?;
    /// tx.send(3, b"three")?;
    /// let mut small = [0; 4];
    /// let error = rx.try_recv(Select::AtMost(5), &mut small).unwrap_err();
    /// assert_eq!(error, MailRecvError::TooSmall { length: 5, kind: 3 });
    /// assert_eq!(rx.try_recv(Select::Except(3), &mut small)?.kind, 5);
    /// assert_eq!(&small, b"five");
    /// assert_eq!(rx.try_recv(Select::Type(5), &mut small), Err(MailRecvError::Empty));
    /// assert!(matches!(
    ///     rx.try_recv(Select::Type(9), &mut small),
    ///     Err(MailRecvError::NeverMatches { types: 8 }),
    /// ));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_recv(&mut self, select: Select, buffer: &mut [u8]) -> Result<Letter, MailRecvError> {
        self.admit()?;
        let wanted = self.seat.mailbox.wanted(select)?;
        self.attempt(select, wanted, buffer)
    }

    /// Receives, waiting if there is no message, in the way that [`set_wait`](Self::set_wait) chose.
    ///
    /// # Errors
    ///
    /// As for [`try_recv`](Self::try_recv), without `Empty`.
    pub fn recv(&mut self, select: Select, buffer: &mut [u8]) -> Result<Letter, MailRecvError> {
        self.recv_until(select, buffer, None)
    }

    /// Receives, waiting for a message for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv), and [`MailRecvError::Timeout`].
    pub fn recv_timeout(
        &mut self,
        select: Select,
        buffer: &mut [u8],
        timeout: Duration,
    ) -> Result<Letter, MailRecvError> {
        self.recv_until(select, buffer, deadline_in(timeout))
    }

    /// Receives, waiting for a message until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv), and [`MailRecvError::Timeout`].
    pub fn recv_deadline(
        &mut self,
        select: Select,
        buffer: &mut [u8],
        deadline: Instant,
    ) -> Result<Letter, MailRecvError> {
        self.recv_until(select, buffer, Some(deadline))
    }

    /// Copies the message that `select` would want after `index` others into the start of `buffer`, and leaves it where
    /// it is: what `MSG_COPY` does, which knows the index only. With other receivers at work the index is as of
    /// about now.
    ///
    /// # Errors
    ///
    /// As for [`try_recv`](Self::try_recv); `Empty` if there are not so many, or if the message was taken away while it was
    /// copied, 64 times: look again, or take one.
    ///
    /// ```
    /// use annulus::{Mailbox, Place, Select};
    ///
    /// let mailbox = Mailbox::builder(16, 128).create(Place::memfd("orders")?)?;
    /// let (mut tx, mut rx) = (mailbox.sender()?, mailbox.receiver()?);
    /// for (kind, message) in [(7, b"one"), (4, b"two"), (7, b"six")] {
    ///     tx.send(kind, message)?;
    /// }
    /// let mut buffer = [0; 128];
    /// assert_eq!(rx.try_peek(Select::Any, 1, &mut buffer)?.kind, 4);
    /// assert_eq!(rx.try_peek(Select::Type(7), 1, &mut buffer)?.length, 3);
    /// assert_eq!(&buffer[..3], b"six");
    /// assert!(rx.try_peek(Select::Any, 3, &mut buffer).is_err());
    /// assert_eq!(mailbox.len(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_peek(
        &mut self,
        select: Select,
        index: usize,
        buffer: &mut [u8],
    ) -> Result<Letter, MailRecvError> {
        self.admit()?;
        let wanted = self.seat.mailbox.wanted(select)?;
        for _ in 0..COPIES {
            let mail = mail(&self.seat.side, &self.seat.lanes, Role::Receiver);
            let found = match self.cursor.nth(mail, select, wanted, index) {
                Ok(found) => fitting(found, buffer)?,
                Err(blocked) => return Err(self.refused(blocked).into()),
            };
            if self.cursor.copy(mail, &found, buffer) {
                return Ok(found.into());
            }
        }
        Err(MailRecvError::Empty)
    }

    /// Shows the messages that are there now to `each`, in the order in which `select` would want them, until it says
    /// `false`, and says how many it accepted. None is taken, and none is held: other receivers may take what is shown
    /// meanwhile. The time is that of one look at each, where [`try_peek`](Self::try_peek) passes all those before
    /// the one that it wants. In a child that `each` forks, the call ends after the message at hand.
    ///
    /// # Errors
    ///
    /// As for [`try_recv`](Self::try_recv), if there is no message, without `TooSmall`.
    ///
    /// ```
    /// use annulus::{Mailbox, Place, Select};
    ///
    /// let mailbox = Mailbox::builder(16, 128).create(Place::memfd("orders")?)?;
    /// let (mut tx, mut rx) = (mailbox.sender()?, mailbox.receiver()?);
    /// for (kind, message) in [(7, b"one"), (4, b"two"), (7, b"six")] {
    ///     tx.send(kind, message)?;
    /// }
    /// let mut all = [0; 9];
    /// let mut end = 0;
    /// let count = rx.try_peek_batch(Select::Highest, |letter| {
    ///     if letter.copy_to(&mut all[end..]) {
    ///         end += letter.length();
    ///     }
    ///     true
    /// })?;
    /// assert_eq!((&all, count, mailbox.len()), (b"onesixtwo", 3, 3));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_peek_batch(
        &mut self,
        select: Select,
        mut each: impl FnMut(PeekedLetter<'_>) -> bool,
    ) -> Result<usize, MailRecvError> {
        self.admit()?;
        let wanted = self.seat.mailbox.wanted(select)?;
        let Seat { side, lanes, .. } = &self.seat;
        let mail = mail(side, lanes, Role::Receiver);
        let mut walk = match Walk::new(&mut self.cursor, mail, select, wanted) {
            Ok(walk) => walk,
            Err(blocked) => return Err(self.refused(blocked).into()),
        };
        let mut count = 0;
        loop {
            let found = match walk.step(&mut self.cursor, mail) {
                Ok(Some(found)) => found,
                Ok(None) if count > 0 => return Ok(count),
                Ok(None) => return Err(self.refused(Blocked::NotReady).into()),
                Err(blocked) => return Err(self.refused(blocked).into()),
            };
            let accepted = each(PeekedLetter { found, cursor: &self.cursor, mail, side });
            // A child that `each` has forked has no mailbox to go on with.
            if !accepted || !side.is_ours() {
                return Ok(count);
            }
            count += 1;
        }
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

    pub(crate) fn side(&mut self) -> &mut Participant {
        &mut self.seat.side
    }

    /// Whether there is a message now that `select` wants, or the call fails.
    pub(crate) fn poll(&mut self, select: Select) -> Result<(), Failure> {
        // What it is the call says.
        let Ok(wanted) = self.seat.mailbox.wanted(select) else { return Ok(()) };
        if self.admit().is_err() {
            return Ok(());
        }
        let mail = mail(&self.seat.side, &self.seat.lanes, Role::Receiver);
        let found = self.cursor.find(mail, select, wanted, true);
        found.map(drop).map_err(|blocked| self.refused(blocked))
    }

    fn recv_until(
        &mut self,
        select: Select,
        buffer: &mut [u8],
        deadline: Option<Instant>,
    ) -> Result<Letter, MailRecvError> {
        self.admit()?;
        let wanted = self.seat.mailbox.wanted(select)?;
        let sleeps = self.seat.side.sleeps();
        loop {
            match self.attempt(select, wanted, buffer) {
                Err(MailRecvError::Empty) => self.wait_for_message((select, wanted), deadline)?,
                done => {
                    if self.seat.side.sleeps() != sleeps {
                        self.share(wanted);
                    }
                    return done;
                }
            }
            self.admit()?;
        }
    }

    /// Called when this side was woken and has taken what it takes: one may have been woken for a message that was not
    /// the next by then, and be asleep again; or this one, for a message that it leaves there. Not before it has
    /// taken it: others may have taken that one and those behind it meanwhile, who slept not and wake nobody.
    #[cold]
    #[inline(never)]
    fn share(&mut self, wanted: u64) {
        let mail = memory(&self.seat.mailbox, &self.seat.lanes);
        let place = mailbox::Berth::of_receiver(mail, wanted);
        if place.in_turn && self.cursor.has_more(mail, wanted) {
            futex::wake(park::ring(place.peer), 1);
        }
    }

    #[inline]
    fn admit(&mut self) -> Result<(), MailRecvError> {
        self.seat.side.admit()?;
        if is_removed(self.seat.side.own()) { Err(MailRecvError::Removed) } else { Ok(()) }
    }

    fn attempt(
        &mut self,
        select: Select,
        wanted: u64,
        buffer: &mut [u8],
    ) -> Result<Letter, MailRecvError> {
        let mut lost = 0;
        loop {
            let mail = mail(&self.seat.side, &self.seat.lanes, Role::Receiver);
            let found = match self.cursor.find(mail, select, wanted, false) {
                Ok(found) => fitting(found, buffer)?,
                Err(blocked) => return Err(self.refused(blocked).into()),
            };
            if self.cursor.take(mail, &found, buffer) {
                self.notify(found.lane);
                return Ok(found.into());
            }
            (0..1_u32 << lost).for_each(|_| spin_hint());
            lost = (lost + 1).min(LONGEST_PAUSE);
        }
    }

    /// There is room in `lane`.
    #[inline]
    fn notify(&mut self, lane: usize) {
        let (place, answered) = (&self.seat.lanes[lane], &mut self.answered[lane]);
        // P1 park.
        if answered.must_wake(place.sender) {
            let woken = futex::wake(self.seat.side.ring(place.receiver), 1);
            answered.woke(woken >= 1);
        }
    }

    #[cold]
    #[inline(never)]
    fn refused(&mut self, blocked: Blocked) -> Failure {
        let side = &mut self.seat.side;
        side.stuck = self.cursor.is_stuck();
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
    fn wait_for_message(
        &mut self,
        (select, wanted): (Select, u64),
        deadline: Option<Instant>,
    ) -> Result<(), Failure> {
        let Self { seat: Seat { side, lanes, mailbox }, cursor, .. } = self;
        let mail = memory(mailbox, lanes);
        let place = mailbox::Berth::of_receiver(mail, wanted);
        let berth = Berth { halves: Some((place.own, place.peer)), bits: place.bits };
        wait::wait_in(side, berth, deadline, |side, look| {
            side.admit()?;
            if is_removed(mail.receiver) {
                return Ok(());
            }
            let found = cursor.find(mail, select, wanted, look == Look::Exact);
            side.stuck = cursor.is_stuck();
            match found {
                Ok(_) => Ok(()),
                Err(Blocked::NotReady) => Err(Failure::NotReady),
                Err(Blocked::Corrupt) => {
                    side.poison();
                    Err(Failure::Corrupt)
                }
            }
        })
    }
}

fn fitting(found: Found, buffer: &[u8]) -> Result<Found, MailRecvError> {
    if found.length > buffer.len() {
        let Letter { kind, length, .. } = found.into();
        return Err(MailRecvError::TooSmall { length, kind });
    }
    Ok(found)
}
