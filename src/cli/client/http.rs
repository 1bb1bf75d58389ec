//! One HTTP/1.1 connection to the server: open it, ask, read what comes back.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, HOST, USER_AGENT};
use hyper::{Response, StatusCode, http::request};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio::time;

use super::deadline::{BODY_MAX, CONNECT_MAX, HEAD_MAX, within};
use super::failure::{Failure, Refusal};
use super::peer::Peer;

const PRODUCT: &str = concat!("throughline/", env!("CARGO_PKG_VERSION"));
/// An answer that is read as a whole: a poll's is bounded by the server's `poll_bytes_max`, which we do not know.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Connection {
    requests: SendRequest<Full<Bytes>>,
    peer: Peer,
    /// Moves the bytes, and ends when the connection is dropped.
    _driver: JoinSet<()>,
}

impl Connection {
    pub(crate) async fn open(peer: &Peer) -> Result<Self, Failure> {
        // Nothing was asked yet, so nothing may have been done: not the same as an answer that does not come.
        let too_long = |_| Failure::Unreachable {
            place: peer.to_string(),
            cause: format!("no answer within {} s", CONNECT_MAX.as_secs()),
        };
        let stream = time::timeout(CONNECT_MAX, peer.dial()).await.map_err(too_long)??;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (requests, connection) = handshake.map_err(|error| Failure::broken("connection lost", &error))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Whoever waits for an answer hears of the error there.
            let _ = connection.with_upgrades().await;
        });
        Ok(Self {
            requests,
            peer: peer.clone(),
            _driver: driver,
        })
    }

    /// Waits until the last answer was read to its end; `false` if the connection does not outlive it.
    pub(crate) async fn is_reusable(&mut self) -> bool {
        matches!(
            within(HEAD_MAX, "idle connection", self.requests.ready()).await,
            Ok(Ok(()))
        )
    }

    /// Bytes that are no HTTP will be none the next time either.
    fn unanswered(&self, error: &hyper::Error) -> Failure {
        if error.is_parse() {
            let what = format!(
                "what answers at {} does not speak HTTP ({error}); check host and port of --url, and whether it is \
                 http:// or https://",
                self.peer
            );
            return Failure::Violation(what);
        }
        Failure::broken("connection lost", error)
    }

    /// Sends a request and gives the answer, of which the head has arrived. A refusal is an error.
    pub(crate) async fn ask(
        &mut self,
        request: request::Builder,
        body: Bytes,
        head_max: Duration,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request = request.header(HOST, self.peer.authority()).header(USER_AGENT, PRODUCT);
        if let Some(bearer) = self.peer.bearer() {
            request = request.header(AUTHORIZATION, bearer);
        }
        let request = request.body(Full::new(body));
        let request = request.map_err(|error| Failure::broken("no such request is possible", &error))?;
        let answer = within(head_max, "answer", self.requests.send_request(request)).await?;
        let answer = answer.map_err(|error| self.unanswered(&error))?;
        let status = answer.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        let headers = answer.headers().clone();
        // The status says enough if its body does not come.
        let body = read(answer).await.unwrap_or_default();
        Err(Failure::Refused(Refusal::from_answer(status, &headers, &body)))
    }
}

/// The whole body of an answer.
pub(crate) async fn read(answer: Response<Incoming>) -> Result<Bytes, Failure> {
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
    let body = within(BODY_MAX, "end of the answer", body.collect()).await?;
    body.map(http_body_util::Collected::to_bytes)
        .map_err(|error| Failure::broken("the answer broke off", error.as_ref()))
}
