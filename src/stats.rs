//! Figures of a ring, for people and programs that watch it.

use crate::error::Role;
use crate::protocol::broadcast::{Gate, gate_of};
use crate::protocol::flags::Flags;
use crate::protocol::layout::{ACTIVE, DIED, Entry, Half, INCARNATION, RECEIVES};
use crate::protocol::permits::{self, Permits};
use crate::protocol::{claims, latest};
use crate::segment::{Part, RingKind, Spec, role_of, waiting};
use crate::sync::{AtomicU64, Ordering, acquire};
use crate::sys::locks::{self, Byte};
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::atomic::fence;

/// A snapshot of a ring. Each figure was true at some moment while the snapshot was taken, not all at
/// the same one. Taking it costs the senders and receivers nothing but the transfer of the lines read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Messages sent since the ring was created. Exact in a ring of slots, where it is the sender's position.
    /// A [`ByteRing`](crate::ByteRing) counts messages beside its position, in a second store: each sender
    /// that is killed between the two leaves the count one too high or too low, for good.
    pub sent: u64,
    /// Messages received since the ring was created; with each receiver that is killed, the same holds as for
    /// [`sent`](Self::sent). The difference of the two is therefore no count of what is waiting in a byte
    /// ring; [`length`](Self::length) is exact whoever is killed.
    pub received: u64,
    /// What is waiting: messages in a ring of slots, bytes of records in a byte ring.
    pub length: u64,
    /// The longest that it was when the sender came to the end of the room that it knew of: a lower
    /// bound of the true peak, and exact once the ring has been full. In the unit of `length`. With lanes: of the lane where it was longest.
    pub high_water: u64,
    /// Times that a side went to sleep.
    pub waits: u64,
    /// Times that a side woke the other.
    pub wakes: u64,
    /// Times that a role was taken over from a process that died with it. With shared sides: positions that
    /// somebody died with, between claiming them and being done, and that were resolved.
    pub repairs: u64,
    /// With shared sides: messages that were handed out another time, because the receiver that had them died
    /// or gave them back.
    pub redelivered: u64,
    /// Of a semaphore: the permits that are free. Of an event: the flags that are raised. 0 otherwise.
    pub value: u64,
    /// Of a mailbox: the messages of each type that wait, those of type 1 first. Empty otherwise.
    pub by_type: Vec<u64>,
    /// Who is there, and who was there last.
    pub participants: Vec<Participant>,
}

/// A process that has, or had, a role.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Participant {
    /// The role.
    pub role: Role,
    /// The process id that it gave, in its own pid namespace; 0 if it is about to.
    pub pid: u32,
    /// Whether the kernel says that the role is held.
    pub alive: bool,
    /// Whether the process left the role by itself; neither alive nor left means that it died.
    pub left: bool,
    /// Nanoseconds since 1970 when it took the role.
    pub since: u64,
    /// How many have had the role, counting this one; 0 for the first one, as long as it is about to enter.
    pub incarnation: u64,
    /// In a ring with a shared side: the positions that it claimed last, or was about to claim. It need not
    /// have them any more.
    pub claim: Option<Range<u64>>,
    /// Of a semaphore: the permits that it holds, or died with and that are not returned yet.
    pub held: u32,
    /// Of a receiver of a broadcast that is there: what the sender does about it.
    pub gate: Option<Gate>,
    /// Of a receiver of a broadcast that is there: messages that were sent and that it has not received yet.
    pub behind: u64,
}

