//! What the fuzz targets do with their bytes. `tests/fuzz_bodies.rs` runs the same bodies on stable
//! Rust, over random bytes and over the kept corpus.
//!
//! * [`attach`]: a file that is no ring, or almost one, is opened in every way there is.
//! * [`consume`]: a ring whose every shared byte a peer may have written is recovered and used.
//! * [`operations`]: sequences of calls against a queue that says what each must answer.
//! * [`repair`]: any journals, stamps and positions of a ring with shared sides are resolved, and the living keep
//!   what they have.

#![allow(dead_code, missing_docs)]

mod attach;
mod consume;
mod input;
mod operations;
mod repair;

pub use attach::attach;
pub use consume::consume;
pub use operations::operations;
pub use repair::repair;
