//! Who waits, who is woken, and who is told.

use super::processes::{Child, PATIENCE, fork};
use annulus::{MailRecvError, MailSendError, Mailbox, Place, Select, Wait};
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(20);

fn memory(capacity: usize, types: usize) -> Mailbox {
    let builder = Mailbox::builder(capacity, 32).types(types);
    builder.create(Place::memfd("waiting").unwrap()).unwrap()
}

/// A process that opens the mailbox anew, says `r`, and does something with it.
fn beside(mailbox: &Mailbox, body: impl FnOnce(&Mailbox)) -> Child {
    let fd = mailbox.inheritable_fd().unwrap();
    let mut child = fork(|line| {
        let mailbox = Mailbox::from_fd(fd.try_clone().unwrap()).unwrap();
        line.say(b'r');
        body(&mailbox);
    });
    child.line.expect(b'r');
    child
}

const SELECTIONS: [Select; 5] =
    [Select::Any, Select::Type(40), Select::AtMost(40), Select::Except(8), Select::Highest];

#[test]
fn each_selection_is_woken_by_what_it_matches() {
    for wait in [Wait::Block, Wait::Adaptive, Wait::Spin] {
        for select in SELECTIONS {
            let mailbox = memory(4, 64);
            let mut tx = mailbox.sender().unwrap();
            let child = beside(&mailbox, |mailbox| {
                let mut rx = mailbox.receiver().unwrap().with_wait(wait);
                for number in 0..20 {
                    let mut buffer = [0; 32];
                    let letter = rx.recv_timeout(select, &mut buffer, PATIENCE).unwrap();
                    assert_eq!((letter.kind, buffer[0]), (40, number));
                }
            });
            // Type 8 shares the futex bit of type 40.
            if matches!(select, Select::Type(_) | Select::Except(_)) {
                tx.send(8, b"not this").unwrap();
            }
            (0..20).for_each(|number| tx.send_timeout(40, &[number], PATIENCE).unwrap());
            child.finish();
        }
    }
}

#[test]
fn receivers_of_different_types_get_each_their_own() {
    const MESSAGES: u8 = 200;
    let mailbox = memory(2, 64);
    let receivers: Vec<Child> = [1, 2, 33, 64]
        .into_iter()
        .map(|kind| {
            beside(&mailbox, |mailbox| {
                let mut rx = mailbox.receiver().unwrap().with_wait(Wait::Block);
                for number in 0..MESSAGES {
                    let mut buffer = [0; 32];
                    let letter = rx.recv_timeout(Select::Type(kind), &mut buffer, PATIENCE);
                    assert_eq!((letter.unwrap().kind, buffer[0]), (kind, number));
                }
            })
        })
        .collect();
    let mut tx = mailbox.sender().unwrap().with_wait(Wait::Block);
    for number in 0..MESSAGES {
        for kind in [64, 1, 33, 2] {
            tx.send_timeout(kind, &[number], PATIENCE).unwrap();
        }
    }
    receivers.into_iter().for_each(Child::finish);
    assert!(mailbox.is_empty());
}

#[test]
fn senders_that_wait_for_room_get_it() {
    const MESSAGES: u32 = 300;
    let mailbox = memory(1, 34);
    let senders: Vec<Child> = [2, 2, 2, 34]
        .into_iter()
        .map(|kind| {
            beside(&mailbox, |mailbox| {
                let mut tx = mailbox.sender().unwrap().with_wait(Wait::Block);
                for number in 0..MESSAGES {
                    tx.send_timeout(kind, &number.to_le_bytes(), PATIENCE).unwrap();
                }
            })
        })
        .collect();
    let mut rx = mailbox.receiver().unwrap().with_wait(Wait::Block);
    let mut sums = [0_u64; 2];
    for _ in 0..4 * MESSAGES {
        let mut buffer = [0; 4];
        let letter = rx.recv_timeout(Select::Any, &mut buffer, PATIENCE).unwrap();
        sums[usize::from(letter.kind == 34)] += u64::from(u32::from_le_bytes(buffer));
    }
    let sum = (0..u64::from(MESSAGES)).sum::<u64>();
    assert_eq!(sums, [3 * sum, sum]);
    senders.into_iter().for_each(Child::finish);
    assert!(mailbox.is_empty());
}

