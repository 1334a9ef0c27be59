//! In which order messages come while many send and receive.

use super::processes::{Child, PATIENCE, eventually, fork};
use super::shared::SharedWords;
use annulus::{Letter, MailReceiver, Mailbox, Place, Select};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Instant;

const TYPES: u8 = 5;

fn memory(capacity: usize) -> Mailbox {
    let builder = Mailbox::builder(capacity, 16).types(TYPES.into());
    builder.create(Place::memfd("order").unwrap()).unwrap()
}

fn receive(rx: &mut MailReceiver, select: Select) -> (Letter, [u64; 2]) {
    let mut buffer = [0; 16];
    let letter = rx.recv_timeout(select, &mut buffer, PATIENCE).expect("a message");
    let word = |at: usize| u64::from_le_bytes(buffer[at..at + 8].try_into().unwrap());
    (letter, [word(0), word(8)])
}

fn message(sender: u64, number: u64) -> Vec<u8> {
    [sender.to_le_bytes(), number.to_le_bytes()].concat()
}

/// Two senders take turns, so that each message is sent before the next one is begun. Whoever receives any gets them in
/// that order, of whatever type they are, also if another one receives, too.
#[test]
fn what_was_sent_before_comes_before() {
    const MESSAGES: u64 = 20_000;
    for receivers in [1, 2] {
        let mailbox = memory(8);
        let turn = SharedWords::new(2);
        let fd = mailbox.inheritable_fd().unwrap();
        let send = |me: u64| {
            fork(|_| {
                let mailbox = Mailbox::from_fd(fd.try_clone().unwrap()).unwrap();
                let mut tx = mailbox.sender().unwrap();
                for number in (me..MESSAGES).step_by(2) {
                    let deadline = Instant::now() + PATIENCE;
                    while turn[0].load(Acquire) != number {
                        assert!(
                            Instant::now() < deadline,
                            "the other sender never came to its end"
                        );
                        std::thread::yield_now();
                    }
                    let kind = 1 + (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 61) as u8 % TYPES;
                    tx.send_timeout(kind, &message(me, number), PATIENCE).unwrap();
                    turn[0].store(number + 1, Release);
                }
            })
        };
        let take = || {
            fork(|_| {
                let mailbox = Mailbox::from_fd(fd.try_clone().unwrap()).unwrap();
                let mut rx = mailbox.receiver().unwrap();
                let mut last = None;
                while turn[1].fetch_add(1, Relaxed) < MESSAGES {
                    let (_, [_, number]) = receive(&mut rx, Select::Any);
                    assert!(last.is_none_or(|last| last < number), "{number} after {last:?}");
                    last = Some(number);
                }
            })
        };
        let all = [send(0), send(1)].into_iter();
        let all: Vec<Child> = all.chain((0..receivers).map(|_| take())).collect();
        // Where others want the processors each turn may cost a slice: it goes on, that is all.
        while turn[0].load(Acquire) < MESSAGES {
            let before = turn[0].load(Acquire);
            eventually("there are more messages", || turn[0].load(Acquire) > before);
        }
        all.into_iter().for_each(Child::finish);
        assert!(mailbox.is_empty());
    }
}

/// What a sender sends of one type is received in its order, whoever else sends and receives, and by whatever
/// selection.
#[test]
fn a_type_is_received_in_the_order_of_its_sender() {
    const MESSAGES: u64 = 10_000;
    const SENDERS: u64 = 3;
    let mailbox = memory(8);
    let taken = SharedWords::new(1);
    let fd = mailbox.inheritable_fd().unwrap();
    let send = |me: u64| {
        fork(|_| {
            let mailbox = Mailbox::from_fd(fd.try_clone().unwrap()).unwrap();
            let mut tx = mailbox.sender().unwrap();
            for number in 0..MESSAGES {
                let kind = 1 + ((number + me) % u64::from(TYPES)) as u8;
                tx.send_timeout(kind, &message(me, number), PATIENCE).unwrap();
            }
        })
    };
    let take = |select| {
        fork(|_| {
            let mailbox = Mailbox::from_fd(fd.try_clone().unwrap()).unwrap();
            let mut rx = mailbox.receiver().unwrap();
            let mut last = [[None; TYPES as usize]; SENDERS as usize];
            while taken[0].fetch_add(1, Relaxed) < SENDERS * MESSAGES {
                let (letter, [sender, number]) = receive(&mut rx, select);
                assert_eq!(u64::from(letter.kind), 1 + (number + sender) % u64::from(TYPES));
                let last = &mut last[sender as usize][usize::from(letter.kind) - 1];
                assert!(last.is_none_or(|last| last < number), "{number} after {last:?}");
                *last = Some(number);
            }
        })
    };
    // All match every type: nobody waits for what another one has taken last.
    let selections = [Select::Any, Select::Highest, Select::AtMost(TYPES)];
    let senders = (0..SENDERS).map(send);
    let all: Vec<Child> = senders.chain(selections.into_iter().map(take)).collect();
    all.into_iter().for_each(Child::finish);
    assert!(mailbox.is_empty());
}
