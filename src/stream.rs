//! [`ByteStream`]: a connection without message boundaries.

use crate::bytes::{ByteReceiver, ByteSender};
use crate::duplex::{ByteDuplex, Common, close};
use crate::error::{ByteSendError, RecvIntoError, RecvTimeoutError, SetupError};
use crate::handshake::{Channel, Face, Messages, Peer};
use crate::participants::Ending;
use crate::wait::{Wait, deadline_in};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

/// The longest piece that a write is cut into, beside a quarter of the ring: more would keep the reader waiting
/// for what is there already.
const PIECE: usize = 64 * 1024;

/// A connection of bytes both ways, for [`Read`] and [`Write`], as a Unix stream socket is. Made by
/// [`connect`](crate::connect) and [`Listener::accept`](crate::Listener::accept), also from a [`ByteDuplex`], and with one on
/// the other side.
///
/// Each write is a message or several; a read takes what one message has, or a part of it. `flush` has nothing to do.
///
/// ```
/// use annulus::{Address, ByteStream, Listener};
/// use std::io::{BufRead, BufReader, Read, Write};
///
/// let address = Address::name(format!("annulus-example-stream-{}", std::process::id()));
/// let mut listener = Listener::bind(address.clone())?;
/// let client = std::thread::spawn(move || -> std::io::Result<String> {
///     let mut server: ByteStream = annulus::connect(address).map_err(std::io::Error::other)?;
///     server.write_all(b"one line\nand another\n")?;
///     server.shutdown(std::net::Shutdown::Write);
///     let mut answer = String::new();
///     server.read_to_string(&mut answer)?;
///     Ok(answer)
/// });
/// let (mut reader, mut writer) = listener.accept::<ByteStream>()?.split();
/// let lines = BufReader::new(&mut reader).lines().count();
/// writer.write_all(format!("{lines} lines").as_bytes())?;
/// drop(writer);
/// assert_eq!(client.join().unwrap()?, "2 lines");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ByteStream {
    reader: StreamReader,
    writer: StreamWriter,
}

/// The reading side of a [`ByteStream`].
#[derive(Debug)]
pub struct StreamReader {
    receiver: Option<ByteReceiver>,
    /// A message that is read in part, up to `at`.
    rest: Vec<u8>,
    at: usize,
    timeout: Option<Duration>,
    common: Common,
}

/// The writing side of a [`ByteStream`]. When it is dropped, the peer reads to the end.
#[derive(Debug)]
pub struct StreamWriter {
    sender: Option<ByteSender>,
    timeout: Option<Duration>,
}

impl From<ByteDuplex> for ByteStream {
    fn from(duplex: ByteDuplex) -> Self {
        let ByteDuplex { sender, receiver, common } = duplex;
        let reader = StreamReader { receiver, rest: Vec::new(), at: 0, timeout: None, common };
        Self { reader, writer: StreamWriter { sender, timeout: None } }
    }
}

impl Face for ByteStream {
    fn messages() -> Messages {
        ByteDuplex::messages()
    }

    fn over(channel: Channel) -> Result<Self, SetupError> {
        ByteDuplex::over(channel).map(Self::from)
    }
}

impl ByteStream {
    /// The two sides, for two threads. The connection lasts as long as one of them.
    pub fn split(self) -> (StreamReader, StreamWriter) {
        (self.reader, self.writer)
    }

    /// Closes one side, or both, as [`Duplex::shutdown`](crate::Duplex::shutdown) does.
    pub fn shutdown(&mut self, how: Shutdown) {
        close(&mut self.writer.sender, &mut self.reader.receiver, how);
        if how != Shutdown::Write {
            self.reader.rest.clear();
            self.reader.at = 0;
        }
    }

    /// How long a read waits, if not for ever. It then fails with [`io::ErrorKind::TimedOut`].
    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.reader.set_timeout(timeout);
    }

    /// How long a write waits for room, if not for ever. It then fails with [`io::ErrorKind::TimedOut`].
    pub fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.writer.set_timeout(timeout);
    }

    /// Chooses how both sides wait. Default: [`Wait::Adaptive`].
    pub fn set_wait(&mut self, wait: Wait) {
        self.reader.set_wait(wait);
        self.writer.set_wait(wait);
    }

    /// Whether the peer will send nothing more, and why: see [`Duplex::ending`](crate::Duplex::ending).
    pub fn ending(&self) -> Option<Ending> {
        self.reader.ending()
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        self.reader.peer()
    }
}

