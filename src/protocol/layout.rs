//! Every shared byte.
//!
//! ```text
//! 0      header          written before the segment is visible, never after
//! 4096   receiver's half cursor, released position, presence, counters   (only the receiver writes)
//! 8192   sender's half   cursor, (unused), presence, counters            (only the sender writes)
//! 12288  data            cells or records                                (only the sender writes)
//! size   end of the file, a multiple of the page
//! ```
//!
//! A ring with shared sides has a table of participants before its data, and everybody writes everywhere
//! but for the entries of the table, each of which has one owner:
//!
//! ```text
//! 12288          participants, 256 bytes each
//! next page      slots, then one word for each slot: how often its message was handed out
//! ```
//!
//! A ring of records with many senders has a lane for each of them. The halves above are where all senders
//! meet the receiver; behind the table, whose entries belong to the senders alone, follow
//!
//! ```text
//! next page      for each lane: receiver's half, sender's half    (two pages)
//! next page      for each lane: records, in whole pages           (only its sender writes)
//! ```
//!
//! A semaphore has the table and no data, and an event neither. Their one word is in the sender's half, and those who
//! wait do it as receivers; who waits until all permits are taken does it as a sender.
//!
//! A mailbox has a lane for each type of messages. The halves above are where all senders and all receivers meet, and
//! the table there says who they are; behind it follow
//!
//! ```text
//! next page      for each lane: receiver's half, sender's half, table of journals (in whole pages)
//! next page      for each lane: slots, then one word for each slot, in whole pages
//! ```
//!
//! A variable and a broadcast have a table, whose entries belong to readers and receivers alone. Behind it follow
//!
//! ```text
//! next page      variable: stamps, then buffers
//! next page      broadcast: a half for each receiver, for its positions; then cells
//! ```
//!
//! In the **split** form each role has a file of its own, which the other side maps read-only. Both start with the
//! same header, but for its `part` and `size`:
//!
//! ```text
//! the sender's file                        the receiver's file
//! 0      header                            0      header
//! 4096   sender's half                     4096   receiver's half
//! 8192   data                              8192   end of the file
//! size   end of the file
//! ```
//!
//! Lines of different purpose are 128 bytes apart, because
//! processors fetch cache lines in pairs.

use crate::sync::{AtomicU32, AtomicU64};

/// The first eight bytes of a segment: `annulus` and a zero.
pub const MAGIC: u64 = u64::from_le_bytes(*b"annulus\0");
/// The layout's version; another one is refused.
pub const VERSION: u64 = 1;
/// The unit that the parts of a segment are aligned to.
pub const PAGE: usize = 4096;
/// Offset of the receiver's half.
pub const RECEIVER: usize = PAGE;
/// Offset of the sender's half.
pub const SENDER: usize = 2 * PAGE;
/// Offset of the data.
pub const DATA: usize = 3 * PAGE;
/// Offset of the half in a file that holds one.
pub const OWN_HALF: usize = PAGE;
/// Offset of the data, or the end, in a file that holds one half.
pub const OWN_DATA: usize = 2 * PAGE;
/// Bytes of a message type's label, padded with zeroes.
pub const LABEL: usize = 64;
/// Most bytes of metadata.
pub const METADATA: usize = 1024;
/// Words of the header that have no meaning yet.
pub const RESERVED: usize = (PAGE - 128 - LABEL - METADATA) / 8;
/// The most participants of a ring with shared sides.
pub const MAX_PARTICIPANTS: usize = 1024;

/// How many may send and receive, in [`Header::topology`].
pub mod topology {
    /// One sender, one receiver.
    pub const SPSC: u64 = 1;
    /// Many senders, one receiver.
    pub const MPSC: u64 = 2;
    /// One sender, many receivers.
    pub const SPMC: u64 = 3;
    /// Many senders, many receivers.
    pub const MPMC: u64 = 4;
}

