//! Semaphores and locks: the kernel's, the C library's, ours.

use std::io;
use std::os::fd::OwnedFd;

use annulus::{Holder, Place, SetupError};
use libc::c_int;
use nix::unistd::{Pid, getpid};

use super::c_object::CObject;
use super::orphans::{self, Orphan};
use crate::bench::link::{Failure, Refusal, Waiting};

/// A semaphore that the coordinator makes and workers use.
pub trait Semaphore: Sized {
    type End: Permits;

    /// One with so many permits.
    fn prepare(permits: u32) -> Result<Self, Refusal>;

    /// What one worker uses.
    fn attach(self, wait: Waiting) -> Result<Self::End, Failure>;
}

/// One process's view of a semaphore.
pub trait Permits {
    /// Takes a permit, waiting for it.
    fn take(&mut self) -> Result<(), Failure>;

    /// Makes a permit that somebody else takes for good; or gives back the one that was taken.
    fn give(&mut self) -> Result<(), Failure>;
}

/// `semop` on a set of one, on request with `SEM_UNDO`.
pub struct SystemV<const UNDO: bool> {
    id: c_int,
    maker: Pid,
}

impl<const UNDO: bool> Semaphore for SystemV<UNDO> {
    type End = SystemVEnd<UNDO>;

    fn prepare(permits: u32) -> Result<Self, Refusal> {
        // SAFETY: semget takes no pointer.
        let id = unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) };
        if id < 0 {
            return Err(Refusal::by_kernel("semget", io::Error::last_os_error()));
        }
        let made = Self { id, maker: getpid() };
        // SAFETY: SETVAL takes a number.
        match unsafe { libc::semctl(id, 0, libc::SETVAL, permits as c_int) } {
            0 => Ok(made),
            _ => Err(Refusal::by_kernel("semctl", io::Error::last_os_error())),
        }
    }

    fn attach(self, _: Waiting) -> Result<SystemVEnd<UNDO>, Failure> {
        orphans::adopt(&[Orphan::Semaphores(self.id)])?;
        Ok(SystemVEnd(self.id))
    }
}

impl<const UNDO: bool> Drop for SystemV<UNDO> {
    fn drop(&mut self) {
        if self.maker == getpid() {
            Orphan::Semaphores(self.id).remove();
        }
    }
}

/// The set by its number.
pub struct SystemVEnd<const UNDO: bool>(c_int);

impl<const UNDO: bool> SystemVEnd<UNDO> {
    #[inline]
    fn operate(&self, by: i16) -> Result<(), Failure> {
        let flags = if UNDO { libc::SEM_UNDO as i16 } else { 0 };
        let mut operation = libc::sembuf { sem_num: 0, sem_op: by, sem_flg: flags };
        // SAFETY: one operation, which lives until the call is over.
        match unsafe { libc::semop(self.0, &raw mut operation, 1) } {
            0 => Ok(()),
            _ => Err(Failure::call("semop", io::Error::last_os_error())),
        }
    }
}

impl<const UNDO: bool> Permits for SystemVEnd<UNDO> {
    #[inline]
    fn take(&mut self) -> Result<(), Failure> {
        self.operate(-1)
    }

    #[inline]
    fn give(&mut self) -> Result<(), Failure> {
        self.operate(1)
    }
}

/// A `sem_t` that processes share.
pub struct Posix(CObject<libc::sem_t>);

impl Semaphore for Posix {
    type End = Self;

    fn prepare(permits: u32) -> Result<Self, Refusal> {
        // SAFETY: the object is memory for a semaphore, which processes share.
        CObject::new("sem_init", |at| unsafe { libc::sem_init(at, 1, permits) }).map(Self)
    }

    fn attach(self, _: Waiting) -> Result<Self, Failure> {
        Ok(self)
    }
}

impl Permits for Posix {
    #[inline]
    fn take(&mut self) -> Result<(), Failure> {
        // SAFETY: `prepare` initialised it.
        match unsafe { libc::sem_wait(self.0.get()) } {
            0 => Ok(()),
            _ => Err(Failure::call("sem_wait", io::Error::last_os_error())),
        }
    }

