//! What a process has that it would not be without: descriptors, shared mappings, threads, names.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// How many of each, by what they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footprint(BTreeMap<String, isize>);

impl Footprint {
    /// What the calling process has now, and which of `names` there are.
    pub fn now(names: &[PathBuf]) -> Self {
        let mut all = Self::default();
        // The one that reads the directory is gone by the time that it is looked at.
        let own = format!("/proc/{}/fd", std::process::id());
        let descriptors = fs::read_dir("/proc/self/fd").expect("there is /proc");
        for entry in descriptors.filter_map(Result::ok) {
            let file = fs::read_link(entry.path());
            if let Some(file) = file.ok().filter(|file| file.as_path() != Path::new(&own)) {
                all.count(format!("descriptor of {}", kind(&file.to_string_lossy())));
            }
        }
        for line in fs::read_to_string("/proc/self/maps").expect("there is /proc").lines() {
            // Private mappings are the programs and libraries.
            let mut fields = line.split_whitespace();
            let is_shared = fields.nth(1).is_some_and(|rights| rights.ends_with('s'));
            if let Some(file) = fields.nth(3).filter(|_| is_shared) {
                all.count(format!("mapping of {}", kind(file)));
            }
        }
        for _ in fs::read_dir("/proc/self/task").expect("there is /proc") {
            all.count("thread".into());
        }
        for name in names.iter().filter(|name| name.exists()) {
            all.count(format!("name {}", kind(&name.to_string_lossy())));
        }
        all
    }

    /// These, and nothing else.
    pub fn of(things: &[&str]) -> Self {
        let mut all = Self::default();
        things.iter().for_each(|thing| all.count((*thing).into()));
        all
    }

    /// What there is more, and, below nothing, less than `before`.
    pub fn since(mut self, before: &Self) -> Self {
        for (what, count) in &before.0 {
            *self.0.entry(what.clone()).or_default() -= count;
        }
        self.0.retain(|_, count| *count != 0);
        self
    }

    fn count(&mut self, what: String) {
        *self.0.entry(what).or_default() += 1;
    }
}

/// The name of a file without the numbers that differ from one file to the next.
fn kind(file: &str) -> String {
    file.chars().filter(|letter| !letter.is_ascii_digit()).collect()
}
