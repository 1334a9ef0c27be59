//! The two sides of a broadcast, whatever its messages: the protocol, the participant and the waiting put together.
//! `Broadcast` and `ByteBroadcast` are faces of these.

use crate::error::{BroadcastRecvError, Failure, Role, SetupError};
use crate::participants::Participant;
use crate::protocol::Blocked;
use crate::protocol::broadcast::{self, Delivery, Found, Heard, Start};
use crate::protocol::slots::Shape;
use crate::segment::{Attached, Segment};
use crate::sync::Word;
use crate::wait::{self, deadline_in};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The memory of the ring in a segment.
#[inline(always)]
pub(crate) fn memory(attached: &Attached) -> broadcast::Broadcast<'_> {
    broadcast::Broadcast {
        sender: attached.half(Role::Sender),
        meeting: attached.half(Role::Receiver),
        table: attached.table(),
        places: attached.places(),
        words: attached.words(),
    }
}

/// What a receiver sees of the memory, for a cursor that lies beside `side`.
fn heard_by(side: &Participant) -> Heard<'static> {
    let heard = memory(&side.attached).heard_by(side.entry());
    // SAFETY: what the references point to is the segment's mapping, which stays where it is as long as `side` has a
    // part in the segment; they are kept beside `side`, in a struct that has no `drop` of its own.
    unsafe { std::mem::transmute::<Heard<'_>, Heard<'static>>(heard) }
}

/// What sends.
#[derive(Debug)]
pub(super) struct Sending<S> {
    pub(super) side: Participant,
    cursor: broadcast::Sender,
    pub(super) patience: Option<Duration>,
    shape: S,
}

impl<S: Shape> Sending<S> {
    pub(super) fn join(segment: &Arc<Segment>, shape: S) -> Result<Self, SetupError> {
        let mut side = Participant::join(segment, Role::Sender)?;
        let (mem, capacity) = (memory(&side.attached), segment.spec.capacity);
        let cursor = broadcast::Sender::recover(mem, shape, capacity);
        let cursor = cursor.map_err(|_| SetupError::Corrupt)?;
        side.enter();
        Ok(Self { side, cursor, patience: None, shape })
    }

    /// Sends, if no receiver has to be waited for now.
    #[inline(always)]
    pub(super) fn try_send(&mut self, message: &[u8]) -> Result<(), Failure> {
        self.side.admit()?;
        let mem = memory(&self.side.attached);
        match self.cursor.try_send(mem, self.shape, message) {
            Ok(()) => {
                // It is for all who sleep.
                self.side.notify_of(Role::Receiver, usize::MAX);
                Ok(())
            }
            Err(blocked) => Err(self.refused(blocked)),
        }
    }

    /// Sends as many of the `messages` in `bytes` as there is room for now.
    pub(super) fn try_send_batch(
        &mut self,
        bytes: &[u8],
        messages: usize,
    ) -> Result<usize, Failure> {
        self.side.admit()?;
        let mem = memory(&self.side.attached);
        match self.cursor.try_send_batch(mem, self.shape, bytes, messages) {
            Ok(count) => {
                self.side.notify_of(Role::Receiver, usize::MAX);
                Ok(count)
            }
            Err(blocked) => Err(self.refused(blocked)),
        }
    }

    /// Says why nothing was sent, and asks now and then whether those who are waited for live.
    #[cold]
    #[inline(never)]
    fn refused(&mut self, blocked: Blocked) -> Failure {
        match blocked {
            Blocked::Corrupt => {
                self.side.poison();
                Failure::Corrupt
            }
            Blocked::NotReady => {
                self.side.seems_gone();
                self.side.stuck = true;
                self.side.tend_now_and_then();
                self.side.stuck = false;
                Failure::NotReady
            }
        }
    }

