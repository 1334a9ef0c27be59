//! Living with a peer that has the other half of a split ring, and writes anything into it.

use super::forged::Forged;
use super::input::Input;
use annulus::{
    Builder, ByteReceiver, ByteRing, ByteSendError, ByteSender, Receiver, RecvIntoError, Ring,
    Role, Sender, SetupError, TryRecvError, TrySendError,
};
use bytemuck::Pod;
use std::os::fd::OwnedFd;
use std::time::Duration;

const PAGE: usize = 4096;
/// Where a half begins in its file, and where the data.
const HALF: usize = PAGE;
const DATA: usize = 2 * PAGE;

/// One role of a split ring is used, and between any two calls, and while a message is claimed or a place reserved, the
/// other half changes. Whatever is there, calls only answer; and a handle that says `Corrupt` goes on saying so.
pub fn split(data: &[u8]) {
    let input = &mut Input(data);
    let capacity = match input.byte() {
        0..=199 => 1 + input.below(24),
        _ => 1 + input.below(2000),
    };
    match input.byte() % 8 {
        0 => send(input, || Ring::<u64>::builder(capacity)),
        1 => send(input, || Ring::<[u64; 9]>::builder(capacity)),
        2 => receive(input, || Ring::<u64>::builder(capacity)),
        3 => receive(input, || Ring::<[u64; 9]>::builder(capacity)),
        4 => receive(input, || Ring::<[u8; 12]>::builder(capacity)),
        5 => send_bytes(input, || ByteRing::builder(capacity * 8)),
        _ => receive_bytes(input, || ByteRing::builder(capacity * 8)),
    }
}

/// The other half.
struct Enemy {
    forged: Forged,
}

impl Enemy {
    /// Of the ring that `sound` would be half of; alive or not, its header right or not.
    fn new(input: &mut Input<'_>, sound: OwnedFd, role: Role) -> Self {
        let forged = Forged::of(sound);
        let choice = input.byte();
        if !choice.is_multiple_of(8) {
            forged.come_alive(if role == Role::Sender { 1 } else { 2 });
        }
        if choice % 16 >= 14 {
            let word = input.below(24) * 8;
            forged.set(word, input.edgy(forged.get(word)));
        }
        // It has come to its role, or says so.
        forged.set(HALF + 264, input.edgy(3));
        Self { forged }
    }

    /// Words of data.
    fn data(&self) -> usize {
        self.forged.words().len() - DATA / 8
    }

    fn scribble(&self, input: &mut Input<'_>) {
        let put = |offset: usize, input: &mut Input<'_>| {
            self.forged.set(offset, input.edgy(self.forged.get(offset)));
        };
        match input.byte() % 8 {
            0 => put(HALF, input),
            // A step onwards, as an honest one would make it.
            1 => {
                let position = self.forged.get(HALF).wrapping_add(u64::from(input.byte() % 32));
                self.forged.set(HALF, position);
                self.forged.set(HALF + 128, position);
            }
            2 => put(HALF + [8, 128][input.below(2)], input),
            3 => put(HALF + 256 + input.below(24) * 8, input),
            _ if self.data() == 0 => put(HALF + input.below(64) * 8, input),
            // A stamp: a position near those in use, in any state.
            4 => {
                let position = self.forged.get(HALF).wrapping_add(u64::from(input.byte() % 32));
                let stamp = position << 2 | u64::from(input.byte() % 4);
                self.forged.set(DATA + input.below(self.data()) / 8 * 64, stamp);
            }
            // A header of a record.
            5 => {
                let kind = u64::from(input.byte() % 4) << 32;
                let value = kind | input.edgy(self.data() as u64 * 8 - 16) & 0xffff_ffff;
                self.forged.set(DATA + input.below(self.data()) * 8, value);
            }
            // A stretch of one value.
            6 => {
                let (start, value) = (input.below(self.data()), input.edgy(1));
                let end = (start + input.below(64)).min(self.data());
                (start..end).for_each(|word| self.forged.set(DATA + word * 8, value));
            }
            _ => put(DATA + input.below(self.data()) * 8, input),
        }
    }
}

