//! Killed before and after every system call, and at a thousand instructions, of what takes longer: create,
//! attach, wait, drop.

use std::hint::black_box;
use std::os::fd::OwnedFd;
use std::time::Duration;

use annulus::{Place, SetupError, Wait};

use super::shape::{Bytes, Got, Sent, Shape, Slots};
use super::site::Site;
use super::survive::{RESUMED, Sequence, drain, stream};
use crate::support::ptrace::{Child, Tracee};
use crate::support::sweep::{CHILD_LIFE, Case, Points, Row, report, sweep};

const CAPACITY: usize = 8;

const SPREAD: Points = Points::Spread(1000);

/// Takes both roles at once, drains what there is and passes the messages of afterwards.
fn go_on<S: Shape>(ring: &S::Ring, sequence: &mut Sequence) -> Result<(), String> {
    let mut tx = S::sender(ring).map_err(|error| format!("taking the sender's role: {error}"))?;
    let mut rx =
        S::receiver(ring).map_err(|error| format!("taking the receiver's role: {error}"))?;
    drain::<S>(&mut rx, sequence)?;
    stream::<S>(&mut tx, &mut rx, RESUMED, sequence)
}

/// `remove` cleans up, and nothing else is left at the place.
fn clean(site: &Site) -> Result<(), String> {
    match annulus::remove(&site.place, false) {
        Ok(()) | Err(SetupError::NotFound) => {}
        Err(error) => return Err(format!("remove: {error}")),
    }
    let left = site.files();
    if left.is_empty() { Ok(()) } else { Err(format!("left behind: {left:?}")) }
}

type Start<V> = Box<dyn Fn() -> Result<(Tracee, V), String> + Sync>;
type Wake<V> = Box<dyn Fn(&mut V) + Sync>;
type Check<V> = Box<dyn Fn(V) -> Result<u64, String> + Sync>;

/// A long path, by its parts.
struct Path<V> {
    label: String,
    effect: u64,
    start: Start<V>,
    wake: Option<Wake<V>>,
    check: Check<V>,
}

impl<V> Case for Path<V> {
    type Survivor = V;

    fn label(&self) -> String {
        self.label.clone()
    }

    fn start(&self) -> Result<(Tracee, V), String> {
        (self.start)()
    }

    fn sleeps(&self) -> bool {
        self.wake.is_some()
    }

    fn wake(&self, survivor: &mut V) {
        if let Some(wake) = &self.wake {
            wake(survivor);
        }
    }

    fn check(&self, survivor: V) -> Result<u64, String> {
        (self.check)(survivor)
    }

    fn effect(&self) -> u64 {
        self.effect
    }
}

/// Create, by name or as a file. The object is there complete, or not at all.
fn create<S: Shape>(
    site: fn() -> Site,
    kind: &str,
    how: fn(usize, Place) -> Result<S::Ring, SetupError>,
) -> Path<Site> {
    Path {
        label: format!("{} {kind}", S::LABEL),
        effect: 1,
        start: Box::new(move || {
            let site = site();
            let tracee = Tracee::spawn(CHILD_LIFE, |child| {
                let place = site.place.clone();
                let ring = child.section(|| how(CAPACITY, place));
                black_box(ring.is_ok());
            })?;
            Ok((tracee, site))
        }),
        wake: None,
        check: Box::new(|site| {
            let (ring, effect) = match S::open(site.place.clone()) {
                Ok(ring) => (ring, 1),
                Err(SetupError::NotFound) => {
                    if !site.files().is_empty() {
                        return Err(format!("not found, but visible: {:?}", site.files()));
                    }
                    let ring = S::create(CAPACITY, site.place.clone());
                    (ring.map_err(|error| format!("create after the kill: {error}"))?, 0)
                }
                Err(error) => return Err(format!("a half-built object: {error}")),
            };
            go_on::<S>(&ring, &mut Sequence::from(0))?;
            drop(ring);
            clean(&site)?;
            Ok(effect)
        }),
    }
}

