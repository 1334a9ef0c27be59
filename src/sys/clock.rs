//! Deadlines as the kernel takes them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point on CLOCK_MONOTONIC, as time since that clock's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Monotonic(Duration);

impl Monotonic {
    /// Now.
    pub(crate) fn now() -> Self {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is valid for writes; CLOCK_MONOTONIC exists on every Linux, so the call
        // cannot fail.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
        Self(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }

    /// The point that `deadline` names on the same clock.
    pub(crate) fn of(deadline: Instant) -> Self {
        // `Instant` does not say what it holds, so the distance from now is carried over. The clock is
        // read first: the time between the two reads makes the result late, never early.
        let left = deadline.saturating_duration_since(Instant::now());
        Self::now() + left
    }

    /// How long after `earlier` this is; nothing if it is not.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// This point as the kernel's absolute time.
    pub(crate) fn timespec(self) -> libc::timespec {
        libc::timespec {
            tv_sec: self.0.as_secs().min(i64::MAX as u64) as libc::time_t,
            tv_nsec: self.0.subsec_nanos() as libc::c_long,
        }
    }
}

impl std::ops::Add<Duration> for Monotonic {
    type Output = Self;

    fn add(self, more: Duration) -> Self {
        Self(self.0.saturating_add(more))
    }
}

/// Nanoseconds since 1970, for people.
pub(crate) fn wall_nanoseconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
