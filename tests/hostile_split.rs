//! A peer that owns its half of a split ring, and writes anything anywhere in it at full speed, while the victim
//! uses every verb that has an end: only errors come of it, and nothing in the victim's half changes but by the
//! victim. The victim is a process of its own, so a signal shows.

#[path = "../fuzz/bodies/forged.rs"]
#[allow(dead_code)]
mod forged;
mod processes;
#[path = "support/scribble.rs"]
mod scribble;

use annulus::{Builder, ByteRing, Ring, Role, Split, UntypedRing};
use forged::Forged;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap};
use processes::{PATIENCE, fork};
use scribble::timed;
use std::fs::File;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PAGE: usize = 4096;
/// Offsets from `src/protocol/layout.rs`.
const HALF: usize = PAGE;
const DATA: usize = 2 * PAGE;

/// How long a victim has to stand one enemy; then it is the next one's turn.
const ASSAULT: Duration = Duration::from_millis(900);
const SHORT: Duration = Duration::from_micros(200);

fn map(fd: &OwnedFd, size: usize, protection: ProtFlags) -> NonNull<std::ffi::c_void> {
    // SAFETY: a new mapping of a whole file, never unmapped; its words are used as atomics only.
    unsafe {
        mmap(None, NonZeroUsize::new(size).unwrap(), protection, MapFlags::MAP_SHARED, fd, 0)
            .unwrap()
    }
}

/// Any half.
trait Describes {
    fn descriptor_of(&self) -> OwnedFd;
}

macro_rules! describes {
    ($ring:ty) => {
        impl Describes for Split<$ring> {
            fn descriptor_of(&self) -> OwnedFd {
                self.descriptor().unwrap()
            }
        }
    };
}
describes!(Ring<u64>);
describes!(Ring<[u64; 9]>);
describes!(Ring<[u8; 12]>);
describes!(UntypedRing);
describes!(ByteRing);

