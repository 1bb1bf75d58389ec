//! Who may do what: every route, by every kind of credential, where everything is open and where it is not; and what
//! becomes of a connection when its token ends.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::SocketAddr;

use serde_json::{Value, json};
use support::event_source::EventSource;
use support::event_stream::Item;
use support::http::{self, Head};
use support::link::{Link, Receive};
use support::node::{Node, Setup};
use support::tokens::{self, SECRET, api_key, hash, token};
use support::websocket::{Said, WebSocket};
use throughline::session::limits::{Rate, RateSettings};
use throughline::transport::Timings;

const HANDSHAKE: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

fn secured() -> Setup {
    let key = |name: &str, character, scopes: &str| {
        let hash = hash(&api_key(character));
        format!(r#"{{ name = "{name}", hash = "{hash}", scopes = [{scopes}], channels = ["chat:*"] }}"#)
    };
    let keys = [
        key("publisher", 'P', r#""publish""#),
        key("reader", 'H', r#""history""#),
        key("operator", 'O', r#""operator""#),
    ];
    let mut setup = Setup::auth(&format!(
        "leeway_s = 0\ncookie = \"session\"\nissuers = [{{ secret = \"{SECRET}\" }}]\napi_keys = [{}]",
        keys.join(",")
    ));
    // Of 32 ticks each: expiry is seen to within 50 ms.
    setup.timings = Timings {
        heartbeat_ms: 1_600,
        write_timeout_ms: 600_000,
    };
    setup
}

fn all_of_chat() -> Value {
    json!({"subscribe": ["chat:*"], "publish": ["chat:*"], "history": ["chat:*"]})
}

async fn ask(address: SocketAddr, request: Vec<u8>) -> (Head, Link) {
    let mut link = Link::connect(address, Receive::Usual).await.unwrap();
    link.send(&request).await.unwrap();
    let head = Head::read(&mut link).await.unwrap().unwrap();
    (head, link)
}

async fn problem(address: SocketAddr, request: Vec<u8>) -> (u16, Value) {
    let (head, mut link) = ask(address, request).await;
    let body = head.body().unwrap().read_to_end(&mut link).await.unwrap();
    (head.status, serde_json::from_slice(&body).unwrap_or_default())
}

const ROUTES: [&str; 11] = [
    "publish chat:1",
    "publish news",
    "history chat:1",
    "history news",
    "sse chat:1",
    "sse news",
    "poll chat:1",
    "ws chat:1",
    "ws news",
    "livez",
    "metrics",
];

fn request(route: &str, credential: &[(&str, &str)]) -> Vec<u8> {
    let (verb, channel) = route.split_once(' ').unwrap_or((route, ""));
    match verb {
        "publish" => {
            let body = json!({"channel": channel, "data": 1}).to_string();
            http::post("/v1/publish", credential, body.as_bytes())
        }
        "history" => http::get(&format!("/v1/history?channel={channel}"), credential),
        "sse" => http::get(&format!("/v1/sse?channel={channel}"), credential),
        "poll" => http::get(&format!("/v1/poll?channel={channel}"), credential),
        "ws" => {
            let headers = [&HANDSHAKE, credential].concat();
            http::get(&format!("/v1/ws?channel={channel}"), &headers)
        }
        _ => http::get(&format!("/{verb}"), credential),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_by_every_credential() {
    let open = Node::start(Setup::default());
    let secured = Node::start(secured());
    let bearer = |text: String| format!("Bearer {text}");
    let full = bearer(token("ada", 600, &all_of_chat()));
    let reader = bearer(token("bob", 600, &json!({"subscribe": ["chat:1"]})));
    let nothing = bearer(token("eve", 600, &json!({})));
    let expired = bearer(tokens::forge(
        r#"{"alg":"HS256"}"#,
        r#"{"sub":"ada","exp":1000}"#,
        tokens::Signer::Hmac(SECRET.as_bytes()),
    ));
    let (publisher, history, operator) = (bearer(api_key('P')), bearer(api_key('H')), bearer(api_key('O')));
    let unknown = bearer(api_key('X'));
    let header = |value| vec![("authorization", value)];
    // Of the routes, in their order; 101 and 200 let in.
    let all_401 = "401 401 401 401 401 401 401 401 401 200 401";
    let all_403 = "403 403 403 403 403 403 403 403 403 200 403";
    let table = [
        ("nothing", vec![], all_401),
        ("garbage", header("Bearer x"), all_401),
        ("an empty token", header("Bearer"), all_401),
        ("an expired token", header(&expired), all_401),
        ("a token", header(&full), "200 403 200 403 200 403 200 101 403 200 403"),
        (
            "a reader's token",
            header(&reader),
            "403 403 403 403 200 403 200 101 403 200 403",
        ),
        ("a token without grants", header(&nothing), all_403),
        (
            "a publisher's key",
            header(&publisher),
            "200 403 403 403 403 403 403 403 403 200 403",
        ),
        (
            "a reader's key",
            vec![("x-api-key", &history[7..])],
            "403 403 200 403 403 403 403 403 403 200 403",
        ),
        (
            "an operator's key",
            header(&operator),
            "403 403 403 403 403 403 403 403 403 200 200",
        ),
        ("an unknown key", header(&unknown), all_401),
    ];
    for (name, credential, expected) in &table {
        let expected = expected.split(' ').map(|status| status.parse::<u16>().unwrap());
        for (route, expected) in ROUTES.iter().zip(expected) {
            let (head, _) = ask(secured.address, request(route, credential)).await;
            assert_eq!(head.status, expected, "{route} with {name}");
            assert_eq!(
                !head.header("www-authenticate").is_empty(),
                expected == 401,
                "{route} with {name}"
            );
            let (head, _) = ask(open.address, request(route, credential)).await;
            let let_in = if route.starts_with("ws") { 101 } else { 200 };
            assert_eq!(head.status, let_in, "{route} with {name}, where everything is open");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_taken_from_every_place_and_never_echoed() {
    let node = Node::start(secured());
    let token = token("ada", 600, &all_of_chat());
    let offer = format!("bearer.{token}, throughline.v1");
    let headers = [&HANDSHAKE[..], &[("sec-websocket-protocol", offer.as_str())]].concat();
    let (head, _) = ask(node.address, http::get("/v1/ws?channel=chat:1", &headers)).await;
    assert_eq!(
        (head.status, head.header("sec-websocket-protocol")),
        (101, "throughline.v1")
    );
    let alone = format!("bearer.{token}");
    let headers = [&HANDSHAKE[..], &[("sec-websocket-protocol", alone.as_str())]].concat();
    let (status, body) = problem(node.address, http::get("/v1/ws?channel=chat:1", &headers)).await;
    assert_eq!((status, body["code"].as_str()), (400, Some("bad_request")), "{body}");
    assert!(body["detail"].as_str().unwrap().contains("throughline.v1"), "{body}");

    let body = json!({"channels": ["chat:1"], "token": token, "wait": 0}).to_string();
    let cookie = format!("a=b; session={token}");
    for (request, expected) in [
        (http::post("/v1/poll", &[], body.as_bytes()), 200),
        (http::get(&format!("/v1/poll?channel=chat:1&token={token}"), &[]), 200),
        (http::get("/v1/poll?channel=chat:1", &[("cookie", &cookie)]), 200),
        (
            http::get(
                "/v1/poll?channel=chat:1",
                &[("cookie", &cookie), ("origin", "http://localhost")],
            ),
            200,
        ),
        (
            http::get(
                "/v1/poll?channel=chat:1",
                &[("cookie", &cookie), ("origin", "http://evil.example")],
            ),
            403,
        ),
    ] {
        let (head, _) = ask(node.address, request).await;
        assert_eq!(head.status, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn some_refused_are_told_and_all_refused_is_a_refusal() {
    let node = Node::start(secured());
    let grants = json!({"subscribe": ["chat:1"], "channels": ["user:9", "user:7"]});
    let bearer = format!("Bearer {}", token("ada", 600, &grants));
    let headers = [("authorization", bearer.as_str())];
    let request = http::get("/v1/sse?channel=news&channel=chat:1", &headers);
    let mut stream = EventSource::send(node.address, Receive::Usual, &request).await.unwrap();
    let mut told = Vec::new();
    while told.len() < 5 {
        if let Some(Item::Event(event)) = stream.next().await.unwrap() {
            let push: Value = serde_json::from_str(&event.data).unwrap();
            told.push(format!(
                "{} {} {}",
                event.kind,
                push["channel"].as_str().unwrap_or("-"),
                push["code"]
            ));
        }
    }
    // What the token subscribes comes after what is named, sorted.
    assert_eq!(
        told,
        [
            "welcome - null",
            "unsubscribed news \"forbidden\"",
            "subscribed chat:1 null",
            "subscribed user:7 null",
            "subscribed user:9 null"
        ]
    );
    let mut socket = WebSocket::open_with(node.address, &[("channel", "news")], &headers)
        .await
        .unwrap();
    let mut kinds = Vec::new();
    while kinds.len() < 4 {
        let push = socket.push().await.unwrap();
        kinds.push(format!("{} {}", push.kind(), push.channel()));
    }
    assert_eq!(
        kinds,
        [
            "welcome ",
            "unsubscribed news",
            "subscribed user:7",
            "subscribed user:9"
        ]
    );
    // A command that is not granted is an error, and the connection lives on.
    for (command, expected) in [
        (json!({"type": "subscribe", "id": 1, "channel": "news"}), "forbidden"),
        (
            json!({"type": "publish", "id": 2, "channel": "chat:1", "data": 1}),
            "forbidden",
        ),
        (json!({"type": "history", "id": 3, "channel": "chat:1"}), "forbidden"),
        (json!({"type": "subscribe", "id": 4, "channel": "chat:1"}), ""),
    ] {
        socket.command(&command).await.unwrap();
        assert_eq!(socket.push().await.unwrap().text_of("code"), expected, "{command}");
    }
    // Of a batch, each has its own answer.
    let bearer = format!("Bearer {}", api_key('P'));
    let batch = json!([{"channel": "chat:1", "data": 1}, {"channel": "news", "data": 1}]).to_string();
    let request = http::post("/v1/publish", &[("authorization", &bearer)], batch.as_bytes());
    let (status, answer) = problem(node.address, request).await;
    assert_eq!(status, 200);
    assert_eq!(answer["results"][0]["duplicate"], false, "{answer}");
    assert_eq!(answer["results"][1]["error"]["code"], "forbidden", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_for_idempotency_belongs_to_its_publisher() {
    let node = Node::start(secured());
    let mut positions = Vec::new();
    for user in ["ada", "bob", "ada"] {
        let bearer = format!("Bearer {}", token(user, 600, &all_of_chat()));
        let body = json!({"channel": "chat:1", "data": 1, "idempotency_key": "k"}).to_string();
        let request = http::post("/v1/publish", &[("authorization", &bearer)], body.as_bytes());
        let (_, answer) = problem(node.address, request).await;
        positions.push((answer["position"].clone(), answer["duplicate"].clone()));
    }
    assert_ne!(positions[0].0, positions[1].0, "another publisher's key is another key");
    assert_eq!((&positions[2].0, &positions[2].1), (&positions[0].0, &json!(true)));
}

/// The kinds of what comes on a WebSocket until it is closed, and its close code.
async fn until_closed(socket: &mut WebSocket) -> (Vec<String>, u16) {
    let mut kinds = Vec::new();
    loop {
        match socket.next().await.unwrap() {
            Said::Push(push) if push.kind() == "heartbeat" => {}
            Said::Push(push) => kinds.push(format!("{} {}", push.kind(), push.text_of("code"))),
            Said::Closed { code, .. } => return (kinds, code),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_ends_with_its_token() {
    let node = Node::start(secured());
    let bearer = format!("Bearer {}", token("ada", 3, &all_of_chat()));
    let query = [("channel", "chat:1")];
    let opened = WebSocket::open_with(node.address, &query, &[("authorization", &bearer)]).await;
    let mut socket = opened.unwrap();
    let welcome = socket.push().await.unwrap();
    assert!(welcome.value["expires_at"].as_u64().unwrap() > tokens::now_s() * 1000);
    let (kinds, code) = until_closed(&mut socket).await;
    assert_eq!(kinds, ["subscribed ", "expiring ", "closing token_expired"]);
    assert_eq!(code, 4401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refreshed_websocket_goes_on_and_loses_what_it_may_no_longer_have() {
    let node = Node::start(secured());
    let bearer = format!("Bearer {}", token("ada", 3, &all_of_chat()));
    let query = [("channel", "chat:1"), ("channel", "chat:2")];
    let opened = WebSocket::open_with(node.address, &query, &[("authorization", &bearer)]).await;
    let mut socket = opened.unwrap();
    while socket.push().await.unwrap().kind() != "expiring" {}
    for (id, wrong, code) in [
        (1, "x".to_owned(), "token_invalid"),
        (2, token("eve", 600, &all_of_chat()), "forbidden"),
    ] {
        socket
            .command(&json!({"type": "refresh", "id": id, "token": wrong}))
            .await
            .unwrap();
        assert_eq!(socket.push().await.unwrap().text_of("code"), code);
    }
    let renewed = token("ada", 4, &json!({"subscribe": ["chat:2"]}));
    socket
        .command(&json!({"type": "refresh", "id": 3, "token": renewed}))
        .await
        .unwrap();
    let refreshed = socket.push().await.unwrap();
    assert_eq!((refreshed.kind(), &refreshed.value["id"]), ("refreshed", &json!(3)));
    assert!(refreshed.value["expires_at"].as_u64().unwrap() > tokens::now_s() * 1000);
    let ended = socket.push().await.unwrap();
    assert_eq!(
        (ended.kind(), ended.channel(), ended.text_of("code")),
        ("unsubscribed", "chat:1", "forbidden")
    );
    let (kinds, code) = until_closed(&mut socket).await;
    assert_eq!(
        (kinds, code),
        (vec!["expiring ".to_owned(), "closing token_expired".to_owned()], 4401)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_ends_with_its_token_and_loses_nothing() {
    let node = Node::start(secured());
    let short = format!("Bearer {}", token("ada", 3, &all_of_chat()));
    let request = http::get("/v1/sse?channel=chat:1", &[("authorization", &short)]);
    let mut stream = EventSource::send(node.address, Receive::Usual, &request).await.unwrap();
    let (mut kinds, mut cursor) = (Vec::new(), String::new());
    while let Some(item) = stream.next().await.unwrap() {
        if let Item::Event(event) = item {
            cursor = event.id.clone().unwrap_or(cursor);
            if event.kind != "heartbeat" {
                kinds.push(event.kind.clone());
            }
        }
    }
    assert_eq!(kinds, ["welcome", "subscribed", "expiring", "closing"]);
    // What came while nobody was there is there on return.
    let long = format!("Bearer {}", token("ada", 600, &all_of_chat()));
    let (head, _) = ask(node.address, request_with(&long)).await;
    assert_eq!(head.status, 200);
    let headers = [("authorization", long.as_str()), ("last-event-id", cursor.as_str())];
    let request = http::get("/v1/sse?channel=chat:1", &headers);
    let mut stream = EventSource::send(node.address, Receive::Usual, &request).await.unwrap();
    loop {
        let event = stream.event().await.unwrap();
        if event.kind == "message" {
            break;
        }
        assert_ne!(event.kind, "gap", "{event:?}");
    }
}

fn request_with(bearer: &str) -> Vec<u8> {
    request("publish chat:1", &[("authorization", bearer)])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_event_stream_ends_with_its_token_too() {
    let node = Node::start(secured());
    let short = format!("Bearer {}", token("ada", 2, &all_of_chat()));
    let long = format!("Bearer {}", token("bob", 600, &all_of_chat()));
    let request = http::get("/v1/sse?channel=chat:1", &[("authorization", &short)]);
    let mut stream = EventSource::send(node.address, Receive::Usual, &request).await.unwrap();
    let address = node.address;
    let publishing = tokio::spawn(async move {
        loop {
            ask(address, request_with(&long)).await;
        }
    });
    let mut last = String::new();
    while let Some(item) = stream.next().await.unwrap() {
        if let Item::Event(event) = item {
            last = event.kind;
        }
    }
    publishing.abort();
    assert_eq!(last, "closing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_ends_with_its_token() {
    let node = Node::start(secured());
    let bearer = format!("Bearer {}", token("ada", 4, &all_of_chat()));
    let mut cursor = "now".to_owned();
    let mut kinds = Vec::new();
    loop {
        let request = http::get(
            &format!("/v1/poll?channel=chat:1&wait=30&since={cursor}"),
            &[("authorization", &bearer)],
        );
        let (status, answer) = problem(node.address, request).await;
        if status == 401 {
            assert_eq!(answer["code"], "token_expired");
            break;
        }
        cursor = answer["cursor"].as_str().unwrap().to_owned();
        let pushes = answer["pushes"].as_array().unwrap();
        kinds.extend(pushes.iter().map(|push| push["type"].as_str().unwrap().to_owned()));
        assert!(kinds.len() < 10, "{kinds:?}");
    }
    // It was told while it waited, and the next poll waited for the end all the same.
    assert_eq!(kinds, ["subscribed", "expiring", "expiring", "closing"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_tell_users_and_keys_apart() {
    let boundless = Rate::new(0, 0);
    let mut setup = secured();
    setup.rates = Some(RateSettings {
        ip_publications: boundless,
        channel_publications: boundless,
        user_publications: Rate::new(1, 1),
        key_publications: Rate::new(1, 2),
        allow: Vec::new(),
        ..RateSettings::default()
    });
    let node = Node::start(setup);
    let bearer = |text: String| format!("Bearer {text}");
    let (ada, bob) = (token("ada", 600, &all_of_chat()), token("bob", 600, &all_of_chat()));
    let anew = token("ada", 500, &all_of_chat());
    for (credential, expected) in [
        (bearer(ada), 200),
        (bearer(anew), 429),
        (bearer(bob), 200),
        (bearer(api_key('P')), 200),
        (bearer(api_key('P')), 200),
        (bearer(api_key('P')), 429),
    ] {
        let (head, _) = ask(
            node.address,
            request("publish chat:1", &[("authorization", &credential)]),
        )
        .await;
        assert_eq!(head.status, expected);
    }
}
