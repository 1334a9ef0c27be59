//! `Latest` beside mmap-sync: a value that one side writes and another reads.
//!
//! mmap-sync is asked for its fastest: bytes that are written as they are, without serialization, and reads that are not
//! checked. Its writer waits for readers; it looks again at once instead of after a second, which is its default.

use std::cell::Cell;
use std::hint::black_box;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use annulus::{Latest, LatestReader, LatestWriter, Place};
use mmap_sync::locks::LockDisabled;
use mmap_sync::synchronizer::Synchronizer;
use wyhash::WyHash;

use crate::race::{Result, Side, race, table};

/// Calls of a round.
const COUNT: u64 = 1_000_000;
/// How long mmap-sync's writer waits for a reader.
const GRACE: Duration = Duration::from_secs(10);
/// The time between two values where both writers write as many: mmap-sync's takes a little less for one of 4 KiB.
const PACE: Duration = Duration::from_micros(3);

/// What shows a value to who wants to see it.
type Show<'a, const N: usize> = Box<dyn FnMut(&mut dyn FnMut(&[u64; N])) -> Result<()> + 'a>;

/// A value of `N` words, each of which has the same number.
trait Variable<const N: usize>: Sync {
    fn writer(&self) -> Result<impl FnMut(u64) -> Result<()>>;
    fn reader(&self) -> Result<Show<'_, N>>;
}

/// The same, read where it lies.
struct InPlace<V>(V);

impl<const N: usize> Variable<N> for Latest<[u64; N]> {
    fn writer(&self) -> Result<impl FnMut(u64) -> Result<()>> {
        let mut tx: LatestWriter<[u64; N]> = Self::writer(self)?;
        Ok(move |number| {
            tx.write(&[number; N])?;
            Ok(())
        })
    }

    fn reader(&self) -> Result<Show<'_, N>> {
        let mut rx: LatestReader<[u64; N]> = Self::reader(self)?;
        let mut value = [0; N];
        Ok(Box::new(move |see: &mut dyn FnMut(&[u64; N])| {
            rx.read(&mut value)?;
            see(&value);
            Ok(())
        }))
    }
}

impl<const N: usize> Variable<N> for InPlace<Latest<[u64; N]>> {
    fn writer(&self) -> Result<impl FnMut(u64) -> Result<()>> {
        Variable::writer(&self.0)
    }

    fn reader(&self) -> Result<Show<'_, N>> {
        let mut rx: LatestReader<[u64; N]> = Latest::reader(&self.0)?;
        Ok(Box::new(move |see: &mut dyn FnMut(&[u64; N])| {
            // SAFETY: nobody else has it open.
            see(unsafe { rx.get_ref()? });
            Ok(())
        }))
    }
}

/// Files of mmap-sync, which opens them by name, in a directory of their own, which goes with it; and with this process,
/// also if that is killed.
struct Mapped {
    path: PathBuf,
    remover: Child,
}

impl Mapped {
    fn new() -> Result<Self> {
        let path = PathBuf::from(format!("/dev/shm/annulus-peers-{}", std::process::id()));
        let mut remover = Command::new("sh");
        remover.args(["-c", "cat; rm -rf \"$0\""]).arg(&path);
        // It waits for the end of its input, and Ctrl-C is not for it.
        let remover = remover.stdin(Stdio::piped()).process_group(0).spawn()?;
        std::fs::create_dir(&path)?;
        Ok(Self { path, remover })
    }

    fn open(&self) -> Synchronizer<WyHash, LockDisabled, 1024, 0> {
        Synchronizer::with_params(self.path.join("value").as_os_str())
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        drop(self.remover.stdin.take());
        let _ = self.remover.wait();
    }
}

impl<const N: usize> Variable<N> for Mapped {
    fn writer(&self) -> Result<impl FnMut(u64) -> Result<()>> {
        let mut file = self.open();
        Ok(move |number: u64| {
            let value = [number; N];
            file.write_raw::<[u64; N]>(bytes(&value), GRACE)?;
            Ok(())
        })
    }

    fn reader(&self) -> Result<Show<'_, N>> {
        let mut file = self.open();
        Ok(Box::new(move |see: &mut dyn FnMut(&[u64; N])| {
            // SAFETY: the value is copied, and the guard gone, long before the writer's patience ends.
            let value = *unsafe { file.read::<[u64; N]>(false)? };
            see(&value);
            Ok(())
        }))
    }
}

impl<const N: usize> Variable<N> for InPlace<Mapped> {
    fn writer(&self) -> Result<impl FnMut(u64) -> Result<()>> {
        Variable::<N>::writer(&self.0)
    }

