//! Killing a process at many points of one operation, and the table of what came of it.
//!
//! One point that fails can be run alone, with its label from the report:
//!
//! ```text
//! ANNULUS_KILL='u64 try_send, full @ 17' cargo test --release --test kill
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::deadline::Watchdog;
use super::process::{pin, say};
use super::ptrace::{Anchor, Tracee, Walk};

/// How long a stepped child may live: far longer than any section needs on a busy machine, shorter than the
/// watchdog's patience.
pub const CHILD_LIFE: Duration = Duration::from_secs(60);

/// How many slices of a wait a survivor may sleep through while there is something for it to notice: what a
/// second has of them. Time itself proves nothing, for a process that gets no processor stands still as one
/// that sleeps does; but it does not sleep more often.
const MOST_SLICES: u64 = 10;

/// Sections longer than this are a mistake.
pub const LONGEST: usize = 400_000;

/// How many failing points of one case are told in full.
const TOLD: usize = 5;

/// A case with so many failures is given up: each may have waited long for what did not come.
const GIVEN_UP: usize = 50;

/// Which points of the section a sweep kills at.
#[derive(Clone, Copy, Debug)]
pub enum Points {
    /// In front of every instruction, and after the last.
    Every,
    /// Before and after every system call, and at this many points spread evenly.
    Spread(usize),
    /// At `count` points spread evenly, moved on by `shift / of` of the distance between two.
    Comb {
        /// How many points.
        count: usize,
        /// Which of the combs this is.
        shift: usize,
        /// How many combs there are.
        of: usize,
    },
}

/// What the living found after a kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How much of the operation took effect.
    pub effect: u64,
    /// How often a survivor went to sleep while there was something for it to notice.
    pub slices: u64,
}

impl Verdict {
    /// Nobody slept.
    pub fn of(effect: u64) -> Self {
        Self { effect, slices: 0 }
    }

    /// Somebody slept `slices` times too often.
    pub fn after(self, slices: u64) -> Self {
        Self { slices, ..self }
    }
}

/// An operation in one state of the ring, run in a child that is killed on the way.
pub trait Case: Sync {
    /// What is left to judge by when the child is dead: the rings, handles and peers of the test.
    type Survivor;

    /// Operation and state, unique among all cases.
    fn label(&self) -> String;

    /// Everything anew: the ring in the wanted state and the child at the opening mark of its section.
    fn start(&self) -> Result<(Tracee, Self::Survivor), String>;

    /// Whether the section sleeps in a futex until [`Case::wake`].
    fn sleeps(&self) -> bool {
        false
    }

    /// Whether the child has other threads, which are not traced: they would run into a breakpoint of the one that is.
    fn has_threads(&self) -> bool {
        false
    }

    /// Wakes the child out of its futex.
    fn wake(&self, _survivor: &mut Self::Survivor) {}

    /// Drains, takes over and goes on.
    fn check(&self, survivor: Self::Survivor) -> Result<Verdict, String>;

    /// The effect of the whole operation: no point may show more, and the last must show all of it.
    fn effect(&self) -> u64;
}

/// What a sweep found: a line of the table.
#[derive(Debug, Default)]
pub struct Row {
    label: String,
    instructions: usize,
    calls: usize,
    points: usize,
    passed: usize,
    /// Points at which the child was not where the walk had been after as many instructions: it took another
    /// way, as code may that reads a clock or a file. It is killed where it is, or at the section's end.
    astray: usize,
    slowest: Duration,
    /// The most slices that a survivor slept through at one point.
    slices: u64,
    failures: Vec<String>,
    /// The effect at each point, but for those astray, in the order of the points.
    effects: Vec<(usize, u64)>,
}

/// One way to reach a point: past `calls` system calls and to the anchor at full speed, then `steps` single
/// instructions.
#[derive(Clone, Copy, Debug)]
struct Route {
    point: usize,
    calls: usize,
    anchor: Option<Anchor>,
    steps: usize,
}

