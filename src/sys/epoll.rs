//! Waiting for many descriptors at once.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// The most events taken at a time.
pub(crate) const EVENTS: usize = 64;

/// A new set of sockets.
pub(crate) fn new() -> io::Result<OwnedFd> {
    // SAFETY: takes a number.
    let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reports `name` once when the other side of `socket` has closed it, or is dead. A socket that is closed leaves
/// the set.
pub(crate) fn add_for_end(
    set: BorrowedFd<'_>,
    socket: BorrowedFd<'_>,
    name: u64,
) -> io::Result<()> {
    add(set, socket, name, libc::EPOLLRDHUP | libc::EPOLLONESHOT)
}

/// Reports `name` for as long as there is something to read from `fd`, or its other side is gone.
pub(crate) fn add_for_reading(
    set: BorrowedFd<'_>,
    fd: BorrowedFd<'_>,
    name: u64,
) -> io::Result<()> {
    add(set, fd, name, libc::EPOLLIN | libc::EPOLLRDHUP)
}

/// Reports nothing of `fd` any more.
pub(crate) fn remove(set: BorrowedFd<'_>, fd: BorrowedFd<'_>) {
    let (set, fd) = (set.as_raw_fd(), fd.as_raw_fd());
    // SAFETY: takes three numbers; the event is not looked at. It can fail only if `fd` is not in the set.
    unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_DEL, fd, core::ptr::null_mut()) };
}

fn add(set: BorrowedFd<'_>, socket: BorrowedFd<'_>, name: u64, events: i32) -> io::Result<()> {
    let events = events as u32;
    let mut event = libc::epoll_event { events, u64: name };
    let (set, socket) = (set.as_raw_fd(), socket.as_raw_fd());
    // SAFETY: `event` is valid for reads.
    match unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_ADD, socket, &raw mut event) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Waits until something is reported, for as long as `timeout`; the names of up to `most` of it, first that which was
/// reported longest ago. None also if a signal came.
pub(crate) fn wait(
    set: BorrowedFd<'_>,
    timeout: Option<Duration>,
    most: usize,
) -> io::Result<Vec<u64>> {
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS];
    let timeout = timeout.map_or(-1, |timeout| {
        i32::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
    });
    // SAFETY: `events` is valid for writes of that many.
    let count = unsafe {
        libc::epoll_wait(set.as_raw_fd(), events.as_mut_ptr(), most.min(EVENTS) as i32, timeout)
    };
    match usize::try_from(count) {
        Ok(count) => Ok(events[..count].iter().map(|event| event.u64).collect()),
        Err(_) => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(Vec::new()),
            error => Err(error),
        },
    }
}
