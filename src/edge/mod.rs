//! The edge as a library: an axum router to mount, and publishing and subscribing inside the process.

mod answers;
mod builder;
mod clocks;
mod routes;
mod terms;

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use crate::delivery::{self, ChannelName, EngineError, Joined, Published, Since, Subscription};
use crate::engine::{Contents, MemoryEngine, Snapshot, SnapshotError};
use crate::http::Door;
use crate::protocol::{Item, Problem, compact};
use crate::session::Node;
use crate::session::hooks::{HookSettings, Hooks, Surroundings};
use crate::session::limits::RateLimits;
use crate::transport::Transports;

pub use builder::Builder;
pub(crate) use builder::DEFAULT_WINDOW;
pub(crate) use routes::{MetricsFor, Operations};
pub use terms::Terms;

/// One node of Throughline. Cheap to clone; its tasks end when the last clone, and the last router, is dropped.
#[derive(Debug, Clone)]
pub struct Edge {
    node: Arc<Node>,
    transports: Arc<Transports>,
    door: Arc<Door>,
    /// With what an app is asked.
    around: Surroundings,
    kept: Option<Arc<Kept>>,
}

/// An engine in memory whose logs outlive this process, and where.
#[derive(Debug)]
struct Kept {
    snapshot: Snapshot,
    engine: Arc<MemoryEngine>,
    loaded: Contents,
}

impl Edge {
    /// An edge with its own memory engine, unless told otherwise.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Publishes JSON to a channel.
    ///
    /// # Errors
    /// `draining`, or what the engine says.
    pub async fn publish(&self, channel: ChannelName, data: &RawValue) -> Result<Published, Problem> {
        self.node
            .publish_one(
                self.node.itself(),
                Item {
                    channel,
                    data: compact(data),
                    event: None,
                    key: None,
                },
            )
            .await
    }

    /// Follows a channel inside the process.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn subscribe(&self, channel: ChannelName, since: Since) -> Result<(Joined, Subscription), EngineError> {
        delivery::subscribe(Arc::clone(self.node.engine()), channel, since).await
    }

    /// Sends the sessions away over `window`, each with a time of its own to come back, and returns when they are gone.
    ///
    /// From the first moment on `/readyz` says 503, and new sessions and publications are refused as `draining`. What
    /// was published before reaches every reader that is connected. Nothing bounds how long a reader may take to
    /// leave: bound it with a time-out. There is no way back.
    pub async fn drain(&self, window: Duration) {
        self.node.drain(window).await;
    }

    /// From now on this app decides, or none. What the one before said is forgotten; sessions go on, and are asked about
    /// when they next subscribe, publish or come back.
    pub fn set_hooks(&self, settings: Option<HookSettings>) {
        let hooks = settings.map(|settings| Hooks::new(settings, self.around.clone()));
        self.node.set_hooks(hooks);
    }

    /// How much each client may do, if that is limited.
    pub fn rate_limits(&self) -> Option<&Arc<RateLimits>> {
        self.door.limits()
    }

    /// What was loaded from the snapshot; `None` where none is kept.
    pub fn loaded(&self) -> Option<Contents> {
        self.kept.as_ref().map(|kept| kept.loaded)
    }

    /// Seals the engine and writes its snapshot, where one is kept; nothing is published any more from then on.
    /// For the end, after the drain.
    ///
    /// # Errors
    /// If it could not be written.
    pub async fn save(&self) -> Result<Option<Contents>, SnapshotError> {
        let Some(kept) = self.kept.clone() else { return Ok(None) };
        let writing = tokio::task::spawn_blocking(move || kept.snapshot.save(&kept.engine));
        match writing.await {
            Ok(written) => written.map(Some),
            Err(broken) => std::panic::resume_unwind(broken.into_panic()),
        }
    }

    /// This process as sessions see it.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }
}
