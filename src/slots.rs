//! The two sides of a ring of slots, whatever the shape of its messages: the protocol, the participant
//! and the waiting put together. `Ring` and `UntypedRing` are faces of these.

use crate::error::{Failure, Role, SetupError};
use crate::participants::Participant;
use crate::protocol::Blocked;
use crate::protocol::claims::{self, Claims, Held};
use crate::protocol::room::Look;
use crate::protocol::slots::{Cell, RecvCursor, Run, SendCursor, Shape, Slots, Stay, Typed};
use crate::rhythm::Rhythm;
use crate::segment::{Attached, Segment};
use crate::sync::{Word, wait_a_step};
use crate::sys::fork::Here;
use crate::wait;
use bytemuck::{AnyBitPattern, NoUninit};
use std::fmt;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::Instant;

/// The memory of the ring in a segment.
#[inline(always)]
pub(crate) fn memory(attached: &Attached) -> Slots<'_> {
    Slots {
        sender: attached.half(Role::Sender),
        receiver: attached.half(Role::Receiver),
        words: attached.words(),
    }
}

/// The memory of a ring with a shared side, for a cursor that lies beside `side`.
fn claims_of(side: &Participant) -> Claims<'static> {
    // SAFETY: it is kept beside `side`, in a struct that uses neither when it is dropped but in its own `drop`.
    unsafe { side.claims() }
}

/// How a side moves through the ring.
#[derive(Debug)]
pub(crate) enum Cursor<Sole, Shared> {
    /// One sender and one receiver.
    Cells(Sole),
    /// At least one side is shared. The memory is at hand, as this participant sees it: putting it together for
    /// each message would be many stores, which a claim would have to wait for.
    Claims(Shared, Claims<'static>),
}

impl<Sole, Shared> Cursor<Sole, Shared> {
    /// The cursor of a side that is [express](Participant::is_express).
    ///
    /// # Safety
    ///
    /// `side` must be the one that was made with `self`, and express.
    #[inline(always)]
    unsafe fn sole(&mut self, side: &Participant) -> &mut Sole {
        debug_assert!(side.is_express());
        match self {
            Self::Cells(cursor) => cursor,
            // SAFETY: no side of a ring with a shared side is ever express.
            Self::Claims(..) => unsafe { core::hint::unreachable_unchecked() },
        }
    }
}

/// What sends.
// Lines of its own: a handle changes with every message, and the other side's may lie next to it.
// `pub` as what a `Pollable` is told by must be.
#[derive(Debug)]
#[repr(align(128))]
pub struct SlotSender<S> {
    pub(crate) side: Participant,
    pub(crate) cursor: Cursor<SendCursor, claims::SendCursor>,
    pub(crate) shape: S,
}

impl<S: Shape> SlotSender<S> {
    pub(crate) fn join(segment: &Arc<Segment>, shape: S) -> Result<Self, SetupError> {
        let mut side = Participant::join(segment, Role::Sender)?;
        let (capacity, topology) = (segment.spec.capacity, segment.spec.topology);
        let cursor = if topology.is_shared() {
            let sole = !topology.shares(Role::Sender);
            let mem = claims_of(&side);
            Cursor::Claims(claims::SendCursor::new(&mem, shape, capacity, sole), mem)
        } else {
            let cursor = SendCursor::recover(memory(&side.attached), shape, capacity);
            Cursor::Cells(cursor.map_err(|_| SetupError::Corrupt)?)
        };
        side.enter();
        Ok(Self { side, cursor, shape })
    }

    /// [`try_send`](Self::try_send) by a side that is express.
    ///
    /// # Safety
    ///
    /// [`Participant::is_express`] must have said so.
    #[inline(always)]
    pub(crate) unsafe fn try_send_express(&mut self, message: &[u8]) -> Result<(), Failure> {
        // SAFETY: the caller's promise.
        let cursor = unsafe { self.cursor.sole(&self.side) };
        match cursor.try_send(memory(&self.side.attached), self.shape, message) {
            Ok(()) => {
                self.side.notify(Role::Receiver);
                Ok(())
            }
            Err(blocked) => Err(self.refused(blocked)),
        }
    }

