//! Listeners of a mailbox, killed after every instruction of beginning to listen, of being told and of waiting. They
//! have no place among the participants and no state that others see: the others find all messages, and another
//! listener hears of each.

use std::hint::black_box;

use annulus::{MailSender, Mailbox, Select, Subscription};

use super::mailbox::{CAPACITY, KIND, Letters, TYPES, fresh, message, settle};
use crate::support::ptrace::Tracee;
use crate::support::sweep::{CHILD_LIFE, Case, Points, Verdict, report, sweep};

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Subscribe,
    /// Two messages came since it was told.
    TryWait,
    /// It sleeps until one comes.
    Wait(Select),
}

struct Survivor {
    mailbox: Mailbox,
    tx: MailSender,
    /// It hears of all.
    listener: Subscription,
    letters: Letters,
}

impl Survivor {
    fn send(&mut self) -> Result<(), String> {
        let tag = 1 + self.letters.len() as u8;
        self.tx.try_send(KIND, &message(tag)).map_err(|error| error.to_string())?;
        self.letters.push((KIND, tag));
        Ok(())
    }
}

impl Case for Part {
    type Survivor = Survivor;

    fn label(&self) -> String {
        format!("mailbox listener {self:?}")
    }

    fn start(&self) -> Result<(Tracee, Survivor), String> {
        let mailbox = fresh()?;
        let failed = |error: &dyn std::error::Error| format!("sets up: {error}");
        let tx = mailbox.sender().map_err(|error| failed(&error))?;
        let listener = mailbox.subscribe(Select::Any).map_err(|error| failed(&error))?;
        let fd = mailbox.inheritable_fd().map_err(|error| failed(&error))?;
        let mut survivor = Survivor { mailbox, tx, listener, letters: Letters::new() };
        survivor.send()?;
        let mut tracee = Tracee::spawn(CHILD_LIFE, |child| {
            let mailbox = Mailbox::from_fd(fd).expect("opens");
            let listen = |select| mailbox.subscribe(select).expect("anybody may listen");
            match *self {
                Self::Subscribe => {
                    black_box(child.section(|| mailbox.subscribe(Select::Any)).is_ok());
                }
                Self::TryWait => {
                    let mut listener = listen(Select::Any);
                    child.mark();
                    let _ = black_box(child.section(|| listener.try_wait()));
                }
                Self::Wait(select) => {
                    let mut listener = listen(select);
                    let _ = black_box(child.section(|| listener.wait_timeout(CHILD_LIFE)));
                }
            }
        })?;
        if *self == Self::TryWait {
            survivor.send()?;
            survivor.send()?;
            super::state::to_section(&mut tracee)?;
        }
        Ok((tracee, survivor))
    }

    fn sleeps(&self) -> bool {
        matches!(self, Self::Wait(_))
    }

    fn wake(&self, survivor: &mut Survivor) {
        survivor.send().expect("a message is sent");
    }

    fn check(&self, mut survivor: Survivor) -> Result<Verdict, String> {
        let mut heard = |expected: usize| match survivor.listener.try_wait() {
            Ok(count) if count == expected as u64 => Ok(()),
            other => Err(format!("the other one heard of {other:?}, not {expected}")),
        };
        heard(survivor.letters.len())?;
        drop(survivor.tx);
        let found = settle(&survivor.mailbox)?;
        if found != survivor.letters {
            return Err(format!("{found:?} is there, not {:?}", survivor.letters));
        }
        // What passes while it settles: two laps of all types.
        heard(2 * TYPES * CAPACITY)?;
        Ok(Verdict::of(0))
    }

    fn effect(&self) -> u64 {
        0
    }
}

#[test]
fn mailbox_listeners() {
    let every = [Part::Subscribe, Part::TryWait].map(|part| sweep(&part, Points::Every, 2));
    let waits = [Select::Any, Select::Type(KIND), Select::Except(1)];
    let waits = waits.map(|select| sweep(&Part::Wait(select), Points::Spread(300), 2));
    report("mailbox, listeners", &every.into_iter().chain(waits).collect::<Vec<_>>());
}
