//! The split form: rings in two halves, each of which only its owner can write.

mod processes;

use annulus::{
    ByteRing, Place, RecvError, RecvTimeoutError, Ring, Role, SetupError, Topology, UntypedRing,
    Wait,
};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mprotect};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use processes::{PATIENCE, fork};
use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

const WAITS: [Wait; 3] = [Wait::Spin, Wait::Block, Wait::Adaptive];

fn numbers(capacity: usize) -> annulus::Builder<Ring<u64>> {
    Ring::<u64>::builder(capacity)
}

/// Both sides of a ring, as two processes would have them: sender's first.
fn both<T: bytemuck::Pod>(capacity: usize) -> (Ring<T>, Ring<T>) {
    let sender = Ring::<T>::builder(capacity).split(Role::Sender).unwrap();
    let receiver = Ring::<T>::builder(capacity).split(Role::Receiver).unwrap();
    let (to_receiver, to_sender) = (sender.descriptor().unwrap(), receiver.descriptor().unwrap());
    (sender.join(to_sender).unwrap(), receiver.join(to_receiver).unwrap())
}

fn both_of_bytes(capacity: usize) -> (ByteRing, ByteRing) {
    let sender = ByteRing::builder(capacity).split(Role::Sender).unwrap();
    let receiver = ByteRing::builder(capacity).split(Role::Receiver).unwrap();
    let (to_receiver, to_sender) = (sender.descriptor().unwrap(), receiver.descriptor().unwrap());
    (sender.join(to_sender).unwrap(), receiver.join(to_receiver).unwrap())
}

/// A socket over which two processes swap descriptors.
fn sockets() -> (OwnedFd, OwnedFd) {
    let kind = SockType::SeqPacket;
    socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).unwrap()
}

fn give(socket: &OwnedFd, fd: &OwnedFd) {
    let fds = [fd.as_raw_fd()];
    let bytes = [IoSlice::new(b"fd")];
    let message = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(socket.as_raw_fd(), &bytes, &message, MsgFlags::empty(), None).unwrap();
}

fn get(socket: &OwnedFd) -> OwnedFd {
    let mut bytes = [0; 2];
    let mut space = nix::cmsg_space!([i32; 1]);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags).unwrap();
    let Some(ControlMessageOwned::ScmRights(fds)) = message.cmsgs().unwrap().next() else {
        panic!("no descriptor came");
    };
    // SAFETY: the kernel has just made it, for us alone.
    unsafe { OwnedFd::from_raw_fd(fds[0]) }
}

