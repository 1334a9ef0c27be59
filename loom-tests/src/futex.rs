//! The kernel's futex, as far as the library uses it.

use annulus::sync::{AtomicU32, model};
use loom::sync::{Condvar, Mutex};
use std::collections::VecDeque;

/// Those who sleep on one futex word.
#[derive(Debug)]
pub struct Futex {
    /// The lock is the kernel's: a sleeper compares the word and falls asleep under it.
    queue: Mutex<Queue>,
    changed: Condvar,
    /// For a model that waits until somebody sleeps.
    another: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// Who sleeps, by the number of the sleep, the longest first, and what for.
    asleep: VecDeque<(usize, u32)>,
    /// Sleeps so far.
    sleeps: usize,
    /// Whether time passes: sleeps end by themselves.
    time_passes: bool,
}

impl Default for Futex {
    fn default() -> Self {
        Self {
            queue: Mutex::new(Queue::default()),
            changed: Condvar::new(),
            another: Condvar::new(),
        }
    }
}

impl Futex {
    /// Sleeps until woken if `word` is still `expected`, and says whether that was so. `false` is the end
    /// of the slice, which never comes before [`let_time_pass`](Self::let_time_pass) was called: a lost
    /// wake-up is a deadlock, which loom reports.
    pub fn wait(&self, word: &AtomicU32, expected: u32) -> bool {
        self.wait_for(word, expected, u32::MAX)
    }

    /// The same, to be woken only for one of `bits`.
    pub fn wait_for(&self, word: &AtomicU32, expected: u32, bits: u32) -> bool {
        model::system_call();
        let mut queue = self.queue.lock().expect("nobody is killed inside the kernel");
        if word.load_in_kernel() != expected {
            return true;
        }
        let me = queue.sleeps;
        queue.sleeps += 1;
        queue.asleep.push_back((me, bits));
        self.another.notify_all();
        while queue.asleep.iter().any(|&(sleep, _)| sleep == me) {
            if queue.time_passes {
                queue.asleep.retain(|&(sleep, _)| sleep != me);
                return false;
            }
            queue = self.changed.wait(queue).expect("nobody is killed inside the kernel");
        }
        true
    }

    /// Waits until so many sleep, where a model is about what comes after that.
    pub fn wait_for_sleepers(&self, count: usize) {
        let mut queue = self.queue.lock().expect("nobody is killed inside the kernel");
        while queue.asleep.len() < count {
            queue = self.another.wait(queue).expect("nobody is killed inside the kernel");
        }
    }

    /// Wakes all who sleep.
    pub fn wake_all(&self) {
        self.wake(usize::MAX);
    }

    /// Wakes all who sleep for one of `bits`.
    pub fn wake_for(&self, bits: u32) {
        model::system_call();
        let mut queue = self.queue.lock().expect("nobody is killed inside the kernel");
        queue.asleep.retain(|&(_, wanted)| wanted & bits == 0);
        self.changed.notify_all();
    }

    /// Wakes up to `most` of those who sleep; how many there were.
    pub fn wake(&self, most: usize) -> usize {
        model::system_call();
        let mut queue = self.queue.lock().expect("nobody is killed inside the kernel");
        let woken = queue.asleep.len().min(most);
        queue.asleep.drain(..woken);
        self.changed.notify_all();
        woken
    }

    /// Ends the slice of all who sleep, now and from now on.
    pub fn let_time_pass(&self) {
        self.queue.lock().expect("nobody is killed inside the kernel").time_passes = true;
        self.changed.notify_all();
    }
}
