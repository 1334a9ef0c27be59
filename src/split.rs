//! [`Split`]: half a ring, for a peer that one need not trust.

use crate::builder::{Kind, Sealed};
use crate::error::{Role, SetupError};
use crate::segment::OwnHalf;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// One's own half of a ring whose two sides need not trust each other. Made by
/// [`Builder::split`](crate::Builder::split).
///
/// Each side makes its half in a memory file of its own, hands the other a [descriptor](Self::descriptor) of it,
/// and [joins](Self::join) the two. From then on it is a ring like any other, with one role for each process. But
/// neither side can write what the other writes: the files are sealed, and each is mapped read-only by the peer. So
/// nobody but the sender can change a message, and nobody but the receiver can say what was received.
///
/// The ring ends with its owners. A role cannot be taken over by another process, for it could not write the
/// half. In its owner's process the handle of a role can be dropped and made anew.
///
/// ```
/// use annulus::{Ring, Role};
///
/// // The one process, and the other.
/// let here = Ring::<u64>::builder(64).split(Role::Sender)?;
/// let there = Ring::<u64>::builder(64).split(Role::Receiver)?;
/// // Descriptors cross over, by a Unix socket say.
/// let (to_there, to_here) = (here.descriptor()?, there.descriptor()?);
/// let (here, there) = (here.join(to_here)?, there.join(to_there)?);
/// here.sender()?.send(42)?;
/// assert_eq!(there.receiver()?.recv()?, 42);
/// // What the peer writes is the peer's.
/// assert!(here.receiver().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "half a ring carries no messages until it is joined"]
pub struct Split<R> {
    half: OwnHalf,
    ring: PhantomData<fn() -> R>,
}

impl<R: Kind> Split<R> {
    pub(crate) fn new(half: OwnHalf) -> Self {
        Self { half, ring: PhantomData }
    }

    /// The role that this process has.
    pub fn role(&self) -> Role {
        self.half.role()
    }

    /// A new descriptor of this half, for the peer. It can only be read, also by this process.
    ///
    /// It is close-on-exec. A peer of the same user could open the file anew to write; the seals refuse that, too.
    ///
    /// # Errors
    ///
    /// [`SetupError::NoProc`] without `/proc`, [`SetupError::Forked`] in a forked child, [`SetupError::Os`] if there
    /// is no descriptor left.
    pub fn descriptor(&self) -> Result<OwnedFd, SetupError> {
        self.half.descriptor()
    }

    /// Joins this half with the peer's, whose descriptor is `theirs`.
    ///
    /// The peer's file is checked before it is used: seals, kind of file, size, holes, and a header that says the
    /// same as this half's.
    ///
    /// # Errors
    ///
    /// [`SetupError::NotSealed`], [`SetupError::NotAFile`], [`SetupError::Truncated`] or [`SetupError::Sparse`] if
    /// the peer could make this process fail; [`SetupError::NotARing`], [`SetupError::Version`],
    /// [`SetupError::Kind`], [`SetupError::Payload`], [`SetupError::Label`], [`SetupError::InvalidSize`] or
    /// [`SetupError::Corrupt`] if it is not the other half of this ring.
    pub fn join(self, theirs: OwnedFd) -> Result<R, SetupError> {
        let segment = self.half.join(theirs)?;
        Ok(R::in_segment(Sealed(Arc::new(segment))))
    }
}

static_assertions::assert_impl_all!(Split<crate::ByteRing>: Send, Sync);
