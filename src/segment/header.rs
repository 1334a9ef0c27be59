//! The header as a value: written once at creation, read once at attach, never looked at again.

use super::kinds::{Part, RingKind, Topology};
use crate::error::{Role, SetupError};
use crate::protocol::layout::{
    self, Entry, Header, LABEL, MAGIC, MAX_PARTICIPANTS, METADATA, VERSION, flag,
};
use crate::protocol::{claims, lanes, latest, mailbox, permits, records, slots};
use crate::sync::{AtomicU64, Ordering, acquire};
use crate::sys::clock;
use bytemuck::AnyBitPattern;

/// Bytes of a page of data before rounding; segments are whole pages.
pub(crate) const UNIT: u64 = layout::PAGE as u64;

/// Flags of an event.
pub(crate) const FLAGS: usize = u64::BITS as usize;

/// What a segment is: all that its header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) kind: RingKind,
    pub(crate) topology: Topology,
    pub(crate) persistent: bool,
    pub(crate) prefault: bool,
    pub(crate) huge_pages: bool,
    /// Whether messages of all lanes are received in the order of their sending.
    pub(crate) ordered: bool,
    pub(crate) capacity: usize,
    pub(crate) message_size: usize,
    pub(crate) message_align: usize,
    pub(crate) mode: u32,
    /// Entries of the table of participants; none if no side is shared.
    pub(crate) participants: usize,
    pub(crate) part: Part,
    /// Types of messages of a mailbox; otherwise 0.
    pub(crate) types: usize,
    pub(crate) label: String,
    /// Plain data of the creator's.
    pub(crate) metadata: Box<[u8]>,
}

/// What only the process that created a segment knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) creator: u32,
    pub(crate) created: u64,
}

impl Spec {
    /// A ring with one sender and one receiver, and nothing special.
    pub(crate) fn sole(kind: RingKind, capacity: usize, message: (usize, usize)) -> Self {
        Self {
            kind,
            topology: Topology::Spsc,
            persistent: false,
            prefault: true,
            huge_pages: false,
            ordered: false,
            capacity,
            message_size: message.0,
            message_align: message.1,
            mode: 0o600,
            participants: 0,
            part: Part::Whole,
            types: 0,
            label: String::new(),
            metadata: Box::default(),
        }
    }

    /// The metadata as a `T`.
    pub(crate) fn metadata<T: AnyBitPattern>(&self) -> Result<T, SetupError> {
        bytemuck::try_pod_read_unaligned(&self.metadata).map_err(|_| SetupError::Metadata {
            expected: size_of::<T>(),
            actual: self.metadata.len(),
        })
    }

    /// Bytes of the two files of the split form.
    pub(crate) fn split_size(&self) -> Result<u64, SetupError> {
        let of = |role| Self { part: Part::Half(role), ..self.clone() }.size(UNIT);
        Ok(of(Role::Sender)?.saturating_add(of(Role::Receiver)?))
    }

    /// What has no messages: many take part, each in the same way.
    pub(crate) fn without_messages(kind: RingKind, capacity: usize, at_first: usize) -> Self {
        Self { topology: Topology::Mpmc, ..Self::sole(kind, capacity, (at_first, 1)) }
    }

