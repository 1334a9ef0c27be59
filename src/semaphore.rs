//! [`Semaphore`]: permits that come back when their holder dies.

use crate::builder::{Attach, Builder, Kind, Sealed};
use crate::error::{
    AcquireError, AcquireTimeoutError, Failure, ReleaseError, Role, SetupError, TryAcquireError,
};
use crate::participants::Participant;
use crate::protocol::pace::Deference;
use crate::protocol::park::{self, Answered};
use crate::protocol::permits::{self, Account, Permits, Refused, State};
use crate::protocol::room::Look;
use crate::segment::{Attached, Place, RingKind, Segment};
use crate::stats::Stats;
use crate::sys::futex;
use crate::table;
use crate::wait::{self, Wait, deadline_in};
use bytemuck::AnyBitPattern;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A number of permits that processes share: a binary semaphore, which is a lock, or a counting one.
///
/// Whoever takes part makes a [`Holder`], and through it acquires permits and gives them back. **A killed process
/// keeps nothing**: what it held is returned by those who wait, within some milliseconds, and the next one that
/// acquires is told ([`Permit::is_abandoned`]). There is no moment at which a kill loses a permit or makes one.
///
/// # Fairness
///
/// There is no queue: a permit goes to whoever comes first when it is free, and those who sleep are woken in the
/// order in which they fell asleep. So nobody waits behind somebody who is stopped, a holder may get the permit that
/// it has just released before the one that was woken for it, and who waits for several permits can be kept waiting
/// by others who take single ones.
///
/// # For signalling
///
/// Permits can also be [posted](Holder::post) by one process and [consumed](Permit::consume) by another, as with
/// `sem_post` and `sem_wait`. A consumer that is killed before it has consumed its permit gives it back.
///
/// ```
/// use annulus::{Place, Semaphore};
///
/// let places = Semaphore::counting(2).create(Place::memfd("places")?)?;
/// let (mut one, mut other) = (places.holder()?, places.holder()?);
/// let permit = one.acquire()?;
/// let second = other.try_acquire()?;
/// assert_eq!(places.value()?, 0);
/// drop(permit);
/// assert_eq!(places.value()?, 1);
/// # drop(second);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Semaphore {
    segment: Arc<Segment>,
}

impl Kind for Semaphore {
    fn in_segment(Sealed(segment): Sealed) -> Self {
        Self { segment }
    }
}

impl Semaphore {
    /// Starts to make a semaphore with one permit: a lock. As with a robust mutex, who gets it after its owner was
    /// killed is told that what it protects may be half done.
    ///
    /// ```
    /// use annulus::{Place, Semaphore};
    ///
    /// let lock = Semaphore::binary().create(Place::memfd("lock")?)?;
    /// let mut holder = lock.holder()?;
    /// let guard = holder.acquire()?;
    /// if guard.is_abandoned() {
    ///     // Its last owner was killed: look at what it was doing.
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn binary() -> Builder<Self> {
        Self::counting(1)
    }

    /// Starts to make a semaphore with `permits` permits, 1 to 65535, which are free at first unless
    /// [`initial`](Builder::initial) says otherwise. More can never be free.
    ///
    /// ```
    /// use annulus::{Place, Semaphore};
    ///
    /// let workers = Semaphore::counting(8).participants(100).create(Place::memfd("workers")?)?;
    /// assert_eq!(workers.permits(), 8);
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    pub fn counting(permits: u32) -> Builder<Self> {
        Builder::without_messages(RingKind::Semaphore, permits as usize, permits as usize)
    }

    /// Opens a semaphore that exists.
    ///
    /// # Errors
    ///
    /// As for [`Attach::open`].
    pub fn open(place: Place) -> Result<Self, SetupError> {
        Self::attach().open(place)
    }

    /// Starts to open a semaphore that exists, with more to insist on than [`open`](Self::open).
    pub fn attach() -> Attach<Self> {
        Attach::new(RingKind::Semaphore, None)
    }