    fn reader(&self) -> Result<Show<'_, N>> {
        let mut file = self.0.open();
        Ok(Box::new(move |see: &mut dyn FnMut(&[u64; N])| {
            // SAFETY: the value is seen, and the guard gone, long before the writer's patience ends.
            see(&*unsafe { file.read::<[u64; N]>(false)? });
            Ok(())
        }))
    }
}

fn bytes<const N: usize>(words: &[u64; N]) -> &[u8] {
    // SAFETY: initialised integers, seen as their bytes.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}

/// What is timed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Read,
    Write,
    ReadWhileWritten,
    /// The same, a value each [`PACE`].
    ReadAtPace,
    WriteWhileRead,
}

/// Whether the value is that of one write, not older than the last one that was read.
fn whole<const N: usize>(value: &[u64; N], last: &mut u64) -> bool {
    let whole = value.iter().all(|word| *word == value[0]) && value[0] >= *last;
    *last = value[0];
    whole
}

/// What a round came to.
struct Round {
    /// Nanoseconds a call.
    time: f64,
    reads: u64,
    /// Reads of a value that was never written, or of an older one than before.
    wrong: u64,
}

fn measure<const N: usize>(variable: &impl Variable<N>, work: Work) -> Result<Round> {
    let reads = matches!(work, Work::Read | Work::ReadWhileWritten | Work::ReadAtPace);
    let alone = matches!(work, Work::Read | Work::Write);
    let (done, written) = (&AtomicBool::new(false), &AtomicBool::new(false));
    let (all, wrong) = (&AtomicU64::new(0), &AtomicU64::new(0));
    let write: Side<'_> = Box::new(move |meet| {
        let mut write = variable.writer()?;
        write(1)?;
        written.store(true, Ordering::Release);
        meet.start();
        let mut numbers = 2..;
        match reads {
            false => (2..COUNT + 2).try_for_each(|number| write(black_box(number)))?,
            true => {
                while !alone && !done.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    numbers.next().map_or(Ok(()), &mut write)?;
                    while work == Work::ReadAtPace && start.elapsed() < PACE {
                        std::hint::spin_loop();
                    }
                }
            }
        }
        done.store(true, Ordering::Relaxed);
        meet.done();
        Ok(())
    });
    let read: Side<'_> = Box::new(move |meet| {
        while !written.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        let (mut read, mut last, mut looks, mut odd) = (variable.reader()?, 0, 0, 0);
        let mut look = || -> Result<()> {
            read(&mut |value| odd += u64::from(!whole(value, &mut last)))?;
            looks += 1;
            Ok(())
        };
        meet.start();
        match reads {
            true => (0..COUNT).try_for_each(|_| look())?,
            false => {
                while !alone && !done.load(Ordering::Relaxed) {
                    look()?;
                }
            }
        }
        done.store(true, Ordering::Relaxed);
        all.store(looks, Ordering::Relaxed);
        wrong.store(odd, Ordering::Relaxed);
        meet.done();
        Ok(())
    });
    let time = race(vec![write, read]) / COUNT as f64;
    Ok(Round { time, reads: all.load(Ordering::Relaxed), wrong: wrong.load(Ordering::Relaxed) })
}

fn rows<const N: usize>(rounds: usize) -> Result<()> {
    let works = [
        ("read", Work::Read),
        ("write", Work::Write),
        ("read while written", Work::ReadWhileWritten),
        ("read while one is written each 3 us", Work::ReadAtPace),
        ("write while read", Work::WriteWhileRead),
    ];
    let latest = || Latest::<[u64; N]>::builder().create(Place::memfd("peers")?);
    let ours = |round: Round| {
        assert_eq!(round.wrong, 0, "torn, or went back");
        Ok(round.time)
    };
    for (name, work) in works {
        let counts = Cell::new((0, 0));
        let theirs = |round: Round| {
            let (reads, wrong) = counts.get();
            counts.set((reads + round.reads, wrong + round.wrong));
            Ok(round.time)
        };
        table(
            &format!("{name}, {} B", 8 * N),
            rounds,
            &[
                ("annulus Latest", &|_| ours(measure::<N>(&latest()?, work)?)),
                ("mmap-sync", &|_| theirs(measure::<N>(&Mapped::new()?, work)?)),
                ("annulus Latest, in place", &|_| ours(measure::<N>(&InPlace(latest()?), work)?)),
                ("mmap-sync, in place", &|_| theirs(measure::<N>(&InPlace(Mapped::new()?), work)?)),
            ],
        )?;
        if let (reads, wrong @ 1..) = counts.get() {
            println!("    of {reads} reads of mmap-sync, {wrong} were torn or went back");
        }
    }
    Ok(())
}

/// Values of a line and of a page.
pub fn compare(rounds: usize) -> Result<()> {
    rows::<8>(rounds)?;
    rows::<512>(rounds)
}
