//! What a forked child is told by its parent's handles: that they are the parent's, by each verb. A verb that looked at the
//! ring first would end the child by SIGSEGV, for it has no mapping.
//!
//! The handles block and are bound to one processor where that can be: what a wait looks at before its first attempt
//! depends on both.

mod processes;

use annulus::{
    AcquireError, Address, Broadcast, BroadcastRecvError, ByteBroadcast, ByteDuplex, ByteRing,
    ByteSendError, Delivery, Duplex, Event, EventError, FdsError, Hub, Latest, LatestError,
    Listener, MailRecvError, MailSendError, Mailbox, Place, RecvError, RecvIntoError,
    RecvTimeoutError, ReleaseError, Ring, Select, Semaphore, SendError, SendTimeoutError, Start,
    Stream, Topology, TryAcquireError, TryRecvError, TrySendError, UntypedLatest, UntypedRing,
    Wait,
};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};
use processes::{eventually, fork, unique};
use std::fmt::Debug;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(1);

fn place() -> Place {
    Place::memfd("forked").unwrap()
}

/// Binds this thread to one of its processors.
fn bind() {
    let mine = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let first = (0..CpuSet::count()).find(|&cpu| mine.is_set(cpu).unwrap()).unwrap();
    let mut one = CpuSet::new();
    one.set(first).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
}

/// Runs `verbs` in a forked child.
fn in_a_child(verbs: impl FnOnce()) {
    fork(|_| verbs()).finish();
}

/// Shows handles in a forked child, as a log would: without what they refer to, and so in few words.
fn show_in_a_child(handles: &[&dyn Debug]) {
    in_a_child(|| {
        for handle in handles {
            let shown = format!("{handle:?}");
            assert!(shown.len() < 3000 && !shown.contains("0x"), "{shown}");
        }
    });
}

/// Calls `verb` with what forks a child in the middle of it, which goes on, too, and tells the two apart. In the child it is
/// to give `expected`; gives what it gave in the parent. A panic in the child is `None`.
fn forks_within<R: PartialEq + Debug>(
    expected: Option<R>,
    verb: impl FnOnce(&mut dyn FnMut() -> bool) -> R,
) -> R {
    let mut child = None;
    let mut is_child = || match child {
        Some(pid) => pid == Pid::from_raw(0),
        None => {
            // SAFETY: as for `processes::fork`.
            let pid = match unsafe { nix::unistd::fork() }.unwrap() {
                ForkResult::Child => Pid::from_raw(0),
                ForkResult::Parent { child } => child,
            };
            child = Some(pid);
            pid == Pid::from_raw(0)
        }
    };
    let given = catch_unwind(AssertUnwindSafe(|| verb(&mut is_child))).ok();
    if is_child() {
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(i32::from(given != expected)) }
    }
    let pid = child.expect("it has forked");
    let mut end = WaitStatus::StillAlive;
    eventually("the child ends", || {
        end = waitpid(pid, Some(WaitPidFlag::WNOHANG)).unwrap();
        end != WaitStatus::StillAlive
    });
    assert_eq!(end, WaitStatus::Exited(pid, 0), "the child");
    given.expect("the parent's does not panic")
}

fn soon() -> Instant {
    Instant::now() + SHORT
}

