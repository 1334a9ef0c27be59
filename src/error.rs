//! What can go wrong: one error for setting a ring up, and a small one for each hot operation.

use std::fmt;
use std::io;

/// The two sides of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The side that sends.
    Sender,
    /// The side that receives.
    Receiver,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Sender => "sender",
            Role::Receiver => "receiver",
        })
    }
}

/// Why a ring could not be created, opened, or joined.
///
/// The text of each says what to do next.
#[derive(Debug)]
#[non_exhaustive]
pub enum SetupError {
    /// The name or label cannot be used.
    InvalidName {
        /// What was given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The capacity or message size is zero, or beyond what can be addressed.
    InvalidSize {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The permission bits leave the owner without access, or are no permission bits.
    InvalidMode {
        /// What was asked for.
        mode: u32,
    },
    /// There is nothing of that name.
    NotFound,
    /// Something of that name exists already.
    AlreadyExists,
    /// The file system refuses access.
    PermissionDenied,
    /// There is not enough room for the segment.
    NoSpace {
        /// Bytes that the segment needs.
        needed: u64,
    },
    /// The file is not a ring.
    NotARing,
    /// The ring was made by a version with another layout.
    Version {
        /// The layout version of this build.
        expected: u64,
        /// The layout version of the ring.
        actual: u64,
    },
    /// The ring is of another kind or topology.
    Kind {
        /// What was asked for.
        expected: &'static str,
        /// What the ring is.
        actual: String,
    },
    /// The ring's messages have another size or alignment.
    Payload {
        /// Size and alignment in bytes of the type asked for.
        expected: (usize, usize),
        /// Size and alignment in bytes of the ring's messages.
        actual: (u64, u64),
    },
    /// The ring's messages have another label.
    Label {
        /// The label asked for.
        expected: String,
        /// The ring's label.
        actual: String,
    },
    /// The file's size is not what its header says, or its size can still change.
    Truncated {
        /// Bytes that the header calls for.
        expected: u64,
        /// Bytes of the file.
        actual: u64,
    },
    /// The file has holes, so that using it could end in SIGBUS.
    Sparse,
    /// The memory file is not sealed, so that its owner could shrink it under us.
    NotSealed,
    /// The file belongs to somebody who was not expected.
    ForeignOwner {
        /// The owner's user id.
        uid: u32,
    },
    /// The file has more than one name.
    HardLinked {
        /// How many.
        links: u64,
    },
    /// The path names a symbolic link, a directory or a device.
    NotAFile,
    /// More users may access the file than agreed.
    ModeTooWide {
        /// The file's permission bits.
        mode: u32,
        /// The bits that were agreed.
        allowed: u32,
    },
    /// Another process has the role.
    RoleTaken {
        /// The role.
        role: Role,
        /// The process that has it, as far as it has said; 0 if it has not.
        pid: u32,
    },
    /// The ring is in use.
    InUse,
    /// Huge pages were asked for and cannot be had.
    HugePages {
        /// Why.
        reason: &'static str,
    },
    /// `/proc` is missing; it is needed to open descriptors anew.
    NoProc,
    /// The handle belongs to the parent process; a forked child opens the ring anew.
    Forked,
    /// The ring's contents are not what a correct process leaves behind.
    Corrupt,
    /// The kernel refused.
    Os {
        /// What was attempted.
        call: &'static str,
        /// Its answer.
        source: io::Error,
    },
}

impl SetupError {
    pub(crate) fn os(call: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.raw_os_error() {
            Some(libc::EACCES | libc::EPERM) => Self::PermissionDenied,
            _ => Self::Os { call, source },
        }
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidName { name, reason } => write!(f, "the name {name:?} {reason}"),
            Self::InvalidSize { reason } => f.write_str(reason),
            Self::InvalidMode { mode } => write!(
                f,
                "mode {mode:04o} cannot be used; give permission bits that let the owner read and write, such as 0600"
            ),
            Self::NotFound => f.write_str("no such ring; create it first"),
            Self::AlreadyExists => {
                f.write_str("a ring of that name exists already; open it, or remove it first")
            }
            Self::PermissionDenied => {
                f.write_str("permission denied; check the owner and the mode of the ring")
            }
            Self::NoSpace { needed } => write!(
                f,
                "not enough room for a segment of {needed} bytes; make the ring smaller or the file system larger"
            ),
            Self::NotARing => f.write_str("the file is not an annulus ring"),
            Self::Version { expected, actual } => write!(
                f,
                "the ring has layout version {actual} and this build uses version {expected}; create it anew with one build"
            ),
            Self::Kind { expected, actual } => {
                write!(f, "the ring holds {actual}, not {expected}; open it as what it is")
            }
            Self::Payload { expected, actual } => write!(
                f,
                "the ring's messages have {} bytes aligned to {}, not {} bytes aligned to {}; use the type it was created with",
                actual.0, actual.1, expected.0, expected.1
            ),
            Self::Label { expected, actual } => write!(
                f,
                "the ring's messages are labelled {actual:?}, not {expected:?}; use the type it was created with"
            ),
            Self::Truncated { expected, actual } => write!(
                f,
                "the file has {actual} bytes and its header calls for {expected}; it was cut or tampered with, remove it"
            ),
            Self::Sparse => f.write_str(
                "the file has holes and could fail with SIGBUS when used; create the ring anew",
            ),
            Self::NotSealed => f.write_str(
                "the memory file is not sealed against a change of size; get it from a ring that annulus created",
            ),
            Self::ForeignOwner { uid } => write!(
                f,
                "the file belongs to user {uid}; if that user is trusted, name it with `owner`"
            ),
            Self::HardLinked { links } => {
                write!(f, "the file has {links} names; a ring has exactly one")
            }
            Self::NotAFile => {
                f.write_str("the path names a symbolic link or something else that is no regular file")
            }
            Self::ModeTooWide { mode, allowed } => write!(
                f,
                "the file's mode is {mode:04o} and only {allowed:04o} was agreed; narrow it, or allow it with `mode`"
            ),
            Self::RoleTaken { role, pid: 0 } => {
                write!(f, "another process is the {role}; wait until it leaves")
            }
            Self::RoleTaken { role, pid } => {
                write!(f, "process {pid} is the {role}; wait until it leaves")
            }
            Self::InUse => f.write_str("the ring is in use; stop its users first, or force it"),
            Self::HugePages { reason } => write!(f, "no huge pages: {reason}"),
            Self::NoProc => {
                f.write_str("/proc is not mounted; it is needed to open descriptors anew")
            }
            Self::Forked => f.write_str(
                "the handle belongs to the parent process; open the ring anew in the child",
            ),
            Self::Corrupt => f.write_str(
                "the ring's contents are damaged; remove it and create it anew",
            ),
            Self::Os { call, source } => write!(f, "{call} failed: {source}"),
        }
    }
}

impl std::error::Error for SetupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Os { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Why an operation ended without doing its work, before it is turned into the operation's own error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Not now: full, or empty.
    NotReady,
    /// The deadline passed.
    Timeout,
    /// The other side is gone.
    Disconnected,
    /// The other side wrote nonsense.
    Corrupt,
    /// The handle is another process's.
    Forked,
}

const DISCONNECTED_SEND: &str = "the receiver has left; nobody would read the message";
const DISCONNECTED_RECV: &str = "the sender has left and every message has been read";
const CORRUPT: &str = "the ring's contents are damaged; remove it and create it anew";
const FORKED: &str = "the handle belongs to the parent process; open the ring anew in the child";

/// An error of a typed send, which gives the message back.
macro_rules! send_error {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $name<T> {
            $($(#[$variant_doc])* $variant(T),)*
            /// The receiver has left or died.
            Disconnected(T),
            /// The receiver's side of the ring is damaged; this handle does nothing more.
            Corrupt(T),
            /// The handle was made before a fork and belongs to the parent.
            Forked(T),
        }

        impl<T> $name<T> {
            /// The message that was not sent.
            pub fn into_inner(self) -> T {
                match self {
                    $(Self::$variant(message) |)* Self::Disconnected(message)
                    | Self::Corrupt(message) | Self::Forked(message) => message,
                }
            }
        }

        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant(_) => stringify!($variant),)*
                    Self::Disconnected(_) => "Disconnected",
                    Self::Corrupt(_) => "Corrupt",
                    Self::Forked(_) => "Forked",
                })?;
                f.write_str("(..)")
            }
        }

        impl<T> fmt::Display for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant(_) => $text,)*
                    Self::Disconnected(_) => DISCONNECTED_SEND,
                    Self::Corrupt(_) => CORRUPT,
                    Self::Forked(_) => FORKED,
                })
            }
        }

        impl<T> std::error::Error for $name<T> {}
    };
}

