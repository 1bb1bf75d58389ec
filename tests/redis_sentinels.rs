//! Sentinels that were away, and name a primary of before: nothing is written to it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use support::crowd::{Crowd, Size, until};
use support::edge::{Edge, took_at_most};
use support::redis::Redis;
use support::redis_sentinel::{Watched, info, until_replicated};
use throughline::delivery::{Ack, ChannelName, Draft, Engine, EngineError, Health, LogPolicy, Published};
use tokio::time::Instant;

async fn publish(edge: &Edge) -> Result<Published, EngineError> {
    let draft = Draft {
        channel: ChannelName::parse("news").unwrap(),
        data: "1".into(),
        event: None,
        sender: None,
        key: None,
        policy: LogPolicy {
            count_max: 1_000,
            bytes_max: 1 << 20,
            age_ms_max: 600_000,
            position_ttl_ms: 600_000,
        },
        ack: Ack::Stored,
    };
    edge.engine.publish(&[draft]).await.remove(0)
}

/// Publishes until it is stored.
async fn is_stored(edge: &Edge) -> Published {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match publish(edge).await {
            Ok(published) => return published,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn is_primary(redis: &Redis) -> bool {
    info(redis, "replication", "role").await == "master"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_away_and_names_the_primary_of_before_is_not_believed() {
    let primary = Redis::start(&[]).await;
    let port = primary.port;
    let mut watched = Watched::start(primary, &[port]).await;
    let edge = Edge::start(watched.url());
    edge.becomes_ready().await;
    is_stored(&edge).await;
    until_replicated(&watched.primary, &watched.replicas[0]).await;
    let mut late = watched.sentinels.pop().unwrap();
    late.kill();
    watched.primary.kill();
    watched.fails_over().await;
    let first = is_stored(&edge).await;
    // Those who know of it end, so nobody tells the old one that it is a replica now.
    watched.sentinels.clear();
    watched.primary.launch();
    assert!(watched.primary.is_answering().await);
    late.launch().await;
    assert_eq!(late.fact("port").await, port.to_string());
    for nth in 1..=20 {
        // Meanwhile the late one is asked several times.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let published = publish(&edge).await.unwrap();
        assert_eq!(published.position.offset, first.position.offset + nth);
    }
    // The new one ends, too: the old one is still not taken for it.
    watched.replicas[0].kill();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        assert!(publish(&edge).await.is_err(), "written to a primary that was replaced");
    }
    assert_eq!(edge.status("/readyz").await, 503);
    assert!(is_primary(&watched.primary).await, "it would have taken them");
    assert_eq!(late.fact("port").await, port.to_string(), "and was named");
    let keys: u64 = watched.primary.ask(&["DBSIZE"]).await;
    assert_eq!(keys, 0, "nothing was written to it");
    watched.replicas[0].launch();
    assert!(watched.replicas[0].is_answering().await);
    let _: String = watched.replicas[0].ask(&["REPLICAOF", "NO", "ONE"]).await;
    is_stored(&edge).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_asks_for_a_failover_and_the_old_primary_is_left() {
    let primary = Redis::start(&[]).await;
    let port = primary.port;
    let watched = Watched::start(primary, &[port]).await;
    let edges = [Edge::start(watched.url()), Edge::start(watched.url())];
    for edge in &edges {
        edge.becomes_ready().await;
        until("the primary", || edge.engine.shards().down == 0).await;
    }
    let nodes = edges.iter().map(|edge| edge.node.address).collect();
    let mut crowd = Crowd::gather(nodes, Size::FULL).await;
    crowd.begin_publishing();
    crowd.publishes(100).await;
    until_replicated(&watched.primary, &watched.replicas[0]).await;
    let () = watched.sentinels[0].ask(&["FAILOVER", "mymaster"]).await;
    let began = Instant::now();
    watched.fails_over().await;
    crowd.publishes(20).await;
    took_at_most("publishing on the other", began.elapsed(), Duration::from_secs(6));
    while is_primary(&watched.primary).await {
        assert!(began.elapsed() < Duration::from_secs(60), "the old one stays a primary");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    crowd.publishes(200).await;
    crowd.end_publishing().await;
    crowd.catches_up(&*edges[0].engine).await;
    // It is not waited for the replica, so what came in the last moment may be lost; then it was told.
    crowd.was_told_what_is_lost(&*edges[0].engine).await;
    crowd.leave().await;
}
