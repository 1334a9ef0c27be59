//! Records: a ring of whole messages of any length with one sender and one receiver.
//!
//! A length in band that turns from zero to non-zero when the message is complete is how Agrona's ring
//! buffers (Real Logic) and BPF's ring buffer publish; the consumer of those zeroes what it has read.
//! Ours is that the **sender** zeroes the header *after* the record that it is about to publish. The
//! receiver never writes the data, so its lines travel one way only and it needs no right to write
//! them, and what a dead sender left half done is invisible by construction.
//!
//! ```text
//! header word = { len:32 | kind:8 | 0:24 }     one record: header, then len bytes, padded to 8
//!
//!   0                             nothing here yet; the header at tail is always 0
//!   DATA, len                     a message
//!   PAD,  len = rest of the lap   skip to the start of the data
//!
//! sender:   [PAD if the record does not fit before the end]  payload; zero the next header; header (R1)
//! receiver: header (R1); payload; head += record (R3); now and then released = head (R2)
//! ```
//!
//! A pad is published on its own, before there is room for the record itself: the receiver skips it, so
//! a message as long as the whole ring still gets through once the ring has run dry.

use super::layout::Half;
use super::pace::Pace;
use super::room::{self, Edges, Look, Releases, Room};
use super::{Blocked, release_period};
use crate::payload::{self, AHEAD, LINE, WORD};
use crate::sync::{Bound, Edge, Ordering, Word, prefetch_for_read};

/// The longest message of any ring: a length has 32 bits.
pub const MAX_MESSAGE: usize = u32::MAX as usize - 2 * WORD;
/// The largest capacity in bytes: keeps every size computed from it far from overflow.
pub const MAX_CAPACITY: usize = 1 << 44;
/// The most bytes between two publications of `released`.
const PERIOD: u64 = 8 * 1024;
/// Bytes of a header.
const HEADER: usize = WORD;
/// How many bytes of lines a sender makes its own at a time, at least and at most: in between, as many as the next record
/// needs if that is as long as the last one. Those of longer ones become its own while they are written.
const OWNED: (usize, usize) = (2 * 1024, 2 * payload::BLOCK);
/// The longest record whose line is made the sender's message by message, too.
const SMALL: usize = 2 * LINE * WORD;

/// The edges that tell the sender of room.
const ROOM: Edges = Edges {
    store: (Edge::SpaceStore, Edge::SpaceHeadStore),
    load: (Edge::SpaceLoad, Edge::SpaceHeadLoad),
};

const DATA: u64 = 1 << 32;
const PAD: u64 = 2 << 32;
const LENGTH: u64 = (1 << 32) - 1;

/// Words of a message of `len` bytes. No sum here overflows: no length is above [`MAX_CAPACITY`].
#[inline(always)]
const fn words_of_bytes(len: usize) -> usize {
    (len + (WORD - 1)) >> WORD.ilog2()
}

/// Bytes of the record of a message of `len` bytes.
#[inline(always)]
pub const fn record(len: usize) -> usize {
    HEADER + words_of_bytes(len) * WORD
}

/// Words of data that a ring of `capacity` bytes needs: one message as long as the ring, and the zero
/// header after it.
pub fn words_for(capacity: usize) -> usize {
    (record(capacity) + HEADER) / WORD
}

/// The longest message of a ring of `capacity` bytes.
pub fn max_message(capacity: usize) -> usize {
    capacity.min(MAX_MESSAGE)
}

/// The memory that both sides see, as long as they borrow it.
#[derive(Clone, Copy)]
pub struct Records<'a> {
    /// The sender's half.
    pub sender: &'a Half,
    /// The receiver's half.
    pub receiver: &'a Half,
    /// The data.
    pub words: &'a [Word],
}

impl core::fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Records").finish_non_exhaustive()
    }
}

/// A stretch of payload words.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Index of the first word.
    start: usize,
    /// Bytes of the message.
    len: usize,
}

impl Span {
    /// Bytes of the message.
    pub fn len(self) -> usize {
        self.len
    }

