//! The real server asks apps that know nothing of it: the example in Python's standard library, and one behind TLS.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;

use serde_json::{Value, json};
use support::app::{App, Reply};
use support::deadline::within;
use support::folder::Folder;
use support::http::{self, Head};
use support::link::{Link, Receive};
use support::served::Served;
use support::service::{Service, Start};
use support::websocket::{Said, WebSocket};
use throughline::server::Tls;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef";

/// `examples/hooks/app.py`; killed on drop.
struct Example {
    _process: Child,
    url: String,
}

impl Example {
    async fn start(secret: &str) -> Self {
        let mut process = Command::new("python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/hooks/app.py"))
            .arg("0")
            .env("HOOKS_SECRET", secret)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("python3: run scripts/test");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let url = within("the example's address", lines.next_line())
            .await
            .unwrap()
            .unwrap();
        Self {
            _process: process,
            url: format!("{url}/hooks"),
        }
    }

    /// The server that asks it.
    async fn edge(&self) -> Served {
        Served::start(&[
            ("THROUGHLINE_HOOKS__CONNECT_URL", &self.url),
            ("THROUGHLINE_HOOKS__SUBSCRIBE_URL", &self.url),
            ("THROUGHLINE_HOOKS__PUBLISH_URL", &self.url),
            ("THROUGHLINE_HOOKS__SECRET", SECRET),
            ("THROUGHLINE_HOOKS__FORWARD_HEADERS", "cookie"),
            // Nobody is there; and nobody is asked to pass a question on.
            ("HTTP_PROXY", "http://127.0.0.1:9"),
            ("http_proxy", "http://127.0.0.1:9"),
            ("ALL_PROXY", "http://127.0.0.1:9"),
        ])
        .await
    }
}

async fn ask(address: SocketAddr, request: &[u8]) -> (u16, Value) {
    let mut link = Link::connect(address, Receive::Usual).await.unwrap();
    link.send(request).await.unwrap();
    let head = Head::read(&mut link).await.unwrap().unwrap();
    if head.header("content-type").starts_with("text/event-stream") {
        return (head.status, Value::Null);
    }
    let body = head.body().unwrap().read_to_end(&mut link).await.unwrap();
    (head.status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn the_example_decides_as_its_text_says() {
    let example = Example::start(SECRET).await;
    let edge = example.edge().await;
    let ada = [("cookie", "theme=dark; session=a1"), ("origin", "http://localhost")];
    let (status, body) = ask(edge.address, &http::get("/v1/poll?channel=chat:1", &[])).await;
    assert_eq!(
        (status, &body["code"], &body["detail"]),
        (401, &json!("unauthenticated"), &json!("sign in first"))
    );
    let (status, body) = ask(edge.address, &http::get("/v1/poll?channel=news", &ada)).await;
    assert_eq!(status, 200, "the personal channel is there: {body}");
    assert_eq!(body["pushes"][0]["code"], "forbidden", "{body}");
    assert_eq!(body["pushes"][1]["channel"], "user:ada", "{body}");

    let mut socket = WebSocket::open_with(edge.address, &[("channel", "chat:1")], &ada)
        .await
        .unwrap();
    let welcome = socket.push().await.unwrap();
    assert!(welcome.value["expires_at"].as_u64().unwrap() > support::tokens::now_s() * 1000);
    for channel in ["chat:1", "user:ada"] {
        let push = socket.push().await.unwrap();
        assert_eq!((push.kind(), push.channel()), ("subscribed", channel));
    }
    for (data, told) in [
        (
            json!({"text": "hi", "from": "eve"}),
            json!({"text": "hi", "from": "ada"}),
        ),
        (json!({"text": "spam"}), json!("no spam, please")),
    ] {
        let command = json!({"type": "publish", "channel": "chat:1", "data": data});
        socket.command(&command).await.unwrap();
        loop {
            let push = socket.push().await.unwrap();
            match push.kind() {
                "publication" => {
                    let data: Value = serde_json::from_str(&push.data.unwrap()).unwrap();
                    break assert_eq!(data, told);
                }
                "error" => break assert_eq!(push.value["message"], told),
                other => assert_eq!(other, "published"),
            }
        }
    }
    let (_, body) = ask(edge.address, &http::get("/v1/history?channel=chat:1", &ada)).await;
    assert_eq!(body["publications"][0]["data"], json!({"text": "hi", "from": "ada"}));
    // A browser that is not signed in is told so on the connection.
    let stranger = [("origin", "http://localhost")];
    let mut socket = WebSocket::open_with(edge.address, &[("channel", "chat:1")], &stranger)
        .await
        .unwrap();
    assert_eq!(socket.push().await.unwrap().text_of("message"), "sign in first");
    assert!(matches!(socket.next().await.unwrap(), Said::Closed { code: 4401, .. }));
    edge.stop().await;
}

#[tokio::test]
async fn an_app_that_does_not_know_the_secret_decides_nothing() {
    let example = Example::start("another secret, of another edge's").await;
    let edge = example.edge().await;
    let ada = [("cookie", "session=a1"), ("origin", "http://localhost")];
    let (status, body) = ask(edge.address, &http::get("/v1/poll?channel=chat:1", &ada)).await;
    assert_eq!((status, &body["code"]), (503, &json!("overloaded")));
    edge.stop().await;
}

/// An app behind TLS that allows everything.
async fn serve_over_tls(cert: &str, key: &str) -> SocketAddr {
    let certificates = CertificateDer::pem_slice_iter(cert.as_bytes())
        .map(Result::unwrap)
        .collect();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            // Who does not trust it leaves during the handshake.
            let Ok(mut socket) = acceptor.accept(socket).await else {
                continue;
            };
            let mut asked = Vec::new();
            while !asked.ends_with(b"}") && socket.read_buf(&mut asked).await.unwrap_or_default() > 0 {}
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 14\r\nconnection: close\r\n\r\n{\"allow\":true}";
            socket.write_all(answer.as_bytes()).await.unwrap();
            let _ = socket.shutdown().await;
        }
    });
    address
}

