//! What takes messages: a ring of any kind.

use crate::exit::{Code, Failure, Outcome};
use crate::ring::{AnyRing, Waiting};
use crate::{signals, units};
use annulus::{
    ByteBroadcastSender, ByteSendError, ByteSender, MailSendError, MailSender, UntypedSender,
};
use std::time::{Duration, Instant};

/// How long to wait for the other side, each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Not at all.
    None,
    /// So long.
    For(Duration),
    /// For ever.
    Endless,
}

impl Patience {
    pub fn of(timeout: Option<Duration>) -> Self {
        timeout.map_or(Self::Endless, Self::For)
    }

    /// When it ends that begins now.
    pub fn deadline(self) -> Option<Instant> {
        match self {
            Self::None => Some(Instant::now()),
            Self::For(timeout) => Instant::now().checked_add(timeout),
            Self::Endless => None,
        }
    }

    /// How long to wait before the next look around.
    pub fn slice(self, deadline: Option<Instant>) -> Duration {
        let rest = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        rest.map_or(signals::SLICE, |rest| rest.min(signals::SLICE))
    }
}

#[derive(Debug)]
enum Side {
    Bytes(Box<ByteSender>),
    Slots(Box<UntypedSender>),
    /// With the type of the messages.
    Mailbox(Box<MailSender>, u8),
    Broadcast(Box<ByteBroadcastSender>),
}

/// Why a message was not sent.
enum Refused {
    /// There is no room now.
    Full,
    /// There was none in time.
    Timeout,
    Failed(Failure),
}

impl Refused {
    fn by_ring(name: &str, error: ByteSendError) -> Self {
        match error {
            ByteSendError::Full => Self::Full,
            ByteSendError::Timeout => Self::Timeout,
            error => Self::Failed(Failure::of(name, &error)),
        }
    }

    fn by_mailbox(name: &str, error: MailSendError) -> Self {
        match error {
            MailSendError::Full => Self::Full,
            MailSendError::Timeout => Self::Timeout,
            error => Self::Failed(Failure::of(name, &error)),
        }
    }
}

/// The sending side of a ring.
#[derive(Debug)]
pub struct Sink<'a> {
    name: &'a str,
    side: Side,
    /// Bytes of a message, where all have one size.
    size: usize,
    patience: Patience,
    /// How long a receiver of a broadcast may keep the sender waiting.
    eviction: Option<Duration>,
    totals: Totals,
}

/// What went through.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub messages: u64,
    pub bytes: u64,
}

impl Totals {
    /// For people.
    pub fn sentence(self, verb: &str, elapsed: Duration) -> String {
        let seconds = elapsed.as_secs_f64().max(1e-9);
        format!(
            "{verb} {}, {}, in {seconds:.3} s: {:.0} messages/s, {}/s",
            units::messages(self.messages),
            units::bytes(self.bytes),
            self.messages as f64 / seconds,
            units::bytes((self.bytes as f64 / seconds) as u64)
        )
    }
}

impl<'a> Sink<'a> {
    /// Becomes a sender, of messages of type `kind` in a mailbox.
    pub fn join(
        name: &'a str,
        ring: &AnyRing,
        kind: u8,
        wait: Waiting,
        patience: Patience,
    ) -> Outcome<Self> {
        let joined = match ring {
            AnyRing::Bytes(ring) => {
                ring.sender().map(|side| (Side::Bytes(Box::new(side.with_wait(wait.into()))), 0))
            }
            AnyRing::Slots(ring) => ring.sender().map(|mut side| {
                side.set_wait(wait.into());
                (Side::Slots(Box::new(side)), ring.message_size())
            }),
            AnyRing::Mailbox(mailbox) => mailbox
                .sender()
                .map(|side| (Side::Mailbox(Box::new(side.with_wait(wait.into())), kind), 0)),
            AnyRing::Broadcast(broadcast) => broadcast.sender().map(|side| {
                (Side::Broadcast(Box::new(side.with_wait(wait.into()))), broadcast.longest())
            }),
        };
        let (side, size) = joined.map_err(|error| Failure::setup(name, &error))?;
        Ok(Self { name, side, size, patience, eviction: None, totals: Totals::default() })
    }

