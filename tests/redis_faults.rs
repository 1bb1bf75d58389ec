//! Redis breaks under a crowd of readers on three transports: nothing is lost in silence, and nothing is said to be lost
//! that is not.
//!
//! Each test first proves that its fault took place.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use support::crowd::{Crowd, Size};
use support::deadline::{until, until_told};
use support::edge::{Edge, took_at_most};
use support::http;
use support::promise::connection::Transport;
use support::publisher::Publisher;
use support::redis::Redis;
use support::redis_proxy::Proxy;
use support::redis_sentinel::{info, offset, until_replicated};
use support::served::Served;
use throughline::delivery::{Ack, Replicas};
use throughline::engine::RedisEngine;
use tokio::time::Instant;

/// Two nodes on one Redis, and a crowd that reads and publishes.
struct Scene {
    redis: Redis,
    edges: [Edge; 2],
    crowd: Crowd,
}

impl Scene {
    async fn start(options: &[&str]) -> Self {
        let redis = Redis::start(options).await;
        let edges = [Edge::start(redis.url()), Edge::start(redis.url())];
        let crowd = Crowd::at_work(&edges).await;
        Self { redis, edges, crowd }
    }

    fn engine(&self) -> Arc<RedisEngine> {
        Arc::clone(&self.edges[0].engine)
    }

    /// No reader but those that poll has lost its connection.
    fn stayed_connected(&self) {
        for seen in &self.crowd.readers {
            let cuts = seen.cuts.load(Ordering::SeqCst);
            assert!(cuts == 0 || seen.transport == Transport::Poll, "{seen:?}");
        }
    }

    /// A session on many channels is refused in time, too.
    async fn many_channels_are_refused(&self) {
        let names: Vec<_> = (0..100).map(support::crowd::channel_name).collect();
        let query: Vec<_> = names.iter().map(|name| ("channel", name.as_str())).collect();
        let asked = Instant::now();
        assert_eq!(self.edges[0].status(&http::target("/v1/sse", &query)).await, 503);
        took_at_most(
            "refusing a reader of 100 channels",
            asked.elapsed(),
            Duration::from_secs(2),
        );
    }

    /// Publishers were told in time that Redis is away, and nodes said that they are not ready, and live.
    async fn is_away(&self) {
        let refusals = &self.crowd.ground.refusals;
        let before = refusals.load(Ordering::SeqCst);
        until("refusals", || refusals.load(Ordering::SeqCst) >= before + 20).await;
        let began = Instant::now();
        let is_not_ready = async || self.edges[1].status("/readyz").await == 503;
        until_told("a node that is not ready without Redis", is_not_ready).await;
        took_at_most("saying that it is not ready", began.elapsed(), BACK_MAX);
        assert_eq!(self.edges[1].status("/livez").await, 200);
    }

    fn refused_within(&self, ms: u64) {
        let slowest = self.crowd.ground.slowest_refusal_ms.load(Ordering::SeqCst);
        let refusals = self.crowd.ground.refusals.load(Ordering::SeqCst);
        let what = format!("the slowest of {refusals} refusals");
        took_at_most(&what, Duration::from_millis(slowest), Duration::from_millis(ms));
    }

    /// Everything was published, received, and held, once.
    async fn ends_well(mut self) {
        let caught_up = self.crowd.ends(100, &*self.engine()).await;
        took_at_most("all caught up", caught_up, BACK_MAX);
        self.crowd.lost_nothing(&*self.engine()).await;
        self.stayed_connected();
        self.crowd.leave().await;
    }
}

