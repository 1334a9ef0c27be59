//! The protocols: state machines over borrowed shared memory. No system call, no allocation, no
//! mapping; the same code runs over a mapped segment and over loom's heap.
//!
//! # Pictures
//!
//! A ring of **cells** ([`slots`]), one sender and one receiver. Positions count messages and never
//! wrap. A cell holds a stamp and several messages, small ones in one cache line with it:
//!
//! ```text
//!            cell 0                cell 1                cell 2
//!   | stamp  m m m m m m m | stamp  m m m m . . . | stamp  . . . . . . . |
//!     FULL(4), then            FREE(7)                FREE(14)
//!     a batch: FULL(10)
//!              ^ head = 3                  ^ tail = 11: the next send stamps the second cell
//!
//!   FREE(p) --a send starts here and ends with q--> FULL(q) --another one--> FULL(r) --next lap--> ...
//! ```
//!
//! A ring of **records** ([`records`]). Positions count bytes and never wrap:
//!
//! ```text
//!   | len kind | payload ... | len kind | payload ... | 0        |   free   |
//!   ^ head                                             ^ tail: the header there is always 0
//! ```
//!
//! The **permits** of a semaphore ([`permits`]), of which killed holders leave none behind:
//!
//! ```text
//! word { who changed it last, in which change | free permits }   ledgers { change | held before | held after }
//! ```
//!
//! The **flags** of an event ([`flags`]): one word.
//!
//! The **latest** value ([`latest`]). Buffers, one of which has it; each reader says which one it reads:
//!
//! ```text
//!   value = { version 7, buffer 2 }
//!   | 0: version 5 | 1: version 6 | 2: version 7 | 3: free | ...
//!     ^ held by a reader that is slow, or dead
//! ```
//!
//! **Park** ([`park`]): each side has a word `asleep` that it changes before it sleeps and a futex
//! word `epoch` that it changes before it wakes the other.
//!
//! # Edges
//!
//! Every access that is not relaxed, and on which a message, a claim or a wake depends, belongs to one of these. Each
//! end cites its edge by the name in [`crate::sync::Edge`]; `loom-tests` weakens each end in turn and shows which model
//! fails.
//!
//! | edge | store end | load end | carries |
//! | --- | --- | --- | --- |
//! | S1 commit | sender: stamp `FULL(p)`, Release | receiver: stamp, Acquire | the payload of all positions up to `p` |
//! | S2 release | receiver: `released`, Release | sender: `released`, Acquire | the receiver has read all it will ever read of the positions below |
//! | S3 head | receiver: `head`, Release | sender: `head`, Acquire | the same, message by message; read only when S2 shows no room |
//! | S4 note | sender: `tail`, Release | a new receiver while the sender lives, and one in a stream: `tail`, Acquire | as S1, up to `tail` |
//! | R1 record | sender: header word, Release | receiver: header word, Acquire | the record's payload, and the zero in the header after it |
//! | R2 space | receiver: `released`, Release | sender: `released`, Acquire | as S2, in bytes |
//! | R3 space head | receiver: `head`, Release | sender: `head`, Acquire | as S3, in bytes |
//! | C1 intent | claimer: its journal, Release | repairer: the journals, Acquire | what the claimer has filled or emptied before |
//! | C2 claim | claimer: `tail` or `head`, Release | repairer: the same, Acquire | the claimer's intent |
//! | C3 fill | sender: stamp `FULL(p)`, Release; repairer: `TOMB(p)`, `ORPHAN(p)`; receiver that gives back: `ORPHAN(p)` | receiver: stamp, Acquire | the message of `p` |
//! | C4 empty | receiver: stamp `FREE(p + N)`, Release | sender: stamp, Acquire | the receiver has read all it will ever read of the slot |
//! | C5 orphans | repairer, or who gives back: the number of changes, Release | receiver: the same, Acquire | the stamp `ORPHAN(p)` |
//! | C6 look | sender: fence between its claim and what it writes, Release | one who reads without a claim: fence between reading and the second look at the stamp, Acquire | that the slot was emptied before |
//! | C7 draw | sender of a mailbox: draws a number, Release | receiver: how many were drawn, Acquire | all sends that had ended before |
//! | C8 turn | sender of a mailbox: its claim (C2), Release | the sender behind it: fence between its claim and what it writes, Acquire | the number drawn for the place in front |
//! | M1 permit | who frees permits: the word, Release | who gets them, and who looks: the same, Acquire | what the holder did |
//! | M2 witness | who replaces another's change: the word, Release | repairer: the same, Acquire | that the change was made |
//! | F1 raise | raiser: the flags, Release | who finds or takes them: the same, Acquire | what the raiser did before |
//! | P1 park | notifier: barrier between publish and load of `asleep` | waiter: barrier between store of `asleep` and the last look | of the two loads at least one sees the other side's store |
//! | L1 value | writer: the word of the latest value, Release | reader, observer: the same, Acquire | the content of its buffer |
//! | L2 help | writer: the barrier of L4, then its choice for a reader that is choosing, relaxed | that reader, Acquire | the same |
//! | L3 leave | reader: its word that it chooses, Release | writer: what readers hold, Acquire, in its look and where it chooses for one | the reader has read all it will ever read of the buffer it held |
//! | L4 choose | writer: barrier between publishing a value and its look at what readers hold | reader: barrier between saying that it chooses and its load of the latest value | of the two loads at least one sees the other side's store |
//! | L5 overwrite | writer: barrier between a buffer's stamp and its content | observer: barrier between its copy and its look at the stamp | the stamp that says that the content is another |
//! | B1 join | sender: barrier between storing `aim` and looking at the gates | receiver: barrier between saying that it joins and loading `aim` and `tail` | of the two looks at least one sees the other side's store |
//! | B2 overrun | sender: the barrier of B1, before it writes over anything | receiver: barrier between its copy and its look at `aim`, or at its gate | what says that the copy is worthless |
//! | B3 gate | receiver: its gate, Release | sender: the gates, Acquire | the receiver's positions |
//! | B4 aim | sender: `aim`, Release | receiver that chooses where to go on, Acquire | a `tail` that is no less |
//! | P2 ring | notifier: bump of its `epoch`, Release | waiter: the same, Acquire, before it announces its sleep | what the notifier published, or said of itself, before it rang; and which announcements it had seen |
//!
//! Relaxed, and why that is enough:
//!
//! * Each side's message count, and the records' `tail` as it is read: the readers are people (statistics),
//!   a receiver that only wants to know how far ahead to ask for lines, and a successor, which has taken the role's lock from the kernel after the predecessor gave it up or
//!   was torn down, and that orders everything the predecessor did before.
//! * A receiver's `head`, when a successor reads it: the same.
//! * Payload words: ordered by S1, S2, S3, R1, R2, R3.
//! * `asleep`: ordered by P1, and behind a waiter's load of `epoch` by P2.

pub mod broadcast;
pub mod claims;
pub mod flags;
pub mod lanes;
pub mod latest;
pub mod layout;
pub mod mailbox;
pub mod pace;
pub mod park;
pub mod permits;
pub mod records;
pub mod room;
pub mod slots;

/// Why an operation could not be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// No room for the sender, or no message for the receiver.
    NotReady,
    /// The other side wrote something that no correct peer writes.
    Corrupt,
}

/// How many messages, or bytes, the receiver may take before it tells the sender: enough to make the
/// transfer of that line rare, and a small part of the ring, so that a full ring frees up early.
pub(crate) fn release_period(capacity: u64, most: u64) -> u64 {
    (capacity / 8).clamp(1, most)
}
