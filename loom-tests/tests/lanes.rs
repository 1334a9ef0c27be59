//! A lane for each sender: the interleavings of the models, and every death.

#![cfg(loom)]

use annulus_loom_tests::models::{LANES_DEATHS, LANES_UNDISTURBED, Laned};

#[test]
fn undisturbed() {
    LANES_UNDISTURBED.iter().for_each(Laned::run);
}

#[test]
fn deaths() {
    LANES_DEATHS.iter().for_each(Laned::run);
}
