//! The bars of the project, each a ratio against a peer in the same run: medians of interleaved rounds,
//! both sides pinned, payload written and checked. `cargo bench --bench bars [-- ROUNDS [ROW]]`.
//!
//! Rows of chunks and of slices are compared with the fastest that rtrb has for 64 messages, round by round: chunks in place,
//! checked in one loop over both parts or in a loop for each, or copies of slices. Slices also with its slices.
//!
//! One way: rtrb runs in one process, because it cannot do otherwise; the ring runs in one process
//! ("threads") and across two ("processes").

use annulus::{Place, Receiver, Ring, Sender, Wait};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Pins the calling thread.
fn pin(cpu: usize) {
    let mut set = nix::sched::CpuSet::new();
    set.set(cpu).expect("a small processor number");
    let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set);
}

/// A message of `N` words that depends on its number in every word.
fn message<const N: usize>(i: u64) -> [u64; N] {
    [i; N]
}

fn check<const N: usize>(m: &[u64; N], i: u64) {
    assert!(m.iter().all(|&word| word == i), "message {i} is damaged");
}

/// Both sides start together; the receiver's time from there to the last message.
struct Start(AtomicU64);

impl Start {
    fn meet(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        while self.0.load(Ordering::SeqCst) < 2 {
            std::hint::spin_loop();
        }
    }
}

const CHUNK: usize = 64;

fn send_all<const N: usize>(tx: &mut Sender<[u64; N]>, count: u64, chunk: usize, in_place: bool) {
    if chunk == 1 {
        for i in 0..count {
            tx.send(message(i)).unwrap();
        }
        return;
    }
    if in_place {
        let mut sent = 0;
        while sent < count {
            let end = count.min(sent + chunk as u64);
            match tx.try_send_from((sent..end).map(message)) {
                0 => tx.send(message(sent)).map(|()| sent += 1).unwrap(),
                n => sent += n as u64,
            }
        }
        return;
    }
    let mut batch = [[0; N]; CHUNK];
    for start in (0..count).step_by(CHUNK) {
        for (i, m) in batch.iter_mut().enumerate() {
            *m = message(start + i as u64);
        }
        tx.send_all(&batch).unwrap();
    }
}

fn recv_all<const N: usize>(rx: &mut Receiver<[u64; N]>, count: u64, chunk: usize, in_place: bool) {
    if chunk == 1 {
        for i in 0..count {
            check(&rx.recv().unwrap(), i);
        }
        return;
    }
    let mut next = 0;
    if in_place {
        while next < count {
            check(&rx.recv().unwrap(), next);
            next += 1;
            rx.drain(chunk).for_each(|m| {
                check(&m, next);
                next += 1;
            });
        }
        return;
    }
    let mut batch = [[0; N]; CHUNK];
    while next < count {
        let got = rx.recv_batch(&mut batch).unwrap();
        for m in &batch[..got] {
            check(m, next);
            next += 1;
        }
    }
}

fn ours<const N: usize>(capacity: usize, count: u64, chunk: usize, in_place: bool) -> f64 {
    let ring = Ring::<[u64; N]>::builder(capacity).create(Place::memfd("bars").unwrap()).unwrap();
    let mut tx = ring.sender().unwrap().with_wait(Wait::Spin);
    let mut rx = ring.receiver().unwrap().with_wait(Wait::Spin);
    let start = Start(AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(0);
            start.meet();
            send_all(&mut tx, count, chunk, in_place);
        });
        let receiver = scope.spawn(|| {
            pin(1);
            start.meet();
            let begin = Instant::now();
            recv_all(&mut rx, count, chunk, in_place);
            count as f64 / begin.elapsed().as_secs_f64() / 1e6
        });
        receiver.join().unwrap()
    })
}

/// How messages go through rtrb.
#[derive(Clone, Copy)]
enum Way {
    /// One a call.
    Single,
    /// Chunks, in place, checked in one loop.
    Chunks,
    /// Chunks, in place, checked in a loop for each of the two parts.
    Parts,
    /// Copies of slices.
    Slices,
}

fn rtrb_send<const N: usize>(tx: &mut ::rtrb::Producer<[u64; N]>, count: u64, way: Way) {
    match way {
        Way::Single => {
            for i in 0..count {
                while tx.push(message(i)).is_err() {
                    std::hint::spin_loop();
                }
            }
        }
        Way::Slices => {
            let mut batch = [[0; N]; CHUNK];
            for start in (0..count).step_by(CHUNK) {
                for (i, m) in batch.iter_mut().enumerate() {
                    *m = message(start + i as u64);
                }
                while tx.push_entire_slice(&batch).is_err() {
                    std::hint::spin_loop();
                }
            }
        }
        Way::Chunks | Way::Parts => {
            let mut i = 0;
            while i < count {
                if let Ok(room) = tx.write_chunk_uninit(CHUNK) {
                    let from = i;
                    room.fill_from_iter((from..).map(message));
                    i += CHUNK as u64;
                } else {
                    std::hint::spin_loop();
                }
            }
        }
    }
}

