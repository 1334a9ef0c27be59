//! [`Latest`]: a variable that processes share.

use crate::builder::{Attach, Builder, Kind, Sealed};
use crate::error::{Failure, LatestError, Role, SetupError};
use crate::participants::{Ending, Participant};
use crate::protocol::Blocked;
use crate::protocol::latest::{self, Observer, WriteCursor};
use crate::protocol::slots::Typed;
use crate::reading::Reading;
use crate::segment::{Attached, Place, RingKind, Segment};
use crate::stats::Stats;
use crate::wait::{self, Wait, deadline_in};
use bytemuck::{AnyBitPattern, NoUninit};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Times that [`Latest::peek`] begins again when the value is written over while it copies.
const PEEKS: usize = 64;

/// A variable of type `T` in shared memory: one writer, many readers, and each reads the latest value, whole.
///
/// Nobody waits for anybody: a write takes a bounded number of steps whatever the readers do, and a read whatever
/// the writer and the other readers do, for a `T` of any size (both are *wait-free*). A value that was read already
/// costs one load and a copy, without a locked instruction. Values between two reads are not seen; where each is
/// to be received, use a [`Ring`](crate::Ring).
///
/// `T` is plain old data, as for a [`Ring`](crate::Ring). A variable that was never written has version 0 and all
/// its bytes zero. Each write adds 1 to the version.
///
/// It has a buffer for each of its [`participants`](Builder::participants), which are readers here, and two more.
/// Readers write to the memory, too: each says there which buffer it reads.
///
/// # Death
///
/// A writer that is killed in the middle of a write leaves the value as it was. The next writer goes on with the next
/// version. A reader that is killed leaves nothing that anybody has to wait for.
///
/// ```
/// use annulus::{Latest, Place};
///
/// let position = Latest::<[f64; 3]>::builder().create(Place::memfd("position")?)?;
/// let (mut tx, mut rx) = (position.writer()?, position.reader()?);
/// assert_eq!((rx.get()?, rx.version()), ([0.0; 3], 0));
/// tx.set([1.0, 2.0, 3.0])?;
/// assert_eq!((rx.get()?, rx.version()), ([1.0, 2.0, 3.0], 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Latest<T> {
    segment: Arc<Segment>,
    value: PhantomData<fn(T) -> T>,
}

impl<T> Clone for Latest<T> {
    fn clone(&self) -> Self {
        Self { segment: Arc::clone(&self.segment), value: PhantomData }
    }
}

impl<T: NoUninit + AnyBitPattern> Kind for Latest<T> {
    fn in_segment(Sealed(segment): Sealed) -> Self {
        Self { segment, value: PhantomData }
    }
}

/// The memory of the variable in a segment.
#[inline(always)]
pub(crate) fn memory(attached: &Attached) -> latest::Latest<'_> {
    latest::Latest {
        writer: attached.half(Role::Sender),
        readers: attached.table(),
        words: attached.words(),
    }
}

impl<T: NoUninit + AnyBitPattern> Latest<T> {
    const VALUE: (usize, usize) = (size_of::<T>(), align_of::<T>());

    /// Starts to make a variable.
    ///
    /// ```
    /// use annulus::{Latest, Place};
    ///
    /// let limits = Latest::<[u64; 8]>::builder().participants(4).create(Place::memfd("limits")?)?;
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    pub fn builder() -> Builder<Self> {
        Builder::new(RingKind::Latest, 1, Self::VALUE)
    }

    /// Opens a variable that exists.
    ///
    /// # Errors
    ///
    /// As for [`Attach::open`].
    pub fn open(place: Place) -> Result<Self, SetupError> {
        Self::attach().open(place)
    }

    /// Starts to open a variable that exists, with more to insist on than [`open`](Self::open).
    pub fn attach() -> Attach<Self> {
        Attach::new(RingKind::Latest, Some(Self::VALUE))
    }

