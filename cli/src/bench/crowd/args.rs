//! The part of the command line that asks for many processes, and what it comes to.

use annulus::Topology;
use clap::ArgGroup;

use crate::bench::args::BenchArgs;
use crate::bench::link::Waiting;
use crate::bench::rows::{Carrier, Kernel, Own};
use crate::create::Shape;

/// Entries of the largest table of participants.
pub const MOST: usize = 1024;
/// Sizes of a run that names none, in bytes.
const DEFAULT_SIZES: [usize; 2] = [8, 64];
/// Messages in a call.
pub const BATCH: usize = 32;

/// What of the kernel's carries whole messages from many processes to many, and whether it is measured if nobody asks.
const MANY_TO_MANY: [(Kernel, bool); 5] = [
    (Kernel::Pipe, true),
    (Kernel::Fifo, false),
    (Kernel::UnixSeqpacket, false),
    (Kernel::SysvQueue, true),
    (Kernel::PosixQueue, true),
];

/// Many processes on one ring instead of two.
#[derive(clap::Args, Clone, Debug)]
#[command(group = ArgGroup::new("crowd").multiple(true))]
pub struct CrowdArgs {
    /// Measure one ring with N sending processes: the rate, and how evenly they get their turns
    #[arg(long, value_name = "N", group = "crowd", conflicts_with_all = ["bars", "hgrm", "svg"],
        value_parser = clap::value_parser!(u16).range(1..MOST as i64))]
    pub senders: Option<u16>,

    /// The same with N receiving processes, each message for one of them
    #[arg(long, value_name = "N", group = "crowd", conflicts_with_all = ["bars", "hgrm", "svg"],
        value_parser = clap::value_parser!(u16).range(1..MOST as i64))]
    pub receivers: Option<u16>,

    /// The ring's topology with --senders or --receivers (default: the smallest that allows them)
    #[arg(long, value_enum, requires = "crowd")]
    pub topology: Option<Shape>,
}

/// A run with many processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub senders: usize,
    pub receivers: usize,
    pub topology: Topology,
    pub rows: Vec<Row>,
    pub one_cpu: bool,
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub carrier: Carrier,
    /// Bytes of a message.
    pub size: usize,
    /// Messages in a call.
    pub batch: usize,
}

impl Row {
    pub fn describe(&self) -> String {
        let size = crate::bench::units::bytes(self.size);
        let name = self.carrier.name();
        format!("{name} {} {size}, {} a call", self.carrier.wait().name(), self.batch)
    }
}

impl Plan {
    /// What the arguments ask for, if it is this; or a sentence that says why that cannot be.
    pub fn of(args: &BenchArgs, one_cpu: bool) -> Result<Option<Self>, String> {
        let CrowdArgs { senders, receivers, topology } = args.crowd;
        if senders.is_none() && receivers.is_none() {
            return Ok(None);
        }
        let [senders, receivers] = [senders, receivers].map(|count| count.map_or(1, usize::from));
        if senders + receivers > MOST {
            return Err(format!(
                "{senders} senders and {receivers} receivers are too many: a ring has at most {MOST} participants"
            ));
        }
        let selection = args.selection(one_cpu);
        if selection.own.contains(&Own::Split) {
            return Err(
                "the split form has one sender and one receiver; only `ring` is shared".into()
            );
        }
        if args.transport.iter().any(|own| matches!(own, Own::Bytes | Own::Stream)) {
            return Err(
                "--transport: byte rings and streams have one sender and one receiver here; only `ring` is shared".into()
            );
        }
        let kernel = match args.vs.is_empty() {
            true => MANY_TO_MANY.iter().filter(|(_, asked)| *asked).map(|(one, _)| *one).collect(),
            false => selection.kernel,
        };
        if let Some(&other) =
            kernel.iter().find(|one| MANY_TO_MANY.iter().all(|(fit, _)| fit != *one))
        {
            let fit = MANY_TO_MANY.map(|(one, _)| Carrier::Kernel(one).name()).join(", ");
            let other = Carrier::Kernel(other).name();
            return Err(format!(
                "--vs {other}: it does not carry whole messages from many to many; these do: {fit}"
            ));
        }
        let topology = chosen(topology, senders, receivers)?;
        let sizes = selection.sizes.unwrap_or(DEFAULT_SIZES.to_vec());
        Ok(Some(Self {
            senders,
            receivers,
            topology,
            rows: rows(&sizes, &selection.waits, &kernel),
            one_cpu,
        }))
    }

