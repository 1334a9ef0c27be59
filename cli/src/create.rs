//! `annulus create`: a ring, for others to use.

use crate::exit::{Code, Failure, Outcome};
use crate::output::complain;
use crate::ring::{DEFAULT_BYTES, STREAM, place};
use crate::units;
use annulus::{
    Builder, ByteBroadcast, ByteRing, Event, Mailbox, Semaphore, SetupError, Stream, Topology,
    UntypedLatest, UntypedRing,
};
use clap::{Args, ValueEnum};
use std::path::Path;

/// Messages that a ring of slots holds that is made without a capacity.
const DEFAULT_SLOTS: usize = 1024;
/// The same for each type of a mailbox, each of which takes that much.
const DEFAULT_LETTERS: usize = 16;
/// Bytes of the longest message, where there is one and nobody says.
const DEFAULT_LONGEST: usize = 1024;

/// Make a ring, or something else to share
///
/// It stays when this command ends, for the first to use it; then it is removed when its last user
/// leaves, unless it is persistent. A mailbox always is. `get`, `set`, `acquire`,
/// `raise`, `wait` and `tail` leave what they use.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct CreateArgs {
    /// Its name in /dev/shm, or a path if it contains a slash
    name: String,

    /// What it is
    #[arg(long, value_enum, default_value_t = Kind::Bytes)]
    kind: Kind,

    /// How many may send and receive (default spsc)
    #[arg(long, value_enum)]
    topology: Option<Shape>,

    /// How many senders and receivers there can be together, where a side has many (default 64; 32 in a mailbox). In a
    /// byte ring or stream: how many senders, each of which takes the capacity (default 16)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    participants: Option<u16>,

    /// How many can receive a broadcast, or read a variable, at a time (default 16)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    receivers: Option<u16>,

    /// Have messages of different senders received in the order of their sending, in a byte ring with many senders
    #[arg(long)]
    ordered: bool,

    /// What it holds: bytes (64K, 1M, 1G; default 1M); messages of a ring of slots or a broadcast, which is how far back
    /// its receivers can be (default 1024); messages of each type of a mailbox (default 16); permits of a semaphore
    /// (default 1)
    #[arg(long, value_name = "N", value_parser = units::parse_size)]
    capacity: Option<usize>,

    /// Bytes of a message of a ring of slots, or of a broadcast whose messages all have one size, or of a variable's value
    #[arg(long, value_name = "B", value_parser = units::parse_size)]
    message_size: Option<usize>,

    /// Alignment of such a message or value in bytes, as programs that open it with a type need (default 1)
    #[arg(long, value_name = "B", value_parser = units::parse_size)]
    message_align: Option<usize>,

    /// Bytes of the longest message of a mailbox or broadcast, which takes the room of that always (default 1K)
    #[arg(long, value_name = "B", value_parser = units::parse_size, conflicts_with = "message_size")]
    longest: Option<usize>,

    /// Types of messages of a mailbox, each of which takes the capacity (default 64)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    types: Option<u8>,

    /// How many permits are free at first, in a semaphore (default: all)
    #[arg(long, value_name = "N")]
    initial: Option<u32>,

    /// Permission bits
    #[arg(long, value_name = "MODE", value_parser = mode, default_value = "0600")]
    mode: u32,

    /// A name for the type of the messages, up to 64 bytes, that programs can insist on
    #[arg(long, default_value = "", hide_default_value = true)]
    label: String,

    /// Keep the ring and its messages when its users leave, until `annulus rm`
    #[arg(long)]
    persistent: bool,

    /// Use huge pages: NAME is then a path on hugetlbfs
    #[arg(long)]
    huge_pages: bool,

    /// Say what was made
    #[arg(short, long)]
    verbose: bool,
}

const AFTER_HELP: &str = "\
A stream is a byte ring that `send` and `recv` move bytes through as they come, like a FIFO; they know it by its \
label, `stream`, which it has unless another is given. Programs open it as a Stream or as a ByteRing.

Examples:
  annulus create log --capacity 16M
  annulus create pipe --kind stream
  annulus create ticks --kind slots --message-size 16 --message-align 8
  annulus create jobs --kind slots --message-size 64 --topology mpmc
  annulus create orders --kind mailbox --types 8 --longest 4K
  annulus create news --kind broadcast --capacity 256 --receivers 100
  annulus create price --kind latest --message-size 8 --persistent
  annulus create lock --kind semaphore
  annulus create logs --topology mpsc --participants 8 --ordered";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Messages of any size
    Bytes,
    /// Messages all of one size
    Slots,
    /// Bytes without message boundaries
    Stream,
    /// Messages of up to 64 types, among which receivers choose
    Mailbox,
    /// Messages that every receiver gets
    Broadcast,
    /// One value, of which each reader gets the latest
    Latest,
    /// No messages, but permits
    Semaphore,
    /// No messages, but 64 flags
    Event,
}

