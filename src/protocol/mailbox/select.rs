//! Which message a receiver wants.

/// The most types.
pub const MOST_TYPES: usize = 64;
const _: () = assert!(MOST_TYPES == u64::BITS as usize);

/// Which message to receive, by the rules of `msgrcv` and `mq_receive`. Types are numbered from 1.
///
/// | | takes | System V, POSIX |
/// | --- | --- | --- |
/// | `Any` | the oldest message | `msgtyp` 0 |
/// | `Type(t)` | the oldest of type `t` | `msgtyp` `t` |
/// | `AtMost(t)` | the oldest of the lowest type that has a message, of those up to `t` | `msgtyp` `-t` |
/// | `Except(t)` | the oldest of all types but `t` | `msgtyp` `t` with `MSG_EXCEPT` |
/// | `Highest` | the oldest of the highest type that has a message | `mq_receive`, with types as priorities |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Select {
    /// The oldest message, of whatever type.
    #[default]
    Any,
    /// The oldest message of this type.
    Type(u8),
    /// The oldest message of the lowest type that has one, this type or lower ones.
    AtMost(u8),
    /// The oldest message of any type but this.
    Except(u8),
    /// The oldest message of the highest type that has one: types are priorities.
    Highest,
}

/// The lane of a type.
pub(super) const fn bit(lane: usize) -> u64 {
    1 << lane
}

impl Select {
    /// A bit for each lane, of `types`, that a message may come from; `None` if a type is none at all.
    pub fn lanes(self, types: usize) -> Option<u64> {
        let below = |count: usize| if count >= MOST_TYPES { u64::MAX } else { bit(count) - 1 };
        let all = below(types);
        let of = |kind: u8| {
            let kind = usize::from(kind);
            (1..=MOST_TYPES).contains(&kind).then_some(kind)
        };
        Some(match self {
            Self::Any | Self::Highest => all,
            Self::Type(kind) => bit(of(kind)? - 1) & all,
            Self::AtMost(kind) => below(of(kind)?) & all,
            Self::Except(kind) => !bit(of(kind)? - 1) & all,
        })
    }

    /// The lanes of `set`, those first whose messages go first.
    pub(super) fn in_order(self, mut set: u64) -> impl Iterator<Item = usize> {
        let highest = self == Self::Highest;
        core::iter::from_fn(move || {
            if set == 0 {
                return None;
            }
            let lane =
                if highest { 63 - set.leading_zeros() } else { set.trailing_zeros() } as usize;
            set &= !bit(lane);
            Some(lane)
        })
    }

    /// Whether a lane that has a message goes before all that come later [in order](Self::in_order).
    pub(super) fn is_by_type(self) -> bool {
        matches!(self, Self::AtMost(_) | Self::Highest)
    }

    /// The lanes of `set` that go before `lane`; none if there is no lane.
    pub(super) fn before(self, lane: Option<usize>, set: u64) -> u64 {
        let Some(lane) = lane else { return 0 };
        let lower = bit(lane) - 1;
        set & if self == Self::Highest { !(lower | bit(lane)) } else { lower }
    }
}
