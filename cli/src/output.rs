//! Standard output and standard error.
//!
//! Data goes to standard output, anything else to standard error. A reader of ours that has gone
//! (`annulus ls | head -1`) is a quiet end.

use crate::exit::{Failure, Outcome};
use crate::{signals, standard};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, Write};
use std::os::fd::AsFd;

/// Prints text, with its colours only where they are wanted.
pub fn print(text: &str) -> Outcome {
    // The library's own writes to what is not open say that they are done.
    standard::check_output()?;
    let mut out = anstream::stdout().lock();
    finish(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Has somebody else print an answer.
pub fn print_answer(print: impl FnOnce() -> io::Result<()>) -> Outcome {
    standard::check_output()?;
    finish(print().and_then(|()| io::stdout().flush()))
}

/// Prints bytes as they are.
pub fn print_bytes(bytes: &[u8]) -> Outcome {
    write_all(bytes).map_err(|stopped| stopped.failure)
}

/// Prints a value as JSON, on lines of its own.
pub fn print_json(value: &impl serde::Serialize) -> Outcome {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::io("writing JSON", &error.into()))?;
    text.push('\n');
    print_bytes(text.as_bytes())
}

/// One sentence on standard error.
pub fn complain(text: &str) {
    // Nobody is left to be told if that fails.
    let _ = writeln!(anstream::stderr(), "annulus: {text}");
}

fn finish(result: io::Result<()>) -> Outcome {
    result.map_err(|error| unwritable(&error))
}

fn unwritable(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::unread(),
        _ => Failure::io("standard output", error),
    }
}

/// Why writing stopped, and how far it had come.
#[derive(Debug)]
pub struct Stopped {
    pub written: usize,
    pub failure: Failure,
}

/// Writes straight to the descriptor, until a signal comes.
pub fn write_all(bytes: &[u8]) -> Result<(), Stopped> {
    let out = io::stdout();
    let mut written = 0;
    standard::check_output().map_err(|failure| Stopped { written, failure })?;
    while written < bytes.len() {
        let result = match nix::unistd::write(out.as_fd(), &bytes[written..]) {
            Ok(count) => {
                written += count;
                continue;
            }
            Err(Errno::EINTR) => signals::check(),
            Err(Errno::EAGAIN) => {
                await_output(PollFlags::POLLOUT);
                signals::check()
            }
            Err(errno) => Err(unwritable(&errno.into())),
        };
        result.map_err(|failure| Stopped { written, failure })?;
    }
    Ok(())
}

/// Whether the reader of our pipe has gone.
pub fn is_unread() -> bool {
    let out = io::stdout();
    let mut fds = [PollFd::new(out.as_fd(), PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
        && fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR))
}

fn await_output(events: PollFlags) {
    let out = io::stdout();
    let slice = PollTimeout::from(signals::SLICE.as_millis() as u8);
    // Whatever it says, the write that follows says it better.
    let _ = poll(&mut [PollFd::new(out.as_fd(), events)], slice);
}

/// Text from a stranger, without what could move the cursor.
pub fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = escaped.is_none().then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn control_characters_are_shown_not_sent() {
        assert_eq!(super::printable("grün\u{1b}[2J\n"), "grün\\u{1b}[2J\\n");
    }
}
