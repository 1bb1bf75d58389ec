//! What the app said and still holds: bounded in number and in bytes, and forgotten without ever being looked through.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The most bytes of answers that are kept.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// Who asked what: half of a SHA-256 over a secret and the question, so that nobody finds another with the same key.
pub(super) type Key = [u8; 16];

/// Two generations: what is new goes into the young one, and when that is full it becomes the old one, whose
/// predecessor is forgotten. So each entry is there for at least half of the room's turnover, and most for longer.
/// One of which nothing holds any more is forgotten as a whole when the next entry comes.
#[derive(Debug)]
pub(super) struct Cache<V> {
    young: Generation<V>,
    old: Generation<V>,
    count_max: usize,
}

#[derive(Debug)]
struct Generation<V> {
    entries: HashMap<Key, Entry<V>>,
    bytes: usize,
    /// The last moment at which one of them holds.
    until: Duration,
}

#[derive(Debug)]
struct Entry<V> {
    value: Arc<V>,
    /// Until when it holds, in milliseconds: there are many entries.
    until_ms: u64,
}

impl<V> Default for Generation<V> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            bytes: 0,
            until: Duration::ZERO,
        }
    }
}

impl<V> Cache<V> {
    /// Room for so many entries.
    pub(super) fn new(count_max: usize) -> Self {
        Self {
            young: Generation::default(),
            old: Generation::default(),
            count_max,
        }
    }

    /// What is known, if it still holds.
    pub(super) fn get(&self, key: &Key, now: Duration) -> Option<&Arc<V>> {
        let entry = self.young.entries.get(key).or_else(|| self.old.entries.get(key))?;
        (ms(now) < entry.until_ms).then_some(&entry.value)
    }

    /// Keeps from now on, and for as long as it `holds`, a value that takes about so many bytes.
    pub(super) fn insert(&mut self, key: Key, value: Arc<V>, (now, holds): (Duration, Duration), bytes: usize) {
        if self.count_max == 0 {
            return;
        }
        for generation in [&mut self.young, &mut self.old] {
            if generation.until <= now && !generation.entries.is_empty() {
                *generation = Generation::default();
            }
        }
        let is_full = (self.young.entries.len() + 1) * 2 > self.count_max.max(2);
        if is_full || self.young.bytes + bytes > BYTES_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.bytes += bytes;
        let until = now + holds;
        self.young.until = self.young.until.max(until);
        let until_ms = ms(until);
        self.young.entries.insert(key, Entry { value, until_ms });
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.young.entries.len() + self.old.entries.len()
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> Key {
        let mut key = Key::default();
        key[..4].copy_from_slice(&number.to_le_bytes());
        key
    }

    const LONG: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(60));

    #[test]
    fn what_is_kept_holds_until_its_time() {
        let mut cache = Cache::new(10);
        cache.insert(key(1), Arc::new("a"), (Duration::ZERO, Duration::from_secs(5)), 1);
        assert_eq!(
            cache.get(&key(1), Duration::from_millis(4_999)).map(|value| **value),
            Some("a")
        );
        assert!(cache.get(&key(1), Duration::from_secs(5)).is_none());
        cache.insert(key(2), Arc::new("c"), LONG, 1);
        cache.insert(key(1), Arc::new("b"), LONG, 1);
        assert_eq!(
            cache.get(&key(1), Duration::from_secs(5)).map(|value| **value),
            Some("b")
        );
        cache.insert(key(3), Arc::new("d"), (LONG.1, LONG.1), 1);
        assert_eq!(cache.count(), 1, "of the others nothing holds any more");
    }

    #[test]
    fn what_an_entry_costs_stays_small() {
        assert!(size_of::<(Key, Entry<()>)>() <= 32);
    }

    #[test]
    fn a_million_answers_take_no_more_room_than_there_is() {
        let mut cache = Cache::new(1_000);
        for number in 0..1_000_000 {
            cache.insert(key(number), Arc::new(number), LONG, 100);
            assert!(cache.count() <= 1_000);
        }
        // The newest are among those that are left.
        let kept = (999_501..1_000_000).filter(|number| cache.get(&key(*number), Duration::ZERO).is_some());
        assert_eq!(kept.count(), 499);
        let mut large = Cache::new(1_000_000);
        for number in 0..10_000 {
            large.insert(key(number), Arc::new(number), LONG, 64 * 1024);
        }
        assert!(large.count() <= 1024, "{}", large.count());
    }

    #[test]
    fn room_for_none_keeps_none_and_room_for_one_keeps_one() {
        let mut none = Cache::new(0);
        none.insert(key(1), Arc::new(()), LONG, 1);
        assert!(none.get(&key(1), Duration::ZERO).is_none());
        let mut one = Cache::new(1);
        one.insert(key(1), Arc::new(()), LONG, 1);
        assert!(one.get(&key(1), Duration::ZERO).is_some());
    }
}
