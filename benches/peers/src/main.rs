//! annulus beside iceoryx2, in one run: two pinned threads, round trip and one way, messages of 8 and 64
//! bytes, medians of interleaved rounds. `cargo run --release -p annulus-bench-peers [-- ROUNDS]`.

use annulus::{Place, Ring, Wait};
use iceoryx2::prelude::*;
use std::error::Error;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

/// Messages of a round.
const COUNT: u64 = 50_000;
/// Messages that either side holds.
const CAPACITY: usize = 1024;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn pin(cpu: usize) {
    let mut set = nix::sched::CpuSet::new();
    if set.set(cpu).is_ok() {
        // On a machine with one processor this fails, and both threads share it.
        let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set);
    }
}

/// Runs both sides from a common start; gives what the second one measured, in nanoseconds a message.
fn race(
    other: impl FnOnce(&Barrier) -> Result<()> + Send,
    timed: impl FnOnce(&Barrier) -> Result<f64> + Send,
) -> Result<f64> {
    let start = &Barrier::new(2);
    thread::scope(|scope| {
        let other = scope.spawn(move || {
            pin(0);
            other(start)
        });
        let timed = scope.spawn(move || {
            pin(1);
            timed(start)
        });
        other.join().map_err(|_| "the other side panicked")??;
        timed.join().map_err(|_| "the timed side panicked")?
    })
}

/// Times `messages` calls.
fn time(mut each: impl FnMut(u64) -> Result<()>) -> Result<f64> {
    let begin = Instant::now();
    for i in 0..COUNT {
        each(i)?;
    }
    Ok(begin.elapsed().as_nanos() as f64 / COUNT as f64)
}

fn ring<const N: usize>(round_trip: bool) -> Result<f64> {
    let make = || Ring::<[u64; N]>::builder(CAPACITY).create(Place::memfd("peers")?);
    let (there, back) = (make()?, make()?);
    race(
        |start| {
            let mut rx = there.receiver()?.with_wait(Wait::Spin);
            let mut tx = back.sender()?.with_wait(Wait::Spin);
            start.wait();
            for i in 0..COUNT {
                let message = rx.recv()?;
                assert_eq!(message, [i; N]);
                if round_trip {
                    tx.send(message).map_err(|error| error.to_string())?;
                }
            }
            if !round_trip {
                tx.send([0; N]).map_err(|error| error.to_string())?;
            }
            Ok(())
        },
        |start| {
            let mut tx = there.sender()?.with_wait(Wait::Spin);
            let mut rx = back.receiver()?.with_wait(Wait::Spin);
            start.wait();
            time(|i| {
                tx.send([i; N]).map_err(|error| error.to_string())?;
                if round_trip || i + 1 == COUNT {
                    rx.recv()?;
                }
                Ok(())
            })
        },
    )
}

fn iceoryx<const N: usize>(round_trip: bool, run: usize) -> Result<f64> {
    let service = |way: &str| -> Result<_> {
        let node = NodeBuilder::new().create::<ipc::Service>()?;
        let name = format!("annulus-peers/{}/{run}/{way}", std::process::id());
        let service = node
            .service_builder(&name.as_str().try_into()?)
            .publish_subscribe::<[u64; N]>()
            .subscriber_max_buffer_size(CAPACITY)
            .enable_safe_overflow(false)
            .open_or_create()?;
        Ok((node, service))
    };
    race(
        |start| {
            let ((_a, there), (_b, back)) = (service("there")?, service("back")?);
            let rx = there.subscriber_builder().create()?;
            let tx = back.publisher_builder().create()?;
            start.wait();
            start.wait();
            for i in 0..COUNT {
                let message = loop {
                    if let Some(sample) = rx.receive()? {
                        break *sample;
                    }
                };
                assert_eq!(message, [i; N]);
                if round_trip {
                    tx.send_copy(message)?;
                }
            }
            if !round_trip {
                tx.send_copy([0; N])?;
            }
            start.wait();
            Ok(())
        },
        |start| {
            let ((_a, there), (_b, back)) = (service("there")?, service("back")?);
            let tx = there
                .publisher_builder()
                .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
                .create()?;
            let rx = back.subscriber_builder().create()?;
            start.wait();
            start.wait();
            let result = time(|i| {
                tx.send_copy([i; N])?;
                if round_trip || i + 1 == COUNT {
                    while rx.receive()?.is_none() {}
                }
                Ok(())
            });
            start.wait();
            result
        },
    )
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn compare<const N: usize>(rounds: usize) -> Result<()> {
    for (what, round_trip) in [("round trip", true), ("one way", false)] {
        let (mut own, mut peer) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            own.push(ring::<N>(round_trip)?);
            peer.push(iceoryx::<N>(round_trip, round)?);
        }
        let (own, peer) = (median(own), median(peer));
        let size = 8 * N;
        println!(
            "{what:<10} {size:>3} B: ring {own:8.1} ns, iceoryx2 {peer:8.1} ns, ratio {:.1}",
            peer / own
        );
    }
    Ok(())
}

fn main() -> Result<()> {
    set_log_level(LogLevel::Error);
    let rounds = std::env::args().nth(1).map_or(Ok(5), |rounds| rounds.parse())?;
    compare::<1>(rounds)?;
    compare::<8>(rounds)
}
