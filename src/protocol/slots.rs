//! Stamped slots: a ring of fixed-size messages with one sender and one receiver.
//!
//! The idea that a slot says by itself whether it is full, so that the consumer needs no second cache
//! line to learn it, is FastForward's (Giacomoni, Moseley, Vachharajani, PPoPP 2008); stamps that carry
//! the position, so that a lap is never mistaken for another, are Vyukov's (bounded MPMC queue, 2010).
//! Caching the other side's position is Lee, Bu and Chandranmenon's MCRingBuffer (IPDPS 2010). Ours is
//! the **cell**: one stamp for as many messages as fit into its cache line. One message a call still
//! costs one line transfer, and a stream of 8-byte messages carries seven in each line instead of four.
//!
//! ```text
//! cell, messages of up to 56 bytes: 64 bytes        cell, larger messages: 8 + size bytes
//! | stamp | m0 | m1 | ... | unused |               | stamp | message            |
//!
//! stamp = { position:62 | state:2 }
//!   FREE(p) = 4p      nothing in this cell is committed yet; p is its first position (first lap only)
//!   FULL(p) = 4p + 1  all positions up to and including p are committed, in whatever cell
//!   the states 2 and 3 are for rings with shared sides
//! ```
//!
//! A send, of one message or of a batch, stores all payload and then one stamp: that of the cell in which
//! it **starts**, with the last position of the batch. So a batch appears at once or, if its sender is
//! killed, not at all, and the receiver does not touch lines that are still being written. What a stamp
//! says is true of the whole ring, so a stale one only says too little. The receiver looks at the
//! cell of the first position that it does not know to be committed; since it learns of whole sends only,
//! that is where the next send will leave its stamp.
//!
//! The receiver does not write the stamp back: that would bounce the line. It keeps `head` exact on a
//! line of its own and publishes `released` every so many messages and whenever it finds the ring
//! empty. The sender lives on `released` and looks at `head` only when that shows no room, so a ring
//! holds exactly `capacity` messages, never fewer.
//!
//! A cell must not be entered for the next lap while the receiver still reads it: with `k` messages a
//! cell, `ceil((capacity - 1) / k) + 1` cells are enough, because `tail < head + capacity` always.

use super::layout::Half;
use super::room::{self, Edges, Releases, Room};
use super::{Blocked, release_period};
use crate::payload;
use crate::sync::{Edge, Ordering, Word};
use bytemuck::NoUninit;

/// Words in the smallest cell: one cache line.
const LINE: usize = 8;
/// The most messages between two publications of `released`.
const PERIOD: u64 = 32;
/// The largest capacity: keeps every size computed from it far from overflow.
pub const MAX_CAPACITY: usize = 1 << 40;

/// The edges that tell the sender of room.
const ROOM: Edges = Edges {
    store: (Edge::ReleaseStore, Edge::HeadStore),
    load: (Edge::ReleaseLoad, Edge::HeadLoad),
};

const FREE: u64 = 0;
const FULL: u64 = 1;
const STATE: u64 = 3;

/// The stamp of a cell in which everything up to `position` is committed.
#[inline(always)]
const fn full(position: u64) -> u64 {
    position << 2 | FULL
}

/// The stamp of a cell that was never used and starts at `position`.
#[inline(always)]
const fn free(position: u64) -> u64 {
    position << 2 | FREE
}

/// The size of a message, known to the compiler ([`Typed`]) or only at run time ([`Untyped`]).
///
/// Sealed by being private: these two are all there are.
pub trait Shape: Copy {
    /// Bytes of a message.
    fn size(&self) -> usize;

    /// Words of a message.
    #[inline(always)]
    fn words(&self) -> usize {
        let words = payload::words_for(self.size());
        if words == 0 { 1 } else { words }
    }

    /// Messages in a cell.
    #[inline(always)]
    fn per_cell(&self) -> usize {
        let fit = (LINE - 1) / self.words();
        if fit == 0 { 1 } else { fit }
    }

    /// Words of a cell.
    #[inline(always)]
    fn stride(&self) -> usize {
        if self.words() < LINE { LINE } else { 1 + self.words() }
    }

    /// Whether messages lie in a cell as they lie in an array.
    #[inline(always)]
    fn is_dense(&self) -> bool {
        self.size() == self.words() * payload::WORD
    }
}

/// Messages of type `T`.
#[derive(Debug)]
pub struct Typed<T>(core::marker::PhantomData<fn(T) -> T>);

impl<T> Typed<T> {
    /// The shape of `T`.
    pub const fn new() -> Self {
        Self(core::marker::PhantomData)
    }
}

impl<T> Clone for Typed<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Typed<T> {}

