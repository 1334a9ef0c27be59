//! The same scenarios for every shape in every place, through two attachments of one ring.

mod processes;

use annulus::{
    ByteReceiver, ByteRing, ByteSender, Place, Receiver, Ring, Sender, UntypedReceiver,
    UntypedRing, UntypedSender, Wait,
};
use processes::{PATIENCE, unique};
use std::fmt::Debug;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

/// A shape of ring whose messages are made from numbers and give them back.
trait Shape: Sized {
    type Tx: Send;
    type Rx: Send;
    /// A ring for at least 4 and at most 8 messages.
    fn create(place: Place) -> Self;
    fn open(place: Place) -> Self;
    fn from_fd(fd: OwnedFd) -> Self;
    fn fd(&self) -> OwnedFd;
    fn tx(&self) -> Result<Self::Tx, impl Debug>;
    fn rx(&self) -> Result<Self::Rx, impl Debug>;
    fn wait(tx: &mut Self::Tx, rx: &mut Self::Rx, wait: Wait);
    fn send(tx: &mut Self::Tx, n: u64);
    /// Sends, or says why not.
    fn try_send(tx: &mut Self::Tx, n: u64) -> Result<(), String>;
    fn send_within(tx: &mut Self::Tx, n: u64, timeout: Duration) -> Result<(), String>;
    fn try_recv(rx: &mut Self::Rx) -> Result<u64, String>;
    fn recv(rx: &mut Self::Rx) -> Result<u64, String>;
    fn recv_within(rx: &mut Self::Rx, timeout: Duration) -> Result<u64, String>;
}

fn text(error: impl std::error::Error) -> String {
    error.to_string()
}

/// A message of `N` words that are all the same.
fn same<const N: usize>(message: [u64; N]) -> u64 {
    assert!(message.iter().all(|&word| word == message[0]), "torn: {message:?}");
    message[0]
}

impl<const N: usize> Shape for Ring<[u64; N]>
where
    [u64; N]: bytemuck::Pod,
{
    type Tx = Sender<[u64; N]>;
    type Rx = Receiver<[u64; N]>;
    fn create(place: Place) -> Self {
        Ring::builder(5).create(place).unwrap()
    }
    fn open(place: Place) -> Self {
        Ring::open(place).unwrap()
    }
    fn from_fd(fd: OwnedFd) -> Self {
        Ring::from_fd(fd).unwrap()
    }
    fn fd(&self) -> OwnedFd {
        self.inheritable_fd().unwrap()
    }
    fn tx(&self) -> Result<Self::Tx, impl Debug> {
        self.sender()
    }
    fn rx(&self) -> Result<Self::Rx, impl Debug> {
        self.receiver()
    }
    fn wait(tx: &mut Self::Tx, rx: &mut Self::Rx, wait: Wait) {
        tx.set_wait(wait);
        rx.set_wait(wait);
    }
    fn send(tx: &mut Self::Tx, n: u64) {
        tx.send([n; N]).unwrap();
    }
    fn try_send(tx: &mut Self::Tx, n: u64) -> Result<(), String> {
        tx.try_send([n; N]).map_err(text)
    }
    fn send_within(tx: &mut Self::Tx, n: u64, timeout: Duration) -> Result<(), String> {
        tx.send_timeout([n; N], timeout).map_err(text)
    }
    fn try_recv(rx: &mut Self::Rx) -> Result<u64, String> {
        rx.try_recv().map(same).map_err(text)
    }
    fn recv(rx: &mut Self::Rx) -> Result<u64, String> {
        rx.recv().map(same).map_err(text)
    }
    fn recv_within(rx: &mut Self::Rx, timeout: Duration) -> Result<u64, String> {
        rx.recv_timeout(timeout).map(same).map_err(text)
    }
}

/// Number `n` as 13 bytes.
fn thirteen(n: u64) -> [u8; 13] {
    let mut message = [n as u8; 13];
    message[..8].copy_from_slice(&n.to_le_bytes());
    message
}

fn of_thirteen(message: [u8; 13]) -> u64 {
    let n = u64::from_le_bytes(message[..8].try_into().unwrap());
    assert_eq!(message, thirteen(n), "torn");
    n
}

