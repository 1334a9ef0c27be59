//! Many senders of messages of 64 bytes and one receiver: a byte ring with a lane for each sender, against a ring of
//! slots that they share. Medians of interleaved rounds. `cargo bench --bench lanes [-- ROUNDS]`.
//!
//! Threads are not pinned, because there may be more of them than processors. Who finds nothing to do spins for a
//! moment and then yields, with either ring.

use annulus::{ByteRing, Place, Ring, Topology};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

type Message = [u8; 64];

const MESSAGES: usize = 1_000_000;
/// Bytes that each ring, or lane, has room for.
const CAPACITY: usize = 64 * 1024;
/// Senders, and how many times the rate of slots is asked for.
const ROWS: [(usize, Option<f64>); 4] = [(1, None), (2, None), (4, Some(1.5)), (8, None)];

/// Tries until it is done: spins at first, then yields.
fn until(mut done: impl FnMut() -> bool) {
    let mut tries = 0_u32;
    while !done() {
        tries += 1;
        if tries < 64 { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
}

fn message(sender: usize, number: usize) -> Message {
    let mut message = [0; 64];
    message[..8].copy_from_slice(&number.to_le_bytes());
    message[56..].copy_from_slice(&(sender ^ number).to_le_bytes());
    message
}

/// Millions of messages a second, and the smallest part of its messages that a sender had sent when the first one was
/// done with all of its own.
fn timed<S: FnMut(&Message) -> bool + Send>(
    senders: Vec<S>,
    mut receive: impl FnMut(&mut Message) -> bool,
) -> (f64, f64) {
    let each = MESSAGES / senders.len();
    let sent: Vec<_> = senders.iter().map(|_| AtomicUsize::new(0)).collect();
    let slowest = AtomicUsize::new(usize::MAX);
    let (sent, slowest_seen) = (&sent, &slowest);
    let mut expected = vec![0; senders.len()];
    let start = Instant::now();
    std::thread::scope(|scope| {
        for (sender, mut send) in senders.into_iter().enumerate() {
            scope.spawn(move || {
                for number in 0..each {
                    let message = message(sender, number);
                    until(|| send(&message));
                    sent[sender].store(number + 1, Relaxed);
                }
                let least = sent.iter().map(|sent| sent.load(Relaxed)).min();
                let _ = slowest_seen.compare_exchange(
                    usize::MAX,
                    least.unwrap_or_default(),
                    Relaxed,
                    Relaxed,
                );
            });
        }
        let mut message = [0; 64];
        for _ in 0..each * expected.len() {
            until(|| receive(&mut message));
            let word = |at: usize| usize::from_le_bytes(message[at..at + 8].try_into().unwrap());
            let (number, sender) = (word(0), word(0) ^ word(56));
            assert_eq!(number, expected[sender], "a message of sender {sender} was lost");
            expected[sender] += 1;
        }
    });
    let total = each * expected.len();
    let rate = total as f64 / start.elapsed().as_secs_f64() / 1e6;
    (rate, slowest.into_inner() as f64 / each as f64)
}

fn lanes(senders: usize, ordered: bool) -> (f64, f64) {
    let builder = ByteRing::builder(CAPACITY).topology(Topology::Mpsc).participants(senders);
    let ring = builder.ordered(ordered).create(Place::memfd("lanes").unwrap()).unwrap();
    let mut rx = ring.receiver().unwrap();
    let sender = |_| {
        let mut tx = ring.sender().unwrap();
        move |message: &Message| tx.try_send(message).is_ok()
    };
    timed((0..senders).map(sender).collect(), |message| rx.try_recv_into(message).is_ok())
}

fn slots(senders: usize) -> (f64, f64) {
    let builder = Ring::<Message>::builder(CAPACITY / 64).topology(Topology::Mpmc);
    let ring = builder.create(Place::memfd("slots").unwrap()).unwrap();
    let mut rx = ring.receiver().unwrap();
    let sender = |_| {
        let mut tx = ring.sender().unwrap();
        move |message: &Message| tx.try_send(*message).is_ok()
    };
    timed((0..senders).map(sender).collect(), |message| match rx.try_recv() {
        Ok(received) => {
            *message = received;
            true
        }
        Err(_) => false,
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let rounds = args.next().map_or(9, |arg| arg.parse().expect("a number")).max(1);
    for (senders, bar) in ROWS {
        let (mut shared, mut own, mut ordered) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            shared.push(slots(senders));
            own.push(lanes(senders, false));
            ordered.push(lanes(senders, true));
        }
        let ratios = own.iter().zip(&shared).map(|(own, shared)| own.0 / shared.0);
        let least = ratios.clone().fold(f64::INFINITY, f64::min);
        let most = ratios.fold(0.0, f64::max);
        let rate = |runs: &[(f64, f64)]| median(runs.iter().map(|run| run.0).collect());
        let fair = |runs: &[(f64, f64)]| median(runs.iter().map(|run| run.1).collect());
        println!(
            "{senders} senders: slots {:5.1} M/s, lanes {:5.1} M/s, in order {:5.1} M/s; lanes over slots {:.2} \
             ({least:.2}..{most:.2}){}; the slowest has sent {:.2}, {:.2}, {:.2} of its own when the first is done",
            rate(&shared),
            rate(&own),
            rate(&ordered),
            rate(&own) / rate(&shared),
            bar.map_or(String::new(), |bar| format!(", bar {bar}")),
            fair(&shared),
            fair(&own),
            fair(&ordered),
        );
    }
}
