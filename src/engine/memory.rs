//! The engine of a single node: one log per channel, in this process.

mod saved;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::idempotency::{Fingerprints, Keys, Seen};
use crate::delivery::{
    Ack, ChannelName, Draft, Engine, EngineError, EngineErrorKind, Epoch, FirstByName, Followed, Listing, Live, Log,
    LogPolicy, Outside, Page, Position, Published, Since, Tail,
};

/// Locks among which the channels are spread.
const SHARDS: usize = 64;

/// Idempotency keys remembered in all; beyond that, publications with a new key are refused.
const KEYS_MAX: usize = 1_000_000;

/// Channels without window and readers whose position is remembered; beyond that, new ones are forgotten at once.
/// Those that never had a publication may take half of it, so that made-up names cannot crowd out real ones.
const DORMANT_MAX: usize = 1_000_000;

/// Readers woken before they get a turn: few enough that what waking touched is still in the cache when they run.
const WAKE_CHUNK: usize = 24;

/// For how long a channel that never had a publication, and so no policy, keeps its epoch without readers.
const UNUSED_TTL_MS: u64 = 24 * 60 * 60 * 1000;

/// Keeps every channel in memory: what is here is gone when the process is, unless a snapshot is taken.
pub struct MemoryEngine {
    outside: Arc<dyn Outside>,
    hasher: RandomState,
    fingerprints: Fingerprints,
    shards: [Mutex<HashMap<ChannelName, Channel>>; SHARDS],
    /// Idempotency keys in all shards.
    keys: AtomicUsize,
    /// Dormant channels in all shards.
    dormant: AtomicUsize,
    /// Nothing is stored, trimmed or born any more: see [`super::Snapshot`]. Read under a shard's lock, so that a
    /// publication is either seen by whoever sealed and then takes the lock, or refused.
    is_sealed: AtomicBool,
}

/// A channel costs next to nothing when it has neither window nor readers: only its position is left.
enum Channel {
    Awake(Box<Awake>),
    Dormant { top: Position, until_ms: u64 },
}

struct Awake {
    log: Log,
    keys: Keys,
    live: Weak<Live>,
    policy: Option<LogPolicy>,
    active_ms: u64,
}

impl Awake {
    fn at(top: Position) -> Self {
        Self {
            log: Log::at(top),
            keys: Keys::default(),
            live: Weak::new(),
            policy: None,
            active_ms: 0,
        }
    }

    fn live(&mut self) -> Arc<Live> {
        self.live.upgrade().unwrap_or_else(|| {
            let live = Arc::new(Live::at(self.log.top()));
            self.live = Arc::downgrade(&live);
            live
        })
    }

    fn trim(&mut self, now_ms: u64) {
        if let Some(policy) = self.policy {
            self.log.trim(now_ms.saturating_sub(policy.age_ms_max));
        }
    }

    /// Whether anything but the position is left.
    fn is_needed(&self) -> bool {
        self.live.strong_count() > 0 || !self.log.is_empty() || !self.keys.is_empty()
    }

    /// For how long the position outlives everything else, and how many others may do so at the same time.
    fn position_bounds(&self) -> (u64, usize) {
        self.policy.map_or((UNUSED_TTL_MS, DORMANT_MAX / 2), |policy| {
            (policy.position_ttl_ms, DORMANT_MAX)
        })
    }
}

impl MemoryEngine {
    /// An engine without channels.
    pub fn new(outside: Arc<dyn Outside>) -> Self {
        Self {
            fingerprints: Fingerprints::of([outside.random(), outside.random()]),
            outside,
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
            keys: AtomicUsize::new(0),
            dormant: AtomicUsize::new(0),
            is_sealed: AtomicBool::new(false),
        }
    }

    /// From now on nothing changes: publications, and channels that nobody knows yet, are refused as unavailable.
    pub(super) fn seal(&self) {
        self.is_sealed.store(true, Ordering::SeqCst);
    }