#[test]
fn of_rings() {
    bind();
    for topology in [Topology::Spsc, Topology::Mpsc, Topology::Spmc, Topology::Mpmc] {
        let ring = Ring::<u64>::builder(4).topology(topology).create(place()).unwrap();
        let mut tx = ring.sender().unwrap().with_wait(Wait::Block);
        let mut rx = ring.receiver().unwrap().with_wait(Wait::Block);
        tx.send(1).unwrap();
        show_in_a_child(&[&ring, &tx, &rx]);
        in_a_child(|| {
            assert_eq!(tx.try_send(2), Err(TrySendError::Forked(2)));
            assert_eq!(tx.send(2), Err(SendError::Forked(2)));
            assert_eq!(tx.send_timeout(2, SHORT), Err(SendTimeoutError::Forked(2)));
            assert_eq!(tx.send_deadline(2, soon()), Err(SendTimeoutError::Forked(2)));
            assert_eq!(tx.try_send_batch(&[2]), 0);
            assert_eq!(tx.try_send_from([2]), 0);
            assert_eq!(tx.send_all(&[2]).unwrap_err().cause, SendError::Forked(()));
            assert!(!tx.wait_for_peer(SHORT));
            tx.set_wait(Wait::Spin);
            assert_eq!((tx.len(), tx.stats().sent), (0, 0));
        });
        in_a_child(|| {
            assert_eq!(rx.try_recv(), Err(TryRecvError::Forked));
            assert_eq!(rx.recv(), Err(RecvError::Forked));
            assert_eq!(rx.recv_timeout(SHORT), Err(RecvTimeoutError::Forked));
            assert_eq!(rx.recv_deadline(soon()), Err(RecvTimeoutError::Forked));
            assert_eq!(rx.try_recv_batch(&mut [0; 2]), 0);
            assert_eq!(rx.recv_batch(&mut [0; 2]), Err(RecvError::Forked));
            assert_eq!(rx.try_claim().unwrap_err(), TryRecvError::Forked);
            assert_eq!(rx.claim().unwrap_err(), RecvError::Forked);
            assert_eq!(rx.drain(2).count() + rx.iter().count() + rx.try_iter().count(), 0);
            assert!(!rx.wait_for_peer(SHORT));
            rx.set_wait(Wait::Spin);
        });
        assert_eq!(rx.recv(), Ok(1), "what the parent has is as it was");
    }
}

/// What is called from within a verb may fork, and returns in the child, too.
#[test]
fn that_was_forked_in_the_middle_of_a_verb() {
    for topology in [Topology::Spsc, Topology::Mpsc, Topology::Spmc, Topology::Mpmc] {
        let ring = Ring::<u64>::builder(64).topology(topology).create(place()).unwrap();
        let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
        // The child has none of what comes after the fork: neither a message, nor the end, nor a panic.
        let sent = forks_within(Some(0), |is_child| {
            tx.try_send_from((0..40u64).inspect(|&i| _ = i == 20 && is_child()))
        });
        assert_eq!(sent, 40);
        let sent = forks_within(Some(0), |is_child| {
            tx.try_send_from((40..50).map_while(|i| (i < 45 || !is_child()).then_some(i)))
        });
        assert_eq!(sent, 10);
        let sent = forks_within(None, |is_child| {
            let panics = |&i: &u64| assert!(i < 55 || !is_child(), "on purpose");
            tx.try_send_from((50..60).inspect(panics))
        });
        assert_eq!(sent, 10);
        // What it was given before, it keeps. What comes next may be in another line of memory.
        let mut next = 0;
        for count in 1..10 {
            let last = next + count - 1;
            let drained = forks_within(Some(count), |is_child| {
                rx.drain(count as usize + 1).inspect(|&i| _ = i == last && is_child()).count()
                    as u64
            });
            assert_eq!(drained, count + 1, "from {next}");
            next += drained;
        }
        assert_eq!(rx.try_recv(), Ok(next));
    }
}

#[test]
fn of_untyped_rings() {
    bind();
    for topology in [Topology::Spsc, Topology::Mpmc] {
        let ring = UntypedRing::builder(4, 8).topology(topology).create(place()).unwrap();
        let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
        tx.set_wait(Wait::Block);
        rx.set_wait(Wait::Block);
        in_a_child(|| {
            assert_eq!(tx.try_send(&[0; 8]), Err(ByteSendError::Forked));
            assert_eq!(tx.send(&[0; 8]), Err(ByteSendError::Forked));
            assert_eq!(tx.send_timeout(&[0; 8], SHORT), Err(ByteSendError::Forked));
            assert_eq!(tx.try_send_batch(&[0; 16]), 0);
            assert!(!tx.wait_for_peer(SHORT));
        });
        in_a_child(|| assert_eq!(rx.wait_ready(SHORT), Err(RecvTimeoutError::Forked)));
        in_a_child(|| {
            let mut message = [0; 8];
            assert_eq!(rx.try_recv(&mut message), Err(RecvIntoError::Forked));
            assert_eq!(rx.recv(&mut message), Err(RecvIntoError::Forked));
            assert_eq!(rx.recv_timeout(&mut message, SHORT), Err(RecvIntoError::Forked));
            assert_eq!(rx.try_peek_batch(&mut message), Err(TryRecvError::Forked));
            assert_eq!(rx.skip(1) + rx.try_recv_batch(&mut message), 0);
            assert!(!rx.wait_for_peer(SHORT));
        });
    }
}

