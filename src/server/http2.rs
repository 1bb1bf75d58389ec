//! An HTTP/2 connection: its bounds, its streams, and its end.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::CONNECTION;
use axum::http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tower::ServiceExt;

use super::connection::Guest;
use super::http1::KEEP_ALIVE_TIMEOUT;
use super::phase::Phase;
use super::streams::{self, Pieces, Streams};
use crate::http::{Encrypted, Lease, Peer};

/// What a client may send on one stream before it is read.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;

/// What a client may send on all streams together before it is read.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// What may wait to be sent on one stream.
const STREAM_SEND_BYTES_MAX: usize = 32 * 1024;

/// The longest frame, from either side.
const FRAME_BYTES_MAX: u32 = 16 * 1024;

/// The largest headers of one request, names and values and 32 bytes for each (RFC 9113 §6.5.2).
const HEADERS_BYTES_MAX: u32 = 32 * 1024;

/// What the compression of headers may remember (RFC 7541 §4.2).
const HEADER_TABLE_BYTES_MAX: u32 = 4096;

/// Streams that a client has reset before they were looked at (CVE-2023-44487); more end the connection.
const PENDING_RESETS_MAX: usize = 20;

/// Streams that the server had to reset for what the client did; more end the connection (CVE-2025-8671).
const LOCAL_RESETS_MAX: usize = 128;

/// How long a client may take to answer a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until either side ends it.
pub(super) async fn serve(guest: Guest) {
    let Guest {
        socket,
        peer,
        encrypted,
        router,
        timings,
        streams_max,
        mut watch,
        ..
    } = guest;
    let streams = Streams::new(Duration::from_millis(timings.write_timeout_ms));
    let mut builder = Builder::new(streams.clone());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_send_buf_size(STREAM_SEND_BYTES_MAX)
        .max_concurrent_streams(streams_max)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .header_table_size(HEADER_TABLE_BYTES_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        .keep_alive_interval(Duration::from_millis(timings.heartbeat_ms))
        .keep_alive_timeout(PING_TIMEOUT)
        .enable_connect_protocol();
    let service = service_fn(move |request| answer(router.clone(), request, (peer, encrypted)));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), service));
    tokio::select! {
        served = connection.as_mut() => return told(served),
        () = watch.reached(Phase::Draining) => {}
        () = streams.idle(KEEP_ALIVE_TIMEOUT) => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        served = connection => told(served),
        () = watch.reached(Phase::Cut) => {}
    }
}

fn told(served: hyper::Result<()>) {
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP/2 connection broke off");
    }
}

async fn answer(
    router: Router,
    request: Request<Incoming>,
    (peer, encrypted): (Peer, Option<Encrypted>),
) -> Result<Response<Pieces>, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(peer);
    encrypted.map(|encrypted| request.extensions_mut().insert(encrypted));
    let mut lent = None;
    if request.method() == Method::CONNECT {
        let (lease, lent_until) = Lease::new();
        request.extensions_mut().insert(lease);
        lent = Some(lent_until);
    }
    let mut response = streams::waited_for(router.oneshot(request)).await?;
    if let Some(lent) = lent {
        streams::lend(lent);
    }
    // A connection of many streams is not ended by one of them (RFC 9113 §8.2.2).
    response.headers_mut().remove(CONNECTION);
    Ok(response.map(Pieces::new))
}
