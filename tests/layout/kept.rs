//! Segments that are kept as files.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use annulus::Place;

/// Where the halves and the data of a segment without a table are.
pub const RECEIVER: usize = 4096;
pub const SENDER: usize = 8192;
pub const DATA: usize = 12288;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Keeps the segment of a descriptor: without the zeroes at its end, of which there are many.
pub fn keep(name: &str, segment: OwnedFd) {
    let file = File::from(segment);
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    fs::create_dir_all(fixture("")).unwrap();
    fs::write(fixture(name), &bytes[..end]).unwrap();
}

/// The bytes of a kept segment, which says itself how many they are.
pub fn kept(name: &str) -> Vec<u8> {
    let mut bytes = fs::read(fixture(name)).unwrap();
    let size = word(&bytes, 40) as usize;
    assert!(bytes.len() <= size);
    bytes.resize(size, 0);
    bytes
}

pub fn word(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap())
}

/// A kept segment as a file of this machine, which the tests may change.
pub struct Copy {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Copy {
    pub fn of(bytes: &[u8]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ring");
        let file = File::options().create_new(true).write(true).mode(0o600).open(&path).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        Self { _directory: directory, path }
    }

    pub fn place(&self) -> Place {
        Place::path(&self.path).unwrap()
    }
}
