//! Receiving by WebSocket (`GET /v1/ws`).

use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use hyper::upgrade::Upgraded;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio_stream::StreamExt;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::arrival::Arrival;
use super::cursor::Cursor;
use super::deadline::{CLOSE_MAX, HEAD_MAX, SILENCE_MAX_DEFAULT, within};
use super::failure::{Failure, Refusal};
use super::http;
use super::peer::Peer;
use super::push::Push;

const SUBPROTOCOL: &str = "throughline.v1";
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The close codes that say not to come back: no command of ours, no token, not allowed.
const CODES_FINAL: [u16; 3] = [4400, 4401, 4403];

#[derive(Debug)]
pub(crate) struct Connection {
    socket: WebSocketStream<TokioIo<Upgraded>>,
    silence_max: Duration,
}

impl Connection {
    /// Shakes hands by HTTP, so that a refusal is read as on every other transport.
    pub(crate) async fn open(peer: &Peer, cursor: &mut Cursor) -> Result<Self, Failure> {
        let key = generate_key();
        let request = Request::get(peer.endpoint("/v1/ws", &cursor.query_for_stream()))
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &key)
            .header(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL);
        let mut http = http::Connection::open(peer).await?;
        let answer = http.ask(request, Bytes::new(), HEAD_MAX).await?;
        check_handshake(&answer, &key)?;
        let upgraded = within(HEAD_MAX, "upgrade", hyper::upgrade::on(answer)).await?;
        let upgraded = upgraded.map_err(|error| Failure::broken("connection lost", &error))?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, Some(config)).await;
        Ok(Self {
            socket,
            silence_max: SILENCE_MAX_DEFAULT,
        })
    }

    /// The next push. Pings are answered by the library, and count as life.
    pub(crate) async fn next(&mut self) -> Result<Arrival, Failure> {
        loop {
            match self.message().await? {
                Message::Text(text) => {
                    let push = Push::parse(text.as_str().to_owned())?;
                    self.silence_max = push.silence_max().unwrap_or(self.silence_max);
                    return Ok(Arrival::Push(push));
                }
                Message::Binary(_) => return Err(Failure::Violation("a binary frame".to_owned())),
                Message::Close(frame) => {
                    // Sends the library's answer to it, as a courtesy: the connection is over either way.
                    let _ = within(CLOSE_MAX, "end", self.socket.flush()).await;
                    return Err(closed(frame));
                }
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    async fn message(&mut self) -> Result<Message, Failure> {
        match within(self.silence_max, "sign of life", self.socket.next()).await? {
            Some(Ok(message)) => Ok(message),
            Some(Err(error @ (Error::Capacity(_) | Error::Utf8(_)))) => Err(Failure::Violation(error.to_string())),
            Some(Err(error)) => Err(Failure::broken("connection lost", &error)),
            None => Err(Failure::Broken("the server closed the connection".to_owned())),
        }
    }
}

/// RFC 6455, §4.1: what the server's handshake must say.
fn check_handshake(answer: &Response<Incoming>, key: &str) -> Result<(), Failure> {
    let status = answer.status();
    if status != StatusCode::SWITCHING_PROTOCOLS {
        return Err(Failure::Broken(format!(
            "the server, or a proxy before it, answered {status} to the upgrade"
        )));
    }
    let accept = header(answer, &SEC_WEBSOCKET_ACCEPT);
    let subprotocol = header(answer, &SEC_WEBSOCKET_PROTOCOL);
    let is_upgraded = header(answer, &UPGRADE).is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
    if is_upgraded && accept == Some(derive_accept_key(key.as_bytes()).as_str()) && subprotocol == Some(SUBPROTOCOL) {
        return Ok(());
    }
    Err(Failure::Broken(format!(
        "not a handshake for {SUBPROTOCOL}: {:?}",
        answer.headers()
    )))
}

fn header<'a>(answer: &'a Response<Incoming>, name: &HeaderName) -> Option<&'a str> {
    answer.headers().get(name).and_then(|value| value.to_str().ok())
}

/// What a `Close` means that no `closing` push came before.
fn closed(frame: Option<CloseFrame>) -> Failure {
    let Some(frame) = frame else {
        return Failure::Broken("the server closed the connection".to_owned());
    };
    let code = u16::from(frame.code);
    if CODES_FINAL.contains(&code) {
        return Failure::Refused(Refusal::from_push(&code.to_string(), &frame.reason, None));
    }
    Failure::Broken(format!("the server closed the connection: {code} {}", frame.reason))
}
