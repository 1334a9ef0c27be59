//! The models: each a scenario of [`exchange`](crate::exchange) with one ring and one number of messages.

use crate::crowd::{Crowd, First};
use crate::exchange::Exchange;
use crate::explore::{explore, explore_kills};
use crate::lanes::Round;
use crate::ring::{Kind, Verbs, Waiting};

/// What happens while messages pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// [`Exchange::undisturbed`].
    Undisturbed,
    /// [`Exchange::sender_dies`], at each of its accesses.
    SenderDies,
    /// [`Exchange::receiver_dies`], at each of its accesses.
    ReceiverDies,
    /// [`Exchange::sender_dies_alone`], at each of its accesses.
    SenderDiesAlone,
    /// [`Exchange::receiver_dies_alone`], at each of its accesses.
    ReceiverDiesAlone,
    /// [`Exchange::sender_comes`], killed at each of its accesses.
    SenderComes,
}

/// A model.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// What it shows.
    pub name: &'static str,
    /// What happens.
    pub scenario: Scenario,
    /// The ring and the messages.
    pub exchange: Exchange,
    /// The most preemptions in an interleaving; `None` explores all interleavings.
    pub preemptions: Option<usize>,
}

impl Model {
    /// Explores it.
    pub fn run(&self) {
        let exchange = self.exchange;
        let (name, preemptions) = (self.name, self.preemptions);
        match self.scenario {
            Scenario::Undisturbed => explore(name, preemptions, move || exchange.undisturbed()),
            Scenario::SenderDies => {
                explore_kills(name, preemptions, move |kill| exchange.sender_dies(kill));
            }
            Scenario::ReceiverDies => {
                explore_kills(name, preemptions, move |kill| exchange.receiver_dies(kill));
            }
            Scenario::SenderDiesAlone => {
                explore_kills(name, preemptions, move |kill| exchange.sender_dies_alone(kill));
            }
            Scenario::ReceiverDiesAlone => {
                explore_kills(name, preemptions, move |kill| exchange.receiver_dies_alone(kill));
            }
            Scenario::SenderComes => {
                explore_kills(name, preemptions, move |kill| exchange.sender_comes(kill));
            }
        }
    }
}

const SLOTS: Exchange = Exchange {
    kind: Kind::Slots { size: 8, capacity: 1 },
    verbs: Verbs::Copy,
    waiting: Waiting::Never,
    start: 0,
    before: 0,
    count: 3,
    send_batch: 1,
    receive_batch: 1,
    tries: 2,
};

/// Messages of `size` bytes in a ring of `capacity`: 8 bytes are seven a cell, 12 and 16 three, 32 and
/// more one.
const fn slots(size: usize, capacity: usize, count: u64) -> Exchange {
    Exchange { kind: Kind::Slots { size, capacity }, count, ..SLOTS }
}

/// Messages of `sizes` in a ring of `capacity` bytes, whose lap is 16 bytes longer.
const fn records(sizes: &'static [usize], capacity: usize, count: u64) -> Exchange {
    Exchange { kind: Kind::Records { sizes, capacity }, count, ..SLOTS }
}

/// `exchange` one 8-byte message short of the end of the first cell.
const fn late(exchange: Exchange) -> Exchange {
    Exchange { start: 6, ..exchange }
}

const fn batches(most: u64, exchange: Exchange) -> Exchange {
    Exchange { send_batch: most, receive_batch: most, ..exchange }
}

const fn iterate(exchange: Exchange) -> Exchange {
    Exchange { verbs: Verbs::Iterate, ..exchange }
}

const fn peek(exchange: Exchange) -> Exchange {
    Exchange { verbs: Verbs::Peek, ..exchange }
}

const fn own(exchange: Exchange) -> Exchange {
    Exchange { verbs: Verbs::Own, ..exchange }
}

const fn tries(tries: usize, exchange: Exchange) -> Exchange {
    Exchange { tries, ..exchange }
}

const fn before(before: u64, exchange: Exchange) -> Exchange {
    Exchange { before, ..exchange }
}

