//! A look at all messages that are there, one after the other, without a claim.

use super::receive::{Found, RecvCursor};
use super::select::{MOST_TYPES, bit};
use super::{Mail, Select};
use crate::protocol::Blocked;

/// Where somebody stands who looks at messages in the order in which they would be received. They are as of about now:
/// others may take them meanwhile, and what comes into a lane in which there was nothing is not looked at.
#[derive(Debug)]
pub struct Walk {
    select: Select,
    /// What is next in each lane.
    next: [Option<Found>; MOST_TYPES],
    /// A bit for each lane in which something is.
    ahead: u64,
    /// What was shown last.
    last: Option<Found>,
    /// How many more there can be, however many others pretend that there are.
    left: usize,
}

impl Walk {
    /// To the messages of the lanes of `wanted`, from the one on that `select` wants first.
    pub fn new(
        cursor: &mut RecvCursor,
        mail: Mail<'_>,
        select: Select,
        wanted: u64,
    ) -> Result<Self, Blocked> {
        let (next, left) = ([None; MOST_TYPES], cursor.most());
        let mut walk = Self { select, next, ahead: 0, last: None, left };
        cursor.begin();
        for lane in select.in_order(wanted & mail.used()) {
            let found = cursor.look(mail, lane, false)?;
            walk.put(lane, found);
        }
        Ok(walk)
    }

    /// The next message; `None` if there is no more.
    pub fn step(
        &mut self,
        cursor: &mut RecvCursor,
        mail: Mail<'_>,
    ) -> Result<Option<Found>, Blocked> {
        if let Some(last) = self.last.take() {
            self.put(last.lane, cursor.behind(mail, &last)?);
        }
        let mut lanes = self.select.in_order(self.ahead);
        let first = match self.select.is_by_type() {
            true => lanes.next(),
            false => lanes.min_by_key(|&lane| self.next[lane].map(|found| found.number)),
        };
        if let (Some(lane), Some(left)) = (first, self.left.checked_sub(1)) {
            (self.last, self.left) = (self.next[lane], left);
        }
        Ok(self.last)
    }

    fn put(&mut self, lane: usize, found: Option<Found>) {
        self.next[lane] = found;
        self.ahead = self.ahead & !bit(lane) | if found.is_some() { bit(lane) } else { 0 };
    }
}
