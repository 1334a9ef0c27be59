//! Handles with a descriptor to poll: it is readable when there is something, and nothing is missed.

mod processes;
#[path = "support/scribble.rs"]
#[allow(dead_code)]
mod scribble;

use annulus::{
    Broadcast, BroadcastReceiver, BroadcastRecvError, ByteBroadcast, ByteRing, Delivery, Event,
    Latest, MailRecvError, Mailbox, Place, Pollable, Ring, Select, SetupError, Source, Start,
    Stream, Topology, TryRecvError, Wait,
};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use processes::{PATIENCE, eventually, fork};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Messages that are waited for, some of them.
const MESSAGES: u64 = 100_000;
/// Flags that somebody waits for, and others.
const OURS: u64 = 0b0110;
const THEIRS: u64 = 0b1000;

fn memfd() -> Place {
    Place::memfd("pollable").unwrap()
}

fn is_readable(pollable: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(pollable.as_fd(), PollFlags::POLLIN)];
    nix::poll::poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
}

/// Waits in the way of a poll loop.
fn wait(pollable: &impl AsFd) {
    let mut fds = [PollFd::new(pollable.as_fd(), PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(PATIENCE).unwrap();
    assert_eq!(nix::poll::poll(&mut fds, patience).unwrap(), 1, "nothing in time");
}

/// What a poll loop does until `step` says that it is done: `step` does what there is to do.
fn serve<H: Source<Interest = ()>>(
    pollable: &mut Pollable<H>,
    mut step: impl FnMut(&mut Pollable<H>) -> bool,
) {
    loop {
        wait(pollable);
        loop {
            if step(pollable) {
                return;
            }
            if pollable.arm().is_pending() {
                break;
            }
        }
    }
}

/// Sends in bursts, with pauses that let the other side fall asleep or not.
fn in_bursts(mut send: impl FnMut(u64)) {
    for i in 0..MESSAGES {
        send(i);
        match i % 997 {
            0 => thread::sleep(Duration::from_micros(i % 150)),
            7 | 100 | 101 | 500 => thread::yield_now(),
            _ => {}
        }
    }
}

#[test]
fn it_is_readable_unless_it_is_armed_and_there_is_nothing() {
    let ring = Ring::<u64>::builder(8).create(memfd()).unwrap();
    let mut tx = ring.sender().unwrap();
    let mut rx = Pollable::new(ring.receiver().unwrap()).unwrap();
    assert!(is_readable(&rx), "it was never armed");
    assert!(rx.arm().is_pending() && !is_readable(&rx));
    assert!(rx.arm().is_pending() && !is_readable(&rx));
    tx.send(1).unwrap();
    wait(&rx);
    assert!(rx.arm().is_ready() && is_readable(&rx));
    assert_eq!(rx.try_recv(), Ok(1));
    assert!(is_readable(&rx), "only arming it makes it unreadable");
    assert!(rx.arm().is_pending() && !is_readable(&rx));
    // Found by `arm` before the thread, or not: it is readable.
    tx.send(2).unwrap();
    assert!(rx.arm().is_ready() && is_readable(&rx));
    let mut rx = rx.into_inner();
    assert_eq!(rx.recv(), Ok(2));
}

#[test]
fn what_is_known_of_a_batch_counts() {
    let ring = Ring::<u64>::builder(256).create(memfd()).unwrap();
    let mut rx = Pollable::new(ring.receiver().unwrap()).unwrap();
    let mut tx = ring.sender().unwrap();
    tx.send_all(&[1; 100]).unwrap();
    for _ in 0..100 {
        assert!(rx.arm().is_ready());
        assert_eq!(rx.try_recv(), Ok(1));
    }
    assert!(rx.arm().is_pending());
    let news = Broadcast::<u64>::builder(256).create(memfd()).unwrap();
    let mut rx = Pollable::new(news.receiver(Delivery::Gate, Start::Now).unwrap()).unwrap();
    news.sender().unwrap().send_all(&[1; 100]).unwrap();
    for _ in 0..100 {
        assert!(rx.arm().is_ready());
        assert_eq!(rx.try_recv(), Ok(1));
    }
}

/// One ring, with the ways of waiting that ask different things of the sender.
#[test]
fn nothing_is_missed() {
    for way in [Wait::Adaptive, Wait::Block] {
        let ring = Ring::<u64>::builder(64).create(memfd()).unwrap();
        let fd = ring.inheritable_fd().unwrap();
        let child = fork(move |_| {
            let mut tx = Ring::<u64>::from_fd(fd).unwrap().sender().unwrap();
            in_bursts(|i| tx.send(i).unwrap());
        });
        let mut rx = Pollable::new(ring.receiver().unwrap().with_wait(way)).unwrap();
        let mut next = 0;
        serve(&mut rx, |rx| {
            while let Ok(message) = rx.try_recv() {
                assert_eq!(message, next);
                next += 1;
            }
            next == MESSAGES
        });
        serve(&mut rx, |rx| rx.try_recv() == Err(TryRecvError::Disconnected));
        child.finish();
    }
}

#[test]
fn nothing_is_missed_of_bytes() {
    for topology in [Topology::Spsc, Topology::Mpsc] {
        let builder = ByteRing::builder(4096).topology(topology).participants(3);
        let ring = builder.create(memfd()).unwrap();
        let senders = if topology == Topology::Spsc { 1 } else { 3 };
        let children: Vec<_> = (0..senders)
            .map(|_| {
                let fd = ring.inheritable_fd().unwrap();
                fork(move |_| {
                    let mut tx = ByteRing::from_fd(fd).unwrap().sender().unwrap();
                    in_bursts(|i| tx.send(&i.to_le_bytes()).unwrap());
                })
            })
            .collect();
        let mut rx = Pollable::new(ring.receiver().unwrap()).unwrap();
        let (mut count, mut message) = (0, Vec::new());
        serve(&mut rx, |rx| {
            while rx.try_recv(&mut message).is_ok() {
                count += 1;
            }
            count == senders * MESSAGES
        });
        children.into_iter().for_each(|child| child.finish());
    }
}

#[test]
fn nothing_is_missed_by_several_receivers() {
    let builder = Ring::<u64>::builder(64).topology(Topology::Mpmc).participants(8);
    let ring = builder.create(memfd()).unwrap();
    let children: Vec<_> = (0..2)
        .map(|_| {
            let fd = ring.inheritable_fd().unwrap();
            fork(move |_| {
                let mut tx = Ring::<u64>::from_fd(fd).unwrap().sender().unwrap();
                in_bursts(|i| tx.send(i).unwrap());
            })
        })
        .collect();
    // Two who poll, and one who blocks: together they get all.
    let polls = |ring: Ring<u64>| {
        let mut rx = Pollable::new(ring.receiver().unwrap()).unwrap();
        let mut count = 0;
        serve(&mut rx, |rx| {
            loop {
                match rx.try_recv() {
                    Ok(_) => count += 1,
                    Err(error) => break error == TryRecvError::Disconnected,
                }
            }
        });
        count
    };
    let blocks = |ring: Ring<u64>| {
        let mut rx = ring.receiver().unwrap();
        let mut count = 0;
        while rx.recv().is_ok() {
            count += 1;
        }
        count
    };
    let receivers: [fn(Ring<u64>) -> u64; 3] = [polls, polls, blocks];
    let receivers = receivers.map(|receive| {
        let ring = ring.clone();
        thread::spawn(move || receive(ring))
    });
    let counts = receivers.map(|thread| thread.join().unwrap());
    assert_eq!(counts.iter().sum::<u64>(), 2 * MESSAGES, "{counts:?}");
    children.into_iter().for_each(|child| child.finish());
}

#[test]
fn nothing_is_missed_of_a_stream() {
    let stream = Stream::builder(4096).create(memfd()).unwrap();
    let fd = stream.inheritable_fd().unwrap();
    let child = fork(move |_| {
        let mut tx = Stream::from_fd(fd).unwrap().writer().unwrap();
        in_bursts(|i| tx.write_all(&i.to_le_bytes()).unwrap());
    });
    let mut rx = stream.reader().unwrap();
    rx.set_nonblocking(true);
    let mut rx = Pollable::new(rx).unwrap();
    let (mut bytes, mut buffer) = (0, [0; 1000]);
    serve(&mut rx, |rx| {
        loop {
            match rx.read(&mut buffer) {
                Ok(0) => break true,
                Ok(count) => bytes += count as u64,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break false;
                }
            }
        }
    });
    assert_eq!(bytes, 8 * MESSAGES);
    child.finish();
}

#[test]
fn nothing_is_missed_of_a_broadcast() {
    let news = Broadcast::<u64>::builder(64).create(memfd()).unwrap();
    let fd = news.inheritable_fd().unwrap();
    let gate = news.receiver(Delivery::Gate, Start::Now).unwrap();
    let lossy = news.receiver(Delivery::Lossy, Start::Now).unwrap();
    let child = fork(move |_| {
        let mut tx = Broadcast::<u64>::from_fd(fd).unwrap().sender().unwrap();
        in_bursts(|i| tx.send(i).unwrap());
    });
    // Each message is received, or said to be missed.
    let receive = |rx: BroadcastReceiver<u64>| {
        let mut rx = Pollable::new(rx).unwrap();
        let mut next = 0;
        serve(&mut rx, |rx| {
            loop {
                match rx.try_recv() {
                    Ok(message) => {
                        assert_eq!(message, next);
                        next += 1;
                    }
                    Err(BroadcastRecvError::Lagged(missed)) => next += missed,
                    Err(error) => break error == BroadcastRecvError::Disconnected,
                }
            }
        });
        assert_eq!(next, MESSAGES);
    };
    let lossy = thread::spawn(move || receive(lossy));
    receive(gate);
    lossy.join().unwrap();
    child.finish();
}

#[test]
fn who_is_evicted_is_told() {
    let news = ByteBroadcast::builder(4, 16).create(memfd()).unwrap();
    let mut rx = Pollable::new(news.receiver(Delivery::Gate, Start::Now).unwrap()).unwrap();
    let mut tx = news.sender().unwrap();
    tx.set_patience(Some(Duration::from_millis(1)));
    assert!(rx.arm().is_pending());
    (0..10).for_each(|_| tx.send(b"news").unwrap());
    serve(&mut rx, |rx| {
        loop {
            match rx.try_recv() {
                Ok(message) => assert_eq!(message, b"news"),
                Err(error) => break error == BroadcastRecvError::Evicted,
            }
        }
    });
}

#[test]
fn a_killed_peer_is_noticed() {
    let ring = Ring::<u64>::builder(8).create(memfd()).unwrap();
    let bytes = ByteRing::builder(64).topology(Topology::Mpsc).create(memfd()).unwrap();
    let fds = (ring.inheritable_fd().unwrap(), bytes.inheritable_fd().unwrap());
    let mut child = fork(move |line| {
        let mut tx = Ring::<u64>::from_fd(fds.0).unwrap().sender().unwrap();
        let _also = ByteRing::from_fd(fds.1).unwrap().sender().unwrap();
        tx.send(1).unwrap();
        line.say(1);
        line.wait_for_end();
    });
    child.line.expect(1);
    let mut rx = Pollable::new(ring.receiver().unwrap()).unwrap();
    let mut bytes = Pollable::new(bytes.receiver().unwrap()).unwrap();
    assert_eq!(rx.try_recv(), Ok(1));
    // The child may be between a publication and its wake, of which there is nothing: pending in the end.
    eventually("both are armed", || rx.arm().is_pending() & bytes.arm().is_pending());
    child.kill();
    serve(&mut rx, |rx| rx.try_recv() == Err(TryRecvError::Disconnected));
    let mut message = Vec::new();
    serve(&mut bytes, |rx| rx.try_recv(&mut message) == Err(TryRecvError::Disconnected));
    assert!(
        rx.arm().is_ready() || {
            wait(&rx);
            true
        }
    );
}

/// What a receiver had that was killed is handed out again, and a killed sender is stepped over.
#[test]
fn what_the_dead_had_is_found() {
    let builder = Ring::<u64>::builder(8).topology(Topology::Spmc).participants(4);
    let ring = builder.create(memfd()).unwrap();
    let fd = ring.inheritable_fd().unwrap();
    let mut tx = ring.sender().unwrap();
    tx.send(5).unwrap();
    let mut child = fork(move |line| {
        let mut rx = Ring::<u64>::from_fd(fd).unwrap().receiver().unwrap();
        let claimed = rx.try_claim().unwrap();
        line.say(1);
        line.wait_for_end();
        drop(claimed);
    });
    child.line.expect(1);
    let mut rx = Pollable::new(ring.receiver().unwrap()).unwrap();
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    let _ = rx.arm();
    child.kill();
    serve(&mut rx, |rx| rx.try_recv() == Ok(5));
}

#[test]
fn room_is_waited_for() {
    let ring = Ring::<u64>::builder(4).create(memfd()).unwrap();
    let (mut tx, mut rx) =
        (Pollable::new(ring.sender().unwrap()).unwrap(), ring.receiver().unwrap());
    assert!(tx.arm().is_ready());
    (0..4).for_each(|i| tx.try_send(i).unwrap());
    assert!(tx.arm().is_pending() && !is_readable(&tx));
    assert_eq!(rx.recv(), Ok(0));
    wait(&tx);
    tx.try_send(4).unwrap();
    assert!(tx.arm().is_pending());
    drop(rx);
    serve(&mut tx, |tx| {
        tx.try_send(5).is_err_and(|e| !matches!(e, annulus::TrySendError::Full(_)))
    });

    let ring = ByteRing::builder(64).create(memfd()).unwrap();
    let mut tx = Pollable::new(ring.sender().unwrap()).unwrap();
    assert!(tx.arm_for(1000).is_ready(), "it never fits, which the call says");
    let mut rx = ring.receiver().unwrap();
    let receiver = thread::spawn(move || {
        let (mut count, mut message) = (0, Vec::new());
        while rx.recv(&mut message).is_ok() {
            count += 1;
        }
        count
    });
    for i in 0..1000 {
        let message = [1; 60];
        let message = &message[..i % 60];
        while tx.try_send(message).is_err() {
            if tx.arm_for(message.len()).is_pending() {
                wait(&tx);
            }
        }
    }
    drop(tx);
    assert_eq!(receiver.join().unwrap(), 1000);

    let builder = Ring::<u64>::builder(4).topology(Topology::Mpsc);
    let ring = builder.create(memfd()).unwrap();
    let mut tx = Pollable::new(ring.sender().unwrap()).unwrap();
    let mut rx = ring.receiver().unwrap();
    (0..4).for_each(|i| tx.try_send(i).unwrap());
    assert!(tx.arm().is_pending());
    assert_eq!(rx.recv(), Ok(0));
    wait(&tx);
    tx.try_send(4).unwrap();
}

#[test]
fn flags_are_told_by_mask() {
    let event = Event::builder().create(memfd()).unwrap();
    let mut raiser = event.handle().unwrap();
    let mut ours = Pollable::new(event.handle().unwrap()).unwrap();
    let mut theirs = Pollable::new(event.handle().unwrap()).unwrap();
    assert!(ours.arm_for(0).is_ready(), "of nothing there is nothing to wait for");
    for round in 0..1000_u64 {
        assert!(ours.arm_for(OURS).is_pending() && theirs.arm_for(THEIRS).is_pending());
        // Whose flag it is not goes on sleeping, and hears of the next one.
        raiser.raise(THEIRS).unwrap();
        wait(&theirs);
        assert_eq!(theirs.try_take(THEIRS), Ok(THEIRS));
        assert!(!is_readable(&ours), "{round}");
        assert!(theirs.arm_for(THEIRS).is_pending());
        raiser.raise(0b0010 << (round % 2)).unwrap();
        wait(&ours);
        assert_eq!(ours.try_take(OURS), Ok(0b0010 << (round % 2)));
        assert!(!is_readable(&theirs), "{round}");
        // Both at once.
        assert!(ours.arm_for(OURS).is_pending());
        raiser.raise(OURS | THEIRS).unwrap();
        wait(&ours);
        wait(&theirs);
        raiser.clear(OURS | THEIRS).unwrap();
    }
}

#[test]
fn a_mailbox_is_told_by_choice_and_of_its_removal() {
    let mailbox = Mailbox::builder(16, 16).types(8).create(memfd()).unwrap();
    let mut tx = mailbox.sender().unwrap();
    let mut rx = Pollable::new(mailbox.receiver().unwrap()).unwrap();
    let mut buffer = [0; 16];
    assert!(rx.arm_for(Select::Type(9)).is_ready(), "it never matches, which the call says");
    for round in 0..200 {
        for (select, kind) in
            [(Select::Any, 3), (Select::Type(4), 4), (Select::AtMost(5), 2), (Select::Except(6), 7)]
        {
            assert!(rx.arm_for(select).is_pending(), "{round} {select:?}");
            tx.send(6, b"another").unwrap();
            if select == Select::Any {
                wait(&rx);
                assert_eq!(rx.try_recv(Select::Any, &mut buffer).unwrap().kind, 6);
                assert!(rx.arm_for(select).is_pending());
            }
            tx.send(kind, b"ours").unwrap();
            wait(&rx);
            assert_eq!(rx.try_recv(select, &mut buffer).unwrap().kind, kind);
            while rx.try_recv(Select::Any, &mut buffer).is_ok() {}
        }
    }
    assert!(rx.arm_for(Select::Any).is_pending());
    mailbox.remove().ok();
    wait(&rx);
    assert_eq!(rx.try_recv(Select::Any, &mut buffer), Err(MailRecvError::Removed));
}

#[test]
fn a_new_value_is_told() {
    let variable = Latest::<u64>::builder().create(memfd()).unwrap();
    let mut tx = variable.writer().unwrap();
    let mut rx = Pollable::new(variable.reader().unwrap()).unwrap();
    for value in 1..2000 {
        assert!(rx.arm().is_pending());
        tx.set(value).unwrap();
        wait(&rx);
        assert_eq!(rx.get(), Ok(value));
    }
}

#[test]
fn one_loop_serves_two_rings_and_a_pipe() {
    const EACH: u64 = 20_000;
    let rings = [(); 2].map(|()| Ring::<u64>::builder(32).create(memfd()).unwrap());
    let fds = rings.each_ref().map(|ring| ring.inheritable_fd().unwrap());
    let (mut reader, writer) = std::io::pipe().unwrap();
    let child = fork(move |_| {
        let mut senders = fds.map(|fd| Ring::<u64>::from_fd(fd).unwrap().sender().unwrap());
        let mut writer = writer;
        for i in 0..EACH {
            senders[0].send(i).unwrap();
            senders[1].send(i).unwrap();
            writer.write_all(&[1]).unwrap();
            if i % 100 == 0 {
                thread::sleep(Duration::from_micros(i % 300));
            }
        }
    });
    let mut rings = rings.map(|ring| Pollable::new(ring.receiver().unwrap()).unwrap());
    let set = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
    for (i, ring) in rings.iter().enumerate() {
        // One each way.
        let edge = if i == 0 { EpollFlags::EPOLLET } else { EpollFlags::empty() };
        set.add(ring.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN | edge, i as u64)).unwrap();
    }
    set.add(reader.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, 2)).unwrap();
    let (mut counts, mut buffer) = ([0; 3], [0; 64]);
    while counts != [EACH; 3] {
        let mut events = [EpollEvent::empty(); 4];
        let patience = EpollTimeout::try_from(PATIENCE).unwrap();
        let count = set.wait(&mut events, patience).unwrap();
        assert!(count > 0, "nothing in time: {counts:?}");
        for event in &events[..count] {
            let at = event.data() as usize;
            if at == 2 {
                counts[at] += reader.read(&mut buffer).unwrap() as u64;
                continue;
            }
            loop {
                while let Ok(message) = rings[at].try_recv() {
                    assert_eq!(message, counts[at]);
                    counts[at] += 1;
                }
                if counts[at] == EACH || rings[at].arm().is_pending() {
                    break;
                }
            }
        }
    }
    child.finish();
}

