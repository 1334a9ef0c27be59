//! Connections: how soon the first message is there, what a hub's idle clients cost, what an attacker takes from an
//! honest client, how soon a death is known. The same work in turns, medians of the rounds and of the ratios within
//! each, and the quartiles. `cargo bench --bench connect [-- ROUNDS] [connect | hub | death]`.

use annulus::{Address, Connect, Duplex, Hub, HubEvent, Listener, RecvError, Wait};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
    UnixAddr, accept, bind, connect, listen, recvmsg, sendmsg, socket,
};
use nix::sys::time::TimeValLike;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Connections in a round.
const CONNECTIONS: u32 = 100;
/// Bytes of the memory that the plain way passes: as many as one of the halves has here.
const BYTES: usize = 16 * 1024;
/// Idle clients.
const IDLE: usize = 100;
/// How long idleness and rates are measured for.
const WHILE: Duration = Duration::from_millis(400);

fn name(what: &str) -> String {
    format!("annulus-bench-{what}-{}", std::process::id())
}

/// A child that runs `body` and ends when it is done, or is ended when this is dropped.
struct Child(Pid);

impl Child {
    fn run(body: impl FnOnce()) -> Self {
        // SAFETY: this process has one thread but for the library's, which holds no lock of the allocator for long.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => Self(child),
            ForkResult::Child => {
                nix::unistd::alarm::set(120);
                body();
                // SAFETY: ends the process at once.
                unsafe { libc::_exit(0) }
            }
        }
    }

    fn finish(self) {
        waitpid(self.0, None).unwrap();
        std::mem::forget(self);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

/// Microseconds for a connection and its first message, there and back.
fn ours() -> f64 {
    let name = name("ours");
    let mut listener = Listener::bind(Address::name(&name)).unwrap();
    let address = listener.address().clone();
    let client = Child::run(move || {
        for i in 0..CONNECTIONS {
            let mut service: Duplex<u64> =
                Connect::new().capacity(64).open(address.clone()).unwrap();
            service.send(u64::from(i)).unwrap();
            assert_eq!(service.recv(), Ok(u64::from(i)));
        }
    });
    let start = Instant::now();
    for _ in 0..CONNECTIONS {
        let mut client: Duplex<u64> = listener.accept().unwrap();
        let number = client.recv().unwrap();
        client.send(number).unwrap();
    }
    let time = start.elapsed();
    client.finish();
    time.as_secs_f64() * 1e6 / f64::from(CONNECTIONS)
}

/// The same by hand: a memory file each way over the same kind of socket, and a message there and back on it.
fn plain() -> f64 {
    let name = name("plain");
    let address = UnixAddr::new_abstract(name.as_bytes()).unwrap();
    let flags = SockFlag::SOCK_CLOEXEC;
    let open = || socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
    let listener = open();
    bind(listener.as_raw_fd(), &address).unwrap();
    listen(&listener, Backlog::new(100).unwrap()).unwrap();
    let client = Child::run(|| {
        for _ in 0..CONNECTIONS {
            let socket = open();
            connect(socket.as_raw_fd(), &address).unwrap();
            pass(&socket);
            take(&socket);
        }
    });
    let start = Instant::now();
    for _ in 0..CONNECTIONS {
        // SAFETY: the kernel has just made it, for us alone.
        let socket = unsafe { OwnedFd::from_raw_fd(accept(listener.as_raw_fd()).unwrap()) };
        take(&socket);
        pass(&socket);
    }
    let time = start.elapsed();
    client.finish();
    time.as_secs_f64() * 1e6 / f64::from(CONNECTIONS)
}

/// Makes memory, all of it there, writes to it, and sends it.
fn pass(socket: &OwnedFd) {
    let fd = memfd_create(c"plain", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
    let none = nix::fcntl::FallocateFlags::empty();
    nix::fcntl::fallocate(&fd, none, 0, BYTES as i64).unwrap();
    map(&fd, |words| words[0] = 7);
    let rights = [fd.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&rights)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(b"here")], &rights, flags, None).unwrap();
}

