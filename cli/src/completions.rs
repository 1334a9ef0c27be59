//! `annulus completions`: for the shell, because `cargo install` installs none.

use crate::exit::{Failure, Outcome};
use crate::output::print_bytes;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::path::PathBuf;

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,

    /// Write the script into this directory, under the name that the shell looks for
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
Examples:
  annulus completions bash --dir ~/.local/share/bash-completion/completions
  annulus completions fish | source";

pub fn run(args: &CompletionsArgs) -> Outcome {
    let mut command = crate::CommandLine::command();
    if let Some(dir) = &args.dir {
        return clap_complete::generate_to(args.shell, &mut command, "annulus", dir)
            .map(drop)
            .map_err(|error| Failure::io(dir.display(), &error));
    }
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "annulus", &mut script);
    print_bytes(&script)
}
