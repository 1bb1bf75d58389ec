//! An HTTP/1.1 connection, from its first request to its last.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::time::timeout;
use tower::ServiceExt;

use super::connection::{Attending, Guest};
use super::phase::Phase;

/// The largest head of a request, and what is read of a body at a time, in bytes.
const HTTP_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// How long a connection may be kept between two requests. That a head arrives in time is seen to by the guard.
pub(super) const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(75);

/// How long a connection without any request yet is kept when all others end.
const FIRST_REQUEST_GRACE: Duration = Duration::from_millis(250);

/// Serves until either side ends it.
pub(super) async fn serve(guest: Guest) {
    let Guest {
        socket,
        peer,
        encrypted,
        router,
        attending,
        mut watch,
        ..
    } = guest;
    let is_asked = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&is_asked);
    let service = router.map_request(move |request: axum::http::Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        encrypted.map(|encrypted| request.extensions_mut().insert(encrypted));
        request
    });
    let mut builder = Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive(attending == Attending::Fully)
        .max_buf_size(HTTP_BUFFER_BYTES_MAX);
    let connection = builder.serve_connection(TokioIo::new(socket), TowerToHyperService::new(service));
    let mut connection = pin!(connection.with_upgrades());
    tokio::select! {
        served = connection.as_mut() => return told(served),
        () = watch.reached(Phase::Ending) => {}
    }
    // Whoever connected a moment ago has a request on its way, and is owed an answer to it.
    if !is_asked.load(Ordering::Relaxed)
        && let Ok(served) = timeout(FIRST_REQUEST_GRACE, connection.as_mut()).await
    {
        return told(served);
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        served = connection => told(served),
        () = watch.reached(Phase::Cut) => {}
    }
}

fn told(served: hyper::Result<()>) {
    if let Err(error) = served {
        tracing::debug!(%error, "a connection broke off");
    }
}
