//! Killed while meeting: a client or a listener dies before and after every system call of a handshake, and at many
//! places between. The other side passes it over or is told of its death, keeps nothing of it, and meets the next one.
//!
//! A handshake has tens of thousands of instructions, nearly all of them the allocator's and the formatting of `/proc`
//! paths, so not each of them is tried. The thread that hears of deaths is there before: its start is a matter of
//! `faults`.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use annulus::{Connect, Duplex, Face, Listener};
use tempfile::TempDir;

use crate::support::deadline::poll;
use crate::support::process::Peer;
use crate::support::ptrace::Tracee;
use crate::support::shared::SharedWords;
use crate::support::sweep::{CHILD_LIFE, Case, Points, Verdict, report, sweep};

/// How long a peer serves: longer than all its tests.
const SERVICE: Duration = Duration::from_secs(900);
/// Longer than anything takes that happens.
pub const PATIENCE: Duration = Duration::from_secs(40);
/// Points spread over a handshake, beside those at its system calls.
const POINTS: usize = 250;

/// The process at the other end, which is not killed.
pub struct Other {
    pub peer: Peer,
    /// `[connections made, connections ended, ...]`; the rest is for what it does with them.
    pub counts: SharedWords,
    directory: TempDir,
}

impl Other {
    pub fn start(run: impl FnOnce(PathBuf, &SharedWords)) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (counts, path) = (SharedWords::new(4), directory.path().join("socket"));
        let peer = Peer::spawn(SERVICE, || run(path, &counts));
        Self { peer, counts, directory }
    }

    /// One that listens, and gives each client a thread.
    pub fn listening<F: Face + Send>(serve: impl Fn(F, &SharedWords) + Sync) -> Self {
        let other = Self::start(|path, counts| {
            let mut listener = bind(path).expect("nobody else listens");
            thread::scope(|scope| {
                loop {
                    let client: F = listener.accept().expect("this side can go on");
                    scope.spawn(|| serve(client, counts));
                }
            });
        });
        assert!(poll(PATIENCE, || other.path().exists()), "it does not listen");
        other
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// Waits until it has the thread that hears of hang-ups, which comes with its first sleep on a connection.
    fn hears_of_deaths(&self) -> bool {
        let is_watch =
            |name: std::io::Result<String>| name.is_ok_and(|n| n.trim() == "annulus-watch");
        poll(PATIENCE, || {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", self.peer.pid()));
            let mut tasks = tasks.into_iter().flatten().filter_map(Result::ok);
            tasks.any(|task| is_watch(std::fs::read_to_string(task.path().join("comm"))))
        })
    }

    /// Waits until all its connections have ended, and it has `most` descriptors at most: how many it has.
    pub fn is_at_rest(&self, most: usize) -> Result<usize, String> {
        let mut count = 0;
        let rests = poll(PATIENCE, || {
            let of = |i: usize| self.counts[i].load(Ordering::Acquire);
            let table = std::fs::read_dir(format!("/proc/{}/fd", self.peer.pid()));
            count = table.map_or(0, |table| table.count());
            of(1) == of(0) && count <= most
        });
        let failed = || format!("{} has {count} descriptors, not {most}", self.peer.describe());
        rests.then_some(count).ok_or_else(failed)
    }
}

/// Sends back what comes, to the end.
fn echo(mut peer: Duplex<u64>, counts: &SharedWords) {
    counts[0].fetch_add(1, Ordering::AcqRel);
    while let Ok(number) = peer.recv() {
        let _ = peer.send(number);
    }
    assert!(peer.ending().is_some());
    drop(peer);
    counts[1].fetch_add(1, Ordering::AcqRel);
}

/// Has the other side send a number back.
pub fn ask(peer: &mut Duplex<u64>, number: u64) -> Result<(), String> {
    peer.send(number).map_err(|error| format!("send: {error}"))?;
    match peer.recv_timeout(PATIENCE) {
        Ok(answer) if answer == number => Ok(()),
        other => Err(format!("{number} was sent, and back came {other:?}")),
    }
}

/// A client, killed; the listener lives.
struct Connecting<'a> {
    listener: &'a Other,
    most: usize,
}

pub fn connect(path: PathBuf) -> Result<Duplex<u64>, String> {
    let open = Connect::new().capacity(16).timeout(PATIENCE).open(path);
    open.map_err(|error| format!("connect: {error}"))
}

