//! Rings with shared sides between processes: what they promise when nobody dies, and when many do.

#[path = "../support/mod.rs"]
#[allow(dead_code)]
mod support;

mod broadcast;
mod flags;
mod havoc;
mod lanes;
mod latest;
mod mailbox;
mod pause;
mod permits;
mod promises;
mod stream;
mod torture;
