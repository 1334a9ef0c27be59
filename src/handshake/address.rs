//! Where listeners are found.

use crate::error::ConnectError;
use crate::sys::socket;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where a [`Listener`](crate::Listener) is: a path, or a name in the abstract namespace.
///
/// What is given as a string or path is a path.
///
/// ```
/// use annulus::Address;
///
/// assert_eq!(Address::from("/run/quotes.sock").to_string(), "/run/quotes.sock");
/// assert_eq!(Address::name("quotes").to_string(), "@quotes");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Path(PathBuf),
    Name(OsString),
}

impl Address {
    /// A socket in the file system. Who may connect is decided by the mode of the socket and of its directory.
    pub fn path(path: impl Into<PathBuf>) -> Self {
        Self(Kind::Path(path.into()))
    }

    /// A name in the abstract namespace, which is that of the network namespace. It has no owner and no mode:
    /// anybody may connect, and anybody may take the name first. Both sides should
    /// [authorize](crate::Connect::authorize) each other.
    pub fn name(name: impl Into<OsString>) -> Self {
        Self(Kind::Name(name.into()))
    }

    /// The path, if it is one.
    pub fn as_path(&self) -> Option<&Path> {
        match &self.0 {
            Kind::Path(path) => Some(path),
            Kind::Name(_) => None,
        }
    }

    /// The address as the kernel takes it.
    pub(crate) fn raw(&self) -> Result<socket::Address, ConnectError> {
        let raw = match &self.0 {
            Kind::Path(path) => socket::Address::path(path),
            Kind::Name(name) => socket::Address::name(name),
        };
        raw.ok_or_else(|| ConnectError::InvalidAddress {
            address: self.to_string(),
            reason: "is empty, longer than 107 bytes, or a path with a zero byte; give one that is not",
        })
    }
}

impl<P: Into<PathBuf>> From<P> for Address {
    fn from(path: P) -> Self {
        Self::path(path)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Path(path) => write!(f, "{}", path.display()),
            Kind::Name(name) => write!(f, "@{}", name.display()),
        }
    }
}

const _: () = assert!(socket::Address::LONGEST == 107);
