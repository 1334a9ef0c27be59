//! The same scripts for a mailbox and for the kernel's queues: every answer must be the same.

use super::processes::{skip, unique};
use super::script::{Answer, Asked, LONGEST, Step, bytes, select, step};
use annulus::Select;
use nix::errno::Errno;
use proptest::prelude::*;
use std::ffi::CString;

const TYPES: u8 = 6;

/// A message as `msgsnd` and `msgrcv` want it.
#[repr(C)]
struct Buffer {
    kind: libc::c_long,
    bytes: [u8; LONGEST],
}

/// A System V queue, removed in the end.
struct SystemV {
    id: i32,
    sent: u32,
    copies: bool,
}

impl SystemV {
    /// One that takes `most` bytes of messages, or as many as the kernel gives it.
    fn new(most: Option<usize>) -> Result<Self, Errno> {
        // SAFETY: takes no pointer.
        let id =
            Errno::result(unsafe { libc::msgget(libc::IPC_PRIVATE, 0o600 | libc::IPC_CREAT) })?;
        let mut queue = Self { id, sent: 0, copies: true };
        if let Some(most) = most {
            // SAFETY: an all-zero `msqid_ds` is a valid value, and valid for writes.
            let mut state: libc::msqid_ds = unsafe { std::mem::zeroed() };
            // SAFETY: likewise.
            Errno::result(unsafe { libc::msgctl(id, libc::IPC_STAT, &mut state) })?;
            state.msg_qbytes = most as libc::msglen_t;
            // SAFETY: likewise.
            Errno::result(unsafe { libc::msgctl(id, libc::IPC_SET, &mut state) })?;
        }
        let copies = queue.ask(&Step::Peek { select: Select::Any, index: 0, room: LONGEST });
        queue.copies = copies == Answer::Empty;
        Ok(queue)
    }

    fn receive(&self, room: usize, kind: libc::c_long, flags: i32) -> Answer {
        let mut buffer = Buffer { kind: 0, bytes: [0; LONGEST] };
        let flags = flags | libc::IPC_NOWAIT;
        // SAFETY: the buffer has the type and room for more than `room` bytes.
        let received =
            unsafe { libc::msgrcv(self.id, (&raw mut buffer).cast(), room, kind, flags) };
        match Errno::result(received) {
            Ok(length) => Answer::Message {
                kind: buffer.kind as u8,
                bytes: buffer.bytes[..length as usize].to_vec(),
            },
            Err(Errno::ENOMSG) => Answer::Empty,
            Err(Errno::E2BIG) => Answer::TooSmall,
            // Kernels without checkpoints cannot copy.
            Err(Errno::ENOSYS) => Answer::Unasked,
            Err(errno) => panic!("msgrcv: {errno}"),
        }
    }

    fn ask(&mut self, step: &Step) -> Answer {
        match *step {
            Step::Send { kind, length } => {
                self.sent += 1;
                let mut buffer = Buffer { kind: kind.into(), bytes: [0; LONGEST] };
                buffer.bytes[..length].copy_from_slice(&bytes(self.sent, length));
                let message = (&raw const buffer).cast();
                // SAFETY: the buffer has the type and `length` bytes.
                let sent = unsafe { libc::msgsnd(self.id, message, length, libc::IPC_NOWAIT) };
                match Errno::result(sent) {
                    Ok(_) => Answer::Sent,
                    Err(Errno::EAGAIN) => Answer::Full,
                    Err(errno) => panic!("msgsnd: {errno}"),
                }
            }
            Step::Receive { select, room } => match select {
                Select::Any => self.receive(room, 0, 0),
                Select::Type(kind) => self.receive(room, kind.into(), 0),
                Select::AtMost(kind) => self.receive(room, -libc::c_long::from(kind), 0),
                Select::Except(kind) => self.receive(room, kind.into(), libc::MSG_EXCEPT),
                Select::Highest => Answer::Unasked,
            },
            Step::Peek { select: Select::Any, index, room } if self.copies => {
                self.receive(room, index as libc::c_long, libc::MSG_COPY)
            }
            Step::Peek { .. } => Answer::Unasked,
        }
    }
}

impl Drop for SystemV {
    fn drop(&mut self) {
        // SAFETY: takes no pointer for this command.
        unsafe { libc::msgctl(self.id, libc::IPC_RMID, std::ptr::null_mut()) };
    }
}

/// A POSIX queue, whose name is gone at once.
struct Posix {
    queue: libc::mqd_t,
    sent: u32,
    room: usize,
}

impl Posix {
    fn new(capacity: usize) -> Result<Self, Errno> {
        let name = CString::new(format!("/{}", unique("mailbox"))).unwrap();
        // SAFETY: an all-zero `mq_attr` is a valid value.
        let mut limits: libc::mq_attr = unsafe { std::mem::zeroed() };
        (limits.mq_maxmsg, limits.mq_msgsize) = (capacity as _, LONGEST as _);
        let flags =
            libc::O_CREAT | libc::O_EXCL | libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC;
        // SAFETY: the name ends with a zero, and the attributes live until the call is over.
        let queue = unsafe { libc::mq_open(name.as_ptr(), flags, 0o600, &raw mut limits) };
        let queue = Errno::result(queue)?;
        // SAFETY: as above.
        unsafe { libc::mq_unlink(name.as_ptr()) };
        Ok(Self { queue, sent: 0, room: LONGEST })
    }

