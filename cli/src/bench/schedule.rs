//! How the time of a run is shared among the rows.

use std::time::{Duration, Instant};

/// How the time of a run is spent.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    pub rounds: usize,
    /// The whole run should take this long.
    pub total: Duration,
}

/// The time that is left, and for how many steps.
pub struct Timetable {
    begin: Instant,
    total: Duration,
    left: usize,
    /// What a step takes beside its tests: fork, attach, warm-up, report. Learnt on the way.
    overhead: Duration,
}

impl Timetable {
    /// The clock starts to run.
    pub fn new(schedule: Schedule, steps_of_a_round: usize) -> Self {
        Self {
            begin: Instant::now(),
            total: schedule.total,
            left: steps_of_a_round * schedule.rounds,
            overhead: Duration::from_millis(5),
        }
    }

    /// Whether the time is up. A busy machine takes longer than any budget, so that only rounds after the first,
    /// which gives every row its figures, may be left out.
    pub fn is_over(&self) -> bool {
        self.begin.elapsed() > self.total
    }

    /// The next step's share of the time that is left, for its tests.
    pub fn next(&mut self) -> Duration {
        let remaining = self.total.saturating_sub(self.begin.elapsed());
        let share = remaining / self.left.max(1) as u32;
        self.left = self.left.saturating_sub(1);
        share.saturating_sub(self.overhead)
    }

    /// Learns what a step took whose tests should have taken `planned`.
    pub fn took(&mut self, time: Duration, planned: Duration) {
        self.overhead = (self.overhead * 7 + time.saturating_sub(planned)) / 8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_shared_among_the_steps_that_are_left() {
        let schedule = Schedule { rounds: 2, total: Duration::from_secs(100) };
        let mut timetable = Timetable::new(schedule, 5);
        let share = timetable.next();
        assert!(share > Duration::from_secs(9) && share < Duration::from_secs(10), "{share:?}");
        timetable.took(Duration::from_secs(18), Duration::from_secs(10));
        let later = timetable.next();
        assert!(later > share && later < Duration::from_millis(10_110), "{later:?}");
        assert!(!timetable.is_over());
    }
}
