//! A barrier on every processor that runs one of us, called by the side that can afford it.

use std::sync::OnceLock;

fn membarrier(command: libc::c_int) -> bool {
    // SAFETY: `membarrier` takes a command, flags and a processor number, and touches no memory.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

/// Whether this process is registered, so that other processes' barriers reach it and it may leave its
/// own fences out. Tried once; a fork child inherits the registration.
pub(crate) fn is_registered() -> bool {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    *REGISTERED.get_or_init(|| {
        membarrier(libc::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED)
            && membarrier(libc::MEMBARRIER_CMD_GLOBAL_EXPEDITED)
    })
}

/// A full barrier here and on every processor that runs a registered process.
pub(crate) fn everywhere() {
    membarrier(libc::MEMBARRIER_CMD_GLOBAL_EXPEDITED);
}
