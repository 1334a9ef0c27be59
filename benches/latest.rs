//! A `Latest` value against the same value under a lock that processes share, and against a sequence lock: medians of
//! interleaved rounds, and of the ratios within each. `cargo bench --bench latest [-- ROUNDS]`.
//!
//! A plain copy is what no way to read can beat: private memory that nobody shares, copied to the same place each
//! time. Every way to read copies to where its caller wants the value, which is looked at after each call, so that the
//! compiler can drop none of them.

use annulus::{Latest, Place};
use std::cell::UnsafeCell;
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

/// Pins the calling thread.
fn pin(cpu: usize) {
    let mut set = nix::sched::CpuSet::new();
    set.set(cpu).expect("a small processor number");
    let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set);
}

/// A way to share a value of `N` words.
trait Variable<const N: usize>: Sync {
    fn writer(&self) -> impl FnMut([u64; N]) + Send;
    /// What copies the value to where it is wanted.
    fn reader(&self) -> impl FnMut(&mut [u64; N]) + Send;
}

impl<const N: usize> Variable<N> for Latest<[u64; N]>
where
    [u64; N]: bytemuck::Pod,
{
    fn writer(&self) -> impl FnMut([u64; N]) + Send {
        let mut tx = Self::writer(self).unwrap();
        move |value| {
            tx.write(&value).unwrap();
        }
    }

    fn reader(&self) -> impl FnMut(&mut [u64; N]) + Send {
        let mut rx = Self::reader(self).unwrap();
        move |to| {
            rx.read(to).unwrap();
        }
    }
}

/// A value under a mutex of the C library that is made for many processes.
struct Locked<const N: usize> {
    lock: UnsafeCell<libc::pthread_mutex_t>,
    value: UnsafeCell<[u64; N]>,
}

// SAFETY: the value is touched with the lock only.
unsafe impl<const N: usize> Sync for Locked<N> {}

impl<const N: usize> Locked<N> {
    fn new() -> Box<Self> {
        let made = Box::new(Self {
            lock: UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER),
            value: UnsafeCell::new([0; N]),
        });
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: initialised before they are used; the mutex stays where it is, in its box.
        unsafe {
            libc::pthread_mutexattr_init(attributes.as_mut_ptr());
            libc::pthread_mutexattr_setpshared(
                attributes.as_mut_ptr(),
                libc::PTHREAD_PROCESS_SHARED,
            );
            libc::pthread_mutex_init(made.lock.get(), attributes.as_ptr());
        }
        made
    }

    fn with<R>(&self, touch: impl FnOnce(&mut [u64; N]) -> R) -> R {
        // SAFETY: the mutex is initialised, and held while the value is touched.
        unsafe {
            assert_eq!(libc::pthread_mutex_lock(self.lock.get()), 0);
            let result = touch(&mut *self.value.get());
            libc::pthread_mutex_unlock(self.lock.get());
            result
        }
    }
}

impl<const N: usize> Variable<N> for Box<Locked<N>> {
    fn writer(&self) -> impl FnMut([u64; N]) + Send {
        |value| self.with(|there| *there = value)
    }

    fn reader(&self) -> impl FnMut(&mut [u64; N]) + Send {
        |to| self.with(|there| *to = *there)
    }
}

/// A value under a sequence lock: readers wait for the writer, and one that is killed in the middle stops them for
/// good.
struct Sequence<const N: usize> {
    stamp: AtomicU64,
    value: [AtomicU64; N],
}

impl<const N: usize> Sequence<N> {
    fn new() -> Self {
        Self { stamp: AtomicU64::new(0), value: [const { AtomicU64::new(0) }; N] }
    }
}

impl<const N: usize> Variable<N> for Sequence<N> {
    fn writer(&self) -> impl FnMut([u64; N]) + Send {
        let mut stamp = 0;
        move |value| {
            self.stamp.store(stamp + 1, Ordering::Relaxed);
            fence(Ordering::Release);
            self.value.iter().zip(value).for_each(|(to, word)| to.store(word, Ordering::Relaxed));
            stamp += 2;
            self.stamp.store(stamp, Ordering::Release);
        }
    }

    fn reader(&self) -> impl FnMut(&mut [u64; N]) + Send {
        |to| loop {
            let before = self.stamp.load(Ordering::Acquire);
            to.iter_mut()
                .zip(&self.value)
                .for_each(|(to, word)| *to = word.load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.stamp.load(Ordering::Relaxed) == before {
                return;
            }
            std::hint::spin_loop();
        }
    }
}

/// A value that nobody shares, though the compiler has to take it for one that may have changed at each call.
struct Plain<const N: usize>(UnsafeCell<[u64; N]>);

// SAFETY: nobody writes it; a writer has a value of its own.
unsafe impl<const N: usize> Sync for Plain<N> {}

impl<const N: usize> Variable<N> for Plain<N> {
    fn writer(&self) -> impl FnMut([u64; N]) + Send {
        let mut there = [0; N];
        move |value: [u64; N]| *black_box(&mut there) = value
    }

