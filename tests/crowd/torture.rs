//! Senders and receivers at full speed, one of whom is killed at a random time and replaced, over and over.
//!
//! Every message has a number of its sender, and a count in shared memory says how often it was received. A
//! sender notes what it has sent when its call returns, so one that is killed may have sent one message more, and
//! its successor sends that number again. A receiver that counts a message before it releases its claim loses
//! none, and may count its last one once more than it should; one that just receives may lose the last one.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use annulus::{Place, RecvError, Ring, Stats, Topology, TrySendError, Wait};

use crate::havoc::{CHILD_LIFE, Havoc, PATIENCE};
use crate::support::deadline::poll;
use crate::support::ledger::{Ledger, NUMBERS, message, stay};
use crate::support::process::{Peer, say};
use crate::support::shared::SharedWords;

/// Kills of each test.
const KILLS: usize = 850;
/// Few: senders and receivers run into each other all the time.
const CAPACITY: usize = 16;

/// How the receivers of a test receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// `recv`, or a batch.
    Take,
    /// `claim`, count, `release`; now and then `give_back`.
    Claim,
}

fn open(fd: &OwnedFd) -> Ring<[u64; 3]> {
    Ring::from_fd(fd.try_clone().expect("a descriptor")).expect("opens")
}

/// The `random`th way of waiting.
pub fn waiting(random: u64) -> Wait {
    [Wait::Spin, Wait::Block, Wait::Adaptive][random as usize % 3]
}

fn send_all(fd: &OwnedFd, ledger: &Ledger, me: usize, random: u64) {
    let mut tx = open(fd).sender().expect("a place").with_wait(waiting(random));
    let mut next = ledger.sent(me).load(Relaxed);
    while ledger.stop().load(Relaxed) == 0 && next < NUMBERS {
        if random.is_multiple_of(4) {
            let batch: Vec<_> = (next..NUMBERS.min(next + 5)).map(|n| message(me, n)).collect();
            // One that is killed in a batch has its successor send it all again.
            next += tx.try_send_batch(&batch) as u64;
        } else if random.is_multiple_of(3) {
            match tx.try_send(message(me, next)) {
                Ok(()) => next += 1,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
                Err(error) => panic!("{error}"),
            }
        } else {
            match tx.send_timeout(message(me, next), Duration::from_millis(50)) {
                Ok(()) => next += 1,
                Err(error) => match error {
                    annulus::SendTimeoutError::Timeout(_)
                    | annulus::SendTimeoutError::Disconnected(_) => {}
                    error => panic!("{error}"),
                },
            }
        }
        ledger.sent(me).store(next, Relaxed);
    }
    stay(ledger);
}

fn receive_all(fd: &OwnedFd, ledger: &Ledger, way: Way, random: u64) {
    let mut rx = open(fd).receiver().expect("a place").with_wait(waiting(random));
    let mut round = random;
    loop {
        round = round.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let done = match way {
            Way::Claim => match rx.claim() {
                Ok(claimed) if round >> 60 == 0 => {
                    claimed.give_back();
                    continue;
                }
                Ok(claimed) => {
                    ledger.count(*claimed);
                    claimed.release();
                    continue;
                }
                Err(error) => error,
            },
            Way::Take if random.is_multiple_of(2) => {
                let mut batch = [[0; 3]; 5];
                match rx.recv_batch(&mut batch) {
                    Ok(count) => {
                        batch[..count].iter().for_each(|&message| ledger.count(message));
                        continue;
                    }
                    Err(error) => error,
                }
            }
            Way::Take => match rx.recv() {
                Ok(message) => {
                    ledger.count(message);
                    continue;
                }
                Err(error) => error,
            },
        };
        // While the senders are being replaced there may be none.
        assert_eq!(done, RecvError::Disconnected);
        if ledger.stop().load(Relaxed) == 2 {
            return;
        }
        std::thread::yield_now();
    }
}

/// What became of the messages, and of those who moved them.
#[derive(Debug)]
pub struct Toll {
    /// Messages that were sent for certain.
    pub sent: u64,
    pub lost: u64,
    pub again: u64,
    pub senders_killed: u64,
    /// How often each receiver was killed.
    pub receivers: Vec<u64>,
    pub receivers_killed: u64,
}