/// The threads of this process that sleep for somebody.
fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let status = |task: fs::DirEntry| fs::read_to_string(task.path().join("status")).ok();
    let all = tasks.filter_map(|task| status(task.unwrap()));
    all.filter(|status| status.starts_with("Name:\tannulus-poll\n")).collect()
}

#[test]
fn the_thread_ends_with_it_and_takes_no_signals() {
    // In a process of its own: other tests have such threads, too.
    fork(|_| {
        let ring = Ring::<u64>::builder(8).create(memfd()).unwrap();
        let (tx, mut rx) = (ring.sender().unwrap(), Some(ring.receiver().unwrap()));
        for round in 0..500 {
            let mut pollable = Pollable::new(rx.take().unwrap()).unwrap();
            eventually("it runs", || threads().len() == 1);
            if round % 3 != 0 {
                assert!(pollable.arm().is_pending());
            }
            if round % 3 == 1 {
                thread::sleep(Duration::from_micros(round));
            }
            let all = threads();
            let blocked = all[0].lines().find_map(|line| line.strip_prefix("SigBlk:\t")).unwrap();
            let blocked = u64::from_str_radix(blocked, 16).unwrap();
            assert_eq!(blocked & 0xFFFF, 0xFFFF & !(1 << 8), "all but SIGKILL, of the first 16");
            rx = Some(pollable.into_inner());
            eventually("it has ended", || threads().is_empty());
        }
        drop(tx);
        let builder = Ring::<u64>::builder(8).topology(Topology::Mpmc).participants(4);
        let ring = builder.create(memfd()).unwrap();
        let mut idle = Pollable::new(ring.receiver().unwrap()).unwrap();
        let mut armed = Pollable::new(ring.receiver().unwrap()).unwrap();
        assert!(armed.arm().is_pending() && idle.arm().is_pending());
        ring.sender().unwrap().send(1).unwrap();
        wait(&idle);
        drop((idle, armed));
        eventually("they have ended", || threads().is_empty());
    })
    .finish();
}

