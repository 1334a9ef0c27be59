//! Lanes: a ring of records for each of many senders, and one receiver that goes round.
//!
//! Senders that share a position pay for it with the transfer of its line, message by message, the more of
//! them the more. With a lane of its own a sender meets nobody but the receiver, which is why a queue of
//! sub-queues (Desrochers' `ConcurrentQueue`, 2014) is what grows with its senders. A lane is a whole
//! ring of [`records`] with one sender and one receiver, so a killed sender leaves nothing that anybody would
//! have to repair, and its successor goes on in the lane as any sender does.
//!
//! What is added is how the receiver learns which lanes to look at:
//!
//! ```text
//!   lane 0   [halves] [records]  <- sender 0        active:  the receiver looks here, round after round
//!   lane 1   [halves] [records]  <- sender 1        quiet:   it waits for the lane's bit in the doorbell
//!     ...
//!   doorbell  0 1 0 0 ...        a bit for each lane, set by its sender, taken by the receiver
//!
//!   active --empty; announced in the lane; barrier P1; still empty--> quiet
//!   quiet  --its sender finds the announcement (P1) and sets the bit--> active
//! ```
//!
//! To a sender a receiver that lets its lane be quiet is one that goes to sleep, and to set the bit is to
//! ring: the same words and the same edge as in [`park`]. So while a lane is active, its sender touches nothing
//! that another sender writes. The doorbell itself stands in for a message when the receiver sleeps at last.
//!
//! The bits carry no order. A lane whose bit was taken is active, and is looked at until it is
//! announced again; whether its message is visible at the first look is of no consequence. A sender killed
//! before it sets its bit is found by the looks at all lanes that the receiver takes before each sleep,
//! after it, and every so many rounds.
//!
//! # Turns
//!
//! A lane hands out up to [`TURN`] bytes of records, then it is the next one's turn (deficit round robin, Shreedhar and
//! Varghese, 1995, with one message for the deficit). In an **ordered** ring the oldest message is next, by a
//! number that its sender drew when it committed. The receiver chooses the lowest number it sees, then looks
//! once more at the lanes that were empty before. So if one send had ended before another began, the one is
//! received before the other: whoever has seen the second (R1) sees the first in that look. Nobody waits for a
//! number that was drawn by somebody who was then killed.

use super::Blocked;
use super::pace::Pace;
use super::park::{self, Answered};
use super::records::{self, Ahead, Records, Span, record};
use crate::payload::WORD;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use core::ops::Range;

/// Bytes of records that a lane hands out in its turn.
const TURN: usize = 2048;
/// Rounds between two looks at all lanes.
const ROUNDS: u32 = 1024;
/// Rounds of announcements before a sleep. Each is for the lane of a sender that has just come, so there is hardly
/// ever a second one; a peer that never stops to ring gets no further than this.
const ANNOUNCEMENTS: usize = 16;
/// Lanes in a word of the doorbell.
const BITS: usize = 64;

/// Words of doorbell for `lanes` lanes.
pub const fn doorbell_words(lanes: usize) -> usize {
    lanes.div_ceil(BITS)
}

/// Bytes that a lane needs room for to hold `capacity` bytes of messages.
pub const fn lane_capacity(capacity: usize, ordered: bool) -> usize {
    if ordered { capacity + WORD } else { capacity }
}

/// Asks the receiver to look at `lane`.
pub fn ask(doorbell: &[AtomicU64], lane: usize) {
    doorbell[lane / BITS].fetch_or(1 << (lane % BITS), Ordering::Relaxed);
}

/// Gives the message in `span`, which is about to be committed, its number.
pub fn number(mem: Records<'_>, numbers: &AtomicU64, span: Span) {
    // Relaxed: whoever knows that another send has ended draws a higher one, as with any read-modify-write.
    let number = numbers.fetch_add(1, Ordering::Relaxed);
    span.words(mem)[0].store(number, Ordering::Relaxed);
}

/// The memory that the receiver sees, as long as it borrows it.
#[derive(Clone, Copy)]
pub struct Lanes<'a> {
    /// The lanes.
    pub lanes: &'a [Records<'a>],
    /// A bit for each.
    pub doorbell: &'a [AtomicU64],
}

