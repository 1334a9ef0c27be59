//! Where two workers meet that connect: a half of a split ring belongs to the process that makes it, so the coordinator
//! can make none for them.

use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use annulus::{Address, Connect, ConnectError, Face, Listener};

use crate::bench::link::{Failure, Side};

/// How long one worker waits for the other.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(1);

/// A name that nobody else uses.
pub struct Doorstep(Address);

impl Doorstep {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(Address::name(format!("annulus-bench-{}-{number}", process::id())))
    }

    /// One side's end of a connection with rings of `capacity`.
    pub fn meet<F: Face>(self, side: Side, capacity: usize) -> Result<F, Failure> {
        let connected = match side {
            Side::Near => {
                let options = Listener::options().most_bytes(u64::MAX);
                options.bind(self.0).and_then(|mut listener| listener.accept_timeout(PATIENCE))
            }
            Side::Far => self.reach(capacity),
        };
        connected.map_err(|error| Failure::call("attach", error))
    }

    /// Connects when the other worker listens.
    fn reach<F: Face>(self, capacity: usize) -> Result<F, ConnectError> {
        let start = Instant::now();
        loop {
            match Connect::new().capacity(capacity).open(self.0.clone()) {
                Err(ConnectError::NotListening) if start.elapsed() < PATIENCE => {
                    thread::sleep(PAUSE);
                }
                done => return done,
            }
        }
    }
}
