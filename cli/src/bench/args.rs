//! The command line of `annulus bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::PossibleValue;

use super::crowd::CrowdArgs;
use super::link::Waiting;
use super::payload::MIN_SIZE;
use super::rows::{Kernel, Own, Selection};
use super::schedule::Schedule;
use super::units;

/// The largest message that is measured.
const MAX_SIZE: usize = 1 << 20;

/// Measure this library's rings against the kernel's IPC, between two processes of this machine
///
/// Every transport carries the same messages: the sender fills every byte, the receiver checks every byte, a wrong one ends
/// the run with exit code 1. Two processes measure the round trip and the one-way rate of each row, in several rounds over all
/// rows. The floor is the round trip of one cache line each way between two processes that only spin; no transport can be
/// faster.
///
/// With --senders or --receivers, many processes share one ring instead, and the kernel's queues beside it: one call a message,
/// and our own also 32 at a time. Every message must arrive once, each sender's in its order.
#[derive(clap::Args, Clone, Debug)]
pub struct BenchArgs {
    /// Message sizes in bytes, as 64,4K (default: 8,64,1K,4K,64K, and 56 for the rings; among many processes 8,64)
    #[arg(long = "size", value_name = "B", value_delimiter = ',', value_parser = size)]
    pub sizes: Vec<usize>,

    /// Transports of the kernel to compare with (default: all; among many processes pipe,sysv-queue,posix-queue)
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub vs: Vec<Against>,

    /// Which of our rings to measure (default: ring, bytes and stream)
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub transport: Vec<Own>,

    /// Measure the split forms, too: each side's half in memory that the other can only read; and judge their goals
    #[arg(long)]
    pub split: bool,

    #[command(flatten)]
    pub crowd: CrowdArgs,

    /// How the sides of our rings wait (default: all ways)
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub wait: Vec<Waiting>,

    /// Rounds over all rows; rates are medians of the rounds, and goals are judged by that of their figures (default: 3,
    /// with --bars 7, with --split 11)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub rounds: Option<u16>,

    /// Time for the whole run in seconds, shared by all rows (default: 42, with --all 105)
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub seconds: Option<u32>,

    /// One short round, for a first look and for tests: figures are rough
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    pub quick: bool,

    /// Do not bind the processes to processors, which they take in turn
    #[arg(long, conflicts_with = "one_cpu")]
    pub no_pin: bool,

    /// Bind all processes to the same processor
    #[arg(long)]
    pub one_cpu: bool,

    /// Measure every mechanism of the kernel's IPC beside what replaces it, instead of transports by size; on two processors and
    /// on one
    #[arg(long, conflicts_with_all = ["sizes", "vs", "transport", "split", "wait", "crowd", "bars", "hgrm", "no_pin"])]
    pub all: bool,

    /// Measure and judge the project's goals as well
    #[arg(long)]
    pub bars: bool,

    /// Print one JSON object instead of the table
    #[arg(long)]
    pub json: bool,

    /// Write the round trips' percentiles in nanoseconds as HdrHistogram text: all rows into FILE, or one file for each row if FILE
    /// is a directory
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,

    /// Print Markdown instead of the table, as for a README
    #[arg(long, requires = "all", conflicts_with = "json")]
    pub markdown: bool,

    /// Draw a chart
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

impl BenchArgs {
    /// The rows that the arguments ask for.
    pub fn selection(&self, one_cpu: bool) -> Selection {
        let or_all = |kernel: &[Against]| match kernel {
            [] => Kernel::ALL.to_vec(),
            some => some.iter().filter_map(|against| against.0).collect(),
        };
        let mut sizes = self.sizes.clone();
        sizes.sort_unstable();
        sizes.dedup();
        Selection {
            sizes: (!sizes.is_empty()).then_some(sizes),
            own: self.own(),
            waits: chosen(&self.wait),
            kernel: distinct(or_all(&self.vs)),
            one_cpu,
        }
    }

    /// Our own rings; the split form of each only if it was asked for.
    fn own(&self) -> Vec<Own> {
        let wanted = |own: &Own| self.transport.is_empty() || self.transport.contains(own);
        let all = Own::value_variants().iter();
        all.filter(|own| match own.shared_form() {
            Some(shared) => self.transport.contains(own) || (self.split && wanted(&shared)),
            None => wanted(own),
        })
        .copied()
        .collect()
    }

