//! A primary is lost, and another takes its place: named by Sentinels, or in a Cluster; or one of several Redis goes,
//! and the others know nothing of it.
//!
//! Each test first proves that its fault took place.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use support::crowd::{Crowd, Size, channel_name};
use support::deadline::{until, until_told, within};
use support::draft::draft;
use support::edge::{Edge, took_at_most};
use support::redis::{Redis, free_port};
use support::redis_cluster::Cluster;
use support::redis_proxy::Proxy;
use support::redis_sentinel::{Sentinel, Watched, is_primary, offset, until_replicated};
use throughline::delivery::{Ack, ChannelName, Delivery, Engine, IdempotencyKey, Replicas, Since, subscribe};
use tokio::time::Instant;

const BACK_MAX: Duration = Duration::from_secs(6);

/// Two nodes, and a crowd that reads and publishes.
async fn gather(url: &str, ack: Ack) -> ([Edge; 2], Crowd) {
    let edges = [(); 2].map(|()| Edge::start_with(url.to_owned(), ack));
    let crowd = Crowd::at_work(&edges).await;
    (edges, crowd)
}

/// The primary is killed, and in time another goes on with what that has.
async fn is_replaced(watched: &mut Watched, crowd: &Crowd) {
    watched.primary.kill();
    let began = Instant::now();
    watched.fails_over().await;
    crowd.publishes(20).await;
    took_at_most("going on with the other", began.elapsed(), BACK_MAX);
}

