//! Keys as they are pressed, without waiting for the end of a line.
//!
//! The terminal does so for as long as it is told to, also for whoever comes after us. So it is given back however the
//! process ends, but for a kill, and touched only while it is ours: who does that in the background is stopped.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// What the terminal was like before.
static BEFORE: OnceLock<libc::termios> = OnceLock::new();

/// Between two looks whether the terminal is ours again.
const LOOK: Duration = Duration::from_millis(100);

/// A terminal that hands on each key at once, and does not show it.
#[derive(Debug)]
pub struct Keys(());

impl Keys {
    /// `None` if nobody sits there: standard input is no terminal, or another process group has it.
    pub fn of_terminal() -> Option<Self> {
        if !io::stdin().is_terminal() || !is_ours() {
            return None;
        }
        // SAFETY: zero is a value of each of its fields.
        let mut state: libc::termios = unsafe { std::mem::zeroed() };
        // SAFETY: there is room for the answer.
        if unsafe { libc::tcgetattr(libc::STDIN_FILENO, &mut state) } != 0 {
            return None;
        }
        let before = *BEFORE.get_or_init(|| state);
        state = before;
        state.c_lflag &= !(libc::ICANON | libc::ECHO);
        (state.c_cc[libc::VMIN], state.c_cc[libc::VTIME]) = (1, 0);
        set(&state).then_some(Self(()))
    }

    /// Whether this key is pressed before the time is up, or there will be no more keys.
    pub fn is_pressed(&self, key: u8, timeout: Duration) -> bool {
        let begin = Instant::now();
        loop {
            let left = timeout.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return false;
            }
            if !is_ours() {
                std::thread::sleep(left.min(LOOK));
                continue;
            }
            let stdin = io::stdin();
            let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
            let most = PollTimeout::from(left.min(LOOK).as_millis() as u8 + 1);
            if poll(&mut fds, most).is_ok_and(|ready| ready > 0) {
                let mut pressed = [0; 64];
                match nix::unistd::read(stdin.as_fd(), &mut pressed) {
                    Ok(count) if count > 0 && !pressed[..count].contains(&key) => {}
                    Err(nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN) => {}
                    _ => return true,
                }
            }
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        give_back();
    }
}

/// Makes the terminal what it was; nothing if it was left alone. A signal handler may call this.
pub fn give_back() {
    if let Some(before) = BEFORE.get() {
        if is_ours() {
            set(before);
        }
    }
}

fn set(state: &libc::termios) -> bool {
    // SAFETY: the state is one that `tcgetattr` gave, or differs from that in flags only.
    unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, state) == 0 }
}

/// Whether our process group is the one that the terminal listens to.
fn is_ours() -> bool {
    // SAFETY: both only ask.
    unsafe { libc::tcgetpgrp(libc::STDIN_FILENO) == libc::getpgrp() }
}