    /// Opens the variable behind a descriptor that was inherited or received; the descriptor is closed.
    ///
    /// # Errors
    ///
    /// As for [`Attach::from_fd`].
    ///
    /// ```
    /// use annulus::{Latest, Place, Ring, SetupError};
    ///
    /// let here = Latest::<u64>::builder().create(Place::memfd("number")?)?;
    /// let there = Latest::<u64>::from_fd(here.inheritable_fd()?)?;
    /// let wrong = Ring::<u64>::from_fd(here.inheritable_fd()?);
    /// assert!(matches!(wrong, Err(SetupError::Kind { .. })));
    /// # Ok::<(), SetupError>(())
    /// ```
    pub fn from_fd(fd: OwnedFd) -> Result<Self, SetupError> {
        Self::attach().from_fd(fd)
    }

    /// Becomes the writer.
    ///
    /// # Errors
    ///
    /// [`SetupError::RoleTaken`] while another handle has the role, after asking for 6 ms; a dead process has none.
    /// [`SetupError::Corrupt`] if the memory is damaged, [`SetupError::NoProc`] without `/proc`.
    pub fn writer(&self) -> Result<LatestWriter<T>, SetupError> {
        let mut side = Participant::join(&self.segment, Role::Sender)?;
        let cursor = WriteCursor::recover(memory(&side.attached), Typed::<T>::new())
            .map_err(|_| SetupError::Corrupt)?;
        side.enter();
        Ok(LatestWriter { side, cursor, variable: self.clone() })
    }

    /// Becomes a reader.
    ///
    /// # Errors
    ///
    /// [`SetupError::Crowded`] if there are as many readers as the variable was made for; others as for
    /// [`writer`](Self::writer).
    ///
    /// ```
    /// use annulus::{Latest, Place, SetupError};
    ///
    /// let variable = Latest::<u64>::builder().participants(1).create(Place::memfd("number")?)?;
    /// let first = variable.reader()?;
    /// assert!(matches!(variable.reader(), Err(SetupError::Crowded { participants: 1 })));
    /// # Ok::<(), SetupError>(())
    /// ```
    pub fn reader(&self) -> Result<LatestReader<T>, SetupError> {
        let reading = Reading::join(&self.segment, Typed::<T>::new())?;
        Ok(LatestReader { reading, variable: self.clone() })
    }

    /// The value and its version, without being a reader: nothing is written, and there may be any number who do
    /// this. It copies, looks whether the value was written over meanwhile, and then begins again: so it is only
    /// *lock-free*, and slower than [`LatestReader::get`].
    ///
    /// # Errors
    ///
    /// [`LatestError::Overtaken`] if that happened 64 times, [`LatestError::Corrupt`] if the memory is damaged,
    /// [`LatestError::Forked`] in a forked child.
    ///
    /// ```
    /// use annulus::{Latest, Place};
    ///
    /// let variable = Latest::<u64>::builder().create(Place::memfd("number")?)?;
    /// variable.writer()?.set(5)?;
    /// assert_eq!(variable.peek()?, (5, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn peek(&self) -> Result<(T, u64), LatestError> {
        if !self.segment.is_ours() {
            return Err(LatestError::Forked);
        }
        let attached = Attached::new(&self.segment);
        let (mem, shape) = (memory(&attached), Typed::<T>::new());
        let observer = Observer::new(mem, shape);
        let mut value = MaybeUninit::<T>::uninit();
        for _ in 0..PEEKS {
            // SAFETY: `value` has room for a `T`, which is the shape's size.
            match unsafe { observer.try_copy(mem, shape, value.as_mut_ptr().cast()) } {
                // SAFETY: all bytes of `value` were written, and any bytes are a `T` (`AnyBitPattern`).
                Ok(version) => return Ok((unsafe { value.assume_init() }, version)),
                Err(Blocked::NotReady) => std::thread::yield_now(),
                Err(Blocked::Corrupt) => return Err(LatestError::Corrupt),
            }
        }
        Err(LatestError::Overtaken)
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

/// What an attempt that came to nothing means for the handle.
pub(crate) fn refused(side: &mut Participant, blocked: Blocked) -> Failure {
    match blocked {
        Blocked::NotReady => Failure::NotReady,
        Blocked::Corrupt => {
            side.poison();
            Failure::Corrupt
        }
    }
}

/// The writer of a [`Latest`].
// Lines of its own: it changes with every value, and a reader may lie next to it.
#[derive(Debug)]
#[repr(align(128))]
pub struct LatestWriter<T> {
    side: Participant,
    cursor: WriteCursor,
    variable: Latest<T>,
}

impl<T: NoUninit + AnyBitPattern> LatestWriter<T> {
    /// Gives the variable another value, and says its version. Never waits.
    ///
    /// # Errors
    ///
    /// [`LatestError::Corrupt`] if a reader has written what no correct one writes, [`LatestError::Forked`] in a
    /// forked child.
    #[inline]
    pub fn set(&mut self, value: T) -> Result<u64, LatestError> {
        self.write(&value)
    }

