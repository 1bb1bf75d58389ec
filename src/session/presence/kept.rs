//! The sessions on one channel that nobody holds, and for how long they stay.

use std::collections::{BTreeSet, HashMap};

use tokio::time::Instant;

use crate::delivery::SessionKey;

/// Sessions of this node that nobody holds, and when they go.
#[derive(Debug, Default)]
pub(super) struct Kept {
    until: HashMap<SessionKey, Instant>,
    in_order: BTreeSet<(Instant, SessionKey)>,
}

impl Kept {
    pub(super) fn insert(&mut self, key: SessionKey, until: Instant) {
        self.remove(key);
        self.until.insert(key, until);
        self.in_order.insert((until, key));
    }

    pub(super) fn remove(&mut self, key: SessionKey) {
        if let Some(until) = self.until.remove(&key) {
            self.in_order.remove(&(until, key));
        }
        if self.until.len() < self.until.capacity() / 4 {
            self.until.shrink_to(self.until.len() * 2);
        }
    }

    /// The first one to go.
    pub(super) fn first(&self) -> Option<SessionKey> {
        self.in_order.first().map(|(_, key)| *key)
    }

    /// The first one to go, if its time has come.
    pub(super) fn first_until(&self, now: Instant) -> Option<SessionKey> {
        let (until, key) = self.in_order.first()?;
        (*until <= now).then_some(*key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.until.is_empty()
    }
}
