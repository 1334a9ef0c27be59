//! Mailboxes: the rules of System V and POSIX queues against the kernel's own, order, waiting, removal, and listeners.
//! What becomes of messages when processes are killed is in `tests/crowd/` and `tests/kill/`.

#[path = "../processes/mod.rs"]
mod processes;
#[path = "../support/shared.rs"]
#[allow(dead_code)]
mod shared;

mod choice;
mod hostile;
mod kernel;
mod model;
mod order;
mod script;
mod waiting;
