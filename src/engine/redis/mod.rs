//! The engine that several nodes share: the logs are streams in Redis.
//!
//! **Pub/Sub is the hint, the stream is the truth.**
//! One script stores a publication and tells the nodes of it, as one step (`scripts`).
//! A node hears over one connection (`feed`) and goes on with what follows its live end (`channel`); whatever else
//! it hears, and whatever it did not hear (`tops`), sends it to the stream (`reads`).
//!
//! *Nothing is passed over.* Every publication has a random tag, and says the tag of the one before it.
//! If Redis loses the end of a log, in a failover say, and gives out the same offsets again, the tags differ: a live end
//! that does not fit begins anew, and its readers' positions are a gap.
//! A log that Redis has forgotten begins a new epoch.

mod channel;
mod channels;
pub mod check;
mod entry;
mod feed;
mod keys;
mod link;
mod part;
mod presence;
mod reads;
mod replicated;
mod scripts;
mod tops;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use redis::{Cmd, IntoConnectionInfo, ProtocolVersion};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use self::channel::Channel;
use self::channels::{Channels, Wakes};
use self::feed::Feed;
use self::keys::Keys;
use self::link::{ANSWER_TIMEOUT, BREAK_MAX, Link, Place};
use self::replicated::{Replicated, is_odd};
use self::scripts::{Scripts, read_published};
use crate::delivery::{
    Ack, ChannelName, Draft, Engine, EngineError, EngineErrorKind, Epoch, FirstByName, Followed, Health, Listing, Live,
    Outside, Page, Published, Since, Tag, Tail,
};

pub use keys::{BadPrefix, Prefix};
pub use presence::RedisPresence;

/// Readings on their way at once, on this node: a thousand channels that are behind do not crowd Redis.
const READINGS_MAX: usize = 32;

/// Where Redis is, and what of it is ours.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// `redis://[user:password@]host[:port][/database]`, `rediss://…`, or `redis+unix:///path`.
    pub url: String,
    /// What every key begins with.
    pub prefix: Prefix,
}

/// Keeps the logs in Redis. Cheap to share; its tasks end when it is dropped.
pub struct RedisEngine {
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

/// What the engine's tasks share.
#[derive(Debug)]
struct Shared {
    place: Place,
    prefix: Prefix,
    scripts: Scripts,
    /// Publications go out on a connection of their own, so that no long answer to a reader holds them up.
    publishing: Link,
    /// Those that replicas must have go out on connections of their own, which wait for that.
    replicated: Replicated,
    reading: Link,
    reading_permits: Semaphore,
    feed: Feed,
    channels: Channels,
    wakes: Wakes,
    /// There is a reason to compare tops now.
    compare_now: Notify,
}

impl Shared {
    fn epoch(&self) -> Epoch {
        Epoch::from_bits(self.place.outside.random())
    }

    fn keys(&self, channel: &ChannelName) -> Keys {
        Keys::new(&self.prefix, self.place.database(), channel)
    }

    fn channel(&self, name: &ChannelName) -> Arc<Channel> {
        self.channels.channel(name, self.keys(name))
    }

    /// Stores a batch, and answers in its order. Those to one channel ask for one ack, and keep their order, too.
    async fn store(self: &Arc<Self>, calls: Vec<(Ack, Cmd)>) -> Vec<Result<Published, EngineError>> {
        let mut by_ack: Vec<(Ack, Vec<usize>, Vec<Cmd>)> = Vec::new();
        let mut results = vec![Err(EngineErrorKind::Unanswered.into()); calls.len()];
        for (at, (ack, call)) in calls.into_iter().enumerate() {
            match by_ack.iter_mut().find(|(known, ..)| *known == ack) {
                Some((_, places, calls)) => {
                    places.push(at);
                    calls.push(call);
                }
                None => by_ack.push((ack, vec![at], vec![call])),
            }
        }
        let storing = by_ack.into_iter().map(|(ack, places, calls)| async move {
            let results = self.store_alike(ack, calls).await;
            places.into_iter().zip(results)
        });
        for (at, result) in join_all(storing).await.into_iter().flatten() {
            results[at] = result;
        }
        results
    }

    async fn store_alike(self: &Arc<Self>, ack: Ack, calls: Vec<Cmd>) -> Vec<Result<Published, EngineError>> {
        let all_are = |kind: EngineErrorKind| vec![Err(kind.into()); calls.len()];
        let Ok(mut connection) = self.publishing.connection(Instant::now() + BREAK_MAX).await else {
            return all_are(EngineErrorKind::Unavailable);
        };
        if let Ack::Replicated(replicas) = ack {
            return replicated::store(self, replicas, calls).await;
        }
        match self.scripts.call_all(&mut connection, &calls).await {
            Ok(answers) => {
                let results: Vec<_> = answers.iter().map(read_published).collect();
                if results.iter().any(is_odd) {
                    self.publishing.doubt();
                }
                results
            }
            Err(error) => {
                tracing::debug!(%error, "publications were not answered");
                self.publishing.doubt();
                all_are(EngineErrorKind::Unanswered)
            }
        }
    }

