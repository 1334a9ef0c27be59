//! The built command as a child process: with a deadline, and never left behind.
#![allow(dead_code, reason = "each test file uses part of it")]

use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::unistd::Pid;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What no test needs, whatever else the machine has to do.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// A ring's name that nobody else uses; whatever has it at the end is removed.
pub struct Name(String);

impl Name {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(format!("cli-test-{}-{number}", std::process::id()))
    }

    /// One that a ring was created under.
    pub fn created(options: &[&str]) -> Self {
        let name = Self::new();
        let done = run(&[&["create", &name], options].concat());
        assert_eq!(done.code, 0, "{}", done.stderr);
        name
    }

    pub fn file(&self) -> PathBuf {
        format!("/dev/shm/annulus.{}", self.0).into()
    }

    pub fn exists(&self) -> bool {
        self.file().exists()
    }
}

impl std::ops::Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.file());
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Done {
    /// 128 and the signal's number more if it was killed.
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Done {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap()
    }

    /// That it exited so, and said why in one sentence that contains this.
    #[track_caller]
    pub fn assert_fails(&self, code: i32, why: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.stderr.contains(why), "{self:?}");
        assert!(self.stderr.starts_with("annulus: ") && self.stderr.ends_with('\n'), "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
    }

    #[track_caller]
    pub fn assert_done(&self) {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{self:?}");
    }
}

/// A running command.
pub struct Running {
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

/// The command, with these arguments and nothing to read.
pub fn annulus(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_annulus"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
    // SAFETY: between fork and exec only async-signal-safe calls: the tests may run in the background of a
    // shell, where Ctrl-C is ignored, and the command would inherit that.
    unsafe {
        command.pre_exec(|| {
            signal(Signal::SIGINT, SigHandler::SigDfl)?;
            Ok(())
        });
    }
    command
}

pub fn start(mut command: Command) -> Running {
    let mut child = command.spawn().unwrap();
    let stdout = child.stdout.take().map(read_all);
    let stderr = child.stderr.take().map(read_all);
    Running { child, stdout, stderr }
}

fn read_all(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        from.read_to_end(&mut all).unwrap();
        all
    })
}

impl Running {
    /// Starts it with `input` to read, from a thread.
    pub fn with_input(args: &[&str], input: Vec<u8>) -> Self {
        let (running, mut stdin) = Self::with_stdin(args);
        std::thread::spawn(move || {
            // It may have gone by then.
            let _ = stdin.write_all(&input);
        });
        running
    }

    /// Starts it with a pipe to read from.
    pub fn with_stdin(args: &[&str]) -> (Self, ChildStdin) {
        let mut command = annulus(args);
        command.stdin(Stdio::piped());
        let mut running = start(command);
        let stdin = running.child.stdin.take().unwrap();
        (running, stdin)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    #[track_caller]
    pub fn wait(mut self) -> Done {
        let end = Instant::now() + DEADLINE;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() < end => std::thread::sleep(Duration::from_millis(2)),
                None => panic!("process {} did not end in {DEADLINE:?}", self.child.id()),
            }
        };
        let text = |thread: Option<JoinHandle<Vec<u8>>>| {
            thread.map(|thread| thread.join().unwrap()).unwrap_or_default()
        };
        Done {
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap()),
            stdout: text(self.stdout.take()),
            stderr: String::from_utf8(text(self.stderr.take())).unwrap(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn run(args: &[&str]) -> Done {
    start(annulus(args)).wait()
}

pub fn run_with_input(args: &[&str], input: &[u8]) -> Done {
    Running::with_input(args, input.to_vec()).wait()
}

/// Waits until something is so.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What `inspect` says of a ring.
pub fn inspect(name: &str) -> serde_json::Value {
    run(&["inspect", name, "--json"]).json()
}

/// Bytes that look random, the same for the same seed (xorshift64*).
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| next().to_le_bytes()).collect();
    bytes.truncate(len);
    bytes
}
