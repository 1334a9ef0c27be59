//! Every system call of what sets rings and connections up, or takes them down, fails once with each error that it
//! is known for: what comes of it is an answer, nothing stays behind, and the same thing succeeds the next time.
//!
//! A parent stops its child at each system call in turn (`ptrace`) and gives the kernel's answer in the kernel's
//! place. So the code under test is the code that ships. Only the thread that does the work is watched: what the thread
//! that hears of deaths is answered later is no part of setting up.
//!
//! `ANNULUS_FAULTS=1` prints what came of each fault.

#![cfg(target_arch = "x86_64")]

#[path = "../support/mod.rs"]
#[allow(dead_code)]
mod support;

mod errors;
mod footprint;
mod inject;
mod meetings;
mod rings;
