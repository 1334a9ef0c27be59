//! Rings that begin shortly before one of their numbers comes to the end of its bits: of 32, where a side counts its sleeps
//! and its rings, of 53, where a stamp has a position, and of 56, where a journal has.

mod processes;

use annulus::{ByteRing, Event, Place, Ring, Topology, Wait};
use processes::{PATIENCE, eventually, fork};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

const RECEIVER: u64 = 4096;
const SENDER: u64 = 8192;
const TABLE: u64 = 12288;
/// Within a half.
const ASLEEP: u64 = 256;
const EPOCH: u64 = 260;

fn memfd() -> Place {
    Place::memfd("wraps").unwrap()
}

/// Writes where nobody is yet.
fn set<const N: usize>(segment: OwnedFd, words: [(u64, u64); N]) {
    let file = File::from(segment);
    words.iter().for_each(|(at, word)| file.write_all_at(&word.to_le_bytes(), *at).unwrap());
}

/// Has both sides count their sleeps and rings from shortly before the end.
fn tire(segment: OwnedFd) {
    let file = File::from(segment);
    for half in [RECEIVER, SENDER] {
        // The lowest bit of the first is not part of the count.
        file.write_all_at(&(u32::MAX - 7).to_le_bytes(), half + ASLEEP).unwrap();
        file.write_all_at(&(u32::MAX - 3).to_le_bytes(), half + EPOCH).unwrap();
    }
}

#[test]
fn sleeps_and_rings_are_counted_over_the_end() {
    for topology in [Topology::Spsc, Topology::Mpmc] {
        let ring = Ring::<u64>::builder(2).topology(topology).create(memfd()).unwrap();
        tire(ring.inheritable_fd().unwrap());
        let fd = ring.inheritable_fd().unwrap();
        let receiver = std::thread::spawn(move || {
            let ring = Ring::<u64>::from_fd(fd).unwrap();
            let mut rx = ring.receiver().unwrap().with_wait(Wait::Block);
            let mut got = Vec::new();
            while let Ok(number) = rx.recv_timeout(PATIENCE) {
                got.push(number);
                // The sender sleeps for room.
                if number % 3 == 0 {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            got
        });
        let mut tx = ring.sender().unwrap().with_wait(Wait::Block);
        for number in 0..60 {
            tx.send_timeout(number, PATIENCE).unwrap();
            // The receiver sleeps for a message.
            if number % 5 == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        drop(tx);
        assert_eq!(receiver.join().unwrap(), (0..60).collect::<Vec<_>>(), "{topology:?}");
        let stats = ring.stats();
        assert!(stats.waits > 8 && stats.wakes > 8, "they passed the end: {stats:?}");
    }
    let event = Event::builder().create(memfd()).unwrap();
    tire(event.inheritable_fd().unwrap());
    let mut raiser = event.handle().unwrap();
    let fd = event.inheritable_fd().unwrap();
    let waiter = std::thread::spawn(move || {
        let mut handle = Event::from_fd(fd).unwrap().handle().unwrap().with_wait(Wait::Block);
        (0..20).all(|_| handle.take_timeout(1, PATIENCE) == Ok(1))
    });
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(3));
        raiser.raise(1).unwrap();
        eventually("it was taken", || event.value() == 0);
    }
    assert!(waiter.join().unwrap());
}

#[test]
fn positions_of_shared_sides_go_over_the_end() {
    const SLOTS: u64 = TABLE + 4096;
    for bits in [32, 53, 56] {
        let start = (1_u64 << bits) - 6;
        let builder = Ring::<u64>::builder(4).topology(Topology::Mpmc).participants(4);
        let ring = builder.create(memfd()).unwrap();
        set(ring.inheritable_fd().unwrap(), [(SENDER, start), (RECEIVER, start)]);
        for position in start..start + 4 {
            // A slot is a stamp and a message; each stamp says that its position is free.
            set(ring.inheritable_fd().unwrap(), [(SLOTS + position % 4 * 16, position << 11)]);
        }
        let mut senders = [ring.sender().unwrap(), ring.sender().unwrap()];
        let mut rx = ring.receiver().unwrap();
        for number in 0..16 {
            senders[number as usize % 2].send_timeout(number, PATIENCE).unwrap();
            if number % 4 == 1 {
                // One that has the message dies with it, and this one gets it.
                let fd = ring.inheritable_fd().unwrap();
                let mut child = fork(|line| {
                    let ring = Ring::<u64>::from_fd(fd).unwrap();
                    let mut rx = ring.receiver().unwrap();
                    let _claimed = rx.claim().unwrap();
                    line.say(1);
                    line.wait_for_end();
                });
                child.line.expect(1);
                child.kill();
            }
            assert_eq!(rx.recv_timeout(PATIENCE), Ok(number), "over 2^{bits}");
        }
        let batch: Vec<u64> = (0..4).collect();
        assert_eq!(senders[0].try_send_batch(&batch), 4);
        assert!(senders[1].try_send(4).is_err(), "it is full");
        assert_eq!(rx.try_iter().collect::<Vec<_>>(), batch);
        assert_eq!(ring.stats().redelivered, 4);
    }
}

#[test]
fn positions_of_one_side_go_over_32_bits() {
    let start = (1_u64 << 32) - 4;
    let ring = Ring::<[u64; 4]>::builder(4).create(memfd()).unwrap();
    set(
        ring.inheritable_fd().unwrap(),
        [(SENDER, start), (RECEIVER, start), (RECEIVER + 128, start)],
    );
    for cell in 0..4 {
        set(ring.inheritable_fd().unwrap(), [(TABLE + cell * 64, (start + cell) << 2)]);
    }
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    for number in 0..40 {
        tx.try_send([number; 4]).unwrap();
        assert_eq!(rx.try_recv(), Ok([number; 4]));
    }
    // A ring for 112 bytes has laps of 128.
    let start = (1_u64 << 32) - 128;
    let ring = ByteRing::builder(112).create(memfd()).unwrap();
    set(
        ring.inheritable_fd().unwrap(),
        [(SENDER, start), (RECEIVER, start), (RECEIVER + 128, start)],
    );
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    for number in 0..40_u8 {
        let message = vec![number; usize::from(number)];
        tx.try_send(&message).unwrap();
        assert_eq!(rx.try_claim().unwrap().to_vec(), message);
    }
}
