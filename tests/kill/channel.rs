//! A broadcast by its type, and one of bytes of any length, as the kill tests use both.

use std::hint::black_box;
use std::os::fd::OwnedFd;
use std::time::Duration;

use annulus::{
    Broadcast, BroadcastReceiver, BroadcastRecvError, BroadcastSender, ByteBroadcast,
    ByteBroadcastReceiver, ByteBroadcastSender, Delivery, Place, SetupError, Start, Wait,
};

use super::message::{LONGEST, Tagged, bytes, tag_of_bytes};

/// What a receiver was given: a tag, or why the message is not whole.
pub type Found = Result<u64, String>;

/// A kind of broadcast.
pub trait Channel: Sync + 'static {
    /// For the table.
    const LABEL: &'static str;
    type Opened: Sync;
    type Sender;
    type Receiver;
    type Message;

    fn make(tag: u64) -> Self::Message;

    fn create(capacity: usize, receivers: usize) -> Result<Self::Opened, SetupError>;
    fn share(opened: &Self::Opened) -> Result<OwnedFd, SetupError>;
    fn from_fd(fd: OwnedFd) -> Result<Self::Opened, SetupError>;
    fn sender(opened: &Self::Opened) -> Result<Self::Sender, SetupError>;
    fn receiver(
        opened: &Self::Opened,
        delivery: Delivery,
        start: Start,
    ) -> Result<Self::Receiver, SetupError>;

    fn set_patience(tx: &mut Self::Sender, patience: Option<Duration>);
    fn try_send(tx: &mut Self::Sender, message: &Self::Message) -> Result<(), String>;
    fn send_within(
        tx: &mut Self::Sender,
        message: &Self::Message,
        limit: Duration,
    ) -> Result<(), String>;
    /// Sends as many as there is room for, in one call where there is such a call.
    fn send_batch(tx: &mut Self::Sender, messages: &[Self::Message]);

    fn set_wait(rx: &mut Self::Receiver, wait: Wait);
    fn try_recv(rx: &mut Self::Receiver) -> Result<Found, BroadcastRecvError>;
    /// The same, and nobody looks at what it was.
    fn take(rx: &mut Self::Receiver);
    /// Takes so many, in one call where there is such a call.
    fn take_batch(rx: &mut Self::Receiver, count: usize);
    /// Takes one, waiting for it.
    fn take_within(rx: &mut Self::Receiver, limit: Duration);
    fn rejoin(rx: &mut Self::Receiver, start: Start) -> Result<u64, BroadcastRecvError>;
}

/// Messages of eight words.
pub struct Typed;

type Words = [u64; 8];

impl Channel for Typed {
    const LABEL: &'static str = "broadcast";
    type Opened = Broadcast<Words>;
    type Sender = BroadcastSender<Words>;
    type Receiver = BroadcastReceiver<Words>;
    type Message = Words;

    fn make(tag: u64) -> Words {
        Words::make(tag)
    }

    fn create(capacity: usize, receivers: usize) -> Result<Self::Opened, SetupError> {
        Broadcast::builder(capacity).participants(receivers).create(Place::memfd("kill")?)
    }

    fn share(opened: &Self::Opened) -> Result<OwnedFd, SetupError> {
        opened.inheritable_fd()
    }

    fn from_fd(fd: OwnedFd) -> Result<Self::Opened, SetupError> {
        Broadcast::from_fd(fd)
    }

    fn sender(opened: &Self::Opened) -> Result<Self::Sender, SetupError> {
        opened.sender()
    }

    fn receiver(
        opened: &Self::Opened,
        delivery: Delivery,
        start: Start,
    ) -> Result<Self::Receiver, SetupError> {
        opened.receiver(delivery, start)
    }

    fn set_patience(tx: &mut Self::Sender, patience: Option<Duration>) {
        tx.set_patience(patience);
    }

    fn try_send(tx: &mut Self::Sender, message: &Words) -> Result<(), String> {
        tx.try_send(*message).map_err(|error| error.to_string())
    }

