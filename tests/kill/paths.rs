//! Killed before and after every system call, and at a thousand instructions, of what takes longer: create,
//! attach, wait, drop.

use std::hint::black_box;
use std::os::fd::OwnedFd;
use std::time::Duration;

use annulus::{Place, SetupError, Wait};

use super::shape::{Bare, Bytes, Got, Lanes, Sent, Shape, Slots};
use super::site::Site;
use super::state::{receiver, sender};
use super::survive::{RESUMED, Sequence, drain, stream};
use crate::support::ptrace::{Child, Tracee};
use crate::support::sweep::{CHILD_LIFE, Case, Points, Row, Verdict, report, sweep};

const CAPACITY: usize = 8;

const SPREAD: Points = Points::Spread(1000);

/// Takes both roles at once, drains what there is and passes the messages of afterwards.
fn go_on<S: Shape>(ring: &S::Ring, sequence: &mut Sequence) -> Result<(), String> {
    let mut tx = sender::<S>(ring)?;
    let mut rx = receiver::<S>(ring)?;
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
type Check<V> = Box<dyn Fn(V) -> Result<Verdict, String> + Sync>;

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

    fn check(&self, survivor: V) -> Result<Verdict, String> {
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
            Ok(Verdict::of(effect))
        }),
    }
}

/// A ring at a place, with the tags 0 and 1 in it.
fn started<S: Shape>(create: Creation<S>, place: &Place) -> Result<S::Ring, String> {
    let ring = create(CAPACITY, place.clone()).map_err(|error| format!("create: {error}"))?;
    let mut tx = sender::<S>(&ring)?;
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
            let ring = started::<S>(S::create, &place)?;
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
            Ok(Verdict::of(0))
        }),
    }
}

/// Who drops both handles and the ring.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaver {
    /// The last user of a name.
    Last,
    /// One of two.
    OneOfTwo,
    /// The last user of a ring that stays.
    LastOfPersistent,
}

impl Leaver {
    fn name(self) -> &'static str {
        match self {
            Self::Last => "last user",
            Self::OneOfTwo => "other users",
            Self::LastOfPersistent => "persistent",
        }
    }
}

