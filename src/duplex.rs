//! [`Duplex`] and [`ByteDuplex`]: messages both ways between two processes.

use crate::builder::{Kind, Sealed};
use crate::bytes::{ByteReceiver, ByteRing, ByteSender};
use crate::error::{
    ByteSendError, RecvError, RecvTimeoutError, SendError, SendTimeoutError, SetupError,
    TryRecvError, TrySendError,
};
use crate::handshake::{Channel, Face, Link, Messages, Peer};
use crate::participants::{Ending, ending};
use crate::ring::{Receiver, Ring, Sender};
use crate::segment::{RingKind, Segment};
use crate::wait::Wait;
use bytemuck::{AnyBitPattern, NoUninit};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

/// A connection with messages of type `T` both ways, made by [`connect`](crate::connect) and
/// [`Listener::accept`](crate::Listener::accept).
///
/// It is two [`Ring<T>`](Ring)s, each of which this process has one half of, and a socket that tells when the peer
/// is gone. Messages take no system call.
///
/// # The end
///
/// When the peer has closed its sending side, `recv` gives what is left and then says `Disconnected`. It says the
/// same when the peer was killed. [`ending`](Self::ending) tells which it was.
#[derive(Debug)]
pub struct Duplex<T> {
    // A side that was shut down stays as one that has left its role, which costs no message a question.
    pub(crate) sender: Sender<T>,
    pub(crate) receiver: Receiver<T>,
    pub(crate) common: Common,
}

/// What every kind of connection has.
#[derive(Debug)]
pub(crate) struct Common {
    link: Arc<Link>,
    /// The ring that this side receives from.
    receives: Arc<Segment>,
}

impl Common {
    pub(crate) fn of(channel: &Channel) -> Self {
        Self { link: Arc::clone(&channel.link), receives: Arc::clone(&channel.receives) }
    }

    pub(crate) fn peer(&self) -> &Peer {
        self.link.peer()
    }

    pub(crate) fn link(&self) -> Arc<Link> {
        Arc::clone(&self.link)
    }

    pub(crate) fn ending(&self) -> Option<Ending> {
        ending(&self.receives)
    }
}

impl<T: NoUninit + AnyBitPattern> Face for Duplex<T> {
    fn messages() -> Messages {
        Messages { kind: RingKind::Slots, message: (size_of::<T>(), align_of::<T>()) }
    }

    fn over(channel: Channel) -> Result<Self, SetupError> {
        let common = Common::of(&channel);
        let sender = Ring::in_segment(Sealed(channel.sends)).sender()?;
        let receiver = Ring::in_segment(Sealed(channel.receives)).receiver()?;
        Ok(Self { sender, receiver, common })
    }
}

impl<T: NoUninit + AnyBitPattern> Duplex<T> {
    /// Sends, waiting for room if there is none.
    ///
    /// # Errors
    ///
    /// As for [`Sender::send`]; also [`SendError::Disconnected`] after this side was shut down.
    #[inline]
    pub fn send(&mut self, message: T) -> Result<(), SendError<T>> {
        self.sender.send(message)
    }

    /// Sends, if there is room now. Never blocks.
    ///
    /// # Errors
    ///
    /// As for [`Sender::try_send`], and as for [`send`](Self::send).
    #[inline]
    pub fn try_send(&mut self, message: T) -> Result<(), TrySendError<T>> {
        self.sender.try_send(message)
    }

    /// Sends, waiting for room for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`Sender::send_timeout`], and as for [`send`](Self::send).
    pub fn send_timeout(
        &mut self,
        message: T,
        timeout: Duration,
    ) -> Result<(), SendTimeoutError<T>> {
        self.sender.send_timeout(message, timeout)
    }

