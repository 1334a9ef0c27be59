//! Figures of a ring, for people and programs that watch it.

use crate::error::Role;
use crate::protocol::layout::{ACTIVE, Half};
use crate::segment::RingKind;
use crate::sync::Ordering;

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
    /// bound of the true peak, and exact once the ring has been full. In the unit of `length`.
    pub high_water: u64,
    /// Times that a side went to sleep.
    pub waits: u64,
    /// Times that a side woke the other.
    pub wakes: u64,
    /// Times that a role was taken over from a process that died with it.
    pub repairs: u64,
    /// Who is there, and who was there last.
    pub participants: Vec<Participant>,
}

/// A process that has, or had, a role.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Participant {
    /// The role.
    pub role: Role,
    /// The process id that it gave, in its own pid namespace.
    pub pid: u32,
    /// Whether the kernel says that the role is held.
    pub alive: bool,
    /// Whether the process left the role by itself; neither alive nor left means that it died.
    pub left: bool,
    /// Nanoseconds since 1970 when it took the role.
    pub since: u64,
    /// How many have had the role, counting this one.
    pub incarnation: u64,
}

impl Stats {
    /// Reads the two halves; `is_held` asks the kernel.
    pub(crate) fn read(
        kind: RingKind,
        sender: &Half,
        receiver: &Half,
        is_held: impl Fn(Role) -> bool,
    ) -> Self {
        let count = |half: &Half| match kind {
            RingKind::Slots => half.cursor.position.load(Ordering::Relaxed),
            RingKind::Bytes => half.cursor.messages.load(Ordering::Relaxed),
        };
        // The receiver first: what it has read by now was sent by the time the sender is looked at.
        let (received, head) = (count(receiver), receiver.cursor.position.load(Ordering::Acquire));
        let (sent, tail) = (count(sender), sender.cursor.position.load(Ordering::Acquire));
        let both = |figure: fn(&Half) -> u64| figure(sender).wrapping_add(figure(receiver));
        let length = tail.saturating_sub(head);
        Self {
            sent,
            received,
            length,
            high_water: sender.counters.high_water.load(Ordering::Relaxed).max(length),
            waits: both(|half| half.counters.waits.load(Ordering::Relaxed)),
            wakes: both(|half| half.counters.wakes.load(Ordering::Relaxed)),
            repairs: both(|half| half.counters.takeovers.load(Ordering::Relaxed)),
            participants: [(Role::Sender, sender), (Role::Receiver, receiver)]
                .into_iter()
                .filter_map(|(role, half)| Participant::read(role, half, &is_held))
                .collect(),
        }
    }
}

impl Participant {
    fn read(role: Role, half: &Half, is_held: &impl Fn(Role) -> bool) -> Option<Self> {
        let state = half.presence.state.load(Ordering::Acquire);
        (state != 0).then(|| Self {
            role,
            pid: half.presence.pid.load(Ordering::Relaxed) as u32,
            alive: is_held(role),
            left: state & ACTIVE == 0,
            since: half.presence.since.load(Ordering::Relaxed),
            incarnation: state >> 1,
        })
    }
}
