//! Resolving what the dead have left, in any state.

use super::effort::Effort;
use super::input::Input;
use annulus::{Place, Receiver, Ring, Role, Sender, Topology};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

// From DESIGN.md, "Rings with shared sides".
const PAGE: usize = 4096;
const HEAD: usize = PAGE;
const ORPHANS: usize = PAGE + 128;
const TAIL: usize = 2 * PAGE;
const TABLE: usize = 3 * PAGE;
const ENTRY: usize = 256;
const CARD: usize = 128;
const SLOTS: usize = 4 * PAGE;
const PARTICIPANTS: usize = 8;
const ACTIVE: u64 = 1;
const RECEIVES: u64 = 2;
const INCARNATION: u64 = 4;
const STATE_BITS: u32 = 11;
const FREE: u64 = 0;
const FULL: u64 = 1;
const TOMB: u64 = 2;
const ORPHAN: u64 = 3;
const TAKEN: u64 = 4;

/// Attempts after which a `try_` call has asked the kernel at least once who lives.
const POLLS: usize = 1100;
/// How long a call waits, if it does: beyond the first look at who is dead.
const BLOCKED: Duration = Duration::from_millis(3);

/// A ring has some participants that live, and in the other entries of its table whatever is written there, which
/// nobody holds a lock for: the dead. Journals (also those of the living), stamps and positions are
/// written at random, mostly near each other. Then somebody joins, which resolves the dead, and somebody polls,
/// which does it now and then. It ends, without a panic, and:
///
/// * No entry of the living is freed.
/// * What one of the living may have claimed stays as it is. That is a position in its intent which lies before
///   its side's position, by no more than a lap, and whose stamp says that it is not done: `FREE` for a
///   sender, `FULL` or `TOMB` for a receiver; and, whatever the intents say, `TAKEN` by it. A stamp that says
///   `TAKEN` by one of the dead is nobody else's, even if an intent of the living has the position, too.
/// * After a join, stamps, journals and entries are exactly what DESIGN.md's table of repairs makes of those from
///   before: what holds up others is resolved unless one of the living may have it, and nothing else changes.
pub fn repair(data: &[u8]) {
    let input = &mut Input(data);
    let topology = [Topology::Mpsc, Topology::Spmc, Topology::Mpmc, Topology::Mpmc];
    let topology = topology[input.below(4)];
    match input.byte() % 2 {
        0 => rounds::<u64>(input, topology, 2),
        _ => rounds::<[u64; 9]>(input, topology, 16),
    }
}

/// Somebody who lives; its handle is never used.
enum Living<T> {
    Sender { _handle: Sender<T> },
    Receiver { _handle: Receiver<T> },
}

fn join<T: bytemuck::Pod>(ring: &Ring<T>, role: Role) -> Option<Living<T>> {
    match role {
        Role::Sender => ring.sender().ok().map(|_handle| Living::Sender { _handle }),
        Role::Receiver => ring.receiver().ok().map(|_handle| Living::Receiver { _handle }),
    }
}

fn rounds<T: bytemuck::Pod>(input: &mut Input<'_>, topology: Topology, stride: usize) {
    let capacity = 1 << input.below(4);
    let ring = Ring::<T>::builder(capacity)
        .topology(topology)
        .participants(PARTICIPANTS)
        .create(Place::memfd("repair").unwrap())
        .unwrap();
    let memory = Memory::new(ring.inheritable_fd().unwrap(), capacity, stride);
    let shared = if topology == Topology::Spmc { Role::Receiver } else { Role::Sender };
    // Entries are taken in their order. Some are left again, to have the dead among the living.
    let there: Vec<_> = (0..1 + input.below(PARTICIPANTS))
        .map(|_| {
            let choice = input.byte();
            let role = if choice & 1 == 0 { Role::Sender } else { Role::Receiver };
            let joined = join(&ring, role).or_else(|| join(&ring, shared)).unwrap();
            (joined, choice & 6 != 0)
        })
        .collect();
    let living: Vec<_> = there.into_iter().map(|(joined, stays)| stays.then_some(joined)).collect();
    let lives: Vec<bool> =
        (0..PARTICIPANTS).map(|i| living.get(i).is_some_and(Option::is_some)).collect();
    for (i, joined) in living.iter().enumerate() {
        let Some(joined) = joined else { continue };
        let receives = matches!(joined, Living::Receiver { .. });
        let state = memory.get(TABLE + i * ENTRY + CARD);
        assert_eq!(state & (ACTIVE | RECEIVES), ACTIVE | if receives { RECEIVES } else { 0 });
    }
    while !input.is_empty() {
        let effort = Effort::begin();
        memory.scribble(input, &lives);
        let before = memory.snapshot();
        drop(join(&ring, shared));
        let after = memory.snapshot();
        before.check_the_living(&after, &lives);
        before.resolved(&lives).check_equal(&after);
        poll(&ring, input.byte());
        before.check_the_living(&memory.snapshot(), &lives);
        let alive = ring.stats().participants.iter().filter(|who| who.alive).count();
        assert_eq!(alive, lives.iter().filter(|&&lives| lives).count(), "somebody was freed");
        effort.check();
    }
}