/// What was joined, or nothing if it was refused, with a sentence.
fn joined<R>(result: Result<R, SetupError>) -> Option<R> {
    result.map_err(|error| assert!(!error.to_string().is_empty())).ok()
}

fn send<T: Pod>(input: &mut Input<'_>, builder: impl Fn() -> Builder<Ring<T>>) {
    let theirs = builder().split(Role::Receiver).unwrap().descriptor().unwrap();
    let enemy = Enemy::new(input, theirs, Role::Receiver);
    let half = builder().split(Role::Sender).unwrap();
    let Some(ring) = joined(half.join(enemy.forged.descriptor())) else { return };
    let (mut tx, mut corrupt) = (None, false);
    let (message, capacity) = (T::zeroed(), ring.capacity());
    while !input.is_empty() {
        let choice = input.byte() % 12;
        match choice {
            0 => (tx, corrupt) = (None, false),
            1..5 => enemy.scribble(input),
            5 => {
                let _ = (ring.stats(), tx.as_ref().map(Sender::is_empty));
                assert!(tx.as_ref().map_or(0, Sender::len) <= capacity);
                continue;
            }
            _ => {}
        }
        if tx.is_none() {
            // A position that cannot be is told at once.
            tx = joined(ring.sender());
        }
        let Some(tx) = &mut tx else { continue };
        let now = match choice {
            6 | 7 => matches!(tx.try_send(message), Err(TrySendError::Corrupt(_))),
            8 => tx
                .send_timeout(message, Duration::ZERO)
                .is_err_and(|error| error.to_string().contains("damaged")),
            9 => {
                let count = 1 + input.below(40);
                let sent = tx.try_send_batch(&vec![message; count]);
                assert!(sent <= capacity.min(count) && !(corrupt && sent > 0));
                continue;
            }
            10 => {
                let sent = tx.try_send_from(std::iter::repeat_n(message, 40));
                assert!(sent <= capacity.min(40) && !(corrupt && sent > 0));
                continue;
            }
            11 => {
                let _ = tx.wait_for_peer(Duration::ZERO);
                continue;
            }
            _ => continue,
        };
        assert!(now || !corrupt, "a poisoned sender went on");
        corrupt |= now;
    }
}

fn receive<T: Pod>(input: &mut Input<'_>, builder: impl Fn() -> Builder<Ring<T>>) {
    let theirs = builder().split(Role::Sender).unwrap().descriptor().unwrap();
    let enemy = Enemy::new(input, theirs, Role::Sender);
    let half = builder().split(Role::Receiver).unwrap();
    let Some(ring) = joined(half.join(enemy.forged.descriptor())) else { return };
    let (mut rx, mut corrupt) = (None, false);
    while !input.is_empty() {
        let choice = input.byte() % 12;
        match choice {
            0 => (rx, corrupt) = (None, false),
            1..5 => enemy.scribble(input),
            5 => {
                let _ = (ring.stats(), rx.as_ref().map(Receiver::is_empty));
                assert!(rx.as_ref().map_or(0, Receiver::len) <= ring.capacity());
                continue;
            }
            _ => {}
        }
        if rx.is_none() {
            rx = joined(ring.receiver());
        }
        let Some(rx) = &mut rx else { continue };
        let now = match choice {
            6 | 7 => matches!(rx.try_recv(), Err(TryRecvError::Corrupt)),
            8 => rx
                .recv_timeout(Duration::ZERO)
                .is_err_and(|error| error.to_string().contains("damaged")),
            9 => {
                let count = 1 + input.below(40);
                let got = rx.try_recv_batch(&mut vec![T::zeroed(); count]);
                assert!(got <= count && !(corrupt && got > 0));
                continue;
            }
            10 => {
                // It changes between two that are taken of one batch.
                let mut got = 0;
                for _ in rx.drain(40) {
                    enemy.scribble(input);
                    got += 1;
                }
                assert!(got <= 40 && !(corrupt && got > 0));
                continue;
            }
            11 => {
                let _ = rx.wait_for_peer(Duration::ZERO);
                continue;
            }
            _ => continue,
        };
        assert!(now || !corrupt, "a poisoned receiver went on");
        corrupt |= now;
    }
}

