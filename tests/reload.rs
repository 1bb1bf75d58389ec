//! SIGHUP: the configuration is read again while clients are connected. What may change does, at once and as a whole;
//! what is wrong changes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use support::deadline::within;
use support::event_source::EventSource;
use support::event_stream::Item;
use support::folder::Folder;
use support::http::{self, Head};
use support::link::{Link, Receive};
use support::push::Push;
use support::service::{Service, Start, copy_of};
use support::tokens::{SECRET, Signer, api_key, forge, hash, now_s};
use support::websocket::{Said, WebSocket};

/// Another secret than everybody's.
const OTHER: &str = "another secret for tests, of which some know";

/// A server with a file, whose service manager is the test.
struct World {
    folder: Folder,
    manager: UnixDatagram,
    service: Service,
    address: SocketAddr,
}

impl World {
    async fn start(config: &str) -> Self {
        Self::start_on(config, None).await
    }

    async fn start_on(config: &str, socket: Option<std::net::TcpListener>) -> Self {
        let folder = Folder::new("reload");
        let (file, path) = (folder.path().join("throughline.toml"), folder.path().join("notify"));
        std::fs::write(&file, config).unwrap();
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let port = socket.as_ref().map(|socket| socket.local_addr().unwrap().port());
        let mut service = Service::start(Start {
            handed_over: socket.as_ref().map(copy_of),
            environment: &[
                ("THROUGHLINE_CONFIG", file.to_str().unwrap()),
                ("NOTIFY_SOCKET", path.to_str().unwrap()),
            ],
            ..Start::default()
        });
        let address = match port {
            Some(port) => SocketAddr::from(([127, 0, 0, 1], port)),
            None => service.address().await,
        };
        let world = Self {
            folder,
            manager,
            service,
            address,
        };
        assert_eq!(world.told(), "READY=1");
        world
    }