/// Drop of both handles and the ring.
fn leave<S: Shape>(leaver: Leaver) -> Path<(Site, Option<S::Ring>)> {
    let last = leaver != Leaver::OneOfTwo;
    let create: Creation<S> =
        if leaver == Leaver::LastOfPersistent { S::create_persistent } else { S::create };
    Path {
        label: format!("{} drop, {}", S::LABEL, leaver.name()),
        effect: u64::from(leaver == Leaver::Last),
        start: Box::new(move || {
            let site = Site::named("drop");
            let ours = if last { None } else { Some(started::<S>(create, &site.place)?) };
            let tracee = Tracee::spawn(CHILD_LIFE, |child| {
                let place = site.place.clone();
                let ring = if last {
                    started::<S>(create, &place).expect("starts")
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
                        started::<S>(create, &site.place)?
                    }
                    Err(error) => return Err(format!("neither there nor gone: {error}")),
                },
            };
            go_on::<S>(&ring, &mut Sequence::from(0))?;
            drop(ring);
            let stays = leaver == Leaver::LastOfPersistent;
            if stays == site.files().is_empty() {
                return Err(format!("the last user left, and the name is there: {}", !stays));
            }
            clean(&site)?;
            Ok(Verdict::of(effect))
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
            Self::Woken => CHILD_LIFE,
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
    /// How often the sides had slept when the child was woken.
    sleeps: Option<u64>,
}

impl<S: Shape, H> Waited<S, H> {
    fn new(ring: S::Ring, other: H) -> Self {
        Self { ring, other, next: 0, sleeps: None }
    }

    /// How often the child went to sleep after it was woken.
    fn slices(&self) -> u64 {
        self.sleeps.map_or(0, |sleeps| S::sleeps(&self.ring) - sleeps)
    }
}

/// A new ring, and which.
type Creation<S> = fn(usize, Place) -> Result<<S as Shape>::Ring, SetupError>;

fn memory_ring<S: Shape>(create: Creation<S>) -> Result<S::Ring, String> {
    let place = Place::memfd("kill").map_err(|error| error.to_string())?;
    create(CAPACITY, place).map_err(|error| format!("create: {error}"))
}

/// A receive on an empty ring.
fn wait_to_receive<S: Shape>(
    kind: &str,
    create: Creation<S>,
    wait: Wait,
    end: End,
) -> Path<Waited<S, S::Sender>> {
    let wake: Wake<Waited<S, S::Sender>> = Box::new(|waited| {
        if waited.next == 0 && S::try_send(&mut waited.other, 0) == Ok(Sent::Yes) {
            waited.next = 1;
            waited.sleeps = Some(S::sleeps(&waited.ring));
        }
    });
    Path {
        label: format!("{} recv, empty, {kind}{wait:?}, {}", S::LABEL, end.name()),
        effect: u64::from(end == End::Woken),
        start: Box::new(move || {
            let ring = memory_ring::<S>(create)?;
            let other = sender::<S>(&ring)?;
            let fd = S::share(&ring);
            let tracee = Tracee::spawn(CHILD_LIFE, |child| {
                let ring = S::from_fd(fd).expect("opens");
                let mut rx = S::receiver(&ring).expect("the role is free");
                S::receiver_waits(&mut rx, wait);
                black_box(child.section(|| S::recv_within(&mut rx, end.limit())).is_ok());
            })?;
            Ok((tracee, Waited::new(ring, other)))
        }),
        wake: (end == End::Woken).then_some(wake),
        check: Box::new(|waited| {
            let slices = waited.slices();
            let Waited { ring, mut other, next, .. } = waited;
            let mut rx = receiver::<S>(&ring)?;
            let mut sequence = Sequence::from_within(0, next);
            stream::<S>(&mut other, &mut rx, next, &mut sequence)?;
            let start = sequence.start().ok_or("nothing was received")?;
            Ok(Verdict::of(start).after(slices))
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
fn wait_to_send<S: Shape>(
    kind: &str,
    create: Creation<S>,
    wait: Wait,
    end: End,
) -> Path<Waited<S, S::Receiver>> {
    let wake: Wake<Waited<S, S::Receiver>> = Box::new(|waited| {
        if let Ok(Got::Tag(0)) = S::try_recv(&mut waited.other) {
            // The rest too: a receiver may give room back by the several.
            let mut sequence = Sequence::from(1);
            let _ = drain::<S>(&mut waited.other, &mut sequence);
            waited.next = sequence.next();
            waited.sleeps = Some(S::sleeps(&waited.ring));
        }
    });
    let room = room::<S>();
    Path {
        label: format!("{} send, full, {kind}{wait:?}, {}", S::LABEL, end.name()),
        effect: u64::from(end == End::Woken),
        start: Box::new(move || {
            let ring = memory_ring::<S>(create)?;
            let other = receiver::<S>(&ring)?;
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
            Ok((tracee, Waited::new(ring, other)))
        }),
        wake: (end == End::Woken).then_some(wake),
        check: Box::new(move |waited| {
            let slices = waited.slices();
            let Waited { ring, mut other, next, .. } = waited;
            let mut sequence = Sequence::from(next);
            drain::<S>(&mut other, &mut sequence)?;
            let mut tx = sender::<S>(&ring)?;
            stream::<S>(&mut tx, &mut other, RESUMED, &mut sequence)?;
            let end = sequence.end_before_jump().ok_or("the successor's stream did not begin")?;
            end.checked_sub(room)
                .map(|effect| Verdict::of(effect).after(slices))
                .ok_or_else(|| format!("tag {end:#x} was committed and is lost"))
        }),
    }
}

/// The roles of a ring that the test has, by and by both.
struct Roles<S: Shape> {
    ring: S::Ring,
    tx: Option<S::Sender>,
    rx: Option<S::Receiver>,
    /// How often the sides had slept when the child's peer had come.
    sleeps: Option<u64>,
}

impl<S: Shape> Roles<S> {
    fn none(ring: S::Ring) -> Self {
        Self { ring, tx: None, rx: None, sleeps: None }
    }

    /// Takes what is missing, and passes the messages of afterwards.
    fn go_on(self) -> Result<Verdict, String> {
        let slices = self.sleeps.map_or(0, |sleeps| S::sleeps(&self.ring) - sleeps);
        let mut tx = self.tx.map_or_else(|| sender::<S>(&self.ring), Ok)?;
        let mut rx = self.rx.map_or_else(|| receiver::<S>(&self.ring), Ok)?;
        stream::<S>(&mut tx, &mut rx, RESUMED, &mut Sequence::from(0))?;
        Ok(Verdict::of(0).after(slices))
    }
}

/// A side that waits for its peer to come.
type Awaits<S> = fn(&<S as Shape>::Ring, &Child, Duration) -> bool;

fn wait_for_peer<S: Shape>(
    side: &str,
    awaits: Awaits<S>,
    come: fn(&mut Roles<S>),
    end: End,
) -> Path<Roles<S>> {
    let wake: Wake<Roles<S>> = Box::new(move |roles| {
        if roles.sleeps.is_none() {
            come(roles);
            roles.sleeps = Some(S::sleeps(&roles.ring));
        }
    });
    Path {
        label: format!("{} {side} waits for its peer, {}", S::LABEL, end.name()),
        effect: 0,
        start: Box::new(move || {
            let ring = memory_ring::<S>(S::create)?;
            let fd = S::share(&ring);
            let tracee = Tracee::spawn(CHILD_LIFE, |child| {
                let ring = S::from_fd(fd).expect("opens");
                black_box(awaits(&ring, child, end.limit()));
            })?;
            Ok((tracee, Roles::none(ring)))
        }),
        wake: (end == End::Woken).then_some(wake),
        check: Box::new(Roles::go_on),
    }
}

/// Both sides choose another way to wait.
fn set_wait<S: Shape>() -> Path<Roles<S>> {
    Path {
        label: format!("{} set_wait", S::LABEL),
        effect: 0,
        start: Box::new(|| {
            let ring = memory_ring::<S>(S::create)?;
            let fd = S::share(&ring);
            let tracee = Tracee::spawn(CHILD_LIFE, |child| {
                let ring = S::from_fd(fd).expect("opens");
                let mut tx = S::sender(&ring).expect("the role is free");
                let mut rx = S::receiver(&ring).expect("the role is free");
                child.section(|| {
                    for wait in [Wait::Block, Wait::Adaptive] {
                        S::sender_waits(&mut tx, wait);
                        S::receiver_waits(&mut rx, wait);
                    }
                });
            })?;
            Ok((tracee, Roles::none(ring)))
        }),
        wake: None,
        check: Box::new(Roles::go_on),
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
    [Leaver::Last, Leaver::OneOfTwo].map(|leaver| sweep(&leave::<S>(leaver), SPREAD, 2)).into()
}

fn persistent<S: Shape>() -> Vec<Row> {
    let site = || Site::named("persist");
    vec![
        sweep(&create::<S>(site, "create, persistent", S::create_persistent), SPREAD, 2),
        sweep(&leave::<S>(Leaver::LastOfPersistent), SPREAD, 2),
    ]
}

/// How many children wait for the end of their time at once.
const WAITERS: usize = 32;

const WAITS: [(Wait, End, usize); 3] = [
    (Wait::Block, End::Woken, 2),
    (Wait::Block, End::TimedOut, WAITERS),
    (Wait::Adaptive, End::Woken, 2),
];

fn waits<S: Shape>() -> Vec<Row> {
    let mut rows = Vec::new();
    for (wait, end, workers) in WAITS {
        rows.push(sweep(&wait_to_receive::<S>("", S::create, wait, end), SPREAD, workers));
        rows.push(sweep(&wait_to_send::<S>("", S::create, wait, end), SPREAD, workers));
    }
    rows
}

fn persistent_waits<S: Shape>() -> Vec<Row> {
    let (kind, create) = ("persistent, ", S::create_persistent as Creation<S>);
    vec![
        sweep(&wait_to_receive::<S>(kind, create, Wait::Block, End::Woken), SPREAD, 2),
        sweep(&wait_to_send::<S>(kind, create, Wait::Adaptive, End::Woken), SPREAD, 2),
    ]
}

fn waits_for_peers<S: Shape>() -> Vec<Row> {
    let sending: Awaits<S> = |ring, child, limit| {
        let mut tx = S::sender(ring).expect("the role is free");
        child.section(|| S::sender_awaits_peer(&mut tx, limit))
    };
    let receiving: Awaits<S> = |ring, child, limit| {
        let mut rx = S::receiver(ring).expect("the role is free");
        child.section(|| S::receiver_awaits_peer(&mut rx, limit))
    };
    let receiver_comes: fn(&mut Roles<S>) = |roles| roles.rx = S::receiver(&roles.ring).ok();
    let sender_comes: fn(&mut Roles<S>) = |roles| roles.tx = S::sender(&roles.ring).ok();
    let mut rows = vec![sweep(&set_wait::<S>(), SPREAD, 2)];
    for (end, workers) in [(End::Woken, 2), (End::TimedOut, WAITERS)] {
        let sender = wait_for_peer::<S>("sender", sending, receiver_comes, end);
        let receiver = wait_for_peer::<S>("receiver", receiving, sender_comes, end);
        rows.extend([sweep(&sender, SPREAD, workers), sweep(&receiver, SPREAD, workers)]);
    }
    rows
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
fn create_lanes() {
    report("create, lanes", &creates::<Bytes<Lanes>>());
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
fn attach_lanes() {
    report("attach, lanes", &attaches::<Bytes<Lanes>>());
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
fn drop_lanes() {
    report("drop, lanes", &leaves::<Bytes<Lanes>>());
}

#[test]
fn wait_for_peer_u64() {
    report("wait for a peer, set_wait, u64", &waits_for_peers::<Slots<u64>>());
}

#[test]
fn wait_for_peer_bytes() {
    report("wait for a peer, set_wait, bytes", &waits_for_peers::<Bytes>());
}

#[test]
fn wait_persistent() {
    let mut rows = persistent_waits::<Slots<u64>>();
    rows.extend(persistent_waits::<Bytes>());
    report("wait, persistent", &rows);
}

#[test]
fn wait_bare() {
    report("wait, untyped", &waits::<Bare<u64>>());
}

#[test]
fn persistent_u64() {
    report("create and drop, persistent, u64", &persistent::<Slots<u64>>());
}

#[test]
fn persistent_bytes() {
    report("create and drop, persistent, bytes", &persistent::<Bytes>());
}

#[test]
fn attach_bare() {
    report("attach, untyped", &attaches::<Bare<u64>>());
}

#[test]
fn wait_u64() {
    report("wait, u64", &waits::<Slots<u64>>());
}

#[test]
fn wait_bytes() {
    report("wait, bytes", &waits::<Bytes>());
}

#[test]
fn wait_lanes() {
    report("wait, lanes", &waits::<Bytes<Lanes>>());
}