const fn waiting(waiting: Waiting, exchange: Exchange) -> Exchange {
    Exchange { waiting, ..exchange }
}

const fn spin(exchange: Exchange) -> Exchange {
    waiting(Waiting::Spin, exchange)
}

const fn park(exchange: Exchange) -> Exchange {
    waiting(Waiting::Park, exchange)
}

const fn park_on_request(exchange: Exchange) -> Exchange {
    waiting(Waiting::ParkOnRequest, exchange)
}

const fn park_unregistered(exchange: Exchange) -> Exchange {
    waiting(Waiting::ParkUnregistered, exchange)
}

const fn model(
    scenario: Scenario,
    name: &'static str,
    preemptions: Option<usize>,
    exchange: Exchange,
) -> Model {
    Model { name, scenario, exchange, preemptions }
}

const fn undisturbed(name: &'static str, preemptions: Option<usize>, exchange: Exchange) -> Model {
    model(Scenario::Undisturbed, name, preemptions, exchange)
}

/// Slots, nobody dies.
pub const SLOTS_UNDISTURBED: &[Model] = &[
    undisturbed("slots: 8 bytes, every interleaving", None, tries(1, slots(8, 1, 2))),
    undisturbed("slots: 8 bytes, room for 1", Some(2), slots(8, 1, 3)),
    undisturbed("slots: 8 bytes, room for 2", Some(2), tries(3, slots(8, 2, 4))),
    undisturbed(
        "slots: 8 bytes in pairs, into the next cell",
        Some(2),
        late(batches(2, slots(8, 2, 5))),
    ),
    undisturbed("slots: 8 bytes, whole cells at a time", Some(2), batches(7, slots(8, 7, 14))),
    undisturbed("slots: 12 bytes in pairs, waiting", Some(1), spin(batches(2, slots(12, 2, 3)))),
    undisturbed("slots: 32 bytes, room for 1", Some(2), slots(32, 1, 3)),
    undisturbed("slots: 32 bytes, room for 2", Some(2), tries(3, slots(32, 2, 4))),
    undisturbed("slots: 64 bytes, room for 1", Some(2), slots(64, 1, 3)),
    undisturbed("slots: 8 bytes, room for 1, waiting", Some(1), spin(slots(8, 1, 3))),
    undisturbed("slots: 8 bytes, next cell, waiting", Some(1), spin(late(slots(8, 2, 3)))),
    undisturbed("slots: 32 bytes, room for 1, waiting", Some(1), spin(slots(32, 1, 3))),
    undisturbed(
        "slots: 8 bytes, room for 16 and full, published every second message",
        Some(2),
        tries(3, before(16, slots(8, 16, 19))),
    ),
    undisturbed(
        "slots: from an iterator and to one, into the next cell",
        Some(2),
        iterate(late(batches(2, slots(8, 2, 5)))),
    ),
    undisturbed(
        "slots: from an iterator and to one, waiting",
        Some(1),
        spin(iterate(batches(2, slots(8, 2, 3)))),
    ),
    undisturbed(
        "slots: looked at, then skipped, into the next cell",
        Some(2),
        peek(late(batches(2, slots(8, 2, 5)))),
    ),
    undisturbed("slots: looked at, then skipped, room for 1", Some(2), peek(slots(32, 1, 3))),
    undisturbed("slots: a stream, waiting", Some(2), spin(slots(32, 4, 3))),
];

/// Slots whose sender makes lines its own before it has anything to send, nobody dies.
pub const SLOTS_OWNED: &[Model] = &[
    undisturbed("slots: each line taken back, waiting", Some(1), spin(slots(32, 3, 4))),
    undisturbed("slots: each line taken back, room for 3", Some(2), tries(4, slots(32, 3, 4))),
    undisturbed("slots: each line taken back, two a line", Some(2), tries(4, slots(24, 3, 4))),
    undisturbed("slots: each line taken back, in pairs", Some(2), batches(2, slots(24, 5, 6))),
    undisturbed("slots: next one owned, room for 1", Some(2), own(slots(32, 1, 3))),
    undisturbed("slots: next one owned, 8 bytes", Some(2), own(late(slots(8, 2, 4)))),
    undisturbed("slots: next one owned, 64 bytes", Some(2), own(slots(64, 2, 3))),
];

