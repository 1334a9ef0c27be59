//! Round after round over all contests, in which originals and replacement are measured one right after the other; every
//! other round goes the other way round.

use std::time::{Duration, Instant};

use super::contests::{Contender, Contest, Figures};
use super::trial::Trial;
use crate::bench::crew::Abort;
use crate::bench::link::{Setup, Waiting};
use crate::bench::measure::Budget;
use crate::bench::run::Bench;
use crate::bench::schedule::{Schedule, Timetable};
use crate::bench::tally::Tally;

/// The share of one figure of one mechanism lies between these.
const SHORTEST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_millis(250);

/// One mechanism in one contest and place, and what its rounds came to.
pub struct Lane<'a> {
    pub contest: &'a Contest,
    pub contender: Contender,
    pub wait: Waiting,
    pub one_cpu: bool,
    pub role: Role,
    pub tally: Tally,
}

/// Which side of a contest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Original,
    Replacement,
}

impl Lane<'_> {
    pub fn describe(&self) -> String {
        let place = if self.one_cpu { "one processor" } else { "two processors" };
        let (name, wait) = (self.contender.name, self.wait.name());
        format!("{}: {name}, {wait}, {place}", self.contest.work)
    }

    fn budget(&self, share: Duration) -> Budget {
        let each = |parts: u32| (share / parts).clamp(SHORTEST, LONGEST);
        match self.contest.figures {
            Figures::Both => Budget { round_trips: Some(each(2)), rate: Some(each(2)) },
            Figures::RoundTrip => Budget { round_trips: Some(each(1)), rate: None },
            Figures::Rate => Budget { round_trips: None, rate: Some(each(1)) },
        }
    }
}

/// Where everything is measured: on two processors if there are, and on one.
pub fn lanes(contests: &[Contest], one_cpu_only: bool) -> Vec<Lane<'_>> {
    let places: &[bool] = if one_cpu_only { &[true] } else { &[false, true] };
    let mut lanes = Vec::new();
    for &one_cpu in places {
        for contest in contests.iter().filter(|contest| contest.on_one || !one_cpu) {
            let mut push = |role, contender, wait| {
                let tally = Tally::default();
                lanes.push(Lane { contest, contender, wait, one_cpu, role, tally });
            };
            for &original in &contest.originals {
                push(Role::Original, original, Waiting::Block);
            }
            for &wait in contest.waits {
                push(Role::Replacement, contest.replacement, wait);
            }
        }
    }
    lanes
}

/// Measures all of them. `before` is told what comes next.
pub fn run(
    bench: &Bench,
    lanes: &mut [Lane<'_>],
    schedule: Schedule,
    mut before: impl FnMut(usize, &Lane<'_>),
) -> Result<(), Abort> {
    let count = lanes.len();
    let mut timetable = Timetable::new(schedule, count);
    for step in 0..count * schedule.rounds {
        let (round, at) = (step / count, step % count);
        let lane = &mut lanes[if round % 2 == 0 { at } else { count - 1 - at }];
        if round > 0 && timetable.is_over() {
            return Ok(());
        }
        if let Some(abort) = bench.crew.interrupted() {
            return Err(abort);
        }
        before(step, lane);
        let budget = lane.budget(timetable.next());
        if lane.tally.skipped.is_some() {
            continue;
        }
        let name = lane.describe();
        let setup =
            Setup { size: lane.contest.size.max(8), wait: lane.wait, one_cpu: lane.one_cpu };
        let start = Instant::now();
        match (lane.contender.test)(bench, &Trial { name: &name, setup, budget })? {
            Ok(round) => lane.tally.rounds.push(round),
            Err(reason) => {
                lane.tally.skipped = Some(reason);
                continue;
            }
        }
        timetable.took(start.elapsed(), budget.total());
    }
    Ok(())
}
