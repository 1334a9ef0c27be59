//! Processes that meet by a socket: what honest ones get, and what comes of the others.

#[path = "support/forge.rs"]
mod forge;
mod processes;

use annulus::{
    Address, ByteDuplex, ByteSendError, ByteStream, Connect, ConnectError, Duplex, Ending,
    FdsError, Listener, RecvError, RecvTimeoutError, Refusal, Role, SendError, SendTimeoutError,
    SetupError, TryRecvError, TrySendError, Wait,
};
use forge::{Forged, forge};
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, accept, bind,
    connect, recv, send, sendmsg, setsockopt, socket, sockopt::ReceiveTimeout,
};
use nix::sys::time::TimeVal;
use nix::unistd::{Pid, gettid};
use processes::{PATIENCE, eventually, fork, unique};
use std::fs::{self, File};
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here takes, shorter than a test's patience.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(50);

fn address(test: &str) -> Address {
    Address::name(unique(test))
}

/// A listener that is not in a hurry.
fn listen(address: impl Into<Address>) -> Listener {
    Listener::options().timeout(LONG).bind(address).unwrap()
}

/// A client that is not either.
fn connected<F: annulus::Face>(address: impl Into<Address>) -> F {
    Connect::new().timeout(LONG).open(address).unwrap()
}

/// A listener, and a client of it in this process.
fn pair<F: annulus::Face + Send + 'static>(test: &str) -> (F, F) {
    let address = address(test);
    let mut listener = listen(address.clone());
    let client = thread::spawn(move || connected::<F>(address));
    let server = listener.accept_timeout(LONG).unwrap();
    (server, client.join().unwrap())
}

/// Descriptors of this process, but for those that epoll has: the one by which it hears of hang-ups comes with the first
/// sleep, whenever that is.
fn descriptors() -> usize {
    let all = fs::read_dir("/proc/self/fd").unwrap();
    let what = all.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    what.filter(|what| what.to_str() != Some("anon_inode:[eventpoll]")).count()
}

#[test]
fn messages_pass_both_ways_between_processes() {
    for wait in [Wait::Adaptive, Wait::Block, Wait::Spin] {
        let address = address("both");
        let mut listener = listen(address.clone());
        let child = fork(|_| {
            let mut server: Duplex<[u64; 2]> = connected(address.clone());
            server.set_wait(wait);
            for i in 0..3000 {
                server.send([i, !i]).unwrap();
                assert_eq!(server.recv_timeout(PATIENCE).unwrap(), [!i, i]);
            }
        });
        let mut client: Duplex<[u64; 2]> = listener.accept_timeout(LONG).unwrap();
        client.set_wait(wait);
        assert_eq!(client.peer().pid(), child.pid());
        assert!(client.peer().is_same_user());
        while let Ok([one, other]) = client.recv() {
            if client.send([other, one]).is_err() {
                break;
            }
        }
        child.finish();
        // Its handles were never closed: it was forked, and left by `_exit`.
        assert!(client.ending().is_some());
    }
}

#[test]
fn the_peer_is_who_the_kernel_says() {
    let (server, client) = pair::<Duplex<u64>>("who");
    for peer in [server.peer(), client.peer()] {
        assert_eq!(peer.pid(), std::process::id());
        assert_eq!(peer.uid(), nix::unistd::geteuid().as_raw());
        assert_eq!(peer.gid(), nix::unistd::getegid().as_raw());
        if let Some(pidfd) = peer.pidfd() {
            let link = format!("/proc/self/fd/{}", pidfd.as_raw_fd());
            assert!(fs::read_link(link).unwrap().to_string_lossy().contains("pidfd"));
        }
    }
}

#[test]
fn a_peers_process_can_be_asked_for_while_it_is_connected() {
    let (server, client) = pair::<Duplex<u64>>("pidfd");
    let (asked, late) = (server.peer().clone(), client.peer().clone());
    let is_known = asked.pidfd().is_some();
    assert_eq!(
        server.peer().pidfd().map(|fd| fd.as_raw_fd()),
        asked.pidfd().map(|fd| fd.as_raw_fd())
    );
    drop((server, client));
    assert_eq!(asked.pidfd().is_some(), is_known);
    assert!(late.pidfd().is_none());
    assert_eq!(late.pid(), std::process::id());
}

#[test]
fn a_client_gets_what_it_wants_whatever_was_made_ahead_for_it() {
    let address = address("ahead");
    let mut listener = Listener::bind(address.clone()).unwrap();
    // They say what they want when the listener has had time to make it; and then some want something else.
    let all = [8, 8, 8, 8, 32, 8, 8, 64, 64, 64, 8];
    let clients = thread::spawn(move || {
        for capacity in all {
            let connect = Connect::new().capacities(capacity, 2 * capacity).authorize(move |_| {
                thread::sleep(Duration::from_millis(3));
                true
            });
            let mut server: Duplex<u64> = connect.open(address.clone()).unwrap();
            assert_eq!(server.sender().unwrap().capacity(), capacity);
            server.send(capacity as u64).unwrap();
            assert_eq!(server.recv_timeout(LONG), Ok(2 * capacity as u64));
        }
    });
    for capacity in all {
        let mut client: Duplex<u64> = listener.accept_timeout(LONG).unwrap();
        assert_eq!(client.sender().unwrap().capacity(), 2 * capacity);
        assert_eq!(client.recv_timeout(LONG), Ok(capacity as u64));
        client.send(2 * capacity as u64).unwrap();
    }
    clients.join().unwrap();
}

