//! A child process that runs one instruction, or one system call, at a time.
//!
//! The child prepares itself at full speed, calls [`Child::section`] with the operation under test, and is
//! stepped only inside it. The parent can stop it in front of any instruction of the section and kill it
//! there: an instruction counted by [`Tracee::walk`] and not yet run never runs.
//!
//! ```text
//!  child   prepare ── stop ── section_begin ── operation ── section_end ── stop
//!  parent             mark    point 0           point n     last point     mark
//! ```
//!
//! Only facilities that every architecture of Linux has are needed: single steps, system-call stops and
//! `PTRACE_GET_SYSCALL_INFO`, which also tells the instruction pointer. On x86-64 a breakpoint near the wanted
//! point saves most of the steps to it: the child gets there at full speed.

use std::collections::HashSet;
use std::hint::black_box;
use std::marker::PhantomData;
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};

use super::process::{fork_child, sleeps_in_futex, wait};

/// Why the traced child stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It ran one instruction.
    Step,
    /// It enters or leaves a system call.
    SystemCall,
    /// It reached a [`Child::mark`].
    Mark,
    /// Its alarm clock rang: it blocked or looped for longer than its life.
    Deadline,
    /// It got another signal: a crash.
    Signal(Signal),
    /// It ended by itself.
    Exited(i32),
    /// A signal ended it.
    Killed(Signal),
}

/// The child's side of the conversation.
pub struct Child {
    pid: Pid,
}

impl Child {
    /// Stops until the parent lets the child go on.
    pub fn mark(&self) {
        kill(self.pid, Signal::SIGSTOP).expect("a process may stop itself");
    }

    /// Runs `operation` as the section that is stepped, between two marks.
    pub fn section<R>(&self, operation: impl FnOnce() -> R) -> R {
        self.mark();
        section_begin();
        let result = operation();
        section_end();
        self.mark();
        result
    }
}

// The two bodies differ, so that no optimisation folds them into one address.
#[inline(never)]
extern "C" fn section_begin() {
    black_box(1u64);
}

#[inline(never)]
extern "C" fn section_end() {
    black_box(2u32);
}

/// A system call of the section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemCall {
    /// Its number.
    pub number: u64,
    /// How many instructions of the section have run when it returns, its own included.
    pub after: usize,
}

/// A system call that the child is about to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its number.
    pub number: i64,
    /// What it is given.
    pub arguments: [u64; 6],
}

/// The section, walked through once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// Instructions between the opening mark and the section's first.
    pub lead: usize,
    /// The address of each instruction of the section, in order.
    addresses: Vec<u64>,
    /// The system calls among them; filled in only when the walk was asked for them.
    pub calls: Vec<SystemCall>,
}

/// A place on the way to a point that a child can run to at full speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    address: u64,
    /// How many times the child comes to the address, this time included.
    times: usize,
}

/// What a breakpoint costs, and what each time costs that it is only passed, both in single steps.
const BREAKPOINT: usize = 6;
const PASSAGE: usize = 4;

/// What the architecture has for an instruction that traps.
const TRAP: Option<u8> = if cfg!(target_arch = "x86_64") { Some(0xcc) } else { None };

impl Walk {
    /// The cheapest way from the instruction `from` to `point`: the anchor, if one pays, and the steps after it.
    pub fn way(&self, from: usize, point: usize) -> (Option<Anchor>, usize) {
        let (mut best, mut cost) = ((None, point - from), point - from);
        if TRAP.is_none() {
            return best;
        }
        for at in (from..=point.min(self.addresses.len().saturating_sub(1))).rev() {
            let steps = point - at;
            if steps + BREAKPOINT >= cost {
                break;
            }
            let address = self.addresses[at];
            let most = (cost - steps - BREAKPOINT) / PASSAGE + 1;
            let passed = self.addresses[from..=at].iter().filter(|&&other| other == address);
            let times = passed.take(most + 1).count();
            let this = steps + BREAKPOINT + PASSAGE * (times - 1);
            if this < cost {
                cost = this;
                best = (Some(Anchor { address, times }), steps);
            }
        }
        best
    }

    /// The address in front of which a child stands at `point`, if it went the way of the walk.
    pub fn address(&self, point: usize) -> u64 {
        self.addresses.get(point).copied().unwrap_or(section_end as *const () as u64)
    }

    /// The anchor at `point`, where the architecture has anchors.
    pub fn anchor(&self, point: usize) -> Option<Anchor> {
        TRAP?;
        let address = self.address(point);
        let before = &self.addresses[..point.min(self.addresses.len())];
        let times = 1 + before.iter().filter(|&&other| other == address).count();
        Some(Anchor { address, times })
    }

