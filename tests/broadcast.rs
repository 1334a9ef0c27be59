//! `Broadcast<T>`: what receivers get, whoever is slow, leaves, forks, is stopped, evicted or killed.

mod processes;

use annulus::inspect::{Snapshot, State};
use annulus::{
    Broadcast, BroadcastReceiver, BroadcastRecvError, BroadcastSender, Delivery, Place, RingKind,
    Role, SendError, SendTimeoutError, SetupError, Start, TrySendError, Wait,
};
use bytemuck::Pod;
use nix::sys::signal::Signal;
use processes::{PATIENCE, eventually, fork, unique};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A moment in which nothing is expected to happen.
const MOMENT: Duration = Duration::from_millis(5);

fn broadcast<T: Pod>(capacity: usize, receivers: usize) -> Broadcast<T> {
    let builder = Broadcast::builder(capacity).participants(receivers);
    builder.create(Place::memfd("broadcast").unwrap()).unwrap()
}

fn again<T: Pod>(fd: OwnedFd) -> Broadcast<T> {
    Broadcast::from_fd(fd).unwrap()
}

fn gate<T: Pod>(broadcast: &Broadcast<T>) -> BroadcastReceiver<T> {
    broadcast.receiver(Delivery::Gate, Start::Now).unwrap()
}

fn lossy<T: Pod>(broadcast: &Broadcast<T>) -> BroadcastReceiver<T> {
    broadcast.receiver(Delivery::Lossy, Start::Now).unwrap()
}

/// A message whose every word tells which one it is.
fn message<const N: usize>(i: u64) -> [u64; N] {
    std::array::from_fn(|word| i.wrapping_mul(word as u64 + 1))
}

#[track_caller]
fn number<const N: usize>(found: &[u64; N]) -> u64 {
    assert_eq!(*found, message(found[0]), "a torn message");
    found[0]
}

#[test]
fn everybody_gets_everything_in_order() {
    fn of<const N: usize>(capacity: usize)
    where
        [u64; N]: Pod,
    {
        let broadcast = broadcast::<[u64; N]>(capacity, 3);
        let mut tx = broadcast.sender().unwrap();
        let mut receivers = [gate(&broadcast), lossy(&broadcast), gate(&broadcast)];
        for i in 0..(capacity * 5) as u64 {
            tx.try_send(message(i)).unwrap();
            for rx in &mut receivers {
                assert_eq!(rx.try_recv().map(|m| number(&m)), Ok(i));
                assert_eq!(rx.try_recv(), Err(BroadcastRecvError::Empty));
            }
        }
    }
    for capacity in [1, 2, 3, 8, 100] {
        of::<1>(capacity);
        of::<7>(capacity);
        of::<9>(capacity);
    }
}

#[test]
fn a_gate_holds_exactly_the_capacity() {
    for capacity in [1, 2, 7, 8, 9, 64, 1000] {
        let broadcast = broadcast::<u64>(capacity, 2);
        let mut tx = broadcast.sender().unwrap();
        let mut next = 0;
        // Wherever in the ring it joins.
        for round in 0..20 {
            let mut rx = gate(&broadcast);
            let first = next;
            while tx.try_send(next).is_ok() {
                next += 1;
            }
            assert_eq!(
                (next - first, tx.try_send(0)),
                (capacity as u64, Err(TrySendError::Full(0)))
            );
            assert_eq!(rx.try_recv(), Ok(first));
            tx.try_send(next).unwrap();
            next += 1;
            assert!(tx.try_send(0).is_err());
            assert!(
                rx.try_iter().take(capacity / 2).eq(first + 1..first + 1 + capacity as u64 / 2)
            );
            drop(rx);
            // Nobody is waited for now.
            for _ in 0..capacity * 2 + round {
                tx.try_send(next).unwrap();
                next += 1;
            }
        }
    }
}

#[test]
fn the_slowest_gate_holds_the_sender() {
    let broadcast = broadcast::<u64>(8, 3);
    let mut tx = broadcast.sender().unwrap();
    let (mut fast, mut slow) = (gate(&broadcast), gate(&broadcast));
    let mut screen = lossy(&broadcast);
    assert_eq!(tx.try_send_batch(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), 8);
    assert!(fast.try_iter().eq(0..8));
    assert_eq!(tx.try_send(8), Err(TrySendError::Full(8)));
    assert_eq!(broadcast.stats().length, 8);
    let mut some = [0; 3];
    assert_eq!((slow.try_recv_batch(&mut some), some), (Ok(3), [0, 1, 2]));
    assert_eq!(tx.try_send_batch(&[8, 9, 10, 11]), 3);
    assert_eq!((tx.try_send_batch(&[11]), broadcast.stats().sent), (0, 11));
    assert_eq!(screen.try_recv(), Err(BroadcastRecvError::Lagged(3)));
    assert!(screen.try_iter().eq(3..11));
    assert!(slow.try_iter().eq(3..11));
    assert!(fast.try_iter().eq(8..11));
}

