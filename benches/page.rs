//! A page there and another back, in two processes: a stream beside a pipe, and beside the copies that no transport can do
//! without, which are the limit. `cargo bench --bench page [-- ROUNDS]`.
//!
//! The first row of each group is what the others are compared with. Each message is filled before it is sent, and compared
//! after it has come.

#[path = "two_processes.rs"]
mod two_processes;

use annulus::{Place, Stream, StreamReader, StreamWriter, Wait};
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use two_processes::{Cores, both, rounds, table};

/// Bytes of a message.
const PAGE: usize = 4096;
/// Bytes of a stream's memory.
const CAPACITY: usize = 1 << 20;

/// One direction, whose two ends one process each uses.
trait Way {
    fn send(&mut self, message: &[u8; PAGE]);
    fn recv(&mut self, message: &mut [u8; PAGE]);
}

struct Streamed {
    /// Made by the process that uses it.
    writer: Option<StreamWriter>,
    reader: Option<StreamReader>,
    stream: OwnedFd,
    wait: Wait,
}

impl Streamed {
    fn new(wait: Wait) -> Self {
        let stream =
            Stream::builder(CAPACITY).prefault(true).create(Place::memfd("bench").unwrap());
        let stream = stream.unwrap().inheritable_fd().unwrap();
        Self { writer: None, reader: None, stream, wait }
    }

    fn open(&self) -> Stream {
        Stream::from_fd(self.stream.try_clone().unwrap()).unwrap()
    }
}

impl Way for Streamed {
    fn send(&mut self, message: &[u8; PAGE]) {
        if self.writer.is_none() {
            let mut writer = self.open().writer().unwrap();
            writer.set_wait(self.wait);
            self.writer = Some(writer);
        }
        let writer = self.writer.as_mut().expect("made above");
        assert_eq!(writer.write(message).unwrap(), PAGE);
    }

    fn recv(&mut self, message: &mut [u8; PAGE]) {
        if self.reader.is_none() {
            let mut reader = self.open().reader().unwrap();
            reader.set_wait(self.wait);
            self.reader = Some(reader);
        }
        self.reader.as_mut().expect("made above").read_exact(message).unwrap();
    }
}

impl Way for (PipeReader, PipeWriter) {
    fn send(&mut self, message: &[u8; PAGE]) {
        self.1.write_all(message).unwrap();
    }

    fn recv(&mut self, message: &mut [u8; PAGE]) {
        self.0.read_exact(message).unwrap();
    }
}

/// A message, and a line that says that it is there.
#[repr(C, align(4096))]
struct Buffer {
    number: AtomicU64,
    bytes: std::cell::UnsafeCell<[u8; PAGE]>,
}

/// Copies and nothing else: into a buffer that both processes have, and out of it. There is one message at a time, so that no
/// buffer is written while it is read.
struct Copies {
    buffers: &'static [Buffer],
    sent: u64,
    received: u64,
}

impl Copies {
    /// So many buffers, which take turns.
    fn new(count: usize) -> Self {
        let bytes = count * size_of::<Buffer>();
        // SAFETY: fresh memory of the kernel's choice, never unmapped while it is used; zeroes are such buffers.
        let buffers = unsafe {
            let (read_write, how) = (
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
            );
            let at = libc::mmap(core::ptr::null_mut(), bytes, read_write, how, -1, 0);
            assert_ne!(at, libc::MAP_FAILED, "mmap");
            std::slice::from_raw_parts(at.cast::<Buffer>(), count)
        };
        Self { buffers, sent: 0, received: 0 }
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        let bytes = size_of_val(self.buffers);
        // SAFETY: `new` mapped it, and nobody has it any more.
        unsafe { libc::munmap(self.buffers.as_ptr().cast_mut().cast(), bytes) };
    }
}

impl Way for Copies {
    fn send(&mut self, message: &[u8; PAGE]) {
        let buffer = &self.buffers[self.sent as usize % self.buffers.len()];
        self.sent += 1;
        // SAFETY: the other process reads it after the store below only, and this one writes it again when that has been
        // answered.
        unsafe { core::ptr::copy_nonoverlapping(message, buffer.bytes.get(), 1) };
        buffer.number.store(self.sent, Ordering::Release);
    }

    fn recv(&mut self, message: &mut [u8; PAGE]) {
        let buffer = &self.buffers[self.received as usize % self.buffers.len()];
        self.received += 1;
        while buffer.number.load(Ordering::Acquire) != self.received {
            std::hint::spin_loop();
        }
        // SAFETY: the other process wrote it before the store that was seen, and writes it again after the answer only.
        unsafe { core::ptr::copy_nonoverlapping(buffer.bytes.get(), message, 1) };
    }
}

fn fill(message: &mut [u8; PAGE], number: u64) {
    for (word, i) in message.chunks_exact_mut(8).zip(number..) {
        word.copy_from_slice(&i.to_ne_bytes());
    }
}

fn is_whole(message: &[u8; PAGE], number: u64) -> bool {
    message.chunks_exact(8).zip(number..).all(|(word, i)| word == i.to_ne_bytes())
}

fn round_trip<W: Way>(make: impl Fn() -> W, cores: Cores, count: u64) -> f64 {
    let (mut there, mut back) = (make(), make());
    let time = {
        let ways = std::cell::RefCell::new((&mut there, &mut back));
        both(
            cores,
            |meet| {
                let (there, back) = &mut *ways.borrow_mut();
                let mut message = [0; PAGE];
                meet();
                for _ in 0..count {
                    there.recv(&mut message);
                    back.send(&message);
                }
            },
            |meet| {
                let (there, back) = &mut *ways.borrow_mut();
                let (mut message, mut answer) = ([0; PAGE], [0; PAGE]);
                meet();
                for number in 0..count {
                    fill(&mut message, number);
                    there.send(&message);
                    back.recv(&mut answer);
                    assert!(is_whole(&answer, number), "another page came back");
                }
            },
        )
    };
    time.as_nanos() as f64 / count as f64
}

fn main() {
    let rounds = rounds();
    let count = 5_000;
    for cores in [Cores::Two, Cores::One] {
        let stream = |wait| round_trip(|| Streamed::new(wait), cores, count);
        let copies = |buffers| round_trip(|| Copies::new(buffers), cores, count);
        let (mut adaptive, mut block) = (|| stream(Wait::Adaptive), || stream(Wait::Block));
        let (mut one_buffer, mut many_buffers) = (|| copies(1), || copies(255));
        let mut pipe = || round_trip(|| std::io::pipe().unwrap(), cores, count);
        let mut rows: Vec<(&str, &mut dyn FnMut() -> f64)> = vec![
            ("Stream, Adaptive", &mut adaptive),
            ("Stream, Block", &mut block),
            ("pipe", &mut pipe),
        ];
        // They only spin, so there is nothing to learn from them on one core.
        if cores == Cores::Two {
            rows.push(("copies, one buffer", &mut one_buffer));
            rows.push(("copies, 255 buffers", &mut many_buffers));
        }
        table(&format!("a page there and back, {}", cores.name()), rounds, &mut rows);
    }
}
