//! `annulus man`: manual pages, because `cargo install` installs none.

use crate::exit::{Code, Failure, Outcome};
use crate::output::print_bytes;
use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use std::path::PathBuf;

/// Print a manual page
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct ManArgs {
    /// The page of this verb; without it, of the command
    verb: Option<String>,

    /// Write all pages into this directory
    #[arg(long, value_name = "DIR", conflicts_with = "verb")]
    dir: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
Examples:
  annulus man | man -l -
  annulus man send | man -l -
  annulus man --dir ~/.local/share/man/man1";

pub fn run(args: &ManArgs) -> Outcome {
    let mut command = crate::CommandLine::command();
    if args.dir.is_some() {
        // No page for `help`, and none for the help of each verb.
        command = command.disable_help_subcommand(true);
    }
    // Fills in the names of the verbs' pages, and the arguments that every verb has.
    command.build();
    if let Some(dir) = &args.dir {
        let verbs = command.get_subcommands().cloned();
        for command in verbs.chain([command.clone()]) {
            let written = manual(command).generate_to(dir);
            written.map_err(|error| Failure::io(dir.display(), &error))?;
        }
        return Ok(());
    }
    let page = match &args.verb {
        Some(verb) => page_of(&command, verb)?,
        None => command,
    };
    let mut text = Vec::new();
    manual(page).render(&mut text).map_err(|error| Failure::io("the manual page", &error))?;
    print_bytes(&text)
}

/// A page that says of which program it is: verbs have no version of their own.
fn manual(command: Command) -> Man {
    Man::new(command).source(concat!("annulus ", env!("CARGO_PKG_VERSION")))
}

fn page_of(command: &Command, verb: &str) -> Outcome<Command> {
    command.find_subcommand(verb).cloned().ok_or_else(|| {
        Failure::new(Code::Usage, format!("there is no verb {verb:?}; `annulus help` lists them"))
    })
}