#[test]
fn a_closed_side_is_told_from_a_dead_peer() {
    let (mut server, mut client) = pair::<Duplex<u64>>("half");
    assert_eq!((server.ending(), client.ending()), (None, None));
    client.send(1).unwrap();
    client.shutdown(Shutdown::Write);
    assert!(matches!(client.send(2), Err(SendError::Disconnected(2))));
    assert_eq!(
        (server.recv_timeout(PATIENCE), server.recv_timeout(PATIENCE)),
        (Ok(1), Err(RecvTimeoutError::Disconnected))
    );
    assert_eq!(server.ending(), Some(Ending::Closed));
    // The other direction goes on.
    assert_eq!(client.ending(), None);
    for i in 0..3000 {
        server.send(i).unwrap();
        assert_eq!(client.recv_timeout(PATIENCE), Ok(i));
    }
    drop(server);
    assert_eq!(client.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
    assert_eq!(client.ending(), Some(Ending::Closed));
    client.shutdown(Shutdown::Both);
    assert_eq!(client.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
}

#[test]
fn a_sender_learns_that_nobody_receives() {
    let (mut server, mut client) = pair::<Duplex<u64>>("deaf");
    server.shutdown(Shutdown::Read);
    assert!((0..3).any(|i| client.send(i).is_err()));
    server.send(7).unwrap();
    assert_eq!(client.recv_timeout(PATIENCE), Ok(7));
    assert_eq!(server.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
}

#[test]
fn a_side_that_was_shut_down_says_so_in_every_verb() {
    let (mut server, mut client) = pair::<Duplex<u64>>("verbs");
    server.send(1).unwrap();
    for _ in 0..2 {
        client.shutdown(Shutdown::Both);
        assert!(matches!(client.send(2), Err(SendError::Disconnected(2))));
        assert!(matches!(client.try_send(3), Err(TrySendError::Disconnected(3))));
        let timed = client.send_timeout(4, PATIENCE);
        assert!(matches!(timed, Err(SendTimeoutError::Disconnected(4))));
        assert!(matches!(client.send_with_fds(5, &[]), Err(FdsError::Disconnected)));
        assert_eq!(client.recv(), Err(RecvError::Disconnected));
        assert_eq!(client.try_recv(), Err(TryRecvError::Disconnected));
        assert_eq!(client.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
        assert!(matches!(client.recv_with_fds(), Err(FdsError::Disconnected)));
        assert!(client.sender().is_none() && client.receiver().is_none());
        client.set_wait(Wait::Block);
    }
    assert_eq!(server.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
    assert_eq!(server.ending(), Some(Ending::Closed));
    assert_eq!(client.ending(), None);
    assert!(matches!(client.split(), (None, None)));
    // Only now nobody has the other end.
    drop(server);
}

#[test]
fn a_side_for_bytes_that_was_shut_down_says_so_in_every_verb() {
    let (mut server, mut client) = pair::<ByteDuplex>("byte-verbs");
    server.send(b"one").unwrap();
    let mut message = Vec::new();
    for _ in 0..2 {
        client.shutdown(Shutdown::Both);
        assert_eq!(client.send(b"2"), Err(ByteSendError::Disconnected));
        assert_eq!(client.try_send(b"3"), Err(ByteSendError::Disconnected));
        assert_eq!(client.send_timeout(b"4", PATIENCE), Err(ByteSendError::Disconnected));
        assert!(matches!(client.send_with_fds(b"5", &[]), Err(FdsError::Disconnected)));
        assert_eq!(client.recv(&mut message), Err(RecvError::Disconnected));
        assert_eq!(client.try_recv(&mut message), Err(TryRecvError::Disconnected));
        let timed = client.recv_timeout(&mut message, PATIENCE);
        assert_eq!(timed, Err(RecvTimeoutError::Disconnected));
        assert!(matches!(client.recv_with_fds(&mut message), Err(FdsError::Disconnected)));
        assert!(client.sender().is_none() && client.receiver().is_none());
        client.set_wait(Wait::Block);
    }
    let ended = server.recv_timeout(&mut message, PATIENCE);
    assert_eq!(ended, Err(RecvTimeoutError::Disconnected));
    assert_eq!(server.ending(), Some(Ending::Closed));
    // As a stream it is at its end.
    let mut stream = ByteStream::from(client);
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(stream.write(b"6").unwrap_err().kind(), ErrorKind::BrokenPipe);
    drop(server);
}

/// Whether a thread of this process sleeps in a futex now.
fn sleeps(thread: Pid) -> bool {
    let call = fs::read_to_string(format!("/proc/self/task/{thread}/syscall")).unwrap_or_default();
    call.split(' ').next() == Some(&libc::SYS_futex.to_string())
}

/// How often a thread of this process has gone to sleep.
fn naps(thread: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/self/task/{thread}/status")).unwrap();
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count.unwrap().trim().parse().unwrap()
}

#[test]
fn a_killed_peer_is_noticed_at_once() {
    let (mut noticed, mut slices) = (Vec::new(), Vec::new());
    for wait in [Wait::Adaptive, Wait::Block].repeat(6) {
        let address = address("killed");
        let mut listener = Listener::bind(address.clone()).unwrap();
        let child = fork(|line| {
            let mut server: Duplex<u64> = annulus::connect(address.clone()).unwrap();
            server.send(1).unwrap();
            line.wait_for_end();
        });
        let mut client: Duplex<u64> = listener.accept_timeout(LONG).unwrap();
        client.set_wait(wait);
        assert_eq!(client.recv_timeout(PATIENCE), Ok(1));
        let (tell, told) = mpsc::channel();
        let waiter = thread::spawn(move || {
            tell.send(gettid()).unwrap();
            assert_eq!(client.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
            (Instant::now(), client.ending())
        });
        let thread = told.recv().unwrap();
        eventually("the waiter sleeps", || sleeps(thread));
        let next_slice = || {
            let before = naps(thread);
            eventually("the slice ends", || naps(thread) != before);
            Instant::now()
        };
        let start = next_slice();
        let end = next_slice();
        slices.push(end - start);
        child.kill();
        let (noticed_at, ending) = waiter.join().unwrap();
        assert_eq!(ending, Some(Ending::Died));
        noticed.push(noticed_at.saturating_duration_since(end));
    }
    noticed.sort();
    slices.sort();
    println!("{noticed:?}, {slices:?}");
    // The kills come when a slice begins, so that without the hint each would take as long as the one before it, on a
    // machine that has as much else to do.
    let middle = noticed.len() / 2;
    assert!(noticed[middle] < slices[middle] / 2, "{noticed:?}, {slices:?}");
}

#[test]
fn a_stopped_peer_is_waited_for() {
    let address = address("stopped");
    let mut listener = listen(address.clone());
    let child = fork(|line| {
        let _server: Duplex<u64> = connected(address.clone());
        line.say(1);
        line.wait_for_end();
    });
    let mut client: Duplex<u64> = listener.accept_timeout(LONG).unwrap();
    child.signal(Signal::SIGSTOP);
    let timeout = Duration::from_millis(250);
    assert_eq!(client.recv_timeout(timeout), Err(RecvTimeoutError::Timeout));
    assert_eq!(client.ending(), None);
    child.kill();
}

#[test]
fn two_threads_share_a_connection() {
    let (server, client) = pair::<ByteDuplex>("threads");
    let (mut tx, mut rx) = server.split();
    let (tx, rx) = (tx.as_mut().unwrap(), rx.as_mut().unwrap());
    let (mut ctx, mut crx) = client.split();
    thread::scope(|scope| {
        scope.spawn(|| (0..2000).for_each(|i| tx.send(&vec![1; i % 700]).unwrap()));
        let ctx = ctx.as_mut().unwrap();
        scope.spawn(|| (0..2000).for_each(|i| ctx.send(&vec![2; i % 900]).unwrap()));
        let crx = crx.as_mut().unwrap();
        scope.spawn(|| {
            let mut message = Vec::new();
            for i in 0..2000 {
                assert_eq!(crx.recv(&mut message).unwrap(), i % 700);
            }
        });
        let mut message = Vec::new();
        for i in 0..2000 {
            assert_eq!(rx.recv(&mut message).unwrap(), i % 900);
        }
    });
    // One of the two keeps the connection.
    drop(ctx.take());
    tx.send(b"still there").unwrap();
    assert_eq!(crx.as_mut().unwrap().recv(&mut Vec::new()).unwrap(), 11);
}

/// Asks and is answered, often enough for both sides to have tried all that they try in a conversation.
fn converse<const N: usize>(capacity: usize) {
    const TURNS: u64 = 1500;
    let address = address(&format!("converse-{N}-{capacity}"));
    let mut listener = listen(address.clone());
    let client = thread::spawn(move || {
        let connect = Connect::new().timeout(LONG).capacity(capacity);
        let mut peer = connect.open::<Duplex<[u64; N]>>(address).unwrap();
        for turn in 0..TURNS {
            peer.send([turn; N]).unwrap();
            assert_eq!(peer.recv_timeout(LONG).unwrap(), [turn + 1; N]);
        }
    });
    let mut peer = listener.accept_timeout::<Duplex<[u64; N]>>(LONG).unwrap();
    for turn in 0..TURNS {
        assert_eq!(peer.recv_timeout(LONG).unwrap(), [turn; N]);
        peer.send([turn + 1; N]).unwrap();
    }
    client.join().unwrap();
}

#[test]
fn a_conversation_goes_on_whatever_is_tried_in_it() {
    for capacity in [1, 2, 7, 64] {
        converse::<1>(capacity);
        converse::<7>(capacity);
        converse::<8>(capacity);
        converse::<128>(capacity);
    }
}

#[test]
fn a_stream_carries_bytes_whatever_the_pieces() {
    let (server, mut client) = pair::<ByteStream>("stream");
    let (mut reader, mut writer) = server.split();
    let data: Vec<u8> = (0..3_000_000_u32).map(|i| (i / 7) as u8).collect();
    thread::scope(|scope| {
        let data = &data;
        scope.spawn(move || {
            let mut at = 0;
            for piece in [1, 7, 100, 4096, 70_000, 1_000_000].iter().cycle() {
                let end = (at + piece).min(data.len());
                writer.write_all(&data[at..end]).unwrap();
                at = end;
                if at == data.len() {
                    return;
                }
            }
        });
        let mut got = Vec::new();
        let mut buffer = vec![0; 200_000];
        for size in [1, 3, 1000, 200_000].iter().cycle() {
            match client.read(&mut buffer[..*size]).unwrap() {
                0 => break,
                count => got.extend_from_slice(&buffer[..count]),
            }
        }
        assert!(got == *data);
    });
    assert_eq!(client.ending(), Some(Ending::Closed));
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0, "the end stays the end");
    client.write_all(b"the other way").unwrap();
    client.shutdown(Shutdown::Write);
    assert_eq!(client.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "the other way");
}

#[test]
fn a_stream_says_what_is_the_matter() {
    let (mut server, mut client) = pair::<ByteStream>("matter");
    client.set_read_timeout(Some(Duration::from_millis(5)));
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(client.read(&mut []).unwrap(), 0);
    server.set_write_timeout(Some(Duration::from_millis(5)));
    let full = (0..1000).find_map(|_| server.write(&[1; 1000]).err()).unwrap();
    assert_eq!(full.kind(), ErrorKind::TimedOut);
    drop(client);
    assert!((0..3).any(|_| server.write(b"x").is_err_and(|e| e.kind() == ErrorKind::BrokenPipe)));

    let address = address("reset");
    let mut listener = listen(address.clone());
    let child = fork(|line| {
        let mut server: ByteStream = connected(address.clone());
        server.write_all(b"last words").unwrap();
        line.wait_for_end();
    });
    let mut client: ByteStream = listener.accept_timeout(LONG).unwrap();
    let mut words = [0; 10];
    client.read_exact(&mut words).unwrap();
    child.kill();
    assert_eq!(&words, b"last words");
    assert_eq!(client.read(&mut words).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn empty_messages_of_a_peer_do_not_end_a_stream_nor_hold_it_up() {
    let address = address("empty");
    let mut listener = listen(address.clone());
    let client = thread::spawn(move || connected::<ByteDuplex>(address));
    let mut server: ByteStream = listener.accept_timeout(LONG).unwrap();
    let mut client = client.join().unwrap();
    for _ in 0..5 {
        client.send(b"").unwrap();
    }
    client.send(b"something").unwrap();
    let mut words = [0; 20];
    assert_eq!(server.read(&mut words).unwrap(), 9);
    server.set_read_timeout(Some(Duration::from_millis(20)));
    let flood = thread::spawn(move || {
        // Until the reader has gone; if it is held up, the end of this is what it reads.
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end && client.send_timeout(b"", PATIENCE).is_ok() {}
    });
    assert_eq!(server.read(&mut words).unwrap_err().kind(), ErrorKind::TimedOut);
    drop(server);
    flood.join().unwrap();
}

/// Serves a client of `u64`s that does not get its connection, whenever it comes.
fn refuse_one(listener: &mut Listener) {
    eventually("a client is refused", || {
        assert!(listener.accept_timeout::<Duplex<u64>>(SHORT).is_err());
        listener.refused() > 0
    });
    assert_eq!(listener.refused(), 1);
}

#[test]
fn each_side_may_refuse_the_other() {
    let address = address("trust");
    let picky = Listener::options().authorize(|_| false);
    let mut listener = picky.bind(address.clone()).unwrap();
    let client = thread::spawn(move || annulus::connect::<Duplex<u64>>(address).unwrap_err());
    refuse_one(&mut listener);
    assert!(matches!(
        client.join().unwrap(),
        ConnectError::Refused { refusal: Refusal::Untrusted } | ConnectError::Closed
    ));
    assert!(matches!(listener.last_refusal(), Some(ConnectError::Untrusted { .. })));

    let address = self::address("trust");
    let mut listener = Listener::bind(address.clone()).unwrap();
    let client = thread::spawn(move || {
        Connect::new().authorize(|_| false).open::<Duplex<u64>>(address).unwrap_err()
    });
    refuse_one(&mut listener);
    assert!(matches!(client.join().unwrap(), ConnectError::Untrusted { .. }));
}

/// What a client is told that asks a listener of `u64`s, labelled `n`, for something else.
fn told<F: annulus::Face>(connect: Connect) -> ConnectError {
    let address = address("told");
    let options = Listener::options().label("n").most_bytes(1 << 20);
    let mut listener = options.bind(address.clone()).unwrap();
    thread::scope(|scope| {
        scope.spawn(move || refuse_one(&mut listener));
        connect.timeout(LONG).open::<F>(address).map(drop).unwrap_err()
    })
}

#[test]
fn what_was_not_agreed_is_refused() {
    let refused = |error, expected| match error {
        ConnectError::Refused { refusal } => assert_eq!(refusal, expected),
        error => panic!("{error:?}"),
    };
    refused(told::<Duplex<u32>>(Connect::new().label("n")), Refusal::Messages);
    refused(told::<Duplex<[u32; 2]>>(Connect::new().label("n")), Refusal::Messages);
    refused(told::<ByteDuplex>(Connect::new().label("n")), Refusal::Messages);
    refused(told::<Duplex<u64>>(Connect::new()), Refusal::Label);
    refused(told::<Duplex<u64>>(Connect::new().label("m")), Refusal::Label);
    let large = Connect::new().label("n").capacities(10, 1 << 20);
    refused(told::<Duplex<u64>>(large), Refusal::TooLarge);
    let large = Connect::new().label("n").capacities(1 << 20, 10);
    refused(told::<Duplex<u64>>(large), Refusal::TooLarge);
}

#[test]
fn a_client_checks_what_it_asks_for() {
    let open = |connect: Connect| connect.open::<Duplex<u64>>(address("never")).unwrap_err();
    let long = "x".repeat(65);
    assert!(matches!(open(Connect::new().label(&long)), ConnectError::Ring(_)));
    assert!(matches!(open(Connect::new().capacity(0)), ConnectError::Ring(_)));
    assert!(matches!(open(Connect::new().capacity(usize::MAX)), ConnectError::Ring(_)));
    assert!(matches!(open(Connect::new()), ConnectError::NotListening));
    for bad in [String::new(), "x".repeat(108), "a\0b".into()] {
        let error = annulus::connect::<Duplex<u64>>(bad).unwrap_err();
        assert!(matches!(error, ConnectError::InvalidAddress { .. }), "{error:?}");
    }
    let error = Listener::bind(Address::name("x".repeat(108))).unwrap_err();
    assert!(matches!(error, ConnectError::InvalidAddress { .. }), "{error:?}");
}

#[test]
fn capacities_are_those_that_were_asked_for() {
    let address = address("sizes");
    let mut listener = listen(address.clone());
    let client = thread::spawn(move || {
        Connect::new().capacities(3, 1000).timeout(LONG).open::<Duplex<u64>>(address).unwrap()
    });
    let mut server: Duplex<u64> = listener.accept_timeout(LONG).unwrap();
    let mut client = client.join().unwrap();
    assert_eq!(client.sender().unwrap().capacity(), 3);
    assert_eq!(server.receiver().unwrap().capacity(), 3);
    assert_eq!(server.sender().unwrap().capacity(), 1000);
}

#[test]
fn a_path_is_a_socket_of_the_mode_that_was_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    for mode in [0o600, 0o666, 0o660] {
        let listener = Listener::options().mode(mode).bind(&path).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o7777, mode);
        assert!(matches!(Listener::bind(&path), Err(ConnectError::InUse)), "somebody listens");
        drop(listener);
        assert!(!path.exists(), "it goes with its listener");
    }
    assert!(Listener::options().mode(0o10000).bind(&path).is_err());
    assert!(Listener::bind(directory.path().join("none/socket")).is_err());
}

#[test]
fn a_socket_whose_listener_is_dead_is_replaced_and_nothing_else_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let child = fork(|line| {
        let _listener = Listener::bind(&path).unwrap();
        line.say(1);
        line.wait_for_end();
    });
    eventually("the child listens", || path.exists());
    child.kill();
    assert!(path.exists(), "it was left behind");
    let stale = annulus::connect::<Duplex<u64>>(&path).unwrap_err();
    assert!(matches!(stale, ConnectError::NotListening), "{stale:?}");
    let mut listener = Listener::bind(&path).unwrap();
    let client = thread::spawn({
        let path = path.clone();
        move || connected::<Duplex<u64>>(path)
    });
    let _server: Duplex<u64> = listener.accept_timeout(LONG).unwrap();
    drop(client.join().unwrap());
    // A successor's socket is left alone.
    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    drop(listener);
    assert!(path.exists());
    // A socket of another kind answers "another kind", so somebody is there.
    assert!(matches!(Listener::bind(&path), Err(ConnectError::InUse)));
    let wrong = annulus::connect::<Duplex<u64>>(&path).unwrap_err();
    assert!(matches!(wrong, ConnectError::Protocol { .. }), "{wrong:?}");
    drop(other);
    let file = directory.path().join("file");
    fs::write(&file, "mine").unwrap();
    assert!(matches!(Listener::bind(&file), Err(ConnectError::InUse)));
    std::os::unix::fs::symlink(&path, directory.path().join("link")).unwrap();
    assert!(Listener::bind(directory.path().join("link")).is_err());
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}

#[test]
fn what_is_no_directory_keeps_nobody_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(Listener::bind(fifo.join("socket")).map(drop)));
    let refused = told.recv_timeout(LONG).expect("the call comes back").unwrap_err();
    assert!(matches!(refused, ConnectError::Os { .. }), "{refused:?}");
}

#[test]
fn a_forked_child_has_neither_listener_nor_connection() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let mut listener = Some(Listener::bind(&path).unwrap());
    let (mut server, mut client) = pair::<Duplex<u64>>("fork");
    let child = fork(|_| {
        assert!(matches!(
            listener.as_mut().unwrap().accept::<Duplex<u64>>(),
            Err(ConnectError::Forked)
        ));
        assert!(matches!(client.recv(), Err(RecvError::Forked)));
        assert!(matches!(server.send(1), Err(SendError::Forked(1))));
        assert_eq!(client.ending(), None);
        // Its own are its own.
        let (mut one, mut other) = pair::<Duplex<u64>>("forked");
        one.send(3).unwrap();
        assert_eq!(other.recv_timeout(PATIENCE), Ok(3));
        drop(listener.take());
    });
    child.finish();
    assert!(path.exists() && listener.is_some());
    server.send(2).unwrap();
    assert_eq!(client.recv_timeout(PATIENCE), Ok(2));
}

#[test]
fn children_that_are_forked_while_somebody_binds_keep_nobody_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let (is_over, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let binder = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                drop(Listener::bind(&path).expect("nobody else binds here"));
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        // They live on, and would keep a lock that they had got along with everything else.
        let mut children = Vec::new();
        for _ in 0..100 {
            let before = rounds.load(Ordering::Relaxed);
            eventually("it goes on", || {
                binder.is_finished() || rounds.load(Ordering::Relaxed) > before
            });
            children.push(fork(|line| line.wait_for_end()));
        }
        is_over.store(true, Ordering::Relaxed);
        binder.join().unwrap();
        drop(children);
    });
}

