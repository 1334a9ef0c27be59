//! When a side of a stream lets the other one get ahead.
//!
//! Two sides that are a few cache lines apart take each line from one another while the other still
//! needs it, and neither gets away from that by itself: a full ring stays full, a dry one stays dry, and
//! every message costs a transfer or two. Further apart they share nothing but the lines that have to
//! move. So a side that has come close pauses for a moment, if there is a stream.

use crate::sync::pause;

/// The longest pause, in spin hints of some ten nanoseconds each.
const LONGEST: u64 = 64;

/// What a side remembers of its last pause.
#[derive(Debug)]
pub struct Pace {
    /// The side's position at that time.
    since: u64,
}

impl Pace {
    /// The pace of a side that starts at `position`.
    pub fn new(position: u64) -> Self {
        Self { since: position }
    }

    /// Called when this side, at `position` in messages, has come close to the other: pauses if there is
    /// a stream, and says whether it did.
    ///
    /// Several messages since the last time are a stream. The more there were, the longer the pause, and
    /// the more there are the next time; one message at a time is a conversation, which is not delayed.
    #[cold]
    #[inline(never)]
    pub fn give_way(&mut self, position: u64) -> bool {
        let run = position.wrapping_sub(self.since);
        self.since = position;
        let stream = run > 1;
        if stream {
            pause((2 * run).min(LONGEST) as u32);
        }
        stream
    }
}
