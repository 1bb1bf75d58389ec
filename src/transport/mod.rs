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
use axum::http::{Extensions, HeaderMap, Method};
use axum::routing::{MethodRouter, get};
use bytes::Bytes;

use crate::delivery::{ChannelName, Joined};
use crate::http::{identify, media_type, read_body, visitor};
use crate::metrics::Transport;
use crate::protocol::websocket::{ping_frame, text_frame};
use crate::protocol::{Code, Limits, Problem, Push, StreamRequest, read_stream_body, read_stream_query};
use crate::session::Node;
use crate::session::identity::Identity;
use crate::session::limits::{Arrival, Bucket, Clock, Rate, Seat};

pub use pulse::Pulse;

/// How far the returns of those who were refused are spread, in milliseconds.
const RETRY_SPREAD_MS: u64 = 1000;

/// How many browsers may be told on the connection why their WebSocket is refused. Beyond that there is a flood, and
/// everyone gets the status, which costs less.
const TOLD_REFUSALS: Rate = Rate::new(100, 200);

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
            write_timeout_ms: 10_000,
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
    told_refusals: Option<Bucket>,
}

impl Transports {
    /// The transports of `node`; `clock` tells what is a flood.
    pub fn new(node: Arc<Node>, timings: Timings, clock: Clock) -> Self {
        Self {
            node,
            timings,
            pulse: Arc::new(Pulse::new(timings)),
            heartbeat_frame: text_frame(Push::Heartbeat.to_json().as_bytes()),
            ping_frame: ping_frame(b""),
            told_refusals: Bucket::new(TOLD_REFUSALS, clock),
        }
    }

    /// A place for the session that a request asks for, by its extensions.
    fn seat(&self, extensions: &Extensions, arrival: Arrival) -> Result<Seat, Problem> {
        visitor(extensions).arrive(arrival).map_err(|mut problem| {
            // Everybody who was refused would come back at the same moment.
            if let Some(retry_ms) = &mut problem.retry_ms {
                *retry_ms += self.node.random_below(RETRY_SPREAD_MS);
            }
            problem
        })
    }

    /// Whether there is no flood of refusals.
    fn may_tell_refusal(&self) -> bool {
        self.told_refusals.as_ref().is_none_or(|bucket| bucket.draw().is_ok())
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

/// Logs why there is no session. Without the detail, which may have names in it that the client made up.
fn note_refused(transport: Transport, problem: &Problem) {
    tracing::debug!(
        transport = transport.label(),
        reason = problem.code.as_str(),
        "a session is refused"
    );
}

/// `GET /v1/ws`; over HTTP/2 `CONNECT` (RFC 8441).
pub fn websocket_route() -> MethodRouter<Arc<Transports>> {
    get(websocket::upgrade).connect(websocket::upgrade)
}

/// A WebSocket that says everything back.
pub fn websocket_echo_route() -> MethodRouter<Arc<Transports>> {
    get(websocket::echo)
}

/// `GET`, `POST /v1/sse`
pub fn event_source_route() -> MethodRouter<Arc<Transports>> {
    get(event_source::stream).post(event_source::stream)
}

/// `GET`, `POST /v1/poll`
pub fn poll_route() -> MethodRouter<Arc<Transports>> {
    get(poll::answer).post(poll::answer)
}

/// How a subscription began that no command asked for.
fn subscribed(channel: ChannelName, joined: Joined) -> Push {
    Push::Subscribed {
        channel,
        joined,
        id: None,
    }
}

/// What is wrong with a body that is not JSON, and does not say that it is.
fn of_another_type(headers: &HeaderMap, problem: Problem) -> Problem {
    let named = media_type(headers);
    let is_json = matches!(
        &*named,
        "" | "application/json" | "text/plain" | "application/x-www-form-urlencoded"
    );
    if problem.code != Code::BadJson || is_json {
        return problem;
    }
    let detail = format!("the body must be JSON, sent as `application/json` or `text/plain`, and not {named}");
    Problem::new(Code::UnsupportedMediaType, detail)
}

/// Who sends an SSE or long-poll request, and what it asks for: in its query, or in the JSON of its body.
async fn read_request(
    transports: &Transports,
    request: Request,
    last_event_id: Option<&str>,
) -> Result<(Arc<Identity>, StreamRequest), Problem> {
    let limits = transports.node.limits();
    let (head, asked, missing) = if request.method() == Method::POST {
        let (head, body) = read_body(request, limits.body_bytes_max.min(Limits::STREAM_BODY_BYTES_MAX)).await?;
        let missing = "no channel is named; add `\"channels\":[…]` with at least one name";
        let asked = read_stream_body(&body).map_err(|problem| of_another_type(&head.headers, problem))?;
        (head, asked, missing)
    } else {
        let (head, _) = request.into_parts();
        let asked = read_stream_query(head.uri.query().unwrap_or_default())?;
        let missing = "no channel is named; add `?channel=NAME`, once for each channel";
        (head, asked, missing)
    };
    let in_body = asked.token.as_ref().filter(|_| head.method == Method::POST);
    let identity = identify(&transports.node, &head, in_body).await?;
    let added = transports.node.channels_at_connect(&identity);
    let asked = asked.checked(added.as_deref(), last_event_id, &limits)?;
    let missing = if transports.node.lacks_personal_channel(&identity) {
        "no channel is named, and the `sub` of this token has none of its own: it has white space, `,`, `*`, `\"` or `\\`, or \
         is too long for a channel's name"
    } else {
        missing
    };
    Ok((identity, asked.with_channels(missing)?))
}
