//! A receiver of a mailbox, and one who only hears of messages.

use super::contest::{Contest, NONE};
use super::select::bit;
use super::walk::Walk;
use super::{HEADER, Mail, Select, shape};
use crate::payload;
use crate::protocol::Blocked;
use crate::protocol::claims::{self, Front};
use crate::protocol::pace::Pace;
use crate::protocol::slots::Untyped;
use crate::sync::{Ordering, spin_hint};

/// Messages that others take away from under one search before that counts as nothing found. Far more than chance takes, so
/// that it is never said of a mailbox that has messages; but not without end, for one who lies could go on for ever.
const MOST_LOST: u32 = 1 << 16;
/// Searches that found nothing between two that tell why.
const MISSES_PER_CLOSE_LOOK: u32 = 16;
/// No position.
const NOWHERE: u64 = u64::MAX;

/// A message that was looked at.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Its lane.
    pub lane: usize,
    /// The number that its sender drew.
    pub number: u64,
    /// Its length in bytes.
    pub length: usize,
    front: Front,
}

/// What a receiver knows of a lane.
#[derive(Clone, Copy, Debug)]
enum Known {
    /// Where no message was yet when it looked last: while the place there is free, there is none.
    Empty(u64),
    /// What was next. Somebody else may have taken it since.
    Next(Found),
}

/// A receiver's private state: of each lane.
#[derive(Debug)]
pub struct RecvCursor {
    lanes: Box<[claims::RecvCursor]>,
    shape: Untyped,
    longest: usize,
    /// Messages that fit into all lanes.
    most: usize,
    /// What was found in each lane.
    known: Box<[Known]>,
    /// Their numbers.
    oldest: Contest,
    /// Lanes of which a message is known.
    waiting: u64,
    /// Lanes that were looked at after `horizon` was loaded, or of which a message was known then.
    current: u64,
    /// What goes before a message with a lower number than this is known.
    horizon: u64,
    /// The number of [`Mail::orphans`] for which all this holds.
    orphans: u64,
    /// Messages that others took away from under this search.
    lost: u32,
    /// Searches that found nothing.
    misses: u32,
    /// Messages that it took.
    taken: u64,
    pace: Pace,
    stuck: bool,
}

impl RecvCursor {
    /// The receiver of entry `me`, of messages of up to `longest` bytes from lanes of `capacity` messages each.
    pub fn new(mail: Mail<'_>, longest: usize, capacity: usize, me: usize) -> Self {
        let shape = shape(longest);
        let cursor = |mem| claims::RecvCursor::new(mem, shape, capacity, me, false);
        let lanes: Box<[_]> = mail.lanes.iter().map(cursor).collect();
        Self {
            shape,
            longest,
            most: capacity * lanes.len(),
            known: vec![Known::Empty(NOWHERE); lanes.len()].into(),
            oldest: Contest::of(lanes.len()),
            waiting: 0,
            current: 0,
            horizon: 0,
            orphans: mail.orphans(),
            lost: 0,
            misses: 0,
            taken: 0,
            pace: Pace::new(0),
            stuck: false,
            lanes,
        }
    }

    /// Whether the last close look met a sender that is not done: it may be dead.
    pub fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// The message that `select` wants first, among the lanes of `wanted`. If there is none, a look that is `close`
    /// tells whether that is because somebody [is stuck](Self::is_stuck); now and then another does, too.
    #[inline]
    pub fn find(
        &mut self,
        mail: Mail<'_>,
        select: Select,
        wanted: u64,
        close: bool,
    ) -> Result<Found, Blocked> {
        let orphans = mail.orphans();
        if orphans != self.orphans {
            // They go before what is known.
            (self.waiting, self.current, self.orphans) = (0, 0, orphans);
            self.known.fill(Known::Empty(NOWHERE));
            self.oldest = Contest::of(self.lanes.len());
        }
        let mut paused = false;
        self.lost = 0;
        while self.lost < MOST_LOST {
            let found = match wanted.is_power_of_two() {
                true => self.next_of(mail, wanted.trailing_zeros() as usize)?,
                false if select.is_by_type() => self.first_by_type(mail, select, wanted)?,
                false => self.oldest(mail, wanted)?,
            };
            match found {
                None if !paused && self.pace.give_way(self.taken) => paused = true,
                // It may be taken before the next look.
                None if self.has_come(mail, wanted, close)? => self.lost += 1,
                None => break,
                Some(found) => {
                    let (cursor, mem) = (&self.lanes[found.lane], &mail.lanes[found.lane]);
                    if cursor.is_next(mem, self.shape, found.front) {
                        if paused {
                            self.pace.learn(true);
                        }
                        return Ok(found);
                    }
                    self.forget(found.lane);
                    self.lost += 1;
                }
            }
        }
        if paused {
            self.pace.learn(false);
        }
        Err(Blocked::NotReady)
    }

