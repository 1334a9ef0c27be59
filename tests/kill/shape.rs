//! The rings under test behind one face, for everything in a test that is not the operation under test.

use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::time::Duration;

use annulus::{
    Builder, ByteReceiver, ByteRing, ByteSendError, ByteSender, Place, Receiver, RecvIntoError,
    RecvTimeoutError, Ring, SendTimeoutError, Sender, SetupError, Topology, TryRecvError,
    TrySendError, UntypedReceiver, UntypedRing, UntypedSender, Wait,
};

use super::message::{LONGEST, Tagged, bytes, tag_of_bytes};

/// What came of an attempt to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is in the ring.
    Yes,
    /// There is no room, or there was none in time.
    Full,
    /// Every receiver is gone.
    Disconnected,
}

/// What came of an attempt to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// A whole message.
    Tag(u64),
    /// Nothing is there, or nothing came in time.
    Empty,
    /// Nothing is there and every sender is gone.
    Disconnected,
}

/// A kind of ring and message. A torn message and a `Corrupt` ring are errors of the test.
pub trait Shape: 'static {
    /// The ring.
    type Ring: Send;
    /// Its sending handle.
    type Sender: Send;
    /// Its receiving handle.
    type Receiver: Send;
    /// For the table.
    const LABEL: &'static str;

    /// Tags, in a ring of eight messages that sends them from 0 on, at which the layout does something else:
    /// a new cell, the end of the lap, a record that does not fit before it.
    fn turns() -> Vec<u64>;

    fn create(capacity: usize, place: Place) -> Result<Self::Ring, SetupError>;
    /// A ring that outlives its users.
    fn create_persistent(capacity: usize, place: Place) -> Result<Self::Ring, SetupError>;
    fn open(place: Place) -> Result<Self::Ring, SetupError>;
    fn open_or_create(capacity: usize, place: Place) -> Result<Self::Ring, SetupError>;
    fn from_fd(fd: OwnedFd) -> Result<Self::Ring, SetupError>;
    /// A descriptor for a forked child.
    fn share(ring: &Self::Ring) -> OwnedFd;
    fn sender(ring: &Self::Ring) -> Result<Self::Sender, SetupError>;
    fn receiver(ring: &Self::Ring) -> Result<Self::Receiver, SetupError>;

    /// How often the sides went to sleep until now.
    fn sleeps(ring: &Self::Ring) -> u64;

    fn sender_waits(tx: &mut Self::Sender, wait: Wait);
    fn receiver_waits(rx: &mut Self::Receiver, wait: Wait);
    fn sender_awaits_peer(tx: &mut Self::Sender, limit: Duration) -> bool;
    fn receiver_awaits_peer(rx: &mut Self::Receiver, limit: Duration) -> bool;

    fn try_send(tx: &mut Self::Sender, tag: u64) -> Result<Sent, String>;
    fn send_within(tx: &mut Self::Sender, tag: u64, limit: Duration) -> Result<Sent, String>;
    /// Tries the tags `first..first + count` in one call, where the shape has one: how many it took.
    fn send_batch(tx: &mut Self::Sender, first: u64, count: usize) -> Result<usize, String>;

    /// Sends in the way that builds the message in the ring, where the shape has one.
    fn build_within(tx: &mut Self::Sender, tag: u64, limit: Duration) -> Result<Sent, String> {
        Self::send_within(tx, tag, limit)
    }

    fn try_recv(rx: &mut Self::Receiver) -> Result<Got, String>;
    fn recv_within(rx: &mut Self::Receiver, limit: Duration) -> Result<Got, String>;
    /// Takes up to `count` messages in one call and gives their tags to `each`: how many there were.
    fn recv_batch(
        rx: &mut Self::Receiver,
        count: usize,
        each: impl FnMut(u64),
    ) -> Result<usize, String>;

    /// Whether `memory`, to which a batch was received, holds the whole message `tag` at `index`.
    fn is_in_hand(memory: &[u64], index: usize, tag: u64) -> bool;

    /// Whether [`Shape::claim_within`] calls `note` while the message is still in the ring.
    const CLAIMS: bool = false;

    /// Receives and calls `note` with the tag.
    fn claim_within(
        rx: &mut Self::Receiver,
        limit: Duration,
        note: impl FnOnce(u64),
    ) -> Result<Got, String> {
        let got = Self::recv_within(rx, limit)?;
        if let Got::Tag(tag) = got {
            note(tag);
        }
        Ok(got)
    }
}

