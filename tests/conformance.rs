//! The same scenarios for every shape and every place.

#[path = "support/end.rs"]
mod end;

use annulus::{
    ByteRing, Place, RecvError, RecvTimeoutError, Ring, Topology, TryRecvError, TrySendError, Wait,
};
use std::thread;
use std::time::Duration;

const WAITS: [Wait; 3] = [Wait::Spin, Wait::Block, Wait::Adaptive];

fn memfd() -> Place {
    Place::memfd("conformance").unwrap()
}

/// Fills a ring to the last message, in calls of one and of many, takes some, and so on for several laps: no word of
/// what waits may change, though the sender writes ahead.
fn fill_and_take<const N: usize>(capacity: usize) {
    let ring = Ring::<[u64; N]>::builder(capacity).create(memfd()).unwrap();
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let (mut sent, mut taken) = (1, 1);
    for round in 0..60 {
        let chunk = round % 11 + 1;
        loop {
            let more = match round % 3 {
                0 => tx.try_send([sent; N]).is_ok() as u64,
                1 => tx.try_send_from((sent..sent + chunk).map(|i| [i; N])) as u64,
                _ => {
                    let batch: Vec<_> = (sent..sent + chunk).map(|i| [i; N]).collect();
                    tx.try_send_batch(&batch) as u64
                }
            };
            if more == 0 {
                break;
            }
            sent += more;
        }
        assert_eq!(sent - taken, capacity as u64);
        let some = (capacity * (round as usize % 4 + 1)).div_ceil(4);
        let mut batch = vec![[0; N]; some];
        match round % 5 {
            // Those that are not given out stay.
            0 | 3 => batch = rx.drain(capacity).take(some).collect(),
            1 => batch = rx.drain(some).collect(),
            2 => assert_eq!(rx.try_recv_batch(&mut batch), some),
            _ => batch.fill_with(|| rx.try_recv().unwrap()),
        }
        for message in batch {
            assert_eq!(message, [taken; N], "{N} words, capacity {capacity}");
            taken += 1;
        }
    }
}

#[test]
fn what_waits_in_a_full_ring_is_left_alone() {
    for capacity in [1, 2, 7, 8, 9, 15, 16, 17, 64, 100, 300] {
        fill_and_take::<1>(capacity);
        fill_and_take::<2>(capacity);
        fill_and_take::<3>(capacity);
        fill_and_take::<8>(capacity);
        fill_and_take::<9>(capacity);
        fill_and_take::<40>(capacity);
        fill_and_take::<128>(capacity);
    }
}

#[test]
fn what_waits_in_a_full_ring_of_bytes_is_left_alone() {
    for capacity in [64, 100, 1000, 4096, 10_000] {
        let ring = ByteRing::builder(capacity).create(memfd()).unwrap();
        let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
        let message = |i: u64| vec![i as u8 | 1; (i * 7 % 150 + 1) as usize % (capacity + 1)];
        let (mut sent, mut taken, mut got) = (0, 0, Vec::new());
        for round in 0..100 {
            while tx.try_send(&message(sent)).is_ok() {
                sent += 1;
            }
            let some = (sent - taken).div_ceil(round % 4 + 1);
            for _ in 0..some {
                rx.try_recv(&mut got).unwrap();
                assert_eq!(got, message(taken), "capacity {capacity}");
                taken += 1;
            }
        }
    }
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

/// Wherever in a line it starts and ends, an iterator gives as many messages as there is room for and none more; one that
/// panics has sent nothing.
#[test]
fn an_iterator_is_asked_for_what_there_is_room_for() {
    fn of<const N: usize>() {
        let message = |number: u64| [number; N];
        for (before, given) in (0..9).flat_map(|before| (0..24).map(move |given| (before, given))) {
            let ring = Ring::<[u64; N]>::builder(20).create(memfd()).unwrap();
            let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
            assert_eq!(tx.try_send_from((0..before).map(message)) as u64, before);
            let panics = (before..before + given).map(message).chain(std::iter::once_with(|| {
                std::panic::resume_unwind(Box::new("the iterator"));
            }));
            let call = std::panic::AssertUnwindSafe(|| tx.try_send_from(panics));
            let room = 20 - before;
            let is_asked_too_often = given < room;
            assert_eq!(std::panic::catch_unwind(call).is_err(), is_asked_too_often);
            if is_asked_too_often {
                let mut rest = (before..).map(message).take(given as usize);
                assert_eq!(tx.try_send_from(rest.by_ref()) as u64, given);
            }
            let sent = before + given.min(room);
            let all: Vec<_> = rx.drain(20).collect();
            assert_eq!(all, (0..sent).map(message).collect::<Vec<_>>());
        }
    }
    of::<1>();
    of::<2>();
    of::<7>();
    of::<8>();
}

/// An iterator over what is there ends when nothing is, though something comes afterwards, and says how much there may be.
#[test]
fn a_drain_that_has_ended_stays_so() {
    for topology in [Topology::Spsc, Topology::Mpmc] {
        let ring = Ring::<u64>::builder(8).topology(topology).create(memfd()).unwrap();
        let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
        assert_eq!(tx.try_send_batch(&[1, 2, 3]), 3);
        let mut drain = rx.drain(5);
        assert_eq!((drain.next(), drain.size_hint().1), (Some(1), Some(4)));
        assert_eq!((drain.next(), drain.next(), drain.next()), (Some(2), Some(3), None));
        assert_eq!(tx.try_send_batch(&[4]), 1);
        assert_eq!((drain.size_hint(), drain.next()), ((0, Some(0)), None));
        drop(drain);
        assert_eq!(rx.drain(0).size_hint(), (0, Some(0)));
        assert_eq!(rx.drain(usize::MAX).collect::<Vec<_>>(), [4]);
    }
}

/// What was given out before a panic is taken, and nothing else, wherever in a line that is.
#[test]
fn a_panic_within_a_drain_leaves_the_rest() {
    for topology in [Topology::Spsc, Topology::Mpmc] {
        for (from, last) in (0..8).flat_map(|from| (from..from + 20).map(move |last| (from, last)))
        {
            let ring = Ring::<u64>::builder(32).topology(topology).create(memfd()).unwrap();
            let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
            assert_eq!(tx.try_send_from(0..28), 28);
            assert_eq!(rx.drain(from).count(), from);
            let mut given = from;
            let drain = std::panic::AssertUnwindSafe(|| {
                rx.drain(20).for_each(|message| {
                    assert_eq!(message as usize, given);
                    given += 1;
                    if message as usize == last {
                        std::panic::resume_unwind(Box::new("on purpose"));
                    }
                });
            });
            assert!(std::panic::catch_unwind(drain).is_err());
            assert_eq!(given, last + 1);
            assert!(rx.drain(28).map(|message| message as usize).eq(last + 1..28));
        }
    }
}
