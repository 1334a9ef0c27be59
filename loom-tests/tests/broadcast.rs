//! Every message for every receiver: the interleavings of the models, and every death.

#![cfg(loom)]

use annulus_loom_tests::broadcast::{BROADCAST_DEATHS, BROADCAST_UNDISTURBED, Channel};

#[test]
fn undisturbed() {
    BROADCAST_UNDISTURBED.iter().for_each(Channel::run);
}

#[test]
fn deaths() {
    BROADCAST_DEATHS.iter().for_each(Channel::run);
}
