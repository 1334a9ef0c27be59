//! Processes of other users, and of other namespaces: who the kernel says they are, and what they get.

mod processes;

use annulus::{
    Connect, ConnectError, Duplex, Ending, Hub, HubEvent, Listener, ListenerOptions, RecvError,
    Refusal,
};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use processes::{Line, PATIENCE, eventually, fork, skip};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Users that nothing here belongs to.
const ONE: u32 = 41_001;
const OTHER: u32 = 41_002;

/// What the kernel shows for users whom a namespace does not know.
fn overflow() -> u32 {
    fs::read_to_string("/proc/sys/kernel/overflowuid").unwrap().trim().parse().unwrap()
}

/// Becomes the first process of a new user and pid namespace. In it this user is number `inside`, or has none.
fn in_namespaces(line: &mut Line, inside: Option<u32>, body: impl FnOnce(&mut Line)) {
    let user = nix::unistd::geteuid();
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID) {
        line.say(0);
        return skip("namespaces", errno);
    }
    if let Some(inside) = inside {
        fs::write("/proc/self/uid_map", format!("{inside} {user} 1")).unwrap();
    }
    let first = fork(|_| {
        assert_eq!(std::process::id(), 1);
        body(line);
    });
    first.finish();
}

fn become_user(user: u32) {
    setgroups(&[]).unwrap();
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    setresgid(gid, gid, gid).unwrap();
    setresuid(uid, uid, uid).unwrap();
}

/// A directory that everybody can reach, and the path of a socket in it.
fn meeting_place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    let path = directory.path().join("socket");
    (directory, path)
}

/// A listener that is not in a hurry.
fn listening() -> ListenerOptions {
    Listener::options().timeout(PATIENCE)
}

fn connect(path: &Path) -> Result<Duplex<u64>, ConnectError> {
    Connect::new().timeout(PATIENCE).open(path)
}

/// Sends back what comes until the client is gone; how it ended.
fn serve(mut client: Duplex<u64>) -> Option<Ending> {
    loop {
        match client.recv() {
            Ok(number) => client.send(number).unwrap(),
            Err(error) => {
                assert_eq!(error, RecvError::Disconnected);
                return client.ending();
            }
        }
    }
}

fn talk(server: &mut Duplex<u64>) {
    for i in 0..3000 {
        server.send(i).unwrap();
        assert_eq!(server.recv_timeout(PATIENCE), Ok(i));
    }
}

#[test]
fn a_listener_and_a_client_meet_across_user_and_pid_namespaces() {
    let (_directory, path) = meeting_place();
    let mut listening = fork(|line| {
        in_namespaces(line, Some(7), |line| {
            // The user has number 7 here, on whichever side it is.
            let mut listener = listening().authorize(|peer| peer.uid() == 7).bind(&path).unwrap();
            line.say(1);
            let client: Duplex<u64> = listener.accept_timeout(PATIENCE).unwrap();
            assert!(client.peer().is_same_user());
            assert_eq!(client.peer().pid(), 0, "it has no number in this namespace");
            assert_eq!(serve(client), Some(Ending::Died));
        });
    });
    if listening.line.hear() == 0 {
        return listening.finish();
    }
    let mut calling = fork(|line| {
        in_namespaces(line, Some(8), |line| {
            let mut server = connect(&path).unwrap();
            assert_eq!((server.peer().uid(), server.peer().pid()), (8, 0));
            talk(&mut server);
            line.say(1);
            // Left by `_exit`: it closes nothing itself.
            std::mem::forget(server);
        });
    });
    calling.line.expect(1);
    calling.finish();
    listening.finish();
}

#[test]
fn users_whom_a_namespace_does_not_know_are_not_taken_for_one() {
    let (_directory, path) = meeting_place();
    let mut listening = fork(|line| {
        in_namespaces(line, None, |line| {
            let overflow = overflow();
            assert_eq!(nix::unistd::geteuid().as_raw(), overflow);
            // Whoever comes looks as this process does to itself.
            let mut listener = listening().mode(0o666).bind(&path).unwrap();
            line.say(1);
            eventually("it is refused", || {
                let refused = listener.accept_timeout::<Duplex<u64>>(Duration::from_millis(50));
                assert!(refused.is_err(), "a stranger was taken for the same user");
                listener.refused() > 0
            });
            let last = listener.last_refusal();
            assert!(matches!(last, Some(ConnectError::Untrusted { uid }) if *uid == overflow));
            drop(listener);
            let trusting = listening().authorize(move |peer| peer.uid() == overflow);
            let mut listener = trusting.mode(0o666).bind(&path).unwrap();
            line.say(2);
            assert!(serve(listener.accept_timeout(PATIENCE).unwrap()).is_some());
        });
    });
    if listening.line.hear() == 0 {
        return listening.finish();
    }
    let refused = connect(&path).unwrap_err();
    let untrusted = ConnectError::Refused { refusal: Refusal::Untrusted };
    assert_eq!(refused.to_string(), untrusted.to_string());
    listening.line.expect(2);
    talk(&mut connect(&path).unwrap());
    listening.finish();
}

