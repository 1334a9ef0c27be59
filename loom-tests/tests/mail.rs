//! Mailboxes: every interleaving of the models, and every death.

#![cfg(loom)]

use annulus_loom_tests::mail::{ACCIDENTS, Accident, DEATHS, MAILROOMS, Mailroom};

#[test]
fn undisturbed() {
    MAILROOMS.iter().for_each(Mailroom::run);
}

#[test]
fn the_sender_dies() {
    ACCIDENTS.iter().for_each(Accident::run_with_kills);
}

#[test]
fn others_die() {
    DEATHS.iter().for_each(Accident::run_with_kills);
}
