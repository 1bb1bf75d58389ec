//! The metrics as Prometheus reads them: what happened over the wire stands in them, and `promtool` accepts them and
//! the rules and the dashboard that come with them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use support::deadline::within;
use support::event_source::EventSource;
use support::event_stream::Item;
use support::http::{self, Head};
use support::link::{Link, Receive};
use support::node::{Node, Setup};
use support::tokens::{SECRET, Signer, api_key, forge, now_s};
use support::websocket::WebSocket;
use throughline::session::limits::{Rate, RateSettings};

async fn ask(address: SocketAddr, request: Vec<u8>) -> (Head, String) {
    let mut link = Link::connect(address, Receive::Usual).await.unwrap();
    link.send(&request).await.unwrap();
    let head = Head::read(&mut link).await.unwrap().unwrap();
    let body = head.body().unwrap().read_to_end(&mut link).await.unwrap();
    (head, String::from_utf8(body).unwrap())
}

async fn metrics(address: SocketAddr) -> String {
    let (head, text) = ask(address, http::get("/metrics", &[])).await;
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    text
}

fn value(text: &str, series: &str) -> Option<f64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

/// What a session's end counts is there soon after the client has seen the end.
async fn eventually(address: SocketAddr, series: &str, wanted: f64) {
    within(series, async {
        while value(&metrics(address).await, series) != Some(wanted) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn publish(address: SocketAddr, body: &str) {
    let (head, answer) = ask(address, http::post("/v1/publish", &[], body.as_bytes())).await;
    assert_eq!(head.status, 200, "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_is_counted() {
    let node = Node::start(Setup::default());
    let address = node.address;
    let channel = [("channel", "news")];
    let mut socket = WebSocket::open(address, Receive::Usual, &channel).await.unwrap();
    let mut stream = EventSource::open(address, Receive::Usual, &channel).await.unwrap();
    socket.push().await.unwrap();
    socket.push().await.unwrap();
    publish(address, r#"{"channel":"news","data":1,"idempotency_key":"k"}"#).await;
    publish(address, r#"{"channel":"news","data":1,"idempotency_key":"k"}"#).await;
    socket.push().await.unwrap();
    within("the publication", async {
        while !matches!(stream.next().await.unwrap(), Some(Item::Event(event)) if event.data.contains("publication")) {}
    })
    .await;
    let poll = "/v1/poll?channel=news&since=start&wait=0";
    assert!(ask(address, http::get(poll, &[])).await.1.contains("publication"));
    let forged = "/v1/poll?channel=news&since=abc-7&wait=0";
    assert!(ask(address, http::get(forged, &[])).await.1.contains("\"gap\""));
    assert_eq!(ask(address, http::get("/v1/sse?channel=$x", &[])).await.0.status, 400);
    assert_eq!(ask(address, http::get("/made/up", &[])).await.0.status, 404);
    socket.close().await.unwrap();
    drop(stream);
    eventually(
        address,
        "throughline_closes_total{transport=\"ws\",reason=\"client\"}",
        1.0,
    )
    .await;
    eventually(
        address,
        "throughline_closes_total{transport=\"sse\",reason=\"lost\"}",
        1.0,
    )
    .await;
    let text = metrics(address).await;
    for (series, wanted) in [
        ("throughline_connections{transport=\"ws\"}", 0.0),
        ("throughline_connections{transport=\"sse\"}", 0.0),
        ("throughline_connections{transport=\"poll\"}", 0.0),
        ("throughline_connects_total{transport=\"ws\"}", 1.0),
        ("throughline_connects_total{transport=\"poll\"}", 2.0),
        ("throughline_closes_total{transport=\"poll\",reason=\"answered\"}", 2.0),
        ("throughline_deliveries_total{transport=\"ws\"}", 1.0),
        ("throughline_deliveries_total{transport=\"sse\"}", 1.0),
        ("throughline_deliveries_total{transport=\"poll\"}", 2.0),
        ("throughline_writes_total{transport=\"ws\"}", 1.0),
        ("throughline_delivery_latency_seconds_count{transport=\"ws\"}", 1.0),
        ("throughline_delivery_latency_seconds_count{transport=\"poll\"}", 0.0),
        ("throughline_publications_total{outcome=\"stored\"}", 1.0),
        ("throughline_publications_total{outcome=\"duplicate\"}", 1.0),
        ("throughline_subscriptions_total{resume=\"fresh\"}", 3.0),
        ("throughline_subscriptions_total{resume=\"gap\"}", 1.0),
        ("throughline_gaps_total", 1.0),
        (
            "throughline_refusals_total{endpoint=\"/v1/sse\",code=\"bad_channel\"}",
            1.0,
        ),
        ("throughline_engine_calls_total{call=\"publish\",outcome=\"ok\"}", 2.0),
    ] {
        assert_eq!(value(&text, series), Some(wanted), "{series}\n{text}");
    }
    assert!(!text.contains("news"), "no label is a channel's name");
    accepted_by_promtool(&["check", "metrics"], &text);
}

/// By why it was not let in, and under which word it was not published.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_is_counted_by_its_reason() {
    let auth = format!("issuers = [{{ issuer = \"i\", audience = \"a\", secret = \"{SECRET}\" }}]");
    let node = Node::start(Setup {
        rates: Some(RateSettings {
            channel_publications: Rate::new(1, 1),
            ..RateSettings::default()
        }),
        ..Setup::auth(&auth)
    });
    let address = node.address;
    let token = |issuer: &str, audience: &str, from_now_s: i64, secret: &str| {
        let exp = now_s().saturating_add_signed(from_now_s);
        let grants = serde_json::json!({"publish": ["*"]});
        let claims =
            serde_json::json!({"iss": issuer, "aud": audience, "sub": "ada", "exp": exp, "throughline": grants});
        let header = r#"{"alg":"HS256"}"#;
        forge(header, &claims.to_string(), Signer::Hmac(secret.as_bytes()))
    };
    let right = token("i", "a", 600, SECRET);
    for wrong in [
        &token("i", "a", 600, "another secret, of which this node does not know"),
        &token("j", "a", 600, SECRET),
        &token("i", "b", 600, SECRET),
        &token("i", "a", -600, SECRET),
        "x.y",
        &api_key('x'),
    ] {
        let bearer = format!("Bearer {wrong}");
        let poll = http::get("/v1/poll?channel=a", &[("authorization", &bearer)]);
        assert_eq!(ask(address, poll).await.0.status, 401);
    }
    assert_eq!(ask(address, http::get("/v1/poll?channel=a", &[])).await.0.status, 401);
    let bearer = format!("Bearer {right}");
    let headers = [("authorization", bearer.as_str())];
    for (body, status) in [
        (r#"{"channel":"a","data":1}"#, 200),
        (r#"{"channel":"a","data":1}"#, 429),
        (r#"[{"channel":"a","data":1},{"channel":"$a","data":1}]"#, 200),
        (r#"{"channel":"$a","data":1}"#, 400),
        (r#"{"channel":"b"}"#, 400),
    ] {
        let request = http::post("/v1/publish", &headers, body.as_bytes());
        assert_eq!(ask(address, request).await.0.status, status, "{body}");
    }
    let mut socket = WebSocket::open_with(address, &[], &headers).await.unwrap();
    for command in [
        serde_json::json!({"type": "publish", "channel": "a", "data": 1}),
        serde_json::json!({"type": "publish", "channel": "$a", "data": 1}),
        serde_json::json!({"type": "refresh", "token": "x.y"}),
    ] {
        socket.command(&command).await.unwrap();
        while socket.push().await.unwrap().kind() != "error" {}
    }
    let text = node.edge().node().metrics().to_text();
    for (series, wanted) in [
        ("throughline_auth_failures_total{reason=\"signature\"}", 1.0),
        ("throughline_auth_failures_total{reason=\"issuer\"}", 1.0),
        ("throughline_auth_failures_total{reason=\"audience\"}", 1.0),
        ("throughline_auth_failures_total{reason=\"expired\"}", 1.0),
        ("throughline_auth_failures_total{reason=\"not_a_token\"}", 2.0),
        ("throughline_auth_failures_total{reason=\"unknown_api_key\"}", 1.0),
        ("throughline_auth_failures_total{reason=\"missing\"}", 1.0),
        ("throughline_publications_total{outcome=\"stored\"}", 1.0),
        ("throughline_publications_total{outcome=\"rate_limited\"}", 3.0),
        ("throughline_publications_total{outcome=\"bad_channel\"}", 3.0),
        ("throughline_publications_total{outcome=\"bad_request\"}", 1.0),
    ] {
        assert_eq!(value(&text, series), Some(wanted), "{series}\n{text}");
    }
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("packaging/monitoring")
        .join(name)
}

fn accepted_by_promtool(arguments: &[&str], input: &str) {
    let mut promtool = Command::new("promtool");
    let spawned = promtool
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut running = spawned.expect("promtool, of Debian's package prometheus; scripts/test installs it");
    running.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = running.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn the_alert_rules_are_accepted_and_fire_when_they_should() {
    let rules = file("alerts.yml");
    accepted_by_promtool(&["check", "rules", rules.to_str().unwrap()], "");
    accepted_by_promtool(&["test", "rules", file("alerts_test.yml").to_str().unwrap()], "");
}

/// Names in a query that look like this program's metrics, without what Prometheus adds to a histogram's name.
fn names_in(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text
        .split(|c| !is_part(c))
        .filter(|word| word.starts_with("throughline_"));
    let suffixes = ["_bucket", "_count", "_sum"];
    words
        .map(|word| {
            suffixes
                .iter()
                .find_map(|suffix| word.strip_suffix(suffix))
                .unwrap_or(word)
                .to_owned()
        })
        .collect()
}

#[tokio::test]
async fn the_dashboard_and_the_rules_ask_for_metrics_that_there_are() {
    let node = Node::start(Setup::default());
    let text = metrics(node.address).await;
    let known: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let dashboard = fs::read_to_string(file("grafana.json")).unwrap();
    let parsed: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    assert!(parsed["panels"].as_array().unwrap().len() > 8);
    let rules = fs::read_to_string(file("alerts.yml")).unwrap();
    let asked = &names_in(&dashboard) | &names_in(&rules);
    let strangers: Vec<_> = asked.iter().filter(|name| !known.contains(name.as_str())).collect();
    assert!(strangers.is_empty(), "{strangers:?} are not among {known:?}");
    let is_shown = |name: &&&str| !asked.contains(**name) && **name != "throughline_build_info";
    let unseen: Vec<_> = known.iter().filter(is_shown).collect();
    assert!(unseen.is_empty(), "no panel and no rule shows {unseen:?}");
    let page = fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md")).unwrap();
    let unnamed: Vec<_> = known.iter().filter(|name| !page.contains(**name)).collect();
    assert!(
        unnamed.is_empty(),
        "docs/operations.md does not say what {unnamed:?} mean"
    );
}