    fn send_within(tx: &mut Self::Sender, message: &Words, limit: Duration) -> Result<(), String> {
        tx.send_timeout(*message, limit).map_err(|error| error.to_string())
    }

    fn send_batch(tx: &mut Self::Sender, messages: &[Words]) {
        black_box(tx.try_send_batch(messages));
    }

    fn set_wait(rx: &mut Self::Receiver, wait: Wait) {
        rx.set_wait(wait);
    }

    fn try_recv(rx: &mut Self::Receiver) -> Result<Found, BroadcastRecvError> {
        Ok(rx.try_recv()?.tag())
    }

    fn take(rx: &mut Self::Receiver) {
        let _ = black_box(rx.try_recv());
    }

    fn take_batch(rx: &mut Self::Receiver, count: usize) {
        let mut batch = [[0; 8]; 8];
        let _ = black_box(rx.try_recv_batch(&mut batch[..count]));
    }

    fn take_within(rx: &mut Self::Receiver, limit: Duration) {
        let _ = black_box(rx.recv_timeout(limit));
    }

    fn rejoin(rx: &mut Self::Receiver, start: Start) -> Result<u64, BroadcastRecvError> {
        rx.rejoin(start)
    }
}

/// Messages of 8 to 64 bytes.
pub struct Bytes;

impl Channel for Bytes {
    const LABEL: &'static str = "broadcast of bytes";
    type Opened = ByteBroadcast;
    type Sender = ByteBroadcastSender;
    type Receiver = ByteBroadcastReceiver;
    type Message = Vec<u8>;

    fn make(tag: u64) -> Vec<u8> {
        bytes(tag)
    }

    fn create(capacity: usize, receivers: usize) -> Result<Self::Opened, SetupError> {
        let builder = ByteBroadcast::builder(capacity, LONGEST);
        builder.participants(receivers).create(Place::memfd("kill")?)
    }

    fn share(opened: &Self::Opened) -> Result<OwnedFd, SetupError> {
        opened.inheritable_fd()
    }

    fn from_fd(fd: OwnedFd) -> Result<Self::Opened, SetupError> {
        ByteBroadcast::from_fd(fd)
    }

    fn sender(opened: &Self::Opened) -> Result<Self::Sender, SetupError> {
        opened.sender()
    }

    fn receiver(
        opened: &Self::Opened,
        delivery: Delivery,
        start: Start,
    ) -> Result<Self::Receiver, SetupError> {
        opened.receiver(delivery, start)
    }

    fn set_patience(tx: &mut Self::Sender, patience: Option<Duration>) {
        tx.set_patience(patience);
    }

    fn try_send(tx: &mut Self::Sender, message: &Vec<u8>) -> Result<(), String> {
        tx.try_send(message).map_err(|error| error.to_string())
    }

    fn send_within(
        tx: &mut Self::Sender,
        message: &Vec<u8>,
        limit: Duration,
    ) -> Result<(), String> {
        tx.send_timeout(message, limit).map_err(|error| error.to_string())
    }

    fn send_batch(tx: &mut Self::Sender, messages: &[Vec<u8>]) {
        for message in messages {
            let _ = black_box(tx.try_send(message));
        }
    }

    fn set_wait(rx: &mut Self::Receiver, wait: Wait) {
        rx.set_wait(wait);
    }

    fn try_recv(rx: &mut Self::Receiver) -> Result<Found, BroadcastRecvError> {
        Ok(tag_of_bytes(rx.try_recv()?))
    }

    fn take(rx: &mut Self::Receiver) {
        let _ = black_box(rx.try_recv());
    }

    fn take_batch(rx: &mut Self::Receiver, count: usize) {
        for _ in 0..count {
            let _ = black_box(rx.try_recv());
        }
    }

    fn take_within(rx: &mut Self::Receiver, limit: Duration) {
        let _ = black_box(rx.recv_timeout(limit));
    }

    fn rejoin(rx: &mut Self::Receiver, start: Start) -> Result<u64, BroadcastRecvError> {
        rx.rejoin(start)
    }
}
