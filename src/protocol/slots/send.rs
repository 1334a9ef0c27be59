//! The sending side of a ring of slots.

use super::cells::{
    Geometry, Place, Shape, Typed, ahead, ask_ahead, ask_for_cell_ahead, catch_up, message_at,
    messages_at,
};
use super::{ROOM, Slots, committed, full, stamp};
use crate::payload::{self, AHEAD, LINE};
use crate::protocol::Blocked;
use crate::protocol::layout::Half;
use crate::protocol::room::{Look, Room};
use crate::sync::{Bound, Edge, Word, prefetch_for_write};
use bytemuck::NoUninit;
use core::mem::MaybeUninit;

/// Up to so many messages in a line, the next one is made the sender's after each of them, too: with more of them most begin none.
const FEW: usize = 3;

/// The sender's private state.
#[derive(Debug)]
pub struct SendCursor {
    tail: u64,
    place: Place,
    /// The messages from `place` to this word may be written without another look: they are in its
    /// cell, and there is room for them.
    end: usize,
    /// How far ahead of `place` lines are asked for.
    ahead: usize,
    /// Up to where the lines are this side's.
    owned: u64,
    room: Room,
    geometry: Geometry,
}

impl SendCursor {
    /// Goes on where the last sender stopped: after its last committed message, whether or not it
    /// lived to note that.
    pub fn recover(mem: Slots<'_>, shape: impl Shape, capacity: usize) -> Result<Self, Blocked> {
        let geometry = Geometry::new(mem, shape, capacity);
        let (tail, head) = committed(mem, shape, &geometry)?;
        mem.sender.cursor.position.store(tail, Edge::NoteStore.store());
        let room = Room::new(head, geometry.capacity, tail, ROOM);
        let place = geometry.place(shape, tail);
        Ok(Self { tail, place, end: place.message, ahead: 0, owned: tail, room, geometry })
    }

    /// Sends one message.
    #[inline(always)]
    pub fn try_send(
        &mut self,
        mem: Slots<'_>,
        shape: impl Shape,
        message: &[u8],
    ) -> Result<(), Blocked> {
        // Many to a line: nothing is to be done before and after one that is followed by another in the same run.
        if shape.is_small()
            && shape.per_cell() > FEW
            && self.place.message + shape.words() < self.end
        {
            self.write_next(mem, shape, message);
            return Ok(());
        }
        if self.is_run_over() {
            self.next_run(mem, shape)?;
        }
        self.write_next(mem, shape, message);
        self.own_ahead(mem, shape, 1);
        if self.is_run_over() && self.has_room() {
            self.open_run(mem.words, shape);
        }
        Ok(())
    }

    /// Sends one message, for which there is room in this run.
    #[inline(always)]
    fn write_next(&mut self, mem: Slots<'_>, shape: impl Shape, message: &[u8]) {
        let (tail, at) = (self.tail, self.place.message);
        ask_ahead(mem.words, shape, at, self.ahead, prefetch_for_write);
        payload::write(message_at(mem.words, shape, at), message);
        self.commit(mem, self.place, tail + 1);
        self.place.message = at + shape.words();
    }

    /// Publishes a send that started in the cell of `start` and ended before `tail`.
    #[inline(always)]
    fn commit(&mut self, mem: Slots<'_>, start: Place, tail: u64) {
        // S1 commit, once a send: all payload up to here is visible to whoever sees this stamp.
        stamp(mem, start).store(full(tail - 1), Edge::CommitStore.store());
        // S4 note.
        mem.sender.cursor.position.store(tail, Edge::NoteStore.store());
        self.tail = tail;
    }

    /// Finds out how far messages may be written: at least one, or the reason why not.
    #[inline(always)]
    fn next_run(&mut self, mem: Slots<'_>, shape: impl Shape) -> Result<(), Blocked> {
        self.settle(shape);
        if self.tail == self.room.limit {
            self.find_room_now(mem.sender, mem.receiver, mem.words, shape)?;
        }
        self.open_run(mem.words, shape);
        Ok(())
    }

    /// Goes on to messages that there is known to be room for.
    #[inline(always)]
    fn open_run(&mut self, words: &[Word], shape: impl Shape) {
        let left = self.geometry.enter(shape, &mut self.place);
        let room = (self.room.limit - self.tail) as usize;
        self.ahead = ahead(shape, room);
        ask_for_cell_ahead(words, shape, self.place, self.ahead, prefetch_for_write);
        self.end = self.place.message + room.min(left) * shape.words();
    }

