//! The `annulus` command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;

/// Rings in shared memory between the processes of a machine
#[derive(Parser)]
#[command(name = "annulus", version)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Bench(bench::BenchArgs),
}

fn main() -> ExitCode {
    match Command::parse().verb {
        Verb::Bench(args) => bench::run(&args),
    }
}
