//! Streams of bytes: what users of pipes and FIFOs rely on.

mod processes;

use annulus::{ByteRing, Ending, Place, Stream, StreamReader, StreamWriter, Topology, Wait};
use processes::{PATIENCE, fork, unique};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(20);

fn memory(capacity: usize) -> Stream {
    Stream::builder(capacity).create(Place::memfd("stream").unwrap()).unwrap()
}

/// One that may have less room than those that are made as streams.
fn narrow(capacity: usize) -> Stream {
    ByteRing::builder(capacity).create(Place::memfd("narrow").unwrap()).unwrap().into()
}

fn many(capacity: usize, writers: usize, ordered: bool) -> Stream {
    Stream::builder(capacity)
        .topology(Topology::Mpsc)
        .participants(writers)
        .ordered(ordered)
        .create(Place::memfd("stream").unwrap())
        .unwrap()
}

fn ends(capacity: usize) -> (StreamReader, StreamWriter) {
    let stream = memory(capacity);
    (stream.reader().unwrap(), stream.writer().unwrap())
}

/// The byte at a position of a test's stream.
fn byte(position: usize) -> u8 {
    (position ^ position >> 8 ^ position >> 16) as u8
}

fn bytes(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(byte).collect()
}

fn kind<T>(result: io::Result<T>) -> Result<T, ErrorKind> {
    result.map_err(|error| error.kind())
}

/// What a program does with a pipe.
#[derive(Clone, Debug)]
enum Step {
    Write(usize),
    WriteParts(usize, usize),
    Read(usize),
    ReadParts(usize, usize),
    CloseReader,
    CloseWriter,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..5000_usize).prop_map(Step::Write),
        2 => (0..2000_usize, 0..2000_usize).prop_map(|(one, other)| Step::WriteParts(one, other)),
        6 => (0..9000_usize).prop_map(Step::Read),
        2 => (0..3000_usize, 0..3000_usize).prop_map(|(one, other)| Step::ReadParts(one, other)),
        1 => Just(Step::CloseReader),
        1 => Just(Step::CloseWriter),
    ];
    proptest::collection::vec(step, 1..60)
}

/// What a step gave: the bytes read, or how many were written.
type Said = Option<Result<(usize, Vec<u8>), ErrorKind>>;

/// Takes the steps with two ends that do not block, never with more than 40,000 bytes on their way, so that
/// there is always room.
fn take<R: Read, W: Write>(steps: &[Step], reader: R, writer: W) -> Vec<Said> {
    let (mut reader, mut writer) = (Some(reader), Some(writer));
    let (mut sent, mut received) = (0, 0);
    let read = |result: io::Result<usize>, buffers: &[&[u8]]| -> Result<(usize, Vec<u8>), _> {
        let count = kind(result)?;
        Ok((count, buffers.concat().into_iter().take(count).collect()))
    };
    let mut said = Vec::new();
    for step in steps {
        let room = 40_000 - (sent - received);
        let what = match *step {
            Step::Write(len) => writer.as_mut().map(|writer| {
                let count = kind(writer.write(&bytes(sent, len.min(room))))?;
                Ok((count, vec![]))
            }),
            Step::WriteParts(one, other) => writer.as_mut().map(|writer| {
                let one = bytes(sent, one.min(room));
                let other = bytes(sent + one.len(), other.min(room - one.len()));
                let parts = [IoSlice::new(&one), IoSlice::new(&[]), IoSlice::new(&other)];
                Ok((kind(writer.write_vectored(&parts))?, vec![]))
            }),
            Step::Read(len) => reader.as_mut().map(|reader| {
                let mut buffer = vec![0; len];
                let result = reader.read(&mut buffer);
                read(result, &[&buffer])
            }),
            Step::ReadParts(one, other) => reader.as_mut().map(|reader| {
                let (mut one, mut other) = (vec![0; one], vec![0; other]);
                let result = reader.read_vectored(&mut [
                    IoSliceMut::new(&mut []),
                    IoSliceMut::new(&mut one),
                    IoSliceMut::new(&mut other),
                ]);
                read(result, &[&one, &other])
            }),
            Step::CloseReader => {
                reader = None;
                None
            }
            Step::CloseWriter => {
                writer = None;
                None
            }
        };
        if let Some(Ok((count, bytes))) = &what {
            let is_write = matches!(step, Step::Write(_) | Step::WriteParts(..));
            *if is_write { &mut sent } else { &mut received } += count;
            assert!(is_write || bytes.len() == *count);
        }
        said.push(what);
    }
    said
}

fn kernel_ends() -> (PipeReader, PipeWriter) {
    let (reader, writer) = io::pipe().unwrap();
    for end in [reader.as_fd(), writer.as_fd()] {
        let flags = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK);
        nix::fcntl::fcntl(end, flags).unwrap();
    }
    (reader, writer)
}

