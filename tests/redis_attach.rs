//! Many channels on one node: what it costs Redis to attach them, to find out that it has lost them, and to read to many
//! who stand at different places; and what is said while Redis does not tell of publications.
//!
//! The bars are counts of commands, so that no slow machine breaks them; `cargo bench --bench redis_attach` has the times.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![expect(
    clippy::print_stdout,
    reason = "says how many commands there were, with `--nocapture`"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use serde_json::json;
use support::deadline::{PATIENCE, until, until_told, within};
use support::edge::{Edge, took_at_most};
use support::http;
use support::link::Receive;
use support::publisher::Publisher;
use support::redis::{Redis, engine};
use support::served::Served;
use support::slow_motion::waits;
use support::websocket::WebSocket;
use throughline::delivery::{
    Ack, ChannelName, Delivery, Draft, Engine, Joined, LogPolicy, Position, Resume, Since, Subscription, subscribe,
};
use throughline::engine::RedisEngine;
use tokio::time::Instant;

const CHANNELS: usize = 20_000;

/// What is begun at once.
const AT_ONCE: usize = 500;

fn channel(number: usize) -> ChannelName {
    ChannelName::parse(&format!("many:{number}")).unwrap()
}

fn draft(channel: ChannelName) -> Draft {
    Draft {
        channel,
        data: "1".into(),
        event: None,
        sender: None,
        key: None,
        policy: LogPolicy {
            count_max: 10_000,
            bytes_max: 1 << 24,
            age_ms_max: 600_000,
            position_ttl_ms: 600_000,
        },
        ack: Ack::Stored,
    }
}

/// One publication on each of so many channels.
async fn publish_on_each(engine: &RedisEngine, channels: usize) -> Vec<Position> {
    let drafts: Vec<_> = (0..channels).map(|number| draft(channel(number))).collect();
    let mut positions = Vec::new();
    for batch in drafts.chunks(AT_ONCE) {
        let published = engine.publish(batch).await;
        positions.extend(published.into_iter().map(|published| published.unwrap().position));
    }
    positions
}

async fn begin(engine: &Arc<RedisEngine>, number: usize, since: Since) -> (Joined, Subscription) {
    let engine = Arc::clone(engine) as Arc<dyn Engine>;
    subscribe(engine, channel(number), since).await.unwrap()
}

/// Readers of one channel each, a few begun at once.
async fn begin_all(engine: &Arc<RedisEngine>, since: Vec<Since>) -> Vec<(Joined, Subscription)> {
    let beginning = since
        .into_iter()
        .enumerate()
        .map(|(number, since)| begin(engine, number, since));
    stream::iter(beginning).buffered(AT_ONCE).collect().await
}

