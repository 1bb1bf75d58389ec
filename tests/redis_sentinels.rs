//! Sentinels that were away, and name a primary of before: nothing is written to it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::HashMap;
use std::time::Duration;

use support::crowd::Crowd;
use support::deadline::until_told;
use support::draft::draft;
use support::edge::{Edge, took_at_most};
use support::redis::Redis;
use support::redis_sentinel::{Watched, is_primary, until_replicated};
use throughline::delivery::{Engine, EngineError, Published};
use tokio::time::Instant;

async fn publish(edge: &Edge) -> Result<Published, EngineError> {
    edge.engine.publish(&[draft("news", "1")]).await.remove(0)
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
    let mut crowd = Crowd::at_work(&edges).await;
    until_replicated(&watched.primary, &watched.replicas[0]).await;
    let () = watched.sentinels[0].ask(&["FAILOVER", "mymaster"]).await;
    let began = Instant::now();
    watched.fails_over().await;
    crowd.publishes(20).await;
    took_at_most("publishing on the other", began.elapsed(), Duration::from_secs(6));
    let is_left = async || !is_primary(&watched.primary).await;
    until_told("a replica of the new one", is_left).await;
    crowd.ends(200, &*edges[0].engine).await;
    // It is not waited for the replica, so what came in the last moment may be lost; then it was told.
    crowd.was_told_what_is_lost(&*edges[0].engine).await;
    crowd.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_that_goes_on_because_of_a_replica_does_not_take_the_new_primary_away() {
    let primary = Redis::start(&[]).await;
    let port = primary.port;
    let watched = Watched::start(primary, &[port; 2]).await;
    let (heir, other, leader) = (&watched.replicas[0], &watched.replicas[1], &watched.sentinels[0]);
    let edge = Edge::start(watched.url());
    edge.becomes_ready().await;
    is_stored(&edge).await;
    // One that is never chosen, and cannot be told whose replica it is now: the failover does not end for long.
    let _: String = other.ask(&["CONFIG", "SET", "replica-priority", "0"]).await;
    let is_known = |replicas: Vec<HashMap<String, String>>| {
        let port = other.port.to_string();
        replicas
            .iter()
            .any(|replica| replica["port"] == port && replica["slave-priority"] == "0")
    };
    until_told("a Sentinel that knows of it", async || {
        is_known(leader.ask(&["REPLICAS", "mymaster"]).await)
    })
    .await;
    let _: String = other
        .ask(&["ACL", "SETUSER", "default", "-replicaof", "-slaveof"])
        .await;
    let () = leader.ask(&["FAILOVER", "mymaster"]).await;
    let began = Instant::now();
    let first = loop {
        let published = is_stored(&edge).await;
        let top: Option<String> = heir.ask(&["GET", "throughline:{news}:top"]).await;
        if is_primary(heir).await && top.is_some_and(|top| top.starts_with(&published.position.to_string())) {
            break published;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "no failover took place");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    for nth in 1..=30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(
            publish(&edge).await.unwrap().position.offset,
            first.position.offset + nth
        );
    }
    let flags = leader.fact("flags").await;
    assert!(flags.contains("failover_in_progress"), "it was over: {flags}");
}
