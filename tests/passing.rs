//! Descriptors along with messages: each with its own, none for nothing, and no more than were asked for.

mod processes;

use annulus::{
    Address, ByteDuplex, Connect, Duplex, Ending, Face, FdsError, Hub, HubEvent, Listener,
};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use processes::{PATIENCE, eventually, fork, unique};
use std::fs::{self, File};
use std::io::{IoSlice, Read, Seek, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::thread;
use std::time::Duration;

/// A listener that is not in a hurry.
fn listen(address: Address) -> Listener {
    Listener::options().timeout(PATIENCE).bind(address).unwrap()
}

/// A client that is not either.
fn connected<F: Face>(address: Address) -> F {
    Connect::new().timeout(PATIENCE).open(address).unwrap()
}

fn pair<F: Face + Send + 'static>(test: &str) -> (F, F) {
    let address = Address::name(unique(test));
    let mut listener = listen(address.clone());
    let client = thread::spawn(move || connected::<F>(address));
    let server = listener.accept_timeout(PATIENCE).unwrap();
    (server, client.join().unwrap())
}

/// A file with `number` in it.
fn file(number: u64) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&number.to_le_bytes()).unwrap();
    file.into()
}

fn content(fd: OwnedFd) -> u64 {
    let (mut file, mut bytes) = (File::from(fd), [0; 8]);
    file.rewind().unwrap();
    file.read_exact(&mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}

/// Runs `body` in a process of its own, whose descriptors are nobody else's.
fn alone(body: impl FnOnce()) {
    fork(|_| body()).finish();
}

/// Descriptors of this process, but for those that epoll has: the one by which it hears of hang-ups comes with the first
/// sleep, whenever that is.
fn descriptors() -> usize {
    let all = fs::read_dir("/proc/self/fd").unwrap();
    let what = all.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    what.filter(|what| what.to_str() != Some("anon_inode:[eventpoll]")).count()
}

#[test]
fn each_message_has_its_own() {
    let (mut server, client) = pair::<Duplex<u64>>("own");
    let sender = thread::spawn(move || {
        let mut client = client;
        for number in 0..600 {
            let files: Vec<_> = (0..number % 9).map(|_| file(number)).collect();
            let fds: Vec<_> = files.iter().map(AsFd::as_fd).collect();
            while let Err(error) = client.send_with_fds(number, &fds) {
                // The other side is behind, and the kernel has a limit.
                assert!(matches!(error, FdsError::NotTaken | FdsError::Os(_)), "{error:?}");
                thread::yield_now();
            }
        }
        client.shutdown(Shutdown::Write);
        client
    });
    for expected in 0..600 {
        if expected % 5 == 4 {
            // Received without: what came with it is closed.
            assert_eq!(server.recv_timeout(PATIENCE), Ok(expected));
            continue;
        }
        let (number, fds) = server.recv_with_fds().unwrap();
        assert_eq!((number, fds.len() as u64), (expected, expected % 9));
        assert!(fds.into_iter().all(|fd| content(fd) == number));
    }
    assert!(matches!(server.recv_with_fds(), Err(FdsError::Disconnected)));
    drop(sender.join().unwrap());
}

#[test]
fn bytes_have_theirs_between_processes() {
    let address = Address::name(unique("bytes"));
    let mut listener = listen(address.clone());
    let child = fork(|_| {
        let mut service: ByteDuplex = connected(address.clone());
        let (mut message, mut sent) = (Vec::new(), 0);
        // What is sent and died for is still there.
        for number in 0..20 {
            let file = file(number);
            service.send_with_fds(&vec![1; number as usize], &[file.as_fd()]).unwrap();
            sent += 1;
        }
        assert!(service.recv_with_fds(&mut message).unwrap().is_empty());
        assert_eq!((message.len(), sent), (3, 20));
    });
    let mut client: ByteDuplex = listener.accept_timeout(PATIENCE).unwrap();
    let mut message = Vec::new();
    for number in 0..20 {
        let fds = client.recv_with_fds(&mut message).unwrap();
        assert_eq!((message.len(), fds.len()), (number, 1));
        assert!(fds.into_iter().all(|fd| content(fd) == number as u64));
    }
    client.send(b"yes").unwrap();
    child.finish();
}

#[test]
fn what_cannot_be_sent_is_not_sent() {
    let (mut server, mut client) = pair::<Duplex<u64>>("not");
    let null = File::open("/dev/null").unwrap();
    let fds = [null.as_fd(); 9];
    assert!(matches!(client.send_with_fds(1, &fds), Err(FdsError::TooMany { most: 8 })));
    assert!(matches!(server.try_recv_with_fds(), Err(FdsError::Empty)));
    // Nobody takes them: at some time there is no room for more, and no message comes without its own.
    let refused = (0..1000).find_map(|number| client.send_with_fds(number, &fds[..1]).err());
    assert!(matches!(refused, Some(FdsError::NotTaken | FdsError::Os(_))), "{refused:?}");
    let mut count = 0;
    while let Ok((number, fds)) = server.try_recv_with_fds() {
        assert_eq!((number, fds.len()), (count, 1));
        count += 1;
    }
    assert!(count > 10);
    client.send_with_fds(7, &fds[..2]).unwrap();
    assert_eq!(server.recv_with_fds().unwrap().1.len(), 2);
    drop(server);
    eventually("the peer is gone", || {
        matches!(client.send_with_fds(7, &fds[..1]), Err(FdsError::Disconnected))
    });
}

#[test]
fn nothing_is_kept_of_what_nobody_takes() {
    alone(|| {
        let before = descriptors();
        let (server, mut client) = pair::<Duplex<u64>>("kept");
        let between = descriptors();
        let null = File::open("/dev/null").unwrap();
        (0..50).for_each(|number| client.send_with_fds(number, &[null.as_fd(); 8]).unwrap());
        drop(null);
        assert_eq!(descriptors(), between, "they are the kernel's until they are received");
        drop((server, client));
        // But for those of the thread that hears of ends.
        eventually("all is closed", || descriptors() <= before + 1);
    });
}

const MAGIC: u64 = u64::from_le_bytes(*b"annulus>");

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The control socket of the only connection of this process to a listener: the last socket that it opened.
fn socket_of() -> RawFd {
    let mut sockets: Vec<RawFd> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| {
            // SAFETY: the descriptor is only asked for its kind, and an error is an answer.
            let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
            nix::sys::socket::getsockopt(&fd, nix::sys::socket::sockopt::SockType)
                .is_ok_and(|kind| kind == nix::sys::socket::SockType::SeqPacket)
        })
        .collect();
    sockets.sort();
    sockets.pop().expect("there is a connection")
}

