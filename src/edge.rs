//! The edge as a library: an axum router to mount, and publishing and subscribing inside the process.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::http::header::{AUTHORIZATION, HeaderName, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{Method, Uri};
use axum::middleware;
use axum::response::Response;
use serde_json::value::RawValue;
use tokio::time::MissedTickBehavior;
use tower_http::cors::{Any, CorsLayer};

use crate::delivery::{ChannelName, Engine, EngineError, Joined, LogPolicy, Outside, Published, Since, Subscription};
use crate::engine::{MemoryEngine, MeteredEngine};
use crate::http::count_refusals;
use crate::metrics::Metrics;
use crate::protocol::{Code, Item, Limits, Problem, compact};
use crate::session::Node;
use crate::session::identity::Authority;
use crate::transport::{Timings, Transports};
use crate::{api, delivery, transport};

/// How often the memory engine lets go of what is too old.
const SWEEP_PERIOD: Duration = Duration::from_secs(5);

/// One node of Throughline. Cheap to clone; its tasks end when the last clone, and the last router, is dropped.
#[derive(Debug, Clone)]
pub struct Edge {
    node: Arc<Node>,
    transports: Arc<Transports>,
}

/// What an [`Edge`] is made from.
#[derive(Debug, Default)]
pub struct Builder {
    engine: Option<Arc<dyn Engine>>,
    window: Option<LogPolicy>,
    limits: Limits,
    timings: Timings,
    authority: Option<Authority>,
}

impl Builder {
    /// Keeps the logs elsewhere than in this process's memory.
    #[must_use]
    pub fn engine(self, engine: Arc<dyn Engine>) -> Self {
        Self {
            engine: Some(engine),
            ..self
        }
    }

    /// How much of each channel's log is kept.
    #[must_use]
    pub fn window(self, window: LogPolicy) -> Self {
        Self {
            window: Some(window),
            ..self
        }
    }

    /// What clients may send.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// How long the transports wait.
    #[must_use]
    pub fn timings(self, timings: Timings) -> Self {
        Self { timings, ..self }
    }

    /// Who may come in; unless told, everybody.
    #[must_use]
    pub fn authority(self, authority: Authority) -> Self {
        Self {
            authority: Some(authority),
            ..self
        }
    }

    /// The edge. Must be called inside a tokio runtime, on which its two clocks run.
    pub fn build(self) -> Edge {
        let outside: Arc<dyn Outside> = Arc::new(System);
        let engine = self.engine.unwrap_or_else(|| {
            let memory = Arc::new(MemoryEngine::new(Arc::clone(&outside)));
            tokio::spawn(sweep(Arc::downgrade(&memory)));
            memory
        });
        let metrics = Arc::new(Metrics::new());
        let engine = Arc::new(MeteredEngine::new(engine, Arc::clone(&metrics)));
        let window = self.window.unwrap_or(DEFAULT_WINDOW);
        let node = Node::new(engine, outside, metrics, self.limits, window);
        let node = Arc::new(node.with_authority(self.authority));
        let transports = Arc::new(Transports::new(Arc::clone(&node), self.timings));
        tokio::spawn(beat(Arc::downgrade(&transports)));
        Edge { node, transports }
    }
}

/// 1,000 publications, 1 MiB and 5 minutes; positions live for a day.
pub(crate) const DEFAULT_WINDOW: LogPolicy = LogPolicy {
    count_max: 1_000,
    bytes_max: 1024 * 1024,
    age_ms_max: 5 * 60 * 1000,
    position_ttl_ms: 24 * 60 * 60 * 1000,
};

impl Edge {
    /// An edge with its own memory engine, unless told otherwise.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The endpoints, to be merged into an app's own routes.
    pub fn router(&self) -> Router {
        self.endpoints().layer(cors())
    }

    /// The endpoints, and an answer for everything that is none of them.
    pub(crate) fn site(&self) -> Router {
        self.endpoints().fallback(not_found).layer(cors())
    }

    fn endpoints(&self) -> Router {
        let subscribing = Router::new()
            .route("/v1/ws", transport::websocket_route())
            .route("/v1/sse", transport::event_source_route())
            .route("/v1/poll", transport::poll_route())
            .method_not_allowed_fallback(method_not_allowed)
            .with_state(Arc::clone(&self.transports));
        let serving = Router::new()
            .route("/v1/publish", api::publish_route())
            .route("/v1/history", api::history_route())
            .route("/metrics", api::metrics_route())
            .route("/livez", api::livez_route())
            .route("/readyz", api::readyz_route())
            .method_not_allowed_fallback(method_not_allowed)
            .with_state(Arc::clone(&self.node));
        let counted = middleware::from_fn_with_state(Arc::clone(&self.node), count_refusals);
        subscribing.merge(serving).layer(counted)
    }

    /// Publishes JSON to a channel.
    ///
    /// # Errors
    /// `draining`, or what the engine says.
    pub async fn publish(&self, channel: ChannelName, data: &RawValue) -> Result<Published, Problem> {
        self.node
            .publish_one(
                self.node.anybody(),
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

    /// This process as sessions see it.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }
}

/// Everything is open, so pages of every origin may ask.
fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST])
        // The star alone does not stand for `Authorization` (Fetch standard).
        .allow_headers([HeaderName::from_static("*"), AUTHORIZATION])
        .expose_headers([RETRY_AFTER, WWW_AUTHENTICATE])
        .vary([ORIGIN])
}

/// What is asked for where nothing is.
async fn not_found(uri: Uri) -> Problem {
    let there_is = "/v1/ws, /v1/sse, /v1/poll, /v1/publish, /v1/history, /livez, /readyz and /metrics";
    Problem::new(
        Code::NotFound,
        format!("there is no {}; there are {there_is}", uri.path()),
    )
}

async fn method_not_allowed(method: Method, uri: Uri) -> Result<Response, Problem> {
    let detail = format!(
        "{} does not take {method}; the header `Allow` names what it takes",
        uri.path()
    );
    Err(Problem::new(Code::MethodNotAllowed, detail))
}

async fn sweep(engine: Weak<MemoryEngine>) {
    loop {
        tokio::time::sleep(SWEEP_PERIOD).await;
        let Some(engine) = engine.upgrade() else { return };
        engine.sweep();
    }
}

async fn beat(transports: Weak<Transports>) {
    let Some(period) = transports.upgrade().map(|transports| transports.pulse().period()) else {
        return;
    };
    let mut interval = tokio::time::interval(period);
    // After a pause of the whole process nobody is late: time goes on from where it stood.
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval.tick().await;
    loop {
        interval.tick().await;
        let Some(transports) = transports.upgrade() else { return };
        transports.pulse().beat();
    }
}

/// The system's clock and randomness.
#[derive(Debug)]
struct System;

impl Outside for System {
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    #[expect(
        clippy::expect_used,
        reason = "without randomness epochs would repeat, and readers would be told lies"
    )]
    fn random(&self) -> u64 {
        getrandom::u64().expect("the system's source of randomness")
    }
}
