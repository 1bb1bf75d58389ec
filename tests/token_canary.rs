//! A token in every place where a client may put one, and in some where it should not, stands in no log at any level
//! and in no answer.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "how much was looked through is said")]

mod support;

use std::io::Read;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::json;
use support::frames;
use support::http::{self, Head};
use support::http2::{Http2, Sent, Stream, Window};
use support::link::{Link, Receive};
use support::tokens::{SECRET, Signer, forge, now_s};
use support::websocket::WebSocket;

const CANARY: &str = "Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5";

/// A server as its binary, which logs everything into a file.
struct Server {
    process: std::process::Child,
    address: SocketAddr,
    log: std::path::PathBuf,
}

impl Server {
    /// With more in its configuration, in a folder of this name.
    fn start(name: &str, more: &str) -> Self {
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let (config, log) = (folder.join("config.toml"), folder.join("log"));
        let text = format!("[auth]\ncookie = \"session\"\n[[auth.issuers]]\nsecret = \"{SECRET}\"\n{more}");
        std::fs::write(&config, text).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_throughline"))
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(&config)
            .env("THROUGHLINE_LOG", "trace")
            .env("THROUGHLINE_LOG__FORMAT", "pretty")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut server = Self {
            process,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            log,
        };
        let deadline = std::time::Instant::now() + support::deadline::PATIENCE;
        while server.address.port() == 0 {
            assert!(
                std::time::Instant::now() < deadline,
                "no address in {:?}",
                server.said()
            );
            let said = server.said();
            if let Some((_, rest)) = said.split_once("http://127.0.0.1:")
                && let Some((port, _)) = rest.split_once('\n')
            {
                server.address.set_port(port.trim().parse().unwrap());
            }
        }
        server
    }

