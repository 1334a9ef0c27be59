//! Which processors this thread may run on, and how often it does not run.

/// The processor that this thread is bound to, if it is bound to one.
pub(crate) fn pinned_to() -> Option<u32> {
    // SAFETY: an all-zero `cpu_set_t` is a valid, empty set.
    let mut set: libc::cpu_set_t = unsafe { core::mem::zeroed() };
    // SAFETY: `set` is valid for writes of its size; 0 names the calling thread.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) };
    // A machine with more processors than the set holds answers EINVAL: not bound to one.
    // SAFETY: `CPU_COUNT` reads the set that was just filled.
    if result != 0 || unsafe { libc::CPU_COUNT(&set) } != 1 {
        return None;
    }
    // SAFETY: `CPU_ISSET` reads the set; the numbers are below its size.
    (0..libc::CPU_SETSIZE as usize)
        .find(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .map(|cpu| cpu as u32)
}

/// How often this thread has given a processor up, or was taken from it.
pub(crate) fn switches() -> u64 {
    // SAFETY: an all-zero `rusage` is valid.
    let mut usage: libc::rusage = unsafe { core::mem::zeroed() };
    // SAFETY: `usage` is valid for writes. It does not fail with these arguments.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &mut usage) };
    (usage.ru_nvcsw as u64).wrapping_add(usage.ru_nivcsw as u64)
}
