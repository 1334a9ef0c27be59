//! What gives messages: a ring of any kind.

use super::choice::Choice;
use super::join::{FULL, Joiner};
use super::missed::{self, Missed};
use crate::exit::{Code, Failure, Outcome};
use crate::ring::{AnyRing, Waiting};
use annulus::{
    BroadcastRecvError, ByteBroadcastReceiver, ByteReceiver, Ending, Letter, MailReceiver,
    MailRecvError, RecvTimeoutError, Select, Start, TryRecvError, UntypedReceiver,
};
use std::time::Duration;

/// The receiving side of a ring.
#[derive(Debug)]
pub struct Source<'a> {
    name: &'a str,
    side: Side<'a>,
}

#[derive(Debug)]
enum Side<'a> {
    Bytes {
        side: Box<ByteReceiver>,
        /// Bytes to look at together: part of the ring, so that the sender can fill the rest meanwhile.
        batch: usize,
    },
    Slots {
        side: Box<UntypedReceiver>,
        size: usize,
        buffer: Vec<u8>,
    },
    Mailbox {
        side: Box<MailReceiver>,
        select: Select,
        buffer: Vec<u8>,
        /// What was received while waiting, and not handed on yet.
        received: Option<Letter>,
    },
    Broadcast(Box<ByteBroadcastReceiver>, Missed<'a>),
}

/// Why there is no message.
#[derive(Debug)]
pub enum Dry {
    /// None is there yet.
    Empty,
    /// There is none, and whoever could send one has left.
    Over,
    /// There will be none.
    Failed(Failure),
}

impl From<Failure> for Dry {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl<'a> Source<'a> {
    /// Becomes a receiver.
    pub fn join(name: &'a str, ring: &AnyRing, choice: Choice, wait: Waiting) -> Outcome<Self> {
        let joined = match ring {
            AnyRing::Bytes(ring) => ring.receiver().map(|side| Side::Bytes {
                batch: ring.capacity() / 4,
                side: Box::new(side.with_wait(wait.into())),
            }),
            AnyRing::Slots(ring) => ring.receiver().map(|mut side| {
                side.set_wait(wait.into());
                let size = ring.message_size();
                let messages = (FULL / size).min(ring.capacity() / 4).max(1);
                Side::Slots { side: Box::new(side), size, buffer: vec![0; messages * size] }
            }),
            AnyRing::Mailbox(mailbox) => mailbox.receiver().map(|side| Side::Mailbox {
                side: Box::new(side.with_wait(wait.into())),
                select: choice.select,
                buffer: vec![0; mailbox.longest()],
                received: None,
            }),
            AnyRing::Broadcast(broadcast) => {
                broadcast.receiver(choice.delivery, choice.start).map(|side| {
                    Side::Broadcast(Box::new(side.with_wait(wait.into())), Missed::of(name))
                })
            }
        };
        let side = joined.map_err(|error| Failure::setup(name, &error))?;
        Ok(Self { name, side })
    }

    /// Whether messages stay in the ring until they are [skipped](Self::skip). If not, they are taken when they are
    /// added, and whoever adds one must print it.
    pub fn keeps(&self) -> bool {
        matches!(self.side, Side::Bytes { .. } | Side::Slots { .. })
    }

    /// Whether a message was taken already that is still to be added.
    pub fn has_taken(&self) -> bool {
        matches!(self.side, Side::Mailbox { received: Some(_), .. })
    }

    /// Adds messages that are there now to `joiner`, at most `most` and, of those that [stay](Self::keeps), only what
    /// fits into its first `limit` bytes, and says how many.
    pub fn fill(&mut self, joiner: &mut Joiner, most: u64, limit: usize) -> Result<usize, Dry> {
        let mut left = most;
        let filled = match &mut self.side {
            Side::Bytes { side, batch } => {
                let mut room = *batch;
                side.try_peek_batch(|message| {
                    if left == 0 || !joiner.fits(message.len(), limit) {
                        return false;
                    }
                    left -= 1;
                    joiner.add(message.len(), |to| message.copy_to(to));
                    room = room.saturating_sub(message.len() + 8);
                    if room == 0 || joiner.is_full() {
                        left = 0;
                    }
                    true
                })
            }
            Side::Slots { side, size, buffer } => {
                let most = usize::try_from(most).unwrap_or(usize::MAX).saturating_mul(*size);
                let end = most.min(buffer.len());
                side.try_peek_batch(&mut buffer[..end]).map(|count| {
                    if joiner.joins_bare() && limit == usize::MAX {
                        let bytes = &buffer[..count * *size];
                        joiner.add(bytes.len(), |to| to.copy_from_slice(bytes));
                        return count;
                    }
                    let mut added = 0;
                    for message in buffer.chunks_exact(*size).take(count) {
                        if !joiner.fits(*size, limit) {
                            break;
                        }
                        joiner.add(*size, |to| to.copy_from_slice(message));
                        added += 1;
                    }
                    added
                })
            }
            Side::Mailbox { side, select, buffer, received } => {
                // One at a time: each is gone from the mailbox before it is printed.
                let letter = match received.take() {
                    Some(letter) => Ok(letter),
                    None => side.try_recv(*select, buffer),
                };
                let letter = letter.map_err(|error| no_letter(self.name, error))?;
                joiner.add(letter.length, |to| to.copy_from_slice(&buffer[..letter.length]));
                return Ok(1);
            }
            Side::Broadcast(side, missed) => {
                return fill_from(self.name, side, missed, joiner, most);
            }
        };
        filled.map_err(|error| match error {
            TryRecvError::Empty => Dry::Empty,
            TryRecvError::Disconnected => Dry::Over,
            error => Failure::of(self.name, &error).into(),
        })
    }

