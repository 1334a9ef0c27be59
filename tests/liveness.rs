//! Who is there: roles, takeover, disconnection, forks, signals, stopped peers; and the figures that tell
//! of them.

mod processes;

use annulus::{
    ByteRing, ByteSendError, Place, RecvError, RecvTimeoutError, Ring, Role, SendError,
    SendTimeoutError, SetupError, TryRecvError, TrySendError, Wait,
};
use nix::sys::signal::Signal;
use processes::last_words::in_silence;
use processes::{PATIENCE, eventually, fork, unique};
use std::thread;
use std::time::{Duration, Instant};

const WAITS: [Wait; 3] = [Wait::Spin, Wait::Block, Wait::Adaptive];
const SHORT: Duration = Duration::from_millis(30);

fn memfd() -> Place {
    Place::memfd("liveness").unwrap()
}

fn open(name: &str) -> Ring<u64> {
    Ring::open(Place::name(name).unwrap()).unwrap()
}

/// A named ring of eight numbers.
fn ring(test: &str) -> (String, Ring<u64>) {
    let name = unique(test);
    let ring = Ring::<u64>::builder(8).create(Place::name(&name).unwrap()).unwrap();
    (name, ring)
}

#[test]
fn a_role_is_one_processs() {
    let (name, ring) = ring("role");
    let mut child = fork(|line| {
        let _tx = open(&name).sender().unwrap();
        line.say(1);
        line.hear();
    });
    child.line.expect(1);
    match ring.sender() {
        Err(SetupError::RoleTaken { role, pid }) => {
            assert_eq!((role, pid), (Role::Sender, child.pid()));
        }
        other => panic!("{other:?}"),
    }
    let mine = ring.receiver().unwrap();
    match open(&name).receiver() {
        Err(SetupError::RoleTaken { role: Role::Receiver, pid }) => {
            assert_eq!(pid, std::process::id());
        }
        other => panic!("{other:?}"),
    }
    drop(mine);
    open(&name).receiver().unwrap();
    child.line.say(2);
    child.finish();
    ring.sender().unwrap();
}

#[test]
fn a_killed_senders_role_is_taken_over_where_it_stopped() {
    let (name, ring) = ring("takeover");
    let mut rx = ring.receiver().unwrap();
    let mut expected = 0;
    for round in 1..=5 {
        let mut child = fork(|line| {
            let mut tx = open(&name).sender().unwrap();
            for i in 0.. {
                if i == 3 {
                    line.say(1);
                }
                tx.send(expected + i).unwrap();
            }
        });
        child.line.expect(1);
        for _ in 0..100 {
            assert_eq!(rx.recv_timeout(PATIENCE), Ok(expected));
            expected += 1;
        }
        child.kill();
        let mut tx = ring.sender().unwrap();
        while let Ok(message) = rx.try_recv() {
            assert_eq!(message, expected);
            expected += 1;
        }
        tx.send(expected).unwrap();
        let stats = ring.stats();
        assert_eq!((stats.sent, stats.received, stats.length), (expected + 1, expected, 1));
        assert_eq!(stats.repairs, round);
        assert_eq!(rx.recv_timeout(PATIENCE), Ok(expected));
        expected += 1;
    }
}

#[test]
fn a_killed_receivers_role_is_taken_over_where_it_stopped() {
    let (name, ring) = ring("takeover");
    let mut tx = ring.sender().unwrap();
    let mut child = fork(|line| {
        let mut rx = open(&name).receiver().unwrap();
        for i in 0..5 {
            assert_eq!(rx.recv_timeout(PATIENCE), Ok(i));
        }
        line.say(1);
        line.hear();
    });
    tx.send_all(&[0, 1, 2, 3, 4, 5, 6]).unwrap();
    child.line.expect(1);
    child.kill();
    let mut rx = ring.receiver().unwrap();
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), [5, 6]);
    tx.try_send(7).unwrap();
    assert_eq!(rx.recv_timeout(PATIENCE), Ok(7));
}

