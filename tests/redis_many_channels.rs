//! A node that has many channels is killed and comes back: its readers are attached again soon, and Redis' other clients
//! hardly notice.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "says how long things took, with `--nocapture`")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use support::edge::took_at_most;
use support::http;
use support::link::Receive;
use support::publisher::Publisher;
use support::redis::Redis;
use support::served::Served;
use support::websocket::WebSocket;
use tokio::time::Instant;

const READERS: usize = 100;
const CHANNELS_EACH: usize = 200;

/// What is promised of a release build; without optimizations, readers and server together take several times as long.
const ATTACHED_MAX: Duration = Duration::from_secs(if cfg!(debug_assertions) { 25 } else { 5 });

/// How much longer another client may wait: as long again, and what two processors take that carry all of this.
const OTHERS_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 50 } else { 5 });

async fn serve(redis: &Redis) -> Served {
    let served = Served::start(&[
        ("THROUGHLINE_ENGINE__KIND", "redis"),
        ("THROUGHLINE_ENGINE__REDIS__URL", &redis.url()),
        ("THROUGHLINE_LIMITS__CHANNELS_MAX", &CHANNELS_EACH.to_string()),
    ])
    .await;
    let mut publisher = Publisher::new(served.address);
    let deadline = Instant::now() + Duration::from_secs(30);
    while publisher.status(&http::get("/readyz", &[])).await.unwrap() != 200 {
        assert!(Instant::now() < deadline, "not ready");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    served
}

/// A session on many channels, from these positions on, and the positions that it was told.
async fn attach(node: SocketAddr, reader: usize, since: Vec<Option<String>>) -> (WebSocket, Vec<Option<String>>) {
    let mut socket = WebSocket::open(node, Receive::Usual, &[]).await.unwrap();
    for (number, since) in since.iter().enumerate() {
        let channel = format!("many:{reader}:{number}");
        let mut command = json!({"type": "subscribe", "id": number, "channel": channel});
        if let Some(since) = since {
            command["since"] = json!(since);
        }
        socket.command(&command).await.unwrap();
    }
    let mut positions = vec![None; since.len()];
    let mut left = since.len();
    while left > 0 {
        let push = socket.push().await.unwrap();
        if push.kind() == "subscribed" {
            let wanted = if since[0].is_some() { "complete" } else { "fresh" };
            assert_eq!(push.text_of("resume"), wanted, "{}", push.shown());
            let number: usize = push.text_of("channel").rsplit(':').next().unwrap().parse().unwrap();
            positions[number] = Some(push.text_of("position").to_owned());
            left -= 1;
        } else {
            assert_eq!(push.kind(), "welcome", "{}", push.shown());
        }
    }
    (socket, positions)
}

async fn attach_all(node: SocketAddr, since: Vec<Vec<Option<String>>>) -> (Vec<WebSocket>, Vec<Vec<Option<String>>>) {
    let attaching = since
        .into_iter()
        .enumerate()
        .map(|(reader, since)| tokio::spawn(attach(node, reader, since)));
    let attached = join_all(attaching).await;
    attached.into_iter().map(Result::unwrap).unzip()
}

/// Another client of the same Redis, which asks for something twice in a millisecond, until it is told to end.
async fn other_client(redis: &Redis, is_over: Arc<AtomicBool>) -> tokio::task::JoinHandle<Vec<Duration>> {
    let _: String = redis.ask(&["SET", "other", "1"]).await;
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    tokio::spawn(async move {
        let mut took = Vec::new();
        while !is_over.load(Ordering::SeqCst) {
            let asked = Instant::now();
            let _: String = redis::cmd("GET")
                .arg("other")
                .query_async(&mut connection)
                .await
                .unwrap();
            took.push(asked.elapsed());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        took
    })
}

fn percentile_99(mut took: Vec<Duration>) -> Duration {
    took.sort();
    took[took.len() * 99 / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_channels_are_attached_again_and_others_hardly_notice() {
    let redis = Redis::start(&[]).await;
    let node = serve(&redis).await;
    let (sockets, positions) = attach_all(node.address, vec![vec![None; CHANNELS_EACH]; READERS]).await;
    let told: Vec<String> = redis.ask(&["PUBSUB", "CHANNELS", "*{many:*"]).await;
    assert_eq!(told.len(), READERS * CHANNELS_EACH, "they are attached");

    let is_over = Arc::new(AtomicBool::new(false));
    let other = other_client(&redis, Arc::clone(&is_over)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    is_over.store(true, Ordering::SeqCst);
    let before = percentile_99(other.await.unwrap());

    node.kill().await;
    drop(sockets);
    let deadline = Instant::now() + Duration::from_secs(30);
    while !redis.ask::<Vec<String>>(&["PUBSUB", "CHANNELS"]).await.is_empty() {
        assert!(Instant::now() < deadline, "it is not gone");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let other = other_client(&redis, Arc::clone(&is_over)).await;
    let node = serve(&redis).await;
    let began = Instant::now();
    let (mut sockets, _) = attach_all(node.address, positions).await;
    took_at_most("20,000 channels attached again", began.elapsed(), ATTACHED_MAX);
    is_over.store(true, Ordering::SeqCst);
    let meanwhile = percentile_99(other.await.unwrap());
    println!("99 of 100 questions of another client: {before:?} before, {meanwhile:?} meanwhile");
    assert!(meanwhile <= before * 2 + OTHERS_MAX, "{before:?}, then {meanwhile:?}");

    let mut publisher = Publisher::new(node.address);
    for reader in [0, READERS - 1] {
        let body = format!(r#"{{"channel":"many:{reader}:{}","data":1}}"#, CHANNELS_EACH - 1);
        publisher.publish(&body, "k").await.unwrap();
        let push = sockets[reader].push().await.unwrap();
        assert_eq!(push.kind(), "publication", "{}", push.shown());
    }
}
