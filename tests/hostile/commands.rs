//! WebSocket clients whose frames are good and whose commands are not.

use serde_json::{Value, json};

use super::target::{GROWTH_KIB_MAX, Target};
use crate::support::deadline::within;
use crate::support::frames;
use crate::support::push::Push;
use crate::support::websocket::{Said, WebSocket};

/// The next push of a kind.
async fn next(socket: &mut WebSocket, kind: &str) -> Push {
    loop {
        let push = within(kind, socket.push()).await.expect("a push");
        if push.kind() == kind {
            return push;
        }
    }
}

async fn error(socket: &mut WebSocket, sent: &str) -> String {
    socket.link().send(&frames::text(sent)).await.expect("room");
    next(socket, "error").await.text_of("code").to_owned()
}

/// A command that is wrong is told so, and the connection lives on; again and again, and it does not.
#[tokio::test]
async fn commands_that_are_none() {
    let mut target = Target::start(&[]).await;
    let mut socket = target.websocket(&[]).await;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let long_id = format!(r#"{{"type":"ping","id":{}}}"#, "9".repeat(10_000));
    for (sent, code) in [
        ("{\"type\":", "bad_json"),
        (&deep, "bad_json"),
        (r#"{"type":"ping","type":"ping"}"#, "bad_json"),
        (r#"{"type":"subscribe","channel":"a b"}"#, "bad_channel"),
        (r#"{"type":"subscribe","channel":"a","since":"x"}"#, "bad_cursor"),
        (r#"{"type":"subscribe","channel":"a","since":"now.now"}"#, "bad_cursor"),
        (r#"{"type":"ping","id":"text"}"#, "bad_request"),
        (&long_id, "bad_request"),
        (r#"{"type":"dance"}"#, "unknown_command"),
        (r#"{"type":"unsubscribe","channel":"never"}"#, "not_subscribed"),
    ] {
        assert_eq!(error(&mut socket, sent).await, code, "{}", &sent[..sent.len().min(80)]);
    }
    for _ in 0..10 {
        socket.link().send(&frames::text("nonsense")).await.expect("room");
    }
    let code = loop {
        if let Said::Closed { code, .. } = within("a close", socket.next()).await.expect("a frame") {
            break code;
        }
    };
    assert_eq!(code, 4400);
    target.is_unharmed().await;
}

/// Each channel that is read costs the node something.
#[tokio::test]
async fn a_flood_of_channels() {
    let mut target = Target::start(&[]).await;
    let mut socket = target.websocket(&[]).await;
    for n in 0..128 {
        socket
            .command(&json!({"type": "subscribe", "channel": format!("c{n}"), "id": n}))
            .await
            .expect("room");
        next(&mut socket, "subscribed").await;
    }
    assert_eq!(
        error(&mut socket, r#"{"type":"subscribe","channel":"more"}"#).await,
        "too_many_channels"
    );
    target.is_unharmed().await;
}

/// What a subscription leaves behind would add up.
#[tokio::test]
async fn subscribing_and_unsubscribing_for_ever() {
    let mut target = Target::start(&[]).await;
    let mut socket = target.websocket(&[]).await;
    for _ in 0..5_000 {
        let both = [
            frames::text(r#"{"type":"subscribe","channel":"churn"}"#),
            frames::text(r#"{"type":"unsubscribe","channel":"churn"}"#),
        ];
        socket.link().send(&both.concat()).await.expect("room");
        next(&mut socket, "unsubscribed").await;
    }
    assert!(target.growth_kib() < GROWTH_KIB_MAX, "{} KiB", target.growth_kib());
    target.is_unharmed().await;
}

/// Sends commands and reads no reply, until the server reads no more; says how much memory it holds then.
async fn unread(target: &Target, command: &Value) -> u64 {
    let mut socket = target.websocket(&[]).await;
    let commands = frames::text(&command.to_string()).repeat(100);
    for _ in 0..2000 {
        let sending = tokio::time::timeout(std::time::Duration::from_secs(2), socket.link().send(&commands));
        if !matches!(sending.await, Ok(Ok(()))) {
            break;
        }
    }
    target.growth_kib()
}

/// Replies that nobody reads must not pile up: the session reads no further commands.
#[tokio::test]
async fn commands_without_reading_the_replies() {
    let mut target = Target::start(&[]).await;
    let growth = unread(&target, &json!({"type": "ping", "id": 1})).await;
    assert!(growth < GROWTH_KIB_MAX, "{growth} KiB");
    target.is_unharmed().await;
}

/// The same where a small command has a large answer.
#[tokio::test]
async fn history_without_reading_the_replies() {
    let mut target = Target::start(&[("THROUGHLINE_WINDOW__BYTES", "4000000")]).await;
    for _ in 0..8 {
        let body = json!({"channel": "large", "data": "x".repeat(200_000)}).to_string();
        assert_eq!(target.publish(&body).await.status, 200);
    }
    let growth = unread(
        &target,
        &json!({"type": "history", "channel": "large", "since": "start"}),
    )
    .await;
    assert!(growth < GROWTH_KIB_MAX, "{growth} KiB");
    target.is_unharmed().await;
}

/// The largest publications, from many clients at once, to one channel: its window holds what it may, and no more.
#[tokio::test]
async fn publications_of_the_greatest_size_by_many() {
    let mut target = Target::start(&[]).await;
    let body = json!({"channel": "big", "data": "x".repeat(256 * 1024 - 2)}).to_string();
    for _ in 0..10 {
        let publishing = (0..8).map(|_| target.publish(&body));
        for answer in futures_util::future::join_all(publishing).await {
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }
    let over = json!({"channel": "big", "data": "x".repeat(256 * 1024 - 1)}).to_string();
    target.publish(&over).await.is(413, "too_large");
    target.is_unharmed().await;
}