fn send_bytes(input: &mut Input<'_>, builder: impl Fn() -> Builder<ByteRing>) {
    let theirs = builder().split(Role::Receiver).unwrap().descriptor().unwrap();
    let enemy = Enemy::new(input, theirs, Role::Receiver);
    let half = builder().split(Role::Sender).unwrap();
    let Some(ring) = joined(half.join(enemy.forged.descriptor())) else { return };
    let longest = ring.max_message();
    let (mut tx, mut corrupt) = (None, false);
    while !input.is_empty() {
        let choice = input.byte() % 10;
        match choice {
            0 => (tx, corrupt) = (None, false),
            1..5 => enemy.scribble(input),
            5 => {
                let _ = (ring.stats(), tx.as_ref().map(ByteSender::len));
            }
            _ => {}
        }
        if tx.is_none() {
            tx = joined(ring.sender());
        }
        let Some(tx) = &mut tx else { continue };
        let len = input.below(longest + 2);
        let result = match choice {
            6 => tx.try_send(&vec![1; len]),
            7 => tx.send_timeout(&vec![2; len], Duration::ZERO),
            8 => tx.try_reserve(len).map(drop),
            9 => tx.try_reserve(len).map(|mut grant| {
                let at = input.below(len + 1);
                enemy.scribble(input);
                grant.write(at, &vec![3; len - at]);
                enemy.scribble(input);
                grant.commit();
            }),
            _ => continue,
        };
        match result {
            Ok(()) => assert!(len <= longest && !corrupt),
            Err(ByteSendError::TooLong { len, max }) => assert!(len > max),
            Err(ByteSendError::Corrupt) => corrupt = true,
            Err(_) => assert!(!corrupt, "a poisoned sender went on"),
        }
    }
}

fn receive_bytes(input: &mut Input<'_>, builder: impl Fn() -> Builder<ByteRing>) {
    let theirs = builder().split(Role::Sender).unwrap().descriptor().unwrap();
    let enemy = Enemy::new(input, theirs, Role::Sender);
    let half = builder().split(Role::Receiver).unwrap();
    let Some(ring) = joined(half.join(enemy.forged.descriptor())) else { return };
    let (mut rx, mut corrupt) = (None, false);
    let mut message = Vec::new();
    while !input.is_empty() {
        let choice = input.byte() % 12;
        match choice {
            0 => (rx, corrupt) = (None, false),
            1..6 => enemy.scribble(input),
            6 => {
                let _ = (ring.stats(), rx.as_ref().map(ByteReceiver::len));
            }
            _ => {}
        }
        if rx.is_none() {
            rx = joined(ring.receiver());
        }
        let Some(rx) = &mut rx else { continue };
        let now = match choice {
            7 => matches!(rx.try_recv(&mut message), Err(TryRecvError::Corrupt)),
            8 => rx
                .recv_timeout(&mut message, Duration::ZERO)
                .is_err_and(|error| error.to_string().contains("damaged")),
            9 => {
                let room = input.below(ring.max_message() + 1);
                match rx.try_recv_into(&mut vec![0; room]) {
                    Ok(len) => assert!(len <= room && !corrupt),
                    Err(RecvIntoError::TooSmall { len }) => assert!(len > room && !corrupt),
                    Err(error) => corrupt |= error == RecvIntoError::Corrupt,
                }
                continue;
            }
            10 => {
                let got = rx.try_recv_batch(50, |message| {
                    enemy.scribble(input);
                    drop(message.to_vec());
                    enemy.scribble(input);
                });
                assert!(!(corrupt && got > 0));
                continue;
            }
            11 => match rx.try_claim() {
                Ok(claimed) => {
                    let len = claimed.len();
                    enemy.scribble(input);
                    message = claimed.to_vec();
                    assert_eq!(message.len(), len, "the length was believed twice");
                    enemy.scribble(input);
                    claimed.release();
                    assert!(!corrupt);
                    continue;
                }
                Err(error) => error == TryRecvError::Corrupt,
            },
            _ => continue,
        };
        assert!(now || !corrupt, "a poisoned receiver went on");
        corrupt |= now;
        assert!(message.capacity() <= enemy.forged.words().len() * 16, "memory by a peer's word");
    }
}
