//! What can be asked of a mailbox, and what cannot.

use super::processes::unique;
use annulus::inspect::{Snapshot, State};
use annulus::{
    ByteRing, MailRecvError, MailSendError, Mailbox, Place, Ring, Role, Select, SetupError,
    Topology,
};

fn memory(capacity: usize, types: usize) -> Mailbox {
    let builder = Mailbox::builder(capacity, 32).types(types);
    builder.create(Place::memfd("choice").unwrap()).unwrap()
}

#[test]
fn types_that_there_are_not() {
    let mailbox = memory(4, 10);
    let (mut tx, mut rx) = (mailbox.sender().unwrap(), mailbox.receiver().unwrap());
    for kind in [0, 11, 64, 65, 255] {
        let error = tx.try_send(kind, b"?").unwrap_err();
        assert_eq!(error, MailSendError::NoSuchType { kind, types: 10 });
        assert!(error.to_string().contains("types 1 to 10"), "{error}");
        assert_eq!(tx.send(kind, b"?"), Err(error));
    }
    let never = MailRecvError::NeverMatches { types: 10 };
    let selections = [
        Select::Type(0),
        Select::Type(11),
        Select::Type(65),
        Select::AtMost(0),
        Select::AtMost(65),
        Select::Except(0),
        Select::Except(65),
    ];
    for select in selections {
        // Also where it would wait for ever.
        assert_eq!(rx.recv(select, &mut [0; 32]), Err(never), "{select:?}");
        assert_eq!(rx.try_peek(select, 0, &mut [0; 32]), Err(never));
        assert_eq!(rx.try_peek_batch(select, |_| true), Err(never));
        assert_eq!(mailbox.subscribe(select).unwrap_err(), never);
    }
    // Of a type that this mailbox does not have, but others do, there are no messages to leave out.
    tx.send(10, b"ten").unwrap();
    assert_eq!(rx.recv(Select::Except(11), &mut [0; 32]).unwrap().kind, 10);
    tx.send(10, b"ten").unwrap();
    assert_eq!(rx.recv(Select::AtMost(64), &mut [0; 32]).unwrap().kind, 10);
    let only = memory(4, 1);
    let error = only.receiver().unwrap().recv(Select::Except(1), &mut [0; 32]).unwrap_err();
    assert_eq!(error, MailRecvError::NeverMatches { types: 1 });
}

#[test]
fn a_message_that_does_not_fit_stays() {
    let mailbox = memory(4, 64);
    let (mut tx, mut rx) = (mailbox.sender().unwrap(), mailbox.receiver().unwrap());
    let error = tx.send(1, &[7; 33]).unwrap_err();
    assert_eq!(error, MailSendError::TooLong { length: 33, longest: 32 });
    assert!(mailbox.is_empty());
    tx.send(64, &[7; 32]).unwrap();
    tx.send(1, b"").unwrap();
    let too_small = MailRecvError::TooSmall { length: 32, kind: 64 };
    assert_eq!(rx.recv(Select::Any, &mut [0; 31]), Err(too_small));
    assert_eq!(rx.try_peek(Select::Highest, 0, &mut []), Err(too_small));
    assert_eq!(mailbox.len(), 2);
    let mut buffer = [0; 40];
    assert_eq!(rx.recv(Select::Any, &mut buffer).unwrap().length, 32);
    assert_eq!(buffer[..32], [7; 32]);
    assert_eq!(buffer[32..], [0; 8]);
    assert_eq!(rx.recv(Select::Any, &mut []).unwrap().length, 0);
}