#[test]
fn connections_leave_nothing_behind() {
    let child = fork(|_| {
        let address = address("leaks");
        let mut listener = listen(address.clone());
        let mut round = || {
            let address = address.clone();
            let client = thread::spawn(move || connected::<Duplex<u64>>(address));
            let mut server: Duplex<u64> = listener.accept_timeout(LONG).unwrap();
            let mut client = client.join().unwrap();
            client.send(1).unwrap();
            assert_eq!(server.recv_timeout(PATIENCE), Ok(1));
        };
        (0..10).for_each(|_| round());
        thread::sleep(Duration::from_millis(100));
        let (before, maps) = (descriptors(), fs::read_to_string("/proc/self/maps").unwrap());
        (0..200).for_each(|_| round());
        // The listener may have halves made ahead for the next client: two descriptors, and a mapping.
        eventually("all is closed", || descriptors() <= before + 2);
        let halves = |maps: &str| maps.matches("annulus-half").count();
        eventually("all is unmapped", || {
            halves(&fs::read_to_string("/proc/self/maps").unwrap()) <= halves(&maps) + 1
        });
    });
    child.finish();
}

/// A client that says what it likes.
fn raw_client(address: &str) -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
    let address = UnixAddr::new_abstract(address.as_bytes()).unwrap();
    connect(fd.as_raw_fd(), &address).unwrap();
    fd
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn magic() -> u64 {
    u64::from_le_bytes(*b"annulus>")
}

