//! The two sides of a ring of slots, whatever the shape of its messages: the protocol, the participant
//! and the waiting put together. `Ring` and `UntypedRing` are faces of these.

use crate::error::{Failure, Role, SetupError};
use crate::participants::Participant;
use crate::protocol::Blocked;
use crate::protocol::room::Look;
use crate::protocol::slots::{RecvCursor, Run, SendCursor, Shape, Slots, Typed};
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
// Lines of its own: a handle changes with every message, and the other side's may lie next to it.
#[derive(Debug)]
#[repr(align(128))]
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
        look: Look,
    ) -> Result<usize, Failure> {
        self.side.admit()?;
        let mem = memory(&self.side.attached);
        match self.cursor.try_send_batch(mem, self.shape, bytes, messages, look) {
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
    fn refused(&mut self, blocked: Blocked) -> Failure {
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
            match self.try_send_batch(&bytes[sent * size..], messages - sent, Look::Released) {
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
        wait::wait(side, deadline, |side, look| {
            side.admit()?;
            match cursor.find_room(memory(&side.attached), look) {
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
// Lines of its own, as for the sender.
#[derive(Debug)]
#[repr(align(128))]
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
            Err(blocked) => Err(self.refused(blocked)),
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
            Err(blocked) => Err(self.refused(blocked)),
        }
    }

    /// The next messages in one piece, after those of `over` that were read are taken; `None` if there are
    /// none, or `most` is 0. They count as received once [`note`](Self::note) is called.
    #[inline(always)]
    pub(crate) fn next_messages(&mut self, over: Run, most: usize) -> Option<Run> {
        self.cursor.take_to(self.shape, over);
        if most == 0 || self.side.admit().is_err() {
            return None;
        }
        self.cursor.next_messages(memory(&self.side.attached), self.shape, most).ok()
    }

    /// No messages yet, at the next one.
    #[inline(always)]
    pub(crate) fn no_messages(&self) -> Run {
        self.cursor.no_messages()
    }

    /// Reads the next message of `run`, which is not over, to `to`; `false` in a fork child.
    ///
    /// # Safety
    ///
    /// `to` must be valid for writes of [`Shape::size`] bytes, and `run` be what
    /// [`next_messages`](Self::next_messages) gave last.
    #[inline(always)]
    pub(crate) unsafe fn read(&self, run: &mut Run, to: *mut u8) -> bool {
        if !self.side.is_admitted() {
            return false;
        }
        // SAFETY: the caller's promise.
        unsafe { run.read(memory(&self.side.attached), self.shape, to) };
        true
    }

    /// Copies all messages of `run` to `to`.
    ///
    /// # Safety
    ///
    /// `to` must be valid for writes of their words, and `run` be what
    /// [`next_messages`](Self::next_messages) gave last.
    #[inline(always)]
    pub(crate) unsafe fn copy(&self, run: Run, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { run.copy(memory(&self.side.attached), to) };
    }

    /// Notes what was read up to `run`.
    #[inline(always)]
    pub(crate) fn note(&mut self, run: Run) {
        if self.side.admit().is_ok() {
            self.cursor.take_to(self.shape, run);
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
            Err(blocked) => Err(self.refused(blocked)),
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

    /// Says why nothing came.
    #[cold]
    #[inline(never)]
    fn refused(&mut self, blocked: Blocked) -> Failure {
        if blocked == Blocked::Corrupt {
            self.side.poison();
            return Failure::Corrupt;
        }
        self.release();
        if !self.side.seems_gone() {
            return Failure::NotReady;
        }
        // It may have sent something before it went.
        match self.look() {
            Ok(()) => Failure::NotReady,
            Err(Failure::NotReady) => Failure::Disconnected,
            Err(failure) => failure,
        }
    }

    fn look(&mut self) -> Result<(), Failure> {
        match self.cursor.look(memory(&self.side.attached), self.shape) {
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
        let Self { side, cursor, shape } = self;
        wait::wait(side, deadline, |side, _| {
            side.admit()?;
            let mem = memory(&side.attached);
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
}

impl<S> Drop for SlotReceiver<S> {
    fn drop(&mut self) {
        if self.side.admit().is_ok() && self.cursor.release(memory(&self.side.attached)) {
            self.side.notify(Role::Sender);
        }
    }
}
