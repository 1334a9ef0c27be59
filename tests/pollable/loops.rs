//! Loops that poll while others send as they like.

use crate::processes::{PATIENCE, fork};
use crate::{memfd, serve};
use annulus::{
    Broadcast, BroadcastReceiver, BroadcastRecvError, ByteRing, Delivery, Pollable, Ring, Start,
    Stream, Topology, TryRecvError, Wait,
};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

/// Messages that are waited for, some of them.
const MESSAGES: u64 = 100_000;

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
