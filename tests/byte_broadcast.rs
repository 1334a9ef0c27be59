//! `ByteBroadcast`: messages of any length, whole for every receiver, and what it has in common with `Broadcast<T>`.

mod processes;

use annulus::inspect::Snapshot;
use annulus::{
    Broadcast, BroadcastRecvError, ByteBroadcast, ByteBroadcastReceiver, ByteRing, ByteSendError,
    Delivery, Gate, Place, RingKind, Role, SetupError, Start,
};
use processes::{PATIENCE, eventually, fork, unique};
use std::os::unix::fs::FileExt;
use std::time::Duration;

fn broadcast(capacity: usize, longest: usize) -> ByteBroadcast {
    ByteBroadcast::builder(capacity, longest).create(Place::memfd("bytes").unwrap()).unwrap()
}

fn gate(broadcast: &ByteBroadcast) -> ByteBroadcastReceiver {
    broadcast.receiver(Delivery::Gate, Start::Now).unwrap()
}

fn lossy(broadcast: &ByteBroadcast) -> ByteBroadcastReceiver {
    broadcast.receiver(Delivery::Lossy, Start::Now).unwrap()
}

/// A message whose every byte, and whose length, tells which one it is.
fn message(i: u64, longest: usize) -> Vec<u8> {
    let length = (i.wrapping_mul(7) % (longest as u64 + 1)) as usize;
    (0..length as u64).map(|at| (i ^ at.wrapping_mul(31)) as u8).collect()
}

#[test]
fn every_length_comes_out_as_it_went_in() {
    for longest in [0, 1, 7, 8, 9, 47, 48, 49, 120, 1000] {
        let broadcast = broadcast(3, longest);
        assert_eq!((broadcast.longest(), broadcast.is_exact()), (longest, false));
        let mut tx = broadcast.sender().unwrap();
        let (mut one, mut other) = (gate(&broadcast), lossy(&broadcast));
        for length in (0..=longest).chain((0..=longest).rev()) {
            let sent: Vec<u8> = (0..length).map(|at| (at + length) as u8).collect();
            tx.try_send(&sent).unwrap();
            assert_eq!(one.try_recv(), Ok(&sent[..]));
            assert_eq!(other.recv(), Ok(&sent[..]));
            assert_eq!(one.try_recv(), Err(BroadcastRecvError::Empty));
        }
        let long = vec![0; longest + 1];
        let error = ByteSendError::TooLong { len: longest + 1, max: longest };
        assert_eq!(tx.try_send(&long), Err(error));
        assert_eq!(tx.send_timeout(&long, PATIENCE), Err(error));
    }
}

#[test]
fn a_gate_holds_the_capacity_and_a_lossy_one_is_told_what_it_missed() {
    let broadcast = broadcast(4, 100);
    let mut tx = broadcast.sender().unwrap();
    let (mut slow, mut screen) = (gate(&broadcast), lossy(&broadcast));
    for i in 0..4 {
        tx.try_send(&message(i, 100)).unwrap();
    }
    assert_eq!(tx.try_send(b"fifth"), Err(ByteSendError::Full));
    let moment = Duration::from_millis(5);
    assert_eq!(tx.send_timeout(b"fifth", moment), Err(ByteSendError::Timeout));
    assert_eq!(slow.recv(), Ok(&message(0, 100)[..]));
    tx.try_send(&message(4, 100)).unwrap();
    assert_eq!(screen.try_recv(), Err(BroadcastRecvError::Lagged(1)));
    for i in 1..5 {
        assert_eq!(screen.recv(), Ok(&message(i, 100)[..]));
        assert_eq!(slow.recv(), Ok(&message(i, 100)[..]));
    }
    tx.set_patience(Some(Duration::from_millis(1)));
    for i in 5..15 {
        tx.send(&message(i, 100)).unwrap();
    }
    assert!(slow.is_evicted());
    assert_eq!(slow.recv(), Err(BroadcastRecvError::Evicted));
    assert_eq!(slow.rejoin(Start::Now), Ok(10));
    assert_eq!(slow.try_recv(), Err(BroadcastRecvError::Empty));
    drop(tx);
    assert_eq!(slow.recv(), Err(BroadcastRecvError::Disconnected));
}

