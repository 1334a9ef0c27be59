//! `annulus bench --all`: every mechanism of the kernel that this library replaces beside its replacement, on the same
//! work in the same run.
//!
//! | file | what |
//! | --- | --- |
//! | `contests` | what is compared with what |
//! | `trial` | one measurement; messages between two processes |
//! | `fan`, `many_senders`, `locks`, `values` | the tests of what is no message between two |
//! | `run` | the rounds |
//! | `report`, `table`, `markdown` | the result |

mod contests;
mod fan;
mod locks;
mod many_senders;
pub mod markdown;
pub mod report;
mod run;
pub mod table;
mod trial;
mod values;

use std::time::Duration;

pub use report::Replacement;

use super::crew::Abort;
use super::measure::Budget;
use super::report::RoundTrip;
use super::rows::{Carrier, Row};
use super::run::Bench;
use super::schedule::Schedule;
use super::tally::{self, Tally};

/// The floor is measured for so long, before everything and after it.
const FLOOR: Duration = Duration::from_millis(100);

/// Measures all of it, and the floor; and says in how many rounds.
pub fn bench(
    bench: &Bench,
    one_cpu: bool,
    schedule: Schedule,
) -> Result<(RoundTrip, usize, Vec<Replacement>), Abort> {
    let contests = contests::all();
    let mut lanes = run::lanes(&contests, one_cpu);
    let mut floor = Tally::default();
    let mut look_at_floor = || -> Result<(), Abort> {
        let row = Row { carrier: Carrier::Floor, size: 8, one_cpu };
        let measured = bench.round(&row, Budget { round_trips: Some(FLOOR), rate: None })?;
        floor.rounds.extend(measured.ok());
        Ok(())
    };
    look_at_floor()?;
    let progress = super::progress_bar(lanes.len() * schedule.rounds);
    let measured = run::run(bench, &mut lanes, schedule, |step, lane| {
        progress.set_position(step as u64);
        progress.set_message(lane.describe());
    });
    progress.finish_and_clear();
    measured?;
    look_at_floor()?;
    let floor = RoundTrip::of(&floor);
    let floor = floor.ok_or_else(|| Abort::Failed("the floor was not measured".into()))?;
    let rounds = tally::rounds(lanes.iter().map(|lane| &lane.tally));
    Ok((floor, rounds, report::replacements(&lanes)))
}
