//! Readers that have nothing to read park their wakers here until somebody has something for them.
//!
//! Its tests are in `tests/parking.rs`; `tests/parking_model.rs` compiles this file with loom's locks.

use std::task::Waker;

use super::sync::{Mutex, MutexGuard};

/// Locks among which the readers of one parking place are spread.
const SHARDS: usize = 4;

/// Wakers that wait for one thing. Parking again replaces, so ten thousand polls leave one entry.
#[derive(Debug)]
pub struct Parking {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    /// Counts how often the shard was emptied: a place of an earlier generation is gone.
    generation: u32,
    places: Vec<Option<Waker>>,
    vacant: Vec<u32>,
}

/// A reader's claim to one place. It must be given back by [`Parking::leave`].
#[derive(Debug, Clone, Copy)]
pub struct Parked {
    shard: u8,
    place: Option<(u32, u32)>,
}

impl Parked {
    /// A reader that has not parked yet; `spread` decides which lock it will use.
    pub fn new(spread: usize) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "less than SHARDS")]
        Self {
            shard: (spread % SHARDS) as u8,
            place: None,
        }
    }
}

impl Parking {
    /// A parking place without anybody.
    pub fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::new(Shard::default())),
        }
    }

    /// Parks `waker` if there is still nothing to do, and says whether it did.
    ///
    /// `is_idle` is asked under the lock that [`Parking::wake`] takes: who makes it false must do so before waking.
    pub fn park(&self, parked: &mut Parked, waker: &Waker, is_idle: impl FnOnce() -> bool) -> bool {
        let mut shard = self.lock(parked.shard);
        if !is_idle() {
            return false;
        }
        match parked.place {
            Some((generation, place)) if generation == shard.generation => match &mut shard.places[place as usize] {
                Some(known) => known.clone_from(waker),
                vacated => *vacated = Some(waker.clone()),
            },
            _ => parked.place = Some((shard.generation, shard.take_place(waker.clone()))),
        }
        true
    }

    /// Gives a place back; what was parked there will not be woken.
    pub fn leave(&self, parked: &mut Parked) {
        let Some((generation, place)) = parked.place.take() else {
            return;
        };
        let mut shard = self.lock(parked.shard);
        if generation == shard.generation {
            shard.places[place as usize] = None;
            shard.vacant.push(place);
        }
    }

    /// Takes all that are parked, to be woken by whoever holds them.
    pub fn wake(&self) -> Woken {
        let take = |index| {
            let mut shard = self.lock(index);
            if shard.places.is_empty() {
                return Vec::new();
            }
            shard.generation = shard.generation.wrapping_add(1);
            shard.vacant.clear();
            let room = Vec::with_capacity(shard.places.len());
            std::mem::replace(&mut shard.places, room)
        };
        #[expect(clippy::cast_possible_truncation, reason = "a handful")]
        let wakers = (0..SHARDS as u8)
            .map(take)
            .filter(|places| !places.is_empty())
            .collect();
        Woken { wakers }
    }

    fn lock(&self, shard: u8) -> MutexGuard<'_, Shard> {
        self.shards[usize::from(shard)]
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Default for Parking {
    fn default() -> Self {
        Self::new()
    }
}

impl Shard {
    fn take_place(&mut self, waker: Waker) -> u32 {
        if let Some(place) = self.vacant.pop() {
            self.places[place as usize] = Some(waker);
            return place;
        }
        self.places.push(Some(waker));
        u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
    }
}

/// Readers that are no longer parked and have yet to be woken; dropping it wakes those that are left.
#[derive(Debug)]
#[must_use = "dropping it wakes everybody at once"]
pub struct Woken {
    wakers: Vec<Vec<Option<Waker>>>,
}

impl Woken {
    /// Wakes about `count` readers and says whether any are left.
    pub fn wake_some(&mut self, count: usize) -> bool {
        let mut left = count;
        while let Some(places) = self.wakers.last_mut() {
            let from = places.len().saturating_sub(left);
            left -= places.len() - from;
            places.drain(from..).flatten().for_each(Waker::wake);
            if !places.is_empty() {
                return true;
            }
            self.wakers.pop();
        }
        false
    }
}

impl Drop for Woken {
    fn drop(&mut self) {
        while self.wake_some(usize::MAX) {}
    }
}
