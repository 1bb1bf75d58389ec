//! WebSocket clients that break the protocol of frames, or keep it to the letter and send without end.

use super::target::{GROWTH_KIB_MAX, Target, closed};
use crate::support::deadline::within;
use crate::support::link::Link;
use crate::support::websocket::{Said, WebSocket};

const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A masked frame of at most 125 bytes.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, 0x80 | u8::try_from(payload.len()).expect("a short payload")];
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// A frame of which only the header comes.
fn announced(bytes: u64) -> Vec<u8> {
    [&[0x81, 0xFF], &bytes.to_be_bytes()[..], &MASK].concat()
}

/// What the close frame and the `closing` before it say.
async fn ending(socket: &mut WebSocket) -> (u16, String) {
    let mut word = String::new();
    loop {
        match within("the end", socket.next()).await.expect("a frame") {
            Said::Push(push) if push.kind() == "closing" => push.text_of("code").clone_into(&mut word),
            Said::Push(_) => {}
            Said::Closed { code, .. } => return (code, word),
        }
    }
}

async fn refused(sent: &[u8], code: u16, word: &str) {
    let mut target = Target::start(&[]).await;
    let mut socket = target.websocket(&[("channel", "a")]).await;
    let _ = socket.link().send(sent).await;
    assert_eq!(ending(&mut socket).await, (code, word.to_owned()));
    target.is_unharmed().await;
}

/// Fourteen bytes that ask for eight exabytes: a length is refused when it is announced, and nothing is made for it.
#[tokio::test]
async fn a_header_that_says_two_to_the_63() {
    let mut target = Target::start(&[]).await;
    let mut held = Vec::new();
    for bytes in [1 << 63, (1 << 63) - 1, 1 << 40, 327_681] {
        let mut socket = target.websocket(&[]).await;
        socket.link().send(&announced(bytes)).await.expect("room");
        let expected = if bytes == 1 << 63 { 1002 } else { 1009 };
        assert_eq!(ending(&mut socket).await.0, expected);
    }
    // One that is allowed is not made room for before it comes.
    for _ in 0..200 {
        let mut socket = target.websocket(&[]).await;
        socket.link().send(&announced(327_680)).await.expect("room");
        held.push(socket);
    }
    assert!(target.growth_kib() < GROWTH_KIB_MAX, "{} KiB", target.growth_kib());
    drop(held);
    target.is_unharmed().await;
}

/// A proxy that does not know WebSocket could be made to read an unmasked frame as a request (RFC 6455 §10.3).
#[tokio::test]
async fn an_unmasked_frame() {
    refused(b"\x81\x05Hello", 1002, "bad_request").await;
}

/// Bits that no extension gave a meaning to.
#[tokio::test]
async fn reserved_bits() {
    refused(&frame(0xC1, b"{}"), 1002, "bad_request").await;
}

/// Bytes that only the next fragment shows to be wrong.
#[tokio::test]
async fn bad_utf8_across_fragments() {
    refused(
        &[frame(0x01, b"\xE2\x82"), frame(0x80, b"\x28")].concat(),
        1007,
        "bad_request",
    )
    .await;
    refused(
        &[frame(0x01, b"\xED"), frame(0x00, b"\xA0")].concat(),
        1007,
        "bad_request",
    )
    .await;
}

/// Seven bytes on the wire for each byte of a message, whose pieces must not each be kept.
#[tokio::test]
async fn a_hundred_and_thirty_one_thousand_fragments() {
    let fragments = [frame(0x01, b"a"), frame(0x00, b"a").repeat(131_000), frame(0x80, b"a")].concat();
    refused(&fragments, 1009, "too_large").await;
}

/// Every ping asks for an answer, which nobody reads: the answers must not be kept.
#[tokio::test]
async fn a_flood_of_pings_with_unread_pongs() {
    let mut target = Target::start(&[]).await;
    let socket = target.websocket(&[]).await;
    let mut link = socket.into_link();
    let pings = frame(0x89, &[b'p'; 125]).repeat(1000);
    flood(&mut link, &pings, 400).await;
    assert!(target.growth_kib() < GROWTH_KIB_MAX, "{} KiB", target.growth_kib());
    target.is_unharmed().await;
}

/// Sends as long as the server takes it, at most so often. That it takes no more is its good right.
async fn flood(link: &mut Link, bytes: &[u8], times: usize) {
    for _ in 0..times {
        let sending = tokio::time::timeout(std::time::Duration::from_secs(2), link.send(bytes));
        if !matches!(sending.await, Ok(Ok(()))) {
            return;
        }
    }
}

/// A connection in its last seconds reads on, and must keep nothing of what it reads.
#[tokio::test]
async fn data_after_a_close() {
    let mut target = Target::start(&[]).await;
    let mut socket = target.websocket(&[]).await;
    let bye = frame(0x88, &1000_u16.to_be_bytes());
    let late = frame(0x81, br#"{"type":"publish","channel":"late","data":1}"#);
    socket.link().send(&[bye, late].concat()).await.expect("room");
    assert_eq!(ending(&mut socket).await.0, 1000);
    let late = target
        .answer(&crate::support::http::get("/v1/history?channel=late", &[]))
        .await;
    assert_eq!(late.body["publications"].as_array().map(Vec::len), Some(0), "{late:?}");
    target.is_unharmed().await;
}

/// A client that is told to go and does not: the server goes.
#[tokio::test]
async fn a_close_that_is_never_followed_by_the_end() {
    let mut target = Target::start(&[]).await;
    let mut socket = target.websocket(&[]).await;
    socket.link().send(&frame(0x83, b"")).await.expect("room");
    assert_eq!(ending(&mut socket).await.0, 1002);
    let mut link = socket.into_link();
    assert!(closed(&mut link).await.is_empty());
    // It reads no more either: sending fails in the end.
    within("the end of the socket", async {
        while link.send(&[0; 1024]).await.is_ok() {}
    })
    .await;
    target.is_unharmed().await;
}

/// What an HTTP client sends on behind its upgrade is no frame.
#[tokio::test]
async fn requests_behind_the_upgrade_are_no_frames() {
    refused(
        b"GET /v1/history?channel=a HTTP/1.1\r\nhost: localhost\r\n\r\n",
        1002,
        "bad_request",
    )
    .await;
}
