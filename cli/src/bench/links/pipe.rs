//! Pipes and FIFOs, enlarged as far as an unprivileged process may.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::Mode;
use nix::unistd::{mkfifo, pipe2};

use super::stream::Stream;
use crate::bench::link::{Failure, Refusal, Setup, Side, Transport};

/// What fs.pipe-max-size allows everybody by default.
const CAPACITY: i32 = 1 << 20;

/// Both ends of one direction.
struct Ends {
    read: File,
    write: File,
}

/// Two anonymous pipes, one for each direction.
pub struct Pipe {
    forth: Ends,
    back: Ends,
}

/// Two FIFOs, one for each direction.
pub struct Fifo(Pipe);

impl Transport for Pipe {
    type Link = Stream<File, File>;

    fn prepare(_: &Setup) -> Result<Self, Refusal> {
        let ends = || -> Result<Ends, Refusal> {
            let (read, write) =
                pipe2(OFlag::O_CLOEXEC).map_err(|error| Refusal::by_kernel("pipe2", error))?;
            enlarge(&write);
            Ok(Ends { read: read.into(), write: write.into() })
        };
        Ok(Self { forth: ends()?, back: ends()? })
    }

    fn attach(self, side: Side, _: &Setup) -> Result<Self::Link, Failure> {
        Ok(match side {
            Side::Near => Stream { from_peer: self.back.read, to_peer: self.forth.write },
            Side::Far => Stream { from_peer: self.forth.read, to_peer: self.back.write },
        })
    }
}

impl Transport for Fifo {
    type Link = Stream<File, File>;

    fn prepare(_: &Setup) -> Result<Self, Refusal> {
        // Its destructor removes the directory and what is left in it, on every path out of here.
        let dir = Directory::new().map_err(|error| Refusal::by_kernel("mkdir", error))?;
        let ends = |name: &str| {
            named_ends(&dir.path.join(name)).map_err(|error| Refusal::by_kernel("mkfifo", error))
        };
        Ok(Self(Pipe { forth: ends("forth")?, back: ends("back")? }))
    }

    fn attach(self, side: Side, setup: &Setup) -> Result<Self::Link, Failure> {
        self.0.attach(side, setup)
    }
}

/// Makes a FIFO, opens both ends and removes the name at once.
fn named_ends(path: &Path) -> std::io::Result<Ends> {
    mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)?;
    // Opening waits for the other end to be opened too, except for reading without blocking.
    let read = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let write = File::options().write(true).open(path)?;
    std::fs::remove_file(path)?;
    fcntl(&read, FcntlArg::F_SETFL(OFlag::empty()))?;
    enlarge(&write);
    Ok(Ends { read, write })
}

fn enlarge(pipe: impl AsFd) {
    // Refused once a user's pipes hold more than fs.pipe-user-pages-soft; the pipe then keeps the size it has.
    let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(CAPACITY));
}

/// A directory of our own for the names of one row.
struct Directory {
    path: std::path::PathBuf,
}

impl Directory {
    fn new() -> std::io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let path = std::env::temp_dir().join(format!("annulus-bench.{}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
