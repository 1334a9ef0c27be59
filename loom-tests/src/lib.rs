//! Models of the protocol code that `annulus` ships, explored by loom.
//!
//! Nothing of the protocols is written again here. [`ring`] puts the shipped cursors, room, park words
//! and payload copies over memory that loom watches, with a futex made of loom's mutex and condition
//! variable ([`futex`]), in the order in which the library's `slots.rs`, `bytes/`, `wait.rs` and
//! `participants/` put them over a mapped segment. [`exchange`] is the one set of scenarios; [`models`]
//! lists its instances, and the tests run them.
//!
//! Build with `RUSTFLAGS="--cfg loom"` and in release; without that flag this crate is empty.

#![cfg(loom)]

pub mod broadcast;
pub mod crowd;
pub mod exchange;
pub mod explore;
pub mod flags;
pub mod futex;
pub mod herd;
pub mod lanes;
pub mod latest;
pub mod mail;
pub mod models;
pub mod permits;
pub mod pollable;
pub mod ring;