/// A receiver that nobody waits for, while the sender laps it at full speed from another process.
#[test]
fn no_length_is_torn() {
    const COUNT: u64 = 300_000;
    let broadcast = broadcast(8, 300);
    let (mut strict, mut loose) = (gate(&broadcast), lossy(&broadcast));
    let fd = broadcast.inheritable_fd().unwrap();
    let child = fork(move |_| {
        let broadcast = ByteBroadcast::from_fd(fd).unwrap();
        let mut tx = broadcast.sender().unwrap();
        for i in 0..COUNT {
            tx.send(&message(i, 300)).unwrap();
        }
    });
    let reader = std::thread::spawn(move || {
        let mut next = 0;
        loop {
            match loose.recv_timeout(PATIENCE) {
                Ok(found) => {
                    assert_eq!(found, &message(next, 300)[..]);
                    next += 1;
                }
                Err(BroadcastRecvError::Lagged(missed)) => next += missed,
                Err(error) => return (next, error),
            }
        }
    });
    for i in 0..COUNT {
        assert_eq!(strict.recv_timeout(PATIENCE), Ok(&message(i, 300)[..]));
    }
    child.finish();
    assert_eq!(reader.join().unwrap(), (COUNT, BroadcastRecvError::Disconnected));
}

#[test]
fn a_broadcast_of_a_type_is_opened_as_bytes() {
    let typed = Broadcast::<[u32; 5]>::builder(8).create(Place::memfd("typed").unwrap()).unwrap();
    let raw = ByteBroadcast::from_fd(typed.inheritable_fd().unwrap()).unwrap();
    assert_eq!((raw.longest(), raw.is_exact()), (20, true));
    let mut rx = typed.receiver(Delivery::Gate, Start::Now).unwrap();
    let mut bytes = gate(&raw);
    let mut tx = raw.sender().unwrap();
    let sent = [1_u32, 2, 3, 4, 5];
    for wrong in [0, 4, 19, 21] {
        let error = ByteSendError::Size { len: wrong, expected: 20 };
        assert_eq!(tx.try_send(&vec![0; wrong]), Err(error));
    }
    for _ in 0..20 {
        tx.send(bytemuck::bytes_of(&sent)).unwrap();
        assert_eq!(rx.recv(), Ok(sent));
        assert_eq!(bytes.recv(), Ok(bytemuck::bytes_of(&sent)));
    }
}

#[test]
fn others_are_refused_by_name_and_inspection_names_it() {
    let refused = |result: Result<(), SetupError>, expected: &str, actual: &str| {
        let text = result.unwrap_err().to_string();
        assert!(text.contains(expected) && text.contains(actual), "{text}");
    };
    let bytes = ByteRing::builder(1000).create(Place::memfd("ring").unwrap()).unwrap();
    let wrong = ByteBroadcast::from_fd(bytes.inheritable_fd().unwrap()).map(drop);
    refused(wrong, "a broadcast of messages of any length", "messages of any size");
    let place = Place::name(&unique("byte-broadcast")).unwrap();
    let made = ByteBroadcast::builder(8, 100).participants(3).create(place.clone()).unwrap();
    let wrong = Broadcast::<[u8; 100]>::open(place.clone()).map(drop);
    refused(wrong, "a broadcast of messages of one size", "a broadcast of messages of any length");
    let same = ByteBroadcast::builder(8, 100).open_or_create(place.clone()).unwrap();
    assert_eq!(same.receivers(), 3);

    let (_strict, _loose) = (gate(&made), lossy(&made));
    made.sender().unwrap().send(b"once").unwrap();
    let seen = Snapshot::open(&place).unwrap();
    assert_eq!((seen.kind, seen.message_size, seen.capacity), (RingKind::ByteBroadcast, 100, 8));
    let receivers: Vec<_> =
        seen.stats.participants.iter().filter(|p| p.role == Role::Receiver).collect();
    assert_eq!(
        receivers.iter().map(|p| p.gate).collect::<Vec<_>>(),
        [Some(Gate::Held), Some(Gate::Open)]
    );
    assert!(receivers.iter().all(|p| p.behind == 1));
    assert_eq!((seen.stats.sent, seen.stats.length), (1, 1));
}

/// Whoever asks for a broadcast and meets something else has not been a user of it: a name that waits for its first one stays.
#[test]
fn who_is_refused_takes_no_name_away() {
    let place = Place::name(&unique("byte-broadcast-refused")).unwrap();
    ByteRing::builder(1000).create(place.clone()).unwrap().keep();
    let refused = ByteBroadcast::open(place.clone());
    assert!(matches!(refused, Err(SetupError::Kind { .. })), "{refused:?}");
    assert!(ByteRing::open(place).is_ok());
}

