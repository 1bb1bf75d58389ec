//! Who published: users are named to their readers, on every transport; back ends and whoever comes are not.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::SocketAddr;

use serde_json::{Value, json};
use support::http::{self, Head};
use support::link::{Link, Receive};
use support::node::{Node, Setup};
use support::tokens::{SECRET, api_key, hash, token};
use support::websocket::WebSocket;

async fn ask(address: SocketAddr, request: &[u8]) -> (u16, Value) {
    let mut link = Link::connect(address, Receive::Usual).await.unwrap();
    link.send(request).await.unwrap();
    let head = Head::read(&mut link).await.unwrap().unwrap();
    let body = head.body().unwrap().read_to_end(&mut link).await.unwrap();
    (head.status, serde_json::from_slice(&body).unwrap())
}

fn publication(data: &str, key: &str) -> Vec<u8> {
    json!({"channel": "chat:1", "data": data, "idempotency_key": key})
        .to_string()
        .into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_named_and_a_back_end_is_not() {
    let node = Node::start(Setup::auth(&format!(
        r#"issuers = [{{ secret = "{SECRET}" }}]
        api_keys = [{{ name = "app", hash = "{}", scopes = ["publish"], channels = ["*"] }}]"#,
        hash(&api_key('P'))
    )));
    let grants = json!({"subscribe": ["chat:*"], "publish": ["chat:*"], "history": ["chat:*"]});
    let ada = token("ada \"l\" ü", 600, &grants);
    let bearer = format!("Bearer {ada}");
    let key = format!("Bearer {}", api_key('P'));
    let mut socket = WebSocket::open(node.address, Receive::Usual, &[("token", &ada)])
        .await
        .unwrap();
    assert_eq!(socket.push().await.unwrap().kind(), "welcome");
    let command = json!({"type": "publish", "id": 1, "channel": "chat:1", "data": "by WebSocket"});
    socket.command(&command).await.unwrap();
    assert_eq!(socket.push().await.unwrap().kind(), "published");
    for (authorization, data, key) in [
        (&bearer, "by HTTP", "k"),
        (&key, "by the app", "k"),
        (&key, "by the app", "k"),
    ] {
        let headers = [("authorization", authorization.as_str())];
        let request = http::post("/v1/publish", &headers, &publication(data, key));
        assert_eq!(ask(node.address, &request).await.0, 200);
    }
    let expected = json!([
        ["by WebSocket", {"user": "ada \"l\" ü"}],
        ["by HTTP", {"user": "ada \"l\" ü"}],
        ["by the app", null],
    ]);
    let headers = [("authorization", bearer.as_str())];
    for (target, pushes) in [
        ("/v1/poll?channel=chat:1&since=start&wait=0", "pushes"),
        ("/v1/history?channel=chat:1", "publications"),
    ] {
        let (_, answer) = ask(node.address, &http::get(target, &headers)).await;
        let of = |push: &Value| (push["type"] == "publication").then(|| json!([push["data"], push["sender"]]));
        let seen: Vec<_> = answer[pushes].as_array().unwrap().iter().filter_map(of).collect();
        assert_eq!(Value::from(seen), expected, "{answer}");
    }
}
