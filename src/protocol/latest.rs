//! The latest value: one writer, many readers, whole values of any size, and nobody waits for anybody.
//!
//! The buffers and the help that a reader gets are Chen and Burns's ("A fully asynchronous reader/writer
//! mechanism for multiprocessor real-time systems", University of York, 1997); that one buffer for each reader
//! and two more are enough was known from Peterson's register (TOPLAS 1983). What is ours: a reader keeps its
//! buffer, so that reading an unchanged value is one load and a copy; the writer looks at what readers have once
//! for several values; a reader that is killed leaves a word that pins one buffer, which its entry has anyhow, so
//! there is nothing to repair; and observers, who have no entry.
//!
//! ```text
//! value (the sender's position)   { version:53 | buffer:11 }   the latest one
//! held  (a reader's journal)      { version:53 | buffer:11 }   the writer keeps off this buffer
//!                                 CHOOSING                     the writer may choose for the reader
//!
//! write:  no free buffer known? barrier L4; for each reader: CHOOSING becomes value (L2), by compare-and-swap;
//!           free = all buffers but that of value and those that are held (L3)
//!         stamp of a free buffer = version + 1; barrier L5; content; value = { version + 1, buffer } (L1)
//! read:   is value what I hold? copy it. Else
//!         held = CHOOSING (L3); barrier L4; load value (L1); CHOOSING becomes that, by compare-and-swap,
//!           or the writer has chosen a later one (L2); copy it
//!
//!         held of a reader:   v --reader--> CHOOSING --reader, or the writer for it--> w >= v
//! ```
//!
//! **A buffer that is read is not written.** Take a reader that has chosen `w` by itself. It loaded `value` after
//! its barrier. If the writer's barrier came later than the reader's, the writer's look that follows sees
//! `CHOOSING`, or what came of it: then it either chooses for the reader, whose own choice fails, or it finds `w` held
//! and keeps off. If the writer's barrier came first, the reader sees the `value` from before that look, or a
//! later one: not one that the look found free, but one that was published since, or is the latest. Each buffer that a look
//! finds free is published at most once before the next look, and after that never written before the next.
//!
//! **How many.** Each entry holds one buffer at most, and the latest value has one: so of `readers + 2` at least one
//! is free, whoever is killed, stopped, or slow.
//!
//! **Nobody waits.** A write is a look at each entry, at most one compare-and-swap for each, and a copy; a read at most
//! one compare-and-swap and a copy.
//!
//! **Observers** have no entry. They copy the latest value and then look whether its buffer was given a new stamp
//! meanwhile (L5); if so they try again. That is lock-free: each failure is a value that was written. The check is that of a
//! sequence lock, but a writer that is killed in the middle leaves no buffer locked that anybody reads.
//!
//! A writer's successor finds the latest value in `value`, and looks at all readers before it writes. What its
//! predecessor had begun to write is in a buffer that nobody holds.

use super::Blocked;
use super::layout::{Entry, Half, MAX_PARTICIPANTS};
use super::slots::Shape;
use crate::payload::{self, LINE};
use crate::sync::{AtomicU64, Edge, Ordering, Word, prefetch_for_read};

/// A reader that chooses: the writer may do it for it. No value's word, for no version gets that far.
const CHOOSING: u64 = u64::MAX;
/// Bits of a buffer's number: enough for the largest table of readers, and two more.
const BUFFER_BITS: u32 = 11;
/// Words between the starts of two buffers are a multiple of these: processors fetch cache lines in pairs.
const APART: usize = 2 * LINE;
/// Bytes that each buffer's start is a multiple of, in memory that starts with a page.
#[cfg(not(loom))]
pub const ALIGN: usize = APART * payload::WORD;
/// The most free buffers that the writer remembers from one look, and the most words of them: to walk through
/// memory that is in no cache would cost more than another look.
const REMEMBERED: usize = 32;
const REMEMBERED_WORDS: usize = 512;
/// The most lines of a value that are asked for at once: the processor sees the pattern in longer ones.
const MOST_LINES: usize = 64;
/// Sets of 64 buffers, as bits.
const SETS: usize = (1 << BUFFER_BITS) / 64;

/// The word of the value of `version` in `buffer`.
const fn word(version: u64, buffer: usize) -> u64 {
    version << BUFFER_BITS | buffer as u64
}

/// The version of a value's word.
pub const fn version(word: u64) -> u64 {
    word >> BUFFER_BITS
}

/// The buffer of a value's word.
const fn buffer(word: u64) -> usize {
    (word & ((1 << BUFFER_BITS) - 1)) as usize
}

