//! Broadcasts and variables as bytes: calls against plain queues and a plain variable, and then with whatever words others
//! may write. (By their types: `broadcast`, `latest`.)

use super::effort::Effort;
use super::input::Input;
use super::{broadcast, latest};
use annulus::{
    BroadcastRecvError, ByteBroadcast, ByteBroadcastReceiver, ByteBroadcastSender, ByteSendError,
    Delivery, LatestError, Place, Start, UntypedLatest, UntypedLatestReader, UntypedLatestWriter,
};
use std::fs::File;
use std::time::Duration;

/// Makes calls, and asks a model what each must answer. Then somebody writes the words that users share, and calls only
/// have to answer.
pub fn faces(data: &[u8]) {
    let input = &mut Input(data);
    match input.byte() % 3 {
        0 => messages(input, false),
        1 => messages(input, true),
        _ => variable(input),
    }
}

struct Listener {
    handle: ByteBroadcastReceiver,
    delivery: Delivery,
    /// The next message.
    next: u64,
    evicted: bool,
}

struct Users {
    sender: Option<ByteBroadcastSender>,
    receivers: Vec<Option<Listener>>,
    capacity: u64,
    longest: usize,
    /// Whether all messages have the same length.
    exact: bool,
    sent: u64,
    /// Whether a sender has been there.
    began: bool,
}

fn messages(input: &mut Input<'_>, exact: bool) {
    let capacity = 1 + input.below(30);
    let receivers = 1 + input.below(3);
    let longest = 8 + input.below(80);
    let builder = ByteBroadcast::builder(capacity, longest).participants(receivers);
    let builder = if exact { builder.exactly(1) } else { builder };
    let broadcast = builder.create(Place::memfd("faces").unwrap()).unwrap();
    assert_eq!((broadcast.longest(), broadcast.is_exact()), (longest, exact));
    let file = File::from(broadcast.inheritable_fd().unwrap());
    let mut users = Users {
        sender: None,
        receivers: (0..receivers).map(|_| None).collect(),
        capacity: capacity as u64,
        longest,
        exact,
        sent: 0,
        began: false,
    };
    // The first half of the input is for correct users.
    let rest = input.0.len() / 2;
    while input.0.len() > rest {
        users.correct(input, &broadcast);
    }
    while !input.is_empty() {
        let effort = Effort::begin();
        broadcast::scribble(input, &file, receivers, users.sent);
        users.hostile(input, &broadcast);
        effort.check();
    }
}

impl Users {
    /// The `n`-th message: its length and every byte tell it from its neighbours.
    fn nth(&self, n: u64) -> Vec<u8> {
        let length =
            if self.exact { self.longest } else { 8 + n as usize * 7 % (self.longest - 7) };
        let mut message = n.to_le_bytes().to_vec();
        message.extend((8..length).map(|i| (n as u8).wrapping_mul(31).wrapping_add(i as u8)));
        message
    }

    /// Messages that there is room for.
    fn room(&self) -> u64 {
        let gates = self.receivers.iter().flatten();
        let gates = gates.filter(|l| l.delivery == Delivery::Gate && !l.evicted);
        let slowest = gates.map(|listener| listener.next).min();
        let room = |slowest: u64| (slowest + self.capacity).checked_sub(self.sent);
        slowest.map_or(u64::MAX, |slowest| room(slowest).expect("nobody is sent over"))
    }

