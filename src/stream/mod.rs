//! Streams of bytes without message boundaries: [`Stream`] one way, as a pipe or a FIFO, and [`ByteStream`] both
//! ways, as a stream socket.

mod connection;
mod flow;

pub use connection::{ByteStream, ByteStreamReader, ByteStreamWriter};

use crate::builder::{Attach, Builder, Kind, Sealed};
use crate::bytes::ByteRing;
use crate::error::SetupError;
use crate::participants::Ending;
use crate::segment::{Place, RingKind, Topology};
use crate::wait::Wait;
use flow::{Inflow, Outflow};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// A stream of bytes from one writer, or many, to a reader: what a pipe or a FIFO is.
///
/// It is a [`ByteRing`] whose message boundaries mean nothing to the reader, and each end may as well be used as
/// one, or by the command line. What programs rely on with a pipe holds:
///
/// - A read takes what is there, and waits if nothing is; it gives 0 when all is read and every writer has left or
///   died. Which of the two, [`StreamReader::ending`] tells, as no pipe does.
/// - A write waits for room, and fails with [`BrokenPipe`](io::ErrorKind::BrokenPipe) when there is no reader any more.
///   No signal is sent. How soon it learns of a reader's end, see
///   [`Sender`](crate::Sender#when-the-receiver-goes).
/// - With [many writers](Builder::topology), what one write wrote is never mixed with another's, up to the
///   capacity, where a pipe promises 4096 bytes. A longer one is cut. What was written first is read first, also from
///   different writers, unless [`ordered(false)`](Builder::ordered) is asked for, which is faster.
/// - Either end goes to another process by fork and exec ([`inheritable_fd`](Self::inheritable_fd)), over a socket, or by
///   name; a name waits for nobody when it is opened, where a FIFO may wait for ever, and
///   [`wait_for_peer`](StreamWriter::wait_for_peer) waits as long as it is told to.
///
/// A write of more than half of the capacity beside other writers may be told
/// [`WouldBlock`](io::ErrorKind::WouldBlock) by an empty stream, until the reader has looked.
///
/// A reader that is dropped or killed in the middle of a message leaves the message to the next reader, from its
/// start: a message here is what one write wrote, or a piece of at most 64 KiB of a sole writer's.
///
/// ```
/// use annulus::Stream;
/// use std::io::{Read, Write};
///
/// let (mut reader, mut writer) = Stream::pipe()?;
/// let child = std::thread::spawn(move || writer.write_all(b"through a pipe"));
/// let mut all = String::new();
/// reader.read_to_string(&mut all)?;
/// assert_eq!(all, "through a pipe");
/// # child.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Stream {
    ring: ByteRing,
}

/// A message of more than half of a ring's capacity may be refused by an empty ring, until the receiver has looked;
/// with at least so many bytes no piece of a sole writer is one.
const LEAST_CAPACITY: usize = 4096;
/// Bytes that the stream of [`Stream::pipe`] holds: as many as a pipe.
const PIPE_CAPACITY: usize = 64 * 1024;

impl Kind for Stream {
    fn in_segment(segment: Sealed) -> Self {
        Self { ring: ByteRing::in_segment(segment) }
    }
}

impl From<ByteRing> for Stream {
    /// The same ring, without boundaries.
    fn from(ring: ByteRing) -> Self {
        Self { ring }
    }
}

impl Builder<Stream> {
    /// Whether what was written first is read first also from different writers, if there can be many: if one
    /// write had ended before another began. Default: yes, as with a pipe. See
    /// [`ByteRing`](Builder::<ByteRing>::ordered) for what it costs.
    pub fn ordered(self, ordered: bool) -> Self {
        self.with_order(ordered)
    }
}

impl Stream {
    /// Starts to make a stream for `capacity` bytes, at least 4096. Each write takes 8 to 23 bytes of it beside its
    /// own.
    pub fn builder(capacity: usize) -> Builder<Self> {
        // None at all is refused, as in any ring.
        let capacity = if capacity == 0 { 0 } else { capacity.max(LEAST_CAPACITY) };
        Builder::<Self>::new(RingKind::Bytes, capacity, ByteRing::messages(capacity)).ordered(true)
    }

    /// Both ends of a stream of 64 KiB without a name, as the kernel's `pipe` gives them.
    ///
    /// # Errors
    ///
    /// As for [`Builder::create`].
    pub fn pipe() -> Result<(StreamReader, StreamWriter), SetupError> {
        let stream = Self::builder(PIPE_CAPACITY).create(Place::memfd("pipe")?)?;
        Ok((stream.reader()?, stream.writer()?))
    }

    /// Opens a stream that exists.
    ///
    /// # Errors
    ///
    /// As for [`Attach::open`].
    pub fn open(place: Place) -> Result<Self, SetupError> {
        Self::attach().open(place)
    }

    /// Starts to open a stream that exists, with more to insist on than [`open`](Self::open).
    pub fn attach() -> Attach<Self> {
        Attach::new(RingKind::Bytes, None)
    }

    /// Opens the stream behind a descriptor that was inherited or received; the descriptor is closed.
    ///
    /// # Errors
    ///
    /// As for [`Attach::from_fd`].
    pub fn from_fd(fd: OwnedFd) -> Result<Self, SetupError> {
        Self::attach().from_fd(fd)
    }

