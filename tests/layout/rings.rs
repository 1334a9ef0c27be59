//! Rings of one sender and one receiver.

use annulus::inspect::{Snapshot, State};
use annulus::{ByteRing, Place, Ring, RingKind, Role, SetupError, UntypedRing};

use crate::kept::{Copy, DATA, RECEIVER, SENDER, keep, kept, word};

/// A message of a size that fills no word, so that the padding shows.
type Odd = [u8; 12];

fn odd(n: u8) -> Odd {
    [n; 12]
}

/// A ring of ten in which fourteen were sent, alone and in a batch, and nine received.
fn slots(place: Place) -> Ring<Odd> {
    let builder = Ring::<Odd>::builder(10).label("odd/1").mode(0o640).persistent(true);
    let ring = builder.create(place).unwrap();
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    (0..8).for_each(|n| tx.send(odd(n)).unwrap());
    (0..7).for_each(|n| assert_eq!(rx.recv().unwrap(), odd(n)));
    assert_eq!(tx.try_send_batch(&[8, 9, 10, 11, 12, 13].map(odd)), 6);
    (7..9).for_each(|n| assert_eq!(rx.recv().unwrap(), odd(n)));
    ring
}

/// A ring of a hundred bytes that has gone round once.
fn bytes(place: Place) -> ByteRing {
    let ring = ByteRing::builder(100).create(place).unwrap();
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let mut message = Vec::new();
    tx.send(&[1; 50]).unwrap();
    rx.recv(&mut message).unwrap();
    tx.send(b"twelve bytes").unwrap();
    tx.send(b"").unwrap();
    rx.recv(&mut message).unwrap();
    tx.send(b"after the end of the lap").unwrap();
    tx.send(b"last").unwrap();
    ring
}

#[test]
#[ignore = "writes the fixtures"]
fn write_the_fixtures() {
    keep("slots-1.bin", slots(Place::memfd("f").unwrap()).inheritable_fd().unwrap());
    keep("bytes-1.bin", bytes(Place::memfd("f").unwrap()).inheritable_fd().unwrap());
}

#[test]
fn the_header_is_where_it_was() {
    let slots = kept("slots-1.bin");
    assert_eq!(&slots[..8], b"annulus\0");
    let fields = [(8, 1), (16, 1), (24, 1), (32, 3), (40, 16384), (48, 10), (56, 12), (64, 1)];
    for (offset, value) in fields {
        assert_eq!(word(&slots, offset), value, "at {offset}");
    }
    assert_eq!(word(&slots, 72), 0o640);
    assert_eq!(&slots[96..104], b"odd/1\0\0\0");
    assert!(slots[104..4096].iter().all(|&byte| byte == 0));
    let bytes = kept("bytes-1.bin");
    let fields = [(8, 1), (16, 2), (24, 1), (32, 2), (40, 16384), (48, 100), (56, 100), (64, 1)];
    for (offset, value) in fields {
        assert_eq!(word(&bytes, offset), value, "at {offset}");
    }
    assert_eq!(word(&bytes, 72), 0o600);
}

#[test]
fn the_halves_are_where_they_were() {
    let slots = kept("slots-1.bin");
    assert_eq!(word(&slots, SENDER), 14);
    assert_eq!(word(&slots, RECEIVER), 9);
    assert_eq!(word(&slots, RECEIVER + 128), 9, "released when it left");
    for half in [SENDER, RECEIVER] {
        assert_eq!(word(&slots, half + 256 + 8), 1 << 1, "one was there, and left");
        assert_eq!(word(&slots, half + 256 + 16), word(&slots, 80), "its pid");
        assert!(word(&slots, half + 256 + 24) >= word(&slots, 88), "since");
        assert!(word(&slots, half + 384 + 8) > 0, "it rang");
        assert_eq!(word(&slots, half + 384 + 16), 0, "takeovers");
    }
    let bytes = kept("bytes-1.bin");
    // 64 and 24 received, then 8, a pad to the end of the lap at 120, and 32 and 16 more.
    assert_eq!((word(&bytes, RECEIVER), word(&bytes, RECEIVER + 8)), (88, 2));
    assert_eq!((word(&bytes, SENDER), word(&bytes, SENDER + 8)), (168, 5));
}

