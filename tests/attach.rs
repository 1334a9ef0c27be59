//! What is created, and what is refused: segments of every wrong kind, places of every wrong kind, and
//! how long a name lives.

mod processes;

use annulus::inspect::{Snapshot, State};
use annulus::{
    Broadcast, ByteBroadcast, ByteRing, Event, Latest, Mailbox, Place, Ring, Semaphore, SetupError,
    Stream, Topology, UntypedLatest, UntypedRing,
};
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use processes::{PATIENCE, eventually, fork, skip, unique};
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

const PAGE: u64 = 4096;

/// Checks that a result is the error of a shape, with a sentence to show for it.
macro_rules! refused {
    ($result:expr, $error:pat $(if $guard:expr)?) => {
        match $result {
            Ok(_) => panic!("{} was taken", stringify!($result)),
            Err(error @ $error) $(if $guard)? => assert!(error.to_string().len() > 10),
            Err(error) => panic!("{}: {error:?}", stringify!($result)),
        }
    };
}

fn named(name: &str) -> Place {
    Place::name(name).unwrap()
}

fn file_of(name: &str) -> PathBuf {
    Path::new("/dev/shm").join(format!("annulus.{name}"))
}

/// A ring that was left behind in a directory of its own, to be tampered with.
struct Left {
    directory: tempfile::TempDir,
    path: PathBuf,
}

impl Left {
    fn new() -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = directory.path().join("ring");
        let builder = Ring::<u64>::builder(100).label("numbers/1").persistent(true);
        drop(builder.create(Place::path(&path).unwrap()).unwrap());
        Self { directory, path }
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn place(&self) -> Place {
        Place::path(&self.path).unwrap()
    }

    fn file(&self) -> File {
        File::options().read(true).write(true).open(&self.path).unwrap()
    }

    fn open(&self) -> Result<Ring<u64>, SetupError> {
        Ring::open(self.place())
    }
}

#[test]
fn every_field_of_the_header_is_checked() {
    type Check = fn(&SetupError) -> bool;
    let cases: [(&str, u64, u64, Check); 30] = [
        ("magic", 0, 0, |e| matches!(e, SetupError::NotARing)),
        ("version", 8, 2, |e| matches!(e, SetupError::Version { expected: 1, actual: 2 })),
        ("version", 8, 0, |e| matches!(e, SetupError::Version { .. })),
        ("kind", 16, 3, |e| matches!(e, SetupError::Kind { .. })),
        ("kind", 16, 2, |e| matches!(e, SetupError::Corrupt)),
        ("topology", 24, 0, |e| matches!(e, SetupError::Kind { .. })),
        ("topology", 24, 5, |e| matches!(e, SetupError::Kind { .. })),
        ("topology", 24, 4, |e| matches!(e, SetupError::Corrupt)),
        ("flags", 32, 1 << 40, |e| matches!(e, SetupError::Kind { .. })),
        ("size", 40, 4096, |e| matches!(e, SetupError::Truncated { .. })),
        ("capacity", 48, 0, |e| matches!(e, SetupError::Corrupt)),
        ("capacity", 48, u64::MAX, |e| matches!(e, SetupError::Corrupt)),
        ("capacity", 48, 1 << 20, |e| matches!(e, SetupError::Truncated { .. })),
        ("message size", 56, 0, |e| matches!(e, SetupError::Corrupt)),
        ("message align", 64, 3, |e| matches!(e, SetupError::Corrupt)),
        ("mode", 72, 0o601, |e| matches!(e, SetupError::Corrupt)),
        ("mode", 72, 0o600 | 1 << 32, |e| matches!(e, SetupError::Corrupt)),
        ("creator", 80, 1 << 32, |e| matches!(e, SetupError::Corrupt)),
        ("label", 96, 0xff, |e| matches!(e, SetupError::Corrupt)),
        ("behind the label", 152, 1, |e| matches!(e, SetupError::Corrupt)),
        ("participants", 160, 1, |e| matches!(e, SetupError::Corrupt)),
        ("participants", 160, u64::MAX, |e| matches!(e, SetupError::Corrupt)),
        ("part", 168, 1, |e| matches!(e, SetupError::Kind { .. })),
        ("part", 168, 3, |e| matches!(e, SetupError::Kind { .. })),
        ("metadata size", 176, 1025, |e| matches!(e, SetupError::Corrupt)),
        ("metadata size", 176, u64::MAX, |e| matches!(e, SetupError::Corrupt)),
        ("behind the metadata", 184, 1, |e| matches!(e, SetupError::Corrupt)),
        ("types", 1208, 1, |e| matches!(e, SetupError::Corrupt)),
        ("reserved", 1216, 1, |e| matches!(e, SetupError::Kind { .. })),
        ("reserved", 4088, 1 << 63, |e| matches!(e, SetupError::Kind { .. })),
    ];
    for (field, offset, value, check) in cases {
        let left = Left::new();
        left.file().write_all_at(&u64::to_le_bytes(value), offset).unwrap();
        let error = left.open().err().unwrap_or_else(|| panic!("{field} {value} was taken"));
        assert!(check(&error), "{field} {value}: {error:?}");
        assert!(error.to_string().len() > 10);
        assert!(UntypedRing::open(left.place()).is_err());
    }
}

