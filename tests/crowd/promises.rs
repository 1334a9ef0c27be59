//! What rings with shared sides promise when nobody dies.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use annulus::{
    ByteRing, Place, RecvError, RecvTimeoutError, Ring, Role, SetupError, Topology, TryRecvError,
    TrySendError, UntypedRing, Wait,
};

use crate::support::deadline::poll;
use crate::support::process::Peer;
use crate::support::shared::SharedWords;

const LIMIT: Duration = Duration::from_secs(120);

fn ring(topology: Topology, capacity: usize) -> Ring<u64> {
    Ring::builder(capacity).topology(topology).create(Place::memfd("crowd").unwrap()).unwrap()
}

#[test]
fn each_topology_has_its_roles() {
    for (topology, senders, receivers) in [
        (Topology::Spsc, 1, 1),
        (Topology::Mpsc, 3, 1),
        (Topology::Spmc, 1, 3),
        (Topology::Mpmc, 3, 3),
    ] {
        let ring = ring(topology, 8);
        let tx: Vec<_> = (0..senders).map(|_| ring.sender().unwrap()).collect();
        let rx: Vec<_> = (0..receivers).map(|_| ring.receiver().unwrap()).collect();
        let taken = |result: Option<SetupError>, role| matches!(result, Some(SetupError::RoleTaken { role: taken, .. }) if taken == role);
        assert_eq!(senders == 1, taken(ring.sender().err(), Role::Sender));
        assert_eq!(receivers == 1, taken(ring.receiver().err(), Role::Receiver));
        let alive = ring.stats().participants.iter().filter(|who| who.alive).count();
        assert_eq!(alive, tx.len() + rx.len(), "{topology:?}");
    }
}

#[test]
fn a_full_table_says_how_to_have_a_larger_one() {
    let ring = Ring::<u64>::builder(8)
        .topology(Topology::Mpmc)
        .participants(3)
        .create(Place::memfd("crowd").unwrap())
        .unwrap();
    let mut there: Vec<_> = (0..3).map(|_| ring.sender().unwrap()).collect();
    let error = ring.receiver().unwrap_err();
    assert!(matches!(error, SetupError::Crowded { participants: 3 }));
    assert!(error.to_string().contains("participants"), "{error}");
    there.pop();
    assert!(ring.receiver().is_ok());
    for participants in [1025, usize::MAX] {
        let builder = Ring::<u64>::builder(8).topology(Topology::Mpmc).participants(participants);
        let error = builder.create(Place::memfd("crowd").unwrap()).unwrap_err();
        assert!(matches!(error, SetupError::InvalidSize { .. }), "{error}");
    }
}

#[test]
fn entries_of_the_dead_are_waited_for() {
    // The wait is a few milliseconds, which a loaded machine may keep the one that is waited for from using.
    assert!(poll(LIMIT, is_entry_of_the_dead_waited_for));
}

/// Whether a process finds an entry in a table full of the dead, that another is freeing while it asks.
fn is_entry_of_the_dead_waited_for() -> bool {
    let ring = Ring::<u64>::builder(8)
        .topology(Topology::Mpmc)
        .participants(2)
        .create(Place::memfd("crowd").unwrap())
        .unwrap();
    let words = SharedWords::new(1);
    let fd = ring.as_fd().try_clone_to_owned().unwrap();
    let dies = Peer::spawn(LIMIT, || {
        let ring = Ring::<u64>::from_fd(fd.try_clone().unwrap()).unwrap();
        let _both = (ring.sender().unwrap(), ring.receiver().unwrap());
        words[0].store(1, Relaxed);
        std::thread::sleep(LIMIT);
    });
    assert!(poll(LIMIT, || words[0].load(Relaxed) == 1));
    dies.kill().unwrap();
    // Somebody is about to free the entries, and has got no further than this.
    let path = format!("/proc/self/fd/{}", ring.as_fd().as_raw_fd());
    let repairer = File::options().read(true).write(true).open(path).unwrap();
    // SAFETY: all zeroes are a lock; what matters of it is set below.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_start, lock.l_len) = (libc::F_WRLCK as i16, (1 << 62) + 4, 1);
    nix::fcntl::fcntl(&repairer, nix::fcntl::FcntlArg::F_OFD_SETLK(&lock)).unwrap();
    assert!(matches!(ring.sender(), Err(SetupError::Crowded { .. })));
    let asks = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(poll(LIMIT, || asks.load(Relaxed)));
            std::thread::sleep(Duration::from_millis(1));
            drop(repairer);
        });
        asks.store(true, Relaxed);
        ring.sender().is_ok_and(|_sender| ring.receiver().is_ok())
    })
}

