//! Message bytes in and out of shared memory.
//!
//! A peer may write to the words while they are read, so no reference to them is ever formed: they are
//! copied, word by word with relaxed atomics or, where that is measured to matter, sixteen or thirty-two
//! bytes at a time by assembly blocks that the compiler cannot see into. Either way the bytes land in
//! memory that is private to this process before anybody looks at them. The order of the copy against the
//! rest of the protocol comes from the stamp or the record header, never from the copy.

#[cfg(all(target_arch = "x86_64", not(loom)))]
mod wide;

use crate::sync::Word;

/// Bytes in a word.
pub const WORD: usize = 8;
/// Words in a cache line.
pub const LINE: usize = 8;

/// Words that hold `bytes` bytes.
#[inline(always)]
pub const fn words_for(bytes: usize) -> usize {
    bytes.div_ceil(WORD)
}

/// Copies `from` into `to`, the last word padded with zeroes.
///
/// `to` must be long enough; a shorter one is a bug of ours and cuts the copy short.
#[inline(always)]
pub fn write(to: &[Word], from: &[u8]) {
    write_from(to, from, wide::write(to, from));
}

/// The rest of it, when `done` words have been copied already.
#[inline(always)]
fn write_from(to: &[Word], from: &[u8], done: usize) {
    debug_assert!(to.len() >= words_for(from.len()));
    let whole = (from.len() / WORD).min(to.len());
    // A plain loop: the compiler does not always see through iterators in a large caller, and this is
    // every message.
    for i in done..whole {
        // SAFETY: `i < whole <= to.len()`, and the eight bytes from `8 * i` on are inside `from`.
        unsafe {
            let value = from.as_ptr().add(i * WORD).cast::<u64>().read_unaligned();
            to.get_unchecked(i).write(u64::from_le(value));
        }
    }
    if !from.len().is_multiple_of(WORD) && whole < to.len() {
        let rest = &from[whole * WORD..];
        let mut last = [0; WORD];
        let n = rest.len().min(WORD);
        last[..n].copy_from_slice(&rest[..n]);
        to[whole].write(u64::from_le_bytes(last));
    }
}

/// Copies `from` into `to` from byte `offset` on, leaving the bytes around it as they are.
///
/// Only for words that nobody else writes: a word that is covered in part is read and written back.
#[cfg(not(loom))]
pub fn write_at(to: &[Word], offset: usize, from: &[u8]) {
    let (mut first, skip) = (offset / WORD, offset % WORD);
    let head = if skip == 0 { 0 } else { (WORD - skip).min(from.len()) };
    let patch = |index: usize, at: usize, bytes: &[u8]| {
        let mut word = to[index].read().to_le_bytes();
        word[at..at + bytes.len()].copy_from_slice(bytes);
        to[index].write(u64::from_le_bytes(word));
    };
    if head > 0 {
        patch(first, skip, &from[..head]);
        first += 1;
    }
    let whole = (from.len() - head) / WORD * WORD;
    write_message(&to[first..], &from[head..head + whole]);
    let tail = &from[head + whole..];
    if !tail.is_empty() {
        patch(first + whole / WORD, 0, tail);
    }
}

/// Copies the bytes of `from` at `offset` to `to`.
///
/// # Panics
///
/// If there are fewer.
pub fn read_at(from: &[Word], offset: usize, to: &mut [u8]) {
    let (first, skip) = (offset / WORD, offset % WORD);
    let head = if skip == 0 { 0 } else { (WORD - skip).min(to.len()) };
    let (start, rest) = to.split_at_mut(head);
    let mut from = &from[first..];
    if head > 0 {
        start.copy_from_slice(&from[0].read().to_le_bytes()[skip..skip + head]);
        from = &from[1..];
    }
    assert!(words_for(rest.len()) <= from.len(), "{} bytes are not there", rest.len());
    // SAFETY: `from` has the words for `rest`, as was just checked.
    unsafe { read_message(from, rest.as_mut_ptr(), rest.len()) }
}

/// Copies the first `bytes` bytes of `from` to `to`.
///
/// # Safety
///
/// `to` must be valid for writes of `bytes` bytes, and `from` must have `words_for(bytes)` words.
#[inline(always)]
pub unsafe fn read(from: &[Word], to: *mut u8, bytes: usize) {
    debug_assert!(from.len() >= words_for(bytes));
    let whole = bytes / WORD;
    // SAFETY: the caller's promise covers the whole words.
    let done = unsafe { wide::read(from, to, whole) };
    for i in done..whole {
        // SAFETY: `i < words_for(bytes) <= from.len()`, and `to` has room for word `i`.
        unsafe {
            to.add(i * WORD).cast::<u64>().write_unaligned(from.get_unchecked(i).read().to_le())
        };
    }
    let rest = bytes - whole * WORD;
    if rest > 0 {
        // SAFETY: `bytes` is not a multiple of a word, so `from` has one more word than `whole`, and
        // `to` has room for `rest` more bytes.
        unsafe {
            let last = from.get_unchecked(whole).read().to_le_bytes();
            core::ptr::copy_nonoverlapping(last.as_ptr(), to.add(whole * WORD), rest);
        }
    }
}

