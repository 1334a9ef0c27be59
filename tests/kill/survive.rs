//! What the living do after a kill, and the sequence they must see.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use annulus::Wait;

use super::shape::{Got, Sent, Shape};
use crate::support::process::Peer;
use crate::support::shared::SharedWords;
use crate::support::sweep::CHILD_LIFE;

/// How many messages must pass after a kill.
pub const AFTERWARDS: u64 = 1000;

/// The tags of a successor start here, far from those before the kill.
pub const RESUMED: u64 = 1 << 30;

/// Longer than any wait of the library, by so much that a busy machine does not matter.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Follows the tags that arrive: consecutive, with one jump to [`RESUMED`] where the successor of a killed
/// sender starts, and a beginning that a killed receiver may have moved.
#[derive(Debug)]
pub struct Sequence {
    next: u64,
    /// The first tag may be later than `next` by this much.
    late: u64,
    start: Option<u64>,
    /// Where the first stretch ended, once the jump was seen.
    end: Option<u64>,
}

impl Sequence {
    /// Starts with the tag `next`.
    pub fn from(next: u64) -> Self {
        Self::from_within(next, 0)
    }

    /// Starts with any of the tags `next..=next + late`.
    pub fn from_within(next: u64, late: u64) -> Self {
        Self { next, late, start: None, end: None }
    }

    /// The tag that is due.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The first tag that arrived.
    pub fn start(&self) -> Option<u64> {
        self.start
    }

    /// Where the tags before the jump ended.
    pub fn end_before_jump(&self) -> Option<u64> {
        self.end
    }

    /// Takes the tag that arrived.
    pub fn follow(&mut self, tag: u64) -> Result<(), String> {
        let due = self.next..=self.next + if self.start.is_none() { self.late } else { 0 };
        if tag == RESUMED && self.end.is_none() && !due.contains(&tag) {
            self.end = Some(self.next);
        } else if !due.contains(&tag) {
            return Err(format!("tag {tag:#x} where {due:x?} is due"));
        }
        self.start.get_or_insert(tag);
        self.next = tag + 1;
        Ok(())
    }
}

/// Receives everything that is there.
pub fn drain<S: Shape>(rx: &mut S::Receiver, sequence: &mut Sequence) -> Result<(), String> {
    loop {
        match S::try_recv(rx)? {
            Got::Tag(tag) => sequence.follow(tag)?,
            Got::Empty | Got::Disconnected => return Ok(()),
        }
    }
}

/// Passes [`AFTERWARDS`] messages, the first with the tag `first`, and drains the ring.
pub fn stream<S: Shape>(
    tx: &mut S::Sender,
    rx: &mut S::Receiver,
    first: u64,
    sequence: &mut Sequence,
) -> Result<(), String> {
    let end = first + AFTERWARDS;
    let mut next = first;
    for round in 0u64.. {
        let before = (next, sequence.next());
        if round % 2 == 0 {
            while next < end && S::try_send(tx, next)? == Sent::Yes {
                next += 1;
            }
            drain::<S>(rx, sequence)?;
        } else {
            next += S::send_batch(tx, next, (end - next).min(5) as usize)? as u64;
            let mut wrong = Ok(());
            S::recv_batch(rx, 5, |tag| {
                if wrong.is_ok() {
                    wrong = sequence.follow(tag);
                }
            })?;
            wrong?;
        }
        if sequence.next() == end {
            return Ok(());
        }
        if before == (next, sequence.next()) && round % 2 == 0 {
            return Err(format!(
                "stuck: {} of {AFTERWARDS} sent, tag {:#x} is due",
                next - first,
                sequence.next()
            ));
        }
    }
    unreachable!("the rounds are endless")
}

/// Words through which a peer process tells what it sees.
pub struct Told(SharedWords);

impl Told {
    /// Nothing told yet.
    pub fn new() -> Self {
        Self(SharedWords::new(4))
    }

    /// It has its role.
    pub fn ready(&self) -> &AtomicU64 {
        &self.0[0]
    }

    /// Messages it received, or sent.
    pub fn moved(&self) -> &AtomicU64 {
        &self.0[1]
    }

    /// How often it was told that the other side is gone, before it moved a message.
    pub fn gone(&self) -> &AtomicU64 {
        &self.0[2]
    }

    /// How often the ring's sides had slept when the peer first noticed something, by a message or by the other
    /// side's end; `None` as long as it has not.
    pub fn noticed(&self) -> Option<u64> {
        self.0[3].load(Ordering::Acquire).checked_sub(1)
    }

    fn notice(&self, sleeps: u64) {
        if self.noticed().is_none() {
            self.0[3].store(sleeps + 1, Ordering::Release);
        }
    }

    fn note_gone(&self) {
        if self.moved().load(Ordering::Relaxed) == 0 {
            self.gone().fetch_add(1, Ordering::Release);
        }
        // The successor is on its way.
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// A process that receives, sleeping whenever the ring is empty, from the tag `first` to the end of the
/// successor's stream. It tells how many came before the jump by its exit: see [`Told::moved`].
pub fn receiving_peer<S: Shape>(fd: OwnedFd, told: &Told, first: u64) -> Peer {
    Peer::spawn(CHILD_LIFE, || {
        let ring = S::from_fd(fd).expect("opens");
        let mut rx = S::receiver(&ring).expect("the role is free");
        S::receiver_waits(&mut rx, Wait::Block);
        told.ready().store(1, Ordering::Release);
        let mut sequence = Sequence::from(first);
        while sequence.next() != RESUMED + AFTERWARDS {
            let got = S::recv_within(&mut rx, CHILD_LIFE).expect("no message is torn");
            if got != Got::Empty {
                told.notice(S::sleeps(&ring));
            }
            match got {
                Got::Tag(tag) => {
                    sequence.follow(tag).expect("in order");
                    if sequence.end_before_jump().is_none() {
                        told.moved().fetch_add(1, Ordering::Release);
                    }
                }
                Got::Disconnected => told.note_gone(),
                Got::Empty => panic!("nothing came for {CHILD_LIFE:?}"),
            }
        }
    })
}

/// A process that sends the tags from `first` on until [`AFTERWARDS`] are sent, sleeping whenever the ring is full.
pub fn sending_peer<S: Shape>(fd: OwnedFd, told: &Told, first: u64) -> Peer {
    Peer::spawn(CHILD_LIFE, || {
        let ring = S::from_fd(fd).expect("opens");
        let mut tx = S::sender(&ring).expect("the role is free");
        S::sender_waits(&mut tx, Wait::Block);
        told.ready().store(1, Ordering::Release);
        let mut next = first;
        while next < first + AFTERWARDS {
            let sent = S::send_within(&mut tx, next, CHILD_LIFE).expect("the ring is sound");
            if sent != Sent::Full {
                told.notice(S::sleeps(&ring));
            }
            match sent {
                Sent::Yes => {
                    next += 1;
                    told.moved().fetch_add(1, Ordering::Release);
                }
                Sent::Disconnected => told.note_gone(),
                Sent::Full => panic!("no room for {CHILD_LIFE:?}"),
            }
        }
    })
}