    /// Makes the lines of the next messages this side's, if they are not: when `sent` messages have been published, so that
    /// none has to wait for it that is alone.
    ///
    /// The receiver has read them in the last lap, so the first store to each has to wait until the other processor has
    /// let go of it, and keeps all later ones waiting. Between the first stores to two lines lie all the stores of their
    /// messages, so that few lines fit into the store buffer; one word of each, one after the other, and it is one wait for
    /// all of them. (`prefetchw` is not always heeded for a line that this processor has, too.)
    ///
    /// Where most messages begin a line, later ones are made its own once more: where messages come one at a time, the other
    /// processor has taken the next one meanwhile, beside a line that it looked at. The next look takes it again, but a store
    /// to a line that this side has lent takes half as long as one to a line that it must get back.
    #[inline(always)]
    fn own_ahead(&mut self, mem: Slots<'_>, shape: impl Shape, sent: usize) {
        if self.tail >= self.owned {
            let room = Bound::Owned.of(self.room()) as usize;
            let messages = self.geometry.own(mem.words, shape, self.place, room, sent) as u64;
            self.owned = self.tail + Bound::TakenBack.of(messages);
        } else if shape.is_small() && shape.per_cell() <= FEW {
            // There is room for it: there was up to `owned`, and room is not taken back.
            self.geometry.own_message(mem, shape, self.place);
        }
    }

    /// Makes the lines of the next message this side's, where there is room for it. Before the receiver has read the last
    /// one, this may take that away from it.
    #[inline(always)]
    pub fn own_next(&self, mem: Slots<'_>, shape: impl Shape) {
        if Bound::Beside.of(self.room()) > 0 {
            self.geometry.own_message(mem, shape, self.place);
        }
    }

    /// Finds room where none is known, if there is any. The memory comes in parts, here and wherever there is a call: whole
    /// it would be passed by reference, and so stored for each message.
    #[cold]
    #[inline(never)]
    fn find_room_now(
        &mut self,
        sender: &Half,
        receiver: &Half,
        words: &[Word],
        shape: impl Shape,
    ) -> Result<(), Blocked> {
        let wanted = (self.tail, self.tail + 1);
        self.room.find(sender, receiver, wanted, self.tail, Look::Exact)?;
        let room = (self.room.limit - self.tail) as usize;
        catch_up(words, shape, self.place, room, prefetch_for_write);
        Ok(())
    }

    /// Makes sure that a batch starts in the cell that a successor would look for it in.
    #[inline(always)]
    fn settle(&mut self, shape: impl Shape) -> Place {
        self.geometry.settle(shape, &mut self.place);
        self.end = self.place.message;
        self.place
    }

    /// Sends as many of the messages in `bytes` as there is room for, and says how many: 0 only of none. A
    /// look at what is released may find less than there is, but some if there is any.
    ///
    /// `bytes` holds whole messages, each [`Shape::size`] long.
    #[inline(always)]
    pub fn try_send_batch(
        &mut self,
        mem: Slots<'_>,
        shape: impl Shape,
        bytes: &[u8],
        messages: usize,
        look: Look,
    ) -> Result<usize, Blocked> {
        let start = self.settle(shape);
        if self.tail == self.room.limit && messages > 0 {
            self.find_room_now(mem.sender, mem.receiver, mem.words, shape)?;
        }
        if self.room.limit - self.tail < messages as u64 {
            let wanted = self.tail.saturating_add(messages as u64);
            match self.room.look_for(mem.sender, mem.receiver, self.tail, wanted, look) {
                Ok(()) | Err(Blocked::NotReady) => {}
                Err(Blocked::Corrupt) => return Err(Blocked::Corrupt),
            }
        }
        let room = (self.room.limit - self.tail) as usize;
        let count = messages.min(room);
        if count == 0 {
            return Ok(0);
        }
        let (mut place, mut done) = (start, 0);
        while done < count {
            let rest = &bytes[done * shape.size()..];
            let (most, known) = (count - done, room - done);
            done += self.geometry.write_run(mem, shape, &mut place, rest, most, known);
        }
        self.commit(mem, start, self.tail + count as u64);
        (self.place, self.end) = (place, place.message);
        self.own_ahead(mem, shape, count);
        Ok(count)
    }