#[test]
fn of_byte_rings_and_streams() {
    bind();
    for topology in [Topology::Spsc, Topology::Mpsc] {
        let ring = ByteRing::builder(100).topology(topology).create(place()).unwrap();
        let mut tx = ring.sender().unwrap().with_wait(Wait::Block);
        let mut rx = ring.receiver().unwrap().with_wait(Wait::Block);
        show_in_a_child(&[&ring, &tx, &rx]);
        in_a_child(|| {
            assert_eq!(tx.try_send(b"no"), Err(ByteSendError::Forked));
            assert_eq!(tx.send(b"no"), Err(ByteSendError::Forked));
            assert_eq!(tx.send_timeout(b"no", SHORT), Err(ByteSendError::Forked));
            assert_eq!(tx.send_deadline(b"no", soon()), Err(ByteSendError::Forked));
            assert_eq!(tx.try_reserve(2).unwrap_err(), ByteSendError::Forked);
            assert_eq!(tx.reserve(2).unwrap_err(), ByteSendError::Forked);
            assert!(!tx.wait_for_peer(SHORT));
        });
        in_a_child(|| assert_eq!(rx.wait_ready(SHORT), Err(RecvTimeoutError::Forked)));
        in_a_child(|| {
            let mut message = Vec::new();
            assert_eq!(rx.try_recv(&mut message), Err(TryRecvError::Forked));
            assert_eq!(rx.recv(&mut message), Err(RecvError::Forked));
            assert_eq!(rx.recv_timeout(&mut message, SHORT), Err(RecvTimeoutError::Forked));
            assert_eq!(rx.recv_deadline(&mut message, soon()), Err(RecvTimeoutError::Forked));
            assert_eq!(rx.try_recv_into(&mut [0; 9]), Err(RecvIntoError::Forked));
            assert_eq!(rx.recv_into(&mut [0; 9]), Err(RecvIntoError::Forked));
            assert_eq!(rx.try_claim().unwrap_err(), TryRecvError::Forked);
            assert_eq!(rx.claim().unwrap_err(), RecvError::Forked);
            assert_eq!(rx.try_peek_batch(|_| true), Err(TryRecvError::Forked));
            assert_eq!(rx.try_recv_batch(3, |_| {}) + rx.skip(3), 0);
            assert!(!rx.wait_for_peer(SHORT));
        });
    }
    let (mut reader, mut writer) = Stream::pipe().unwrap();
    reader.set_wait(Wait::Block);
    writer.set_wait(Wait::Block);
    in_a_child(|| {
        assert!(reader.read(&mut [0; 9]).is_err() && writer.write(b"no").is_err());
        assert_eq!((reader.ending(), writer.ending()), (None, None));
        assert!(!reader.wait_for_peer(SHORT) && !writer.wait_for_peer(SHORT));
    });
}

#[test]
fn of_variables() {
    bind();
    let variable = Latest::<u64>::builder().create(place()).unwrap();
    let (mut tx, mut rx) = (variable.writer().unwrap(), variable.reader().unwrap());
    rx.set_wait(Wait::Block);
    show_in_a_child(&[&variable, &tx, &rx]);
    in_a_child(|| {
        assert_eq!(tx.set(1), Err(LatestError::Forked));
        assert_eq!(variable.peek(), Err(LatestError::Forked));
        assert_eq!(rx.get(), Err(LatestError::Forked));
        assert_eq!(rx.read(&mut 0), Err(LatestError::Forked));
        // SAFETY: there is no value.
        assert_eq!(unsafe { rx.get_ref() }, Err(LatestError::Forked));
        assert_eq!(rx.read_if_newer(0), Err(LatestError::Forked));
        assert_eq!(rx.wait_for_change(), Err(LatestError::Forked));
        assert_eq!(rx.wait_for_change_timeout(SHORT), Err(LatestError::Forked));
        assert!(!rx.wait_for_peer(SHORT));
    });
    let variable = UntypedLatest::builder(8).create(place()).unwrap();
    let (mut tx, mut rx) = (variable.writer().unwrap(), variable.reader().unwrap());
    rx.set_wait(Wait::Block);
    in_a_child(|| {
        assert_eq!(tx.set(&[0; 8]), Err(LatestError::Forked));
        assert_eq!(rx.read(&mut [0; 8]), Err(LatestError::Forked));
        assert_eq!(rx.wait_for_change(&mut [0; 8]), Err(LatestError::Forked));
    });
}

