//! Memory that the coordinator maps before it forks and all workers see.

use std::io;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::clock::Clock;

/// Types that other processes may change behind a shared reference: all-zero bytes are a value, and a reference never
/// promises that the bytes behind it stay the same.
///
/// # Safety
/// The implementor has no field but atomics, `UnsafeCell`s of integers, and arrays or structs of them.
pub unsafe trait Shareable {}

/// One `T` on zeroed shared pages, present in memory from the start.
pub struct Shared<T: Shareable> {
    at: NonNull<T>,
    owns: PhantomData<T>,
}

impl<T: Shareable> Shared<T> {
    /// Maps the pages. Processes forked later share them.
    pub fn new() -> io::Result<Self> {
        let length = NonZeroUsize::new(size_of::<T>()).expect("shared types have a size");
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice replaces nothing.
        let at = unsafe {
            mmap_anonymous(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags)?
        };
        Ok(Self { at: at.cast(), owns: PhantomData })
    }
}

impl<T: Shareable> Deref for Shared<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the mapping is at least `size_of::<T>()` long, page-aligned, lives as long as `self`, and zeroed bytes are a
        // valid `T` that may change under a shared reference (`Shareable`).
        unsafe { self.at.as_ref() }
    }
}

impl<T: Shareable> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: mapped with this length by `new`; no reference outlives `self`.
        let _ = unsafe { munmap(self.at.cast(), size_of::<T>()) };
    }
}

/// An atomic with a pair of cache lines to itself, so that neither a neighbour nor the adjacent-line prefetcher touches it.
#[repr(C, align(128))]
pub struct Line(pub AtomicU64);

/// How the workers of one row keep in step outside the timed regions.
#[repr(C)]
pub struct Control {
    meeting: Meeting,
    /// Messages in the coming phase of the rate test; 0 ends it.
    pub count: Line,
    /// The sender's clock before the first message of a phase.
    pub started: Line,
    /// The last receiver's clock after the last message of a phase; 0 before.
    pub ended: Line,
}

// SAFETY: four atomics with padding.
unsafe impl Shareable for Control {}

impl Control {
    /// The barrier of the two workers, as one of them holds it.
    pub fn barrier(&self) -> Barrier<'_> {
        self.barrier_of(2)
    }

    /// The same for as many workers as there are.
    pub fn barrier_of(&self, workers: usize) -> Barrier<'_> {
        self.meeting.barrier(workers)
    }

    /// One worker's part of a phase is over: the last to say so ends it.
    pub fn end_phase(&self, clock: Clock) {
        self.ended.0.fetch_max(clock.now(), Ordering::Relaxed);
    }
}

/// Where workers wait for each other.
#[repr(C)]
pub struct Meeting {
    arrivals: Line,
    /// How often all have met, for those who sleep until they do.
    met: Word,
}

/// As a [`Line`], of the width that a futex has.
#[repr(C, align(128))]
struct Word(AtomicU32);

impl Meeting {
    /// One worker's view of the barrier of `parties` of them; each needs one.
    pub fn barrier(&self, parties: usize) -> Barrier<'_> {
        Barrier { meeting: self, parties: parties as u64, passed: 0 }
    }
}

/// One worker's view of the barrier.
pub struct Barrier<'a> {
    meeting: &'a Meeting,
    parties: u64,
    passed: u64,
}

impl Barrier<'_> {
    /// Waits until all workers are here. What any wrote before, all see afterwards. No deadline of its own: a worker
    /// whose peer died is killed by the coordinator, which notices.
    pub fn wait(&mut self) {
        let arrivals = &self.meeting.arrivals.0;
        let met = self.passed as u32;
        self.passed += 1;
        let all = self.parties * self.passed;
        let arrived = arrivals.fetch_add(1, Ordering::AcqRel) + 1;
        if self.parties > 2 {
            // There may be more of them than processors, and those who work still need these.
            return self.meeting.sleep_or_wake(met, arrived == all);
        }
        let mut looks = 0u32;
        while arrivals.load(Ordering::Acquire) < all {
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(64) {
                nix::sched::sched_yield().ok();
            } else {
                std::hint::spin_loop();
            }
        }
    }
}

impl Meeting {
    /// The last to come wakes all who sleep since the `met`th time.
    fn sleep_or_wake(&self, met: u32, last: bool) {
        let word = &self.met.0;
        if last {
            word.store(met.wrapping_add(1), Ordering::Release);
            futex(word, libc::FUTEX_WAKE, i32::MAX as u32);
        }
        while word.load(Ordering::Acquire) == met {
            futex(word, libc::FUTEX_WAIT, met);
        }
    }
}

/// One of the two calls without a time-out, whatever becomes of it: the caller looks at the word again.
fn futex(word: &AtomicU32, operation: i32, value: u32) {
    let none = std::ptr::null::<libc::timespec>();
    // SAFETY: the word is on a mapping that outlives the call, and neither operation reads or writes anything else.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, none) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_start_zeroed_and_keep_what_is_stored() {
        let control = Shared::<Control>::new().unwrap();
        assert_eq!(control.count.0.load(Ordering::Relaxed), 0);
        control.count.0.store(7, Ordering::Relaxed);
        assert_eq!(control.count.0.load(Ordering::Relaxed), 7);
    }

    #[test]
    fn the_barrier_holds_many_until_the_last_arrives() {
        let control = Shared::<Control>::new().unwrap();
        let (meeting, count) = (&control.meeting, &control.count.0);
        std::thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| {
                    let mut barrier = meeting.barrier(5);
                    for phase in 1..=100 {
                        count.fetch_add(1, Ordering::Relaxed);
                        barrier.wait();
                        assert_eq!(count.load(Ordering::Relaxed), 5 * phase);
                        barrier.wait();
                    }
                });
            }
        });
    }

    #[test]
    fn the_barrier_holds_the_first_until_the_second_arrives() {
        let control = Shared::<Control>::new().unwrap();
        let control: &Control = &control;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut barrier = control.barrier();
                for phase in 1..=100 {
                    control.count.0.store(phase, Ordering::Relaxed);
                    barrier.wait();
                    barrier.wait();
                }
            });
            let mut barrier = control.barrier();
            for phase in 1..=100 {
                barrier.wait();
                assert_eq!(control.count.0.load(Ordering::Relaxed), phase);
                barrier.wait();
            }
        });
    }
}
