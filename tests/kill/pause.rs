//! Not dead: a process that is stopped keeps its role, however long. And dead in its sleep: a process killed in
//! a futex.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use annulus::{Place, SetupError, Wait};
use nix::sys::signal::Signal;

use super::shape::{Bytes, Got, Sent, Shape, Slots};
use super::survive::{AFTERWARDS, RESUMED, Sequence, drain, stream};
use crate::support::deadline::poll;
use crate::support::process::{Peer, await_sleep};
use crate::support::shared::SharedWords;

const CAPACITY: usize = 8;

const CHILD_LIFE: Duration = Duration::from_secs(120);

/// What should happen soon happens within this.
const PATIENCE: Duration = Duration::from_secs(40);

/// Several slices of a wait.
const WHILE_STOPPED: Duration = Duration::from_millis(1200);

fn fresh<S: Shape>() -> S::Ring {
    S::create(CAPACITY, Place::memfd("kill").expect("a good label")).expect("creates")
}

fn is_role_taken<H>(outcome: Result<H, SetupError>) -> bool {
    matches!(outcome, Err(SetupError::RoleTaken { .. }))
}

/// Waits until `word` rests: its writer is stopped, asleep or out of room.
fn rests(word: &AtomicU64) {
    let mut seen = word.load(Ordering::Acquire);
    let still = poll(PATIENCE, || {
        std::thread::sleep(Duration::from_millis(5));
        let now = word.load(Ordering::Acquire);
        let rests = now == seen;
        seen = now;
        rests
    });
    assert!(still, "a stopped process goes on");
}

fn stopped_sender<S: Shape>() {
    let ring = fresh::<S>();
    let mut rx = S::receiver(&ring).expect("the role is free");
    let sent = SharedWords::new(1);
    let fd = S::share(&ring);
    let sender = Peer::spawn(CHILD_LIFE, || {
        let ring = S::from_fd(fd).expect("opens");
        let mut tx = S::sender(&ring).expect("the role is free");
        for tag in 0.. {
            assert_eq!(S::send_within(&mut tx, tag, CHILD_LIFE), Ok(Sent::Yes));
            sent[0].store(tag + 1, Ordering::Release);
        }
    });
    let mut sequence = Sequence::from(0);
    for _ in 0..3 {
        for _ in 0..AFTERWARDS {
            match S::recv_within(&mut rx, PATIENCE).expect("the message is whole") {
                Got::Tag(tag) => sequence.follow(tag).expect("in order"),
                other => panic!("{}: a living sender: {other:?}", S::LABEL),
            }
        }
        sender.signal(Signal::SIGSTOP);
        rests(&sent[0]);
        drain::<S>(&mut rx, &mut sequence).expect("in order");
        for _ in 0..3 {
            assert_eq!(
                S::recv_within(&mut rx, WHILE_STOPPED / 3),
                Ok(Got::Empty),
                "{}: stopped is alive",
                S::LABEL
            );
            assert_eq!(S::try_recv(&mut rx), Ok(Got::Empty), "{}: stopped is alive", S::LABEL);
            assert!(
                is_role_taken(S::sender(&ring)),
                "{}: a stopped sender keeps its role",
                S::LABEL
            );
        }
        sender.signal(Signal::SIGCONT);
    }
    sender.kill().expect("it was alive");
    let mut tx = S::sender(&ring).expect("a dead sender's role is free");
    stream::<S>(&mut tx, &mut rx, RESUMED, &mut sequence).expect("in order");
}