    fn said(&self) -> String {
        let mut text = String::new();
        let file = std::fs::File::open(&self.log);
        file.unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Server {
    /// That nothing of these stands in its log, though it logs everything, its libraries' words too.
    fn has_said_none_of(&self, secrets: &[&str]) {
        let log = self.said();
        let count = |word: &str| log.lines().filter(|line| line.contains(word)).count();
        for (word, least) in [("DEBUG", 1), ("TRACE", 100), (" h2::", 100)] {
            assert!(count(word) >= least, "{} lines with {word:?}: {log}", count(word));
        }
        for line in log.lines() {
            assert!(!secrets.iter().any(|secret| line.contains(secret)), "{line}");
        }
        println!(
            "{} lines, of which TRACE: {}, of h2: {}, of ours: {}",
            log.lines().count(),
            count("TRACE"),
            count(" h2::"),
            count(" throughline::")
        );
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn answer(address: SocketAddr, request: &[u8]) -> String {
    let mut link = Link::connect(address, Receive::Usual).await.unwrap();
    link.send(request).await.unwrap();
    let head = Head::read(&mut link).await.unwrap().unwrap();
    let body = head.body().unwrap().read_to_end(&mut link).await.unwrap();
    format!("{head:?}\n{}", String::from_utf8_lossy(&body))
}

/// Requests that have the token in every place, and are all refused for one reason or another.
fn requests(token: &str) -> Vec<Vec<u8>> {
    let handshake = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let (bearer, alone) = (format!("Bearer {token}"), format!("bearer.{token}"));
    let (offer, cookie) = (format!("throughline.v1, {alone}"), format!("session={token}"));
    let bodies = [
        json!({"channels": ["$x"], "token": token}).to_string(),
        json!({"channels": ["a"], "token": [token]}).to_string(),
        json!({"channels": ["a"], "token": token}).to_string().replace(':', ";"),
    ];
    let ws = |header: &'static str, value: &str| {
        http::get("/v1/ws?channel=$x", &[&handshake[..], &[(header, value)]].concat())
    };
    let header = ("authorization", bearer.as_str());
    let other = ("origin", "http://evil.example");
    let mut requests = vec![
        http::get("/v1/poll?channel=$x", &[header]),
        http::get("/v1/poll?channel=$x", &[header, header]),
        http::get("/v1/poll?channel=$x", &[("x-api-key", token)]),
        http::get("/v1/history?channel=a", &[header]),
        http::get("/v1/sse?channel=$x", &[("cookie", &cookie)]),
        http::get("/v1/sse?channel=$x", &[("cookie", &cookie), other]),
        http::get(&format!("/v1/sse?channel=$x&token={token}"), &[]),
        http::get(&format!("/v1/sse?channel=$x&token=%ff{token}"), &[]),
        http::get(&format!("/nowhere?token={token}"), &[]),
        http::post(
            &format!("/v1/publish?token={token}"),
            &[],
            br#"{"channel":"$x","data":1}"#,
        ),
        ws("sec-websocket-protocol", &offer),
        ws("sec-websocket-protocol", &alone),
        ws("authorization", &bearer),
        // What is no HTTP is logged as what broke a connection off.
        format!("GET /v1/poll?token={token} HTTP/9.9\r\nauthorization: {bearer}\r\n\r\n").into_bytes(),
    ];
    requests.extend(bodies.iter().map(|body| http::post("/v1/poll", &[], body.as_bytes())));
    requests
}

async fn told(answer: Stream) -> String {
    let status = answer.status;
    format!("status: {status} {}", answer.text().await)
}

/// The same places over HTTP/2, whose library logs what it does.
async fn over_http2(address: SocketAddr, token: &str) -> Vec<String> {
    let mut client = Http2::connect(address, Window::Usual).await;
    let bearer = format!("Bearer {token}");
    let (cookie, offer) = (format!("session={token}"), format!("throughline.v1, bearer.{token}"));
    let mut answers = Vec::new();
    for (target, header) in [
        ("/v1/poll?channel=$x".to_owned(), Some(("authorization", &bearer))),
        ("/v1/sse?channel=$x".to_owned(), Some(("cookie", &cookie))),
        ("/v1/history?channel=$x".to_owned(), Some(("x-api-key", &bearer))),
        (format!("/v1/poll?channel=$x&token={token}"), None),
        (format!("/nowhere?token={token}"), None),
    ] {
        let mut request = axum::http::Request::get(format!("http://localhost{target}"));
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let answer = client.send(request.body(()).unwrap(), Sent::Nothing).await.unwrap();
        answers.push(told(answer).await);
    }
    let headers = [("sec-websocket-protocol", offer.as_str())];
    let refused = client.websocket("/v1/ws?channel=$x", &headers).await;
    answers.push(told(refused).await);
    for body in [json!({"channels": ["$x"], "token": token}), json!({"channels": token})] {
        let answer = client
            .ask(axum::http::Method::POST, "/v1/poll", &body.to_string())
            .await;
        answers.push(told(answer).await);
    }
    answers
}

/// On a connection: in commands, and as the reason of its end.
async fn converse(address: SocketAddr, good: &str, broken: &str) -> Vec<String> {
    let bearer = format!("Bearer {good}");
    let opened = WebSocket::open_with(address, &[], &[("authorization", &bearer)]).await;
    let mut socket = opened.unwrap();
    socket.push().await.unwrap();
    let mut answers = Vec::new();
    for command in [
        json!({"type": "refresh", "id": 1, "token": broken}),
        json!({"type": "refresh", "id": 2, "token": {"is": CANARY}}),
        json!({"type": "subscribe", "id": 3, "channel": "a", "token": CANARY}),
    ] {
        socket.command(&command).await.unwrap();
        answers.push(socket.push().await.unwrap().text);
    }
    let mut reason = 4000_u16.to_be_bytes().to_vec();
    reason.extend_from_slice(CANARY.as_bytes());
    socket.link().send(&frames::close_with(&reason)).await.unwrap();
    // The answer to the close: by then the server has read it.
    answers.push(format!("{:?}", socket.next().await.unwrap()));
    answers
}

fn all_are_refused(answers: &[String]) {
    let is_refused = |answer: &String| answer.contains("status: 4") || answer.contains("status: 5");
    assert!(answers.iter().all(is_refused), "{answers:#?}");
}

/// A good token, and what of it must stand nowhere.
fn good_token() -> (String, String) {
    let claims = json!({"sub": "ada", "exp": now_s() + 600, "throughline": {"subscribe": ["*"], "publish": ["*"]}});
    let good = forge(
        r#"{"alg":"HS256"}"#,
        &claims.to_string(),
        Signer::Hmac(SECRET.as_bytes()),
    );
    let signature = good.rsplit('.').next().unwrap().to_owned();
    (good, signature)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_stands_in_no_log_and_in_no_answer() {
    let server = Server::start("token_canary", "");
    let address = server.address;
    let (good, signature) = good_token();
    let broken = format!("eyJhbGciOiJIUzI1NiJ9.{CANARY}.{CANARY}");
    let mut answers = Vec::new();
    for request in [good.as_str(), &broken, CANARY].into_iter().flat_map(requests) {
        answers.push(answer(address, &request).await);
    }
    for token in [good.as_str(), &broken] {
        answers.extend(over_http2(address, token).await);
    }
    all_are_refused(&answers);
    answers.extend(converse(address, &good, &broken).await);
    answers.push(answer(address, &http::get("/metrics", &[])).await);
    let bare = answer(address, &http::get("/nowhere", &[])).await;
    assert!(bare.contains("404"), "{bare}");
    for answer in &answers {
        assert!(!answer.contains(CANARY) && !answer.contains(&signature), "{answer}");
    }
    // What is published is nobody's business but its readers'.
    let bearer = format!("Bearer {good}");
    let payload = json!({"channel": "a", "data": CANARY, "event": CANARY, "idempotency_key": CANARY}).to_string();
    let headers = [("authorization", bearer.as_str())];
    let published = answer(address, &http::post("/v1/publish", &headers, payload.as_bytes())).await;
    assert!(published.contains("status: 200"), "{published}");
    let read = answer(address, &http::get("/v1/poll?channel=a&since=start", &headers)).await;
    assert!(read.contains(CANARY), "it was published: {read}");
    server.has_said_none_of(&[CANARY, &signature, SECRET]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_it_where_the_app_is_asked() {
    const HOOK_SECRET: &str = "c2VjcmV0IG9mIHRoZSBob29rcywgbG9uZyBlbm91Z2g";
    // Nobody answers there, and the log says so.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let hooks = format!(
        "[hooks]\nconnect_url = \"http://{nobody}/app?key={CANARY}\"\nsecret = \"{HOOK_SECRET}\"\n\
         forward_headers = [\"cookie\", \"authorization\"]\ntimeout_ms = 500\n"
    );
    let server = Server::start("token_canary_hooks", &hooks);
    let (good, signature) = good_token();
    let mut answers = Vec::new();
    for request in [good.as_str(), CANARY].into_iter().flat_map(requests) {
        answers.push(answer(server.address, &request).await);
    }
    answers.extend(over_http2(server.address, &good).await);
    all_are_refused(&answers);
    server.has_said_none_of(&[CANARY, &signature, SECRET, HOOK_SECRET]);
}
