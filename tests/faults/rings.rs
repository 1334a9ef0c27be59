//! Rings: made, opened, joined, split, left.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use annulus::{ByteRing, Place, Ring, Role, Topology};

use super::inject::{Failure, Scenario, try_all};
use crate::support::process::unique_name;

const CAPACITY: usize = 100;

/// Passes messages through a ring, in one process.
fn pass(sends: &Ring<u64>, receives: &Ring<u64>) {
    let mut tx = sends.sender().expect("the role is free");
    let mut rx = receives.receiver().expect("the role is free");
    for i in 0..2 * CAPACITY as u64 {
        tx.send(i).expect("there is room");
        assert_eq!(rx.recv(), Ok(i));
    }
}

/// A ring in a memory file.
fn in_memory() -> Ring<u64> {
    let place = Place::memfd("faults").expect("a good label");
    Ring::<u64>::builder(CAPACITY).create(place).expect("creates")
}

struct MemoryFile;

impl Scenario for MemoryFile {
    type State = ();
    type Made = Ring<u64>;
    const LABEL: &'static str = "create a ring in a memory file";

    fn prepare(&self) {}

    fn run(&self, (): &mut ()) -> Result<Ring<u64>, Failure> {
        Ok(Ring::<u64>::builder(CAPACITY).create(Place::memfd("faults")?)?)
    }

    fn enjoy(&self, (): &mut (), made: Ring<u64>) {
        pass(&made, &made);
    }
}

/// A ring at a path.
struct AtPath(PathBuf);

impl AtPath {
    fn place(&self) -> Place {
        Place::path(&self.0).expect("a good path")
    }
}

impl Scenario for AtPath {
    type State = ();
    type Made = Ring<u64>;
    const LABEL: &'static str = "create a ring with a name";

    fn prepare(&self) {}

    fn run(&self, (): &mut ()) -> Result<Ring<u64>, Failure> {
        Ok(Ring::<u64>::builder(CAPACITY).create(self.place())?)
    }

    fn enjoy(&self, (): &mut (), made: Ring<u64>) {
        assert!(self.0.exists());
        pass(&made, &made);
    }

    fn names(&self) -> Vec<PathBuf> {
        vec![self.0.clone()]
    }
}

struct Open(AtPath);

impl Scenario for Open {
    type State = Ring<u64>;
    type Made = Ring<u64>;
    const LABEL: &'static str = "open a ring by its name";

    fn prepare(&self) -> Ring<u64> {
        Ring::<u64>::builder(CAPACITY).create(self.0.place()).expect("creates")
    }

    fn run(&self, _there: &mut Ring<u64>) -> Result<Ring<u64>, Failure> {
        Ok(Ring::<u64>::open(self.0.place())?)
    }

    fn enjoy(&self, there: &mut Ring<u64>, made: Ring<u64>) {
        pass(there, &made);
    }

    fn names(&self) -> Vec<PathBuf> {
        self.0.names()
    }
}

struct ByDescriptor;

impl Scenario for ByDescriptor {
    type State = Ring<u64>;
    type Made = Ring<u64>;
    const LABEL: &'static str = "open a ring by a descriptor";

    fn prepare(&self) -> Ring<u64> {
        in_memory()
    }

    fn run(&self, there: &mut Ring<u64>) -> Result<Ring<u64>, Failure> {
        Ok(Ring::<u64>::from_fd(there.inheritable_fd()?)?)
    }

    fn enjoy(&self, there: &mut Ring<u64>, made: Ring<u64>) {
        pass(there, &made);
    }
}

/// Roles of a ring, one of a topology or another.
struct Roles(Topology);

impl Scenario for Roles {
    type State = Ring<u64>;
    type Made = (annulus::Sender<u64>, annulus::Receiver<u64>);
    const LABEL: &'static str = "take both roles";

    fn prepare(&self) -> Ring<u64> {
        let place = Place::memfd("faults").expect("a good label");
        Ring::<u64>::builder(CAPACITY).topology(self.0).create(place).expect("creates")
    }

