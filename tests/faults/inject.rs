//! One fault after the other.

use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::errors::{Then, errors};
use super::footprint::Footprint;
use crate::support::deadline::poll;
use crate::support::process::{pin, say};
use crate::support::ptrace::{Stop, Tracee};
use crate::support::shared::SharedWords;

/// How long a child may live.
const LIFE: Duration = Duration::from_secs(300);
/// How long what is closed elsewhere may take to be gone.
const PATIENCE: Duration = Duration::from_secs(60);
/// More system calls than anything here makes.
const MOST_CALLS: usize = 1000;

/// Why the operation failed.
pub type Failure = Box<dyn Error>;

/// Something that a process does by system calls.
pub trait Scenario {
    /// What there is before it.
    type State;
    /// What it makes.
    type Made;

    const LABEL: &'static str;

    /// Whether the process has done it once before.
    const IS_WARM: bool = false;

    /// What a process keeps for good that has done it.
    const KEEPS: &'static [&'static str] = &[];

    /// What need not go on here, though it goes on elsewhere: a system call and its error.
    const ENDS: &'static [(i64, i32)] = &[];

    fn prepare(&self) -> Self::State;

    /// The operation.
    fn run(&self, state: &mut Self::State) -> Result<Self::Made, Failure>;

    /// Uses what was made, as it should be possible, and drops it.
    fn enjoy(&self, state: &mut Self::State, made: Self::Made);

    /// The files that are there while what was made is.
    fn names(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// What came of one run.
enum Outcome {
    /// The operation has fewer system calls than that, or one that does not fail was met.
    Over,
    Harmless,
    /// One of so many errors of its system call was tried.
    Tried {
        errors: usize,
    },
}

/// What a child tells its parent, also when that stands in its way.
struct Told(SharedWords);

impl Told {
    const LONGEST: usize = 400;

    fn new() -> Self {
        Self(SharedWords::new(2 + Self::LONGEST / 8))
    }

    fn tell(&self, outcome: u64, text: &str) {
        let length = text.len().min(Self::LONGEST);
        // SAFETY: there is that much room, and the parent looks when the child is stopped.
        unsafe {
            let to = self.0.as_mut_ptr().add(2).cast::<u8>();
            to.copy_from_nonoverlapping(text.as_ptr(), length);
        }
        self.0[1].store(length as u64, Ordering::Release);
        self.0[0].store(outcome, Ordering::Release);
    }

    /// Whether the operation failed, and what it said then.
    fn heard(&self) -> Option<String> {
        let length = self.0[1].load(Ordering::Acquire) as usize;
        // SAFETY: the child has written so many bytes there, and does not go on.
        let bytes =
            unsafe { std::slice::from_raw_parts(self.0.as_mut_ptr().add(2).cast::<u8>(), length) };
        (self.0[0].load(Ordering::Acquire) == FAILED)
            .then(|| String::from_utf8_lossy(bytes).into_owned())
    }
}

const DONE: u64 = 1;
const FAILED: u64 = 2;

/// Has each system call of `scenario` fail with each of its errors, on the processor `worker`.
pub fn try_all<S: Scenario>(scenario: &S, worker: usize) {
    pin(worker);
    let mut table = format!("\n{}\n", S::LABEL);
    let (mut calls, mut faults) = (0, 0);
    'calls: for nth in 0..MOST_CALLS {
        for which in 0.. {
            match try_one(scenario, nth, which, &mut table) {
                Ok(Outcome::Over) if which == 0 => break 'calls,
                // It went another way this time.
                Ok(Outcome::Over | Outcome::Harmless) => break,
                Ok(Outcome::Tried { errors }) => {
                    faults += 1;
                    if which + 1 >= errors {
                        break;
                    }
                }
                Err(error) => {
                    panic!("{}, system call {nth}, error {which}: {error}{table}", S::LABEL)
                }
            }
        }
        calls += 1;
    }
    clear(scenario);
    assert!(calls < MOST_CALLS && faults > 0, "{calls} system calls, {faults} faults");
    if std::env::var_os("ANNULUS_FAULTS").is_some() {
        say(&format!("{table}{calls} system calls, {faults} faults\n"));
    }
}

/// Removes what a child that was killed on the way has left.
fn clear<S: Scenario>(scenario: &S) {
    for name in scenario.names() {
        let _ = std::fs::remove_file(name);
    }
}

/// One child, whose system call `nth` fails with the error `which` that it has.
fn try_one<S: Scenario>(
    scenario: &S,
    nth: usize,
    which: usize,
    table: &mut String,
) -> Result<Outcome, String> {
    clear(scenario);
    let told = Told::new();
    let mut tracee = Tracee::spawn(LIFE, |child| {
        let names = scenario.names();
        let before = Footprint::now(&[]);
        let mut state = scenario.prepare();
        if S::IS_WARM {
            let made = scenario.run(&mut state).expect("what nothing stands in the way of");
            scenario.enjoy(&mut state, made);
        }
        match child.section(|| scenario.run(&mut state)) {
            Ok(made) => {
                told.tell(DONE, "");
                scenario.enjoy(&mut state, made);
            }
            Err(error) => {
                told.tell(FAILED, &error.to_string());
                assert!(!error.to_string().is_empty());
            }
        }
        child.mark();
        let made = scenario.run(&mut state).expect("what nothing stands in the way of any more");
        scenario.enjoy(&mut state, made);
        drop(state);
        let keeps = Footprint::of(S::KEEPS);
        let mut more = Footprint::default();
        let gone = poll(PATIENCE, || {
            more = Footprint::now(&names).since(&before);
            more == keeps
        });
        assert!(gone, "it has {more:?} for good, and should have {keeps:?}");
    })?;
    for _ in 0..nth {
        if tracee.next_call()?.is_none() {
            tracee.kill()?;
            return Ok(Outcome::Over);
        }
    }
    let Some(request) = tracee.next_call()? else {
        tracee.kill()?;
        return Ok(Outcome::Over);
    };
    let known = errors(&request, &tracee);
    let known = known.ok_or_else(|| format!("{request:?}: what may it answer?"))?;
    let Some(&(errno, then)) = known.all.get(which) else {
        tracee.kill()?;
        return Ok(Outcome::Harmless);
    };
    tracee.fail_call(errno, known.is_made)?;
    let context = format!("{request:?} says {}", nix::errno::Errno::from_raw(errno));
    // To the end of the section, to the mark after what came of it, and to the end.
    for _ in 0..2 {
        match tracee.go_on() {
            Stop::Mark => {}
            other => return Err(format!("{context}: {other:?}")),
        }
    }
    let said = told.heard();
    let number = request.number;
    let answer = said.as_deref().unwrap_or("goes on");
    let _ = writeln!(table, "{nth:>4} {number:>4} {errno:>4}  {answer}");
    let must_go_on = then == Then::GoOn && !S::ENDS.contains(&(number, errno));
    if let Some(said) = said.as_ref().filter(|_| must_go_on) {
        return Err(format!("{context}: it should go on, and says: {said}"));
    }
    match tracee.go_on() {
        Stop::Exited(0) => Ok(Outcome::Tried { errors: known.all.len() }),
        other => Err(format!("{context}, and then: {answer}; in the end {other:?}")),
    }
}