impl Shape for UntypedRing {
    type Tx = UntypedSender;
    type Rx = UntypedReceiver;
    fn create(place: Place) -> Self {
        UntypedRing::builder(6, 13).create(place).unwrap()
    }
    fn open(place: Place) -> Self {
        UntypedRing::open(place).unwrap()
    }
    fn from_fd(fd: OwnedFd) -> Self {
        UntypedRing::from_fd(fd).unwrap()
    }
    fn fd(&self) -> OwnedFd {
        self.inheritable_fd().unwrap()
    }
    fn tx(&self) -> Result<Self::Tx, impl Debug> {
        self.sender()
    }
    fn rx(&self) -> Result<Self::Rx, impl Debug> {
        self.receiver()
    }
    fn wait(tx: &mut Self::Tx, rx: &mut Self::Rx, wait: Wait) {
        tx.set_wait(wait);
        rx.set_wait(wait);
    }
    fn send(tx: &mut Self::Tx, n: u64) {
        tx.send(&thirteen(n)).unwrap();
    }
    fn try_send(tx: &mut Self::Tx, n: u64) -> Result<(), String> {
        tx.try_send(&thirteen(n)).map_err(text)
    }
    fn send_within(tx: &mut Self::Tx, n: u64, timeout: Duration) -> Result<(), String> {
        tx.send_timeout(&thirteen(n), timeout).map_err(text)
    }
    fn try_recv(rx: &mut Self::Rx) -> Result<u64, String> {
        let mut message = [0; 13];
        rx.try_recv(&mut message).map_err(text)?;
        Ok(of_thirteen(message))
    }
    fn recv(rx: &mut Self::Rx) -> Result<u64, String> {
        let mut message = [0; 13];
        rx.recv(&mut message).map_err(text)?;
        Ok(of_thirteen(message))
    }
    fn recv_within(rx: &mut Self::Rx, timeout: Duration) -> Result<u64, String> {
        let mut message = [0; 13];
        rx.recv_timeout(&mut message, timeout).map_err(text)?;
        Ok(of_thirteen(message))
    }
}

/// Number `n` as a message whose length depends on it.
fn lengthy(n: u64) -> Vec<u8> {
    let mut message = n.to_le_bytes().to_vec();
    message.resize(8 + n as usize % 9, n as u8);
    message
}

fn of_lengthy(message: &[u8]) -> u64 {
    let n = u64::from_le_bytes(message[..8].try_into().unwrap());
    assert_eq!(message, lengthy(n), "torn");
    n
}

impl Shape for ByteRing {
    type Tx = ByteSender;
    type Rx = ByteReceiver;
    fn create(place: Place) -> Self {
        ByteRing::builder(128).create(place).unwrap()
    }
    fn open(place: Place) -> Self {
        ByteRing::open(place).unwrap()
    }
    fn from_fd(fd: OwnedFd) -> Self {
        ByteRing::from_fd(fd).unwrap()
    }
    fn fd(&self) -> OwnedFd {
        self.inheritable_fd().unwrap()
    }
    fn tx(&self) -> Result<Self::Tx, impl Debug> {
        self.sender()
    }
    fn rx(&self) -> Result<Self::Rx, impl Debug> {
        self.receiver()
    }
    fn wait(tx: &mut Self::Tx, rx: &mut Self::Rx, wait: Wait) {
        tx.set_wait(wait);
        rx.set_wait(wait);
    }
    fn send(tx: &mut Self::Tx, n: u64) {
        tx.send(&lengthy(n)).unwrap();
    }
    fn try_send(tx: &mut Self::Tx, n: u64) -> Result<(), String> {
        tx.try_send(&lengthy(n)).map_err(text)
    }
    fn send_within(tx: &mut Self::Tx, n: u64, timeout: Duration) -> Result<(), String> {
        tx.send_timeout(&lengthy(n), timeout).map_err(text)
    }
    fn try_recv(rx: &mut Self::Rx) -> Result<u64, String> {
        rx.try_claim().map(|message| of_lengthy(&message.to_vec())).map_err(text)
    }
    fn recv(rx: &mut Self::Rx) -> Result<u64, String> {
        rx.claim().map(|message| of_lengthy(&message.to_vec())).map_err(text)
    }
    fn recv_within(rx: &mut Self::Rx, timeout: Duration) -> Result<u64, String> {
        let mut message = Vec::new();
        rx.recv_timeout(&mut message, timeout).map_err(text)?;
        Ok(of_lengthy(&message))
    }
}

/// Where a ring is, and how the second attachment comes about.
#[derive(Clone, Copy)]
enum Where {
    Memfd,
    Name,
    Path,
    /// By name here, by descriptor there.
    Both,
}

