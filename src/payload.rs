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
    for (i, word) in to.iter().enumerate().take(whole).skip(done) {
        // SAFETY: `i < whole <= from.len() / 8`, so these eight bytes are inside `from`.
        let value = unsafe { from.as_ptr().add(i * WORD).cast::<u64>().read_unaligned() };
        word.write(u64::from_le(value));
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
    write(&to[first..], &from[head..head + whole]);
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

/// Sixteen bytes an instruction, where every x86-64 has them.
///
/// Only the shared side of each copy is assembly. The private side is left to the compiler, which often
/// has the message in registers and then stores nothing and loads nothing there. (Loading sixteen bytes
/// that were stored as two words a moment ago would stall until both have left the store buffer.)
#[cfg(all(target_arch = "x86_64", not(loom)))]
mod wide {
    use super::WORD;
    use crate::sync::Word;
    use core::arch::asm;
    use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_storeu_si128};

    /// Words that one instruction moves.
    const PAIR: usize = 2;

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
    use crate::sync::Word;

    pub fn write(_to: &[Word], _from: &[u8]) -> usize {
        0
    }

    /// # Safety
    ///
    /// None needed: it does nothing.
    pub unsafe fn read(_from: &[Word], _to: *mut u8, _words: usize) -> usize {
        0
    }
}
