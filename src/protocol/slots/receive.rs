//! The receiving side of a ring of slots.

use super::cells::{
    Geometry, Place, Shape, ahead, ask_ahead, ask_for_cell_ahead, catch_up, message_at,
};
use super::{FREE, FULL, PERIOD, ROOM, STATE, Slots, committed, full, stamp};
use crate::payload;
use crate::protocol::layout::Half;
use crate::protocol::pace::Pace;
use crate::protocol::room::Releases;
use crate::protocol::{Blocked, release_period};
use crate::sync::{Edge, Ordering, Word, prefetch_for_read};

/// The receiver's private state.
#[derive(Clone, Debug)]
pub struct RecvCursor {
    head: u64,
    /// Positions below are known to be committed.
    ready: u64,
    place: Place,
    /// The messages from `place` to this word may be read without another look: they are in its cell,
    /// and committed.
    end: usize,
    /// How far ahead of `place` lines are asked for.
    ahead: usize,
    /// Whether the last look found messages: then there are likely more than their stamp tells of.
    streaming: bool,
    pace: Pace,
    releases: Releases,
    geometry: Geometry,
}

/// What it brought to stay for a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// Nothing, or nothing that was not there before.
    InVain,
    /// Something to look at.
    Brought,
    /// A message, and that is received.
    Received,
}

/// Messages that may be read one after the other: all are committed, and not taken yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    /// The next one.
    place: Place,
    /// The messages from there to this word are in one cell.
    end: usize,
    /// How many come after those, in other cells.
    more: usize,
    /// How many are known to be there behind the run.
    beyond: usize,
    /// How many there were at first.
    total: usize,
    ahead: usize,
    /// Words of all cells.
    lap: usize,
}

impl Run {
    /// How many there are left.
    #[inline(always)]
    pub fn len(&self, shape: impl Shape) -> usize {
        (self.end - self.place.message) / shape.words() + self.more
    }

    /// Whether all in this cell have been read: then [`go_on`](Self::go_on) finds more, if there are any.
    #[inline(always)]
    pub fn is_over(&self) -> bool {
        self.place.message == self.end
    }

    /// Goes on to the next cell of the run, if all in this one have been read; `false` if there is none.
    #[inline(always)]
    pub fn go_on(&mut self, words: &[Word], shape: impl Shape) -> bool {
        if self.more == 0 {
            return false;
        }
        self.place.settle(shape, self.lap);
        self.ahead = ahead(shape, self.more + self.beyond);
        ask_for_cell_ahead(words, shape, self.place, self.ahead, prefetch_for_read);
        let count = self.more.min(self.place.left(shape));
        self.more -= count;
        self.end = self.place.message + count * shape.words();
        true
    }

    /// Those of this cell that are left.
    #[inline(always)]
    pub fn cell(&mut self) -> Cell<'_> {
        let (at, end, ahead) = (self.place.message, self.end, self.ahead);
        Cell { at, end, ahead, run: self }
    }
}

/// The messages of a [`Run`] in one cell. The run learns how many were read when this is dropped, after a panic, too: until then
/// a register has it.
#[derive(Debug)]
pub struct Cell<'a> {
    run: &'a mut Run,
    at: usize,
    end: usize,
    ahead: usize,
}

impl Cell<'_> {
    /// Whether there are more.
    #[inline(always)]
    pub fn is_left(&self) -> bool {
        self.at < self.end
    }

    /// Reads the next message to `to`.
    ///
    /// # Safety
    ///
    /// `to` must be valid for writes of [`Shape::size`] bytes. Some must be left, and the run be one of the cursor of this memory
    /// and shape.
    #[inline(always)]
    pub unsafe fn read(&mut self, words: &[Word], shape: impl Shape, to: *mut u8) {
        ask_ahead(words, shape, self.at, self.ahead, prefetch_for_read);
        // SAFETY: the caller's promise; `message_at` gives the words of one message.
        unsafe { payload::read(message_at(words, shape, self.at), to, shape.size()) };
        self.at += shape.words();
    }
}

