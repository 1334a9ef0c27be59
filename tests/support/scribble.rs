//! What an enemy writes, and how long a victim's call may take meanwhile.

use nix::time::{ClockId, clock_gettime};
use std::ops::Range;
use std::time::{Duration, Instant};

/// More processor time than a victim has in all its siege, and than any call takes that has no time-out or a short one.
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

/// Runs one call and checks that it did not take a long way to its end. One that has no end is noticed by who waits for
/// the victim.
///
/// Time itself proves nothing on a machine that is busy. So where it was long, the processor time of the thread is asked
/// for, which is a system call and would slow down the others.
pub fn timed<R>(call: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = call();
    if start.elapsed() >= LONGEST {
        let used = Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
        assert!(used < LONGEST, "a call took {:?}", start.elapsed());
    }
    result
}