    /// Makes the lines of the next message this side's, when the receiver has likely read the last one.
    #[inline(always)]
    fn own_next(&self) {
        if !self.side.is_express() {
            return;
        }
        if let Cursor::Cells(cursor) = &self.cursor {
            cursor.own_next(memory(&self.side.attached), self.shape);
        }
    }

    /// Messages that were sent, if nobody else sends.
    #[inline(always)]
    fn sent(&self) -> Option<u64> {
        match &self.cursor {
            Cursor::Cells(cursor) => Some(cursor.tail()),
            Cursor::Claims(..) => None,
        }
    }

    /// Sends through a ring with a shared side, if that takes no more than a look and a claim.
    #[inline(always)]
    pub(crate) fn try_send_at_once(&mut self, message: &[u8]) -> bool {
        let Cursor::Claims(cursor, mem) = &mut self.cursor else { return false };
        let sent = self.side.is_admitted() && cursor.try_send_at_once(mem, self.shape, message);
        if sent {
            self.side.notify(Role::Receiver);
        }
        sent
    }

    /// Sends, if there is room now.
    #[inline]
    pub(crate) fn try_send(&mut self, message: &[u8]) -> Result<(), Failure> {
        self.side.admit()?;
        let sent = match &mut self.cursor {
            Cursor::Cells(cursor) => {
                cursor.try_send(memory(&self.side.attached), self.shape, message)
            }
            Cursor::Claims(cursor, mem) => cursor.try_send(mem, self.shape, message),
        };
        match sent {
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
        let sent = match &mut self.cursor {
            Cursor::Cells(cursor) => {
                let mem = memory(&self.side.attached);
                cursor.try_send_batch(mem, self.shape, bytes, messages, look)
            }
            Cursor::Claims(cursor, mem) => cursor.try_send_batch(mem, self.shape, bytes, messages),
        };
        match sent {
            Ok(count) => {
                self.side.notify_of(Role::Receiver, count);
                Ok(count)
            }
            Err(blocked) => Err(self.refused(blocked)),
        }
    }

    /// Says why nothing was sent.
    #[cold]
    #[inline(never)]
    fn refused(&mut self, blocked: Blocked) -> Failure {
        if let Cursor::Claims(cursor, _) = &self.cursor {
            self.side.stuck = cursor.is_stuck();
        }
        match blocked {
            Blocked::Corrupt => {
                self.side.poison();
                Failure::Corrupt
            }
            Blocked::NotReady if self.side.seems_gone() => Failure::Disconnected,
            Blocked::NotReady => {
                self.side.tend_now_and_then();
                Failure::NotReady
            }
        }
    }

    /// Sends after [`try_send`](Self::try_send) said `failure`, waiting for room until `deadline`.
    pub(crate) fn send_again(
        &mut self,
        mut failure: Failure,
        message: &[u8],
        deadline: Option<Instant>,
    ) -> Result<(), Failure> {
        loop {
            if failure != Failure::NotReady {
                return Err(failure);
            }
            self.wait_for_room(deadline)?;
            // Room that there was is this sender's, unless others send, too.
            match self.try_send(message) {
                Ok(()) => return Ok(()),
                Err(again) => failure = again,
            }
        }
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

    /// Waits for room if there is none. It stays there, if nobody else sends.
    pub(crate) fn make_room(&mut self) -> Result<(), Failure> {
        self.side.admit()?;
        match &self.cursor {
            Cursor::Cells(cursor) if cursor.has_room() => Ok(()),
            _ => self.wait_for_room(None),
        }
    }

    /// Whether there is room now, as [`try_send`](Self::try_send) would find.
    pub(crate) fn poll_room(&mut self) -> Result<(), Failure> {
        self.side.admit()?;
        let found = match &mut self.cursor {
            Cursor::Cells(cursor) if cursor.has_room() => Ok(()),
            Cursor::Cells(cursor) => cursor.find_room(memory(&self.side.attached), Look::Exact),
            Cursor::Claims(cursor, mem) => cursor.look(mem, self.shape),
        };
        found.map_err(|blocked| self.refused(blocked))
    }

    #[cold]
    #[inline(never)]
    fn wait_for_room(&mut self, deadline: Option<Instant>) -> Result<(), Failure> {
        let Self { side, cursor, shape } = self;
        let sleeps = side.sleeps();
        let found = wait::wait(side, deadline, |side, look| {
            side.admit()?;
            let found = match cursor {
                Cursor::Cells(cursor) => cursor.find_room(memory(&side.attached), look),
                Cursor::Claims(cursor, mem) => {
                    let found = cursor.look(mem, *shape);
                    side.stuck = cursor.is_stuck();
                    found
                }
            };
            match found {
                Ok(()) => Ok(()),
                Err(Blocked::NotReady) => Err(Failure::NotReady),
                Err(Blocked::Corrupt) => {
                    side.poison();
                    Err(Failure::Corrupt)
                }
            }
        });
        if let Cursor::Claims(cursor, mem) = cursor {
            side.share(sleeps, || cursor.is_plenty(mem, *shape));
        }
        found
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
        let here = Here::new();
        let is_mapped = || here.is_here();
        let sent = match &mut self.cursor {
            Cursor::Cells(cursor) => {
                let mem = memory(&self.side.attached);
                cursor.try_send_from(mem, self.shape, messages, is_mapped)
            }
            Cursor::Claims(cursor, mem) => {
                cursor.try_send_from(mem, self.shape, messages, is_mapped)
            }
        };
        match sent {
            // A child that the iterator has forked has no ring to go on with.
            _ if !is_mapped() => Err(Failure::Forked),
            Ok(count) => {
                self.side.notify_of(Role::Receiver, count);
                Ok(count)
            }
            Err(blocked) => Err(self.refused(blocked)),
        }
    }
}

/// The words of a ring, and the process that has them. An iterator has them in itself, and so in registers: to put them together for
/// each message would be loads that no compiler may leave out, as a load of shared memory lies between any two of them.
#[derive(Clone, Copy)]
pub(crate) struct Source {
    words: &'static [Word],
    here: Here,
}

impl fmt::Debug for Source {
    /// Nothing of it: a fork child has no words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl Source {
    /// One without messages.
    #[inline(always)]
    pub(crate) fn empty() -> Self {
        Self { words: &[], here: Here::new() }
    }

    /// Goes on with `run`, all of which in its cell was read; `false` if there is no more.
    #[inline(always)]
    pub(crate) fn go_on(self, shape: impl Shape, run: &mut Run) -> bool {
        run.go_on(self.words, shape)
    }

    /// Takes the next message of `cell`, in which some are left; `None` in a fork child.
    ///
    /// # Safety
    ///
    /// The cell's run must be what [`next_messages`](SlotReceiver::next_messages) gave last.
    #[inline(always)]
    pub(crate) unsafe fn take<T: AnyBitPattern>(
        self,
        shape: Typed<T>,
        cell: &mut Cell<'_>,
    ) -> Option<T> {
        if !self.here.is_here() {
            return None;
        }
        let mut message = MaybeUninit::<T>::uninit();
        // SAFETY: the caller's promise; `message` has room for a `T`, which is the shape's size.
        unsafe { cell.read(self.words, shape, message.as_mut_ptr().cast()) };
        // SAFETY: all bytes of `message` were written, and any bytes are a `T` (`AnyBitPattern`).
        Some(unsafe { message.assume_init() })
    }
}

/// What receives.
// Lines of its own, as for the sender.
#[derive(Debug)]
#[repr(align(128))]
pub struct SlotReceiver<S: Shape> {
    pub(crate) side: Participant,
    pub(crate) cursor: Cursor<RecvCursor, claims::RecvCursor>,
    rhythm: Rhythm,
    /// What was looked at and is neither taken nor given back, if others receive, too.
    held: Vec<Held>,
    pub(crate) shape: S,
}

impl<S: Shape> SlotReceiver<S> {
    pub(crate) fn join(segment: &Arc<Segment>, shape: S) -> Result<Self, SetupError> {
        let mut side = Participant::join(segment, Role::Receiver)?;
        let (capacity, topology) = (segment.spec.capacity, segment.spec.topology);
        let cursor = if topology.is_shared() {
            let (me, sole) = (side.entry(), !topology.shares(Role::Receiver));
            let mem = claims_of(&side);
            Cursor::Claims(claims::RecvCursor::new(&mem, shape, capacity, me, sole), mem)
        } else {
            let cursor = RecvCursor::recover(memory(&side.attached), shape, capacity);
            Cursor::Cells(cursor.map_err(|_| SetupError::Corrupt)?)
        };
        side.enter();
        Ok(Self { side, cursor, rhythm: Rhythm::default(), held: Vec::new(), shape })
    }

    /// [`try_recv`](Self::try_recv) by a side that is express.
    ///
    /// # Safety
    ///
    /// The same, and [`Participant::is_express`] must have said so.
    #[inline(always)]
    pub(crate) unsafe fn try_recv_express(&mut self, to: *mut u8) -> Result<(), Failure> {
        // SAFETY: the caller's promise.
        let cursor = unsafe { self.cursor.sole(&self.side) };
        // SAFETY: the caller's promise.
        match unsafe { cursor.try_recv(memory(&self.side.attached), self.shape, to) } {
            Ok(()) => {
                if cursor.release_is_due() {
                    self.release();
                }
                Ok(())
            }
            Err(blocked) => Err(self.refused(blocked)),
        }
    }

    /// Receives a message into `to` if it is known to be there already, in a ring without a shared side.
    ///
    /// # Safety
    ///
    /// As for [`try_recv`](Self::try_recv).
    #[inline(always)]
    pub(crate) unsafe fn recv_known(&mut self, to: *mut u8) -> bool {
        if !self.side.is_express() {
            return false;
        }
        // SAFETY: just seen.
        let cursor = unsafe { self.cursor.sole(&self.side) };
        if cursor.is_in_run(self.shape) {
            // SAFETY: the caller's promise; the run is not over.
            unsafe { cursor.recv_known(memory(&self.side.attached), self.shape, to) };
            return true;
        }
        // SAFETY: the caller's promise; express was just seen.
        !cursor.is_run_over() && unsafe { self.try_recv_express(to) }.is_ok()
    }

    /// Stays for a moment where no message is, for one who waits; whether that has received one into `to`. If it waits for the
    /// answer to what it has sent by `beside`, that makes itself ready meanwhile.
    ///
    /// # Safety
    ///
    /// As for [`try_recv`](Self::try_recv).
    #[inline(always)]
    pub(crate) unsafe fn linger(&mut self, beside: Option<&SlotSender<S>>, to: *mut u8) -> bool {
        if !self.side.is_express() {
            return false;
        }
        let Cursor::Cells(cursor) = &mut self.cursor else { return false };
        if !(cursor.awaits_answer() && self.side.may_linger()) {
            return false;
        }
        let mem = memory(&self.side.attached);
        let mut is_late = false;
        if let Some((beside, sent)) = beside.and_then(|beside| Some((beside, beside.sent()?))) {
            let steps = self.rhythm.steps(cursor.head(), sent);
            if steps > 0 {
                (0..steps).for_each(|_| wait_a_step());
                beside.own_next();
                is_late = true;
            }
        }
        // SAFETY: the caller's promise.
        let stay = unsafe { cursor.linger(mem, self.shape, is_late, to) };
        if stay != Stay::InVain && self.side.learns_from_looks() {
            self.side.lingered();
        }
        stay == Stay::Received
    }

    /// Receives a message into `to` from a ring with a shared side, if that takes no more than a look and a claim.
    ///
    /// # Safety
    ///
    /// As for [`try_recv`](Self::try_recv).
    #[inline(always)]
    pub(crate) unsafe fn try_recv_at_once(&mut self, to: *mut u8) -> bool {
        let Cursor::Claims(cursor, mem) = &mut self.cursor else { return false };
        if !self.side.is_admitted() || !self.held.is_empty() {
            return false;
        }
        // SAFETY: the caller's promise.
        let received = unsafe { cursor.try_recv_at_once(mem, self.shape, to) };
        if received {
            self.side.notify(Role::Sender);
        }
        received
    }

    /// Receives a message into `to`.
    ///
    /// # Safety
    ///
    /// `to` must be valid for writes of [`Shape::size`] bytes.
    #[inline]
    pub(crate) unsafe fn try_recv(&mut self, to: *mut u8) -> Result<(), Failure> {
        self.side.admit()?;
        self.give_held_back();
        let received = match &mut self.cursor {
            Cursor::Cells(cursor) => {
                // SAFETY: the caller's promise.
                let received =
                    unsafe { cursor.try_recv(memory(&self.side.attached), self.shape, to) };
                if received.is_ok() && cursor.release_is_due() {
                    self.release();
                }
                received
            }
            Cursor::Claims(cursor, mem) => {
                // SAFETY: the caller's promise.
                let received = unsafe { cursor.try_recv(mem, self.shape, to) };
                if received.is_ok() {
                    self.side.notify(Role::Sender);
                }
                received
            }
        };
        received.map_err(|blocked| self.refused(blocked))
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
        self.give_held_back();
        match &mut self.cursor {
            Cursor::Cells(cursor) => {
                let mem = memory(&self.side.attached);
                // SAFETY: the caller's promise.
                match unsafe { cursor.try_recv_batch(mem, self.shape, to, most) } {
                    Ok(count) => {
                        if cursor.release_is_due() {
                            self.release();
                        }
                        Ok(count)
                    }
                    Err(blocked) => Err(self.refused(blocked)),
                }
            }
            Cursor::Claims(cursor, mem) => {
                // SAFETY: the caller's promise.
                match unsafe { cursor.try_recv_batch(mem, self.shape, to, most) } {
                    Ok(count) => {
                        self.side.notify_of(Role::Sender, count);
                        Ok(count)
                    }
                    Err(blocked) => Err(self.refused(blocked)),
                }
            }
        }
    }

    /// Claims the next message, if others receive, too; `None` if there is only this receiver, whose next
    /// message stays where it is.
    pub(crate) fn try_claim(&mut self) -> Result<Option<Held>, Failure> {
        self.side.admit()?;
        self.give_held_back();
        let claimed = match &mut self.cursor {
            Cursor::Cells(cursor) => {
                cursor.look(memory(&self.side.attached), self.shape).map(|()| None)
            }
            Cursor::Claims(cursor, mem) => cursor.try_claim(mem, self.shape).map(Some),
        };
        claimed.map_err(|blocked| self.refused(blocked))
    }

    /// Reads the message that was claimed to `to`, and says how often it was handed out.
    ///
    /// # Safety
    ///
    /// `to` must be valid for writes of [`Shape::size`] bytes.
    pub(crate) unsafe fn read_claimed(
        &mut self,
        held: Option<Held>,
        to: *mut u8,
    ) -> Result<u32, Failure> {
        match (&mut self.cursor, held) {
            (Cursor::Claims(cursor, mem), Some(held)) => {
                // SAFETY: the caller's promise.
                unsafe { cursor.read(mem, self.shape, held, to) };
                Ok(cursor.deliveries(mem, self.shape, held))
            }
            // SAFETY: the caller's promise.
            _ => unsafe { self.try_peek_batch(to, 1) }.map(|_| 1),
        }
    }

    /// Removes the message that was claimed from the ring.
    pub(crate) fn release_claimed(&mut self, held: Option<Held>) {
        match (&mut self.cursor, held) {
            (Cursor::Claims(cursor, mem), Some(held)) if self.side.is_ours() => {
                cursor.release(mem, self.shape, held);
                self.side.notify(Role::Sender);
            }
            (Cursor::Cells(_), _) => {
                let _ = self.skip(1);
            }
            _ => {}
        }
    }

    /// Lets somebody receive the message that was claimed.
    pub(crate) fn give_back(&mut self, held: Option<Held>) {
        if let (Cursor::Claims(cursor, mem), Some(held)) = (&mut self.cursor, held) {
            if self.side.is_ours() {
                cursor.give_back(mem, self.shape, &[held]);
                self.side.wake_own_side();
            }
        }
    }

    /// The next messages, after those of `over` that were read are taken; `None` if there are
    /// none, or `most` is 0, or a side is shared. They count as received once [`note`](Self::note) is called.
    #[inline(always)]
    pub(crate) fn next_messages(&mut self, over: Run, most: usize) -> Option<Run> {
        let Cursor::Cells(cursor) = &mut self.cursor else { return None };
        cursor.take_to(self.shape, over);
        if most == 0 || self.side.admit().is_err() {
            return None;
        }
        cursor.next_messages(memory(&self.side.attached), self.shape, most).ok()
    }

    /// Whether the ring has a shared side.
    #[inline(always)]
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.cursor, Cursor::Claims(..))
    }

