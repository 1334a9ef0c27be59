//! A peer that writes anything anywhere it may, at full speed, while the victim uses every verb that has
//! an end: only errors come of it. The victim is a process of its own, so a signal shows.

mod processes;
#[path = "support/scribble.rs"]
mod scribble;

use annulus::{
    ByteBroadcast, ByteRing, Delivery, Place, Ring, Start, Topology, TryRecvError, TrySendError,
    UntypedLatest, UntypedRing,
};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous};
use processes::{Line, fork};
use scribble::timed;
use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PAGE: usize = 4096;
/// Offsets from `src/protocol/layout.rs`.
const RECEIVER: usize = PAGE;
const SENDER: usize = 2 * PAGE;
const DATA: usize = 3 * PAGE;

/// How long each victim has to stand it, if it got to do anything by then.
const SIEGE: Duration = Duration::from_millis(900);
const SHORT: Duration = Duration::from_micros(200);

/// What the hostile peer writes to.
#[derive(Clone, Copy)]
enum Hostile {
    /// The sender's half and the data, as a sender may.
    Sender,
    /// The receiver's half.
    Receiver,
    /// Everything, the header too.
    All,
}

/// The whole segment, as words.
fn map(fd: OwnedFd) -> &'static [AtomicU64] {
    let file = File::from(fd);
    let size = file.metadata().unwrap().len() as usize;
    let both = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let length = NonZeroUsize::new(size).unwrap();
    // SAFETY: a new mapping of a whole file, never unmapped; its words are used as atomics only.
    unsafe {
        let base = mmap(None, length, both, MapFlags::MAP_SHARED, &file, 0).unwrap();
        std::slice::from_raw_parts(base.as_ptr().cast(), size / 8)
    }
}