fn stopped_receiver<S: Shape>() {
    let ring = fresh::<S>();
    let mut tx = S::sender(&ring).expect("the role is free");
    let received = SharedWords::new(1);
    let fd = S::share(&ring);
    let receiver = Peer::spawn(CHILD_LIFE, || {
        let ring = S::from_fd(fd).expect("opens");
        let mut rx = S::receiver(&ring).expect("the role is free");
        for tag in 0.. {
            assert_eq!(S::recv_within(&mut rx, CHILD_LIFE), Ok(Got::Tag(tag)));
            received[0].store(tag + 1, Ordering::Release);
        }
    });
    let mut next = 0;
    for _ in 0..3 {
        for _ in 0..AFTERWARDS {
            assert_eq!(S::send_within(&mut tx, next, PATIENCE), Ok(Sent::Yes));
            next += 1;
        }
        receiver.signal(Signal::SIGSTOP);
        rests(&received[0]);
        while S::try_send(&mut tx, next) == Ok(Sent::Yes) {
            next += 1;
        }
        for _ in 0..3 {
            let sent = S::send_within(&mut tx, next, WHILE_STOPPED / 3);
            assert_eq!(sent, Ok(Sent::Full), "{}: stopped is alive", S::LABEL);
            assert!(
                is_role_taken(S::receiver(&ring)),
                "{}: a stopped receiver keeps its role",
                S::LABEL
            );
        }
        receiver.signal(Signal::SIGCONT);
        assert!(
            poll(PATIENCE, || received[0].load(Ordering::Acquire) == next),
            "{}: it goes on",
            S::LABEL
        );
    }
    receiver.kill().expect("it was alive");
    let mut rx = S::receiver(&ring).expect("a dead receiver's role is free");
    let mut sequence = Sequence::from(next);
    stream::<S>(&mut tx, &mut rx, next, &mut sequence).expect("in order");
}

fn killed_asleep<S: Shape>(wait: Wait) {
    for _ in 0..20 {
        let ring = fresh::<S>();
        let mut tx = S::sender(&ring).expect("the role is free");
        let fd = S::share(&ring);
        let receiver = Peer::spawn(CHILD_LIFE, || {
            let ring = S::from_fd(fd).expect("opens");
            let mut rx = S::receiver(&ring).expect("the role is free");
            S::receiver_waits(&mut rx, wait);
            let _ = S::recv_within(&mut rx, CHILD_LIFE);
        });
        assert!(
            await_sleep(receiver.pid(), PATIENCE),
            "{}: a receiver with nothing to do sleeps",
            S::LABEL
        );
        receiver.kill().expect("it was alive");
        let mut rx = S::receiver(&ring).expect("a dead receiver's role is free");
        let mut sequence = Sequence::from(0);
        stream::<S>(&mut tx, &mut rx, 0, &mut sequence).expect("in order");
        let next = sequence.next();
        drop(tx);

        let fd = S::share(&ring);
        let sender = Peer::spawn(CHILD_LIFE, || {
            let ring = S::from_fd(fd).expect("opens");
            let mut tx = S::sender(&ring).expect("the role is free");
            S::sender_waits(&mut tx, wait);
            for tag in next.. {
                let _ = S::send_within(&mut tx, tag, CHILD_LIFE);
            }
        });
        assert!(await_sleep(sender.pid(), PATIENCE), "{}: a sender without room sleeps", S::LABEL);
        sender.kill().expect("it was alive");
        let mut tx = S::sender(&ring).expect("a dead sender's role is free");
        stream::<S>(&mut tx, &mut rx, RESUMED, &mut sequence).expect("in order");
    }
}

#[test]
fn a_stopped_sender_is_not_dead() {
    std::thread::scope(|scope| {
        scope.spawn(stopped_sender::<Slots<u64>>);
        scope.spawn(stopped_sender::<Bytes>);
    });
}

#[test]
fn a_stopped_receiver_is_not_dead() {
    std::thread::scope(|scope| {
        scope.spawn(stopped_receiver::<Slots<u64>>);
        scope.spawn(stopped_receiver::<Bytes>);
    });
}

#[test]
fn killed_in_the_futex() {
    for wait in [Wait::Block, Wait::Adaptive] {
        killed_asleep::<Slots<u64>>(wait);
        killed_asleep::<Slots<[u64; 8]>>(wait);
        killed_asleep::<Bytes>(wait);
    }
}