impl StreamReader {
    /// How long a read waits, if not for ever.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// Chooses how this side waits. Default: [`Wait::Adaptive`].
    pub fn set_wait(&mut self, wait: Wait) {
        self.receiver.iter_mut().for_each(|receiver| receiver.set_wait(wait));
    }

    /// Whether the peer will send nothing more, and why: see [`Duplex::ending`](crate::Duplex::ending).
    pub fn ending(&self) -> Option<Ending> {
        self.common.ending()
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        self.common.peer()
    }

    /// What of the message at hand goes into `buffer`.
    fn take(&mut self, buffer: &mut [u8]) -> usize {
        let rest = &self.rest[self.at..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        count
    }

    /// What a read says when there is no more.
    fn end(&self) -> io::Result<usize> {
        match self.common.ending() {
            Some(Ending::Died) => Err(io::Error::new(
                io::ErrorKind::ConnectionReset,
                "the peer died and had not closed the connection; connect again",
            )),
            _ => Ok(0),
        }
    }
}

impl Read for StreamReader {
    /// Reads what is there, waiting if nothing is. 0 if `buffer` is empty, and when the peer has closed its side.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::ConnectionReset`] if the peer died instead, [`io::ErrorKind::TimedOut`] if nothing came in
    /// time, [`io::ErrorKind::InvalidData`] if the peer's half of the ring is damaged.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.at < self.rest.len() {
            return Ok(self.take(buffer));
        }
        let Some(receiver) = &mut self.receiver else { return Ok(0) };
        let deadline = self.timeout.and_then(deadline_in);
        let late = || io::Error::new(io::ErrorKind::TimedOut, RecvTimeoutError::Timeout);
        loop {
            // Without the detour where the whole message fits.
            match receiver.try_recv_into(buffer) {
                // An empty message says nothing: 0 would be the end. A peer may send them for ever.
                Ok(0) if deadline.is_none_or(|deadline| Instant::now() < deadline) => continue,
                Ok(0) => return Err(late()),
                Ok(count) => return Ok(count),
                Err(RecvIntoError::TooSmall { .. }) => {
                    self.at = 0;
                    match receiver.try_recv(&mut self.rest) {
                        // The peer may have changed the length meanwhile.
                        Ok(0) => continue,
                        Ok(_) => return Ok(self.take(buffer)),
                        Err(error) => {
                            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                        }
                    }
                }
                Err(RecvIntoError::Empty) => {}
                Err(RecvIntoError::Disconnected) => return self.end(),
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
            match receiver.wait_until(deadline) {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => return self.end(),
                Err(RecvTimeoutError::Timeout) => return Err(late()),
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
    }
}

impl StreamWriter {
    /// How long a write waits for room, if not for ever.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// Chooses how this side waits. Default: [`Wait::Adaptive`].
    pub fn set_wait(&mut self, wait: Wait) {
        self.sender.iter_mut().for_each(|sender| sender.set_wait(wait));
    }
}

impl Write for StreamWriter {
    /// Writes the start of `buffer`, or all of it if it is no longer than a quarter of the ring and 64 KiB, waiting
    /// for room.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::BrokenPipe`] if nobody reads any more, [`io::ErrorKind::TimedOut`] if there was no room in
    /// time, [`io::ErrorKind::InvalidData`] if the peer's half of the ring is damaged.
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, ByteSendError::Disconnected);
        let Some(sender) = &mut self.sender else { return Err(gone()) };
        let piece = (sender.max_message() / 4).clamp(1, PIECE).min(buffer.len());
        let sent = match self.timeout {
            None => sender.send(&buffer[..piece]),
            Some(timeout) => sender.send_timeout(&buffer[..piece], timeout),
        };
        match sent {
            Ok(()) => Ok(piece),
            Err(ByteSendError::Disconnected) => Err(gone()),
            Err(ByteSendError::Timeout) => {
                Err(io::Error::new(io::ErrorKind::TimedOut, ByteSendError::Timeout))
            }
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for ByteStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

impl Write for ByteStream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.writer.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

static_assertions::assert_impl_all!(ByteStream: Send);
