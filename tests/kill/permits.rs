//! Semaphores: killed after every instruction of what takes and frees permits, of waiting, of leaving and of repair.
//! No permit is lost and none is made; and who gets the first one afterwards is told exactly if there was a death
//! with one.

use std::hint::black_box;
use std::sync::atomic::Ordering;

use annulus::{Holder, Place, Semaphore, TryAcquireError, Wait};

use super::survive::PATIENCE;
use crate::support::deadline::poll;
use crate::support::process::{Peer, await_sleep};
use crate::support::ptrace::{Child, Tracee};
use crate::support::shared::SharedWords;
use crate::support::sweep::{CHILD_LIFE, Case, Points, Row, Verdict, report, sweep};

/// Permits there are.
const PERMITS: u32 = 4;

/// What the victim does with its permits.
#[derive(Clone, Copy)]
struct Operation {
    name: &'static str,
    /// Permits that it has before.
    held: u32,
    /// Permits that are free before; the rest nobody has.
    free: u32,
    run: fn(&Child, &mut Holder),
    /// By how much the word says fewer are free, when it is done; for `consume`, the ledger.
    takes: i64,
    /// By how much there are fewer afterwards, with what comes back from the dead.
    uses: i64,
    points: Points,
}

const OPERATIONS: &[Operation] = &[
    Operation {
        name: "try_acquire",
        held: 0,
        free: 4,
        run: |child, holder| {
            child.section(|| {
                if let Ok(permit) = holder.try_acquire() {
                    permit.keep();
                }
            });
        },
        takes: 1,
        uses: 0,
        points: Points::Every,
    },
    Operation {
        name: "acquire_many, the last ones",
        held: 1,
        free: 3,
        run: |child, holder| {
            child.section(|| {
                if let Ok(permit) = holder.acquire_many(3) {
                    permit.keep();
                }
            });
        },
        takes: 3,
        uses: 0,
        points: Points::Every,
    },
    Operation {
        name: "release",
        held: 2,
        free: 2,
        run: |child, holder| {
            let _ = black_box(child.section(|| holder.release(2)));
        },
        takes: -2,
        uses: 0,
        points: Points::Every,
    },
    Operation {
        name: "acquire, drop",
        held: 0,
        free: 4,
        run: |child, holder| {
            child.section(|| drop(holder.acquire()));
        },
        takes: 0,
        uses: 0,
        points: Points::Every,
    },
    Operation {
        name: "post",
        held: 1,
        free: 1,
        run: |child, holder| {
            let _ = black_box(child.section(|| holder.post(2)));
        },
        takes: -2,
        uses: -2,
        points: Points::Every,
    },
    Operation {
        name: "acquire, consume",
        held: 1,
        free: 3,
        run: |child, holder| {
            child.section(|| {
                if let Ok(permit) = holder.acquire() {
                    permit.consume();
                }
            });
        },
        takes: 1,
        uses: 1,
        points: Points::Every,
    },
];

/// Who changed the word last before the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// The victim itself.
    Victim,
    /// Somebody else, who has to be told that it is replaced.
    Other,
}

fn semaphore(free: u32) -> Result<Semaphore, String> {
    let place = Place::memfd("kill").map_err(|error| error.to_string())?;
    let builder = Semaphore::counting(PERMITS).initial(free).participants(4);
    builder.create(place).map_err(|error| format!("create: {error}"))
}

fn open(fd: std::os::fd::OwnedFd) -> Holder {
    Semaphore::from_fd(fd).expect("opens").holder().expect("there is an entry")
}

fn value(semaphore: &Semaphore) -> Result<u32, String> {
    semaphore.value().map_err(|error| error.to_string())
}

/// Somebody comes, by which what the dead had comes back; all `expected` permits can be had at once, no more, and
/// the first grant says exactly if somebody `died_with` one.
fn settle(semaphore: &Semaphore, expected: i64, died_with: Option<bool>) -> Result<(), String> {
    let mut holder = semaphore.holder().map_err(|error| format!("joining: {error}"))?;
    let free = value(semaphore)?;
    if i64::from(free) != expected {
        return Err(format!("{free} permits are free, not {expected}"));
    }
    let mut told = None;
    for _ in 0..100 {
        let permits = holder.try_acquire_many(free).map_err(|error| error.to_string())?;
        told.get_or_insert(permits.is_abandoned());
        permits.release().map_err(|error| error.to_string())?;
    }
    if died_with.is_some() && told != died_with {
        return Err(format!("told of a death: {told:?}, and that is {died_with:?}"));
    }
    let all = holder.try_acquire_many(free).map_err(|error| error.to_string())?;
    all.keep();
    match holder.try_acquire() {
        Err(TryAcquireError::NoPermits) => Ok(()),
        other => Err(format!("a permit too many: {other:?}")),
    }
}