/// Receives memory and reads from it.
fn take(socket: &OwnedFd) {
    let mut bytes = [0; 8];
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let mut space = nix::cmsg_space!([i32; 2]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags).unwrap();
    for control in message.cmsgs().unwrap() {
        if let ControlMessageOwned::ScmRights(fds) = control {
            // SAFETY: the kernel has just made it, for us alone.
            let fd = unsafe { OwnedFd::from_raw_fd(fds[0]) };
            map(&fd, |words| assert_eq!(words[0], 7));
        }
    }
}

fn map(fd: &OwnedFd, body: impl FnOnce(&mut [u64])) {
    use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
    let size = std::num::NonZeroUsize::new(BYTES).unwrap();
    let both = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new mapping of a whole file, which nobody else uses at that moment.
    unsafe {
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE;
        let base = mmap(None, size, both, flags, fd, 0).unwrap();
        body(std::slice::from_raw_parts_mut(base.as_ptr().cast(), BYTES / 8));
        munmap(base, BYTES).unwrap();
    }
}

/// Processor time of this process.
fn used() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let time = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(time as u64)
}

fn hub(what: &str) -> Hub<Duplex<u64>> {
    let listener = Listener::bind(Address::name(name(what))).unwrap();
    Hub::new(listener).unwrap().most_clients(2 * IDLE)
}

/// Answers until `clients` have joined, and then for as long as `time`.
fn serve(hub: &mut Hub<Duplex<u64>>, clients: usize, time: Duration) {
    let mut until = None;
    loop {
        if until.is_none() && hub.len() >= clients {
            until = Some(Instant::now() + time);
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            return;
        }
        if let Some(HubEvent::Ready(mut turn)) =
            hub.next_timeout(Duration::from_millis(20)).unwrap()
        {
            while let Some(number) = turn.recv() {
                let _ = turn.try_send(number);
            }
        }
    }
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
    serve(&mut hub, IDLE, Duration::ZERO);
    // All have become quiet.
    while hub.next_timeout(Duration::from_millis(10)).unwrap().is_some() {}
    let before = used();
    let start = Instant::now();
    assert!(hub.next_timeout(5 * WHILE).unwrap().is_none());
    let share = (used() - before).as_secs_f64() / start.elapsed().as_secs_f64();
    drop(clients);
    100.0 * share
}

/// Round trips in a second of an honest client of a hub, beside `neighbour`.
fn rate(neighbour: impl FnOnce(&Address)) -> f64 {
    let mut hub = hub("rate");
    let address = hub.listener().address().clone();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let honest = Child::run(|| {
        let mut theirs = theirs.try_clone().unwrap();
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
        let rate = count as f64 / start.elapsed().as_secs_f64();
        theirs.write_all(&rate.to_le_bytes()).unwrap();
    });
    serve(&mut hub, 1, Duration::from_millis(5));
    let other = Child::run(|| neighbour(&address));
    serve(&mut hub, 1, Duration::from_millis(50));
    ours.write_all(&[1]).unwrap();
    serve(&mut hub, 1, WHILE + Duration::from_millis(50));
    ours.set_nonblocking(true).unwrap();
    let mut rate = [0; 8];
    while ours.read_exact(&mut rate).is_err() {
        serve(&mut hub, 0, Duration::from_millis(10));
    }
    drop((honest, other));
    f64::from_le_bytes(rate)
}

fn nobody(_: &Address) {}

/// Takes a processor and nothing else: what any busy neighbour costs.
fn busy(_: &Address) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        std::hint::spin_loop();
    }
}

/// Sends as fast as it can, and receives nothing.
fn flood(address: &Address) {
    let mut service: Duplex<u64> = annulus::connect(address.clone()).unwrap();
    service.set_wait(Wait::Spin);
    while service.send(1).is_ok() {}
}