    /// Words of data, or why the sizes cannot be.
    pub(crate) fn data_words(&self) -> Result<usize, SetupError> {
        let invalid = |reason| SetupError::InvalidSize { reason };
        match self.kind {
            RingKind::Semaphore => return self.semaphore_words(),
            RingKind::Event if (self.capacity, self.message_size) == (FLAGS, 0) => return Ok(0),
            RingKind::Event => return Err(invalid("an event has 64 flags")),
            _ => {}
        }
        if self.capacity == 0 {
            return Err(invalid("a ring needs room for something; give a capacity of at least 1"));
        }
        let too_large = "a ring of that size cannot be addressed; give a smaller capacity";
        if self.kind.is_one_to_all() && self.topology != Topology::Spmc {
            return Err(invalid("what is for all receivers has one sender and many receivers"));
        }
        if self.kind != RingKind::Bytes {
            let may_be_empty = matches!(self.kind, RingKind::Mailbox | RingKind::ByteBroadcast);
            if self.message_size == 0 && !may_be_empty {
                return Err(invalid("a message needs at least one byte"));
            }
            if !self.message_align.is_power_of_two()
                || !self.message_size.is_multiple_of(self.message_align)
            {
                return Err(invalid(
                    "a message's alignment is a power of two that divides its size",
                ));
            }
            if self.capacity > slots::MAX_CAPACITY || self.message_size > slots::MAX_CAPACITY {
                return Err(invalid(too_large));
            }
        }
        if self.kind == RingKind::ByteBroadcast && self.message_align != 1 {
            return Err(invalid("messages of any length are aligned to one byte"));
        }
        let shape = self.cell_shape();
        match self.kind {
            RingKind::Latest if self.capacity != 1 => {
                Err(invalid("a variable has one latest value"))
            }
            RingKind::Latest => latest::words_for(shape, self.participants)
                .filter(|&words| words < 1 << 45)
                .ok_or(invalid(too_large)),
            RingKind::Broadcast | RingKind::ByteBroadcast => slots::words_for(shape, self.capacity)
                .filter(|&words| words < 1 << 45)
                .ok_or(invalid(too_large)),
            RingKind::Slots => {
                let words = if self.topology.is_shared() {
                    if !self.capacity.is_power_of_two() {
                        return Err(invalid(
                            "a ring with shared sides has a power of two of slots",
                        ));
                    }
                    claims::words_for(shape, self.capacity)
                } else {
                    slots::words_for(shape, self.capacity)
                };
                words.filter(|&words| words < 1 << 45).ok_or(invalid(too_large))
            }
            RingKind::Mailbox => {
                if self.topology != Topology::Mpmc {
                    return Err(invalid("a mailbox has many senders and many receivers"));
                }
                if !(1..=mailbox::MOST_TYPES).contains(&self.types) {
                    return Err(invalid("a mailbox has 1 to 64 types of messages"));
                }
                if !self.capacity.is_power_of_two() || self.message_align != 1 {
                    return Err(invalid("a lane has a power of two of slots, aligned to words"));
                }
                claims::words_for(mailbox::shape(self.message_size), self.capacity)
                    .and_then(|words| words.checked_next_multiple_of(layout::PAGE / 8))
                    .and_then(|words| words.checked_mul(self.types))
                    .filter(|&words| words < 1 << 45)
                    .ok_or(invalid(too_large))
            }
            RingKind::Bytes if self.topology.shares(Role::Receiver) => {
                Err(invalid("messages of any size have one receiver"))
            }
            RingKind::Bytes if self.capacity > records::MAX_CAPACITY => Err(invalid(too_large)),
            RingKind::Bytes if self.is_laned() => self
                .lane_words()
                .checked_mul(self.participants)
                .filter(|&words| words < 1 << 45)
                .ok_or(invalid(too_large)),
            RingKind::Bytes => Ok(records::words_for(self.capacity)),
            RingKind::Semaphore | RingKind::Event => Ok(0),
        }
    }

    /// What a message takes in a cell, where messages lie in cells.
    pub(crate) fn cell_shape(&self) -> slots::Untyped {
        let length = if self.kind == RingKind::ByteBroadcast { size_of::<u64>() } else { 0 };
        slots::Untyped(self.message_size + length)
    }

    /// A semaphore has no data, but limits.
    fn semaphore_words(&self) -> Result<usize, SetupError> {
        let reason = if !(1..=permits::MOST as usize).contains(&self.capacity) {
            "a semaphore is made for 1 to 65535 permits, of which none need be free at first"
        } else if self.message_size > self.capacity {
            "a semaphore begins with at most as many permits as it may have"
        } else {
            return Ok(0);
        };
        Err(SetupError::InvalidSize { reason })
    }

    /// Whether a participant with `role` has an entry in the table.
    pub(crate) fn has_entry(&self, role: Role) -> bool {
        match self.kind {
            RingKind::Slots => self.topology.is_shared(),
            // The receiver of all lanes needs none.
            RingKind::Bytes => self.is_laned() && role == Role::Sender,
            RingKind::Latest | RingKind::Broadcast | RingKind::ByteBroadcast => {
                role == Role::Receiver
            }
            RingKind::Semaphore | RingKind::Mailbox => true,
            RingKind::Event => false,
        }
    }

    /// Whether somebody who dies may leave what keeps others waiting: a claim, or a permit.
    pub(crate) fn has_claims(&self) -> bool {
        match self.kind {
            RingKind::Slots => self.topology.is_shared(),
            RingKind::Semaphore | RingKind::Mailbox => true,
            _ => false,
        }
    }

    /// Whether a participant with `role` may be held up by somebody who is dead, and should find out.
    pub(crate) fn frees_the_dead(&self, role: Role) -> bool {
        self.has_claims() || (self.kind.is_broadcast() && role == Role::Sender)
    }

    /// How many receivers have a half of their own.
    pub(crate) fn places(&self) -> usize {
        if self.kind.is_broadcast() { self.participants } else { 0 }
    }

