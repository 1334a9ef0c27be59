//! Where in the data a message lies: cells, and the copies in and out of them.

use super::Slots;
use crate::payload::{self, AHEAD, LINE, Runs};
use crate::sync::{Word, prefetch_for_read, prefetch_for_write};

/// Words in the largest cell of several messages.
const LARGE_CELL: usize = 16 * LINE;

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

    /// Whether a cell is one line, its stamp's.
    #[inline(always)]
    fn is_small(&self) -> bool {
        self.words() < LINE
    }

    /// Words of a cell before its first message.
    #[inline(always)]
    fn first(&self) -> usize {
        if self.is_small() { 1 } else { LINE }
    }

    /// Messages in a cell.
    #[inline(always)]
    fn per_cell(&self) -> usize {
        let cell = if self.is_small() { LINE } else { LARGE_CELL };
        let fit = (cell - self.first()) / self.words();
        if fit == 0 { 1 } else { fit }
    }

    /// Words of a cell.
    #[inline(always)]
    fn stride(&self) -> usize {
        (self.first() + self.per_cell() * self.words()).next_multiple_of(LINE)
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

/// How many lines a sender makes its own at a time, at least and at most: in between, four times as many as what it has just
/// sent. Where messages are sent one at a time more than eight are slower: each must be got before the next message is stored.
const OWNED: (usize, usize) = (8, 32);
/// The most lines of one message that it makes its own by itself.
const OWNED_ONCE: usize = 4;

/// Where a position lies, as indices among the words.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// The cell's stamp.
    pub(super) cell: usize,
    /// The message's first word, or the end of the cell's last message: then it is the next cell's first
    /// message that is meant, once [`Geometry::settle`] has gone there.
    pub(super) message: usize,
}

impl Place {
    /// The first word behind the messages of the cell.
    #[inline(always)]
    fn end(self, shape: impl Shape) -> usize {
        self.cell + shape.first() + shape.per_cell() * shape.words()
    }

    /// Goes on to the next cell, of `words` words of them, from the end of one.
    ///
    /// Written with branches, not selects: a mispredicted one is rare, and a select would put the
    /// comparison into the chain from one message to the next.
    #[inline(always)]
    pub(super) fn settle(&mut self, shape: impl Shape, words: usize) {
        self.enter(shape, words);
    }

    /// The same, and messages in the cell from there on.
    #[inline(always)]
    pub(super) fn enter(&mut self, shape: impl Shape, words: usize) -> usize {
        if self.message != self.end(shape) {
            return self.left(shape);
        }
        self.cell += shape.stride();
        if self.cell == words {
            seldom();
            self.cell = 0;
        }
        self.message = self.cell + shape.first();
        shape.per_cell()
    }

    /// Messages in the cell from this one on, of a place that is settled.
    #[inline(always)]
    pub(super) fn left(self, shape: impl Shape) -> usize {
        // The compiler does not see that.
        if shape.per_cell() == 1 { 1 } else { (self.end(shape) - self.message) / shape.words() }
    }
}

/// Cells of small messages, one after the other.
pub(super) struct Lines {
    /// How many.
    pub(super) count: usize,
    /// From those that start below this word, lines may be asked for ahead.
    pub(super) known_end: usize,
}

/// What neither side changes: the geometry, read once and checked at attach.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    /// Messages that fit.
    pub(super) capacity: u64,
    /// Words of all cells: a multiple of the stride and at most the words that are mapped.
    words: usize,
}

impl Geometry {
    pub(super) fn new(mem: Slots<'_>, shape: impl Shape, capacity: usize) -> Self {
        let words = cells_for(shape, capacity) * shape.stride();
        assert!(words <= mem.words.len(), "a ring of {capacity} messages needs {words} words");
        Self { capacity: capacity as u64, words }
    }

    /// Messages that all cells together hold.
    #[inline(always)]
    fn lap(&self, shape: impl Shape) -> u64 {
        (self.words / shape.stride() * shape.per_cell()) as u64
    }

    pub(super) fn place(&self, shape: impl Shape, position: u64) -> Place {
        let in_lap = (position % self.lap(shape)) as usize;
        let cell = in_lap / shape.per_cell() * shape.stride();
        let message = cell + shape.first() + in_lap % shape.per_cell() * shape.words();
        Place { cell, message }
    }

    /// Words of all cells.
    #[inline(always)]
    pub(super) fn lap_words(&self) -> usize {
        self.words
    }

    /// Goes on to the next cell if `place` is at the end of one.
    #[inline(always)]
    pub(super) fn settle(&self, shape: impl Shape, place: &mut Place) {
        place.settle(shape, self.words);
    }

    /// The same, and messages in the cell from there on.
    #[inline(always)]
    pub(super) fn enter(&self, shape: impl Shape, place: &mut Place) -> usize {
        place.enter(shape, self.words)
    }

