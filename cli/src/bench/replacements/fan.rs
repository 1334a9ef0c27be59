//! Every message for every receiver: the rate at which the slowest of them has them all.

use std::cell::Cell;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use annulus::{BroadcastReceiver, BroadcastSender, Topology};

use super::trial::Trial;
use crate::bench::crew::Job;
use crate::bench::crowd::meeting::{Meeting, Receiving, Sending, Terms};
use crate::bench::link::{Failure, Refusal, Setup, Side, Transport};
use crate::bench::links::broadcast;
use crate::bench::links::pipe::Pipe;
use crate::bench::measure::Figures;
use crate::bench::payload::Payload;
use crate::bench::phases;
use crate::bench::run::{Bench, Outcome, prepared};
use crate::bench::shared::{Control, Shared};
use crate::bench::tally::Round;

/// One sender, and `RECEIVERS` processes of which each has every message.
pub fn fan<M: Meeting, const RECEIVERS: usize>(bench: &Bench, trial: &Trial<'_>) -> Outcome {
    let setup = &trial.setup;
    let topology = Topology::Spmc;
    let terms = Terms { setup: *setup, topology, senders: 1, receivers: RECEIVERS, batch: 1 };
    let meeting = match prepared(trial.name, M::prepare(&terms))? {
        Ok(meeting) => Cell::new(Some(meeting)),
        Err(reason) => return Ok(Err(reason)),
    };
    let control = Shared::<Control>::new()?;
    let (meeting, control, terms, clock) = (&meeting, &*control, &terms, bench.clock);
    let join = || meeting.take().expect("a worker joins once");
    let blank = || [M::Message::blank(setup.size)];
    let budget = trial.budget;
    let send = move || {
        let (mut link, mut message) = (join().sender(terms)?, blank());
        let mut barrier = control.barrier_of(terms.workers());
        barrier.wait();
        let rate = budget.rate.unwrap_or_default();
        let msgs_per_s = phases::lead(control, &mut barrier, clock, rate, |count| {
            (1..=count).try_for_each(|sequence| {
                message[0].fill(sequence);
                link.send(&message)
            })
        })?;
        Ok(Round::encode(&Figures { round_trips_ns: Vec::new(), msgs_per_s }))
    };
    let receive = move |number| {
        let (mut link, mut message) = (join().receiver(terms, number)?, blank());
        let mut barrier = control.barrier_of(terms.workers());
        barrier.wait();
        phases::follow(control, &mut barrier, |count| {
            for sequence in 1..=count {
                link.recv(&mut message)?;
                if !message[0].matches(sequence) {
                    return Err(Failure::wrong(sequence));
                }
            }
            control.end_phase(clock);
            Ok(())
        })
    };
    let seats = bench.processors.of_crowd(terms.workers(), setup.one_cpu);
    let jobs = seats.into_iter().enumerate().map(|(at, seat)| -> Job<'_> {
        match at {
            0 => Job { side: Side::Near, seat, body: Box::new(send) },
            _ => {
                let body = move || receive(at - 1).map(|()| Vec::new());
                Job { side: Side::Far, seat, body: Box::new(body) }
            }
        }
    });
    bench.led(trial.name, jobs.collect(), budget)
}

/// A pipe for each receiver, into each of which the sender writes.
pub struct Pipes(Vec<Pipe>);

impl Meeting for Pipes {
    type Message = crate::bench::payload::Bytes;
    type Sender = Writes;
    type Receiver = Reads;

    fn prepare(terms: &Terms) -> Result<Self, Refusal> {
        (0..terms.receivers)
            .map(|_| Pipe::prepare(&terms.setup))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn sender(self, terms: &Terms) -> Result<Writes, Failure> {
        let ends =
            self.0.into_iter().map(|pipe| Ok(pipe.attach(Side::Near, &terms.setup)?.to_peer));
        ends.collect::<Result<_, Failure>>().map(Writes)
    }

    fn receiver(mut self, terms: &Terms, number: usize) -> Result<Reads, Failure> {
        let pipe = self.0.swap_remove(number);
        Ok(Reads(pipe.attach(Side::Far, &terms.setup)?.from_peer))
    }
}

/// The sender's ends.
pub struct Writes(Vec<File>);

impl Sending for Writes {
    type Message = crate::bench::payload::Bytes;

    #[inline]
    fn send(&mut self, messages: &[Self::Message]) -> Result<(), Failure> {
        for message in messages {
            for pipe in &mut self.0 {
                pipe.write_all(&message.0).map_err(|error| Failure::call("write", error))?;
            }
        }
        Ok(())
    }
}

/// A receiver's end.
pub struct Reads(File);

impl Receiving for Reads {
    type Message = crate::bench::payload::Bytes;

    #[inline]
    fn recv(&mut self, messages: &mut [Self::Message]) -> Result<usize, Failure> {
        self.0.read_exact(&mut messages[0].0).map_err(|error| Failure::call("read", error))?;
        Ok(1)
    }
}

/// A broadcast that waits for all its receivers, by its descriptor.
pub struct Broadcasts<const N: usize>(OwnedFd);

impl<const N: usize> Meeting for Broadcasts<N> {
    type Message = [u64; N];
    type Sender = BroadcastSender<[u64; N]>;
    type Receiver = BroadcastReceiver<[u64; N]>;

    fn prepare(terms: &Terms) -> Result<Self, Refusal> {
        let Setup { size, .. } = terms.setup;
        broadcast::make::<N>(size).map(Self)
    }

    fn sender(self, terms: &Terms) -> Result<Self::Sender, Failure> {
        broadcast::sender(self.0, terms.setup.wait)
    }

    fn receiver(self, terms: &Terms, _: usize) -> Result<Self::Receiver, Failure> {
        broadcast::receiver(self.0, terms.setup.wait)
    }
}

impl<const N: usize> Sending for BroadcastSender<[u64; N]> {
    type Message = [u64; N];

    #[inline]
    fn send(&mut self, messages: &[[u64; N]]) -> Result<(), Failure> {
        let mut messages = messages.iter();
        messages.try_for_each(|message| {
            Self::send(self, *message).map_err(|error| Failure::call("send", error))
        })
    }
}

impl<const N: usize> Receiving for BroadcastReceiver<[u64; N]> {
    type Message = [u64; N];

    #[inline]
    fn recv(&mut self, messages: &mut [[u64; N]]) -> Result<usize, Failure> {
        messages[0] = Self::recv(self).map_err(|error| Failure::call("recv", error))?;
        Ok(1)
    }
}
