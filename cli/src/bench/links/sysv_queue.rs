//! System V message queues.
//!
//! Such a queue has no descriptor: it lives until somebody removes it, and removing it ends its use at once. So the coordinator
//! removes it when the row ends, and a worker removes it should the coordinator be killed first: the kernel then sends it the
//! signal that [`attach`](SysvQueues::attach) asked for.

use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

use libc::{c_int, c_long, c_void};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{Pid, getpid};

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
            remove(self.id);
        }
    }
}

fn remove(id: c_int) {
    // SAFETY: IPC_RMID ignores the pointer.
    unsafe { libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
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
        remove_if_orphaned([to_peer.id, from_peer.id])?;
        Ok(Ends { to_peer: to_peer.id, from_peer: from_peer.id })
    }
}

/// What the signal handler removes.
static ORPHANS: [AtomicI32; 2] = [AtomicI32::new(-1), AtomicI32::new(-1)];

fn remove_if_orphaned(ids: [c_int; 2]) -> nix::Result<()> {
    for (orphan, id) in ORPHANS.iter().zip(ids) {
        orphan.store(id, Ordering::Relaxed);
    }
    let action = SigAction::new(SigHandler::Handler(on_orphaned), SaFlags::empty(), SigSet::all());
    // SAFETY: the handler calls only msgctl and _exit, which are plain system calls, and reads atomics.
    unsafe { sigaction(Signal::SIGUSR1, &action) }?;
    set_pdeathsig(Signal::SIGUSR1)
}

extern "C" fn on_orphaned(_: c_int) {
    for orphan in &ORPHANS {
        remove(orphan.load(Ordering::Relaxed));
    }
    // SAFETY: `_exit` takes no pointer and may be called in a signal handler.
    unsafe { libc::_exit(1) }
}

/// A message as msgsnd and msgrcv want it: the type in eight bytes, then the payload, which is filled and checked in place.
pub struct Typed(Vec<u8>);

const TYPE_BYTES: usize = size_of::<c_long>();

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
        let size = message.0.len() - TYPE_BYTES;
        // SAFETY: the message has room for the type and `size` more bytes.
        let received = unsafe {
            libc::msgrcv(self.from_peer, message.0.as_mut_ptr().cast::<c_void>(), size, 0, 0)
        };
        match usize::try_from(received) {
            Ok(received) if received == size => Ok(()),
            Ok(received) => Err(Failure::wrong_length(received, size)),
            Err(_) => Err(Failure::call("msgrcv", io::Error::last_os_error())),
        }
    }
}