    /// Writes a word to each line of the messages from `place` on, where there is room for `room` messages: as if they were
    /// being sent, by one who has just sent `sent`. Says up to how many messages further on that was done; at least one.
    #[cold]
    #[inline(never)]
    pub(super) fn own(
        &self,
        words: &[Word],
        shape: impl Shape,
        mut place: Place,
        room: usize,
        sent: usize,
    ) -> usize {
        self.settle(shape, &mut place);
        let most = sent.saturating_mul(4 * shape.words()).div_ceil(LINE).clamp(OWNED.0, OWNED.1);
        let (mut messages, mut lines) = (0, 0);
        while messages < room && lines < most {
            // A cell of small messages is one line, of which the first message is the sender's unless it has sent that.
            if !shape.is_small() || place.message == place.cell + shape.first() {
                let message = message_at(words, shape, place.message);
                for line in message.chunks(LINE).take(OWNED.1) {
                    line[0].write(0);
                    lines += 1;
                }
            }
            let most = if shape.is_small() { room - messages } else { 1 };
            messages += self.skip(shape, &mut place, most);
        }
        messages.max(1)
    }

    /// Writes a word to the lines of the message at `place` and of its cell's stamp.
    #[inline(always)]
    pub(super) fn own_message(&self, mem: Slots<'_>, shape: impl Shape, mut place: Place) {
        self.settle(shape, &mut place);
        if !shape.is_small() {
            // The line has room that nothing else is stored in.
            message_at(mem.words, shape, place.cell + 1)[0].write(0);
        }
        for line in message_at(mem.words, shape, place.message).chunks(LINE).take(OWNED_ONCE) {
            line[0].write(0);
        }
    }

    /// Writes messages from the start of `bytes`, from `place` on, which is settled, and moves `place`
    /// behind them: at most `most` of them and no more than to the end of the lap. Says how many. There is
    /// room for `known`.
    #[inline(always)]
    pub(super) fn write_run(
        &self,
        mem: Slots<'_>,
        shape: impl Shape,
        place: &mut Place,
        bytes: &[u8],
        most: usize,
        known: usize,
    ) -> usize {
        if let Some(runs) = self.whole_cells(shape, *place, most, known) {
            let (run, words) = (runs.words * payload::WORD, &mem.words[..self.words]);
            if shape.is_small() {
                for (i, cell) in bytes.chunks_exact(run).take(runs.count).enumerate() {
                    let start = place.message + i * runs.stride;
                    if i * runs.stride + AHEAD < runs.known {
                        prefetch_for_write(words.as_ptr().wrapping_add(start + AHEAD));
                    }
                    payload::write(&words[start..start + runs.words], cell);
                }
            } else {
                payload::write_runs(&words[place.message..], runs, bytes);
            }
            return self.pass(shape, place, runs.count);
        }
        let count = most.min(place.left(shape));
        for (i, message) in bytes.chunks_exact(shape.size()).take(count).enumerate() {
            payload::write(
                message_at(mem.words, shape, place.message + i * shape.words()),
                message,
            );
        }
        self.skip(shape, place, count)
    }

    /// Reads messages to `to`, as [`write_run`](Self::write_run) writes them.
    ///
    /// # Safety
    ///
    /// `to` must be valid for writes of `most` messages.
    #[inline(always)]
    pub(super) unsafe fn read_run(
        &self,
        mem: Slots<'_>,
        shape: impl Shape,
        place: &mut Place,
        to: *mut u8,
        most: usize,
        known: usize,
    ) -> usize {
        if let Some(runs) = self.whole_cells(shape, *place, most, known) {
            let (run, words) = (runs.words * payload::WORD, &mem.words[..self.words]);
            if shape.is_small() {
                for i in 0..runs.count {
                    let start = place.message + i * runs.stride;
                    if i * runs.stride + AHEAD < runs.known {
                        prefetch_for_read(words.as_ptr().wrapping_add(start + AHEAD));
                    }
                    // SAFETY: the caller's promise: the cells hold at most `most` messages.
                    unsafe {
                        payload::read(&words[start..start + runs.words], to.add(i * run), run)
                    };
                }
            } else {
                // SAFETY: as above.
                unsafe { payload::read_runs(&words[place.message..], runs, to) };
            }
            return self.pass(shape, place, runs.count);
        }
        let count = most.min(place.left(shape));
        for i in 0..count {
            let words = message_at(mem.words, shape, place.message + i * shape.words());
            // SAFETY: the caller's promise covers message `i < count <= most`.
            unsafe { payload::read(words, to.add(i * shape.size()), shape.size()) };
        }
        self.skip(shape, place, count)
    }

