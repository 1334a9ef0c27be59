//! When one who has sent something over a connection first looks for the answer: what was fastest so far decides.
//!
//! A look at a line that the peer is about to write takes the line from it, and it has to get the line back before it can
//! answer. A look that comes just after the answer finds it, and nothing was taken from anybody; one that comes later has
//! waited for nothing. How long an answer takes depends on how far apart the two processors are, and on the peer, who may
//! wait for the right moment as well. So this side tries a few moments, sees how long a turn takes with each, and keeps the
//! best.
//!
//! What is the best for one side depends on the other one, and the two differ: one of them may think between an answer and
//! its next question. So they take turns, in cycles of so many messages, which both count: first both try the same moments
//! at once, for many a moment is good only if the other side has chosen a like one; then who asks tries alone while the
//! other one stays with what it has, and then who answers. Nothing depends on their counting alike: a side that counts
//! otherwise finds less.

use std::time::{Duration, Instant};

/// How long the waits are that are tried, in [steps](crate::sync::wait_a_step) of some eight nanoseconds each: each by an
/// eighth or so longer than the last one, for a wait that is a fifth too long or too short is hardly better than none.
const STEPS: [u32; 24] =
    [0, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 18, 20, 23, 26, 30, 34, 38, 43, 48, 54, 62];
/// What is tried in a cycle: the wait that was chosen, for times change, and each of [`STEPS`].
const PLACES: usize = 1 + STEPS.len();
/// The places of the wait that was chosen, and of none.
const CHOSEN: usize = 0;
const NONE: usize = 1;
/// Turns for which each is tried at a time.
const TRIAL: u64 = 32;
/// How often each is tried before one is chosen. All its times count: just before the best wait all is lost that a wait can
/// gain, and one that is good only now and then lies there.
const ROUNDS: u64 = 2;
/// Turns of a cycle before its trials: the first ones of a conversation tell of other things.
const BEFORE: u64 = 4 * TRIAL;
/// The turn of a cycle in which the choice is made.
const CHOICE: u64 = BEFORE + ROUNDS * PLACES as u64 * TRIAL;
/// Turns from one choice to the next at first, until there were some of each kind; and then, so that trials are a small
/// part of them.
const FIRST: u64 = 64 * TRIAL;
const CYCLE: u64 = 512 * TRIAL;

/// What a receiver has learnt about its conversation.
#[derive(Debug)]
pub(crate) struct Rhythm {
    /// Messages that this side had sent when it looked last.
    sent: u64,
    /// The steps before the first look, for now.
    steps: u32,
    /// Until this turn.
    until: u64,
    /// The steps that were best.
    chosen: u32,
    /// What is being tried, and since when.
    trial: Option<(usize, Instant)>,
    /// The time that each took, in nanoseconds.
    took: [u32; PLACES],
}

/// What took longer than can be said, or was not tried.
const LONG: u32 = u32::MAX;

impl Default for Rhythm {
    fn default() -> Self {
        Self { sent: 0, steps: 0, until: 0, chosen: 0, trial: None, took: [LONG; PLACES] }
    }
}

/// A cycle of trials, in turns.
struct Cycle {
    start: u64,
    end: u64,
    /// How many there were before, in each of which somebody else tries.
    number: u64,
}

impl Cycle {
    /// That of this turn. There are as many short ones as fill a long one.
    fn of(turn: u64) -> Self {
        let length = if turn < CYCLE { FIRST } else { CYCLE };
        let start = turn - turn % length;
        Self { start, end: start.saturating_add(length), number: turn / length }
    }

    /// Whether the side tries something that has sent one message more than it has received, or as many.
    fn is_for(&self, asks: bool) -> bool {
        match self.number % 3 {
            0 => true,
            1 => asks,
            _ => !asks,
        }
    }
}

impl Rhythm {
    /// The steps before the first look for the next message, by one who has received and sent so many. None, if nothing
    /// was sent since the last look: then what comes is no answer.
    #[inline(always)]
    pub(crate) fn steps(&mut self, received: u64, sent: u64) -> u32 {
        if std::mem::replace(&mut self.sent, sent) == sent {
            return 0;
        }
        // Whoever asks is ahead by what it asks.
        let asks = sent.wrapping_sub(received) % 2 == 1;
        self.steps_by(received.midpoint(sent), asks, Instant::now)
    }

    /// The same in this turn of a conversation; a turn is a message each way.
    #[inline(always)]
    fn steps_by(&mut self, turn: u64, asks: bool, now: impl FnOnce() -> Instant) -> u32 {
        // Also where the count has started anew.
        if self.until.wrapping_sub(turn).wrapping_sub(1) >= CYCLE {
            self.go_on(turn, asks, now());
        }
        self.steps
    }

