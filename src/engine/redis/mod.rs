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
//!
//! *Where Redis is* is one idea (`topology`): a map leads from a channel to the shard that keeps it, be that a Redis
//! alone, one that Sentinels name, one of several, or a Cluster's node.

mod ask;
mod channel;
mod channels;
pub mod check;
mod cluster;
mod entry;
mod feed;
mod fork;
mod found;
mod heirs;
mod keys;
mod link;
mod look;
mod needs;
mod nodes;
mod part;
mod patience;
mod presence;
mod reads;
mod redirect;
mod replicated;
mod sayings;
mod scripts;
mod sentinel;
mod shard;
mod slot;
mod store;
mod told;
mod topology;
mod tops;
mod transaction;
mod trouble;
mod troubles;
mod url;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::{ConnectionInfo, RedisResult};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use self::channel::Channel;
use self::channels::{Channels, Wakes};
use self::entry::Top;
use self::keys::Keys;
use self::link::Place;
use self::patience::Patience;
use self::scripts::{Hints, Scripts};
use self::shard::Shard;
use self::store::{Call, store};
use self::topology::{Map, Member, Route};
use self::trouble::Trouble;
use self::troubles::Troubles;
use self::url::{Sites, Way};
use crate::delivery::{
    Backlog, ChannelName, Draft, Engine, EngineError, EngineErrorKind, Epoch, FirstByName, Followed, Health, Listing,
    Live, Outside, Page, Position, Published, Shards, Since, Tag, Tail,
};

pub use self::url::BadUrl;
pub use keys::{BadPrefix, Prefix};
pub use presence::RedisPresence;

/// Readings on their way at once, on this node: a thousand channels that are behind do not crowd Redis.
const READINGS_MAX: usize = 32;

/// How long a reader waits for a channel while Redis answers, and others get theirs.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(10);

/// How often channels that nobody uses are let go.
const SWEEP_PERIOD: Duration = Duration::from_secs(1);

/// Where Redis is, and what of it is ours.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// `redis://[user:password@]host[:port][/database]`, `rediss://…`, `redis+unix:///path`,
    /// `redis+sentinel://host,host/service` or `redis+cluster://host,host`; or several, with white space between them,
    /// among which the channels are spread.
    pub url: String,
    /// What every key begins with.
    pub prefix: Prefix,
}

impl RedisSettings {
    /// Whether the URL says where Redis is; nothing is connected to.
    ///
    /// # Errors
    /// [`BadUrl`].
    pub fn check(&self) -> Result<(), BadUrl> {
        Sites::parse(&self.url).map(|_| ())
    }

    /// Where Redis is, for people: addresses and names, without users and passwords.
    ///
    /// # Errors
    /// [`BadUrl`].
    pub fn place(&self) -> Result<String, BadUrl> {
        Sites::parse(&self.url).map(|sites| sites.shown())
    }
}

/// Keeps the logs in Redis. Cheap to share; its tasks end when it is dropped.
pub struct RedisEngine {
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

/// What the engine's tasks share.
#[derive(Debug)]
struct Shared {
    outside: Arc<dyn Outside>,
    prefix: Prefix,
    scripts: Scripts,
    /// Keys have slots, and hints are told by slot.
    is_cluster: bool,
    map: watch::Sender<Arc<Map>>,
    /// The map may be out of date.
    look_again: Notify,
    /// Why it is not known where Redis is.
    troubles: Arc<Troubles>,
    reading_permits: Semaphore,
    channels: Channels,
    wakes: Wakes,
}

impl Shared {
    fn new(sites: &Sites, prefix: Prefix, outside: Arc<dyn Outside>) -> Self {
        let (members, route, is_cluster) = match sites {
            Sites::Cluster(_) => (Vec::new(), Route::nobodys(), true),
            Sites::Apart(sites) => (sites.iter().map(Member::of).collect(), Route::Names, false),
        };
        Self {
            outside,
            prefix,
            scripts: Scripts::new(if is_cluster { Hints::BySlot } else { Hints::Everywhere }),
            is_cluster,
            map: watch::Sender::new(Arc::new(Map::new(members, route))),
            look_again: Notify::new(),
            troubles: Arc::default(),
            reading_permits: Semaphore::new(READINGS_MAX),
            channels: Channels::default(),
            wakes: Wakes::default(),
        }
    }

    fn place(&self, info: ConnectionInfo) -> RedisResult<Place> {
        Place::new(info, &self.prefix, Arc::clone(&self.outside))
    }

