//! The scenarios: messages pass from one process to another, and sometimes one of them dies.

use crate::explore::{End, process};
use crate::ring::{Kind, Receiver, Ring, Sender, Verbs, Waiting};
use loom::thread;
use std::cell::Cell;
use std::sync::Arc;

/// A ring and the messages that pass through it.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// What the ring holds.
    pub kind: Kind,
    /// Which calls the sides make.
    pub verbs: Verbs,
    /// How both sides wait.
    pub waiting: Waiting,
    /// Messages that have passed before: so far into its lap is the ring.
    pub start: u64,
    /// Messages that are in the ring when the two processes begin.
    pub before: u64,
    /// Messages that pass, with those that were there before.
    pub count: u64,
    /// Most messages sent by a call.
    pub send_batch: u64,
    /// Most messages received by a call.
    pub receive_batch: u64,
    /// Calls that each process makes where nobody waits.
    pub tries: usize,
}

impl Exchange {
    /// The number of the first message that is yet to be sent.
    fn begin(self) -> u64 {
        self.start + self.before
    }

    fn end(self) -> u64 {
        self.start + self.count
    }

    fn ring(self) -> Arc<Ring> {
        Ring::new(self.kind, self.verbs, self.waiting, self.start, self.before)
    }

    /// Sends messages up to `end`. `number` is the next one, at every moment.
    fn send(self, ring: &Arc<Ring>, number: &Cell<u64>, end: u64) {
        let mut sender = Sender::join(ring);
        let mut tries = self.tries;
        while number.get() < end {
            let most = self.send_batch.min(end - number.get());
            let sent = if self.waiting != Waiting::Never {
                sender.send(number.get(), most).expect("the receiver is there")
            } else if tries > 0 {
                tries -= 1;
                sender.try_send(number.get(), most).unwrap_or(0)
            } else {
                return;
            };
            number.set(number.get() + sent);
        }
    }

    /// Receives messages up to `end`. `number` is the next one, at every moment.
    fn receive(self, ring: &Arc<Ring>, number: &Cell<u64>, end: u64) {
        let mut receiver = Receiver::join(ring);
        let mut tries = self.tries;
        while number.get() < end {
            let most = self.receive_batch.min(end - number.get());
            let received = if self.waiting != Waiting::Never {
                receiver.receive(number.get(), most).expect("the sender is there")
            } else if tries > 0 {
                tries -= 1;
                receiver.try_receive(number.get(), most).unwrap_or(0)
            } else {
                return;
            };
            number.set(number.get() + received);
        }
    }

    /// Passes the rest, one side after the other, when both processes are done. `received` is what has
    /// been received by then.
    fn finish(self, ring: &Arc<Ring>, received: &Cell<u64>) {
        let (mut sender, mut receiver) = (Sender::join(ring), Receiver::join(ring));
        let mut sent = ring.sent();
        assert_eq!(received.get(), ring.received());
        // A round may pass nothing but a pad.
        let mut idle = 0;
        while received.get() < self.end() {
            let before = (sent, received.get());
            while sent < self.end() {
                let most = self.send_batch.min(self.end() - sent);
                let Ok(count) = sender.try_send(sent, most) else { break };
                sent += count;
            }
            let most = self.receive_batch.min(self.end() - received.get());
            received.set(received.get() + receiver.try_receive(received.get(), most).unwrap_or(0));
            idle = if before == (sent, received.get()) { idle + 1 } else { 0 };
            assert!(idle < 3, "the ring is stuck");
        }
        assert_eq!(receiver.try_receive(self.end(), 1), None, "a message comes out of nowhere");
    }

    /// Nobody dies: every message arrives, once, whole and in order, and nobody sleeps for ever.
    pub fn undisturbed(self) {
        let ring = self.ring();
        let there = Arc::clone(&ring);
        let sender = thread::spawn(move || self.send(&there, &Cell::new(self.begin()), self.end()));
        let received = Cell::new(self.start);
        self.receive(&ring, &received, self.end());
        sender.join().unwrap();
        self.finish(&ring, &received);
    }

