//! [`UntypedLatest`]: a variable for programs that do not know the type of its value.

use crate::builder::{Attach, Builder, Kind, Sealed};
use crate::error::{LatestError, Role, SetupError};
use crate::latest::{memory, refused};
use crate::participants::{Ending, Participant};
use crate::protocol::latest::WriteCursor;
use crate::protocol::slots::Untyped;
use crate::reading::Reading;
use crate::segment::{Place, RingKind, Segment};
use crate::stats::Stats;
use crate::wait::{self, Wait, deadline_in};
use bytemuck::AnyBitPattern;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A [`Latest`](crate::Latest) whose type this process does not know: for tools that read and write the value as bytes.
/// Each value is exactly [`value_size`](Self::value_size) bytes.
///
/// Versions, waiting and what a death leaves are those of [`Latest`](crate::Latest).
///
/// ```
/// use annulus::{Latest, Place, UntypedLatest};
///
/// let number = Latest::<u32>::builder().create(Place::memfd("number")?)?;
/// let raw = UntypedLatest::from_fd(number.inheritable_fd()?)?;
/// assert_eq!(raw.writer()?.set(&7_u32.to_ne_bytes())?, 1);
/// assert_eq!(number.reader()?.get()?, 7);
/// let mut bytes = [0; 4];
/// assert_eq!(raw.reader()?.read(&mut bytes)?, 1);
/// assert_eq!(u32::from_ne_bytes(bytes), 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct UntypedLatest {
    segment: Arc<Segment>,
}

impl Kind for UntypedLatest {
    fn in_segment(Sealed(segment): Sealed) -> Self {
        Self { segment }
    }
}

impl Builder<UntypedLatest> {
    /// Alignment of the value in bytes, a power of two: a [`Latest<T>`](crate::Latest) opens only a variable whose value
    /// has the size and the alignment of its `T`. Default: 1.
    pub fn value_align(self, align: usize) -> Self {
        self.with_align(align)
    }
}

impl UntypedLatest {
    /// Starts to make a variable of `value_size` bytes, aligned to one byte.
    pub fn builder(value_size: usize) -> Builder<Self> {
        Builder::new(RingKind::Latest, 1, (value_size, 1))
    }

    /// Opens a variable, whatever its type is.
    ///
    /// # Errors
    ///
    /// As for [`Attach::open`].
    pub fn open(place: Place) -> Result<Self, SetupError> {
        Self::attach().open(place)
    }

    /// Starts to open a variable that exists, with more to insist on than [`open`](Self::open).
    pub fn attach() -> Attach<Self> {
        Attach::new(RingKind::Latest, None)
    }

    /// Opens the variable behind a descriptor that was inherited or received; the descriptor is closed.
    ///
    /// # Errors
    ///
    /// As for [`Attach::from_fd`].
    pub fn from_fd(fd: OwnedFd) -> Result<Self, SetupError> {
        Self::attach().from_fd(fd)
    }

    /// Becomes the writer.
    ///
    /// # Errors
    ///
    /// As for [`Latest::writer`](crate::Latest::writer).
    pub fn writer(&self) -> Result<UntypedLatestWriter, SetupError> {
        let mut side = Participant::join(&self.segment, Role::Sender)?;
        let cursor = WriteCursor::recover(memory(&side.attached), self.shape());
        let cursor = cursor.map_err(|_| SetupError::Corrupt)?;
        side.enter();
        Ok(UntypedLatestWriter { side, cursor, variable: self.clone() })
    }

    /// Becomes a reader.
    ///
    /// # Errors
    ///
    /// As for [`Latest::reader`](crate::Latest::reader).
    pub fn reader(&self) -> Result<UntypedLatestReader, SetupError> {
        let reading = Reading::join(&self.segment, self.shape())?;
        Ok(UntypedLatestReader { reading, shape: self.shape(), variable: self.clone() })
    }

