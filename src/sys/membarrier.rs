//! A barrier on every processor that runs one of us, called by the side that can afford it.

use std::sync::atomic::{AtomicU8, Ordering, fence};

fn membarrier(command: libc::c_int) -> bool {
    // SAFETY: `membarrier` takes a command, flags and a processor number, and touches no memory.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

/// Whether this process is registered, so that other processes' barriers reach it and it may leave its
/// own fences out. A fork child inherits the registration.
///
/// Not a `OnceLock`: registering takes milliseconds, and a child that another thread forks meanwhile would
/// wait for ever for somebody who is not there. Whoever comes at the same time registers as well.
pub(crate) fn is_registered() -> bool {
    const UNKNOWN: u8 = 0;
    const YES: u8 = 1;
    const NO: u8 = 2;
    static ANSWER: AtomicU8 = AtomicU8::new(UNKNOWN);
    match ANSWER.load(Ordering::Relaxed) {
        UNKNOWN => {
            let registered = membarrier(libc::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED)
                && membarrier(libc::MEMBARRIER_CMD_GLOBAL_EXPEDITED);
            ANSWER.store(if registered { YES } else { NO }, Ordering::Relaxed);
            registered
        }
        answer => answer == YES,
    }
}

/// A full barrier here and on every processor that runs a registered process.
///
/// If the call is refused by now (a filter of system calls that was installed after the first use), it is a
/// barrier here: right beside a peer that fences, and beside one that does not, a wake that is lost in a
/// window of nanoseconds costs a slice.
pub(crate) fn everywhere() {
    if !membarrier(libc::MEMBARRIER_CMD_GLOBAL_EXPEDITED) {
        fence(Ordering::SeqCst);
    }
}
