//! The test of a crowd, as its senders run it: everybody sends or receives as fast as it can, for several stretches.
//!
//! In a stretch each sender has the same number of messages to send. The clock runs from the first send to the moment
//! that a receiver learns that all were sent, which is the next that any of them receives after the last message. How
//! many fill the time is found by stretches of growing length.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ground::{Ground, Post, sequence_of};
use super::meeting::Sending;
use crate::bench::link::Failure;
use crate::bench::payload::{Payload, STOP};

/// Stretches that count, in one round of one row.
const STRETCHES: usize = 3;
/// Messages between two readings of the clock, so that these cost little beside the messages.
pub const STRIDE: u64 = 32;
/// Messages of the first stretch.
const FIRST: u64 = 2 * STRIDE;
/// Between two looks whether a receiver has stopped, which nobody times.
const NAP: Duration = Duration::from_micros(50);
/// What one sender found.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Findings {
    pub stretches: Vec<Stretch>,
    /// Messages a second of all together, in each stretch; of the leader only.
    pub rates: Vec<f64>,
}

/// How one sender fared in one stretch.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Stretch {
    /// What it had sent of its messages when the first sender had sent all.
    pub share: f64,
    /// The longest that it took for [`STRIDE`] messages one after the other.
    pub slowest_stride_ns: f64,
}

/// Finds out how long a stretch must be, and how many there have been.
struct Leader {
    budget: Duration,
    count: u64,
    /// The count has been found.
    found: bool,
    rates: Vec<f64>,
}

impl Leader {
    fn announce(&self, ground: &Ground) {
        let over = self.rates.len() == STRETCHES;
        ground.announce(if over { 0 } else { self.count }, self.found);
    }

    fn learn(&mut self, post: &Post<'_>) {
        let [started, ended] = [&post.ground.started, &post.ground.ended];
        let ticks = ended.0.load(Relaxed).saturating_sub(started.0.load(Relaxed)).max(1);
        let seconds = post.clock.ns(ticks) / 1e9;
        let wanted = self.budget.as_secs_f64() / STRETCHES as f64;
        if self.found {
            self.rates.push((self.count * post.senders as u64) as f64 / seconds);
        } else if seconds < wanted / 2.0 {
            self.count *= 4;
        } else {
            self.found = true;
            let count = (self.count as f64 * wanted / seconds) as u64;
            self.count = count.next_multiple_of(STRIDE).max(FIRST);
        }
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
    let mut leader =
        (number == 0).then(|| Leader { budget, count: FIRST, found: false, rates: Vec::new() });
    let mut stretches = Vec::new();
    loop {
        desk.sent.0.store(0, Relaxed);
        if let Some(leader) = &leader {
            leader.announce(ground);
        }
        barrier.wait();
        // Now, and not at the end of the stretch, when the leader may already announce the next.
        let (count, measured) = (ground.count.0.load(Relaxed), ground.measured.0.load(Relaxed));
        if count == 0 {
            break;
        }
        let slowest = send_stretch(link, post, number, count, &mut messages)?;
        let before = ground.finished.0.fetch_add(1, AcqRel);
        if before == 0 {
            for desk in &ground.senders[..post.senders] {
                desk.sent_at_first_end.store(desk.sent.0.load(Relaxed), Relaxed);
            }
        }
        if before + 1 == post.senders as u64 {
            stop_receivers(link, post, &mut messages)?;
        }
        barrier.wait();
        if !desk.is_complete(count) {
            return Err(Failure::WrongPayload(format!(
                "of the {count} messages of sender {number}, some were lost or came twice"
            )));
        }
        if measured != 0 {
            let share = desk.sent_at_first_end.load(Relaxed) as f64 / count as f64;
            stretches.push(Stretch { share, slowest_stride_ns: post.clock.ns(slowest) });
        }
        if let Some(leader) = &mut leader {
            leader.learn(post);
        }
    }
    Ok(Findings { stretches, rates: leader.map(|leader| leader.rates).unwrap_or_default() })
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
    for receiver in 1..=post.receivers as u64 {
        link.send(&messages[..1])?;
        while post.ground.stopped.0.load(Acquire) < receiver {
            std::thread::sleep(NAP);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::clock::Clock;
    use crate::bench::crowd::meeting::tests::Queue;
    use crate::bench::crowd::receive::receive;
    use crate::bench::shared::Shared;

    #[test]
    fn a_crowd_comes_to_figures() {
        let (queue, ground) = (Queue::default(), Shared::<Ground>::new().unwrap());
        let clock = Clock::calibrate();
        let post = Post { ground: &ground, clock, senders: 3, receivers: 2, size: 16, batch: 32 };
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
        let rates: Vec<_> = findings.iter().map(|findings| findings.rates.len()).collect();
        assert_eq!(rates, [STRETCHES, 0, 0]);
        assert!(findings[0].rates.iter().all(|&rate| rate > 0.0));
        for findings in &findings {
            assert_eq!(findings.stretches.len(), STRETCHES);
            let figures = findings.stretches.iter().map(|stretch| stretch.share);
            assert!(figures.clone().all(|share| (0.0..=1.0).contains(&share)));
        }
        let first = |at: usize| findings.iter().any(|all| all.stretches[at].share == 1.0);
        assert!((0..STRETCHES).all(first), "one of them is the first: {findings:?}");
    }
}
