//! Mailboxes under the same torture: processes that send, receive by type and listen, killed and replaced over and over.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use annulus::{MailReceiver, MailRecvError, MailSendError, Mailbox, Place, Select, Wait};

use crate::havoc::PATIENCE;
use crate::support::ledger::{Ledger, NUMBERS, message, stay};
use crate::torture::{Toll, massacre, waiting};

/// Few: senders and receivers run into each other all the time.
const CAPACITY: usize = 4;
const TYPES: usize = 40;
/// Types that are used: some of them share a futex bit.
const KINDS: [u8; 4] = [3, 8, 35, 40];
const SLICE: Duration = Duration::from_millis(50);

fn open(fd: &OwnedFd) -> Mailbox {
    Mailbox::from_fd(fd.try_clone().expect("a descriptor")).expect("opens")
}

fn send_all(fd: &OwnedFd, ledger: &Ledger, me: usize, random: u64) {
    let mut tx = open(fd).sender().expect("a place").with_wait(waiting(random));
    let mut next = ledger.sent(me).load(Relaxed);
    while ledger.stop().load(Relaxed) == 0 && next < NUMBERS {
        let kind = KINDS[(next ^ next >> 3) as usize % KINDS.len()];
        match tx.send_timeout(kind, bytemuck::bytes_of(&message(me, next)), SLICE) {
            Ok(()) => next += 1,
            Err(MailSendError::Timeout) => {}
            Err(error) => panic!("{error}"),
        }
        ledger.sent(me).store(next, Relaxed);
    }
    stay(ledger);
}

fn take(rx: &mut MailReceiver, ledger: &Ledger, select: Select) -> bool {
    let mut buffer = [0_u64; 3];
    match rx.recv_timeout(select, bytemuck::bytes_of_mut(&mut buffer), SLICE) {
        Ok(letter) => {
            assert_eq!(letter.length, 24);
            assert!(KINDS.contains(&letter.kind));
            ledger.count(buffer);
            true
        }
        Err(MailRecvError::Timeout) => false,
        Err(error) => panic!("{error}"),
    }
}

fn receive_all(fd: &OwnedFd, ledger: &Ledger, random: u64) {
    let mut rx = open(fd).receiver().expect("a place").with_wait(waiting(random));
    let mut round = random;
    while ledger.stop().load(Relaxed) != 2 {
        round = round.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let kind = KINDS[(round >> 40) as usize % KINDS.len()];
        let select = match round >> 60 {
            0..4 => Select::Any,
            4..7 => Select::Type(kind),
            7..10 => Select::AtMost(kind),
            10..13 => Select::Except(kind),
            _ => Select::Highest,
        };
        take(&mut rx, ledger, select);
    }
    // Nobody sends any more. What somebody died with may take a few slices to be resolved, by those who sleep.
    rx.set_wait(Wait::Block);
    let mut quiet = 0;
    while quiet < 3 {
        quiet = if take(&mut rx, ledger, Select::Any) { 0 } else { quiet + 1 };
    }
}

/// Hears of messages until no more are sent.
fn listen(fd: &OwnedFd, ledger: &Ledger, random: u64) {
    let mailbox = open(fd);
    let kind = KINDS[(random >> 8) as usize % KINDS.len()];
    let select = [Select::Any, Select::Type(kind), Select::Except(kind)][random as usize % 3];
    let mut listener = mailbox.subscribe(select).expect("anybody may listen");
    while ledger.stop().load(Relaxed) != 2 {
        match listener.wait_timeout(SLICE) {
            Ok(count) => assert!(count > 0),
            Err(error) => assert_eq!(error, MailRecvError::Timeout),
        }
    }
}

#[test]
fn a_mailbox() {
    let (senders, receivers, listeners) = (3, 3, 2);
    let mailbox = Mailbox::builder(CAPACITY, 24)
        .types(TYPES)
        .participants(senders + receivers + 2)
        .create(Place::memfd("torture").unwrap())
        .unwrap();
    let fd = mailbox.inheritable_fd().unwrap();
    let mut listener = mailbox.subscribe(Select::Any).unwrap();
    let toll = massacre(
        (senders, receivers + listeners),
        || mailbox.stats(),
        |ledger, sender, random| send_all(&fd, ledger, sender, random),
        |ledger, other, random| match other < receivers {
            true => receive_all(&fd, ledger, random),
            false => listen(&fd, ledger, random),
        },
    );
    let Toll { sent, lost, again, senders_killed, receivers: killed, .. } = toll;
    // Taken, and not counted; sent, and not noted.
    assert!(lost <= killed[..receivers].iter().sum(), "{lost} lost");
    assert!(again <= senders_killed, "{again} twice");
    // One who lives hears of each message once, and perhaps of what somebody died with.
    let heard = listener.try_wait().unwrap();
    assert!((sent..=sent + senders_killed).contains(&heard), "heard of {heard}, sent {sent}");
    // Nothing is wedged, and nobody has left anything behind.
    let (mut tx, mut rx) = (mailbox.sender().unwrap(), mailbox.receiver().unwrap());
    let mut buffer = [0; 24];
    assert_eq!(rx.try_recv(Select::Any, &mut buffer), Err(MailRecvError::Empty));
    for number in 0..2 * CAPACITY as u64 * TYPES as u64 {
        let kind = 1 + (number % TYPES as u64) as u8;
        let sent = message(0, number);
        tx.send_timeout(kind, bytemuck::bytes_of(&sent), PATIENCE).unwrap();
        rx.recv_timeout(Select::Type(kind), &mut buffer, PATIENCE).unwrap();
        assert_eq!(buffer, bytemuck::bytes_of(&sent));
    }
    for kind in KINDS {
        (0..CAPACITY).for_each(|_| tx.try_send(kind, b"room for all").unwrap());
        assert_eq!(tx.try_send(kind, b"and no more"), Err(MailSendError::Full));
    }
}
