//! Living with a peer that writes anything.

use super::input::Input;
use annulus::{
    Builder, ByteReceiver, ByteRing, ByteSendError, ByteSender, Place, Receiver, RecvIntoError,
    Ring, Sender, Topology, TryRecvError, TrySendError,
};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

const PAGE: usize = 4096;
const DATA: usize = 3 * PAGE;

/// A ring is made, and then calls of both sides alternate with writes of any value to any word that a
/// peer may write. Whatever is there, calls only answer; and a handle that says `Corrupt` goes on
/// saying so.
pub fn consume(data: &[u8]) {
    let input = &mut Input(data);
    let capacity = match input.byte() {
        0..=199 => 1 + input.below(24),
        _ => 1 + input.below(2000),
    };
    match input.byte() % 6 {
        0 => slots::<u64>(input, capacity),
        1 => slots::<[u64; 9]>(input, capacity),
        2 => slots::<[u8; 12]>(input, capacity),
        3 => bytes(input, ByteRing::builder(capacity * 8)),
        ordered => {
            let lanes = ByteRing::builder(capacity * 8).topology(Topology::Mpsc).participants(3);
            bytes(input, lanes.ordered(ordered == 5));
        }
    }
}

/// The ring's memory, as a peer sees it.
struct Memory {
    file: File,
    words: usize,
}

impl Memory {
    fn new(fd: std::os::fd::OwnedFd) -> Self {
        let file = File::from(fd);
        let words = (file.metadata().unwrap().len() as usize - DATA) / 8;
        Self { file, words }
    }

    fn set(&self, offset: usize, value: u64) {
        self.file.write_all_at(&value.to_le_bytes(), offset as u64).unwrap();
    }

    fn get(&self, offset: usize) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, offset as u64).unwrap();
        u64::from_le_bytes(bytes)
    }

    /// Writes what a hostile peer might.
    fn scribble(&self, input: &mut Input<'_>) {
        match input.byte() % 9 {
            // A position of either half, and once in a while both alike.
            0 | 1 => {
                let half = PAGE * (1 + input.below(2));
                let line = [0, 8, 128][input.below(3)];
                let value = input.edgy(self.get(half + line));
                self.set(half + line, value);
            }
            2 => {
                let value = input.edgy(1 << 61);
                for offset in [PAGE, PAGE + 128, 2 * PAGE] {
                    self.set(offset, value);
                }
            }
            // Presence and counters.
            3 => {
                let half = PAGE * (1 + input.below(2));
                self.set(half + 256 + input.below(24) * 8, input.edgy(0));
            }
            // A stamp: a position near those in use, in any state.
            4 => {
                let half = PAGE * (1 + input.below(2));
                let position = input.edgy(self.get(half));
                let stamp = position << 2 | u64::from(input.byte() % 4);
                self.set(DATA + input.below(self.words) / 8 * 64, stamp);
            }
            // A header of a record.
            5 => {
                let kind = u64::from(input.byte() % 4) << 32;
                let value = kind | input.edgy(self.words as u64 * 8 - 16) & 0xffff_ffff;
                self.set(DATA + input.below(self.words) * 8, value);
            }
            // A stretch of one value.
            6 => {
                let (start, value) = (input.below(self.words), input.edgy(1));
                let end = (start + input.below(64)).min(self.words);
                for word in start..end {
                    self.set(DATA + word * 8, value);
                }
            }
            // A position of a lane: the halves lie behind a page of participants.
            7 if self.words * 8 > 7 * PAGE => {
                let half = DATA + PAGE * (1 + input.below(6));
                let line = [0, 8, 128, 256][input.below(4)];
                let value = input.edgy(self.get(half + line));
                self.set(half + line, value);
            }
            _ => self.set(DATA + input.below(self.words) * 8, input.edgy(0)),
        }
    }
}