/// Writes as only an enemy would, with pauses in which everything looks right: in them the victim gets in.
fn scribble(words: &[AtomicU64], hostile: Hostile) {
    let mut random = scribble::numbers(0);
    let at = |offset: usize| words[offset / 8].load(Ordering::Relaxed);
    for burst in 0_u64.. {
        if burst % 32 == 0 {
            let position = at(if matches!(hostile, Hostile::Receiver) { SENDER } else { RECEIVER });
            let position = if position < 1 << 60 { position & !7 } else { 0 };
            match hostile {
                Hostile::Receiver => {}
                Hostile::Sender | Hostile::All => {
                    words[SENDER / 8].store(position, Ordering::Relaxed);
                    words[DATA / 8..].iter().for_each(|word| word.store(0, Ordering::Relaxed));
                }
            }
            if !matches!(hostile, Hostile::Sender) {
                words[RECEIVER / 8].store(position, Ordering::Relaxed);
                words[RECEIVER / 8 + 16].store(position, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        for _ in 0..64 {
            let r = random();
            let range = match (hostile, r % 8) {
                (Hostile::Receiver, _) => RECEIVER..RECEIVER + 512,
                (Hostile::Sender, 0..3) => SENDER..SENDER + 512,
                (Hostile::Sender, _) => DATA..words.len() * 8,
                (Hostile::All, 0) => 0..256,
                (Hostile::All, 1) => RECEIVER..RECEIVER + 512,
                (Hostile::All, 2) => SENDER..SENDER + 512,
                (Hostile::All, _) => DATA..words.len() * 8,
            };
            let near = at(if r & 0x100 == 0 { SENDER } else { RECEIVER })
                .wrapping_add((r >> 16) % 64)
                .wrapping_sub(32);
            let (offset, value) = scribble::stroke(&mut random, r, range, near);
            words[offset / 8].store(value, Ordering::Relaxed);
        }
    }
}

/// Puts a page that nobody may touch on each side of the segment's mappings, where there is room.
fn guard(label: &str) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    for line in maps.lines().filter(|line| line.contains(label)) {
        let range = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [start, end] = [range.0, range.1].map(|hex| usize::from_str_radix(hex, 16).unwrap());
        for address in [start - PAGE, end] {
            let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED_NOREPLACE;
            let (address, page) = (NonZeroUsize::new(address), NonZeroUsize::new(PAGE).unwrap());
            // SAFETY: the flag keeps it from replacing anything; where something is already, that stays.
            let _ = unsafe { mmap_anonymous(address, page, ProtFlags::PROT_NONE, flags) };
        }
    }
}

/// What a victim knows of its siege.
struct Siege {
    until: Instant,
}

impl Siege {
    /// Says that the victim is ready: it has the segment open, whose header is never looked at again. It begins when
    /// the enemy is there.
    fn begin(line: &mut Line) -> Self {
        line.say(0);
        line.expect(1);
        Self { until: Instant::now() + SIEGE }
    }

    /// Whether it goes on, for one who was let in `calls` times.
    fn goes_on(&self, calls: u32) -> bool {
        calls == 0 || Instant::now() < self.until
    }
}

/// Runs `victim` in one process and a scribbler in another, on the segment behind `fd`.
fn besiege(hostile: Hostile, fd: OwnedFd, victim: impl FnOnce(&mut Line)) {
    let mut victim = fork(victim);
    victim.line.expect(0);
    let mut scribbler = fork(|line| {
        let words = map(fd);
        line.say(0);
        scribble(words, hostile);
    });
    scribbler.line.expect(0);
    victim.line.say(1);
    victim.finish();
    scribbler.kill();
}

fn send<T: bytemuck::Pod>(hostile: Hostile) {
    let ring = Ring::<T>::builder(50).create(Place::memfd("besieged").unwrap()).unwrap();
    let fd = || ring.inheritable_fd().unwrap();
    let (theirs, ours) = (fd(), fd());
    besiege(hostile, theirs, |line| {
        let ring = Ring::<T>::from_fd(ours).unwrap();
        guard("besieged");
        let siege = Siege::begin(line);
        let mut calls = 0_u32;
        let message = T::zeroed();
        while siege.goes_on(calls) {
            let Ok(mut tx) = timed(|| ring.sender()) else { continue };
            for _ in 0..20 {
                calls += 1;
                let _ = timed(|| tx.try_send(message));
                let _ = timed(|| tx.try_send_batch(&[message; 60])) <= 60;
                let _ = timed(|| tx.send_timeout(message, SHORT));
                let _ = timed(|| tx.try_send_from([message; 60]));
                let _ = timed(|| tx.send_deadline(message, Instant::now()));
                assert!(tx.len() <= 50);
                let _ = (ring.stats(), tx.is_empty());
            }
            let _ = timed(|| tx.wait_for_peer(Duration::ZERO));
        }
    });
}

fn receive<T: bytemuck::Pod>(hostile: Hostile) {
    let ring = Ring::<T>::builder(50).create(Place::memfd("besieged").unwrap()).unwrap();
    let fd = || ring.inheritable_fd().unwrap();
    let (theirs, ours) = (fd(), fd());
    besiege(hostile, theirs, |line| {
        let ring = Ring::<T>::from_fd(ours).unwrap();
        guard("besieged");
        let siege = Siege::begin(line);
        let mut calls = 0_u32;
        let mut messages = [T::zeroed(); 60];
        while siege.goes_on(calls) {
            let Ok(mut rx) = timed(|| ring.receiver()) else { continue };
            for _ in 0..20 {
                calls += 1;
                let _ = timed(|| rx.try_recv().is_ok());
                assert!(timed(|| rx.try_recv_batch(&mut messages)) <= 60);
                let _ = timed(|| rx.recv_timeout(SHORT).is_ok());
                let _ = timed(|| rx.recv_deadline(Instant::now()).is_ok());
                let _ = timed(|| rx.try_iter().take(60).count());
                let _ = timed(|| rx.drain(60).count());
                assert!(rx.len() <= 50);
            }
            let _ = timed(|| rx.wait_for_peer(Duration::ZERO));
        }
    });
}

/// The first word of a half is how far its side is; the receiver's word here is what the sender is told of that.
const RELEASED: usize = 128;

/// One position that cannot be, and nothing else that is wrong: it is not believed, though to believe it would lead
/// nowhere but to other messages of the same ring.
#[test]
fn a_position_that_cannot_be_is_not_believed() {
    let ring = Ring::<u64>::builder(64).create(Place::memfd("forged").unwrap()).unwrap();
    let capacity = ring.capacity() as u64;
    let words = map(ring.inheritable_fd().unwrap());
    let store = |offset: usize, position| words[offset / 8].store(position, Ordering::Relaxed);
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    // In a stream, where one line after the other is full, the sender's note says how far it goes on.
    (0..21).for_each(|number| tx.try_send(number).unwrap());
    (0..7).for_each(|number| assert_eq!(rx.try_recv(), Ok(number)));
    store(SENDER, 7 + capacity + 1);
    assert_eq!(rx.try_recv(), Err(TryRecvError::Corrupt));

    for claimed in [capacity + 1, u64::MAX] {
        let ring = Ring::<u64>::builder(64).create(Place::memfd("forged").unwrap()).unwrap();
        let words = map(ring.inheritable_fd().unwrap());
        let _receiver = ring.receiver().unwrap();
        let mut tx = ring.sender().unwrap();
        (0..capacity).for_each(|number| tx.try_send(number).unwrap());
        assert_eq!(tx.try_send(0), Err(TrySendError::Full(0)));
        for offset in [RECEIVER, RECEIVER + RELEASED] {
            words[offset / 8].store(claimed, Ordering::Relaxed);
        }
        assert_eq!(tx.try_send(0), Err(TrySendError::Corrupt(0)), "{claimed}");
    }
}

#[test]
fn a_sender_stands_a_hostile_receiver() {
    send::<u64>(Hostile::Receiver);
    send::<[u64; 9]>(Hostile::Receiver);
    send::<[u8; 12]>(Hostile::Receiver);
}

#[test]
fn a_receiver_stands_a_hostile_sender() {
    receive::<u64>(Hostile::Sender);
    receive::<[u64; 9]>(Hostile::Sender);
    receive::<[u8; 12]>(Hostile::Sender);
}

#[test]
fn both_stand_somebody_who_writes_everywhere() {
    send::<u64>(Hostile::All);
    receive::<u64>(Hostile::All);
}

/// Rings of bytes, and who is hostile there: `one` writes its half only. In rings with lanes all write everywhere.
fn byte_rings(one: Hostile) -> [(Hostile, ByteRing); 4] {
    let plain = || ByteRing::builder(1000);
    let lanes = || plain().topology(Topology::Mpsc).participants(3);
    [
        (one, plain()),
        (Hostile::All, plain()),
        (Hostile::All, lanes()),
        (Hostile::All, lanes().ordered(true)),
    ]
    .map(|(hostile, ring)| (hostile, ring.create(Place::memfd("besieged").unwrap()).unwrap()))
}

#[test]
fn a_sender_of_bytes_stands_it() {
    for (hostile, ring) in byte_rings(Hostile::Receiver) {
        let fd = || ring.inheritable_fd().unwrap();
        let (theirs, ours) = (fd(), fd());
        besiege(hostile, theirs, |line| {
            let ring = ByteRing::from_fd(ours).unwrap();
            guard("besieged");
            let siege = Siege::begin(line);
            let mut calls = 0_u32;
            while siege.goes_on(calls) {
                let Ok(mut tx) = timed(|| ring.sender()) else { continue };
                for i in 0..20 {
                    calls += 1;
                    let _ = timed(|| tx.try_send(&[1; 17]).is_ok());
                    let _ = timed(|| tx.try_send(&[1; 1000]).is_ok());
                    let _ = timed(|| tx.send_timeout(&[2; 100], SHORT).is_ok());
                    let _ = timed(|| tx.send_deadline(&[2; 3], Instant::now()).is_ok());
                    let _ = timed(|| tx.try_reserve(0).map(drop).is_ok());
                    if let Ok(mut grant) = timed(|| tx.try_reserve(31 * i)) {
                        grant.write(31 * i / 2, &vec![3; 31 * i / 2]);
                        grant.commit();
                    }
                    // Three lanes of a page.
                    assert!(tx.len() <= 3 * 4096);
                }
            }
        });
    }
}

#[test]
fn a_receiver_of_bytes_stands_it() {
    for (hostile, ring) in byte_rings(Hostile::Sender) {
        let fd = || ring.inheritable_fd().unwrap();
        let (theirs, ours) = (fd(), fd());
        besiege(hostile, theirs, |line| {
            let ring = ByteRing::from_fd(ours).unwrap();
            guard("besieged");
            let siege = Siege::begin(line);
            let (mut calls, mut message) = (0_u32, Vec::new());
            while siege.goes_on(calls) {
                let Ok(mut rx) = timed(|| ring.receiver()) else { continue };
                for _ in 0..20 {
                    calls += 1;
                    let _ = timed(|| rx.try_recv(&mut message).is_ok());
                    let _ = timed(|| rx.recv_timeout(&mut message, SHORT).is_ok());
                    let _ = timed(|| rx.recv_deadline(&mut message, Instant::now()).is_ok());
                    let _ = timed(|| rx.try_recv_into(&mut [0; 100]).is_ok());
                    if let Ok(claimed) = timed(|| rx.try_claim()) {
                        message = claimed.to_vec();
                        claimed.release();
                    }
                    let _ = timed(|| rx.try_recv_batch(60, |claimed| drop(claimed.to_vec())));
                    assert!(message.capacity() < 8192, "memory by a peer's word");
                }
            }
        });
    }
}

#[test]
fn an_untyped_ring_stands_it() {
    let ring = UntypedRing::builder(50, 20).create(Place::memfd("besieged").unwrap()).unwrap();
    let fd = ring.inheritable_fd().unwrap();
    let ours = ring.inheritable_fd().unwrap();
    besiege(Hostile::All, fd, |line| {
        let ring = UntypedRing::from_fd(ours).unwrap();
        guard("besieged");
        let siege = Siege::begin(line);
        let mut calls = 0_u32;
        while siege.goes_on(calls) {
            if let Ok(mut tx) = timed(|| ring.sender()) {
                calls += 1;
                let _ = timed(|| tx.try_send(&[0; 20]).is_ok());
                let _ = timed(|| tx.try_send_batch(&[0; 200]));
            }
            if let Ok(mut rx) = timed(|| ring.receiver()) {
                calls += 1;
                let _ = timed(|| rx.try_recv(&mut [0; 20]).is_ok());
                let _ = timed(|| rx.recv_timeout(&mut [0; 20], SHORT).is_ok());
                let _ = timed(|| rx.try_recv_batch(&mut [0; 500]));
            }
        }
    });
}

#[test]
fn a_broadcast_of_bytes_stands_it() {
    let made = ByteBroadcast::builder(20, 100).participants(2);
    let made = made.create(Place::memfd("besieged").unwrap()).unwrap();
    let fd = made.inheritable_fd().unwrap();
    let ours = made.inheritable_fd().unwrap();
    besiege(Hostile::All, fd, |line| {
        let broadcast = ByteBroadcast::from_fd(ours).unwrap();
        guard("besieged");
        let siege = Siege::begin(line);
        let mut calls = 0_u32;
        while siege.goes_on(calls) {
            if let Ok(mut tx) = timed(|| broadcast.sender()) {
                calls += 1;
                tx.set_patience(Some(SHORT));
                let _ = timed(|| tx.try_send(&[0; 100]).is_ok());
                let _ = timed(|| tx.send_timeout(&[0; 7], SHORT).is_ok());
            }
            for delivery in [Delivery::Gate, Delivery::Lossy] {
                if let Ok(mut rx) = timed(|| broadcast.receiver(delivery, Start::Oldest)) {
                    calls += 1;
                    for _ in 0..20 {
                        let longest = rx.try_recv().map_or(0, <[u8]>::len);
                        assert!(longest <= 100, "a length by a peer's word");
                        let _ = timed(|| rx.recv_timeout(SHORT).is_ok());
                        let _ = timed(|| rx.rejoin(Start::Now).is_ok());
                    }
                }
            }
            let _ = timed(|| broadcast.stats());
        }
    });
}

#[test]
fn an_untyped_variable_stands_it() {
    let made = UntypedLatest::builder(100).participants(2);
    let made = made.create(Place::memfd("besieged").unwrap()).unwrap();
    let fd = made.inheritable_fd().unwrap();
    let ours = made.inheritable_fd().unwrap();
    besiege(Hostile::All, fd, |line| {
        let variable = UntypedLatest::from_fd(ours).unwrap();
        guard("besieged");
        let siege = Siege::begin(line);
        let (mut calls, mut value) = (0_u32, [0; 100]);
        while siege.goes_on(calls) {
            if let Ok(mut tx) = timed(|| variable.writer()) {
                calls += 1;
                let _ = timed(|| (0..20).all(|_| tx.set(&[7; 100]).is_ok()));
            }
            if let Ok(mut rx) = timed(|| variable.reader()) {
                calls += 1;
                let _ = timed(|| rx.read(&mut value).is_ok());
                let _ = timed(|| rx.wait_for_change_timeout(&mut value, SHORT).is_ok());
            }
        }
    });
}

/// Rings with shared sides are for those who cooperate; but whoever does not, only spoils messages.
fn shared<T: bytemuck::Pod>() {
    let ring = Ring::<T>::builder(64)
        .topology(Topology::Mpmc)
        .participants(8)
        .create(Place::memfd("besieged").unwrap())
        .unwrap();
    let fd = || ring.inheritable_fd().unwrap();
    let (theirs, ours) = (fd(), fd());
    besiege(Hostile::All, theirs, |line| {
        let ring = Ring::<T>::from_fd(ours).unwrap();
        guard("besieged");
        let siege = Siege::begin(line);
        let mut calls = 0_u32;
        let mut messages = [T::zeroed(); 300];
        while siege.goes_on(calls) {
            if let Ok(mut tx) = timed(|| ring.sender()) {
                calls += 1;
                for _ in 0..10 {
                    let _ = timed(|| tx.try_send(messages[0]).is_ok());
                    assert!(timed(|| tx.try_send_batch(&messages)) <= 300);
                    let _ = timed(|| tx.send_timeout(messages[0], SHORT).is_ok());
                    let _ = timed(|| tx.try_send_from(messages.iter().copied().take(100)));
                    assert!(tx.len() <= 64);
                }
                let _ = timed(|| tx.wait_for_peer(Duration::ZERO));
            }
            if let Ok(mut rx) = timed(|| ring.receiver()) {
                calls += 1;
                for _ in 0..10 {
                    let _ = timed(|| rx.try_recv().is_ok());
                    assert!(timed(|| rx.try_recv_batch(&mut messages)) <= 300);
                    let _ = timed(|| rx.recv_timeout(SHORT).is_ok());
                    let _ = timed(|| rx.drain(100).count());
                    if let Ok(claimed) = timed(|| rx.try_claim()) {
                        assert!(claimed.deliveries() <= 255);
                        timed(|| claimed.give_back());
                    }
                    if let Ok(claimed) = timed(|| rx.claim_timeout(SHORT)) {
                        timed(|| claimed.release());
                    }
                }
            }
            let _ = ring.stats();
        }
    });
}

#[test]
fn shared_sides_stand_it() {
    shared::<u64>();
    shared::<[u64; 9]>();
    shared::<[u8; 12]>();
}
