//! What every transport carries: a sequence number and a pattern derived from it over all bytes.
//!
//! Word `i` is `sequence + i * (sequence * SPREAD ^ STEP)`, so word 0 is the sequence number; a trailing part of a word is
//! its low bytes. All loops are plain additions over words, the same for each of them, which the compiler turns into vector
//! code or unrolls: filling and checking cost a small part of the copy that they accompany, and they cost every transport the same. (Had
//! the first word a rule of its own, it would be stored by itself, or the others be compared eight bytes off the copy's pieces;
//! and a load of bytes that two stores have just written waits until both have left the store buffer.)

/// The smallest message: a sequence number.
pub const MIN_SIZE: usize = 8;

/// The sequence number that ends a series of round trips. Far above what any run reaches, and still a value that an
/// eventfd accepts.
pub const STOP: u64 = 1 << 62;

/// Even, so that each bit of word `i` is that of the sequence number, changed by lower ones only: different sequence numbers
/// give different words everywhere (2^64 divided by the golden ratio).
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C16;
/// Odd, so that from one word to the next it is an odd number: words at different places are told apart.
const STEP: u64 = 0xD1B5_4A32_D192_ED03;

/// From one word to the next. Not a sum: a multiple of it would be one of the sequence number, too, and the compiler computes each of
/// several words by a multiplication then.
#[inline]
fn step(sequence: u64) -> u64 {
    sequence.wrapping_mul(SPREAD) ^ STEP
}

/// A message of a fixed size that can be filled for a sequence number and compared with it.
pub trait Payload {
    /// A message of `size` bytes, all zero.
    fn blank(size: usize) -> Self;
    /// Writes every byte for `sequence`.
    fn fill(&mut self, sequence: u64);
    /// Reads every byte and compares it with what `fill(sequence)` writes.
    fn matches(&self, sequence: u64) -> bool;
    /// The number that it says it was filled for.
    fn sequence(&self) -> u64;
}

/// Messages of the typed ring: as many words as the type says.
impl<const N: usize> Payload for [u64; N] {
    fn blank(size: usize) -> Self {
        assert_eq!(size, N * 8, "the row was planned for another size");
        [0; N]
    }

    #[inline]
    fn fill(&mut self, sequence: u64) {
        let mut word = sequence;
        for slot in self.iter_mut() {
            *slot = word;
            word = word.wrapping_add(step(sequence));
        }
    }

    #[inline]
    fn matches(&self, sequence: u64) -> bool {
        let (mut word, mut difference) = (sequence, 0);
        for &slot in self {
            difference |= slot ^ word;
            word = word.wrapping_add(step(sequence));
        }
        difference == 0
    }

    #[inline]
    fn sequence(&self) -> u64 {
        self[0]
    }
}

/// Messages of everything that moves bytes.
pub struct Bytes(pub Vec<u8>);

impl Payload for Bytes {
    fn blank(size: usize) -> Self {
        assert!(size >= MIN_SIZE, "the row was planned for a size that holds no sequence number");
        Self(vec![0; size])
    }

    #[inline]
    fn fill(&mut self, sequence: u64) {
        fill(&mut self.0, sequence);
    }

    #[inline]
    fn matches(&self, sequence: u64) -> bool {
        matches(&self.0, sequence)
    }

    #[inline]
    fn sequence(&self) -> u64 {
        sequence(&self.0)
    }
}

/// The longest of the messages whose words are made and compared eight at a time: in a loop over words, what comes before
/// and behind the loop takes longer than a short message's words.
const SHORT: usize = 256;
/// Eight words.
const GROUP: usize = 8 * 8;

/// How many of the first bytes of a message of `len` are made and compared in groups.
#[inline]
fn in_groups(len: usize) -> usize {
    if len <= SHORT { len / GROUP * GROUP } else { 0 }
}

/// Writes every byte of `message` for `sequence`.
#[inline(always)]
pub fn fill(message: &mut [u8], sequence: u64) {
    let (mut word, step) = (sequence, step(sequence));
    let (groups, rest) = message.split_at_mut(in_groups(message.len()));
    for group in groups.chunks_exact_mut(GROUP) {
        for slot in group.chunks_exact_mut(8) {
            slot.copy_from_slice(&word.to_le_bytes());
            word = word.wrapping_add(step);
        }
    }
    if rest.is_empty() {
        return;
    }
    let mut words = rest.chunks_exact_mut(8);
    for slot in &mut words {
        slot.copy_from_slice(&word.to_le_bytes());
        word = word.wrapping_add(step);
    }
    let tail = words.into_remainder();
    // Not a call for nothing.
    if !tail.is_empty() {
        let tail_len = tail.len();
        tail.copy_from_slice(&word.to_le_bytes()[..tail_len]);
    }
}

/// Reads every byte of `message` and compares it with what `fill` writes for `sequence`.
#[inline(always)]
pub fn matches(message: &[u8], sequence: u64) -> bool {
    let (mut word, step) = (sequence, step(sequence));
    let mut difference = 0;
    let (groups, rest) = message.split_at(in_groups(message.len()));
    for group in groups.chunks_exact(GROUP) {
        for slot in group.chunks_exact(8) {
            difference |= u64_of(slot) ^ word;
            word = word.wrapping_add(step);
        }
    }
    if rest.is_empty() {
        return difference == 0;
    }
    let words = rest.chunks_exact(8);
    let tail = words.remainder();
    for slot in words {
        difference |= u64_of(slot) ^ word;
        word = word.wrapping_add(step);
    }
    difference == 0 && (tail.is_empty() || tail == &word.to_le_bytes()[..tail.len()])
}

/// The number that `message` says it was filled for.
#[inline]
pub fn sequence(message: &[u8]) -> u64 {
    u64_of(&message[..8])
}

#[inline]
fn u64_of(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("a chunk of eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filled_message_matches_its_own_sequence_number_only() {
        for size in [8, 9, 15, 16, 56, 64, 100, 4096, 65_537] {
            let mut message = Bytes::blank(size);
            for sequence in [1, 2, 1 << 40, STOP] {
                message.fill(sequence);
                assert_eq!(message.sequence(), sequence);
                assert!(message.matches(sequence), "{size} bytes");
                assert!(!message.matches(sequence + 1), "{size} bytes");
            }
        }
    }

    #[test]
    fn one_wrong_byte_anywhere_is_seen() {
        let mut message = Bytes::blank(77);
        message.fill(9);
        for at in 0..77 {
            message.0[at] ^= 0x10;
            assert!(!message.matches(9), "byte {at}");
            message.0[at] ^= 0x10;
        }
        assert!(message.matches(9));
    }

    #[test]
    fn words_and_bytes_carry_the_same_pattern() {
        let mut words = <[u64; 9]>::blank(72);
        let mut bytes = Bytes::blank(72);
        words.fill(1234);
        bytes.fill(1234);
        assert!(words.matches(1234));
        assert_eq!(words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>(), bytes.0);
        for at in 0..9 {
            words[at] ^= 1;
            assert!(!words.matches(1234), "word {at}");
            words[at] ^= 1;
        }
    }
}