    fn epoch(&self) -> Epoch {
        Epoch::from_bits(self.outside.random())
    }

    fn keys(&self, channel: &ChannelName) -> Keys {
        Keys::new(&self.prefix, self.map.borrow().database(channel), channel)
    }

    fn channel(&self, name: &ChannelName) -> Arc<Channel> {
        self.channels.channel(name, self.keys(name))
    }

    /// The channels that are kept there and of which hints are wanted.
    fn wanted_on(&self, home: &Arc<Shard>) -> Vec<Arc<Channel>> {
        let map = self.map();
        let mut wanted = self.channels.wanted();
        wanted.retain(|channel| map.shard(&channel.name).is_some_and(|on| Arc::ptr_eq(on, home)));
        wanted
    }

    /// Hints of a channel are wanted from now on; whether they were not before.
    fn want(&self, channel: &Channel) -> bool {
        let is_new = !channel.is_wanted.swap(true, Ordering::SeqCst);
        if is_new {
            self.note_change(channel);
        }
        is_new
    }

    fn note_change(&self, channel: &Channel) {
        if let Some(home) = self.shard(&channel.name) {
            home.feed.note_change(channel.keys.hints.clone());
        }
    }

    /// Lets go of what nobody uses, for as long as this future lives.
    async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP_PERIOD).await;
            for channel in self.channels.sweep(Instant::now()) {
                self.note_change(&channel);
            }
        }
    }

    /// The live end of a channel, begun if it has none; and the log's top, if that was asked for meanwhile.
    async fn live(self: &Arc<Self>, channel: &Arc<Channel>) -> Result<(Arc<Live>, Option<Top>), EngineError> {
        let mut read = None;
        let begin = async {
            let is_first = self.want(channel);
            let top = channel.is_heard().await.filter(|_| is_first);
            // What is published from here on is told; what was published before is below this top.
            read = top;
            let top = match top {
                Some(top) => top.position,
                None => reads::read(self, channel, Since::Now, 0).await?.top,
            };
            Ok::<_, EngineError>(Arc::new(Live::at(top)))
        };
        let live = channel.live.get_or_try_init(|| begin).await.cloned()?;
        if channel.take_early() {
            channel.fill(self);
        }
        Ok((live, read))
    }

    /// The channel and its live end, in which a reader begins. It needs the log, too, whether the channel is attached
    /// or not; one of many channels would wait for each.
    async fn attach(
        self: &Arc<Self>,
        name: &ChannelName,
        patience: &mut Patience,
    ) -> Result<(Arc<Channel>, Arc<Live>, Option<Top>), EngineError> {
        let unavailable = || EngineError::from(EngineErrorKind::Unavailable);
        let home = self.shard(name).ok_or_else(unavailable)?;
        if home.reading.is_away() || home.feed.is_away() {
            return Err(unavailable());
        }
        // Held until the tail is: a channel that nobody holds may be let go.
        let channel = self.channel(name);
        let attaching = patience.wait(|| Some(home.feed.moved_at()), self.live(&channel));
        let attached = timeout(ATTACH_TIMEOUT, attaching).await;
        let (live, top) = attached.unwrap_or_else(|_| Err(unavailable()))?;
        Ok((channel, live, top))
    }

    /// What the log holds, for a request.
    async fn read(
        self: &Arc<Self>,
        channel: &Arc<Channel>,
        (since, limit): (Since, usize),
        patience: &mut Patience,
    ) -> Result<Page, EngineError> {
        let home = self.shard(&channel.name);
        let answered_at = || home.as_ref().map(|home| home.reading.answered_at());
        patience
            .wait(answered_at, reads::read(self, channel, since, limit))
            .await
    }
}

/// What a log whose top is there says to a reader, if no more of it has to be read for that.
fn at_top(top: Position, since: Since) -> Option<Backlog> {
    let is_there = match since {
        Since::Now => true,
        Since::After(given) => given == top,
        Since::Start | Since::Last(_) => top.offset == 0,
    };
    is_there.then(|| Backlog {
        after: top,
        gap: None,
        publications: Vec::new(),
        top,
    })
}

