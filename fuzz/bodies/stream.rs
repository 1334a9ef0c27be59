//! A stream of bytes: reads and writes against a plain queue of what each write wrote, and then with whatever words
//! others may write.

use super::effort::Effort;
use super::input::Input;
use annulus::{ByteRing, Ending, Place, Stream, StreamReader, StreamWriter, Topology};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::unix::fs::FileExt;
use std::time::Duration;

const PAGE: usize = 4096;
/// Writers that there may be at a time.
const WRITERS: usize = 2;
/// Bytes of a stream beside those of one write, at most.
const EXTRA: usize = 23;

/// Makes calls of some writers and a reader, who come and go, and asks a queue what each must answer. Then somebody
/// writes the words that they share, and calls only have to answer.
pub fn stream(data: &[u8]) {
    let input = &mut Input(data);
    let topology = [Topology::Spsc, Topology::Mpsc][input.below(2)];
    let capacity = 64 + input.below(1000);
    let ring = ByteRing::builder(capacity).topology(topology).participants(WRITERS).ordered(true);
    let ring = ring.create(Place::memfd("stream").unwrap()).unwrap();
    let file = File::from(ring.inheritable_fd().unwrap());
    let longest = ring.max_message();
    let mut users = Users {
        stream: ring.into(),
        writers: [None, None],
        reader: None,
        writing: Presence::NeverCame,
        reading: Presence::NeverCame,
        queue: Queue::default(),
        room: capacity,
        piece: if topology == Topology::Spsc { (longest / 4).max(1) } else { longest },
        most: if topology == Topology::Spsc { 1 } else { WRITERS },
        refused: false,
    };
    // The first half of the input is for correct users.
    let rest = input.0.len() / 2;
    while input.0.len() > rest {
        users.correct(input);
    }
    while !input.is_empty() {
        let effort = Effort::begin();
        scribble(input, &file);
        users.hostile(input);
        effort.check();
    }
}

/// Whether a side is there, as the other side must see it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Presence {
    NeverCame,
    Here,
    Left,
}

impl Presence {
    fn ending(self) -> Option<Ending> {
        (self == Self::Left).then_some(Ending::Closed)
    }
}

/// What was written and not yet read to its end.
#[derive(Default)]
struct Queue {
    messages: VecDeque<Vec<u8>>,
    /// Bytes of the first one that were read.
    at: usize,
    written: usize,
}

impl Queue {
    /// The next bytes to be written.
    fn next(&self, len: usize) -> Vec<u8> {
        (self.written..self.written + len).map(|at| (at ^ at >> 8) as u8).collect()
    }

    fn push(&mut self, written: &[u8], piece: usize) {
        self.messages.extend(written.chunks(piece).map(<[u8]>::to_vec));
        self.written += written.len();
    }

    fn len(&self) -> usize {
        self.messages.iter().map(Vec::len).sum::<usize>() - self.at
    }

    fn pop(&mut self, len: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        while taken.len() < len {
            let first = &self.messages[0];
            let count = (first.len() - self.at).min(len - taken.len());
            taken.extend(&first[self.at..self.at + count]);
            self.at += count;
            if self.at == first.len() {
                self.messages.pop_front();
                self.at = 0;
            }
        }
        taken
    }
}

struct Users {
    stream: Stream,
    writers: [Option<StreamWriter>; WRITERS],
    reader: Option<StreamReader>,
    writing: Presence,
    reading: Presence,
    queue: Queue,
    room: usize,
    /// The longest message of a writer.
    piece: usize,
    /// Writers at a time.
    most: usize,
    /// Whether somebody was told that there is no room since all was read: what stays in front of the next lap then is
    /// no bytes of anybody.
    refused: bool,
}

impl Users {
    fn writer(&self) -> StreamWriter {
        let mut writer = self.stream.writer().unwrap();
        writer.set_nonblocking(true);
        writer
    }

    fn correct(&mut self, input: &mut Input<'_>) {
        let which = input.below(self.most);
        match input.byte() % 10 {
            0 if input.byte().is_multiple_of(3) => {
                self.writers[which] = None;
                let nobody = self.writers.iter().all(Option::is_none);
                if nobody && self.writing == Presence::Here {
                    self.writing = Presence::Left;
                }
            }
            1 if input.byte().is_multiple_of(3) => {
                self.reader = None;
                if self.reading == Presence::Here {
                    self.reading = Presence::Left;
                }
            }
            0..=5 => {
                let len = input.below(self.piece * 2 + 2);
                if self.writers[which].is_none() {
                    self.writers[which] = Some(self.writer());
                    self.writing = Presence::Here;
                }
                self.write(which, len, input.byte());
            }
            _ => {
                if self.reader.is_none() {
                    let mut reader = self.stream.reader().unwrap();
                    reader.set_nonblocking(true);
                    self.reader = Some(reader);
                    self.reading = Presence::Here;
                    // What the last one had begun comes again from its start.
                    self.queue.at = 0;
                }
                self.read(input.below(self.room), input.byte());
            }
        }
        let ends = self.writers.iter().flatten().all(|tx| tx.ending() == self.reading.ending());
        assert!(ends, "{:?}", self.reading);
        let end = self.reader.as_ref().map(|rx| rx.ending() == self.writing.ending());
        assert_ne!(end, Some(false), "{:?}", self.writing);
    }