#[test]
fn a_look_at_all_shows_what_single_ones_do_and_takes_nothing() {
    let mailbox = memory(64, 5);
    let (mut tx, mut rx) = (mailbox.sender().unwrap(), mailbox.receiver().unwrap());
    let selections =
        [Select::Any, Select::Type(2), Select::AtMost(3), Select::Except(3), Select::Highest];
    for select in selections {
        assert_eq!(rx.try_peek_batch(select, |_| true), Err(MailRecvError::Empty), "{select:?}");
    }
    for i in 0..100 {
        tx.send(1 + i % 5 * 7 % 5, &[i; 32][..usize::from(i) % 33]).unwrap();
    }
    for select in selections {
        let (mut all, mut buffer) = (Vec::new(), [0; 32]);
        let count = rx.try_peek_batch(select, |peek| {
            assert!(peek.copy_to(&mut buffer));
            all.push((peek.letter(), buffer[..peek.length()].to_vec()));
            true
        });
        assert_eq!(count, Ok(all.len()));
        for (index, (letter, message)) in all.iter().enumerate() {
            assert_eq!(rx.try_peek(select, index, &mut buffer), Ok(*letter), "{select:?} {index}");
            assert_eq!(&buffer[..letter.length], message);
        }
        assert_eq!(rx.try_peek(select, all.len(), &mut buffer), Err(MailRecvError::Empty));
        let mut left = 3;
        let some = rx.try_peek_batch(select, |_| {
            left -= 1;
            left > 0
        });
        assert_eq!(some, Ok(2));
    }
    assert_eq!(mailbox.len(), 100);
}

/// While others take, a look goes on with what is left, and never says that it has a message which it has not.
#[test]
fn a_look_at_all_goes_on_behind_what_others_take() {
    let mailbox = memory(8, 2);
    let mut tx = mailbox.sender().unwrap();
    let (mut rx, mut other) = (mailbox.receiver().unwrap(), mailbox.receiver().unwrap());
    for i in 0..6 {
        tx.send(1 + i % 2, &[i]).unwrap();
    }
    let (mut seen, mut buffer) = (Vec::new(), [0; 32]);
    let count = rx.try_peek_batch(Select::Any, |peek| {
        match peek.letter().number {
            // The one that is shown stays.
            0 => assert!(peek.copy_to(&mut buffer) && buffer[0] == 0),
            // It goes, and the next one of its type with it.
            1 => {
                for _ in 0..2 {
                    other.recv(Select::Type(2), &mut [0; 32]).unwrap();
                }
                assert!(!peek.copy_to(&mut buffer));
            }
            number => assert!(peek.copy_to(&mut buffer) && u64::from(buffer[0]) == number),
        }
        seen.push(peek.letter().number);
        true
    });
    assert_eq!((count, seen), (Ok(5), vec![0, 1, 2, 4, 5]));
}

#[test]
fn a_full_type_holds_up_no_other() {
    let mailbox = memory(2, 64);
    let (mut tx, mut rx) = (mailbox.sender().unwrap(), mailbox.receiver().unwrap());
    for kind in 1..=64 {
        tx.try_send(kind, &[kind]).unwrap();
        tx.try_send(kind, &[kind]).unwrap();
        assert_eq!(tx.try_send(kind, &[kind]), Err(MailSendError::Full));
    }
    assert_eq!((mailbox.len(), mailbox.stats().length), (128, 128));
    for kind in (1..=64).rev() {
        let mut buffer = [0; 32];
        assert_eq!(rx.try_recv(Select::Highest, &mut buffer).unwrap().kind, kind);
        assert_eq!(rx.try_recv(Select::Type(kind), &mut buffer).unwrap().kind, kind);
        assert_eq!((buffer[0], mailbox.len_of(kind)), (kind, 0));
    }
    assert!(mailbox.is_empty());
}

#[test]
fn a_mailbox_is_no_ring_and_a_ring_no_mailbox() {
    let mailbox = memory(4, 4);
    let fd = || mailbox.inheritable_fd().unwrap();
    assert!(matches!(Ring::<u64>::from_fd(fd()), Err(SetupError::Kind { .. })));
    assert!(matches!(ByteRing::from_fd(fd()), Err(SetupError::Kind { .. })));
    assert_eq!(Mailbox::from_fd(fd()).unwrap().types(), 4);
    let ring = Ring::<u64>::builder(4).topology(Topology::Mpmc);
    let ring = ring.create(Place::memfd("ring").unwrap()).unwrap();
    let error = Mailbox::from_fd(ring.inheritable_fd().unwrap()).unwrap_err();
    assert!(matches!(error, SetupError::Kind { expected: "a mailbox", .. }), "{error}");
}

