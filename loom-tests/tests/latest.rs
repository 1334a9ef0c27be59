//! The latest value: the interleavings of the models, and every death.

#![cfg(loom)]

use annulus_loom_tests::latest::{LATEST_DEATHS, LATEST_UNDISTURBED, Variable};

#[test]
fn undisturbed() {
    LATEST_UNDISTURBED.iter().for_each(Variable::run);
}

#[test]
fn deaths() {
    LATEST_DEATHS.iter().for_each(Variable::run);
}