    fn run(&self, ring: &mut Ring<u64>) -> Result<Self::Made, Failure> {
        Ok((ring.sender()?, ring.receiver()?))
    }

    fn enjoy(&self, _ring: &mut Ring<u64>, (mut tx, mut rx): Self::Made) {
        tx.send(1).expect("there is room");
        assert_eq!(rx.recv(), Ok(1));
    }
}

struct Lanes;

impl Scenario for Lanes {
    type State = ByteRing;
    type Made = (annulus::ByteSender, annulus::ByteReceiver);
    const LABEL: &'static str = "take both roles of a ring with lanes";

    fn prepare(&self) -> ByteRing {
        let place = Place::memfd("faults").expect("a good label");
        let lanes = ByteRing::builder(CAPACITY).topology(Topology::Mpsc).participants(2);
        lanes.create(place).expect("creates")
    }

    fn run(&self, ring: &mut ByteRing) -> Result<Self::Made, Failure> {
        Ok((ring.sender()?, ring.receiver()?))
    }

    fn enjoy(&self, _ring: &mut ByteRing, (mut tx, mut rx): Self::Made) {
        tx.send(b"one").expect("there is room");
        assert_eq!(rx.recv(&mut Vec::new()), Ok(3));
    }
}

struct Split;

impl Scenario for Split {
    type State = ();
    type Made = (Ring<u64>, Ring<u64>);
    const LABEL: &'static str = "make both halves of a split ring and join them";

    fn prepare(&self) {}

    fn run(&self, (): &mut ()) -> Result<Self::Made, Failure> {
        let half = |role| Ring::<u64>::builder(CAPACITY).split(role);
        let (sender, receiver) = (half(Role::Sender)?, half(Role::Receiver)?);
        let (there, back): (OwnedFd, OwnedFd) = (sender.descriptor()?, receiver.descriptor()?);
        Ok((sender.join(back)?, receiver.join(there)?))
    }

    fn enjoy(&self, (): &mut (), (sends, receives): Self::Made) {
        pass(&sends, &receives);
    }
}

/// What is left takes its name along, or the next one that leaves does.
struct Leave(AtPath);

impl Scenario for Leave {
    type State = Option<Ring<u64>>;
    type Made = ();
    const LABEL: &'static str = "leave a ring with a name";

    fn prepare(&self) -> Option<Ring<u64>> {
        Some(Ring::<u64>::builder(CAPACITY).create(self.0.place()).expect("creates"))
    }

    fn run(&self, ring: &mut Option<Ring<u64>>) -> Result<(), Failure> {
        let builder = Ring::<u64>::builder(CAPACITY);
        let ring = ring.take().map_or_else(|| builder.open_or_create(self.0.place()), Ok)?;
        drop((ring.sender()?, ring.receiver()?));
        drop(ring);
        Ok(())
    }

    fn enjoy(&self, _ring: &mut Option<Ring<u64>>, (): ()) {}

    fn names(&self) -> Vec<PathBuf> {
        self.0.names()
    }
}

fn in_shared_memory(label: &str) -> AtPath {
    AtPath(PathBuf::from("/dev/shm").join(unique_name(label)))
}

#[test]
fn creating() {
    try_all(&MemoryFile, 0);
    try_all(&in_shared_memory("create"), 0);
    let directory = tempfile::tempdir().expect("a temporary directory");
    try_all(&AtPath(directory.path().join("ring")), 0);
}

#[test]
fn attaching_and_leaving() {
    try_all(&Open(in_shared_memory("open")), 1);
    try_all(&ByDescriptor, 1);
    try_all(&Leave(in_shared_memory("leave")), 1);
}

#[test]
fn taking_roles() {
    for topology in [Topology::Spsc, Topology::Mpmc] {
        try_all(&Roles(topology), 0);
    }
    try_all(&Lanes, 0);
}

#[test]
fn splitting() {
    try_all(&Split, 1);
}
