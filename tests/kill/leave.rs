//! Leaving while something else happens: what a process gives up by itself must be free as surely as what
//! death takes from it.

use annulus::{Place, Ring, SetupError};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::site::Site;
use crate::support::process::{fork_child, wait};
use crate::support::ptrace::{Stop, Tracee};

const CHILD_LIFE: Duration = Duration::from_secs(60);

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
