//! [`Pollable`]: a handle with a descriptor that `epoll` and its like can wait for.
//!
//! The descriptor is an `eventfd`; a thread beside the handle's user sleeps as a blocked receiver does, and writes to it.
//! DESIGN.md, section 27, has the protocol and why nothing is missed.

mod bytes;
mod lookout;
mod post;
mod slots;
mod words;

pub(crate) use post::Post;

use crate::error::{Failure, SetupError};
use crate::participants::Participant;
use lookout::Lookout;
use post::Probe;
use sealed::Polled;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::task::Poll;

mod sealed {
    use super::{Failure, Participant, Probe};

    /// What a [`Pollable`](super::Pollable) can be made of.
    pub trait Handle {
        /// What is waited for.
        type Interest: Copy;

        /// What of the handle is asked: itself, or what it is a face of.
        type Polled: Polled<Interest = Self::Interest>;

        /// It.
        fn polled(&mut self) -> &mut Self::Polled;
    }

    /// What a [`Pollable`](super::Pollable) needs of it.
    pub trait Polled {
        /// What is waited for.
        type Interest: Copy;

        /// What the thread looks at.
        type Probe: Probe;

        /// The part in the segment.
        fn side(&mut self) -> &mut Participant;

        /// Something to look at, which [`mark`](Self::mark) completes.
        fn probe(&mut self) -> Self::Probe;

        /// Has the thread look at what is next now.
        fn mark(&mut self, interest: Self::Interest, probe: &mut Self::Probe);

        /// Whether a call that does not wait finds what it wants now: `NotReady` if not, another failure if it fails.
        fn poll(&mut self, interest: Self::Interest) -> Result<(), Failure>;

        /// The same after a sleep was announced.
        fn look(&mut self, interest: Self::Interest) -> Result<(), Failure> {
            self.poll(interest)
        }
    }

    impl<P: Polled> Handle for P {
        type Interest = P::Interest;
        type Polled = P;

        fn polled(&mut self) -> &mut P {
            self
        }
    }
}

/// What the thread of a handle looks at.
type ProbeOf<H> = <<H as sealed::Handle>::Polled as Polled>::Probe;

/// Handles of which a [`Pollable`] can be made.
///
/// `Interest` is what is waited for: nothing to choose, `()`, for most; a mask of flags, `u64`, one of which is to be
/// raised, for an [`EventHandle`](crate::EventHandle); a [`Select`](crate::Select) for a
/// [`MailReceiver`](crate::MailReceiver); the length of the message, `usize`, for a [`ByteSender`](crate::ByteSender).
///
/// | handle | it is told |
/// | --- | --- |
/// | [`Receiver`](crate::Receiver), [`ByteReceiver`](crate::ByteReceiver), [`UntypedReceiver`](crate::UntypedReceiver) | that there is a message |
/// | [`StreamReader`](crate::StreamReader) | that there is something to read, or the end |
/// | [`BroadcastReceiver`](crate::BroadcastReceiver), [`ByteBroadcastReceiver`](crate::ByteBroadcastReceiver) | that there is a message, or that it has missed some |
/// | [`EventHandle`](crate::EventHandle) | that a flag is raised |
/// | [`LatestReader`](crate::LatestReader) | that there is a value it has not read (not of the writer's end, which no read tells) |
/// | [`MailReceiver`](crate::MailReceiver) | that there is a message which it wants |
/// | [`Sender`](crate::Sender), [`UntypedSender`](crate::UntypedSender) | that there is room |
/// | [`ByteSender`](crate::ByteSender) | that there is more room than when it was armed |
///
/// Semaphores and [`ByteStream`](crate::ByteStream)s have none. The sides of a [`Duplex`](crate::Duplex) have:
/// [`split`](crate::Duplex::split) gives them.
pub trait Source: sealed::Handle {}

impl<H: sealed::Handle> Source for H {}

