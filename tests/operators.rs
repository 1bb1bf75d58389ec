//! What operators decide: whose sessions end, who is refused for how long, and which channels are followed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "a figure is shown")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::client::{self, Client, TRANSPORTS, ask, bearer, code_of, operate, read, token_of};
use support::deadline::{until, until_told, within};
use support::http;
use support::link::{Link, Receive};
use support::node::{Node, Setup};
use support::tokens::{Signer, api_key, encode, forge, hash, now_s, token};
use throughline::metrics::Transport;
use throughline::session::identity::Credential;
use throughline::session::limits::{Rate, RateSettings, Seat};
use throughline::session::presence::PresenceSettings;
use throughline::session::{Output, Session};

fn setup() -> Setup {
    Setup::auth(&client::auth())
}

/// What a client is told from here to its end.
async fn told(client: &mut Client) -> String {
    let what = "what an operator decided";
    match client {
        Client::Poll(_) => within(what, client.next()).await,
        Client::Ws(_) | Client::Sse(_) => {
            let mut told = within(what, client.next()).await;
            loop {
                let next = within(what, client.next()).await;
                if next.starts_with("closed") {
                    return told;
                }
                told = format!("{told}, {next}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_sent_away_and_refused_on_every_transport() {
    let node = Node::start(setup());
    let (ada, bob) = (token_of("ada"), token_of("bob"));
    let mut hers = Vec::new();
    let mut his = Vec::new();
    for transport in TRANSPORTS {
        hers.push(Client::open(node.address, transport, &ada, &["chat:1"]).await.unwrap());
        his.push(Client::open(node.address, transport, &bob, &["chat:1"]).await.unwrap());
    }
    // A poll waits by the time at which its request is read.
    until("six sessions", || node.sessions() == 6).await;
    let (status, answer) = operate(node.address, "/v1/disconnect", &json!({"user": "ada", "deny_s": 600})).await;
    assert_eq!((status, &answer["sessions"]), (200, &json!(3)), "{answer}");
    assert_eq!(answer["deny_s"], 600);
    assert!(answer["position"].as_str().unwrap().ends_with("-1"), "{answer}");
    for client in &mut hers {
        assert_eq!(told(client).await, "closing denied");
    }
    drop(hers);
    until("three sessions", || node.sessions() == 3).await;
    for transport in TRANSPORTS {
        // Another token does not help: it is the user who is refused.
        for token in [
            &ada,
            &support::tokens::token("ada", 60, &json!({"subscribe": ["chat:*"]})),
        ] {
            let refused = Client::open(node.address, transport, token, &["chat:1"]).await;
            assert_eq!(refused.unwrap_err(), "denied", "{transport}");
        }
        drop(Client::open(node.address, transport, &bob, &["chat:1"]).await.unwrap());
    }
    let bearer = bearer(&ada);
    let headers = [("authorization", bearer.as_str())];
    for request in [
        http::post("/v1/publish", &headers, br#"{"channel":"chat:1","data":1}"#),
        http::get("/v1/history?channel=chat:1", &headers),
        http::get("/v1/ws", &[&headers[..], &HANDSHAKE].concat()),
    ] {
        let (status, problem) = ask(node.address, &request).await;
        assert_eq!((status, &*code_of(&problem)), (403, "denied"));
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.contains("refused for 600 s") || detail.contains("refused for 59"),
            "{detail}"
        );
        assert_eq!(problem["retry_ms"], Value::Null);
    }
    // What was said last counts: nothing is refused any more.
    operate(node.address, "/v1/disconnect", &json!({"user": "ada"})).await;
    for transport in TRANSPORTS {
        Client::open(node.address, transport, &ada, &["chat:1"]).await.unwrap();
    }
    // He was there all along.
    let Client::Ws(socket) = &mut his[0] else {
        unreachable!()
    };
    socket.command(&json!({"type": "ping", "id": 1})).await.unwrap();
    assert_eq!(socket.push().await.unwrap().kind(), "pong");
}

const HANDSHAKE: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_is_closed_with_4403_or_asked_for_a_new_token() {
    let node = Node::start(setup());
    for (body, code, close_code) in [
        (json!({"user": "ada"}), "denied", 4403),
        (json!({"user": "ada", "code": "token_expired"}), "token_expired", 4401),
    ] {
        let mut client = Client::open(node.address, "ws", &token_of("ada"), &["a", "b"])
            .await
            .unwrap();
        let (_, answer) = operate(node.address, "/v1/disconnect", &body).await;
        assert_eq!(answer["sessions"], 1);
        assert_eq!(client.next().await, format!("closing {code}"));
        assert_eq!(client.next().await, format!("closed {close_code}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_over_when_its_time_has_come() {
    let node = Node::start(setup());
    let began = Instant::now();
    operate(node.address, "/v1/disconnect", &json!({"user": "ada", "deny_s": 2})).await;
    let denied = Client::open(node.address, "sse", &token_of("ada"), &["a"]).await;
    // On a machine that slept meanwhile there is nothing to be seen.
    if began.elapsed() < Duration::from_secs(2) {
        assert_eq!(denied.unwrap_err(), "denied");
    }
    until_told("the end of the refusal", async || {
        Client::open(node.address, "sse", &token_of("ada"), &["a"])
            .await
            .is_ok()
    })
    .await;
    assert!(began.elapsed() >= Duration::from_millis(1_900), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_ended_and_refused_and_the_others_stay() {
    let node = Node::start(setup());
    let ada = token_of("ada");
    let mut clients = Vec::new();
    for transport in TRANSPORTS {
        clients.push(
            Client::open(node.address, transport, &ada, &["chat:1", "chat:2"])
                .await
                .unwrap(),
        );
    }
    until("three sessions", || node.sessions() == 3).await;
    let body = json!({"user": "ada", "channel": "chat:1", "deny_s": 600});
    let (_, answer) = operate(node.address, "/v1/unsubscribe", &body).await;
    assert_eq!(answer["sessions"], 3, "{answer}");
    for client in &mut clients {
        assert_eq!(
            within("the end of a subscription", client.next()).await,
            "unsubscribed chat:1 denied"
        );
    }
    let publish = |channel: &str| {
        let bearer = bearer(&api_key('P'));
        let body = json!({"channel": channel, "data": 1}).to_string();
        http::post("/v1/publish", &[("authorization", &*bearer)], body.as_bytes())
    };
    for channel in ["chat:1", "chat:2"] {
        assert_eq!(ask(node.address, &publish(channel)).await.0, 200);
    }
    for client in &mut clients[..2] {
        assert_eq!(within("a publication", client.next()).await, "publication chat:2");
    }
    // Nobody comes back to it: not by a command, not by another connection, nor to read or write.
    let Client::Ws(socket) = &mut clients[0] else {
        unreachable!()
    };
    for command in [
        json!({"type": "subscribe", "channel": "chat:1"}),
        json!({"type": "publish", "channel": "chat:1", "data": 1}),
        json!({"type": "history", "channel": "chat:1"}),
    ] {
        socket.command(&command).await.unwrap();
        assert_eq!(socket.push().await.unwrap().text_of("code"), "denied", "{command}");
    }
    for transport in TRANSPORTS {
        let refused = Client::open(node.address, transport, &ada, &["chat:1"]).await;
        assert_eq!(refused.unwrap_err(), "denied", "{transport}");
        Client::open(node.address, transport, &ada, &["chat:2"]).await.unwrap();
    }
    operate(
        node.address,
        "/v1/unsubscribe",
        &json!({"user": "ada", "channel": "chat:1"}),
    )
    .await;
    Client::open(node.address, "sse", &ada, &["chat:1"]).await.unwrap();
}

/// The server subscribes it at connect; who has named nothing has come for something else, too.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_adds_and_is_refused_keeps_no_websocket_out() {
    let node = Node::start(setup());
    let ada = token("ada", 600, &json!({"subscribe": ["chat:*"], "channels": ["user:ada"]}));
    let body = json!({"user": "ada", "channel": "user:ada", "deny_s": 600});
    operate(node.address, "/v1/unsubscribe", &body).await;
    let mut client = Client::open(node.address, "ws", &ada, &[]).await.unwrap();
    assert_eq!(within("a push", client.next()).await, "unsubscribed user:ada denied");
    let Client::Ws(socket) = &mut client else {
        unreachable!()
    };
    let command = json!({"type": "subscribe", "channel": "chat:1"});
    socket.command(&command).await.unwrap();
    assert_eq!(socket.push().await.unwrap().text_of("type"), "subscribed");
    // The other transports would have nothing to wait for.
    for transport in ["sse", "poll"] {
        let refused = Client::open(node.address, transport, &ada, &[]).await;
        assert_eq!(refused.unwrap_err(), "denied", "{transport}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_sent_away_does_not_come_back_with_its_token() {
    let node = Node::start(setup());
    let (one, other) = (
        token_of("ada"),
        support::tokens::token("ada", 60, &json!({"subscribe": ["*"]})),
    );
    let open = async |token: &str| {
        let headers = [("authorization", &*bearer(token))];
        support::websocket::WebSocket::open_with(node.address, &[], &headers)
            .await
            .unwrap()
    };
    let mut first = open(&one).await;
    let mut second = open(&other).await;
    let welcome = first.push().await.unwrap();
    second.push().await.unwrap();
    let body = json!({"session": welcome.text_of("session"), "deny_s": 600});
    let (_, answer) = operate(node.address, "/v1/disconnect", &body).await;
    assert_eq!(answer["sessions"], 1);
    assert_eq!(first.push().await.unwrap().text_of("code"), "denied");
    for transport in TRANSPORTS {
        let refused = Client::open(node.address, transport, &one, &["a"]).await;
        assert_eq!(refused.unwrap_err(), "denied", "{transport}");
        Client::open(node.address, transport, &other, &["a"]).await.unwrap();
    }
    // The user's other session lives, but not with that token.
    second
        .command(&json!({"type": "refresh", "id": 1, "token": one}))
        .await
        .unwrap();
    assert_eq!(second.push().await.unwrap().text_of("code"), "denied");
    // A session that nobody has is nobody's.
    let nobody = json!({"session": "0".repeat(32), "deny_s": 60});
    assert_eq!(operate(node.address, "/v1/disconnect", &nobody).await.1["sessions"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_everything_is_open_a_session_can_be_sent_away_too() {
    let node = Node::start(Setup::default());
    let mut socket = support::websocket::WebSocket::open_with(node.address, &[("channel", "a")], &[])
        .await
        .unwrap();
    let session = socket.push().await.unwrap().text_of("session").to_owned();
    socket.push().await.unwrap();
    let body = json!({"session": session, "channel": "a", "deny_s": 600});
    assert_eq!(operate(node.address, "/v1/unsubscribe", &body).await.1["sessions"], 1);
    assert_eq!(socket.push().await.unwrap().text_of("code"), "denied");
    socket
        .command(&json!({"type": "subscribe", "channel": "a"}))
        .await
        .unwrap();
    assert_eq!(socket.push().await.unwrap().text_of("code"), "denied");
    operate(node.address, "/v1/disconnect", &json!({"session": session})).await;
    assert_eq!(socket.push().await.unwrap().text_of("code"), "denied");
}

/// An ES256 signature is a pair of numbers, (r, s), and (r, n - s) is as good: whoever has a token can write the other one
/// and has a second that says the same. It is refused like the first.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_is_refused_under_its_other_signature_too() {
    let operator = hash(&api_key('O'));
    let node = Node::start(Setup::auth(&format!(
        r#"leeway_s = 0
           issuers = [{{ public_key_file = "{{keys}}/ec.pub.pem" }}]
           api_keys = [{{ name = "operator", hash = "{operator}", scopes = ["operator"], channels = ["*"] }}]"#
    )));
    let claims = json!({"sub": "ada", "exp": now_s() + 600, "throughline": {"subscribe": ["*"]}}).to_string();
    let token = forge(r#"{"alg":"ES256"}"#, &claims, Signer::Ec);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let other = format!("{signed}.{}", encode(other_signature(&decode(signature))));
    assert_ne!(token, other);
    // Both are valid, or this would prove nothing.
    for token in [&token, &other] {
        Client::open(node.address, "sse", token, &["a"]).await.unwrap();
    }
    let mut socket =
        support::websocket::WebSocket::open_with(node.address, &[], &[("authorization", &*bearer(&token))])
            .await
            .unwrap();
    let session = socket.push().await.unwrap().text_of("session").to_owned();
    let body = json!({"session": session, "deny_s": 600});
    assert_eq!(operate(node.address, "/v1/disconnect", &body).await.0, 200);
    for transport in TRANSPORTS {
        for token in [&token, &other] {
            let refused = Client::open(node.address, transport, token, &["a"]).await;
            assert_eq!(refused.unwrap_err(), "denied", "{transport}");
        }
    }
}

fn decode(text: &str) -> Vec<u8> {
    base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text).unwrap()
}

/// (r, n - s), where n is the order of P-256's group.
fn other_signature(signature: &[u8]) -> Vec<u8> {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6,
        0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let mut other = signature.to_vec();
    let mut borrow = 0;
    for at in (0..32).rev() {
        let difference = i16::from(ORDER[at]) - i16::from(signature[32 + at]) - borrow;
        borrow = i16::from(difference < 0);
        other[32 + at] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    other
}

/// A poll over channels, with what the one before it has handed over.
async fn poll(node: &Node, token: Option<&str>, channels: &[&str], session: &str) -> (u16, Value) {
    let mut query: Vec<_> = channels.iter().map(|channel| ("channel", *channel)).collect();
    query.extend([("wait", "0"), ("session", session)]);
    let bearer = token.map(bearer);
    let headers: Vec<_> = bearer.iter().map(|bearer| ("authorization", &**bearer)).collect();
    ask(node.address, &http::get(&http::target("/v1/poll", &query), &headers)).await
}

fn session_of(answer: &(u16, Value)) -> String {
    assert_eq!(answer.0, 200, "{}", answer.1);
    answer.1["session"].as_str().expect("presence is on").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_polls_session_that_is_sent_away_does_not_come_back_and_nor_does_its_token() {
    let presence = Some(PresenceSettings::default());
    let node = Node::start(Setup { presence, ..setup() });
    let lived = |seconds| support::tokens::token("ada", seconds, &json!({"subscribe": ["*"]}));
    let (one, waiting, other) = (lived(100), lived(200), lived(300));
    // One that is on no poll at that moment.
    let session = session_of(&poll(&node, Some(&one), &["a"], "").await);
    let body = json!({"session": session, "deny_s": 600});
    let (status, answer) = operate(node.address, "/v1/disconnect", &body).await;
    assert_eq!((status, &answer["sessions"]), (200, &json!(0)), "{answer}");
    for session in [&*session, ""] {
        let (status, answer) = poll(&node, Some(&one), &["a"], session).await;
        assert_eq!((status, &answer["code"]), (403, &json!("denied")), "{answer}");
        assert_eq!(answer["retry_ms"], Value::Null);
    }
    for transport in TRANSPORTS {
        let refused = Client::open(node.address, transport, &one, &["a"]).await;
        assert_eq!(refused.unwrap_err(), "denied", "{transport}");
        Client::open(node.address, transport, &other, &["a"]).await.unwrap();
    }
    // One that waits.
    let answered = poll(&node, Some(&waiting), &["a"], "").await;
    let session = session_of(&answered);
    let (cursor, bearer) = (answered.1["cursor"].as_str().unwrap(), bearer(&waiting));
    let query = [
        ("channel", "a"),
        ("since", cursor),
        ("wait", "55"),
        ("session", &session),
    ];
    let mut link = Link::connect(node.address, Receive::Usual).await.unwrap();
    let before = node.sessions();
    link.send(&http::get(
        &http::target("/v1/poll", &query),
        &[("authorization", &bearer)],
    ))
    .await
    .unwrap();
    until("a poll that waits", || node.sessions() > before).await;
    let (_, answer) = operate(
        node.address,
        "/v1/disconnect",
        &json!({"session": session, "deny_s": 600}),
    )
    .await;
    assert_eq!(answer["sessions"], 1);
    assert_eq!(within("its end", Client::Poll(link).next()).await, "closing denied");
    for session in [&*session, ""] {
        assert_eq!(poll(&node, Some(&waiting), &["a"], session).await.0, 403);
    }
    // To anybody else it is no session. Whoever shows it as theirs is known by it, under whatever token.
    assert_eq!(poll(&node, Some(&token_of("bob")), &["a"], &session).await.0, 200);
    assert_eq!(poll(&node, Some(&other), &["a"], "").await.0, 200);
    for session in [&*session, ""] {
        assert_eq!(poll(&node, Some(&other), &["a"], session).await.0, 403);
    }
}

/// A poll is kept between two requests for as long as its lease, but not when there will be no next one.
#[tokio::test(flavor = "multi_thread")]
async fn a_poll_that_was_sent_away_is_on_no_list_any_more() {
    let presence = Some(PresenceSettings {
        lease: Duration::from_secs(600),
        debounce: Duration::from_millis(100),
        ..PresenceSettings::default()
    });
    let node = Node::start(Setup { presence, ..setup() });
    let ada = token_of("ada");
    let first = poll(&node, Some(&ada), &["room"], "").await;
    let session = session_of(&first);
    let (cursor, bearer_of_ada) = (first.1["cursor"].as_str().unwrap(), bearer(&ada));
    let query = [
        ("channel", "room"),
        ("since", cursor),
        ("wait", "55"),
        ("session", &session),
    ];
    let mut link = Link::connect(node.address, Receive::Usual).await.unwrap();
    let request = http::get(&http::target("/v1/poll", &query), &[("authorization", &bearer_of_ada)]);
    link.send(&request).await.unwrap();
    until("a poll that waits", || node.sessions() == 1).await;
    let watcher = support::tokens::token("bob", 60, &json!({"presence": ["*"]}));
    let count = async || {
        let bearer = bearer(&watcher);
        let request = http::get("/v1/presence?channel=room", &[("authorization", &bearer)]);
        ask(node.address, &request).await.1["count"].as_u64().unwrap()
    };
    assert_eq!(count().await, 1);
    operate(node.address, "/v1/disconnect", &json!({"session": session})).await;
    assert_eq!(within("its end", Client::Poll(link).next()).await, "closing denied");
    until_told("the end of its stay", async || count().await == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_polls_session_is_sent_away_from_one_channel_and_where_everything_is_open() {
    let presence = Some(PresenceSettings::default());
    let node = Node::start(Setup { presence, ..setup() });
    let ada = token_of("ada");
    let session = session_of(&poll(&node, Some(&ada), &["a", "b"], "").await);
    let body = json!({"session": session, "channel": "a", "deny_s": 600});
    assert_eq!(operate(node.address, "/v1/unsubscribe", &body).await.0, 200);
    for session in [&*session, ""] {
        let (status, answer) = poll(&node, Some(&ada), &["a", "b"], session).await;
        let told: Vec<_> = answer["pushes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|push| push["type"].as_str().unwrap())
            .collect();
        assert_eq!((status, told), (200, vec!["unsubscribed", "subscribed"]), "{answer}");
        assert_eq!(poll(&node, Some(&ada), &["a"], session).await.1["code"], "denied");
    }

    let node = Node::start(Setup {
        presence,
        ..Setup::default()
    });
    let session = session_of(&poll(&node, None, &["a"], "").await);
    operate(
        node.address,
        "/v1/disconnect",
        &json!({"session": session, "deny_s": 600}),
    )
    .await;
    let (status, answer) = poll(&node, None, &["a"], &session).await;
    assert_eq!((status, &answer["code"]), (403, &json!("denied")));
    // There is nothing else to know it by.
    assert_eq!(poll(&node, None, &["a"], "").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_operators_ask_and_what_they_ask_is_read_strictly() {
    let node = Node::start(setup());
    let (user, publisher) = (bearer(&token_of("ada")), bearer(&api_key('P')));
    for path in ["/v1/disconnect", "/v1/unsubscribe"] {
        for (credential, expected) in [(None, 401), (Some(&user), 403), (Some(&publisher), 403)] {
            let headers: Vec<_> = credential
                .iter()
                .map(|bearer| ("authorization", bearer.as_str()))
                .collect();
            let (status, _) = ask(node.address, &http::post(path, &headers, br#"{"user":"ada"}"#)).await;
            assert_eq!(status, expected, "{path} with {credential:?}");
        }
        let (status, problem) = read(node.address, path).await;
        assert_eq!((status, &*code_of(&problem)), (405, "method_not_allowed"));
    }
    for (path, body, code) in [
        ("/v1/disconnect", json!({}), "bad_request"),
        ("/v1/disconnect", json!([{"user": "ada"}]), "bad_json"),
        (
            "/v1/disconnect",
            json!({"user": "ada", "deny_s": 86_401}),
            "bad_request",
        ),
        ("/v1/disconnect", json!({"user": "ada", "denys": 600}), "bad_request"),
        (
            "/v1/disconnect",
            json!({"user": "ada", "channel": "chat:1"}),
            "bad_request",
        ),
        (
            "/v1/unsubscribe",
            json!({"user": "ada", "channel": "chat:1", "deny": 600}),
            "bad_request",
        ),
        ("/v1/unsubscribe", json!({"user": "ada"}), "bad_request"),
        (
            "/v1/unsubscribe",
            json!({"user": "ada", "channel": "$control"}),
            "bad_channel",
        ),
        ("/v1/disconnect", json!({"user": "x".repeat(20_000)}), "too_large"),
    ] {
        let (_, problem) = operate(node.address, path, &body).await;
        assert_eq!(code_of(&problem), code, "{path} {problem}");
    }
    let key = bearer(&api_key('O'));
    let headers = [("authorization", &*key), ("content-type", "text/plain")];
    let (status, _) = ask(node.address, &http::post("/v1/disconnect", &headers, b"{}")).await;
    assert_eq!(status, 415);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_are_limited_by_address_and_right_ones_by_key() {
    let mut setup = setup();
    setup.rates = Some(RateSettings {
        ip_publications: Rate::new(1, 20),
        key_publications: Rate::new(1, 3),
        ..RateSettings::default()
    });
    let node = Node::start(setup);
    let status = async |key: char| {
        let bearer = bearer(&api_key(key));
        let request = http::post("/v1/disconnect", &[("authorization", &bearer)], br#"{"user":"ada"}"#);
        ask(node.address, &request).await.0
    };
    let mut right = Vec::new();
    for _ in 0..5 {
        right.push(status('O').await);
    }
    assert_eq!(right, [200, 200, 200, 429, 429]);
    let mut wrong = Vec::new();
    for _ in 0..17 {
        wrong.push(status('X').await);
    }
    assert_eq!(wrong[..15], [401; 15]);
    assert_eq!(wrong[15..], [429; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_channel_is_out_of_reach_and_in_no_list() {
    let node = Node::start(Setup::default());
    operate(node.address, "/v1/disconnect", &json!({"user": "ada", "deny_s": 60})).await;
    let (status, problem) = read(node.address, "/v1/history?channel=$control").await;
    assert_eq!((status, &*code_of(&problem)), (400, "bad_channel"));
    let publish = http::post(
        "/v1/publish",
        &[],
        br#"{"channel":"$control","data":{"user":"bob","deny_s":9}}"#,
    );
    assert_eq!(code_of(&ask(node.address, &publish).await.1), "bad_channel");
    for path in ["sse", "poll"] {
        let (status, _) = read(node.address, &format!("/v1/{path}?channel=$control")).await;
        assert_eq!(status, 400);
    }
    let (_, answer) = read(node.address, "/v1/channels").await;
    assert_eq!(answer, json!({"channels": []}));
    let (_, answer) = read(node.address, "/v1/channels?prefix=$").await;
    assert_eq!(answer, json!({"channels": []}));
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_are_listed_by_name_page_by_page() {
    let node = Node::start(setup());
    let ada = token_of("ada");
    let mut clients = Vec::new();
    for channels in [&["chat:2", "chat:1"][..], &["chat:1"], &["news"], &["chat:10"]] {
        clients.push(Client::open(node.address, "ws", &ada, channels).await.unwrap());
    }
    let key = bearer(&api_key('P'));
    let publish = http::post(
        "/v1/publish",
        &[("authorization", &key)],
        br#"{"channel":"chat:1","data":1}"#,
    );
    let (_, published) = ask(node.address, &publish).await;
    let names = |answer: &Value| -> Vec<String> {
        let channels = answer["channels"].as_array().unwrap().iter();
        let shown =
            channels.map(|channel| format!("{} {}", channel["channel"].as_str().unwrap(), channel["subscriptions"]));
        shown.collect()
    };
    let (status, all) = read(node.address, "/v1/channels").await;
    assert_eq!(status, 200);
    assert_eq!(names(&all), ["chat:1 2", "chat:10 1", "chat:2 1", "news 1"]);
    assert_eq!(all["channels"][0]["top"], published["position"]);
    assert_eq!(all["next"], Value::Null);
    let (_, page) = read(node.address, "/v1/channels?prefix=chat:&limit=2").await;
    assert_eq!(
        (names(&page), &page["next"]),
        (vec!["chat:1 2".to_owned(), "chat:10 1".to_owned()], &json!("chat:10"))
    );
    let (_, page) = read(node.address, "/v1/channels?prefix=chat:&limit=2&after=chat:10").await;
    assert_eq!(
        (names(&page), &page["next"]),
        (vec!["chat:2 1".to_owned()], &Value::Null)
    );
    for bad in ["0", "-1", "x", "1.5"] {
        let (status, _) = read(node.address, &format!("/v1/channels?limit={bad}")).await;
        assert_eq!(status, 400, "{bad}");
    }
    let (status, _) = ask(
        node.address,
        &http::get("/v1/channels", &[("authorization", &bearer(&ada))]),
    )
    .await;
    assert_eq!(status, 403);
    drop(clients);
    until_told("channels that nobody follows", async || {
        read(node.address, "/v1/channels").await.1 == json!({"channels": []})
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_drains_takes_no_removals() {
    let node = Node::start(setup());
    node.refuse_sessions().await;
    let (status, problem) = operate(node.address, "/v1/disconnect", &json!({"user": "ada"})).await;
    assert_eq!((status, &*code_of(&problem)), (503, "draining"));
}

/// All of them, while each is told on a task of its own. The figure is printed; the bound is a hundred times as much.
#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_sessions_of_one_user_are_sent_away_in_bounded_time() {
    const SESSIONS: usize = 20_000;
    let node = Node::start(setup());
    let shown = Credential::Token(token_of("ada"));
    let ada = node.edge().node().identify(Some(&shown)).await.unwrap();
    let (ended, mut endings) = tokio::sync::mpsc::channel(SESSIONS);
    for _ in 0..SESSIONS {
        let opened = Session::open(
            node.edge().node(),
            Transport::WebSocket,
            Arc::clone(&ada),
            Seat::default(),
        );
        let (mut session, ended) = (opened.unwrap(), ended.clone());
        tokio::spawn(async move {
            if let Output::Ending(ending) = session.next().await {
                ended.send(ending.close_code).await.unwrap();
            }
        });
    }
    drop(ended);
    let other = Client::open(node.address, "ws", &token_of("bob"), &["a"])
        .await
        .unwrap();
    let began = Instant::now();
    let (_, answer) = operate(node.address, "/v1/disconnect", &json!({"user": "ada", "deny_s": 600})).await;
    let answered = began.elapsed();
    assert_eq!(answer["sessions"], SESSIONS, "{answer}");
    let mut count = 0;
    while let Some(code) = within("the end of a session", endings.recv()).await {
        assert_eq!(code, 4403);
        count += 1;
    }
    println!(
        "{SESSIONS} sessions: answered after {answered:?}, all ended after {:?}",
        began.elapsed()
    );
    assert_eq!(count, SESSIONS);
    until("one session", || node.sessions() == 1).await;
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_is_counted() {
    let node = Node::start(setup());
    let _client = Client::open(node.address, "ws", &token_of("ada"), &["a"])
        .await
        .unwrap();
    operate(node.address, "/v1/disconnect", &json!({"user": "ada", "deny_s": 60})).await;
    operate(
        node.address,
        "/v1/unsubscribe",
        &json!({"user": "bob", "channel": "a", "deny_s": 60}),
    )
    .await;
    let text = node.edge().node().metrics().to_text();
    for line in [
        "throughline_removals_total{verb=\"disconnect\"} 1",
        "throughline_removals_total{verb=\"unsubscribe\"} 1",
        "throughline_removed_sessions_total{verb=\"disconnect\"} 1",
        "throughline_removed_sessions_total{verb=\"unsubscribe\"} 0",
        "throughline_denials 2",
    ] {
        assert!(text.lines().any(|known| known == line), "{line}\n{text}");
    }
}
