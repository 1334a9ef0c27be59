//! Messages that come one at a time to who waits for descriptors: how long after they were sent they are there, and what
//! processor time the receiving process takes for each. A pipe and a ring in one `epoll` set, and beside them a receiver
//! that blocks. In turns; medians of the rounds, with quartiles. `cargo bench --bench poll [-- ROUNDS]`.

use annulus::{Place, Pollable, Receiver, Ring, Wait};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::AsFd;
use std::time::Duration;

/// Messages in a round, and how long the sender pauses between two: who waits is asleep by then.
const MESSAGES: usize = 800;
const PAUSE: Duration = Duration::from_micros(150);

/// How the message comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Pipe,
    /// A ring with a descriptor.
    Polled(Wait),
    /// A ring without one.
    Blocked,
}

const WAYS: [(&str, Way); 4] = [
    ("pipe, epoll", Way::Pipe),
    ("ring, epoll, Block", Way::Polled(Wait::Block)),
    ("ring, epoll, Adaptive", Way::Polled(Wait::Adaptive)),
    ("ring, blocked receiver", Way::Blocked),
];

/// Processors of the receiving and of the sending process; any, if none are given.
const PLACES: [(&str, Option<(usize, usize)>); 3] =
    [("not bound", None), ("two cores", Some((0, 1))), ("one core", Some((0, 0)))];

/// Pins the calling thread.
fn pin(cpu: usize) {
    let mut set = nix::sched::CpuSet::new();
    set.set(cpu).expect("a small processor number");
    let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set);
}

fn now() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap().num_nanoseconds() as u64
}

/// Processor time of this process, in nanoseconds.
fn used() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    ((usage.user_time() + usage.system_time()).num_microseconds() * 1000) as f64
}

fn send(way: Way, ring: &Ring<u64>, mut writer: PipeWriter) {
    let mut tx = ring.sender().unwrap();
    for _ in 0..MESSAGES {
        std::thread::sleep(PAUSE);
        match way {
            Way::Pipe => writer.write_all(&now().to_ne_bytes()).unwrap(),
            _ => tx.send(now()).unwrap(),
        }
    }
    // The receiver says when it has all.
    while ring.stats().length > 0 {
        std::thread::sleep(PAUSE);
    }
}

/// Nanoseconds from each message's sending.
fn block(mut rx: Receiver<u64>) -> Vec<u64> {
    (0..MESSAGES).map(|_| rx.recv().map(|sent| now() - sent).unwrap()).collect()
}

fn poll(rx: Receiver<u64>, mut reader: PipeReader) -> Vec<u64> {
    let mut rx = Pollable::new(rx).unwrap();
    let set = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
    set.add(rx.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, 0)).unwrap();
    set.add(reader.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, 1)).unwrap();
    let (mut times, mut events) = (Vec::with_capacity(MESSAGES), [EpollEvent::empty(); 2]);
    while times.len() < MESSAGES {
        let count = set.wait(&mut events, EpollTimeout::NONE).unwrap();
        for event in &events[..count] {
            if event.data() == 1 {
                let mut sent = [0; 8];
                reader.read_exact(&mut sent).unwrap();
                times.push(now() - u64::from_ne_bytes(sent));
                continue;
            }
            loop {
                while let Ok(sent) = rx.try_recv() {
                    times.push(now() - sent);
                }
                if times.len() == MESSAGES || rx.arm().is_pending() {
                    break;
                }
            }
        }
    }
    times
}

/// One round: nanoseconds that half of the messages took at most, and processor time of the receiver for each.
fn round(way: Way, place: Option<(usize, usize)>) -> (f64, f64) {
    let ring = Ring::<u64>::builder(64).create(Place::memfd("bench").unwrap()).unwrap();
    let (reader, writer) = pipe().unwrap();
    let fd = ring.inheritable_fd().unwrap();
    // SAFETY: this process has one thread; the child ends by `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork");
    if child == 0 {
        // SAFETY: system calls without pointers.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::alarm(120);
        }
        place.into_iter().for_each(|(_, cpu)| pin(cpu));
        send(way, &Ring::from_fd(fd).unwrap(), writer);
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(0) };
    }
    drop(writer);
    // A thread of its own, for the processor that it may be bound to.
    let receive = move || {
        place.into_iter().for_each(|(cpu, _)| pin(cpu));
        let wait = if let Way::Polled(wait) = way { wait } else { Wait::Block };
        let rx = ring.receiver().unwrap().with_wait(wait);
        let before = used();
        let times = if way == Way::Blocked { block(rx) } else { poll(rx, reader) };
        (times, used() - before)
    };
    let (mut times, used) = std::thread::spawn(receive).join().unwrap();
    let mut status = 0;
    // SAFETY: waits for the child above.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "the sender failed");
    times.sort_unstable();
    (times[MESSAGES / 2] as f64, used / MESSAGES as f64)
}

/// The figures at a quarter, half and three quarters.
fn quartiles(mut figures: Vec<f64>) -> [f64; 3] {
    figures.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| figures[(figures.len() - 1) * quarter / 4])
}

fn main() {
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(5);
    for (name, place) in PLACES {
        let mut figures = [(); WAYS.len()].map(|()| Vec::new());
        for first in 0..rounds {
            for i in (0..WAYS.len()).map(|i| (i + first) % WAYS.len()) {
                figures[i].push(round(WAYS[i].1, place));
            }
        }
        println!("{name}: there after, × the pipe's in the same round; processor time, µs");
        for ((way, _), own) in WAYS.iter().zip(&figures) {
            let [low, middle, high] = quartiles(own.iter().map(|own| own.0 / 1000.0).collect());
            let over = |(own, pipe): (&(f64, f64), &(f64, f64))| own.0 / pipe.0;
            let [least, ratio, most] = quartiles(own.iter().zip(&figures[0]).map(over).collect());
            let [_, used, _] = quartiles(own.iter().map(|own| own.1 / 1000.0).collect());
            println!(
                "    {way:24} {middle:6.1} ({low:.1}–{high:.1}) \
                 {ratio:5.2} ({least:.2}–{most:.2}) {used:6.1}"
            );
        }
    }
}