/// Sends or receives for long enough to find out who is dead, if there is a place.
fn poll<T: bytemuck::Pod>(ring: &Ring<T>, choice: u8) {
    let message = T::zeroed();
    let blocks = choice >= 0xf0;
    if choice & 1 == 0 {
        let Ok(mut tx) = ring.sender() else { return };
        for _ in 0..POLLS {
            let _ = match choice % 8 {
                0 | 2 => usize::from(tx.try_send(message).is_ok()),
                4 => tx.try_send_from([message; 3]),
                _ => tx.try_send_batch(&[message; 5]),
            };
        }
        let _ = blocks && tx.send_timeout(message, BLOCKED).is_ok();
        assert!(is_there(ring), "a sender took itself for dead");
    } else {
        let Ok(mut rx) = ring.receiver() else { return };
        for _ in 0..POLLS {
            let _ = match choice % 8 {
                1 | 3 => usize::from(rx.try_recv().is_ok()),
                5 => usize::from(rx.try_claim().is_ok()),
                _ => rx.try_recv_batch(&mut [message; 5]),
            };
        }
        let _ = blocks && rx.recv_timeout(BLOCKED).is_ok();
        assert!(is_there(ring), "a receiver took itself for dead");
    }
}

/// Whether the last that joined is there still.
fn is_there<T: bytemuck::Pod>(ring: &Ring<T>) -> bool {
    let there = ring.stats().participants;
    there.iter().max_by_key(|who| who.since).is_some_and(|who| who.alive)
}

/// The ring's memory, as anybody writes it who has it open.
struct Memory {
    file: File,
    capacity: usize,
    /// Words of a slot.
    stride: usize,
}

impl Memory {
    fn new(fd: OwnedFd, capacity: usize, stride: usize) -> Self {
        Self { file: File::from(fd), capacity, stride }
    }

    fn set(&self, offset: usize, value: u64) {
        self.file.write_all_at(&value.to_le_bytes(), offset as u64).unwrap();
    }

    fn get(&self, offset: usize) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, offset as u64).unwrap();
        u64::from_le_bytes(bytes)
    }

    fn snapshot(&self) -> State {
        State {
            head: self.get(HEAD),
            tail: self.get(TAIL),
            entries: (0..PARTICIPANTS)
                .map(|i| TABLE + i * ENTRY)
                .map(|at| Entry { card: self.get(at + CARD), intent: self.get(at) })
                .collect(),
            stamps: (0..self.capacity).map(|i| self.get(SLOTS + i * self.stride * 8)).collect(),
        }
    }

    /// Writes everything that repairs look at, but for who the living are.
    fn scribble(&self, input: &mut Input<'_>, lives: &[bool]) {
        let capacity = self.capacity as u64;
        let head = match input.byte() % 4 {
            0 => input.below(40) as u64,
            1 => capacity * 100,
            2 => (1_u64 << [8, 52, 53, 55, 56, 63][input.below(6)])
                .wrapping_add_signed(input.below(40) as i64 - 20),
            _ => input.edgy(0),
        };
        let tail = match input.byte() {
            240.. => input.edgy(head),
            ahead => head.wrapping_add(u64::from(ahead) % (capacity + 1)),
        };
        self.set(HEAD, head);
        self.set(TAIL, tail);
        let near = |lap: usize| head.wrapping_add(lap as u64).wrapping_sub(capacity);
        for slot in 0..self.capacity {
            let choice = input.byte();
            let position = near(self.capacity * usize::from(choice >> 4 & 3));
            // The position of this slot in that lap.
            let position = position.wrapping_add((slot as u64).wrapping_sub(position) % capacity);
            let stamp = match (choice >> 6, choice % 8) {
                (3, 7) => input.edgy(stamp(position, FREE)),
                (_, taken @ 6..) => {
                    let of = u64::from(taken & 1) + input.below(8) as u64;
                    stamp(position, TAKEN + of)
                }
                (_, state) => stamp(position, u64::from(state) % TAKEN),
            };
            self.set(SLOTS + slot * self.stride * 8, stamp);
        }
        for (i, &lives) in lives.iter().enumerate() {
            let at = TABLE + i * ENTRY;
            let choice = input.byte();
            let intent = match choice >> 4 {
                0 => input.edgy(head << 8),
                1 | 2 => 0,
                // As wide as it gets: a batch.
                3 => near(input.below(self.capacity * 3)) << 8 | 255,
                _ => near(input.below(self.capacity * 3)) << 8 | (1 + u64::from(choice) % 4),
            };
            self.set(at, intent);
            if !lives {
                let active = if choice & 3 == 3 { 0 } else { ACTIVE };
                let receives = if choice & 4 == 0 { 0 } else { RECEIVES };
                let incarnation = INCARNATION * (1 + u64::from(input.byte()));
                self.set(at + CARD, incarnation | receives | active);
            }
        }
        if input.byte() >= 240 {
            self.set(ORPHANS, input.edgy(0));
        }
    }
}