#[test]
fn a_receiver_that_lags_is_told_exactly_how_far() {
    for (capacity, resume) in
        [(4, Start::Oldest), (4, Start::Now), (100, Start::Oldest), (100, Start::Now)]
    {
        let broadcast = broadcast::<[u64; 3]>(capacity, 1);
        let mut tx = broadcast.sender().unwrap();
        let mut rx = lossy(&broadcast);
        rx.set_resume(resume);
        let (mut sent, mut expected, mut lags) = (0, 0, 0);
        for round in 0..300_u64 {
            for _ in 0..round % (capacity as u64 * 2) {
                tx.try_send(message(sent)).unwrap();
                sent += 1;
            }
            loop {
                match rx.try_recv() {
                    Ok(found) => {
                        assert_eq!(number(&found), expected);
                        expected += 1;
                    }
                    Err(BroadcastRecvError::Lagged(missed)) => {
                        assert!(missed > 0);
                        expected += missed;
                        lags += 1;
                        if resume == Start::Now {
                            assert_eq!(expected, sent);
                        } else {
                            // No more is given up than half of the ring.
                            let kept = (capacity - capacity / 2) as u64;
                            assert!((kept..=capacity as u64).contains(&(sent - expected)));
                        }
                    }
                    Err(error) => {
                        assert_eq!((error, expected), (BroadcastRecvError::Empty, sent));
                        break;
                    }
                }
            }
        }
        assert!(lags > 50);
    }
}

#[test]
fn one_joins_from_now_or_from_the_oldest() {
    for delivery in [Delivery::Gate, Delivery::Lossy] {
        let broadcast = broadcast::<u64>(64, 1);
        let mut tx = broadcast.sender().unwrap();
        let mut sent = 0;
        for round in 0..200 {
            for _ in 0..round % 100 {
                tx.try_send(sent).unwrap();
                sent += 1;
            }
            let mut rx = broadcast.receiver(delivery, Start::Now).unwrap();
            assert_eq!(rx.try_recv(), Err(BroadcastRecvError::Empty));
            drop(rx);
            let mut rx = broadcast.receiver(delivery, Start::Oldest).unwrap();
            let there: Vec<_> = rx.try_iter().collect();
            let oldest = sent - there.len() as u64;
            assert!(there.into_iter().eq(oldest..sent));
            // All, or half of the capacity at least.
            assert!(oldest == 0 || sent - oldest >= 32, "{} of {sent}", sent - oldest);
        }
    }
}

#[test]
fn batches_pass_whole() {
    let broadcast = broadcast::<[u64; 2]>(100, 2);
    let mut tx = broadcast.sender().unwrap();
    let (mut rx, mut screen) = (gate(&broadcast), lossy(&broadcast));
    let all: Vec<[u64; 2]> = (0..2000).map(message).collect();
    let (mut sent, mut received) = (0, 0);
    let mut batch = [[0; 2]; 70];
    for size in (1..100).cycle() {
        if sent == all.len() {
            break;
        }
        let end = all.len().min(sent + size);
        sent += tx.try_send_batch(&all[sent..end]);
        let (got, again) = (rx.try_recv_batch(&mut batch).unwrap(), batch);
        assert_eq!(again[..got], all[received..received + got]);
        let mut seen = 0;
        while seen < got {
            let now = screen.try_recv_batch(&mut batch[..got - seen]).unwrap();
            assert_eq!(batch[..now], all[received + seen..][..now]);
            seen += now;
        }
        received += got;
    }
    assert_eq!(rx.try_recv_batch(&mut []), Ok(0));
}

