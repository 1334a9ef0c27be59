//! Words that a test and the processes it forks all see: the only way a killed child can still say
//! what it had done.

use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// Zeroed words in a shared anonymous mapping. Forked children inherit the mapping itself, not a copy.
pub struct SharedWords {
    base: NonNull<AtomicU64>,
    len: usize,
}

// SAFETY: the mapping belongs to no thread, and the only access is through `&AtomicU64`.
unsafe impl Send for SharedWords {}
// SAFETY: as for `Send`: concurrent access is atomic.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Maps `len` words, all zero.
    pub fn new(len: usize) -> Self {
        // SAFETY: asks for fresh memory at an address of the kernel's choice: no existing mapping changes.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len * size_of::<AtomicU64>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(base, libc::MAP_FAILED, "mmap of {len} shared words");
        Self { base: NonNull::new(base.cast()).expect("mmap never returns null here"), len }
    }

    /// The words as plain memory, for a child that writes them while nobody else looks.
    pub fn as_mut_ptr(&self) -> *mut u64 {
        self.base.as_ptr().cast()
    }
}

impl Deref for SharedWords {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: `new` mapped `len` zeroed, page-aligned words, they stay mapped as long as `self`, and every
        // process reaches them through atomics only.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: this is the range that `new` mapped, and no reference outlives `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len * size_of::<AtomicU64>()) };
    }
}
