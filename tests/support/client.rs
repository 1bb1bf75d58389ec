//! A user with a token on all three transports, and an operator: what they ask, and what they are told.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::event_source::{Answer, EventSource};
use super::http::{self, Head};
use super::link::{Link, Receive};
use super::push::Push;
use super::tokens::{SECRET, api_key, hash, token};
use super::websocket::{Said, WebSocket};

/// The transports on which a user can be.
pub(crate) const TRANSPORTS: [&str; 3] = ["ws", "sse", "poll"];

/// `[auth]`: an issuer, and an operator's key, which is [`api_key`] of `O`.
pub(crate) fn auth() -> String {
    let key = |name: &str, character, scopes: &str| {
        let hash = hash(&api_key(character));
        format!(r#"{{ name = "{name}", hash = "{hash}", scopes = [{scopes}], channels = ["*"] }}"#)
    };
    let (operator, publisher) = (
        key("operator", 'O', r#""operator""#),
        key("publisher", 'P', r#""publish""#),
    );
    format!("leeway_s = 0\nissuers = [{{ secret = \"{SECRET}\" }}]\napi_keys = [{operator}, {publisher}]")
}

/// A token of a user, for all of every channel.
pub(crate) fn token_of(user: &str) -> String {
    let all = json!(["*"]);
    token(user, 3600, &json!({"subscribe": all, "publish": all, "history": all}))
}

pub(crate) fn bearer(credential: &str) -> String {
    format!("Bearer {credential}")
}

/// Sends a request over a connection of its own; the status, and the JSON that is answered.
pub(crate) async fn ask(address: SocketAddr, request: &[u8]) -> (u16, Value) {
    let mut link = Link::connect(address, Receive::Usual).await.unwrap();
    link.send(request).await.unwrap();
    let head = Head::read(&mut link).await.unwrap().unwrap();
    let body = head.body().unwrap().read_to_end(&mut link).await.unwrap();
    (head.status, serde_json::from_slice(&body).unwrap_or_default())
}

/// An operator asks.
pub(crate) async fn operate(address: SocketAddr, path: &str, body: &Value) -> (u16, Value) {
    let bearer = bearer(&api_key('O'));
    let request = http::post(path, &[("authorization", &bearer)], body.to_string().as_bytes());
    ask(address, &request).await
}

/// An operator reads.
pub(crate) async fn read(address: SocketAddr, target: &str) -> (u16, Value) {
    let bearer = bearer(&api_key('O'));
    ask(address, &http::get(target, &[("authorization", &bearer)])).await
}

/// A user who is connected.
#[derive(Debug)]
pub(crate) enum Client {
    Ws(WebSocket),
    Sse(Box<EventSource>),
    /// A poll that waits. What is answered is the last that it is told.
    Poll(Link),
}

impl Client {
    /// Connects, and waits until it is subscribed. A poll goes on from there, and waits.
    ///
    /// # Errors
    /// The `code` of the refusal.
    pub(crate) async fn open(
        address: SocketAddr,
        transport: &str,
        token: &str,
        channels: &[&str],
    ) -> Result<Self, String> {
        let bearer = bearer(token);
        let headers = [("authorization", bearer.as_str())];
        let query: Vec<_> = channels.iter().map(|channel| ("channel", *channel)).collect();
        match transport {
            "ws" => {
                // As a browser, which is told on the connection.
                let host = format!("http://{address}");
                let headers = [headers[0], ("origin", &*host)];
                let mut socket = WebSocket::open_with(address, &query, &headers).await.unwrap();
                for _ in 0..=channels.len() {
                    let push = socket.push().await.unwrap();
                    if push.kind() == "closing" {
                        return Err(push.text_of("code").to_owned());
                    }
                }
                Ok(Self::Ws(socket))
            }
            "sse" => {
                let request = http::get(&http::target("/v1/sse", &query), &headers);
                match EventSource::request(address, Receive::Usual, &request).await.unwrap() {
                    Answer::Refusal(_, body) => Err(code_of(&serde_json::from_slice(&body).unwrap())),
                    Answer::Stream(mut stream) => {
                        for _ in 0..=channels.len() {
                            stream.event().await.unwrap();
                        }
                        Ok(Self::Sse(stream))
                    }
                }
            }
            _ => {
                let (status, answer) = ask(address, &http::get(&http::target("/v1/poll", &query), &headers)).await;
                if status != 200 {
                    return Err(code_of(&answer));
                }
                let cursor = answer["cursor"].as_str().unwrap();
                let query = [&query[..], &[("since", cursor), ("wait", "55")]].concat();
                let mut link = Link::connect(address, Receive::Usual).await.unwrap();
                let request = http::get(&http::target("/v1/poll", &query), &headers);
                link.send(&request).await.unwrap();
                Ok(Self::Poll(link))
            }
        }
    }

    /// The next push but heartbeats; a WebSocket's close frame, and the end of a stream, come as `closed`.
    pub(crate) async fn next(&mut self) -> String {
        let shown = |push: &Push| {
            let words = [push.kind(), push.channel(), push.text_of("code")];
            words
                .into_iter()
                .filter(|word| !word.is_empty())
                .collect::<Vec<_>>()
                .join(" ")
        };
        match self {
            Self::Ws(socket) => match socket.next().await.unwrap() {
                Said::Push(push) => shown(&push),
                Said::Closed { code, .. } => format!("closed {code}"),
            },
            Self::Sse(stream) => loop {
                match stream.next().await.unwrap() {
                    Some(super::event_stream::Item::Event(event)) => return shown(&Push::parse(event.data).unwrap()),
                    Some(_) => {}
                    None => return "closed".to_owned(),
                }
            },
            Self::Poll(link) => {
                let head = Head::read(link).await.unwrap().unwrap();
                let body = head.body().unwrap().read_to_end(link).await.unwrap();
                let answer: Value = serde_json::from_slice(&body).unwrap();
                let pushes = answer["pushes"].as_array().unwrap().iter();
                let pushes: Vec<_> = pushes
                    .map(|push| shown(&Push::parse(push.to_string()).unwrap()))
                    .collect();
                pushes.join(", ")
            }
        }
    }
}

/// The `code` of a problem.
pub(crate) fn code_of(problem: &Value) -> String {
    problem["code"].as_str().unwrap_or_default().to_owned()
}
