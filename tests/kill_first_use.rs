//! A child that is forked while another thread takes a role for the first time in this process, which registers
//! the process with the kernel. A process can show this only once: the test has a binary of its own.

#[allow(dead_code)] // The kill tests need the rest.
mod support;

use annulus::{Place, Ring};
use nix::sys::wait::WaitStatus;
use std::sync::Barrier;
use std::time::Duration;

use support::process::{fork_child, wait};

fn ring() -> Ring<u64> {
    Ring::builder(8).create(Place::memfd("first").expect("a good label")).expect("creates")
}

#[test]
fn children_forked_during_the_first_use_are_not_stuck() {
    let first = ring();
    let start = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            first.sender().expect("the role is free");
        });
        start.wait();
        for turn in 0..20 {
            let child = fork_child(Duration::from_secs(120), || {
                ring().sender().expect("the role is free");
            });
            let status = wait(child);
            assert_eq!(status, WaitStatus::Exited(child, 0), "child {turn}");
        }
    });
}