/// The victim is alone.
struct Alone(&'static Operation, Last);

impl Case for Alone {
    type Survivor = Semaphore;

    fn label(&self) -> String {
        format!("{}, after a change of {:?}", self.0.name, self.1)
    }

    fn start(&self) -> Result<(Tracee, Semaphore), String> {
        let Self(operation, last) = self;
        let semaphore = semaphore(operation.held + operation.free)?;
        // Another entry than the first, whose number is 0, as is that of nobody.
        let mut other = semaphore.holder().map_err(|error| error.to_string())?;
        let fd = semaphore.inheritable_fd().map_err(|error| error.to_string())?;
        let mut tracee = Tracee::spawn(CHILD_LIFE, |child| {
            let mut holder = open(fd);
            if operation.held > 0 {
                holder.acquire_many(operation.held).expect("they are free").keep();
            }
            drop(holder.acquire().expect("one is free"));
            child.mark();
            (operation.run)(child, &mut holder);
        })?;
        if *last == Last::Other {
            drop(other.try_acquire().map_err(|error| error.to_string())?);
        }
        super::state::to_section(&mut tracee)?;
        Ok((tracee, semaphore))
    }

    fn check(&self, semaphore: Semaphore) -> Result<Verdict, String> {
        let Self(operation, _) = self;
        let before = i64::from(operation.free);
        let now = i64::from(value(&semaphore)?);
        let all = before + i64::from(operation.held);
        let change = before - now;
        let whole = if operation.takes == 0 { i64::from(change != 0) } else { operation.takes };
        if change != 0 && change != whole {
            return Err(format!("{now} permits are free: a part of the change"));
        }
        let held =
            semaphore.stats().participants.iter().map(|who| i64::from(who.held)).sum::<i64>();
        if held + now != all && operation.uses == 0 {
            return Err(format!("{held} are held and {now} are free, of {all}"));
        }
        let (mut used, mut effect) = (0, u64::from(change != 0));
        if operation.takes == 0 {
            // Taken and given back: that it was there in between is no progress that stays.
            effect = 0;
        } else if operation.uses < 0 {
            used = change;
        } else if operation.uses > 0 {
            used = all - now - held;
            if used != 0 && used != operation.uses {
                return Err(format!("{used} were used"));
            }
            effect = used as u64;
        }
        settle(&semaphore, all - used, Some(held > 0))?;
        Ok(Verdict::of(effect))
    }

    fn effect(&self) -> u64 {
        u64::from(self.0.takes != 0)
    }
}

/// The victim frees what another one sleeps for.
struct Waking {
    name: &'static str,
    /// Permits that the sleeper asks for.
    wants: u32,
    run: fn(&Child, &mut Holder),
}

const WAKING: &[Waking] = &[
    Waking {
        name: "release, a sleeper",
        wants: 1,
        run: |child, holder| {
            let _ = black_box(child.section(|| holder.release(PERMITS)));
        },
    },
    Waking {
        name: "release one by one, a sleeper for all",
        wants: PERMITS,
        run: |child, holder| {
            child.section(|| {
                for _ in 0..PERMITS {
                    let _ = black_box(holder.release(1));
                }
            });
        },
    },
];

impl Case for &'static Waking {
    type Survivor = (Semaphore, SharedWords, Peer);

    fn label(&self) -> String {
        self.name.into()
    }

    fn start(&self) -> Result<(Tracee, Self::Survivor), String> {
        let semaphore = semaphore(PERMITS)?;
        let told = SharedWords::new(2);
        let fd = || semaphore.inheritable_fd().map_err(|error| error.to_string());
        let (ours, theirs) = (fd()?, fd()?);
        let mut tracee = Tracee::spawn(CHILD_LIFE, |child| {
            let mut holder = open(ours);
            holder.acquire_many(PERMITS).expect("they are free").keep();
            child.mark();
            (self.run)(child, &mut holder);
        })?;
        let wants = self.wants;
        let peer = Peer::spawn(CHILD_LIFE, || {
            let mut holder = open(theirs).with_wait(Wait::Block);
            told[0].store(1, Ordering::Release);
            let permits = holder.acquire_many(wants).expect("it is open");
            told[1].store(1, Ordering::Release);
            drop(permits);
        });
        let ready = poll(PATIENCE, || told[0].load(Ordering::Acquire) == 1);
        if !ready || !await_sleep(peer.pid(), PATIENCE) {
            return Err("the peer does not sleep".into());
        }
        super::state::to_section(&mut tracee)?;
        Ok((tracee, (semaphore, told, peer)))
    }

    fn check(&self, (semaphore, told, peer): Self::Survivor) -> Result<Verdict, String> {
        let before = semaphore.stats().waits;
        if !poll(PATIENCE, || told[1].load(Ordering::Acquire) == 1) {
            return Err(format!("the sleeper got nothing for {PATIENCE:?}"));
        }
        let slices = semaphore.stats().waits - before;
        peer.join()?;
        settle(&semaphore, PERMITS.into(), None)?;
        Ok(Verdict::of(0).after(slices))
    }

    fn effect(&self) -> u64 {
        0
    }
}

/// The victim sleeps for permits, or for there to be none, until they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sleeping {
    Acquire,
    AcquireMany,
    WaitZero,
}

