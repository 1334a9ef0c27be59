//! Runs the rows, round after round, so that a drift of the machine meets all of them alike.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::clock::Clock;
use super::crew::{Abort, Crew};
use super::link::{Failure, Refusal, Setup, Side, Transport};
use super::links::byte_ring::ByteRings;
use super::links::copy_limit::CopyLimit;
use super::links::eventfd::Eventfds;
use super::links::floor::Floor;
use super::links::pipe::{Fifo, Pipe};
use super::links::posix_queue::PosixQueues;
use super::links::ring::{Rings, Typed, typed};
use super::links::socket::{Tcp, UnixSeqpacket, UnixStreams};
use super::links::split::Split;
use super::links::sysv_queue::SysvQueues;
use super::measure::{Budget, far, near};
use super::processors::Processors;
use super::rows::{Carrier, Kernel, Own, Row};
use super::schedule::{Schedule, Timetable};
use super::shared::{Control, Shared};
use super::tally::{Round, Tally};

/// What every row needs.
pub struct Bench {
    pub crew: Crew,
    pub clock: Clock,
    pub processors: Processors,
}

/// How long a row may take beyond its budget before its workers are killed.
pub const PATIENCE: Duration = Duration::from_secs(15);

impl Bench {
    /// Measures one row once. The inner error is the reason why this machine does not offer it.
    pub fn round(&self, row: &Row, budget: Budget) -> Result<Result<Round, String>, Abort> {
        match row.carrier {
            Carrier::Floor => self.pair::<Floor>(row, budget),
            Carrier::CopyLimit => self.pair::<CopyLimit>(row, budget),
            Carrier::Own(Own::Ring | Own::Split, _) => self.typed_ring(row, budget),
            Carrier::Own(Own::Bytes, _) => self.pair::<ByteRings>(row, budget),
            Carrier::Kernel(Kernel::Pipe) => self.pair::<Pipe>(row, budget),
            Carrier::Kernel(Kernel::Fifo) => self.pair::<Fifo>(row, budget),
            Carrier::Kernel(Kernel::UnixStream) => self.pair::<UnixStreams>(row, budget),
            Carrier::Kernel(Kernel::UnixSeqpacket) => self.pair::<UnixSeqpacket>(row, budget),
            Carrier::Kernel(Kernel::SysvQueue) => self.pair::<SysvQueues>(row, budget),
            Carrier::Kernel(Kernel::PosixQueue) => self.pair::<PosixQueues>(row, budget),
            Carrier::Kernel(Kernel::Eventfd) => self.pair::<Eventfds>(row, budget),
            Carrier::Kernel(Kernel::Tcp) => self.pair::<Tcp>(row, budget),
        }
    }

    fn typed_ring(&self, row: &Row, budget: Budget) -> Result<Result<Round, String>, Abort> {
        let pair = OfWords { bench: self, row, budget };
        typed(row.size, pair).unwrap_or_else(|reason| Ok(Err(reason)))
    }

    fn pair<T: Transport>(
        &self,
        row: &Row,
        budget: Budget,
    ) -> Result<Result<Round, String>, Abort> {
        let setup = Setup { size: row.size, wait: row.carrier.wait(), one_cpu: row.one_cpu };
        let failed =
            |text: &dyn std::fmt::Display| Abort::Failed(format!("{}: {text}", row.describe()));
        let transport = match T::prepare(&setup) {
            Ok(transport) => transport,
            Err(Refusal::Unavailable(reason)) => return Ok(Err(reason)),
            Err(Refusal::Broken(text)) => return Err(failed(&text)),
        };
        let control = Shared::<Control>::new()?;
        // Each worker takes its own copy out; the coordinator's stays until the row is over and then removes what has a name.
        let transport = Cell::new(Some(transport));
        let attach = |side| transport.take().expect("a worker attaches once").attach(side, &setup);
        let (clock, control) = (self.clock, &*control);
        let work = budget.round_trips.unwrap_or_default() + budget.rate.unwrap_or_default();
        let seats = match row.carrier {
            Carrier::Floor | Carrier::CopyLimit => self.processors.of_limits(row.one_cpu),
            _ => self.processors.of_workers(row.one_cpu),
        };
        let reports = self.crew.run(
            seats,
            work * 20 + PATIENCE,
            || {
                let mut link = attach(Side::Near)?;
                Ok(Round::encode(&near(&mut link, &setup, control, clock, budget)?))
            },
            || {
                let mut link = attach(Side::Far)?;
                far(&mut link, &setup, control, clock, budget)?;
                Ok::<_, Failure>(Vec::new())
            },
        );
        let [report, _] = reports.map_err(|abort| match abort {
            Abort::Failed(text) => failed(&text),
            signal => signal,
        })?;
        Round::decode(&report).map(Ok).ok_or_else(|| failed(&"the report is damaged"))
    }
}