send_error! {
    /// Why [`Sender::try_send`](crate::Sender::try_send) did not send.
    TrySendError {
        /// The ring is full.
        Full = "the ring is full; try again when the receiver has read something",
    }
}

send_error! {
    /// Why [`Sender::send`](crate::Sender::send) did not send.
    SendError {}
}

send_error! {
    /// Why [`Sender::send_timeout`](crate::Sender::send_timeout) did not send.
    SendTimeoutError {
        /// The ring stayed full until the deadline.
        Timeout = "the ring stayed full until the deadline",
    }
}

impl<T> TrySendError<T> {
    pub(crate) fn new(failure: Failure, message: T) -> Self {
        match failure {
            Failure::NotReady | Failure::Timeout => Self::Full(message),
            Failure::Disconnected => Self::Disconnected(message),
            Failure::Corrupt => Self::Corrupt(message),
            Failure::Forked => Self::Forked(message),
        }
    }
}

impl<T> SendError<T> {
    pub(crate) fn new(failure: Failure, message: T) -> Self {
        match failure {
            Failure::NotReady | Failure::Timeout | Failure::Disconnected => {
                Self::Disconnected(message)
            }
            Failure::Corrupt => Self::Corrupt(message),
            Failure::Forked => Self::Forked(message),
        }
    }
}

