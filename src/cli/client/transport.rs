//! The three transports behind one connection, which gives one arrival after the other.

use std::fmt;

use super::arrival::Arrival;
use super::cursor::Cursor;
use super::failure::Failure;
use super::peer::Peer;
use super::{event_source, poll, websocket};

/// How pushes reach us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Transport {
    /// WebSocket
    Ws,
    /// Server-Sent Events
    Sse,
    /// Long-poll
    Poll,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ws => "WebSocket",
            Self::Sse => "Server-Sent Events",
            Self::Poll => "long-poll",
        })
    }
}

#[derive(Debug)]
pub(crate) enum Connection {
    WebSocket(Box<websocket::Connection>),
    EventSource(Box<event_source::Connection>),
    Poll(Box<poll::Connection>),
}

impl Connection {
    pub(crate) async fn open(peer: &Peer, cursor: &mut Cursor, transport: Transport) -> Result<Self, Failure> {
        Ok(match transport {
            Transport::Ws => Self::WebSocket(Box::new(websocket::Connection::open(peer, cursor).await?)),
            Transport::Sse => Self::EventSource(Box::new(event_source::Connection::open(peer, cursor).await?)),
            Transport::Poll => Self::Poll(Box::new(poll::Connection::open(peer).await?)),
        })
    }

    /// The next arrival. A poll asks again by `cursor` when all that its last answer brought was taken.
    pub(crate) async fn next(&mut self, cursor: &mut Cursor) -> Result<Arrival, Failure> {
        match self {
            Self::WebSocket(connection) => connection.next().await,
            Self::EventSource(connection) => connection.next().await,
            Self::Poll(connection) => connection.next(cursor).await,
        }
    }
}
