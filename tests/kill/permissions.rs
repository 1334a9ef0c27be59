//! Killed after every instruction of changing who may open a ring: whoever may open it before and afterwards may also in
//! between, and the next call makes it good.

use std::hint::black_box;
use std::os::unix::fs::MetadataExt;

use annulus::{Place, Ring, SetupError};

use super::site::Site;
use crate::support::ptrace::Tracee;
use crate::support::sweep::{CHILD_LIFE, Case, Points, Row, Verdict, report, sweep};

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Mode {
        from: u32,
        to: u32,
    },
    /// The group, to one that is not ours: only the superuser may.
    Group(u32),
}

impl Change {
    fn make(self, place: &Place) -> Result<(), SetupError> {
        match self {
            Self::Mode { to, .. } => annulus::set_mode(place, to),
            Self::Group(group) => annulus::set_owner(place, None, Some(group)),
        }
    }

    /// Whether it is made; an error if something else is.
    fn is_made(self, site: &Site, group: u32) -> Result<bool, String> {
        let files = site.files();
        let [file] = &files[..] else { return Err(format!("there are {files:?}")) };
        let now = file.metadata().map_err(|error| error.to_string())?;
        let (now, before, after) = match self {
            Self::Mode { from, to } => (now.mode() & 0o7777, from, to),
            Self::Group(to) => (now.gid(), group, to),
        };
        match now {
            now if now == before => Ok(false),
            now if now == after => Ok(true),
            other => Err(format!("{other:o} is neither {before:o} nor {after:o}")),
        }
    }
}

struct Survivor {
    site: Site,
    ring: Ring<u64>,
    group: u32,
}

impl Case for Change {
    type Survivor = Survivor;

    fn label(&self) -> String {
        match self {
            Self::Mode { from, to } => format!("set_mode from {from:o} to {to:o}"),
            Self::Group(_) => "set_owner".into(),
        }
    }

    fn start(&self) -> Result<(Tracee, Survivor), String> {
        let site = Site::named("mode");
        let mode = if let Self::Mode { from, .. } = *self { from } else { 0o600 };
        let ring = Ring::<u64>::builder(8).mode(mode).create(site.place.clone());
        let ring = ring.map_err(|error| format!("create: {error}"))?;
        let file = site.files().pop().ok_or("there is no file")?;
        let group = file.metadata().map_err(|error| error.to_string())?.gid();
        let tracee = Tracee::spawn(CHILD_LIFE, |child| {
            black_box(child.section(|| self.make(&site.place)).is_ok());
        })?;
        Ok((tracee, Survivor { site, ring, group }))
    }

    fn check(&self, survivor: Survivor) -> Result<Verdict, String> {
        let Survivor { site, ring, group } = survivor;
        let made = self.is_made(&site, group)?;
        let open = || Ring::<u64>::open(site.place.clone());
        let there = open().map_err(|error| format!("opened in between: {error}"))?;
        let mut tx = ring.sender().map_err(|error| error.to_string())?;
        tx.try_send(7).map_err(|error| error.to_string())?;
        let found = there.receiver().map_err(|error| error.to_string())?.try_recv();
        if found != Ok(7) {
            return Err(format!("{found:?} came through"));
        }
        self.make(&site.place).map_err(|error| format!("the next call: {error}"))?;
        if !self.is_made(&site, group)? {
            return Err("the next call changes nothing".into());
        }
        open().map_err(|error| format!("opened afterwards: {error}"))?;
        Ok(Verdict::of(made.into()))
    }

    fn effect(&self) -> u64 {
        1
    }
}

#[test]
fn permissions() {
    let mut changes =
        vec![Change::Mode { from: 0o600, to: 0o660 }, Change::Mode { from: 0o666, to: 0o600 }];
    if nix::unistd::geteuid().is_root() {
        changes.push(Change::Group(12_345));
    }
    let rows: Vec<Row> =
        changes.iter().map(|change| sweep(change, Points::Spread(1000), 2)).collect();
    report("permissions", &rows);
}