    /// Goes on with the next trial, or with what was best.
    #[cold]
    #[inline(never)]
    fn go_on(&mut self, turn: u64, asks: bool, now: Instant) {
        if let Some((tried, start)) = self.trial.take() {
            let took = nanoseconds(now.saturating_duration_since(start));
            // Other times are not of so many turns.
            let took = if turn == self.until { took } else { LONG };
            self.took[tried] = self.took[tried].saturating_add(took);
        }
        let cycle = Cycle::of(turn);
        let at = turn - cycle.start;
        self.steps = self.chosen;
        if at < BEFORE {
            self.until = cycle.start + BEFORE;
        } else if at < CHOICE && cycle.is_for(asks) {
            self.until = turn - turn % TRIAL + TRIAL;
            let trial = ((at - BEFORE) / TRIAL) as usize;
            let place = trial % PLACES;
            if trial == 0 {
                self.took = [0; PLACES];
            }
            if self.is_too_long(place) {
                self.took[place] = LONG;
            } else {
                self.steps = self.steps_at(place);
                self.trial = Some((place, now));
            }
        } else {
            if cycle.is_for(asks) {
                self.chosen = self.best(cycle.is_for(!asks));
            }
            self.steps = self.chosen;
            self.took = [LONG; PLACES];
            self.until = cycle.end;
        }
    }

    /// The steps that are tried there.
    fn steps_at(&self, place: usize) -> u32 {
        if place == CHOSEN { self.chosen } else { STEPS[place - NONE] }
    }

    /// Whether two shorter waits than that, and longer than what was chosen, were far too long already: one may have met a
    /// disturbance.
    fn is_too_long(&self, place: usize) -> bool {
        if place < NONE + 3 || self.steps_at(place - 2) < self.chosen {
            return false;
        }
        let shortest = self.took[..place].iter().copied().min().unwrap_or(LONG);
        let long = shortest.saturating_add(shortest / 4);
        self.took[place - 2..place].iter().all(|&took| took > long)
    }

    /// The best one for now: what took the shortest time; none, if that was hardly shorter than without. Where `both` sides
    /// have tried the same, it must have been shorter than what each of them had chosen for itself.
    fn best(&self, both: bool) -> u32 {
        let (none, kept) = (self.took[NONE], self.took[CHOSEN]);
        if none == LONG || self.took.contains(&0) {
            // There is no conversation if nobody waits, or not always.
            return 0;
        }
        let fastest = (NONE..PLACES).min_by_key(|&place| self.took[place]).unwrap_or(NONE);
        let (best, took) = if both && self.took[fastest] >= kept - kept / 64 {
            (self.chosen, kept)
        } else {
            (self.steps_at(self.middle(fastest)), self.took[fastest])
        };
        if took < none - none / 32 { best } else { 0 }
    }

    /// The middle of those around the fastest that took hardly longer, rather beyond it than before: a longer wait costs what
    /// it is longer, and one that is too short all of it.
    fn middle(&self, fastest: usize) -> usize {
        let most = self.took[fastest].saturating_add(self.took[fastest] / 32);
        let as_fast = |&place: &usize| self.took[place] <= most;
        let first = (NONE..fastest).rev().take_while(as_fast).last().unwrap_or(fastest);
        let last = (fastest..PLACES).take_while(as_fast).last().unwrap_or(fastest);
        (first + last).div_ceil(2)
    }
}