#[test]
fn the_table_of_a_shared_ring_is_checked() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    for (offset, value) in
        [(24, 1), (48, 24), (48, u64::MAX), (160, 0), (160, 1025), (160, u64::MAX), (160, 1000)]
    {
        let path = directory.path().join(format!("{offset}-{value}"));
        let place = || Place::path(&path).unwrap();
        let builder = Ring::<u64>::builder(16).topology(Topology::Mpmc).persistent(true);
        drop(builder.create(place()).unwrap());
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&u64::to_le_bytes(value), offset).unwrap();
        assert!(Ring::<u64>::open(place()).is_err(), "{offset} {value}");
        assert!(Snapshot::open(&place()).is_err(), "{offset} {value}");
        let right = [(24, 4), (48, 16), (160, 64)].into_iter().find(|(at, _)| *at == offset);
        file.write_all_at(&u64::to_le_bytes(right.unwrap().1), offset).unwrap();
        let snapshot = Snapshot::open(&place()).unwrap();
        assert_eq!((snapshot.participants, snapshot.topology), (64, Topology::Mpmc));
        assert!(Ring::<u64>::open(place()).is_ok());
    }
}

#[test]
fn the_message_of_a_byte_ring_is_checked() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    for (offset, value) in [(56, 0), (56, 99), (56, 101), (56, u64::MAX), (64, 0), (64, 8)] {
        let path = directory.path().join(format!("{offset}-{value}"));
        let place = || Place::path(&path).unwrap();
        drop(ByteRing::builder(100).persistent(true).create(place()).unwrap());
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&u64::to_le_bytes(value), offset).unwrap();
        refused!(ByteRing::open(place()), SetupError::Corrupt);
        refused!(Snapshot::open(&place()), SetupError::Corrupt);
        file.write_all_at(&u64::to_le_bytes(if offset == 56 { 100 } else { 1 }), offset).unwrap();
        ByteRing::open(place()).unwrap();
    }
}

#[test]
fn another_type_is_refused() {
    let left = Left::new();
    assert_eq!(left.open().unwrap().label(), "numbers/1");
    refused!(Ring::<u32>::open(left.place()), SetupError::Payload { actual: (8, 8), .. });
    refused!(Ring::<[u8; 8]>::open(left.place()), SetupError::Payload { actual: (8, 8), .. });
    refused!(ByteRing::open(left.place()), SetupError::Kind { .. });
    refused!(Ring::<u64>::attach().label("numbers/2").open(left.place()), SetupError::Label { .. });
    refused!(
        Ring::<u64>::builder(1).label("numbers/2").open_or_create(left.place()),
        SetupError::Label { .. }
    );
    assert_eq!(UntypedRing::open(left.place()).unwrap().message_size(), 8);
    let bytes = left.beside("bytes");
    let place = || Place::path(&bytes).unwrap();
    let _ring = ByteRing::builder(100).create(place()).unwrap();
    refused!(Ring::<u64>::open(place()), SetupError::Kind { .. });
    refused!(UntypedRing::open(place()), SetupError::Kind { .. });
}

#[test]
fn a_file_of_another_size_is_refused() {
    let size = fs::metadata(Left::new().path).unwrap().len();
    for (cut, by) in [("all", size), ("the data", PAGE), ("a byte", 1)] {
        let left = Left::new();
        left.file().set_len(size - by).unwrap();
        refused!(left.open(), SetupError::Truncated { .. } | SetupError::NotARing);
        refused!(
            Snapshot::open(&left.place()),
            SetupError::Truncated { .. } | SetupError::NotARing
        );
        eprintln!("without {cut}: {}", left.open().unwrap_err());
    }
    let left = Left::new();
    left.file().write_all_at(&[1; PAGE as usize], size).unwrap();
    refused!(left.open(), SetupError::Truncated { .. });
    let left = Left::new();
    left.file().set_len(size + PAGE).unwrap();
    refused!(left.open(), SetupError::Sparse);
    let left = Left::new();
    let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(left.file(), hole, (size - PAGE) as i64, PAGE as i64).unwrap();
    refused!(left.open(), SetupError::Sparse);
    refused!(Snapshot::open(&left.place()), SetupError::Sparse);
}

#[test]
fn what_is_no_ring_is_refused() {
    let left = Left::new();
    let open = |path: &Path| Ring::<u64>::open(Place::path(path).unwrap());
    let link = left.beside("link");
    symlink(&left.path, &link).unwrap();
    refused!(open(&link), SetupError::NotAFile);
    refused!(Snapshot::open(&Place::path(&link).unwrap()), SetupError::NotAFile);
    let fifo = left.beside("fifo");
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    refused!(open(&fifo), SetupError::NotAFile);
    refused!(Snapshot::open(&Place::path(&fifo).unwrap()), SetupError::NotAFile);
    let socket = left.beside("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    refused!(open(&socket), SetupError::NotAFile);
    refused!(open(left.directory.path()), SetupError::NotAFile);
    refused!(open(Path::new("/dev/null")), SetupError::NotAFile);
    refused!(open(&left.beside("missing")), SetupError::NotFound);
    refused!(open(&left.path.join("below")), SetupError::NotFound);
    refused!(Ring::<u64>::open(Place::memfd("label").unwrap()), SetupError::InvalidName { .. });
    for fd in [
        File::open(left.directory.path()).unwrap(),
        File::options().read(true).write(true).open(&fifo).unwrap(),
        File::open("/dev/null").unwrap(),
    ] {
        refused!(Ring::<u64>::from_fd(fd.into()), SetupError::NotAFile);
    }
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    refused!(Ring::<u64>::from_fd(socket.into()), SetupError::NotAFile);
    for junk in [&b""[..], b"not a ring", &[0; 3 * PAGE as usize], &[0xff; 5 * PAGE as usize]] {
        let path = left.beside("junk");
        fs::write(&path, junk).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        refused!(open(&path), SetupError::NotARing);
    }
}

#[test]
fn a_second_name_is_refused() {
    let left = Left::new();
    fs::hard_link(&left.path, left.beside("second")).unwrap();
    refused!(left.open(), SetupError::HardLinked { links: 2 });
    refused!(Ring::<u64>::from_fd(left.file().into()), SetupError::HardLinked { links: 2 });
}

#[test]
fn a_file_that_was_opened_up_is_refused() {
    for mode in [0o604, 0o620, 0o666, 0o700] {
        let left = Left::new();
        fs::set_permissions(&left.path, Permissions::from_mode(mode)).unwrap();
        refused!(left.open(), SetupError::ModeTooWide { allowed: 0o600, .. });
        refused!(Ring::<u64>::from_fd(left.file().into()), SetupError::ModeTooWide { .. });
        Ring::<u64>::attach().mode(mode).open(left.place()).unwrap();
    }
}

#[test]
fn a_foreigners_file_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        return skip("a_foreigners_file_is_refused", "only root gives files away");
    }
    let left = Left::new();
    std::os::unix::fs::chown(&left.path, Some(12345), None).unwrap();
    refused!(left.open(), SetupError::ForeignOwner { uid: 12345 });
    refused!(Ring::<u64>::from_fd(left.file().into()), SetupError::ForeignOwner { .. });
    Ring::<u64>::attach().owner(12345).open(left.place()).unwrap();
    refused!(Ring::<u64>::attach().owner(1).open(left.place()), SetupError::ForeignOwner { .. });
    // The other way round: another user sees a ring of root's, and one of a third.
    fs::set_permissions(&left.path, Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(left.directory.path(), Permissions::from_mode(0o755)).unwrap();
    fork(|_| {
        nix::unistd::setuid(23456.into()).unwrap();
        let attach = || Ring::<u64>::attach().mode(0o666);
        refused!(attach().open(left.place()), SetupError::ForeignOwner { uid: 12345 });
        attach().owner(12345).open(left.place()).unwrap();
    })
    .finish();
    fs::set_permissions(&left.path, Permissions::from_mode(0o600)).unwrap();
    fork(|_| {
        nix::unistd::setuid(23456.into()).unwrap();
        refused!(left.open(), SetupError::PermissionDenied);
        let create = Ring::<u64>::builder(1).create(Place::path(left.beside("mine")).unwrap());
        refused!(create, SetupError::PermissionDenied);
    })
    .finish();
}

