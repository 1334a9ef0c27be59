//! Events: those who raise flags, who take them and who wait for them, killed and replaced over and over.
//!
//! A flag is raised again only once it is down, so each raise is one that somebody takes. A raiser says what it is about
//! to raise: one that is killed has raised it, or it has not. A taker counts what it has taken: one that is killed may
//! have taken the flags of one call more.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use annulus::{Event, EventHandle, EventTimeoutError, Place};

use crate::havoc::Havoc;
use crate::support::process::say;
use crate::support::shared::SharedWords;
use crate::torture::waiting;

/// Who raise, and as many who take.
const PEOPLE: usize = 3;
/// Flags of each raiser.
const OWN: usize = 8;
const FLAGS: usize = PEOPLE * OWN;
const SLICE: Duration = Duration::from_millis(50);
const KILLS: usize = 400;

/// What the books say: what is to be done, and of each flag how often it was to be raised and how often it was taken.
struct Books(SharedWords);

impl Books {
    fn new() -> Self {
        Self(SharedWords::new(2 + 2 * FLAGS))
    }

    fn stage(&self) -> u64 {
        self.0[0].load(Relaxed)
    }

    fn count(&self, taken: u64) {
        for flag in (0..64).filter(|flag| taken >> flag & 1 == 1) {
            let times = self.0[2 + FLAGS + flag].fetch_add(1, Relaxed) + 1;
            assert!(times <= self.meant(flag), "flag {flag} was taken more often than raised");
        }
        self.0[1].fetch_add(taken.count_ones().into(), Relaxed);
    }

    fn meant(&self, flag: usize) -> u64 {
        self.0[2 + flag].load(Acquire)
    }

    fn taken(&self, flag: usize) -> u64 {
        self.0[2 + FLAGS + flag].load(Relaxed)
    }
}

fn open(fd: &OwnedFd, random: u64) -> EventHandle {
    let event = Event::from_fd(fd.try_clone().expect("a descriptor")).expect("opens");
    event.handle().expect("there is a handle").with_wait(waiting(random))
}

/// Raises its flags whenever they are down.
fn raise_all(handle: &mut EventHandle, books: &Books, me: usize) {
    while books.stage() == 0 {
        let raised = handle.value().expect("it is sound");
        let down = (me * OWN..(me + 1) * OWN).filter(|flag| raised >> flag & 1 == 0);
        for flag in down {
            books.0[2 + flag].fetch_add(1, Release);
            handle.raise(1 << flag).expect("it is sound");
        }
    }
}

/// A few flags, one of four, and one at least.
fn handful(round: u64) -> u64 {
    let few = (round >> 36 & round >> 12) & ((1 << FLAGS) - 1);
    few | 1 << ((round >> 40) as usize % FLAGS)
}

fn next(round: u64) -> u64 {
    round.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407)
}

/// Takes flags until no more are raised and all are down.
fn take_all(handle: &mut EventHandle, books: &Books, mut round: u64) {
    loop {
        round = next(round);
        let taken = match round >> 60 {
            0..4 => handle.try_take(handful(round)).expect("it is sound"),
            _ => match handle.take_timeout(handful(round), SLICE) {
                Err(EventTimeoutError::Timeout) => 0,
                taken => taken.expect("it is sound"),
            },
        };
        assert_eq!(taken & !handful(round), 0, "a flag that nobody wanted");
        books.count(taken);
        if books.stage() == 2 && handle.value() == Ok(0) {
            return;
        }
    }
}

/// Waits for flags, and takes none.
fn watch(handle: &mut EventHandle, books: &Books, mut round: u64) {
    while books.stage() < 2 {
        round = next(round);
        let mask = handful(round);
        let found = match round >> 63 {
            0 => handle.wait_any_timeout(mask, SLICE),
            _ => handle.wait_all_timeout(mask, SLICE),
        };
        match found {
            Ok(found) if round >> 63 == 0 => assert!(found & mask != 0),
            Ok(found) => assert_eq!(found & mask, mask),
            Err(error) => assert_eq!(error, EventTimeoutError::Timeout),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Raise(usize),
    Watch,
    Take,
}

/// Kills those who watch and those who `dies`; how many flags were lost with how many of them.
fn torture(title: &str, dies: Role) -> (u64, u64) {
    let event = Event::builder().create(Place::memfd("torture").unwrap()).unwrap();
    let fd = event.inheritable_fd().unwrap();
    let books = Books::new();
    let raisers = (0..PEOPLE).map(Role::Raise);
    let mut roles: Vec<Role> =
        raisers.chain([Role::Watch; 2]).chain([Role::Take; PEOPLE]).collect();
    if dies == Role::Take {
        roles.reverse();
    }
    let havoc = Havoc { title, places: roles.len(), spared: PEOPLE, kills: KILLS };
    let (peers, killed) = havoc.wreak(
        |place, random| {
            let handle = &mut open(&fd, random);
            match roles[place] {
                Role::Raise(me) => raise_all(handle, &books, me),
                Role::Watch => watch(handle, &books, random),
                Role::Take => take_all(handle, &books, random),
            }
        },
        || Some(books.0[1].load(Relaxed)),
        || format!("{:?} {:b}", event.stats(), event.value()),
    );
    books.0[0].store(1, Relaxed);
    let peers = roles.iter().zip(peers);
    let (raisers, others): (Vec<_>, Vec<_>) =
        peers.partition(|(role, _)| matches!(role, Role::Raise(_)));
    raisers.into_iter().for_each(|(_, peer)| peer.join().expect("a raiser ends"));
    books.0[0].store(2, Relaxed);
    others.into_iter().for_each(|(_, peer)| peer.join().expect("the others end"));
    assert_eq!(event.value(), 0);
    let lost = (0..FLAGS).map(|flag| books.meant(flag) - books.taken(flag)).sum();
    let (taken, killed) = (books.0[1].load(Relaxed), killed[..PEOPLE].iter().sum());
    say(&format!("  {taken} flags taken, {killed} killed: {lost} lost\n"));
    (lost, killed)
}

#[test]
fn who_raises_is_killed_and_no_flag_is_lost() {
    let (lost, killed) = torture("flags, raisers killed", Role::Raise(0));
    // Those that were to be raised, and were not.
    assert!(lost <= killed, "{lost} lost");
}

#[test]
fn who_takes_is_killed_and_loses_what_it_has_taken() {
    let (lost, killed) = torture("flags, takers killed", Role::Take);
    assert!(lost <= FLAGS as u64 * killed, "{lost} lost");
}
