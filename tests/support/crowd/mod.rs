//! A crowd: many readers on three transports, publishers with idempotency keys, and what became of every publication.
//!
//! Publications are numbers, 0, 1, 2 … for each channel.
//! When all is over, what the engine holds is compared with what each reader received and was told.

mod publisher;
mod reader;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use throughline::delivery::{ChannelName, Engine, Health, Since};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::deadline::until;
use super::edge::Edge;
use super::promise::connection::Transport;

pub(crate) use reader::Seen;

/// How many there are of each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) channels: usize,
    pub(crate) readers: usize,
    /// Between two publications to one channel.
    pub(crate) pause: Duration,
}

impl Size {
    /// 300 readers on 20 channels, with 200 publications a second.
    pub(crate) const FULL: Self = Self {
        channels: 20,
        readers: 300,
        pause: Duration::from_millis(100),
    };
}

/// What readers and publishers share.
#[derive(Debug)]
pub(crate) struct Ground {
    nodes: Mutex<Vec<SocketAddr>>,
    /// Publishers publish while it is true.
    is_publishing: watch::Sender<bool>,
    is_over: AtomicBool,
    /// Publications that were acknowledged.
    pub(crate) acked: AtomicU64,
    /// By channel, what was acknowledged: where each number stands.
    positions: Vec<Mutex<BTreeMap<u64, String>>>,
    /// How long refusals took, at most, and how many there were.
    pub(crate) slowest_refusal_ms: AtomicU64,
    pub(crate) refusals: AtomicU64,
    /// How often a publisher was sent on by a node that drains, or found it gone.
    pub(crate) sent_on: AtomicU64,
    /// How often a publication has failed: refused by a node that does not drain, or not stored by the one that came
    /// next.
    pub(crate) failed: AtomicU64,
}

impl Ground {
    fn node(&self, spread: usize) -> SocketAddr {
        let nodes = self.nodes.lock().unwrap();
        nodes[spread % nodes.len()]
    }
}

/// Readers and publishers at work.
#[derive(Debug)]
pub(crate) struct Crowd {
    pub(crate) ground: Arc<Ground>,
    pub(crate) readers: Vec<Arc<Seen>>,
    work: JoinSet<()>,
    publishers: JoinSet<()>,
}

pub(crate) fn channel_name(number: usize) -> String {
    format!("crowd:{{{number}}}")
}

