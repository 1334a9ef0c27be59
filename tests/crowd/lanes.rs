//! Rings of messages of any size with many senders, each in a lane of its own.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use annulus::{
    ByteReceiver, ByteRing, ByteSendError, Place, RecvError, RecvTimeoutError, Role, SetupError,
    Topology, TryRecvError, Wait,
};

use crate::havoc::PATIENCE;
use crate::support::ledger::{Ledger, NUMBERS, message, stay};
use crate::torture::{Toll, massacre, waiting};

const LIMIT: Duration = Duration::from_secs(60);

fn ring(capacity: usize, lanes: usize, ordered: bool) -> ByteRing {
    let builder = ByteRing::builder(capacity).topology(Topology::Mpsc).participants(lanes);
    builder.ordered(ordered).create(Place::memfd("lanes").unwrap()).unwrap()
}

fn next(rx: &mut ByteReceiver) -> Vec<u8> {
    let mut message = Vec::new();
    rx.recv_timeout(&mut message, LIMIT).unwrap();
    message
}

#[test]
fn each_sender_has_a_lane_and_a_full_table_says_how_to_have_more() {
    let ring = ring(100, 3, false);
    assert_eq!((ring.participants(), ring.capacity(), ring.is_ordered()), (3, 100, false));
    let mut there: Vec<_> = (0..3).map(|_| ring.sender().unwrap()).collect();
    let error = ring.sender().unwrap_err();
    assert!(matches!(error, SetupError::Crowded { participants: 3 }), "{error}");
    // Receivers need no lane.
    let mut rx = ring.receiver().unwrap();
    let taken = ring.receiver().unwrap_err();
    assert!(matches!(taken, SetupError::RoleTaken { role: Role::Receiver, .. }), "{taken}");
    // Each holds all that the ring was made for, whatever the others do.
    for (i, tx) in there.iter_mut().enumerate() {
        tx.try_send(&[i as u8; 100]).unwrap();
        assert_eq!(tx.try_send(&[0; 100]), Err(ByteSendError::Full));
        assert_eq!(tx.try_send(&[0; 101]), Err(ByteSendError::TooLong { len: 101, max: 100 }));
    }
    assert_eq!((ring.stats().sent, ring.stats().length), (3, 3 * 112));
    let mut all: Vec<_> = (0..3).map(|_| next(&mut rx)).collect();
    all.sort();
    assert_eq!(all, [[0; 100], [1; 100], [2; 100]]);
    // One goes: its lane is the next one's, and what it left there is received.
    there[1].send(b"left behind").unwrap();
    there.remove(1);
    let mut new = ring.sender().unwrap();
    new.send(b"new").unwrap();
    assert_eq!((next(&mut rx), next(&mut rx)), (b"left behind".to_vec(), b"new".to_vec()));
    assert_eq!((ring.stats().received, ring.stats().repairs, ring.stats().length), (5, 0, 0));
}

#[test]
fn the_end_comes_when_the_last_sender_has_gone_and_all_lanes_are_empty() {
    let ring = ring(1000, 4, false);
    let (mut one, mut other) = (ring.sender().unwrap(), ring.sender().unwrap());
    let mut rx = ring.receiver().unwrap();
    one.send(b"1").unwrap();
    drop(one);
    assert_eq!(next(&mut rx), b"1");
    let mut message = Vec::new();
    let short = Duration::from_millis(20);
    assert_eq!(rx.recv_timeout(&mut message, short), Err(RecvTimeoutError::Timeout));
    other.send(b"2").unwrap();
    drop(other);
    assert_eq!(next(&mut rx), b"2");
    assert_eq!(rx.recv(&mut message), Err(RecvError::Disconnected));
    assert_eq!(rx.try_recv(&mut message), Err(TryRecvError::Disconnected));
    // It does not stick.
    let mut tx = ring.sender().unwrap();
    tx.send(b"3").unwrap();
    assert_eq!(next(&mut rx), b"3");
    // The mirror image.
    drop(rx);
    let _ = tx.try_send(b"4");
    assert_eq!(tx.try_send(b"5"), Err(ByteSendError::Disconnected));
    assert_eq!(next(&mut ring.receiver().unwrap()), b"4");
}

#[test]
fn peers_are_waited_for() {
    let ring = ring(1000, 2, false);
    let mut tx = ring.sender().unwrap();
    assert!(!tx.wait_for_peer(Duration::from_millis(5)));
    let mut rx = std::thread::scope(|scope| {
        scope.spawn(|| assert!(tx.wait_for_peer(LIMIT)));
        let mut rx = ring.receiver().unwrap();
        assert!(rx.wait_for_peer(LIMIT));
        rx
    });
    drop(tx);
    assert!(!rx.wait_for_peer(Duration::from_millis(5)));
}