/// Runs of whole words at equal distances in shared memory, one after the other in private memory: the
/// messages of whole cells, or of a part of one.
#[derive(Clone, Copy, Debug)]
pub struct Runs {
    /// How many.
    pub count: usize,
    /// Words of each.
    pub words: usize,
    /// Words from the start of one to the start of the next.
    pub stride: usize,
    /// How far, in words from the start of the first run, lines are asked for ahead of the copy.
    pub known: usize,
}

/// How many words ahead of a stream its lines are asked for: about what one transfer takes, at the speed
/// of a stream.
pub const AHEAD: usize = 128;

/// The most lines of a message that are asked for at once; the processor sees the pattern in longer ones.
const MOST_LINES: usize = 4;

/// Asks for `lines` lines from that of word `start` on, which need not be among `words`.
#[inline(always)]
pub fn ask_for(words: &[Word], start: usize, lines: usize, ask: impl Fn(*const Word)) {
    for line in 0..lines {
        ask(words.as_ptr().wrapping_add(start + line * LINE));
    }
}

/// Asks for the first lines of a message of `bytes` bytes at `start`.
// A branch for each line, not a loop: most messages of a stream take the same ones.
#[inline(always)]
pub fn ask_for_message(start: *const Word, bytes: usize, ask: impl Fn(*const Word)) {
    for line in 0..MOST_LINES {
        if bytes <= line * LINE * WORD {
            return;
        }
        ask(start.wrapping_add(line * LINE));
    }
}

impl Runs {
    /// Words from the start of the first run to the end of the last.
    fn span(&self) -> usize {
        if self.count == 0 { 0 } else { (self.count - 1) * self.stride + self.words }
    }
}

/// Bytes from which on a copy is worth a call.
const LONG: usize = 256;

/// The run that a message of `bytes` bytes is, but for what does not fill its last word.
fn run_of(bytes: usize) -> Runs {
    let words = bytes / WORD;
    Runs { count: 1, words, stride: words, known: words }
}

/// [`write`] for a length that is not known before it runs.
#[inline(always)]
pub fn write_message(to: &[Word], from: &[u8]) {
    if from.len() < LONG {
        return write_from(to, from, wide::write_stored(to, from));
    }
    write_long(to, from);
}

/// Bytes of which one word of each line is written before all of them are.
pub const BLOCK: usize = 4 * 1024;

/// [`write_message`] for one that is not short.
///
/// The other side has read the lines before, and each must be got back from it. The store buffer holds the first stores to more
/// lines if no others lie between them, so it is one wait for all of them, where `prefetchw` is often not heeded.
#[inline(never)]
fn write_long(to: &[Word], from: &[u8]) {
    let to = &to[..words_for(from.len())];
    if from.len() <= 2 * BLOCK {
        return write_block(to, from);
    }
    for (words, bytes) in to.chunks(BLOCK / WORD).zip(from.chunks(BLOCK)) {
        words.chunks_exact(LINE).for_each(|line| line[0].write(0));
        write_block(words, bytes);
    }
}

fn write_block(to: &[Word], from: &[u8]) {
    let run = run_of(from.len());
    write_runs(to, run, from);
    write(&to[run.words..], &from[run.words * WORD..]);
}

/// [`read`] for a length that is not known before it runs.
///
/// # Safety
///
/// As for [`read`].
#[inline(always)]
pub unsafe fn read_message(from: &[Word], to: *mut u8, bytes: usize) {
    if bytes < LONG {
        // SAFETY: the caller's promise.
        return unsafe { read(from, to, bytes) };
    }
    let run = run_of(bytes);
    let done = run.words * WORD;
    // SAFETY: the caller's promise covers both parts.
    unsafe {
        read_runs(from, run, to);
        read(&from[run.words..], to.add(done), bytes - done);
    }
}

/// The most bytes that [`read_to_memory`] copies by itself.
const SHORT: usize = 512;

/// Whether [`read_to_memory`] may be told that lines can be had whole.
pub fn has_lines() -> bool {
    wide::has_lines()
}

