//! What carries messages, of any kind, by name.

use crate::create;
use crate::exit::{Code, Coded, Failure, Outcome};
use crate::units;
use annulus::inspect::Snapshot;
use annulus::{
    Attach, ByteBroadcast, ByteRing, Mailbox, Participant, Place, RingKind, Role, SetupError,
    Stats, UntypedRing, Wait,
};
use clap::ValueEnum;

/// Capacity of a byte ring that is made without one.
pub const DEFAULT_BYTES: usize = 1 << 20;

/// Times that a ring may vanish between our finding it there and opening it.
const ATTEMPTS: usize = 64;

/// The label by which a byte ring is known to be a stream: bytes without boundaries.
pub const STREAM: &str = "stream";

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
    /// Sleep; look for a moment first only where sleeps turn out to last less than that
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

/// What carries messages.
#[derive(Clone, Debug)]
pub enum AnyRing {
    Bytes(ByteRing),
    Slots(UntypedRing),
    Mailbox(Mailbox),
    Broadcast(ByteBroadcast),
}

/// The ring of `send` or `recv`.
#[derive(Debug)]
pub struct Found {
    pub ring: AnyRing,
    was_there: bool,
}

impl Found {
    /// Leaves a ring that was there before, as it was: for who waited, and nobody came.
    pub fn leave(&self) {
        if self.was_there {
            self.ring.keep();
        }
    }
}

impl RingArgs {
    /// Opens the ring, or makes it if that was asked for.
    pub fn open(&self) -> Outcome<Found> {
        let place = place(&self.name)?;
        self.open_or_make(&place).map_err(|error| match error {
            SetupError::NotFound if !self.create => Failure::new(
                Code::NotFound,
                format!(
                    "{}: there is nothing of that name; make it with `annulus create`, or give --create",
                    self.name
                ),
            ),
            error if self.create && matches!(error, SetupError::NotFound) => create::refused(&self.name, &error),
            error => unopened(&self.name, &error, RingKind::Bytes),
        })
    }

    fn open_or_make(&self, place: &Place) -> Result<Found, SetupError> {
        for _ in 0..ATTEMPTS {
            match AnyRing::open_as_it_is(place, self.owner) {
                Err(SetupError::NotFound) if self.create => {}
                opened => return opened.map(|ring| Found { ring, was_there: true }),
            }
            let builder = ByteRing::builder(self.capacity.unwrap_or(DEFAULT_BYTES));
            match builder.create(place.clone()) {
                // Somebody was faster, perhaps with a ring of another kind.
                Err(SetupError::AlreadyExists) => {}
                made => {
                    let ring = made.map(AnyRing::Bytes);
                    return ring.map(|ring| Found { ring, was_there: false });
                }
            }
        }
        Err(SetupError::AlreadyExists)
    }
}

impl AnyRing {
    /// Opens the ring, if there is one.
    pub fn open_existing(name: &str, owner: Option<u32>) -> Outcome<Self> {
        Self::open_as_it_is(&place(name)?, owner)
            .map_err(|error| unopened(name, &error, RingKind::Bytes))
    }

    fn open_as_it_is(place: &Place, owner: Option<u32>) -> Result<Self, SetupError> {
        // What it is by the look of it; it is checked again when it is opened.
        match Snapshot::open(place)?.kind {
            RingKind::Slots => {
                let slots = owner.into_iter().fold(UntypedRing::attach(), Attach::owner);
                slots.open(place.clone()).map(Self::Slots)
            }
            RingKind::Mailbox => {
                let mailbox = owner.into_iter().fold(Mailbox::attach(), Attach::owner);
                mailbox.open(place.clone()).map(Self::Mailbox)
            }
            RingKind::Broadcast | RingKind::ByteBroadcast => {
                let broadcast = owner.into_iter().fold(ByteBroadcast::attach(), Attach::owner);
                broadcast.open(place.clone()).map(Self::Broadcast)
            }
            _ => {
                let bytes = owner.into_iter().fold(ByteRing::attach(), Attach::owner);
                bytes.open(place.clone()).map(Self::Bytes)
            }
        }
    }