#[test]
fn a_peer_that_never_came_is_waited_for() {
    for wait in WAITS {
        let ring = Ring::<u64>::builder(1).create(memfd()).unwrap();
        let mut rx = ring.receiver().unwrap().with_wait(wait);
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(rx.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
        drop(rx);
        let ring = Ring::<u64>::builder(1).create(memfd()).unwrap();
        let mut tx = ring.sender().unwrap().with_wait(wait);
        tx.send(1).unwrap();
        assert_eq!(tx.try_send(2), Err(TrySendError::Full(2)));
        assert_eq!(tx.send_timeout(2, SHORT), Err(SendTimeoutError::Timeout(2)));
    }
}

#[test]
fn a_sender_that_left_disconnects_after_the_last_message() {
    for wait in WAITS {
        let ring = Ring::<u64>::builder(8).create(memfd()).unwrap();
        let mut rx = ring.receiver().unwrap().with_wait(wait);
        let mut tx = ring.sender().unwrap();
        tx.send_all(&[1, 2, 3]).unwrap();
        drop(tx);
        assert_eq!(
            (rx.recv_timeout(PATIENCE), rx.try_recv(), rx.recv_timeout(SHORT)),
            (Ok(1), Ok(2), Ok(3))
        );
        assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
        assert_eq!(rx.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
        assert_eq!(rx.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
        assert_eq!(rx.recv_batch(&mut [0; 4]), Err(RecvError::Disconnected));
        assert_eq!(rx.iter().next(), None);
        // Until the next one comes.
        let mut tx = ring.sender().unwrap();
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        tx.send(4).unwrap();
        assert_eq!(rx.recv_timeout(PATIENCE), Ok(4));
    }
}

#[test]
fn a_receiver_that_left_disconnects() {
    for wait in WAITS {
        let ring = Ring::<u64>::builder(2).create(memfd()).unwrap();
        let mut tx = ring.sender().unwrap().with_wait(wait);
        drop(ring.receiver().unwrap());
        // It is noticed at once when the ring is full, and soon when it is not.
        let refused = (0..4).map(|i| tx.try_send(i)).find_map(Result::err);
        assert!(matches!(refused, Some(TrySendError::Disconnected(_))), "{refused:?}");
        assert_eq!(tx.send(9), Err(SendError::Disconnected(9)));
        assert_eq!(tx.send_timeout(9, PATIENCE), Err(SendTimeoutError::Disconnected(9)));
        assert_eq!(tx.try_send_batch(&[1, 2]), 0);
        assert_eq!(tx.send_all(&[1, 2]).unwrap_err().sent, 0);
        let mut rx = ring.receiver().unwrap();
        while rx.try_recv().is_ok() {}
        tx.send(5).unwrap();
        assert_eq!(rx.recv_timeout(PATIENCE), Ok(5));
    }
    let ring = ByteRing::builder(64).create(memfd()).unwrap();
    let mut tx = ring.sender().unwrap();
    drop(ring.receiver().unwrap());
    let refused = (0..10).find_map(|_| tx.try_send(&[0; 10]).err());
    assert_eq!(refused, Some(ByteSendError::Disconnected));
    assert_eq!(tx.send(&[0; 10]), Err(ByteSendError::Disconnected));
    assert_eq!(tx.reserve(10).err(), Some(ByteSendError::Disconnected));
}

#[test]
fn a_killed_peer_disconnects_whoever_waits() {
    for wait in WAITS {
        let (name, ring) = ring("killed");
        let mut child = fork(|line| {
            let mut tx = open(&name).sender().unwrap();
            tx.send_all(&[1, 2]).unwrap();
            line.say(1);
            line.hear();
        });
        child.line.expect(1);
        let mut rx = ring.receiver().unwrap().with_wait(wait);
        let start = Instant::now();
        let killer = thread::spawn(move || {
            thread::sleep(SHORT);
            child.kill();
        });
        assert_eq!((rx.recv_timeout(PATIENCE), rx.recv_timeout(PATIENCE)), (Ok(1), Ok(2)));
        assert_eq!(rx.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
        assert!(start.elapsed() >= SHORT);
        killer.join().unwrap();
        let mut polls = 0..;
        let end = polls.find_map(|_| rx.try_recv().err().filter(|e| *e != TryRecvError::Empty));
        assert_eq!(end, Some(TryRecvError::Disconnected));
        drop(rx);

        let mut child = fork(|line| {
            let _rx = open(&name).receiver().unwrap();
            line.say(1);
            line.hear();
        });
        child.line.expect(1);
        let mut tx = ring.sender().unwrap().with_wait(wait);
        let killer = thread::spawn(move || {
            thread::sleep(SHORT);
            child.kill();
        });
        let error = (0..100).find_map(|i| tx.send(i).err());
        assert!(matches!(error, Some(SendError::Disconnected(_))), "{error:?}");
        killer.join().unwrap();
    }
}

#[test]
fn a_persistent_ring_never_disconnects() {
    let ring = Ring::<u64>::builder(2).persistent(true).create(memfd()).unwrap();
    for wait in WAITS {
        let mut rx = ring.receiver().unwrap().with_wait(wait);
        let mut tx = ring.sender().unwrap();
        tx.send(1).unwrap();
        drop(tx);
        assert_eq!(rx.recv_timeout(PATIENCE), Ok(1));
        assert!((0..5000).all(|_| rx.try_recv() == Err(TryRecvError::Empty)));
        assert_eq!(rx.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
        drop(rx);
        let mut tx = ring.sender().unwrap().with_wait(wait);
        assert_eq!(tx.try_send_batch(&[2, 3, 4]), 2);
        assert!((0..5000).all(|_| tx.try_send(9) == Err(TrySendError::Full(9))));
        assert_eq!(tx.send_timeout(9, SHORT), Err(SendTimeoutError::Timeout(9)));
        assert_eq!(ring.receiver().unwrap().try_iter().collect::<Vec<_>>(), [2, 3]);
    }
}

#[test]
fn a_peer_can_be_waited_for() {
    let (name, ring) = ring("wait-for-peer");
    let mut rx = ring.receiver().unwrap();
    let start = Instant::now();
    assert!(!rx.wait_for_peer(SHORT));
    assert!(start.elapsed() >= SHORT);
    let mut child = fork(|line| {
        line.hear();
        let mut tx = open(&name).sender().unwrap();
        assert!(tx.wait_for_peer(PATIENCE));
        line.say(2);
        line.hear();
    });
    let waiter = thread::spawn(move || {
        assert!(rx.wait_for_peer(PATIENCE));
        rx
    });
    thread::sleep(SHORT);
    child.line.say(1);
    let mut rx = waiter.join().unwrap();
    child.line.expect(2);
    assert!(rx.wait_for_peer(Duration::ZERO));
    child.kill();
    assert!(!rx.wait_for_peer(SHORT), "the dead are not there");
    drop(ring.sender().unwrap());
    assert!(!rx.wait_for_peer(Duration::ZERO), "nor those who have left");
}

#[test]
fn a_stopped_peer_is_not_dead() {
    let (name, ring) = ring("stopped");
    let mut child = fork(|line| {
        let mut tx = open(&name).sender().unwrap();
        line.say(1);
        line.hear();
        tx.send(77).unwrap();
        line.hear();
    });
    child.line.expect(1);
    child.signal(Signal::SIGSTOP);
    for wait in WAITS {
        let mut rx = ring.receiver().unwrap().with_wait(wait);
        assert!((0..5000).all(|_| rx.try_recv() == Err(TryRecvError::Empty)));
        // Longer than several slices of a sleep.
        let timeout = Duration::from_millis(350);
        assert_eq!(rx.recv_timeout(timeout), Err(RecvTimeoutError::Timeout));
        assert!(matches!(ring.sender(), Err(SetupError::RoleTaken { .. })));
    }
    child.signal(Signal::SIGCONT);
    child.line.say(2);
    let mut rx = ring.receiver().unwrap();
    assert_eq!(rx.recv_timeout(PATIENCE), Ok(77));
    child.line.say(3);
    child.finish();
}

/// Has this process, which is only for this, get a signal every millisecond.
fn storm() {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: a handler that does nothing is safe at any time; without SA_RESTART, every system call
    // that can be interrupted is.
    unsafe {
        let action = nix::sys::signal::SigAction::new(
            nix::sys::signal::SigHandler::Handler(nothing),
            nix::sys::signal::SaFlags::empty(),
            nix::sys::signal::SigSet::empty(),
        );
        nix::sys::signal::sigaction(Signal::SIGALRM, &action).unwrap();
        let every = libc::timeval { tv_sec: 0, tv_usec: 1000 };
        let timer = libc::itimerval { it_interval: every, it_value: every };
        assert_eq!(libc::setitimer(libc::ITIMER_REAL, &timer, core::ptr::null_mut()), 0);
    }
}

#[test]
fn signals_do_not_hide_a_death() {
    for wait in WAITS {
        let (name, _ring) = ring("storm");
        let mut sender = fork(|line| {
            let _tx = open(&name).sender().unwrap();
            line.say(1);
            line.hear();
        });
        sender.line.expect(1);
        let mut receiver = fork(|line| {
            let mut rx = open(&name).receiver().unwrap().with_wait(wait);
            storm();
            line.say(1);
            assert_eq!(rx.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
        });
        receiver.line.expect(1);
        thread::sleep(SHORT);
        sender.kill();
        receiver.finish();
    }
}

#[test]
fn signals_do_not_move_a_deadline() {
    fork(|_| {
        storm();
        for wait in WAITS {
            let ring = Ring::<u64>::builder(1).create(memfd()).unwrap();
            let mut rx = ring.receiver().unwrap().with_wait(wait);
            let mut tx = ring.sender().unwrap().with_wait(wait);
            for timeout in [1, 30, 250].map(Duration::from_millis) {
                let start = Instant::now();
                assert_eq!(rx.recv_timeout(timeout), Err(RecvTimeoutError::Timeout));
                let took = start.elapsed();
                assert!(took >= timeout, "{took:?} is early");
            }
            tx.send(1).unwrap();
            let deadline = Instant::now() + SHORT;
            assert_eq!(tx.send_deadline(2, deadline), Err(SendTimeoutError::Timeout(2)));
            assert!(Instant::now() >= deadline);
            assert!(tx.wait_for_peer(SHORT));
        }
    })
    .finish();
}

#[test]
fn a_forked_child_has_no_use_of_its_parents_handles() {
    let (name, ring) = ring("forked");
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    tx.send(1).unwrap();
    fork(|_| {
        assert_eq!(tx.try_send(2), Err(TrySendError::Forked(2)));
        assert_eq!(tx.send(2), Err(SendError::Forked(2)));
        assert_eq!(tx.send_timeout(2, PATIENCE), Err(SendTimeoutError::Forked(2)));
        assert_eq!(tx.try_send_batch(&[2]), 0);
        assert_eq!(tx.send_all(&[2]).unwrap_err().cause, SendError::Forked(()));
        assert!(!tx.wait_for_peer(PATIENCE));
        tx.set_wait(Wait::Block);
        assert_eq!(rx.try_recv(), Err(TryRecvError::Forked));
        assert_eq!(rx.recv(), Err(RecvError::Forked));
        assert_eq!(rx.recv_timeout(PATIENCE), Err(RecvTimeoutError::Forked));
        assert_eq!(rx.try_recv_batch(&mut [0]), 0);
        assert_eq!(rx.iter().next(), None);
        assert_eq!((tx.len(), rx.len(), ring.stats().sent), (0, 0, 0));
        assert_eq!((ring.capacity(), ring.label()), (8, ""));
        for result in [ring.sender().map(drop), ring.receiver().map(drop), ring.remove()] {
            assert!(matches!(result, Err(SetupError::Forked)), "{result:?}");
        }
        assert!(matches!(ring.inheritable_fd(), Err(SetupError::Forked)));
        // Its number may be some other file's by now.
        assert!(in_silence(|| std::panic::catch_unwind(|| ring.as_fd())).is_err());
        // What it opens itself, it can use; the roles are its parent's still.
        let own = open(&name);
        assert!(matches!(own.sender(), Err(SetupError::RoleTaken { .. })));
        assert_eq!(own.stats().length, 1);
        let new = Ring::<u64>::builder(4).create(memfd()).unwrap();
        new.sender().unwrap().send(5).unwrap();
        assert_eq!(new.receiver().unwrap().recv_timeout(PATIENCE), Ok(5));
        // SAFETY: the process ends before anybody uses these again.
        unsafe { drop(((&raw const tx).read(), (&raw const rx).read())) };
        assert!(open(&name).stats().participants.iter().all(|side| side.alive));
    })
    .finish();
    // Nothing has happened to the parent's.
    assert!(matches!(open(&name).sender(), Err(SetupError::RoleTaken { .. })));
    tx.send(2).unwrap();
    assert_eq!((rx.recv_timeout(PATIENCE), rx.recv_timeout(PATIENCE)), (Ok(1), Ok(2)));
    ring.inheritable_fd().unwrap();
}

#[test]
fn a_fork_in_the_middle_of_a_byte_message_changes_nothing() {
    let ring = ByteRing::builder(256).create(memfd()).unwrap();
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let mut grant = tx.try_reserve(8).unwrap();
    grant.write(0, b"half");
    fork(|_| {
        let write = std::panic::AssertUnwindSafe(|| grant.write(4, b"evil"));
        assert!(in_silence(|| std::panic::catch_unwind(write)).is_err());
        let commit = std::panic::AssertUnwindSafe(|| grant.commit());
        assert!(in_silence(|| std::panic::catch_unwind(commit)).is_err());
    })
    .finish();
    let mut grant = tx.try_reserve(8).unwrap();
    grant.write(0, b"complete");
    grant.commit();
    tx.send(b"second").unwrap();
    let message = rx.claim().unwrap();
    fork(|_| {
        let copy = std::panic::AssertUnwindSafe(|| message.to_vec());
        assert!(in_silence(|| std::panic::catch_unwind(copy)).is_err());
        assert_eq!(message.len(), 8);
        drop(message);
    })
    .finish();
    let message = rx.claim().unwrap();
    assert_eq!(message.to_vec(), b"complete");
    fork(|_| message.release()).finish();
    let mut got = Vec::new();
    rx.recv(&mut got).unwrap();
    rx.recv(&mut got).unwrap();
    assert_eq!(got, b"second");
}

#[test]
fn a_fork_in_the_middle_of_a_drain_ends_it_in_the_child() {
    let ring = Ring::<u64>::builder(8).create(memfd()).unwrap();
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    tx.send_all(&[1, 2, 3]).unwrap();
    let mut drain = rx.drain(8);
    assert_eq!(drain.next(), Some(1));
    fork(|_| {
        assert_eq!(drain.next(), None);
        assert_eq!(drain.next(), None);
    })
    .finish();
    assert_eq!((drain.next(), drain.next(), drain.next()), (Some(2), Some(3), None));
    drop(drain);
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn a_fork_in_the_middle_of_a_peek_ends_it_in_the_child() {
    let ring = ByteRing::builder(256).create(memfd()).unwrap();
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    tx.send(b"one").unwrap();
    tx.send(b"two").unwrap();
    let mut shown = 0;
    let count = rx.try_peek_batch(|message| {
        shown += 1;
        fork(|_| {
            let copy = std::panic::AssertUnwindSafe(|| message.copy_to(&mut [0; 3]));
            assert!(in_silence(|| std::panic::catch_unwind(copy)).is_err());
            assert_eq!(message.len(), 3);
        })
        .finish();
        true
    });
    assert_eq!((shown, count), (2, Ok(2)));
    // A child that goes on in the call that its parent had begun.
    let mut child = None;
    let count = rx.try_peek_batch(|_| {
        // SAFETY: the child makes no system call but the next and its last, and takes no lock.
        child.get_or_insert_with(|| unsafe { nix::unistd::fork() }.unwrap());
        true
    });
    match child.unwrap() {
        nix::unistd::ForkResult::Child => {
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(i32::from(count != Ok(0))) }
        }
        nix::unistd::ForkResult::Parent { child } => {
            let deadline = Instant::now() + PATIENCE;
            let status = loop {
                let wait = Some(nix::sys::wait::WaitPidFlag::WNOHANG);
                match nix::sys::wait::waitpid(child, wait).unwrap() {
                    nix::sys::wait::WaitStatus::StillAlive => {
                        assert!(Instant::now() < deadline, "the child does not end");
                        thread::sleep(SHORT);
                    }
                    status => break status,
                }
            };
            assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child, 0));
        }
    }
    assert_eq!((count, rx.skip(2)), (Ok(2), 2));
}

#[test]
fn a_fork_while_others_wait_harms_nobody() {
    let ring = Ring::<u64>::builder(4).create(memfd()).unwrap();
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    thread::scope(|scope| {
        let receiver = scope.spawn(move || rx.iter().collect::<Vec<u64>>());
        for i in 0..50 {
            let child = fork(|_| {
                assert_eq!(tx.try_send(9), Err(TrySendError::Forked(9)));
            });
            tx.send(i).unwrap();
            child.finish();
        }
        drop(tx);
        assert_eq!(receiver.join().unwrap(), (0..50).collect::<Vec<_>>());
    });
}

#[test]
fn a_forked_child_does_not_keep_a_dead_parents_role() {
    let (name, ring) = ring("orphan");
    let mut rx = ring.receiver().unwrap();
    // A parent with a role forks a child that lives on, and is killed.
    let mut parent = fork(|line| {
        let mut tx = open(&name).sender().unwrap();
        tx.send(1).unwrap();
        let grandchild = fork(|line| line.wait_for_end());
        line.say(1);
        line.hear();
        drop(grandchild);
    });
    parent.line.expect(1);
    assert!(matches!(ring.sender(), Err(SetupError::RoleTaken { .. })));
    parent.kill();
    let mut tx = ring.sender().unwrap();
    assert_eq!(rx.recv_timeout(PATIENCE), Ok(1));
    tx.send(2).unwrap();
    assert_eq!(rx.recv_timeout(PATIENCE), Ok(2));
}

#[test]
fn handles_move_between_threads() {
    let ring = Ring::<u64>::builder(16).create(memfd()).unwrap();
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    for round in 0..20 {
        let sender = thread::spawn(move || {
            for i in 0..100 {
                tx.send(round * 100 + i).unwrap();
            }
            tx
        });
        let receiver = thread::spawn(move || {
            for i in 0..100 {
                assert_eq!(rx.recv_timeout(PATIENCE), Ok(round * 100 + i));
            }
            rx
        });
        (tx, rx) = (sender.join().unwrap(), receiver.join().unwrap());
    }
    // A role ends where its handle is, whatever thread made it.
    thread::spawn(move || drop(tx)).join().unwrap();
    assert_eq!(rx.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
    ring.sender().unwrap();
}

#[test]
fn many_rings_are_apart() {
    let rings: Vec<_> =
        (0..200).map(|_| Ring::<u64>::builder(4).create(memfd()).unwrap()).collect();
    let mut sides: Vec<_> =
        rings.iter().map(|r| (r.sender().unwrap(), r.receiver().unwrap())).collect();
    for (i, (tx, _)) in sides.iter_mut().enumerate() {
        tx.send(i as u64).unwrap();
    }
    for (i, (_, rx)) in sides.iter_mut().enumerate() {
        assert_eq!((rx.try_recv(), rx.try_recv()), (Ok(i as u64), Err(TryRecvError::Empty)));
    }
    drop(sides.split_off(100));
    for (tx, rx) in &mut sides {
        tx.send(1).unwrap();
        assert_eq!(rx.recv_timeout(PATIENCE), Ok(1));
    }
}

#[test]
fn the_figures_are_right() {
    let (name, ring) = ring("figures");
    let fresh = ring.stats();
    assert_eq!((fresh.sent, fresh.received, fresh.length, fresh.high_water), (0, 0, 0, 0));
    assert_eq!((fresh.waits, fresh.wakes, fresh.repairs), (0, 0, 0));
    assert!(fresh.participants.is_empty());
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    for i in 0..20 {
        tx.send(i).unwrap();
        rx.recv_timeout(PATIENCE).unwrap();
    }
    assert_eq!(tx.try_send_batch(&[0; 100]), 8);
    let stats = ring.stats();
    assert_eq!((stats.sent, stats.received, stats.length), (28, 20, 8));
    assert_eq!(rx.try_recv_batch(&mut [0; 5]), 5);
    assert_eq!(tx.try_send_batch(&[0; 100]), 5);
    let stats = ring.stats();
    assert_eq!((stats.sent, stats.received, stats.length), (33, 25, 8));
    assert_eq!(stats.high_water, 8, "exact once the ring has been full");
    assert_eq!((tx.len(), rx.len()), (8, 8));
    // Sleeps and wakes are counted, each on the side that does it.
    rx.try_recv_batch(&mut [0; 8]);
    rx.set_wait(Wait::Block);
    let before = ring.stats();
    // Before the first sleep it looks for messages, and the deadline may pass meanwhile on a busy machine.
    eventually("it has slept", || {
        assert!(rx.recv_timeout(SHORT).is_err());
        ring.stats().waits > before.waits
    });
    let waits = ring.stats().waits;
    let sleeper = thread::spawn(move || {
        rx.recv_timeout(PATIENCE).unwrap();
        rx
    });
    eventually("the receiver sleeps", || ring.stats().waits > waits);
    let wakes = ring.stats().wakes;
    tx.send(1).unwrap();
    let rx = sleeper.join().unwrap();
    assert!(ring.stats().wakes > wakes);
    // Who is there, and who was.
    let stats = ring.stats();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(stats.participants.len(), 2);
    for side in &stats.participants {
        assert_eq!((side.pid, side.alive, side.left), (std::process::id(), true, false));
        assert_eq!(side.incarnation, 1);
        let age = now.as_nanos().abs_diff(u128::from(side.since));
        assert!(age < 600_000_000_000, "since {}", side.since);
    }
    drop(rx);
    let mut child = fork(|line| {
        let _rx = open(&name).receiver().unwrap();
        line.say(1);
        line.hear();
    });
    child.line.expect(1);
    let of = |role| ring.stats().participants.into_iter().find(|side| side.role == role).unwrap();
    let there = of(Role::Receiver);
    assert_eq!((there.pid, there.alive, there.incarnation), (child.pid(), true, 2));
    child.kill();
    let dead = of(Role::Receiver);
    assert_eq!((dead.alive, dead.left), (false, false));
    assert_eq!(ring.stats().repairs, 0);
    drop(ring.receiver().unwrap());
    assert_eq!(ring.stats().repairs, 1);
    let gone = of(Role::Receiver);
    assert_eq!((gone.alive, gone.left, gone.incarnation), (false, true, 3));
    assert_eq!(
        annulus::inspect::Snapshot::open(&Place::name(&name).unwrap()).unwrap().stats,
        ring.stats()
    );
}