fn ours(stream: &Stream) -> (StreamReader, StreamWriter) {
    let (mut reader, mut writer) = (stream.reader().unwrap(), stream.writer().unwrap());
    reader.set_nonblocking(true);
    writer.set_nonblocking(true);
    (reader, writer)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn a_stream_answers_as_a_pipe_does(steps in steps()) {
        let (reader, writer) = kernel_ends();
        let kernel = take(&steps, reader, writer);
        for stream in [memory(64 * 1024), many(64 * 1024, 2, true), many(64 * 1024, 2, false)] {
            let (reader, writer) = ours(&stream);
            prop_assert_eq!(&take(&steps, reader, writer), &kernel);
        }
    }

    #[test]
    fn no_byte_is_lost_where_there_is_little_room(
        capacity in 64..400_usize,
        lengths in proptest::collection::vec((0..300_usize, 0..300_usize), 1..100),
    ) {
        let (mut reader, mut writer) = ours(&narrow(capacity));
        let (mut sent, mut received) = (0, 0);
        let mut model = VecDeque::new();
        for (write, read) in lengths {
            match kind(writer.write(&bytes(sent, write))) {
                Ok(count) => {
                    prop_assert!(count <= write && (count > 0 || write == 0));
                    model.extend(bytes(sent, count));
                    sent += count;
                }
                error => {
                    prop_assert_eq!(error, Err(ErrorKind::WouldBlock));
                    prop_assert!(!model.is_empty());
                }
            }
            let mut buffer = vec![0; read];
            match kind(reader.read(&mut buffer)) {
                Ok(count) => {
                    // What is there is read, as far as the buffer goes.
                    prop_assert_eq!(count, read.min(model.len()));
                    prop_assert!(buffer[..count].iter().copied().eq(model.drain(..count)));
                    received += count;
                }
                error => {
                    prop_assert_eq!(error, Err(ErrorKind::WouldBlock));
                    prop_assert!(model.is_empty());
                }
            }
        }
        prop_assert_eq!(sent - received, model.len());
    }
}

#[test]
fn much_is_copied_as_it_was() {
    const ALL: usize = 48 << 20;
    for (capacity, wait) in [(1 << 20, Wait::Adaptive), (4096, Wait::Block), (100, Wait::Adaptive)]
    {
        let all = if capacity == 100 { ALL / 64 } else { ALL };
        let stream = narrow(capacity);
        let (mut reader, mut writer) = (stream.reader().unwrap(), stream.writer().unwrap());
        reader.set_wait(wait);
        writer.set_wait(wait);
        let source = bytes(0, all);
        thread::scope(|scope| {
            let source = &source;
            scope.spawn(move || {
                let copied = io::copy(&mut &source[..], &mut writer).unwrap();
                assert_eq!(copied, all as u64);
            });
            let mut copy = Vec::new();
            assert_eq!(io::copy(&mut reader, &mut copy).unwrap(), all as u64);
            assert!(copy == *source, "another {capacity}");
            assert_eq!(reader.ending(), Some(Ending::Closed));
        });
    }
}

/// Several writers write lines of different lengths; what one write wrote comes in one piece, and those of one
/// writer in their order.
#[test]
fn writes_are_not_mixed() {
    const WRITERS: usize = 3;
    const LINES: usize = 3000;
    for ordered in [true, false] {
        let stream = many(8 * 1024, WRITERS, ordered);
        let mut reader = stream.reader().unwrap();
        thread::scope(|scope| {
            for id in 0..WRITERS {
                let mut writer = stream.writer().unwrap();
                scope.spawn(move || {
                    for line in 0..LINES {
                        let len = (line * 7919 + id * 31) % if line % 50 == 0 { 8000 } else { 300 };
                        let mut text = vec![id as u8];
                        text.extend((line as u32).to_le_bytes());
                        text.extend((len as u32).to_le_bytes());
                        text.extend(bytes(line, len));
                        assert_eq!(writer.write(&text).unwrap(), text.len());
                    }
                });
            }
            let mut next = [0; WRITERS];
            let (mut all, mut buffer) = (VecDeque::new(), vec![0; 1000]);
            let mut size = 1;
            loop {
                // Reads of all sizes.
                size = size * 5 % 997 + 1;
                let count = reader.read(&mut buffer[..size]).unwrap();
                if count == 0 {
                    break;
                }
                all.extend(&buffer[..count]);
                while all.len() >= 9 {
                    let head: Vec<u8> = all.iter().copied().take(9).collect();
                    let number = |at: usize| {
                        u32::from_le_bytes(head[at..at + 4].try_into().unwrap()) as usize
                    };
                    let (id, line, len) = (head[0] as usize, number(1), number(5));
                    assert_eq!(line, next[id], "writer {id}");
                    if all.len() < 9 + len {
                        break;
                    }
                    assert!(all.drain(..9 + len).skip(9).eq(bytes(line, len)));
                    next[id] += 1;
                }
            }
            assert_eq!((next, all.len()), ([LINES; WRITERS], 0));
        });
    }
}

