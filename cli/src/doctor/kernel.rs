//! What the kernel offers.

use super::{Check, Status};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::os::fd::OwnedFd;

/// Older headers lack it.
const MADV_POPULATE_WRITE: libc::c_int = 23;

pub fn checks() -> Vec<Check> {
    let memory_file =
        memfd_create("annulus-doctor", MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC);
    let sealing = match &memory_file {
        Ok(file) => seals(file),
        Err(errno) => Err(errno.desc().to_owned()),
    };
    let locking = match &memory_file {
        Ok(file) => locks(file),
        Err(_) => Err("no file to try it on".to_owned()),
    };
    vec![
        version(),
        Check::of(
            "/proc",
            reopens(),
            Status::Missing,
            "it is needed to open descriptors anew, for the locks that say who is alive",
        ),
        Check::of(
            "futex",
            futex(),
            Status::Missing,
            "sides cannot sleep; only spinning would work",
        ),
        Check::of("OFD locks", locking, Status::Missing, "nobody could tell who is alive"),
        Check::of(
            "membarrier",
            membarrier(),
            Status::Warning,
            "a memory fence in every send and receive stands in: some nanoseconds each",
        ),
        Check::of(
            "memory file seals",
            sealing,
            Status::Warning,
            "anonymous rings cannot be made; named ones can",
        ),
        Check::of(
            "MADV_POPULATE_WRITE",
            populates(),
            Status::Note,
            "pages are touched one by one instead, when a ring is mapped",
        ),
    ]
}

fn version() -> Check {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let found = match release.trim() {
        "" => "Linux".to_owned(),
        release => format!("Linux {release}"),
    };
    Check::new("kernel", Status::Ok, format!("{found}, {}", std::env::consts::ARCH))
}

fn reopens() -> Result<String, String> {
    std::fs::metadata("/proc/self/fd/")
        .map(|_| "mounted".to_owned())
        .map_err(|error| error.to_string())
}

fn futex() -> Result<String, String> {
    let word = 0_u32;
    // SAFETY: FUTEX_WAKE only takes the word's address, which is valid, and wakes nobody here.
    let woken = unsafe { libc::syscall(libc::SYS_futex, &word, libc::FUTEX_WAKE, 1) };
    Errno::result(woken)
        .map(|_| "sides can sleep and be woken".to_owned())
        .map_err(|errno| errno.desc().to_owned())
}

fn locks(file: &OwnedFd) -> Result<String, String> {
    let whole = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&whole))
        .map(|_| "the kernel says who is alive".to_owned())
        .map_err(|errno| errno.desc().to_owned())
}

fn membarrier() -> Result<String, String> {
    let query = libc::MEMBARRIER_CMD_QUERY;
    // SAFETY: the query takes no pointers and changes nothing.
    let commands = unsafe { libc::syscall(libc::SYS_membarrier, query, 0, 0) };
    let commands = Errno::result(commands).map_err(|errno| errno.desc().to_owned())?;
    let needed =
        libc::MEMBARRIER_CMD_GLOBAL_EXPEDITED | libc::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED;
    match commands & libc::c_long::from(needed) == libc::c_long::from(needed) {
        true => Ok("sleepers pay for the fence, not senders".to_owned()),
        false => Err("the kernel has no global expedited one".to_owned()),
    }
}

fn seals(file: &OwnedFd) -> Result<String, String> {
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    fcntl(file, FcntlArg::F_ADD_SEALS(seals))
        .map(|_| "the size of an anonymous ring can be fixed".to_owned())
        .map_err(|errno| errno.desc().to_owned())
}

fn populates() -> Result<String, String> {
    const LENGTH: usize = 4096;
    let failed = || Errno::last().desc().to_owned();
    // SAFETY: a new private mapping, at an address that the kernel chooses.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            LENGTH,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return Err(failed());
    }
    // SAFETY: the mapping is ours, and populating it changes no contents.
    let result = match unsafe { libc::madvise(page, LENGTH, MADV_POPULATE_WRITE) } {
        0 => Ok("a ring's pages are mapped in one call".to_owned()),
        _ => Err(failed()),
    };
    // SAFETY: it is still mapped, with this length, and nothing refers to it.
    unsafe { libc::munmap(page, LENGTH) };
    result
}
