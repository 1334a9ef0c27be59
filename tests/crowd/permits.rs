//! Permits that some make and others use up, killed and replaced over and over. (Those that are held and given back, and
//! locks: `tests/kill/lock.rs`.)
//!
//! Each says what it has done when its call returns, so one that is killed may have done one thing more. A permit that
//! was acquired and not used up comes back.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use annulus::{AcquireTimeoutError, Holder, Place, Semaphore, TryAcquireError};

use crate::havoc::Havoc;
use crate::support::process::say;
use crate::support::shared::SharedWords;
use crate::torture::waiting;

/// So many that those which come back from the dead are never too many.
const MOST: u32 = 1000;
/// Nobody makes more while there are so many.
const ENOUGH: u32 = 20;
/// Who make permits, and as many who use them up.
const PEOPLE: usize = 3;
const KILLS: usize = 600;
const SLICE: Duration = Duration::from_millis(50);

/// What the books say: whether to stop, and how many permits were made and used up for certain.
const STOP: usize = 0;
const MADE: usize = 1;
const USED: usize = 2;

fn open(fd: &OwnedFd, random: u64) -> Holder {
    let semaphore = Semaphore::from_fd(fd.try_clone().expect("a descriptor")).expect("opens");
    semaphore.holder().expect("an entry").with_wait(waiting(random))
}

fn make_all(fd: &OwnedFd, books: &SharedWords, random: u64) {
    let mut holder = open(fd, random);
    while books[STOP].load(Relaxed) == 0 {
        if holder.semaphore().value().expect("it is sound") >= ENOUGH {
            std::thread::yield_now();
            continue;
        }
        holder.post(1).expect("there are few");
        books[MADE].fetch_add(1, Relaxed);
    }
}

fn use_all(fd: &OwnedFd, books: &SharedWords, mut random: u64) {
    let mut holder = open(fd, random);
    while books[STOP].load(Relaxed) == 0 {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let permit = match holder.acquire_timeout(SLICE) {
            Ok(permit) => permit,
            Err(error) => {
                assert!(matches!(error, AcquireTimeoutError::Timeout), "{error}");
                continue;
            }
        };
        match random >> 61 {
            // Some are not used after all.
            0 => drop(permit),
            1 => {
                permit.keep();
                holder.release(1).expect("it is held");
            }
            _ => {
                permit.consume();
                books[USED].fetch_add(1, Relaxed);
            }
        }
    }
}

#[test]
fn permits_that_are_made_and_used_up() {
    let semaphore = Semaphore::counting(MOST)
        .initial(0)
        .participants(2 * PEOPLE + 1)
        .create(Place::memfd("torture").unwrap())
        .unwrap();
    let fd = semaphore.inheritable_fd().unwrap();
    let books = SharedWords::new(3);
    let havoc = Havoc { title: "made and used up", places: 2 * PEOPLE, spared: 0, kills: KILLS };
    let (peers, killed) = havoc.wreak(
        |place, random| match place < PEOPLE {
            true => make_all(&fd, &books, random),
            false => use_all(&fd, &books, random),
        },
        || Some(books[USED].load(Relaxed)),
        || format!("{:?}", semaphore.stats()),
    );
    books[STOP].store(1, Relaxed);
    peers.into_iter().for_each(|peer| peer.join().expect("it ends"));
    // Whoever comes gives back what the dead have held.
    let mut holder = semaphore.holder().unwrap();
    let free = u64::from(semaphore.value().unwrap());
    let (made, used) = (books[MADE].load(Relaxed), books[USED].load(Relaxed));
    let sum = |killed: &[u64]| killed.iter().sum::<u64>();
    let (makers, users) = (sum(&killed[..PEOPLE]), sum(&killed[PEOPLE..]));
    say(&format!("  {made} made, {used} used up, {free} left; {makers} and {users} killed\n"));
    let (least, most) = (made.saturating_sub(used + users), made + makers - used);
    assert!((least..=most).contains(&free), "{free} of {least} to {most}");
    let stats = semaphore.stats();
    assert_eq!(stats.participants.iter().filter(|who| who.alive).count(), 1);
    if free > 0 {
        holder.try_acquire_many(free as u32).unwrap().keep();
    }
    assert!(matches!(holder.try_acquire(), Err(TryAcquireError::NoPermits)));
}