    /// Opens the semaphore behind a descriptor that was inherited or received; the descriptor is closed.
    ///
    /// # Errors
    ///
    /// As for [`Attach::from_fd`].
    pub fn from_fd(fd: OwnedFd) -> Result<Self, SetupError> {
        Self::attach().from_fd(fd)
    }

    /// Becomes one of those who acquire and release. Each thread makes its own; they see each other as those of
    /// other processes.
    ///
    /// # Errors
    ///
    /// [`SetupError::Crowded`] if there are as many holders as [`participants`](Builder::participants) allowed;
    /// [`SetupError::Forked`] in a child that was forked after the semaphore was opened.
    pub fn holder(&self) -> Result<Holder, SetupError> {
        let mut side = Participant::join(&self.segment, Role::Receiver)?;
        let mem = permits_of(&side);
        let account = Account::open(&mem, side.entry());
        side.enter();
        let answered = side.answered_on_own_side();
        Ok(Holder { side, account, mem, answered, semaphore: self.clone() })
    }

    /// Permits that are free now.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError::Corrupt`], [`TryAcquireError::Forked`].
    pub fn value(&self) -> Result<u32, TryAcquireError> {
        if !self.segment.is_ours() {
            return Err(TryAcquireError::Forked);
        }
        let attached = Attached::new(&self.segment);
        let state = table::permits(&attached).look().map_err(|_| TryAcquireError::Corrupt)?;
        Ok(state.free())
    }

    /// The most permits that may be free: as many as it was made with.
    pub fn permits(&self) -> u32 {
        self.segment.spec.capacity as u32
    }

    /// Has everybody who waits for a permit, now or later, told that there will be none. Permits that are held can
    /// be released still. For good.
    ///
    /// # Errors
    ///
    /// [`SetupError::Forked`] in a child that was forked after the semaphore was opened.
    ///
    /// ```
    /// use annulus::{AcquireError, Place, Semaphore};
    ///
    /// let lock = Semaphore::binary().create(Place::memfd("lock")?)?;
    /// let mut holder = lock.holder()?;
    /// lock.close()?;
    /// assert_eq!(holder.acquire().unwrap_err(), AcquireError::Closed);
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    pub fn close(&self) -> Result<(), SetupError> {
        if !self.segment.is_ours() {
            return Err(SetupError::Forked);
        }
        table::permits(&Attached::new(&self.segment)).close();
        for role in [Role::Sender, Role::Receiver] {
            futex::wake_all(park::ring(self.segment.half(role)));
        }
        Ok(())
    }

    /// A snapshot of the semaphore's figures: permits that are free, who holds how many, and how many were
    /// returned from the dead (`repairs`).
    pub fn stats(&self) -> Stats {
        self.segment.stats()
    }

    /// The [metadata](Builder::metadata) that the semaphore was created with.
    ///
    /// # Errors
    ///
    /// [`SetupError::Metadata`] if it does not have the size of an `M`.
    pub fn metadata<M: AnyBitPattern>(&self) -> Result<M, SetupError> {
        self.segment.spec.metadata()
    }

    /// The label that the semaphore was created with.
    pub fn label(&self) -> &str {
        &self.segment.spec.label
    }

    /// Whether the semaphore outlives its users.
    pub fn is_persistent(&self) -> bool {
        self.segment.spec.persistent
    }

    /// The descriptor of the segment, to hand over a Unix socket.
    ///
    /// # Panics
    ///
    /// In a child that was forked after the semaphore was opened.
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

    /// Removes the semaphore's name, if it has one. Those who have it open go on using it; see
    /// [`close`](Self::close).
    ///
    /// # Errors
    ///
    /// [`SetupError::Os`], [`SetupError::Forked`].
    pub fn remove(&self) -> Result<(), SetupError> {
        self.segment.unlink()
    }
}

/// The memory of the permits, for one who lies beside `side`.
fn permits_of(side: &Participant) -> Permits<'static> {
    // SAFETY: what the references point to is the segment's mapping, which stays where it is as long as `side` has a part
    // in the segment; they are kept beside `side`, in a struct that uses them in its own `drop` at the latest.
    unsafe { std::mem::transmute::<Permits<'_>, Permits<'static>>(table::permits(&side.attached)) }
}

