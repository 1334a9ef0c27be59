//! What a transport has to provide: two ends of a conversation that two processes hold.
//!
//! The measuring loops are generic over [`Link`], so that each transport gets a loop of its own, compiled as if it had been
//! written by hand: nothing is dispatched per message.

use std::fmt;
use std::io;

use super::payload::Payload;

/// Which of the two workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Starts each round trip; sends in the rate test.
    Near,
    /// Answers each round trip; receives in the rate test.
    Far,
}

impl Side {
    pub fn name(self) -> &'static str {
        match self {
            Self::Near => "sending",
            Self::Far => "receiving",
        }
    }
}

/// What is measured on a link.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Bytes of a message.
    pub size: usize,
    /// How the sides of our own rings wait.
    pub wait: Waiting,
    /// Both workers share one processor.
    pub one_cpu: bool,
}

/// How a side waits for its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Waiting {
    /// Looks again and again, never sleeps.
    Spin,
    /// Looks for a while, then sleeps.
    Adaptive,
    /// Sleeps until woken.
    Block,
}

impl Waiting {
    pub fn name(self) -> &'static str {
        match self {
            Self::Spin => "spin",
            Self::Adaptive => "adaptive",
            Self::Block => "block",
        }
    }
}

impl From<Waiting> for annulus::Wait {
    fn from(wait: Waiting) -> Self {
        match wait {
            Waiting::Spin => Self::Spin,
            Waiting::Adaptive => Self::Adaptive,
            Waiting::Block => Self::Block,
        }
    }
}

/// Why a link could not be made.
#[derive(Debug)]
pub enum Refusal {
    /// The machine does not offer this: the row is shown without figures, and with this reason.
    Unavailable(String),
    /// Something is wrong: the run ends.
    Broken(String),
}

impl Refusal {
    /// The kernel refused a call, which is its right.
    pub fn by_kernel(call: &str, error: impl fmt::Display) -> Self {
        Self::Unavailable(format!("{call}: {error}"))
    }
}

/// Something that joins two processes. Made by the coordinator, inherited by both workers through fork.
pub trait Transport: Sized {
    type Link: Link;

    /// Makes the shared objects, with their names already removed where the kernel allows it.
    fn prepare(setup: &Setup) -> Result<Self, Refusal>;

    /// Takes one side's ends, in the worker. The other ends are closed.
    fn attach(self, side: Side, setup: &Setup) -> Result<Self::Link, Failure>;
}

/// One side of a conversation.
pub trait Link {
    type Message: Payload;

    /// Sends one message, waiting for room.
    fn send(&mut self, message: &Self::Message) -> Result<(), Failure>;

    /// Receives one message, waiting for it.
    fn recv(&mut self, message: &mut Self::Message) -> Result<(), Failure>;

    /// Fills a message and sends it.
    #[inline(always)]
    fn send_filled(&mut self, sequence: u64, message: &mut Self::Message) -> Result<(), Failure> {
        message.fill(sequence);
        self.send(message)
    }

    /// Receives a message and says whether it is the one that was sent under this number.
    #[inline(always)]
    fn recv_checked(
        &mut self,
        sequence: u64,
        message: &mut Self::Message,
    ) -> Result<bool, Failure> {
        self.recv(message)?;
        Ok(message.matches(sequence))
    }

    /// Called on both sides between the round trips and the rate test.
    fn one_way(&mut self) {}
}

/// Why a worker gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// A message arrived that nobody sent.
    WrongPayload(String),
    /// A call failed.
    Call(String),
}

impl Failure {
    #[cold]
    pub fn call(name: &str, error: impl fmt::Display) -> Self {
        Self::Call(format!("{name}: {error}"))
    }

    #[cold]
    pub fn wrong(expected: u64) -> Self {
        Self::WrongPayload(format!("message {expected} arrived with other bytes than were sent"))
    }

    #[cold]
    pub fn wrong_length(got: usize, expected: usize) -> Self {
        Self::WrongPayload(format!("a message of {got} bytes arrived where {expected} were sent"))
    }

    #[cold]
    pub fn wrong_type(got: i64, expected: i64) -> Self {
        Self::WrongPayload(format!(
            "a message of type {got} arrived where {expected} was asked for"
        ))
    }

    #[cold]
    pub fn wrong_flags(got: u64, expected: u64) -> Self {
        Self::WrongPayload(format!("flags {got:#x} were taken where {expected:#x} were raised"))
    }

    #[cold]
    pub fn went_back(got: u64, before: u64) -> Self {
        Self::WrongPayload(format!("after number {before} there was number {got}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongPayload(text) | Self::Call(text) => f.write_str(text),
        }
    }
}

impl From<io::Error> for Failure {
    #[cold]
    fn from(error: io::Error) -> Self {
        Self::Call(error.to_string())
    }
}

impl From<nix::Error> for Failure {
    #[cold]
    fn from(error: nix::Error) -> Self {
        Self::Call(error.to_string())
    }
}
