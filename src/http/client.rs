//! The HTTP client of this process, for what is configured to be asked: an issuer's keys, the app.
//!
//! It keeps connections, speaks HTTP/1.1 and TLS, and bounds what an answer may take, in time and in bytes.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{ACCEPT, HeaderName, HeaderValue, USER_AGENT};
use axum::http::{Method, Request as HttpRequest};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::OnceCell;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::session::identity::{FetchKeys, JWKS_BYTES_MAX};
use crate::session::outgoing::{Answer, Ask, NoAnswer, Request};

/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a connection is kept without a request: below the five seconds after which common app servers close it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Connections to one place that are kept without a request.
const IDLE_COUNT_MAX: usize = 64;

/// The longest head of an answer.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// The longest body that is read for nothing.
const FORGOTTEN_BYTES_MAX: usize = 64 * 1024;

/// How long that may take.
const FORGET_TIMEOUT: Duration = Duration::from_millis(100);

/// How long fetching an issuer's keys may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Believes whom this machine trusts: its store of certificates, or `SSL_CERT_FILE` and `SSL_CERT_DIR`.
///
/// Cheap to make: what it needs is read when it is first asked.
#[derive(Default)]
pub struct HttpClient {
    made: OnceCell<Result<Made, String>>,
}

struct Made {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    has_roots: bool,
}

impl HttpClient {
    async fn made(&self) -> Result<&Made, NoAnswer> {
        // On a thread that may block, for the certificates are files.
        let begin = || async {
            let making = tokio::task::spawn_blocking(make);
            making.await.unwrap_or_else(|error| Err(error.to_string()))
        };
        let made = self.made.get_or_init(begin).await;
        made.as_ref().map_err(|why| NoAnswer::Unreachable(why.clone()))
    }

    async fn exchange(&self, request: &Request<'_>) -> Result<Answer, NoAnswer> {
        let made = self.made().await?;
        if request.url.starts_with("https://") && !made.has_roots {
            let why = "this machine has no store of certificates that it trusts; install `ca-certificates`, or name a \
                       file with them in `SSL_CERT_FILE`";
            return Err(NoAnswer::Unreachable(why.to_owned()));
        }
        // A connection that was seen to be closed before anything was written is none: the client takes another one.
        let mut answered = made.client.request(read(request)?).await;
        // One that closed meanwhile may have done so after it had read the request, which only a reading survives.
        if request.body.is_none() && answered.as_ref().is_err_and(is_stale) {
            answered = made.client.request(read(request)?).await;
        }
        let (head, body) = answered.map_err(|error| no_answer(&error))?.into_parts();
        let status = head.status.as_u16();
        let Some(bytes_max) = request.answer_bytes_max else {
            forget(body).await;
            return Ok(Answer {
                status,
                body: Bytes::new(),
            });
        };
        let body = Limited::new(body, bytes_max).collect().await;
        let body = body.map_err(|error| {
            if error.is::<LengthLimitError>() {
                NoAnswer::TooLong(bytes_max)
            } else {
                NoAnswer::Broken(error.to_string())
            }
        })?;
        Ok(Answer {
            status,
            body: body.to_bytes(),
        })
    }
}

impl Ask for HttpClient {
    fn ask<'a>(&'a self, request: Request<'a>) -> BoxFuture<'a, Result<Answer, NoAnswer>> {
        Box::pin(async move {
            let answered = tokio::time::timeout(request.time_max, self.exchange(&request)).await;
            answered.unwrap_or(Err(NoAnswer::Late(request.time_max)))
        })
    }
}

impl FetchKeys for HttpClient {
    fn fetch<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, String>> {
        Box::pin(async move {
            let request = Request {
                url,
                headers: &[],
                body: None,
                time_max: FETCH_TIMEOUT,
                answer_bytes_max: Some(JWKS_BYTES_MAX),
            };
            match self.ask(request).await {
                Ok(Answer { status: 200, body }) => Ok(body.into()),
                Ok(Answer { status, .. }) => Err(format!("the answer is {status}, not 200")),
                Err(error) => Err(error.to_string()),
            }
        })
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

fn make() -> Result<Made, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let has_roots = !roots.is_empty();
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_COUNT_MAX)
        .http1_max_buf_size(HEAD_BYTES_MAX)
        .build(connector);
    Ok(Made { client, has_roots })
}

fn read(request: &Request<'_>) -> Result<HttpRequest<Full<Bytes>>, NoAnswer> {
    let method = if request.body.is_some() {
        Method::POST
    } else {
        Method::GET
    };
    let bad = |error: &dyn fmt::Display| NoAnswer::Malformed(error.to_string());
    let body = Full::new(request.body.clone().unwrap_or_default());
    let mut made = HttpRequest::new(body);
    *made.method_mut() = method;
    *made.uri_mut() = request.url.parse().map_err(|error| bad(&error))?;
    let headers = made.headers_mut();
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("throughline/", env!("CARGO_PKG_VERSION"))),
    );
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    for (name, value) in request.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| bad(&error))?;
        let mut value = HeaderValue::from_bytes(value).map_err(|error| bad(&error))?;
        // Nothing that prints headers shows what they say.
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(made)
}

/// Reads the rest of an answer that nobody wants, so that its connection can be kept; one that is long in coming, or
/// long, is closed.
async fn forget(body: Incoming) {
    let reading = Limited::new(body, FORGOTTEN_BYTES_MAX).collect();
    drop(tokio::time::timeout(FORGET_TIMEOUT, reading).await);
}

/// Whether a connection that was kept had been closed meanwhile, as app servers do at moments of their own.
fn is_stale(error: &ClientError) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<hyper::Error>());
    cause.is_some_and(|cause| cause.is_incomplete_message() || cause.is_canceled())
}

fn no_answer(error: &ClientError) -> NoAnswer {
    // What happened stands at the end of the chain; what stands above it only says where.
    let mut cause: &dyn std::error::Error = error;
    while let Some(below) = cause.source() {
        cause = below;
    }
    if error.is_connect() {
        NoAnswer::Unreachable(cause.to_string())
    } else {
        NoAnswer::Broken(cause.to_string())
    }
}
