//! Random scripts: what is asked of a queue, and what it answers.

use annulus::{MailReceiver, MailRecvError, MailSendError, MailSender, Mailbox, Place, Select};
use proptest::prelude::*;

/// Bytes of the longest message.
pub const LONGEST: usize = 40;

/// What is asked of a queue.
#[derive(Clone, Debug)]
pub enum Step {
    Send { kind: u8, length: usize },
    Receive { select: Select, room: usize },
    Peek { select: Select, index: usize, room: usize },
}

/// What it answers. A message is told by its type and its bytes, of which no two are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Sent,
    Full,
    Message {
        kind: u8,
        bytes: Vec<u8>,
    },
    Empty,
    TooSmall,
    /// The queue cannot be asked that.
    Unasked,
}

/// The bytes of the `number`th message: numbered, so that no two are alike, and of some length.
pub fn bytes(number: u32, length: usize) -> Vec<u8> {
    let number = number.to_le_bytes();
    (0..length).map(|i| number[i % 4].wrapping_add((i / 4) as u8)).collect()
}

pub fn select(types: u8) -> impl Strategy<Value = Select> {
    prop_oneof![
        3 => Just(Select::Any),
        3 => (1..=types).prop_map(Select::Type),
        3 => (1..=64_u8).prop_map(Select::AtMost),
        3 => (1..=types).prop_map(Select::Except),
        2 => Just(Select::Highest),
    ]
}

pub fn step(types: u8) -> impl Strategy<Value = Step> {
    let room = prop_oneof![4 => Just(LONGEST), 1 => 0..LONGEST];
    prop_oneof![
        5 => (1..=types, 4..=LONGEST).prop_map(|(kind, length)| Step::Send { kind, length }),
        4 => (select(types), room.clone()).prop_map(|(select, room)| Step::Receive { select, room }),
        2 => (select(types), 0..12_usize, room)
            .prop_map(|(select, index, room)| Step::Peek { select, index, room }),
    ]
}

/// A mailbox that answers scripts.
pub struct Asked {
    pub mailbox: Mailbox,
    tx: MailSender,
    rx: MailReceiver,
    sent: u32,
}

impl Asked {
    pub fn new(capacity: usize, types: usize) -> Self {
        let builder = Mailbox::builder(capacity, LONGEST).types(types);
        let mailbox = builder.create(Place::memfd("script").unwrap()).unwrap();
        let (tx, rx) = (mailbox.sender().unwrap(), mailbox.receiver().unwrap());
        Self { mailbox, tx, rx, sent: 0 }
    }

    pub fn ask(&mut self, step: &Step) -> Answer {
        let mut buffer = [0; LONGEST];
        let received = match *step {
            Step::Send { kind, length } => {
                self.sent += 1;
                return match self.tx.try_send(kind, &bytes(self.sent, length)) {
                    Ok(()) => Answer::Sent,
                    Err(MailSendError::Full) => Answer::Full,
                    Err(error) => panic!("{error}"),
                };
            }
            Step::Receive { select, room } => self.rx.try_recv(select, &mut buffer[..room]),
            Step::Peek { select, index, room } => {
                self.rx.try_peek(select, index, &mut buffer[..room])
            }
        };
        match received {
            Ok(letter) => {
                Answer::Message { kind: letter.kind, bytes: buffer[..letter.length].to_vec() }
            }
            Err(MailRecvError::Empty) => Answer::Empty,
            Err(MailRecvError::TooSmall { length, .. }) => {
                let (Step::Receive { room, .. } | Step::Peek { room, .. }) = *step else {
                    unreachable!("only these have room")
                };
                assert!(length > room, "{length} bytes fit into {room}");
                Answer::TooSmall
            }
            Err(error) => panic!("{error}"),
        }
    }
}
