//! Semaphores: what each call answers, who waits, and what becomes of the permits of the dead.

mod processes;

use annulus::inspect::{Snapshot, State};
use annulus::{
    AcquireError, AcquireTimeoutError, ByteRing, Event, Holder, Place, ReleaseError, Ring,
    RingKind, Semaphore, SetupError, TryAcquireError, Wait,
};
use processes::{PATIENCE, eventually, fork, unique};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

fn memfd() -> Place {
    Place::memfd("semaphore").unwrap()
}

fn counting(permits: u32) -> Semaphore {
    Semaphore::counting(permits).create(memfd()).unwrap()
}

fn opened(fd: OwnedFd) -> Holder {
    Semaphore::from_fd(fd).unwrap().holder().unwrap()
}

#[test]
fn permits_are_had_and_given_back() {
    let semaphore = counting(3);
    let (mut one, mut other) = (semaphore.holder().unwrap(), semaphore.holder().unwrap());
    let two = one.try_acquire_many(2).unwrap();
    assert_eq!((two.count(), two.is_abandoned()), (2, false));
    assert_eq!(semaphore.value(), Ok(1));
    assert_eq!(other.try_acquire_many(2).unwrap_err(), TryAcquireError::NoPermits);
    let last = other.try_acquire().unwrap();
    assert_eq!(semaphore.value(), Ok(0));
    drop(two);
    assert_eq!(semaphore.value(), Ok(2));
    last.release().unwrap();
    assert_eq!(semaphore.value(), Ok(3));
    assert_eq!((one.held(), other.held()), (0, 0));
}

#[test]
fn what_can_never_be_had_is_said_at_once() {
    let semaphore = counting(3);
    let mut holder = semaphore.holder().unwrap();
    for count in [0, 4, u32::MAX] {
        assert_eq!(holder.try_acquire_many(count).unwrap_err(), TryAcquireError::Never { most: 3 });
        assert_eq!(holder.acquire_many(count).unwrap_err(), AcquireError::Never { most: 3 });
        let error = holder.acquire_many_timeout(count, PATIENCE).unwrap_err();
        assert_eq!(error, AcquireTimeoutError::Never { most: 3 });
    }
    for (permits, initial) in [(0, 0), (65536, 0), (u32::MAX, 0), (3, 4)] {
        let made = Semaphore::counting(permits).initial(initial).create(memfd());
        assert!(matches!(made, Err(SetupError::InvalidSize { .. })), "{permits} {initial}");
    }
    let most = counting(65535);
    most.holder().unwrap().acquire_many(65535).unwrap().keep();
    assert_eq!(most.value(), Ok(65535), "dropped with its holder");
}

#[test]
fn what_is_not_held_is_not_released() {
    let semaphore = counting(3);
    let mut holder = semaphore.holder().unwrap();
    assert_eq!(holder.release(1), Err(ReleaseError::NotHeld { held: 0 }));
    holder.acquire_many(2).unwrap().keep();
    assert_eq!(holder.release(3), Err(ReleaseError::NotHeld { held: 2 }));
    assert_eq!(holder.release(u32::MAX), Err(ReleaseError::NotHeld { held: 2 }));
    assert_eq!(holder.release(1), Ok(()));
    assert_eq!((holder.held(), semaphore.value()), (1, Ok(2)));
    assert_eq!(holder.release(0), Ok(()));
    drop(holder);
    assert_eq!(semaphore.value(), Ok(3));
}

