//! Messages of a broadcast that were missed: all of them are said, but not more often than anybody reads.

use crate::output::complain;
use crate::units;
use std::time::{Duration, Instant};

/// The shortest time from one sentence to the next.
const PAUSE: Duration = Duration::from_secs(1);

/// Those that were missed and have not been said yet; they are when it is dropped.
#[derive(Debug)]
pub struct Missed<'a> {
    name: &'a str,
    count: u64,
    said: Option<Instant>,
}

impl<'a> Missed<'a> {
    pub fn of(name: &'a str) -> Self {
        Self { name, count: 0, said: None }
    }

    /// So many more, none included.
    pub fn add(&mut self, count: u64) {
        self.count += count;
        if self.count > 0 && self.said.is_none_or(|at| at.elapsed() >= PAUSE) {
            self.say();
        }
    }

    fn say(&mut self) {
        complain(&format!("{}: {}", self.name, sentence(self.count)));
        (self.count, self.said) = (0, Some(Instant::now()));
    }
}

impl Drop for Missed<'_> {
    fn drop(&mut self) {
        if self.count > 0 {
            self.say();
        }
    }
}

pub fn sentence(count: u64) -> String {
    let verb = if count == 1 { "was" } else { "were" };
    format!("{} {verb} missed", units::messages(count))
}