    fn shape(&self) -> Untyped {
        Untyped(self.value_size())
    }

    /// Bytes of the value.
    pub fn value_size(&self) -> usize {
        self.segment.spec.message_size
    }

    /// Readers that the variable was made for.
    pub fn readers(&self) -> usize {
        self.segment.spec.participants
    }

    /// The [metadata](Builder::metadata) that the variable was created with.
    ///
    /// # Errors
    ///
    /// [`SetupError::Metadata`] if it does not have the size of an `M`.
    pub fn metadata<M: AnyBitPattern>(&self) -> Result<M, SetupError> {
        self.segment.spec.metadata()
    }

    /// The label that the variable was created with.
    pub fn label(&self) -> &str {
        &self.segment.spec.label
    }

    /// Whether the variable outlives its users, so that an absent writer ends nothing.
    pub fn is_persistent(&self) -> bool {
        self.segment.spec.persistent
    }

    /// A snapshot of its figures: [`sent`](Stats::sent) is the version.
    pub fn stats(&self) -> Stats {
        self.segment.stats()
    }

    /// The descriptor of the segment, to hand over a Unix socket; as [`Ring::as_fd`](crate::Ring::as_fd).
    ///
    /// # Panics
    ///
    /// In a forked child of the process that opened the variable.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.segment.fd()
    }

    /// A new descriptor of the segment that survives `exec`, for a child program, which opens it with
    /// [`from_fd`](Self::from_fd).
    ///
    /// # Errors
    ///
    /// [`SetupError::Os`] if there is no descriptor left.
    pub fn inheritable_fd(&self) -> Result<OwnedFd, SetupError> {
        self.segment.inheritable_fd()
    }

    /// Leaves the name behind when this process leaves, even if it is the last user.
    pub fn keep(&self) {
        self.segment.keep();
    }

    /// Removes the variable's name now. Processes that have it open go on using it.
    ///
    /// # Errors
    ///
    /// [`SetupError::NotFound`] if the name is gone already or is another's by now.
    pub fn remove(&self) -> Result<(), SetupError> {
        self.segment.unlink()
    }
}

/// The writer of an [`UntypedLatest`].
#[derive(Debug)]
pub struct UntypedLatestWriter {
    side: Participant,
    cursor: WriteCursor,
    variable: UntypedLatest,
}

impl UntypedLatestWriter {
    /// Gives the variable another value, and says its version. Never waits.
    ///
    /// # Errors
    ///
    /// [`LatestError::Size`] unless `value` has exactly the variable's [`value_size`](UntypedLatest::value_size); others
    /// as for [`LatestWriter::set`](crate::LatestWriter::set).
    pub fn set(&mut self, value: &[u8]) -> Result<u64, LatestError> {
        let shape = self.variable.shape();
        if value.len() != shape.0 {
            return Err(LatestError::Size { expected: shape.0 });
        }
        self.side.admit()?;
        match self.cursor.write(memory(&self.side.attached), shape, value) {
            Ok(version) => {
                // All who wait, wait for this.
                self.side.notify_of(Role::Receiver, usize::MAX);
                Ok(version)
            }
            Err(blocked) => Err(refused(&mut self.side, blocked).into()),
        }
    }

    /// The version of the value that was written last, by whomever.
    pub fn version(&self) -> u64 {
        self.cursor.version()
    }

    /// The variable.
    pub fn variable(&self) -> &UntypedLatest {
        &self.variable
    }
}

/// A reader of an [`UntypedLatest`]. When the writer goes, it notices that as a
/// [`LatestReader`](crate::LatestReader#when-the-writer-goes) does.
#[derive(Debug)]
pub struct UntypedLatestReader {
    reading: Reading,
    shape: Untyped,
    variable: UntypedLatest,
}

