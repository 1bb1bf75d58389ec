//! What is logged of single connections at `debug`: that a session is open, and why it has ended, by the name that its
//! client knows. And of connections that are refused before there is a session.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};
use support::client::{self, Client, TRANSPORTS, operate, token_of};
use support::event_source::{Answer, EventSource};
use support::folder::Folder;
use support::http::{self, Head};
use support::link::{Link, Receive};
use support::service::{Service, Start};
use support::websocket::WebSocket;

/// A server whose log is JSON, from a level on.
async fn start(folder: &Folder, config: &str, level: &str) -> (Service, SocketAddr) {
    let file = folder.path().join("throughline.toml");
    std::fs::write(&file, config).unwrap();
    let mut service = Service::start(Start {
        environment: &[
            ("THROUGHLINE_CONFIG", file.to_str().unwrap()),
            ("THROUGHLINE_LOG__FORMAT", "json"),
            ("THROUGHLINE_LOG__LEVEL", level),
        ],
        ..Start::default()
    });
    service.says("listening").await;
    let address = service.address_said();
    (service, address)
}

fn guarded() -> String {
    format!("[auth]\n{}", client::auth())
}

/// The lines of sessions, in their order.
fn of_sessions(service: &Service) -> Vec<Value> {
    let said = service.said();
    let lines = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line.get("transport").is_some()).collect()
}

/// Waits until a session has ended, and gives its line.
async fn end_of(service: &mut Service, session: &str) -> Value {
    service
        .says(&format!(
            "\"message\":\"a session has ended\",\"session\":\"{session}\""
        ))
        .await;
    let ended = |line: &Value| line["session"] == session && line["message"] == "a session has ended";
    of_sessions(service).into_iter().find(ended).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_logged_by_the_name_that_its_client_was_told() {
    let folder = Folder::new("logs of sessions");
    let (mut service, address) = start(&folder, &guarded(), "debug").await;
    let bearer = client::bearer(&token_of("somebody-known"));
    let headers = [("authorization", bearer.as_str())];
    let query = [("channel", "chat:known")];

    let mut socket = WebSocket::open_with(address, &query, &headers).await.unwrap();
    let welcome = socket.push().await.unwrap();
    let closes = welcome.text_of("session").to_owned();
    let close = support::frames::close_with(&1000_u16.to_be_bytes());
    socket.link().send(&close).await.unwrap();

    let mut socket = WebSocket::open_with(address, &query, &headers).await.unwrap();
    let is_ended = socket.push().await.unwrap().text_of("session").to_owned();
    let (status, answer) = operate(address, "/v1/disconnect", &json!({"session": is_ended})).await;
    assert_eq!((status, &answer["sessions"]), (200, &json!(1)), "{answer}");

    let request = http::get(&http::target("/v1/sse", &query), &headers);
    let Answer::Stream(mut stream) = EventSource::request(address, Receive::Usual, &request).await.unwrap() else {
        panic!("it is refused");
    };
    let welcome: Value = serde_json::from_str(&stream.event().await.unwrap().data).unwrap();
    let breaks_off = welcome["session"].as_str().unwrap().to_owned();
    drop(stream);

    for (session, transport, reason) in [
        (&closes, "ws", "client"),
        (&is_ended, "ws", "denied"),
        (&breaks_off, "sse", "lost"),
    ] {
        let line = end_of(&mut service, session).await;
        assert_eq!(line["level"], "DEBUG");
        assert_eq!(
            (&line["transport"], &line["reason"]),
            (&json!(transport), &json!(reason)),
            "{line}"
        );
        assert!(line["duration_ms"].as_u64().unwrap() < 600_000, "{line}");
        let lines = of_sessions(&service);
        let first = lines.iter().find(|line| line["session"] == **session).unwrap();
        assert_eq!(first["message"], "a session is open");
        assert_eq!(first["transport"], transport);
    }

    let poll = http::get(&http::target("/v1/poll", &query), &headers);
    assert_eq!(client::ask(address, &poll).await.0, 200);
    service.says("\"reason\":\"answered\"").await;
    for transport in TRANSPORTS {
        let refused = Client::open(address, transport, "no.good.token", &["chat:known"]).await;
        assert_eq!(refused.unwrap_err(), "token_invalid");
        service
            .says(&format!(
                "\"message\":\"a session is refused\",\"transport\":\"{transport}\""
            ))
            .await;
    }
    // Who sent it away is said; of whom it was, what it read and what it showed, nothing is.
    service.says("\"api_key\":\"operator\"").await;
    for word in ["somebody-known", "chat:known", "no.good.token", &bearer] {
        assert!(!service.said().contains(word), "{word} in {}", service.said());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_info_nothing_is_said_of_single_sessions() {
    let folder = Folder::new("logs at info");
    let (mut service, address) = start(&folder, &guarded(), "info").await;
    drop(Client::open(address, "ws", &token_of("ada"), &["a"]).await.unwrap());
    operate(address, "/v1/disconnect", &json!({"user": "ada"})).await;
    service.says("an operator has sent somebody away").await;
    assert_eq!(of_sessions(&service), Vec::<Value>::new());
}

const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x7f\0\0\x01\0\x01\0\x02";

/// Connects from there, says this before a request, and sees whether that is answered.
async fn is_answered(from: Ipv4Addr, address: SocketAddr, first: &[u8]) -> bool {
    let mut link = Link::connect_from(from, address, Receive::Usual).await.unwrap();
    let request = [first, &http::get("/livez", &[])].concat();
    link.send(&request).await.is_ok() && matches!(Head::read(&mut link).await, Ok(Some(head)) if head.status == 200)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_without_their_proxy_header_are_said_once_with_the_fix() {
    let folder = Folder::new("logs of the PROXY protocol");
    let config = "[connections]\nproxy_protocol = \"v2\"\nproxy_protocol_from = [\"127.0.0.1/32\"]\n";
    let (mut service, address) = start(&folder, config, "info").await;
    let (proxy, stranger) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2));
    // A probe that connects and leaves is none of them.
    drop(Link::connect(address, Receive::Usual).await.unwrap());
    for _ in 0..20 {
        assert!(!is_answered(proxy, address, b"").await);
    }
    for _ in 0..3 {
        assert!(!is_answered(proxy, address, b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n").await);
    }
    for _ in 0..3 {
        assert!(!is_answered(stranger, address, PROXY_V2).await);
    }
    for _ in 0..3 {
        assert!(!is_answered(proxy, address, &[&PROXY_V2[..15], b"\x02ab"].concat()).await);
    }
    assert!(is_answered(proxy, address, PROXY_V2).await);
    service.says("has its PROXY protocol header").await;
    let said = service.said();
    let warned: Vec<_> = said.lines().filter(|line| line.contains("\"WARN\"")).collect();
    assert_eq!(warned.len(), 4, "{warned:#?}");
    for (line, words) in warned.iter().zip([
        ["begins without", "send-proxy-v2"],
        ["version 1", "send-proxy-v2"],
        ["\"peer\":\"127.0.0.2\"", "connections.proxy_protocol_from"],
        ["cannot be read", "version 2"],
    ]) {
        assert!(words.iter().all(|word| line.contains(word)), "{words:?} in {line}");
    }
}