#[tokio::test]
async fn an_app_behind_tls_is_asked_if_the_machine_trusts_it_and_not_otherwise() {
    let folder = Folder::new("hooks-tls");
    let certificate = |name: &str| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (cert, key) = (
            folder.path().join(format!("{name}.pem")),
            folder.path().join(format!("{name}.key")),
        );
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        // It is one that a server can have.
        Tls::load(&cert, &key).unwrap();
        (cert, made.cert.pem(), made.signing_key.serialize_pem())
    };
    let (trusted, cert, key) = certificate("app");
    let (other, ..) = certificate("other");
    let app = serve_over_tls(&cert, &key).await;
    let url = format!("https://localhost:{}/hooks", app.port());
    for (trust, expected) in [(trusted, 200), (other, 503)] {
        let edge = Served::start(&[
            ("THROUGHLINE_HOOKS__SUBSCRIBE_URL", &url),
            ("SSL_CERT_FILE", trust.to_str().unwrap()),
        ])
        .await;
        let (status, _) = ask(edge.address, &http::get("/v1/sse?channel=a", &[])).await;
        assert_eq!(status, expected, "{}", trust.display());
        edge.stop().await;
    }
}

/// Stands wherever somebody's credentials could.
const CANARY: &str = "Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5";

#[tokio::test(flavor = "multi_thread")]
async fn what_the_app_is_shown_and_says_stands_in_no_log() {
    let app = App::start(|asked| match asked.body["channel"].as_str() {
        Some("garbage") => Reply::status(200, &format!("{{\"allow\":\"{CANARY}\"}}")),
        Some("failure") => Reply::status(500, CANARY),
        Some("unknown") => Reply::json(&json!({"allow": true, CANARY: CANARY})),
        _ => Reply::json(&json!({"allow": true, "user": CANARY, "grants": {"history": [CANARY]}})),
    })
    .await;
    let mut edge = Service::start(Start {
        environment: &[
            (
                "THROUGHLINE_HOOKS__CONNECT_URL",
                &format!("{}?key={CANARY}", app.url("connect")),
            ),
            ("THROUGHLINE_HOOKS__SUBSCRIBE_URL", &app.url("subscribe")),
            ("THROUGHLINE_HOOKS__PUBLISH_URL", &app.url("publish")),
            ("THROUGHLINE_HOOKS__SECRET", CANARY),
            ("THROUGHLINE_HOOKS__FORWARD_HEADERS", "cookie,x-session"),
            ("THROUGHLINE_LOG", "trace"),
        ],
        ..Start::default()
    });
    let address = edge.address().await;
    let cookie = format!("session={CANARY}");
    let headers = [
        ("cookie", cookie.as_str()),
        ("x-session", CANARY),
        ("origin", "http://localhost"),
    ];
    for channel in ["garbage", "failure", "unknown"] {
        let (status, body) = ask(address, &http::get(&format!("/v1/poll?channel={channel}"), &headers)).await;
        assert_eq!(status, 503, "{body}");
        assert!(!body.to_string().contains(CANARY), "{body}");
    }
    let body = json!({"channel": "ok", "data": CANARY}).to_string();
    let (status, _) = ask(address, &http::post("/v1/publish", &headers, body.as_bytes())).await;
    assert_eq!(status, 503, "`user` is no answer to `publish`");
    edge.says("the app gives no answer").await;
    edge.signal("TERM").await;
    edge.ends().await;
    let said = edge.said();
    assert!(
        app.asked()
            .iter()
            .all(|asked| asked.header("x-session") == Some(CANARY)),
        "it was shown"
    );
    assert!(said.contains("TRACE"), "trace lines are there:\n{said}");
    assert!(!said.contains(CANARY), "{said}");
}
