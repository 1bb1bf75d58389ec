//! Webhooks: what happens to channels reaches the app's receivers, signed, in order, and again until it is taken.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use support::client::{Client, auth, token_of};
use support::deadline::{until, until_told, within};
use support::folder::Folder;
use support::process::{Process, command};
use support::redis::{Redis, free_port};
use support::served::Served;
use support::service::{Service, Start};
use throughline::delivery::{ChannelName, LogPolicy, Member, PresenceEvent, PresenceEvents, Who};
use throughline::engine::System;
use throughline::http::HttpClient;
use throughline::metrics::Metrics;
use throughline::session::hooks::Surroundings;
use throughline::session::limits::system_clock;
use throughline::session::webhooks::{EventKind, SigningSecret, WebhookSettings, Webhooks};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const EARLIER_SECRET: &str = "whsec_QmFzZTY0IG9mIGEgc2VjcmV0IG9mIGVhcmxpZXI=";

/// One delivery, as it came.
#[derive(Debug, Clone)]
struct Delivery {
    id: String,
    body: Value,
    status: u16,
}

impl Delivery {
    fn events(&self) -> Vec<String> {
        let shown = |event: &Value| {
            let user = event["member"]["user"].as_str().unwrap_or("-");
            format!(
                "{} {} {user}",
                event["type"].as_str().unwrap(),
                event["channel"].as_str().unwrap()
            )
        };
        self.body["events"].as_array().unwrap().iter().map(shown).collect()
    }

    fn offsets(&self) -> Vec<u64> {
        let offset = |event: &Value| {
            let position = event["position"].as_str().unwrap();
            position.rsplit_once('-').unwrap().1.parse().unwrap()
        };
        self.body["events"].as_array().unwrap().iter().map(offset).collect()
    }
}

/// How a receiver behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Takes,
    Refuses(u16),
    Hangs,
    /// Takes it, and says so in a body without an end.
    TakesWithoutEnd,
}

/// An app that receives webhooks, and checks their signatures.
#[derive(Debug)]
struct Receiver {
    address: SocketAddr,
    state: Arc<Taken>,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct Taken {
    manner: Mutex<Manner>,
    deliveries: Mutex<Vec<Delivery>>,
}

impl Receiver {
    async fn start(manner: Manner) -> Self {
        let state = Arc::new(Taken {
            manner: Mutex::new(manner),
            deliveries: Mutex::default(),
        });
        let app = Router::new()
            .route("/webhooks", post(receive))
            .with_state(Arc::clone(&state));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            address,
            state,
            serving,
        }
    }

    fn url(&self) -> String {
        format!("http://{}/webhooks", self.address)
    }

    fn behave(&self, manner: Manner) {
        *self.state.manner.lock().unwrap() = manner;
    }

    fn deliveries(&self) -> Vec<Delivery> {
        self.state.deliveries.lock().unwrap().clone()
    }

    fn taken(&self) -> Vec<Delivery> {
        self.deliveries()
            .into_iter()
            .filter(|delivery| delivery.status < 300)
            .collect()
    }

