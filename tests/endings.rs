//! How a conversation ended, as each kind of handle tells it.

mod processes;

use annulus::{
    Broadcast, ByteBroadcast, ByteRing, Delivery, Ending, Latest, Place, Ring, Start, Topology,
    UntypedLatest, UntypedRing,
};
use processes::{eventually, fork, unique};
use std::any::Any;

/// One side of what is at a place.
type Side = Box<dyn Any>;
/// How the other side has ended.
type Watch = Box<dyn Fn() -> Option<Ending>>;

/// A kind of handle that tells how the other side ended, and that other side.
struct Row {
    what: &'static str,
    create: fn(Place) -> Side,
    other: fn(Place) -> Side,
    watch: fn(Place) -> Watch,
}

const ROWS: [Row; 10] = [
    Row {
        what: "the receiver of a ring",
        create: |place| Box::new(Ring::<u64>::builder(4).create(place).unwrap()),
        other: |place| Box::new(Ring::<u64>::open(place).unwrap().sender().unwrap()),
        watch: |place| {
            let side = Ring::<u64>::open(place).unwrap().receiver().unwrap();
            Box::new(move || side.ending())
        },
    },
    Row {
        what: "the sender of a ring",
        create: |place| Box::new(Ring::<u64>::builder(4).create(place).unwrap()),
        other: |place| Box::new(Ring::<u64>::open(place).unwrap().receiver().unwrap()),
        watch: |place| {
            let side = Ring::<u64>::open(place).unwrap().sender().unwrap();
            Box::new(move || side.ending())
        },
    },
    Row {
        what: "the receiver of bytes",
        create: |place| Box::new(ByteRing::builder(64).create(place).unwrap()),
        other: |place| Box::new(ByteRing::open(place).unwrap().sender().unwrap()),
        watch: |place| {
            let side = ByteRing::open(place).unwrap().receiver().unwrap();
            Box::new(move || side.ending())
        },
    },
    Row {
        what: "the sender of bytes",
        create: |place| Box::new(ByteRing::builder(64).create(place).unwrap()),
        other: |place| Box::new(ByteRing::open(place).unwrap().receiver().unwrap()),
        watch: |place| {
            let side = ByteRing::open(place).unwrap().sender().unwrap();
            Box::new(move || side.ending())
        },
    },
    Row {
        what: "the receiver of an untyped ring",
        create: |place| Box::new(UntypedRing::builder(4, 8).create(place).unwrap()),
        other: |place| Box::new(UntypedRing::open(place).unwrap().sender().unwrap()),
        watch: |place| {
            let side = UntypedRing::open(place).unwrap().receiver().unwrap();
            Box::new(move || side.ending())
        },
    },
    Row {
        what: "the sender of an untyped ring",
        create: |place| Box::new(UntypedRing::builder(4, 8).create(place).unwrap()),
        other: |place| Box::new(UntypedRing::open(place).unwrap().receiver().unwrap()),
        watch: |place| {
            let side = UntypedRing::open(place).unwrap().sender().unwrap();
            Box::new(move || side.ending())
        },
    },
    Row {
        what: "the receiver of a broadcast",
        create: |place| Box::new(Broadcast::<u64>::builder(4).create(place).unwrap()),
        other: |place| Box::new(Broadcast::<u64>::open(place).unwrap().sender().unwrap()),
        watch: |place| {
            let broadcast = Broadcast::<u64>::open(place).unwrap();
            let side = broadcast.receiver(Delivery::Gate, Start::Now).unwrap();
            Box::new(move || side.ending())
        },
    },
    Row {
        what: "the receiver of a broadcast of bytes",
        create: |place| Box::new(ByteBroadcast::builder(4, 8).create(place).unwrap()),
        other: |place| Box::new(ByteBroadcast::open(place).unwrap().sender().unwrap()),
        watch: |place| {
            let broadcast = ByteBroadcast::open(place).unwrap();
            let side = broadcast.receiver(Delivery::Lossy, Start::Now).unwrap();
            Box::new(move || side.ending())
        },
    },
    Row {
        what: "the reader of a variable",
        create: |place| Box::new(Latest::<u64>::builder().create(place).unwrap()),
        other: |place| Box::new(Latest::<u64>::open(place).unwrap().writer().unwrap()),
        watch: |place| {
            let side = Latest::<u64>::open(place).unwrap().reader().unwrap();
            Box::new(move || side.ending())
        },
    },
    Row {
        what: "the reader of an untyped variable",
        create: |place| Box::new(UntypedLatest::builder(8).create(place).unwrap()),
        other: |place| Box::new(UntypedLatest::open(place).unwrap().writer().unwrap()),
        watch: |place| {
            let side = UntypedLatest::open(place).unwrap().reader().unwrap();
            Box::new(move || side.ending())
        },
    },
];