/// A length that no sender has written: the receiver says so, and copies nothing that is not its own.
#[test]
fn a_length_that_cannot_be_is_damage() {
    for wrong in [17, 1 << 63, u64::MAX] {
        let name = unique("byte-broadcast-length");
        let place = Place::name(&name).unwrap();
        let broadcast = ByteBroadcast::builder(2, 16).participants(1).create(place).unwrap();
        let mut tx = broadcast.sender().unwrap();
        let mut rx = gate(&broadcast);
        tx.send(b"sixteen bytes...").unwrap();
        let path = format!("/dev/shm/annulus.{name}");
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let size = file.metadata().unwrap().len();
        let mut data = vec![0; size as usize];
        file.read_exact_at(&mut data, 0).unwrap();
        let at = data.windows(24).position(|bytes| bytes[8..] == *b"sixteen bytes...").unwrap();
        assert_eq!(data[at..at + 8], 16_u64.to_le_bytes());
        file.write_all_at(&wrong.to_le_bytes(), at as u64).unwrap();
        assert_eq!(rx.try_recv(), Err(BroadcastRecvError::Corrupt));
        assert_eq!(rx.recv(), Err(BroadcastRecvError::Corrupt));
    }
}

#[test]
fn a_dead_receiver_holds_nobody_and_a_dead_sender_ends_it() {
    let broadcast = broadcast(2, 32);
    let mut tx = broadcast.sender().unwrap();
    let fd = broadcast.inheritable_fd().unwrap();
    let mut child = fork(move |line| {
        let broadcast = ByteBroadcast::from_fd(fd).unwrap();
        let _rx = gate(&broadcast);
        line.say(1);
        line.wait_for_end();
    });
    child.line.expect(1);
    tx.try_send(b"one").unwrap();
    tx.try_send(b"two").unwrap();
    assert_eq!(tx.try_send(b"three"), Err(ByteSendError::Full));
    child.kill();
    tx.send_timeout(b"three", PATIENCE).unwrap();

    drop(tx);
    let mut rx = gate(&broadcast);
    let fd = broadcast.inheritable_fd().unwrap();
    let mut child = fork(move |line| {
        let broadcast = ByteBroadcast::from_fd(fd).unwrap();
        let mut tx = broadcast.sender().unwrap();
        tx.send(b"last words").unwrap();
        line.say(1);
        line.wait_for_end();
    });
    child.line.expect(1);
    child.kill();
    let mut last = Vec::new();
    eventually("the end is told", || match rx.recv_timeout(PATIENCE) {
        Ok(message) => {
            last = message.to_vec();
            false
        }
        Err(error) => {
            assert_eq!(error, BroadcastRecvError::Disconnected);
            true
        }
    });
    assert_eq!(last, b"last words");
}

#[test]
fn nothing_is_torn_or_lost_where_senders_are_killed() {
    let broadcast = broadcast(16, 200);
    let (mut strict, mut loose) = (gate(&broadcast), lossy(&broadcast));
    let (mut next, mut seen) = (0, 0);
    for round in 0..60_u64 {
        let fd = broadcast.inheritable_fd().unwrap();
        let mut child = fork(move |line| {
            let broadcast = ByteBroadcast::from_fd(fd).unwrap();
            let mut tx = broadcast.sender().unwrap();
            line.say(1);
            for i in broadcast.stats().sent.. {
                tx.send(&message(i, 200)).unwrap();
            }
        });
        child.line.expect(1);
        // Enough to be in the middle of something, and never at the same place.
        let enough = next + 1 + round * 37 % 500;
        while next < enough {
            assert_eq!(strict.recv_timeout(PATIENCE), Ok(&message(next, 200)[..]));
            next += 1;
        }
        child.kill();
        loop {
            match strict.recv_timeout(PATIENCE) {
                Ok(found) => assert_eq!(found, &message(next, 200)[..]),
                Err(error) => {
                    assert_eq!(error, BroadcastRecvError::Disconnected);
                    break;
                }
            }
            next += 1;
        }
        assert_eq!(next, broadcast.stats().sent);
        while seen < next {
            match loose.try_recv() {
                Ok(found) => {
                    assert_eq!(found, &message(seen, 200)[..]);
                    seen += 1;
                }
                Err(BroadcastRecvError::Lagged(missed)) => seen += missed,
                Err(error) => panic!("{error} at {seen} of {next}"),
            }
        }
    }
}
