//! Who sleeps where in a mailbox, and whom a sender wakes.
//!
//! Those who wait for messages sleep in one of three places, by what they want, so that a sender knows what it may take
//! for answered:
//!
//! | wants | sleeps | is woken |
//! | --- | --- | --- |
//! | any type | where all meet, for senders | as in a ring: as many as there are messages |
//! | one type | in its lane, for senders | the same |
//! | some types; listeners | where all meet, on the other pair of words, for bits | all who want the type |
//!
//! Whoever is in one of the first two can take whatever it is woken for, so the rule of [`park`](crate::protocol::park) holds in each by itself:
//! one is woken for each message, and who was woken and finds more than it takes wakes another. Of those who want
//! some types only nobody knows who could take what is there after another one took something.
//! In that place nobody else sleeps: senders wait for room in lanes.

use super::{MOST_TYPES, Mail, bit};
use crate::protocol::layout::Half;
use crate::protocol::park::Answered;
use crate::sync::{Edge, light_barrier};

/// The futex bits of a sleeper whom every wake is for.
const ANY: u32 = u32::MAX;

/// Where one sleeps who waits for messages.
#[derive(Clone, Copy)]
pub struct Berth<'a> {
    /// Where it says that it sleeps.
    pub own: &'a Half,
    /// Whose epoch it sleeps on.
    pub peer: &'a Half,
    /// What it is to be woken for.
    pub bits: u32,
    /// Whether one is woken for each message, so that one who was woken and finds more wakes another.
    pub in_turn: bool,
}

impl core::fmt::Debug for Berth<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Berth").field("in_turn", &self.in_turn).finish_non_exhaustive()
    }
}

impl<'a> Berth<'a> {
    /// The berth of a receiver that waits for messages in the lanes of `wanted`.
    pub fn of_receiver(mail: Mail<'a>, wanted: u64) -> Self {
        let all = u64::MAX >> (MOST_TYPES - mail.lanes.len());
        if wanted == all {
            return Self { own: mail.receiver, peer: mail.sender, bits: ANY, in_turn: true };
        }
        if wanted.is_power_of_two() {
            let lane = &mail.lanes[wanted.trailing_zeros() as usize];
            return Self { own: lane.receiver, peer: lane.sender, bits: ANY, in_turn: true };
        }
        Self::of_listener(mail, wanted)
    }

    /// The berth of one who is to hear of every message in the lanes of `wanted`.
    pub fn of_listener(mail: Mail<'a>, wanted: u64) -> Self {
        // Two lanes have a bit in common if there are more than 32.
        let bits = wanted as u32 | (wanted >> 32) as u32;
        Self { own: mail.sender, peer: mail.receiver, bits, in_turn: false }
    }
}

/// Whom to wake of those who sleep on a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// The one who has slept longest.
    One,
    /// All who want one of these bits.
    All(u32),
}

/// A sender's memory of whom it has woken.
#[derive(Debug)]
pub struct Notifier {
    for_any: Answered,
    for_one: Box<[Answered]>,
    for_some: Box<[Answered]>,
}

impl Notifier {
    /// Everybody who has gone to sleep up to now. The new sender wakes them all after this, for one before it may have
    /// died before it did. `fences` as for [`Answered::up_to_now`].
    pub fn up_to_now(mail: Mail<'_>, fences: bool) -> Self {
        let lanes = mail.lanes.iter();
        Self {
            for_any: Answered::up_to_now(mail.receiver, fences),
            for_one: lanes.clone().map(|lane| Answered::up_to_now(lane.receiver, fences)).collect(),
            for_some: lanes.map(|_| Answered::up_to_now(mail.sender, fences)).collect(),
        }
    }

    /// Wakes those who wait for what was sent into `lane`. `wake` [rings](crate::protocol::park::ring) on a half and wakes those who sleep
    /// on it, and says how many they were.
    #[inline]
    pub fn notify(
        &mut self,
        mail: Mail<'_>,
        lane: usize,
        mut wake: impl FnMut(&Half, Whom) -> u32,
    ) {
        let place = &mail.lanes[lane];
        let Self { for_any, for_one, for_some } = self;
        let (for_one, for_some) = (&mut for_one[lane], &mut for_some[lane]);
        // P1 park, for all three at once.
        light_barrier(Edge::ParkNotify);
        if for_any.seems_quiet(mail.receiver)
            && for_one.seems_quiet(place.receiver)
            && for_some.seems_quiet(mail.sender)
        {
            return;
        }
        if for_any.must_fence(mail.receiver)
            || for_one.must_fence(place.receiver)
            || for_some.must_fence(mail.sender)
        {
            Edge::ParkNotify.fence();
        }
        if for_any.has_news(mail.receiver) {
            let woken = wake(mail.sender, Whom::One);
            for_any.woke(woken > 0);
        }
        if for_one.has_news(place.receiver) {
            let woken = wake(place.sender, Whom::One);
            for_one.woke(woken > 0);
        }
        if for_some.has_news(mail.sender) {
            let bits = Berth::of_listener(mail, bit(lane)).bits;
            wake(mail.receiver, Whom::All(bits));
        }
    }
}