impl<T> Shape for Typed<T> {
    #[inline(always)]
    fn size(&self) -> usize {
        size_of::<T>()
    }
}

/// Messages of so many bytes.
#[derive(Clone, Copy, Debug)]
pub struct Untyped(pub usize);

impl Shape for Untyped {
    #[inline(always)]
    fn size(&self) -> usize {
        self.0
    }
}

/// Cells that a ring of `capacity` messages needs.
pub fn cells_for(shape: impl Shape, capacity: usize) -> usize {
    (capacity - 1).div_ceil(shape.per_cell()) + 1
}

/// Words of data that a ring of `capacity` messages needs; `None` if that is beyond counting.
pub fn words_for(shape: impl Shape, capacity: usize) -> Option<usize> {
    cells_for(shape, capacity).checked_mul(shape.stride())
}

/// The memory that both sides see, as long as they borrow it.
#[derive(Clone, Copy)]
pub struct Slots<'a> {
    /// The sender's half.
    pub sender: &'a Half,
    /// The receiver's half.
    pub receiver: &'a Half,
    /// The cells.
    pub words: &'a [Word],
}

impl Slots<'_> {
    /// Stamps every cell free. Before anybody else can see the ring.
    pub fn initialise(&self, shape: impl Shape, capacity: usize) {
        for cell in 0..cells_for(shape, capacity) {
            let first = (cell * shape.per_cell()) as u64;
            self.words[cell * shape.stride()].store(free(first), Ordering::Relaxed);
        }
    }
}

/// Where a position lies, as indices among the words.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The cell's stamp.
    cell: usize,
    /// The message's first word, where a cell has several messages.
    message: usize,
}

impl Place {
    /// The message's first word.
    #[inline(always)]
    fn first_word(self, shape: impl Shape) -> usize {
        if shape.per_cell() == 1 { self.cell + 1 } else { self.message }
    }

    /// Messages in the cell before this one.
    #[inline(always)]
    fn item(self, shape: impl Shape) -> usize {
        if shape.per_cell() == 1 { 0 } else { (self.message - self.cell - 1) / shape.words() }
    }
}

/// What neither side changes: the geometry, read once and checked at attach.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    /// Messages that fit.
    capacity: u64,
    /// Words of all cells: a multiple of the stride and at most the words that are mapped.
    words: usize,
}

impl Geometry {
    fn new(mem: Slots<'_>, shape: impl Shape, capacity: usize) -> Self {
        let words = cells_for(shape, capacity) * shape.stride();
        assert!(words <= mem.words.len(), "a ring of {capacity} messages needs {words} words");
        Self { capacity: capacity as u64, words }
    }

    /// Messages that all cells together hold.
    #[inline(always)]
    fn lap(&self, shape: impl Shape) -> u64 {
        (self.words / shape.stride() * shape.per_cell()) as u64
    }

    fn place(&self, shape: impl Shape, position: u64) -> Place {
        let in_lap = (position % self.lap(shape)) as usize;
        let cell = in_lap / shape.per_cell() * shape.stride();
        Place { cell, message: cell + 1 + in_lap % shape.per_cell() * shape.words() }
    }

    /// Moves `place` on by `messages`, which must not leave the cell.
    ///
    /// Written with branches, not selects: a mispredicted one is rare, and a select would put the
    /// comparison into the chain from one message to the next.
    #[inline(always)]
    fn advance(&self, shape: impl Shape, place: &mut Place, messages: usize) {
        let message = place.message + messages * shape.words();
        if shape.per_cell() > 1 && message < place.cell + 1 + shape.per_cell() * shape.words() {
            place.message = message;
            return;
        }
        if shape.per_cell() > 1 {
            seldom();
        }
        self.next_cell(shape, place);
    }

    /// Moves `place` to the start of the next cell.
    #[inline(always)]
    fn next_cell(&self, shape: impl Shape, place: &mut Place) {
        place.cell += shape.stride();
        if place.cell == self.words {
            seldom();
            place.cell = 0;
        }
        if shape.per_cell() > 1 {
            place.message = place.cell + 1;
        }
    }
}

/// Tells the compiler that the branch around it is seldom taken.
#[cold]
#[inline(always)]
fn seldom() {}

/// The words of `messages` messages from `place` on.
#[inline(always)]
fn messages_at<'a>(mem: Slots<'a>, shape: impl Shape, place: Place, messages: usize) -> &'a [Word] {
    let start = place.first_word(shape);
    // SAFETY: `place` was made by `Geometry`, so `cell` is the index of a cell's stamp and `message`
    // that of a message in the cell; no caller asks for more messages than the cell has from there on.
    // `Geometry::new` has checked that all cells are inside `words`. Both numbers are private to this
    // process.
    unsafe { mem.words.get_unchecked(start..start + messages * shape.words()) }
}

