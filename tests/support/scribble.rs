//! What an enemy writes, and how long a victim's call may take meanwhile.

use std::ops::Range;
use std::time::{Duration, Instant};

/// How long one call may take that has no time-out or a short one: much, on a machine that is busy.
const LONGEST: Duration = Duration::from_secs(10);

/// Numbers that look random, the same each time for the same `which`.
pub fn numbers(which: u64) -> impl FnMut() -> u64 {
    // An odd number times an odd one: never 0, from which nothing would come.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(2 * which + 1);
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

/// Where in `range` of the bytes to write, and what: by the number `r`, often something close to the position `near`.
pub fn stroke(
    random: &mut impl FnMut() -> u64,
    r: u64,
    range: Range<usize>,
    near: u64,
) -> (usize, u64) {
    let value = match (r >> 32) % 10 {
        0 => 0,
        1 => random(),
        2 => u64::MAX,
        3 => near,
        4..6 => (near << 2) | ((r >> 24) % 4),
        6 => (1 << 32) | ((r >> 24) % 200),
        7 => (((r >> 24) % 3) << 32) | (random() % (1 << 33)),
        8 => near & !7,
        _ => 1 << (random() % 64),
    };
    // Half of the writes go to the words that matter most.
    let offset = if random().is_multiple_of(2) {
        range.start + [0, 0, 8, 128, 256, 264][random() as usize % 6]
    } else {
        range.start + random() as usize % (range.end - range.start) / 8 * 8
    };
    (offset, value)
}

/// Runs one call and checks that it came back.
pub fn timed<R>(call: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = call();
    assert!(start.elapsed() < LONGEST, "a call took {:?}", start.elapsed());
    result
}