#[test]
fn the_data_is_where_it_was() {
    // Two words a message, three in a cell of a line, four cells.
    let slots = kept("slots-1.bin");
    let stamps = [0, 1, 2, 3].map(|cell| word(&slots, DATA + cell * 64));
    let full = |position: u64| (position << 2) | 1;
    // The batch of six started at position 8, in the third cell, and is stamped there.
    assert_eq!(stamps, [full(2), full(5), full(13), 9 << 2]);
    let at = |position: usize| DATA + position / 3 % 4 * 64 + 8 + position % 3 * 16;
    for position in 4..14 {
        assert_eq!(slots[at(position)..][..12], odd(position as u8), "at {position}");
        assert_eq!(slots[at(position) + 12..][..4], [0; 4], "padding at {position}");
    }
    let bytes = kept("bytes-1.bin");
    let header = |offset: usize| word(&bytes, DATA + offset);
    assert_eq!((header(88), header(96)), (1 << 32, (2 << 32) | 16), "an empty message and the pad");
    assert_eq!((header(0), header(32)), ((1 << 32) | 24, (1 << 32) | 4));
    assert_eq!(header(48), 0, "nothing follows the last");
    assert_eq!(&bytes[DATA + 8..][..24], b"after the end of the lap");
    assert_eq!(&bytes[DATA + 40..][..4], b"last");
}

#[test]
fn a_kept_ring_gives_its_messages() {
    let copy = Copy::of(&kept("slots-1.bin"));
    let snapshot = Snapshot::open(&copy.place()).unwrap();
    assert_eq!((snapshot.kind, snapshot.state), (RingKind::Slots, State::Stale));
    assert_eq!((snapshot.version, snapshot.capacity, snapshot.persistent), (1, 10, true));
    assert_eq!((snapshot.message_size, snapshot.message_align), (12, 1));
    assert_eq!((snapshot.stats.sent, snapshot.stats.received), (14, 9));
    assert!(snapshot.stats.participants.iter().all(|side| side.left && side.incarnation == 1));
    assert_eq!(snapshot.stats.participants[0].role, Role::Sender);
    let ring = Ring::<Odd>::attach().label("odd/1").open(copy.place()).unwrap();
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    assert_eq!(tx.try_send_batch(&[14, 15, 16, 17, 18, 19].map(odd)), 5);
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), (9..19).map(odd).collect::<Vec<_>>());
    drop((tx, rx, ring));
    let ring = UntypedRing::open(copy.place()).unwrap();
    assert_eq!(ring.stats().received, 19);
}

#[test]
fn a_kept_ring_of_bytes_gives_its_messages() {
    let copy = Copy::of(&kept("bytes-1.bin"));
    let ring = ByteRing::open(copy.place()).unwrap();
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    tx.try_send(b"new").unwrap();
    let mut all = Vec::new();
    rx.try_recv_batch(10, |message| all.push(message.to_vec()));
    assert_eq!(all, [&b""[..], b"after the end of the lap", b"last", b"new"]);
}

#[test]
fn another_version_is_refused() {
    for name in ["slots-1.bin", "bytes-1.bin"] {
        for version in [0_u64, 2, u64::MAX] {
            let mut bytes = kept(name);
            bytes[8..16].copy_from_slice(&version.to_le_bytes());
            let copy = Copy::of(&bytes);
            let refused = |error: SetupError| {
                let SetupError::Version { expected: 1, actual } = error else {
                    panic!("{error:?}")
                };
                assert_eq!(actual, version);
            };
            refused(UntypedRing::open(copy.place()).unwrap_err());
            refused(ByteRing::open(copy.place()).unwrap_err());
            refused(Ring::<Odd>::open(copy.place()).unwrap_err());
            refused(Snapshot::open(&copy.place()).unwrap_err());
        }
    }
}
