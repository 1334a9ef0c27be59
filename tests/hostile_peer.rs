//! What a peer can do beside writing into its half: waking for nothing or not at all, looking alive when it is
//! dead, taking descriptors away.

mod processes;

use annulus::{
    Address, Connect, ConnectError, Duplex, Ending, Listener, RecvTimeoutError, Ring, Role, Wait,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use processes::{PATIENCE, fork, unique};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(150);

/// The word of this process's mapping of the file behind `fd` at `offset`, to wake or to sleep on.
fn futex(mapping: &File, offset: usize) -> *const u32 {
    // SAFETY: a new mapping of a page of the file, never unmapped.
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            8192,
            libc::PROT_READ,
            libc::MAP_SHARED,
            mapping.as_raw_fd(),
            0,
        )
    };
    assert_ne!(base, libc::MAP_FAILED);
    // SAFETY: the word lies within the mapping.
    unsafe { base.byte_add(offset).cast::<u32>() }
}

/// Offset of a half's `presence.epoch` in its file.
const EPOCH: usize = 4096 + 260;

#[test]
fn wakes_for_nothing_and_stolen_wakes_only_cost_time() {
    let receiver = Ring::<u64>::builder(64).split(Role::Receiver).unwrap();
    let to_peer = receiver.descriptor().unwrap();
    let sender = Ring::<u64>::builder(64).split(Role::Sender).unwrap();
    let to_us = sender.descriptor().unwrap();
    let shown = File::from(to_us.try_clone().unwrap());
    let ring = receiver.join(to_us).unwrap();
    let mut rx = ring.receiver().unwrap().with_wait(Wait::Block);
    let peer = sender.join(to_peer).unwrap();
    let mut tx = peer.sender().unwrap();
    let word = futex(&shown, EPOCH) as usize;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // Whoever can read the half can wake who sleeps there, and sleep there itself.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // SAFETY: the word stays mapped; waking touches no memory.
                unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE, i32::MAX) };
            }
        });
        for _ in 0..3 {
            scope.spawn(|| {
                let pause = libc::timespec { tv_sec: 0, tv_nsec: 3_000_000 };
                while !done.load(Ordering::Relaxed) {
                    // SAFETY: the word stays mapped and is read as an atomic; the time is valid.
                    unsafe {
                        let word = &*(word as *const std::sync::atomic::AtomicU32);
                        let now = word.load(Ordering::Relaxed);
                        libc::syscall(
                            libc::SYS_futex,
                            word,
                            libc::FUTEX_WAIT,
                            now,
                            &raw const pause,
                        );
                    }
                }
            });
        }
        for i in 0..300 {
            if i % 100 == 0 {
                assert_eq!(rx.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
            }
            tx.send(i).unwrap();
            assert_eq!(rx.recv_timeout(PATIENCE), Ok(i));
        }
        done.store(true, Ordering::Relaxed);
    });
    drop(tx);
    assert_eq!(rx.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
}

#[test]
fn a_dead_peer_whose_descriptors_live_on_is_one_that_is_silent() {
    let address = Address::name(unique("heir"));
    let mut listener = Listener::options().timeout(PATIENCE).bind(address.clone()).unwrap();
    let (tell, told) = std::os::unix::net::UnixStream::pair().unwrap();
    let child = fork(|line| {
        let connect = Connect::new().timeout(PATIENCE);
        let mut server: Duplex<u64> = connect.open(address.clone()).unwrap();
        server.send(1).unwrap();
        // A copy of the process, made behind the back of the handlers of `fork`: it keeps lock and socket.
        // SAFETY: without a stack and flags `clone` is `fork` without its handlers.
        let heir = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        if heir == 0 {
            // SAFETY: plain system calls, until the test kills it or the alarm does.
            unsafe {
                libc::alarm(600);
                loop {
                    libc::pause();
                }
            }
        }
        use std::io::Write;
        (&told).write_all(&(heir as i32).to_le_bytes()).unwrap();
        line.wait_for_end();
    });
    let mut client: Duplex<u64> = listener.accept_timeout(PATIENCE).unwrap();
    assert_eq!(client.recv_timeout(PATIENCE), Ok(1));
    let mut heir = [0; 4];
    std::io::Read::read_exact(&mut (&tell), &mut heir).unwrap();
    child.kill();
    assert_eq!(client.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
    assert_eq!(client.ending(), None);
    kill(Pid::from_raw(i32::from_le_bytes(heir)), Signal::SIGKILL).unwrap();
    assert_eq!(client.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
    assert_eq!(client.ending(), Some(Ending::Died));
}

/// Keeps the calling process to `more` descriptors than it has.
fn limit_descriptors(more: u64) {
    let highest = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_string_lossy().parse::<u64>().ok());
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // The one that reads the directory counts, and is closed by now.
    setrlimit(Resource::RLIMIT_NOFILE, highest.max().unwrap() + more, hard).unwrap();
}

#[test]
fn a_listener_without_descriptors_says_so_and_goes_on_when_it_has_some() {
    // In a process of its own, for the limit is the process's. As many descriptors more, one after the other, as a
    // connection takes: each step of a handshake runs out of them.
    for more in 0..24 {
        let name = unique("scarce");
        let address = Address::name(&name);
        let service = address.clone();
        let mut child = fork(|line| {
            let mut listener = Listener::options().timeout(PATIENCE).bind(service).unwrap();
            line.say(1);
            let before = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            // Nobody has the gaps below.
            let gaps: Vec<File> = (0..16).map(|_| File::open("/dev/null").unwrap()).collect();
            limit_descriptors(more);
            let scarce = listener.accept_timeout::<Duplex<u64>>(Duration::from_millis(100));
            match &scarce {
                Ok(_) | Err(ConnectError::Timeout | ConnectError::Os { .. }) => {}
                Err(error) => panic!("with {more} descriptors: {error}"),
            }
            setrlimit(Resource::RLIMIT_NOFILE, before.0, before.1).unwrap();
            drop((gaps, scarce));
            // The client comes again until it is served.
            let mut client: Duplex<u64> = listener.accept_timeout(PATIENCE).unwrap();
            while client.recv_timeout(PATIENCE) != Ok(2) {
                client = listener.accept_timeout(PATIENCE).unwrap();
            }
            line.say(2);
        });
        child.line.expect(1);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let connect = Connect::new().timeout(PATIENCE);
                    if let Ok(mut server) = connect.open::<Duplex<u64>>(address.clone()) {
                        let _ = server.send(2);
                        assert_eq!(
                            server.recv_timeout(PATIENCE),
                            Err(RecvTimeoutError::Disconnected)
                        );
                    }
                    thread::sleep(Duration::from_millis(1));
                }
            });
            let served = child.line.hear();
            done.store(true, Ordering::Relaxed);
            assert_eq!(served, 2);
        });
        child.finish();
    }
}
