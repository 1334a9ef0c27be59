//! What users of System V segments ask of the system: who has it open, whose it is, what it is.

mod processes;

use annulus::inspect::{Snapshot, State};
use annulus::{
    Broadcast, ByteBroadcast, ByteRing, Event, Latest, Mailbox, Place, Ring, Semaphore, SetupError,
    Topology, UntypedLatest, UntypedRing,
};
use processes::{fork, skip, unique};
use std::fs;
use std::path::PathBuf;

fn named(test: &str) -> (Place, PathBuf) {
    let name = unique(test);
    (Place::name(&name).unwrap(), PathBuf::from(format!("/dev/shm/annulus.{name}")))
}

#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Format {
    version: u32,
    channels: u32,
    rate: f64,
}

const FORMAT: Format = Format { version: 3, channels: 2, rate: 48e3 };

#[test]
fn metadata_is_there_for_whoever_opens() {
    let (place, file) = named("metadata");
    let made = Ring::<f32>::builder(64).metadata(&FORMAT).create(place.clone()).unwrap();
    // Where the layout says.
    let header = fs::read(file).unwrap();
    assert_eq!(header[176..184], 16_u64.to_le_bytes());
    assert_eq!(header[184..200], *bytemuck::bytes_of(&FORMAT));
    assert!(header[200..4096].iter().all(|&byte| byte == 0));
    fork(|_| {
        let ring = Ring::<f32>::open(place.clone()).unwrap();
        assert_eq!(ring.metadata::<Format>().unwrap(), FORMAT);
        assert_eq!(UntypedRing::open(place.clone()).unwrap().metadata::<Format>().unwrap(), FORMAT);
        let wrong = ring.metadata::<u64>().unwrap_err();
        assert!(matches!(wrong, SetupError::Metadata { expected: 8, actual: 16 }));
        assert_eq!(Snapshot::open(&place).unwrap().metadata, bytemuck::bytes_of(&FORMAT));
    })
    .finish();
    drop(made);

    let none = ByteRing::builder(64).create(Place::memfd("none").unwrap()).unwrap();
    assert!(none.metadata::<u8>().is_err());
    none.metadata::<[u8; 0]>().unwrap();
    // Of any size up to the limit, whatever it is aligned to.
    let odd = ByteRing::builder(64).metadata(&[7_u8; 13]);
    let odd = odd.create(Place::memfd("odd").unwrap()).unwrap();
    assert_eq!(odd.metadata::<[u8; 13]>().unwrap(), [7; 13]);
    let most = ByteRing::builder(64).metadata(&[1_u64; 128]);
    let most = most.create(Place::memfd("most").unwrap()).unwrap();
    assert_eq!(most.metadata::<[u64; 128]>().unwrap(), [1; 128]);
    let more = ByteRing::builder(64).metadata(&[1_u64; 129]);
    let more = more.create(Place::memfd("more").unwrap()).unwrap_err();
    assert!(matches!(more, SetupError::InvalidSize { .. }), "{more}");
}

#[test]
fn the_kernel_counts_who_has_it_open() {
    let (place, _) = named("attached");
    let attached = || Snapshot::open(&place).unwrap().attached;
    let ring = Ring::<u64>::builder(16).persistent(true).create(place.clone()).unwrap();
    if attached().is_none() {
        return skip("the_kernel_counts_who_has_it_open", "/proc/locks cannot be read");
    }
    assert_eq!(attached(), Some(1));
    let again = Ring::<u64>::open(place.clone()).unwrap();
    // A role is no user more.
    let _tx = again.sender().unwrap();
    assert_eq!(attached(), Some(2));
    let mut child = fork(|line| {
        let _ring = Ring::<u64>::open(place.clone()).unwrap();
        line.say(1);
        line.wait_for_end();
    });
    child.line.expect(1);
    assert_eq!(attached(), Some(3));
    // Who is killed is not counted, and nobody had to do anything for that.
    child.kill();
    assert_eq!(attached(), Some(2));
    drop((_tx, again, ring));
    assert_eq!((attached(), Snapshot::open(&place).unwrap().state), (Some(0), State::Stale));
    annulus::remove(&place, false).unwrap();
}

