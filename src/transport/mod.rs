//! The subscribing endpoints. An adapter turns a request into a session, and what the session says into bytes.
//!
//! What every adapter owes: a reader that stalls costs a bounded number of bytes, silence is broken by a heartbeat,
//! every wait has a deadline, and the client is told why it ends.

mod event_source;
mod poll;
mod pulse;
mod websocket;

use std::sync::Arc;

use axum::extract::Request;
use axum::http::Method;
use axum::routing::{MethodRouter, get};
use bytes::Bytes;

use crate::http::{identify, read_body};
use crate::protocol::websocket::{ping_frame, text_frame};
use crate::protocol::{Problem, Push, StreamRequest, read_stream_body, read_stream_query};
use crate::session::Node;
use crate::session::identity::Identity;

pub use pulse::Pulse;

/// How long the transports wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// How long a connection may be without a push, in milliseconds; twice as long without a sign of life ends it.
    pub heartbeat_ms: u64,
    /// How long a reader may take nothing before it is closed, in milliseconds.
    pub write_timeout_ms: u64,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            heartbeat_ms: 25_000,
            write_timeout_ms: 20_000,
        }
    }
}

/// What the adapters share.
#[derive(Debug)]
pub struct Transports {
    node: Arc<Node>,
    timings: Timings,
    pulse: Arc<Pulse>,
    /// Encoded once for all connections.
    heartbeat_frame: Bytes,
    ping_frame: Bytes,
}

impl Transports {
    /// The transports of `node`.
    pub fn new(node: Arc<Node>, timings: Timings) -> Self {
        Self {
            node,
            timings,
            pulse: Arc::new(Pulse::new(timings.heartbeat_ms)),
            heartbeat_frame: text_frame(Push::Heartbeat.to_json().as_bytes()),
            ping_frame: ping_frame(b""),
        }
    }

    /// What wakes connections that have to do something by the clock; somebody has to run it.
    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// A delay between one and three seconds, so that clients do not come back all at once.
    fn retry_ms(&self) -> u64 {
        1000 + self.node.random_below(2000)
    }
}

/// `GET /v1/ws`
pub fn websocket_route() -> MethodRouter<Arc<Transports>> {
    get(websocket::upgrade)
}

/// `GET`, `POST /v1/sse`
pub fn event_source_route() -> MethodRouter<Arc<Transports>> {
    get(event_source::stream).post(event_source::stream)
}

/// `GET`, `POST /v1/poll`
pub fn poll_route() -> MethodRouter<Arc<Transports>> {
    get(poll::answer).post(poll::answer)
}

/// Who sends an SSE or long-poll request, and what it asks for: in its query, or in the JSON of its body.
async fn read_request(
    transports: &Transports,
    request: Request,
    last_event_id: Option<&str>,
) -> Result<(Arc<Identity>, StreamRequest), Problem> {
    let limits = transports.node.limits();
    let (head, asked, missing) = if request.method() == Method::POST {
        let (head, body) = read_body(request, limits.body_bytes_max).await?;
        let missing = "no channel is named; add `\"channels\":[…]` with at least one name";
        (head, read_stream_body(&body)?, missing)
    } else {
        let (head, _) = request.into_parts();
        let asked = read_stream_query(head.uri.query().unwrap_or_default())?;
        let missing = "no channel is named; add `?channel=NAME`, once for each channel";
        (head, asked, missing)
    };
    let in_body = asked.token.as_ref().filter(|_| head.method == Method::POST);
    let identity = identify(&transports.node, &head, in_body).await?;
    let asked = asked.checked(identity.channels(), last_event_id, limits)?;
    Ok((identity, asked.with_channels(missing)?))
}