impl Route {
    /// By way of the last system call before the point, if the walk knows of any, and of an anchor, if there may be one.
    fn to(walk: &Walk, point: usize, anchors: bool) -> Self {
        let calls = walk.calls.iter().take_while(|call| call.after <= point).count();
        let skipped = if calls == 0 { 0 } else { walk.calls[calls - 1].after };
        let (anchor, steps) =
            if anchors { walk.way(skipped, point) } else { (None, point - skipped) };
        Self { point, calls, anchor, steps }
    }

    /// Brings `tracee` there from the opening mark. `Ok(false)`: the section was over before that.
    fn take(
        self,
        tracee: &mut Tracee,
        walk: &Walk,
        asleep: &mut Option<&mut dyn FnMut()>,
    ) -> Result<bool, String> {
        Ok(tracee.enter_section(walk.lead)?
            && tracee.call_many(2 * self.calls, asleep)?
            && self.anchor.map_or(Ok(true), |anchor| tracee.run_to(anchor, asleep))?
            && tracee.step_many(self.steps, asleep)?)
    }
}

/// Kills `case` at `points`, `workers` children at a time.
pub fn sweep<C: Case>(case: &C, points: Points, workers: usize) -> Row {
    let label = case.label();
    let mut row = Row::titled(label.clone());
    let Some(only_point) = chosen(&label) else { return row };

    let walk = std::thread::scope(|scope| {
        let walker = scope.spawn(|| {
            pin(0);
            let watchdog = watch(&label);
            watchdog.arm(usize::MAX as u64);
            walk(case)
        });
        walker.join().unwrap_or_else(|_| Err("the walk panicked".into()))
    });
    let walk = match walk {
        Ok(walk) => walk,
        Err(error) => {
            row.points = 1;
            row.failures.push(format!("{label}: the walk through the section failed: {error}"));
            return row;
        }
    };
    row.walked(&walk);
    let mut routes = routes(&walk, points, !case.has_threads());
    if let Some(only) = only_point {
        routes.retain(|route| route.point == only);
    }
    row.expect(routes.len());

    let next = AtomicUsize::new(0);
    let found = Mutex::new(&mut row);
    std::thread::scope(|scope| {
        for worker in 0..workers.min(routes.len()) {
            let (next, found, routes, label, walk) = (&next, &found, &routes, &label, &walk);
            scope.spawn(move || {
                pin(worker);
                let watchdog = watch(label);
                while let Some(&route) = routes.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if found.lock().expect("no worker panics with the lock").failures.len()
                        >= GIVEN_UP
                    {
                        break;
                    }
                    watchdog.arm(route.point as u64);
                    let begin = Instant::now();
                    let outcome = kill_at(case, walk, route);
                    let took = begin.elapsed();
                    let mut row = found.lock().expect("no worker panics with the lock");
                    row.note(route.point, outcome, took, || {
                        format!("next instruction at {}", place(walk, route.point))
                    });
                }
                watchdog.disarm();
            });
        }
    });
    row.effects.sort_unstable();
    row.judge_effects(case.effect());
    row
}

/// Whether the case is to be run, and which of its points alone, if it is one.
pub fn chosen(label: &str) -> Option<Option<usize>> {
    let Ok(only) = std::env::var("ANNULUS_KILL") else { return Some(None) };
    let (wanted, point) = only.rsplit_once('@').unwrap_or((&only, ""));
    (wanted.trim() == label).then(|| point.trim().parse().ok())
}

/// A watchdog for the points of a case.
pub fn watch(label: &str) -> Watchdog {
    let label = label.to_owned();
    Watchdog::new(move |point| format!("{label} @ {point}"))
}

/// Where the instruction of a point is, as an offset that `addr2line` takes, or a mapping's name.
pub fn place(walk: &Walk, point: usize) -> String {
    if point >= walk.instructions() {
        return "the end".into();
    }
    let address = walk.address(point);
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let range = fields.next().unwrap_or_default();
        let Some((from, to)) = range.split_once('-') else {
            continue;
        };
        let (Ok(from), Ok(to)) = (u64::from_str_radix(from, 16), u64::from_str_radix(to, 16))
        else {
            continue;
        };
        if (from..to).contains(&address) {
            let offset =
                fields.nth(1).and_then(|field| u64::from_str_radix(field, 16).ok()).unwrap_or(0);
            let file = fields.nth(2).unwrap_or("anonymous memory");
            let file = file.rsplit('/').next().unwrap_or(file);
            return format!("file offset {:#x} of {file}", address - from + offset);
        }
    }
    format!("{address:#x}")
}