#[test]
fn a_busy_lane_holds_nobody_up() {
    let ring = ring(1 << 16, 8, false);
    let (mut busy, mut calm) = (ring.sender().unwrap(), ring.sender().unwrap());
    let mut rx = ring.receiver().unwrap();
    // The receiver is in the middle of the busy lane, and the calm one is quiet.
    (0..1000).for_each(|_| busy.send(&[0; 56]).unwrap());
    assert_eq!(next(&mut rx), [0; 56]);
    for round in 1..10 {
        calm.send(&[round; 8]).unwrap();
        let passed = (0..).take_while(|_| next(&mut rx)[0] == 0).count();
        // No more than the rest of a turn.
        assert!(passed <= 2048 / 64, "{passed} messages of another lane came first");
    }
}

#[test]
fn what_was_looked_at_is_what_is_taken() {
    for ordered in [false, true] {
        let ring = ring(1 << 12, 4, ordered);
        let (mut one, mut other) = (ring.sender().unwrap(), ring.sender().unwrap());
        let mut rx = ring.receiver().unwrap();
        for i in 0..40_u8 {
            one.send(&[1, i]).unwrap();
            other.send(&[2, i]).unwrap();
        }
        let mut got = Vec::new();
        while got.len() < 80 {
            let mut seen = Vec::new();
            let count = rx
                .try_peek_batch(|message| {
                    let mut bytes = [0; 2];
                    message.copy_to(&mut bytes);
                    seen.push(bytes.to_vec());
                    true
                })
                .unwrap();
            // Something that is older, or in another lane, comes meanwhile.
            let _ = other.try_send(&[3, 0]);
            assert_eq!(count, seen.len());
            let before = got.len();
            rx.try_recv_batch(count, |message| got.push(message.to_vec()));
            assert_eq!(got[before..], seen);
            got.retain(|message| message[0] < 3);
        }
        let of = |lane| got.iter().filter(|m| m[0] == lane).map(|m| m[1]).collect::<Vec<_>>();
        assert_eq!((of(1), of(2)), ((0..40).collect(), (0..40).collect()));
    }
}

#[test]
fn an_ordered_ring_keeps_what_was_sent_one_after_the_other_in_order() {
    let ring = ring(1 << 12, 64, true);
    assert!(ring.is_ordered());
    let mut tx: Vec<_> = (0..64).map(|_| ring.sender().unwrap()).collect();
    let mut rx = ring.receiver().unwrap();
    let mut sent = 0_u64;
    let mut expected = 0_u64;
    for round in 0..200_usize {
        // In an order that has nothing to do with that of the lanes, some not at all.
        for i in 0..round % 97 {
            tx[(i * 37 + round * 11) % 64].send(&sent.to_le_bytes()).unwrap();
            sent += 1;
        }
        for _ in 0..(round * 7) % 101 {
            let mut message = [0; 8];
            match rx.try_recv_into(&mut message) {
                Ok(_) => assert_eq!(u64::from_le_bytes(message), expected),
                Err(_) => break,
            }
            expected += 1;
        }
    }
    while expected < sent {
        assert_eq!(next(&mut rx), expected.to_le_bytes());
        expected += 1;
    }
    // The longest message has room beside its number, once the receiver has come to the end of the lap.
    while tx[5].try_send(&[7; 1 << 12]) == Err(ByteSendError::Full) {
        assert_eq!(rx.try_recv(&mut Vec::new()), Err(TryRecvError::Empty));
    }
    assert_eq!(next(&mut rx), [7; 1 << 12]);
    let mut grant = tx[6].reserve(3).unwrap();
    grant.write(0, b"abc");
    grant.commit();
    drop(tx[7].reserve(100).unwrap());
    assert_eq!(rx.claim().unwrap().to_vec(), b"abc");
    assert!(rx.is_empty());
}

#[test]
fn an_ordered_ring_shows_answers_after_questions() {
    // Two threads that hand a number to and fro, each sending before it does.
    const COUNT: u64 = 20_000;
    let ring = ring(1 << 12, 4, true);
    let baton = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for me in 0..2_u64 {
            let (mut tx, baton) = (ring.sender().unwrap(), &baton);
            scope.spawn(move || {
                for number in (me..COUNT).step_by(2) {
                    // Whoever yields at once goes without a whole slice where others want the processor.
                    let waits = || baton.load(std::sync::atomic::Ordering::Acquire) != number;
                    while (0..1000).all(|_| waits()) {
                        std::thread::yield_now();
                    }
                    tx.send(&number.to_le_bytes()).unwrap();
                    baton.store(number + 1, std::sync::atomic::Ordering::Release);
                }
            });
        }
        let mut rx = ring.receiver().unwrap();
        for number in 0..COUNT {
            assert_eq!(next(&mut rx), number.to_le_bytes());
        }
    });
}