#[test]
fn send_all_and_iter_wait_for_each_other() {
    for wait in [Wait::Spin, Wait::Block, Wait::Adaptive] {
        let broadcast = broadcast::<[u64; 2]>(10, 4);
        let mut tx = broadcast.sender().unwrap().with_wait(wait);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let mut rx = gate(&broadcast).with_wait(wait);
                scope.spawn(move || {
                    assert!(rx.iter().map(|m| number(&m)).eq(0..3000));
                    assert_eq!(rx.recv_timeout(PATIENCE), Err(BroadcastRecvError::Disconnected));
                });
            }
            let all: Vec<[u64; 2]> = (0..2000).map(message).collect();
            tx.send_all(&all).unwrap();
            (2000..3000).for_each(|i| tx.send(message(i)).unwrap());
            drop(tx);
        });
    }
}

#[test]
fn the_conversation_ends_with_the_sender_and_goes_on_with_the_next() {
    let broadcast = broadcast::<u64>(8, 2);
    let (mut rx, mut screen) = (gate(&broadcast), lossy(&broadcast));
    assert_eq!(rx.recv_timeout(MOMENT), Err(BroadcastRecvError::Timeout));
    let mut tx = broadcast.sender().unwrap();
    assert!(matches!(broadcast.sender(), Err(SetupError::RoleTaken { role: Role::Sender, .. })));
    tx.send(1).unwrap();
    drop(tx);
    for rx in [&mut rx, &mut screen] {
        assert_eq!(rx.recv_timeout(PATIENCE), Ok(1));
        assert_eq!(rx.recv_timeout(PATIENCE), Err(BroadcastRecvError::Disconnected));
        assert_eq!(rx.try_recv(), Err(BroadcastRecvError::Disconnected));
    }
    broadcast.sender().unwrap().send(2).unwrap();
    assert_eq!(
        (rx.recv_timeout(PATIENCE), screen.recv_deadline(Instant::now() + PATIENCE)),
        (Ok(2), Ok(2))
    );
}

#[test]
fn a_persistent_one_is_waited_for() {
    let builder = Broadcast::<u64>::builder(8).persistent(true);
    let broadcast = builder.create(Place::memfd("broadcast").unwrap()).unwrap();
    let mut rx = gate(&broadcast);
    drop(broadcast.sender().unwrap());
    assert_eq!(rx.recv_timeout(MOMENT), Err(BroadcastRecvError::Timeout));
}

#[test]
fn a_sender_goes_on_whether_anybody_listens_or_not() {
    let broadcast = broadcast::<u64>(8, 1);
    let mut tx = broadcast.sender().unwrap();
    for round in 0..5 {
        for i in 0..100 {
            assert_eq!(tx.try_send(i), Ok(()), "round {round}");
        }
        let mut rx = gate(&broadcast);
        tx.send(7).unwrap();
        assert_eq!(rx.recv_timeout(PATIENCE), Ok(7));
    }
}

#[test]
fn waits_end_at_their_deadlines() {
    let broadcast = broadcast::<u64>(1, 1);
    let mut tx = broadcast.sender().unwrap();
    let rx = gate(&broadcast);
    tx.send(1).unwrap();
    for wait in [Wait::Spin, Wait::Block, Wait::Adaptive] {
        tx.set_wait(wait);
        assert_eq!(tx.send_timeout(2, MOMENT), Err(SendTimeoutError::Timeout(2)));
        let deadline = Instant::now() + MOMENT;
        assert_eq!(tx.send_deadline(3, deadline), Err(SendTimeoutError::Timeout(3)));
    }
    drop(rx);
    assert_eq!(tx.send_timeout(4, PATIENCE), Ok(()));
}

#[test]
fn a_slow_gate_is_evicted_and_told_and_rejoins() {
    let broadcast = broadcast::<u64>(8, 3);
    let mut tx = broadcast.sender().unwrap();
    tx.set_patience(Some(Duration::from_millis(1)));
    let (mut slow, mut fast) = (gate(&broadcast), gate(&broadcast));
    (0..8).for_each(|i| tx.send(i).unwrap());
    assert!(fast.try_iter().eq(0..8));
    // A deadline that comes first evicts nobody.
    tx.set_patience(Some(PATIENCE));
    assert_eq!(tx.send_timeout(8, MOMENT), Err(SendTimeoutError::Timeout(8)));
    assert!(!slow.is_evicted());
    tx.set_patience(Some(Duration::from_millis(1)));
    tx.send(8).unwrap();
    assert!(slow.is_evicted() && !fast.is_evicted());
    for i in 9..30 {
        tx.send(i).unwrap();
        assert!(fast.try_iter().last().is_some());
    }
    for _ in 0..2 {
        assert_eq!(slow.try_recv(), Err(BroadcastRecvError::Evicted));
        assert_eq!(slow.recv_timeout(PATIENCE), Err(BroadcastRecvError::Evicted));
    }
    // What is there still is not missed.
    let missed = slow.rejoin(Start::Oldest).unwrap();
    assert!((22..30).contains(&missed), "{missed}");
    assert!(slow.try_iter().eq(missed..30));
    tx.send(30).unwrap();
    assert_eq!((slow.recv_timeout(PATIENCE), fast.recv_timeout(PATIENCE)), (Ok(30), Ok(30)));
    assert_eq!(slow.rejoin(Start::Now), Ok(0));
}

