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
    debug_assert!(to.len() >= words_for(from.len()));
    let whole = (from.len() / WORD).min(to.len());
    let done = wide::write(&to[..whole], from);
    for i in done..whole {
        // SAFETY: `i < whole <= from.len() / 8`, so these eight bytes are inside `from`.
        let word = unsafe { from.as_ptr().add(i * WORD).cast::<u64>().read_unaligned() };
        to[i].write(u64::from_le(word));
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
#[cfg(all(target_arch = "x86_64", not(loom)))]
mod wide {
    use super::WORD;
    use crate::sync::Word;
    use core::arch::asm;

    /// Words in the unit that one block copies.
    const UNIT: usize = 8;

    /// Copies as many whole units as fit and gives the number of words done.
    #[inline(always)]
    pub fn write(to: &[Word], from: &[u8]) -> usize {
        let mut done = 0;
        while done + UNIT <= to.len() && (done + UNIT) * WORD <= from.len() {
            // SAFETY: both ranges of 64 bytes are in bounds by the loop's condition; `to` is only ever
            // accessed atomically or by such a block, which the compiler must assume touches memory.
            unsafe {
                asm!(
                    "movdqu {a}, [{from}]",
                    "movdqu {b}, [{from} + 16]",
                    "movdqu {c}, [{from} + 32]",
                    "movdqu {d}, [{from} + 48]",
                    "movdqu [{to}], {a}",
                    "movdqu [{to} + 16], {b}",
                    "movdqu [{to} + 32], {c}",
                    "movdqu [{to} + 48], {d}",
                    from = in(reg) from.as_ptr().add(done * WORD),
                    to = in(reg) to.as_ptr().add(done),
                    a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
                    options(nostack, preserves_flags),
                );
            }
            done += UNIT;
        }
        done
    }

    /// Copies as many whole units as fit into `words` and gives the number of words done.
    ///
    /// # Safety
    ///
    /// `from` must have `words` words and `to` room for as many.
    #[inline(always)]
    pub unsafe fn read(from: &[Word], to: *mut u8, words: usize) -> usize {
        let mut done = 0;
        while done + UNIT <= words {
            // SAFETY: both ranges of 64 bytes are in bounds by the loop's condition and the caller's
            // promise; a racing peer can only change which bytes arrive in `to`.
            unsafe {
                asm!(
                    "movdqu {a}, [{from}]",
                    "movdqu {b}, [{from} + 16]",
                    "movdqu {c}, [{from} + 32]",
                    "movdqu {d}, [{from} + 48]",
                    "movdqu [{to}], {a}",
                    "movdqu [{to} + 16], {b}",
                    "movdqu [{to} + 32], {c}",
                    "movdqu [{to} + 48], {d}",
                    from = in(reg) from.as_ptr().add(done),
                    to = in(reg) to.add(done * WORD),
                    a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
                    options(nostack, preserves_flags),
                );
            }
            done += UNIT;
        }
        done
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
