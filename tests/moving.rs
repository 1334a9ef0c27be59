//! The C programs in MOVING.md are what people have today: they must be ones that a compiler takes.

use std::io::Write;
use std::process::{Command, Stdio};

const GUIDE: &str = include_str!("../MOVING.md");

/// The code blocks in C.
fn blocks() -> Vec<&'static str> {
    let after = GUIDE.split("\n```c\n").skip(1);
    after.map(|rest| rest.split("\n```").next().unwrap()).collect()
}

#[test]
fn the_programs_in_c_are_compiled() {
    let blocks = blocks();
    assert!(blocks.len() >= 5, "the guide has {} blocks of C", blocks.len());
    for block in blocks {
        let flags = ["-x", "c", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-"];
        let mut compiler = Command::new("cc").args(flags).stdin(Stdio::piped()).spawn().unwrap();
        compiler.stdin.take().unwrap().write_all(block.as_bytes()).unwrap();
        assert!(compiler.wait().unwrap().success(), "the compiler refuses this:\n{block}");
    }
}
