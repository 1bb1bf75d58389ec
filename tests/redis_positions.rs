//! Whatever stands in the log at a reader's position, or does not stand there any more: the reader is answered, by few
//! readings, with what follows or with the gap.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use support::deadline::{until_told, within};
use support::redis::{Redis, engine};
use throughline::delivery::{
    Ack, ChannelName, Delivery, Draft, Engine, Health, LogPolicy, Position, Since, Subscription, subscribe,
};
use throughline::engine::RedisEngine;

const ALL: u64 = 1_000;

fn channel() -> ChannelName {
    ChannelName::parse("positions").unwrap()
}

fn draft(data: Bytes) -> Draft {
    Draft {
        channel: channel(),
        data,
        event: None,
        sender: None,
        key: None,
        policy: LogPolicy {
            count_max: 10_000,
            bytes_max: 1 << 30,
            age_ms_max: 600_000,
            position_ttl_ms: 600_000,
        },
        ack: Ack::Stored,
    }
}

async fn publish(engine: &RedisEngine, count: u64) -> Vec<Position> {
    let batch: Vec<_> = (0..count).map(|_| draft("1".into())).collect();
    let published = engine.publish(&batch).await;
    published.into_iter().map(|one| one.unwrap().position).collect()
}

async fn reader(engine: &Arc<RedisEngine>, since: Since) -> Subscription {
    let engine = Arc::clone(engine) as Arc<dyn Engine>;
    within("a subscription", subscribe(engine, channel(), since))
        .await
        .unwrap()
        .1
}

/// Reads until the publication at `last`: what was lost on the way, and the first that came after that.
async fn follow(reader: &mut Subscription, last: u64) -> (Option<(u64, u64)>, u64) {
    let (mut gone, mut first) = (None, None);
    loop {
        match within("a delivery", reader.next()).await {
            Some(Delivery::Publication(publication)) => {
                let offset = publication.position.offset;
                let first = *first.get_or_insert(offset);
                if offset == last {
                    return (gone, first);
                }
            }
            Some(Delivery::Gap(gap)) => (gone, first) = (Some((gap.from.offset, gap.to.offset)), None),
            other => panic!("{other:?}"),
        }
    }
}