/// Slots, one side dies.
pub const SLOTS_DEATHS: &[Model] = &[
    model(
        Scenario::SenderDies,
        "slots: sender of a stream dies",
        Some(2),
        tries(3, slots(32, 4, 4)),
    ),
    model(Scenario::SenderDies, "slots: sender dies, 8 bytes", Some(1), slots(8, 2, 4)),
    model(
        Scenario::SenderDies,
        "slots: sender that takes each line back dies",
        Some(1),
        tries(3, slots(32, 3, 5)),
    ),
    model(
        Scenario::SenderDies,
        "slots: sender that takes each line back dies, two a line",
        Some(1),
        tries(3, slots(24, 3, 5)),
    ),
    model(
        Scenario::SenderDies,
        "slots: sender dies, next one owned",
        Some(1),
        own(late(slots(8, 2, 4))),
    ),
    model(Scenario::SenderDies, "slots: sender dies, 32 bytes", Some(1), slots(32, 1, 3)),
    model(
        Scenario::SenderDies,
        "slots: sender dies, pairs into the next cell",
        Some(1),
        late(batches(2, slots(8, 2, 4))),
    ),
    model(
        Scenario::ReceiverDies,
        "slots: receiver dies, 8 bytes",
        Some(1),
        before(1, slots(8, 1, 3)),
    ),
    model(
        Scenario::ReceiverDies,
        "slots: receiver dies, 32 bytes",
        Some(1),
        before(2, slots(32, 2, 4)),
    ),
    model(
        Scenario::ReceiverDies,
        "slots: receiver dies, pairs into the next cell",
        Some(1),
        before(2, late(batches(2, slots(8, 2, 4)))),
    ),
    model(
        Scenario::SenderDies,
        "slots: sender dies, from an iterator into the next cell",
        Some(1),
        iterate(late(batches(2, slots(8, 2, 4)))),
    ),
    model(
        Scenario::ReceiverDies,
        "slots: receiver dies, to an iterator",
        Some(1),
        before(1, iterate(batches(2, slots(8, 2, 3)))),
    ),
    model(
        Scenario::ReceiverDies,
        "slots: receiver dies, between look and skip",
        Some(1),
        before(1, peek(batches(2, slots(8, 2, 3)))),
    ),
];

/// Records, nobody dies.
pub const RECORDS_UNDISTURBED: &[Model] = &[
    undisturbed("records: every interleaving", None, tries(1, records(&[8], 8, 2))),
    undisturbed("records: as long as the ring", Some(2), records(&[16], 16, 3)),
    undisturbed("records: empty ones", Some(2), records(&[0], 8, 4)),
    undisturbed("records: a pad each lap", Some(2), records(&[8, 3], 8, 3)),
    undisturbed("records: mixed sizes", Some(2), records(&[8, 0, 16], 16, 4)),
    undisturbed(
        "records: a pad each lap, waiting; published position trails by more than a ring",
        Some(2),
        spin(records(&[8], 8, 3)),
    ),
    undisturbed(
        "records: looked at, then skipped, over a pad",
        Some(1),
        peek(Exchange { receive_batch: 2, ..records(&[8, 0, 16], 16, 4) }),
    ),
];

/// Records whose sender makes lines its own before it has anything to send, nobody dies. The line that is next begins with
/// the pad which the receiver still has to skip.
pub const RECORDS_OWNED: &[Model] = &[
    undisturbed(
        "records: lines owned as far as there is room",
        Some(1),
        tries(3, before(2, records(&[24], 56, 3))),
    ),
    undisturbed(
        "records: the next record's line owned if there is room",
        Some(1),
        tries(5, before(4, records(&[8], 56, 7))),
    ),
    undisturbed(
        "records: the next one owned while an answer is awaited",
        Some(1),
        own(records(&[24], 120, 3)),
    ),
    undisturbed(
        "records: the next one owned if there is room",
        Some(1),
        own(before(2, records(&[24], 80, 4))),
    ),
];

