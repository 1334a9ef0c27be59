//! What a call loads of the memory that its peer writes: each word at most once. What is checked and what is used can
//! then not differ, however fast the peer is.
//!
//! The peer's half is taken out of the address space, so that each access faults. The handler notes the address, puts
//! the half back for one instruction (trap flag), and takes it out again. So the code that is watched is the code that
//! ships, and a load that somebody adds shows.

#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod processes;

use annulus::{Address, ByteRing, Duplex, Listener, Ring, Role, Split, TryRecvError};
use bytemuck::Pod;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Offsets in a half's file, from `src/protocol/layout.rs`.
const HALF: usize = 4096;
const POSITION: usize = HALF;
const RELEASED: usize = HALF + 128;
const ASLEEP: usize = HALF + 256;
const STATE: usize = HALF + 264;
const DATA: usize = 2 * 4096;

/// The loads of one call that are kept.
const MOST: usize = 4096;

/// What is watched: the first byte, and how many.
static BASE: AtomicUsize = AtomicUsize::new(0);
static LENGTH: AtomicUsize = AtomicUsize::new(0);
/// The addresses of the loads, and how many there were.
static LOADS: [AtomicUsize; MOST] = [const { AtomicUsize::new(0) }; MOST];
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// Handlers are the process's: one watch at a time.
static ALONE: Mutex<()> = Mutex::new(());

const TRAP_FLAG: i64 = 0x100;

/// Lets the watched range be read, or not.
fn protect(protection: libc::c_int) {
    let (base, length) = (BASE.load(Ordering::Relaxed), LENGTH.load(Ordering::Relaxed));
    // SAFETY: the range is a mapping of the ring under test, which is there as long as it is watched. A system call,
    // as a handler may make it.
    unsafe { libc::mprotect(base as *mut libc::c_void, length, protection) };
}

/// Sets or clears the trap flag of the interrupted code.
///
/// # Safety
///
/// `context` is what the kernel gave to a handler.
unsafe fn trap(context: *mut libc::c_void, on: bool) {
    // SAFETY: the caller says so.
    let flags = unsafe {
        let context = &mut *context.cast::<libc::ucontext_t>();
        &mut context.uc_mcontext.gregs[libc::REG_EFL as usize]
    };
    if on { *flags |= TRAP_FLAG } else { *flags &= !TRAP_FLAG }
}

extern "C" fn on_fault(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel filled it in for this signal.
    let address = unsafe { (*info).si_addr() } as usize;
    let offset = address.wrapping_sub(BASE.load(Ordering::Relaxed));
    if offset >= LENGTH.load(Ordering::Relaxed) {
        // Not ours: the next time it ends the process.
        // SAFETY: a system call.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    }
    if let Some(load) = LOADS.get(COUNT.fetch_add(1, Ordering::Relaxed)) {
        load.store(offset, Ordering::Relaxed);
    }
    protect(libc::PROT_READ);
    // SAFETY: it is the handler's.
    unsafe { trap(context, true) };
}

extern "C" fn on_step(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    protect(libc::PROT_NONE);
    // SAFETY: it is the handler's.
    unsafe { trap(context, false) };
}

/// Whether the next mapping that can only be read is to be watched.
static IS_AWAITED: AtomicBool = AtomicBool::new(false);

/// Maps a file, in place of the C library's: a mapping that is awaited cannot be read before it is watched.
///
/// # Safety
///
/// As for the C library's.
#[cfg(target_env = "gnu")]
#[unsafe(no_mangle)]
unsafe extern "C" fn mmap64(
    address: *mut libc::c_void,
    length: usize,
    protection: libc::c_int,
    flags: libc::c_int,
    fd: libc::c_int,
    offset: i64,
) -> *mut libc::c_void {
    let is_peers = protection == libc::PROT_READ && flags & libc::MAP_SHARED != 0;
    let is_awaited = is_peers && IS_AWAITED.swap(false, Ordering::Relaxed);
    let protection = if is_awaited { libc::PROT_NONE } else { protection };
    // SAFETY: the caller says so.
    let base = unsafe {
        libc::syscall(libc::SYS_mmap, address, length, protection, flags, fd, offset) as usize
    };
    if is_awaited {
        BASE.store(base, Ordering::Relaxed);
        LENGTH.store(length, Ordering::Relaxed);
    }
    base as *mut libc::c_void
}

/// How many loads there were of each offset.
type Loads = BTreeMap<usize, usize>;

/// Keeps the other tests from mapping anything, and from unmapping what they had, as long as this one lives: what is
/// new among the mappings is then what this one made.
fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The watch over the peer's half of one ring.
struct Watch(());

impl Watch {
    /// Joins `half` with the peer's, and watches what it maps for reading.
    fn over<R>(
        half: Split<R>,
        peer: OwnedFd,
        join: impl FnOnce(Split<R>, OwnedFd) -> R,
    ) -> (Self, R) {
        let before = read_only_halves();
        let ring = join(half, peer);
        let new: Vec<_> = read_only_halves().into_iter().filter(|m| !before.contains(m)).collect();
        let [(base, length)] = new[..] else { panic!("{new:?} is not one half") };
        BASE.store(base, Ordering::Relaxed);
        LENGTH.store(length, Ordering::Relaxed);
        Self::install();
        (Self(()), ring)
    }

    fn install() {
        type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
        let handlers: [(_, Handler); 2] = [(libc::SIGSEGV, on_fault), (libc::SIGTRAP, on_step)];
        for (signal, handler) in handlers {
            // SAFETY: an all-zero action is a valid value; the handlers make one system call and use atomics.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = handler as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO;
                assert_eq!(libc::sigaction(signal, &raw const action, std::ptr::null_mut()), 0);
            }
        }
    }

    /// The loads of a call that maps a peer's file, from the mapping's first moment on.
    #[cfg(target_env = "gnu")]
    fn see_from_the_start<R>(call: impl FnOnce() -> R) -> (R, Loads) {
        Self::install();
        COUNT.store(0, Ordering::Relaxed);
        IS_AWAITED.store(true, Ordering::Relaxed);
        let result = call();
        assert!(!IS_AWAITED.swap(false, Ordering::Relaxed), "nothing was mapped to be read");
        protect(libc::PROT_READ);
        (result, Self::loads())
    }

    /// The loads of `call`: how many of each offset.
    fn see<R>(&self, call: impl FnOnce() -> R) -> (R, Loads) {
        COUNT.store(0, Ordering::Relaxed);
        protect(libc::PROT_NONE);
        let result = call();
        protect(libc::PROT_READ);
        (result, Self::loads())
    }

    /// What the handler has kept.
    fn loads() -> Loads {
        let count = COUNT.load(Ordering::Relaxed);
        assert!(count <= MOST, "{count} loads are more than are kept");
        let mut loads = Loads::new();
        for load in &LOADS[..count] {
            *loads.entry(load.load(Ordering::Relaxed)).or_default() += 1;
        }
        loads
    }
}

