//! The two tests, as both workers run them.
//!
//! **Round trip.** The near side fills a request, takes the time, sends, receives the answer, takes the time, checks the
//! answer. The far side checks every byte of a request and then sends it back. Every round trip of every row, the floor's
//! too, is timed by itself with the same pair of clock readings: percentiles need single times, and what a pair of readings adds
//! it adds to all of them.
//!
//! **One way.** The near side fills and sends as fast as it can, the far side receives and checks. The clock runs from the
//! near side's first send to the moment the far side holds the last message ([`phases`]).

use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use super::clock::Clock;
use super::link::{Failure, Link, Setup};
use super::payload::{Payload, STOP};
use super::phases;
use super::shared::Control;

/// Round trips kept of one round of one row.
const MAX_SAMPLES: usize = 1 << 18;

/// What one row may cost.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Time for round trips in this round; `None` leaves them out.
    pub round_trips: Option<Duration>,
    /// Time for the rate test in this round; `None` leaves it out.
    pub rate: Option<Duration>,
}

impl Budget {
    /// Time for all of it.
    pub fn total(self) -> Duration {
        self.round_trips.unwrap_or_default() + self.rate.unwrap_or_default()
    }
}

/// What the near side found.
#[derive(Debug, Default)]
pub struct Figures {
    /// Each round trip in nanoseconds.
    pub round_trips_ns: Vec<u64>,
    /// Messages a second, one way.
    pub msgs_per_s: Option<f64>,
}

/// The near side of a row.
pub fn near<L: Link>(
    link: &mut L,
    setup: &Setup,
    control: &Control,
    clock: Clock,
    budget: Budget,
) -> Result<Figures, Failure> {
    let mut barrier = control.barrier();
    let mut request = L::Message::blank(setup.size);
    let mut answer = L::Message::blank(setup.size);
    request.fill(0);
    answer.fill(0);

    let mut round_trips_ns = Vec::new();
    if let Some(budget) = budget.round_trips {
        // Written once, so that the pages are there before the clock runs.
        let mut samples = vec![u64::MAX; MAX_SAMPLES];
        barrier.wait();
        let mut sequence = 0;
        let warm_up = clock.ticks(budget / 10);
        round_trips(
            link,
            clock,
            warm_up,
            &mut sequence,
            (&mut request, &mut answer),
            &mut samples,
        )?;
        let timed = clock.ticks(budget);
        let taken = round_trips(
            link,
            clock,
            timed,
            &mut sequence,
            (&mut request, &mut answer),
            &mut samples,
        )?;
        request.fill(STOP);
        link.send(&request)?;
        let times = samples[..taken].iter().enumerate();
        round_trips_ns
            .extend(times.map(|(i, &ticks)| clock.ns_within_step(ticks, i).round() as u64));
    }

    link.one_way();
    barrier.wait();
    let msgs_per_s = match budget.rate {
        Some(budget) => phases::lead(control, &mut barrier, clock, budget, |count| {
            // A loop, not `try_for_each`, whose closure may be called for each message.
            for sequence in 1..count + 1 {
                link.send_filled(sequence, &mut request)?;
            }
            Ok(())
        })?,
        None => None,
    };
    Ok(Figures { round_trips_ns, msgs_per_s })
}

/// The far side of a row.
pub fn far<L: Link>(
    link: &mut L,
    setup: &Setup,
    control: &Control,
    clock: Clock,
    budget: Budget,
) -> Result<(), Failure> {
    let mut barrier = control.barrier();
    let mut message = L::Message::blank(setup.size);
    message.fill(0);

    if budget.round_trips.is_some() {
        barrier.wait();
        answer_until_stopped(link, &mut message)?;
    }

    link.one_way();
    barrier.wait();
    if budget.rate.is_some() {
        phases::follow(control, &mut barrier, |count| {
            for sequence in 1..count + 1 {
                if !link.recv_checked(sequence, &mut message)? {
                    return Err(Failure::wrong(sequence));
                }
            }
            control.end_phase(clock);
            Ok(())
        })?;
    }
    Ok(())
}