#[test]
fn names_that_are_no_names_are_refused() {
    let long = "x".repeat(248);
    for name in ["", ".", "..", "a/b", "/a", "../a", "a\0b", "a\nb", "\u{1b}[0m", &long] {
        refused!(Place::name(name), SetupError::InvalidName { .. });
    }
    // Each says what is wrong, and after that what to do.
    let text = |place: Result<Place, SetupError>| place.unwrap_err().to_string();
    assert_eq!(
        text(Place::name("")),
        "the name \"\" is empty; give one of 1 to 247 bytes, such as ticks"
    );
    for name in ["", "..", "a/b", "a\0b", "a\nb", &long] {
        assert_eq!(text(Place::name(name)).matches("; ").count(), 1, "{name:?}");
    }
    for path in ["", "/", "a\0b"] {
        assert_eq!(text(Place::path(path)).matches("; ").count(), 1, "{path:?}");
    }
    for label in ["a\0b", &"x".repeat(250)] {
        assert_eq!(text(Place::memfd(label)).matches("; ").count(), 1, "{label:?}");
    }
    Place::name(&"x".repeat(247)).unwrap();
    for path in ["", "/", "..", "a/..", "/tmp/", "a/b/", "a\0b"] {
        refused!(Place::path(path), SetupError::InvalidName { .. });
    }
    refused!(Place::memfd("a\0b"), SetupError::InvalidName { .. });
    refused!(Place::memfd(&"x".repeat(250)), SetupError::InvalidName { .. });
    let labelled = |label: &str| {
        Ring::<u64>::builder(1).label(label).create(Place::memfd(&"x".repeat(249)).unwrap())
    };
    refused!(labelled(&"x".repeat(65)), SetupError::InvalidName { .. });
    refused!(labelled("a\0b"), SetupError::InvalidName { .. });
    assert_eq!(labelled(&"é".repeat(32)).unwrap().label(), "é".repeat(32));
}

#[test]
fn a_table_for_nobody_is_refused() {
    let place = || Place::memfd("nobody").unwrap();
    let (mpsc, mpmc) = (Topology::Mpsc, Topology::Mpmc);
    let refusals = [
        Ring::<u64>::builder(8).topology(mpmc).participants(0).create(place()).map(drop),
        UntypedRing::builder(8, 8).topology(mpmc).participants(0).create(place()).map(drop),
        ByteRing::builder(64).topology(mpsc).participants(0).create(place()).map(drop),
        Stream::builder(64).topology(mpsc).participants(0).create(place()).map(drop),
        Mailbox::builder(8, 8).participants(0).create(place()).map(drop),
        Broadcast::<u64>::builder(8).participants(0).create(place()).map(drop),
        ByteBroadcast::builder(8, 8).participants(0).create(place()).map(drop),
        Latest::<u64>::builder().participants(0).create(place()).map(drop),
        UntypedLatest::builder(8).participants(0).create(place()).map(drop),
        Semaphore::counting(8).participants(0).create(place()).map(drop),
    ];
    for refusal in refusals {
        let text = refusal.unwrap_err().to_string();
        assert!(text.contains("1 to 1024 participants"), "{text}");
    }
    // Of no consequence.
    Ring::<u64>::builder(8).participants(0).create(place()).unwrap();
    Event::builder().participants(0).create(place()).unwrap();
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let memfd = || Place::memfd("size").unwrap();
    let slots = |capacity| Ring::<u64>::builder(capacity).create(memfd());
    let bytes = |capacity| ByteRing::builder(capacity).create(memfd());
    let untyped = |capacity, size| UntypedRing::builder(capacity, size).create(memfd());
    refused!(slots(0), SetupError::InvalidSize { .. });
    refused!(bytes(0), SetupError::InvalidSize { .. });
    refused!(untyped(0, 8), SetupError::InvalidSize { .. });
    refused!(untyped(8, 0), SetupError::InvalidSize { .. });
    refused!(Ring::<[u64; 0]>::builder(1).create(memfd()), SetupError::InvalidSize { .. });
    for huge in [usize::MAX, usize::MAX / 2 + 1, 1 << 60, 1 << 46] {
        refused!(slots(huge), SetupError::InvalidSize { .. });
        refused!(bytes(huge), SetupError::InvalidSize { .. });
        refused!(untyped(huge, huge), SetupError::InvalidSize { .. });
        refused!(untyped(1, huge), SetupError::InvalidSize { .. });
    }
    refused!(untyped(1 << 40, 1 << 40), SetupError::InvalidSize { .. });
    // A small stream has more room than was asked for; one for nothing is refused like any ring.
    assert!(Stream::builder(1).create(memfd()).unwrap().ring().capacity() >= 4096);
    refused!(Stream::builder(0).create(memfd()), SetupError::InvalidSize { .. });
    // Addressable, and more than the machine has.
    refused!(slots(1 << 39), SetupError::NoSpace { .. });
    refused!(bytes(1 << 42), SetupError::NoSpace { .. });
    let named = Ring::<u64>::builder(1 << 39).create(named(&unique("huge")));
    refused!(named, SetupError::NoSpace { .. });
    for mode in [0o1600, 0o200, 0o400, 0, 0o10600, 0o700, 0o611] {
        let result = Ring::<u64>::builder(1).mode(mode).create(memfd());
        refused!(result, SetupError::InvalidMode { .. });
    }
}

