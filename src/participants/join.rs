//! How a role is taken.

use super::{Hold, Hub, Participant};
use crate::error::{Role, SetupError};
use crate::protocol::park::Answered;
use crate::segment::{Attached, Segment, lock_of};
use crate::sync::Ordering;
use crate::sys::fork;
use crate::sys::locks::{self, Outcome};
use crate::sys::membarrier;
use crate::table;
use crate::wait::Wait;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// The first pause before a role that looks taken is asked for again; each pause is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_micros(50);
/// How many pauses: 6 ms together, many times what a process needs from its start to `exec`, and little beside
/// the time that it takes to find out by hand whose the role is.
const PAUSES: u32 = 7;

impl Participant {
    /// Takes `role`, if nobody has it. The caller recovers the role's position next, and then calls
    /// [`enter`](Self::enter).
    pub(crate) fn join(segment: &Arc<Segment>, role: Role) -> Result<Self, SetupError> {
        if segment.own_role().is_some() {
            return Self::join_half(segment, role);
        }
        let lock = segment.reopen()?;
        let fd = lock.as_fd();
        let topology = segment.spec.topology;
        if !topology.shares(role) {
            let locked = patiently(|| locks::exclusive(fd, lock_of(role)), thread::sleep)
                .map_err(SetupError::os("taking the role"))?;
            if locked == Outcome::HeldElsewhere {
                let pid = segment.half(role).presence.pid.load(Ordering::Relaxed) as u32;
                return Err(SetupError::RoleTaken { role, pid });
            }
        }
        let mut attached = Attached::new(segment);
        let is_laned = segment.spec.is_laned();
        let entry = match segment.spec.has_entry(role) {
            true => Some(take_entry(&attached, fd, role)?),
            false => None,
        };
        let mut hub = None;
        if let Some(lane) = entry.map(usize::from).filter(|_| is_laned) {
            let fences = !membarrier::is_registered();
            let answered = Answered::up_to_now(attached.half(role.peer()), fences);
            let lane_of = Attached::lane(segment, lane);
            hub = Some(Box::new(Hub {
                attached: std::mem::replace(&mut attached, lane_of),
                answered,
                lane,
            }));
        }
        let mut side = Self::holding(attached, role, Hold::Lock(lock));
        (side.entry, side.hub) = (entry, hub);
        Ok(side)
    }

    /// A participant of an event, of whom nobody needs to know: as many as there are may come and go.
    pub(crate) fn pass_by(segment: &Arc<Segment>) -> Result<Self, SetupError> {
        if !segment.is_ours() {
            return Err(SetupError::Forked);
        }
        let (attached, hold) = (Attached::new(segment), Hold::Unlocked(fork::generation()));
        let mut side = Self::holding(attached, Role::Receiver, hold);
        side.set_wait(Wait::default());
        Ok(side)
    }

    /// The same in the split form, where a role goes with a half.
    fn join_half(segment: &Arc<Segment>, role: Role) -> Result<Self, SetupError> {
        if !segment.is_ours() {
            return Err(SetupError::Forked);
        }
        segment.take_seat(role)?;
        Ok(Self::holding(Attached::new(segment), role, Hold::Unlocked(fork::generation())))
    }
}

/// Takes an entry of the table, and asks again for a while if all look taken: some may be those of the dead that
/// another process is about to free.
fn take_entry(attached: &Attached, fd: BorrowedFd<'_>, role: Role) -> Result<u16, SetupError> {
    let mut round = 0;
    loop {
        table::resolve_the_dead(attached, fd, None);
        match table::join(attached, fd, role) {
            Err(SetupError::Crowded { .. }) if round < PAUSES => {
                thread::sleep(FIRST_PAUSE * (1 << round));
                round += 1;
            }
            done => return done,
        }
    }
}

/// Asks again for a while for what somebody holds.
///
/// The holder may be dead, and a process that it was just starting still have its descriptors: one that is
/// made without the handlers of `fork` (`posix_spawn`, `vfork`, `clone`) keeps them until it calls `exec`,
/// and one that is forked until it has run its handler, wherever its parent was killed meanwhile. The
/// kernel does not tell such a one from a living holder; it only goes away soon.
fn patiently(
    mut ask: impl FnMut() -> io::Result<Outcome>,
    mut pause: impl FnMut(Duration),
) -> io::Result<Outcome> {
    for round in 0..PAUSES {
        match ask() {
            Ok(Outcome::HeldElsewhere) => pause(FIRST_PAUSE * (1 << round)),
            done => return done,
        }
    }
    ask()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `patiently` makes of answers, the last of them repeated: its own, questions, pauses.
    fn ask_all(answers: &[Outcome]) -> (Outcome, usize, Vec<Duration>) {
        let (mut questions, mut pauses) = (0, Vec::new());
        let last = answers[answers.len() - 1];
        let ask = || {
            questions += 1;
            Ok(answers.get(questions - 1).copied().unwrap_or(last))
        };
        let outcome = patiently(ask, |pause| pauses.push(pause)).expect("no question fails");
        (outcome, questions, pauses)
    }

    #[test]
    fn a_free_role_is_taken_without_a_pause() {
        assert_eq!(ask_all(&[Outcome::Locked]), (Outcome::Locked, 1, vec![]));
    }

    #[test]
    fn a_role_that_is_still_held_for_a_moment_is_taken_in_the_end() {
        use Outcome::{HeldElsewhere, Locked};
        let (outcome, questions, pauses) = ask_all(&[HeldElsewhere, HeldElsewhere, Locked]);
        assert_eq!((outcome, questions), (Locked, 3));
        assert_eq!(pauses, [FIRST_PAUSE, 2 * FIRST_PAUSE]);
    }

    #[test]
    fn a_role_that_stays_held_is_given_up() {
        let (outcome, questions, pauses) = ask_all(&[Outcome::HeldElsewhere]);
        assert_eq!((outcome, questions), (Outcome::HeldElsewhere, PAUSES as usize + 1));
        assert!(pauses.iter().sum::<Duration>() < Duration::from_millis(7));
    }

    #[test]
    fn a_question_that_fails_is_not_repeated() {
        let mut questions = 0;
        let outcome = patiently(
            || {
                questions += 1;
                Err(io::Error::other("no locks here"))
            },
            |_| {},
        );
        assert!(outcome.is_err());
        assert_eq!(questions, 1);
    }
}
