//! Streams under the same torture: writers and readers of bytes, killed and replaced over and over.
//!
//! What is written starts with three words and goes on with bytes that follow from them, so that one write mixed with
//! another, or cut, is noticed. A reader reads a few bytes at a time, so it dies in the middle of what one wrote.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use annulus::{Place, Stream, StreamReader, Topology};

use crate::havoc::PATIENCE;
use crate::support::ledger::{Ledger, NUMBERS, message, stay};
use crate::torture::{Toll, massacre, waiting};

const SLICE: Duration = Duration::from_millis(50);
const HEAD: usize = 24;
/// Bytes of one read: what begins in them may be lost with a reader that has read it and not counted it.
const READ: usize = 100;
const LOST: u64 = READ.div_ceil(HEAD) as u64;

fn open(fd: &OwnedFd) -> Stream {
    Stream::from_fd(fd.try_clone().expect("a descriptor")).expect("opens")
}

/// Bytes behind the head of what is written with a number.
fn tail(number: u64) -> usize {
    (number % 40) as usize
}

fn write_all(fd: &OwnedFd, ledger: &Ledger, me: usize, random: u64) {
    let mut writer = open(fd).writer().expect("a place");
    writer.set_wait(waiting(random));
    writer.set_timeout(Some(SLICE));
    let mut next = ledger.sent(me).load(Relaxed);
    while ledger.stop().load(Relaxed) == 0 && next < NUMBERS {
        let mut bytes: Vec<u8> = message(me, next).into_iter().flat_map(u64::to_le_bytes).collect();
        bytes.resize(HEAD + tail(next), next as u8);
        match writer.write(&bytes) {
            Ok(count) => {
                assert_eq!(count, bytes.len(), "what is short is written whole");
                next += 1;
            }
            // While the reader is being replaced there may be none.
            Err(error) => match error.kind() {
                ErrorKind::TimedOut | ErrorKind::BrokenPipe => {}
                _ => panic!("{error}"),
            },
        }
        ledger.sent(me).store(next, Relaxed);
    }
    stay(ledger);
}

/// Reads into `buffer`; how many bytes, unless all is over.
fn some(reader: &mut StreamReader, ledger: &Ledger, buffer: &mut [u8]) -> Option<usize> {
    loop {
        let is_last = ledger.stop().load(Relaxed) == 2;
        match reader.read(buffer) {
            Ok(0) if is_last => return None,
            // While the writers are being replaced there may be none.
            Ok(0) => std::thread::yield_now(),
            Ok(count) => return Some(count),
            Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}"),
        }
    }
}

fn read_all(fd: &OwnedFd, ledger: &Ledger, random: u64) {
    let mut reader = open(fd).reader().expect("the role");
    reader.set_wait(waiting(random));
    reader.set_timeout(Some(SLICE));
    let (mut buffer, mut there) = ([0; READ], Vec::new());
    let mut length = random as usize;
    while let Some(count) = some(&mut reader, ledger, &mut buffer[..1 + length % READ]) {
        length = length.wrapping_mul(31).wrapping_add(7);
        there.extend(&buffer[..count]);
        let mut rest = &there[..];
        while let Some((head, more)) = rest.split_at_checked(HEAD) {
            let word = |i: usize| u64::from_le_bytes(head[8 * i..8 * i + 8].try_into().unwrap());
            let tag = [word(0), word(1), word(2)];
            let number = tag[0] & 0xffff_ffff;
            let Some((tail, more)) = more.split_at_checked(tail(number)) else { break };
            assert!(tail.iter().all(|&byte| byte == number as u8), "two writes are mixed");
            ledger.count(tag);
            rest = more;
        }
        there = rest.to_vec();
    }
    assert!(there.is_empty(), "a write without its end");
}

fn torture(topology: Topology, writers: usize, ordered: bool) {
    let stream = Stream::builder(4096)
        .topology(topology)
        .participants(writers + 1)
        .ordered(ordered)
        .create(Place::memfd("torture").unwrap())
        .unwrap();
    let fd = stream.inheritable_fd().unwrap();
    let toll = massacre(
        (writers, 1),
        || stream.ring().stats(),
        |ledger, writer, random| write_all(&fd, ledger, writer, random),
        |ledger, _, random| read_all(&fd, ledger, random),
    );
    let Toll { lost, again, senders_killed, receivers_killed, .. } = toll;
    assert!(lost <= LOST * receivers_killed, "{lost} lost");
    // Written, and not noted.
    assert!(again <= senders_killed, "{again} twice");
    // Nothing is wedged, and nothing is left.
    let (mut writer, mut reader) = (stream.writer().unwrap(), stream.reader().unwrap());
    reader.set_nonblocking(true);
    let nothing: io::Result<usize> = reader.read(&mut [0]);
    assert_eq!(nothing.map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
    reader.set_nonblocking(false);
    reader.set_timeout(Some(PATIENCE));
    for number in 0..100 {
        writer.write_all(&[number; 100]).unwrap();
        let mut there = [0; 100];
        reader.read_exact(&mut there).unwrap();
        assert_eq!(there, [number; 100]);
    }
}

#[test]
fn the_ends_of_a_stream_are_killed() {
    torture(Topology::Spsc, 1, true);
}

#[test]
fn many_writers_of_a_stream_are_killed() {
    torture(Topology::Mpsc, 3, true);
}

#[test]
fn many_writers_of_a_stream_without_order_are_killed() {
    torture(Topology::Mpsc, 3, false);
}