/// What kind of ring a segment holds, in [`Header::kind`].
pub mod kind {
    /// Cells of fixed-size messages.
    pub const SLOTS: u64 = 1;
    /// Records of variable size.
    pub const BYTES: u64 = 2;
    /// The permits of a semaphore.
    pub const SEMAPHORE: u64 = 16;
    /// The flags of an event.
    pub const EVENT: u64 = 17;
    /// Buffers of one value, of which the latest is read.
    pub const LATEST: u64 = 18;
    /// Slots in a lane for each type.
    pub const MAILBOX: u64 = 20;
    /// Cells of fixed-size messages, each for all receivers.
    pub const BROADCAST: u64 = 19;
    /// The same, where each message starts with a word that says how many bytes of it count.
    pub const BYTE_BROADCAST: u64 = 21;
}

/// Which part of the ring a file holds, in [`Header::part`].
pub mod part {
    /// All of it.
    pub const WHOLE: u64 = 0;
    /// The sender's half and the data.
    pub const SENDER: u64 = 1;
    /// The receiver's half.
    pub const RECEIVER: u64 = 2;
}

/// Bits of [`Header::flags`].
pub mod flag {
    /// The ring outlives its users: an absent peer never ends a conversation.
    pub const PERSISTENT: u64 = 1;
    /// Attaching processes fault the whole segment in.
    pub const PREFAULT: u64 = 2;
    /// The segment is made of huge pages.
    pub const HUGE_PAGES: u64 = 4;
    /// Each message of a ring with lanes starts with a word that says which was sent first.
    pub const ORDERED: u64 = 8;
    /// Every flag that this version knows.
    pub const KNOWN: u64 = PERSISTENT | PREFAULT | HUGE_PAGES | ORDERED;
}

/// The header: what the segment is. Written once, before anybody else can see it.
#[repr(C, align(4096))]
pub struct Header {
    /// [`MAGIC`].
    pub magic: AtomicU64,
    /// [`VERSION`].
    pub version: AtomicU64,
    /// One of [`kind`].
    pub kind: AtomicU64,
    /// One of [`topology`].
    pub topology: AtomicU64,
    /// Bits of [`flag`].
    pub flags: AtomicU64,
    /// Bytes of the whole segment.
    pub size: AtomicU64,
    /// Slots: messages that fit. Bytes: bytes of records that fit. Semaphore: the most free permits. Event: 64.
    pub capacity: AtomicU64,
    /// Slots: bytes of a message. Bytes: bytes of the largest message. Semaphore: permits at first. Event: 0.
    pub message_size: AtomicU64,
    /// Slots: alignment of a message in bytes. Bytes: 1.
    pub message_align: AtomicU64,
    /// Permission bits that the creator asked for.
    pub mode: AtomicU64,
    /// Process id of the creator, for people.
    pub creator: AtomicU64,
    /// Nanoseconds since 1970 when it was created, for people.
    pub created: AtomicU64,
    /// Name of the message type, UTF-8, padded with zeroes; all zeroes is no name.
    pub label: [AtomicU64; LABEL / 8],
    /// Entries of the table of participants; 0 if no side is shared.
    pub participants: AtomicU64,
    /// One of [`part`].
    pub part: AtomicU64,
    /// Bytes of metadata.
    pub metadata_size: AtomicU64,
    /// What the creator wanted users to know, padded with zeroes.
    pub metadata: [AtomicU64; METADATA / 8],
    /// Mailbox: types of messages. Others: 0.
    pub types: AtomicU64,
    /// Zero; a segment with anything else here is refused.
    pub reserved: [AtomicU64; RESERVED],
}

/// What one role writes and the other reads.
// loom builds halves on the small stacks of its threads.
#[cfg_attr(loom, repr(C))]
#[cfg_attr(not(loom), repr(C, align(4096)))]
pub struct Half {
    /// How far this side is: exact at every instruction, so that a successor can go on from it.
    pub cursor: Cursor,
    /// The receiver's lazily published position; unused in a sender's half, but for that of a broadcast, whose `aim` it
    /// is, and of a semaphore, whose word it is. Receivers that share: a number that changes when messages are there to be delivered again. Where those of a
    /// mailbox meet: a bit for each lane that is used (sender's half), not 0 if it was removed (receiver's half).
    pub released: Released,
    /// Who this side is and whether it sleeps: read often, written seldom.
    pub presence: Presence,
    /// Seldom written figures for people.
    pub counters: Counters,
    /// Where the senders of a ring with lanes meet: the lanes that the receiver should look at. Otherwise unused.
    #[cfg(not(loom))]
    pub doorbell: Doorbell,
}