#[test]
fn what_was_begun_is_read_to_its_end_before_another_writers() {
    for ordered in [true, false] {
        let stream = many(4096, 2, ordered);
        let (mut one, mut other) = (stream.writer().unwrap(), stream.writer().unwrap());
        let mut reader = stream.reader().unwrap();
        other.write_all(&[2; 100]).unwrap();
        let mut buffer = [0; 10];
        reader.read_exact(&mut buffer).unwrap();
        assert_eq!(buffer, [2; 10]);
        one.write_all(&[1; 100]).unwrap();
        let mut rest = [0; 190];
        reader.read_exact(&mut rest).unwrap();
        assert_eq!((&rest[..90], &rest[90..]), (&[2; 90][..], &[1; 100][..]));
    }
}

#[test]
fn what_was_written_first_is_read_first() {
    let stream = many(4096, 3, true);
    let mut writers: Vec<_> = (0..3).map(|_| stream.writer().unwrap()).collect();
    let mut reader = stream.reader().unwrap();
    let order = [2, 0, 1, 1, 2, 0, 0, 2, 1];
    for id in order {
        writers[usize::from(id)].write_all(&[id; 3]).unwrap();
    }
    let mut all = [0; 27];
    reader.read_exact(&mut all).unwrap();
    assert_eq!(all.to_vec(), order.iter().flat_map(|&id| [id; 3]).collect::<Vec<_>>());
}

#[test]
fn the_last_writers_end_is_the_end_and_death_is_told() {
    for topology in [Topology::Spsc, Topology::Mpsc] {
        let stream = || {
            let place = Place::name(&unique("end")).unwrap();
            Stream::builder(4096).topology(topology).participants(4).create(place.clone()).unwrap();
            let stream = Stream::builder(4096).topology(topology).participants(4);
            (stream.open_or_create(place.clone()).unwrap(), place)
        };
        // One leaves.
        let (left, _) = stream();
        let (mut reader, mut writer) = (left.reader().unwrap(), left.writer().unwrap());
        assert_eq!(reader.ending(), None);
        writer.write_all(b"farewell").unwrap();
        drop(writer);
        let mut all = String::new();
        assert_eq!(reader.read_to_string(&mut all).unwrap(), 8);
        assert_eq!((reader.read(&mut [0]).unwrap(), reader.ending()), (0, Some(Ending::Closed)));

        // Another comes, and is killed in the middle of nothing.
        let (killed, place) = stream();
        let mut reader = killed.reader().unwrap();
        let mut child = fork(|line| {
            let mut writer = Stream::open(place.clone()).unwrap().writer().unwrap();
            writer.write_all(b"last words").unwrap();
            line.say(1);
            line.wait_for_end();
        });
        child.line.expect(1);
        child.kill();
        reader.set_timeout(Some(PATIENCE));
        let mut all = String::new();
        assert_eq!(reader.read_to_string(&mut all).unwrap(), 10);
        assert_eq!((&all[..], reader.ending()), ("last words", Some(Ending::Died)));

        // A successor makes good for it, with the same reader.
        let mut writer = killed.writer().unwrap();
        assert_eq!(reader.ending(), None);
        writer.write_all(b"next").unwrap();
        drop(writer);
        let mut rest = String::new();
        assert_eq!(reader.read_to_string(&mut rest).unwrap(), 4);
        assert_eq!(reader.ending(), Some(Ending::Closed));
    }
}

#[test]
fn nobody_to_read_is_a_broken_pipe() {
    for stream in [memory(4096), many(4096, 2, true)] {
        let (reader, mut writer) = (stream.reader().unwrap(), stream.writer().unwrap());
        writer.write_all(b"read by nobody").unwrap();
        drop(reader);
        // At once, as with a pipe.
        assert_eq!(kind(writer.write(b"x")), Err(ErrorKind::BrokenPipe));
        assert_eq!(kind(writer.write_vectored(&[IoSlice::new(b"x")])), Err(ErrorKind::BrokenPipe));
        assert_eq!(writer.ending(), Some(Ending::Closed));
        // Another reader may come.
        let mut reader = stream.reader().unwrap();
        writer.write_all(b"!").unwrap();
        let mut all = [0; 15];
        reader.read_exact(&mut all).unwrap();
        assert_eq!(&all, b"read by nobody!");
    }
}

