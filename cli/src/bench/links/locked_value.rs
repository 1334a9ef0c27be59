//! A value under a mutex of the C library in shared memory, and a condition for who waits until it has changed.

use std::cell::UnsafeCell;
use std::io;

use libc::c_int;

use super::c_object::{self, CObject};
use super::variable::{Read, Variable, Write};
use crate::bench::link::{Failure, Refusal, Waiting};
use crate::bench::shared::{Shareable, Shared};

#[repr(C)]
struct Memory<const N: usize> {
    version: UnsafeCell<u64>,
    words: UnsafeCell<[u64; N]>,
}

// SAFETY: integers in `UnsafeCell`s.
unsafe impl<const N: usize> Shareable for Memory<N> {}

/// The value with all that guards it; for either side.
pub struct LockedValue<const N: usize> {
    mutex: CObject<libc::pthread_mutex_t>,
    changed: CObject<libc::pthread_cond_t>,
    memory: Shared<Memory<N>>,
    /// The version that this side has read.
    read: u64,
}

impl<const N: usize> LockedValue<N> {
    /// Calls `touch` with pointers to version and words while the mutex is held.
    #[inline]
    fn locked(&self, touch: impl FnOnce(*mut u64, *mut [u64; N])) -> Result<(), Failure> {
        // SAFETY: `prepare` initialised the mutex.
        done("lock", unsafe { libc::pthread_mutex_lock(self.mutex.get()) })?;
        touch(self.memory.version.get(), self.memory.words.get());
        // SAFETY: this side has it.
        done("unlock", unsafe { libc::pthread_mutex_unlock(self.mutex.get()) })
    }
}

#[inline]
fn done(call: &str, error: c_int) -> Result<(), Failure> {
    match error {
        0 => Ok(()),
        error => Err(Failure::call(call, io::Error::from_raw_os_error(error))),
    }
}

impl<const N: usize> Variable<N> for LockedValue<N> {
    type Writer = Self;
    type Reader = Self;

    fn prepare() -> Result<Self, Refusal> {
        let memory = Shared::new().map_err(|error| Refusal::by_kernel("mmap", error))?;
        let (mutex, changed) = (c_object::mutex(false)?, c_object::condition()?);
        Ok(Self { mutex, changed, memory, read: 0 })
    }

    fn writer(self, _: Waiting) -> Result<Self, Failure> {
        Ok(self)
    }

    fn reader(self, _: Waiting) -> Result<Self, Failure> {
        Ok(self)
    }
}

impl<const N: usize> Write<N> for LockedValue<N> {
    #[inline]
    fn write(&mut self, value: &[u64; N]) -> Result<(), Failure> {
        // SAFETY: nobody else touches what is behind the pointers while the mutex is held.
        self.locked(|version, words| unsafe {
            *words = *value;
            *version += 1;
        })?;
        // SAFETY: `prepare` initialised it.
        done("signal", unsafe { libc::pthread_cond_signal(self.changed.get()) })
    }
}

impl<const N: usize> Read<N> for LockedValue<N> {
    #[inline]
    fn read(&mut self, value: &mut [u64; N]) -> Result<(), Failure> {
        // SAFETY: nobody else touches what is behind the pointers while the mutex is held.
        self.locked(|_, words| unsafe { *value = *words })
    }

    #[inline]
    fn read_next(&mut self, value: &mut [u64; N]) -> Result<(), Failure> {
        let (mut waited, mut read) = (0, self.read);
        // SAFETY: nobody else touches what is behind the pointers while the mutex is held, which it is when a wait is over;
        // mutex and condition are initialised.
        self.locked(|version, words| unsafe {
            while *version == read && waited == 0 {
                waited = libc::pthread_cond_wait(self.changed.get(), self.mutex.get());
            }
            read = *version;
            *value = *words;
        })?;
        self.read = read;
        done("wait", waited)
    }
}
