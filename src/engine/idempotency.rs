//! What was published under which idempotency key: one channel's memory of it, bounded by time.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use crate::delivery::{Draft, IdempotencyKey, Position};

/// For how long a key is remembered.
pub(super) const KEY_TTL_MS: u64 = 5 * 60 * 1000;

/// The keys of one channel.
#[derive(Debug, Default)]
pub(super) struct Keys {
    known: HashMap<IdempotencyKey, Known>,
    by_age: VecDeque<(u64, IdempotencyKey)>,
}

#[derive(Debug)]
struct Known {
    position: Position,
    fingerprint: u64,
}

/// What a draft's key says about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It is new.
    Never,
    /// It stands there already.
    At(Position),
    /// The key belongs to another payload.
    Otherwise,
}

impl Keys {
    pub(super) fn look_up(&self, key: &IdempotencyKey, fingerprint: u64) -> Seen {
        match self.known.get(key) {
            None => Seen::Never,
            Some(known) if known.fingerprint == fingerprint => Seen::At(known.position),
            Some(_) => Seen::Otherwise,
        }
    }

    pub(super) fn remember(&mut self, key: IdempotencyKey, fingerprint: u64, position: Position, now_ms: u64) {
        self.by_age.push_back((now_ms, key.clone()));
        self.known.insert(key, Known { position, fingerprint });
    }

    /// Forgets what is too old, and says how many that were.
    pub(super) fn expire(&mut self, now_ms: u64) -> usize {
        let mut expired = 0;
        while self
            .by_age
            .front()
            .is_some_and(|(at_ms, _)| at_ms.saturating_add(KEY_TTL_MS) < now_ms)
        {
            if let Some((_, key)) = self.by_age.pop_front() {
                self.known.remove(&key);
                expired += 1;
            }
        }
        if self.known.is_empty() {
            *self = Self::default();
        }
        expired
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

/// Tells payloads apart; keyed by the process, so that nobody can aim for a collision.
pub(super) fn fingerprint(hasher: &RandomState, draft: &Draft) -> u64 {
    hasher.hash_one((&draft.data, &draft.event))
}
