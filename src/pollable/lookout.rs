//! The thread that sleeps for a handle, and the descriptor that it makes readable.

use super::post::{Post, Probe};
use crate::error::SetupError;
use crate::protocol::park;
use crate::sys::clock::Monotonic;
use crate::sys::fork::PrivateFd;
use crate::sys::futex::{self, Woken};
use crate::sys::{eventfd, signals};
use crate::wait::SLICE;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Bytes of the thread's stack: it does little.
const STACK: usize = 128 * 1024;
/// How long to wait for the thread's end before it is woken again: it may have been just before its sleep.
const AGAIN: Duration = Duration::from_millis(1);

/// What the descriptor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// There may be something: it is readable, or about to be.
    Readable,
    /// There is nothing: it is not readable.
    Armed,
    /// The thread is to end.
    Closing,
    /// It does nothing more.
    Closed,
}

/// What the two threads share.
struct State<P> {
    phase: Phase,
    probe: P,
    /// Whether the handle has to ask the kernel who lives.
    suspects: bool,
}

struct Shared<P> {
    state: Mutex<State<P>>,
    changed: Condvar,
    fd: PrivateFd,
    /// Whether what made the phase `Readable` is written to the descriptor.
    written: AtomicBool,
}

/// A thread that sleeps for a handle, and ends with this.
pub(super) struct Lookout<P: Probe> {
    shared: Arc<Shared<P>>,
    post: Post,
    thread: Option<JoinHandle<()>>,
}

impl<P: Probe> Shared<P> {
    fn lock(&self) -> MutexGuard<'_, State<P>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the descriptor readable.
    fn write(&self) {
        eventfd::set(self.fd.as_fd());
        self.written.store(true, Ordering::Release);
    }

    /// What the thread does.
    fn run(&self, post: &Post) {
        let mut woken = None;
        loop {
            let mut state = self.lock();
            if post.in_turn && state.phase == Phase::Readable {
                // Who sleeps there without need takes the wakes of those who wait for messages; and this one takes none.
                if woken.take() == Some(Woken::Rung) {
                    futex::wake(park::ring(post.peer()), 1);
                }
                let is_idle = |state: &mut State<P>| state.phase == Phase::Readable;
                let waited = self.changed.wait_while(state, is_idle);
                state = waited.unwrap_or_else(PoisonError::into_inner);
            }
            let (expected, bits) = match state.phase {
                Phase::Closing | Phase::Closed => {
                    state.phase = Phase::Closed;
                    self.changed.notify_all();
                    return;
                }
                // If the handle is armed after this, that thread announces this sleep, and finds what is there by now.
                Phase::Readable => (post.epoch(), futex::ANY),
                Phase::Armed => match self.look(&mut state, woken == Some(Woken::TimedOut)) {
                    Some(expected) => (expected, state.probe.post().bits),
                    None => {
                        state.phase = Phase::Readable;
                        self.written.store(false, Ordering::Relaxed);
                        drop(state);
                        // Not under the lock: who is woken by this wants it next.
                        self.write();
                        continue;
                    }
                },
            };
            drop(state);
            let slice = Monotonic::now() + SLICE;
            woken = Some(futex::wait_for(&post.peer().presence.epoch, expected, bits, slice));
        }
    }

    /// Announces a sleep, if there is nothing to be told; the epoch from before. `is_late` says that the last one was not
    /// ended by anybody.
    fn look(&self, state: &mut State<P>, is_late: bool) -> Option<u32> {
        let probe = &mut state.probe;
        if probe.has_news() {
            return None;
        }
        let expected = probe.post().announce(probe.post().barrier);
        if probe.has_news() || is_late && probe.has_old_news() {
            return None;
        }
        let is_alone = if is_late { Post::is_alone } else { Post::has_been_left };
        if is_alone(probe.post()) || is_late && probe.may_be_held_up() {
            state.suspects = true;
            return None;
        }
        Some(expected)
    }
}

impl<P: Probe> Lookout<P> {
    /// A readable descriptor, and a thread that sleeps.
    pub(super) fn start(probe: P) -> Result<Self, SetupError> {
        let fd = PrivateFd::open_lockless(|| eventfd::readable().map(File::from))
            .map_err(SetupError::os("making an eventfd"))?;
        let post = probe.post().clone();
        let state = State { phase: Phase::Readable, probe, suspects: false };
        let (state, written) = (Mutex::new(state), AtomicBool::new(true));
        let shared = Arc::new(Shared { state, changed: Condvar::new(), fd, written });
        let builder = thread::Builder::new().name("annulus-poll".into()).stack_size(STACK);
        let (theirs, place) = (Arc::clone(&shared), post.clone());
        let thread = signals::blocked(|| builder.spawn(move || theirs.run(&place)))
            .map_err(SetupError::os("starting a thread"))?;
        Ok(Self { shared, post, thread: Some(thread) })
    }

    /// The descriptor.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.shared.fd.as_fd()
    }

    /// Whether the thread has found that the handle has to ask the kernel who lives; said once.
    pub(super) fn suspects(&self) -> bool {
        std::mem::take(&mut self.shared.lock().suspects)
    }

    /// Makes the descriptor readable, if it is not: there is something.
    pub(super) fn keep_readable(&self) {
        let mut state = self.shared.lock();
        if state.phase == Phase::Armed {
            state.phase = Phase::Readable;
            self.shared.write();
        }
    }

    /// Clears the descriptor, unless `is_there`, which tells the thread what to look at, announces the sleep and looks.
    pub(super) fn arm(&self, is_there: impl FnOnce(&mut P) -> bool) -> Poll<()> {
        let shared = &*self.shared;
        let mut state = shared.lock();
        if state.phase == Phase::Readable {
            // In this order: it is written first.
            let is_written = shared.written.load(Ordering::Acquire);
            if !eventfd::clear(self.fd()) && !is_written {
                // The thread has found something, and is about to write it.
                return Poll::Pending;
            }
        }
        state.phase = Phase::Armed;
        if is_there(&mut state.probe) {
            state.phase = Phase::Readable;
            shared.write();
            return Poll::Ready(());
        }
        state.probe.post().count();
        if self.post.in_turn {
            shared.changed.notify_all();
        }
        Poll::Pending
    }
}

impl<P: Probe> Drop for Lookout<P> {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if !self.shared.fd.is_ours() {
            // There is no such thread in a fork child, and whoever had the lock when it was forked has it for good.
            std::mem::forget(thread);
            return;
        }
        let mut state = self.shared.lock();
        state.phase = Phase::Closing;
        self.shared.changed.notify_all();
        while state.phase != Phase::Closed && !thread.is_finished() {
            futex::wake_all(&self.post.peer().presence.epoch);
            let waited = self.shared.changed.wait_timeout(state, AGAIN);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        let _ = thread.join();
    }
}

impl<P: Probe> std::fmt::Debug for Lookout<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookout").field("fd", &self.shared.fd).finish_non_exhaustive()
    }
}
