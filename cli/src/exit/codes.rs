//! The exit code of each error, whoever says it.

use super::Code;
use annulus::{
    AcquireTimeoutError, BroadcastRecvError, ByteSendError, ConnectError, EventError,
    EventTimeoutError, LatestError, MailRecvError, MailSendError, RecvTimeoutError, Refusal,
    SetupError, TryRecvError,
};
use std::fmt::Display;
use std::io;

/// An error that has an exit code.
pub trait Coded: Display {
    fn code(&self) -> Code;
}

impl Coded for SetupError {
    fn code(&self) -> Code {
        match self {
            Self::InvalidName { .. } | Self::InvalidSize { .. } | Self::InvalidMode { .. } => {
                Code::Usage
            }
            Self::NotFound => Code::NotFound,
            Self::AlreadyExists => Code::Exists,
            Self::PermissionDenied
            | Self::ForeignOwner { .. }
            | Self::HardLinked { .. }
            | Self::ModeTooWide { .. } => Code::Permission,
            // They can be had later.
            Self::RoleTaken { .. } | Self::Crowded { .. } | Self::InUse => Code::WouldBlock,
            Self::NotAFile
            | Self::NotARing
            | Self::Version { .. }
            | Self::Kind { .. }
            | Self::Payload { .. }
            | Self::Label { .. }
            | Self::Metadata { .. }
            | Self::Truncated { .. }
            | Self::Sparse
            | Self::NotSealed
            | Self::Corrupt => Code::Corrupt,
            Self::Os { source, .. } => source.code(),
            _ => Code::Failure,
        }
    }
}

impl Coded for ConnectError {
    fn code(&self) -> Code {
        match self {
            Self::InvalidAddress { .. } => Code::Usage,
            Self::NotListening => Code::NotFound,
            Self::InUse => Code::Exists,
            Self::PermissionDenied | Self::Untrusted { .. } => Code::Permission,
            Self::Refused { refusal } | Self::Unwanted { refusal } => refusal.code(),
            Self::Version { .. } | Self::Protocol { .. } => Code::Corrupt,
            Self::Closed => Code::PeerGone,
            Self::Timeout => Code::TimedOut,
            Self::Ring(error) => error.code(),
            Self::Os { source, .. } => source.code(),
            _ => Code::Failure,
        }
    }
}

impl Coded for Refusal {
    fn code(&self) -> Code {
        match self {
            Self::Untrusted => Code::Permission,
            Self::TooLarge => Code::Usage,
            Self::Crowded => Code::WouldBlock,
            Self::Version | Self::Messages | Self::Label | Self::Malformed => Code::Corrupt,
            _ => Code::Failure,
        }
    }
}

impl Coded for io::Error {
    fn code(&self) -> Code {
        match self.kind() {
            io::ErrorKind::NotFound => Code::NotFound,
            io::ErrorKind::AlreadyExists => Code::Exists,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Code::Permission,
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Code::PeerGone,
            // What a stream says of a ring.
            io::ErrorKind::InvalidData => Code::Corrupt,
            _ => Code::Failure,
        }
    }
}

impl Coded for ByteSendError {
    fn code(&self) -> Code {
        match self {
            Self::Full => Code::WouldBlock,
            Self::Timeout => Code::TimedOut,
            Self::Disconnected => Code::PeerGone,
            Self::Corrupt => Code::Corrupt,
            _ => Code::Failure,
        }
    }
}

impl Coded for MailSendError {
    fn code(&self) -> Code {
        match self {
            Self::Full => Code::WouldBlock,
            Self::Timeout => Code::TimedOut,
            Self::Removed => Code::PeerGone,
            Self::NoSuchType { .. } => Code::Usage,
            Self::Corrupt => Code::Corrupt,
            _ => Code::Failure,
        }
    }
}

impl Coded for TryRecvError {
    fn code(&self) -> Code {
        match self {
            Self::Empty => Code::WouldBlock,
            Self::Disconnected => Code::PeerGone,
            Self::Corrupt => Code::Corrupt,
            _ => Code::Failure,
        }
    }
}

impl Coded for RecvTimeoutError {
    fn code(&self) -> Code {
        match self {
            Self::Timeout => Code::TimedOut,
            Self::Disconnected => Code::PeerGone,
            Self::Corrupt => Code::Corrupt,
            _ => Code::Failure,
        }
    }
}

impl Coded for MailRecvError {
    fn code(&self) -> Code {
        match self {
            Self::Empty => Code::WouldBlock,
            Self::Timeout => Code::TimedOut,
            Self::Removed => Code::PeerGone,
            Self::NeverMatches { .. } => Code::Usage,
            Self::Corrupt => Code::Corrupt,
            _ => Code::Failure,
        }
    }
}

