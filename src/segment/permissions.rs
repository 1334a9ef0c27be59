//! What may be changed of a named segment while it is used: who may open it.

use super::{Part, Place, Spec, file, header, open_unlocked};
use crate::error::SetupError;
use crate::protocol::layout::{DATA, PAGE};
use crate::sync::Ordering;
use crate::sys::mapping::Mapping;
use std::fs::{File, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// Changes the permission bits of the ring at `place`, for those who open it from now on.
///
/// Openers hold the file's bits against those that the header says were agreed, so both change. In between the header
/// allows at least what the file does: whoever opens the ring meanwhile is not refused for it, and if we are killed
/// there, the next call makes it good.
pub(crate) fn set_mode(place: &Place, mode: u32) -> Result<(), SetupError> {
    if mode & !0o666 != 0 || mode & 0o600 != 0o600 {
        return Err(SetupError::InvalidMode { mode });
    }
    let path = place.file().ok_or(SetupError::NotFound)?;
    let file = file::open_file(&path, true)?;
    let metadata = file.metadata().map_err(SetupError::os("fstat"))?;
    // The superuser, too, could change another's: but who owns a file can cut it off under whoever has it mapped. Nor does
    // the header change before it is known that the kernel will change the file's bits.
    if metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Err(SetupError::PermissionDenied);
    }
    file::check(&metadata, None)?;
    let mapping = checked(&file, &metadata)?;
    let field = &header(&mapping).mode;
    let before = metadata.mode() & 0o777;
    // Before the file's, what more is allowed; after them, what no longer is.
    field.store(u64::from((before | mode) & 0o666), Ordering::Release);
    file.set_permissions(Permissions::from_mode(mode)).map_err(SetupError::os("fchmod"))?;
    field.store(u64::from(mode), Ordering::Release);
    Ok(())
}

/// The header of `file` in memory, if it is a ring's.
fn checked(file: &File, metadata: &std::fs::Metadata) -> Result<Mapping, SetupError> {
    let size = metadata.len();
    if size < DATA as u64 {
        return Err(SetupError::NotARing);
    }
    let unit = metadata.blksize().max(PAGE as u64);
    let mapping = Mapping::new(file, size as usize).map_err(SetupError::os("mmap"))?;
    Spec::read(header(&mapping), Part::Whole, size, unit)?;
    Ok(mapping)
}

/// Gives the ring at `place` to another user, or group; `None` leaves it as it is.
pub(crate) fn set_owner(
    place: &Place,
    user: Option<u32>,
    group: Option<u32>,
) -> Result<(), SetupError> {
    let path = place.file().ok_or(SetupError::NotFound)?;
    let (file, _) = open_unlocked(&path)?;
    std::os::unix::fs::fchown(file.as_fd(), user, group).map_err(SetupError::os("fchown"))
}