#[test]
fn posted_permits_are_consumed() {
    let semaphore = Semaphore::counting(5).initial(0).create(memfd()).unwrap();
    let (mut producer, mut consumer) = (semaphore.holder().unwrap(), semaphore.holder().unwrap());
    assert_eq!(consumer.try_acquire().unwrap_err(), TryAcquireError::NoPermits);
    producer.post(5).unwrap();
    assert_eq!(producer.post(1), Err(ReleaseError::TooMany { most: 5 }));
    assert_eq!(producer.post(6), Err(ReleaseError::TooMany { most: 5 }));
    assert_eq!(producer.post(0), Ok(()));
    consumer.acquire_many(2).unwrap().consume();
    assert_eq!((consumer.held(), semaphore.value()), (0, Ok(3)));
    // Held beside posted ones: there may be too many, and what is beyond the maximum is not there.
    consumer.acquire_many(3).unwrap().keep();
    producer.post(4).unwrap();
    assert_eq!(consumer.release(3), Err(ReleaseError::TooMany { most: 5 }));
    assert_eq!(consumer.held(), 3);
    drop(consumer);
    assert_eq!(semaphore.value(), Ok(5));
}

#[test]
fn a_closed_semaphore_gives_nothing_and_takes_everything_back() {
    let semaphore = counting(2);
    let mut holder = semaphore.holder().unwrap();
    holder.acquire().unwrap().keep();
    let fd = semaphore.inheritable_fd().unwrap();
    let waiters: Vec<_> = [Wait::Block, Wait::Spin, Wait::Adaptive]
        .into_iter()
        .map(|wait| {
            let fd = fd.try_clone().unwrap();
            thread::spawn(move || opened(fd).with_wait(wait).acquire_many(2).map(drop).unwrap_err())
        })
        .collect();
    let zero = {
        let fd = fd.try_clone().unwrap();
        thread::spawn(move || opened(fd).wait_zero().unwrap_err())
    };
    eventually("they sleep", || semaphore.stats().waits > 2);
    semaphore.close().unwrap();
    assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap() == AcquireError::Closed));
    assert_eq!(zero.join().unwrap(), AcquireError::Closed);
    assert_eq!(holder.try_acquire().unwrap_err(), TryAcquireError::Closed);
    let error = holder.acquire_timeout(PATIENCE).unwrap_err();
    assert_eq!(error, AcquireTimeoutError::Closed);
    assert_eq!(holder.release(1), Ok(()));
    assert_eq!(semaphore.value(), Ok(2));
}

