//! Who may do what with which channel: every route and every command, by every kind of credential, by every audience,
//! where everything is open and where it is not. One table.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::SocketAddr;

use serde_json::{Value, json};
use support::http::{self, Head};
use support::link::{Link, Receive};
use support::node::{Node, Setup};
use support::tokens::{self, SECRET, api_key, hash, token};
use support::websocket::{Said, WebSocket};

/// A namespace for each audience, and one whose channels belong to users.
const NAMESPACES: &str = r#"
[[namespaces]]
name = "nobody"
subscribe = "nobody"
publish = "nobody"
history = "nobody"
presence = "nobody"
presence_on = true

[[namespaces]]
name = "granted"
presence_on = true

[[namespaces]]
name = "identified"
subscribe = "identified"
publish = "identified"
history = "identified"
presence = "identified"
presence_on = true

[[namespaces]]
name = "anyone"
subscribe = "anyone"
publish = "anyone"
history = "anyone"
presence = "anyone"
presence_on = true
"#;

const PERSONAL: &str = r#"
[[namespaces]]
name = "user"
personal = true
presence_on = true
"#;

/// Of each namespace one channel. `user:ada` is Ada's, and `user:ada:2` is not.
const CHANNELS: [&str; 6] = [
    "nobody:1",
    "granted:1",
    "identified:1",
    "anyone:1",
    "user:ada",
    "user:ada:2",
];

/// What is asked of each channel: to subscribe (by five ways), to publish (by three), to read its history, and to see who
/// is on it (by two each).
const WAYS: [(&str, &[&str]); 4] = [
    ("subscribe", &["GET sse", "POST sse", "GET poll", "ws", "command"]),
    ("publish", &["POST publish", "batch", "command"]),
    ("history", &["GET history", "command"]),
    ("presence", &["GET presence", "command"]),
];

