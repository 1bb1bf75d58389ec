//! Receiving by long-poll (`GET /v1/poll`): the cursor is the session.

use std::collections::VecDeque;

use bytes::Bytes;
use hyper::Request;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::arrival::Arrival;
use super::cursor::Cursor;
use super::deadline::{POLL_HEAD_MAX, POLL_WAIT};
use super::failure::Failure;
use super::http;
use super::peer::Peer;
use super::push::Push;

#[derive(Debug)]
pub(crate) struct Connection {
    http: http::Connection,
    peer: Peer,
    arrivals: VecDeque<Arrival>,
}

#[derive(Deserialize)]
struct Answer {
    cursor: String,
    pushes: Vec<Box<RawValue>>,
}

impl Connection {
    pub(crate) async fn open(peer: &Peer) -> Result<Self, Failure> {
        let http = http::Connection::open(peer).await?;
        Ok(Self {
            http,
            peer: peer.clone(),
            arrivals: VecDeque::new(),
        })
    }

    /// What is left of the last answer, else the first of the next.
    pub(crate) async fn next(&mut self, cursor: &mut Cursor) -> Result<Arrival, Failure> {
        loop {
            if let Some(arrival) = self.arrivals.pop_front() {
                return Ok(arrival);
            }
            let answer = self.ask(cursor).await?;
            for push in answer.pushes {
                self.arrivals
                    .push_back(Arrival::Push(Push::parse(push.get().to_owned())?));
            }
            self.arrivals.push_back(Arrival::Cursor(answer.cursor));
        }
    }

    async fn ask(&mut self, cursor: &mut Cursor) -> Result<Answer, Failure> {
        if !self.http.is_reusable().await {
            self.http = http::Connection::open(&self.peer).await?;
        }
        let query = format!("{}&wait={}", cursor.query_for_poll(), POLL_WAIT.as_secs());
        let request = Request::get(self.peer.endpoint("/v1/poll", &query));
        let answer = http::read(self.http.ask(request, Bytes::new(), POLL_HEAD_MAX).await?).await?;
        serde_json::from_slice(&answer).map_err(|error| Failure::Violation(format!("not a poll's answer: {error}")))
    }
}