/// Runs `send(ledger, number of the sender, random)` in some processes and `receive(ledger, number of the receiver,
/// random)` in others, kills and replaces them, and counts in the end.
pub fn massacre(
    (senders, receivers): (usize, usize),
    stats: impl Fn() -> Stats,
    send: impl Fn(&Ledger, usize, u64),
    receive: impl Fn(&Ledger, usize, u64),
) -> Toll {
    let ledger = Ledger::new(senders);
    let havoc = Havoc {
        title: &format!("{senders} senders, {receivers} receivers"),
        places: senders + receivers,
        spared: 0,
        kills: KILLS,
    };
    let (mut peers, killed) = havoc.wreak(
        |i, random| match i.checked_sub(senders) {
            None => send(&ledger, i, random),
            Some(receiver) => receive(&ledger, receiver, random),
        },
        || {
            let all_sent = (0..senders).all(|i| ledger.sent(i).load(Relaxed) == NUMBERS);
            (!all_sent).then(|| ledger.received().load(Relaxed))
        },
        || format!("{:?}", stats()),
    );
    ledger.stop().store(1, Relaxed);
    let receiving = peers.split_off(senders);
    peers.into_iter().for_each(|peer| peer.join().expect("a sender ends"));
    ledger.stop().store(2, Relaxed);
    receiving.into_iter().for_each(|peer| peer.join().expect("a receiver ends"));

    let (receivers, senders_killed) = (killed[senders..].to_vec(), killed[..senders].iter().sum());
    let (mut all_sent, mut lost, mut again) = (0, 0, 0);
    for sender in 0..senders {
        let sent = ledger.sent(sender).load(Relaxed);
        all_sent += sent;
        for number in 0..sent {
            match ledger.seen(sender, number).load(Relaxed) {
                0 => lost += 1,
                times => again += times - 1,
            }
        }
        // Sent, but not noted by a sender that was killed, and not sent again.
        let beyond = (sent..NUMBERS.min(sent + 5)).map(|n| ledger.seen(sender, n).load(Relaxed));
        assert!(beyond.sum::<u64>() <= 5 * senders_killed);
    }
    let received = ledger.received().load(Relaxed);
    let receivers_killed = receivers.iter().sum();
    let stats = stats();
    say(&format!(
        "  {received} messages, {senders_killed} senders and {receivers_killed} receivers killed: \
         {lost} lost, {again} twice; {} repairs, {} redelivered\n",
        stats.repairs, stats.redelivered
    ));
    assert_eq!(stats.participants.iter().filter(|who| who.alive).count(), 0);
    Toll { sent: all_sent, lost, again, senders_killed, receivers, receivers_killed }
}

fn torture(topology: Topology, senders: usize, receivers: usize, way: Way) {
    let ring = Ring::<[u64; 3]>::builder(CAPACITY)
        .topology(topology)
        .participants(senders + receivers + 2)
        .create(Place::memfd("torture").unwrap())
        .unwrap();
    let fd = ring.as_fd().try_clone_to_owned().unwrap();
    let toll = massacre(
        (senders, receivers),
        || ring.stats(),
        |ledger, sender, random| send_all(&fd, ledger, sender, random),
        |ledger, _, random| receive_all(&fd, ledger, way, random),
    );
    // Messages of one call: 5 in a batch, 1 otherwise.
    let Toll { lost, again, senders_killed, receivers_killed, .. } = toll;
    match way {
        Way::Claim => {
            assert_eq!(lost, 0);
            assert!(again <= 5 * senders_killed + receivers_killed, "{again} twice");
        }
        Way::Take => {
            assert!(lost <= 5 * receivers_killed, "{lost} lost");
            assert!(again <= 5 * senders_killed, "{again} twice");
        }
    }
    // Nothing is wedged, and nobody has left anything behind.
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    assert!(rx.try_recv().is_err());
    for number in 0..2 * CAPACITY as u64 {
        tx.send_timeout(message(0, number), PATIENCE).unwrap();
        assert_eq!(rx.recv_timeout(PATIENCE).unwrap(), message(0, number));
    }
}

#[test]
fn many_senders_one_receiver() {
    torture(Topology::Mpsc, 3, 1, Way::Claim);
}

#[test]
fn one_sender_many_receivers() {
    torture(Topology::Spmc, 1, 3, Way::Claim);
}

#[test]
fn many_senders_many_receivers() {
    torture(Topology::Mpmc, 2, 2, Way::Claim);
}

#[test]
fn many_senders_one_receiver_that_takes() {
    torture(Topology::Mpsc, 3, 1, Way::Take);
}

#[test]
fn one_sender_many_receivers_that_take() {
    torture(Topology::Spmc, 1, 3, Way::Take);
}

#[test]
fn many_senders_many_receivers_that_take() {
    torture(Topology::Mpmc, 3, 3, Way::Take);
}

#[test]
fn a_dead_receivers_message_comes_to_whoever_polls() {
    // Nothing else is in the ring that anybody could be stuck at.
    let ring = Ring::<[u64; 3]>::builder(16)
        .topology(Topology::Mpmc)
        .create(Place::memfd("polled").unwrap())
        .unwrap();
    let fd = ring.as_fd().try_clone_to_owned().unwrap();
    let words = SharedWords::new(1);
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    tx.send(message(1, 2)).unwrap();
    let worker = Peer::spawn(CHILD_LIFE, || {
        let mut rx = open(&fd).receiver().expect("a place");
        let _claimed = rx.claim().expect("a message");
        words[0].store(1, Relaxed);
        std::thread::sleep(CHILD_LIFE);
    });
    assert!(poll(PATIENCE, || words[0].load(Relaxed) == 1), "it never claimed");
    (0..3000).for_each(|_| assert!(rx.try_recv().is_err(), "it lives"));
    worker.kill().expect("killed");
    let polled = (0..3000).find_map(|_| rx.try_recv().ok());
    assert_eq!(polled, Some(message(1, 2)));
    assert_eq!(ring.stats().repairs, 1);
}

#[test]
fn the_descriptor_is_shared() {
    // What the torture rests on: a descriptor that was inherited opens the same ring.
    let ring = Ring::<[u64; 3]>::builder(4).create(Place::memfd("same").unwrap()).unwrap();
    let fd = ring.as_fd().try_clone_to_owned().unwrap();
    let there = open(&fd);
    ring.sender().unwrap().send(message(1, 2)).unwrap();
    assert_eq!(there.receiver().unwrap().recv().unwrap(), message(1, 2));
    assert!(fd.as_fd().try_clone_to_owned().is_ok());
}
