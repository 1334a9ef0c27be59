//! Claimers that are stopped in the middle of what they do, and go on later: they are alive, and nobody takes
//! anything from them, however long the others have to wait.
//!
//! `ANNULUS_TRIALS` is how often one is stopped, if not as often as is quick.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use annulus::{Place, RecvError, RecvTimeoutError, Ring, Topology, TryRecvError, Wait};
use nix::sys::signal::Signal;

use crate::support::deadline::poll;
use crate::support::process::{Peer, say};
use crate::support::shared::SharedWords;

const QUICK: u64 = 300;
/// Few: whoever is stopped with a claim is soon in everybody's way.
const CAPACITY: usize = 8;
/// The longest between two stops, and the longest stop: more than the intervals in which those who are held up
/// ask who lives.
const RUN: Duration = Duration::from_micros(500);
const STOP: Duration = Duration::from_millis(6);
const PATIENCE: Duration = Duration::from_secs(120);
const CHILD_LIFE: Duration = Duration::from_secs(900);
const SENDERS: u64 = 2;
const RECEIVERS: u64 = 2;

/// What all processes see. Messages are too many to be listed: what was sent and what was received are compared
/// by their number and by the sum of a number that is drawn for each.
struct Ledger(SharedWords);

impl Ledger {
    /// 1: senders end; 2: receivers do.
    fn stop(&self) -> &AtomicU64 {
        &self.0[0]
    }

    fn sent(&self) -> (&AtomicU64, &AtomicU64) {
        (&self.0[1], &self.0[2])
    }

    fn received(&self) -> (&AtomicU64, &AtomicU64) {
        (&self.0[3], &self.0[4])
    }
}

fn count((number, sum): (&AtomicU64, &AtomicU64), message: [u64; 2]) {
    number.fetch_add(1, Relaxed);
    sum.fetch_add(message[1], Relaxed);
}

/// The `n`-th message of a sender, with its number of its own (SplitMix64).
fn message(sender: u64, n: u64) -> [u64; 2] {
    let tag = sender << 48 | n;
    let mut z = tag.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    [tag, z ^ z >> 31]
}

fn open(fd: &OwnedFd) -> Ring<[u64; 2]> {
    Ring::from_fd(fd.try_clone().expect("a descriptor")).expect("opens")
}

fn send_all(fd: &OwnedFd, ledger: &Ledger, me: u64) {
    let mut tx = open(fd).sender().expect("a place");
    let mut next = 0;
    let mut ways = [Wait::Spin, Wait::Block, Wait::Adaptive].into_iter().cycle();
    while ledger.stop().load(Relaxed) == 0 {
        let before = next;
        match (next + me) % 5 {
            0 => next += u64::from(tx.try_send(message(me, next)).is_ok()),
            1 => {
                let batch = [next, next + 1, next + 2].map(|n| message(me, n));
                next += tx.try_send_batch(&batch) as u64;
            }
            // The iterator works on each message while its place is claimed.
            2 => next += tx.try_send_from((next..next + 3).map(|n| message(me, n))) as u64,
            _ => {
                tx.set_wait(ways.next().expect("no end"));
                let sent = tx.send_timeout(message(me, next), Duration::from_millis(50));
                next += u64::from(sent.is_ok());
            }
        }
        (before..next).for_each(|n| count(ledger.sent(), message(me, n)));
    }
}