    /// The message with the lowest number in the lanes of `wanted`: section "Order" of the module.
    fn oldest(&mut self, mail: Mail<'_>, wanted: u64) -> Result<Option<Found>, Blocked> {
        // Those from which a message was taken since. An unused lane is an empty one.
        let changed = wanted & !self.current;
        if changed != wanted {
            self.look_at(mail, changed & mail.used() & !self.waiting)?;
            self.current |= changed;
        }
        match self.lowest(wanted) {
            Some(best) if best.number < self.horizon && changed != wanted => return Ok(Some(best)),
            Some(_) => {}
            None => {
                let mut used = Select::Any.in_order(wanted & mail.used());
                let mut seen = Ok(false);
                while let (Ok(false), Some(lane)) = (&seen, used.next()) {
                    seen = self.look_again(mail, lane);
                }
                if !seen? {
                    return Ok(None);
                }
            }
        }
        // After a message was seen: if no other lane was used before it was sent, nothing else goes before it.
        let used = wanted & mail.used();
        if used.is_power_of_two() {
            self.current = 0;
            return Ok(self.lowest(used));
        }
        self.horizon = mail.drawn();
        // Again: lanes that are used by now.
        self.look_at(mail, wanted & mail.used() & !self.waiting)?;
        self.current = wanted | self.waiting;
        Ok(self.lowest(wanted))
    }

    /// The message of the first lane in order that has one, of those of `wanted`.
    fn first_by_type(
        &mut self,
        mail: Mail<'_>,
        select: Select,
        wanted: u64,
    ) -> Result<Option<Found>, Blocked> {
        let (mut best, mut set) = (None, wanted);
        while set != 0 {
            let used = mail.used();
            // An unused lane is an empty one. Those that were empty before a message was seen are looked at again.
            let (mut empty, mut again) = (set & !used, 0);
            for lane in select.in_order(set & used) {
                let is_known = self.waiting & bit(lane) != 0;
                if !is_known && !self.look_again(mail, lane)? {
                    empty |= bit(lane);
                    continue;
                }
                best = self.known_of(lane);
                again = if is_known { 0 } else { empty };
                break;
            }
            set = select.before(best.map(|best| best.lane), again);
        }
        Ok(best)
    }

    /// The next message of `lane`.
    fn next_of(&mut self, mail: Mail<'_>, lane: usize) -> Result<Option<Found>, Blocked> {
        let is_there = self.waiting & bit(lane) != 0 || self.look_again(mail, lane)?;
        Ok(if is_there { self.known_of(lane) } else { None })
    }

    /// Nothing was found: looks why if that is due, and whether there is a message now.
    #[cold]
    fn has_come(&mut self, mail: Mail<'_>, wanted: u64, close: bool) -> Result<bool, Blocked> {
        self.misses = self.misses.wrapping_add(1);
        if !close && !self.misses.is_multiple_of(MISSES_PER_CLOSE_LOOK) {
            return Ok(false);
        }
        self.stuck = false;
        for lane in Select::Any.in_order(wanted & mail.used()) {
            let found = self.look(mail, lane, true)?;
            if self.know(mail, lane, found) {
                return Ok(true);
            }
            self.stuck |= self.lanes[lane].is_stuck();
        }
        Ok(false)
    }

