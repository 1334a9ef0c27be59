//! What can go wrong, and the exit code of each: the only place where errors become codes.

use annulus::{ByteSendError, RecvTimeoutError, SetupError, TryRecvError};
use std::fmt::Display;
use std::io;
use std::process::ExitCode;

/// The exit codes of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Code {
    Done = 0,
    Failure = 1,
    Usage = 2,
    NotFound = 3,
    Exists = 4,
    Permission = 5,
    WouldBlock = 6,
    PeerGone = 7,
    Corrupt = 8,
    TimedOut = 124,
    Interrupted = 130,
}

/// Why a verb did not do all its work.
#[derive(Debug)]
#[must_use]
pub struct Failure {
    code: Code,
    /// A sentence for standard error; none if there is nothing to say.
    text: Option<String>,
}

/// What a verb gives.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// `text` is a sentence that says what to do next.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: Some(text.into()) }
    }

    /// Nobody reads standard output any more: an end like any other.
    pub fn unread() -> Self {
        Self { code: Code::Done, text: None }
    }

    /// Something has been said already; only the code remains.
    pub fn told(code: Code) -> Self {
        Self { code, text: None }
    }

    pub fn interrupted() -> Self {
        Self::new(Code::Interrupted, "interrupted")
    }

    /// A ring of this name could not be created, opened or joined.
    pub fn setup(name: &str, error: &SetupError) -> Self {
        let text = match error {
            SetupError::NotFound => {
                "no such ring; `annulus create` makes one, and `annulus ls` lists those there are"
                    .to_owned()
            }
            // The library speaks of its own calls here.
            SetupError::ForeignOwner { uid } => {
                format!(
                    "the file belongs to user {uid}; if that user is trusted, give --owner {uid}"
                )
            }
            SetupError::ModeTooWide { mode, allowed } => format!(
                "the file's mode is {mode:04o} and the ring was made with {allowed:04o}; narrow it with chmod"
            ),
            SetupError::InUse => {
                "the ring is in use; stop its users first, or give --force".to_owned()
            }
            _ => error.to_string(),
        };
        Self::new(code_of(error), format!("{name}: {text}"))
    }

    /// The kernel refused `what`.
    pub fn io(what: impl Display, error: &io::Error) -> Self {
        let code = match error.kind() {
            io::ErrorKind::NotFound => Code::NotFound,
            io::ErrorKind::AlreadyExists => Code::Exists,
            io::ErrorKind::PermissionDenied => Code::Permission,
            _ => Code::Failure,
        };
        Self::new(code, format!("{what}: {error}"))
    }

    /// A message could not be sent.
    pub fn send(name: &str, error: ByteSendError) -> Self {
        let code = match error {
            ByteSendError::Full => Code::WouldBlock,
            ByteSendError::Timeout => Code::TimedOut,
            ByteSendError::Disconnected => Code::PeerGone,
            ByteSendError::Corrupt => Code::Corrupt,
            _ => Code::Failure,
        };
        Self::new(code, format!("{name}: {error}"))
    }

    /// No message could be received.
    pub fn receive(name: &str, error: TryRecvError) -> Self {
        let code = match error {
            TryRecvError::Empty => Code::WouldBlock,
            TryRecvError::Disconnected => Code::PeerGone,
            TryRecvError::Corrupt => Code::Corrupt,
            _ => Code::Failure,
        };
        Self::new(code, format!("{name}: {error}"))
    }

    /// Waiting for a message came to nothing.
    pub fn wait(name: &str, error: RecvTimeoutError) -> Self {
        let code = match error {
            RecvTimeoutError::Timeout => Code::TimedOut,
            RecvTimeoutError::Disconnected => Code::PeerGone,
            RecvTimeoutError::Corrupt => Code::Corrupt,
            _ => Code::Failure,
        };
        Self::new(code, format!("{name}: {error}"))
    }

    pub fn code(&self) -> Code {
        self.code
    }

    /// Adds to what is said.
    pub fn and(mut self, more: impl Display) -> Self {
        if let Some(text) = &mut self.text {
            text.push_str("; ");
            text.push_str(&more.to_string());
        }
        self
    }

    /// Says it, and gives the code to exit with.
    pub fn report(self) -> ExitCode {
        if let Some(text) = self.text {
            crate::output::complain(&text);
        }
        ExitCode::from(self.code as u8)
    }
}

fn code_of(error: &SetupError) -> Code {
    match error {
        SetupError::InvalidName { .. }
        | SetupError::InvalidSize { .. }
        | SetupError::InvalidMode { .. } => Code::Usage,
        SetupError::NotFound => Code::NotFound,
        SetupError::AlreadyExists => Code::Exists,
        SetupError::PermissionDenied
        | SetupError::ForeignOwner { .. }
        | SetupError::HardLinked { .. }
        | SetupError::ModeTooWide { .. } => Code::Permission,
        // They can be had later.
        SetupError::RoleTaken { .. } | SetupError::Crowded { .. } | SetupError::InUse => {
            Code::WouldBlock
        }
        SetupError::NotAFile
        | SetupError::NotARing
        | SetupError::Version { .. }
        | SetupError::Kind { .. }
        | SetupError::Payload { .. }
        | SetupError::Label { .. }
        | SetupError::Truncated { .. }
        | SetupError::Sparse
        | SetupError::NotSealed
        | SetupError::Corrupt => Code::Corrupt,
        _ => Code::Failure,
    }
}
