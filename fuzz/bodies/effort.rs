//! What a round takes of the processor, whatever else the machine has to do.

use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Much more than any round takes.
const MOST: Duration = Duration::from_secs(10);

/// The work of the calling thread since a moment. Its waits are not in it: one that has no end is found by who runs the
/// body.
pub struct Effort(Duration);

impl Effort {
    pub fn begin() -> Self {
        Self(now())
    }

    /// Panics if a call had to go a long way to its end.
    pub fn check(&self) {
        let took = now() - self.0;
        assert!(took < MOST, "it took {took:?}");
    }
}

fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}