/// What repairs look at.
#[derive(Clone, Debug, PartialEq)]
struct State {
    head: u64,
    tail: u64,
    entries: Vec<Entry>,
    stamps: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    card: u64,
    intent: u64,
}

impl Entry {
    fn is_active(self) -> bool {
        self.card & ACTIVE != 0
    }

    fn receives(self) -> bool {
        self.card & RECEIVES != 0
    }

    fn count(self) -> u64 {
        self.intent & 255
    }

    /// An intent has 56 bits of its first position.
    fn covers(self, position: u64) -> bool {
        position.wrapping_sub(self.intent >> 8) & (u64::MAX >> 8) < self.count()
    }
}

const fn stamp(position: u64, state: u64) -> u64 {
    position << STATE_BITS | state
}

impl State {
    fn slot(&self, position: u64) -> usize {
        (position % self.stamps.len() as u64) as usize
    }

    /// How far the side of `entry` is.
    fn end(&self, entry: Entry) -> u64 {
        if entry.receives() { self.head } else { self.tail }
    }

    /// That `after` has everything that one of the living may have claimed.
    fn check_the_living(&self, after: &Self, lives: &[bool]) {
        let living = (0..).zip(&self.entries).filter(|&(i, _)| lives[i]);
        for (i, &entry) in living {
            assert!(after.entries[i].is_active(), "entry {i} was freed: {self:x?}, {after:x?}");
            assert_eq!(after.entries[i], entry, "entry {i} was changed: {self:x?}, {after:x?}");
            let end = self.end(entry);
            for position in (1..=self.stamps.len() as u64).map(|by| end.wrapping_sub(by)) {
                let slot = self.slot(position);
                let there = self.stamps[slot];
                let is = |state| there == stamp(position, state);
                let undone = if entry.receives() { is(FULL) || is(TOMB) } else { is(FREE) };
                let taken = entry.receives() && is(TAKEN + i as u64);
                if taken || undone && entry.covers(position) {
                    let now = after.stamps[slot];
                    assert_eq!(
                        now, there,
                        "entry {i} has {position:x}, and its stamp was {there:x} and is {now:x}: \
                         {self:x?}, {after:x?}"
                    );
                }
            }
        }
    }

    /// What a repair makes of this.
    fn resolved(&self, lives: &[bool]) -> Self {
        let mut state = self.clone();
        let dead = (0..self.entries.len()).filter(|&i| !lives[i] && self.entries[i].is_active());
        for victim in dead {
            if state.resolve(victim, lives) {
                state.entries[victim].intent = 0;
                state.entries[victim].card &= !ACTIVE;
            }
        }
        state
    }

    /// The rows of the table; `false` where one of the living may be the claimer.
    fn resolve(&mut self, victim: usize, lives: &[bool]) -> bool {
        let entry = self.entries[victim];
        let end = self.end(entry);
        // The first of its positions, as far from `end` as it can be told by 56 bits with a sign.
        let ahead = ((entry.intent >> 8).wrapping_sub(end) << 8) as i64 >> 8;
        let lap = self.stamps.len() as u64;
        for ahead in (ahead..0).take(entry.count() as usize) {
            if ahead < -(lap as i64) {
                continue;
            }
            let position = end.wrapping_add_signed(ahead);
            let slot = self.slot(position);
            let there = self.stamps[slot];
            let is = |state| there == stamp(position, state);
            let (certain, becomes) = match entry.receives() {
                false if is(FREE) => (false, stamp(position, TOMB)),
                true if is(FULL) => (false, stamp(position, ORPHAN)),
                true if is(TOMB) => (false, stamp(position.wrapping_add(lap), FREE)),
                true if is(TAKEN + victim as u64) => (true, stamp(position, ORPHAN)),
                _ => continue,
            };
            let mut living = self.entries.iter().zip(lives).filter(|(_, lives)| **lives);
            let may_have =
                |other: &Entry| other.receives() == entry.receives() && other.covers(position);
            if !certain && living.any(|(other, _)| may_have(other)) {
                return false;
            }
            self.stamps[slot] = becomes;
        }
        true
    }

    /// That a join has left the same as `self` says: but it may have had a free entry for a moment.
    fn check_equal(mut self, after: &Self) {
        for (entry, after) in self.entries.iter_mut().zip(&after.entries) {
            if !entry.is_active() {
                assert!(!after.is_active(), "an entry that was not cleared");
                *entry = *after;
            }
        }
        assert_eq!(&self, after, "expected, found");
    }
}
