//! When a side of a stream lets the other one get ahead.
//!
//! Two sides that are a few cache lines apart take each line from one another while the other still
//! needs it, and neither gets away from that by itself: a full ring stays full, a dry one stays dry, and
//! every message costs a transfer or two. Further apart they share nothing but the lines that have to
//! move. So a side that has come close pauses for a moment, if there is a stream.

use crate::sync::{HAS_TIME, spin_hint};

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

    /// Whether this side, at `position` in messages, is in a stream: there were several since it last gave
    /// way. One message at a time is a conversation, which is not to be delayed.
    #[inline]
    pub fn is_stream(&self, position: u64) -> bool {
        HAS_TIME && position.wrapping_sub(self.since) > 1
    }

    /// Called when this side, at `position` in messages, has come close to the other: pauses if there is
    /// a stream, and says whether it did.
    ///
    /// The more messages there were since the last time, the longer the pause, and the more there are the
    /// next time.
    #[cold]
    #[inline(never)]
    pub fn give_way(&mut self, position: u64) -> bool {
        let (stream, run) = (self.is_stream(position), position.wrapping_sub(self.since));
        self.since = position;
        if stream {
            (0..(2 * run).min(LONGEST)).for_each(|_| spin_hint());
        }
        stream
    }
}