fn receive_all(fd: &OwnedFd, ledger: &Ledger, me: u64) {
    let mut rx = open(fd).receiver().expect("a place");
    let mut ways = [Wait::Spin, Wait::Block, Wait::Adaptive].into_iter().cycle();
    let take = |message: [u64; 2]| {
        assert_eq!(message, self::message(message[0] >> 48, message[0] & ((1 << 48) - 1)), "torn");
        count(ledger.received(), message);
    };
    for round in me.. {
        let end = match round % 5 {
            0 => match rx.try_recv() {
                Ok(message) => {
                    take(message);
                    continue;
                }
                Err(error) => error == TryRecvError::Disconnected,
            },
            1 => {
                let mut batch = [[0; 2]; 3];
                let there = rx.try_recv_batch(&mut batch);
                batch[..there].iter().for_each(|&message| take(message));
                false
            }
            2 | 3 => match rx.claim_timeout(Duration::from_millis(50)) {
                Ok(claimed) => {
                    take(*claimed);
                    claimed.release();
                    continue;
                }
                Err(error) => error == RecvTimeoutError::Disconnected,
            },
            _ => {
                rx.set_wait(ways.next().expect("no end"));
                match rx.recv() {
                    Ok(message) => {
                        take(message);
                        continue;
                    }
                    Err(error) => error == RecvError::Disconnected,
                }
            }
        };
        if end && ledger.stop().load(Relaxed) == 2 {
            return;
        }
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 8
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        Duration::from_nanos(self.next() % most.as_nanos() as u64)
    }
}

fn pass(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::thread::sleep(Duration::from_micros(20));
    }
}

#[test]
fn who_is_stopped_is_never_taken_for_dead() {
    let trials = std::env::var("ANNULUS_TRIALS");
    let trials = trials.map_or(QUICK, |trials| trials.parse().expect("a number"));
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let mut random = Random(seed | 1);
    let ring = Ring::<[u64; 2]>::builder(CAPACITY)
        .topology(Topology::Mpmc)
        .create(Place::memfd("pause").unwrap())
        .unwrap();
    let fd = Arc::new(ring.as_fd().try_clone_to_owned().unwrap());
    let ledger = Arc::new(Ledger(SharedWords::new(5)));
    let peers: Vec<Peer> = (0..SENDERS + RECEIVERS)
        .map(|i| {
            let (fd, ledger) = (Arc::clone(&fd), Arc::clone(&ledger));
            Peer::spawn(CHILD_LIFE, move || match i < SENDERS {
                true => send_all(&fd, &ledger, i),
                false => receive_all(&fd, &ledger, i),
            })
        })
        .collect();
    let received = || ledger.received().0.load(Relaxed);
    let goes_on = || {
        let before = received();
        assert!(poll(PATIENCE, || received() > before), "{:?}", ring.stats());
    };
    goes_on();
    let mut held_up = 0;
    for trial in 0..trials {
        pass(random.up_to(RUN));
        let victim = &peers[random.next() as usize % peers.len()];
        victim.signal(Signal::SIGSTOP);
        // Whoever runs meanwhile may yet receive the few messages that are not held up.
        let stop = random.up_to(STOP);
        pass(stop / 2);
        // One who comes looks for the dead, too.
        match random.next() % 4 {
            0 => drop(ring.sender().expect("a place")),
            1 => drop(ring.receiver().expect("a place")),
            _ => {}
        }
        let before = received();
        pass(stop / 2);
        held_up += u64::from(received() == before);
        victim.signal(Signal::SIGCONT);
        assert_eq!(ring.stats().repairs, 0, "trial {trial}, seed {seed}");
        if trial % 64 == 0 {
            goes_on();
        }
    }
    goes_on();
    let mut peers = peers.into_iter();
    ledger.stop().store(1, Relaxed);
    peers.by_ref().take(SENDERS as usize).for_each(|peer| peer.join().expect("a sender ends"));
    ledger.stop().store(2, Relaxed);
    peers.for_each(|peer| peer.join().expect("a receiver ends"));

    let both = |(number, sum): (&AtomicU64, &AtomicU64)| (number.load(Relaxed), sum.load(Relaxed));
    let stats = ring.stats();
    say(&format!(
        "{trials} stops, {held_up} of which held up everybody; {} messages, {} repairs\n",
        received(),
        stats.repairs
    ));
    assert_eq!(both(ledger.sent()), both(ledger.received()), "lost or doubled, seed {seed}");
    assert_eq!((stats.repairs, stats.redelivered), (0, 0), "seed {seed}");
    assert!(held_up > trials / 100, "the stops came at the wrong times");
}
