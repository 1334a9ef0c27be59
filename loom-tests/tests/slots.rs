//! Rings of slots: every interleaving of the models, and every death.

#![cfg(loom)]

use annulus_loom_tests::models;

#[test]
fn undisturbed() {
    models::SLOTS_UNDISTURBED.iter().for_each(models::Model::run);
}

#[test]
fn lines_owned_ahead() {
    models::SLOTS_OWNED.iter().for_each(models::Model::run);
}

#[test]
fn deaths() {
    models::SLOTS_DEATHS.iter().for_each(models::Model::run);
}