    fn taken_events(&self) -> Vec<String> {
        self.taken().iter().flat_map(Delivery::events).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn receive(State(state): State<Arc<Taken>>, headers: HeaderMap, body: String) -> Response {
    let header = |name: &str| headers.get(name).unwrap().to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/json");
    let (id, at) = (header("webhook-id"), header("webhook-timestamp"));
    let signatures = header("webhook-signature");
    for (secret, signature) in [SECRET, EARLIER_SECRET].iter().zip(signatures.split(' ')) {
        let key = STANDARD.decode(secret.trim_start_matches("whsec_")).unwrap();
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key);
        let signature = STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
        ring::hmac::verify(&key, format!("{id}.{at}.{body}").as_bytes(), &signature)
            .expect("a signature of the secret");
    }
    let age_s = support::tokens::now_s().abs_diff(at.parse().unwrap());
    assert!(age_s < 60, "every attempt has its own time: {age_s} s");
    let manner = *state.manner.lock().unwrap();
    let status = match manner {
        Manner::Takes | Manner::TakesWithoutEnd => 200,
        Manner::Refuses(status) => status,
        Manner::Hangs => 0,
    };
    state.deliveries.lock().unwrap().push(Delivery {
        id,
        body: serde_json::from_str(&body).unwrap(),
        status: if status == 0 { 599 } else { status },
    });
    if manner == Manner::TakesWithoutEnd {
        let nothing = futures_util::stream::pending::<std::io::Result<axum::body::Bytes>>();
        return axum::body::Body::from_stream(nothing).into_response();
    }
    if status == 0 {
        std::future::pending::<()>().await;
    }
    let location = [("location", "http://127.0.0.1:1/elsewhere")];
    (StatusCode::from_u16(status).unwrap(), location).into_response()
}

fn settings(urls: Vec<String>) -> WebhookSettings {
    WebhookSettings {
        urls,
        secrets: [SECRET, EARLIER_SECRET]
            .map(|secret| SigningSecret::parse(secret).unwrap())
            .to_vec(),
        events: EventKind::ALL.to_vec(),
        batch_count_max: 10,
        timeout: Duration::from_secs(10),
        backlog: LogPolicy {
            count_max: 1_000,
            bytes_max: 1 << 24,
            age_ms_max: 600_000,
            position_ttl_ms: 0,
        },
    }
}

fn start(settings: WebhookSettings) -> (Webhooks, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new());
    let around = Surroundings {
        ask: Arc::new(HttpClient::default()),
        clock: system_clock(),
        outside: Arc::new(System),
        metrics: Arc::clone(&metrics),
    };
    (Webhooks::start(settings, around), metrics)
}

