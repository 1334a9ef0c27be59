//! What one call costs on one thread, with everything in its cache: instructions, not transfers.

use annulus::{ByteRing, Place, Ring};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_queue::ArrayQueue;
use std::hint::black_box;

const CAPACITY: usize = 64;

fn per_call(c: &mut Criterion) {
    let mut group = c.benchmark_group("per_call_send_and_receive");
    group.throughput(Throughput::Elements(1));

    let ring = Ring::<u64>::builder(CAPACITY).create(Place::memfd("bench").unwrap()).unwrap();
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    group.bench_function("ring_u64", |b| {
        b.iter(|| {
            tx.try_send(black_box(7)).unwrap();
            rx.try_recv().unwrap()
        });
    });

    let ring = Ring::<[u64; 8]>::builder(CAPACITY).create(Place::memfd("bench").unwrap()).unwrap();
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    group.bench_function("ring_64B", |b| {
        b.iter(|| {
            tx.try_send(black_box([7; 8])).unwrap();
            rx.try_recv().unwrap()
        });
    });

    let ring = ByteRing::builder(4096).create(Place::memfd("bench").unwrap()).unwrap();
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let mut message = [0; 64];
    group.bench_function("bytes_64B", |b| {
        b.iter(|| {
            tx.try_send(black_box(&[7; 64])).unwrap();
            rx.try_recv_into(&mut message).unwrap()
        });
    });

    let (mut tx, mut rx) = rtrb::RingBuffer::<u64>::new(CAPACITY);
    group.bench_function("rtrb_u64", |b| {
        b.iter(|| {
            tx.push(black_box(7)).unwrap();
            rx.pop().unwrap()
        });
    });

    let queue = ArrayQueue::new(CAPACITY);
    group.bench_function("array_queue_u64", |b| {
        b.iter(|| {
            queue.push(black_box(7_u64)).unwrap();
            queue.pop().unwrap()
        });
    });

    let (tx, rx) = std::sync::mpsc::sync_channel(CAPACITY);
    group.bench_function("std_mpsc_u64", |b| {
        b.iter(|| {
            tx.send(black_box(7_u64)).unwrap();
            rx.recv().unwrap()
        });
    });

    let (mut from, mut to) = std::io::pipe().unwrap();
    group.bench_function("pipe_8B", |b| {
        use std::io::{Read, Write};
        let mut message = [0; 8];
        b.iter(|| {
            to.write_all(black_box(&[7; 8])).unwrap();
            from.read_exact(&mut message).unwrap();
        });
    });
    group.finish();
}

criterion_group!(benches, per_call);
criterion_main!(benches);
