//! Keys that an issuer publishes, fetched over HTTP from a server that the test scripts.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use support::deadline::within;
use support::event_source::EventSource;
use support::event_stream::Item;
use support::http::{self, Head};
use support::link::{Link, Receive};
use support::node::{Node, Setup, read_config};
use support::tokens::{Signer, forge, now_s};
use support::websocket::{Said, WebSocket};
use throughline::http::HttpClient;
use throughline::session::identity::FetchKeys;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// An issuer's server.
struct Server {
    address: SocketAddr,
    /// What it answers; `None`: it reads the question, and says nothing.
    answer: Arc<Mutex<Option<String>>>,
    /// How often it was asked, and how many who waited for an answer have given up.
    asked: Arc<AtomicUsize>,
    given_up: Arc<AtomicUsize>,
}

impl Server {
    async fn start(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            answer: Arc::new(Mutex::new(Some(answer))),
            asked: Arc::default(),
            given_up: Arc::default(),
        };
        let (answer, asked) = (Arc::clone(&server.answer), Arc::clone(&server.asked));
        let given_up = Arc::clone(&server.given_up);
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && socket.read_buf(&mut head).await.unwrap() > 0 {}
                let says = answer.lock().unwrap().clone();
                asked.fetch_add(1, Ordering::SeqCst);
                let Some(says) = says else {
                    let given_up = Arc::clone(&given_up);
                    tokio::spawn(async move {
                        while socket.read(&mut [0; 16]).await.is_ok_and(|count| count > 0) {}
                        given_up.fetch_add(1, Ordering::SeqCst);
                    });
                    continue;
                };
                // Whoever is refused for its length may leave before the end.
                let _ = socket.write_all(says.as_bytes()).await;
            }
        });
        server
    }

    fn say(&self, answer: Option<String>) {
        *self.answer.lock().unwrap() = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    async fn is_asked(&self, times: usize) {
        within("a question to the issuer", async {
            while self.asked() < times {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    fn config(&self) -> String {
        format!("issuers = [{{ jwks_url = \"http://{}/keys\" }}]", self.address)
    }
}

/// Has the node read its configuration again, which is the same: whoever does so has changed keys.
fn reload(node: &Node, server: &Server) {
    let fetch: Arc<dyn FetchKeys> = Arc::new(HttpClient::default());
    let config = read_config(&format!("[auth]\n{}\n", server.config()));
    node.edge().apply(config.terms(&fetch, &[]).unwrap());
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

async fn status(node: &Node, token: &str) -> u16 {
    let mut link = Link::connect(node.address, Receive::Usual).await.unwrap();
    let bearer = format!("Bearer {token}");
    let request = http::get("/v1/history?channel=a", &[("authorization", &bearer)]);
    link.send(&request).await.unwrap();
    Head::read(&mut link).await.unwrap().unwrap().status
}

fn token(kid: &str) -> String {
    signed(&format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#), Signer::Ed)
}

fn signed(header: &str, signer: Signer<'_>) -> String {
    let grants = json!({"history": ["*"], "subscribe": ["*"]});
    let claims = json!({"sub": "ada", "exp": now_s() + 600, "throughline": grants});
    forge(header, &claims.to_string(), signer)
}

fn published() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/keys/jwks.json")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn published_keys_let_in_and_a_storm_of_unknown_ones_asks_once() {
    let server = Server::start(ok(&published())).await;
    let node = Node::start(Setup::auth(&server.config()));
    assert_eq!(status(&node, &token("ed-1")).await, 200);
    for at in 0..50 {
        assert_eq!(status(&node, &token(&format!("unknown-{at}"))).await, 401);
    }
    assert_eq!(status(&node, &token("ed-1")).await, 200);
    assert_eq!(server.asked(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_set_of_keys_lets_nobody_in() {
    let elsewhere = Server::start(ok(&published())).await;
    let long = format!("{}{}", published(), " ".repeat(300 * 1024));
    for (name, answer) in [
        ("a failure", "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n".to_owned()),
        ("a page", ok("<html>")),
        ("no keys", ok(r#"{"keys":[]}"#)),
        ("too much", ok(&long)),
        (
            "an answer cut short",
            "HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\n{".to_owned(),
        ),
        (
            "a redirect",
            format!(
                "HTTP/1.1 302 Found\r\nlocation: http://{}/keys\r\ncontent-length: 0\r\n\r\n",
                elsewhere.address
            ),
        ),
    ] {
        let server = Server::start(answer).await;
        let node = Node::start(Setup::auth(&server.config()));
        assert_eq!(status(&node, &token("ed-1")).await, 503, "{name}");
        assert_eq!(status(&node, &token("ed-1")).await, 503, "{name}");
        assert_eq!(server.asked(), 1, "{name}");
    }
    assert_eq!(elsewhere.asked(), 0, "no redirect is followed");
}

/// The same without the key of this name.
fn published_without(kid: &str) -> String {
    let mut set: Value = serde_json::from_str(&published()).unwrap();
    set["keys"].as_array_mut().unwrap().retain(|key| key["kid"] != kid);
    set.to_string()
}

async fn open(node: &Node, token: &str) -> WebSocket {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let mut socket = WebSocket::open_with(node.address, &[("channel", "a")], &headers)
        .await
        .unwrap();
    while socket.push().await.unwrap().kind() != "subscribed" {}
    socket
}

/// The code of the last word to a session, and that of the close.
async fn closed(socket: &mut WebSocket) -> (String, u16) {
    within("the end of the session", async {
        let mut last = String::new();
        loop {
            match socket.next().await.unwrap() {
                Said::Push(push) if push.kind() == "closing" => push.text_of("code").clone_into(&mut last),
                Said::Push(_) => {}
                Said::Closed { code, .. } => break (last, code),
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_leave_when_the_published_key_that_let_them_in_is_withdrawn_and_the_others_stay() {
    let server = Server::start(ok(&published())).await;
    let node = Node::start(Setup::auth(&server.config()));
    let withdrawn = token("ed-1");
    let mut socket = open(&node, &withdrawn).await;
    let mut stream = EventSource::open(node.address, Receive::Usual, &[("channel", "a"), ("token", &withdrawn)])
        .await
        .unwrap();
    let mut other = open(&node, &signed(r#"{"alg":"ES256","kid":"ec-1"}"#, Signer::Ec)).await;

    // The same keys again, and no answer at all: nobody leaves.
    reload(&node, &server);
    server.is_asked(2).await;
    server.say(Some("HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n".to_owned()));
    reload(&node, &server);
    server.is_asked(3).await;
    socket.command(&json!({"type": "ping", "id": 1})).await.unwrap();
    while socket.push().await.unwrap().kind() != "pong" {}

    server.say(Some(ok(&published_without("ed-1"))));
    reload(&node, &server);
    assert_eq!(closed(&mut socket).await, ("token_invalid".to_owned(), 4401));
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
    assert_eq!(status(&node, &withdrawn).await, 401);
    other.command(&json!({"type": "ping", "id": 1})).await.unwrap();
    while other.push().await.unwrap().kind() != "pong" {}
}

/// Told apart by what the issuer's server sees: whoever waited for it would be answered after the question was given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_that_is_silent_keeps_nobody_waiting_whose_key_is_known() {
    let server = Server::start(ok(&published())).await;
    let node = Node::start(Setup::auth(&server.config()));
    let known = token("ed-1");
    assert_eq!(status(&node, &known).await, 200);
    server.say(None);
    for round in 0.. {
        let given_up = server.given_up.load(Ordering::SeqCst);
        let asked = server.asked();
        reload(&node, &server);
        server.is_asked(asked + 1).await;
        assert_eq!(status(&node, &known).await, 200);
        if server.given_up.load(Ordering::SeqCst) == given_up {
            break;
        }
        // Or the machine stood still for as long as a question may take.
        assert!(round < 3, "the answer came when the question was over, again and again");
    }
    // Nobody knows this one, so it waits, and not for ever.
    assert_eq!(within("a refusal", status(&node, &token("unknown"))).await, 401);
}