    /// The points in front of which an instruction stands that did not run before.
    pub fn first_times(&self) -> Vec<usize> {
        let mut seen = HashSet::new();
        let points = 0..self.addresses.len();
        points.filter(|&point| seen.insert(self.addresses[point])).collect()
    }

    /// How many instructions the section has.
    pub fn instructions(&self) -> usize {
        self.addresses.len()
    }
}

/// The child, stopped. Dropping it kills and reaps it.
pub struct Tracee {
    pid: Pid,
    reaped: bool,
    /// Only the thread that forked a tracee may command it.
    not_send: PhantomData<*const ()>,
}

impl Tracee {
    /// Forks a child for `body` and returns when it stops at its first mark.
    pub fn spawn(life: Duration, body: impl FnOnce(&Child)) -> Result<Self, String> {
        let pid = fork_child(life, || {
            ptrace::traceme().expect("PTRACE_TRACEME");
            body(&Child { pid: getpid() });
        });
        let mut tracee = Self { pid, reaped: false, not_send: PhantomData };
        match tracee.stopped() {
            Stop::Mark => {}
            other => return Err(format!("the child did not reach its first mark: {other:?}")),
        }
        ptrace::setoptions(
            pid,
            ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL,
        )
        .expect("PTRACE_SETOPTIONS");
        Ok(tracee)
    }

    /// The child's process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Runs the child at full speed to its next stop.
    pub fn go_on(&mut self) -> Stop {
        self.resume();
        self.stopped()
    }

    /// Runs one instruction.
    pub fn step(&mut self) -> Stop {
        self.resume_step();
        self.stopped()
    }

    /// Runs to the next entry or exit of a system call.
    pub fn system_call(&mut self) -> Stop {
        self.resume_system_call();
        self.stopped()
    }

    fn resume(&mut self) {
        ptrace::cont(self.pid, None).expect("PTRACE_CONT of a stopped child");
    }

    fn resume_step(&mut self) {
        ptrace::step(self.pid, None).expect("PTRACE_SINGLESTEP of a stopped child");
    }

    fn resume_system_call(&mut self) {
        ptrace::syscall(self.pid, None).expect("PTRACE_SYSCALL of a stopped child");
    }

    fn stopped(&mut self) -> Stop {
        let status = wait(self.pid);
        self.classify(status)
    }

    /// The next stop of a child that was let go. A child that falls asleep in a futex before that is handed to
    /// `asleep`, once, which should wake it; `None` says that the section never sleeps.
    fn stopped_or_asleep(&mut self, asleep: &mut Option<&mut dyn FnMut()>) -> Stop {
        let Some(wake) = asleep else {
            return self.stopped();
        };
        let mut woken = false;
        let mut rounds = 0u32;
        loop {
            match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)).expect("waitpid of a child") {
                WaitStatus::StillAlive => {}
                status => return self.classify(status),
            }
            rounds += 1;
            if rounds < 20 {
                std::thread::yield_now();
            } else if woken {
                return self.stopped();
            } else if sleeps_in_futex(self.pid) {
                wake();
                woken = true;
            } else {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
    }

    fn classify(&mut self, status: WaitStatus) -> Stop {
        match status {
            WaitStatus::PtraceSyscall(_) => Stop::SystemCall,
            WaitStatus::Stopped(_, Signal::SIGTRAP) => Stop::Step,
            WaitStatus::Stopped(_, Signal::SIGSTOP) => Stop::Mark,
            WaitStatus::Stopped(_, Signal::SIGALRM) => Stop::Deadline,
            WaitStatus::Stopped(_, signal) => Stop::Signal(signal),
            WaitStatus::Exited(_, code) => {
                self.reaped = true;
                Stop::Exited(code)
            }
            WaitStatus::Signaled(_, signal, _) => {
                self.reaped = true;
                Stop::Killed(signal)
            }
            other => unreachable!("waitpid was not asked for {other:?}"),
        }
    }

    fn info(&self) -> libc::ptrace_syscall_info {
        ptrace::syscall_info(self.pid).expect("PTRACE_GET_SYSCALL_INFO of a stopped child")
    }

    /// The address of its next instruction.
    pub fn address(&self) -> u64 {
        self.info().instruction_pointer
    }

    /// From the opening mark, steps to the section's first instruction. Returns the number of steps.
    fn lead_in(&mut self) -> Result<usize, String> {
        for lead in 0..10_000 {
            if self.address() == section_begin as *const () as u64 {
                return Ok(lead);
            }
            match self.step() {
                Stop::Step => {}
                other => return Err(format!("{other:?} before the section began")),
            }
        }
        Err("the section did not begin within 10,000 instructions of its mark".into())
    }

