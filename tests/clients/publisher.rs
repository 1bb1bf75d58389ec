//! The publisher of these tests, and the raw reader of what it published: plain HTTP, no library of ours.

use std::fmt::Write;
use std::net::SocketAddr;
use std::ops::Range;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::transcript::{Transcript, entry};
use super::{CHANNEL, payloads, within};

/// How many batches there are, and publications in each.
pub(crate) const BATCHES: usize = 100;
const BATCH: usize = 100;

/// All publications of a test.
pub(crate) const COUNT: usize = BATCHES * BATCH;

/// One kept connection, and the positions that the server answered so far.
pub(crate) struct Publisher {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    positions: Vec<String>,
    _connection: JoinSet<()>,
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<Published>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Published {
    channel: String,
    position: String,
    duplicate: bool,
}

#[derive(Deserialize)]
struct Poll<'a> {
    cursor: String,
    #[serde(borrow)]
    pushes: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Push {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Publication<'a> {
    position: String,
    #[serde(borrow)]
    data: &'a RawValue,
    event: Option<String>,
}

impl Publisher {
    pub(crate) async fn connect(server: SocketAddr) -> Publisher {
        let stream = TcpStream::connect(server).await.expect("the server accepts");
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a connection");
        let mut task = JoinSet::new();
        task.spawn(async move {
            let _ = connection.await;
        });
        Publisher {
            sender,
            host: server.to_string(),
            positions: Vec::new(),
            _connection: task,
        }
    }

    /// Publishes these batches, one request after the other.
    pub(crate) async fn publish(&mut self, batches: Range<usize>) {
        for batch in batches {
            let body = batch_body(batch * BATCH..(batch + 1) * BATCH);
            let answer = self.exchange(Request::post("/v1/publish"), body).await;
            let answer: Answer = serde_json::from_slice(&answer).expect("results for every item");
            assert_eq!(answer.results.len(), BATCH);
            for published in answer.results {
                assert_eq!((published.channel.as_str(), published.duplicate), (CHANNEL, false));
                self.positions.push(published.position);
            }
        }
    }

    /// Reads all that was published by long-poll, holds it against what was sent and answered, and gives the exact
    /// texts as the transcript that every other reader must have, too.
    pub(crate) async fn read_back(&mut self) -> Transcript {
        let mut lines = String::new();
        let mut cursor = "start".to_owned();
        let mut read = 0;
        while read < self.positions.len() {
            let path = format!("/v1/poll?channel={CHANNEL}&since={cursor}&wait=0");
            let answer = self.exchange(Request::get(path), String::new()).await;
            let poll: Poll<'_> = serde_json::from_slice(&answer).expect("a cursor and pushes");
            let before = read;
            for raw in poll.pushes {
                let push: Push = serde_json::from_str(raw.get()).expect("a push");
                if push.kind == "publication" {
                    self.assert_published(read, raw.get());
                    lines.push_str(&entry(&self.positions[read], raw.get()));
                    read += 1;
                } else {
                    assert_eq!(push.kind, "subscribed", "unexpected push: {}", raw.get());
                }
            }
            assert!(
                read > before,
                "a poll after {cursor} gave nothing, at {read} of {COUNT}"
            );
            cursor = poll.cursor;
        }
        assert_eq!((read, self.positions.last()), (COUNT, Some(&cursor)));
        Transcript::new(lines.into_bytes())
    }

    fn assert_published(&self, number: usize, text: &str) {
        let publication: Publication<'_> = serde_json::from_str(text).expect("a publication");
        assert_eq!(publication.position, self.positions[number]);
        let (data, sent) = (publication.data.get(), payloads::data(number));
        assert_eq!(
            payloads::squeezed(data),
            payloads::squeezed(&sent),
            "publication {number}"
        );
        let event = payloads::event(number).map(|json| serde_json::from_str::<String>(json).expect("a string"));
        assert_eq!(publication.event, event, "publication {number}");
    }

    async fn exchange(&mut self, request: hyper::http::request::Builder, body: String) -> Bytes {
        let request = request
            .header("host", &self.host)
            .header("content-type", "application/json");
        let request = request.body(Full::from(body)).expect("a request");
        within("the connection", self.sender.ready())
            .await
            .expect("the connection lives");
        let response = within("an answer", self.sender.send_request(request))
            .await
            .expect("an answer");
        let status = response.status();
        let body = within("a body", response.into_body().collect())
            .await
            .expect("a body")
            .to_bytes();
        assert!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
        body
    }
}

fn batch_body(numbers: Range<usize>) -> String {
    let mut body = String::from("[");
    for number in numbers {
        let comma = if body.len() > 1 { "," } else { "" };
        let data = payloads::data(number);
        write!(body, r#"{comma}{{"channel":"{CHANNEL}","data":{data}"#).expect("a string grows");
        if let Some(event) = payloads::event(number) {
            write!(body, r#","event":{event}"#).expect("a string grows");
        }
        body.push('}');
    }
    body.push(']');
    body
}