impl UntypedLatestReader {
    /// Copies the latest value to the start of `value`, and says its version. Never waits.
    ///
    /// # Errors
    ///
    /// [`LatestError::Size`] if `value` is shorter than the variable's [`value_size`](UntypedLatest::value_size); others
    /// as for [`LatestReader::read`](crate::LatestReader::read).
    pub fn read(&mut self, value: &mut [u8]) -> Result<u64, LatestError> {
        self.check(value)?;
        self.reading.refresh(self.shape)?;
        Ok(self.held(value))
    }

    /// Waits until there is a value that this reader has not read, and reads it as [`read`](Self::read) does.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read) and [`LatestReader::wait_for_change`](crate::LatestReader::wait_for_change).
    ///
    /// ```
    /// use annulus::{LatestError, Place, UntypedLatest};
    /// use std::time::Duration;
    ///
    /// let variable = UntypedLatest::builder(3).create(Place::memfd("word")?)?;
    /// let (mut tx, mut rx) = (variable.writer()?, variable.reader()?);
    /// tx.set(b"yes")?;
    /// let mut value = [0; 3];
    /// assert_eq!((rx.wait_for_change(&mut value)?, &value), (1, b"yes"));
    /// let error = rx.wait_for_change_timeout(&mut value, Duration::from_millis(1));
    /// assert_eq!(error, Err(LatestError::Timeout));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_for_change(&mut self, value: &mut [u8]) -> Result<u64, LatestError> {
        self.wait_until(value, None)
    }

    /// [`wait_for_change`](Self::wait_for_change) for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`wait_for_change`](Self::wait_for_change), and [`LatestError::Timeout`].
    pub fn wait_for_change_timeout(
        &mut self,
        value: &mut [u8],
        timeout: Duration,
    ) -> Result<u64, LatestError> {
        self.wait_until(value, deadline_in(timeout))
    }

    /// [`wait_for_change`](Self::wait_for_change) until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`wait_for_change`](Self::wait_for_change), and [`LatestError::Timeout`].
    pub fn wait_for_change_deadline(
        &mut self,
        value: &mut [u8],
        deadline: Instant,
    ) -> Result<u64, LatestError> {
        self.wait_until(value, Some(deadline))
    }

    fn wait_until(
        &mut self,
        value: &mut [u8],
        deadline: Option<Instant>,
    ) -> Result<u64, LatestError> {
        self.check(value)?;
        self.reading.wait_for_change(self.shape, deadline)?;
        Ok(self.held(value))
    }

    fn check(&self, value: &[u8]) -> Result<(), LatestError> {
        let expected = self.shape.0;
        if value.len() < expected { Err(LatestError::Size { expected }) } else { Ok(()) }
    }

    /// Copies what is held to `value`, which has been checked.
    fn held(&self, value: &mut [u8]) -> u64 {
        // SAFETY: `value` has room for the variable's size, which is that of the shape, with which the cursor was made.
        unsafe { self.reading.held.copy_to_memory(self.shape, value.as_mut_ptr()) };
        self.reading.held.version()
    }

    /// The version that was read last.
    pub fn version(&self) -> u64 {
        self.reading.held.version()
    }

    /// Chooses how this reader waits. Default: [`Wait::Adaptive`].
    pub fn set_wait(&mut self, wait: Wait) {
        self.reading.side().set_wait(wait);
    }

    /// Chooses how this reader waits, in passing.
    #[must_use]
    pub fn with_wait(mut self, wait: Wait) -> Self {
        self.set_wait(wait);
        self
    }

    /// Waits until there is a writer, for as long as `timeout`; `false` if none came.
    pub fn wait_for_peer(&mut self, timeout: Duration) -> bool {
        wait::wait_for_peer(self.reading.side(), timeout)
    }

    /// Whether there is no writer any more, and how it ended: see [`Receiver::ending`](crate::Receiver::ending).
    pub fn ending(&self) -> Option<Ending> {
        self.reading.ending()
    }

    /// The variable.
    pub fn variable(&self) -> &UntypedLatest {
        &self.variable
    }
}
