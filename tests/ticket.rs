//! A role that is handed over as one descriptor: across `exec`, over a socket, and to those who misuse it.

mod processes;

use annulus::{ByteBroadcast, ByteRing, ConnectError, Ring, Role, SetupError};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use processes::{PATIENCE, fork};
use std::fs::{self, File};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How a child of this program learns what it has inherited.
const TICKET: &str = "TEST_TICKET";

/// Runs one test of this program again, as another process with `ticket`.
fn spawn(test: &str, ticket: &OwnedFd) -> std::process::Child {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.args(["--exact", test, "--nocapture"]).env(TICKET, ticket.as_raw_fd().to_string());
    command.stdout(Stdio::null()).spawn().unwrap()
}

/// The ticket that this process has inherited, if it was started by one of the tests.
fn inherited() -> Option<OwnedFd> {
    let number = std::env::var(TICKET).ok()?.parse().unwrap();
    // SAFETY: the parent has left the descriptor to this process for this.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

#[test]
fn a_child_program_has_the_role_and_no_other() {
    if let Some(ticket) = inherited() {
        let ring = Ring::<u64>::attach().label("numbers").from_ticket(ticket).unwrap();
        assert!(matches!(ring.receiver(), Err(SetupError::PeersRole { role: Role::Receiver })));
        let mut sender = ring.sender().unwrap();
        (0..5000).for_each(|i| sender.send(i).unwrap());
        // Nothing that it has can write the receiver's half: the only writable mapping of a half is its own.
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let halves = maps.lines().filter(|line| line.contains("annulus-half"));
        let writable = halves.filter(|line| line.contains(" rw"));
        assert_eq!(writable.count(), 1);
        return;
    }
    let builder = Ring::<u64>::builder(64).label("numbers");
    let (mut invitation, ticket) = builder.hand_over(Role::Sender).unwrap();
    assert_eq!(invitation.role(), Role::Receiver);
    let mut child = spawn("a_child_program_has_the_role_and_no_other", &ticket);
    drop(ticket);
    let ring = invitation.join(PATIENCE).unwrap();
    let mut receiver = ring.receiver().unwrap();
    for i in 0..5000 {
        assert_eq!(receiver.recv_timeout(PATIENCE), Ok(i));
    }
    assert!(receiver.recv_timeout(PATIENCE).is_err(), "it has left");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_child_program_receives() {
    if let Some(ticket) = inherited() {
        let ring = ByteRing::attach().from_ticket(ticket).unwrap();
        let mut receiver = ring.receiver().unwrap();
        let mut message = Vec::new();
        for length in 0..500 {
            assert_eq!(receiver.recv_timeout(&mut message, PATIENCE), Ok(length));
        }
        return;
    }
    let (mut invitation, ticket) = ByteRing::builder(1000).hand_over(Role::Receiver).unwrap();
    let mut child = spawn("a_child_program_receives", &ticket);
    drop(ticket);
    let ring = invitation.join(PATIENCE).unwrap();
    let mut sender = ring.sender().unwrap();
    for length in 0..500 {
        sender.send_timeout(&vec![1; length], PATIENCE).unwrap();
    }
    assert!(child.wait().unwrap().success());
    while sender.try_send(b"x").is_ok() {}
    assert!(sender.send(&[1; 900]).is_err(), "nobody receives any more");
}

#[test]
fn a_ticket_goes_over_a_socket() {
    let (mut invitation, ticket) = Ring::<u64>::builder(8).hand_over(Role::Sender).unwrap();
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let child = fork(|_| {
        let (mut bytes, mut space) = ([0; 1], nix::cmsg_space!(i32));
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message =
            recvmsg::<()>(theirs.as_raw_fd(), &mut slices, Some(&mut space), flags).unwrap();
        let Some(ControlMessageOwned::ScmRights(fds)) = message.cmsgs().unwrap().next() else {
            panic!("it comes with a descriptor")
        };
        // SAFETY: the kernel has just made it, for us alone.
        let ticket = unsafe { OwnedFd::from_raw_fd(fds[0]) };
        let ring = Ring::<u64>::attach().from_ticket(ticket).unwrap();
        ring.sender().unwrap().send(11).unwrap();
    });
    let fds = [ticket.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let slices = [IoSlice::new(b"t")];
    sendmsg::<()>(ours.as_raw_fd(), &slices, &rights, MsgFlags::empty(), None).unwrap();
    drop(ticket);
    let ring = invitation.join(PATIENCE).unwrap();
    assert_eq!(ring.receiver().unwrap().recv_timeout(PATIENCE), Ok(11));
    child.finish();
}

#[test]
fn a_ticket_is_good_once_and_for_what_it_was_made() {
    let (mut invitation, ticket) =
        Ring::<u64>::builder(8).label("a").hand_over(Role::Sender).unwrap();
    let flags = fcntl(&ticket, FcntlArg::F_GETFD).unwrap();
    assert!(!FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC), "it survives exec");
    let again = ticket.try_clone().unwrap();
    let ring = Ring::<u64>::attach().from_ticket(ticket).unwrap();
    let used = Ring::<u64>::attach().from_ticket(again).unwrap_err();
    assert!(matches!(used, ConnectError::Protocol { .. }), "{used:?}");
    let other = invitation.join(PATIENCE).unwrap();
    ring.sender().unwrap().send(1).unwrap();
    assert_eq!(other.receiver().unwrap().recv_timeout(PATIENCE), Ok(1));

    let ticket = || Ring::<u64>::builder(8).label("a").hand_over(Role::Sender).unwrap();
    let (mut unused, wrong) = ticket();
    let error = Ring::<u32>::attach().from_ticket(wrong).unwrap_err();
    assert!(matches!(error, ConnectError::Ring(SetupError::Payload { .. })), "{error:?}");
    assert!(matches!(unused.join(PATIENCE), Err(ConnectError::Closed)), "nobody has it any more");
    let (_unused, wrong) = ticket();
    let error = Ring::<u64>::attach().label("b").from_ticket(wrong).unwrap_err();
    assert!(matches!(error, ConnectError::Ring(SetupError::Label { .. })), "{error:?}");
    let (_unused, wrong) = ticket();
    let error = ByteRing::attach().from_ticket(wrong).unwrap_err();
    assert!(matches!(error, ConnectError::Ring(SetupError::Kind { .. })), "{error:?}");
    let (_unused, wrong) = ticket();
    let error = ByteBroadcast::attach().from_ticket(wrong).unwrap_err();
    assert!(matches!(error, ConnectError::Ring(SetupError::Kind { .. })), "{error:?}");
    let (unused, kept) = ticket();
    drop(unused);
    let error = Ring::<u64>::attach().from_ticket(kept).unwrap_err();
    assert!(matches!(error, ConnectError::Closed), "{error:?}");
    let null = OwnedFd::from(File::open("/dev/null").unwrap());
    assert!(Ring::<u64>::attach().from_ticket(null).is_err());
}

#[test]
fn an_invitation_outlives_a_time_out_and_is_answered_once() {
    let (mut invitation, ticket) = Ring::<u64>::builder(8).hand_over(Role::Sender).unwrap();
    for timeout in [Duration::ZERO, Duration::from_millis(5)] {
        let late = invitation.join(timeout).map(drop);
        assert!(matches!(late, Err(ConnectError::Timeout)), "{late:?}");
        assert_eq!(invitation.role(), Role::Receiver);
    }
    let there = Ring::<u64>::attach().from_ticket(ticket).unwrap();
    let here = invitation.join(Duration::MAX).unwrap();
    there.sender().unwrap().send(1).unwrap();
    assert_eq!(here.receiver().unwrap().recv_timeout(PATIENCE), Ok(1));
    let again = invitation.join(Duration::MAX).map(drop);
    assert!(matches!(again, Err(ConnectError::Closed)), "{again:?}");
}

#[test]
fn who_has_the_ticket_is_checked() {
    const MAGIC: u64 = u64::from_le_bytes(*b"annulus>");
    let taken: Vec<u8> = [MAGIC, 8].iter().flat_map(|word| word.to_le_bytes()).collect();
    let invite: Vec<u8> = [MAGIC, 7, 1].iter().flat_map(|word| word.to_le_bytes()).collect();
    let null = File::open("/dev/null").unwrap();
    let smaller = Ring::<u64>::builder(7).split(Role::Sender).unwrap().descriptor().unwrap();
    let wrong_role = Ring::<u64>::builder(8).split(Role::Receiver).unwrap().descriptor().unwrap();
    let say = |socket: &OwnedFd, bytes: &[u8], fds: &[i32]| {
        let rights = [ControlMessage::ScmRights(fds)];
        let rights = if fds.is_empty() { &rights[..0] } else { &rights[..] };
        let slices = [IoSlice::new(bytes)];
        sendmsg::<()>(socket.as_raw_fd(), &slices, rights, MsgFlags::empty(), None).unwrap();
    };
    let null = null.as_raw_fd();
    let answers: [(&[u8], Vec<i32>); 7] = [
        (b"what?", vec![]),
        (&taken, vec![]),
        (&taken, vec![null]),
        (&taken, vec![null, null]),
        (&taken, vec![smaller.as_raw_fd()]),
        (&taken, vec![wrong_role.as_raw_fd()]),
        (&invite, vec![null]),
    ];
    for (bytes, fds) in answers {
        let (mut invitation, ticket) = Ring::<u64>::builder(8).hand_over(Role::Sender).unwrap();
        say(&ticket, bytes, &fds);
        let error = invitation.join(PATIENCE).map(drop).unwrap_err();
        assert!(
            matches!(error, ConnectError::Protocol { .. } | ConnectError::Ring(_)),
            "{error:?}"
        );
    }
    // And who invites.
    for (bytes, fd) in [(&invite, null), (&invite, wrong_role.as_raw_fd()), (&taken, null)] {
        let (ours, theirs) = nix::sys::socket::socketpair(
            nix::sys::socket::AddressFamily::Unix,
            nix::sys::socket::SockType::SeqPacket,
            None,
            nix::sys::socket::SockFlag::SOCK_NONBLOCK,
        )
        .unwrap();
        say(&ours, bytes, &[fd]);
        let role_is_ours = fd == wrong_role.as_raw_fd();
        let result = Ring::<u64>::attach().from_ticket(theirs);
        // The receiver's half is what a sender is to be invited by.
        assert_eq!(result.is_ok(), role_is_ours);
    }
}

#[test]
fn a_ticket_whose_socket_waits_keeps_nobody_waiting() {
    // Made by somebody who wants to: nothing is in it, and a call without more ado would wait for that for ever.
    let (_ours, theirs) = nix::sys::socket::socketpair(
        nix::sys::socket::AddressFamily::Unix,
        nix::sys::socket::SockType::SeqPacket,
        None,
        nix::sys::socket::SockFlag::empty(),
    )
    .unwrap();
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(Ring::<u64>::attach().from_ticket(theirs).map(drop)));
    let taken = is_done.recv_timeout(PATIENCE).expect("the call comes back");
    assert!(matches!(taken, Err(ConnectError::Protocol { .. })), "{taken:?}");
}

#[test]
fn who_invites_does_not_say_how_much_memory_is_taken() {
    // Two pages of its own; of whoever takes the role as many as it likes.
    let ticket = || ByteRing::builder(100 << 20).hand_over(Role::Sender).unwrap();
    let (_unused, large) = ticket();
    let error = ByteRing::attach().from_ticket(large).unwrap_err();
    assert!(matches!(error, ConnectError::Ring(SetupError::InvalidSize { .. })), "{error:?}");
    let (mut invitation, large) = ticket();
    let ring = ByteRing::attach().most_bytes(101 << 20).from_ticket(large).unwrap();
    let mut receiver = invitation.join(PATIENCE).unwrap().receiver().unwrap();
    ring.sender().unwrap().send(b"by agreement").unwrap();
    assert_eq!(receiver.claim().unwrap().to_vec(), b"by agreement");
}