    /// From the opening mark, steps through the section to its last point and notes every instruction.
    /// `exits` are the system calls that [`Tracee::trace_calls`] saw in a twin of this child: with them the
    /// walk finds their places. `asleep` runs whenever the child sleeps in a futex, and should wake it.
    pub fn walk(
        &mut self,
        limit: usize,
        exits: &[(u64, u64)],
        asleep: &mut Option<&mut dyn FnMut()>,
    ) -> Result<Walk, String> {
        let mut walk = Walk { lead: self.lead_in()?, ..Walk::default() };
        loop {
            let address = self.address();
            if let Some(&(number, exit)) = exits.get(walk.calls.len()) {
                if exit == address && !walk.addresses.is_empty() {
                    walk.calls.push(SystemCall { number, after: walk.instructions() });
                }
            }
            if address == section_end as *const () as u64 {
                return Ok(walk);
            }
            if walk.instructions() == limit {
                return Err(format!("the section has more than {limit} instructions"));
            }
            walk.addresses.push(address);
            self.resume_step();
            match self.stopped_or_asleep(asleep) {
                Stop::Step => {}
                other => {
                    return Err(format!("{other:?} after {} instructions", walk.instructions()));
                }
            }
        }
    }

    /// From the opening mark, runs the section by system calls: number and return address of each.
    pub fn trace_calls(
        &mut self,
        asleep: &mut Option<&mut dyn FnMut()>,
    ) -> Result<Vec<(u64, u64)>, String> {
        self.lead_in()?;
        let mut calls = Vec::new();
        loop {
            match self.system_call() {
                Stop::SystemCall => {}
                other => return Err(format!("{other:?} after {} system calls", calls.len())),
            }
            let number = call_number(&self.info());
            if number == libc::SYS_kill as u64 {
                // The closing mark.
                return Ok(calls);
            }
            self.resume_system_call();
            match self.stopped_or_asleep(asleep) {
                Stop::SystemCall => calls.push((number, self.address())),
                other => return Err(format!("{other:?} after {} system calls", calls.len())),
            }
        }
    }

    /// From a mark on, runs to the entry of the next system call. `None`: that is the next mark.
    #[allow(dead_code, reason = "for the faults")]
    pub fn next_call(&mut self) -> Result<Option<Request>, String> {
        loop {
            match self.system_call() {
                Stop::SystemCall => {}
                other => return Err(format!("{other:?} on the way to a system call")),
            }
            if let Some(request) = request(&self.info()) {
                return Ok((request.number != libc::SYS_kill).then_some(request));
            }
        }
    }

    /// The word at `address` of its memory.
    #[allow(dead_code, reason = "for the faults")]
    pub fn peek(&self, address: u64) -> Result<u64, String> {
        let word = ptrace::read(self.pid, address as ptrace::AddressType);
        word.map(|word| word as u64).map_err(|error| format!("a peek: {error}"))
    }

    /// Has the system call, at whose entry the child stands, say `errno`: without being made or, if it `is_made`,
    /// after that.
    #[cfg(target_arch = "x86_64")]
    #[allow(dead_code, reason = "for the faults")]
    pub fn fail_call(&mut self, errno: i32, is_made: bool) -> Result<(), String> {
        let registers = |tracee: &Self| {
            ptrace::getregs(tracee.pid).map_err(|error| format!("PTRACE_GETREGS: {error}"))
        };
        let put = |tracee: &Self, registers| {
            ptrace::setregs(tracee.pid, registers)
                .map_err(|error| format!("PTRACE_SETREGS: {error}"))
        };
        if !is_made {
            // A number that no call has.
            put(self, libc::user_regs_struct { orig_rax: u64::MAX, ..registers(self)? })?;
        }
        match self.system_call() {
            Stop::SystemCall => {}
            other => return Err(format!("{other:?} in a system call")),
        }
        let result = i64::from(-errno) as u64;
        put(self, libc::user_regs_struct { rax: result, ..registers(self)? })
    }

    /// From the opening mark, runs `steps` instructions. `Ok(false)`: the section was over before that.
    pub fn step_many(
        &mut self,
        steps: usize,
        asleep: &mut Option<&mut dyn FnMut()>,
    ) -> Result<bool, String> {
        for done in 0..steps {
            self.resume_step();
            match self.stopped_or_asleep(asleep) {
                Stop::Step => {}
                Stop::Mark => return Ok(false),
                other => return Err(format!("{other:?} after {done} instructions")),
            }
        }
        Ok(true)
    }