/// A bit for each lane.
#[cfg(not(loom))]
#[repr(C, align(128))]
pub struct Doorbell {
    /// Lane 0 is the lowest bit of the first word.
    pub words: [AtomicU64; MAX_PARTICIPANTS / 64],
}

/// The exact position of a side, on a line that only this side touches while it works.
#[repr(C, align(128))]
pub struct Cursor {
    /// Slots: messages sent or received. Bytes: bytes of records sent or received. Where the senders of a ring
    /// with lanes, or of a mailbox, meet: messages that were given a number, if they are. The sender's half of an
    /// event: its flags; the writer's of a variable: the word of the latest value. Where the receivers of a broadcast
    /// meet: `floor`.
    pub position: AtomicU64,
    /// Bytes: messages sent or received. Slots: unused.
    pub messages: AtomicU64,
}

/// The receiver's position as the sender is told of it, every so many messages.
#[repr(C, align(128))]
pub struct Released {
    /// Never ahead of the receiver's exact position.
    pub position: AtomicU64,
}

/// Whether a side is there, and whether it sleeps.
#[repr(C, align(128))]
pub struct Presence {
    /// `{ announcements:31 | wants fence:1 }`: a new value says that this side is about to sleep.
    pub asleep: AtomicU32,
    /// The futex word on which the *other* side sleeps; this side changes it, then wakes.
    pub epoch: AtomicU32,
    /// `{ died:1 | incarnation:62 | active:1 }`: 0 means that nobody ever had this role.
    pub state: AtomicU64,
    /// Process id of the side, for people: liveness is decided by the kernel's lock.
    pub pid: AtomicU64,
    /// Nanoseconds since 1970 when the role was taken, for people.
    pub since: AtomicU64,
    /// The processor that this side's thread is bound to, plus one; 0 if it may run on several. A hint:
    /// two sides bound to one processor do not spin.
    pub pinned: AtomicU64,
}

/// Figures for people; each is written when a side sleeps, wakes its peer or takes a role over.
#[repr(C, align(128))]
pub struct Counters {
    /// Times this side slept.
    pub waits: AtomicU64,
    /// Times this side woke the other.
    pub wakes: AtomicU64,
    /// Times this role was taken over from a process that died with it.
    pub takeovers: AtomicU64,
    /// The sender's half: the most messages (or bytes) seen waiting.
    pub high_water: AtomicU64,
}

/// `state` of a side, or a participant, that is there.
pub const ACTIVE: u64 = 1;

/// `state` of a shared side of which somebody was killed and cleared up after, and nobody has come since.
pub const DIED: u64 = 1 << 63;

/// What one participant of a ring with shared sides writes, and others read if they have to find out what
/// became of it.
#[repr(C)]
pub struct Entry {
    /// What it is about to claim, or has claimed.
    pub journal: Journal,
    /// Who it is.
    pub card: Card,
}

/// A participant's claim, on a line that nobody else touches while all goes well.
#[repr(C, align(128))]
pub struct Journal {
    /// `{ position:56 | count:8 }`: positions that it may have claimed; count 0 says none. Semaphores: the ledger,
    /// `{ change:32 | held before:16 | held after:16 }`. A reader of a variable:
    /// what it holds. A receiver of a broadcast: its gate.
    pub intent: AtomicU64,
    /// Messages that it received after somebody else had not finished receiving them, for people.
    pub redelivered: AtomicU64,
}

/// Who a participant is.
#[repr(C, align(128))]
pub struct Card {
    /// `{ incarnation:62 | receives:1 | active:1 }`: 0 means that nobody ever had this entry.
    pub state: AtomicU64,
    /// Process id, for people: liveness is decided by the kernel's lock.
    pub pid: AtomicU64,
    /// Nanoseconds since 1970 when the entry was taken, for people.
    pub since: AtomicU64,
    /// Positions that this entry's owners died with, and that were resolved, for people. Semaphores: permits.
    pub resolved: AtomicU64,
    /// Semaphores: the last change of this participant's that somebody else has replaced. Written by others.
    pub witness: AtomicU64,
}

