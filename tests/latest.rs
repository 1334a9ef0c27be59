//! `Latest<T>`: what readers get, whoever writes, leaves, forks, is stopped or killed.

mod processes;

use annulus::inspect::{Snapshot, State};
use annulus::{
    ByteRing, Latest, LatestError, LatestReader, LatestWriter, Place, RingKind, Role, SetupError,
    UntypedLatest, UntypedRing, Wait,
};
use bytemuck::Pod;
use nix::sys::signal::Signal;
use processes::{PATIENCE, eventually, fork, unique};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A moment in which nothing is expected to happen.
const MOMENT: Duration = Duration::from_millis(5);
/// Where the word of the latest value is in the file, from `src/protocol/layout.rs`.
const VALUE: u64 = 8192;

fn variable<T: Pod>(readers: usize) -> Latest<T> {
    Latest::builder().participants(readers).create(Place::memfd("latest").unwrap()).unwrap()
}

fn again<T: Pod>(fd: OwnedFd) -> Latest<T> {
    Latest::from_fd(fd).unwrap()
}

/// A value whose every word tells which one it is.
fn value<const N: usize>(i: u64) -> [u64; N] {
    std::array::from_fn(|word| i.wrapping_mul(word as u64 + 1))
}

#[track_caller]
fn check<const N: usize>(found: &[u64; N]) -> u64 {
    assert_eq!(*found, value(found[0]), "a torn value");
    found[0]
}

#[test]
fn a_value_that_was_never_written_is_all_zeroes() {
    let variable = variable::<[u64; 3]>(2);
    let mut rx = variable.reader().unwrap();
    assert_eq!((rx.get(), rx.version()), (Ok([0; 3]), 0));
    assert_eq!(variable.peek(), Ok(([0; 3], 0)));
    assert_eq!(rx.read_if_newer(0), Ok(None));
}

#[test]
fn each_write_is_read_and_counted() {
    fn of<const N: usize>()
    where
        [u64; N]: Pod,
    {
        let variable = variable::<[u64; N]>(3);
        let mut tx = variable.writer().unwrap();
        // One that reads each value, one that reads some, and one that reads the first only.
        let (mut all, mut some) = (variable.reader().unwrap(), variable.reader().unwrap());
        let mut first = variable.reader().unwrap();
        for i in 1..200 {
            assert_eq!(tx.set(value(i)), Ok(i));
            assert_eq!((all.get().map(|v| check(&v)), all.version()), (Ok(i), i));
            assert_eq!(all.get().map(|v| check(&v)), Ok(i), "read again");
            assert_eq!(variable.peek().map(|(v, version)| (check(&v), version)), Ok((i, i)));
            if i == 1 {
                first.get().unwrap();
            }
            if i % 7 == 0 {
                assert_eq!(some.read_if_newer(i - 1), Ok(Some((value(i), i))));
                assert_eq!(some.read_if_newer(i), Ok(None));
            }
        }
        let mut kept = value(0);
        assert_eq!(first.read(&mut kept), Ok(199));
        assert_eq!(check(&kept), 199);
        assert_eq!(variable.stats().sent, 199);
    }
    of::<1>();
    of::<8>();
    of::<9>();
    of::<1000>();
}

#[test]
fn values_of_odd_sizes_are_whole() {
    let variable = variable::<[u8; 13]>(1);
    let (mut tx, mut rx) = (variable.writer().unwrap(), variable.reader().unwrap());
    for i in 0..40 {
        tx.write(&[i; 13]).unwrap();
        assert_eq!(rx.get(), Ok([i; 13]));
    }
}

#[test]
fn a_value_that_is_lent_stays_as_it_is_until_the_next_read() {
    const LARGE: usize = 600;
    let variable = variable::<[u64; LARGE]>(2);
    let (mut rx, mut other) = (variable.reader().unwrap(), variable.reader().unwrap());
    // SAFETY: nobody but this test has the variable open.
    let never_written = unsafe { rx.get_ref() };
    assert_eq!(never_written, Ok(&[0; LARGE]));
    for round in 0..20 {
        let mut tx = variable.writer().unwrap();
        let first = tx.set(value(1_000 * round)).unwrap();
        // SAFETY: as above.
        let lent = unsafe { rx.get_ref() }.unwrap();
        for i in 1..100 {
            if i % 30 == 0 {
                // Also one that succeeds another.
                drop(tx);
                tx = variable.writer().unwrap();
            }
            tx.set(value(1_000 * round + i)).unwrap();
            assert_eq!(check(&other.get().unwrap()), 1_000 * round + i);
            assert_eq!(check(lent), 1_000 * round);
        }
        assert_eq!(rx.version(), first);
    }
}

