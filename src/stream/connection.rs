//! [`ByteStream`]: a connection without message boundaries.

use super::flow::{Inflow, Outflow};
use crate::duplex::{ByteDuplex, Common};
use crate::error::{ByteSendError, SetupError};
use crate::handshake::{Channel, Face, Messages, Peer};
use crate::participants::Ending;
use crate::wait::Wait;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

/// A connection of bytes both ways, for [`Read`] and [`Write`], as a Unix stream socket is. Made by
/// [`connect`](crate::connect) and [`Listener::accept`](crate::Listener::accept), also from a [`ByteDuplex`], and with one on
/// the other side.
///
/// A write that waits writes all that it was given; a read takes what is there, as far as there is room for it.
/// `flush` has nothing to do.
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
    reader: ByteStreamReader,
    writer: ByteStreamWriter,
}

/// The reading side of a [`ByteStream`].
#[derive(Debug)]
pub struct ByteStreamReader {
    flow: Option<Inflow>,
    common: Common,
}

/// The writing side of a [`ByteStream`]. When it is dropped, the peer reads to the end.
#[derive(Debug)]
pub struct ByteStreamWriter {
    flow: Option<Outflow>,
}

impl From<ByteDuplex> for ByteStream {
    fn from(duplex: ByteDuplex) -> Self {
        let (sender, receiver, common) = duplex.parts();
        let reader = ByteStreamReader { flow: receiver.map(Inflow::new), common };
        Self { reader, writer: ByteStreamWriter { flow: sender.map(Outflow::of_one) } }
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
    pub fn split(self) -> (ByteStreamReader, ByteStreamWriter) {
        (self.reader, self.writer)
    }

    /// Closes one side, or both, as [`Duplex::shutdown`](crate::Duplex::shutdown) does.
    pub fn shutdown(&mut self, how: Shutdown) {
        if how != Shutdown::Read {
            self.writer.flow = None;
        }
        if how != Shutdown::Write {
            self.reader.flow = None;
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

    /// Whether reads and writes fail with [`io::ErrorKind::WouldBlock`] where they would wait.
    pub fn set_nonblocking(&mut self, nonblocking: bool) {
        self.reader.set_nonblocking(nonblocking);
        self.writer.set_nonblocking(nonblocking);
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

impl ByteStreamReader {
    /// How long a read waits, if not for ever.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.flow.iter_mut().for_each(|flow| flow.timeout = timeout);
    }

    /// Whether a read fails with [`io::ErrorKind::WouldBlock`] where it would wait.
    pub fn set_nonblocking(&mut self, nonblocking: bool) {
        self.flow.iter_mut().for_each(|flow| flow.nonblocking = nonblocking);
    }

    /// Chooses how this side waits. Default: [`Wait::Adaptive`].
    pub fn set_wait(&mut self, wait: Wait) {
        self.flow.iter_mut().for_each(|flow| flow.receiver.set_wait(wait));
    }

    /// Whether the peer will send nothing more, and why: see [`Duplex::ending`](crate::Duplex::ending).
    pub fn ending(&self) -> Option<Ending> {
        self.common.ending()
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        self.common.peer()
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

impl Read for ByteStreamReader {
    /// Reads what is there, waiting if nothing is. 0 if `buffer` is empty, and when the peer has closed its side.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::ConnectionReset`] if the peer died instead, [`io::ErrorKind::TimedOut`] if nothing came in
    /// time, [`io::ErrorKind::WouldBlock`] if it is not to wait, [`io::ErrorKind::InvalidData`] if the peer's half
    /// of the ring is damaged.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(flow) = &mut self.flow else { return Ok(0) };
        flow.read(buffer)?.map_or_else(|| self.end(), Ok)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let Some(flow) = &mut self.flow else { return Ok(0) };
        flow.read_vectored(buffers)?.map_or_else(|| self.end(), Ok)
    }
}

impl ByteStreamWriter {
    /// How long a write waits for room, if not for ever.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.flow.iter_mut().for_each(|flow| flow.timeout = timeout);
    }

    /// Whether a write fails with [`io::ErrorKind::WouldBlock`] where it would wait.
    pub fn set_nonblocking(&mut self, nonblocking: bool) {
        self.flow.iter_mut().for_each(|flow| flow.nonblocking = nonblocking);
    }

    /// Chooses how this side waits. Default: [`Wait::Adaptive`].
    pub fn set_wait(&mut self, wait: Wait) {
        self.flow.iter_mut().for_each(|flow| flow.sender.set_wait(wait));
    }

    fn flow(&mut self) -> io::Result<&mut Outflow> {
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, ByteSendError::Disconnected);
        self.flow.as_mut().ok_or_else(gone)
    }
}

impl Write for ByteStreamWriter {
    /// Writes all of `buffer`, waiting for room. Less, if something prevents the rest; what it is the next write
    /// says.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::BrokenPipe`] if nobody reads any more, [`io::ErrorKind::TimedOut`] if there was no room in
    /// time, [`io::ErrorKind::WouldBlock`] if it is not to wait for room, [`io::ErrorKind::InvalidData`] if the
    /// peer's half of the ring is damaged.
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.flow()?.write(buffer)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.flow()?.write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for ByteStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.reader.read_vectored(buffers)
    }
}

impl Write for ByteStream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.writer.write(buffer)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.writer.write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

static_assertions::assert_impl_all!(ByteStream: Send);
