//! Semaphores against those of System V, with and without `SEM_UNDO`, and of POSIX: the same work in turns, in two
//! processes. `cargo bench --bench semaphore [-- ROUNDS]`.
//!
//! The first row of each group is what the others are compared with. The last group: how long after the death of a
//! holder one who waits has its permit.

#[path = "two_processes.rs"]
mod two_processes;

use annulus::{Holder, Place, Semaphore, Wait};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use two_processes::{Cores, both, rounds, shared, table};

/// A semaphore, as both processes have it before they part.
trait Maker {
    type End: End;
    /// What the other process gets it by.
    type Given;
    fn make(permits: u32) -> Self;
    fn give(&self) -> Self::Given;
    fn accept(given: Self::Given) -> Self;
    /// What one process uses.
    fn end(&self, wait: Wait) -> Self::End;
}

trait End {
    fn acquire(&mut self);
    fn release(&mut self);
    /// Frees a permit that somebody else takes for good.
    fn post(&mut self);
    fn take(&mut self);
}

impl Maker for Semaphore {
    type End = Holder;
    type Given = OwnedFd;

    fn make(permits: u32) -> Self {
        let builder = Self::counting(8).initial(permits);
        builder.create(Place::memfd("bench").unwrap()).unwrap()
    }

    fn give(&self) -> OwnedFd {
        self.inheritable_fd().unwrap()
    }

    fn accept(given: OwnedFd) -> Self {
        Self::from_fd(given).unwrap()
    }

    fn end(&self, wait: Wait) -> Holder {
        self.holder().unwrap().with_wait(wait)
    }
}

impl End for Holder {
    #[inline]
    fn acquire(&mut self) {
        Holder::acquire(self).unwrap().keep();
    }

    #[inline]
    fn release(&mut self) {
        Holder::release(self, 1).unwrap();
    }

    #[inline]
    fn post(&mut self) {
        Holder::post(self, 1).unwrap();
    }

    #[inline]
    fn take(&mut self) {
        Holder::acquire(self).unwrap().consume();
    }
}

struct SystemV<const UNDO: bool>(i32);

impl<const UNDO: bool> SystemV<UNDO> {
    #[inline]
    fn operate(&self, by: i16) {
        let flags = if UNDO { libc::SEM_UNDO as i16 } else { 0 };
        let mut operation = libc::sembuf { sem_num: 0, sem_op: by, sem_flg: flags };
        // SAFETY: one valid operation.
        assert_eq!(unsafe { libc::semop(self.0, &raw mut operation, 1) }, 0);
    }
}

impl<const UNDO: bool> Drop for SystemV<UNDO> {
    fn drop(&mut self) {
        // SAFETY: removes what `make` made. Ends share the number and are never dropped before.
        unsafe { libc::semctl(self.0, 0, libc::IPC_RMID) };
    }
}

struct SystemVEnd<const UNDO: bool>(std::mem::ManuallyDrop<SystemV<UNDO>>);

impl<const UNDO: bool> Maker for SystemV<UNDO> {
    type End = SystemVEnd<UNDO>;
    type Given = i32;

    fn make(permits: u32) -> Self {
        // SAFETY: makes a set of one.
        let id = unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) };
        assert!(id >= 0, "semget");
        // SAFETY: sets it.
        assert_eq!(unsafe { libc::semctl(id, 0, libc::SETVAL, permits as i32) }, 0);
        Self(id)
    }

    fn give(&self) -> i32 {
        self.0
    }

    fn accept(given: i32) -> Self {
        Self(given)
    }

    fn end(&self, _: Wait) -> SystemVEnd<UNDO> {
        SystemVEnd(std::mem::ManuallyDrop::new(Self(self.0)))
    }
}

impl<const UNDO: bool> End for SystemVEnd<UNDO> {
    #[inline]
    fn acquire(&mut self) {
        self.0.operate(-1);
    }

    #[inline]
    fn release(&mut self) {
        self.0.operate(1);
    }

    #[inline]
    fn post(&mut self) {
        self.0.operate(1);
    }

    #[inline]
    fn take(&mut self) {
        self.0.operate(-1);
    }
}

