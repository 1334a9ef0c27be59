//! The two sides of a ring of slots, whatever the shape of its messages: the protocol, the participant
//! and the waiting put together. `Ring` and `UntypedRing` are faces of these.

use crate::error::{Failure, Role, SetupError};
use crate::participants::Participant;
use crate::protocol::Blocked;
use crate::protocol::slots::{RecvCursor, SendCursor, Shape, Slots, Typed};
use crate::segment::{Attached, Segment};
use crate::wait;
use bytemuck::NoUninit;
use std::sync::Arc;
use std::time::Instant;

/// The memory of the ring in a segment.
#[inline(always)]
fn memory(attached: &Attached) -> Slots<'_> {
    Slots {
        sender: attached.half(Role::Sender),
        receiver: attached.half(Role::Receiver),
        words: attached.words(),
    }
}

/// What sends.
#[derive(Debug)]
pub(crate) struct SlotSender<S> {
    pub(crate) side: Participant,
    cursor: SendCursor,
    shape: S,
}

impl<S: Shape> SlotSender<S> {
    pub(crate) fn join(segment: &Arc<Segment>, shape: S) -> Result<Self, SetupError> {
        let mut side = Participant::join(segment, Role::Sender)?;
        let cursor = SendCursor::recover(memory(&side.attached), shape, segment.spec.capacity)
            .map_err(|_| SetupError::Corrupt)?;
        side.enter();
        Ok(Self { side, cursor, shape })
    }

    #[inline(always)]
    pub(crate) fn try_send(&mut self, message: &[u8]) -> Result<(), Failure> {
        self.side.admit()?;
        match self.cursor.try_send(memory(&self.side.attached), self.shape, message) {
            Ok(()) => {
                self.side.notify(Role::Receiver);
                Ok(())
            }
            Err(blocked) => Err(self.refused(blocked)),
        }
    }

    /// Sends as many of the `messages` in `bytes` as there is room for now.
    #[inline]
    pub(crate) fn try_send_batch(
        &mut self,
        bytes: &[u8],
        messages: usize,
    ) -> Result<usize, Failure> {
        self.side.admit()?;
        let mem = memory(&self.side.attached);
        match self.cursor.try_send_batch(mem, self.shape, bytes, messages) {
            Ok(0) if messages > 0 => Err(self.refused(Blocked::NotReady)),
            Ok(count) => {
                self.side.notify(Role::Receiver);
                Ok(count)
            }
            Err(blocked) => Err(self.refused(blocked)),
        }
    }

    /// Says why nothing was sent.
    #[cold]
    #[inline(never)]
    pub(crate) fn refused(&mut self, blocked: Blocked) -> Failure {
        match blocked {
            Blocked::Corrupt => {
                self.side.poison();
                Failure::Corrupt
            }
            Blocked::NotReady if self.side.seems_gone() => Failure::Disconnected,
            Blocked::NotReady => Failure::NotReady,
        }
    }

    /// Sends after [`try_send`](Self::try_send) said `failure`, waiting for room until `deadline`.
    pub(crate) fn send_again(
        &mut self,
        failure: Failure,
        message: &[u8],
        deadline: Option<Instant>,
    ) -> Result<(), Failure> {
        if failure != Failure::NotReady {
            return Err(failure);
        }
        self.wait_for_room(deadline)?;
        // There is room, and nobody but this sender takes it.
        self.try_send(message)
    }

