//! The layout, to the byte: segments that were written once and kept, and what is in them.
//!
//! `tests/fixtures/` holds one segment of each kind. After a change of layout that comes with a new
//! version, `cargo test --test layout -- --ignored` writes them anew.

#[path = "../support/end.rs"]
mod end;
mod kept;
mod rings;
mod shapes;
