//! Calls in any order, against a queue.

use super::input::Input;
use annulus::{
    Builder, ByteReceiver, ByteRing, ByteSendError, ByteSender, Place, Receiver, RecvError,
    RecvIntoError, RecvTimeoutError, Ring, Sender, SetupError, Topology, TryRecvError,
    TrySendError,
};
use bytemuck::Pod;
use std::collections::VecDeque;
use std::time::Duration;

/// Makes calls of both sides, with roles left and taken again by other handles, and asks a model what
/// each must answer.
pub fn operations(data: &[u8]) {
    let input = &mut Input(data);
    let persistent = input.byte() % 4 == 0;
    let capacity = match input.byte() {
        few @ 0..=239 => 1 + usize::from(few) % 40,
        _ => 1 + input.below(3000),
    };
    match input.byte() % 7 {
        0 => slots::<u64>(input, capacity, persistent),
        1 => slots::<[u64; 9]>(input, capacity, persistent),
        2 => slots::<[u8; 12]>(input, capacity, persistent),
        3 => slots::<[u32; 7]>(input, capacity, persistent),
        4 => bytes(input, ByteRing::builder(capacity * 5), persistent),
        ordered => {
            // One sender at a time, so always in the one lane that there is.
            let lanes = ByteRing::builder(capacity * 5).topology(Topology::Mpsc).participants(1);
            bytes(input, lanes.ordered(ordered == 6), persistent);
        }
    }
}

/// Whether a side is there, as the other side must see it.
#[derive(Clone, Copy, PartialEq)]
enum Peer {
    NeverCame,
    Here,
    Left,
}

impl Peer {
    fn ends_it(self, persistent: bool) -> bool {
        self == Peer::Left && !persistent
    }
}

/// The `n`-th message: every byte tells it from its neighbours.
fn nth<T: Pod>(n: u64) -> T {
    let mut message = T::zeroed();
    for (i, byte) in bytemuck::bytes_of_mut(&mut message).iter_mut().enumerate() {
        *byte = (n as u8).wrapping_mul(31).wrapping_add((n >> 8) as u8).wrapping_add(i as u8);
    }
    message
}

struct Slots<T: Pod> {
    capacity: u64,
    persistent: bool,
    /// Messages sent and received: the queue is what lies between.
    sent: u64,
    received: u64,
    sender: Peer,
    receiver: Peer,
    message: std::marker::PhantomData<T>,
}

impl<T: Pod + PartialEq + std::fmt::Debug> Slots<T> {
    fn room(&self) -> u64 {
        self.capacity - (self.sent - self.received)
    }

    fn waiting(&self) -> u64 {
        self.sent - self.received
    }