fn rtrb_recv<const N: usize>(rx: &mut ::rtrb::Consumer<[u64; N]>, count: u64, way: Way) {
    let mut i = 0;
    match way {
        Way::Single => {
            while i < count {
                if let Ok(m) = rx.pop() {
                    check(&m, i);
                    i += 1;
                } else {
                    std::hint::spin_loop();
                }
            }
        }
        Way::Slices => {
            let mut batch = [[0; N]; CHUNK];
            while i < count {
                let (got, _) = rx.pop_partial_slice(&mut batch);
                if got.is_empty() {
                    std::hint::spin_loop();
                }
                for m in got {
                    check(m, i);
                    i += 1;
                }
            }
        }
        Way::Chunks => {
            while i < count {
                if let Ok(there) = rx.read_chunk(CHUNK) {
                    let (a, b) = there.as_slices();
                    for m in a.iter().chain(b) {
                        check(m, i);
                        i += 1;
                    }
                    there.commit_all();
                } else {
                    std::hint::spin_loop();
                }
            }
        }
        Way::Parts => {
            while i < count {
                if let Ok(there) = rx.read_chunk(CHUNK) {
                    let (a, b) = there.as_slices();
                    for part in [a, b] {
                        for m in part {
                            check(m, i);
                            i += 1;
                        }
                    }
                    there.commit_all();
                } else {
                    std::hint::spin_loop();
                }
            }
        }
    }
}

fn rtrb<const N: usize>(capacity: usize, count: u64, way: Way) -> f64 {
    let (mut tx, mut rx) = ::rtrb::RingBuffer::<[u64; N]>::new(capacity);
    let start = Start(AtomicU64::new(0));
    let start = &start;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            pin(0);
            start.meet();
            rtrb_send(&mut tx, count, way);
        });
        let receiver = scope.spawn(move || {
            pin(1);
            start.meet();
            let begin = Instant::now();
            rtrb_recv(&mut rx, count, way);
            count as f64 / begin.elapsed().as_secs_f64() / 1e6
        });
        receiver.join().unwrap()
    })
}

/// Median and quartiles.
fn spread(mut figures: Vec<f64>) -> (f64, f64, f64) {
    figures.sort_by(f64::total_cmp);
    let at = |share: usize| figures[figures.len() * share / 4 % figures.len()];
    (at(1), at(2), at(3))
}

fn compare<const N: usize>(
    what: &str,
    capacity: usize,
    count: u64,
    chunk: usize,
    in_place: bool,
    rounds: usize,
    bar: f64,
) {
    let mut wanted = std::env::args().skip(1).filter(|a| a.parse::<usize>().is_err());
    if wanted.any(|row| !row.starts_with('-') && row != what) {
        return;
    }
    let count = count / CHUNK as u64 * CHUNK as u64;
    let (mut theirs, mut mine, mut ratios, mut copies) = (vec![], vec![], vec![], vec![]);
    for _ in 0..rounds {
        let ways: &[Way] = match chunk {
            1 => &[Way::Single],
            _ => &[Way::Chunks, Way::Parts, Way::Slices],
        };
        let peers: Vec<f64> = ways.iter().map(|&way| rtrb::<N>(capacity, count, way)).collect();
        let peer = peers.iter().copied().fold(0.0, f64::max);
        let own = ours::<N>(capacity, count, chunk, in_place);
        theirs.push(peer);
        mine.push(own);
        ratios.push(own / peer);
        copies.push(own / peers[peers.len() - 1]);
    }
    let (low, median, high) = spread(ratios);
    print!(
        "{what:<14} capacity {capacity:>6}: rtrb {:7.1} M/s, ring {:7.1} M/s, ratio {median:.2} ({low:.2}..{high:.2}), bar {bar}",
        spread(theirs).1,
        spread(mine).1,
    );
    match chunk > 1 && !in_place {
        true => println!(", of its slices {:.2}", spread(copies).1),
        false => println!(),
    }
}

fn main() {
    let rounds = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(15);
    for capacity in [1024, 16384] {
        compare::<1>("u64", capacity, 400_000, 1, false, rounds, 1.5);
        compare::<8>("64 B", capacity, 400_000, 1, false, rounds, 1.2);
        compare::<1>("u64 chunks", capacity, 1_600_000, CHUNK, true, rounds, 1.2);
        compare::<8>("64 B chunks", capacity, 400_000, CHUNK, true, rounds, 1.2);
        compare::<1>("u64 slices", capacity, 1_600_000, CHUNK, false, rounds, 1.2);
        compare::<8>("64 B slices", capacity, 400_000, CHUNK, false, rounds, 1.2);
    }
}
