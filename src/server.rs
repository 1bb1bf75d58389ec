//! The server: accepts connections, hands them to the edge's router, and drains when told to stop.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::http::Request;
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

use crate::Edge;
use crate::config::Connections;
use crate::http::{Guarded, Peer};

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

/// Binds a listener with a long queue.
///
/// # Errors
/// What the system says, for an address in use, say.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    const BACKLOG: i32 = 4096;
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Serves `edge` on `listener` until `shutdown` is ready, then drains over `window` and returns.
///
/// While it drains, it goes on accepting, so that `/livez` and `/readyz` answer.
pub async fn run(
    listener: TcpListener,
    edge: Edge,
    connections: Connections,
    window: Duration,
    shutdown: impl Future<Output = ()>,
) {
    let router = edge.site();
    let graceful = GracefulShutdown::new();
    {
        let mut accepting = pin!(accept(&listener, &router, &connections, &graceful));
        tokio::select! {
            () = &mut accepting => {}
            () = shutdown => {}
        }
        let drained = tokio::time::timeout(window + LEAVE_TIMEOUT, edge.node().drain(window));
        tokio::select! {
            () = &mut accepting => {}
            drained = drained => if drained.is_err() {
                tracing::warn!(sessions = edge.node().registry().count(), "sessions that would not leave are cut");
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(REQUESTS_TIMEOUT, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("requests that would not end are cut");
    }
}

/// Accepts for ever.
async fn accept(listener: &TcpListener, router: &Router, connections: &Connections, graceful: &GracefulShutdown) {
    loop {
        match listener.accept().await {
            Ok((socket, address)) => match prepare(&socket, connections) {
                Ok(()) => serve(
                    socket,
                    router.clone().layer(Extension(Peer::from(address))),
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

fn prepare(socket: &TcpStream, connections: &Connections) -> io::Result<()> {
    socket.set_nodelay(true)?;
    if connections.send_buffer_bytes > 0 {
        socket2::SockRef::from(socket).set_send_buffer_size(connections.send_buffer_bytes)?;
    }
    Ok(())
}

fn serve(socket: TcpStream, router: Router, write_timeout: Duration, graceful: &GracefulShutdown) {
    let service = router.map_request(|request: Request<hyper::body::Incoming>| request.map(axum::body::Body::new));
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(KEEP_ALIVE_TIMEOUT)
        .max_buf_size(HTTP_BUFFER_BYTES_MAX);
    let connection = builder.serve_connection_with_upgrades(
        TokioIo::new(Guarded::new(socket, write_timeout)),
        TowerToHyperService::new(service),
    );
    let watched = graceful.watch(connection.into_owned());
    tokio::spawn(async move {
        if let Err(error) = watched.await {
            tracing::debug!(%error, "a connection broke off");
        }
    });
}
