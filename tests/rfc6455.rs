//! RFC 6455, case by case: what a client sends, in whatever pieces, and what it must be answered, over the wire.
//!
//! The cases are tables, in a file for each part of the RFC, each named by its section. Those about frames go to the
//! echo, which is the codec and the task of `/v1/ws` with nothing behind them; those about the handshake to both.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "in a test, what is not as it should be is a panic"
)]

mod support;

#[path = "rfc6455/closing.rs"]
mod closing;
#[path = "rfc6455/control.rs"]
mod control;
#[path = "rfc6455/fragments.rs"]
mod fragments;
#[path = "rfc6455/framing.rs"]
mod framing;
#[path = "rfc6455/handshake.rs"]
mod handshake;
#[path = "rfc6455/peer.rs"]
mod peer;
#[path = "rfc6455/text.rs"]
mod text;

use std::collections::HashSet;
use std::time::Duration;

use peer::{Case, Server};
use support::deadline::within;
use support::link::{Link, Receive};

/// What the RFC's cases come to; more are welcome, fewer are not.
const CASES_MIN: usize = 250;

async fn run(cases: Vec<Case>) {
    let server = Server::start(Duration::from_secs(60)).await;
    let mut failures = Vec::new();
    for case in &cases {
        if let Err(failure) = within(&case.name, case.run(server.echo)).await {
            failures.push(format!("{}: {failure}", case.name));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[tokio::test]
async fn frames_are_read_as_section_5_2_and_5_3_say() {
    run(framing::cases()).await;
}

#[tokio::test]
async fn fragments_are_put_together_as_section_5_4_says() {
    run(fragments::cases()).await;
}

#[tokio::test]
async fn control_frames_are_answered_as_section_5_5_says() {
    run(control::cases()).await;
}

#[tokio::test]
async fn text_is_utf8_as_section_8_1_says() {
    run(text::cases()).await;
}

#[tokio::test]
async fn connections_are_closed_as_section_7_says() {
    run(closing::cases()).await;
}

#[tokio::test]
async fn the_handshake_is_as_section_4_says() {
    let server = Server::start(Duration::from_secs(60)).await;
    let mut failures = Vec::new();
    for case in handshake::cases() {
        for (place, address) in [("/", server.echo), ("/v1/ws", server.door)] {
            if let Err(failure) = within(case.name, case.run(address, place)).await {
                failures.push(format!("{} at {place}: {failure}", case.name));
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// RFC 6455 §10.4: a message whose fragments trickle would be held for ever.
#[tokio::test]
async fn a_message_that_trickles_ends_by_its_deadline() {
    let server = Server::start(Duration::from_millis(100)).await;
    let trickling = [
        ("a message without its end", peer::frame(0x01, b"to be contin")),
        ("a payload without its end", peer::frame(0x81, b"half")[..8].to_vec()),
        ("a header without its end", vec![0x81]),
        ("a ping without its end", peer::frame(0x89, b"half")[..8].to_vec()),
        (
            "a message with pings between",
            [peer::frame(0x01, b"a"), peer::frame(0x89, b"")].concat(),
        ),
    ];
    for (name, bytes) in trickling {
        let mut peer = peer::open(server.echo).await.expect(name);
        peer.send(&bytes).await.expect(name);
        assert_eq!(within(name, close_code(&mut peer)).await, 4400, "{name}");
    }
    // One message after the other, each in time, may go on for as long as it likes, however they are cut.
    let mut peer = peer::open(server.echo).await.expect("a connection");
    let messages = [peer::frame(0x81, b"one"), peer::frame(0x81, b"two")].concat();
    let began = tokio::time::Instant::now();
    while began.elapsed() < Duration::from_millis(400) {
        peer.send(&messages[..12]).await.expect("room");
        peer.send(&messages[12..]).await.expect("room");
        for expected in ["one", "two"] {
            let got = within("an echo", peer::next(&mut peer)).await;
            assert_eq!(got.expect("a frame"), peer::Got::Text(expected.to_owned()));
        }
    }
}

/// A binary message is understood by the codec, and by no session.
#[tokio::test]
async fn a_session_takes_text_only() {
    let server = Server::start(Duration::from_secs(60)).await;
    let mut link = Link::connect(server.door, Receive::Usual).await.expect("a connection");
    link.send(&handshake::request("/v1/ws", &[])).await.expect("room");
    peer::switched(&mut link).await.expect("a WebSocket");
    link.send(&peer::frame(0x82, b"bytes")).await.expect("room");
    assert_eq!(within("an end", close_code(&mut link)).await, 1003);
}

/// The code of the close frame, whatever comes before it.
async fn close_code(link: &mut Link) -> u16 {
    loop {
        if let peer::Got::Close(code) = peer::next(link).await.expect("a close frame") {
            return code;
        }
    }
}

#[test]
fn there_are_as_many_cases_as_there_should_be_each_with_a_name_of_its_own() {
    let frames = [
        framing::cases(),
        fragments::cases(),
        control::cases(),
        text::cases(),
        closing::cases(),
    ];
    let mut names: Vec<String> = frames.into_iter().flatten().map(|case| case.name).collect();
    names.extend(handshake::cases().into_iter().map(|case| case.name.to_owned()));
    let distinct: HashSet<&String> = names.iter().collect();
    assert_eq!(distinct.len(), names.len());
    assert!(names.len() >= CASES_MIN, "{} cases", names.len());
    assert!(
        names
            .iter()
            .all(|name| name.starts_with(|first: char| first.is_ascii_digit()))
    );
}
