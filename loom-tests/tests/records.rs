//! Rings of records: every interleaving of the models, and every death.

#![cfg(loom)]

use annulus_loom_tests::models;

#[test]
fn undisturbed() {
    models::RECORDS_UNDISTURBED.iter().for_each(models::Model::run);
}

#[test]
fn lines_owned_ahead() {
    models::RECORDS_OWNED.iter().for_each(models::Model::run);
}

#[test]
fn deaths() {
    models::RECORDS_DEATHS.iter().for_each(models::Model::run);
}