impl RedisEngine {
    /// An engine that connects from now on. Must be called inside a tokio runtime, on which its tasks run.
    ///
    /// # Errors
    /// [`BadUrl`]. That Redis cannot be reached is no error: it may come.
    pub fn start(settings: RedisSettings, outside: Arc<dyn Outside>) -> Result<Self, BadUrl> {
        let sites = Sites::parse(&settings.url)?;
        let shared = Arc::new(Shared::new(&sites, settings.prefix, outside));
        let mut tasks = JoinSet::new();
        let waker = Arc::clone(&shared);
        tasks.spawn(async move { waker.wakes.run().await });
        let sweeper = Arc::clone(&shared);
        tasks.spawn(async move { sweeper.sweep().await });
        match sites {
            Sites::Cluster(seeds) => {
                tasks.spawn(cluster::follow(Arc::clone(&shared), seeds));
            }
            Sites::Apart(sites) => {
                for (index, site) in sites.into_iter().enumerate() {
                    match site.way {
                        Way::Straight(info) => {
                            let place = shared.place(info).map_err(|error| BadUrl::of(&error))?;
                            let home = Shard::start(&shared, place, &mut tasks);
                            shared.change_map(|map| map.with(index, Some(home)));
                        }
                        Way::Sentinels(service) => {
                            tasks.spawn(sentinel::follow(Arc::clone(&shared), index, service));
                        }
                    }
                }
            }
        }
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
                let (epoch, tag) = (self.shared.epoch(), Tag::from_bits(self.shared.outside.random()));
                let keys = self.shared.keys(&draft.channel);
                Call {
                    channel: draft.channel.clone(),
                    ack: draft.ack,
                    command: self.shared.scripts.publish(&keys, draft, epoch, tag),
                }
            };
            let calls: Vec<_> = batch.iter().map(call).collect();
            let shared = Arc::clone(&self.shared);
            // By a task: whoever asked may leave, and what was begun is still carried out.
            let storing = tokio::spawn(async move { store(&shared, calls).await });
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
        async move {
            let channel = self.shared.channel(channel);
            self.shared.read(&channel, (after, limit), &mut Patience::begin()).await
        }
        .boxed()
    }

    fn attach<'a>(&'a self, channel: &'a ChannelName) -> BoxFuture<'a, Result<Tail, EngineError>> {
        async move {
            let (_channel, live, _) = self.shared.attach(channel, &mut Patience::begin()).await?;
            Ok(Tail::new(live))
        }
        .boxed()
    }

    fn join<'a>(
        &'a self,
        channel: &'a ChannelName,
        since: Since,
        limit: usize,
    ) -> BoxFuture<'a, Result<(Tail, Backlog), EngineError>> {
        async move {
            let mut patience = Patience::begin();
            let (channel, live, read) = self.shared.attach(channel, &mut patience).await?;
            let tail = Tail::new(live);
            if let Some((top, backlog)) = read.and_then(|top| Some((top, at_top(top.position, since)?))) {
                channel.note_handed(top);
                return Ok((tail, backlog));
            }
            let page = self.shared.read(&channel, (since, limit), &mut patience).await?;
            Ok((tail, page.into()))
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
        // With some of its channels a node is worth more than with none: those that are kept where nothing is reached
        // do not come back by its being left alone.
        if self.shards().up > 0 {
            return Ok(());
        }
        let is_silent = |home: &&Arc<Shard>| home.publishing.is_up() && home.reading.is_up() && !home.feed.is_up();
        let map = self.shared.map();
        if let Some(silent) = map.shards().find(is_silent) {
            let why = silent.feed.troubles.now();
            let unknown = if silent.feed.is_away() {
                "the log says why"
            } else {
                "it is being asked to"
            };
            let why = why.map_or(unknown, |trouble| trouble.brief());
            return Err(format!("Redis answers, but does not tell this node of publications: {why}").into());
        }
        let homes = map.shards().find_map(|home| home.troubles.now());
        Err(match homes.or_else(|| self.shared.troubles.now()) {
            None | Some(Trouble::Away(_)) => "Redis cannot be reached".into(),
            Some(trouble) => format!("Redis cannot be used: {}", trouble.brief()).into(),
        })
    }

    fn shards(&self) -> Shards {
        let map = self.shared.map();
        let up = map.members().iter().filter(|member| member.is_up()).count();
        // Of a Cluster that says nothing it is not known how many there are.
        let all = map.members().len().max(1);
        Shards { up, down: all - up }
    }
}

impl fmt::Debug for RedisEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisEngine")
            .field("channels", &self.channel_count())
            .finish_non_exhaustive()
    }
}