/// Walks through the section of `case`.
pub fn walk<C: Case>(case: &C) -> Result<Walk, String> {
    let (mut tracee, mut survivor) = case.start()?;
    let exits = waking(case, &mut survivor, |asleep| tracee.trace_calls(asleep))?;
    tracee.kill()?;
    case.check(survivor)?;
    let (mut tracee, mut survivor) = case.start()?;
    let walk = waking(case, &mut survivor, |asleep| tracee.walk(LONGEST, &exits, asleep))?;
    tracee.kill()?;
    case.check(survivor)?;
    Ok(walk)
}

/// Runs `step` with the case's wake-up, if its section sleeps.
fn waking<C: Case, R>(
    case: &C,
    survivor: &mut C::Survivor,
    step: impl FnOnce(&mut Option<&mut dyn FnMut()>) -> R,
) -> R {
    let mut wake = || case.wake(survivor);
    let mut asleep: Option<&mut dyn FnMut()> = if case.sleeps() { Some(&mut wake) } else { None };
    step(&mut asleep)
}

fn routes(walk: &Walk, points: Points, anchors: bool) -> Vec<Route> {
    let route = |point| Route::to(walk, point, anchors);
    let last = walk.instructions();
    // A build without optimisation has ten times the instructions and takes a tenth of the points.
    let thinned = |count: usize| if cfg!(debug_assertions) { (count / 10).max(1) } else { count };
    match points {
        Points::Every => {
            let stride = if cfg!(debug_assertions) { (last / 60).max(1) } else { 1 };
            (0..last).step_by(stride).chain([last]).map(route).collect()
        }
        Points::Spread(count) => {
            let count = thinned(count);
            let mut chosen: BTreeSet<usize> = (0..=count).map(|i| i * last / count).collect();
            for call in &walk.calls {
                chosen.extend([call.after - 1, call.after]);
            }
            chosen.into_iter().map(route).collect()
        }
        Points::Comb { count, shift, of } => {
            let count = thinned(count);
            (0..count).map(|i| route((i * of + shift) * last / (count * of))).collect()
        }
    }
}

/// Kills a fresh child at the end of `route`: the effect, and whether it went there as the walk did.
fn kill_at<C: Case>(case: &C, walk: &Walk, route: Route) -> Result<(Verdict, bool), String> {
    let (mut tracee, mut survivor) = case.start()?;
    let reached = waking(case, &mut survivor, |asleep| route.take(&mut tracee, walk, asleep))?;
    let as_walked = reached && tracee.address() == walk.address(route.point);
    tracee.kill()?;
    Ok((case.check(survivor)?, as_walked))
}

/// Runs a fresh child of `case` to `point` of its section, which does not sleep, and kills it.
pub fn die_at<C: Case>(case: &C, walk: &Walk, point: usize) -> Result<C::Survivor, String> {
    let (mut tracee, survivor) = case.start()?;
    Route::to(walk, point, !case.has_threads()).take(&mut tracee, walk, &mut None)?;
    tracee.kill()?;
    Ok(survivor)
}

impl Row {
    /// An empty line of the table.
    pub fn titled(label: String) -> Self {
        Self { label, ..Self::default() }
    }

    /// So many points will be noted.
    pub fn expect(&mut self, points: usize) {
        self.points = points;
    }

    /// Writes down a failure that is not of one point.
    pub fn fail(&mut self, error: String) {
        self.failures.push(format!("{}: {error}", self.label));
    }

    /// The line with a failure that is no point's.
    pub fn failed(mut self, error: String) -> Self {
        self.points += 1;
        self.fail(error);
        self
    }

    /// Writes down how long the section is.
    pub fn walked(&mut self, walk: &Walk) {
        self.instructions = walk.instructions();
        self.calls = walk.calls.len();
    }