/// Who may send and receive.
pub trait Sides: 'static {
    const TOPOLOGY: Topology;
    /// Whether messages of different senders are received in their order.
    const ORDERED: bool = false;
    /// Bytes, for the table.
    const BYTES_LABEL: &'static str = "bytes";
}

/// One sender, one receiver.
pub struct Sole;

impl Sides for Sole {
    const TOPOLOGY: Topology = Topology::Spsc;
}

/// Many of each.
pub struct Shared;

impl Sides for Shared {
    const TOPOLOGY: Topology = Topology::Mpmc;
}

/// Many senders, each with a lane of its own.
pub struct Lanes;

impl Sides for Lanes {
    const TOPOLOGY: Topology = Topology::Mpsc;
    const BYTES_LABEL: &'static str = "lanes";
}

/// The same, in order.
pub struct OrderedLanes;

impl Sides for OrderedLanes {
    const TOPOLOGY: Topology = Topology::Mpsc;
    const ORDERED: bool = true;
    const BYTES_LABEL: &'static str = "ordered lanes";
}

/// `Ring<T>`.
pub struct Slots<T, K = Sole>(PhantomData<(T, K)>);

impl<T: Tagged + 'static, K: Sides> Shape for Slots<T, K> {
    type Ring = Ring<T>;
    type Sender = Sender<T>;
    type Receiver = Receiver<T>;
    const LABEL: &'static str =
        if let Topology::Spsc = K::TOPOLOGY { T::LABEL } else { T::SHARED_LABEL };

    fn turns() -> Vec<u64> {
        if K::TOPOLOGY != Topology::Spsc {
            // Eight slots.
            return vec![7, 8];
        }
        // As many messages as fit share a cell of seven words; a larger one has a cell to itself. One cell more
        // than what seven messages can begin in is a lap.
        let per_cell = (7 / size_of::<T>().div_ceil(8) as u64).max(1);
        let lap = (7u64.div_ceil(per_cell) + 1) * per_cell;
        let mut turns = vec![lap - 1, lap];
        if per_cell > 1 {
            turns.insert(0, per_cell);
        }
        turns
    }

    fn create(capacity: usize, place: Place) -> Result<Ring<T>, SetupError> {
        Ring::<T>::builder(capacity).topology(K::TOPOLOGY).create(place)
    }

    fn create_persistent(capacity: usize, place: Place) -> Result<Ring<T>, SetupError> {
        Ring::<T>::builder(capacity).topology(K::TOPOLOGY).persistent(true).create(place)
    }

    fn open(place: Place) -> Result<Ring<T>, SetupError> {
        Ring::<T>::open(place)
    }

    fn open_or_create(capacity: usize, place: Place) -> Result<Ring<T>, SetupError> {
        Ring::<T>::builder(capacity).topology(K::TOPOLOGY).open_or_create(place)
    }

    fn from_fd(fd: OwnedFd) -> Result<Ring<T>, SetupError> {
        Ring::<T>::from_fd(fd)
    }

    fn share(ring: &Ring<T>) -> OwnedFd {
        ring.inheritable_fd().expect("a descriptor more")
    }

    fn sender(ring: &Ring<T>) -> Result<Sender<T>, SetupError> {
        ring.sender()
    }

    fn receiver(ring: &Ring<T>) -> Result<Receiver<T>, SetupError> {
        ring.receiver()
    }

    fn sleeps(ring: &Ring<T>) -> u64 {
        ring.stats().waits
    }

    fn sender_waits(tx: &mut Sender<T>, wait: Wait) {
        tx.set_wait(wait);
    }

    fn receiver_waits(rx: &mut Receiver<T>, wait: Wait) {
        rx.set_wait(wait);
    }

    fn sender_awaits_peer(tx: &mut Sender<T>, limit: Duration) -> bool {
        tx.wait_for_peer(limit)
    }

    fn receiver_awaits_peer(rx: &mut Receiver<T>, limit: Duration) -> bool {
        rx.wait_for_peer(limit)
    }

    fn try_send(tx: &mut Sender<T>, tag: u64) -> Result<Sent, String> {
        match tx.try_send(T::make(tag)) {
            Ok(()) => Ok(Sent::Yes),
            Err(TrySendError::Full(_)) => Ok(Sent::Full),
            Err(TrySendError::Disconnected(_)) => Ok(Sent::Disconnected),
            Err(error) => Err(format!("try_send: {error}")),
        }
    }

    fn send_within(tx: &mut Sender<T>, tag: u64, limit: Duration) -> Result<Sent, String> {
        match tx.send_timeout(T::make(tag), limit) {
            Ok(()) => Ok(Sent::Yes),
            Err(SendTimeoutError::Timeout(_)) => Ok(Sent::Full),
            Err(SendTimeoutError::Disconnected(_)) => Ok(Sent::Disconnected),
            Err(error) => Err(format!("send: {error}")),
        }
    }

    fn send_batch(tx: &mut Sender<T>, first: u64, count: usize) -> Result<usize, String> {
        let batch: Vec<T> = (first..).take(count).map(T::make).collect();
        Ok(tx.try_send_batch(&batch))
    }

    fn try_recv(rx: &mut Receiver<T>) -> Result<Got, String> {
        match rx.try_recv() {
            Ok(message) => message.tag().map(Got::Tag),
            Err(TryRecvError::Empty) => Ok(Got::Empty),
            Err(TryRecvError::Disconnected) => Ok(Got::Disconnected),
            Err(error) => Err(format!("try_recv: {error}")),
        }
    }

    fn recv_within(rx: &mut Receiver<T>, limit: Duration) -> Result<Got, String> {
        match rx.recv_timeout(limit) {
            Ok(message) => message.tag().map(Got::Tag),
            Err(RecvTimeoutError::Timeout) => Ok(Got::Empty),
            Err(RecvTimeoutError::Disconnected) => Ok(Got::Disconnected),
            Err(error) => Err(format!("recv: {error}")),
        }
    }

    fn recv_batch(
        rx: &mut Receiver<T>,
        count: usize,
        mut each: impl FnMut(u64),
    ) -> Result<usize, String> {
        let mut batch = vec![T::make(0); count];
        let received = rx.try_recv_batch(&mut batch);
        for message in &batch[..received] {
            each(message.tag()?);
        }
        Ok(received)
    }

    fn is_in_hand(memory: &[u64], index: usize, tag: u64) -> bool {
        let size = size_of::<T>();
        let memory: &[u8] = bytemuck::cast_slice(memory);
        memory[index * size..][..size] == *bytemuck::bytes_of(&T::make(tag))
    }
}

