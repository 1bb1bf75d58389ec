//! Rate limits over the wire: who is counted with whom, and how each transport says that it is enough.
//!
//! Each address of 127.0.0.0/8 is a client of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::io;
use std::net::Ipv4Addr;

use futures_util::future::join_all;
use serde_json::{Value, json};
use support::deadline::until_told;
use support::frames::{self, Frame};
use support::http::{self, Head};
use support::link::{Link, Receive};
use support::node::{Node, Setup};
use support::tokens::{SECRET, token};
use throughline::session::limits::{Limit, Outcome, Rate, RateSettings, Seat};

/// The clock of the limits stands still, so that what is gone does not come back: only the burst counts.
const SLOW: u32 = 1;

const BROWSER: (&str, &str) = ("user-agent", "Mozilla/5.0");
const ORIGIN: (&str, &str) = ("origin", "http://localhost");

/// No limits but those that the test sets.
fn unlimited() -> RateSettings {
    let off = Rate::new(0, 0);
    RateSettings {
        ip_connections: off,
        ip_polls: off,
        ip_open_connections_max: 0,
        ip_publications: off,
        user_publications: off,
        key_publications: off,
        channel_publications: off,
        session_commands: off,
        ..RateSettings::default()
    }
}

fn start(rates: RateSettings) -> Node {
    start_behind(rates, &[])
}

fn start_behind(rates: RateSettings, proxies: &[&str]) -> Node {
    Node::start(Setup {
        rates: Some(rates),
        trusted_proxies: proxies.iter().map(|network| network.parse().unwrap()).collect(),
        ..Setup::default()
    })
}

fn client(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, last)
}

async fn connect(node: &Node, own: Ipv4Addr) -> Link {
    Link::connect_from(own, node.address, Receive::Usual).await.unwrap()
}

/// Sends a request on a connection of its own, and gives that with the head of the answer.
async fn ask(node: &Node, own: Ipv4Addr, request: &[u8]) -> (Head, Link) {
    let mut link = connect(node, own).await;
    link.send(request).await.unwrap();
    let head = Head::read(&mut link).await.unwrap().expect("an answer");
    (head, link)
}