#[test]
fn one_that_is_evicted_and_catches_up_has_missed_nothing() {
    let broadcast = broadcast::<u64>(16, 1);
    let mut tx = broadcast.sender().unwrap();
    tx.set_patience(Some(Duration::from_millis(1)));
    let mut rx = gate(&broadcast);
    (0..16).for_each(|i| tx.send(i).unwrap());
    // As many more as the sender looks ahead are written over.
    tx.send(16).unwrap();
    let there: Vec<_> = rx.try_iter().collect();
    assert_eq!(there, [0_u64; 0]);
    assert_eq!(rx.rejoin(Start::Oldest), Ok(8));
    assert!(rx.try_iter().eq(8..17));
}

#[test]
fn a_full_one_says_how_to_make_it_larger() {
    let broadcast = broadcast::<u64>(8, 2);
    let _both = (gate(&broadcast), lossy(&broadcast));
    let error = broadcast.receiver(Delivery::Lossy, Start::Now).unwrap_err();
    assert!(matches!(error, SetupError::Crowded { participants: 2 }));
    assert!(error.to_string().contains("larger table (`participants`)"), "{error}");
}

#[test]
fn hundreds_of_receivers_come_and_go() {
    let broadcast = broadcast::<u64>(64, 300);
    let mut tx = broadcast.sender().unwrap();
    let mut receivers: Vec<_> = (0..300)
        .map(|i| broadcast.receiver([Delivery::Gate, Delivery::Lossy][i % 2], Start::Now).unwrap())
        .collect();
    for i in 0..200 {
        tx.try_send(i).unwrap();
        receivers.iter_mut().for_each(|rx| assert_eq!(rx.try_recv(), Ok(i)));
        let leaving = i as usize * 7 % 300;
        receivers.remove(leaving);
        receivers.push(gate(&broadcast));
    }
    let alive = broadcast.stats().participants.iter().filter(|p| p.alive).count();
    assert_eq!(alive, 301, "all of them, and the sender");
}

#[test]
fn inspection_names_it_and_other_kinds_refuse_it() {
    let place = Place::name(&unique("broadcast")).unwrap();
    let broadcast = Broadcast::<u64>::builder(100).participants(3).create(place.clone()).unwrap();
    let (mut tx, mut rx) = (broadcast.sender().unwrap(), gate(&broadcast));
    let _screen = lossy(&broadcast);
    (0..10).for_each(|i| tx.send(i).unwrap());
    (0..4).for_each(|i| assert_eq!(rx.recv_timeout(PATIENCE), Ok(i)));
    let seen = Snapshot::open(&place).unwrap();
    assert_eq!(
        (seen.kind, seen.kind.name(), seen.state),
        (RingKind::Broadcast, "broadcast", State::Live)
    );
    assert_eq!((seen.capacity, seen.participants, seen.message_size), (100, 3, 8));
    assert_eq!((seen.stats.sent, seen.stats.received, seen.stats.length), (10, 0, 10));
    assert_eq!(seen.stats.participants.len(), 3);
    let error = annulus::Ring::<u64>::open(place.clone()).unwrap_err();
    assert!(error.to_string().contains("a broadcast of messages of one size"), "{error}");
    assert!(matches!(annulus::Latest::<u64>::open(place.clone()), Err(SetupError::Kind { .. })));
    assert!(matches!(Broadcast::<u32>::open(place), Err(SetupError::Payload { .. })));
}

