//! The test of a crowd, as its senders run it: everybody sends or receives as fast as it can, in stretches.
//!
//! In a stretch each sender has the same number of messages to send. The clock runs from the first send to the moment
//! that a receiver learns that all were sent, which is the next that any of them receives after the last message. How
//! many fill the time is found by stretches of growing length.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ground::{Post, sequence_of};
use super::meeting::Sending;
use crate::bench::link::Failure;
use crate::bench::payload::{Payload, STOP};

/// Messages between two readings of the clock, so that these cost little beside the messages.
pub const STRIDE: u64 = 32;
/// Messages of the first stretch.
const FIRST: u64 = 2 * STRIDE;
/// Budgets after which a stretch counts whatever its length.
const PATIENCE: f64 = 4.0;
/// Between two looks whether a receiver has stopped, which nobody times.
const NAP: Duration = Duration::from_micros(50);

/// How one sender fared in the stretch that counts.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Findings {
    /// What it had sent of its messages when the first sender had sent all.
    pub share: f64,
    /// The longest that it took for [`STRIDE`] messages one after the other.
    pub slowest_stride_ns: f64,
    /// Messages a second of all together; the leader knows it.
    pub msgs_per_s: Option<f64>,
}

/// Finds out how long a stretch must be.
///
/// One that takes long may have met a moment in which the machine had other things to do. So the one that counts must be
/// long, and the one before it, from which its length was reckoned, not much shorter.
struct Leader {
    wanted: f64,
    count: u64,
    /// The stretch before was long enough to reckon with.
    reckoned: bool,
    spent: f64,
    msgs_per_s: Option<f64>,
}

impl Leader {
    fn new(budget: Duration) -> Self {
        let wanted = budget.as_secs_f64();
        Self { wanted, count: FIRST, reckoned: false, spent: 0.0, msgs_per_s: None }
    }

    /// Messages of each sender in the coming stretch; none if one has counted.
    fn next(&self) -> u64 {
        if self.msgs_per_s.is_some() { 0 } else { self.count }
    }

    fn learn(&mut self, senders: usize, seconds: f64) {
        self.spent += seconds;
        let long = seconds >= self.wanted / 4.0;
        if long && self.reckoned || self.spent > PATIENCE * self.wanted {
            self.msgs_per_s = Some((self.count * senders as u64) as f64 / seconds);
            return;
        }
        self.reckoned = long;
        let factor = (self.wanted / seconds).min(4.0);
        let count = (self.count as f64 * factor) as u64;
        self.count = count.next_multiple_of(STRIDE).max(FIRST);
    }
}

/// A sender's whole work. The first of them leads.
pub fn send<S: Sending<Message: Payload>>(
    link: &mut S,
    post: &Post<'_>,
    number: usize,
    budget: Duration,
) -> Result<Findings, Failure> {
    let Post { ground, .. } = *post;
    let desk = &ground.senders[number];
    let mut messages = post.blank::<S::Message>();
    let mut barrier = post.barrier();
    let mut leader = (number == 0).then(|| Leader::new(budget));
    let mut findings = Findings::default();
    loop {
        desk.sent.0.store(0, Relaxed);
        if let Some(leader) = &leader {
            ground.announce(leader.next());
        }
        barrier.wait();
        let count = ground.count.0.load(Relaxed);
        if count == 0 {
            break;
        }
        let slowest = send_stretch(link, post, number, count, &mut messages)?;
        let before = ground.finished.0.fetch_add(1, AcqRel);
        if before == 0 {
            for desk in &ground.senders[..post.terms.senders] {
                desk.sent_at_first_end.store(desk.sent.0.load(Relaxed), Relaxed);
            }
        }
        if before + 1 == post.terms.senders as u64 {
            stop_receivers(link, post, &mut messages)?;
        }
        barrier.wait();
        if !desk.is_complete(count) {
            return Err(Failure::WrongPayload(format!(
                "of the {count} messages of sender {number}, some were lost or came twice"
            )));
        }
        findings.share = desk.sent_at_first_end.load(Relaxed) as f64 / count as f64;
        findings.slowest_stride_ns = post.clock.ns(slowest);
        if let Some(leader) = &mut leader {
            let ticks = ground.ended.0.load(Relaxed).saturating_sub(ground.started.0.load(Relaxed));
            leader.learn(post.terms.senders, post.clock.ns(ticks.max(1)) / 1e9);
            findings.msgs_per_s = leader.msgs_per_s;
        }
    }
    Ok(findings)
}

