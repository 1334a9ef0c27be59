//! One thread for a process, which hears when a peer is gone: its end of the control socket closes.
//!
//! What it hears is a hint. It wakes who waits for that peer, and they ask the kernel for the lock, which is the
//! truth. The thread costs nothing while nothing happens, and is made with the first connection.

use super::link::Link;
use crate::sys::epoll;
use crate::sys::fork::{self, PerProcess, PrivateFd};
use crate::sys::signals;
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of the thread's stack: it does little.
const STACK: usize = 128 * 1024;
/// How many milliseconds after the hang-up waiters are woken again, one after the other. A waiter may have been just before its
/// sleep the first time; and the kernel closes a dying process's socket before or after it gives up the lock.
const AGAIN: [u64; 5] = [1, 2, 4, 10, 30];

static WATCHER: PerProcess<Watcher> = PerProcess::new();

#[derive(Debug)]
struct Watcher {
    set: PrivateFd,
    links: Mutex<Links>,
}

#[derive(Debug, Default)]
struct Links {
    /// Whether the thread is there.
    is_heard: bool,
    next: u64,
    all: HashMap<u64, Weak<Link>>,
}

/// Watches the socket of a link; the link's name here, or none if it cannot be watched now. Then a death is noticed
/// by those who wait when their slice ends.
pub(super) fn watch(socket: BorrowedFd<'_>, link: Weak<Link>) -> Option<u64> {
    let watcher = WATCHER.get(Watcher::new)?;
    let name = {
        let mut links = watcher.links();
        // Before anybody relies on it: there may be no memory for a thread.
        if !links.is_heard {
            let builder = thread::Builder::new().name("annulus-watch".into()).stack_size(STACK);
            signals::blocked(|| builder.spawn(|| watcher.run())).ok()?;
            links.is_heard = true;
        }
        links.next += 1;
        let name = links.next;
        links.all.insert(name, link);
        name
    };
    if epoll::add_for_end(watcher.set.as_fd(), socket, name).is_err() {
        watcher.links().all.remove(&name);
        return None;
    }
    Some(name)
}

/// Forgets a link, whose socket is closed next.
pub(super) fn forget(name: u64) {
    if let Some(watcher) = WATCHER.get(|| None) {
        watcher.links().all.remove(&name);
    }
}

impl Watcher {
    fn new() -> Option<Self> {
        let set = PrivateFd::open_lockless(|| epoll::new().map(File::from)).ok()?;
        Some(Self { set, links: Mutex::default() })
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&'static self) {
        let generation = fork::generation();
        // When to wake whom, and how often that was done.
        let mut due: Vec<(Instant, u64, usize)> = Vec::new();
        while generation == fork::generation() {
            let now = Instant::now();
            let next = due.iter().map(|&(at, ..)| at.saturating_duration_since(now)).min();
            let Ok(names) = epoll::wait(self.set.as_fd(), next, epoll::EVENTS) else { return };
            let now = Instant::now();
            due.extend(names.into_iter().map(|name| (now, name, 0)));
            let (ripe, later) = due.into_iter().partition(|&(at, ..)| at <= now);
            due = later;
            for (_, name, round) in ripe as Vec<(Instant, u64, usize)> {
                // Upgraded in a statement of its own: a link that ends here wants the lock.
                let link = self.links().all.get(&name).cloned();
                let Some(link) = link.and_then(|link| link.upgrade()) else { continue };
                link.spread_rumour();
                if let Some(&pause) = AGAIN.get(round) {
                    due.push((now + Duration::from_millis(pause), name, round + 1));
                }
            }
        }
    }
}