#[test]
fn a_value_that_is_lent_is_where_its_type_has_to_be() {
    #[derive(Clone, Copy, Debug, PartialEq, bytemuck::Zeroable, bytemuck::Pod)]
    #[repr(C, align(128))]
    struct Pair([u64; 16]);

    let variable = variable::<Pair>(3);
    let (mut tx, mut rx) = (variable.writer().unwrap(), variable.reader().unwrap());
    for i in 0..20 {
        tx.set(Pair(value(i))).unwrap();
        // SAFETY: nobody but this test has the variable open.
        let lent = unsafe { rx.get_ref() }.unwrap();
        assert!(std::ptr::from_ref(lent).is_aligned());
        assert_eq!(check(&lent.0), i);
    }
}

#[test]
fn another_kind_or_type_is_refused_by_name() {
    let variable = variable::<u64>(1);
    let fd = || variable.inheritable_fd().unwrap();
    let refused = |error: SetupError| {
        assert!(matches!(error, SetupError::Kind { .. }));
        let text = error.to_string();
        assert!(text.contains("the latest value of a variable"), "{text}");
    };
    refused(annulus::Ring::<u64>::from_fd(fd()).unwrap_err());
    refused(ByteRing::from_fd(fd()).unwrap_err());
    refused(UntypedRing::from_fd(fd()).unwrap_err());
    assert!(matches!(Latest::<u32>::from_fd(fd()), Err(SetupError::Payload { .. })));
    let ring = annulus::Ring::<u64>::builder(1).create(Place::memfd("ring").unwrap()).unwrap();
    let error = Latest::<u64>::from_fd(ring.inheritable_fd().unwrap()).unwrap_err();
    assert!(matches!(error, SetupError::Kind { .. }), "{error}");
}

#[test]
fn it_has_one_writer_and_many_readers_whatever_is_asked_for() {
    let place = || Place::memfd("latest").unwrap();
    let builder = Latest::<u64>::builder().topology(annulus::Topology::Mpmc);
    assert!(matches!(builder.create(place()), Err(SetupError::InvalidSize { .. })));
    let builder = Latest::<u64>::builder().participants(1025);
    assert!(matches!(builder.create(place()), Err(SetupError::InvalidSize { .. })));
    let most = Latest::<u64>::builder().participants(1024).create(place()).unwrap();
    assert_eq!(most.readers(), 1024);
    assert_eq!(most.writer().unwrap().set(5), Ok(1));
    assert_eq!(most.reader().unwrap().get(), Ok(5));
}

#[test]
fn inspection_names_it() {
    let place = Place::name(&unique("latest")).unwrap();
    let variable = Latest::<u64>::builder().participants(3).create(place.clone()).unwrap();
    let seen = || Snapshot::open(&place).unwrap();
    assert_eq!(
        (seen().kind, seen().kind.name(), seen().state),
        (RingKind::Latest, "latest", State::Idle)
    );
    let (mut tx, _rx) = (variable.writer().unwrap(), variable.reader().unwrap());
    tx.set(7).unwrap();
    tx.set(7).unwrap();
    let snapshot = seen();
    assert_eq!((snapshot.state, snapshot.stats.sent, snapshot.stats.length), (State::Live, 2, 0));
    let roles: Vec<_> = snapshot.stats.participants.iter().map(|p| (p.role, p.alive)).collect();
    assert_eq!(roles, [(Role::Sender, true), (Role::Receiver, true)]);
    assert_eq!(Latest::<u64>::open(place).unwrap().reader().unwrap().get(), Ok(7));
}