/// Writes the messages at the start of `bytes` into the whole cell at `place`.
#[inline(always)]
fn write_cell(mem: Slots<'_>, shape: impl Shape, place: Place, bytes: &[u8]) {
    let per_cell = shape.per_cell();
    if shape.is_dense() || per_cell == 1 {
        let words = messages_at(mem, shape, place, per_cell);
        payload::write(words, &bytes[..per_cell * shape.size()]);
    } else {
        write_some(mem, shape, place, bytes, per_cell);
    }
}

/// Writes `count` messages at the start of `bytes` one by one, from `place` on, in one cell.
#[inline]
fn write_some(mem: Slots<'_>, shape: impl Shape, place: Place, bytes: &[u8], count: usize) {
    for (i, message) in bytes.chunks_exact(shape.size()).take(count).enumerate() {
        let at = Place { message: place.message + i * shape.words(), ..place };
        payload::write(messages_at(mem, shape, at, 1), message);
    }
}

/// Reads the whole cell at `place` to `to`.
///
/// # Safety
///
/// `to` must be valid for writes of a cell's messages.
#[inline(always)]
unsafe fn read_cell(mem: Slots<'_>, shape: impl Shape, place: Place, to: *mut u8) {
    let per_cell = shape.per_cell();
    if shape.is_dense() || per_cell == 1 {
        let words = messages_at(mem, shape, place, per_cell);
        // SAFETY: the caller's promise; the words are those of a cell's messages.
        unsafe { payload::read(words, to, per_cell * shape.size()) };
    } else {
        // SAFETY: the caller's promise.
        unsafe { read_some(mem, shape, place, to, per_cell) };
    }
}

/// Reads `count` messages one by one to `to`, from `place` on, in one cell.
///
/// # Safety
///
/// `to` must be valid for writes of `count` messages.
#[inline]
unsafe fn read_some(mem: Slots<'_>, shape: impl Shape, place: Place, to: *mut u8, count: usize) {
    for i in 0..count {
        let at = Place { message: place.message + i * shape.words(), ..place };
        // SAFETY: the caller's promise covers message `i < count`.
        unsafe {
            payload::read(messages_at(mem, shape, at, 1), to.add(i * shape.size()), shape.size())
        };
    }
}

/// The stamp of the cell at `place`.
#[inline(always)]
fn stamp(mem: Slots<'_>, place: Place) -> &Word {
    // SAFETY: as for `messages_at`: `cell` is the index of a cell's stamp.
    unsafe { mem.words.get_unchecked(place.cell) }
}

/// The sender's private state.
#[derive(Debug)]
pub struct SendCursor {
    tail: u64,
    room: Room,
    place: Place,
    geometry: Geometry,
}

impl SendCursor {
    /// Goes on where the last sender stopped: after its last committed message, whether or not it
    /// lived to note that.
    pub fn recover(mem: Slots<'_>, shape: impl Shape, capacity: usize) -> Result<Self, Blocked> {
        let geometry = Geometry::new(mem, shape, capacity);
        let (tail, head) = committed(mem, shape, &geometry)?;
        mem.sender.cursor.position.store(tail, Edge::NoteStore.store());
        let room = Room::new(head, geometry.capacity, ROOM);
        Ok(Self { tail, room, place: geometry.place(shape, tail), geometry })
    }

    /// The position of the next message.
    pub fn position(&self) -> u64 {
        self.tail
    }

    /// Sends one message.
    #[inline(always)]
    pub fn try_send(
        &mut self,
        mem: Slots<'_>,
        shape: impl Shape,
        message: &[u8],
    ) -> Result<(), Blocked> {
        let (tail, place) = (self.tail, self.place);
        if tail == self.room.limit {
            self.find_room(mem)?;
        }
        payload::write(messages_at(mem, shape, place, 1), message);
        // S1 commit: all payload of the cell up to here is visible to whoever sees this stamp.
        stamp(mem, place).store(full(tail), Edge::CommitStore.store());
        // S4 note.
        mem.sender.cursor.position.store(tail + 1, Edge::NoteStore.store());
        self.tail = tail + 1;
        self.geometry.advance(shape, &mut self.place, 1);
        Ok(())
    }