impl Crowd {
    /// Gathers, and returns when every reader is subscribed. Readers and publishers spread over `nodes`.
    pub(crate) async fn gather(nodes: Vec<SocketAddr>, size: Size) -> Self {
        let ground = Arc::new(Ground {
            nodes: Mutex::new(nodes),
            is_publishing: watch::Sender::new(false),
            is_over: AtomicBool::new(false),
            acked: AtomicU64::new(0),
            positions: (0..size.channels).map(|_| Mutex::default()).collect(),
            slowest_refusal_ms: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            sent_on: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        let (mut work, mut publishers) = (JoinSet::new(), JoinSet::new());
        let mut readers = Vec::new();
        for number in 0..size.readers {
            let transport = Transport::ALL[number % 3];
            let seen = Arc::new(Seen::new(number, number / 3 % size.channels, transport));
            readers.push(Arc::clone(&seen));
            work.spawn(reader::read(Arc::clone(&ground), seen));
        }
        for channel in 0..size.channels {
            publishers.spawn(publisher::publish(Arc::clone(&ground), channel, size.pause));
        }
        let crowd = Self {
            ground,
            readers,
            work,
            publishers,
        };
        crowd.all("subscribed", |seen| seen.cursor().is_some()).await;
        crowd
    }

    /// Gathers on these nodes, once they have found whatever keeps their logs, and is at work.
    pub(crate) async fn at_work(edges: &[Edge]) -> Self {
        for edge in edges {
            edge.becomes_ready().await;
            until("all shards", || edge.engine.shards().down == 0).await;
        }
        let nodes = edges.iter().map(|edge| edge.node.address).collect();
        let crowd = Self::gather(nodes, Size::FULL).await;
        crowd.begin_publishing();
        crowd.publishes(100).await;
        crowd
    }

    /// Readers that lose their connection, and publishers, go to these nodes from now on.
    pub(crate) fn move_to(&self, nodes: Vec<SocketAddr>) {
        *self.ground.nodes.lock().unwrap() = nodes;
    }

    /// From now on it is published.
    pub(crate) fn begin_publishing(&self) {
        self.ground.is_publishing.send_replace(true);
    }

    /// Returns when so many more publications were acknowledged, and says how long the first of them took.
    pub(crate) async fn publishes(&self, count: u64) -> Duration {
        let began = Instant::now();
        let before = self.ground.acked.load(Ordering::SeqCst);
        let mut first = None;
        until("acknowledgements", || {
            let acked = self.ground.acked.load(Ordering::SeqCst) - before;
            if acked > 0 {
                first.get_or_insert_with(|| began.elapsed());
            }
            acked >= count
        })
        .await;
        first.unwrap_or_default()
    }

    /// No more is published, once what has begun is acknowledged.
    pub(crate) async fn end_publishing(&mut self) {
        self.ground.is_over.store(true, Ordering::SeqCst);
        self.ground.is_publishing.send_replace(false);
        while let Some(ended) = self.publishers.join_next().await {
            ended.unwrap();
        }
    }

    /// Waits until something is true of every reader.
    pub(crate) async fn all(&self, what: &str, is_true: impl Fn(&Seen) -> bool) -> Duration {
        let began = Instant::now();
        let deadline = began + Duration::from_secs(60);
        while let Some(other) = self.readers.iter().find(|seen| !is_true(seen)) {
            assert!(Instant::now() < deadline, "not {what}: {other:?}");
            self.judge();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        began.elapsed()
    }

    /// Nobody has seen what breaks the promise.
    pub(crate) fn judge(&self) {
        for seen in &self.readers {
            seen.must_be_well();
        }
    }

    /// Waits until every reader has everything up to what the engine holds, and says how long that took.
    pub(crate) async fn catches_up(&self, engine: &dyn Engine) -> Duration {
        let mut tops = Vec::new();
        for channel in 0..self.ground.positions.len() {
            tops.push(holds(engine, channel).await.0);
        }
        self.all("caught up", |seen| seen.cursor().as_ref() == Some(&tops[seen.channel]))
            .await
    }

    /// Publishes so many more, and waits until every reader has them all; says how long that took after the last one.
    pub(crate) async fn ends(&mut self, more: u64, engine: &dyn Engine) -> Duration {
        self.publishes(more).await;
        self.end_publishing().await;
        self.catches_up(engine).await
    }

    /// Compares what everybody saw with what the engine holds, in the end, for a fault that loses nothing:
    /// no gap, each publication once, at the position that was acknowledged.
    pub(crate) async fn lost_nothing(&self, engine: &dyn Engine) {
        self.judge();
        for (channel, acked) in self.ground.positions.iter().enumerate() {
            let (_, held) = holds(engine, channel).await;
            let acked = acked.lock().unwrap();
            let stored: BTreeMap<u64, String> = held
                .iter()
                .map(|(position, number)| (*number, position.clone()))
                .collect();
            assert_eq!(stored.len(), held.len(), "{} has a number twice", channel_name(channel));
            assert_eq!(
                stored,
                *acked,
                "{} holds other than was acknowledged",
                channel_name(channel)
            );
            for seen in self.readers.iter().filter(|seen| seen.channel == channel) {
                assert_eq!(seen.gaps(), [], "{seen:?} was told of a gap where nothing was lost");
                assert_eq!(seen.received(), held, "{seen:?}");
            }
        }
    }

    /// What each reader saw, for a fault that loses something: whatever the engine holds in the end was received, or lies
    /// within a gap that was told; and what a reader received and the engine does not hold comes before a gap.
    pub(crate) async fn was_told_what_is_lost(&self, engine: &dyn Engine) {
        self.judge();
        for channel in 0..self.ground.positions.len() {
            let (_, held) = holds(engine, channel).await;
            let held: BTreeSet<_> = held.into_iter().map(|(position, _)| position).collect();
            for seen in self.readers.iter().filter(|seen| seen.channel == channel) {
                seen.must_have_been_told(&held);
            }
        }
    }

    /// Whatever was acknowledged is held, once, where it was said to stand.
    pub(crate) async fn holds_all_that_was_acknowledged(&self, engine: &dyn Engine) {
        for (channel, acked) in self.ground.positions.iter().enumerate() {
            let (_, held) = holds(engine, channel).await;
            let acked = acked.lock().unwrap();
            for (number, position) in acked.iter() {
                let places: Vec<_> = held.iter().filter(|(_, held)| held == number).collect();
                let name = channel_name(channel);
                assert_eq!(places.len(), 1, "{name} holds {number} so many times");
                assert_eq!(places[0].0, *position, "{name} holds {number} elsewhere");
            }
        }
    }

    /// Ends all readers.
    pub(crate) async fn leave(mut self) {
        self.work.shutdown().await;
    }
}

/// The top of a channel, and what it holds: position and number.
async fn holds(engine: &dyn Engine, channel: usize) -> (String, Vec<(String, u64)>) {
    let name = ChannelName::parse(&channel_name(channel)).unwrap();
    let page = engine.history(&name, Since::Start, 1_000_000).await.unwrap();
    let number = |data: &[u8]| str::from_utf8(data).unwrap().parse().unwrap();
    let held = page
        .publications
        .iter()
        .map(|publication| (publication.position.to_string(), number(&publication.data)));
    (page.top.to_string(), held.collect())
}