    /// No messages yet, at the next one.
    #[inline(always)]
    pub(crate) fn no_messages(&self) -> Run {
        match &self.cursor {
            Cursor::Cells(cursor) => cursor.no_messages(),
            Cursor::Claims(..) => Run::default(),
        }
    }

    /// Where the messages of [`next_messages`](Self::next_messages) are read.
    ///
    /// # Safety
    ///
    /// This is not a fork child, and it must be dropped before the receiver.
    #[inline(always)]
    pub(crate) unsafe fn source(&self) -> Source {
        let words = self.side.attached.words();
        // SAFETY: the caller's promise: they are mapped for as long as the receiver lives.
        let words = unsafe { core::slice::from_raw_parts(words.as_ptr(), words.len()) };
        Source { words, here: Here::new() }
    }

    /// Notes what was read up to `run`.
    #[inline(always)]
    pub(crate) fn note(&mut self, run: Run) {
        if self.side.admit().is_err() {
            return;
        }
        if let Cursor::Cells(cursor) = &mut self.cursor {
            cursor.take_to(self.shape, run);
            cursor.note(memory(&self.side.attached));
            if cursor.release_is_due() {
                self.release();
            }
        }
    }

    /// Copies up to `most` messages into `to` and takes none of them. If others receive, too, they are this
    /// receiver's until it skips them, receives, or leaves.
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
        let peeked = match &mut self.cursor {
            Cursor::Cells(cursor) => {
                let mem = memory(&self.side.attached);
                // SAFETY: the caller's promise.
                unsafe { cursor.try_peek_batch(mem, self.shape, to, most) }
            }
            Cursor::Claims(cursor, mem) => {
                let claimed = match self.held.is_empty() {
                    true => cursor.try_claim_batch(mem, self.shape, most, &mut self.held),
                    false => Ok(()),
                };
                claimed.map(|()| {
                    let (size, count) = (self.shape.size(), self.held.len().min(most));
                    for (i, &held) in self.held[..count].iter().enumerate() {
                        // SAFETY: the caller's promise: there are at most `most`.
                        unsafe { cursor.read(mem, self.shape, held, to.add(i * size)) };
                    }
                    count
                })
            }
        };
        peeked.map_err(|blocked| self.refused(blocked))
    }