/// Writes as only an enemy would, with pauses in which everything looks right: in them the victim gets in. `theirs` is
/// the victim's half, to aim by.
fn scribble(words: &[AtomicU64], theirs: &[AtomicU64], until: Instant, which: u64) {
    let mut random = scribble::numbers(which);
    let bytes = words.len() * 8;
    let position = || theirs[HALF / 8].load(Ordering::Relaxed);
    for burst in 0_u64.. {
        if Instant::now() >= until {
            return;
        }
        if burst % 32 == 0 {
            let sound = position() & !7;
            words[DATA.min(bytes) / 8..].iter().for_each(|word| word.store(0, Ordering::Relaxed));
            for word in [HALF / 8, HALF / 8 + 16] {
                words[word].store(sound, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        for _ in 0..64 {
            let r = random();
            let range: Range<usize> = match r % 8 {
                0 => 0..256,
                1..4 => HALF..HALF + 512,
                _ if bytes > DATA => DATA..bytes,
                _ => HALF..DATA,
            };
            let own = words[HALF / 8].load(Ordering::Relaxed);
            let near = if r & 0x100 == 0 { own } else { position() };
            let near = near.wrapping_add((r >> 16) % 64).wrapping_sub(32);
            let (offset, value) = scribble::stroke(&mut random, r, range, near);
            words[offset / 8].store(value, Ordering::Relaxed);
        }
    }
}

/// How long each kind of victim is besieged: once, or for as many seconds as `ANNULUS_SIEGE` says.
fn siege() -> Duration {
    let seconds = std::env::var("ANNULUS_SIEGE").ok().and_then(|text| text.parse().ok());
    seconds.map_or(ASSAULT, Duration::from_secs)
}

/// Runs `victim`, which has the half of `role` of the ring that `builder` makes, with one hostile other half after
/// another.
fn besiege<R: 'static>(
    builder: impl Fn() -> Builder<R>,
    split: impl Fn(Builder<R>, Role) -> Split<R>,
    join: impl Fn(Split<R>, OwnedFd) -> R,
    role: Role,
    mut victim: impl FnMut(&R) -> u32,
) where
    Split<R>: Describes,
{
    let peer = if role == Role::Sender { Role::Receiver } else { Role::Sender };
    let end = Instant::now() + siege();
    let mut passed = 0;
    for which in 0.. {
        let forged = Forged::of(split(builder(), peer).descriptor_of());
        let base = NonNull::from(forged.words()).cast();
        // Not even its owner can take pages out of it.
        // SAFETY: it would put zeroes there, which words may be.
        assert!(unsafe { madvise(base, PAGE, MmapAdvise::MADV_REMOVE) }.is_err());
        let mut child = fork(|line| {
            let half = split(builder(), role);
            let shown = half.descriptor_of();
            let size = File::from(shown.try_clone().unwrap()).metadata().unwrap().len() as usize;
            let base = map(&shown, size, ProtFlags::PROT_READ);
            // SAFETY: the mapping is that long, and stays; it is only read.
            let own: &'static [AtomicU64] =
                unsafe { std::slice::from_raw_parts(base.as_ptr().cast(), size / 8) };
            let ring = join(half, forged.descriptor());
            // The enemy is a thread here: it has nothing but what the peer's process would have.
            let mut calls = 0_u32;
            let until = Instant::now() + ASSAULT;
            std::thread::scope(|scope| {
                scope.spawn(|| scribble(forged.words(), own, until, which));
                while Instant::now() < until {
                    calls = calls.saturating_add(victim(&ring));
                }
            });
            line.say(calls.min(255) as u8);
        });
        passed += u64::from(child.line.hear());
        child.finish();
        // Some enemies let nobody in, and then there is another one.
        if passed > 0 && Instant::now() >= end {
            break;
        }
        assert!(Instant::now() < end + PATIENCE, "the victim never got to do anything");
    }
}

fn send<T: bytemuck::Pod>(ring: &Ring<T>) -> u32 {
    let Ok(mut tx) = timed(|| ring.sender()) else { return 0 };
    let message = T::zeroed();
    for _ in 0..20 {
        let _ = timed(|| tx.try_send(message));
        assert!(timed(|| tx.try_send_batch(&[message; 60])) <= 60);
        let _ = timed(|| tx.send_timeout(message, SHORT));
        let _ = timed(|| tx.try_send_from([message; 60]));
        assert!(tx.len() <= 50);
        let _ = (ring.stats(), tx.is_empty());
    }
    let _ = timed(|| tx.wait_for_peer(Duration::ZERO));
    20
}

fn receive<T: bytemuck::Pod>(ring: &Ring<T>) -> u32 {
    let Ok(mut rx) = timed(|| ring.receiver()) else { return 0 };
    let mut messages = [T::zeroed(); 60];
    for _ in 0..20 {
        let _ = timed(|| rx.try_recv().is_ok());
        assert!(timed(|| rx.try_recv_batch(&mut messages)) <= 60);
        let _ = timed(|| rx.recv_timeout(SHORT).is_ok());
        let _ = timed(|| rx.try_iter().take(60).count());
        let _ = timed(|| rx.drain(60).count());
        assert!(rx.len() <= 50);
    }
    let _ = timed(|| rx.wait_for_peer(Duration::ZERO));
    20
}

macro_rules! siege {
    ($builder:expr, $role:expr, $victim:expr) => {
        besiege(
            || $builder,
            |builder, role| builder.split(role).unwrap(),
            |half, fd| half.join(fd).unwrap(),
            $role,
            $victim,
        )
    };
}

#[test]
fn a_sender_stands_a_receiver_of_any_half() {
    siege!(Ring::<u64>::builder(50), Role::Sender, send::<u64>);
    siege!(Ring::<[u64; 9]>::builder(50), Role::Sender, send::<[u64; 9]>);
    siege!(Ring::<[u8; 12]>::builder(50), Role::Sender, send::<[u8; 12]>);
}

#[test]
fn a_receiver_stands_a_sender_of_any_half() {
    siege!(Ring::<u64>::builder(50), Role::Receiver, receive::<u64>);
    siege!(Ring::<[u64; 9]>::builder(50), Role::Receiver, receive::<[u64; 9]>);
    siege!(Ring::<[u8; 12]>::builder(50), Role::Receiver, receive::<[u8; 12]>);
}

#[test]
fn bytes_stand_it() {
    siege!(ByteRing::builder(1000), Role::Sender, |ring: &ByteRing| {
        let Ok(mut tx) = timed(|| ring.sender()) else { return 0 };
        for i in 0..20 {
            let _ = timed(|| tx.try_send(&[1; 17]).is_ok());
            let _ = timed(|| tx.try_send(&[1; 1000]).is_ok());
            let _ = timed(|| tx.send_timeout(&[2; 100], SHORT).is_ok());
            if let Ok(mut grant) = timed(|| tx.try_reserve(31 * i)) {
                grant.write(31 * i / 2, &vec![3; 31 * i / 2]);
                grant.commit();
            }
            assert!(tx.len() <= 1024);
        }
        20
    });
    let mut message = Vec::new();
    siege!(ByteRing::builder(1000), Role::Receiver, move |ring: &ByteRing| {
        let Ok(mut rx) = timed(|| ring.receiver()) else { return 0 };
        for _ in 0..20 {
            let _ = timed(|| rx.try_recv(&mut message).is_ok());
            let _ = timed(|| rx.recv_timeout(&mut message, SHORT).is_ok());
            let _ = timed(|| rx.try_recv_into(&mut [0; 100]).is_ok());
            if let Ok(claimed) = timed(|| rx.try_claim()) {
                message = claimed.to_vec();
                claimed.release();
            }
            let _ = timed(|| rx.try_recv_batch(60, |claimed| drop(claimed.to_vec())));
            assert!(message.capacity() < 8192, "memory by a peer's word");
        }
        20
    });
}

#[test]
fn untyped_rings_stand_it() {
    siege!(UntypedRing::builder(50, 20), Role::Sender, |ring: &UntypedRing| {
        let Ok(mut tx) = timed(|| ring.sender()) else { return 0 };
        let _ = timed(|| tx.try_send(&[0; 20]).is_ok());
        let _ = timed(|| tx.try_send_batch(&[0; 200]));
        1
    });
    siege!(UntypedRing::builder(50, 20), Role::Receiver, |ring: &UntypedRing| {
        let Ok(mut rx) = timed(|| ring.receiver()) else { return 0 };
        let _ = timed(|| rx.try_recv(&mut [0; 20]).is_ok());
        let _ = timed(|| rx.recv_timeout(&mut [0; 20], SHORT).is_ok());
        let _ = timed(|| rx.try_recv_batch(&mut [0; 500]));
        1
    });
}
