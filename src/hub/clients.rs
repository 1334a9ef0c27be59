//! The clients of a hub: who is there, and what a hub does with a connection.

use crate::duplex::{ByteDuplex, Duplex};
use crate::error::Failure;
use crate::handshake::{Face, Link};
use crate::participants::{Ending, Participant};
use crate::protocol::park::Barrier;
use crate::sys::membarrier;
use crate::wait::heavy;
use bytemuck::{AnyBitPattern, NoUninit};
use std::fmt;
use std::sync::Arc;

/// The name of the listener in the hub's set; no client has it.
pub(super) const LISTENER: u64 = u64::MAX;
/// Bells that a client has for coming and going, and some more.
const SPARE_BELLS: u32 = 16;
/// Bells that were asked for and have not come yet, at most: as many as a socket holds, and some more.
const MOST_BELLS: u32 = 4096;

/// A client of a [`Hub`](crate::Hub). Each has its own; a name is not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId {
    /// Which one in this place it is.
    generation: u32,
    place: u32,
}

impl ClientId {
    /// As one number, for the kernel.
    pub(super) fn name(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.place)
    }

    pub(super) fn of(name: u64) -> Self {
        Self { generation: (name >> 32) as u32, place: name as u32 }
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.place, self.generation)
    }
}

/// What a look at a client's ring shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A message.
    Message,
    /// Nothing, yet.
    Nothing,
    /// Nothing, and there will be nothing more.
    Ended(Ending),
}

/// A connection that a [`Hub`](crate::Hub) can have; sealed by being out of reach.
pub trait Member: Face {
    /// Looks for a message.
    #[doc(hidden)]
    fn look(&mut self) -> Found;

    /// Says in the ring that this side is about to sleep.
    #[doc(hidden)]
    fn announce(&self);

    /// Says in the other ring that this side waits for room; the peer's position as it was before.
    #[doc(hidden)]
    fn ask_for_room(&self) -> u64;

    /// Twice how often this side has said, in either ring, that it is about to sleep; it wraps.
    #[doc(hidden)]
    fn announced(&self) -> u32;

    /// How far this side has received, if a look has just found nothing. Also over what is no message: a sender rings for the
    /// end of a lap that it cannot use.
    #[doc(hidden)]
    fn received(&self) -> u64;

    /// Whether the peer has received something since that position.
    #[doc(hidden)]
    fn has_made_room(&self, since: u64) -> bool;

    /// How the peer has ended its part, if it has.
    #[doc(hidden)]
    fn how_it_ended(&self) -> Option<Ending>;

    /// The control socket.
    #[doc(hidden)]
    fn control(&self) -> Control;
}

/// The control socket of a connection, in a coat that only this crate can open.
#[derive(Debug)]
pub struct Control(pub(crate) Arc<Link>);

fn found(looked: Result<(), Failure>, ending: impl FnOnce() -> Option<Ending>) -> Found {
    match looked {
        Ok(()) => Found::Message,
        Err(Failure::NotReady | Failure::Timeout | Failure::Forked) => Found::Nothing,
        Err(Failure::Disconnected) => Found::Ended(ending().unwrap_or(Ending::Died)),
        Err(Failure::Corrupt) => Found::Ended(Ending::Corrupt),
    }
}

/// Makes announcements count: before it they are said, after it this side looks once more.
pub(super) fn barrier() {
    // P1 park.
    heavy(if membarrier::is_registered() { Barrier::Membarrier } else { Barrier::Fence });
}

fn ask_for_room(side: &Participant) -> u64 {
    let since = side.position_of_peer();
    side.announce_sleep();
    barrier();
    since
}

impl<T: NoUninit + AnyBitPattern> Member for Duplex<T> {
    #[inline]
    fn look(&mut self) -> Found {
        // A side that the program has shut down waits for nothing.
        let Some(receiver) = self.receiver() else { return Found::Nothing };
        found(receiver.slots.poll(), || self.common.ending())
    }

    fn announce(&self) {
        self.receiver.slots.side.announce_sleep();
    }

    fn ask_for_room(&self) -> u64 {
        ask_for_room(&self.sender.slots.side)
    }

    fn received(&self) -> u64 {
        self.receiver.slots.side.position()
    }

    fn announced(&self) -> u32 {
        let (receives, sends) = (&self.receiver.slots.side, &self.sender.slots.side);
        receives.announced().wrapping_add(sends.announced())
    }

    fn has_made_room(&self, since: u64) -> bool {
        self.sender.slots.side.position_of_peer() != since
    }

    fn how_it_ended(&self) -> Option<Ending> {
        self.common.ending()
    }

    fn control(&self) -> Control {
        Control(self.common.link())
    }
}

impl Member for ByteDuplex {
    #[inline]
    fn look(&mut self) -> Found {
        let Some(receiver) = self.receiver() else { return Found::Nothing };
        found(receiver.poll(), || self.common.ending())
    }

    fn announce(&self) {
        self.receiver.side.announce_sleep();
    }

