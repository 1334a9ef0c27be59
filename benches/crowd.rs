//! Rings with shared sides against `ArrayQueue`: messages of eight bytes, as many senders and receivers as named,
//! medians of interleaved rounds; the last row is one thread alone. `cargo bench --bench crowd [-- ROUNDS [CAPACITY
//! [ROW]]]`.
//!
//! The ring is measured twice: among threads, as `ArrayQueue` can only be, and among processes. With either queue, each
//! sender is bound to a processor and the receiver that started with it to the next one, in turns if there are more of
//! them than processors: unbound they are often put on one for all of a run, where no message has to go anywhere and half
//! of the time is the scheduler's. (`taskset -c 0` measures that.) Who finds nothing to do spins for a moment and then
//! yields, with either queue.

#[path = "../tests/processes/mod.rs"]
mod processes;
#[path = "../tests/support/shared.rs"]
#[allow(dead_code, reason = "made for tests, which need more of it")]
mod shared;

use annulus::{Place, Receiver, Ring, Sender, Topology};
use crossbeam_queue::ArrayQueue;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use processes::Line;
use shared::SharedWords;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Binds the calling thread to one of the processors that it may run on, the `i`-th, counted round and round.
fn bind(i: usize) {
    let allowed = sched_getaffinity(Pid::from_raw(0)).expect("the processors of this thread");
    let count = CpuSet::count();
    let processors: Vec<usize> =
        (0..count).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false)).collect();
    let mut one = CpuSet::new();
    one.set(processors[i % processors.len()]).expect("a processor's number");
    sched_setaffinity(Pid::from_raw(0), &one).expect("binding to a processor");
}

const MESSAGES: usize = 1_000_000;
const BATCH: usize = 32;
const ROWS: [(usize, usize, f64); 6] =
    [(1, 1, 1.2), (2, 1, 1.2), (4, 1, 1.2), (1, BATCH, 4.0), (2, BATCH, 4.0), (4, BATCH, 4.0)];

/// What a side does that found nothing to do.
#[derive(Default)]
struct Pause(u32);