/// `UntypedRing`, whose messages are a type's bytes.
pub struct Bare<T>(PhantomData<T>);

fn tag_of_bare<T: Tagged>(message: &[u8]) -> Result<u64, String> {
    bytemuck::pod_read_unaligned::<T>(message).tag()
}

impl<T: Tagged + 'static> Shape for Bare<T> {
    type Ring = UntypedRing;
    type Sender = UntypedSender;
    type Receiver = UntypedReceiver;
    const LABEL: &'static str = T::BARE_LABEL;

    fn turns() -> Vec<u64> {
        Slots::<T, Sole>::turns()
    }

    fn create(capacity: usize, place: Place) -> Result<UntypedRing, SetupError> {
        UntypedRing::builder(capacity, size_of::<T>()).create(place)
    }

    fn create_persistent(capacity: usize, place: Place) -> Result<UntypedRing, SetupError> {
        UntypedRing::builder(capacity, size_of::<T>()).persistent(true).create(place)
    }

    fn open(place: Place) -> Result<UntypedRing, SetupError> {
        UntypedRing::open(place)
    }

    fn open_or_create(capacity: usize, place: Place) -> Result<UntypedRing, SetupError> {
        UntypedRing::builder(capacity, size_of::<T>()).open_or_create(place)
    }

    fn from_fd(fd: OwnedFd) -> Result<UntypedRing, SetupError> {
        UntypedRing::from_fd(fd)
    }

    fn share(ring: &UntypedRing) -> OwnedFd {
        ring.inheritable_fd().expect("a descriptor more")
    }

    fn sender(ring: &UntypedRing) -> Result<UntypedSender, SetupError> {
        ring.sender()
    }

    fn receiver(ring: &UntypedRing) -> Result<UntypedReceiver, SetupError> {
        ring.receiver()
    }

    fn sleeps(ring: &UntypedRing) -> u64 {
        ring.stats().waits
    }

    fn sender_waits(tx: &mut UntypedSender, wait: Wait) {
        tx.set_wait(wait);
    }

    fn receiver_waits(rx: &mut UntypedReceiver, wait: Wait) {
        rx.set_wait(wait);
    }

    fn sender_awaits_peer(tx: &mut UntypedSender, limit: Duration) -> bool {
        tx.wait_for_peer(limit)
    }

    fn receiver_awaits_peer(rx: &mut UntypedReceiver, limit: Duration) -> bool {
        rx.wait_for_peer(limit)
    }

    fn try_send(tx: &mut UntypedSender, tag: u64) -> Result<Sent, String> {
        sent(tx.try_send(bytemuck::bytes_of(&T::make(tag))))
    }

    fn send_within(tx: &mut UntypedSender, tag: u64, limit: Duration) -> Result<Sent, String> {
        sent(tx.send_timeout(bytemuck::bytes_of(&T::make(tag)), limit))
    }

    fn send_batch(tx: &mut UntypedSender, first: u64, count: usize) -> Result<usize, String> {
        let batch: Vec<T> = (first..).take(count).map(T::make).collect();
        Ok(tx.try_send_batch(bytemuck::cast_slice(&batch)))
    }

    fn try_recv(rx: &mut UntypedReceiver) -> Result<Got, String> {
        let mut message = vec![0; size_of::<T>()];
        match rx.try_recv(&mut message) {
            Ok(()) => tag_of_bare::<T>(&message).map(Got::Tag),
            Err(RecvIntoError::Empty) => Ok(Got::Empty),
            Err(RecvIntoError::Disconnected) => Ok(Got::Disconnected),
            Err(error) => Err(format!("try_recv: {error}")),
        }
    }

    fn recv_within(rx: &mut UntypedReceiver, limit: Duration) -> Result<Got, String> {
        let mut message = vec![0; size_of::<T>()];
        match rx.recv_timeout(&mut message, limit) {
            Ok(()) => tag_of_bare::<T>(&message).map(Got::Tag),
            Err(RecvIntoError::Timeout) => Ok(Got::Empty),
            Err(RecvIntoError::Disconnected) => Ok(Got::Disconnected),
            Err(error) => Err(format!("recv: {error}")),
        }
    }

    fn recv_batch(
        rx: &mut UntypedReceiver,
        count: usize,
        mut each: impl FnMut(u64),
    ) -> Result<usize, String> {
        let mut batch = vec![0; count * size_of::<T>()];
        let received = rx.try_recv_batch(&mut batch);
        for message in batch.chunks(size_of::<T>()).take(received) {
            each(tag_of_bare::<T>(message)?);
        }
        Ok(received)
    }

    fn is_in_hand(memory: &[u64], index: usize, tag: u64) -> bool {
        Slots::<T>::is_in_hand(memory, index, tag)
    }
}

