//! A broadcast: calls against plain queues, and then with whatever words others may write.

use super::effort::Effort;
use super::input::Input;
use annulus::{
    Broadcast, BroadcastReceiver, BroadcastRecvError, BroadcastSender, Delivery, Place, Start,
    TrySendError,
};
use bytemuck::Pod;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

// From DESIGN.md, "Broadcast".
const PAGE: usize = 4096;
const FLOOR: usize = PAGE;
const TAIL: usize = 2 * PAGE;
const AIM: usize = 2 * PAGE + 128;
const TABLE: usize = 3 * PAGE;
const ENTRY: usize = 256;
const PLACES: usize = 4 * PAGE;

/// Makes calls of a sender and some receivers, who come and go, and asks a plain queue for each what they must answer.
/// Then somebody writes the words that they share, and calls only have to answer.
pub fn broadcast(data: &[u8]) {
    let input = &mut Input(data);
    match input.byte() % 3 {
        0 => messages::<u64>(input),
        1 => messages::<[u8; 13]>(input),
        _ => messages::<[u64; 9]>(input),
    }
}

/// The `n`-th message: every byte tells it from its neighbours.
fn nth<T: Pod>(n: u64) -> T {
    let mut message = T::zeroed();
    for (i, byte) in bytemuck::bytes_of_mut(&mut message).iter_mut().enumerate() {
        *byte = (n as u8).wrapping_mul(31).wrapping_add((n >> 8) as u8).wrapping_add(i as u8);
    }
    message
}

struct Listener<T> {
    handle: BroadcastReceiver<T>,
    delivery: Delivery,
    /// The next message.
    next: u64,
    evicted: bool,
}

struct Users<T> {
    sender: Option<BroadcastSender<T>>,
    receivers: Vec<Option<Listener<T>>>,
    capacity: u64,
    sent: u64,
    /// Whether a sender has been there.
    began: bool,
}

fn messages<T: Pod + PartialEq + std::fmt::Debug>(input: &mut Input<'_>) {
    let capacity = 1 + input.below(40);
    let receivers = 1 + input.below(4);
    let builder = Broadcast::<T>::builder(capacity).participants(receivers);
    let broadcast = builder.create(Place::memfd("broadcast").unwrap()).unwrap();
    let file = File::from(broadcast.inheritable_fd().unwrap());
    let mut users = Users {
        sender: None,
        receivers: (0..receivers).map(|_| None).collect(),
        capacity: capacity as u64,
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
        scribble(input, &file, receivers, users.sent);
        users.hostile(input, &broadcast);
        effort.check();
    }
}

pub(super) fn choices(input: &mut Input<'_>) -> (Delivery, Start) {
    let choice = input.byte();
    let delivery = if choice & 1 == 0 { Delivery::Gate } else { Delivery::Lossy };
    (delivery, if choice & 2 == 0 { Start::Now } else { Start::Oldest })
}

impl<T: Pod + PartialEq + std::fmt::Debug> Users<T> {
    /// Messages that there is room for.
    fn room(&self) -> u64 {
        let gates = self.receivers.iter().flatten();
        let gates = gates.filter(|l| l.delivery == Delivery::Gate && !l.evicted);
        let slowest = gates.map(|listener| listener.next).min();
        let room = |slowest: u64| (slowest + self.capacity).checked_sub(self.sent);
        slowest.map_or(u64::MAX, |slowest| room(slowest).expect("nobody is sent over"))
    }

    fn correct(&mut self, input: &mut Input<'_>, broadcast: &Broadcast<T>) {
        let which = input.below(self.receivers.len());
        let (sent, capacity, room) = (self.sent, self.capacity, self.room());
        match (input.byte() % 12, &mut self.sender, &mut self.receivers[which]) {
            (0, sender @ None, _) => {
                *sender = Some(broadcast.sender().unwrap());
                self.began = true;
            }
            (0, sender, _) if input.byte().is_multiple_of(4) => *sender = None,
            (1, _, receiver @ None) => {
                let (delivery, start) = choices(input);
                let mut handle = broadcast.receiver(delivery, start).unwrap();
                handle.set_resume(start);
                let mut listener = Listener { handle, delivery, next: sent, evicted: false };
                if start == Start::Oldest && sent > 0 {
                    // As many as half of the ring and a batch leave.
                    listener.next = listener.first(sent, capacity);
                }
                *receiver = Some(listener);
            }
            (1, _, receiver) if input.byte().is_multiple_of(4) => *receiver = None,
            (2, Some(sender), _) => {
                sender.set_patience(Some(Duration::ZERO));
                sender.send(nth(sent)).unwrap();
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
                let batch: Vec<T> = (sent..).take(1 + input.below(50)).map(nth).collect();
                let count = sender.try_send_batch(&batch) as u64;
                assert_eq!(count, room.min(capacity).min(batch.len() as u64));
                self.sent += count;
            }
            (4, _, Some(listener)) if listener.evicted => {
                let missed = listener.handle.rejoin(Start::Oldest).unwrap();
                listener.next += missed;
                assert!(listener.next <= sent);
                listener.evicted = false;
            }
            (5..8, _, Some(listener)) => {
                let gone = self.began && self.sender.is_none();
                listener.receive(1 + input.below(20), (sent, capacity), gone);
            }
            (_, Some(sender), _) => match sender.try_send(nth(sent)) {
                Ok(()) => {
                    assert!(room > 0, "sent over somebody who is waited for");
                    self.sent += 1;
                }
                Err(error) => {
                    assert_eq!((error, room), (TrySendError::Full(nth(sent)), 0));
                }
            },
            _ => {}
        }
    }

