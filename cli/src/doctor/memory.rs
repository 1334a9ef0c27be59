//! The shared-memory directory, its room, huge pages.

use super::{Check, Status};
use crate::units;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FallocateFlags, OFlag, fallocate, open};
use nix::sys::stat::Mode;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::{AccessFlags, access, linkat, unlink};
use std::os::fd::{AsRawFd, OwnedFd};

const DIRECTORY: &str = "/dev/shm";
/// Room below which a warning is due: a few rings of the default size.
const LITTLE: u64 = 16 << 20;

pub fn checks() -> Vec<Check> {
    let unnamed = unnamed_file();
    let mut checks = vec![mount(), space()];
    checks.push(Check::of(
        "O_TMPFILE",
        unnamed
            .as_ref()
            .map(|_| "files without a name can be made in /dev/shm".into())
            .map_err(Clone::clone),
        Status::Missing,
        "named rings cannot be made; rings over memory files still work",
    ));
    if let Ok(file) = &unnamed {
        checks.push(reserved(fallocate(file, FallocateFlags::empty(), 0, 4096)));
        checks.push(Check::of(
            "linkat",
            publishes(file),
            Status::Missing,
            "named rings cannot be published; mount /proc, and check /dev/shm",
        ));
    }
    checks.push(huge_pages());
    checks
}

fn mount() -> Check {
    let found = statfs(DIRECTORY).map_err(|errno| format!("{DIRECTORY}: {}", errno.desc()));
    match found {
        Ok(fs) if fs.filesystem_type() != TMPFS_MAGIC => {
            Check::new("/dev/shm", Status::Warning, "it is no tmpfs")
                .advise("the kernel writes rings to disk now and then; mount a tmpfs there")
        }
        Ok(_) => match access(DIRECTORY, AccessFlags::W_OK | AccessFlags::X_OK) {
            Ok(()) => Check::new("/dev/shm", Status::Ok, "a tmpfs, writable"),
            Err(Errno::EROFS) => {
                Check::new("/dev/shm", Status::Missing, "a tmpfs that is mounted read-only")
                    .advise("mount it writable, or give rings as paths elsewhere")
            }
            Err(_) => {
                Check::new("/dev/shm", Status::Missing, "a tmpfs that this user cannot write to")
                    .advise("give rings as paths elsewhere, or fix its mode")
            }
        },
        Err(found) => Check::new("/dev/shm", Status::Missing, found)
            .advise("mount a tmpfs there, or give rings as paths"),
    }
}

fn space() -> Check {
    const NAME: &str = "room in /dev/shm";
    match statfs(DIRECTORY) {
        Ok(fs) => {
            let unit = fs.block_size() as u64;
            let free = fs.blocks_available() * unit;
            let found =
                format!("{} free of {}", units::bytes(free), units::bytes(fs.blocks() * unit));
            if free < LITTLE {
                Check::new(NAME, Status::Warning, found).advise(
                    "remove rings (`annulus rm --stale`), or mount it larger (Docker: --shm-size)",
                )
            } else {
                Check::new(NAME, Status::Ok, found)
            }
        }
        Err(errno) => Check::new(NAME, Status::Missing, errno.desc()),
    }
}

fn unnamed_file() -> Result<OwnedFd, String> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    open(DIRECTORY, flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|errno| errno.desc().to_owned())
}

/// What came of reserving a page.
fn reserved(result: nix::Result<()>) -> Check {
    const NAME: &str = "fallocate";
    match result {
        Ok(()) => Check::new(NAME, Status::Ok, "pages can be reserved"),
        Err(Errno::ENOSPC | Errno::EDQUOT) => {
            Check::new(NAME, Status::Missing, "there is no room for a page")
                .advise("remove rings (`annulus rm --stale`), or other files there")
        }
        Err(errno) => Check::new(NAME, Status::Missing, errno.desc()).advise(
            "a ring's pages cannot be reserved, and a full file system would kill its users",
        ),
    }
}

/// Gives the file a name, as publishing a ring does, and takes it away again.
fn publishes(file: &OwnedFd) -> Result<String, String> {
    let from = format!("/proc/self/fd/{}", file.as_raw_fd());
    // Not a ring's prefix: nobody shall see it as one.
    let to = format!("{DIRECTORY}/.annulus-doctor-{}", std::process::id());
    linkat(AT_FDCWD, from.as_str(), AT_FDCWD, to.as_str(), AtFlags::AT_SYMLINK_FOLLOW)
        .and_then(|()| unlink(to.as_str()))
        .map(|()| "a complete file can be given its name".to_owned())
        .map_err(|errno: Errno| errno.desc().to_owned())
}

fn huge_pages() -> Check {
    const NAME: &str = "huge pages";
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| -> Option<u64> {
        meminfo
            .lines()
            .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
    };
    match (field("HugePages_Total:"), field("HugePages_Free:"), field("Hugepagesize:")) {
        (Some(total), Some(free), Some(size)) if total > 0 => {
            let found = format!("{free} of {total} free, {} each", units::bytes(size * 1024));
            Check::new(NAME, Status::Ok, found)
        }
        (Some(_), ..) => Check::new(NAME, Status::Note, "none reserved")
            .advise("--huge-pages fails; ordinary pages serve all but very large rings"),
        _ => Check::new(NAME, Status::Note, "the kernel has none")
            .advise("ordinary pages serve all but very large rings"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A full file system lacks room, and not the call.
    #[test]
    fn a_full_directory_is_told_from_one_that_reserves_nothing() {
        let of = |errno| reserved(Err(errno)).found;
        assert_eq!(of(Errno::ENOSPC), "there is no room for a page");
        assert_eq!(of(Errno::EOPNOTSUPP), Errno::EOPNOTSUPP.desc());
        assert_eq!(reserved(Ok(())).status, Status::Ok);
    }
}