    /// The sender is killed and another takes its role: what was committed arrives, what was not is as
    /// if it had never been begun.
    pub fn sender_dies(self, kill: Option<usize>) -> End {
        let ring = self.ring();
        let there = Arc::clone(&ring);
        let sender = thread::spawn(move || {
            let number = Cell::new(self.begin());
            let end = process(kill, || self.send(&there, &number, self.end() - 1));
            let done = number.get();
            drop(Sender::join(&there));
            number.set(there.sent());
            assert!(done <= number.get(), "a message that was sent is sent again");
            assert!(number.get() <= done + self.send_batch, "a message is left out");
            self.send(&there, &number, self.end());
            end
        });
        let received = Cell::new(self.start);
        self.receive(&ring, &received, self.end());
        let end = sender.join().unwrap();
        self.finish(&ring, &received);
        end
    }

    /// The receiver is killed and another takes its role: nothing that the first had not taken is lost,
    /// and only what it was about to take arrives again.
    pub fn receiver_dies(self, kill: Option<usize>) -> End {
        let ring = self.ring();
        let there = Arc::clone(&ring);
        let receiver = thread::spawn(move || {
            let number = Cell::new(self.start);
            let end = process(kill, || self.receive(&there, &number, self.end() - 1));
            let done = number.get();
            number.set(there.received());
            assert!(done <= number.get(), "a message that was received comes again");
            assert!(number.get() <= done + self.receive_batch, "a message is left out");
            self.receive(&there, &number, self.end());
            (end, number.get())
        });
        self.send(&ring, &Cell::new(self.begin()), self.end());
        let (end, received) = receiver.join().unwrap();
        self.finish(&ring, &Cell::new(received));
        end
    }

    /// The sender is killed and nobody comes after it: a receiver gets everything committed, asleep or
    /// not, at the latest by the end of its slice.
    pub fn sender_dies_alone(self, kill: Option<usize>) -> End {
        let ring = self.ring();
        let there = Arc::clone(&ring);
        let sender = thread::spawn(move || {
            let number = Cell::new(self.begin());
            let end = process(kill, || self.send(&there, &number, self.end()));
            there.let_time_pass_for_receiver();
            end
        });
        let mut receiver = Receiver::join(&ring);
        let mut number = self.start;
        while let Some(count) = receiver.receive(number, self.receive_batch) {
            number += count;
        }
        let end = sender.join().unwrap();
        // The next sender finds out how much was committed.
        drop(Sender::join(&ring));
        assert_eq!(number, ring.sent(), "a committed message is lost");
        end
    }

    /// The receiver is killed and nobody comes after it: a sender fills the ring, asleep or not, at the
    /// latest by the end of its slice.
    pub fn receiver_dies_alone(self, kill: Option<usize>) -> End {
        let ring = self.ring();
        let there = Arc::clone(&ring);
        let receiver = thread::spawn(move || {
            let number = Cell::new(self.start);
            let end = process(kill, || self.receive(&there, &number, self.end()));
            there.let_time_pass_for_sender();
            end
        });
        let mut sender = Sender::join(&ring);
        let mut number = self.begin();
        while let Some(count) = sender.send(number, self.send_batch) {
            number += count;
        }
        let end = receiver.join().unwrap();
        assert_eq!(number, ring.received() + self.kind.capacity(), "there is room left");
        end
    }

    /// A receiver waits for a sender, which comes, or is killed while it does: nobody who has come and is
    /// there goes unseen.
    pub fn sender_comes(self, kill: Option<usize>) -> End {
        let ring = self.ring();
        let there = Arc::clone(&ring);
        let sender = thread::spawn(move || {
            let end = process(kill, || drop(Sender::join(&there)));
            if end.killed {
                there.let_time_pass_for_receiver();
            }
            end
        });
        let found = Receiver::join(&ring).wait_for_sender();
        let end = sender.join().unwrap();
        assert!(found || end.killed, "the slice never ended");
        end
    }
}