    /// Without the first word of the message; `None` if there is none.
    #[inline(always)]
    pub fn behind_stamp(self) -> Option<Self> {
        Some(Self { start: self.start + 1, len: self.len.checked_sub(WORD)? })
    }

    /// With the word before the message: what [`behind_stamp`](Self::behind_stamp) was made of.
    #[inline(always)]
    pub fn with_stamp(self) -> Self {
        Self { start: self.start - 1, len: self.len + WORD }
    }

    /// The words, in a ring that the span was made for.
    #[inline(always)]
    pub fn words(self, mem: Records<'_>) -> &[Word] {
        &mem.words[self.start..self.start + words_of_bytes(self.len)]
    }
}

/// What a header says, checked against the room that there is for a record at `offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Header {
    Nothing,
    Data(usize),
    Pad,
    Broken,
}

#[inline(always)]
fn parse(header: u64, offset: usize, size: usize) -> Header {
    let rest = size - offset - HEADER;
    let len = (header & LENGTH) as usize;
    // The compiler keeps this order, which it does not with the arms of a `match`: most often it is a message.
    if header & !LENGTH == DATA && len <= rest {
        Header::Data(len)
    } else if header == 0 {
        Header::Nothing
    } else if header == PAD | rest as u64 && offset != 0 && rest as u64 <= LENGTH {
        Header::Pad
    } else {
        Header::Broken
    }
}

/// The header word at byte `offset`, which is below the size of the data and a multiple of a word.
#[inline(always)]
fn header(words: &[Word], offset: usize) -> &Word {
    &words[offset / WORD]
}

/// Asks for the lines of a record of `bytes` bytes that lies a stream's way ahead of `offset`: what comes
/// then is likely as long.
// Some lines twice, if records end within them: a count that differs from record to record costs more.
#[inline(always)]
fn ask_ahead(mem: Records<'_>, offset: usize, bytes: usize, ask: impl Fn(*const Word)) {
    let start = mem.words.as_ptr().wrapping_byte_add(offset + AHEAD * WORD);
    payload::ask_for_message(start, bytes, ask);
}

/// The sender's private state.
#[derive(Debug)]
pub struct SendCursor {
    /// Where the next record begins, within the data.
    offset: usize,
    /// Where this lap began: `tail` is `offset` bytes further on.
    lap: u64,
    messages: u64,
    /// Where the next record may end, within the data, without another look: as far as this lap goes, there is room, and
    /// lines are this side's, with a header behind it.
    clear: usize,
    room: Room,
    /// Bytes of data.
    size: usize,
}

impl SendCursor {
    /// Goes on where the last sender stopped: after its last published record, whether or not it lived
    /// to note that.
    pub fn recover(mem: Records<'_>, capacity: usize) -> Result<Self, Blocked> {
        let size = words_for(capacity) * WORD;
        assert!(size / WORD <= mem.words.len(), "a ring of {capacity} bytes needs {size} bytes");
        let usable = (size - HEADER) as u64;
        // S4 note.
        let noted = Edge::NoteLoad.acquire(&mem.sender.cursor.position);
        let head = ROOM.load.1.acquire(&mem.receiver.cursor.position);
        room::check(noted, head, usable)?;
        // The last sender may have died before it noted a record that the receiver has taken already.
        let mut tail = noted.max(head);
        if !(tail | head).is_multiple_of(WORD as u64) {
            return Err(Blocked::Corrupt);
        }
        let mut offset = (tail % size as u64) as usize;
        let mut messages = mem.sender.cursor.messages.load(Ordering::Relaxed);
        loop {
            let length =
                match parse(Edge::RecordLoad.acquire(header(mem.words, offset)), offset, size) {
                    Header::Nothing => break,
                    Header::Data(len) => {
                        messages = messages.wrapping_add(1);
                        record(len)
                    }
                    Header::Pad => size - offset,
                    Header::Broken => return Err(Blocked::Corrupt),
                };
            tail += length as u64;
            offset = (offset + length) % size;
            if tail - head > usable {
                return Err(Blocked::Corrupt);
            }
        }
        mem.sender.cursor.position.store(tail, Ordering::Relaxed);
        let room = Room::new(head, usable, messages, ROOM);
        Ok(Self { offset, lap: tail - offset as u64, messages, clear: 0, room, size })
    }