    fn write(&mut self, which: usize, len: usize, how: u8) {
        let bytes = self.queue.next(len);
        let writer = self.writers[which].as_mut().unwrap();
        let (vectored, cut) = (how & 1 == 1, usize::from(how) * len / 256);
        let done = match vectored {
            true => writer.write_vectored(&[
                IoSlice::new(&bytes[..cut]),
                IoSlice::new(&[]),
                IoSlice::new(&bytes[cut..]),
            ]),
            false => writer.write(&bytes),
        };
        let most = if vectored { len.min(self.piece) } else { len };
        let used: usize = self.queue.messages.iter().map(|message| message.len() + EXTRA).sum();
        let pieces = len.div_ceil(self.piece);
        let fits = 2 * (used + most + (pieces + 1) * EXTRA) <= self.room && !self.refused;
        match done.map_err(|error| error.kind()) {
            Ok(count) => {
                assert!(self.reading != Presence::Left || len == 0, "nobody is there to read it");
                let whole = count == most || count.is_multiple_of(self.piece) && count > 0;
                assert!(whole && count <= most && (count == most || !fits), "{count} of {len}");
                self.refused |= count < most;
                self.queue.push(&bytes[..count], self.piece);
            }
            Err(ErrorKind::BrokenPipe) => assert!(self.reading == Presence::Left && len > 0),
            Err(error) => {
                assert_eq!(error, ErrorKind::WouldBlock);
                assert!(!fits && len > 0, "{len} bytes fit, beside {used} of {}", self.room);
                self.refused = true;
            }
        }
    }

    fn read(&mut self, len: usize, how: u8) {
        let reader = self.reader.as_mut().unwrap();
        let mut buffer = vec![0x55; len];
        let done = if how & 1 == 1 {
            let (one, other) = buffer.split_at_mut(usize::from(how) * len / 256);
            let mut parts =
                [IoSliceMut::new(one), IoSliceMut::new(&mut []), IoSliceMut::new(other)];
            reader.read_vectored(&mut parts)
        } else {
            reader.read(&mut buffer)
        };
        let there = self.queue.len();
        match done.map_err(|error| error.kind()) {
            Ok(0) => assert!(len == 0 || there == 0 && self.writing == Presence::Left),
            Ok(count) => {
                assert_eq!(count, len.min(there), "what is there is read");
                assert_eq!(buffer[..count], self.queue.pop(count));
            }
            Err(error) => {
                assert_eq!((error, there), (ErrorKind::WouldBlock, 0));
                assert_ne!(self.writing, Presence::Left);
                // It has looked at the next place.
                self.refused = false;
            }
        }
    }

    fn hostile(&mut self, input: &mut Input<'_>) {
        let which = input.below(self.most);
        let mut buffer = [0; 300];
        match input.byte() % 6 {
            0 => self.writers[which] = self.stream.writer().ok(),
            1 => self.reader = self.stream.reader().ok(),
            2 => drop(self.stream.ring().stats()),
            3 => {
                let Some(writer) = &mut self.writers[which] else { return };
                writer.set_nonblocking(true);
                let len = input.below(self.piece * 2 + 2);
                let bytes = vec![7; len];
                assert!(writer.write(&bytes).is_ok_and(|count| count <= len) || len > 0);
                let both = [IoSlice::new(&bytes), IoSlice::new(b"more")];
                let _ = (writer.write_vectored(&both), writer.ending());
            }
            4 => {
                let Some(reader) = &mut self.reader else { return };
                reader.set_nonblocking(false);
                reader.set_timeout(Some(Duration::from_micros(100)));
                let len = input.below(buffer.len());
                assert!(reader.read(&mut buffer[..len]).is_ok_and(|count| count <= len) || len > 0);
            }
            _ => {
                let Some(reader) = &mut self.reader else { return };
                reader.set_nonblocking(true);
                let (one, other) = buffer.split_at_mut(input.below(300));
                let both = &mut [IoSliceMut::new(one), IoSliceMut::new(other)];
                let _ = (reader.read_vectored(both), reader.ending());
            }
        }
    }
}

/// Writes a word behind the header: mostly one that somebody reads.
fn scribble(input: &mut Input<'_>, file: &File) {
    let size = file.metadata().unwrap().len() as usize;
    let offset = match input.byte() % 4 {
        0 => PAGE + input.below(64) * 8,
        1 => 2 * PAGE + input.below(64) * 8,
        // The start of a page, or near it.
        2 => PAGE * (1 + input.below(size / PAGE - 1)) + input.below(40) * 8,
        _ => PAGE + input.below((size - PAGE) / 8) * 8,
    };
    let value = match input.byte() % 3 {
        // The header of a message, or of a pad.
        0 => u64::from(1 + input.byte() % 2) << 32 | u64::from(input.byte()),
        1 => 8 * u64::from(input.byte()),
        _ => input.edgy(64),
    };
    file.write_all_at(&value.to_le_bytes(), offset as u64).unwrap();
}