/// Runs `body` as root of a private mount namespace; says why not if that cannot be had.
fn in_private_mounts(test: &str, body: impl FnOnce()) {
    if !nix::unistd::geteuid().is_root() {
        return skip(test, "needs root for a mount namespace");
    }
    let mut child = fork(|line| {
        let private = unshare(CloneFlags::CLONE_NEWNS).and_then(|()| {
            mount(
                None::<&str>,
                "/",
                None::<&str>,
                MsFlags::MS_REC | MsFlags::MS_PRIVATE,
                None::<&str>,
            )
        });
        line.say(u8::from(private.is_ok()));
        if private.is_ok() {
            body();
        }
    });
    if child.line.hear() == 0 {
        skip(test, "the kernel gives no mount namespace");
    }
    child.finish();
}

#[test]
fn a_full_file_system_is_an_error_at_creation() {
    in_private_mounts("a_full_file_system_is_an_error_at_creation", || {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let tmpfs = Some("tmpfs");
        mount(tmpfs, directory.path(), tmpfs, MsFlags::empty(), Some("size=256k")).unwrap();
        let place = |name: &str| Place::path(directory.path().join(name)).unwrap();
        for _ in 0..3 {
            let error = ByteRing::builder(1 << 20).create(place("large")).unwrap_err();
            assert!(matches!(error, SetupError::NoSpace { needed } if needed > 1 << 20), "{error}");
        }
        // Nothing is left of it, so that a small one fits.
        let ring = ByteRing::builder(140 * 1024).create(place("small")).unwrap();
        refused!(ByteRing::builder(140 * 1024).create(place("second")), SetupError::NoSpace { .. });
        // One that is there is opened, though there is no room for another.
        let again = ByteRing::builder(140 * 1024).open_or_create(place("small")).unwrap();
        let (mut tx, mut rx) = (ring.sender().unwrap(), again.receiver().unwrap());
        for i in 0..1000 {
            tx.try_send(&[i as u8; 1000]).unwrap();
            assert_eq!(rx.claim().unwrap().to_vec(), [i as u8; 1000]);
        }
        let names: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(names.len(), 1);
        drop((tx, rx, ring, again));
        umount2(directory.path(), MntFlags::MNT_DETACH).unwrap();
        drop(directory);
    });
}

