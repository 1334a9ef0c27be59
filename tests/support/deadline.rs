//! Every wait of these tests ends: children by their own alarm clock (see `process`), the test itself by a
//! watchdog that says which point hung, or, where there are no points, by the clock of all tests (see `end`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long one point may take before the watchdog calls it hung.
pub const POINT: Duration = Duration::from_secs(120);

const DISARMED: u64 = u64::MAX;

/// Polls until `done` holds; `false` when `limit` passed first.
#[must_use]
pub fn poll(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    super::end::put_off();
    let mut rounds = 0u32;
    while !done() {
        if Instant::now() >= end {
            return false;
        }
        // The awaited process often shares this core, so give it up at once; later, stop burning it.
        rounds += 1;
        if rounds < 200 {
            std::thread::yield_now();
        } else {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    true
}

struct Watched {
    describe: Box<dyn Fn(u64) -> String + Send + Sync>,
    start: Instant,
    /// Milliseconds after `start` at which the point counts as hung.
    end: AtomicU64,
    point: AtomicU64,
}

/// Ends the test process, with a sentence, when a point hangs in it. A call of the library that never returns
/// cannot be interrupted any other way; the children follow by their parent-death signal.
pub struct Watchdog {
    watched: Arc<Watched>,
}

impl Watchdog {
    /// A watchdog whose last words are `describe(point)`.
    pub fn new(describe: impl Fn(u64) -> String + Send + Sync + 'static) -> Self {
        let watched = Arc::new(Watched {
            describe: Box::new(describe),
            start: Instant::now(),
            end: AtomicU64::new(DISARMED),
            point: AtomicU64::new(0),
        });
        let weak = Arc::downgrade(&watched);
        std::thread::Builder::new()
            .name("watchdog".into())
            .spawn(move || {
                while let Some(watched) = weak.upgrade() {
                    let now = watched.start.elapsed().as_millis() as u64;
                    if watched.end.load(Ordering::Relaxed) <= now {
                        let last_words = (watched.describe)(watched.point.load(Ordering::Relaxed));
                        super::process::say(&format!(
                            "no progress for {POINT:?} at {last_words}\n"
                        ));
                        super::process::remove_names();
                        std::process::abort();
                    }
                    drop(watched);
                    std::thread::sleep(Duration::from_millis(250));
                }
            })
            .expect("a thread for the watchdog");
        Self { watched }
    }

    /// Starts the clock for `point`.
    pub fn arm(&self, point: u64) {
        super::end::put_off();
        self.watched.point.store(point, Ordering::Relaxed);
        let end = self.watched.start.elapsed() + POINT;
        self.watched.end.store(end.as_millis() as u64, Ordering::Relaxed);
    }

    /// Stops the clock.
    pub fn disarm(&self) {
        self.watched.end.store(DISARMED, Ordering::Relaxed);
    }
}