const BACK_MAX: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_restarted_with_its_data() {
    let mut scene = Scene::start(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let before: String = info(&scene.redis, "server", "run_id").await;
    scene.redis.kill();
    scene.is_away().await;
    scene.many_channels_are_refused().await;
    scene.refused_within(1_000);
    scene.redis.launch();
    let began = Instant::now();
    assert!(scene.redis.is_answering().await);
    assert_ne!(
        info(&scene.redis, "server", "run_id").await,
        before,
        "it is another process"
    );
    scene.crowd.publishes(20).await;
    took_at_most("publishing again", began.elapsed(), BACK_MAX);
    scene.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_restarted_empty() {
    let mut scene = Scene::start(&[]).await;
    scene.redis.kill();
    scene.is_away().await;
    scene.redis.launch();
    assert!(scene.redis.is_answering().await);
    let began = Instant::now();
    scene.crowd.all("told of it", |seen| !seen.gaps().is_empty()).await;
    took_at_most("all told that it is empty", began.elapsed(), Duration::from_secs(5));
    scene.crowd.ends(100, &*scene.engine()).await;
    scene.crowd.was_told_what_is_lost(&*scene.engine()).await;
    for seen in &scene.crowd.readers {
        assert_eq!(seen.gaps().len(), 1, "{seen:?}");
    }
    scene.stayed_connected();
    scene.crowd.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_stands_still_for_ten_seconds() {
    let scene = Scene::start(&[]).await;
    scene.redis.freeze();
    let began = Instant::now();
    scene.is_away().await;
    scene.many_channels_are_refused().await;
    tokio::time::sleep_until(began + Duration::from_secs(10)).await;
    scene.refused_within(2_000);
    scene.redis.thaw();
    let began = Instant::now();
    scene.crowd.publishes(20).await;
    took_at_most("publishing again", began.elapsed(), BACK_MAX);
    scene.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_tells_the_nodes_is_cut_fifty_times() {
    let scene = Scene::start(&[]).await;
    let mut killed: u64 = 0;
    let mut rounds = 0;
    while rounds < 50 {
        let cut: u64 = scene.redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        killed += cut;
        rounds += u32::from(cut > 0);
        scene.crowd.publishes(10).await;
    }
    assert!(killed >= 50, "{killed} connections were killed");
    scene.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_redis_tells_is_lost_on_its_way_the_last_one_too() {
    let redis = Redis::start(&[]).await;
    let proxy = Proxy::start_lossy(redis.port).await;
    let edges = [Edge::start(redis.url()), Edge::start(proxy.url())];
    let mut crowd = Crowd::at_work(&edges).await;
    proxy.lose(200);
    crowd.publishes(600).await;
    assert!(proxy.lost() > 20, "{} were lost", proxy.lost());
    proxy.lose(1_000);
    crowd.publishes(40).await;
    let before = proxy.lost();
    crowd.end_publishing().await;
    let caught_up = crowd.catches_up(&*edges[0].engine).await;
    assert!(proxy.lost() > 20 && proxy.lost() >= before, "the last ones were lost");
    took_at_most("found what was lost last", caught_up, Duration::from_secs(5));
    crowd.lost_nothing(&*edges[0].engine).await;
    crowd.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_log_is_lost_in_a_failover() {
    let mut primary = Redis::start(&[]).await;
    let replication = Proxy::start(primary.port).await;
    let port = replication.port.to_string();
    let replica = Redis::start(&["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"]).await;
    let entrance = Proxy::start(primary.port).await;
    let edges = [Edge::start(entrance.url()), Edge::start(entrance.url())];
    let mut crowd = Crowd::at_work(&edges).await;
    until_replicated(&primary, &replica).await;
    replication.lead_to(0);
    // These are acknowledged and delivered, and only the primary has them.
    let kept = crowd.ground.acked.load(Ordering::SeqCst);
    crowd.publishes(200).await;
    let behind = (offset(&primary).await, offset(&replica).await);
    assert!(behind.0 > behind.1, "the replica has everything: {behind:?}");
    primary.kill();
    let _: String = replica.ask(&["REPLICAOF", "NO", "ONE"]).await;
    entrance.lead_to(replica.port);
    let back = crowd.publishes(300).await;
    took_at_most("publishing on the other", back, Duration::from_secs(6));
    crowd.end_publishing().await;
    crowd.catches_up(&*edges[0].engine).await;
    crowd.was_told_what_is_lost(&*edges[0].engine).await;
    let told = crowd.readers.iter().filter(|seen| !seen.gaps().is_empty()).count();
    assert!(told > 0, "after {kept} publications nobody had seen one that was lost");
    crowd.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_replica_stands_still_and_nothing_is_acknowledged_as_replicated() {
    let primary = Redis::start(&[]).await;
    let port = primary.port.to_string();
    let replica = Redis::start(&["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"]).await;
    until_replicated(&primary, &replica).await;
    let ack = Ack::Replicated(Replicas::new(NonZeroU32::MIN));
    let edges = [
        Edge::start_with(primary.url(), ack),
        Edge::start_with(primary.url(), ack),
    ];
    let mut crowd = Crowd::at_work(&edges).await;
    let (acked, refusals) = (&crowd.ground.acked, &crowd.ground.refusals);
    let before = refusals.load(Ordering::SeqCst);
    replica.freeze();
    until("refusals", || refusals.load(Ordering::SeqCst) > before + 20).await;
    // What the replica had when it was stopped is acknowledged by now: these refusals came later.
    let (acked_then, refused_then) = (acked.load(Ordering::SeqCst), refusals.load(Ordering::SeqCst));
    until("refusals", || refusals.load(Ordering::SeqCst) > refused_then + 40).await;
    assert_eq!(
        acked.load(Ordering::SeqCst),
        acked_then,
        "acknowledged without the replica"
    );
    let slowest = Duration::from_millis(crowd.ground.slowest_refusal_ms.load(Ordering::SeqCst));
    took_at_most("the slowest refusal", slowest, Duration::from_secs(2));
    replica.thaw();
    let began = Instant::now();
    crowd.publishes(20).await;
    took_at_most("acknowledged again", began.elapsed(), BACK_MAX);
    crowd.ends(100, &*edges[0].engine).await;
    crowd.lost_nothing(&*edges[0].engine).await;
    crowd.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_full_and_refuses() {
    let scene = Scene::start(&[]).await;
    let _: String = scene.redis.ask(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let refusals = &scene.crowd.ground.refusals;
    until("refusals", || refusals.load(Ordering::SeqCst) >= 40).await;
    scene.refused_within(2_000);
    let _: String = scene.redis.ask(&["CONFIG", "SET", "maxmemory", "0"]).await;
    scene.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_full_and_evicts_what_it_likes() {
    let mut scene = Scene::start(&["--maxmemory-policy", "allkeys-lru"]).await;
    for _ in 0..10 {
        let before = evicted(&scene.redis).await;
        let _: String = scene.redis.ask(&["CONFIG", "SET", "maxmemory", "1"]).await;
        until_told("an eviction", async || evicted(&scene.redis).await > before).await;
        let _: String = scene.redis.ask(&["CONFIG", "SET", "maxmemory", "0"]).await;
        scene.crowd.publishes(20).await;
    }
    scene.crowd.ends(100, &*scene.engine()).await;
    scene.crowd.was_told_what_is_lost(&*scene.engine()).await;
    assert!(scene.crowd.readers.iter().all(|seen| !seen.gaps().is_empty()));
    scene.stayed_connected();
    scene.crowd.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_killed_and_its_clients_move() {
    let redis = Redis::start(&[]).await;
    let (victim, heir) = (serve(&redis).await, serve(&redis).await);
    let mut crowd = Crowd::gather(vec![victim.address, heir.address], Size::FULL).await;
    crowd.begin_publishing();
    crowd.publishes(200).await;
    crowd.move_to(vec![heir.address]);
    victim.kill().await;
    let killed = Instant::now();
    let before: Vec<_> = crowd.readers.iter().map(|seen| seen.cursor()).collect();
    crowd.all("alive", |seen| seen.cursor() != before[seen.number]).await;
    took_at_most("all alive elsewhere", killed.elapsed(), Duration::from_secs(10));
    let moved = |seen: &&Arc<support::crowd::Seen>| seen.cuts.load(Ordering::SeqCst) > 0;
    assert!(
        crowd.readers.iter().filter(moved).count() > 50,
        "many were on the node that was killed"
    );
    let judge = Edge::start(redis.url());
    crowd.ends(200, &*judge.engine).await;
    crowd.lost_nothing(&*judge.engine).await;
    crowd.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_are_restarted_one_after_the_other() {
    let redis = Redis::start(&[]).await;
    let mut nodes = [serve(&redis).await, serve(&redis).await, serve(&redis).await];
    let mut crowd = Crowd::gather(nodes.iter().map(|node| node.address).collect(), Size::FULL).await;
    crowd.begin_publishing();
    for at in 0..nodes.len() {
        crowd.publishes(100).await;
        let fresh = serve(&redis).await;
        let old = std::mem::replace(&mut nodes[at], fresh);
        crowd.move_to(nodes.iter().map(|node| node.address).collect());
        old.stop().await;
    }
    let judge = Edge::start(redis.url());
    crowd.ends(200, &*judge.engine).await;
    crowd.lost_nothing(&*judge.engine).await;
    assert!(
        crowd.readers.iter().any(|seen| seen.cuts.load(Ordering::SeqCst) > 0),
        "somebody was sent away"
    );
    // A publisher whom a node sends on goes to the next one, as it does by itself behind a balancer. A publication has
    // failed that a node refuses which does not drain, or that the next one does not take.
    let ground = &crowd.ground;
    assert!(ground.sent_on.load(Ordering::SeqCst) > 0, "no publisher met a drain");
    assert_eq!(ground.failed.load(Ordering::SeqCst), 0, "publications failed");
    crowd.leave().await;
}

async fn serve(redis: &Redis) -> Served {
    let served = Served::start(&[
        ("THROUGHLINE_ENGINE__KIND", "redis"),
        ("THROUGHLINE_ENGINE__REDIS__URL", &redis.url()),
        ("THROUGHLINE_WINDOW__COUNT", "100000"),
        ("THROUGHLINE_WINDOW__BYTES", "1000000000"),
        ("THROUGHLINE_DRAIN__WINDOW_MS", "1000"),
    ])
    .await;
    let mut publisher = Publisher::new(served.address);
    until_told("a node that is ready", async || {
        publisher.status(&http::get("/readyz", &[])).await.unwrap() == 200
    })
    .await;
    served
}

async fn evicted(redis: &Redis) -> u64 {
    info(redis, "stats", "evicted_keys").await.parse().unwrap()
}