    /// Processes that measure.
    pub fn workers(&self) -> usize {
        self.senders + self.receivers
    }
}

/// By size, ours first. The kernel takes one message a call.
fn rows(sizes: &[usize], waits: &[Waiting], kernel: &[Kernel]) -> Vec<Row> {
    let mut rows = Vec::new();
    for &size in sizes {
        for &wait in waits {
            for batch in [1, BATCH] {
                rows.push(Row { carrier: Carrier::Own(Own::Ring, wait), size, batch });
            }
        }
        let kernel = kernel.iter().map(|&one| Carrier::Kernel(one));
        rows.extend(kernel.map(|carrier| Row { carrier, size, batch: 1 }));
    }
    rows
}

/// The topology that was asked for, or the smallest that allows so many.
fn chosen(asked: Option<Shape>, senders: usize, receivers: usize) -> Result<Topology, String> {
    let (many_senders, many_receivers) = (senders > 1, receivers > 1);
    let Some(asked) = asked else {
        return Ok(match (many_senders, many_receivers) {
            (false, false) => Topology::Spsc,
            (true, false) => Topology::Mpsc,
            (false, true) => Topology::Spmc,
            (true, true) => Topology::Mpmc,
        });
    };
    let topology = Topology::from(asked);
    if many_senders && matches!(topology, Topology::Spsc | Topology::Spmc) {
        return Err(format!("a ring of this topology has one sender, and --senders is {senders}"));
    }
    if many_receivers && matches!(topology, Topology::Spsc | Topology::Mpsc) {
        return Err(format!(
            "a ring of this topology has one receiver, and --receivers is {receivers}"
        ));
    }
    Ok(topology)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn plan(arguments: &str) -> Result<Option<Plan>, String> {
        let arguments = std::iter::once("bench").chain(arguments.split_whitespace());
        Plan::of(&Command::try_parse_from(arguments).unwrap().bench, false)
    }

    #[test]
    fn the_smallest_topology_is_taken_unless_another_is_asked_for() {
        assert_eq!(plan(""), Ok(None));
        let topology = |arguments| plan(arguments).unwrap().unwrap().topology;
        assert_eq!(topology("--senders 1"), Topology::Spsc);
        assert_eq!(topology("--senders 2"), Topology::Mpsc);
        assert_eq!(topology("--receivers 2"), Topology::Spmc);
        assert_eq!(topology("--receivers 2 --senders 3"), Topology::Mpmc);
        assert_eq!(topology("--senders 1 --topology mpmc"), Topology::Mpmc);
        assert!(plan("--senders 2 --topology spmc").unwrap_err().contains("one sender"));
        assert!(plan("--receivers 2 --topology mpsc").unwrap_err().contains("one receiver"));
    }

    #[test]
    fn rows_are_of_what_carries_whole_messages_among_many() {
        let default = plan("--senders 2").unwrap().unwrap();
        assert_eq!(default.rows.len(), 2 * (3 * 2 + 3));
        let few = plan("--senders 2 --size 16 --wait block --vs fifo").unwrap().unwrap();
        let names: Vec<String> = few.rows.iter().map(Row::describe).collect();
        assert_eq!(
            names,
            [
                "ring block 16 B, 1 a call",
                "ring block 16 B, 32 a call",
                "fifo block 16 B, 1 a call"
            ]
        );
        assert!(plan("--senders 2 --vs tcp").unwrap_err().contains("pipe"));
        assert!(plan("--senders 2 --transport bytes").unwrap_err().contains("one sender"));
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        assert!(plan("--senders 1000 --receivers 100").unwrap_err().contains("1024"));
        for wrong in [
            "--senders 0",
            "--receivers 0",
            "--senders 1024",
            "--topology mpmc",
            "--senders 2 --bars",
            "--receivers 2 --svg chart",
            "--senders 2 --hgrm file",
        ] {
            let arguments = std::iter::once("bench").chain(wrong.split_whitespace());
            let error = Command::try_parse_from(arguments).err().map(|error| error.exit_code());
            assert_eq!(error, Some(2), "{wrong}");
        }
    }
}