#[test]
fn without_proc_the_error_says_so() {
    let name = unique("no-proc");
    let before = Ring::<u64>::builder(4).create(named(&name)).unwrap();
    in_private_mounts("without_proc_the_error_says_so", || {
        mount(Some("tmpfs"), "/proc", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        refused!(Ring::<u64>::builder(4).create(named(&unique("nothing"))), SetupError::NoProc);
        let ring = Ring::<u64>::builder(4).create(Place::memfd("m").unwrap()).unwrap();
        refused!(ring.sender(), SetupError::NoProc);
        refused!(Ring::<u64>::from_fd(ring.inheritable_fd().unwrap()), SetupError::NoProc);
        let ring = Ring::<u64>::open(named(&name)).unwrap();
        refused!(ring.receiver(), SetupError::NoProc);
        assert_eq!(Snapshot::open(&named(&name)).unwrap().capacity, 4);
    });
    before.sender().unwrap().send(1).unwrap();
}

#[test]
fn without_descriptors_nothing_is_lost() {
    let name = unique("descriptors");
    let ring = Ring::<u64>::builder(4).create(named(&name)).unwrap();
    fork(|_| {
        let open = || fs::read_dir("/proc/self/fd").unwrap().count();
        let mine = Ring::<u64>::open(named(&name)).unwrap();
        let before = open();
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        for spare in 0..4 {
            let null: Vec<_> = (0..64).map(|_| File::open("/dev/null").unwrap()).collect();
            let highest = null.iter().map(AsRawFd::as_raw_fd).max().unwrap();
            drop(null);
            let mut taken: Vec<_> = (0..64).map(|_| File::open("/dev/null").unwrap()).collect();
            setrlimit(Resource::RLIMIT_NOFILE, highest as u64 + 1, hard).unwrap();
            taken.truncate(taken.len() - spare);
            let results = [
                Ring::<u64>::builder(4).create(named(&unique("never"))).map(drop),
                Ring::<u64>::builder(4).create(Place::memfd("never").unwrap()).map(drop),
                Ring::<u64>::open(named(&name)).map(drop),
                mine.sender().map(drop),
                mine.inheritable_fd().map(drop),
            ];
            for result in results {
                match result {
                    Ok(()) => assert!(spare > 0),
                    Err(error) => assert!(matches!(error, SetupError::Os { .. }), "{error:?}"),
                }
            }
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
            drop(taken);
            assert_eq!(open(), before, "a descriptor was lost");
        }
        mine.sender().unwrap().send(7).unwrap();
    })
    .finish();
    assert_eq!(ring.receiver().unwrap().recv_timeout(PATIENCE).unwrap(), 7);
}

#[test]
fn the_umask_does_not_change_the_mode() {
    for mask in [0o000, 0o077, 0o777] {
        fork(|_| {
            umask(Mode::from_bits_truncate(mask));
            for mode in [0o600, 0o660, 0o666, 0o644] {
                let name = unique("umask");
                let builder = Ring::<u64>::builder(4).mode(mode);
                let _ring = builder.create(named(&name)).unwrap();
                assert_eq!(fs::metadata(file_of(&name)).unwrap().mode() & 0o7777, mode);
                assert_eq!(Snapshot::open(&named(&name)).unwrap().mode, mode);
                Ring::<u64>::open(named(&name)).unwrap();
                let ring = Ring::<u64>::builder(4).mode(mode).create(Place::memfd("m").unwrap());
                let file = File::from(ring.unwrap().inheritable_fd().unwrap());
                assert_eq!(file.metadata().unwrap().mode() & 0o7777, mode);
            }
        })
        .finish();
    }
}

#[test]
fn a_name_never_appears_half_built() {
    let name = &unique("complete");
    let rounds = 300;
    let done = &AtomicBool::new(false);
    thread::scope(|scope| {
        let looker = scope.spawn(move || {
            let mut seen = 0;
            while !done.load(Ordering::Relaxed) {
                match Snapshot::open(&named(name)) {
                    Ok(snapshot) => {
                        assert_eq!((snapshot.capacity, snapshot.message_size), (20_000, 8));
                        seen += 1;
                    }
                    Err(error) => assert!(matches!(error, SetupError::NotFound), "{error:?}"),
                }
                match Ring::<u64>::open(named(name)) {
                    Ok(ring) => assert_eq!(ring.capacity(), 20_000),
                    Err(error) => assert!(matches!(error, SetupError::NotFound), "{error:?}"),
                }
            }
            seen
        });
        for _ in 0..rounds {
            match Ring::<u64>::builder(20_000).create(named(name)) {
                Ok(ring) => drop(ring),
                // The looker has the last one open still.
                Err(error) => assert!(matches!(error, SetupError::AlreadyExists), "{error:?}"),
            }
        }
        done.store(true, Ordering::Relaxed);
        assert!(looker.join().unwrap() > 0, "the looker never met a ring");
    });
    assert!(!file_of(name).exists());
}

#[test]
fn what_is_taken_is_not_created() {
    let left = Left::new();
    let create = |path: PathBuf| Ring::<u64>::builder(4).create(Place::path(path).unwrap());
    refused!(create(left.path.clone()), SetupError::AlreadyExists);
    symlink("/nowhere", left.beside("link")).unwrap();
    refused!(create(left.beside("link")), SetupError::AlreadyExists);
    fs::create_dir(left.beside("directory")).unwrap();
    refused!(create(left.beside("directory")), SetupError::AlreadyExists);
    refused!(create(left.beside("missing").join("ring")), SetupError::NotFound);
    refused!(create(left.path.join("ring")), SetupError::NotFound);
    assert_eq!(left.open().unwrap().capacity(), 100);
}

/// An image of a ring in a memory file with just these seals.
fn memfd_with(seals: SealFlag) -> File {
    let ring = Ring::<u64>::builder(4).create(Place::memfd("image").unwrap()).unwrap();
    let image = File::from(ring.inheritable_fd().unwrap());
    let mut bytes = vec![0; image.metadata().unwrap().len() as usize];
    image.read_exact_at(&mut bytes, 0).unwrap();
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create("copy", flags).unwrap());
    file.write_all(&bytes).unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).unwrap();
    file
}

#[test]
fn a_memory_file_must_be_sealed() {
    let (shrink, grow) = (SealFlag::F_SEAL_SHRINK, SealFlag::F_SEAL_GROW);
    let seal = SealFlag::F_SEAL_SEAL;
    for missing in [SealFlag::empty(), shrink | grow, shrink | seal, grow | seal] {
        refused!(Ring::<u64>::from_fd(memfd_with(missing).into()), SetupError::NotSealed);
    }
    let all = shrink | grow | seal;
    Ring::<u64>::from_fd(memfd_with(all).into()).unwrap();
    // Sealed against us, too.
    let read_only = memfd_with(all | SealFlag::F_SEAL_FUTURE_WRITE);
    refused!(
        Ring::<u64>::from_fd(read_only.into()),
        SetupError::PermissionDenied | SetupError::Os { .. }
    );
}

#[test]
fn ours_are_sealed_and_not_executable() {
    let ring = Ring::<u64>::builder(4).create(Place::memfd("sealed").unwrap()).unwrap();
    let file = File::from(ring.inheritable_fd().unwrap());
    let seals = fcntl(&file, FcntlArg::F_GET_SEALS).unwrap();
    let complete = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    assert!(SealFlag::from_bits_retain(seals).contains(complete));
    let size = file.metadata().unwrap().len();
    for other in [0, size - 1, size + 1, size + PAGE] {
        assert!(file.set_len(other).is_err());
    }
    assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
    let no_exec = MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    if memfd_create("probe", no_exec).is_err() {
        return skip("ours_are_sealed_and_not_executable", "the kernel has no MFD_NOEXEC_SEAL");
    }
    const F_SEAL_EXEC: i32 = 0x20;
    assert_ne!(seals & F_SEAL_EXEC, 0);
    assert!(file.set_permissions(Permissions::from_mode(0o700)).is_err());
}