    /// Writes down what came of `point`: the verdict, and whether the child was where the walk had been. `place`
    /// says where a point is at which something failed.
    pub fn note(
        &mut self,
        point: usize,
        outcome: Result<(Verdict, bool), String>,
        took: Duration,
        place: impl FnOnce() -> String,
    ) {
        self.slowest = self.slowest.max(took);
        match outcome {
            Ok((Verdict { effect, slices }, reached)) => {
                self.passed += 1;
                self.slices = self.slices.max(slices);
                if slices > MOST_SLICES {
                    self.failures
                        .push(format!("{} @ {point}: a survivor slept {slices} times", self.label));
                }
                self.astray += usize::from(!reached);
                if reached {
                    self.effects.push((point, effect));
                }
            }
            Err(error) => {
                self.failures.push(format!("{} @ {point}: {error} ({})", self.label, place()));
            }
        }
    }

    /// An effect, once there, is there at every later point; and all of it is there at the end.
    fn judge_effects(&mut self, whole: u64) {
        for pair in self.effects.windows(2) {
            if pair[1].1 < pair[0].1 {
                self.failures.push(format!(
                    "{} @ {}: the effect {} of an earlier point shrank to {}: something committed was lost",
                    self.label, pair[1].0, pair[0].1, pair[1].1
                ));
            }
        }
        for &(point, effect) in &self.effects {
            if effect > whole || (point == self.instructions && effect != whole) {
                let failure = format!("{} @ {point}: effect {effect}, not {whole}", self.label);
                self.failures.push(failure);
            }
        }
    }

    /// What this row's survivors found after a kill, the other's must have found after a kill at the same
    /// point: they differ only in what was done afterwards.
    pub fn must_agree(&mut self, other: &Self) {
        let theirs: BTreeMap<usize, u64> = other.effects.iter().copied().collect();
        for &(point, ours) in &self.effects {
            if let Some(&theirs) = theirs.get(&point).filter(|&&theirs| theirs != ours) {
                self.failures.push(format!(
                    "{} @ {point}: effect {ours}, but {theirs} in {}",
                    self.label, other.label
                ));
                return;
            }
        }
    }

    /// Adds the figures of a part.
    pub fn add(&mut self, part: Self) {
        self.instructions = self.instructions.max(part.instructions);
        self.calls = self.calls.max(part.calls);
        self.points += part.points;
        self.passed += part.passed;
        self.astray += part.astray;
        self.slowest = self.slowest.max(part.slowest);
        self.slices = self.slices.max(part.slices);
        self.failures.extend(part.failures);
    }
}

/// Prints the rows as one table, and fails the test if a point failed.
pub fn report(title: &str, rows: &[Row]) {
    let mut table = String::new();
    let _ = writeln!(
        table,
        "\n{title}\n{:<64} {:>7} {:>6} {:>7} {:>7} {:>6} {:>6} {:>8}",
        "operation, state", "instrs", "calls", "points", "passed", "astray", "slices", "slowest"
    );
    for row in rows.iter().filter(|row| row.points > 0) {
        let _ = writeln!(
            table,
            "{:<64} {:>7} {:>6} {:>7} {:>7} {:>6} {:>6} {:>6.1}ms",
            row.label,
            row.instructions,
            row.calls,
            row.points,
            row.passed,
            row.astray,
            row.slices,
            row.slowest.as_secs_f64() * 1e3
        );
    }
    let points: usize = rows.iter().map(|row| row.points).sum();
    let passed: usize = rows.iter().map(|row| row.passed).sum();
    let _ = writeln!(table, "{:<64} {:>7} {:>6} {points:>7} {passed:>7}", "all", "", "");
    let failures: Vec<&String> =
        rows.iter().flat_map(|row| row.failures.iter().take(TOLD)).collect();
    for failure in &failures {
        let _ = writeln!(table, "FAILED {failure}");
    }
    say(&table);
    assert!(
        failures.is_empty(),
        "{title}: {} of {points} points failed, see the table",
        points - passed
    );
}