    /// Whether each sender has a lane of its own.
    pub(crate) fn is_laned(&self) -> bool {
        self.kind == RingKind::Bytes && self.topology.is_shared()
    }

    /// Whether each type of messages has a lane of its own.
    pub(crate) fn is_mailbox(&self) -> bool {
        self.kind == RingKind::Mailbox
    }

    /// How many lanes there are.
    pub(crate) fn lanes(&self) -> usize {
        match self.kind {
            RingKind::Mailbox => self.types,
            _ if self.is_laned() => self.participants,
            _ => 0,
        }
    }

    /// Bytes of what a lane has before its data: the halves, and in a mailbox a table of journals.
    pub(crate) fn lane_stride(&self) -> usize {
        let journals = if self.is_mailbox() { self.table_size() } else { 0 };
        2 * layout::PAGE + journals
    }

    /// Bytes of the table of participants, in whole pages.
    fn table_size(&self) -> usize {
        (self.participants * size_of::<Entry>()).next_multiple_of(layout::PAGE)
    }

    /// Words of data of a lane, in whole pages.
    pub(crate) fn lane_words(&self) -> usize {
        if self.is_mailbox() {
            let words = claims::words_for(mailbox::shape(self.message_size), self.capacity);
            return words.map_or(0, |words| words.next_multiple_of(layout::PAGE / 8));
        }
        let words = records::words_for(lanes::lane_capacity(self.capacity, self.ordered));
        words.next_multiple_of(layout::PAGE / 8)
    }

    /// Where the halves of the lanes, or of the receivers, start.
    pub(crate) fn lanes_at(&self) -> usize {
        layout::DATA + self.table_size()
    }

    /// Where the data starts: behind the table of participants and the lanes' or receivers' halves, if there are
    /// any.
    pub(crate) fn data_at(&self) -> usize {
        if self.part != Part::Whole {
            return layout::OWN_DATA;
        }
        let lanes = self.lanes() * self.lane_stride();
        self.lanes_at() + lanes + self.places() * layout::PAGE
    }

    /// Bytes of the segment in pages of `unit` bytes.
    pub(crate) fn size(&self, unit: u64) -> Result<u64, SetupError> {
        let words = self.data_words()? as u64;
        let data = if self.part == Part::Half(Role::Receiver) { 0 } else { words * 8 };
        let bytes = self.data_at() as u64 + data;
        Ok(bytes.next_multiple_of(unit))
    }

    /// Checks the options before anything is made.
    pub(crate) fn check(&self) -> Result<(), SetupError> {
        self.data_words()?;
        if self.ordered && !self.is_laned() {
            return Err(SetupError::InvalidSize {
                reason: "only a ring with lanes can be ordered",
            });
        }
        if self.types != 0 && !self.is_mailbox() {
            return Err(SetupError::InvalidSize { reason: "only a mailbox has types of messages" });
        }
        if self.part != Part::Whole
            && (self.topology.is_shared() || self.persistent || self.huge_pages)
        {
            return Err(SetupError::InvalidSize {
                reason: "a split ring has one sender and one receiver, ends with them, and has no huge pages",
            });
        }
        if !self.kind.is_ring() && self.topology != Topology::Mpmc {
            let reason = "semaphores and events are for many; their topology is mpmc";
            return Err(SetupError::InvalidSize { reason });
        }
        let has_table = self.topology.is_shared() && self.kind != RingKind::Event;
        let most = if has_table { 1..=MAX_PARTICIPANTS } else { 0..=0 };
        if !most.contains(&self.participants) {
            let reason = "a ring with shared sides, or a semaphore, has a table of 1 to 1024 participants; others have none";
            return Err(SetupError::InvalidSize { reason });
        }
        if self.mode & !0o666 != 0 || self.mode & 0o600 != 0o600 {
            return Err(SetupError::InvalidMode { mode: self.mode });
        }
        if self.metadata.len() > METADATA {
            return Err(SetupError::InvalidSize { reason: "metadata has at most 1024 bytes" });
        }
        if self.label.len() > LABEL || self.label.contains('\0') {
            let reason =
                "is too long for a label or contains a zero byte; give up to 64 bytes without any";
            return Err(SetupError::InvalidName { name: self.label.clone(), reason });
        }
        Ok(())
    }

