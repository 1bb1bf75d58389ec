//! What was published under which idempotency key: one channel's memory of it, bounded by time.

use std::collections::{HashMap, VecDeque};
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

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

    /// Copies of at most `count` keys, from the `from`th on, the oldest first: each with its time, position and
    /// fingerprint.
    pub(super) fn some_from(&self, from: usize, count: usize) -> Vec<(u64, IdempotencyKey, Position, u64)> {
        let some = self.by_age.iter().skip(from).take(count);
        let copied = some.filter_map(|(at_ms, key)| {
            let known = self.known.get(key)?;
            Some((*at_ms, key.clone(), known.position, known.fingerprint))
        });
        copied.collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

/// Tells payloads apart, under a secret, so that nobody can aim for a collision.
///
/// What is hashed is spelt out here, not left to `Hash`: with its secret a fingerprint outlives the process, and means
/// the same to the next build.
#[derive(Debug)]
pub(super) struct Fingerprints {
    secret: [u64; 2],
}

impl Fingerprints {
    pub(super) fn of(secret: [u64; 2]) -> Self {
        Self { secret }
    }

    pub(super) fn secret(&self) -> [u64; 2] {
        self.secret
    }

    pub(super) fn of_payload(&self, draft: &Draft) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.secret[0], self.secret[1]);
        hasher.write(&(draft.data.len() as u64).to_le_bytes());
        hasher.write(&draft.data);
        if let Some(event) = &draft.event {
            hasher.write(b"e");
            hasher.write(event.as_bytes());
        }
        hasher.finish()
    }
}
