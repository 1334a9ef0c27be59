//! What can go wrong, and the exit code of each: the only place where errors become codes.

mod codes;

use annulus::SetupError;
pub use codes::Coded;
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
    /// As shells have it: the command is there and cannot be run.
    NotRun = 126,
    /// As shells have it: there is no such command.
    NoCommand = 127,
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
                "there is nothing of that name; `annulus create` makes it, and `annulus ls` lists what there is"
                    .to_owned()
            }
            // The library speaks of its own calls here.
            SetupError::ForeignOwner { uid } => {
                format!(
                    "the file belongs to user {uid}; if that user is trusted, give --owner {uid}"
                )
            }
            SetupError::ModeTooWide { mode, allowed } => format!(
                "the file's mode is {mode:04o} and it was made with {allowed:04o}; narrow it with chmod"
            ),
            SetupError::InUse => {
                "somebody has it in use; stop its users first, or give --force".to_owned()
            }
            SetupError::Crowded { participants } => format!(
                "all {participants} places are taken; wait until somebody leaves, or create it with more (--participants, --receivers)"
            ),
            SetupError::Os { source, .. } if source.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                "this file system cannot hold a ring; take a tmpfs, such as /dev/shm".to_owned()
            }
            SetupError::Os { .. } => {
                format!("{error}; see what `annulus doctor` says of this machine")
            }
            _ => error.to_string(),
        };
        Self::new(error.code(), format!("{name}: {text}"))
    }

    /// The directory of named rings could not be listed.
    pub fn listing(error: &SetupError) -> Self {
        let what = match error {
            // It says what of.
            SetupError::Os { .. } => error.to_string(),
            _ => format!("/dev/shm: {error}"),
        };
        Self::new(error.code(), format!("{what}; see what `annulus doctor` says of this machine"))
    }

    /// The kernel refused `what`.
    pub fn io(what: impl Display, error: &io::Error) -> Self {
        Self::new(error.code(), format!("{what}: {error}"))
    }

    /// What the library says that went wrong with what has this name.
    pub fn of(name: &str, error: &impl Coded) -> Self {
        Self::new(error.code(), format!("{name}: {error}"))
    }

    /// What is said of it.
    pub fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
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
