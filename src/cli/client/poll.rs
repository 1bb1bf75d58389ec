//! Receiving by long-poll (`GET /v1/poll`): the cursor is the session.

use std::collections::VecDeque;

use bytes::Bytes;
use hyper::Request;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time;

use super::arrival::Arrival;
use super::cursor::Cursor;
use super::deadline::{POLL_HEAD_MAX, POLL_REFUSED_PAUSE, POLL_WAIT};
use super::failure::Failure;
use super::http;
use super::peer::Peer;
use super::push::{Body, Push};

#[derive(Debug)]
pub(crate) struct Connection {
    http: http::Connection,
    peer: Peer,
    arrivals: VecDeque<Arrival>,
    /// Whether the last answer had nothing but refusals, such as of a channel that a token adds to every poll.
    is_refused: bool,
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
            is_refused: false,
        })
    }

    /// What is left of the last answer, else the first of the next.
    pub(crate) async fn next(&mut self, cursor: &mut Cursor) -> Result<Arrival, Failure> {
        loop {
            if let Some(arrival) = self.arrivals.pop_front() {
                return Ok(arrival);
            }
            if std::mem::take(&mut self.is_refused) {
                time::sleep(POLL_REFUSED_PAUSE).await;
            }
            let answer = self.ask(cursor).await?;
            let pushes: Result<Vec<_>, _> = answer
                .pushes
                .iter()
                .map(|push| Push::parse(push.get().to_owned()))
                .collect();
            let pushes = pushes?;
            let is_refusal = |push: &Push| matches!(push.body, Body::Unsubscribed(_));
            self.is_refused = !pushes.is_empty() && pushes.iter().all(is_refusal);
            self.arrivals.extend(pushes.into_iter().map(Arrival::Push));
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
