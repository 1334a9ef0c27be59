//! Rings of messages of a fixed size: whether there is one, and whether there is room for one.

use super::post::{Post, Probe};
use super::sealed::{Handle, Polled};
use crate::error::Failure;
use crate::participants::Participant;
use crate::protocol::Blocked;
use crate::protocol::claims;
use crate::protocol::slots::{RecvCursor, Shape, Typed, Untyped};
use crate::ring::{Receiver, Sender};
use crate::slots::{Cursor, SlotReceiver, SlotSender, memory};
use crate::table;
use crate::untyped::{UntypedReceiver, UntypedSender};
use bytemuck::{AnyBitPattern, NoUninit};

/// What a receiver's thread looks at.
pub struct Messages {
    post: Post,
    shape: Untyped,
    next: Option<Next>,
}

/// Where the next message will be.
enum Next {
    /// Where the cursor is that this is a copy of.
    Cell(RecvCursor),
    /// Where receivers claim next; or the number of orphans changes.
    Slot(claims::Geometry, u64),
}

impl Probe for Messages {
    fn post(&self) -> &Post {
        &self.post
    }

    fn has_news(&mut self) -> bool {
        let shape = self.shape;
        match &mut self.next {
            None => true,
            Some(Next::Cell(cursor)) => {
                cursor.look(memory(&self.post.attached), shape) != Err(Blocked::NotReady)
            }
            Some(Next::Slot(geometry, orphans)) => {
                let mem = table::memory(&self.post.attached, self.post.entry);
                claims::RecvCursor::glance(geometry, &mem, shape) || mem.changes() != *orphans
            }
        }
    }

    fn may_be_held_up(&self) -> bool {
        let Some(Next::Slot(geometry, _)) = &self.next else { return false };
        let mem = table::memory(&self.post.attached, self.post.entry);
        claims::RecvCursor::may_be_stuck(geometry, &mem)
            || self.post.in_turn && table::are_others_at_work(&self.post.attached, self.post.entry)
    }
}

impl<S: Shape> Polled for SlotReceiver<S> {
    type Interest = ();
    type Probe = Messages;

    fn side(&mut self) -> &mut Participant {
        &mut self.side
    }

    fn probe(&mut self) -> Messages {
        Messages { post: self.side.post(), shape: Untyped(self.shape.size()), next: None }
    }

    fn mark(&mut self, (): (), probe: &mut Messages) {
        probe.next = Some(match &self.cursor {
            Cursor::Cells(cursor) => Next::Cell(cursor.clone()),
            Cursor::Claims(cursor, mem) => Next::Slot(cursor.geometry(), mem.changes()),
        });
    }

    fn poll(&mut self, (): ()) -> Result<(), Failure> {
        SlotReceiver::poll(self)
    }
}

impl<T: NoUninit + AnyBitPattern> Handle for Receiver<T> {
    type Interest = ();
    type Polled = SlotReceiver<Typed<T>>;

    fn polled(&mut self) -> &mut Self::Polled {
        &mut self.slots
    }
}

impl Handle for UntypedReceiver {
    type Interest = ();
    type Polled = SlotReceiver<Untyped>;

    fn polled(&mut self) -> &mut Self::Polled {
        &mut self.slots
    }
}

/// What a sender's thread looks at.
pub struct Room {
    post: Post,
    shape: Untyped,
    /// Where senders claim next, if they do.
    geometry: Option<claims::Geometry>,
    /// How far the receiver is, as it says now and then, and exactly.
    passed: (u64, u64),
}

impl Room {
    pub(super) fn of(side: &Participant, shape: Untyped) -> Self {
        Self { post: side.post(), shape, geometry: None, passed: (0, 0) }
    }

    pub(super) fn mark(&mut self) {
        self.passed = self.now();
    }

    fn now(&self) -> (u64, u64) {
        let receiver = self.post.peer();
        // Only compared; the handle reads them by their edges.
        let relaxed = crate::sync::Ordering::Relaxed;
        (receiver.released.position.load(relaxed), receiver.cursor.position.load(relaxed))
    }
}

impl Probe for Room {
    fn post(&self) -> &Post {
        &self.post
    }

    fn has_news(&mut self) -> bool {
        let Some(geometry) = &self.geometry else { return self.now() != self.passed };
        let mem = table::memory(&self.post.attached, self.post.entry);
        claims::SendCursor::glance(geometry, &mem, self.shape)
    }

    fn may_be_held_up(&self) -> bool {
        let Some(geometry) = &self.geometry else { return false };
        let mem = table::memory(&self.post.attached, self.post.entry);
        claims::SendCursor::may_be_stuck(geometry, &mem)
    }
}

impl<S: Shape> Polled for SlotSender<S> {
    type Interest = ();
    type Probe = Room;

    fn side(&mut self) -> &mut Participant {
        &mut self.side
    }

    fn probe(&mut self) -> Room {
        let mut room = Room::of(&self.side, Untyped(self.shape.size()));
        if let Cursor::Claims(cursor, _) = &self.cursor {
            room.geometry = Some(cursor.geometry());
        }
        room
    }

    fn mark(&mut self, (): (), probe: &mut Room) {
        probe.mark();
    }

    fn poll(&mut self, (): ()) -> Result<(), Failure> {
        self.poll_room()
    }
}

impl<T: NoUninit + AnyBitPattern> Handle for Sender<T> {
    type Interest = ();
    type Polled = SlotSender<Typed<T>>;

    fn polled(&mut self) -> &mut Self::Polled {
        &mut self.slots
    }
}

impl Handle for UntypedSender {
    type Interest = ();
    type Polled = SlotSender<Untyped>;

    fn polled(&mut self) -> &mut Self::Polled {
        &mut self.slots
    }
}