    fn tail(&self) -> u64 {
        self.lap + self.offset as u64
    }

    /// Finds room for a message of `len` bytes, which must be at most [`max_message`], and writes the zero that follows it. Nobody
    /// sees anything of it before [`commit`](Self::commit).
    ///
    /// `NotReady` may have published a pad: whoever waits for messages must be notified all the same.
    #[inline(always)]
    pub fn try_reserve(
        &mut self,
        mem: Records<'_>,
        len: usize,
        look: Look,
    ) -> Result<Span, Blocked> {
        let need = record(len);
        let next = self.offset + need;
        if next <= self.clear {
            // Before the payload, not after it: it may lie on the next line, and a receiver that looks for the header would
            // take that one's line meanwhile. Relaxed: R1 carries it.
            header(mem.words, next).store(0, Ordering::Relaxed);
        } else {
            self.make_room(mem.sender, mem.receiver, mem.words, need, look)?;
        }
        Ok(Span { start: (self.offset + HEADER) / WORD, len })
    }

    /// The same for a record of `need` bytes that is not known to have room in this lap.
    // The memory comes in parts, in registers: as a whole it would be put together on the stack for each message.
    #[cold]
    #[inline(never)]
    fn make_room(
        &mut self,
        sender: &Half,
        receiver: &Half,
        words: &[Word],
        need: usize,
        look: Look,
    ) -> Result<(), Blocked> {
        let mem = Records { sender, receiver, words };
        if need > self.size - self.offset {
            self.pad(mem, look)?;
        }
        self.find_room(mem, need, look)?;
        let next = self.offset + need;
        header(mem.words, if next == self.size { 0 } else { next }).store(0, Ordering::Relaxed);
        Ok(())
    }

    fn find_room(&mut self, mem: Records<'_>, bytes: usize, look: Look) -> Result<(), Blocked> {
        let tail = self.tail();
        let wanted = tail + bytes as u64;
        if wanted <= self.room.limit {
            return Ok(());
        }
        self.room.find(mem.sender, mem.receiver, (tail, wanted), self.messages, look)
    }

    /// Ends the lap.
    fn pad(&mut self, mem: Records<'_>, look: Look) -> Result<(), Blocked> {
        let rest = self.size - self.offset;
        self.find_room(mem, rest, look)?;
        header(mem.words, 0).store(0, Ordering::Relaxed);
        // R1 record: the zero in the header after the pad.
        let pad = PAD | (rest - HEADER) as u64;
        header(mem.words, self.offset).store(pad, Edge::RecordStore.store());
        self.go_on(mem.sender, self.size);
        self.turn();
        Ok(())
    }

    /// Publishes the message whose payload has been written into `span`, which was reserved last.
    // The span says where: while the payload is copied, everything in memory may change, as far as the compiler knows.
    #[inline(always)]
    pub fn commit(&mut self, mem: Records<'_>, span: Span) {
        let need = record(span.len);
        // R1 record: the payload, and the zero after it.
        mem.words[span.start - 1].store(DATA | span.len as u64, Edge::RecordStore.store());
        self.messages = self.messages.wrapping_add(1);
        mem.sender.cursor.messages.store(self.messages, Ordering::Relaxed);
        let next = span.start * WORD - HEADER + need;
        self.go_on(mem.sender, next);
        if (next + need) as u64 > Bound::NextRecord.of_bytes(self.clear as u64) {
            self.own_ahead(mem.words, need);
        } else if need <= SMALL {
            own_line(mem.words, next, need);
        }
    }

