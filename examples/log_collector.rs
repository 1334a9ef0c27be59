//! A log collector whose worker is killed, and loses nothing that it had sent.
//!
//! Run it: `cargo run --release --example log_collector`
//!
//! The collector is a service that outlives its workers. It creates a ring under a name, and whoever is
//! the worker at the time sends it lines. Here the collector kills its worker with SIGKILL in mid-work,
//! twice, and starts another. To each worker the ring is just there; nothing is cleaned up, reset or
//! waited out, because:
//!
//! * a line is in the ring whole or not at all, at whatever instruction its sender is killed;
//! * the role of sender is a lock that the kernel takes from the dead, so the next worker has it at once;
//! * the next worker's lines go right after the last one that was completed.
//!
//! How do we know that nothing was lost? A worker reports on its standard output how many lines it has
//! sent. That pipe survives it, so the collector can compare what the worker had sent with what came.

use annulus::{ByteReceiver, ByteRing, Place, RecvError};
use std::env;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{self, Child, Command, Stdio};
use std::time::Duration;

/// Lines that the last worker sends before it leaves by itself.
const LINES: u64 = 20_000;
/// Lines after which the others are killed.
const KILL_AFTER: u64 = 5_000;
/// Workers that are killed.
const VICTIMS: u32 = 2;

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1) {
        Some(name) => work(&name),
        None => collect(),
    }
}

fn collect() -> Result<(), Box<dyn Error>> {
    let name = format!("log-{}", process::id());
    let ring = ByteRing::builder(256 * 1024).create(Place::name(&name)?)?;
    let mut rx = ring.receiver()?;

    for round in 0..=VICTIMS {
        let mut worker =
            Command::new(env::current_exe()?).arg(&name).stdout(Stdio::piped()).spawn()?;
        let victim = round < VICTIMS;
        let outcome = serve(&mut rx, &mut worker, victim);
        if outcome.is_err() {
            // Leave no process behind. Killing one that has ended does nothing.
            worker.kill()?;
        }
        let status = worker.wait()?;
        let collected = outcome?;
        let reported = last_report(&mut worker)?;
        println!("worker {}: {status}", worker.id());
        println!("  it reported {reported} lines sent, {collected} were collected");
        if collected < reported {
            return Err("lines were lost".into());
        }
        if !victim && (!status.success() || collected != LINES) {
            return Err("the last worker did not finish".into());
        }
    }

    let stats = ring.stats();
    println!(
        "{} messages received in all; the role of sender was taken over from the dead {} times",
        stats.received, stats.repairs
    );
    Ok(())
}

/// Collects the lines of one worker until it has left or died, and gives their number.
fn serve(rx: &mut ByteReceiver, worker: &mut Child, victim: bool) -> Result<u64, Box<dyn Error>> {
    // Without this, the end of the last worker would be taken for the end of this one: `recv` says
    // `Disconnected` when a sender was there and none is.
    if !rx.wait_for_peer(Duration::from_secs(10)) {
        return Err("the worker did not come".into());
    }
    let mut lines = 0;
    loop {
        // `claim` leaves the message in the ring until it is dropped. If this process were killed
        // before it has stored the line, the next collector would get the line again; `recv` would
        // have taken it out for good.
        let message = match rx.claim() {
            Ok(message) => message,
            // The worker has left or died, and we have read everything that it had sent.
            Err(RecvError::Disconnected) => return Ok(lines),
            Err(error) => return Err(error.into()),
        };
        store(&message.to_vec(), worker.id(), lines)?;
        message.release();
        lines += 1;
        if victim && lines == KILL_AFTER {
            // SIGKILL: the worker can neither see it coming nor tidy up.
            worker.kill()?;
        }
    }
}

/// Where a real collector would write to a disk or a socket, this one checks that the line is the next
/// one of this worker, whole: nothing is missing, doubled, torn or mixed with another's.
fn store(line: &[u8], worker: u32, number: u64) -> Result<(), Box<dyn Error>> {
    let line = std::str::from_utf8(line)?;
    if line != text(worker, number) {
        return Err(format!("expected line {number} of worker {worker}, got {line:?}").into());
    }
    Ok(())
}

/// Line `number` of a worker: of many lengths, as log lines are.
fn text(worker: u32, number: u64) -> String {
    let details = "x".repeat((number * 31 % 200) as usize);
    format!("worker={worker} line={number} level=info details={details}")
}

/// The last number that the worker wrote to its standard output, now that it is gone.
fn last_report(worker: &mut Child) -> Result<u64, Box<dyn Error>> {
    let output = worker.stdout.take().ok_or("the worker has no standard output")?;
    let mut last = 0;
    for line in BufReader::new(output).lines() {
        // The kill may have cut the last line short; then it is no number, or a smaller one.
        last = line?.parse().unwrap_or(last).max(last);
    }
    Ok(last)
}

fn work(name: &str) -> Result<(), Box<dyn Error>> {
    let ring = ByteRing::open(Place::name(name)?)?;
    let mut tx = ring.sender()?;
    let mut report = std::io::stdout();
    for number in 0..LINES {
        tx.send(text(process::id(), number).as_bytes())?;
        if number % 100 == 99 {
            writeln!(report, "{}", number + 1)?;
        }
    }
    Ok(())
}
