//! Handles with a descriptor to poll: it is readable when there is something, and nothing is missed.

mod ends;
mod kinds;
mod loops;
#[path = "../processes/mod.rs"]
mod processes;
#[path = "../support/scribble.rs"]
#[allow(dead_code)]
mod scribble;

use annulus::{Place, Pollable, Source};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use processes::PATIENCE;
use std::os::fd::AsFd;

/// Flags that somebody waits for, and others.
const OURS: u64 = 0b0110;
const THEIRS: u64 = 0b1000;

fn memfd() -> Place {
    Place::memfd("pollable").unwrap()
}

fn is_readable(pollable: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(pollable.as_fd(), PollFlags::POLLIN)];
    nix::poll::poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
}

/// Waits in the way of a poll loop.
fn wait(pollable: &impl AsFd) {
    let mut fds = [PollFd::new(pollable.as_fd(), PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(PATIENCE).unwrap();
    assert_eq!(nix::poll::poll(&mut fds, patience).unwrap(), 1, "nothing in time");
}

/// What a poll loop does until `step` says that it is done: `step` does what there is to do.
fn serve<H: Source<Interest = ()>>(
    pollable: &mut Pollable<H>,
    mut step: impl FnMut(&mut Pollable<H>) -> bool,
) {
    loop {
        wait(pollable);
        loop {
            if step(pollable) {
                return;
            }
            if pollable.arm().is_pending() {
                break;
            }
        }
    }
}