impl Drop for Cell<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.run.place.message = self.at;
    }
}

impl RecvCursor {
    /// Goes on where the last receiver stopped. A message that it copied out but did not live to note
    /// is delivered again.
    pub fn recover(mem: Slots<'_>, shape: impl Shape, capacity: usize) -> Result<Self, Blocked> {
        let geometry = Geometry::new(mem, shape, capacity);
        let (ready, head) = committed(mem, shape, &geometry)?;
        Ok(Self::start(mem, shape, geometry, (head, ready)))
    }

    /// Starts at `head`, where messages below `ready` are committed, which is the end of a send. A `ready` below `head`,
    /// which only a damaged ring has, tells of none.
    pub fn at(
        mem: Slots<'_>,
        shape: impl Shape,
        capacity: usize,
        (head, ready): (u64, u64),
    ) -> Self {
        let geometry = Geometry::new(mem, shape, capacity);
        let cursor = Self::start(mem, shape, geometry, (head, ready.max(head)));
        cursor.note(mem);
        cursor
    }

    fn start(
        mem: Slots<'_>,
        shape: impl Shape,
        geometry: Geometry,
        (head, ready): (u64, u64),
    ) -> Self {
        let period = release_period(geometry.capacity, PERIOD);
        let releases = Releases::new(mem.receiver, head, period, ROOM);
        let place = geometry.place(shape, head);
        let (end, pace) = (place.message, Pace::new(head));
        Self { head, ready, place, end, ahead: 0, streaming: false, pace, releases, geometry }
    }

    /// How far messages are taken.
    #[inline(always)]
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Whether `released` is due after what was just received.
    #[inline(always)]
    pub fn release_is_due(&self) -> bool {
        self.releases.are_due(self.head)
    }

    /// Receives one message into `to`.
    ///
    /// # Safety
    ///
    /// `to` must be valid for writes of [`Shape::size`] bytes.
    #[inline(always)]
    pub unsafe fn try_recv(
        &mut self,
        mem: Slots<'_>,
        shape: impl Shape,
        to: *mut u8,
    ) -> Result<(), Blocked> {
        if self.is_run_over() {
            self.next_run(mem, shape)?;
        }
        // SAFETY: the caller's promise; if the run was over there is one now.
        unsafe { self.recv_known(mem, shape, to) };
        if self.is_run_over() && self.knows_more() {
            self.open_run(mem.words, shape);
        }
        Ok(())
    }

    /// Whether the next message is in no run yet.
    #[inline(always)]
    pub fn is_run_over(&self) -> bool {
        self.place.message == self.end
    }

    /// Whether the next message is known to be there, and another one behind it in the same run. Then nothing else is to be done
    /// with it: no release is due after it, for that ends a run.
    #[inline(always)]
    pub fn is_in_run(&self, shape: impl Shape) -> bool {
        self.place.message + shape.words() < self.end
    }

    /// Receives a message that is known to be there into `to`.
    ///
    /// # Safety
    ///
    /// As for [`try_recv`](Self::try_recv), and the run must not be over.
    #[inline(always)]
    pub unsafe fn recv_known(&mut self, mem: Slots<'_>, shape: impl Shape, to: *mut u8) {
        let (head, at) = (self.head, self.place.message);
        ask_ahead(mem.words, shape, at, self.ahead, prefetch_for_read);
        // SAFETY: the caller's promise; `message_at` gives the words of one message.
        unsafe { payload::read(message_at(mem.words, shape, at), to, shape.size()) };
        self.head = head + 1;
        self.place.message = at + shape.words();
        self.note(mem);
    }