    /// Goes on at `next`, which may be the end of the data.
    #[inline(always)]
    fn go_on(&mut self, sender: &Half, next: usize) {
        self.offset = next;
        // S4 note: never ahead of what is published, in whatever order the two become visible.
        sender.cursor.position.store(self.tail(), Edge::NoteStore.store());
    }

    /// Messages that were sent.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Makes the lines of the next record this side's, its header's and the one behind, where there is room for it. Before
    /// the receiver has read the last record, this may take that away from it.
    #[inline(always)]
    pub fn own_next(&self, words: &[Word]) {
        let line = (self.offset + HEADER).next_multiple_of(LINE * WORD);
        if line as u64 <= Bound::BesideRecord.of_bytes(self.clear as u64) {
            // What is there already.
            header(words, self.offset).store(0, Ordering::Relaxed);
            words[line / WORD].write(0);
        }
    }

    /// Begins the next lap.
    fn turn(&mut self) {
        self.lap += self.size as u64;
        (self.offset, self.clear) = (0, 0);
    }

    /// Makes the lines of the next records this side's, when the last one took `need` bytes.
    ///
    /// The receiver has read them in the last lap, so the first store to each has to wait until the other processor has
    /// let go of it, and keeps all later ones waiting. Between the first stores to two lines lie all the stores of a message, so
    /// that few lines fit into the store buffer; one word of each, one after the other, and it is one wait for all of them.
    /// (`prefetchw` is not always heeded for a line that this processor has, too.)
    #[cold]
    #[inline(never)]
    fn own_ahead(&mut self, words: &[Word], need: usize) {
        if self.offset == self.size {
            self.turn();
        }
        let room = Bound::OwnedBytes.of_bytes(self.room.limit).saturating_sub(self.tail());
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let wanted = if need > OWNED.1 { OWNED.0 } else { (need + HEADER).clamp(OWNED.0, OWNED.1) };
        let end = (self.offset + wanted.min(room)).min(self.size);
        // Behind the header at `tail`, below the limit: nobody reads there, and the records overwrite it.
        let mut at = (self.clear.max(self.offset) + HEADER).next_multiple_of(LINE * WORD);
        while at + WORD <= end {
            words[at / WORD].write(0);
            at += LINE * WORD;
        }
        self.clear = self.clear.max(end.saturating_sub(HEADER));
    }
}

/// Makes the line into which the record at `offset` reaches, if it has `need` bytes as the last one, the sender's once more: where
/// messages come one at a time, the other processor has taken it meanwhile, beside a line that it looked at. The next
/// look takes it again, but a store to a line that this side has lent takes half as long as one to a line that it must
/// get back.
///
/// Such a record, and a header behind it, must be [clear](SendCursor::clear).
#[inline(always)]
fn own_line(words: &[Word], offset: usize, need: usize) {
    let line = (offset + HEADER).next_multiple_of(LINE * WORD);
    if line <= offset + need {
        words[line / WORD].write(0);
    }
}

/// The receiver's private state.
#[derive(Debug)]
pub struct RecvCursor {
    /// Where the oldest record begins, within the data.
    offset: usize,
    /// Where this lap began: `head` is `offset` bytes further on.
    lap: u64,
    messages: u64,
    /// How far the sender is, when it was looked up last: a hint for asking ahead, for the lines at which
    /// the sender still is must not be taken away from it.
    sent: u64,
    /// Whether the last look found a message: then there are likely more.
    streaming: bool,
    pace: Pace,
    releases: Releases,
    /// Bytes of data.
    size: usize,
}

/// Whether anything stands where the receiver says that it is, for one who only reads. While that one goes on it may be
/// anything.
pub fn is_record_at_head(mem: Records<'_>, capacity: usize) -> bool {
    let size = words_for(capacity) * WORD;
    let head = mem.receiver.cursor.position.load(Ordering::Relaxed);
    // R1 record.
    Edge::RecordLoad.acquire(header(mem.words, (head % size as u64) as usize)) != 0
}

/// A position ahead of a receiver's own.
#[derive(Clone, Copy, Debug)]
pub struct Ahead {
    /// Within the data.
    offset: usize,
    /// Bytes of records between the receiver and here.
    passed: usize,
}