    fn correct(&mut self, input: &mut Input<'_>, broadcast: &ByteBroadcast) {
        let which = input.below(self.receivers.len());
        let (sent, room, next) = (self.sent, self.room(), self.nth(self.sent));
        match (input.byte() % 12, &mut self.sender, &mut self.receivers[which]) {
            (0, sender @ None, _) => {
                *sender = Some(broadcast.sender().unwrap());
                self.began = true;
            }
            (0, sender, _) if input.byte().is_multiple_of(4) => *sender = None,
            (1, _, None) => self.join(which, input, broadcast),
            (1, _, receiver) if input.byte().is_multiple_of(4) => *receiver = None,
            (2, Some(sender), _) => {
                sender.set_patience(Some(Duration::ZERO));
                sender.send(&next).unwrap();
                self.sent += 1;
                if room == 0 {
                    for listener in self.receivers.iter_mut().flatten() {
                        listener.evicted |= listener.handle.is_evicted();
                    }
                    // Nobody who is still waited for was sent over.
                    self.room();
                }
            }
            (3, Some(sender), _) => {
                let expected = self.longest;
                let wrong =
                    if self.exact { vec![expected + 1, expected - 1] } else { vec![expected + 1] };
                for len in wrong {
                    let refused = match self.exact {
                        true => ByteSendError::Size { len, expected },
                        false => ByteSendError::TooLong { len, max: expected },
                    };
                    assert_eq!(sender.try_send(&vec![0; len]), Err(refused));
                }
            }
            (4, _, Some(listener)) if listener.evicted => {
                listener.next += listener.handle.rejoin(Start::Oldest).unwrap();
                assert!(listener.next <= sent);
                listener.evicted = false;
            }
            (5..9, _, Some(_)) => (0..1 + input.below(20)).for_each(|_| self.receive(which)),
            (_, Some(sender), _) => match sender.try_send(&next) {
                Ok(()) => {
                    assert!(room > 0, "sent over somebody who is waited for");
                    self.sent += 1;
                }
                Err(error) => assert_eq!((error, room), (ByteSendError::Full, 0)),
            },
            _ => {}
        }
    }

    fn join(&mut self, which: usize, input: &mut Input<'_>, broadcast: &ByteBroadcast) {
        let (delivery, start) = broadcast::choices(input);
        let mut handle = broadcast.receiver(delivery, start).unwrap();
        handle.set_resume(start);
        let mut next = self.sent;
        if start == Start::Oldest && self.sent > 0 {
            // As many as half of the ring and a batch leave: found by its content, among those that may be there.
            if let Ok(first) = handle.try_recv() {
                let n = u64::from_le_bytes(first[..8].try_into().unwrap());
                assert_eq!(first, self.nth(n));
                assert!(n >= self.sent.saturating_sub(self.capacity) && n < self.sent);
                next = n + 1;
            }
        }
        self.receivers[which] = Some(Listener { handle, delivery, next, evicted: false });
    }

    fn receive(&mut self, which: usize) {
        let (sent, capacity) = (self.sent, self.capacity);
        let gone = self.began && self.sender.is_none();
        let due = self.receivers[which].as_ref().map(|listener| self.nth(listener.next));
        let (Some(listener), Some(due)) = (&mut self.receivers[which], due) else { return };
        let waiting = sent - listener.next;
        match listener.handle.try_recv() {
            Ok(found) => {
                assert!(waiting > 0 && found == due);
                listener.next += 1;
            }
            Err(BroadcastRecvError::Lagged(missed)) => {
                assert!(listener.delivery == Delivery::Lossy && missed > 0 && missed <= waiting);
                assert!(waiting > capacity - capacity.div_ceil(2), "no need to lose any");
                listener.next += missed;
            }
            Err(BroadcastRecvError::Evicted) => {
                assert!(listener.handle.is_evicted() && listener.evicted);
            }
            Err(BroadcastRecvError::Disconnected) => assert!(waiting == 0 && gone),
            Err(error) => assert!(error == BroadcastRecvError::Empty && waiting == 0 && !gone),
        }
    }

    fn hostile(&mut self, input: &mut Input<'_>, broadcast: &ByteBroadcast) {
        let which = input.below(self.receivers.len());
        let (longest, receiver) = (self.longest, &mut self.receivers[which]);
        match input.byte() % 9 {
            0 => self.sender = None,
            1 => *receiver = None,
            2 if self.sender.is_none() => self.sender = broadcast.sender().ok(),
            3 if receiver.is_none() => {
                let (delivery, start) = broadcast::choices(input);
                let handle = broadcast.receiver(delivery, start).ok();
                *receiver =
                    handle.map(|handle| Listener { handle, delivery, next: 0, evicted: false });
            }
            4 => drop(broadcast.stats()),
            5 => {
                let Some(listener) = receiver else { return };
                let found = listener.handle.recv_timeout(Duration::ZERO);
                assert!(found.map_or(0, <[u8]>::len) <= longest, "longer than the longest");
                let _ = listener.handle.wait_ready(Duration::ZERO);
                let _ = listener.handle.rejoin(broadcast::choices(input).1);
            }
            6 => {
                let Some(sender) = &mut self.sender else { return };
                sender.set_patience(Some(Duration::ZERO));
                let _ = sender.send_timeout(&vec![7; longest], Duration::from_millis(1));
            }
            _ => {
                let message = vec![7; if self.exact { longest } else { input.below(longest + 1) }];
                let _ = self.sender.as_mut().map(|sender| sender.try_send(&message));
                let Some(listener) = receiver else { return };
                let found = listener.handle.try_recv();
                assert!(found.map_or(0, <[u8]>::len) <= longest, "longer than the longest");
            }
        }
    }
}