/// What a client of `u64`s says first.
fn hello() -> Vec<u8> {
    let mut bytes = words(&[magic(), 1, 2, 0, 1, 8, 8, 100, 100]);
    bytes.extend([0; 64]);
    bytes
}

fn give(fd: &OwnedFd, bytes: &[u8], fds: &[i32]) {
    let slices = [IoSlice::new(bytes)];
    let rights = [ControlMessage::ScmRights(fds)];
    let rights = if fds.is_empty() { &rights[..0] } else { &rights[..] };
    let _ = sendmsg::<()>(fd.as_raw_fd(), &slices, rights, MsgFlags::MSG_NOSIGNAL, None);
}

/// The word of a header that may say anything.
const CREATED: usize = 11;

/// The halves of one side as an honest one would make them, for capacities of 100.
fn halves() -> Forged {
    forge(&[(Role::Sender, 100), (Role::Receiver, 100)])
}

#[test]
fn whatever_a_client_says_it_is_only_passed_over() {
    let name = unique("hostile");
    let mut listener = listen(Address::name(&name));
    let null = File::open("/dev/null").unwrap();
    let null = null.as_raw_fd();
    let sound = halves();
    let good = sound.descriptor();
    let good = good.as_raw_fd();
    let memory =
        nix::sys::memfd::memfd_create(c"x", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
    let [sends, receives] = [Role::Sender, Role::Receiver].map(|role| (role, 100));
    // Sealed, whole, and not what is due.
    let wrong = [
        forge(&[receives, sends]),
        forge(&[sends]),
        forge(&[receives]),
        forge(&[sends, sends]),
        forge(&[sends, receives, receives]),
        forge(&[(Role::Sender, 50), receives]),
        forge(&[(Role::Sender, 5000), receives]),
        forge(&[sends, (Role::Receiver, 50)]),
    ];
    let many = vec![null; 253];
    type Step = (Vec<u8>, Vec<i32>);
    let mut scripts: Vec<Vec<Step>> = vec![
        vec![],
        vec![(hello(), vec![])],
        vec![(hello(), vec![null])],
        vec![(hello(), many.clone())],
        vec![(hello(), vec![good, good])],
        vec![(hello(), vec![good, null])],
        vec![(hello(), vec![memory.as_raw_fd()])],
        vec![(words(&[magic(), 2, 2, 0, 100, 100]), vec![good])],
        vec![(words(&[magic(), 4]), vec![good, good])],
        vec![(words(&[magic(), 5]), vec![])],
        vec![(words(&[magic(), 6]), vec![])],
        vec![(words(&[magic(), 3, 1, 1]), vec![])],
        vec![(words(&[magic(), 3, 7, 2]), vec![])],
        vec![(vec![0], vec![])],
        vec![(vec![0; 100_000], vec![])],
        vec![(vec![0; 100_000], vec![good])],
    ];
    scripts.extend(wrong.iter().map(|wrong| vec![(hello(), vec![wrong.fd.as_raw_fd()])]));
    // Each word of both headers and halves of which something is believed.
    let mut spoilt = Vec::new();
    for half in 0..2 {
        for word in 0..24 {
            let forged = halves();
            let there = &forged.halves[half][word];
            there.store(!there.load(Ordering::Relaxed), Ordering::Relaxed);
            spoilt.push(forged);
        }
    }
    // When it was made is for people.
    let is_refused = |i: &usize| i % 24 != CREATED;
    let spoilt: Vec<_> = (0..spoilt.len()).filter(is_refused).map(|i| &spoilt[i]).collect();
    scripts.extend(spoilt.iter().map(|forged| vec![(hello(), vec![forged.fd.as_raw_fd()])]));
    // Each word of the greeting with each of some values, and each length. What a client asks for beside rings (word 3)
    // is not refused: nobody has to do it.
    for word in [0, 1, 2, 4, 5, 6, 7, 8] {
        for value in [0, 1, 7, 1 << 32, 1 << 40, u64::MAX] {
            let mut bytes = hello();
            let there = &mut bytes[word * 8..][..8];
            if there == u64::to_le_bytes(value) {
                continue;
            }
            there.copy_from_slice(&u64::to_le_bytes(value));
            scripts.push(vec![(bytes, vec![good])]);
        }
    }
    for length in (0..hello().len()).step_by(5) {
        scripts.push(vec![(hello()[..length].to_vec(), vec![good])]);
    }
    let before = descriptors();
    let count = scripts.len() as u64;
    for (i, script) in scripts.into_iter().enumerate() {
        let client = raw_client(&name);
        for (bytes, fds) in script {
            give(&client, &bytes, &fds);
            // The listener may answer between two messages of a client.
            for _ in 0..2 {
                let accepted = listener.accept_timeout::<Duplex<u64>>(Duration::from_millis(1));
                assert!(accepted.is_err(), "script {i}");
            }
        }
        drop(client);
    }
    eventually("each was passed over", || {
        assert!(listener.accept_timeout::<Duplex<u64>>(Duration::from_millis(5)).is_err());
        listener.refused() == count
    });
    // But for what the listener may have made ahead for the next client.
    eventually("nothing was kept", || descriptors() <= before + 1 + 2);
    honest(&mut listener, &name);
}

/// A client that says what it should gets its connection, before the time of any silent one is over.
fn honest(listener: &mut Listener, name: &str) {
    let name = Address::name(name);
    let client = thread::spawn(move || connected::<Duplex<u64>>(name));
    let mut server: Duplex<u64> = listener.accept_timeout(LONG).unwrap();
    client.join().unwrap().send(5).unwrap();
    assert_eq!(server.recv_timeout(PATIENCE), Ok(5));
}

#[test]
fn silence_holds_up_nobody() {
    let name = unique("silence");
    let options = Listener::options().timeout(10 * LONG);
    let mut listener = options.bind(Address::name(&name)).unwrap();
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(raw_client(&name));
        assert!(listener.accept_timeout::<Duplex<u64>>(Duration::ZERO).is_err());
    }
    honest(&mut listener, &name);
    // More than are served at a time: the oldest make room.
    for _ in 0..100 {
        silent.push(raw_client(&name));
        assert!(listener.accept_timeout::<Duplex<u64>>(Duration::ZERO).is_err());
    }
    assert!(listener.refused() >= 56);
    honest(&mut listener, &name);
}