/// `sem_t` in shared memory.
struct Posix(*mut libc::sem_t);

impl Maker for Posix {
    type End = Self;
    type Given = *mut libc::sem_t;

    fn make(permits: u32) -> Self {
        let at = core::ptr::from_ref(shared::<AtomicU64>()).cast_mut().cast::<libc::sem_t>();
        // SAFETY: a page of shared memory, aligned.
        assert_eq!(unsafe { libc::sem_init(at, 1, permits) }, 0);
        Self(at)
    }

    fn give(&self) -> *mut libc::sem_t {
        self.0
    }

    fn accept(given: *mut libc::sem_t) -> Self {
        Self(given)
    }

    fn end(&self, _: Wait) -> Self {
        Self(self.0)
    }
}

impl End for Posix {
    #[inline]
    fn acquire(&mut self) {
        // SAFETY: `make` made it.
        assert_eq!(unsafe { libc::sem_wait(self.0) }, 0);
    }

    #[inline]
    fn release(&mut self) {
        // SAFETY: `make` made it.
        assert_eq!(unsafe { libc::sem_post(self.0) }, 0);
    }

    #[inline]
    fn post(&mut self) {
        self.release();
    }

    #[inline]
    fn take(&mut self) {
        self.acquire();
    }
}

/// Two locked instructions, which nobody can do without.
fn locked_instructions(count: u64) -> f64 {
    let word = shared::<AtomicU64>();
    let start = Instant::now();
    for i in 0..count {
        word.fetch_add(i, Ordering::AcqRel);
        word.fetch_sub(i, Ordering::AcqRel);
    }
    let time = start.elapsed();
    // SAFETY: `shared` mapped it, and nobody has it any more.
    unsafe { libc::munmap(core::ptr::from_ref(word).cast_mut().cast(), 4096) };
    time.as_nanos() as f64 / count as f64
}

fn alone<M: Maker>(count: u64) -> f64 {
    let maker = M::make(1);
    let mut end = maker.end(Wait::Adaptive);
    let start = Instant::now();
    for _ in 0..count {
        end.acquire();
        end.release();
    }
    start.elapsed().as_nanos() as f64 / count as f64
}

fn round_trip<M: Maker>(cores: Cores, wait: Wait, count: u64) -> f64 {
    let (there, back) = (M::make(0), M::make(0));
    let given = (there.give(), back.give());
    let time = both(
        cores,
        move |meet| {
            let (there, back) = (M::accept(given.0), M::accept(given.1));
            let (mut hear, mut reply) = (there.end(wait), back.end(wait));
            meet();
            for _ in 0..count {
                hear.take();
                reply.post();
            }
            // Neither process takes away what the other uses.
            std::mem::forget((there, back));
        },
        |meet| {
            let (mut ask, mut learn) = (there.end(wait), back.end(wait));
            meet();
            for _ in 0..count {
                ask.post();
                learn.take();
            }
        },
    );
    time.as_nanos() as f64 / count as f64
}

/// Both take turns at a lock, as fast as they can.
fn contended<M: Maker>(cores: Cores, wait: Wait, count: u64) -> f64 {
    let maker = M::make(1);
    let given = maker.give();
    let turns = |end: &mut M::End| {
        for _ in 0..count {
            end.acquire();
            end.release();
        }
    };
    let time = both(
        cores,
        |meet| {
            let maker = M::accept(given);
            let mut end = maker.end(wait);
            meet();
            turns(&mut end);
            std::mem::forget(maker);
        },
        |meet| {
            let mut end = maker.end(wait);
            meet();
            turns(&mut end);
        },
    );
    time.as_nanos() as f64 / (2 * count) as f64
}

