//! The memory of all buckets that have a key: bounded, sharded, and never forgiving.
//!
//! A bucket's state is the moment at which it will be full again. Once that has passed, the bucket is as good as one
//! that nobody ever drew from, and may be forgotten; no other is. When all places are taken by buckets that are not
//! full, keys that have no place draw from one bucket together, until there is room.
//!
//! A rate may change meanwhile. What was drawn at a slower one would be missing for longer than the bucket takes to
//! fill: such a bucket counts as empty, so that whose limit is raised is not shut out.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};

use super::clock::Ticks;
use super::limit::Limit;

/// Locks among which the keys are spread.
const SHARDS: usize = 64;

/// The most keys of a shard: what a hash table of 16,384 places holds before it grows.
const SHARD_KEYS_MAX: usize = 14_336;

/// The most keys in all.
pub const KEYS_MAX: usize = SHARDS * SHARD_KEYS_MAX;

/// So many keys of a shard are not worth looking for those that can be forgotten.
const SWEEP_KEYS_MIN: usize = 64;

/// How long a shard in which nothing could be forgotten is not looked through again.
const SWEEP_PAUSE: Duration = Duration::from_millis(100);

/// A key, hashed with a secret of this process: 128 bits, so that no two share a bucket and nobody can look for such.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    place: u64,
    mark: u64,
}

/// A key's hash is a part of it.
#[derive(Debug, Default)]
struct Place(u64);

impl Hasher for Place {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, part: u64) {
        self.0 ^= part;
    }
}

#[derive(Debug)]
struct Shard {
    /// When each bucket will be full, in nanoseconds since the clock's zero.
    full_at: HashMap<Key, u64, BuildHasherDefault<Place>>,
    /// At so many keys it is looked for those that can be forgotten.
    sweep_keys: usize,
    /// Not before this moment, in nanoseconds.
    sweep_from: u64,
}

/// The buckets of all limits.
#[derive(Debug)]
pub(super) struct Table {
    shards: Box<[Mutex<Shard>]>,
    /// For each limit, the bucket of the keys that have no place.
    shared: [Arc<InMemoryState>; Limit::ALL.len()],
    secrets: [RandomState; 2],
    ticks: Ticks,
}

impl Table {
    pub(super) fn new(ticks: Ticks) -> Self {
        let shard = || {
            Mutex::new(Shard {
                full_at: HashMap::default(),
                sweep_keys: SWEEP_KEYS_MIN,
                sweep_from: 0,
            })
        };
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            shared: Limit::ALL.map(|_| Arc::default()),
            secrets: [RandomState::new(), RandomState::new()],
            ticks,
        }
    }

    pub(super) fn key(&self, subject: impl Hash) -> Key {
        Key {
            place: self.secrets[0].hash_one(&subject),
            mark: self.secrets[1].hash_one(&subject),
        }
    }

    /// How many keys are remembered.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        let count = |shard: &Mutex<Shard>| shard.lock().unwrap_or_else(PoisonError::into_inner).full_at.len();
        self.shards.iter().map(count).sum()
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard> {
        #[expect(clippy::cast_possible_truncation, reason = "a remainder below the number of shards")]
        let at = (key.mark % SHARDS as u64) as usize;
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.ticks.since_zero().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Shard {
    /// Whether another key may be remembered; forgets the buckets that are full, if that is worth its while.
    fn has_room(&mut self, now: u64) -> bool {
        if self.full_at.len() < self.sweep_keys {
            return true;
        }
        if now >= self.sweep_from {
            self.full_at.retain(|_, full_at| *full_at > now);
            // What is left doubles before the next look, so that looking costs each new key the same.
            self.sweep_keys = (self.full_at.len() * 2).clamp(SWEEP_KEYS_MIN, SHARD_KEYS_MAX);
            self.full_at.shrink_to(self.sweep_keys);
            if self.full_at.len() * 8 > SHARD_KEYS_MAX * 7 {
                self.sweep_from = now.saturating_add(u64::try_from(SWEEP_PAUSE.as_nanos()).unwrap_or(u64::MAX));
            }
        }
        self.full_at.len() < SHARD_KEYS_MAX
    }
}

/// One limit's view of the table, with the bucket that its keys without a place share.
#[derive(Debug, Clone)]
pub(super) struct Buckets {
    table: Arc<Table>,
    shared: Arc<InMemoryState>,
    /// How long an empty bucket takes to be full, in nanoseconds.
    full_in: u64,
    /// Since when that is so.
    since: u64,
}

impl Buckets {
    pub(super) fn of(limit: Limit, table: &Arc<Table>, full_in: Duration) -> Self {
        Self {
            table: Arc::clone(table),
            shared: Arc::clone(&table.shared[limit as usize]),
            full_in: u64::try_from(full_in.as_nanos()).unwrap_or(u64::MAX),
            since: table.now(),
        }
    }

    /// When the bucket is full by the rate that holds now. What is refused is not written down, so another rate may
    /// come without anybody being forgiven.
    fn by_this_rate(&self, full_at: u64) -> Nanos {
        let is_emptier_than_empty = full_at > self.table.now().saturating_add(self.full_in);
        Nanos::from(if is_emptier_than_empty {
            self.since.saturating_add(self.full_in)
        } else {
            full_at
        })
    }

    /// Takes back what was drawn for something that another limit then refused.
    pub(super) fn give_back(&self, key: &Key, drawn: Duration) {
        let drawn = u64::try_from(drawn.as_nanos()).unwrap_or(u64::MAX);
        if let Some(full_at) = self.table.shard(key).full_at.get_mut(key) {
            *full_at = full_at.saturating_sub(drawn);
        }
    }
}

impl StateStore for Buckets {
    type Key = Key;

    fn measure_and_replace<T, F, E>(&self, key: &Key, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut shard = self.table.shard(key);
        if let Some(full_at) = shard.full_at.get_mut(key) {
            let (outcome, next) = decide(Some(self.by_this_rate(*full_at)))?;
            *full_at = next.as_u64();
            return Ok(outcome);
        }
        if !shard.has_room(self.table.now()) {
            drop(shard);
            let decide = |full_at: Option<Nanos>| decide(full_at.map(|full_at| self.by_this_rate(full_at.as_u64())));
            return self.shared.measure_and_replace(&NotKeyed::NonKey, decide);
        }
        let (outcome, next) = decide(None)?;
        shard.full_at.insert(*key, next.as_u64());
        Ok(outcome)
    }
}
