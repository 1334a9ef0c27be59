//! Broadcasts: a sender and receivers that come and go, killed and replaced over and over, in turn by the type and as
//! bytes.
//!
//! A message says its number, which is how many there were before it. One receiver, which is waited for, lives on and
//! gets each number once, or is told exactly how many it missed by being evicted. All others get numbers without a gap
//! from where they joined, but for those that they are told of.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use annulus::{
    Broadcast, BroadcastReceiver, BroadcastRecvError, BroadcastSender, ByteBroadcast,
    ByteBroadcastReceiver, ByteBroadcastSender, ByteSendError, Delivery, Place, SendTimeoutError,
    Start, Stats, Wait,
};

use crate::havoc::Havoc;
use crate::support::process::say;
use crate::support::shared::SharedWords;
use crate::torture::waiting;

type Message = [u64; 9];
const SIZE: usize = size_of::<Message>();
const CAPACITY: usize = 16;
const BATCH: u64 = 3;
/// Receivers that are killed.
const RECEIVERS: usize = 4;
const KILLS: usize = 600;
const SLICE: Duration = Duration::from_millis(50);

/// What the books say: whether to stop, how many were sent for certain, and how many the one that lives has had.
const STOP: usize = 0;
const SENT: usize = 1;
const HAD: usize = 2;

/// What all have opened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Messages of a type, also opened as bytes.
    Typed,
    /// Messages of any length.
    Bytes,
}

/// The message with a number: its length and all of its bytes follow from it.
fn message(kind: Kind, number: u64) -> Vec<u8> {
    let words: Message = std::array::from_fn(|i| number.wrapping_mul(2 * i as u64 + 1));
    let length = if kind == Kind::Typed { SIZE } else { 8 + number as usize * 7 % (SIZE - 7) };
    bytemuck::bytes_of(&words)[..length].to_vec()
}

fn number(kind: Kind, found: &[u8]) -> u64 {
    let number = u64::from_le_bytes(found[..8].try_into().expect("all have a number"));
    assert_eq!(found, message(kind, number), "torn");
    number
}

enum Sender {
    Typed(BroadcastSender<Message>),
    Bytes(ByteBroadcastSender),
}

enum Receiver {
    Typed(BroadcastReceiver<Message>),
    Bytes(ByteBroadcastReceiver),
}

/// A broadcast that some process has opened in one way or the other.
enum Opened {
    Typed(Broadcast<Message>),
    Bytes(ByteBroadcast),
}

impl Opened {
    fn open(kind: Kind, fd: &OwnedFd, random: u64) -> Self {
        let fd = fd.try_clone().expect("a descriptor");
        if kind == Kind::Typed && random.is_multiple_of(2) {
            Self::Typed(Broadcast::from_fd(fd).expect("opens"))
        } else {
            Self::Bytes(ByteBroadcast::from_fd(fd).expect("opens"))
        }
    }

    fn stats(&self) -> Stats {
        match self {
            Self::Typed(broadcast) => broadcast.stats(),
            Self::Bytes(broadcast) => broadcast.stats(),
        }
    }

    fn sender(&self, wait: Wait, patience: Option<Duration>) -> Sender {
        match self {
            Self::Typed(broadcast) => {
                let mut tx = broadcast.sender().expect("the role is free").with_wait(wait);
                tx.set_patience(patience);
                Sender::Typed(tx)
            }
            Self::Bytes(broadcast) => {
                let mut tx = broadcast.sender().expect("the role is free").with_wait(wait);
                tx.set_patience(patience);
                Sender::Bytes(tx)
            }
        }
    }

    fn receiver(&self, delivery: Delivery, start: Start, wait: Wait) -> Receiver {
        match self {
            Self::Typed(broadcast) => {
                let rx = broadcast.receiver(delivery, start).expect("an entry");
                Receiver::Typed(rx.with_wait(wait))
            }
            Self::Bytes(broadcast) => {
                let rx = broadcast.receiver(delivery, start).expect("an entry");
                Receiver::Bytes(rx.with_wait(wait))
            }
        }
    }
}