/// Sends `count` messages and returns the ticks that the slowest stride took.
fn send_stretch<S: Sending<Message: Payload>>(
    link: &mut S,
    post: &Post<'_>,
    sender: usize,
    count: u64,
    messages: &mut [S::Message],
) -> Result<u64, Failure> {
    let Post { ground, clock, .. } = *post;
    let sent = &ground.senders[sender].sent.0;
    let mut slowest = 0;
    let mut last = clock.now();
    ground.started.0.fetch_min(last, Relaxed);
    let mut next = 1;
    while next <= count {
        // Both numbers of messages are divisible by the length of a batch.
        for _ in 0..STRIDE as usize / messages.len() {
            for message in messages.iter_mut() {
                message.fill(sequence_of(sender, next));
                next += 1;
            }
            link.send(messages)?;
        }
        let now = clock.now();
        slowest = slowest.max(now - last);
        last = now;
        sent.store(next - 1, Relaxed);
    }
    Ok(slowest)
}

/// Tells one receiver after the other that nothing more comes: a batch must not hold the words for two of them.
fn stop_receivers<S: Sending<Message: Payload>>(
    link: &mut S,
    post: &Post<'_>,
    messages: &mut [S::Message],
) -> Result<(), Failure> {
    messages[0].fill(STOP);
    for receiver in 1..=post.terms.receivers as u64 {
        link.send(&messages[..1])?;
        while post.ground.stopped.0.load(Acquire) < receiver {
            std::thread::sleep(NAP);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use annulus::Topology;

    use super::*;
    use crate::bench::clock::Clock;
    use crate::bench::crowd::ground::Ground;
    use crate::bench::crowd::meeting::Terms;
    use crate::bench::crowd::meeting::tests::Queue;
    use crate::bench::crowd::receive::receive;
    use crate::bench::link::{Setup, Waiting};
    use crate::bench::shared::Shared;

    #[test]
    fn a_crowd_comes_to_figures() {
        let (queue, ground) = (Queue::default(), Shared::<Ground>::new().unwrap());
        let clock = Clock::calibrate();
        let setup = Setup { size: 16, wait: Waiting::Block, one_cpu: false };
        let topology = Topology::Mpmc;
        let terms = Terms { setup, topology, senders: 3, receivers: 2, batch: 32 };
        let post = Post { ground: &ground, clock, terms: &terms };
        let (queue, post, budget) = (&queue, &post, Duration::from_millis(6));
        let findings: Vec<Findings> = std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(move || receive(&mut &*queue, post).unwrap());
            }
            let senders: Vec<_> = (0..3)
                .map(|at| scope.spawn(move || send(&mut &*queue, post, at, budget).unwrap()))
                .collect();
            senders.into_iter().map(|sender| sender.join().unwrap()).collect()
        });
        let rates: Vec<bool> =
            findings.iter().map(|findings| findings.msgs_per_s.is_some()).collect();
        assert_eq!(rates, [true, false, false]);
        assert!(findings[0].msgs_per_s.unwrap() > 0.0);
        assert!(findings.iter().all(|findings| (0.0..=1.0).contains(&findings.share)));
        assert!(findings.iter().any(|findings| findings.share == 1.0), "one is the first");
        assert!(findings.iter().all(|findings| findings.slowest_stride_ns > 0.0));
    }

    #[test]
    fn a_stretch_counts_that_is_as_long_as_it_was_reckoned() {
        // A million messages a second of each, and sometimes a tenth of a second in which nothing goes.
        let lead = |disturbed: &[usize]| {
            let mut leader = Leader::new(Duration::from_millis(100));
            for stretch in 0.. {
                let count = leader.next();
                if count == 0 {
                    return (stretch, leader.count, leader.msgs_per_s.unwrap());
                }
                let pause = if disturbed.contains(&stretch) { 0.1 } else { 0.0 };
                leader.learn(2, count as f64 / 1e6 + pause);
            }
            unreachable!()
        };
        let (stretches, count, rate) = lead(&[]);
        assert!((90_000..110_000).contains(&count) && (rate / 2e6 - 1.0).abs() < 0.01);
        let (more, count, rate) = lead(&[0, 2]);
        assert!(more > stretches && more < 12, "{more}");
        assert!(count > 25_000 && (rate / 2e6 - 1.0).abs() < 0.01, "{count} {rate}");
        assert_eq!(lead(&[0, 1, 2, 3, 4, 5]).0, 2, "there is nothing better to be had");
    }
}
