//! Clients that stop in the middle. What they may hold up ends by a deadline, and nobody else waits for them.

use std::time::Duration;

use tokio::time::Instant;

use super::target::{Target, answer, closed};
use crate::support::link::Link;

/// The deadline is 10 s; what is above it is what a busy machine may add.
const ENDED_WITHIN: Duration = Duration::from_secs(12);

async fn in_time(link: &mut Link, began: Instant) -> Vec<u8> {
    let came = closed(link).await;
    assert!(began.elapsed() < ENDED_WITHIN, "it took {:?}", began.elapsed());
    came
}

/// A connection that says nothing costs a descriptor.
#[tokio::test]
async fn nothing_at_all() {
    let mut target = Target::start(&[]).await;
    let began = Instant::now();
    let mut link = target.link().await;
    assert_eq!(in_time(&mut link, began).await, b"");
    target.is_unharmed().await;
}

/// Half a request, and silence.
#[tokio::test]
async fn half_a_head() {
    let mut target = Target::start(&[]).await;
    let mut link = target.link().await;
    let began = Instant::now();
    link.send(b"GET /livez HTTP/1.1\r\nhost:").await.expect("room");
    assert_eq!(in_time(&mut link, began).await, b"");
    target.is_unharmed().await;
}

/// Each byte is a sign of life, and none of them is a request (Slowloris).
#[tokio::test]
async fn a_head_a_byte_at_a_time() {
    let mut target = Target::start(&[]).await;
    let mut link = target.link().await;
    let began = Instant::now();
    let head = "GET /livez HTTP/1.1\r\nhost: localhost\r\nx: ".to_owned() + &"y".repeat(1000);
    for byte in head.bytes() {
        tokio::select! {
            came = link.read() => match came {
                Ok(true) => panic!("an answer to no request"),
                Ok(false) | Err(_) => break,
            },
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
        if link.send(&[byte]).await.is_err() {
            break;
        }
    }
    in_time(&mut link, began).await;
    target.is_unharmed().await;
}

/// The same for bodies, announced or in chunks, on each endpoint that reads one; it is told why.
#[tokio::test]
async fn half_a_body() {
    let mut target = Target::start(&[]).await;
    let mut links = Vec::new();
    let began = Instant::now();
    for place in ["/v1/publish", "/v1/poll", "/v1/sse"] {
        for (framing, half) in [
            ("content-length: 100", "{\"channel\""),
            ("transfer-encoding: chunked", "5\r\n{\"c"),
            ("transfer-encoding: chunked", "5"),
            ("expect: 100-continue\r\ncontent-length: 100", ""),
        ] {
            let mut link = target.link().await;
            let sent = format!("POST {place} HTTP/1.1\r\nhost: localhost\r\n{framing}\r\n\r\n{half}");
            link.send(sent.as_bytes()).await.expect("room");
            links.push(link);
        }
    }
    for link in &mut links {
        answer(link).await.is(400, "bad_request").says("within 10 s");
        in_time(link, began).await;
    }
    target.is_unharmed().await;
}

/// A body on an endpoint that reads none holds nothing up.
#[tokio::test]
async fn half_a_body_that_nobody_reads() {
    let mut target = Target::start(&[]).await;
    let mut link = target.link().await;
    let began = Instant::now();
    link.send(b"GET /livez HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\nx")
        .await
        .expect("room");
    let came = in_time(&mut link, began).await;
    assert!(came.starts_with(b"HTTP/1.1 200"), "{came:?}");
    target.is_unharmed().await;
}

/// A client that has closed its half has left, wherever it was: nothing is held for it.
#[tokio::test]
async fn half_closed_connections() {
    let mut target = Target::start(&[]).await;
    let began = Instant::now();
    for sent in [
        "",
        "GET /livez",
        "POST /v1/publish HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{",
        "GET /v1/sse?channel=a HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET /v1/poll?channel=a&since=start&wait=55 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET /v1/ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    ] {
        let mut link = target.link().await;
        link.send(sent.as_bytes()).await.expect("room");
        link.shut_down().await.expect("it can say that it has left");
        in_time(&mut link, began).await;
    }
    target.is_unharmed().await;
}