#[test]
fn who_waits_is_woken_beside_it() {
    let ring = Ring::<u64>::builder(8).create(memfd()).unwrap();
    let mut tx = ring.sender().unwrap();
    let mut rx = Pollable::new(ring.receiver().unwrap().with_wait(Wait::Block)).unwrap();
    for i in 0..500 {
        let _ = rx.arm();
        let waits = ring.stats().waits;
        let sender = thread::spawn(move || {
            thread::sleep(Duration::from_micros(i % 100));
            tx.send(i).unwrap();
            tx
        });
        assert_eq!(rx.recv_timeout(PATIENCE), Ok(i));
        // Not armed for what is received already.
        eventually("it is told", || ring.stats().waits == waits || is_readable(&rx));
        tx = sender.join().unwrap();
    }
}

/// The wake of one message is for one sleeper. If that sleeps for somebody who polls, and does not come, another
/// gets the message.
#[test]
fn a_wake_is_handed_on_by_who_takes_nothing() {
    let builder = Ring::<u64>::builder(8).topology(Topology::Mpmc).participants(4);
    let ring = builder.create(memfd()).unwrap();
    let mut tx = ring.sender().unwrap();
    for round in 0..50 {
        let mut polls = Pollable::new(ring.receiver().unwrap()).unwrap();
        assert!(polls.arm().is_pending());
        let slept = ring.stats().waits;
        let mut blocks = ring.receiver().unwrap().with_wait(Wait::Block);
        let other = thread::spawn(move || blocks.recv_timeout(PATIENCE));
        eventually("it sleeps", || ring.stats().waits > slept);
        tx.send(round).unwrap();
        assert_eq!(other.join().unwrap(), Ok(round));
    }
}

