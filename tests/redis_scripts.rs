//! Redis forgets its scripts, or does not let several of them be one transaction: what one request publishes to one
//! channel keeps its order all the same.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::redis::{Redis, engine};
use support::redis_cluster::Cluster;
use support::redis_sentinel::info;
use throughline::delivery::{Ack, ChannelName, Draft, Engine, EngineErrorKind, IdempotencyKey, LogPolicy, Since};
use throughline::engine::RedisEngine;
use tokio::task::JoinSet;
use tokio::time::Instant;

const CHANNELS: usize = 3;

/// Publications in a request: more than Redis reads at once, so that it may do something else in between.
const BATCH: u64 = 90;

fn channel(number: usize) -> ChannelName {
    ChannelName::parse(&format!("batch:{number}")).unwrap()
}

/// `<publisher> <number> <padding>`
fn draft(publisher: usize, number: u64) -> Draft {
    let padding = "x".repeat(1_000);
    Draft {
        channel: channel(usize::try_from(number).unwrap() % CHANNELS),
        data: format!("\"{publisher} {number} {padding}\"").into(),
        event: None,
        sender: None,
        key: Some(IdempotencyKey {
            publisher: format!("{publisher}").into(),
            key: format!("{number}").into(),
            nth: 0,
        }),
        policy: LogPolicy {
            count_max: 1_000_000,
            bytes_max: 1 << 30,
            age_ms_max: 600_000,
            position_ttl_ms: 600_000,
        },
        ack: Ack::Stored,
    }
}

/// What a channel holds of a publisher, in order.
async fn held(engine: &RedisEngine, channel: &ChannelName, publisher: usize) -> Vec<u64> {
    let (mut since, mut numbers) = (Since::Start, Vec::new());
    loop {
        let page = engine.history(channel, since, 1_000).await.unwrap();
        for publication in &page.publications {
            let text = str::from_utf8(&publication.data).unwrap().trim_matches('"');
            let mut words = text.split(' ').map(str::parse::<u64>);
            if words.next().unwrap().unwrap() == publisher as u64 {
                numbers.push(words.next().unwrap().unwrap());
            }
        }
        match page.publications.last() {
            Some(last) => since = Since::After(last.position),
            None => return numbers,
        }
    }
}

/// How often Redis did not know a script that it was asked for.
async fn forgotten(redis: &Redis) -> u64 {
    let found = info(redis, "errorstats", "errorstat_NOSCRIPT").await;
    found.strip_prefix("count=").map_or(0, |count| count.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_keeps_its_order_while_the_scripts_are_flushed_again_and_again() {
    const PUBLISHERS: usize = 4;
    let redis = Redis::start(&[]).await;
    let engines = [engine(&redis.url()).await, engine(&redis.url()).await];
    let is_over = Arc::new(AtomicBool::new(false));
    let mut publishers = JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let (engine, is_over) = (Arc::clone(&engines[publisher % 2]), Arc::clone(&is_over));
        publishers.spawn(async move {
            let mut published = 0;
            while !is_over.load(Ordering::SeqCst) {
                let drafts: Vec<_> = (published..published + BATCH).map(|at| draft(publisher, at)).collect();
                for answer in engine.publish(&drafts).await {
                    answer.unwrap();
                }
                published += BATCH;
            }
            (publisher, published)
        });
    }
    let mut flushing = redis.try_connect().await.unwrap();
    let (began, mut flushes) = (Instant::now(), 0);
    while flushes < 500 || forgotten(&redis).await < 200 {
        let _: () = redis::cmd("SCRIPT")
            .arg("FLUSH")
            .query_async(&mut flushing)
            .await
            .unwrap();
        flushes += 1;
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "the scripts were never missed"
        );
    }
    is_over.store(true, Ordering::SeqCst);
    while let Some(ended) = publishers.join_next().await {
        let (name, published) = ended.unwrap();
        for number in 0..CHANNELS {
            let all: Vec<_> = (0..published)
                .filter(|at| at % CHANNELS as u64 == number as u64)
                .collect();
            assert_eq!(held(&engines[0], &channel(number), name).await, all);
        }
    }
}

/// Publishes again and again, while the scripts are forgotten.
async fn all_are_stored_in_order(redis: &Redis) {
    let engine = engine(&redis.url()).await;
    for round in 0..3 {
        let _: () = redis.ask(&["SCRIPT", "FLUSH"]).await;
        let drafts: Vec<_> = (round * BATCH..(round + 1) * BATCH).map(|at| draft(0, at)).collect();
        for (answer, nth) in engine.publish(&drafts).await.into_iter().zip(0..) {
            let offset = answer.unwrap().position.offset;
            assert_eq!(offset, (round * BATCH + nth) / CHANNELS as u64 + 1);
        }
    }
}

#[tokio::test]
async fn a_user_who_may_not_begin_a_transaction_publishes_all_the_same() {
    let redis = Redis::start(&[]).await;
    let _: String = redis.ask(&["ACL", "SETUSER", "default", "-multi", "-exec"]).await;
    all_are_stored_in_order(&redis).await;
    assert!(
        info(&redis, "errorstats", "errorstat_NOPERM")
            .await
            .starts_with("count=")
    );
}

/// It was refused as one of no use, though all but the transaction can be done.
#[tokio::test]
async fn a_redis_that_does_not_know_transactions_is_published_to_all_the_same() {
    for unknown in [&["MULTI"][..], &["MULTI", "EXEC"]] {
        let options: Vec<_> = unknown.iter().flat_map(|name| ["--rename-command", name, ""]).collect();
        all_are_stored_in_order(&Redis::start(&options).await).await;
    }
}

#[tokio::test]
async fn a_request_that_finds_redis_full_is_refused_as_a_whole() {
    let redis = Redis::start(&[]).await;
    let engine = engine(&redis.url()).await;
    let drafts: Vec<_> = (0..BATCH).map(|at| draft(0, at)).collect();
    let _: () = redis.ask(&["CONFIG", "SET", "maxmemory", "1"]).await;
    for answer in engine.publish(&drafts).await {
        assert_eq!(answer.unwrap_err().kind(), EngineErrorKind::Full);
    }
    let _: () = redis.ask(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let keys: u64 = redis.ask(&["DBSIZE"]).await;
    assert_eq!(keys, 0, "nothing was stored");
    for answer in engine.publish(&drafts).await {
        assert!(!answer.unwrap().duplicate);
    }
    // The same once more: each is known, and said to be where it is.
    for (answer, at) in engine.publish(&drafts).await.into_iter().zip(0..) {
        let published = answer.unwrap();
        assert!(published.duplicate && published.position.offset == at / CHANNELS as u64 + 1);
    }
}

#[tokio::test]
async fn a_request_over_several_slots_of_a_cluster_keeps_its_order() {
    let cluster = Cluster::start(3, 0, &[]).await;
    let engine = engine(&cluster.url()).await;
    for round in 0..5 {
        for primary in &cluster.primaries {
            let _: () = primary.ask(&["SCRIPT", "FLUSH"]).await;
        }
        let drafts: Vec<_> = (round * BATCH..(round + 1) * BATCH).map(|at| draft(0, at)).collect();
        for answer in engine.publish(&drafts).await {
            answer.unwrap();
        }
    }
    for number in 0..CHANNELS {
        let all: Vec<_> = (0..5 * BATCH)
            .filter(|at| at % CHANNELS as u64 == number as u64)
            .collect();
        assert_eq!(held(&engine, &channel(number), 0).await, all);
    }
}