#[test]
fn a_handshake_has_a_deadline() {
    let name = unique("late");
    let options = Listener::options().timeout(Duration::from_millis(30));
    let mut listener = options.bind(Address::name(&name)).unwrap();
    let _client = raw_client(&name);
    eventually("the client is passed over", || {
        assert!(listener.accept_timeout::<Duplex<u64>>(Duration::from_millis(5)).is_err());
        listener.refused() == 1
    });
    assert!(matches!(listener.last_refusal(), Some(ConnectError::Timeout)));
}

/// A listener that says what it likes, to one client.
fn raw_listener(
    test: &str,
    serve: impl FnOnce(OwnedFd) + Send + 'static,
) -> (Address, thread::JoinHandle<()>) {
    let name = unique(test);
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
    bind(fd.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes()).unwrap()).unwrap();
    nix::sys::socket::listen(&fd, Backlog::new(5).unwrap()).unwrap();
    let server = thread::spawn(move || {
        let client = accept(fd.as_raw_fd()).unwrap();
        // SAFETY: the kernel has just made it, for us alone.
        let client = unsafe { OwnedFd::from_raw_fd(client) };
        // A client that waits for ever finds it closed in the end.
        let patience = TimeVal::new(PATIENCE.as_secs() as i64, 0);
        setsockopt(&client, ReceiveTimeout, &patience).unwrap();
        serve(client);
    });
    (Address::name(name), server)
}

