//! What is compared: every original with what replaces it, on the same work.

use super::fan::{Broadcasts as Fan, Pipes, fan};
use super::locks::{alone, contended};
use super::many_senders::{Datagrams, Lanes, many_senders};
use super::trial::{Test, messages};
use super::values::{reads, writes};
use crate::bench::link::Waiting;
use crate::bench::links::broadcast::Broadcasts;
use crate::bench::links::connection::{ByteDuplexes, ByteStreams};
use crate::bench::links::event::Events;
use crate::bench::links::guarded::Guarded;
use crate::bench::links::latest::Newest;
use crate::bench::links::locked_value::LockedValue;
use crate::bench::links::mailbox::{Any, ByType, Highest, Mailboxes};
use crate::bench::links::notice::{Counters, Noticed};
use crate::bench::links::pipe::{Fifo, Pipe};
use crate::bench::links::posix_queue::PosixQueues;
use crate::bench::links::ring::Rings;
use crate::bench::links::ring_stream::RingStreams;
use crate::bench::links::semaphore::{Binary, Mutex, Posix, Signals as Counting, SystemV};
use crate::bench::links::signal::{QueuedSignals, Signals};
use crate::bench::links::socket::{UnixSeqpacket, UnixStreams};
use crate::bench::links::sysv_types::TypedQueues;
use crate::bench::links::variable::Variables;

/// Originals and what replaces them, at one work.
pub struct Contest {
    pub work: &'static str,
    /// Bytes of a message or a value; 0 where there is none.
    pub size: usize,
    pub originals: Vec<Contender>,
    pub replacement: Contender,
    pub figures: Figures,
    /// How the replacement waits; the originals block.
    pub waits: &'static [Waiting],
    /// Whether it means anything with both processes on one processor, which each has for a while.
    pub on_one: bool,
}

/// A mechanism and its test.
#[derive(Clone, Copy)]
pub struct Contender {
    pub name: &'static str,
    pub test: Test,
}

/// What a contest comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figures {
    Both,
    RoundTrip,
    Rate,
}

/// Side by side with originals that block, and as it waits by default.
const WAITS: &[Waiting] = &[Waiting::Block, Waiting::Adaptive];
/// Of what never waits.
const ONCE: &[Waiting] = &[Waiting::Block];

const fn by(name: &'static str, test: Test) -> Contender {
    Contender { name, test }
}

fn contest(
    work: &'static str,
    size: usize,
    originals: &[Contender],
    replacement: Contender,
) -> Contest {
    let (figures, waits) = (Figures::Both, WAITS);
    Contest { work, size, originals: originals.to_vec(), replacement, figures, waits, on_one: true }
}

impl Contest {
    fn only(self, figures: Figures) -> Self {
        Self { figures, ..self }
    }

    fn once(self) -> Self {
        Self { waits: ONCE, ..self }
    }

    fn not_on_one(self) -> Self {
        Self { on_one: false, ..self }
    }
}

/// All of them, in the order of the table.
pub fn all() -> Vec<Contest> {
    [streams(), queues(), connections(), groups(), notices(), semaphores(), variables()]
        .into_iter()
        .flatten()
        .collect()
}

pub fn streams() -> Vec<Contest> {
    let originals = [by("pipe", messages::<Pipe>), by("FIFO", messages::<Fifo>)];
    let stream = by("Stream", messages::<RingStreams>);
    [64, 4096].map(|size| contest("bytes", size, &originals, stream)).into()
}

fn queues() -> Vec<Contest> {
    let system_v = [
        by("System V queue", messages::<TypedQueues<Any>>),
        by("System V queue", messages::<TypedQueues<ByType>>),
    ];
    let posix = by("POSIX queue", messages::<PosixQueues>);
    let guarded = [
        by("shared memory, semop", messages::<Guarded<SystemV<false>, 8>>),
        by("shared memory, sem_t", messages::<Guarded<Posix, 8>>),
    ];
    let any = by("Mailbox", messages::<Mailboxes<Any>>);
    let by_type = by("Mailbox", messages::<Mailboxes<ByType>>);
    let highest = by("Mailbox", messages::<Mailboxes<Highest>>);
    vec![
        contest("messages, any type", 64, &system_v[..1], any),
        contest("messages, by type", 64, &system_v[1..], by_type),
        contest("messages, by priority", 64, &[posix], highest),
        contest("messages", 64, &guarded, by("Ring", messages::<Rings<8>>)),
    ]
}