/// `ByteRing`.
pub struct Bytes<K = Sole>(PhantomData<K>);

impl<K: Sides> Bytes<K> {
    fn builder(capacity: usize) -> Builder<ByteRing> {
        // One lane for those who send, and one that nobody does.
        let builder = ByteRing::builder(capacity * LONGEST).topology(K::TOPOLOGY).participants(2);
        builder.ordered(K::ORDERED)
    }
}

impl<K: Sides> Shape for Bytes<K> {
    type Ring = ByteRing;
    type Sender = ByteSender;
    type Receiver = ByteReceiver;
    const LABEL: &'static str = K::BYTES_LABEL;

    fn turns() -> Vec<u64> {
        // A record is a word and the payload in whole words; one word more than the capacity's record is a lap.
        let extra = if K::ORDERED { 8 } else { 0 };
        let lap = 8 * LONGEST + 2 * 8 + extra;
        let (mut offset, mut turns) = (0, Vec::new());
        for tag in 0..40 {
            let record = 8 + extra + bytes(tag).len().next_multiple_of(8);
            if offset + record > lap {
                turns.push(tag);
                offset = 0;
            }
            offset = (offset + record) % lap;
        }
        turns
    }

    fn create(capacity: usize, place: Place) -> Result<ByteRing, SetupError> {
        Self::builder(capacity).create(place)
    }

    fn create_persistent(capacity: usize, place: Place) -> Result<ByteRing, SetupError> {
        Self::builder(capacity).persistent(true).create(place)
    }

    fn open(place: Place) -> Result<ByteRing, SetupError> {
        ByteRing::open(place)
    }

    fn open_or_create(capacity: usize, place: Place) -> Result<ByteRing, SetupError> {
        Self::builder(capacity).open_or_create(place)
    }

    fn from_fd(fd: OwnedFd) -> Result<ByteRing, SetupError> {
        ByteRing::from_fd(fd)
    }

    fn share(ring: &ByteRing) -> OwnedFd {
        ring.inheritable_fd().expect("a descriptor more")
    }

    fn sender(ring: &ByteRing) -> Result<ByteSender, SetupError> {
        ring.sender()
    }

    fn receiver(ring: &ByteRing) -> Result<ByteReceiver, SetupError> {
        ring.receiver()
    }

