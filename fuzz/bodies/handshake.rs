//! Meeting a peer that says anything, and sends any descriptors along.

use super::forged::Forged;
use super::input::Input;
use annulus::{Address, Connect, ConnectError, Duplex, Listener, Ring, Role};
use nix::fcntl::OFlag;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, accept, bind,
    connect, listen, recv, sendmsg, socket,
};
use std::fs::File;
use std::io::{IoSlice, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What both sides agree on, if they do.
const CAPACITY: usize = 20;
/// Longer than a handshake whose other side hangs up in the end.
const LONG: Duration = Duration::from_secs(30);
/// More steps than these say nothing new.
const STEPS: usize = 40;

const HELLO: u64 = 1;
const ANSWER: u64 = 2;
const REFUSE: u64 = 3;
const BELL: u64 = 6;

/// The bytes are what a peer does in a handshake: to a listener, which has several such clients, or to a client. Each
/// is answered, the other side can be used if it came to a connection, and no descriptor that was sent is kept.
pub fn handshake(data: &[u8]) {
    let input = &mut Input(data);
    let wares = Wares::new(input);
    if input.byte().is_multiple_of(3) {
        before_a_client(input, &wares);
    } else {
        before_a_listener(input, &wares);
    }
    wares.are_not_kept();
}

fn name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("annulus-fuzz-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Repeats a call that a signal ends: the fuzzer has a timer.
fn uninterrupted<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(nix::errno::Errno::EINTR) => {}
            done => return done,
        }
    }
}

fn seqpacket() -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap()
}

/// The descriptors that a peer has to send.
struct Wares {
    /// A half of each role, as for a ring that is not of a connection.
    halves: [annulus::Split<Ring<u64>>; 2],
    /// The halves of a connection, of an honest peer, and of one that spoils them.
    sound: Forged,
    spoilt: Forged,
    unsealed: OwnedFd,
    null: File,
    /// The end of a pipe that tells by its end when nobody has the other one any more.
    tell: File,
    told: OwnedFd,
}

impl Wares {
    fn new(input: &mut Input<'_>) -> Self {
        let halves =
            [Role::Sender, Role::Receiver].map(|role| Ring::builder(CAPACITY).split(role).unwrap());
        let both = || Forged::of_all(halves.each_ref().map(|half| half.descriptor().unwrap()));
        let (sound, spoilt) = (both(), both());
        sound.come_alive(1);
        sound.come_alive(2);
        if input.byte().is_multiple_of(4) {
            // Of the header of either half. The receiver's is behind the sender's, and ends the file.
            let second = spoilt.words().len() * 8 - 2 * 4096;
            let word = [0, second][input.below(2)] + input.below(24) * 8;
            spoilt.set(word, input.edgy(spoilt.get(word)));
        }
        let (tell, told) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).unwrap();
        Self {
            halves,
            sound,
            spoilt,
            unsealed: memfd_create(c"unsealed", MFdFlags::MFD_CLOEXEC).unwrap(),
            null: File::open("/dev/null").unwrap(),
            tell: tell.into(),
            told,
        }
    }

    /// What goes with a message, if a peer's halves are due or not.
    fn some(&self, input: &mut Input<'_>, is_due: bool) -> Vec<OwnedFd> {
        let count = match input.byte() % 16 {
            0..8 if is_due => return vec![self.sound.descriptor()],
            8..11 if is_due => return vec![self.spoilt.descriptor()],
            0..11 => 0,
            11 => 1,
            12 | 13 => 2,
            14 => 3,
            _ => 200,
        };
        (0..count).map(|_| self.one(input.byte())).collect()
    }

    fn one(&self, which: u8) -> OwnedFd {
        match which % 8 {
            0 => self.sound.descriptor(),
            1 => self.spoilt.descriptor(),
            2 | 3 => self.halves[usize::from(which % 2)].descriptor().unwrap(),
            4 => self.unsealed.try_clone().unwrap(),
            5 => self.null.try_clone().unwrap().into(),
            6 => File::open("/").unwrap().into(),
            _ => self.told.try_clone().unwrap(),
        }
    }

    /// Everybody else's copies of the pipe are closed: a read of the other end is not answered "later". The thread
    /// that hears of hang-ups may close a socket a moment after us.
    fn are_not_kept(self) {
        let Self { mut tell, told, .. } = self;
        drop(told);
        let end = Instant::now() + LONG;
        while tell.read(&mut [0]).is_err() {
            assert!(Instant::now() < end, "a descriptor was kept");
            thread::yield_now();
        }
    }
}

