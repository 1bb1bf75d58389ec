//! Keys that an issuer publishes, fetched over HTTP from a server that the test scripts.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use support::http::{self, Head};
use support::link::{Link, Receive};
use support::node::{Node, Setup};
use support::tokens::{Signer, forge, now_s};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Serves one answer to everybody, and counts who asked.
async fn serve(answer: String) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && socket.read_buf(&mut head).await.unwrap() > 0 {}
            // Whoever is refused for its length may leave before the end.
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    (address, asked)
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

async fn status(node: &Node, token: &str) -> u16 {
    let mut link = Link::connect(node.address, Receive::Usual).await.unwrap();
    let bearer = format!("Bearer {token}");
    let request = http::get("/v1/history?channel=a", &[("authorization", &bearer)]);
    link.send(&request).await.unwrap();
    Head::read(&mut link).await.unwrap().unwrap().status
}

fn token(kid: &str) -> String {
    let claims = json!({"sub": "ada", "exp": now_s() + 600, "throughline": {"history": ["*"]}}).to_string();
    forge(&format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#), &claims, Signer::Ed)
}

fn issuer(address: SocketAddr) -> Setup {
    Setup::auth(&format!("issuers = [{{ jwks_url = \"http://{address}/keys\" }}]"))
}

fn published() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/keys/jwks.json")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn published_keys_let_in_and_a_storm_of_unknown_ones_asks_once() {
    let (address, asked) = serve(ok(&published())).await;
    let node = Node::start(issuer(address));
    assert_eq!(status(&node, &token("ed-1")).await, 200);
    for at in 0..50 {
        assert_eq!(status(&node, &token(&format!("unknown-{at}"))).await, 401);
    }
    assert_eq!(status(&node, &token("ed-1")).await, 200);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_set_of_keys_lets_nobody_in() {
    let (elsewhere, asked_elsewhere) = serve(ok(&published())).await;
    let long = format!("{}{}", published(), " ".repeat(300 * 1024));
    for (name, answer) in [
        ("a failure", "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n".to_owned()),
        ("a page", ok("<html>")),
        ("too much", ok(&long)),
        (
            "an answer cut short",
            "HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\n{".to_owned(),
        ),
        (
            "a redirect",
            format!("HTTP/1.1 302 Found\r\nlocation: http://{elsewhere}/keys\r\ncontent-length: 0\r\n\r\n"),
        ),
    ] {
        let (address, asked) = serve(answer).await;
        let node = Node::start(issuer(address));
        assert_eq!(status(&node, &token("ed-1")).await, 503, "{name}");
        assert_eq!(status(&node, &token("ed-1")).await, 503, "{name}");
        assert_eq!(asked.load(Ordering::SeqCst), 1, "{name}");
    }
    assert_eq!(asked_elsewhere.load(Ordering::SeqCst), 0, "no redirect is followed");
}
