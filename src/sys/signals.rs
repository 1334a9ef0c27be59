//! Threads of our own that the program's signal handlers do not run on.

/// Runs `body`, in which threads are made, with all signals blocked: a new thread takes that over.
pub(crate) fn blocked<R>(body: impl FnOnce() -> R) -> R {
    // SAFETY: an all-zero set is a valid value, and is filled before it is used.
    let mut all: libc::sigset_t = unsafe { core::mem::zeroed() };
    let mut before = all;
    // SAFETY: both sets are valid for writes; the call changes the mask of this thread only.
    unsafe {
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
    }
    let result = body();
    // SAFETY: `before` was filled in above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, core::ptr::null_mut()) };
    result
}