    /// The known message with the lowest number in the lanes of `set`.
    fn lowest(&self, set: u64) -> Option<Found> {
        let set = set & self.waiting;
        let lane = match set == self.waiting {
            true => self.oldest.winner(),
            false => Select::Any.in_order(set).min_by_key(|&lane| self.oldest.number_of(lane))?,
        };
        self.known_of(lane)
    }

    fn known_of(&self, lane: usize) -> Option<Found> {
        match self.known[lane] {
            Known::Next(found) => Some(found),
            Known::Empty(_) => None,
        }
    }

    /// Makes the next search look at `lane`.
    fn forget(&mut self, lane: usize) {
        self.waiting &= !bit(lane);
        self.current &= !bit(lane);
        self.known[lane] = Known::Empty(NOWHERE);
        self.oldest.put(lane, NONE);
    }

    /// Looks at what is next in the lanes of `set`.
    fn look_at(&mut self, mail: Mail<'_>, set: u64) -> Result<(), Blocked> {
        for lane in Select::Any.in_order(set) {
            self.look_again(mail, lane)?;
        }
        Ok(())
    }

    /// Whether there is a message in `lane`, of which none was known.
    #[inline]
    fn look_again(&mut self, mail: Mail<'_>, lane: usize) -> Result<bool, Blocked> {
        let (cursor, mem) = (&self.lanes[lane], &mail.lanes[lane]);
        if let Known::Empty(at) = self.known[lane] {
            if at != NOWHERE && cursor.is_free(mem, self.shape, at) {
                return Ok(false);
            }
        }
        let found = self.look(mail, lane, false)?;
        Ok(self.know(mail, lane, found))
    }

    /// Keeps what was found in `lane`; whether that is a message.
    fn know(&mut self, mail: Mail<'_>, lane: usize, found: Option<Found>) -> bool {
        if let Some(found) = found {
            self.known[lane] = Known::Next(found);
            self.waiting |= bit(lane);
            self.oldest.put(lane, found.number);
        } else {
            self.known[lane] = Known::Empty(self.lanes[lane].next(&mail.lanes[lane]));
            self.waiting &= !bit(lane);
            self.oldest.put(lane, NONE);
        }
        found.is_some()
    }

    /// The message that `select` would want after `index` others, as of about now.
    pub fn nth(
        &mut self,
        mail: Mail<'_>,
        select: Select,
        wanted: u64,
        index: usize,
    ) -> Result<Found, Blocked> {
        if index == 0 {
            return self.find(mail, select, wanted, false);
        }
        let mut walk = Walk::new(self, mail, select, wanted)?;
        let mut found = None;
        for _ in 0..=index {
            found = Some(walk.step(self, mail)?.ok_or(Blocked::NotReady)?);
        }
        found.ok_or(Blocked::NotReady)
    }

    /// Messages that fit into all lanes.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Begins to count messages that others take away from under a search.
    pub(super) fn begin(&mut self) {
        self.lost = 0;
    }

    /// What is behind a message that was found, in its lane.
    pub(super) fn behind(
        &mut self,
        mail: Mail<'_>,
        found: &Found,
    ) -> Result<Option<Found>, Blocked> {
        let lane = found.lane;
        let after = self.lanes[lane].after(&mail.lanes[lane], self.shape, found.front);
        if let Some(front) = after {
            if let Some(next) = self.describe(mail, lane, front)? {
                return Ok(Some(next));
            }
        }
        // What was behind it may have been taken, with more behind that.
        let next = self.look(mail, lane, false)?;
        Ok(next.filter(|next| next.front.is_behind(found.front)))
    }

