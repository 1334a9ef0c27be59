//! What is said of a ring: the fields of `ls --json` and `inspect --json`.

use annulus::inspect::Snapshot;
use annulus::{Participant, RingKind, Role};
use serde::Serialize;

/// A ring as seen from outside.
#[derive(Debug, Serialize)]
pub struct Report {
    pub name: String,
    pub kind: &'static str,
    pub topology: &'static str,
    pub ordered: bool,
    pub layout_version: u64,
    /// Messages, or bytes in a byte ring; so is `used`.
    pub capacity: usize,
    pub used: u64,
    pub high_water: u64,
    /// The message's size, or the longest one's.
    pub message_size: usize,
    pub message_align: usize,
    pub label: String,
    pub persistent: bool,
    pub huge_pages: bool,
    pub size: u64,
    /// In octal.
    pub mode: String,
    pub owner: u32,
    pub owner_name: Option<String>,
    pub group: u32,
    /// In hexadecimal.
    pub metadata: String,
    pub creator: u32,
    pub created_ns: u64,
    pub state: &'static str,
    /// How many have it open; `null` if the kernel does not say.
    pub attached: Option<usize>,
    pub senders: usize,
    pub receivers: usize,
    /// How many senders and receivers there can be; 0 if there is one of each.
    pub table: usize,
    pub sent: u64,
    pub received: u64,
    pub waits: u64,
    pub wakes: u64,
    pub repairs: u64,
    pub redelivered: u64,
    /// Of a semaphore: permits that are free. Of an event: the flags that are raised, as a number.
    pub value: u64,
    /// Of a mailbox: how many messages of each type wait, those of type 1 first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by_type: Vec<u64>,
    /// Of a variable: how often it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    pub participants: Vec<Member>,
}

/// Somebody who has, or had, a role.
#[derive(Debug, Serialize)]
pub struct Member {
    pub role: &'static str,
    pub pid: u32,
    /// `alive`, `left` or `died`.
    pub state: &'static str,
    pub since_ns: u64,
    pub incarnation: u64,
    /// The first position that it claimed last, and how many, where a side has many.
    pub claim: Option<[u64; 2]>,
    /// Permits of a semaphore.
    pub held: u32,
    /// Of a receiver of a broadcast: `gate`, `lossy` or `evicted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<&'static str>,
    /// Of the same: messages that it has not received yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind: Option<u64>,
}

impl Report {
    pub fn new(name: &str, ring: Snapshot) -> Self {
        let alive = |role| {
            ring.stats.participants.iter().filter(|who| who.role == role && who.alive).count()
        };
        let (senders, receivers) = (alive(Role::Sender), alive(Role::Receiver));
        let owner_name = nix::unistd::User::from_uid(ring.owner.into()).ok().flatten();
        Self {
            name: name.to_owned(),
            kind: ring.kind.name(),
            topology: ring.topology.name(),
            ordered: ring.ordered,
            layout_version: ring.version,
            capacity: ring.capacity,
            used: ring.stats.length,
            high_water: ring.stats.high_water,
            message_size: ring.message_size,
            message_align: ring.message_align,
            label: ring.label,
            persistent: ring.persistent,
            huge_pages: ring.huge_pages,
            size: ring.size,
            mode: format!("{:04o}", ring.mode),
            owner: ring.owner,
            owner_name: owner_name.map(|user| user.name),
            group: ring.group,
            metadata: ring.metadata.iter().map(|byte| format!("{byte:02x}")).collect(),
            creator: ring.creator,
            created_ns: ring.created,
            state: ring.state.name(),
            attached: ring.attached,
            senders,
            receivers,
            table: ring.participants,
            sent: ring.stats.sent,
            received: ring.stats.received,
            waits: ring.stats.waits,
            wakes: ring.stats.wakes,
            repairs: ring.stats.repairs,
            redelivered: ring.stats.redelivered,
            value: ring.stats.value,
            by_type: ring.stats.by_type,
            version: (ring.kind == RingKind::Latest).then_some(ring.stats.sent),
            participants: ring.stats.participants.iter().map(Member::new).collect(),
        }
    }

    /// An amount in the unit of the ring's capacity.
    pub fn amount(&self, of: u64) -> String {
        if self.kind == RingKind::Bytes.name() { crate::units::bytes(of) } else { of.to_string() }
    }

    pub fn owner(&self) -> String {
        match &self.owner_name {
            Some(name) => crate::output::printable(name),
            None => self.owner.to_string(),
        }
    }
}

impl Member {
    fn new(who: &Participant) -> Self {
        let state = match who {
            Participant { alive: true, .. } => "alive",
            Participant { left: true, .. } => "left",
            _ => "died",
        };
        Self {
            role: match who.role {
                Role::Sender => "sender",
                Role::Receiver => "receiver",
            },
            pid: who.pid,
            state,
            since_ns: who.since,
            incarnation: who.incarnation,
            claim: who.claim.as_ref().map(|claim| [claim.start, claim.end - claim.start]),
            held: who.held,
            delivery: who.gate.map(|gate| gate.name()),
            behind: who.gate.map(|_| who.behind),
        }
    }
}
