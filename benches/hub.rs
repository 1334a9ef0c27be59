//! A hub of many clients: what idle ones cost, and what an attacker takes from an honest one, beside the processor time
//! that it takes. `cargo bench --bench hub [-- ROUNDS] [idle | together | apart]`.
//!
//! Three processes that are busy share two processors at best, so each is bound, and in the same way beside each neighbour.
//! On one processor all time is somebody's: an attacker meets the bar if what is lost is no more than what it took, for
//! itself and of the service. Where the service has a processor to itself, it spins while it has nothing to do; there only
//! the attacker's own time is counted, and what is lost beyond that is the service's, of which it may take an equal share.

#[path = "child.rs"]
mod child;

use annulus::{Address, Connect, Duplex, Hub, HubEvent, Listener, Wait};
use child::Child;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, socket,
};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Idle clients.
const IDLE: usize = 100;
/// How long rates are measured for.
const WHILE: Duration = Duration::from_millis(200);

fn hub(what: &str) -> Hub<Duplex<u64>> {
    let name = format!("annulus-bench-hub-{what}-{}", std::process::id());
    Hub::new(Listener::bind(Address::name(name)).unwrap()).unwrap().most_clients(2 * IDLE)
}

/// Binds the calling process.
fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}

/// Processor time of this process.
fn used() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap().into()
}

fn used_by(child: &Child) -> Duration {
    clock_gettime(clock_getcpuclockid(child.pid()).unwrap()).unwrap().into()
}

/// Answers until `is_over`, which is asked now and then.
fn serve(hub: &mut Hub<Duplex<u64>>, mut is_over: impl FnMut(&Hub<Duplex<u64>>) -> bool) {
    let mut looks = 0_u32;
    loop {
        match hub.next_timeout(Duration::from_millis(2)).unwrap() {
            Some(HubEvent::Ready(mut turn)) => {
                while let Some(number) = turn.recv() {
                    let _ = turn.try_send(number);
                }
                looks += 1;
            }
            _ => looks = 0,
        }
        if looks.is_multiple_of(64) && is_over(hub) {
            return;
        }
    }
}

fn serve_for(hub: &mut Hub<Duplex<u64>>, time: Duration) {
    let end = Instant::now() + time;
    serve(hub, |_| Instant::now() >= end);
}

/// Percent of a processor that a hub with idle clients takes.
fn idle() -> f64 {
    let mut hub = hub("idle");
    let address = hub.listener().address().clone();
    let clients = Child::run(move || {
        let open = |_| Connect::new().capacity(8).open(address.clone()).unwrap();
        let _all: Vec<Duplex<u64>> = (0..IDLE).map(open).collect();
        std::thread::sleep(Duration::from_secs(60));
    });
    serve(&mut hub, |hub| hub.len() >= IDLE);
    // All have become quiet.
    while hub.next_timeout(Duration::from_millis(10)).unwrap().is_some() {}
    let before = used();
    let start = Instant::now();
    assert!(hub.next_timeout(Duration::from_secs(2)).unwrap().is_none());
    let share = (used() - before).as_secs_f64() / start.elapsed().as_secs_f64();
    drop(clients);
    100.0 * share
}

/// Where they run.
#[derive(Clone, Copy)]
enum Place {
    /// All on one processor.
    Together,
    /// The service has one to itself, and the clients share another.
    ServiceApart,
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Self::Together => "an honest client, its neighbour and the service on one processor",
            Self::ServiceApart => {
                "the service on one processor, an honest client and its neighbour on another"
            }
        }
    }
}

/// What was measured while an honest client had its round trips, in seconds.
#[derive(Clone, Copy, Debug)]
struct Seen {
    trips: f64,
    wall: f64,
    /// Processor time of the service.
    service: f64,
    /// Of the neighbour.
    other: f64,
}

impl Seen {
    fn rate(&self) -> f64 {
        self.trips / self.wall
    }
}