    /// [`set`](Self::set) for a value that is large, or kept.
    ///
    /// # Errors
    ///
    /// As for [`set`](Self::set).
    ///
    /// ```
    /// use annulus::{Latest, Place};
    ///
    /// let picture = Latest::<[u64; 512]>::builder().create(Place::memfd("picture")?)?;
    /// let mut next = Box::new([0; 512]);
    /// next[7] = 7;
    /// picture.writer()?.write(&next)?;
    /// assert_eq!(picture.reader()?.get()?[7], 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn write(&mut self, value: &T) -> Result<u64, LatestError> {
        self.side.admit()?;
        let mem = memory(&self.side.attached);
        match self.cursor.write(mem, Typed::<T>::new(), bytemuck::bytes_of(value)) {
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
    pub fn variable(&self) -> &Latest<T> {
        &self.variable
    }
}

/// A reader of a [`Latest`].
///
/// # When the writer goes
///
/// The value stays, and can be read. Only those who wait for another one are told that none comes:
/// [`LatestError::Disconnected`]. It does not stick: when another writer comes, the same handle waits for its
/// values.
// Lines of its own, as for the writer.
#[derive(Debug)]
#[repr(align(128))]
pub struct LatestReader<T> {
    pub(crate) reading: Reading,
    variable: Latest<T>,
}

impl<T: NoUninit + AnyBitPattern> LatestReader<T> {
    /// What is held.
    #[inline(always)]
    fn held(&self) -> T {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: `value` has room for a `T`, which is the shape's size.
        unsafe { self.reading.held.copy(Typed::<T>::new(), value.as_mut_ptr().cast()) };
        // SAFETY: all bytes of `value` were written, and any bytes are a `T` (`AnyBitPattern`).
        unsafe { value.assume_init() }
    }

    /// The latest value. Never waits. [`version`](Self::version) says afterwards which it was.
    ///
    /// # Errors
    ///
    /// [`LatestError::Corrupt`] if the memory is damaged, [`LatestError::Forked`] in a forked child.
    #[inline(always)]
    pub fn get(&mut self) -> Result<T, LatestError> {
        self.reading.refresh(Typed::<T>::new())?;
        Ok(self.held())
    }

    /// [`get`](Self::get) for a value that is large: copies it to where it is wanted, and says its version.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    #[inline(always)]
    pub fn read(&mut self, value: &mut T) -> Result<u64, LatestError> {
        self.reading.refresh(Typed::<T>::new())?;
        // SAFETY: `value` is a `T`, of the shape's size, and any bytes are one (`AnyBitPattern`).
        unsafe {
            self.reading.held.copy_to_memory(Typed::<T>::new(), std::ptr::from_mut(value).cast())
        };
        Ok(self.version())
    }

