//! When one who has sent something over a connection first looks for the answer: what was fastest so far decides.
//!
//! A look at a line that the peer is about to write takes the line from it, and it has to get the line back before it can
//! answer. A look that comes just after the answer finds it, and nothing was taken from anybody; one that comes later has
//! waited for nothing. How long an answer takes depends on how far apart the two processors are, and on the peer, who may
//! wait for the right moment as well. So this side tries a few moments, sees how long a turn takes with each, and keeps the
//! best. The peer tries the same ones in the same turns, which both count: many a moment is good only if the other side has
//! chosen it, too.

use std::time::{Duration, Instant};

/// The spin hints before the first look that are tried, of some ten nanoseconds each. Mostly the answer is not that near,
/// or is there already, and none is best.
const HINTS: [u32; 5] = [0, 2, 3, 5, 8];
/// Turns for which each is tried at a time.
const TRIAL: u64 = 32;
/// How often each is tried before one is chosen: the faster time counts, for anything may come between two turns.
const ROUNDS: u64 = 2;
/// Turns from one choice to the next, so that trials are a small part of them.
const CYCLE: u64 = 512 * TRIAL;
/// Turns of a cycle before its trials: the first ones of a conversation tell of other things.
const BEFORE: u64 = 4 * TRIAL;
/// The turn of a cycle in which the choice is made.
const CHOICE: u64 = BEFORE + ROUNDS * HINTS.len() as u64 * TRIAL;

/// What a receiver has learnt about its conversation.
#[derive(Debug)]
pub(crate) struct Rhythm {
    /// Messages that this side had sent when it looked last.
    sent: u64,
    /// The spin hints before the first look, for now.
    hints: u32,
    /// Until this turn.
    until: u64,
    /// What is being tried, and since when.
    trial: Option<(usize, Instant)>,
    /// The shortest time that each took.
    took: [Duration; HINTS.len()],
}

impl Default for Rhythm {
    fn default() -> Self {
        Self { sent: 0, hints: 0, until: 0, trial: None, took: [Duration::MAX; HINTS.len()] }
    }
}

impl Rhythm {
    /// The spin hints before the first look for the next message, by one who has received and sent so many. None, if nothing
    /// was sent since the last look: then what comes is no answer.
    #[inline(always)]
    pub(crate) fn hints(&mut self, received: u64, sent: u64) -> u32 {
        if std::mem::replace(&mut self.sent, sent) == sent {
            return 0;
        }
        self.hints_by(received.midpoint(sent), Instant::now)
    }

    /// The same in this turn of a conversation; a turn is a message each way.
    #[inline(always)]
    fn hints_by(&mut self, turn: u64, now: impl FnOnce() -> Instant) -> u32 {
        // Also where the count has started anew.
        if self.until.wrapping_sub(turn).wrapping_sub(1) >= CYCLE {
            self.go_on(turn, now());
        }
        self.hints
    }

    /// Goes on with the next trial, or with what was best.
    #[cold]
    #[inline(never)]
    fn go_on(&mut self, turn: u64, now: Instant) {
        if let Some((tried, start)) = self.trial.take() {
            // Other times are not of so many turns.
            if turn == self.until {
                self.took[tried] = self.took[tried].min(now.saturating_duration_since(start));
            }
        }
        let cycle = turn - turn % CYCLE;
        let at = turn - cycle;
        if at < BEFORE {
            self.until = cycle + BEFORE;
        } else if at < CHOICE {
            let tried = ((at - BEFORE) / TRIAL) as usize % HINTS.len();
            self.hints = HINTS[tried];
            self.trial = Some((tried, now));
            self.until = turn - turn % TRIAL + TRIAL;
        } else {
            self.hints = self.best();
            self.until = cycle + CYCLE;
            self.took = [Duration::MAX; HINTS.len()];
        }
    }