/// The halves that are mapped to be read only: where, and how long.
fn read_only_halves() -> Vec<(usize, usize)> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let halves = maps.lines().filter(|line| line.contains("memfd:annulus-half"));
    let halves = halves.filter(|line| line.split(' ').nth(1) == Some("r--s"));
    let ends = |line: &str| -> (usize, usize) {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        (usize::from_str_radix(from, 16).unwrap(), usize::from_str_radix(to, 16).unwrap())
    };
    halves.map(ends).map(|(from, to)| (from, to - from)).collect()
}

/// The loads of a call, for a panic: by the words' names.
fn told(loads: &Loads) -> String {
    let name = |offset| match offset {
        POSITION => "position".into(),
        RELEASED => "released".into(),
        ASLEEP => "asleep".into(),
        STATE => "state".into(),
        _ if offset >= DATA => format!("data + {}", offset - DATA),
        _ => format!("byte {offset}"),
    };
    let all = loads.iter().map(|(&offset, count)| format!("{} x {count}", name(offset)));
    all.collect::<Vec<_>>().join(", ")
}

/// No word was loaded twice.
#[track_caller]
fn once(loads: &Loads) {
    assert!(loads.values().all(|&count| count == 1), "{}", told(loads));
}

/// How often a side may look anew in one call: before and after a pause, and once more when it has found something.
/// Each look checks what it has loaded, and only that is used.
const LOOKS: usize = 3;

/// A sender that may come to the end of the room: it looks up to [`LOOKS`] times where the receiver says how far it is.
#[track_caller]
fn looks_for_room(loads: &Loads) {
    let is_right = |(&offset, &count): (&usize, &usize)| {
        count == 1 || [POSITION, RELEASED].contains(&offset) && count <= LOOKS
    };
    assert!(loads.iter().all(is_right), "{}", told(loads));
}

/// A receiver that may come to the end of what there is: it looks up to [`LOOKS`] times there, and nowhere else.
#[track_caller]
fn looks_for_messages(loads: &Loads) {
    let again: Vec<_> = loads.iter().filter(|&(_, &count)| count > 1).collect();
    let is_right = |&(&offset, &count): &(&usize, &usize)| offset >= DATA && count <= LOOKS;
    assert!(again.len() <= 1 && again.iter().all(is_right), "{}", told(loads));
}

