//! What a forked child must not keep: descriptors that hold locks, and handles that look usable.
//!
//! A fork child shares the parent's open file descriptions, and with them its locks: the parent would
//! look alive for as long as the child lives. So every description that holds a lock is registered here
//! and closed in the child before `fork` returns there, and a generation number tells handles that they
//! belong to another process. Mappings are `MADV_DONTFORK`, so the child has none to misuse.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

static GENERATION: AtomicU32 = AtomicU32::new(1);
static PRIVATE: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());
static INSTALL: Once = Once::new();

/// The number of this process among its forked ancestors; a handle of another generation is dead.
#[inline(always)]
pub(crate) fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// A descriptor that a forked child does not keep.
#[derive(Debug)]
pub(crate) struct PrivateFd {
    fd: Option<File>,
    generation: u32,
}

impl PrivateFd {
    /// Takes the descriptor under care that `open` opens anew. No fork comes between: a child that had
    /// the description would keep every lock that is taken through it later.
    pub(crate) fn open<E>(open: impl FnOnce() -> Result<File, E>) -> Result<Self, E> {
        INSTALL.call_once(|| {
            // SAFETY: the handlers below do nothing that is forbidden around a fork: they lock and
            // unlock a mutex on one thread and, in the child, call `close`.
            unsafe {
                libc::pthread_atfork(Some(before), Some(after_in_parent), Some(after_in_child))
            };
        });
        let mut registry = registry();
        let fd = open()?;
        registry.push(fd.as_raw_fd());
        Ok(Self { fd: Some(fd), generation: generation() })
    }

    /// It as a file.
    pub(crate) fn file(&self) -> &File {
        self.fd.as_ref().expect("present until drop")
    }

    /// Whether this is the process that made it.
    pub(crate) fn is_ours(&self) -> bool {
        self.generation == generation()
    }
}

impl AsFd for PrivateFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file().as_fd()
    }
}

impl Drop for PrivateFd {
    fn drop(&mut self) {
        let Some(fd) = self.fd.take() else { return };
        if !self.is_ours() {
            // The child's handler has closed the number already; it may be somebody else's by now.
            core::mem::forget(fd);
            return;
        }
        let mut registry = registry();
        if let Some(at) = registry.iter().position(|&known| known == fd.as_raw_fd()) {
            registry.swap_remove(at);
        }
        super::locks::unlock(fd.as_fd());
        // Closed under the lock, so that no fork sees it open and unregistered.
        drop(fd);
    }
}

fn registry() -> MutexGuard<'static, Vec<RawFd>> {
    PRIVATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The guard that `before` takes and one of the `after`s gives back, on the same thread.
struct Held(core::cell::UnsafeCell<Option<MutexGuard<'static, Vec<RawFd>>>>);

// SAFETY: only the thread that holds the lock touches the cell: it is filled after the lock is taken
// and emptied before it is given back.
unsafe impl Sync for Held {}

static HELD: Held = Held(core::cell::UnsafeCell::new(None));

extern "C" fn before() {
    let guard = registry();
    // SAFETY: this thread holds the lock.
    unsafe { *HELD.0.get() = Some(guard) };
}

extern "C" fn after_in_parent() {
    // SAFETY: this thread took the lock in `before`.
    drop(unsafe { (*HELD.0.get()).take() });
}

extern "C" fn after_in_child() {
    // SAFETY: this is the child's only thread, the copy of the one that took the lock in `before`.
    let guard = unsafe { (*HELD.0.get()).take() };
    GENERATION.fetch_add(1, Ordering::Relaxed);
    if let Some(mut registry) = guard {
        for fd in registry.drain(..) {
            // SAFETY: the number was registered by its owner, whose copy in this process will not
            // close it, for it is of another generation now.
            unsafe { libc::close(fd) };
        }
    }
}
