//! Kill tests: processes that die by SIGKILL at every instruction of what they do with a ring, and the others
//! that go on. `DESIGN.md` says what is promised; here it is tried.
//!
//! No test judges by the clock, as a process that gets no processor looks like one that hangs. What must happen
//! soon is counted in sleeps of the library: see `Verdict` in `support::sweep`. The longest time of a row is
//! printed, for people.
//!
//! Run them in release: `cargo test --release --test kill`. Each test prints a table of its points to standard
//! error. `support::sweep` tells how to run one failing point alone.

#[path = "../support/mod.rs"]
mod support;

mod broadcast;
mod channel;
mod company;
mod converse;
mod flags;
mod halves;
mod harness;
mod join;
mod latest;
mod leave;
mod listen;
mod lock;
mod mailbox;
mod meet;
mod message;
mod operation;
mod paths;
mod pause;
mod permissions;
mod permits;
mod random;
mod shape;
mod site;
mod state;
mod steps;
mod stream;
mod survive;
mod takeover;
mod wakes;