/// Adds `turns` to a number that only the owner of a lock may touch, from several threads with handles of their own.
fn count_together(wait: Wait, turns: u32) {
    let lock = Semaphore::binary().create(memfd()).unwrap();
    let number = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut holder = lock.holder().unwrap().with_wait(wait);
                for _ in 0..turns {
                    let guard = holder.acquire_timeout(PATIENCE).unwrap();
                    assert!(!guard.is_abandoned());
                    // Not an addition: two at a time would lose one.
                    let before = number.load(Ordering::Relaxed);
                    if before.is_multiple_of(16) {
                        thread::yield_now();
                    }
                    number.store(before + 1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(number.into_inner(), 4 * turns);
    assert_eq!(lock.value(), Ok(1));
}

#[test]
fn one_at_a_time() {
    for wait in [Wait::Block, Wait::Spin, Wait::Adaptive] {
        count_together(wait, 2000);
    }
}

#[test]
fn many_counts_at_once_never_exceed_what_there_is() {
    let semaphore = counting(5);
    let inside = AtomicU32::new(0);
    thread::scope(|scope| {
        for count in 1..=5 {
            let (semaphore, inside) = (&semaphore, &inside);
            scope.spawn(move || {
                let mut holder = semaphore.holder().unwrap().with_wait(Wait::Block);
                for _ in 0..500 {
                    let permit = holder.acquire_many_timeout(count, PATIENCE).unwrap();
                    let now = inside.fetch_add(count, Ordering::Relaxed) + count;
                    assert!(now <= 5, "{now} of 5 permits are out");
                    thread::yield_now();
                    inside.fetch_sub(count, Ordering::Relaxed);
                    drop(permit);
                }
            });
        }
    });
    assert_eq!(semaphore.value(), Ok(5));
}

#[test]
fn deadlines_are_kept_and_permits_are_not_lost_by_them() {
    let semaphore = counting(1);
    let (mut owner, mut other) = (semaphore.holder().unwrap(), semaphore.holder().unwrap());
    for wait in [Wait::Block, Wait::Spin, Wait::Adaptive] {
        other.set_wait(wait);
        let guard = owner.acquire().unwrap();
        let start = Instant::now();
        let timeout = Duration::from_millis(30);
        assert_eq!(other.acquire_timeout(timeout).unwrap_err(), AcquireTimeoutError::Timeout);
        assert!(start.elapsed() >= timeout);
        let past = Instant::now();
        let error = other.acquire_deadline(past).unwrap_err();
        assert_eq!(error, AcquireTimeoutError::Timeout);
        drop(guard);
        let late = other.acquire_deadline(past);
        drop(late.expect("what is there is had also when it is late"));
        let error = other.wait_zero_timeout(timeout).unwrap_err();
        assert_eq!(error, AcquireTimeoutError::Timeout);
    }
}

#[test]
fn zero_is_waited_for() {
    let semaphore = counting(2);
    for wait in [Wait::Block, Wait::Spin, Wait::Adaptive] {
        let fd = semaphore.inheritable_fd().unwrap();
        let before = semaphore.stats().waits;
        let (saw_zero, zero) = std::sync::mpsc::channel();
        let waiter = thread::spawn(move || {
            let mut holder = opened(fd).with_wait(wait);
            holder.wait_zero_timeout(PATIENCE).unwrap();
            saw_zero.send(()).unwrap();
            // The same handle acquires as before.
            holder.acquire_timeout(PATIENCE).map(drop).unwrap();
        });
        if wait != Wait::Spin {
            eventually("it sleeps", || semaphore.stats().waits > before);
        }
        let mut holder = semaphore.holder().unwrap();
        let one = holder.acquire().unwrap();
        one.keep();
        let all = holder.acquire().unwrap();
        all.keep();
        holder.wait_zero().unwrap();
        zero.recv_timeout(PATIENCE).unwrap();
        holder.release(2).unwrap();
        waiter.join().unwrap();
        assert_eq!(semaphore.value(), Ok(2));
    }
}

/// A process that holds `count` permits of `fd`, and says so.
fn hold(fd: OwnedFd, count: u32) -> processes::Child {
    let mut child = fork(|line| {
        let mut holder = opened(fd);
        holder.acquire_many(count).unwrap().keep();
        line.say(1);
        line.hear();
    });
    child.line.expect(1);
    child
}

#[test]
fn the_permits_of_the_dead_come_back_to_who_waits() {
    for wait in [Wait::Block, Wait::Spin, Wait::Adaptive] {
        let semaphore = counting(3);
        let fd = || semaphore.inheritable_fd().unwrap();
        let child = hold(fd(), 3);
        let mut holder = semaphore.holder().unwrap().with_wait(wait);
        assert_eq!(holder.try_acquire().unwrap_err(), TryAcquireError::NoPermits);
        let inside = fd();
        thread::scope(|scope| {
            let waiter = scope.spawn(move || {
                let mut holder = opened(inside).with_wait(wait);
                let permit = holder.acquire_many_timeout(2, PATIENCE).unwrap();
                permit.is_abandoned()
            });
            eventually("somebody waits", || wait == Wait::Spin || semaphore.stats().waits > 0);
            child.kill();
            assert!(waiter.join().unwrap(), "somebody died with a permit");
        });
        assert!(!holder.acquire_many(3).unwrap().is_abandoned(), "that was said");
        assert_eq!(semaphore.stats().repairs, 3);
    }
}

#[test]
fn the_permits_of_the_dead_come_back_to_who_tries() {
    let semaphore = Semaphore::binary().create(memfd()).unwrap();
    let mut holder = semaphore.holder().unwrap();
    hold(semaphore.inheritable_fd().unwrap(), 1).kill();
    eventually("a permit", || holder.try_acquire().is_ok_and(|permit| permit.is_abandoned()));
    assert!(!holder.try_acquire().unwrap().is_abandoned());
}

#[test]
fn the_permits_of_the_dead_come_back_to_who_comes() {
    let semaphore = counting(2);
    hold(semaphore.inheritable_fd().unwrap(), 2).kill();
    assert_eq!(semaphore.value(), Ok(0));
    let mut holder = semaphore.holder().unwrap();
    assert!(holder.try_acquire_many(2).unwrap().is_abandoned());
    assert_eq!(semaphore.value(), Ok(2));
}

#[test]
fn a_consumed_permit_does_not_come_back() {
    let semaphore = counting(2);
    let fd = semaphore.inheritable_fd().unwrap();
    let mut child = fork(|line| {
        let mut holder = opened(fd);
        holder.acquire_many(2).unwrap().keep();
        holder.release(1).unwrap();
        holder.acquire().unwrap().consume();
        line.say(1);
        line.hear();
    });
    child.line.expect(1);
    child.kill();
    let mut holder = semaphore.holder().unwrap();
    assert!(holder.acquire_timeout(PATIENCE).unwrap().is_abandoned());
    assert_eq!(semaphore.value(), Ok(1));
}

#[test]
fn a_stopped_holder_is_not_dead() {
    use nix::sys::signal::Signal;
    let semaphore = Semaphore::binary().create(memfd()).unwrap();
    let fd = semaphore.inheritable_fd().unwrap();
    let mut child = fork(|line| {
        let mut holder = opened(fd);
        let guard = holder.acquire().unwrap();
        line.say(1);
        line.expect(2);
        drop(guard);
        line.say(3);
        line.hear();
    });
    child.line.expect(1);
    child.signal(Signal::SIGSTOP);
    let mut holder = semaphore.holder().unwrap();
    let error = holder.acquire_timeout(Duration::from_millis(300)).unwrap_err();
    assert_eq!(error, AcquireTimeoutError::Timeout);
    child.signal(Signal::SIGCONT);
    child.line.say(2);
    assert!(!holder.acquire_timeout(PATIENCE).unwrap().is_abandoned());
    child.line.expect(3);
    child.kill();
}

#[test]
fn a_forked_child_has_no_use_of_its_parents_permits() {
    let semaphore = counting(2);
    let fd = semaphore.inheritable_fd().unwrap();
    let mut holder = semaphore.holder().unwrap();
    holder.acquire().unwrap().keep();
    let guard = holder.acquire().unwrap();
    fork(|_| {
        assert_eq!(semaphore.value(), Err(TryAcquireError::Forked));
        assert!(matches!(semaphore.holder(), Err(SetupError::Forked)));
        assert!(matches!(semaphore.close(), Err(SetupError::Forked)));
        assert_eq!(guard.release(), Err(ReleaseError::Forked));
        // Its own, opened anew, sees the parent as alive.
        let mut own = opened(fd);
        assert_eq!(own.try_acquire().unwrap_err(), TryAcquireError::NoPermits);
        let error = own.acquire_timeout(Duration::from_millis(100)).unwrap_err();
        assert_eq!(error, AcquireTimeoutError::Timeout);
    })
    .finish();
    let fd = semaphore.inheritable_fd().unwrap();
    let mut child = fork(|line| {
        // Neither is released, by whatever destructor.
        drop(holder);
        let mut own = opened(fd);
        assert_eq!(own.try_acquire().unwrap_err(), TryAcquireError::NoPermits);
        line.say(1);
        line.hear();
    });
    child.line.expect(1);
    child.line.say(2);
    child.finish();
}

/// Interrupts this process a thousand times a second.
fn storm() {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: the handler does nothing; the structures are valid.
    unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
        assert_eq!(libc::sigaction(libc::SIGALRM, &action, core::ptr::null_mut()), 0);
        let every = libc::timeval { tv_sec: 0, tv_usec: 1000 };
        let timer = libc::itimerval { it_interval: every, it_value: every };
        assert_eq!(libc::setitimer(libc::ITIMER_REAL, &timer, core::ptr::null_mut()), 0);
    }
}

#[test]
fn signals_neither_end_a_wait_nor_hide_a_death() {
    let semaphore = Semaphore::binary().create(memfd()).unwrap();
    let holder = hold(semaphore.inheritable_fd().unwrap(), 1);
    let fd = semaphore.inheritable_fd().unwrap();
    let mut waiter = fork(|line| {
        storm();
        let mut holder = opened(fd).with_wait(Wait::Block);
        let start = Instant::now();
        let timeout = Duration::from_millis(200);
        let error = holder.acquire_timeout(timeout).unwrap_err();
        assert_eq!(error, AcquireTimeoutError::Timeout);
        assert!(start.elapsed() >= timeout);
        line.say(1);
        assert!(holder.acquire().unwrap().is_abandoned());
        line.say(2);
    });
    waiter.line.expect(1);
    holder.kill();
    waiter.line.expect(2);
    waiter.finish();
}

#[test]
fn a_dead_waiter_keeps_no_wake_from_another() {
    let lock = Semaphore::binary().create(memfd()).unwrap();
    let mut owner = lock.holder().unwrap();
    for _ in 0..5 {
        owner.acquire_timeout(PATIENCE).unwrap().keep();
        let waits = lock.stats().waits;
        let waiter = || {
            let fd = lock.inheritable_fd().unwrap();
            fork(|line| {
                let mut holder = opened(fd).with_wait(Wait::Block);
                drop(holder.acquire().unwrap());
                line.say(1);
            })
        };
        let (first, mut second) = (waiter(), waiter());
        eventually("both sleep", || lock.stats().waits >= waits + 2);
        first.signal(nix::sys::signal::Signal::SIGSTOP);
        owner.release(1).unwrap();
        first.kill();
        second.line.expect(1);
        second.finish();
    }
}

#[test]
fn there_are_no_more_holders_than_entries() {
    let semaphore = Semaphore::counting(9).participants(3).create(memfd()).unwrap();
    let holders: Vec<_> = (0..3).map(|_| semaphore.holder().unwrap()).collect();
    assert!(matches!(semaphore.holder(), Err(SetupError::Crowded { participants: 3 })));
    drop(holders);
    // An entry that is taken over and over goes on counting: nothing of one owner is another's.
    for round in 0..200 {
        let mut holders: Vec<_> = (0..3).map(|_| semaphore.holder().unwrap()).collect();
        for (i, holder) in holders.iter_mut().enumerate() {
            holder.acquire_many(1 + ((round + i as u32) % 3)).unwrap().keep();
        }
        assert_eq!(semaphore.value(), Ok(3));
        drop(holders);
        assert_eq!(semaphore.value(), Ok(9));
    }
}

#[test]
fn a_shape_is_not_opened_as_another() {
    let wrong = |result: Result<(), SetupError>, expected: &str, actual: &str| match result {
        Err(SetupError::Kind { expected: e, actual: a }) => {
            assert_eq!((e, &*a), (expected, actual))
        }
        other => panic!("{other:?}"),
    };
    let (slots, bytes) = ("messages of one size", "messages of any size");
    let (semaphore, event) = (counting(3), Event::builder().create(memfd()).unwrap());
    let (ring, lanes) = (
        Ring::<u64>::builder(4).create(memfd()).unwrap(),
        ByteRing::builder(64).create(memfd()).unwrap(),
    );
    let fd = || semaphore.inheritable_fd().unwrap();
    wrong(Ring::<u64>::from_fd(fd()).map(drop), slots, "a semaphore");
    wrong(ByteRing::from_fd(fd()).map(drop), bytes, "a semaphore");
    wrong(Event::from_fd(fd()).map(drop), "an event", "a semaphore");
    let fd = || event.inheritable_fd().unwrap();
    wrong(Ring::<u64>::from_fd(fd()).map(drop), slots, "an event");
    wrong(ByteRing::from_fd(fd()).map(drop), bytes, "an event");
    wrong(Semaphore::from_fd(fd()).map(drop), "a semaphore", "an event");
    wrong(Semaphore::from_fd(ring.inheritable_fd().unwrap()).map(drop), "a semaphore", slots);
    wrong(Semaphore::from_fd(lanes.inheritable_fd().unwrap()).map(drop), "a semaphore", bytes);
    wrong(Event::from_fd(ring.inheritable_fd().unwrap()).map(drop), "an event", slots);
}

#[test]
fn the_header_is_checked() {
    use std::os::unix::fs::FileExt;
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = directory.path().join("semaphore");
    let place = || Place::path(&path).unwrap();
    let builder = Semaphore::counting(7).participants(5).persistent(true);
    drop(builder.create(place()).unwrap());
    let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    let get = |at| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at).unwrap();
        u64::from_le_bytes(bytes)
    };
    let set = |at, value: u64| file.write_all_at(&value.to_le_bytes(), at).unwrap();
    let fields = [(16, 16), (24, 4), (48, 7), (56, 7), (64, 1), (160, 5)];
    for (at, value) in fields {
        assert_eq!(get(at), value, "at {at}");
    }
    // Another topology, no permits, too many, more at first than there may be, an alignment, no table.
    for (at, value) in [(24, 1), (24, 2), (48, 0), (48, 65536), (56, 8), (64, 8), (160, 0)] {
        let before = get(at);
        set(at, value);
        let opened = Semaphore::open(place());
        assert!(matches!(opened, Err(SetupError::Corrupt)), "{value} at {at}: {opened:?}");
        set(at, before);
    }
    assert_eq!(Semaphore::open(place()).unwrap().permits(), 7);
}

