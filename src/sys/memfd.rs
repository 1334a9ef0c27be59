//! Anonymous shared memory files and their seals.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::ffi::CStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// The seals of a complete segment: its size is final, and so are the seals.
pub(crate) fn complete() -> SealFlag {
    SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL
}

/// Makes an empty memory file that can be sealed and cannot be executed.
pub(crate) fn create(label: &CStr, huge_pages: bool) -> io::Result<OwnedFd> {
    let mut flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    if huge_pages {
        flags |= MFdFlags::MFD_HUGETLB;
    }
    let no_exec = MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    match memfd_create(label, flags | no_exec) {
        // Kernels before 6.3 do not know the flag.
        Err(Errno::EINVAL) => Ok(memfd_create(label, flags)?),
        other => Ok(other?),
    }
}

/// The seals of half a ring: beside that, nobody writes to it but by the mappings that there are.
pub(crate) fn half() -> SealFlag {
    complete() | SealFlag::F_SEAL_FUTURE_WRITE
}

/// Seals `fd`, and checks that it is sealed.
pub(crate) fn seal(fd: BorrowedFd<'_>, seals: SealFlag) -> io::Result<()> {
    fcntl(fd, FcntlArg::F_ADD_SEALS(seals))?;
    let kept = is_sealed(fd, seals);
    if kept { Ok(()) } else { Err(io::Error::other("the kernel did not keep the seals")) }
}

/// Whether `fd` has all of `seals`. Files that cannot be sealed have none.
pub(crate) fn is_sealed(fd: BorrowedFd<'_>, seals: SealFlag) -> bool {
    fcntl(fd, FcntlArg::F_GET_SEALS)
        .is_ok_and(|there| SealFlag::from_bits_retain(there).contains(seals))
}