impl Kind {
    /// As it is said on the command line.
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// One sender and one receiver
    Spsc,
    /// Many senders and one receiver
    Mpsc,
    /// One sender and many receivers, each message for one of them, in a ring of slots
    Spmc,
    /// Many senders and many receivers, each message for one of them, in a ring of slots
    Mpmc,
}

impl From<Shape> for Topology {
    fn from(shape: Shape) -> Self {
        match shape {
            Shape::Spsc => Self::Spsc,
            Shape::Mpsc => Self::Mpsc,
            Shape::Spmc => Self::Spmc,
            Shape::Mpmc => Self::Mpmc,
        }
    }
}

pub fn mode(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    u32::from_str_radix(digits, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| "not permission bits; write them in octal, as 0600 or 660".to_owned())
}

pub fn run(args: &CreateArgs) -> Outcome {
    let place = place(&args.name)?;
    check(args)?;
    let topology = args.topology.unwrap_or(Shape::Spsc).into();
    // The library has numbers of its own where nobody says.
    let participants = args.participants.or(args.receivers).map(usize::from).into_iter();
    let label = match args.kind {
        Kind::Stream if args.label.is_empty() => STREAM,
        _ => &args.label,
    };
    let capacity = args.capacity.unwrap_or(match args.kind {
        Kind::Bytes | Kind::Stream => DEFAULT_BYTES,
        Kind::Slots | Kind::Broadcast => DEFAULT_SLOTS,
        Kind::Mailbox => DEFAULT_LETTERS,
        Kind::Semaphore => 1,
        Kind::Latest | Kind::Event => 0,
    });
    let (size, align) = (args.message_size.unwrap_or(0), args.message_align.unwrap_or(1));
    let longest = args.longest.unwrap_or(DEFAULT_LONGEST);
    let made = match args.kind {
        Kind::Bytes => participants
            .fold(ByteRing::builder(capacity), Builder::participants)
            .mode(args.mode)
            .huge_pages(args.huge_pages)
            .label(label)
            .persistent(args.persistent)
            .ordered(args.ordered)
            .topology(topology)
            .create(place)
            .map(|ring| {
                ring.keep();
                ring.capacity()
            }),
        Kind::Stream => participants
            .fold(Stream::builder(capacity), Builder::participants)
            .mode(args.mode)
            .huge_pages(args.huge_pages)
            .label(label)
            .persistent(args.persistent)
            .topology(topology)
            .create(place)
            .map(|stream| {
                stream.ring().keep();
                stream.ring().capacity()
            }),
        Kind::Slots => participants
            .fold(UntypedRing::builder(capacity, size), Builder::participants)
            .mode(args.mode)
            .huge_pages(args.huge_pages)
            .label(label)
            .persistent(args.persistent)
            .message_align(align)
            .topology(topology)
            .create(place)
            .map(|ring| {
                ring.keep();
                ring.capacity()
            }),
        Kind::Mailbox => {
            let builder = Mailbox::builder(capacity, longest)
                .mode(args.mode)
                .huge_pages(args.huge_pages)
                .label(label)
                .types(args.types.unwrap_or(64).into());
            let builder = participants.fold(builder, Builder::participants);
            builder.create(place).map(|mailbox| mailbox.capacity())
        }
        Kind::Broadcast => {
            let builder = match args.message_size {
                Some(size) => ByteBroadcast::builder(capacity, size).exactly(align),
                None => ByteBroadcast::builder(capacity, longest),
            };
            let builder = builder
                .mode(args.mode)
                .label(label)
                .persistent(args.persistent)
                .huge_pages(args.huge_pages);
            let builder = participants.fold(builder, Builder::participants);
            builder.create(place).map(|broadcast| {
                broadcast.keep();
                broadcast.capacity()
            })
        }
        Kind::Latest => participants
            .fold(UntypedLatest::builder(size), Builder::participants)
            .mode(args.mode)
            .huge_pages(args.huge_pages)
            .label(label)
            .persistent(args.persistent)
            .value_align(align)
            .create(place)
            .map(|variable| {
                variable.keep();
                capacity
            }),
        Kind::Semaphore => {
            let permits = u32::try_from(capacity).unwrap_or(u32::MAX);
            participants
                .fold(Semaphore::counting(permits), Builder::participants)
                .mode(args.mode)
                .label(label)
                .persistent(args.persistent)
                .initial(args.initial.unwrap_or(permits))
                .create(place)
                .map(|semaphore| {
                    semaphore.keep();
                    capacity
                })
        }
        Kind::Event => Event::builder()
            .mode(args.mode)
            .label(label)
            .persistent(args.persistent)
            .create(place)
            .map(|event| {
                event.keep();
                capacity
            }),
    };
    // It may hold more than was asked for.
    let capacity = made.map_err(|error| refused(&args.name, &error))?;
    if args.verbose {
        let of = |size: usize| {
            format!("{} of {}", units::messages(capacity as u64), units::bytes(size as u64))
        };
        let holds = match args.kind {
            Kind::Bytes | Kind::Stream => units::bytes(capacity as u64),
            Kind::Slots => of(size),
            Kind::Broadcast => match args.message_size {
                Some(size) => of(size),
                None => format!("{} at most", of(longest)),
            },
            Kind::Mailbox => format!("{} at most, of each type", of(longest)),
            Kind::Latest => format!("a value of {}", units::bytes(size as u64)),
            Kind::Semaphore if capacity == 1 => "1 permit".to_owned(),
            Kind::Semaphore => format!("{capacity} permits"),
            Kind::Event => "64 flags".to_owned(),
        };
        complain(&format!("made {} for {holds}", args.name));
    }
    Ok(())
}

