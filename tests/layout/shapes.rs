//! Rings of many, and what is no ring: what was in them when they were kept is in them now.

use annulus::{
    Broadcast, BroadcastRecvError, ByteBroadcast, ByteRing, Delivery, Event, Latest, Letter,
    Mailbox, Place, Ring, Select, Semaphore, SetupError, Start, Topology, TryAcquireError,
    UntypedLatest, UntypedRing,
};

use crate::kept::{Copy, RECEIVER, SENDER, keep, kept, word};

/// A name, the number of the kind, and the topology's.
const KINDS: [(&str, u64, u64); 8] = [
    ("crowd-1.bin", 1, 4),
    ("lanes-1.bin", 2, 2),
    ("semaphore-1.bin", 16, 4),
    ("event-1.bin", 17, 4),
    ("latest-1.bin", 18, 3),
    ("broadcast-1.bin", 19, 3),
    ("mailbox-1.bin", 20, 4),
    ("byte-broadcast-1.bin", 21, 3),
];

/// Six sent, two received.
fn crowd(place: Place) -> Ring<u32> {
    let builder = Ring::<u32>::builder(8).topology(Topology::Mpmc).participants(3);
    let ring = builder.persistent(true).create(place).unwrap();
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    assert_eq!(tx.try_send_batch(&[0, 1, 2, 3, 4]), 5);
    assert_eq!((rx.recv(), rx.recv()), (Ok(0), Ok(1)));
    tx.send(5).unwrap();
    ring
}

/// Two lanes, in order.
fn lanes(place: Place) -> ByteRing {
    let builder = ByteRing::builder(64).topology(Topology::Mpsc).participants(2).ordered(true);
    let ring = builder.persistent(true).create(place).unwrap();
    let (mut first, mut second) = (ring.sender().unwrap(), ring.sender().unwrap());
    first.send(b"one").unwrap();
    second.send(b"two").unwrap();
    first.send(b"three").unwrap();
    ring
}

/// Five permits, of which three are free: two were taken for good.
fn semaphore(place: Place) -> Semaphore {
    let builder = Semaphore::counting(5).participants(2).persistent(true);
    let semaphore = builder.create(place).unwrap();
    semaphore.holder().unwrap().acquire_many(2).unwrap().consume();
    semaphore
}

/// Flags 0, 3 and 63.
fn event(place: Place) -> Event {
    let event = Event::builder().persistent(true).create(place).unwrap();
    event.handle().unwrap().raise(1 << 63 | 0b1001).unwrap();
    event
}

/// The third value.
fn latest(place: Place) -> Latest<[u16; 6]> {
    let builder = Latest::<[u16; 6]>::builder().participants(2).persistent(true);
    let variable = builder.create(place).unwrap();
    let mut writer = variable.writer().unwrap();
    (1..=3).for_each(|n| assert_eq!(writer.set([n; 6]), Ok(n.into())));
    variable
}

/// Nine sent into room for eight; nobody waits for them.
fn broadcast(place: Place) -> Broadcast<u64> {
    let builder = Broadcast::<u64>::builder(8).participants(2).persistent(true);
    let broadcast = builder.create(place).unwrap();
    let mut tx = broadcast.sender().unwrap();
    (0..9).for_each(|n| tx.try_send(n).unwrap());
    broadcast
}

fn byte_broadcast(place: Place) -> ByteBroadcast {
    let builder = ByteBroadcast::builder(8, 20).participants(2).persistent(true);
    let broadcast = builder.create(place).unwrap();
    let mut tx = broadcast.sender().unwrap();
    tx.send(b"").unwrap();
    tx.send(&[7; 21]).unwrap_err();
    tx.send(b"eleven byte").unwrap();
    broadcast
}

/// Types 1 to 3, with messages of 3, 1 and 3 that wait.
fn mailbox(place: Place) -> Mailbox {
    let mailbox = Mailbox::builder(4, 10).types(3).participants(2).create(place).unwrap();
    let (mut tx, mut rx) = (mailbox.sender().unwrap(), mailbox.receiver().unwrap());
    let mut buffer = [0; 10];
    for (kind, message) in [(2, "gone"), (3, "first"), (1, "second"), (3, "third")] {
        tx.send(kind, message.as_bytes()).unwrap();
    }
    assert_eq!(rx.recv(Select::Any, &mut buffer).unwrap().kind, 2);
    mailbox
}

#[test]
#[ignore = "writes the fixtures"]
fn write_the_fixtures() {
    let place = || Place::memfd("f").unwrap();
    keep("crowd-1.bin", crowd(place()).inheritable_fd().unwrap());
    keep("lanes-1.bin", lanes(place()).inheritable_fd().unwrap());
    keep("semaphore-1.bin", semaphore(place()).inheritable_fd().unwrap());
    keep("event-1.bin", event(place()).inheritable_fd().unwrap());
    keep("latest-1.bin", latest(place()).inheritable_fd().unwrap());
    keep("broadcast-1.bin", broadcast(place()).inheritable_fd().unwrap());
    keep("mailbox-1.bin", mailbox(place()).inheritable_fd().unwrap());
    keep("byte-broadcast-1.bin", byte_broadcast(place()).inheritable_fd().unwrap());
}

#[test]
fn each_says_what_it_is() {
    for (name, kind, topology) in KINDS {
        let bytes = kept(name);
        assert_eq!(&bytes[..8], b"annulus\0", "{name}");
        assert_eq!(
            (word(&bytes, 8), word(&bytes, 16), word(&bytes, 24)),
            (1, kind, topology),
            "{name}"
        );
    }
}

