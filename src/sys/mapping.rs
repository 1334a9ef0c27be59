//! A shared mapping of a whole file, not inherited by fork children.

use super::fork;
use memmap2::{Advice, MmapOptions, MmapRaw};
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::Arc;

/// A mapping, or a part of one; unmapped when all parts are dropped, in the process that made it.
#[derive(Debug)]
pub(crate) struct Mapping {
    whole: Arc<Whole>,
    at: usize,
    len: usize,
}

#[derive(Debug)]
struct Whole {
    raw: ManuallyDrop<MmapRaw>,
    generation: u32,
}

impl Mapping {
    /// Maps the first `len` bytes of `file` to read and write.
    pub(crate) fn new(file: &File, len: usize) -> io::Result<Self> {
        Self::keep(MmapOptions::new().len(len).map_raw(file)?)
    }

    /// Maps the first `len` bytes of `file` to read only.
    pub(crate) fn read_only(file: &File, len: usize) -> io::Result<Self> {
        Self::keep(MmapOptions::new().len(len).map_raw_read_only(file)?)
    }

    /// A private copy of the first `len` bytes of `file`, which may shrink meanwhile: that is an error
    /// here, and not a SIGBUS.
    pub(crate) fn copy_of(file: &File, len: usize) -> io::Result<Self> {
        let mut copy = MmapOptions::new().len(len).map_anon()?;
        file.read_exact_at(&mut copy, 0)?;
        Self::keep(copy.into())
    }

    fn keep(raw: MmapRaw) -> io::Result<Self> {
        raw.advise(Advice::DontFork)?;
        let (at, len) = (0, raw.len());
        let whole = Whole { raw: ManuallyDrop::new(raw), generation: fork::generation() };
        Ok(Self { whole: Arc::new(whole), at, len })
    }

    /// The `len` bytes from `at` on, which keep all of it mapped.
    ///
    /// # Panics
    ///
    /// If it has not so many.
    pub(crate) fn part(&self, at: usize, len: usize) -> Self {
        assert!(at <= self.len && len <= self.len - at);
        Self { whole: Arc::clone(&self.whole), at: self.at + at, len }
    }

    /// Faults every page in for writing. Kernels before 5.14 cannot; then pages come as they are used.
    pub(crate) fn populate(&self) -> io::Result<()> {
        match self.whole.raw.advise_range(Advice::PopulateWrite, self.at, self.len) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            other => other,
        }
    }

    /// Faults every page in for reading, as far as the kernel can.
    pub(crate) fn populate_for_reading(&self) -> io::Result<()> {
        match self.whole.raw.advise_range(Advice::PopulateRead, self.at, self.len) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            other => other,
        }
    }

    /// The first byte.
    pub(crate) fn base(&self) -> NonNull<u8> {
        // SAFETY: a part lies within the mapping, and so does its first byte's address.
        let base = unsafe { self.whole.raw.as_mut_ptr().add(self.at) };
        NonNull::new(base).expect("a mapping is never at address 0")
    }

    /// Bytes mapped.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if self.generation == fork::generation() {
            // SAFETY: dropped once, here. In a fork child the range is not ours to unmap: it was left
            // out of the child, and something else may lie there by now.
            unsafe { ManuallyDrop::drop(&mut self.raw) };
        }
    }
}
