//! Server-Sent Events: the session as the body of a response.

use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderName, USER_AGENT};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{FutureExt, Stream};
use tokio::time::{Instant, timeout_at};

use super::{Transports, note_refused, read_request, subscribed};
use crate::delivery::{ChannelName, Cursor, Since};
use crate::http::{header, text_header};
use crate::metrics::Transport;
use crate::protocol::{Code, Framed, IdLines, PresenceAsk, Problem, Push, StreamRequest, event_stream};
use crate::session::limits::Arrival;
use crate::session::{Output, Session};

/// Bytes that are put together into one write.
const BATCH_BYTES_MAX: usize = 64 * 1024;

/// `GET`, `POST /v1/sse`
pub(super) async fn stream(State(transports): State<Arc<Transports>>, request: Request) -> Response {
    let headers = request.headers().clone();
    let opened = open(&transports, request).await;
    match opened.inspect_err(|problem| note_refused(Transport::EventSource, problem)) {
        Ok((session, writer)) => stream_response(Body::from_stream(body(&transports, session, writer))),
        Err(problem) if problem.retry_ms.is_some() && is_native(&headers) => refusal(&problem),
        Err(problem) => problem.into_response(),
    }
}

async fn open(transports: &Arc<Transports>, request: Request) -> Result<(Session, Writer), Problem> {
    let last_event_id = text_header(request.headers(), "last-event-id").map_err(|problem| Problem {
        code: Code::BadCursor,
        ..problem
    })?;
    let seat = transports.seat(request.extensions(), Arrival::Connection)?;
    let (identity, asked) = read_request(transports, request, last_event_id.as_deref()).await?;
    let mut session = Session::open(&transports.node, Transport::EventSource, identity, seat)?;
    let mut writer = Writer::new(&asked);
    writer.write(&event_stream::padding());
    writer.write(&event_stream::retry(transports.retry_ms()));
    writer.push(&session.welcome(transports.timings.heartbeat_ms), None);
    writer.join(&mut session, asked.channels, asked.presence).await?;
    Ok((session, writer))
}

/// Whether this is a browser's own `EventSource`, which takes any status but 200 for final.
fn is_native(headers: &HeaderMap) -> bool {
    let is_browser = headers.contains_key("sec-fetch-mode")
        || header(headers, USER_AGENT).is_some_and(|agent| agent.starts_with("Mozilla/"));
    is_browser && header(headers, ACCEPT).is_some_and(|accept| accept.contains("text/event-stream"))
}

/// A refusal that lets a native client come back.
fn refusal(problem: &Problem) -> Response {
    let retry = event_stream::retry(problem.retry_ms.unwrap_or_default());
    let closing = Push::Closing(problem.clone());
    let events = retry + &event_stream::event(closing.kind(), &closing.to_json(), None);
    let mut response = stream_response(Body::from(events));
    response.extensions_mut().insert(problem.code);
    response
}