/// The value of a version: every byte tells it from its neighbours.
fn value(version: u64, size: usize) -> Vec<u8> {
    let byte = |i| (version as u8).wrapping_mul(31).wrapping_add(i as u8);
    (0..size).map(|i| if version == 0 { 0 } else { byte(i) }).collect()
}

struct Readers {
    writer: Option<UntypedLatestWriter>,
    readers: Vec<Option<UntypedLatestReader>>,
    version: u64,
    size: usize,
}

fn variable(input: &mut Input<'_>) {
    let (readers, size) = (1 + input.below(4), 1 + input.below(100));
    let builder = UntypedLatest::builder(size).participants(readers);
    let variable = builder.create(Place::memfd("faces").unwrap()).unwrap();
    assert_eq!(variable.value_size(), size);
    let file = File::from(variable.inheritable_fd().unwrap());
    let mut users =
        Readers { writer: None, readers: (0..readers).map(|_| None).collect(), version: 0, size };
    let rest = input.0.len() / 2;
    while input.0.len() > rest {
        users.correct(input, &variable);
    }
    while !input.is_empty() {
        let effort = Effort::begin();
        latest::scribble(input, &file, readers, users.version, size);
        users.hostile(input, &variable);
        effort.check();
    }
}

impl Readers {
    fn correct(&mut self, input: &mut Input<'_>, variable: &UntypedLatest) {
        let which = input.below(self.readers.len());
        let (size, version) = (self.size, self.version);
        // Longer than it has to be: the rest stays as it was.
        let mut found = vec![0x55; size + 3];
        let expected = [value(version, size), vec![0x55; 3]].concat();
        match (input.byte() % 8, &mut self.writer, &mut self.readers[which]) {
            (0, writer @ None, _) => {
                *writer = Some(variable.writer().unwrap());
                assert_eq!(writer.as_ref().unwrap().version(), version);
            }
            (0, writer, _) if input.byte().is_multiple_of(4) => *writer = None,
            (1, _, reader @ None) => *reader = Some(variable.reader().unwrap()),
            (1, _, reader) if input.byte().is_multiple_of(4) => *reader = None,
            (2, Some(writer), _) => {
                let wrong = vec![7; if input.byte() & 1 == 0 { size + 1 } else { size - 1 }];
                assert_eq!(writer.set(&wrong), Err(LatestError::Size { expected: size }));
            }
            (3, _, Some(reader)) => {
                let short = &mut found[..size - 1];
                assert_eq!(reader.read(short), Err(LatestError::Size { expected: size }));
            }
            (4, writer, Some(reader)) => {
                let unread = reader.version() < version;
                match reader.wait_for_change_timeout(&mut found, Duration::ZERO) {
                    Ok(read) => assert!(unread && read == version && found == expected),
                    Err(LatestError::Disconnected) => assert!(!unread && writer.is_none()),
                    Err(error) => assert!(!unread && error == LatestError::Timeout),
                }
            }
            (5, _, Some(reader)) => {
                assert_eq!((reader.read(&mut found), reader.version()), (Ok(version), version));
                assert_eq!(found, expected);
            }
            (_, Some(writer), _) => {
                self.version += 1;
                assert_eq!(writer.set(&value(self.version, size)), Ok(self.version));
            }
            _ => {}
        }
    }

    fn hostile(&mut self, input: &mut Input<'_>, variable: &UntypedLatest) {
        let which = input.below(self.readers.len());
        let (mut found, reader) = (vec![0; self.size], &mut self.readers[which]);
        match input.byte() % 7 {
            0 => self.writer = None,
            1 => *reader = None,
            2 if self.writer.is_none() => self.writer = variable.writer().ok(),
            3 if reader.is_none() => *reader = variable.reader().ok(),
            4 => {
                let at_once = Duration::ZERO;
                let _ = reader
                    .as_mut()
                    .map(|reader| reader.wait_for_change_timeout(&mut found, at_once));
                let _ = variable.stats();
            }
            5 => drop(reader.as_mut().map(|reader| reader.read(&mut found))),
            _ => drop(self.writer.as_mut().map(|writer| writer.set(&found))),
        }
    }
}
