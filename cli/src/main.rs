//! annulus command.
fn main() {}