#[test]
fn it_holds_what_was_asked_for_rounded_up() {
    for (asked, holds) in [(1, 1), (2, 2), (3, 4), (100, 128)] {
        let ring = ring(Topology::Mpmc, asked);
        assert_eq!(ring.capacity(), holds);
        let mut tx = ring.sender().unwrap();
        let mut rx = ring.receiver().unwrap();
        for lap in 0..3 {
            for i in 0..holds as u64 {
                tx.try_send(lap * 1000 + i).unwrap();
            }
            assert_eq!(tx.try_send(0), Err(TrySendError::Full(0)));
            assert_eq!((ring.stats().length, tx.len()), (holds as u64, holds));
            assert_eq!(rx.recv_timeout(LIMIT), Ok(lap * 1000));
            tx.try_send(lap * 1000 + holds as u64).unwrap();
            for i in 1..=holds as u64 {
                assert_eq!(rx.recv_timeout(LIMIT), Ok(lap * 1000 + i));
            }
            assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        }
    }
}

#[test]
fn other_topologies_and_kinds_are_refused() {
    let there = ring(Topology::Mpmc, 8);
    let fd = || there.inheritable_fd().unwrap();
    assert!(matches!(ByteRing::from_fd(fd()), Err(SetupError::Kind { .. })));
    assert!(Ring::<u64>::from_fd(fd()).is_ok());
    for topology in [Topology::Spmc, Topology::Mpmc] {
        let builder = ByteRing::builder(64).topology(topology);
        let error = builder.create(Place::memfd("crowd").unwrap()).unwrap_err();
        assert!(error.to_string().contains("one receiver"), "{error}");
    }
    let name = format!("crowd-{}", std::process::id());
    let place = Place::name(&name).unwrap();
    let named = Ring::<u64>::builder(8).topology(Topology::Mpmc).create(place.clone()).unwrap();
    let other = Ring::<u64>::builder(8).topology(Topology::Spsc).open_or_create(place.clone());
    assert!(matches!(other, Err(SetupError::Kind { .. })));
    let same = Ring::<u64>::builder(8).topology(Topology::Mpmc).open_or_create(place);
    assert!(same.is_ok());
    drop(named);
}

#[test]
fn batches_are_partial_when_there_is_less_room() {
    let ring = ring(Topology::Mpmc, 512);
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let numbers: Vec<u64> = (0..1000).collect();
    assert_eq!(tx.try_send_batch(&numbers), 512);
    assert_eq!(tx.try_send_batch(&numbers[512..]), 0);
    let mut got = [0; 300];
    assert_eq!(rx.try_recv_batch(&mut got), 300);
    assert_eq!(got[..], numbers[..300]);
    let mut rest = numbers[512..].iter().copied();
    assert_eq!(tx.try_send_from(rest.by_ref()), 300);
    assert_eq!(rest.next(), Some(812));
    assert_eq!(rx.drain(1000).collect::<Vec<_>>(), numbers[300..812]);
    // An iterator that ends leaves a place unused, which nobody sees.
    assert_eq!(tx.try_send_from([1, 2]), 2);
    tx.send(3).unwrap();
    assert_eq!(rx.drain(9).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn an_iterator_that_panics_blocks_nobody() {
    let ring = ring(Topology::Mpmc, 4);
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let panics = (0..3).map(|i| if i < 1 { i } else { panic!("on purpose") });
    let caught =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tx.try_send_from(panics)));
    assert!(caught.is_err());
    tx.send(9).unwrap();
    assert_eq!((rx.recv_timeout(LIMIT), rx.recv_timeout(LIMIT)), (Ok(0), Ok(9)));
}