impl Stats {
    /// Reads the halves where the sides meet, those between which messages pass (the same, if there are no
    /// lanes), and the table if there is one, with the journals that lanes have of their own; asks the kernel, by `is_held` for a side and through `fd` for an
    /// entry of the table, who lives.
    pub(crate) fn read<'a>(
        spec: &Spec,
        (is_held, fd): (&dyn Fn(Role) -> bool, BorrowedFd<'_>),
        (sender, receiver): (&'a Half, &'a Half),
        halves: impl Iterator<Item = (&'a Half, &'a Half)> + Clone,
        (table, journals): (&[Entry], impl Iterator<Item = &'a Entry>),
        places: &[Half],
    ) -> Self {
        let count = |half: &Half| match spec.kind {
            RingKind::Slots | RingKind::Mailbox | RingKind::Broadcast | RingKind::ByteBroadcast => {
                half.cursor.position.load(Ordering::Relaxed)
            }
            RingKind::Bytes => half.cursor.messages.load(Ordering::Relaxed),
            RingKind::Semaphore | RingKind::Event => 0,
            // Readers take nothing, and leave the position alone.
            RingKind::Latest => latest::version(half.cursor.position.load(Ordering::Relaxed)),
        };
        let sum = |figures: &mut dyn Iterator<Item = u64>| figures.fold(0, u64::wrapping_add);
        // The receiver first: what it has read by now was sent by the time the sender is looked at.
        let received = sum(&mut halves.clone().map(|(_, receiver)| count(receiver)));
        fence(Ordering::Acquire);
        let sent = sum(&mut halves.clone().map(|(sender, _)| count(sender)));
        let waiting = |halves| match spec.kind {
            RingKind::Slots | RingKind::Bytes | RingKind::Mailbox => waiting(halves),
            kind if kind.is_broadcast() => furthest_behind(sender, table, places),
            _ => 0,
        };
        let length = halves.clone().map(waiting).fold(0, u64::saturating_add);
        let is_mailbox = spec.kind == RingKind::Mailbox;
        let by_type = if is_mailbox { halves.clone().map(waiting).collect() } else { Vec::new() };
        let word = permits::word(sender);
        let permits = Permits { word, table, maximum: spec.capacity as u32 };
        let is_semaphore = spec.kind == RingKind::Semaphore;
        let value = match spec.kind {
            RingKind::Semaphore => permits.look().map_or(0, |state| state.free().into()),
            RingKind::Event => Flags { word: &sender.cursor.position }.value(),
            _ => 0,
        };
        let received =
            if spec.kind.is_broadcast() { sent.saturating_sub(length) } else { received };
        let meeting = (spec.lanes() > 0).then_some((sender, receiver));
        let sides = || halves.clone().chain(meeting).flat_map(|(one, other)| [one, other]);
        let both = |figure: fn(&Half) -> &AtomicU64| {
            sum(&mut sides().map(|half| figure(half).load(Ordering::Relaxed)))
        };
        let all = |figure: fn(&Entry) -> u64| sum(&mut table.iter().map(figure));
        let redelivered = |entry: &Entry| entry.journal.redelivered.load(Ordering::Relaxed);
        let mut participants = Vec::new();
        if !spec.has_entry(Role::Sender) {
            participants.extend(Participant::of_half(spec, Role::Sender, sender, is_held));
        }
        let entries = (0..).zip(table);
        participants.extend(entries.filter_map(|(i, entry)| {
            let participant = Participant::of_entry(spec, i, entry, fd)?;
            Some(match places.get(usize::from(i)) {
                _ if is_semaphore => participant.holding(&permits, i),
                Some(place) => participant.receiving(entry, (sender, place)),
                None => participant,
            })
        }));
        if !spec.has_entry(Role::Receiver) {
            participants.extend(Participant::of_half(spec, Role::Receiver, receiver, is_held));
        }
        let high_water = halves.clone().map(|(sender, _)| &sender.counters.high_water);
        let high_water = high_water
            .map(|figure| figure.load(Ordering::Relaxed))
            // A broadcast's sender knows no more than a lower bound of where the slowest is.
            .filter(|_| !spec.kind.is_broadcast());
        let high_water = high_water.chain(halves.clone().map(waiting)).max();
        Self {
            sent,
            received,
            length,
            high_water: high_water.unwrap_or_default(),
            waits: both(|half| &half.counters.waits),
            wakes: both(|half| &half.counters.wakes),
            repairs: both(|half| &half.counters.takeovers)
                .wrapping_add(all(|entry| entry.card.resolved.load(Ordering::Relaxed))),
            redelivered: all(redelivered).wrapping_add(sum(&mut journals.map(redelivered))),
            value,
            by_type,
            participants,
        }
    }
}

/// How many messages the receiver that is furthest behind has not received yet.
pub(crate) fn furthest_behind(sender: &Half, table: &[Entry], places: &[Half]) -> u64 {
    let there = table.iter().zip(places).filter(|(entry, _)| role_of(entry).is_some());
    there.map(|(_, place)| waiting((sender, place))).max().unwrap_or(0)
}

impl Participant {
    /// The same in a semaphore, where the journal is a ledger.
    fn holding(self, permits: &Permits<'_>, index: u16) -> Self {
        let held = if self.left { 0 } else { permits.held(index.into()) };
        Self { claim: None, held, ..self }
    }

    /// The same in a broadcast, where each receiver has a gate and a position.
    fn receiving(self, entry: &Entry, halves: (&Half, &Half)) -> Self {
        if !self.alive {
            return self;
        }
        Self { gate: Some(gate_of(entry)), behind: waiting(halves), ..self }
    }

    fn of_half(
        spec: &Spec,
        role: Role,
        half: &Half,
        is_held: &dyn Fn(Role) -> bool,
    ) -> Option<Self> {
        let state = acquire(&half.presence.state);
        let alive = is_held(role);
        // Who has taken the role has not said so yet: a receiver does that in each lane first, and a sender goes on
        // when it sees that. In the split form whoever has the half has the lock, also without the role.
        let is_joining = alive && spec.part == Part::Whole;
        (state != 0 || is_joining).then(|| Self {
            role,
            pid: half.presence.pid.load(Ordering::Relaxed) as u32,
            alive,
            left: state & ACTIVE == 0,
            since: half.presence.since.load(Ordering::Relaxed),
            incarnation: (state & !DIED) >> 1,
            claim: None,
            held: 0,
            gate: None,
            behind: 0,
        })
    }

    fn of_entry(spec: &Spec, index: u16, entry: &Entry, fd: BorrowedFd<'_>) -> Option<Self> {
        let state = entry.card.state.load(Ordering::Acquire);
        (state != 0).then(|| Self {
            role: if state & RECEIVES == 0 { Role::Sender } else { Role::Receiver },
            pid: entry.card.pid.load(Ordering::Relaxed) as u32,
            alive: state & ACTIVE != 0 && locks::is_held(fd, Byte::Participant(index)),
            left: state & ACTIVE == 0,
            since: entry.card.since.load(Ordering::Relaxed),
            incarnation: state / INCARNATION,
            claim: spec.has_claims().then(|| claims::last_claim(entry)).flatten(),
            held: 0,
            gate: None,
            behind: 0,
        })
    }
}