fn connections() -> Vec<Contest> {
    let stream = by("Unix stream socket", messages::<UnixStreams>);
    let seqpacket = by("Unix seqpacket socket", messages::<UnixSeqpacket>);
    let datagrams = by("Unix datagram socket", many_senders::<Datagrams, 4>);
    let byte_stream = by("ByteStream", messages::<ByteStreams>);
    let byte_duplex = by("ByteDuplex", messages::<ByteDuplexes>);
    let lanes = by("ByteRing, lanes", many_senders::<Lanes, 4>);
    vec![
        contest("bytes, connected", 64, &[stream], byte_stream),
        contest("bytes, connected", 4096, &[stream], byte_stream),
        contest("messages, connected", 64, &[seqpacket], byte_duplex),
        contest("messages, connected", 4096, &[seqpacket], byte_duplex),
        contest("messages of 4 senders", 64, &[datagrams], lanes).only(Figures::Rate),
    ]
}

fn groups() -> Vec<Contest> {
    let one = by("pipe", messages::<Pipe>);
    let four = by("4 pipes", fan::<Pipes, 4>);
    let sixteen = by("16 pipes", fan::<Pipes, 16>);
    let to = |work, original, test| contest(work, 64, &[original], by("Broadcast", test));
    vec![
        to("to 1 receiver", one, messages::<Broadcasts<8>>),
        to("to 4 receivers", four, fan::<Fan<8>, 4>).only(Figures::Rate),
        to("to 16 receivers", sixteen, fan::<Fan<8>, 16>).only(Figures::Rate),
    ]
}

fn notices() -> Vec<Contest> {
    let coalescing = [
        by("sigqueue, signalfd", messages::<Noticed<Signals>>),
        by("eventfd", messages::<Noticed<Counters>>),
    ];
    let queued = by("sigqueue, signalfd", messages::<QueuedSignals>);
    vec![
        contest("notices", 0, &coalescing, by("Event", messages::<Noticed<Events>>)),
        contest("notices, queued", 8, &[queued], by("Broadcast", messages::<Broadcasts<1>>)),
    ]
}

fn semaphores() -> Vec<Contest> {
    let signals = [
        by("semop", messages::<Guarded<SystemV<false>, 1>>),
        by("sem_t", messages::<Guarded<Posix, 1>>),
    ];
    let at_once = [
        by("semop", contended::<SystemV<false>>),
        by("semop, SEM_UNDO", contended::<SystemV<true>>),
        by("sem_t", contended::<Posix>),
        by("mutex", contended::<Mutex<false>>),
        by("robust mutex", contended::<Mutex<true>>),
    ];
    let by_one = [
        by("semop", alone::<SystemV<false>>),
        by("semop, SEM_UNDO", alone::<SystemV<true>>),
        by("sem_t", alone::<Posix>),
        by("mutex", alone::<Mutex<false>>),
        by("robust mutex", alone::<Mutex<true>>),
    ];
    let semaphore = |test| by("Semaphore", test);
    vec![
        contest("signalling", 8, &signals, semaphore(messages::<Guarded<Counting, 1>>)),
        contest("lock, two at once", 0, &at_once, semaphore(contended::<Binary>))
            .only(Figures::Rate),
        contest("lock, one alone", 0, &by_one, semaphore(alone::<Binary>))
            .only(Figures::Rate)
            .once()
            .not_on_one(),
    ]
}

fn variables() -> Vec<Contest> {
    of_words::<8>().into_iter().chain(of_words::<512>()).collect()
}

fn of_words<const N: usize>() -> [Contest; 3]
where
    [u64; N]: bytemuck::Pod,
{
    let compare = |work, theirs: Contender, ours| contest(work, N * 8, &[theirs], ours);
    let changes = compare(
        "changes",
        by("mutex, condition", messages::<Variables<LockedValue<N>, N>>),
        by("Latest", messages::<Variables<Newest<N>, N>>),
    );
    let reading = compare(
        "reads while written",
        by("mutex", reads::<LockedValue<N>, N>),
        by("Latest", reads::<Newest<N>, N>),
    );
    let writing = compare(
        "writes while read",
        by("mutex", writes::<LockedValue<N>, N>),
        by("Latest", writes::<Newest<N>, N>),
    );
    [
        changes.only(Figures::RoundTrip),
        reading.only(Figures::Rate).once().not_on_one(),
        writing.only(Figures::Rate).once().not_on_one(),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_contests_are_told_apart_by_nothing() {
        let contests = all();
        let rows: Vec<_> = contests
            .iter()
            .flat_map(|contest| {
                let originals = contest.originals.iter();
                originals.map(|by| (by.name, contest.replacement.name, contest.work, contest.size))
            })
            .collect();
        assert_eq!(rows.iter().collect::<HashSet<_>>().len(), rows.len());
        // The first way to wait is the one that is compared on equal terms.
        assert!(contests.iter().all(|contest| contest.waits[0] == Waiting::Block));
    }
}
