//! `UntypedLatest`: the value of a `Latest<T>`, as bytes.

mod processes;

use annulus::{Latest, LatestError, Place, SetupError, UntypedLatest, UntypedRing, Wait};
use processes::{PATIENCE, fork};
use std::time::{Duration, Instant};

#[test]
fn both_faces_see_the_same_values_and_versions() {
    let typed = Latest::<[u16; 5]>::builder().create(Place::memfd("typed").unwrap()).unwrap();
    let raw = UntypedLatest::from_fd(typed.inheritable_fd().unwrap()).unwrap();
    assert_eq!(raw.value_size(), 10);
    let (mut reader, mut bytes) = (typed.reader().unwrap(), [0xff; 12]);
    let mut rx = raw.reader().unwrap();
    assert_eq!(
        (rx.read(&mut bytes), &bytes[..]),
        (Ok(0), &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255][..])
    );
    for i in 1..200_u16 {
        let value = [i, !i, i.swap_bytes(), 7, i];
        if i % 2 == 0 {
            assert_eq!(raw.writer().unwrap().set(bytemuck::bytes_of(&value)), Ok(i.into()));
        } else {
            assert_eq!(typed.writer().unwrap().set(value), Ok(i.into()));
        }
        assert_eq!(reader.get(), Ok(value));
        assert_eq!(rx.read(&mut bytes), Ok(i.into()));
        assert_eq!((&bytes[..10], rx.version()), (bytemuck::bytes_of(&value), i.into()));
    }
    assert!(matches!(
        raw.reader().map(|_| raw.writer().map(|_| raw.writer())),
        Ok(Ok(Err(SetupError::RoleTaken { .. })))
    ));
}

/// A copy goes by lines and pairs of words and words, as far as there are any.
#[test]
fn values_of_all_sizes_are_copied_whole_and_nothing_beyond_them() {
    for size in (1..=600).chain([1023, 1024, 1025, 4096]) {
        let variable = UntypedLatest::builder(size).create(Place::memfd("sizes").unwrap()).unwrap();
        let (mut tx, mut rx) = (variable.writer().unwrap(), variable.reader().unwrap());
        let value: Vec<u8> = (0..size).map(|at| (at * 7 + size) as u8).collect();
        tx.set(&value).unwrap();
        // Changed, and unchanged; to addresses of any alignment.
        for shift in [0, 1, 8] {
            let mut there = vec![0xee; size + 100];
            assert_eq!(rx.read(&mut there[shift..]), Ok(1));
            assert_eq!(&there[shift..shift + size], value, "of {size}");
            let around = [&there[..shift], &there[shift + size..]];
            assert!(around.iter().all(|bytes| bytes.iter().all(|&byte| byte == 0xee)), "of {size}");
        }
    }
}

#[test]
fn another_size_changes_nothing() {
    let variable = UntypedLatest::builder(8).create(Place::memfd("sizes").unwrap()).unwrap();
    let (mut tx, mut rx) = (variable.writer().unwrap(), variable.reader().unwrap());
    for wrong in [0, 7, 9] {
        assert_eq!(tx.set(&vec![1; wrong]), Err(LatestError::Size { expected: 8 }));
    }
    let mut short = [0; 7];
    assert_eq!(rx.read(&mut short), Err(LatestError::Size { expected: 8 }));
    assert_eq!(rx.wait_for_change(&mut short), Err(LatestError::Size { expected: 8 }));
    assert_eq!((tx.version(), rx.read(&mut [0; 8])), (0, Ok(0)));
    let aligned = UntypedLatest::builder(8).value_align(8);
    let aligned = aligned.create(Place::memfd("aligned").unwrap()).unwrap();
    Latest::<u64>::from_fd(aligned.inheritable_fd().unwrap()).unwrap();
    let wrong = Latest::<u64>::from_fd(variable.inheritable_fd().unwrap());
    assert!(matches!(wrong, Err(SetupError::Payload { .. })));
    let ring = UntypedRing::builder(8, 8).create(Place::memfd("ring").unwrap()).unwrap();
    let wrong = UntypedLatest::from_fd(ring.inheritable_fd().unwrap());
    assert!(matches!(wrong, Err(SetupError::Kind { .. })));
}

#[test]
fn waiting_ends_with_a_value_a_time_out_or_the_writer() {
    let variable = UntypedLatest::builder(100).create(Place::memfd("waits").unwrap()).unwrap();
    let (mut rx, mut value) = (variable.reader().unwrap().with_wait(Wait::Block), [0; 100]);
    let moment = Duration::from_millis(5);
    assert_eq!(rx.wait_for_change_timeout(&mut value, moment), Err(LatestError::Timeout));
    let end = Instant::now() + moment;
    assert_eq!(rx.wait_for_change_deadline(&mut value, end), Err(LatestError::Timeout));
    let fd = variable.inheritable_fd().unwrap();
    let mut child = fork(move |line| {
        let variable = UntypedLatest::from_fd(fd).unwrap();
        let mut tx = variable.writer().unwrap();
        for i in 1..=100 {
            line.hear();
            tx.set(&[i; 100]).unwrap();
        }
        line.wait_for_end();
    });
    for i in 1..=100 {
        child.line.say(0);
        assert_eq!(rx.wait_for_change_timeout(&mut value, PATIENCE), Ok(i));
        assert_eq!(value, [i as u8; 100]);
    }
    child.kill();
    assert_eq!(rx.wait_for_change_timeout(&mut value, PATIENCE), Err(LatestError::Disconnected));
    assert_eq!((rx.read(&mut value), value), (Ok(100), [100; 100]));
}