/// A row's share of the time for one test lies between these.
const SHORTEST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_millis(250);

/// A row of typed rings, before it is known of which type.
struct OfWords<'a> {
    bench: &'a Bench,
    row: &'a Row,
    budget: Budget,
}

impl Typed for OfWords<'_> {
    type Output = Result<Result<Round, String>, Abort>;

    fn with<const N: usize>(self) -> Self::Output {
        match self.row.carrier {
            Carrier::Own(Own::Split, _) => self.bench.pair::<Split<N>>(self.row, self.budget),
            _ => self.bench.pair::<Rings<N>>(self.row, self.budget),
        }
    }
}

/// Measures `floor` and all `rows`. Returns the floor's tally and those of the rows. `before` is told what comes next.
pub fn run(
    bench: &Bench,
    floor: &Row,
    rows: &[Row],
    schedule: Schedule,
    mut before: impl FnMut(usize, &Row),
) -> Result<(Tally, Vec<Tally>), Abort> {
    let mut floor_tally = Tally::default();
    let mut tallies: Vec<Tally> = rows.iter().map(|_| Tally::default()).collect();
    let order = order(rows);
    let mut timetable = Timetable::new(schedule, order.len());
    let mut steps = 0;
    for round in 0..schedule.rounds {
        for &step in &order {
            if round > 0 && timetable.is_over() {
                return Ok((floor_tally, tallies));
            }
            let row = step.map_or(floor, |at| &rows[at]);
            if let Some(abort) = bench.crew.interrupted() {
                return Err(abort);
            }
            before(steps, row);
            steps += 1;
            let share = timetable.next() / 2;
            let tally = step.map_or(&mut floor_tally, |at| &mut tallies[at]);
            if tally.skipped.is_some() {
                continue;
            }
            let budget = tests(row, share.clamp(SHORTEST, LONGEST));
            let start = Instant::now();
            match bench.round(row, budget)? {
                Ok(round) => tally.rounds.push(round),
                Err(reason) => {
                    tally.skipped = Some(reason);
                    continue;
                }
            }
            let work = budget.round_trips.unwrap_or_default() + budget.rate.unwrap_or_default();
            timetable.took(start.elapsed(), work);
        }
    }
    Ok((floor_tally, tallies))
}

/// How many times `before` is called.
pub fn steps(rows: &[Row], schedule: Schedule) -> usize {
    order(rows).len() * schedule.rounds
}

/// The floor is measured at least so often in a round: a single one could meet a moment in which the
/// machine had other things to do.
const FLOORS: usize = 3;

/// One round: every row once, and the floor (`None`) before each group of rows of one size.
fn order(rows: &[Row]) -> Vec<Option<usize>> {
    let mut order = Vec::new();
    for at in 0..rows.len() {
        if at == 0 || rows[at].size != rows[at - 1].size {
            order.push(None);
        }
        order.push(Some(at));
    }
    let floors = order.iter().filter(|step| step.is_none()).count();
    order.extend(std::iter::repeat_n(None, FLOORS.saturating_sub(floors)));
    order
}

fn tests(row: &Row, each: Duration) -> Budget {
    match row.carrier {
        Carrier::Floor => Budget { round_trips: Some(each), rate: None },
        Carrier::CopyLimit => Budget { round_trips: None, rate: Some(each) },
        _ => Budget { round_trips: Some(each), rate: Some(each) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_measured_among_the_rows() {
        let row = |size| Row { carrier: Carrier::Kernel(Kernel::Pipe), size, one_cpu: false };
        let many = [row(8), row(8), row(64), row(1024)];
        assert_eq!(order(&many), [None, Some(0), Some(1), None, Some(2), None, Some(3)]);
        assert_eq!(order(&many[..1]), [None, Some(0), None, None]);
        assert_eq!(order(&[]), [None; 3]);
    }
}