fn auth() -> String {
    let key = |name: &str, character| {
        let hash = hash(&api_key(character));
        format!(r#"{{ name = "{name}", hash = "{hash}", scopes = ["{name}"], channels = ["*"] }}"#)
    };
    let keys = [
        key("publish", 'P'),
        key("history", 'H'),
        key("presence", 'S'),
        key("operator", 'O'),
        key("publish", 'C').replace("\"*\"", "\"granted:*\""),
    ];
    let keys = keys.join(",");
    format!("[auth]\nissuers = [{{ secret = \"{SECRET}\" }}]\napi_keys = [{keys}]\n")
}

async fn ask(address: SocketAddr, request: &[u8]) -> (u16, Value) {
    let mut link = Link::connect(address, Receive::Usual).await.unwrap();
    link.send(request).await.unwrap();
    let head = Head::read(&mut link).await.unwrap().unwrap();
    if head.status == 101 || head.header("content-type").starts_with("text/event-stream") {
        return (head.status, Value::Null);
    }
    let body = head.body().unwrap().read_to_end(&mut link).await.unwrap();
    assert_eq!(!head.header("www-authenticate").is_empty(), head.status == 401);
    (head.status, serde_json::from_slice(&body).unwrap_or_default())
}

/// The status that belongs to a word.
fn status_of(code: &str) -> u16 {
    match code {
        "" => 200,
        "forbidden" => 403,
        "unauthenticated" | "token_invalid" | "token_expired" => 401,
        other => panic!("{other} is not expected here"),
    }
}

/// By a command on a connection without channels, if one can be had; else by how that is refused.
async fn command(address: SocketAddr, headers: &[(&str, &str)], command: &Value) -> u16 {
    let Ok(mut socket) = WebSocket::open_with(address, &[], headers).await else {
        return ask(address, &handshake("", headers)).await.0;
    };
    assert_eq!(socket.push().await.unwrap().kind(), "welcome");
    socket.command(command).await.unwrap();
    loop {
        match socket.next().await.unwrap() {
            // What the server subscribes comes before.
            Said::Push(push) if push.value["id"] != 7 => {}
            Said::Push(push) => return status_of(push.text_of("code")),
            Said::Closed { code, reason } => panic!("closed with {code} {reason}"),
        }
    }
}

fn handshake(query: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let upgrade = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    http::get(&format!("/v1/ws{query}"), &[&upgrade, headers].concat())
}

async fn status(address: SocketAddr, (what, way): (&str, &str), channel: &str, headers: &[(&str, &str)]) -> u16 {
    let query = format!("?channel={channel}");
    let request = match way {
        "ws" => {
            let status = ask(address, &handshake(&query, headers)).await.0;
            return if status == 101 { 200 } else { status };
        }
        "command" => {
            let mut asked = json!({"type": what, "id": 7, "channel": channel});
            if what == "publish" {
                asked["data"] = json!(1);
            }
            return command(address, headers, &asked).await;
        }
        "POST sse" => {
            let body = json!({"channels": [channel]}).to_string();
            http::post("/v1/sse", headers, body.as_bytes())
        }
        "POST publish" => {
            let body = json!({"channel": channel, "data": 1}).to_string();
            http::post("/v1/publish", headers, body.as_bytes())
        }
        "batch" => {
            let body = json!([{"channel": channel, "data": 1}]).to_string();
            let (status, answer) = ask(address, &http::post("/v1/publish", headers, body.as_bytes())).await;
            let error = answer["results"][0]["error"]["code"].as_str();
            return if status == 200 {
                status_of(error.unwrap_or_default())
            } else {
                status
            };
        }
        _ => http::get(&format!("/v1/{}{query}", &way[4..]), headers),
    };
    ask(address, &request).await.0
}

async fn ask_for_what_is_no_channels(address: SocketAddr, name: &str, headers: &[(&str, &str)]) {
    let expected = match name {
        "an operator's key" => 200,
        "no credentials" | "garbage" | "an expired token" | "an unknown key" => 401,
        _ => 403,
    };
    let zoe = br#"{"user":"zoe","channel":"granted:1"}"#;
    for request in [
        http::get("/metrics", headers),
        http::get("/v1/channels", headers),
        http::post("/v1/disconnect", headers, br#"{"user":"zoe"}"#),
        http::post("/v1/unsubscribe", headers, zoe),
    ] {
        let told = ask(address, &request).await;
        let line = request.split(|byte| *byte == b'\r').next();
        assert_eq!(
            told.0,
            expected,
            "{name} {:?} {}",
            line.map(String::from_utf8_lossy),
            told.1
        );
    }
    assert_eq!(ask(address, &http::get("/livez", headers)).await.0, 200, "{name}");
}

/// Where something is for anyone, who shows nothing is let in; what a token would help with is a 401 for them, and what
/// no token opens a 403.
#[tokio::test(flavor = "multi_thread")]
async fn every_way_by_every_credential_and_audience() {
    let secured = Node::start(Setup::configured(&format!("{}{NAMESPACES}{PERSONAL}", auth())));
    let bearer = |text: String| format!("Bearer {text}");
    let all = json!({"subscribe": ["*"], "publish": ["*"], "history": ["*"], "presence": ["*"]});
    let (ada, bob) = (token("ada", 600, &all), token("bob", 600, &all));
    let nothing = token("ada", 600, &json!({}));
    let expired = tokens::forge(
        r#"{"alg":"HS256"}"#,
        r#"{"sub":"ada","exp":1000}"#,
        tokens::Signer::Hmac(SECRET.as_bytes()),
    );
    #[rustfmt::skip]
    let table = [
        //  nobody            granted           identified        anyone            user:ada          user:ada:2
        //  sub pub his pre   sub pub his pre   sub pub his pre   sub pub his pre   sub pub his pre   sub pub his pre
        ("no credentials", String::new(), "403 403 403 403   401 401 401 401   401 401 401 401   200 200 200 200   401 403 401 401   401 403 401 401"),
        ("garbage", bearer("x".into()), "401 401 401 401   401 401 401 401   401 401 401 401   401 401 401 401   401 401 401 401   401 401 401 401"),
        ("an expired token", bearer(expired), "401 401 401 401   401 401 401 401   401 401 401 401   401 401 401 401   401 401 401 401   401 401 401 401"),
        ("an unknown key", bearer(api_key('X')), "401 401 401 401   401 401 401 401   401 401 401 401   401 401 401 401   401 401 401 401   401 401 401 401"),
        ("Ada without grants", bearer(nothing), "403 403 403 403   403 403 403 403   200 200 200 200   200 200 200 200   200 403 200 200   403 403 403 403"),
        ("Ada with all", bearer(ada), "403 403 403 403   200 200 200 200   200 200 200 200   200 200 200 200   200 403 200 200   403 403 403 403"),
        ("Bob with all", bearer(bob), "403 403 403 403   200 200 200 200   200 200 200 200   200 200 200 200   403 403 403 403   403 403 403 403"),
        ("a publisher's key", bearer(api_key('P')), "403 200 403 403   403 200 403 403   403 200 403 403   403 200 403 403   403 200 403 403   403 200 403 403"),
        ("a narrow key", bearer(api_key('C')), "403 403 403 403   403 200 403 403   403 403 403 403   403 403 403 403   403 403 403 403   403 403 403 403"),
        ("a reader's key", bearer(api_key('H')), "403 403 200 403   403 403 200 403   403 403 200 403   403 403 200 403   403 403 200 403   403 403 200 403"),
        ("a key for presence", bearer(api_key('S')), "403 403 403 200   403 403 403 200   403 403 403 200   403 403 403 200   403 403 403 200   403 403 403 200"),
        ("an operator's key", bearer(api_key('O')), "403 403 403 403   403 403 403 403   403 403 403 403   403 403 403 403   403 403 403 403   403 403 403 403"),
    ];
    for (name, authorization, expected) in &table {
        let headers = [("authorization", authorization.as_str())];
        let headers = if authorization.is_empty() {
            &[][..]
        } else {
            &headers[..]
        };
        let mut expected = expected.split_whitespace().map(|status| status.parse::<u16>().unwrap());
        for channel in CHANNELS {
            for (what, ways) in WAYS {
                let expected = expected.next().unwrap();
                for way in ways {
                    let told = status(secured.address, (what, way), channel, headers).await;
                    assert_eq!(told, expected, "{what} {channel} by {way} with {name}");
                }
            }
        }
        assert_eq!(expected.next(), None);
    }
    // An operator's scope is needed for what is no channel's, and nothing for whether the server lives.
    for (name, authorization, _) in &table {
        let headers = [("authorization", authorization.as_str())];
        let headers = if authorization.is_empty() {
            &[][..]
        } else {
            &headers[..]
        };
        ask_for_what_is_no_channels(secured.address, name, headers).await;
    }
}

/// Without issuers and keys whoever comes holds every grant, whatever they show; what is for nobody stays so.
#[tokio::test(flavor = "multi_thread")]
async fn every_way_where_everything_is_open() {
    let open = Node::start(Setup::configured(NAMESPACES));
    for authorization in ["", "Bearer x", &format!("Bearer {}", api_key('P'))] {
        let headers = [("authorization", authorization)];
        let headers = if authorization.is_empty() {
            &[][..]
        } else {
            &headers[..]
        };
        for channel in ["nobody:1", "granted:1", "identified:1", "anyone:1", "other:1", "other"] {
            for (what, ways) in WAYS {
                // Where it is not kept who is there, nobody is told.
                let is_off = what == "presence" && channel.starts_with("other");
                let expected = if channel == "nobody:1" || is_off { 403 } else { 200 };
                for way in ways {
                    let told = status(open.address, (what, way), channel, headers).await;
                    assert_eq!(told, expected, "{what} {channel} by {way} with {authorization:?}");
                }
            }
        }
    }
}