const _: () = assert!(buffers_for(MAX_PARTICIPANTS) <= 1 << BUFFER_BITS);

/// Buffers for so many readers.
const fn buffers_for(readers: usize) -> usize {
    readers + 2
}

/// Words of the stamps, in whole lines.
const fn stamps_for(readers: usize) -> usize {
    buffers_for(readers).next_multiple_of(APART)
}

/// Words between the starts of two buffers.
#[inline(always)]
fn stride(shape: impl Shape) -> usize {
    shape.words().next_multiple_of(APART)
}

/// Words of data for `readers` readers; `None` if that is beyond counting, or no table has so many.
pub fn words_for(shape: impl Shape, readers: usize) -> Option<usize> {
    if readers > MAX_PARTICIPANTS {
        return None;
    }
    buffers_for(readers).checked_mul(stride(shape))?.checked_add(stamps_for(readers))
}

/// The memory that all see, as long as they borrow it.
#[derive(Clone, Copy)]
pub struct Latest<'a> {
    /// The writer's half: its position is the word of the latest value.
    pub writer: &'a Half,
    /// The readers' entries: what each holds is where others have their intent.
    pub readers: &'a [Entry],
    /// Stamps, then buffers.
    pub words: &'a [Word],
}

impl<'a> Latest<'a> {
    /// The word of the latest value.
    #[inline(always)]
    fn value(&self) -> &'a AtomicU64 {
        &self.writer.cursor.position
    }

    fn held(&self, reader: usize) -> &'a AtomicU64 {
        &self.readers[reader].journal.intent
    }

    /// The latest value's version, as of a moment ago.
    #[inline(always)]
    pub fn version(&self) -> u64 {
        // L1 value, though no content is read: who waits for this version reads it next.
        version(self.value().load(Edge::ValueLoad.load()))
    }
}

impl core::fmt::Debug for Latest<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Latest").finish_non_exhaustive()
    }
}

/// What nobody changes: read once and checked at attach.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    buffers: usize,
    /// The first buffer's first word.
    first: usize,
}

impl Geometry {
    fn new(mem: Latest<'_>, shape: impl Shape) -> Self {
        let readers = mem.readers.len();
        assert!(words_for(shape, readers).is_some_and(|needed| needed <= mem.words.len()));
        Self { buffers: buffers_for(readers), first: stamps_for(readers) }
    }

    /// The word, if a correct process can have stored it.
    #[inline(always)]
    fn check(self, word: u64) -> Result<u64, Blocked> {
        if buffer(word) < self.buffers { Ok(word) } else { Err(Blocked::Corrupt) }
    }
}

/// The words of a buffer that [`Geometry::check`] has seen, or `look` has found.
#[inline(always)]
fn content(words: &[Word], geometry: Geometry, shape: impl Shape, buffer: usize) -> &[Word] {
    let start = geometry.first + buffer * stride(shape);
    debug_assert!(start + shape.words() <= words.len());
    // SAFETY: `buffer` was checked against the number of buffers, all of which `Geometry::new` has seen to lie inside
    // `words`.
    unsafe { words.get_unchecked(start..start + shape.words()) }
}

/// The writer's private state.
#[derive(Debug)]
pub struct WriteCursor {
    /// The word of the latest value.
    latest: u64,
    /// Buffers that were free at the last look, and have not been used since.
    free: [u16; REMEMBERED],
    /// How many of them.
    left: usize,
    geometry: Geometry,
}

impl WriteCursor {
    /// Goes on after the last value that was published.
    pub fn recover(mem: Latest<'_>, shape: impl Shape) -> Result<Self, Blocked> {
        let geometry = Geometry::new(mem, shape);
        // Relaxed: the lock of the role orders what the last writer did before this.
        let latest = geometry.check(mem.value().load(Ordering::Relaxed))?;
        Ok(Self { latest, free: [0; REMEMBERED], left: 0, geometry })
    }

    /// The version that was written last.
    pub fn version(&self) -> u64 {
        version(self.latest)
    }

    /// Writes a value, and gives its version.
    #[inline(always)]
    pub fn write(
        &mut self,
        mem: Latest<'_>,
        shape: impl Shape,
        value: &[u8],
    ) -> Result<u64, Blocked> {
        if self.left == 0 {
            self.look(mem, shape)?;
        }
        let version = version(self.latest) + 1;
        // Taken off the list first: a panic in between would leave a buffer unused, not used twice.
        self.left -= 1;
        let buffer = usize::from(self.free[self.left]);
        mem.words[buffer].store(version, Ordering::Relaxed);
        // L5 overwrite: whoever sees any of the new content sees that the stamp has changed.
        Edge::OverwriteStore.order(Ordering::Release);
        payload::write_message(content(mem.words, self.geometry, shape, buffer), value);
        self.latest = word(version, buffer);
        // L1 value.
        mem.value().store(self.latest, Edge::ValueStore.store());
        Ok(version)
    }