impl Sender {
    /// Sends the message with the number, or a few; how many.
    fn send(&mut self, kind: Kind, first: u64) -> u64 {
        let of = |number| bytemuck::pod_read_unaligned(&message(kind, number));
        match self {
            Self::Typed(tx) if first.is_multiple_of(5) => {
                let batch: Vec<Message> = (first..first + BATCH).map(of).collect();
                tx.try_send_batch(&batch) as u64
            }
            Self::Typed(tx) => match tx.send_timeout(of(first), SLICE) {
                Ok(()) => 1,
                Err(SendTimeoutError::Timeout(_)) => 0,
                Err(error) => panic!("{error}"),
            },
            Self::Bytes(tx) => match tx.send_timeout(&message(kind, first), SLICE) {
                Ok(()) => 1,
                Err(ByteSendError::Timeout) => 0,
                Err(error) => panic!("{error}"),
            },
        }
    }
}

impl Receiver {
    fn recv(&mut self, kind: Kind) -> Result<u64, BroadcastRecvError> {
        match self {
            Self::Typed(rx) => rx.recv_timeout(SLICE).map(|m| number(kind, bytemuck::bytes_of(&m))),
            Self::Bytes(rx) => rx.recv_timeout(SLICE).map(|found| number(kind, found)),
        }
    }

    fn rejoin(&mut self, start: Start) -> u64 {
        match self {
            Self::Typed(rx) => rx.rejoin(start),
            Self::Bytes(rx) => rx.rejoin(start),
        }
        .expect("it is sound")
    }
}

fn send_all(broadcast: &Opened, kind: Kind, books: &SharedWords, random: u64) {
    // Some evict whoever is slow.
    let patience = random.is_multiple_of(4).then_some(Duration::from_micros(random / 4 % 200));
    let mut tx = broadcast.sender(waiting(random / 4), patience);
    let mut next = broadcast.stats().sent;
    let noted = books[SENT].load(Relaxed);
    assert!((noted..=noted + BATCH).contains(&next), "sent {next}, noted {noted}");
    while books[STOP].load(Relaxed) == 0 {
        next += tx.send(kind, next);
        books[SENT].store(next, Relaxed);
    }
}

/// Receives so many messages, or is told of them: no gap, and nothing twice. What comes next, if that is known.
fn receive(
    rx: &mut Receiver,
    (kind, delivery): (Kind, Delivery),
    mut next: Option<u64>,
    go_on: impl Fn(Option<u64>, bool) -> bool,
) -> Option<u64> {
    let mut nothing = false;
    while go_on(next, nothing) {
        nothing = false;
        match rx.recv(kind) {
            Ok(found) => {
                assert_eq!(found, next.unwrap_or(found), "a gap, or a repetition");
                next = Some(found + 1);
            }
            Err(BroadcastRecvError::Lagged(missed)) => {
                assert!(delivery == Delivery::Lossy && missed > 0);
                next = next.map(|next| next + missed);
            }
            Err(BroadcastRecvError::Evicted) => {
                assert_eq!(delivery, Delivery::Gate);
                let missed = rx.rejoin(Start::Oldest);
                next = next.map(|next| next + missed);
            }
            // While the sender is being replaced there is none.
            Err(BroadcastRecvError::Timeout | BroadcastRecvError::Disconnected) => {
                nothing = true;
                std::thread::yield_now();
            }
            Err(error) => panic!("{error} at {next:?}"),
        }
    }
    next
}