    /// Becomes the reader.
    ///
    /// # Errors
    ///
    /// As for [`Ring::receiver`](crate::Ring::receiver).
    pub fn reader(&self) -> Result<StreamReader, SetupError> {
        Ok(StreamReader { flow: Inflow::new(self.ring.receiver()?) })
    }

    /// Becomes the writer, or one of many.
    ///
    /// # Errors
    ///
    /// As for [`Ring::sender`](crate::Ring::sender).
    pub fn writer(&self) -> Result<StreamWriter, SetupError> {
        let sender = self.ring.sender()?;
        let flow = match self.ring.topology() {
            Topology::Spsc => Outflow::of_one(sender),
            _ => Outflow::of_many(sender),
        };
        Ok(StreamWriter { flow })
    }

    /// A new descriptor of the stream that survives `exec`, for a child program, which opens it with
    /// [`from_fd`](Self::from_fd).
    ///
    /// # Errors
    ///
    /// [`SetupError::Os`] if there is no descriptor left.
    pub fn inheritable_fd(&self) -> Result<OwnedFd, SetupError> {
        self.ring.inheritable_fd()
    }

    /// Removes the stream's name now. Processes that have it open go on using it.
    ///
    /// # Errors
    ///
    /// As for [`ByteRing::remove`].
    pub fn remove(&self) -> Result<(), SetupError> {
        self.ring.remove()
    }

    /// The ring, for all that it can besides.
    pub fn ring(&self) -> &ByteRing {
        &self.ring
    }
}

/// The reading end of a [`Stream`].
#[derive(Debug)]
pub struct StreamReader {
    flow: Inflow,
}

impl StreamReader {
    /// What it reads.
    pub(crate) fn receiver(&mut self) -> &mut crate::bytes::ByteReceiver {
        &mut self.flow.receiver
    }

    /// How long a read waits, if not for ever. It then fails with [`io::ErrorKind::TimedOut`].
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.flow.timeout = timeout;
    }

    /// Whether a read fails with [`io::ErrorKind::WouldBlock`] where it would wait.
    pub fn set_nonblocking(&mut self, nonblocking: bool) {
        self.flow.nonblocking = nonblocking;
    }

    /// Chooses how a read waits. Default: [`Wait::Adaptive`].
    pub fn set_wait(&mut self, wait: Wait) {
        self.flow.receiver.set_wait(wait);
    }

    /// Waits until there is a writer, for as long as `timeout`; `false` if none came.
    pub fn wait_for_peer(&mut self, timeout: Duration) -> bool {
        self.flow.receiver.wait_for_peer(timeout)
    }

    /// Whether there is no writer any more, and how they ended: [`Died`](Ending::Died) if one of them did not live
    /// to leave and nobody has taken its place. There may still be something to read.
    pub fn ending(&self) -> Option<Ending> {
        self.flow.receiver.ending()
    }
}

impl Read for StreamReader {
    /// Reads what is there, waiting if nothing is. 0 if `buffer` is empty, and when all is read and there is no
    /// writer any more.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::TimedOut`] if nothing came in time, [`io::ErrorKind::WouldBlock`] if it is not to wait,
    /// [`io::ErrorKind::InvalidData`] if the stream is damaged, and in a forked child.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.flow.read(buffer)?.unwrap_or(0))
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        Ok(self.flow.read_vectored(buffers)?.unwrap_or(0))
    }
}

/// The writing end of a [`Stream`], or one of many. When the last is dropped, the reader reads to the end.
#[derive(Debug)]
pub struct StreamWriter {
    flow: Outflow,
}

impl StreamWriter {
    /// How long a write waits for room, if not for ever. It then fails with [`io::ErrorKind::TimedOut`].
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.flow.timeout = timeout;
    }

    /// Whether a write fails with [`io::ErrorKind::WouldBlock`] where it would wait.
    pub fn set_nonblocking(&mut self, nonblocking: bool) {
        self.flow.nonblocking = nonblocking;
    }

    /// Chooses how a write waits for room. Default: [`Wait::Adaptive`].
    pub fn set_wait(&mut self, wait: Wait) {
        self.flow.sender.set_wait(wait);
    }

    /// Waits until there is a reader, for as long as `timeout`; `false` if none came.
    pub fn wait_for_peer(&mut self, timeout: Duration) -> bool {
        self.flow.sender.wait_for_peer(timeout)
    }

    /// Whether there is no reader any more, and how it ended.
    pub fn ending(&self) -> Option<Ending> {
        self.flow.sender.ending()
    }
}

impl Write for StreamWriter {
    /// Writes all of `buffer`, waiting for room. Less, if something prevents the rest; what it is the next write
    /// says.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::BrokenPipe`] if there is no reader any more, [`io::ErrorKind::TimedOut`] if there was no room
    /// in time, [`io::ErrorKind::WouldBlock`] if it is not to wait for room, [`io::ErrorKind::InvalidData`] if the
    /// stream is damaged, and in a forked child.
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.flow.write(buffer)
    }

    /// Writes several buffers as one, up to the longest message.
    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.flow.write_vectored(buffers)
    }

    /// There is nothing to do: what is written can be read.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

static_assertions::assert_impl_all!(StreamReader: Send);
static_assertions::assert_impl_all!(StreamWriter: Send);