    /// What is next in `lane`. If it is nothing, a look that is `close` tells whether a sender is stuck.
    pub(super) fn look(
        &mut self,
        mail: Mail<'_>,
        lane: usize,
        close: bool,
    ) -> Result<Option<Found>, Blocked> {
        while self.lost < MOST_LOST {
            match self.lanes[lane].front(&mail.lanes[lane], self.shape, close) {
                Ok(front) => {
                    if let Some(found) = self.describe(mail, lane, front)? {
                        return Ok(Some(found));
                    }
                    self.lost += 1;
                    spin_hint();
                }
                Err(Blocked::NotReady) => return Ok(None),
                Err(blocked) => return Err(blocked),
            }
        }
        Ok(None)
    }

    /// What can be said of a message that is looked at; `None` if it was taken meanwhile.
    fn describe(
        &self,
        mail: Mail<'_>,
        lane: usize,
        front: Front,
    ) -> Result<Option<Found>, Blocked> {
        let (cursor, mem) = (&self.lanes[lane], &mail.lanes[lane]);
        let words = cursor.words_of(mem, self.shape, front);
        // Relaxed: C6 says whether they are of one message.
        let relaxed = Ordering::Relaxed;
        let (number, length) = (words[0].load(relaxed), words[1].load(relaxed));
        if !cursor.is_there(mem, self.shape, front) {
            return Ok(None);
        }
        match usize::try_from(length) {
            // Nobody draws so many numbers that this one could be one.
            Ok(length) if length <= self.longest && number != NONE => {
                Ok(Some(Found { lane, number, length, front }))
            }
            _ => Err(Blocked::Corrupt),
        }
    }

    /// Copies the message that was found to the start of `to`, which has room for it, and leaves it where it is;
    /// `false` if somebody has taken it.
    pub fn copy(&self, mail: Mail<'_>, found: &Found, to: &mut [u8]) -> bool {
        let (cursor, mem) = (&self.lanes[found.lane], &mail.lanes[found.lane]);
        let words = cursor.words_of(mem, self.shape, found.front);
        payload::read_at(&words[HEADER..], 0, &mut to[..found.length]);
        cursor.is_there(mem, self.shape, found.front)
    }

    /// Whether there is a message in the lanes of `wanted`.
    pub fn has_more(&mut self, mail: Mail<'_>, wanted: u64) -> bool {
        let mut used = Select::Any.in_order(wanted & mail.used());
        used.any(|lane| self.lanes[lane].front(&mail.lanes[lane], self.shape, false).is_ok())
    }

    /// Takes the message that was found to the start of `to`, which has room for it; `false` if somebody else has.
    #[inline]
    pub fn take(&mut self, mail: Mail<'_>, found: &Found, to: &mut [u8]) -> bool {
        self.forget(found.lane);
        let (cursor, mem) = (&mut self.lanes[found.lane], &mail.lanes[found.lane]);
        let Some(held) = cursor.claim_front(mem, self.shape, found.front) else { return false };
        let words = cursor.words(mem, self.shape, held);
        payload::read_at(&words[HEADER..], 0, &mut to[..found.length]);
        cursor.release(mem, self.shape, held);
        self.taken = self.taken.wrapping_add(1);
        true
    }
}

/// How far the messages of each lane had arrived when somebody looked last.
#[derive(Debug)]
pub struct Arrivals {
    seen: Box<[u64]>,
    longest: usize,
    capacity: usize,
}

impl Arrivals {
    /// As of now, in lanes of `capacity` messages of up to `longest` bytes.
    pub fn up_to_now(mail: Mail<'_>, longest: usize, capacity: usize) -> Self {
        let seen = vec![0; mail.lanes.len()].into();
        let mut arrivals = Self { seen, longest, capacity };
        arrivals.count(mail, u64::MAX);
        arrivals
    }

    /// How many messages have arrived in the lanes of `wanted` since the last call.
    pub fn count(&mut self, mail: Mail<'_>, wanted: u64) -> u64 {
        let used = wanted & mail.used();
        let lanes = self.seen.iter_mut().zip(mail.lanes).enumerate();
        lanes.filter(|(lane, _)| used & bit(*lane) != 0).fold(0, |all, (_, (seen, mem))| {
            let (next, count) = claims::arrived(mem, shape(self.longest), self.capacity, *seen);
            *seen = next;
            all.saturating_add(count)
        })
    }
}
