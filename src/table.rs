//! The table of participants of a ring with shared sides: who takes an entry, who leaves it, and what
//! becomes of one whose owner died.
//!
//! An entry is an exclusive lock on one byte of the segment, as a role is. Whoever resolves what a dead
//! participant has left holds that byte, so that nobody takes the entry meanwhile, and the one byte for
//! repairs, so that there is one repairer at a time. Both are given up by the kernel if the repairer is
//! killed, and the next one starts over.

use crate::error::{Role, SetupError};
use crate::protocol::claims::{self, Claims, Outcome};
use crate::protocol::layout::{ACTIVE, DIED, INCARNATION, RECEIVES};
use crate::protocol::mailbox;
use crate::protocol::permits::{self, Permits};
use crate::protocol::slots::Untyped;
use crate::segment::{Attached, RingKind, role_of};
use crate::sync::Ordering;
use crate::sys::clock;
use crate::sys::locks::{self, Byte, Outcome as Lock};
use std::os::fd::BorrowedFd;

/// The memory of the ring, as the participant of entry `own` sees it.
#[inline(always)]
pub(crate) fn memory(attached: &Attached, own: u16) -> Claims<'_> {
    let table = attached.table();
    Claims {
        sender: attached.half(Role::Sender),
        receiver: attached.half(Role::Receiver),
        table,
        own: &table[usize::from(own)],
        words: attached.words(),
    }
}

/// The memory of the semaphore.
#[inline(always)]
pub(crate) fn permits(attached: &Attached) -> Permits<'_> {
    Permits {
        word: permits::word(attached.half(Role::Sender)),
        table: attached.table(),
        maximum: attached.segment().spec.capacity as u32,
    }
}

fn byte(entry: usize) -> Byte {
    // The table has at most 1024 entries.
    Byte::Participant(entry as u16)
}

/// Takes an entry for a participant with `role`, which `fd`, a description of its own, then holds.
pub(crate) fn join(attached: &Attached, fd: BorrowedFd<'_>, role: Role) -> Result<u16, SetupError> {
    let locked = SetupError::os("taking an entry of the table");
    let table = attached.table();
    let mut free = (0..table.len()).filter(|&i| role_of(&table[i]).is_none());
    let found = free.find_map(|i| match locks::exclusive(fd, byte(i)) {
        // Its owner may have come, died and left claims since then.
        Ok(Lock::Locked) if role_of(&table[i]).is_some() => {
            locks::release(fd, byte(i));
            None
        }
        Ok(Lock::Locked) => Some(Ok(i)),
        Ok(Lock::HeldElsewhere) => None,
        Err(error) => Some(Err(error)),
    });
    let Some(entry) = found.transpose().map_err(locked)? else {
        return Err(SetupError::Crowded { participants: table.len() });
    };
    let card = &table[entry].card;
    card.pid.store(u64::from(std::process::id()), Ordering::Relaxed);
    card.since.store(clock::wall_nanoseconds(), Ordering::Relaxed);
    let incarnation = card.state.load(Ordering::Relaxed) / INCARNATION;
    let receives = if role == Role::Receiver { RECEIVES } else { 0 };
    let state = incarnation.wrapping_add(1).wrapping_mul(INCARNATION) | receives | ACTIVE;
    // What each lane's journals have to be judged by. Nobody asks for it before the entry is this one's.
    for lane in journals(attached) {
        lane.table()[entry].card.state.store(receives | ACTIVE, Ordering::Release);
    }
    card.state.store(state, Ordering::Release);
    Ok(entry as u16)
}

/// The lanes that have journals of their own: those of a mailbox.
fn journals(attached: &Attached) -> impl Iterator<Item = Attached> + '_ {
    let has_journals = attached.segment().spec.is_mailbox();
    has_journals.then(|| attached.lanes()).into_iter().flatten()
}

/// Gives an entry up; its owner has no claims, and holds nothing. The lock goes later.
pub(crate) fn leave(attached: &Attached, entry: usize) {
    for lane in journals(attached) {
        let entry = &lane.table()[entry];
        entry.journal.intent.store(0, Ordering::Release);
        entry.card.state.store(0, Ordering::Release);
    }
    let entry = &attached.table()[entry];
    if attached.segment().spec.kind != RingKind::Semaphore {
        // The last claim is done: whoever takes the entry next has none. A ledger goes on.
        entry.journal.intent.store(0, Ordering::Release);
    }
    let state = &entry.card.state;
    state.store(state.load(Ordering::Relaxed) & !ACTIVE, Ordering::Release);
}

