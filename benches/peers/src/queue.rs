//! `Ring` beside iceoryx2: messages from one thread to another, and back.

use std::sync::Barrier;

use annulus::{Place, Ring, Wait};
use iceoryx2::port::update_connections::UpdateConnections;
use iceoryx2::prelude::*;

use crate::race::{Result, race, table};

/// Messages of a round.
const COUNT: u64 = 200_000;
/// Messages that either side holds.
const CAPACITY: usize = 1024;

fn ring<const N: usize>(round_trip: bool) -> Result<f64> {
    let make = || Ring::<[u64; N]>::builder(CAPACITY).create(Place::memfd("peers")?);
    let (there, back) = (&make()?, &make()?);
    let time = race(vec![
        Box::new(move |meet| {
            let mut rx = there.receiver()?.with_wait(Wait::Spin);
            let mut tx = back.sender()?.with_wait(Wait::Spin);
            meet.start();
            for i in 0..COUNT {
                let message = rx.recv()?;
                assert_eq!(message, [i; N]);
                if round_trip {
                    tx.send(message).map_err(|error| error.to_string())?;
                }
            }
            meet.done();
            Ok(())
        }),
        Box::new(move |meet| {
            let mut tx = there.sender()?.with_wait(Wait::Spin);
            let mut rx = back.receiver()?.with_wait(Wait::Spin);
            meet.start();
            for i in 0..COUNT {
                tx.send([i; N]).map_err(|error| error.to_string())?;
                if round_trip {
                    assert_eq!(rx.recv()?, [i; N]);
                }
            }
            meet.done();
            Ok(())
        }),
    ]);
    Ok(time / COUNT as f64)
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
    let met = &Barrier::new(2);
    let time = race(vec![
        Box::new(move |meet| {
            let ((_a, there), (_b, back)) = (service("there")?, service("back")?);
            let rx = there.subscriber_builder().create()?;
            let tx = back.publisher_builder().create()?;
            met.wait();
            // Connects: what is sent before is lost once the buffer is full.
            rx.update_connections()?;
            meet.start();
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
            meet.done();
            Ok(())
        }),
        Box::new(move |meet| {
            let ((_a, there), (_b, back)) = (service("there")?, service("back")?);
            let tx = there
                .publisher_builder()
                .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
                .create()?;
            let rx = back.subscriber_builder().create()?;
            met.wait();
            rx.update_connections()?;
            meet.start();
            for i in 0..COUNT {
                tx.send_copy([i; N])?;
                if round_trip {
                    let answer = loop {
                        if let Some(sample) = rx.receive()? {
                            break *sample;
                        }
                    };
                    assert_eq!(answer, [i; N]);
                }
            }
            meet.done();
            Ok(())
        }),
    ]);
    Ok(time / COUNT as f64)
}

/// Round trip and one way.
pub fn compare<const N: usize>(rounds: usize) -> Result<()> {
    for (what, round_trip) in [("round trip", true), ("one way", false)] {
        table(
            &format!("{what}, {} B", 8 * N),
            rounds,
            &[
                ("annulus Ring", &|_| ring::<N>(round_trip)),
                ("iceoryx2", &|run| iceoryx::<N>(round_trip, run)),
            ],
        )?;
    }
    Ok(())
}