/// A handle with a descriptor that is readable when the handle has something to say: for `epoll`, `poll`, `select`,
/// and whatever stands on them.
///
/// It is used as the handle that it is made of. The descriptor is readable from the start. When it is, do what there is to do
/// with calls that do not wait (`try_recv` and its like), until they find nothing more, and then call [`arm`](Self::arm): it
/// clears the descriptor, unless something has come meanwhile. A program that stops earlier need not arm: the descriptor
/// stays readable.
///
/// ```
/// use annulus::{Place, Pollable, Ring, TryRecvError};
/// use nix::poll::{PollFd, PollFlags, PollTimeout};
/// use std::os::fd::AsFd;
///
/// let ring = Ring::<u64>::builder(16).create(Place::memfd("numbers")?)?;
/// let mut rx = Pollable::new(ring.receiver()?)?;
/// let mut tx = ring.sender()?;
/// let sender = std::thread::spawn(move || tx.send(42));
///
/// let mut sum = 0;
/// 'poll: loop {
///     // Beside whatever else there is to wait for.
///     nix::poll::poll(&mut [PollFd::new(rx.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)?;
///     loop {
///         match rx.try_recv() {
///             Ok(number) => sum += number,
///             Err(TryRecvError::Empty) if rx.arm().is_pending() => break,
///             // Something has come meanwhile.
///             Err(TryRecvError::Empty) => {}
///             Err(TryRecvError::Disconnected) => break 'poll,
///             Err(error) => return Err(error.into()),
///         }
///     }
/// }
/// assert_eq!(sum, 42);
/// # sender.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What it costs
///
/// Each has a thread, which sleeps until the handle is armed and something comes, writes to the `eventfd` and sleeps again. It
/// looks for dead peers ten times a second. A message that finds the handle armed costs its sender the wake of a sleeper, as with
/// a blocked receiver, and is there later by a switch between two threads. While the handle is not armed, messages cost what they cost
/// without this, and make no system call. Connections have the [`Hub`](crate::Hub), with one wait for all and no threads.
///
/// # Edge-triggered, and `async`
///
/// With `EPOLLET`, or in a runtime that uses it, go on until `arm` says [`Pending`](Poll::Pending), and wait only then. Such a
/// runtime takes the descriptor as it takes any: tokio's `AsyncFd` can own a `Pollable`, whose `readable_mut` is awaited, whose
/// inner value is used and armed, and whose readiness is cleared when `arm` has said `Pending`. Nobody but `arm` should read
/// from the descriptor.
///
/// # Death
///
/// A peer that leaves or is killed makes the descriptor readable (a death within 100 ms), and so do eviction and
/// removal: the next calls say so, after what is still there, at the latest after another `arm`. A peer killed between
/// publishing and waking costs the same 100 ms, as it costs a blocked receiver. Now and then the descriptor is readable for
/// nothing: then the handle finds nothing, and is armed again.
///
/// A forked child has neither the thread nor the descriptor: `arm` is `Ready`, for the handle's calls say `Forked`.
#[derive(Debug)]
pub struct Pollable<H: Source> {
    // Dropped first: the thread looks at what the handle is part of.
    lookout: Lookout<ProbeOf<H>>,
    handle: H,
}

impl<H: Source> Pollable<H> {
    /// Gives `handle` a descriptor, and a thread.
    ///
    /// # Errors
    ///
    /// [`SetupError::Os`] if the process has no descriptor or thread left, [`SetupError::Forked`] in a forked child.
    pub fn new(mut handle: H) -> Result<Self, SetupError> {
        let polled = handle.polled();
        if !polled.side().is_ours() {
            return Err(SetupError::Forked);
        }
        Ok(Self { lookout: Lookout::start(polled.probe())?, handle })
    }

    /// [`arm`](Pollable::arm) for a handle of which one says what is waited for: see [`Source`].
    ///
    /// ```
    /// use annulus::{Event, Place, Pollable};
    ///
    /// let event = Event::builder().create(Place::memfd("control")?)?;
    /// let mut worker = Pollable::new(event.handle()?)?;
    /// assert!(worker.arm_for(0b11).is_pending());
    /// event.handle()?.raise(0b10)?;
    /// assert!(worker.arm_for(0b11).is_ready());
    /// assert_eq!(worker.try_take(0b11)?, 0b10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn arm_for(&mut self, interest: H::Interest) -> Poll<()> {
        let Self { lookout, handle } = self;
        let handle = handle.polled();
        if !handle.side().is_ours() {
            return Poll::Ready(());
        }
        let suspects = lookout.suspects();
        if suspects {
            handle.side().ask_next_time();
        }
        if handle.poll(interest) != Err(Failure::NotReady) {
            if suspects {
                // The program's own call is to find the same.
                handle.side().ask_next_time();
            }
            lookout.keep_readable();
            return Poll::Ready(());
        }
        handle.side().attached.segment().attend();
        let barrier = handle.side().budget.barrier;
        lookout.arm(|probe| {
            handle.mark(interest, probe);
            probe.post().announce(barrier);
            handle.look(interest) != Err(Failure::NotReady)
        })
    }

    /// The handle.
    pub fn get_ref(&self) -> &H {
        &self.handle
    }

    /// The handle, to use.
    pub fn get_mut(&mut self) -> &mut H {
        &mut self.handle
    }

    /// The handle alone; the descriptor is closed.
    pub fn into_inner(self) -> H {
        self.handle
    }
}

impl<H: Source<Interest = ()>> Pollable<H> {
    /// Clears the descriptor, if the handle finds nothing: `Pending`. It becomes readable when something comes, or is
    /// over. `Ready` if there is something already, or a call of the handle fails; the descriptor is readable then.
    ///
    /// To be called when a call of the handle has found nothing, and before the descriptor is waited for.
    pub fn arm(&mut self) -> Poll<()> {
        self.arm_for(())
    }
}

impl<H: Source> Deref for Pollable<H> {
    type Target = H;

    fn deref(&self) -> &H {
        &self.handle
    }
}

impl<H: Source> DerefMut for Pollable<H> {
    fn deref_mut(&mut self) -> &mut H {
        &mut self.handle
    }
}

impl<H: Source> AsFd for Pollable<H> {
    /// The descriptor to wait for. It is close-on-exec and does not block.
    ///
    /// # Panics
    ///
    /// In a forked child, where it is closed.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lookout.fd()
    }
}

impl<H: Source> AsRawFd for Pollable<H> {
    /// As [`as_fd`](AsFd::as_fd).
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
