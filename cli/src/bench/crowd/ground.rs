//! What the workers of a crowd share beside the messages: how long a stretch is, who is done, what arrived.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::args::MOST;
use super::meeting::Terms;
use crate::bench::clock::Clock;
use crate::bench::payload::Payload;
use crate::bench::shared::{Barrier, Line, Meeting, Shareable};

/// The shared pages of one row. Whoever leads writes it between two stretches, when all others wait.
#[repr(C)]
pub struct Ground {
    pub meeting: Meeting,
    /// Messages of each sender in the coming stretch; 0 ends it all.
    pub count: Line,
    /// Senders that have sent everything.
    pub finished: Line,
    /// Receivers that have been told to stop.
    pub stopped: Line,
    /// When the first sender began.
    pub started: Line,
    /// When a receiver learnt that everything was sent, and had been taken.
    pub ended: Line,
    pub senders: [Desk; MOST],
}

/// A worker's place in the crowd.
#[derive(Clone, Copy)]
pub struct Post<'a> {
    pub ground: &'a Ground,
    pub clock: Clock,
    pub terms: &'a Terms,
}

impl Post<'_> {
    /// Room for the messages of a call.
    pub fn blank<M: Payload>(&self) -> Vec<M> {
        (0..self.terms.batch).map(|_| M::blank(self.terms.setup.size)).collect()
    }

    /// The barrier of all, as one of them holds it.
    pub fn barrier(&self) -> Barrier<'_> {
        self.ground.meeting.barrier(self.terms.workers())
    }
}

/// Where the number of the sender is in a sequence number.
const SENDER_SHIFT: u32 = 40;

/// The sequence number of a sender's message.
#[inline]
pub fn sequence_of(sender: usize, number: u64) -> u64 {
    (sender as u64) << SENDER_SHIFT | number
}

/// Whose message has this sequence number, and its number among that one's.
#[inline]
pub fn sender_and_number(sequence: u64) -> (usize, u64) {
    ((sequence >> SENDER_SHIFT) as usize, sequence & ((1 << SENDER_SHIFT) - 1))
}

/// What concerns one sender.
#[repr(C)]
pub struct Desk {
    /// Messages sent so far in this stretch.
    pub sent: Line,
    /// The same when the first of all senders was done.
    pub sent_at_first_end: AtomicU64,
    /// What arrived of its messages, at whatever receiver; written at the end of a stretch.
    arrived: [AtomicU64; 3],
}

// SAFETY: atomics with padding.
unsafe impl Shareable for Ground {}

impl Ground {
    /// Prepares the next stretch.
    pub fn announce(&self, count: u64) {
        self.count.0.store(count, Relaxed);
        self.finished.0.store(0, Relaxed);
        self.stopped.0.store(0, Relaxed);
        self.started.0.store(u64::MAX, Relaxed);
        self.ended.0.store(u64::MAX, Relaxed);
    }
}

impl Desk {
    /// Adds what one receiver had of this sender.
    pub fn add(&self, arrived: &Arrived) {
        for (word, value) in self.arrived.iter().zip([arrived.count, arrived.sum, arrived.squares])
        {
            word.fetch_add(value, Relaxed);
        }
    }

    /// Whether each of the sender's `count` messages arrived, once. Forgets them all.
    pub fn is_complete(&self, count: u64) -> bool {
        let expected = Arrived::all(count);
        let [arrived, sum, squares] = [0, 1, 2].map(|at| self.arrived[at].swap(0, Relaxed));
        (arrived, sum, squares) == (expected.count, expected.sum, expected.squares)
    }
}

/// What a receiver had of one sender. Numbers that are missing and others that came twice do not make up for each
/// other in all of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    pub last: u64,
    pub count: u64,
    sum: u64,
    squares: u64,
}

impl Arrived {
    #[inline]
    pub fn add(&mut self, number: u64) {
        self.last = number;
        self.count += 1;
        self.sum = self.sum.wrapping_add(number);
        self.squares = self.squares.wrapping_add(number.wrapping_mul(number));
    }

    /// The numbers from 1 to `count`.
    fn all(count: u64) -> Self {
        let n = u128::from(count);
        Self {
            last: count,
            count,
            sum: (n * (n + 1) / 2) as u64,
            squares: (n * (n + 1) * (2 * n + 1) / 6) as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::shared::Shared;

    #[test]
    fn a_lost_and_a_doubled_message_are_noticed() {
        let ground = Shared::<Ground>::new().unwrap();
        let desk = &ground.senders[MOST - 1];
        let arrive = |numbers: &[u64]| {
            let mut arrived = Arrived::default();
            numbers.iter().for_each(|&number| arrived.add(number));
            desk.add(&arrived);
        };
        arrive(&[1, 4]);
        arrive(&[2, 3]);
        assert!(desk.is_complete(4));
        for wrong in [&[1, 2, 3][..], &[1, 2, 3, 4, 4], &[1, 1, 4, 4], &[2, 2, 3, 3]] {
            arrive(wrong);
            assert!(!desk.is_complete(4), "{wrong:?}");
        }
        assert!(desk.is_complete(0));
        (1..=1000).for_each(|number| arrive(&[number]));
        assert!(desk.is_complete(1000));
    }
}
