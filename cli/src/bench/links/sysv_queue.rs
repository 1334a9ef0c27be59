//! System V message queues.
//!
//! Such a queue has no descriptor: it lives until somebody removes it, and removing it ends its use at once. So the coordinator
//! removes it when the row ends, and a worker should the coordinator be killed first ([`orphans`](super::orphans)).

use std::io;

use libc::{c_int, c_long, c_void};
use nix::unistd::{Pid, getpid};

use super::orphans::{self, Orphan};
use crate::bench::link::{Failure, Link, Refusal, Setup, Side, Transport};
use crate::bench::payload::{Payload, fill, matches, sequence};

/// Bytes asked for in a queue; kernel.msgmnb binds those without privilege.
const CAPACITY: usize = 1 << 20;

/// A queue for each direction.
pub struct SysvQueues {
    forth: Queue,
    back: Queue,
}

/// A queue, removed by the process that made it.
struct Queue {
    id: c_int,
    maker: Pid,
}

impl Queue {
    fn new() -> Result<Self, Refusal> {
        // SAFETY: msgget takes no pointer.
        let id = unsafe { libc::msgget(libc::IPC_PRIVATE, 0o600) };
        if id < 0 {
            return Err(Refusal::by_kernel("msgget", io::Error::last_os_error()));
        }
        let queue = Self { id, maker: getpid() };
        queue.enlarge();
        Ok(queue)
    }

    /// Refused to processes without privilege; the queue then keeps the size it has.
    fn enlarge(&self) {
        // SAFETY: `msqid_ds` is plain data, for which all zero is a value; both calls get a pointer to a whole one.
        unsafe {
            let mut state: libc::msqid_ds = std::mem::zeroed();
            if libc::msgctl(self.id, libc::IPC_STAT, &mut state) == 0 {
                state.msg_qbytes = CAPACITY as _;
                libc::msgctl(self.id, libc::IPC_SET, &mut state);
            }
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if self.maker == getpid() {
            Orphan::Queue(self.id).remove();
        }
    }
}

impl Transport for SysvQueues {
    type Link = Ends;

    fn prepare(setup: &Setup) -> Result<Self, Refusal> {
        let limit = std::fs::read_to_string("/proc/sys/kernel/msgmax").ok();
        if let Some(limit) = limit.and_then(|text| text.trim().parse::<usize>().ok()) {
            if limit < setup.size {
                return Err(Refusal::Unavailable(format!(
                    "{} B exceed kernel.msgmax ({limit})",
                    setup.size
                )));
            }
        }
        Ok(Self { forth: Queue::new()?, back: Queue::new()? })
    }

    fn attach(self, side: Side, _: &Setup) -> Result<Ends, Failure> {
        let (to_peer, from_peer) =
            if side == Side::Near { (&self.forth, &self.back) } else { (&self.back, &self.forth) };
        orphans::adopt(&[Orphan::Queue(to_peer.id), Orphan::Queue(from_peer.id)])?;
        Ok(Ends { to_peer: to_peer.id, from_peer: from_peer.id })
    }
}

/// A message as msgsnd and msgrcv want it: the type in eight bytes, then the payload, which is filled and checked in place.
pub struct Typed(Vec<u8>);

const TYPE_BYTES: usize = size_of::<c_long>();

impl Typed {
    /// The type.
    #[inline]
    pub fn kind(&self) -> c_long {
        c_long::from_ne_bytes(self.0[..TYPE_BYTES].try_into().expect("eight bytes"))
    }

    /// Takes over the payload of `other`, with a type of its own.
    #[inline]
    pub fn copy(&mut self, other: &Self, kind: c_long) {
        self.0[..TYPE_BYTES].copy_from_slice(&kind.to_ne_bytes());
        self.0[TYPE_BYTES..].copy_from_slice(&other.0[TYPE_BYTES..]);
    }
}

impl Payload for Typed {
    fn blank(size: usize) -> Self {
        let mut message = vec![0; TYPE_BYTES + size];
        message[..TYPE_BYTES].copy_from_slice(&c_long::to_ne_bytes(1));
        Self(message)
    }

    #[inline]
    fn fill(&mut self, sequence: u64) {
        fill(&mut self.0[TYPE_BYTES..], sequence);
    }

    #[inline]
    fn matches(&self, sequence: u64) -> bool {
        matches(&self.0[TYPE_BYTES..], sequence)
    }

    #[inline]
    fn sequence(&self) -> u64 {
        sequence(&self.0[TYPE_BYTES..])
    }
}

/// One side's view of both queues.
pub struct Ends {
    to_peer: c_int,
    from_peer: c_int,
}

impl Ends {
    /// Receives as `wanted` says: 0 for the oldest, a type for the oldest of that.
    #[inline]
    pub fn recv_wanted(&mut self, wanted: c_long, message: &mut Typed) -> Result<(), Failure> {
        let size = message.0.len() - TYPE_BYTES;
        // SAFETY: the message has room for the type and `size` more bytes.
        let received = unsafe {
            libc::msgrcv(self.from_peer, message.0.as_mut_ptr().cast::<c_void>(), size, wanted, 0)
        };
        match usize::try_from(received) {
            Ok(received) if received == size => Ok(()),
            Ok(received) => Err(Failure::wrong_length(received, size)),
            Err(_) => Err(Failure::call("msgrcv", io::Error::last_os_error())),
        }
    }
}

impl Link for Ends {
    type Message = Typed;

    #[inline]
    fn send(&mut self, message: &Typed) -> Result<(), Failure> {
        let size = message.0.len() - TYPE_BYTES;
        // SAFETY: the message begins with its type and has `size` more bytes.
        let sent =
            unsafe { libc::msgsnd(self.to_peer, message.0.as_ptr().cast::<c_void>(), size, 0) };
        if sent == 0 { Ok(()) } else { Err(Failure::call("msgsnd", io::Error::last_os_error())) }
    }

    #[inline]
    fn recv(&mut self, message: &mut Typed) -> Result<(), Failure> {
        self.recv_wanted(0, message)
    }
}
