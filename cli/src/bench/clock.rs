//! The clock: the processor's time-stamp counter where the kernel vouches for it, CLOCK_MONOTONIC elsewhere.
//!
//! A round trip between two spinning cores takes a few hundred nanoseconds, a call of `clock_gettime` some tens. The
//! counter costs less and is read alike for every row and for the floor, so that what remains of it in a figure is the same
//! in all of them and the ratios stay fair.
//!
//! Some counters advance by many ticks at a time, ten nanoseconds on processors of AMD: a tenth of what is measured.

use std::time::{Duration, Instant};

/// Reads ticks and turns differences of them into nanoseconds. Copied into both workers, whose ticks are comparable.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    source: Source,
    ns_per_tick: f64,
    /// Each reading is a multiple of so many ticks.
    step: u64,
}

/// Readings from which the step is learnt.
const READINGS: usize = 1000;
/// The golden ratio: multiples of it, without their whole parts, lie evenly, wherever one starts and ends.
const GOLDEN: f64 = 0.618_033_988_749_895;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The x86-64 time-stamp counter: constant rate, running in every power state, the same on every processor.
    #[cfg(target_arch = "x86_64")]
    Counter,
    /// `clock_gettime(CLOCK_MONOTONIC)` through the vDSO, in nanoseconds since this instant.
    Monotonic(Instant),
}

impl Clock {
    /// Chooses the source and calibrates it against CLOCK_MONOTONIC, which takes about 20 ms.
    pub fn calibrate() -> Self {
        let mut clock = Self::choose();
        clock.step = clock.find_step();
        clock
    }

    fn choose() -> Self {
        #[cfg(target_arch = "x86_64")]
        if kernel_trusts_the_counter() {
            let (wall, ticks) = (Instant::now(), counter());
            std::thread::sleep(Duration::from_millis(20));
            let ns = wall.elapsed().as_nanos() as f64;
            let ticks = counter().wrapping_sub(ticks);
            if ticks > 0 {
                return Self { source: Source::Counter, ns_per_tick: ns / ticks as f64, step: 1 };
            }
        }
        Self { source: Source::Monotonic(Instant::now()), ns_per_tick: 1.0, step: 1 }
    }

    /// The greatest number of ticks of which all readings are multiples.
    fn find_step(&self) -> u64 {
        let start = self.now();
        let readings = (0..READINGS).map(|_| self.now().wrapping_sub(start));
        readings.fold(0, greatest_common_divisor).max(1)
    }

    /// Ticks now: not before the instructions ahead of the call have completed.
    #[inline(always)]
    pub fn now(&self) -> u64 {
        match self.source {
            #[cfg(target_arch = "x86_64")]
            Source::Counter => counter(),
            Source::Monotonic(start) => start.elapsed().as_nanos() as u64,
        }
    }

    /// A difference of ticks in nanoseconds.
    pub fn ns(&self, ticks: u64) -> f64 {
        ticks as f64 * self.ns_per_tick
    }

    /// The `index`th of many differences of ticks in nanoseconds, somewhere within the step that it stands for: all together
    /// lie evenly in it. So a median is not rounded to a step.
    pub fn ns_within_step(&self, ticks: u64, index: usize) -> f64 {
        let place = (index as f64 * GOLDEN).fract() - 0.5;
        self.ns(ticks) + place * self.ns(self.step)
    }

    /// A duration in ticks.
    pub fn ticks(&self, duration: Duration) -> u64 {
        (duration.as_nanos() as f64 / self.ns_per_tick) as u64
    }

    /// For the description of the machine.
    pub fn name(&self) -> &'static str {
        match self.source {
            #[cfg(target_arch = "x86_64")]
            Source::Counter => "time-stamp counter",
            Source::Monotonic(_) => "CLOCK_MONOTONIC",
        }
    }
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The fence keeps the counter from being read before the loads ahead of it have completed, which are the answer that a
/// round trip waits for.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn counter() -> u64 {
    use core::arch::x86_64::{_mm_lfence, _rdtsc};
    // SAFETY: both instructions exist on every x86-64 processor and touch no memory.
    unsafe {
        _mm_lfence();
        _rdtsc()
    }
}

#[cfg(target_arch = "x86_64")]
fn kernel_trusts_the_counter() -> bool {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = flags.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    ["constant_tsc", "nonstop_tsc"]
        .iter()
        .all(|flag| flags.split_whitespace().any(|word| word == *flag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_and_nanoseconds_convert_into_each_other() {
        let clock = Clock::calibrate();
        let ticks = clock.ticks(Duration::from_millis(3));
        assert!((clock.ns(ticks) - 3e6).abs() < 1e3, "{}", clock.ns(ticks));
        assert!(clock.now() <= clock.now());
    }

    #[test]
    fn times_lie_evenly_within_the_step_that_they_stand_for() {
        let clock = Clock { source: Source::Monotonic(Instant::now()), ns_per_tick: 0.5, step: 20 };
        let mut times: Vec<f64> = (0..1000).map(|i| clock.ns_within_step(200, i)).collect();
        times.sort_by(f64::total_cmp);
        for (i, time) in times.iter().enumerate() {
            let even = 95.0 + 10.0 * (i as f64 + 0.5) / 1000.0;
            assert!((time - even).abs() < 0.1, "{i}: {time}");
        }
        assert_eq!([60, 26, 130].into_iter().fold(0, greatest_common_divisor), 2);
        assert!(Clock::calibrate().step >= 1);
    }
}
