//! The progress bar: when standard input is a file, of known length, and standard error a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use std::fs::File;
use std::io::{self, IsTerminal, Seek};
use std::os::fd::AsFd;

/// A bar that leaves nothing behind, however `send` ends.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// For what is left of standard input.
    pub fn of_input() -> Self {
        Self(length_of_input().filter(|_| io::stderr().is_terminal()).map_or_else(
            ProgressBar::hidden,
            |length| {
                let style = ProgressStyle::with_template(
                    "{wide_bar} {percent:>3} %  {bytes} of {total_bytes}  {binary_bytes_per_sec}  {eta}",
                )
                .expect("the template is valid");
                let bar = ProgressBar::new(length);
                bar.set_style(style.progress_chars("━╸─"));
                bar
            },
        ))
    }

    pub fn set(&self, position: u64) {
        self.0.set_position(position);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Bytes from here to the end, if it is a file.
fn length_of_input() -> Option<u64> {
    let mut file = File::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    let metadata = file.metadata().ok()?;
    let here = file.stream_position().ok()?;
    metadata.is_file().then(|| metadata.len().saturating_sub(here))
}
