//! The sessions of this node: count them, and end them.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use super::ready::Ready;
use crate::delivery::SessionKey;
use crate::protocol::{Code, Ending, Problem};

/// Locks among which the sessions are spread.
const SHARDS: usize = 16;

/// A session's identity: 128 random bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SessionId(u128);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What a session shares with those who wake it or end it.
#[derive(Debug)]
pub(super) struct Shared {
    id: SessionId,
    /// The session's task. It stays when it is woken, so that the session need not register again.
    waker: Mutex<Option<Waker>>,
    pub(super) ready: Ready,
    ending: OnceLock<Box<Ending>>,
}

impl Shared {
    pub(super) fn wake(&self) {
        if let Some(waker) = &*lock(&self.waker) {
            waker.wake_by_ref();
        }
    }
}

/// The sessions of this node.
#[derive(Debug)]
pub struct Registry {
    shards: [Mutex<HashMap<SessionId, Arc<Shared>>>; SHARDS],
    count: AtomicUsize,
    /// Counts the sessions that were told to end: while it stands still, no session needs to look whether it was one.
    endings: AtomicU32,
    /// Counts the changes of policies, for each session to see whether it has obeyed the newest.
    policies: AtomicU32,
    is_draining: AtomicBool,
}

impl Registry {
    /// A registry without sessions.
    pub(super) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            count: AtomicUsize::new(0),
            endings: AtomicU32::new(0),
            policies: AtomicU32::new(0),
            is_draining: AtomicBool::new(false),
        }
    }

    /// How many sessions there are.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Whether this node takes no new sessions and publications.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::SeqCst)
    }

    /// From now on, no new sessions and publications.
    pub(super) fn refuse_new(&self) {
        self.is_draining.store(true, Ordering::SeqCst);
    }

    /// Enters a session, until what is returned is dropped.
    pub(super) fn register(self: &Arc<Self>, bits: u128) -> Registered {
        let id = SessionId(bits);
        let shared = Arc::new(Shared {
            id,
            waker: Mutex::default(),
            ready: Ready::default(),
            ending: OnceLock::new(),
        });
        self.count.fetch_add(1, Ordering::SeqCst);
        self.shard(id).insert(id, Arc::clone(&shared));
        Registered {
            shared,
            registry: Arc::clone(self),
            endings_seen: 0,
            policies_seen: 0,
        }
    }

    /// Policies have changed: every session looks at its subscriptions again.
    pub(super) fn tell_new_policies(&self) {
        self.policies.fetch_add(1, Ordering::SeqCst);
        for shard in &self.shards {
            let sessions: Vec<_> = lock(shard).values().cloned().collect();
            for session in sessions {
                session.wake();
            }
        }
    }

    /// Everybody's identity, in no order.
    pub(super) fn ids(&self) -> Vec<SessionId> {
        self.shards
            .iter()
            .flat_map(|shard| lock(shard).keys().copied().collect::<Vec<_>>())
            .collect()
    }

    /// Ends one session. The first reason stands.
    pub(super) fn end(&self, id: SessionId, ending: Ending) {
        let shared = self.shard(id).get(&id).cloned();
        if let Some(shared) = shared {
            let _ = shared.ending.set(Box::new(ending));
            self.endings.fetch_add(1, Ordering::SeqCst);
            shared.wake();
        }
    }

    fn shard(&self, id: SessionId) -> MutexGuard<'_, HashMap<SessionId, Arc<Shared>>> {
        lock(&self.shards[(id.0 % SHARDS as u128) as usize])
    }
}

/// The refusal of whoever comes while this node drains.
pub(super) fn draining() -> Problem {
    const RETRY_MS: u64 = 1000;
    Problem::new(Code::Draining, "this node is shutting down; try again, on any node").retry_after_ms(RETRY_MS)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A session's entry in the registry; dropping it leaves.
#[derive(Debug)]
pub(super) struct Registered {
    shared: Arc<Shared>,
    registry: Arc<Registry>,
    /// The count of endings at which this session was not among them.
    endings_seen: u32,
    /// The change of policies that it has obeyed; a session that has just begun has obeyed none, for what it asks for
    /// may have been allowed before one.
    policies_seen: u32,
}

impl Registered {
    pub(super) fn id(&self) -> SessionId {
        self.shared.id
    }

    /// The session as presence knows it.
    pub(super) fn key(&self) -> SessionKey {
        SessionKey(self.shared.id.0)
    }

    pub(super) fn register(&self, waker: &Waker) {
        *lock(&self.shared.waker) = Some(waker.clone());
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether policies have changed since it was last asked.
    pub(super) fn takes_new_policies(&mut self) -> bool {
        let policies = self.registry.policies.load(Ordering::SeqCst);
        std::mem::replace(&mut self.policies_seen, policies) != policies
    }

    pub(super) fn ending(&mut self) -> Option<Ending> {
        let endings = self.registry.endings.load(Ordering::SeqCst);
        if endings == self.endings_seen {
            return None;
        }
        let ending = self.shared.ending.get().map(|ending| (**ending).clone());
        if ending.is_none() {
            self.endings_seen = endings;
        }
        ending
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.shard(self.shared.id).remove(&self.shared.id);
        self.registry.count.fetch_sub(1, Ordering::SeqCst);
    }
}
