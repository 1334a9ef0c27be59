//! Places of the tests, with nothing left of them afterwards whatever happens.

use std::path::PathBuf;

use annulus::Place;

use crate::support::process::unique_name;

/// A place for one ring.
pub struct Site {
    /// The place.
    pub place: Place,
    directory: PathBuf,
    /// What every file of the place has in its path.
    mark: String,
    _temporary: Option<tempfile::TempDir>,
}

impl Site {
    /// A name in the shared-memory directory.
    pub fn named(label: &str) -> Self {
        let mark = unique_name(label);
        let place = Place::name(&mark).expect("a good name");
        Self { place, directory: "/dev/shm".into(), mark, _temporary: None }
    }

    /// A path in a directory of its own.
    pub fn file() -> Self {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let place = Place::path(temporary.path().join("ring")).expect("a good path");
        let directory = temporary.path().into();
        Self { place, directory, mark: String::new(), _temporary: Some(temporary) }
    }

    /// The files that are there now.
    pub fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.directory).expect("the directory is readable");
        let mut files: Vec<PathBuf> =
            entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
        files.retain(|file| file.to_string_lossy().contains(&self.mark));
        files
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for file in self.files() {
            let _ = std::fs::remove_file(file);
        }
    }
}