fn stream_response(body: Body) -> Response {
    const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
    let headers = [
        (CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (CACHE_CONTROL, "no-cache, no-store, no-transform"),
        (ACCEL_BUFFERING, "no"),
    ];
    (StatusCode::OK, headers, body).into_response()
}

fn body(
    transports: &Transports,
    mut session: Session,
    mut writer: Writer,
) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> + use<> {
    let heartbeat = Duration::from_millis(transports.timings.heartbeat_ms);
    stream! {
        let mut is_over = false;
        let mut quiet_from = Instant::now();
        loop {
            session.tell_time();
            is_over = is_over || writer.take_ready(&mut session);
            if !writer.text.is_empty() {
                if writer.take_has_publications() {
                    session.note_written();
                }
                yield Ok(Bytes::from(std::mem::take(&mut writer.text)));
                quiet_from = Instant::now();
            }
            if is_over {
                break;
            }
            let beat = quiet_from + heartbeat;
            let due = session.due_in_ms().map(|ms| Instant::now() + Duration::from_millis(ms));
            match timeout_at(due.map_or(beat, |due| due.min(beat)), session.next()).await {
                Ok(output) => is_over = writer.add(output),
                Err(_elapsed) if Instant::now() >= beat => writer.push(&Push::Heartbeat, None),
                // What is due by the token is told above.
                Err(_elapsed) => {}
            }
        }
    }
}

/// Turns what a session says into events, and keeps the cursor that stands after each.
struct Writer {
    text: Vec<u8>,
    cursor: Vec<Since>,
    id_lines: IdLines,
    has_publications: bool,
}

impl Writer {
    fn new(asked: &StreamRequest) -> Self {
        let cursor = asked.channels.iter().map(|(_, since)| *since).collect();
        Self {
            text: Vec::new(),
            cursor,
            id_lines: asked.id_lines,
            has_publications: false,
        }
    }

    /// Subscribes, and writes how each subscription began; the last one that did carries the cursor.
    async fn join(
        &mut self,
        session: &mut Session,
        channels: Vec<(ChannelName, Since)>,
        ask: PresenceAsk,
    ) -> Result<(), Problem> {
        let joined = session.join(channels, ask).await?;
        for (key, (_, joined)) in joined.iter().enumerate() {
            if let Ok(joined) = joined {
                self.cursor[key] = Since::After(joined.position);
            }
        }
        let last = joined.iter().rposition(|(_, joined)| joined.is_ok());
        for (key, (channel, joined)) in joined.into_iter().enumerate() {
            match joined {
                Ok(joined) => {
                    let id = (Some(key) == last).then(|| self.id()).flatten();
                    self.push(&subscribed(channel, joined), id.as_deref());
                }
                Err(problem) => self.push(
                    &Push::Unsubscribed {
                        channel,
                        problem: Some(problem),
                        id: None,
                    },
                    None,
                ),
            }
        }
        Ok(())
    }

    /// Takes what the session has at once, as far as it fits; says whether that was the end.
    fn take_ready(&mut self, session: &mut Session) -> bool {
        while self.text.len() < BATCH_BYTES_MAX
            && let Some(output) = session.next().now_or_never()
        {
            if self.add(output) {
                return true;
            }
        }
        false
    }

    /// Writes one output; says whether it was the last.
    fn add(&mut self, output: Output) -> bool {
        match output {
            Output::Publication { key, publication } => {
                self.has_publications = true;
                self.cursor[key] = Since::After(publication.position);
                let framed = Framed::of(&publication);
                let parts = match (self.id_lines, self.cursor.len()) {
                    (IdLines::Cursor, 1) => framed.event_stream(),
                    (IdLines::Cursor, _) => {
                        self.write(&event_stream::id_line(&self.cursor_text()));
                        framed.event_stream_without_id()
                    }
                    (IdLines::None, _) => framed.event_stream_without_id(),
                };
                for part in parts {
                    self.text.extend_from_slice(part);
                }
                false
            }
            Output::Gap { key, channel, gap } => {
                self.cursor[key] = Since::After(gap.to);
                let id = self.id();
                self.push(&Push::Gap { channel, gap }, id.as_deref());
                false
            }
            Output::Joined { key, channel, joined } => {
                self.cursor[key] = Since::After(joined.position);
                let id = self.id();
                self.push(&subscribed(channel, joined), id.as_deref());
                false
            }
            Output::Presence(frame) => {
                self.write(&event_stream::event(frame.kind(), frame.json(), None));
                false
            }
            Output::Push(push) => {
                self.push(&push, None);
                false
            }
            Output::Ending(ending) => {
                if let Some(problem) = ending.problem {
                    if let Some(retry_ms) = problem.retry_ms {
                        self.write(&event_stream::retry(retry_ms));
                    }
                    self.push(&Push::Closing(problem), None);
                }
                true
            }
        }
    }

    /// Whether publications were added since it was last asked.
    fn take_has_publications(&mut self) -> bool {
        std::mem::take(&mut self.has_publications)
    }

    fn write(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
    }

    fn push(&mut self, push: &Push, id: Option<&str>) {
        self.write(&event_stream::event(push.kind(), &push.to_json(), id));
    }

    fn id(&self) -> Option<String> {
        (self.id_lines == IdLines::Cursor).then(|| self.cursor_text())
    }

    fn cursor_text(&self) -> String {
        self.cursor.iter().copied().collect::<Cursor>().to_string()
    }
}
