//! What the fuzz targets do with their bytes. `tests/fuzz_bodies.rs` runs the same bodies on stable
//! Rust, over random bytes and over the kept corpus.
//!
//! * [`attach`]: a file that is no ring, or almost one, is opened in every way there is.
//! * [`broadcast`]: calls against a queue for each receiver, and then whatever words others may write.
//! * [`consume`]: a ring whose every shared byte a peer may have written is recovered and used.
//! * [`faces`]: broadcasts and variables as bytes, in the same way.
//! * [`handshake`]: a peer says anything in a handshake, with any descriptors, to either side.
//! * [`latest`]: a variable's calls against a plain one, and then whatever words others may write.
//! * [`mailbox`]: a mailbox's calls against a plain list, and then whatever words others may write.
//! * [`operations`]: sequences of calls against a queue that says what each must answer.
//! * [`permits`]: semaphores and events, calls against a model and any contents of their words.
//! * [`repair`]: any journals, stamps and positions of a ring with shared sides are resolved, and the living keep
//!   what they have.
//! * [`split`]: one role of a split ring is used while the other half changes.
//! * [`stream`]: reads and writes against what each write wrote, and then whatever words others may write.

// Each target is built with all bodies, and runs one.
#![allow(dead_code, unused_imports, missing_docs)]

mod attach;
mod broadcast;
mod consume;
mod effort;
mod faces;
pub mod forged;
mod handshake;
mod input;
mod latest;
mod mailbox;
mod operations;
mod permits;
mod repair;
mod split;
mod stream;

pub use attach::attach;
pub use broadcast::broadcast;
pub use consume::consume;
pub use faces::faces;
pub use handshake::handshake;
pub use latest::latest;
pub use mailbox::mailbox;
pub use operations::operations;
pub use permits::permits;
pub use repair::repair;
pub use split::split;
pub use stream::stream;