/// Whether every option that was given is one of the kind.
fn check(args: &CreateArgs) -> Outcome {
    use Kind::{Broadcast, Bytes, Latest, Mailbox, Semaphore, Slots, Stream};
    let usage = |text: String| Err(Failure::new(Code::Usage, text));
    let options: [(&str, bool, &[Kind]); 11] = [
        ("--topology", args.topology.is_some(), &[Bytes, Stream, Slots]),
        (
            "--participants",
            args.participants.is_some(),
            &[Bytes, Stream, Slots, Mailbox, Semaphore],
        ),
        ("--receivers", args.receivers.is_some(), &[Broadcast, Latest]),
        ("--ordered", args.ordered, &[Bytes, Stream]),
        (
            "--capacity",
            args.capacity.is_some(),
            &[Bytes, Stream, Slots, Mailbox, Broadcast, Semaphore],
        ),
        ("--message-size", args.message_size.is_some(), &[Slots, Broadcast, Latest]),
        ("--message-align", args.message_align.is_some(), &[Slots, Broadcast, Latest]),
        ("--longest", args.longest.is_some(), &[Mailbox, Broadcast]),
        ("--types", args.types.is_some(), &[Mailbox]),
        ("--initial", args.initial.is_some(), &[Semaphore]),
        ("--huge-pages", args.huge_pages, &[Bytes, Stream, Slots, Mailbox, Broadcast, Latest]),
    ];
    for (option, given, kinds) in options {
        if given && !kinds.contains(&args.kind) {
            let kinds: Vec<String> = kinds.iter().map(|kind| kind.name()).collect();
            let (kinds, kind) = (kinds.join(", "), args.kind.name());
            return usage(format!("{option} is for --kind {kinds}; leave it out for {kind}"));
        }
    }
    match args.kind {
        Bytes | Stream if args.ordered && args.topology != Some(Shape::Mpsc) => {
            usage("--ordered is for many senders; give --topology mpsc, or leave it out".to_owned())
        }
        Bytes | Stream | Slots
            if args.participants.is_some()
                && args.topology.unwrap_or(Shape::Spsc) == Shape::Spsc =>
        {
            usage("--participants is for where a side has many; give --topology with it".to_owned())
        }
        Bytes | Stream if matches!(args.topology, Some(Shape::Spmc | Shape::Mpmc)) => usage(
            "messages of any size have one receiver; give --topology mpsc, or --kind slots"
                .to_owned(),
        ),
        Slots if args.message_size.is_none() => {
            usage("a ring of slots needs the size of its messages; give --message-size".to_owned())
        }
        Latest if args.message_size.is_none() => {
            usage("a variable needs the size of its value; give --message-size".to_owned())
        }
        Broadcast if args.message_align.is_some() && args.message_size.is_none() => usage(
            "--message-align is for messages that all have one size; give --message-size"
                .to_owned(),
        ),
        _ => Ok(()),
    }
}

/// Something could not be made.
pub fn refused(name: &str, error: &SetupError) -> Failure {
    match error {
        SetupError::NotFound => {
            let directory = Path::new(name).parent().filter(|path| !path.as_os_str().is_empty());
            let directory = directory.unwrap_or(Path::new("/dev/shm")).display();
            Failure::new(
                Code::NotFound,
                format!("{name}: there is no directory {directory}; make it first"),
            )
        }
        SetupError::PermissionDenied => Failure::new(
            Code::Permission,
            format!("{name}: permission denied; check that its directory can be written to"),
        ),
        error => Failure::setup(name, error),
    }
}

#[cfg(test)]
mod tests {
    use super::mode;

    #[test]
    fn modes_are_octal() {
        assert_eq!(["0600", "660", "0o640"].map(mode), [Ok(0o600), Ok(0o660), Ok(0o640)]);
        assert!(["", "rw", "0800", "1777"].into_iter().all(|text| mode(text).is_err()));
    }
}