    fn sleeps(ring: &ByteRing) -> u64 {
        ring.stats().waits
    }

    fn sender_waits(tx: &mut ByteSender, wait: Wait) {
        tx.set_wait(wait);
    }

    fn receiver_waits(rx: &mut ByteReceiver, wait: Wait) {
        rx.set_wait(wait);
    }

    fn sender_awaits_peer(tx: &mut ByteSender, limit: Duration) -> bool {
        tx.wait_for_peer(limit)
    }

    fn receiver_awaits_peer(rx: &mut ByteReceiver, limit: Duration) -> bool {
        rx.wait_for_peer(limit)
    }

    fn try_send(tx: &mut ByteSender, tag: u64) -> Result<Sent, String> {
        sent(tx.try_send(&bytes(tag)))
    }

    fn send_within(tx: &mut ByteSender, tag: u64, limit: Duration) -> Result<Sent, String> {
        sent(tx.send_timeout(&bytes(tag), limit))
    }

    fn send_batch(tx: &mut ByteSender, first: u64, count: usize) -> Result<usize, String> {
        for taken in 0..count {
            match sent(tx.try_send(&bytes(first + taken as u64)))? {
                Sent::Yes => {}
                Sent::Full | Sent::Disconnected => return Ok(taken),
            }
        }
        Ok(count)
    }

    /// The shape has no reserve with a limit: a full ring is the limit reached.
    fn build_within(tx: &mut ByteSender, tag: u64, _limit: Duration) -> Result<Sent, String> {
        let message = bytes(tag);
        let mut grant = match tx.try_reserve(message.len()) {
            Ok(grant) => grant,
            Err(error) => return sent(Err(error)),
        };
        grant.write(0, &message);
        grant.commit();
        Ok(Sent::Yes)
    }

    fn try_recv(rx: &mut ByteReceiver) -> Result<Got, String> {
        let mut message = Vec::new();
        match rx.try_recv(&mut message) {
            Ok(_) => tag_of_bytes(&message).map(Got::Tag),
            Err(TryRecvError::Empty) => Ok(Got::Empty),
            Err(TryRecvError::Disconnected) => Ok(Got::Disconnected),
            Err(error) => Err(format!("try_recv: {error}")),
        }
    }

    fn recv_within(rx: &mut ByteReceiver, limit: Duration) -> Result<Got, String> {
        let mut message = Vec::new();
        match rx.recv_timeout(&mut message, limit) {
            Ok(_) => tag_of_bytes(&message).map(Got::Tag),
            Err(RecvTimeoutError::Timeout) => Ok(Got::Empty),
            Err(RecvTimeoutError::Disconnected) => Ok(Got::Disconnected),
            Err(error) => Err(format!("recv: {error}")),
        }
    }

    fn recv_batch(
        rx: &mut ByteReceiver,
        count: usize,
        mut each: impl FnMut(u64),
    ) -> Result<usize, String> {
        let mut torn = None;
        let received = rx.try_recv_batch(count, |message| match tag_of_bytes(&message.to_vec()) {
            Ok(tag) => each(tag),
            Err(error) => torn = Some(error),
        });
        torn.map_or(Ok(received), Err)
    }

    fn is_in_hand(memory: &[u64], index: usize, tag: u64) -> bool {
        let message = bytes(tag);
        let memory: &[u8] = bytemuck::cast_slice(memory);
        memory[index * LONGEST..][..message.len()] == message
    }

    const CLAIMS: bool = true;

    /// The shape has no claim with a limit: an empty ring is the limit reached.
    fn claim_within(
        rx: &mut ByteReceiver,
        _limit: Duration,
        note: impl FnOnce(u64),
    ) -> Result<Got, String> {
        match rx.try_claim() {
            Ok(message) => {
                let tag = tag_of_bytes(&message.to_vec())?;
                note(tag);
                Ok(Got::Tag(tag))
            }
            Err(TryRecvError::Empty) => Ok(Got::Empty),
            Err(TryRecvError::Disconnected) => Ok(Got::Disconnected),
            Err(error) => Err(format!("try_claim: {error}")),
        }
    }
}

fn sent(outcome: Result<(), ByteSendError>) -> Result<Sent, String> {
    match outcome {
        Ok(()) => Ok(Sent::Yes),
        Err(ByteSendError::Full | ByteSendError::Timeout) => Ok(Sent::Full),
        Err(ByteSendError::Disconnected) => Ok(Sent::Disconnected),
        Err(error) => Err(format!("send: {error}")),
    }
}