    /// The whole cells from `place` on, up to the end of the lap, that `most` messages fill, if there are
    /// any and messages lie in a cell as they lie in an array.
    #[inline(always)]
    fn whole_cells(
        &self,
        shape: impl Shape,
        place: Place,
        most: usize,
        known: usize,
    ) -> Option<Runs> {
        let (per_cell, stride) = (shape.per_cell(), shape.stride());
        if !shape.is_dense() || most < per_cell || place.message != place.cell + shape.first() {
            return None;
        }
        let count = (most / per_cell).min((self.words - place.cell) / stride);
        let known = known / per_cell * stride;
        Some(Runs { count, words: per_cell * shape.words(), stride, known })
    }

    /// The whole cells of small messages from `place` on, up to the end of the lap, that `room` messages fill, if there are any.
    #[inline(always)]
    pub(super) fn whole_lines(
        &self,
        shape: impl Shape,
        place: Place,
        room: usize,
    ) -> Option<Lines> {
        let (per_cell, stride) = (shape.per_cell(), shape.stride());
        if !shape.is_small() || room < per_cell || place.message != place.cell + shape.first() {
            return None;
        }
        let count = (room / per_cell).min((self.words - place.cell) / stride);
        let known_end = (place.message + room / per_cell * stride).saturating_sub(AHEAD);
        Some(Lines { count, known_end })
    }

    /// Moves `place` behind whole cells, and says how many messages they hold.
    #[inline(always)]
    pub(super) fn pass(&self, shape: impl Shape, place: &mut Place, cells: usize) -> usize {
        place.cell += cells * shape.stride();
        if place.cell == self.words {
            place.cell = 0;
        }
        place.message = place.cell + shape.first();
        cells * shape.per_cell()
    }

    /// Moves `place`, which is settled, on by up to `most` messages, not beyond its cell.
    #[inline(always)]
    pub(super) fn skip(&self, shape: impl Shape, place: &mut Place, most: usize) -> usize {
        let count = most.min(place.left(shape));
        place.message += count * shape.words();
        self.settle(shape, place);
        count
    }
}

/// Tells the compiler that the branch around it is seldom taken.
#[cold]
#[inline(always)]
fn seldom() {}

/// The words of the message that starts at word `start`.
#[inline(always)]
pub(super) fn message_at(words: &[Word], shape: impl Shape, start: usize) -> &[Word] {
    messages_at(words, shape, start, 1)
}

/// The words of `count` messages of one cell, of which the first starts at word `start`.
#[inline(always)]
pub(super) fn messages_at(
    words: &[Word],
    shape: impl Shape,
    start: usize,
    count: usize,
) -> &[Word] {
    let end = start + count * shape.words();
    debug_assert!(end <= words.len());
    // SAFETY: `start` comes from a `Place` that `Geometry` made, `count` messages before the end of its cell or more, and
    // `Geometry::new` has checked that all cells are inside the ring's words. Both are private to this process.
    unsafe { words.get_unchecked(start..end) }
}

/// How far ahead lines may be asked for, in words, when `known` messages may be touched from here on:
/// never those that the other side may still be at, for that would take them away from it.
#[inline(always)]
pub(super) fn ahead(shape: impl Shape, known: usize) -> usize {
    let enough = (AHEAD / shape.stride() + 2) * shape.per_cell();
    if known >= enough { AHEAD } else { 0 }
}

/// Asks for the lines that lie `ahead` words after the large message at word `start`. Small messages share
/// a line, and whoever enters that asks once for all of them.
#[inline(always)]
pub(super) fn ask_ahead(
    words: &[Word],
    shape: impl Shape,
    start: usize,
    ahead: usize,
    ask: impl Fn(*const Word),
) {
    if shape.is_small() {
        return;
    }
    let start = words.as_ptr().wrapping_add(start + ahead);
    payload::ask_for_message(start, shape.words() * payload::WORD, ask);
}

/// The same for the small messages of the cell at `place`, which has just been entered.
#[inline(always)]
pub(super) fn ask_for_cell_ahead(
    words: &[Word],
    shape: impl Shape,
    place: Place,
    ahead: usize,
    ask: impl Fn(*const Word),
) {
    if shape.is_small() {
        ask(words.as_ptr().wrapping_add(place.cell + ahead));
    }
}

/// Asks at once for the lines that [`ask_ahead`] would have asked for by now, had it been known before
/// that `known` messages may be touched from `place` on.
#[inline(always)]
pub(super) fn catch_up(
    words: &[Word],
    shape: impl Shape,
    place: Place,
    known: usize,
    ask: impl Fn(*const Word),
) {
    let distance = (known / shape.per_cell() * shape.stride()).min(AHEAD);
    payload::ask_for(words, place.message, distance / LINE, ask);
}