    /// Sends as many of the messages in `bytes` as there is room for, and says how many.
    ///
    /// `bytes` holds whole messages, each [`Shape::size`] long.
    #[inline(always)]
    pub fn try_send_batch(
        &mut self,
        mem: Slots<'_>,
        shape: impl Shape,
        bytes: &[u8],
        messages: usize,
    ) -> Result<usize, Blocked> {
        let mut room = (self.room.limit - self.tail) as usize;
        if room < messages {
            let wanted = self.tail.saturating_add(messages as u64);
            match self.room.look_for(mem.sender, mem.receiver, self.tail, wanted) {
                Ok(()) | Err(Blocked::NotReady) => room = (self.room.limit - self.tail) as usize,
                Err(Blocked::Corrupt) => return Err(Blocked::Corrupt),
            }
        }
        let count = messages.min(room);
        if count == 0 {
            return Ok(0);
        }
        let (start, mut place) = (self.place, self.place);
        let mut done = 0;
        while done < count {
            let left = &bytes[done * shape.size()..];
            let run = (shape.per_cell() - place.item(shape)).min(count - done);
            if run == shape.per_cell() {
                write_cell(mem, shape, place, left);
            } else {
                write_some(mem, shape, place, left, run);
            }
            done += run;
            self.geometry.advance(shape, &mut place, run);
        }
        self.tail += count as u64;
        // S1 commit, once a batch.
        stamp(mem, start).store(full(self.tail - 1), Edge::CommitStore.store());
        // S4 note.
        mem.sender.cursor.position.store(self.tail, Edge::NoteStore.store());
        self.place = place;
        Ok(count)
    }

    /// Sends messages from `messages` for as long as there is room and there are any, and says how many.
    /// None is taken that there is no room for. A panic of the iterator sends nothing.
    #[inline(always)]
    pub fn try_send_from<T: NoUninit>(
        &mut self,
        mem: Slots<'_>,
        shape: Typed<T>,
        mut messages: impl Iterator<Item = T>,
    ) -> Result<usize, Blocked> {
        if self.tail == self.room.limit {
            self.find_room(mem)?;
        }
        let (start, mut place) = (self.place, self.place);
        let (mut tail, limit) = (self.tail, self.room.limit);
        while tail < limit {
            let Some(message) = messages.next() else { break };
            payload::write(messages_at(mem, shape, place, 1), bytemuck::bytes_of(&message));
            tail += 1;
            self.geometry.advance(shape, &mut place, 1);
        }
        let count = (tail - self.tail) as usize;
        if count > 0 {
            // S1 commit, once a batch.
            stamp(mem, start).store(full(tail - 1), Edge::CommitStore.store());
            // S4 note.
            mem.sender.cursor.position.store(tail, Edge::NoteStore.store());
            (self.tail, self.place) = (tail, place);
        }
        Ok(count)
    }

    /// Looks for room beyond what is known.
    #[inline]
    pub fn find_room(&mut self, mem: Slots<'_>) -> Result<(), Blocked> {
        self.room.look(mem.sender, mem.receiver, self.tail)
    }
}

/// How far messages are committed, as a new sender or receiver finds it, and how far they are received.
///
/// The last sender noted where its sends ended, except perhaps the last one; from there each stamp leads
/// to the end of the send that starts in its cell.
fn committed(
    mem: Slots<'_>,
    shape: impl Shape,
    geometry: &Geometry,
) -> Result<(u64, u64), Blocked> {
    // S4 note: what is committed up to there may be read. S3 head: what is received may be overwritten.
    let noted = mem.sender.cursor.position.load(Edge::NoteLoad.load());
    let head = mem.receiver.cursor.position.load(ROOM.load.1.load());
    room::check(noted, head, geometry.capacity)?;
    let mut tail = noted;
    loop {
        // S1 commit.
        let found = stamp(mem, geometry.place(shape, tail)).load(Edge::CommitLoad.load());
        let position = found >> 2;
        if found & STATE != FULL || position < tail {
            break;
        }
        tail = position + 1;
        // Also what keeps a peer that goes on writing stamps from leading us on for ever.
        if tail > head + geometry.capacity {
            return Err(Blocked::Corrupt);
        }
    }
    match tail.checked_sub(head) {
        Some(waiting) if waiting <= geometry.capacity => Ok((tail, head)),
        _ => Err(Blocked::Corrupt),
    }
}

/// The receiver's private state.
#[derive(Debug)]
pub struct RecvCursor {
    head: u64,
    /// Positions below are known to be committed.
    ready: u64,
    place: Place,
    releases: Releases,
    geometry: Geometry,
}