/// The primary has what its replica has not.
async fn is_ahead(watched: &Watched) {
    let behind = (offset(&watched.primary).await, offset(&watched.replicas[0]).await);
    assert!(behind.0 > behind.1, "the replica has everything: {behind:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_replace_a_primary_that_was_killed() {
    let primary = Redis::start(&[]).await;
    let port = primary.port;
    let mut watched = Watched::start(primary, &[port]).await;
    let (edges, mut crowd) = gather(&watched.url(), Ack::Stored).await;
    until_replicated(&watched.primary, &watched.replicas[0]).await;
    is_replaced(&mut watched, &crowd).await;
    crowd.ends(200, &*edges[0].engine).await;
    // What was acknowledged in the last moment, the replica may not have had: then it was told.
    crowd.was_told_what_is_lost(&*edges[0].engine).await;
    crowd.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_replace_a_primary_whose_replica_lacks_the_end_of_the_log() {
    let primary = Redis::start(&[]).await;
    let replication = Proxy::start(primary.port).await;
    let mut watched = Watched::start(primary, &[replication.port]).await;
    let (edges, mut crowd) = gather(&watched.url(), Ack::Stored).await;
    until_replicated(&watched.primary, &watched.replicas[0]).await;
    replication.lead_to(0);
    // These are acknowledged and delivered, and only the primary has them.
    crowd.publishes(200).await;
    is_ahead(&watched).await;
    is_replaced(&mut watched, &crowd).await;
    crowd.ends(300, &*edges[0].engine).await;
    crowd.was_told_what_is_lost(&*edges[0].engine).await;
    let told = crowd.readers.iter().filter(|seen| !seen.gaps().is_empty()).count();
    assert!(told > 0, "nobody had seen one that was lost");
    crowd.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_replicas_have_acknowledged_outlives_the_primary() {
    let primary = Redis::start(&["--repl-diskless-sync-delay", "0"]).await;
    let replication = Proxy::start(primary.port).await;
    let mut watched = Watched::start(primary, &[replication.port; 2]).await;
    let one = Replicas::new(NonZeroU32::MIN);
    let (edges, mut crowd) = gather(&watched.url(), Ack::Replicated(one)).await;
    replication.lead_to(0);
    // These are stored and delivered, and only the primary has them: they are not acknowledged.
    let refusals = &crowd.ground.refusals;
    let before = refusals.load(Ordering::SeqCst);
    until("publications that no replica has", || {
        refusals.load(Ordering::SeqCst) >= before + 20
    })
    .await;
    is_ahead(&watched).await;
    is_replaced(&mut watched, &crowd).await;
    crowd.ends(200, &*edges[0].engine).await;
    crowd.was_told_what_is_lost(&*edges[0].engine).await;
    crowd.holds_all_that_was_acknowledged(&*edges[0].engine).await;
    crowd.leave().await;
}

#[tokio::test]
async fn sentinels_have_a_password_of_their_own_and_one_that_is_away_does_not_matter() {
    let redis = Redis::start(&[]).await;
    let _: String = redis.ask(&["CONFIG", "SET", "requirepass", "secret"]).await;
    let lines = "requirepass gate\nsentinel auth-pass mymaster secret\n";
    let sentinel = Sentinel::start_with(redis.port, lines).await;
    let url = |password: &str| {
        format!(
            "redis+sentinel://:secret@127.0.0.1:{},127.0.0.1:{}/mymaster/0?sentinel_password={password}",
            free_port(),
            sentinel.port
        )
    };
    let stranger = Edge::start(url("wrong"));
    let friend = Edge::start(url("gate"));
    friend.becomes_ready().await;
    assert_eq!(stranger.status("/readyz").await, 503);
    let published = friend.engine.publish(&[draft("a", "1")]).await.remove(0);
    assert_eq!(published.unwrap().position.offset, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_primaries_of_a_cluster_is_killed() {
    let options = [
        "--cluster-node-timeout",
        "2000",
        "--cluster-require-full-coverage",
        "no",
    ];
    let mut cluster = Cluster::start(3, 1, &options).await;
    let (edges, mut crowd) = gather(&cluster.url(), Ack::Stored).await;
    let victim = cluster.owner(&key_of(0)).await.0;
    let mut on_victim = Vec::new();
    for channel in 0..Size::FULL.channels {
        on_victim.push(cluster.owner(&key_of(channel)).await.0 == victim);
    }
    assert!(on_victim.contains(&true) && on_victim.contains(&false), "{on_victim:?}");
    cluster.primaries[victim].kill();
    let began = Instant::now();
    let elsewhere = on_victim.iter().position(|is_victim| !is_victim).unwrap();
    go_on_elsewhere(&edges, elsewhere, &cluster.replicas[victim]).await;
    let victims = ChannelName::parse(&channel_name(0)).unwrap();
    let stored = async || {
        let draft = draft(victims.as_str(), "999999999");
        edges[0].engine.publish(&[draft]).await.remove(0).is_ok()
    };
    until_told("the slots of the one that was killed", stored).await;
    took_at_most("the slots of the one that was killed", began.elapsed(), BACK_MAX);
    crowd.ends(300, &*edges[0].engine).await;
    crowd.was_told_what_is_lost(&*edges[0].engine).await;
    for (seen, is_victim) in crowd.readers.iter().map(|seen| (seen, on_victim[seen.channel])) {
        assert!(
            is_victim || seen.gaps().is_empty(),
            "{seen:?} has nothing to do with it"
        );
    }
    crowd.leave().await;
}

/// Until the heir is the primary, a channel that another keeps goes on as before.
async fn go_on_elsewhere(edges: &[Edge; 2], channel: usize, heir: &Redis) {
    let name = ChannelName::parse(&channel_name(channel)).unwrap();
    let top = || async {
        let page = edges[1].engine.history(&name, Since::Now, 0).await;
        page.unwrap().top.offset
    };
    let (began, before, mut slowest) = (Instant::now(), top().await, Duration::ZERO);
    while !is_primary(heir).await {
        assert!(began.elapsed() < Duration::from_secs(60), "no failover took place");
        let asked = Instant::now();
        top().await;
        slowest = slowest.max(asked.elapsed());
        assert_eq!(edges[1].status("/readyz").await, 200, "the others can be used");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let after = top().await;
    assert!(after > before, "other slots went on: {before} to {after}");
    let most = Duration::from_millis(500);
    took_at_most("the slowest reading of another slot", slowest, most);
}

/// A key of a channel of the crowd.
fn key_of(channel: usize) -> String {
    let tag = channel_name(channel).replace('{', "%7B").replace('}', "%7D");
    format!("throughline:{{{tag}}}:top")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_of_a_cluster_moves_under_its_readers() {
    // A primary that gives its last slot away would become a replica.
    let options = ["--cluster-allow-replica-migration", "no"];
    let mut cluster = Cluster::start(2, 0, &options).await;
    let edge = Edge::start(cluster.url());
    edge.becomes_ready().await;
    cluster.grow(&options).await;
    let engine = || Arc::clone(&edge.engine) as Arc<dyn Engine>;
    let name = ChannelName::parse("moving").unwrap();
    let (_, mut reader) = subscribe(engine(), name.clone(), Since::Now).await.unwrap();
    let publish = |number: u64| {
        let engine = engine();
        let mut draft = draft("moving", "1");
        draft.key = Some(IdempotencyKey {
            publisher: "p".into(),
            key: "k".into(),
            nth: usize::try_from(number).unwrap(),
        });
        async move {
            let deadline = Instant::now() + Duration::from_secs(30);
            loop {
                match engine.publish(std::slice::from_ref(&draft)).await.remove(0) {
                    Ok(published) => return published.position.offset,
                    Err(error) => assert!(Instant::now() < deadline && error.is_retryable(), "{error}"),
                }
            }
        }
    };
    assert_eq!(publish(1).await, 1);
    let (from, slot) = cluster.owner("x{moving}").await;
    // To the one that joined last, which has no slots yet, and then on to the third.
    let third = 1 - from;
    for (round, way) in [(from, 2), (2, third)].into_iter().enumerate() {
        let first = 2 + round as u64 * 3;
        cluster.begin_move(slot, way).await;
        assert!(cluster.move_keys(slot, way).await >= 2, "there was something to move");
        // The keys are there, and the slot is not: ASK.
        let page = edge.engine.history(&name, Since::Start, 99).await.unwrap();
        assert_eq!(page.top.offset, first - 1);
        let published = edge.engine.publish(&[draft("moving", "1")]).await.remove(0);
        assert_eq!(published.unwrap().position.offset, first);
        // The idempotency key of this one is nowhere yet, so it has to wait.
        let waiting = tokio::spawn(publish(first + 1));
        tokio::task::yield_now().await;
        cluster.end_move(slot, way).await;
        assert_eq!(within("a publication", waiting).await.unwrap(), first + 1);
        assert_eq!(publish(first + 2).await, first + 2);
    }
    for offset in 1..=7 {
        match within("a delivery", reader.next()).await {
            Some(Delivery::Publication(publication)) => assert_eq!(publication.position.offset, offset),
            other => panic!("{other:?} instead of {offset}"),
        }
    }
    assert_eq!(publish(1).await, 1, "its key has moved, too");
}

#[tokio::test]
async fn a_cluster_that_is_too_old_is_refused() {
    let cluster = Cluster::start(1, 0, &["--rename-command", "SPUBLISH", ""]).await;
    let edge = Edge::start(cluster.url());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(edge.status("/readyz").await, 503);
    let refused = edge.engine.publish(&[draft("a", "1")]).await.remove(0);
    assert!(refused.is_err());
    let keys: u64 = cluster.primaries[0].ask(&["DBSIZE"]).await;
    assert_eq!(keys, 0, "nothing was stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_independent_redis_is_away_for_a_while() {
    let durable = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut three = Vec::new();
    for _ in 0..3 {
        three.push(Redis::start(&durable).await);
    }
    let urls: Vec<_> = three
        .iter()
        .zip(["one", "two", "three"])
        .map(|(redis, name)| format!("{}#{name}", redis.url()))
        .collect();
    let (edges, mut crowd) = gather(&urls.join(" "), Ack::Stored).await;
    let mut on_first = Vec::new();
    for channel in 0..Size::FULL.channels {
        let has: u64 = three[0].ask(&["EXISTS", &key_of(channel)]).await;
        on_first.push(has == 1);
    }
    assert!(on_first.contains(&true) && on_first.contains(&false), "{on_first:?}");
    three[0].kill();
    let refusals = &crowd.ground.refusals;
    let before = refusals.load(Ordering::SeqCst);
    until("refusals", || refusals.load(Ordering::SeqCst) >= before + 20).await;
    assert_eq!(edges[0].status("/readyz").await, 200, "the others can be used");
    let tops = |seen: &Arc<support::crowd::Seen>| seen.cursor();
    let cursors: Vec<_> = crowd.readers.iter().map(tops).collect();
    // All readers of the others' channels go on.
    crowd
        .all("going on", |seen| {
            on_first[seen.channel] || seen.cursor() != cursors[seen.number]
        })
        .await;
    let slowest = crowd.ground.slowest_refusal_ms.load(Ordering::SeqCst);
    assert!(slowest <= 2_000, "a refusal took {slowest} ms");
    three[0].launch();
    assert!(three[0].is_answering().await);
    let back = Instant::now();
    crowd
        .all("going on", |seen| seen.cursor() != cursors[seen.number])
        .await;
    took_at_most("all go on", back.elapsed(), Duration::from_secs(3));
    crowd.end_publishing().await;
    crowd.catches_up(&*edges[0].engine).await;
    crowd.lost_nothing(&*edges[0].engine).await;
    crowd.leave().await;
}
