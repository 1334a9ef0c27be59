//! What is not taken from a queue of one's own: broadcasts, latest values, events; and mailboxes, by their listeners.

use super::post::{Post, Probe};
use super::sealed::{Handle, Polled};
use crate::broadcast::{self, BroadcastReceiver, ByteBroadcastReceiver, Receiving};
use crate::error::{Failure, Role};
use crate::event::{self, EventHandle};
use crate::latest::{self, LatestReader};
use crate::mailbox::{MailReceiver, Subscription};
use crate::participants::Participant;
use crate::protocol::Blocked;
use crate::protocol::broadcast::Receiver;
use crate::protocol::flags::Wanted;
use crate::protocol::mailbox::Select;
use crate::protocol::slots::{Shape, Typed, Untyped};
use crate::sync::Ordering;
use crate::table;
use bytemuck::{AnyBitPattern, NoUninit};

/// What the thread of a receiver of a broadcast looks at: where the cursor is that this is a copy of.
pub struct Heard {
    post: Post,
    cursor: Option<Receiver>,
}

impl Probe for Heard {
    fn post(&self) -> &Post {
        &self.post
    }

    fn has_news(&mut self) -> bool {
        let Self { post, cursor } = self;
        let Some(cursor) = cursor else { return true };
        let heard = broadcast::memory(&post.attached).heard_by(post.entry.into());
        let shape = post.attached.segment().spec.cell_shape();
        cursor.look(&heard, shape) != Err(Blocked::NotReady)
    }
}

impl<S: Shape> Polled for Receiving<S> {
    type Interest = ();
    type Probe = Heard;

    fn side(&mut self) -> &mut Participant {
        &mut self.side
    }

    fn probe(&mut self) -> Heard {
        Heard { post: self.side.post(), cursor: None }
    }

    fn mark(&mut self, (): (), probe: &mut Heard) {
        probe.cursor = Some(self.cursor.clone());
    }

    fn poll(&mut self, (): ()) -> Result<(), Failure> {
        Receiving::poll(self)
    }
}

impl<T: NoUninit + AnyBitPattern> Handle for BroadcastReceiver<T> {
    type Interest = ();
    type Polled = Receiving<Typed<T>>;

    fn polled(&mut self) -> &mut Self::Polled {
        &mut self.receiving
    }
}

impl Handle for ByteBroadcastReceiver {
    type Interest = ();
    type Polled = Receiving<Untyped>;

    fn polled(&mut self) -> &mut Self::Polled {
        &mut self.receiving
    }
}

/// What the thread of a reader of a latest value looks at: whether it is another one than this.
pub struct Version {
    post: Post,
    read: u64,
}

impl Probe for Version {
    fn post(&self) -> &Post {
        &self.post
    }

    fn has_news(&mut self) -> bool {
        latest::memory(&self.post.attached).version() != self.read
    }
}

impl<T: NoUninit + AnyBitPattern> Polled for LatestReader<T> {
    type Interest = ();
    type Probe = Version;

    fn side(&mut self) -> &mut Participant {
        self.reading.side()
    }

    fn probe(&mut self) -> Version {
        Version { post: self.reading.side().post(), read: 0 }
    }

    fn mark(&mut self, (): (), probe: &mut Version) {
        probe.read = self.version();
    }

    fn poll(&mut self, (): ()) -> Result<(), Failure> {
        self.reading.poll()
    }
}

/// What the thread of an event's handle looks at: these flags.
pub struct Flags {
    post: Post,
    mask: u64,
}

impl Probe for Flags {
    fn post(&self) -> &Post {
        &self.post
    }

    fn has_news(&mut self) -> bool {
        event::flags(self.post.attached.half(Role::Sender)).look(Wanted::Any(self.mask)).is_some()
    }
}

impl Polled for EventHandle {
    /// Flags, one of which is to be raised.
    type Interest = u64;
    type Probe = Flags;

    fn side(&mut self) -> &mut Participant {
        &mut self.side
    }

    fn probe(&mut self) -> Flags {
        Flags { post: self.side.post(), mask: 0 }
    }

    fn mark(&mut self, mask: u64, probe: &mut Flags) {
        probe.mask = mask;
    }

    fn poll(&mut self, mask: u64) -> Result<(), Failure> {
        let flags = event::flags(self.side.attached.half(Role::Sender));
        // Of nothing there is nothing to wait for.
        if mask == 0 || flags.look(Wanted::Any(mask)).is_some() {
            Ok(())
        } else {
            Err(Failure::NotReady)
        }
    }
}

/// What the thread of a mailbox's receiver looks at: what its listener hears, and the number of orphans.
pub struct Arrivals {
    /// That of the listener.
    post: Post,
    heard: Option<Subscription>,
    orphans: u64,
}

impl Arrivals {
    fn orphans(&self) -> u64 {
        // Only compared.
        self.post.attached.half(Role::Receiver).cursor.position.load(Ordering::Relaxed)
    }
}

impl Probe for Arrivals {
    fn post(&self) -> &Post {
        &self.post
    }

    fn has_news(&mut self) -> bool {
        let arrived = self.heard.as_mut().is_none_or(|heard| heard.try_wait() != Ok(0));
        arrived || self.orphans() != self.orphans
    }

    fn may_be_held_up(&self) -> bool {
        table::are_others_at_work(&self.post.attached, self.post.entry)
    }
}

impl Polled for MailReceiver {
    type Interest = Select;
    type Probe = Arrivals;

    fn side(&mut self) -> &mut Participant {
        MailReceiver::side(self)
    }

    fn probe(&mut self) -> Arrivals {
        let post = Post { role: Role::Sender, ..MailReceiver::side(self).post() };
        Arrivals { post, heard: None, orphans: 0 }
    }

    fn mark(&mut self, select: Select, probe: &mut Arrivals) {
        probe.orphans = probe.orphans();
        // What cannot be listened for, the call says.
        probe.heard = match probe.heard.take() {
            Some(heard) => heard.again(select),
            None => self.mailbox().subscribe(select),
        }
        .ok();
        if let Some(heard) = &probe.heard {
            probe.post.bits = heard.bits();
        }
    }

    fn poll(&mut self, select: Select) -> Result<(), Failure> {
        MailReceiver::poll(self, select)
    }
}
