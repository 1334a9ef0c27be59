//! What the two sides of a handshake say: messages of 64-bit little-endian words, each of one length.
//!
//! ```text
//! word   0        1     2                3          4     5     6      7      8     9 ... 16
//! HELLO  magic    1     version          features   kind  size  align  there  back  label       + 1 descriptor
//! ANSWER magic    2     version          features   there back                                  + 1 descriptor
//! REFUSE magic    3     refusal          version
//! BELL   magic    6
//! FDS    magic    9     number           count                                                    + count descriptors
//! INVITE magic    7     role                                                                    + 1 descriptor
//! TAKEN  magic    8                                                                             + 1 descriptor
//! ```
//!
//! `features` are what the side that says it asks of the other one. BELL and FDS come after the handshake.
//! INVITE and TAKEN are another one, for a single ring (`ticket.rs`); roles are 1, sender, and 2, receiver. 4 and 5 were
//! those of a version that said more.
//!
//! HELLO and REFUSE are as long in every version, and begin with the same words, so that those who do not understand each
//! other can say so. With a HELLO of another version may come any descriptors.

use crate::error::{ConnectError, Refusal, Role};
use crate::protocol::layout::LABEL;
use crate::sys::socket::MOST_FDS;

/// The first word of every message.
const MAGIC: u64 = u64::from_le_bytes(*b"annulus>");
/// The handshake's version. It goes with the layout's: who changes one of them changes this.
pub(crate) const VERSION: u32 = 2;
/// A bit of the features: whoever said so sleeps where no futex wakes it, and is to be rung for by a BELL as well.
pub(crate) const BELL_PLEASE: u64 = 1;
/// All bits that there are.
pub(crate) const FEATURES: u64 = BELL_PLEASE;

const HELLO: u64 = 1;
const ANSWER: u64 = 2;
const REFUSE: u64 = 3;
const BELL: u64 = 6;
const INVITE: u64 = 7;
const TAKEN: u64 = 8;
const FDS: u64 = 9;

/// Words of the longest message.
const LONGEST: usize = 9 + LABEL / 8;

/// Bytes of a buffer that takes every message.
pub(crate) const BUFFER: usize = LONGEST * 8;

/// What a client asks for; its halves come with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) version: u32,
    pub(crate) features: u64,
    pub(crate) kind: u64,
    pub(crate) size: u64,
    pub(crate) align: u64,
    /// Capacity from the client to the listener.
    pub(crate) there: u64,
    /// Capacity from the listener to the client.
    pub(crate) back: u64,
    pub(crate) label: [u8; LABEL],
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Hello(Hello),
    /// The listener has accepted it: here are its halves. What was asked for, said again.
    Answer {
        version: u32,
        features: u64,
        there: u64,
        back: u64,
    },
    /// The end.
    Refuse {
        refusal: Refusal,
        version: u32,
    },
    /// Look: there is something in a ring, or room, since you said that you are about to sleep.
    Bell,
    /// There is a role to take: here is the other half.
    Invite {
        role: Role,
    },
    /// It is taken: here is its half.
    Taken,
    /// Here are descriptors for a message that follows in the ring.
    Descriptors {
        /// Messages in that ring before it.
        number: u64,
        count: u64,
    },
}