    /// Checks the answer to one message offered; a sender may hear of a receiver's leave at any time.
    fn offered(&mut self, result: Result<(), TrySendError<T>>) {
        let given_back = |message: T| assert_eq!(message, nth(self.sent));
        let ended = self.receiver.ends_it(self.persistent);
        match result {
            Ok(()) => {
                assert!(self.room() > 0, "sent into a full ring");
                self.sent += 1;
            }
            Err(TrySendError::Full(message)) => {
                given_back(message);
                assert!(self.room() == 0 && !ended, "full with room for {}", self.room());
            }
            Err(TrySendError::Disconnected(message)) => {
                given_back(message);
                assert!(ended, "disconnected from a receiver that is there");
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    fn took(&mut self, message: T) {
        assert!(self.waiting() > 0, "received more than was sent");
        assert_eq!(message, nth(self.received));
        self.received += 1;
    }

    fn nothing(&self, disconnected: bool) {
        assert_eq!(self.waiting(), 0, "a message was not seen");
        assert_eq!(disconnected, self.sender.ends_it(self.persistent));
    }
}

fn slots<T: Pod + PartialEq + std::fmt::Debug>(
    input: &mut Input<'_>,
    capacity: usize,
    persistent: bool,
) {
    let place = Place::memfd("operations").unwrap();
    let ring = Ring::<T>::builder(capacity).persistent(persistent).create(place).unwrap();
    let again = Ring::<T>::from_fd(ring.inheritable_fd().unwrap()).unwrap();
    assert_eq!(again.capacity(), capacity);
    let mut tx: Option<Sender<T>> = None;
    let mut rx: Option<Receiver<T>> = None;
    let model = &mut Slots::<T> {
        capacity: capacity as u64,
        persistent,
        sent: 0,
        received: 0,
        sender: Peer::NeverCame,
        receiver: Peer::NeverCame,
        message: std::marker::PhantomData,
    };
    while !input.is_empty() {
        let choice = input.byte();
        let ring = if choice & 0x80 == 0 { &ring } else { &again };
        let tx = match choice % 16 {
            0 => {
                tx = None;
                if model.sender == Peer::Here {
                    model.sender = Peer::Left;
                }
                continue;
            }
            1 => {
                rx = None;
                if model.receiver == Peer::Here {
                    model.receiver = Peer::Left;
                }
                continue;
            }
            2..=8 => {
                if tx.is_none() {
                    tx = Some(ring.sender().unwrap());
                    model.sender = Peer::Here;
                    let second = ring.sender();
                    assert!(matches!(second, Err(SetupError::RoleTaken { pid, .. }) if pid != 0));
                }
                tx.as_mut().unwrap()
            }
            _ => {
                if rx.is_none() {
                    rx = Some(ring.receiver().unwrap());
                    model.receiver = Peer::Here;
                }
                receive(input, choice, rx.as_mut().unwrap(), model);
                look(ring, model);
                continue;
            }
        };
        send(input, choice, tx, model);
        look(ring, model);
    }
}

/// What anybody may see of the ring agrees with the model.
fn look<T: Pod + PartialEq + std::fmt::Debug>(ring: &Ring<T>, model: &Slots<T>) {
    let stats = ring.stats();
    assert_eq!((stats.sent, stats.received), (model.sent, model.received));
    assert_eq!(stats.length, model.waiting());
    assert!(stats.high_water >= stats.length && stats.high_water <= model.capacity);
    assert_eq!(stats.repairs, 0);
    for side in &stats.participants {
        let peer = match side.role {
            annulus::Role::Sender => model.sender,
            annulus::Role::Receiver => model.receiver,
        };
        assert_eq!(side.alive, peer == Peer::Here);
        assert_eq!(side.left, peer == Peer::Left);
        assert_eq!(side.pid, std::process::id());
    }
}

fn send<T: Pod + PartialEq + std::fmt::Debug>(
    input: &mut Input<'_>,
    choice: u8,
    tx: &mut Sender<T>,
    model: &mut Slots<T>,
) {
    let some = |count: u64| -> Vec<T> { (0..count).map(|i| nth(model.sent + i)).collect() };
    let ended = model.receiver.ends_it(model.persistent);
    match choice % 16 {
        2 | 3 => {
            let result = tx.try_send(nth(model.sent));
            model.offered(result);
        }
        4 => {
            let count = input.byte();
            if count & 0x80 != 0 {
                let offered = some(u64::from(count & 0x7f));
                let mut rest = offered.iter().copied();
                let sent = tx.try_send_from(rest.by_ref());
                assert_eq!(rest.len(), offered.len() - sent, "what was not sent is kept");
                let most = model.room().min(offered.len() as u64);
                assert!(sent as u64 <= most && (sent > 0 || most == 0 || ended));
                model.sent += sent as u64;
                return;
            }
            for _ in 0..count % 64 {
                let result = tx.try_send(nth(model.sent));
                model.offered(result);
            }
        }
        5 => {
            let count = input.below(100) as u64;
            let sent = tx.try_send_batch(&some(count)) as u64;
            assert!(sent == count.min(model.room()) || ended && sent == 0);
            model.sent += sent;
        }
        6 => {
            let count = (input.below(50) as u64).min(model.room());
            match tx.send_all(&some(count)) {
                Ok(()) => model.sent += count,
                Err(error) => {
                    assert!(ended, "{error}");
                    model.sent += error.sent as u64;
                }
            }
        }
        7 => match tx.send_timeout(nth(model.sent), Duration::ZERO) {
            Ok(()) => {
                assert!(model.room() > 0);
                model.sent += 1;
            }
            Err(error) => {
                let disconnected = error.to_string().contains("left");
                assert!(model.room() == 0 || disconnected, "{error}");
                assert_eq!(disconnected, ended, "{error}");
            }
        },
        _ => {
            assert_eq!(tx.len() as u64, model.waiting());
            assert_eq!(tx.is_empty(), model.waiting() == 0);
            let here = model.receiver == Peer::Here;
            assert_eq!(tx.wait_for_peer(Duration::ZERO), here);
        }
    }
}

fn receive<T: Pod + PartialEq + std::fmt::Debug>(
    input: &mut Input<'_>,
    choice: u8,
    rx: &mut Receiver<T>,
    model: &mut Slots<T>,
) {
    match choice % 16 {
        9 | 10 => match rx.try_recv() {
            Ok(message) => model.took(message),
            Err(error) => model.nothing(error == TryRecvError::Disconnected),
        },
        11 => {
            let count = input.byte();
            if count & 0x80 != 0 {
                let most = usize::from(count & 0x7f);
                let waiting = model.waiting();
                let drained: Vec<T> = rx.drain(most).collect();
                assert_eq!(drained.len() as u64, waiting.min(most as u64));
                drained.into_iter().for_each(|message| model.took(message));
                return;
            }
            for message in rx.try_iter().take(usize::from(count % 64)) {
                model.took(message);
            }
        }
        12 => {
            let most = input.below(100);
            let mut messages = vec![T::zeroed(); most];
            let got = rx.try_recv_batch(&mut messages);
            assert_eq!(got as u64, model.waiting().min(most as u64));
            messages.into_iter().take(got).for_each(|message| model.took(message));
        }
        13 if model.waiting() > 0 || model.sender.ends_it(model.persistent) => {
            let mut messages = vec![T::zeroed(); 1 + input.below(9)];
            match rx.recv_batch(&mut messages) {
                Ok(got) => {
                    assert_eq!(got as u64, model.waiting().min(messages.len() as u64));
                    messages.into_iter().take(got).for_each(|message| model.took(message));
                }
                Err(error) => model.nothing(error == RecvError::Disconnected),
            }
        }
        14 => match rx.recv_timeout(Duration::ZERO) {
            Ok(message) => model.took(message),
            Err(error) => model.nothing(error == RecvTimeoutError::Disconnected),
        },
        _ => {
            assert_eq!(rx.len() as u64, model.waiting());
            let here = model.sender == Peer::Here;
            assert_eq!(rx.wait_for_peer(Duration::ZERO), here);
        }
    }
}

/// A byte ring, to the byte: a message takes a header and whole words, a lap may end with a pad, and a
/// header's worth always stays free.
struct Bytes {
    /// Bytes before each message that are not the user's.
    extra: usize,
    size: u64,
    tail: u64,
    head: u64,
    records: VecDeque<Record>,
    messages: (u64, u64),
    persistent: bool,
    sender: Peer,
    receiver: Peer,
}

#[derive(Debug)]
enum Record {
    Pad(u64),
    Message(Vec<u8>),
}

fn record(len: usize) -> u64 {
    8 + len.next_multiple_of(8) as u64
}

impl Bytes {
    fn record(&self, len: usize) -> u64 {
        record(len + self.extra)
    }

    fn fits(&self, bytes: u64) -> bool {
        self.tail + bytes <= self.head + self.size - 8
    }

    /// Whether a message of `len` bytes is taken now; a pad is left behind either way.
    fn reserve(&mut self, len: usize) -> bool {
        let rest = self.size - self.tail % self.size;
        if self.record(len) > rest {
            if !self.fits(rest) {
                return false;
            }
            self.tail += rest;
            self.records.push_back(Record::Pad(rest));
        }
        self.fits(self.record(len))
    }

    fn commit(&mut self, message: Vec<u8>) {
        self.tail += self.record(message.len());
        self.records.push_back(Record::Message(message));
        self.messages.0 += 1;
    }

    /// The next message, after the receiver has looked for it.
    fn front(&mut self) -> Option<&Vec<u8>> {
        if let Some(&Record::Pad(bytes)) = self.records.front() {
            self.records.pop_front();
            self.head += bytes;
        }
        match self.records.front() {
            Some(Record::Message(message)) => Some(message),
            Some(Record::Pad(_)) => panic!("two pads in a row"),
            None => None,
        }
    }

    fn release(&mut self) {
        match self.records.pop_front() {
            Some(Record::Message(message)) => self.head += self.record(message.len()),
            other => panic!("released {other:?}"),
        }
        self.messages.1 += 1;
    }

    fn took(&mut self, message: &[u8]) {
        assert_eq!(self.front().map(Vec::as_slice), Some(message));
        self.release();
    }

    fn nothing(&mut self, disconnected: bool) {
        assert_eq!(self.front(), None, "a message was not seen");
        assert_eq!(disconnected, self.sender.ends_it(self.persistent));
    }
}

fn bytes(input: &mut Input<'_>, ring: Builder<ByteRing>, persistent: bool) {
    let place = Place::memfd("operations").unwrap();
    let ring = ring.persistent(persistent).create(place).unwrap();
    let capacity = ring.capacity();
    // A number before each message of an ordered ring.
    let extra = if ring.topology() != Topology::Spsc && ring.is_ordered() { 8 } else { 0 };
    let again = ByteRing::from_fd(ring.inheritable_fd().unwrap()).unwrap();
    assert_eq!((again.capacity(), again.max_message()), (capacity, capacity));
    let mut tx: Option<ByteSender> = None;
    let mut rx: Option<ByteReceiver> = None;
    let model = &mut Bytes {
        extra,
        size: record(capacity + extra) + 8,
        tail: 0,
        head: 0,
        records: VecDeque::new(),
        messages: (0, 0),
        persistent,
        sender: Peer::NeverCame,
        receiver: Peer::NeverCame,
    };
    while !input.is_empty() {
        let choice = input.byte();
        let ring = if choice & 0x80 == 0 { &ring } else { &again };
        match choice % 16 {
            0 => {
                tx = None;
                if model.sender == Peer::Here {
                    model.sender = Peer::Left;
                }
            }
            1 => {
                rx = None;
                if model.receiver == Peer::Here {
                    model.receiver = Peer::Left;
                }
            }
            2..=8 => {
                let tx = tx.get_or_insert_with(|| ring.sender().unwrap());
                model.sender = Peer::Here;
                send_bytes(input, choice, tx, model, capacity);
            }
            _ => {
                let rx = rx.get_or_insert_with(|| ring.receiver().unwrap());
                model.receiver = Peer::Here;
                if ring.topology() != Topology::Spsc {
                    // Nobody rings for a pad in front of a message that was given up; who waits finds it.
                    let _ = rx.wait_ready(Duration::ZERO);
                    model.front();
                }
                receive_bytes(input, choice, rx, model, capacity);
            }
        }
        let stats = ring.stats();
        assert_eq!((stats.sent, stats.received), model.messages);
        assert_eq!(stats.length, model.tail - model.head);
        assert!(stats.high_water >= stats.length && stats.high_water < model.size);
    }
}

fn send_bytes(
    input: &mut Input<'_>,
    choice: u8,
    tx: &mut ByteSender,
    model: &mut Bytes,
    capacity: usize,
) {
    // Short ones, and as long as the ring.
    let len = match input.byte() {
        255 => capacity,
        254 => capacity + 1,
        short @ 0..=99 => (usize::from(short) % 24).min(capacity),
        any => usize::from(any) * capacity / 256,
    };
    let message: Vec<u8> =
        (0..len).map(|i| (model.messages.0 as u8).wrapping_mul(37).wrapping_add(i as u8)).collect();
    let ended = model.receiver.ends_it(model.persistent);
    let result = match choice % 16 {
        2 | 3 => tx.try_send(&message).map(|()| true),
        4 => tx.send_timeout(&message, Duration::ZERO).map(|()| true),
        5 => tx.try_reserve(len).map(|grant| {
            grant.abort();
            false
        }),
        6 => tx.try_reserve(len).map(|mut grant| {
            assert_eq!(grant.len(), len);
            grant.write(0, &vec![0xee; len / 2]);
            false
        }),
        _ => tx.try_reserve(len).map(|mut grant| {
            // In three pieces, the middle one first.
            let (a, b) = (input.below(len + 1), input.below(len + 1));
            let (a, b) = (a.min(b), a.max(b));
            grant.write(a, &message[a..b]);
            grant.write(0, &message[..a]);
            grant.write(b, &message[b..]);
            grant.commit();
            true
        }),
    };
    match result {
        Err(ByteSendError::TooLong { len, max }) => assert!(len > capacity && max == capacity),
        // The sender had heard of it before it looked for room.
        Err(ByteSendError::Disconnected) if ended => {
            // Whether a pad went out before it noticed, only the ring's figures say.
            let there = tx.len() as u64;
            if there != model.tail - model.head {
                assert!(!model.reserve(len));
                assert_eq!(there, model.tail - model.head);
            }
        }
        Err(ByteSendError::Full | ByteSendError::Timeout) => {
            assert!(!model.reserve(len) && !ended, "full with room for {len}");
        }
        Err(error) => panic!("{error:?}"),
        Ok(sent) => {
            assert!(model.reserve(len), "sent {len} bytes into a full ring");
            if sent {
                model.commit(message);
            }
        }
    }
}

fn receive_bytes(
    input: &mut Input<'_>,
    choice: u8,
    rx: &mut ByteReceiver,
    model: &mut Bytes,
    capacity: usize,
) {
    let mut message = vec![0x55; input.below(3)];
    match choice % 16 {
        9 | 10 => match rx.try_recv(&mut message) {
            Ok(len) => {
                assert_eq!(len, message.len());
                model.took(&message);
            }
            Err(error) => model.nothing(error == TryRecvError::Disconnected),
        },
        11 => match rx.recv_timeout(&mut message, Duration::ZERO) {
            Ok(_) => model.took(&message),
            Err(error) => model.nothing(error == RecvTimeoutError::Disconnected),
        },
        12 => {
            let mut room = vec![0; input.below(capacity + 1)];
            match rx.try_recv_into(&mut room) {
                Ok(len) => model.took(&room[..len]),
                Err(RecvIntoError::TooSmall { len }) => {
                    assert!(len > room.len());
                    assert_eq!(model.front().map(Vec::len), Some(len));
                }
                Err(error) => model.nothing(error == RecvIntoError::Disconnected),
            }
        }
        13 => match rx.try_claim() {
            Ok(claimed) => {
                let there = claimed.to_vec();
                assert_eq!((claimed.len(), claimed.is_empty()), (there.len(), there.is_empty()));
                if input.byte().is_multiple_of(4) {
                    // Never released: it stays for the next.
                    std::mem::forget(claimed);
                    assert_eq!(model.front(), Some(&there));
                } else {
                    drop(claimed);
                    model.took(&there);
                }
            }
            Err(error) => model.nothing(error == TryRecvError::Disconnected),
        },
        14 => {
            let most = input.below(20);
            let mut count = 0;
            let got = rx.try_recv_batch(most, |claimed| {
                model.took(&claimed.to_vec());
                count += 1;
            });
            assert_eq!(got, count);
            if got < most {
                assert_eq!(model.front(), None, "a batch left a message behind");
            }
        }
        _ => {
            assert_eq!(rx.len() as u64, model.tail - model.head);
            assert_eq!(rx.wait_for_peer(Duration::ZERO), model.sender == Peer::Here);
        }
    }
}