#[test]
fn an_anonymous_ring_lives_as_long_as_its_handles() {
    let ring = Ring::<u64>::builder(4).create(Place::memfd("anonymous").unwrap()).unwrap();
    let fd = ring.inheritable_fd().unwrap();
    ring.sender().unwrap().send(5).unwrap();
    drop(ring);
    let ring = Ring::<u64>::from_fd(fd).unwrap();
    assert_eq!(ring.receiver().unwrap().recv_timeout(PATIENCE).unwrap(), 5);
    ring.remove().unwrap();
}

#[test]
fn a_name_goes_with_its_last_user() {
    let name = unique("last");
    let first = Ring::<u64>::builder(4).create(named(&name)).unwrap();
    let tx = first.sender().unwrap();
    let second = Ring::<u64>::open(named(&name)).unwrap();
    assert_eq!(Snapshot::open(&named(&name)).unwrap().state, State::Live);
    drop((first, tx));
    assert_eq!(Snapshot::open(&named(&name)).unwrap().state, State::Idle);
    refused!(annulus::remove(&named(&name), false), SetupError::InUse);
    // A failed attempt to open counts for nothing.
    refused!(Ring::<u32>::open(named(&name)), SetupError::Payload { .. });
    drop(second);
    assert!(!file_of(&name).exists());
    refused!(Ring::<u64>::open(named(&name)), SetupError::NotFound);
    refused!(annulus::remove(&named(&name), true), SetupError::NotFound);
}

#[test]
fn two_who_leave_at_once_leave_no_name() {
    for _ in 0..500 {
        let name = unique("both");
        let first = Ring::<u64>::builder(4).create(named(&name)).unwrap();
        let second = Ring::<u64>::open(named(&name)).unwrap();
        let barrier = &Barrier::new(2);
        thread::scope(|scope| {
            for ring in [first, second] {
                scope.spawn(move || {
                    barrier.wait();
                    drop(ring);
                });
            }
        });
        assert!(!file_of(&name).exists(), "both left, and the name stayed");
    }
}

#[test]
fn a_name_goes_with_its_last_user_by_descriptor() {
    let name = unique("descriptor");
    let ring = Ring::<u64>::builder(4).create(named(&name)).unwrap();
    let other = Ring::<u64>::from_fd(ring.inheritable_fd().unwrap()).unwrap();
    drop(ring);
    assert!(file_of(&name).exists());
    drop(other);
    assert!(!file_of(&name).exists());
}

/// The bytes that are locked: by all users together, and by whoever removes the name.
const USERS: i64 = 1 << 62;
const NAME: i64 = USERS + 3;

/// Locks `byte` of the file for this description alone, as the library does.
fn lock(file: &File, byte: i64) {
    // SAFETY: an all-zero `flock` is a valid value; every field that matters is set below.
    let mut lock: libc::flock = unsafe { core::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as i16;
    lock.l_whence = libc::SEEK_SET as i16;
    (lock.l_start, lock.l_len) = (byte, 1);
    fcntl(file, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
}

/// How many descriptors this process has of the file at `path`.
fn opened(path: &Path) -> usize {
    let all = fs::read_dir("/proc/self/fd").unwrap();
    let all = all.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    all.filter(|file| file == path).count()
}

#[test]
fn opening_waits_for_who_is_removing_the_name() {
    // One who does not remove it in the end.
    let left = Left::new();
    let file = left.file();
    lock(&file, USERS);
    thread::scope(|scope| {
        let before = opened(&left.path);
        let open = scope.spawn(|| left.open());
        eventually("it has come", || opened(&left.path) > before);
        thread::sleep(std::time::Duration::from_millis(50));
        assert!(!open.is_finished(), "it neither waits nor is let in");
        drop(file);
        assert_eq!(open.join().unwrap().unwrap().capacity(), 100);
    });
    // One who does.
    let file = left.file();
    lock(&file, USERS);
    thread::scope(|scope| {
        let open = scope.spawn(|| left.open());
        thread::sleep(std::time::Duration::from_millis(50));
        fs::remove_file(&left.path).unwrap();
        refused!(open.join().unwrap(), SetupError::NotFound);
    });
    // One who is stopped before it does.
    let left = Left::new();
    let file = left.file();
    lock(&file, USERS);
    refused!(left.open(), SetupError::InUse);
}

#[test]
fn a_refused_opener_does_not_keep_a_name() {
    let name = unique("refused");
    let done = &AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert!(Ring::<u32>::open(named(&name)).is_err());
                }
            });
        }
        let mut left = 0;
        for _ in 0..2000 {
            drop(Ring::<u64>::builder(4).open_or_create(named(&name)).unwrap());
            left += u32::from(file_of(&name).exists());
        }
        done.store(true, Ordering::Relaxed);
        let _ = annulus::remove(&named(&name), true);
        assert_eq!(left, 0, "names that stayed because somebody was just refused");
    });
}

#[test]
fn removing_a_name_spares_the_ring_that_has_it_next() {
    let left = Left::new();
    let old = left.open().unwrap();
    let file = left.file();
    // Somebody is between making sure that the name is the old ring's and removing it.
    lock(&file, NAME);
    thread::scope(|scope| {
        let before = opened(&left.path);
        let removals =
            [scope.spawn(|| old.remove()), scope.spawn(|| annulus::remove(&left.place(), true))];
        eventually("it is the old ring that it is about to remove", || opened(&left.path) > before);
        thread::sleep(std::time::Duration::from_millis(50));
        fs::remove_file(&left.path).expect("nobody else has removed it");
        let new = Ring::<u64>::builder(7).create(left.place()).unwrap();
        drop(file);
        for removal in removals {
            refused!(removal.join().unwrap(), SetupError::NotFound);
        }
        assert_eq!(left.open().unwrap().capacity(), 7);
        drop(new);
    });
    // A stopped one is not waited for without end.
    let left = Left::new();
    let file = left.file();
    lock(&file, NAME);
    refused!(annulus::remove(&left.place(), true), SetupError::InUse);
    drop(file);
    annulus::remove(&left.place(), true).unwrap();
}