#[test]
fn what_never_comes_is_waited_for_until_the_deadline() {
    let mailbox = memory(1, 2);
    let (mut tx, mut rx) = (mailbox.sender().unwrap(), mailbox.receiver().unwrap());
    tx.send(1, b"one").unwrap();
    let start = Instant::now();
    let received = rx.recv_timeout(Select::Type(2), &mut [0; 32], SHORT);
    assert_eq!(received, Err(MailRecvError::Timeout));
    assert_eq!(tx.send_timeout(1, b"two", SHORT), Err(MailSendError::Timeout));
    let received = rx.recv_deadline(Select::Type(2), &mut [0; 32], start);
    assert_eq!(received, Err(MailRecvError::Timeout));
    let mut twos = mailbox.subscribe(Select::Type(2)).unwrap();
    assert_eq!(twos.wait_timeout(SHORT), Err(MailRecvError::Timeout));
    assert_eq!(twos.wait_deadline(start), Err(MailRecvError::Timeout));
    // Nobody is told that others are gone: others may come.
    drop(tx);
    let received = rx.recv_timeout(Select::Type(2), &mut [0; 32], SHORT);
    assert_eq!(received, Err(MailRecvError::Timeout));
}

#[test]
fn removal_ends_every_wait() {
    for wait in [Wait::Block, Wait::Spin] {
        let mailbox = memory(1, 64);
        let mut tx = mailbox.sender().unwrap();
        tx.send(3, b"full").unwrap();
        let mut waiting: Vec<Child> = [Select::Type(40), Select::AtMost(2), Select::Except(3)]
            .into_iter()
            .map(|select| {
                beside(&mailbox, |mailbox| {
                    let mut rx = mailbox.receiver().unwrap().with_wait(wait);
                    assert_eq!(rx.recv(select, &mut [0; 32]), Err(MailRecvError::Removed));
                    assert_eq!(rx.recv(select, &mut [0; 32]), Err(MailRecvError::Removed));
                    assert_eq!(rx.try_recv(Select::Any, &mut []), Err(MailRecvError::Removed));
                    assert_eq!(rx.try_peek(Select::Any, 0, &mut []), Err(MailRecvError::Removed));
                })
            })
            .collect();
        waiting.push(beside(&mailbox, |mailbox| {
            let mut tx = mailbox.sender().unwrap().with_wait(wait);
            assert_eq!(tx.send(3, b"no room"), Err(MailSendError::Removed));
            assert_eq!(tx.try_send(4, b""), Err(MailSendError::Removed));
        }));
        waiting.push(beside(&mailbox, |mailbox| {
            let mut listener = mailbox.subscribe(Select::Any).unwrap();
            assert_eq!(listener.wait(), Err(MailRecvError::Removed));
            assert_eq!(listener.try_wait(), Err(MailRecvError::Removed));
        }));
        // Some wait by now, others may be on their way: all must hear of it.
        std::thread::sleep(SHORT);
        mailbox.remove().unwrap();
        waiting.into_iter().for_each(Child::finish);
        assert_eq!(tx.send(5, b""), Err(MailSendError::Removed));
    }
}

#[test]
fn every_listener_hears_of_every_message() {
    const MESSAGES: u64 = 300;
    let mailbox = memory(4, 64);
    // The listeners have to be there before the first message is.
    let listen = |select, expected: u64| {
        let fd = mailbox.inheritable_fd().unwrap();
        let mut child = fork(|line| {
            let mailbox = Mailbox::from_fd(fd.try_clone().unwrap()).unwrap();
            let mut listener = mailbox.subscribe(select).unwrap();
            line.say(b'r');
            let mut heard = 0;
            while heard < expected {
                heard += listener.wait_timeout(PATIENCE).unwrap();
            }
            assert_eq!(heard, expected);
        });
        child.line.expect(b'r');
        child
    };
    let listeners = [
        listen(Select::Any, MESSAGES),
        listen(Select::Any, MESSAGES),
        listen(Select::Type(1), MESSAGES / 2),
        listen(Select::Except(1), MESSAGES / 2),
    ];
    // A receiver that is blocked takes no message from them, as it would from `mq_notify`.
    let receiver = beside(&mailbox, |mailbox| {
        let mut rx = mailbox.receiver().unwrap().with_wait(Wait::Block);
        for _ in 0..MESSAGES {
            rx.recv_timeout(Select::Any, &mut [0; 32], PATIENCE).unwrap();
        }
    });
    let mut tx = mailbox.sender().unwrap();
    for number in 0..MESSAGES {
        let kind = if number % 2 == 0 { 1 } else { 64 };
        tx.send_timeout(kind, b"news", PATIENCE).unwrap();
    }
    receiver.finish();
    listeners.into_iter().for_each(Child::finish);
}