    /// The live end of a channel, begun if it has none.
    async fn live(self: &Arc<Self>, channel: &Arc<Channel>) -> Result<Arc<Live>, EngineError> {
        let begin = || async {
            self.channels.want(channel);
            let mut is_heard = channel.is_heard.subscribe();
            let heard = is_heard.wait_for(|is_heard| *is_heard).await.map(|_| ());
            heard.map_err(|_| EngineError::from(EngineErrorKind::Unavailable))?;
            // What is published from here on is told; what was published before is below this top.
            let page = reads::read(self, channel, Since::Now, 0).await?;
            Ok::<_, EngineError>(Arc::new(Live::at(page.top)))
        };
        let live = channel.live.get_or_try_init(begin).await.cloned()?;
        if channel.take_early() {
            channel.fill(self);
        }
        Ok(live)
    }
}

impl RedisEngine {
    /// An engine that connects from now on. Must be called inside a tokio runtime, on which its tasks run.
    ///
    /// # Errors
    /// [`BadUrl`]. That Redis cannot be reached is no error: it may come.
    pub fn start(settings: RedisSettings, outside: Arc<dyn Outside>) -> Result<Self, BadUrl> {
        let info = settings
            .url
            .as_str()
            .into_connection_info()
            .map_err(|error| BadUrl::of(&error))?;
        let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        // Many small commands, each of which somebody waits for.
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        let place = Place::new(info.set_redis_settings(redis).set_tcp_settings(tcp), outside);
        let shared = Arc::new(Shared {
            place: place.map_err(|error| BadUrl::of(&error))?,
            prefix: settings.prefix,
            scripts: Scripts::new(),
            publishing: Link::new(),
            replicated: Replicated::default(),
            reading: Link::new(),
            reading_permits: Semaphore::new(READINGS_MAX),
            feed: Feed::new(),
            channels: Channels::default(),
            wakes: Wakes::default(),
            compare_now: Notify::new(),
        });
        let mut tasks = JoinSet::new();
        let keeper = Arc::clone(&shared);
        tasks.spawn(async move { keeper.publishing.keep(&keeper.place, &keeper.scripts.all()).await });
        let keeper = Arc::clone(&shared);
        tasks.spawn(async move { keeper.reading.keep(&keeper.place, &keeper.scripts.all()).await });
        let waker = Arc::clone(&shared);
        tasks.spawn(async move { waker.wakes.run().await });
        tasks.spawn(feed::run(Arc::clone(&shared)));
        tasks.spawn(tops::run(Arc::clone(&shared)));
        Ok(Self { shared, _tasks: tasks })
    }

    /// How many channels this node knows at the moment.
    pub fn channel_count(&self) -> usize {
        self.shared.channels.count()
    }
}

impl Engine for RedisEngine {
    fn publish<'a>(&'a self, batch: &'a [Draft]) -> BoxFuture<'a, Vec<Result<Published, EngineError>>> {
        async move {
            let call = |draft: &Draft| {
                let (epoch, tag) = (self.shared.epoch(), Tag::from_bits(self.shared.place.outside.random()));
                let keys = self.shared.keys(&draft.channel);
                (draft.ack, self.shared.scripts.publish(&keys, draft, epoch, tag))
            };
            let calls: Vec<_> = batch.iter().map(call).collect();
            let shared = Arc::clone(&self.shared);
            // By a task: whoever asked may leave, and what was begun is still carried out.
            let storing = tokio::spawn(async move { shared.store(calls).await });
            storing
                .await
                .unwrap_or_else(|_| vec![Err(EngineErrorKind::Unanswered.into()); batch.len()])
        }
        .boxed()
    }

    fn history<'a>(
        &'a self,
        channel: &'a ChannelName,
        after: Since,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, EngineError>> {
        async move { reads::read(&self.shared, &self.shared.channel(channel), after, limit).await }.boxed()
    }

    fn attach<'a>(&'a self, channel: &'a ChannelName) -> BoxFuture<'a, Result<Tail, EngineError>> {
        async move {
            // A reader that begins needs the log, whether the channel is attached or not; one of many channels would
            // wait for each.
            if self.shared.reading.is_away() {
                return Err(EngineErrorKind::Unavailable.into());
            }
            // Held until the tail is: a channel that nobody holds may be let go.
            let channel = self.shared.channel(channel);
            let deadline = Instant::now() + ANSWER_TIMEOUT;
            let live = timeout_at(deadline, self.shared.live(&channel)).await;
            let live = live.unwrap_or_else(|_| Err(EngineErrorKind::Unavailable.into()))?;
            Ok(Tail::new(live))
        }
        .boxed()
    }
}

impl Listing for RedisEngine {
    fn followed(&self, prefix: &str, after: &str, limit: usize) -> Vec<Followed> {
        self.shared.channels.followed(FirstByName::new(prefix, after, limit))
    }
}

impl Health for RedisEngine {
    fn check(&self) -> Result<(), Cow<'static, str>> {
        let Shared {
            publishing,
            reading,
            feed,
            ..
        } = &*self.shared;
        if publishing.is_up() && reading.is_up() && feed.is_up() {
            Ok(())
        } else {
            Err("Redis cannot be reached".into())
        }
    }
}

impl fmt::Debug for RedisEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisEngine")
            .field("channels", &self.channel_count())
            .finish_non_exhaustive()
    }
}

/// A URL that says nothing about where Redis is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadUrl(String);

impl BadUrl {
    fn of(error: &redis::RedisError) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for BadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "not the URL of a Redis, like redis://127.0.0.1:6379/0, rediss://user:password@host or redis+unix:///path: {}",
            self.0
        )
    }
}

impl std::error::Error for BadUrl {}