/// What the receiver knows of a lane.
#[derive(Debug)]
struct Lane {
    cursor: records::RecvCursor,
    answered: Answered,
    /// Whether it had a message since the last time that lanes became quiet.
    served: bool,
    /// In an ordered ring: the number of the oldest message.
    front: Option<u64>,
}

/// The receiver's private state.
#[derive(Debug)]
pub struct RecvCursor {
    lanes: Box<[Lane]>,
    /// A bit for each lane that is looked at.
    active: Box<[u64]>,
    /// The lane whose turn it is.
    current: usize,
    /// Bytes of records that it may still hand out.
    turn: usize,
    rounds: u32,
    ordered: bool,
    messages: u64,
    pace: Pace,
}

impl RecvCursor {
    /// Goes on where the last receiver stopped, in every lane. `capacity` is a lane's; `fences` as for
    /// [`Answered::up_to_now`].
    pub fn recover(
        mem: Lanes<'_>,
        capacity: usize,
        ordered: bool,
        fences: bool,
    ) -> Result<Self, Blocked> {
        let capacity = lane_capacity(capacity, ordered);
        let lane = |mem: &Records<'_>| {
            let answered = Answered::up_to_now(mem.sender, fences);
            let cursor = records::RecvCursor::recover(*mem, capacity)?;
            Ok(Lane { cursor, answered, served: false, front: None })
        };
        let lanes = mem.lanes.iter().map(lane).collect::<Result<Box<_>, _>>()?;
        let mut cursor = Self {
            active: vec![0; doorbell_words(lanes.len())].into(),
            lanes,
            current: 0,
            turn: 0,
            rounds: 0,
            ordered,
            messages: 0,
            pace: Pace::new(0),
        };
        (0..cursor.lanes.len()).for_each(|lane| cursor.set_active(lane));
        Ok(cursor)
    }

    fn set_active(&mut self, lane: usize) {
        self.active[lane / BITS] |= 1 << (lane % BITS);
    }

    fn is_active(&self, lane: usize) -> bool {
        self.active[lane / BITS] & 1 << (lane % BITS) != 0
    }

    /// The first active lane in `range`.
    fn active_in(&self, range: Range<usize>) -> Option<usize> {
        let mut from = range.start;
        while from < range.end {
            let rest = self.active[from / BITS] >> (from % BITS);
            if rest != 0 {
                let lane = from + rest.trailing_zeros() as usize;
                return (lane < range.end).then_some(lane);
            }
            from = (from / BITS + 1) * BITS;
        }
        None
    }

    /// Which lane the message that was found is in.
    #[inline(always)]
    pub fn current(&self) -> usize {
        self.current
    }

    /// The next message, which stays where it is until [`release`](Self::release). `wake` wakes those who
    /// sleep on a word.
    #[inline(always)]
    pub fn try_claim(
        &mut self,
        mem: Lanes<'_>,
        wake: impl Fn(&AtomicU32),
    ) -> Result<Span, Blocked> {
        if self.turn > 0 {
            match self.glance(mem, self.current) {
                Err(Blocked::NotReady) => {}
                found => return self.here(mem, found?),
            }
        }
        self.look(mem, wake)?;
        let len = self.glance(mem, self.current)?;
        self.here(mem, len)
    }

    /// The oldest message of the current lane, which has `len` bytes.
    #[inline(always)]
    fn here(&mut self, mem: Lanes<'_>, len: usize) -> Result<Span, Blocked> {
        let span = self.lanes[self.current].cursor.oldest(mem.lanes[self.current], len);
        self.unnumbered(span)
    }

    /// What of a message is its sender's.
    #[inline(always)]
    fn unnumbered(&self, span: Span) -> Result<Span, Blocked> {
        if self.ordered { span.behind_stamp().ok_or(Blocked::Corrupt) } else { Ok(span) }
    }

    /// Finds the lane of the next message.
    #[cold]
    #[inline(never)]
    pub fn look(&mut self, mem: Lanes<'_>, wake: impl Fn(&AtomicU32)) -> Result<(), Blocked> {
        match self.find(mem, &wake) {
            Err(Blocked::NotReady) if self.pace.give_way(self.messages) => {}
            done => return done,
        }
        let found = self.find(mem, &wake);
        self.pace.learn(found.is_ok());
        found
    }

    fn find(&mut self, mem: Lanes<'_>, wake: &impl Fn(&AtomicU32)) -> Result<(), Blocked> {
        if self.turn > 0 && self.has_message(mem, self.current, wake)? {
            return Ok(());
        }
        self.hear(mem);
        if self.ordered {
            return self.find_oldest(mem, wake);
        }
        let (after, all) = (self.current + 1, self.lanes.len());
        for range in [after..all, 0..after] {
            let mut from = range.start;
            while let Some(lane) = self.active_in(from..range.end) {
                from = lane + 1;
                if self.has_message(mem, lane, wake)? {
                    self.rounds += u32::from(lane < after);
                    (self.current, self.turn) = (lane, TURN);
                    return Ok(());
                }
            }
        }
        Err(Blocked::NotReady)
    }

    /// Finds the lane of the oldest message in an ordered ring.
    fn find_oldest(&mut self, mem: Lanes<'_>, wake: &impl Fn(&AtomicU32)) -> Result<(), Blocked> {
        let mut lowest = None;
        // Each time but the last a lane has got its number, or its bit was set.
        for _ in 0..=2 * self.lanes.len() {
            let certain;
            (lowest, certain) = self.lowest(mem, wake)?;
            // After the message with the lowest number was seen.
            if !self.hear(mem) && certain {
                break;
            }
        }
        let (_, lane) = lowest.ok_or(Blocked::NotReady)?;
        self.rounds += 1;
        // No longer than for this message.
        (self.current, self.turn) = (lane, 0);
        Ok(())
    }

    /// The lowest number of a message that is there, and its lane; whether all active lanes in which there was
    /// nothing were looked at after that message was seen.
    fn lowest(
        &mut self,
        mem: Lanes<'_>,
        wake: &impl Fn(&AtomicU32),
    ) -> Result<(Option<(u64, usize)>, bool), Blocked> {
        let (mut lowest, mut news, mut empty) = (None, false, false);
        let mut from = 0;
        while let Some(at) = self.active_in(from..self.lanes.len()) {
            from = at + 1;
            if self.lanes[at].front.is_none() {
                if self.has_message(mem, at, wake)? {
                    let (lane, mem) = (&mut self.lanes[at], mem.lanes[at]);
                    let len = lane.cursor.glance(mem)?;
                    let span = lane.cursor.oldest(mem, len);
                    span.behind_stamp().ok_or(Blocked::Corrupt)?;
                    lane.front = Some(span.words(mem)[0].load(Ordering::Relaxed));
                    news = true;
                } else {
                    empty = true;
                }
            }
            if let Some(number) = self.lanes[at].front {
                if lowest.is_none_or(|(least, _)| number < least) {
                    lowest = Some((number, at));
                }
            }
        }
        Ok((lowest, !(news && empty)))
    }

    #[inline(always)]
    fn glance(&mut self, mem: Lanes<'_>, lane: usize) -> Result<usize, Blocked> {
        self.lanes[lane].cursor.glance(mem.lanes[lane])
    }

    /// Whether there is a message in `lane`; if not, its sender is told of all the room.
    fn has_message(
        &mut self,
        mem: Lanes<'_>,
        lane: usize,
        wake: &impl Fn(&AtomicU32),
    ) -> Result<bool, Blocked> {
        match self.glance(mem, lane) {
            Ok(_) => Ok(true),
            Err(Blocked::NotReady) => {
                self.publish(mem, lane, wake);
                Ok(false)
            }
            Err(Blocked::Corrupt) => Err(Blocked::Corrupt),
        }
    }

    /// Makes the lanes active whose senders asked for it; whether there were any.
    fn hear(&mut self, mem: Lanes<'_>) -> bool {
        let lanes = self.lanes.len();
        let mut heard = false;
        for (at, (word, active)) in mem.doorbell.iter().zip(&mut self.active).enumerate() {
            if word.load(Ordering::Relaxed) != 0 {
                let valid = u64::MAX >> (BITS - (lanes - at * BITS).min(BITS));
                *active |= word.swap(0, Ordering::Relaxed) & valid;
                heard = true;
            }
        }
        heard
    }

    /// Whether it is time to [`sweep`](Self::sweep), though there are messages.
    #[inline]
    pub fn sweep_is_due(&self) -> bool {
        self.rounds >= ROUNDS
    }

    /// Lets the active lanes be quiet in which there is nothing, and was nothing since the last time if
    /// `keep_served`, and makes those active in which there is something, rung for or not. `heavy_barrier` is the
    /// waiter's end of P1.
    #[cold]
    #[inline(never)]
    pub fn sweep(
        &mut self,
        mem: Lanes<'_>,
        keep_served: bool,
        heavy_barrier: impl Fn(),
        wake: impl Fn(&AtomicU32),
    ) -> Result<(), Blocked> {
        self.rounds = 0;
        for _ in 0..ANNOUNCEMENTS {
            if self.retire(mem, keep_served, &wake)? {
                // P1 park: the announcements are before this, the looks below after it.
                heavy_barrier();
            }
            for lane in 0..self.lanes.len() {
                if !self.is_active(lane) && self.has_message(mem, lane, &wake)? {
                    self.set_active(lane);
                }
            }
            let found = self.find(mem, &wake);
            // A sender may have asked for a look at its lane though there was nothing, because it has just come. It
            // will not ask again before that is announced.
            let is_certain = keep_served || self.active_in(0..self.lanes.len()).is_none();
            if found != Err(Blocked::NotReady) || is_certain {
                return found;
            }
        }
        Err(Blocked::NotReady)
    }

    /// Announces that the active lanes are not looked at any more in which there is nothing, and was nothing
    /// if `keep_served`; whether there were any.
    fn retire(
        &mut self,
        mem: Lanes<'_>,
        keep_served: bool,
        wake: &impl Fn(&AtomicU32),
    ) -> Result<bool, Blocked> {
        let mut announced = false;
        let mut from = 0;
        while let Some(lane) = self.active_in(from..self.lanes.len()) {
            from = lane + 1;
            let served = core::mem::take(&mut self.lanes[lane].served);
            let has_message = self.has_message(mem, lane, wake)?;
            if !has_message && (!keep_served || !served) {
                park::announce(&mem.lanes[lane].receiver.presence);
                self.active[lane / BITS] &= !(1 << (lane % BITS));
                announced = true;
            }
        }
        Ok(announced)
    }

    /// A position to look at messages from that are not taken yet: first the one that was found.
    pub fn ahead(&self) -> Ahead {
        self.lanes[self.current].cursor.ahead()
    }

    /// The message at `ahead`, which then stands after it. Nothing is written, and the messages stay this
    /// receiver's next ones. `NotReady` also where another lane has the next one.
    pub fn try_peek(&mut self, mem: Lanes<'_>, ahead: &mut Ahead) -> Result<Span, Blocked> {
        if self.ordered && ahead.passed() > 0 {
            return Err(Blocked::NotReady);
        }
        let span = self.lanes[self.current].cursor.try_peek(mem.lanes[self.current], ahead)?;
        self.turn = self.turn.max(ahead.passed());
        self.unnumbered(span)
    }

    /// Has the message that was found last stay the next one until it is released.
    pub fn hold(&mut self) {
        self.turn = self.turn.max(1);
    }

    /// Gives the message's space back: it has been read for the last time.
    #[inline(always)]
    pub fn release(&mut self, mem: Lanes<'_>, span: Span, wake: impl Fn(&AtomicU32)) {
        let span = if self.ordered { span.with_stamp() } else { span };
        let lane = &mut self.lanes[self.current];
        lane.cursor.release(mem.lanes[self.current], span);
        (lane.front, lane.served) = (None, true);
        self.messages = self.messages.wrapping_add(1);
        self.turn = self.turn.saturating_sub(record(span.len()));
        if lane.cursor.release_is_due() {
            self.publish(mem, self.current, &wake);
        }
    }

    /// Tells all senders how far the receiver is.
    pub fn publish_all(&mut self, mem: Lanes<'_>, wake: impl Fn(&AtomicU32)) {
        (0..self.lanes.len()).for_each(|lane| self.publish(mem, lane, &wake));
    }

    /// Tells the sender of `lane` how far the receiver is, if it has not been told.
    fn publish(&mut self, mem: Lanes<'_>, lane: usize, wake: &impl Fn(&AtomicU32)) {
        let (lane, mem) = (&mut self.lanes[lane], mem.lanes[lane]);
        if lane.cursor.publish(mem) && lane.answered.must_wake(mem.sender) {
            wake(park::ring(mem.receiver));
        }
    }
}
