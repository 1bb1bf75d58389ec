//! One connection over any transport: what it brings, and how it is broken off.

use std::io;
use std::net::SocketAddr;

use crate::support::event_source::EventSource;
use crate::support::event_stream::Item;
use crate::support::http;
use crate::support::link::Receive;
use crate::support::poll::{Answer, Poll};
use crate::support::push::Push;
use crate::support::websocket::{Said, WebSocket};

/// The ways to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    WebSocket,
    EventSource,
    Poll,
}

impl Transport {
    pub(crate) const ALL: [Self; 3] = [Self::WebSocket, Self::EventSource, Self::Poll];
}

/// A connection that is read from.
#[derive(Debug)]
pub(crate) enum Connection {
    WebSocket(WebSocket),
    EventSource(Box<EventSource>),
    Poll(Poll),
}

/// What a connection brings.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// Over WebSocket.
    Push(Push),
    /// Over an event stream: a push, the event's name, and the id that it carries.
    Event {
        push: Push,
        kind: String,
        id: Option<String>,
    },
    /// A whole answer to a poll.
    Answer(Answer),
}

/// How an event stream is asked to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    Query,
    Header,
    Body,
}

impl Connection {
    /// Opens an event stream on channels from a cursor; `query` has both.
    pub(crate) async fn event_source(
        address: SocketAddr,
        receive: Receive,
        since: Since,
        channels: &[&str],
        cursor: &str,
    ) -> io::Result<Self> {
        let mut query: Vec<_> = channels.iter().map(|channel| ("channel", *channel)).collect();
        let request = match since {
            Since::Query => {
                query.push(("since", cursor));
                http::get(&http::target("/v1/sse", &query), &[])
            }
            Since::Header => http::get(&http::target("/v1/sse", &query), &[("last-event-id", cursor)]),
            Since::Body => {
                let body = serde_json::json!({"channels": channels, "since": cursor}).to_string();
                http::post("/v1/sse", &[("content-type", "text/plain")], body.as_bytes())
            }
        };
        let stream = EventSource::send(address, receive, &request).await?;
        Ok(Self::EventSource(Box::new(stream)))
    }

    pub(crate) fn transport(&self) -> Transport {
        match self {
            Self::WebSocket(_) => Transport::WebSocket,
            Self::EventSource(_) => Transport::EventSource,
            Self::Poll(_) => Transport::Poll,
        }
    }

    /// Reads once; that may bring nothing whole. Cancel safe.
    pub(crate) async fn read(&mut self) -> io::Result<Vec<Arrival>> {
        match self {
            Self::WebSocket(socket) => socket.read().await?.into_iter().map(said).collect(),
            Self::EventSource(stream) => stream.read().await?.into_iter().filter_map(item).collect(),
            Self::Poll(poll) => Ok(poll.read().await?.map(Arrival::Answer).into_iter().collect()),
        }
    }

    /// From now on, takes so many bytes at a time.
    pub(crate) fn sip(&mut self, bytes: usize) {
        match self {
            Self::WebSocket(socket) => socket.link().sip(bytes),
            Self::EventSource(stream) => stream.link().sip(bytes),
            Self::Poll(poll) => poll.sip(bytes),
        }
    }

    /// Whether a frame, an event or an answer has come in part.
    pub(crate) fn is_cut(&self) -> bool {
        match self {
            Self::WebSocket(socket) => socket.is_within_frame(),
            Self::EventSource(stream) => stream.is_within_event(),
            Self::Poll(poll) => poll.is_within_answer(),
        }
    }

    /// Closes a WebSocket in good order, and gives what came before the server did the same; others just end.
    pub(crate) async fn close(&mut self) -> io::Result<Vec<Arrival>> {
        match self {
            Self::WebSocket(socket) => Ok(socket.close().await?.into_iter().map(Arrival::Push).collect()),
            Self::EventSource(_) | Self::Poll(_) => Ok(Vec::new()),
        }
    }

    /// Breaks off with a reset; dropping it closes the socket instead.
    pub(crate) fn reset(self) {
        let link = match self {
            Self::WebSocket(socket) => Some(socket.into_link()),
            Self::EventSource(stream) => Some(stream.into_link()),
            Self::Poll(poll) => poll.into_link(),
        };
        if let Some(link) = link {
            link.reset();
        }
    }
}

fn said(said: Said) -> io::Result<Arrival> {
    match said {
        Said::Push(push) => Ok(Arrival::Push(push)),
        Said::Closed { code, reason } => Err(io::Error::other(format!("the server closed with {code} {reason:?}"))),
    }
}

fn item(item: Item) -> Option<io::Result<Arrival>> {
    match item {
        Item::Event(event) => Some(Push::parse(event.data).map(|push| Arrival::Event {
            push,
            kind: event.kind,
            id: event.id,
        })),
        Item::Retry(_) | Item::Comment(_) | Item::Empty { id: None } => None,
        Item::Empty { id: Some(id) } => Some(Err(io::Error::other(format!(
            "an id without data, which some browsers forget: {id}"
        )))),
    }
}