fn slots<T: bytemuck::Pod>(input: &mut Input<'_>, capacity: usize) {
    let ring = Ring::<T>::builder(capacity).create(Place::memfd("consume").unwrap()).unwrap();
    let memory = Memory::new(ring.inheritable_fd().unwrap());
    let mut tx: Option<Sender<T>> = None;
    let mut rx: Option<Receiver<T>> = None;
    let (mut tx_corrupt, mut rx_corrupt) = (false, false);
    let message = T::zeroed();
    while !input.is_empty() {
        let choice = input.byte();
        match choice % 16 {
            0 => (tx, tx_corrupt) = (None, false),
            1 => (rx, rx_corrupt) = (None, false),
            2..=6 => memory.scribble(input),
            7 => {
                let _ =
                    (ring.stats(), tx.as_ref().map(Sender::len), rx.as_ref().map(Receiver::len));
            }
            side if side % 2 == 0 => {
                if tx.is_none() {
                    tx = ring.sender().ok();
                }
                let Some(tx) = &mut tx else { continue };
                let corrupt = match side {
                    8 => matches!(tx.try_send(message), Err(TrySendError::Corrupt(_))),
                    10 => tx
                        .send_timeout(message, Duration::ZERO)
                        .is_err_and(|error| error.to_string().contains("damaged")),
                    12 => {
                        let count = 1 + input.below(40);
                        let sent = tx.try_send_batch(&vec![message; count]);
                        assert!(sent <= capacity.min(count) && !(tx_corrupt && sent > 0));
                        continue;
                    }
                    _ => {
                        tx.wait_for_peer(Duration::ZERO);
                        let sent = tx.try_send_from(std::iter::repeat_n(message, 50));
                        assert!(sent <= capacity.min(50) && !(tx_corrupt && sent > 0));
                        continue;
                    }
                };
                assert!(corrupt || !tx_corrupt, "a poisoned sender went on");
                tx_corrupt |= corrupt;
            }
            side => {
                if rx.is_none() {
                    rx = ring.receiver().ok();
                }
                let Some(rx) = &mut rx else { continue };
                let corrupt = match side {
                    9 => rx.try_recv().err() == Some(TryRecvError::Corrupt),
                    11 => rx
                        .recv_timeout(Duration::ZERO)
                        .is_err_and(|error| error.to_string().contains("damaged")),
                    13 => {
                        let count = 1 + input.below(40);
                        let got = rx.try_recv_batch(&mut vec![message; count]);
                        assert!(got <= count && !(rx_corrupt && got > 0));
                        continue;
                    }
                    _ => {
                        rx.try_iter().take(50).for_each(drop);
                        let got = rx.drain(50).count();
                        assert!(got <= 50 && !(rx_corrupt && got > 0));
                        continue;
                    }
                };
                assert!(corrupt || !rx_corrupt, "a poisoned receiver went on");
                rx_corrupt |= corrupt;
            }
        }
    }
}

fn bytes(input: &mut Input<'_>, ring: Builder<ByteRing>) {
    let ring = ring.create(Place::memfd("consume").unwrap()).unwrap();
    let memory = Memory::new(ring.inheritable_fd().unwrap());
    let mut tx: Option<ByteSender> = None;
    let mut rx: Option<ByteReceiver> = None;
    let (mut tx_corrupt, mut rx_corrupt) = (false, false);
    let longest = ring.max_message();
    let mut message = Vec::new();
    while !input.is_empty() {
        let choice = input.byte();
        match choice % 20 {
            0 => (tx, tx_corrupt) = (None, false),
            1 => (rx, rx_corrupt) = (None, false),
            2..=6 => memory.scribble(input),
            7 => {
                let lengths =
                    (tx.as_ref().map(ByteSender::len), rx.as_ref().map(ByteReceiver::len));
                let _ = (ring.stats(), lengths);
            }
            side if side % 2 == 0 => {
                if tx.is_none() {
                    tx = ring.sender().ok();
                }
                let Some(tx) = &mut tx else { continue };
                let len = input.below(longest + 2);
                let result = match side {
                    8 => tx.try_send(&vec![1; len]),
                    10 => tx.send_timeout(&vec![2; len], Duration::ZERO),
                    12 => tx.try_reserve(len).map(drop),
                    _ => tx.try_reserve(len).map(|mut grant| {
                        let at = input.below(len + 1);
                        grant.write(at, &vec![3; len - at]);
                        if input.byte().is_multiple_of(2) {
                            memory.scribble(input);
                        }
                        grant.commit();
                    }),
                };
                match result {
                    Ok(()) => assert!(len <= longest && !tx_corrupt),
                    Err(ByteSendError::TooLong { len, max }) => assert!(len > max),
                    Err(ByteSendError::Corrupt) => tx_corrupt = true,
                    Err(_) => assert!(!tx_corrupt, "a poisoned sender went on"),
                }
            }
            side => {
                if rx.is_none() {
                    rx = ring.receiver().ok();
                }
                let Some(rx) = &mut rx else { continue };
                let corrupt = match side {
                    9 => rx.try_recv(&mut message).err() == Some(TryRecvError::Corrupt),
                    11 => rx
                        .recv_timeout(&mut message, Duration::ZERO)
                        .is_err_and(|error| error.to_string().contains("damaged")),
                    13 => {
                        let room = input.below(longest + 1);
                        match rx.try_recv_into(&mut vec![0; room]) {
                            Ok(len) => assert!(len <= room),
                            Err(RecvIntoError::TooSmall { len }) => assert!(len > room),
                            Err(error) => rx_corrupt |= error == RecvIntoError::Corrupt,
                        }
                        continue;
                    }
                    15 => {
                        let count = rx.try_recv_batch(50, |message| drop(message.to_vec()));
                        assert!(!(rx_corrupt && count > 0));
                        continue;
                    }
                    _ => match rx.try_claim() {
                        Ok(claimed) => {
                            memory.scribble(input);
                            message = claimed.to_vec();
                            memory.scribble(input);
                            claimed.release();
                            assert!(!rx_corrupt);
                            continue;
                        }
                        Err(error) => error == TryRecvError::Corrupt,
                    },
                };
                assert!(corrupt || !rx_corrupt, "a poisoned receiver went on");
                rx_corrupt |= corrupt;
                assert!(message.capacity() <= memory.words * 16, "more room than the ring has");
            }
        }
    }
}