/// [`read_message`] to where the caller wants the bytes to be: `read_message` for what it goes on to work with.
///
/// # Safety
///
/// As for [`read`], and `lines` must be what [`has_lines`] says, or `false`.
#[inline(always)]
pub unsafe fn read_to_memory(from: &[Word], to: *mut u8, bytes: usize, lines: bool) {
    let whole = bytes / (LINE * WORD);
    if whole == 0 || bytes > SHORT || !lines {
        // SAFETY: the caller's promise.
        return unsafe { read_message(from, to, bytes) };
    }
    let done = whole * LINE * WORD;
    // SAFETY: the caller's promise covers both parts.
    unsafe {
        wide::read_lines(from.as_ptr(), to, whole);
        read(from.get_unchecked(whole * LINE..), to.add(done), bytes - done);
    }
}

/// Copies `from`, which must be as long as all runs, into the runs that start at `to[0]`.
#[inline]
pub fn write_runs(to: &[Word], runs: Runs, from: &[u8]) {
    assert!(runs.span() <= to.len() && runs.count * runs.words * WORD <= from.len());
    // SAFETY: just asserted.
    if unsafe { wide::write_runs(to, runs, from) } {
        return;
    }
    for i in 0..runs.count {
        let bytes = &from[i * runs.words * WORD..][..runs.words * WORD];
        write(&to[i * runs.stride..][..runs.words], bytes);
    }
}

/// Copies the runs that start at `from[0]` to `to`.
///
/// # Safety
///
/// `to` must be valid for writes of all their words.
#[inline]
pub unsafe fn read_runs(from: &[Word], runs: Runs, to: *mut u8) {
    assert!(runs.span() <= from.len());
    // SAFETY: just asserted, and the caller's promise.
    if unsafe { wide::read_runs(from, runs, to) } {
        return;
    }
    for i in 0..runs.count {
        let words = &from[i * runs.stride..i * runs.stride + runs.words];
        // SAFETY: the caller's promise covers run `i < runs.count`.
        unsafe { read(words, to.add(i * runs.words * WORD), runs.words * WORD) };
    }
}

/// Elsewhere, and under loom, every word goes by itself.
#[cfg(not(all(target_arch = "x86_64", not(loom))))]
mod wide {
    use super::Runs;
    use crate::sync::Word;

    pub fn write(_to: &[Word], _from: &[u8]) -> usize {
        0
    }

    pub fn write_stored(_to: &[Word], _from: &[u8]) -> usize {
        0
    }

    /// # Safety
    ///
    /// None needed: it does nothing.
    pub unsafe fn write_runs(_to: &[Word], _runs: Runs, _from: &[u8]) -> bool {
        false
    }

    /// # Safety
    ///
    /// None needed: it does nothing.
    pub unsafe fn read_runs(_from: &[Word], _runs: Runs, _to: *mut u8) -> bool {
        false
    }

    pub fn has_lines() -> bool {
        false
    }

    /// # Safety
    ///
    /// None needed: it does nothing.
    pub unsafe fn read_lines(_from: *const Word, _to: *mut u8, _lines: usize) {}

    /// # Safety
    ///
    /// None needed: it does nothing.
    pub unsafe fn read(_from: &[Word], _to: *mut u8, _words: usize) -> usize {
        0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;

    /// Around what is copied in another way than what is shorter.
    fn lengths() -> impl Iterator<Item = usize> {
        let edges = [0, LONG, SHORT, BLOCK, 2 * BLOCK, 3 * BLOCK, 5 * BLOCK];
        let around = edges.into_iter().flat_map(|edge: usize| edge.saturating_sub(80)..edge + 80);
        around.chain((0..6 * BLOCK).step_by(197))
    }

    #[test]
    fn messages_of_any_length_are_whole_and_nothing_else_is_written() {
        const OTHERS: u64 = 0xa5a5_a5a5_a5a5_a5a5;
        let message: Vec<u8> = (0..6 * BLOCK + 100).map(|i| (i * 7 + i / 251) as u8).collect();
        for length in lengths() {
            let memory: Vec<_> =
                (0..words_for(length) + 2 * LINE).map(|_| AtomicU64::new(OTHERS)).collect();
            // SAFETY: a `Word` is an atomic of eight bytes.
            let words =
                unsafe { core::slice::from_raw_parts(memory.as_ptr().cast(), memory.len()) };
            write_message(words, &message[..length]);
            let after = &words[words_for(length)..];
            assert!(after.iter().all(|word| word.read() == OTHERS), "after {length} bytes");
            let mut read = vec![0; length + 1];
            for to_memory in [false, true] {
                read.fill(0x5a);
                // SAFETY: both are as long as that.
                unsafe {
                    match to_memory {
                        false => read_message(words, read.as_mut_ptr(), length),
                        true => read_to_memory(words, read.as_mut_ptr(), length, has_lines()),
                    }
                }
                assert!(read[..length] == message[..length], "{length} bytes");
                assert_eq!(read[length], 0x5a, "after {length} bytes");
            }
        }
    }
}