    fn is_sealed(&self) -> bool {
        self.is_sealed.load(Ordering::SeqCst)
    }

    /// Lets go of what is too old, in one shard after the other. To be called every few seconds.
    pub fn sweep(&self) {
        for shard in &self.shards {
            let now_ms = self.outside.now_ms();
            let mut channels = lock(shard);
            if self.is_sealed() {
                return;
            }
            channels.retain(|_, channel| self.keep(channel, now_ms));
            let (used, room) = (channels.len(), channels.capacity());
            if room > 64 && used < room / 4 {
                channels.shrink_to(used * 2);
            }
        }
    }

    /// How many channels are known, and how many of them are dormant.
    pub fn channel_counts(&self) -> (usize, usize) {
        let known = self.shards.iter().map(|shard| lock(shard).len()).sum();
        (known, self.dormant.load(Ordering::Relaxed))
    }

    /// Trims a channel, puts it to sleep when nothing but its position is left, and says when even that may go.
    fn keep(&self, channel: &mut Channel, now_ms: u64) -> bool {
        match channel {
            Channel::Dormant { until_ms, .. } => {
                let keep = *until_ms > now_ms;
                self.dormant.fetch_sub(usize::from(!keep), Ordering::Relaxed);
                keep
            }
            Channel::Awake(awake) => {
                awake.trim(now_ms);
                self.keys.fetch_sub(awake.keys.expire(now_ms), Ordering::Relaxed);
                if awake.live.strong_count() > 0 {
                    awake.active_ms = now_ms;
                }
                if awake.is_needed() {
                    return true;
                }
                let (ttl_ms, dormant_max) = awake.position_bounds();
                let until_ms = awake.active_ms.saturating_add(ttl_ms);
                let sleeps = until_ms > now_ms && self.dormant.load(Ordering::Relaxed) < dormant_max;
                if sleeps {
                    self.dormant.fetch_add(1, Ordering::Relaxed);
                    *channel = Channel::Dormant {
                        top: awake.log.top(),
                        until_ms,
                    };
                }
                sleeps
            }
        }
    }

    fn shard_of(&self, name: &ChannelName) -> usize {
        usize::try_from(self.hasher.hash_one(name)).unwrap_or_default() % SHARDS
    }

    /// Runs `action` on a channel, which is woken or born for it.
    ///
    /// A sealed engine gives birth to none: its epoch would be told to somebody, and then not be in the snapshot.
    fn with<R>(&self, name: &ChannelName, action: impl FnOnce(&mut Awake, u64) -> R) -> Result<R, EngineError> {
        let mut channels = lock(&self.shards[self.shard_of(name)]);
        let now_ms = self.outside.now_ms();
        let channel = match channels.entry(name.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(_) if self.is_sealed() => return Err(EngineErrorKind::Unavailable.into()),
            Entry::Vacant(vacant) => {
                let origin = Position::origin(Epoch::from_bits(self.outside.random()));
                vacant.insert(Channel::Awake(Box::new(Awake::at(origin))))
            }
        };
        if let Channel::Dormant { top, .. } = channel {
            self.dormant.fetch_sub(1, Ordering::Relaxed);
            *channel = Channel::Awake(Box::new(Awake::at(*top)));
        }
        let Channel::Awake(awake) = channel else {
            unreachable!("it was just woken")
        };
        awake.active_ms = now_ms;
        Ok(action(awake, now_ms))
    }