    /// Receives one message by `copy`, which gets its words.
    #[inline]
    pub fn try_recv_by(
        &mut self,
        mem: Slots<'_>,
        shape: impl Shape,
        copy: impl FnOnce(&[Word]),
    ) -> Result<(), Blocked> {
        if self.place.message == self.end {
            self.next_run(mem, shape)?;
        }
        copy(message_at(mem.words, shape, self.place.message));
        self.head += 1;
        self.place.message += shape.words();
        self.note(mem);
        Ok(())
    }

    /// Finds out how far messages may be read: at least one, or the reason why not.
    #[inline(always)]
    fn next_run(&mut self, mem: Slots<'_>, shape: impl Shape) -> Result<(), Blocked> {
        self.settle(shape);
        if self.head == self.ready {
            self.look_now(mem, shape)?;
        }
        self.open_run(mem.words, shape);
        Ok(())
    }

    /// Goes on to messages that are known to be there.
    #[inline(always)]
    fn open_run(&mut self, words: &[Word], shape: impl Shape) {
        let left = self.geometry.enter(shape, &mut self.place);
        let known = (self.ready - self.head) as usize;
        self.ahead = ahead(shape, known);
        ask_for_cell_ahead(words, shape, self.place, self.ahead, prefetch_for_read);
        let run = known.min(left).min(self.releases.left(self.head));
        self.end = self.place.message + run * shape.words();
    }

    #[inline(always)]
    fn settle(&mut self, shape: impl Shape) {
        self.geometry.settle(shape, &mut self.place);
        self.end = self.place.message;
    }

    /// Receives up to `most` messages into `to`, one after the other, and says how many.
    ///
    /// # Safety
    ///
    /// `to` must be valid for writes of `most` times [`Shape::size`] bytes.
    #[inline(always)]
    pub unsafe fn try_recv_batch(
        &mut self,
        mem: Slots<'_>,
        shape: impl Shape,
        to: *mut u8,
        most: usize,
    ) -> Result<usize, Blocked> {
        // SAFETY: the caller's promise.
        let done = unsafe { self.copy_batch(mem, shape, to, most) }?;
        // Once a batch.
        self.note(mem);
        Ok(done)
    }

    /// Copies up to `most` messages into `to` and stays where it is: nothing is written to the ring.
    ///
    /// # Safety
    ///
    /// As for [`try_recv_batch`](Self::try_recv_batch).
    pub unsafe fn try_peek_batch(
        &mut self,
        mem: Slots<'_>,
        shape: impl Shape,
        to: *mut u8,
        most: usize,
    ) -> Result<usize, Blocked> {
        let (head, place) = (self.head, self.place);
        // SAFETY: the caller's promise.
        let done = unsafe { self.copy_batch(mem, shape, to, most) };
        (self.head, self.place, self.end) = (head, place, place.message);
        done
    }

    /// Takes up to `most` messages without reading them, and says how many.
    pub fn skip(&mut self, mem: Slots<'_>, shape: impl Shape, most: usize) -> usize {
        let mut done = 0;
        while done < most {
            self.settle(shape);
            if self.head == self.ready && self.look(mem, shape).is_err() {
                break;
            }
            let known = ((self.ready - self.head) as usize).min(most - done);
            let run = self.geometry.skip(shape, &mut self.place, known);
            self.head += run as u64;
            done += run;
        }
        self.end = self.place.message;
        // Once a batch.
        self.note(mem);
        done
    }

