//! A sender of a mailbox.

use super::{HEADER, Mail, shape};
use crate::payload;
use crate::protocol::Blocked;
use crate::protocol::claims;
use crate::protocol::slots::Untyped;

/// A sender's private state: of each lane.
#[derive(Debug)]
pub struct SendCursor {
    lanes: Box<[claims::SendCursor]>,
    shape: Untyped,
}

impl SendCursor {
    /// A sender of messages of up to `longest` bytes into lanes of `capacity` messages each.
    pub fn new(mail: Mail<'_>, longest: usize, capacity: usize) -> Self {
        let shape = shape(longest);
        let cursor = |mem| claims::SendCursor::new(mem, shape, capacity, false);
        Self { lanes: mail.lanes.iter().map(cursor).collect(), shape }
    }

    /// Whether there was no room in `lane` because a receiver is not done: it may be dead.
    pub fn is_stuck(&self, lane: usize) -> bool {
        self.lanes[lane].is_stuck()
    }

    /// Whether there is room in `lane`.
    pub fn look(&mut self, mail: Mail<'_>, lane: usize) -> Result<(), Blocked> {
        self.lanes[lane].look(&mail.lanes[lane], self.shape)
    }

    /// Whether there is room for more than one message in `lane`.
    pub fn is_plenty(&self, mail: Mail<'_>, lane: usize) -> bool {
        self.lanes[lane].is_plenty(&mail.lanes[lane], self.shape)
    }

    /// Sends `message`, which is not too long, into `lane`.
    #[inline]
    pub fn try_send(&mut self, mail: Mail<'_>, lane: usize, message: &[u8]) -> Result<(), Blocked> {
        let (cursor, mem, shape) = (&mut self.lanes[lane], &mail.lanes[lane], self.shape);
        // First, so that whoever finds no room leaves the line of the numbers alone.
        cursor.approach(mem, shape)?;
        mail.use_lane(lane);
        // Before the claim: see the order.
        let number = mail.draw();
        let room = cursor.try_claim_in_view(mem, shape)?;
        let words = cursor.words(mem, shape, &room);
        words[0].write(number);
        words[1].write(message.len() as u64);
        payload::write_message(&words[HEADER..], message);
        cursor.commit(mem, shape, room);
        Ok(())
    }
}
