//! A `Broadcast` against the ring of one sender and one receiver, and against a pipe for each reader: the same work in
//! turns, medians of the rounds and of the ratios within each. `cargo bench --bench broadcast [-- ROUNDS]`.
//!
//! With one receiver both sides are pinned and spin. With more, receivers share what processors there are, and wait as
//! they do by default; a pipe blocks.
//!
//! `sender RECEIVERS MESSAGES` only sends, beside so many receivers that nobody waits for: for a tool that counts
//! instructions. What two numbers of messages differ by is the cost of those between.

use annulus::{Broadcast, BroadcastRecvError, Delivery, Place, Ring, Start, Wait};
use std::fs::File;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

const CAPACITY: usize = 1024;
const BATCH: usize = 64;

/// Pins the calling thread.
fn pin(cpu: usize) {
    let mut set = nix::sched::CpuSet::new();
    set.set(cpu).expect("a small processor number");
    let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set);
}

/// Runs `send` here and each of `receivers` on a thread of its own, all at once; millions of messages a second, of
/// `count`, until the last of them is done.
fn race<R: FnOnce() + Send>(
    count: u64,
    pinned: bool,
    send: impl FnOnce(),
    receivers: Vec<R>,
) -> f64 {
    let (all, met) = (receivers.len() + 1, &AtomicUsize::new(0));
    let meet = || {
        met.fetch_add(1, Ordering::SeqCst);
        while met.load(Ordering::SeqCst) < all {
            std::thread::yield_now();
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = receivers
            .into_iter()
            .map(|receive| {
                scope.spawn(move || {
                    if pinned {
                        pin(1);
                    }
                    meet();
                    receive();
                })
            })
            .collect();
        if pinned {
            pin(0);
        }
        meet();
        let start = Instant::now();
        send();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        count as f64 / start.elapsed().as_secs_f64() / 1e6
    })
}

fn batch<const N: usize>(start: u64) -> [[u64; N]; BATCH] {
    std::array::from_fn(|i| [start + i as u64; N])
}

fn check<const N: usize>(messages: &[[u64; N]], next: &mut u64) {
    for message in messages {
        assert_eq!(*message, [*next; N]);
        *next += 1;
    }
}

fn ring<const N: usize>(count: u64, batched: bool) -> f64
where
    [u64; N]: bytemuck::Pod,
{
    let ring = Ring::<[u64; N]>::builder(CAPACITY).create(Place::memfd("bench").unwrap()).unwrap();
    let mut tx = ring.sender().unwrap().with_wait(Wait::Spin);
    let mut rx = ring.receiver().unwrap().with_wait(Wait::Spin);
    let receive = move || {
        let (mut next, mut there) = (0, batch(0));
        while next < count {
            match batched {
                true => {
                    let got = rx.recv_batch(&mut there).unwrap();
                    check(&there[..got], &mut next);
                }
                false => check(&[rx.recv().unwrap()], &mut next),
            }
        }
    };
    let send = || match batched {
        true => (0..count).step_by(BATCH).for_each(|i| tx.send_all(&batch(i)).unwrap()),
        false => (0..count).for_each(|i| tx.send([i; N]).unwrap()),
    };
    race(count, true, send, vec![receive])
}