#[test]
fn roles_are_taken_left_and_taken_again() {
    let variable = variable::<u64>(2);
    let tx = variable.writer().unwrap();
    assert!(matches!(variable.writer(), Err(SetupError::RoleTaken { role: Role::Sender, .. })));
    drop(tx);
    for i in 1..20 {
        // Each a new one, also of those that left in the middle of what they read.
        let (mut one, mut other) = (variable.reader().unwrap(), variable.reader().unwrap());
        let crowded = variable.reader().unwrap_err().to_string();
        assert!(crowded.contains("participants"), "{crowded}");
        assert_eq!(variable.writer().unwrap().set(i), Ok(i));
        assert_eq!((one.get(), other.get()), (Ok(i), Ok(i)));
    }
}

#[test]
fn waiting_ends_with_a_value_a_time_out_or_the_writer() {
    for wait in [Wait::Spin, Wait::Block, Wait::Adaptive] {
        let variable = variable::<u64>(1);
        let mut rx = variable.reader().unwrap().with_wait(wait);
        assert_eq!(rx.wait_for_change_timeout(MOMENT), Err(LatestError::Timeout));
        let mut tx = variable.writer().unwrap();
        assert_eq!(rx.wait_for_change_timeout(MOMENT), Err(LatestError::Timeout));
        tx.set(1).unwrap();
        assert_eq!(rx.wait_for_change(), Ok(1));
        tx.set(2).unwrap();
        tx.set(3).unwrap();
        drop(tx);
        assert_eq!(rx.wait_for_change(), Ok(3));
        assert_eq!(rx.wait_for_change(), Err(LatestError::Disconnected));
        assert_eq!(rx.get(), Ok(3), "the value stays");
        let mut next = variable.writer().unwrap();
        assert_eq!(next.set(4), Ok(4));
        assert_eq!(rx.wait_for_change_deadline(std::time::Instant::now() + PATIENCE), Ok(4));
    }
}

#[test]
fn a_persistent_one_is_waited_for() {
    let builder = Latest::<u64>::builder().persistent(true);
    let variable = builder.create(Place::memfd("latest").unwrap()).unwrap();
    let mut rx = variable.reader().unwrap();
    drop(variable.writer().unwrap());
    assert_eq!(rx.wait_for_change_timeout(MOMENT), Err(LatestError::Timeout));
}

#[test]
fn every_sleeper_is_woken() {
    let variable = variable::<u64>(8);
    let mut tx = variable.writer().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let mut rx = variable.reader().unwrap().with_wait(Wait::Block);
            scope.spawn(move || {
                let mut last = 0;
                while last < 50 {
                    let next = rx.wait_for_change_timeout(PATIENCE).unwrap();
                    assert!(next > last);
                    last = next;
                }
            });
        }
        for i in 1..=50 {
            tx.set(i).unwrap();
            std::thread::yield_now();
        }
    });
}

#[test]
fn a_sleeper_in_another_process_hears_of_values_and_of_the_writers_death() {
    let variable = variable::<u64>(1);
    let fd = variable.inheritable_fd().unwrap();
    let mut rx = variable.reader().unwrap().with_wait(Wait::Block);
    let mut child = fork(|line| {
        let mut tx = again::<u64>(fd).writer().unwrap();
        line.expect(1);
        tx.set(1).unwrap();
        line.wait_for_end();
    });
    child.line.say(1);
    assert_eq!(rx.wait_for_change_timeout(PATIENCE), Ok(1));
    child.kill();
    assert_eq!(rx.wait_for_change_timeout(PATIENCE), Err(LatestError::Disconnected));
    assert_eq!(variable.writer().unwrap().set(2), Ok(2));
    assert_eq!(rx.wait_for_change_timeout(PATIENCE), Ok(2));
}

