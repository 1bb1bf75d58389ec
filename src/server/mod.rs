//! The server: accepts connections, hands them to the edge's router, and drains when told to stop.

mod listener;

use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::http::Request;
use axum::{Extension, Router};
use futures_util::future::join_all;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tower::ServiceExt;

use crate::Edge;
use crate::config::Connections;
use crate::http::{Guarded, Stream};

pub use listener::Listener;

/// The largest head of a request, and what is read of a body at a time, in bytes.
const HTTP_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// How long to wait before accepting again, when no connection can be had (out of file descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a connection may be kept between two requests. That a head arrives in time is seen to by [`Guarded`].
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(75);

/// How long sessions have to end after the drain window.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long requests have to end after the sessions.
const REQUESTS_TIMEOUT: Duration = Duration::from_secs(1);

/// How the server serves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How connections are kept.
    pub connections: Connections,
    /// Over how long sessions are sent away in the end.
    pub drain_window: Duration,
}

/// Serves `edge` on `listeners` until `shutdown` is ready, then drains and returns.
///
/// While it drains, it goes on accepting, so that `/livez` and `/readyz` answer.
pub async fn run(listeners: Vec<Listener>, edge: Edge, settings: Settings, shutdown: impl Future<Output = ()>) {
    let window = settings.drain_window;
    let router = edge.site();
    let graceful = GracefulShutdown::new();
    {
        let accept_all = listeners
            .iter()
            .map(|listener| accept(listener, &router, &settings.connections, &graceful));
        let mut accepting = pin!(join_all(accept_all));
        tokio::select! {
            _ = &mut accepting => {}
            () = shutdown => {}
        }
        let drained = tokio::time::timeout(window + LEAVE_TIMEOUT, edge.node().drain(window));
        tokio::select! {
            _ = &mut accepting => {}
            drained = drained => if drained.is_err() {
                tracing::warn!(sessions = edge.node().registry().count(), "sessions that would not leave are cut");
            }
        }
    }
    drop(listeners);
    if tokio::time::timeout(REQUESTS_TIMEOUT, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("requests that would not end are cut");
    }
}

/// Accepts for ever.
async fn accept(listener: &Listener, router: &Router, connections: &Connections, graceful: &GracefulShutdown) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => match prepare(&stream, connections) {
                Ok(()) => serve(
                    stream,
                    router.clone().layer(Extension(peer)),
                    Duration::from_millis(connections.write_timeout_ms),
                    graceful,
                ),
                Err(error) => tracing::debug!(%error, "a connection that broke at once"),
            },
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn prepare(stream: &Stream, connections: &Connections) -> io::Result<()> {
    let Stream::Tcp(stream) = stream else { return Ok(()) };
    stream.set_nodelay(true)?;
    if connections.send_buffer_bytes > 0 {
        socket2::SockRef::from(stream).set_send_buffer_size(connections.send_buffer_bytes)?;
    }
    Ok(())
}

fn serve(stream: Stream, router: Router, write_timeout: Duration, graceful: &GracefulShutdown) {
    let service = router.map_request(|request: Request<hyper::body::Incoming>| request.map(axum::body::Body::new));
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(KEEP_ALIVE_TIMEOUT)
        .max_buf_size(HTTP_BUFFER_BYTES_MAX);
    let connection = builder.serve_connection_with_upgrades(
        TokioIo::new(Guarded::new(stream, write_timeout)),
        TowerToHyperService::new(service),
    );
    let watched = graceful.watch(connection.into_owned());
    tokio::spawn(async move {
        if let Err(error) = watched.await {
            tracing::debug!(%error, "a connection broke off");
        }
    });
}
