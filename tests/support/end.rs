//! Every test ends: a process of tests in which nothing new was begun for a while is ended by the kernel.
//!
//! A call of the library that waits without a deadline, and should not have had to wait, cannot be ended from inside; nor can a
//! lock. Which test it was says libtest, after a minute. Children have alarm clocks of their own.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Seconds: more than any test takes between two of its steps.
const WHILE: libc::time_t = 900;

static TIMER: AtomicPtr<libc::c_void> = AtomicPtr::new(null_mut());

/// The constructor, where the loader looks for it: that section holds pointers to functions of this type, which the loader
/// calls once each, so the attribute is sound.
#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = begin;

extern "C" fn begin() {
    // SAFETY: zeroes are a valid event, whose fields are set next.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_SIGNAL;
    // Not that of alarm clocks, which tests have for themselves.
    event.sigev_signo = libc::SIGABRT;
    let mut timer = null_mut();
    // SAFETY: both live until the call returns, which it does with a timer that is this process's.
    if unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) } == 0 {
        // A timer's name may be 0.
        TIMER.store(timer.wrapping_byte_add(1), Ordering::Relaxed);
        put_off();
    }
}

/// Something was begun: it may take its while.
pub fn put_off() {
    let timer = TIMER.load(Ordering::Relaxed);
    if timer.is_null() {
        return;
    }
    let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let once = libc::timespec { tv_sec: WHILE, tv_nsec: 0 };
    let time = libc::itimerspec { it_interval: never, it_value: once };
    // SAFETY: sets a timer of this process; in a forked child, which has none, it fails.
    unsafe { libc::timer_settime(timer.wrapping_byte_sub(1), 0, &raw const time, null_mut()) };
}