#[test]
fn of_broadcasts() {
    bind();
    for delivery in [Delivery::Gate, Delivery::Lossy] {
        let broadcast = Broadcast::<u64>::builder(4).create(place()).unwrap();
        let mut tx = broadcast.sender().unwrap().with_wait(Wait::Block);
        let mut rx = broadcast.receiver(delivery, Start::Now).unwrap().with_wait(Wait::Block);
        show_in_a_child(&[&broadcast, &tx, &rx]);
        in_a_child(|| {
            assert_eq!(tx.try_send(1), Err(TrySendError::Forked(1)));
            assert_eq!(tx.send(1), Err(SendError::Forked(1)));
            assert_eq!(tx.send_timeout(1, SHORT), Err(SendTimeoutError::Forked(1)));
            assert_eq!(tx.try_send_batch(&[1]), 0);
            assert_eq!(tx.send_all(&[1]).unwrap_err().cause, SendError::Forked(()));
        });
        in_a_child(|| {
            assert_eq!(rx.try_recv(), Err(BroadcastRecvError::Forked));
            assert_eq!(rx.recv(), Err(BroadcastRecvError::Forked));
            assert_eq!(rx.recv_timeout(SHORT), Err(BroadcastRecvError::Forked));
            assert_eq!(rx.try_recv_batch(&mut [0; 2]), Err(BroadcastRecvError::Forked));
            assert_eq!(rx.recv_batch(&mut [0; 2]), Err(BroadcastRecvError::Forked));
            assert_eq!(rx.rejoin(Start::Now), Err(BroadcastRecvError::Forked));
            assert!(!rx.is_evicted() && rx.iter().count() + rx.try_iter().count() == 0);
        });
        let broadcast = ByteBroadcast::builder(4, 8).create(place()).unwrap();
        let mut tx = broadcast.sender().unwrap().with_wait(Wait::Block);
        let mut rx = broadcast.receiver(delivery, Start::Now).unwrap().with_wait(Wait::Block);
        in_a_child(|| {
            assert_eq!(tx.try_send(b"no"), Err(ByteSendError::Forked));
            assert_eq!(tx.send(b"no"), Err(ByteSendError::Forked));
        });
        in_a_child(|| assert_eq!(rx.wait_ready(SHORT), Err(BroadcastRecvError::Forked)));
        in_a_child(|| {
            assert_eq!(rx.try_recv(), Err(BroadcastRecvError::Forked));
            assert_eq!(rx.recv(), Err(BroadcastRecvError::Forked));
            assert_eq!(rx.rejoin(Start::Now), Err(BroadcastRecvError::Forked));
        });
    }
}

#[test]
fn of_semaphores_and_events() {
    bind();
    let semaphore = Semaphore::counting(2).create(place()).unwrap();
    let mut holder = semaphore.holder().unwrap().with_wait(Wait::Block);
    show_in_a_child(&[&semaphore, &holder]);
    in_a_child(|| {
        assert_eq!(holder.wait_zero(), Err(AcquireError::Forked));
        assert_eq!(holder.acquire().unwrap_err(), AcquireError::Forked);
        assert_eq!(holder.acquire_many(2).unwrap_err(), AcquireError::Forked);
        assert_eq!(holder.try_acquire().unwrap_err(), TryAcquireError::Forked);
        assert_eq!(holder.post(1), Err(ReleaseError::Forked));
        assert_eq!(holder.release(1), Err(ReleaseError::Forked));
    });
    let event = Event::builder().create(place()).unwrap();
    let mut handle = event.handle().unwrap().with_wait(Wait::Block);
    show_in_a_child(&[&event, &handle]);
    in_a_child(|| {
        assert_eq!(handle.wait_any(1), Err(EventError::Forked));
        assert_eq!(handle.wait_all(1), Err(EventError::Forked));
        assert_eq!(handle.take(1), Err(EventError::Forked));
        assert_eq!(handle.raise(1), Err(EventError::Forked));
        assert_eq!((handle.value(), event.value()), (Err(EventError::Forked), 0));
    });
}

