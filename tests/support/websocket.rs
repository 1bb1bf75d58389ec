//! A reader over WebSocket, which can stop reading, take a few bytes at a time, and break off in the middle of a frame.

use std::io;
use std::net::SocketAddr;

use super::frames::{self, Frame};
use super::http::{self, Head};
use super::link::{Link, Receive, ended};
use super::push::Push;

/// RFC 6455 §1.3: a key, and what the server must answer to it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// An open connection.
#[derive(Debug)]
pub(crate) struct WebSocket {
    link: Link,
}

/// What the server said.
#[derive(Debug)]
pub(crate) enum Said {
    Push(Push),
    Closed { code: u16, reason: String },
}

impl WebSocket {
    pub(crate) async fn open(address: SocketAddr, receive: Receive, query: &[(&str, &str)]) -> io::Result<Self> {
        let link = Link::connect(address, receive).await?;
        Self::shake(link, query, &[]).await
    }

    /// A connection whose handshake has more headers.
    pub(crate) async fn open_with(
        address: SocketAddr,
        query: &[(&str, &str)],
        more: &[(&str, &str)],
    ) -> io::Result<Self> {
        let link = Link::connect(address, Receive::Usual).await?;
        Self::shake(link, query, more).await
    }

    async fn shake(mut link: Link, query: &[(&str, &str)], more: &[(&str, &str)]) -> io::Result<Self> {
        let headers = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", KEY),
        ];
        let headers = [&headers, more].concat();
        link.send(&http::get(&http::target("/v1/ws", query), &headers)).await?;
        let head = Head::read(&mut link)
            .await?
            .ok_or_else(|| ended("before it answered"))?;
        if head.status != 101 || head.header("sec-websocket-accept") != ACCEPT {
            return Err(io::Error::other(format!("not a WebSocket: {head:?}")));
        }
        Ok(Self { link })
    }

    pub(crate) fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    pub(crate) fn into_link(self) -> Link {
        self.link
    }

    /// What came and was not given yet, or else what one read brings, which may be nothing whole. Cancel safe.
    pub(crate) async fn read(&mut self) -> io::Result<Vec<Said>> {
        let said = self.take().await?;
        if !said.is_empty() {
            return Ok(said);
        }
        if !self.link.read().await? {
            return Err(ended("without a close frame"));
        }
        self.take().await
    }

    /// Reads until something is said.
    pub(crate) async fn next(&mut self) -> io::Result<Said> {
        loop {
            if let Some(said) = self.take_one().await? {
                return Ok(said);
            }
            if !self.link.read().await? {
                return Err(ended("without a close frame"));
            }
        }
    }

    /// The next push.
    pub(crate) async fn push(&mut self) -> io::Result<Push> {
        match self.next().await? {
            Said::Push(push) => Ok(push),
            Said::Closed { code, reason } => Err(io::Error::other(format!("closed with {code} {reason:?}"))),
        }
    }

    /// Whether a frame has come in part.
    pub(crate) fn is_within_frame(&self) -> bool {
        !self.link.input.is_empty()
    }

    pub(crate) async fn command(&mut self, command: &serde_json::Value) -> io::Result<()> {
        self.link.send(&frames::text(&command.to_string())).await
    }

    /// Closes in good order; what comes before the server's close frame was still received.
    pub(crate) async fn close(&mut self) -> io::Result<Vec<Push>> {
        self.link.send(&frames::close(1000)).await?;
        let mut pushes = Vec::new();
        loop {
            match self.next().await? {
                Said::Push(push) => pushes.push(push),
                Said::Closed { code: 1000, .. } => return Ok(pushes),
                Said::Closed { code, reason } => {
                    return Err(io::Error::other(format!("1000 was answered with {code} {reason:?}")));
                }
            }
        }
    }

    async fn take(&mut self) -> io::Result<Vec<Said>> {
        let mut all = Vec::new();
        while let Some(said) = self.take_one().await? {
            all.push(said);
        }
        Ok(all)
    }

    async fn take_one(&mut self) -> io::Result<Option<Said>> {
        loop {
            match frames::take(&mut self.link.input)? {
                Some(Frame::Text(text)) => return Push::parse(text).map(|push| Some(Said::Push(push))),
                Some(Frame::Ping(payload)) => self.link.send(&frames::pong(&payload)).await?,
                Some(Frame::Pong) => {}
                Some(Frame::Close { code, reason }) => return Ok(Some(Said::Closed { code, reason })),
                None => return Ok(None),
            }
        }
    }
}