#[test]
fn a_fork_child_has_none() {
    let ring = Ring::<u64>::builder(8).create(memfd()).unwrap();
    let mut tx = ring.sender().unwrap();
    let mut rx = Pollable::new(ring.receiver().unwrap()).unwrap();
    assert!(rx.arm().is_pending());
    let mut moved = Some(rx);
    let child = fork(|_| {
        let mut rx = moved.take().unwrap();
        assert!(rx.arm().is_ready());
        assert_eq!(rx.try_recv(), Err(TryRecvError::Forked));
        assert!(catch_unwind(AssertUnwindSafe(|| rx.as_fd())).is_err());
        let forked = Pollable::new(rx.into_inner());
        assert!(matches!(forked, Err(SetupError::Forked)));
        // The child's own works.
        let ring = Ring::<u64>::builder(8).create(memfd()).unwrap();
        let mut rx = Pollable::new(ring.receiver().unwrap()).unwrap();
        assert!(rx.arm().is_pending());
        ring.sender().unwrap().send(1).unwrap();
        wait(&rx);
    });
    child.finish();
    let mut rx = moved.take().unwrap();
    assert!(!is_readable(&rx));
    tx.send(1).unwrap();
    wait(&rx);
    assert_eq!(rx.try_recv(), Ok(1));
}

