//! One connection: accepted, let in, served by its kind of HTTP.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use socket2::{SockRef, TcpKeepalive};
use tokio::time::timeout;

use super::doorway::{self, Visitor};
use super::phase::Watch;
use super::places::Admission;
use super::proxy_protocol::Proxies;
use super::tls::Tls;
use super::{http1, http2};
use crate::config::Connections;
use crate::http::{Encrypted, Guarded, Kept, Peer, Place, Stream, Version};
use crate::transport::Timings;

/// How long a connection may stay that is told about the server's health alone.
const LOBBY_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a peer may leave bytes unacknowledged beyond a heartbeat, or beyond the write deadline, after which it is
/// told why it is closed.
const USER_TIMEOUT_SLACK: Duration = Duration::from_secs(5);

/// How often a peer that is silent is asked by the kernel whether it is there.
const PROBE_PERIOD: Duration = Duration::from_secs(2);

/// What all connections have in common.
#[derive(Debug)]
pub(super) struct House {
    pub(super) site: Router,
    /// Where those go who find no place.
    pub(super) lobby: Router,
    pub(super) tls: Option<Arc<Tls>>,
    proxies: Option<Proxies>,
    timings: Timings,
    streams_max: u32,
    send_buffer_bytes: usize,
}

/// A connection that is let in.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) socket: Guarded<Kept<Stream>>,
    pub(super) peer: Peer,
    /// Whether TLS ends here.
    pub(super) encrypted: Option<Encrypted>,
    pub(super) router: Router,
    pub(super) attending: Attending,
    pub(super) timings: Timings,
    pub(super) streams_max: u32,
    pub(super) watch: Watch,
}

/// What a connection is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attending {
    /// Everything, for as long as it likes.
    Fully,
    /// One answer, from the lobby.
    Briefly,
}

impl House {
    pub(super) fn new(site: Router, lobby: Router, connections: &Connections, tls: Option<Arc<Tls>>) -> Self {
        Self {
            site,
            lobby,
            tls,
            proxies: Proxies::new(connections),
            timings: Timings {
                heartbeat_ms: connections.heartbeat_ms,
                write_timeout_ms: connections.write_timeout_ms,
            },
            streams_max: connections.h2_streams_max,
            send_buffer_bytes: connections.send_buffer_bytes,
        }
    }

    /// Serves a connection in a task of its own.
    pub(super) fn welcome(self: &Arc<Self>, stream: Stream, peer: Peer, admission: Admission, watch: Watch) {
        let house = Arc::clone(self);
        tokio::spawn(async move {
            let served = match admission {
                Admission::Full(place) => house.serve(stream, peer, place, watch).await,
                Admission::Lobby(place) => {
                    let answered = timeout(LOBBY_TIMEOUT, house.answer(stream, peer, place, watch));
                    answered.await.unwrap_or(Ok(()))
                }
            };
            if let Err(error) = served {
                tracing::debug!(%error, "a connection that broke off before its first request");
            }
        });
    }

    /// Serves it everything, in a fresh task, which is as small as this kind of connection is.
    async fn serve(&self, stream: Stream, peer: Peer, place: Place, watch: Watch) -> io::Result<()> {
        let visitor = self.enter(stream, peer).await?;
        let version = visitor.version;
        let guest = self.guest(visitor, place, Attending::Fully, watch);
        match version {
            Version::Http1 => drop(tokio::spawn(http1::serve(guest))),
            Version::Http2 => drop(tokio::spawn(http2::serve(guest))),
        }
        Ok(())
    }

    /// Answers it from the lobby.
    async fn answer(&self, stream: Stream, peer: Peer, place: Place, watch: Watch) -> io::Result<()> {
        let visitor = self.enter(stream, peer).await?;
        let version = visitor.version;
        let guest = self.guest(visitor, place, Attending::Briefly, watch);
        match version {
            Version::Http1 => Box::pin(http1::serve(guest)).await,
            Version::Http2 => Box::pin(http2::serve(guest)).await,
        }
        Ok(())
    }

    async fn enter(&self, stream: Stream, peer: Peer) -> io::Result<Visitor> {
        if let Stream::Tcp(stream) = &stream {
            self.prepare(&SockRef::from(stream)).inspect_err(|error| {
                tracing::warn!(%error, "a connection is lost, for its socket's options cannot be set");
            })?;
        }
        doorway::enter(stream, peer, self.proxies.as_ref(), self.tls.as_deref()).await
    }

    /// A peer that is gone is noticed by what it does not acknowledge: bytes of ours, or else the kernel's own probes.
    fn prepare(&self, socket: &SockRef<'_>) -> io::Result<()> {
        socket.set_tcp_nodelay(true)?;
        if self.send_buffer_bytes > 0 {
            socket.set_send_buffer_size(self.send_buffer_bytes)?;
        }
        let heartbeat = Duration::from_millis(self.timings.heartbeat_ms);
        let write_timeout = Duration::from_millis(self.timings.write_timeout_ms);
        socket.set_tcp_user_timeout(Some(heartbeat.max(write_timeout) + USER_TIMEOUT_SLACK))?;
        let idle = heartbeat.max(Duration::from_secs(1));
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle).with_interval(PROBE_PERIOD))
    }

    fn guest(&self, visitor: Visitor, place: Place, attending: Attending, watch: Watch) -> Guest {
        let write_timeout = Duration::from_millis(self.timings.write_timeout_ms);
        let encrypted = matches!(visitor.stream, Stream::Tls(_)).then_some(Encrypted);
        let kept = Kept::new(visitor.stream, place);
        let guarded = Guarded::new(kept, visitor.version, visitor.prefix, visitor.deadline);
        let router = match attending {
            Attending::Fully => &self.site,
            Attending::Briefly => &self.lobby,
        };
        Guest {
            socket: guarded.write_timeout(write_timeout),
            peer: visitor.peer,
            encrypted,
            router: router.clone(),
            attending,
            timings: self.timings,
            streams_max: self.streams_max,
            watch,
        }
    }
}