async fn body(head: &Head, link: &mut Link) -> Value {
    let bytes = head.body().unwrap().read_to_end(link).await.unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn publish(body: &Value, headers: &[(&str, &str)]) -> Vec<u8> {
    http::post("/v1/publish", headers, body.to_string().as_bytes())
}

async fn publish_status(node: &Node, own: Ipv4Addr, headers: &[(&str, &str)]) -> u16 {
    let request = publish(&json!({"channel": "a", "data": 1}), headers);
    ask(node, own, &request).await.0.status
}

fn handshake(target: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let own = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    http::get(target, &[&own, headers].concat())
}

/// The next push, or the code with which the connection is closed.
async fn next(link: &mut Link) -> io::Result<Result<Value, u16>> {
    loop {
        match frames::take(&mut link.input)? {
            Some(Frame::Text(text)) => return Ok(Ok(serde_json::from_str(&text)?)),
            Some(Frame::Close { code, .. }) => return Ok(Err(code)),
            Some(Frame::Ping(_) | Frame::Pong) => {}
            None if link.read().await? => {}
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

async fn next_push(link: &mut Link) -> Value {
    next(link).await.unwrap().expect("not a close frame")
}

async fn command(link: &mut Link, command: &Value) {
    link.send(&frames::text(&command.to_string())).await.unwrap();
}

#[tokio::test]
async fn publications_over_the_limit_are_429_with_the_fields() {
    let node = start(RateSettings {
        ip_publications: Rate::new(SLOW, 2),
        channel_publications: Rate::new(100, 100),
        ..unlimited()
    });
    let request = publish(&json!({"channel": "a", "data": 1}), &[ORIGIN]);
    for remaining in [1, 0] {
        let (head, _) = ask(&node, client(2), &request).await;
        assert_eq!(head.status, 200);
        let policy = "\"ip-publish\";q=2;w=2, \"channel-publish\";q=100;w=1";
        assert_eq!(head.header("ratelimit-policy"), policy);
        let channel_remaining = 98 + remaining;
        let state = format!("\"ip-publish\";r={remaining};t=1, \"channel-publish\";r={channel_remaining};t=1");
        assert_eq!(head.header("ratelimit"), state);
    }
    let (head, mut link) = ask(&node, client(2), &request).await;
    assert_eq!((head.status, head.header("retry-after")), (429, "1"));
    assert_eq!(head.header("ratelimit"), "\"ip-publish\";r=0;t=1");
    let exposed = head.header("access-control-expose-headers");
    for name in ["retry-after", "ratelimit", "ratelimit-policy"] {
        assert!(exposed.split(',').any(|exposed| exposed == name), "{exposed}");
    }
    let problem = body(&head, &mut link).await;
    assert_eq!(
        (&problem["code"], &problem["status"]),
        (&json!("rate_limited"), &json!(429))
    );
    assert_eq!(problem["retry_ms"], 1000);
    // Which is the only word on when to come back: it may be spread, and another number beside it would differ.
    assert_eq!(problem["detail"], "ip-publish: too many publications from one address");
    // Another address is another client.
    assert_eq!(publish_status(&node, client(3), &[]).await, 200);
    let hits = node.edge().rate_limits().unwrap().hits();
    assert_eq!(hits.of(Limit::IpPublish, Outcome::Refused), 1);
    assert_eq!(hits.of(Limit::ChannelPublish, Outcome::Refused), 0);
}

#[tokio::test]
async fn a_refusal_before_the_body_reaches_who_is_still_sending_it() {
    let node = start(RateSettings {
        ip_publications: Rate::new(SLOW, 1),
        ..unlimited()
    });
    assert_eq!(publish_status(&node, client(2), &[]).await, 200);
    // On one connection, as long as the server keeps it.
    let mut link = connect(&node, client(2)).await;
    for _ in 0..3 {
        link.send(&publish(&json!({"channel": "a", "data": 1}), &[]))
            .await
            .unwrap();
        let head = Head::read(&mut link).await.unwrap().expect("an answer");
        assert_eq!(head.status, 429);
        body(&head, &mut link).await;
    }
    let long = publish(&json!({"channel": "a", "data": "x".repeat(3_000_000)}), &[]);
    assert_eq!(ask(&node, client(2), &long).await.0.status, 429);
}

/// Guessing tokens and keys costs what a publication costs, and so does what cannot be read.
#[tokio::test]
async fn what_is_refused_for_its_credential_or_its_body_counts_like_a_publication() {
    let setup = Setup::auth(&format!("issuers = [{{ secret = \"{SECRET}\" }}]"));
    let node = Node::start(Setup {
        rates: Some(RateSettings {
            ip_publications: Rate::new(SLOW, 3),
            ..unlimited()
        }),
        ..setup
    });
    let grants = json!({"publish": ["*"]});
    let right = format!("Bearer {}", token("ada", 600, &grants));
    let publication = json!({"channel": "a", "data": 1}).to_string();
    for (own, authorization, body, status) in [
        (2, "Bearer x.y.z", &*publication, 401),
        (
            3,
            "Bearer tlk_0000000000000000000000000000000000000000000",
            &*publication,
            401,
        ),
        (4, "", &*publication, 401),
        (5, &*right, "{", 400),
        (6, &*right, r#"{"channel":"$a","data":1}"#, 400),
    ] {
        let headers = [("authorization", authorization)];
        let headers = &headers[usize::from(authorization.is_empty())..];
        let request = http::post("/v1/publish", headers, body.as_bytes());
        let mut statuses = Vec::new();
        for _ in 0..5 {
            statuses.push(ask(&node, client(own), &request).await.0.status);
        }
        assert_eq!(statuses, [status, status, status, 429, 429], "{authorization} {body}");
    }
    // A batch is understood; what of it cannot be counts, and so does one of nothing.
    let two = r#"[{"channel":"$a","data":1},{"channel":"a"}]"#;
    for (own, body, expected) in [(7, two, [200, 200, 429]), (8, "[]", [200, 200, 200])] {
        let request = http::post("/v1/publish", &[("authorization", &*right)], body.as_bytes());
        for status in expected {
            assert_eq!(ask(&node, client(own), &request).await.0.status, status, "{body}");
        }
        assert_eq!(ask(&node, client(own), &request).await.0.status, 429, "{body}");
    }
}

#[tokio::test]
async fn each_item_of_a_batch_counts_and_is_told() {
    let node = start(RateSettings {
        ip_publications: Rate::new(SLOW, 4),
        channel_publications: Rate::new(SLOW, 2),
        ..unlimited()
    });
    let items: Vec<_> = ["a", "a", "a", "b", "c", "d"]
        .map(|channel| json!({"channel": channel, "data": 1}))
        .into();
    let (head, mut link) = ask(&node, client(2), &publish(&Value::Array(items), &[])).await;
    assert_eq!(head.status, 200);
    let answer = body(&head, &mut link).await;
    let told = answer["results"].as_array().unwrap().iter().map(|result| {
        let error = &result["error"];
        if error.is_null() {
            return "stored".to_owned();
        }
        assert_eq!(error["retry_ms"], 1000, "{error}");
        let detail = error["detail"].as_str().unwrap();
        format!(
            "{} {}",
            error["code"].as_str().unwrap(),
            detail.split(':').next().unwrap()
        )
    });
    // What the channel refuses is given back to the address.
    let expected = [
        "stored",
        "stored",
        "rate_limited channel-publish",
        "stored",
        "stored",
        "rate_limited ip-publish",
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn connections_over_the_rate_are_refused_on_every_transport_in_its_words() {
    let node = start(RateSettings {
        ip_connections: Rate::new(SLOW, 1),
        ip_polls: Rate::new(SLOW, 1),
        ..unlimited()
    });
    let stream = |headers: &[(&str, &str)]| http::get("/v1/sse?channel=a", headers);
    let (head, _open) = ask(&node, client(2), &stream(&[])).await;
    assert_eq!(
        (head.status, head.header("ratelimit")),
        (200, "\"ip-connections\";r=0;t=1")
    );

    let (head, _) = ask(&node, client(2), &stream(&[BROWSER])).await;
    assert_eq!(head.status, 429);
    assert!(head.header("retry-after").parse::<u64>().unwrap() >= 1);
    let (head, mut link) = ask(&node, client(2), &stream(&[BROWSER, ("accept", "text/event-stream")])).await;
    assert_eq!(
        (head.status, head.header("content-type")),
        (200, "text/event-stream; charset=utf-8")
    );
    let text = head.body().unwrap().read_to_end(&mut link).await.unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with("retry: "), "{text}");
    assert!(
        text.contains("event: closing\n") && text.contains("\"rate_limited\""),
        "{text}"
    );

    let (head, _) = ask(&node, client(2), &handshake("/v1/ws?channel=a", &[])).await;
    assert_eq!(
        (head.status, head.header("ratelimit")),
        (429, "\"ip-connections\";r=0;t=1")
    );
    let (head, mut link) = ask(&node, client(2), &handshake("/v1/ws?channel=a", &[ORIGIN])).await;
    assert_eq!(head.status, 101);
    let closing = next_push(&mut link).await;
    assert_eq!(
        (&closing["type"], &closing["code"]),
        (&json!("closing"), &json!("rate_limited"))
    );
    assert!(closing["retry_ms"].as_u64().unwrap() > 0);
    assert_eq!(next(&mut link).await.unwrap(), Err(4429));

    // Polls have a rate of their own.
    let poll = http::get("/v1/poll?channel=a", &[]);
    assert_eq!(ask(&node, client(2), &poll).await.0.status, 200);
    let (head, mut link) = ask(&node, client(2), &poll).await;
    assert_eq!(head.status, 429);
    assert_eq!(body(&head, &mut link).await["code"], "rate_limited");
}

#[tokio::test]
async fn a_flood_of_refused_browsers_gets_the_status() {
    let node = start(RateSettings {
        ip_connections: Rate::new(SLOW, 1),
        ..unlimited()
    });
    let request = handshake("/v1/ws?channel=a", &[ORIGIN]);
    assert_eq!(ask(&node, client(2), &request).await.0.status, 101);
    let mut told = 0;
    while ask(&node, client(2), &request).await.0.status == 101 {
        told += 1;
        assert!(told <= 1_000, "a flood, and still everybody is told on the connection");
    }
    assert_eq!(told, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_storm_exactly_so_many_connections_are_open() {
    const STORM: usize = 5_000;
    /// Few enough for 1,024 open files, of which each connection takes two here.
    const AT_A_TIME: usize = 125;
    const OPEN_MAX: u32 = 123;
    let node = start(RateSettings {
        ip_open_connections_max: OPEN_MAX,
        ..unlimited()
    });
    let mut open = Vec::new();
    let mut refused = 0;
    for at in 0..STORM / AT_A_TIME {
        let requests = (0..AT_A_TIME).map(|n| {
            let request = match (at + n) % 2 {
                0 => http::get("/v1/sse?channel=a", &[]),
                _ => handshake("/v1/ws?channel=a", &[]),
            };
            let node = &node;
            async move { ask(node, client(2), &request).await }
        });
        for (head, link) in join_all(requests).await {
            match head.status {
                200 | 101 => open.push(link),
                429 => refused += 1,
                status => panic!("{status}"),
            }
        }
    }
    assert_eq!((open.len(), refused), (OPEN_MAX as usize, STORM - OPEN_MAX as usize));
    let (head, mut link) = ask(&node, client(2), &http::get("/v1/poll?channel=a", &[])).await;
    assert_eq!((head.status, head.header("retry-after").is_empty()), (429, false));
    assert_eq!(
        head.header("ratelimit-policy"),
        "\"ip-open-connections\";q=123;qu=\"concurrent-requests\""
    );
    assert_eq!(head.header("ratelimit"), "\"ip-open-connections\";r=0");
    assert_eq!(body(&head, &mut link).await["code"], "too_many_connections");
    assert_eq!(ask(&node, client(3), &handshake("/v1/ws", &[])).await.0.status, 101);

    // Whoever leaves makes room for one, however it leaves.
    drop(open.split_off(open.len() / 2));
    until_told("room", async || {
        ask(&node, client(2), &http::get("/v1/poll?channel=a", &[]))
            .await
            .0
            .status
            == 200
    })
    .await;
}

#[tokio::test]
async fn commands_over_the_limit_are_errors_and_in_the_end_4429() {
    let node = start(RateSettings {
        session_commands: Rate::new(SLOW, 3),
        ..unlimited()
    });
    let (_, mut link) = ask(&node, client(2), &handshake("/v1/ws", &[])).await;
    assert_eq!(next_push(&mut link).await["type"], "welcome");
    for id in 0..3 {
        command(&mut link, &json!({"type": "ping", "id": id})).await;
        assert_eq!(next_push(&mut link).await, json!({"type": "pong", "id": id}));
    }
    for id in 0..i32::from(Seat::REFUSED_MAX) {
        let kind = if id % 2 == 0 { "ping" } else { "nonsense" };
        command(&mut link, &json!({"type": kind, "id": id})).await;
        let error = next_push(&mut link).await;
        assert_eq!(
            (&error["type"], &error["code"], &error["id"]),
            (&json!("error"), &json!("rate_limited"), &json!(id))
        );
        assert_eq!(error["retry_ms"], 1000);
    }
    let closing = next_push(&mut link).await;
    assert_eq!(
        (&closing["type"], &closing["code"]),
        (&json!("closing"), &json!("rate_limited"))
    );
    assert_eq!(next(&mut link).await.unwrap(), Err(4429));
}

#[tokio::test]
async fn publications_over_a_socket_draw_from_the_same_buckets() {
    let node = start(RateSettings {
        ip_publications: Rate::new(SLOW, 2),
        ..unlimited()
    });
    assert_eq!(publish_status(&node, client(2), &[]).await, 200);
    let (_, mut link) = ask(&node, client(2), &handshake("/v1/ws", &[])).await;
    assert_eq!(next_push(&mut link).await["type"], "welcome");
    for kind in ["published", "error"] {
        command(&mut link, &json!({"type": "publish", "channel": "a", "data": 1})).await;
        assert_eq!(next_push(&mut link).await["type"], kind);
    }
    command(&mut link, &json!({"type": "ping"})).await;
    assert_eq!(next_push(&mut link).await["type"], "pong");
}

#[tokio::test]
async fn nobody_is_believed_about_its_address_but_proxies_that_are_trusted() {
    let rates = || RateSettings {
        ip_publications: Rate::new(SLOW, 1),
        ..unlimited()
    };
    let node = start_behind(rates(), &["127.0.0.9/32"]);
    let as_client = |address: &'static str| [("x-forwarded-for", address)];
    assert_eq!(publish_status(&node, client(2), &as_client("192.0.2.1")).await, 200);
    assert_eq!(publish_status(&node, client(2), &as_client("192.0.2.2")).await, 429);
    assert_eq!(
        publish_status(&node, client(2), &[("forwarded", "for=192.0.2.3")]).await,
        429
    );
    // Behind the proxy each client has its own, and what it invents stands left of it.
    assert_eq!(publish_status(&node, client(9), &as_client("192.0.2.1")).await, 200);
    assert_eq!(
        publish_status(&node, client(9), &as_client("203.0.113.5, 192.0.2.1")).await,
        429
    );
    assert_eq!(publish_status(&node, client(9), &as_client("192.0.2.2")).await, 200);
    assert_eq!(
        publish_status(&node, client(9), &as_client("192.0.2.3, unknown")).await,
        200
    );
    assert_eq!(
        publish_status(&node, client(9), &as_client("192.0.2.4, garbage")).await,
        429
    );
    // All addresses of one IPv6 network are one client.
    assert_eq!(
        publish_status(&node, client(9), &as_client("2001:db8:1:1::1")).await,
        200
    );
    for last in ["2001:db8:1:1::2", "2001:db8:1:1:ffff::", "[2001:db8:1:1:1:1:1:1]:4711"] {
        assert_eq!(publish_status(&node, client(9), &as_client(last)).await, 429, "{last}");
    }
}

#[tokio::test]
async fn the_networks_of_one_site_share_what_the_site_has() {
    let node = start_behind(
        RateSettings {
            ip_publications: Rate::new(SLOW, 1),
            site_factor: 5,
            ..unlimited()
        },
        &["127.0.0.0/8"],
    );
    let mut refused = 0;
    for network in 0..20 {
        let address = format!("2001:db8:1:{network:x}::1");
        let headers = [("x-forwarded-for", address.as_str())];
        refused += usize::from(publish_status(&node, client(2), &headers).await == 429);
    }
    assert_eq!(refused, 15);
    let hits = node.edge().rate_limits().unwrap().hits();
    assert_eq!(hits.of(Limit::SitePublish, Outcome::Refused), 15);
}

#[tokio::test]
async fn a_dry_run_counts_and_lets_pass() {
    let node = start(RateSettings {
        ip_publications: Rate::new(SLOW, 1),
        ip_open_connections_max: 1,
        session_commands: Rate::new(SLOW, 1),
        dry_run: true,
        ..unlimited()
    });
    for _ in 0..3 {
        assert_eq!(publish_status(&node, client(2), &[]).await, 200);
    }
    let mut open = Vec::new();
    for _ in 0..3 {
        let (head, mut link) = ask(&node, client(2), &handshake("/v1/ws", &[])).await;
        assert_eq!((head.status, head.header("ratelimit")), (101, ""));
        assert_eq!(next_push(&mut link).await["type"], "welcome");
        open.push(link);
    }
    for _ in 0..3 {
        command(&mut open[0], &json!({"type": "ping"})).await;
        assert_eq!(next_push(&mut open[0]).await["type"], "pong");
    }
    let hits = node.edge().rate_limits().unwrap().hits();
    for limit in [Limit::IpPublish, Limit::IpOpenConnections, Limit::SessionCommands] {
        assert_eq!(hits.of(limit, Outcome::PassedDry), 2, "{limit:?}");
        assert_eq!(hits.of(limit, Outcome::Refused), 0, "{limit:?}");
    }
}

#[tokio::test]
async fn who_is_on_the_list_is_not_limited_but_no_proxy_for_its_clients() {
    let rates = RateSettings {
        ip_publications: Rate::new(SLOW, 1),
        allow: vec!["127.0.0.8/31".parse().unwrap()],
        ..unlimited()
    };
    let node = start_behind(rates, &["127.0.0.9/32"]);
    for _ in 0..3 {
        assert_eq!(publish_status(&node, client(8), &[]).await, 200);
        assert_eq!(publish_status(&node, client(9), &[]).await, 200);
    }
    let nameless = [("x-forwarded-for", "unknown")];
    assert_eq!(publish_status(&node, client(9), &nameless).await, 200);
    assert_eq!(publish_status(&node, client(9), &nameless).await, 429);
    let invented = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=127.0.0.8")];
    assert_eq!(publish_status(&node, client(9), &invented).await, 429);
}