fn broadcast<const N: usize>(count: u64, batched: bool, delivery: Delivery, receivers: usize) -> f64
where
    [u64; N]: bytemuck::Pod,
{
    let builder = Broadcast::<[u64; N]>::builder(CAPACITY);
    let broadcast = builder.create(Place::memfd("bench").unwrap()).unwrap();
    let wait = if receivers == 1 { Wait::Spin } else { Wait::Adaptive };
    let mut tx = broadcast.sender().unwrap().with_wait(wait);
    let listeners = (0..receivers).map(|_| {
        let mut rx = broadcast.receiver(delivery, Start::Now).unwrap().with_wait(wait);
        move || {
            let (mut next, mut there) = (0, batch(0));
            // Who lags may have lost the last message: the sender's leave ends it.
            while next < count {
                let received = match batched {
                    true => rx.recv_batch(&mut there).map(|got| check(&there[..got], &mut next)),
                    false => rx.recv().map(|message| check(&[message], &mut next)),
                };
                match received {
                    Ok(()) => {}
                    Err(BroadcastRecvError::Lagged(missed)) => next += missed,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    });
    let listeners = listeners.collect();
    let send = || match batched {
        true => (0..count).step_by(BATCH).for_each(|i| tx.send_all(&batch(i)).unwrap()),
        false => (0..count).for_each(|i| tx.send([i; N]).unwrap()),
    };
    race(count, receivers == 1, send, listeners)
}

fn pipes<const N: usize>(count: u64, receivers: usize) -> f64
where
    [u64; N]: bytemuck::Pod,
{
    let (mut ends, mut listeners) = (vec![], vec![]);
    for _ in 0..receivers {
        let (from, to) = std::io::pipe().unwrap();
        let (mut from, to) = (File::from(std::os::fd::OwnedFd::from(from)), to);
        ends.push(to);
        listeners.push(move || {
            let mut message = [0_u64; N];
            for i in 0..count {
                from.read_exact(bytemuck::bytes_of_mut(&mut message)).unwrap();
                assert_eq!(message, [i; N]);
            }
        });
    }
    let send = || {
        for i in 0..count {
            for end in &mut ends {
                end.write_all(bytemuck::bytes_of(&[i; N])).unwrap();
            }
        }
    };
    race(count, receivers == 1, send, listeners)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn row(name: &str, rounds: usize, ours: impl Fn() -> f64, theirs: impl Fn() -> f64) {
    let (mut own, mut other, mut ratios) = (vec![], vec![], vec![]);
    for round in 0..rounds {
        // Who comes first takes turns, too.
        let (one, two) = if round % 2 == 0 {
            let one = ours();
            (one, theirs())
        } else {
            let two = theirs();
            (ours(), two)
        };
        own.push(one);
        other.push(two);
        ratios.push(one / two);
    }
    let (own, other, ratio) = (median(own), median(other), median(ratios));
    println!("{name:40} {own:>9.2} M/s {other:>9.2} M/s {ratio:>8.2}");
}

/// Sends `count` messages beside so many receivers that nobody waits for.
fn send_only(receivers: usize, count: u64) {
    let builder = Broadcast::<[u64; 1]>::builder(CAPACITY);
    let broadcast = builder.create(Place::memfd("bench").unwrap()).unwrap();
    let mut tx = broadcast.sender().unwrap();
    let join = |_| broadcast.receiver(Delivery::Lossy, Start::Now).unwrap();
    let listeners: Vec<_> = (0..receivers).map(join).collect();
    (0..count).for_each(|i| tx.send([i]).unwrap());
    drop(listeners);
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [what, receivers, count, ..] = &arguments[..] {
        if what == "sender" {
            return send_only(receivers.parse().unwrap(), count.parse().unwrap());
        }
    }
    let rounds = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(15);
    // Short, so that a round is over before somebody else has one of the processors; and so there may be many.
    const MANY: u64 = 64_000;
    let short = rounds * 10;
    let gate = Delivery::Gate;
    println!("{:40} {:>13} {:>13} {:>8}", "", "broadcast", "ring", "ratio");
    row("8 B", short, || broadcast::<1>(MANY, false, gate, 1), || ring::<1>(MANY, false));
    row("64 B", short, || broadcast::<8>(MANY, false, gate, 1), || ring::<8>(MANY, false));
    row("8 B, 64 a call", short, || broadcast::<1>(MANY, true, gate, 1), || ring::<1>(MANY, true));
    row("64 B, 64 a call", short, || broadcast::<8>(MANY, true, gate, 1), || ring::<8>(MANY, true));
    println!("{:40} {:>13} {:>13} {:>8}", "64 B", "broadcast", "pipes", "ratio");
    for receivers in [1, 4, 16] {
        let count = 64_000 / receivers as u64;
        for (name, delivery) in [("waited for", gate), ("not waited for", Delivery::Lossy)] {
            let name = format!("{receivers} receivers, {name}");
            let ours = || broadcast::<8>(count, false, delivery, receivers);
            row(&name, rounds, ours, || pipes::<8>(count, receivers));
        }
    }
}
