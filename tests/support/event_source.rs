//! A reader over Server-Sent Events on the raw socket: head, chunks and event stream are taken apart here.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use super::event_stream::{Event, EventStream, Item};
use super::http::{self, Body, Head};
use super::link::{Link, Receive, ended};

/// An open stream.
#[derive(Debug)]
pub(crate) struct EventSource {
    pub(crate) head: Head,
    link: Link,
    body: Body,
    stream: EventStream,
    items: VecDeque<Item>,
}

/// What the server answered to a request for a stream.
#[derive(Debug)]
pub(crate) enum Answer {
    Stream(Box<EventSource>),
    /// Anything but 200, with its whole body.
    Refusal(Head, Vec<u8>),
}

impl EventSource {
    /// Sends a request and reads the head of its answer.
    pub(crate) async fn request(address: SocketAddr, receive: Receive, request: &[u8]) -> io::Result<Answer> {
        let mut link = Link::connect(address, receive).await?;
        link.send(request).await?;
        let head = Head::read(&mut link)
            .await?
            .ok_or_else(|| ended("before it answered"))?;
        let body = head.body()?;
        if head.status != 200 {
            let body = body.read_to_end(&mut link).await?;
            return Ok(Answer::Refusal(head, body));
        }
        Ok(Answer::Stream(Box::new(Self {
            head,
            link,
            body,
            stream: EventStream::default(),
            items: VecDeque::new(),
        })))
    }

    /// Sends a request that must be answered by a stream.
    pub(crate) async fn send(address: SocketAddr, receive: Receive, request: &[u8]) -> io::Result<Self> {
        match Self::request(address, receive, request).await? {
            Answer::Stream(stream) => Ok(*stream),
            Answer::Refusal(head, body) => Err(io::Error::other(format!(
                "not a stream: {head:?} {}",
                String::from_utf8_lossy(&body)
            ))),
        }
    }

    /// `GET /v1/sse` with a query.
    pub(crate) async fn open(address: SocketAddr, receive: Receive, query: &[(&str, &str)]) -> io::Result<Self> {
        let request = http::get(&http::target("/v1/sse", query), &[]);
        Self::send(address, receive, &request).await
    }

    pub(crate) fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    pub(crate) fn into_link(self) -> Link {
        self.link
    }

    /// What came and was not given yet, or else what one read brings, which may be nothing whole. Cancel safe.
    pub(crate) async fn read(&mut self) -> io::Result<Vec<Item>> {
        self.take()?;
        if self.items.is_empty() {
            if !self.link.read().await? {
                return Err(ended("within a stream"));
            }
            self.take()?;
        }
        Ok(self.items.drain(..).collect())
    }

    /// The next item. `None`: the stream has ended as it should.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Item>> {
        loop {
            self.take()?;
            if let Some(item) = self.items.pop_front() {
                return Ok(Some(item));
            }
            if self.body.is_done() {
                return Ok(None);
            }
            if !self.link.read().await? {
                return Err(ended("within a stream"));
            }
        }
    }

    /// The next event, whatever else comes before it.
    pub(crate) async fn event(&mut self) -> io::Result<Event> {
        loop {
            match self.next().await? {
                Some(Item::Event(event)) => return Ok(event),
                Some(_) => {}
                None => return Err(io::Error::other("the stream has ended")),
            }
        }
    }

    /// Whether an event has come in part.
    pub(crate) fn is_within_event(&self) -> bool {
        self.stream.is_within_event()
    }

    fn take(&mut self) -> io::Result<()> {
        let bytes = self.body.take(&mut self.link.input)?;
        self.items.extend(self.stream.feed(&bytes));
        Ok(())
    }
}