#[test]
fn words_that_everybody_shares_are_where_they_were() {
    let semaphore = kept("semaphore-1.bin");
    assert_eq!(word(&semaphore, SENDER + 128) & 0xFFFF, 3, "free permits");
    assert_eq!(word(&kept("event-1.bin"), SENDER), 1 << 63 | 0b1001, "flags");
    assert_eq!(word(&kept("broadcast-1.bin"), SENDER), 9, "messages sent");
    assert_eq!(word(&kept("mailbox-1.bin"), SENDER), 4, "numbers drawn");
    assert_eq!(word(&kept("mailbox-1.bin"), RECEIVER + 128), 0, "not removed");
}

#[test]
fn a_kept_ring_of_many_gives_its_messages() {
    let copy = Copy::of(&kept("crowd-1.bin"));
    let ring = Ring::<u32>::open(copy.place()).unwrap();
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    assert_eq!(tx.try_send_batch(&[6, 7, 8, 9, 10]), 4);
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), [2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn kept_lanes_give_their_messages_in_order() {
    let copy = Copy::of(&kept("lanes-1.bin"));
    let ring = ByteRing::open(copy.place()).unwrap();
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    tx.try_send(b"four").unwrap();
    let mut all = Vec::new();
    rx.try_recv_batch(10, |message| all.push(message.to_vec()));
    assert_eq!(all, [&b"one"[..], b"two", b"three", b"four"]);
}

#[test]
fn a_kept_semaphore_has_its_permits() {
    let copy = Copy::of(&kept("semaphore-1.bin"));
    let semaphore = Semaphore::open(copy.place()).unwrap();
    let mut holder = semaphore.holder().unwrap();
    assert_eq!((semaphore.permits(), semaphore.value()), (5, Ok(3)));
    assert!(matches!(holder.try_acquire_many(4), Err(TryAcquireError::NoPermits)));
    assert_eq!(holder.try_acquire_many(3).unwrap().count(), 3);
}

#[test]
fn a_kept_event_has_its_flags() {
    let copy = Copy::of(&kept("event-1.bin"));
    let event = Event::open(copy.place()).unwrap();
    assert_eq!(event.handle().unwrap().try_take(u64::MAX), Ok(1 << 63 | 0b1001));
    assert_eq!(event.value(), 0);
}

#[test]
fn a_kept_variable_has_its_value() {
    let copy = Copy::of(&kept("latest-1.bin"));
    let variable = Latest::<[u16; 6]>::open(copy.place()).unwrap();
    assert_eq!(variable.peek(), Ok(([3; 6], 3)));
    let (mut writer, mut reader) = (variable.writer().unwrap(), variable.reader().unwrap());
    assert_eq!(reader.get(), Ok([3; 6]));
    assert_eq!(writer.set([4; 6]), Ok(4));
    assert_eq!(reader.get(), Ok([4; 6]));
}

#[test]
fn a_kept_broadcast_gives_what_it_retained() {
    let copy = Copy::of(&kept("broadcast-1.bin"));
    let broadcast = Broadcast::<u64>::open(copy.place()).unwrap();
    let mut rx = broadcast.receiver(Delivery::Gate, Start::Oldest).unwrap();
    let retained: Vec<_> = rx.try_iter().collect();
    assert_eq!(retained.last(), Some(&8));
    assert!(retained.windows(2).all(|pair| pair[1] == pair[0] + 1), "{retained:?}");
    broadcast.sender().unwrap().try_send(9).unwrap();
    assert_eq!((rx.try_recv(), rx.try_recv()), (Ok(9), Err(BroadcastRecvError::Empty)));

    let copy = Copy::of(&kept("byte-broadcast-1.bin"));
    let broadcast = ByteBroadcast::open(copy.place()).unwrap();
    let mut rx = broadcast.receiver(Delivery::Lossy, Start::Oldest).unwrap();
    assert_eq!(rx.try_recv(), Ok(&b""[..]));
    assert_eq!(rx.try_recv(), Ok(&b"eleven byte"[..]));
}

#[test]
fn a_kept_mailbox_gives_its_messages() {
    let copy = Copy::of(&kept("mailbox-1.bin"));
    let mailbox = Mailbox::open(copy.place()).unwrap();
    assert_eq!((mailbox.len(), mailbox.len_of(3)), (3, 2));
    let mut rx = mailbox.receiver().unwrap();
    let mut next = |select| {
        let mut buffer = [0; 10];
        let Letter { kind, length, .. } = rx.try_recv(select, &mut buffer).unwrap();
        (kind, String::from_utf8(buffer[..length].to_vec()).unwrap())
    };
    assert_eq!(next(Select::Any), (3, "first".into()));
    assert_eq!(next(Select::AtMost(3)), (1, "second".into()));
    mailbox.sender().unwrap().try_send(2, b"fourth").unwrap();
    assert_eq!(next(Select::Except(3)), (2, "fourth".into()));
    assert_eq!(next(Select::Highest), (3, "third".into()));
    assert!(mailbox.is_empty());
}

#[test]
fn what_is_no_ring_is_none() {
    for (name, kind, _) in KINDS {
        let copy = Copy::of(&kept(name));
        if kind > 2 {
            assert!(
                matches!(UntypedRing::open(copy.place()), Err(SetupError::Kind { .. })),
                "{name}"
            );
        }
        if kind != 18 {
            let opened = UntypedLatest::open(copy.place());
            assert!(matches!(opened, Err(SetupError::Kind { .. })), "{name}");
        }
    }
}

#[test]
fn another_version_is_refused() {
    for (name, ..) in KINDS {
        let mut bytes = kept(name);
        bytes[8..16].copy_from_slice(&2_u64.to_le_bytes());
        let copy = Copy::of(&bytes);
        let opened = annulus::inspect::Snapshot::open(&copy.place());
        assert!(matches!(opened, Err(SetupError::Version { expected: 1, actual: 2 })), "{name}");
    }
}
