//! The server: accepts connections, hands them to the edge's router, and drains when told to stop.

mod connection;
mod doorway;
mod hall;
mod handed_over;
mod http1;
mod http2;
mod listener;
mod phase;
mod places;
mod proxy_protocol;
mod proxy_refusals;
mod streams;
mod tls;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::Edge;
use crate::config::Connections;
use crate::edge::Operations;
use hall::Hall;
use phase::{Phase, Phases, Watch};

pub use handed_over::handed_over;
pub use listener::Listener;
pub use tls::{Reload, Tls, TlsError};

/// How long to wait before accepting again, when no connection can be had (out of file descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    /// What TCP connections begin with, if not with HTTP.
    pub tls: Option<Arc<Tls>>,
}

/// Serves `edge` on `listeners`, of which one may be [for operators](Listener::for_operators) alone, until `shutdown` is ready, then drains and returns.
///
/// While it drains, it goes on accepting on the sockets that it bound itself, so that `/livez` and `/readyz` answer. On
/// those that were handed over it accepts nothing more: whoever connects waits there for the successor, who serves him,
/// instead of being refused here.
pub async fn run(listeners: Vec<Listener>, edge: Edge, settings: Settings, shutdown: impl Future<Output = ()>) {
    let window = settings.drain_window;
    let (phases, watch) = Phases::new();
    let of_operators = listeners.iter().find(|listener| listener.is_for_operators());
    let operations = of_operators.map_or(Operations::Here, |_| Operations::Elsewhere);
    let clients = Hall::of_clients(&edge, &settings, operations);
    let operators = of_operators.map(|listener| Hall::of_operators(&edge, &settings, listener));
    let hall_of = |listener: &Listener| match &operators {
        Some(operators) if listener.is_for_operators() => operators,
        _ => &clients,
    };
    // For ever, also without any to accept on.
    let work = async |listeners: &[Listener]| {
        let accepting = listeners
            .iter()
            .map(|listener| accept(listener, hall_of(listener), &watch));
        futures_util::future::join(join_all(accepting), look(settings.tls.as_deref())).await;
        pending::<()>().await;
    };
    tokio::select! {
        () = work(&listeners) => {}
        () = shutdown => {}
    }
    // Before the sockets are let go: nobody is told to come back to a node that takes him again.
    edge.node().refuse_new();
    let own: Vec<_> = listeners
        .into_iter()
        .filter(|listener| !listener.is_handed_over())
        .collect();
    phases.enter(Phase::Draining);
    let drained = tokio::time::timeout(window + LEAVE_TIMEOUT, edge.node().drain(window));
    tokio::select! {
        () = work(&own) => {}
        drained = drained => if drained.is_err() {
            tracing::warn!(sessions = edge.node().registry().count(), "sessions that would not leave are cut");
        }
    }
    drop(own);
    drop(watch);
    phases.enter(Phase::Ending);
    if tokio::time::timeout(REQUESTS_TIMEOUT, phases.is_over()).await.is_err() {
        tracing::warn!("requests that would not end are cut");
        phases.enter(Phase::Cut);
    }
}

/// Accepts for ever.
async fn accept(listener: &Listener, hall: &Hall, watch: &Watch) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // It waits here for a place, and the others in the listener's queue.
                let Some(admission) = hall.places.take().await else {
                    return;
                };
                hall.house.welcome(stream, peer, admission, watch.clone());
            }
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Looks for a new certificate for ever.
async fn look(tls: Option<&Tls>) {
    match tls {
        Some(tls) => tls.look().await,
        None => pending().await,
    }
}