/// Records, one side dies.
pub const RECORDS_DEATHS: &[Model] = &[
    model(Scenario::SenderDies, "records: sender dies, pads", Some(1), records(&[8, 3], 8, 3)),
    model(
        Scenario::SenderDies,
        "records: sender dies, mixed",
        Some(1),
        records(&[8, 0, 16], 16, 4),
    ),
    model(
        Scenario::SenderDies,
        "records: sender dies, next one owned",
        Some(1),
        own(before(2, records(&[24], 80, 4))),
    ),
    model(
        Scenario::ReceiverDies,
        "records: receiver dies, pads",
        Some(1),
        before(1, records(&[8, 3], 8, 3)),
    ),
    model(
        Scenario::ReceiverDies,
        "records: receiver dies, mixed",
        Some(1),
        before(1, records(&[8, 0, 16], 16, 4)),
    ),
    model(
        Scenario::ReceiverDies,
        "records: receiver dies, between look and skip",
        Some(1),
        before(1, peek(records(&[8, 3], 8, 3))),
    ),
];

/// Sleeping, nobody dies.
pub const PARK_UNDISTURBED: &[Model] = &[
    model(
        Scenario::SenderComes,
        "park: a sender comes, or is killed while it does",
        Some(2),
        waiting(Waiting::ParkForPeer, slots(8, 1, 1)),
    ),
    undisturbed("park: the receiver sleeps", Some(2), park(slots(8, 2, 1))),
    undisturbed("park: both sleep", Some(2), park(slots(8, 1, 2))),
    undisturbed("park: both sleep and ask for a fence", Some(2), park_on_request(slots(8, 1, 2))),
    undisturbed(
        "park: the receiver sleeps, its sender always fences",
        Some(2),
        park_unregistered(slots(8, 2, 1)),
    ),
    undisturbed("park: both sleep and always fence", Some(1), park_unregistered(slots(8, 1, 2))),
    undisturbed("park: a pad wakes", Some(1), park(records(&[8, 16], 16, 2))),
];

/// Sleeping, one side dies.
pub const PARK_DEATHS: &[Model] = &[
    model(Scenario::SenderDies, "park: notifying sender dies", Some(1), park(slots(8, 2, 2))),
    model(
        Scenario::SenderDies,
        "park: sender that sleeps or notifies dies",
        Some(1),
        park(before(1, slots(8, 1, 3))),
    ),
    model(
        Scenario::SenderDies,
        "park: notifying sender of records dies",
        Some(1),
        park(records(&[8, 16], 16, 2)),
    ),
    model(Scenario::ReceiverDies, "park: sleeping receiver dies", Some(1), park(slots(8, 2, 2))),
    model(
        Scenario::ReceiverDies,
        "park: notifying receiver dies",
        Some(1),
        park(before(1, slots(8, 1, 2))),
    ),
    model(
        Scenario::SenderDiesAlone,
        "park: notifying sender dies, and the slice ends",
        Some(1),
        park(slots(8, 2, 2)),
    ),
    model(
        Scenario::SenderDiesAlone,
        "park: sender that was asked to fence dies, and the slice ends",
        Some(1),
        park_on_request(slots(8, 2, 2)),
    ),
    model(
        Scenario::SenderDiesAlone,
        "park: sender that always fences dies, and the slice ends",
        Some(1),
        park_unregistered(slots(8, 2, 2)),
    ),
    model(
        Scenario::ReceiverDiesAlone,
        "park: notifying receiver dies, and the slice ends",
        Some(1),
        park(before(1, slots(8, 1, 2))),
    ),
];

/// A model of a ring with shared sides.
#[derive(Clone, Copy, Debug)]
pub struct Meeting {
    /// What it shows.
    pub name: &'static str,
    /// Who takes part.
    pub crowd: Crowd,
    /// Who dies, if anybody does.
    pub death: Death,
    /// The most preemptions in an interleaving.
    pub preemptions: Option<usize>,
}

