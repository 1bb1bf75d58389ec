//! The edge as a library: an axum router to mount, and publishing and subscribing inside the process.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONNECTION, HeaderName, HeaderValue, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{Method, StatusCode, Uri, Version};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::MethodRouter;
use ipnet::IpNet;
use serde_json::value::RawValue;
use tokio::time::MissedTickBehavior;
use tower_http::cors::{Any, CorsLayer};

use crate::delivery::{
    Ack, ChannelName, Engine, EngineError, Health, Joined, LogPolicy, Outside, Published, Since, Subscription,
};
use crate::engine::{Contents, MemoryEngine, MeteredEngine, Snapshot, SnapshotError, System};
use crate::http::{Door, RATELIMIT, RATELIMIT_POLICY, admission, count_refusals};
use crate::metrics::Metrics;
use crate::protocol::{Code, Item, Limits, Problem, compact};
use crate::session::Node;
use crate::session::identity::Authority;
use crate::session::limits::{Clock, RateLimits, RateSettings, system_clock};
use crate::transport::{Timings, Transports};
use crate::{api, delivery, transport};

/// How often the memory engine lets go of what is too old.
const SWEEP_PERIOD: Duration = Duration::from_secs(5);

/// After how long a client may come back that found no room.
const RETRY_FULL_MS: u64 = 5_000;

/// One node of Throughline. Cheap to clone; its tasks end when the last clone, and the last router, is dropped.
#[derive(Debug, Clone)]
pub struct Edge {
    node: Arc<Node>,
    transports: Arc<Transports>,
    door: Door,
    kept: Option<Arc<Kept>>,
}

/// An engine in memory whose logs outlive this process, and where.
#[derive(Debug)]
struct Kept {
    snapshot: Snapshot,
    engine: Arc<MemoryEngine>,
    loaded: Contents,
}

/// What an [`Edge`] is made from.
#[derive(Default)]
pub struct Builder {
    engine: Option<Arc<dyn Engine>>,
    kept: Option<Kept>,
    health: Option<Arc<dyn Health>>,
    window: Option<LogPolicy>,
    ack: Ack,
    limits: Limits,
    timings: Timings,
    rates: Option<RateSettings>,
    clock: Option<Clock>,
    trusted_proxies: Vec<IpNet>,
    authority: Option<Authority>,
}

impl Builder {
    /// Keeps the logs elsewhere than in this process's memory. An engine of its own keeps them in its own way: a
    /// [snapshot](Builder::snapshot) belongs to the memory engine, and of the two the one that is named last counts.
    #[must_use]
    pub fn engine(self, engine: Arc<dyn Engine>) -> Self {
        Self {
            engine: Some(engine),
            kept: None,
            ..self
        }
    }

    /// Goes on with the logs of the snapshot in `file`, if there is one, and lets [`Edge::save`] write the next one.
    /// The snapshot is loaded now, and gone then: it is good for one life. To be called last, when nothing else can
    /// fail any more.
    ///
    /// # Errors
    /// If the file is damaged, if another process has it, or if nothing can be written there.
    pub fn snapshot(self, file: impl Into<PathBuf>) -> Result<Self, SnapshotError> {
        let snapshot = Snapshot::hold(file)?;
        let (engine, loaded) = snapshot.load(Arc::new(System))?;
        let kept = Kept {
            snapshot,
            engine: Arc::new(engine),
            loaded,
        };
        Ok(Self {
            engine: None,
            kept: Some(kept),
            ..self
        })
    }

