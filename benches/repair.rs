//! How long others are held up by a claimer that is killed: from the moment `kill` has returned to the one in which
//! the call of whoever waits comes back; and from the one in which the kernel tells its parent that it is
//! dead, which on a busy machine may be much later. `cargo bench --bench repair [-- KILLS [ROW]]`.
//!
//! Each claimer is a process that certainly has a claim when it is killed, and had it for a random time of up to
//! 32 ms, in which the others have long been waiting.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use annulus::{Place, Receiver, Ring, Sender, Topology, Wait};

/// The first argument of a process that claims.
const CLAIMER: &str = "claim-and-be-killed";
/// Longer than anything takes: who hangs says so, and who is forgotten ends.
const PATIENCE: Duration = Duration::from_secs(20);
const LONGEST_WORK: Duration = Duration::from_millis(32);
const BAR: Duration = Duration::from_millis(10);

fn say_and_stay() {
    std::io::stdout().write_all(b"!").and_then(|()| std::io::stdout().flush()).expect("a reader");
    thread::sleep(PATIENCE);
}

/// The process that claims and says so.
fn claim(role: &str, fd: i32) {
    // SAFETY: the descriptor was handed down for this process, and nothing else in it has it.
    let ring = Ring::<u64>::from_fd(unsafe { OwnedFd::from_raw_fd(fd) }).expect("the ring");
    if role == "sender" {
        let message = std::iter::from_fn(|| {
            say_and_stay();
            None
        });
        ring.sender().expect("a place").try_send_from(message);
    } else {
        let mut rx = ring.receiver().expect("a place");
        let claimed = rx.claim_timeout(PATIENCE).expect("a message");
        say_and_stay();
        claimed.release();
    }
}

/// A process that has a claim; killed if it is dropped.
struct Claimer(Child);

impl Claimer {
    fn start(role: &str, fd: &OwnedFd) -> Self {
        let program = std::env::current_exe().expect("a path");
        let mut child = Command::new(program)
            .args([CLAIMER, role, &fd.as_raw_fd().to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let says = child.stdout.as_mut().expect("a pipe").read_exact(&mut [0]);
        says.expect("it has claimed");
        Self(child)
    }

    /// Kills it: when `kill` had returned, and when it was dead.
    fn kill(&mut self) -> [Instant; 2] {
        self.0.kill().expect("it is there");
        let killed = Instant::now();
        self.0.wait().expect("it ends");
        [killed, Instant::now()]
    }
}

impl Drop for Claimer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A ring, and those of it who live.
struct Scene {
    fd: OwnedFd,
    tx: Sender<u64>,
    rx: Receiver<u64>,
    random: u64,
}

impl Scene {
    fn new(capacity: usize, wait: Wait) -> Self {
        let place = Place::memfd("repair").expect("a place");
        let ring = Ring::builder(capacity).topology(Topology::Mpmc).create(place).expect("a ring");
        Self {
            fd: ring.inheritable_fd().expect("a descriptor"),
            tx: ring.sender().expect("a place").with_wait(wait),
            rx: ring.receiver().expect("a place").with_wait(wait),
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// Lets `claimer` work for a random time, then kills it.
    fn kill_sometime(random: &mut u64, claimer: &mut Claimer) -> [Instant; 2] {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        thread::sleep(LONGEST_WORK * (*random >> 54) as u32 / 1024);
        claimer.kill()
    }

    /// A sender is killed; a receiver waits for the message behind its claim.
    fn receive_past_a_sender(&mut self) -> [Duration; 2] {
        let Self { fd, tx, rx, random } = self;
        let mut claimer = Claimer::start("sender", fd);
        tx.try_send(1).expect("room");
        thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                assert_eq!(rx.recv_timeout(PATIENCE), Ok(1));
                Instant::now()
            });
            let killed = Self::kill_sometime(random, &mut claimer);
            let went_on = waiter.join().expect("it went on");
            killed.map(|killed| went_on.saturating_duration_since(killed))
        })
    }

    /// A receiver is killed; another one waits, and gets its message.
    fn receive_again(&mut self) -> [Duration; 2] {
        let Self { fd, tx, rx, random } = self;
        tx.try_send(1).expect("room");
        let mut claimer = Claimer::start("receiver", fd);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                assert_eq!(rx.recv_timeout(PATIENCE), Ok(1));
                Instant::now()
            });
            let killed = Self::kill_sometime(random, &mut claimer);
            let went_on = waiter.join().expect("it went on");
            killed.map(|killed| went_on.saturating_duration_since(killed))
        })
    }

    /// A receiver is killed in a ring of one message; a sender waits for the room, and another receiver for
    /// messages.
    fn send_past_a_receiver(&mut self) -> [Duration; 2] {
        let Self { fd, tx, rx, random } = self;
        tx.try_send(1).expect("room");
        let mut claimer = Claimer::start("receiver", fd);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                tx.send_timeout(2, PATIENCE).expect("room");
                Instant::now()
            });
            scope.spawn(|| {
                assert_eq!(rx.recv_timeout(PATIENCE), Ok(1));
                assert_eq!(rx.recv_timeout(PATIENCE), Ok(2));
            });
            let killed = Self::kill_sometime(random, &mut claimer);
            let went_on = waiter.join().expect("it went on");
            killed.map(|killed| went_on.saturating_duration_since(killed))
        })
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [first, role, fd] = &args[..] {
        if first == CLAIMER {
            return claim(role, fd.parse().expect("a descriptor"));
        }
    }
    let mut args = args.iter().filter(|arg| !arg.starts_with("--"));
    let mut number =
        |default: usize| args.next().map_or(default, |arg| arg.parse().expect("a number"));
    let (kills, only) = (number(300).max(1), number(0));
    type Row = (&'static str, usize, fn(&mut Scene) -> [Duration; 2]);
    let rows: [Row; 3] = [
        ("sender killed, receiver held up", 64, Scene::receive_past_a_sender),
        ("receiver killed, sender held up", 1, Scene::send_past_a_receiver),
        ("receiver killed, its message waited for", 64, Scene::receive_again),
    ];
    for (row, (what, capacity, round)) in (1..).zip(rows) {
        if only != 0 && only != row {
            continue;
        }
        for wait in [Wait::Spin, Wait::Adaptive, Wait::Block] {
            let mut scene = Scene::new(capacity, wait);
            let rounds: Vec<[Duration; 2]> = (0..kills).map(|_| round(&mut scene)).collect();
            assert_eq!(scene.rx.stats().repairs, kills as u64, "kills that left no claim");
            let [(p50, p99, most), dead] = [0, 1].map(|from| {
                let mut times: Vec<_> = rounds.iter().map(|times| times[from]).collect();
                times.sort();
                let at = |share: f64| times[((kills - 1) as f64 * share).round() as usize];
                (at(0.5), at(0.99), at(1.0))
            });
            println!(
                "{what}, {wait:?}: {kills} kills, p50 {p50:.1?}, p99 {p99:.1?}, most {most:.1?}; bar p99 \
                 {BAR:?}: {}; from when it was seen to be dead p99 {:.1?}",
                if p99 <= BAR { "met" } else { "MISSED" },
                dead.1
            );
        }
    }
}
