//! Mailboxes: the rules of System V and POSIX queues against the kernel's own, waiting, removal, listeners, and what
//! becomes of messages when processes are killed.

#[path = "../processes/mod.rs"]
mod processes;
#[path = "../support/shared.rs"]
#[allow(dead_code)]
mod shared;

mod choice;
mod kernel;
mod model;
mod script;
mod torture;
mod waiting;