    /// Moves over up to `most` messages, copying them into `to`, and says how many; nobody else knows of
    /// it before [`note`](Self::note).
    ///
    /// # Safety
    ///
    /// As for [`try_recv_batch`](Self::try_recv_batch).
    #[inline(always)]
    unsafe fn copy_batch(
        &mut self,
        mem: Slots<'_>,
        shape: impl Shape,
        to: *mut u8,
        most: usize,
    ) -> Result<usize, Blocked> {
        self.settle(shape);
        let mut done = 0;
        while done < most {
            if self.head == self.ready {
                match self.look_now(mem, shape) {
                    Ok(()) => {}
                    Err(Blocked::NotReady) => break,
                    // What came before is whole: hand it over, and find the same thing next time.
                    Err(Blocked::Corrupt) if done > 0 => break,
                    Err(Blocked::Corrupt) => return Err(Blocked::Corrupt),
                }
            }
            let known = (self.ready - self.head) as usize + done;
            let end = known.min(most);
            let (mut place, count) = (self.place, end - done);
            while done < end {
                // SAFETY: `end <= most`, so the caller's promise covers the rest from `done` on.
                done += unsafe {
                    let (to, known) = (to.add(done * shape.size()), known - done);
                    self.geometry.read_run(mem, shape, &mut place, to, end - done, known)
                };
            }
            self.head += count as u64;
            (self.place, self.end) = (place, place.message);
        }
        if done == 0 && most > 0 {
            return Err(Blocked::NotReady);
        }
        Ok(done)
    }

    /// No messages, before the next one.
    #[inline(always)]
    pub fn no_messages(&self) -> Run {
        Run { place: self.place, end: self.place.message, ..Run::default() }
    }

    /// The next messages, at most `most` and at least one, none of which is taken before
    /// [`take_to`](Self::take_to).
    #[inline(always)]
    pub fn next_messages(
        &mut self,
        mem: Slots<'_>,
        shape: impl Shape,
        most: usize,
    ) -> Result<Run, Blocked> {
        self.settle(shape);
        if self.head == self.ready {
            self.look_now(mem, shape)?;
        }
        let known = (self.ready - self.head) as usize;
        let total = known.min(most);
        let lap = self.geometry.lap_words();
        let beyond = known - total;
        let mut run = Run { more: total, beyond, total, lap, ..self.no_messages() };
        run.go_on(mem.words, shape);
        Ok(run)
    }

    /// Takes the messages of `run`, which [`next_messages`](Self::next_messages) gave last, that have been
    /// read. Nobody else knows of it before [`note`](Self::note); a successor receives them again until
    /// then.
    #[inline(always)]
    pub fn take_to(&mut self, shape: impl Shape, run: Run) {
        self.head += (run.total - run.len(shape)) as u64;
        (self.place, self.end) = (run.place, run.place.message);
    }

    /// S3 head: the messages before this one have been read for the last time.
    #[inline(always)]
    pub fn note(&self, mem: Slots<'_>) {
        self.releases.note(mem.receiver, self.head);
    }

    /// [`look`](Self::look), if need be twice, for a receiver that is in a stream.
    #[inline(always)]
    fn look_now(&mut self, mem: Slots<'_>, shape: impl Shape) -> Result<(), Blocked> {
        match self.look(mem, shape) {
            Err(Blocked::NotReady) if self.pace.give_way(self.head) => {
                let found = self.look(mem, shape);
                self.pace.learn(found.is_ok());
                found
            }
            done => done,
        }
    }

    /// Whether messages are known to be there, of which no stamp need tell any more.
    #[inline]
    pub fn knows_more(&self) -> bool {
        self.head < self.ready
    }

    /// Whether no message is known to be there, and they come one at a time.
    #[inline(always)]
    pub fn awaits_answer(&self) -> bool {
        self.head == self.ready && self.pace.is_conversation(self.head)
    }

