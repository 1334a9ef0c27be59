//! What a forked child says when it panics.
//!
//! A hook of its own would not do. Another thread of the test may be panicking when the child is forked, for tests
//! do that on purpose, and holds the lock of the hooks until it has written its backtrace. To the child it
//! holds it for ever, so a child must not set a hook. To run the one that is there it may: that lock
//! is held by readers, and one reader more waits for nobody.

use std::sync::Once;
use std::sync::atomic::{AtomicU8, Ordering};

const PARENT: u8 = 0;
const CHILD: u8 = 1;
const SILENT: u8 = 2;

static MODE: AtomicU8 = AtomicU8::new(PARENT);

/// Writes to standard error past libtest's capture, and past locks that another thread had when this process was
/// forked.
pub fn say(text: &str) {
    // SAFETY: writes bytes that are there.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
}

/// Called before a child is forked.
pub fn prepare() {
    static PREPARED: Once = Once::new();
    PREPARED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| match MODE.load(Ordering::Relaxed) {
            PARENT => before(panic),
            CHILD => say(&format!("in child {}: {panic}\n", std::process::id())),
            _ => {}
        }));
    });
}

/// Called by the child first.
pub fn begin() {
    MODE.store(CHILD, Ordering::Relaxed);
}

/// Runs `body` in a child, and says nothing of its panics.
#[allow(dead_code, reason = "one of the two harnesses that share this")]
pub fn in_silence<R>(body: impl FnOnce() -> R) -> R {
    MODE.store(SILENT, Ordering::Relaxed);
    let result = body();
    begin();
    result
}
