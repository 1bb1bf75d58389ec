//! What an attacker does with HTTP/2: each costs the connection, and nobody else anything.

use std::time::{Duration, Instant};

use axum::http::{Method, Request};
use throughline::transport::Timings;

use super::support::deadline::until;
use super::support::http2::{Http2, Sent, Window};
use super::support::link::{Link, Receive};
use super::support::node::{Node, Setup};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `GET /livez` (RFC 7541): three indexed or literal fields.
const GET_LIVEZ: &[u8] = b"\x82\x86\x04\x06/livez\x01\x01a";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![len[1], len[2], len[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A connection that has said its first words.
async fn begun(node: &Node) -> Link {
    let mut link = Link::connect(node.address, Receive::Usual).await.unwrap();
    link.send(PREFACE).await.unwrap();
    link.send(&SETTINGS).await.unwrap();
    link
}

/// Sends until the server ends the connection, reading beside it or not, and says how many times it was sent.
async fn until_ended(mut link: Link, mut next: impl FnMut(u32) -> Vec<u8>, frames_max: u32) -> u32 {
    for count in 0..frames_max {
        if link.send(&next(count)).await.is_err() {
            return count;
        }
    }
    // It may have ended it already, with what was sent still on its way.
    loop {
        match link.read().await {
            Ok(true) => {}
            Ok(false) => return frames_max,
            Err(error) => {
                assert_ne!(error.kind(), std::io::ErrorKind::TimedOut, "the connection goes on");
                return frames_max;
            }
        }
    }
}

async fn serves_on(node: &Node) {
    let mut client = Http2::connect(node.address, Window::Usual).await;
    assert_eq!(client.get("/livez").await.text().await, "ok\n");
}

/// CVE-2023-44487: requests that are taken back at once keep the server busy within the bound on streams.
#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let node = Node::start(Setup::window(9));
    let request = |count: u32| {
        let stream = 2 * count + 1;
        let mut bytes = frame(HEADERS, END_STREAM | END_HEADERS, stream, GET_LIVEZ);
        bytes.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
        bytes
    };
    until_ended(begun(&node).await, request, 20_000).await;
    serves_on(&node).await;
}

/// CVE-2019-9512: pings whose answers nobody reads.
#[tokio::test]
async fn a_flood_of_pings_ends_the_connection() {
    let node = Node::start(Setup::window(9));
    until_ended(begun(&node).await, |_| frame(PING, 0, 0, b"12345678"), 50_000).await;
    serves_on(&node).await;
}

/// CVE-2019-9515: settings, each of which must be acknowledged.
#[tokio::test]
async fn a_flood_of_settings_ends_the_connection() {
    let node = Node::start(Setup::window(9));
    until_ended(begun(&node).await, |_| SETTINGS.to_vec(), 50_000).await;
    serves_on(&node).await;
}

/// CVE-2019-9518: data frames without data, in the body of a request that never ends.
#[tokio::test]
async fn a_flood_of_empty_data_ends_the_connection() {
    let node = Node::start(Setup::window(9));
    let mut link = begun(&node).await;
    let post = b"\x83\x86\x04\x0b/v1/publish\x01\x01a";
    link.send(&frame(HEADERS, END_HEADERS, 1, post)).await.unwrap();
    until_ended(link, |_| frame(DATA, 0, 1, b""), 50_000).await;
    serves_on(&node).await;
}

/// CVE-2024-27316 and its like: headers that go on for ever.
#[tokio::test]
async fn a_flood_of_continuations_ends_the_connection() {
    let node = Node::start(Setup::window(9));
    let mut link = begun(&node).await;
    link.send(&frame(HEADERS, 0, 1, GET_LIVEZ)).await.unwrap();
    let field = b"\x00\x01a\x01b".repeat(100);
    until_ended(link, |_| frame(CONTINUATION, 0, 1, &field), 50_000).await;
    serves_on(&node).await;
}

/// More headers than a request may have, in a block of their own size: the stream is refused, or the connection.
#[tokio::test]
async fn too_large_headers_are_refused() {
    let node = Node::start(Setup::window(9));
    let mut client = Http2::connect(node.address, Window::Usual).await;
    let request = Request::builder().uri("http://localhost/livez");
    let request = request.header("x", "y".repeat(40_000)).body(()).unwrap();
    match client.send(request, Sent::Nothing).await {
        Ok(answer) => assert_eq!(answer.status, 431),
        Err(error) => assert!(error.is_remote() || error.is_io() || error.is_reset(), "{error}"),
    }
    serves_on(&node).await;
}

/// All windows are open, and the client reads nothing at all: what ends is the connection.
#[tokio::test]
async fn a_client_that_never_reads_is_cut() {
    let setup = Setup {
        timings: Timings {
            heartbeat_ms: 3_200,
            write_timeout_ms: 1_000,
        },
        send_buffer_bytes: 16 * 1024,
        ..Setup::window(1_000)
    };
    let node = Node::start(setup);
    let mut link = Link::connect(node.address, Receive::Bytes(4_096)).await.unwrap();
    let widest = [&[0, 4][..], &0x7fff_ffff_u32.to_be_bytes()].concat();
    let wider = 0x7000_0000_u32.to_be_bytes();
    let events = b"\x82\x86\x04\x11/v1/sse?channel=a\x01\x01a";
    for bytes in [
        PREFACE.to_vec(),
        frame(4, 0, 0, &widest),
        frame(8, 0, 0, &wider),
        frame(HEADERS, END_STREAM | END_HEADERS, 1, events),
    ] {
        link.send(&bytes).await.unwrap();
    }
    let sessions_are = async |count: usize| {
        until("the sessions", || node.sessions() == count).await;
    };
    sessions_are(1).await;
    let mut client = Http2::connect(node.address, Window::Usual).await;
    for _ in 0..20 {
        client.publish("a", &"x".repeat(100_000)).await;
    }
    sessions_are(0).await;
    serves_on(&node).await;
}

/// Half a block of headers, half a frame, half a preface, nothing after the preface, and half a body: each within its
/// deadline of ten seconds.
#[tokio::test]
async fn what_is_half_and_silent_is_ended_in_time() {
    let node = Node::start(Setup::window(9));
    let ended = async |bytes: Vec<u8>| {
        let mut link = Link::connect(node.address, Receive::Usual).await.unwrap();
        link.send(&bytes).await.unwrap();
        let began = Instant::now();
        while link.read().await.is_ok_and(|has_come| has_come) {}
        began.elapsed()
    };
    let with = |more: &[u8]| [PREFACE, &SETTINGS, more].concat();
    let body = async {
        let mut client = Http2::connect(node.address, Window::Usual).await;
        let request = Request::builder()
            .method(Method::POST)
            .uri("http://localhost/v1/publish");
        let request = request.header("content-length", "100").body(()).unwrap();
        // The client goes on to live, so that only the body is late.
        let answer = client.send(request, Sent::Open).await.unwrap();
        assert_eq!(answer.status, 400);
        assert!(answer.text().await.contains("did not arrive"));
    };
    let (block, partial, preface, nothing, ()) = tokio::join!(
        ended(with(&frame(HEADERS, 0, 1, GET_LIVEZ))),
        ended(with(&frame(HEADERS, END_HEADERS, 1, GET_LIVEZ)[..12])),
        ended(PREFACE[..10].to_vec()),
        ended(PREFACE.to_vec()),
        body,
    );
    for (what, took) in [
        ("block", block),
        ("frame", partial),
        ("preface", preface),
        ("nothing", nothing),
    ] {
        assert!(took > Duration::from_secs(5), "{what}: ended after {took:?}");
    }
    serves_on(&node).await;
}
