//! A reader over long-poll, which keeps its connection between two polls and can break off within an answer.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::Instant;

use super::http::{self, Body, Head};
use super::link::{Link, Receive, ended};
use super::push::Push;

/// What one poll was told.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) cursor: String,
    /// What the next poll hands back, where presence is on.
    pub(crate) session: Option<String>,
    pub(crate) pushes: Vec<Push>,
    /// For how long it was waited.
    pub(crate) waited: Duration,
}

/// A client with at most one poll on its way.
#[derive(Debug)]
pub(crate) struct Poll {
    address: SocketAddr,
    receive: Receive,
    sip: Option<usize>,
    link: Option<Link>,
    on_its_way: Option<Exchange>,
}

#[derive(Debug)]
struct Exchange {
    request: Vec<u8>,
    /// It went out on a connection that had been idle, which the server may have closed.
    is_reused: bool,
    began: Instant,
    answer: Option<(Head, Body)>,
    body: Vec<u8>,
}

impl Poll {
    pub(crate) fn new(address: SocketAddr, receive: Receive) -> Self {
        Self {
            address,
            receive,
            sip: None,
            link: None,
            on_its_way: None,
        }
    }

    /// `GET /v1/poll` with a query.
    pub(crate) async fn get(&mut self, query: &[(&str, &str)]) -> io::Result<()> {
        self.ask(http::get(&http::target("/v1/poll", query), &[])).await
    }

    /// Sends a poll; [`Poll::read`] brings its answer.
    pub(crate) async fn ask(&mut self, request: Vec<u8>) -> io::Result<()> {
        assert!(self.on_its_way.is_none(), "one poll at a time");
        self.on_its_way = Some(Exchange {
            request,
            is_reused: false,
            began: Instant::now(),
            answer: None,
            body: Vec::new(),
        });
        self.send().await
    }

    /// Over the connection there is, unless the server has closed it meanwhile, as it may between two polls.
    async fn send(&mut self) -> io::Result<()> {
        let Some(exchange) = &mut self.on_its_way else {
            return Ok(());
        };
        exchange.is_reused = self.link.is_some();
        if let Some(link) = &mut self.link
            && link.send(&exchange.request).await.is_ok()
        {
            return Ok(());
        }
        exchange.is_reused = false;
        let mut link = Link::connect(self.address, self.receive).await?;
        if let Some(bytes) = self.sip {
            link.sip(bytes);
        }
        link.send(&exchange.request).await?;
        self.link = Some(link);
        Ok(())
    }

    pub(crate) fn is_asking(&self) -> bool {
        self.on_its_way.is_some()
    }

    /// From now on, takes so many bytes at a time.
    pub(crate) fn sip(&mut self, bytes: usize) {
        self.sip = Some(bytes);
        if let Some(link) = &mut self.link {
            link.sip(bytes);
        }
    }

    /// Whether an answer has come in part.
    pub(crate) fn is_within_answer(&self) -> bool {
        let Some(exchange) = &self.on_its_way else { return false };
        exchange.answer.is_some() || self.link.as_ref().is_some_and(|link| !link.input.is_empty())
    }

    /// Reads once: the answer, if that was the rest of it. Cancel safe while an answer is on its way.
    pub(crate) async fn read(&mut self) -> io::Result<Option<Answer>> {
        let (Some(exchange), Some(link)) = (&mut self.on_its_way, &mut self.link) else {
            return Err(io::Error::other("no poll is on its way"));
        };
        let may_be_stale = exchange.is_reused && exchange.answer.is_none() && link.input.is_empty();
        match link.read().await {
            Ok(true) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(error),
            Ok(false) | Err(_) if may_be_stale => {
                // Nothing was answered, and a poll may be repeated.
                self.link = None;
                self.send().await?;
                return Ok(None);
            }
            Ok(false) => return Err(ended("within an answer")),
            Err(error) => return Err(error),
        }
        exchange.take(link)?;
        let is_whole = matches!(&exchange.answer, Some((_, body)) if body.is_done());
        if !is_whole {
            return Ok(None);
        }
        let exchange = self.on_its_way.take().ok_or_else(|| ended("twice"))?;
        exchange.finish().map(Some)
    }

    /// Reads until the answer is there.
    pub(crate) async fn answer(&mut self) -> io::Result<Answer> {
        loop {
            if let Some(answer) = self.read().await? {
                return Ok(answer);
            }
        }
    }

    /// Gives the connection up, an answer on its way included.
    pub(crate) fn into_link(self) -> Option<Link> {
        self.link
    }
}

impl Exchange {
    fn take(&mut self, link: &mut Link) -> io::Result<()> {
        if self.answer.is_none()
            && let Some(head) = Head::take(&mut link.input)?
        {
            let body = head.body()?;
            self.answer = Some((head, body));
        }
        if let Some((_, body)) = &mut self.answer {
            self.body.extend(body.take(&mut link.input)?);
        }
        Ok(())
    }

    fn finish(self) -> io::Result<Answer> {
        #[derive(serde::Deserialize)]
        struct Told<'a> {
            cursor: String,
            session: Option<String>,
            #[serde(borrow)]
            pushes: Vec<&'a RawValue>,
        }
        let text = String::from_utf8(self.body).map_err(io::Error::other)?;
        let status = self.answer.map_or(0, |(head, _)| head.status);
        if status != 200 {
            return Err(io::Error::other(format!("a poll was answered {status}: {text}")));
        }
        let told: Told<'_> = serde_json::from_str(&text).map_err(io::Error::other)?;
        let pushes = told.pushes.into_iter().map(|push| Push::parse(push.get().to_owned()));
        Ok(Answer {
            pushes: pushes.collect::<io::Result<_>>()?,
            cursor: told.cursor,
            session: told.session,
            waited: self.began.elapsed(),
        })
    }
}