impl<T> SendTimeoutError<T> {
    pub(crate) fn new(failure: Failure, message: T) -> Self {
        match failure {
            Failure::NotReady | Failure::Timeout => Self::Timeout(message),
            Failure::Disconnected => Self::Disconnected(message),
            Failure::Corrupt => Self::Corrupt(message),
            Failure::Forked => Self::Forked(message),
        }
    }
}

/// An error that carries no message.
macro_rules! plain_error {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text,)* })
            }
        }

        impl std::error::Error for $name {}
    };
}

plain_error! {
    /// Why [`Receiver::try_recv`](crate::Receiver::try_recv) gave no message.
    TryRecvError {
        /// The ring is empty.
        Empty = "the ring is empty; try again when the sender has sent something",
        /// The sender has left or died, and every message has been read.
        Disconnected = DISCONNECTED_RECV,
        /// The sender's side of the ring is damaged; this handle does nothing more.
        Corrupt = CORRUPT,
        /// The handle was made before a fork and belongs to the parent.
        Forked = FORKED,
    }
}

plain_error! {
    /// Why [`Receiver::recv`](crate::Receiver::recv) gave no message.
    RecvError {
        /// The sender has left or died, and every message has been read.
        Disconnected = DISCONNECTED_RECV,
        /// The sender's side of the ring is damaged; this handle does nothing more.
        Corrupt = CORRUPT,
        /// The handle was made before a fork and belongs to the parent.
        Forked = FORKED,
    }
}

plain_error! {
    /// Why [`Receiver::recv_timeout`](crate::Receiver::recv_timeout) gave no message.
    RecvTimeoutError {
        /// The ring stayed empty until the deadline.
        Timeout = "the ring stayed empty until the deadline",
        /// The sender has left or died, and every message has been read.
        Disconnected = DISCONNECTED_RECV,
        /// The sender's side of the ring is damaged; this handle does nothing more.
        Corrupt = CORRUPT,
        /// The handle was made before a fork and belongs to the parent.
        Forked = FORKED,
    }
}

