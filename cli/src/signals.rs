//! Ctrl-C: SIGINT, SIGTERM and SIGHUP.
//!
//! A verb that waits for nobody simply ends, with code 130: whatever instruction that comes at, rings
//! are made to survive it. `send` and `recv` ask for the signal to be [held](hold) instead, so that they
//! give the terminal back and leave the ring, which removes its name if nobody else uses it. They look at
//! [`check`] between two steps, and no step lasts: waits for the ring are cut into slices, and a system
//! call that blocks is interrupted, again and again by a timer that the first signal starts, because the
//! first may come just before the call.

use crate::exit::{Failure, Outcome};
use crate::keys;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

static HELD: AtomicBool = AtomicBool::new(false);
static CAUGHT: AtomicBool = AtomicBool::new(false);

/// The longest wait between two looks at [`check`].
pub const SLICE: Duration = Duration::from_millis(50);
/// How often a system call that blocks is interrupted after the first signal.
const NUDGE_MICROSECONDS: i64 = 20_000;

/// From now on a write beyond the limit of a file's size (`ulimit -f`) fails like one to a full disk, instead of ending
/// the process. A handler, not to ignore it: the command of `acquire` is started with the default.
pub fn outlive_limits() {
    handle(Signal::SIGXFSZ, SigHandler::Handler(on_nudge));
}

/// From now on a signal ends the process at once, with code 130.
pub fn exit_at_once() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        handle(signal, SigHandler::Handler(on_signal));
    }
}

/// From now on a signal only shows in [`check`].
pub fn hold() {
    handle(Signal::SIGALRM, SigHandler::Handler(on_nudge));
    HELD.store(true, Ordering::Relaxed);
}

/// Ends what [`hold`] began: a signal ends the process at once again.
pub fn let_go() {
    HELD.store(false, Ordering::Relaxed);
}

/// Fails if a signal has come.
#[inline]
pub fn check() -> Outcome {
    if CAUGHT.load(Ordering::Relaxed) { Err(Failure::interrupted()) } else { Ok(()) }
}

fn handle(signal: Signal, handler: SigHandler) {
    // No SA_RESTART: a blocked read or write shall end.
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handlers only store to atomics and make system calls that POSIX or Linux allows there.
    let Ok(before) = (unsafe { sigaction(signal, &action) }) else { return };
    // Whoever started us with the signal ignored (nohup, a shell's background job) means it.
    if matches!(before.handler(), SigHandler::SigIgn) {
        // SAFETY: as above; this is what was there before.
        let _ = unsafe { sigaction(signal, &before) };
    }
}

extern "C" fn on_signal(_: libc::c_int) {
    if !HELD.load(Ordering::Relaxed) {
        keys::give_back();
        let text = b"annulus: interrupted\n";
        // SAFETY: both calls are async-signal-safe, and the text lives for ever.
        unsafe {
            libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len());
            libc::_exit(crate::exit::Code::Interrupted as i32);
        }
    }
    CAUGHT.store(true, Ordering::Relaxed);
    let nudge = libc::timeval { tv_sec: 0, tv_usec: NUDGE_MICROSECONDS };
    let timer = libc::itimerval { it_interval: nudge, it_value: nudge };
    // SAFETY: on Linux both are plain accesses: a system call that touches no state of the C library but
    // `errno`, which is put back.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut());
        *errno = before;
    }
}

extern "C" fn on_nudge(_: libc::c_int) {}