/// One who acquires and releases permits of a [`Semaphore`]. What it still holds when it is dropped is released.
// Lines of its own, as for the handles of a ring.
#[derive(Debug)]
#[repr(align(128))]
pub struct Holder {
    side: Participant,
    account: Account<'static>,
    /// The memory, at hand for each change.
    mem: Permits<'static>,
    /// Sleepers of its own role that it has answered.
    answered: Answered,
    semaphore: Semaphore,
}

impl Holder {
    /// Acquires a permit, if one is free.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError`], each variant of which says when.
    #[inline]
    pub fn try_acquire(&mut self) -> Result<Permit<'_>, TryAcquireError> {
        self.try_acquire_many(1)
    }

    /// Acquires `count` permits at once, if as many are free; otherwise none.
    ///
    /// # Errors
    ///
    /// As for [`try_acquire`](Self::try_acquire).
    #[inline]
    pub fn try_acquire_many(&mut self, count: u32) -> Result<Permit<'_>, TryAcquireError> {
        let abandoned = match self.take(count) {
            Ok(abandoned) => abandoned,
            Err(error) => return Err(self.refused(error)),
        };
        Ok(Permit { holder: self, count, abandoned })
    }

    /// Acquires a permit, waiting until one is free, in the way that [`set_wait`](Self::set_wait) chose.
    ///
    /// # Errors
    ///
    /// [`AcquireError`], each variant of which says when.
    #[inline]
    pub fn acquire(&mut self) -> Result<Permit<'_>, AcquireError> {
        self.acquire_many(1)
    }

    /// Acquires `count` permits at once, waiting until as many are free together.
    ///
    /// # Errors
    ///
    /// As for [`acquire`](Self::acquire).
    #[inline]
    pub fn acquire_many(&mut self, count: u32) -> Result<Permit<'_>, AcquireError> {
        let abandoned = match self.take(count) {
            Ok(abandoned) => abandoned,
            Err(error) => self.take_later(error, count)?,
        };
        Ok(Permit { holder: self, count, abandoned })
    }

    /// Acquires a permit, waiting for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// [`AcquireTimeoutError`], each variant of which says when.
    pub fn acquire_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<Permit<'_>, AcquireTimeoutError> {
        self.acquire_many_timeout(1, timeout)
    }

    /// Acquires a permit, waiting until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`acquire_timeout`](Self::acquire_timeout).
    pub fn acquire_deadline(
        &mut self,
        deadline: Instant,
    ) -> Result<Permit<'_>, AcquireTimeoutError> {
        self.acquire_many_deadline(1, deadline)
    }

    /// Acquires `count` permits at once, waiting for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`acquire_timeout`](Self::acquire_timeout).
    pub fn acquire_many_timeout(
        &mut self,
        count: u32,
        timeout: Duration,
    ) -> Result<Permit<'_>, AcquireTimeoutError> {
        self.acquire_until(count, || deadline_in(timeout))
    }

    /// Acquires `count` permits at once, waiting until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`acquire_timeout`](Self::acquire_timeout).
    pub fn acquire_many_deadline(
        &mut self,
        count: u32,
        deadline: Instant,
    ) -> Result<Permit<'_>, AcquireTimeoutError> {
        self.acquire_until(count, || Some(deadline))
    }

    fn acquire_until(
        &mut self,
        count: u32,
        deadline: impl FnOnce() -> Option<Instant>,
    ) -> Result<Permit<'_>, AcquireTimeoutError> {
        let taken = match self.take(count) {
            Err(TryAcquireError::NoPermits) => self.take_by(count, deadline()),
            done => done,
        };
        let abandoned = taken.map_err(AcquireTimeoutError::from)?;
        Ok(Permit { holder: self, count, abandoned })
    }

    /// Releases `count` permits that this holder has by [`Permit::keep`].
    ///
    /// # Errors
    ///
    /// [`ReleaseError`], each variant of which says when; then nothing is released.
    #[inline]
    pub fn release(&mut self, count: u32) -> Result<(), ReleaseError> {
        if self.side.is_admitted() {
            if let Some(before) = self.account.release_at_once(&self.mem, count) {
                self.tell_of(before, count);
                return Ok(());
            }
        }
        self.release_with_care(count)
    }

    /// [`release`](Self::release) where that takes more than a swap.
    #[cold]
    #[inline(never)]
    fn release_with_care(&mut self, count: u32) -> Result<(), ReleaseError> {
        self.admit().map_err(|error| release_error(error, 0))?;
        if count > self.account.held() {
            return Err(ReleaseError::NotHeld { held: self.account.held() });
        }
        if count == 0 {
            return Ok(());
        }
        match self.account.release(&self.mem, count) {
            Ok(before) => {
                self.tell_of(before, count);
                Ok(())
            }
            Err(refused) => Err(self.not_released(refused)),
        }
    }

    /// Makes `count` permits that nobody held, for others to acquire: the `V` of a semaphore that signals.
    ///
    /// # Errors
    ///
    /// [`ReleaseError::TooMany`] if more than [`Semaphore::permits`] would be free; then none is made.
    ///
    /// ```
    /// use annulus::{Place, Semaphore};
    ///
    /// let jobs = Semaphore::counting(1000).initial(0).create(Place::memfd("jobs")?)?;
    /// let (mut producer, mut consumer) = (jobs.holder()?, jobs.holder()?);
    /// producer.post(2)?;
    /// consumer.acquire()?.consume();
    /// assert_eq!(jobs.value()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn post(&mut self, count: u32) -> Result<(), ReleaseError> {
        self.admit().map_err(|error| release_error(error, 0))?;
        let most = self.semaphore.permits();
        if count > most {
            return Err(ReleaseError::TooMany { most });
        }
        if count == 0 {
            return Ok(());
        }
        match self.account.post(&self.mem, count) {
            Ok(before) => {
                self.tell_of(before, count);
                Ok(())
            }
            Err(refused) => Err(self.not_released(refused)),
        }
    }

    /// Permits that it has, those of guards and kept ones.
    pub fn held(&self) -> u32 {
        self.account.held()
    }

    /// Waits until no permit is free. That it was so may be over when this returns.
    ///
    /// # Errors
    ///
    /// [`AcquireError`], each variant of which says when.
    pub fn wait_zero(&mut self) -> Result<(), AcquireError> {
        self.wait_zero_by(None).map_err(AcquireError::of)
    }

    /// The same for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// [`AcquireTimeoutError`], each variant of which says when.
    pub fn wait_zero_timeout(&mut self, timeout: Duration) -> Result<(), AcquireTimeoutError> {
        self.wait_zero_by(deadline_in(timeout)).map_err(AcquireTimeoutError::from)
    }

    /// The same until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`wait_zero_timeout`](Self::wait_zero_timeout).
    pub fn wait_zero_deadline(&mut self, deadline: Instant) -> Result<(), AcquireTimeoutError> {
        self.wait_zero_by(Some(deadline)).map_err(AcquireTimeoutError::from)
    }

    /// How this holder waits from now on. Default: [`Wait::Adaptive`].
    pub fn set_wait(&mut self, wait: Wait) {
        self.side.set_wait(wait);
    }

    /// The same, for use where it is made.
    #[must_use]
    pub fn with_wait(mut self, wait: Wait) -> Self {
        self.set_wait(wait);
        self
    }

    /// Its semaphore.
    pub fn semaphore(&self) -> &Semaphore {
        &self.semaphore
    }

    #[inline(always)]
    fn admit(&mut self) -> Result<(), TryAcquireError> {
        self.side.admit().map_err(error_of)
    }

    /// Takes `count` permits if they are free; whether somebody had died with one.
    #[inline(always)]
    fn take(&mut self, count: u32) -> Result<bool, TryAcquireError> {
        // Who waits until none is free has seen to it that this takes more than a swap.
        if self.side.is_admitted() && self.account.try_acquire_at_once(&self.mem, count) {
            return Ok(false);
        }
        self.take_with_care(count)
    }

    /// The same, waiting, after an attempt that ended in `error`.
    #[cold]
    #[inline(never)]
    fn take_later(&mut self, error: TryAcquireError, count: u32) -> Result<bool, AcquireError> {
        let taken = match error {
            TryAcquireError::NoPermits => self.take_by(count, None),
            error => Err(error),
        };
        taken.map_err(AcquireError::of)
    }

    /// [`take`](Self::take) where that takes more than a swap.
    #[cold]
    #[inline(never)]
    fn take_with_care(&mut self, count: u32) -> Result<bool, TryAcquireError> {
        self.admit()?;
        let permits = self.mem;
        let most = permits.maximum.min(permits::MOST - self.account.held());
        // In one comparison: 0 wraps.
        if count.wrapping_sub(1) >= most {
            return Err(TryAcquireError::Never { most });
        }
        match self.account.try_acquire(&permits, count) {
            Ok(grant) => {
                if grant.left == 0 {
                    self.tell_of_none();
                }
                Ok(grant.abandoned)
            }
            Err(Refused::NotReady) => Err(TryAcquireError::NoPermits),
            Err(refused) => Err(self.failed(refused)),
        }
    }

    #[cold]
    #[inline(never)]
    fn failed(&mut self, refused: Refused) -> TryAcquireError {
        match refused {
            Refused::Closed => TryAcquireError::Closed,
            Refused::NotReady => TryAcquireError::NoPermits,
            Refused::TooMany | Refused::Corrupt => {
                self.side.poison();
                TryAcquireError::Corrupt
            }
        }
    }

    /// Looks now and then, if there was nothing, for permits of the dead.
    #[cold]
    #[inline(never)]
    fn refused(&mut self, error: TryAcquireError) -> TryAcquireError {
        if error == TryAcquireError::NoPermits {
            self.side.count_empty_poll();
            self.side.tend_now_and_then();
        }
        error
    }

    #[cold]
    #[inline(never)]
    fn not_released(&mut self, refused: Refused) -> ReleaseError {
        match refused {
            Refused::TooMany => ReleaseError::TooMany { most: self.semaphore.permits() },
            refused => release_error(self.failed(refused), self.account.held()),
        }
    }

    /// Wakes those who can go on, when the word said `before` and `count` permits have come free since.
    #[inline(always)]
    fn tell_of(&mut self, before: State, count: u32) {
        // Those who wait for permits are receivers. No registers are saved for a call that is seldom made: the next swap
        // would wait for the stores.
        if !self.answered.is_quiet(self.side.attached.half(Role::Receiver)) {
            self.tell_closely(before, count);
        }
    }

    #[cold]
    #[inline(never)]
    fn tell_closely(&mut self, before: State, count: u32) {
        let count = if before.is_many() { u32::MAX } else { count };
        self.side.notify_own_side(&mut self.answered, count);
    }

    /// Wakes those who wait until no permit is free.
    #[cold]
    #[inline(never)]
    fn tell_of_none(&mut self) {
        self.side.notify_of(Role::Sender, usize::MAX);
    }

    /// The same as `take`, waiting until `deadline`.
    #[cold]
    #[inline(never)]
    fn take_by(&mut self, count: u32, deadline: Option<Instant>) -> Result<bool, TryAcquireError> {
        if count > 1 {
            self.mem.wait_for_many();
        }
        let (sleeps, permits) = (self.side.sleeps(), self.mem);
        let mut deference = Deference::default();
        loop {
            let found = wait::wait(&mut self.side, deadline, |side, _| {
                side.admit()?;
                failure_of(permits.find_beside_others(count, &mut deference))
            });
            match found {
                Ok(()) | Err(Failure::NotReady) => {}
                Err(Failure::Corrupt) => return Err(self.failed(Refused::Corrupt)),
                Err(failure) => return Err(self.why(failure)),
            }
            match self.take(count) {
                // Somebody was faster.
                Err(TryAcquireError::NoPermits) => {}
                done => {
                    self.side.share(sleeps, || permits.find(1).is_ok());
                    return done;
                }
            }
        }
    }

    /// What a wait that ended in `failure` says to the caller.
    fn why(&mut self, failure: Failure) -> TryAcquireError {
        let closed = self.mem.look().is_ok_and(State::is_closed);
        match failure {
            // Nobody's end ends a wait, so it is this.
            Failure::Disconnected if closed => TryAcquireError::Closed,
            failure => error_of(failure),
        }
    }

    fn wait_zero_by(&mut self, deadline: Option<Instant>) -> Result<(), TryAcquireError> {
        self.admit()?;
        // Those who wait for this sleep on what is rung by those who take the last permit.
        self.side.face(Role::Sender);
        let permits = self.mem;
        let found = wait::wait(&mut self.side, deadline, |side, look| {
            side.admit()?;
            let found = match look {
                Look::Released => permits.look(),
                // The next one may be a sleep.
                Look::Exact => permits.watch(),
            };
            failure_of(found.and_then(|state| match (state.free(), state.is_closed()) {
                (0, _) => Ok(()),
                (_, true) => Err(Refused::Closed),
                _ => Err(Refused::NotReady),
            }))
        });
        self.side.face(Role::Receiver);
        match found {
            Ok(()) => Ok(()),
            Err(Failure::Corrupt) => Err(self.failed(Refused::Corrupt)),
            Err(failure) => Err(self.why(failure)),
        }
    }

    fn consume(&mut self, count: u32) {
        if self.side.is_ours() {
            self.account.consume(count);
        }
    }
}