impl Message {
    /// How many descriptors come with it; `None` if nobody here knows.
    pub(crate) fn fds(&self) -> Option<usize> {
        match self {
            Self::Hello(hello) if hello.version != VERSION => None,
            Self::Hello(_) | Self::Answer { .. } | Self::Invite { .. } | Self::Taken => Some(1),
            Self::Descriptors { count, .. } => Some(*count as usize),
            Self::Refuse { .. } | Self::Bell => Some(0),
        }
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let words: Vec<u64> = match self {
            Self::Hello(hello) => {
                let Hello { version, features, kind, size, align, there, back, label } = hello;
                let head =
                    [MAGIC, HELLO, u64::from(version), features, kind, size, align, there, back];
                let mut bytes: Vec<u8> = head.iter().flat_map(|word| word.to_le_bytes()).collect();
                bytes.extend_from_slice(&label);
                return bytes;
            }
            Self::Answer { version, features, there, back } => {
                vec![MAGIC, ANSWER, u64::from(version), features, there, back]
            }
            Self::Refuse { refusal, version } => {
                vec![MAGIC, REFUSE, refusal.number(), u64::from(version)]
            }
            Self::Bell => vec![MAGIC, BELL],
            Self::Invite { role: Role::Sender } => vec![MAGIC, INVITE, 1],
            Self::Invite { role: Role::Receiver } => vec![MAGIC, INVITE, 2],
            Self::Taken => vec![MAGIC, TAKEN],
            Self::Descriptors { number, count } => vec![MAGIC, FDS, number, count],
        };
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// What `bytes` say.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Result<Self, ConnectError> {
        let broken = |reason| ConnectError::Protocol { reason };
        let word = |i: usize| {
            let bytes = bytes.get(i * 8..i * 8 + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u64::from_le_bytes).ok_or(broken("sends a message that is too short"))
        };
        let version =
            |i| u32::try_from(word(i)?).map_err(|_| broken("has a version that cannot be"));
        if word(0)? != MAGIC {
            return Err(broken("does not speak this handshake"));
        }
        let (message, words) = match word(1)? {
            HELLO => {
                let mut label = [0; LABEL];
                let there = bytes.get(72..72 + LABEL);
                label.copy_from_slice(there.ok_or(broken("sends a message that is too short"))?);
                let hello = Hello {
                    version: version(2)?,
                    features: word(3)?,
                    kind: word(4)?,
                    size: word(5)?,
                    align: word(6)?,
                    there: word(7)?,
                    back: word(8)?,
                    label,
                };
                (Self::Hello(hello), LONGEST)
            }
            ANSWER => {
                let (version, features) = (version(2)?, word(3)?);
                (Self::Answer { version, features, there: word(4)?, back: word(5)? }, 6)
            }
            REFUSE => (Self::Refuse { refusal: Refusal::of(word(2)?), version: version(3)? }, 4),
            BELL => (Self::Bell, 2),
            INVITE => match word(2)? {
                1 => (Self::Invite { role: Role::Sender }, 3),
                2 => (Self::Invite { role: Role::Receiver }, 3),
                _ => return Err(broken("invites to no known role")),
            },
            TAKEN => (Self::Taken, 2),
            FDS => {
                let (number, count) = (word(2)?, word(3)?);
                if !(1..=MOST_FDS as u64).contains(&count) {
                    return Err(broken("sends a wrong number of descriptors"));
                }
                (Self::Descriptors { number, count }, 4)
            }
            _ => return Err(broken("sends a message of no known kind")),
        };
        if bytes.len() != words * 8 {
            return Err(broken("sends a message of the wrong length"));
        }
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> [Message; 8] {
        let hello = Hello {
            version: 1,
            features: 2,
            kind: 3,
            size: 4,
            align: 5,
            there: 6,
            back: 7,
            label: [8; LABEL],
        };
        [
            Message::Hello(hello),
            Message::Answer { version: 1, features: 2, there: 3, back: u64::MAX },
            Message::Refuse { refusal: Refusal::TooLarge, version: 9 },
            Message::Bell,
            Message::Invite { role: Role::Sender },
            Message::Invite { role: Role::Receiver },
            Message::Taken,
            Message::Descriptors { number: u64::MAX, count: 8 },
        ]
    }

    #[test]
    fn what_is_said_is_understood() {
        for message in all() {
            assert_eq!(Message::of_bytes(&message.to_bytes()).unwrap(), message);
            assert!(message.to_bytes().len() <= BUFFER);
        }
    }

    #[test]
    fn a_message_of_another_length_is_refused() {
        for message in all() {
            let mut bytes = message.to_bytes();
            for cut in 0..bytes.len() {
                assert!(Message::of_bytes(&bytes[..cut]).is_err());
            }
            bytes.push(0);
            assert!(Message::of_bytes(&bytes).is_err());
        }
    }
}
