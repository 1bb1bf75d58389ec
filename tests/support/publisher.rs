//! A back end that publishes over HTTP, and repeats a request whose answer it did not get.

use std::io;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::http::{self, Head};
use super::link::{Link, Receive, ended};
use super::node::Node;
use super::place::Place;

/// Where one publication landed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) channel: String,
    pub(crate) place: Place,
    pub(crate) duplicate: bool,
}

/// A client of `POST /v1/publish`, which keeps its connection.
#[derive(Debug)]
pub(crate) struct Publisher {
    address: SocketAddr,
    link: Option<Link>,
}

impl Publisher {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, link: None }
    }

    /// Publishes what one request asks for. It carries `key`, so that repeating it is harmless.
    pub(crate) async fn publish(&mut self, body: &str, key: &str) -> io::Result<Vec<Published>> {
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        let request = http::post("/v1/publish", &headers, body.as_bytes());
        let (status, answer) = self.send(&request).await?;
        if status != 200 {
            return Err(io::Error::other(format!("publishing was answered {status}: {answer}")));
        }
        let results = answer["results"].as_array().cloned();
        let results = results.unwrap_or_else(|| vec![answer.clone()]);
        let read = |result: &Value| {
            Some(Published {
                channel: result["channel"].as_str()?.to_owned(),
                place: Place::parse(result["position"].as_str()?)?,
                duplicate: result["duplicate"].as_bool()?,
            })
        };
        let results: Option<Vec<_>> = results.iter().map(read).collect();
        results.ok_or_else(|| {
            let shown: String = answer.to_string().chars().take(1_000).collect();
            io::Error::other(format!("not everything was published: {shown}"))
        })
    }

    /// Sends a request, once more on a new connection if the old one was closed while it was idle.
    pub(crate) async fn send(&mut self, request: &[u8]) -> io::Result<(u16, Value)> {
        if let Some(link) = self.link.take()
            && let Ok(Some(answer)) = self.exchange(link, request).await
        {
            return Ok(answer);
        }
        let link = Link::connect(self.address, Receive::Usual).await?;
        let answer = self.exchange(link, request).await?;
        answer.ok_or_else(|| ended("before it answered"))
    }

    /// The status of the answer to a request, whatever its body is.
    pub(crate) async fn status(&mut self, request: &[u8]) -> io::Result<u16> {
        let mut link = Link::connect(self.address, Receive::Usual).await?;
        link.send(request).await?;
        let head = Head::read(&mut link).await?;
        Ok(head.ok_or_else(|| ended("before it answered"))?.status)
    }

    async fn exchange(&mut self, mut link: Link, request: &[u8]) -> io::Result<Option<(u16, Value)>> {
        link.send(request).await?;
        let Some(head) = Head::read(&mut link).await? else {
            return Ok(None);
        };
        let body = head.body()?.read_to_end(&mut link).await?;
        if head.header("connection") != "close" {
            self.link = Some(link);
        }
        let answer = serde_json::from_slice(&body).map_err(|error| {
            let shown = String::from_utf8_lossy(&body).into_owned();
            io::Error::other(format!("answered {} with {shown:?}: {error}", head.status))
        })?;
        Ok(Some((head.status, answer)))
    }
}

/// Publishes so many to one channel: 0, 1, 2 … Gives the position of the last one.
pub(crate) async fn publish_numbers(node: &Node, channel: &str, count: u32) -> Place {
    let items: Vec<_> = (0..count).map(|n| json!({"channel": channel, "data": n})).collect();
    let (body, key) = (Value::from(items).to_string(), format!("{channel}{count}"));
    let answers = Publisher::new(node.address).publish(&body, &key).await;
    let answers = answers.expect("what can be stored is stored");
    answers.last().expect("at least one").place.clone()
}
