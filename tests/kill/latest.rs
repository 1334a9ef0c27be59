//! Writers and readers of a `Latest`, killed after each instruction of what they do, by its type or as bytes.

use std::hint::black_box;

use annulus::{Latest, LatestReader, LatestWriter, Place, UntypedLatest, Wait};

use super::message::Tagged;
use crate::support::ptrace::{Child, Tracee};
use crate::support::sweep::{CHILD_LIFE, Case, Points, Row, Verdict, report, sweep};

type Value = [u64; 8];

/// Values that are written and read after a kill: more than there are buffers.
const AFTER: u64 = 12;

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// A write that knows a free buffer.
    Write,
    /// A write that looks for one first.
    WriteAfterLook,
    /// Becoming the writer.
    JoinAsWriter,
    /// Ceasing to be it.
    LeaveAsWriter,
    /// A read of another value than the last one.
    ReadChanged,
    /// A read of the same.
    ReadUnchanged,
    /// A look without being a reader.
    Peek,
    /// A wait for another value, which sleeps.
    WaitForChange,
    /// Becoming a reader.
    JoinAsReader,
    /// Ceasing to be one.
    LeaveAsReader,
}

const PARTS: [Part; 10] = [
    Part::Write,
    Part::WriteAfterLook,
    Part::JoinAsWriter,
    Part::LeaveAsWriter,
    Part::ReadChanged,
    Part::ReadUnchanged,
    Part::Peek,
    Part::WaitForChange,
    Part::JoinAsReader,
    Part::LeaveAsReader,
];

impl Part {
    fn is_writers(self) -> bool {
        matches!(
            self,
            Self::Write | Self::WriteAfterLook | Self::JoinAsWriter | Self::LeaveAsWriter
        )
    }

    fn writes(self) -> u64 {
        u64::from(matches!(self, Self::Write | Self::WriteAfterLook))
    }

    fn run(self, child: &Child, variable: &Latest<Value>) {
        let value = Value::make(3);
        let reader = || variable.reader().expect("there is an entry");
        match self {
            Self::Write | Self::WriteAfterLook => {
                let mut tx = variable.writer().expect("the role is free");
                if self == Self::Write {
                    // It looks, and finds one more than it needs.
                    tx.write(&Value::make(2)).expect("writes");
                }
                let _ = black_box(child.section(|| tx.write(&value)));
            }
            Self::JoinAsWriter => {
                let _ = black_box(child.section(|| variable.writer()));
            }
            Self::LeaveAsWriter => {
                let tx = variable.writer().expect("the role is free");
                child.section(|| drop(tx));
            }
            Self::ReadChanged | Self::ReadUnchanged => {
                let mut rx = reader();
                let _ = black_box(child.section(|| rx.get()));
            }
            Self::Peek => {
                let _ = black_box(child.section(|| variable.peek()));
            }
            Self::WaitForChange => {
                let mut rx = reader().with_wait(Wait::Block);
                let _ = black_box(child.section(|| rx.wait_for_change_timeout(CHILD_LIFE)));
            }
            Self::JoinAsReader => {
                let _ = black_box(child.section(|| variable.reader()));
            }
            Self::LeaveAsReader => {
                let rx = reader();
                child.section(|| drop(rx));
            }
        }
    }

    /// The same by one that does not know the type.
    fn run_bare(self, child: &Child, variable: &UntypedLatest) {
        let value = Value::make(3);
        let mut found = Value::make(0);
        let writer = || variable.writer().expect("the role is free");
        let reader = || variable.reader().expect("there is an entry");
        match self {
            Self::Write | Self::WriteAfterLook => {
                let mut tx = writer();
                if self == Self::Write {
                    tx.set(bytemuck::bytes_of(&Value::make(2))).expect("writes");
                }
                let value = bytemuck::bytes_of(&value);
                let _ = black_box(child.section(|| tx.set(value)));
            }
            Self::JoinAsWriter => {
                let _ = black_box(child.section(|| variable.writer()));
            }
            Self::LeaveAsWriter => {
                let tx = writer();
                child.section(|| drop(tx));
            }
            Self::ReadChanged | Self::ReadUnchanged => {
                let (mut rx, found) = (reader(), bytemuck::bytes_of_mut(&mut found));
                let _ = black_box(child.section(|| rx.read(found)));
            }
            Self::WaitForChange => {
                let (mut rx, found) = (reader(), bytemuck::bytes_of_mut(&mut found));
                rx.set_wait(Wait::Block);
                let _ = black_box(child.section(|| rx.wait_for_change_timeout(found, CHILD_LIFE)));
            }
            Self::JoinAsReader => {
                let _ = black_box(child.section(|| variable.reader()));
            }
            Self::LeaveAsReader => {
                let rx = reader();
                child.section(|| drop(rx));
            }
            Self::Peek => unreachable!("there is no such call"),
        }
    }
}

