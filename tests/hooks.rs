//! The app decides: a real HTTP app is asked about clients on every transport, answers well, badly or not at all, and
//! counts how often it was asked.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use support::app::{App, Asked, Reply};
use support::deadline::{until, until_told, within};
use support::event_source::{Answer, EventSource};
use support::http::{self, Head};
use support::link::{Link, Receive};
use support::node::{Node, Setup, read_config};
use support::push::Push;
use support::tokens::{SECRET, Signer, api_key, forge, hash, token};
use support::websocket::{Said, WebSocket};
use throughline::session::limits::{Rate, RateSettings};
use tokio::sync::Semaphore;

const HANDSHAKE: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// A node whose app is asked at these moments, with more of `[hooks]`.
fn asking(app: &App, moments: &[&str], more: &str) -> Setup {
    let urls = moments
        .iter()
        .map(|moment| format!("{moment}_url = \"{}\"\n", app.url(moment)));
    let mut setup = Setup::auth(&format!(
        "leeway_s = 0\nissuers = [{{ secret = \"{SECRET}\" }}]\napi_keys = [{{ name = \"app\", hash = \"{}\", \
         scopes = [\"publish\", \"history\", \"operator\"], channels = [\"*\"] }}]",
        hash(&api_key('A'))
    ));
    setup.hooks = toml::from_str(&format!("{}{more}", urls.collect::<String>())).expect("[hooks] that can be read");
    setup
}

async fn ask(address: SocketAddr, request: &[u8]) -> (Head, Value) {
    let mut link = Link::connect(address, Receive::Usual).await.unwrap();
    link.send(request).await.unwrap();
    let head = Head::read(&mut link).await.unwrap().unwrap();
    if head.status == 101 || head.header("content-type").starts_with("text/event-stream") {
        return (head, Value::Null);
    }
    let body = head.body().unwrap().read_to_end(&mut link).await.unwrap();
    (head, serde_json::from_slice(&body).unwrap_or_default())
}

/// The routes by which a client comes.
const WAYS_IN: [&str; 4] = ["ws", "sse", "poll", "post-sse"];

fn come(way: &str, channel: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    match way {
        "ws" => http::get(&format!("/v1/ws?channel={channel}"), &[&HANDSHAKE, headers].concat()),
        "sse" => http::get(&format!("/v1/sse?channel={channel}"), headers),
        "poll" => http::get(&format!("/v1/poll?channel={channel}&wait=0"), headers),
        _ => {
            let body = json!({"channels": [channel]}).to_string();
            let headers = [&[("content-type", "application/json")], headers].concat();
            http::post("/v1/sse", &headers, body.as_bytes())
        }
    }
}

async fn status(node: &Node, way: &str, channel: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let (head, body) = ask(node.address, &come(way, channel, headers)).await;
    (head.status, body["code"].as_str().unwrap_or_default().to_owned())
}

fn let_in(way: &str) -> (u16, String) {
    (if way == "ws" { 101 } else { 200 }, String::new())
}

fn bearer(text: &str) -> String {
    format!("Bearer {text}")
}

