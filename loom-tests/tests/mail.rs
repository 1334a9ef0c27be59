//! Mailboxes: every interleaving of the models.

#![cfg(loom)]

use annulus_loom_tests::mail::{ACCIDENTS, Accident, MAILROOMS, Mailroom};

#[test]
fn undisturbed() {
    MAILROOMS.iter().for_each(Mailroom::run);
}

#[test]
fn the_sender_dies() {
    ACCIDENTS.iter().for_each(Accident::run_with_kills);
}
