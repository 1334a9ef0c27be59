//! Rings of messages of any length, and streams.

use super::post::{Post, Probe};
use super::sealed::{Handle, Polled};
use super::slots::Room;
use crate::bytes::{ByteReceiver, ByteSender, memory};
use crate::error::{ByteSendError, Failure, Role};
use crate::participants::Participant;
use crate::protocol::slots::Untyped;
use crate::protocol::{lanes, records};
use crate::segment::Attached;
use crate::stream::StreamReader;
use crate::sync::Ordering;

/// What a receiver's thread looks at: the header where the receiver says that it is.
pub struct Records {
    post: Post,
}

impl Records {
    fn is_there(&self, lane: &Attached) -> bool {
        let spec = &lane.segment().spec;
        let capacity = match spec.is_laned() {
            true => lanes::lane_capacity(spec.capacity, spec.ordered),
            false => spec.capacity,
        };
        records::is_record_at_head(memory(lane), capacity)
    }
}

impl Probe for Records {
    fn post(&self) -> &Post {
        &self.post
    }

    fn has_news(&mut self) -> bool {
        let attached = &self.post.attached;
        if attached.segment().spec.is_laned() {
            // The receiver has said in each lane that it does not look there.
            let doorbell = &attached.half(Role::Sender).doorbell.words;
            return doorbell.iter().any(|word| word.load(Ordering::Relaxed) != 0);
        }
        self.is_there(attached)
    }

    fn has_old_news(&mut self) -> bool {
        self.post.attached.lanes().any(|lane| self.is_there(&lane))
    }
}

impl Polled for ByteReceiver {
    type Interest = ();
    type Probe = Records;

    fn side(&mut self) -> &mut Participant {
        &mut self.side
    }

    fn probe(&mut self) -> Records {
        Records { post: self.side.post() }
    }

    fn mark(&mut self, (): (), _: &mut Records) {}

    fn poll(&mut self, (): ()) -> Result<(), Failure> {
        ByteReceiver::poll(self)
    }

    fn look(&mut self, (): ()) -> Result<(), Failure> {
        self.look_exactly()
    }
}

impl Handle for StreamReader {
    type Interest = ();
    type Polled = ByteReceiver;

    fn polled(&mut self) -> &mut ByteReceiver {
        self.receiver()
    }
}

impl Polled for ByteSender {
    /// The length of the message.
    type Interest = usize;
    type Probe = Room;

    fn side(&mut self) -> &mut Participant {
        &mut self.side
    }

    fn probe(&mut self) -> Room {
        Room::of(&self.side, Untyped(0))
    }

    fn mark(&mut self, _: usize, probe: &mut Room) {
        probe.mark();
    }

    fn poll(&mut self, length: usize) -> Result<(), Failure> {
        match self.try_reserve(length) {
            Err(ByteSendError::Full) => Err(Failure::NotReady),
            // The call says what it is.
            _ => Ok(()),
        }
    }
}
