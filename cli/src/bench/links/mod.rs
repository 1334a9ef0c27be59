//! The transports: ours, the kernel's, and the two limits of the machine that they are compared with.

pub mod byte_ring;
pub mod copy_limit;
pub mod eventfd;
pub mod floor;
pub mod pipe;
pub mod posix_queue;
pub mod ring;
pub mod socket;
pub mod split;
pub mod stream;
pub mod sysv_queue;
