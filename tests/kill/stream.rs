//! The ends of a `Stream`, killed after every instruction of a write or a read. What one write wrote, or a piece of a
//! longer one, is there whole or not at all, and a reader killed in the middle of one leaves it to the next, from its
//! start.

use std::hint::black_box;
use std::io::{IoSlice, Read, Write};
use std::time::Duration;

use annulus::{Place, Stream, StreamReader, StreamWriter, Topology};

use super::survive::PATIENCE;
use crate::support::ptrace::{Child, Tracee};
use crate::support::shared::SharedWords;
use crate::support::sweep::{CHILD_LIFE, Case, Points, Verdict, report, sweep};

const CAPACITY: usize = 4096;
/// What a sole writer cuts into pieces.
const PIECE: usize = CAPACITY / 4;
/// What was written before, each by a call.
const WRITES: [usize; 3] = [100, 200, 300];
const BEFORE: usize = 600;
/// What passes afterwards.
const AFTER: usize = 1500;

/// The byte at a position.
fn byte(position: usize) -> u8 {
    (position.wrapping_mul(31) ^ position >> 8) as u8
}

fn bytes(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(byte).collect()
}

fn start(topology: Topology) -> Result<(Stream, StreamWriter), String> {
    let place = Place::memfd("kill").map_err(|error| error.to_string())?;
    let builder = Stream::builder(CAPACITY).topology(topology).participants(3);
    let stream = builder.create(place).map_err(|error| format!("create: {error}"))?;
    let mut writer = stream.writer().map_err(|error| format!("writer: {error}"))?;
    let mut at = 0;
    for len in WRITES {
        writer.write_all(&bytes(at, len)).map_err(|error| error.to_string())?;
        at += len;
    }
    Ok((stream, writer))
}

/// Reads what there is, which is what was written from `at` on; where it ends.
fn drain(reader: &mut StreamReader, mut at: usize) -> Result<usize, String> {
    reader.set_nonblocking(true);
    let mut buffer = [0; 700];
    while let Ok(count @ 1..) = reader.read(&mut buffer) {
        if buffer[..count] != bytes(at, count) {
            return Err(format!("something else than was written between {at} and {count} on"));
        }
        at += count;
    }
    reader.set_nonblocking(false);
    Ok(at)
}

/// Passes more, from `at` on.
fn pass(writer: &mut StreamWriter, reader: &mut StreamReader, at: usize) -> Result<(), String> {
    writer.set_timeout(Some(PATIENCE));
    reader.set_timeout(Some(PATIENCE));
    let sent = bytes(at, AFTER);
    let mut there = vec![0; AFTER];
    writer.write_all(&sent).map_err(|error| format!("the next write: {error}"))?;
    reader.read_exact(&mut there).map_err(|error| format!("the next read: {error}"))?;
    if there == sent { Ok(()) } else { Err("what passes afterwards is torn".into()) }
}

/// A writer that is killed.
struct Writing {
    name: &'static str,
    topology: Topology,
    len: usize,
    run: fn(&Child, &mut StreamWriter, &[u8]),
    points: Points,
}

fn write(child: &Child, writer: &mut StreamWriter, bytes: &[u8]) {
    let _ = black_box(child.section(|| writer.write(bytes)));
}

fn write_vectored(child: &Child, writer: &mut StreamWriter, bytes: &[u8]) {
    let (one, other) = bytes.split_at(bytes.len() / 3);
    let _ = black_box(
        child.section(|| writer.write_vectored(&[IoSlice::new(one), IoSlice::new(other)])),
    );
}

impl Writing {
    fn all() -> Vec<Self> {
        let writing = |name, topology, len, run, points| Self { name, topology, len, run, points };
        let (one, many) = (Topology::Spsc, Topology::Mpsc);
        vec![
            writing("write", one, 70, write, Points::Every),
            writing("write of pieces", one, 2 * PIECE + 10, write, Points::Spread(500)),
            writing("write_vectored", one, 70, write_vectored, Points::Every),
            writing("write of many", many, 70, write, Points::Every),
            writing("long write of many", many, 1500, write, Points::Spread(500)),
            writing("write_vectored of many", many, 70, write_vectored, Points::Every),
        ]
    }
}

impl Case for Writing {
    type Survivor = (Stream, StreamReader);

    fn label(&self) -> String {
        format!("stream {}", self.name)
    }