/// What a client of `u64`s with a capacity of 100 says of a listener that does this.
fn verdict(serve: impl FnOnce(OwnedFd) + Send + 'static) -> ConnectError {
    verdict_within(LONG, serve)
}

fn verdict_within(timeout: Duration, serve: impl FnOnce(OwnedFd) + Send + 'static) -> ConnectError {
    let (address, server) = raw_listener("false", serve);
    let connect = Connect::new().capacity(100).timeout(timeout);
    let error = connect.open::<Duplex<u64>>(address).unwrap_err();
    server.join().unwrap();
    error
}

#[test]
fn a_client_stands_any_listener() {
    let hear = |client: &OwnedFd| {
        let mut bytes = [0; 200];
        recv(client.as_raw_fd(), &mut bytes, MsgFlags::empty()).unwrap();
    };
    let answer = || words(&[magic(), 2, 2, 0, 100, 100]);
    let wait_for_end = |client: &OwnedFd| {
        let mut bytes = [0; 200];
        while recv(client.as_raw_fd(), &mut bytes, MsgFlags::empty()).is_ok_and(|count| count > 0) {
        }
    };
    let silent = verdict_within(Duration::from_millis(200), move |client| wait_for_end(&client));
    assert!(matches!(silent, ConnectError::Timeout), "{silent:?}");
    let gone = verdict(drop);
    assert!(matches!(gone, ConnectError::Closed), "{gone:?}");
    let garbage = verdict(move |client| {
        send(client.as_raw_fd(), &[7; 40], MsgFlags::empty()).unwrap();
        wait_for_end(&client);
    });
    assert!(matches!(garbage, ConnectError::Protocol { .. }), "{garbage:?}");
    let version = verdict(move |client| {
        hear(&client);
        give(&client, &words(&[magic(), 3, 2, 9]), &[]);
        wait_for_end(&client);
    });
    assert!(matches!(version, ConnectError::Version { ours: 2, theirs: 9 }), "{version:?}");
    // A listener that does not know what this version sends says that it does not understand, and its own version.
    let older = verdict(move |client| {
        hear(&client);
        give(&client, &words(&[magic(), 3, 7, 1]), &[]);
        wait_for_end(&client);
    });
    assert!(matches!(older, ConnectError::Version { ours: 2, theirs: 1 }), "{older:?}");
    let none = verdict(move |client| {
        hear(&client);
        give(&client, &answer(), &[]);
        wait_for_end(&client);
    });
    assert!(matches!(none, ConnectError::Protocol { .. }), "{none:?}");
    let pipes = verdict(move |client| {
        hear(&client);
        let (one, other) = nix::unistd::pipe().unwrap();
        give(&client, &answer(), &[one.as_raw_fd()]);
        drop(other);
        wait_for_end(&client);
    });
    assert!(matches!(pipes, ConnectError::Ring(SetupError::NotSealed)), "{pipes:?}");
    let two = verdict(move |client| {
        hear(&client);
        let sound = halves();
        give(&client, &answer(), &[sound.fd.as_raw_fd(), sound.fd.as_raw_fd()]);
        wait_for_end(&client);
    });
    assert!(matches!(two, ConnectError::Protocol { .. }), "{two:?}");
    for parts in [vec![Role::Receiver, Role::Sender], vec![Role::Sender; 2], vec![Role::Sender]] {
        let parts: Vec<_> = parts.into_iter().map(|role| (role, 100)).collect();
        let wrong = verdict(move |client| {
            hear(&client);
            give(&client, &answer(), &[forge(&parts).fd.as_raw_fd()]);
            wait_for_end(&client);
        });
        assert!(matches!(wrong, ConnectError::Ring(_)), "{wrong:?}");
    }
    let other_sizes = verdict(move |client| {
        hear(&client);
        let answer = words(&[magic(), 2, 2, 0, 1 << 30, 100]);
        give(&client, &answer, &[halves().fd.as_raw_fd()]);
        wait_for_end(&client);
    });
    assert!(matches!(other_sizes, ConnectError::Protocol { .. }), "{other_sizes:?}");
}