#[test]
fn a_stopped_reader_keeps_its_value_and_nobody_waiting() {
    let variable = variable::<[u64; 64]>(2);
    let fd = variable.inheritable_fd().unwrap();
    let (mut tx, mut rx) = (variable.writer().unwrap(), variable.reader().unwrap());
    let mut child = fork(|line| {
        let mut rx = again::<[u64; 64]>(fd).reader().unwrap();
        line.say(1);
        loop {
            check(&rx.get().unwrap());
        }
    });
    child.line.expect(1);
    let mut i = 0;
    for _ in 0..20 {
        child.signal(Signal::SIGSTOP);
        for _ in 0..100 {
            i += 1;
            assert_eq!(tx.set(value(i)), Ok(i));
            assert_eq!(rx.get().map(|v| check(&v)), Ok(i));
        }
        child.signal(Signal::SIGCONT);
        std::thread::sleep(Duration::from_millis(1));
    }
    // It has seen nothing torn, or it would be gone.
    child.kill();
}

#[test]
fn dead_readers_leave_room_for_others() {
    let variable = variable::<u64>(2);
    let mut tx = variable.writer().unwrap();
    for i in 1..30 {
        let fd = variable.inheritable_fd().unwrap();
        let mut child = fork(|line| {
            let variable = again::<u64>(fd);
            let (mut one, mut other) = (variable.reader().unwrap(), variable.reader().unwrap());
            line.say(u8::from(one.get() == other.get()));
            line.wait_for_end();
        });
        child.line.expect(1);
        assert_eq!(tx.set(i), Ok(i));
        child.kill();
        for _ in 0..20 {
            assert_eq!(variable.reader().unwrap().get(), Ok(i));
        }
    }
}

#[test]
fn a_forked_child_has_nothing_of_its_parents() {
    let variable = variable::<u64>(2);
    let (mut tx, mut rx) = (variable.writer().unwrap(), variable.reader().unwrap());
    tx.set(1).unwrap();
    let fd = variable.inheritable_fd().unwrap();
    let child = fork(|_| {
        assert_eq!(tx.set(2), Err(LatestError::Forked));
        assert_eq!(rx.get(), Err(LatestError::Forked));
        assert_eq!(rx.wait_for_change(), Err(LatestError::Forked));
        assert_eq!(variable.peek(), Err(LatestError::Forked));
        let anew = again::<u64>(fd);
        assert!(matches!(anew.writer(), Err(SetupError::RoleTaken { .. })));
        assert_eq!(anew.reader().unwrap().get(), Ok(1));
        drop((tx, rx, variable));
    });
    child.finish();
}

/// A read of a value that is as it was asks nothing but the variable; a child has none.
#[test]
fn a_forked_child_is_told_so_where_nothing_has_changed() {
    type Value = [u64; 8];
    type Verb = fn(&mut LatestReader<Value>) -> Result<(), LatestError>;
    for writes in [0, 3] {
        let variable = variable::<Value>(3);
        let other = again::<Value>(variable.inheritable_fd().unwrap());
        let mut tx = variable.writer().unwrap();
        (0..writes).for_each(|i| tx.write(&[i; 8]).map(drop).unwrap());
        let mut readers = [&variable, &variable, &other].map(|place| place.reader().unwrap());
        let untyped = UntypedLatest::from_fd(variable.inheritable_fd().unwrap()).unwrap();
        assert!(readers[0].get().is_ok());
        let verbs: [Verb; 5] = [
            |rx| rx.get().map(drop),
            |rx| rx.read(&mut [0; 8]).map(drop),
            // SAFETY: nobody writes to what is read.
            |rx| unsafe { rx.get_ref() }.map(drop),
            |rx| rx.read_if_newer(0).map(drop),
            |rx| rx.wait_for_change().map(drop),
        ];
        for verb in verbs {
            let child = fork(|_| {
                for rx in &mut readers {
                    assert_eq!(verb(rx), Err(LatestError::Forked));
                    assert_eq!(verb(rx), Err(LatestError::Forked), "again");
                    assert_eq!(rx.version(), writes, "what was read last");
                }
                fork(|_| assert_eq!(verb(&mut readers[0]), Err(LatestError::Forked))).finish();
            });
            child.finish();
        }
        drop((untyped, other));
        // As before where mappings have gone.
        let [first, ..] = &mut readers;
        fork(|_| assert_eq!(first.get(), Err(LatestError::Forked))).finish();
        assert_eq!(first.version(), writes, "the parent's is as it was");
        tx.write(&[9; 8]).unwrap();
        assert_eq!(first.get(), Ok([9; 8]));
    }
}

