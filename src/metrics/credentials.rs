//! What was shown and not believed, as far as it is counted.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::{Label, Metrics};

/// The reasons that there always are, so that a rate sees the first one.
const REASONS: [&str; 14] = [
    "ambiguous",
    "audience",
    "claims",
    "expired",
    "header",
    "issuer",
    "keys_unavailable",
    "missing",
    "not_a_token",
    "not_yet",
    "other_user",
    "signature",
    "unknown_api_key",
    "unknown_key",
];

/// What is counted of credentials.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    failures: Family<[Label; 1], Counter>,
}

impl Credentials {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let credentials = Self::default();
        let help = "Tokens and API keys that were not believed, and requests without any that needed one, by reason";
        registry.register("auth_failures", help, credentials.failures.clone());
        for reason in REASONS {
            drop(credentials.failures.get_or_create(&[("reason", reason)]));
        }
        credentials
    }
}

impl Metrics {
    /// Credentials were not believed, for a reason that is one of a bounded number of words.
    pub fn note_unbelieved(&self, reason: &'static str) {
        self.credentials.failures.get_or_create(&[("reason", reason)]).inc();
    }
}
