//! A service with a plugin that it does not trust: the plugin goes mad, and the service goes on.
//!
//! Run it: `cargo run --release --example plugin`
//!
//! The plugin is a process of its own, so its crashes are its own. Before its first instruction it has lost what it does not
//! need: new privileges, other users' files (if the service is the superuser), more than a few descriptors. It
//! meets the service by a socket; each has memory that the other can only read. So all that a plugin that went mad can
//! do to the service is to send nonsense, or nothing. Here it overwrites every byte that it can write.
//!
//! A plugin that runs code of strangers should have a filter of system calls (seccomp) as well.

use annulus::{Address, Duplex, Listener};
use std::env;
use std::error::Error;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Tells the plugin where to find the service.
const SOCKET: &str = "EXAMPLE_SOCKET";
/// Tells the plugin after how many answers to go mad.
const SANE: &str = "EXAMPLE_SANE";

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// `nobody`, on most systems.
const NOBODY: u32 = 65534;

fn main() -> Result<(), Box<dyn Error>> {
    match (env::var(SOCKET), env::var(SANE)) {
        (Ok(socket), Ok(sane)) => plugin(&socket, sane.parse()?),
        _ => service(),
    }
}

fn service() -> Result<(), Box<dyn Error>> {
    let mut plugin = Plugin::start(3)?;
    for number in 1..=6 {
        let answer = match plugin.ask(number) {
            Ok(answer) => answer,
            Err(error) => {
                println!("service: the plugin went mad ({error}); the next one, please");
                plugin = Plugin::start(u64::MAX)?;
                plugin.ask(number)?
            }
        };
        println!("service: the square of {number} is {answer}");
    }
    println!("service: all is well");
    Ok(())
}

/// A plugin as the service has it. It ends with this.
struct Plugin {
    process: Child,
    connection: Duplex<u64>,
}

impl Plugin {
    /// Starts a plugin that gives so many sane answers.
    fn start(sane: u64) -> Result<Self, Box<dyn Error>> {
        // A name that nobody has now. Whoever else comes there is not let in.
        let name = format!("annulus-plugin-{}", std::process::id());
        let expected = Arc::new(OnceLock::new());
        let welcome = Arc::clone(&expected);
        let options = Listener::options()
            .timeout(PATIENCE)
            .authorize(move |peer| welcome.get() == Some(&peer.pid()));
        let mut listener = options.bind(Address::name(&name))?;
        let mut command = Command::new("/proc/self/exe");
        command.env_clear().env(SOCKET, &name).env(SANE, sane.to_string());
        // SAFETY: makes system calls only, as a forked child of many threads may.
        unsafe { command.pre_exec(give_up_privileges) };
        let mut process = command.spawn()?;
        // It may be at the door already; nobody is asked in before `accept`.
        let _ = expected.set(process.id());
        match listener.accept_timeout(PATIENCE) {
            Ok(connection) => Ok(Self { process, connection }),
            Err(error) => {
                process.kill()?;
                process.wait()?;
                Err(error.into())
            }
        }
    }

    /// What comes back is checked as anything that a stranger says.
    fn ask(&mut self, number: u64) -> Result<u64, Box<dyn Error>> {
        self.connection.send_timeout(number, PATIENCE)?;
        let answer = self.connection.recv_timeout(PATIENCE)?;
        if number.checked_mul(number) == Some(answer) {
            Ok(answer)
        } else {
            Err(format!("it says that the square of {number} is {answer}").into())
        }
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        // It may be beyond reason; it is not beyond this.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Called in the child, before the plugin's program begins.
fn give_up_privileges() -> io::Result<()> {
    let check = |result: i32| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    let limit = |what, most| {
        let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
        // SAFETY: `limit` is valid for reads.
        check(unsafe { libc::setrlimit(what, &raw const limit) })
    };
    limit(libc::RLIMIT_CORE, 0)?;
    limit(libc::RLIMIT_NOFILE, 64)?;
    limit(libc::RLIMIT_FSIZE, 1 << 20)?;
    limit(libc::RLIMIT_AS, 1 << 30)?;
    limit(libc::RLIMIT_CPU, 60)?;
    // SAFETY: system calls that take numbers; no list of groups is read where its length is 0.
    unsafe {
        if libc::geteuid() == 0 {
            check(libc::setgroups(0, core::ptr::null()))?;
            check(libc::setresgid(NOBODY, NOBODY, NOBODY))?;
            check(libc::setresuid(NOBODY, NOBODY, NOBODY))?;
        }
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        // After the change of users, which clears it.
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))
    }
}

/// The plugin's program.
fn plugin(socket: &str, sane: u64) -> Result<(), Box<dyn Error>> {
    let mut service: Duplex<u64> = annulus::connect(Address::name(socket))?;
    let mut answers = 0;
    while let Ok(number) = service.recv() {
        if answers == sane {
            println!("plugin: gibber");
            go_mad()?;
        }
        service.send(number.wrapping_mul(number))?;
        answers += 1;
    }
    Ok(())
}

/// Overwrites all shared memory that this process can write, until it is killed.
fn go_mad() -> Result<(), Box<dyn Error>> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let halves = maps.lines().filter(|line| line.contains("annulus") && line.contains(" rw-s "));
    let mut ranges = Vec::new();
    for range in halves.filter_map(|line| line.split(' ').next()?.split_once('-')) {
        ranges.push(usize::from_str_radix(range.0, 16)?..usize::from_str_radix(range.1, 16)?);
    }
    for byte in (0..=255).rev().cycle() {
        for address in ranges.iter().cloned().flatten() {
            // SAFETY: none is claimed: this is what a program does that has gone wrong. The service must not mind.
            unsafe { (address as *mut u8).write_volatile(byte) };
        }
    }
    Ok(())
}
