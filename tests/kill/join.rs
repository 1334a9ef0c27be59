//! Killed while making half a split ring, or while joining it with the peer's: before and after every system call, and
//! at places between. The dead one leaves nothing: whoever has its half joins that and is told of the end, and the next
//! pair works.

use std::fs::File;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;

use annulus::{Role, SetupError, Split};

use super::halves::{Halves, receive_to_the_end, send_to_the_end};
use super::message::Tagged;
use super::shape::{Bytes, Slots};
use super::state::{Holds, fill_in};
use super::survive::{Sequence, drain};
use crate::support::ptrace::Tracee;
use crate::support::shared::SharedWords;
use crate::support::sweep::{CHILD_LIFE, Case, Points, Row, Verdict, report, sweep};

/// Points spread over a step, beside those at its system calls.
const POINTS: usize = 200;

/// What the child is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Making its half.
    Split,
    /// Joining it with the peer's, who joins it afterwards.
    JoinFirst,
    /// The same, when the peer has joined it.
    JoinLast,
}

/// The owner of a half, killed in a step of its making.
struct Meeting<S> {
    role: Role,
    step: Step,
    shape: PhantomData<fn() -> S>,
}

/// What the other side has.
enum Met<S: Halves> {
    /// Its half only.
    Nothing(Split<S::Ring>),
    /// Its half, and the dead one's.
    Shown(Split<S::Ring>, File),
    Joined(S::Ring),
}

fn failed(error: SetupError) -> String {
    error.to_string()
}

fn peer_of(role: Role) -> Role {
    if role == Role::Sender { Role::Receiver } else { Role::Sender }
}

impl<S: Halves> Case for Meeting<S> {
    type Survivor = Met<S>;

    fn label(&self) -> String {
        let step = match self.step {
            Step::Split => "made",
            Step::JoinFirst => "joined first",
            Step::JoinLast => "joined last",
        };
        format!("split {} {step}, {}", S::LABEL, self.role)
    }

    fn start(&self) -> Result<(Tracee, Met<S>), String> {
        let (role, step) = (self.role, self.step);
        let ours = S::half(peer_of(role)).map_err(failed)?;
        let to_child = S::descriptor(&ours).map_err(failed)?;
        let told = SharedWords::new(1);
        let tracee = Tracee::spawn(CHILD_LIFE, |child| {
            if step == Step::Split {
                drop(child.section(|| S::half(role)).expect("makes a half"));
                return;
            }
            let half = S::half(role).expect("makes a half");
            let shown = S::descriptor(&half).expect("a descriptor more");
            told[0].store(shown.as_raw_fd() as u64, Ordering::Release);
            child.section(|| S::join(half, to_child)).expect("joins");
        })?;
        if step == Step::Split {
            return Ok((tracee, Met::Nothing(ours)));
        }
        let number = told[0].load(Ordering::Acquire);
        let shown = File::open(format!("/proc/{}/fd/{number}", tracee.pid()));
        let shown = shown.map_err(|error| format!("the child's descriptor: {error}"))?;
        let met = match step {
            Step::JoinLast => Met::Joined(S::join(ours, shown.into()).map_err(failed)?),
            _ => Met::Shown(ours, shown),
        };
        Ok((tracee, met))
    }

    fn check(&self, met: Met<S>) -> Result<Verdict, String> {
        let ours = match met {
            Met::Nothing(ours) => ours,
            Met::Shown(ours, shown) => {
                self.is_told(&S::join(ours, shown.into()).map_err(failed)?)?;
                S::half(peer_of(self.role)).map_err(failed)?
            }
            Met::Joined(ring) => {
                self.is_told(&ring)?;
                S::half(peer_of(self.role)).map_err(failed)?
            }
        };
        self.serves(ours)?;
        Ok(Verdict::of(0))
    }

    fn effect(&self) -> u64 {
        0
    }
}

impl<S: Halves> Meeting<S> {
    /// The other side of a ring whose owner died before it took its role is told so.
    fn is_told(&self, ring: &S::Ring) -> Result<(), String> {
        if self.role == Role::Receiver {
            return send_to_the_end::<S>(&mut S::sender(ring).map_err(failed)?, 0, false);
        }
        let mut sequence = Sequence::from(0);
        receive_to_the_end::<S>(&mut S::receiver(ring).map_err(failed)?, &mut sequence, false)?;
        if sequence.next() == 0 { Ok(()) } else { Err("the dead one sent something".into()) }
    }

    /// With a new half for the dead one's it is a ring.
    fn serves(&self, ours: Split<S::Ring>) -> Result<(), String> {
        let theirs = S::half(self.role).map_err(failed)?;
        let to_us = S::descriptor(&theirs).map_err(failed)?;
        let to_them = S::descriptor(&ours).map_err(failed)?;
        let ours = S::join(ours, to_us).map_err(failed)?;
        let theirs = S::join(theirs, to_them).map_err(failed)?;
        let (sends, receives) = match self.role {
            Role::Sender => (&theirs, &ours),
            _ => (&ours, &theirs),
        };
        let mut tx = S::sender(sends).map_err(failed)?;
        let mut rx = S::receiver(receives).map_err(failed)?;
        let (mut next, mut sequence) = (0, Sequence::from(0));
        for _ in 0..3 {
            next = fill_in::<S>(Holds::Full, &mut tx, next)?;
            drain::<S>(&mut rx, &mut sequence)?;
        }
        let got = sequence.next();
        if got == next { Ok(()) } else { Err(format!("{got} of {next} messages came")) }
    }
}

fn sweep_steps<S: Halves>(steps: &[Step]) -> Vec<Row> {
    let roles = [Role::Sender, Role::Receiver];
    let cases = steps.iter().flat_map(|&step| roles.map(|role| (step, role)));
    let case = |(step, role)| Meeting::<S> { role, step, shape: PhantomData };
    cases.map(|each| sweep(&case(each), Points::Spread(POINTS), 2)).collect()
}

fn sweep_slots<T: Tagged + 'static>(steps: &[Step]) -> Vec<Row> {
    sweep_steps::<Slots<T>>(steps)
}

#[test]
fn make_half() {
    let mut rows = sweep_slots::<u64>(&[Step::Split]);
    rows.extend(sweep_steps::<Bytes>(&[Step::Split]));
    report("make half a ring, single-stepped", &rows);
}

#[test]
fn join_halves() {
    let steps = [Step::JoinFirst, Step::JoinLast];
    let mut rows = sweep_slots::<[u64; 8]>(&steps);
    rows.extend(sweep_steps::<Bytes>(&steps));
    report("join two halves, single-stepped", &rows);
}
