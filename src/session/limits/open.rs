//! How many connections are open from where, exactly.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::network::Network;

/// Locks among which the networks are spread.
const SHARDS: usize = 64;

/// The open connections of each network that has any. There are never more networks in it than connections.
#[derive(Debug)]
pub(super) struct Open {
    shards: [Mutex<HashMap<Network, u32>>; SHARDS],
    secret: RandomState,
}

/// What [`Open::enter`] does at the most that may be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtMost {
    Refuse(u32),
    /// Only says that it would.
    Tell(u32),
}

/// How many are open now, the new one included; or that there are as many as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entered {
    Within(u32),
    Beyond,
    Refused,
}

impl Open {
    pub(super) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            secret: RandomState::new(),
        }
    }

    /// Counts one more, unless it is refused; whoever was not refused leaves once.
    pub(super) fn enter(&self, network: Network, at_most: AtMost) -> Entered {
        let (AtMost::Refuse(max) | AtMost::Tell(max)) = at_most;
        let mut shard = self.shard(network);
        let open = shard.get(&network).copied().unwrap_or_default();
        if open >= max && matches!(at_most, AtMost::Refuse(_)) {
            return Entered::Refused;
        }
        shard.insert(network, open + 1);
        if open < max {
            Entered::Within(open + 1)
        } else {
            Entered::Beyond
        }
    }

    pub(super) fn leave(&self, network: Network) {
        let mut shard = self.shard(network);
        match shard.get_mut(&network) {
            Some(open) if *open > 1 => *open -= 1,
            Some(_) => {
                shard.remove(&network);
                if shard.len() * 4 < shard.capacity() {
                    shard.shrink_to_fit();
                }
            }
            None => {}
        }
    }

    fn shard(&self, network: Network) -> MutexGuard<'_, HashMap<Network, u32>> {
        #[expect(clippy::cast_possible_truncation, reason = "a remainder below the number of shards")]
        let at = (self.secret.hash_one(network) % SHARDS as u64) as usize;
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn network(address: &str) -> Network {
        Network::client(address.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn a_storm_is_counted_exactly() {
        let (open, entered) = (Open::new(), AtomicU32::new(0));
        let home = network("192.0.2.1");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..625 {
                        if open.enter(home, AtMost::Refuse(1_234)) != Entered::Refused {
                            entered.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(entered.load(Ordering::Relaxed), 1_234);
        open.leave(home);
        assert_eq!(open.enter(home, AtMost::Refuse(1_234)), Entered::Within(1_234));
        assert_eq!(open.enter(home, AtMost::Refuse(1_234)), Entered::Refused);
        assert_eq!(open.enter(network("192.0.2.2"), AtMost::Refuse(1)), Entered::Within(1));
    }

    #[test]
    fn who_is_gone_takes_no_room_and_who_is_beyond_is_counted_too() {
        let (open, home) = (Open::new(), network("2001:db8::1"));
        assert_eq!(open.enter(home, AtMost::Tell(1)), Entered::Within(1));
        assert_eq!(open.enter(home, AtMost::Tell(1)), Entered::Beyond);
        open.leave(home);
        open.leave(home);
        assert!(open.shard(home).is_empty());
    }
}
