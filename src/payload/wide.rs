//! Sixteen bytes an instruction, which every x86-64 has, and thirty-two where there is AVX.
//!
//! Only the shared side of a copy of few bytes is assembly. The private side is left to the compiler, which
//! often has the message in registers and then stores nothing and loads nothing there. Where it is known
//! to be in memory it is loaded eight bytes at a time: a load of sixteen that were stored as two words a
//! moment ago stalls until both have left the store buffer, behind all that is on its way to the ring.

use super::{AHEAD, LINE, Runs, WORD};
use crate::sync::{Word, prefetch_for_read, prefetch_for_write};
use core::arch::asm;
use core::arch::x86_64::{
    __m128i, __m256i, _mm_loadu_si128, _mm_storeu_si128, _mm256_loadu_si256, _mm256_storeu_si256,
};

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
unsafe fn write_quads(to: *const Word, runs: Runs, from: *const u8) {
    each_quad(
        runs,
        |line| prefetch_for_write(to.wrapping_add(line)),
        // SAFETY: the quad is inside a run, and the caller promises all runs on both sides.
        |shared, private| unsafe {
            store_quad(to.add(shared), _mm256_loadu_si256(from.add(private * WORD).cast()));
        },
    );
}

/// Calls `copy` with the index among the shared words, and among the private ones, of quads that together
/// cover all of `runs`, each of at least [`QUAD`] words; some words twice. Calls `ask` with the index of
/// each line ahead.
#[inline]
#[target_feature(enable = "avx")]
fn each_quad(runs: Runs, ask: impl Fn(usize), copy: impl Fn(usize, usize)) {
    let last = runs.words - QUAD;
    for run in 0..runs.count {
        let (shared, private) = (run * runs.stride, run * runs.words);
        let known = runs.known.saturating_sub(shared + AHEAD);
        let quad = |word: usize| copy(shared + word, private + word);
        let mut word = 0;
        while word + LINE <= runs.words {
            if word < known {
                ask(shared + word + AHEAD);
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
unsafe fn read_quads(from: *const Word, runs: Runs, to: *mut u8) {
    each_quad(
        runs,
        |line| prefetch_for_read(from.wrapping_add(line)),
        // SAFETY: as for `write_quads`.
        |shared, private| unsafe {
            _mm256_storeu_si256(to.add(private * WORD).cast(), load_quad(from.add(shared)));
        },
    );
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
    let words = to.len().min(from.len() / WORD);
    let (lines, pairs) = (words / LINE, words / PAIR);
    for line in 0..lines {
        // SAFETY: as below, of four pairs.
        unsafe {
            write_stored_line(to.as_ptr().add(line * LINE), from.as_ptr().add(line * LINE * WORD));
        }
    }
    if lines * LINE == words {
        return words;
    }
    for pair in lines * (LINE / PAIR)..pairs {
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

/// Copies a line's worth of words with one pair of addresses, as [`read_line`] does.
///
/// # Safety
///
/// `from` must be valid for reads of a line's bytes and `to` have [`LINE`] words.
#[inline(always)]
unsafe fn write_stored_line(to: *const Word, from: *const u8) {
    // SAFETY: the caller's promise; `Word`s may be written through a shared reference.
    unsafe {
        asm!(
            "movq {first}, [{from}]",
            "movhps {first}, [{from} + 8]",
            "movq {second}, [{from} + 16]",
            "movhps {second}, [{from} + 24]",
            "movq {third}, [{from} + 32]",
            "movhps {third}, [{from} + 40]",
            "movq {fourth}, [{from} + 48]",
            "movhps {fourth}, [{from} + 56]",
            "movdqu [{to}], {first}",
            "movdqu [{to} + 16], {second}",
            "movdqu [{to} + 32], {third}",
            "movdqu [{to} + 48], {fourth}",
            from = in(reg) from,
            to = in(reg) to,
            first = out(xmm_reg) _,
            second = out(xmm_reg) _,
            third = out(xmm_reg) _,
            fourth = out(xmm_reg) _,
            options(nostack, preserves_flags),
        );
    }
}

/// Copies as many pairs of words as there are in `words` words, and gives the number of words done.
///
/// # Safety
///
/// `from` must have `words` words and `to` room for as many.
#[inline(always)]
pub unsafe fn read(from: &[Word], to: *mut u8, words: usize) -> usize {
    let (lines, pairs) = (words / LINE, words / PAIR);
    for line in 0..lines {
        // SAFETY: as below, of four pairs.
        unsafe { read_line(from.as_ptr().add(line * LINE), to.add(line * LINE * WORD).cast()) };
    }
    if lines * LINE == words {
        return words;
    }
    for pair in lines * (LINE / PAIR)..pairs {
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

/// Whether [`read_lines`] may be called.
pub fn has_lines() -> bool {
    is_x86_feature_detected!("avx")
}

/// Copies so many lines' worth of words to memory, with half of the instructions that [`read`] takes. What is there then the
/// compiler does not have in registers.
///
/// # Safety
///
/// The processor must [have](has_lines) it; `from` must be valid for reads of so many times [`LINE`] words and `to` for writes
/// of as many.
#[inline(always)]
pub unsafe fn read_lines(from: *const Word, to: *mut u8, lines: usize) {
    for line in 0..lines {
        // SAFETY: the caller's promise. Both registers are named, for functions that are compiled for every processor
        // have no others of that width.
        unsafe {
            asm!(
                "vmovdqu ymm0, [{from}]",
                "vmovdqu ymm1, [{from} + 32]",
                "vmovdqu [{to}], ymm0",
                "vmovdqu [{to} + 32], ymm1",
                from = in(reg) from.add(line * LINE),
                to = in(reg) to.add(line * LINE * WORD),
                out("xmm0") _,
                out("xmm1") _,
                options(nostack, preserves_flags),
            );
        }
    }
    // Instructions of sixteen bytes, of a program that is compiled for every processor, would wait for what is in the upper
    // halves.
    #[cfg(not(target_feature = "avx"))]
    // SAFETY: as above. It clears the upper halves of all of them, of which a caller that is compiled for this processor
    // may be using any.
    unsafe {
        asm!(
            "vzeroupper",
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
            out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
            out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            options(nomem, nostack, preserves_flags),
        );
    }
}

/// Copies a line's worth of words with one address: each block of assembly has to be given its own, and four of them
/// would be computed for four pairs.
///
/// # Safety
///
/// `from` must be valid for reads of [`LINE`] words and `to` for writes of as many.
#[inline(always)]
unsafe fn read_line(from: *const Word, to: *mut __m128i) {
    let (first, second, third, fourth): (__m128i, __m128i, __m128i, __m128i);
    // SAFETY: the caller's promise; the block only reads, as that of `read`.
    unsafe {
        asm!(
            "movdqu {first}, [{from}]",
            "movdqu {second}, [{from} + 16]",
            "movdqu {third}, [{from} + 32]",
            "movdqu {fourth}, [{from} + 48]",
            from = in(reg) from,
            first = out(xmm_reg) first,
            second = out(xmm_reg) second,
            third = out(xmm_reg) third,
            fourth = out(xmm_reg) fourth,
            options(nostack, preserves_flags, readonly),
        );
        _mm_storeu_si128(to, first);
        _mm_storeu_si128(to.add(1), second);
        _mm_storeu_si128(to.add(2), third);
        _mm_storeu_si128(to.add(3), fourth);
    }
}