impl Pause {
    fn pause(&mut self) {
        self.0 += 1;
        if self.0 < 64 { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
}

/// Messages that were received, by all receivers, in whatever process.
struct Tally(SharedWords);

impl Tally {
    fn new() -> Self {
        Self(SharedWords::new(2))
    }

    fn count(&self) -> &AtomicU64 {
        &self.0[0]
    }

    fn sum(&self) -> &AtomicU64 {
        &self.0[1]
    }
}

/// One sender's numbers, by what sends some of a slice.
fn send_numbers(from: usize, to: usize, batch: usize, mut send: impl FnMut(&[u64]) -> usize) {
    let mut numbers = [0; BATCH];
    let mut next = from;
    while next < to {
        let count = batch.min(to - next);
        for (i, number) in numbers[..count].iter_mut().enumerate() {
            *number = (next + i) as u64;
        }
        let (mut sent, mut pause) = (0, Pause::default());
        while sent < count {
            match send(&numbers[sent..count]) {
                0 => pause.pause(),
                some => sent += some,
            }
        }
        next += count;
    }
}

/// Receives until all of `total` messages are, by what receives some into a slice.
fn receive_numbers(tally: &Tally, total: usize, mut receive: impl FnMut(&mut [u64]) -> usize) {
    let (mut numbers, mut count, mut sum) = ([0; BATCH], 0_u64, 0_u64);
    let mut pause = Pause::default();
    loop {
        match receive(&mut numbers) {
            0 => {
                tally.count().fetch_add(std::mem::take(&mut count), Relaxed);
                if tally.count().load(Relaxed) == total as u64 {
                    break;
                }
                pause.pause();
            }
            some => {
                pause = Pause::default();
                count += some as u64;
                sum = numbers[..some].iter().fold(sum, |sum, &number| sum.wrapping_add(number));
            }
        }
    }
    tally.sum().fetch_add(sum, Relaxed);
}

/// Messages a second, millions.
fn timed(total: usize, run: impl FnOnce(&Tally)) -> f64 {
    let tally = Tally::new();
    let start = Instant::now();
    run(&tally);
    rate_of(total, start, &tally)
}

/// The same, of messages that were sent from `start` on and have all arrived.
fn rate_of(total: usize, start: Instant, tally: &Tally) -> f64 {
    let rate = total as f64 / start.elapsed().as_secs_f64() / 1e6;
    let total = total as u64;
    let sum = tally.sum().load(Relaxed);
    assert_eq!(sum, total * (total - 1) / 2, "a message was lost or changed");
    rate
}

fn make_ring(capacity: usize) -> Ring<u64> {
    let place = Place::memfd("crowd").unwrap();
    Ring::builder(capacity).topology(Topology::Mpmc).create(place).unwrap()
}

fn send_through(tx: &mut Sender<u64>, from: usize, to: usize, batch: usize) {
    send_numbers(from, to, batch, |numbers| match batch {
        1 => usize::from(tx.try_send(numbers[0]).is_ok()),
        _ => tx.try_send_batch(numbers),
    });
}

fn receive_through(rx: &mut Receiver<u64>, tally: &Tally, total: usize, batch: usize) {
    receive_numbers(tally, total, |numbers| match batch {
        1 => rx.try_recv().map_or(0, |number| {
            numbers[0] = number;
            1
        }),
        _ => rx.try_recv_batch(&mut numbers[..batch]),
    });
}

fn ring_of_threads(side: usize, batch: usize, capacity: usize) -> f64 {
    let ring = make_ring(capacity);
    let each = MESSAGES / side;
    timed(each * side, |tally| {
        std::thread::scope(|scope| {
            for i in 0..side {
                let mut tx = ring.sender().unwrap();
                scope.spawn(move || {
                    bind(i);
                    send_through(&mut tx, i * each, (i + 1) * each, batch);
                });
                let mut rx = ring.receiver().unwrap();
                scope.spawn(move || {
                    bind(i + 1);
                    receive_through(&mut rx, tally, each * side, batch);
                });
            }
        });
    })
}

/// What a child says when it has its role, what it is told then, and what it says when it is done.
const READY: u8 = b'r';
const GO: u8 = b'g';
const DONE: u8 = b'd';

fn between<R>(line: &mut Line, work: impl FnOnce() -> R) -> R {
    line.say(READY);
    line.expect(GO);
    let result = work();
    line.say(DONE);
    result
}

/// A child that fails or takes too long ends the benchmark, and the others with it.
fn ring_of_processes(side: usize, batch: usize, capacity: usize) -> f64 {
    let here = make_ring(capacity);
    let fd = here.inheritable_fd().unwrap();
    // A mapping of a ring does not survive a fork: a child opens it anew, as a stranger would.
    let open = || Ring::<u64>::from_fd(fd.try_clone().unwrap()).unwrap();
    let tally = Tally::new();
    let each = MESSAGES / side;
    let mut children = Vec::new();
    for i in 0..side {
        children.push(processes::fork(|line| {
            bind(i);
            let mut tx = open().sender().unwrap();
            between(line, || send_through(&mut tx, i * each, (i + 1) * each, batch));
        }));
        children.push(processes::fork(|line| {
            bind(i + 1);
            let mut rx = open().receiver().unwrap();
            between(line, || receive_through(&mut rx, &tally, each * side, batch));
        }));
    }
    children.iter_mut().for_each(|child| child.line.expect(READY));
    let start = Instant::now();
    children.iter_mut().for_each(|child| child.line.say(GO));
    children.iter_mut().for_each(|child| child.line.expect(DONE));
    let rate = rate_of(each * side, start, &tally);
    children.into_iter().for_each(processes::Child::finish);
    rate
}

fn array_queue(side: usize, capacity: usize) -> f64 {
    let queue = ArrayQueue::new(capacity);
    let each = MESSAGES / side;
    timed(each * side, |tally| {
        std::thread::scope(|scope| {
            for i in 0..side {
                let queue = &queue;
                scope.spawn(move || {
                    bind(i);
                    send_numbers(i * each, (i + 1) * each, 1, |numbers| {
                        usize::from(queue.push(numbers[0]).is_ok())
                    });
                });
                scope.spawn(move || {
                    bind(i + 1);
                    receive_numbers(tally, each * side, |numbers| {
                        queue.pop().map_or(0, |number| {
                            numbers[0] = number;
                            1
                        })
                    });
                });
            }
        });
    })
}

/// Nanoseconds to send a message and to receive it on one thread: the least of many short runs, which the rest of
/// the machine has no part in.
fn alone(rounds: usize, capacity: usize, mut pass: impl FnMut(u64) -> u64) -> f64 {
    let runs = (0..rounds * 1000).map(|_| {
        let start = Instant::now();
        let sum: u64 = (0..capacity as u64).map(&mut pass).sum();
        let time = start.elapsed();
        assert_eq!(sum, capacity as u64 * (capacity as u64 - 1) / 2);
        time.as_secs_f64() * 1e9 / capacity as f64
    });
    runs.fold(f64::INFINITY, f64::min)
}

fn one_thread(rounds: usize, capacity: usize) {
    let place = Place::memfd("crowd").unwrap();
    let ring = Ring::<u64>::builder(capacity).topology(Topology::Mpmc).create(place).unwrap();
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let ours = alone(rounds, capacity, |number| {
        tx.try_send(number).unwrap();
        rx.try_recv().unwrap()
    });
    let queue = ArrayQueue::new(capacity);
    let theirs = alone(rounds, capacity, |number| {
        queue.push(number).unwrap();
        queue.pop().unwrap()
    });
    println!("one thread: ArrayQueue {theirs:.2} ns, ring {ours:.2} ns a message");
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let mut number =
        |default: usize| args.next().map_or(default, |arg| arg.parse().expect("a number"));
    let (rounds, capacity, only) = (number(9).max(1), number(1024), number(0));
    if only == 0 || only == ROWS.len() + 1 {
        one_thread(rounds, capacity);
    }
    for (row, (side, batch, bar)) in (1..).zip(ROWS) {
        if only != 0 && only != row {
            continue;
        }
        let (mut threads, mut processes, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            threads.push(ring_of_threads(side, batch, capacity));
            processes.push(ring_of_processes(side, batch, capacity));
            theirs.push(array_queue(side, capacity));
        }
        println!(
            "{side}P{side}C, {batch:>2} a call: ArrayQueue {:6.1} M/s, ring {}, in processes {}, bar {bar}",
            median(&theirs),
            against(&threads, &theirs),
            against(&processes, &theirs)
        );
    }
}

/// Our median, its ratio to theirs, and what the ratio was in the rounds.
fn against(ours: &[f64], theirs: &[f64]) -> String {
    let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs);
    let least = ratios.clone().fold(f64::INFINITY, f64::min);
    let most = ratios.fold(0.0, f64::max);
    let ours = median(ours);
    format!("{ours:6.1} M/s, ratio {:.2} ({least:.2}..{most:.2})", ours / median(theirs))
}
