//! How many connections there may be: so many, then a few that are told about the server's health alone; the others
//! wait until one of these leaves.

use std::sync::Arc;

use rustix::process::{Resource, getrlimit};
use tokio::sync::Semaphore;

use crate::http::Place;

/// Connections beyond the bound, which are told about the server's health, and that it is full.
const LOBBY_CONNECTIONS_MAX: usize = 16;

/// Files that are not for connections: listeners, the lobby, one connection for each listener that waits at the door,
/// logs, what an engine opens.
const FILES_RESERVE: u64 = 64;

/// The places of all listeners.
#[derive(Debug, Clone)]
pub(super) struct Places {
    open: Arc<Semaphore>,
    lobby: Arc<Semaphore>,
}

/// What a connection gets.
#[derive(Debug)]
pub(super) enum Admission {
    Full(Place),
    Lobby(Place),
}

impl Places {
    /// So many, or, for 0, as many as this process may open files, less a reserve.
    pub(super) fn new(count_max: usize) -> Self {
        let count = if count_max == 0 { of_this_process() } else { count_max };
        if count > of_this_process() {
            tracing::warn!(
                connections = count,
                files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
                "connections.count_max is more than the files that this process may open; raise its limit (ulimit -n, LimitNOFILE)"
            );
        }
        Self {
            open: Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS))),
            lobby: Arc::new(Semaphore::new(LOBBY_CONNECTIONS_MAX)),
        }
    }

    /// A place, as soon as there is one of either kind. Cancel safe.
    pub(super) async fn take(&self) -> Option<Admission> {
        if let Some(place) = Place::take(&self.open) {
            return Some(Admission::Full(place));
        }
        tokio::select! {
            biased;
            place = Place::wait(&self.open) => place.map(Admission::Full),
            place = Place::wait(&self.lobby) => place.map(Admission::Lobby),
        }
    }
}

fn of_this_process() -> usize {
    let Some(files) = getrlimit(Resource::Nofile).current else {
        return Semaphore::MAX_PERMITS;
    };
    usize::try_from(files.saturating_sub(FILES_RESERVE))
        .unwrap_or(usize::MAX)
        .max(1)
}