async fn readings(redis: &Redis) -> u64 {
    let stats: String = redis.ask(&["INFO", "commandstats"]).await;
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    line.unwrap().split(',').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_position_that_was_made_up_is_a_gap_wherever_it_points_to() {
    let redis = Redis::start(&[]).await;
    let engine = engine(&redis.url()).await;
    let positions = publish(&engine, ALL).await;
    let before = readings(&redis).await;
    for at in [0, 1, 63, 64, 65, 127, 128, 129, 254, 255, 256, 257, 500, 900, 998, 999] {
        let forged = Position {
            tag: positions[at.max(1) - 1].tag.filter(|_| at % 2 == 1),
            ..positions[at]
        };
        for limit in [1, 64, 1_000] {
            let since = Since::After(if at == 0 {
                Position { tag: None, ..forged }
            } else {
                forged
            });
            let page = within("a page", engine.history(&channel(), since, limit))
                .await
                .unwrap();
            assert_eq!(page.gap.map(|gap| gap.to.offset), Some(0), "{at}");
            assert_eq!(page.publications.first().map(|first| first.position.offset), Some(1));
            let since = Since::After(positions[at]);
            let page = within("a page", engine.history(&channel(), since, limit))
                .await
                .unwrap();
            assert!(page.gap.is_none(), "{at}");
        }
    }
    let readings = readings(&redis).await - before;
    assert!(readings <= 16 * 3 * 3, "{readings} readings for {} asks", 16 * 3 * 2);
}

#[tokio::test]
async fn a_long_end_that_is_lost_and_written_anew_is_told_to_all_who_saw_it() {
    let redis = Redis::start(&[]).await;
    let engine = engine(&redis.url()).await;
    let mut live = reader(&engine, Since::Now).await;
    publish(&engine, 600).await;
    let keys: Vec<String> = redis.ask(&["KEYS", "*positions*:top"]).await;
    let kept: String = redis.ask(&["GET", &keys[0]]).await;
    let lost = publish(&engine, 400).await;
    assert_eq!(follow(&mut live, ALL).await, (None, 1));
    // As a replica has it that had not heard of the end: that is gone, and as much comes in its place at once.
    let log = keys[0].replace(":top", ":log");
    let ids: Vec<_> = (601..=ALL).map(|offset| format!("{offset}-0")).collect();
    let deleting: Vec<_> = ["XDEL", &log]
        .into_iter()
        .chain(ids.iter().map(String::as_str))
        .collect();
    assert_eq!(redis.ask::<u64>(&deleting).await, 400, "the end of the log is lost");
    let _: String = redis.ask(&["XSETID", &log, "600-0"]).await;
    let _: String = redis.ask(&["SET", &keys[0], &kept, "PX", "600000"]).await;
    publish(&engine, 450).await;
    let before = readings(&redis).await;
    let (gap, first) = follow(&mut live, 1_050).await;
    let (from, to) = gap.expect("word of what was lost");
    assert_eq!((from, first), (ALL, to + 1));
    for at in [0, 1, 100, 200, 300, 399] {
        let mut reader = reader(&engine, Since::After(lost[at])).await;
        let (gap, first) = follow(&mut reader, 1_050).await;
        let (from, to) = gap.expect("word of what was lost");
        assert_eq!((from, first), (lost[at].offset, to + 1));
        assert!(to <= 600, "{to}: what follows is told");
    }
    let readings = readings(&redis).await - before;
    assert!(readings <= 200, "{readings} readings");
}

#[tokio::test]
async fn what_redis_counted_and_did_not_store_is_a_gap_and_what_follows_is_told() {
    let redis = Redis::start(&[]).await;
    let engine = engine(&redis.url()).await;
    let mut live = reader(&engine, Since::Now).await;
    let positions = publish(&engine, 3).await;
    assert_eq!(follow(&mut live, 3).await, (None, 1));
    let _: String = redis.ask(&["ACL", "SETUSER", "default", "-xadd"]).await;
    for _ in 0..3 {
        let refused = engine.publish(&[draft("1".into())]).await;
        assert!(refused[0].is_err(), "nothing can be stored");
    }
    let _: String = redis.ask(&["ACL", "SETUSER", "default", "+xadd"]).await;
    let stored = publish(&engine, 3).await;
    let last = stored[2].offset;
    let (gap, first) = follow(&mut live, last).await;
    assert_eq!(gap.map_or(3, |(_, to)| to) + 1, first, "nothing is left out in silence");
    assert_eq!(first, stored[0].offset);
    let mut reader = reader(&engine, Since::After(positions[2])).await;
    assert_eq!(follow(&mut reader, last).await.1, stored[0].offset);
}

#[tokio::test]
async fn large_publications_are_read_in_small_parts() {
    let redis = Redis::start(&[]).await;
    let engine = engine(&redis.url()).await;
    let data: Bytes = format!("\"{}\"", "x".repeat(300_000)).into();
    for _ in 0..4 {
        let batch = vec![draft(data.clone()); 10];
        assert!(engine.publish(&batch).await.iter().all(Result::is_ok));
    }
    let page = within("a page", engine.history(&channel(), Since::Start, 1_000)).await;
    let read = page.unwrap().publications.len();
    assert!((2..=7).contains(&read), "{read} publications in one reading");
    let mut readers = Vec::new();
    for count in [1, 5, 40] {
        readers.push((40 - count + 1, reader(&engine, Since::Last(count)).await));
    }
    for (first, reader) in &mut readers {
        assert_eq!(follow(reader, 40).await, (None, *first));
    }
}

#[tokio::test]
async fn a_redis_that_cannot_save_is_read_and_takes_nothing() {
    let redis = Redis::start(&[
        "--save",
        "1 1",
        "--dir",
        "/proc",
        "--stop-writes-on-bgsave-error",
        "yes",
    ])
    .await;
    let engine = engine(&redis.url()).await;
    let positions = publish(&engine, 9).await;
    until_told("a refusal", async || {
        engine.publish(&[draft("1".into())]).await[0].is_err()
    })
    .await;
    assert!(engine.check().is_ok(), "it is there for readers");
    for _ in 0..20 {
        let page = within("a page", engine.history(&channel(), Since::After(positions[2]), 5))
            .await
            .unwrap();
        assert_eq!(page.publications.first().map(|first| first.position.offset), Some(4));
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let mut reader = reader(&engine, Since::After(positions[3])).await;
    assert_eq!(follow(&mut reader, 9).await, (None, 5));
    let _: String = redis.ask(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]).await;
    publish(&engine, 1).await;
}