#[test]
fn a_forked_child_has_nothing_of_its_parents() {
    let broadcast = broadcast::<u64>(8, 2);
    let (mut tx, mut rx) = (broadcast.sender().unwrap(), gate(&broadcast));
    tx.send(1).unwrap();
    let fd = broadcast.inheritable_fd().unwrap();
    let child = fork(|_| {
        assert_eq!(tx.send(2), Err(SendError::Forked(2)));
        assert_eq!(tx.try_send_batch(&[2]), 0);
        assert_eq!(rx.recv(), Err(BroadcastRecvError::Forked));
        assert_eq!(rx.try_recv_batch(&mut [0]), Err(BroadcastRecvError::Forked));
        assert_eq!(rx.rejoin(Start::Now), Err(BroadcastRecvError::Forked));
        assert!(!rx.is_evicted());
        let anew = again::<u64>(fd);
        assert!(matches!(anew.sender(), Err(SetupError::RoleTaken { .. })));
        let mut late = anew.receiver(Delivery::Gate, Start::Oldest).unwrap();
        assert_eq!(late.recv_timeout(PATIENCE), Ok(1));
        drop((tx, rx, broadcast));
    });
    child.finish();
}

#[test]
fn a_dead_gate_holds_nobody_and_a_stopped_one_does() {
    for wait in [Wait::Spin, Wait::Block, Wait::Adaptive] {
        let broadcast = broadcast::<u64>(8, 2);
        let fd = broadcast.inheritable_fd().unwrap();
        let mut tx = broadcast.sender().unwrap().with_wait(wait);
        let mut child = fork(|line| {
            let _rx = gate(&again::<u64>(fd));
            line.say(1);
            line.wait_for_end();
        });
        child.line.expect(1);
        (0..8).for_each(|i| tx.send(i).unwrap());
        child.signal(Signal::SIGSTOP);
        assert_eq!(tx.send_timeout(8, 10 * MOMENT), Err(SendTimeoutError::Timeout(8)));
        let killer = std::thread::spawn(move || {
            std::thread::sleep(MOMENT);
            child.kill();
        });
        // It dies while the sender waits.
        assert_eq!(tx.send_timeout(8, PATIENCE), Ok(()));
        killer.join().unwrap();
        let alive = broadcast.stats().participants.iter().filter(|p| p.alive).count();
        assert_eq!(alive, 1);
    }
}

#[test]
fn a_dead_gate_is_found_by_those_who_only_try() {
    let broadcast = broadcast::<u64>(8, 1);
    let fd = broadcast.inheritable_fd().unwrap();
    let mut tx = broadcast.sender().unwrap();
    let mut child = fork(|line| {
        let _rx = gate(&again::<u64>(fd));
        line.say(1);
        line.wait_for_end();
    });
    child.line.expect(1);
    child.kill();
    (0..8).for_each(|i| tx.try_send(i).unwrap());
    eventually("the dead one is found", || (0..2000).any(|_| tx.try_send(8).is_ok()));
    assert_eq!(gate(&broadcast).try_recv(), Err(BroadcastRecvError::Empty));
}

/// Receives until the sender is gone or `done`: the number after the last message. Messages are whole and none is
/// missed but those that are told.
fn hammer<const N: usize>(rx: &mut BroadcastReceiver<[u64; N]>, mut next: u64, end: u64) -> u64
where
    [u64; N]: Pod,
{
    let mut batch = [[0; N]; 5];
    while next < end {
        let received = if next.is_multiple_of(3) {
            rx.try_recv_batch(&mut batch).map(|count| {
                for found in &batch[..count] {
                    assert_eq!(number(found), next);
                    next += 1;
                }
            })
        } else {
            rx.recv_timeout(PATIENCE).map(|found| {
                assert_eq!(number(&found), next);
                next += 1;
            })
        };
        match received {
            Ok(()) | Err(BroadcastRecvError::Empty) => {}
            Err(BroadcastRecvError::Lagged(missed)) => next += missed,
            Err(error) => panic!("{error} at {next} of {end}"),
        }
    }
    next
}