    /// Finds buffers that nobody holds and nobody can come to hold before they are published.
    #[cold]
    #[inline(never)]
    fn look(&mut self, mem: Latest<'_>, shape: impl Shape) -> Result<(), Blocked> {
        // L4 choose: the latest value was published before this, the looks come after it.
        Edge::ChooseWriter.fence();
        let mut held = [0_u64; SETS];
        let mut hold = |word| held[buffer(word) / 64] |= 1 << (buffer(word) % 64);
        hold(self.latest);
        for reader in mem.readers {
            let word = &reader.journal.intent;
            // L3 leave: whoever holds another buffer now has read its last one for the last time.
            let mut now = word.load(Edge::LeaveLoad.load());
            if now == CHOOSING {
                // L2 help, no release, as the barrier of L4 stands between it and the latest value. And L3 leave,
                // won or lost: it may have chosen by itself since the load, and read that, and be choosing again.
                let leave = Edge::LeaveLoad.load();
                now = match word.compare_exchange(CHOOSING, self.latest, leave, leave) {
                    Ok(_) => self.latest,
                    Err(chosen) => chosen,
                };
            }
            hold(self.geometry.check(now)?);
        }
        let is_free = |&buffer: &usize| held[buffer / 64] & 1 << (buffer % 64) == 0;
        let most = (REMEMBERED_WORDS / stride(shape)).clamp(1, REMEMBERED);
        for buffer in (0..self.geometry.buffers).filter(is_free).take(most) {
            self.free[self.left] = buffer as u16;
            self.left += 1;
        }
        // One for the latest and one for each reader are not all.
        debug_assert!(self.left > 0);
        Ok(())
    }
}

/// What a reader holds, with the addresses that it takes to read it again: little, and copied, so that a loop that reads has
/// it in registers.
#[derive(Clone, Copy)]
pub struct Held<'a> {
    /// What this reader holds. Never [`CHOOSING`], which has a buffer that is not there.
    word: u64,
    /// Its content.
    content: &'a [Word],
    /// The word of the latest value.
    value: &'a AtomicU64,
    /// Whether lines of content can be copied whole: kept here, for to ask the processor's description is another load.
    lines: bool,
}

const _: () = assert!(buffer(CHOOSING) >= buffers_for(MAX_PARTICIPANTS));

/// What no value's word is.
#[cfg(not(loom))]
static NONE: AtomicU64 = AtomicU64::new(CHOOSING);

impl core::fmt::Debug for Held<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Held").field("version", &self.version()).finish_non_exhaustive()
    }
}

impl<'a> Held<'a> {
    /// The version that is held.
    #[inline(always)]
    pub fn version(&self) -> u64 {
        version(self.word)
    }

    /// Whether what is held is the latest value.
    #[inline(always)]
    pub fn is_latest(&self) -> bool {
        // Relaxed: what is held was acquired when it was chosen.
        self.value.load(Ordering::Relaxed) == self.word
    }

    /// The same, but for good not the latest value: for a handle that does nothing more.
    #[cfg(not(loom))]
    #[must_use]
    pub fn past(self) -> Self {
        Self { value: &NONE, ..self }
    }

    /// The words of what is held, which the writer keeps off until this reader chooses again. The shape must be that
    /// which was chosen with.
    #[inline(always)]
    pub fn content(&self, shape: impl Shape) -> &[Word] {
        debug_assert!(shape.words() <= self.content.len());
        // SAFETY: `Chooser::content` has found the words of a value of this shape; the compiler is spared their number.
        unsafe { self.content.get_unchecked(..shape.words()) }
    }

    /// Holds another value, which `chooser` has chosen. What is [past](Self::past) stays so.
    #[inline(always)]
    pub fn change(&mut self, chooser: &Chooser<'a>, shape: impl Shape, chosen: Chosen) {
        (self.word, self.content) = (chosen.0, chooser.content(shape, chosen));
    }

    /// Asks for the lines of what is held, for a caller who reads it where it lies, and perhaps waits for each word
    /// before it goes on to the next one. A copy asks by itself.
    pub fn ask_for_content(&self, shape: impl Shape) {
        let lines = shape.words().div_ceil(LINE).min(MOST_LINES);
        payload::ask_for(self.content, 0, lines, prefetch_for_read);
    }