#[test]
fn a_killed_reader_ends_a_waiting_writer() {
    let place = Place::name(&unique("reader")).unwrap();
    let stream = Stream::builder(4096).create(place.clone()).unwrap();
    let mut writer = stream.writer().unwrap();
    let mut child = fork(|line| {
        let mut reader = Stream::open(place.clone()).unwrap().reader().unwrap();
        reader.read_exact(&mut [0; 10]).unwrap();
        line.say(1);
        line.wait_for_end();
    });
    assert!(writer.wait_for_peer(PATIENCE));
    writer.write_all(&bytes(0, 200)).unwrap();
    child.line.expect(1);
    child.kill();
    writer.set_timeout(Some(PATIENCE));
    let refused = (0..100).find_map(|_| writer.write(&[0; 100]).err()).unwrap();
    assert_eq!((refused.kind(), writer.ending()), (ErrorKind::BrokenPipe, Some(Ending::Died)));
    // What it had begun to read, the next reader gets from the start.
    let mut reader = stream.reader().unwrap();
    let mut again = [0; 200];
    reader.read_exact(&mut again).unwrap();
    assert_eq!(again.to_vec(), bytes(0, 200));
}

#[test]
fn a_wait_ends_in_time() {
    let (mut reader, mut writer) = ends(1000);
    assert_eq!(memory(1).ring().capacity(), 4096);
    reader.set_timeout(Some(SHORT));
    let start = Instant::now();
    assert_eq!(kind(reader.read(&mut [0])), Err(ErrorKind::TimedOut));
    assert!(start.elapsed() >= SHORT);
    writer.set_timeout(Some(SHORT));
    let start = Instant::now();
    // It is written as far as there was room, and the next call says why.
    let written = writer.write(&[0; 5000]).unwrap();
    assert!((2000..=4096).contains(&written) && start.elapsed() >= SHORT);
    assert_eq!(kind(writer.write(&[0; 5000])), Err(ErrorKind::TimedOut));
    assert_eq!(kind(writer.write_vectored(&[IoSlice::new(&[0; 5000])])), Err(ErrorKind::TimedOut));
    assert_eq!(reader.read(&mut [0; 6000]).unwrap(), written);
}

#[test]
fn empty_messages_neither_end_a_stream_nor_hold_it_up() {
    let ring = ByteRing::builder(1 << 16).create(Place::memfd("empty").unwrap()).unwrap();
    let mut tx = ring.sender().unwrap();
    let mut reader = Stream::from(ring.clone()).reader().unwrap();
    for _ in 0..3 {
        tx.send(b"").unwrap();
    }
    tx.send(b"something").unwrap();
    assert_eq!(reader.read(&mut [0; 20]).unwrap(), 9);
    reader.set_timeout(Some(SHORT));
    thread::scope(|scope| {
        // Until the reader has gone; if it is held up, the end of this is what it reads.
        let end = Instant::now() + PATIENCE;
        let flood = scope
            .spawn(move || while Instant::now() < end && tx.send_timeout(b"", PATIENCE).is_ok() {});
        assert_eq!(kind(reader.read(&mut [0; 20])), Err(ErrorKind::TimedOut));
        drop(reader);
        flood.join().unwrap();
    });
}

#[test]
fn a_name_waits_for_nobody_and_a_peer_is_waited_for() {
    let place = Place::name(&unique("name")).unwrap();
    let stream = Stream::builder(4096).open_or_create(place.clone()).unwrap();
    let mut writer = stream.writer().unwrap();
    assert!(!writer.wait_for_peer(SHORT));
    writer.write_all(b"early").unwrap();
    let mut child = fork(|line| {
        let mut reader = Stream::open(place.clone()).unwrap().reader().unwrap();
        assert!(reader.wait_for_peer(PATIENCE));
        line.say(1);
        let mut all = String::new();
        reader.read_to_string(&mut all).unwrap();
        assert_eq!(all, "early and late");
    });
    assert!(writer.wait_for_peer(PATIENCE));
    child.line.expect(1);
    writer.write_all(b" and late").unwrap();
    drop((writer, stream));
    child.finish();
}

#[test]
fn a_child_of_the_reader_reads_nothing() {
    let (mut reader, mut writer) = ends(4096);
    writer.write_all(b"for the parent").unwrap();
    fork(|_| {
        assert_eq!(kind(reader.read(&mut [0; 4])), Err(ErrorKind::InvalidData));
        assert_eq!(kind(writer.write(b"no")), Err(ErrorKind::InvalidData));
        assert_eq!((reader.ending(), writer.ending()), (None, None));
    })
    .finish();
    let mut all = [0; 14];
    reader.read_exact(&mut all).unwrap();
    assert_eq!(&all, b"for the parent");
}
