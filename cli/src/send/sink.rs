//! A ring of either kind, as what takes messages.

use crate::exit::{Code, Failure, Outcome};
use crate::ring::{AnyRing, Waiting};
use crate::{signals, units};
use annulus::{ByteSendError, ByteSender, UntypedSender};
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
}

/// The sending side of a ring.
#[derive(Debug)]
pub struct Sink<'a> {
    name: &'a str,
    side: Side,
    /// Bytes of a message, in a ring of slots.
    size: usize,
    patience: Patience,
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
    /// Becomes the sender.
    pub fn join(name: &'a str, ring: &AnyRing, wait: Waiting, patience: Patience) -> Outcome<Self> {
        let joined = match ring {
            AnyRing::Bytes(ring) => {
                ring.sender().map(|side| (Side::Bytes(Box::new(side.with_wait(wait.into()))), 0))
            }
            AnyRing::Slots(ring) => ring.sender().map(|mut side| {
                side.set_wait(wait.into());
                (Side::Slots(Box::new(side)), ring.message_size())
            }),
        };
        let (side, size) = joined.map_err(|error| Failure::setup(name, &error))?;
        Ok(Self { name, side, size, patience, totals: Totals::default() })
    }

    /// Leaves the ring, and says what went through.
    pub fn leave(self) -> Totals {
        self.totals
    }

    pub fn messages(&self) -> u64 {
        self.totals.messages
    }

    pub fn wait_for_peer(&mut self, timeout: Duration) -> bool {
        match &mut self.side {
            Side::Bytes(side) => side.wait_for_peer(timeout),
            Side::Slots(side) => side.wait_for_peer(timeout),
        }
    }

    /// Sends one message.
    #[inline]
    pub fn send(&mut self, message: &[u8]) -> Outcome {
        let sent = match &mut self.side {
            Side::Bytes(side) => side.try_send(message),
            Side::Slots(side) => side.try_send(message),
        };
        match sent {
            Ok(()) => {}
            Err(ByteSendError::Full) => self.send_slowly(message)?,
            Err(error) => return Err(Failure::send(self.name, error)),
        }
        self.count(1, message.len());
        Ok(())
    }

    /// Sends the messages of one size that `bytes` is made of.
    pub fn send_blocks(&mut self, bytes: &[u8]) -> Outcome {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Side::Slots(side) = &mut self.side else { return self.send(rest) };
            let count = side.try_send_batch(rest);
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
            let text = format!("{}: the ring is full", self.name);
            return Err(Failure::new(Code::WouldBlock, text));
        }
        let deadline = self.patience.deadline();
        loop {
            signals::check()?;
            let slice = self.patience.slice(deadline);
            let sent = match &mut self.side {
                Side::Bytes(side) => side.send_timeout(message, slice),
                Side::Slots(side) => side.send_timeout(message, slice),
            };
            match sent {
                Ok(()) => return Ok(()),
                Err(ByteSendError::Timeout)
                    if deadline.is_none_or(|deadline| Instant::now() < deadline) => {}
                Err(error) => return Err(Failure::send(self.name, error)),
            }
        }
    }
}