/// Who dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Nobody.
    Nobody,
    /// This participant, at each of its accesses.
    Of(usize),
    /// This participant, alone, at its access of that number; then, at each of its accesses, the other one,
    /// which repairs.
    Repairer(usize, usize, usize),
}

impl Meeting {
    /// Explores it.
    pub fn run(&self) {
        let (name, preemptions, crowd) = (self.name, self.preemptions, self.crowd);
        match self.death {
            Death::Nobody => explore(name, preemptions, move || {
                crowd.meet(0, None);
            }),
            Death::Of(victim) => {
                explore_kills(name, preemptions, move |kill| crowd.meet(victim, kill));
            }
            Death::Repairer(victim, first, repairer) => {
                explore_kills(name, preemptions, move |kill| {
                    crowd.repair(victim, first, repairer, kill)
                });
            }
        }
    }
}

const CROWD: Crowd = Crowd {
    capacity: 2,
    start: 0,
    before: 0,
    senders: &[1, 1],
    receivers: &[2],
    batch: 1,
    sole: false,
    first: First::Take,
};

const fn meeting(name: &'static str, preemptions: usize, crowd: Crowd, death: Death) -> Meeting {
    Meeting { name, crowd, death, preemptions: Some(preemptions) }
}

const TWO_TO_ONE: Crowd = CROWD;
const ONE_TO_TWO: Crowd = Crowd { senders: &[2], receivers: &[1, 1], ..CROWD };
const TWO_TO_TWO: Crowd = Crowd { senders: &[1, 1], receivers: &[1, 1], ..CROWD };
/// The ring is full when all begin, so that a lap ends.
const FULL: Crowd =
    Crowd { capacity: 2, start: 1, before: 2, senders: &[1], receivers: &[1, 1], ..CROWD };
const GIVES_BACK: Crowd =
    Crowd { before: 1, senders: &[1], receivers: &[2, 1], first: First::GiveBack, ..CROWD };

/// Shared sides, nobody dies.
pub const CLAIMS_UNDISTURBED: &[Meeting] = &[
    meeting("claims: two senders, a receiver", 3, TWO_TO_ONE, Death::Nobody),
    meeting(
        "claims: two senders, a sole receiver",
        3,
        Crowd { sole: true, ..TWO_TO_ONE },
        Death::Nobody,
    ),
    meeting("claims: a sender, two receivers", 2, ONE_TO_TWO, Death::Nobody),
    meeting(
        "claims: a sole sender, two receivers",
        2,
        Crowd { sole: true, ..ONE_TO_TWO },
        Death::Nobody,
    ),
    meeting("claims: two senders, two receivers", 1, TWO_TO_TWO, Death::Nobody),
    meeting("claims: full, a sender, two receivers", 3, FULL, Death::Nobody),
    meeting("claims: room for one", 3, Crowd { capacity: 1, ..TWO_TO_ONE }, Death::Nobody),
    meeting("claims: pairs", 1, Crowd { batch: 2, senders: &[2, 1], ..TWO_TO_ONE }, Death::Nobody),
    meeting("claims: given back", 3, GIVES_BACK, Death::Nobody),
];

/// Shared sides, one participant dies.
pub const CLAIMS_DEATHS: &[Meeting] = &[
    meeting("claims: full, one of two receivers dies", 2, FULL, Death::Of(1)),
    meeting("claims: one of two senders dies", 2, TWO_TO_ONE, Death::Of(0)),
    meeting("claims: the receiver of two senders dies", 2, TWO_TO_ONE, Death::Of(2)),
    meeting(
        "claims: the sole receiver of two senders dies",
        2,
        Crowd { sole: true, ..TWO_TO_ONE },
        Death::Of(2),
    ),
    meeting("claims: one of two receivers dies", 2, ONE_TO_TWO, Death::Of(1)),
    meeting("claims: the sender of two receivers dies", 2, ONE_TO_TWO, Death::Of(0)),
    meeting(
        "claims: the sole sender of two receivers dies",
        2,
        Crowd { sole: true, ..ONE_TO_TWO },
        Death::Of(0),
    ),
    meeting("claims: one of two and two dies, a sender", 1, TWO_TO_TWO, Death::Of(0)),
    meeting("claims: one of two and two dies, a receiver", 1, TWO_TO_TWO, Death::Of(2)),
    meeting("claims: full, the sender dies", 2, FULL, Death::Of(0)),
    meeting(
        "claims: pairs, one of two senders dies",
        1,
        Crowd { batch: 2, ..TWO_TO_ONE },
        Death::Of(0),
    ),
    meeting(
        "claims: pairs, a receiver dies",
        1,
        Crowd { batch: 2, before: 2, senders: &[1], receivers: &[1, 1], ..CROWD },
        Death::Of(1),
    ),
    meeting("claims: who gives back dies", 2, GIVES_BACK, Death::Of(1)),
];