    /// What the service manager is told next.
    fn told(&self) -> String {
        let mut bytes = [0; 512];
        let count = self.manager.recv(&mut bytes).expect("a word from the server");
        String::from_utf8_lossy(&bytes[..count]).trim().to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// Has the server read this, and gives what it says of it to its manager.
    async fn reload(&self, config: &str) -> String {
        self.write("throughline.toml", config);
        self.service.signal("HUP").await;
        let begun = self.told();
        assert!(begun.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{begun}");
        let done = self.told();
        assert!(done.starts_with("READY=1\nSTATUS="), "{done}");
        done
    }

    async fn takes(&self, config: &str) {
        let done = self.reload(config).await;
        assert!(done.contains("was read again"), "{done}\n{}", self.service.said());
    }

    async fn refuses(&self, config: &str) {
        let done = self.reload(config).await;
        assert!(done.contains("stays as it was"), "{done}\n{}", self.service.said());
    }

    /// Waits for so many lines of its log that have all these words.
    async fn has_said(&self, count: usize, words: &[&str]) {
        let has_all = |line: &&str| words.iter().all(|word| line.contains(word));
        within(&format!("{count} lines with {words:?}"), async {
            while self.service.said().lines().filter(has_all).count() < count {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// The status and the body of an answer.
    async fn ask(&self, request: &[u8]) -> (u16, String) {
        let mut link = Link::connect(self.address, Receive::Usual).await.unwrap();
        link.send(request).await.unwrap();
        let head = Head::read(&mut link).await.unwrap().unwrap();
        let body = head.body().unwrap().read_to_end(&mut link).await.unwrap();
        (head.status, String::from_utf8(body).unwrap())
    }

    async fn publish(&self, body: &Value, headers: &[(&str, &str)]) -> (u16, String) {
        let body = body.to_string();
        self.ask(&http::post("/v1/publish", headers, body.as_bytes())).await
    }
}

/// A token of `ada` by this secret, with all grants.
fn token(secret: &str) -> String {
    let grants = json!({"subscribe": ["*"], "publish": ["*"], "history": ["*"]});
    let claims = json!({"sub": "ada", "exp": now_s() + 600, "throughline": grants});
    forge(
        r#"{"alg":"HS256"}"#,
        &claims.to_string(),
        Signer::Hmac(secret.as_bytes()),
    )
}

/// Pushes until one of this kind, which is given.
async fn until(socket: &mut WebSocket, kind: &str) -> Push {
    loop {
        let push = socket.push().await.unwrap();
        if push.kind() == kind {
            return push;
        }
    }
}

async fn closed(socket: &mut WebSocket) -> u16 {
    loop {
        if let Said::Closed { code, .. } = socket.next().await.unwrap() {
            return code;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_may_do_changes_under_connections_that_stay() {
    let world = World::start("").await;
    let mut socket = WebSocket::open(world.address, Receive::Usual, &[("channel", "news")])
        .await
        .unwrap();
    until(&mut socket, "subscribed").await;
    let foreign = [("origin", "https://app.example")];
    assert_eq!(
        world.publish(&json!({"channel": "news", "data": 1}), &foreign).await.0,
        403
    );

    world
        .takes(
            "origins = [\"https://app.example\"]\n[log]\nlevel = \"debug\"\n[limits]\npublication_bytes_max = 8\n\
             [[namespaces]]\nname = \"closed\"\npublish = \"nobody\"\n",
        )
        .await;
    assert_eq!(
        world.publish(&json!({"channel": "news", "data": 1}), &foreign).await.0,
        200
    );
    let (status, body) = world
        .publish(&json!({"channel": "news", "data": "0123456789"}), &[])
        .await;
    assert_eq!(status, 413, "{body}");
    let (status, body) = world.publish(&json!({"channel": "closed:a", "data": 1}), &[]).await;
    assert_eq!(status, 403, "{body}");
    // The connection was there all the time, and lives by the new limits.
    assert_eq!(
        until(&mut socket, "publication")
            .await
            .place("position")
            .unwrap()
            .offset,
        1
    );
    let too_large = json!({"type": "publish", "id": 1, "channel": "news", "data": "0123456789"});
    socket.command(&too_large).await.unwrap();
    assert_eq!(until(&mut socket, "error").await.text_of("code"), "too_large");
    for key in ["origins", "log.level", "limits.publication_bytes_max", "namespaces"] {
        world.has_said(1, &["was read again", key]).await;
    }
    // What is logged, too.
    let mut world = world;
    let mut link = Link::connect(world.address, Receive::Usual).await.unwrap();
    link.send(b"GET / HTTP/1.1\r\nhost: localhost").await.unwrap();
    drop(link);
    world.service.says("DEBUG").await;
    assert_eq!(socket.close().await.unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_changes_nothing_and_is_told_with_its_place() {
    let mut world = World::start("origins = [\"https://app.example\"]\n").await;
    world
        .refuses(
            "origins = [\"https://other.example/\", \"other.example\"]\n[rates]\nip_polls_burst = 0\n[auth]\ncookie = \"c\"\n\
             [limit]\nbody_bytes_max = 1\n",
        )
        .await;
    // All of what cannot be read is told at once; what is read and makes no sense, when all can be.
    world
        .service
        .says("line 3, column 18: rates.ip_polls_burst = 0: must be")
        .await;
    world
        .service
        .says("line 6, column 2: unknown key `limit`; did you mean `limits`?")
        .await;
    world.service.says("the configuration stays as it was").await;
    world
        .refuses("origins = [\"https://other.example/\", \"other.example\"]\n[auth]\ncookie = \"c\"\n")
        .await;
    world
        .service
        .says("line 1, column 11: origins: \"https://other.example/\"")
        .await;
    world.service.says("write \"https://other.example\"").await;
    world
        .service
        .says("line 3, column 10: auth.cookie: without issuers")
        .await;

    // A file that is gone is not the same as none.
    std::fs::remove_file(world.folder.path().join("throughline.toml")).unwrap();
    world.service.signal("HUP").await;
    assert!(world.told().starts_with("RELOADING=1"));
    assert!(world.told().contains("stays as it was"));

    let of = |origin| [("origin", origin)];
    let body = json!({"channel": "a", "data": 1});
    assert_eq!(world.publish(&body, &of("https://app.example")).await.0, 200);
    assert_eq!(world.publish(&body, &of("https://other.example")).await.0, 403);
    let (_, metrics) = world.ask(&http::get("/metrics", &[])).await;
    assert!(
        metrics.contains("throughline_config_last_reload_successful 0"),
        "{metrics}"
    );
    world.takes("origins = [\"https://other.example\"]\n").await;
    assert_eq!(world.publish(&body, &of("https://other.example")).await.0, 200);
    let (_, metrics) = world.ask(&http::get("/metrics", &[])).await;
    assert!(
        metrics.contains("throughline_config_last_reload_successful 1"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_holds_until_a_restart_is_named_at_every_reload() {
    let world = World::start("").await;
    let changed = "[connections]\nheartbeat_ms = 1000\n[engine]\nsnapshot = \"elsewhere\"\n";
    world.takes(changed).await;
    let words = "these keys hold after a restart only";
    let names = [words, "connections.heartbeat_ms, engine.snapshot"];
    world.has_said(1, &names).await;
    world.takes(changed).await;
    world.has_said(2, &names).await;
    assert!(!world.folder.path().join("elsewhere").exists());
}

/// An API key's table, which publishes and operates.
fn key_table(name: &str, key: &str) -> String {
    format!(
        "[[auth.api_keys]]\nname = \"{name}\"\nhash = \"{}\"\nscopes = [\"publish\", \"operator\"]\nchannels = [\"*\"]\n",
        hash(key)
    )
}

/// Two issuers, the first of which has its secret in a file.
fn issuers(secret_file: &Path) -> String {
    let secret_file = secret_file.display();
    format!(
        "[[auth.issuers]]\nissuer = \"one\"\nsecret_file = \"{secret_file}\"\n\
         [[auth.issuers]]\nissuer = \"two\"\nsecret = \"{OTHER}\"\n"
    )
}

fn of_issuer(issuer: &str, secret: &str) -> String {
    let grants = json!({"subscribe": ["*"]});
    let claims = json!({"iss": issuer, "sub": "ada", "exp": now_s() + 600, "throughline": grants});
    forge(
        r#"{"alg":"HS256"}"#,
        &claims.to_string(),
        Signer::Hmac(secret.as_bytes()),
    )
}

async fn open(world: &World, credential: &str) -> WebSocket {
    let bearer = format!("Bearer {credential}");
    let query = if credential.starts_with("tlk_") {
        &[][..]
    } else {
        &[("channel", "a")]
    };
    let opened = WebSocket::open_with(world.address, query, &[("authorization", &bearer)]).await;
    opened.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_let_in_by_a_key_that_is_withdrawn_leaves_and_the_others_stay() {
    let (kept, withdrawn) = (api_key('k'), api_key('w'));
    let folder = Folder::new("reload keys");
    let secret_file = folder.path().join("secret");
    std::fs::write(&secret_file, SECRET).unwrap();
    let issuers = issuers(&secret_file);
    let keys = key_table("kept", &kept) + &key_table("gone", &withdrawn);
    let world = World::start(&format!("{issuers}{keys}")).await;
    let mut first = open(&world, &of_issuer("one", SECRET)).await;
    let mut second = open(&world, &of_issuer("two", OTHER)).await;
    let mut back_end = open(&world, &kept).await;
    let mut former = open(&world, &withdrawn).await;
    until(&mut second, "subscribed").await;

    // The issuer's secret is another one now, in a file whose name stays, and one API key is gone.
    std::fs::write(&secret_file, "a secret that came after the other one").unwrap();
    world.takes(&format!("{issuers}{}", key_table("kept", &kept))).await;
    let closing = until(&mut first, "closing").await;
    assert_eq!(closing.text_of("code"), "token_invalid");
    assert_eq!(closed(&mut first).await, 4401);
    assert_eq!(closed(&mut former).await, 4401);

    // Everybody else has noticed nothing.
    let bearer = format!("Bearer {kept}");
    let published = world
        .publish(&json!({"channel": "a", "data": 1}), &[("authorization", &bearer)])
        .await;
    assert_eq!(published.0, 200, "{}", published.1);
    until(&mut second, "publication").await;
    let publish = json!({"type": "publish", "id": 7, "channel": "a", "data": 2});
    back_end.command(&publish).await.unwrap();
    until(&mut back_end, "published").await;
    // A key with other scopes is not the key that it was.
    let fewer = key_table("kept", &kept).replace("\"publish\", ", "");
    world.takes(&format!("{issuers}{fewer}")).await;
    assert_eq!(closed(&mut back_end).await, 4401);
}

/// For whom an issuer's tokens must be meant, and what else it is about, changes as its key does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_let_in_by_an_audience_that_is_gone_leaves_and_the_others_stay() {
    let key = api_key('k');
    let with = |audience: &str| {
        let keys = key_table("kept", &key);
        format!("[[auth.issuers]]\nissuer = \"one\"\nsecret = \"{OTHER}\"\n{audience}\n{keys}")
    };
    let token = |audience: Value| {
        let grants = json!({"subscribe": ["*"]});
        let claims = json!({"iss": "one", "sub": "ada", "exp": now_s() + 600, "aud": audience, "throughline": grants});
        let mut claims = claims;
        claims.as_object_mut().unwrap().retain(|_, claim| !claim.is_null());
        forge(
            r#"{"alg":"HS256"}"#,
            &claims.to_string(),
            Signer::Hmac(OTHER.as_bytes()),
        )
    };
    let world = World::start(&with("audience = \"edge\"")).await;
    let mut first = open(&world, &token(json!("edge"))).await;
    until(&mut first, "subscribed").await;
    // More of them, in another order, and the algorithm that it had anyway.
    world
        .takes(&with("audience = [\"other\", \"edge\"]\nalgorithm = \"HS256\""))
        .await;
    let mut second = open(&world, &token(json!(["x", "other"]))).await;
    until(&mut second, "subscribed").await;
    world.takes(&with("audience = \"other\"")).await;
    assert_eq!(until(&mut first, "closing").await.text_of("code"), "token_invalid");
    assert_eq!(closed(&mut first).await, 4401);
    world.has_said(1, &["was read again", "sessions_ended=1"]).await;
    let bearer = format!("Bearer {key}");
    let publication = json!({"channel": "a", "data": 1});
    world.publish(&publication, &[("authorization", &bearer)]).await;
    until(&mut second, "publication").await;

    world.takes(&with("")).await;
    assert_eq!(closed(&mut second).await, 4401);
    let mut third = open(&world, &token(Value::Null)).await;
    until(&mut third, "subscribed").await;
    world.takes(&with("audience = \"edge\"")).await;
    assert_eq!(closed(&mut third).await, 4401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_and_polls_hear_that_their_key_was_withdrawn() {
    let operator = api_key('o');
    let folder = Folder::new("reload streams");
    let secret_file = folder.path().join("secret");
    std::fs::write(&secret_file, SECRET).unwrap();
    let config = issuers(&secret_file) + &key_table("operator", &operator);
    let world = World::start(&config).await;
    let token = of_issuer("one", SECRET);
    let mut stream = EventSource::open(world.address, Receive::Usual, &[("channel", "a"), ("token", &token)])
        .await
        .unwrap();
    let target = format!("/v1/poll?channel=a&token={token}");
    let (_, begun) = world.ask(&http::get(&target, &[])).await;
    let begun: Value = serde_json::from_str(&begun).unwrap();
    let since = begun["cursor"].as_str().unwrap();
    let mut poll = Link::connect(world.address, Receive::Usual).await.unwrap();
    poll.send(&http::get(&format!("{target}&since={since}&wait=55"), &[]))
        .await
        .unwrap();
    let headers = [("x-api-key", operator.as_str())];
    within("the poll that waits", async {
        loop {
            let (_, metrics) = world.ask(&http::get("/metrics", &headers)).await;
            if metrics.contains("throughline_connections{transport=\"poll\"} 1") {
                break;
            }
        }
    })
    .await;

    std::fs::write(&secret_file, "a secret that came after the other one").unwrap();
    world.takes(&config).await;
    // No key has another value, and yet somebody had to leave: the log says why, and how many.
    let words = [
        "the configuration was read again",
        "the file of auth.issuers[0].secret_file",
        "sessions_ended",
    ];
    world.has_said(1, &words).await;
    let closing = within("the end of the stream", async {
        loop {
            if let Some(Item::Event(event)) = stream.next().await.unwrap()
                && event.kind == "closing"
            {
                break event.data;
            }
        }
    });
    let closing = closing.await;
    assert!(closing.contains("token_invalid"), "{closing}");
    let head = Head::read(&mut poll).await.unwrap().unwrap();
    let body = head.body().unwrap().read_to_end(&mut poll).await.unwrap();
    let body = String::from_utf8(body).unwrap();
    assert!(body.contains("closing") && body.contains("token_invalid"), "{body}");
    assert_eq!(world.ask(&http::get(&target, &[])).await.0, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_longer_allowed_ends_and_the_session_goes_on() {
    let guarded = format!("[[auth.issuers]]\nsecret = \"{SECRET}\"\n");
    let world = World::start(&guarded).await;
    let bearer = format!("Bearer {}", token(SECRET));
    let query = [("channel", "news"), ("channel", "team:1")];
    let mut socket = WebSocket::open_with(world.address, &query, &[("authorization", &bearer)])
        .await
        .unwrap();
    until(&mut socket, "subscribed").await;
    until(&mut socket, "subscribed").await;
    world
        .takes(&format!(
            "{guarded}[[namespaces]]\nname = \"team\"\nsubscribe = \"nobody\"\n"
        ))
        .await;
    let ended = until(&mut socket, "unsubscribed").await;
    assert_eq!((ended.channel(), ended.text_of("code")), ("team:1", "forbidden"));
    let headers = [("authorization", bearer.as_str())];
    for channel in ["team:1", "news"] {
        assert_eq!(
            world.publish(&json!({"channel": channel, "data": 1}), &headers).await.0,
            200
        );
    }
    assert_eq!(until(&mut socket, "publication").await.channel(), "news");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_closed_sends_strangers_away_and_is_not_opened_again() {
    let guarded = format!("[[auth.issuers]]\nsecret = \"{SECRET}\"\n");
    let world = World::start("").await;
    let mut stranger = WebSocket::open(world.address, Receive::Usual, &[("channel", "a")])
        .await
        .unwrap();
    until(&mut stranger, "subscribed").await;
    world.takes(&guarded).await;
    assert_eq!(until(&mut stranger, "closing").await.text_of("code"), "unauthenticated");
    assert_eq!(closed(&mut stranger).await, 4401);
    assert_eq!(world.publish(&json!({"channel": "a", "data": 1}), &[]).await.0, 401);
    // A file that is empty, be it for a moment: a proxy may lead strangers to a loopback address, too.
    world.refuses("").await;
    world
        .has_said(1, &["it would be open to whoever comes", "start it anew"])
        .await;
    assert_eq!(world.publish(&json!({"channel": "a", "data": 1}), &[]).await.0, 401);
    // It is still guarded when the app says who may come in instead: nobody does, for it is not there.
    world.takes("[hooks]\nconnect_url = \"http://127.0.0.1:1/\"\n").await;
    assert_eq!(world.publish(&json!({"channel": "a", "data": 1}), &[]).await.0, 503);
    world.takes(&guarded).await;
    assert_eq!(world.publish(&json!({"channel": "a", "data": 1}), &[]).await.0, 401);
}

/// The app takes the place of the issuers, and they that of the app, again and again: the one that comes is there before
/// the other goes. The sessions make a moment in between long, in which strangers, who ask all the time, would be let in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_no_moment_is_it_open_while_the_app_and_the_issuers_take_turns() {
    const SESSIONS: usize = 1_000;
    let by_token = format!("[[auth.issuers]]\nsecret = \"{SECRET}\"\n");
    // An app that is not there lets nobody in.
    let by_app = "[hooks]\nconnect_url = \"http://127.0.0.1:1/\"\n";
    let world = World::start(&by_token).await;
    let authorization = format!("Bearer {}", token(SECRET));
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        let headers = [("authorization", &*authorization)];
        sessions.push(
            WebSocket::open_with(world.address, &[("channel", "a")], &headers)
                .await
                .unwrap(),
        );
    }
    let address = world.address;
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let let_in = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let strangers: Vec<_> = (0..4)
        .map(|_| {
            let (asked, let_in) = (std::sync::Arc::clone(&asked), std::sync::Arc::clone(&let_in));
            tokio::spawn(async move {
                let mut link = Link::connect(address, Receive::Usual).await.unwrap();
                loop {
                    link.send(&http::get("/v1/history?channel=a", &[])).await.unwrap();
                    let head = Head::read(&mut link).await.unwrap().unwrap();
                    head.body().unwrap().read_to_end(&mut link).await.unwrap();
                    asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    let_in.fetch_add(usize::from(head.status == 200), std::sync::atomic::Ordering::SeqCst);
                }
            })
        })
        .collect();
    for _ in 0..10 {
        world.takes(by_app).await;
        world.takes(&by_token).await;
    }
    assert!(
        strangers.iter().all(|stranger| !stranger.is_finished()),
        "they asked to the end"
    );
    for stranger in strangers {
        stranger.abort();
    }
    let count = asked.load(std::sync::atomic::Ordering::SeqCst);
    assert!(count > 100, "{count} times only");
    assert_eq!(let_in.load(std::sync::atomic::Ordering::SeqCst), 0, "of {count} times");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_forgiven_by_other_limits() {
    const BURST: usize = 40;
    let rates =
        |burst: usize| format!("[rates]\nallow = []\nip_publications_per_s = 1\nip_publications_burst = {burst}\n");
    let world = World::start(&rates(BURST)).await;
    let body = json!({"channel": "a", "data": 1});
    let began = std::time::Instant::now();
    let mut passed = 0;
    for burst in [BURST, BURST / 2, BURST] {
        world.takes(&rates(burst)).await;
        for _ in 0..BURST {
            passed += usize::from(world.publish(&body, &[]).await.0 == 200);
        }
    }
    let most = BURST + usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    assert!(
        (BURST..=most).contains(&passed),
        "{passed} passed, at most {most} could"
    );
    // Without a limit, it is none at once.
    world
        .takes("[rates]\nip_publications_per_s = 0\nchannel_publications_per_s = 0\n")
        .await;
    for _ in 0..BURST {
        assert_eq!(world.publish(&body, &[]).await.0, 200);
    }
}
