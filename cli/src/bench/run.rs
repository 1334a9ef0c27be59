//! Runs the rows, round after round, so that a drift of the machine meets all of them alike.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::clock::Clock;
use super::crew::{Abort, Crew, Job};
use super::link::{Failure, Refusal, Setup, Side, Transport};
use super::links::byte_ring::ByteRings;
use super::links::connection::ByteDuplexes;
use super::links::copy_limit::CopyLimit;
use super::links::eventfd::Eventfds;
use super::links::floor::Floor;
use super::links::pipe::{Fifo, Pipe};
use super::links::posix_queue::PosixQueues;
use super::links::ring::{Rings, Typed, typed};
use super::links::ring_stream::RingStreams;
use super::links::socket::{Tcp, UnixSeqpacket, UnixStreams};
use super::links::split::Split;
use super::links::sysv_queue::SysvQueues;
use super::measure::{Budget, Figures, far, near};
use super::processors::{Processors, Seat};
use super::rows::{Carrier, Kernel, Own, Row};
use super::schedule::{Schedule, Timetable};
use super::shared::{Control, Shared};
use super::tally::{Round, Tally};

/// What one round of a row came to. The inner error is the reason why this machine does not offer it.
pub type Outcome = Result<Result<Round, String>, Abort>;

/// What every row needs.
pub struct Bench {
    pub crew: Crew,
    pub clock: Clock,
    pub processors: Processors,
}

/// How long a row may take beyond its budget before its workers are killed.
pub const PATIENCE: Duration = Duration::from_secs(15);

impl Bench {
    /// Measures one row once.
    pub fn round(&self, row: &Row, budget: Budget) -> Outcome {
        match row.carrier {
            Carrier::Floor => self.row::<Floor>(row, budget),
            Carrier::CopyLimit => self.row::<CopyLimit>(row, budget),
            Carrier::Own(Own::Ring | Own::Split, _) => self.typed_ring(row, budget),
            Carrier::Own(Own::Bytes, _) => self.row::<ByteRings>(row, budget),
            Carrier::Own(Own::Stream, _) => self.row::<RingStreams>(row, budget),
            Carrier::Own(Own::SplitBytes, _) => self.row::<ByteDuplexes>(row, budget),
            Carrier::Kernel(Kernel::Pipe) => self.row::<Pipe>(row, budget),
            Carrier::Kernel(Kernel::Fifo) => self.row::<Fifo>(row, budget),
            Carrier::Kernel(Kernel::UnixStream) => self.row::<UnixStreams>(row, budget),
            Carrier::Kernel(Kernel::UnixSeqpacket) => self.row::<UnixSeqpacket>(row, budget),
            Carrier::Kernel(Kernel::SysvQueue) => self.row::<SysvQueues>(row, budget),
            Carrier::Kernel(Kernel::PosixQueue) => self.row::<PosixQueues>(row, budget),
            Carrier::Kernel(Kernel::Eventfd) => self.row::<Eventfds>(row, budget),
            Carrier::Kernel(Kernel::Tcp) => self.row::<Tcp>(row, budget),
        }
    }

    fn typed_ring(&self, row: &Row, budget: Budget) -> Outcome {
        let pair = OfWords { bench: self, row, budget };
        typed(row.size, pair).unwrap_or_else(|reason| Ok(Err(reason)))
    }

    fn row<T: Transport>(&self, row: &Row, budget: Budget) -> Outcome {
        let setup = Setup { size: row.size, wait: row.carrier.wait(), one_cpu: row.one_cpu };
        let seats = match row.carrier {
            Carrier::Floor | Carrier::CopyLimit => self.processors.of_limits(row.one_cpu),
            _ => self.processors.of_workers(row.one_cpu),
        };
        self.pair::<T>(&row.describe(), &setup, seats, budget)
    }

    /// Measures messages between two processes over a transport.
    pub fn pair<T: Transport>(
        &self,
        name: &str,
        setup: &Setup,
        seats: [Seat; 2],
        budget: Budget,
    ) -> Outcome {
        let transport = match prepared(name, T::prepare(setup))? {
            Ok(transport) => transport,
            Err(reason) => return Ok(Err(reason)),
        };
        // Each worker takes its own copy out; the coordinator's stays until the row is over and then removes what has a name.
        let transport = Cell::new(Some(transport));
        let attach = |side| transport.take().expect("a worker attaches once").attach(side, setup);
        let clock = self.clock;
        self.duo(
            name,
            seats,
            budget,
            |control| near(&mut attach(Side::Near)?, setup, control, clock, budget),
            |control| far(&mut attach(Side::Far)?, setup, control, clock, budget),
        )
    }

    /// Two workers, of whom the near one comes to figures.
    pub fn duo(
        &self,
        name: &str,
        seats: [Seat; 2],
        budget: Budget,
        near: impl FnOnce(&Control) -> Result<Figures, Failure>,
        far: impl FnOnce(&Control) -> Result<(), Failure>,
    ) -> Outcome {
        let [first, second] = seats;
        let control = Shared::<Control>::new()?;
        let control = &*control;
        let near = Job {
            side: Side::Near,
            seat: first,
            body: Box::new(|| Ok(Round::encode(&near(control)?))),
        };
        let far = Job {
            side: Side::Far,
            seat: second,
            body: Box::new(|| far(control).map(|()| Vec::new())),
        };
        self.led(name, vec![near, far], budget)
    }

    /// Workers of whom the first one comes to figures, which it encodes.
    pub fn led(&self, name: &str, jobs: Vec<Job<'_>>, budget: Budget) -> Outcome {
        let failed = |text: &str| Abort::Failed(format!("{name}: {text}"));
        let reports = self.crew.run_all(jobs, budget.total() * 20 + PATIENCE);
        let reports = reports.map_err(|abort| match abort {
            Abort::Failed(text) => failed(&text),
            other => other,
        })?;
        Round::decode(&reports[0]).map(Ok).ok_or_else(|| failed("the report is damaged"))
    }
}

/// What was prepared; or the reason why this machine does not offer it.
pub fn prepared<T>(name: &str, made: Result<T, Refusal>) -> Result<Result<T, String>, Abort> {
    match made {
        Ok(made) => Ok(Ok(made)),
        Err(Refusal::Unavailable(reason)) => Ok(Err(reason)),
        Err(Refusal::Broken(text)) => Err(Abort::Failed(format!("{name}: {text}"))),
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
    type Output = Outcome;

    fn with<const N: usize>(self) -> Self::Output {
        match self.row.carrier {
            Carrier::Own(Own::Split, _) => self.bench.row::<Split<N>>(self.row, self.budget),
            _ => self.bench.row::<Rings<N>>(self.row, self.budget),
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
            timetable.took(start.elapsed(), budget.total());
        }
    }
    Ok((floor_tally, tallies))
}

/// How many times `before` is called.
pub fn steps(rows: &[Row], schedule: Schedule) -> usize {
    order(rows).len() * schedule.rounds
}

/// How many times the floor is measured in a round.
pub fn floors(rows: &[Row]) -> usize {
    order(rows).iter().filter(|step| step.is_none()).count()
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
