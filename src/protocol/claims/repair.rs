//! What becomes of a dead participant's claims.

use super::claim::{Claimed, Messages, Room};
use super::journal::Intent;
use super::receive::raise;
use super::{Claims, FREE, FULL, Geometry, ORPHAN, TAKEN, TOMB, stamped};
use crate::protocol::layout::{Entry, RECEIVES};
use crate::protocol::slots::Shape;
use crate::sync::{Edge, Ordering};

/// What a repair came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The dead participant has nothing any more. How many positions it died with.
    Resolved(u64),
    /// Somebody who lives may have one of them, and will go on soon: to be tried again.
    Busy,
}

/// Whether the participant of `entry` receives. Nobody changes it while that one lives.
fn does_receive(entry: &Entry) -> bool {
    entry.card.state.load(Ordering::Acquire) & RECEIVES != 0
}

/// Resolves the claims of the participant of entry `victim`, which is dead, and clears its journal.
///
/// The caller is the only repairer, and keeps the entry from being taken, both by locks that the kernel
/// releases. It can be killed at any point: the next one does the same again. `is_alive` asks the kernel
/// about another entry.
pub fn resolve(
    mem: &Claims<'_>,
    shape: impl Shape,
    capacity: usize,
    victim: usize,
    is_alive: impl Fn(usize) -> bool,
) -> Outcome {
    let geometry = Geometry::new(mem.words, shape, capacity);
    let entry = &mem.table[victim];
    let receives = does_receive(entry);
    let intent = Intent::of(entry);
    // C2 claim: what lies before this is claimed by somebody whose intent is visible now.
    let end = if receives { Messages::position(mem) } else { Room::position(mem) };
    let end = end.load(Edge::ClaimLoad.load());
    let first = intent.first_near(end);
    // Only who does the same claims the same positions: a sender's intent shows what it sent last.
    let is_rival = |entry: &Entry| does_receive(entry) == receives;
    let is_claimed_by_the_living = |position| {
        let mut others = mem.table.iter().enumerate().filter(|&(i, _)| i != victim);
        others
            .any(|(i, other)| is_rival(other) && Intent::of(other).covers(position) && is_alive(i))
    };
    let (mut resolved, mut busy) = (0, false);
    for position in (0..intent.count).map(|i| first.wrapping_add(i)) {
        // Nobody gets more than a lap beyond a claim that is not done. Further back, an old intent could
        // have a stamp in common with a claim of the living.
        if !geometry.is_within_a_lap(position, end) {
            continue;
        }
        let word = geometry.stamp(mem, shape, position);
        let at = |state| stamped(position, state);
        // C3 fill: with `TAKEN`, whose it is; with the others, only what to ask next.
        let found = word.load(Edge::FillLoad.load());
        let (from, to) = if receives {
            let next = stamped(position.wrapping_add(geometry.capacity), FREE);
            match found {
                stamp if stamp == at(FULL) => (stamp, at(ORPHAN)),
                stamp if stamp == at(TOMB) => (stamp, next),
                stamp if stamp == at(TAKEN + victim as u64) => (stamp, at(ORPHAN)),
                stamp if stamp == at(ORPHAN) => {
                    // Its last repairer may have been killed before it said so.
                    raise(mem);
                    continue;
                }
                _ => continue,
            }
        } else if found == at(FREE) {
            (found, at(TOMB))
        } else {
            continue;
        };
        let certain = from == at(TAKEN + victim as u64);
        if !certain && is_claimed_by_the_living(position) {
            busy = true;
            break;
        }
        // C3 fill. The message of an orphan was seen above.
        if word.change(from, to, (Edge::FillStore.store(), Ordering::Relaxed)) {
            resolved += 1;
            if to == at(ORPHAN) {
                raise(mem);
            }
        }
    }
    let total = entry.card.resolved.load(Ordering::Relaxed);
    entry.card.resolved.store(total.wrapping_add(resolved), Ordering::Relaxed);
    if busy {
        return Outcome::Busy;
    }
    entry.journal.clear();
    Outcome::Resolved(resolved)
}