/// Has a process join as the other side, and kills it.
fn join_and_die(place: &Place, join: impl FnOnce(Place) -> Side) {
    let mut child = fork(|line| {
        let _side = join(place.clone());
        line.say(1);
        line.wait_for_end();
    });
    child.line.expect(1);
    child.kill();
}

#[test]
fn who_leaves_has_closed_and_who_is_killed_has_died() {
    for Row { what, create, other, watch } in ROWS {
        let place = Place::name(&unique("ending")).unwrap();
        let _kept = create(place.clone());
        let ending = watch(place.clone());
        assert_eq!(ending(), None, "{what}: nobody has come yet");
        for _ in 0..2 {
            let side = other(place.clone());
            assert_eq!(ending(), None, "{what}: somebody is there");
            drop(side);
            assert_eq!(ending(), Some(Ending::Closed), "{what}");
            join_and_die(&place, other);
            eventually("the kernel has noticed", || ending().is_some());
            assert_eq!(ending(), Some(Ending::Died), "{what}");
        }
        fork(|_| assert_eq!(ending(), None, "{what}: in a forked child")).finish();
    }
}

#[test]
fn in_a_persistent_ring_nothing_ends() {
    let place = Place::name(&unique("persistent")).unwrap();
    let ring = Ring::<u64>::builder(4).persistent(true).create(place.clone()).unwrap();
    let rx = ring.receiver().unwrap();
    drop(ring.sender().unwrap());
    assert_eq!(rx.ending(), None);
    join_and_die(&place, |place| Box::new(Ring::<u64>::open(place).unwrap().sender().unwrap()));
    assert_eq!(rx.ending(), None);
    ring.remove().unwrap();
}

/// One of many who was killed is told of when the others have left, too, whoever has cleared up after it; unless somebody
/// has come since, who is taken for its successor.
#[test]
fn of_many_one_that_was_killed_counts_until_another_one_comes() {
    struct Many {
        what: &'static str,
        create: fn(Place) -> Side,
        sender: fn(Place) -> Side,
        receiver: fn(Place) -> Side,
        watch: fn(Place) -> Watch,
    }
    let rows = [
        Many {
            what: "a ring",
            create: |place| {
                let builder = Ring::<u64>::builder(4).topology(Topology::Mpmc);
                Box::new(builder.create(place).unwrap())
            },
            sender: |place| Box::new(Ring::<u64>::open(place).unwrap().sender().unwrap()),
            receiver: |place| Box::new(Ring::<u64>::open(place).unwrap().receiver().unwrap()),
            watch: |place| {
                let side = Ring::<u64>::open(place).unwrap().receiver().unwrap();
                Box::new(move || side.ending())
            },
        },
        Many {
            what: "lanes",
            create: |place| {
                let builder = ByteRing::builder(64).topology(Topology::Mpsc);
                Box::new(builder.create(place).unwrap())
            },
            sender: |place| Box::new(ByteRing::open(place).unwrap().sender().unwrap()),
            receiver: |_| Box::new(()),
            watch: |place| {
                let side = ByteRing::open(place).unwrap().receiver().unwrap();
                Box::new(move || side.ending())
            },
        },
    ];
    for Many { what, create, sender, receiver, watch } in rows {
        let place = Place::name(&unique("many")).unwrap();
        let _kept = create(place.clone());
        let ending = watch(place.clone());
        let expect = |deed: &str, expected| {
            let other = sender(place.clone());
            let successor = match deed {
                "leaves" => {
                    drop(sender(place.clone()));
                    None
                }
                "dies" => {
                    join_and_die(&place, sender);
                    None
                }
                "dies and is cleared up after" => {
                    join_and_die(&place, sender);
                    drop(receiver(place.clone()));
                    None
                }
                _ => {
                    join_and_die(&place, sender);
                    drop(receiver(place.clone()));
                    Some(sender(place.clone()))
                }
            };
            assert_eq!(ending(), None, "{what}: one {deed}, and another one is there");
            drop((other, successor));
            eventually("the kernel has noticed", || ending().is_some());
            assert_eq!(ending(), Some(expected), "{what}: one {deed}");
        };
        for _ in 0..2 {
            expect("leaves", Ending::Closed);
            expect("dies", Ending::Died);
            expect("dies and is cleared up after", Ending::Died);
            expect("dies and is succeeded", Ending::Closed);
        }
    }
}
