//! `annulus create`: a ring, for others to use.

use crate::exit::{Code, Failure, Outcome};
use crate::output::complain;
use crate::ring::{DEFAULT_BYTES, place};
use crate::units;
use annulus::{ByteRing, Event, Semaphore, SetupError, Topology, UntypedRing};
use clap::{Args, ValueEnum};
use std::path::Path;

/// Messages that a ring of slots holds that is made without a capacity.
const DEFAULT_SLOTS: usize = 1024;

/// Make a ring
///
/// It stays when this command ends, for the first to use it; then it is removed when its last user
/// leaves, unless it is persistent.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct CreateArgs {
    /// The ring: a name in /dev/shm, or a path if it contains a slash
    name: String,

    /// What its messages are
    #[arg(long, value_enum, default_value_t = Kind::Bytes)]
    kind: Kind,

    /// How many may send and receive
    #[arg(long, value_enum, default_value_t = Shape::Spsc)]
    topology: Shape,

    /// How many senders and receivers there can be together, where a side has many (default 64). In a byte ring: how
    /// many senders, each of which takes the capacity (default 16)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    participants: Option<u16>,

    /// Have messages of different senders received in the order of their sending, in a byte ring with many senders
    #[arg(long)]
    ordered: bool,

    /// What it holds: bytes (64K, 1M, 1G; default 1M), messages if it is of slots (default 1024), or permits of a
    /// semaphore (default 1)
    #[arg(long, value_name = "N", value_parser = units::parse_size)]
    capacity: Option<usize>,

    /// Bytes of a message, in a ring of slots
    #[arg(long, value_name = "B", value_parser = units::parse_size)]
    message_size: Option<usize>,

    /// How many permits are free at first, in a semaphore (default: all)
    #[arg(long, value_name = "N")]
    initial: Option<u32>,

    /// Alignment of a message in bytes, in a ring of slots, as programs that open it with a type need
    #[arg(long, value_name = "B", value_parser = units::parse_size, default_value = "1")]
    message_align: usize,

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
Examples:
  annulus create log --capacity 16M
  annulus create ticks --kind slots --message-size 16 --message-align 8 --capacity 64K
  annulus create jobs --kind slots --message-size 64 --topology mpmc
  annulus create lock --kind semaphore
  annulus create logs --topology mpsc --participants 8 --ordered
  annulus create mailbox --persistent --mode 0660";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Of any size
    Bytes,
    /// All of one size
    Slots,
    /// None, but permits
    Semaphore,
    /// None, but 64 flags
    Event,
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
    let topology = args.topology.into();
    let participants = args.participants.map_or(0, usize::from);
    let capacity = args.capacity.unwrap_or(match args.kind {
        Kind::Bytes => DEFAULT_BYTES,
        Kind::Slots => DEFAULT_SLOTS,
        Kind::Semaphore => 1,
        Kind::Event => 0,
    });
    if args.initial.is_some() && args.kind != Kind::Semaphore {
        let text = "only a semaphore has permits at first; leave --initial out";
        return Err(Failure::new(Code::Usage, text));
    }
    if args.ordered && (args.kind, args.topology) != (Kind::Bytes, Shape::Mpsc) {
        let text =
            "--ordered is for byte rings with many senders; give --topology mpsc, or leave it out";
        return Err(Failure::new(Code::Usage, text));
    }
    let made = match (args.kind, args.message_size) {
        (Kind::Bytes, None) => ByteRing::builder(capacity)
            .ordered(args.ordered)
            .topology(topology)
            .participants(participants)
            .mode(args.mode)
            .label(&args.label)
            .persistent(args.persistent)
            .huge_pages(args.huge_pages)
            .create(place)
            .map(|ring| ring.keep()),
        (Kind::Slots, Some(size)) => UntypedRing::builder(capacity, size)
            .message_align(args.message_align)
            .topology(topology)
            .participants(participants)
            .mode(args.mode)
            .label(&args.label)
            .persistent(args.persistent)
            .huge_pages(args.huge_pages)
            .create(place)
            .map(|ring| ring.keep()),
        (Kind::Semaphore, None) => {
            let permits = u32::try_from(capacity).unwrap_or(u32::MAX);
            Semaphore::counting(permits)
                .initial(args.initial.unwrap_or(permits))
                .participants(participants)
                .mode(args.mode)
                .label(&args.label)
                .persistent(args.persistent)
                .create(place)
                .map(|semaphore| semaphore.keep())
        }
        (Kind::Event, None) => Event::builder()
            .mode(args.mode)
            .label(&args.label)
            .persistent(args.persistent)
            .create(place)
            .map(|event| event.keep()),
        (Kind::Bytes | Kind::Semaphore | Kind::Event, Some(_)) => {
            let text = "only a ring of slots has messages of one size; leave --message-size out, or give --kind slots";
            return Err(Failure::new(Code::Usage, text));
        }
        (Kind::Slots, None) => {
            let text = "a ring of slots needs the size of its messages; give --message-size";
            return Err(Failure::new(Code::Usage, text));
        }
    };
    made.map_err(|error| refused(&args.name, &error))?;
    if args.verbose {
        let holds = match args.message_size {
            Some(size) => {
                format!("{} of {}", units::messages(capacity as u64), units::bytes(size as u64))
            }
            None if args.kind == Kind::Semaphore => format!("{capacity} permits"),
            None if args.kind == Kind::Event => "64 flags".to_owned(),
            None => units::bytes(capacity as u64),
        };
        complain(&format!("made {} for {holds}", args.name));
    }
    Ok(())
}

fn refused(name: &str, error: &SetupError) -> Failure {
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