#[test]
fn descriptors_are_closed_on_exec_and_with_it() {
    let ring = Ring::<u64>::builder(8).create(memfd()).unwrap();
    let rx = Pollable::new(ring.receiver().unwrap()).unwrap();
    let flags = nix::fcntl::fcntl(rx.as_fd(), nix::fcntl::FcntlArg::F_GETFD).unwrap();
    assert_eq!(flags, libc::FD_CLOEXEC);
    let status = nix::fcntl::fcntl(rx.as_fd(), nix::fcntl::FcntlArg::F_GETFL).unwrap();
    assert_ne!(status & libc::O_NONBLOCK, 0);
    let own: OwnedFd = rx.as_fd().try_clone_to_owned().unwrap();
    drop(rx);
    assert!(is_readable(&own), "nothing is cleared at the end");
}

/// Writes what an enemy writes into a segment of which nothing but the header is checked, wakes the thread to look at it, and
/// has the handle armed meanwhile.
fn besiege<H: Source>(which: u64, fd: OwnedFd, handle: H, interest: H::Interest) {
    const EPOCHS: [usize; 2] = [4096 + 260, 8192 + 260];
    let size = nix::sys::stat::fstat(fd.as_fd()).unwrap().st_size as usize;
    let shared = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    // SAFETY: fresh memory of the kernel's choice, of the size of the file, which is sealed.
    let base = unsafe {
        libc::mmap(std::ptr::null_mut(), size, shared.0, shared.1, fd.as_raw_fd(), 0).cast::<u8>()
    };
    assert_ne!(base.cast(), libc::MAP_FAILED);
    let mut random = scribble::numbers(which);
    let mut pollable = Pollable::new(handle).unwrap();
    for _ in 0..200 {
        let _ = pollable.arm_for(interest);
        for _ in 0..5 {
            let r = random();
            let half = 4096 * (1 + r as usize % 2);
            let end = if r % 3 == 0 { size } else { half + 640 };
            let (offset, value) = scribble::stroke(&mut random, r, half..end, r % 64);
            // SAFETY: a word within the mapping, which all use by atomics.
            unsafe { (*base.add(offset).cast::<AtomicU64>()).store(value, Ordering::Relaxed) };
        }
        for at in EPOCHS {
            // SAFETY: likewise; waking touches no memory.
            unsafe {
                let epoch = base.add(at).cast::<AtomicU32>();
                (*epoch).fetch_add(1, Ordering::Relaxed);
                libc::syscall(libc::SYS_futex, epoch, libc::FUTEX_WAKE, i32::MAX);
            }
        }
    }
    drop(pollable);
    // SAFETY: mapped above, and nobody has it any more.
    unsafe { libc::munmap(base.cast(), size) };
}

