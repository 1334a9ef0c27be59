//! Half a split ring that belongs to an enemy: sealed as it has to be, and written by whoever has it.

use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::ffi::c_void;
use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// The half, mapped for writing before it was sealed.
pub struct Forged {
    base: NonNull<c_void>,
    len: usize,
    file: File,
}

// SAFETY: the mapping belongs to no thread, and is used as atomics only.
unsafe impl Send for Forged {}
// SAFETY: as for `Send`.
unsafe impl Sync for Forged {}

impl Forged {
    /// A copy of a sound half, to be spoilt.
    pub fn of(sound: OwnedFd) -> Self {
        Self::of_all([sound])
    }

    /// Copies of sound halves, behind each other.
    pub fn of_all<const N: usize>(sound: [OwnedFd; N]) -> Self {
        let mut bytes = Vec::new();
        for sound in sound.map(File::from) {
            let at = bytes.len();
            bytes.resize(at + sound.metadata().unwrap().len() as usize, 0);
            sound.read_exact_at(&mut bytes[at..], 0).unwrap();
        }
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let file = File::from(memfd_create(c"forged", flags).unwrap());
        fallocate(&file, FallocateFlags::empty(), 0, bytes.len() as i64).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        let len = NonZeroUsize::new(bytes.len()).unwrap();
        let both = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping of a whole file.
        let base = unsafe { mmap(None, len, both, MapFlags::MAP_SHARED, &file, 0) }.unwrap();
        let seals = SealFlag::F_SEAL_SHRINK
            | SealFlag::F_SEAL_GROW
            | SealFlag::F_SEAL_FUTURE_WRITE
            | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).unwrap();
        Self { base, len: len.get(), file }
    }

    /// All of it.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has that length, and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().cast(), self.len / 8) }
    }

    /// The word at byte `offset`.
    pub fn get(&self, offset: usize) -> u64 {
        self.words()[offset / 8].load(Ordering::Relaxed)
    }

    /// Writes the word at byte `offset`.
    pub fn set(&self, offset: usize, value: u64) {
        self.words()[offset / 8].store(value, Ordering::Relaxed);
    }

    /// A descriptor for the victim, with a description of its own that can only read.
    pub fn descriptor(&self) -> OwnedFd {
        File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd())).unwrap().into()
    }

    /// Looks alive from now on, in the role whose lock is byte `index` of those at 2^62: 1 the sender, 2 the
    /// receiver.
    pub fn come_alive(&self, index: i64) {
        let lock = lock_of(index);
        fcntl(&self.file, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
    }
}

fn lock_of(index: i64) -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: (1 << 62) + index,
        l_len: 1,
        l_pid: 0,
    }
}

impl Drop for Forged {
    fn drop(&mut self) {
        // SAFETY: nothing of it is borrowed any more.
        unsafe { munmap(self.base, self.len) }.unwrap();
    }
}