    /// Sends messages from `messages` for as long as there is room and there are any, and says how many.
    /// None is taken that there is no room for. A panic of the iterator sends nothing, and nor does a child that it has
    /// forked: `is_mapped` says after each of its steps whether the memory is still there.
    #[inline(always)]
    pub fn try_send_from<T: NoUninit>(
        &mut self,
        mem: Slots<'_>,
        shape: Typed<T>,
        mut messages: impl Iterator<Item = T>,
        is_mapped: impl Fn() -> bool,
    ) -> Result<usize, Blocked> {
        if self.tail == self.room.limit {
            self.find_room_now(mem.sender, mem.receiver, mem.words, shape)?;
        }
        let start = self.settle(shape);
        let (mut place, mut tail, limit) = (start, self.tail, self.room.limit);
        'runs: while tail < limit {
            self.geometry.settle(shape, &mut place);
            let room = (limit - tail) as usize;
            // Whole lines: as many times as the compiler knows, so they need no count and no place for each message. Those of a
            // line are taken before the first is written, so that one look for a fork is enough and words are stored in pairs.
            if let Some(lines) = self.geometry.whole_lines(shape, place, room) {
                let mut line_start = place.message;
                for _ in 0..lines.count {
                    if line_start < lines.known_end {
                        prefetch_for_write(mem.words.as_ptr().wrapping_add(line_start + AHEAD));
                    }
                    let Some(taken) =
                        send_line(mem.words, shape, line_start, &mut messages, &is_mapped)
                    else {
                        return Ok(0);
                    };
                    tail += taken as u64;
                    if taken < shape.per_cell() {
                        place.cell = line_start - shape.first();
                        place.message = line_start + taken * shape.words();
                        break 'runs;
                    }
                    line_start += shape.stride();
                }
                self.geometry.pass(shape, &mut place, lines.count);
                continue;
            }
            let ahead = ahead(shape, room);
            ask_for_cell_ahead(mem.words, shape, place, ahead, prefetch_for_write);
            let run = room.min(place.left(shape));
            let end = place.message + run * shape.words();
            while place.message < end {
                let next = messages.next();
                if !is_mapped() {
                    return Ok(0);
                }
                let Some(message) = next else { break 'runs };
                ask_ahead(mem.words, shape, place.message, ahead, prefetch_for_write);
                let words = message_at(mem.words, shape, place.message);
                payload::write(words, bytemuck::bytes_of(&message));
                place.message += shape.words();
                tail += 1;
            }
        }
        let count = (tail - self.tail) as usize;
        if count > 0 {
            self.commit(mem, start, tail);
            (self.place, self.end) = (place, place.message);
            self.own_ahead(mem, shape, count);
        }
        Ok(count)
    }

    /// Whether the next message is the first of a run, so that there may be no room for it.
    #[inline(always)]
    pub fn is_run_over(&self) -> bool {
        self.place.message == self.end
    }

    /// Messages that there is room for, as far as is known.
    #[inline(always)]
    pub fn room(&self) -> u64 {
        self.room.limit - self.tail
    }

    /// How far messages are committed.
    #[inline(always)]
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// Whether there is room, as far as is known.
    pub fn has_room(&self) -> bool {
        self.tail < self.room.limit
    }

    /// Looks for room beyond what is known.
    #[inline]
    pub fn find_room(&mut self, mem: Slots<'_>, look: Look) -> Result<(), Blocked> {
        self.room.look(mem.sender, mem.receiver, self.tail, look)
    }
}

/// Takes messages for a whole line and writes them from word `start` on. How many there were, or `None` if the memory is gone.
// The line of messages of any size, of which only small ones come here, is on the stack where the compiler does not find that
// out: then this is a call, and whoever sends large ones has no room for eight of them there.
#[cfg_attr(not(debug_assertions), inline(always))]
fn send_line<T: NoUninit>(
    words: &[Word],
    shape: Typed<T>,
    start: usize,
    messages: &mut impl Iterator<Item = T>,
    is_mapped: &impl Fn() -> bool,
) -> Option<usize> {
    let mut line = [MaybeUninit::<T>::uninit(); LINE];
    let mut taken = 0;
    while taken < shape.per_cell() {
        let Some(message) = messages.next() else {
            if !is_mapped() {
                return None;
            }
            // SAFETY: so many were taken.
            unsafe { write_part(words, shape, start, line, taken) };
            return Some(taken);
        };
        line[taken].write(message);
        taken += 1;
    }
    if !is_mapped() {
        return None;
    }
    // SAFETY: all were taken.
    unsafe { write_line(words, shape, start, &line, shape.per_cell()) };
    Some(taken)
}

/// Writes the first `count` messages of `line` from word `start` on.
///
/// # Safety
///
/// They must be there.
#[inline(always)]
unsafe fn write_line<T: NoUninit>(
    words: &[Word],
    shape: Typed<T>,
    start: usize,
    line: &[MaybeUninit<T>; LINE],
    count: usize,
) {
    // SAFETY: the caller's promise; they have no bytes that are not written (`NoUninit`).
    let bytes =
        unsafe { core::slice::from_raw_parts(line.as_ptr().cast(), count * size_of::<T>()) };
    if shape.is_dense() {
        payload::write(messages_at(words, shape, start, count), bytes);
        return;
    }
    for (i, message) in bytes.chunks_exact(shape.size()).enumerate() {
        payload::write(message_at(words, shape, start + i * shape.words()), message);
    }
}

/// The same where the iterator had no more. It has a line of its own, so that the other one need not be in memory.
///
/// # Safety
///
/// As for [`write_line`].
#[cold]
#[inline(never)]
unsafe fn write_part<T: NoUninit>(
    words: &[Word],
    shape: Typed<T>,
    start: usize,
    line: [MaybeUninit<T>; LINE],
    count: usize,
) {
    // SAFETY: the caller's promise.
    unsafe { write_line(words, shape, start, &line, count) };
}
