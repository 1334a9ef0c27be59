//! The halves of a peer of a connection that can write all of them at any time: the file that it sends along.

use annulus::{Ring, Role};
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

/// A file with a half for each of some roles behind each other, mapped for writing before it was sealed.
pub struct Forged {
    pub fd: OwnedFd,
    /// What was mapped: of each half.
    pub halves: Vec<&'static [AtomicU64]>,
}

/// The halves for `parts` of rings of `u64`s: roles and capacities. An honest peer's are the sender's, then the receiver's.
pub fn forge(parts: &[(Role, usize)]) -> Forged {
    let bytes_of = |&(role, capacity): &(Role, usize)| {
        let half = Ring::<u64>::builder(capacity).split(role).unwrap();
        let file = File::from(half.descriptor().unwrap());
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    };
    let parts: Vec<Vec<u8>> = parts.iter().map(bytes_of).collect();
    let all = parts.concat();
    let fd = memfd_create(c"forged", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
    fallocate(&fd, FallocateFlags::empty(), 0, all.len() as i64).unwrap();
    let both = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let size = NonZeroUsize::new(all.len()).unwrap();
    // SAFETY: a new mapping of a whole file, never unmapped; its words are used as atomics only.
    let words: &'static [AtomicU64] = unsafe {
        let base = mmap(None, size, both, MapFlags::MAP_SHARED, &fd, 0).unwrap();
        std::slice::from_raw_parts(base.as_ptr().cast(), all.len() / 8)
    };
    for (word, bytes) in words.iter().zip(all.chunks_exact(8)) {
        word.store(u64::from_le_bytes(bytes.try_into().unwrap()), Ordering::Relaxed);
    }
    let seals = SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_FUTURE_WRITE
        | SealFlag::F_SEAL_SEAL;
    fcntl(&fd, FcntlArg::F_ADD_SEALS(seals)).unwrap();
    let mut rest = words;
    let halves = parts.iter().map(|part| {
        let (half, others) = rest.split_at(part.len() / 8);
        rest = others;
        half
    });
    Forged { halves: halves.collect(), fd }
}

impl Forged {
    /// A descriptor for the victim, with a description of its own that can only read.
    pub fn descriptor(&self) -> OwnedFd {
        File::open(format!("/proc/self/fd/{}", self.fd.as_raw_fd())).unwrap().into()
    }

    /// Looks alive in both roles from now on.
    pub fn come_alive(&self) {
        self.lock(libc::F_WRLCK);
    }

    /// Looks dead.
    pub fn die(&self) {
        self.lock(libc::F_UNLCK);
    }

    fn lock(&self, kind: i32) {
        let lock = libc::flock {
            l_type: kind as i16,
            l_whence: libc::SEEK_SET as i16,
            // The sender's byte, and the receiver's.
            l_start: (1 << 62) + 1,
            l_len: 2,
            l_pid: 0,
        };
        fcntl(&self.fd, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
    }
}
