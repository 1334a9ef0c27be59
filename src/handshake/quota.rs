//! How many clients each user has, so that one of them cannot take the places of all others.
//!
//! A place is kept by what it is for, a handshake and then the connection, and given back when that is dropped: there is
//! no count that a client could keep up by dying.

use crate::sys::fork;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Places of each user, as the kernel says who that is.
#[derive(Debug)]
pub(super) struct Quota {
    most: usize,
    taken: Arc<Mutex<HashMap<u32, usize>>>,
}

impl Quota {
    /// `most` for each user.
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: Arc::default() }
    }

    /// A place for a client of `user`, if there is one left.
    pub(super) fn take(&self, user: u32) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(user).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place { user, taken: Arc::clone(&self.taken), generation: fork::generation() })
    }
}

/// A client's place.
#[derive(Debug)]
pub(super) struct Place {
    user: u32,
    taken: Arc<Mutex<HashMap<u32, usize>>>,
    generation: u32,
}

impl Drop for Place {
    fn drop(&mut self) {
        // A forked child's copy is nobody's place, and somebody may have had the lock.
        if self.generation != fork::generation() {
            return;
        }
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_as_many_places_as_there_are_for_each() {
        let quota = Quota::new(2);
        let mut places = [1, 1, 2].map(|user| quota.take(user).expect("there is one"));
        assert!(quota.take(1).is_none());
        places[0] = quota.take(2).expect("of another user's");
        assert!(quota.take(2).is_none());
        let third = quota.take(1).expect("it was given back");
        drop((places, third));
        assert!(quota.taken.lock().unwrap().is_empty());
        assert!(Quota::new(0).take(1).is_none());
    }
}
