//! Sleeping and waking: every interleaving of the models, and every death.

#![cfg(loom)]

use annulus_loom_tests::models;

#[test]
fn undisturbed() {
    models::PARK_UNDISTURBED.iter().for_each(models::Model::run);
}

#[test]
fn deaths() {
    models::PARK_DEATHS.iter().for_each(models::Model::run);
}

#[test]
fn herds() {
    annulus_loom_tests::herd::HERDS.iter().for_each(annulus_loom_tests::herd::Herd::run);
}
