//! Five hundred at once that are slow: with the head, with the body, with reading. With the settings that a server has
//! unless told otherwise, all of them are gone within 12 s, and whoever asks meanwhile is answered.

#![expect(clippy::print_stdout, reason = "says how long it took")]
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "in a test, what is not as it should be is a panic"
)]

mod support;

#[path = "hostile/target.rs"]
#[allow(dead_code, reason = "each test uses its own part of this")]
mod target;

use std::time::Duration;

use serde_json::json;
use support::deadline::within;
use support::http;
use support::link::{Link, Receive};
use target::Target;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

const COUNT: usize = 500;
const GONE_WITHIN: Duration = Duration::from_secs(12);

/// How long the probe may wait, even on a machine that is busy with other things.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// The descriptors of a test process are counted too, so one test at a time has its five hundred.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Waits until all of them are gone, by the server's own descriptors, with a probe beside them; says how much memory
/// they took at most, in KiB.
async fn gone(target: &Target, kind: &str, before: usize) -> u64 {
    let began = Instant::now();
    let (mut slowest, mut probes, mut most, mut most_kib) = (Duration::ZERO, 0, 0, 0);
    loop {
        let asked = Instant::now();
        let published = target.publish(r#"{"channel":"probe","data":1}"#).await;
        let alive = target.answer(&http::get("/livez", &[])).await;
        assert_eq!((published.status, alive.status), (200, 200));
        slowest = slowest.max(asked.elapsed());
        probes += 1;
        let open = target.sockets().saturating_sub(before);
        most = most.max(open);
        most_kib = most_kib.max(target.growth_kib());
        // The probe's own connections may be among them.
        if open < 5 {
            break;
        }
        assert!(
            began.elapsed() < GONE_WITHIN,
            "{open} of {COUNT} {kind} are still there"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!(
        "{COUNT} {kind}: {most} open at once, gone after {:?}; {probes} probes, the slowest took {slowest:?}",
        began.elapsed()
    );
    assert!(
        most >= COUNT * 9 / 10,
        "only {most} were open at once: the attack did not happen"
    );
    assert!(slowest < ANSWERED_WITHIN, "a probe took {slowest:?}");
    most_kib
}

/// Sends the beginning, and then byte after byte, for as long as the server takes it.
async fn trickle(mut link: Link, begin: &'static str) {
    let mut sent = link.send(begin.as_bytes()).await;
    while sent.is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        sent = link.send(b"x").await;
    }
}

async fn trickling(kind: &str, begin: &'static str) {
    let _one = ONE_AT_A_TIME.lock().await;
    let mut target = Target::start(&[]).await;
    let before = target.sockets();
    let mut clients = JoinSet::new();
    for _ in 0..COUNT {
        clients.spawn(trickle(target.link().await, begin));
    }
    gone(&target, kind, before).await;
    clients.shutdown().await;
    target.is_unharmed().await;
}

#[tokio::test]
async fn five_hundred_slow_heads() {
    trickling("slow heads", "GET /livez HTTP/1.1\r\nhost: localhost\r\nx: ").await;
}

#[tokio::test]
async fn five_hundred_slow_bodies() {
    trickling(
        "slow bodies",
        "POST /v1/publish HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n{",
    )
    .await;
}

/// A slow reader is one that takes nothing: one that takes a little lives, and costs a cursor.
///
/// `cost_kib_max` is what `docs/limits.md` says that such a connection may cost at most.
async fn slow_readers(place: &str, headers: &[(&str, &str)], cost_kib_max: u64) {
    let _one = ONE_AT_A_TIME.lock().await;
    // What the kernel holds for each is kept small, so that the server is the one that waits.
    let settings = [
        ("THROUGHLINE_CONNECTIONS__SEND_BUFFER_BYTES", "16384"),
        ("THROUGHLINE_WINDOW__BYTES", "16000000"),
    ];
    let mut target = Target::start(&settings).await;
    for _ in 0..30 {
        let body = json!({"channel": "large", "data": "x".repeat(100_000)}).to_string();
        assert_eq!(target.publish(&body).await.status, 200);
    }
    let before = target.sockets();
    let mut readers = Vec::new();
    for _ in 0..COUNT {
        let mut link = Link::connect(target.address, Receive::Bytes(4096))
            .await
            .expect("a connection");
        let asked = http::get(
            &http::target(place, &[("channel", "large"), ("since", "start")]),
            headers,
        );
        link.send(&asked).await.expect("room");
        readers.push(link);
    }
    let most_kib = gone(&target, place, before).await;
    let cost_kib = most_kib / COUNT as u64;
    println!("{COUNT} slow readers of {place}: {cost_kib} KiB of memory each");
    assert!(cost_kib <= cost_kib_max, "{cost_kib} KiB each; at most {cost_kib_max}");
    // What the kernels held for one is still its own, and then its stream ends.
    let came = within("the end of a slow reader", target::closed(&mut readers[0])).await;
    drop(readers);
    resumes(&target, &came).await;
    target.is_unharmed_within(cost_kib_max * COUNT as u64).await;
}

/// A reader that was cut off goes on where it was: right before the first publication, of which it has only the front.
async fn resumes(target: &Target, came: &[u8]) {
    let came = String::from_utf8_lossy(came);
    let (_, publication) = came
        .split_once(r#""type":"publication""#)
        .expect("a publication had begun");
    let (_, position) = publication.split_once(r#""position":""#).expect("it has a position");
    let (position, _) = position.split_once('"').expect("the position ends");
    let (epoch, offset) = position.split_once('-').expect("a position");
    assert_eq!(offset, "1", "the window begins with it");
    let resumed = http::get(&format!("/v1/poll?channel=large&wait=0&since={epoch}-0"), &[]);
    let resumed = target.answer(&resumed).await;
    let first = &resumed.body["pushes"][0];
    assert_eq!(
        (&first["type"], &first["position"]),
        (&json!("publication"), &json!(position))
    );
}

#[tokio::test]
async fn five_hundred_slow_readers_of_event_streams() {
    slow_readers("/v1/sse", &[], 768).await;
}

#[tokio::test]
async fn five_hundred_slow_readers_of_polls() {
    slow_readers("/v1/poll", &[], 2560).await;
}

#[tokio::test]
async fn five_hundred_slow_readers_of_websockets() {
    let headers = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    slow_readers("/v1/ws", &headers, 64).await;
}
