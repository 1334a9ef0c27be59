//! The fork handlers are there before anything of the library can be called: a fork that is under way when
//! handlers are added runs none of them, and its child would keep its parent's locks.
//!
//! The C library's function that adds them is replaced in this binary by one that counts, and so the test has
//! a binary of its own.

#![cfg(target_env = "gnu")]

use annulus::{Place, Ring};
use std::sync::atomic::{AtomicUsize, Ordering};

static ADDED: AtomicUsize = AtomicUsize::new(0);

type Handler = Option<unsafe extern "C" fn()>;

unsafe extern "C" {
    static __dso_handle: u8;

    fn __register_atfork(
        before: Handler,
        in_parent: Handler,
        in_child: Handler,
        library: *const u8,
    ) -> libc::c_int;
}

/// What the C library does, and one more counted. The C library leaves it to each binary to have this
/// function, and it does what it has to, so the name is sound.
#[unsafe(no_mangle)]
extern "C" fn pthread_atfork(
    before: Handler,
    in_parent: Handler,
    in_child: Handler,
) -> libc::c_int {
    ADDED.fetch_add(1, Ordering::Relaxed);
    // SAFETY: handlers from our caller, and the handle of this binary, which lives as long as the process.
    unsafe { __register_atfork(before, in_parent, in_child, &raw const __dso_handle) }
}

#[test]
fn the_handlers_are_there_before_the_first_use() {
    assert_eq!(ADDED.load(Ordering::Relaxed), 1, "before anything is used");
    let ring = Ring::<u64>::builder(8).create(Place::memfd("first").unwrap()).unwrap();
    ring.sender().unwrap().send(1).unwrap();
    assert_eq!(ADDED.load(Ordering::Relaxed), 1, "after the first use");
}
