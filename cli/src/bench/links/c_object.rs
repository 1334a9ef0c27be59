//! Objects of the C library in memory that processes share.

use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;

use libc::c_int;

use crate::bench::link::Refusal;
use crate::bench::shared::{Shareable, Shared};

/// Memory for one `T` on pages of its own.
#[repr(transparent)]
struct Memory<T>(UnsafeCell<MaybeUninit<T>>);

// SAFETY: nothing but plain data behind an `UnsafeCell`, for which all bytes are a value; only the C library reads it.
unsafe impl<T> Shareable for Memory<T> {}

/// A `T` of the C library: all use of it is by pointer.
pub struct CObject<T>(Shared<Memory<T>>);

impl<T> CObject<T> {
    /// Initialises one; `call` names what `init` calls, which returns 0 or fails.
    pub fn new(call: &str, init: impl FnOnce(*mut T) -> c_int) -> Result<Self, Refusal> {
        let made = Self(Shared::new().map_err(|error| Refusal::by_kernel("mmap", error))?);
        match init(made.get()) {
            0 => Ok(made),
            _ => Err(Refusal::by_kernel(call, io::Error::last_os_error())),
        }
    }

    /// Where it is; it never moves.
    #[inline]
    pub fn get(&self) -> *mut T {
        self.0.0.get().cast()
    }
}

/// A mutex for processes, on request one whose next owner is told that the last one died.
pub fn mutex(robust: bool) -> Result<CObject<libc::pthread_mutex_t>, Refusal> {
    CObject::new("pthread_mutex_init", |at| {
        let mut attributes = MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: the attributes are initialised before they are used, and live until the mutex is.
        unsafe {
            libc::pthread_mutexattr_init(attributes);
            libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED);
            if robust {
                libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST);
            }
            libc::pthread_mutex_init(at, attributes)
        }
    })
}

/// A condition variable for processes.
pub fn condition() -> Result<CObject<libc::pthread_cond_t>, Refusal> {
    CObject::new("pthread_cond_init", |at| {
        let mut attributes = MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: the attributes are initialised before they are used, and live until the condition is.
        unsafe {
            libc::pthread_condattr_init(attributes);
            libc::pthread_condattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_cond_init(at, attributes)
        }
    })
}
