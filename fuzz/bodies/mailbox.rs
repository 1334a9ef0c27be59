//! A mailbox: calls against a plain list, and then with whatever words others may write.

use super::effort::Effort;
use super::input::Input;
use annulus::{
    Letter, MailReceiver, MailRecvError, MailSendError, MailSender, Mailbox, Place, Select,
    Subscription,
};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

const LONGEST: usize = 24;
const CAPACITY: usize = 4;
/// Everything behind the header may be written by others.
const START: u64 = 4096;
const PAGE: u64 = 4096;

/// Makes calls of two senders, two receivers and a listener, of whom a receiver comes and goes, and asks a plain list what
/// each must answer. Then somebody writes the words that they share, and calls only have to answer.
pub fn mailbox(data: &[u8]) {
    let input = &mut Input(data);
    let types = [1, 2, 3, 5, 33][input.below(5)];
    let builder = Mailbox::builder(CAPACITY, LONGEST).types(types).participants(8);
    let mailbox = builder.create(Place::memfd("mailbox").unwrap()).unwrap();
    let file = File::from(mailbox.inheritable_fd().unwrap());
    let mut users = Users {
        senders: [(); 2].map(|()| mailbox.sender().unwrap()),
        receivers: [(); 2].map(|()| Some(mailbox.receiver().unwrap())),
        listener: mailbox.subscribe(Select::Any).unwrap(),
        mailbox,
        types: types as u8,
    };
    let mut list = List::default();
    // The first half of the input is for correct users.
    let rest = input.0.len() / 2;
    while input.0.len() > rest {
        users.correct(input, &mut list);
        assert_eq!(users.mailbox.len(), list.messages.len());
    }
    while !input.is_empty() {
        let effort = Effort::begin();
        scribble(input, &file);
        users.hostile(input);
        effort.check();
    }
}

/// All messages in the order of their sending.
#[derive(Default)]
struct List {
    messages: Vec<(u8, Vec<u8>)>,
    sent: u8,
    heard: u64,
}

impl List {
    /// Where the message is that `select` wants after `index` others.
    fn find(&self, select: Select, index: usize) -> Option<usize> {
        let kind = |&at: &usize| self.messages[at].0;
        let mut all: Vec<usize> = (0..self.messages.len()).collect();
        match select {
            Select::Any => {}
            Select::Type(wanted) => all.retain(|at| kind(at) == wanted),
            Select::Except(unwanted) => all.retain(|at| kind(at) != unwanted),
            Select::AtMost(most) => {
                all.retain(|at| kind(at) <= most);
                all.sort_by_key(kind);
            }
            Select::Highest => all.sort_by_key(|at| u8::MAX - kind(at)),
        }
        all.get(index).copied()
    }

    /// A look at all messages that `select` wants finds them, in order.
    fn check_all(&self, select: Select, rx: &mut MailReceiver) {
        let mut index = 0;
        let looked = rx.try_peek_batch(select, |peek| {
            let (kind, message) = &self.messages[self.find(select, index).unwrap()];
            let mut buffer = [0; LONGEST];
            assert!(peek.copy_to(&mut buffer));
            assert_eq!((peek.letter().kind, &buffer[..peek.length()]), (*kind, &message[..]));
            index += 1;
            true
        });
        assert_eq!(self.find(select, index), None, "{select:?}");
        assert_eq!(looked, if index > 0 { Ok(index) } else { Err(MailRecvError::Empty) });
    }
}

struct Users {
    mailbox: Mailbox,
    senders: [MailSender; 2],
    receivers: [Option<MailReceiver>; 2],
    listener: Subscription,
    types: u8,
}

impl Users {
    fn select(&self, input: &mut Input<'_>) -> Select {
        let kind = 1 + input.byte() % self.types;
        match input.byte() % 5 {
            0 => Select::Any,
            1 => Select::Type(kind),
            2 => Select::AtMost(kind),
            3 if self.types > 1 => Select::Except(kind),
            _ => Select::Highest,
        }
    }