    /// Takes up to `most` messages, unread.
    pub(crate) fn skip(&mut self, most: usize) -> Result<usize, Failure> {
        self.side.admit()?;
        match &mut self.cursor {
            Cursor::Cells(cursor) => {
                let count = cursor.skip(memory(&self.side.attached), self.shape, most);
                if cursor.release_is_due() {
                    self.release();
                }
                Ok(count)
            }
            Cursor::Claims(cursor, mem) => {
                let mut done = 0;
                while done < most {
                    if self.held.is_empty()
                        && cursor
                            .try_claim_batch(mem, self.shape, most - done, &mut self.held)
                            .is_err()
                    {
                        break;
                    }
                    let count = self.held.len().min(most - done);
                    for held in self.held.drain(..count) {
                        cursor.release(mem, self.shape, held);
                    }
                    done += count;
                }
                if done > 0 {
                    self.side.notify_of(Role::Sender, done);
                }
                Ok(done)
            }
        }
    }

    /// Lets others have what was looked at and not taken: the journal has room for one claim.
    #[inline]
    fn give_held_back(&mut self) {
        if !self.held.is_empty() {
            self.give_all_held_back();
        }
    }

    #[cold]
    #[inline(never)]
    fn give_all_held_back(&mut self) {
        if let Cursor::Claims(cursor, mem) = &mut self.cursor {
            cursor.give_back(mem, self.shape, &self.held);
            self.held.clear();
            self.side.wake_own_side();
        }
    }