impl Ahead {
    /// Bytes of records between the receiver and here.
    pub fn passed(&self) -> usize {
        self.passed
    }
}

impl RecvCursor {
    /// Goes on where the last receiver stopped. A message that it copied out but did not live to note
    /// is delivered again.
    pub fn recover(mem: Records<'_>, capacity: usize) -> Result<Self, Blocked> {
        let size = words_for(capacity) * WORD;
        assert!(size / WORD <= mem.words.len(), "a ring of {capacity} bytes needs {size} bytes");
        let head = mem.receiver.cursor.position.load(Ordering::Relaxed);
        let noted = mem.sender.cursor.position.load(Ordering::Relaxed);
        room::check(noted, head, size as u64)?;
        if !head.is_multiple_of(WORD as u64) {
            return Err(Blocked::Corrupt);
        }
        let releases = Releases::new(mem.receiver, head, release_period(size as u64, PERIOD), ROOM);
        let messages = mem.receiver.cursor.messages.load(Ordering::Relaxed);
        let offset = (head % size as u64) as usize;
        Ok(Self {
            offset,
            lap: head - offset as u64,
            messages,
            sent: head,
            streaming: false,
            pace: Pace::new(messages),
            releases,
            size,
        })
    }

    /// The oldest message, which stays where it is until [`release`](Self::release).
    #[inline(always)]
    pub fn try_claim(&mut self, mem: Records<'_>) -> Result<Span, Blocked> {
        let len = self.look(mem)?;
        Ok(self.oldest(mem, len))
    }

    /// The length of the oldest message.
    #[inline(always)]
    pub fn look(&mut self, mem: Records<'_>) -> Result<usize, Blocked> {
        loop {
            match self.glance(mem) {
                // Once: only what is received in between makes it a stream again.
                Err(Blocked::NotReady) if self.gives_way(mem.words) => {}
                done => return done,
            }
        }
    }

    /// Whether messages come one at a time.
    #[inline(always)]
    pub fn awaits_answer(&self) -> bool {
        self.pace.is_conversation(self.messages)
    }

    /// Takes note that it has waited for an answer before it looked.
    #[inline(always)]
    pub fn converse(&mut self) {
        self.streaming = false;
        self.pace.converse(self.messages);
    }

    /// Messages that were received.
    #[inline(always)]
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Stays for a moment if the answer that it [awaits](Self::awaits_answer) is not there; whether that brought something to
    /// look at.
    #[inline(always)]
    pub fn linger(&mut self, mem: Records<'_>) -> bool {
        let header = header(mem.words, self.offset);
        if header.load(Ordering::Relaxed) != 0 {
            return false;
        }
        self.streaming = false;
        let look = || (header.load(Ordering::Relaxed) != 0).then_some(());
        self.pace.linger(self.messages, look).is_some()
    }

    /// The length of the oldest message; a look that takes no time if there is none.
    #[inline(always)]
    pub fn glance(&mut self, mem: Records<'_>) -> Result<usize, Blocked> {
        // At most twice: no pad starts a lap.
        loop {
            // R1 record.
            let found = Edge::RecordLoad.acquire(header(mem.words, self.offset));
            match parse(found, self.offset, self.size) {
                Header::Data(len) => return Ok(len),
                Header::Nothing => return Err(Blocked::NotReady),
                Header::Pad => self.skip_pad(mem.receiver),
                Header::Broken => return Err(Blocked::Corrupt),
            }
        }
    }

    /// The oldest message, which has `len` bytes.
    #[inline(always)]
    pub fn oldest(&mut self, mem: Records<'_>, len: usize) -> Span {
        self.ask_ahead(mem, record(len));
        Span { start: (self.offset + HEADER) / WORD, len }
    }

    #[cold]
    #[inline(never)]
    fn skip_pad(&mut self, receiver: &Half) {
        self.go_on(receiver, self.size);
    }

