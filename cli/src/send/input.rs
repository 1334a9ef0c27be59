//! Standard input through a buffer that grows only for a message that does not fit into it.

use crate::exit::{Failure, Outcome};
use crate::signals;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::AsFd;

/// What has been read and not been used yet.
#[derive(Debug)]
pub struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes used so far.
    taken: u64,
}

impl Input {
    pub fn new(size: usize) -> Self {
        Self { buffer: vec![0; size], start: 0, end: 0, taken: 0 }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Bytes used so far.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    pub fn take(&mut self, count: usize) {
        self.start += count;
        self.taken += count as u64;
        debug_assert!(self.start <= self.end);
    }

    /// Reads once, `most` bytes at most; `false` at the end of the input.
    pub fn read(&mut self, most: usize) -> Outcome<bool> {
        self.make_room();
        let to = self.buffer.len().min(self.end.saturating_add(most));
        loop {
            match nix::unistd::read(io::stdin().as_fd(), &mut self.buffer[self.end..to]) {
                Ok(count) => {
                    self.end += count;
                    return Ok(count > 0);
                }
                Err(Errno::EINTR) => signals::check()?,
                Err(Errno::EAGAIN) => {
                    let slice = PollTimeout::from(signals::SLICE.as_millis() as u8);
                    let stdin = io::stdin();
                    // Whatever it says, the next read says it better.
                    let _ = poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], slice);
                    signals::check()?;
                }
                Err(errno) => return Err(Failure::io("standard input", &errno.into())),
            }
        }
    }

    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            } else {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
        }
    }
}
