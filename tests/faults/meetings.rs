//! Listeners, connections, and what is said over them.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use annulus::{Address, Connect, Duplex, Listener, RecvTimeoutError, Wait};

use super::inject::{Failure, Scenario, try_all};
use crate::support::process::{Peer, unique_name};

/// How long a peer serves: longer than all its tests.
const SERVICE: Duration = Duration::from_secs(1800);
/// Longer than anything takes that succeeds.
const LONG: Duration = Duration::from_secs(60);

/// What hears of deaths, for all connections of a process, once somebody has slept.
const WATCHER: &[&str] = &["descriptor of anon_inode:[eventpoll]", "thread"];

/// A process that listens at `address` and sends back what it gets.
fn echo(address: &Address) -> Peer {
    let ready = crate::support::shared::SharedWords::new(1);
    let peer = Peer::spawn(SERVICE, || {
        let options = Listener::options().timeout(LONG);
        let mut listener = options.bind(address.clone()).expect("nobody listens there");
        ready[0].store(1, std::sync::atomic::Ordering::Release);
        loop {
            let mut client: Duplex<u64> = listener.accept().expect("this side can go on");
            client.set_wait(Wait::Block);
            while let Ok(number) = client.recv() {
                let _ = client.send(number);
            }
        }
    });
    let is_ready = || ready[0].load(std::sync::atomic::Ordering::Acquire) == 1;
    assert!(crate::support::deadline::poll(LONG, is_ready), "the peer does not listen");
    peer
}

/// A process that connects to `address` whenever somebody listens there, and sends back what it gets.
fn client(address: &Address) -> Peer {
    Peer::spawn(SERVICE, || {
        loop {
            match Connect::new().timeout(LONG).open::<Duplex<u64>>(address.clone()) {
                Ok(mut server) => {
                    while let Ok(number) = server.recv() {
                        let _ = server.send(number);
                    }
                }
                Err(_) => thread::sleep(Duration::from_micros(300)),
            }
        }
    })
}

/// Has a peer send numbers back, after a sleep in which nothing comes.
fn talk(peer: &mut Duplex<u64>) {
    // Not adaptive: the time might be over before it has slept.
    peer.set_wait(Wait::Block);
    let silence = peer.recv_timeout(Duration::from_millis(1));
    assert_eq!(silence, Err(RecvTimeoutError::Timeout));
    peer.set_wait(Wait::default());
    for i in 0..3 {
        peer.send(i).expect("the peer is there");
        assert_eq!(peer.recv_timeout(LONG), Ok(i));
    }
}

/// At a path, where a dead listener may have left a socket.
struct BindPath {
    path: PathBuf,
    is_stale: bool,
}

impl Scenario for BindPath {
    type State = ();
    type Made = Listener;
    const LABEL: &'static str = "listen at a path";
    // Whoever does not refuse a connection may be alive.
    const ENDS: &'static [(i64, i32)] =
        &[(libc::SYS_connect, libc::EAGAIN), (libc::SYS_connect, libc::EINTR)];

    fn prepare(&self) {
        if self.is_stale {
            // The standard library's leaves its file behind.
            drop(UnixListener::bind(&self.path).expect("the path is free"));
        }
    }

    fn run(&self, (): &mut ()) -> Result<Listener, Failure> {
        Ok(Listener::bind(&self.path)?)
    }

    fn enjoy(&self, (): &mut (), made: Listener) {
        assert!(self.path.exists());
        drop(made);
        assert!(!self.path.exists());
    }

    fn names(&self) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }
}

struct BindName(Address);

impl Scenario for BindName {
    type State = ();
    type Made = Listener;
    const LABEL: &'static str = "listen under a name";

    fn prepare(&self) {}

    fn run(&self, (): &mut ()) -> Result<Listener, Failure> {
        Ok(Listener::bind(self.0.clone())?)
    }

    fn enjoy(&self, (): &mut (), made: Listener) {
        drop(made);
    }
}

/// A listener that goes. What it leaves behind then, the next one replaces.
struct StopListening(PathBuf);

impl Scenario for StopListening {
    type State = Option<Listener>;
    type Made = ();
    const LABEL: &'static str = "stop listening";

    fn prepare(&self) -> Option<Listener> {
        Some(Listener::bind(&self.0).expect("the path is free"))
    }

    fn run(&self, listener: &mut Option<Listener>) -> Result<(), Failure> {
        drop(listener.take().map_or_else(|| Listener::bind(&self.0), Ok)?);
        Ok(())
    }