    /// Stays for a moment if the answer that it [awaits](Self::awaits_answer) is not there, and receives it into `to` if it is a
    /// message alone, as it most likely is. `late` says that it has waited already.
    ///
    /// What is known before the answer comes is looked up before: from its arrival to what the caller does with it, each
    /// instruction is one that the peer waits for.
    ///
    /// # Safety
    ///
    /// `to` must be valid for writes of [`Shape::size`] bytes.
    #[inline(always)]
    pub unsafe fn linger(
        &mut self,
        mem: Slots<'_>,
        shape: impl Shape,
        late: bool,
        to: *mut u8,
    ) -> Stay {
        self.settle(shape);
        let (head, at) = (self.head, self.place.message);
        let stamp = stamp(mem, self.place);
        let before = stamp.load(Ordering::Relaxed);
        let is_there = before & STATE == FULL && before >> 2 >= head;
        if is_there && !late {
            return Stay::InVain;
        }
        self.streaming = false;
        let (alone, next, end) = (full(head), head + 1, at + shape.words());
        let is_due = self.releases.are_due(next);
        let found = if is_there {
            self.pace.converse(head);
            before
        } else {
            let look = || Some(stamp.load(Ordering::Relaxed)).filter(|&found| found != before);
            let Some(found) = self.pace.linger(head, look) else { return Stay::InVain };
            found
        };
        if found != alone || is_due {
            return if is_there { Stay::InVain } else { Stay::Brought };
        }
        // S1 commit, with what was loaded above.
        Edge::CommitLoad.order(Ordering::Acquire);
        ask_ahead(mem.words, shape, at, 0, prefetch_for_read);
        // SAFETY: the caller's promise; `message_at` gives the words of one message.
        unsafe { payload::read(message_at(mem.words, shape, at), to, shape.size()) };
        (self.head, self.ready) = (next, next);
        (self.place.message, self.end) = (end, end);
        self.streaming = true;
        self.note(mem);
        Stay::Received
    }

    /// Whether a message is there, without taking it.
    #[inline(always)]
    pub fn look(&mut self, mem: Slots<'_>, shape: impl Shape) -> Result<(), Blocked> {
        self.settle(shape);
        // S1 commit.
        let found = Edge::CommitLoad.acquire(stamp(mem, self.place));
        let more = (found >> 2).wrapping_sub(self.head);
        if found & STATE == FULL && more < self.geometry.capacity {
            self.ready = self.head + more + 1;
            // A stamp that does not reach the end of its cell is the sender's last.
            if self.streaming && more >= self.place.left(shape) as u64 - 1 {
                return self.look_beyond(mem.sender, mem.words, shape);
            }
            self.streaming = true;
            return Ok(());
        }
        self.explain(found)
    }

    /// Learns how far the sender is from its own note, which costs one more line, but only one for all
    /// messages up to there. If that is not far, lets it get ahead.
    #[cold]
    #[inline(never)]
    fn look_beyond(
        &mut self,
        sender: &Half,
        words: &[Word],
        shape: impl Shape,
    ) -> Result<(), Blocked> {
        let mut known = self.read_note(sender)?;
        if ahead(shape, known) == 0 && self.pace.give_way(self.head) {
            let before = known;
            known = self.read_note(sender)?;
            self.pace.learn(known > before);
        }
        catch_up(words, shape, self.place, known, prefetch_for_read);
        Ok(())
    }

    /// Messages that are there, as the sender's note says.
    fn read_note(&mut self, sender: &Half) -> Result<usize, Blocked> {
        // S4 note. It may trail the stamp.
        let noted = Edge::StreamLoad.acquire(&sender.cursor.position);
        if noted > self.ready {
            if noted - self.head > self.geometry.capacity {
                return Err(Blocked::Corrupt);
            }
            self.ready = noted;
        }
        Ok((self.ready - self.head) as usize)
    }

    /// Tells an empty ring from a broken one: a stale stamp says less than is known, never more.
    #[cold]
    #[inline(never)]
    fn explain(&mut self, found: u64) -> Result<(), Blocked> {
        self.streaming = false;
        let stale = match found & STATE {
            FREE => found >> 2 <= self.head,
            FULL => found >> 2 < self.head,
            _ => false,
        };
        Err(if stale { Blocked::NotReady } else { Blocked::Corrupt })
    }

    /// Tells the sender how far the receiver is; `false` if it had been told already.
    #[inline]
    pub fn release(&mut self, mem: Slots<'_>) -> bool {
        self.releases.publish(mem.receiver, self.head)
    }
}
