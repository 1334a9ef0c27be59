//! A ring without a name, handed to a child program as an inherited descriptor.
//!
//! Run it: `cargo run --release --example inherited_fd`
//!
//! A parent that starts its workers itself needs no names in `/dev/shm`. It creates the rings in
//! anonymous memory files, which vanish with their last user, and lets the child inherit a descriptor
//! of each across `fork` and `exec`, as a shell hands a pipe to a command. The memory files are sealed:
//! nobody can change their size, so neither side can make the other fail with SIGBUS.
//!
//! A ring carries messages one way, so a conversation takes two.

use annulus::{Place, Ring};
use std::env;
use std::error::Error;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::process::Command;

/// How the child learns the numbers of its descriptors.
const REQUESTS_FD: &str = "EXAMPLE_REQUESTS_FD";
const REPLIES_FD: &str = "EXAMPLE_REPLIES_FD";

fn main() -> Result<(), Box<dyn Error>> {
    match (env::var(REQUESTS_FD), env::var(REPLIES_FD)) {
        (Ok(requests), Ok(replies)) => child(requests.parse()?, replies.parse()?),
        _ => parent(),
    }
}

fn parent() -> Result<(), Box<dyn Error>> {
    // The label of a memory file is only for people, who see it in `/proc/PID/fd`.
    let requests = Ring::<u64>::builder(64).create(Place::memfd("requests")?)?;
    let replies = Ring::<u64>::builder(64).create(Place::memfd("replies")?)?;

    // The rings' own descriptors are close-on-exec, so that they do not leak into every program this
    // process ever starts. These two copies are not. Keep them only as long as it takes to start the
    // child: any other child started meanwhile inherits them as well.
    let (inherit_requests, inherit_replies) =
        (requests.inheritable_fd()?, replies.inheritable_fd()?);
    let mut child = Command::new(env::current_exe()?)
        .env(REQUESTS_FD, inherit_requests.as_raw_fd().to_string())
        .env(REPLIES_FD, inherit_replies.as_raw_fd().to_string())
        .spawn()?;
    drop((inherit_requests, inherit_replies));

    let mut tx = requests.sender()?;
    let mut rx = replies.receiver()?;
    for number in 1..=5 {
        tx.send(number)?;
        println!("parent: the square of {number} is {}", rx.recv()?);
    }
    // The child's `iter` ends when we leave the ring of requests.
    drop(tx);

    let status = child.wait()?;
    if !status.success() {
        return Err(format!("the child failed: {status}").into());
    }
    Ok(())
}

fn child(requests: RawFd, replies: RawFd) -> Result<(), Box<dyn Error>> {
    // SAFETY: the parent left these two descriptors open for us and told us their numbers; nothing
    // else in this process has them.
    let (requests, replies) =
        unsafe { (OwnedFd::from_raw_fd(requests), OwnedFd::from_raw_fd(replies)) };
    // `from_fd` does not take the descriptor's word for anything: it must be a sealed memory file (or
    // a trusted named one) that holds a ring of exactly this message type.
    let requests = Ring::<u64>::from_fd(requests)?;
    let replies = Ring::<u64>::from_fd(replies)?;
    let mut rx = requests.receiver()?;
    let mut tx = replies.sender()?;
    for number in rx.iter() {
        tx.send(number * number)?;
    }
    Ok(())
}
