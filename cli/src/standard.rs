//! Standard input and standard output that are not there.
//!
//! Before `main` is called, the runtime opens `/dev/null` in place of what is closed: messages would vanish there, and an
//! input would be one without a byte. So it is looked before that, by a constructor.

use crate::exit::{Code, Failure, Outcome};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

static NO_INPUT: AtomicBool = AtomicBool::new(false);
static NO_OUTPUT: AtomicBool = AtomicBool::new(false);

/// The constructor, where the loader looks for it: that section holds pointers to functions of this type, which the loader
/// calls once each, so the attribute is sound.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    let streams = [(libc::STDIN_FILENO, &NO_INPUT), (libc::STDOUT_FILENO, &NO_OUTPUT)];
    for (fd, is_closed) in streams {
        // SAFETY: asks of a number whether it is open.
        let answer = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        is_closed.store(answer < 0, Ordering::Relaxed);
    }
}

/// Fails if nobody gave us anything to write to: to be asked before anything is taken that is to be written.
pub fn check_output() -> Outcome {
    let is_for_reading = || {
        let flags = fcntl(io::stdout(), FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
        flags.is_ok_and(|flags| flags & OFlag::O_ACCMODE == OFlag::O_RDONLY)
    };
    if NO_OUTPUT.load(Ordering::Relaxed) || is_for_reading() {
        let text = "standard output is not open for writing; what nobody wants goes to /dev/null";
        return Err(Failure::new(Code::Failure, text));
    }
    Ok(())
}

/// Fails if nobody gave us anything to read from.
pub fn check_input() -> Outcome {
    if NO_INPUT.load(Ordering::Relaxed) {
        let text = "standard input is not open; what has nothing in it is /dev/null";
        return Err(Failure::new(Code::Failure, text));
    }
    Ok(())
}