    /// Rounds and time.
    pub fn schedule(&self) -> Schedule {
        let (short, long) = if self.all { (12, 105) } else { (4, 42) };
        if self.quick {
            return Schedule { rounds: 1, total: Duration::from_secs(short) };
        }
        let seconds = self.seconds.unwrap_or(long);
        // The goals of the split form are small differences.
        let usual = if self.own().iter().any(|own| own.shared_form().is_some()) {
            11
        } else if self.bars {
            7
        } else {
            3
        };
        let rounds = self.rounds.unwrap_or(usual);
        Schedule { rounds: rounds.into(), total: Duration::from_secs(seconds.into()) }
    }
}

/// What was named, in the order of the definition, or all.
fn chosen<T: ValueEnum + PartialEq>(named: &[T]) -> Vec<T> {
    let all = T::value_variants().iter();
    all.filter(|value| named.is_empty() || named.contains(value)).cloned().collect()
}

fn distinct(kernel: Vec<Kernel>) -> Vec<Kernel> {
    Kernel::ALL.into_iter().filter(|one| kernel.contains(one)).collect()
}

/// A transport of the kernel, or `none` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Against(Option<Kernel>);

impl ValueEnum for Against {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [Against; 9] = {
            let mut all = [Against(None); 9];
            let mut at = 0;
            while at < Kernel::ALL.len() {
                all[at] = Against(Some(Kernel::ALL[at]));
                at += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self.0 {
            Some(kernel) => kernel.to_possible_value(),
            None => Some(PossibleValue::new("none").help("Only our own rings")),
        }
    }
}

fn size(text: &str) -> Result<usize, String> {
    let size = units::parse_bytes(text)?;
    match size {
        MIN_SIZE..=MAX_SIZE => Ok(size),
        0..MIN_SIZE => {
            Err(format!("a message holds its sequence number, so it has at least {MIN_SIZE} B"))
        }
        _ => Err(format!("messages are measured up to {}", units::bytes(MAX_SIZE))),
    }
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

    fn parse(arguments: &[&str]) -> Result<BenchArgs, clap::Error> {
        Command::try_parse_from([&["bench"], arguments].concat()).map(|command| command.bench)
    }

    #[test]
    fn nothing_means_everything() {
        let selection = parse(&[]).unwrap().selection(false);
        assert_eq!(selection.sizes, None);
        assert_eq!(selection.own, [Own::Ring, Own::Bytes, Own::Stream]);
        assert_eq!(selection.waits, [Waiting::Spin, Waiting::Adaptive, Waiting::Block]);
        assert_eq!(selection.kernel, Kernel::ALL);
        let split = parse(&["--split"]).unwrap().selection(false);
        assert_eq!(split.own, Own::value_variants());
        let split = parse(&["--split", "--transport", "ring"]).unwrap().selection(false);
        assert_eq!(split.own, [Own::Ring, Own::Split]);
        let bytes = parse(&["--split", "--transport", "bytes"]).unwrap().selection(false);
        assert_eq!(bytes.own, [Own::Bytes, Own::SplitBytes]);
    }

    #[test]
    fn lists_are_comma_separated_and_repeatable() {
        let args = parse(&[
            "--size", "64,4K", "--size", "8", "--size", "64", "--vs", "tcp,pipe", "--wait", "block",
        ])
        .unwrap();
        let selection = args.selection(true);
        assert_eq!(selection.sizes, Some(vec![8, 64, 4096]));
        assert_eq!(selection.kernel, [Kernel::Pipe, Kernel::Tcp]);
        assert_eq!(selection.waits, [Waiting::Block]);
        assert!(selection.one_cpu);
        assert!(parse(&["--vs", "none"]).unwrap().selection(false).kernel.is_empty());
    }

    #[test]
    fn nonsense_is_refused() {
        for wrong in [
            ["--size", "0"],
            ["--size", "7"],
            ["--size", "2M"],
            ["--vs", "carrier-pigeon"],
            ["--rounds", "0"],
            ["--seconds", "0"],
        ] {
            assert_eq!(parse(&wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
        assert!(parse(&["--no-pin", "--one-cpu"]).is_err());
        assert!(parse(&["--quick", "--rounds", "2"]).is_err());
        assert!(parse(&["--all", "--size", "64"]).is_err());
        assert!(parse(&["--all", "--receivers", "2"]).is_err());
        assert!(parse(&["--markdown"]).is_err());
    }
}