#[test]
fn the_mode_of_a_ring_in_use_changes() {
    use std::os::unix::fs::PermissionsExt;
    let (place, file) = named("mode");
    let builder = Ring::<u64>::builder(16).topology(Topology::Mpsc);
    let ring = builder.create(place.clone()).unwrap();
    let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o7777;
    for asked in [0o660, 0o644, 0o666, 0o600] {
        annulus::set_mode(&place, asked).unwrap();
        assert_eq!(mode(), asked);
        // It is what was agreed: nobody has to be told.
        Ring::<u64>::open(place.clone()).unwrap();
        assert_eq!(Snapshot::open(&place).unwrap().mode, asked);
    }
    for wrong in [0o400, 0o700, 0o066, 0o1600] {
        let refused = annulus::set_mode(&place, wrong).unwrap_err();
        assert!(matches!(refused, SetupError::InvalidMode { mode } if mode == wrong));
    }
    assert_eq!(mode(), 0o600);
    // Opened up behind our back: refused.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = Ring::<u64>::open(place.clone()).unwrap_err();
    assert!(matches!(refused, SetupError::ModeTooWide { mode: 0o644, allowed: 0o600 }));
    annulus::set_mode(&place, 0o600).unwrap();
    Ring::<u64>::open(place.clone()).unwrap();
    drop(ring);
    assert!(matches!(annulus::set_mode(&place, 0o600), Err(SetupError::NotFound)));
    assert!(matches!(annulus::set_owner(&place, Some(0), None), Err(SetupError::NotFound)));
}

#[test]
fn what_is_no_ring_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    for (name, contents) in [("short", vec![1; 10]), ("long", vec![1; 1 << 16])] {
        let path = directory.path().join(name);
        fs::write(&path, contents).unwrap();
        let before = fs::metadata(&path).unwrap().permissions().mode();
        assert!(annulus::set_mode(&Place::path(&path).unwrap(), 0o660).is_err());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode(), before);
    }
    let memory = Place::memfd("memory").unwrap();
    assert!(matches!(annulus::set_mode(&memory, 0o660), Err(SetupError::NotFound)));
}

/// Nothing of it is touched: its owner could cut it off meanwhile.
#[test]
fn only_the_owner_changes_the_mode() {
    use std::os::unix::fs::PermissionsExt;
    const OTHER: u32 = 12_345;
    let (place, file) = named("anothers-mode");
    if !nix::unistd::geteuid().is_root() {
        return skip("only_the_owner_changes_the_mode", "only the superuser gives files away");
    }
    let _ring = Ring::<u64>::builder(16).mode(0o640).create(place.clone()).unwrap();
    annulus::set_owner(&place, Some(OTHER), None).unwrap();
    let refused = annulus::set_mode(&place, 0o666);
    assert!(matches!(refused, Err(SetupError::PermissionDenied)), "{refused:?}");
    assert_eq!(Snapshot::open(&place).unwrap().mode, 0o640);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn a_ring_is_given_away() {
    const OTHER: u32 = 12_345;
    let (place, _) = named("owner");
    let ring = Ring::<u64>::builder(16).create(place.clone()).unwrap();
    if !nix::unistd::geteuid().is_root() {
        let refused = annulus::set_owner(&place, Some(OTHER), None);
        assert!(matches!(refused, Err(SetupError::PermissionDenied)));
        return skip("a_ring_is_given_away", "only the superuser gives files away");
    }
    annulus::set_owner(&place, Some(OTHER), Some(OTHER)).unwrap();
    let seen = Snapshot::open(&place).unwrap();
    assert_eq!((seen.owner, seen.group), (OTHER, OTHER));
    let refused = Ring::<u64>::open(place.clone()).unwrap_err();
    assert!(matches!(refused, SetupError::ForeignOwner { uid: OTHER }));
    Ring::<u64>::attach().owner(OTHER).open(place.clone()).unwrap();
    annulus::set_owner(&place, None, Some(0)).unwrap();
    let seen = Snapshot::open(&place).unwrap();
    assert_eq!((seen.owner, seen.group), (OTHER, 0));
    drop(ring);
}

#[test]
fn metadata_and_label_of_every_kind_can_be_read_back() {
    let place = || Place::memfd("kinds").unwrap();
    let latest = Latest::<u64>::builder().label("a").metadata(&FORMAT).create(place()).unwrap();
    let untyped = UntypedLatest::from_fd(latest.inheritable_fd().unwrap()).unwrap();
    let news = Broadcast::<u64>::builder(4).label("b").metadata(&FORMAT).create(place()).unwrap();
    let bytes = ByteBroadcast::from_fd(news.inheritable_fd().unwrap()).unwrap();
    let mail = Mailbox::builder(4, 8).label("c").metadata(&FORMAT).create(place()).unwrap();
    let lock = Semaphore::binary().label("d").metadata(&FORMAT).create(place()).unwrap();
    let event = Event::builder().label("e").metadata(&FORMAT).create(place()).unwrap();
    let labels = [
        (latest.label(), latest.metadata::<Format>()),
        (untyped.label(), untyped.metadata()),
        (news.label(), news.metadata()),
        (bytes.label(), bytes.metadata()),
        (mail.label(), mail.metadata()),
        (lock.label(), lock.metadata()),
        (event.label(), event.metadata()),
    ]
    .map(|(label, metadata)| {
        assert_eq!(metadata.unwrap(), FORMAT);
        label
    });
    assert_eq!(labels.concat(), "aabbcde");
    let wrong = lock.metadata::<u8>();
    assert!(matches!(wrong, Err(SetupError::Metadata { expected: 1, actual: 16 })));
}