    /// Receives, waiting for a message if there is none.
    ///
    /// # Errors
    ///
    /// As for [`Receiver::recv`]; also [`RecvError::Disconnected`] after this side was shut down.
    #[inline]
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.receiver.recv_beside(&self.sender)
    }

    /// Receives, if a message is there now. Never blocks.
    ///
    /// # Errors
    ///
    /// As for [`Receiver::try_recv`], and as for [`recv`](Self::recv).
    #[inline]
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        self.receiver.try_recv()
    }

    /// Receives, waiting for a message for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`Receiver::recv_timeout`], and as for [`recv`](Self::recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.receiver.recv_timeout_beside(&self.sender, timeout)
    }

    /// The sending side, for all that it can do; `None` if it was shut down.
    pub fn sender(&mut self) -> Option<&mut Sender<T>> {
        Some(&mut self.sender).filter(|sender| !sender.slots.side.has_left())
    }

    /// The receiving side, for all that it can do; `None` if it was shut down.
    pub fn receiver(&mut self) -> Option<&mut Receiver<T>> {
        Some(&mut self.receiver).filter(|receiver| !receiver.slots.side.has_left())
    }

    /// The two sides, for two threads. The connection lasts as long as one of them. A side that was shut down is
    /// `None`.
    pub fn split(self) -> (Option<Sender<T>>, Option<Receiver<T>>) {
        let Self { sender, receiver, .. } = self;
        let (sends, receives) = (!sender.slots.side.has_left(), !receiver.slots.side.has_left());
        (sends.then_some(sender), receives.then_some(receiver))
    }

    /// Closes one side, or both. The peer receives what was sent, and then learns that there is no more; or learns
    /// that nobody receives what it sends.
    pub fn shutdown(&mut self, how: Shutdown) {
        if how != Shutdown::Read {
            self.sender.slots.side.leave();
        }
        if how != Shutdown::Write {
            self.receiver.slots.leave();
        }
    }

    /// Chooses how both sides wait. Default: [`Wait::Adaptive`].
    pub fn set_wait(&mut self, wait: Wait) {
        self.sender.set_wait(wait);
        self.receiver.set_wait(wait);
    }

    /// Whether the peer will send nothing more, and why: it has closed that side, or it has died. What it sent
    /// before is still to be received.
    pub fn ending(&self) -> Option<Ending> {
        self.common.ending()
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        self.common.peer()
    }
}

/// A connection with messages of any length both ways, made by [`connect`](crate::connect) and
/// [`Listener::accept`](crate::Listener::accept). As [`Duplex`], with [`ByteRing`]s.
///
/// ```
/// use annulus::{Address, ByteDuplex, Ending, Listener};
///
/// let address = Address::name(format!("annulus-example-bytes-{}", std::process::id()));
/// let mut listener = Listener::bind(address.clone())?;
/// let client = std::thread::spawn(move || {
///     let mut server: ByteDuplex = annulus::connect(address).unwrap();
///     server.send(b"what?").unwrap();
///     server.shutdown(std::net::Shutdown::Write);
///     let mut answer = Vec::new();
///     server.recv(&mut answer).unwrap();
///     answer
/// });
/// let mut client_side: ByteDuplex = listener.accept()?;
/// let mut question = Vec::new();
/// while client_side.recv(&mut question).is_ok() {}
/// assert_eq!(question, b"what?");
/// assert_eq!(client_side.ending(), Some(Ending::Closed));
/// client_side.send(b"this")?;
/// assert_eq!(client.join().unwrap(), b"this");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ByteDuplex {
    pub(crate) sender: ByteSender,
    pub(crate) receiver: ByteReceiver,
    pub(crate) common: Common,
}

impl Face for ByteDuplex {
    fn messages() -> Messages {
        Messages { kind: RingKind::Bytes, message: (0, 1) }
    }

    fn over(channel: Channel) -> Result<Self, SetupError> {
        let common = Common::of(&channel);
        let sender = ByteRing::in_segment(Sealed(channel.sends)).sender()?;
        let receiver = ByteRing::in_segment(Sealed(channel.receives)).receiver()?;
        Ok(Self { sender, receiver, common })
    }
}

