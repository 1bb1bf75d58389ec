//! The sessions of this node: count them, find them, and tell them what others decided: that they end, or that one of
//! their subscriptions does.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::identity::Identity;
use super::ready::Ready;
use crate::delivery::{ChannelName, SessionKey};
use crate::protocol::{Code, Ending, Problem};

/// Locks among which the sessions are spread.
const SHARDS: usize = 16;

/// What a session is called: 128 random bits. Aligned as its neighbours are, for there are many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(Rust, packed(8))]
pub struct SessionId(u128);

impl SessionId {
    /// Reads what [`Display`](fmt::Display) writes, and nothing else: 32 digits in lower case.
    pub fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_one = text.len() == 32 && text.bytes().all(is_digit);
        is_one.then(|| u128::from_str_radix(text, 16).ok().map(Self))?
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", { self.0 })
    }
}

/// What a session is called: by its `welcome` and, if it is a poll's, by what one poll hands to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Names {
    own: SessionId,
    polls: Option<SessionId>,
}

impl Names {
    /// Of a session that has one name only.
    #[cfg(test)]
    pub(super) fn of(own: SessionId) -> Self {
        Self { own, polls: None }
    }

    /// What polls hand to each other.
    pub(super) fn of_polls(self) -> Option<SessionId> {
        self.polls
    }

    pub(super) fn all(self) -> impl Iterator<Item = SessionId> {
        [Some(self.own), self.polls].into_iter().flatten()
    }
}

/// What a session shares with those who wake it, look for it, or tell it something.
#[derive(Debug)]
pub(super) struct Shared {
    id: SessionId,
    state: Mutex<State>,
    pub(super) ready: Ready,
}

#[derive(Debug)]
struct State {
    /// The session's task. It stays when it is woken, so that the session need not register again.
    waker: Option<Waker>,
    identity: Arc<Identity>,
    /// What few sessions have.
    notices: Option<Box<Notices>>,
}

impl State {
    fn names(&self, own: SessionId) -> Names {
        let polls = self.notices.as_ref().and_then(|notices| notices.polls);
        Names { own, polls }
    }
}

/// What others decided about a session, and what it is also called.
#[derive(Debug, Default)]
struct Notices {
    polls: Option<SessionId>,
    ending: Option<(Ending, Urgency)>,
    unsubscribed: Vec<(ChannelName, Problem)>,
}

/// How soon a session ends that is told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// After all that is there for it.
    Last,
    /// Before anything else.
    Now,
}

impl Shared {
    pub(super) fn names(&self) -> Names {
        lock(&self.state).names(self.id)
    }

    pub(super) fn identity(&self) -> Arc<Identity> {
        Arc::clone(&lock(&self.state).identity)
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = &lock(&self.state).waker {
            waker.wake_by_ref();
        }
    }

    /// Notes something for the session, which has to be woken.
    fn note(&self, note: impl FnOnce(&mut Notices)) {
        note(lock(&self.state).notices.get_or_insert_default());
    }
}

/// The sessions of this node.
#[derive(Debug)]
pub struct Registry {
    shards: [Mutex<HashMap<SessionId, Arc<Shared>>>; SHARDS],
    count: AtomicUsize,
    /// Counts what sessions were told: while it stands still, no session needs to look whether it was one.
    notices: AtomicU32,
    /// Counts the changes of policies, for each session to see whether it has obeyed the newest. Small, for each session
    /// has one.
    policies: AtomicU16,
    is_draining: AtomicBool,
}

impl Registry {
    /// A registry without sessions.
    pub(super) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            count: AtomicUsize::new(0),
            notices: AtomicU32::new(0),
            policies: AtomicU16::new(0),
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
    pub(super) fn register(self: &Arc<Self>, bits: u128, identity: Arc<Identity>) -> Registered {
        let id = SessionId(bits);
        let shared = Arc::new(Shared {
            id,
            state: Mutex::new(State {
                waker: None,
                identity,
                notices: None,
            }),
            ready: Ready::default(),
        });
        self.count.fetch_add(1, Ordering::SeqCst);
        self.shard(id).insert(id, Arc::clone(&shared));
        Registered {
            shared,
            registry: Arc::clone(self),
            notices_seen: 0,
            policies_seen: 0,
            told: None,
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

    /// The sessions that fit, in no order. Looks at all: for what is asked seldom.
    pub(super) fn find(&self, fits: impl Fn(Names, &Identity) -> bool) -> Vec<Arc<Shared>> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let fitting = shard.values().filter(|shared| {
                let state = lock(&shared.state);
                fits(state.names(shared.id), &state.identity)
            });
            found.extend(fitting.cloned());
        }
        found
    }

    /// Ends one session, after all that is there for it.
    pub(super) fn end(&self, id: SessionId, ending: Ending) {
        let shared = self.shard(id).get(&id).cloned();
        if let Some(shared) = shared {
            self.end_one(&shared, ending, Urgency::Last);
        }
    }

    /// Ends one session. Of two reasons the more urgent one stands, or else the first.
    pub(super) fn end_one(&self, shared: &Shared, ending: Ending, urgency: Urgency) {
        shared.note(|notices| {
            if notices.ending.as_ref().is_none_or(|(_, known)| *known < urgency) {
                notices.ending = Some((ending, urgency));
            }
        });
        self.announce(shared);
    }