#[test]
fn the_end_comes_when_the_last_of_a_side_has_gone() {
    let ring = ring(Topology::Mpmc, 8);
    let (mut tx, mut rx, mut other) =
        (ring.sender().unwrap(), ring.receiver().unwrap(), ring.receiver().unwrap());
    let second = ring.sender().unwrap();
    tx.send(1).unwrap();
    drop(tx);
    assert_eq!(rx.recv_timeout(LIMIT), Ok(1));
    assert_eq!(rx.recv_timeout(Duration::from_millis(20)), Err(RecvTimeoutError::Timeout));
    drop(second);
    assert_eq!(rx.recv_timeout(LIMIT), Err(RecvTimeoutError::Disconnected));
    assert_eq!(other.recv_timeout(LIMIT), Err(RecvTimeoutError::Disconnected));
    let mut tx = ring.sender().unwrap();
    tx.send(2).unwrap();
    assert_eq!(other.recv_timeout(LIMIT), Ok(2));
    drop((rx, other));
    // Noticed by the second send after that at the latest.
    let _ = tx.try_send(3);
    assert!(matches!(tx.try_send(4), Err(TrySendError::Disconnected(4))));
}

#[test]
fn one_of_many_is_waited_for() {
    let ring = ring(Topology::Mpmc, 8);
    let mut rx = ring.receiver().unwrap();
    assert!(!rx.wait_for_peer(Duration::from_millis(5)));
    std::thread::scope(|scope| {
        // They come and go, and each time the last one goes another may be coming.
        let ends: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..50).for_each(|_| drop(ring.sender().unwrap()))))
            .collect();
        ends.into_iter().for_each(|end| end.join().unwrap());
    });
    let tx = ring.sender().unwrap();
    assert!(rx.wait_for_peer(LIMIT));
    drop(tx);
    assert_eq!(rx.recv_timeout(LIMIT), Err(RecvTimeoutError::Disconnected));
}

#[test]
fn a_claimed_message_is_nobody_elses() {
    let ring = ring(Topology::Spmc, 8);
    let (mut tx, mut rx, mut other) =
        (ring.sender().unwrap(), ring.receiver().unwrap(), ring.receiver().unwrap());
    tx.send_all(&[1, 2]).unwrap();
    let claimed = rx.claim().unwrap();
    assert_eq!((*claimed, claimed.deliveries()), (1, 1));
    assert_eq!(other.try_recv(), Ok(2));
    assert_eq!(other.try_recv(), Err(TryRecvError::Empty));
    drop(claimed);
    for deliveries in 2..300 {
        let claimed = other.claim_timeout(LIMIT).unwrap();
        assert_eq!((*claimed, claimed.deliveries()), (1, deliveries.min(255)));
        claimed.give_back();
    }
    rx.claim().unwrap().release();
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(ring.stats().redelivered, 299);
    ring.remove().unwrap();
    tx.send(5).unwrap();
    rx.claim().unwrap().give_back();
    assert_eq!(other.try_recv(), Ok(5));
}

#[test]
fn a_sole_receiver_claims_too() {
    let ring = ring(Topology::Spsc, 8);
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    tx.send_all(&[1, 2]).unwrap();
    rx.claim().unwrap().give_back();
    let claimed = rx.claim().unwrap();
    assert_eq!(*claimed, 1);
    claimed.release();
    assert_eq!(rx.recv_timeout(LIMIT), Ok(2));
}

#[test]
fn what_was_looked_at_goes_back_when_its_receiver_leaves() {
    let typed = ring(Topology::Mpmc, 8);
    let raw = UntypedRing::from_fd(typed.inheritable_fd().unwrap()).unwrap();
    let (mut tx, mut rx, mut looks) =
        (typed.sender().unwrap(), typed.receiver().unwrap(), raw.receiver().unwrap());
    tx.send_all(&[1, 2, 3]).unwrap();
    let mut bytes = [0; 24];
    assert_eq!(looks.try_peek_batch(&mut bytes), Ok(3));
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(looks.skip(1), 1);
    assert_eq!(looks.try_peek_batch(&mut bytes), Ok(2));
    assert_eq!(bytes[..8], 2_u64.to_ne_bytes());
    // Receiving gives back what was only looked at; the oldest of it comes first again.
    assert_eq!(looks.try_recv(&mut bytes), Ok(()));
    assert_eq!(bytes[..8], 2_u64.to_ne_bytes());
    assert_eq!(rx.try_recv(), Ok(3));
    tx.send_all(&[4, 5]).unwrap();
    assert_eq!(looks.try_peek_batch(&mut bytes), Ok(2));
    drop(looks);
    assert_eq!((rx.recv_timeout(LIMIT), rx.recv_timeout(LIMIT)), (Ok(4), Ok(5)));
}