    /// Sends after [`try_send`](Self::try_send) said `failure`, waiting for room until `deadline`.
    #[cold]
    #[inline(never)]
    pub(super) fn send_again(
        &mut self,
        mut failure: Failure,
        message: &[u8],
        deadline: impl FnOnce() -> Option<Instant>,
    ) -> Result<(), Failure> {
        let deadline = deadline();
        while failure == Failure::NotReady {
            self.wait_for_room(deadline)?;
            match self.try_send(message) {
                Ok(()) => return Ok(()),
                Err(again) => failure = again,
            }
        }
        Err(failure)
    }

    /// Waits for the receivers that are waited for, none of them for longer than the sender's patience.
    #[cold]
    #[inline(never)]
    pub(super) fn wait_for_room(&mut self, deadline: Option<Instant>) -> Result<(), Failure> {
        // Whoever has died before this holds nobody up.
        self.side.tend();
        let mut patience = self.patience.and_then(deadline_in);
        loop {
            let until = [deadline, patience].into_iter().flatten().min();
            let cursor = &mut self.cursor;
            let found = wait::wait(&mut self.side, until, |side, look| {
                side.admit()?;
                match cursor.find_room(memory(&side.attached), 1, look) {
                    Ok(()) => Ok(()),
                    Err(Blocked::NotReady) => Err(Failure::NotReady),
                    Err(Blocked::Corrupt) => {
                        side.poison();
                        Err(Failure::Corrupt)
                    }
                }
            });
            if found != Err(Failure::Timeout) || until == deadline {
                return found;
            }
            self.cursor.evict(memory(&self.side.attached));
            patience = self.patience.and_then(deadline_in);
        }
    }
}

/// Why there is no message for a receiver, before it is turned into the call's error.
pub(super) enum Stop {
    Failure(Failure),
    Lagged(u64),
    Evicted,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Stop> for BroadcastRecvError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Failure(failure) => failure.into(),
            Stop::Lagged(missed) => Self::Lagged(missed),
            Stop::Evicted => Self::Evicted,
        }
    }
}

/// What receives.
// `pub` as what a `Pollable` is told by must be.
#[derive(Debug)]
pub struct Receiving<S> {
    pub(crate) side: Participant,
    pub(crate) cursor: broadcast::Receiver,
    /// The memory, at hand for each message.
    mem: Heard<'static>,
    shape: S,
}

impl<S: Shape> Receiving<S> {
    pub(super) fn join(
        segment: &Arc<Segment>,
        shape: S,
        delivery: Delivery,
        start: Start,
    ) -> Result<Self, SetupError> {
        let mut side = Participant::join(segment, Role::Receiver)?;
        let (mem, capacity) = (heard_by(&side), segment.spec.capacity);
        let cursor = broadcast::Receiver::join(&mem, shape, capacity, delivery, start);
        let cursor = cursor.map_err(|_| SetupError::Corrupt)?;
        side.enter();
        Ok(Self { side, cursor, mem, shape })
    }

    /// Receives into `to`, if a message is there now.
    ///
    /// # Safety
    ///
    /// `to` must be valid for writes of [`Shape::size`] bytes.
    #[inline(always)]
    pub(super) unsafe fn try_recv(&mut self, to: *mut u8) -> Result<(), Stop> {
        self.side.admit()?;
        // SAFETY: the caller's promise.
        let found = unsafe { self.cursor.try_recv(&self.mem, self.shape, to) };
        self.received(found).map(|_| ())
    }

    /// The same by `copy`, which gets the message's words: they may be written over meanwhile, and it counts only if this
    /// succeeds.
    pub(super) fn try_recv_by(&mut self, copy: impl FnOnce(&[Word])) -> Result<(), Stop> {
        self.side.admit()?;
        let found = self.cursor.try_recv_by(&self.mem, self.shape, copy);
        self.received(found).map(|_| ())
    }