/// `state` of a participant that receives.
pub const RECEIVES: u64 = 2;
/// One incarnation in a participant's `state`.
pub const INCARNATION: u64 = 4;

#[cfg(not(loom))]
mod asserted {
    use super::*;
    use core::mem::{align_of, offset_of, size_of};

    const _: () = {
        assert!(size_of::<Header>() == PAGE && size_of::<Half>() == PAGE);
        assert!(align_of::<Header>() == PAGE && align_of::<Half>() == PAGE);
        assert!(offset_of!(Header, version) == 8);
        assert!(offset_of!(Header, kind) == 16);
        assert!(offset_of!(Header, topology) == 24);
        assert!(offset_of!(Header, flags) == 32);
        assert!(offset_of!(Header, size) == 40);
        assert!(offset_of!(Header, capacity) == 48);
        assert!(offset_of!(Header, message_size) == 56);
        assert!(offset_of!(Header, message_align) == 64);
        assert!(offset_of!(Header, mode) == 72);
        assert!(offset_of!(Header, creator) == 80);
        assert!(offset_of!(Header, created) == 88);
        assert!(offset_of!(Header, label) == 96);
        assert!(offset_of!(Header, participants) == 160);
        assert!(offset_of!(Header, part) == 168);
        assert!(offset_of!(Header, metadata_size) == 176);
        assert!(offset_of!(Header, metadata) == 184);
        assert!(offset_of!(Header, types) == 1208);
        assert!(offset_of!(Header, reserved) == 1216);
        assert!(offset_of!(Half, cursor) == 0);
        assert!(offset_of!(Half, released) == 128);
        assert!(offset_of!(Half, presence) == 256);
        assert!(offset_of!(Half, counters) == 384);
        assert!(offset_of!(Presence, epoch) == 4);
        assert!(offset_of!(Presence, state) == 8);
        assert!(offset_of!(Presence, pid) == 16);
        assert!(offset_of!(Presence, since) == 24);
        assert!(offset_of!(Presence, pinned) == 32);
        assert!(offset_of!(Counters, high_water) == 24);
        assert!(offset_of!(Half, doorbell) == 512);
        assert!(size_of::<Entry>() == 256 && PAGE.is_multiple_of(size_of::<Entry>()));
        assert!(offset_of!(Entry, card) == 128);
        assert!(offset_of!(Journal, redelivered) == 8);
        assert!(offset_of!(Card, pid) == 8);
        assert!(offset_of!(Card, since) == 16);
        assert!(offset_of!(Card, resolved) == 24);
        assert!(offset_of!(Card, witness) == 32);
    };
    static_assertions::assert_impl_all!(Header: Send, Sync);
    static_assertions::assert_impl_all!(Half: Send, Sync);
    static_assertions::assert_impl_all!(Entry: Send, Sync);
}

#[cfg(loom)]
impl Half {
    /// A half on the heap, as loom needs it.
    pub fn new() -> Self {
        Self {
            cursor: Cursor { position: AtomicU64::new(0), messages: AtomicU64::new(0) },
            released: Released { position: AtomicU64::new(0) },
            presence: Presence {
                asleep: AtomicU32::new(0),
                epoch: AtomicU32::new(0),
                state: AtomicU64::new(0),
                pid: AtomicU64::new(0),
                since: AtomicU64::new(0),
                pinned: AtomicU64::new(0),
            },
            counters: Counters {
                waits: AtomicU64::new(0),
                wakes: AtomicU64::new(0),
                takeovers: AtomicU64::new(0),
                high_water: AtomicU64::new(0),
            },
        }
    }
}

#[cfg(loom)]
impl Default for Half {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(loom)]
impl Entry {
    /// An entry on the heap, as loom needs it.
    pub fn new() -> Self {
        Self {
            journal: Journal { intent: AtomicU64::new(0), redelivered: AtomicU64::new(0) },
            card: Card {
                state: AtomicU64::new(0),
                pid: AtomicU64::new(0),
                since: AtomicU64::new(0),
                resolved: AtomicU64::new(0),
                witness: AtomicU64::new(0),
            },
        }
    }
}

#[cfg(loom)]
impl Default for Entry {
    fn default() -> Self {
        Self::new()
    }
}