#[test]
fn a_name_that_is_kept_stays() {
    let name = unique("kept");
    let ring = Ring::<u64>::builder(4).create(named(&name)).unwrap();
    ring.sender().unwrap().send(3).unwrap();
    ring.keep();
    drop(ring);
    assert_eq!(Snapshot::open(&named(&name)).unwrap().state, State::Stale);
    assert!(annulus::inspect::list().unwrap().contains(&name));
    // Its next user is an ordinary one.
    let ring = Ring::<u64>::open(named(&name)).unwrap();
    assert_eq!(ring.receiver().unwrap().recv_timeout(PATIENCE).unwrap(), 3);
    drop(ring);
    assert!(!file_of(&name).exists());
}

#[test]
fn a_persistent_name_stays_until_it_is_removed() {
    let name = unique("persistent");
    drop(Ring::<u64>::builder(4).persistent(true).create(named(&name)).unwrap());
    for i in 0..3 {
        Ring::<u64>::open(named(&name)).unwrap().sender().unwrap().send(i).unwrap();
    }
    let ring = Ring::<u64>::open(named(&name)).unwrap();
    let got: Vec<u64> = ring.receiver().unwrap().try_iter().collect();
    assert_eq!(got, [0, 1, 2]);
    refused!(annulus::remove(&named(&name), false), SetupError::InUse);
    drop(ring);
    annulus::remove(&named(&name), false).unwrap();
    assert!(!file_of(&name).exists());
}

#[test]
fn a_name_is_removed_only_by_its_own_ring() {
    let name = unique("own");
    let old = Ring::<u64>::builder(4).create(named(&name)).unwrap();
    annulus::remove(&named(&name), true).unwrap();
    let new = Ring::<u64>::builder(8).create(named(&name)).unwrap();
    refused!(old.remove(), SetupError::NotFound);
    // Both go on working, apart.
    old.sender().unwrap().send(1).unwrap();
    assert!(new.receiver().unwrap().try_recv().is_err());
    drop(old);
    assert_eq!(Ring::<u64>::open(named(&name)).unwrap().capacity(), 8);
    drop(new);
    assert!(!file_of(&name).exists());
}

#[test]
fn the_name_of_a_killed_user_goes_with_the_next() {
    let name = unique("stale");
    let mut child = fork(|line| {
        let ring = Ring::<u64>::builder(4).create(named(&name)).unwrap();
        ring.sender().unwrap().send(9).unwrap();
        line.say(1);
        line.hear();
    });
    child.line.expect(1);
    child.kill();
    assert_eq!(Snapshot::open(&named(&name)).unwrap().state, State::Stale);
    let ring = Ring::<u64>::builder(4).open_or_create(named(&name)).unwrap();
    assert_eq!(ring.receiver().unwrap().recv_timeout(PATIENCE).unwrap(), 9);
    drop(ring);
    assert!(!file_of(&name).exists());
}

#[test]
fn whoever_comes_first_creates() {
    let name = &unique("race");
    let barrier = &Barrier::new(8);
    thread::scope(|scope| {
        let handles: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(move || {
                    barrier.wait();
                    let ring = Ring::<u64>::builder(64).open_or_create(named(name)).unwrap();
                    let inode = fs::metadata(file_of(name)).unwrap().ino();
                    barrier.wait();
                    drop(ring);
                    inode
                })
            })
            .collect();
        let inodes: Vec<u64> = handles.into_iter().map(|h| h.join().unwrap()).collect();
        assert!(inodes.iter().all(|&inode| inode == inodes[0]), "two rings of one name");
    });
    assert!(!file_of(name).exists());
}

#[test]
fn processes_that_come_and_go_always_get_a_ring() {
    let name = &unique("come-and-go");
    let children: Vec<_> = (0..4)
        .map(|_| {
            fork(|_| {
                for _ in 0..300 {
                    let ring = Ring::<u64>::builder(64).open_or_create(named(name)).unwrap();
                    assert_eq!(ring.capacity(), 64);
                }
            })
        })
        .collect();
    children.into_iter().for_each(processes::Child::finish);
    assert!(!file_of(name).exists(), "the last one out left the name");
}

/// Huge pages that are free, and bytes of one.
fn huge_pages() -> (u64, u64) {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let figure = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    (figure("HugePages_Free:"), figure("Hugepagesize:") * 1024)
}

#[test]
fn huge_pages_or_a_clear_error() {
    let create = |place| Ring::<u64>::builder(100).huge_pages(true).create(place);
    match create(Place::memfd("huge").unwrap()) {
        Ok(_) => assert!(huge_pages().1 > 0),
        Err(error) => assert!(matches!(error, SetupError::HugePages { .. }), "{error:?}"),
    }
    refused!(create(named(&unique("huge"))), SetupError::HugePages { .. });
}

