//! Deaths, enemies, forks, and the end of the thread.

use crate::processes::{eventually, fork};
use crate::scribble;
use crate::{OURS, is_readable, memfd, serve, wait};
use annulus::{
    Broadcast, ByteRing, Delivery, Event, Latest, Mailbox, Pollable, Ring, Select, SetupError,
    Source, Start, Topology, TryRecvError,
};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

#[test]
fn a_killed_peer_is_noticed() {
    let ring = Ring::<u64>::builder(8).create(memfd()).unwrap();
    let bytes = ByteRing::builder(64).topology(Topology::Mpsc).create(memfd()).unwrap();
    let fds = (ring.inheritable_fd().unwrap(), bytes.inheritable_fd().unwrap());
    let mut child = fork(move |line| {
        let mut tx = Ring::<u64>::from_fd(fds.0).unwrap().sender().unwrap();
        let _also = ByteRing::from_fd(fds.1).unwrap().sender().unwrap();
        tx.send(1).unwrap();
        line.say(1);
        line.wait_for_end();
    });
    child.line.expect(1);
    let mut rx = Pollable::new(ring.receiver().unwrap()).unwrap();
    let mut bytes = Pollable::new(bytes.receiver().unwrap()).unwrap();
    assert_eq!(rx.try_recv(), Ok(1));
    // The child may be between a publication and its wake, of which there is nothing: pending in the end.
    eventually("both are armed", || rx.arm().is_pending() & bytes.arm().is_pending());
    child.kill();
    serve(&mut rx, |rx| rx.try_recv() == Err(TryRecvError::Disconnected));
    let mut message = Vec::new();
    serve(&mut bytes, |rx| rx.try_recv(&mut message) == Err(TryRecvError::Disconnected));
    assert!(
        rx.arm().is_ready() || {
            wait(&rx);
            true
        }
    );
}

/// What a receiver had that was killed is handed out again, and a killed sender is stepped over.
#[test]
fn what_the_dead_had_is_found() {
    let builder = Ring::<u64>::builder(8).topology(Topology::Spmc).participants(4);
    let ring = builder.create(memfd()).unwrap();
    let fd = ring.inheritable_fd().unwrap();
    let mut tx = ring.sender().unwrap();
    tx.send(5).unwrap();
    let mut child = fork(move |line| {
        let mut rx = Ring::<u64>::from_fd(fd).unwrap().receiver().unwrap();
        let claimed = rx.try_claim().unwrap();
        line.say(1);
        line.wait_for_end();
        drop(claimed);
    });
    child.line.expect(1);
    let mut rx = Pollable::new(ring.receiver().unwrap()).unwrap();
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    let _ = rx.arm();
    child.kill();
    serve(&mut rx, |rx| rx.try_recv() == Ok(5));
}

/// The threads of this process that sleep for somebody.
fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let status = |task: fs::DirEntry| fs::read_to_string(task.path().join("status")).ok();
    let all = tasks.filter_map(|task| status(task.unwrap()));
    all.filter(|status| status.starts_with("Name:\tannulus-poll\n")).collect()
}

#[test]
fn the_thread_ends_with_it_and_takes_no_signals() {
    // In a process of its own: other tests have such threads, too.
    fork(|_| {
        let ring = Ring::<u64>::builder(8).create(memfd()).unwrap();
        let (tx, mut rx) = (ring.sender().unwrap(), Some(ring.receiver().unwrap()));
        for round in 0..500 {
            let mut pollable = Pollable::new(rx.take().unwrap()).unwrap();
            eventually("it runs", || threads().len() == 1);
            if round % 3 != 0 {
                assert!(pollable.arm().is_pending());
            }
            if round % 3 == 1 {
                thread::sleep(Duration::from_micros(round));
            }
            let all = threads();
            let blocked = all[0].lines().find_map(|line| line.strip_prefix("SigBlk:\t")).unwrap();
            let blocked = u64::from_str_radix(blocked, 16).unwrap();
            assert_eq!(blocked & 0xFFFF, 0xFFFF & !(1 << 8), "all but SIGKILL, of the first 16");
            rx = Some(pollable.into_inner());
            eventually("it has ended", || threads().is_empty());
        }
        drop(tx);
        let builder = Ring::<u64>::builder(8).topology(Topology::Mpmc).participants(4);
        let ring = builder.create(memfd()).unwrap();
        let mut idle = Pollable::new(ring.receiver().unwrap()).unwrap();
        let mut armed = Pollable::new(ring.receiver().unwrap()).unwrap();
        assert!(armed.arm().is_pending() && idle.arm().is_pending());
        ring.sender().unwrap().send(1).unwrap();
        wait(&idle);
        drop((idle, armed));
        eventually("they have ended", || threads().is_empty());
    })
    .finish();
}

#[test]
fn a_fork_child_has_none() {
    let ring = Ring::<u64>::builder(8).create(memfd()).unwrap();
    let mut tx = ring.sender().unwrap();
    let mut rx = Pollable::new(ring.receiver().unwrap()).unwrap();
    assert!(rx.arm().is_pending());
    let mut moved = Some(rx);
    let child = fork(|_| {
        let mut rx = moved.take().unwrap();
        assert!(rx.arm().is_ready());
        assert_eq!(rx.try_recv(), Err(TryRecvError::Forked));
        assert!(catch_unwind(AssertUnwindSafe(|| rx.as_fd())).is_err());
        let forked = Pollable::new(rx.into_inner());
        assert!(matches!(forked, Err(SetupError::Forked)));
        // The child's own works.
        let ring = Ring::<u64>::builder(8).create(memfd()).unwrap();
        let mut rx = Pollable::new(ring.receiver().unwrap()).unwrap();
        assert!(rx.arm().is_pending());
        ring.sender().unwrap().send(1).unwrap();
        wait(&rx);
    });
    child.finish();
    let mut rx = moved.take().unwrap();
    assert!(!is_readable(&rx));
    tx.send(1).unwrap();
    wait(&rx);
    assert_eq!(rx.try_recv(), Ok(1));
}

