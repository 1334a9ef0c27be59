//! Memory for a segment: all of it when it is made, so that none can be missing later.

use super::header::{Spec, UNIT};
use crate::error::SetupError;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

/// Bytes that are taken without a look at how much memory there is, which costs as much as all the rest of a small
/// segment.
const SMALL: u64 = 1 << 20;

/// Gives `file` its mode and its full size, every page of it.
pub(super) fn allocate(file: &File, spec: &Spec) -> Result<u64, SetupError> {
    let unit = if spec.huge_pages { blocks(file)? } else { UNIT };
    let size = spec.size(unit)?;
    allocate_bytes(file, spec, size, unit)?;
    Ok(size)
}

/// Gives `file` its mode, and `size` bytes in pages of `unit`.
pub(super) fn allocate_bytes(
    file: &File,
    spec: &Spec,
    size: u64,
    unit: u64,
) -> Result<(), SetupError> {
    let mode = nix::sys::stat::Mode::from_bits_truncate(spec.mode);
    nix::sys::stat::fchmod(file, mode)
        .map_err(io::Error::from)
        .map_err(SetupError::os("fchmod"))?;
    let is_large = !spec.huge_pages && size > SMALL;
    if is_large && size > memory_available() && is_memory(file).unwrap_or(false) {
        return Err(SetupError::NoSpace { needed: size });
    }
    let failed = |source: io::Error| match source.raw_os_error() {
        Some(libc::ENOSPC | libc::ENOMEM | libc::EDQUOT) if spec.huge_pages => {
            SetupError::HugePages { reason: "too few are free; raise vm.nr_hugepages" }
        }
        Some(libc::ENOSPC | libc::ENOMEM | libc::EDQUOT | libc::EFBIG) => {
            SetupError::NoSpace { needed: size }
        }
        _ => SetupError::Os { call: "fallocate", source },
    };
    let length = i64::try_from(size).map_err(|_| SetupError::NoSpace { needed: size })?;
    let (mut done, mut step) = (0, length);
    while done < length {
        let next = step.min(length - done);
        match nix::fcntl::fallocate(file, nix::fcntl::FallocateFlags::empty(), done, next) {
            Ok(()) => done += next,
            // tmpfs gives everything of this call back when a signal comes, so a process with a timer
            // gets on only in steps that are shorter than the timer's.
            Err(nix::errno::Errno::EINTR) => {
                let unit = unit as i64;
                step = (next / 2 / unit * unit).max(unit);
            }
            Err(errno) => return Err(failed(errno.into())),
        }
    }
    Ok(())
}

/// The size of the file's pages.
pub(super) fn blocks(file: &File) -> Result<u64, SetupError> {
    Ok(file.metadata().map_err(SetupError::os("fstat"))?.blksize().max(UNIT))
}

/// Whether the file's pages are memory that nothing else backs.
pub(super) fn is_memory(file: &File) -> io::Result<bool> {
    let system = nix::sys::statfs::fstatfs(file)?;
    Ok(system.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC)
}

/// Bytes of memory that can be had without pushing anybody out, or no limit if nobody says.
fn memory_available() -> u64 {
    let Ok(meminfo) = std::fs::read_to_string("/proc/meminfo") else { return u64::MAX };
    meminfo
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemAvailable:")?.trim().strip_suffix("kB")?.trim().parse().ok()
        })
        .map_or(u64::MAX, |kilobytes: u64| kilobytes * 1024)
}