/// How often Redis was asked for something since its counts were set back.
async fn calls(redis: &Redis, command: &str) -> u64 {
    let stats: String = redis.ask(&["INFO", "commandstats"]).await;
    let start = format!("cmdstat_{command}:calls=");
    let line = stats.lines().find_map(|line| line.strip_prefix(&start));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

async fn forget_calls(redis: &Redis) {
    let _: String = redis.ask(&["CONFIG", "RESETSTAT"]).await;
}

async fn next(subscription: &mut Subscription) -> Delivery {
    within("a delivery", subscription.next()).await.expect("it goes on")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_channels_are_attached_by_few_commands_and_each_delivers() {
    let redis = Redis::start(&[]).await;
    let publishing = engine(&redis.url()).await;
    let positions = publish_on_each(&publishing, CHANNELS).await;
    let reading = engine(&redis.url()).await;
    forget_calls(&redis).await;
    let since = positions.iter().copied().map(Since::After).collect();
    let readers = begin_all(&reading, since).await;
    let counts = [
        calls(&redis, "subscribe").await,
        calls(&redis, "mget").await,
        calls(&redis, "evalsha").await,
    ];
    println!("{CHANNELS} channels by {counts:?} of SUBSCRIBE, MGET and EVALSHA");
    assert!(counts[0] >= 40, "they were subscribed to");
    for count in counts {
        assert!(count <= CHANNELS as u64 / 10, "{count} calls for {CHANNELS} channels");
    }
    for number in (0..CHANNELS).step_by(997) {
        let hints = format!("throughline:{{many:{number}}}:hints:0");
        let told: (String, u64) = redis.ask(&["PUBSUB", "NUMSUB", &hints]).await;
        assert_eq!(told.1, 1, "Redis tells this node of {hints}");
    }
    for ((joined, _), position) in readers.iter().zip(&positions) {
        assert_eq!((joined.resume, joined.position), (Resume::Complete, *position));
    }
    publish_on_each(&publishing, CHANNELS).await;
    for (_, mut reader) in readers {
        let Delivery::Publication(publication) = next(&mut reader).await else {
            panic!("something else")
        };
        assert_eq!(publication.position.offset, 2);
    }
}

/// A reader that begins where the log ends, as seen at that moment, gets all that comes after it, and one that was away
/// gets what it missed, while others publish.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_attaches_while_others_publish_misses_nothing() {
    const ROUNDS: usize = 40;
    let redis = Redis::start(&[]).await;
    let publishing = engine(&redis.url()).await;
    publish_on_each(&publishing, AT_ONCE).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let (publisher, until_then) = (Arc::clone(&publishing), Arc::clone(&is_over));
    let busy = tokio::spawn(async move {
        while !until_then.load(Ordering::SeqCst) {
            publish_on_each(&publisher, AT_ONCE).await;
        }
    });
    for _ in 0..ROUNDS {
        let reading = engine(&redis.url()).await;
        let mut readers = begin_all(&reading, vec![Since::Now; AT_ONCE]).await;
        for (joined, reader) in &mut readers {
            let mut at = joined.position;
            for _ in 0..2 {
                let Delivery::Publication(publication) = next(reader).await else {
                    panic!("something else")
                };
                assert_eq!(publication.position.offset, at.offset + 1);
                assert_eq!(publication.position.epoch, at.epoch);
                at = publication.position;
            }
        }
    }
    is_over.store(true, Ordering::SeqCst);
    busy.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_ten_thousand_channels_are_told_within_seconds_that_redis_is_empty() {
    const CHANNELS: usize = 10_000;
    let redis = Redis::start(&[]).await;
    let engine = engine(&redis.url()).await;
    let positions = publish_on_each(&engine, CHANNELS).await;
    let since = positions.into_iter().map(Since::After).collect();
    let readers = begin_all(&engine, since).await;
    forget_calls(&redis).await;
    let _: String = redis.ask(&["FLUSHALL"]).await;
    let began = Instant::now();
    let telling = readers.into_iter().map(|(joined, mut reader)| async move {
        match next(&mut reader).await {
            Delivery::Gap(gap) => assert!(gap.from == joined.position && gap.to.epoch != gap.from.epoch),
            other @ (Delivery::Publication(_) | Delivery::Ended(_)) => panic!("{other:?}"),
        }
    });
    join_all(telling).await;
    // It is 5 s that are promised, of a release build. Here the bar is below what a grace for every 250 channels would
    // take alone, however fast the machine is.
    took_at_most(
        "telling the readers of 10,000 channels",
        began.elapsed(),
        Duration::from_secs(10),
    );
    let readings = calls(&redis, "evalsha").await;
    println!("{readings} readings for {CHANNELS} channels");
    // One to learn of the new epoch, one for the reader; some ask while the first is on its way.
    assert!(readings <= 3 * CHANNELS as u64, "{readings} readings");
}

/// Readers that came again and again from the start kept the others waiting for as long as they came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stands_in_the_middle_is_read_to_though_many_read_from_the_start() {
    const LENGTH: usize = 2_000;
    let redis = Redis::start(&[]).await;
    let engine = engine(&redis.url()).await;
    let mut positions = Vec::new();
    for batch in vec![draft(channel(0)); LENGTH].chunks(AT_ONCE) {
        let published = engine.publish(batch).await;
        positions.extend(published.into_iter().map(|published| published.unwrap().position));
    }
    let reading = Arc::clone(&engine);
    let read = move |since| {
        let engine = Arc::clone(&reading);
        async move { engine.history(&channel(0), since, 64).await.unwrap() }
    };
    let (is_over, pages) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let others: Vec<_> = (0..180)
        .map(|_| {
            let (read, is_over, pages) = (read.clone(), Arc::clone(&is_over), Arc::clone(&pages));
            tokio::spawn(async move {
                while !is_over.load(Ordering::SeqCst) {
                    assert_eq!(read(Since::Start).await.after.offset, 0);
                    pages.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    until("readers from the start", || pages.load(Ordering::SeqCst) > 1_000).await;
    for at in [300, 1_000, 1_500, LENGTH - 100] {
        let before = calls(&redis, "evalsha").await;
        let page = within("a page of the middle", read(Since::After(positions[at]))).await;
        let readings = calls(&redis, "evalsha").await - before;
        assert_eq!(
            (page.after, page.publications.len(), page.gap),
            (positions[at], 64, None)
        );
        println!("{readings} readings until one at {at} was served");
        // The one that was on its way, its own, and those between counting.
        assert!(readings <= 10, "{readings} readings until one at {at} was served");
    }
    is_over.store(true, Ordering::SeqCst);
    for other in others {
        other.await.unwrap();
    }
}

/// A position in the middle of a long window that is another publication's was looked for again and again, and never
/// answered: after a failover such readers hung.
#[tokio::test]
async fn a_position_of_another_past_in_the_middle_of_a_long_window_is_a_gap() {
    let redis = Redis::start(&[]).await;
    let engine = engine(&redis.url()).await;
    let published = engine.publish(&vec![draft(channel(0)); 1_000]).await;
    let known = published[700].as_ref().unwrap().position;
    let forged = Position {
        tag: published[0].as_ref().unwrap().position.tag,
        ..known
    };
    forget_calls(&redis).await;
    let channel = channel(0);
    let reading = engine.history(&channel, Since::After(forged), 64);
    let answered = tokio::time::timeout(Duration::from_secs(20), reading).await;
    let readings = calls(&redis, "evalsha").await;
    assert!(
        answered.is_ok() && readings <= 3,
        "{answered:?} after {readings} readings"
    );
    let page = answered.unwrap().unwrap();
    let gap = page.gap.expect("a gap");
    assert_eq!((gap.from, gap.to.offset, page.publications.len()), (forged, 0, 64));
}

/// Each of many channels was waited for, one after the other, as long as it was not known that Redis is away; and whoever
/// came to a channel that was being read waited for that, and then for a reading of their own.
#[tokio::test]
async fn whatever_is_asked_is_refused_within_two_seconds_by_a_redis_that_stands_still() {
    let redis = Redis::start(&[]).await;
    let edge = Edge::start(redis.url());
    edge.becomes_ready().await;
    let names: Vec<_> = (0..100).map(|number| format!("many:{number}")).collect();
    let all: Vec<_> = names.iter().map(|name| ("channel", name.as_str())).collect();
    // This one is attached, so that whoever comes to it has to wait for the log alone.
    let _reader = begin(&edge.engine, 0, Since::Now).await;
    let mut socket = WebSocket::open(edge.node.address, Receive::Usual, &[]).await.unwrap();
    assert_eq!(socket.push().await.unwrap().kind(), "welcome");
    redis.freeze();
    let refused = async |path: &str, query: &[(&str, &str)]| {
        assert_eq!(edge.status(&http::target(path, query)).await, 503, "{path}");
    };
    let subscribing = async {
        let command = json!({"type": "subscribe", "channel": "many:0", "id": 1});
        socket.command(&command).await.unwrap();
        assert_eq!(socket.push().await.unwrap().text_of("code"), "engine_unavailable");
    };
    let asking = async {
        tokio::join!(
            refused("/v1/history", &all[..1]),
            refused("/v1/history", &all[..1]),
            refused("/v1/history", &all[1..2]),
            refused("/v1/sse", &all[..1]),
            refused("/v1/sse", &all),
            refused("/v1/poll", &all[..1]),
            refused("/v1/poll", &all),
            subscribing,
        )
    };
    let (_, waited) = waits(asking).await;
    println!("all were refused after {waited:?}");
    assert!(waited <= Duration::from_secs(2), "refused after {waited:?}");
    redis.thaw();
    edge.becomes_ready().await;
    assert_eq!(edge.status(&http::target("/v1/sse", &all)).await, 200);
}

/// An operator could not see why nobody could subscribe, and whoever asked for five channels waited for each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_subscribe_at_redis_is_told_so_and_readers_are_refused_in_time() {
    let redis = Redis::start(&[]).await;
    let may: [&str; 9] = [
        "ACL",
        "SETUSER",
        "app",
        "on",
        ">word",
        "~*",
        "&*",
        "+@all",
        "-subscribe",
    ];
    let _: String = redis.ask(&may).await;
    let url = format!("redis://app:word@127.0.0.1:{}/0", redis.port);
    let node = Served::start(&[
        ("THROUGHLINE_ENGINE__KIND", "redis"),
        ("THROUGHLINE_ENGINE__REDIS__URL", &url),
    ])
    .await;
    until("a reason", || node.said().contains("nobody can subscribe")).await;
    let names: Vec<_> = (0..5).map(|number| format!("c{number}")).collect();
    let query: Vec<_> = names.iter().map(|name| ("channel", name.as_str())).collect();
    let mut publisher = Publisher::new(node.address);
    until_told("why it is not ready", async || {
        let (status, ready) = publisher.send(&http::get("/readyz", &[])).await.unwrap();
        assert_eq!(status, 503);
        let detail = ready["detail"].as_str().unwrap();
        detail.contains("does not tell this node of publications")
    })
    .await;
    for path in ["/v1/sse", "/v1/poll"] {
        let asked = Instant::now();
        let status = publisher.status(&http::get(&http::target(path, &query), &[])).await;
        assert_eq!(status.unwrap(), 503, "{path}");
        took_at_most("refusing five channels", asked.elapsed(), Duration::from_secs(2));
    }
    let said = node.said();
    let mut reasons = said.lines().filter(|line| line.contains("nobody can subscribe"));
    let (reason, again) = (reasons.next().unwrap(), reasons.next());
    assert!(
        reason.contains("no permissions") && reason.contains("check --connect"),
        "{reason}"
    );
    assert!(again.is_none() && !said.contains("word@"), "said once:\n{said}");
    let _: String = redis.ask(&["ACL", "SETUSER", "app", "+subscribe"]).await;
    until_told("a node that may subscribe", async || {
        publisher.status(&http::get("/readyz", &[])).await.unwrap() == 200
    })
    .await;
}

/// What was in the way at the start was said of whatever went wrong a week later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_over_is_not_said_of_what_is_in_the_way_now() {
    let redis = Redis::start(&[]).await;
    let may = ["ACL", "SETUSER", "app", "on", ">other", "~*", "&*", "+@all"];
    let _: String = redis.ask(&may).await;
    let url = format!("redis://app:word@127.0.0.1:{}/0", redis.port);
    let node = Served::start(&[
        ("THROUGHLINE_ENGINE__KIND", "redis"),
        ("THROUGHLINE_ENGINE__REDIS__URL", &url),
    ])
    .await;
    let mut publisher = Publisher::new(node.address);
    let mut detail = async || {
        // Where it is ready it answers `ok`, which is no JSON.
        let (status, ready) = publisher.send(&http::get("/readyz", &[])).await.ok()?;
        assert_eq!(status, 503);
        Some(ready["detail"].as_str().unwrap().to_owned())
    };
    let is_wrong = "the password is wrong";
    until_told("a wrong password", async || {
        detail().await.is_some_and(|detail| detail.contains(is_wrong))
    })
    .await;
    let _: String = redis.ask(&["ACL", "SETUSER", "app", ">word"]).await;
    until_told("the right one", async || detail().await.is_none()).await;
    let _: String = redis.ask(&["ACL", "SETUSER", "app", "-subscribe"]).await;
    let _: u64 = redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Some(detail) = detail().await else {
            assert!(Instant::now() < deadline, "it hears all the same");
            continue;
        };
        assert!(detail.contains("does not tell this node of publications"), "{detail}");
        if detail.contains("the user may not") {
            break;
        }
    }
}
