//! Semaphores and events: every interleaving of the models, and every death.

#![cfg(loom)]

use annulus_loom_tests::{flags, permits};

#[test]
fn undisturbed() {
    permits::UNDISTURBED.iter().for_each(permits::Trade::run);
}

#[test]
fn deaths() {
    permits::DEATHS.iter().for_each(permits::Trade::run);
}

#[test]
fn dead_repairers() {
    permits::REPAIRS.iter().for_each(permits::Trade::run);
}

#[test]
fn events() {
    flags::UNDISTURBED.iter().chain(flags::DEATHS).for_each(flags::Signals::run);
}