    /// Stores one draft and shows it to the readers, who are woken later.
    fn store(&self, draft: &Draft) -> Result<(Published, Option<Arc<Live>>), EngineError> {
        let stored = self.with(&draft.channel, |channel, now_ms| {
            if self.is_sealed() {
                return Err(EngineErrorKind::Unavailable.into());
            }
            self.keys.fetch_sub(channel.keys.expire(now_ms), Ordering::Relaxed);
            let keyed = draft.key.clone().map(|key| (key, self.fingerprints.of_payload(draft)));
            if let Some((key, fingerprint)) = &keyed {
                match channel.keys.look_up(key, *fingerprint) {
                    Seen::At(position) => {
                        return Ok((
                            Published {
                                position,
                                duplicate: true,
                                replicated: false,
                            },
                            None,
                        ));
                    }
                    Seen::Otherwise => return Err(EngineErrorKind::KeyMismatch.into()),
                    Seen::Never if self.keys.load(Ordering::Relaxed) >= KEYS_MAX => {
                        return Err(EngineErrorKind::Full.into());
                    }
                    Seen::Never => {}
                }
            }
            channel.policy = Some(draft.policy);
            let publication = channel.log.append(draft, now_ms);
            let position = publication.position;
            if let Some((key, fingerprint)) = keyed {
                self.keys.fetch_add(1, Ordering::Relaxed);
                channel.keys.remember(key, fingerprint, position, now_ms);
            }
            let live = channel.live.upgrade();
            if let Some(live) = &live {
                live.push(publication);
            }
            Ok((
                Published {
                    position,
                    duplicate: false,
                    replicated: false,
                },
                live,
            ))
        });
        stored.flatten()
    }
}

/// Here are no replicas: whoever asks for some is told so.
fn acknowledge(ack: Ack, published: Published) -> Result<Published, EngineError> {
    let shortfall = match ack {
        Ack::Stored => None,
        Ack::Replicated(replicas) => replicas.missing(0),
    };
    shortfall.map_or(Ok(published), |shortfall| {
        Err(EngineErrorKind::NotReplicated(shortfall).into())
    })
}

impl Engine for MemoryEngine {
    fn publish<'a>(&'a self, batch: &'a [Draft]) -> BoxFuture<'a, Vec<Result<Published, EngineError>>> {
        async move {
            let mut touched: Vec<Arc<Live>> = Vec::new();
            let mut results = Vec::with_capacity(batch.len());
            for draft in batch {
                results.push(self.store(draft).and_then(|(published, live)| {
                    let is_new = |live: &Arc<Live>| touched.last().is_none_or(|last| !Arc::ptr_eq(last, live));
                    let live = live.filter(is_new);
                    touched.extend(live);
                    acknowledge(draft.ack, published)
                }));
            }
            // All are taken before the first await: dropping this future still wakes everybody.
            let mut woken: Vec<_> = touched.iter().map(|live| live.wake()).collect();
            drop(touched);
            for readers in &mut woken {
                while readers.wake_some(WAKE_CHUNK) {
                    tokio::task::yield_now().await;
                }
            }
            results
        }
        .boxed()
    }

    fn history<'a>(
        &'a self,
        channel: &'a ChannelName,
        after: Since,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, EngineError>> {
        let page = self.with(channel, |channel, now_ms| {
            channel.trim(now_ms);
            channel.log.read(after, limit)
        });
        std::future::ready(page).boxed()
    }

    fn attach<'a>(&'a self, channel: &'a ChannelName) -> BoxFuture<'a, Result<Tail, EngineError>> {
        let live = self.with(channel, |channel, _| channel.live());
        std::future::ready(live.map(Tail::new)).boxed()
    }
}

impl Listing for MemoryEngine {
    fn followed(&self, prefix: &str, after: &str, limit: usize) -> Vec<Followed> {
        let mut first = FirstByName::new(prefix, after, limit);
        for shard in &self.shards {
            for (name, channel) in &*lock(shard) {
                if let Channel::Awake(awake) = channel {
                    let subscriptions = awake.live.strong_count();
                    first.look_at(name, || (subscriptions > 0).then(|| (subscriptions, awake.log.top())));
                }
            }
        }
        first.finish()
    }
}

impl fmt::Debug for MemoryEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (known, dormant) = self.channel_counts();
        f.debug_struct("MemoryEngine")
            .field("channels", &known)
            .field("dormant", &dormant)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
