//! Message bytes in and out of shared memory.
//!
//! A peer may write to the words while they are read, so no reference to them is ever formed: they are
//! copied, word by word with relaxed atomics or, where that is measured to matter, sixteen bytes at a
//! time by an assembly block that the compiler cannot see into. Either way the bytes land in memory
//! that is private to this process before anybody looks at them. The order of the copy against the
//! rest of the protocol comes from the stamp or the record header, never from the copy.

use crate::sync::Word;

/// Bytes in a word.
pub const WORD: usize = 8;

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
    let rest = &from[whole * WORD..];
    if !rest.is_empty() && whole < to.len() {
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

/// Copies `from`, which must be as long as all runs, into the runs that start at `to[0]`.
#[inline]
pub fn write_runs(to: &[Word], runs: Runs, from: &[u8]) {
    assert!(runs.span() <= to.len() && runs.count * runs.words * WORD <= from.len());
    // SAFETY: just asserted.
    if unsafe { wide::write_runs(to, runs, from) } {
        return;
    }
    for (i, bytes) in from.chunks_exact(runs.words * WORD).take(runs.count).enumerate() {
        write(&to[i * runs.stride..i * runs.stride + runs.words], bytes);
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

/// Sixteen bytes an instruction, where every x86-64 has them.
///
/// Only the shared side of a copy of few bytes is assembly. The private side is left to the compiler, which
/// often has the message in registers and then stores nothing and loads nothing there. Where it is known
/// to be in memory it is loaded eight bytes at a time: a load of sixteen that were stored as two words a
/// moment ago stalls until both have left the store buffer, behind all that is on its way to the ring.
#[cfg(all(target_arch = "x86_64", not(loom)))]
mod wide {
    use super::{AHEAD, Runs, WORD};
    use crate::sync::{Word, prefetch_for_read, prefetch_for_write};
    use core::arch::asm;
    use core::arch::x86_64::{
        __m128i, __m256i, _mm_loadu_si128, _mm_storeu_si128, _mm256_loadu_si256,
        _mm256_storeu_si256,
    };

    /// Words in a cache line.
    const LINE: usize = 8;

    /// Words that one instruction moves.
    const PAIR: usize = 2;

    /// Words that one wide instruction moves.
    const QUAD: usize = 4;

    /// Thirty-two bytes of shared memory.
    ///
    /// # Safety
    ///
    /// `from` must be valid for reads of them.
    #[inline]
    #[target_feature(enable = "avx")]
    unsafe fn load_quad(from: *const Word) -> __m256i {
        let value;
        // SAFETY: the caller's promise; the block only reads, and no reference to the bytes is formed.
        unsafe {
            asm!(
                "vmovdqu {value}, [{from}]",
                from = in(reg) from,
                value = out(ymm_reg) value,
                options(nostack, preserves_flags, readonly),
            );
        }
        value
    }

    /// # Safety
    ///
    /// `to` must be valid for writes of thirty-two bytes that are shared as `Word`s.
    #[inline]
    #[target_feature(enable = "avx")]
    unsafe fn store_quad(to: *const Word, value: __m256i) {
        // SAFETY: the caller's promise; `Word`s may be written through a shared reference.
        unsafe {
            asm!(
                "vmovdqu [{to}], {value}",
                to = in(reg) to,
                value = in(ymm_reg) value,
                options(nostack, preserves_flags),
            );
        }
    }

    /// [`write_runs`](super::write_runs) where the processor has registers of thirty-two bytes; `false`
    /// if it does not, or a run is too short.
    ///
    /// # Safety
    ///
    /// `to` must have the words of all runs, and `from` their bytes.
    #[inline]
    pub unsafe fn write_runs(to: &[Word], runs: Runs, from: &[u8]) -> bool {
        if runs.words < QUAD || !is_x86_feature_detected!("avx") {
            return false;
        }
        // SAFETY: the caller's promise; the feature is there.
        unsafe { write_quads(to.as_ptr(), runs, from.as_ptr()) };
        true
    }

    /// # Safety
    ///
    /// As for [`write_runs`], of runs of at least [`QUAD`] words.
    #[target_feature(enable = "avx")]
    unsafe fn write_quads(mut to: *const Word, runs: Runs, mut from: *const u8) {
        let last = runs.words - QUAD;
        for run in 0..runs.count {
            let known = runs.known.saturating_sub(run * runs.stride + AHEAD);
            let mut word = 0;
            // SAFETY: a line from `word`, a quad from there and one from `last` are inside the run, as
            // the conditions say, and the caller promises all runs on both sides. Words that two quads
            // cover are written twice, with the same bytes. Asking for a line touches nothing.
            unsafe {
                let quad = |word: usize| {
                    store_quad(to.add(word), _mm256_loadu_si256(from.add(word * WORD).cast()));
                };
                while word + LINE <= runs.words {
                    if word < known {
                        prefetch_for_write(to.wrapping_add(word + AHEAD));
                    }
                    quad(word);
                    quad(word + QUAD);
                    word += LINE;
                }
                if word < last {
                    quad(word);
                }
                if word < runs.words {
                    quad(last);
                }
                from = from.add(runs.words * WORD);
            }
            to = to.wrapping_add(runs.stride);
        }
    }

    /// [`read_runs`](super::read_runs) where the processor has registers of thirty-two bytes; `false`
    /// if it does not, or a run is too short.
    ///
    /// # Safety
    ///
    /// `from` must have the words of all runs, and `to` be valid for writes of their bytes.
    #[inline]
    pub unsafe fn read_runs(from: &[Word], runs: Runs, to: *mut u8) -> bool {
        if runs.words < QUAD || !is_x86_feature_detected!("avx") {
            return false;
        }
        // SAFETY: the caller's promise; the feature is there.
        unsafe { read_quads(from.as_ptr(), runs, to) };
        true
    }

    /// # Safety
    ///
    /// As for [`read_runs`], of runs of at least [`QUAD`] words.
    #[target_feature(enable = "avx")]
    unsafe fn read_quads(mut from: *const Word, runs: Runs, mut to: *mut u8) {
        let last = runs.words - QUAD;
        for run in 0..runs.count {
            let known = runs.known.saturating_sub(run * runs.stride + AHEAD);
            let mut word = 0;
            // SAFETY: as for `write_quads`.
            unsafe {
                let quad = |word: usize| {
                    _mm256_storeu_si256(to.add(word * WORD).cast(), load_quad(from.add(word)));
                };
                while word + LINE <= runs.words {
                    if word < known {
                        prefetch_for_read(from.wrapping_add(word + AHEAD));
                    }
                    quad(word);
                    quad(word + QUAD);
                    word += LINE;
                }
                if word < last {
                    quad(word);
                }
                if word < runs.words {
                    quad(last);
                }
                to = to.add(runs.words * WORD);
            }
            from = from.wrapping_add(runs.stride);
        }
    }

    /// Copies as many pairs of words as `to` and `from` have, and gives the number of words done.
    #[inline(always)]
    pub fn write(to: &[Word], from: &[u8]) -> usize {
        let pairs = to.len().min(from.len() / WORD) / PAIR;
        for pair in 0..pairs {
            // SAFETY: `pair < pairs`, so both sixteen bytes are in bounds. `Word`s may be written
            // through a shared reference; the block may touch any memory as far as the compiler knows,
            // so a racing access of another process is nothing that it reasons about.
            unsafe {
                let value = _mm_loadu_si128(from.as_ptr().cast::<__m128i>().add(pair));
                asm!(
                    "movdqu [{to}], {value}",
                    to = in(reg) to.as_ptr().add(pair * PAIR),
                    value = in(xmm_reg) value,
                    options(nostack, preserves_flags),
                );
            }
        }
        pairs * PAIR
    }

    /// The same for bytes in memory, of which each eight may have been stored a moment ago.
    #[inline(always)]
    pub fn write_stored(to: &[Word], from: &[u8]) -> usize {
        let pairs = to.len().min(from.len() / WORD) / PAIR;
        for pair in 0..pairs {
            // SAFETY: as for `write`.
            unsafe {
                asm!(
                    "movq {value}, [{from}]",
                    "movhps {value}, [{from} + 8]",
                    "movdqu [{to}], {value}",
                    from = in(reg) from.as_ptr().add(pair * PAIR * WORD),
                    to = in(reg) to.as_ptr().add(pair * PAIR),
                    value = out(xmm_reg) _,
                    options(nostack, preserves_flags),
                );
            }
        }
        pairs * PAIR
    }

    /// Copies as many pairs of words as there are in `words` words, and gives the number of words done.
    ///
    /// # Safety
    ///
    /// `from` must have `words` words and `to` room for as many.
    #[inline(always)]
    pub unsafe fn read(from: &[Word], to: *mut u8, words: usize) -> usize {
        let pairs = words / PAIR;
        for pair in 0..pairs {
            // SAFETY: `pair < pairs`, so both sixteen bytes are in bounds by the caller's promise. The
            // block only reads; what a racing peer writes meanwhile decides which bytes arrive.
            unsafe {
                let value: __m128i;
                asm!(
                    "movdqu {value}, [{from}]",
                    from = in(reg) from.as_ptr().add(pair * PAIR),
                    value = out(xmm_reg) value,
                    options(nostack, preserves_flags, readonly),
                );
                _mm_storeu_si128(to.cast::<__m128i>().add(pair), value);
            }
        }
        pairs * PAIR
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

    /// # Safety
    ///
    /// None needed: it does nothing.
    pub unsafe fn read(_from: &[Word], _to: *mut u8, _words: usize) -> usize {
        0
    }
}