    fn ask_for_room(&self) -> u64 {
        ask_for_room(&self.sender.side)
    }

    fn received(&self) -> u64 {
        self.receiver.side.position()
    }

    fn announced(&self) -> u32 {
        let (receives, sends) = (&self.receiver.side, &self.sender.side);
        receives.announced().wrapping_add(sends.announced())
    }

    fn has_made_room(&self, since: u64) -> bool {
        self.sender.side.position_of_peer() != since
    }

    fn how_it_ended(&self) -> Option<Ending> {
        self.common.ending()
    }

    fn control(&self) -> Control {
        Control(self.common.link())
    }
}

/// A client that is there.
#[derive(Debug)]
pub(super) struct Client<F> {
    pub(super) connection: Box<F>,
    pub(super) link: Arc<Link>,
    pub(super) id: ClientId,
    /// Whether it is looked at in each round.
    pub(super) is_active: bool,
    /// Rounds in which nothing was found.
    pub(super) empty: u32,
    /// Whether it is gone from its socket.
    pub(super) has_hung_up: bool,
    /// The peer's position when this side found no room.
    pub(super) awaits_room: Option<u64>,
    /// How far was received from it when it was asked to ring.
    received: u64,
    /// Times that it has rung, up to [`SPARE_BELLS`].
    rung: u32,
    /// Times that it may ring still, and what this side had announced when it last did.
    bells: u32,
    announced: u32,
}

impl<F: Member> Client<F> {
    /// Counts a bell; whether a correct client would ring: once for what this side has announced, and when it comes or
    /// goes.
    pub(super) fn may_ring(&mut self) -> bool {
        let announced = self.connection.announced();
        let since = announced.wrapping_sub(std::mem::replace(&mut self.announced, announced)) / 2;
        let bells = self.bells.saturating_add(since).min(MOST_BELLS);
        self.bells = bells.saturating_sub(1);
        self.rung = SPARE_BELLS.min(self.rung + 1);
        bells > 0
    }

    /// Asks it to ring for what comes from now on.
    pub(super) fn ask(&mut self) {
        (self.empty, self.is_active) = (0, false);
        // Before it is asked: what it rings for is behind that, also if it is passed over before the bell is heard.
        self.received = self.connection.received();
        self.connection.announce();
    }

    /// Whether it is to be looked at, and asked to ring again, since it has just rung. What it rings for is there, or has been
    /// passed over since it was asked: the end of a lap, or what the program has received beside its turns. If not, that was
    /// found before this side asked it. So who rings for nothing is not looked at for longer, nor asked again.
    pub(super) fn rings_for_something(&mut self) -> bool {
        self.is_new() || self.has_news() || self.connection.received() != self.received
    }

    /// Whether a bell may have been for its coming, by which it says nothing, and has answered all announcements.
    fn is_new(&self) -> bool {
        self.rung < SPARE_BELLS
    }

    /// Whether it has received something since this side found no room.
    pub(super) fn made_room(&self) -> bool {
        self.awaits_room.is_some_and(|since| self.connection.has_made_room(since))
    }

    /// Whether there is anything to do for it.
    pub(super) fn has_news(&mut self) -> bool {
        self.has_hung_up || self.made_room() || self.connection.look() != Found::Nothing
    }

    /// That it has made room, said once.
    pub(super) fn has_room(&mut self) -> bool {
        let has = self.made_room();
        if has {
            self.awaits_room = None;
        }
        has
    }
}

/// All of them, each at a place of its own.
#[derive(Debug)]
pub(super) struct Clients<F> {
    places: Vec<Place<F>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place<F> {
    generation: u32,
    client: Option<Client<F>>,
}

impl<F> Default for Clients<F> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<F> Clients<F> {
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = ClientId> + '_ {
        self.places.iter().filter_map(|place| place.client.as_ref()).map(|client| client.id)
    }

    pub(super) fn get(&self, id: ClientId) -> Option<&Client<F>> {
        let client = self.places.get(id.place as usize)?.client.as_ref();
        client.filter(|client| client.id == id)
    }

    pub(super) fn get_mut(&mut self, id: ClientId) -> Option<&mut Client<F>> {
        let client = self.places.get_mut(id.place as usize)?.client.as_mut();
        client.filter(|client| client.id == id)
    }

    pub(super) fn add(&mut self, connection: Box<F>, link: Arc<Link>) -> ClientId {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, client: None });
            (self.places.len() - 1) as u32
        });
        let there = &mut self.places[place as usize];
        let id = ClientId { generation: there.generation, place };
        there.client = Some(Client {
            connection,
            link,
            id,
            is_active: false,
            empty: 0,
            has_hung_up: false,
            awaits_room: None,
            received: 0,
            rung: 0,
            bells: SPARE_BELLS,
            announced: 0,
        });
        id
    }

    pub(super) fn remove(&mut self, id: ClientId) -> Option<Client<F>> {
        self.get(id)?;
        let place = &mut self.places[id.place as usize];
        place.generation = place.generation.wrapping_add(1);
        self.free.push(id.place);
        place.client.take()
    }
}