    fn enjoy(&self, _listener: &mut Option<Listener>, (): ()) {}

    fn names(&self) -> Vec<PathBuf> {
        vec![self.0.clone()]
    }
}

/// A client, the first time in its process or not.
struct Connecting<const WARM: bool>(Address);

impl<const WARM: bool> Scenario for Connecting<WARM> {
    type State = ();
    type Made = Duplex<u64>;
    const LABEL: &'static str = if WARM { "connect again" } else { "connect" };
    const IS_WARM: bool = WARM;
    const KEEPS: &'static [&'static str] = WATCHER;

    fn prepare(&self) {}

    fn run(&self, (): &mut ()) -> Result<Duplex<u64>, Failure> {
        Ok(Connect::new().timeout(LONG).open(self.0.clone())?)
    }

    fn enjoy(&self, (): &mut (), mut made: Duplex<u64>) {
        talk(&mut made);
    }
}

/// A listener whose client comes again if it was turned away.
struct Accepting<const WARM: bool>(Address);

impl<const WARM: bool> Scenario for Accepting<WARM> {
    type State = Listener;
    type Made = Duplex<u64>;
    const LABEL: &'static str = if WARM { "accept again" } else { "accept" };
    const IS_WARM: bool = WARM;
    const KEEPS: &'static [&'static str] = WATCHER;

    fn prepare(&self) -> Listener {
        Listener::options().timeout(LONG).bind(self.0.clone()).expect("nobody listens there")
    }

    fn run(&self, listener: &mut Listener) -> Result<Duplex<u64>, Failure> {
        Ok(listener.accept_timeout(LONG)?)
    }

    fn enjoy(&self, _listener: &mut Listener, mut made: Duplex<u64>) {
        talk(&mut made);
    }
}

/// Messages over a connection, each of which is slept for.
struct Talking(Address);

impl Scenario for Talking {
    type State = Duplex<u64>;
    type Made = ();
    const LABEL: &'static str = "send and receive, sleeping";
    const KEEPS: &'static [&'static str] = WATCHER;

    fn prepare(&self) -> Duplex<u64> {
        let mut server: Duplex<u64> = annulus::connect(self.0.clone()).expect("it listens");
        server.set_wait(Wait::Block);
        server
    }

    fn run(&self, server: &mut Duplex<u64>) -> Result<(), Failure> {
        for i in 0..3 {
            server.send(i)?;
            assert_eq!(server.recv_timeout(LONG)?, i);
        }
        Ok(())
    }

    fn enjoy(&self, server: &mut Duplex<u64>, (): ()) {
        talk(server);
    }
}

/// A connection that is dropped.
struct HangingUp(Address);

impl Scenario for HangingUp {
    type State = Option<Duplex<u64>>;
    type Made = ();
    const LABEL: &'static str = "drop a connection";

    fn prepare(&self) -> Self::State {
        Some(annulus::connect(self.0.clone()).expect("it listens"))
    }

    fn run(&self, server: &mut Self::State) -> Result<(), Failure> {
        drop(server.take().map_or_else(|| annulus::connect(self.0.clone()), Ok)?);
        Ok(())
    }

    fn enjoy(&self, _server: &mut Self::State, (): ()) {}
}

#[test]
fn listening() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name| directory.path().join(name);
    try_all(&BindPath { path: path("fresh"), is_stale: false }, 0);
    try_all(&BindPath { path: path("stale"), is_stale: true }, 0);
    try_all(&BindName(Address::name(unique_name("bind"))), 0);
    try_all(&StopListening(path("stop")), 0);
}

#[test]
fn connecting() {
    let address = Address::name(unique_name("connect"));
    let server = echo(&address);
    try_all(&Connecting::<false>(address.clone()), 1);
    try_all(&Connecting::<true>(address), 1);
    server.kill().expect("it served to the end");
}

#[test]
fn accepting() {
    let address = Address::name(unique_name("accept"));
    let client = client(&address);
    try_all(&Accepting::<false>(address.clone()), 0);
    try_all(&Accepting::<true>(address), 0);
    client.kill().expect("it came to the end");
}

#[test]
fn talking_and_hanging_up() {
    let address = Address::name(unique_name("talk"));
    let server = echo(&address);
    try_all(&Talking(address.clone()), 1);
    try_all(&HangingUp(address), 1);
    server.kill().expect("it served to the end");
}