fn beside(place: Place, neighbour: fn(&Address)) -> Seen {
    let clients = match place {
        Place::Together => 0,
        Place::ServiceApart => 1,
    };
    let mut hub = hub("rate");
    let address = hub.listener().address().clone();
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    let honest = Child::run(|| {
        pin(clients);
        let mut service: Duplex<u64> = annulus::connect(address.clone()).unwrap();
        service.send(0).unwrap();
        service.recv().unwrap();
        theirs.read_exact(&mut [0]).unwrap();
        let start = Instant::now();
        let mut count = 0_u64;
        while start.elapsed() < WHILE {
            for _ in 0..20 {
                service.send(count).unwrap();
                assert_eq!(service.recv(), Ok(count));
                count += 1;
            }
        }
        let time = start.elapsed().as_secs_f64();
        theirs.write_all(&(count as f64).to_le_bytes()).unwrap();
        theirs.write_all(&time.to_le_bytes()).unwrap();
        let _ = theirs.read_exact(&mut [0]);
    });
    serve(&mut hub, |hub| hub.len() == 1);
    let other = Child::run(|| {
        pin(clients);
        neighbour(&address);
    });
    serve_for(&mut hub, Duration::from_millis(40));
    ours.set_nonblocking(true).unwrap();
    let times = |start: Instant| [start.elapsed(), used(), used_by(&other)];
    let start = Instant::now();
    let before = times(start);
    ours.write_all(&[1]).unwrap();
    let mut told = [0; 16];
    serve(&mut hub, |_| ours.read_exact(&mut told).is_ok());
    let after = times(start);
    let [wall, service, other_used] = std::array::from_fn(|i| (after[i] - before[i]).as_secs_f64());
    let number = |at: usize| f64::from_le_bytes(told[at..at + 8].try_into().unwrap());
    drop((honest, other));
    Seen { trips: number(0) / number(8) * wall, wall, service, other: other_used }
}

fn nobody(_: &Address) {
    std::thread::sleep(Duration::from_secs(60));
}

/// Takes a processor and nothing else: what any busy neighbour costs.
fn spins(_: &Address) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        std::hint::spin_loop();
    }
}

/// Another honest client.
fn converses(address: &Address) {
    let mut service: Duplex<u64> = annulus::connect(address.clone()).unwrap();
    for i in 0.. {
        service.send(i).unwrap();
        assert_eq!(service.recv(), Ok(i));
    }
}

/// Sends as fast as it can, and receives nothing.
fn is_deaf(address: &Address) {
    let mut service: Duplex<u64> = annulus::connect(address.clone()).unwrap();
    service.set_wait(Wait::Spin);
    while service.send(1).is_ok() {}
}

/// Sends and receives as fast as it can.
fn floods(address: &Address) {
    let mut service: Duplex<u64> = annulus::connect(address.clone()).unwrap();
    loop {
        while service.try_send(1).is_ok() {}
        while service.try_recv().is_ok() {}
    }
}

fn sockets() -> Vec<RawFd> {
    let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    links
        .filter(|link| {
            std::fs::read_link(link.path())
                .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
        })
        .map(|link| link.file_name().to_string_lossy().parse().unwrap())
        .collect()
}

/// A connection and its control socket.
fn connection(address: &Address) -> (Duplex<u64>, RawFd) {
    let before = sockets();
    let service = annulus::connect(address.clone()).unwrap();
    let socket = sockets().into_iter().find(|socket| !before.contains(socket)).unwrap();
    (service, socket)
}

fn is_let_go(socket: RawFd) -> bool {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK;
    matches!(recv(socket, &mut [0; 8], flags), Ok(0))
}

/// Its own half, all of which it may write.
fn own_half() -> &'static [AtomicU64] {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.contains("annulus-half") && line.contains(" rw-s "));
    let (from, rest) = line.unwrap().split_once('-').unwrap();
    let number = |digits| usize::from_str_radix(digits, 16).unwrap();
    let (from, to) = (number(from), number(rest.split_once(' ').unwrap().0));
    // SAFETY: shared memory that is mapped as long as the connection is there; any word is an atomic.
    unsafe { std::slice::from_raw_parts(from as *const AtomicU64, (to - from) / 8) }
}

/// Writes nonsense into its half, and comes again when it is let go of.
fn scribbles(address: &Address) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    loop {
        let (service, socket) = connection(address);
        let half = own_half();
        while !is_let_go(socket) {
            for _ in 0..4096 {
                let r = random();
                let at = r as usize % half.len();
                let value = if r >> 63 == 0 { r >> 32 } else { r >> 56 };
                half[at].store(value, Ordering::Relaxed);
            }
        }
        drop(service);
    }
}

/// Sends as fast as it can, and receives one at a time, so that the service has room for one, again and again.
fn sips(address: &Address) {
    let mut service: Duplex<u64> = Connect::new().capacities(256, 1).open(address.clone()).unwrap();
    loop {
        while service.try_send(1).is_ok() {}
        let _ = service.try_recv();
    }
}

