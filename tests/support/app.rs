//! An app that is asked: a real HTTP server which a test tells what to answer, and which remembers what it was asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// One question.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) path: String,
    /// In the order in which they came.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) text: String,
    pub(crate) body: Value,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| &**value)
    }

    /// Whether its signature is what the documentation says, made with this secret within the last minutes.
    pub(crate) fn is_signed_by(&self, secret: &[u8]) -> bool {
        let signature = self.header("throughline-signature").expect("a signature");
        let (time, tag) = signature.split_once(',').expect("two parts");
        let time = time.strip_prefix("t=").expect("the time");
        let tag = tag.strip_prefix("v1=").expect("the tag");
        let age_s = super::tokens::now_s().abs_diff(time.parse().expect("seconds"));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
        let digits = |at: usize| u8::from_str_radix(&tag[at..at + 2], 16).expect("hexadecimal digits");
        let tag: Vec<u8> = (0..tag.len()).step_by(2).map(digits).collect();
        let message = format!("{time}.{}", self.text);
        age_s < 300 && ring::hmac::verify(&key, message.as_bytes(), &tag).is_ok()
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Whole(u16, String),
    Redirect(u16, String),
    /// Nothing, for good.
    Hang,
    /// This much, and then nothing, for good.
    HangWithin(&'static str),
    /// The beginning of a body, and then the end of the connection.
    BreakOff,
}

impl Reply {
    pub(crate) fn json(value: &Value) -> Self {
        Self::Whole(200, value.to_string())
    }

    pub(crate) fn status(status: u16, body: &str) -> Self {
        Self::Whole(status, body.to_owned())
    }

    pub(crate) fn redirect(status: u16, to: &str) -> Self {
        Self::Redirect(status, to.to_owned())
    }

    async fn response(self) -> Response {
        let status = |code| StatusCode::from_u16(code).expect("a status");
        match self {
            Self::Whole(code, body) => (status(code), body).into_response(),
            Self::Redirect(code, to) => (status(code), [(LOCATION, to)]).into_response(),
            Self::Hang => std::future::pending().await,
            Self::HangWithin(beginning) => {
                let begun = stream::iter([Ok::<_, Infallible>(Bytes::from_static(beginning.as_bytes()))]);
                let body = futures_util::StreamExt::chain(begun, stream::pending());
                Body::from_stream(body).into_response()
            }
            Self::BreakOff => {
                let body = [
                    Ok(Bytes::from_static(b"{\"allow\":")),
                    Err(std::io::Error::other("gone")),
                ];
                Body::from_stream(stream::iter(body)).into_response()
            }
        }
    }
}

/// A running app; dropping it stops it.
#[derive(Debug)]
pub(crate) struct App {
    address: SocketAddr,
    seen: Arc<Seen>,
    running: JoinHandle<()>,
}

#[derive(Debug)]
struct Seen {
    asked: Mutex<Vec<Asked>>,
    count: watch::Sender<usize>,
    at_once: AtomicUsize,
    at_once_most: AtomicUsize,
}

impl Seen {
    fn asked(&self) -> MutexGuard<'_, Vec<Asked>> {
        self.asked.lock().expect("nobody panicked")
    }
}

/// One that is being answered.
struct Answering<'a>(&'a Seen);

impl<'a> Answering<'a> {
    fn begin(seen: &'a Seen) -> Self {
        let now = seen.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        seen.at_once_most.fetch_max(now, Ordering::SeqCst);
        Self(seen)
    }
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.0.at_once.fetch_sub(1, Ordering::SeqCst);
    }
}

impl App {
    /// An app that answers by this rule.
    pub(crate) async fn start(rule: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_gated(Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)), rule).await
    }

    /// One that takes a permit for each answer, and keeps it: so a test can hold answers back.
    pub(crate) async fn start_gated(
        gate: Arc<Semaphore>,
        rule: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Seen {
            asked: Mutex::default(),
            count: watch::Sender::new(0),
            at_once: AtomicUsize::new(0),
            at_once_most: AtomicUsize::new(0),
        });
        let (notes, rule) = (Arc::clone(&seen), Arc::new(rule));
        let answer = move |request: Request| {
            let (seen, rule, gate) = (Arc::clone(&notes), Arc::clone(&rule), Arc::clone(&gate));
            async move {
                let (head, body) = request.into_parts();
                let body = axum::body::to_bytes(body, 1 << 24).await.expect("a whole question");
                let asked = read(head.uri.path(), &head.headers, &body);
                let reply = rule(&asked);
                let _answering = Answering::begin(&seen);
                seen.asked().push(asked);
                seen.count.send_modify(|count| *count += 1);
                gate.acquire().await.expect("open").forget();
                reply.response().await
            }
        };
        let router = Router::new().fallback(answer);
        let running = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("it serves");
        });
        Self { address, seen, running }
    }

    /// Where it is asked at this moment.
    pub(crate) fn url(&self, moment: &str) -> String {
        format!("http://{}/{moment}", self.address)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.seen.asked().clone()
    }

    /// The bodies of all questions.
    pub(crate) fn questions(&self) -> Vec<Value> {
        self.seen.asked().iter().map(|asked| asked.body.clone()).collect()
    }

    /// Waits until so many questions have come.
    pub(crate) async fn count_reaches(&self, count: usize) {
        let mut counts = self.seen.count.subscribe();
        counts.wait_for(|counted| *counted >= count).await.expect("it runs");
    }

    /// How many questions waited for an answer at the same time.
    pub(crate) fn most_at_once(&self) -> usize {
        self.seen.at_once_most.load(Ordering::SeqCst)
    }

    /// The same app when it is no longer there.
    pub(crate) async fn gone(self) -> Self {
        self.running.abort();
        while !self.running.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn read(path: &str, headers: &HeaderMap, body: &[u8]) -> Asked {
    let text = String::from_utf8(body.to_vec()).expect("UTF-8");
    let header = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
        let value = value.to_str().expect("text");
        (name.to_string(), value.to_owned())
    };
    Asked {
        path: path.to_owned(),
        headers: headers.iter().map(header).collect(),
        body: serde_json::from_str(&text).expect("JSON"),
        text,
    }
}
