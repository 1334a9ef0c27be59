//! System V objects whose maker was killed.
//!
//! They have no descriptor and live until somebody removes them. A worker that uses some removes them if the coordinator, who
//! made them, is killed: the kernel then sends it a signal.

use std::sync::atomic::{AtomicI32, Ordering};

use libc::c_int;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// An object by its identifier.
#[derive(Clone, Copy, Debug)]
pub enum Orphan {
    Queue(c_int),
    Semaphores(c_int),
}

impl Orphan {
    /// Removes it, whoever uses it.
    pub fn remove(self) {
        match self {
            // SAFETY: IPC_RMID ignores the pointer.
            Self::Queue(id) => unsafe {
                libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut());
            },
            // SAFETY: IPC_RMID takes no further argument.
            Self::Semaphores(id) => unsafe {
                libc::semctl(id, 0, libc::IPC_RMID);
            },
        }
    }
}

/// What the signal handler removes: queues and sets of semaphores.
static QUEUES: [AtomicI32; MOST] = [const { AtomicI32::new(NONE) }; MOST];
static SEMAPHORES: [AtomicI32; MOST] = [const { AtomicI32::new(NONE) }; MOST];
/// More than any worker uses.
const MOST: usize = 4;
const NONE: c_int = -1;

/// Will remove `orphan` as well, in this worker.
pub fn adopt(orphans: &[Orphan]) -> nix::Result<()> {
    for &orphan in orphans {
        let (list, id) = match orphan {
            Orphan::Queue(id) => (&QUEUES, id),
            Orphan::Semaphores(id) => (&SEMAPHORES, id),
        };
        let free = list.iter().find(|place| place.load(Ordering::Relaxed) == NONE);
        free.expect("no worker uses more of them").store(id, Ordering::Relaxed);
    }
    let action = SigAction::new(SigHandler::Handler(on_orphaned), SaFlags::empty(), SigSet::all());
    // SAFETY: the handler only makes plain system calls and reads atomics.
    unsafe { sigaction(Signal::SIGUSR1, &action) }?;
    set_pdeathsig(Signal::SIGUSR1)
}

extern "C" fn on_orphaned(_: c_int) {
    let all = |list: &[AtomicI32], orphan: fn(c_int) -> Orphan| {
        let ids = list.iter().map(|id| id.load(Ordering::Relaxed)).filter(|&id| id != NONE);
        ids.for_each(|id| orphan(id).remove());
    };
    all(&QUEUES, Orphan::Queue);
    all(&SEMAPHORES, Orphan::Semaphores);
    // SAFETY: `_exit` takes no pointer and may be called in a signal handler.
    unsafe { libc::_exit(1) }
}
