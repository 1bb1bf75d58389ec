//! What becomes of webhooks, as far as it is counted.

use std::sync::atomic::AtomicI64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Label, Metrics};

/// What is counted of webhooks.
#[derive(Debug, Default)]
pub(super) struct Webhooks {
    attempts: Family<[Label; 1], Counter>,
    events: Family<[Label; 1], Counter>,
    backlog: Gauge<i64, AtomicI64>,
}

impl Webhooks {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let webhooks = Self::default();
        let help = "Attempts to deliver webhooks, by outcome: taken or failed";
        registry.register("webhook_attempts", help, webhooks.attempts.clone());
        let help =
            "Events for webhooks, by what became of them: delivered, or lost because they were not taken in time";
        registry.register("webhook_events", help, webhooks.events.clone());
        let help = "Events that the receiver that is farthest behind has not taken yet";
        registry.register("webhook_backlog", help, webhooks.backlog.clone());
        for outcome in ["taken", "failed"] {
            drop(webhooks.attempts.get_or_create(&[("outcome", outcome)]));
        }
        for outcome in ["delivered", "lost"] {
            drop(webhooks.events.get_or_create(&[("outcome", outcome)]));
        }
        webhooks
    }
}

impl Metrics {
    /// A receiver was asked to take a batch of webhooks.
    pub fn note_webhook_attempt(&self, outcome: &'static str) {
        self.webhooks.attempts.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// This became of so many events.
    pub fn note_webhook_events(&self, outcome: &'static str, count: u64) {
        self.webhooks
            .events
            .get_or_create(&[("outcome", outcome)])
            .inc_by(count);
    }

    /// So many events wait to be taken.
    pub fn note_webhook_backlog(&self, count: u64) {
        self.webhooks.backlog.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