/// Resolves what dead participants have left, asking the kernel through `fd`, a description of the caller's
/// own; whether anything was changed. `own` is the caller's entry, if it has one.
pub(crate) fn resolve_the_dead(attached: &Attached, fd: BorrowedFd<'_>, own: Option<u16>) -> bool {
    let table = attached.table();
    let own = own.map(usize::from);
    let is_alive = |i: usize| own == Some(i) || locks::is_held(fd, byte(i));
    let mut dead = (0..table.len()).filter(|&i| role_of(&table[i]).is_some() && !is_alive(i));
    let Some(first) = dead.next() else { return false };
    if !matches!(locks::exclusive(fd, Byte::Repair), Ok(Lock::Locked)) {
        return false;
    }
    let mut changed = false;
    for victim in std::iter::once(first).chain(dead) {
        if !matches!(locks::exclusive(fd, byte(victim)), Ok(Lock::Locked)) {
            continue;
        }
        // Another repairer may have been here, and another participant have come and died, since then.
        changed |= role_of(&table[victim]).is_some() && resolve(attached, victim, is_alive);
        locks::release(fd, byte(victim));
    }
    locks::release(fd, Byte::Repair);
    changed
}

/// Whether a receiver other than that of entry `own` has a message that it is not done with, and may be dead.
pub(crate) fn are_others_at_work(attached: &Attached, own: u16) -> bool {
    let spec = &attached.segment().spec;
    if spec.kind == RingKind::Semaphore {
        // Whoever is there may hold a permit.
        let mut entries = attached.table().iter().enumerate();
        return entries.any(|(i, entry)| i != usize::from(own) && role_of(entry).is_some());
    }
    if spec.is_mailbox() {
        let others = attached.table().iter().enumerate().filter(|&(i, _)| i != own.into());
        let mut others = others.map(|(_, entry)| role_of(entry));
        // There are many lanes to look at.
        return others.any(|role| role == Some(Role::Receiver))
            && attached.lanes().any(|lane| {
                let (mem, shape) = (memory(&lane, own), mailbox::shape(spec.message_size));
                claims::are_others_at_work(&mem, shape, spec.capacity, own.into())
            });
    }
    let (mem, shape) = (memory(attached, own), Untyped(spec.message_size));
    claims::are_others_at_work(&mem, shape, spec.capacity, own.into())
}

/// Resolves what the dead participant of entry `victim` has left, and frees the entry.
fn resolve(attached: &Attached, victim: usize, is_alive: impl Fn(usize) -> bool) -> bool {
    let spec = &attached.segment().spec;
    let ends = matches!(spec.kind, RingKind::Slots | RingKind::Bytes);
    if let Some(role) = role_of(&attached.table()[victim]).filter(|_| ends) {
        // Those who are still there may all say that they leave. Whoever comes after this is a successor, and takes it
        // back.
        attached.half(role).presence.state.fetch_or(DIED, Ordering::AcqRel);
    }
    if !spec.has_claims() {
        // A lane is a ring of its own: its next sender goes on where this one stopped. What a reader held, it holds
        // until somebody else has its entry; and nobody waits for a receiver without one.
        leave(attached, victim);
        return true;
    }
    if spec.kind == RingKind::Semaphore {
        let is_resolved = permits::resolve(&permits(attached), victim).is_some();
        if is_resolved {
            leave(attached, victim);
        }
        return is_resolved;
    }
    if spec.is_mailbox() {
        return resolve_lanes(attached, victim, is_alive);
    }
    // A repairer writes no journal but the victim's.
    let mem = &memory(attached, victim as u16);
    let shape = Untyped(spec.message_size);
    match claims::resolve(mem, shape, spec.capacity, victim, is_alive) {
        Outcome::Resolved(_) => {
            leave(attached, victim);
            true
        }
        Outcome::Busy => false,
    }
}

/// The same in a mailbox: in each lane there may be something. The entry is free when nothing is left in any.
fn resolve_lanes(attached: &Attached, victim: usize, is_alive: impl Fn(usize) -> bool) -> bool {
    let spec = &attached.segment().spec;
    let shape = mailbox::shape(spec.message_size);
    let (mut resolved, mut busy) = (0, false);
    for lane in attached.lanes() {
        let mem = &memory(&lane, victim as u16);
        match claims::resolve(mem, shape, spec.capacity, victim, &is_alive) {
            Outcome::Resolved(count) => resolved += count,
            Outcome::Busy => busy = true,
        }
    }
    // Also for those whom a repairer raised that was killed before it said so here.
    mailbox::raise(attached.half(Role::Receiver));
    // For people, as in a lane: what a repairer was killed with is not counted.
    let total = &attached.table()[victim].card.resolved;
    total.store(total.load(Ordering::Relaxed).wrapping_add(resolved), Ordering::Relaxed);
    if !busy {
        leave(attached, victim);
    }
    !busy || resolved > 0
}
