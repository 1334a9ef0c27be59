//! The same scenarios for every shape and every place.

use annulus::{
    ByteRing, Place, RecvError, RecvTimeoutError, Ring, TryRecvError, TrySendError, Wait,
};
use std::thread;
use std::time::Duration;

const WAITS: [Wait; 3] = [Wait::Spin, Wait::Block, Wait::Adaptive];

fn memfd() -> Place {
    Place::memfd("conformance").unwrap()
}

#[test]
fn a_ring_holds_exactly_its_capacity() {
    for capacity in [1, 2, 3, 7, 8, 31, 64, 100, 1000] {
        let ring = Ring::<u64>::builder(capacity).create(memfd()).unwrap();
        let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
        let mut next = 0;
        let mut expected = 0;
        for round in 0..50 {
            let mut sent = 0;
            while tx.try_send(next).is_ok() {
                next += 1;
                sent += 1;
            }
            assert_eq!(tx.len(), capacity);
            assert!(matches!(tx.try_send(0), Err(TrySendError::Full(0))));
            assert!(round > 0 || sent == capacity);
            for _ in 0..(capacity / 3).max(1) + round % 5 {
                match rx.try_recv() {
                    Ok(value) => {
                        assert_eq!(value, expected);
                        expected += 1;
                    }
                    Err(error) => assert_eq!(error, TryRecvError::Empty),
                }
            }
        }
    }
}

fn stream<const N: usize>(capacity: usize, send: Wait, recv: Wait, count: u64) {
    let ring = Ring::<[u64; N]>::builder(capacity).create(memfd()).unwrap();
    let mut tx = ring.sender().unwrap().with_wait(send);
    let mut rx = ring.receiver().unwrap().with_wait(recv);
    thread::scope(|scope| {
        scope.spawn(move || {
            for i in 0..count {
                tx.send([i; N]).unwrap();
            }
        });
        for i in 0..count {
            assert_eq!(rx.recv().unwrap(), [i; N]);
        }
        assert_eq!(rx.recv(), Err(RecvError::Disconnected));
    });
}

#[test]
fn a_stream_arrives_whole_and_in_order() {
    for send in WAITS {
        for recv in WAITS {
            stream::<1>(1, send, recv, 2_000);
            stream::<1>(64, send, recv, 20_000);
            stream::<2>(100, send, recv, 20_000);
            stream::<9>(16, send, recv, 20_000);
        }
    }
}

#[test]
fn batches_arrive_whole_and_in_order() {
    let ring = Ring::<u64>::builder(1000).create(memfd()).unwrap();
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let all: Vec<u64> = (0..100_000).collect();
    thread::scope(|scope| {
        let all = &all;
        scope.spawn(move || {
            for chunk in all.chunks(77) {
                tx.send_all(chunk).unwrap();
            }
        });
        let mut got = Vec::new();
        let mut buffer = [0; 50];
        while let Ok(count) = rx.recv_batch(&mut buffer) {
            got.extend_from_slice(&buffer[..count]);
        }
        assert_eq!(&got, all);
    });
}

#[test]
fn bytes_of_any_length_arrive_whole_and_in_order() {
    for wait in WAITS {
        for capacity in [64, 1000, 65536] {
            let ring = ByteRing::builder(capacity).create(memfd()).unwrap();
            let mut tx = ring.sender().unwrap().with_wait(wait);
            let mut rx = ring.receiver().unwrap().with_wait(wait);
            let count = 3_000_usize;
            let message = |i: usize| vec![i as u8; i * 31 % (capacity.min(3000) + 1)];
            thread::scope(|scope| {
                scope.spawn(move || {
                    for i in 0..count {
                        tx.send(&message(i)).unwrap();
                    }
                });
                let mut got = Vec::new();
                for i in 0..count {
                    rx.recv(&mut got).unwrap();
                    assert_eq!(got, message(i));
                }
                assert_eq!(rx.recv(&mut got), Err(RecvError::Disconnected));
            });
        }
    }
}

#[test]
fn a_timeout_is_a_timeout() {
    for wait in WAITS {
        let ring = Ring::<u64>::builder(1).create(memfd()).unwrap();
        let mut rx = ring.receiver().unwrap().with_wait(wait);
        let short = Duration::from_millis(5);
        assert_eq!(rx.recv_timeout(short), Err(RecvTimeoutError::Timeout));
        let mut tx = ring.sender().unwrap().with_wait(wait);
        tx.send_timeout(1, short).unwrap();
        assert!(tx.send_timeout(2, short).is_err());
        assert_eq!(rx.recv_timeout(short), Ok(1));
    }
}