    #[inline]
    fn give(&mut self) -> Result<(), Failure> {
        // SAFETY: `prepare` initialised it.
        match unsafe { libc::sem_post(self.0.get()) } {
            0 => Ok(()),
            _ => Err(Failure::call("sem_post", io::Error::last_os_error())),
        }
    }
}

/// A mutex that processes share, on request one that survives the death of its owner.
pub struct Mutex<const ROBUST: bool>(CObject<libc::pthread_mutex_t>);

impl<const ROBUST: bool> Semaphore for Mutex<ROBUST> {
    type End = Self;

    /// Free; it has one permit.
    fn prepare(_: u32) -> Result<Self, Refusal> {
        super::c_object::mutex(ROBUST).map(Self)
    }

    fn attach(self, _: Waiting) -> Result<Self, Failure> {
        Ok(self)
    }
}

impl<const ROBUST: bool> Permits for Mutex<ROBUST> {
    #[inline]
    fn take(&mut self) -> Result<(), Failure> {
        // SAFETY: `prepare` initialised it.
        match unsafe { libc::pthread_mutex_lock(self.0.get()) } {
            0 => Ok(()),
            error => Err(Failure::call("lock", io::Error::from_raw_os_error(error))),
        }
    }

    #[inline]
    fn give(&mut self) -> Result<(), Failure> {
        // SAFETY: `prepare` initialised it, and this worker has it.
        match unsafe { libc::pthread_mutex_unlock(self.0.get()) } {
            0 => Ok(()),
            error => Err(Failure::call("unlock", io::Error::from_raw_os_error(error))),
        }
    }
}

/// As many permits as ours may have.
const MOST: u32 = 65_535;

fn make(builder: annulus::Builder<annulus::Semaphore>) -> Result<OwnedFd, Refusal> {
    let make = || builder.create(Place::memfd("annulus-bench")?)?.inheritable_fd();
    make().map_err(|error: SetupError| Refusal::Broken(error.to_string()))
}

fn holder(fd: OwnedFd, wait: Waiting) -> Result<Holder, Failure> {
    let holder = || Ok(annulus::Semaphore::from_fd(fd)?.holder()?.with_wait(wait.into()));
    holder().map_err(|error: SetupError| Failure::call("attach", error))
}

/// Ours, for signals: who takes a permit keeps it, who gives one never had it.
pub struct Signals(OwnedFd);

impl Semaphore for Signals {
    type End = Signaller;

    fn prepare(permits: u32) -> Result<Self, Refusal> {
        make(annulus::Semaphore::counting(MOST).initial(permits)).map(Self)
    }

    fn attach(self, wait: Waiting) -> Result<Signaller, Failure> {
        holder(self.0, wait).map(Signaller)
    }
}

/// One process's handle.
pub struct Signaller(Holder);

impl Permits for Signaller {
    #[inline]
    fn take(&mut self) -> Result<(), Failure> {
        let permit = self.0.acquire().map_err(|error| Failure::call("acquire", error))?;
        permit.consume();
        Ok(())
    }

    #[inline]
    fn give(&mut self) -> Result<(), Failure> {
        self.0.post(1).map_err(|error| Failure::call("post", error))
    }
}

/// Ours, as a lock: whoever is killed with it gives it back.
pub struct Binary(OwnedFd);

impl Semaphore for Binary {
    type End = Owner;

    fn prepare(_: u32) -> Result<Self, Refusal> {
        make(annulus::Semaphore::binary()).map(Self)
    }

    fn attach(self, wait: Waiting) -> Result<Owner, Failure> {
        holder(self.0, wait).map(Owner)
    }
}

/// One process's handle.
pub struct Owner(Holder);

impl Permits for Owner {
    #[inline]
    fn take(&mut self) -> Result<(), Failure> {
        let permit = self.0.acquire().map_err(|error| Failure::call("acquire", error))?;
        permit.keep();
        Ok(())
    }

    #[inline]
    fn give(&mut self) -> Result<(), Failure> {
        self.0.release(1).map_err(|error| Failure::call("release", error))
    }
}