fn stream<const N: usize>(capacity: usize, wait: Wait, count: u64) {
    let (sender, receiver) = both::<[u64; N]>(capacity);
    let mut tx = sender.sender().unwrap().with_wait(wait);
    let mut rx = receiver.receiver().unwrap().with_wait(wait);
    thread::scope(|scope| {
        scope.spawn(move || (0..count).for_each(|i| tx.send([i; N]).unwrap()));
        (0..count).for_each(|i| assert_eq!(rx.recv_timeout(PATIENCE).unwrap(), [i; N]));
        assert_eq!(rx.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
    });
}

#[test]
fn a_stream_arrives_whole_and_in_order() {
    for wait in WAITS {
        stream::<1>(1, wait, 2_000);
        stream::<1>(64, wait, 20_000);
        stream::<2>(100, wait, 20_000);
        stream::<9>(16, wait, 20_000);
    }
}

#[test]
fn a_split_ring_holds_exactly_its_capacity() {
    for capacity in [1, 2, 7, 8, 100] {
        let (sender, receiver) = both::<u64>(capacity);
        let (mut tx, mut rx) = (sender.sender().unwrap(), receiver.receiver().unwrap());
        for round in 0..20 {
            assert_eq!((0..).take_while(|&i| tx.try_send(i).is_ok()).count(), capacity);
            assert_eq!((tx.len(), rx.len()), (capacity, capacity), "round {round}");
            assert_eq!(rx.drain(capacity + 1).count(), capacity);
        }
        assert_eq!(sender.stats().sent, 20 * capacity as u64);
        assert_eq!(receiver.stats().received, 20 * capacity as u64);
    }
}

#[test]
fn bytes_and_untyped_messages_pass() {
    for wait in WAITS {
        let (sender, receiver) = both_of_bytes(1000);
        let mut tx = sender.sender().unwrap().with_wait(wait);
        let mut rx = receiver.receiver().unwrap().with_wait(wait);
        let message = |i: usize| vec![i as u8; i * 31 % 1001];
        thread::scope(|scope| {
            scope.spawn(move || (0..3000).for_each(|i| tx.send(&message(i)).unwrap()));
            let mut got = Vec::new();
            for i in 0..3000 {
                rx.recv(&mut got).unwrap();
                assert_eq!(got, message(i));
            }
            assert_eq!(rx.recv(&mut got), Err(RecvError::Disconnected));
        });
    }
    let half = |role| UntypedRing::builder(5, 12).split(role).unwrap();
    let (sender, receiver) = (half(Role::Sender), half(Role::Receiver));
    let (one, other) = (sender.descriptor().unwrap(), receiver.descriptor().unwrap());
    let (sender, receiver) = (sender.join(other).unwrap(), receiver.join(one).unwrap());
    let (mut tx, mut rx) = (sender.sender().unwrap(), receiver.receiver().unwrap());
    let mut message = [0; 12];
    for _ in 0..30 {
        tx.send(b"twelve bytes").unwrap();
        rx.recv(&mut message).unwrap();
        assert_eq!(&message, b"twelve bytes");
    }
}

#[test]
fn each_process_has_its_own_role_only() {
    let (sender, receiver) = both::<u64>(4);
    assert!(matches!(sender.receiver(), Err(SetupError::PeersRole { role: Role::Receiver })));
    assert!(matches!(receiver.sender(), Err(SetupError::PeersRole { role: Role::Sender })));
    let mut tx = sender.sender().unwrap();
    assert!(matches!(sender.sender(), Err(SetupError::RoleTaken { .. })));
    let mut rx = receiver.receiver().unwrap();
    tx.send(1).unwrap();
    drop(tx);
    // The handle goes and comes back; the half stays.
    assert_eq!(
        (rx.recv_timeout(PATIENCE), rx.recv_timeout(PATIENCE)),
        (Ok(1), Err(RecvTimeoutError::Disconnected))
    );
    let mut tx = sender.sender().unwrap();
    tx.send(2).unwrap();
    assert_eq!(rx.recv_timeout(PATIENCE), Ok(2));
    drop(rx);
    assert!((0..).take(10).any(|i| tx.send(i).is_err()), "the receiver has left");
    let mut rx = receiver.receiver().unwrap();
    assert!(tx.wait_for_peer(PATIENCE));
    tx.send(77).unwrap();
    assert_eq!(rx.try_iter().last(), Some(77));
}

#[test]
fn the_ring_ends_with_its_owner() {
    let (sender, receiver) = both::<u64>(4);
    let mut tx = sender.sender().unwrap();
    let mut rx = receiver.receiver().unwrap();
    tx.send(1).unwrap();
    drop((tx, sender));
    assert_eq!(
        (rx.recv_timeout(PATIENCE), rx.recv_timeout(PATIENCE)),
        (Ok(1), Err(RecvTimeoutError::Disconnected))
    );
    // Also if no handle ever came: nobody can make one any more.
    let (sender, receiver) = both::<u64>(4);
    let mut rx = receiver.receiver().unwrap();
    let short = Duration::from_millis(1);
    assert_eq!(rx.recv_timeout(short), Err(RecvTimeoutError::Timeout));
    drop(sender);
    assert_eq!(rx.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
}

/// A sender in a process of its own, which sends `count` numbers and waits to be killed.
fn besides(count: u64) -> (processes::Child, Ring<u64>) {
    let (ours, theirs) = sockets();
    let child = fork(|line| {
        let half = numbers(64).split(Role::Sender).unwrap();
        give(&theirs, &half.descriptor().unwrap());
        let ring = half.join(get(&theirs)).unwrap();
        let mut tx = ring.sender().unwrap();
        (0..count).for_each(|i| tx.send(i).unwrap());
        line.say(1);
        line.wait_for_end();
    });
    let half = numbers(64).split(Role::Receiver).unwrap();
    give(&ours, &half.descriptor().unwrap());
    (child, half.join(get(&ours)).unwrap())
}

#[test]
fn messages_pass_between_processes_and_outlive_a_killed_sender() {
    let (mut child, ring) = besides(50_000);
    let mut rx = ring.receiver().unwrap();
    (0..49_990).for_each(|i| assert_eq!(rx.recv_timeout(PATIENCE), Ok(i)));
    child.line.expect(1);
    child.kill();
    (49_990..50_000).for_each(|i| assert_eq!(rx.recv_timeout(PATIENCE), Ok(i)));
    assert_eq!(rx.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
    assert!(ring.stats().participants.iter().any(|side| !side.alive && !side.left));
}

#[test]
fn a_stopped_sender_is_alive() {
    let (mut child, ring) = besides(0);
    child.line.expect(1);
    child.signal(nix::sys::signal::Signal::SIGSTOP);
    let mut rx = ring.receiver().unwrap();
    let while_it_sleeps = Duration::from_millis(350);
    assert_eq!(rx.recv_timeout(while_it_sleeps), Err(RecvTimeoutError::Timeout));
    child.kill();
    assert_eq!(rx.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
}

/// Opens the file behind `fd` anew, to read and write.
fn reopen(fd: &OwnedFd) -> File {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    File::options().read(true).write(true).open(path).unwrap()
}

#[test]
fn the_kernel_refuses_whoever_would_write_a_half() {
    for role in [Role::Sender, Role::Receiver] {
        let half = numbers(1000).split(role).unwrap();
        let fd = half.descriptor().unwrap();
        let page = NonZeroUsize::new(4096).unwrap();
        let map = |file: &dyn AsFd, protection| {
            // SAFETY: a new mapping, which nothing is done with.
            unsafe { mmap(None, page, protection, MapFlags::MAP_SHARED, file.as_fd(), 4096) }
        };
        let (read, both) = (ProtFlags::PROT_READ, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE);
        assert_eq!(map(&fd, both).unwrap_err(), Errno::EACCES, "by the descriptor that was given");
        // This user may open it anew for writing; that helps nobody.
        let anew = reopen(&fd);
        assert_eq!(map(&anew, both).unwrap_err(), Errno::EPERM);
        for mapping in [map(&fd, read).unwrap(), map(&anew, read).unwrap()] {
            // SAFETY: changes nothing, or the mapping that was just made.
            let changed = unsafe { mprotect(mapping, 4096, both) };
            assert_eq!(changed, Err(Errno::EACCES));
        }
        assert_eq!(anew.write_at(b"x", 4096).unwrap_err().raw_os_error(), Some(libc::EPERM));
        for size in [0, 4096, 1 << 20] {
            assert_eq!(anew.set_len(size).unwrap_err().raw_os_error(), Some(libc::EPERM));
        }
        let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        assert_eq!(fallocate(&anew, punch, 0, 4096), Err(Errno::EPERM));
        let more = fcntl(&anew, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE));
        assert_eq!(more, Err(Errno::EPERM));
    }
}

/// The lock bytes of the two roles.
const LOCKS: [i64; 2] = [(1 << 62) + 1, (1 << 62) + 2];

fn lock(fd: &impl AsFd, byte: i64, kind: i32) -> Result<(), Errno> {
    // SAFETY: an all-zero `flock` is a valid value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_whence) = (kind as i16, libc::SEEK_SET as i16);
    (lock.l_start, lock.l_len) = (byte, 1);
    fcntl(fd, FcntlArg::F_OFD_SETLK(&lock)).map(|_| ())
}

#[test]
fn a_peer_can_take_no_lock_that_matters() {
    let (sender, receiver) = (numbers(8).split(Role::Sender), numbers(8).split(Role::Receiver));
    let (sender, receiver) = (sender.unwrap(), receiver.unwrap());
    let (to_receiver, to_sender) = (sender.descriptor().unwrap(), receiver.descriptor().unwrap());
    // What a hostile receiver has of the sender: what it was given, and what it can open.
    let (given, opened) = (sender.descriptor().unwrap(), reopen(&to_receiver));
    assert_eq!(lock(&given, LOCKS[0], libc::F_RDLCK), Err(Errno::EAGAIN), "the owner has it");
    assert_eq!(lock(&given, LOCKS[0], libc::F_WRLCK), Err(Errno::EBADF), "it can only read");
    assert_eq!(lock(&opened, LOCKS[0], libc::F_WRLCK), Err(Errno::EAGAIN));
    assert_eq!(lock(&opened, LOCKS[1], libc::F_WRLCK), Ok(()), "and that matters to nobody");
    let (sender, receiver) = (sender.join(to_sender).unwrap(), receiver.join(to_receiver).unwrap());
    let mut rx = receiver.receiver().unwrap();
    for i in 0..3 {
        let mut tx = sender.sender().unwrap();
        assert_eq!(lock(&given, LOCKS[0], libc::F_RDLCK), Err(Errno::EAGAIN));
        tx.send(i).unwrap();
        assert_eq!(rx.recv_timeout(PATIENCE), Ok(i));
    }
    drop(sender);
    // Whoever can read the file can take this when the owner is gone; it makes nobody look alive.
    assert_eq!(lock(&given, LOCKS[0], libc::F_RDLCK), Ok(()));
    assert_eq!(rx.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
}

/// A memory file of `size` bytes with the first `bytes`, mapped by nobody, with `seals`.
fn file_of(bytes: &[u8], size: u64, seals: SealFlag) -> OwnedFd {
    let fd = memfd_create(c"forged", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
    let file = File::from(fd);
    file.set_len(size).unwrap();
    if size > 0 {
        fallocate(&file, FallocateFlags::empty(), 0, size as i64).unwrap();
    }
    file.write_all_at(&bytes[..bytes.len().min(size as usize)], 0).unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).unwrap();
    file.into()
}

fn seals() -> SealFlag {
    SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SEAL
        | SealFlag::F_SEAL_FUTURE_WRITE
}

/// The bytes of a sound half.
fn sound(role: Role) -> Vec<u8> {
    let half = numbers(100).label("n").split(role).unwrap();
    let file = File::from(half.descriptor().unwrap());
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// What comes of joining a half of the other role with `theirs`.
fn refusal(theirs: Role, fd: OwnedFd) -> SetupError {
    let own = if theirs == Role::Sender { Role::Receiver } else { Role::Sender };
    numbers(100).label("n").split(own).unwrap().join(fd).unwrap_err()
}

#[test]
fn a_forged_copy_of_a_half_is_refused_where_it_lies() {
    for role in [Role::Sender, Role::Receiver] {
        let bytes = sound(role);
        let size = bytes.len() as u64;
        let own = if role == Role::Sender { Role::Receiver } else { Role::Sender };
        let half = numbers(100).label("n").split(own).unwrap();
        assert!(half.join(file_of(&bytes, size, seals())).is_ok(), "a true copy");
        for missing in seals() {
            let less = file_of(&bytes, size, seals() - missing);
            assert!(matches!(refusal(role, less), SetupError::NotSealed), "without {missing:?}");
        }
        for other in [0, 4096, size - 4096, size + 4096, size - 1] {
            let cut = file_of(&bytes, other, seals());
            assert!(matches!(refusal(role, cut), SetupError::Truncated { .. }), "{other} bytes");
        }
        // Each word of the header that says anything, with each of some values.
        let sound: Vec<u64> =
            bytes.chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().unwrap())).collect();
        for word in (0..9).chain([12, 20, 21, 22, 511]) {
            for value in [0, 1, 2, 3, 99, 101, 4096, 1 << 32, 1 << 63, u64::MAX] {
                if value == sound[word] || (word == 4 && value < 4) {
                    continue;
                }
                let mut forged = bytes.clone();
                forged[word * 8..][..8].copy_from_slice(&u64::to_le_bytes(value));
                let error = refusal(role, file_of(&forged, size, seals()));
                assert!(!error.to_string().is_empty(), "word {word} is {value}");
            }
        }
    }
}

#[test]
fn a_file_with_holes_is_refused() {
    let bytes = sound(Role::Sender);
    let fd = memfd_create(c"hollow", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
    let file = File::from(fd);
    file.set_len(bytes.len() as u64).unwrap();
    file.write_all_at(&bytes[..4096], 0).unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals())).unwrap();
    assert!(matches!(refusal(Role::Sender, file.into()), SetupError::Sparse));
}

#[test]
fn what_is_no_half_is_refused() {
    let (pipe, _end) = nix::unistd::pipe().unwrap();
    let null = File::open("/dev/null").unwrap();
    let directory = File::open("/").unwrap();
    let plain = tempfile::tempfile().unwrap();
    for fd in [pipe, null.into(), directory.into(), plain.into()] {
        assert!(matches!(refusal(Role::Sender, fd), SetupError::NotSealed));
    }
    let whole =
        Ring::<u64>::builder(100).label("n").create(Place::memfd("whole").unwrap()).unwrap();
    let whole = whole.as_fd().try_clone_to_owned().unwrap();
    assert!(matches!(refusal(Role::Sender, whole), SetupError::NotSealed));
    // A path only, by which nothing can be read.
    let half = numbers(100).label("n").split(Role::Sender).unwrap();
    let path = format!("/proc/self/fd/{}", half.descriptor().unwrap().as_raw_fd());
    let only_path = nix::fcntl::open(
        path.as_str(),
        nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    );
    if let Ok(fd) = only_path {
        assert!(matches!(refusal(Role::Sender, fd), SetupError::NotSealed));
    }
}

#[test]
fn halves_that_do_not_match_are_refused() {
    let receiver = || numbers(100).label("n").split(Role::Receiver).unwrap();
    let fd = |half: annulus::Split<Ring<u64>>| {
        let fd = half.descriptor().unwrap();
        (half, fd)
    };
    let (_keep, same_role) = fd(receiver());
    // Its size tells, or its header if the sizes are the same.
    assert!(receiver().join(same_role).is_err());
    let (_keep, larger) = fd(numbers(101).label("n").split(Role::Sender).unwrap());
    assert!(receiver().join(larger).is_err());
    let (_keep, label) = fd(numbers(100).label("m").split(Role::Sender).unwrap());
    assert!(matches!(receiver().join(label), Err(SetupError::Label { .. })));
    let other = Ring::<[u32; 2]>::builder(100).label("n").split(Role::Sender).unwrap();
    let aligned = other.descriptor().unwrap();
    assert!(matches!(receiver().join(aligned), Err(SetupError::Payload { .. })));
    let bytes = ByteRing::builder(1000).split(Role::Sender).unwrap();
    assert!(receiver().join(bytes.descriptor().unwrap()).is_err());
}

#[test]
fn half_a_ring_is_no_ring() {
    for role in [Role::Sender, Role::Receiver] {
        // Long enough to be a ring.
        let half = numbers(5000).split(role).unwrap();
        assert!(Ring::<u64>::from_fd(half.descriptor().unwrap()).is_err());
        let fd = OwnedFd::from(reopen(&half.descriptor().unwrap()));
        let error = Ring::<u64>::from_fd(fd).unwrap_err();
        assert!(matches!(error, SetupError::Kind { .. } | SetupError::NotARing), "{error:?}");
    }
}

#[test]
fn only_sole_sides_split() {
    let shared = numbers(64).topology(Topology::Mpsc).split(Role::Sender);
    assert!(matches!(shared, Err(SetupError::InvalidSize { .. })));
    let lanes = ByteRing::builder(64).topology(Topology::Mpsc).split(Role::Receiver);
    assert!(matches!(lanes, Err(SetupError::InvalidSize { .. })));
    assert!(numbers(64).persistent(true).split(Role::Sender).is_err());
    assert!(numbers(64).huge_pages(true).split(Role::Sender).is_err());
    assert!(numbers(0).split(Role::Sender).is_err());
}

#[test]
fn a_forked_child_has_no_half() {
    let (sender, receiver) = both::<u64>(8);
    let mut half = Some(numbers(8).split(Role::Sender).unwrap());
    let mut tx = sender.sender().unwrap();
    let mut rx = receiver.receiver().unwrap();
    let child = fork(|_| {
        assert!(matches!(tx.try_send(1), Err(annulus::TrySendError::Forked(1))));
        assert!(matches!(sender.sender(), Err(SetupError::Forked)));
        // Borrowed: what is moved into a child is forgotten here.
        let half = half.take().unwrap();
        assert!(matches!(half.descriptor(), Err(SetupError::Forked)));
        assert_eq!(receiver.stats().sent, 0);
        // The other half of this one is made, not inherited.
        let other = numbers(8).split(Role::Receiver).unwrap();
        assert!(matches!(half.join(other.descriptor().unwrap()), Err(SetupError::Forked)));
    });
    child.finish();
    tx.send(2).unwrap();
    assert_eq!(rx.recv_timeout(PATIENCE), Ok(2));
}