/// Everything arrives once, whole, and what one sender sends in its order.
fn exchange(senders: u64, wait: Wait, ordered: bool) {
    const COUNT: u64 = 20_000;
    let ring = ring(1 << 12, 16, ordered);
    std::thread::scope(|scope| {
        for sender in 0..senders {
            let mut tx = ring.sender().unwrap().with_wait(wait);
            scope.spawn(move || {
                for number in 0..COUNT {
                    let mut message = vec![number as u8; 16 + (number * 7 % 300) as usize];
                    message[..8].copy_from_slice(&sender.to_le_bytes());
                    message[8..16].copy_from_slice(&number.to_le_bytes());
                    tx.send_timeout(&message, LIMIT).unwrap();
                }
            });
        }
        let mut rx = ring.receiver().unwrap().with_wait(wait);
        let mut expected = vec![0; senders as usize];
        let mut message = Vec::new();
        loop {
            match rx.recv(&mut message) {
                Ok(_) => {}
                Err(RecvError::Disconnected) if expected.iter().all(|&n| n == COUNT) => break,
                // The last of those who have come so far has gone before the next one came.
                Err(RecvError::Disconnected) => continue,
                Err(error) => panic!("{error}"),
            }
            let word = |at: usize| u64::from_le_bytes(message[at..at + 8].try_into().unwrap());
            let (sender, number) = (word(0) as usize, word(8));
            assert_eq!(number, expected[sender], "of sender {sender}");
            expected[sender] += 1;
            assert_eq!(message.len() as u64, 16 + number * 7 % 300);
            assert!(message[16..].iter().all(|&byte| byte == number as u8));
        }
    });
    assert_eq!(ring.stats().received, senders * COUNT);
}

#[test]
fn everything_arrives_once_and_in_each_senders_order() {
    for wait in [Wait::Adaptive, Wait::Block, Wait::Spin] {
        exchange(3, wait, false);
        exchange(3, wait, true);
    }
    exchange(8, Wait::Adaptive, false);
}

fn send_all(fd: &OwnedFd, ledger: &Ledger, me: usize, random: u64) {
    let mut tx = open(fd).sender().expect("a lane").with_wait(waiting(random));
    let mut next = ledger.sent(me).load(Relaxed);
    while ledger.stop().load(Relaxed) == 0 && next < NUMBERS {
        // As long as three numbers, or longer.
        let mut bytes = vec![next as u8; 24 + (next % 40) as usize];
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(message(me, next)) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        match tx.send_timeout(&bytes, Duration::from_millis(50)) {
            Ok(()) => next += 1,
            Err(ByteSendError::Timeout | ByteSendError::Disconnected) => {}
            Err(error) => panic!("{error}"),
        }
        ledger.sent(me).store(next, Relaxed);
    }
    stay(ledger);
}

fn receive_all(fd: &OwnedFd, ledger: &Ledger, random: u64) {
    let mut rx = open(fd).receiver().expect("the role").with_wait(waiting(random));
    loop {
        match rx.claim() {
            Ok(message) => {
                let bytes = message.to_vec();
                let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
                let tag = [word(0), word(8), word(16)];
                let number = (tag[0] & 0xffff_ffff) as u8;
                assert_eq!(bytes.len() as u64, 24 + (tag[0] & 0xffff_ffff) % 40);
                assert!(bytes[24..].iter().all(|&byte| byte == number), "torn");
                ledger.count(tag);
                message.release();
            }
            // While the senders are being replaced there may be none.
            Err(RecvError::Disconnected) if ledger.stop().load(Relaxed) == 2 => return,
            Err(RecvError::Disconnected) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

fn open(fd: &OwnedFd) -> ByteRing {
    ByteRing::from_fd(fd.try_clone().expect("a descriptor")).expect("opens")
}

fn torture(ordered: bool) {
    let ring = ring(1000, 5, ordered);
    let fd = ring.as_fd().try_clone_to_owned().unwrap();
    let toll = massacre(
        (3, 1),
        || ring.stats(),
        |ledger, sender, random| send_all(&fd, ledger, sender, random),
        |ledger, _, random| receive_all(&fd, ledger, random),
    );
    let Toll { lost, again, senders_killed, receivers_killed, .. } = toll;
    assert_eq!(lost, 0);
    assert!(again <= senders_killed + receivers_killed, "{again} twice");
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let mut message = Vec::new();
    assert!(rx.try_recv(&mut message).is_err());
    for number in 0..100 {
        tx.send_timeout(&[number; 100], PATIENCE).unwrap();
        assert_eq!(next(&mut rx), [number; 100]);
    }
}

#[test]
fn senders_and_receivers_are_killed() {
    torture(false);
}

#[test]
fn senders_and_receivers_of_an_ordered_ring_are_killed() {
    torture(true);
}