    fn reader(&self) -> impl FnMut(&mut [u64; N]) + Send {
        black_box(self);
        // SAFETY: nobody writes it.
        |to| *to = unsafe { *self.0.get() }
    }
}

/// What is timed, in nanoseconds for each call.
#[derive(Clone, Copy)]
enum Work {
    /// Reads of a value that nobody changes.
    ReadUnchanged,
    /// Writes that nobody reads.
    WriteUnread,
    /// Reads while another processor writes without end.
    ReadWhileWritten,
    /// Writes while another processor reads without end.
    WriteWhileRead,
    /// A write and a read of what was written, in turns.
    WriteThenRead,
}

const CALLS: u64 = 100_000;

fn time(calls: u64, mut each: impl FnMut(u64)) -> f64 {
    let start = Instant::now();
    (0..calls).for_each(&mut each);
    start.elapsed().as_nanos() as f64 / calls as f64
}

#[inline(never)]
fn measure<const N: usize>(variable: &impl Variable<N>, work: Work) -> f64 {
    let (mut write, mut read) = (variable.writer(), variable.reader());
    let calls = CALLS * 8 / (8 + N as u64 / 8);
    pin(0);
    write([1; N]);
    let beside = |mut other: Box<dyn FnMut() + Send + '_>, timed: &mut dyn FnMut() -> f64| {
        let (over, ready) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                pin(1);
                while !over.load(Ordering::Relaxed) {
                    other();
                    ready.store(true, Ordering::Relaxed);
                }
            });
            while !ready.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_micros(50));
            }
            let took = timed();
            over.store(true, Ordering::Relaxed);
            took
        })
    };
    let mut there = [0; N];
    let whole = |value: &[u64; N]| assert!(value.iter().all(|&word| word == value[0]), "torn");
    match work {
        Work::ReadUnchanged => time(calls * 10, |_| {
            read(&mut there);
            black_box(&mut there);
        }),
        Work::WriteUnread => time(calls * 4, |i| write(black_box([i; N]))),
        Work::WriteThenRead => time(calls, |i| {
            write(black_box([i; N]));
            read(&mut there);
            black_box(&mut there);
        }),
        Work::ReadWhileWritten => {
            let mut i = 0;
            let writes = Box::new(move || {
                i += 1;
                write([i; N]);
            });
            let mut each = || {
                read(&mut there);
                whole(&there);
            };
            beside(writes, &mut || time(calls, |_| each()))
        }
        Work::WriteWhileRead => {
            let reads = Box::new(move || {
                read(&mut there);
                whole(&there);
            });
            beside(reads, &mut || time(calls, |i| write([i; N])))
        }
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn rows<const N: usize>(rounds: usize)
where
    [u64; N]: bytemuck::Pod,
{
    let works = [
        ("read, unchanged", Work::ReadUnchanged),
        ("write, unread", Work::WriteUnread),
        ("write, then read", Work::WriteThenRead),
        ("read while written", Work::ReadWhileWritten),
        ("write while read", Work::WriteWhileRead),
    ];
    for (name, work) in works {
        let (mut ours, mut ratios) = (vec![], [vec![], vec![], vec![]]);
        for _ in 0..rounds {
            let latest =
                Latest::<[u64; N]>::builder().create(Place::memfd("bench").unwrap()).unwrap();
            let own = measure::<N>(&latest, work);
            let others = [
                measure::<N>(&Plain(UnsafeCell::new([0; N])), work),
                measure::<N>(&Sequence::new(), work),
                measure::<N>(&Locked::new(), work),
            ];
            ours.push(own);
            for (ratios, other) in ratios.iter_mut().zip(others) {
                ratios.push(own / other);
            }
        }
        let [plain, sequence, locked] = ratios.map(median);
        println!(
            "{:>6} B {name:20} {:>9.1} ns {plain:>12.2} {sequence:>14.2} {locked:>10.2}",
            N * 8,
            median(ours)
        );
    }
}

fn main() {
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(15);
    println!(
        "{:29} {:>12} {:>12} {:>14} {:>10}",
        "", "latest", "/ plain copy", "/ sequence lock", "/ mutex"
    );
    rows::<1>(rounds);
    rows::<8>(rounds);
    rows::<512>(rounds);
}
