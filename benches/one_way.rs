//! A stream of messages from one thread to another: how long one takes, on average.

mod two_threads;

use annulus::{ByteRing, Place, Ring, Wait};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_queue::ArrayQueue;
use std::io::{Read, Write};

const CAPACITY: usize = 1024;

fn ring<const N: usize>(wait: Wait, count: u64) -> std::time::Duration {
    let ring = Ring::<[u64; N]>::builder(CAPACITY).create(Place::memfd("bench").unwrap()).unwrap();
    let mut tx = ring.sender().unwrap().with_wait(wait);
    let mut rx = ring.receiver().unwrap().with_wait(wait);
    two_threads::run(
        || (0..count).for_each(|i| tx.send([i; N]).unwrap()),
        || (0..count).for_each(|i| assert_eq!(rx.recv().unwrap(), [i; N])),
    )
}

fn bytes(len: usize, count: u64) -> std::time::Duration {
    let ring = ByteRing::builder((len + 8) * 256).create(Place::memfd("bench").unwrap()).unwrap();
    let mut tx = ring.sender().unwrap().with_wait(Wait::Spin);
    let mut rx = ring.receiver().unwrap().with_wait(Wait::Spin);
    let (message, mut got) = (vec![7; len], vec![0; len]);
    two_threads::run(
        || (0..count).for_each(|_| tx.send(&message).unwrap()),
        || (0..count).for_each(|_| assert_eq!(rx.recv_into(&mut got), Ok(len))),
    )
}

fn one_way(c: &mut Criterion) {
    let mut group = c.benchmark_group("one_way");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    for (name, wait) in [("spin", Wait::Spin), ("adaptive", Wait::Adaptive), ("block", Wait::Block)]
    {
        group.bench_function(format!("ring_u64_{name}"), |b| b.iter_custom(|n| ring::<1>(wait, n)));
    }
    group.bench_function("ring_64B_spin", |b| b.iter_custom(|n| ring::<8>(Wait::Spin, n)));
    group.bench_function("bytes_64B_spin", |b| b.iter_custom(|n| bytes(64, n)));
    group.bench_function("rtrb_u64", |b| {
        b.iter_custom(|n| {
            let (mut tx, mut rx) = rtrb::RingBuffer::new(CAPACITY);
            two_threads::run(
                move || {
                    for i in 0..n {
                        while tx.push(i).is_err() {
                            std::hint::spin_loop();
                        }
                    }
                },
                move || {
                    let mut next = 0;
                    while next < n {
                        match rx.pop() {
                            Ok(i) => {
                                assert_eq!(i, next);
                                next += 1;
                            }
                            Err(_) => std::hint::spin_loop(),
                        }
                    }
                },
            )
        });
    });
    group.bench_function("array_queue_u64", |b| {
        b.iter_custom(|n| {
            let queue = &ArrayQueue::new(CAPACITY);
            two_threads::run(
                || {
                    for i in 0..n {
                        while queue.push(i).is_err() {
                            std::hint::spin_loop();
                        }
                    }
                },
                || {
                    let mut next = 0;
                    while next < n {
                        match queue.pop() {
                            Some(i) => {
                                assert_eq!(i, next);
                                next += 1;
                            }
                            None => std::hint::spin_loop(),
                        }
                    }
                },
            )
        });
    });
    group.bench_function("std_mpsc_u64", |b| {
        b.iter_custom(|n| {
            let (tx, rx) = std::sync::mpsc::sync_channel(CAPACITY);
            two_threads::run(
                move || (0..n).for_each(|i| tx.send(i).unwrap()),
                move || (0..n).for_each(|i| assert_eq!(rx.recv().unwrap(), i)),
            )
        });
    });
    group.bench_function("pipe_8B", |b| {
        b.iter_custom(|n| {
            let (mut from, mut to) = std::io::pipe().unwrap();
            two_threads::run(
                move || (0..n).for_each(|i| to.write_all(&i.to_ne_bytes()).unwrap()),
                move || {
                    let mut message = [0; 8];
                    (0..n).for_each(|i| {
                        from.read_exact(&mut message).unwrap();
                        assert_eq!(u64::from_ne_bytes(message), i);
                    });
                },
            )
        });
    });
    group.finish();
}

criterion_group!(benches, one_way);
criterion_main!(benches);