    fn correct(&mut self, input: &mut Input<'_>, list: &mut List) {
        let (deed, which) = (input.byte() % 8, input.below(2));
        if deed < 4 {
            let kind = 1 + input.byte() % self.types;
            list.sent = list.sent.wrapping_add(1);
            let message: Vec<u8> =
                (0..input.below(LONGEST + 1)).map(|i| list.sent.wrapping_add(i as u8)).collect();
            let is_full = list.messages.iter().filter(|sent| sent.0 == kind).count() == CAPACITY;
            let sent = self.senders[which].try_send(kind, &message);
            assert_eq!(sent, if is_full { Err(MailSendError::Full) } else { Ok(()) });
            if !is_full {
                list.messages.push((kind, message));
                list.heard += 1;
            }
            return;
        }
        if deed == 7 && input.byte().is_multiple_of(4) {
            let receiver = &mut self.receivers[which];
            *receiver = match receiver.take() {
                None => Some(self.mailbox.receiver().unwrap()),
                Some(_) => None,
            };
            assert_eq!(self.listener.try_wait(), Ok(std::mem::take(&mut list.heard)));
            return;
        }
        let select = self.select(input);
        let Some(rx) = &mut self.receivers[which] else { return };
        let (mut buffer, room) = ([0; LONGEST], input.byte());
        let room = if room % 4 == 0 { usize::from(room) % LONGEST } else { LONGEST };
        let buffer = &mut buffer[..room];
        let (index, found) = match deed {
            4 => {
                let index = input.below(6);
                list.check_all(select, rx);
                (index, rx.try_peek(select, index, buffer))
            }
            _ => (0, rx.try_recv(select, buffer)),
        };
        let Some(at) = list.find(select, index) else {
            assert_eq!(found, Err(MailRecvError::Empty), "{select:?}");
            return;
        };
        let (kind, message) = &list.messages[at];
        let (kind, length) = (*kind, message.len());
        if length > room {
            assert_eq!(found, Err(MailRecvError::TooSmall { length, kind }), "{select:?}");
            return;
        }
        let letter: Letter = found.unwrap_or_else(|error| panic!("{select:?}: {error}"));
        assert_eq!((letter.kind, &buffer[..letter.length]), (kind, &message[..]), "{select:?}");
        if deed != 4 {
            list.messages.remove(at);
        }
    }

    fn hostile(&mut self, input: &mut Input<'_>) {
        let (deed, which) = (input.byte() % 8, input.below(2));
        let kind = 1 + input.byte() % self.types;
        let select = self.select(input);
        let mut buffer = [0; LONGEST];
        match deed {
            0 => self.receivers[which] = self.mailbox.receiver().ok(),
            1 => self.receivers[which] = None,
            2 => {
                let _ = (self.mailbox.stats(), self.mailbox.len_of(kind));
                assert!(self.mailbox.len() <= CAPACITY * usize::from(self.types));
            }
            3 => {
                let _ = self.listener.wait_timeout(Duration::ZERO);
            }
            4 => {
                let _ = self.senders[which].send_timeout(kind, &buffer, Duration::ZERO);
            }
            5 => {
                let _ = self.senders[which].try_send(kind, b"message");
            }
            deed => {
                let Some(rx) = &mut self.receivers[which] else { return };
                let received = match deed {
                    6 => {
                        let _ = rx.try_peek_batch(select, |peek| peek.copy_to(&mut [0; LONGEST]));
                        rx.try_peek(select, input.below(6), &mut buffer)
                    }
                    _ => rx.recv_timeout(select, &mut buffer, Duration::ZERO),
                };
                assert!(received.is_ok_and(|letter| letter.length <= LONGEST) || received.is_err());
            }
        }
    }
}

/// Writes a word behind the header: mostly one that somebody reads.
fn scribble(input: &mut Input<'_>, file: &File) {
    let pages = file.metadata().unwrap().len() / PAGE - 1;
    let page = u64::from(input.short()) % pages;
    let word = match input.byte() % 4 {
        0 => 0,
        1 => 16 * u64::from(input.byte() % 4),
        _ => u64::from(input.short()) % (PAGE / 8),
    };
    let position = u64::from(input.byte() % 12);
    let value = match input.byte() % 5 {
        // A stamp, an intent, a number.
        0 => position << 11 | u64::from(input.byte() % 8),
        1 => position << 8 | u64::from(input.byte() % 4),
        2 => position,
        _ => input.edgy(position),
    };
    file.write_all_at(&value.to_le_bytes(), START + page * PAGE + word * 8).unwrap();
}
