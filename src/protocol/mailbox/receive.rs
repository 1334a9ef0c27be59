//! A receiver of a mailbox, and one who only hears of messages.

use super::select::{MOST_TYPES, bit};
use super::{HEADER, Mail, Select, shape};
use crate::payload;
use crate::protocol::Blocked;
use crate::protocol::claims::{self, Front};
use crate::protocol::slots::Untyped;
use crate::sync::{Ordering, spin_hint};

/// Looks at a message that others take away from under it before that counts as nothing found.
const LOOKS: usize = 64;

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

/// A receiver's private state: of each lane.
#[derive(Debug)]
pub struct RecvCursor {
    lanes: Box<[claims::RecvCursor]>,
    shape: Untyped,
    longest: usize,
    /// Messages that fit into all lanes.
    most: usize,
    stuck: bool,
}

impl RecvCursor {
    /// The receiver of entry `me`, of messages of up to `longest` bytes from lanes of `capacity` messages each.
    pub fn new(mail: Mail<'_>, longest: usize, capacity: usize, me: usize) -> Self {
        let shape = shape(longest);
        let cursor = |mem| claims::RecvCursor::new(mem, shape, capacity, me, false);
        let lanes: Box<[_]> = mail.lanes.iter().map(cursor).collect();
        let most = capacity * lanes.len();
        Self { lanes, shape, longest, most, stuck: false }
    }

    /// Whether the last search met a sender that is not done: it may be dead.
    pub fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// The message that `select` wants first, among the lanes of `wanted`.
    pub fn find(&mut self, mail: Mail<'_>, select: Select, wanted: u64) -> Result<Found, Blocked> {
        self.stuck = false;
        let mut best: Option<Found> = None;
        // Lanes to look at in this round: all, then those that were empty before the best was seen.
        let mut set = wanted;
        while set != 0 {
            let used = mail.used();
            // An unused lane is an empty one.
            let (mut empty, mut again) = (set & !used, 0);
            for lane in select.in_order(set & used) {
                let Some(found) = self.look(mail, lane)? else {
                    empty |= bit(lane);
                    continue;
                };
                let is_better =
                    |best: Found| select.prefers((lane, found.number), (best.lane, best.number));
                if best.is_none_or(is_better) {
                    (best, again) = (Some(found), empty);
                    if select.is_by_type() {
                        break;
                    }
                }
            }
            set = again;
        }
        best.ok_or(Blocked::NotReady)
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
            return self.find(mail, select, wanted);
        }
        // However many others pretend that there are.
        if index >= self.most {
            return Err(Blocked::NotReady);
        }
        let mut fronts: [Option<Found>; MOST_TYPES] = [None; MOST_TYPES];
        for lane in select.in_order(wanted & mail.used()) {
            fronts[lane] = self.look(mail, lane)?;
        }
        for skipped in 0.. {
            let mut waiting = fronts.iter().flatten();
            let first = *waiting.next().ok_or(Blocked::NotReady)?;
            let best = waiting.fold(first, |best, &found| {
                let rank = |found: Found| (found.lane, found.number);
                if select.prefers(rank(found), rank(best)) { found } else { best }
            });
            if skipped == index {
                return Ok(best);
            }
            let after = self.lanes[best.lane].after(&mail.lanes[best.lane], self.shape, best.front);
            fronts[best.lane] = match after {
                // Taken away meanwhile, or changed: what comes behind it is looked at in the next call.
                Some(front) => self.describe(mail, best.lane, front)?,
                None => None,
            };
        }
        Err(Blocked::NotReady)
    }

    /// What is next in `lane`.
    fn look(&mut self, mail: Mail<'_>, lane: usize) -> Result<Option<Found>, Blocked> {
        for _ in 0..LOOKS {
            match self.lanes[lane].front(&mail.lanes[lane], self.shape) {
                Ok(front) => {
                    if let Some(found) = self.describe(mail, lane, front)? {
                        return Ok(Some(found));
                    }
                    spin_hint();
                }
                Err(Blocked::NotReady) => {
                    self.stuck |= self.lanes[lane].is_stuck();
                    return Ok(None);
                }
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
            Ok(length) if length <= self.longest => Ok(Some(Found { lane, number, length, front })),
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

    /// Takes the message that was found to the start of `to`, which has room for it; `false` if somebody else has.
    #[inline]
    pub fn take(&mut self, mail: Mail<'_>, found: &Found, to: &mut [u8]) -> bool {
        let (cursor, mem) = (&mut self.lanes[found.lane], &mail.lanes[found.lane]);
        let Some(held) = cursor.claim_front(mem, self.shape, found.front) else { return false };
        let words = cursor.words(mem, self.shape, held);
        payload::read_at(&words[HEADER..], 0, &mut to[..found.length]);
        cursor.release(mem, self.shape, held);
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

const _: () = assert!(MOST_TYPES == u64::BITS as usize);
