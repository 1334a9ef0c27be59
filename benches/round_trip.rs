//! A message there and another back: the time of both.

mod two_threads;

use annulus::{ByteRing, Place, Ring, Wait};
use criterion::{Criterion, criterion_group, criterion_main};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};

const CAPACITY: usize = 64;

fn ring<const N: usize>(wait: Wait, count: u64) -> std::time::Duration {
    let make =
        || Ring::<[u64; N]>::builder(CAPACITY).create(Place::memfd("bench").unwrap()).unwrap();
    let (there, back) = (make(), make());
    let mut ask = there.sender().unwrap().with_wait(wait);
    let mut hear = there.receiver().unwrap().with_wait(wait);
    let mut reply = back.sender().unwrap().with_wait(wait);
    let mut learn = back.receiver().unwrap().with_wait(wait);
    two_threads::run(
        || (0..count).for_each(|_| reply.send(hear.recv().unwrap()).unwrap()),
        || {
            (0..count).for_each(|i| {
                ask.send([i; N]).unwrap();
                assert_eq!(learn.recv().unwrap(), [i; N]);
            });
        },
    )
}

fn bytes(len: usize, count: u64) -> std::time::Duration {
    let make = || ByteRing::builder(64 * (len + 8)).create(Place::memfd("bench").unwrap()).unwrap();
    let (there, back) = (make(), make());
    let mut ask = there.sender().unwrap().with_wait(Wait::Spin);
    let mut hear = there.receiver().unwrap().with_wait(Wait::Spin);
    let mut reply = back.sender().unwrap().with_wait(Wait::Spin);
    let mut learn = back.receiver().unwrap().with_wait(Wait::Spin);
    let (mut here, mut away) = (vec![7; len], vec![0; len]);
    two_threads::run(
        || {
            (0..count).for_each(|_| {
                hear.recv_into(&mut away).unwrap();
                reply.send(&away).unwrap();
            });
        },
        || {
            (0..count).for_each(|_| {
                ask.send(&here).unwrap();
                learn.recv_into(&mut here).unwrap();
            });
        },
    )
}

/// One cache line each way, with nothing else: what no queue can beat.
fn floor(count: u64) -> std::time::Duration {
    #[repr(align(256))]
    struct Line(AtomicU64);
    let (there, back) = (&Line(AtomicU64::new(0)), &Line(AtomicU64::new(0)));
    two_threads::run(
        || {
            (1..=count).for_each(|i| {
                while there.0.load(Ordering::Acquire) != i {}
                back.0.store(i, Ordering::Release);
            });
        },
        || {
            (1..=count).for_each(|i| {
                there.0.store(i, Ordering::Release);
                while back.0.load(Ordering::Acquire) != i {}
            });
        },
    )
}

fn round_trip(c: &mut Criterion) {
    let mut group = c.benchmark_group("round_trip");
    group.sample_size(20);
    group.bench_function("floor", |b| b.iter_custom(floor));
    group.bench_function("ring_8B_spin", |b| b.iter_custom(|n| ring::<1>(Wait::Spin, n)));
    group.bench_function("ring_56B_spin", |b| b.iter_custom(|n| ring::<7>(Wait::Spin, n)));
    group.bench_function("ring_8B_adaptive", |b| b.iter_custom(|n| ring::<1>(Wait::Adaptive, n)));
    group.bench_function("ring_8B_block", |b| b.iter_custom(|n| ring::<1>(Wait::Block, n)));
    group.bench_function("bytes_56B_spin", |b| b.iter_custom(|n| bytes(56, n)));
    group.bench_function("rtrb_u64", |b| {
        b.iter_custom(|n| {
            let (mut ask, mut hear) = rtrb::RingBuffer::<u64>::new(CAPACITY);
            let (mut reply, mut learn) = rtrb::RingBuffer::<u64>::new(CAPACITY);
            let wait = |rx: &mut rtrb::Consumer<u64>| loop {
                if let Ok(i) = rx.pop() {
                    return i;
                }
            };
            two_threads::run(
                move || (0..n).for_each(|_| reply.push(wait(&mut hear)).unwrap()),
                move || {
                    (0..n).for_each(|i| {
                        ask.push(i).unwrap();
                        assert_eq!(wait(&mut learn), i);
                    });
                },
            )
        });
    });
    group.bench_function("pipe_8B", |b| {
        b.iter_custom(|n| {
            let (mut hear, mut ask) = std::io::pipe().unwrap();
            let (mut learn, mut reply) = std::io::pipe().unwrap();
            two_threads::run(
                move || {
                    let mut message = [0; 8];
                    (0..n).for_each(|_| {
                        hear.read_exact(&mut message).unwrap();
                        reply.write_all(&message).unwrap();
                    });
                },
                move || {
                    let mut message = [0; 8];
                    (0..n).for_each(|_| {
                        ask.write_all(&message).unwrap();
                        learn.read_exact(&mut message).unwrap();
                    });
                },
            )
        });
    });
    group.finish();
}

criterion_group!(benches, round_trip);
criterion_main!(benches);