/// Connects as fast as it can.
fn reconnect(address: &Address) {
    loop {
        let _: Result<Duplex<u64>, _> = annulus::connect(address.clone());
    }
}

/// Milliseconds from the death of a peer until a sleeping receiver says so.
fn death() -> f64 {
    let mut listener = Listener::bind(Address::name(name("death"))).unwrap();
    let address = listener.address().clone();
    let child = Child::run(move || {
        let mut service: Duplex<u64> = annulus::connect(address).unwrap();
        service.send(1).unwrap();
        std::thread::sleep(Duration::from_secs(60));
    });
    let mut client: Duplex<u64> = listener.accept().unwrap();
    assert_eq!(client.recv(), Ok(1));
    let waiter = std::thread::spawn(move || {
        assert_eq!(client.recv(), Err(RecvError::Disconnected));
        Instant::now()
    });
    std::thread::sleep(Duration::from_millis(7));
    let start = Instant::now();
    drop(child);
    (waiter.join().unwrap() - start).as_secs_f64() * 1e3
}

/// What this process has open and mapped, and its threads.
fn belongings() -> (usize, usize, usize) {
    let count = |path| std::fs::read_dir(path).unwrap().count();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    (count("/proc/self/fd"), maps.matches("annulus-half").count(), count("/proc/self/task"))
}

fn print(what: &str, unit: &str, mut figures: Vec<f64>) {
    figures.sort_by(f64::total_cmp);
    let at = |share: f64| figures[((figures.len() - 1) as f64 * share).round() as usize];
    println!(
        "{what:52} {:>10.2} {unit:4} quartiles {:.2} to {:.2}, highest {:.2}",
        at(0.5),
        at(0.25),
        at(0.75),
        at(1.0)
    );
}

fn connections(rounds: u32) {
    let (_, before) = (ours(), belongings());
    let (mut ring, mut hand, mut ratio) = (vec![], vec![], vec![]);
    for round in 0..rounds {
        let (one, other) = if round % 2 == 0 {
            let one = ours();
            (one, plain())
        } else {
            let other = plain();
            (ours(), other)
        };
        ring.push(one);
        hand.push(other);
        ratio.push(one / other);
    }
    let after = belongings();
    print("connect and first message", "us", ring);
    print("the same with a plain socket and memory files", "us", hand);
    print("ratio", "", ratio);
    println!("descriptors, mappings, threads before {before:?} and after {after:?}");
}

fn hubs(rounds: u32) {
    print("hub, 100 idle clients", "%", (0..rounds.min(5)).map(|_| idle()).collect());
    let mut rates = [const { vec![] }; 4];
    for _ in 0..rounds {
        rates[0].push(rate(nobody));
        rates[1].push(rate(busy));
        rates[2].push(rate(flood));
        rates[3].push(rate(reconnect));
    }
    // An attacker may take a processor as whoever spins does, and nothing else.
    let against = |other: usize| {
        let pairs = rates[other].iter().zip(&rates[1]);
        pairs.map(|(one, busy): (&f64, &f64)| one / busy).collect()
    };
    print("hub, beside one that sends against one that spins", "", against(2));
    print("hub, beside one that connects against one that spins", "", against(3));
    let whom = ["nobody", "a process that spins", "one that sends", "one that connects"];
    for (whom, rates) in whom.into_iter().zip(rates) {
        print(&format!("hub, round trips a second beside {whom}"), "", rates);
    }
}

fn main() {
    let rounds: u32 =
        std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(11);
    let only = |part| {
        let mut named =
            std::env::args().filter(|a| ["connect", "hub", "death"].contains(&a.as_str()));
        let first = named.next();
        first.is_none_or(|first| first == part || named.any(|other| other == part))
    };
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    if only("connect") {
        connections(rounds);
    }
    if only("hub") {
        hubs(rounds);
    }
    if only("death") {
        print("death told to a sleeper", "ms", (0..rounds * 4).map(|_| death()).collect());
    }
}
