//! [`Event`]: flags that one process raises and others wait for.

use crate::builder::{Attach, Builder, Kind, Sealed};
use crate::error::{EventError, EventTimeoutError, Failure, Role, SetupError};
use crate::participants::Participant;
use crate::protocol::flags::{Flags, Wanted};
use crate::protocol::park::Answered;
use crate::segment::{FLAGS, Place, RingKind, Segment};
use crate::stats::Stats;
use crate::wait::{self, Wait, deadline_in};
use bytemuck::AnyBitPattern;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// 64 flags that processes share: raised by whoever has something to say, waited for and taken by whoever wants to
/// know. Raising a flag that is raised already changes nothing, as with a signal.
///
/// Any number of processes and threads takes part, each through an [`EventHandle`]; nobody has a role, and whoever is
/// killed leaves nothing behind. What somebody did before it raised a flag is seen by whoever finds the flag.
///
/// ```
/// use annulus::{Event, Place};
///
/// const CONFIG: u64 = 1 << 0;
/// const STOP: u64 = 1 << 1;
///
/// let event = Event::builder().create(Place::memfd("control")?)?;
/// let (mut control, mut worker) = (event.handle()?, event.handle()?);
/// control.raise(CONFIG)?;
/// assert_eq!(worker.take(CONFIG | STOP)?, CONFIG);
/// assert_eq!(worker.try_take(CONFIG | STOP)?, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # In a poll loop
///
/// Raising a flag is a store to memory, at which the kernel does not look. A [`Pollable`](crate::Pollable) of a handle has a
/// descriptor that becomes readable with a flag of a mask.
#[derive(Clone, Debug)]
pub struct Event {
    segment: Arc<Segment>,
}

impl Kind for Event {
    fn in_segment(Sealed(segment): Sealed) -> Self {
        Self { segment }
    }
}

impl Event {
    /// Starts to make an event, with no flag raised.
    pub fn builder() -> Builder<Self> {
        Builder::without_messages(RingKind::Event, FLAGS, 0)
    }

    /// Opens an event that exists.
    ///
    /// # Errors
    ///
    /// As for [`Attach::open`].
    pub fn open(place: Place) -> Result<Self, SetupError> {
        Self::attach().open(place)
    }

    /// Starts to open an event that exists, with more to insist on than [`open`](Self::open).
    pub fn attach() -> Attach<Self> {
        Attach::new(RingKind::Event, None)
    }

    /// Opens the event behind a descriptor that was inherited or received; the descriptor is closed.
    ///
    /// # Errors
    ///
    /// As for [`Attach::from_fd`].
    pub fn from_fd(fd: OwnedFd) -> Result<Self, SetupError> {
        Self::attach().from_fd(fd)
    }

    /// A handle to raise flags and to wait for them. Each thread makes its own.
    ///
    /// # Errors
    ///
    /// [`SetupError::Forked`] in a child that was forked after the event was opened.
    pub fn handle(&self) -> Result<EventHandle, SetupError> {
        let side = Participant::pass_by(&self.segment)?;
        let answered = side.answered_on_own_side();
        Ok(EventHandle { side, answered, event: self.clone() })
    }

    /// The flags that are raised; none in a fork child.
    pub fn value(&self) -> u64 {
        if !self.segment.is_ours() {
            return 0;
        }
        flags(self.segment.half(Role::Sender)).value()
    }

    /// A snapshot of the event's figures.
    pub fn stats(&self) -> Stats {
        self.segment.stats()
    }

    /// The [metadata](Builder::metadata) that the event was created with.
    ///
    /// # Errors
    ///
    /// [`SetupError::Metadata`] if it does not have the size of an `M`.
    pub fn metadata<M: AnyBitPattern>(&self) -> Result<M, SetupError> {
        self.segment.spec.metadata()
    }

    /// The label that the event was created with.
    pub fn label(&self) -> &str {
        &self.segment.spec.label
    }