    /// Whether there is no sender any more, and how it ended.
    pub fn ending(&self) -> Option<Ending> {
        match &self.side {
            Side::Bytes { side, .. } => side.ending(),
            Side::Slots { side, .. } => side.ending(),
            Side::Broadcast(side, _) => side.ending(),
            Side::Mailbox { .. } => None,
        }
    }

    /// That nothing is there, or nothing came in time: in the words of what was asked.
    pub fn nothing(&self, in_time: bool) -> Failure {
        let name = self.name;
        match (&self.side, in_time) {
            (Side::Bytes { .. } | Side::Slots { .. }, false) => {
                Failure::of(name, &TryRecvError::Empty)
            }
            (Side::Bytes { .. } | Side::Slots { .. }, true) => {
                Failure::of(name, &RecvTimeoutError::Timeout)
            }
            (Side::Mailbox { .. }, false) => Failure::of(name, &MailRecvError::Empty),
            (Side::Mailbox { .. }, true) => Failure::of(name, &MailRecvError::Timeout),
            (Side::Broadcast(..), false) => Failure::of(name, &BroadcastRecvError::Empty),
            (Side::Broadcast(..), true) => Failure::of(name, &BroadcastRecvError::Timeout),
        }
    }

    /// Takes messages that were added.
    pub fn skip(&mut self, count: usize) {
        match &mut self.side {
            Side::Bytes { side, .. } => side.skip(count),
            Side::Slots { side, .. } => side.skip(count),
            Side::Mailbox { .. } | Side::Broadcast(..) => count,
        };
    }

    /// Waits until there is a message to add.
    pub fn wait_ready(&mut self, timeout: Duration) -> Result<(), Dry> {
        let waited = match &mut self.side {
            Side::Bytes { side, .. } => side.wait_ready(timeout),
            Side::Slots { side, .. } => side.wait_ready(timeout),
            Side::Mailbox { side, select, buffer, received } => {
                let letter = side.recv_timeout(*select, buffer, timeout);
                *received = Some(letter.map_err(|error| no_letter(self.name, error))?);
                return Ok(());
            }
            Side::Broadcast(side, missed) => {
                missed.add(0);
                return match side.wait_ready(timeout) {
                    Err(error) => Err(no_message(self.name, error)),
                    Ok(()) => Ok(()),
                };
            }
        };
        waited.map_err(|error| match error {
            RecvTimeoutError::Timeout => Dry::Empty,
            RecvTimeoutError::Disconnected => Dry::Over,
            error => Failure::of(self.name, &error).into(),
        })
    }

    pub fn wait_for_peer(&mut self, timeout: Duration) -> bool {
        match &mut self.side {
            Side::Bytes { side, .. } => side.wait_for_peer(timeout),
            Side::Slots { side, .. } => side.wait_for_peer(timeout),
            Side::Broadcast(side, _) => side.wait_for_peer(timeout),
            // Senders come and go, and nobody waits for one.
            Side::Mailbox { .. } => true,
        }
    }
}

/// Adds messages of a broadcast until there are no more now, or enough; tells how many were missed in between.
fn fill_from(
    name: &str,
    side: &mut ByteBroadcastReceiver,
    missed: &mut Missed<'_>,
    joiner: &mut Joiner,
    most: u64,
) -> Result<usize, Dry> {
    let mut added = 0;
    while (added as u64) < most && !joiner.is_full() {
        match side.try_recv() {
            Ok(message) => {
                joiner.add(message.len(), |to| to.copy_from_slice(message));
                added += 1;
            }
            Err(BroadcastRecvError::Lagged(count)) => missed.add(count),
            // What is there first; the next call says the same.
            Err(_) if added > 0 => break,
            Err(BroadcastRecvError::Evicted) => {
                let lost = side.rejoin(Start::Oldest);
                let lost = lost.map_err(|error| no_message(name, error))?;
                let why = "the sender waited too long for this receiver, and went on";
                let text = format!("{name}: {why}; {}", missed::sentence(lost));
                return Err(Failure::new(Code::Failure, text).into());
            }
            Err(error) => return Err(no_message(name, error)),
        }
    }
    Ok(added)
}

/// Why a broadcast gave no message.
pub fn no_message(name: &str, error: BroadcastRecvError) -> Dry {
    match error {
        BroadcastRecvError::Empty | BroadcastRecvError::Timeout => Dry::Empty,
        BroadcastRecvError::Disconnected => Dry::Over,
        error => Failure::of(name, &error).into(),
    }
}

/// Why a mailbox gave no message.
pub fn no_letter(name: &str, error: MailRecvError) -> Dry {
    match error {
        MailRecvError::Empty | MailRecvError::Timeout => Dry::Empty,
        error => Failure::of(name, &error).into(),
    }
}