const WHERES: [Where; 4] = [Where::Memfd, Where::Name, Where::Path, Where::Both];

/// Two attachments of one ring, and what keeps its directory.
fn pair<S: Shape>(place: Where) -> (S, S, Option<tempfile::TempDir>) {
    match place {
        Where::Memfd => {
            let ring = S::create(Place::memfd("places").unwrap());
            let other = S::from_fd(ring.fd());
            (ring, other, None)
        }
        Where::Name => {
            let name = Place::name(&unique("places")).unwrap();
            (S::create(name.clone()), S::open(name), None)
        }
        Where::Path => {
            let directory = tempfile::tempdir().unwrap();
            let path = Place::path(directory.path().join("ring")).unwrap();
            (S::create(path.clone()), S::open(path), Some(directory))
        }
        Where::Both => {
            let ring = S::create(Place::name(&unique("places")).unwrap());
            let other = S::from_fd(ring.fd());
            (ring, other, None)
        }
    }
}

fn a_stream_arrives<S: Shape>(place: Where) {
    for wait in [Wait::Spin, Wait::Block, Wait::Adaptive] {
        let (here, there, _directory) = pair::<S>(place);
        let (mut tx, mut rx) = (here.tx().unwrap(), there.rx().unwrap());
        S::wait(&mut tx, &mut rx, wait);
        thread::scope(|scope| {
            scope.spawn(move || (0..1000).for_each(|n| S::send(&mut tx, n)));
            (0..1000).for_each(|n| assert_eq!(S::recv(&mut rx), Ok(n)));
            assert!(S::recv(&mut rx).unwrap_err().contains("left"));
        });
    }
}

fn full_and_empty_are_said<S: Shape>(place: Where) {
    let (here, there, _directory) = pair::<S>(place);
    let (mut tx, mut rx) = (here.tx().unwrap(), there.rx().unwrap());
    let short = Duration::from_millis(3);
    let mut next = 0;
    for _ in 0..5 {
        assert!(S::try_recv(&mut rx).unwrap_err().contains("empty"));
        assert!(S::recv_within(&mut rx, short).unwrap_err().contains("deadline"));
        let first = next;
        let refused = loop {
            match S::try_send(&mut tx, next) {
                Ok(()) => next += 1,
                Err(refused) => break refused,
            }
        };
        assert!((4..=8).contains(&(next - first)), "{} fit", next - first);
        assert!(refused.contains("full") || refused.contains("no room"), "{refused}");
        assert!(S::send_within(&mut tx, next, short).unwrap_err().contains("deadline"));
        (first..next).for_each(|n| assert_eq!(S::recv_within(&mut rx, PATIENCE), Ok(n)));
        S::send_within(&mut tx, next, PATIENCE).unwrap();
        assert_eq!(S::try_recv(&mut rx), Ok(next));
        next += 1;
    }
}

fn roles_pass_from_hand_to_hand<S: Shape>(place: Where) {
    let (here, there, _directory) = pair::<S>(place);
    for n in 0..20 {
        let (one, other) = if n % 2 == 0 { (&here, &there) } else { (&there, &here) };
        let mut tx = one.tx().unwrap();
        assert!(other.tx().is_err() && one.tx().is_err());
        S::send(&mut tx, 2 * n);
        S::send(&mut tx, 2 * n + 1);
        drop(tx);
        let mut rx = other.rx().unwrap();
        assert!(other.rx().is_err() && one.rx().is_err());
        assert_eq!((S::recv(&mut rx), S::try_recv(&mut rx)), (Ok(2 * n), Ok(2 * n + 1)));
        assert!(S::try_recv(&mut rx).unwrap_err().contains("left"));
    }
}

macro_rules! everywhere {
    ($($shape:ident: $type:ty,)*) => {
        $(mod $shape {
            use super::*;

            #[test]
            fn a_stream_arrives() {
                WHERES.into_iter().for_each(super::a_stream_arrives::<$type>);
            }

            #[test]
            fn full_and_empty_are_said() {
                WHERES.into_iter().for_each(super::full_and_empty_are_said::<$type>);
            }

            #[test]
            fn roles_pass_from_hand_to_hand() {
                WHERES.into_iter().for_each(super::roles_pass_from_hand_to_hand::<$type>);
            }
        })*
    };
}

everywhere! {
    small: Ring<[u64; 1]>,
    large: Ring<[u64; 9]>,
    untyped: UntypedRing,
    bytes: ByteRing,
}
