//! `Broadcast` beside disruptor, which knows threads of one process only, and iceoryx2: every message for every receiver,
//! of whom none loses any.
//!
//! One receiver has a processor of its own, and both sides spin. Four share two processors with the sender: whoever
//! finds nothing gives way.

use std::sync::Barrier;

use annulus::{Broadcast, Delivery, Place, Start, Wait};
use disruptor::{BusySpin, Polling, Producer, RingBufferFull};
use iceoryx2::port::update_connections::UpdateConnections;
use iceoryx2::prelude::*;

use crate::race::{Result, Side, race, table};

/// Messages of a round, of each receiver.
const COUNT: u64 = 256_000;
/// Messages that a receiver may be behind.
const CAPACITY: usize = 1024;
/// Messages of a call where there are many.
const BATCH: usize = 64;
/// Words of a message.
const WORDS: usize = 8;

type Message = [u64; WORDS];

/// How long a side that has nothing to do waits before it looks again.
#[inline]
fn pause(receivers: usize) {
    if receivers > 1 { std::thread::yield_now() } else { std::hint::spin_loop() }
}

fn check(message: &Message, next: &mut u64) {
    assert_eq!(*message, [*next; WORDS]);
    *next += 1;
}

fn annulus(receivers: usize, batched: bool) -> Result<f64> {
    let broadcast = Broadcast::<Message>::builder(CAPACITY).create(Place::memfd("peers")?)?;
    let wait = if receivers > 1 { Wait::Adaptive } else { Wait::Spin };
    let broadcast = &broadcast;
    let mut sides: Vec<Side<'_>> = vec![Box::new(move |meet| {
        let mut tx = broadcast.sender()?.with_wait(wait);
        meet.start();
        for i in (0..COUNT).step_by(if batched { BATCH } else { 1 }) {
            match batched {
                true => {
                    tx.send_all(&std::array::from_fn::<_, BATCH, _>(|at| [i + at as u64; WORDS]))?
                }
                false => tx.send([i; WORDS]).map_err(|error| error.to_string())?,
            }
        }
        meet.done();
        Ok(())
    })];
    for _ in 0..receivers {
        sides.push(Box::new(move |meet| {
            let mut rx = broadcast.receiver(Delivery::Gate, Start::Now)?.with_wait(wait);
            let (mut next, mut messages) = (0, [[0; WORDS]; BATCH]);
            meet.start();
            while next < COUNT {
                match batched {
                    true => {
                        let count = rx.recv_batch(&mut messages)?;
                        messages[..count].iter().for_each(|message| check(message, &mut next));
                    }
                    false => check(&rx.recv()?, &mut next),
                }
            }
            meet.done();
            Ok(())
        }));
    }
    Ok(race(sides) / COUNT as f64)
}

/// A poll gives all that there is, also where each message is published by a call of its own.
fn disruptor(receivers: usize, batched: bool) -> Result<f64> {
    let builder = disruptor::build_single_producer(CAPACITY, || [0; WORDS], BusySpin);
    let mut builder = builder.with_multi_consumer();
    let mut sides: Vec<Side<'_>> = Vec::new();
    for _ in 0..receivers {
        let (mut poller, more) = builder.new_event_poller();
        builder = more;
        sides.push(Box::new(move |meet| {
            let mut next = 0;
            meet.start();
            while next < COUNT {
                match poller.poll() {
                    Ok(mut messages) => {
                        for message in &mut messages {
                            check(message, &mut next);
                        }
                    }
                    Err(Polling::NoEvents) => pause(receivers),
                    Err(Polling::Shutdown) => return Err("the producer is gone".into()),
                }
            }
            meet.done();
            Ok(())
        }));
    }
    let mut producer = builder.build();
    sides.insert(
        0,
        Box::new(move |meet| {
            meet.start();
            for i in (0..COUNT).step_by(if batched { BATCH } else { 1 }) {
                let publish = || match batched {
                    true => producer
                        .try_batch_publish(BATCH, |slots| {
                            slots.zip(i..).for_each(|(slot, i)| *slot = [i; WORDS]);
                        })
                        .is_ok(),
                    false => {
                        let published = producer.try_publish(|slot| *slot = [i; WORDS]);
                        !matches!(published, Err(RingBufferFull))
                    }
                };
                until(publish, receivers);
            }
            meet.done();
            Ok(())
        }),
    );
    Ok(race(sides) / COUNT as f64)
}

fn until(mut done: impl FnMut() -> bool, receivers: usize) {
    while !done() {
        pause(receivers);
    }
}

fn iceoryx(receivers: usize, run: usize) -> Result<f64> {
    let service = move || -> Result<_> {
        let node = NodeBuilder::new().create::<ipc::Service>()?;
        let name = format!("annulus-peers/{}/{run}/{receivers}", std::process::id());
        let service = node
            .service_builder(&name.as_str().try_into()?)
            .publish_subscribe::<Message>()
            .max_subscribers(receivers)
            .subscriber_max_buffer_size(CAPACITY)
            .enable_safe_overflow(false)
            .open_or_create()?;
        Ok((node, service))
    };
    let met = &Barrier::new(receivers + 1);
    let mut sides: Vec<Side<'_>> = vec![Box::new(move |meet| {
        let (_node, service) = service()?;
        let tx = service
            .publisher_builder()
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()?;
        met.wait();
        meet.start();
        for i in 0..COUNT {
            tx.send_copy([i; WORDS])?;
        }
        meet.done();
        Ok(())
    })];
    for _ in 0..receivers {
        sides.push(Box::new(move |meet| {
            let (_node, service) = service()?;
            let rx = service.subscriber_builder().create()?;
            met.wait();
            // Connects: what is sent before is lost once the buffer is full.
            rx.update_connections()?;
            let mut next = 0;
            meet.start();
            while next < COUNT {
                match rx.receive()? {
                    Some(message) => check(&message, &mut next),
                    None => pause(receivers),
                }
            }
            meet.done();
            Ok(())
        }));
    }
    Ok(race(sides) / COUNT as f64)
}

/// To one receiver and to four.
pub fn compare(rounds: usize) -> Result<()> {
    for receivers in [1, 4] {
        table(
            &format!("to {receivers} of {} B, until the slowest has it", 8 * WORDS),
            rounds,
            &[
                ("annulus Broadcast", &|_| annulus(receivers, false)),
                ("disruptor", &|_| disruptor(receivers, false)),
                ("iceoryx2", &|run| iceoryx(receivers, run)),
            ],
        )?;
        table(
            &format!("the same, {BATCH} a call"),
            rounds,
            &[
                ("annulus Broadcast", &|_| annulus(receivers, true)),
                ("disruptor", &|_| disruptor(receivers, true)),
            ],
        )?;
    }
    Ok(())
}
