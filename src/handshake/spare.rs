//! Halves that a listener makes ahead, while the next client has yet to say what it wants: as likely as not that is what
//! those before it wanted.
//!
//! Nobody has seen them, so they are as good as new ones. There is at most one pair, small, and only when two clients in a
//! row wanted the same: who asks for one thing and then another costs the listener nothing more than before.

use crate::error::SetupError;
use crate::segment::{OwnHalves, Spec};

/// Bytes of both halves that are made ahead at most.
const MOST_BYTES: u64 = 1 << 20;

/// What a client wants this side to send into and to receive from.
type Wanted = (Spec, Spec);

/// The halves that were made ahead, and for what.
#[derive(Debug, Default)]
pub(super) struct Spare {
    last: Option<Wanted>,
    /// Whether the last two clients wanted the same.
    is_usual: bool,
    halves: Option<OwnHalves>,
}

impl Spare {
    /// The halves that a client wants: those that were made ahead, if they are as it wants them, or new ones.
    pub(super) fn take(&mut self, wanted: Wanted) -> Result<OwnHalves, SetupError> {
        let ahead = self.halves.take();
        self.is_usual = self.last.as_ref() == Some(&wanted);
        if !self.is_usual {
            self.last = Some(wanted.clone());
        }
        match ahead.filter(|_| self.is_usual) {
            Some(halves) => Ok(halves),
            None => OwnHalves::create(wanted.0, wanted.1),
        }
    }

    /// Makes what the next client probably wants, if there is none; whether that was done.
    pub(super) fn prepare(&mut self) -> bool {
        let wanted = self.last.as_ref().filter(|_| self.is_usual && self.halves.is_none());
        let Some((sends, receives)) = wanted else { return false };
        let bytes = |spec: &Spec| spec.split_size().unwrap_or(u64::MAX);
        if bytes(sends).saturating_add(bytes(receives)) <= MOST_BYTES {
            // If that fails, the client will hear of it, if it is still so.
            self.halves = OwnHalves::create(sends.clone(), receives.clone()).ok();
        }
        self.halves.is_some()
    }
}
