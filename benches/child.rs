//! A process that a benchmark starts and ends.

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};

/// A child that runs `body` and ends when it is done, or is ended when this is dropped.
pub struct Child(Pid);

impl Child {
    pub fn run(body: impl FnOnce()) -> Self {
        // SAFETY: this process has one thread but for the library's, which holds no lock of the allocator for long.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => Self(child),
            ForkResult::Child => {
                nix::unistd::alarm::set(120);
                body();
                // SAFETY: ends the process at once.
                unsafe { libc::_exit(0) }
            }
        }
    }

    /// Waits for its end.
    #[allow(dead_code, reason = "not every benchmark does")]
    pub fn finish(self) {
        waitpid(self.0, None).unwrap();
        std::mem::forget(self);
    }

    #[allow(dead_code, reason = "not every benchmark asks")]
    pub fn pid(&self) -> Pid {
        self.0
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}
