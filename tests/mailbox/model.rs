//! Random scripts against a plain model, which knows what the kernel's queues cannot be asked.

use super::script::{Answer, Asked, Step, bytes, step};
use annulus::Select;
use proptest::prelude::*;

const TYPES: u8 = 5;
const CAPACITY: usize = 4;

/// All messages in the order of their sending.
#[derive(Default)]
struct Model {
    messages: Vec<(u8, Vec<u8>)>,
    sent: u32,
}

impl Model {
    /// Where the messages are that `select` matches, in the order in which it wants them.
    fn order(&self, select: Select) -> Vec<usize> {
        let kind = |&at: &usize| self.messages[at].0;
        let mut all: Vec<usize> = (0..self.messages.len()).collect();
        match select {
            Select::Any => {}
            Select::Type(wanted) => all.retain(|at| kind(at) == wanted),
            Select::Except(unwanted) => all.retain(|at| kind(at) != unwanted),
            Select::AtMost(most) => {
                all.retain(|at| kind(at) <= most);
                all.sort_by_key(kind);
            }
            Select::Highest => all.sort_by_key(|at| u8::MAX - kind(at)),
        }
        all
    }

    fn ask(&mut self, step: &Step) -> Answer {
        let (select, index, room, takes) = match *step {
            Step::Send { kind, length } => {
                self.sent += 1;
                if self.messages.iter().filter(|message| message.0 == kind).count() == CAPACITY {
                    return Answer::Full;
                }
                self.messages.push((kind, bytes(self.sent, length)));
                return Answer::Sent;
            }
            Step::Receive { select, room } => (select, 0, room, true),
            Step::Peek { select, index, room } => (select, index, room, false),
        };
        let Some(&at) = self.order(select).get(index) else { return Answer::Empty };
        if self.messages[at].1.len() > room {
            return Answer::TooSmall;
        }
        let (kind, bytes) =
            if takes { self.messages.remove(at) } else { self.messages[at].clone() };
        Answer::Message { kind, bytes }
    }
}

proptest! {
    #[test]
    fn a_mailbox_answers_as_the_model(
        script in prop::collection::vec(step(TYPES), 1..200),
    ) {
        let (mut model, mut asked) = (Model::default(), Asked::new(CAPACITY, TYPES.into()));
        for step in &script {
            prop_assert_eq!(asked.ask(step), model.ask(step), "{:?}", step);
            prop_assert_eq!(asked.mailbox.len(), model.messages.len());
        }
        for kind in 1..=TYPES {
            let count = model.messages.iter().filter(|message| message.0 == kind).count();
            prop_assert_eq!(asked.mailbox.len_of(kind), count);
        }
    }
}