fn say(socket: RawFd, bytes: &[u8], fds: &[RawFd]) {
    let rights = [ControlMessage::ScmRights(fds)];
    let rights = if fds.is_empty() { &rights[..0] } else { &rights[..] };
    let slices = [IoSlice::new(bytes)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    let _ = sendmsg::<()>(socket, &slices, rights, flags, None);
}

/// Sleeps once on a connection: what hears of hang-ups is there from then on.
fn sleep_once() {
    let address = Address::name(unique("sleep"));
    let mut listener = listen(address.clone());
    let client = thread::spawn(move || connected::<Duplex<u64>>(address));
    let mut server: Duplex<u64> = listener.accept_timeout(PATIENCE).unwrap();
    let timeout = Duration::from_millis(5);
    assert_eq!(server.recv_timeout(timeout), Err(annulus::RecvTimeoutError::Timeout));
    drop(client.join().unwrap());
}

#[test]
fn a_peer_that_says_what_it_likes_is_found_out() {
    alone(|| {
        sleep_once();
        // Number, count, and how many really come.
        let lies: [(&[u64], usize); 7] = [
            (&[MAGIC, 9, 0, 2], 1),
            (&[MAGIC, 9, 0, 1], 2),
            (&[MAGIC, 9, 0, 0], 0),
            (&[MAGIC, 9, 0, u64::MAX], 1),
            (&[MAGIC, 9, 0, 9], 9),
            (&[MAGIC, 1], 0),
            (&[MAGIC, 9, 0, 8], 253),
        ];
        for (message, count) in lies {
            let address = Address::name(unique("lies"));
            let mut listener = listen(address.clone());
            let child = fork(|line| {
                let mut service: Duplex<u64> = connected(address.clone());
                let null = File::open("/dev/null").unwrap();
                say(socket_of(), &words(message), &vec![null.as_raw_fd(); count]);
                service.send(1).unwrap();
                line.wait_for_end();
            });
            let mut client: Duplex<u64> = listener.accept_timeout(PATIENCE).unwrap();
            let before = descriptors();
            let error = client.recv_with_fds().unwrap_err();
            assert!(matches!(error, FdsError::Corrupt), "{message:?} {error:?}");
            // What hears of hang-ups may close something of the client before a moment after us.
            eventually("nothing is kept", || descriptors() <= before);
            child.kill();
        }
    });
}

#[test]
fn of_messages_that_never_come_one_lot_is_kept() {
    alone(|| {
        let address = Address::name(unique("later"));
        let mut listener = listen(address.clone());
        let child = fork(|line| {
            let mut service: Duplex<u64> = connected(address.clone());
            let null = File::open("/dev/null").unwrap();
            for later in 0..50 {
                say(socket_of(), &words(&[MAGIC, 9, 1000 + later, 1]), &[null.as_raw_fd()]);
            }
            (0..100).for_each(|number| service.send(number).unwrap());
            line.wait_for_end();
        });
        let mut client: Duplex<u64> = listener.accept_timeout(PATIENCE).unwrap();
        let before = descriptors();
        for number in 0..100 {
            let (got, fds) = client.recv_with_fds().unwrap();
            assert_eq!((got, fds.len()), (number, 0));
        }
        assert!(descriptors() <= before + 1);
        child.kill();
    });
}

#[test]
fn a_hub_takes_as_many_as_it_was_told() {
    alone(|| {
        for most in [0, 3] {
            let address = Address::name(unique("hub"));
            let listener = listen(address.clone());
            let mut hub = Hub::<Duplex<u64>>::new(listener).unwrap().most_with_fds(most);
            let mut child = fork(|line| {
                let mut service: Duplex<u64> = connected(address.clone());
                for number in 0..30 {
                    let file = file(number);
                    service.send_with_fds(number, &[file.as_fd()]).unwrap();
                    assert_eq!(service.recv_timeout(PATIENCE), Ok(number));
                }
                line.expect(1);
                let null = File::open("/dev/null").unwrap();
                for number in 30..40 {
                    // Lots for messages that it does not send.
                    say(socket_of(), &words(&[MAGIC, 9, 50 + number, 1]), &[null.as_raw_fd()]);
                }
                line.say(2);
                line.wait_for_end();
            });
            let mut count = 0;
            while count < 30 {
                let Some(HubEvent::Ready(mut turn)) = hub.next_timeout(PATIENCE).unwrap() else {
                    continue;
                };
                while let Ok((number, fds)) = turn.connection().try_recv_with_fds() {
                    // Where none are wanted, they are closed if the hub hears of them before the message is received.
                    assert!(if most > 0 { fds.len() == 1 } else { fds.len() <= 1 });
                    assert!(fds.into_iter().all(|fd| content(fd) == number));
                    turn.try_send(number).unwrap();
                    count += 1;
                }
            }
            let before = descriptors();
            child.line.say(1);
            if most > 0 {
                match hub.next_timeout(PATIENCE).unwrap() {
                    Some(HubEvent::Left { ending, .. }) => assert_eq!(ending, Ending::Corrupt),
                    event => panic!("{event:?}"),
                }
            } else {
                child.line.expect(2);
                assert!(hub.next_timeout(Duration::from_millis(50)).unwrap().is_none());
                assert!(descriptors() <= before);
            }
            child.kill();
        }
    });
}