    fn hostile(&mut self, input: &mut Input<'_>, broadcast: &Broadcast<T>) {
        let which = input.below(self.receivers.len());
        let receiver = &mut self.receivers[which];
        match input.byte() % 10 {
            0 => self.sender = None,
            1 => *receiver = None,
            2 if self.sender.is_none() => self.sender = broadcast.sender().ok(),
            3 if receiver.is_none() => {
                let (delivery, start) = choices(input);
                let handle = broadcast.receiver(delivery, start).ok();
                *receiver =
                    handle.map(|handle| Listener { handle, delivery, next: 0, evicted: false });
            }
            4 => {
                let _ = broadcast.stats();
            }
            5 => {
                let mut batch = [T::zeroed(); 50];
                let _ = receiver.as_mut().map(|l| l.handle.try_recv_batch(&mut batch));
            }
            6 => {
                let _ = receiver.as_mut().map(|l| l.handle.recv_timeout(Duration::ZERO));
                let _ = receiver.as_mut().map(|l| l.handle.rejoin(choices(input).1));
            }
            7 => {
                let batch = vec![T::zeroed(); input.below(60)];
                let _ = self.sender.as_mut().map(|tx| tx.try_send_batch(&batch));
            }
            8 => {
                let message = T::zeroed();
                let _ = self.sender.as_mut().map(|tx| {
                    tx.set_patience(Some(Duration::ZERO));
                    tx.send_timeout(message, Duration::from_millis(1)).is_ok()
                });
            }
            _ => {
                let _ = receiver.as_mut().map(|l| l.handle.try_recv());
                let _ = self.sender.as_mut().map(|tx| tx.try_send(T::zeroed()).is_ok());
            }
        }
    }
}

impl<T: Pod + PartialEq + std::fmt::Debug> Listener<T> {
    /// The number of the first message that it will receive: found by its content, among those that may be there.
    fn first(&mut self, sent: u64, capacity: u64) -> u64 {
        match self.handle.try_recv() {
            Ok(message) => {
                let oldest = sent.saturating_sub(capacity);
                let first = (oldest..sent).find(|&n| nth::<T>(n) == message);
                first.expect("it is one that may be there") + 1
            }
            Err(_) => sent,
        }
    }

    fn receive(&mut self, most: usize, (sent, capacity): (u64, u64), gone: bool) {
        let mut batch = vec![T::zeroed(); most];
        let waiting = sent - self.next;
        match self.handle.try_recv_batch(&mut batch) {
            Ok(count) => {
                let numbers = self.next..self.next + count as u64;
                assert!(count > 0 && numbers.end <= sent);
                assert!(batch[..count].iter().copied().eq(numbers.map(nth)));
                self.next += count as u64;
            }
            Err(BroadcastRecvError::Lagged(missed)) => {
                assert!(self.delivery == Delivery::Lossy && missed > 0 && missed <= waiting);
                assert!(waiting > capacity - capacity.div_ceil(2), "no need to lose any");
                self.next += missed;
            }
            Err(BroadcastRecvError::Evicted) => assert!(self.handle.is_evicted() && self.evicted),
            Err(BroadcastRecvError::Disconnected) => assert!(waiting == 0 && gone),
            Err(error) => assert!(error == BroadcastRecvError::Empty && waiting == 0 && !gone),
        }
    }
}

/// Writes one of the words that users share.
pub(super) fn scribble(input: &mut Input<'_>, file: &File, receivers: usize, sent: u64) {
    let which = input.below(receivers);
    let place = PLACES + which * PAGE;
    let data = PLACES + receivers * PAGE;
    let size = file.metadata().unwrap().len() as usize;
    let offset = match input.byte() % 10 {
        0 => FLOOR,
        1 => FLOOR + 128,
        2 => TAIL,
        3 | 4 => AIM,
        5 | 6 => TABLE + which * ENTRY,
        7 => place,
        8 => place + 128,
        _ => data + input.below((size - data) / 8) * 8,
    };
    let near = sent.wrapping_add_signed(input.below(100) as i64 - 50);
    let value = match input.byte() % 6 {
        0 => near,
        state @ 1..5 => near << 2 | u64::from(state - 1),
        _ => input.edgy(sent),
    };
    file.write_all_at(&value.to_le_bytes(), offset as u64).unwrap();
}