/// A ring at a place, with the tags 0 and 1 in it.
fn started<S: Shape>(place: &Place) -> Result<S::Ring, String> {
    let ring = S::create(CAPACITY, place.clone()).map_err(|error| format!("create: {error}"))?;
    let mut tx = S::sender(&ring).map_err(|error| format!("taking the sender's role: {error}"))?;
    for tag in 0..2 {
        if S::try_send(&mut tx, tag)? != Sent::Yes {
            return Err("no room in an empty ring".into());
        }
    }
    drop(tx);
    Ok(ring)
}

/// What an attaching child does, from a name or a descriptor to a role.
type Attach = fn(Place, Option<OwnedFd>, &Child) -> bool;

fn attach<S: Shape>(kind: &str, named: bool, attach: Attach) -> Path<(Option<Site>, S::Ring)> {
    Path {
        label: format!("{} {kind}", S::LABEL),
        effect: 0,
        start: Box::new(move || {
            let site = named.then(|| Site::named("attach"));
            let place = match &site {
                Some(site) => site.place.clone(),
                None => Place::memfd("kill").map_err(|error| error.to_string())?,
            };
            let ring = started::<S>(&place)?;
            let fd = (!named).then(|| S::share(&ring));
            let tracee = Tracee::spawn(CHILD_LIFE, |child| {
                black_box(attach(place, fd, child));
            })?;
            Ok((tracee, (site, ring)))
        }),
        wake: None,
        check: Box::new(|(site, ring)| {
            go_on::<S>(&ring, &mut Sequence::from(0))?;
            drop(ring);
            site.map_or(Ok(()), |site| clean(&site))?;
            Ok(0)
        }),
    }
}

/// Drop of both handles and the ring, by the last user of a name or one of two.
fn leave<S: Shape>(last: bool) -> Path<(Site, Option<S::Ring>)> {
    Path {
        label: format!("{} drop, {}", S::LABEL, if last { "last user" } else { "other users" }),
        effect: u64::from(last),
        start: Box::new(move || {
            let site = Site::named("drop");
            let ours = if last { None } else { Some(started::<S>(&site.place)?) };
            let tracee = Tracee::spawn(CHILD_LIFE, |child| {
                let place = site.place.clone();
                let ring = if last {
                    started::<S>(&place).expect("starts")
                } else {
                    S::open(place).expect("opens")
                };
                let tx = S::sender(&ring).expect("the role is free");
                let rx = S::receiver(&ring).expect("the role is free");
                child.section(|| {
                    drop(tx);
                    drop(rx);
                    drop(ring);
                });
            })?;
            Ok((tracee, (site, ours)))
        }),
        wake: None,
        check: Box::new(move |(site, ours)| {
            let mut effect = 0;
            let ring = match ours {
                Some(ring) => ring,
                None => match S::open(site.place.clone()) {
                    Ok(ring) => ring,
                    Err(SetupError::NotFound) => {
                        effect = 1;
                        started::<S>(&site.place)?
                    }
                    Err(error) => return Err(format!("neither there nor gone: {error}")),
                },
            };
            go_on::<S>(&ring, &mut Sequence::from(0))?;
            drop(ring);
            if !site.files().is_empty() {
                return Err("the last user left, the name did not".into());
            }
            clean(&site)?;
            Ok(effect)
        }),
    }
}

/// How a wait ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// By the other side.
    Woken,
    /// By its time-out.
    TimedOut,
}

impl End {
    fn limit(self) -> Duration {
        match self {
            Self::Woken => Duration::from_secs(10),
            Self::TimedOut => Duration::from_millis(60),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Woken => "woken",
            Self::TimedOut => "timed out",
        }
    }
}

struct Waited<S: Shape, H> {
    ring: S::Ring,
    /// The handle of the other side.
    other: H,
    /// The tags that were in the ring when the child was killed, or to be received by it.
    next: u64,
}