#[test]
fn names_live_as_those_of_rings() {
    let name = unique("semaphore");
    let place = || Place::name(&name).unwrap();
    let semaphore = Semaphore::counting(4).initial(1).open_or_create(place()).unwrap();
    let again = Semaphore::counting(9).open_or_create(place()).unwrap();
    assert_eq!((again.permits(), again.value()), (4, Ok(1)), "it was there");
    let mut holder = again.holder().unwrap();
    holder.acquire().unwrap().keep();
    let seen = Snapshot::open(&place()).unwrap();
    assert_eq!((seen.kind, seen.kind.name()), (RingKind::Semaphore, "semaphore"));
    assert_eq!((seen.state, seen.capacity, seen.participants), (State::Live, 4, 64));
    assert_eq!((seen.stats.value, seen.stats.length), (0, 0));
    let held: Vec<_> = seen.stats.participants.iter().map(|who| (who.held, who.alive)).collect();
    assert_eq!(held, [(1, true)]);
    drop((holder, again, semaphore));
    assert!(matches!(Semaphore::open(place()), Err(SetupError::NotFound)));
}

#[test]
fn damage_is_found_and_said() {
    use std::os::unix::fs::FileExt;
    const WORD: u64 = 8192 + 128;
    let semaphore = counting(3);
    let file = std::fs::File::from(semaphore.inheritable_fd().unwrap());
    let set = |value: u64| file.write_all_at(&value.to_le_bytes(), WORD).unwrap();
    // More free than there may be; an author without an entry; bits that mean nothing.
    for damage in [4, 1000 << 22, 1 << 16, 1 << 17, u64::MAX] {
        set(3);
        let (mut holder, mut owner) = (semaphore.holder().unwrap(), semaphore.holder().unwrap());
        owner.acquire().unwrap().keep();
        set(damage);
        assert_eq!(semaphore.value(), Err(TryAcquireError::Corrupt), "{damage:x}");
        assert_eq!(owner.release(1), Err(ReleaseError::Corrupt));
        assert_eq!(holder.acquire().unwrap_err(), AcquireError::Corrupt);
        assert_eq!(holder.wait_zero(), Err(AcquireError::Corrupt));
        set(3);
        assert_eq!(holder.try_acquire().unwrap_err(), TryAcquireError::Corrupt, "poisoned");
    }
}