    /// What took the shortest time; none, if that was not plainly slower.
    fn best(&self) -> u32 {
        if self.took[0] == Duration::MAX {
            // There is no conversation if nobody waits.
            return HINTS[0];
        }
        let fastest = (0..HINTS.len()).min_by_key(|&tried| self.took[tried]).unwrap_or(0);
        let is_plain = self.took[fastest] < self.took[0] - self.took[0] / 16;
        if is_plain { HINTS[fastest] } else { HINTS[0] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goes on for so many turns from `turn` on, each of which takes as many nanoseconds as `takes` says.
    fn converse(
        rhythm: &mut Rhythm,
        turns: std::ops::Range<u64>,
        mut takes: impl FnMut(u64, u32) -> u64,
    ) {
        let mut now = Instant::now();
        for turn in turns {
            let hints = rhythm.hints_by(turn, || now);
            now += Duration::from_nanos(takes(turn, hints));
        }
    }

    #[test]
    fn what_is_fastest_is_kept() {
        let mut rhythm = Rhythm::default();
        let near = |_, hints: u32| 100 + 20 * u64::from(hints.abs_diff(3));
        converse(&mut rhythm, 0..CYCLE, near);
        assert_eq!(rhythm.hints_by(CYCLE, Instant::now), 3);
        // The processors are further apart from now on.
        let far = |_, hints: u32| 400 + 20 * u64::from(hints.abs_diff(8));
        converse(&mut rhythm, CYCLE..2 * CYCLE, far);
        assert_eq!(rhythm.hints_by(2 * CYCLE, Instant::now), 8);
    }

    #[test]
    fn a_little_faster_is_not_enough() {
        let mut rhythm = Rhythm::default();
        converse(&mut rhythm, 0..CYCLE, |_, hints| if hints == 3 { 97 } else { 100 });
        assert_eq!(rhythm.hints_by(CYCLE, Instant::now), 0);
    }

    #[test]
    fn a_trial_may_be_disturbed_once() {
        let mut rhythm = Rhythm::default();
        let disturbed = BEFORE + 2 * TRIAL + 7;
        converse(&mut rhythm, 0..CYCLE, |turn, hints| match (turn == disturbed, hints) {
            (true, _) => 1_000_000,
            (_, 3) => 80,
            _ => 100,
        });
        assert_eq!(rhythm.hints_by(CYCLE, Instant::now), 3);
    }

    #[test]
    fn trials_are_a_small_part() {
        let mut rhythm = Rhythm::default();
        let mut late = 0;
        converse(&mut rhythm, 0..4 * CYCLE, |_, hints| {
            late += u64::from(hints > 0);
            100
        });
        assert!(late * 50 < 4 * CYCLE, "{late}");
    }

    #[test]
    fn a_count_that_starts_anew_or_leaps_is_followed() {
        let mut rhythm = Rhythm::default();
        let near = |_, hints: u32| 100 + 20 * u64::from(hints.abs_diff(3));
        converse(&mut rhythm, 0..BEFORE + TRIAL, near);
        for start in [CYCLE / 2 + 5, 0, u64::MAX / 4] {
            converse(&mut rhythm, start..start + 2 * CYCLE, near);
            assert_eq!(rhythm.hints_by(start + 2 * CYCLE, Instant::now), 3, "{start}");
        }
    }

    #[test]
    fn what_came_in_a_stream_is_no_trial() {
        let mut rhythm = Rhythm::default();
        let mut now = Instant::now();
        // Turns that are passed over are not part of the conversation.
        for turn in (0..CYCLE).step_by(TRIAL as usize + 1) {
            rhythm.hints_by(turn, || now);
            now += Duration::from_nanos(turn % 7);
        }
        assert_eq!(rhythm.hints_by(CYCLE, Instant::now), 0);
    }

    #[test]
    fn who_has_sent_nothing_awaits_no_answer() {
        let mut rhythm = Rhythm::default();
        assert!((0..CYCLE).all(|received| rhythm.hints(received, 0) == 0));
        assert!((1..CYCLE).any(|turn| rhythm.hints(turn - 1, turn) > 0));
    }
}
