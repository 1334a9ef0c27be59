//! A queue of jobs whose workers are killed at random, and none of whose jobs is lost.
//!
//! Run it: `cargo run --release --example work_queue`
//!
//! The master puts jobs into a ring that any number of workers receive from. A worker *claims* a job, does it,
//! reports it, and only then releases it. If the worker is killed at any point, whoever waits for a job next
//! finds that the kernel knows no such process any more, and is handed the job again. There are no heartbeats
//! and no time-outs after which a job counts as lost: a worker may take as long as it likes.
//!
//! A job is done twice only if its worker was killed between reporting it and releasing it; `deliveries` says
//! to whoever does it next that somebody may have been there before.

use annulus::{Place, Receiver, RecvError, RecvTimeoutError, Ring, Sender, Topology};
use std::env;
use std::error::Error;
use std::process::{self, Child, Command};
use std::time::{Duration, Instant};

const JOBS: u64 = 50_000;
const WORKERS: usize = 3;
const KILLS: u64 = 40;

/// What a worker has done.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Report {
    job: u64,
    answer: u64,
    deliveries: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1) {
        Some(name) => work(&name),
        None => manage(),
    }
}

/// A worker: until there is nobody who gives out jobs.
fn work(name: &str) -> Result<(), Box<dyn Error>> {
    let mut jobs = Ring::<u64>::open(Place::name(name)?)?.receiver()?;
    let mut reports = Ring::<Report>::open(Place::name(&format!("{name}-done"))?)?.sender()?;
    loop {
        let job = match jobs.claim() {
            Ok(job) => job,
            Err(RecvError::Disconnected) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let deliveries = job.deliveries().into();
        reports.send(Report { job: *job, answer: collatz(*job), deliveries })?;
        job.release();
    }
}

/// The work: steps to 1.
fn collatz(mut number: u64) -> u64 {
    let mut steps = 0;
    while number > 1 {
        number = if number.is_multiple_of(2) { number / 2 } else { 3 * number + 1 };
        steps += 1;
    }
    steps
}

fn manage() -> Result<(), Box<dyn Error>> {
    let name = format!("jobs-{}", process::id());
    let jobs = Ring::<u64>::builder(64).topology(Topology::Spmc).create(Place::name(&name)?)?;
    let done = Ring::<Report>::builder(64)
        .topology(Topology::Mpsc)
        .create(Place::name(&format!("{name}-done"))?)?;
    let (tx, rx) = (jobs.sender()?, done.receiver()?);

    let mut workers = Workers { name, children: Vec::new() };
    for _ in 0..WORKERS {
        workers.hire()?;
    }
    let (times, again) = run(tx, rx, &mut workers)?;
    workers.leave()?;

    let lost = times.iter().filter(|&&times| times == 0).count();
    let twice: u64 = times.iter().map(|&times| times.saturating_sub(1)).sum();
    println!("{JOBS} jobs, {KILLS} workers killed");
    println!("  {again} reports of jobs that were handed out again, {twice} jobs done twice");
    if lost > 0 || twice > KILLS {
        return Err(format!("{lost} jobs were lost, {twice} done twice").into());
    }
    println!("  none was lost");
    Ok(())
}

/// Gives out all jobs and kills workers meanwhile: how often each job was done, and how many reports were of
/// jobs that were handed out again.
fn run(
    mut tx: Sender<u64>,
    mut rx: Receiver<Report>,
    workers: &mut Workers,
) -> Result<(Vec<u64>, u64), Box<dyn Error>> {
    let mut times = vec![0; JOBS as usize];
    let (mut given, mut reported, mut again, mut killed) = (0, 0, 0, 0);
    let deadline = Instant::now() + Duration::from_secs(120);
    while reported < JOBS {
        while given < JOBS && tx.try_send(given).is_ok() {
            given += 1;
        }
        match rx.recv_timeout(Duration::from_millis(50)) {
            Ok(report) => {
                assert_eq!(report.answer, collatz(report.job));
                let times = &mut times[report.job as usize];
                reported += u64::from(*times == 0);
                *times += 1;
                again += u64::from(report.deliveries > 1);
            }
            // All workers may be dead at the moment.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            Err(error) => return Err(error.into()),
        }
        if killed < KILLS && reported > killed * JOBS / (KILLS + 1) {
            workers.replace(killed as usize % WORKERS)?;
            killed += 1;
        }
        if Instant::now() > deadline {
            return Err("the jobs are not done after two minutes".into());
        }
    }
    // Without somebody who gives out jobs the workers end.
    drop(tx);
    Ok((times, again))
}

/// The processes that work; none outlives this.
struct Workers {
    name: String,
    children: Vec<Child>,
}

impl Workers {
    fn hire(&mut self) -> Result<(), Box<dyn Error>> {
        let child = Command::new(env::current_exe()?).arg(&self.name).spawn()?;
        self.children.push(child);
        Ok(())
    }

    fn replace(&mut self, i: usize) -> Result<(), Box<dyn Error>> {
        let mut victim = self.children.swap_remove(i);
        let killed = victim.kill();
        victim.wait()?;
        killed?;
        self.hire()
    }

    fn leave(mut self) -> Result<(), Box<dyn Error>> {
        for child in &mut self.children {
            let status = child.wait()?;
            if !status.success() {
                return Err(format!("a worker ended with {status}").into());
            }
        }
        Ok(())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
