//! What each kind of handle is told.

use crate::processes::{PATIENCE, eventually};
use crate::{OURS, THEIRS, is_readable, memfd, serve, wait};
use annulus::{
    Broadcast, BroadcastRecvError, ByteBroadcast, ByteRing, Delivery, Event, Latest, MailRecvError,
    Mailbox, Pollable, Ring, Select, Start, Topology, TrySendError, Wait,
};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

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
    serve(&mut tx, |tx| tx.try_send(5).is_err_and(|e| !matches!(e, TrySendError::Full(_))));

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
