//! Processes that take turns at a lock, and share permits, at full speed; one of them is killed at a random time and
//! replaced, over and over.
//!
//! Who has the lock writes its name on a board, and wipes it before it gives the lock up. Who gets the lock and finds
//! a name must have been told that somebody died with it. Who is told and finds none came after one that died before
//! it wrote, or after it wiped.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant, SystemTime};

use annulus::{Place, Semaphore, Wait};

use super::message::scatter;
use super::survive::PATIENCE;
use crate::support::deadline::poll;
use crate::support::process::Peer;
use crate::support::shared::SharedWords;

const KILLS: u64 = 300;
const PROCESSES: usize = 3;
const PERMITS: u32 = 5;
/// The longest time to the next kill.
const LONGEST_LIFE: Duration = Duration::from_millis(8);
const CHILD_LIFE: Duration = Duration::from_secs(240);

/// Words of the board.
const NAME: usize = 0;
const STOP: usize = 1;
/// Turns, and deaths that somebody was told of.
const TURNS: usize = 2;
const TOLD: usize = 3;
const FAULTS: usize = 4;
const WORDS: usize = 5;

fn take_turns(fd: OwnedFd, board: &SharedWords, name: u64) {
    let semaphore = Semaphore::from_fd(fd).expect("opens");
    let wait = [Wait::Block, Wait::Adaptive, Wait::Spin][(name % 3) as usize];
    let mut holder = semaphore.holder().expect("there is an entry").with_wait(wait);
    while board[STOP].load(Acquire) == 0 {
        let guard = holder.acquire_timeout(PATIENCE).expect("the lock comes free");
        let found = board[NAME].swap(name, Relaxed);
        if found != 0 && !guard.is_abandoned() {
            board[FAULTS].fetch_add(1, Relaxed);
        }
        board[TOLD].fetch_add(guard.is_abandoned().into(), Relaxed);
        board[TURNS].fetch_add(1, Release);
        if board[NAME].swap(0, Relaxed) != name {
            board[FAULTS].fetch_add(1, Relaxed);
        }
    }
}

fn share(fd: OwnedFd, board: &SharedWords, name: u64) {
    let semaphore = Semaphore::from_fd(fd).expect("opens");
    let mut holder = semaphore.holder().expect("there is an entry");
    for turn in 0.. {
        if board[STOP].load(Acquire) != 0 {
            return;
        }
        let count = 1 + scatter(name << 32 | turn) as u32 % PERMITS;
        let permits = holder.acquire_many_timeout(count, PATIENCE).expect("they come free");
        match turn % 3 {
            0 => drop(permits),
            1 => {
                permits.keep();
                (0..count).for_each(|_| holder.release(1).expect("it is held"));
            }
            _ => {
                permits.keep();
                if let Ok(more) = holder.try_acquire() {
                    more.keep();
                }
                let held = holder.held();
                holder.release(held).expect("they are held");
            }
        }
        board[TURNS].fetch_add(1, Release);
    }
}

/// Kills one of those who do `what` with `permits`, over and over; what there is on the board in the end.
fn torture(permits: u32, what: fn(OwnedFd, &SharedWords, u64)) -> [u64; WORDS] {
    let semaphore = Semaphore::counting(permits)
        .participants(PROCESSES + 1)
        .create(Place::memfd("lock").expect("a label"))
        .expect("creates");
    let board = SharedWords::new(WORDS);
    let mut names = 0;
    let mut spawn = || {
        names += 1;
        let (fd, name) = (semaphore.inheritable_fd().expect("a descriptor"), names);
        Peer::spawn(CHILD_LIFE, || what(fd, &board, name))
    };
    let mut peers: Vec<Peer> = (0..PROCESSES).map(|_| spawn()).collect();
    let seed = SystemTime::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_nanos() as u64);
    for kill in 0..KILLS {
        let chance = scatter(seed.wrapping_add(kill));
        let life = LONGEST_LIFE.mul_f64((chance % 1024) as f64 / 1024.0);
        let end = Instant::now() + life;
        while Instant::now() < end {
            std::thread::yield_now();
        }
        let victim = peers.swap_remove(chance as usize / 1024 % PROCESSES);
        victim.kill().expect("it was alive");
        let turns = board[TURNS].load(Acquire);
        let goes_on = poll(PATIENCE, || board[TURNS].load(Acquire) > turns);
        assert!(
            goes_on,
            "kill {kill} of seed {seed}: nobody gets a permit: {:?}",
            semaphore.stats()
        );
        peers.push(spawn());
    }
    board[STOP].store(1, Release);
    for peer in peers {
        peer.join().unwrap_or_else(|error| panic!("{error}, seed {seed}"));
    }
    let mut holder = semaphore.holder().expect("there is an entry");
    assert_eq!(semaphore.value(), Ok(permits), "seed {seed}");
    drop(holder.try_acquire_many(permits).expect("all are free"));
    std::array::from_fn(|word| board[word].load(Relaxed))
}

#[test]
fn a_lock_whose_owners_are_killed() {
    let board = torture(1, take_turns);
    assert_eq!(board[FAULTS], 0, "two at a time, or a death that nobody was told of: {board:?}");
    assert!(board[TOLD] > 0 && board[TOLD] <= KILLS, "{board:?}");
}

#[test]
fn permits_whose_holders_are_killed() {
    let board = torture(PERMITS, share);
    assert!(board[TURNS] > KILLS, "{board:?}");
}
