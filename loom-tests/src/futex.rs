//! The kernel's futex, as far as the library uses it.

use annulus::sync::{AtomicU32, model};
use loom::sync::{Condvar, Mutex};

/// Those who sleep on one futex word.
#[derive(Debug)]
pub struct Futex {
    /// Wakes so far. The lock is the kernel's: a sleeper compares the word and falls asleep under it.
    wakes: Mutex<Wakes>,
    changed: Condvar,
}

#[derive(Debug)]
struct Wakes {
    count: usize,
    /// Whether time passes: sleeps end by themselves.
    time_passes: bool,
}

impl Default for Futex {
    fn default() -> Self {
        Self { wakes: Mutex::new(Wakes { count: 0, time_passes: false }), changed: Condvar::new() }
    }
}

impl Futex {
    /// Sleeps until woken if `word` is still `expected`, and says whether that was so. `false` is the end
    /// of the slice, which never comes before [`let_time_pass`](Self::let_time_pass) was called: a lost
    /// wake-up is a deadlock, which loom reports.
    pub fn wait(&self, word: &AtomicU32, expected: u32) -> bool {
        model::system_call();
        let mut wakes = self.wakes.lock().expect("nobody is killed inside the kernel");
        if word.load_in_kernel() != expected {
            return true;
        }
        let before = wakes.count;
        while wakes.count == before {
            if wakes.time_passes {
                return false;
            }
            wakes = self.changed.wait(wakes).expect("nobody is killed inside the kernel");
        }
        true
    }

    /// Wakes all who sleep.
    pub fn wake_all(&self) {
        model::system_call();
        self.wakes.lock().expect("nobody is killed inside the kernel").count += 1;
        self.changed.notify_all();
    }

    /// Ends the slice of all who sleep, now and from now on.
    pub fn let_time_pass(&self) {
        self.wakes.lock().expect("nobody is killed inside the kernel").time_passes = true;
        self.changed.notify_all();
    }
}