    fn ask(&mut self, step: &Step) -> Answer {
        match *step {
            Step::Send { kind, length } => {
                self.sent += 1;
                let message = bytes(self.sent, length);
                // SAFETY: the message has `length` bytes.
                let sent = unsafe {
                    libc::mq_send(self.queue, message.as_ptr().cast(), length, kind.into())
                };
                match Errno::result(sent) {
                    Ok(_) => Answer::Sent,
                    Err(Errno::EAGAIN) => Answer::Full,
                    Err(errno) => panic!("mq_send: {errno}"),
                }
            }
            // It wants room for the longest message, whatever is next.
            Step::Receive { select: Select::Highest, .. } => {
                let (mut buffer, mut kind) = ([0_u8; LONGEST], 0);
                let to = buffer.as_mut_ptr().cast();
                // SAFETY: there is room for the message and for its priority.
                let received =
                    unsafe { libc::mq_receive(self.queue, to, self.room, &raw mut kind) };
                match Errno::result(received) {
                    Ok(length) => Answer::Message {
                        kind: kind as u8,
                        bytes: buffer[..length as usize].to_vec(),
                    },
                    Err(Errno::EAGAIN) => Answer::Empty,
                    Err(errno) => panic!("mq_receive: {errno}"),
                }
            }
            _ => Answer::Unasked,
        }
    }
}

impl Drop for Posix {
    fn drop(&mut self) {
        // SAFETY: the descriptor is this one's.
        unsafe { libc::mq_close(self.queue) };
    }
}

/// Runs what both can be asked; nothing else is done to either.
fn compare(
    script: &[Step],
    asked: &mut Asked,
    mut kernel: impl FnMut(&Step) -> Answer,
    is_asked: impl Fn(&Step) -> bool,
) -> Result<(), TestCaseError> {
    for step in script.iter().filter(|step| is_asked(step)) {
        let expected = kernel(step);
        if expected != Answer::Unasked {
            prop_assert_eq!(asked.ask(step), expected, "{:?}", step);
        }
    }
    Ok(())
}

/// Whether the machine has such queues; says so if not.
fn is_there<Q>(test: &str, queue: Result<Q, Errno>) -> Option<Q> {
    match queue {
        Ok(queue) => Some(queue),
        Err(errno @ (Errno::ENOSYS | Errno::EPERM | Errno::EACCES | Errno::ENOSPC)) => {
            skip(test, errno);
            None
        }
        Err(errno) => panic!("{errno}"),
    }
}

/// One type only, so that the limit of the kernel's queue and that of a type are the same.
fn narrow() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Send { kind: 1, length: 8 }),
        1 => select(1).prop_filter("matches", |select| *select != Select::Except(1))
            .prop_map(|select| Step::Receive { select, room: LONGEST }),
        1 => (0..10_usize)
            .prop_map(|index| Step::Peek { select: Select::Any, index, room: LONGEST }),
    ]
}

proptest! {
    #[test]
    fn system_v_gives_the_same_answers(
        script in prop::collection::vec(step(TYPES), 1..200),
    ) {
        let Some(mut queue) = is_there("system v", SystemV::new(None)) else { return Ok(()) };
        let mut asked = Asked::new(256, TYPES.into());
        compare(&script, &mut asked, |step| queue.ask(step), |_| true)?;
    }

    #[test]
    fn system_v_is_full_when_a_type_is(script in prop::collection::vec(narrow(), 1..100)) {
        let Some(mut queue) = is_there("system v", SystemV::new(Some(64))) else { return Ok(()) };
        let mut asked = Asked::new(8, 1);
        compare(&script, &mut asked, |step| queue.ask(step), |_| true)?;
    }

    #[test]
    fn posix_gives_the_same_answers(script in prop::collection::vec(step(64), 1..200)) {
        let Some(mut queue) = is_there("posix", Posix::new(8)) else { return Ok(()) };
        let mut asked = Asked::new(8, 64);
        let mailbox = asked.mailbox.clone();
        let is_asked = |step: &Step| match step {
            // The kernel's limit is for all types.
            Step::Send { .. } => mailbox.len() < 8,
            Step::Receive { room, .. } => *room == LONGEST,
            Step::Peek { .. } => false,
        };
        compare(&script, &mut asked, |step| queue.ask(step), is_asked)?;
    }

    #[test]
    fn posix_is_full_when_a_type_is(script in prop::collection::vec(narrow(), 1..100)) {
        let Some(mut queue) = is_there("posix", Posix::new(8)) else { return Ok(()) };
        let mut asked = Asked::new(8, 1);
        compare(&script, &mut asked, |step| queue.ask(step), |_| true)?;
    }
}
