//! HTTP/2 on the same listener as HTTP/1.1: everything is served over it, WebSocket included, many streams side by side.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

#[path = "http2/hostile.rs"]
mod hostile;
mod support;

use std::time::Duration;

use axum::http::Method;
use support::deadline::within;
use support::frames::{self, Frame};
use support::http2::{Http2, Stream, Window};
use support::node::{Node, Setup};
use support::process::said;
use throughline::transport::Timings;

/// The position that a push names.
fn position(text: &str) -> String {
    let (_, rest) = text.rsplit_once(r#""position":""#).expect("a position");
    rest.split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn curl_is_answered_by_prior_knowledge() {
    let node = Node::start(Setup::window(9));
    let url = |path: &str| format!("http://{}{path}", node.address);
    let curl = async |arguments: &[&str]| {
        let always = [
            "-q",
            "-sS",
            "--noproxy",
            "*",
            "--http2-prior-knowledge",
            "-m",
            "30",
            "-w",
            " over %{http_version}",
        ];
        said("curl", &[&always, arguments].concat()).await
    };
    assert_eq!(curl(&[&url("/livez")]).await, "ok\n over 2");
    let published = curl(&["-d", r#"{"channel":"a","data":"héllo"}"#, &url("/v1/publish")]).await;
    assert!(
        published.contains("-1\"") && published.ends_with(" over 2"),
        "{published}"
    );
    let polled = curl(&[&url("/v1/poll?channel=a&since=start")]).await;
    assert!(polled.contains("héllo") && polled.ends_with(" over 2"), "{polled}");
    let missing = curl(&[&url("/nowhere")]).await;
    assert!(missing.contains("not_found"), "{missing}");
    // curl ends it after what it was told to wait.
    let streamed = said(
        "curl",
        &[
            "-q",
            "-sSN",
            "--noproxy",
            "*",
            "--http2-prior-knowledge",
            "-m",
            "2",
            &url("/v1/sse?channel=a&since=start"),
        ],
    )
    .await;
    assert!(streamed.contains("data: ") && streamed.contains("héllo"), "{streamed}");
}

#[tokio::test]
async fn every_transport_shares_one_connection_and_resumes_on_another() {
    let node = Node::start(Setup::window(9));
    let mut client = Http2::connect(node.address, Window::Usual).await;
    let mut events = client.get("/v1/sse?channel=a").await;
    events.until("\"resume\"").await;
    let mut socket = client.websocket("/v1/ws?channel=a", &[]).await;
    assert_eq!(socket.status, 200);
    assert!(socket.message().await.contains("welcome"));
    let subscribed = socket.message().await;
    let since = position(&subscribed);
    let polling = async {
        let mut client = Http2::connect(node.address, Window::Usual).await;
        client
            .get(&format!("/v1/poll?channel=a&since={since}"))
            .await
            .text()
            .await
    };
    let (polled, ()) = tokio::join!(polling, client.publish("a", "one"));
    assert!(polled.contains("\"one\""), "{polled}");
    events.until("\"one\"").await;
    let got = socket.message().await;
    assert!(got.contains("\"one\""), "{got}");
    drop((events, socket, client));

    // What was missed comes on another connection, by whichever transport.
    let mut client = Http2::connect(node.address, Window::Usual).await;
    client.publish("a", "two").await;
    let since = position(&got);
    let mut events = client.get(&format!("/v1/sse?channel=a&since={since}")).await;
    events.until("\"complete\"").await;
    events.until("\"two\"").await;
    let mut socket = client.websocket(&format!("/v1/ws?channel=a&since={since}"), &[]).await;
    for expected in ["welcome", "complete", "\"two\""] {
        let message = socket.message().await;
        assert!(message.contains(expected), "{message}");
    }
    let polled = client
        .get(&format!("/v1/poll?channel=a&since={since}"))
        .await
        .text()
        .await;
    assert!(polled.contains("\"two\"") && !polled.contains("\"one\""), "{polled}");
}

#[tokio::test]
async fn a_websocket_over_a_stream_is_a_websocket() {
    let node = Node::start(Setup::window(9));
    let mut client = Http2::connect(node.address, Window::Usual).await;
    let mut socket = client
        .websocket("/v1/ws", &[("sec-websocket-protocol", "other, throughline.v1")])
        .await;
    assert_eq!(socket.headers["sec-websocket-protocol"], "throughline.v1");
    assert!(!socket.headers.contains_key("sec-websocket-accept"));
    socket.message().await;
    let long = "x".repeat(100_000);
    client.publish("a", &long).await;
    socket.say(&frames::text(r#"{"type":"publish","id":1,"channel":"b","data":1}"#));
    assert!(socket.message().await.contains("published"));
    socket.say(&frames::text(
        r#"{"type":"subscribe","id":2,"channel":"a","since":"start"}"#,
    ));
    assert!(socket.message().await.contains("subscribed"));
    assert!(socket.message().await.contains(&long));
    socket.say(&frames::close(1000));
    let closed = socket.frame().await.unwrap();
    assert!(matches!(closed, Frame::Close { code: 1000, .. }), "{closed:?}");
    // The stream ends, and the connection does not.
    while socket.read().await.unwrap() {}
    client.publish("a", "still here").await;
}

#[tokio::test]
async fn a_websocket_is_refused_as_over_http_1() {
    let node = Node::start(Setup::window(9));
    let mut client = Http2::connect(node.address, Window::Usual).await;
    let refused = client.websocket("/v1/ws?channel=a%20b", &[]).await;
    assert_eq!(refused.status, 400);
    assert!(refused.text().await.contains("bad_channel"));
    // A browser cannot read that.
    let mut told = client
        .websocket("/v1/ws?channel=a%20b", &[("origin", "http://localhost")])
        .await;
    assert_eq!(told.status, 200);
    let closing = told.message().await;
    assert!(
        closing.contains("closing") && closing.contains("bad_channel"),
        "{closing}"
    );
    assert!(matches!(told.frame().await.unwrap(), Frame::Close { code: 4400, .. }));
    let elsewhere = client.websocket("/v1/publish", &[]).await;
    assert_eq!(elsewhere.status, 405);
    client.publish("a", "still here").await;
}

/// A node whose readers may be stuck for a second. The heartbeat also says how fine its clock is.
fn impatient() -> Node {
    Node::start(Setup {
        timings: Timings {
            heartbeat_ms: 3_200,
            write_timeout_ms: 1_000,
        },
        ..Setup::window(100)
    })
}

/// Until the server resets the stream.
async fn is_reset(stream: &mut Stream) {
    loop {
        match stream.read_without_room().await {
            Ok(true) => {}
            Ok(false) => panic!("it ended where it should be reset"),
            Err(error) => return assert_eq!(error.reason(), Some(h2::Reason::CANCEL), "{error}"),
        }
    }
}

/// The window of one stream is shut: the library waits for it, and no body is asked for more.
#[tokio::test]
async fn a_stuck_stream_is_reset_and_its_sisters_live() {
    let node = impatient();
    let mut client = Http2::connect(node.address, Window::Bytes(10_000)).await;
    let mut sister = client.get("/v1/sse?channel=a&channel=b").await;
    sister.until("\"resume\"").await;
    let mut stuck = client.get("/v1/sse?channel=a").await;
    let long = "x".repeat(50_000);
    client.publish("a", &long).await;
    sister.until(&long).await;
    is_reset(&mut stuck).await;

    // An answer that is whole, but was not taken.
    let mut stuck = client.get("/v1/poll?channel=a&since=start").await;
    is_reset(&mut stuck).await;
    let mut stuck = client.get("/v1/history?channel=a").await;
    is_reset(&mut stuck).await;

    // WebSocket has a clock of its own, and its last words a deadline.
    let mut stuck = client.websocket("/v1/ws?channel=a&since=start", &[]).await;
    is_reset(&mut stuck).await;

    client.publish("b", "last").await;
    sister.until("\"last\"").await;
}

/// Slow is not stuck: a reader that takes a little at a time gets all of it, however long that takes.
#[tokio::test]
async fn a_slow_stream_gets_everything() {
    let node = impatient();
    let mut client = Http2::connect(node.address, Window::Bytes(16 * 1024)).await;
    let long = "x".repeat(200_000);
    client.publish("a", &long).await;
    let began = tokio::time::Instant::now();
    let mut slow = client.get("/v1/poll?channel=a&since=start").await;
    while slow.read().await.unwrap() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(String::from_utf8_lossy(&slow.input).contains(&long));
    assert!(began.elapsed() > Duration::from_secs(1), "it was not slow");
}

/// A drain: every stream is told so, the connection takes no further ones (GOAWAY), and ends.
#[tokio::test]
async fn a_drain_tells_every_stream_and_ends_the_connection() {
    let mut node = Node::start(Setup::window(9));
    let mut client = Http2::connect(node.address, Window::Usual).await;
    let mut events = client.get("/v1/sse?channel=a").await;
    events.until("\"resume\"").await;
    let since = position(&String::from_utf8_lossy(&events.input));
    let mut socket = client.websocket("/v1/ws?channel=a", &[]).await;
    socket.message().await;
    socket.message().await;
    let mut other = Http2::connect(node.address, Window::Usual).await;
    let polling = tokio::spawn(async move {
        let answer = other.get(&format!("/v1/poll?channel=a&since={since}")).await;
        let text = answer.text().await;
        other.ended().await;
        text
    });
    within("three sessions", async {
        while node.sessions() < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    node.begin_shutdown();
    events.until("event: closing").await;
    while events.read().await.expect("a good end") {}
    let closing = socket.message().await;
    assert!(closing.contains("closing") && closing.contains("draining"), "{closing}");
    assert!(matches!(socket.frame().await.unwrap(), Frame::Close { code: 1012, .. }));
    socket.say(&frames::close(1012));
    while socket.read().await.expect("a good end") {}
    drop((events, socket));
    client.ended().await;
    let polled = polling.await.unwrap();
    assert!(polled.contains("closing"), "{polled}");
    node.stopped().await;
}

/// While one client is slow to leave, whoever comes anew over HTTP/2 is told that the node drains.
#[tokio::test]
async fn health_is_answered_over_http_2_during_a_drain() {
    let mut node = Node::start(Setup::window(9));
    let mut client = Http2::connect(node.address, Window::Usual).await;
    let mut slow = client.websocket("/v1/ws", &[]).await;
    slow.message().await;
    node.begin_shutdown();
    assert!(slow.message().await.contains("closing"));
    let url = |path: &str| format!("http://{}{path}", node.address);
    for (path, expected) in [
        ("/livez", "200 over 2"),
        ("/readyz", "503 over 2"),
        ("/v1/sse?channel=a", "503 over 2"),
    ] {
        let shown = ["-w", " %{http_code} over %{http_version}", &url(path)];
        let always = ["-q", "-sS", "--noproxy", "*", "--http2-prior-knowledge", "-m", "30"];
        let told = said("curl", &[&always[..], &shown].concat()).await;
        assert!(told.ends_with(expected), "{path}: {told}");
    }
}

/// A client that asks for a stream, and for more streams than it may have, waits; nobody is refused.
#[tokio::test]
async fn requests_beyond_the_bound_wait() {
    let mut setup = Setup::window(9);
    setup.connections.h2_streams_max = 2;
    let node = Node::start(setup);
    let mut client = Http2::connect(node.address, Window::Usual).await;
    let mut one = client.get("/v1/sse?channel=a").await;
    one.until("\"resume\"").await;
    client.publish("a", "one").await;
    let mut two = client.get("/v1/sse?channel=a").await;
    two.until("\"resume\"").await;
    let asked = tokio::time::timeout(Duration::from_millis(300), client.ask(Method::GET, "/livez", ""));
    assert!(asked.await.is_err(), "a third stream beside two");
    drop(two);
    let answer = within("an answer", client.get("/livez")).await;
    assert_eq!(answer.text().await, "ok\n");
}
