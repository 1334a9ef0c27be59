//! Two processes, one ring: the shortest program that shows it.
//!
//! Run it: `cargo run --release --example hello`
//!
//! The program starts a second copy of itself. The first process creates a ring under a name and
//! receives; the second opens the ring by that name and sends. Nothing is inherited and nothing is
//! agreed on but the name, so the two could just as well be two programs started from two terminals.

use annulus::{ByteRing, Place};
use std::env;
use std::error::Error;
use std::process::{self, Command};

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1) {
        Some(name) => greet(&name),
        None => listen(),
    }
}

/// The first process: makes the ring, starts the second process, prints what comes.
fn listen() -> Result<(), Box<dyn Error>> {
    // A name of our own, so that several runs of this example do not meet. The ring is the file
    // `/dev/shm/annulus.hello-PID`, readable and writable by this user only.
    let name = format!("hello-{}", process::id());
    let ring = ByteRing::builder(4096).create(Place::name(&name)?)?;

    // There is one receiver in all processes together; a second call, here or elsewhere, would be
    // answered with `SetupError::RoleTaken`.
    let mut rx = ring.receiver()?;

    let mut child = Command::new(env::current_exe()?).arg(&name).spawn()?;

    // `recv` waits, first for a sender, then for messages. It ends with `Disconnected` once the sender
    // has left and every message has been read, just as reading a pipe ends.
    let mut message = Vec::new();
    while rx.recv(&mut message).is_ok() {
        println!("process {} received: {}", process::id(), String::from_utf8_lossy(&message));
    }

    let status = child.wait()?;
    if !status.success() {
        return Err(format!("the second process failed: {status}").into());
    }
    // The ring's last user is this process: when `ring` and `rx` are dropped, the name goes too.
    Ok(())
}

/// The second process: opens the ring and sends three messages.
fn greet(name: &str) -> Result<(), Box<dyn Error>> {
    let ring = ByteRing::open(Place::name(name)?)?;
    let mut tx = ring.sender()?;
    for word in ["hello", "from", "process"] {
        tx.send(word.as_bytes())?;
    }
    tx.send(process::id().to_string().as_bytes())?;
    // Dropping `tx` leaves the ring. What was sent stays in it until it is read.
    Ok(())
}
