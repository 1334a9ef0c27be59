//! Events: what each call answers, and who is woken.

mod processes;

use annulus::inspect::Snapshot;
use annulus::{Event, EventError, EventHandle, EventTimeoutError, Place, SetupError, Wait};
use processes::{PATIENCE, eventually, fork, unique};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

const WAYS: [Wait; 3] = [Wait::Block, Wait::Spin, Wait::Adaptive];

fn memfd() -> Place {
    Place::memfd("event").unwrap()
}

fn event() -> Event {
    Event::builder().create(memfd()).unwrap()
}

fn opened(fd: OwnedFd) -> EventHandle {
    Event::from_fd(fd).unwrap().handle().unwrap()
}

#[test]
fn flags_are_raised_found_and_taken() {
    let event = event();
    let (mut one, mut other) = (event.handle().unwrap(), event.handle().unwrap());
    one.raise(0b101).unwrap();
    other.raise(0b001).unwrap();
    one.raise(1 << 63).unwrap();
    assert_eq!((event.value(), other.value()), (1 << 63 | 0b101, Ok(1 << 63 | 0b101)));
    assert_eq!(other.wait_any(0b111), Ok(0b101));
    assert_eq!(other.wait_all(1 << 63 | 0b1), Ok(1 << 63 | 0b1));
    assert_eq!(other.try_take(0b011), Ok(0b001));
    assert_eq!(one.try_take(0b011), Ok(0), "somebody has it");
    assert_eq!(one.take(u64::MAX), Ok(1 << 63 | 0b100));
    assert_eq!(event.value(), 0);
    one.raise(0b11).unwrap();
    one.clear(0b10).unwrap();
    assert_eq!(event.value(), 0b01);
    let at_once = Duration::ZERO;
    assert_eq!(one.wait_any_timeout(0b10, at_once), Err(EventTimeoutError::Timeout));
    assert_eq!(one.wait_all_timeout(0b11, at_once), Err(EventTimeoutError::Timeout));
    assert_eq!(one.take_timeout(0b10, at_once), Err(EventTimeoutError::Timeout));
    // Of nothing there is nothing to wait for.
    assert_eq!((one.wait_any(0), one.wait_all(0), one.take(0)), (Ok(0), Ok(0), Ok(0)));
}

#[test]
fn all_who_wait_are_woken() {
    for wait in WAYS {
        let event = event();
        let fd = event.inheritable_fd().unwrap();
        let spawn = |what: fn(&mut EventHandle) -> Result<u64, EventTimeoutError>| {
            let fd = fd.try_clone().unwrap();
            thread::spawn(move || what(&mut opened(fd).with_wait(wait)))
        };
        let any: Vec<_> = (0..3).map(|_| spawn(|e| e.wait_any_timeout(0b011, PATIENCE))).collect();
        let all: Vec<_> = (0..2).map(|_| spawn(|e| e.wait_all_timeout(0b110, PATIENCE))).collect();
        if wait != Wait::Spin {
            eventually("all sleep", || event.stats().waits >= 5);
        }
        let mut raiser = event.handle().unwrap();
        raiser.raise(0b010).unwrap();
        for one in any {
            assert_eq!(one.join().unwrap(), Ok(0b010));
        }
        assert!(all.iter().all(|one| !one.is_finished()));
        raiser.raise(0b100).unwrap();
        for one in all {
            assert_eq!(one.join().unwrap(), Ok(0b110));
        }
    }
}

#[test]
fn each_raise_is_taken_once() {
    const ROUNDS: u32 = 3000;
    for wait in WAYS {
        let (there, back) = (event(), event());
        let fds = (there.inheritable_fd().unwrap(), back.inheritable_fd().unwrap());
        let echo = fork(|_| {
            let (mut there, mut back) = (opened(fds.0).with_wait(wait), opened(fds.1));
            for round in 0..ROUNDS {
                let flag = 1 << (round % 64);
                assert_eq!(there.take_timeout(u64::MAX, PATIENCE), Ok(flag));
                back.raise(flag).unwrap();
            }
        });
        let (mut there, mut back) =
            (there.handle().unwrap(), back.handle().unwrap().with_wait(wait));
        for round in 0..ROUNDS {
            let flag = 1 << (round % 64);
            there.raise(flag).unwrap();
            assert_eq!(back.take_timeout(u64::MAX, PATIENCE), Ok(flag));
        }
        echo.finish();
        assert_eq!((there.value(), back.value()), (Ok(0), Ok(0)));
    }
}