/// A repairer dies as well. The first victim dies with a claim: a sender between claim and commit, a receiver
/// between claim and copy.
pub const CLAIMS_REPAIRS: &[Meeting] = &[
    meeting("claims: a repairer of a sender dies", 2, TWO_TO_ONE, Death::Repairer(0, 4, 1)),
    meeting("claims: a repairer of a receiver dies", 2, FULL, Death::Repairer(1, 5, 2)),
    meeting("claims: a repairer of a giver dies", 2, GIVES_BACK, Death::Repairer(1, 9, 2)),
];

/// A model of a ring with lanes.
#[derive(Clone, Copy, Debug)]
pub struct Laned {
    /// What it shows.
    pub name: &'static str,
    /// What passes.
    pub round: Round,
    /// What happens meanwhile.
    pub event: Event,
    /// The most preemptions in an interleaving.
    pub preemptions: Option<usize>,
}

/// What happens in a ring with lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// [`Round::undisturbed`].
    Nothing,
    /// [`Round::relay`].
    Relay,
    /// [`Round::sender_dies`], at each of its accesses.
    SenderDies,
    /// [`Round::sender_dies_alone`], at each of its accesses.
    SenderDiesAlone,
    /// [`Round::receiver_dies`], at each of its accesses.
    ReceiverDies,
}

impl Laned {
    /// Explores it.
    pub fn run(&self) {
        let (name, preemptions, round) = (self.name, self.preemptions, self.round);
        match self.event {
            Event::Nothing => explore(name, preemptions, move || round.undisturbed()),
            Event::Relay => explore(name, preemptions, move || round.relay()),
            Event::SenderDies => {
                explore_kills(name, preemptions, move |kill| round.sender_dies(kill));
            }
            Event::SenderDiesAlone => {
                explore_kills(name, preemptions, move |kill| round.sender_dies_alone(kill));
            }
            Event::ReceiverDies => {
                explore_kills(name, preemptions, move |kill| round.receiver_dies(kill));
            }
        }
    }
}

const ROUND: Round = Round { messages: [1, 1], room: 2, ordered: false };
const ALONE: Round = Round { messages: [1, 0], ..ROUND };

const fn laned(name: &'static str, preemptions: usize, round: Round, event: Event) -> Laned {
    Laned { name, round, event, preemptions: Some(preemptions) }
}

/// Lanes, nobody dies.
pub const LANES_UNDISTURBED: &[Laned] = &[
    laned("lanes: a sender, the receiver sleeps", 2, ALONE, Event::Nothing),
    laned(
        "lanes: a sender, room for one, both sleep",
        1,
        Round { messages: [2, 0], room: 1, ..ROUND },
        Event::Nothing,
    ),
    laned("lanes: two senders, the receiver sleeps", 1, ROUND, Event::Nothing),
    laned("lanes: one answers the other", 1, Round { ordered: true, ..ROUND }, Event::Relay),
];

/// Lanes, somebody dies.
pub const LANES_DEATHS: &[Laned] = &[
    laned("lanes: a sender dies, its lane is taken over", 1, ALONE, Event::SenderDies),
    laned("lanes: a sender dies, and the slice ends", 1, ALONE, Event::SenderDiesAlone),
    laned("lanes: the receiver dies", 1, Round { messages: [2, 0], ..ROUND }, Event::ReceiverDies),
];