#[test]
fn the_thread_survives_any_contents() {
    fork(|_| {
        // A panic of that thread would be nobody's, so it ends the process.
        std::panic::set_hook(Box::new(|_| std::process::abort()));
        for which in 0..60 {
            for topology in [Topology::Spsc, Topology::Mpmc] {
                let make = Ring::<u64>::builder(16).topology(topology).create(memfd()).unwrap();
                let fd = make.inheritable_fd().unwrap();
                besiege(which, fd, make.receiver().unwrap(), ());
                let make = Ring::<u64>::builder(16).topology(topology).create(memfd()).unwrap();
                let mut tx = make.sender().unwrap();
                (0..16).for_each(|i| tx.try_send(i).unwrap());
                besiege(which, make.inheritable_fd().unwrap(), tx, ());
            }
            for topology in [Topology::Spsc, Topology::Mpsc] {
                let make = ByteRing::builder(256).topology(topology).create(memfd()).unwrap();
                besiege(which, make.inheritable_fd().unwrap(), make.receiver().unwrap(), ());
            }
            let make = Broadcast::<u64>::builder(16).create(memfd()).unwrap();
            let rx = make.receiver(Delivery::Gate, Start::Now).unwrap();
            besiege(which, make.inheritable_fd().unwrap(), rx, ());
            let make = Latest::<u64>::builder().create(memfd()).unwrap();
            besiege(which, make.inheritable_fd().unwrap(), make.reader().unwrap(), ());
            let make = Event::builder().create(memfd()).unwrap();
            besiege(which, make.inheritable_fd().unwrap(), make.handle().unwrap(), OURS);
            let make = Mailbox::builder(8, 16).types(4).create(memfd()).unwrap();
            let rx = make.receiver().unwrap();
            besiege(which, make.inheritable_fd().unwrap(), rx, Select::AtMost(3));
        }
    })
    .finish();
}