impl Coded for BroadcastRecvError {
    fn code(&self) -> Code {
        match self {
            Self::Empty => Code::WouldBlock,
            Self::Timeout => Code::TimedOut,
            Self::Disconnected => Code::PeerGone,
            Self::Corrupt => Code::Corrupt,
            _ => Code::Failure,
        }
    }
}

impl Coded for LatestError {
    fn code(&self) -> Code {
        match self {
            Self::Timeout => Code::TimedOut,
            Self::Disconnected => Code::PeerGone,
            Self::Size { .. } => Code::Usage,
            Self::Corrupt => Code::Corrupt,
            _ => Code::Failure,
        }
    }
}

impl Coded for AcquireTimeoutError {
    fn code(&self) -> Code {
        match self {
            Self::Timeout => Code::TimedOut,
            Self::Never { .. } => Code::Usage,
            Self::Closed => Code::PeerGone,
            Self::Corrupt => Code::Corrupt,
            _ => Code::Failure,
        }
    }
}

impl Coded for EventError {
    fn code(&self) -> Code {
        match self {
            Self::Corrupt => Code::Corrupt,
            _ => Code::Failure,
        }
    }
}

impl Coded for EventTimeoutError {
    fn code(&self) -> Code {
        match self {
            Self::Timeout => Code::TimedOut,
            Self::Corrupt => Code::Corrupt,
            _ => Code::Failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(errno: i32) -> io::Error {
        io::Error::from_raw_os_error(errno)
    }

    /// The same thing has the same code, whichever handle says it.
    #[test]
    fn what_is_the_same_has_the_same_code() {
        let name = String::new;
        let refused = |refusal| ConnectError::Refused { refusal };
        let unwanted = |refusal| ConnectError::Unwanted { refusal };
        let rows: [(Code, Vec<Box<dyn Coded>>); 9] = [
            (
                Code::Failure,
                vec![
                    Box::new(SetupError::NoSpace { needed: 1 }),
                    Box::new(SetupError::NoProc),
                    Box::new(SetupError::Forked),
                    Box::new(SetupError::Os { call: "open", source: os(libc::EMFILE) }),
                    Box::new(ConnectError::Ring(SetupError::NoSpace { needed: 1 })),
                    Box::new(refused(Refusal::NoRoom)),
                    Box::new(ByteSendError::TooLong { len: 2, max: 1 }),
                    Box::new(MailSendError::TooLong { length: 2, longest: 1 }),
                    Box::new(BroadcastRecvError::Evicted),
                    Box::new(EventError::Forked),
                ],
            ),
            (
                Code::Usage,
                vec![
                    Box::new(SetupError::InvalidName { name: name(), reason: "is odd" }),
                    Box::new(SetupError::InvalidSize { reason: "zero" }),
                    Box::new(SetupError::InvalidMode { mode: 0 }),
                    Box::new(ConnectError::InvalidAddress { address: name(), reason: "is odd" }),
                    Box::new(ConnectError::Ring(SetupError::InvalidSize { reason: "zero" })),
                    Box::new(refused(Refusal::TooLarge)),
                    Box::new(MailSendError::NoSuchType { kind: 2, types: 1 }),
                    Box::new(MailRecvError::NeverMatches { types: 1 }),
                    Box::new(LatestError::Size { expected: 1 }),
                    Box::new(AcquireTimeoutError::Never { most: 1 }),
                ],
            ),
            (
                Code::NotFound,
                vec![
                    Box::new(SetupError::NotFound),
                    Box::new(ConnectError::NotListening),
                    Box::new(ConnectError::Os { call: "bind", source: os(libc::ENOENT) }),
                    Box::new(os(libc::ENOENT)),
                ],
            ),
            (
                Code::Exists,
                vec![
                    Box::new(SetupError::AlreadyExists),
                    Box::new(ConnectError::InUse),
                    Box::new(os(libc::EEXIST)),
                ],
            ),
            (
                Code::Permission,
                vec![
                    Box::new(SetupError::PermissionDenied),
                    Box::new(SetupError::ForeignOwner { uid: 1 }),
                    Box::new(SetupError::HardLinked { links: 2 }),
                    Box::new(SetupError::ModeTooWide { mode: 0o666, allowed: 0o600 }),
                    Box::new(ConnectError::PermissionDenied),
                    Box::new(ConnectError::Untrusted { uid: 1 }),
                    Box::new(refused(Refusal::Untrusted)),
                    Box::new(os(libc::EACCES)),
                    Box::new(SetupError::Os { call: "open", source: os(libc::EROFS) }),
                ],
            ),
            (
                Code::WouldBlock,
                vec![
                    Box::new(SetupError::RoleTaken { role: annulus::Role::Sender, pid: 1 }),
                    Box::new(SetupError::Crowded { participants: 1 }),
                    Box::new(SetupError::InUse),
                    Box::new(refused(Refusal::Crowded)),
                    Box::new(ByteSendError::Full),
                    Box::new(MailSendError::Full),
                    Box::new(TryRecvError::Empty),
                    Box::new(MailRecvError::Empty),
                    Box::new(BroadcastRecvError::Empty),
                ],
            ),
            (
                Code::PeerGone,
                vec![
                    Box::new(ConnectError::Closed),
                    Box::new(ByteSendError::Disconnected),
                    Box::new(MailSendError::Removed),
                    Box::new(TryRecvError::Disconnected),
                    Box::new(RecvTimeoutError::Disconnected),
                    Box::new(MailRecvError::Removed),
                    Box::new(BroadcastRecvError::Disconnected),
                    Box::new(LatestError::Disconnected),
                    Box::new(AcquireTimeoutError::Closed),
                    Box::new(os(libc::EPIPE)),
                    Box::new(os(libc::ECONNRESET)),
                ],
            ),
            (
                Code::Corrupt,
                vec![
                    Box::new(SetupError::NotAFile),
                    Box::new(SetupError::NotARing),
                    Box::new(SetupError::Version { expected: 1, actual: 2 }),
                    Box::new(SetupError::Kind { expected: "a ring", actual: name() }),
                    Box::new(SetupError::Payload { expected: (1, 1), actual: (2, 1) }),
                    Box::new(SetupError::Label { expected: name(), actual: name() }),
                    Box::new(SetupError::Metadata { expected: 1, actual: 2 }),
                    Box::new(SetupError::Truncated { expected: 1, actual: 2 }),
                    Box::new(SetupError::Sparse),
                    Box::new(SetupError::NotSealed),
                    Box::new(SetupError::Corrupt),
                    Box::new(ConnectError::Version { ours: 1, theirs: 2 }),
                    Box::new(ConnectError::Protocol { reason: "lies" }),
                    Box::new(ConnectError::Ring(SetupError::NotSealed)),
                    Box::new(refused(Refusal::Version)),
                    Box::new(refused(Refusal::Messages)),
                    Box::new(refused(Refusal::Label)),
                    Box::new(unwanted(Refusal::Label)),
                    Box::new(refused(Refusal::Malformed)),
                    Box::new(ByteSendError::Corrupt),
                    Box::new(MailSendError::Corrupt),
                    Box::new(TryRecvError::Corrupt),
                    Box::new(RecvTimeoutError::Corrupt),
                    Box::new(MailRecvError::Corrupt),
                    Box::new(BroadcastRecvError::Corrupt),
                    Box::new(LatestError::Corrupt),
                    Box::new(AcquireTimeoutError::Corrupt),
                    Box::new(EventError::Corrupt),
                    Box::new(EventTimeoutError::Corrupt),
                    Box::new(io::Error::new(io::ErrorKind::InvalidData, TryRecvError::Corrupt)),
                ],
            ),
            (
                Code::TimedOut,
                vec![
                    Box::new(ConnectError::Timeout),
                    Box::new(ByteSendError::Timeout),
                    Box::new(MailSendError::Timeout),
                    Box::new(RecvTimeoutError::Timeout),
                    Box::new(MailRecvError::Timeout),
                    Box::new(BroadcastRecvError::Timeout),
                    Box::new(LatestError::Timeout),
                    Box::new(AcquireTimeoutError::Timeout),
                    Box::new(EventTimeoutError::Timeout),
                ],
            ),
        ];
        for (code, errors) in rows {
            for error in errors {
                assert_eq!(error.code(), code, "{error}");
            }
        }
    }

    /// They are promised.
    #[test]
    fn codes_have_their_numbers() {
        let codes = [
            (Code::Done, 0),
            (Code::Failure, 1),
            (Code::Usage, 2),
            (Code::NotFound, 3),
            (Code::Exists, 4),
            (Code::Permission, 5),
            (Code::WouldBlock, 6),
            (Code::PeerGone, 7),
            (Code::Corrupt, 8),
            (Code::TimedOut, 124),
            (Code::NotRun, 126),
            (Code::NoCommand, 127),
            (Code::Interrupted, 130),
        ];
        assert!(codes.into_iter().all(|(code, number)| code as u8 == number));
    }
}