/// Writes what an enemy writes into a segment of which nothing but the header is checked, wakes the thread to look at it, and
/// has the handle armed meanwhile.
fn besiege<H: Source>(which: u64, fd: OwnedFd, handle: H, interest: H::Interest) {
    const EPOCHS: [usize; 2] = [4096 + 260, 8192 + 260];
    let size = nix::sys::stat::fstat(fd.as_fd()).unwrap().st_size as usize;
    let shared = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    // SAFETY: fresh memory of the kernel's choice, of the size of the file, which is sealed.
    let base = unsafe {
        libc::mmap(std::ptr::null_mut(), size, shared.0, shared.1, fd.as_raw_fd(), 0).cast::<u8>()
    };
    assert_ne!(base.cast(), libc::MAP_FAILED);
    let mut random = scribble::numbers(which);
    let mut pollable = Pollable::new(handle).unwrap();
    for _ in 0..200 {
        let _ = pollable.arm_for(interest);
        for _ in 0..5 {
            let r = random();
            let half = 4096 * (1 + r as usize % 2);
            let end = if r.is_multiple_of(3) { size } else { half + 640 };
            let (offset, value) = scribble::stroke(&mut random, r, half..end, r % 64);
            // SAFETY: a word within the mapping, which all use by atomics.
            unsafe { (*base.add(offset).cast::<AtomicU64>()).store(value, Ordering::Relaxed) };
        }
        for at in EPOCHS {
            // SAFETY: likewise; waking touches no memory.
            unsafe {
                let epoch = base.add(at).cast::<AtomicU32>();
                (*epoch).fetch_add(1, Ordering::Relaxed);
                libc::syscall(libc::SYS_futex, epoch, libc::FUTEX_WAKE, i32::MAX);
            }
        }
    }
    drop(pollable);
    // SAFETY: mapped above, and nobody has it any more.
    unsafe { libc::munmap(base.cast(), size) };
}

/// What somebody published who was killed before it woke anybody is found when the thread's slice ends.
#[test]
fn what_nobody_wakes_for_is_found() {
    let words = |fd: OwnedFd, at: u64, words: &[u64]| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        fs::File::from(fd).write_all_at(&bytes, at).unwrap();
    };
    let event = Event::builder().create(memfd()).unwrap();
    let mut flags = Pollable::new(event.handle().unwrap()).unwrap();
    assert!(flags.arm_for(OURS).is_pending());
    words(event.inheritable_fd().unwrap(), 8192, &[OURS]);
    wait(&flags);
    // Payload, then the stamp `FULL(0)`.
    let ring = Ring::<u64>::builder(16).create(memfd()).unwrap();
    let mut rx = Pollable::new(ring.receiver().unwrap()).unwrap();
    assert!(rx.arm().is_pending());
    words(ring.inheritable_fd().unwrap(), 12288 + 8, &[5]);
    words(ring.inheritable_fd().unwrap(), 12288, &[1]);
    serve(&mut rx, |rx| rx.try_recv() == Ok(5));
    // And a header, of a record of one word.
    let ring = ByteRing::builder(64).create(memfd()).unwrap();
    let mut rx = Pollable::new(ring.receiver().unwrap()).unwrap();
    assert!(rx.arm().is_pending());
    words(ring.inheritable_fd().unwrap(), 12288 + 8, &[5]);
    words(ring.inheritable_fd().unwrap(), 12288, &[1 << 32 | 8]);
    let mut message = Vec::new();
    serve(&mut rx, |rx| rx.try_recv(&mut message) == Ok(8));
}

#[test]
fn the_thread_survives_any_contents() {
    fork(|_| {
        // A panic of that thread would be nobody's, so it ends the process.
        std::panic::set_hook(Box::new(|_| std::process::abort()));
        for which in 0..60 {
            for topology in [Topology::Spsc, Topology::Mpmc] {
                let make = Ring::<u64>::builder(16).topology(topology).create(memfd()).unwrap();
                let fd = make.inheritable_fd().unwrap();
                besiege(which, fd, make.receiver().unwrap(), ());
                let make = Ring::<u64>::builder(16).topology(topology).create(memfd()).unwrap();
                let mut tx = make.sender().unwrap();
                (0..16).for_each(|i| tx.try_send(i).unwrap());
                besiege(which, make.inheritable_fd().unwrap(), tx, ());
            }
            for topology in [Topology::Spsc, Topology::Mpsc] {
                let make = ByteRing::builder(256).topology(topology).create(memfd()).unwrap();
                besiege(which, make.inheritable_fd().unwrap(), make.receiver().unwrap(), ());
            }
            let make = Broadcast::<u64>::builder(16).create(memfd()).unwrap();
            let rx = make.receiver(Delivery::Gate, Start::Now).unwrap();
            besiege(which, make.inheritable_fd().unwrap(), rx, ());
            let make = Latest::<u64>::builder().create(memfd()).unwrap();
            besiege(which, make.inheritable_fd().unwrap(), make.reader().unwrap(), ());
            let make = Event::builder().create(memfd()).unwrap();
            besiege(which, make.inheritable_fd().unwrap(), make.handle().unwrap(), OURS);
            let make = Mailbox::builder(8, 16).types(4).create(memfd()).unwrap();
            let rx = make.receiver().unwrap();
            besiege(which, make.inheritable_fd().unwrap(), rx, Select::AtMost(3));
        }
    })
    .finish();
}
