//! Leaving while something else happens: what a process gives up by itself must be free as surely as what
//! death takes from it.

use annulus::{Place, Ring, SetupError};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::site::Site;
use crate::support::deadline::poll;
use crate::support::process::{Heir, Peer, fork_child, wait};
use crate::support::ptrace::{Stop, Tracee};
use crate::support::shared::SharedWords;

const CHILD_LIFE: Duration = Duration::from_secs(60);

/// What should happen soon happens within this.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_role_is_free_at_once_while_another_thread_forks() {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                wait(fork_child(CHILD_LIFE, || {}));
            }
        });
        let ring = Ring::<u64>::builder(8).create(Place::memfd("kill").expect("a good label"));
        let ring = ring.expect("creates");
        let taken = (0..3000).find_map(|turn| {
            let left = ring.sender().map(drop).and_then(|()| ring.receiver().map(drop));
            left.err().map(|error| (turn, error))
        });
        done.store(true, Ordering::Relaxed);
        assert!(taken.is_none(), "a role that was given up is taken: {taken:?}");
    });
}

/// A ring, whose receiver was killed after it made a process by `start`.
fn orphaned(start: impl FnOnce(&Heir)) -> (Ring<u64>, Heir) {
    let ring = Ring::<u64>::builder(8).create(Place::memfd("kill").expect("a good label"));
    let ring = ring.expect("creates");
    let (heir, ready) = (Heir::new(), SharedWords::new(1));
    let fd = ring.inheritable_fd().expect("a descriptor more");
    let parent = Peer::spawn(CHILD_LIFE, || {
        let ring = Ring::<u64>::from_fd(fd).expect("opens");
        let _rx = ring.receiver().expect("the role is free");
        start(&heir);
        ready[0].store(1, Ordering::Release);
        std::thread::sleep(CHILD_LIFE);
    });
    assert!(poll(PATIENCE, || ready[0].load(Ordering::Acquire) == 1), "the parent gets ready");
    parent.kill().expect("it was alive");
    (ring, heir)
}

#[test]
fn what_shares_a_dead_ones_descriptors_keeps_its_role_and_no_longer() {
    // A process as `posix_spawn` makes it and before it calls `exec`: no handler closed its descriptors.
    let (ring, heir) = orphaned(|heir| heir.start(CHILD_LIFE));
    for _ in 0..3 {
        assert!(matches!(ring.receiver(), Err(SetupError::RoleTaken { .. })));
    }
    heir.end();
    assert!(poll(PATIENCE, || ring.receiver().is_ok()), "nobody has the role any more");
}

#[test]
fn a_program_that_the_dead_one_started_has_nothing_of_it() {
    let (ring, heir) = orphaned(|heir| {
        let program = std::process::Command::new("sleep").arg("60").spawn();
        heir.note(program.expect("there is such a program").id());
    });
    assert!(heir.is_alive());
    let rx = ring.receiver();
    heir.kill();
    rx.expect("exec closed the dead one's descriptors");
}

#[test]
fn the_name_goes_with_the_last_of_two_users_whoever_it_is() {
    // One leaves between two system calls of the other's leaving: at every place in turn, until the other's
    // leaving is over before that.
    for stops in 0.. {
        let site = Site::named("leave");
        let ring = Ring::<u64>::builder(8).create(site.place.clone()).expect("creates");
        let mut other = Tracee::spawn(CHILD_LIFE, |child| {
            let ring = Ring::<u64>::open(site.place.clone()).expect("opens");
            child.section(|| drop(ring));
        })
        .expect("starts");
        let inside = other.call_many(stops, &mut None).expect("it leaves");
        drop(ring);
        if inside {
            assert_eq!(other.go_on(), Stop::Mark, "it leaves");
        }
        match annulus::remove(&site.place, false) {
            Err(SetupError::NotFound) => {}
            Ok(()) => {
                panic!("both left, after {stops} stops of one at system calls, and not the name")
            }
            Err(error) => panic!("what nobody uses can be removed: {error}"),
        }
        if !inside {
            assert!(stops > 4, "leaving takes system calls");
            break;
        }
    }
}