    /// Whether boundaries between its messages mean nothing.
    pub fn is_stream(&self) -> bool {
        matches!(self, Self::Bytes(ring) if ring.label() == STREAM)
    }

    /// What it is, for people.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Bytes(_) if self.is_stream() => "a stream",
            Self::Bytes(_) => "a byte ring",
            Self::Slots(_) => "a ring of slots",
            Self::Mailbox(_) => "a mailbox",
            Self::Broadcast(_) => "a broadcast",
        }
    }

    pub fn is_persistent(&self) -> bool {
        match self {
            Self::Bytes(ring) => ring.is_persistent(),
            Self::Slots(ring) => ring.is_persistent(),
            Self::Mailbox(mailbox) => mailbox.is_persistent(),
            Self::Broadcast(broadcast) => broadcast.is_persistent(),
        }
    }

    /// Leaves the name behind when this process leaves, even if it is the last user.
    pub fn keep(&self) {
        match self {
            Self::Bytes(ring) => ring.keep(),
            Self::Slots(ring) => ring.keep(),
            // It lasts until it is removed.
            Self::Mailbox(_) => {}
            Self::Broadcast(broadcast) => broadcast.keep(),
        }
    }

    pub fn stats(&self) -> Stats {
        match self {
            Self::Bytes(ring) => ring.stats(),
            Self::Slots(ring) => ring.stats(),
            Self::Mailbox(mailbox) => mailbox.stats(),
            Self::Broadcast(broadcast) => broadcast.stats(),
        }
    }
}

/// Something could not be opened, which was to be of kind `wanted`; if it is something else, with the verbs for that.
pub fn unopened(name: &str, error: &SetupError, wanted: RingKind) -> Failure {
    let seen = || place(name).ok().and_then(|place| Snapshot::open(&place).ok());
    match error {
        SetupError::NotFound => {
            let text = match wanted {
                RingKind::Semaphore => {
                    "no such semaphore; make it with `annulus create --kind semaphore`"
                }
                RingKind::Event => "no such event; make it with `annulus create --kind event`",
                RingKind::Latest => {
                    "no such variable; make it with `annulus create --kind latest --message-size B`"
                }
                _ => return Failure::setup(name, error),
            };
            Failure::new(error.code(), format!("{name}: {text}"))
        }
        SetupError::Kind { expected, .. } => {
            let Some(seen) = seen() else { return Failure::setup(name, error) };
            let (what, verbs) = match seen.kind {
                RingKind::Semaphore => ("a semaphore", "`annulus acquire`"),
                RingKind::Event => ("an event", "`annulus raise` and `annulus wait`"),
                RingKind::Latest => ("a variable", "`annulus get` and `annulus set`"),
                RingKind::Mailbox => ("a mailbox", "`annulus send` and `annulus recv`"),
                RingKind::Broadcast | RingKind::ByteBroadcast => {
                    ("a broadcast", "`annulus send` and `annulus recv`")
                }
                _ => ("a ring", "`annulus send` and `annulus recv`"),
            };
            let text = format!("{name}: this is {what}, not {expected}; use {verbs}");
            Failure::new(error.code(), text)
        }
        _ => Failure::setup(name, error),
    }
}

/// Who has a role, or had it last.
pub fn who(stats: &Stats, role: Role) -> impl Iterator<Item = &Participant> {
    stats.participants.iter().filter(move |participant| participant.role == role)
}

/// Whether somebody has come to the other side since `before`, or is there; it may have left again.
#[derive(Debug)]
pub struct Arrival {
    role: Role,
    before: Vec<Participant>,
}

impl Arrival {
    /// To be noted before our own role is taken: whoever sees us may be quick to leave.
    pub fn note(ring: &AnyRing, role: Role) -> Self {
        Self { role, before: who(&ring.stats(), role).cloned().collect() }
    }

    pub fn has_happened(&self, ring: &AnyRing) -> bool {
        let was_seen = |who: &Participant| {
            let mut before = self.before.iter();
            before.any(|seen| (seen.pid, seen.incarnation) == (who.pid, who.incarnation))
        };
        self.before.iter().any(|who| who.alive)
            || who(&ring.stats(), self.role).any(|who| who.alive || !was_seen(who))
    }
}