fn nanoseconds(time: Duration) -> u32 {
    u32::try_from(time.as_nanos()).unwrap_or(LONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The two sides of a conversation, of whom the first one asks, from `turn` on.
    struct Conversation {
        sides: [Rhythm; 2],
        turn: u64,
        now: Instant,
    }

    impl Conversation {
        fn new() -> Self {
            Self { sides: Default::default(), turn: 0, now: Instant::now() }
        }

        /// Goes on for so many turns, each of which takes as many nanoseconds as `takes` says.
        fn go_on(&mut self, turns: u64, mut takes: impl FnMut(u64, [u32; 2]) -> u64) {
            for turn in self.turn..self.turn + turns {
                let [first, second] = &mut self.sides;
                let steps = [
                    first.steps_by(turn, true, || self.now),
                    second.steps_by(turn, false, || self.now),
                ];
                self.now += Duration::from_nanos(takes(turn, steps));
            }
            self.turn += turns;
        }

        fn chosen(&self) -> [u32; 2] {
            [self.sides[0].chosen, self.sides[1].chosen]
        }
    }

    /// Takes the longer, the further the waits are from those.
    fn from(best: [u32; 2]) -> impl Fn(u64, [u32; 2]) -> u64 {
        move |_, steps| {
            100 + (0..2).map(|i| 10 * u64::from(steps[i].abs_diff(best[i]))).sum::<u64>()
        }
    }

    #[test]
    fn what_is_fastest_is_kept() {
        let mut near = Conversation::new();
        near.go_on(CYCLE, from([8, 14]));
        assert_eq!(near.chosen(), [8, 14]);
        // The processors are further apart from now on.
        near.go_on(6 * CYCLE, from([30, 38]));
        assert_eq!(near.chosen(), [30, 38]);
        // And now it makes no difference.
        near.go_on(6 * CYCLE, |_, _| 100);
        assert_eq!(near.chosen(), [0, 0]);
    }

    #[test]
    fn what_only_helps_with_the_other_sides_wait_is_found() {
        let mut both = Conversation::new();
        both.go_on(CYCLE, |turn, steps| match steps.iter().all(|steps| (7..15).contains(steps)) {
            true => from([8, 14])(turn, steps),
            false => 200,
        });
        assert_eq!(both.chosen(), [8, 14]);
    }

    #[test]
    fn the_middle_of_a_plateau_is_kept() {
        let mut even = Conversation::new();
        even.go_on(CYCLE, |_, [first, second]| {
            let good = u64::from((6..=10).contains(&first)) + u64::from((8..=20).contains(&second));
            200 - 40 * good
        });
        assert_eq!(even.chosen(), [8, 13]);
    }

    #[test]
    fn a_little_faster_is_not_enough() {
        let mut even = Conversation::new();
        even.go_on(CYCLE, |_, [first, _]| if first == 3 { 98 } else { 100 });
        assert_eq!(even.chosen(), [0, 0]);
    }

    #[test]
    fn a_disturbed_trial_costs_a_cycle_at_most() {
        let disturbed = CYCLE + FIRST + BEFORE + (NONE as u64 + 5) * TRIAL + 7;
        let mut once = Conversation::new();
        let mut takes = |turn, steps| match turn == disturbed {
            true => 1_000_000,
            false => from([7, 7])(turn, steps),
        };
        once.go_on(2 * CYCLE, &mut takes);
        assert_ne!(once.chosen(), [0, 0]);
        once.go_on(3 * CYCLE, takes);
        assert_eq!(once.chosen(), [7, 7]);
    }

    #[test]
    fn what_is_fast_only_now_and_then_is_passed_over() {
        let mut unsteady = Conversation::new();
        unsteady.go_on(CYCLE, |turn, [first, _]| match first {
            ..8 => 200,
            8 if (turn / TRIAL / (PLACES as u64 - 1)).is_multiple_of(2) => 100,
            8 => 200,
            _ => 50 + 10 * u64::from(first),
        });
        assert_eq!(unsteady.chosen()[0], 9);
    }

    #[test]
    fn trials_are_a_small_part_and_end_before_they_are_long() {
        let mut late = [0, 0];
        let mut same = Conversation::new();
        same.go_on(7 * CYCLE, |turn, steps| {
            for side in 0..2 {
                late[side] += u64::from(turn >= CYCLE && steps[side] > 0);
            }
            100
        });
        assert!(late.iter().all(|late| late * 12 < 6 * CYCLE), "{late:?}");
        let mut near = Conversation::new();
        near.go_on(7 * CYCLE, |_, steps| {
            assert!(steps.iter().all(|steps| *steps < 20), "{steps:?}");
            100 + 10 * u64::from(steps[0].max(steps[1]).saturating_sub(4))
        });
    }

    #[test]
    fn a_count_that_starts_anew_or_leaps_is_followed() {
        let mut leaping = Conversation::new();
        leaping.go_on(BEFORE + TRIAL, from([8, 14]));
        for start in [CYCLE / 2 + 5, 0, u64::MAX / 4] {
            leaping.turn = start;
            leaping.go_on(7 * CYCLE, from([8, 14]));
            assert_eq!(leaping.chosen(), [8, 14], "{start}");
        }
    }

    #[test]
    fn what_came_in_a_stream_is_no_trial() {
        let mut rhythm = Rhythm::default();
        let mut now = Instant::now();
        // Turns that are passed over are not part of the conversation.
        for turn in (0..CYCLE).step_by(TRIAL as usize + 1) {
            rhythm.steps_by(turn, true, || now);
            now += Duration::from_nanos(turn % 7);
        }
        assert_eq!(rhythm.chosen, 0);
    }

    #[test]
    fn who_has_sent_nothing_awaits_no_answer() {
        let mut rhythm = Rhythm::default();
        assert!((0..CYCLE).all(|received| rhythm.steps(received, 0) == 0));
        assert!((1..CYCLE).any(|turn| rhythm.steps(turn - 1, turn) > 0));
    }
}