#[test]
fn users_who_do_not_trust_each_other_meet_if_both_say_so() {
    if !nix::unistd::geteuid().is_root() {
        return skip("other users", "it takes the superuser to become them");
    }
    let (_directory, path) = meeting_place();
    let mut listening = fork(|line| {
        become_user(ONE);
        let mut listener = listening().mode(0o666).bind(&path).unwrap();
        line.say(1);
        // The one that does not trust this listener either, and the one that does.
        eventually("both are refused", || {
            assert!(listener.accept_timeout::<Duplex<u64>>(Duration::from_millis(5)).is_err());
            listener.refused() == 2
        });
        let last = listener.last_refusal();
        assert!(matches!(last, Some(ConnectError::Untrusted { uid: OTHER })), "{last:?}");
        drop(listener);
        let one_more = listening().mode(0o666).authorize(|peer| peer.uid() == OTHER);
        let mut listener = one_more.bind(&path).unwrap();
        line.say(2);
        let client: Duplex<u64> = listener.accept_timeout(PATIENCE).unwrap();
        assert_eq!((client.peer().uid(), client.peer().gid()), (OTHER, OTHER));
        assert!(!client.peer().is_same_user());
        assert_eq!(serve(client), Some(Ending::Died));
    });
    listening.line.expect(1);
    let mut calling = fork(|line| {
        become_user(OTHER);
        // Each side asks before it says a word.
        assert!(matches!(connect(&path), Err(ConnectError::Untrusted { uid: ONE })));
        let trusting = || Connect::new().timeout(PATIENCE).authorize(|peer| peer.uid() == ONE);
        let refused = trusting().open::<Duplex<u64>>(&path);
        assert!(refused.is_err(), "the listener does not trust this user yet");
        line.say(1);
        line.expect(2);
        let mut server: Duplex<u64> = trusting().open(&path).unwrap();
        talk(&mut server);
        line.say(3);
        line.wait_for_end();
    });
    calling.line.expect(1);
    listening.line.expect(2);
    calling.line.say(2);
    calling.line.expect(3);
    calling.kill();
    listening.finish();
}

#[test]
fn a_user_has_so_many_places_and_leaves_the_others_theirs() {
    if !nix::unistd::geteuid().is_root() {
        return skip("other users", "it takes the superuser to become them");
    }
    let (_directory, path) = meeting_place();
    let options = listening().mode(0o666).authorize(|_| true).most_per_user(2);
    let mut hub = Hub::<Duplex<u64>>::new(options.bind(&path).unwrap()).unwrap();
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stop = std::sync::Arc::clone(&done);
    let serving = std::thread::spawn(move || {
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            match hub.next_timeout(Duration::from_millis(5)).unwrap() {
                Some(HubEvent::Ready(mut turn)) => {
                    while let Some(number) = turn.recv() {
                        turn.try_send(number).unwrap();
                    }
                }
                _ => continue,
            }
        }
        hub.listener().refused()
    });
    let user = |user: u32| {
        fork(|line| {
            become_user(user);
            let (mut one, mut other) = (connect(&path).unwrap(), connect(&path).unwrap());
            talk(&mut one);
            let crowded = connect(&path).unwrap_err();
            let refusal = ConnectError::Refused { refusal: Refusal::Crowded };
            assert_eq!(crowded.to_string(), refusal.to_string());
            line.say(1);
            line.expect(2);
            // A place is free again when its connection is gone.
            drop(one);
            let deadline = std::time::Instant::now() + PATIENCE;
            let mut next = loop {
                match connect(&path) {
                    Ok(next) => break next,
                    Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
                }
            };
            talk(&mut next);
            talk(&mut other);
        })
    };
    let mut one = user(ONE);
    one.line.expect(1);
    // While the one has all of its places, the other has its own.
    let mut other = user(OTHER);
    other.line.expect(1);
    one.line.say(2);
    one.finish();
    // All of that one's places are free by now, or soon.
    other.line.say(2);
    other.finish();
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(serving.join().unwrap() >= 2);
}

#[test]
fn a_service_of_the_superuser_takes_others_only_if_it_says_so() {
    if !nix::unistd::geteuid().is_root() {
        return skip("other users", "it takes the superuser to become them");
    }
    let (_directory, path) = meeting_place();
    let mut listener = listening().mode(0o666).bind(&path).unwrap();
    let calling = fork(|_| {
        become_user(ONE);
        // Its own side trusts the superuser.
        let error = connect(&path).unwrap_err();
        let refusal = ConnectError::Refused { refusal: Refusal::Untrusted };
        let is_one =
            matches!(error, ConnectError::Closed) || error.to_string() == refusal.to_string();
        assert!(is_one, "{error:?}");
    });
    eventually("it is refused", || {
        assert!(listener.accept_timeout::<Duplex<u64>>(Duration::from_millis(5)).is_err());
        listener.refused() == 1
    });
    calling.finish();
    drop(listener);
    // A socket that only its owner may write to is not even reached.
    let listener = listening().bind(&path).unwrap();
    let calling = fork(|_| {
        become_user(ONE);
        assert!(matches!(connect(&path), Err(ConnectError::PermissionDenied)));
    });
    calling.finish();
    drop(listener);
}