    /// Ends a session's subscription, if it has it.
    pub(super) fn unsubscribe(&self, shared: &Shared, channel: ChannelName, why: Problem) {
        shared.note(|notices| notices.unsubscribed.push((channel, why)));
        self.announce(shared);
    }

    /// Counted after it was noted, and before it is woken: so the session sees that there is something.
    fn announce(&self, shared: &Shared) {
        self.notices.fetch_add(1, Ordering::SeqCst);
        shared.wake();
    }

    fn shard(&self, id: SessionId) -> MutexGuard<'_, HashMap<SessionId, Arc<Shared>>> {
        lock(&self.shards[(id.0 % SHARDS as u128) as usize])
    }
}

/// The refusal of whoever comes while this node drains, and when they are to come back.
pub(super) fn draining(retry_ms: u64) -> Problem {
    Problem::new(Code::Draining, "this node is shutting down; try again, on any node").retry_after_ms(retry_ms)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A session's entry in the registry; dropping it leaves.
#[derive(Debug)]
pub(super) struct Registered {
    shared: Arc<Shared>,
    registry: Arc<Registry>,
    /// The count of notices at which this session had looked for its own.
    notices_seen: u32,
    /// How soon it was told to end, if it was.
    told: Option<Urgency>,
    /// The change of policies that it has obeyed; a session that has just begun has obeyed none, for what it asks for
    /// may have been allowed before one.
    policies_seen: u16,
}

impl Registered {
    pub(super) fn id(&self) -> SessionId {
        self.shared.id
    }

    /// What it is called.
    pub(super) fn names(&self) -> Names {
        self.shared.names()
    }

    /// Whose it is.
    pub(super) fn identity(&self) -> Arc<Identity> {
        self.shared.identity()
    }

    /// It is a poll's, and the next one comes under this name.
    pub(super) fn call(&self, polls: SessionKey) {
        self.shared.note(|notices| notices.polls = Some(SessionId(polls.0)));
    }

    /// The session as presence knows it.
    pub(super) fn key(&self) -> SessionKey {
        SessionKey(self.shared.id.0)
    }

    pub(super) fn register(&self, waker: &Waker) {
        lock(&self.shared.state).waker = Some(waker.clone());
    }

    /// The session goes on as this.
    pub(super) fn renew(&self, identity: Arc<Identity>) {
        lock(&self.shared.state).identity = identity;
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether policies have changed since it was last asked.
    pub(super) fn takes_new_policies(&mut self) -> bool {
        let policies = self.registry.policies.load(Ordering::SeqCst);
        std::mem::replace(&mut self.policies_seen, policies) != policies
    }

    /// The subscriptions that others ended since it was last asked. Without a lock if nobody was told anything.
    pub(super) fn take_unsubscribed(&mut self) -> Vec<(ChannelName, Problem)> {
        let notices_seen = self.registry.notices.load(Ordering::SeqCst);
        if notices_seen == self.notices_seen {
            return Vec::new();
        }
        self.notices_seen = notices_seen;
        let mut state = lock(&self.shared.state);
        let Some(notices) = &mut state.notices else {
            return Vec::new();
        };
        self.told = notices.ending.as_ref().map(|(_, urgency)| *urgency);
        std::mem::take(&mut notices.unsubscribed)
    }

    /// Why it ends, if it was told to end as soon as that, as of the last [`Registered::take_unsubscribed`].
    pub(super) fn ending(&self, urgency: Urgency) -> Option<Ending> {
        if self.told.is_none_or(|told| told < urgency) {
            return None;
        }
        let state = lock(&self.shared.state);
        let ending = state.notices.as_ref()?.ending.as_ref();
        ending.map(|(ending, _)| ending.clone())
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.shard(self.shared.id).remove(&self.shared.id);
        self.registry.count.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sessions_name_is_read_as_it_is_written() {
        let id = SessionId(0x0123_4567_89ab_cdef);
        assert_eq!(SessionId::parse(&id.to_string()), Some(id));
        for other in [
            "",
            "0",
            "g123456789abcdef0123456789abcdef",
            "0123456789ABCDEF0123456789ABCDEF",
        ] {
            assert_eq!(SessionId::parse(other), None, "{other}");
        }
        assert_eq!(SessionId::parse("+123456789abcdef0123456789abcdef"), None);
    }

    #[test]
    fn the_more_urgent_reason_stands_and_else_the_first() {
        let registry = Arc::new(Registry::new());
        let mut session = registry.register(1, Arc::new(Identity::anybody()));
        let code = |ending: Option<Ending>| ending.and_then(|ending| Some(ending.problem?.code));
        registry.end(session.id(), Ending::draining(1));
        registry.end(session.id(), Ending::slow_reader(1));
        assert!(session.take_unsubscribed().is_empty());
        assert_eq!(code(session.ending(Urgency::Now)), None);
        assert_eq!(code(session.ending(Urgency::Last)), Some(Code::Draining));
        let denied = || Problem::new(Code::Denied, "").into();
        registry.end_one(session.shared(), denied(), Urgency::Now);
        registry.end(session.id(), Ending::draining(1));
        assert!(session.take_unsubscribed().is_empty());
        assert_eq!(code(session.ending(Urgency::Now)), Some(Code::Denied));
        assert_eq!(code(session.ending(Urgency::Last)), Some(Code::Denied));
    }

    #[test]
    fn what_a_session_costs_here_stays_small() {
        assert!(
            size_of::<Shared>() <= 136 && size_of::<Registered>() <= 24,
            "{}",
            size_of::<Shared>()
        );
    }
}