    /// Leaves the ring, and says what went through.
    pub fn leave(self) -> Totals {
        self.totals
    }

    /// Ends without leaving, when not all was sent that there was to be: receivers must not take it for the whole. So the
    /// process has died for them when it ends, and the last of them removes the name.
    pub fn vanish(self) -> Totals {
        let totals = self.totals;
        std::mem::forget(self);
        totals
    }

    pub fn messages(&self) -> u64 {
        self.totals.messages
    }

    pub fn wait_for_peer(&mut self, timeout: Duration) -> bool {
        match &mut self.side {
            Side::Bytes(side) => side.wait_for_peer(timeout),
            Side::Slots(side) => side.wait_for_peer(timeout),
            Side::Broadcast(side) => side.wait_for_peer(timeout),
            // Receivers come and go, and nobody waits for one.
            Side::Mailbox(..) => true,
        }
    }

    /// Has a receiver of a broadcast evicted that keeps the sender waiting for so long.
    pub fn evict_after(&mut self, eviction: Option<Duration>) {
        self.eviction = eviction;
    }

    /// Sends one message.
    #[inline]
    pub fn send(&mut self, message: &[u8]) -> Outcome {
        let sent = match &mut self.side {
            Side::Bytes(side) => side.try_send(message),
            Side::Slots(side) => side.try_send(message),
            Side::Broadcast(side) => side.try_send(message),
            Side::Mailbox(side, kind) => match side.try_send(*kind, message) {
                Ok(()) => Ok(()),
                Err(error) => match Refused::by_mailbox(self.name, error) {
                    Refused::Failed(failure) => return Err(failure),
                    _ => Err(ByteSendError::Full),
                },
            },
        };
        match sent {
            Ok(()) => {}
            Err(ByteSendError::Full) => self.send_slowly(message)?,
            Err(error) => return Err(Failure::of(self.name, &error)),
        }
        self.count(1, message.len());
        Ok(())
    }

    /// Sends the messages of one size that `bytes` is made of.
    pub fn send_blocks(&mut self, bytes: &[u8]) -> Outcome {
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = match &mut self.side {
                Side::Slots(side) => side.try_send_batch(rest),
                _ => 0,
            };
            let (now, later) = rest.split_at(count * self.size);
            self.count(count as u64, now.len());
            rest = later;
            if count == 0 {
                // Waits, or says why there is no room.
                let (one, later) = rest.split_at(self.size);
                self.send(one)?;
                rest = later;
            }
        }
        Ok(())
    }

    #[inline]
    fn count(&mut self, messages: u64, bytes: usize) {
        self.totals.messages += messages;
        self.totals.bytes += bytes as u64;
    }

    /// Waits for room, a slice at a time.
    #[cold]
    #[inline(never)]
    fn send_slowly(&mut self, message: &[u8]) -> Outcome {
        if self.patience == Patience::None {
            let text = match &self.side {
                Side::Mailbox(..) => format!("{}: {}", self.name, MailSendError::Full),
                _ => format!("{}: the ring is full", self.name),
            };
            return Err(Failure::new(Code::WouldBlock, text));
        }
        let (begin, deadline) = (Instant::now(), self.patience.deadline());
        loop {
            signals::check()?;
            let slice = self.patience.slice(deadline);
            let ring = |error| Refused::by_ring(self.name, error);
            let sent = match &mut self.side {
                Side::Bytes(side) => side.send_timeout(message, slice).map_err(ring),
                Side::Slots(side) => side.send_timeout(message, slice).map_err(ring),
                Side::Broadcast(side) => {
                    // The wait is cut into slices, each of which the library takes for one of its own.
                    let left = self.eviction.map(|most| most.saturating_sub(begin.elapsed()));
                    side.set_patience(left.filter(|left| *left < slice));
                    side.send_timeout(message, slice).map_err(ring)
                }
                Side::Mailbox(side, kind) => side
                    .send_timeout(*kind, message, slice)
                    .map_err(|error| Refused::by_mailbox(self.name, error)),
            };
            match sent {
                Ok(()) => return Ok(()),
                Err(Refused::Failed(failure)) => return Err(failure),
                Err(Refused::Full | Refused::Timeout) => {}
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(Failure::of(self.name, &ByteSendError::Timeout));
            }
        }
    }
}
