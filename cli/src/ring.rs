//! A ring of either kind, by name.

use crate::exit::{Code, Failure, Outcome};
use crate::units;
use annulus::{ByteRing, Participant, Place, Role, SetupError, Stats, UntypedRing, Wait};
use clap::ValueEnum;

/// Capacity of a byte ring that is made without one.
pub const DEFAULT_BYTES: usize = 1 << 20;

/// Where a NAME is: a ring's name, or a path if it contains a slash.
pub fn place(name: &str) -> Outcome<Place> {
    let place = if name.contains('/') { Place::path(name) } else { Place::name(name) };
    place.map_err(|error| Failure::new(Code::Usage, error.to_string()))
}

/// How `send` and `recv` get at their ring.
#[derive(Clone, Debug, clap::Args)]
pub struct RingArgs {
    /// The ring: a name in /dev/shm, or a path if it contains a slash
    pub name: String,

    /// Make the ring if there is none: a byte ring of 1 MiB, or of --capacity
    #[arg(long)]
    create: bool,

    /// Bytes of messages that the ring holds, if it is made: 64K, 1M, 1G
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size, requires = "create")]
    capacity: Option<usize>,

    /// Accept a ring that belongs to this user id
    #[arg(long, value_name = "UID")]
    owner: Option<u32>,

    /// How to wait for the other side
    #[arg(long, value_enum, default_value_t = Waiting::Adaptive)]
    pub wait: Waiting,
}

/// How a side waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Waiting {
    /// Never sleep: the lowest latency, for the price of a processor
    Spin,
    /// Sleep at once
    Block,
    /// Spin for about as long as a sleep and a wake would cost, then sleep
    Adaptive,
}

impl From<Waiting> for Wait {
    fn from(waiting: Waiting) -> Self {
        match waiting {
            Waiting::Spin => Self::Spin,
            Waiting::Block => Self::Block,
            Waiting::Adaptive => Self::Adaptive,
        }
    }
}

/// A ring of messages of any size, or of one size.
#[derive(Clone, Debug)]
pub enum AnyRing {
    Bytes(ByteRing),
    Slots(UntypedRing),
}

impl AnyRing {
    /// Opens the ring, or makes it if that was asked for.
    pub fn open(args: &RingArgs) -> Outcome<Self> {
        let place = place(&args.name)?;
        // Twice, because a ring of slots may turn up between a look for it and making a byte ring.
        let mut opened = Self::open_as_it_is(&place, args.owner);
        if args.create && matches!(opened, Err(SetupError::NotFound)) {
            let builder = ByteRing::builder(args.capacity.unwrap_or(DEFAULT_BYTES));
            opened = match builder.open_or_create(place.clone()) {
                Err(SetupError::Kind { .. }) => Self::open_as_it_is(&place, args.owner),
                made => made.map(Self::Bytes),
            };
        }
        opened.map_err(|error| match error {
            SetupError::NotFound if !args.create => Failure::new(
                Code::NotFound,
                format!(
                    "{}: no such ring; make it with `annulus create`, or give --create",
                    args.name
                ),
            ),
            error => Failure::setup(&args.name, &error),
        })
    }

    fn open_as_it_is(place: &Place, owner: Option<u32>) -> Result<Self, SetupError> {
        let mut bytes = ByteRing::attach();
        let mut slots = UntypedRing::attach();
        if let Some(owner) = owner {
            bytes = bytes.owner(owner);
            slots = slots.owner(owner);
        }
        match bytes.open(place.clone()) {
            Err(SetupError::Kind { .. }) => slots.open(place.clone()).map(Self::Slots),
            opened => opened.map(Self::Bytes),
        }
    }

    pub fn is_persistent(&self) -> bool {
        match self {
            Self::Bytes(ring) => ring.is_persistent(),
            Self::Slots(ring) => ring.is_persistent(),
        }
    }

    pub fn stats(&self) -> Stats {
        match self {
            Self::Bytes(ring) => ring.stats(),
            Self::Slots(ring) => ring.stats(),
        }
    }

    /// Who has a role, or had it last.
    pub fn who(&self, role: Role) -> Option<Participant> {
        who(&self.stats(), role)
    }
}

/// Who has a role, or had it last.
pub fn who(stats: &Stats, role: Role) -> Option<Participant> {
    stats.participants.iter().find(|participant| participant.role == role).cloned()
}

/// Whether somebody has come to the other side since `before`, or is there; it may have left again.
#[derive(Debug)]
pub struct Arrival {
    role: Role,
    was_there: bool,
    incarnation: u64,
}

impl Arrival {
    /// To be noted before our own role is taken: whoever sees us may be quick to leave.
    pub fn note(ring: &AnyRing, role: Role) -> Self {
        let who = ring.who(role);
        Self {
            role,
            was_there: who.as_ref().is_some_and(|who| who.alive),
            incarnation: who.map_or(0, |who| who.incarnation),
        }
    }

    pub fn has_happened(&self, ring: &AnyRing) -> bool {
        self.was_there
            || ring
                .who(self.role)
                .is_some_and(|who| who.alive || who.incarnation != self.incarnation)
    }
}
