//! What an operator counts: every metric of this node, and their text for Prometheus.
//!
//! Labels are words of the code, so that there is a bounded number of each: never a channel, a user or an address.
//! What is counted for every delivery is [striped](Striped), so that no two threads write to the same cache line.

mod credentials;
mod operators;
mod process;
mod striped;
mod webhooks;

use std::fmt;

use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use credentials::Credentials;
use operators::Operators;
pub use striped::{Latency, Striped};
use webhooks::Webhooks;

/// The media type of [`Metrics::to_text`].
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How a client is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// WebSocket.
    WebSocket,
    /// Server-Sent Events.
    EventSource,
    /// Long-poll.
    Poll,
}

impl Transport {
    const ALL: [Self; 3] = [Self::WebSocket, Self::EventSource, Self::Poll];

    /// Its name in metrics and logs.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::WebSocket => "ws",
            Self::EventSource => "sse",
            Self::Poll => "poll",
        }
    }
}

/// A label and its value.
type Label = (&'static str, &'static str);

/// The metrics of one node.
pub struct Metrics {
    registry: Registry,
    /// By transport, in the order of [`Transport::ALL`].
    by_transport: [PerTransport; 3],
    closes: Family<[Label; 2], Counter>,
    refusals: Family<[Label; 2], Counter>,
    limit_hits: Family<[Label; 2], Counter>,
    publications: Family<[Label; 1], Counter>,
    subscriptions: Family<[Label; 1], Counter>,
    gaps: Counter,
    presence: PerPresence,
    lag: Histogram,
    is_config_well: Gauge,
    engine_calls: Family<[Label; 2], Counter>,
    engine_call_seconds: Family<[Label; 1], Histogram>,
    engine_shards: Family<[Label; 1], Gauge>,
    hook_calls: Family<[Label; 2], Counter>,
    hook_call_seconds: Family<[Label; 1], Histogram>,
    operators: Operators,
    webhooks: Webhooks,
    credentials: Credentials,
}

/// What is counted for each transport, at hand without a look-up.
#[derive(Debug, Default)]
struct PerTransport {
    connections: Gauge,
    connects: Counter,
    deliveries: Counter<u64, Striped>,
    writes: Counter<u64, Striped>,
    latency: Latency,
}

/// What is counted of presence.
#[derive(Debug, Default)]
struct PerPresence {
    sessions: Gauge,
    channels: Gauge,
    changes: Family<[Label; 1], Counter>,
    pushes: Family<[Label; 1], Counter<u64, Striped>>,
}

/// Buckets for what an engine's call takes: 100 µs to 3.3 s.
fn engine_call_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 16))
}