/// The bytes of a message: what is due, or that with a word changed, or cut, or anything.
fn message(input: &mut Input<'_>, due: u64) -> Vec<u8> {
    let magic = u64::from_le_bytes(*b"annulus>");
    let capacity = CAPACITY as u64;
    let choice = input.byte();
    let kind = if choice.is_multiple_of(8) { 1 + u64::from(choice / 8) % BELL } else { due };
    let mut words = match kind {
        HELLO => vec![magic, HELLO, 2, 0, 1, 8, 8, capacity, capacity, 0, 0, 0, 0, 0, 0, 0, 0],
        ANSWER => vec![magic, ANSWER, 2, 0, capacity, capacity],
        REFUSE => vec![magic, REFUSE, 1, 2],
        _ => vec![magic, kind],
    };
    match input.byte() % 16 {
        0 => {
            let word = input.below(words.len());
            words[word] = input.edgy(words[word]);
        }
        1 => words.truncate(input.below(words.len())),
        2 => words.resize(words.len() + 1 + input.below(40), 0),
        3 => return (0..input.below(200)).map(|_| input.byte()).collect(),
        _ => {}
    }
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn say(socket: &OwnedFd, bytes: &[u8], fds: &[OwnedFd]) {
    let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let rights = if fds.is_empty() { &rights[..0] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    // The other side may have hung up.
    let _ = sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], rights, flags, None);
}

/// Uses a connection, whatever its other side is.
fn enjoy(mut duplex: Duplex<u64>) {
    let _ = (duplex.try_send(1), duplex.try_recv(), duplex.ending());
    let _ = duplex.recv_timeout(Duration::ZERO);
    assert_eq!(duplex.peer().pid(), std::process::id());
}

fn before_a_listener(input: &mut Input<'_>, wares: &Wares) {
    let name = name();
    let mut listener = Listener::bind(Address::name(&name)).unwrap();
    let address = UnixAddr::new_abstract(name.as_bytes()).unwrap();
    // Each with what it should say next.
    let mut clients: Vec<(OwnedFd, u64)> = Vec::new();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.byte() % 8 {
            0 if clients.len() < 4 => {
                let client = seqpacket();
                uninterrupted(|| connect(client.as_raw_fd(), &address)).unwrap();
                clients.push((client, HELLO));
            }
            1 if !clients.is_empty() => drop(clients.swap_remove(input.below(clients.len()))),
            0..5 if !clients.is_empty() => {
                let which = input.below(clients.len());
                let (client, due) = &mut clients[which];
                let bytes = message(input, *due);
                say(client, &bytes, &wares.some(input, *due == HELLO));
                *due = BELL;
            }
            _ => match listener.accept_timeout::<Duplex<u64>>(Duration::ZERO) {
                Ok(duplex) => enjoy(duplex),
                Err(error) => assert!(matches!(error, ConnectError::Timeout), "{error}"),
            },
        }
    }
    drop(clients);
    // Whatever was going on, it goes on for those who behave.
    let honest = thread::spawn(move || {
        let connect = Connect::new().capacity(CAPACITY).timeout(LONG);
        connect.open::<Duplex<u64>>(Address::name(name)).unwrap().send(7).unwrap();
    });
    // The others have hung up, so that none of them comes first.
    let mut duplex: Duplex<u64> = listener.accept_timeout(LONG).unwrap();
    assert_eq!(duplex.recv(), Ok(7));
    assert!(duplex.recv().is_err());
    honest.join().unwrap();
}

fn before_a_client(input: &mut Input<'_>, wares: &Wares) {
    let name = name();
    let listener = seqpacket();
    bind(listener.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes()).unwrap()).unwrap();
    listen(&listener, Backlog::new(5).unwrap()).unwrap();
    let client = thread::spawn(move || {
        let connect = Connect::new().capacity(CAPACITY).timeout(LONG);
        match connect.open::<Duplex<u64>>(Address::name(name)) {
            Ok(duplex) => enjoy(duplex),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
    let server = uninterrupted(|| accept(listener.as_raw_fd())).unwrap();
    // SAFETY: the kernel has just made it, for us alone.
    let server = unsafe { OwnedFd::from_raw_fd(server) };
    let (mut due, mut has_heard) = (ANSWER, false);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.byte() % 8 {
            0 => {
                // It says something at first; later it may wait for us.
                let patience = if has_heard { MsgFlags::MSG_DONTWAIT } else { MsgFlags::empty() };
                let _ = uninterrupted(|| recv(server.as_raw_fd(), &mut [0; 200], patience));
                has_heard = true;
            }
            _ => {
                let bytes = message(input, due);
                say(&server, &bytes, &wares.some(input, due == ANSWER));
                due = BELL;
            }
        }
    }
    drop(server);
    client.join().unwrap();
}
