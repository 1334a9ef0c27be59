//! A message that is worked on before it is taken.

use crate::error::{Failure, RecvError, RecvTimeoutError, TryRecvError};
use crate::protocol::claims::Held;
use crate::ring::Receiver;
use crate::wait::deadline_in;
use bytemuck::{AnyBitPattern, NoUninit};
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::time::{Duration, Instant};

/// A message that this receiver has and nobody else gets: [`release`](Self::release) removes it from the ring
/// when the work is done. Made by [`Receiver::claim`].
///
/// If it is dropped or [given back](Self::give_back), or if its process is killed, the message is handed out
/// again, to whichever receiver comes first: the ring is a queue of jobs none of which is lost with its worker.
/// A job is done twice only if its worker was killed between finishing it and `release`.
///
/// Where this is the ring's only receiver, and there is only one sender, the message just stays the next one.
#[derive(Debug)]
#[must_use = "a claimed message that is dropped is handed out again"]
pub struct Claimed<'a, T: NoUninit + AnyBitPattern> {
    receiver: &'a mut Receiver<T>,
    held: Option<Held>,
    message: T,
    deliveries: u32,
    done: bool,
}

impl<T: NoUninit + AnyBitPattern> Receiver<T> {
    /// Claims the next message, if one is there now.
    ///
    /// # Errors
    ///
    /// As for [`try_recv`](Self::try_recv).
    ///
    /// ```
    /// use annulus::{Place, Ring, Topology};
    ///
    /// let ring =
    ///     Ring::<u64>::builder(16).topology(Topology::Mpmc).create(Place::memfd("jobs")?)?;
    /// let (mut tx, mut worker, mut other) = (ring.sender()?, ring.receiver()?, ring.receiver()?);
    /// tx.send(7)?;
    /// let job = worker.try_claim()?;
    /// assert_eq!((*job, job.deliveries()), (7, 1));
    /// // The worker fails, and the job goes to somebody else.
    /// job.give_back();
    /// let job = other.try_claim()?;
    /// assert_eq!((*job, job.deliveries()), (7, 2));
    /// job.release();
    /// assert!(worker.try_claim().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_claim(&mut self) -> Result<Claimed<'_, T>, TryRecvError> {
        Ok(Claimed::of(self)?)
    }

    /// Claims the next message, waiting if there is none.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
    pub fn claim(&mut self) -> Result<Claimed<'_, T>, RecvError> {
        Ok(Claimed::until(self, None)?)
    }

    /// Claims the next message, waiting for one for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`recv_timeout`](Self::recv_timeout).
    pub fn claim_timeout(&mut self, timeout: Duration) -> Result<Claimed<'_, T>, RecvTimeoutError> {
        Ok(Claimed::until(self, deadline_in(timeout))?)
    }

    /// Claims the next message, waiting for one until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`recv_timeout`](Self::recv_timeout).
    pub fn claim_deadline(
        &mut self,
        deadline: Instant,
    ) -> Result<Claimed<'_, T>, RecvTimeoutError> {
        Ok(Claimed::until(self, Some(deadline))?)
    }
}

impl<'a, T: NoUninit + AnyBitPattern> Claimed<'a, T> {
    fn of(receiver: &'a mut Receiver<T>) -> Result<Self, Failure> {
        let held = receiver.slots.try_claim()?;
        Self::holding(receiver, held)
    }

    fn until(receiver: &'a mut Receiver<T>, deadline: Option<Instant>) -> Result<Self, Failure> {
        let held = loop {
            match receiver.slots.try_claim() {
                Err(Failure::NotReady) => receiver.slots.wait_for_message(deadline)?,
                done => break done?,
            }
        };
        Self::holding(receiver, held)
    }

    fn holding(receiver: &'a mut Receiver<T>, held: Option<Held>) -> Result<Self, Failure> {
        let mut message = MaybeUninit::<T>::uninit();
        // SAFETY: `message` has room for a `T`, which is the shape's size.
        let deliveries = unsafe { receiver.slots.read_claimed(held, message.as_mut_ptr().cast()) }?;
        // SAFETY: all bytes of `message` were written, and any bytes are a `T` (`AnyBitPattern`).
        let message = unsafe { message.assume_init() };
        Ok(Self { receiver, held, message, deliveries, done: false })
    }

    /// How often the message has been handed out to a receiver that claimed it, or received it again, this
    /// time included. At 255 it is not counted on.
    pub fn deliveries(&self) -> u32 {
        self.deliveries
    }

    /// Removes the message from the ring: the work is done. In a forked child, which has no right to the
    /// parent's message, nothing happens.
    pub fn release(mut self) {
        self.done = true;
        self.receiver.slots.release_claimed(self.held);
    }

    /// Lets the message be handed out again, at once, as dropping does.
    pub fn give_back(self) {}
}

impl<T: NoUninit + AnyBitPattern> Deref for Claimed<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.message
    }
}

impl<T: NoUninit + AnyBitPattern> Drop for Claimed<'_, T> {
    fn drop(&mut self) {
        if !self.done {
            self.receiver.slots.give_back(self.held);
        }
    }
}