    /// Lets the sender get ahead, in a stream; whether it is worth another look.
    #[cold]
    #[inline(never)]
    fn gives_way(&mut self, words: &[Word]) -> bool {
        self.streaming = false;
        let paused = self.pace.give_way(self.messages);
        if paused {
            let found = header(words, self.offset).load(Ordering::Relaxed);
            self.pace.learn(found != 0);
        }
        paused
    }

    /// Asks for lines that a stream comes to soon, when it is about to read a record of `bytes` bytes.
    #[inline(always)]
    fn ask_ahead(&mut self, mem: Records<'_>, bytes: usize) {
        let next = self.head() + bytes as u64;
        if self.sent > next + (AHEAD * WORD) as u64 {
            ask_ahead(mem, self.offset, bytes, prefetch_for_read);
        } else if self.sent < next {
            if self.streaming {
                self.look_beyond(mem.sender, next);
            }
            self.streaming = true;
        }
    }

    /// Learns how far the sender is from its own note. If that is not far, lets it get ahead.
    #[cold]
    #[inline(never)]
    fn look_beyond(&mut self, sender: &Half, next: u64) {
        // A hint: messages are taken by their headers only.
        let note = || sender.cursor.position.load(Ordering::Relaxed);
        self.sent = note();
        if self.sent <= next + (AHEAD * WORD) as u64 && self.pace.give_way(self.messages) {
            let before = self.sent;
            self.sent = note();
            self.pace.learn(self.sent > before);
        }
    }

    /// A position to look at messages from that are not taken yet: first the oldest one.
    #[inline(always)]
    pub fn ahead(&self) -> Ahead {
        Ahead { offset: self.offset, passed: 0 }
    }

    /// The message at `ahead`, which then stands after it. Nothing is written: the messages stay this
    /// receiver's next ones.
    #[inline(always)]
    pub fn try_peek(&self, mem: Records<'_>, ahead: &mut Ahead) -> Result<Span, Blocked> {
        loop {
            // R1 record.
            let found = Edge::RecordLoad.acquire(header(mem.words, ahead.offset));
            let (length, span) = match parse(found, ahead.offset, self.size) {
                Header::Data(len) => {
                    (record(len), Some(Span { start: (ahead.offset + HEADER) / WORD, len }))
                }
                Header::Nothing => return Err(Blocked::NotReady),
                Header::Pad => (self.size - ahead.offset, None),
                Header::Broken => return Err(Blocked::Corrupt),
            };
            ahead.passed += length;
            ahead.offset = (ahead.offset + length) % self.size;
            // A zero word follows the last record of a full ring; who gets past it goes in circles.
            if ahead.passed > self.size - HEADER {
                return Err(Blocked::Corrupt);
            }
            if let Some(span) = span {
                return Ok(span);
            }
        }
    }

    /// Gives the message's space back: it has been read for the last time.
    #[inline(always)]
    pub fn release(&mut self, mem: Records<'_>, span: Span) {
        self.messages = self.messages.wrapping_add(1);
        mem.receiver.cursor.messages.store(self.messages, Ordering::Relaxed);
        self.go_on(mem.receiver, span.start * WORD - HEADER + record(span.len));
    }

    #[inline(always)]
    fn head(&self) -> u64 {
        self.lap + self.offset as u64
    }

    /// Goes on at `next`, which may be the end of the data.
    #[inline(always)]
    fn go_on(&mut self, receiver: &Half, next: usize) {
        // R3 space head.
        self.releases.note(receiver, self.lap + next as u64);
        self.offset = next;
        if next == self.size {
            (self.lap, self.offset) = (self.lap + next as u64, 0);
        }
    }

    /// Whether the sender should be told of what was received.
    #[inline(always)]
    pub fn release_is_due(&self) -> bool {
        self.releases.are_due(self.head())
    }

    /// Tells the sender how far the receiver is; `false` if it had been told already.
    #[inline]
    pub fn publish(&mut self, mem: Records<'_>) -> bool {
        self.releases.publish(mem.receiver, self.head())
    }
}