impl RecvCursor {
    /// Goes on where the last receiver stopped. A message that it copied out but did not live to note
    /// is delivered again.
    pub fn recover(mem: Slots<'_>, shape: impl Shape, capacity: usize) -> Result<Self, Blocked> {
        let geometry = Geometry::new(mem, shape, capacity);
        let (ready, head) = committed(mem, shape, &geometry)?;
        let period = release_period(geometry.capacity, PERIOD);
        let releases = Releases::new(mem.receiver, head, period, ROOM);
        Ok(Self { head, ready, place: geometry.place(shape, head), releases, geometry })
    }

    /// The position of the next message.
    pub fn position(&self) -> u64 {
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
        if self.head == self.ready {
            self.look(mem)?;
        }
        let (head, place) = (self.head, self.place);
        // SAFETY: the caller's promise; `messages_at` gives the words of one message.
        unsafe { payload::read(messages_at(mem, shape, place, 1), to, shape.size()) };
        // S3 head: this message has been read for the last time.
        self.releases.note(mem.receiver, head + 1);
        self.head = head + 1;
        self.geometry.advance(shape, &mut self.place, 1);
        Ok(())
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
        // S3 head, once a batch.
        self.releases.note(mem.receiver, self.head);
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
        (self.head, self.place) = (head, place);
        done
    }

    /// Takes up to `most` messages without reading them, and says how many.
    pub fn skip(&mut self, mem: Slots<'_>, shape: impl Shape, most: usize) -> usize {
        let mut done = 0;
        while done < most {
            if self.head == self.ready && self.look(mem).is_err() {
                break;
            }
            let known = ((self.ready - self.head) as usize).min(most - done);
            let run = known.min(shape.per_cell() - self.place.item(shape));
            self.head += run as u64;
            done += run;
            self.geometry.advance(shape, &mut self.place, run);
        }
        // S3 head, once a batch.
        self.releases.note(mem.receiver, self.head);
        done
    }

    /// Moves over up to `most` messages, copying them into `to`, and says how many; nobody else knows of
    /// it before [`Releases::note`].
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
        let mut done = 0;
        while done < most {
            if self.head == self.ready {
                match self.look(mem) {
                    Ok(()) => {}
                    Err(Blocked::NotReady) => break,
                    // What came before is whole: hand it over, and find the same thing next time.
                    Err(Blocked::Corrupt) if done > 0 => break,
                    Err(Blocked::Corrupt) => return Err(Blocked::Corrupt),
                }
            }
            let count = ((self.ready - self.head) as usize).min(most - done);
            let mut place = self.place;
            let end = done + count;
            while done < end {
                let run = (shape.per_cell() - place.item(shape)).min(end - done);
                // SAFETY: `done + run <= most`, so the caller's promise covers the range.
                unsafe {
                    let to = to.add(done * shape.size());
                    if run == shape.per_cell() {
                        read_cell(mem, shape, place, to);
                    } else {
                        read_some(mem, shape, place, to, run);
                    }
                }
                done += run;
                self.geometry.advance(shape, &mut place, run);
            }
            self.head += count as u64;
            self.place = place;
        }
        if done == 0 && most > 0 {
            return Err(Blocked::NotReady);
        }
        Ok(done)
    }

    /// Copies the next message to `to`, if one is there, without noting that: it is received again by a
    /// successor until [`note`](Self::note) is called.
    ///
    /// # Safety
    ///
    /// `to` must be valid for writes of [`Shape::size`] bytes.
    #[inline(always)]
    pub unsafe fn try_next(
        &mut self,
        mem: Slots<'_>,
        shape: impl Shape,
        to: *mut u8,
    ) -> Result<(), Blocked> {
        if self.head == self.ready {
            self.look(mem)?;
        }
        // SAFETY: the caller's promise; `messages_at` gives the words of one message.
        unsafe { payload::read(messages_at(mem, shape, self.place, 1), to, shape.size()) };
        self.head += 1;
        self.geometry.advance(shape, &mut self.place, 1);
        Ok(())
    }

    /// S3 head: what was copied out has been read for the last time.
    #[inline(always)]
    pub fn note(&self, mem: Slots<'_>) {
        self.releases.note(mem.receiver, self.head);
    }

    /// Whether a message is there, without taking it.
    #[inline(always)]
    pub fn look(&mut self, mem: Slots<'_>) -> Result<(), Blocked> {
        // S1 commit.
        let found = stamp(mem, self.place).load(Edge::CommitLoad.load());
        let more = (found >> 2).wrapping_sub(self.head);
        if found & STATE == FULL && more < self.geometry.capacity {
            self.ready = self.head + more + 1;
            return Ok(());
        }
        self.explain(found)
    }

    /// Tells an empty ring from a broken one: a stale stamp says less than is known, never more.
    #[cold]
    #[inline(never)]
    fn explain(&self, found: u64) -> Result<(), Blocked> {
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