#[test]
fn geometries_that_cannot_be() {
    let place = || Place::memfd("none").unwrap();
    for types in [0, 65, usize::MAX] {
        let made = Mailbox::builder(4, 8).types(types).create(place());
        assert!(matches!(made, Err(SetupError::InvalidSize { .. })), "{types} types");
    }
    for (capacity, longest) in [(0, 8), (usize::MAX, 8), (8, usize::MAX), (1 << 40, 1 << 40)] {
        let made = Mailbox::builder(capacity, longest).create(place());
        assert!(matches!(made, Err(SetupError::InvalidSize { .. })), "{capacity} of {longest}");
    }
    let made = Mailbox::builder(4, 8).topology(Topology::Spsc).create(place());
    assert!(matches!(made, Err(SetupError::InvalidSize { .. })));
    let made = Mailbox::builder(4, 8).participants(1025).create(place());
    assert!(matches!(made, Err(SetupError::InvalidSize { .. })));
    let made = Mailbox::builder(4, 8).persistent(false).split(Role::Sender);
    assert!(matches!(made, Err(SetupError::InvalidSize { .. })));
    // Messages without bytes are messages.
    let signs = Mailbox::builder(3, 0).types(2).create(place()).unwrap();
    assert_eq!((signs.capacity(), signs.longest()), (4, 0));
    signs.sender().unwrap().send(2, b"").unwrap();
    assert_eq!(signs.receiver().unwrap().recv(Select::Any, &mut []).unwrap().kind, 2);
}

#[test]
fn it_stays_until_it_is_removed() {
    let place = Place::name(&unique("mailbox")).unwrap();
    let mailbox = Mailbox::builder(4, 8).types(2).label("orders/1").create(place.clone()).unwrap();
    mailbox.sender().unwrap().send(2, b"kept").unwrap();
    drop(mailbox);
    let snapshot = Snapshot::open(&place).unwrap();
    assert_eq!((snapshot.state, snapshot.stats.length), (State::Stale, 1));
    assert_eq!((snapshot.kind.name(), snapshot.persistent), ("mailbox", true));
    let mailbox = Mailbox::attach().label("orders/1").open(place.clone()).unwrap();
    assert_eq!(mailbox.len_of(2), 1);
    let again = Mailbox::builder(4, 8).open_or_create(place.clone()).unwrap();
    assert_eq!((again.types(), again.len()), (2, 1));
    mailbox.remove().unwrap();
    assert!(matches!(mailbox.remove(), Err(SetupError::NotFound)));
    assert!(matches!(again.remove(), Err(SetupError::NotFound)));
    assert!(matches!(mailbox.sender(), Err(SetupError::NotFound)));
    assert!(matches!(again.receiver(), Err(SetupError::NotFound)));
    assert!(matches!(again.subscribe(Select::Any), Err(MailRecvError::Removed)));
    // The name is free for another one, which those who have the old one do not reach.
    let other = Mailbox::builder(4, 8).open_or_create(place).unwrap();
    assert!(other.is_empty() && !other.is_removed() && again.is_removed());
    other.remove().unwrap();
}

#[test]
fn one_that_was_half_removed_is_removed_by_whoever_opens_it() {
    use std::os::unix::fs::FileExt;
    let name = unique("mailbox");
    let place = Place::name(&name).unwrap();
    let mailbox = Mailbox::builder(4, 8).types(1).create(place.clone()).unwrap();
    let mut tx = mailbox.sender().unwrap();
    // What the first step of a removal leaves.
    let path = format!("/dev/shm/annulus.{name}");
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&1_u64.to_le_bytes(), 4096 + 128).unwrap();
    assert_eq!(tx.try_send(1, b""), Err(MailSendError::Removed));
    assert!(matches!(Mailbox::open(place.clone()), Err(SetupError::NotFound)));
    assert!(!std::path::Path::new(&path).exists());
    let other = Mailbox::builder(4, 8).open_or_create(place).unwrap();
    assert!(!other.is_removed());
    other.remove().unwrap();
}

#[test]
fn a_table_that_is_full() {
    let builder = Mailbox::builder(4, 8).types(3).participants(2);
    let mailbox = builder.create(Place::memfd("crowded").unwrap()).unwrap();
    let (tx, _rx) = (mailbox.sender().unwrap(), mailbox.receiver().unwrap());
    assert!(matches!(mailbox.sender(), Err(SetupError::Crowded { participants: 2 })));
    // Listeners need no entry.
    let _all: Vec<_> = (0..10).map(|_| mailbox.subscribe(Select::Any).unwrap()).collect();
    drop(tx);
    assert!(mailbox.sender().is_ok());
}