/// Microseconds from the death of a holder to the permit of one who sleeps for it.
fn death(rounds: usize) -> Vec<f64> {
    let kills = rounds * 20;
    let mut times = Vec::new();
    for round in 0..kills {
        let semaphore = Semaphore::make(1);
        let ready = shared::<AtomicU64>();
        let fd = semaphore.inheritable_fd().unwrap();
        // SAFETY: this process has one thread; the child is killed.
        let child = unsafe { libc::fork() };
        assert!(child >= 0, "fork");
        if child == 0 {
            let mut holder = Semaphore::from_fd(fd).unwrap().holder().unwrap();
            holder.acquire().unwrap().keep();
            ready.store(1, Ordering::Release);
            std::thread::sleep(Duration::from_secs(60));
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(1) };
        }
        while ready.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        let mut holder = semaphore.holder().unwrap().with_wait(Wait::Block);
        let killer = std::thread::spawn(move || {
            // While the other one sleeps, at any point of its slice.
            std::thread::sleep(Duration::from_micros(15_000 + (round as u64 * 7919) % 20_000));
            let mut status = 0;
            // SAFETY: kills and reaps the child above.
            unsafe {
                libc::kill(child, libc::SIGKILL);
                let killed = Instant::now();
                libc::waitpid(child, &raw mut status, 0);
                (killed, Instant::now())
            }
        });
        let permit = holder.acquire_timeout(Duration::from_secs(60)).unwrap();
        let had = Instant::now();
        assert!(permit.is_abandoned());
        let (killed, _) = killer.join().unwrap();
        times.push(had.saturating_duration_since(killed).as_nanos() as f64 / 1e3);
        // SAFETY: `shared` mapped it, and nobody has it any more.
        unsafe { libc::munmap(core::ptr::from_ref(ready).cast_mut().cast(), 4096) };
    }
    times.sort_by(f64::total_cmp);
    times
}

fn main() {
    let rounds = rounds();
    two_processes::pin(0);
    // Short, so that a round is over before somebody else has the processor; and so there may be many.
    let count = 20_000;
    table(
        "uncontended acquire and release",
        rounds * 10,
        &mut [
            ("two locked instructions", &mut || locked_instructions(count)),
            ("annulus", &mut || alone::<Semaphore>(count)),
            ("sem_t", &mut || alone::<Posix>(count)),
            ("semop", &mut || alone::<SystemV<false>>(count / 10)),
            ("semop, SEM_UNDO", &mut || alone::<SystemV<true>>(count / 10)),
        ],
    );
    let count = 10_000;
    for cores in [Cores::Two, Cores::One] {
        table(
            &format!("round trip, {}", cores.name()),
            rounds,
            &mut [
                ("annulus, Block", &mut || round_trip::<Semaphore>(cores, Wait::Block, count)),
                ("annulus, Adaptive", &mut || {
                    round_trip::<Semaphore>(cores, Wait::Adaptive, count)
                }),
                ("sem_t", &mut || round_trip::<Posix>(cores, Wait::Block, count)),
                ("semop", &mut || round_trip::<SystemV<false>>(cores, Wait::Block, count)),
                ("semop, SEM_UNDO", &mut || round_trip::<SystemV<true>>(cores, Wait::Block, count)),
            ],
        );
    }
    let count = 100_000;
    for cores in [Cores::Two, Cores::One] {
        table(
            &format!("two who take turns as fast as they can, each turn, {}", cores.name()),
            rounds,
            &mut [
                ("annulus, Block", &mut || contended::<Semaphore>(cores, Wait::Block, count)),
                ("annulus, Adaptive", &mut || contended::<Semaphore>(cores, Wait::Adaptive, count)),
                ("sem_t", &mut || contended::<Posix>(cores, Wait::Block, count)),
                ("semop", &mut || contended::<SystemV<false>>(cores, Wait::Block, count)),
                ("semop, SEM_UNDO", &mut || contended::<SystemV<true>>(cores, Wait::Block, count)),
            ],
        );
    }
    // Wherever the system wants them to be.
    let mut set = nix::sched::CpuSet::new();
    (0..nix::sched::CpuSet::count()).for_each(|cpu| {
        let _ = set.set(cpu);
    });
    let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set);
    let times = death(rounds);
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize] / 1e3;
    println!("a holder is killed, another one sleeps: {} times", times.len());
    let (p50, p99, most) = (at(0.5), at(0.99), at(1.0));
    println!("    p50 {p50:.2} ms, p99 {p99:.2} ms, most {most:.2} ms (bar: p99 below 10 ms)");
}