/// What it says about a name: `ok…` may, everything else may not.
fn by_name(asked: &Asked) -> Reply {
    let channel = asked.body["channel"].as_str().unwrap_or("ok");
    Reply::json(&json!({"allow": channel.starts_with("ok")}))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_lets_in_and_keeps_out_on_every_transport() {
    let app = App::start(by_name).await;
    let node = Node::start(asking(&app, &["subscribe"], ""));
    for way in WAYS_IN {
        assert_eq!(status(&node, way, "ok:1", &[]).await, let_in(way), "{way}");
        let refused = (403, "forbidden".to_owned());
        assert_eq!(status(&node, way, "no:1", &[]).await, refused, "{way}");
    }
    let questions = app.questions();
    assert_eq!(
        questions,
        [
            json!({"type": "subscribe", "channel": "ok:1"}),
            json!({"type": "subscribe", "channel": "no:1"})
        ],
        "once for all four, while the answer holds"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_channels_each_is_asked_about_and_the_refused_are_told() {
    let app = App::start(by_name).await;
    let node = Node::start(asking(&app, &["subscribe"], ""));
    let query = [("channel", "no:1"), ("channel", "ok:1"), ("channel", "ok:2")];
    let mut socket = WebSocket::open_with(node.address, &query, &[]).await.unwrap();
    let mut stream = EventSource::open(node.address, Receive::Usual, &query).await.unwrap();
    let (mut pushes, mut events) = (Vec::new(), Vec::new());
    while pushes.len() < 4 {
        let push = socket.push().await.unwrap();
        pushes.push(format!("{} {} {}", push.kind(), push.channel(), push.text_of("code")));
    }
    while events.len() < 4 {
        let event = stream.event().await.unwrap();
        let push: Value = serde_json::from_str(&event.data).unwrap();
        let text = |name| push[name].as_str().unwrap_or_default().to_owned();
        events.push(format!("{} {} {}", event.kind, text("channel"), text("code")));
    }
    let expected = [
        "welcome  ",
        "unsubscribed no:1 forbidden",
        "subscribed ok:1 ",
        "subscribed ok:2 ",
    ];
    assert_eq!(pushes, expected);
    assert_eq!(events, expected);
    // The commands are asked about too, and a refused one leaves the connection alive.
    for (id, command, code) in [
        (1, json!({"type": "subscribe", "id": 1, "channel": "no:2"}), "forbidden"),
        (2, json!({"type": "subscribe", "id": 2, "channel": "ok:3"}), ""),
        (
            3,
            json!({"type": "unsubscribe", "id": 3, "channel": "ok:3"}),
            "requested",
        ),
        (4, json!({"type": "subscribe", "id": 4, "channel": "ok:3"}), ""),
    ] {
        socket.command(&command).await.unwrap();
        let reply = socket.push().await.unwrap();
        assert_eq!(
            (&reply.value["id"], reply.text_of("code")),
            (&json!(id), code),
            "{command}"
        );
    }
    assert_eq!(app.asked().len(), 5, "no answer was asked for twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_says_who_comes_and_what_they_may_do() {
    let app = App::start(|asked| match asked.header("cookie") {
        Some("session=ada") => Reply::json(&json!({
            "allow": true, "user": "ada",
            "grants": {"subscribe": ["chat:*"], "publish": ["chat:1"], "channels": ["user:ada"]},
        })),
        Some("session=old") => {
            Reply::json(&json!({"allow": false, "code": "unauthenticated", "message": "sign in again"}))
        }
        _ => Reply::json(&json!({"allow": false})),
    })
    .await;
    let node = Node::start(asking(&app, &["connect"], "forward_headers = [\"cookie\"]"));
    let origin = ("origin", "http://localhost");
    let ada = [("cookie", "session=ada"), origin];
    for way in WAYS_IN {
        assert_eq!(status(&node, way, "chat:1", &ada).await, let_in(way), "{way}");
        if way != "ws" {
            let old = [("cookie", "session=old"), origin];
            assert_eq!(
                status(&node, way, "chat:1", &old).await,
                (401, "unauthenticated".to_owned()),
                "{way}"
            );
            assert_eq!(
                status(&node, way, "chat:1", &[]).await,
                (403, "forbidden".to_owned()),
                "{way}"
            );
        }
    }
    // A browser is told on the connection, with the code that says what to do.
    for (cookie, word, close) in [
        ("session=old", "unauthenticated", 4401),
        ("session=x", "forbidden", 4403),
    ] {
        let headers = [("cookie", cookie), origin];
        let mut socket = WebSocket::open_with(node.address, &[("channel", "chat:1")], &headers)
            .await
            .unwrap();
        let push = socket.push().await.unwrap();
        assert_eq!((push.kind(), push.text_of("code")), ("closing", word));
        assert!(matches!(socket.next().await.unwrap(), Said::Closed { code, .. } if code == close));
    }
    // What was granted holds, and no more; what the server subscribes comes after what was named.
    let mut socket = WebSocket::open_with(node.address, &[("channel", "chat:1")], &ada)
        .await
        .unwrap();
    let kinds = [(); 3];
    let mut told = Vec::new();
    for () in kinds {
        let push = socket.push().await.unwrap();
        told.push(format!("{} {}", push.kind(), push.channel()));
    }
    assert_eq!(told, ["welcome ", "subscribed chat:1", "subscribed user:ada"]);
    for (command, code) in [
        (json!({"type": "publish", "channel": "chat:1", "data": 1}), ""),
        (json!({"type": "publish", "channel": "chat:2", "data": 1}), "forbidden"),
        (json!({"type": "subscribe", "channel": "news"}), "forbidden"),
    ] {
        socket.command(&command).await.unwrap();
        let mut push = socket.push().await.unwrap();
        if push.kind() == "publication" {
            push = socket.push().await.unwrap();
        }
        assert_eq!(push.text_of("code"), code, "{command} {push:?}");
    }
    // Over HTTP as well.
    let body = json!({"channel": "chat:1", "data": 2}).to_string();
    let (head, _) = ask(node.address, &http::post("/v1/publish", &ada, body.as_bytes())).await;
    assert_eq!(head.status, 200);
    let (head, _) = ask(node.address, &http::get("/v1/history?channel=chat:1", &ada)).await;
    assert_eq!(head.status, 403, "history was not granted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_verified_first_and_the_app_decides_about_whom_it_names() {
    let app = App::start(|asked| match asked.body["user"].as_str() {
        Some("ada") => Reply::json(&json!({"allow": true})),
        Some("bob") => Reply::json(&json!({"allow": true, "grants": {"subscribe": ["bob"]}})),
        Some("eve") => Reply::json(&json!({"allow": false, "code": "denied"})),
        Some("mallory") => Reply::json(&json!({"allow": true, "user": "ada"})),
        _ => Reply::json(&json!({"allow": true, "user": "guest", "grants": {"subscribe": ["lobby"]}})),
    })
    .await;
    let node = Node::start(asking(&app, &["connect"], ""));
    let of = |user| bearer(&token(user, 600, &json!({"subscribe": ["chat:*"]})));
    for (credential, channel, expected) in [
        (Some(of("ada")), "chat:1", 200),
        (Some(of("ada")), "bob", 403),
        // What the app grants stands instead of what the token does.
        (Some(of("bob")), "bob", 200),
        (Some(of("bob")), "chat:1", 403),
        (Some(of("eve")), "chat:1", 403),
        // The app may not make one user of another.
        (Some(of("mallory")), "chat:1", 503),
        (None, "lobby", 200),
        (None, "chat:1", 403),
    ] {
        let headers: Vec<_> = credential.iter().map(|value| ("authorization", &**value)).collect();
        assert_eq!(status(&node, "sse", channel, &headers).await.0, expected, "{channel}");
    }
    let asked = app.asked().len();
    // A token that is no good is refused, and nobody is asked.
    let forged = forge(
        r#"{"alg":"HS256"}"#,
        r#"{"sub":"ada","exp":9999999999}"#,
        Signer::Hmac(b"another secret"),
    );
    for bad in [bearer("x"), bearer(&forged), bearer(""), bearer(&api_key('Z'))] {
        for way in WAYS_IN {
            let refused = (401, "token_invalid".to_owned());
            assert_eq!(
                status(&node, way, "lobby", &[("authorization", &bad)]).await,
                refused,
                "{bad}"
            );
        }
    }
    // Nor is it about a back end, or about who only looks at the node.
    let key = bearer(&api_key('A'));
    let body = json!({"channel": "chat:1", "data": 1}).to_string();
    let published = http::post("/v1/publish", &[("authorization", &key)], body.as_bytes());
    assert_eq!(ask(node.address, &published).await.0.status, 200);
    assert_eq!(
        ask(node.address, &http::get("/metrics", &[("authorization", &key)]))
            .await
            .0
            .status,
        200
    );
    assert_eq!(ask(node.address, &http::get("/metrics", &[])).await.0.status, 401);
    assert_eq!(app.asked().len(), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_no_decision_keeps_everybody_out_and_lets_them_come_back() {
    let elsewhere = App::start(|_| Reply::json(&json!({"allow": true}))).await;
    let moved = elsewhere.url("subscribe");
    let long = format!("{{\"allow\":true{}}}", " ".repeat(700 * 1024));
    let replies: Vec<(&str, Reply)> = vec![
        ("a failure", Reply::status(500, "{\"allow\":true}")),
        ("another status", Reply::status(403, "{\"allow\":true}")),
        ("created", Reply::status(201, "{\"allow\":true}")),
        ("a page", Reply::status(200, "<html>signed out</html>")),
        ("nothing", Reply::status(200, "")),
        ("an empty object", Reply::status(200, "{}")),
        ("another word", Reply::status(200, "{\"allowed\":true}")),
        ("text", Reply::status(200, "{\"allow\":\"true\"}")),
        ("twice", Reply::status(200, "{\"allow\":false,\"allow\":true}")),
        (
            "what is unknown",
            Reply::status(200, "{\"allow\":true,\"unless\":\"tuesday\"}"),
        ),
        ("too much", Reply::status(200, &long)),
        (
            "deep",
            Reply::status(200, &format!("{{\"allow\":true,\"grants\":{}", "[".repeat(99))),
        ),
        ("a redirect", Reply::redirect(307, &moved)),
        ("an old redirect", Reply::redirect(302, &moved)),
        ("silence", Reply::Hang),
        ("half an answer", Reply::HangWithin("{\"allow\":")),
        ("an end in the middle", Reply::BreakOff),
    ];
    for (what, reply) in replies {
        let app = App::start(move |_| reply.clone()).await;
        for moment in ["connect", "subscribe"] {
            let node = Node::start(asking(&app, &[moment], "timeout_ms = 300"));
            for way in WAYS_IN {
                let (head, body) = ask(node.address, &come(way, "a", &[])).await;
                assert_eq!(
                    (head.status, &body["code"]),
                    (503, &json!("overloaded")),
                    "{what}, {moment}, {way}"
                );
                let retry_ms = body["retry_ms"].as_u64().unwrap();
                assert!((1000..3000).contains(&retry_ms), "{retry_ms}");
                assert!(!head.header("retry-after").is_empty());
            }
        }
        let node = Node::start(asking(&app, &["publish"], "timeout_ms = 300"));
        let body = json!({"channel": "a", "data": 1}).to_string();
        let (head, _) = ask(node.address, &http::post("/v1/publish", &[], body.as_bytes())).await;
        assert_eq!(head.status, 503, "{what}, publish");
    }
    assert_eq!(elsewhere.asked().len(), 0, "no redirect is followed");
    // Nobody at all.
    let gone = App::start(|_| Reply::Hang).await.gone().await;
    let node = Node::start(asking(&gone, &["connect"], ""));
    assert_eq!(status(&node, "sse", "a", &[]).await, (503, "overloaded".to_owned()));
    // A browser's own EventSource is told to come back, for a status would be final.
    let native = [("sec-fetch-mode", "cors"), ("accept", "text/event-stream")];
    let request = http::get("/v1/sse?channel=a", &native);
    let Answer::Stream(mut stream) = EventSource::request(node.address, Receive::Usual, &request)
        .await
        .unwrap()
    else {
        panic!("a stream");
    };
    let closing = stream.event().await.unwrap();
    assert_eq!(closing.kind, "closing");
    assert!(closing.data.contains("\"retry_ms\":"), "{closing:?}");
}

/// Of several channels the app says nothing about one: the others go on, a poll waits, and the one comes by itself when
/// the app has found its voice again.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_about_which_the_app_said_nothing_comes_when_it_says_something() {
    let has_voice = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let speaks = Arc::clone(&has_voice);
    let app = App::start(move |asked: &Asked| {
        if asked.body["channel"] == "late" && !speaks.load(Ordering::SeqCst) {
            return Reply::status(500, "");
        }
        Reply::json(&json!({"allow": true}))
    })
    .await;
    let node = Node::start(asking(&app, &["subscribe"], "cache_s = 0"));
    let query = [("channel", "late"), ("channel", "good")];
    let mut socket = WebSocket::open_with(node.address, &query, &[]).await.unwrap();
    let mut stream = EventSource::open(node.address, Receive::Usual, &query).await.unwrap();
    let (_, first) = ask(node.address, &http::get(&http::target("/v1/poll", &query), &[])).await;
    let told: Vec<_> = first["pushes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|push| push["type"].as_str().unwrap())
        .collect();
    assert_eq!(told, ["subscribed", "unsubscribed"]);
    for expected in ["welcome", "unsubscribed late overloaded", "subscribed good"] {
        let on_socket = socket.push().await.unwrap();
        let on_stream = Push::parse(stream.event().await.unwrap().data).unwrap();
        for push in [on_socket, on_stream] {
            let words = [push.kind(), push.channel(), push.text_of("code")];
            assert_eq!(words.join(" ").trim(), expected);
        }
    }
    let since = first["cursor"].as_str().unwrap();
    let waiting = [&query[..], &[("since", since), ("wait", "55")]].concat();
    let mut link = Link::connect(node.address, Receive::Usual).await.unwrap();
    let before = node.sessions();
    link.send(&http::get(&http::target("/v1/poll", &waiting), &[]))
        .await
        .unwrap();
    within("a poll that waits", async {
        while node.sessions() == before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    has_voice.store(true, Ordering::SeqCst);
    let on_socket = within("the channel", socket.push()).await.unwrap();
    let on_stream = within("the channel", stream.event()).await.unwrap();
    assert_eq!((on_socket.kind(), on_socket.channel()), ("subscribed", "late"));
    assert_eq!(on_stream.kind, "subscribed");
    assert_eq!(on_stream.id.unwrap().split('.').count(), 2, "the whole cursor");
    // The element was `now`, so that it begins is worth an answer.
    let head = within("the answer", Head::read(&mut link)).await.unwrap().unwrap();
    let body = head.body().unwrap().read_to_end(&mut link).await.unwrap();
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["pushes"].as_array().unwrap().len(), 1, "{answer}");
    assert_eq!(answer["pushes"][0]["channel"], "late");
    assert!(!answer["cursor"].as_str().unwrap().contains("now"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_sessions_are_one_question() {
    let gate = Arc::new(Semaphore::new(0));
    let app = App::start_gated(Arc::clone(&gate), |_| Reply::json(&json!({"allow": true}))).await;
    let node = Node::start(asking(&app, &["connect", "subscribe"], "timeout_ms = 10000"));
    let mut coming = tokio::task::JoinSet::new();
    for at in 0..1_000 {
        let (address, way) = (node.address, WAYS_IN[at % 3]);
        coming.spawn(async move { ask(address, &come(way, "a", &[])).await.0.status });
    }
    // All of them wait for one answer.
    within("the first question", app.count_reaches(1)).await;
    let metrics = || async { node.edge().node().metrics().to_text() };
    until_told("everybody", async || {
        value(&metrics().await, "hook=\"connect\",outcome=\"shared\"") >= 999
    })
    .await;
    assert_eq!(app.asked().len(), 1);
    gate.add_permits(2);
    while let Some(status) = within("everybody's answer", coming.join_next()).await {
        assert!(matches!(status.unwrap(), 101 | 200));
    }
    assert_eq!(app.asked().len(), 2, "one for `connect`, one for `subscribe`");
    let text = metrics().await;
    assert_eq!(value(&text, "hook=\"connect\",outcome=\"allowed\""), 1);
    assert_eq!(value(&text, "hook=\"subscribe\",outcome=\"allowed\""), 1);
    let later = ["shared", "cached"].map(|outcome| value(&text, &format!("hook=\"subscribe\",outcome=\"{outcome}\"")));
    assert!(later.iter().sum::<u64>() >= 999, "{later:?}");
}

/// A counter's value, by its labels.
fn value(metrics: &str, labels: &str) -> u64 {
    let line = metrics
        .lines()
        .find(|line| line.contains(labels) && line.starts_with("throughline_hook_calls_total"));
    line.map_or(0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
}

/// A clock that a test moves.
fn moved() -> (Arc<AtomicU64>, Arc<dyn Fn() -> Duration + Send + Sync>) {
    let ms = Arc::new(AtomicU64::new(0));
    let reads = Arc::clone(&ms);
    (
        ms,
        Arc::new(move || Duration::from_millis(reads.load(Ordering::SeqCst))),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_holds_for_its_time_and_not_longer() {
    let cache_s = Arc::new(Mutex::new(None::<u64>));
    let says = Arc::clone(&cache_s);
    let app = App::start(move |_| {
        Reply::json(&match *says.lock().unwrap() {
            None => json!({"allow": true}),
            Some(seconds) => json!({"allow": true, "cache_s": seconds}),
        })
    })
    .await;
    let (ms, clock) = moved();
    let mut setup = asking(&app, &["subscribe"], "cache_s = 10");
    setup.clock = Some(clock);
    let node = Node::start(setup);
    let mut asked = 0;
    // How far the clock goes on, what the app says from then on, and whether it is asked.
    for (forward_ms, says, is_asked) in [
        (0, None, true),
        (9_999, None, false),
        (1, Some(60), true),
        (59_999, Some(60), false),
        (1, Some(0), true),
        (0, Some(0), true),
        (0, None, true),
        (9_999, None, false),
    ] {
        ms.fetch_add(forward_ms, Ordering::SeqCst);
        *cache_s.lock().unwrap() = says;
        assert_eq!(status(&node, "poll", "a", &[]).await.0, 200);
        asked += usize::from(is_asked);
        assert_eq!(app.asked().len(), asked, "after {forward_ms} ms, {says:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_not_asked_about_again_at_once_and_is_over_when_it_is_over() {
    let is_well = Arc::new(Mutex::new(false));
    let says = Arc::clone(&is_well);
    let app = App::start(move |_| {
        if *says.lock().unwrap() {
            Reply::json(&json!({"allow": true}))
        } else {
            Reply::status(500, "")
        }
    })
    .await;
    let (ms, clock) = moved();
    let mut setup = asking(&app, &["connect"], "");
    setup.clock = Some(clock);
    let node = Node::start(setup);
    for _ in 0..5 {
        let (code, _) = status(&node, "poll", "a", &[]).await;
        assert_eq!(code, 503);
    }
    assert_eq!(app.asked().len(), 1);
    *is_well.lock().unwrap() = true;
    ms.fetch_add(1_000, Ordering::SeqCst);
    assert_ne!(status(&node, "poll", "a", &[]).await.0, 503);
    assert_eq!(app.asked().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_listed_goes_along_and_nothing_else() {
    let app = App::start(|_| Reply::json(&json!({"allow": true}))).await;
    let more = "forward_headers = [\"Cookie\", \"X-Device\"]\nforward_address = true\n\
                secret = \"a secret of the app and of this edge\"";
    let node = Node::start(asking(&app, &["connect", "subscribe"], more));
    let token = bearer(&token("ada", 600, &json!({})));
    let headers = [
        ("authorization", token.as_str()),
        ("cookie", "a=1; b=2"),
        ("cookie", "c=3"),
        ("x-device", "phone"),
        ("x-device", "seven"),
        ("x-other", "secret"),
        ("origin", "http://localhost"),
        ("x-forwarded-for", "198.51.100.1"),
    ];
    assert_eq!(status(&node, "ws", "a", &headers).await.0, 101);
    let asked = app.asked();
    assert_eq!(asked.len(), 2);
    for (asked, question) in asked.iter().zip([
        json!({"type": "connect", "user": "ada", "address": "127.0.0.1"}),
        json!({"type": "subscribe", "channel": "a", "user": "ada", "address": "127.0.0.1"}),
    ]) {
        assert_eq!(asked.body, question);
        let mut names: Vec<_> = asked.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "accept",
                "content-length",
                "content-type",
                "cookie",
                "host",
                "throughline-signature",
                "user-agent",
                "x-device",
                "x-device"
            ]
        );
        assert_eq!(asked.header("cookie"), Some("a=1; b=2; c=3"));
        let devices: Vec<_> = asked
            .headers
            .iter()
            .filter(|(name, _)| name == "x-device")
            .map(|(_, value)| &**value)
            .collect();
        assert_eq!(devices, ["phone", "seven"]);
        assert!(asked.is_signed_by(b"a secret of the app and of this edge"));
        assert!(!asked.is_signed_by(b"another secret of somebody else's app"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_stays_here_when_a_page_of_another_origin_sends_it() {
    let app = App::start(|asked| Reply::json(&json!({"allow": asked.header("cookie").is_some()}))).await;
    let node = Node::start(asking(&app, &["connect"], "forward_headers = [\"cookie\"]"));
    let refused = (403, "origin_refused".to_owned());
    let cookie = ("cookie", "session=ada");
    let (own, other) = (("origin", "http://localhost"), ("origin", "https://evil.example"));
    for (way, headers, expected) in [
        ("sse", vec![cookie, other], refused.clone()),
        ("ws", vec![cookie, other], refused.clone()),
        ("poll", vec![cookie, other], refused.clone()),
        ("post-sse", vec![cookie], refused.clone()),
        ("ws", vec![cookie], refused.clone()),
        ("sse", vec![cookie, ("sec-fetch-site", "cross-site")], refused),
    ] {
        assert_eq!(status(&node, way, "a", &headers).await, expected, "{way} {headers:?}");
    }
    assert!(app.asked().iter().all(|asked| asked.header("cookie").is_none()));
    let (code, _) = status(&node, "sse", "a", &[cookie, own]).await;
    assert_eq!(code, 401, "it came in as nobody in particular, who may do nothing");
    assert_eq!(app.asked().last().unwrap().header("cookie"), Some("session=ada"));
    // More than anybody should carry around.
    let long = "x".repeat(9 * 1024);
    let (code, _) = status(&node, "sse", "a", &[("cookie", &long), own]).await;
    assert_eq!(code, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn different_clients_never_share_an_answer() {
    let app = App::start(|asked| Reply::json(&json!({"allow": asked.header("x-key") == Some("good")}))).await;
    let node = Node::start(asking(&app, &["subscribe"], "forward_headers = [\"x-key\"]"));
    for _ in 0..3 {
        assert_eq!(status(&node, "poll", "a", &[("x-key", "good")]).await.0, 200);
        assert_eq!(status(&node, "poll", "a", &[("x-key", "bad")]).await.0, 403);
        assert_eq!(status(&node, "poll", "a", &[]).await.0, 403);
        assert_eq!(status(&node, "poll", "b", &[("x-key", "good")]).await.0, 200);
    }
    assert_eq!(app.asked().len(), 4);
}

/// What it says about a payload.
fn by_data(asked: &Asked) -> Reply {
    match asked.body["data"].as_str() {
        Some("bad") => Reply::json(&json!({"allow": false, "message": "not that word"})),
        Some("shout") => Reply::json(&json!({"allow": true, "data": {"text": "SHOUT"}, "event": "loud"})),
        Some("often") => Reply::json(&json!({"allow": true, "cache_s": 60})),
        _ => Reply::json(&json!({"allow": true})),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_reads_every_publication_and_may_change_it() {
    let app = App::start(by_data).await;
    let node = Node::start(asking(&app, &["subscribe", "publish"], ""));
    let mut socket = WebSocket::open_with(node.address, &[("channel", "a")], &[])
        .await
        .unwrap();
    while socket.push().await.unwrap().kind() != "subscribed" {}
    let mut publish = async |data: &str, event: &str| {
        let command = json!({"type": "publish", "id": 1, "channel": "a", "data": data, "event": event});
        socket.command(&command).await.unwrap();
        let mut told = Vec::new();
        loop {
            let push = socket.push().await.unwrap();
            told.push(match push.kind() {
                "publication" => format!("{} {}", push.value["event"], push.data.as_deref().unwrap_or_default()),
                "error" => format!("{} {}", push.text_of("code"), push.text_of("message")),
                other => other.to_owned(),
            });
            if told.len() == 2 || push.kind() == "error" {
                told.sort();
                return told;
            }
        }
    };
    assert_eq!(publish("good", "x").await, ["\"x\" \"good\"", "published"]);
    assert_eq!(publish("bad", "x").await, ["forbidden not that word"]);
    assert_eq!(
        publish("shout", "x").await,
        ["\"loud\" {\"text\":\"SHOUT\"}", "published"]
    );
    assert_eq!(publish("good", "x").await, ["\"x\" \"good\"", "published"]);
    let before = app.asked().len();
    assert_eq!(before, 1 + 4, "each by itself");
    // Unless the app says that it need not see more of them.
    for _ in 0..5 {
        publish("often", "x").await;
    }
    assert_eq!(app.asked().len(), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_each_is_asked_about_and_a_back_end_never_is() {
    let app = App::start(by_data).await;
    let node = Node::start(asking(&app, &["publish"], ""));
    let batch = json!([
        {"channel": "b", "data": "good"}, {"channel": "b", "data": "bad"}, {"channel": "b", "data": "shout"},
        {"channel": "b", "data": "last"},
    ])
    .to_string();
    let (_, answer) = ask(node.address, &http::post("/v1/publish", &[], batch.as_bytes())).await;
    let codes: Vec<_> = (0..4)
        .map(|at| answer["results"][at]["error"]["code"].as_str().unwrap_or("stored"))
        .collect();
    assert_eq!(codes, ["stored", "forbidden", "stored", "stored"]);
    let before = app.asked().len();
    let key = bearer(&api_key('A'));
    let headers = [("authorization", key.as_str())];
    let (_, answer) = ask(node.address, &http::get("/v1/history?channel=b", &headers)).await;
    let data: Vec<_> = answer["publications"]
        .as_array()
        .unwrap()
        .iter()
        .map(|each| each["data"].clone())
        .collect();
    assert_eq!(data, [json!("good"), json!({"text": "SHOUT"}), json!("last")]);
    let body = json!({"channel": "b", "data": "bad"}).to_string();
    assert_eq!(
        ask(node.address, &http::post("/v1/publish", &headers, body.as_bytes()))
            .await
            .0
            .status,
        200
    );
    assert_eq!(app.asked().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_when_the_app_said_and_no_cached_answer_goes_beyond() {
    let expires_ms = Arc::new(AtomicU64::new(support::tokens::now_s() * 1000 + 3_000));
    let says = Arc::clone(&expires_ms);
    let app = App::start(move |_| {
        let expires_at = says.load(Ordering::SeqCst);
        Reply::json(&json!({"allow": true, "user": "ada", "grants": {"subscribe": ["*"]}, "expires_at": expires_at, "cache_s": 3600}))
    })
    .await;
    let mut setup = asking(&app, &["connect"], "");
    setup.timings.heartbeat_ms = 1_600;
    let node = Node::start(setup);
    let mut socket = WebSocket::open_with(node.address, &[("channel", "a")], &[])
        .await
        .unwrap();
    let mut kinds = Vec::new();
    let close = loop {
        match socket.next().await.unwrap() {
            Said::Push(push) if push.kind() == "heartbeat" => {}
            Said::Push(push) => kinds.push(format!("{} {}", push.kind(), push.text_of("code"))),
            Said::Closed { code, .. } => break code,
        }
    };
    assert_eq!(kinds, ["welcome ", "subscribed ", "expiring ", "closing token_expired"]);
    assert_eq!(close, 4401);
    // Come back, it is asked again; and if it still says the same time, that is over.
    assert_eq!(status(&node, "sse", "a", &[]).await, (401, "token_expired".to_owned()));
    expires_ms.store((support::tokens::now_s() + 600) * 1000, Ordering::SeqCst);
    assert_eq!(status(&node, "sse", "a", &[]).await.0, 200);
}

/// Two ways to let somebody in by a slip: seconds for milliseconds, and a grant that a second one overrules.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_cannot_be_meant_lets_nobody_in() {
    let now_s = support::tokens::now_s();
    for answer in [
        format!(
            r#"{{"allow":true,"user":"ada","grants":{{"subscribe":["*"]}},"expires_at":{}}}"#,
            now_s + 600
        ),
        r#"{"allow":true,"user":"ada","grants":{"subscribe":["b"],"subscribe":["*"]}}"#.to_owned(),
    ] {
        let says = answer.clone();
        let app = App::start(move |_| Reply::Whole(200, says.clone())).await;
        let node = Node::start(asking(&app, &["connect"], ""));
        assert_eq!(
            status(&node, "sse", "a", &[]).await,
            (503, "overloaded".to_owned()),
            "{answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_does_not_wait_for_an_app_that_hangs() {
    let app = App::start(|asked| {
        if asked.body["channel"] == "hang" {
            Reply::Hang
        } else {
            Reply::json(&json!({"allow": true}))
        }
    })
    .await;
    let mut node = Node::start(asking(&app, &["subscribe"], "timeout_ms = 3000"));
    let mut socket = WebSocket::open_with(node.address, &[("channel", "a")], &[])
        .await
        .unwrap();
    while socket.push().await.unwrap().kind() != "subscribed" {}
    socket
        .command(&json!({"type": "subscribe", "id": 1, "channel": "hang"}))
        .await
        .unwrap();
    let (address, hanging) = (node.address, http::get("/v1/sse?channel=hang", &[]));
    let other = tokio::spawn(async move { ask(address, &hanging).await.0.status });
    within("the question", app.count_reaches(2)).await;
    node.begin_shutdown();
    let mut told = Vec::new();
    loop {
        match socket.next().await.unwrap() {
            Said::Push(push) => told.push(format!("{} {}", push.kind(), push.text_of("code"))),
            Said::Closed { code, .. } => {
                assert_eq!(code, 1012);
                break;
            }
        }
    }
    // What was asked before is answered before the end.
    assert_eq!(told, ["error overloaded", "closing draining"]);
    assert_eq!(other.await.unwrap(), 503);
    node.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_different_questions_asks_no_more_than_a_few_at_once() {
    let gate = Arc::new(Semaphore::new(0));
    let app = App::start_gated(Arc::clone(&gate), |_| Reply::json(&json!({"allow": true}))).await;
    let node = Node::start(asking(&app, &["subscribe"], "timeout_ms = 10000\nin_flight_max = 4"));
    let mut coming = tokio::task::JoinSet::new();
    for at in 0..100 {
        let (address, channel) = (node.address, format!("c{at}"));
        coming.spawn(async move { ask(address, &come("poll", &channel, &[])).await.0.status });
    }
    within("the first four", app.count_reaches(4)).await;
    gate.add_permits(1_000);
    while let Some(status) = within("all answers", coming.join_next()).await {
        assert_eq!(status.unwrap(), 200);
    }
    assert_eq!(app.asked().len(), 100);
    assert_eq!(app.most_at_once(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_app_may_take_the_place_of_one_while_the_edge_runs() {
    let (one, other) = (
        App::start(by_name).await,
        App::start(|_| Reply::json(&json!({"allow": false}))).await,
    );
    let mut setup = asking(&one, &["subscribe"], "cache_s = 3600");
    // Without tokens and keys all is open, but for the app.
    setup.auth = throughline::config::Auth::default();
    let (first, bytes_max) = (setup.hooks.clone(), setup.limits.publication_bytes_max);
    let node = Node::start(setup);
    let mut socket = WebSocket::open_with(node.address, &[("channel", "ok:1")], &[])
        .await
        .unwrap();
    while socket.push().await.unwrap().kind() != "subscribed" {}
    let publish = http::post("/v1/publish", &[], br#"{"channel":"ok:1","data":1}"#);
    assert_eq!(
        ask(node.address, &publish).await.0.status,
        401,
        "nothing is open where an app decides"
    );
    node.edge().set_hooks(
        throughline::config::Hooks {
            subscribe_url: Some(other.url("subscribe")),
            ..first.clone()
        }
        .settings(bytes_max),
    );
    assert_eq!(
        status(&node, "poll", "ok:1", &[]).await.0,
        403,
        "what was cached is forgotten"
    );
    socket
        .command(&json!({"type": "subscribe", "id": 1, "channel": "ok:2"}))
        .await
        .unwrap();
    assert_eq!(socket.push().await.unwrap().text_of("code"), "forbidden");
    node.edge().set_hooks(None);
    assert_eq!(
        ask(node.address, &publish).await.0.status,
        200,
        "no app, no issuer, no key: open"
    );
    assert_eq!(
        socket.push().await.unwrap().kind(),
        "publication",
        "the session went on"
    );
    node.edge().set_hooks(first.settings(bytes_max));
    assert_eq!(status(&node, "poll", "no:1", &[]).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn publications_that_wait_for_the_app_keep_nobody_from_coming() {
    let app = App::start(|asked| match asked.body["type"].as_str() {
        Some("publish") => Reply::Hang,
        _ => Reply::json(&json!({"allow": true})),
    })
    .await;
    let more = "timeout_ms = 10000\nin_flight_max = 1";
    let node = Node::start(asking(&app, &["connect", "subscribe", "publish"], more));
    let body =
        json!([{"channel": "a", "data": 1}, {"channel": "a", "data": 2}, {"channel": "b", "data": 3}]).to_string();
    let mut link = Link::connect(node.address, Receive::Usual).await.unwrap();
    link.send(&http::post("/v1/publish", &[], body.as_bytes()))
        .await
        .unwrap();
    within("the questions", app.count_reaches(2)).await;
    assert_eq!(
        app.questions()[1]["type"],
        "publish",
        "one of them hangs, and two wait for their turn"
    );
    for way in WAYS_IN {
        assert_eq!(status(&node, way, way, &[]).await, let_in(way), "{way}");
    }
    assert_eq!(
        app.questions()
            .iter()
            .filter(|asked| asked["type"] == "publish")
            .count(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_over_a_limit_is_no_question() {
    let app = App::start(|_| Reply::json(&json!({"allow": true, "grants": {"history": ["*"]}}))).await;
    let mut setup = asking(&app, &["connect"], "forward_headers = [\"x-key\"]");
    setup.rates = Some(RateSettings {
        ip_polls: Rate::new(1, 3),
        allow: Vec::new(),
        ..RateSettings::default()
    });
    let node = Node::start(setup);
    let mut statuses = Vec::new();
    for at in 0..6 {
        let key = at.to_string();
        let request = http::get("/v1/history?channel=a", &[("x-key", &key)]);
        statuses.push(ask(node.address, &request).await.0.status);
    }
    assert_eq!(statuses, [200, 200, 200, 429, 429, 429]);
    // What is no publication at all asks no question either.
    let (head, _) = ask(node.address, &http::post("/v1/publish", &[("x-key", "more")], b"x")).await;
    assert_eq!(head.status, 429);
    assert_eq!(app.asked().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_is_a_reason_to_ask_again() {
    let refused = Arc::new(Mutex::new(""));
    let says = Arc::clone(&refused);
    let app = App::start(move |asked| match *says.lock().unwrap() {
        "nobody" => Reply::status(500, ""),
        "connect" => Reply::json(&json!({"allow": asked.body["type"] != "connect"})),
        channel => Reply::json(&json!({"allow": asked.body["channel"] != channel})),
    })
    .await;
    let node = Node::start(asking(&app, &["connect", "subscribe"], "cache_s = 0"));
    let of = |seconds| token("ada", seconds, &json!({}));
    let (bearer, query) = (bearer(&of(600)), [("channel", "a"), ("channel", "b")]);
    let mut socket = WebSocket::open_with(node.address, &query, &[("authorization", &bearer)])
        .await
        .unwrap();
    for kind in ["welcome", "subscribed", "subscribed"] {
        assert_eq!(socket.push().await.unwrap().kind(), kind);
    }
    for (seconds, refuses, told) in [
        (601, "connect", vec!["error  forbidden"]),
        (602, "nobody", vec!["error  overloaded"]),
        (603, "b", vec!["refreshed  ", "unsubscribed b forbidden"]),
        (604, "", vec!["refreshed  "]),
    ] {
        *refused.lock().unwrap() = refuses;
        let command = json!({"type": "refresh", "id": 1, "token": of(seconds)});
        within("no failure that still holds", async {
            loop {
                socket.command(&command).await.unwrap();
                let first = socket.push().await.unwrap();
                let said = format!("{} {} {}", first.kind(), first.channel(), first.text_of("code"));
                if said == "error  overloaded" && told[0] != said {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
                assert_eq!(said, told[0], "{refuses}");
                break;
            }
        })
        .await;
        for expected in &told[1..] {
            let push = socket.push().await.unwrap();
            assert_eq!(
                format!("{} {} {}", push.kind(), push.channel(), push.text_of("code")),
                *expected
            );
        }
    }
    // What a refused refresh did not touch goes on.
    let body = json!({"channel": "a", "data": 1}).to_string();
    let key = format!("Bearer {}", api_key('A'));
    ask(
        node.address,
        &http::post("/v1/publish", &[("authorization", &key)], body.as_bytes()),
    )
    .await;
    assert_eq!(socket.push().await.unwrap().kind(), "publication");
}

/// At a refresh the app says nothing about the channels that the session has: they come back by themselves, and nothing is
/// lost; but not the one that the client has given up.
#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_about_which_the_app_says_nothing_loses_no_channel() {
    let has_voice = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let speaks = Arc::clone(&has_voice);
    let app = App::start(move |_| {
        if speaks.load(Ordering::SeqCst) {
            Reply::json(&json!({"allow": true}))
        } else {
            Reply::status(500, "")
        }
    })
    .await;
    let node = Node::start(asking(&app, &["subscribe"], "cache_s = 0"));
    let publish = async |data: u64| {
        let body = json!({"channel": "a", "data": data}).to_string();
        let key = bearer(&api_key('A'));
        let request = http::post("/v1/publish", &[("authorization", &key)], body.as_bytes());
        assert_eq!(ask(node.address, &request).await.0.status, 200);
    };
    let of = |seconds| token("ada", seconds, &json!({}));
    let (key, query) = (bearer(&of(600)), [("channel", "a"), ("channel", "b")]);
    let headers = [("authorization", key.as_str())];
    let mut socket = WebSocket::open_with(node.address, &query, &headers).await.unwrap();
    let told = async |socket: &mut WebSocket| {
        let push = within("what comes next", socket.push()).await.unwrap();
        let words = [
            push.kind(),
            push.channel(),
            push.text_of("code"),
            push.text_of("resume"),
        ];
        let words = words.into_iter().chain(push.data.as_deref());
        words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    };
    for expected in ["welcome", "subscribed a fresh", "subscribed b fresh"] {
        assert_eq!(told(&mut socket).await, expected);
    }
    publish(1).await;
    assert_eq!(told(&mut socket).await, "publication a 1");

    has_voice.store(false, Ordering::SeqCst);
    let refresh = json!({"type": "refresh", "id": 1, "token": of(601)});
    socket.command(&refresh).await.unwrap();
    for expected in ["refreshed", "unsubscribed a overloaded", "unsubscribed b overloaded"] {
        assert_eq!(told(&mut socket).await, expected);
    }
    publish(2).await;
    socket
        .command(&json!({"type": "unsubscribe", "id": 2, "channel": "b"}))
        .await
        .unwrap();
    assert_eq!(told(&mut socket).await, "unsubscribed b requested");
    has_voice.store(true, Ordering::SeqCst);
    for expected in ["subscribed a complete", "publication a 2"] {
        assert_eq!(told(&mut socket).await, expected);
    }
    publish(3).await;
    assert_eq!(told(&mut socket).await, "publication a 3");
}

/// Policies that change do not take away what the app has allowed, and nothing is asked again; but what is for nobody is
/// not for the app to allow.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_app_allowed_outlives_a_change_of_policies() {
    let app = App::start(by_name).await;
    let node = Node::start(asking(&app, &["subscribe"], ""));
    let read = |audience: &str| {
        let text = format!("[[namespaces]]\nname = \"ok\"\nsubscribe = \"{audience}\"\n");
        read_config(&text).policies()
    };
    let query = [("channel", "ok:1"), ("channel", "okay")];
    let mut socket = WebSocket::open_with(node.address, &query, &[]).await.unwrap();
    for kind in ["welcome", "subscribed", "subscribed"] {
        assert_eq!(socket.push().await.unwrap().kind(), kind);
    }
    for (audience, channel) in [("granted", "ok:1"), ("identified", "okay"), ("nobody", "okay")] {
        node.edge().node().set_policies(read(audience));
        if audience == "nobody" {
            let ended = socket.push().await.unwrap();
            assert_eq!((ended.kind(), ended.channel()), ("unsubscribed", "ok:1"));
            assert_eq!(status(&node, "poll", "ok:1", &[]).await, (403, "forbidden".to_owned()));
        }
        let body = json!({"channel": channel, "data": audience}).to_string();
        let key = bearer(&api_key('A'));
        let (head, answer) = ask(
            node.address,
            &http::post("/v1/publish", &[("authorization", &key)], body.as_bytes()),
        )
        .await;
        assert_eq!(head.status, 200, "{answer}");
        let push = socket.push().await.unwrap();
        assert_eq!((push.kind(), push.channel()), ("publication", channel));
    }
    assert_eq!(app.questions().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_to_ask_may_leave_and_the_others_have_their_answer() {
    let gate = Arc::new(Semaphore::new(0));
    let app = App::start_gated(Arc::clone(&gate), |_| Reply::json(&json!({"allow": true}))).await;
    let node = Node::start(asking(&app, &["subscribe"], "timeout_ms = 10000"));
    let mut first = Link::connect(node.address, Receive::Usual).await.unwrap();
    first.send(&come("sse", "a", &[])).await.unwrap();
    within("the question", app.count_reaches(1)).await;
    let (address, mut others) = (node.address, tokio::task::JoinSet::new());
    for way in WAYS_IN {
        others.spawn(async move { (way, ask(address, &come(way, "a", &[])).await.0.status) });
    }
    let waiting = "hook=\"subscribe\",outcome=\"shared\"";
    until("the others", || {
        value(&node.edge().node().metrics().to_text(), waiting) >= 4
    })
    .await;
    first.reset();
    gate.add_permits(1);
    while let Some(answered) = within("the others' answers", others.join_next()).await {
        let (way, status) = answered.unwrap();
        assert_eq!(status, let_in(way).0, "{way}");
    }
    assert_eq!(app.asked().len(), 1);
}
