//! A token in every place where a client may put one, and in some where it should not, stands in no log at any level
//! and in no answer.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::io::Read;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::json;
use support::frames;
use support::http::{self, Head};
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
    fn start() -> Self {
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("token_canary");
        std::fs::create_dir_all(&folder).unwrap();
        let (config, log) = (folder.join("config.toml"), folder.join("log"));
        let text = format!("[auth]\ncookie = \"session\"\n[[auth.issuers]]\nsecret = \"{SECRET}\"\n");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_token_stands_in_no_log_and_in_no_answer() {
    let server = Server::start();
    let address = server.address;
    let claims = json!({"sub": "ada", "exp": now_s() + 600, "throughline": {"subscribe": ["*"]}}).to_string();
    let good = forge(r#"{"alg":"HS256"}"#, &claims, Signer::Hmac(SECRET.as_bytes()));
    let signature = good.rsplit('.').next().unwrap();
    let broken = format!("eyJhbGciOiJIUzI1NiJ9.{CANARY}.{CANARY}");
    let mut answers = Vec::new();
    for request in [good.as_str(), &broken, CANARY].into_iter().flat_map(requests) {
        answers.push(answer(address, &request).await);
    }
    let are_refused = answers
        .iter()
        .all(|answer| answer.contains("status: 4") || answer.contains("status: 5"));
    assert!(are_refused, "{answers:#?}");
    answers.extend(converse(address, &good, &broken).await);
    answers.push(answer(address, &http::get("/metrics", &[])).await);
    for answer in &answers {
        assert!(!answer.contains(CANARY) && !answer.contains(signature), "{answer}");
    }
    let log = server.said();
    assert!(log.contains("DEBUG"), "it logs what broke off: {log}");
    for line in log.lines() {
        assert!(
            !line.contains(CANARY) && !line.contains(signature) && !line.contains(SECRET),
            "{line}"
        );
    }
}