impl ByteDuplex {
    /// Sends, waiting for room if there is none.
    ///
    /// # Errors
    ///
    /// As for [`ByteSender::send`]; also [`ByteSendError::Disconnected`] after this side was shut down.
    #[inline]
    pub fn send(&mut self, message: &[u8]) -> Result<(), ByteSendError> {
        self.sender.send(message)
    }

    /// Sends, if there is room now. Never blocks.
    ///
    /// # Errors
    ///
    /// As for [`ByteSender::try_send`], and as for [`send`](Self::send).
    #[inline]
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), ByteSendError> {
        self.sender.try_send(message)
    }

    /// Sends, waiting for room for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`ByteSender::send_timeout`], and as for [`send`](Self::send).
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), ByteSendError> {
        self.sender.send_timeout(message, timeout)
    }

    /// Receives into `message`, whose contents are replaced, waiting if none is there; gives its length.
    ///
    /// # Errors
    ///
    /// As for [`ByteReceiver::recv`]; also [`RecvError::Disconnected`] after this side was shut down.
    #[inline]
    pub fn recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.receiver.recv_beside(&self.sender, message)
    }

    /// Receives into `message`, if one is there now.
    ///
    /// # Errors
    ///
    /// As for [`ByteReceiver::try_recv`], and as for [`recv`](Self::recv).
    #[inline]
    pub fn try_recv(&mut self, message: &mut Vec<u8>) -> Result<usize, TryRecvError> {
        self.receiver.try_recv(message)
    }

    /// Receives into `message`, waiting for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`ByteReceiver::recv_timeout`], and as for [`recv`](Self::recv).
    pub fn recv_timeout(
        &mut self,
        message: &mut Vec<u8>,
        timeout: Duration,
    ) -> Result<usize, RecvTimeoutError> {
        self.receiver.recv_timeout_beside(&self.sender, message, timeout)
    }

    /// The sending side, for all that it can do; `None` if it was shut down.
    pub fn sender(&mut self) -> Option<&mut ByteSender> {
        Some(&mut self.sender).filter(|sender| !sender.side.has_left())
    }

    /// The receiving side, for all that it can do; `None` if it was shut down.
    pub fn receiver(&mut self) -> Option<&mut ByteReceiver> {
        Some(&mut self.receiver).filter(|receiver| !receiver.side.has_left())
    }

    /// The two sides, for two threads. The connection lasts as long as one of them. A side that was shut down is
    /// `None`.
    pub fn split(self) -> (Option<ByteSender>, Option<ByteReceiver>) {
        let (sender, receiver, _) = self.parts();
        (sender, receiver)
    }

    /// The sides that were not shut down.
    pub(crate) fn parts(self) -> (Option<ByteSender>, Option<ByteReceiver>, Common) {
        let Self { sender, receiver, common } = self;
        let (sends, receives) = (!sender.side.has_left(), !receiver.side.has_left());
        (sends.then_some(sender), receives.then_some(receiver), common)
    }

    /// Closes one side, or both, as [`Duplex::shutdown`] does.
    pub fn shutdown(&mut self, how: Shutdown) {
        if how != Shutdown::Read {
            self.sender.side.leave();
        }
        if how != Shutdown::Write {
            self.receiver.leave();
        }
    }

    /// Chooses how both sides wait. Default: [`Wait::Adaptive`].
    pub fn set_wait(&mut self, wait: Wait) {
        self.sender.set_wait(wait);
        self.receiver.set_wait(wait);
    }

    /// Whether the peer will send nothing more, and why: see [`Duplex::ending`].
    pub fn ending(&self) -> Option<Ending> {
        self.common.ending()
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        self.common.peer()
    }
}

static_assertions::assert_impl_all!(Duplex<u64>: Send);
static_assertions::assert_impl_all!(ByteDuplex: Send);