impl Case for Connecting<'_> {
    type Survivor = ();

    fn label(&self) -> String {
        "connect".into()
    }

    fn start(&self) -> Result<(Tracee, ()), String> {
        let tracee = Tracee::spawn(CHILD_LIFE, |child| {
            ask(&mut connect(self.listener.path()).expect("it listens"), 1).expect("it answers");
            let server = child.section(|| connect(self.listener.path()));
            ask(&mut server.expect("it listens"), 2).expect("it answers");
        })?;
        Ok((tracee, ()))
    }

    fn check(&self, (): ()) -> Result<Verdict, String> {
        let mut server = connect(self.listener.path())?;
        ask(&mut server, 3)?;
        drop(server);
        self.listener.is_at_rest(self.most)?;
        Ok(Verdict::of(0))
    }

    fn effect(&self) -> u64 {
        0
    }
}

/// A listener, killed while it binds or accepts; clients come as long as they live.
struct Listening<'a> {
    client: &'a Other,
    accepts: bool,
    most: usize,
}

/// The next client, which sends back what it gets.
fn accept(listener: &mut Listener) -> Result<Duplex<u64>, String> {
    listener.accept_timeout(PATIENCE).map_err(|error| format!("accept: {error}"))
}

pub fn bind(path: PathBuf) -> Result<Listener, String> {
    let bound = Listener::options().timeout(PATIENCE).bind(path);
    bound.map_err(|error| format!("bind: {error}"))
}

impl Case for Listening<'_> {
    type Survivor = ();

    fn label(&self) -> String {
        if self.accepts { "accept" } else { "bind" }.into()
    }

    fn start(&self) -> Result<(Tracee, ()), String> {
        let tracee = Tracee::spawn(CHILD_LIFE, |child| {
            if self.accepts {
                let mut listener = bind(self.client.path()).expect("nobody else listens");
                ask(&mut accept(&mut listener).expect("there is a client"), 1).expect("an answer");
                let client = child.section(|| accept(&mut listener));
                ask(&mut client.expect("there is a client"), 2).expect("an answer");
            } else {
                let listener = child.section(|| bind(self.client.path()));
                drop(listener.expect("nobody else listens"));
            }
        })?;
        Ok((tracee, ()))
    }

    fn check(&self, (): ()) -> Result<Verdict, String> {
        // What the dead one has left of its socket is in nobody's way.
        let mut listener = bind(self.client.path())?;
        let mut client = accept(&mut listener)?;
        ask(&mut client, 3)?;
        drop((client, listener));
        self.client.is_at_rest(self.most)?;
        let left = std::fs::read_dir(self.client.directory.path()).map_or(0, |all| all.count());
        if left == 0 { Ok(Verdict::of(0)) } else { Err(format!("{left} files are left behind")) }
    }

    fn effect(&self) -> u64 {
        0
    }
}

#[test]
fn connecting() {
    let listener = Other::listening(echo);
    // It has all that it keeps once it has had a client that was silent for a while.
    let silent = connect(listener.path()).expect("it listens");
    assert!(listener.hears_of_deaths(), "it does not sleep");
    drop(silent);
    let first = Connecting { listener: &listener, most: usize::MAX };
    first.check(()).expect("a client is served");
    // It may have halves made ahead for the next client, which are two descriptors.
    let most = listener.is_at_rest(usize::MAX).expect("it rests") + 2;
    let row = sweep(&Connecting { listener: &listener, most }, Points::Spread(POINTS), 1);
    report("connect, single-stepped", &[row]);
    listener.peer.kill().expect("it served to the end");
}

#[test]
fn listening() {
    let client = Other::start(|path, counts| {
        loop {
            match connect(path.clone()) {
                Ok(server) => echo(server, counts),
                Err(_) => thread::sleep(Duration::from_micros(300)),
            }
        }
    });
    let mut listener = bind(client.path()).expect("nobody else listens");
    let silent = accept(&mut listener).expect("there is a client");
    assert!(client.hears_of_deaths(), "it does not sleep");
    drop((silent, listener));
    let first = Listening { client: &client, accepts: true, most: usize::MAX };
    first.check(()).expect("there is a client");
    // While nobody listens it has a socket now and then.
    let most = client.is_at_rest(usize::MAX).expect("it rests") + 1;
    let rows = [false, true].map(|accepts| {
        let case = Listening { client: &client, accepts, most };
        sweep(&case, Points::Spread(POINTS), 1)
    });
    report("listen, single-stepped", &rows);
    client.peer.kill().expect("it came to the end");
}