/// Round trips for `ticks` or until `samples` is full, at least one. Returns how many were stored.
fn round_trips<L: Link>(
    link: &mut L,
    clock: Clock,
    ticks: u64,
    sequence: &mut u64,
    (request, answer): (&mut L::Message, &mut L::Message),
    samples: &mut [u64],
) -> Result<usize, Failure> {
    let end = clock.now() + ticks;
    for (taken, sample) in samples.iter_mut().enumerate() {
        *sequence += 1;
        request.fill(*sequence);
        // What was filled is in the cache when the clock starts, not on its way there.
        fence(Ordering::SeqCst);
        let sent = clock.now();
        link.send(request)?;
        link.recv(answer)?;
        let received = clock.now();
        if !answer.matches(*sequence) {
            return Err(Failure::wrong(*sequence));
        }
        *sample = received - sent;
        if received >= end {
            return Ok(taken + 1);
        }
    }
    Ok(samples.len())
}

fn answer_until_stopped<L: Link>(link: &mut L, message: &mut L::Message) -> Result<(), Failure> {
    for sequence in 1.. {
        link.recv(message)?;
        if message.matches(sequence) {
            link.send(message)?;
        } else if message.matches(STOP) {
            break;
        } else {
            return Err(Failure::wrong(sequence));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;
    use crate::bench::link::Waiting;
    use crate::bench::shared::Shared;

    const SETUP: Setup = Setup { size: 16, wait: Waiting::Block, one_cpu: false };
    const BUDGET: Budget = Budget {
        round_trips: Some(Duration::from_millis(2)),
        rate: Some(Duration::from_millis(2)),
    };

    /// Two channels of the standard library, which spoil one message if told to.
    struct Channels {
        to_peer: Sender<[u64; 2]>,
        from_peer: Receiver<[u64; 2]>,
        sent: u64,
        spoil: Option<u64>,
    }

    impl Link for Channels {
        type Message = [u64; 2];

        fn send(&mut self, message: &[u64; 2]) -> Result<(), Failure> {
            self.sent += 1;
            let mut message = *message;
            if self.spoil == Some(self.sent) {
                message[1] ^= 1 << 63;
            }
            self.to_peer.send(message).map_err(|error| Failure::call("send", error))
        }

        fn recv(&mut self, message: &mut [u64; 2]) -> Result<(), Failure> {
            *message = self.from_peer.recv().map_err(|error| Failure::call("recv", error))?;
            Ok(())
        }
    }

    /// Both sides in threads; each spoils the message with the given number.
    fn converse(
        spoil_near: Option<u64>,
        spoil_far: Option<u64>,
    ) -> (Result<Figures, Failure>, Result<(), Failure>) {
        let (forth, back) = (channel(), channel());
        let control = Shared::<Control>::new().unwrap();
        let (control, clock) = (&*control, Clock::calibrate());
        std::thread::scope(|scope| {
            let near = scope.spawn(move || {
                let mut link =
                    Channels { to_peer: forth.0, from_peer: back.1, sent: 0, spoil: spoil_near };
                near(&mut link, &SETUP, control, clock, BUDGET)
            });
            let mut link =
                Channels { to_peer: back.0, from_peer: forth.1, sent: 0, spoil: spoil_far };
            let far = far(&mut link, &SETUP, control, clock, BUDGET);
            drop(link);
            (near.join().unwrap(), far)
        })
    }

    #[test]
    fn both_tests_come_to_figures() {
        let (near, far) = converse(None, None);
        assert_eq!(far, Ok(()));
        let near = near.unwrap();
        assert!(!near.round_trips_ns.is_empty());
        assert!(near.round_trips_ns.iter().all(|&ns| ns != u64::MAX));
        assert!(near.msgs_per_s.unwrap() > 0.0);
    }

    #[test]
    fn a_spoilt_request_or_answer_is_a_failure() {
        let (_, far) = converse(Some(2), None);
        assert!(matches!(far, Err(Failure::WrongPayload(_))), "{far:?}");
        let (near, _) = converse(None, Some(2));
        assert!(matches!(near, Err(Failure::WrongPayload(_))), "{near:?}");
    }
}
