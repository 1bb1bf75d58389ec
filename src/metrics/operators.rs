//! What operators decided, as far as it is counted.

use std::sync::atomic::AtomicI64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Label, Metrics};

/// The verbs of removals.
const VERBS: [&str; 2] = ["disconnect", "unsubscribe"];

/// What is counted of removals.
#[derive(Debug, Default)]
pub(super) struct Operators {
    removals: Family<[Label; 1], Counter>,
    removed: Family<[Label; 1], Counter>,
    denials: Gauge<i64, AtomicI64>,
}

impl Operators {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let operators = Self::default();
        let help = "Removals that this node has carried out, by what operators asked for: disconnect or unsubscribe";
        registry.register("removals", help, operators.removals.clone());
        let help = "Sessions that removals met on this node, by the same";
        registry.register("removed_sessions", help, operators.removed.clone());
        let help = "Users, sessions and tokens that operators have sent away and that are still refused";
        registry.register("denials", help, operators.denials.clone());
        for verb in VERBS {
            drop(operators.removals.get_or_create(&[("verb", verb)]));
            drop(operators.removed.get_or_create(&[("verb", verb)]));
        }
        operators
    }
}

impl Metrics {
    /// A removal was carried out, which met so many sessions.
    pub fn note_removal(&self, verb: &'static str, sessions: usize) {
        let labels = [("verb", verb)];
        self.operators.removals.get_or_create(&labels).inc();
        self.operators.removed.get_or_create(&labels).inc_by(sessions as u64);
    }

    /// So many denials hold now.
    pub fn note_denials(&self, count: usize) {
        self.operators.denials.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