fn joined(user: &str) -> PresenceEvent {
    PresenceEvent::Joined(Member {
        who: Who::new(user, Some(r#"{"name":"A \"quoted\" name"}"#)),
        sessions: 1,
    })
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

fn counted(metrics: &Metrics, line: &str) -> bool {
    metrics.to_text().lines().any(|known| known == line)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_told_in_order_and_signed() {
    let receiver = Receiver::start(Manner::Takes).await;
    let (webhooks, metrics) = start(settings(vec![receiver.url()]));
    webhooks.note(&channel("chat:1"), PresenceEvent::Occupied);
    webhooks.note(&channel("chat:1"), joined("ada \" \\ ü"));
    for n in 0..25 {
        webhooks.note(&channel("chat:1"), joined(&n.to_string()));
    }
    webhooks.note(&channel("chat:1"), PresenceEvent::Vacated);
    until("all events", || receiver.taken_events().len() == 28).await;
    let events = receiver.taken_events();
    assert_eq!(
        events[..2],
        ["channel_occupied chat:1 -", "member_joined chat:1 ada \" \\ ü"]
    );
    assert_eq!(events[27], "channel_vacated chat:1 -");
    let offsets: Vec<_> = receiver.taken().iter().flat_map(Delivery::offsets).collect();
    assert_eq!(offsets, (1..=28).collect::<Vec<_>>());
    let all = receiver.taken();
    assert!(
        all.iter()
            .all(|delivery| delivery.events().len() <= 10 && delivery.body["lost"].is_null())
    );
    let member = all
        .iter()
        .flat_map(|delivery| delivery.body["events"].as_array().unwrap())
        .nth(1)
        .unwrap();
    assert_eq!(member["member"]["info"]["name"], "A \"quoted\" name");
    assert!(member["time"].as_u64().unwrap() > 1_700_000_000_000);
    until("the counts", || counted(&metrics, "throughline_webhook_backlog 0")).await;
    assert!(
        counted(&metrics, "throughline_webhook_events_total{outcome=\"delivered\"} 28"),
        "{}",
        metrics.to_text()
    );
    assert!(counted(
        &metrics,
        "throughline_webhook_attempts_total{outcome=\"failed\"} 0"
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_asked_for_is_told() {
    let receiver = Receiver::start(Manner::Takes).await;
    let mut settings = settings(vec![receiver.url()]);
    settings.events = vec![EventKind::ChannelVacated];
    let (webhooks, _) = start(settings);
    webhooks.note(&channel("a"), PresenceEvent::Occupied);
    webhooks.note(&channel("a"), joined("ada"));
    webhooks.note(&channel("a"), PresenceEvent::Vacated);
    until("an event", || !receiver.taken().is_empty()).await;
    assert_eq!(webhooks.finish(Duration::from_secs(10)).await, 0);
    assert_eq!(receiver.taken_events(), ["channel_vacated a -"]);
}

/// Whatever goes wrong: what is told again is the same delivery, under the same id, and what comes meanwhile comes after.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_taken_is_told_again_until_it_is() {
    for manner in [
        Manner::Refuses(500),
        Manner::Refuses(404),
        Manner::Refuses(302),
        Manner::Hangs,
    ] {
        let receiver = Receiver::start(manner).await;
        let mut settings = settings(vec![receiver.url()]);
        settings.timeout = Duration::from_millis(300);
        let (webhooks, metrics) = start(settings);
        webhooks.note(&channel("a"), PresenceEvent::Occupied);
        until("two attempts", || receiver.deliveries().len() >= 2).await;
        webhooks.note(&channel("a"), PresenceEvent::Vacated);
        assert!(counted(&metrics, "throughline_webhook_backlog 2"), "{manner:?}");
        receiver.behave(Manner::Takes);
        until("both events", || receiver.taken_events().len() == 2).await;
        assert_eq!(
            receiver.taken_events(),
            ["channel_occupied a -", "channel_vacated a -"],
            "{manner:?}"
        );
        let attempts = receiver.deliveries();
        let same = attempts
            .iter()
            .take_while(|attempt| attempt.id == attempts[0].id)
            .count();
        assert!(same >= 3, "{manner:?}: {attempts:?}");
        assert!(
            attempts[..same]
                .iter()
                .all(|attempt| attempt.events() == ["channel_occupied a -"])
        );
        assert_ne!(attempts[same].id, attempts[0].id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_falls_out_of_the_backlog_is_counted_and_said() {
    let receiver = Receiver::start(Manner::Refuses(503)).await;
    let mut settings = settings(vec![receiver.url()]);
    settings.backlog.count_max = 20;
    let (webhooks, metrics) = start(settings);
    webhooks.note(&channel("a"), joined("0"));
    until("an attempt", || !receiver.deliveries().is_empty()).await;
    for n in 1..50 {
        webhooks.note(&channel("a"), joined(&n.to_string()));
    }
    assert!(
        counted(&metrics, "throughline_webhook_events_total{outcome=\"lost\"} 30"),
        "{}",
        metrics.to_text()
    );
    assert!(counted(&metrics, "throughline_webhook_backlog 50"));
    receiver.behave(Manner::Takes);
    until("the rest", || receiver.taken_events().len() >= 20).await;
    let taken = receiver.taken();
    let lost: u64 = taken.iter().filter_map(|delivery| delivery.body["lost"].as_u64()).sum();
    let offsets: Vec<_> = taken.iter().flat_map(Delivery::offsets).collect();
    // An attempt that was under way when the first fell out may have been taken all the same.
    let first = offsets.iter().filter(|offset| **offset <= 30).count() as u64;
    assert_eq!(lost, 30 - first, "{taken:?}");
    assert_eq!(
        offsets[usize::try_from(first).unwrap()..],
        (31..=50).collect::<Vec<_>>()
    );
    webhooks.note(&channel("a"), PresenceEvent::Vacated);
    until("what comes next", || {
        receiver.taken_events().last().unwrap().starts_with("channel_vacated")
    })
    .await;
    assert!(receiver.taken().last().unwrap().body["lost"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_is_enough_whatever_becomes_of_the_body() {
    let receiver = Receiver::start(Manner::TakesWithoutEnd).await;
    let (webhooks, metrics) = start(settings(vec![receiver.url()]));
    for n in 0..3 {
        webhooks.note(&channel("a"), joined(&n.to_string()));
    }
    until("all events", || {
        counted(&metrics, "throughline_webhook_events_total{outcome=\"delivered\"} 3")
    })
    .await;
    assert!(counted(
        &metrics,
        "throughline_webhook_attempts_total{outcome=\"failed\"} 0"
    ));
    assert_eq!(receiver.taken_events().len(), 3);
}

/// A client with many channels can make more happen than any receiver takes meanwhile; then the log must not send the
/// operator to a receiver that is well.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_a_receiver_that_takes_nothing_from_one_that_is_outrun() {
    let (refusing, outrun) = ("for they are not taken", "for they come faster than they are taken");
    for (manner, words, others) in [
        (Manner::Refuses(503), refusing, outrun),
        (Manner::Hangs, outrun, refusing),
    ] {
        let (receiver, folder) = (Receiver::start(manner).await, Folder::new("webhooks outrun"));
        let file = folder.path().join("throughline.toml");
        let text = format!(
            "[webhooks]\nurl = \"{}\"\nsecret = \"{SECRET}\"\nprevious_secret = \"{EARLIER_SECRET}\"\n\
             timeout_ms = 60000\nbacklog_count = 5\n",
            receiver.url()
        );
        std::fs::write(&file, text).unwrap();
        let mut node = Service::start(Start {
            environment: &[("THROUGHLINE_CONFIG", file.to_str().unwrap())],
            ..Start::default()
        });
        let address = node.address().await;
        let _first = Client::open(address, "ws", "", &["first"]).await.unwrap();
        until("an attempt", || !receiver.deliveries().is_empty()).await;
        if manner != Manner::Hangs {
            node.says("a webhook was not taken").await;
        }
        let names: Vec<_> = (0..20).map(|n| n.to_string()).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let _many = Client::open(address, "ws", "", &names).await.unwrap();
        node.says(words).await;
        let said = node.said();
        assert!(!said.contains(others), "{said}");
        assert_eq!(said.matches("webhooks are lost").count(), 1, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_receiver_that_is_down_holds_up_no_other() {
    let (up, down) = (
        Receiver::start(Manner::Takes).await,
        Receiver::start(Manner::Hangs).await,
    );
    let (webhooks, _) = start(settings(vec![down.url(), up.url()]));
    for n in 0..30 {
        webhooks.note(&channel("a"), joined(&n.to_string()));
    }
    until("all events", || up.taken_events().len() == 30).await;
    assert!(down.taken().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_delivers_what_it_can_and_says_what_is_left() {
    let receiver = Receiver::start(Manner::Refuses(500)).await;
    let (webhooks, _) = start(settings(vec![receiver.url()]));
    for n in 0..30 {
        webhooks.note(&channel("a"), joined(&n.to_string()));
    }
    until("some attempts", || receiver.deliveries().len() >= 2).await;
    assert_eq!(webhooks.finish(Duration::from_millis(300)).await, 30);
    receiver.behave(Manner::Takes);
    assert_eq!(webhooks.finish(Duration::from_secs(60)).await, 0);
    assert_eq!(receiver.taken_events().len(), 30);
}

/// From the configuration to the receiver, on each transport; what the end brings about is told before the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_tells_who_comes_first_and_goes_last() {
    let (receiver, folder) = (Receiver::start(Manner::Takes).await, Folder::new("webhooks"));
    let file = folder.path().join("throughline.toml");
    let url = receiver.url();
    let text = format!("[webhooks]\nurl = \"{url}\"\nsecret = \"{SECRET}\"\nprevious_secret = \"{EARLIER_SECRET}\"\n");
    std::fs::write(&file, text).unwrap();
    let node = Served::start(&[("THROUGHLINE_CONFIG", file.to_str().unwrap())]).await;
    let first = Client::open(node.address, "ws", "", &["a", "b"]).await.unwrap();
    until("two events", || receiver.taken_events().len() == 2).await;
    let _second = Client::open(node.address, "sse", "", &["a"]).await.unwrap();
    let _third = Client::open(node.address, "poll", "", &["c"]).await.unwrap();
    until("three events", || receiver.taken_events().len() == 3).await;
    drop(first);
    until("the end of b", || receiver.taken_events().len() == 4).await;
    node.stop().await;
    let mut events = receiver.taken_events();
    let first: Vec<_> = events.drain(..4).collect();
    let occupied = ["a", "b", "c"].map(|name| format!("channel_occupied {name} -"));
    assert_eq!(first, [&occupied[..], &["channel_vacated b -".to_owned()]].concat());
    events.sort();
    assert_eq!(events, ["channel_vacated a -", "channel_vacated c -"]);
}

/// The lease of the nodes on a Redis.
const LEASE_S: u64 = 2;

/// A server with presence on a Redis that others share, whose app is told at `url`.
async fn on_redis(redis: &Redis, folder: &Folder, url: &str) -> Served {
    let file = folder.path().join("shared.toml");
    let (auth, of_redis) = (auth(), redis.url());
    let text = format!(
        "[auth]\n{auth}\n[webhooks]\nurl = \"{url}\"\nsecret = \"{SECRET}\"\nprevious_secret = \"{EARLIER_SECRET}\"\n\
         [presence]\nenabled = true\nlease_s = {LEASE_S}\ndebounce_ms = 100\n\
         [engine]\nkind = \"redis\"\n[engine.redis]\nurl = \"{of_redis}\"\n"
    );
    std::fs::write(&file, text).unwrap();
    Served::start(&[("THROUGHLINE_CONFIG", file.to_str().unwrap())]).await
}

/// Opens a connection to a server whose Redis may not be there yet.
async fn open(node: &Served, user: &str, channels: &[&str]) -> Client {
    let token = token_of(user);
    let began = tokio::time::Instant::now();
    loop {
        match Client::open(node.address, "ws", &token, channels).await {
            Ok(client) => return client,
            Err(code) => assert!(began.elapsed() < support::deadline::PATIENCE, "{code}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn sorted(mut events: Vec<String>) -> Vec<String> {
    events.sort();
    events
}

/// Nobody else follows those channels, or does so no more; and one is told by the node that has it, too.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_had_that_crashed_is_told_of_by_one_that_is_left() {
    let (receiver, folder) = (Receiver::start(Manner::Takes).await, Folder::new("webhooks-crash"));
    let url = receiver.url();
    let redis = Redis::start(&[]).await;
    let (first, second) = tokio::join!(on_redis(&redis, &folder, &url), on_redis(&redis, &folder, &url));
    let bob = open(&second, "bob", &["both"]).await;
    let cyd = open(&second, "cyd", &["left"]).await;
    let ada = open(&first, "ada", &["both", "left", "solo"]).await;
    until("who came", || receiver.taken_events().len() == 8).await;
    drop(cyd);
    until("who went", || receiver.taken_events().len() == 9).await;
    first.kill().await;
    until("what the crash brings about", || receiver.taken_events().len() >= 14).await;
    let told = sorted(receiver.taken_events().split_off(9));
    let expected = [
        "channel_vacated left -",
        "channel_vacated solo -",
        "member_left both ada",
        "member_left left ada",
        "member_left solo ada",
    ];
    assert_eq!(told, expected);
    // Whoever comes back later begins what was ended.
    let again = open(&second, "ada", &["solo"]).await;
    until("who came again", || receiver.taken_events().len() >= 16).await;
    let told = receiver.taken_events().split_off(14);
    assert_eq!(told, ["channel_occupied solo -", "member_joined solo ada"]);
    drop((ada, bob, again));
}

/// The same if nobody is left: then by whoever comes, be it the same node that starts again, and nobody connects to it.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_only_node_had_that_crashed_is_told_of_by_the_next_one() {
    let (receiver, folder) = (Receiver::start(Manner::Takes).await, Folder::new("webhooks-alone"));
    let url = receiver.url();
    let redis = Redis::start(&[]).await;
    let node = on_redis(&redis, &folder, &url).await;
    let ada = open(&node, "ada", &["solo", "kept"]).await;
    until("who came", || receiver.taken_events().len() == 4).await;
    node.kill().await;
    let hours = 23;
    redis.pass_ms(hours * 60 * 60 * 1000);
    let (node, other) = tokio::join!(on_redis(&redis, &folder, &url), on_redis(&redis, &folder, &url));
    until("the end of the earlier life", || receiver.taken_events().len() >= 8).await;
    until_told("no more of it", async || {
        redis.ask::<Vec<String>>(&["KEYS", "*:channels:*"]).await.is_empty()
    })
    .await;
    node.stop().await;
    other.stop().await;
    let told = sorted(receiver.taken_events().split_off(4));
    let expected = [
        "channel_vacated kept -",
        "channel_vacated solo -",
        "member_left kept ada",
        "member_left solo ada",
    ];
    assert_eq!(told, expected, "each once, though two are there to tell it");
    drop(ada);
}

/// A server whose presence is switched by its file, on a Redis if there is one.
struct Switched {
    file: PathBuf,
    text: String,
    process: Process,
}

impl Switched {
    async fn start(file: PathBuf, redis: Option<&Redis>, url: &str) -> Self {
        let engine = redis.map_or(String::new(), |redis| {
            format!(
                "[engine]\nkind = \"redis\"\n[engine.redis]\nurl = \"{}\"\n",
                redis.url()
            )
        });
        let auth = auth();
        let text = format!(
            "listen = \"127.0.0.1:0\"\n{engine}[auth]\n{auth}\n[presence]\nlease_s = 60\ndebounce_ms = 60000\n\
             [webhooks]\nurl = \"{url}\"\nsecret = \"{SECRET}\"\nprevious_secret = \"{EARLIER_SECRET}\"\n\
             [[namespaces]]\nname = \"p\"\npresence_on = "
        );
        std::fs::write(&file, format!("{text}false")).unwrap();
        let mut command = command(&[], &["serve"]);
        command.env("THROUGHLINE_CONFIG", &file);
        let process = Process::start(command).await;
        Self { file, text, process }
    }

    fn switch(&self, presence_on: &str) {
        std::fs::write(&self.file, format!("{}{presence_on}", self.text)).unwrap();
        self.process.signal("HUP");
    }

    /// Comes on a channel, which may have to wait for Redis.
    async fn open(&self, transport: &str, user: &str) -> Client {
        let (token, address) = (token_of(user), self.process.address);
        let began = tokio::time::Instant::now();
        loop {
            match Client::open(address, transport, &token, &["p:1"]).await {
                Ok(client) => return client,
                Err(code) => assert!(began.elapsed() < support::deadline::PATIENCE, "{code}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Who is listed on the channel.
    async fn listed(&self) -> String {
        let token = support::tokens::token("watcher", 60, &serde_json::json!({"presence": ["*"]}));
        let bearer = format!("Bearer {token}");
        let request = support::http::get("/v1/presence?channel=p:1", &[("authorization", &bearer)]);
        let (_, answer) = support::client::ask(self.process.address, &request).await;
        let members = answer["members"].as_array().cloned().unwrap_or_default();
        let users: Vec<_> = members.iter().map(|member| member["user"].as_str().unwrap()).collect();
        users.join(" ")
    }
}

/// Whoever is subscribed is known by name from then on, and no more from then on; and the channel was never empty.
#[tokio::test(flavor = "multi_thread")]
async fn presence_that_is_switched_counts_for_those_who_are_there() {
    let (receiver, folder) = (Receiver::start(Manner::Takes).await, Folder::new("webhooks-switch"));
    let node = Switched::start(folder.path().join("a.toml"), None, &receiver.url()).await;
    let clients = [
        node.open("ws", "ada").await,
        node.open("sse", "bea").await,
        node.open("poll", "cyd").await,
    ];
    until("the first one", || receiver.taken_events().len() == 1).await;
    for round in 0..2 {
        let before = 1 + round * 6;
        node.switch("true");
        until("all by name", || receiver.taken_events().len() >= before + 3).await;
        let told = sorted(receiver.taken_events().split_off(before));
        assert_eq!(
            told,
            ["ada", "bea", "cyd"].map(|user| format!("member_joined p:1 {user}"))
        );
        assert_eq!(node.listed().await, "ada bea cyd");
        node.switch("false");
        until("nobody by name", || receiver.taken_events().len() >= before + 6).await;
        let told = sorted(receiver.taken_events().split_off(before + 3));
        assert_eq!(
            told,
            ["ada", "bea", "cyd"].map(|user| format!("member_left p:1 {user}"))
        );
    }
    drop(clients);
    until("the end", || receiver.taken_events().len() >= 14).await;
    let mut told = receiver.taken_events();
    told.retain(|event| event.starts_with("channel"));
    assert_eq!(told, ["channel_occupied p:1 -", "channel_vacated p:1 -"]);
}

/// Nobody at another node sees them any longer: neither who is there nor who went a moment ago and is kept.
#[tokio::test(flavor = "multi_thread")]
async fn users_of_a_node_whose_presence_is_switched_off_are_gone_from_the_others_lists() {
    let (receiver, folder) = (Receiver::start(Manner::Takes).await, Folder::new("webhooks-nodes"));
    let (redis, url) = (Redis::start(&[]).await, receiver.url());
    let (first, second) = tokio::join!(
        Switched::start(folder.path().join("a.toml"), Some(&redis), &url),
        Switched::start(folder.path().join("b.toml"), Some(&redis), &url)
    );
    first.switch("true");
    let ada = first.open("ws", "ada").await;
    until_told("ada by name", async || first.listed().await == "ada").await;
    second.switch("true");
    let (bob, bea) = (second.open("ws", "bob").await, second.open("ws", "bea").await);
    until_told("all by name", async || first.listed().await == "ada bea bob").await;
    drop(bea);
    second.switch("false");
    until_told("only those of the node where it is on", async || {
        first.listed().await == "ada"
    })
    .await;
    second.switch("true");
    until_told("the other one again", async || first.listed().await == "ada bob").await;
    drop((ada, bob));
}

/// A receiver by the stock library, as a process that can be killed.
struct Stock {
    process: Child,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
}

impl Stock {
    async fn start(port: u16) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = std::env::var_os("THROUGHLINE_TEST_PYTHON")
            .map_or_else(|| root.join("target/test-venv/bin/python"), PathBuf::from);
        assert!(
            python.exists(),
            "{}: tests/clients/requirements.txt says what it needs",
            python.display()
        );
        let mut process = Command::new(python)
            .arg(root.join("tests/clients/webhooks_receiver.py"))
            .args([&port.to_string(), SECRET])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let first = within("the receiver", lines.next_line()).await.unwrap();
        assert_eq!(first.as_deref(), Some("listening"));
        Self { process, lines }
    }

    async fn next(&mut self) -> Vec<String> {
        let line = within("a delivery", self.lines.next_line()).await.unwrap().unwrap();
        let body: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(body["error"], Value::Null, "{line}");
        let events = body["events"].as_array().unwrap().iter();
        events
            .map(|event| event["member"]["user"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// Verified by the library that Standard Webhooks' own people publish. The receiver is not there at first, and is killed
/// in between: what it had taken may come again, and nothing is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_stock_verifier_gets_everything_though_it_is_down_for_a_while() {
    let port = free_port();
    let (webhooks, metrics) = start(settings(vec![format!("http://127.0.0.1:{port}/hook")]));
    let note = |from: u32, to: u32| (from..to).for_each(|n| webhooks.note(&channel("a"), joined(&n.to_string())));
    note(0, 40);
    until("a failure", || {
        !counted(&metrics, "throughline_webhook_attempts_total{outcome=\"failed\"} 0")
    })
    .await;
    let mut stock = Stock::start(port).await;
    let mut seen = Vec::new();
    while seen.len() < 40 {
        seen.extend(stock.next().await);
    }
    stock.process.kill().await.unwrap();
    note(40, 80);
    until("more failures", || counted(&metrics, "throughline_webhook_backlog 40")).await;
    let mut stock = Stock::start(port).await;
    while seen.last().map(String::as_str) != Some("79") {
        seen.extend(stock.next().await);
    }
    seen.dedup();
    let wanted: Vec<_> = (0..80).map(|n| n.to_string()).collect();
    assert_eq!(seen, wanted);
    assert_eq!(webhooks.finish(Duration::from_secs(60)).await, 0);
}
