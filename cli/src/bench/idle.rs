//! What a waiter costs while nothing happens: processor time of a process that waits a second for one message.

use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};

use super::crew::Abort;
use super::link::{Failure, Link, Refusal, Setup, Side, Transport, Waiting};
use super::links::ring::Rings;
use super::payload::Payload;
use super::run::Bench;
use super::shared::{Control, Shared};

const IDLE: Duration = Duration::from_secs(1);

/// Processor time of an adaptive waiter in percent of one processor.
pub fn adaptive_waiter(bench: &Bench, one_cpu: bool) -> Result<f64, Abort> {
    let setup = Setup { size: 8, wait: Waiting::Adaptive, one_cpu };
    let rings = || {
        Rings::<1>::prepare(&setup).map_err(|refusal| match refusal {
            Refusal::Unavailable(text) | Refusal::Broken(text) => Abort::Failed(text),
        })
    };
    let rings = std::cell::Cell::new(Some(rings()?));
    let attach = |side| {
        let rings = rings.take().expect("a worker attaches once");
        rings.attach(side, &setup)
    };
    let control = Shared::<Control>::new()?;
    let control = &*control;
    let [_, report] = bench.crew.run(
        bench.processors.of_workers(one_cpu),
        IDLE * 20,
        || {
            let mut link = attach(Side::Near)?;
            control.barrier().wait();
            std::thread::sleep(IDLE);
            link.send_filled(1, &mut <[u64; 1]>::blank(8))?;
            Ok(Vec::new())
        },
        || {
            let mut link = attach(Side::Far)?;
            let mut message = <[u64; 1]>::blank(8);
            control.barrier().wait();
            let (begin, used) = (Instant::now(), processor_time()?);
            if !link.recv_checked(1, &mut message)? {
                return Err(Failure::wrong(1));
            }
            let used = (processor_time()? - used).num_microseconds() as f64;
            let percent = used / begin.elapsed().as_micros() as f64 * 100.0;
            Ok(percent.to_le_bytes().to_vec())
        },
    )?;
    let percent = report.first_chunk().map(|bytes| f64::from_le_bytes(*bytes));
    percent.ok_or_else(|| Abort::Failed("the idle waiter's report is damaged".into()))
}

fn processor_time() -> nix::Result<TimeVal> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok(usage.user_time() + usage.system_time())
}
