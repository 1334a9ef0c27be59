//! Mailboxes: every interleaving of the models.

#![cfg(loom)]

use annulus_loom_tests::mail::{MAILROOMS, Mailroom};

#[test]
fn undisturbed() {
    MAILROOMS.iter().for_each(Mailroom::run);
}
