//! How many processors this thread may run on.

/// Whether this thread may run on one processor only, where spinning keeps the peer from running.
pub(crate) fn is_alone() -> bool {
    // SAFETY: an all-zero `cpu_set_t` is a valid, empty set.
    let mut set: libc::cpu_set_t = unsafe { core::mem::zeroed() };
    // SAFETY: `set` is valid for writes of its size; 0 names the calling thread.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) };
    // A machine with more processors than the set holds answers EINVAL: not one.
    // SAFETY: `CPU_COUNT` reads the set that was just filled.
    result == 0 && unsafe { libc::CPU_COUNT(&set) } == 1
}
