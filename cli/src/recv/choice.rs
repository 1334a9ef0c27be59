//! Which messages: options of `recv` and `tail` that are for one kind of ring.

use crate::exit::{Code, Failure, Outcome};
use crate::ring::AnyRing;
use annulus::{Delivery, Select, Start};
use clap::{Args, ValueEnum};

/// Which messages of a mailbox, by the rules of `msgrcv`.
#[derive(Clone, Debug, Args)]
#[group(multiple = false)]
pub struct SelectArgs {
    /// Of a mailbox: only messages of this type, the oldest first
    #[arg(id = "type", long, value_name = "T", value_parser = clap::value_parser!(u8).range(1..=64))]
    kind: Option<u8>,

    /// Of a mailbox: messages of this type and lower ones, those of the lowest type first
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u8).range(1..=64))]
    at_most: Option<u8>,

    /// Of a mailbox: messages of all types but this, the oldest first
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u8).range(1..=64))]
    except: Option<u8>,

    /// Of a mailbox: messages of the highest type first
    #[arg(long)]
    highest: bool,
}

impl SelectArgs {
    /// What was chosen, if anything was.
    pub fn chosen(&self) -> Option<Select> {
        match *self {
            Self { kind: Some(kind), .. } => Some(Select::Type(kind)),
            Self { at_most: Some(kind), .. } => Some(Select::AtMost(kind)),
            Self { except: Some(kind), .. } => Some(Select::Except(kind)),
            Self { highest: true, .. } => Some(Select::Highest),
            _ => None,
        }
    }
}

/// What becomes of messages of a broadcast that we are too slow for.
#[derive(Clone, Debug, Default, Args)]
#[group(multiple = false)]
pub struct DeliveryArgs {
    /// Of a broadcast: miss nothing, the sender waits for us (default)
    #[arg(long)]
    gate: bool,

    /// Of a broadcast: have nobody wait for us; how many messages were missed is said on standard error
    #[arg(long)]
    lossy: bool,
}

/// Where to begin in a broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum From {
    /// With the next message that is sent
    Now,
    /// With the oldest that is still there
    Oldest,
}

impl std::convert::From<From> for Start {
    fn from(from: From) -> Self {
        match from {
            From::Now => Self::Now,
            From::Oldest => Self::Oldest,
        }
    }
}

/// Which messages to receive.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice {
    pub select: Select,
    pub delivery: Delivery,
    pub start: Start,
}

impl Choice {
    /// What was chosen, if the ring is one that has such a choice.
    pub fn of(
        name: &str,
        ring: &AnyRing,
        select: Option<Select>,
        delivery: &DeliveryArgs,
        from: Option<From>,
    ) -> Outcome<Self> {
        let unfit = |options: &str, wanted: &str| {
            let what = ring.describe();
            let text =
                format!("{name}: {options} is for {wanted}, and this is {what}; leave it out");
            Err(Failure::new(Code::Usage, text))
        };
        let is_mailbox = matches!(ring, AnyRing::Mailbox(_));
        let is_broadcast = matches!(ring, AnyRing::Broadcast(_));
        if select.is_some() && !is_mailbox {
            return unfit("choosing by type", "mailboxes");
        }
        if (delivery.gate || delivery.lossy) && !is_broadcast {
            return unfit(if delivery.gate { "--gate" } else { "--lossy" }, "broadcasts");
        }
        if from.is_some() && !is_broadcast {
            return unfit("--from", "broadcasts");
        }
        Ok(Self {
            select: select.unwrap_or_default(),
            delivery: if delivery.lossy { Delivery::Lossy } else { Delivery::Gate },
            start: from.map(Start::from).unwrap_or_default(),
        })
    }
}