/// A receive on an empty ring.
fn wait_to_receive<S: Shape>(wait: Wait, end: End) -> Path<Waited<S, S::Sender>> {
    let wake: Wake<Waited<S, S::Sender>> = Box::new(|waited| {
        if waited.next == 0 && S::try_send(&mut waited.other, 0) == Ok(Sent::Yes) {
            waited.next = 1;
        }
    });
    Path {
        label: format!("{} recv, empty, {wait:?}, {}", S::LABEL, end.name()),
        effect: u64::from(end == End::Woken),
        start: Box::new(move || {
            let place = Place::memfd("kill").map_err(|error| error.to_string())?;
            let ring = S::create(CAPACITY, place).map_err(|error| format!("create: {error}"))?;
            let other =
                S::sender(&ring).map_err(|error| format!("taking the sender's role: {error}"))?;
            let fd = S::share(&ring);
            let tracee = Tracee::spawn(CHILD_LIFE, |child| {
                let ring = S::from_fd(fd).expect("opens");
                let mut rx = S::receiver(&ring).expect("the role is free");
                S::receiver_waits(&mut rx, wait);
                black_box(child.section(|| S::recv_within(&mut rx, end.limit())).is_ok());
            })?;
            Ok((tracee, Waited { ring, other, next: 0 }))
        }),
        wake: (end == End::Woken).then_some(wake),
        check: Box::new(|waited| {
            let Waited { ring, mut other, next } = waited;
            let mut rx = S::receiver(&ring)
                .map_err(|error| format!("taking the receiver's role: {error}"))?;
            let mut sequence = Sequence::from_within(0, next);
            stream::<S>(&mut other, &mut rx, next, &mut sequence)?;
            sequence.start().ok_or_else(|| "nothing was received".into())
        }),
    }
}

/// How many messages go into an empty ring.
fn room<S: Shape>() -> u64 {
    let ring = S::create(CAPACITY, Place::memfd("kill").expect("a good label")).expect("creates");
    let mut tx = S::sender(&ring).expect("the role is free");
    (0..).take_while(|&tag| S::try_send(&mut tx, tag) == Ok(Sent::Yes)).count() as u64
}

/// A send into a full ring.
fn wait_to_send<S: Shape>(wait: Wait, end: End) -> Path<Waited<S, S::Receiver>> {
    let wake: Wake<Waited<S, S::Receiver>> = Box::new(|waited| {
        if let Ok(Got::Tag(0)) = S::try_recv(&mut waited.other) {
            // The rest too: a receiver may give room back by the several.
            let mut sequence = Sequence::from(1);
            let _ = drain::<S>(&mut waited.other, &mut sequence);
            waited.next = sequence.next();
        }
    });
    let room = room::<S>();
    Path {
        label: format!("{} send, full, {wait:?}, {}", S::LABEL, end.name()),
        effect: u64::from(end == End::Woken),
        start: Box::new(move || {
            let place = Place::memfd("kill").map_err(|error| error.to_string())?;
            let ring = S::create(CAPACITY, place).map_err(|error| format!("create: {error}"))?;
            let other = S::receiver(&ring)
                .map_err(|error| format!("taking the receiver's role: {error}"))?;
            let fd = S::share(&ring);
            let tracee = Tracee::spawn(CHILD_LIFE, |child| {
                let ring = S::from_fd(fd).expect("opens");
                let mut tx = S::sender(&ring).expect("the role is free");
                S::sender_waits(&mut tx, wait);
                let mut next = 0;
                while S::try_send(&mut tx, next).expect("sends") == Sent::Yes {
                    next += 1;
                }
                black_box(child.section(|| S::send_within(&mut tx, next, end.limit())).is_ok());
            })?;
            Ok((tracee, Waited { ring, other, next: 0 }))
        }),
        wake: (end == End::Woken).then_some(wake),
        check: Box::new(move |waited| {
            let Waited { ring, mut other, next } = waited;
            let mut sequence = Sequence::from(next);
            drain::<S>(&mut other, &mut sequence)?;
            let mut tx =
                S::sender(&ring).map_err(|error| format!("taking the sender's role: {error}"))?;
            stream::<S>(&mut tx, &mut other, RESUMED, &mut sequence)?;
            let end = sequence.end_before_jump().ok_or("the successor's stream did not begin")?;
            end.checked_sub(room).ok_or_else(|| format!("tag {end:#x} was committed and is lost"))
        }),
    }
}

