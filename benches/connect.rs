//! Connections: how soon the first message is there, how soon a death is known. The same work in turns, medians of the
//! rounds and of the ratios within each, and the quartiles. `cargo bench --bench connect [-- ROUNDS] [connect | death]`.

#[path = "child.rs"]
mod child;

use annulus::{Address, Connect, Duplex, Listener, RecvError};
use child::Child;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
    UnixAddr, accept, bind, connect, listen, recvmsg, sendmsg, socket,
};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Connections in a round.
const CONNECTIONS: u32 = 100;
/// Bytes of the memory that the plain way passes: as many as one of the halves has here.
const BYTES: usize = 16 * 1024;

fn name(what: &str) -> String {
    format!("annulus-bench-{what}-{}", std::process::id())
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

fn main() {
    let rounds: u32 =
        std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(11);
    let only = |part| {
        let mut named = std::env::args().filter(|a| ["connect", "death"].contains(&a.as_str()));
        let first = named.next();
        first.is_none_or(|first| first == part || named.any(|other| other == part))
    };
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    if only("connect") {
        connections(rounds);
    }
    if only("death") {
        print("death told to a sleeper", "ms", (0..rounds * 4).map(|_| death()).collect());
    }
}