/// A ring whose half of the role `ours` is watched, and the peer's ring.
macro_rules! pair {
    ($builder:expr, $ours:expr) => {{
        let role = if $ours == Role::Sender { Role::Receiver } else { Role::Sender };
        let (ours, theirs) = ($builder.split($ours).unwrap(), $builder.split(role).unwrap());
        let (to_us, to_them) = (theirs.descriptor().unwrap(), ours.descriptor().unwrap());
        let theirs = theirs.join(to_them).unwrap();
        let (watch, ours) = Watch::over(ours, to_us, |half, fd| half.join(fd).unwrap());
        (watch, ours, theirs)
    }};
}

fn sends_one_at_a_time<T: Pod>() {
    let (watch, ours, theirs) = pair!(Ring::<T>::builder(8), Role::Sender);
    let mut rx = theirs.receiver().unwrap();
    let (tx, loads) = watch.see(|| ours.sender());
    once(&loads);
    let mut tx = tx.unwrap();
    for _ in 0..40 {
        let (sent, loads) = watch.see(|| tx.try_send(T::zeroed()));
        assert!(sent.is_ok());
        once(&loads);
        assert!(loads.contains_key(&ASLEEP), "nothing was watched: {}", told(&loads));
        assert!(rx.try_recv().is_ok());
        let (length, loads) = watch.see(|| tx.len());
        assert_eq!(length, 0);
        once(&loads);
    }
}

fn receives_one_at_a_time<T: Pod>() {
    let (watch, ours, theirs) = pair!(Ring::<T>::builder(8), Role::Receiver);
    let mut tx = theirs.sender().unwrap();
    let (rx, loads) = watch.see(|| ours.receiver());
    once(&loads);
    let mut rx = rx.unwrap();
    for _ in 0..40 {
        let (empty, loads) = watch.see(|| rx.try_recv());
        assert!(empty.is_err());
        once(&loads);
        assert!(tx.try_send(T::zeroed()).is_ok());
        let (received, loads) = watch.see(|| rx.try_recv());
        assert!(received.is_ok());
        once(&loads);
        assert!(loads.keys().any(|&offset| offset >= DATA), "nothing was watched");
        let (length, loads) = watch.see(|| rx.len());
        assert_eq!(length, 0);
        once(&loads);
    }
}

#[test]
fn a_message_alone_costs_one_load_of_each_word() {
    let _alone = alone();
    sends_one_at_a_time::<u64>();
    sends_one_at_a_time::<[u64; 9]>();
    sends_one_at_a_time::<[u8; 12]>();
    receives_one_at_a_time::<u64>();
    receives_one_at_a_time::<[u64; 9]>();
    receives_one_at_a_time::<[u8; 12]>();
}

#[test]
fn a_record_alone_costs_one_load_of_each_word() {
    let _alone = alone();
    let (watch, ours, theirs) = pair!(ByteRing::builder(256), Role::Sender);
    let (mut tx, mut rx) = (ours.sender().unwrap(), theirs.receiver().unwrap());
    let mut message = Vec::new();
    for i in 0..60 {
        let (sent, loads) = watch.see(|| tx.try_send(&vec![1; 5 * (i % 20)]));
        assert_eq!(sent, Ok(()));
        once(&loads);
        assert!(rx.try_recv(&mut message).is_ok());
    }

    let (watch, ours, theirs) = pair!(ByteRing::builder(256), Role::Receiver);
    let (mut tx, mut rx) = (theirs.sender().unwrap(), ours.receiver().unwrap());
    for i in 0..60 {
        let sent = vec![i as u8; 5 * (i % 20)];
        let (empty, loads) = watch.see(|| rx.try_recv(&mut message));
        assert!(empty.is_err());
        once(&loads);
        tx.try_send(&sent).unwrap();
        let (length, loads) = watch.see(|| match i % 3 {
            0 => rx.try_recv(&mut message).unwrap(),
            1 => rx.try_recv_into(&mut [0; 100]).unwrap(),
            _ => rx.try_claim().map(|claimed| claimed.to_vec().len()).unwrap(),
        });
        assert_eq!(length, sent.len());
        once(&loads);
    }
}

