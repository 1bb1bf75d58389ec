//! Receiving by Server-Sent Events (`GET /v1/sse`).

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::{Request, Response};

use super::arrival::Arrival;
use super::cursor::Cursor;
use super::deadline::{HEAD_MAX, SILENCE_MAX_DEFAULT, within};
use super::event_stream::{EVENT_BYTES_MAX, Event, EventTooBig, Item, Parser};
use super::failure::Failure;
use super::http;
use super::peer::Peer;
use super::push::Push;

const MEDIA_TYPE: &str = "text/event-stream";

#[derive(Debug)]
pub(crate) struct Connection {
    body: Incoming,
    parser: Parser,
    arrivals: VecDeque<Arrival>,
    last_event_id: String,
    silence_max: Duration,
    /// Carries the body for as long as it is read.
    _http: http::Connection,
}

impl Connection {
    pub(crate) async fn open(peer: &Peer, cursor: &mut Cursor) -> Result<Self, Failure> {
        let mut http = http::Connection::open(peer).await?;
        let endpoint = peer.endpoint("/v1/sse", &cursor.query_for_stream());
        let request = Request::get(endpoint).header(ACCEPT, MEDIA_TYPE);
        let answer = http.ask(request, Bytes::new(), HEAD_MAX).await?;
        check_media_type(&answer)?;
        Ok(Self {
            body: answer.into_body(),
            parser: Parser::default(),
            arrivals: VecDeque::new(),
            last_event_id: String::new(),
            silence_max: SILENCE_MAX_DEFAULT,
            _http: http,
        })
    }

    pub(crate) async fn next(&mut self) -> Result<Arrival, Failure> {
        loop {
            if let Some(arrival) = self.arrivals.pop_front() {
                return Ok(arrival);
            }
            let chunk = self.chunk().await?;
            let items = self
                .parser
                .feed(&chunk)
                .map_err(|EventTooBig| Failure::Violation(format!("an event of more than {EVENT_BYTES_MAX} bytes")))?;
            for item in items {
                match item {
                    Item::Event(event) => self.take_event(event)?,
                    Item::Retry(delay) => self.arrivals.push_back(Arrival::Retry(delay)),
                }
            }
        }
    }

    async fn chunk(&mut self) -> Result<Bytes, Failure> {
        match within(self.silence_max, "sign of life", self.body.frame()).await? {
            Some(Ok(frame)) => Ok(frame.into_data().unwrap_or_default()),
            Some(Err(error)) => Err(Failure::broken("connection lost", &error)),
            None => Err(Failure::Broken("the server ended the stream".to_owned())),
        }
    }

    fn take_event(&mut self, event: Event) -> Result<(), Failure> {
        let push = Push::parse(event.data)?;
        // What `onmessage` of a browser sees, and what it does not.
        if push.is_publication() != (event.name == "message") {
            let what = format!("an event named {:?} with the push {}", event.name, push.line());
            return Err(Failure::Violation(what));
        }
        self.silence_max = push.silence_max().unwrap_or(self.silence_max);
        self.arrivals.push_back(Arrival::Push(push));
        if event.last_event_id != self.last_event_id {
            self.arrivals.push_back(Arrival::Cursor(event.last_event_id.clone()));
            self.last_event_id = event.last_event_id;
        }
        Ok(())
    }
}

fn check_media_type(answer: &Response<Incoming>) -> Result<(), Failure> {
    let media_type = answer
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("nothing");
    if media_type
        .split(';')
        .next()
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case(MEDIA_TYPE))
    {
        return Ok(());
    }
    Err(Failure::Broken(format!(
        "the server answered with {media_type} instead of {MEDIA_TYPE}"
    )))
}