/// What the waiting loop is told. There is no peer whose end could end a wait; that the semaphore is closed does.
fn failure_of(found: Result<(), Refused>) -> Result<(), Failure> {
    found.map_err(|refused| match refused {
        Refused::NotReady => Failure::NotReady,
        Refused::Closed => Failure::Disconnected,
        Refused::TooMany | Refused::Corrupt => Failure::Corrupt,
    })
}

fn error_of(failure: Failure) -> TryAcquireError {
    match failure {
        Failure::NotReady | Failure::Timeout => TryAcquireError::NoPermits,
        Failure::Disconnected | Failure::Corrupt => TryAcquireError::Corrupt,
        Failure::Forked => TryAcquireError::Forked,
    }
}

fn release_error(error: TryAcquireError, held: u32) -> ReleaseError {
    match error {
        TryAcquireError::Forked => ReleaseError::Forked,
        TryAcquireError::Corrupt => ReleaseError::Corrupt,
        // No release says these.
        TryAcquireError::NoPermits | TryAcquireError::Never { .. } | TryAcquireError::Closed => {
            ReleaseError::NotHeld { held }
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let held = self.account.held();
        if held == 0 || !self.side.is_ours() {
            return;
        }
        // What is damaged stays so.
        let _ = self.account.leave(&self.mem);
        self.side.notify_own_side(&mut self.answered, u32::MAX);
    }
}

/// Permits that were acquired; released when this is dropped.
#[derive(Debug)]
#[must_use = "a permit that is dropped at once is released at once"]
pub struct Permit<'a> {
    holder: &'a mut Holder,
    count: u32,
    abandoned: bool,
}

impl Permit<'_> {
    /// How many.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether somebody was killed with a permit (or ended without giving it back), and nobody has acquired one
    /// since: what the permits protect may be half done. Said once; if this one is killed as well, the next one is
    /// told again.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    /// Releases them now.
    ///
    /// # Errors
    ///
    /// [`ReleaseError`], each variant of which says when.
    pub fn release(self) -> Result<(), ReleaseError> {
        let mut permit = std::mem::ManuallyDrop::new(self);
        let count = permit.count;
        permit.holder.release(count)
    }

    /// Leaves them with the holder, until [`Holder::release`] or until it is dropped or killed.
    pub fn keep(self) {
        std::mem::forget(self);
    }

    /// Uses them up: nobody gets them back, also if this process is killed later.
    pub fn consume(self) {
        let mut permit = std::mem::ManuallyDrop::new(self);
        let count = permit.count;
        permit.holder.consume(count);
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        // What cannot be released, in a fork child or in damaged memory, is not ours to release.
        let _ = self.holder.release(self.count);
    }
}

static_assertions::assert_impl_all!(Semaphore: Send, Sync);
static_assertions::assert_impl_all!(Holder: Send);
