//! One file for each kernel facility, and nothing of the protocol.

pub(crate) mod clock;
pub(crate) mod cpu;
pub(crate) mod epoll;
pub(crate) mod eventfd;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod locks;
pub(crate) mod mapping;
pub(crate) mod membarrier;
pub(crate) mod memfd;
pub(crate) mod signals;
pub(crate) mod socket;
pub(crate) mod users;
