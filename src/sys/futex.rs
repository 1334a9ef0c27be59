//! Sleeping on a word of shared memory.

use super::clock::Monotonic;
use crate::sync::AtomicU32;
use std::io;
use std::time::Duration;

/// The bits of a sleeper whom every wake is for, and of a wake that is for everybody.
pub(crate) const ANY: u32 = libc::FUTEX_BITSET_MATCH_ANY as u32;

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// Somebody woke us, or the word had changed before we slept.
    Rung,
    /// The deadline passed.
    TimedOut,
}

/// Sleeps while `word` is `expected`, until `deadline`. Signals do not end the sleep.
///
/// The futex is a shared one: the word may be mapped by other processes, also read-only here.
pub(crate) fn wait(word: &AtomicU32, expected: u32, deadline: Monotonic) -> Woken {
    wait_for(word, expected, ANY, deadline)
}

/// The same, to be woken only by those who ring for one of `bits`.
pub(crate) fn wait_for(word: &AtomicU32, expected: u32, bits: u32, deadline: Monotonic) -> Woken {
    let deadline = deadline.timespec();
    loop {
        // SAFETY: `word` is a live, aligned 32-bit word and `deadline` a valid time; the call writes
        // to neither.
        let result = unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAIT_BITSET,
                expected,
                &raw const deadline,
                core::ptr::null::<u32>(),
                bits,
            )
        };
        if result == 0 {
            return Woken::Rung;
        }
        match io::Error::last_os_error().raw_os_error() {
            Some(libc::EINTR) => continue,
            Some(libc::ETIMEDOUT) => return Woken::TimedOut,
            // EAGAIN: the word has changed. Anything else (a kernel or a filter without futexes) must
            // not become a hot loop that never looks at its deadline.
            Some(libc::EAGAIN) => return Woken::Rung,
            _ => return Woken::TimedOut,
        }
    }
}

/// Sleeps while `word` is `expected`, for about as long as `slice`. A signal ends the sleep early, as if
/// the time were up: whoever gets one every few milliseconds must come to look at its peer, too.
/// Cheaper than [`wait`]: no clock is read.
pub(crate) fn wait_slice(word: &AtomicU32, expected: u32, slice: Duration) -> Woken {
    let slice = libc::timespec {
        tv_sec: slice.as_secs() as libc::time_t,
        tv_nsec: slice.subsec_nanos() as libc::c_long,
    };
    // SAFETY: `word` is a live, aligned 32-bit word and `slice` a valid time; the call writes to neither.
    let result = unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, &raw const slice)
    };
    match result {
        0 => Woken::Rung,
        _ => match io::Error::last_os_error().raw_os_error() {
            Some(libc::EAGAIN) => Woken::Rung,
            _ => Woken::TimedOut,
        },
    }
}

/// Wakes all who sleep on `word`, in whatever process.
pub(crate) fn wake_all(word: &AtomicU32) {
    wake(word, u32::MAX);
}

/// Wakes all who sleep on `word` for one of `bits`; how many there were.
pub(crate) fn wake_for(word: &AtomicU32, bits: u32) -> u32 {
    // SAFETY: as for `wake`.
    let woken = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE_BITSET,
            i32::MAX,
            core::ptr::null::<libc::timespec>(),
            core::ptr::null::<u32>(),
            bits,
        )
    };
    u32::try_from(woken).unwrap_or(0)
}

/// Wakes up to `most` of those who sleep on `word`, who have slept longest; how many there were.
pub(crate) fn wake(word: &AtomicU32, most: u32) -> u32 {
    let most = i32::try_from(most).unwrap_or(i32::MAX);
    // SAFETY: `word` is a live, aligned 32-bit word; waking touches no memory.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, most) };
    u32::try_from(woken).unwrap_or(0)
}
