//! The latest value: a writer, readers, those who wait for a change and those who only look, killed and replaced over
//! and over, in turn by the type and as bytes.
//!
//! Whoever has seen a version says so afterwards. Nobody who looks after that sees an earlier one, whoever has died.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::time::Duration;

use annulus::{Latest, LatestError, Place, UntypedLatest};

use crate::havoc::Havoc;
use crate::support::process::say;
use crate::support::shared::SharedWords;
use crate::torture::waiting;

const WORDS: usize = 64;
type Value = [u64; WORDS];
/// Writes the value of a version, by the type or as bytes.
type Write = Box<dyn FnMut(u64) -> Result<u64, LatestError>>;
/// Waits for another value, in the same way.
type Await = Box<dyn FnMut(&mut Value) -> Result<u64, LatestError>>;

/// Who has an entry: some read all the time, some wait for changes.
const READERS: usize = 2;
const SLEEPERS: usize = 2;
const OBSERVERS: usize = 1;
const KILLS: usize = 800;
const SLICE: Duration = Duration::from_millis(50);

/// What the books say: whether to stop, the highest version that a write gave, and that somebody has seen.
const STOP: usize = 0;
const WRITTEN: usize = 1;
const SEEN: usize = 2;

fn value(version: u64) -> Value {
    std::array::from_fn(|i| version.wrapping_mul(2 * i as u64 + 1))
}

/// `found` is the whole value of `version`, and not older than what was seen before the look.
fn check(books: &SharedWords, before: u64, (found, version): (&Value, u64)) {
    assert_eq!(*found, value(version), "torn");
    assert!(version >= before, "{version} after {before}");
    books[SEEN].fetch_max(version, AcqRel);
}

fn typed(fd: &OwnedFd) -> Latest<Value> {
    Latest::from_fd(fd.try_clone().expect("a descriptor")).expect("opens")
}

fn bare(fd: &OwnedFd) -> UntypedLatest {
    UntypedLatest::from_fd(fd.try_clone().expect("a descriptor")).expect("opens")
}

fn write_all(fd: &OwnedFd, books: &SharedWords, random: u64) {
    let (before, mut write): (u64, Write) = if random.is_multiple_of(2) {
        let mut tx = typed(fd).writer().expect("the role is free");
        (tx.version(), Box::new(move |version| tx.write(&value(version))))
    } else {
        let mut tx = bare(fd).writer().expect("the role is free");
        (tx.version(), Box::new(move |version| tx.set(bytemuck::bytes_of(&value(version)))))
    };
    // One that was killed may have written one more.
    let written = books[WRITTEN].load(Relaxed);
    assert!((written..=written + 1).contains(&before), "{before} after {written}");
    // This one may be killed before it says so of its first.
    books[WRITTEN].store(before, Relaxed);
    let mut next = before + 1;
    while books[STOP].load(Relaxed) == 0 {
        assert_eq!(write(next), Ok(next));
        books[WRITTEN].store(next, Relaxed);
        next += 1;
        if random.is_multiple_of(3) {
            std::thread::yield_now();
        }
    }
}

fn read_all(fd: &OwnedFd, books: &SharedWords, random: u64) {
    let mut found = value(0);
    let mut read: Box<dyn FnMut(&mut Value) -> u64> = if random.is_multiple_of(2) {
        let mut rx = typed(fd).reader().expect("an entry");
        Box::new(move |found| rx.read(found).expect("it is sound"))
    } else {
        let mut rx = bare(fd).reader().expect("an entry");
        Box::new(move |found| rx.read(bytemuck::bytes_of_mut(found)).expect("it is sound"))
    };
    while books[STOP].load(Relaxed) == 0 {
        let before = books[SEEN].load(Acquire);
        let version = read(&mut found);
        check(books, before, (&found, version));
    }
}

fn sleep_for_all(fd: &OwnedFd, books: &SharedWords, random: u64) {
    let mut found = value(0);
    let mut wait: Await = if random.is_multiple_of(2) {
        let mut rx = typed(fd).reader().expect("an entry").with_wait(waiting(random / 2));
        Box::new(move |found| {
            *found = rx.wait_for_change_timeout(SLICE)?;
            Ok(rx.version())
        })
    } else {
        let mut rx = bare(fd).reader().expect("an entry");
        rx.set_wait(waiting(random / 2));
        Box::new(move |found| rx.wait_for_change_timeout(bytemuck::bytes_of_mut(found), SLICE))
    };
    let mut last = 0;
    while books[STOP].load(Relaxed) == 0 {
        let before = books[SEEN].load(Acquire);
        match wait(&mut found) {
            Ok(version) => {
                assert!(version > last, "no change");
                check(books, before, (&found, version));
                last = version;
            }
            // While the writer is being replaced there is none.
            Err(LatestError::Timeout | LatestError::Disconnected) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

fn look(fd: &OwnedFd, books: &SharedWords) {
    let variable = typed(fd);
    while books[STOP].load(Relaxed) == 0 {
        let before = books[SEEN].load(Acquire);
        match variable.peek() {
            Ok((found, version)) => check(books, before, (&found, version)),
            Err(error) => assert_eq!(error, LatestError::Overtaken),
        }
    }
}

#[test]
fn a_variable_whose_writers_and_readers_are_killed() {
    let entries = READERS + SLEEPERS;
    let variable = Latest::<Value>::builder().participants(entries);
    let variable = variable.create(Place::memfd("torture").unwrap()).unwrap();
    let fd = variable.inheritable_fd().unwrap();
    let books = SharedWords::new(3);
    let havoc = Havoc {
        title: "the latest value",
        places: 1 + entries + OBSERVERS,
        spared: 0,
        kills: KILLS,
    };
    let (peers, killed) = havoc.wreak(
        |place, random| match place {
            0 => write_all(&fd, &books, random),
            1..=READERS => read_all(&fd, &books, random),
            place if place <= entries => sleep_for_all(&fd, &books, random),
            _ => look(&fd, &books),
        },
        || Some(books[SEEN].load(Relaxed)),
        || format!("{:?}", variable.stats()),
    );
    books[STOP].store(1, Relaxed);
    peers.into_iter().for_each(|peer| peer.join().expect("it ends"));
    let (written, seen) = (books[WRITTEN].load(Relaxed), books[SEEN].load(Relaxed));
    say(&format!("  {written} versions, {killed:?} killed\n"));
    // The last one is there, every entry is free, and it goes on.
    let (last, version) = variable.peek().unwrap();
    assert_eq!((last, version >= written && version >= seen), (value(version), true));
    let mut readers: Vec<_> = (0..entries).map(|_| variable.reader().unwrap()).collect();
    let mut tx = variable.writer().unwrap();
    for next in version + 1..version + 20 {
        assert_eq!(tx.write(&value(next)), Ok(next));
        readers.iter_mut().for_each(|rx| assert_eq!(rx.get(), Ok(value(next))));
    }
}