    /// Sends all, waiting for room; an error comes with the number sent before it.
    pub(crate) fn send_all(
        &mut self,
        bytes: &[u8],
        messages: usize,
    ) -> Result<(), (usize, Failure)> {
        let size = self.shape.size();
        let mut sent = 0;
        while sent < messages {
            match self.try_send_batch(&bytes[sent * size..], messages - sent) {
                Ok(count) => sent += count,
                Err(Failure::NotReady) => {
                    self.wait_for_room(None).map_err(|failure| (sent, failure))?;
                }
                Err(failure) => return Err((sent, failure)),
            }
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn wait_for_room(&mut self, deadline: Option<Instant>) -> Result<(), Failure> {
        let Self { side, cursor, .. } = self;
        side.give_way(cursor.position());
        wait::wait(side, deadline, |side| {
            side.admit()?;
            match cursor.find_room(memory(&side.attached)) {
                Ok(()) => Ok(()),
                Err(Blocked::NotReady) => Err(Failure::NotReady),
                Err(Blocked::Corrupt) => {
                    side.poison();
                    Err(Failure::Corrupt)
                }
            }
        })
    }
}

impl<T: NoUninit> SlotSender<Typed<T>> {
    /// Sends messages from `messages` for as long as there is room and there are any.
    #[inline(always)]
    pub(crate) fn try_send_from(
        &mut self,
        messages: impl Iterator<Item = T>,
    ) -> Result<usize, Failure> {
        self.side.admit()?;
        match self.cursor.try_send_from(memory(&self.side.attached), self.shape, messages) {
            Ok(count) => {
                self.side.notify(Role::Receiver);
                Ok(count)
            }
            Err(blocked) => Err(self.refused(blocked)),
        }
    }
}

/// What receives.
#[derive(Debug)]
pub(crate) struct SlotReceiver<S> {
    pub(crate) side: Participant,
    cursor: RecvCursor,
    shape: S,
}

impl<S: Shape> SlotReceiver<S> {
    pub(crate) fn join(segment: &Arc<Segment>, shape: S) -> Result<Self, SetupError> {
        let mut side = Participant::join(segment, Role::Receiver)?;
        let cursor = RecvCursor::recover(memory(&side.attached), shape, segment.spec.capacity)
            .map_err(|_| SetupError::Corrupt)?;
        side.enter();
        Ok(Self { side, cursor, shape })
    }

    /// Receives a message into `to`.
    ///
    /// # Safety
    ///
    /// `to` must be valid for writes of [`Shape::size`] bytes.
    #[inline(always)]
    pub(crate) unsafe fn try_recv(&mut self, to: *mut u8) -> Result<(), Failure> {
        self.side.admit()?;
        // SAFETY: the caller's promise.
        match unsafe { self.cursor.try_recv(memory(&self.side.attached), self.shape, to) } {
            Ok(()) => {
                if self.cursor.release_is_due() {
                    self.release();
                }
                Ok(())
            }
            Err(blocked) => self.refused(blocked),
        }
    }

    /// Receives up to `most` messages into `to`.
    ///
    /// # Safety
    ///
    /// `to` must be valid for writes of `most` times [`Shape::size`] bytes.
    #[inline]
    pub(crate) unsafe fn try_recv_batch(
        &mut self,
        to: *mut u8,
        most: usize,
    ) -> Result<usize, Failure> {
        self.side.admit()?;
        let mem = memory(&self.side.attached);
        // SAFETY: the caller's promise.
        match unsafe { self.cursor.try_recv_batch(mem, self.shape, to, most) } {
            Ok(count) => {
                if self.cursor.release_is_due() {
                    self.release();
                }
                Ok(count)
            }
            Err(blocked) => self.refused(blocked).map(|()| 0),
        }
    }

    /// Receives a message into `to` without noting it; [`note`](Self::note) does.
    ///
    /// # Safety
    ///
    /// `to` must be valid for writes of [`Shape::size`] bytes.
    #[inline(always)]
    pub(crate) unsafe fn try_next(&mut self, to: *mut u8) -> Result<(), Failure> {
        // SAFETY: the caller's promise.
        match unsafe { self.cursor.try_next(memory(&self.side.attached), self.shape, to) } {
            Ok(()) => Ok(()),
            Err(Blocked::NotReady) => Err(Failure::NotReady),
            Err(Blocked::Corrupt) => Err(Failure::Corrupt),
        }
    }

    /// Notes what [`try_next`](Self::try_next) gave.
    #[inline(always)]
    pub(crate) fn note(&mut self) {
        if self.side.admit().is_ok() {
            self.cursor.note(memory(&self.side.attached));
            if self.cursor.release_is_due() {
                self.release();
            }
        }
    }

    /// Copies up to `most` messages into `to` and takes none of them.
    ///
    /// # Safety
    ///
    /// As for [`try_recv_batch`](Self::try_recv_batch).
    pub(crate) unsafe fn try_peek_batch(
        &mut self,
        to: *mut u8,
        most: usize,
    ) -> Result<usize, Failure> {
        self.side.admit()?;
        let mem = memory(&self.side.attached);
        // SAFETY: the caller's promise.
        match unsafe { self.cursor.try_peek_batch(mem, self.shape, to, most) } {
            Ok(count) => Ok(count),
            Err(blocked) => self.refused(blocked).map(|()| 0),
        }
    }

    /// Takes up to `most` messages, unread.
    pub(crate) fn skip(&mut self, most: usize) -> Result<usize, Failure> {
        self.side.admit()?;
        let count = self.cursor.skip(memory(&self.side.attached), self.shape, most);
        if self.cursor.release_is_due() {
            self.release();
        }
        Ok(count)
    }

    #[cold]
    #[inline(never)]
    fn release(&mut self) {
        if self.cursor.release(memory(&self.side.attached)) {
            self.side.notify(Role::Sender);
        }
    }

    /// Says why nothing came. `Ok` never: it is there for the caller's convenience.
    #[cold]
    #[inline(never)]
    fn refused(&mut self, blocked: Blocked) -> Result<(), Failure> {
        match blocked {
            Blocked::Corrupt => {
                self.side.poison();
                Err(Failure::Corrupt)
            }
            Blocked::NotReady => {
                self.release();
                let gone = self.side.seems_gone();
                match self.look() {
                    Ok(()) | Err(Failure::NotReady) if !gone => Err(Failure::NotReady),
                    // It sent something before it went.
                    Ok(()) => Err(Failure::NotReady),
                    Err(Failure::NotReady) => Err(Failure::Disconnected),
                    Err(failure) => Err(failure),
                }
            }
        }
    }

    fn look(&mut self) -> Result<(), Failure> {
        match self.cursor.look(memory(&self.side.attached)) {
            Ok(()) => Ok(()),
            Err(Blocked::NotReady) => Err(Failure::NotReady),
            Err(Blocked::Corrupt) => {
                self.side.poison();
                Err(Failure::Corrupt)
            }
        }
    }

    /// Waits until a message is there, which this receiver takes next.
    #[cold]
    #[inline(never)]
    pub(crate) fn wait_for_message(&mut self, deadline: Option<Instant>) -> Result<(), Failure> {
        let Self { side, cursor, .. } = self;
        side.give_way(cursor.position());
        wait::wait(side, deadline, |side| {
            side.admit()?;
            let mem = memory(&side.attached);
            match cursor.look(mem) {
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
}

impl<S> Drop for SlotReceiver<S> {
    fn drop(&mut self) {
        if self.side.admit().is_ok() && self.cursor.release(memory(&self.side.attached)) {
            self.side.notify(Role::Sender);
        }
    }
}
