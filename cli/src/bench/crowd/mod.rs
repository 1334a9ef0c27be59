//! `annulus bench --senders N --receivers M`: one ring and the kernel's queues among many processes.
//!
//! | file | what |
//! | --- | --- |
//! | `args` | the part of the command line, and the rows that it comes to |
//! | `meeting` | what carries the messages |
//! | `ground` | what the workers share beside them |
//! | `send`, `receive` | the loops |
//! | `report` | the result |
//!
//! Processes, clock, schedule and transports are those of the benchmark of two.

mod args;
mod ground;
pub mod meeting;
mod receive;
mod report;
mod send;

use std::cell::Cell;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

pub use super::crew::{Abort, Job};
use super::link::{Failure, Setup, Side};
use super::links::pipe::{Fifo, Pipe};
use super::links::posix_queue::PosixQueues;
use super::links::ring::{Typed, typed};
use super::links::socket::UnixSeqpacket;
use super::links::sysv_queue::SysvQueues;
use super::machine::{self, Machine};
use super::rows::{Carrier, Kernel};
use super::run::{Bench, PATIENCE, prepared};
use super::schedule::{Schedule, Timetable};
use super::shared::Shared;
use args::Row;
pub use args::{CrowdArgs, Plan};
use ground::{Ground, Post};
use meeting::{Kept, Meeting, SharedRing, Terms};
use report::{Measured, Report, Tally};
pub use send::Findings;

/// A row's share of the time in one round lies between these.
const SHORTEST: Duration = Duration::from_millis(30);
const LONGEST: Duration = Duration::from_millis(1500);
/// What each worker may take to come and to go, beyond the patience that a row has anyway.
const PER_WORKER: Duration = Duration::from_millis(20);

/// Descriptors that the coordinator has beside those of the workers' reports.
const OTHER_DESCRIPTORS: usize = 32;

/// What a row came to, or why this machine does not offer it.
pub type Round = Result<Vec<Findings>, String>;

/// Measures and shows.
pub fn bench(bench: &Bench, plan: &Plan, schedule: Schedule, json: bool) -> Result<(), Abort> {
    let begin = Instant::now();
    let load_before = machine::load();
    allow_descriptors(plan.workers())?;
    let progress = super::progress_bar(plan.rows.len() * schedule.rounds);
    let tallies = run(bench, plan, schedule, |step, row| {
        progress.set_position(step as u64);
        progress.set_message(row.describe());
    });
    progress.finish_and_clear();
    let tallies = tallies?;
    let rounds = tallies.iter().map(|tally| tally.rounds.len()).max().unwrap_or_default();
    let rows = plan.rows.iter().zip(tallies);
    let report = Report {
        annulus: env!("CARGO_PKG_VERSION"),
        machine: Machine::describe(
            bench.clock,
            &bench.processors,
            plan.workers(),
            plan.one_cpu,
            load_before,
        ),
        rounds,
        rows: rows.map(|(row, tally)| Measured::of(plan, row, tally)).collect(),
        seconds: begin.elapsed().as_secs_f64(),
        topology: plan.topology.name(),
    };
    super::print(&report, json, report::render)
}

/// The coordinator holds a descriptor for each worker, and a crowd may have more of them than shells allow by default.
fn allow_descriptors(workers: usize) -> Result<(), Abort> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if most < (workers + OTHER_DESCRIPTORS) as u64 {
        return Err(Abort::Failed(format!(
            "{workers} processes need more open files than the {most} that this one may have; allow more with \
             `ulimit -n`"
        )));
    }
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(())
}

/// Round after round over all rows, so that a drift of the machine meets all of them alike.
fn run(
    bench: &Bench,
    plan: &Plan,
    schedule: Schedule,
    mut before: impl FnMut(usize, &Row),
) -> Result<Vec<Tally>, Abort> {
    let mut tallies: Vec<Tally> = plan.rows.iter().map(|_| Tally::default()).collect();
    let mut timetable = Timetable::new(schedule, plan.rows.len());
    for round in 0..schedule.rounds {
        for (at, (row, tally)) in plan.rows.iter().zip(&mut tallies).enumerate() {
            if round > 0 && timetable.is_over() {
                return Ok(tallies);
            }
            if let Some(abort) = bench.crew.interrupted() {
                return Err(abort);
            }
            before(round * plan.rows.len() + at, row);
            let budget = timetable.next().clamp(SHORTEST, LONGEST);
            if tally.skipped.is_some() {
                continue;
            }
            let start = Instant::now();
            match measure(bench, plan, row, budget)? {
                Ok(round) => tally.rounds.push(round),
                Err(reason) => {
                    tally.skipped = Some(reason);
                    continue;
                }
            }
            timetable.took(start.elapsed(), budget);
        }
    }
    Ok(tallies)
}

