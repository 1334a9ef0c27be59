//! Where a ring lives, and how its names become paths.

use crate::error::SetupError;
use std::ffi::CString;
use std::fmt;
use std::path::{Path, PathBuf};

/// The directory of named rings.
pub(crate) const DIRECTORY: &str = "/dev/shm";
/// What the file of a named ring is called before its name.
pub(crate) const PREFIX: &str = "annulus.";
/// The longest name: what a file name may have, less the prefix.
const LONGEST: usize = 255 - PREFIX.len();
/// The longest label of a memory file: what the kernel takes.
const LONGEST_LABEL: usize = 249;

/// Where a ring lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(pub(crate) Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Memfd(CString),
    Name(String),
    Path(PathBuf),
}

impl Place {
    /// An anonymous memory file, which lives as long as somebody has it open. It is handed over as a
    /// descriptor: by inheritance or over a Unix socket. `label` is only for people, who see it in
    /// `/proc/PID/fd`.
    ///
    /// # Errors
    ///
    /// [`SetupError::InvalidName`] if the label contains a zero byte or has more than 249 bytes.
    ///
    /// ```
    /// let ring = annulus::Ring::<u64>::builder(64).create(annulus::Place::memfd("scratch")?)?;
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    pub fn memfd(label: &str) -> Result<Self, SetupError> {
        let invalid = |reason| SetupError::InvalidName { name: label.to_owned(), reason };
        if label.len() > LONGEST_LABEL {
            return Err(invalid("is longer than 249 bytes; shorten it"));
        }
        let label =
            CString::new(label).map_err(|_| invalid("contains a zero byte; leave that out"))?;
        Ok(Self(Kind::Memfd(label)))
    }

    /// A name for all processes of this machine that see the same `/dev/shm`: the ring is the file
    /// `/dev/shm/annulus.NAME`. Unless it is persistent, it is removed when its last user leaves.
    ///
    /// # Errors
    ///
    /// [`SetupError::InvalidName`] if the name is empty, `.`, `..`, longer than 247 bytes, or contains a
    /// slash, a zero byte or another control character.
    ///
    /// ```
    /// assert!(annulus::Place::name("ticks").is_ok());
    /// assert!(annulus::Place::name("../ticks").is_err());
    /// ```
    pub fn name(name: &str) -> Result<Self, SetupError> {
        let invalid = |reason| SetupError::InvalidName { name: name.to_owned(), reason };
        match name {
            "" => Err(invalid("is empty; give one of 1 to 247 bytes, such as ticks")),
            "." | ".." => Err(invalid("names a directory; give one that does not")),
            _ if name.len() > LONGEST => Err(invalid("is longer than 247 bytes; shorten it")),
            _ if name.contains('/') => {
                Err(invalid("contains a slash; leave that out, or give the ring a path"))
            }
            _ if name.contains('\0') => Err(invalid("contains a zero byte; leave that out")),
            _ if name.chars().any(char::is_control) => {
                Err(invalid("contains a control character; use what can be printed"))
            }
            _ => Ok(Self(Kind::Name(name.to_owned()))),
        }
    }

    /// A file of that path, best on a tmpfs: elsewhere the kernel writes it to disk now and then. Unless
    /// the ring is persistent, the file is removed when its last user leaves.
    ///
    /// # Errors
    ///
    /// [`SetupError::InvalidName`] if the path is empty, has no file name, ends with a slash or contains a zero byte.
    ///
    /// ```
    /// assert!(annulus::Place::path("/run/service/ticks").is_ok());
    /// assert!(annulus::Place::path("/").is_err());
    /// ```
    pub fn path(path: impl AsRef<Path>) -> Result<Self, SetupError> {
        let path = path.as_ref();
        let invalid = |reason| SetupError::InvalidName { name: path.display().to_string(), reason };
        if path.as_os_str().is_empty() {
            return Err(invalid("is empty; give the path of a file"));
        }
        if path.as_os_str().as_encoded_bytes().contains(&0) {
            return Err(invalid("contains a zero byte; leave that out"));
        }
        if path.file_name().is_none() || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(invalid("names a directory; add the name of a file in it"));
        }
        Ok(Self(Kind::Path(path.to_owned())))
    }

    /// The path of the file, if the place has one.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        match &self.0 {
            Kind::Memfd(_) => None,
            Kind::Name(name) => Some(Path::new(DIRECTORY).join(format!("{PREFIX}{name}"))),
            Kind::Path(path) => Some(path.clone()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Memfd(label) => write!(f, "memfd:{}", label.to_string_lossy()),
            Kind::Name(name) => f.write_str(name),
            Kind::Path(path) => path.display().fmt(f),
        }
    }
}