/// Everything arrives once, and what one sender sends in its order.
fn exchange(topology: Topology, senders: u64, receivers: u64, wait: Wait, batch: usize) {
    const COUNT: u64 = 20_000;
    let ring = ring(topology, 64);
    let sum = AtomicU64::new(0);
    let count = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for sender in 0..senders {
            let mut tx = ring.sender().unwrap().with_wait(wait);
            scope.spawn(move || {
                let numbers: Vec<u64> = (0..COUNT).map(|n| sender << 32 | n).collect();
                match batch {
                    1 => numbers.iter().for_each(|&n| tx.send_timeout(n, LIMIT).unwrap()),
                    _ => numbers.chunks(batch).for_each(|chunk| tx.send_all(chunk).unwrap()),
                }
            });
        }
        for _ in 0..receivers {
            let mut rx = ring.receiver().unwrap().with_wait(wait);
            let (sum, count) = (&sum, &count);
            scope.spawn(move || {
                let mut last = HashMap::new();
                let mut messages = vec![0; batch];
                loop {
                    let there = match rx.recv_batch(&mut messages) {
                        Ok(there) => there,
                        Err(RecvError::Disconnected) => break,
                        Err(error) => panic!("{error}"),
                    };
                    for &message in &messages[..there] {
                        let before = last.insert(message >> 32, message);
                        assert!(before.is_none_or(|before| before < message), "out of order");
                        sum.fetch_add(message & 0xffff_ffff, Relaxed);
                        count.fetch_add(1, Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(count.into_inner(), senders * COUNT);
    assert_eq!(sum.into_inner(), senders * (COUNT * (COUNT - 1) / 2));
}

#[test]
fn everything_arrives_once_and_in_each_senders_order() {
    for wait in [Wait::Adaptive, Wait::Block, Wait::Spin] {
        for batch in [1, 7] {
            exchange(Topology::Mpsc, 3, 1, wait, batch);
            exchange(Topology::Spmc, 1, 3, wait, batch);
            exchange(Topology::Mpmc, 2, 2, wait, batch);
        }
    }
    exchange(Topology::Mpmc, 8, 8, Wait::Adaptive, 1);
}

#[test]
fn a_message_wakes_one_of_many() {
    const SLEEPERS: u64 = 8;
    const MESSAGES: u64 = 300;
    let ring = ring(Topology::Mpmc, 64);
    let start = std::time::Instant::now();
    let received = AtomicU64::new(0);
    let mut tx = ring.sender().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..SLEEPERS {
            let (mut rx, received) = (ring.receiver().unwrap().with_wait(Wait::Block), &received);
            scope.spawn(move || {
                while rx.recv().is_ok() {
                    received.fetch_add(1, Relaxed);
                }
            });
        }
        for number in 0..MESSAGES {
            // Time for those who are not asleep to fall asleep.
            std::thread::sleep(Duration::from_micros(200));
            tx.send(number).unwrap();
            assert!(poll(LIMIT, || received.load(Relaxed) > number));
        }
        let waits = ring.stats().waits;
        drop(tx);
        // Everybody looks for itself every 100 ms, every 5 ms while somebody stands still in the middle of receiving, and
        // one that is about to sleep when it is rung for looks again.
        let slices = SLEEPERS * (1 + start.elapsed().as_millis() as u64 / 4);
        assert!(
            waits <= SLEEPERS + 3 * MESSAGES + slices,
            "{waits} sleeps, {slices} of them slices"
        );
    });
}