/// Measures one row once.
fn measure(bench: &Bench, plan: &Plan, row: &Row, budget: Duration) -> Result<Round, Abort> {
    let of = OneRow { bench, plan, row, budget };
    match row.carrier {
        Carrier::Kernel(Kernel::Pipe | Kernel::Fifo) if row.size > libc::PIPE_BUF => {
            Ok(Err(format!("a pipe keeps messages of up to {} B whole", libc::PIPE_BUF)))
        }
        Carrier::Kernel(Kernel::Pipe) => of.meet::<Kept<Pipe>>(),
        Carrier::Kernel(Kernel::Fifo) => of.meet::<Kept<Fifo>>(),
        Carrier::Kernel(Kernel::UnixSeqpacket) => of.meet::<Kept<UnixSeqpacket>>(),
        Carrier::Kernel(Kernel::SysvQueue) => of.meet::<Kept<SysvQueues>>(),
        Carrier::Kernel(Kernel::PosixQueue) => of.meet::<Kept<PosixQueues>>(),
        Carrier::Own(..) => typed(row.size, of).unwrap_or_else(|reason| Ok(Err(reason))),
        Carrier::Kernel(_) | Carrier::Floor | Carrier::CopyLimit => {
            unreachable!("no plan has a row for what does not keep messages apart")
        }
    }
}

/// One row, before it is known of which type its messages are.
struct OneRow<'a> {
    bench: &'a Bench,
    plan: &'a Plan,
    row: &'a Row,
    budget: Duration,
}

impl Typed for OneRow<'_> {
    type Output = Result<Round, Abort>;

    fn with<const N: usize>(self) -> Self::Output {
        self.meet::<SharedRing<N>>()
    }
}

impl OneRow<'_> {
    fn meet<M: Meeting>(self) -> Result<Round, Abort> {
        let Self { bench, plan, row, budget } = self;
        let terms = Terms {
            setup: Setup { size: row.size, wait: row.carrier.wait(), one_cpu: plan.one_cpu },
            topology: plan.topology,
            senders: plan.senders,
            receivers: plan.receivers,
            batch: row.batch,
        };
        gather::<M>(bench, &row.describe(), &terms, budget)
    }
}

/// Measures once, with all the processes that `terms` ask for, what `M` carries; `name` is for errors.
pub fn gather<M: Meeting>(
    bench: &Bench,
    name: &str,
    terms: &Terms,
    budget: Duration,
) -> Result<Round, Abort> {
    let meeting = match prepared(name, M::prepare(terms))? {
        Ok(meeting) => meeting,
        Err(reason) => return Ok(Err(reason)),
    };
    let failed = |text: &str| Abort::Failed(format!("{name}: {text}"));
    let ground = Shared::<Ground>::new()?;
    let post = Post { ground: &ground, clock: bench.clock, terms };
    // Each worker takes its own copy out; the coordinator's stays until the row is over and then removes what has a name.
    let meeting = Cell::new(Some(meeting));
    let (meeting, post) = (&meeting, &post);
    let join = || meeting.take().expect("a worker joins once");
    let seats = bench.processors.of_crowd(terms.workers(), terms.setup.one_cpu);
    let job = |(number, seat)| -> Job<'_> {
        if number < terms.senders {
            let body = move || {
                let mut link = join().sender(terms)?;
                let findings = send::send(&mut link, post, number, budget)?;
                serde_json::to_vec(&findings).map_err(|error| Failure::call("report", error))
            };
            return Job { side: Side::Near, seat, body: Box::new(body) };
        }
        let body = move || {
            let mut link = join().receiver(terms, number - terms.senders)?;
            receive::receive(&mut link, post).map(|()| Vec::new())
        };
        Job { side: Side::Far, seat, body: Box::new(body) }
    };
    let jobs = seats.into_iter().enumerate().map(job).collect();
    let deadline = budget * 20 + PATIENCE + PER_WORKER * terms.workers() as u32;
    let reports = bench.crew.run_all(jobs, deadline).map_err(|abort| match abort {
        Abort::Failed(text) => failed(&text),
        other => other,
    })?;
    let findings = reports[..terms.senders].iter().map(|report| serde_json::from_slice(report));
    findings.collect::<Result<_, _>>().map(Ok).map_err(|_| failed("a report is damaged"))
}