    fn start(&self) -> Result<(Tracee, Self::Survivor), String> {
        let (stream, writer) = start(self.topology)?;
        drop(writer);
        let reader = stream.reader().map_err(|error| format!("reader: {error}"))?;
        let fd = stream.inheritable_fd().map_err(|error| error.to_string())?;
        let bytes = bytes(BEFORE, self.len);
        let tracee = Tracee::spawn(CHILD_LIFE, |child| {
            let mut writer =
                Stream::from_fd(fd).expect("opens").writer().expect("there is a place");
            (self.run)(child, &mut writer, &bytes);
        })?;
        Ok((tracee, (stream, reader)))
    }

    fn check(&self, (stream, mut reader): Self::Survivor) -> Result<Verdict, String> {
        // Whoever comes resolves what the dead one has left.
        let mut writer = stream.writer().map_err(|error| format!("a successor: {error}"))?;
        let end = drain(&mut reader, 0)?;
        let written = end.checked_sub(BEFORE).ok_or("what was written before is lost")?;
        let piece = if self.topology == Topology::Spsc { PIECE } else { self.len };
        if written != self.len && !written.is_multiple_of(piece) {
            return Err(format!("{written} bytes are not whole pieces"));
        }
        pass(&mut writer, &mut reader, end)?;
        Ok(Verdict::of(written as u64))
    }

    fn effect(&self) -> u64 {
        self.len as u64
    }
}

/// A reader that is killed when it reads so many bytes.
struct Reading {
    topology: Topology,
    len: usize,
}

impl Reading {
    /// Bytes of the writes that it has read to their ends.
    fn ended(&self) -> usize {
        let ends = WRITES.iter().scan(0, |at, len| {
            *at += len;
            Some(*at)
        });
        ends.take_while(|&end| end <= self.len).last().unwrap_or(0)
    }
}

struct Left {
    stream: Stream,
    writer: StreamWriter,
    /// Where the dead one read to.
    hand: SharedWords,
}

impl Case for Reading {
    type Survivor = Left;

    fn label(&self) -> String {
        format!("stream read of {}, {:?}", self.len, self.topology)
    }

    fn start(&self) -> Result<(Tracee, Left), String> {
        let (stream, writer) = start(self.topology)?;
        let fd = stream.inheritable_fd().map_err(|error| error.to_string())?;
        let hand = SharedWords::new(BEFORE.div_ceil(8));
        let tracee = Tracee::spawn(CHILD_LIFE, |child| {
            let mut reader =
                Stream::from_fd(fd).expect("opens").reader().expect("the role is free");
            reader.set_timeout(Some(Duration::from_secs(1)));
            // SAFETY: only this child touches the mapping while it lives, which is as long as a read can be; the
            // parent looks at it, through atomics, when the child is dead.
            let hand =
                unsafe { std::slice::from_raw_parts_mut(hand.as_mut_ptr().cast(), self.len) };
            let _ = black_box(child.section(|| reader.read(hand)));
        })?;
        Ok((tracee, Left { stream, writer, hand }))
    }

    fn check(&self, left: Left) -> Result<Verdict, String> {
        let Left { stream, mut writer, hand } = left;
        let mut reader = stream.reader().map_err(|error| format!("a successor: {error}"))?;
        reader.set_nonblocking(true);
        let mut rest = vec![0; 2 * BEFORE];
        let count = reader.read(&mut rest).unwrap_or(0);
        reader.set_nonblocking(false);
        let taken = BEFORE.checked_sub(count).ok_or("more than was written")?;
        if rest[..count] != bytes(taken, count) {
            return Err(format!("something else than was written, from {taken} on"));
        }
        if ![0, 100, 300, 600].contains(&taken) {
            return Err(format!("the next one begins at {taken}, in the middle"));
        }
        let words = hand.iter().map(|word| word.load(std::sync::atomic::Ordering::Relaxed));
        let in_hand: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        if in_hand[..taken] != bytes(0, taken) {
            return Err(format!("{taken} bytes have left the stream before they were read"));
        }
        pass(&mut writer, &mut reader, BEFORE)?;
        Ok(Verdict::of(taken as u64))
    }

    fn effect(&self) -> u64 {
        self.ended() as u64
    }
}

#[test]
fn stream_writes() {
    let rows: Vec<_> = Writing::all().iter().map(|case| sweep(case, case.points, 2)).collect();
    report("stream, writer", &rows);
}

#[test]
fn stream_reads() {
    let cases = [Topology::Spsc, Topology::Mpsc]
        .into_iter()
        .flat_map(|topology| [50, 150, 600].map(|len| Reading { topology, len }));
    let rows: Vec<_> = cases.map(|case| sweep(&case, Points::Every, 2)).collect();
    report("stream, reader", &rows);
}
