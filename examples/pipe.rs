//! A program with a pipe between its processes, before and after: only how the ends are made differs.
//!
//! Run it: `cargo run --release --example pipe` and `cargo run --release --example pipe -- --kernel`
//!
//! A parent starts a child by `fork` and `exec`, sends it lines, and the child counts words until the end of the
//! stream. With `--kernel` the stream is the kernel's pipe, else a `Stream`. All that works with the ends takes
//! `Read` and `Write`, as programs do that use pipes, and does not know which of the two it has.

use annulus::{Place, Stream};
use std::env;
use std::error::Error;
use std::io::{self, BufRead, BufReader, BufWriter, PipeReader, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Child, Command};

/// How the child learns the number of its descriptor, and what it is.
const FD: &str = "EXAMPLE_FD";
const KERNEL: &str = "EXAMPLE_KERNEL";
const LINES: usize = 200_000;

fn main() -> Result<(), Box<dyn Error>> {
    let Ok(fd) = env::var(FD) else {
        return parent(env::args().any(|argument| argument == "--kernel"));
    };
    // SAFETY: the parent left this descriptor open for us and told us its number; nothing else in this
    // process has it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd.parse()?) };
    match env::var_os(KERNEL) {
        Some(_) => count(PipeReader::from(fd)),
        None => count(Stream::from_fd(fd)?.reader()?),
    }
}

fn parent(kernel: bool) -> Result<(), Box<dyn Error>> {
    let mut child = if kernel {
        let (reader, writer) = io::pipe()?;
        // A copy that the child inherits; the standard library's own ends are close-on-exec.
        let theirs = inheritable(&reader)?;
        let child = spawn(&theirs, true)?;
        drop((reader, theirs));
        produce(writer)?;
        child
    } else {
        let stream = Stream::builder(64 * 1024).create(Place::memfd("words")?)?;
        let theirs = stream.inheritable_fd()?;
        let child = spawn(&theirs, false)?;
        drop(theirs);
        produce(stream.writer()?)?;
        child
    };
    let status = child.wait()?;
    let what = if kernel { "the kernel's pipe" } else { "a stream in shared memory" };
    println!("parent: {LINES} lines through {what}");
    if status.success() { Ok(()) } else { Err(format!("the child failed: {status}").into()) }
}

/// Writes the lines. When it returns, the writer is dropped, and the reader comes to the end.
fn produce(writer: impl Write) -> io::Result<()> {
    let mut writer = BufWriter::new(writer);
    for number in 0..LINES {
        writeln!(writer, "line {number} of a text")?;
    }
    writer.flush()
}

/// Reads to the end.
fn count(reader: impl Read) -> Result<(), Box<dyn Error>> {
    let mut words = 0;
    for line in BufReader::new(reader).lines() {
        words += line?.split(' ').count();
    }
    println!("child: {words} words");
    if words == 5 * LINES { Ok(()) } else { Err("some are missing".into()) }
}

fn inheritable(reader: &PipeReader) -> io::Result<OwnedFd> {
    // SAFETY: `dup` takes any descriptor, and what it gives is nobody else's; it has no close-on-exec flag.
    let fd = unsafe { libc::dup(reader.as_raw_fd()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn spawn(fd: &OwnedFd, kernel: bool) -> io::Result<Child> {
    let mut command = Command::new(env::current_exe()?);
    command.env(FD, fd.as_raw_fd().to_string());
    if kernel {
        command.env(KERNEL, "1");
    }
    command.spawn()
}