#[test]
fn in_a_stream_only_the_end_is_looked_for_again() {
    let _alone = alone();
    let (watch, ours, theirs) = pair!(Ring::<[u64; 2]>::builder(20), Role::Sender);
    let (mut tx, mut rx) = (ours.sender().unwrap(), theirs.receiver().unwrap());
    for round in 1..30 {
        while let (Ok(()), loads) = watch.see(|| tx.try_send([0; 2])) {
            looks_for_room(&loads);
        }
        looks_for_room(&watch.see(|| tx.try_send_batch(&[[0; 2]; 30])).1);
        rx.drain(round).count();
        looks_for_room(&watch.see(|| tx.try_send_batch(&[[0; 2]; 30])).1);
    }

    let (watch, ours, theirs) = pair!(Ring::<[u64; 2]>::builder(20), Role::Receiver);
    let (mut tx, mut rx) = (theirs.sender().unwrap(), ours.receiver().unwrap());
    for round in 1..30 {
        tx.try_send_from(vec![[0; 2]; round]);
        while let (Ok(_), loads) = watch.see(|| rx.try_recv()) {
            looks_for_messages(&loads);
        }
        tx.try_send_from(vec![[0; 2]; round]);
        looks_for_messages(&watch.see(|| rx.try_recv_batch(&mut [[0; 2]; 30])).1);
        looks_for_messages(&watch.see(|| rx.drain(30).count()).1);
    }

    let (watch, ours, theirs) = pair!(ByteRing::builder(400), Role::Receiver);
    let (mut tx, mut rx) = (theirs.sender().unwrap(), ours.receiver().unwrap());
    for round in 1..30 {
        for i in 0..round {
            let _ = tx.try_send(&vec![1; 3 * i]);
        }
        let (_, mut loads) = watch.see(|| rx.try_recv_batch(30, |message| drop(message.to_vec())));
        // It wakes the sender when it releases in the middle, and at the end.
        loads.remove(&ASLEEP);
        looks_for_messages(&loads);
    }
}

#[test]
fn the_end_of_a_conversation_is_asked_for_once_more() {
    let _alone = alone();
    let (watch, ours, theirs) = pair!(Ring::<u64>::builder(8), Role::Receiver);
    let (tx, mut rx) = (theirs.sender().unwrap(), ours.receiver().unwrap());
    drop(tx);
    let (end, loads) = watch.see(|| rx.try_recv());
    assert_eq!(end, Err(TryRecvError::Disconnected));
    // Whether it has left, by the state, as a hint and in truth; whether there is a message, before and after that.
    assert!(loads.values().all(|&count| count <= 2), "{}", told(&loads));
}

/// A header was looked at, and no word of it twice.
#[cfg(target_env = "gnu")]
#[track_caller]
fn header_at(at: usize, loads: &Loads) {
    let header = loads.range(at..at + HALF);
    assert!(header.clone().count() > 10, "nothing was watched: {}", told(loads));
    assert!(header.clone().all(|(_, &count)| count == 1), "{}", told(loads));
}

/// Watches a side of each role while it joins its half with the peer's, of which it has the descriptor.
#[cfg(target_env = "gnu")]
fn joins<R>(
    halves: impl Fn(Role, Role) -> (Split<R>, Split<R>, OwnedFd),
    join: impl Fn(Split<R>, OwnedFd) -> R,
) {
    for (role, peer) in [(Role::Sender, Role::Receiver), (Role::Receiver, Role::Sender)] {
        let (ours, _theirs, descriptor) = halves(role, peer);
        let (_ring, loads) = Watch::see_from_the_start(|| join(ours, descriptor));
        header_at(0, &loads);
        // What is behind the header is not looked at before there is a handle.
        assert!(loads.keys().all(|&offset| offset < HALF), "{}", told(&loads));
    }
}

#[test]
#[cfg(target_env = "gnu")]
fn what_a_half_says_of_itself_is_loaded_once() {
    let _alone = alone();
    let numbers = |ours, peer| {
        let half = |role| Ring::<u64>::builder(8).split(role).unwrap();
        let (ours, theirs) = (half(ours), half(peer));
        let descriptor = theirs.descriptor().unwrap();
        (ours, theirs, descriptor)
    };
    joins(numbers, |half, fd| half.join(fd).unwrap());
    let bytes = |ours, peer| {
        let builder = || ByteRing::builder(256).label("loads").metadata(&7_u64);
        let half = |role| builder().split(role).unwrap();
        let (ours, theirs) = (half(ours), half(peer));
        let descriptor = theirs.descriptor().unwrap();
        (ours, theirs, descriptor)
    };
    joins(bytes, |half, fd| half.join(fd).unwrap());
}

#[test]
#[cfg(target_env = "gnu")]
fn what_a_connections_halves_say_is_loaded_once() {
    let _alone = alone();
    let address = Address::name(processes::unique("loads"));
    let mut listener = Listener::bind(address.clone()).unwrap();
    let child = processes::fork(|_| {
        drop(annulus::connect::<Duplex<u64>>(address.clone()).unwrap());
    });
    let (client, loads) = Watch::see_from_the_start(|| listener.accept::<Duplex<u64>>());
    // The second half lies behind the first: its header is on the last page but one.
    header_at(0, &loads);
    header_at(LENGTH.load(Ordering::Relaxed) - 2 * HALF, &loads);
    assert!(client.is_ok());
    child.finish();
}