    /// Whether the event outlives its users.
    pub fn is_persistent(&self) -> bool {
        self.segment.spec.persistent
    }

    /// The descriptor of the segment, to hand over a Unix socket.
    ///
    /// # Panics
    ///
    /// In a child that was forked after the event was opened.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.segment.fd()
    }

    /// A descriptor of the segment that survives `exec`, for a child process to be given to
    /// [`from_fd`](Self::from_fd).
    ///
    /// # Errors
    ///
    /// [`SetupError::Os`] if the process has no descriptor left, [`SetupError::Forked`] in a fork child.
    pub fn inheritable_fd(&self) -> Result<OwnedFd, SetupError> {
        self.segment.inheritable_fd()
    }

    /// Leaves the name behind when this process leaves, even if it is the last user. The next opener's
    /// departure removes it as usual.
    pub fn keep(&self) {
        self.segment.keep();
    }

    /// Removes the event's name, if it has one. Those who have it open go on using it.
    ///
    /// # Errors
    ///
    /// [`SetupError::Os`], [`SetupError::Forked`].
    pub fn remove(&self) -> Result<(), SetupError> {
        self.segment.unlink()
    }
}

#[inline(always)]
pub(crate) fn flags(sender: &crate::protocol::layout::Half) -> Flags<'_> {
    Flags { word: &sender.cursor.position }
}

/// One who raises and awaits flags of an [`Event`].
///
/// A mask of 0 is waited for by nobody: such a call returns 0 at once.
#[derive(Debug)]
#[repr(align(128))]
pub struct EventHandle {
    pub(crate) side: Participant,
    /// Sleepers that it has answered.
    answered: Answered,
    event: Event,
}

impl EventHandle {
    /// Raises the flags of `mask`, and wakes all who wait.
    ///
    /// # Errors
    ///
    /// [`EventError::Forked`] in a child that was forked after the handle was made.
    #[inline]
    pub fn raise(&mut self, mask: u64) -> Result<(), EventError> {
        self.side.admit()?;
        self.flags().raise(mask);
        // Also if they were raised: whoever did that may have been killed before it woke anybody.
        self.side.notify_own_side(&mut self.answered, u32::MAX);
        Ok(())
    }

    /// Lowers the flags of `mask`.
    ///
    /// # Errors
    ///
    /// As for [`raise`](Self::raise).
    pub fn clear(&mut self, mask: u64) -> Result<(), EventError> {
        self.try_take(mask).map(|_| ())
    }

    /// The flags that are raised.
    ///
    /// # Errors
    ///
    /// As for [`raise`](Self::raise).
    #[inline]
    pub fn value(&mut self) -> Result<u64, EventError> {
        self.side.admit()?;
        Ok(self.flags().value())
    }

    /// Takes those flags of `mask` that are raised, so that nobody else does: lowers and returns them.
    ///
    /// # Errors
    ///
    /// As for [`raise`](Self::raise).
    #[inline]
    pub fn try_take(&mut self, mask: u64) -> Result<u64, EventError> {
        self.side.admit()?;
        Ok(self.flags().take(mask))
    }

    /// Waits until one flag of `mask` is raised, or several, and takes those.
    ///
    /// # Errors
    ///
    /// As for [`raise`](Self::raise).
    #[inline]
    pub fn take(&mut self, mask: u64) -> Result<u64, EventError> {
        match self.try_take(mask)? {
            0 => Ok(self.take_by(mask, None)?),
            taken => Ok(taken),
        }
    }

    /// The same, waiting for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// [`EventTimeoutError`], each variant of which says when.
    pub fn take_timeout(&mut self, mask: u64, timeout: Duration) -> Result<u64, EventTimeoutError> {
        Ok(self.take_by(mask, deadline_in(timeout))?)
    }

    /// The same, waiting until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`take_timeout`](Self::take_timeout).
    pub fn take_deadline(
        &mut self,
        mask: u64,
        deadline: Instant,
    ) -> Result<u64, EventTimeoutError> {
        Ok(self.take_by(mask, Some(deadline))?)
    }