    /// Writes the header of a segment of `size` bytes.
    pub(crate) fn write(&self, header: &Header, size: u64) {
        let flags = [
            (self.persistent, flag::PERSISTENT),
            (self.prefault, flag::PREFAULT),
            (self.huge_pages, flag::HUGE_PAGES),
            (self.ordered, flag::ORDERED),
        ];
        let flags = flags.iter().filter(|(set, _)| *set).fold(0, |all, (_, bit)| all | bit);
        write_bytes(&header.label, self.label.as_bytes());
        write_bytes(&header.metadata, &self.metadata);
        for (field, value) in [
            (&header.version, VERSION),
            (&header.kind, self.kind.number()),
            (&header.topology, self.topology.number()),
            (&header.flags, flags),
            (&header.size, size),
            (&header.capacity, self.capacity as u64),
            (&header.message_size, self.message_size as u64),
            (&header.message_align, self.message_align as u64),
            (&header.mode, u64::from(self.mode)),
            (&header.creator, u64::from(std::process::id())),
            (&header.created, clock::wall_nanoseconds()),
            (&header.participants, self.participants as u64),
            (&header.part, self.part.number()),
            (&header.metadata_size, self.metadata.len() as u64),
            (&header.types, self.types as u64),
        ] {
            field.store(value, Ordering::Relaxed);
        }
        // Last, though nobody can see the segment yet.
        header.magic.store(MAGIC, Ordering::Release);
    }

    /// Reads the header of a file of `actual` bytes in pages of `unit` bytes that is to hold `wanted`: each
    /// field once, and nothing is believed that the sizes do not bear out.
    pub(crate) fn read(
        header: &Header,
        wanted: Part,
        actual: u64,
        unit: u64,
    ) -> Result<(Self, Origin), SetupError> {
        if acquire(&header.magic) != MAGIC {
            return Err(SetupError::NotARing);
        }
        let version = header.version.load(Ordering::Relaxed);
        if version != VERSION {
            return Err(SetupError::Version { expected: VERSION, actual: version });
        }
        let kind = header.kind.load(Ordering::Relaxed);
        let topology = header.topology.load(Ordering::Relaxed);
        let unknown = |what: &str, number: u64| SetupError::Kind {
            expected: "anything that this version knows",
            actual: format!("{what} {number}"),
        };
        let kind = RingKind::of(kind).ok_or_else(|| unknown("kind", kind))?;
        let topology = Topology::of(topology).ok_or_else(|| unknown("topology", topology))?;
        let part = header.part.load(Ordering::Relaxed);
        let part = Part::of(part).ok_or_else(|| unknown("part", part))?;
        if part != wanted {
            let actual = part.describe().to_owned();
            return Err(SetupError::Kind { expected: wanted.describe(), actual });
        }
        let flags = header.flags.load(Ordering::Relaxed);
        if flags & !flag::KNOWN != 0 {
            return Err(unknown("flags", flags));
        }
        let number = |field: &AtomicU64| {
            usize::try_from(field.load(Ordering::Relaxed)).map_err(|_| SetupError::Corrupt)
        };
        let mut label = [0; LABEL];
        read_bytes(&header.label, &mut label);
        let length = label.iter().position(|&byte| byte == 0).unwrap_or(LABEL);
        let mut metadata = [0; METADATA];
        read_bytes(&header.metadata, &mut metadata);
        let metadata_size = number(&header.metadata_size)?;
        let is_padding =
            |bytes: Option<&[u8]>| bytes.is_some_and(|rest| rest.iter().all(|&b| b == 0));
        if !is_padding(label.get(length..)) || !is_padding(metadata.get(metadata_size..)) {
            return Err(SetupError::Corrupt);
        }
        // Whoever gives these bytes a meaning in this version relies on being refused here.
        let reserved = |word: &AtomicU64| word.load(Ordering::Relaxed) != 0;
        if let Some(at) = header.reserved.iter().position(reserved) {
            return Err(unknown("something in the reserved word", at as u64));
        }
        let half_word = |field: &AtomicU64| {
            u32::try_from(field.load(Ordering::Relaxed)).map_err(|_| SetupError::Corrupt)
        };
        let spec = Self {
            kind,
            topology,
            persistent: flags & flag::PERSISTENT != 0,
            prefault: flags & flag::PREFAULT != 0,
            huge_pages: flags & flag::HUGE_PAGES != 0,
            ordered: flags & flag::ORDERED != 0,
            capacity: number(&header.capacity)?,
            message_size: number(&header.message_size)?,
            message_align: number(&header.message_align)?,
            mode: half_word(&header.mode)?,
            participants: number(&header.participants)?,
            part,
            types: number(&header.types)?,
            label: core::str::from_utf8(&label[..length])
                .map_err(|_| SetupError::Corrupt)?
                .to_owned(),
            metadata: metadata[..metadata_size].into(),
        };
        spec.check().map_err(|_| SetupError::Corrupt)?;
        let size = header.size.load(Ordering::Relaxed);
        let computed = spec.size(if spec.huge_pages { unit } else { UNIT })?;
        if size != actual || computed != actual {
            return Err(SetupError::Truncated { expected: computed, actual });
        }
        if !kind.is_ring() && spec.message_align != 1 {
            return Err(SetupError::Corrupt);
        }
        let longest = (records::max_message(spec.capacity), 1);
        if kind == RingKind::Bytes && (spec.message_size, spec.message_align) != longest {
            return Err(SetupError::Corrupt);
        }
        let origin = Origin {
            creator: half_word(&header.creator)?,
            created: header.created.load(Ordering::Relaxed),
        };
        Ok((spec, origin))
    }
}

