//! Events: killed after every instruction of what raises and takes flags, while another one sleeps for them.

use std::hint::black_box;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use annulus::{Event, EventHandle, Place, Wait};

use super::survive::PATIENCE;
use crate::support::deadline::poll;
use crate::support::process::{Peer, await_sleep};
use crate::support::ptrace::{Child, Tracee};
use crate::support::shared::SharedWords;
use crate::support::sweep::{CHILD_LIFE, Case, Points, Row, Verdict, report, sweep};

const WANTED: u64 = 0b01;
const BESIDE: u64 = 0b10;

/// What the victim does, while another sleeps for [`WANTED`]; [`BESIDE`] is raised.
struct Operation {
    name: &'static str,
    run: fn(&Child, &mut EventHandle),
    /// What is raised when it is done.
    leaves: u64,
    sleeps: bool,
}

const OPERATIONS: &[Operation] = &[
    Operation {
        name: "raise",
        run: |child, handle| {
            let _ = black_box(child.section(|| handle.raise(WANTED)));
        },
        leaves: WANTED | BESIDE,
        sleeps: false,
    },
    Operation {
        name: "try_take",
        run: |child, handle| {
            let _ = black_box(child.section(|| handle.try_take(WANTED | BESIDE)));
        },
        leaves: 0,
        sleeps: false,
    },
    Operation {
        name: "wait_any, asleep",
        run: |child, handle| {
            let _ = black_box(child.section(|| handle.wait_any(WANTED)));
        },
        leaves: BESIDE,
        sleeps: true,
    },
];

fn open(fd: OwnedFd) -> EventHandle {
    Event::from_fd(fd).expect("opens").handle().expect("there is a handle").with_wait(Wait::Block)
}

impl Case for &'static Operation {
    type Survivor = (Event, SharedWords, Peer);

    fn label(&self) -> String {
        format!("event {}", self.name)
    }

    fn start(&self) -> Result<(Tracee, Self::Survivor), String> {
        let place = Place::memfd("kill").map_err(|error| error.to_string())?;
        let event = Event::builder().create(place).map_err(|error| error.to_string())?;
        let mut handle = event.handle().map_err(|error| error.to_string())?;
        handle.raise(BESIDE).map_err(|error| error.to_string())?;
        let told = SharedWords::new(2);
        let fd = || event.inheritable_fd().map_err(|error| error.to_string());
        let (ours, theirs) = (fd()?, fd()?);
        let peer = Peer::spawn(CHILD_LIFE, || {
            let mut handle = open(theirs);
            told[0].store(1, Ordering::Release);
            let found = handle.wait_any(WANTED).expect("it is sound");
            told[1].store(found, Ordering::Release);
        });
        let ready = poll(PATIENCE, || told[0].load(Ordering::Acquire) == 1);
        if !ready || !await_sleep(peer.pid(), PATIENCE) {
            return Err("the peer does not sleep".into());
        }
        let tracee = Tracee::spawn(CHILD_LIFE, |child| (self.run)(child, &mut open(ours)))?;
        Ok((tracee, (event, told, peer)))
    }

    fn sleeps(&self) -> bool {
        self.sleeps
    }

    fn wake(&self, (event, ..): &mut Self::Survivor) {
        event.handle().expect("there is a handle").raise(WANTED).expect("it is sound");
    }

    fn check(&self, (event, told, peer): Self::Survivor) -> Result<Verdict, String> {
        let raised = event.value();
        let (before, after) = (BESIDE, self.leaves);
        if raised != before && raised != after && !self.sleeps {
            return Err(format!("{raised:#b} are raised"));
        }
        let waits = event.stats().waits;
        if raised & WANTED == 0 {
            let mut handle = event.handle().map_err(|error| error.to_string())?;
            handle.raise(WANTED).map_err(|error| error.to_string())?;
        }
        if !poll(PATIENCE, || told[1].load(Ordering::Acquire) == WANTED) {
            return Err(format!("the sleeper noticed nothing for {PATIENCE:?}"));
        }
        let slices = event.stats().waits - waits;
        peer.join()?;
        let effect = u64::from(raised == after && before != after);
        Ok(Verdict::of(effect).after(slices))
    }

    fn effect(&self) -> u64 {
        u64::from(!self.sleeps)
    }
}

#[test]
fn flags() {
    let points = |case: &Operation| if case.sleeps { Points::Spread(300) } else { Points::Every };
    let rows: Vec<Row> = OPERATIONS.iter().map(|case| sweep(&case, points(case), 2)).collect();
    report("flags", &rows);
}