    /// The latest value where it lies, without a copy. Never waits. [`version`](Self::version) says afterwards which it
    /// was. It stays as it is until the next read, however often the writer writes: its buffer is this reader's.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    ///
    /// # Safety
    ///
    /// No process may write to the value as long as the reference lives. A correct one does not; with one that may be
    /// hostile, use [`read`](Self::read). A child that is forked meanwhile has no such value.
    ///
    /// ```
    /// # let variable = annulus::Latest::<[u64; 512]>::builder().create(annulus::Place::memfd("page")?)?;
    /// let (mut tx, mut rx) = (variable.writer()?, variable.reader()?);
    /// tx.write(&[5; 512])?;
    /// // SAFETY: all who have the variable open go by the rules.
    /// let page = unsafe { rx.get_ref()? };
    /// tx.write(&[6; 512])?;
    /// assert_eq!(page.iter().sum::<u64>(), 5 * 512);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub unsafe fn get_ref(&mut self) -> Result<&T, LatestError> {
        const { assert!(align_of::<T>() <= latest::ALIGN, "a value is aligned to 128 bytes at most") };
        if self.reading.refresh(Typed::<T>::new())? {
            self.reading.held.ask_for_content(Typed::<T>::new());
        }
        let content = self.reading.held.content(Typed::<T>::new());
        // SAFETY: these are the bytes of a `T`, of which any are one (`AnyBitPattern`), aligned as was just asserted,
        // in the mapping that `reading` keeps; the caller keeps writers away until the next read, which needs `self`.
        Ok(unsafe { &*content.as_ptr().cast::<T>() })
    }

    /// The latest value and its version, if that is higher than `version`. Never waits.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    ///
    /// ```
    /// # let variable = annulus::Latest::<u64>::builder().create(annulus::Place::memfd("number")?)?;
    /// let (mut tx, mut rx) = (variable.writer()?, variable.reader()?);
    /// tx.set(5)?;
    /// assert_eq!(rx.read_if_newer(0)?, Some((5, 1)));
    /// assert_eq!(rx.read_if_newer(1)?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn read_if_newer(&mut self, version: u64) -> Result<Option<(T, u64)>, LatestError> {
        self.reading.refresh(Typed::<T>::new())?;
        let held = self.version();
        Ok((held > version).then(|| (self.held(), held)))
    }

    /// The version that was read last.
    #[inline]
    pub fn version(&self) -> u64 {
        self.reading.held.version()
    }

    /// Waits until there is a value that this reader has not read, and reads it.
    ///
    /// # Errors
    ///
    /// [`LatestError::Disconnected`] if there is none and the writer has left or died (a death is noticed within
    /// 100 ms); a variable that no writer has ever joined is waited for, and so is a persistent one. Others as for
    /// [`get`](Self::get).
    ///
    /// ```
    /// # let variable = annulus::Latest::<u64>::builder().create(annulus::Place::memfd("number")?)?;
    /// let mut rx = variable.reader()?;
    /// let writer = std::thread::spawn(move || variable.writer().unwrap().set(5));
    /// assert_eq!(rx.wait_for_change(), Ok(5));
    /// # writer.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_for_change(&mut self) -> Result<T, LatestError> {
        self.wait_until(None)
    }

    /// [`wait_for_change`](Self::wait_for_change) for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`wait_for_change`](Self::wait_for_change), and [`LatestError::Timeout`].
    pub fn wait_for_change_timeout(&mut self, timeout: Duration) -> Result<T, LatestError> {
        self.wait_until(deadline_in(timeout))
    }

    /// [`wait_for_change`](Self::wait_for_change) until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`wait_for_change`](Self::wait_for_change), and [`LatestError::Timeout`].
    pub fn wait_for_change_deadline(&mut self, deadline: Instant) -> Result<T, LatestError> {
        self.wait_until(Some(deadline))
    }

    fn wait_until(&mut self, deadline: Option<Instant>) -> Result<T, LatestError> {
        self.reading.wait_for_change(Typed::<T>::new(), deadline)?;
        Ok(self.held())
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
    pub fn variable(&self) -> &Latest<T> {
        &self.variable
    }
}