    /// From the opening mark, runs to the section's first instruction.
    pub fn enter_section(&mut self, lead: usize) -> Result<bool, String> {
        match TRAP {
            Some(_) => {
                let address = section_begin as *const () as u64;
                self.run_to(Anchor { address, times: 1 }, &mut None)
            }
            None => self.step_many(lead, &mut None),
        }
    }

    /// Runs at full speed to the anchor. `Ok(false)`: the child goes another way, for the section was over before
    /// that, or made a system call, as no way to an anchor does. (It may come to the same address later.)
    pub fn run_to(
        &mut self,
        anchor: Anchor,
        asleep: &mut Option<&mut dyn FnMut()>,
    ) -> Result<bool, String> {
        self.run_by(anchor, asleep, Self::resume_system_call)
    }

    /// Runs at full speed to the anchor, past any system calls, on which it may sleep. `Ok(false)`: the section
    /// was over before that.
    pub fn run_past_calls_to(&mut self, anchor: Anchor) -> Result<bool, String> {
        self.run_by(anchor, &mut None, Self::resume)
    }

    fn run_by(
        &mut self,
        anchor: Anchor,
        asleep: &mut Option<&mut dyn FnMut()>,
        resume: fn(&mut Self),
    ) -> Result<bool, String> {
        let trap = TRAP.ok_or("no breakpoints on this architecture")?;
        // A whole word at a time, so that none crosses into a page that is not there.
        let word = (anchor.address & !7) as ptrace::AddressType;
        let whole = ptrace::read(self.pid, word).map_err(|error| format!("a peek: {error}"))?;
        let mut trapped = whole.to_ne_bytes();
        trapped[(anchor.address & 7) as usize] = trap;
        let trapped = libc::c_long::from_ne_bytes(trapped);
        let put = |tracee: &Self, value| {
            ptrace::write(tracee.pid, word, value).map_err(|error| format!("a poke: {error}"))
        };
        for left in (0..anchor.times).rev() {
            put(self, trapped)?;
            resume(self);
            match self.stopped_or_asleep(asleep) {
                Stop::Step => self.step_back_to(anchor.address)?,
                Stop::SystemCall | Stop::Mark => return Ok(false),
                other => return Err(format!("{other:?} on the way to an anchor")),
            }
            put(self, whole)?;
            if left > 0 && !self.step_many(1, asleep)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// From behind the trap at `address` to in front of the instruction that it stood for.
    #[cfg(target_arch = "x86_64")]
    fn step_back_to(&mut self, address: u64) -> Result<(), String> {
        let mut registers = ptrace::getregs(self.pid).expect("PTRACE_GETREGS of a stopped child");
        if registers.rip != address + 1 {
            return Err(format!("a trap at {:#x} that nobody set", registers.rip));
        }
        registers.rip = address;
        ptrace::setregs(self.pid, registers).expect("PTRACE_SETREGS of a stopped child");
        Ok(())
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn step_back_to(&mut self, _address: u64) -> Result<(), String> {
        Err("no breakpoints on this architecture".into())
    }

    /// From the section's start, runs past `stops` entries and exits of system calls. `Ok(false)`: the
    /// section was over before that.
    pub fn call_many(
        &mut self,
        stops: usize,
        asleep: &mut Option<&mut dyn FnMut()>,
    ) -> Result<bool, String> {
        for done in 0..stops {
            self.resume_system_call();
            match self.stopped_or_asleep(asleep) {
                Stop::SystemCall => {}
                Stop::Mark => return Ok(false),
                other => return Err(format!("{other:?} after {done} system-call stops")),
            }
        }
        Ok(true)
    }

    /// SIGKILL where it stands. Its memory and descriptors are gone when this returns.
    pub fn kill(mut self) -> Result<(), String> {
        let stop = self.end();
        if stop == Stop::Killed(Signal::SIGKILL) {
            Ok(())
        } else {
            Err(format!("killed, but {stop:?}"))
        }
    }

    fn end(&mut self) -> Stop {
        let _ = kill(self.pid, Signal::SIGKILL);
        loop {
            let stop = self.stopped();
            if matches!(stop, Stop::Killed(_) | Stop::Exited(_)) {
                return stop;
            }
        }
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        if !self.reaped {
            self.end();
        }
    }
}

/// The system call at whose entry the child is stopped.
fn request(info: &libc::ptrace_syscall_info) -> Option<Request> {
    if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return None;
    }
    // SAFETY: `op` says that the kernel filled in the `entry` member.
    let entry = unsafe { info.u.entry };
    Some(Request { number: entry.nr as i64, arguments: entry.args })
}

/// The number of the system call at whose entry the child is stopped.
fn call_number(info: &libc::ptrace_syscall_info) -> u64 {
    request(info).map_or(u64::MAX, |request| request.number as u64)
}