#[test]
fn a_listener_counts_what_came_since_it_was_told() {
    let mailbox = memory(4, 3);
    let (mut tx, mut rx) = (mailbox.sender().unwrap(), mailbox.receiver().unwrap());
    tx.send(1, b"before").unwrap();
    let mut all = mailbox.subscribe(Select::Any).unwrap();
    let mut low = mailbox.subscribe(Select::AtMost(2)).unwrap();
    assert_eq!((all.try_wait(), low.try_wait()), (Ok(0), Ok(0)));
    // Laps and laps, of which nobody is told meanwhile.
    for _ in 0..25 {
        tx.send(3, b"three").unwrap();
        rx.recv(Select::Type(3), &mut [0; 8]).unwrap();
    }
    tx.send(2, b"two").unwrap();
    assert_eq!((all.try_wait(), low.try_wait()), (Ok(26), Ok(1)));
    assert_eq!((all.try_wait(), low.try_wait()), (Ok(0), Ok(0)));
    assert_eq!(mailbox.len(), 2);
}

#[test]
fn a_child_has_no_part_in_its_parents_handles() {
    let mailbox = memory(4, 3);
    let (mut tx, mut rx) = (mailbox.sender().unwrap(), mailbox.receiver().unwrap());
    let mut listener = mailbox.subscribe(Select::Any).unwrap();
    let here = mailbox.clone();
    fork(move |_| {
        assert_eq!(tx.try_send(1, b""), Err(MailSendError::Forked));
        assert_eq!(tx.send(1, b""), Err(MailSendError::Forked));
        assert_eq!(rx.try_recv(Select::Any, &mut []), Err(MailRecvError::Forked));
        assert_eq!(rx.recv(Select::Any, &mut []), Err(MailRecvError::Forked));
        assert_eq!(rx.try_peek(Select::Any, 0, &mut []), Err(MailRecvError::Forked));
        assert_eq!(rx.try_peek_batch(Select::Any, |_| true), Err(MailRecvError::Forked));
        assert_eq!(listener.wait(), Err(MailRecvError::Forked));
        assert!(here.sender().is_err() && here.remove().is_err() && !here.is_removed());
        assert_eq!((here.len(), here.len_of(1)), (0, 0));
        assert!(here.subscribe(Select::Any).is_err());
    })
    .finish();
    assert!(!mailbox.is_removed());
}

#[test]
fn a_killed_claimer_holds_up_nobody_for_long() {
    // Killed wherever it was: in a lane that is not the first, sometimes in the middle of a send or a receive.
    for round in 0..40_u32 {
        let mailbox = memory(2, 8);
        let child = beside(&mailbox, |mailbox| {
            let (mut tx, mut rx) = (mailbox.sender().unwrap(), mailbox.receiver().unwrap());
            loop {
                let _ = tx.try_send(7, &[7; 32]);
                let _ = rx.try_recv(Select::Type(7), &mut [0; 32]);
            }
        });
        let end = Instant::now() + Duration::from_micros(u64::from(round) * 50);
        while Instant::now() < end {
            std::hint::spin_loop();
        }
        child.kill();
        let (mut tx, mut rx) = (mailbox.sender().unwrap(), mailbox.receiver().unwrap());
        for _ in 0..5 {
            tx.send_timeout(7, &[8; 32], PATIENCE).unwrap();
            let mut buffer = [0; 32];
            rx.recv_timeout(Select::Type(7), &mut buffer, PATIENCE).unwrap();
            assert!(buffer == [7; 32] || buffer == [8; 32], "torn: {buffer:?}");
        }
    }
}