    /// The node is ready only while its engine is.
    #[must_use]
    pub fn health(self, health: Arc<dyn Health>) -> Self {
        Self {
            health: Some(health),
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

    /// When publishers are answered: when a publication is stored, unless told.
    #[must_use]
    pub fn ack(self, ack: Ack) -> Self {
        Self { ack, ..self }
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

    /// How much each client may do; without this, whatever it wants.
    ///
    /// Where the router is mounted in an app, limits by address need the extension [`Peer`](crate::http::Peer) in each
    /// request.
    #[must_use]
    pub fn rates(self, rates: RateSettings) -> Self {
        Self {
            rates: Some(rates),
            ..self
        }
    }

    /// By which clock the limits refill; the machine's, unless told.
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        Self {
            clock: Some(clock),
            ..self
        }
    }

    /// The proxies whose word on their clients' addresses counts.
    #[must_use]
    pub fn trusted_proxies(self, trusted_proxies: Vec<IpNet>) -> Self {
        Self {
            trusted_proxies,
            ..self
        }
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
            let memory = match &self.kept {
                Some(kept) => Arc::clone(&kept.engine),
                None => Arc::new(MemoryEngine::new(Arc::clone(&outside))),
            };
            tokio::spawn(sweep(Arc::downgrade(&memory)));
            memory
        });
        let metrics = Arc::new(Metrics::new());
        let engine = Arc::new(MeteredEngine::new(engine, Arc::clone(&metrics)));
        let window = self.window.unwrap_or(DEFAULT_WINDOW);
        let node = Node::new(engine, outside, metrics, self.limits, window);
        let node = Arc::new(
            node.with_ack(self.ack)
                .with_health(self.health)
                .with_authority(self.authority),
        );
        let clock = self.clock.unwrap_or_else(system_clock);
        let transports = Arc::new(Transports::new(Arc::clone(&node), self.timings, Arc::clone(&clock)));
        tokio::spawn(beat(Arc::downgrade(&transports)));
        let limits = self
            .rates
            .map(|settings| Arc::new(RateLimits::new(settings, clock, node.metrics())));
        let door = Door {
            limits,
            trusted_proxies: self.trusted_proxies.into(),
        };
        Edge {
            node,
            transports,
            door,
            kept: self.kept.map(Arc::new),
        }
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

    /// A WebSocket that says everything back, over the codec and the task of `/v1/ws`, for conformance suites to judge
    /// them by. It is not among the endpoints.
    pub fn websocket_echo(&self) -> MethodRouter {
        transport::websocket_echo_route().with_state(Arc::clone(&self.transports))
    }

    /// The endpoints, and an answer for everything that is none of them.
    pub(crate) fn site(&self) -> Router {
        let node = Arc::clone(&self.node);
        let ending = middleware::from_fn_with_state(node, end_connections);
        self.endpoints().fallback(not_found).layer(cors()).layer(ending)
    }

    /// What those are told for whom there is no room: whether the server lives.
    pub(crate) fn lobby(&self) -> Router {
        let counted = middleware::from_fn_with_state(Arc::clone(&self.node), count_refusals);
        Router::new()
            .route("/livez", api::livez_route())
            .route("/readyz", api::readyz_route())
            .with_state(Arc::clone(&self.node))
            .fallback(full)
            .layer(counted)
            .layer(cors())
    }

    fn endpoints(&self) -> Router {
        let subscribing = Router::new()
            .route("/v1/ws", transport::websocket_route())
            .route("/v1/sse", transport::event_source_route())
            .route("/v1/poll", transport::poll_route())
            .method_not_allowed_fallback(method_not_allowed)
            .with_state(Arc::clone(&self.transports));
        let publishing = Router::new()
            .route("/v1/publish", api::publish_route())
            .method_not_allowed_fallback(method_not_allowed)
            .with_state(Arc::clone(&self.node));
        let governed = subscribing
            .merge(publishing)
            .layer(middleware::from_fn_with_state(self.door.clone(), admission));
        let serving = Router::new()
            .route("/v1/history", api::history_route())
            .route("/metrics", api::metrics_route())
            .route("/livez", api::livez_route())
            .route("/readyz", api::readyz_route())
            .method_not_allowed_fallback(method_not_allowed)
            .with_state(Arc::clone(&self.node));
        let counted = middleware::from_fn_with_state(Arc::clone(&self.node), count_refusals);
        governed.merge(serving).layer(counted)
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

    /// Sends the sessions away over `window`, each with a time of its own to come back, and returns when they are gone.
    ///
    /// From the first moment on `/readyz` says 503, and new sessions and publications are refused as `draining`. What
    /// was published before reaches every reader that is connected. Nothing bounds how long a reader may take to
    /// leave: bound it with a time-out. There is no way back.
    pub async fn drain(&self, window: Duration) {
        self.node.drain(window).await;
    }

    /// How much each client may do, if that is limited.
    pub fn rate_limits(&self) -> Option<&Arc<RateLimits>> {
        self.door.limits.as_ref()
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

/// Pages of every origin may ask: what they may see is said by the token that they show, and a cookie counts for its
/// own origins alone.
fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST])
        // The star alone does not stand for `Authorization` (Fetch standard).
        .allow_headers([HeaderName::from_static("*"), AUTHORIZATION])
        .expose_headers([RETRY_AFTER, RATELIMIT, RATELIMIT_POLICY, WWW_AUTHENTICATE])
        .vary([ORIGIN])
}

/// What is asked for where there is no room.
async fn full() -> Problem {
    Problem::new(Code::Overloaded, "this node has all the connections that it can have").retry_after_ms(RETRY_FULL_MS)
}

/// While the node drains, an HTTP/1 connection ends after the answer that it has, and with a word: whoever keeps it
/// for another request learns in time that there is none.
async fn end_connections(State(node): State<Arc<Node>>, request: Request, next: Next) -> Response {
    let is_http1 = request.version() <= Version::HTTP_11;
    let mut response = next.run(request).await;
    if is_http1 && node.registry().is_draining() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// What is asked for where nothing is.
async fn not_found(uri: Uri) -> Problem {
    let there_is = "/v1/ws, /v1/sse, /v1/poll, /v1/publish, /v1/history, /livez, /readyz and /metrics";
    let shown: String = uri.path().chars().take(64).collect();
    Problem::new(Code::NotFound, format!("there is no {shown}; there are {there_is}"))
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

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("window", &self.window)
            .field("limits", &self.limits)
            .field("timings", &self.timings)
            .field("rates", &self.rates)
            .finish_non_exhaustive()
    }
}