    /// Copies what is held to `to`.
    ///
    /// # Safety
    ///
    /// `to` must be valid for writes of [`Shape::size`] bytes, and the shape be that which was chosen with.
    #[inline(always)]
    pub unsafe fn copy(&self, shape: impl Shape, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { payload::read_message(self.content(shape), to, shape.size()) };
    }

    /// The same for a caller who wants it there, and does not just work with it.
    ///
    /// # Safety
    ///
    /// As for [`copy`](Self::copy).
    #[inline(always)]
    pub unsafe fn copy_to_memory(&self, shape: impl Shape, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { payload::read_to_memory(self.content(shape), to, shape.size(), self.lines) };
    }
}

/// What a [`Chooser`] has chosen.
#[derive(Clone, Copy, Debug)]
pub struct Chosen(u64);

#[cfg(not(loom))]
impl Chosen {
    /// Nothing, which nobody can hold.
    pub const NOTHING: Self = Self(CHOOSING);
}

/// How a reader comes to hold another value: addresses, and what nobody changes.
#[derive(Clone, Copy)]
pub struct Chooser<'a> {
    /// The word of the latest value.
    value: &'a AtomicU64,
    /// Where this reader says what it holds.
    notice: &'a AtomicU64,
    words: &'a [Word],
    geometry: Geometry,
    lines: bool,
}

impl core::fmt::Debug for Chooser<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Chooser").finish_non_exhaustive()
    }
}

impl<'a> Chooser<'a> {
    /// For the owner of the entry `me`, who holds nothing yet.
    pub fn new(mem: Latest<'a>, shape: impl Shape, me: usize) -> Self {
        let geometry = Geometry::new(mem, shape);
        let lines = payload::has_lines();
        Self { value: mem.value(), notice: mem.held(me), words: mem.words, geometry, lines }
    }

    /// Chooses the latest value, which is of version `last` or later, instead of what is held.
    #[inline]
    pub fn choose(&self, last: u64) -> Result<Chosen, Blocked> {
        // L3 leave: the last buffer has been read for the last time.
        self.notice.store(CHOOSING, Edge::LeaveStore.store());
        // L4 choose: said before this, chosen after it.
        Edge::ChooseReader.fence();
        // L1 value.
        let latest = self.value.load(Edge::ValueLoad.load());
        // Won: relaxed, as it continues the release sequence of L3. Lost: L2 help.
        let lost = Edge::HelpLoad.load();
        let chosen = match self.notice.compare_exchange(CHOOSING, latest, Ordering::Relaxed, lost) {
            Ok(_) => latest,
            Err(helped) => helped,
        };
        if version(self.geometry.check(chosen)?) < last {
            return Err(Blocked::Corrupt);
        }
        Ok(Chosen(chosen))
    }

    /// Holds what `self` has chosen, for a value of the shape that it was made with.
    pub fn hold(&self, shape: impl Shape, chosen: Chosen) -> Held<'a> {
        let content = self.content(shape, chosen);
        Held { word: chosen.0, content, value: self.value, lines: self.lines }
    }

    #[inline(always)]
    fn content(&self, shape: impl Shape, Chosen(word): Chosen) -> &'a [Word] {
        debug_assert!(self.geometry.check(word).is_ok(), "`choose` has checked it");
        content(self.words, self.geometry, shape, buffer(word))
    }
}

/// What looks at the value without an entry.
#[derive(Clone, Copy, Debug)]
pub struct Observer {
    geometry: Geometry,
}

impl Observer {
    /// One that looks at `mem`.
    pub fn new(mem: Latest<'_>, shape: impl Shape) -> Self {
        Self { geometry: Geometry::new(mem, shape) }
    }

    /// Copies the latest value to `to`, and gives its version; [`Blocked::NotReady`] if it was written over
    /// meanwhile, and `to` has bytes of several.
    ///
    /// # Safety
    ///
    /// `to` must be valid for writes of [`Shape::size`] bytes.
    pub unsafe fn try_copy(
        &self,
        mem: Latest<'_>,
        shape: impl Shape,
        to: *mut u8,
    ) -> Result<u64, Blocked> {
        // L1 value: the stamp is its own, or a later one.
        let latest = self.geometry.check(mem.value().load(Edge::ValueLoad.load()))?;
        let content = content(mem.words, self.geometry, shape, buffer(latest));
        // SAFETY: the caller's promise.
        unsafe { payload::read_message(content, to, shape.size()) };
        // L5 overwrite.
        Edge::OverwriteLoad.order(Ordering::Acquire);
        let stamp = mem.words[buffer(latest)].load(Ordering::Relaxed);
        if stamp == version(latest) { Ok(stamp) } else { Err(Blocked::NotReady) }
    }
}