/// Asks to be looked at as fast as it can, for nothing.
fn rings(address: &Address) {
    loop {
        rings_once(address);
    }
}

fn rings_once(address: &Address) {
    let (_service, control) = connection(address);
    let magic = u64::from_le_bytes(*b"annulus>");
    let bell: Vec<u8> = [magic, 6].iter().flat_map(|word| word.to_le_bytes()).collect();
    while !is_let_go(control) {
        let _ = send(control, &bell, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
    }
}

/// Connects as fast as it can.
fn reconnects(address: &Address) {
    loop {
        let _: Result<Duplex<u64>, _> = annulus::connect(address.clone());
    }
}

/// Connects as fast as it can, and says nothing.
fn knocks(address: &Address) {
    let address = UnixAddr::new_abstract(&address.to_string().as_bytes()[1..]).unwrap();
    loop {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
        let _ = connect(socket.as_raw_fd(), &address);
    }
}

const NOBODY: usize = 0;
const SPINS: usize = 1;
type Neighbour = (&'static str, fn(&Address));
const NEIGHBOURS: [Neighbour; 10] = [
    ("nobody", nobody),
    ("spins", spins),
    ("converses", converses),
    ("is deaf", is_deaf),
    ("floods", floods),
    ("sips", sips),
    ("scribbles", scribbles),
    ("rings", rings),
    ("reconnects", reconnects),
    ("knocks", knocks),
];

/// Median and quartiles.
fn spread(mut figures: Vec<f64>) -> [f64; 3] {
    figures.sort_by(f64::total_cmp);
    [0.5, 0.25, 0.75].map(|part| figures[((figures.len() - 1) as f64 * part).round() as usize])
}

/// Percent of the rate beside nobody that an honest client has lost.
fn lost(seen: &Seen, alone: &Seen) -> f64 {
    100.0 * (1.0 - seen.rate() / alone.rate())
}

/// Percent of the processor time that the neighbour has taken: its own, and on one processor, where nobody waits by
/// spinning for long, that of the service beyond what the honest client's round trips take of it beside nobody.
fn taken(place: Place, seen: &Seen, alone: &Seen) -> f64 {
    let of_service = match place {
        Place::Together => seen.service - seen.trips * alone.service / alone.trips,
        Place::ServiceApart => 0.0,
    };
    100.0 * (seen.other + of_service) / seen.wall
}

fn measure(place: Place, rounds: usize) {
    let mut all = vec![vec![]; NEIGHBOURS.len()];
    for _ in 0..rounds {
        for (seen, (_, neighbour)) in all.iter_mut().zip(&NEIGHBOURS) {
            seen.push(beside(place, *neighbour));
        }
    }
    println!("{}", place.name());
    println!(
        "  neighbour    trips, k/s  lost, %  taken, %  lost - taken (quartiles)  rate beside one that spins"
    );
    for (seen, (name, _)) in all.iter().zip(&NEIGHBOURS) {
        let of = |figure: &dyn Fn(&Seen, &Seen) -> f64, other: usize| {
            spread(seen.iter().zip(&all[other]).map(|(seen, other)| figure(seen, other)).collect())
        };
        let [rate, ..] = of(&|seen, _| seen.rate() / 1e3, NOBODY);
        let [lost_by_it, ..] = of(&lost, NOBODY);
        let [taken_by_it, ..] = of(&|seen, alone| taken(place, seen, alone), NOBODY);
        let more = |seen: &Seen, alone: &Seen| lost(seen, alone) - taken(place, seen, alone);
        let [more, low, high] = of(&more, NOBODY);
        let [against, least, most] = of(&|seen, spins| seen.rate() / spins.rate(), SPINS);
        println!(
            "  {name:12} {rate:10.1} {lost_by_it:8.1} {taken_by_it:9.1} {more:9.1} ({low:.1} to {high:.1}) \
             {against:12.2} ({least:.2} to {most:.2})"
        );
    }
}

fn main() {
    let rounds: usize =
        std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(11);
    let only = |part: &str| {
        let mut named = std::env::args().filter(|a| ["idle", "together", "apart"].contains(&&**a));
        named.next().is_none_or(|first| first == part)
    };
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    if only("idle") {
        let [share, ..] = spread((0..rounds.min(5)).map(|_| idle()).collect());
        println!("100 idle clients: {share:.2} % of a processor (bar 1 %)");
    }
    pin(0);
    if only("together") {
        measure(Place::Together, rounds);
    }
    if only("apart") {
        measure(Place::ServiceApart, rounds);
    }
}