    #[cold]
    #[inline(never)]
    fn release(&mut self) {
        if let Cursor::Cells(cursor) = &mut self.cursor {
            if cursor.release(memory(&self.side.attached)) {
                self.side.notify(Role::Sender);
            }
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
        if let Cursor::Claims(cursor, _) = &self.cursor {
            self.side.stuck = cursor.is_stuck();
        }
        self.release();
        if !self.side.seems_gone() {
            self.side.tend_now_and_then();
            return Failure::NotReady;
        }
        // What the dead have left comes first.
        self.side.tend();
        // It may have sent something before it went.
        match self.look() {
            Ok(()) => Failure::NotReady,
            Err(Failure::NotReady) if self.side.awaits_claimer() => Failure::NotReady,
            Err(Failure::NotReady) => Failure::Disconnected,
            Err(failure) => failure,
        }
    }

    /// Whether a message is there now, as [`try_recv`](Self::try_recv) would find.
    #[inline]
    pub(crate) fn poll(&mut self) -> Result<(), Failure> {
        self.side.admit()?;
        if !self.held.is_empty() || matches!(&self.cursor, Cursor::Cells(c) if c.knows_more()) {
            return Ok(());
        }
        match self.look() {
            Err(Failure::NotReady) => Err(self.refused(Blocked::NotReady)),
            found => found,
        }
    }

    fn look(&mut self) -> Result<(), Failure> {
        let Self { side, cursor, shape, .. } = self;
        look(side, cursor, *shape)
    }

    /// Waits until a message is there, which this receiver takes next, if it is the only one.
    #[cold]
    #[inline(never)]
    pub(crate) fn wait_for_message(&mut self, deadline: Option<Instant>) -> Result<(), Failure> {
        let Self { side, cursor, shape, .. } = self;
        let sleeps = side.sleeps();
        let found = wait::wait(side, deadline, |side, _| {
            side.admit()?;
            let found = look(side, cursor, *shape);
            if let (Err(Failure::NotReady), Cursor::Cells(cursor)) = (&found, &mut *cursor) {
                if cursor.release(memory(&side.attached)) {
                    side.notify(Role::Sender);
                }
            }
            found
        });
        if let Cursor::Claims(cursor, mem) = cursor {
            side.share(sleeps, || cursor.is_plenty(mem, *shape));
        }
        found
    }
}

/// Whether a message is there.
fn look<S: Shape>(
    side: &mut Participant,
    cursor: &mut Cursor<RecvCursor, claims::RecvCursor>,
    shape: S,
) -> Result<(), Failure> {
    let found = match cursor {
        Cursor::Cells(cursor) => cursor.look(memory(&side.attached), shape),
        Cursor::Claims(cursor, mem) => {
            let found = cursor.look(mem, shape);
            side.stuck = cursor.is_stuck();
            found
        }
    };
    match found {
        Ok(()) => Ok(()),
        Err(Blocked::NotReady) => Err(Failure::NotReady),
        Err(Blocked::Corrupt) => {
            side.poison();
            Err(Failure::Corrupt)
        }
    }
}

impl<S: Shape> SlotReceiver<S> {
    /// Says what was received, and gives back what is held.
    fn settle(&mut self) {
        if !self.side.is_ours() {
            return;
        }
        self.give_held_back();
        if self.side.admit().is_ok() {
            self.release();
        }
    }

    /// [Leaves](Participant::leave) the role before it is dropped.
    pub(crate) fn leave(&mut self) {
        self.settle();
        self.side.leave();
    }
}

impl<S: Shape> Drop for SlotReceiver<S> {
    fn drop(&mut self) {
        self.settle();
    }
}