/// Buckets for what the app takes: 1 ms to 16 s.
fn hook_call_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("throughline");
        let mut metrics = Self {
            operators: Operators::register(&mut registry),
            webhooks: Webhooks::register(&mut registry),
            credentials: Credentials::register(&mut registry),
            registry,
            by_transport: Default::default(),
            closes: Family::default(),
            refusals: Family::default(),
            limit_hits: Family::default(),
            publications: Family::default(),
            subscriptions: Family::default(),
            gaps: Counter::default(),
            presence: PerPresence::default(),
            lag: Histogram::new(exponential_buckets(1.0, 4.0, 10)),
            is_config_well: Gauge::default(),
            engine_calls: Family::default(),
            engine_call_seconds: Family::new_with_constructor(engine_call_buckets),
            engine_shards: Family::default(),
            hook_calls: Family::default(),
            hook_call_seconds: Family::new_with_constructor(hook_call_buckets),
        };
        metrics.register_transports();
        metrics.register_events();
        process::register(&mut metrics.registry);
        metrics.begin_at_zero();
        metrics
    }

    fn register_transports(&mut self) {
        let connections = Family::<[Label; 1], Gauge>::default();
        let connects = Family::<[Label; 1], Counter>::default();
        let deliveries = Family::<[Label; 1], Counter<u64, Striped>>::default();
        let writes = Family::<[Label; 1], Counter<u64, Striped>>::default();
        let latency = Family::<[Label; 1], Latency>::default();
        self.by_transport = Transport::ALL.map(|transport| {
            let labels = [("transport", transport.label())];
            PerTransport {
                connections: connections.get_or_create(&labels).clone(),
                connects: connects.get_or_create(&labels).clone(),
                deliveries: deliveries.get_or_create(&labels).clone(),
                writes: writes.get_or_create(&labels).clone(),
                latency: latency.get_or_create(&labels).clone(),
            }
        });
        let registry = &mut self.registry;
        registry.register("connections", "Sessions that are open now", connections);
        registry.register("connects", "Sessions that were opened", connects);
        let help = "Publications that were handed to a subscriber's connection";
        registry.register("deliveries", help, deliveries);
        let help = "Writes that carried publications; deliveries by writes is how many were coalesced";
        registry.register("writes", help, writes);
        let help = "From storing a publication to handing it to a connection that was subscribed at the time";
        registry.register("delivery_latency_seconds", help, latency);
    }

    fn register_events(&mut self) {
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        self.registry.register("build", "What is running", version);
        let help = "Sessions that ended, by transport and the reason that was given";
        self.registry.register("closes", help, self.closes.clone());
        let help = "Requests that were refused, by endpoint and the code of the protocol";
        self.registry.register("refusals", help, self.refusals.clone());
        let help =
            "What was over a rate limit, by limit and outcome: refused, or passed_dry where limits are tried out";
        self.registry.register("limit_hits", help, self.limit_hits.clone());
        let help = "Publications asked for, by outcome: stored, duplicate, or the code of the refusal";
        self.registry.register("publications", help, self.publications.clone());
        let help = "Subscriptions that began, by how: fresh, complete or gap";
        self.registry
            .register("subscriptions", help, self.subscriptions.clone());
        self.registry
            .register("gaps", "Gaps that subscribers were told of", self.gaps.clone());
        let help = "Sessions of this node that are present, counted for each channel";
        self.registry
            .register("presence_sessions", help, self.presence.sessions.clone());
        let help = "Channels of which this node keeps who is there";
        self.registry
            .register("presence_channels", help, self.presence.channels.clone());
        let help = "Users who joined and left a channel, as this node saw it";
        self.registry
            .register("presence_changes", help, self.presence.changes.clone());
        let help = "Pushes about presence that were handed to connections: members, joined, left";
        self.registry
            .register("presence_pushes", help, self.presence.pushes.clone());
        let help = "How many publications a reader was behind when it read the log";
        self.registry.register("lag_publications", help, self.lag.clone());
        let help = "Whether the configuration that was read last is the one that holds: 1, or 0 if it was refused";
        let is_well = self.is_config_well.clone();
        self.registry.register("config_last_reload_successful", help, is_well);
        let help = "Calls to the engine, by call and outcome";
        self.registry.register("engine_calls", help, self.engine_calls.clone());
        let help = "How long the engine took to answer";
        let seconds = self.engine_call_seconds.clone();
        self.registry.register("engine_call_seconds", help, seconds);
        let help = "Those among which the engine has spread the channels, by whether they can be used";
        self.registry
            .register("engine_shards", help, self.engine_shards.clone());
        let help = "What the app was to decide, by hook and outcome: allowed, refused or failed by a question of its own; \
                    cached or shared by another's answer";
        self.registry.register("hook_calls", help, self.hook_calls.clone());
        let help = "How long the app took to answer";
        let seconds = self.hook_call_seconds.clone();
        self.registry.register("hook_call_seconds", help, seconds);
    }

    /// The usual series are there from the start: a rate sees the first of a kind only if there was a zero before it.
    fn begin_at_zero(&self) {
        for transport in Transport::ALL {
            for reason in ["lost", "draining", "slow_reader"] {
                let labels = [("transport", transport.label()), ("reason", reason)];
                drop(self.closes.get_or_create(&labels));
            }
        }
        for endpoint in [
            "/v1/ws",
            "/v1/sse",
            "/v1/poll",
            "/v1/publish",
            "/v1/history",
            "/v1/presence",
        ] {
            drop(
                self.refusals
                    .get_or_create(&[("endpoint", endpoint), ("code", "draining")]),
            );
        }
        self.is_config_well.set(1);
        for outcome in ["stored", "duplicate", "engine_unavailable"] {
            drop(self.publications.get_or_create(&[("outcome", outcome)]));
        }
        for resume in ["fresh", "complete", "gap"] {
            drop(self.subscriptions.get_or_create(&[("resume", resume)]));
        }
        for change in ["joined", "left"] {
            drop(self.presence.changes.get_or_create(&[("change", change)]));
        }
        for kind in ["members", "joined", "left"] {
            drop(self.presence.pushes.get_or_create(&[("type", kind)]));
        }
        for call in ["publish", "history", "attach"] {
            for outcome in ["ok", "unavailable"] {
                drop(self.engine_calls.get_or_create(&[("call", call), ("outcome", outcome)]));
            }
            drop(self.engine_call_seconds.get_or_create(&[("call", call)]));
        }
        for hook in ["connect", "subscribe", "publish"] {
            for outcome in ["allowed", "refused", "failed", "cached", "shared"] {
                drop(self.hook_calls.get_or_create(&[("hook", hook), ("outcome", outcome)]));
            }
            drop(self.hook_call_seconds.get_or_create(&[("hook", hook)]));
        }
    }

    fn of(&self, transport: Transport) -> &PerTransport {
        &self.by_transport[transport as usize]
    }

    /// A session was opened.
    pub fn note_opened(&self, transport: Transport) {
        self.of(transport).connects.inc();
        self.of(transport).connections.inc();
    }

    /// A session ended, for a reason that is one of a bounded number of words.
    pub fn note_closed(&self, transport: Transport, reason: &'static str) {
        self.of(transport).connections.dec();
        let labels = [("transport", transport.label()), ("reason", reason)];
        self.closes.get_or_create(&labels).inc();
    }

    /// A publication was handed to a connection, so many milliseconds after it was stored; `None` where that tells
    /// nothing, because the reader came later.
    pub fn note_delivered(&self, transport: Transport, after_ms: Option<u64>) {
        let counted = self.of(transport);
        counted.deliveries.inc();
        if let Some(after_ms) = after_ms {
            counted.latency.observe(after_ms);
        }
    }

    /// One write, or one answer, that carried publications.
    pub fn note_written(&self, transport: Transport) {
        self.of(transport).writes.inc();
    }

    /// A request to `endpoint` was refused with `code`.
    pub fn note_refused(&self, endpoint: &'static str, code: &'static str) {
        let labels = [("endpoint", endpoint), ("code", code)];
        self.refusals.get_or_create(&labels).inc();
    }

    /// The configuration was read again, and holds now.
    pub fn note_config_applied(&self) {
        self.is_config_well.set(1);
    }

    /// The configuration was read again, and is not one; that before it still holds.
    pub fn note_config_refused(&self) {
        self.is_config_well.set(0);
    }

    /// The counter of what was over a rate limit, to be kept at hand.
    pub fn limit_hits(&self, limit: &'static str, outcome: &'static str) -> Counter {
        let labels = [("limit", limit), ("outcome", outcome)];
        self.limit_hits.get_or_create(&labels).clone()
    }

    /// A publication was asked for.
    pub fn note_published(&self, outcome: &'static str) {
        self.publications.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// A subscription began.
    pub fn note_subscribed(&self, resume: &'static str) {
        self.subscriptions.get_or_create(&[("resume", resume)]).inc();
    }

    /// A reader was told of a gap.
    pub fn note_gap(&self) {
        self.gaps.inc();
    }

    /// A session is on a channel from now on.
    pub fn note_present(&self) {
        self.presence.sessions.inc();
    }

    /// It is there no more.
    pub fn note_absent(&self) {
        self.presence.sessions.dec();
    }

    /// It is kept of so many channels who is there.
    pub fn set_presence_channels(&self, count: usize) {
        self.presence.channels.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// So many users joined a channel, and so many left one.
    pub fn note_presence(&self, joined: u64, left: u64) {
        for (change, count) in [("joined", joined), ("left", left)] {
            if count > 0 {
                self.presence.changes.get_or_create(&[("change", change)]).inc_by(count);
            }
        }
    }

    /// A connection was handed a push of this type.
    pub fn note_presence_push(&self, kind: &'static str) {
        self.presence.pushes.get_or_create(&[("type", kind)]).inc();
    }

    /// A reader that stood so many publications behind the top read the log.
    pub fn note_lag(&self, publications: u64) {
        #[expect(clippy::cast_precision_loss, reason = "a histogram's buckets are coarser")]
        self.lag.observe(publications as f64);
    }

    /// The engine answered a call.
    pub fn note_engine(&self, call: &'static str, outcome: &'static str, seconds: f64) {
        let labels = [("call", call), ("outcome", outcome)];
        self.engine_calls.get_or_create(&labels).inc();
        let took = self.engine_call_seconds.get_or_create(&[("call", call)]);
        took.observe(seconds);
    }

    /// Of those among which the engine has spread the channels, so many can be used, and so many cannot.
    pub fn set_engine_shards(&self, up: usize, down: usize) {
        for (state, count) in [("up", up), ("down", down)] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.engine_shards.get_or_create(&[("state", state)]).set(count);
        }
    }

    /// Something was decided by a hook.
    pub fn note_hook(&self, hook: &'static str, outcome: &'static str) {
        self.hook_calls
            .get_or_create(&[("hook", hook), ("outcome", outcome)])
            .inc();
    }

    /// The app answered after so many seconds, or did not.
    pub fn note_hook_took(&self, hook: &'static str, seconds: f64) {
        self.hook_call_seconds.get_or_create(&[("hook", hook)]).observe(seconds);
    }

    /// Everything, in Prometheus' text format.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail; if it did, what was written so far would still be well-formed lines.
        if prometheus_text::encode(&mut text, &self.registry).is_err() {
            tracing::warn!("the metrics could not be written to their end");
        }
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_stands_in_the_text() {
        let metrics = Metrics::new();
        metrics.note_opened(Transport::EventSource);
        metrics.note_delivered(Transport::EventSource, Some(3));
        metrics.note_delivered(Transport::EventSource, None);
        metrics.note_closed(Transport::EventSource, "draining");
        metrics.note_refused("/v1/ws", "too_many_channels");
        metrics.note_engine("publish", "ok", 0.001);
        let text = metrics.to_text();
        for line in [
            "throughline_connections{transport=\"sse\"} 0",
            "throughline_connects_total{transport=\"sse\"} 1",
            "throughline_connects_total{transport=\"ws\"} 0",
            "throughline_deliveries_total{transport=\"sse\"} 2",
            "throughline_delivery_latency_seconds_count{transport=\"sse\"} 1",
            "throughline_closes_total{transport=\"sse\",reason=\"draining\"} 1",
            "throughline_refusals_total{endpoint=\"/v1/ws\",code=\"too_many_channels\"} 1",
            "throughline_engine_calls_total{call=\"publish\",outcome=\"ok\"} 1",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
    }
}