fn attaches<S: Shape>() -> Vec<Row> {
    let sender: Attach = |place, _, child| {
        child
            .section(|| S::open(place).and_then(|ring| S::sender(&ring).map(|tx| (ring, tx))))
            .map(black_box)
            .is_ok()
    };
    let receiver: Attach = |place, _, child| {
        child
            .section(|| S::open(place).and_then(|ring| S::receiver(&ring).map(|rx| (ring, rx))))
            .map(black_box)
            .is_ok()
    };
    let by_descriptor: Attach = |_, fd, child| {
        let fd = fd.expect("a descriptor was shared");
        child
            .section(|| {
                let ring = S::from_fd(fd)?;
                let (tx, rx) = (S::sender(&ring)?, S::receiver(&ring)?);
                Ok::<_, SetupError>((ring, tx, rx))
            })
            .map(black_box)
            .is_ok()
    };
    vec![
        sweep(&attach::<S>("open, sender", true, sender), SPREAD, 2),
        sweep(&attach::<S>("open, receiver", true, receiver), SPREAD, 2),
        sweep(&attach::<S>("from_fd, both roles", false, by_descriptor), SPREAD, 2),
    ]
}

fn creates<S: Shape>() -> Vec<Row> {
    vec![
        sweep(&create::<S>(|| Site::named("create"), "create, name", S::create), SPREAD, 2),
        sweep(
            &create::<S>(|| Site::named("create"), "open_or_create, name", S::open_or_create),
            SPREAD,
            2,
        ),
        sweep(&create::<S>(Site::file, "create, file", S::create), SPREAD, 2),
    ]
}

fn leaves<S: Shape>() -> Vec<Row> {
    vec![sweep(&leave::<S>(true), SPREAD, 2), sweep(&leave::<S>(false), SPREAD, 2)]
}

/// How many children wait for the end of their time at once.
const WAITERS: usize = 12;

fn waits<S: Shape>() -> Vec<Row> {
    vec![
        sweep(&wait_to_receive::<S>(Wait::Block, End::Woken), SPREAD, 2),
        sweep(&wait_to_receive::<S>(Wait::Block, End::TimedOut), SPREAD, WAITERS),
        sweep(&wait_to_receive::<S>(Wait::Adaptive, End::Woken), SPREAD, 2),
        sweep(&wait_to_send::<S>(Wait::Block, End::Woken), SPREAD, 2),
        sweep(&wait_to_send::<S>(Wait::Block, End::TimedOut), SPREAD, WAITERS),
        sweep(&wait_to_send::<S>(Wait::Adaptive, End::Woken), SPREAD, 2),
    ]
}

#[test]
fn create_u64() {
    report("create, u64", &creates::<Slots<u64>>());
}

#[test]
fn create_bytes() {
    report("create, bytes", &creates::<Bytes>());
}

#[test]
fn attach_u64() {
    report("attach, u64", &attaches::<Slots<u64>>());
}

#[test]
fn attach_bytes() {
    report("attach, bytes", &attaches::<Bytes>());
}

#[test]
fn drop_u64() {
    report("drop, u64", &leaves::<Slots<u64>>());
}

#[test]
fn drop_bytes() {
    report("drop, bytes", &leaves::<Bytes>());
}

#[test]
fn wait_u64() {
    report("wait, u64", &waits::<Slots<u64>>());
}

#[test]
fn wait_bytes() {
    report("wait, bytes", &waits::<Bytes>());
}
