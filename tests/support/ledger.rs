//! What became of each message, in memory that all processes of a test see.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::shared::SharedWords;

/// Numbers that each sender has.
pub const NUMBERS: u64 = 1 << 22;

/// A message: a tag, and two words that follow from it.
pub type Message = [u64; 3];

/// The message of a sender that has the number.
pub fn message(sender: usize, number: u64) -> Message {
    let tag = (sender as u64) << 32 | number;
    [tag, tag * 2, tag * 3]
}

/// Whose a message is, and its number; `None` of what nobody sent.
pub fn read([tag, twice, thrice]: Message) -> Option<(usize, u64)> {
    let whole = (tag.wrapping_mul(2), tag.wrapping_mul(3)) == (twice, thrice);
    whole.then_some(((tag >> 32) as usize, tag & u64::from(u32::MAX)))
}

/// How many each sender has sent for certain, whether to stop, and how often each message was received.
pub struct Ledger {
    words: SharedWords,
    senders: usize,
}

impl Ledger {
    pub fn new(senders: usize) -> Self {
        Self { words: SharedWords::new(2 + senders + senders * NUMBERS as usize), senders }
    }

    pub fn stop(&self) -> &AtomicU64 {
        &self.words[0]
    }

    pub fn received(&self) -> &AtomicU64 {
        &self.words[1]
    }

    pub fn sent(&self, sender: usize) -> &AtomicU64 {
        &self.words[2 + sender]
    }

    pub fn seen(&self, sender: usize, number: u64) -> &AtomicU64 {
        &self.words[2 + self.senders + sender * NUMBERS as usize + number as usize]
    }

    pub fn count(&self, message: Message) {
        let (sender, number) = read(message).expect("no message is torn");
        self.seen(sender, number).fetch_add(1, Relaxed);
        self.received().fetch_add(1, Relaxed);
    }
}

/// One that has sent all its numbers stays, so that there is somebody to kill, or to be in company with.
pub fn stay(ledger: &Ledger) {
    while ledger.stop().load(Relaxed) == 0 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