#[test]
fn of_mailboxes() {
    bind();
    let mailbox = Mailbox::builder(4, 8).types(2).create(place()).unwrap();
    let mut tx = mailbox.sender().unwrap().with_wait(Wait::Block);
    let mut rx = mailbox.receiver().unwrap().with_wait(Wait::Block);
    let mut news = mailbox.subscribe(Select::Any).unwrap();
    show_in_a_child(&[&mailbox, &tx, &rx, &news]);
    in_a_child(|| {
        assert_eq!(tx.try_send(1, b"no"), Err(MailSendError::Forked));
        assert_eq!(tx.send(1, b"no"), Err(MailSendError::Forked));
        assert_eq!(rx.try_recv(Select::Any, &mut [0; 8]), Err(MailRecvError::Forked));
        assert_eq!(rx.recv(Select::Any, &mut [0; 8]), Err(MailRecvError::Forked));
        assert_eq!(rx.try_peek(Select::Any, 0, &mut [0; 8]), Err(MailRecvError::Forked));
        assert_eq!(news.try_wait(), Err(MailRecvError::Forked));
        assert_eq!(news.wait(), Err(MailRecvError::Forked));
        assert_eq!((mailbox.len(), mailbox.len_of(1), mailbox.is_removed()), (0, 0, false));
    });
}

/// Two ends of a connection.
fn pair<F: annulus::Face + Send + 'static>() -> (F, F) {
    let address = Address::name(unique("forked-child"));
    let mut listener = Listener::bind(address.clone()).unwrap();
    let client = std::thread::spawn(move || annulus::connect::<F>(address).unwrap());
    let server = listener.accept().unwrap();
    (server, client.join().unwrap())
}

#[test]
fn of_connections() {
    bind();
    let (mut one, _other) = pair::<Duplex<u64>>();
    one.set_wait(Wait::Block);
    show_in_a_child(&[&one]);
    in_a_child(|| assert!(matches!(one.try_recv_with_fds(), Err(FdsError::Forked))));
    in_a_child(|| assert!(matches!(one.recv_with_fds(), Err(FdsError::Forked))));
    in_a_child(|| assert!(matches!(one.send_with_fds(1, &[]), Err(FdsError::Forked))));
    in_a_child(|| {
        assert_eq!(one.try_send(1), Err(TrySendError::Forked(1)));
        assert_eq!(one.send(1), Err(SendError::Forked(1)));
        assert_eq!(one.try_recv(), Err(TryRecvError::Forked));
        assert_eq!(one.recv(), Err(RecvError::Forked));
    });
    let (mut one, _other) = pair::<ByteDuplex>();
    one.set_wait(Wait::Block);
    let message = &mut Vec::new();
    in_a_child(|| assert!(matches!(one.try_recv_with_fds(message), Err(FdsError::Forked))));
    in_a_child(|| assert!(matches!(one.recv_with_fds(message), Err(FdsError::Forked))));
    in_a_child(|| assert!(matches!(one.send_with_fds(b"no", &[]), Err(FdsError::Forked))));
    in_a_child(|| {
        assert_eq!(one.try_send(b"no"), Err(ByteSendError::Forked));
        assert_eq!(one.try_recv(message), Err(TryRecvError::Forked));
        assert_eq!(one.recv(message), Err(RecvError::Forked));
    });
}

#[test]
fn of_hubs() {
    bind();
    let address = Address::name(unique("forked-hub"));
    let mut hub = Hub::<Duplex<u64>>::new(Listener::bind(address.clone()).unwrap()).unwrap();
    let client = std::thread::spawn(move || annulus::connect::<Duplex<u64>>(address).unwrap());
    let id = loop {
        if let annulus::HubEvent::Joined(id) = hub.next().unwrap() {
            break id;
        }
    };
    let _client = client.join().unwrap();
    in_a_child(|| {
        assert!(hub.next().is_err() && hub.next_timeout(SHORT).is_err());
        assert_eq!(hub.try_send(id, 1), Err(TrySendError::Forked(1)));
        assert!(hub.remove(id).is_some());
    });
    assert_eq!(hub.len(), 1);
}
