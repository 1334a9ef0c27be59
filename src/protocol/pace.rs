//! When a side of a stream lets the other one get ahead.
//!
//! Two sides that are a few cache lines apart take each line from one another while the other still
//! needs it, and neither gets away from that by itself: a full ring stays full, a dry one stays dry, and
//! every message costs a transfer or two. Further apart they share nothing but the lines that have to
//! move. So a side that has come close pauses for a moment, if there is a stream.

use crate::sync::{HAS_TIME, spin_hint};

/// The shortest and the longest pause, in spin hints of some ten nanoseconds each.
const SHORTEST: u32 = 2;
const LONGEST: u32 = 64;
/// Occasions that are passed over after the shortest pause did not pay.
const PATIENCE: u32 = 32;

/// Looks at what the other side is about to write, before a side that waits makes itself ready for longer: less than a
/// microsecond or two.
const MOMENT: u32 = 64;
/// Looks with one spin hint between two of them: an answer from a near processor is there by then. A far one takes longer
/// where the line is looked at more often.
const NEAR: u32 = 8;

/// What a side remembers of its pauses.
#[derive(Clone, Debug)]
pub struct Pace {
    /// The side's position at the last one.
    since: u64,
    /// How long the next one is: twice the last one if that paid, else half of it. So a stream is soon
    /// given room, and whoever waits for the next burst of a few messages is not kept from seeing it.
    hints: u32,
    /// Occasions to pass over.
    patience: u32,
}

impl Pace {
    /// The pace of a side that starts at `position`.
    pub fn new(position: u64) -> Self {
        Self { since: position, hints: SHORTEST, patience: 0 }
    }

    /// Whether this side, at `position` in messages, is in a stream: there were several since it last gave
    /// way. One message at a time is a conversation, which is not to be delayed.
    #[inline]
    pub fn is_stream(&self, position: u64) -> bool {
        HAS_TIME && position.wrapping_sub(self.since) > 1
    }

    /// Whether it is in a conversation, so that it may [`linger`](Self::linger).
    #[inline]
    pub fn is_conversation(&self, position: u64) -> bool {
        HAS_TIME && !self.is_stream(position)
    }

    /// Takes note that this side, at `position` in messages, has waited for an answer.
    #[inline(always)]
    pub fn converse(&mut self, position: u64) {
        self.since = position;
    }

    /// Stays for a moment if this side, at `position` in messages, is in a conversation, in which the answer is likely on its
    /// way: repeats `look` until that finds something.
    ///
    /// Nothing but the look lies between the answer and its being seen: what a wait begins and ends with takes about as
    /// long as a line takes between two near processors.
    #[inline(always)]
    pub fn linger<W>(&mut self, position: u64, look: impl Fn() -> Option<W>) -> Option<W> {
        self.converse(position);
        (0..MOMENT).find_map(|looks| {
            spin_hint();
            if looks >= NEAR {
                spin_hint();
            }
            look()
        })
    }

    /// Called when this side, at `position` in messages, has come close to the other: pauses if there is
    /// a stream, and says whether it did. Then [`learn`](Self::learn) is told whether that paid.
    #[cold]
    #[inline(never)]
    pub fn give_way(&mut self, position: u64) -> bool {
        let stream = self.is_stream(position);
        self.since = position;
        if stream && self.patience > 0 {
            self.patience -= 1;
            return false;
        }
        if stream {
            (0..self.hints).for_each(|_| spin_hint());
        }
        stream
    }

    /// Takes note whether the pause was long enough for the other side to get ahead.
    pub fn learn(&mut self, paid: bool) {
        if paid {
            self.hints = (self.hints * 2).min(LONGEST);
        } else if self.hints > SHORTEST {
            self.hints /= 2;
        } else {
            self.patience = PATIENCE;
        }
    }
}

/// The longest pause of one who defers to others, in spin hints: short beside what a sleep and its wake take.
const MOST_DEFERENCE: u32 = 16;

/// The pauses of one who looks again and again at a word that others go on changing: each look takes its line away from
/// them, and what they do between two changes takes no longer than to get it back.
#[derive(Debug, Default)]
pub struct Deference {
    seen: Option<u64>,
    hints: u32,
}

impl Deference {
    /// Called when the word was `word`, and not what is waited for: pauses if it has changed since the last time, twice as
    /// long as then. Who waits for the first change, as for an answer, is not kept from seeing it.
    pub fn defer(&mut self, word: u64) {
        let is_busy = self.seen.replace(word).is_some_and(|seen| seen != word);
        self.hints = if is_busy { (self.hints * 2).clamp(SHORTEST, MOST_DEFERENCE) } else { 0 };
        (0..self.hints).for_each(|_| spin_hint());
    }
}