#[test]
fn no_message_is_torn_or_missed_in_silence() {
    fn of<const N: usize>(capacity: usize, count: u64)
    where
        [u64; N]: Pod,
    {
        let broadcast = broadcast::<[u64; N]>(capacity, 5);
        let mut tx = broadcast.sender().unwrap();
        let gates = [(); 2].map(|()| gate(&broadcast));
        let screens = [(); 2].map(|()| lossy(&broadcast));
        let over = &AtomicBool::new(false);
        std::thread::scope(|scope| {
            for mut rx in gates.into_iter().chain(screens) {
                scope.spawn(move || hammer(&mut rx, 0, count));
            }
            // One that comes and goes, and sees each message once for each time that it is there.
            let broadcast = &broadcast;
            scope.spawn(move || {
                let joins = AtomicU64::new(0);
                while !over.load(Ordering::Relaxed) {
                    let turn = joins.fetch_add(1, Ordering::Relaxed);
                    let start = [Start::Now, Start::Oldest][turn as usize % 2];
                    let mut rx = broadcast.receiver(Delivery::Gate, start).unwrap();
                    let mut last = None;
                    for found in rx.try_iter().take(20) {
                        let i = number(&found);
                        assert!(last.is_none_or(|last| i == last + 1), "{i} after {last:?}");
                        last = Some(i);
                    }
                }
            });
            for i in 0..count {
                tx.send(message(i)).unwrap();
            }
            over.store(true, Ordering::Relaxed);
        });
    }
    of::<1>(64, 30_000);
    of::<8>(1, 1_000);
    of::<8>(100, 20_000);
    of::<40>(32, 8_000);
}

#[test]
fn lossy_receivers_keep_up_as_they_can_and_read_nothing_torn() {
    let broadcast = broadcast::<[u64; 40]>(16, 3);
    let mut tx = broadcast.sender().unwrap();
    let receivers = [(); 3].map(|()| lossy(&broadcast));
    std::thread::scope(|scope| {
        for (i, mut rx) in receivers.into_iter().enumerate() {
            rx.set_resume([Start::Oldest, Start::Now][i % 2]);
            scope.spawn(move || hammer(&mut rx, 0, 200_000));
        }
        (0..200_000).for_each(|i| tx.try_send(message(i)).unwrap());
        // Whoever lags behind the last one gets it in the end, or is told.
        std::thread::sleep(MOMENT);
        (200_000..200_100).for_each(|i| tx.try_send(message(i)).unwrap());
    });
}

fn send_on<const N: usize>(tx: &mut BroadcastSender<[u64; N]>, mut next: u64) -> !
where
    [u64; N]: Pod,
{
    loop {
        if next.is_multiple_of(5) {
            let batch = [next, next + 1, next + 2].map(message);
            tx.send_all(&batch).unwrap();
            next += 3;
        } else {
            tx.send(message(next)).unwrap();
            next += 1;
        }
    }
}

#[test]
fn nothing_is_torn_or_lost_where_senders_and_receivers_are_killed() {
    let broadcast = broadcast::<[u64; 9]>(32, 4);
    let (mut rx, mut screen) = (gate(&broadcast), lossy(&broadcast));
    let mut next = 0;
    for _ in 0..60 {
        let (fd, other) =
            (broadcast.inheritable_fd().unwrap(), broadcast.inheritable_fd().unwrap());
        let mut receiver = fork(|line| {
            let broadcast = again::<[u64; 9]>(fd);
            line.say(1);
            loop {
                let start = [Start::Now, Start::Oldest][usize::from(line.hear() > 1)];
                let mut rx = broadcast.receiver(Delivery::Gate, start).unwrap();
                let first = number(&rx.recv_timeout(PATIENCE).unwrap());
                hammer(&mut rx, first + 1, u64::MAX);
            }
        });
        let from = next;
        let mut sender = fork(|line| {
            let mut tx = again::<[u64; 9]>(other).sender().unwrap();
            line.say(1);
            send_on(&mut tx, from);
        });
        receiver.line.expect(1);
        sender.line.expect(1);
        receiver.line.say((from % 3) as u8);
        next = hammer(&mut rx, next, next + 200 + from % 91);
        receiver.kill();
        next = hammer(&mut rx, next, next + 200);
        sender.kill();
        // What was sent is there, for both alike; the next sender goes on right after it.
        let tail = broadcast.stats().sent;
        let mut tx = broadcast.sender().unwrap();
        let recovered = broadcast.stats().sent;
        assert!(recovered == tail || recovered <= tail + 3);
        next = hammer(&mut rx, next, recovered);
        loop {
            match screen.try_recv() {
                Ok(found) => assert!(number(&found) < recovered),
                Err(BroadcastRecvError::Lagged(_)) => {}
                Err(error) => break assert_eq!(error, BroadcastRecvError::Empty),
            }
        }
        tx.send(message(next)).unwrap();
        next += 1;
        assert_eq!(rx.recv_timeout(PATIENCE).map(|m| number(&m)), Ok(next - 1));
        assert_eq!(screen.recv_timeout(PATIENCE).map(|m| number(&m)), Ok(next - 1));
    }
}