/// How the victim has opened the variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Face {
    Typed,
    Bare,
}

struct Killed(Part, Face);

struct Survivor {
    variable: Latest<Value>,
    /// The writer, where it is not that one that is killed.
    tx: Option<LatestWriter<Value>>,
    rx: LatestReader<Value>,
    /// The version before the operation.
    before: u64,
}

impl Case for Killed {
    type Survivor = Survivor;

    fn label(&self) -> String {
        let face = if self.1 == Face::Bare { "bare " } else { "" };
        format!("{face}latest {:?}", self.0)
    }

    fn start(&self) -> Result<(Tracee, Survivor), String> {
        let part = self.0;
        // One entry for the survivor, and one for the victim.
        let builder = Latest::<Value>::builder().participants(2);
        let place = Place::memfd("kill").map_err(|error| error.to_string())?;
        let variable = builder.create(place).map_err(|error| format!("create: {error}"))?;
        let mut rx = variable.reader().map_err(|error| format!("reader: {error}"))?;
        let mut tx = variable.writer().map_err(|error| format!("writer: {error}"))?;
        tx.write(&Value::make(1)).map_err(|error| error.to_string())?;
        let mut tx = Some(tx).filter(|_| !part.is_writers());
        let fd = variable.inheritable_fd().map_err(|error| error.to_string())?;
        let tracee = Tracee::spawn(CHILD_LIFE, |child| match self.1 {
            Face::Typed => part.run(child, &Latest::from_fd(fd).expect("opens")),
            Face::Bare => part.run_bare(child, &UntypedLatest::from_fd(fd).expect("opens")),
        })?;
        if let (Part::ReadChanged, Some(tx)) = (part, &mut tx) {
            for tag in 2..5 {
                tx.write(&Value::make(tag)).map_err(|error| error.to_string())?;
            }
        }
        rx.get().map_err(|error| error.to_string())?;
        let before = rx.version();
        Ok((tracee, Survivor { variable, tx, rx, before }))
    }

    fn sleeps(&self) -> bool {
        self.0 == Part::WaitForChange
    }

    fn wake(&self, survivor: &mut Survivor) {
        if let Some(tx) = &mut survivor.tx {
            let _ = tx.write(&Value::make(tx.version() + 1));
        }
    }

    fn check(&self, survivor: Survivor) -> Result<Verdict, String> {
        let Survivor { variable, tx, mut rx, before } = survivor;
        let error = |error: annulus::LatestError| error.to_string();
        let found = rx.get().map_err(error)?;
        let tag = found.tag()?;
        let seen = rx.version();
        let peeked = variable.peek().map_err(error)?;
        if peeked != (found, seen) {
            return Err(format!("a reader sees version {seen}, an observer {}", peeked.1));
        }
        let mut tx = match tx {
            Some(tx) => tx,
            None => variable.writer().map_err(|error| format!("a successor: {error}"))?,
        };
        if self.0.is_writers() && tag != if seen > before { 3 } else { before } {
            return Err(format!("version {seen} after {before} has the tag {tag}"));
        }
        if tx.version() != seen {
            return Err(format!("the writer is at {}, the reader at {seen}", tx.version()));
        }
        // The victim's entry is free for another one, who sees what the survivor sees.
        for i in 1..=AFTER {
            let mut other = variable.reader().map_err(|error| format!("its entry: {error}"))?;
            let tag = 100 + i;
            if tx.write(&Value::make(tag)).map_err(error)? != seen + i {
                return Err("a version was left out".into());
            }
            for rx in [&mut rx, &mut other] {
                let found = rx.get().map_err(error)?.tag()?;
                if (found, rx.version()) != (tag, seen + i) {
                    return Err(format!("read {found}, not {tag}"));
                }
            }
        }
        Ok(Verdict::of(if self.0.is_writers() { seen - before } else { 0 }))
    }

    fn effect(&self) -> u64 {
        self.0.writes()
    }
}

fn rows(parts: impl Iterator<Item = Part>, face: Face) -> Vec<Row> {
    parts.map(|part| sweep(&Killed(part, face), Points::Every, 2)).collect()
}

#[test]
fn latest() {
    report("latest", &rows(PARTS.into_iter(), Face::Typed));
}

#[test]
fn bare_latest() {
    let parts = PARTS.into_iter().filter(|&part| part != Part::Peek);
    report("latest, as bytes", &rows(parts, Face::Bare));
}
