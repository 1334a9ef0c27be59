//! What the tests that start, stop and kill processes share.

pub mod deadline;
pub mod end;
pub mod last_words;
pub mod ledger;
pub mod process;
pub mod ptrace;
pub mod shared;
pub mod sweep;