    /// Waits until one flag of `mask` is raised; those that are. They stay so.
    ///
    /// # Errors
    ///
    /// As for [`raise`](Self::raise).
    #[inline]
    pub fn wait_any(&mut self, mask: u64) -> Result<u64, EventError> {
        Ok(self.wait_by(Wanted::Any(mask), None)?)
    }

    /// The same, waiting for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`take_timeout`](Self::take_timeout).
    pub fn wait_any_timeout(
        &mut self,
        mask: u64,
        timeout: Duration,
    ) -> Result<u64, EventTimeoutError> {
        Ok(self.wait_by(Wanted::Any(mask), deadline_in(timeout))?)
    }

    /// The same, waiting until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`take_timeout`](Self::take_timeout).
    pub fn wait_any_deadline(
        &mut self,
        mask: u64,
        deadline: Instant,
    ) -> Result<u64, EventTimeoutError> {
        Ok(self.wait_by(Wanted::Any(mask), Some(deadline))?)
    }

    /// Waits until all flags of `mask` are raised at the same time, and returns them. They stay so.
    ///
    /// # Errors
    ///
    /// As for [`raise`](Self::raise).
    #[inline]
    pub fn wait_all(&mut self, mask: u64) -> Result<u64, EventError> {
        Ok(self.wait_by(Wanted::All(mask), None)?)
    }

    /// The same, waiting for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`take_timeout`](Self::take_timeout).
    pub fn wait_all_timeout(
        &mut self,
        mask: u64,
        timeout: Duration,
    ) -> Result<u64, EventTimeoutError> {
        Ok(self.wait_by(Wanted::All(mask), deadline_in(timeout))?)
    }

    /// The same, waiting until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`take_timeout`](Self::take_timeout).
    pub fn wait_all_deadline(
        &mut self,
        mask: u64,
        deadline: Instant,
    ) -> Result<u64, EventTimeoutError> {
        Ok(self.wait_by(Wanted::All(mask), Some(deadline))?)
    }

    /// How this handle waits from now on. Default: [`Wait::Adaptive`].
    pub fn set_wait(&mut self, wait: Wait) {
        self.side.set_wait(wait);
    }

    /// The same, for use where it is made.
    #[must_use]
    pub fn with_wait(mut self, wait: Wait) -> Self {
        self.set_wait(wait);
        self
    }

    /// Its event.
    pub fn event(&self) -> &Event {
        &self.event
    }

    #[inline(always)]
    fn flags(&self) -> Flags<'_> {
        flags(self.side.attached.half(Role::Sender))
    }

    fn take_by(&mut self, mask: u64, deadline: Option<Instant>) -> Result<u64, Failure> {
        self.await_flags(mask, deadline, |flags| Some(flags.take(mask)).filter(|&taken| taken != 0))
    }

    fn wait_by(&mut self, wanted: Wanted, deadline: Option<Instant>) -> Result<u64, Failure> {
        let (Wanted::Any(mask) | Wanted::All(mask)) = wanted;
        self.await_flags(mask, deadline, |flags| flags.look(wanted))
    }

    fn await_flags(
        &mut self,
        mask: u64,
        deadline: Option<Instant>,
        attempt: impl Fn(Flags<'_>) -> Option<u64>,
    ) -> Result<u64, Failure> {
        self.side.admit()?;
        if let Some(found) = attempt(self.flags()) {
            return Ok(found);
        }
        if mask == 0 {
            return Ok(0);
        }
        wait::wait(&mut self.side, deadline, |side, _| {
            side.admit()?;
            attempt(flags(side.attached.half(Role::Sender))).ok_or(Failure::NotReady)
        })
    }
}

static_assertions::assert_impl_all!(Event: Send, Sync);
static_assertions::assert_impl_all!(EventHandle: Send);