/// Stores `bytes`, padded with zeroes.
fn write_bytes(words: &[AtomicU64], bytes: &[u8]) {
    for (i, word) in words.iter().enumerate() {
        let mut padded = [0; 8];
        let rest = bytes.get(i * 8..).unwrap_or_default();
        let count = rest.len().min(8);
        padded[..count].copy_from_slice(&rest[..count]);
        word.store(u64::from_le_bytes(padded), Ordering::Relaxed);
    }
}

/// Loads as many bytes as there are.
fn read_bytes(words: &[AtomicU64], bytes: &mut [u8]) {
    for (bytes, word) in bytes.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
    }
}

/// What an opener insists on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    pub(crate) kind: Option<RingKind>,
    /// Another kind that will do.
    pub(crate) or: Option<RingKind>,
    pub(crate) topology: Option<Topology>,
    /// Size and alignment of a message.
    pub(crate) message: Option<(usize, usize)>,
    pub(crate) label: Option<String>,
    pub(crate) owner: Option<u32>,
    pub(crate) mode: Option<u32>,
    /// The most bytes of a half that is made because a peer says so.
    pub(crate) most_bytes: Option<u64>,
}

impl Expected {
    /// Checks what the header says.
    pub(crate) fn check(&self, spec: &Spec) -> Result<(), SetupError> {
        if let Some(kind) = self.kind {
            if kind != spec.kind && self.or != Some(spec.kind) {
                return Err(SetupError::Kind {
                    expected: kind.describe(),
                    actual: spec.kind.describe().to_owned(),
                });
            }
        }
        if let Some(topology) = self.topology {
            if topology != spec.topology {
                return Err(SetupError::Kind {
                    expected: topology.name(),
                    actual: spec.topology.name().to_owned(),
                });
            }
        }
        if let Some(message) = self.message {
            if message != (spec.message_size, spec.message_align) {
                return Err(SetupError::Payload {
                    expected: message,
                    actual: (spec.message_size as u64, spec.message_align as u64),
                });
            }
        }
        match &self.label {
            Some(label) if *label != spec.label => {
                Err(SetupError::Label { expected: label.clone(), actual: spec.label.clone() })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header says what it likes. What it says is refused, or its sizes can be computed.
    #[test]
    fn no_sizes_overflow() {
        let extremes = [0, 1, 7, 8, 1024, 1 << 32, 1 << 40, 1 << 44, usize::MAX / 2, usize::MAX];
        let kinds = [
            RingKind::Slots,
            RingKind::Bytes,
            RingKind::Semaphore,
            RingKind::Event,
            RingKind::Latest,
            RingKind::Mailbox,
            RingKind::Broadcast,
            RingKind::ByteBroadcast,
        ];
        let of_each = extremes.map(|a| extremes.map(|b| (a, b))).concat();
        let mut sound = 0;
        for (kind, topology) in kinds.map(|kind| Topology::ALL.map(|t| (kind, t))).concat() {
            for &(capacity, message_size) in &of_each {
                for &(participants, types) in &of_each {
                    let sole = Spec::sole(kind, capacity, (message_size, 1));
                    let spec = Spec { topology, participants, types, ..sole };
                    let Ok(words) = spec.data_words() else {
                        assert!(spec.check().is_err());
                        continue;
                    };
                    // Each reader has a buffer, so fewer would be a sum that has wrapped.
                    assert!(kind != RingKind::Latest || words >= participants, "{spec:?}");
                    if spec.check().is_ok() {
                        let size = spec.size(UNIT).unwrap();
                        assert!(size >= words as u64 && size < 1 << 50, "{spec:?}");
                        sound += 1;
                    }
                }
            }
        }
        assert!(sound > 100, "most are refused, not all");
    }
}