impl From<Failure> for TryRecvError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotReady | Failure::Timeout => Self::Empty,
            Failure::Disconnected => Self::Disconnected,
            Failure::Corrupt => Self::Corrupt,
            Failure::Forked => Self::Forked,
        }
    }
}

impl From<Failure> for RecvError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotReady | Failure::Timeout | Failure::Disconnected => Self::Disconnected,
            Failure::Corrupt => Self::Corrupt,
            Failure::Forked => Self::Forked,
        }
    }
}

impl From<Failure> for RecvTimeoutError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotReady | Failure::Timeout => Self::Timeout,
            Failure::Disconnected => Self::Disconnected,
            Failure::Corrupt => Self::Corrupt,
            Failure::Forked => Self::Forked,
        }
    }
}

/// Why [`Sender::send_all`](crate::Sender::send_all) stopped before the last message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendAllError {
    /// Messages that were sent before it stopped.
    pub sent: usize,
    /// Why it stopped.
    pub cause: SendError<()>,
}

impl fmt::Display for SendAllError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped after {} messages: {}", self.sent, self.cause)
    }
}

impl std::error::Error for SendAllError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// Why a byte message was not sent, or could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ByteSendError {
    /// The ring has no room for the message. Only the `try_` verbs say so.
    Full,
    /// The ring had no room for the message until the deadline. Only the verbs with one say so.
    Timeout,
    /// The message would not fit into the ring if that were empty.
    TooLong {
        /// Bytes of the message.
        len: usize,
        /// Bytes of the longest message that this ring takes.
        max: usize,
    },
    /// The receiver has left or died.
    Disconnected,
    /// The receiver's side of the ring is damaged; this handle does nothing more.
    Corrupt,
    /// The handle was made before a fork and belongs to the parent.
    Forked,
}

impl From<Failure> for ByteSendError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotReady => Self::Full,
            Failure::Timeout => Self::Timeout,
            Failure::Disconnected => Self::Disconnected,
            Failure::Corrupt => Self::Corrupt,
            Failure::Forked => Self::Forked,
        }
    }
}

impl fmt::Display for ByteSendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => {
                f.write_str("the ring has no room for the message; try again when the receiver has read something")
            }
            Self::Timeout => f.write_str("the ring had no room for the message until the deadline"),
            Self::TooLong { len, max } => write!(
                f,
                "a message of {len} bytes does not fit into this ring, whose longest is {max}; create a larger ring"
            ),
            Self::Disconnected => f.write_str(DISCONNECTED_SEND),
            Self::Corrupt => f.write_str(CORRUPT),
            Self::Forked => f.write_str(FORKED),
        }
    }
}

impl std::error::Error for ByteSendError {}

/// Why a byte message was not received into a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvIntoError {
    /// The ring is empty. Only the `try_` verbs say so.
    Empty,
    /// The ring stayed empty until the deadline. Only the verbs with one say so.
    Timeout,
    /// The message is longer than the slice. It is still there: come again with more room.
    TooSmall {
        /// Bytes of the message.
        len: usize,
    },
    /// The sender has left or died, and every message has been read.
    Disconnected,
    /// The sender's side of the ring is damaged; this handle does nothing more.
    Corrupt,
    /// The handle was made before a fork and belongs to the parent.
    Forked,
}

impl From<Failure> for RecvIntoError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotReady => Self::Empty,
            Failure::Timeout => Self::Timeout,
            Failure::Disconnected => Self::Disconnected,
            Failure::Corrupt => Self::Corrupt,
            Failure::Forked => Self::Forked,
        }
    }
}

impl fmt::Display for RecvIntoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => {
                f.write_str("the ring is empty; try again when the sender has sent something")
            }
            Self::Timeout => f.write_str("the ring stayed empty until the deadline"),
            Self::TooSmall { len } => {
                write!(f, "the message has {len} bytes and stays until there is room for them")
            }
            Self::Disconnected => f.write_str(DISCONNECTED_RECV),
            Self::Corrupt => f.write_str(CORRUPT),
            Self::Forked => f.write_str(FORKED),
        }
    }
}

impl std::error::Error for RecvIntoError {}
