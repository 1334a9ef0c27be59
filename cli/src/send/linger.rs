//! The end of `send`: it has left the sender's role, so that the receiver learns at once that nothing
//! more comes, and keeps the ring open until the receiver has taken everything.

use super::sink::Patience;
use crate::exit::{Code, Failure, Outcome};
use crate::ring::{AnyRing, who};
use crate::{signals, units};
use annulus::Role;
use std::time::{Duration, Instant};

/// The first pause between two looks; they grow to [`signals::SLICE`].
const FIRST_PAUSE: Duration = Duration::from_micros(50);

/// Waits until the receiver has taken `target` messages, counted from the ring's creation.
pub fn until_taken(name: &str, ring: &AnyRing, target: u64, patience: Patience) -> Outcome {
    let deadline = patience.deadline();
    let mut pause = FIRST_PAUSE;
    let mut last = None;
    loop {
        // Before the count: a receiver that is gone takes no more.
        let is_there = who(&ring.stats(), Role::Receiver).any(|who| who.alive);
        let unread = unread(ring, target);
        if unread == 0 {
            return Ok(());
        }
        let fail = |code, text: &str| {
            Err(Failure::new(code, format!("{name}: {text}; {}", sentence(unread))))
        };
        if !is_there {
            return fail(Code::PeerGone, "the receiver has left");
        }
        if signals::check().is_err() {
            return fail(Code::Interrupted, "interrupted");
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return fail(
                Code::TimedOut,
                "the time was up before the receiver had taken everything",
            );
        }
        if last.replace(unread) == Some(unread) {
            pause = (pause * 2).min(signals::SLICE);
        }
        std::thread::sleep(patience.slice(deadline).min(pause));
    }
}

/// Adds to `failure` what is left in the ring.
pub fn with_unread(failure: Failure, ring: &AnyRing, target: u64) -> Failure {
    match unread(ring, target) {
        0 => failure,
        count => failure.and(sentence(count)),
    }
}

fn unread(ring: &AnyRing, target: u64) -> u64 {
    target.saturating_sub(ring.stats().received)
}

fn sentence(unread: u64) -> String {
    let verb = if unread == 1 { "was" } else { "were" };
    format!("{} {verb} left unread", units::messages(unread))
}
