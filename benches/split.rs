//! The split form against the shared one: the same work in turns, both sides pinned, medians of the rounds and of the
//! ratios within each. `cargo bench --bench split [-- ROUNDS]`.

use annulus::{Builder, Place, Receiver, Ring, Role, Sender, Wait};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Pins the calling thread.
fn pin(cpu: usize) {
    let mut set = nix::sched::CpuSet::new();
    set.set(cpu).expect("a small processor number");
    let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set);
}

type Ends<const N: usize> = (Sender<[u64; N]>, Receiver<[u64; N]>);

fn ends<const N: usize>(builder: Builder<Ring<[u64; N]>>, split: bool) -> Ends<N> {
    let (mut tx, mut rx) = if split {
        let sender = builder.clone().split(Role::Sender).unwrap();
        let receiver = builder.split(Role::Receiver).unwrap();
        let (one, other) = (sender.descriptor().unwrap(), receiver.descriptor().unwrap());
        let (sender, receiver) = (sender.join(other).unwrap(), receiver.join(one).unwrap());
        (sender.sender().unwrap(), receiver.receiver().unwrap())
    } else {
        let ring = builder.create(Place::memfd("bench").unwrap()).unwrap();
        (ring.sender().unwrap(), ring.receiver().unwrap())
    };
    tx.set_wait(Wait::Spin);
    rx.set_wait(Wait::Spin);
    (tx, rx)
}

/// Runs both at once, each on a processor of its own; how long `there` takes.
fn both(here: impl FnOnce() + Send, there: impl FnOnce()) -> Duration {
    let met = AtomicU64::new(0);
    let meet = || {
        met.fetch_add(1, Ordering::SeqCst);
        while met.load(Ordering::SeqCst) < 2 {
            std::hint::spin_loop();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(1);
            meet();
            here();
        });
        pin(0);
        meet();
        let start = Instant::now();
        there();
        start.elapsed()
    })
}

/// Nanoseconds for a message.
fn one_way<const N: usize>(split: bool, count: u64) -> f64 {
    let (mut tx, mut rx) = ends::<N>(Ring::builder(1024), split);
    let time = both(
        || (0..count).for_each(|i| tx.send([i; N]).unwrap()),
        || (0..count).for_each(|i| assert_eq!(rx.recv().unwrap(), [i; N])),
    );
    time.as_nanos() as f64 / count as f64
}

/// Nanoseconds there and back.
fn round_trip<const N: usize>(split: bool, count: u64) -> f64 {
    let (mut ask, mut hear) = ends::<N>(Ring::builder(64), split);
    let (mut reply, mut learn) = ends::<N>(Ring::builder(64), split);
    let time = both(
        || (0..count).for_each(|_| reply.send(hear.recv().unwrap()).unwrap()),
        || {
            (0..count).for_each(|i| {
                ask.send([i; N]).unwrap();
                assert_eq!(learn.recv().unwrap(), [i; N]);
            });
        },
    );
    time.as_nanos() as f64 / count as f64
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() {
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(21);
    type Row = (&'static str, fn(bool, u64) -> f64, u64);
    let rows: [Row; 4] = [
        ("round trip, 8 B", round_trip::<1>, 100_000),
        ("round trip, 64 B", round_trip::<8>, 100_000),
        ("one way, 8 B", one_way::<1>, 5_000_000),
        ("one way, 64 B", one_way::<8>, 3_000_000),
    ];
    println!("{:20} {:>12} {:>12} {:>14}", "", "shared", "split", "split/shared");
    for (name, work, count) in rows {
        let (mut shared, mut split, mut ratios) = (vec![], vec![], vec![]);
        for round in 0..rounds {
            // Who comes first takes turns, too.
            let first = work(round % 2 == 0, count);
            let second = work(round % 2 != 0, count);
            let (one, other) = if round % 2 == 0 { (second, first) } else { (first, second) };
            shared.push(one);
            split.push(other);
            ratios.push(other / one);
        }
        let (shared, split, ratio) = (median(shared), median(split), median(ratios));
        println!("{name:20} {shared:>9.1} ns {split:>9.1} ns {ratio:>14.3}");
    }
}
