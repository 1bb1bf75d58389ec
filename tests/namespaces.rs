//! What a namespace has of its own: window, size, rates, channels that belong to users; and what becomes of sessions
//! when policies change under them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use support::deadline::{until, within};
use support::event_source::{Answer, EventSource};
use support::http::{self, Head};
use support::link::{Link, Receive};
use support::node::{Node, Setup, read_config};
use support::poll::Poll;
use support::push::Push;
use support::redis::{Redis, engine_under};
use support::tokens::{SECRET, api_key, hash, token};
use support::websocket::{Said, WebSocket};
use throughline::delivery::{ChannelName, Draft, Engine, EngineError, Page, Published, Since, Tail};
use throughline::engine::redis::Prefix;
use throughline::engine::{MemoryEngine, System};
use tokio::sync::Semaphore;

/// An issuer, and a back end that may publish anywhere.
fn auth() -> String {
    let hash = hash(&api_key('P'));
    let key = format!(r#"{{ name = "app", hash = "{hash}", scopes = ["publish"], channels = ["*"] }}"#);
    format!("[auth]\nissuers = [{{ secret = \"{SECRET}\" }}]\napi_keys = [{key}]\n")
}

fn bearer(user: &str, grants: &Value) -> String {
    format!("Bearer {}", token(user, 600, grants))
}

async fn ask(node: &Node, request: &[u8]) -> (Head, Value) {
    let mut link = Link::connect(node.address, Receive::Usual).await.unwrap();
    link.send(request).await.unwrap();
    let head = Head::read(&mut link).await.unwrap().unwrap();
    let body = head.body().unwrap().read_to_end(&mut link).await.unwrap();
    (head, serde_json::from_slice(&body).unwrap())
}

async fn publish(node: &Node, channel: &str, data: &Value) -> (Head, Value) {
    let body = json!({"channel": channel, "data": data}).to_string();
    let key = format!("Bearer {}", api_key('P'));
    ask(
        node,
        &http::post("/v1/publish", &[("authorization", &key)], body.as_bytes()),
    )
    .await
}

/// What `start` gives on a channel, by each transport and by history.
async fn whole_windows(node: &Node, channel: &str) -> [Vec<u64>; 4] {
    let query = [("channel", channel), ("since", "start")];
    let datum = |push: &Value| push["data"].as_u64().unwrap();
    let (_, page) = ask(node, &http::get(&http::target("/v1/history", &query), &[])).await;
    let history: Vec<u64> = page["publications"].as_array().unwrap().iter().map(datum).collect();
    let last = *history.last().unwrap();

    let mut poll = Poll::new(node.address, Receive::Usual);
    poll.get(&query).await.unwrap();
    let polled = poll.answer().await.unwrap().pushes;
    let polled = polled.iter().filter(|push| push.kind() == "publication");
    let polled = polled
        .map(|push| push.data.as_ref().unwrap().parse().unwrap())
        .collect();

    let mut stream = EventSource::open(node.address, Receive::Usual, &query).await.unwrap();
    let mut streamed = Vec::new();
    while streamed.last() != Some(&last) {
        let event = stream.event().await.unwrap();
        if event.kind == "message" {
            streamed.push(datum(&serde_json::from_str(&event.data).unwrap()));
        }
    }
    let mut socket = WebSocket::open(node.address, Receive::Usual, &query).await.unwrap();
    let mut pushed: Vec<u64> = Vec::new();
    while pushed.last() != Some(&last) {
        let push = socket.push().await.unwrap();
        pushed.extend(push.data.map(|data| data.parse::<u64>().unwrap()));
    }
    [history, polled, streamed, pushed]
}

const WINDOWS: &str = r#"
window = { count = 3 }
[[namespaces]]
name = "short"
window = { count = 1 }
[[namespaces]]
name = "long"
window = { count = 5, age_s = 60 }
[[namespaces]]
name = "small"
window = { count = 5, bytes = 1 }
[[namespaces]]
name = "default"
window = { count = 2 }
[[namespaces]]
name = "*"
window = { count = 4 }
"#;

async fn keep_what_their_namespaces_say(engine: Option<Arc<dyn Engine>>) {
    let setup = Setup::configured(WINDOWS);
    let node = Node::start(Setup { engine, ..setup });
    for (channel, count) in [
        ("short:a", 1),
        ("long:a", 5),
        ("long:b:c", 5),
        ("default", 2),
        ("default:a", 2),
        // Names are compared byte by byte, and what has no table is as `*` says.
        ("Long:a", 4),
        ("other:a", 4),
        (":a", 4),
    ] {
        for n in 0..6 {
            let (head, answer) = publish(&node, channel, &json!(n)).await;
            assert_eq!(head.status, 200, "{answer}");
        }
        let expected: Vec<u64> = (6 - count..6).collect();
        for window in whole_windows(&node, channel).await {
            assert_eq!(window, expected, "{channel}");
        }
    }
    let (_, answer) = publish(&node, "small:a", &json!(1)).await;
    let (_, page) = ask(&node, &http::get("/v1/history?channel=small:a", &[])).await;
    assert_eq!((&page["publications"], &page["top"]), (&json!([]), &answer["position"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_in_memory_keep_what_their_namespaces_say() {
    keep_what_their_namespaces_say(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_in_redis_keep_what_their_namespaces_say() {
    let redis = Redis::start(&[]).await;
    let prefix = Prefix::parse("namespaces:").unwrap();
    let engine = engine_under(&redis.url(), prefix).await;
    keep_what_their_namespaces_say(Some(engine)).await;
}

/// A position that is forgotten is a gap, and one that is remembered is complete: each as long as its namespace says.
#[tokio::test(flavor = "multi_thread")]
async fn positions_live_as_long_as_their_namespaces_say() {
    let memory = Arc::new(MemoryEngine::new(Arc::new(System)));
    let setup = Setup::configured(
        r#"
        [[namespaces]]
        name = "fleeting"
        window = { age_s = 0, position_ttl_s = 0 }
        [[namespaces]]
        name = "lasting"
        window = { age_s = 0 }
        "#,
    );
    let node = Node::start(Setup {
        engine: Some(Arc::clone(&memory) as Arc<dyn Engine>),
        ..setup
    });
    for (channel, expected) in [("fleeting:a", "gap"), ("lasting:a", "complete")] {
        let (_, answer) = publish(&node, channel, &json!(1)).await;
        let position = answer["position"].as_str().unwrap().to_owned();
        // What is too old by a millisecond is gone at the next sweep, and what has nothing left at the one after it.
        let began = std::time::Instant::now();
        while began.elapsed() < std::time::Duration::from_millis(20) {
            tokio::task::yield_now().await;
            memory.sweep();
        }
        let query = [("channel", channel), ("since", &position)];
        let mut stream = EventSource::open(node.address, Receive::Usual, &query).await.unwrap();
        assert_eq!(stream.event().await.unwrap().kind, "welcome");
        let subscribed = stream.event().await.unwrap();
        let subscribed: Value = serde_json::from_str(&subscribed.data).unwrap();
        assert_eq!(subscribed["resume"], expected, "{channel}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_is_as_large_as_its_namespace_says() {
    let node = Node::start(Setup::configured(
        "[[namespaces]]\nname = \"small\"\npublication_bytes_max = 10\n",
    ));
    let (fits, too_large) = (json!("12345678"), json!("123456789"));
    for (channel, data, expected) in [
        ("small:a", &fits, 200),
        ("small:a", &too_large, 413),
        ("large:a", &too_large, 200),
    ] {
        let (head, answer) = publish(&node, channel, data).await;
        assert_eq!(head.status, expected, "{answer}");
        if expected == 413 {
            assert_eq!(answer["code"], "too_large");
            let detail = "`data` has 11 bytes; at most 10 are allowed in the namespace small";
            assert_eq!(answer["detail"], detail);
        }
    }
    // In a batch one that is too large stops no other, and the text of a raw body counts with its quotes.
    let batch = json!({"channels": ["small:a", "large:a"], "data": too_large}).to_string();
    let (_, answer) = ask(&node, &http::post("/v1/publish", &[], batch.as_bytes())).await;
    assert_eq!(answer["results"][0]["error"]["code"], "too_large", "{answer}");
    assert_eq!(answer["results"][1]["duplicate"], false, "{answer}");
    let text = [("content-type", "text/plain")];
    let raw = http::post("/v1/publish?channel=small:a", &text, b"123456789");
    assert_eq!(ask(&node, &raw).await.0.status, 413);
    let mut socket = WebSocket::open(node.address, Receive::Usual, &[]).await.unwrap();
    assert_eq!(socket.push().await.unwrap().kind(), "welcome");
    for (channel, kind, code) in [("small:a", "error", "too_large"), ("large:a", "published", "")] {
        let command = json!({"type": "publish", "id": 1, "channel": channel, "data": too_large});
        socket.command(&command).await.unwrap();
        let reply = socket.push().await.unwrap();
        assert_eq!((reply.kind(), reply.text_of("code")), (kind, code));
    }
    let (_, page) = ask(&node, &http::get("/v1/history?channel=small:a", &[])).await;
    assert_eq!(page["publications"].as_array().unwrap().len(), 1, "{page}");
}

/// The clock stands still: only bursts count.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_has_rates_of_its_own() {
    let text = format!(
        r#"{}
        [[namespaces]]
        name = "slow"
        channel_publications_per_s = 1
        channel_publications_burst = 2
        publish = "identified"
        [[namespaces]]
        name = "chat"
        user_publications_per_s = 1
        user_publications_burst = 3
        publish = "identified"
        [[namespaces]]
        name = "free"
        publish = "identified"
        "#,
        auth()
    );
    let node = Node::start(Setup::configured(&text));
    // By channel, over HTTP: the answer says how it stands.
    for (channel, expected) in [
        ("slow:a", 200),
        ("slow:a", 200),
        ("slow:a", 429),
        ("slow:b", 200),
        ("free:a", 200),
        ("free:a", 200),
        ("free:a", 200),
    ] {
        let (head, answer) = publish(&node, channel, &json!(1)).await;
        assert_eq!(head.status, expected, "{channel} {answer}");
        let policy = head.header("ratelimit-policy");
        let is_narrow = policy.contains("\"channel-publish\";q=2;");
        assert_eq!(is_narrow, channel.starts_with("slow:"), "{policy}");
        if expected == 429 {
            assert_eq!(answer["code"], "rate_limited");
            assert!(
                answer["detail"].as_str().unwrap().starts_with("channel-publish: "),
                "{answer}"
            );
        }
    }
    // By user, over WebSocket: in all channels of the namespace together, and nowhere else.
    let headers = bearer("ada", &json!({}));
    let opened = WebSocket::open_with(node.address, &[], &[("authorization", &headers)]).await;
    let mut socket = opened.unwrap();
    assert_eq!(socket.push().await.unwrap().kind(), "welcome");
    for (channel, code) in [
        ("chat:a", ""),
        ("chat:b", ""),
        ("free:a", ""),
        ("chat:c", ""),
        ("chat:d", "rate_limited"),
        ("free:a", ""),
    ] {
        let command = json!({"type": "publish", "id": 1, "channel": channel, "data": 1});
        socket.command(&command).await.unwrap();
        let reply = socket.push().await.unwrap();
        assert_eq!(reply.text_of("code"), code, "{channel}");
        assert_eq!(reply.value["retry_ms"].is_u64(), code == "rate_limited");
    }
    // Another user has another bucket, by whatever way it comes.
    for (user, expected) in [("bob", 200), ("ada", 429)] {
        let headers = bearer(user, &json!({}));
        let body = br#"{"channel":"chat:d","data":1}"#;
        let request = http::post("/v1/publish", &[("authorization", &headers)], body);
        assert_eq!(ask(&node, &request).await.0.status, expected, "{user}");
    }
}

const PERSONAL: &str = "[[namespaces]]\nname = \"user\"\npersonal = true\n";

/// The statuses with which each transport answers somebody who asks for a channel.
async fn three_statuses(node: &Node, channel: &str, authorization: &str) -> [u16; 3] {
    let headers = [("authorization", authorization)];
    let query = [("channel", channel), ("wait", "0")];
    let request = http::get(&http::target("/v1/sse", &query), &headers);
    let stream = EventSource::request(node.address, Receive::Usual, &request).await;
    let sse = match stream.unwrap() {
        Answer::Stream(_) => 200,
        Answer::Refusal(head, _) => head.status,
    };
    let (head, _) = ask(node, &http::get(&http::target("/v1/poll", &query), &headers)).await;
    let upgrade = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let mut link = Link::connect(node.address, Receive::Usual).await.unwrap();
    let request = http::get(&http::target("/v1/ws", &query), &[&upgrade[..], &headers].concat());
    link.send(&request).await.unwrap();
    let ws = Head::read(&mut link).await.unwrap().unwrap().status;
    [sse, head.status, ws]
}

/// Names that look like a user's channel, or that a careless comparison takes for it. The attacker's token grants all
/// that a token can.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_near_anothers_personal_channel() {
    // Unknown namespaces are shut, so that nothing that looks like `user:` is anywhere.
    let rest = "[[namespaces]]\nname = \"*\"\nsubscribe = \"nobody\"\npublish = \"nobody\"\nhistory = \"nobody\"\n";
    let node = Node::start(Setup::configured(&format!("{}{PERSONAL}{rest}", auth())));
    let all = json!({"subscribe": ["*", "user:7"], "history": ["*"], "publish": ["*"]});
    let own = |user: &str| {
        let mut all = all.clone();
        if user != "7" {
            all["channels"] = json!(["user:7"]);
        }
        bearer(user, &all)
    };
    for (channel, user, is_own) in [
        ("user:7", "7", true),
        ("user:7", "eve", false),
        ("user:7", "07", false),
        ("user:7", "7 ", false),
        ("user:7", ":7", false),
        ("user:7", "user:7", false),
        ("user:7", "*", false),
        ("user:7", "7*", false),
        ("user:7", "%37", false),
        // A longer name is another user's, whose `sub` has a colon.
        ("user:7:x", "7", false),
        ("user:7:x", "7:x", true),
        ("user::7", "7", false),
        ("user::7", ":7", true),
        ("user:", "7", false),
        // Case, and what Unicode calls the same.
        ("user:ada", "Ada", false),
        ("User:ada", "ada", false),
        ("USER:ada", "ada", false),
        ("user:\u{e9}", "e\u{301}", false),
        ("user:e\u{301}", "e\u{301}", true),
        ("user:\u{430}da", "ada", false),
        ("user\u{ff1a}7", "7", false),
        ("user:7\u{200b}", "7", false),
        ("\u{200b}user:7", "7", false),
        ("user.7", "7", false),
        // Encoded once too often: that is another name, and nobody's.
        ("user%3A7", "7", false),
        ("user:%37", "7", false),
    ] {
        let expected = if is_own { [200, 200, 101] } else { [403; 3] };
        let statuses = three_statuses(&node, channel, &own(user)).await;
        assert_eq!(statuses, expected, "{channel:?} by {user:?}");
        let headers = own(user);
        let query = [("channel", channel)];
        let request = http::get(&http::target("/v1/history", &query), &[("authorization", &headers)]);
        assert_eq!(
            ask(&node, &request).await.0.status,
            expected[0],
            "{channel:?} by {user:?}"
        );
        let body = json!({"channel": channel, "data": 1}).to_string();
        let request = http::post("/v1/publish", &[("authorization", &headers)], body.as_bytes());
        assert_eq!(ask(&node, &request).await.0.status, 403, "back ends publish there");
    }
    for bad in ["user:7 ", "user:*", "user:7\u{0}", " user:7", "user:7,8", "user:\"7\""] {
        assert_eq!(three_statuses(&node, bad, &own("7")).await, [400; 3], "{bad:?}");
    }
}

/// The kinds and channels of what comes on each transport, until so many are there.
async fn first_pushes(node: &Node, query: &[(&str, &str)], authorization: &str, count: usize) -> [Vec<String>; 3] {
    let headers = [("authorization", authorization)];
    let mut by_stream = Vec::new();
    let request = http::get(&http::target("/v1/sse", query), &headers);
    let mut stream = EventSource::send(node.address, Receive::Usual, &request).await.unwrap();
    while by_stream.len() < count {
        let event = stream.event().await.unwrap();
        let push: Value = serde_json::from_str(&event.data).unwrap();
        if event.kind != "welcome" {
            by_stream.push(format!("{} {}", event.kind, push["channel"].as_str().unwrap()));
        }
    }
    let mut socket = WebSocket::open_with(node.address, query, &headers).await.unwrap();
    let mut by_socket = Vec::new();
    while by_socket.len() < count {
        let push = socket.push().await.unwrap();
        if push.kind() != "welcome" {
            by_socket.push(format!("{} {}", push.kind(), push.channel()));
        }
    }
    let mut poll = Poll::new(node.address, Receive::Usual);
    let request = http::get(&http::target("/v1/poll", query), &headers);
    poll.ask(request).await.unwrap();
    let answer = poll.answer().await.unwrap();
    let by_poll = answer.pushes.iter();
    let by_poll = by_poll.map(|push| format!("{} {}", push.kind(), push.channel()));
    [by_stream, by_socket, by_poll.collect()]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_subscribes_each_user_to_their_own_channels() {
    let own = "personal = true\nsubscribe_at_connect = true\n";
    let text = format!(
        "{}[[namespaces]]\nname = \"user\"\n{own}[[namespaces]]\nname = \"inbox\"\n{own}",
        auth()
    );
    let node = Node::start(Setup::configured(&text));
    let ada = bearer("ada", &json!({"subscribe": ["news"], "channels": ["zoo", "user:ada"]}));
    // What is named, then what the token has, then what is the user's own; each sorted, each once.
    let expected = ["news", "user:ada", "zoo", "inbox:ada"].map(|channel| format!("subscribed {channel}"));
    for pushes in first_pushes(&node, &[("channel", "news")], &ada, 4).await {
        assert_eq!(pushes, expected);
    }
    // Nothing need be named, and a publication comes.
    let bob = bearer("b:ob", &json!({}));
    let headers = [("authorization", bob.as_str())];
    let expected = ["inbox:b:ob", "user:b:ob"].map(|channel| format!("subscribed {channel}"));
    for pushes in first_pushes(&node, &[], &bob, 2).await {
        assert_eq!(pushes, expected);
    }
    let request = http::get("/v1/sse", &headers);
    let mut stream = EventSource::send(node.address, Receive::Usual, &request).await.unwrap();
    while stream.event().await.unwrap().data.contains("inbox") {}
    assert_eq!(publish(&node, "user:b:ob", &json!("hi")).await.0.status, 200);
    loop {
        let event = stream.event().await.unwrap();
        if event.kind == "message" {
            assert!(event.data.contains("\"data\":\"hi\""), "{}", event.data);
            break;
        }
    }
    // Whose name cannot stand in a channel's has none, and is no worse off.
    let odd = bearer("a b", &json!({"subscribe": ["news"]}));
    for pushes in first_pushes(&node, &[("channel", "news")], &odd, 1).await {
        assert_eq!(pushes, ["subscribed news"]);
    }
    let (head, problem) = ask(&node, &http::get("/v1/poll", &[("authorization", &odd)])).await;
    assert_eq!((head.status, &problem["code"]), (400, &json!("bad_request")));
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("no channel is named") && detail.contains("`sub`"),
        "{detail}"
    );
}

const OPEN_NEWS: &str = "[[namespaces]]\nname = \"news\"\nsubscribe = \"anyone\"\nhistory = \"identified\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_one_gets_what_is_for_anyone_and_no_more() {
    let node = Node::start(Setup::configured(&format!("{}{OPEN_NEWS}", auth())));
    let mut socket = WebSocket::open_with(node.address, &[("channel", "news:1"), ("channel", "chat:1")], &[])
        .await
        .unwrap();
    let mut told = Vec::new();
    while told.len() < 3 {
        let push = socket.push().await.unwrap();
        told.push(format!("{} {} {}", push.kind(), push.channel(), push.text_of("code")));
    }
    assert_eq!(
        told,
        ["welcome  ", "subscribed news:1 ", "unsubscribed chat:1 unauthenticated"]
    );
    for (command, code) in [
        (
            json!({"type": "subscribe", "id": 1, "channel": "chat:1"}),
            "unauthenticated",
        ),
        (
            json!({"type": "history", "id": 1, "channel": "news:1"}),
            "unauthenticated",
        ),
        (
            json!({"type": "publish", "id": 1, "channel": "news:1", "data": 1}),
            "unauthenticated",
        ),
        // Who has come as nobody comes again as somebody.
        (
            json!({"type": "refresh", "id": 1, "token": token("ada", 600, &json!({}))}),
            "forbidden",
        ),
        (json!({"type": "subscribe", "id": 1, "channel": "news:2"}), ""),
    ] {
        socket.command(&command).await.unwrap();
        assert_eq!(socket.push().await.unwrap().text_of("code"), code, "{command}");
    }
    // A token that is wrong is refused, also where none is needed, and wherever it stands.
    for headers in [[("authorization", "Bearer x")], [("x-api-key", "tlk_x")]] {
        let (head, _) = ask(&node, &http::get("/v1/poll?channel=news:1", &headers)).await;
        assert_eq!(head.status, 401, "{headers:?}");
    }
    let (head, _) = ask(&node, &http::get("/v1/poll?channel=news:1&token=x", &[])).await;
    assert_eq!(head.status, 401);
    assert_eq!(ask(&node, &http::get("/metrics", &[])).await.0.status, 401);
    // A browser is told so that it comes back with a token.
    let origin = [("origin", "http://localhost")];
    let opened = WebSocket::open_with(node.address, &[("channel", "chat:1")], &origin).await;
    let mut socket = opened.unwrap();
    assert_eq!(socket.push().await.unwrap().text_of("code"), "unauthenticated");
    match socket.next().await.unwrap() {
        Said::Closed { code, .. } => assert_eq!(code, 4401),
        Said::Push(push) => panic!("{push:?}"),
    }
}

/// Policies that change under sessions: what is not allowed any more ends at once, on every transport, and stays shut;
/// what is still allowed goes on without a break.
#[tokio::test(flavor = "multi_thread")]
async fn new_policies_end_what_they_do_not_allow() {
    let open = "[[namespaces]]\nname = \"a\"\nsubscribe = \"identified\"\n[[namespaces]]\nname = \"b\"\nsubscribe = \"identified\"\n";
    let shut = open.replacen("identified", "nobody", 1);
    let node = Node::start(Setup::configured(&format!("{}{open}", auth())));
    let ada = bearer("ada", &json!({}));
    let headers = [("authorization", ada.as_str())];
    let query = [("channel", "a:1"), ("channel", "b:1")];
    let mut socket = WebSocket::open_with(node.address, &query, &headers).await.unwrap();
    for kind in ["welcome", "subscribed", "subscribed"] {
        assert_eq!(socket.push().await.unwrap().kind(), kind);
    }
    let request = http::get(&http::target("/v1/sse", &query), &headers);
    let mut stream = EventSource::send(node.address, Receive::Usual, &request).await.unwrap();
    for kind in ["welcome", "subscribed", "subscribed"] {
        assert_eq!(stream.event().await.unwrap().kind, kind);
    }
    let mut poll = Poll::new(node.address, Receive::Usual);
    poll.ask(http::get(&http::target("/v1/poll", &query), &headers))
        .await
        .unwrap();
    let cursor = poll.answer().await.unwrap().cursor;
    let waiting = [query[0], query[1], ("since", cursor.as_str())];
    poll.ask(http::get(&http::target("/v1/poll", &waiting), &headers))
        .await
        .unwrap();
    until("the poll to wait", || node.sessions() == 3).await;

    let policies = read_config(&format!("{}{shut}", auth())).policies();
    node.edge().node().set_policies(policies);
    let ended = socket.push().await.unwrap();
    let ended = (ended.kind(), ended.channel(), ended.text_of("code"));
    assert_eq!(ended, ("unsubscribed", "a:1", "forbidden"));
    let event = stream.event().await.unwrap();
    let push: Value = serde_json::from_str(&event.data).unwrap();
    assert_eq!((&*event.kind, &push["channel"]), ("unsubscribed", &json!("a:1")));
    let answer = within("the poll's answer", poll.answer()).await.unwrap();
    let told: Vec<_> = answer.pushes.iter().map(|push| (push.kind(), push.channel())).collect();
    assert_eq!(told, [("unsubscribed", "a:1")]);

    for channel in ["a:1", "b:1"] {
        assert_eq!(publish(&node, channel, &json!(1)).await.0.status, 200);
    }
    let next = socket.push().await.unwrap();
    assert_eq!((next.kind(), next.channel()), ("publication", "b:1"));
    assert!(stream.event().await.unwrap().data.contains("b:1"));
    assert_eq!(three_statuses(&node, "a:1", &ada).await, [403; 3]);
    assert_eq!(three_statuses(&node, "b:1", &ada).await, [200, 200, 101]);
    // A session that came before, and one that comes after, are told alike when it is shut altogether.
    let opened = WebSocket::open_with(node.address, &[("channel", "b:1")], &headers).await;
    let mut later = opened.unwrap();
    for kind in ["welcome", "subscribed"] {
        assert_eq!(later.push().await.unwrap().kind(), kind);
    }
    let text = format!("{}{}", auth(), open.replace("identified", "nobody"));
    node.edge().node().set_policies(read_config(&text).policies());
    for socket in [&mut socket, &mut later] {
        let ended = socket.push().await.unwrap();
        assert_eq!((ended.kind(), ended.channel()), ("unsubscribed", "b:1"));
        socket.command(&json!({"type": "ping", "id": 1})).await.unwrap();
        assert_eq!(socket.push().await.unwrap().kind(), "pong");
    }
}

/// An engine that lets nobody attach until the test says so.
#[derive(Debug)]
struct Held {
    memory: MemoryEngine,
    gate: Semaphore,
    waiting: AtomicUsize,
}

impl Engine for Held {
    fn publish<'a>(&'a self, batch: &'a [Draft]) -> BoxFuture<'a, Vec<Result<Published, EngineError>>> {
        self.memory.publish(batch)
    }

    fn history<'a>(
        &'a self,
        channel: &'a ChannelName,
        after: Since,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, EngineError>> {
        self.memory.history(channel, after, limit)
    }

    fn attach<'a>(&'a self, channel: &'a ChannelName) -> BoxFuture<'a, Result<Tail, EngineError>> {
        Box::pin(async move {
            // The node's own channel is there from the start: without it nobody is let in.
            if channel.as_str().starts_with('$') {
                return self.memory.attach(channel).await;
            }
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let _passed = self.gate.acquire().await.expect("it is never closed");
            self.memory.attach(channel).await
        })
    }
}

/// What was allowed when it was asked for and is not any more when it begins is told so right after it has begun.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_begins_while_policies_change_ends() {
    let open = "[[namespaces]]\nname = \"a\"\nsubscribe = \"identified\"\n";
    let engine = Arc::new(Held {
        memory: MemoryEngine::new(Arc::new(System)),
        gate: Semaphore::new(0),
        waiting: AtomicUsize::new(0),
    });
    let setup = Setup::configured(&format!("{}{open}", auth()));
    let node = Node::start(Setup {
        engine: Some(Arc::clone(&engine) as Arc<dyn Engine>),
        ..setup
    });
    let ada = bearer("ada", &json!({}));
    let headers = [("authorization", ada.as_str())];
    let query = [("channel", "a:1")];
    let mut socket = WebSocket::open_with(node.address, &query, &headers).await.unwrap();
    let mut command = WebSocket::open_with(node.address, &[], &headers).await.unwrap();
    let subscribe = json!({"type": "subscribe", "id": 1, "channel": "a:1"});
    command.command(&subscribe).await.unwrap();
    let request = http::get(&http::target("/v1/sse", &query), &headers);
    let address = node.address;
    let stream = tokio::spawn(async move { EventSource::send(address, Receive::Usual, &request).await });
    let mut poll = Poll::new(node.address, Receive::Usual);
    poll.ask(http::get(&http::target("/v1/poll", &query), &headers))
        .await
        .unwrap();
    until("all four to wait for the engine", || {
        engine.waiting.load(Ordering::SeqCst) == 4
    })
    .await;

    let shut = format!("{}{}", auth(), open.replace("identified", "nobody"));
    node.edge().node().set_policies(read_config(&shut).policies());
    engine.gate.add_permits(4);
    for socket in [&mut socket, &mut command] {
        for kind in ["welcome", "subscribed", "unsubscribed"] {
            assert_eq!(socket.push().await.unwrap().kind(), kind);
        }
    }
    let mut stream = stream.await.unwrap().unwrap();
    for kind in ["welcome", "subscribed", "unsubscribed"] {
        assert_eq!(stream.event().await.unwrap().kind, kind);
    }
    let answer = poll.answer().await.unwrap();
    let kinds: Vec<_> = answer.pushes.iter().map(Push::kind).collect();
    assert_eq!(kinds, ["subscribed", "unsubscribed"]);
}

/// Policies that change while sessions come: whoever was let in by those of before is told by those of after, so that in
/// the end nobody has what nobody may have.
#[tokio::test(flavor = "multi_thread")]
async fn no_session_slips_through_while_policies_change() {
    let open = "[[namespaces]]\nname = \"a\"\nsubscribe = \"anyone\"\n";
    let [open, shut] = [open.to_owned(), open.replace("anyone", "nobody")]
        .map(|text| read_config(&format!("{}{text}", auth())).policies());
    let setup = Setup::configured(&auth());
    let node = Arc::new(Node::start(Setup {
        policies: Some(open.clone()),
        ..setup
    }));
    let address = node.address;
    let reader = |n: usize| async move {
        // Where nothing is for anyone, the handshake is refused; so is it where all channels are.
        let query = [("channel", "a:1")];
        if n.is_multiple_of(2) {
            let Ok(mut socket) = WebSocket::open(address, Receive::Usual, &query).await else {
                return false;
            };
            while socket.push().await.unwrap().kind() != "unsubscribed" {}
        } else {
            let Ok(mut stream) = EventSource::open(address, Receive::Usual, &query).await else {
                return false;
            };
            while stream.event().await.unwrap().kind != "unsubscribed" {}
        }
        true
    };
    let readers: Vec<_> = (0..200).map(|n| tokio::spawn(reader(n))).collect();
    for turn in 0..100 {
        let policies = if turn % 2 == 0 { &open } else { &shut };
        node.edge().node().set_policies(policies.clone());
        tokio::task::yield_now().await;
    }
    // Those that are still to come are let in, and then it is shut for good.
    node.edge().node().set_policies(open);
    until("some to be in", || node.sessions() > 0).await;
    node.edge().node().set_policies(shut);
    let mut were_in = 0;
    for reader in readers {
        were_in += usize::from(within("a reader's end", reader).await.unwrap());
    }
    assert!(were_in > 0, "nobody was let in, so nothing was tried");
}

/// Whoever comes back with less may have less, whatever the position: on a stream by its cursor, on every poll, and on a
/// WebSocket by command.
#[tokio::test(flavor = "multi_thread")]
async fn a_resume_is_asked_about_like_a_beginning() {
    let node = Node::start(Setup::configured(&auth()));
    let position = publish(&node, "a:1", &json!(1)).await.1["position"].clone();
    let other = publish(&node, "b:1", &json!(1)).await.1["position"].clone();
    let (position, other) = (position.as_str().unwrap(), other.as_str().unwrap());
    publish(&node, "b:1", &json!(2)).await;
    let cursor = format!("{position}.{other}");
    let query = [("channel", "a:1"), ("channel", "b:1"), ("since", cursor.as_str())];
    let less = bearer("ada", &json!({"subscribe": ["b:*"]}));
    let headers = [("authorization", less.as_str())];
    let request = http::get(&http::target("/v1/sse", &query[..2]), &headers);
    let request = String::from_utf8(request).unwrap();
    let resumed = request.replacen("\r\n\r\n", &format!("\r\nlast-event-id: {cursor}\r\n\r\n"), 1);
    let mut stream = EventSource::send(node.address, Receive::Usual, resumed.as_bytes())
        .await
        .unwrap();
    let mut kinds = Vec::new();
    while kinds.last() != Some(&"message b:1".to_owned()) {
        let event = stream.event().await.unwrap();
        let push: Value = serde_json::from_str(&event.data).unwrap();
        kinds.push(format!(
            "{} {}",
            event.kind,
            push["channel"].as_str().unwrap_or_default()
        ));
    }
    assert_eq!(kinds, ["welcome ", "unsubscribed a:1", "subscribed b:1", "message b:1"]);
    let mut poll = Poll::new(node.address, Receive::Usual);
    poll.ask(http::get(&http::target("/v1/poll", &query), &headers))
        .await
        .unwrap();
    let answer = poll.answer().await.unwrap();
    let told: Vec<_> = answer.pushes.iter().map(|push| (push.kind(), push.channel())).collect();
    assert_eq!(told, [("unsubscribed", "a:1"), ("publication", "b:1")]);
    let mut socket = WebSocket::open_with(node.address, &[], &headers).await.unwrap();
    assert_eq!(socket.push().await.unwrap().kind(), "welcome");
    for (channel, since, kind) in [("a:1", position, "error"), ("b:1", other, "subscribed")] {
        let command = json!({"type": "subscribe", "id": 1, "channel": channel, "since": since});
        socket.command(&command).await.unwrap();
        assert_eq!(socket.push().await.unwrap().kind(), kind);
    }
    // With one channel alone, the refusal is the answer.
    assert_eq!(three_statuses(&node, "a:1", &less).await, [403; 3]);
}

/// A token that is renewed is asked for what the old one had, by the policy of each channel.
#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_is_judged_by_policies_too() {
    let text = "[[namespaces]]\nname = \"lobby\"\nsubscribe = \"identified\"\n";
    let node = Node::start(Setup::configured(&format!("{}{text}{PERSONAL}", auth())));
    let ada = bearer("ada", &json!({"subscribe": ["chat:*"]}));
    let query = [("channel", "lobby:1"), ("channel", "user:ada"), ("channel", "chat:1")];
    let opened = WebSocket::open_with(node.address, &query, &[("authorization", &ada)]).await;
    let mut socket = opened.unwrap();
    for _ in 0..4 {
        assert_ne!(socket.push().await.unwrap().kind(), "unsubscribed");
    }
    let renewed = token("ada", 600, &json!({}));
    socket
        .command(&json!({"type": "refresh", "id": 1, "token": renewed}))
        .await
        .unwrap();
    assert_eq!(socket.push().await.unwrap().kind(), "refreshed");
    let ended = socket.push().await.unwrap();
    assert_eq!((ended.kind(), ended.channel()), ("unsubscribed", "chat:1"));
    socket.command(&json!({"type": "ping", "id": 2})).await.unwrap();
    assert_eq!(socket.push().await.unwrap().kind(), "pong");
}