/// A handle that has found damage does nothing more, whatever is put there then.
#[test]
fn a_reader_that_has_found_damage_does_not_believe_what_comes_later() {
    let variable = variable::<u64>(1);
    let (mut tx, mut rx) = (variable.writer().unwrap(), variable.reader().unwrap());
    tx.set(1).unwrap();
    assert_eq!(rx.get(), Ok(1));
    let file = File::from(variable.inheritable_fd().unwrap());
    let word = |word: u64| file.write_all_at(&word.to_le_bytes(), VALUE).unwrap();
    let mut good = [0; 8];
    file.read_exact_at(&mut good, VALUE).unwrap();
    word(1 << 20 | 2000);
    assert_eq!(rx.get(), Err(LatestError::Corrupt), "a buffer that is not there");
    for later in [u64::from_le_bytes(good), u64::MAX, 0] {
        word(later);
        assert_eq!(rx.get(), Err(LatestError::Corrupt));
        assert_eq!(rx.version(), 1);
    }
}

/// Reads until `done`, and checks that values are whole and go forward.
fn hammer<const N: usize>(rx: &mut LatestReader<[u64; N]>, done: impl Fn() -> bool) -> u64
where
    [u64; N]: Pod,
{
    let mut last = 0;
    while !done() {
        let next = check(&rx.get().unwrap());
        assert!(next >= last, "{next} after {last}");
        assert_eq!(next, rx.version());
        last = next;
    }
    last
}

fn write_some<const N: usize>(tx: &mut LatestWriter<[u64; N]>, count: u64)
where
    [u64; N]: Pod,
{
    for _ in 0..count {
        let next = tx.version() + 1;
        assert_eq!(tx.write(&value(next)), Ok(next));
    }
}

#[test]
fn no_value_is_torn() {
    fn of<const N: usize>(count: u64)
    where
        [u64; N]: Pod,
    {
        let variable = variable::<[u64; N]>(3);
        let mut tx = variable.writer().unwrap();
        let over = &AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let mut rx = variable.reader().unwrap();
                scope.spawn(move || hammer(&mut rx, || over.load(Ordering::Relaxed)));
            }
            let observed = &variable;
            scope.spawn(move || {
                let mut last = 0;
                while !over.load(Ordering::Relaxed) {
                    match observed.peek() {
                        Ok((found, version)) => {
                            assert_eq!((check(&found), version >= last), (version, true));
                            last = version;
                        }
                        Err(error) => assert_eq!(error, LatestError::Overtaken),
                    }
                }
            });
            write_some(&mut tx, count);
            over.store(true, Ordering::Relaxed);
        });
    }
    of::<2>(400_000);
    of::<8>(200_000);
    of::<64>(100_000);
    of::<1024>(10_000);
}

#[test]
fn no_value_is_torn_or_lost_where_writers_and_readers_are_killed() {
    let variable = variable::<[u64; 64]>(3);
    let mut rx = variable.reader().unwrap();
    for round in 0..60 {
        let (fd, other) = (variable.inheritable_fd().unwrap(), variable.inheritable_fd().unwrap());
        let mut reader = fork(|line| {
            let mut rx = again::<[u64; 64]>(fd).reader().unwrap();
            line.say(1);
            hammer(&mut rx, || false);
        });
        let mut writer = fork(|line| {
            let mut tx = again::<[u64; 64]>(other).writer().unwrap();
            line.say(1);
            write_some(&mut tx, u64::MAX);
        });
        reader.line.expect(1);
        writer.line.expect(1);
        let before = rx.version();
        eventually("values come", || {
            check(&rx.get().unwrap());
            rx.version() > before + round * 10
        });
        writer.kill();
        let last = check(&rx.get().unwrap());
        assert_eq!((last, variable.peek().unwrap().1), (rx.version(), last));
        // The next one goes on where that one stopped, with a reader that may be dead in the middle of a choice.
        reader.kill();
        let mut next = variable.writer().unwrap();
        assert_eq!(next.version(), last);
        write_some(&mut next, 20);
        assert_eq!(check(&rx.get().unwrap()), last + 20);
    }
}
