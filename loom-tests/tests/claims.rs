//! Rings with shared sides: every interleaving of the models, and every death.

#![cfg(loom)]

use annulus_loom_tests::models;

#[test]
fn undisturbed() {
    models::CLAIMS_UNDISTURBED.iter().for_each(models::Meeting::run);
}

#[test]
fn deaths() {
    models::CLAIMS_DEATHS.iter().for_each(models::Meeting::run);
}

#[test]
fn dead_repairers() {
    models::CLAIMS_REPAIRS.iter().for_each(models::Meeting::run);
}
