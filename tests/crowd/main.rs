//! Rings with shared sides between processes: what they promise when nobody dies, and when many do.

#[path = "../support/mod.rs"]
#[allow(dead_code)]
mod support;

mod lanes;
mod mailbox;
mod pause;
mod promises;
mod torture;