fn receive_all(broadcast: &Opened, kind: Kind, books: &SharedWords, mut random: u64) {
    // Some stay, others come and go.
    let stays = random.is_multiple_of(2);
    while books[STOP].load(Relaxed) == 0 {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let choice = random >> 40;
        let delivery = [Delivery::Gate, Delivery::Lossy][choice as usize % 2];
        let start = [Start::Now, Start::Oldest][choice as usize / 2 % 2];
        let mut rx = broadcast.receiver(delivery, start, waiting(choice / 4));
        let calls = std::cell::Cell::new(choice % 40);
        receive(&mut rx, (kind, delivery), None, |_, _| {
            calls.set(calls.get().saturating_sub(u64::from(!stays)));
            books[STOP].load(Relaxed) == 0 && (stays || calls.get() > 0)
        });
    }
}

fn torture(kind: Kind) {
    let place = Place::memfd("torture").unwrap();
    let fd = match kind {
        Kind::Typed => Broadcast::<Message>::builder(CAPACITY)
            .participants(RECEIVERS + 1)
            .create(place)
            .unwrap()
            .inheritable_fd(),
        Kind::Bytes => ByteBroadcast::builder(CAPACITY, SIZE)
            .participants(RECEIVERS + 1)
            .create(place)
            .unwrap()
            .inheritable_fd(),
    };
    let fd = fd.unwrap();
    let books = SharedWords::new(3);
    let broadcast = Opened::open(kind, &fd, 0);
    let title = if kind == Kind::Typed { "a broadcast" } else { "a broadcast of bytes" };
    let havoc = Havoc { title, places: 1 + RECEIVERS + 1, spared: 1, kills: KILLS };
    let (peers, killed) = havoc.wreak(
        |place, random| {
            let broadcast = Opened::open(kind, &fd, random);
            match place {
                0 => send_all(&broadcast, kind, &books, random / 2),
                1..=RECEIVERS => receive_all(&broadcast, kind, &books, random / 2),
                _ => {
                    let mut rx = broadcast.receiver(Delivery::Gate, Start::Oldest, Wait::Adaptive);
                    let had = receive(&mut rx, (kind, Delivery::Gate), None, |next, nothing| {
                        books[HAD].store(next.unwrap_or(0), Relaxed);
                        !(nothing && books[STOP].load(Relaxed) == 2)
                    });
                    books[HAD].store(had.unwrap_or(0), Relaxed);
                }
            }
        },
        || Some(books[HAD].load(Relaxed)),
        || format!("{:?}", broadcast.stats()),
    );
    books[STOP].store(1, Relaxed);
    let mut peers = peers.into_iter();
    for peer in peers.by_ref().take(1 + RECEIVERS) {
        peer.join().expect("it ends");
    }
    books[STOP].store(2, Relaxed);
    peers.for_each(|peer| peer.join().expect("the one that lives ends"));
    let (sent, had) = (books[SENT].load(Relaxed), books[HAD].load(Relaxed));
    say(&format!("  {sent} messages, {killed:?} killed\n"));
    assert_eq!((had, broadcast.stats().sent), (sent, sent), "the one that lives has all");
    // Every entry is free, and nobody is waited for.
    let mut tx = broadcast.sender(Wait::Adaptive, None);
    let mut receivers: Vec<_> = (0..=RECEIVERS)
        .map(|_| broadcast.receiver(Delivery::Gate, Start::Now, Wait::Adaptive))
        .collect();
    let end = sent + 3 * CAPACITY as u64;
    let mut next = sent;
    while next < end {
        let count = tx.send(kind, next);
        assert!(count > 0, "a dead receiver is waited for");
        for rx in &mut receivers {
            let there = receive(rx, (kind, Delivery::Gate), Some(next), |there, nothing| {
                assert!(!nothing, "a message is missing");
                there != Some(next + count)
            });
            assert_eq!(there, Some(next + count));
        }
        next += count;
    }
}

#[test]
fn a_broadcast_whose_senders_and_receivers_are_killed() {
    torture(Kind::Typed);
}

#[test]
fn a_broadcast_of_bytes_whose_senders_and_receivers_are_killed() {
    torture(Kind::Bytes);
}