    /// Receives up to `most` messages into `to`, and says how many: at least one, unless `most` is 0.
    ///
    /// # Safety
    ///
    /// `to` must be valid for writes of `most` times [`Shape::size`] bytes.
    pub(super) unsafe fn try_recv_batch(
        &mut self,
        to: *mut u8,
        most: usize,
    ) -> Result<usize, Stop> {
        if most == 0 {
            return Ok(0);
        }
        self.side.admit()?;
        // SAFETY: the caller's promise.
        let found = unsafe { self.cursor.try_recv_batch(&self.mem, self.shape, to, most) };
        self.received(found)
    }

    /// What an attempt has brought: how many messages, or why none.
    #[inline(always)]
    fn received(&mut self, found: Result<Found, Blocked>) -> Result<usize, Stop> {
        match found {
            Ok(Found::Messages(count)) => {
                if self.cursor.release_is_due() {
                    self.release();
                }
                Ok(count)
            }
            other => Err(self.stopped(other)),
        }
    }

    #[cold]
    #[inline(never)]
    fn release(&mut self) {
        if self.cursor.release(&self.mem) {
            self.side.notify(Role::Sender);
        }
    }

    /// Says why nothing came.
    #[cold]
    #[inline(never)]
    pub(super) fn stopped(&mut self, found: Result<Found, Blocked>) -> Stop {
        match found {
            Ok(Found::Lagged(missed)) => Stop::Lagged(missed),
            Ok(Found::Evicted) => Stop::Evicted,
            Err(Blocked::Corrupt) => {
                self.side.poison();
                Stop::Failure(Failure::Corrupt)
            }
            // No message at all is none that is there.
            Ok(Found::Messages(_)) | Err(Blocked::NotReady) => {
                self.release();
                if !self.side.seems_gone() {
                    return Stop::Failure(Failure::NotReady);
                }
                // It may have sent something before it went.
                Stop::Failure(match self.cursor.look(&self.mem, self.shape) {
                    Err(Blocked::NotReady) => Failure::Disconnected,
                    // A message, or what the next call tells.
                    Ok(()) | Err(Blocked::Corrupt) => Failure::NotReady,
                })
            }
        }
    }

    /// Whether there is a message now, or something else to be told.
    pub(crate) fn poll(&mut self) -> Result<(), Failure> {
        self.side.admit()?;
        if self.cursor.knows_more() {
            return Ok(());
        }
        let Err(blocked) = self.cursor.look(&self.mem, self.shape) else { return Ok(()) };
        match self.stopped(Err(blocked)) {
            Stop::Failure(failure) => Err(failure),
            Stop::Lagged(_) | Stop::Evicted => Ok(()),
        }
    }

    /// Waits until there is a message, or something else to be told.
    #[cold]
    #[inline(never)]
    pub(super) fn wait_for_message(&mut self, deadline: Option<Instant>) -> Result<(), Failure> {
        let Self { side, cursor, mem, shape } = self;
        wait::wait(side, deadline, |side, _| {
            side.admit()?;
            match cursor.look(mem, *shape) {
                Ok(()) => Ok(()),
                Err(Blocked::NotReady) => {
                    if cursor.release(mem) {
                        side.notify(Role::Sender);
                    }
                    Err(Failure::NotReady)
                }
                Err(Blocked::Corrupt) => {
                    side.poison();
                    Err(Failure::Corrupt)
                }
            }
        })
    }

    /// Whether the sender has stopped waiting for it.
    pub(super) fn is_evicted(&self) -> bool {
        self.side.is_ours() && self.cursor.is_evicted(&self.mem)
    }

    /// Has the sender wait for it again; how many messages it has missed.
    pub(super) fn rejoin(&mut self, start: Start) -> Result<u64, Failure> {
        self.side.admit()?;
        match self.cursor.rejoin(&self.mem, self.shape, start) {
            Ok(missed) => {
                self.side.notify(Role::Sender);
                Ok(missed)
            }
            Err(_) => {
                self.side.poison();
                Err(Failure::Corrupt)
            }
        }
    }
}