impl Case for Sleeping {
    type Survivor = (Semaphore, Holder);

    fn label(&self) -> String {
        format!("{self:?}, asleep")
    }

    fn start(&self) -> Result<(Tracee, Self::Survivor), String> {
        let semaphore = semaphore(PERMITS)?;
        let mut holder = semaphore.holder().map_err(|error| error.to_string())?;
        if *self != Self::WaitZero {
            holder.acquire_many(PERMITS).map_err(|error| error.to_string())?.keep();
        }
        let fd = semaphore.inheritable_fd().map_err(|error| error.to_string())?;
        let tracee = Tracee::spawn(CHILD_LIFE, |child| {
            let mut holder = open(fd).with_wait(Wait::Block);
            child.section(|| match self {
                Self::Acquire => drop(holder.acquire()),
                Self::AcquireMany => drop(holder.acquire_many(2)),
                Self::WaitZero => drop(black_box(holder.wait_zero())),
            });
        })?;
        Ok((tracee, (semaphore, holder)))
    }

    fn sleeps(&self) -> bool {
        true
    }

    fn wake(&self, (_, holder): &mut Self::Survivor) {
        match self {
            Self::WaitZero if holder.held() == 0 => {
                holder.acquire_many(PERMITS).expect("they are free").keep();
            }
            Self::WaitZero => {}
            _ => {
                let held = holder.held();
                holder.release(held).expect("they are held");
            }
        }
    }

    fn check(&self, (semaphore, holder): Self::Survivor) -> Result<Verdict, String> {
        drop(holder);
        settle(&semaphore, PERMITS.into(), None)?;
        Ok(Verdict::of(0))
    }

    fn effect(&self) -> u64 {
        0
    }
}

/// The victim comes, or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passing {
    /// It comes, and gives back what another one died with, before and after the last change of the word.
    Repairing { held: u32, after: bool },
    /// It leaves with permits.
    Leaving,
}

impl Case for Passing {
    type Survivor = Semaphore;

    fn label(&self) -> String {
        format!("{self:?}")
    }

    fn start(&self) -> Result<(Tracee, Semaphore), String> {
        let semaphore = semaphore(PERMITS)?;
        let fd = || semaphore.inheritable_fd().map_err(|error| error.to_string());
        let (ours, theirs) = (fd()?, fd()?);
        if let Self::Repairing { held, after } = *self {
            let mut other = semaphore.holder().map_err(|error| error.to_string())?;
            let told = SharedWords::new(1);
            let first = Peer::spawn(CHILD_LIFE, || {
                let mut holder = open(theirs);
                holder.acquire_many(held).expect("they are free").keep();
                told[0].store(1, Ordering::Release);
                std::thread::sleep(CHILD_LIFE);
            });
            if !poll(PATIENCE, || told[0].load(Ordering::Acquire) == 1) {
                return Err("the first one got nothing".into());
            }
            if after {
                drop(other.try_acquire().map_err(|error| error.to_string())?);
            }
            drop(other);
            first.kill()?;
        }
        let passing = *self;
        let tracee = Tracee::spawn(CHILD_LIFE, |child| {
            if passing == Self::Leaving {
                let mut holder = open(ours);
                holder.acquire_many(3).expect("they are free").keep();
                child.section(|| drop(holder));
            } else {
                let semaphore = Semaphore::from_fd(ours).expect("opens");
                black_box(child.section(|| semaphore.holder()).is_ok());
            }
        })?;
        Ok((tracee, semaphore))
    }

    fn check(&self, semaphore: Semaphore) -> Result<Verdict, String> {
        settle(&semaphore, PERMITS.into(), None)?;
        Ok(Verdict::of(0))
    }

    fn effect(&self) -> u64 {
        0
    }
}

/// Run on so many processors as there are.
const WORKERS: usize = 2;

#[test]
fn permits() {
    let mut rows: Vec<Row> = Vec::new();
    for operation in OPERATIONS {
        for last in [Last::Victim, Last::Other] {
            rows.push(sweep(&Alone(operation, last), operation.points, WORKERS));
        }
    }
    report("permits", &rows);
}

#[test]
fn permits_that_others_sleep_for() {
    let rows: Vec<Row> =
        WAKING.iter().map(|case| sweep(&case, Points::Spread(400), WORKERS)).collect();
    report("permits that others sleep for", &rows);
}

#[test]
fn sleeping_for_permits() {
    let cases = [Sleeping::Acquire, Sleeping::AcquireMany, Sleeping::WaitZero];
    let rows = cases.map(|case| sweep(&case, Points::Spread(300), WORKERS));
    report("sleeping for permits", &rows);
}

#[test]
fn coming_and_going_with_permits() {
    let cases = [
        Passing::Repairing { held: 1, after: false },
        Passing::Repairing { held: 3, after: true },
        Passing::Leaving,
    ];
    let rows = cases.map(|case| sweep(&case, Points::Spread(1000), WORKERS));
    report("coming and going with permits", &rows);
}