#[test]
fn versions_tell_each_other_from_afar() {
    // What a client of the first version said: a greeting without a descriptor.
    let name = unique("older");
    let mut listener = listen(Address::name(&name));
    let halves = halves();
    for fds in [vec![], vec![halves.fd.as_raw_fd()]] {
        let client = raw_client(&name);
        let mut greeting = hello();
        greeting[16] = 1;
        give(&client, &greeting, &fds);
        let before = listener.refused();
        eventually("it is refused", || {
            assert!(listener.accept_timeout::<Duplex<u64>>(SHORT).is_err());
            listener.refused() > before
        });
        let last = listener.last_refusal();
        assert!(matches!(last, Some(ConnectError::Version { ours: 2, theirs: 1 })), "{last:?}");
        let mut bytes = [0; 200];
        let length = recv(client.as_raw_fd(), &mut bytes, MsgFlags::empty()).unwrap();
        assert_eq!(bytes[..length], words(&[magic(), 3, 2, 2]));
    }
}

#[test]
fn a_client_that_is_gone_before_the_answer_is_one_that_died() {
    let name = unique("gone");
    let mut listener = listen(Address::name(&name));
    let client = raw_client(&name);
    give(&client, &hello(), &[halves().fd.as_raw_fd()]);
    drop(client);
    // The listener may find out when it answers, or when it has a connection.
    eventually("it finds out", || match listener.accept_timeout::<Duplex<u64>>(SHORT) {
        Ok(mut client) => {
            assert_eq!(client.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
            assert_eq!(client.ending(), Some(Ending::Died));
            true
        }
        Err(error) => {
            assert!(matches!(error, ConnectError::Timeout), "{error:?}");
            listener.refused() == 1
        }
    });
    // One that says no at the last moment has been a client, too.
    let client = raw_client(&name);
    give(&client, &hello(), &[halves().fd.as_raw_fd()]);
    let mut server: Duplex<u64> = listener.accept_timeout(LONG).unwrap();
    give(&client, &words(&[magic(), 3, 7, 2]), &[]);
    drop(client);
    assert_eq!(server.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
    assert_eq!(server.ending(), Some(Ending::Died));
    honest(&mut listener, &name);
}

#[test]
fn a_peer_that_hangs_up_and_lives_is_alive() {
    // The hang-up is a hint, the lock is the truth: this "listener" closes its socket and keeps its halves.
    let (hung_up, hears) = mpsc::channel();
    let (go, goes) = mpsc::channel();
    let (address, server) = raw_listener("hint", move |client| {
        let mut bytes = [0; 200];
        recv(client.as_raw_fd(), &mut bytes, MsgFlags::empty()).unwrap();
        let halves = halves();
        halves.come_alive();
        let answer = words(&[magic(), 2, 2, 0, 100, 100]);
        give(&client, &answer, &[halves.descriptor().as_raw_fd()]);
        drop(client);
        hung_up.send(()).unwrap();
        goes.recv_timeout(PATIENCE).unwrap();
        halves.die();
    });
    let connect = Connect::new().capacity(100).timeout(LONG);
    let mut duplex = connect.open::<Duplex<u64>>(address).unwrap();
    hears.recv_timeout(PATIENCE).unwrap();
    // Several slices of a sleep, and all the wakes that follow a hang-up.
    let while_it_lives = Duration::from_millis(400);
    assert_eq!(duplex.recv_timeout(while_it_lives), Err(RecvTimeoutError::Timeout));
    assert_eq!(duplex.ending(), None);
    go.send(()).unwrap();
    assert_eq!(duplex.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
    assert_eq!(duplex.ending(), Some(Ending::Died));
    server.join().unwrap();
}
