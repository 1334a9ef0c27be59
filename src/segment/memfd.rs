//! Segments in anonymous memory files, and segments that arrive as descriptors.

use super::{Expected, Segment, Spec, allocate, blocks};
use crate::error::SetupError;
use crate::sys::memfd;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

pub(super) fn create(label: &CStr, spec: Spec) -> Result<Segment, SetupError> {
    let failed = |source: io::Error| match source.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::EINVAL | libc::ENOSYS) if spec.huge_pages => {
            SetupError::HugePages { reason: "the kernel has none; build it with hugetlbfs" }
        }
        _ => SetupError::Os { call: "memfd_create", source },
    };
    let file = File::from(memfd::create(label, spec.huge_pages).map_err(failed)?);
    let size = allocate(&file, &spec)?;
    let segment = Segment::assemble(file.into(), spec, size)?;
    memfd::seal(segment.fd()).map_err(SetupError::os("sealing the memory file"))?;
    segment.join()?;
    Ok(segment)
}

/// Attaches to `fd`, which has a description of its own. Seals are looked at before the size, which is
/// final only with them.
pub(super) fn attach(fd: OwnedFd, expected: &Expected) -> Result<Segment, SetupError> {
    let sealed = memfd::is_sealed(fd.as_fd());
    let file = File::from(fd);
    let metadata = file.metadata().map_err(SetupError::os("fstat"))?;
    if !metadata.file_type().is_file() {
        return Err(SetupError::NotAFile);
    }
    if !sealed && metadata.nlink() == 0 {
        return Err(SetupError::NotSealed);
    }
    if !sealed {
        super::file::check(&metadata, expected.owner)?;
    }
    if metadata.blocks().saturating_mul(512) < metadata.len() {
        return Err(SetupError::Sparse);
    }
    let unit = blocks(&file)?;
    let segment = Segment::adopt(file, metadata.len(), unit, expected)?;
    segment.join()?;
    Ok(segment)
}