#[test]
fn who_takes_takes_alone() {
    const RAISES: u32 = 2000;
    let event = event();
    let fd = event.inheritable_fd().unwrap();
    let takers: Vec<_> = (0..3)
        .map(|_| {
            let fd = fd.try_clone().unwrap();
            thread::spawn(move || {
                let mut handle = opened(fd);
                let mut count = 0;
                loop {
                    let taken = handle.take_timeout(u64::MAX, PATIENCE).unwrap();
                    count += (taken & !(1 << 63)).count_ones();
                    if taken >> 63 == 1 {
                        handle.raise(1 << 63).unwrap();
                        return count;
                    }
                }
            })
        })
        .collect();
    let mut raiser = event.handle().unwrap();
    for i in 0..RAISES {
        let flag = 1_u64 << (i % 63);
        let deadline = Instant::now() + PATIENCE;
        while raiser.value().unwrap() & flag != 0 {
            assert!(Instant::now() < deadline);
            thread::yield_now();
        }
        raiser.raise(flag).unwrap();
    }
    eventually("all were taken", || event.value() == 0);
    raiser.raise(1 << 63).unwrap();
    let counts: Vec<u32> = takers.into_iter().map(|taker| taker.join().unwrap()).collect();
    assert_eq!(counts.iter().sum::<u32>(), RAISES, "{counts:?}");
}

#[test]
fn a_killed_waiter_and_a_killed_raiser_harm_nobody() {
    let event = event();
    let fd = || event.inheritable_fd().unwrap();
    let mut waiters = Vec::new();
    for _ in 0..3 {
        let fd = fd();
        waiters.push(fork(|_| {
            let _ = opened(fd).with_wait(Wait::Block).wait_any(1);
        }));
    }
    eventually("they sleep", || event.stats().waits >= 3);
    waiters.into_iter().for_each(processes::Child::kill);
    let own = fd();
    let waiter = thread::spawn(move || opened(own).with_wait(Wait::Block).wait_any(1));
    let raiser = fd();
    let mut raiser = fork(|line| {
        opened(raiser).raise(1).unwrap();
        line.say(1);
        line.hear();
    });
    raiser.line.expect(1);
    raiser.kill();
    assert_eq!(waiter.join().unwrap(), Ok(1));
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
fn signals_neither_end_a_wait_nor_move_its_deadline() {
    let event = event();
    let fd = event.inheritable_fd().unwrap();
    let mut child = fork(|line| {
        storm();
        for wait in WAYS {
            let mut handle = opened(fd.try_clone().unwrap()).with_wait(wait);
            let start = Instant::now();
            let timeout = Duration::from_millis(150);
            assert_eq!(handle.wait_any_timeout(1, timeout), Err(EventTimeoutError::Timeout));
            assert!(start.elapsed() >= timeout);
        }
        line.say(1);
        assert_eq!(opened(fd).with_wait(Wait::Block).wait_any(1), Ok(1));
        line.say(2);
    });
    child.line.expect(1);
    event.handle().unwrap().raise(1).unwrap();
    child.line.expect(2);
    child.finish();
}

#[test]
fn a_forked_child_has_no_use_of_its_parents_handles() {
    let event = event();
    let mut handle = event.handle().unwrap();
    handle.raise(1).unwrap();
    let fd = event.inheritable_fd().unwrap();
    fork(|_| {
        assert_eq!(handle.raise(2), Err(EventError::Forked));
        assert_eq!(handle.try_take(1), Err(EventError::Forked));
        assert_eq!(handle.wait_any(1), Err(EventError::Forked));
        assert_eq!(handle.value(), Err(EventError::Forked));
        assert!(matches!(event.handle(), Err(SetupError::Forked)));
        assert_eq!(event.value(), 0);
        let mut own = opened(fd);
        assert_eq!(own.take(u64::MAX), Ok(1));
        own.raise(4).unwrap();
    })
    .finish();
    assert_eq!(event.value(), 4);
}

#[test]
fn names_live_as_those_of_rings() {
    let name = unique("event");
    let place = || Place::name(&name).unwrap();
    let event = Event::builder().open_or_create(place()).unwrap();
    event.handle().unwrap().raise(6).unwrap();
    let again = Event::builder().open_or_create(place()).unwrap();
    assert_eq!(again.value(), 6);
    let seen = Snapshot::open(&place()).unwrap();
    assert_eq!((seen.kind.name(), seen.stats.value, seen.stats.length), ("event", 6, 0));
    drop((event, again));
    assert!(matches!(Event::open(place()), Err(SetupError::NotFound)));
}

#[test]
fn there_is_no_limit_to_handles() {
    let event = event();
    let mut handles: Vec<_> = (0..2000).map(|_| event.handle().unwrap()).collect();
    handles[1999].raise(1).unwrap();
    assert!(handles.iter_mut().all(|handle| handle.wait_any(1) == Ok(1)));
}
