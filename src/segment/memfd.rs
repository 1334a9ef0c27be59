//! Segments in anonymous memory files, and segments that arrive as descriptors.

use super::{Expected, Segment, Spec, allocate, blocks};
use crate::error::SetupError;
use crate::sys::fork::PrivateFd;
use crate::sys::locks::Outcome;
use crate::sys::memfd;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

pub(super) fn create(label: &CStr, spec: Spec) -> Result<Segment, SetupError> {
    let failed = |source: io::Error| match source.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::EINVAL | libc::ENOSYS) if spec.huge_pages => {
            SetupError::HugePages { reason: "the kernel has none; build it with hugetlbfs" }
        }
        _ => SetupError::Os { call: "memfd_create", source },
    };
    let create = || memfd::create(label, spec.huge_pages).map(File::from).map_err(failed);
    let fd = PrivateFd::open(create)?;
    let size = allocate(fd.file(), &spec)?;
    let segment = Segment::assemble(fd, spec, size)?;
    memfd::seal(segment.fd(), memfd::complete())
        .map_err(SetupError::os("sealing the memory file"))?;
    segment.join()?;
    Ok(segment)
}

/// Attaches to `fd`, which has a description of its own. Seals are looked at before the size, which is
/// final only with them.
pub(super) fn attach(fd: PrivateFd, expected: &Expected) -> Result<Segment, SetupError> {
    let sealed = memfd::is_sealed(fd.as_fd(), memfd::complete());
    let metadata = fd.file().metadata().map_err(SetupError::os("fstat"))?;
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
    let unit = blocks(fd.file())?;
    let mut segment = Segment::adopt(fd, metadata.len(), unit, expected)?;
    if !sealed {
        super::file::check_mode(&metadata, segment.spec.mode, expected)?;
    }
    if segment.join()? == Outcome::Locked && !sealed {
        // This user may be the last. Whether the path still leads here is looked at before it is used.
        segment.path = super::path_of(segment.fd());
    }
    Ok(segment)
}