#[test]
fn a_ring_in_huge_pages_is_a_ring() {
    const TEST: &str = "a_ring_in_huge_pages_is_a_ring";
    let (free, size) = huge_pages();
    if free < 4 {
        return skip(TEST, "needs 4 free huge pages (sysctl vm.nr_hugepages)");
    }
    // More than one page, so that messages lie in the second and across the two.
    let most = size as usize + 100;
    let builder = || ByteRing::builder(most).huge_pages(true).label("huge/1");
    let exchange = |here: &ByteRing, there: &ByteRing| {
        let (mut tx, mut rx) = (here.sender().unwrap(), there.receiver().unwrap());
        for i in 0..5 {
            // No longer than half the ring: with the rest of a lap it fits into an empty one at once.
            let message = vec![i; most / 2 - 7 * usize::from(i)];
            tx.send(&message).unwrap();
            assert!(rx.claim().unwrap().to_vec() == message);
        }
    };
    let ring = builder().create(Place::memfd("huge").unwrap()).unwrap();
    let file = File::from(ring.inheritable_fd().unwrap());
    assert_eq!(file.metadata().unwrap().len(), 2 * size);
    assert_eq!(file.metadata().unwrap().blksize(), size);
    exchange(&ring, &ByteRing::from_fd(file.into()).unwrap());
    let too_many = ByteRing::builder((free * size) as usize).huge_pages(true);
    refused!(too_many.create(Place::memfd("huge").unwrap()), SetupError::HugePages { .. });
    drop(ring);
    in_private_mounts(TEST, || {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let hugetlbfs = Some("hugetlbfs");
        mount(hugetlbfs, directory.path(), hugetlbfs, MsFlags::empty(), None::<&str>).unwrap();
        let path = directory.path().join("ring");
        let place = || Place::path(&path).unwrap();
        let ring = builder().create(place()).unwrap();
        refused!(builder().create(place()), SetupError::AlreadyExists);
        let snapshot = Snapshot::open(&place()).unwrap();
        assert_eq!((snapshot.huge_pages, snapshot.size), (true, 2 * size));
        let again = ByteRing::attach().label("huge/1").open(place()).unwrap();
        exchange(&again, &ring);
        exchange(&ring, &again);
        drop((ring, again));
        assert!(!path.exists());
        umount2(directory.path(), MntFlags::MNT_DETACH).unwrap();
    });
}

#[test]
fn a_large_ring_is_created_under_a_storm_of_signals() {
    fork(|_| {
        extern "C" fn nothing(_: i32) {}
        // SAFETY: a handler that does nothing is safe at any time.
        unsafe {
            let handler = nix::sys::signal::SigHandler::Handler(nothing);
            nix::sys::signal::signal(nix::sys::signal::Signal::SIGALRM, handler).unwrap();
            let every = libc::timeval { tv_sec: 0, tv_usec: 1000 };
            let timer = libc::itimerval { it_interval: every, it_value: every };
            assert_eq!(libc::setitimer(libc::ITIMER_REAL, &timer, core::ptr::null_mut()), 0);
        }
        let ring = ByteRing::builder(64 << 20).create(Place::memfd("large").unwrap()).unwrap();
        ring.sender().unwrap().try_send(&[1; 1000]).unwrap();
        // SAFETY: as above: the timer is put out.
        unsafe {
            let never = core::mem::zeroed();
            libc::setitimer(libc::ITIMER_REAL, &never, core::ptr::null_mut());
        }
    })
    .finish();
}

#[test]
fn a_thousand_rings_leave_nothing_behind() {
    fork(|_| {
        let open = || fs::read_dir("/proc/self/fd").unwrap().count();
        let mappings = || fs::read_to_string("/proc/self/maps").unwrap().lines().count();
        let round = |i: usize| {
            let name = unique("thousand");
            let place =
                if i.is_multiple_of(2) { named(&name) } else { Place::memfd(&name).unwrap() };
            let ring = Ring::<u64>::builder(16).create(place).unwrap();
            let again = Ring::<u64>::from_fd(ring.inheritable_fd().unwrap()).unwrap();
            let (mut tx, mut rx) = (ring.sender().unwrap(), again.receiver().unwrap());
            // Before it is said the lock is asked for again for some milliseconds, in sleeps that a coarse
            // timer makes much longer.
            if i.is_multiple_of(25) {
                refused!(ring.sender(), SetupError::RoleTaken { .. });
            }
            tx.send(1).unwrap();
            assert_eq!(rx.recv_timeout(PATIENCE).unwrap(), 1);
            drop((ring, again, tx, rx));
            assert!(!file_of(&name).exists());
        };
        (0..4).for_each(round);
        let before = (open(), mappings());
        (0..1000).for_each(round);
        assert_eq!(open(), before.0, "descriptors were lost");
        assert!(mappings() <= before.1 + 8, "mappings were lost");
    })
    .finish();
}

#[test]
fn children_that_are_forked_while_somebody_removes_keep_nobody_out() {
    let place = Place::name(&unique("removed-and-forked")).unwrap();
    let path = PathBuf::from(format!("/dev/shm/annulus.{place}"));
    drop(Ring::<u64>::builder(4).persistent(true).create(place.clone()).unwrap());
    // The sender is there and counts as no user, as one that is being torn down: the ring is in use, and stays.
    let dying = File::options().read(true).write(true).open(&path).unwrap();
    let sender = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: (1 << 62) + 1,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(&dying, FcntlArg::F_OFD_SETLK(&sender)).unwrap();
    let (is_over, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let remover = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                assert!(matches!(annulus::remove(&place, false), Err(SetupError::InUse)));
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        // They live on, and would keep a lock that they had got along with everything else.
        let mut children = Vec::new();
        for _ in 0..100 {
            let before = rounds.load(Ordering::Relaxed);
            eventually("it goes on", || {
                remover.is_finished() || rounds.load(Ordering::Relaxed) > before
            });
            children.push(fork(|line| line.wait_for_end()));
        }
        is_over.store(true, Ordering::Relaxed);
        remover.join().unwrap();
        drop(Ring::<u64>::open(place.clone()).expect("nobody is removing it"));
        drop(children);
    });
    drop(dying);
    annulus::remove(&place, false).unwrap();
}
