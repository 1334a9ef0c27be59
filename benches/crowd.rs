//! Rings with shared sides against `ArrayQueue`: messages of eight bytes, as many threads as named on each side,
//! medians of interleaved rounds. `cargo bench --bench crowd [-- ROUNDS [CAPACITY]]`.
//!
//! Threads are not pinned, because there may be more of them than processors. Who finds nothing to do spins for a
//! moment and then yields, with either queue.

use annulus::{Place, Ring, Topology};
use crossbeam_queue::ArrayQueue;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

const MESSAGES: usize = 1_000_000;
const BATCH: usize = 32;
const ROWS: [(usize, usize, f64); 5] =
    [(1, 1, 1.2), (2, 1, 1.2), (4, 1, 1.2), (1, BATCH, 4.0), (2, BATCH, 4.0)];

/// What a side does that found nothing to do.
#[derive(Default)]
struct Pause(u32);

impl Pause {
    fn pause(&mut self) {
        self.0 += 1;
        if self.0 < 64 { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
}

/// Messages that were received, by all receivers.
#[derive(Default)]
struct Tally {
    count: AtomicUsize,
    sum: AtomicU64,
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
    let (mut numbers, mut count, mut sum) = ([0; BATCH], 0, 0_u64);
    let mut pause = Pause::default();
    loop {
        match receive(&mut numbers) {
            0 => {
                tally.count.fetch_add(std::mem::take(&mut count), Relaxed);
                if tally.count.load(Relaxed) == total {
                    break;
                }
                pause.pause();
            }
            some => {
                pause = Pause::default();
                count += some;
                sum = numbers[..some].iter().fold(sum, |sum, &number| sum.wrapping_add(number));
            }
        }
    }
    tally.sum.fetch_add(sum, Relaxed);
}

/// Messages a second, millions.
fn timed(total: usize, run: impl FnOnce(&Tally)) -> f64 {
    let tally = Tally::default();
    let start = Instant::now();
    run(&tally);
    let rate = total as f64 / start.elapsed().as_secs_f64() / 1e6;
    let total = total as u64;
    assert_eq!(tally.sum.into_inner(), total * (total - 1) / 2, "a message was lost or changed");
    rate
}

fn ring(side: usize, batch: usize, capacity: usize) -> f64 {
    let place = Place::memfd("crowd").unwrap();
    let ring = Ring::<u64>::builder(capacity).topology(Topology::Mpmc).create(place).unwrap();
    let each = MESSAGES / side;
    timed(each * side, |tally| {
        std::thread::scope(|scope| {
            for i in 0..side {
                let mut tx = ring.sender().unwrap();
                scope.spawn(move || {
                    send_numbers(i * each, (i + 1) * each, batch, |numbers| match batch {
                        1 => usize::from(tx.try_send(numbers[0]).is_ok()),
                        _ => tx.try_send_batch(numbers),
                    });
                });
                let mut rx = ring.receiver().unwrap();
                scope.spawn(move || {
                    receive_numbers(tally, each * side, |numbers| match batch {
                        1 => rx.try_recv().map_or(0, |number| {
                            numbers[0] = number;
                            1
                        }),
                        _ => rx.try_recv_batch(&mut numbers[..batch]),
                    });
                });
            }
        });
    })
}

fn array_queue(side: usize, capacity: usize) -> f64 {
    let queue = ArrayQueue::new(capacity);
    let each = MESSAGES / side;
    timed(each * side, |tally| {
        std::thread::scope(|scope| {
            for i in 0..side {
                let queue = &queue;
                scope.spawn(move || {
                    send_numbers(i * each, (i + 1) * each, 1, |numbers| {
                        usize::from(queue.push(numbers[0]).is_ok())
                    });
                });
                scope.spawn(move || {
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

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let mut number =
        |default: usize| args.next().map_or(default, |arg| arg.parse().expect("a number"));
    let (rounds, capacity) = (number(9).max(1), number(1024));
    for (side, batch, bar) in ROWS {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(ring(side, batch, capacity));
            theirs.push(array_queue(side, capacity));
        }
        let ratios = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs);
        let least = ratios.clone().fold(f64::INFINITY, f64::min);
        let most = ratios.fold(0.0, f64::max);
        let (ours, theirs) = (median(ours), median(theirs));
        println!(
            "{side}P{side}C, {batch:>2} a call: ArrayQueue {theirs:6.1} M/s, ring {ours:6.1} M/s, \
             ratio {:.2} ({least:.2}..{most:.2}), bar {bar}",
            ours / theirs
        );
    }
}
